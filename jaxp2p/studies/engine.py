"""The batch engine: one policy over many scenarios, on the device, without any waiting for another.

The kernels know one scenario. This module alone knows the axis S, in two ways:

- `lockstep`: the simulation of one scenario, batched in groups; every slot of a group lasts as long as its
  slowest scenario. A group of one is the plain simulation, one scenario after the other: no waiting, no
  step wasted, and all that it touches stays in the cache. That is the fastest on a processor core, unless the
  community is so small that a few scenarios at a time fill the vector units better.
- `free_running`: `lanes` scenarios iterate at a time, `UNDER_WAY` times as many are under way. All lanes step
  together (one solver step each); as soon as some have solved their slots, those are gathered, execute their
  dispatch and draw their next slots, and their lanes go to the scenarios that have done the fewest slots. So
  a hard slot of one scenario delays nobody else, and a scenario of hard slots does not trail behind in the
  end, when its lane would iterate alone: all end within a few slots.

`choose_engine` takes the one that was measured to be faster (benchmarks/NOTES.md).

Both return the same series. A scenario is the same whatever the others are, to the last bit with as many
lanes: its draws depend on the key and its number only, and a lane that has finished is frozen.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxp2p._pytree import present, record, static
from jaxp2p.control.policy import AnyPolicy, Penalties, coupling, observe, remember
from jaxp2p.control.tuned import Memory
from jaxp2p.model.network import Base, Limits
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
from jaxp2p.studies.summary import Circumstances, Series, summarise, with_flow

TURNOVER = 8  # lanes change slots as soon as 1 / TURNOVER of them have finished theirs
UNDER_WAY = 4  # scenarios per lane of `free_running` that take turns; fewer would wait for the last ones
CORE_LANES = 32  # lanes that stay in the cache of a core
SMALL = 64  # homes below which a core does more with CORE_LANES scenarios at a time than with one
DEVICE_HOMES = 2**21  # in the lanes of an accelerator: kernels of so many take far longer than their launches
TEMPORARIES = 4  # times a lane's own bytes, what one step of it needs at most
AXIS = "scenario"


class Batch(NamedTuple):
    """Series of all scenarios, and what it took."""

    series: Series  # leaves (S, T)
    start_kwh: Array  # (S,) stored energy of the batteries before the first slot
    steps_made: Array  # (devices,) solver iterations of all lanes, those already done included
    steps_useful: Array  # (devices,) of those, the ones that lanes needed


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


class _Security(NamedTuple):
    """How far a lane is with making its slot secure in AC."""

    rows: Limits  # of the slot, as they were posed
    seen: Seen  # in the round before
    rounds: Array  # () int32, done
    iterations: Array  # () int32, of these rounds


class _Lane(NamedTuple):
    """One scenario under way."""

    carry: Any  # of the scenario model
    posed: Posed  # without the coupling, which all lanes share
    secure: "_Security | None"  # None: the market is linear
    search: solvers.Search
    slot: Array  # () int32
    row: Array  # () int32, of the scenario in the batch; -1 before it begins, and beyond the batch at its end


def problem_of(task: Task, lane: _Lane) -> SlotProblem:
    """The slot that a lane is at."""
    return replace(lane.posed.problem, coupling=coupling(task.community, task.policy))


def _open(
    task: Task, carry: Any, stored: Stored | None, memory: Memory | None, slot: Array
) -> tuple[Any, Posed]:
    """Draw slot `slot` of a scenario and pose its problem; stored None: in the first slot of all."""
    carry, drawn = task.model.draw(task.community, task.horizon, carry, slot)
    community = _with_outages(task.model.community(task.community, carry), drawn.battery)
    begins = at_start(community, drawn.slot)
    now = begins if stored is None else pick_tree(slot == 0, begins, stored)
    memory = observe(task.policy, memory, drawn.slot)
    of_week = task.first_slot_of_week + slot
    return carry, pose(community, task.penalties, task.policy, drawn.slot, now, of_week, memory)


def pick_tree(condition: Array, one: Any, other: Any) -> Any:
    """`one` where the condition () holds, leaf by leaf."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, other)


def _with_outages(community: Community, works: Array) -> Community:
    """The community of a slot in which a battery without works (N,) has no power: it cannot even refill."""
    homes, battery = community.prosumers, community.prosumers.battery
    powers = {"charge_max": works * battery.charge_max, "discharge_max": works * battery.discharge_max}
    return replace(community, prosumers=replace(homes, battery=replace(battery, **powers)))


def _start(task: Task, row: Array, number: Array) -> _Lane:
    carry = task.model.start(task.community, task.horizon, scenario_key(task.key, number))
    slot, memory = jnp.zeros((), jnp.int32), remember(task.community, task.policy)
    carry, posed = _open(task, carry, None, memory, slot)
    return _lane(task, carry, posed, solvers.init(posed.problem, task.solver), slot, row)


def _lane(task: Task, carry: Any, posed: Posed, begin: solvers.State, slot: Array, row: Array) -> _Lane:
    """At the beginning of a slot."""
    problem, none = posed.problem, jnp.zeros((), jnp.int32)
    security = None
    if secure.asked(task.community):
        security = _Security(secure.rows_of(problem), secure.nothing_seen(problem), none, none)
    return _Lane(carry, _apart(posed), security, solvers.begin(problem, task.solver, begin), slot, row)


def _apart(posed: Posed) -> Posed:
    return posed._replace(problem=replace(posed.problem, coupling=cast(Coupling, None)))


def _judge(task: Task, lane: _Lane) -> tuple[Secured, Array]:
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


def _as_posed(problem: SlotProblem, security: _Security) -> SlotProblem:
    offset, lower, upper = security.rows
    return replace(problem, row_offset=offset, row_lower=lower, row_upper=upper)


def _retry(task: Task, lane: _Lane, secured: Secured) -> _Lane:
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
        secure=_Security(lane.secure.rows, found.seen, secured.rounds, secured.iterations),
        search=solvers.begin(problem, task.solver, warm),
    )


def _close(
    task: Task, lane: _Lane, secured: Secured, next_row: Array, next_number: Array, flows: bool = True
) -> tuple[_Lane, Series, Dispatch]:
    """Execute the slot that the lane has solved, and open the next one, if need be of the next scenario.

    Gives what is kept of the slot, and what the homes did. flows False: its AC power flow is worked out
    later, unless it is known.
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
    ended = lane.slot + 1 >= task.slots
    fresh = task.model.start(task.community, task.horizon, scenario_key(task.key, next_number))
    nothing = jnp.zeros_like(lane.slot)
    slot, row = pick_tree(ended, (nothing, next_row), (lane.slot + 1, lane.row))
    begun = fresh, remember(task.community, task.policy)
    carry, memory = pick_tree(ended, begun, (lane.carry, posed.memory))
    carry, opened = _open(task, carry, done.stored, memory, slot)
    following = opened.problem
    cold, warm = solvers.init(following, task.solver), solvers.warm(following, task.solver, outcome.state)
    return _lane(task, carry, opened, pick_tree(ended, cold, warm), slot, row), kept, dispatch


def _empty(task: Task, scenarios: int) -> Series:
    dtype = task.horizon.load.dtype
    counts = {"status": jnp.int32, "iterations": jnp.int32, "rounds": jnp.int32}
    make = lambda name: jnp.zeros((scenarios, task.slots), counts.get(name, dtype))
    return Series(**{name: make(name) for name in Series._fields})


def choose_engine(solver: Solver, homes: int, engine: str | None = None) -> tuple[str, int]:
    """The engine and its lanes that suit solver, community and device; or the lanes for a given engine.

    A core: one scenario after the other, or as many lanes as its cache holds. An accelerator: lanes until
    their homes fill it, since more of them only make a step longer.
    """
    if jax.default_backend() != "cpu":
        # a cheap step is not worth sorting the lanes for
        return engine or ("lockstep" if solver.cheap else "free_running"), max(1, DEVICE_HOMES // homes)
    alone = engine != "free_running" and not (solver.cheap and homes < SMALL)
    return engine or "lockstep", 1 if alone else CORE_LANES


def scenarios_per_lane(engine: str) -> int:
    """How many are under way for each lane."""
    return UNDER_WAY if engine == "free_running" else 1


def bytes_per_lane(engine: str, lane: int) -> int:
    """Bytes that a lane needs, of the `lane` of a scenario under way: temporaries, and those that rest."""
    resting = UNDER_WAY if engine == "free_running" else 0
    return (TEMPORARIES + resting) * lane


def suited_lanes(task: Task, scenarios: int, engine: str | None = None) -> tuple[str, int]:
    """`choose_engine` for this many scenarios: its lanes, or as many as there are scenarios for.

    On an accelerator half of its memory must hold them, which binds where few homes have a large network (a
    home alone takes a third of a kB).
    """
    engine, lanes = choose_engine(task.solver, task.community.size, engine)
    if jax.default_backend() == "cpu":
        return engine, lanes
    memory = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", float("inf"))
    room = memory / 2 / bytes_per_lane(engine, bytes_per_scenario(task)[0])
    return engine, max(1, int(min(lanes, -(-scenarios // scenarios_per_lane(engine)), room)))


def free_running(task: Task, numbers: Array, lanes: int) -> Batch:
    """Scenarios `numbers` (S,) int32, every one at its own pace, `lanes` at a time."""
    count = numbers.shape[0]
    groups = -(-count // (UNDER_WAY * lanes))
    size = -(-count // groups)
    lanes = lanes if groups == 1 else -(-size // UNDER_WAY)  # as many take turns in each of even groups
    rows = jnp.arange(groups * size, dtype=jnp.int32).reshape(groups, size)
    # the last group may not be full: what is beyond the batch never begins
    shares = jnp.take(numbers, rows, mode="clip"), rows < count
    each = lambda share: _take_turns(task, share[0], share[1], lanes)
    series, start_kwh, made, useful = jax.lax.map(each, shares)
    flat = lambda x: x.reshape(groups * size, *x.shape[2:])[:count]
    return Batch(jax.tree.map(flat, series), flat(start_kwh), jnp.sum(made)[None], jnp.sum(useful)[None])


def _take_turns(task: Task, numbers: Array, there: Array, lanes: int) -> tuple[Series, Array, Array, Array]:
    """Scenarios `numbers` (S,) that are `there` (S,) bool: series, start_kwh, steps made and useful.

    Each has its state at rest; `at_work` has those of the `width` that iterate, and `place` (width,) which
    scenario a lane is at, S where nobody is left for it.
    """
    count = numbers.shape[0]
    width = min(lanes, count)
    group = -(-width // TURNOVER)

    def taken(state: _Lane) -> Array:
        """(L,) bool: at a scenario."""
        return state.row < count

    def busy(state: _Lane) -> Array:
        """(L,) bool: still iterating."""
        mine = (state.row >= 0) & taken(state)
        return mine & jax.vmap(partial(solvers.running, task.solver))(state.search)

    def waiting(state: _Lane) -> Array:
        return taken(state) & ~busy(state)

    def step(lane: _Lane) -> _Lane:
        search = solvers.advance(problem_of(task, lane), task.solver, lane.search)
        return lane._replace(search=search)

    def go_on(carry) -> Array:
        at_work = carry[0]
        few = TURNOVER * jnp.sum(waiting(at_work)) < jnp.sum(taken(at_work))
        return jnp.any(busy(at_work)) & few

    def steps(carry):
        at_work, made, useful = carry
        working = busy(at_work)
        freeze = lambda new, old: jnp.where(working.reshape(-1, *(1,) * (new.ndim - 1)), new, old)
        search = jax.tree.map(freeze, jax.vmap(step)(at_work).search, at_work.search)
        turns = (search.iterations - at_work.search.iterations).astype(made.dtype)
        made, useful = made + width * jnp.max(turns), useful + jnp.sum(turns)  # the longest is waited for
        return at_work._replace(search=search), made, useful

    def turn_over(at_work: _Lane, at_rest: _Lane, place: Array, kept: tuple[Series, Array]):
        series, start_kwh = kept
        chosen = jnp.nonzero(waiting(at_work), size=group, fill_value=width)[0]
        some = jax.tree.map(lambda x: jnp.take(x, chosen, axis=0, mode="clip"), at_work)
        mine = jnp.take(place, chosen, mode="fill", fill_value=count)
        secured, again = jax.vmap(partial(_judge, task))(some)
        again &= some.row >= 0
        number = jnp.take(numbers, mine, mode="clip")
        next_row = jnp.where(some.row < 0, mine, count)
        moved, result, _ = jax.vmap(partial(_close, task))(some, secured, next_row, number)
        if secure.asked(task.community):
            retried = jax.vmap(partial(_retry, task))(some, secured)
            moved = jax.vmap(pick_tree)(again, retried, moved)
        row = jnp.where((some.row >= 0) & ~again, mine, count)
        put = lambda all_, new: all_.at[row, some.slot].set(new.astype(all_.dtype), mode="drop")
        series = jax.tree.map(put, series, result)
        begun = jnp.where(some.slot == 0, row, count)
        start_kwh = start_kwh.at[begun].set(jnp.sum(some.posed.stored.energy, axis=1), mode="drop")
        into = lambda where: lambda all_, new: all_.at[where].set(new, mode="drop")
        at_rest = jax.tree.map(into(mine), at_rest, moved)
        following = _fewest_slots(task, at_rest, place.at[chosen].set(count, mode="drop"), group)
        fresh = jax.tree.map(lambda x: jnp.take(x, following, axis=0, mode="clip"), at_rest)
        fresh = fresh._replace(row=jnp.where(following < count, fresh.row, count))
        at_work = jax.tree.map(into(chosen), at_work, fresh)
        return at_work, at_rest, place.at[chosen].set(following, mode="drop"), (series, start_kwh)

    def round_(carry):
        at_work, at_rest, place, kept, made, useful = carry
        at_work, made, useful = jax.lax.while_loop(go_on, steps, (at_work, made, useful))
        return *turn_over(at_work, at_rest, place, kept), made, useful

    # Every lane begins at the end of a scenario that never was: the loop itself starts the first ones, and
    # the program has one copy of all that instead of two.
    none = jnp.zeros((), jnp.int32)
    lane = jax.eval_shape(partial(_start, task), none, none)
    at_rest = jax.tree.map(lambda x: jnp.zeros((count, *x.shape), x.dtype), lane)
    row = jnp.where(there, at_rest.row - 1, count)
    at_rest = at_rest._replace(row=row, slot=at_rest.slot + task.slots - 1)
    at_work = jax.tree.map(lambda x: x[:width], at_rest)
    kept = _empty(task, count), jnp.zeros((count,), task.horizon.load.dtype)
    # float: a study makes more steps than an int32 holds
    zero = jnp.zeros((), jnp.float32)
    unfinished = lambda carry: jnp.any(taken(carry[0]))
    begin = at_work, at_rest, jnp.arange(width, dtype=jnp.int32), kept, zero, zero
    *_, (series, start_kwh), made, useful = jax.lax.while_loop(unfinished, round_, begin)
    return series, start_kwh, made, useful


def _fewest_slots(task: Task, at_rest: _Lane, place: Array, most: int) -> Array:
    """(most,) scenarios that have done the fewest slots, of those at no place; S where there are no more."""
    count = at_rest.row.shape[0]
    done = jnp.where(at_rest.row < 0, -1, at_rest.slot)
    done = jnp.where(at_rest.row < count, done, task.slots).at[place].set(task.slots, mode="drop")
    nearest, found = jax.lax.top_k(-done, most)
    return jnp.where(nearest > -task.slots, found, count)


def lockstep(task: Task, numbers: Array, lanes: int) -> Batch:
    """The same, slot by slot: `lanes` scenarios at a time wait for the slowest of them."""
    count, supports = numbers.shape[0], task.community.prosumers.inverters is not None
    known = secure.asked(task.community) or supports  # the flow of a slot, as soon as it is cleared
    groups = -(-count // lanes)
    width = -(-count // groups)
    padded = jnp.take(numbers, jnp.arange(groups * width), mode="clip").reshape(groups, width)

    def cleared(lane: _Lane) -> tuple[_Lane, Secured, Array]:
        problem = problem_of(task, lane)
        running = partial(solvers.running, task.solver)
        search = jax.lax.while_loop(running, partial(solvers.advance, problem, task.solver), lane.search)
        lane = lane._replace(search=search)
        return lane, *_judge(task, lane)

    def again(found: tuple[_Lane, Secured, Array]) -> tuple[_Lane, Secured, Array]:
        lane, secured, _ = found
        retry = lambda: _retry(task, lane, secured)
        return cleared(jax.lax.cond(secured.rounds > 0, retry, lambda: lane))

    def one(lane: _Lane) -> tuple[_Lane, tuple[Series, tuple[Base, Array, Array] | None]]:
        nothing = jnp.zeros((), jnp.int32)
        if secure.asked(task.community):
            shape = jax.eval_shape(cleared, lane)[1]
            blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shape)
            begin = lane, blank, jnp.ones((), bool)
            lane, secured, _ = jax.lax.while_loop(lambda found: found[2], again, begin)
        else:
            lane, secured, _ = cleared(lane)
        base = present(lane.posed.grid)._replace(voltage=None, flow=None, reactive=None)  # not asked for
        following, kept, done = _close(task, lane, secured, nothing, nothing, flows=supports)
        return following, (kept, None if known else (base, done.injection, done.pv_used))

    # a batch of one is not batched: its branches stay branches
    each = jax.vmap if width > 1 else _alone

    def group(numbers: Array) -> tuple[Series, Array]:
        state = each(partial(_start, task))(numbers, numbers)
        series, done = jax.lax.scan(lambda state, _: each(one)(state), state, length=task.slots)[1]
        if done is not None:  # products of matrices in place of a matrix and a vector
            series = with_flow(series, task.community.network, power_flow_of(task.community, *done))
        return series, jnp.sum(state.posed.stored.energy, axis=1)

    series, start_kwh = jax.lax.map(group, padded)  # (groups, T, width), (groups, width)
    made = jnp.sum(jnp.max(series.iterations, axis=2).astype(jnp.float32)) * width
    flat = jax.tree.map(lambda x: jnp.swapaxes(x, 1, 2).reshape(groups * width, -1)[:count], series)
    useful = jnp.sum(flat.iterations.astype(jnp.float32))
    return Batch(flat, start_kwh.reshape(-1)[:count], made[None], useful[None])


def _alone(function: Callable) -> Callable:
    """What `jax.vmap` does to a function of pytrees, for a batch of one."""

    def batched(*batches):
        result = function(*jax.tree.map(lambda x: x[0], batches))
        return jax.tree.map(lambda x: x[None], result)

    return batched


ENGINES = {"free_running": free_running, "lockstep": lockstep}


@partial(jax.jit, static_argnames=("engine", "lanes", "mesh"))
def run_batch(
    task: Task,
    numbers: Array,
    *,
    engine: str | None = None,
    lanes: int | None = None,
    mesh: Mesh | None = None,
) -> Batch:
    """Scenarios `numbers` (S,) int32 under one policy; with a mesh, each device takes its share of them.

    engine, lanes: which of the two, and how many scenarios at a time on a device; by default `suited_lanes`.
    Devices never wait for each other: every one runs its own loop. S must be a multiple of their number,
    ValueError otherwise. Where the devices belong to several processes, all call this with the same task and
    numbers (on the host, or on no device in particular), and each can read its own rows of the result,
    `addressable_shards`.
    """
    devices = 1 if mesh is None else mesh.size
    engine, suited = suited_lanes(task, -(-numbers.shape[0] // devices), engine)
    kernel = partial(ENGINES[engine], lanes=lanes or suited)
    if mesh is None:
        return kernel(task, numbers)
    if numbers.shape[0] % mesh.size:
        raise ValueError(f"{numbers.shape[0]} scenarios cannot be shared evenly by {mesh.size} devices")
    shared = jax.tree.map(lambda _: P(), task)
    return jax.shard_map(kernel, mesh=mesh, in_specs=(shared, P(AXIS)), out_specs=P(AXIS), check_vma=False)(
        task, numbers
    )


def bytes_per_scenario(task: Task) -> tuple[int, int]:
    """Bytes on the device: of a scenario under way (its lane, no temporaries), and of one that is kept."""
    none = jnp.zeros((), jnp.int32)
    lane = jax.eval_shape(partial(_start, task), none, none)
    series = jax.eval_shape(lambda: _empty(task, 1))
    size = lambda tree: sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))
    return size(lane), size(series)
