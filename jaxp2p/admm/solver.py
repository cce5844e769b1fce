"""Consensus ADMM for one slot: `init`, `step`, `solve` to a tolerance, `solve_fixed` for a fixed length.

Block 1 moves every home (injection p, trades e) and the row copies s, all from the old copies and duals;
block 2 moves the copies: z of the injections (feeder), a of the trades (market); then the scaled duals w, u,
y. Two blocks in this order, so the classical theorem (Eckstein and Bertsekas 1992, over-relaxed) applies.
Only bus averages and pairwise trades leave a home.

Differences from the published method (arXiv 2505.21884): the prosumer update is exact, not a QP; network
limits are exact penalties, so there is always an answer; three penalties instead of one.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxp2p.admm.residuals import Residuals, boxed_rows, no_residuals, residuals
from jaxp2p.admm.state import ADMM, State, init, rescale, warm
from jaxp2p.prox.feeder import bus_mean, feeder_solve
from jaxp2p.prox.prosumer import Curve, ProsumerUpdate, curve, prosumer_update
from jaxp2p.prox.response import Response, price_on_polyline
from jaxp2p.prox.sensitivity import Question, with_derivative_of, with_sensitivity
from jaxp2p.prox.trades import project_trades
from jaxp2p.slot.answer import Answer
from jaxp2p.slot.problem import SlotProblem
from jaxp2p.slot.status import Status

__all__ = [
    "ADMM",
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
    "step",
    "warm",
]


class Outcome(NamedTuple):
    """Where the iteration stopped."""

    state: State
    update: ProsumerUpdate
    residuals: Residuals
    iterations: Array  # () int32
    status: Array  # () int32, Status

    @property
    def answer(self) -> Answer:
        """What `execute` needs."""
        rho, update = self.state.rho, self.update
        return Answer(
            injection=update.injection,
            trades=update.trades,
            market_price=update.market_price,
            nodal_price=update.nodal_price,
            trade_price=-rho[0] * self.state.trade_dual,
            row_price=rho[2] * self.state.row_dual,
            prim_res=jnp.max(self.residuals.prim),
            dual_res=jnp.max(self.residuals.dual),
            iterations=self.iterations,
            status=self.status,
        )


def _anchor(problem: SlotProblem, state: State) -> Array:
    """What the feeder asks of every home (N,): z_i - w_n, kW."""
    if problem.feeder is None:
        return state.injection
    return state.injection - jnp.take(state.bus_dual, problem.feeder.group, mode="clip")


def _homes(problem: SlotProblem, devices: Curve, state: State) -> ProsumerUpdate:
    question = Question(
        pieces=problem.pieces(),
        base=problem.base,
        tariff=problem.tariff,
        target=state.trades - state.trade_dual,
        anchor=_anchor(problem, state),
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


def step(problem: SlotProblem, admm: ADMM, devices: Curve, state: State) -> tuple[State, ProsumerUpdate]:
    """One iteration: the new state and what the homes answered.

    `devices` is `curve(problem.response(), state.rho[1])`, the same as long as the penalty is.
    """
    _, rho_n, rho_s = state.rho
    alpha = jnp.asarray(admm.alpha, state.rho.dtype)
    update = _homes(problem, devices, state)
    injection = alpha * update.injection + (1 - alpha) * state.injection
    trades = alpha * update.trades + (1 - alpha) * state.trades
    copies = project_trades(problem.market, trades)
    if problem.market.kind == "pool":
        trade_dual = state.trade_dual + jnp.mean(trades, axis=1, keepdims=True)
    else:
        trade_dual = state.trade_dual + trades - copies
    new = state._replace(trades=copies, trade_dual=trade_dual, injection=injection, price=update.market_price)
    if problem.feeder is not None:
        feeder = problem.feeder
        relaxed = alpha * boxed_rows(problem, state) + (1 - alpha) * (state.rows + problem.row_offset)
        mean = bus_mean(feeder, injection)
        z, rows = feeder_solve(
            feeder,
            mean + state.bus_dual,
            relaxed - state.row_dual - problem.row_offset,
            rho_injection=rho_n,
            rho_rows=rho_s,
        )
        new = new._replace(
            injection=injection - jnp.take(mean - z, feeder.group, mode="clip") * feeder.flexible,
            bus_dual=state.bus_dual + mean - z,
            rows=rows,
            row_dual=state.row_dual + rows + problem.row_offset - relaxed,
        )
    return new, update


def _adapt(admm: ADMM, state: State, last: Residuals) -> State:
    """Residual balancing per family (Boyd et al. 2011, section 3.4.1, with OSQP's square root).

    The first change waits for adapt_after checks. `free_rho_updates` changes may follow each other after
    adapt_every checks; then the pause doubles with every change, so that the penalties settle and the
    iteration converges.
    """
    tiny = jnp.finfo(state.rho.dtype).tiny
    small = jnp.maximum(jnp.max(last.prim_excess), jnp.max(last.dual_excess)) <= 1
    # only the cost of the residuals is left: prices creep, and a larger penalty lets them run
    prim = jnp.where(small, jnp.maximum(last.prim_excess, last.gap_excess), last.prim_excess)
    ratio = jnp.sqrt((prim + tiny) / (last.dual_excess + tiny))
    fine = (prim <= jnp.where(small, 0.5, 1)) & (last.dual_excess <= 1)
    balanced = (ratio < admm.rho_band) & (ratio > 1 / admm.rho_band)
    factor = jnp.where(fine | balanced, 1, jnp.clip(ratio, 0.2, jnp.where(small, 2, 5)))
    clamp = jnp.asarray(admm.rho_clamp, state.rho.dtype)
    wanted = jnp.clip(state.rho * factor, state.rho_start / clamp, state.rho_start * clamp)
    age = state.rho_age + 1
    pause = admm.adapt_every * 2 ** jnp.clip(state.rho_updates - admm.free_rho_updates, 0, 20)
    pause = jnp.where(state.rho_updates == 0, max(admm.adapt_every, admm.adapt_after), pause)
    changed = (age >= pause) & jnp.any(wanted != state.rho) & ~last.converged
    new = rescale(state, jnp.where(changed, wanted, state.rho))
    return new._replace(
        rho_updates=state.rho_updates + changed.astype(jnp.int32), rho_age=jnp.where(changed, 0, age)
    )


def _block(
    problem: SlotProblem, admm: ADMM, devices: Response, state: State
) -> tuple[State, tuple[ProsumerUpdate, Residuals]]:
    """check_every steps, with the residuals of the last."""
    at_rho = curve(devices, state.rho[1])

    def body(_, carry):
        return carry[1], *step(problem, admm, at_rho, carry[1])

    # One copy of the step in the program: the last pair of states is carried out for the residuals.
    carry = (state, state, _no_update(problem))
    old, new, update = jax.lax.fori_loop(0, admm.check_every, body, carry)
    return new, (update, residuals(problem, admm, old, new, update))


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


def solve(problem: SlotProblem, admm: ADMM, state: State) -> Outcome:
    """Iterate from `state` (see `init`, `warm`) until every residual is below its tolerance.

    A `while_loop`: forward only. Derivatives: `admm.adjoint`.
    """
    unfinished = lambda search: running(admm, search)
    advanced = lambda search: advance(problem, admm, search)
    return end(jax.lax.while_loop(unfinished, advanced, begin(problem, state)))


def begin(problem: SlotProblem, state: State) -> Search:
    """Before the first iteration; `advance` while `running`, then `end`."""
    residuals_ = no_residuals(problem.load.dtype)
    return Search(problem.response(), state, _no_update(problem), residuals_, jnp.zeros((), jnp.int32))


def running(admm: ADMM, search: Search) -> Array:
    """() bool: neither solved nor at the iteration limit."""
    return (search.iterations < admm.max_iter) & ~search.residuals.converged


def advance(problem: SlotProblem, admm: ADMM, search: Search) -> Search:
    """A block of check_every iterations, its residuals, and penalties that follow them."""
    state, (update, last) = _block(problem, admm, search.devices, search.state)
    return Search(
        search.devices, _adapt(admm, state, last), update, last, search.iterations + admm.check_every
    )


def end(search: Search) -> Outcome:
    """What to execute, from wherever the search stands."""
    return _outcome(*search)


def solve_fixed(problem: SlotProblem, admm: ADMM, state: State, iterations: int) -> tuple[Outcome, Residuals]:
    """Exactly `iterations` steps with constant penalties: constant latency, differentiable by scan.

    Reverse mode keeps one state per iteration and works the step out again. Also returns the residual
    history, every leaf (iterations, 3).
    """
    devices = problem.response()
    at_rho = curve(devices, state.rho[1])

    @partial(jax.checkpoint, prevent_cse=False)
    def body(carry, _):
        new, update = step(problem, admm, at_rho, carry[0])
        return (new, update), residuals(problem, admm, carry[0], new, update)

    carry = (state, _no_update(problem))
    (state, update), history = jax.lax.scan(body, carry, length=iterations)
    last = jax.tree.map(lambda x: x[-1], history)
    return _outcome(devices, state, update, last, jnp.asarray(iterations, jnp.int32)), history


def _outcome(
    devices: Response, state: State, update: ProsumerUpdate, last: Residuals, iterations: Array
) -> Outcome:
    nodal_price = price_on_polyline(
        devices, price=update.nodal_price, power=update.injection, slope=state.rho[1]
    )
    # exact on a jump; the motion of the price is known already (`prox.sensitivity`)
    nodal_price = with_derivative_of(jax.lax.stop_gradient(nodal_price), update.nodal_price)
    update = update._replace(nodal_price=nodal_price)
    status = jnp.where(last.converged, Status.SOLVED, Status.MAX_ITER)
    finite = jnp.all(jnp.isfinite(last.prim)) & jnp.all(jnp.isfinite(last.dual))
    status = jnp.where(finite, status, Status.NUMERICAL_ERROR).astype(jnp.int32)
    return Outcome(state, update, last, iterations, status)
