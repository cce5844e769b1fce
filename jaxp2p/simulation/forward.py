"""A run: one policy over consecutive slots, as one `lax.scan` around the slot solver."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxp2p._lowered import Lowered
from jaxp2p._pytree import present
from jaxp2p.control.policy import AnyPolicy, Penalties, Slot, fix_storage, observe, remember
from jaxp2p.model.devices.arrays import namespace
from jaxp2p.model.match import require_match
from jaxp2p.model.trajectory import Trajectory, only
from jaxp2p.model.types import Community, Horizon
from jaxp2p.simulation import secure
from jaxp2p.simulation.secure import Secured
from jaxp2p.simulation.step import Posed, Stored, at_start, execute, pose, record
from jaxp2p.slot import solvers
from jaxp2p.slot.solvers import Solver, State, scale_tolerances

PIECE = 96  # slots per compiled call: one program for any horizon, and a progress bar that moves


class Schedule(NamedTuple):
    """What the batteries do, decided beforehand: rows as in the horizon, T of them."""

    charge: Array  # (T, N) kW
    discharge: Array  # (T, N) kW
    vehicle_charge: Array | None = None  # (T, K, N) kW; None: as the policy says
    vehicle_discharge: Array | None = None  # (T, K, N) kW


class RunState(NamedTuple):
    """What one slot hands to the next."""

    stored: Stored
    solver: State  # warm start
    slot_of_week: Array  # () int32
    memory: Any = None  # of a policy that has one

    @property
    def energy(self) -> Array:
        """(N,) kWh in the batteries."""
        return self.stored.energy


def init(
    community: Community,
    penalties: Penalties,
    policy: AnyPolicy,
    solver: Solver,
    slot: Slot,
    slot_of_week: Array,
) -> RunState:
    """Before the first slot, with a cold solver."""
    stored, memory = at_start(community, slot), remember(community, policy)
    seen = observe(policy, memory, slot)
    posed = pose(community, penalties, policy, slot, stored, slot_of_week, seen)
    number = jnp.asarray(slot_of_week, jnp.int32)
    return RunState(stored, solvers.init(posed.problem, solver), number, memory)


class Cleared(NamedTuple):
    """A slot as it was seen and solved."""

    posed: Posed
    secured: Secured


def clear(
    community: Community,
    penalties: Penalties,
    policy: AnyPolicy,
    solver: Solver,
    state: RunState,
    slot: Slot,
    orders: Schedule | None = None,
    *,
    adjoint: str | None = None,
) -> Cleared:
    """Solve the market of one slot, orders being a row of a schedule; nothing has been done yet."""
    memory = observe(policy, state.memory, slot)
    posed = pose(community, penalties, policy, slot, state.stored, state.slot_of_week, memory)
    if orders is not None:
        posed = posed._replace(problem=fix_storage(posed.problem, *orders))
    found = secure.solve(community, present(posed.grid), posed.problem, solver, state.solver, adjoint=adjoint)
    return Cleared(posed, found)


def carry_out(community: Community, state: RunState, cleared: Cleared) -> tuple[RunState, Trajectory]:
    """Execute what was cleared; the Trajectory has no time axis here."""
    posed, secured = cleared
    done = execute(community, posed, secured)
    after = RunState(done.stored, secured.outcome.state, state.slot_of_week + 1, posed.memory)
    return after, record(secured.problem, *done, rounds=secured.rounds)


def slots(horizon: Horizon) -> Slot:
    """The horizon as rows to scan over."""
    hours = namespace(horizon.slot_hours).broadcast_to(horizon.slot_hours, (horizon.slots,))
    fields = {name: getattr(horizon, name) for name in Slot._fields if name != "slot_hours"}
    return Slot(slot_hours=hours, **fields)


def simulate(
    community: Community,
    horizon: Horizon,
    penalties: Penalties,
    policy: AnyPolicy,
    solver: Solver,
    *,
    state: RunState | None = None,
    slot_of_week: int | Array = 0,
    keep: tuple[str, ...] = Trajectory._fields,
    schedule: Schedule | None = None,
    adjoint: str | None = None,
) -> tuple[RunState, Trajectory]:
    """Run all slots of the horizon; returns the last state (to go on from) and the Trajectory.

    Pure: jit it, or vmap it over policies, scenarios or parameters. `state` continues an earlier run;
    `slot_of_week` numbers the first slot for policies that follow the time of day. `keep` names the fields
    to store; the others are None. `schedule`, as far as the policy lets the batteries go, takes the place of
    its decisions. `adjoint` (see `slot.solvers.solve`) makes the run differentiable with respect to policy,
    horizon and community, slot after slot: the backward pass keeps what a slot computes around its solution
    and none of the iterations. Solving slots anew in the backward pass (`jax.checkpoint`) gives wrong
    derivatives: rounding then picks other pieces of the polylines than the forward pass did. In a pool
    without network `costate.simulate` gives the same derivatives in less time.
    """
    require_match(community, horizon)
    rows = slots(horizon)
    if state is None:
        first = jax.tree.map(lambda x: x[0], rows)
        state = init(community, penalties, policy, solver, first, jnp.asarray(slot_of_week, jnp.int32))

    def body(state: RunState, row: tuple[Slot, Schedule | None]):
        cleared = clear(community, penalties, policy, solver, state, *row, adjoint=adjoint)
        state, done = carry_out(community, state, cleared)
        return state, only(done, keep)

    return jax.lax.scan(body, state, (rows, schedule))


_start = Lowered(init)
_starting = threading.Lock()  # traced by two threads at once it has given a policy the memory of another
_advance = Lowered(simulate)


def simulate_in_pieces(
    community: Community,
    horizon: Horizon,
    penalties: Penalties,
    policy: AnyPolicy,
    solver: Solver,
    *,
    slot_of_week: int = 0,
    schedule: Schedule | None = None,
    told: Callable[[int], None] = lambda done: None,
) -> Trajectory:
    """`simulate` in compiled calls of `PIECE` slots, on the host; `told` hears how many slots are done."""
    # cut on the host: on the device every cut of every leaf would be a program of its own
    horizon, schedule = jax.device_get((horizon, schedule))
    cuts = [*range(0, horizon.slots, PIECE), horizon.slots]
    first = jax.tree.map(lambda x: x[0], slots(horizon))
    with _starting:
        state = _start(community, penalties, policy, solver, first, jnp.asarray(slot_of_week, jnp.int32))
    parts = []
    for begin, end in pairwise(cuts):
        piece, orders = horizon.slice(begin, end), jax.tree.map(lambda x, a=begin, b=end: x[a:b], schedule)
        state, part = _advance(community, piece, penalties, policy, solver, state=state, schedule=orders)
        parts.append(jax.device_get(part))
        told(end)
    return jax.tree.map(lambda *rows: np.concatenate(rows), *parts)


def compile_pieces(
    community: Community,
    horizon: Horizon,
    penalties: Penalties,
    policy: AnyPolicy,
    solver: Solver,
    *,
    schedule: Schedule | None = None,
) -> None:
    """Compile what `simulate_in_pieces` will call, by its first and last piece.

    Tolerances and limits are leaves: with infinite and wide ones the programs are compiled and run in no
    time. With the limits of the grid, ADMM would look for the prices of rows that it takes for kept.
    """
    loose, free = scale_tolerances(solver, jnp.inf), replace(community, network=community.network.unlimited())
    horizon, schedule = jax.device_get((horizon, schedule))
    last = (horizon.slots - 1) // PIECE * PIECE
    lengths = {end - begin: begin for begin, end in ((last, horizon.slots), (0, min(PIECE, horizon.slots)))}
    cut = lambda begin, slots: jax.tree.map(lambda x: x[begin : begin + slots], schedule)
    pieces = [(horizon.slice(begin, begin + slots), cut(begin, slots)) for slots, begin in lengths.items()]
    _compile_together(free, penalties, policy, loose, pieces)
    for piece, orders in pieces:
        simulate_in_pieces(free, piece, penalties, policy, loose, schedule=orders)


def _compile_together(
    community: Community,
    penalties: Penalties,
    policy: AnyPolicy,
    solver: Solver,
    pieces: list[tuple[Horizon, Schedule | None]],
) -> None:
    """Compile start and pieces beside each other: for a third of its time one core is all that XLA uses."""
    first = jax.tree.map(lambda x: x[0], slots(pieces[0][0]))
    with _starting:
        start = _start.beforehand(community, penalties, policy, solver, first, jnp.zeros((), jnp.int32))
    if start is None:
        return
    state, *compiling = start
    for piece, orders in pieces:
        told = community, piece, penalties, policy, solver
        if program := _advance.beforehand(*told, state=state, schedule=orders):
            compiling.append(program[1])
    with ThreadPoolExecutor(len(compiling), thread_name_prefix="compiling") as beside:
        for done in [beside.submit(compile) for compile in reversed(compiling)]:  # the largest first
            done.result()
