"""The bilateral market: trades along the edges of a graph, each at a price of its own."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jax import Array

from jaxp2p._pytree import record
from jaxp2p.model.markets.base import Market

SWEEPS = 12  # of `passed_on`
TRADING = 1e-3  # kW from which two members count as trading
FAINT = 1e-4  # kW, too little to begin a trade with
IDLE = 0.01  # weight of an edge without trade, of one with trade
KEPT = 0.001  # how willingly everybody keeps what is left


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

    def rest(self, trades: Array) -> Array:
        """The symmetric part, bit for bit the same from both sides.

        What rounding made of trades less their projection would differ by side. No later step takes such a
        difference off the dual variable again: it stays, as a price that only one side sees.
        """
        return (trades + self._twin(trades)) / 2

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

    def passed_on(self, trades: Array, left: Array, absorbs: Array, *, free: Array, limit: Array) -> Array:
        """Along the edges, like a current: the smallest change of trades that places what is left.

        With potentials phi the trade of i to j grows by w_ij (phi_i - phi_j) and i itself places
        absorbs_i phi_i, so

            (absorbs_i + sum_j w_ij) phi_i - sum_j w_ij phi_j = left_i,

        with w_ij = 1 where the two trade already, which costs nothing at the margin, and far less elsewhere,
        where it comes to nothing if it is FAINT. The matrix is symmetric and positive definite: a few steps
        of conjugate gradients with its diagonal (Hestenes and Stiefel 1952; Saad 2003, section 9.2).
        Where nobody absorbs all keep the same.
        """
        idle = jnp.abs(trades) <= TRADING
        weight = jnp.where(idle, IDLE, 1).astype(left.dtype)
        weight = jnp.where(free, weight, 0)
        keeps = jnp.where(jnp.isinf(absorbs), 0, 1).astype(left.dtype)  # the others have phi = 0
        diagonal = jnp.where(keeps > 0, absorbs, 0) + jnp.sum(weight, axis=0) + KEPT
        inverse = keeps / diagonal

        def improve(_, carry):
            phi, rest, way, size = carry
            seen = diagonal * way - jnp.sum(weight * jnp.take(way, self.partner, mode="clip"), axis=0)
            length = jnp.vdot(way, seen)
            step = size / jnp.where(length > 0, length, 1)
            phi, rest = phi + step * way, rest - step * seen
            better = inverse * rest
            new = jnp.vdot(rest, better)
            return phi, rest, better + new / jnp.where(size > 0, size, 1) * way, new

        way = inverse * left
        carry = jnp.zeros_like(left), keeps * left, way, jnp.vdot(left, way)
        phi = jax.lax.fori_loop(0, SWEEPS, improve, carry)[0]
        change = weight * (phi[None, :] - jnp.take(phi, self.partner, mode="clip"))
        found = jnp.clip(trades + change, -limit, limit)
        return jnp.where(idle & (jnp.abs(found) < FAINT), trades, found)

    def consistent(
        self, price: Array, low: Array, high: Array, *, free: Array, trade_price: Array, alike: bool
    ) -> tuple[Array, ...]:
        """The smallest prices above that are consistent, the largest below, and their mean.

        Those differ by no more than the fee along every edge with room (the two McShane extensions), found by
        relaxing the edges as Bellman and Ford do; it ends after as many sweeps as the longest chain of
        corrections.
        """
        reach = jnp.where(free, self.fee, jnp.inf)
        if not alike:
            low, high = _along_edges(self.partner, reach, low, high)
        price = jnp.clip(price, low, high)
        above, below = _along_edges(self.partner, reach, price, price)
        return above, below, below + (above - below) / 2

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
        least, _, sweeps = carry
        raised = jnp.maximum(least, jnp.max(jnp.take(least, partner, axis=1) - reach[None], axis=1))
        return raised, jnp.any(raised > least), sweeps + 1

    unfinished = lambda carry: carry[1] & (carry[2] < low.shape[0])
    # what lowers `high` raises its negative: both are relaxed as one
    least = jax.lax.while_loop(unfinished, relax, (jnp.stack([low, -high]), jnp.ones((), bool), 0))[0]
    return least[0], -least[1]
