"""Whole studies: scenario-slots per second, ours against process pools and batched solvers.

    python benchmarks/bench_study.py --quick                under five minutes: N = 153, smaller samples
    python benchmarks/bench_study.py --out benchmarks/results/bench_study_cpu.jsonl
    python benchmarks/bench_study.py --part throughput      ours against S and N, and the picture

Prints one JSON line per market, size and solver, and a summary line per market and size. Ours runs a day of
every scenario, storage and random draws included. The rivals solve a sample of the slots that came up on the
way, as lean programs (`rivals/lean.py`): nothing else is timed for them. See `benchmarks/README.md`.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_slot import (
    HERE,
    device_name,
    installed,
    read_records,
    references,
    rival_points,
    spread_out,
    verdicts,
)

MARKETS, SIZES, ENGINES = ("pool", "bilateral"), (153, 300), ("free_running", "lockstep")
POOLS, BATCHED = ("piqp", "clarabel"), ("moreau", "qpax", "mpax", "jaxopt")
SAMPLED_SCENARIOS = 16  # whose slots the rivals get
THROUGHPUT_SLOTS = 16
# scenarios of 153 homes; homes, and the prosumer-slots that a size may take (at least a scenario per core)
COUNTS = (10, 30, 100, 300, 1000, 3000, 10_000)
HOMES = {
    "pool": (30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000, 300_000),
    "bilateral": (30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000),
}
WORK = {"pool": 1.6e7, "bilateral": 1.6e6}


def arguments(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", nargs="+", choices=("rivals", "throughput"), default=["rivals"])
    parser.add_argument("--n", type=int, nargs="+", default=list(SIZES), help="153: rural3; else: ieee33")
    parser.add_argument("--market", nargs="+", choices=MARKETS, default=list(MARKETS))
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--rivals", nargs="*", choices=POOLS + BATCHED, default=list(POOLS + BATCHED))
    parser.add_argument("--scenarios", type=int, default=256, help="of ours")
    parser.add_argument("--slots", type=int, default=96, help="per scenario")
    parser.add_argument("--sample", type=int, default=512, help="recorded slots for the process pools")
    parser.add_argument("--batch", type=int, default=32, help="of these, slots for the batched rivals")
    parser.add_argument("--judged", type=int, default=32, help="of these, slots under the pass rule")
    parser.add_argument(
        "--budget", type=float, default=120, help="seconds per rival and case, compilation too"
    )
    parser.add_argument("--repeats", type=int, default=2, help="the fastest counts, for everybody")
    parser.add_argument("--cores", type=int, help="default: all that this process may use")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", help="file to append the lines to; default: standard output")
    parser.add_argument("--picture", help="PNG of the throughput part")
    options = parser.parse_args(argv)
    if options.quick:
        options.n, options.scenarios, options.sample, options.budget = [153], 64, 128, 15
        options.batch, options.repeats = 8, 1
    options.batch, options.judged = (min(x, options.sample) for x in (options.batch, options.judged))
    return options


def cores_of(options) -> list[int]:
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count())
    return list(usable)[: options.cores]


def mesh_of(devices: int):
    """The devices that share the scenarios; None for one."""
    import jax
    import numpy as np
    from jax.sharding import Mesh

    return None if devices == 1 else Mesh(np.array(jax.devices()[:devices]), ("scenario",))


def time_ours(task, scenarios: int, *, engine: str | None = None, repeats: int = 2) -> tuple[dict, object]:
    """Figures of one study and its result; compiled before the clock starts."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxp2p.slot.status import Status
    from jaxp2p.studies.engine import run_batch

    devices = len(jax.devices())
    numbers = jnp.arange(-(-scenarios // devices) * devices, dtype=jnp.int32)
    begin = time.perf_counter()
    compiled = run_batch.lower(task, numbers, engine=engine, mesh=mesh_of(devices)).compile()
    compile_s = time.perf_counter() - begin
    times = []
    for _ in range(repeats):
        begin, busy = time.perf_counter(), time.process_time()
        batch = jax.block_until_ready(compiled(task, numbers))
        times.append((time.perf_counter() - begin, time.process_time() - busy))
    wall, cpu = min(times)
    slots = len(numbers) * task.slots
    made, useful = (float(np.sum(x)) for x in (batch.steps_made, batch.steps_useful))
    figures = {
        "scenarios": len(numbers),
        "slots": task.slots,
        "scenario_slots_per_second": round(slots / wall, 1),
        "per_core_second": round(slots / cpu, 1),
        "iterations_wasted_share": round(1 - useful / made, 4),
        "iterations_mean": round(useful / slots, 1),
        "unsolved": int(np.isin(batch.series.status, (Status.MAX_ITER, Status.NUMERICAL_ERROR)).sum()),
        "wall_s": round(wall, 3),
        "cpu_s": round(cpu, 3),
        "compile_s": round(compile_s, 1),
        "cores": devices,
        "version": f"{own_version()}, jax {jax.__version__}",
    }
    return figures, batch


def own_version() -> str:
    from jaxp2p import __version__

    return f"jaxp2p {__version__}" if installed("jaxp2p") else f"jaxp2p {__version__} source"


def run_pool(name: str, qp, slots, *, cores: list[int], budget: float, folder: Path):
    """A process per core, each with its share of the slots: records, wall and processor seconds, or a reason.

    Wall is that of the slowest process, between the first slot and the last, as if they began together.
    """
    from rivals import solvers

    running = []
    for number, core in enumerate(cores):
        share = slots[number :: len(cores)]
        if not share:
            continue
        source, target = folder / f"in{number}.pkl", folder / f"out{number}.pkl"
        target.unlink(missing_ok=True)
        solvers.save(source, qp, slots=share, cold=True, repeats=1, seconds=budget)
        command = [sys.executable, "-m", "rivals.solvers", name, str(source), str(target)]
        process = subprocess.Popen(command, cwd=HERE, stderr=subprocess.PIPE, text=True)
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(process.pid, {core})
        running.append((process, target))
    deadline, records, walls, version, reason = time.monotonic() + 4 * budget, [], [], None, ""
    for process, target in running:
        try:
            message = process.communicate(timeout=max(1, deadline - time.monotonic()))[1]
            if process.returncode:
                reason = last_error(message)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            reason = f"time budget of {budget:g} s"
        head, *mine = read_records(target) or [None]
        version = version or (head and head["version"])
        walls.append(sum(r["ms"] for r in mine) / 1e3)
        records += mine
    return version, records, max(walls), reason


def last_error(text: str) -> str:
    """What a process died of: the last line that names an error."""
    lines = [line for line in text.splitlines() if line.strip()] or ["no message"]
    named = [line for line in lines if "Error" in line.split(":")[0]]
    return (named or lines)[-1].strip()[:200]


def bench_pool(name: str, qp, order, problems, layout, *, cores, budget, folder, optimum) -> dict:
    """The line of a process pool."""
    from rivals.judge import judge

    version, records, wall, reason = run_pool(name, qp, order, cores=cores, budget=budget, folder=folder)
    if not records:
        return {"skipped": reason or f"no slot within {budget:g} s"}
    _, points, _, iterations = rival_points(problems, layout, records)
    judged = {t: judge(problems[t], points[t], optimum[t]) for t in optimum if t in points}
    cpu = sum(r["cpu_ms"] for r in records) / 1e3
    line = {
        "scenarios": None,
        "slots": len(records),
        "scenario_slots_per_second": round(len(records) / wall, 1),
        "per_core_second": round(len(records) / cpu, 1),
        **verdicts(judged),
        "iterations_wasted_share": 0.0,
        "iterations_mean": round(sum(iterations) / len(iterations), 1),
        "wall_s": round(wall, 3),
        "cpu_s": round(cpu, 3),
        "cores": len(cores),
        "version": f"{name} {version}",
    }
    if len(records) < len(order):
        line["cut"] = f"{len(records)} of {len(order)} slots: {reason or f'time budget of {budget:g} s'}"
    return line


def bench_batched(
    name: str, qp, order, problems, layout, *, cores, budget, folder, optimum, repeats=2
) -> dict:
    """The line of a solver that takes all slots of `order` at once, on all cores or on the accelerator."""
    from rivals import batched
    from rivals.judge import judge
    from rivals.lean import executed

    source, target = folder / "in.pkl", folder / "out.pkl"
    target.unlink(missing_ok=True)
    batched.save(source, qp, slots=order, repeats=repeats)
    many = {n: str(cores) for n in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")}
    flags = {"XLA_FLAGS": "", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    command = [sys.executable, "-m", "rivals.batched", name, str(source), str(target)]
    reason = ""
    try:
        done = subprocess.run(
            command, cwd=HERE, timeout=budget, capture_output=True, text=True, env=os.environ | many | flags
        )
        if done.returncode:
            reason = last_error(done.stderr)
    except subprocess.TimeoutExpired:
        reason = (
            f"time budget of {budget:g} s for compilation and {repeats + 1} batches of {len(order)} slots"
        )
    head, *times = read_records(target) or [None]
    if head is None:
        return {"skipped": reason}
    # killed in the second batch: the first one, compilation included, is all there is
    best = min(times, key=lambda r: r["wall_s"], default={"wall_s": head["first_s"], "cpu_s": None})
    points = {t: executed(problems[t], layout, x) for t, x in zip(order, head["x"], strict=True)}
    judged = {t: judge(problems[t], points[t], optimum[t]) for t in optimum if t in points}
    cpu = best["cpu_s"]
    return {
        "scenarios": None,
        "slots": len(order),
        "scenario_slots_per_second": round(len(order) / best["wall_s"], 2),
        "per_core_second": cpu and round(len(order) / cpu, 2),
        **verdicts(judged),
        "claimed": int(head["claimed"].sum()),
        "iterations_wasted_share": None,
        "wall_s": round(best["wall_s"], 3),
        "cpu_s": cpu and round(cpu, 3),
        "first_s": round(head["first_s"], 1),
        "cores": cores,
        "version": head["version"],
        **({} if times else {"cut": reason}),
    }


def bench_case(market: str, homes: int, options, put) -> None:
    """Ours and the rivals on one market and size."""
    import numpy as np
    from rivals.case import Case
    from rivals.judge import judge
    from rivals.lean import lean
    from rivals.study_case import record, village

    common = {"market": market, "n": homes, "device": device_name("cpu")}
    task = village(homes, market, slots=options.slots)
    drawn = min(SAMPLED_SCENARIOS, options.scenarios, -(-options.sample // options.slots) * 4)
    numbers = np.arange(drawn, dtype=np.int32) * (options.scenarios // drawn)
    problems, points, cost = record(task, numbers)
    keep = spread_out(options.sample, len(problems))
    qp, layout = lean(problems)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        case = Case(task.community, problems, [])
        optimum, _, reason = references(
            case, qp, layout, keep[: options.judged], budget=10 * options.budget, folder=folder
        )
        put(
            {
                **common,
                "reference": "clarabel 1e-9",
                "reference_slots": len(optimum),
                **({} if len(optimum) == options.judged else {"reference_note": reason}),
                "lean_columns": len(qp.P),
                "lean_rows": qp.A.shape[0] + qp.G.shape[0],
            }
        )
        judged = verdicts({t: judge(problems[t], points[t], optimum[t]) for t in optimum})
        lines = []
        for engine in options.engines:
            figures, batch = time_ours(task, options.scenarios, engine=engine, repeats=options.repeats)
            theirs = np.asarray(batch.series.cost_eur)[numbers].sum(axis=1)
            # the judged dispatches come from one scenario at a time: the study must tell the same story
            away = float(np.abs(theirs - cost.sum(axis=1)).max() / np.abs(cost).sum(axis=1).max())
            line = {**common, "solver": f"jaxp2p {engine}", **figures, **judged, "day_cost_differs_rel": away}
            lines.append(line)
            put(line)
        for solver in options.rivals:
            line = {**common, "solver": solver}
            shared = {"budget": options.budget, "folder": folder, "optimum": optimum}
            if not importable(solver):
                line |= {"skipped": "not installed"}
            elif solver in POOLS:
                cores = cores_of(options)
                line |= bench_pool(solver, qp, keep, problems, layout, cores=cores, **shared)
            else:
                batch = keep[: options.batch]
                cores = len(cores_of(options))
                line |= bench_batched(solver, qp, batch, problems, layout, cores=cores, **shared)
            lines.append(line)
            put(line)
    put(summary(common, lines))


def importable(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None


def summary(common: dict, lines: list[dict]) -> dict:
    """Ours over the best rival that passes, by the wall clock and per second of a core.

    A rival counts when at most one slot of 32 fails. `ratios` has all of them, failed or not.
    """
    timed = [line for line in lines if "skipped" not in line]
    ours = [line for line in timed if line["solver"].startswith("jaxp2p")]
    rivals = [line for line in timed if line not in ours]
    rate = lambda line: line["scenario_slots_per_second"]
    best = max(ours, key=rate)
    out = {"summary": True, **common, "ours": best["solver"], "scenario_slots_per_second": rate(best)}
    out |= {"passed": best["passed"], "of": best["of"]}
    good = [x for x in rivals if x["of"] and x["passed"] >= x["of"] - x["of"] // 32]
    rival = max(good, key=rate, default=None)
    out |= {"best_rival": rival and rival["solver"], "ratio": rival and ratio(rate(best), rate(rival))}
    if rival and rival["per_core_second"]:
        out["ratio_per_core_second"] = ratio(best["per_core_second"], rival["per_core_second"])
    out["ratios"] = {x["solver"]: ratio(rate(best), rate(x)) for x in rivals}
    out["failed"] = [x["solver"] for x in rivals if x not in good]
    engines = {x["solver"].split()[1]: rate(x) for x in ours}
    if len(engines) == 2:
        out["lockstep_over_free_running"] = ratio(engines["lockstep"], engines["free_running"])
    return out


def ratio(a: float, b: float) -> float:
    return float(f"{a / b:.3g}")


def throughput(options, put) -> list[dict]:
    """Ours against the number of scenarios (rural3) and of homes (the scaled feeder)."""
    from rivals.study_case import scaled, village

    lines = []

    def add(against: str, market: str, homes: int, task, scenarios: int) -> None:
        figures = time_ours(task, scenarios, repeats=options.repeats)[0]
        homes_per_second = round(figures["scenario_slots_per_second"] * homes)
        common = {"throughput": against, "market": market, "n": homes, "device": device_name("cpu")}
        lines.append({**common, **figures, "prosumer_slots_per_second": homes_per_second})
        put(lines[-1])

    for market in options.market:
        counts, sizes = COUNTS, HOMES[market]
        if options.quick:
            counts, sizes = counts[:4], sizes[:4]
        task = village(153, market, slots=THROUGHPUT_SLOTS)
        for scenarios in counts:
            add("scenarios", market, 153, task, scenarios)
        for homes in sizes:
            limit = WORK[market] / (4 if options.quick else 1) / (homes * THROUGHPUT_SLOTS)
            scenarios = max(len(cores_of(options)), min(256, int(limit)))
            task = scaled(homes, market, slots=THROUGHPUT_SLOTS)
            add("homes", market, homes, task, scenarios)
        for against, x in AXES.items():
            rows = [row for row in lines if row.get("throughput") == against and row["market"] == market]
            put({"growth": against, "market": market, "exponent": growth(rows, x)})
    return lines


AXES = {"scenarios": "scenarios", "homes": "n"}  # what is varied, and its key


def growth(rows: list[dict], x: str) -> float:
    """Exponent g of cost ~ x^g by least squares on logarithms: 1 is linear.

    Against homes the cost of one scenario's slot counts; against scenarios the cost of all of them.
    """
    import numpy as np

    size = np.array([row[x] for row in rows], float)
    per_slot = np.array([1 / row["scenario_slots_per_second"] for row in rows])
    cost = per_slot * size if x == "scenarios" else per_slot
    return round(float(np.polyfit(np.log(size), np.log(cost), 1)[0]), 3)


def draw(lines: list[dict], path: str) -> None:
    """Two log-log panels: prosumer-slots per second against S and against N; level means linear cost."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
    labels = {"scenarios": "scenarios (153 homes)", "homes": "homes"}
    for panel, (kind, x) in zip(panels, AXES.items(), strict=True):
        for market, marker in zip(MARKETS, "os", strict=True):
            rows = [line for line in lines if line["throughput"] == kind and line["market"] == market]
            if rows:
                rates = [row["prosumer_slots_per_second"] for row in rows]
                panel.loglog([row[x] for row in rows], rates, marker=marker, label=market)
        panel.set(xlabel=labels[kind])
        panel.grid(True, which="both", alpha=0.25)
    panels[0].set(ylabel="prosumer-slots per second")
    bottom, top = panels[0].get_ylim()
    panels[0].set_ylim(10 ** math.floor(math.log10(bottom)), 10 ** math.ceil(math.log10(top)))
    panels[1].legend(frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main(argv=None) -> list[dict]:
    options = arguments(argv)
    cores = cores_of(options)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jaxp2p

    jaxp2p.set_xla_flags()
    # one device per core, each with one thread: devices never wait for each other
    flags = f"--xla_force_host_platform_device_count={len(cores)} --xla_cpu_multi_thread_eigen=false"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()
    lines = []

    def put(line: dict) -> None:
        lines.append(line)
        text = json.dumps(line)
        if options.out:
            with open(options.out, "a", encoding="utf-8") as file:
                file.write(text + "\n")
        else:
            print(text, flush=True)

    if "rivals" in options.part:
        for market in options.market:
            for homes in options.n:
                bench_case(market, homes, options, put)
    if "throughput" in options.part:
        measured = throughput(options, put)
        if options.picture:
            draw(measured, options.picture)
    return lines


if __name__ == "__main__":
    main()
