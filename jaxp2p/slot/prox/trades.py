"""The market's side of the consensus: trades that add up."""

import jax.numpy as jnp
from jax import Array

from jaxp2p.model.types import Market


def project_trades(market: Market, trades: Array) -> Array:
    """Nearest trades (K, N) that are reciprocal: e_ij = -e_ji, or in the pool sum_i e_i = 0.

    argmin_a |a - trades|^2: the antisymmetric part (bilateral), trades less their mean (pool).
    """
    if market.kind == "pool":
        return trades - jnp.mean(trades, axis=1, keepdims=True)
    if market.kind == "none":
        return trades
    return (trades - jnp.take(trades.reshape(-1), market.reverse, mode="clip")) / 2


def reciprocal_trades(market: Market, trades: Array, limit: Array) -> Array:
    """Trades (K, N) near the given ones that are reciprocal and within +-limit (K, N), to be executed.

    bilateral: the antisymmetric part. pool: the side that offers more gets less of it, in proportion, so that
    nobody trades more than he wished.
    """
    wished = jnp.clip(trades, -limit, limit)
    if market.kind != "pool":
        return project_trades(market, wished)
    return share_out(wished)


def share_out(wished: Array) -> Array:
    """What is sold and bought along the last axis, kW, where both sides get what both have, in proportion."""
    sold, bought = jnp.maximum(wished, 0), jnp.maximum(-wished, 0)
    supply, demand = jnp.sum(sold, axis=-1, keepdims=True), jnp.sum(bought, axis=-1, keepdims=True)
    volume = jnp.minimum(supply, demand)
    part = lambda total: jnp.where(total > 0, volume / jnp.where(total > 0, total, 1), 0)
    return sold * part(supply) - bought * part(demand)
