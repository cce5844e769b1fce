"""One slot, cold, and 32 consecutive slots, warm-started: ours against PIQP, Clarabel, OSQP and cvxpy.

    python benchmarks/bench_slot.py --quick                       N = 300 and 3,000, under five minutes
    python benchmarks/bench_slot.py --n 30000 --market pool       one size
    python benchmarks/bench_slot.py --out benchmarks/results/bench_slot_cpu.jsonl

Prints one JSON line per market, size, mode and solver, and a summary line per market, size and mode. See
`benchmarks/README.md` for what is timed, what counts as passed and how to read the lines.
"""

import argparse
import json
import math
import os
import pickle
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[name] = "1"
sys.path[:0] = [str(HERE), str(HERE.parent)]

SIZES, MARKETS = (300, 3000, 30000), ("pool", "bilateral")
WALL = 4  # a rival is also stopped after this many times its budget by the wall clock
REPEATS = 3  # of the 32 slots; per slot the fastest counts, for everybody


def arguments(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, nargs="+", default=list(SIZES), help="numbers of homes")
    parser.add_argument("--market", nargs="+", choices=MARKETS, default=list(MARKETS))
    parser.add_argument("--rivals", nargs="+", help="names; default: all")
    parser.add_argument("--slots", type=int, default=32)
    parser.add_argument(
        "--budget", type=float, default=600, help="processor seconds per rival and case (default 600)"
    )
    parser.add_argument("--quick", action="store_true", help="N = 300 and 3,000 with small time budgets")
    parser.add_argument("--core", type=int, help="core to run on; default: the last one there is")
    parser.add_argument("--device", default="cpu", choices=["cpu", "gpu"], help="where ours runs")
    parser.add_argument("--out", help="file to append the lines to; default: standard output")
    options = parser.parse_args(argv)
    if options.quick:
        options.n = [n for n in options.n if n <= 3000] or [300, 3000]
    return options


def pin(core: int | None) -> None:
    """This process and its children on one core, before any thread pool is made."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0)) if core is None else core})


def device_name(kind: str) -> str:
    """The processor, or the accelerator that ours runs on."""
    if kind == "gpu":
        import jax

        return jax.devices()[0].device_kind
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def best(samples: dict[int, list[tuple[float, float]]]) -> list[tuple[float, float]]:
    """Fastest repeat of every slot, wall and processor time each for itself."""
    return [(min(w for w, _ in s), min(c for _, c in s)) for _, s in sorted(samples.items())]


def timing(samples) -> dict:
    """Median and 95th percentile over the slots."""
    import numpy as np

    wall, cpu = np.array(best(samples)).T
    return {
        "ms": round(float(np.median(wall)), 4),
        "ms_p95": round(float(np.percentile(wall, 95)), 4),
        "cpu_ms": round(float(np.median(cpu)), 4),
        "ms_total": round(float(wall.sum()), 3),
    }


def verdicts(judged: dict) -> dict:
    """How a solver's points fared."""
    rows = list(judged.values())
    if not rows:
        return {"passed": 0, "of": 0}
    return {
        "passed": sum(v.passed for v in rows),
        "of": len(rows),
        "gap_max": float(max(abs(v.gap) for v in rows)),
        "gap_window": float(sum(v.gap * v.scale for v in rows) / sum(v.scale for v in rows)),
        "voltage_violation_pu": max(v.voltage_violation for v in rows),
        "power_violation_kw": max(v.power_violation for v in rows),
        "storage_violation_kwh": max(v.storage_violation for v in rows),
    }


def run_ours(case, *, solver, repeats: int = REPEATS):
    """Our solver in float32: one jitted call per slot, cold and warm, and (warm) the slots as one scan.

    Yields mode, times, points, extras. A call is start, solve and executed dispatch with prices and status.
    """
    from importlib.metadata import version

    import jax
    import jax.numpy as jnp
    import numpy as np
    from rivals.case import cast

    from jaxp2p.slot import solvers

    problems = [cast(p, "float32") for p in case.problems]

    def clear(problem, state):
        outcome = solvers.solve(problem, solver, solvers.warm(problem, solver, state))
        return solvers.executed(problem, outcome), outcome.state

    one, start = jax.jit(clear), jax.jit(lambda problem: solvers.init(problem, solver))
    first = start(problems[0])
    begin = time.perf_counter()
    jax.block_until_ready(one(problems[0], first))
    compile_s = time.perf_counter() - begin

    for mode in ("cold", "warm"):
        samples, results, scan = {}, {}, {}
        for _ in range(repeats):
            state = first
            for t, problem in enumerate(problems):
                begin, busy = time.perf_counter(), time.process_time()
                if mode == "cold":
                    state = start(problem)
                result, state = jax.block_until_ready(one(problem, state))
                wall, cpu = time.perf_counter() - begin, time.process_time() - busy
                samples.setdefault(t, []).append((1e3 * wall, 1e3 * cpu))
                results[t] = result
        if mode == "warm":
            moving = [n for n in problems[0].__dataclass_fields__ if n != "coupling"]
            have = [n for n in moving if getattr(problems[0], n) is not None]
            stacked = {n: jnp.stack([getattr(p, n) for p in problems]) for n in have}

            @jax.jit
            def sequence(stacked, problem, state):
                def body(state, slot):
                    result, state = clear(type(problem)(**(problem.__dict__ | slot)), state)
                    return state, (result.dispatch, result.iterations)

                return jax.lax.scan(body, state, stacked)

            times = []
            for _ in range(repeats + 1):
                begin, busy = time.perf_counter(), time.process_time()
                jax.block_until_ready(sequence(stacked, problems[0], first))
                times.append((time.perf_counter() - begin, time.process_time() - busy))
            wall, cpu = (1e3 * min(x) / len(problems) for x in zip(*times[1:], strict=True))
            scan = {"ms_scan": round(wall, 4), "cpu_ms_scan": round(cpu, 4)}

        points, iterations = {}, []
        for t, result in results.items():
            d = result.dispatch
            names = ("injection", "pv_used", "charge", "discharge", "trades", "buy", "sell")
            points[t] = {n: np.asarray(getattr(d, n), float) for n in names}
            iterations.append(int(result.iterations))
        status = [int(r.status) for r in results.values()]
        yield (
            mode,
            samples,
            points,
            {
                "dtype": "float32",
                "version": f"{version('jaxp2p') if installed('jaxp2p') else 'source'}, jax {jax.__version__}",
                "compile_s": round(compile_s, 2),
                **scan,
                "iterations_median": float(np.median(iterations)),
                "iterations_p95": float(np.percentile(iterations, 95)),
                "iterations_max": max(iterations),
                "us_per_iteration": round(1e3 * sum(c for _, c in best(samples)) / sum(iterations), 2),
                "statuses": {str(s): status.count(s) for s in sorted(set(status))},
            },
        )


def installed(name: str) -> bool:
    """Whether the distribution has metadata; a checkout on the path has none."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


def run_rival(name: str, qp, slots, *, cold: bool, budget: float, folder: Path, repeats: int = REPEATS):
    """A rival in a process of its own, killed at the budget: its records, and why it stopped early."""
    from rivals import solvers

    source, target = folder / "in.pkl", folder / "out.pkl"
    target.unlink(missing_ok=True)
    solvers.save(source, qp, slots=slots, cold=cold, repeats=repeats, seconds=math.ceil(budget))
    reason = f"time budget of {budget:g} s"
    command = [sys.executable, "-m", "rivals.solvers", name, str(source), str(target)]
    try:
        done = subprocess.run(command, cwd=HERE, timeout=WALL * budget, capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            reason = f"exit {done.returncode}: {last}"[:200]
    except subprocess.TimeoutExpired:
        pass
    head, *records = read_records(target) or [None]
    return head, records, reason


def read_records(target: Path) -> list:
    """Everything that a process pickled before it ended or was killed."""
    records = []
    if target.exists():
        with open(target, "rb") as file:
            while True:
                try:
                    records.append(pickle.load(file))
                except (EOFError, pickle.UnpicklingError):
                    break
    return records


def rival_points(problems, layout, records):
    """Times per slot and executed points from the records of a rival."""
    from rivals.lean import executed

    samples, points, claims, iterations = {}, {}, {}, []
    for record in records:
        samples.setdefault(record["slot"], []).append((record["ms"], record["cpu_ms"]))
        if record["x"] is not None:
            points[record["slot"]] = executed(problems[record["slot"]], layout, record["x"])
            claims[record["slot"]] = record["claimed"]
            iterations.append(record["iterations"])
    return samples, points, claims, iterations


def references(case, qp, layout, slots, *, budget: float, folder: Path):
    """Optimum (EUR) and dispatch per slot by Clarabel at 1e-9; slots it did not finish are left out."""
    import numpy as np
    from rivals.judge import objective
    from rivals.lean import host

    _, records, reason = run_rival("reference", qp, slots, cold=True, budget=budget, folder=folder, repeats=1)
    _, points, claims, _ = rival_points(case.problems, layout, records)
    fee = np.asarray(case.problems[0].market.fee, float)
    solved = {t: point for t, point in points.items() if claims[t]}
    return {t: objective(host(case.problems[t]), fee, p) for t, p in solved.items()}, solved, reason


def spread_out(count: int, slots: int) -> list[int]:
    """All slots, ordered so that any beginning of the list is spread over the window."""
    step = next(k for k in range(slots * 5 // 8 | 1, 2 * slots + 2) if math.gcd(k, slots) == 1)
    return [(i * step + slots // 2) % slots for i in range(min(count, slots))]


def bench_case(market: str, homes: int, options, put) -> None:
    """All solvers on one market and size."""
    import numpy as np
    from rivals import solvers
    from rivals.case import CERTIFYING, PLAUSIBLE, dual_bounds, make_case
    from rivals.judge import binding, judge
    from rivals.lean import lean

    from jaxp2p.slot.solvers import ADMM, Newton

    begin = time.perf_counter()
    large = (
        market == "bilateral" and homes >= 3000
    )  # no reference in reasonable time: dual bounds, of good duals
    case = make_case(homes, market, length=options.slots, admm=CERTIFYING if large else PLAUSIBLE)
    made = time.perf_counter() - begin
    qp, layout = lean(case.problems)
    forms = {"community" if market == "pool" else "edge": (qp, layout)}
    if market == "pool":
        forms["home"] = lean(case.problems, community=False)
    order = spread_out(options.slots, options.slots)
    common = {
        "market": market,
        "n": homes,
        "device": device_name(options.device),
        "device_kind": options.device,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        optimum, points, reason = {}, {}, "not tried: seconds to hours per slot"
        if not large:
            optimum, points, reason = references(
                case, qp, layout, order, budget=options.budget, folder=folder
            )
        bound_only = not optimum
        if bound_only:
            # no reference within the time: weak duality, in closed form, with the duals of the tight run
            optimum = dual_bounds(case)
            reason = f"clarabel {reason}; dual bounds by weak duality instead, from our prices"
        bound = [binding(case.problems[t], p["injection"]) for t, p in points.items()]
        if bound_only:
            bound = [bool(np.abs(rows).max() > 1e-4) for rows, _, _ in case.outcomes]
        common |= {"slots": options.slots, "binding_share": round(float(np.mean(bound)), 3)}
        put(
            {
                **common,
                "reference": "dual bound" if bound_only else "clarabel 1e-9",
                "reference_slots": len(optimum),
                **({"reference_note": reason} if bound_only or len(optimum) < options.slots else {}),
                "case_s": round(made, 1),
                "lean_columns": len(qp.P),
                "lean_rows": qp.A.shape[0] + qp.G.shape[0],
            }
        )

        def verdict(points):
            return {
                t: judge(case.problems[t], points[t], optimum[t], bound_only=bound_only)
                for t in points
                if t in optimum
            }

        ours = {}
        # the default solver of the market is what counts; ADMM in the pool is shown beside it
        for name, solver in {"pool": {"jaxp2p-admm": ADMM(), "jaxp2p": Newton()}}.get(
            market, {"jaxp2p": ADMM()}
        ).items():
            for mode, samples, mine, extras in run_ours(case, solver=solver):
                line = {
                    **common,
                    "mode": mode,
                    "solver": name,
                    **timing(samples),
                    **verdicts(verdict(mine)),
                    **extras,
                }
                ours[mode] = line
                put(line)

        lines = []
        for solver in options.rivals or solvers.RIVALS:
            for form, (program, places) in forms.items():
                if solver == "reference" or (form == "home" and solver not in ("piqp", "clarabel")):
                    continue
                runs = {"cold": True, "warm": False} if solver in solvers.WARM else {"warm": False}
                for mode, cold in runs.items():
                    slots = order if cold or solver not in solvers.WARM else range(options.slots)
                    head, records, reason = run_rival(
                        solver, program, slots,
                        cold=cold, budget=options.budget, folder=folder,
                    )  # fmt: skip
                    line = {**common, "mode": mode, "solver": solver, "formulation": form}
                    if not records:
                        put({**line, "skipped": reason or "no slot finished"})
                        continue
                    samples, theirs, claims, iterations = rival_points(case.problems, places, records)
                    line |= {
                        **timing(samples),
                        **verdicts(verdict(theirs)),
                        "claimed": sum(claims.values()),
                        "dtype": "float64",
                        "version": head["version"],
                        "setup_s": round(head["setup_s"], 4),
                        "iterations_median": float(np.median(iterations)),
                        **(
                            {"cut": f"{len(samples)} of {options.slots} slots: {reason}"}
                            if len(samples) < options.slots
                            else {}
                        ),
                    }
                    # an interior point method has no warm start: the same run stands for both modes
                    both = ("cold", "warm") if solver not in solvers.WARM else (mode,)
                    for each in both:
                        lines.append({**line, "mode": each})
                        put(lines[-1])
        for mode in ("cold", "warm"):
            put(summary(common, mode, ours[mode], [x for x in lines if x["mode"] == mode]))


def summary(common: dict, mode: str, ours: dict, lines: list[dict]) -> dict:
    """Best passing rival over ours, by processor time (by wall time where ours runs on an accelerator).

    A rival counts when at most one slot of 32 fails; `best_strict`: when none does; `best_home`: among those
    that were given the textbook formulation of the pool.
    """
    clock = "cpu_ms" if common["device_kind"] == "cpu" else "ms"
    line = {"summary": True, **common, "mode": mode, "ours_ms": ours["ms"], "ours_cpu_ms": ours["cpu_ms"]}
    line |= {"ours_passed": ours["passed"], "of": ours["of"], "clock": clock}
    good = [x for x in lines if x["of"] and x["passed"] >= x["of"] - (x["of"] >= 32)]
    for key, rows in {
        "best": good,
        "best_strict": [x for x in good if x["passed"] == x["of"]],
        "best_home": [x for x in good if x["formulation"] == "home"],
    }.items():
        row = min(rows, key=lambda x: x[clock], default=None)
        if row is None:
            if key != "best_home":
                line |= {f"{key}_rival": None, "ratio" if key == "best" else f"{key}_ratio": None}
            continue
        line |= {f"{key}_rival": f"{row['solver']} ({row['formulation']})", f"{key}_rival_ms": row["ms"]}
        line |= {f"{key}_rival_cpu_ms": row["cpu_ms"], f"{key}_rival_of": row["of"]}
        ratio = float(f"{row[clock] / ours[clock]:.3g}")
        line |= (
            {"ratio": ratio, "ratio_wall": float(f"{row['ms'] / ours['ms']:.3g}")}
            if key == "best"
            else {f"{key}_ratio": ratio}
        )
        if key == "best" and f"{clock}_scan" in ours:  # without the call of a program for every slot
            line["ratio_scan"] = float(f"{row[clock] / ours[f'{clock}_scan']:.3g}")
    return line


def scaling(lines: list[dict]) -> list[dict]:
    """Time per iteration and iterations against N, per market and mode."""
    out = []
    for market, mode in dict.fromkeys(
        (x["market"], x.get("mode")) for x in lines if x.get("solver") == "jaxp2p"
    ):
        rows = [x for x in lines if (x["market"], x.get("mode"), x.get("solver")) == (market, mode, "jaxp2p")]
        rows.sort(key=lambda x: x["n"])
        out.append(
            {
                "scaling": True,
                "market": market,
                "mode": mode,
                "n": [x["n"] for x in rows],
                "us_per_iteration": [x["us_per_iteration"] for x in rows],
                "ns_per_iteration_and_home": [round(1e3 * x["us_per_iteration"] / x["n"], 2) for x in rows],
                "iterations_median": [x["iterations_median"] for x in rows],
            }
        )
    return out


def main(argv=None) -> list[dict]:
    options = arguments(argv)
    pin(options.core)
    import jaxp2p

    if options.device == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
        jaxp2p.set_xla_flags()
        os.environ["XLA_FLAGS"] = (
            os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
        ).strip()
    import jax

    jax.config.update("jax_enable_x64", True)  # for the reference; ours runs in float32 all the same
    lines = []

    def put(line: dict) -> None:
        lines.append(line)
        text = json.dumps(line) + "\n"
        if options.out:
            with open(options.out, "a", encoding="utf-8") as file:
                file.write(text)
        else:
            print(text, end="", flush=True)

    default = options.budget
    for market in options.market:
        for homes in options.n:
            if options.quick:
                small = 6 if homes <= 300 else 20 if market == "bilateral" else 10
                options.budget = min(default, small)
            bench_case(market, homes, options, put)
    for line in scaling(list(lines)):
        put(line)
    return lines


if __name__ == "__main__":
    main()
