"""A step on the prices: Newton's, damped as far as experience asks for, every price inside its bounds.

`climb` is one turn of it: whether the last trial is accepted, and which prices to try next. It knows the
homes only by their `Totals`, and the rows only by what a `Network` does with them, so that the same law runs
as an XLA program (`slot.newton.dense`) and inside a kernel of a GPU (`slot.kernels.climb`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from jaxp2p.slot.newton.dual import HOPE, Limits, Point, Prices, Totals, imbalance, point
from jaxp2p.slot.newton.state import Settings
from jaxp2p.slot.prox.prosumer import clamp

TIMID = 0.3  # share of the derivative along a step that is left after it
LESS, MORE, LEAST_CAUTION = 0.25, 16, 1e-4
SHORT = 0.02  # of a step: what is shorter is accepted


class Lane(NamedTuple):
    """Where the climb of one slot stands."""

    base: Point  # last accepted
    trial: Prices  # to try next
    length: Array  # () share of the Newton step that is tried
    caution: Array  # () share of the damping in use
    inner: Array  # () int32, evaluations since the centre moved
    iterations: Array  # () int32
    fresh: Array  # () bool, the centre has just moved
    due: Array  # () bool, so little is out of balance, and the pull costs so little, that a proof is due


class Turn(NamedTuple):
    """What the homes must know of a turn, () bool each."""

    accept: Array  # what they answered counts
    recentre: Array  # it is the new centre


class Bounded(NamedTuple):
    """The room of a step, and what it is damped by."""

    free: Prices  # bool, what moves at all
    damping: Prices  # kW per EUR/kWh, () each
    least: Prices  # EUR/kWh
    most: Prices


class Network(Protocol):
    """Linear algebra of the rows."""

    @property
    def rows(self) -> int:
        """R."""

    def values(self, totals: Totals) -> Array:
        """(R,) kW."""

    def largest(self, weight: Array, count: int) -> Any:
        """The `count` rows of the largest weights (R,); those of weight 0 do not count."""

    def step(self, at: Point, chosen: Any, room: Bounded) -> Prices:
        """The damped Newton step of the pool and of the chosen rows, no part of which leaves its room."""


def seeking(newton: Settings, lane: Lane) -> Array:
    """() bool: whether the lane has not come to anything to prove."""
    return ~lane.due & (lane.iterations < newton.max_iter)


def climb(
    network: Network,
    limits: Limits,
    newton: Settings,
    lane: Lane,
    totals: Totals,
    pull_cost: Callable[[Array], Array],
) -> tuple[Lane, Turn]:
    """The lane after everybody has answered its trial prices.

    pull_cost: () EUR/h that the pull to the centre costs at most, where it is wanted () bool. Whoever is in
    balance far from his centre has nothing to prove there: the centre moves at once.
    """
    at = point(limits, lane.trial, totals, network.values(totals))
    went = Prices(at.prices.pool - lane.base.prices.pool, at.prices.rows - lane.base.prices.rows)
    start, now = _along(lane.base.gradient, went), _along(at.gradient, went)
    # accept unless the derivative along the step has turned by more than half of what it was
    accept = lane.fresh | (now >= -0.5 * start) | (lane.length < SHORT)
    violation, loss = imbalance(limits, at)
    balanced = accept & (violation <= 1) & (loss <= limits.allowed)
    base = jax.tree.map(lambda a, b: jnp.where(accept, a, b), at, lane.base)
    due = balanced & (pull_cost(balanced) <= HOPE * limits.allowed)
    recentre = accept & ~due & (balanced | (lane.inner + 1 >= newton.centre_after))
    full = ~lane.fresh & (lane.length == 1)
    caution = _next_caution(lane.caution, full, accept, start, now)
    step = _newton_step(network, limits, newton, base, caution)
    shorter = lane.length * clamp(start / jnp.maximum(start - now, 1e-30), 0.1, 0.6)
    length = jnp.where(accept | (lane.caution < 1), 1, shorter)
    tried = _moved(limits, base, Prices(length * step.pool, length * step.rows))
    new = Lane(
        base=base,
        trial=jax.tree.map(lambda a, b: jnp.where(recentre, a, b), base.prices, tried),
        length=length,
        caution=caution,
        inner=jnp.where(recentre, 0, lane.inner + 1),
        iterations=lane.iterations + 1,
        fresh=recentre,
        due=due,
    )
    return new, Turn(accept, recentre)


def _along(gradient: Prices, step: Prices) -> Array:
    return gradient.pool * step.pool + jnp.sum(gradient.rows * step.rows)


def _newton_step(network: Network, limits: Limits, newton: Settings, at: Point, caution: Array) -> Prices:
    """Damped Newton step on the pool price and the rows that matter most."""
    price, gradient = at.prices, at.gradient
    damping = Prices(caution * limits.damping.pool, caution * limits.damping.rows)
    blocked = Prices(
        _blocked(price.pool, gradient.pool, limits.lowest, limits.highest),
        _blocked(price.rows, gradient.rows, -limits.penalty, limits.penalty),
    )
    if not network.rows:
        alone = gradient.pool / (at.slope + damping.pool)
        return Prices(jnp.where(blocked.pool, 0, alone), price.rows)
    idle = (price.rows == 0) & (gradient.rows == 0)
    at_work = ~(blocked.rows | idle)
    # priced rows and violated ones, the costliest first
    weight = (jnp.abs(price.rows) + 1e-3 * limits.penalty) * jnp.abs(gradient.rows)
    weight = jnp.where(at_work, weight + jnp.finfo(weight.dtype).tiny, 0)
    chosen = network.largest(weight, min(network.rows, newton.rows_at_once))
    least, most = _room(limits, at)
    step = network.step(at, chosen, Bounded(Prices(~blocked.pool, at_work), damping, least, most))
    # no price moves by more than a few times what prices differ by
    longest = jnp.maximum(jnp.abs(step.pool), jnp.max(jnp.abs(step.rows)))
    part = jnp.minimum(1, 2.5 * limits.price_scale / jnp.maximum(longest, 1e-30))
    return Prices(part * step.pool, part * step.rows)


def _blocked(price: Array, gradient: Array, lowest: Array, highest: Array) -> Array:
    return ((price <= lowest) & (gradient <= 0)) | ((price >= highest) & (gradient >= 0))


def _room(limits: Limits, at: Point) -> tuple[Prices, Prices]:
    """How far prices may fall and rise: to their bounds, and a row price to zero."""
    pool, old, upwards = at.prices.pool, at.prices.rows, at.gradient.rows > 0
    least = jnp.where((old > 0) | ((old == 0) & upwards), -old, -limits.penalty - old)
    most = jnp.where((old < 0) | ((old == 0) & ~upwards), -old, limits.penalty - old)
    return Prices(limits.lowest - pool, least), Prices(limits.highest - pool, most)


def _moved(limits: Limits, base: Point, step: Prices) -> Prices:
    """Prices after a step: inside their bounds, and a row price stops at zero before it changes sign."""
    old = base.prices.rows
    new = clamp(old + step.rows, -limits.penalty, limits.penalty)
    stops = ((old > 0) & (new < 0)) | ((old < 0) & (new > 0)) | ((old == 0) & (new * base.gradient.rows < 0))
    pool = clamp(base.prices.pool + step.pool, limits.lowest, limits.highest)
    return Prices(pool, jnp.where(stops, 0, new))


def _next_caution(caution: Array, full: Array, accept: Array, start: Array, now: Array) -> Array:
    """() share of the damping for the next step, from the derivative along the last one before and after it.

    start, now: those derivatives; full () bool: whether the whole of a Newton step was tried.
    Neighbouring buses have nearly the same row: a price that must pass from one to the other goes along a
    direction of almost no curvature, where damping alone decides how far.
    """
    timid = accept & full & (now > TIMID * start)
    # numbers of one kind from the start: Triton takes an untyped one in a choice for a flag
    factor = jnp.where(timid, LESS, jnp.where(accept, jnp.ones_like(caution), MORE))
    return clamp(caution * factor, LEAST_CAUTION, 1)
