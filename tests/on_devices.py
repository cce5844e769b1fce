"""Small batches, and what runs on several devices: a process must know its devices before JAX starts.

    python on_devices.py batch|members|worker OUT [COORDINATOR RANK]

writes arrays to OUT; `start` runs this from a test.
"""

import json
import os
import re
import subprocess
import sys
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from communities import small
from jax.sharding import PartitionSpec as P

from jaxp2p.control.policy import suggest_penalties
from jaxp2p.runs.runner import make_policies
from jaxp2p.scenarios.model import materialise, scenario_key
from jaxp2p.scenarios.parse import parse_model
from jaxp2p.simulation.forward import simulate
from jaxp2p.slot.solvers import choose_solver, scale_tolerances
from jaxp2p.studies.devices import pad_community, prosumer_mesh, scenario_mesh, shard_prosumers
from jaxp2p.studies.engine import Batch, Task, run_batch

DRAWN = "bootstrap * adoption(pv=0.7, battery=0.7)"
HOMES = 12
FIRST = 40  # slot of the day, 10:00
SLOTS = 8
TIGHTER = {"pool": 1e-3, "bilateral": 0.1}  # tolerances of the solvers, to see more than they do
COLLECTIVES = re.compile(r"= (.+?) (all-gather|all-reduce|all-to-all|collective-permute)(?:-start)?\(")
SERIES = ("cost_eur", "import_kw", "export_kw", "trade_kw", "stored_kwh", "status", "iterations")


@cache
def make_task(market: str, text: str = "none") -> Task:
    """Two days of a few homes on the 33-bus feeder from 10:00 on, 8 slots in a scenario."""
    community, horizon = small("ieee33", market=market, days=3, homes=HOMES)
    horizon = horizon.slice(FIRST, FIRST + 192)
    return Task(
        community=community,
        horizon=horizon,
        model=parse_model(text, horizon=horizon, community=community),
        penalties=suggest_penalties(horizon),
        policy=make_policies(community, horizon)["lyapunov"],
        solver=scale_tolerances(choose_solver(community), TIGHTER[market]),
        key=jax.random.key(0),
        first_slot_of_week=jnp.int32(FIRST),
        slots=SLOTS,
    )


def numbers(count: int) -> np.ndarray:
    """Numbers of the first scenarios; of no device, so that every process may pass them to a global mesh."""
    return np.arange(count, dtype=np.int32)


def draws(task: Task, numbers):
    """Communities, horizons and batteries of the scenarios, leaves with a leading axis."""

    def one(number):
        key = scenario_key(task.key, number)
        changed, horizon, battery = materialise(task.model, task.community, task.horizon, key, task.slots)
        return changed.prosumers, horizon, battery

    return jax.vmap(one)(numbers)


def numbered(leaves) -> dict[str, np.ndarray]:
    """Leaves by a name."""
    return {f"leaf{place}": np.asarray(leaf) for place, leaf in enumerate(leaves)}


def simulated(task: Task, community, horizon, policy):
    """Trajectory of one scenario."""
    return _simulate(
        community, horizon, task.penalties, policy, task.solver, slot_of_week=task.first_slot_of_week
    )[1]


_simulate = jax.jit(simulate)


def start(mode: str, out: Path, *more: str, devices: int) -> subprocess.Popen:
    """This file as a process of its own with virtual CPU devices."""
    here = Path(__file__)
    path = os.pathsep.join([str(here.parent.parent), os.environ.get("PYTHONPATH", "")])
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": path}
    command = [sys.executable, str(here), mode, str(out), *more]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _batch(out: Path) -> None:
    """Three scenarios on each of 8 devices, where two at a time wait for each other."""
    task, mesh = make_task("pool", DRAWN), scenario_mesh(8)
    all_ = numbers(24)
    result: Batch = run_batch(task, all_, engine="lockstep", lanes=2, mesh=mesh)
    spread = jax.shard_map(
        draws,
        mesh=mesh,
        in_specs=(jax.tree.map(lambda _: P(), task), P("scenario")),
        out_specs=P("scenario"),
        check_vma=False,
    )
    drawn = jax.tree.leaves(jax.jit(spread)(task, all_))
    arrays = {name: getattr(result.series, name) for name in SERIES}
    steps = {"steps_made": result.steps_made, "steps_useful": result.steps_useful}
    np.savez(out, **steps, **arrays, **numbered(drawn))


def _members(out: Path) -> None:
    """One community over 8 devices, filled up with empty members."""
    arrays, found = {}, {}
    for market in ("pool", "bilateral"):
        task = make_task(market)
        community, horizon = pad_community(task.community, task.horizon.slice(0, task.slots), 8)
        policy = make_policies(community, task.horizon)["lyapunov"]
        parts = shard_prosumers(community, horizon, policy, prosumer_mesh(8))
        run = partial(simulated, task)
        program = jax.jit(run).lower(*parts).compile()
        trajectory = program(*parts)
        found[market] = [match.groups() for match in COLLECTIVES.finditer(program.as_text())]
        assert {shard.data.shape for shard in trajectory.energy.addressable_shards} == {(task.slots, 2)}
        for name in ("cost", "energy", "buy", "trade", "status"):
            arrays[f"{market}_{name}"] = np.asarray(getattr(trajectory, name))
    np.savez(out, collectives=json.dumps(found), **arrays)


def _worker(out: Path, coordinator: str, rank: str) -> None:
    """One of two processes that share a mesh of 8 devices; each takes two scenarios, one after the other."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(coordinator, num_processes=2, process_id=int(rank))
    mesh = scenario_mesh()
    assert mesh.size == 8 and len(jax.local_devices()) == 4
    result: Batch = run_batch(make_task("pool", DRAWN), numbers(16), mesh=mesh, lanes=1)
    named = {name: getattr(result.series, name) for name in SERIES} | {"start_kwh": result.start_kwh}
    parts = {
        name: np.concatenate([shard.data for shard in _in_order(array)]) for name, array in named.items()
    }
    rows = np.concatenate([numbers(16)[shard.index[0]] for shard in _in_order(result.start_kwh)])
    np.savez(out, rows=rows, **parts)
    jax.distributed.shutdown()


def _in_order(array):
    return sorted(array.addressable_shards, key=lambda shard: shard.index[0].start)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_disable_most_optimizations", True)  # what is slow here is the compiler
    modes = {"batch": _batch, "members": _members, "worker": _worker}
    modes[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
