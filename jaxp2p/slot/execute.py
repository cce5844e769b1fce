"""From where the iteration stopped to what is done: an exactly balanced dispatch, its cost and its prices."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.lax import Precision

from jaxp2p.prox.feeder import bus_mean, rows
from jaxp2p.prox.response import Pieces, shares_at
from jaxp2p.prox.trades import project_trades
from jaxp2p.slot.answer import Answer
from jaxp2p.slot.problem import SlotProblem
from jaxp2p.slot.status import Status

POWER_TOLERANCE, VOLTAGE_TOLERANCE = 0.05, 1e-4  # kW, p.u.: beyond them a limit counts as violated


class Dispatch(NamedTuple):
    """What every home does in the slot; powers in kW, prices in EUR/kWh."""

    injection: (
        Array  # (N,) = pv_used - load + discharge - charge = sell - buy + sum_k trades + spilled - unserved
    )
    load: Array  # (N,)
    pv_used: Array  # (N,)
    charge: Array  # (N,)
    discharge: Array  # (N,)
    trades: Array  # (K, N) reciprocal; pool: sums to zero over N
    buy: Array  # (N,)
    sell: Array  # (N,)
    unserved: Array  # (N,) beyond the connection limits: short (>0) or spilled (<0)
    trade_price: Array  # (K, N) EUR/kWh, the same from both sides; pool: (1, N)
    market_price: Array  # (N,) mu
    nodal_price: Array  # (N,) nu
    row_price: Array  # (R,) EUR/kWh, > 0 at an upper limit


class SlotResult(NamedTuple):
    """A dispatch with its verdict."""

    dispatch: Dispatch
    violation: Array  # () kW, worst row
    violation_row: Array  # () int32
    status: Array  # () int32, Status
    iterations: Array  # () int32
    prim_res: Array  # () kW
    dual_res: Array  # () EUR/kWh


class Devices(NamedTuple):
    """What the devices of every home do, each (N,) kW."""

    load: Array
    pv_used: Array
    charge: Array
    discharge: Array

    @property
    def injection(self) -> Array:
        """(N,) kW."""
        return self.pv_used - self.load + self.discharge - self.charge


def devices_of(problem: SlotProblem, shares: Array, pieces: Pieces) -> Devices:
    """The devices from the shares (P, N) of their pieces."""
    gained = shares * pieces.gain
    discharge = jnp.clip(problem.discharge_min + gained[0] + gained[1], max=problem.discharge_max)
    charge = jnp.clip(problem.charge_max - gained[3], min=problem.charge_min)
    # Where both jump at the same price the share is even, and energy would be burnt for nothing: net it.
    both = jnp.minimum(charge - problem.charge_min, discharge - problem.discharge_min)
    charge, discharge = charge - both, discharge - both
    pv_used = jnp.clip(gained[2], max=problem.pv_max)
    load = problem.load_max
    if problem.load_cost is not None:
        load = jnp.clip(load - gained[4], min=problem.load_min)
    return Devices(load, pv_used, charge, discharge)


def dispatch(problem: SlotProblem, answer: Answer) -> Dispatch:
    """Devices from the response polyline, trades made reciprocal, the utility takes the rest: all exact."""
    pieces = problem.pieces()
    shares = shares_at(pieces, problem.base, price=answer.nodal_price, power=answer.injection)
    return settle(problem, answer, devices_of(problem, shares, pieces))


def settle(problem: SlotProblem, answer: Answer, devices: Devices) -> Dispatch:
    """What is traded and what the utility takes, where the devices do this."""
    injection = devices.injection
    limit = problem.trade_limit
    trades = project_trades(problem.market, jnp.clip(answer.trades, -limit, limit))
    rest = injection - jnp.sum(trades, axis=0)
    exchange, unserved = rest, jnp.zeros_like(rest)
    if problem.unserved_price is not None:
        exchange = jnp.clip(rest, -problem.buy_max, problem.sell_max)
        unserved = exchange - rest
    return Dispatch(
        **devices._asdict(),
        injection=injection,
        trades=trades,
        buy=jnp.maximum(-exchange, 0),
        sell=jnp.maximum(exchange, 0),
        unserved=unserved,
        trade_price=jnp.broadcast_to(answer.trade_price, trades.shape),
        market_price=answer.market_price,
        nodal_price=answer.nodal_price,
        row_price=answer.row_price,
    )


def slot_cost(problem: SlotProblem, d: Dispatch) -> Array:
    """f_i (N,) in EUR: utility, fees, wear, curtailment, discomfort; no payments, no storage value."""
    moved = problem.charge_efficiency * d.charge + d.discharge / problem.discharge_efficiency
    rate = problem.price_buy * d.buy - problem.price_sell * d.sell
    rate = rate + jnp.sum(problem.market.fee * jnp.abs(d.trades), axis=0) / 2
    rate = rate + problem.wear_cost * moved + problem.curtailment_cost * (problem.pv_max - d.pv_used)
    if problem.load_cost is not None:
        rate = rate + problem.load_cost * (d.load - problem.load) ** 2
    return problem.slot_hours * rate


def storage_drift(problem: SlotProblem, d: Dispatch) -> Array:
    """Storage value given up (N,) in EUR: minus the integral of lambda over the energy moved.

    For lambda >= 0 this is the exact one-slot drift of the weighted Lyapunov function.
    """
    dt, slope = problem.slot_hours, problem.value_slope
    stored = dt * problem.charge_efficiency * d.charge
    charged = -(problem.value - slope * stored / 2) * stored
    fall = slope * dt / problem.discharge_efficiency
    turn = jnp.where(fall > 0, -problem.value / jnp.where(fall > 0, fall, 1), 0)
    turn = jnp.where(fall > 0, turn, problem.discharge_max)
    first = jnp.where(problem.value < 0, jnp.minimum(d.discharge, turn), 0)
    negative = problem.charge_efficiency * (problem.value + fall * first / 2) * first
    rest = d.discharge - first
    positive = (problem.value + fall * (first + rest / 2)) * rest / problem.discharge_efficiency
    return charged + dt * (negative + positive)


def payments(problem: SlotProblem, d: Dispatch) -> Array:
    """EUR (N,) that every home receives from its peers; sums to zero over the community."""
    return problem.slot_hours * jnp.sum(d.trade_price * d.trades, axis=0)


def row_values(problem: SlotProblem, injection: Array) -> Array:
    """Executed row values (R,) in kW."""
    return rows(problem.feeder, bus_mean(problem.feeder, injection)) + problem.row_offset


def row_excess(problem: SlotProblem, injection: Array) -> Array:
    """How far every row (R,) of the executed dispatch is outside its limits, kW."""
    if problem.feeder is None:
        return jnp.zeros_like(problem.row_offset)
    value = row_values(problem, injection)
    return jnp.maximum(jnp.maximum(value - problem.row_upper, problem.row_lower - value), 0)


def row_tolerance(problem: SlotProblem, *, flow: float | Array, voltage: float | Array) -> Array:
    """(R,) kW: what kW on a branch and p.u. on a voltage (about 1, so 2 of them squared) are in every row."""
    if problem.feeder is None:
        return jnp.ones_like(problem.row_offset)
    volts, flows = problem.feeder.voltage_bus.shape, problem.feeder.flow_branch.shape
    kind = problem.row_offset.dtype
    physical = jnp.concatenate([jnp.full(volts, 2 * voltage, kind), jnp.full(flows, flow, kind)])
    return physical / problem.feeder.scale


def finish(problem: SlotProblem, answer: Answer) -> SlotResult:
    """Dispatch, violations and status of a slot."""
    d = dispatch(problem, answer)
    excess = row_excess(problem, d.injection)
    beyond = excess / row_tolerance(problem, flow=POWER_TOLERANCE, voltage=VOLTAGE_TOLERANCE)
    row = jnp.argmax(beyond).astype(jnp.int32) if excess.shape[0] else jnp.zeros((), jnp.int32)
    status = answer.status
    fine = status == Status.SOLVED
    status = jnp.where(fine & (jnp.max(jnp.abs(d.unserved)) > POWER_TOLERANCE), Status.UNSERVED, status)
    status = jnp.where(fine & (jnp.max(beyond, initial=0) > 1), Status.NETWORK_VIOLATED, status)
    return SlotResult(
        dispatch=d,
        violation=excess[row] if excess.shape[0] else jnp.zeros_like(answer.prim_res),
        violation_row=row,
        status=status.astype(jnp.int32),
        iterations=answer.iterations,
        prim_res=answer.prim_res,
        dual_res=answer.dual_res,
    )


def nodal_surcharge(problem: SlotProblem, row_price: Array) -> Array:
    """What the network takes off the market price at every home (N,): sum_r A_rn y_r, EUR/kWh."""
    if problem.feeder is None:
        return jnp.zeros_like(problem.load)
    push = jnp.matmul(row_price, problem.feeder.matrix, precision=Precision.HIGHEST)
    return jnp.take(push, problem.feeder.group, mode="clip") * problem.feeder.flexible
