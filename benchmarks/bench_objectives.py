"""What a controller is tuned for shows: mean cost, tail of the cost, and daily peak over 200 scenarios.

    python benchmarks/bench_objectives.py           rural3, some ten minutes on two idle cores
    python benchmarks/bench_objectives.py --quick   few scenarios and steps

Tunes on four weeks once per objective, on the same scenarios, then runs the same scenarios of the four weeks
that follow under each. Prints one JSON line per objective: mean, 95 % CVaR of the cost of the weeks and mean
daily peak of what the community buys, and the paired differences from the mean objective with their standard
errors (of the CVaR: over the scenarios that are in the tail under the mean objective).
"""

import argparse
import json
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]

FEATURES = ("one", "price", "load", "pv", "load_mean", "pv_mean")
PLAIN = "mean"


def arguments(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", default="rural3")
    parser.add_argument("--price", default="tou_noise")
    parser.add_argument("--start", default="2016-04-11", help="of the test; tuned on the days before")
    parser.add_argument("--days", type=int, default=28, help="to tune on, and to test on")
    parser.add_argument("--model", default="bootstrap * level(pv=0.4, load=0.15)")
    parser.add_argument("--scenarios", type=int, default=200)
    parser.add_argument("--tuning-scenarios", type=int, default=12)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--peak-price", type=float, default=20.0, help="EUR per kW of mean daily peak")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", help="file to append the lines to; default: standard output")
    options = parser.parse_args(argv)
    if options.quick:
        options.days, options.scenarios, options.tuning_scenarios, options.steps = 7, 8, 3, 4
    return options


def objectives(options) -> dict:
    """By name."""
    from jaxp2p.tuning.objective import Objective

    return {
        PLAIN: Objective(),
        # of twelve scenarios the worst three: fewer would be learnt by heart
        "cvar": Objective(cvar_weight=1.0, cvar_level=0.75),
        "mean_and_peak": Objective(peak_price=options.peak_price),
    }


def main(argv=None) -> None:
    options = arguments(argv)
    import jax
    import jax.numpy as jnp
    import numpy as np
    import pandas as pd

    from jaxp2p.control.policy import follow, suggest_penalties
    from jaxp2p.data import load_case, window
    from jaxp2p.data.calendar import slot_of_week
    from jaxp2p.model.build import build_community, build_horizon
    from jaxp2p.runs.runner import suggest_terminal_price
    from jaxp2p.scenarios.parse import parse_model
    from jaxp2p.slot.solvers import choose_solver
    from jaxp2p.studies.engine import Task, run_batch
    from jaxp2p.studies.statistics import cvar
    from jaxp2p.tuning.stages import Plan, tune_stages
    from jaxp2p.tuning.train import Settings

    whole, begin = load_case(options.case, price=options.price), pd.Timestamp(options.start)

    def data(start, days):
        tables = window(whole, start=start, days=days)
        community = build_community(tables, market="pool")
        return community, build_horizon(community, tables)

    community, past = data(begin - pd.Timedelta(days=options.days), options.days)
    horizon = data(begin, options.days)[1]
    worth = suggest_terminal_price(community, past)
    per_day = round(24 / float(horizon.slot_hours))
    plan = Plan(
        begin=begin,
        train_days=options.days,
        scenarios=options.tuning_scenarios,
        model=options.model,
        sun=0.0,
        seed=1,
    )
    numbers = jnp.arange(options.scenarios, dtype=jnp.int32)
    seen: dict[str, dict] = {}
    for name, objective in objectives(options).items():
        clock = time.perf_counter()
        settings = Settings(features=FEATURES, steps=options.steps, objective=objective)
        tuned = tune_stages(plan, data, terminal_price=worth, settings=settings)
        tuning = time.perf_counter() - clock
        task = Task(
            community=community,
            horizon=horizon,
            model=parse_model(options.model, horizon=horizon, community=community),
            policy=follow(tuned.value, horizon.load.dtype),
            penalties=suggest_penalties(horizon),
            solver=choose_solver(community),
            key=jax.random.key(0),
            first_slot_of_week=jnp.asarray(slot_of_week(begin, pd.Timedelta(days=1) / per_day), jnp.int32),
            slots=horizon.slots,
        )
        clock = time.perf_counter()
        batch = jax.block_until_ready(run_batch(task, numbers))
        series = batch.series
        gained = np.asarray(series.stored_kwh[:, -1] - batch.start_kwh, float)
        cost = np.asarray(series.cost_eur, float).sum(1) - worth * gained
        bought = np.asarray(series.import_kw - series.export_kw, float)
        peak = np.maximum(bought.reshape(options.scenarios, -1, per_day).max(2), 0).mean(1)
        seen[name] = {"cost": cost, "peak": peak}
        tail = np.argsort(-seen[PLAIN]["cost"])[: max(1, round(0.05 * options.scenarios))]
        differences = {
            key: paired(values - seen[PLAIN][of], chosen)
            for key, values, of, chosen in (
                ("cost", cost, "cost", slice(None)),
                ("tail", cost, "cost", tail),
                ("peak", peak, "peak", slice(None)),
            )
        }
        line = {
            "case": options.case,
            "price": options.price,
            "start": options.start,
            "days": options.days,
            "scenarios": options.scenarios,
            "objective": name,
            "cost_mean": round(float(cost.mean()), 2),
            "cvar95": round(float(cvar(cost)), 2),
            "daily_peak_kw": round(float(peak.mean()), 2),
            **{f"{key}_less_mean": row for key, row in differences.items()},
            "soc_violation_kwh": float(np.max(np.asarray(series.soc_violation_kwh))),
            "tuning_s": round(tuning, 1),
            "run_s": round(time.perf_counter() - clock, 1),
        }
        text = json.dumps(line)
        if options.out:
            with open(options.out, "a", encoding="utf-8") as file:
                file.write(text + "\n")
        else:
            print(text, flush=True)


def paired(differences, chosen) -> list[float]:
    """Mean and standard error of it."""
    rows = differences[chosen]
    error = rows.std(ddof=1) / len(rows) ** 0.5 if len(rows) > 1 else float("nan")
    return [round(float(rows.mean()), 3), round(float(error), 3)]


if __name__ == "__main__":
    main()
