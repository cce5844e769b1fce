"""From where the iteration stopped to what is done: an exactly balanced dispatch, its cost and its prices."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxp2p._pytree import present
from jaxp2p.model.utility import beyond_cost, exchange_cost
from jaxp2p.slot.answer import Answer
from jaxp2p.slot.gap import Gap, gap_scale, price_limits, slot_gap
from jaxp2p.slot.problem import SlotProblem
from jaxp2p.slot.prox.response import Pieces, shares_at
from jaxp2p.slot.rows import row_excess, row_tolerance
from jaxp2p.slot.status import Status

SATURATED = 0.99  # share of a penalty from which a limit counts as one that cannot be kept
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
    vehicle_charge: Array | None = None  # (K, N); None, like the next: a community without vehicles
    vehicle_discharge: Array | None = None  # (K, N)


class SlotResult(NamedTuple):
    """A dispatch with its verdict."""

    dispatch: Dispatch
    gap: Array  # () EUR by which cost, storage value and penalties exceed the optimum at most
    gap_parts: Gap  # of which it is the sum
    gap_scale: Array  # () EUR, what the gap is measured by
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
    vehicle_charge: Array | None = None  # (K, N)
    vehicle_discharge: Array | None = None  # (K, N)

    @property
    def injection(self) -> Array:
        """(N,) kW."""
        alone = self.pv_used - self.load + self.discharge - self.charge
        if self.vehicle_charge is None:
            return alone
        return alone + jnp.sum(present(self.vehicle_discharge) - self.vehicle_charge, axis=0)


def devices_of(problem: SlotProblem, shares: Array, pieces: Pieces) -> Devices:
    """The devices from the shares (P, N) of their pieces."""
    # A product under a limit is rounded by itself. A compiler works it out anew for every sum that it is in,
    # and where it rounded some sums as a whole, powers and injection would not be the same to the last bit.
    gained = [jnp.minimum(share * gain, gain) for share, gain in zip(shares, pieces.gain, strict=True)]
    return Devices(**problem.devices.do(jnp.stack(gained)))


def dispatch(problem: SlotProblem, answer: Answer) -> Dispatch:
    """Devices from the response polyline, trades made reciprocal, the utility takes the rest: all exact."""
    pieces = problem.pieces()
    shares = shares_at(pieces, problem.base, price=answer.nodal_price, power=answer.injection)
    return settle(problem, answer, devices_of(problem, shares, pieces))


def settle(problem: SlotProblem, answer: Answer, devices: Devices, *, reciprocal: bool = False) -> Dispatch:
    """What is traded and what the utility takes, where the devices do this.

    reciprocal: the trades of the answer are that already, as `polish` leaves them.
    """
    injection, trades = devices.injection, answer.trades
    if not reciprocal:
        trades = problem.market.reciprocal(trades, problem.trade_limit)
    rest = injection - jnp.sum(trades, axis=0)
    exchange, unserved = rest, jnp.zeros_like(rest)
    if problem.unserved_price is not None:
        exchange = jnp.clip(rest, -present(problem.buy_max), problem.sell_max)
        unserved = exchange - rest
        # what rounding leaves beyond a limit is no energy that anybody lacks
        size = jnp.abs(injection) + jnp.sum(jnp.abs(trades), axis=0) + jnp.abs(rest)
        exact = jnp.abs(unserved) <= 4 * jnp.finfo(rest.dtype).eps * size
        exchange, unserved = jnp.where(exact, rest, exchange), jnp.where(exact, 0, unserved)
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
    rate = exchange_cost(problem.price_buy, problem.price_sell, d.buy, d.sell)
    rate = rate + _fee_rate(problem, d)
    for cost in problem.devices.cost(d):
        rate = rate + cost
    return problem.slot_hours * rate


def fees(problem: SlotProblem, d: Dispatch) -> Array:
    """EUR (N,) of what is traded, half of every fee for each side; part of f_i."""
    return problem.slot_hours * _fee_rate(problem, d)


def _fee_rate(problem: SlotProblem, d: Dispatch) -> Array:
    return jnp.sum(problem.market.fee * jnp.abs(d.trades), axis=0) / 2


def storage_drift(problem: SlotProblem, d: Dispatch) -> Array:
    """Storage value given up (N,) in EUR: minus the integral of lambda over the energy moved."""
    return problem.devices.value_given_up(d)


def beyond_connections(problem: SlotProblem, d: Dispatch) -> Array:
    """EUR (N,) of energy that is not served (b + u per kWh) or spilled (u - s)."""
    if problem.unserved_price is None:
        return jnp.zeros_like(d.unserved)
    short, spilled = jnp.maximum(d.unserved, 0), jnp.maximum(-d.unserved, 0)
    prices = problem.price_buy, problem.price_sell, problem.unserved_price
    return problem.slot_hours * beyond_cost(*prices, short, spilled)


def payments(problem: SlotProblem, d: Dispatch) -> Array:
    """EUR (N,) that every home receives from its peers; sums to zero over the community."""
    return problem.slot_hours * jnp.sum(d.trade_price * d.trades, axis=0)


def finish(
    problem: SlotProblem, answer: Answer, *, pieces: Pieces | None = None, reciprocal: bool = False
) -> SlotResult:
    """Dispatch, gap, violations and status of a slot.

    SOLVED means that the gap, a bound that does not depend on how the answer was found, and all violations
    are within tolerance. A violation is named only where the answer prices its limit at the penalty.

    pieces: of the devices, where they are at hand; reciprocal: see `settle`.
    """
    pieces = pieces or problem.pieces()
    shares = shares_at(pieces, problem.base, price=answer.nodal_price, power=answer.injection)
    d = settle(problem, answer, devices_of(problem, shares, pieces), reciprocal=reciprocal)
    tolerance = row_tolerance(problem, flow=POWER_TOLERANCE, voltage=VOLTAGE_TOLERANCE)
    parts = slot_gap(
        problem,
        pieces,
        shares_of(problem, d, pieces),
        injection=d.injection,
        trades=d.trades,
        exchange=d.sell - d.buy,
        unserved=d.unserved,
        market_price=answer.market_price,
        trade_price=answer.trade_price,
        row_price=answer.row_price,
    )
    gap = parts.total
    cost = jnp.sum(slot_cost(problem, d) + storage_drift(problem, d) + beyond_connections(problem, d))
    scale = gap_scale(problem, jnp.maximum(jnp.abs(cost) - gap, 0))
    excess = row_excess(problem, d.injection)
    beyond = excess / tolerance
    none = jnp.zeros_like(gap)
    row = jnp.argmax(beyond).astype(jnp.int32) if excess.shape[0] else jnp.zeros((), jnp.int32)
    worst, violation = (beyond[row], excess[row]) if excess.shape[0] else (none, none)
    paid = jnp.abs(answer.row_price) >= SATURATED * problem.row_penalty
    solved = (gap <= answer.tolerance * scale) & (jnp.max(jnp.where(paid, 0, beyond), initial=0) <= 1)
    status = jnp.where(worst > 1, Status.NETWORK_VIOLATED, Status.SOLVED)
    if problem.unserved_price is not None:
        short = jnp.max(jnp.abs(d.unserved)) > POWER_TOLERANCE
        status = jnp.where((status == Status.SOLVED) & short, Status.UNSERVED, status)
        solved &= jnp.max(jnp.where(_given_up(problem, answer), 0, jnp.abs(d.unserved))) <= POWER_TOLERANCE
    status = jnp.where(solved, status, Status.MAX_ITER)
    finite = jnp.isfinite(gap) & jnp.isfinite(cost)
    return SlotResult(
        dispatch=d,
        gap=gap,
        gap_parts=parts,
        gap_scale=scale,
        violation=violation,
        violation_row=row,
        status=jnp.where(finite, status, Status.NUMERICAL_ERROR).astype(jnp.int32),
        iterations=answer.iterations,
        prim_res=answer.prim_res,
        dual_res=answer.dual_res,
    )


def _given_up(problem: SlotProblem, answer: Answer) -> Array:
    """(N,) bool: members whose price is that of energy that is not served, or spilled."""
    low, high = price_limits(problem)
    span = (1 - SATURATED) * present(problem.unserved_price)
    return (answer.market_price >= high - span) | (answer.market_price <= low + span)


def shares_of(problem: SlotProblem, d: Dispatch, pieces: Pieces) -> Array:
    """Shares (P, N) of the device pieces that an executed dispatch uses."""
    used = problem.devices.used(d, pieces.gain)
    share = lambda kw, gain: jnp.clip(kw / jnp.where(gain > 0, gain, 1), 0, 1)
    return jnp.stack([share(kw, gain) for kw, gain in zip(used, pieces.gain, strict=True)])
