"""No market: everybody deals with the utility only."""

from typing import ClassVar

import jax.numpy as jnp
from jax import Array

from jaxp2p._pytree import record
from jaxp2p.model.markets.base import Market


@record
class NoMarket(Market):
    """K = 0: there is nothing to trade."""

    kind: ClassVar[str] = "none"
    words: ClassVar[str] = "no market"
    one_price: ClassVar[bool] = True

    def project(self, trades: Array) -> Array:
        return trades

    def reciprocal(self, trades: Array, limit: Array) -> Array:
        return jnp.clip(trades, -limit, limit)

    def handed_on(
        self, trades: Array, injection: Array, over: Array, *, buy_max: Array, sell_max: Array, limit: Array
    ) -> Array:
        return trades

    def consistent(
        self, price: Array, low: Array, high: Array, *, free: Array, trade_price: Array, alike: bool
    ) -> tuple[Array, ...]:
        return (jnp.clip(price, low, high),)

    def difference(self, price: Array, low: Array, high: Array, *, free: Array, trade_price: Array) -> Array:
        return jnp.zeros_like(self.fee)
