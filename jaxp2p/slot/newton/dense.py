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
        # the pool's price is a row that everybody feeds: one sum for all, as of so few rows a product is slow
        matrix = jnp.concatenate([jnp.full_like(matrix[:1], -1), matrix])
        system = jnp.sum((matrix * at.slope_at_bus[None, :])[:, None, :] * matrix[None, :, :], axis=2)
        first = jnp.arange(system.shape[0]) == 0
        system = jnp.where(first[:, None] & first[None, :], at.slope, system)  # of all homes
        pick = lambda x: jnp.concatenate([x.pool[None], jnp.take(x.rows, index)])
        free = jnp.concatenate([room.free.pool[None], use])
        system = jnp.where(free[:, None] & free[None, :], system, 0)
        damping = jnp.where(first, room.damping.pool, room.damping.rows)
        system = system + jnp.where(_on_diagonal(system), jnp.where(free, damping, 0), 0)
        found = bounded_step(system, pick(at.gradient), free, pick(room.least), pick(room.most))
        none = jnp.zeros_like(at.prices.rows)
        return Prices(found[0], none.at[index].set(jnp.where(use, found[1:], 0)))


def bounded_step(system: Array, gradient: Array, free: Array, least: Array, most: Array) -> Array:
    """The step (A,) to the top of the model, of which no part leaves [least, most].

    What would leave them ends there, and the others make up for it: a price that only had its step cut short
    would leave the rest of the step without its counterweight.
    """

    size = gradient.shape[0]

    def solved(low: Array, high: Array) -> Array:
        moves = free & ~low & ~high
        fixed = jnp.where(low, least, jnp.where(high, most, 0))
        left = gradient - jnp.matmul(system, fixed, precision=Precision.HIGHEST)
        # unit diagonal, so that float32 does for voltages and flows alike
        scale = jax.lax.rsqrt(jnp.where(moves, system.reshape(-1)[:: size + 1], 1))
        scaled = jnp.where(moves[:, None] & moves[None, :], system, 0) * scale[:, None] * scale[None, :]
        scaled = jnp.where(_on_diagonal(system), 1, scaled)
        return fixed + scale * _eliminated(scaled, jnp.where(moves, scale * left, 0))

    def hit(step: Array, low: Array, high: Array) -> tuple[Array, Array]:
        pull = gradient - jnp.matmul(system, step, precision=Precision.HIGHEST)
        now_low = free & jnp.where(low, pull < 0, step < least)
        return now_low, free & jnp.where(high, pull > 0, step > most)

    def again(carry):
        _, low, high, _, passes = carry
        step = solved(low, high)
        now_low, now_high = hit(step, low, high)
        return step, now_low, now_high, jnp.any((now_low != low) | (now_high != high)), passes + 1

    none = jnp.zeros_like(free)
    begun = solved(none, none)
    low, high = hit(begun, none, none)
    unfinished = lambda carry: carry[3] & (carry[4] < PASSES)
    start = begun, low, high, jnp.any(low | high), jnp.zeros((), jnp.int32)
    step = clamp(jax.lax.while_loop(unfinished, again, start)[0], least, most)
    plain = clamp(jnp.where(free, gradient / jnp.sum(jnp.abs(system), axis=1), 0), least, most)
    return jnp.where(jnp.sum(step * gradient) > 0, step, plain)


def _on_diagonal(matrix: Array) -> Array:
    """(A, A) bool."""
    return jnp.eye(matrix.shape[0], dtype=bool)


def _eliminated(matrix: Array, right: Array) -> Array:
    """x (A,) of matrix x = right, positive definite with a unit diagonal: Gauss and Jordan, without pivots.

    A row at a time, some kernels of A^2 numbers in all; two calls of LAPACK take as long as all of a step.
    """
    numbers = jnp.arange(right.shape[0])
    rows = jnp.concatenate([matrix, right[:, None]], axis=1)
    for k in range(right.shape[0]):
        own = (rows[k] / rows[k, k])[None, :]
        rows = jnp.where((numbers == k)[:, None], own, rows - rows[:, k, None] * own)
    return rows[:, -1]
