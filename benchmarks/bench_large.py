"""Ten thousand buses and a hundred thousand members, stage by stage: time, memory, rounds, violations.

    python benchmarks/bench_large.py                                      the whole size, a minute or two
    python benchmarks/bench_large.py --buses 1000 --members 10000         smaller
    taskset -c 0 python benchmarks/bench_large.py --buses 123 --members 12300 --reactive market
    python benchmarks/bench_large.py --out benchmarks/results/bench_large_cpu.jsonl

Copies of the feeder of rural3 below a medium-voltage network (`rivals/large.py`), 60 % of the members with PV
times 2.5, from noon on a sunny day: limits bind in some of the feeders. The pool is cleared secure in AC.
Prints one JSON line per stage; `seconds` is the wall clock, `peak_gib` the largest memory of the process so
far. A stage `clear` says how its slots ended, judged by an AC power flow in float64 on the host.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

START = "2016-07-04 12:00"


def arguments(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--buses", type=int, default=10_000)
    add("--members", type=int, default=100_000)
    add("--slots", type=int, default=8, help="of 15 minutes, from noon on")
    add("--policies", nargs="+", default=["no_storage", "lyapunov"])
    add("--pv-scale", type=float, default=2.5)
    add("--reactive", default="unity", help="rule of the PV inverters")
    add("--seed", type=int, default=0)
    add("--out", type=Path, help="file that the lines are added to")
    return parser.parse_args(argv)


def stages(options):
    """The lines, as they come."""
    import jax
    from rivals.large import large_tables

    from jaxp2p.data import read_tables, write_tables
    from jaxp2p.model.build import build_community, build_horizon
    from jaxp2p.report.kpis import evaluate
    from jaxp2p.runs import in_hindsight, runner

    head = {"bench": "large", "device": "cpu", "dtype": "float32", "slots": options.slots}
    head |= {"buses": options.buses, "members": options.members, "reactive": options.reactive}
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "case"
        days = options.slots / 96
        tables = large_tables(
            options.buses,
            options.members,
            start=START,
            days=days,
            seed=options.seed,
            pv_scale=options.pv_scale,
        )
        write_tables(tables, place)
        del tables
        yield head | clock.stage("make and write the tables")
        tables = read_tables(place)
        yield head | clock.stage("read and check them")
    community = build_community(tables, market="pool", secure=True, reactive=options.reactive)
    rows = {"rows": community.feeder.rows, "controllable_buses": community.feeder.count.shape[0]}
    yield head | clock.stage("build the community") | rows
    horizon = jax.block_until_ready(build_horizon(community, tables))
    yield head | clock.stage("build the horizon")
    run = runner.run(community, horizon, policies=options.policies, lower_bound=False)
    compiled = run.compile_seconds
    yield head | clock.stage("compile") | {"seconds": round(compiled, 3)}
    for name in options.policies:
        line = head | {"stage": "clear", "policy": name, "seconds": round(run.seconds[name], 3)}
        line |= {"ms_per_slot": round(1000 * run.seconds[name] / horizon.slots, 1), "peak_gib": peak_gib()}
        yield line | ends(community, horizon, run.trajectories[name])
    clock.stage("judge")
    evaluate(community, horizon, run)
    yield head | clock.stage("figures")
    penalties = runner.penalties_of(horizon)
    in_hindsight.lower_bound_of(community, horizon, penalties, run.terminal_price, None)
    yield head | clock.stage("lower bound")


class Clock:
    """The seconds since the last stage."""

    def __init__(self):
        self.begin = time.perf_counter()

    def stage(self, name: str) -> dict:
        """What a line says of the stage that ends here."""
        now = time.perf_counter()
        taken, self.begin = now - self.begin, now
        return {"stage": name, "seconds": round(taken, 3), "peak_gib": peak_gib()}


def peak_gib() -> float:
    """Of this process, so far."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3)


def ends(community, horizon, done) -> dict:
    """How the slots of a run ended."""
    import numpy as np

    from jaxp2p.model.network import FlowStatus, ac_violated, on_host
    from jaxp2p.simulation.flows import power_flow_of
    from jaxp2p.slot.status import Status

    whole, base = on_host(community), on_host(horizon.grid_base)
    flow = power_flow_of(whole, base, *(np.asarray(x, float) for x in (done.injection, done.pv_used)))
    volts, over = whole.network.beyond(flow.voltage).max(1), np.maximum(flow.loading.max(1) - 1, 0)
    price = np.asarray(done.nodal_price - done.market_price, float)
    return {
        "unsolved": int(np.isin(done.status, (Status.MAX_ITER, Status.NUMERICAL_ERROR)).sum()),
        "no_power_flow": int((flow.status != FlowStatus.SOLVED).sum()),
        "violated": int(ac_violated(volts, over).sum()),
        "worst_voltage_pu": float(volts.max()),
        "worst_loading_pct": 100 * float(over.max()),
        "rounds_max": int(np.max(done.rounds)),
        "iterations_median": float(np.median(done.iterations)),
        "iterations_max": int(np.max(done.iterations)),
        "members_behind_a_limit": int((np.abs(price) > 1e-3).sum(1).max()),
        "gap_eur_max": float(np.max(done.gap)),
        "gap_of_cost_pct": 100 * float(np.sum(done.gap) / np.abs(done.cost.sum(1)).sum()),
    }


def main():
    options = arguments()
    for line in stages(options):
        text = json.dumps(line)
        print(text, flush=True)
        if options.out:
            with options.out.open("a") as file:
                file.write(text + "\n")


if __name__ == "__main__":
    main()
