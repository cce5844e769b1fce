"""One way through a slot, for runs, studies and derivatives: pose it, clear it (`secure`), execute it.

    posed = pose(...)  ->  cleared = secure.solve(posed.problem, ...)  ->  done = execute(..., posed, cleared)

`record` writes down what was done, as a row of a `Trajectory`.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxp2p._pytree import present
from jaxp2p.control.policy import AnyPolicy, Penalties, Slot, plugged_in, slot_problem
from jaxp2p.model.devices import Plugged
from jaxp2p.model.devices.battery import charge_price, sell_stored_price
from jaxp2p.model.network import Base
from jaxp2p.model.trajectory import MOST_TRADES, Trajectory
from jaxp2p.model.types import Community
from jaxp2p.simulation import secure
from jaxp2p.simulation.secure import Secured
from jaxp2p.slot import execute as slot_execution
from jaxp2p.slot import solvers
from jaxp2p.slot.execute import Devices, Dispatch, SlotResult
from jaxp2p.slot.problem import SlotProblem


class Stored(NamedTuple):
    """What is stored at one moment."""

    energy: Array  # (N,) kWh, in the batteries
    in_vehicles: Array | None = None  # (K, N) kWh; None: a community without vehicles


class Posed(NamedTuple):
    """A slot as the solver sees it, and what executing it takes besides."""

    problem: SlotProblem
    stored: Stored  # before the slot
    memory: Any = None  # of the policy, with this slot
    plugged: Plugged | None = None
    grid: Base | None = None  # what the network carries without the homes that decide


class Done(NamedTuple):
    """What a slot came to."""

    result: SlotResult
    stored: Stored  # after the slot


def at_start(community: Community, slot: Slot) -> Stored:
    """Before the first slot: batteries at their start energy, vehicles at the floor of a stay under way."""
    plugged = plugged_in(community, slot)
    in_vehicles = None if plugged is None else plugged.energy_start
    return Stored(community.prosumers.battery.energy_start, in_vehicles)


def pose(
    community: Community,
    penalties: Penalties,
    policy: AnyPolicy,
    slot: Slot,
    stored: Stored,
    slot_of_week: Array,
    memory: Any,
) -> Posed:
    """What the policy makes of a slot; memory: with this slot observed (`control.policy.observe`)."""
    known = stored.energy, slot_of_week, memory, stored.in_vehicles
    problem = slot_problem(community, penalties, policy, slot, *known)
    return Posed(problem, stored, memory, plugged_in(community, slot), slot.grid_base)


def execute(community: Community, posed: Posed, cleared: Secured) -> Done:
    """The dispatch of a cleared slot, and what is stored after it."""
    result = secure.verdict(solvers.executed(cleared.problem, cleared.outcome), cleared)
    return Done(result, after(community, posed, result.dispatch))


def after(community: Community, posed: Posed, d: Dispatch | Devices) -> Stored:
    """What is stored after a slot in which the devices do this, within the limits."""
    battery, hours, (energy, in_vehicles) = (
        community.prosumers.battery,
        posed.problem.slot_hours,
        posed.stored,
    )
    left = battery.held(battery.next_energy(energy, d.charge, d.discharge, hours=hours), energy)
    if posed.plugged is None:
        return Stored(left)
    powers, before = (present(d.vehicle_charge), present(d.vehicle_discharge)), present(in_vehicles)
    driven = posed.plugged.next_energy(before, *powers, hours=hours)
    return Stored(left, posed.plugged.held(driven, before))


def record(
    problem: SlotProblem, result: SlotResult, stored: Stored, rounds: Array | None = None
) -> Trajectory:
    """What is written down of a slot; the Trajectory has no time axis here."""
    d, lost = result.dispatch, problem.loss_price
    single = d.trades.size <= MOST_TRADES
    return Trajectory(
        injection=d.injection,
        load=d.load,
        pv_used=d.pv_used,
        charge=d.charge,
        discharge=d.discharge,
        energy=stored.energy,
        trade=jnp.sum(d.trades, axis=0),
        trade_volume=jnp.sum(jnp.abs(d.trades), axis=0),
        buy=d.buy,
        sell=d.sell,
        cost=slot_execution.slot_cost(problem, d),
        payment=slot_execution.payments(problem, d),
        market_price=d.market_price,
        nodal_price=d.nodal_price if lost is None else d.nodal_price - lost,
        unserved=d.unserved,
        gap=result.gap,
        violation=result.violation,
        violation_row=result.violation_row,
        status=result.status,
        iterations=result.iterations,
        prim_res=result.prim_res,
        dual_res=result.dual_res,
        vehicle_charge=d.vehicle_charge,
        vehicle_discharge=d.vehicle_discharge,
        vehicle_energy=stored.in_vehicles,
        rounds=rounds,
        loss_price=lost,
        row_price=d.row_price if d.row_price.shape[-1] else None,
        fee=slot_execution.fees(problem, d),
        trades=d.trades if single else None,
        charge_below=charge_price(problem, problem.value),
        discharge_above=sell_stored_price(problem, problem.value),
        trade_price=jnp.broadcast_to(d.trade_price, d.trades.shape) if single else None,
    )
