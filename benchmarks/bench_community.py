"""A community of thousands from CSV files of its own to the pictures, stage by stage: time and memory.

    python benchmarks/bench_community.py                          3,060 and 29,988 members, both markets
    python benchmarks/bench_community.py --copies 196 --market pool --profile tables
    python benchmarks/bench_community.py --against OTHER          another version of the package, in turns

Every member of rural3, copied as often as is said, with a load profile of its own, on a feeder that is as
many times as strong (and lifted to 20 kV, the same in per unit). Six hours from nine o'clock, float32, with
the network, three policies, as `jaxp2p run --homes` and `jaxp2p report` do it. A process of its own per run;
one JSON line per stage: `cpu_s` processor time, `seconds` the wall clock, `peak_mib` the most memory of the
process so far. Where programs are kept (JAX_COMPILATION_CACHE_DIR) only the first run compiles them.
"""

import argparse
import cProfile
import json
import os
import pstats
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent

CASE, START, DAYS, HOURS = "rural3", "2016-07-04", 1, "09:00"
POLICIES = ("no_storage", "lyapunov", "community_self_consumption")
MEDIUM = 20.0  # kV, whose limits of plausibility allow for thousands of members
STAGES = ("import", "read", "check", "build", "run", "figures", "tables", "pictures", "page")
SPREAD = 0.3  # of the logarithm of a member's own load around the standard profile


def arguments(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--copies", type=int, nargs="+", default=[20, 196], help="of the 153 members of rural3")
    add("--market", nargs="+", choices=("pool", "bilateral"), default=["pool", "bilateral"])
    add("--days", type=float, default=0.25, help="that are run")
    add("--own-days", type=int, default=DAYS, help="that the profiles have")
    add("--until", default="page", choices=("check", "run", "page"), help="the last stage")
    add("--profile", choices=STAGES, help="a stage whose functions are listed by their time, on stderr")
    add("--against", type=Path, help="folder of another version of the package: measured in turns")
    add("--repeats", type=int, default=1)
    add("--out", type=Path, help="file that the lines are added to; default: standard output")
    add("--one", help=argparse.SUPPRESS)  # a run, as JSON: what the processes are told
    return parser.parse_args(argv)


def write_community(folder: Path, copies: int, days: int) -> int:
    """The CSV files; returns the members."""
    import numpy as np
    import pandas as pd

    from jaxp2p.data import load_case, window

    tables = window(load_case(CASE), start=START, days=days)
    copy = lambda k: tables.prosumers.assign(prosumer_id=tables.prosumers["prosumer_id"] + f" #{k}")
    homes = pd.concat([copy(k) for k in range(copies)], ignore_index=True)
    lines, buses, profiles = tables.lines.copy(), tables.buses.copy(), tables.profiles
    lines[["r_ohm", "x_ohm"]] *= (MEDIUM / 0.4) ** 2 / copies
    lines["s_max_kva"] *= copies
    buses["vn_kv"] = np.where(buses["vn_kv"] < 1, MEDIUM, buses["vn_kv"])
    noise = np.exp(SPREAD * np.random.default_rng(0).standard_normal((len(profiles), len(homes))))
    own = profiles[homes["load_profile"]].to_numpy() * homes["load_kw"].to_numpy() * noise
    names = [f"m{i}" for i in range(len(homes))]
    # what has the profile of its load for its reactive power keeps that
    reactive = homes["reactive_profile"].where(homes["reactive_profile"] != "", homes["load_profile"])
    homes = homes.assign(load_profile=names, load_kw=1.0, reactive_profile=reactive)
    profiles = pd.concat([profiles, pd.DataFrame(own.round(4), columns=names)], axis=1)
    folder.mkdir(parents=True, exist_ok=True)
    frames = {"prosumers": homes, "buses": buses, "lines": lines, "profiles": profiles}
    for name, frame in (frames | {"prices": tables.prices}).items():
        frame.to_csv(folder / f"{name}.csv", index=False)
    return len(homes)


class Clock:
    """What the stages take; lists the functions of one of them."""

    def __init__(self, put, profile: str | None):
        self.put, self.wanted, self.profiler = put, profile, None

    def start(self, name: str) -> None:
        self.begun = time.process_time(), time.perf_counter()
        if name == self.wanted:
            self.profiler = cProfile.Profile(time.process_time)
            self.profiler.enable()

    def stop(self, name: str, **more) -> None:
        if name == self.wanted:
            self.profiler.disable()
            stats = pstats.Stats(self.profiler, stream=sys.stderr)
            stats.sort_stats("tottime").print_stats(25)
            stats.sort_stats("cumtime").print_stats(45)
        cpu, wall = time.process_time() - self.begun[0], time.perf_counter() - self.begun[1]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        line = {"stage": name, "cpu_s": round(cpu, 3), "seconds": round(wall, 3), "peak_mib": round(peak)}
        self.put(line | more)


def one(folder: Path, market: str, options, put) -> None:
    """A run from the files to the page."""
    clock = Clock(put, options.profile)
    clock.start("import")
    from jaxp2p.data import loading, tables
    from jaxp2p.settings.source import Source

    clock.stop("import")
    checking = tables.complete_and_validate

    def checked(*args, **kwargs):
        clock.stop("read")
        clock.start("check")
        return checking(*args, **kwargs)

    tables.complete_and_validate = checked
    clock.start("read")
    source = Source(name=str(folder), start=f"{START} {HOURS}", days=options.days)
    chosen = loading.load(source)
    clock.stop("check")
    if options.until == "check":
        return
    clock.start("build")
    from jaxp2p.model.chosen import build_both, use_dtype
    from jaxp2p.settings.commands import RunOptions

    use_dtype("float32")
    community, horizon = build_both(chosen, RunOptions(market=market), seed=0)
    clock.stop("build", members=community.size)
    clock.start("run")
    from jaxp2p.report.kpis import evaluate
    from jaxp2p.runs.runner import run

    result = run(community, horizon, policies=POLICIES, foresight_mode="off", lower_bound=False)
    compiled, ran = result.compile_seconds, sum(result.seconds.values())
    clock.stop("run", compile_seconds=round(compiled, 3), policies_seconds=round(ran, 3))
    if options.until == "run":
        return
    clock.start("figures")
    evaluations = evaluate(community, horizon, result)
    clock.stop("figures")
    made = community, horizon, result, evaluations
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "out"
        clock.start("tables")
        from jaxp2p.report.layout import bus_coordinates
        from jaxp2p.report.results import save_results

        more = {"time": chosen.profiles["time"], "coordinates": bus_coordinates(chosen, community)}
        save_results(out, *made, case="thousands", homes=True, **more)
        clock.stop("tables")
        clock.start("pictures")
        from jaxp2p.report.canvas import picture_data
        from jaxp2p.report.pictures import write_pictures

        write_pictures(out / "pictures", picture_data(chosen, *made, "thousands"))
        clock.stop("pictures")
        clock.start("page")
        from jaxp2p.studies.page import write_page

        page = write_page(out / "report.html", [str(out)])
        clock.stop("page", megabytes=round(page.stat().st_size / 1e6, 2))


def measured(folder: Path, market: str, options, package: Path, head: dict, put) -> None:
    """The lines of a run in a process of its own, with the package of this folder."""
    told = json.dumps({"folder": str(folder), "market": market})
    command = [sys.executable, __file__, "--one", told, "--days", str(options.days), "--until", options.until]
    if options.profile:
        command += ["--profile", options.profile]
    places = [str(package), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, places)), "MPLBACKEND": "Agg"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    for line in done.stdout.splitlines():
        put(head | json.loads(line))
    if done.returncode:
        put(head | {"failed": done.returncode})


def ratios(lines: list[dict], put) -> None:
    """Processor time of the other version over that of this one, the least of each counts."""
    least: dict[tuple, float] = {}
    for line in lines:
        if "stage" in line:
            key = (line["version"], line["members"], line["market"], line["stage"])
            least[key] = min(line["cpu_s"], least.get(key, float("inf")))
    for (version, *key), seconds in least.items():
        if version == "this" and ("other", *key) in least:
            head = dict(zip(("members", "market", "stage"), key, strict=True))
            other = least["other", *key]
            put(
                {
                    "ratio": round(other / max(seconds, 1e-3), 2),
                    **head,
                    "cpu_s": seconds,
                    "other_cpu_s": other,
                }
            )


def main():
    options = arguments()
    if options.one:
        told = json.loads(options.one)
        one(Path(told["folder"]), told["market"], options, lambda line: print(json.dumps(line), flush=True))
        return
    sys.path.insert(0, str(HERE.parent))
    lines: list[dict] = []

    def put(line: dict) -> None:
        lines.append(line)
        text = json.dumps({"bench": "community", **line})
        print(text, flush=True)
        if options.out:
            with open(options.out, "a", encoding="utf-8") as file:
                file.write(text + "\n")

    versions = {"this": HERE.parent} | ({"other": options.against} if options.against else {})
    with tempfile.TemporaryDirectory() as name:
        for copies in options.copies:
            folder = Path(name) / str(copies)
            members = write_community(folder, copies, options.own_days)
            for market in options.market:
                for _ in range(options.repeats):
                    for version, package in versions.items():
                        head = {"version": version, "members": members, "market": market}
                        measured(folder, market, options, package, head, put)
    if options.against:
        ratios(list(lines), put)


if __name__ == "__main__":
    main()
