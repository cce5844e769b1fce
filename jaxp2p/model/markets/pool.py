"""The pool: everybody trades with everybody at one price."""

from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jax import Array

from jaxp2p._pytree import record
from jaxp2p.model.markets.base import Market


@record
class Pool(Market):
    """One slot (K = 1) per member towards the pool, sum_i e_i = 0; `partner`, `reverse` have shape (0, N)."""

    kind: ClassVar[str] = "pool"
    words: ClassVar[str] = "pool market"
    one_price: ClassVar[bool] = True
    pooled: ClassVar[bool] = True

    def project(self, trades: Array) -> Array:
        """Trades less their mean."""
        return trades - jnp.mean(trades, axis=1, keepdims=True)

    def reciprocal(self, trades: Array, limit: Array) -> Array:
        """The side that offers more gets less of it, in proportion: nobody trades more than he wished."""
        return share_out(jnp.clip(trades, -limit, limit))

    @property
    def dual_shape(self) -> tuple[int, ...]:
        """One price for all."""
        return (1, 1)

    def rest(self, trades: Array) -> Array:
        return jnp.mean(trades, axis=1, keepdims=True)

    def handed_on(
        self, trades: Array, injection: Array, over: Array, *, buy_max: Array, sell_max: Array, limit: Array
    ) -> Array:
        mine = trades[0] + over
        total = jnp.sum(over)
        rest = injection - mine
        room = jnp.where(total > 0, sell_max - rest, rest + buy_max)
        room = jnp.clip(room, 0, jnp.abs(total))
        part = room / jnp.maximum(jnp.sum(room), jnp.finfo(rest.dtype).tiny)
        return self.reciprocal((mine - total * part)[None, :], limit)

    def consistent(
        self, price: Array, low: Array, high: Array, *, free: Array, trade_price: Array, alike: bool
    ) -> tuple[Array, ...]:
        """No further than half the fee from the pool's price."""
        half, room = self.fee[0] / 2, free[0]
        pool = self._price(trade_price, low, high, room)
        inside = jnp.clip(price, jnp.maximum(low, pool - half), jnp.minimum(high, pool + half))
        return (jnp.where(room, inside, jnp.clip(price, low, high)),)

    def difference(self, price: Array, low: Array, high: Array, *, free: Array, trade_price: Array) -> Array:
        return (price - self._price(trade_price, low, high, free[0]))[None, :]

    def _price(self, trade_price: Array, low: Array, high: Array, room: Array) -> Array:
        """() the price at which no member with room (N,) to trade would rather deal with the utility."""
        half = self.fee[0] / 2
        lowest = jnp.max(jnp.where(room, low - half, -jnp.inf))
        highest = jnp.min(jnp.where(room, high + half, jnp.inf))
        return jnp.clip(jnp.reshape(trade_price, (-1,))[0], lowest, highest)

    def fee_of_all(self, spread: Array) -> Array:
        # beyond b - s nobody trades, and a closed market (limit 0) is no different
        open_ = jnp.max(self.limit) > 0
        return jnp.where(open_, jnp.minimum(jnp.max(self.fee), spread), spread)

    def reciprocity(self) -> list[sp.csc_matrix]:
        """sum_i e_i = 0."""
        return [sp.csc_matrix(np.ones((1, self.fee.shape[1])))]


def share_out(wished: Array) -> Array:
    """What is sold and bought along the last axis, kW, where both sides get what both have, in proportion."""
    sold, bought = jnp.maximum(wished, 0), jnp.maximum(-wished, 0)
    supply, demand = jnp.sum(sold, axis=-1, keepdims=True), jnp.sum(bought, axis=-1, keepdims=True)
    volume = jnp.minimum(supply, demand)
    part = lambda total: jnp.where(total > 0, volume / jnp.where(total > 0, total, 1), 0)
    return sold * part(supply) - bought * part(demand)
