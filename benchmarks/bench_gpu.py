"""How near to the limits of the device: solver steps, whole studies, single large slots. One command.

    python benchmarks/bench_gpu.py --out benchmarks/results/bench_gpu.jsonl     at most ten minutes on a GPU
    python benchmarks/bench_gpu.py --small                                      the same on a CPU, small

Needs jax, optax, chex, numpy, scipy and pandas; rivals where they can be imported. Prints one JSON line per
case with the name of the device. A case that does not fit into the memory, or for which no time is left, is a
line that says so. See `benchmarks/README.md`.
"""

import argparse
import gc
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import NamedTuple

from bench_slot import HERE, device_name, spread_out, verdicts
from bench_study import bench_batched, importable, own_version, time_ours

KERNELS = (("pool", "admm"), ("bilateral", "admm"), ("pool", "newton"))
# (homes, scenarios), what tells most first; the product is bounded by the memory
GRID = ((10_000, 100), (1_000_000, 1), (1000, 10_000), (1000, 1), (100_000, 10), (1000, 100), (10_000, 1),
        (100_000, 1), (10_000, 1000), (100_000, 100), (1_000_000, 10))  # fmt: skip
SMALL_GRID = ((1000, 1), (1000, 8))
STEPS = 50  # per timed call
MEMORY_SHARE = 0.4  # of the device, for the arrays of a case; temporaries come on top
BATCHED = ("moreau", "mpax", "qpax", "jaxopt")


def arguments(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", action="store_true", help="small sizes, on the CPU")
    parser.add_argument("--seconds", type=float, default=540, help="after which no new case is started")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--judged", type=int, help="slots per study under the pass rule")
    parser.add_argument("--out", help="file to append the lines to as well")
    parser.add_argument("--reference", nargs=2, help=argparse.SUPPRESS)  # IN OUT: the judge's own process
    options = parser.parse_args(argv)
    options.judged = options.judged or (4 if options.small else 32)
    return options


class Runner:
    """Puts the lines out, keeps the clock, and turns a failure of a case into a line."""

    def __init__(self, options, device: str):
        self.options, self.device = options, device
        self.begin, self.lines = time.monotonic(), []
        self.bandwidth = None  # bytes per second

    @property
    def left(self) -> float:
        return self.options.seconds - (time.monotonic() - self.begin)

    def put(self, line: dict) -> None:
        line = {"device": self.device, **line, "at_s": round(time.monotonic() - self.begin, 1)}
        self.lines.append(line)
        text = json.dumps(line)
        print(text, flush=True)
        if self.options.out:
            with open(self.options.out, "a", encoding="utf-8") as file:
                file.write(text + "\n")

    def case(self, head: dict, measure, *args, needs: float = 0, **kwargs) -> None:
        """Run measure(...) -> dict, unless less than `needs` seconds are left."""
        import jax

        if self.left < needs:
            self.put({**head, "skipped": f"{max(self.left, 0):.0f} s left"})
            return
        try:
            line = {**head, **measure(*args, **kwargs)}
        except (jax.errors.JaxRuntimeError, MemoryError) as error:
            full = "RESOURCE_EXHAUSTED" in str(error) or isinstance(error, MemoryError)
            line = {**head, "failed": "out of memory" if full else str(error).splitlines()[0][:200]}
        self.put(line)
        gc.collect()  # arrays of the case, before the next one needs the room


def fastest(call, repeats: int = 3) -> float:
    """Seconds of the fastest of some calls, after one that does not count."""
    import jax

    jax.block_until_ready(call())
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - begin)
    return min(times)


def memory() -> float:
    """Bytes that a case may take on the device."""
    import jax

    stats = jax.devices()[0].memory_stats() or {}
    return MEMORY_SHARE * stats.get("bytes_limit", 4e9)


def bandwidth(size: int) -> dict:
    """Bytes per second of x -> -x between two large arrays, reads and writes counted."""
    import jax
    import jax.numpy as jnp

    x = jnp.ones((size,), jnp.float32)
    copy = jax.jit(jnp.negative)
    seconds = fastest(lambda: copy(x), repeats=10)
    return {"bytes": 8 * size, "gb_per_second": round(8 * size / seconds / 1e9, 2)}


def counted_floats(kernel: str, *, corners: int, partners: int) -> int:
    """Four-byte words that one update of one home must move when each array is read and written once.

    ADMM, read: the corners (position, width and slope of the pieces between them, first power); fee, limit,
    copies and, between two members, scaled dual and reverse index of every trade; injection copy, price,
    bus and flag of the home. Written: copies, dual, injection copy, price. Between two members every trade
    is written and gathered once more, because a partner's answer is needed. In the pool the dual is a scalar.

    Newton, read: price and power of the corners, gain of the pieces, base, idle position, centre, bus and
    flag, and the last accepted injection, slope and market price. Written: the new ones of these three, and
    the centre.

    A prosumer update evaluates its curve two or three times. Whoever keeps a home in registers or cache in
    the meantime moves no more for that; a loop of separate kernels reads the corners each time.
    """
    if kernel == "newton":
        return 2 * corners + corners // 2 + 8 + 4
    per_trade = 3 + 1 if partners == 1 else 5 + 2 + 2
    return 3 * corners - 1 + per_trade * partners + 4 + 2


class Tasks:
    """Communities are made once per size: a million homes take the host half a minute."""

    def __init__(self):
        self.made = {}

    def get(self, homes: int, market: str):
        from dataclasses import replace

        from rivals.study_case import PARTNERS, matchings, scaled

        from jaxp2p.slot.solvers import choose_solver

        if homes not in self.made:
            self.made = {homes: scaled(homes, "pool", slots=4)} | (self.made if homes < 1_000_000 else {})
        task = self.made[homes]
        if market == "pool":
            return task
        community = replace(task.community, market=matchings(homes, PARTNERS))
        return replace(task, community=community, solver=choose_solver(community))


def one_problem(task):
    """The first slot as the engine poses it."""
    import jax
    import jax.numpy as jnp

    from jaxp2p.control.policy import slot_problem
    from jaxp2p.simulation.forward import slots

    row = jax.tree.map(lambda x: x[0], slots(task.horizon))
    energy = task.community.prosumers.battery.energy_start
    return slot_problem(task.community, task.penalties, task.policy, row, energy, jnp.int32(0))


class StepFunctions(NamedTuple):
    """Of one scenario; `begin` takes the factor by which its loads and its sun are multiplied."""

    begin: Callable  # factor () -> (leaves of the problem, devices, state)
    step: Callable  # (leaves, devices, state) -> state
    counted: int  # bytes that an update of one home must move


def steps_of(step: Callable, steps: int) -> Callable:
    """So many steps of all scenarios, (leaves, devices, state) -> state, each with a leading axis S."""
    import jax

    def many(leaves, devices, state):
        return jax.lax.fori_loop(0, steps, lambda _, s: jax.vmap(step)(leaves, devices, s), state)

    return many


def step_functions(task, kernel: str, dtype=None, variant: str = "xla") -> StepFunctions:
    """One step of a slot solver, as the engine takes it; dtype: of the problem, as it is by default.

    variant: "xla", or "fused" for the kernels of `jaxp2p.slot.kernels`. ADMM without rows of the network.
    """
    import jax
    import jax.numpy as jnp

    from jaxp2p.slot.admm import solver as admm
    from jaxp2p.slot.newton import solver as newton
    from jaxp2p.slot.prox.prosumer import curve
    from jaxp2p.slot.solvers import ADMM, Newton

    problem = one_problem(task)
    if dtype is not None:
        floats = lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x
        problem = jax.tree.map(floats, problem)
    shared = {"coupling": problem.coupling}
    moving = {n: v for n, v in problem.__dict__.items() if n not in shared}
    unpack = lambda leaves: type(problem)(**leaves, **shared)

    def varied(factor):
        scale = {n: moving[n] * factor for n in ("load", "load_min", "load_max", "pv_max")}
        return moving | scale

    def begin(factor):
        leaves = varied(factor)
        own = unpack(leaves)
        if variant == "fused":
            return leaves, *fused_begin(own, kernel)
        if kernel == "newton":
            return leaves, None, newton.begin(own, Newton(kernels="xla"), newton.init(own))
        state = admm.init(own, ADMM())
        return leaves, curve(own.response(), state.rho[1]), state

    def step(leaves, devices, state):
        if variant == "fused":
            return fused_step(unpack(leaves), kernel, devices, state)
        if kernel == "newton":
            return newton.turn(unpack(leaves), Newton(kernels="xla"), state)
        return admm.step(unpack(leaves), ADMM(), devices, state)[0]

    corners = 2 * problem.pieces().gain.shape[0]
    words = counted_floats(kernel, corners=corners, partners=problem.market.fee.shape[0])
    return StepFunctions(begin, step, words * problem.load.dtype.itemsize)


def fused_begin(problem, kernel: str) -> tuple:
    """What stays and what moves in a loop of steps by kernels of our own."""
    from jaxp2p.slot.admm import solver as admm
    from jaxp2p.slot.kernels import consensus
    from jaxp2p.slot.newton import solver as newton
    from jaxp2p.slot.solvers import ADMM, Newton

    if kernel == "newton":
        search = newton.begin(problem, Newton(kernels="fused"), newton.init(problem))
        return search.setup, search.turning
    state = admm.init(problem, ADMM())
    opened = consensus.opened(problem, state)._replace(moved=None)
    about = consensus.community(problem, ADMM(), problem.response(), state.rho)
    return (about.devices, about.numbers), opened  # the rest is the same for all scenarios


def fused_step(problem, kernel: str, devices, state):
    from jaxp2p.slot.kernels import climb, consensus
    from jaxp2p.slot.solvers import ADMM, Newton

    if kernel == "newton":
        return climb.turn(problem, Newton(kernels="fused"), devices, state)
    response, numbers = devices
    about = consensus.community(problem, ADMM(), response, numbers[:2])._replace(numbers=numbers)
    return consensus.homes_step(problem, about, state, None, interpret=False)[0]


def step_case(task, kernel: str, scenarios: int, *, steps: int, analyse: bool, variant: str = "xla") -> dict:
    """Time of one step of all scenarios, in a loop of fixed length; every scenario has its own loads."""
    import jax
    import jax.numpy as jnp

    begin, step, counted = step_functions(task, kernel, variant=variant)
    many = steps_of(step, steps)
    factor = jnp.linspace(0.5, 1.5, scenarios)
    shapes = jax.eval_shape(jax.vmap(begin), factor)
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(shapes))
    if 2 * size > memory():
        return {"skipped": f"{2 * size / 1e9:.1f} GB of arrays"}
    begun = jax.block_until_ready(jax.jit(jax.vmap(begin))(factor))
    clock = time.perf_counter()
    compiled = jax.jit(many).lower(*begun).compile()
    compile_s = time.perf_counter() - clock
    seconds = fastest(lambda: compiled(*begun)) / steps
    homes = task.community.size
    updates = homes * scenarios / seconds
    line = {
        "us_per_step": round(1e6 * seconds, 2),
        "ns_per_update": float(f"{1e9 / updates:.4g}"),
        "updates_per_second": float(f"{updates:.4g}"),
        "bytes_counted": counted,
        "array_gb": round(size / 1e9, 3),
        "compile_s": round(compile_s, 1),
    }
    if analyse:
        # of a single step: the analysis counts the body of a loop once, however often it runs
        cost = jax.jit(jax.vmap(step)).lower(*begun).compile().cost_analysis() or {}
        cost = cost[0] if isinstance(cost, list) else cost
        total = cost.get("bytes accessed")
        line["bytes_compiled"] = total and round(total / (homes * scenarios), 1)
        line["flops_compiled"] = cost.get("flops") and round(cost["flops"] / (homes * scenarios), 1)
    return line


def steps_part(run: Runner, tasks: Tasks, grid) -> None:
    import jax

    variants = ("xla", "fused") if jax.default_backend() == "gpu" else ("xla",)
    for number, (homes, scenarios) in enumerate(grid):
        for (market, kernel), variant in product(KERNELS, variants):
            case = {"market": market, "kernel": kernel, "variant": variant}
            head = {"part": "steps", **case, "n": homes, "scenarios": scenarios}

            def measure(
                homes=homes, scenarios=scenarios, market=market, kernel=kernel, number=number, variant=variant
            ):
                steps = STEPS if homes * scenarios <= 1e6 else STEPS // 5
                task = tasks.get(homes, market)
                line = step_case(task, kernel, scenarios, steps=steps, analyse=number == 0, variant=variant)
                if run.bandwidth and "updates_per_second" in line:
                    moved = line["updates_per_second"] * line["bytes_counted"]
                    line["of_bandwidth"] = float(f"{moved / run.bandwidth:.3g}")
                return line

            run.case(head, measure, needs=25)


def judge_ours(task, *, slots: int, sample: int, scenarios: int = 1, budget: float = 60) -> dict:
    """The pass rule on executed dispatches of our own run.

    The optimum comes from this solver in float64 on the CPU with tight tolerances, in a process of its own;
    where that takes too long it is a lower bound by weak duality from our own prices, which is stricter.
    """
    from dataclasses import replace

    import numpy as np
    from rivals.case import Case, dual_bounds
    from rivals.judge import judge
    from rivals.study_case import record

    problems, points, _ = record(replace(task, slots=slots), np.arange(scenarios))
    chosen = spread_out(sample, len(problems))
    names = [n for n in problems[0].__dataclass_fields__ if n != "coupling"]
    # pickled as numpy: the other process must not meet this one's device
    plain = lambda record: {n: v if isinstance(v, str | bool) else np.asarray(v) for n, v in record.items()}
    market, feeder = problems[0].market, problems[0].feeder
    job = {"market": plain(market.__dict__) | {"kind": market.kind}, "feeder": plain(feeder.__dict__)}
    take = lambda p: {n: None if getattr(p, n) is None else np.asarray(getattr(p, n)) for n in names}
    job["problems"] = [take(problems[t]) for t in chosen]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.pkl", Path(folder) / "out.pkl"
        source.write_bytes(pickle.dumps(job))
        command = [sys.executable, str(HERE / "bench_gpu.py"), "--reference", str(source), str(target)]
        env = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1", "XLA_FLAGS": ""}
        reason = f"no reference within {budget:.0f} s"
        try:
            done = subprocess.run(command, env=env, timeout=budget, capture_output=True, text=True)
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or ["no message"])[-1][:200]
        except subprocess.TimeoutExpired:
            pass
        optimum = pickle.loads(target.read_bytes()) if target.exists() else []
    if optimum:
        note = {"reference": "float64 on the CPU, tolerances / 30"}
    else:
        outcomes = [(points[t]["row_price"], points[t]["market_price"]) for t in chosen]
        bounds = dual_bounds(Case(task.community, [problems[t] for t in chosen], outcomes))
        optimum, note = list(bounds.values()), {"reference": "dual bound", "reference_note": reason}
    bound_only = "reference_note" in note
    pairs = zip(chosen, optimum, strict=False)
    judged = {t: judge(problems[t], points[t], best, bound_only=bound_only) for t, best in pairs}
    return {**verdicts(judged), **note}


def reference(source: str, target: str) -> None:
    """Optimum (EUR) of every slot by our solver in float64; written after each, so that a kill loses one."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from rivals.judge import objective
    from rivals.lean import host

    from jaxp2p.model.markets import KINDS
    from jaxp2p.model.types import Feeder
    from jaxp2p.slot import solvers
    from jaxp2p.slot.problem import Coupling, SlotProblem
    from jaxp2p.slot.solvers import ADMM, Newton, scale_tolerances

    job = pickle.loads(Path(source).read_bytes())
    wide = lambda v: jnp.asarray(v, jnp.float64) if np.issubdtype(v.dtype, np.floating) else jnp.asarray(v)
    arrays = lambda leaves: {n: wide(v) if isinstance(v, np.ndarray) else v for n, v in leaves.items()}
    market, feeder = dict(job["market"]), job["feeder"]
    kind = KINDS[str(market.pop("kind"))]
    market |= {"limited": bool(market["limited"])}
    shared = Coupling(market=kind(**arrays(market)), feeder=Feeder(**arrays(feeder)))
    pool = shared.market.pooled
    solver = scale_tolerances(Newton(max_iter=3000) if pool else ADMM(max_iter=30_000), 1 / 30)

    @jax.jit
    def solve(problem):
        outcome = solvers.solve(problem, solver, solvers.init(problem, solver))
        return solvers.executed(problem, outcome)

    found = []
    for leaves in job["problems"]:
        problem = SlotProblem(**arrays(leaves), coupling=shared)
        d = solve(problem).dispatch
        names = ("injection", "pv_used", "charge", "discharge", "trades", "buy", "sell")
        point = {n: np.asarray(getattr(d, n), float) for n in names}
        found.append(objective(host(problem), np.asarray(shared.market.fee, float), point))
        Path(target).write_bytes(pickle.dumps(found))


def study_case(task, scenarios: int, *, judged: int, repeats: int = 2) -> dict:
    """A whole study with random draws and storage, and the pass rule on a sample of its slots."""
    figures, batch = time_ours(task, scenarios, repeats=repeats)
    figures["prosumer_slots_per_second"] = round(figures["scenario_slots_per_second"] * task.community.size)
    figures["ms_per_slot"] = round(1e3 * figures["wall_s"] / task.slots, 3)
    del batch
    if judged:
        figures |= judge_ours(task, slots=min(task.slots, 32), sample=judged)
    return figures


def studies_part(run: Runner, tasks: Tasks) -> None:
    """rural3 and the 300 homes of ieee33, a day; as many scenarios as fill the device."""
    from rivals.study_case import village

    small = run.options.small
    for market in ("pool", "bilateral"):
        for homes, scenarios in ((153, 8),) if small else ((153, 8192), (300, 4096)):
            head = {"part": "study", "market": market, "n": homes}

            def measure(homes=homes, market=market, scenarios=scenarios):
                task = village(homes, market, slots=8 if small else 96)
                return study_case(task, scenarios, judged=run.options.judged, repeats=1)

            run.case(head, measure, needs=60)


def slots_part(run: Runner, tasks: Tasks) -> None:
    """Single large communities: 12,300 homes on 123 buses slot after slot, and a million in one slot."""
    from rivals.study_case import scaled

    small = run.options.small
    many, all_ = (1230, 10_000) if small else (12_300, 1_000_000)
    for market in ("pool", "bilateral"):

        def feeder123(market=market):
            task = scaled(many, market, slots=8 if small else 32, buses=123)
            return study_case(task, 1, judged=run.options.judged)

        def million(market=market):
            from dataclasses import replace

            task = replace(tasks.get(all_, market), slots=1)
            return study_case(task, 1, judged=1)

        run.case({"part": "feeder123", "market": market, "n": many, "buses": 123}, feeder123, needs=60)
        run.case({"part": "one slot", "market": market, "n": all_}, million, needs=60)


def rivals_part(run: Runner, tasks: Tasks) -> None:
    """Batched solvers on slots of the rural3 study, lean programs, under the same rule."""
    import numpy as np
    from rivals.judge import objective
    from rivals.lean import host, lean
    from rivals.study_case import record, village

    names = [name for name in BATCHED if importable(name)]
    for name in BATCHED:
        if name not in names:
            run.put(
                {"part": "rivals", "solver": name, "market": "pool", "n": 153, "skipped": "not installed"}
            )
    if not names or run.left < 60:
        return
    task = village(153, "pool", slots=8 if run.options.small else 96)
    problems, points, _ = record(task, np.arange(1))
    qp, layout = lean(problems)
    order = spread_out(4 if run.options.small else 64, len(problems))
    fee = np.asarray(problems[0].market.fee, float)
    # held against our own dispatches, which the study part judges
    ours = {t: objective(host(problems[t]), fee, points[t]) for t in order}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            head = {"part": "rivals", "solver": name, "market": "pool", "n": 153}
            more = {"cores": len(os.sched_getaffinity(0)), "folder": Path(folder), "optimum": ours}
            budget = min(60, run.left)
            run.case(
                head, bench_batched, name, qp, order, problems, layout, budget=budget, needs=30, **more
            )  # fmt: skip


def bandwidth_part(run: Runner, tasks: Tasks) -> None:
    size = 2**24 if run.options.small else int(min(2**29, memory() / 16))
    run.case({"part": "bandwidth"}, bandwidth, size)
    run.bandwidth = 1e9 * run.lines[-1].get("gb_per_second", 0) or None


def first_steps_part(run: Runner, tasks: Tasks) -> None:
    steps_part(run, tasks, SMALL_GRID[:1] if run.options.small else GRID[:2])


def more_steps_part(run: Runner, tasks: Tasks) -> None:
    steps_part(run, tasks, SMALL_GRID[1:] if run.options.small else GRID[2:])


PARTS = {
    "bandwidth": bandwidth_part,
    "first_steps": first_steps_part,
    "studies": studies_part,
    "slots": slots_part,
    "more_steps": more_steps_part,
    "rivals": rivals_part,
}


def main(argv=None) -> list[dict]:
    options = arguments(argv)
    # the rivals and the reference are other processes and need room on the device too
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if options.reference:
        reference(*options.reference)
        return []
    if options.small:
        os.environ["JAX_PLATFORMS"] = "cpu"
    import jax

    kind = jax.default_backend()
    run = Runner(options, device_name("cpu" if kind == "cpu" else "gpu"))
    run.put({"part": "start", "backend": kind, "jax": jax.__version__, "version": own_version()})
    tasks = Tasks()
    for name in options.parts:
        PARTS[name](run, tasks)
    return run.lines


if __name__ == "__main__":
    main()
