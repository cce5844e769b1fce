"""A step on the prices: Newton's, damped as far as experience asks for, every price inside its bounds."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import Precision

from jaxp2p.slot.newton.dual import Point, Setup
from jaxp2p.slot.newton.state import Settings
from jaxp2p.slot.problem import SlotProblem
from jaxp2p.slot.prox.prosumer import clamp

PASSES = 6  # of a Newton step whose parts may not pass their bounds
TIMID = 0.3  # share of the derivative along a step that is left after it
LESS, MORE, LEAST_CAUTION = 0.25, 16, 1e-4


def newton_step(problem: SlotProblem, setup: Setup, newton: Settings, at: Point, caution: Array) -> Array:
    """Damped Newton step (1 + R,) on the pool price and the rows that matter most."""
    damping = caution * setup.damping
    blocked = ((at.prices <= setup.lowest) & (at.gradient <= 0)) | (
        (at.prices >= setup.highest) & (at.gradient >= 0)
    )
    rows = problem.feeder.rows
    if not rows:
        step = at.gradient / (jnp.sum(at.slope) + damping)
        return jnp.where(blocked, 0, step)
    idle = (at.prices[1:] == 0) & (at.gradient[1:] == 0)
    at_work = ~(blocked[1:] | idle)
    # priced rows and violated ones, the costliest first
    weight = (jnp.abs(at.prices[1:]) + 1e-3 * problem.row_penalty) * jnp.abs(at.gradient[1:])
    weight = jnp.where(at_work, weight + jnp.finfo(weight.dtype).tiny, 0)
    weight, chosen = jax.lax.top_k(weight, min(rows, newton.rows_at_once))
    use = weight > 0
    matrix = problem.feeder.rows_of(chosen)
    weighted = matrix * problem.feeder.bus_sum(at.slope)[None, :]
    cross = -jnp.sum(weighted, axis=1)
    inner = jnp.matmul(weighted, matrix.T, precision=Precision.HIGHEST)
    system = jnp.concatenate(
        [
            jnp.concatenate([jnp.sum(at.slope)[None], cross])[None],
            jnp.concatenate([cross[:, None], inner], axis=1),
        ]
    )
    free = jnp.concatenate([~blocked[:1], use])
    system = jnp.where(free[:, None] & free[None, :], system, 0)
    pick = lambda x: jnp.concatenate([x[:1], jnp.take(x[1:], chosen)])
    system = system + jnp.diag(jnp.where(free, pick(damping), 0))
    least, most = (pick(room) for room in _room(setup, at))
    step = _bounded_newton_step(system, pick(at.gradient), free, least, most)
    # no price moves by more than a few times what prices differ by
    step = step * jnp.minimum(1, 2.5 * problem.price_scale / jnp.max(jnp.abs(step), initial=1e-30))
    out = jnp.zeros_like(at.prices).at[0].set(step[0])
    return out.at[1 + chosen].set(jnp.where(use, step[1:], 0))


def _bounded_newton_step(system: Array, gradient: Array, free: Array, least: Array, most: Array) -> Array:
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


def _room(setup: Setup, at: Point) -> tuple[Array, Array]:
    """How far prices (1 + R,) may fall and rise: to their bounds, and a row price to zero."""
    least, most = setup.lowest - at.prices, setup.highest - at.prices
    old, upwards = at.prices[1:], at.gradient[1:] > 0
    least = least.at[1:].set(jnp.where((old > 0) | ((old == 0) & upwards), -old, least[1:]))
    return least, most.at[1:].set(jnp.where((old < 0) | ((old == 0) & ~upwards), -old, most[1:]))


def move(setup: Setup, base: Point, step: Array) -> Array:
    """Prices after a step: inside their bounds, and a row price stops at zero before it changes sign."""
    prices = clamp(base.prices + step, setup.lowest, setup.highest)
    old, new = base.prices[1:], prices[1:]
    stops = ((old > 0) & (new < 0)) | ((old < 0) & (new > 0)) | ((old == 0) & (new * base.gradient[1:] < 0))
    return prices.at[1:].set(jnp.where(stops, 0, new))


def next_caution(caution: Array, full: Array, accept: Array, start: Array, now: Array) -> Array:
    """() share of the damping for the next step, from the derivative along the last one before and after it.

    start, now: those derivatives; full () bool: whether the whole of a Newton step was tried.
    Neighbouring buses have nearly the same row: a price that must pass from one to the other goes along a
    direction of almost no curvature, where damping alone decides how far.
    """
    timid = accept & full & (now > TIMID * start)
    factor = jnp.where(timid, LESS, jnp.where(accept, 1, MORE))
    return jnp.clip(caution * factor, LEAST_CAUTION, 1)
