"""The derivative of a slot that Newton's method has solved: one exact Newton correction, which autodiff sees.

At the solution x = (pool price, row prices) with the injections p, the residuals r(x, problem) vanish: what
the homes inject in total, and the rows at work beyond their limits. Around it

    x(problem) = x + K^-1 (r(x, problem) - stop r),       K = -dr/dx,

has the value x and, by the implicit function theorem, the derivative of the solution; prices at a bound
follow the bound. The homes then answer x(problem) on their polylines, in closed form. Forward and reverse
mode work, for first derivatives, and the iterations themselves are never differentiated.

Where the dispatch has a kink (a home at a corner of its polyline, a price just at its bound) this is the
derivative on the side on which the solver stopped. On a jump (curtailment, a constant storage value) the
slope is finite but steep, so that the price stays put and the homes on the jump take what is left. Where
nobody's answer moves with the pool's price, that price is not unique and stays.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import Precision, stop_gradient

from jaxp2p.slot.answer import Answer
from jaxp2p.slot.newton.dual import SATURATED, pool_range
from jaxp2p.slot.newton.solver import Outcome, Settings, State, pool_trades
from jaxp2p.slot.newton.solver import solve as solve_forward
from jaxp2p.slot.polish import moving_as
from jaxp2p.slot.problem import SlotProblem
from jaxp2p.slot.prox.response import in_part, jumps, shares_at
from jaxp2p.slot.prox.sensitivity import derivative_only, with_derivative_of
from jaxp2p.slot.rows import nodal_surcharge

STEEPEST, STEEPEST_SINGLE = 1e-3, 1e-3  # of the price scale: width that a jump is given
RIDGE, RIDGE_SINGLE = 1e-12, 1e-5  # of the diagonal: rows that depend on each other share the price
FLATTEST = 1e-4  # of power scale / price scale: where all respond less, the price is not unique and stays
ROWS_AT_ONCE = 16  # priced rows that move together; in a radial feeder fewer are at work


class Solution(NamedTuple):
    """Where the solver stopped, without derivatives."""

    injection: Array  # (N,) kW
    market_price: Array  # (N,) EUR/kWh
    nodal_price: Array  # (N,) EUR/kWh, on a jump exactly the jump's


class Replies(NamedTuple):
    """The homes on their polylines."""

    injection: Array  # (N,) kW
    shares: Array  # (P, N) of the device pieces
    slope: Array  # (N,) kW per EUR/kWh
    nodal_price: Array  # (N,) EUR/kWh
    market_price: Array  # (N,) EUR/kWh


def solve(problem: SlotProblem, newton: Settings, state: State) -> Outcome:
    """`slot.newton.solver.solve`, differentiable with respect to the leaves of `problem`.

    The derivatives are those of the exact optimum, whatever the tolerance; `state` and `newton` have none.
    Answers have the same values as without.
    """
    found = stop_gradient(solve_forward(*stop_gradient((problem, newton, state))))
    last = found.answer
    at = Solution(last.injection, last.market_price, last.nodal_price)
    prices = _with_bounds(problem, found.state.price, found.state.row_price)
    moved = _moved(problem, _reply(problem, at, prices), prices)
    replies = _reply(problem, at, moved)
    raw = last._replace(
        injection=replies.injection,
        trades=jnp.broadcast_to(pool_trades(replies.injection), problem.market.fee.shape),
        market_price=replies.market_price,
        nodal_price=replies.nodal_price,
        trade_price=moved[:1, None],
        row_price=moved[1:],
    )
    return Outcome(found.state, moving_as(problem, raw, last))


def pool_replies(problem: SlotProblem, price: Array, at: Solution) -> tuple[Replies, Array, Array]:
    """Where no network couples them: the homes at the pool's price, that price, and the slope of their sum.

    Around a solution, with its price () in EUR/kWh. Each reply depends on the price and on that home alone.
    A price at a bound follows the bound. The slope () in kW per EUR/kWh is 0 where the price does not answer
    to the balance: there, and where it is not unique.
    """
    bounds, none = _bounds(problem, price), jnp.zeros_like(problem.row_offset)
    prices = jnp.concatenate([_bounded(price, bounds)[None], none])
    replies = _reply(problem, at, prices)
    total = jnp.sum(replies.slope)
    return replies, prices[0], jnp.where(bounds.free & _unique(problem, total), total, 0)


def pool_answer(
    problem: SlotProblem, price: Array, injection: Array, market_price: Array, nodal_price: Array
) -> Answer:
    """What is to be executed where the homes do this; verdicts are for whoever solved the slot."""
    unknown = jnp.zeros_like(price)
    return Answer(
        injection=injection,
        trades=jnp.broadcast_to(pool_trades(injection), problem.market.fee.shape),
        market_price=market_price,
        nodal_price=nodal_price,
        trade_price=price[None, None],
        row_price=jnp.zeros_like(problem.row_offset),
        prim_res=unknown,
        dual_res=unknown,
        iterations=jnp.zeros((), jnp.int32),
        tolerance=unknown,
    )


class _Bounds(NamedTuple):
    """The bounds () of the pool's price in EUR/kWh, and whether it is at them: decided here only."""

    lowest: Array
    highest: Array
    low: Array  # bool
    high: Array  # bool

    @property
    def free(self) -> Array:
        """() bool: the price answers to the balance."""
        return ~(self.low | self.high)


def _bounds(problem: SlotProblem, price: Array) -> _Bounds:
    _, lowest, highest = pool_range(problem)
    # the bounds may have been worked out in another order where the price was found
    near = 8 * jnp.finfo(price.dtype).eps * (jnp.abs(lowest) + jnp.abs(highest))
    return _Bounds(lowest, highest, price <= lowest + near, price >= highest - near)


def _bounded(price: Array, bounds: _Bounds) -> Array:
    """The pool's price (), which at a bound moves with it."""
    at_bound = jnp.where(bounds.low, bounds.lowest, bounds.highest)
    return with_derivative_of(price, jnp.where(bounds.free, price, at_bound))


def _with_bounds(problem: SlotProblem, price: Array, row_price: Array) -> Array:
    """(1 + R,) the prices as they were found; those at a bound move with it, the others not yet."""
    at_penalty = jnp.abs(row_price) >= SATURATED * stop_gradient(problem.row_penalty)
    paid = jnp.where(at_penalty, jnp.sign(row_price) * problem.row_penalty, row_price)
    pool = _bounded(price, _bounds(problem, price))
    return jnp.concatenate([pool[None], with_derivative_of(row_price, paid)])


def _unique(problem: SlotProblem, slope: Array) -> Array:
    """() bool: enough of the homes respond for the price to be one."""
    return slope > FLATTEST * stop_gradient(problem.power_scale / problem.price_scale)


def _reply(problem: SlotProblem, at: Solution, prices: Array) -> Replies:
    """Everybody's answer to `prices`: the solution, moving with the prices, the devices and the tariffs.

    A piece of the polyline that is partly in use moves by 1 / (end - start) of itself per EUR/kWh, relative
    to the point of it that is in use; the others are used in full or not at all. Homes that deal with nobody
    keep to that: their own price moves.
    """
    pieces, base = problem.pieces(), problem.base
    still = stop_gradient(problem)
    fixed = still.pieces()
    share = shares_at(fixed, still.base, price=at.nodal_price, power=at.injection)
    partly, jump = in_part(share), jumps(fixed, at.nodal_price)
    steepest = STEEPEST if share.dtype == jnp.float64 else STEEPEST_SINGLE
    width = jnp.where(jump, steepest * still.price_scale, fixed.end - fixed.start)
    rate = jnp.where(partly, 1 / width, 0)
    point = (1 - share) * derivative_only(pieces.start) + share * derivative_only(pieces.end)
    weight = jnp.where(partly & jump, fixed.gain, 0)
    span = jnp.sum(weight, axis=0)
    on_jump = jnp.sum(weight * point, axis=0) / jnp.where(span > 0, span, 1)
    # a home on a jump keeps the jump's price, and its other devices go with that
    follows = jump | (span == 0)[None, :]
    kept = jnp.where(follows, 0, on_jump[None, :])
    own = share * derivative_only(pieces.gain) + fixed.gain * rate * (kept - point)
    push = derivative_only(base) + jnp.sum(own, axis=0)
    slope = jnp.sum(jnp.where(follows, fixed.gain * rate, 0), axis=0)

    half_fee, bounds = pool_range(problem)[0], _bounds(problem, prices[0])
    # at a bound the tariff and the pool's price are one: a maximum of both would move by half of each
    sell = jnp.where(bounds.low, problem.price_sell, prices[0] - half_fee)
    buy = jnp.where(bounds.high, problem.price_buy, prices[0] + half_fee)
    market = jnp.where(at.injection > 0, sell, buy)
    surcharge = nodal_surcharge(problem, prices[1:])
    near = 8 * jnp.finfo(sell.dtype).eps * (jnp.abs(sell) + jnp.abs(buy))
    idle = (at.injection == 0) | ((at.market_price > sell + near) & (at.market_price < buy - near))
    alone = jnp.where(slope > 0, -push / jnp.where(slope > 0, slope, 1), 0)
    rise = jnp.where(idle, alone, derivative_only(market - surcharge))
    nodal = at.nodal_price + jnp.where(span > 0, on_jump, rise)
    return Replies(
        injection=jnp.where(idle, 0, at.injection + push + slope * rise),
        shares=share + rate * (jnp.where(follows, rise[None, :], kept) - point),
        slope=jnp.where(idle, 0, slope),
        nodal_price=nodal,
        market_price=jnp.where(idle, jnp.clip(nodal + surcharge, sell, buy), market),
    )


def _moved(problem: SlotProblem, here: Replies, prices: Array) -> Array:
    """(1 + R,) the prices after a Newton correction of those that are free, from what is injected `here`."""
    bounds = _bounds(problem, prices[0])
    surplus = -derivative_only(jnp.sum(here.injection))
    slope = here.slope
    feeder, rows = problem.feeder, problem.feeder.rows
    total = jnp.sum(slope)
    free = bounds.free & _unique(problem, total)
    if not rows:
        return prices.at[0].add(jnp.where(free, surplus / jnp.where(free, total, 1), 0))
    row_price = stop_gradient(prices[1:])
    at_work = (row_price != 0) & (jnp.abs(row_price) < SATURATED * stop_gradient(problem.row_penalty))
    weight, chosen = jax.lax.top_k(jnp.where(at_work, jnp.abs(row_price), 0), min(rows, ROWS_AT_ONCE))
    matrix = feeder.rows_of(chosen)
    limit = jnp.where(row_price > 0, problem.row_upper, problem.row_lower)
    reached = jnp.matmul(matrix, feeder.bus_sum(here.injection), precision=Precision.HIGHEST)
    beyond = derivative_only(reached + jnp.take(problem.row_offset - limit, chosen))
    matrix = stop_gradient(matrix)
    weighted = matrix * feeder.bus_sum(slope)[None, :]
    cross = jnp.sum(weighted, axis=1)
    inner = jnp.matmul(weighted, matrix.T, precision=Precision.HIGHEST)
    system = jnp.block([[total[None, None], -cross[None]], [-cross[:, None], inner]])
    # where nobody answers to a row its price is not unique and stays
    free = jnp.concatenate([free[None], (weight > 0) & (jnp.diagonal(inner) > 0)])
    system = jnp.where(free[:, None] & free[None, :], system, 0)
    ridge = RIDGE if system.dtype == jnp.float64 else RIDGE_SINGLE
    diagonal = jnp.where(free, jnp.diagonal(system) * (1 + ridge), 1)
    scale = jax.lax.rsqrt(diagonal)
    system = system - jnp.diag(jnp.diagonal(system)) + jnp.diag(diagonal)
    factor = jax.scipy.linalg.cho_factor(stop_gradient(system * scale[:, None] * scale[None, :]), lower=True)
    residual = jnp.where(free, jnp.concatenate([surplus[None], beyond]), 0)
    step = scale * jax.scipy.linalg.cho_solve(factor, scale * residual)
    return prices.at[0].add(step[0]).at[1 + chosen].add(step[1:])
