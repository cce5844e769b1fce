"""Does an answer tell the truth? Families of nasty slots, solved, then judged by an independent program.

    python benchmarks/bench_truth.py --slots 300 --out benchmarks/results/truth.jsonl    100,000 answers
    python benchmarks/bench_truth.py --families weak_feeder --solver newton --list-worst 5
    python benchmarks/bench_truth.py --table benchmarks/results/truth.jsonl               the table alone

An answer is one slot of `tests/nasty_slots.py` by one solver in one dtype. Per family, solver and dtype one
JSON line; what the file named by --out has already is not solved again. `--list-worst` prints what
`draw(family, seed, dtype)` makes again. What wrong and lie mean is said in `tests/slot_judge.py`.
"""

import argparse
import json
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

HERE = Path(__file__).resolve().parent
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[name] = "1"
sys.path[:0] = [str(HERE.parent / "tests"), str(HERE.parent)]

import numpy as np  # noqa: E402

SOLVERS, DTYPES = ("admm", "newton"), ("float32", "float64")
BATCH = 100  # slots in one call; fewer of the large ones
TOLD = 5  # worst slots in a line


def arguments(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slots", type=int, default=300, help="slots per family, fewer of large ones")
    parser.add_argument("--seeds", type=int, default=0, metavar="FIRST", help="seed of the first slot")
    parser.add_argument("--families", nargs="+", default=[""], help="those whose name contains one of these")
    parser.add_argument("--solver", nargs="+", choices=SOLVERS, default=list(SOLVERS))
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--workers", type=int, default=2, help="processes that judge")
    parser.add_argument("--list-worst", type=int, default=0, metavar="N", help="print N slots per family")
    parser.add_argument("--per-family", action="store_true", help="a table of families too")
    parser.add_argument("--out", type=Path, help="file to append the lines to")
    parser.add_argument("--table", type=Path, help="print the table of this file and stop")
    return parser.parse_args(argv)


def batches(family, first: int, slots: int):
    """Lists of seeds of one length, the last one filled up with seeds that are not counted."""
    count = max(1, round(slots * family.share))
    size = min(BATCH if family.layout.homes < 500 else 4, count)
    for start in range(first, first + count, size):
        yield [*range(start, start + size)], min(size, first + count - start)


def summary(family, solver: str, dtype: str, first: int, records: list[dict], seconds: float) -> dict:
    """The line of one family, solver and dtype."""
    from jaxp2p.slot.status import Status

    limited = [r for r in records if r["status"] == Status.MAX_ITER]
    ended = [r for r in records if r["status"] != Status.MAX_ITER]
    # lies first, then wrong answers, then those at the limit
    badness = lambda r: (r["lie"], r["wrong"], r["status"] == Status.MAX_ITER, r["share"])
    worst = [r for r in sorted(records, key=badness, reverse=True) if any(badness(r)[:3])]
    return {
        "family": family.name,
        "market": family.market,
        "plausible": family.plausible,
        "solver": solver,
        "dtype": dtype,
        "first": first,
        "slots": len(records),
        "wrong": sum(r["wrong"] for r in ended),
        "lies": sum(r["lie"] for r in records),
        "at_limit": len(limited),
        "wrong_at_limit": sum(r["wrong"] for r in limited),
        "statuses": {Status(k).name: n for k, n in Counter(r["status"] for r in records).items()},
        "faults": dict(Counter(r["fault"] for r in records if r["fault"])),
        "worst_share": max((r["share"] for r in ended), default=0.0),
        "judge_error": max(r["error"] / r["scale"] for r in records),
        "iterations": dict(sorted(Counter(r["iterations"] for r in records).items())),
        "seconds": round(seconds, 2),
        "worst": [
            {
                "seed": r["seed"],
                "status": Status(r["status"]).name,
                **{key: float(f"{r[key]:.4g}") for key in ("share", "distance", "gap", "scale")},
                "iterations": r["iterations"],
                "why": r["why"],
                "fault": r["fault"],
            }
            for r in worst[:TOLD]
        ],
    }


def percentile(histogram: dict, share: float) -> int:
    """Of iterations counted as {iterations: slots}."""
    pairs = sorted((int(k), n) for k, n in histogram.items())
    reached = np.cumsum([n for _, n in pairs])
    return pairs[int(np.searchsorted(reached, share * reached[-1]))][0]


def table(lines: list[dict], key) -> str:
    """Markdown, one row per value of key(line)."""
    rows = {}
    for line in lines:
        rows.setdefault(key(line), []).append(line)
    text = [
        "| slots of | answers | wrong | lies | at limit, plausible | nasty | wrong there | iterations: "
        "median | 95 % | worst distance / scale |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, group in rows.items():
        total = lambda what, group=group: sum(line[what] for line in group)
        histogram = Counter()
        for line in group:
            histogram.update({int(k): n for k, n in line["iterations"].items()})
        cells = [name, f"{total('slots'):,}", total("wrong"), total("lies")]
        for plausible in (True, False):
            part = [line for line in group if line["plausible"] == plausible]
            at, of = (sum(line[what] for line in part) for what in ("at_limit", "slots"))
            cells.append(f"{at} ({at / of:.2%})" if of else "-")
        cells.append(total("wrong_at_limit"))
        cells += [percentile(histogram, 0.5), percentile(histogram, 0.95)]
        cells.append(f"{max(line['worst_share'] for line in group):.1e}")
        text.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(text)


def report(lines: list[dict], *, per_family: bool, worst: int) -> None:
    """The tables on standard output."""
    lines = sorted(lines, key=lambda line: (line["solver"], line["market"], line["dtype"]))
    print(table(lines, lambda line: f"{line['market']}, {line['solver']}, {line['dtype']}"))
    if per_family:
        lines = sorted(lines, key=lambda line: (not line["plausible"], line["family"], line["solver"]))
        print("\n" + table(lines, lambda line: f"{line['family']}, {line['solver']}, {line['dtype']}"))
    for line in lines if worst else ():
        for slot in line["worst"][:worst]:
            print(f"draw({line['family']!r}, {slot['seed']}, {line['dtype']}) {line['solver']}:", slot)


def main(argv=None) -> int:
    options = arguments(argv)
    if options.table:
        lines = [json.loads(line) for line in options.table.read_text().splitlines()]
        report(lines, per_family=options.per_family, worst=options.list_worst)
        return 0
    import jax

    jax.config.update("jax_enable_x64", True)
    from nasty_slots import draw_many, families
    from slot_answers import SOLVERS as MADE
    from slot_answers import judge_many, solve_many, suiting

    done = {}
    if options.out and options.out.exists():
        for line in map(json.loads, options.out.read_text().splitlines()):
            done[line["family"], line["solver"], line["dtype"], line["first"]] = line
    lines = []
    chosen = [f for f in families().values() if any(part in f.name for part in options.families)]
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        pending = []
        for family in chosen:
            jax.clear_caches()  # each family has its own programs, and a process may map only so many
            for dtype in options.dtype:
                wanted = suiting(draw_many(family, [0], dtype), options.solver)
                old = [(family.name, solver, dtype, options.seeds) for solver in wanted]
                lines += [done[name] for name in old if name in done]
                wanted = [solver for solver, name in zip(wanted, old) if name not in done]
                jobs, seconds = [], Counter()
                for seeds, counted in batches(family, options.seeds, options.slots) if wanted else ():
                    problems, results = draw_many(family, seeds, dtype), {}
                    for solver in wanted:
                        start = time.perf_counter()
                        results[solver] = jax.tree.map(np.asarray, solve_many(problems, MADE[solver]))
                        seconds[solver] += time.perf_counter() - start
                    part = jax.tree.map(lambda x, n=counted: x[:n], (problems, results))
                    jobs.append((seeds, pool.submit(judge_many, *part)))
                if wanted:
                    pending.append((family, dtype, wanted, jobs, seconds))
                while pending and (len(pending) > 4 or all(job.done() for _, job in pending[0][3])):
                    lines += finished(pending.pop(0), options)
        while pending:
            lines += finished(pending.pop(0), options)
    report(lines, per_family=options.per_family, worst=options.list_worst)
    return 0


def finished(entry, options) -> list[dict]:
    """The lines of one family and dtype, written out."""
    family, dtype, wanted, jobs, seconds = entry
    records = []
    for seeds, job in jobs:
        records += [r | {"seed": seeds[r["number"]]} for r in job.result()]
    lines = []
    for solver in wanted:
        mine = [r for r in records if r["solver"] == solver]
        lines.append(summary(family, solver, dtype, options.seeds, mine, seconds[solver]))
        if options.out:
            with options.out.open("a") as file:
                file.write(json.dumps(lines[-1]) + "\n")
        last = lines[-1]
        print(
            f"{family.name} {solver} {dtype}: {last['slots']} slots, {last['wrong']} wrong, "
            f"{last['lies']} lies, {last['at_limit']} at the limit, {last['seconds']} s",
            file=sys.stderr,
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
