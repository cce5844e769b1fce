"""A run: one policy over consecutive slots, as one `lax.scan` around the slot solver."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxp2p import solvers
from jaxp2p.community.types import Battery, Community, Horizon
from jaxp2p.policy import Penalties, Policy, Slot, slot_problem
from jaxp2p.slot import execute
from jaxp2p.solvers import Solver, State
from jaxp2p.trajectory import Trajectory


class RunState(NamedTuple):
    """What one slot hands to the next."""

    energy: Array  # (N,) kWh
    solver: State  # warm start
    slot_of_day: Array  # () int32


def init(
    community: Community, penalties: Penalties, policy: Policy, solver: Solver, slot: Slot, slot_of_day: Array
) -> RunState:
    """Batteries at their start energy and a cold solver."""
    energy = community.prosumers.battery.energy_start
    problem = slot_problem(community, penalties, policy, slot, energy, slot_of_day)
    return RunState(energy, solvers.init(problem, solver), jnp.asarray(slot_of_day, jnp.int32))


def step(
    community: Community, penalties: Penalties, policy: Policy, solver: Solver, state: RunState, slot: Slot
) -> tuple[RunState, Trajectory]:
    """Clear one slot and execute it; the Trajectory has no time axis here."""
    problem = slot_problem(community, penalties, policy, slot, state.energy, state.slot_of_day)
    outcome = solvers.solve(problem, solver, solvers.warm(problem, solver, state.solver))
    result = execute.finish(problem, outcome.answer)
    d, battery = result.dispatch, community.prosumers.battery
    energy = next_energy(battery, state.energy, slot.slot_hours, d)
    row = Trajectory(
        injection=d.injection,
        load=d.load,
        pv_used=d.pv_used,
        charge=d.charge,
        discharge=d.discharge,
        energy=energy,
        trade=jnp.sum(d.trades, axis=0),
        trade_volume=jnp.sum(jnp.abs(d.trades), axis=0),
        buy=d.buy,
        sell=d.sell,
        cost=execute.slot_cost(problem, d),
        payment=execute.payments(problem, d),
        price_market=d.market_price,
        price_nodal=d.nodal_price,
        unserved=d.unserved,
        violation=result.violation,
        violation_row=result.violation_row,
        status=result.status,
        iterations=result.iterations,
        prim_res=result.prim_res,
        dual_res=result.dual_res,
    )
    return RunState(energy, outcome.state, state.slot_of_day + 1), row


def next_energy(battery: Battery, energy: Array, slot_hours: Array, d: execute.Dispatch) -> Array:
    """(N,) kWh after the slot: E' = sigma E + dt (eta_c c - d / eta_d)."""
    moved = d.charge * battery.charge_efficiency - d.discharge / battery.discharge_efficiency
    kept = battery.retention * energy
    # the powers were chosen to stay inside: the clip takes off rounding only (and nothing of what is kept
    # by an absent battery that leaks below its lower limit)
    lower, upper = jnp.minimum(battery.energy_min, kept), jnp.maximum(battery.energy_max, kept)
    return jnp.clip(kept + slot_hours * moved, lower, upper)


def slots(horizon: Horizon) -> Slot:
    """The horizon as rows to scan over."""
    hours = jnp.broadcast_to(horizon.slot_hours, (horizon.slots,))
    fields = {name: getattr(horizon, name) for name in Slot._fields if name != "slot_hours"}
    return Slot(slot_hours=hours, **fields)


def simulate(
    community: Community,
    horizon: Horizon,
    penalties: Penalties,
    policy: Policy,
    solver: Solver,
    *,
    state: RunState | None = None,
    slot_of_day: int | Array = 0,
    keep: tuple[str, ...] = Trajectory._fields,
) -> tuple[RunState, Trajectory]:
    """Run all slots of the horizon; returns the last state (to go on from) and the Trajectory.

    Pure: jit it, or vmap it over policies, scenarios or parameters. `state` continues an earlier run;
    `slot_of_day` numbers the first slot for policies that follow the time of day. `keep` names the fields
    to store; the others are None.
    """
    rows = slots(horizon)
    if state is None:
        first = jax.tree.map(lambda x: x[0], rows)
        state = init(community, penalties, policy, solver, first, jnp.asarray(slot_of_day, jnp.int32))

    def body(state: RunState, slot: Slot):
        state, row = step(community, penalties, policy, solver, state, slot)
        return state, row._replace(**{name: None for name in Trajectory._fields if name not in keep})

    return jax.lax.scan(body, state, rows)
