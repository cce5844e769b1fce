"""Electric vehicles: what control of their charging is worth, and that all leave with what they want.

    python benchmarks/bench_vehicles.py                     all cases, half an hour on two idle cores
    python benchmarks/bench_vehicles.py --case rural1       one of them
    python benchmarks/bench_vehicles.py --quick             one, tuned in few steps, tested on two days
    python benchmarks/bench_vehicles.py --table FILE.jsonl  lines as a table, nothing run

Prints one JSON line per case and policy. `--share` of the members have a vehicle, drawn by the package
(`jaxp2p/data/vehicles.py`); the market is a pool with its grid. The tuned controller learns on the four weeks
before the test (`jaxp2p tune`), MPC plans a day ahead in every slot by forecasts from the weeks before.

capture: share of what perfect control of batteries and vehicles saves on top of vehicles that charge at once
and batteries that rest. missed: stays that ended with less than could have been reached from arrival on.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]

CASES = ("rural1", "rural3")
POLICIES = (
    "no_storage",
    "charge_at_once",
    "charge_on_surplus",
    "cheapest_slots",
    "community_self_consumption",
    "lyapunov",
    "mpc_persistence",
    "mpc_mean",
    "perfect_foresight",
)
TRAIN_DAYS, TRAIN, TEST = 28, "2016-06-06", "2016-07-04"
FIGURES = {  # of a policy
    "total_cost_eur": 2,
    "capture": 4,
    "self_sufficiency": 4,
    "peak_import_kw": 1,
    "ev_charged_kwh": 1,
    "ev_discharged_kwh": 1,
    "ev_stays": 0,
    "ev_shortfall_kwh": 4,
    "ev_unavoidable_kwh": 4,
    "ev_missed_stays": 0,
    "slots_not_solved": 0,
}


def arguments(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--share", type=float, default=0.4, help="of the members that have a vehicle")
    parser.add_argument("--price", default="tou_noise")
    parser.add_argument("--days", type=float, default=7, help="to test on")
    parser.add_argument("--steps", type=int, default=60, help="of tuning")
    parser.add_argument("--scenarios", type=int, default=3, help="of the weeks that are tuned on")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--table", metavar="FILE", help="print these lines as a Markdown table and stop")
    parser.add_argument("--out", help="file to append the lines to; default: standard output")
    options = parser.parse_args(argv)
    if options.quick:
        options.case, options.days, options.steps, options.scenarios = ("rural1",), 2, 6, 1
    return options


def cell(case: str, options):
    """The lines of one case."""
    import jax

    import jaxp2p as jp
    from jaxp2p.tuning.controller_file import read_controller

    with tempfile.TemporaryDirectory() as folder:
        controller, begin = Path(folder) / "controller.json", time.perf_counter()
        asked = {
            "start": TRAIN,
            "train-days": TRAIN_DAYS,
            "test-days": 1,
            "price": options.price,
            "ev-share": options.share,
            "steps": options.steps,
            "scenarios": options.scenarios,
            "out": controller,
        }
        words = [str(word) for name, value in asked.items() for word in (f"--{name}", value)]
        command = [sys.executable, "-m", "jaxp2p", "tune", case, *words, "--quiet"]
        subprocess.run(command, check=True)
        tuning = time.perf_counter() - begin
        tables = jp.load_case(case, price=options.price, ev_share=options.share)
        place = jp.build(tables, start=TEST, days=options.days, market="pool")
        value = read_controller(controller, size=place.size)
        result = jp.run(place, policies=POLICIES, controller=value, foresight="on")
    figures = result.kpis()
    for policy, row in figures.iterrows():
        numbers = {
            name: None if row[name] is None else round(float(row[name]), n) for name, n in FIGURES.items()
        }
        yield {
            "case": case,
            "policy": policy,
            "ev_share": options.share,
            "price": options.price,
            "days": options.days,
            **numbers,
            "lower_bound_eur": round(float(result.run.lower_bound_eur), 2),
            "tuning_seconds": round(tuning, 1) if policy == "tuned" else None,
            "seconds": round(float(result.run.seconds[policy]), 2),
            "device": jax.devices()[0].device_kind,
        }


def table(lines: list[dict]) -> str:
    """Markdown: a row per policy, a column per case."""
    cases = list(dict.fromkeys(row["case"] for row in lines))
    out = ["| policy | " + " | ".join(f"{case}: cost EUR, capture %, EV missed" for case in cases) + " |"]
    out.append("| --- |" + " --- |" * len(cases))
    for policy in dict.fromkeys(row["policy"] for row in lines):
        cells = []
        for case in cases:
            rows = [row for row in lines if (row["case"], row["policy"]) == (case, policy)]
            cells.append(_cell(rows[-1]) if rows else "")
        out.append(f"| {policy} | " + " | ".join(cells) + " |")
    return "\n".join(out)


def _cell(row: dict) -> str:
    return f"{row['total_cost_eur']:.2f}, {100 * row['capture']:.1f}, {row['ev_missed_stays']:.0f}"


def main(argv=None) -> None:
    options = arguments(argv)
    if options.table:
        print(table([json.loads(line) for line in Path(options.table).read_text().splitlines()]))
        return
    for case in options.case:
        for line in cell(case, options):
            text = json.dumps(line)
            print(text, flush=True)
            if options.out:
                with open(options.out, "a", encoding="utf-8") as file:
                    file.write(text + "\n")


if __name__ == "__main__":
    main()
