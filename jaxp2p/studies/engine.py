"""The batch engine: one policy over many scenarios, on the device, without any waiting for another.

The kernels know one scenario, and `studies.lane` its way through the slots. Two modules alone know the axis
S, `studies.lockstep` and `studies.free_running`; this one says which of them, with how many lanes, on which
devices: `choose_engine` takes the one that is faster (benchmarks/NOTES.md).

Both return the same series. A scenario is the same whatever the others are, to the last bit with as many
lanes: its draws depend on the key and its number only, and a lane that has finished is frozen.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxp2p.slot.solvers import Solver
from jaxp2p.studies.free_running import UNDER_WAY, free_running
from jaxp2p.studies.lane import Batch, Task, begun, nothing_kept, opened
from jaxp2p.studies.lockstep import lockstep

CORE_LANES = 32  # lanes that stay in the cache of a core
SMALL = 64  # homes below which a core does more with CORE_LANES scenarios at a time than with one
DEVICE_HOMES = 2**21  # in the lanes of an accelerator: kernels of so many take far longer than their launches
TEMPORARIES = 4  # times a lane's own bytes, what one step of it needs at most
AXIS = "scenario"


class Sizes(NamedTuple):
    """Bytes of a scenario on the device."""

    lane: int  # in a slot, no temporaries
    rest: int  # between two slots
    kept: int  # of its series


def choose_engine(solver: Solver, homes: int, engine: str | None = None) -> tuple[str, int]:
    """The engine and its lanes that suit solver, community and device; or the lanes for a given engine.

    A core: one scenario after the other, or as many lanes as its cache holds. An accelerator: lanes until
    their homes fill it, since more of them only make a step longer.
    """
    if jax.default_backend() != "cpu":
        # Where an evaluation is cheap, what is dear is turning over: by count, for ten thousand scenarios of
        # the pool, lockstep wastes 74 % of its evaluations and free running 9 %, but takes four times the
        # proofs, executions and draws one after the other, hundreds of kernels each (compile_study.py).
        return engine or ("lockstep" if solver.cheap else "free_running"), max(1, DEVICE_HOMES // homes)
    alone = engine != "free_running" and not (solver.cheap and homes < SMALL)
    return engine or "lockstep", 1 if alone else CORE_LANES


def scenarios_per_lane(engine: str) -> int:
    """How many are under way for each lane."""
    return UNDER_WAY if engine == "free_running" else 1


def bytes_per_lane(engine: str, sizes: Sizes) -> int:
    """Bytes that a lane needs: its own with temporaries, and those of the scenarios that rest beside it."""
    resting = UNDER_WAY * sizes.rest if engine == "free_running" else sizes.rest
    return TEMPORARIES * sizes.lane + resting


def suited_lanes(task: Task, scenarios: int, engine: str | None = None) -> tuple[str, int]:
    """`choose_engine` for this many scenarios: its lanes, or as many as there are scenarios for.

    On an accelerator half of its memory must hold them, which binds where few homes have a large network (a
    home alone takes a third of a kB).
    """
    engine, lanes = choose_engine(task.solver, task.community.size, engine)
    if jax.default_backend() == "cpu":
        return engine, lanes
    memory = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", float("inf"))
    room = memory / 2 / bytes_per_lane(engine, bytes_per_scenario(task))
    return engine, max(1, int(min(lanes, -(-scenarios // scenarios_per_lane(engine)), room)))


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


def bytes_per_scenario(task: Task) -> Sizes:
    """Known from shapes alone."""
    rest = jax.eval_shape(partial(begun, task), jnp.zeros((), jnp.int32))
    lane = jax.eval_shape(partial(opened, task), rest)
    series = jax.eval_shape(lambda: nothing_kept(task, 1))
    size = lambda tree: sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))
    return Sizes(size(lane), size(rest), size(series))
