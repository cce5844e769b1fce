"""The market's side of the consensus: trades that add up."""

import jax.numpy as jnp
from jax import Array

from jaxp2p.community.types import Market


def project_trades(market: Market, trades: Array) -> Array:
    """Nearest trades (K, N) that are reciprocal: e_ij = -e_ji, or in the pool sum_i e_i = 0.

    argmin_a |a - trades|^2: the antisymmetric part (bilateral), trades less their mean (pool).
    """
    if market.kind == "pool":
        return trades - jnp.mean(trades, axis=1, keepdims=True)
    if market.kind == "none":
        return trades
    return (trades - jnp.take(trades.reshape(-1), market.reverse, mode="clip")) / 2
