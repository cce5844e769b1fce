"""Consensus ADMM for one slot: `init`, `step`, `solve` to a tolerance, `solve_fixed` for a fixed length.

Block 1 moves every home (injection p, trades e) and the row copies s, all from the old copies and duals;
block 2 moves the copies: z of the injections (feeder), a of the trades (market); then the scaled duals w, u,
y. Two blocks in this order, so the classical theorem (Eckstein and Bertsekas 1992, over-relaxed) applies.
Only bus averages and pairwise trades leave a home.

Differences from the published method (arXiv 2505.21884): the prosumer update is exact, not a QP; network
limits are exact penalties, so there is always an answer; three penalties instead of one.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxp2p._pytree import record, static
from jaxp2p.admm.problem import SlotProblem
from jaxp2p.admm.status import Status
from jaxp2p.prox.feeder import bus_mean, feeder_solve, penalised_box
from jaxp2p.prox.feeder import rows as feeder_rows
from jaxp2p.prox.prosumer import Curve, ProsumerUpdate, curve, prosumer_update
from jaxp2p.prox.response import Response
from jaxp2p.prox.trades import project_trades


@record
class ADMM:
    """Solver configuration. Leaves may be traced, batched and differentiated; the rest is structure.

    Residuals in kW must fall below eps_power + eps_rel * (largest power), those in EUR/kWh below
    eps_price + eps_rel * max(b - s, 0.01), each family (trades, injections, rows) for itself. What the homes
    inject must meet the row copies within eps_flow and eps_voltage: absolute, as grid limits are. And what the
    primal residuals cost at the present prices must fall below eps_gap of the energy traded and consumed:
    that is the first-order error of the executed cost.
    """

    rho: float | Array = 0.3  # trade penalty in units of price scale / power scale of the problem
    rho_injection: float | Array = 0.3  # injection penalty, same unit
    rho_rows: float | Array = 0.05  # row penalty, same unit
    alpha: float | Array = 1.6  # over-relaxation
    eps_power: float | Array = 2e-3  # kW
    eps_price: float | Array = 1e-4  # EUR/kWh
    eps_rel: float | Array = 1e-3
    eps_gap: float | Array = 5e-4
    eps_flow: float | Array = 0.02  # kW
    eps_voltage: float | Array = 4e-5  # p.u.
    rho_clamp: float | Array = 1e3  # a penalty stays within this factor of its start
    rho_band: float | Array = 5.0  # square root of the residual ratio beyond which a penalty changes
    max_iter: int = static(default=3000)
    check_every: int = static(default=5)
    free_rho_updates: int = static(default=4)  # changes of the penalties before their pause doubles
    adapt_every: int = static(default=4)  # checks between changes of the penalties


class State(NamedTuple):
    """Everything that moves; also the warm start of the next slot."""

    trades: Array  # (K, N) kW, a
    trade_dual: Array  # (K, N) kW, u, symmetric; pool: (1, 1)
    injection: Array  # (N,) kW, z_i
    bus_dual: Array  # (G,) kW, w
    rows: Array  # (R,) kW, A M z without offset
    row_dual: Array  # (R,) kW, y
    price: Array  # (N,) EUR/kWh, mu: where the next update starts to look
    rho: Array  # (3,) (EUR/kWh)/kW: trades, injections, rows
    rho_start: Array  # (3,)
    rho_updates: Array  # () int32
    rho_age: Array  # () int32, checks since the penalties last changed


class Residuals(NamedTuple):
    """Largest residuals per family (trades, injections, rows), and all that count over their tolerance."""

    prim: Array  # (3,) kW
    dual: Array  # (3,) EUR/kWh
    prim_excess: Array  # (3,) residual / tolerance
    dual_excess: Array  # (3,)
    gap_excess: Array  # (3,) cost of the primal residuals over its tolerance; the sum counts

    @property
    def converged(self) -> Array:
        """() bool: every residual below its tolerance."""
        worst = jnp.maximum(jnp.max(self.prim_excess), jnp.max(self.dual_excess))
        return jnp.maximum(worst, jnp.sum(self.gap_excess)) <= 1


class Outcome(NamedTuple):
    """Where the iteration stopped; `executed` turns it into a dispatch."""

    state: State
    update: ProsumerUpdate
    residuals: Residuals
    iterations: Array  # () int32
    status: Array  # () int32, Status


def _start_penalties(problem: SlotProblem, admm: ADMM) -> Array:
    unit = problem.price_scale / problem.power_scale
    return jnp.stack([unit * x for x in (admm.rho, admm.rho_injection, admm.rho_rows)]).astype(unit.dtype)


def init(problem: SlotProblem, admm: ADMM) -> State:
    """Cold start: nothing traded, everything at rest."""
    homes, dtype = problem.load.shape[0], problem.load.dtype
    slots = problem.market.fee.shape[0]
    groups = 0 if problem.feeder is None else problem.feeder.count.shape[0]
    rho = _start_penalties(problem, admm)
    return State(
        trades=jnp.zeros((slots, homes), dtype),
        trade_dual=jnp.zeros((1, 1) if problem.market.kind == "pool" else (slots, homes), dtype),
        injection=problem.pv_max - problem.load,
        bus_dual=jnp.zeros((groups,), dtype),
        rows=jnp.zeros(problem.row_offset.shape, dtype),
        row_dual=jnp.zeros(problem.row_offset.shape, dtype),
        price=jnp.broadcast_to((problem.price_buy + problem.price_sell) / 2, (homes,)),
        rho=rho,
        rho_start=rho,
        rho_updates=jnp.zeros((), jnp.int32),
        rho_age=jnp.zeros((), jnp.int32),
    )


def warm(problem: SlotProblem, admm: ADMM, state: State) -> State:
    """The state as a start for another slot: copies and duals stay, in the new slot's penalties.

    Duals are kept as prices (scaled dual times penalty), so a change of the penalty does not move them.
    """
    ratio = state.rho / state.rho_start
    start = _start_penalties(problem, admm)
    none = jnp.zeros((), jnp.int32)
    return rescale(state, start * ratio)._replace(rho_start=start, rho_updates=none, rho_age=none)


def rescale(state: State, rho: Array) -> State:
    """The state under other penalties (3,), with the same prices."""
    factor = state.rho / rho
    return state._replace(
        trade_dual=state.trade_dual * factor[0],
        bus_dual=state.bus_dual * factor[1],
        row_dual=state.row_dual * factor[2],
        rho=rho,
    )


def _anchor(problem: SlotProblem, state: State) -> Array:
    """What the feeder asks of every home (N,): z_i - w_n, kW."""
    if problem.feeder is None:
        return state.injection
    return state.injection - jnp.take(state.bus_dual, problem.feeder.group, mode="clip")


def _homes(problem: SlotProblem, devices: Curve, state: State) -> ProsumerUpdate:
    return prosumer_update(
        devices,
        problem.tariff,
        target=state.trades - state.trade_dual,
        anchor=_anchor(problem, state),
        rho=state.rho[0],
        rho_injection=state.rho[1],
        fee=problem.market.fee,
        limit=problem.trade_limit,
        start=state.price,
    )


def step(
    problem: SlotProblem, admm: ADMM, devices: Curve, state: State
) -> tuple[State, ProsumerUpdate]:
    """One iteration: the new state and what the homes answered.

    `devices` is `curve(problem.response(), state.rho[1])`, the same as long as the penalty is.
    """
    rho, rho_n, rho_s = state.rho
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
        relaxed = alpha * _boxed_rows(problem, state) + (1 - alpha) * (state.rows + problem.row_offset)
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


def _boxed_rows(problem: SlotProblem, state: State) -> Array:
    """Row copies s (R,): the rows moved towards their limits as far as the penalty pays."""
    return penalised_box(
        state.rows + problem.row_offset + state.row_dual,
        problem.row_lower,
        problem.row_upper,
        problem.row_penalty,
        state.rho[2],
    )


def _largest(x: Array) -> Array:
    return jnp.max(jnp.abs(x), initial=0)


def _imbalance_cost(problem: SlotProblem, price: Array, surplus: Array) -> Array:
    """EUR/h (N,) lost when the utility takes a surplus in kW (or covers a shortage) in place of peers.

    To first order: nothing where the home deals with the utility anyway (mu = b or s).
    """
    buy, sell = problem.price_buy, problem.price_sell
    if problem.unserved_price is not None:
        buy = jnp.where(price > buy, buy + problem.unserved_price, buy)
        sell = jnp.where(price < sell, sell - problem.unserved_price, sell)
    return jnp.maximum(surplus, 0) * (price - sell) + jnp.maximum(-surplus, 0) * (buy - price)


def _slackness_cost(problem: SlotProblem, price: Array, value: Array) -> Array:
    """EUR/h (R,) between a row's price (> 0 at an upper limit) and what it does: |price| times the distance
    to the limit that is priced. A row priced at the penalty itself may be beyond its limit at no loss.
    """
    beyond = jnp.where(price > 0, value - problem.row_upper, problem.row_lower - value)
    saturated = (jnp.abs(price) > 0.999 * problem.row_penalty) & (beyond > 0)
    return jnp.where((price == 0) | saturated, 0, jnp.abs(price) * jnp.abs(jnp.where(price == 0, 0, beyond)))


def residuals(
    problem: SlotProblem, admm: ADMM, old: State, new: State, update: ProsumerUpdate
) -> Residuals:
    """Residuals of the step from `old` to `new`."""
    row_gap, row_tol = jnp.zeros_like(new.rows), jnp.ones_like(new.rows)
    if problem.feeder is not None:
        executed = feeder_rows(problem.feeder, bus_mean(problem.feeder, update.injection)) + problem.row_offset
        row_gap = _boxed_rows(problem, old) - executed
        row_tol = _row_tolerance(problem, admm)
    flexible = jnp.ones_like(new.injection) if problem.feeder is None else problem.feeder.flexible
    imbalance = update.trades - new.trades
    prim = [_largest(imbalance), _largest((update.injection - new.injection) * flexible), _largest(row_gap)]
    dual = [
        old.rho[0] * _largest(new.trades - old.trades),
        old.rho[1] * _largest((new.injection - old.injection) * flexible),
        jnp.zeros_like(prim[0]),
    ]
    if problem.feeder is not None:
        # what a step of the rows does to the price of the homes: rho_s A^T (rows+ - rows)
        push = jnp.matmul(new.rows - old.rows, problem.feeder.matrix, precision=jax.lax.Precision.HIGHEST)
        dual[2] = old.rho[2] * _largest(push)
    power = jnp.stack([_largest(update.trades), _largest(update.injection)])
    spread = jnp.maximum(problem.price_buy - problem.price_sell, 0.01)
    power_tol = admm.eps_power + admm.eps_rel * power
    dual_tol = admm.eps_price + admm.eps_rel * spread
    prim, dual = jnp.stack(prim), jnp.stack(dual)
    cost = jnp.sum(_imbalance_cost(problem, update.market_price, jnp.sum(imbalance, axis=0)))
    slip = [cost, jnp.zeros_like(cost), jnp.zeros_like(cost)]
    if problem.feeder is not None:
        price = old.rho[2] * new.row_dual
        price = jnp.where(jnp.abs(price) > dual_tol, price, 0)  # less would not be seen in any home's price
        slip[2] = jnp.sum(_slackness_cost(problem, price, executed))
    gap = jnp.stack(slip) / (spread * jnp.sum(jnp.abs(update.injection)) + jnp.finfo(cost.dtype).tiny)
    prim_excess = jnp.append(prim[:2] / power_tol, _largest(row_gap / row_tol))
    return Residuals(prim, dual, prim_excess, dual / dual_tol, gap / admm.eps_gap)


def _row_tolerance(problem: SlotProblem, admm: ADMM) -> Array:
    """(R,) kW: eps_flow for branch rows, eps_voltage in kW (at 1 p.u. half the squared voltage) for buses."""
    feeder = problem.feeder
    volts = feeder.voltage_bus.shape[0]
    at_bus = jnp.maximum(2 * admm.eps_voltage / feeder.scale[:volts], admm.eps_flow)
    return jnp.append(at_bus, jnp.broadcast_to(admm.eps_flow, feeder.flow_branch.shape).astype(at_bus.dtype))


def _adapt(admm: ADMM, state: State, last: Residuals) -> State:
    """Residual balancing per family (Boyd et al. 2011, section 3.4.1, with OSQP's square root).

    The first `free_rho_updates` changes may follow each other after adapt_every checks; then the pause
    doubles with every change, so that the penalties settle and the iteration converges.
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


def _no_residuals(dtype) -> Residuals:
    worst = jnp.full((3,), jnp.inf, dtype)
    return Residuals(worst, worst, worst, worst, worst)


def solve(problem: SlotProblem, admm: ADMM, state: State) -> Outcome:
    """Iterate from `state` (see `init`, `warm`) until every residual is below its tolerance.

    A `while_loop`: forward only. Reverse mode goes through `solve_fixed`.
    """
    devices = problem.response()

    def unfinished(carry):
        _, _, last, iterations = carry
        return (iterations < admm.max_iter) & ~last.converged

    def block(carry):
        state, _, _, iterations = carry
        state, (update, last) = _block(problem, admm, devices, state)
        return (
            _adapt(admm, state, last),
            update,
            last,
            iterations + admm.check_every,
        )

    carry = (state, _no_update(problem), _no_residuals(problem.load.dtype), jnp.zeros((), jnp.int32))
    return _outcome(*jax.lax.while_loop(unfinished, block, carry))


def solve_fixed(
    problem: SlotProblem, admm: ADMM, state: State, iterations: int
) -> tuple[Outcome, Residuals]:
    """Exactly `iterations` steps with constant penalties: constant latency, differentiable by scan.

    Also returns the residual history, every leaf (iterations, 3).
    """
    devices = curve(problem.response(), state.rho[1])

    def body(carry, _):
        new, update = step(problem, admm, devices, carry[0])
        return (new, update), residuals(problem, admm, carry[0], new, update)

    carry = (state, _no_update(problem))
    (state, update), history = jax.lax.scan(body, carry, length=iterations)
    last = jax.tree.map(lambda x: x[-1], history)
    return _outcome(state, update, last, jnp.asarray(iterations, jnp.int32)), history


def _outcome(state: State, update: ProsumerUpdate, last: Residuals, iterations: Array) -> Outcome:
    status = jnp.where(last.converged, Status.SOLVED, Status.MAX_ITER)
    finite = jnp.all(jnp.isfinite(last.prim)) & jnp.all(jnp.isfinite(last.dual))
    status = jnp.where(finite, status, Status.NUMERICAL_ERROR).astype(jnp.int32)
    return Outcome(state, update, last, iterations, status)
