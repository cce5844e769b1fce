"""One scenario of a batch on its way through its slots: what the engines do with many of them.

    begun(...)  ->  Rest  ->  opened(...)  ->  Lane, which the solver works on  ->  judged, closed  ->  Rest

Between two slots a scenario is a `Rest`: what its draws, its policy and the warm start have to remember. A
`Lane` has a slot posed and a search under way in it, which takes ten times as much.
"""

from dataclasses import replace
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import Array

from jaxp2p._pytree import pick_tree, present, record, static
from jaxp2p.control.policy import AnyPolicy, Penalties, coupling, observe, remember
from jaxp2p.control.tuned import Memory
from jaxp2p.model.network import Limits
from jaxp2p.model.types import Community, Horizon
from jaxp2p.scenarios.model import ScenarioModel, scenario_key
from jaxp2p.simulation import secure
from jaxp2p.simulation.flows import power_flow_of
from jaxp2p.simulation.secure import Secured, Seen
from jaxp2p.simulation.step import Posed, Stored, at_start, execute, pose
from jaxp2p.simulation.step import record as record_slot
from jaxp2p.slot import solvers
from jaxp2p.slot.execute import Dispatch
from jaxp2p.slot.problem import Coupling, SlotProblem
from jaxp2p.slot.solvers import Solver
from jaxp2p.studies.summary import Circumstances, Series, summarise


@record
class Task:
    """Everything that the scenarios of a batch share."""

    community: Community
    horizon: Horizon
    model: ScenarioModel
    penalties: Penalties
    policy: AnyPolicy
    solver: Solver
    key: Array  # of the study
    first_slot_of_week: Array  # () int32
    slots: int = static()


class Batch(NamedTuple):
    """Series of all scenarios, and what it took."""

    series: Series  # leaves (S, T)
    start_kwh: Array  # (S,) stored energy of the batteries before the first slot
    steps_made: Array  # (devices,) solver iterations of all lanes, those already done included
    steps_useful: Array  # (devices,) of those, the ones that lanes needed


class Rest(NamedTuple):
    """A scenario between two slots."""

    carry: Any  # of the scenario model
    stored: Stored  # before the first slot: not known yet
    memory: Memory | None  # of a policy that has one
    state: solvers.State  # warm start
    slot: Array  # () int32, the next
    start_kwh: Array  # () of the batteries before the first slot, once that is drawn


class Security(NamedTuple):
    """How far a lane is with making its slot secure in AC."""

    rows: Limits  # of the slot, as they were posed
    seen: Seen  # in the round before
    rounds: Array  # () int32, done
    iterations: Array  # () int32, of these rounds


class Lane(NamedTuple):
    """A scenario in a slot."""

    carry: Any
    posed: Posed  # without the coupling, which all lanes share
    secure: Security | None  # None: the market is linear
    search: solvers.Search
    slot: Array  # () int32
    start_kwh: Array  # ()


def begun(task: Task, number: Array) -> Rest:
    """Scenario `number` () int32 before its first slot."""
    carry = task.model.start(task.community, task.horizon, scenario_key(task.key, number))
    memory, slot = remember(task.community, task.policy), jnp.zeros((), jnp.int32)

    def first() -> tuple[Stored, solvers.State]:
        posed = _posed(task, carry, None, memory, slot)[1]
        return posed.stored, solvers.init(posed.problem, task.solver)

    stored, state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(first))
    return Rest(carry, stored, memory, state, slot, jnp.zeros((), stored.energy.dtype))


def opened(task: Task, rest: Rest) -> Lane:
    """The next slot, drawn and posed."""
    carry, posed = _posed(task, rest.carry, rest.stored, rest.memory, rest.slot)
    problem, first, none = posed.problem, rest.slot == 0, jnp.zeros((), jnp.int32)
    start = solvers.start(problem, task.solver, rest.state, first)
    security = None
    if secure.asked(task.community):
        security = Security(secure.rows_of(problem), secure.nothing_seen(problem), none, none)
    search = solvers.begin(problem, task.solver, start)
    start_kwh = jnp.where(first, jnp.sum(posed.stored.energy), rest.start_kwh)
    return Lane(carry, _apart(posed), security, search, rest.slot, start_kwh)


def _posed(
    task: Task, carry: Any, stored: Stored | None, memory: Memory | None, slot: Array
) -> tuple[Any, Posed]:
    """Draw a slot of a scenario and pose its problem; stored None: in the first slot."""
    carry, drawn = task.model.draw(task.community, task.horizon, carry, slot)
    community = _with_outages(task.model.community(task.community, carry), drawn.battery)
    begins = at_start(community, drawn.slot)
    now = begins if stored is None else pick_tree(slot == 0, begins, stored)
    memory = observe(task.policy, memory, drawn.slot)
    of_week = task.first_slot_of_week + slot
    return carry, pose(community, task.penalties, task.policy, drawn.slot, now, of_week, memory)


def _with_outages(community: Community, works: Array) -> Community:
    """The community of a slot in which a battery without works (N,) has no power: it cannot even refill."""
    homes, battery = community.prosumers, community.prosumers.battery
    powers = {"charge_max": works * battery.charge_max, "discharge_max": works * battery.discharge_max}
    return replace(community, prosumers=replace(homes, battery=replace(battery, **powers)))


def problem_of(task: Task, lane: Lane) -> SlotProblem:
    """The slot that a lane is at."""
    return replace(lane.posed.problem, coupling=coupling(task.community, task.policy))


def _apart(posed: Posed) -> Posed:
    return posed._replace(problem=replace(posed.problem, coupling=cast(Coupling, None)))


def judged(task: Task, lane: Lane) -> tuple[Secured, Array]:
    """What the lane has solved, and whether it has to clear the slot once more."""
    problem = problem_of(task, lane)
    outcome = solvers.end(problem, task.solver, lane.search)
    if lane.secure is None:
        return secure.linear(problem, outcome), jnp.zeros((), bool)
    result = solvers.executed(problem, outcome)
    community, before = task.model.community(task.community, lane.carry), lane.secure
    grid, asked = present(lane.posed.grid), _as_posed(problem, before)
    found = secure.check(community, grid, asked, result.dispatch, before.seen, before.rounds)
    rounds, iterations = before.rounds + 1, before.iterations + result.iterations
    again = secure.go_on(community, asked, result, found, rounds)
    return Secured(problem, outcome, found, rounds, iterations), again


def _as_posed(problem: SlotProblem, security: Security) -> SlotProblem:
    offset, lower, upper = security.rows
    return replace(problem, row_offset=offset, row_lower=lower, row_upper=upper)


def retried(task: Task, lane: Lane, secured: Secured) -> Lane:
    """The same slot once more, with the rows that its power flow asks for."""
    if lane.secure is None:
        return lane
    community = task.model.community(task.community, lane.carry)
    posed = _as_posed(secured.problem, lane.secure)
    found = present(secured.check)
    problem = secure.mend(community, posed, found.mended, secured.rounds)
    warm = solvers.warm(problem, task.solver, secured.outcome.state)
    return lane._replace(
        posed=_apart(lane.posed._replace(problem=problem)),
        secure=Security(lane.secure.rows, found.seen, secured.rounds, secured.iterations),
        search=solvers.begin(problem, task.solver, warm),
    )


def closed(task: Task, lane: Lane, secured: Secured, flows: bool = True) -> tuple[Rest, Series, Dispatch]:
    """Execute the slot that the lane has solved: what is kept of it, and what the homes did.

    flows False: its AC power flow is worked out later, unless it is known.
    """
    problem, outcome = secured.problem, secured.outcome
    community = task.model.community(task.community, lane.carry)
    posed = lane.posed._replace(problem=problem)
    done = execute(community, posed, secured)
    base = present(posed.grid)
    dispatch, flow = done.result.dispatch, None
    if secured.check is not None:
        flow = secured.check.flow
    elif flows:
        flow = power_flow_of(community, base, dispatch.injection, dispatch.pv_used)
    circumstances = Circumstances(
        hours=problem.slot_hours,
        price_buy=problem.price_buy,
        price_sell=problem.price_sell,
        base=base,
        flow=flow,
        plugged=posed.plugged,
        unserved_price=task.penalties.unserved,
        row_price=task.penalties.row,
    )
    kept = summarise(community, circumstances, record_slot(problem, *done, rounds=secured.rounds))
    rest = Rest(lane.carry, done.stored, posed.memory, outcome.state, lane.slot + 1, lane.start_kwh)
    return rest, kept, dispatch


def nothing_kept(task: Task, scenarios: int) -> Series:
    """Room for the series (S, T) of so many scenarios."""
    dtype = task.horizon.load.dtype
    counts = {"status": jnp.int32, "iterations": jnp.int32, "rounds": jnp.int32}
    make = lambda name: jnp.zeros((scenarios, task.slots), counts.get(name, dtype))
    return Series(**{name: make(name) for name in Series._fields})
