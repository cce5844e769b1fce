"""What a graphics card would do for a slot of a study beside the solver, from the compiled program.

    gpu/bin/python benchmarks/compile_study.py                          both markets and engines, five minutes
    gpu/bin/python benchmarks/compile_study.py --market pool --engine lockstep --lanes 1024

rural3 with its 153 homes and its network, a day, random scenarios: `studies.engine.run_batch`, compiled for
an H100 that is only described; no card is needed (`compile_gpu.py` says how the environment is made). Every
kernel is put down to the room of the package that it comes from; per slot of all lanes its kernels, bytes and
predicted time, and that as a share of the solver's. How many turns the solver takes in a slot, how many
proofs and turn-overs, waiting lanes included, is simulated from recorded counts (`bench_lanes.py`) with four
times as many scenarios as lanes. Other open loops take the turns of TURNS.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from bench_lanes import MARKETS, Schedule, lockstep, simulate, stored_counts  # noqa: E402
from compile_gpu import columns, keep, prediction  # noqa: E402
from gpu_compiler import compile_for, h100  # noqa: E402
from gpu_program import Loop  # noqa: E402

from jaxp2p.studies.free_running import TURNOVER, UNDER_WAY  # noqa: E402

HOMES, SLOTS = 153, 96
# by the function in which an open loop stands; the first that is in its source counts, so that what is called
# comes before what calls it. Counted in lanes of a processor: count_loops.py
TURNS = {
    "slot/admm/solver.py:_keeping_rows": 0,  # entered where a row binds, in rural3 never
    "slot/newton/rescue.py": 0,  # entered where Newton fails, then the slot costs what ADMM costs
    "model/network/z_bus.py": 3,
    "model/markets/bilateral.py": 5,
    "slot/prox/prosumer.py": 6,
    "slot/admm/feeder.py": 2,
    "slot/admm/leap.py": 1,
    "slot/newton/step.py": 1,
    "_once.py": 1,
}
# the first that is anywhere in the source of a kernel counts; outside of the solver's loop
ROOMS = {
    "draw": ("scenarios/",),
    "flow": ("simulation/flows.py", "studies/summary.py:with_flow"),
    "statistics": ("studies/summary.py", "simulation/step.py:record"),
    "prove": ("slot/newton/solver.py:prove",),
    "execute": ("studies/lane.py:judged", "simulation/step.py:execute", "simulation/step.py:after"),
    "open": ("studies/lane.py:opened",),
}
REST = "batch"  # lanes gathered and put back, what a loop carries copied
COLUMNS = ("market", "engine", "solver", "room", "kernels", "mb", "waits", "us", "of_solver")
OUT = HERE / "results" / "compile_study_h100.jsonl"


def arguments(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    markets, engines = list(MARKETS), ["lockstep", "free_running"]
    parser.add_argument("--market", nargs="+", choices=markets, default=markets)
    parser.add_argument("--engine", nargs="+", choices=engines, default=engines)
    parser.add_argument(
        "--kernels", nargs="+", choices=["xla", "fused"], default=["xla", "fused"], help="of the solver"
    )
    parser.add_argument("--lanes", type=int, help="scenarios under way together (as the engine chooses)")
    parser.add_argument("--loops-in-graphs", action="store_true", help="as of compile_gpu.py")
    parser.add_argument("--keep", metavar="FOLDER", help="write the compiled programs there, to look into")
    parser.add_argument("--out", default=str(OUT), help=f"file to append lines to ({OUT.name}); '-': none")
    return parser.parse_args(argv)


def compile_study(place, market: str, engine: str, kernels: str, lanes: int, loops_in_graphs: bool):
    """The program of a batch of twice as many scenarios as lanes."""
    import jax
    import jax.numpy as jnp
    from rivals.study_case import village

    from jaxp2p.studies.engine import run_batch

    task = jax.tree.map(jnp.asarray, village(HOMES, market, slots=SLOTS))
    task = replace(task, solver=replace(task.solver, kernels=kernels))
    numbers = jax.ShapeDtypeStruct((2 * lanes,), jnp.int32)
    batch = partial(run_batch, engine=engine, lanes=lanes)
    return compile_for(place, batch, task, numbers, loops_in_graphs=loops_in_graphs)


class Work(NamedTuple):
    """What all lanes together take in a slot, those that wait included."""

    turns: float  # of the solver, one after the other
    proofs: float  # of the pool in lockstep: all lanes wait for the slowest of them
    turn_overs: float  # of a part of the lanes each, where they run free

    @property
    def to_a_proof(self) -> float:
        """Turns."""
        return self.turns / self.proofs


def work_of(market: str, engine: str, lanes: int) -> Work:
    """By simulation, with four times as many scenarios as lanes."""
    found, scenarios = stored_counts(market), 4 * lanes
    rows = np.random.default_rng(scenarios).integers(0, found.scenarios, scenarios)
    slots = 4 * SLOTS
    if engine == "lockstep":
        line = lockstep(found, rows, lanes)
        proofs = line["proofs"] / slots
    else:
        line = simulate(found, rows, Schedule(lanes, UNDER_WAY, TURNOVER))
        proofs = 1
    return Work(line["iterations_in_a_row"] / found.each / slots, proofs, line["turn_overs"] / slots)


def turns_of(market: str, work: Work) -> Callable[[Loop], float]:
    """Turns of the open loops of a study."""

    def turns(loop: Loop) -> float:
        inner = loop.source[0] if loop.source else ""
        if is_solver(loop):
            steps_are_proofs = market == "pool" and inner.startswith("studies/lockstep.py")
            return work.proofs if steps_are_proofs else work.turns
        if inner.startswith("slot/newton/turns.py"):
            return work.to_a_proof
        if inner.startswith("slot/kernels/climb.py:turns"):  # so many turns of it are a loop of known length
            from jaxp2p.slot.kernels.climb import TURNS as together

            return -(-work.to_a_proof // together)
        if inner.startswith("slot/admm/leap.py"):
            # what a batch does by a rule of its own stands where the rule was asked for: lanes that look at
            # other prices, some at a time, and in it the prices of the certificate
            return TURNS["slot/admm/leap.py" if loop.inner else "model/markets/bilateral.py"]
        return next((n for name, n in TURNS.items() if any(name in part for part in loop.source)), 1)

    return turns


def room_of(source: tuple[str, ...]) -> str:
    """Where a kernel belongs."""
    inside = lambda parts: any(part.startswith(prefix) for part in source for prefix in parts)
    return next((room for room, parts in ROOMS.items() if inside(parts)), REST)


def is_solver(loop: Loop) -> bool:
    """Whether it is the loop of a slot's iterations."""
    names = ("studies/lockstep.py:lockstep.cleared", "studies/free_running.py:_take_turns.round_")
    return loop.turns is None and bool(loop.source) and loop.source[0] in names


class Account:
    """Kernels, bytes and waits by room."""

    def __init__(self, turns: Callable[[Loop], float]):
        self.turns = turns
        self.rooms = {name: [0.0, 0.0, 0.0] for name in ("solver", *ROOMS, REST)}

    def book(self, loop: Loop, times: float) -> None:
        """A loop of which `times` turns belong to a slot."""
        if is_solver(loop):
            return self._add(
                "solver", *(times * loop.total(x, self.turns) for x in ("kernels", "moved", "waits"))
            )
        for kernel in loop.kernels:
            # a copy that the compiler put in has no source of its own
            self._add(room_of(kernel.source or loop.source), times, times * kernel.moved, 0)
        self._add(room_of(loop.source), 0, 0, times * (loop.waits or 0))
        for inner in loop.inner:
            self.book(inner, times * (self.turns(inner) if inner.turns is None else inner.turns))
        return None

    def _add(self, room: str, *figures: float) -> None:
        self.rooms[room] = [a + b for a, b in zip(self.rooms[room], figures, strict=True)]


def rooms(program: Loop, market: str, engine: str, work: Work) -> list[dict]:
    """A line per room, and one of their sum: of one slot of all lanes."""
    account = Account(turns_of(market, work))
    if engine == "lockstep":
        # once per group of lanes: a group has its slots in a loop, and then all their flows together
        (group,) = (loop for loop in program.every() if any(inner.turns == SLOTS for inner in loop.inner))
        account.book(group, 1 / SLOTS)
    else:
        # a round turns over a part of the lanes; how long it iterates is in the solver's turns
        (around,) = (loop for loop in program.every() if any(is_solver(inner) for inner in loop.inner))
        for inner in around.inner:
            turns = account.turns(inner) if inner.turns is None else inner.turns
            account.book(inner, turns * (1 if is_solver(inner) else work.turn_overs))
        account.book(Loop(around.name, None, around.kernels, waits=around.waits), work.turn_overs)
    lines = []
    for room, (kernels, moved, waits) in account.rooms.items():
        us = prediction(kernels, moved, waits)["us_per_step"]
        lines.append(
            {
                "room": room,
                "kernels": round(kernels, 1),
                "mb": round(moved / 1e6, 1),
                "waits": round(waits, 1),
                "us": us,
            }
        )
    total = {name: round(sum(line[name] for line in lines), 1) for name in lines[0] if name != "room"}
    lines.append({"room": "all", **total})
    return [line | {"of_solver": round(line["us"] / lines[0]["us"], 3)} for line in lines]


def main(argv=None) -> list[dict]:
    options = arguments(argv)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # where the community is made
    import jax

    from jaxp2p.studies.engine import DEVICE_HOMES

    lanes = options.lanes or DEVICE_HOMES // HOMES
    place, lines = h100(), []
    for market in options.market:
        for engine, kernels in product(options.engine, options.kernels):
            compiled = compile_study(place, market, engine, kernels, lanes, options.loops_in_graphs)
            if options.keep:
                keep(Path(options.keep), f"{market}-{engine}-{kernels}", compiled)
            head = {"device": "H100, described", "jax": jax.__version__, "market": market, "engine": engine}
            head |= {"solver": kernels}
            head |= {"n": HOMES, "lanes": lanes, "loops_in_graphs": options.loops_in_graphs}
            head |= {"temporary_mb": round(compiled.temporary / 1e6, 1)}
            work = work_of(market, engine, lanes)
            head |= {name: round(number, 2) for name, number in work._asdict().items()}
            found = [head | line for line in rooms(compiled.read(), market, engine, work)]
            lines += found
            if options.out != "-":
                with open(options.out, "a", encoding="utf-8") as file:
                    file.writelines(json.dumps(line) + "\n" for line in found)
    print(columns([list(COLUMNS), *([line[name] for name in COLUMNS] for line in lines)]))
    return lines


if __name__ == "__main__":
    main()
