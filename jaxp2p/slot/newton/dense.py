"""The rows of a slot for Newton's step, as an XLA program: what `slot.newton.step.Network` asks for."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import Precision

from jaxp2p.slot.newton.dual import Point, Prices, Totals
from jaxp2p.slot.newton.step import Bounded
from jaxp2p.slot.problem import SlotProblem
from jaxp2p.slot.prox.prosumer import clamp
from jaxp2p.slot.rows import values_at

PASSES = 6  # of a Newton step whose parts may not pass their bounds


class Dense(NamedTuple):
    """The rows of one slot."""

    problem: SlotProblem

    @property
    def rows(self) -> int:
        """R."""
        return self.problem.feeder.rows

    def values(self, totals: Totals) -> Array:
        """(R,) kW."""
        return values_at(self.problem, totals.power_at_bus)

    def largest(self, weight: Array, count: int) -> tuple[Array, Array]:
        """Which rows (count,) int32, and whether they count (count,) bool."""
        weight, chosen = jax.lax.top_k(weight, count)
        return chosen, weight > 0

    def step(self, at: Point, chosen: tuple[Array, Array], room: Bounded) -> Prices:
        """The step of the pool's price and of the rows that were chosen."""
        index, use = chosen
        matrix = self.problem.feeder.rows_of(index)
        weighted = matrix * at.slope_at_bus[None, :]
        cross = -jnp.sum(weighted, axis=1)
        inner = jnp.matmul(weighted, matrix.T, precision=Precision.HIGHEST)
        system = jnp.concatenate(
            [
                jnp.concatenate([at.slope[None], cross])[None],
                jnp.concatenate([cross[:, None], inner], axis=1),
            ]
        )
        pick = lambda x: jnp.concatenate([x.pool[None], jnp.take(x.rows, index)])
        free = jnp.concatenate([room.free.pool[None], use])
        system = jnp.where(free[:, None] & free[None, :], system, 0)
        damping = jnp.concatenate([room.damping.pool[None], jnp.broadcast_to(room.damping.rows, index.shape)])
        system = system + jnp.diag(jnp.where(free, damping, 0))
        found = bounded_step(system, pick(at.gradient), free, pick(room.least), pick(room.most))
        none = jnp.zeros_like(at.prices.rows)
        return Prices(found[0], none.at[index].set(jnp.where(use, found[1:], 0)))


def bounded_step(system: Array, gradient: Array, free: Array, least: Array, most: Array) -> Array:
    """The step (A,) to the top of the model, of which no part leaves [least, most].

    What would leave them ends there, and the others make up for it: a price that only had its step cut short
    would leave the rest of the step without its counterweight.
    """

    def solved(low: Array, high: Array) -> Array:
        moves = free & ~low & ~high
        fixed = jnp.where(low, least, jnp.where(high, most, 0))
        left = gradient - jnp.matmul(system, fixed, precision=Precision.HIGHEST)
        mine = jnp.where(moves[:, None] & moves[None, :], system, 0)
        diagonal = jnp.where(moves, jnp.diagonal(system), 1)
        scale = jax.lax.rsqrt(diagonal)
        # unit diagonal, so that float32 does for voltages and flows alike
        scaled = (mine + jnp.diag(diagonal - jnp.diagonal(mine))) * scale[:, None] * scale[None, :]
        factor = jax.scipy.linalg.cho_factor(scaled, lower=True)
        return fixed + scale * jax.scipy.linalg.cho_solve(factor, jnp.where(moves, scale * left, 0))

    def again(carry):
        step, low, high, _, passes = carry
        pull = gradient - jnp.matmul(system, step, precision=Precision.HIGHEST)
        now_low = free & jnp.where(low, pull < 0, step < least)
        now_high = free & jnp.where(high, pull > 0, step > most)
        same = jnp.all(now_low == low) & jnp.all(now_high == high)
        step = jax.lax.cond(same, lambda: step, lambda: solved(now_low, now_high))
        return step, now_low, now_high, same, passes + 1

    none = jnp.zeros_like(free)
    start = solved(none, none), none, none, jnp.zeros((), bool), 0
    unfinished = lambda carry: ~carry[3] & (carry[4] < PASSES)
    step = clamp(jax.lax.while_loop(unfinished, again, start)[0], least, most)
    plain = clamp(jnp.where(free, gradient / jnp.sum(jnp.abs(system), axis=1), 0), least, most)
    return jnp.where(jnp.sum(step * gradient) > 0, step, plain)
