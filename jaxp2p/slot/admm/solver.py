"""Consensus ADMM for one slot: `init`, `step`, `solve` to a tolerance, `solve_fixed` for a fixed length.

Block 1 moves every home (injection p, trades e), from the old copies and duals; block 2 moves the copies: a
of the trades (market) and z of the injections, which keep the network rows (`feeder`); then the duals: u of
the trades, row prices of the injections. Two blocks in this order, so the classical theorem (Eckstein and
Bertsekas 1992, over-relaxed) applies. Only bus averages and pairwise trades leave a home.

Rows that neither bind nor are violated are left out, block by block, so a network with room costs one look
per block. The iteration stops when the executed dispatch is proved to be near the optimum (`slot.gap`).

Differences from the published method (arXiv 2505.21884): the prosumer update is exact, not a QP; network
limits are exact penalties, so there is always an answer; two penalties instead of one.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxp2p._once import once_if
from jaxp2p._pytree import pick_tree, present
from jaxp2p.slot.admm.feeder import RowsAtWork, any_at_work, kept_at_buses, moving_with, rows_at_work
from jaxp2p.slot.admm.leap import Change, best_leap, last_change, leapt
from jaxp2p.slot.admm.level import levelled
from jaxp2p.slot.admm.residuals import Residuals, no_residuals, residuals
from jaxp2p.slot.admm.state import Settings, State, at_rest, carried_over, rescale, safe
from jaxp2p.slot.answer import Answer
from jaxp2p.slot.execute import SlotResult, finish
from jaxp2p.slot.kernels.choice import fused, interpreted, suits_kernel
from jaxp2p.slot.polish import moving_as, polish
from jaxp2p.slot.problem import SlotProblem
from jaxp2p.slot.prox.prosumer import Curve, ProsumerUpdate, curve, prosumer_update
from jaxp2p.slot.prox.response import Response
from jaxp2p.slot.prox.sensitivity import Question, with_sensitivity
from jaxp2p.slot.rows import bus_surcharge, nodal_surcharge, row_tolerance, with_unavoidable

__all__ = [
    "Outcome",
    "Residuals",
    "Search",
    "State",
    "advance",
    "begin",
    "end",
    "init",
    "running",
    "solve",
    "solve_fixed",
    "start",
    "step",
    "warm",
]


SHARE = 0.95  # of the tolerance that a gap may use: no rounding of the same certificate takes the rest
HALVES = 1.25  # checks in which a gap becomes half as large, or somewhat fewer than it takes


# the last two states, which residuals need, and what homes answered
Pair = tuple[State, State, ProsumerUpdate]


class Outcome(NamedTuple):
    """Where the iteration stopped."""

    state: State
    update: ProsumerUpdate
    residuals: Residuals
    iterations: Array  # () int32
    answer: Answer  # what `execute` needs
    result: SlotResult | None = None  # of executing it, where nobody asked for its derivative


def _homes(problem: SlotProblem, devices: Curve, state: State, surcharge: Array) -> ProsumerUpdate:
    question = Question(
        pieces=problem.pieces(),
        base=problem.base,
        tariff=problem.tariff,
        target=state.trades - state.trade_dual,
        anchor=state.injection - surcharge / state.rho[1],
        rho=state.rho[0],
        rho_injection=state.rho[1],
        fee=problem.market.fee,
        limit=problem.trade_limit,
    )
    # reverse mode cannot pass the search inside; the answer knows its own derivative
    devices, fixed, start = jax.lax.stop_gradient((devices, question, state.price))
    update = prosumer_update(
        devices,
        fixed.tariff,
        target=fixed.target,
        anchor=fixed.anchor,
        rho=fixed.rho,
        rho_injection=fixed.rho_injection,
        fee=fixed.fee,
        limit=fixed.limit,
        start=start,
    )
    return with_sensitivity(update, question)


def step(
    problem: SlotProblem, admm: Settings, devices: Curve, state: State, work: RowsAtWork | None = None
) -> tuple[State, ProsumerUpdate]:
    """One iteration: the new state and what the homes answered.

    `devices` is `curve(problem.response(), state.rho[1])`, the same as long as the penalty is. `work`: the
    network rows that matter; None: no network.
    """
    alpha = jnp.asarray(admm.alpha, state.rho.dtype)
    surcharge = jnp.zeros_like(state.injection)
    if work is not None:
        surcharge = jax.lax.cond(
            work.busy,
            lambda: nodal_surcharge(problem, state.row_price),
            lambda: jnp.zeros_like(state.injection),
        )
    update = _homes(problem, devices, state, surcharge)
    injection = alpha * update.injection + (1 - alpha) * state.injection
    trades = alpha * update.trades + (1 - alpha) * state.trades
    market = problem.market
    row_price = state.row_price
    if work is not None:
        injection, row_price = jax.lax.cond(
            work.busy,
            lambda: _kept(problem, work, row_price, injection, state.rho[1]),
            lambda: (injection, row_price),
        )
    new = state._replace(
        trades=market.project(trades),
        trade_dual=state.trade_dual + market.rest(trades),
        injection=injection,
        row_price=row_price,
        price=update.market_price,
    )
    return new, update


def _kept(
    problem: SlotProblem, work: RowsAtWork, row_price: Array, wished: Array, rho: Array
) -> tuple[Array, Array]:
    """Copies (N,) nearest to what the homes wish that keep the network rows, and the prices of those (R,)."""
    moved, row_price = kept_at_buses(problem, work, row_price, problem.feeder.bus_sum(wished), rho)
    return wished + bus_surcharge(problem, moved), row_price


def _fused_steps(
    problem: SlotProblem, admm: Settings, devices: Response, state: State, work: RowsAtWork | None
) -> Pair:
    """check_every steps by a kernel per step."""
    from jaxp2p.slot.kernels import consensus

    about = consensus.community(problem, admm, devices, state.rho)
    none = jnp.zeros_like(problem.feeder.count) if problem.feeder.rows else None

    def one_step(now: consensus.Open, row_price: Array, *, answers: bool):
        bus_price = None
        if work is not None:
            bus_price = jax.lax.cond(work.busy, lambda: problem.feeder.bus_price(row_price), lambda: none)
        now, at_bus, update = consensus.homes_step(
            problem, about, now, bus_price, interpret=interpreted(admm.kernels), answers=answers
        )
        if work is not None:
            moved, row_price = jax.lax.cond(
                work.busy,
                lambda: kept_at_buses(problem, work, row_price, present(at_bus), state.rho[1]),
                lambda: (none, row_price),
            )
            now = now._replace(moved=moved)
        return now, row_price, update

    def body(_, carry):
        return one_step(*carry, answers=False)[:2]

    begun = consensus.opened(problem, state), state.row_price
    now, row_price = jax.lax.fori_loop(0, admm.check_every - 1, body, begun)
    old = consensus.closed(problem, state, now, row_price)
    now, row_price, update = one_step(now, row_price, answers=True)
    return old, consensus.closed(problem, state, now, row_price), update


def at_work(problem: SlotProblem, admm: Settings, state: State) -> RowsAtWork | None:
    """The network rows that matter at this state; None where there are no rows."""
    if not problem.feeder.rows:
        return None
    at_bus = problem.feeder.bus_sum(state.injection)
    tolerance = row_tolerance(problem, flow=admm.eps_flow, voltage=admm.eps_voltage)
    return rows_at_work(problem, state.row_price, at_bus, tolerance, most=admm.rows_at_once)


def _adapt(admm: Settings, state: State, last: Residuals, iterations: Array) -> State:
    """Residual balancing per family (Boyd et al. 2011, section 3.4.1, with OSQP's square root).

    The first change waits for adapt_after checks. `free_rho_updates` changes may follow each other after
    adapt_every checks; then the pause doubles with every change, so that the penalties settle and the
    iteration converges.
    """
    tiny = jnp.finfo(state.rho.dtype).tiny
    ratio = jnp.sqrt((last.prim_excess + tiny) / (last.dual_excess + tiny))
    fine = (last.prim_excess <= 1) & (last.dual_excess <= 1)
    balanced = (ratio < admm.rho_band) & (ratio > 1 / admm.rho_band)
    factor = jnp.where(fine | balanced, 1, jnp.clip(ratio, 0.2, 5))
    clamp = jnp.asarray(admm.rho_clamp, state.rho.dtype)
    wanted = jnp.clip(state.rho * factor, state.rho_start / clamp, state.rho_start * clamp)
    age = state.rho_age + 1
    pause = admm.adapt_every * 2 ** jnp.clip(state.rho_updates - admm.free_rho_updates, 0, 20)
    pause = jnp.where(state.rho_updates == 0, max(admm.adapt_every, admm.adapt_after), pause)
    # what balancing did not end in time goes on with the penalties that it started from
    late = iterations >= admm.balance_until
    wanted = jnp.where(late, state.rho_start, wanted)
    changed = ((age >= pause) | late) & jnp.any(wanted != state.rho) & ~last.converged
    new = rescale(state, jnp.where(changed, wanted, state.rho))
    return new._replace(
        rho_updates=state.rho_updates + changed.astype(jnp.int32), rho_age=jnp.where(changed, 0, age)
    )


def _block(
    problem: SlotProblem, admm: Settings, devices: Response, state: State
) -> tuple[State, tuple[ProsumerUpdate, Residuals]]:
    """check_every steps, with the residuals of the last."""
    pair = (state, state, _no_update(problem))
    steps = partial(_steps, problem, admm, devices)
    if problem.feeder.rows:
        # two programs: without a network in it a block is a single function, and no lane of a batch that has
        # room waits for the rows of another
        busy = any_at_work(problem, state.row_price, problem.feeder.bus_sum(state.injection))
        old, new, update = _keeping_rows(problem, admm, steps, busy, once_if(~busy, steps, pair))
    else:
        old, new, update = steps(pair)
    return new, (update, residuals(problem, admm, old, new, update))


def _keeping_rows(
    problem: SlotProblem, admm: Settings, steps: Callable[..., Pair], busy: Array, pair: Pair
) -> Pair:
    """A block's steps where a row of the network is at work."""
    return once_if(busy, lambda pair: steps(pair, at_work(problem, admm, pair[1])), pair)


def _steps(
    problem: SlotProblem, admm: Settings, devices: Response, begun: Pair, work: RowsAtWork | None = None
) -> Pair:
    """check_every steps from the second state of the pair."""
    if fused(admm.kernels) and suits_kernel(problem.market):
        return _fused_steps(problem, admm, devices, begun[1], work)
    at_rho = curve(devices, begun[1].rho[1])

    def body(_, carry):
        return carry[1], *step(problem, admm, at_rho, carry[1], work)

    return jax.lax.fori_loop(0, admm.check_every, body, begun)


def _no_update(problem: SlotProblem) -> ProsumerUpdate:
    zeros = jnp.zeros_like(problem.load)
    return ProsumerUpdate(zeros, jnp.zeros_like(problem.market.fee), zeros, zeros)


class Search(NamedTuple):
    """One slot under way."""

    devices: Response
    state: State
    update: ProsumerUpdate
    residuals: Residuals
    iterations: Array  # () int32
    answer: Answer  # the best that was held against its certificate
    result: SlotResult | None  # of executing it
    least: Array  # () its gap, as in `residuals`
    look_at: Array  # () int32, iterations before which small residuals are no reason to work the gap out


def solve(problem: SlotProblem, admm: Settings, state: State) -> Outcome:
    """Iterate from `state` (see `init`, `warm`) until the slot is solved.

    A `while_loop`: forward only. Derivatives: `slot.admm.adjoint`.
    """
    unfinished = lambda search: running(admm, search)
    advanced = lambda search: advance(problem, admm, search)
    return end(problem, admm, jax.lax.while_loop(unfinished, advanced, begin(problem, admm, state)))


def init(problem: SlotProblem, admm: Settings) -> State:
    """Cold start: nothing traded, and one price for all that balances those who deal at it."""
    return levelled(problem, at_rest(problem, admm))


def warm(problem: SlotProblem, admm: Settings, state: State) -> State:
    """The state as a start for another slot: where it stood, with all prices moved together."""
    return levelled(problem, carried_over(problem, admm, state))


def start(problem: SlotProblem, admm: Settings, state: State, first: Array) -> State:
    """`init` where `first` () bool, else `warm`: prices are moved once, whichever it is."""
    at_first, later = at_rest(problem, admm), carried_over(problem, admm, state)
    return levelled(problem, pick_tree(first, at_first, later))


def begin(problem: SlotProblem, admm: Settings, state: State) -> Search:
    """Before the first iteration; `advance` while `running`, then `end`."""
    residuals_ = no_residuals(problem.load.dtype)
    state = state._replace(row_price=with_unavoidable(problem, state.row_price))
    search = (problem.response(), state, _no_update(problem), residuals_, jnp.zeros((), jnp.int32))
    unknown: Any = None  # its shapes are what is asked for
    none = jnp.zeros((), jnp.int32)
    started = Search(*search, unknown, unknown, jnp.full_like(residuals_.gap, jnp.inf), none)

    def known() -> tuple[Answer, SlotResult]:
        answer = _raw(problem, admm, started)
        return answer, finish(problem, answer)

    shapes = jax.eval_shape(known)
    answer, result = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return started._replace(answer=answer, result=result)


def running(admm: Settings, search: Search) -> Array:
    """() bool: neither solved nor at the iteration limit."""
    return (search.iterations < admm.max_iter) & ~search.residuals.converged


def advance(problem: SlotProblem, admm: Settings, search: Search) -> Search:
    """A block of check_every iterations, its residuals, and penalties that follow them."""
    state, (update, last) = _block(problem, admm, search.devices, search.state)
    iterations = search.iterations + admm.check_every
    due = (iterations % (admm.check_every * admm.gap_every) == 0) | (iterations >= admm.max_iter)
    found = search._replace(state=state, update=update, residuals=last, iterations=iterations)
    change = last_change(search.state, state)
    due = due | (last.small & (last.row_excess <= 1) & (iterations >= search.look_at))
    # a batch hands on those that are through as well: nobody looks for other prices for them
    going = running(admm, search)
    with_gap = lambda now: _with_gap(problem, admm, now, change, going)
    found = once_if(due, with_gap, found)
    return found._replace(state=_adapt(admm, found.state, found.residuals, iterations))


def _with_gap(problem: SlotProblem, admm: Settings, search: Search, change: Change, going: Array) -> Search:
    """The search with the gap of what would be executed, and prices moved to where that is smaller.

    going () bool: whether it has not ended before.
    """
    last = search.residuals
    answer = polish(problem, _raw(problem, admm, search), search.devices)
    # leaps may end where they began, again and again: every other stretch goes without
    pause = 2 * admm.check_every * admm.gap_every
    stretch = search.iterations // max(admm.balance_until, 1)
    late = going & (search.iterations % pause == 0) & (stretch % 2 == 0)
    result, excess, leap = best_leap(
        problem, answer, present(search.result), SHARE * admm.eps_gap, change, also=late
    )
    found = last._replace(gap=excess)
    better = (excess <= search.least) | found.converged
    new, old = (answer, result), (search.answer, search.result)
    answer, result = jax.tree.map(lambda new, old: jnp.where(better, new, old), new, old)
    least = jnp.where(better, excess, search.least)
    # half as large after some HALVES checks: nothing is gained by looking much sooner
    checks = HALVES * jnp.log2(jnp.where(jnp.isfinite(excess), jnp.maximum(excess, 1), 1))
    checks = jnp.clip(jnp.ceil(checks), 1, admm.gap_every).astype(jnp.int32)
    look_at = search.iterations + admm.check_every * checks
    state = safe(problem, admm, leapt(problem, search.state, change, leap))
    return search._replace(
        state=state, answer=answer, result=result, least=least, residuals=found, look_at=look_at
    )


def _raw(problem: SlotProblem, admm: Settings, search: "Search | Outcome") -> Answer:
    """Where the iteration stands, as an answer."""
    state, update = search.state, search.update
    return Answer(
        injection=update.injection,
        trades=update.trades,
        market_price=update.market_price,
        nodal_price=update.nodal_price,
        trade_price=-state.rho[0] * state.trade_dual,
        row_price=state.row_price,
        prim_res=jnp.max(search.residuals.prim),
        dual_res=jnp.max(search.residuals.dual),
        iterations=search.iterations,
        tolerance=jnp.asarray(admm.eps_gap, problem.load.dtype),
    )


def end_of(
    problem: SlotProblem, admm: Settings, search: "Search | Outcome", found: Answer | None = None
) -> Answer:
    """What `execute` needs, moving with the problem as state and update do; `found` where it is at hand."""
    raw = _raw(problem, admm, search)
    return polish(problem, raw) if found is None else moving_as(problem, raw, found)


def end(problem: SlotProblem, admm: Settings, search: Search) -> Outcome:
    """What to execute: the best answer that was held against its certificate."""
    found = search.answer, search.result
    return Outcome(search.state, search.update, search.residuals, search.iterations, *found)


def solve_fixed(
    problem: SlotProblem, admm: Settings, state: State, iterations: int
) -> tuple[Outcome, Residuals]:
    """Exactly `iterations` steps with constant penalties: constant latency, differentiable by scan.

    Reverse mode keeps one state per iteration and works the step out again. Also returns the residual
    history, every leaf with a leading axis of iterations.
    """
    search = begin(problem, admm, state)
    at_rho = curve(search.devices, state.rho[1])

    @partial(jax.checkpoint, prevent_cse=False)
    def body(carry, _):
        work = moving_with(problem, at_work(*jax.lax.stop_gradient((problem, admm, carry[0]))))
        new, update = step(problem, admm, at_rho, carry[0], work)
        return (new, update), residuals(problem, admm, carry[0], new, update)

    carry = (search.state, _no_update(problem))
    (state, update), history = jax.lax.scan(body, carry, length=iterations)
    last = jax.tree.map(lambda x: x[-1], history)
    found = search._replace(
        state=state, update=update, residuals=last, iterations=jnp.asarray(iterations, jnp.int32)
    )
    return end(problem, admm, found._replace(answer=end_of(problem, admm, found), result=None)), history
