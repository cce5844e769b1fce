"""The feeder's side of the consensus: injection copies that respect the network rows.

    minimise over z   rho_n/2 sum_i (p_i - z_i)^2 + sum_r penalty dist((A z + offset)_r, [lower_r, upper_r])

The dual of it has one variable per row, its price y, and z = p + (surcharge before - surcharge after)/rho_n,
the surcharge of a bus being A^T y: injection copies need no duals of their own, and a row that does not bind
does nothing at all. Only a few rows do, so the problem is small: J rows at work with the Gram matrix
A_J diag(count) A_J^T, chosen once per block of iterations. It is solved exactly in every iteration, by an
active-set method that starts from the prices at hand (Lawson and Hanson 1974, chapter 23, with a price
bounded by zero on one side and the penalty on the other): nearly always one small linear system.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import Precision

from jaxp2p._once import once_if
from jaxp2p.slot.problem import SlotProblem
from jaxp2p.slot.prox.sensitivity import derivative_only
from jaxp2p.slot.rows import excess_of, values_at

ROUNDS = 48  # of the active-set method: never reached from a warm start
REFINEMENTS = 2


class RowsAtWork(NamedTuple):
    """J rows whose prices may move until the next block."""

    busy: Array  # () bool: one of them has a price or is violated
    chosen: Array  # (J,) int32, rows
    matrix: Array  # (J, G)
    gram: Array  # (J, J) kW per EUR/kWh times rho_n
    lower: Array  # (J,) kW, without the offset
    upper: Array  # (J,) kW, without the offset
    tolerance: Array  # (J,) kW
    held: Array  # (J,) bool: those at a limit when they were chosen
    inverse: Array  # (J, J) of `gram` over these


class _Found(NamedTuple):
    price: Array  # (J,) EUR/kWh
    side: Array  # (J,) int32: 1 at the upper limit, -1 lower, 0 inside, 2 and -2 beyond, at the penalty
    held: Array  # (J,) bool
    inverse: Array  # (J, J) over the rows that are `held`
    rounds: Array  # () int32
    done: Array  # () bool


def rows_at_work(
    problem: SlotProblem,
    row_price: Array,
    at_bus: Array,
    tolerance: Array,
    *,
    most: int,
) -> RowsAtWork:
    """The rows that matter at these copies (their sums at the buses (G,), kW) and prices (R,).

    tolerance (R,) kW: by how much a row may be violated.
    """
    value = values_at(problem, at_bus)
    chosen = _choose(problem, row_price, value, min(most, row_price.shape[0]))
    pick = lambda x: jnp.take(x, chosen, axis=0)
    matrix, gram, lower, upper = _data(problem, chosen)
    size = jnp.matmul(jnp.abs(matrix), jnp.abs(at_bus), precision=Precision.HIGHEST)
    size = size + jnp.abs(pick(problem.row_offset))
    allowed = jnp.maximum(1e-4 * pick(tolerance), 8 * jnp.finfo(gram.dtype).eps * size)
    held = jnp.abs(_side(pick(row_price), problem.row_penalty)) == 1
    inverse = _inverse(gram, held)
    busy = _any(problem, row_price, value)
    return RowsAtWork(busy, chosen, matrix, gram, lower, upper, allowed, held, inverse)


def any_at_work(problem: SlotProblem, row_price: Array, at_bus: Array) -> Array:
    """() bool: a row has a price or is violated at these copies (G,) in kW."""
    return _any(problem, row_price, values_at(problem, at_bus))


def _any(problem: SlotProblem, row_price: Array, value: Array) -> Array:
    return jnp.any(row_price != 0) | jnp.any(excess_of(problem, value) > 0)


def moving_with(problem: SlotProblem, work: RowsAtWork | None) -> RowsAtWork | None:
    """The same rows, with the derivatives of their data with respect to the problem."""
    if work is None:
        return None
    matrix, gram, lower, upper = _data(problem, work.chosen)
    return work._replace(matrix=matrix, gram=gram, lower=lower, upper=upper)


def _data(problem: SlotProblem, chosen: Array) -> tuple[Array, ...]:
    feeder = problem.feeder
    pick = lambda x: jnp.take(x, chosen, axis=0)
    matrix, offset = feeder.rows_of(chosen), pick(problem.row_offset)
    gram = jnp.matmul(matrix * feeder.count[None, :], matrix.T, precision=Precision.HIGHEST)
    return matrix, gram, pick(problem.row_lower) - offset, pick(problem.row_upper) - offset


def kept_at_buses(
    problem: SlotProblem, work: RowsAtWork, row_price: Array, at_bus: Array, rho: Array
) -> tuple[Array, Array]:
    """What keeps the rows for homes that ask for sums (G,) in kW: kW more at each home of a bus (G,).

    And the prices of all rows (R,) then.
    """
    old = jnp.take(row_price, work.chosen)
    price = row_prices(problem, work, old, at_bus, rho)
    moved = jnp.matmul(old - price, work.matrix, precision=Precision.HIGHEST) / rho
    return moved, row_price.at[work.chosen].set(price)


def row_prices(problem: SlotProblem, work: RowsAtWork, price: Array, at_bus: Array, rho: Array) -> Array:
    """New prices (J,) of the rows at work, for homes that ask for sums (G,) in kW at the old prices."""
    value = jnp.matmul(work.matrix, at_bus, precision=Precision.HIGHEST)
    unpriced = value + jnp.matmul(work.gram, price, precision=Precision.HIGHEST) / rho
    found = _search(*jax.lax.stop_gradient((work, unpriced, price, rho, problem.row_penalty)))
    # the same once more, now with a derivative: which rows are at a limit has none
    price = _solve(work, found.side, found.inverse, unpriced, rho, problem.row_penalty)
    # where rounding kept the search from its end, what it had keeps every sign and the penalty
    return jnp.where(found.done, price, found.price + derivative_only(price))


def _search(work: RowsAtWork, unpriced: Array, price: Array, rho: Array, penalty: Array) -> _Found:
    """Which rows are at a limit."""

    def again(found: _Found) -> _Found:
        side, free = found.side, jnp.abs(found.side) == 1
        # mostly the same rows as in the last iteration: nothing to factorise
        anew = lambda _: _inverse(work.gram, free)
        inverse = once_if(jnp.any(free != found.held), anew, found.inverse)
        wanted = _solve(work, side, inverse, unpriced, rho, penalty)
        # as far as every price keeps its sign and stays below the penalty
        sign = side.astype(wanted.dtype)
        signed, aim = sign * found.price, sign * wanted
        crosses = free & (aim < 0)
        tops = free & (aim > penalty)
        bound = jnp.where(tops, penalty, 0)
        way = jnp.where(aim == signed, 1, aim - signed)
        part = jnp.where(crosses | tops, (bound - signed) / way, jnp.inf)
        part = jnp.maximum(part, 0)
        shortest = jnp.min(part)
        hits = (part <= shortest) & jnp.isfinite(part)
        blocked = jnp.any(hits)
        moved = found.price + jnp.minimum(shortest, 1) * (wanted - found.price)
        stopped = jnp.where(hits, jnp.where(tops, 2 * side, 0), side)
        moved = jnp.where(hits, jnp.where(tops, sign * penalty, 0), moved)
        # all is well on the way: the row that is worst off joins
        value = unpriced - jnp.matmul(work.gram, wanted, precision=Precision.HIGHEST) / rho
        over, under = value - work.upper, work.lower - value
        worst = jnp.where(side == 0, jnp.maximum(over, under), 0)
        worst = jnp.where(side == 2, -over, jnp.where(side == -2, -under, worst)) / work.tolerance
        joins = jnp.arange(side.shape[0]) == jnp.argmax(worst)
        settled = jnp.max(worst) <= 1
        new = jnp.where(side == 0, jnp.where(over > under, 1, -1), jnp.sign(side))
        joined = jnp.where(joins & ~settled, new, side)
        return _Found(
            jnp.where(blocked, moved, wanted),
            jnp.where(blocked, stopped, joined).astype(jnp.int32),
            free,
            inverse,
            found.rounds + 1,
            ~blocked & settled,
        )

    none = jnp.zeros((), jnp.int32)
    start = _Found(price, _side(price, penalty), work.held, work.inverse, none, jnp.zeros((), bool))
    return jax.lax.while_loop(lambda found: ~found.done & (found.rounds < ROUNDS), again, start)


def _side(price: Array, penalty: Array) -> Array:
    """(J,) int32, as in `_Found`, that prices (J,) stand for."""
    return jnp.where(jnp.abs(price) >= penalty, 2, 1) * jnp.sign(price).astype(jnp.int32)


def _solve(
    work: RowsAtWork, side: Array, inverse: Array, unpriced: Array, rho: Array, penalty: Array
) -> Array:
    """The prices (J,) that put the rows at a limit there."""
    free = jnp.abs(side) == 1
    fixed = jnp.where(jnp.abs(side) == 2, jnp.sign(side).astype(unpriced.dtype) * penalty, 0)
    limit = jnp.where(side > 0, work.upper, work.lower)
    wanted = jnp.where(free, rho * (unpriced - jnp.where(free, limit, 0)), 0)
    wanted = wanted - jnp.matmul(work.gram, fixed, precision=Precision.HIGHEST)
    price = jnp.matmul(inverse, wanted, precision=Precision.HIGHEST)
    for _ in range(REFINEMENTS):  # takes the ridge of the inverse off again
        left = wanted - jnp.matmul(work.gram, jnp.where(free, price, 0), precision=Precision.HIGHEST)
        price = price + jnp.matmul(inverse, left, precision=Precision.HIGHEST)
    return jnp.where(free, price, fixed)


def _inverse(gram: Array, at_limit: Array) -> Array:
    """Inverse over the rows at a limit, 0 elsewhere.

    Voltages of neighbours are nearly the same row: a small ridge tells them apart.
    """
    both = at_limit[:, None] & at_limit[None, :]
    scale = jax.lax.rsqrt(jnp.diagonal(gram))
    eye = jnp.eye(gram.shape[0], dtype=gram.dtype)
    ridge = 1e-12 if gram.dtype == jnp.float64 else 3e-6
    scaled = jnp.where(both, gram * scale[:, None] * scale[None, :], eye) + ridge * eye
    found = jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(scaled, lower=True), eye)
    return jnp.where(both, found * scale[:, None] * scale[None, :], 0)


def _choose(problem: SlotProblem, row_price: Array, value: Array, count: int) -> Array:
    """The rows (J,) that matter: priced ones first, then violated ones, then those closest to a limit."""
    excess = excess_of(problem, value)
    room = jnp.minimum(problem.row_upper - value, value - problem.row_lower)
    paid = jnp.abs(row_price) >= problem.row_penalty
    rank = jnp.where(row_price != 0, 3.0, jnp.where(excess > 0, 2.0, 0.0))
    rank = jnp.where(paid & (excess > 0), 1.0, rank)  # settled: beyond its limit, and priced so
    near = problem.power_scale
    closeness = jnp.where(excess > 0, excess / (excess + near), near / (near + jnp.maximum(room, 0)))
    return jax.lax.top_k(rank.astype(closeness.dtype) + closeness, count)[1]
