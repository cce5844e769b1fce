"""The bilateral market: trades along the edges of a graph, each at a price of its own."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jax import Array

from jaxp2p._pytree import record
from jaxp2p.model.markets.base import Market


@record
class Bilateral(Market):
    """`reverse[k, i]` is the flat index (k' * N + i') of the same edge seen from the partner: e_ij = -e_ji.

    Padded slots point at themselves and have `limit` 0.
    """

    kind: ClassVar[str] = "bilateral"
    words: ClassVar[str] = "bilateral market"

    def _twin(self, values: Array) -> Array:
        """(K, N) the same edges seen from the partner."""
        return jnp.take(values.reshape(-1), self.reverse, mode="clip")

    def project(self, trades: Array) -> Array:
        """The antisymmetric part."""
        return (trades - self._twin(trades)) / 2

    def reciprocal(self, trades: Array, limit: Array) -> Array:
        return self.project(jnp.clip(trades, -limit, limit))

    def seen_from_both(self, trade_price: Array) -> Array:
        prices = jnp.broadcast_to(trade_price, self.fee.shape)
        return (prices + self._twin(prices)) / 2

    def handed_on(
        self, trades: Array, injection: Array, over: Array, *, buy_max: Array, sell_max: Array, limit: Array
    ) -> Array:
        room = jnp.where(over[None, :] > 0, limit - trades, limit + trades)
        room = jnp.clip(room, 0, jnp.abs(over)[None, :])
        part = room / jnp.maximum(jnp.sum(room, axis=0), jnp.finfo(over.dtype).tiny)[None, :]
        more = over[None, :] * part
        return jnp.clip(trades + (more - self._twin(more)), -limit, limit)

    def consistent(
        self, price: Array, low: Array, high: Array, *, free: Array, trade_price: Array, alike: bool
    ) -> Array:
        """The mean of the largest prices below and the smallest above that are consistent.

        Those differ by no more than the fee along every edge with room (the two McShane extensions), found by
        relaxing the edges as Bellman and Ford do; it ends after as many sweeps as the longest chain of
        corrections.
        """
        reach = jnp.where(free, self.fee, jnp.inf)
        if not alike:
            low, high = _along_edges(self.partner, reach, low, high)
        price = jnp.clip(price, low, high)
        above, below = _along_edges(self.partner, reach, price, price)
        return below + (above - below) / 2

    def difference(self, price: Array, low: Array, high: Array, *, free: Array, trade_price: Array) -> Array:
        """Half of what it is above the partner's."""
        return (price[None, :] - jnp.take(price, self.partner)) / 2

    def reciprocity(self) -> list[sp.csc_matrix]:
        """e_ij + e_ji = 0 per edge."""
        slots, homes = self.fee.shape
        reverse = np.asarray(self.reverse).reshape(-1)
        flat = np.arange(slots * homes)
        first = flat[flat <= reverse]  # a padded slot is its own reverse: e = 0
        edge = np.arange(len(first))
        data = np.ones(2 * len(first))
        both = sp.csc_matrix(
            (data, (np.concatenate([edge, edge]), np.concatenate([first, reverse[first]]))),
            shape=(len(first), slots * homes),
        )
        return [both[:, k * homes : (k + 1) * homes] for k in range(slots)]

    def imbalance(self, trades: np.ndarray) -> np.ndarray:
        flat = trades.reshape(-1)
        return np.abs(flat + flat[np.asarray(self.reverse).reshape(-1)])

    def fee_in_pool(self) -> Array:
        """The smallest: |sum_j e_ij| is at most sum_j |e_ij|."""
        return jnp.broadcast_to(self.smallest_fee(), self.fee.shape[1:])

    def relaxation(self) -> str:
        some = bool((np.asarray(self.limit) > 0).any())
        return "of a pool with the smallest fee, which no bilateral market can beat" if some else ""


def _along_edges(partner: Array, reach: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """`low` raised and `high` lowered until neighbours differ by no more than `reach` (K, N).

    No chain of corrections is longer than there are members, unless fees below zero make a circle pay for
    ever: no prices are consistent then, and what the last sweep found is as good a bound as any.
    """

    def relax(carry):
        low, high, _, sweeps = carry
        raised = jnp.maximum(low, jnp.max(jnp.take(low, partner) - reach, axis=0))
        lowered = jnp.minimum(high, jnp.min(jnp.take(high, partner) + reach, axis=0))
        return raised, lowered, jnp.any(raised > low) | jnp.any(lowered < high), sweeps + 1

    unfinished = lambda carry: carry[2] & (carry[3] < low.shape[0])
    return jax.lax.while_loop(unfinished, relax, (low, high, jnp.ones((), bool), 0))[:2]
