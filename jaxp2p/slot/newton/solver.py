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
from jaxp2p.slot.newton.dual import Point, Setup, allowed_loss, evaluate, imbalance, make_setup, promising
from jaxp2p.slot.newton.rescue import rescued
from jaxp2p.slot.newton.state import Settings, State, init
from jaxp2p.slot.newton.step import move, newton_step, next_caution
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
    base: Point  # last accepted
    direction: Array  # (1 + R,)
    length: Array  # ()
    caution: Array  # () share of the damping in use
    trial: Array  # (1 + R,) prices to try next
    centre: Array  # (N,)
    inner: Array  # () int32, evaluations since the centre moved
    iterations: Array  # () int32
    fresh: Array  # () bool, the centre has just moved
    balanced: Array  # () bool, few enough rows and homes are out of balance for a proof
    done: Array  # () bool
    answer: Answer  # the last that was held against its certificate
    result: SlotResult  # of executing it


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
    prices = clamp(jnp.concatenate([state.price[None], row_price]), setup.lowest, setup.highest)
    homes, none = jnp.zeros_like(problem.load), jnp.zeros_like(prices)
    unknown: Any = None  # until their shapes are known, below
    search = Search(
        setup=setup,
        base=Point(prices, homes, homes, homes, problem.row_offset, none),
        direction=none,
        length=jnp.ones((), none.dtype),
        caution=jnp.ones((), none.dtype),
        trial=prices,
        centre=state.centre,
        inner=jnp.zeros((), jnp.int32),
        iterations=jnp.zeros((), jnp.int32),
        fresh=jnp.ones((), bool),
        balanced=jnp.zeros((), bool),
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
    waiting = lambda search: ~search.balanced & (search.iterations < newton.max_iter)
    step = lambda search: iterate(problem, newton, search)
    search = jax.lax.while_loop(waiting, step, search._replace(balanced=jnp.zeros((), bool)))
    due = promising(problem, newton, search.setup, search.base, search.centre)
    due = due | (search.iterations >= newton.max_iter)
    unproved = search.result._replace(status=jnp.full_like(search.result.status, Status.MAX_ITER))
    prove = lambda _: _executed(problem, newton, search)
    answer, result = once_if(due, prove, (search.answer, unproved))
    proved = proven(newton, result)
    again = search.balanced & ~proved
    return search._replace(
        trial=jnp.where(again, search.base.prices, search.trial),
        centre=jnp.where(again, search.base.injection, search.centre),
        inner=jnp.where(again, 0, search.inner),
        fresh=search.fresh | again,
        done=proved,
        answer=answer,
        result=result,
    )


def iterate(problem: SlotProblem, newton: Settings, search: Search) -> Search:
    """One iteration: everybody's answer to the trial prices, then the next trial."""
    setup = search.setup
    at = evaluate(problem, setup, search.trial, search.centre)
    went = search.trial - search.base.prices
    start, now = jnp.sum(search.base.gradient * went), jnp.sum(at.gradient * went)
    # accept unless the derivative along the step has turned by more than half of what it was
    accept = search.fresh | (now >= -0.5 * start) | (search.length < 0.02)
    violation, loss = imbalance(problem, setup, at)
    balanced = accept & (violation <= 1) & (loss <= allowed_loss(problem, newton))
    base = jax.tree.map(lambda a, b: jnp.where(accept, a, b), at, search.base)
    recentre = accept & ~balanced & (search.inner + 1 >= newton.centre_after)
    full = ~search.fresh & (search.length == 1)
    caution = next_caution(search.caution, full, accept, start, now)
    direction = newton_step(problem, setup, newton, base, caution)
    shorter = search.length * jnp.clip(start / jnp.maximum(start - now, 1e-30), 0.1, 0.6)
    length = jnp.where(accept | (search.caution < 1), 1, shorter)
    return search._replace(
        base=base,
        direction=direction,
        length=length,
        caution=caution,
        trial=jnp.where(recentre, base.prices, move(setup, base, length * direction)),
        centre=jnp.where(recentre, at.injection, search.centre),
        inner=jnp.where(recentre, 0, search.inner + 1),
        iterations=search.iterations + 1,
        fresh=recentre,
        balanced=balanced,
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


def end(problem: SlotProblem, newton: Settings, search: Search) -> Outcome:
    """What to execute: the last answer that was held against its certificate."""
    at, found = search.base, (search.answer, search.result)
    state = State(at.prices[0], at.prices[1:], at.injection)
    if problem.feeder.rows:
        state, found = rescued(problem, newton, state, found, search.done)
    return Outcome(state, *found)


def pool_trades(injection: Array) -> Array:
    """(N,) kW sold to (bought from) the pool; who is indifferent deals with the utility, in proportion."""
    return share_out(injection)
