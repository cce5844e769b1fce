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
from jaxp2p.slot.kernels.choice import fused
from jaxp2p.slot.newton import step, turns
from jaxp2p.slot.newton.dual import Homes, Point, Prices, Setup, make_setup
from jaxp2p.slot.newton.rescue import rescued
from jaxp2p.slot.newton.state import Settings, State, init
from jaxp2p.slot.newton.step import Lane
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
    "prove",
    "running",
    "seeking",
    "solve",
    "suits",
    "turn",
]

At = tuple[Lane, Homes, Array]  # where a search stands: its lane, the answers to its prices, the centre (N,)


class Outcome(NamedTuple):
    """Where the iteration stopped."""

    state: State
    answer: Answer
    result: SlotResult | None = None  # of executing the answer, where nobody asked for its derivative


class Search(NamedTuple):
    """One slot under way."""

    setup: Setup
    turning: Any  # `turns.Turning`, or that of `slot.kernels.climb`
    injection: Array  # (N,) kW, of the homes where a proof was last tried
    done: Array  # () bool
    answer: Answer  # the last that was held against its certificate
    result: SlotResult  # of executing it

    @property
    def iterations(self) -> Array:
        """() int32, evaluations of all homes."""
        return self.turning.lane.iterations


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
    nothing, none = jnp.zeros_like(problem.load), jax.tree.map(jnp.zeros_like, prices)
    at_bus = problem.feeder.bus_sum(nothing)
    one = jnp.ones_like(prices.pool)
    lane = Lane(
        base=Point(prices, none, problem.row_offset, jnp.zeros_like(one), at_bus),
        trial=prices,
        length=one,
        caution=one,
        inner=jnp.zeros((), jnp.int32),
        iterations=jnp.zeros((), jnp.int32),
        fresh=jnp.ones((), bool),
        due=jnp.zeros((), bool),
    )
    homes = Homes(nothing, nothing)
    shapes = jax.eval_shape(lambda: _executed(problem, newton, setup, (lane, homes, state.centre)))
    answer, result = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    turning = _turns(problem, newton).start(problem, lane, homes, state.centre)
    return Search(setup, turning, nothing, jnp.zeros((), bool), answer, result)


def running(newton: Settings, search: Search) -> Array:
    """() bool: neither solved nor at the iteration limit."""
    return ~search.done & (search.iterations < newton.max_iter)


def advance(problem: SlotProblem, newton: Settings, search: Search) -> Search:
    """Iterations up to the next point that may be the solution, and the proof whether it is."""
    turning = _turns(problem, newton).turns(problem, newton, search.setup, search.turning)
    search = search._replace(turning=turning)
    # always due here; what is apart in a loop of its own leaves the turns one function on a processor
    return once_if(~seeking(newton, search), lambda now: prove(problem, newton, now), search)


def seeking(newton: Settings, search: Search) -> Array:
    """() bool: whether there is nothing to prove yet."""
    lane = search.turning.lane
    return step.seeking(newton, lane._replace(due=lane.due.astype(bool)))  # a number in a kernel's memory


def turn(problem: SlotProblem, newton: Settings, search: Search) -> Search:
    """One iteration, an evaluation of all homes."""
    turning = _turns(problem, newton).turn(problem, newton, search.setup, search.turning)
    return search._replace(turning=turning)


def prove(problem: SlotProblem, newton: Settings, search: Search) -> Search:
    """The proof whether this is the solution; where it is not, the centre moves and the iteration goes on."""
    by = _turns(problem, newton)
    lane, homes, centre = at = by.finish(problem, search.setup, search.turning)
    answer, result = _executed(problem, newton, search.setup, at)
    proved = proven(newton, result)
    again = lane.due & ~proved
    lane = lane._replace(
        trial=jax.tree.map(lambda a, b: jnp.where(again, a, b), lane.base.prices, lane.trial),
        inner=jnp.where(again, 0, lane.inner),
        fresh=lane.fresh | again,
        due=lane.due & proved,
    )
    turning = by.start(problem, lane, homes, jnp.where(again, homes.injection, centre))
    return search._replace(
        turning=turning, injection=homes.injection, done=proved, answer=answer, result=result
    )


def _turns(problem: SlotProblem, newton: Settings) -> Any:
    """The module that makes the turns."""
    if fused(newton.kernels):
        from jaxp2p.slot.kernels import climb as kernels

        if kernels.suits(problem):
            return kernels
    return turns


def _executed(problem: SlotProblem, newton: Settings, setup: Setup, at: At) -> tuple[Answer, SlotResult]:
    """What would be done here."""
    answer = polish(problem, _raw(problem, newton, setup.eps, at), setup.corners, setup.pieces)
    return answer, finish(problem, answer, pieces=setup.pieces, reciprocal=True)


def proven(newton: Settings, result: SlotResult) -> Array:
    """() bool: a result within half of the tolerance."""
    ended = (result.status != Status.MAX_ITER) & (result.status != Status.NUMERICAL_ERROR)
    return ended & (result.gap <= 0.5 * newton.eps_gap * result.gap_scale)


def _raw(problem: SlotProblem, newton: Settings, eps: Array, at: At) -> Answer:
    """Where the search stands, as an answer."""
    lane, homes, centre = at
    prices, rows = lane.base.prices, lane.base.rows
    moved = homes.injection - centre
    outside = jnp.maximum(jnp.maximum(rows - problem.row_upper, problem.row_lower - rows), 0)
    return Answer(
        injection=homes.injection,
        trades=jnp.broadcast_to(homes.injection, problem.market.fee.shape),  # wished: `polish` shares out
        market_price=homes.market_price,
        nodal_price=homes.market_price - nodal_surcharge(problem, prices.rows) - eps * moved,
        trade_price=jnp.reshape(prices.pool, (1, 1)),
        row_price=prices.rows,
        prim_res=jnp.maximum(jnp.abs(lane.base.gradient.pool), jnp.max(outside, initial=0)),
        dual_res=eps * jnp.max(jnp.abs(moved)),
        iterations=lane.iterations,
        tolerance=jnp.asarray(newton.eps_gap, homes.injection.dtype),
    )


def end(problem: SlotProblem, newton: Settings, search: Search) -> Outcome:
    """What to execute: the last answer that was held against its certificate, or what ADMM makes of it."""
    prices, found = search.turning.lane.base.prices, (search.answer, search.result)
    state = State(prices.pool, prices.rows, search.injection)
    if problem.feeder.rows:
        # who is still under way, in a batch that ends others, needs no rescue
        solved = search.done | running(newton, search)
        state, found = rescued(problem, newton, state, found, solved)
    return Outcome(state, *found)


def pool_trades(injection: Array) -> Array:
    """(N,) kW sold to (bought from) the pool; who is indifferent deals with the utility, in proportion."""
    return share_out(injection)
