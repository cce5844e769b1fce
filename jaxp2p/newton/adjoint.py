"""The derivative of a slot that Newton's method has solved: one exact Newton correction, which autodiff sees.

At the solution x = (pool price, row prices) with the injections p, the residuals r(x, problem) vanish: what
the homes inject in total, and the rows at work beyond their limits. Around it

    x(problem) = x + K^-1 (r(x, problem) - stop r),       K = -dr/dx,

has the value x and, by the implicit function theorem, the derivative of the solution; prices at a bound
follow the bound. The homes then answer x(problem) on their polylines, in closed form. Forward and reverse
mode work, and the iterations themselves are never differentiated.

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

from jaxp2p.newton.solver import SATURATED, Newton, Outcome, State, _Setup, _setup, pool_trades
from jaxp2p.newton.solver import solve as solve_forward
from jaxp2p.prox.feeder import bus_sum
from jaxp2p.prox.response import between
from jaxp2p.slot.execute import nodal_surcharge
from jaxp2p.slot.problem import SlotProblem

STEEPEST = 1e-3  # of the price scale: width that a jump is given
FLATTEST = 1e-4  # of power scale / price scale: where all respond less, the price is not unique and stays
ROWS_AT_ONCE = 16  # priced rows that move together; in a radial feeder fewer are at work


class _Replies(NamedTuple):
    """The homes on their polylines."""

    injection: Array  # (N,) kW
    slope: Array  # (N,) kW per EUR/kWh
    nodal_price: Array  # (N,) EUR/kWh, on a jump exactly the jump's
    market_price: Array  # (N,) EUR/kWh


def solve(problem: SlotProblem, newton: Newton, state: State) -> Outcome:
    """`newton.solver.solve`, differentiable with respect to the leaves of `problem`.

    The derivatives are those of the exact optimum, whatever the tolerance; `state` and `newton` have none.
    Answers have the same values as without (injections up to the tolerance's last proximal step).
    """
    found = stop_gradient(solve_forward(*stop_gradient((problem, newton, state))))
    prices = jnp.concatenate([found.state.price[None], found.state.row_price])
    injection, position = found.answer.injection, found.position
    setup = _setup(problem, newton)
    piece = _pieces_at(setup, position)
    here = _reply(problem, setup, piece, prices, injection)
    moved = _moved(problem, setup, here, prices)
    replies = _reply(problem, setup, piece, moved, injection)
    answer = found.answer._replace(
        injection=replies.injection,
        trades=jnp.broadcast_to(pool_trades(replies.injection), problem.market.fee.shape),
        market_price=replies.market_price,
        nodal_price=replies.nodal_price,
        trade_price=moved[:1, None],
        row_price=moved[1:],
    )
    return found._replace(answer=answer)


class _Piece(NamedTuple):
    """The piece of its polyline on which every home is; all (N,)."""

    left: Array  # EUR/kWh
    right: Array
    low: Array  # kW
    high: Array


def _pieces_at(setup: _Setup, here: Array) -> _Piece:
    """The pieces at the position price + eps p, which rises along jumps too."""
    corner = setup.corners
    both = between(stop_gradient(setup.position), stop_gradient(here), corner.price, corner.power)
    return _Piece(*both[0], *both[1])


def _reply(problem: SlotProblem, setup: _Setup, piece: _Piece, prices: Array, injection: Array) -> _Replies:
    """Everybody's answer to `prices`: `injection`, with the derivative of its piece and of the price."""
    surcharge = nodal_surcharge(problem, prices[1:])
    sell = jnp.maximum(problem.price_sell, prices[0] - setup.half_fee)
    buy = jnp.minimum(problem.price_buy, prices[0] + setup.half_fee)
    market = jnp.where(injection > 0, sell, buy)
    left, right, low, high = piece
    width, rise = right - left, high - low
    least = STEEPEST * stop_gradient(problem.price_scale)
    slope = stop_gradient(rise / jnp.maximum(width, least))
    along = slope * (market - surcharge - left) + low
    # derivative of the straight piece: its ends may move as well
    inner = width > least
    safe = jnp.where(inner, width, 1)
    exact = low + rise * ((market - surcharge - left) / safe)
    reply = jnp.where(inner, exact, along)
    idle = injection == 0
    reply = jnp.where(idle, 0, injection + (reply - stop_gradient(reply)))
    # the nodal price that goes with this injection on the piece: on a jump the jump's own
    on_rise = jnp.where(rise > 0, rise, 1)
    part = jnp.where(rise > 0, jnp.clip((reply - low) / on_rise, 0, 1), 0)
    nodal = left + width * part
    alone = nodal + surcharge
    return _Replies(
        injection=reply,
        slope=jnp.where(idle, 0, slope),
        nodal_price=nodal,
        market_price=jnp.where(idle, jnp.clip(alone, sell, buy), market),
    )


def _moved(problem: SlotProblem, setup: _Setup, here: _Replies, prices: Array) -> Array:
    """(1 + R,) the prices, with their derivatives with respect to the problem."""
    pool = (prices[0] > setup.lowest[0]) & (prices[0] < setup.highest[0])
    at_bound = jnp.where(prices[0] <= setup.lowest[0], setup.lowest[0], setup.highest[0])
    surplus = -jnp.sum(here.injection)
    slope = stop_gradient(here.slope)
    rows = problem.row_offset.shape[0]
    total = jnp.sum(slope)
    unique = total > FLATTEST * stop_gradient(problem.power_scale / problem.price_scale)
    if rows == 0 or problem.feeder is None:
        step = jnp.where(unique, (surplus - stop_gradient(surplus)) / jnp.where(unique, total, 1), 0)
        return jnp.where(pool, prices[0] + step, at_bound)[None]
    feeder, row_price = problem.feeder, prices[1:]
    penalty = stop_gradient(problem.row_penalty)
    at_work = (row_price != 0) & (jnp.abs(row_price) < SATURATED * penalty)
    weight, chosen = jax.lax.top_k(jnp.where(at_work, jnp.abs(row_price), 0), min(rows, ROWS_AT_ONCE))
    use = weight > 0
    matrix = jnp.take(feeder.matrix, chosen, axis=0)
    limit = jnp.where(row_price > 0, problem.row_upper, problem.row_lower)
    reached = jnp.matmul(matrix, bus_sum(feeder, here.injection), precision=Precision.HIGHEST)
    beyond = reached + jnp.take(problem.row_offset - limit, chosen)
    residual = jnp.concatenate([surplus[None], beyond])
    # the pool moves against a bound of its own first: what that does to the rows counts too
    shift = jnp.where(pool, 0, at_bound - stop_gradient(at_bound))
    at_bus = bus_sum(feeder, slope)
    weighted = matrix * at_bus[None, :]
    cross = jnp.sum(weighted, axis=1)
    inner = jnp.matmul(weighted, matrix.T, precision=Precision.HIGHEST)
    system = jnp.block([[total[None, None], -cross[None]], [-cross[:, None], inner]])
    free = jnp.concatenate([(pool & unique)[None], use])
    system = jnp.where(free[:, None] & free[None, :], system, 0)
    diagonal = jnp.diagonal(system)
    # rows that depend on each other share the price between them: a small ridge makes that unique
    ridge = 1e-9 if system.dtype == jnp.float64 else 1e-5
    diagonal = jnp.where(free & (diagonal > 0), diagonal * (1 + ridge), 1)
    scale = jax.lax.rsqrt(diagonal)
    system = system - jnp.diag(jnp.diagonal(system)) + jnp.diag(diagonal)
    scaled = stop_gradient(system * scale[:, None] * scale[None, :])
    change = (
        residual - stop_gradient(residual) + jnp.concatenate([jnp.zeros_like(shift)[None], cross * shift])
    )
    factor = jax.scipy.linalg.cho_factor(scaled, lower=True)
    step = scale * jax.scipy.linalg.cho_solve(factor, scale * jnp.where(free, change, 0))
    saturated = jnp.where(at_work, row_price, jnp.sign(row_price) * problem.row_penalty * (row_price != 0))
    moved = saturated.at[chosen].add(jnp.where(use, step[1:], 0))
    return jnp.concatenate([(jnp.where(pool, prices[0] + step[0], at_bound))[None], moved])
