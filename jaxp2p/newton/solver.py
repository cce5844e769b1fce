"""One price for all: the pool by Newton's method on its prices, with a proximal term on the injections.

In the pool a home sells at m_s = max(s, pi - fee/2) and buys at m_b = min(b, pi + fee/2), so one price pi and
the row prices y of the network decide everything. Around a centre pbar every home answers

    p(pi, y) = argmin over p  c(p) + eps/2 (p - pbar)^2 - (m - sum_r A_rn y_r) p        (m = m_s or m_b)

in closed form, piecewise linear and rising in its price: the dual function is concave and piecewise
quadratic, its gradient is (-sum p, row violations), and its curvature comes from the slopes dp/dm summed by
bus. A damped semismooth Newton step on (pi, the rows at work) with a derivative line search climbs it; then
the centre moves to p and the proximal term vanishes in the limit (proximal point method of Rockafellar 1976;
the same pair of loops as in the semismooth Newton augmented Lagrangian method of Li, Sun and Toh 2018).
Every iteration is one pass over the homes and one small dense system, so it costs little more than an ADMM
step, and some ten of them do where ADMM needs a hundred.

Also right for the market "none", where pi has no say. Members with trade or connection limits need ADMM.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import Precision

from jaxp2p.community.types import Market
from jaxp2p.newton.rescue import rescued
from jaxp2p.newton.state import Newton, State, init
from jaxp2p.prox.feeder import bus_sum
from jaxp2p.prox.prosumer import clamp
from jaxp2p.prox.response import Pieces, Response, between, corners
from jaxp2p.prox.trades import share_out
from jaxp2p.slot.answer import Answer
from jaxp2p.slot.execute import finish
from jaxp2p.slot.gap import gap_scale
from jaxp2p.slot.polish import polish
from jaxp2p.slot.problem import SlotProblem
from jaxp2p.slot.rows import nodal_surcharge, row_tolerance, unavoidable
from jaxp2p.slot.status import Status

__all__ = [
    "Newton",
    "Outcome",
    "Search",
    "State",
    "advance",
    "begin",
    "end",
    "init",
    "running",
    "solve",
    "suits",
]

AIM = 0.1  # of the tolerance of a row
SATURATED = 0.999  # share of the row penalty from which a violated row counts as paid for


class Outcome(NamedTuple):
    """Where the iteration stopped."""

    state: State
    answer: Answer


class _Setup(NamedTuple):
    """What stays the same during a slot."""

    pieces: Pieces
    corners: Response  # of the devices, in any order
    position: Array  # (M, N) EUR/kWh, where these corners are as p against price + eps pbar
    idle: Array  # (N,) EUR/kWh: the position where p = 0
    eps: Array  # () (EUR/kWh)/kW
    half_fee: Array  # () EUR/kWh
    lowest: Array  # (1 + R,) EUR/kWh, bounds of the prices
    highest: Array  # (1 + R,)
    damping: Array  # (1 + R,) kW per EUR/kWh
    row_upper: Array  # (R,) kW, aimed at: inside the limits by row_tolerance
    row_lower: Array  # (R,)
    row_tolerance: Array  # (R,) kW


class _Point(NamedTuple):
    """Everybody's answer to some prices (pool first, then rows)."""

    prices: Array  # (1 + R,)
    injection: Array  # (N,) kW
    slope: Array  # (N,) kW per EUR/kWh
    market_price: Array  # (N,)
    rows: Array  # (R,) kW
    gradient: Array  # (1 + R,) kW


class Search(NamedTuple):
    """One slot under way."""

    setup: _Setup
    base: _Point  # last accepted
    direction: Array  # (1 + R,)
    length: Array  # ()
    trial: Array  # (1 + R,) prices to try next
    centre: Array  # (N,)
    inner: Array  # () int32, evaluations since the centre moved
    iterations: Array  # () int32
    fresh: Array  # () bool, the centre has just moved
    done: Array  # () bool
    answer: Answer  # the last that was held against its certificate


def suits(market: Market, *, connection_limits: bool) -> bool:
    """Whether one pool price (or none) decides everything; known from the structure alone."""
    return market.kind != "bilateral" and not market.limited and not connection_limits


def _setup(problem: SlotProblem, newton: Newton) -> _Setup:
    dtype, size = problem.load.dtype, problem.load.shape[0]
    unit, eps = problem.price_scale / problem.power_scale, _pull(problem, newton)
    pieces = problem.pieces()
    found, position = _positions(pieces, problem.base, eps)
    half_fee, lowest, highest = price_range(problem)
    rows = problem.row_offset.shape
    damping = jnp.concatenate(
        [jnp.full((1,), newton.damping, dtype), jnp.full(rows, newton.row_damping, dtype)]
    )
    # What a row is beyond its limit costs its whole penalty, what it is inside only its price: so the aim is
    # inside, and an answer within the tolerance of the aim keeps the limit itself.
    tolerance = AIM * row_tolerance(problem, flow=newton.eps_flow, voltage=newton.eps_voltage)
    tolerance = jnp.minimum(tolerance, (problem.row_upper - problem.row_lower) / 4)
    inside = jax.lax.stop_gradient(tolerance)
    return _Setup(
        pieces=pieces,
        position=position,
        corners=found,
        idle=_idle_position(position, found.power),
        eps=eps,
        half_fee=half_fee,
        lowest=lowest,
        highest=highest,
        damping=damping * (size / unit).astype(dtype),
        row_upper=problem.row_upper - inside,
        row_lower=problem.row_lower + inside,
        row_tolerance=jnp.maximum(tolerance, jnp.finfo(dtype).tiny),
    )


def _pull(problem: SlotProblem, newton: Newton) -> Array:
    """() (EUR/kWh)/kW, eps."""
    return (newton.proximal * (problem.price_scale / problem.power_scale)).astype(problem.load.dtype)


def _positions(pieces: Pieces, base: Array, eps: Array) -> tuple[Response, Array]:
    found = corners(pieces, base)
    return found, found.price + eps * found.power


def price_range(problem: SlotProblem) -> tuple[Array, Array, Array]:
    """Half the fee () of a trade, and the least and greatest prices (1 + R,), EUR/kWh."""
    fee = problem.price_buy - problem.price_sell
    if problem.market.kind == "pool":
        # beyond b - s nobody trades, and a closed market (limit 0) is no different
        open_ = jnp.max(problem.market.limit) > 0
        fee = jnp.where(open_, jnp.minimum(jnp.max(problem.market.fee), fee), fee)
    rows = jnp.full(problem.row_offset.shape, problem.row_penalty)
    lowest = jnp.concatenate([(problem.price_sell + fee / 2)[None], -rows])
    return fee / 2, lowest, jnp.concatenate([(problem.price_buy - fee / 2)[None], rows])


def _idle_position(position: Array, power: Array) -> Array:
    """(N,) the position at which a home's injection crosses zero; infinite where it never does."""
    zero = jnp.zeros_like(power[0])
    (low, high), (left, right) = between(power, zero, power, position)
    span = high - low
    idle = left + (right - left) * jnp.where(span > 0, -low / jnp.where(span > 0, span, 1), 0)
    # below the curve it would always sell, above it always buy
    return jnp.where(low > 0, -jnp.inf, jnp.where(high < 0, jnp.inf, idle))


def _injection_at(setup: _Setup, at: Array) -> tuple[Array, Array]:
    """p (N,) in kW and its slope (N,) in kW per EUR/kWh at the position price + eps pbar."""
    (left, right), (low, high) = between(setup.position, at, setup.position, setup.corners.power)
    width = right - left
    slope = jnp.where(width > 0, (high - low) / jnp.where(width > 0, width, 1), 0)
    return low + slope * clamp(at - left, 0, width), slope


def _evaluate(problem: SlotProblem, setup: _Setup, prices: Array, centre: Array) -> _Point:
    shift = setup.eps * centre - nodal_surcharge(problem, prices[1:])
    sell = jnp.maximum(problem.price_sell, prices[0] - setup.half_fee)
    buy = jnp.minimum(problem.price_buy, prices[0] + setup.half_fee)
    alone = setup.idle - shift  # the price at which the home needs nobody
    market_price = clamp(alone, sell, buy)
    power, slope = _injection_at(setup, shift + market_price)
    idle = (alone > sell) & (alone < buy)
    power, slope = jnp.where(idle, 0, power), jnp.where(idle, 0, slope)
    rows = problem.row_offset
    if problem.feeder is not None:
        at_bus = bus_sum(problem.feeder, power)
        rows = rows + jnp.matmul(problem.feeder.matrix, at_bus, precision=Precision.HIGHEST)
    over, under = rows - setup.row_upper, rows - setup.row_lower
    outside = jnp.maximum(over, 0) + jnp.minimum(under, 0)
    row_gradient = jnp.where(prices[1:] > 0, over, jnp.where(prices[1:] < 0, under, outside))
    gradient = jnp.concatenate([-jnp.sum(power)[None], row_gradient])
    return _Point(prices, power, slope, market_price, rows, gradient)


def _direction(problem: SlotProblem, setup: _Setup, newton: Newton, at: _Point) -> Array:
    """Damped Newton step (1 + R,) on the pool price and the rows that matter most."""
    blocked = ((at.prices <= setup.lowest) & (at.gradient <= 0)) | (
        (at.prices >= setup.highest) & (at.gradient >= 0)
    )
    rows = problem.row_offset.shape[0]
    if rows == 0:
        step = at.gradient / (jnp.sum(at.slope) + setup.damping)
        return jnp.where(blocked, 0, step)
    idle = (at.prices[1:] == 0) & (at.gradient[1:] == 0)
    at_work = ~(blocked[1:] | idle)
    # priced rows and violated ones, the costliest first
    weight = (jnp.abs(at.prices[1:]) + 1e-3 * problem.row_penalty) * jnp.abs(at.gradient[1:])
    weight = jnp.where(at_work, weight + jnp.finfo(weight.dtype).tiny, 0)
    weight, chosen = jax.lax.top_k(weight, min(rows, newton.rows_at_once))
    use = weight > 0
    matrix = jnp.take(problem.feeder.matrix, chosen, axis=0)
    at_bus = bus_sum(problem.feeder, at.slope)
    weighted = matrix * at_bus[None, :]
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
    diagonal = jnp.diagonal(system) + jnp.where(free, pick(setup.damping), 1)
    scale = jax.lax.rsqrt(diagonal)
    # unit diagonal, so that float32 does for voltages and flows alike
    scaled = (system + jnp.diag(diagonal - jnp.diagonal(system))) * scale[:, None] * scale[None, :]
    wanted = jnp.where(free, pick(at.gradient), 0)
    factor = jax.scipy.linalg.cho_factor(scaled, lower=True)
    step = scale * jax.scipy.linalg.cho_solve(factor, scale * wanted)
    # no price moves by more than a few times what prices differ by
    step = step * jnp.minimum(1, 2.5 * problem.price_scale / jnp.max(jnp.abs(step), initial=1e-30))
    out = jnp.zeros_like(at.prices).at[0].set(step[0])
    return out.at[1 + chosen].set(jnp.where(use, step[1:], 0))


def _move(setup: _Setup, base: _Point, step: Array) -> Array:
    """Prices after a step: inside their bounds, and a row price stops at zero before it changes sign."""
    prices = clamp(base.prices + step, setup.lowest, setup.highest)
    old, new = base.prices[1:], prices[1:]
    stops = ((old > 0) & (new < 0)) | ((old < 0) & (new > 0)) | ((old == 0) & (new * base.gradient[1:] < 0))
    return prices.at[1:].set(jnp.where(stops, 0, new))


def _allowed_loss(problem: SlotProblem, newton: Newton) -> Array:
    """() EUR/h that the answer may cost above the optimum when the iteration stops: half of the tolerance."""
    return 0.5 * newton.eps_gap * gap_scale(problem, jnp.zeros_like(problem.slot_hours)) / problem.slot_hours


def _imbalance(problem: SlotProblem, setup: _Setup, at: _Point) -> tuple[Array, Array]:
    """() the worst row violation over its tolerance, and () EUR/h lost by imbalance and slack."""
    row_price, rows = at.prices[1:], at.rows
    beyond = jnp.where(row_price > 0, rows - setup.row_upper, setup.row_lower - rows)
    paid = (jnp.abs(row_price) > SATURATED * problem.row_penalty) & (beyond > 0)
    outside = jnp.maximum(jnp.maximum(rows - setup.row_upper, setup.row_lower - rows), 0)
    violation = jnp.max(jnp.where(paid, 0, outside / setup.row_tolerance), initial=0)
    slack = jnp.sum(jnp.where(paid | (row_price == 0), 0, jnp.abs(row_price) * jnp.abs(beyond)))
    # a limit that is passed and has no price yet will cost about what prices differ by
    slack = slack + problem.price_scale * jnp.sum(jnp.where(row_price == 0, outside, 0))
    surplus = -at.gradient[0]
    over, under = jnp.maximum(surplus, 0), jnp.maximum(-surplus, 0)
    utility = over * (at.prices[0] - setup.lowest[0]) + under * (setup.highest[0] - at.prices[0])
    return violation, slack + utility


def solve(problem: SlotProblem, newton: Newton, state: State) -> Outcome:
    """Iterate from `state` until the slot is solved. `suits` must hold."""
    unfinished = lambda search: running(newton, search)
    advanced = lambda search: advance(problem, newton, search)
    return end(problem, newton, jax.lax.while_loop(unfinished, advanced, begin(problem, newton, state)))


def begin(problem: SlotProblem, newton: Newton, state: State) -> Search:
    """Before the first iteration; `advance` while `running`, then `end`."""
    setup = _setup(problem, newton)
    row_price = state.row_price
    if problem.feeder is not None:
        known = unavoidable(problem)
        row_price = jnp.where(known != 0, known, row_price)
    prices = clamp(jnp.concatenate([state.price[None], row_price]), setup.lowest, setup.highest)
    homes, none = jnp.zeros_like(problem.load), jnp.zeros_like(prices)
    search = Search(
        setup=setup,
        base=_Point(prices, homes, homes, homes, problem.row_offset, none),
        direction=none,
        length=jnp.ones((), none.dtype),
        trial=prices,
        centre=state.centre,
        inner=jnp.zeros((), jnp.int32),
        iterations=jnp.zeros((), jnp.int32),
        fresh=jnp.ones((), bool),
        done=jnp.zeros((), bool),
        answer=None,
    )
    shapes = jax.eval_shape(lambda: _raw(problem, newton, search))
    return search._replace(answer=jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes))


def running(newton: Newton, search: Search) -> Array:
    """() bool: neither solved nor at the iteration limit."""
    return ~search.done & (search.iterations < newton.max_iter)


def advance(problem: SlotProblem, newton: Newton, search: Search) -> Search:
    """One iteration: everybody's answer to the trial prices, then the next trial."""
    setup = search.setup
    at = _evaluate(problem, setup, search.trial, search.centre)
    went = search.trial - search.base.prices
    start, now = jnp.sum(search.base.gradient * went), jnp.sum(at.gradient * went)
    # accept unless the derivative along the step has turned by more than half of what it was
    accept = search.fresh | (now >= -0.5 * start) | (search.length < 0.02)
    violation, loss = _imbalance(problem, setup, at)
    balanced = accept & (violation <= 1) & (loss <= _allowed_loss(problem, newton))
    base = jax.tree.map(lambda a, b: jnp.where(accept, a, b), at, search.base)
    last = search.iterations + 1 >= newton.max_iter
    answer, done = jax.lax.cond(  # a pass over all devices, so only where it can decide
        balanced | last,
        lambda: _proved(problem, newton, search._replace(base=base, iterations=search.iterations + 1)),
        lambda: (search.answer, jnp.zeros((), bool)),
    )
    recentre = accept & ~done & (balanced | (search.inner + 1 >= newton.centre_after))
    direction = jnp.where(accept, _direction(problem, setup, newton, at), search.direction)
    shorter = search.length * jnp.clip(start / jnp.maximum(start - now, 1e-30), 0.1, 0.6)
    length = jnp.where(accept, 1, shorter)
    return search._replace(
        base=base,
        direction=direction,
        length=length,
        trial=jnp.where(recentre, base.prices, _move(setup, base, length * direction)),
        centre=jnp.where(recentre, at.injection, search.centre),
        inner=jnp.where(recentre, 0, search.inner + 1),
        iterations=search.iterations + 1,
        fresh=recentre,
        done=done,
        answer=answer,
    )


def _proved(problem: SlotProblem, newton: Newton, search: Search) -> tuple[Answer, Array]:
    """What to execute here, and () bool whether that is proved to be within half of the tolerance."""
    answer = polish(problem, _raw(problem, newton, search), search.setup.corners)
    result = finish(problem, answer)
    ended = (result.status != Status.MAX_ITER) & (result.status != Status.NUMERICAL_ERROR)
    return answer, ended & (result.gap <= 0.5 * newton.eps_gap * result.gap_scale)


def _raw(problem: SlotProblem, newton: Newton, search: Search) -> Answer:
    """Where the search stands, as an answer."""
    setup, at = search.setup, search.base
    moved = at.injection - search.centre
    outside = jnp.maximum(jnp.maximum(at.rows - problem.row_upper, problem.row_lower - at.rows), 0)
    return Answer(
        injection=at.injection,
        trades=jnp.broadcast_to(pool_trades(at.injection), problem.market.fee.shape),
        market_price=at.market_price,
        nodal_price=at.market_price - nodal_surcharge(problem, at.prices[1:]) - setup.eps * moved,
        trade_price=at.prices[:1, None],
        row_price=at.prices[1:],
        prim_res=jnp.maximum(jnp.abs(jnp.sum(at.injection)), jnp.max(outside, initial=0)),
        dual_res=setup.eps * jnp.max(jnp.abs(moved)),
        iterations=search.iterations,
        tolerance=jnp.asarray(newton.eps_gap, at.injection.dtype),
    )


def end(problem: SlotProblem, newton: Newton, search: Search) -> Outcome:
    """What to execute: the last answer that was held against its certificate."""
    at, answer = search.base, search.answer
    state = State(at.prices[0], at.prices[1:], at.injection)
    if problem.feeder is not None:
        state, answer = rescued(problem, newton, state, answer, search.done)
    return Outcome(state, answer)


def pool_trades(injection: Array) -> Array:
    """(N,) kW sold to (bought from) the pool; who is indifferent deals with the utility, in proportion."""
    return share_out(injection)
