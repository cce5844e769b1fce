"""Grids that nobody tuned on, and thousands of members: is every slot solved, how fast, in how much memory?

    python benchmarks/bench_sizes.py --folder GRIDS --prepare            import what is not there yet
    python benchmarks/bench_sizes.py --folder GRIDS --only lv            one part; lines that exist are kept
    python benchmarks/bench_sizes.py --only large --large FOLDER...      communities of thousands, six hours
    python benchmarks/bench_sizes.py --table                             the tables of the file alone

Bilateral market, network on. Parts: `lv` (the 18 SimBench grids of low voltage, a day), `dense` (four of them
with PV and batteries for 90 % and three times the PV, a week), `week` (rural3 with PV for 80 %, a week), `mv`
(medium voltage, a day) and `large` (folders of tables that are given, six hours from nine o'clock). Every run
is a process of its own and one JSON line; `rivals/sizes.py` says what is measured.
"""

import argparse
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "tests"), str(HERE), str(HERE.parent)]

PARTS = ("lv", "dense", "week", "mv", "large")
POLICIES = ("no_storage", "lyapunov", "lyapunov_standard")
LV = tuple(
    f"1-LV-{grid}--{future}-sw"
    for grid in ("rural1", "rural2", "rural3", "semiurb4", "semiurb5", "urban6")
    for future in range(3)
)
DENSE = tuple(f"1-LV-{grid}--2-sw" for grid in ("rural1", "rural3", "semiurb4", "urban6"))
MV = ("1-MV-rural--0-sw", "1-MV-comm--2-sw", "oberrhein")
IMPORTED_DAYS = 28  # from the usual first day
RESULTS = HERE / "results" / "sizes.jsonl"
SLOW = 2.0  # times as long as without network: too slow where no limit is reached


class Case(NamedTuple):
    """A community and its window: the fields of a `jaxp2p.cli.source.Source`, and what to call it."""

    part: str
    name: str
    source: dict


def arguments(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", default=",".join(PARTS), metavar="PART,...", help=f"of {', '.join(PARTS)}")
    add("--cases", default="", metavar="TEXT", help="only those whose name contains this")
    add("--policies", default=",".join(POLICIES), metavar="NAME,...", help="others than these three")
    add("--folder", type=Path, help="where imported grids are kept; default: a folder of the user's cache")
    add("--large", type=Path, nargs="+", default=[], metavar="FOLDER", help="tables of large communities")
    add("--samples", type=int, default=50, help="slots of a run held against the reference")
    add("--reference-seconds", type=float, default=100, help="after which a run's sample is cut short")
    add("--anew", action="store_true", help="replace lines that exist")
    add("--minutes", type=float, help="start no further run after this time")
    add("--out", type=Path, default=RESULTS, help="file of the lines")
    add("--prepare", action="store_true", help="import what --folder lacks, and stop")
    add("--table", action="store_true", help="print the tables of --out, and stop")
    add("--one", help=argparse.SUPPRESS)  # a run, as JSON: what the processes are told
    options = parser.parse_args(argv)
    unknown = set(options.only.split(",")) - set(PARTS)
    if unknown:
        parser.error(f"--only: unknown {', '.join(sorted(unknown))}; parts are {', '.join(PARTS)}")
    return options


def user_cache() -> Path:
    """Where imported grids are kept unless told otherwise."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "jaxp2p" / "grids"


def cases(options) -> list[Case]:
    """What is asked for, in order of the parts."""
    folder = options.folder or user_cache()
    at = lambda code, **fields: {"name": str(folder / code), **fields}
    more = {"pv_share": 0.9, "battery_share": 0.9, "pv_scale": 3.0}
    known = [Case("lv", code, at(code, days=1)) for code in LV]
    known += [Case("dense", f"{code}, dense", at(code, days=7, **more)) for code in DENSE]
    known += [Case("week", "rural3, PV for 80 %", {"name": "rural3", "days": 7, "pv_share": 0.8})]
    known += [Case("mv", code, at(code, days=1)) for code in MV]
    for place in options.large:
        source = {"name": str(place), "days": 0.25, "start": "2016-07-04 09:00"}
        known.append(Case("large", place.name, source))
    asked = options.only.split(",")
    return [case for case in known if case.part in asked and options.cases in case.name]


def prepare(wanted: list[Case]) -> None:
    """Import the grids that are not in their folder yet; ends the program where one cannot be."""
    missing = dict.fromkeys(
        Path(case.source["name"])
        for case in wanted
        if case.part in ("lv", "dense", "mv") and not Path(case.source["name"]).exists()
    )
    for folder in missing:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.name == "oberrhein":
            command = [sys.executable, str(HERE / "rivals" / "oberrhein.py"), str(folder)]
        else:
            window = ["--days", str(IMPORTED_DAYS)]
            command = [sys.executable, "-m", "jaxp2p", "import", folder.name, str(folder), *window]
        path = os.pathsep.join(p for p in (str(HERE.parent), os.environ.get("PYTHONPATH")) if p)
        if subprocess.run(command, env=os.environ | {"PYTHONPATH": path}).returncode:
            sys.exit(f"{folder.name} could not be imported")


def one_run(case: Case, policy: str, options) -> dict:
    """The line of a run, from a process of its own; where that fails, a line with its last words."""
    told = {
        "source": case.source,
        "policy": policy,
        "samples": options.samples,
        "reference_seconds": options.reference_seconds,
    }
    command = [sys.executable, __file__, "--one", json.dumps(told)]
    # without programs compiled before, or the peak of memory would depend on who ran what earlier
    settings = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    with tempfile.TemporaryFile("w+") as words:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=words, text=True, env=settings)
        words.seek(0)
        failure = words.read().strip().splitlines()[-1:]
    head = {"bench": "sizes", "part": case.part, "case": case.name, "policy": policy}
    if done.returncode:
        return head | {"failed": (failure or [f"ended with {done.returncode}"])[0]}
    return head | {"days": case.source["days"]} | json.loads(done.stdout.splitlines()[-1])


def key(line: dict) -> tuple[str, str, str]:
    """What a line is the result of."""
    return line["part"], line["case"], line["policy"]


def read_lines(path: Path) -> list[dict]:
    """The last line of every run in the file, in the order of the parts; failures are not kept."""
    text = path.read_text().splitlines() if path.exists() else []
    lines = {key(line): line for line in map(json.loads, text) if "failed" not in line}
    return sorted(lines.values(), key=lambda line: PARTS.index(line["part"]))


def write_lines(path: Path, lines: list[dict]) -> None:
    """All lines anew, complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.write_text("".join(json.dumps(line) + "\n" for line in lines))
    draft.replace(path)


def short(line: dict) -> str:
    """One line of a run for the screen."""
    if "failed" in line:
        return f"{line['case']}, {line['policy']}: {line['failed']}"
    return (
        f"{line['case']}, {line['policy']}: {endings(line)}, exit {line['exit']}, iterations "
        f"{counts(line['iterations'])}, {line['seconds']:.3g} s, x {line['ratio']:.2f}, "
        f"{line['slots_at_limit']} at a limit, {line['peak_mb']} MB, above reference / gap {held(line)}, "
        f"{line['reference'].get('beyond_gap', 0)} beyond the gap"
    )


def held(line: dict) -> str:
    """Worst distance from the reference, worst gap (of its scale both), and in how many slots."""
    best = line["reference"]
    if not best["slots"]:
        return "-"
    return f"{best['above_share_max']:.1e} / {best['gap_share_max']:.1e} ({best['slots']})"


def endings(line: dict) -> str:
    """How the slots ended."""
    return ", ".join(f"{count} {name}" for name, count in line["statuses"].items() if count)


def counts(iterations: dict) -> str:
    """Median / 95 % / most."""
    return f"{iterations['median']:.0f} / {iterations['p95']:.0f} / {iterations['max']}"


TITLES = (
    "| case | members | policy | slots | ended | exit | at a limit | iterations: median / 95 % / most | s | "
    "without network | ratio | gaps EUR | above reference / stated gap, of the scale | MB |\n"
    "|---|---:|---|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
)


def row(line: dict) -> str:
    """One run in the table."""
    cells = [
        line["case"],
        f"{line['members']:,}",
        line["policy"],
        line["slots"],
        endings(line),
        line["exit"],
        line["slots_at_limit"],
        counts(line["iterations"]),
        f"{line['seconds']:.3g}",
        f"{line['seconds_free']:.3g}",
        f"{line['ratio']:.2f}",
        f"{line['gap_eur']:.3g}",
        held(line),
        f"{line['peak_mb']:,}",
    ]
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def tables(lines: list[dict]) -> str:
    """Markdown: what holds in all, then a table per part."""
    text = [totals(lines)]
    for part in PARTS:
        some = [line for line in lines if line["part"] == part]
        if some:
            text.append(f"`{part}`, {span(some[0])}\n\n{TITLES}\n" + "\n".join(map(row, some)))
        if some and part == "large":
            text.append(growth(some))
    return "\n\n".join(text)


def span(line: dict) -> str:
    """How long the runs of a part are."""
    days = line["days"]
    return f"{24 * days:g} hours" if days < 1 else "a day" if days == 1 else f"{days:g} days"


def totals(lines: list[dict]) -> str:
    """Solved, impossible, wrong and slow, counted over all runs."""
    impossible = [line for line in lines if line["impossible"]]
    possible = [line for line in lines if not line["impossible"]]
    slots = sum(line["slots"] for line in possible)
    solved = sum(line["statuses"].get("SOLVED", 0) for line in possible)
    judged = sum(line["reference"]["slots"] for line in lines)
    beyond = sum(line["reference"].get("beyond_gap", 0) for line in lines)
    free = [line for line in possible if line["slots_at_limit"] == 0]
    slow = [line for line in free if line["ratio"] > SLOW]
    named = ", ".join(dict.fromkeys(line["case"] for line in impossible)) or "none"
    worst = max((line["ratio"] for line in free), default=0.0)
    zero = sum(line["exit"] == 0 for line in possible)
    return (
        f"{solved:,} of {slots:,} slots SOLVED, {zero} of {len(possible)} runs end with exit 0; grids with a "
        f"limit that no dispatch keeps, not among them: {named}. {beyond} of {judged:,} slots held against "
        f"the reference are further from it than the gap that they state. {len(slow)} of {len(free)} runs in "
        f"which no limit is reached take more than {SLOW:g} times as long as without network (the worst "
        f"{worst:.2f})."
    )


GROWTH = (
    "| policy | members | ms per slot | us per iteration and member | time ~ members^ | MB | more MB "
    "per 1,000 members |\n|---|---:|---:|---:|---:|---:|---:|"
)


def growth(lines: list[dict]) -> str:
    """Time per iteration and memory from one size to the next; where the exponent is 1 time is linear."""
    text = [GROWTH]
    for policy in dict.fromkeys(line["policy"] for line in lines):
        ladder = sorted((line for line in lines if line["policy"] == policy), key=lambda one: one["members"])
        for before, line in zip([None, *ladder], ladder, strict=False):
            work = per_iteration(line)
            power, memory = "", ""
            if before is not None and line["members"] > before["members"]:
                more, times = line["members"] - before["members"], line["members"] / before["members"]
                power = f"{math.log(work / per_iteration(before)) / math.log(times):.2f}"
                memory = f"{1000 * (line['peak_mb'] - before['peak_mb']) / more:.1f}"
            cells = [policy, f"{line['members']:,}", f"{1000 * line['seconds'] / line['slots']:.1f}"]
            cells += [f"{1e6 * work / line['members']:.3f}", power, f"{line['peak_mb']:,}", memory]
            text.append("| " + " | ".join(cells) + " |")
    return "\n".join(text)


def per_iteration(line: dict) -> float:
    """Seconds."""
    return line["seconds"] / line["slots"] / line["iterations"]["mean"]


def measure_one(text: str) -> None:
    """What a process of its own does."""
    from rivals.sizes import measure

    told = json.loads(text)
    policy, source = told.pop("policy"), told.pop("source")
    print(json.dumps(measure(source, policy, **told)))


def main(argv=None) -> int:
    options = arguments(argv)
    if options.one:
        measure_one(options.one)
        return 0
    lines = read_lines(options.out)
    if options.table:
        print(tables(lines))
        return 0
    begin, wanted = time.perf_counter(), cases(options)
    prepare(wanted)
    if options.prepare:
        return 0
    failed = 0
    for case, policy in itertools.product(wanted, options.policies.split(",")):
        if (case.part, case.name, policy) in map(key, lines) and not options.anew:
            continue
        if options.minutes is not None and time.perf_counter() - begin > 60 * options.minutes:
            print("out of time: call again for the rest", file=sys.stderr)
            break
        line = one_run(case, policy, options)
        print(short(line), flush=True)
        failed += "failed" in line
        if "failed" not in line:
            lines = [other for other in lines if key(other) != key(line)] + [line]
            write_lines(options.out, sorted(lines, key=lambda one: PARTS.index(one["part"])))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
