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

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxp2p._once import once_if
from jaxp2p.model.markets import Market
from jaxp2p.model.markets.pool import share_out
from jaxp2p.slot.answer import Answer
from jaxp2p.slot.execute import SlotResult, finish
from jaxp2p.slot.kernels.choice import fused, interpreted
from jaxp2p.slot.newton.dense import Dense
from jaxp2p.slot.newton.dual import (
    Homes,
    Point,
    Prices,
    Setup,
    evaluate,
    make_setup,
    promising,
)
from jaxp2p.slot.newton.rescue import rescued
from jaxp2p.slot.newton.state import Settings, State, init
from jaxp2p.slot.newton.step import Lane, climb
from jaxp2p.slot.polish import polish
from jaxp2p.slot.problem import SlotProblem
from jaxp2p.slot.prox.prosumer import clamp
from jaxp2p.slot.rows import nodal_surcharge, with_unavoidable
from jaxp2p.slot.status import Status

__all__ = [
    "Outcome",
    "Search",
    "State",
    "advance",
    "begin",
    "end",
    "init",
    "iterate",
    "running",
    "solve",
    "suits",
]


class Outcome(NamedTuple):
    """Where the iteration stopped."""

    state: State
    answer: Answer
    result: SlotResult | None = None  # of executing the answer, where nobody asked for its derivative


class Search(NamedTuple):
    """One slot under way."""

    setup: Setup
    lane: Lane
    homes: Homes  # their answers at the last accepted prices
    centre: Array  # (N,)
    done: Array  # () bool
    answer: Answer  # the last that was held against its certificate
    result: SlotResult  # of executing it

    @property
    def iterations(self) -> Array:
        """() int32, evaluations of all homes."""
        return self.lane.iterations


def suits(market: Market, *, connection_limits: bool) -> bool:
    """Whether one pool price (or none) decides everything; known from the structure alone."""
    return market.one_price and not market.limited and not connection_limits


def solve(problem: SlotProblem, newton: Settings, state: State) -> Outcome:
    """Iterate from `state` until the slot is solved. `suits` must hold."""
    unfinished = lambda search: running(newton, search)
    advanced = lambda search: advance(problem, newton, search)
    return end(problem, newton, jax.lax.while_loop(unfinished, advanced, begin(problem, newton, state)))


def begin(problem: SlotProblem, newton: Settings, state: State) -> Search:
    """Before the first iteration; `advance` while `running`, then `end`."""
    setup = make_setup(problem, newton)
    row_price = with_unavoidable(problem, state.row_price)
    limits = setup.limits
    prices = Prices(
        clamp(state.price, limits.lowest, limits.highest), clamp(row_price, -limits.penalty, limits.penalty)
    )
    homes, none = jnp.zeros_like(problem.load), jax.tree.map(jnp.zeros_like, prices)
    at_bus = problem.feeder.bus_sum(homes)
    unknown: Any = None  # until their shapes are known, below
    one = jnp.ones_like(prices.pool)
    search = Search(
        setup=setup,
        lane=Lane(
            base=Point(prices, none, problem.row_offset, jnp.zeros_like(one), at_bus),
            trial=prices,
            length=one,
            caution=one,
            inner=jnp.zeros((), jnp.int32),
            iterations=jnp.zeros((), jnp.int32),
            fresh=jnp.ones((), bool),
            balanced=jnp.zeros((), bool),
        ),
        homes=Homes(homes, homes),
        centre=state.centre,
        done=jnp.zeros((), bool),
        answer=unknown,
        result=unknown,
    )
    shapes = jax.eval_shape(lambda: _executed(problem, newton, search))
    answer, result = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return search._replace(answer=answer, result=result)


def running(newton: Settings, search: Search) -> Array:
    """() bool: neither solved nor at the iteration limit."""
    return ~search.done & (search.iterations < newton.max_iter)


def advance(problem: SlotProblem, newton: Settings, search: Search) -> Search:
    """Iterations up to the next point that may be the solution, and the proof whether it is."""
    search = search._replace(lane=search.lane._replace(balanced=jnp.zeros((), bool)))
    search = _iterated(problem, newton, search)
    base = search.lane.base
    due = promising(problem, search.setup, search.homes, base.prices.rows, search.centre)
    due = due | (search.iterations >= newton.max_iter)
    unproved = search.result._replace(status=jnp.full_like(search.result.status, Status.MAX_ITER))
    prove = lambda _: _executed(problem, newton, search)
    answer, result = once_if(due, prove, (search.answer, unproved))
    proved = proven(newton, result)
    again = search.lane.balanced & ~proved
    lane = search.lane._replace(
        trial=jax.tree.map(lambda a, b: jnp.where(again, a, b), base.prices, search.lane.trial),
        inner=jnp.where(again, 0, search.lane.inner),
        fresh=search.lane.fresh | again,
    )
    return search._replace(
        lane=lane,
        centre=jnp.where(again, search.homes.injection, search.centre),
        done=proved,
        answer=answer,
        result=result,
    )


def _iterated(problem: SlotProblem, newton: Settings, search: Search) -> Search:
    """Iterations until enough is in balance for a proof."""
    if fused(newton.kernels):
        from jaxp2p.slot.kernels import climb as kernel

        if kernel.suits(problem):
            begun = kernel.start(problem, search.lane, search.centre)
            last = kernel.turns(problem, newton, search.setup, begun, interpret=interpreted(newton.kernels))
            lane, homes, centre = kernel.finish(problem, search.setup, last)
            return search._replace(lane=lane, homes=homes, centre=centre)
    waiting = lambda search: ~search.lane.balanced & (search.iterations < newton.max_iter)
    return jax.lax.while_loop(waiting, lambda search: iterate(problem, newton, search), search)


def iterate(problem: SlotProblem, newton: Settings, search: Search) -> Search:
    """One iteration: everybody's answer to the trial prices, then the next trial."""
    setup, lane = search.setup, search.lane
    homes, totals = evaluate(problem, setup, lane.trial, search.centre)
    lane, turn = climb(Dense(problem), setup.limits, newton, lane, totals)
    return search._replace(
        lane=lane,
        homes=jax.tree.map(lambda a, b: jnp.where(turn.accept, a, b), homes, search.homes),
        centre=jnp.where(turn.recentre, homes.injection, search.centre),
    )


def _executed(problem: SlotProblem, newton: Settings, search: Search) -> tuple[Answer, SlotResult]:
    """What would be done here."""
    answer = polish(problem, _raw(problem, newton, search), search.setup.corners)
    return answer, finish(problem, answer)


def proven(newton: Settings, result: SlotResult) -> Array:
    """() bool: a result within half of the tolerance."""
    ended = (result.status != Status.MAX_ITER) & (result.status != Status.NUMERICAL_ERROR)
    return ended & (result.gap <= 0.5 * newton.eps_gap * result.gap_scale)


def _raw(problem: SlotProblem, newton: Settings, search: Search) -> Answer:
    """Where the search stands, as an answer."""
    prices, rows = search.lane.base.prices, search.lane.base.rows
    homes, eps = search.homes, search.setup.eps
    moved = homes.injection - search.centre
    outside = jnp.maximum(jnp.maximum(rows - problem.row_upper, problem.row_lower - rows), 0)
    return Answer(
        injection=homes.injection,
        trades=jnp.broadcast_to(pool_trades(homes.injection), problem.market.fee.shape),
        market_price=homes.market_price,
        nodal_price=homes.market_price - nodal_surcharge(problem, prices.rows) - eps * moved,
        trade_price=jnp.reshape(prices.pool, (1, 1)),
        row_price=prices.rows,
        prim_res=jnp.maximum(jnp.abs(jnp.sum(homes.injection)), jnp.max(outside, initial=0)),
        dual_res=eps * jnp.max(jnp.abs(moved)),
        iterations=search.iterations,
        tolerance=jnp.asarray(newton.eps_gap, homes.injection.dtype),
    )


def end(problem: SlotProblem, newton: Settings, search: Search) -> Outcome:
    """What to execute: the last answer that was held against its certificate."""
    prices, found = search.lane.base.prices, (search.answer, search.result)
    state = State(prices.pool, prices.rows, search.homes.injection)
    if problem.feeder.rows:
        state, found = rescued(problem, newton, state, found, search.done)
    return Outcome(state, *found)


def pool_trades(injection: Array) -> Array:
    """(N,) kW sold to (bought from) the pool; who is indifferent deals with the utility, in proportion."""
    return share_out(injection)
