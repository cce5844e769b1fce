"""Capture of tuned controllers on weeks they have never seen, next to rules, Lyapunov control and MPC.

    python benchmarks/bench_tuning.py                                all cells, an hour on two idle cores
    python benchmarks/bench_tuning.py --case rural3 --season autumn  a part of them
    python benchmarks/bench_tuning.py --quick                        one cell, few steps, a week, no MPC
    python benchmarks/bench_tuning.py --table FILE.jsonl             lines as a table, nothing run

Prints one JSON line per case, season, price and policy. Tuned on the four weeks before the test, tested on
the next four ("tuned"), or tuned again every week on the four weeks before it ("tuned_rolling"); for dynamic
prices also with those that a day-ahead market has published ("tuned_rolling_published"). `seconds`
are those of the control itself on the test weeks, compilation not counted; `tuning_seconds` come on top.

Planners (`mpc_*`) solve a linear program per slot. Their capture is that on the merged batteries without
network (`tuning.reduce.merged`), which is in their favour; their seconds are those on the community itself,
from the first `--timed-days`. Means over cells are ratios of sums, as `summary` lines.
"""

import argparse
import json
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]

SEASONS = {"winter": "2016-02-01", "spring": "2016-04-11", "summer": "2016-07-04", "autumn": "2016-10-10"}
CASES, PRICES = ("rural3", "ieee33"), ("tou_noise", "dynamic")
ONLINE = ("no_storage", "lyapunov_standard", "lyapunov", "self_consumption", "community_self_consumption")
PLANNERS = {
    "mpc_persistence": "persistence",
    "mpc_mean": "mean",
    "mpc_perfect_power": "perfect_power",
    "mpc_persistence_published": "perfect_price",
}
# what needs prices that are published a day ahead, as those of "dynamic" would be
FEATURES = ("ahead_low", "ahead_high", "ahead_next")
PARTS = ("tuned", "published", "planners")
TRAIN_DAYS = 28


def arguments(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--season", nargs="+", choices=tuple(SEASONS), default=tuple(SEASONS))
    parser.add_argument("--price", nargs="+", choices=PRICES, default=PRICES)
    parser.add_argument("--steps", type=int, default=60, help="of the first tuning, half of them later")
    parser.add_argument("--scenarios", type=int, default=5)
    parser.add_argument("--days", type=int, default=28, help="to test on")
    parser.add_argument("--timed-days", type=float, default=1, help="days on which planners are timed")
    parser.add_argument("--planner", nargs="+", choices=tuple(PLANNERS), default=tuple(PLANNERS))
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--table", metavar="FILE", help="print these lines as a Markdown table and stop")
    parser.add_argument("--out", help="file to append the lines to; default: standard output")
    options = parser.parse_args(argv)
    if options.quick:
        options.case, options.season, options.price = ("rural3",), ("summer",), ("tou_noise",)
        options.steps, options.days, options.scenarios, options.part = 4, 7, 2, ("tuned",)
    return options


def cell(options, whole, case: str, season: str, price: str) -> list[dict]:
    """All policies in one season."""
    import pandas as pd

    from jaxp2p.control.tuned import stage
    from jaxp2p.data import window
    from jaxp2p.data.calendar import slot_of_week
    from jaxp2p.model.build import build_community, build_horizon
    from jaxp2p.runs.runner import run, suggest_terminal_price
    from jaxp2p.tuning.stages import Plan, tune_stages
    from jaxp2p.tuning.train import Settings

    begin = pd.Timestamp(SEASONS[season])

    def data(start, days):
        tables = window(whole, start=start, days=days)
        community = build_community(tables, market="pool")
        return community, build_horizon(community, tables)

    past = data(begin - pd.Timedelta(days=TRAIN_DAYS), TRAIN_DAYS)[1]
    community, test = data(begin, options.days)
    worth = suggest_terminal_price(community, past)
    slot = slot_of_week(begin, pd.Timedelta(hours=float(test.slot_hours)))
    shared = {"terminal_price": worth, "slot_of_week": slot, "lower_bound": False}

    ran = run(community, test, policies=(*ONLINE, "perfect_foresight"), **shared)
    costs = {name: cost(community, row, worth) for name, row in ran.trajectories.items()}
    costs["perfect_foresight"] = ran.perfect_foresight_eur
    possible = costs["no_storage"] - costs["perfect_foresight"]
    found = {"case": case, "season": season, "price": price}

    def line(policy: str, value: float, seconds: float, **more) -> dict:
        saved = costs["no_storage"] - value
        rounded = {"capture": round(saved / possible, 4), "saved_eur": round(saved, 3)}
        return (
            found
            | {"policy": policy}
            | rounded
            | {"possible_eur": round(possible, 3)}
            | {"seconds": round(seconds, 3)}
            | more
        )

    def tune(features, names: dict) -> list[dict]:
        """The first stage alone, and all of them."""
        began, ends = time.perf_counter(), []
        plan = Plan(
            begin=begin, train_days=TRAIN_DAYS, stages=-(-options.days // 7), scenarios=options.scenarios
        )
        tuned = tune_stages(
            plan,
            data,
            terminal_price=worth,
            settings=Settings(steps=options.steps, features=features),
            told=lambda number, progress: ends.append((number, time.perf_counter() - began)),
        )
        values = {"first": stage(tuned.value, 0), "all": tuned.value}
        taken = {"first": max(t for number, t in ends if number == 0), "all": ends[-1][1]}
        rows = []
        for name, which in names.items():
            own = run(community, test, policies=(), controller=values[which], **shared)
            told = {"tuning_seconds": round(taken[which], 1), "steps": options.steps}
            money = cost(community, own.trajectories["tuned"], worth)
            rows.append(line(name, money, own.seconds["tuned"], **told))
        return rows

    lines = []
    usual = Settings().features
    if "tuned" in options.part:
        lines += [line(name, costs[name], ran.seconds[name]) for name in ONLINE[1:]]
        lines += tune(usual, {"tuned": "first", "tuned_rolling": "all"})
    if "published" in options.part and price == "dynamic":
        lines += tune((*usual, *FEATURES), {"tuned_rolling_published": "all"})
    asked = options.planner if "planners" in options.part else ()
    if price != "dynamic":
        asked = [name for name in asked if not name.endswith("published")]
    forecasts = {name: PLANNERS[name] for name in asked}
    return lines + planners(options, (community, past, test), worth, line, forecasts)


def planners(options, made, worth: float, line, forecasts: dict[str, str]) -> list[dict]:
    """Model predictive control: what it captures of the merged batteries, and what it takes."""
    import dataclasses

    import jax.numpy as jnp
    import numpy as np

    from jaxp2p.planning.predictive import mpc
    from jaxp2p.runs.runner import run
    from jaxp2p.tuning.reduce import merged, without_network

    if not forecasts:
        return []
    community, past, test = made
    bare, _ = without_network(community, test)
    both = [without_network(community, part)[1] for part in (past, test)]
    hours = both[0].slot_hours
    joined = {
        name: hours if name == "slot_hours" else jnp.concatenate([getattr(part, name) for part in both])
        for name in both[0].__dict__
    }
    small, whole, _ = merged(bare, dataclasses.replace(test, **joined), np.zeros(community.size, int))
    before, after = whole.slice(0, past.slots), whole.slice(past.slots, whole.slots)
    told = {"terminal_price": worth, "lower_bound": False}
    ran = run(small, after, policies=("no_storage", "perfect_foresight"), **told)
    rest = cost(small, ran.trajectories["no_storage"], worth)
    possible = rest - ran.perfect_foresight_eur
    slots = max(1, round(options.timed_days * 24 / float(test.slot_hours)))
    lines = []
    for name, forecast in forecasts.items():
        known = {"terminal_price": worth, "forecast": forecast}
        done = mpc(small, after, history=before, **known)
        timed = mpc(community, test.slice(0, min(slots, test.slots)), history=past, **known)
        seconds = timed.seconds * test.slots / min(slots, test.slots)
        saved = rest - cost(small, done.trajectory, worth)
        more = {"timed_days": options.timed_days, "plans": done.plans}
        row = line(name, 0.0, seconds, **more)
        lines.append(row | {"capture": round(saved / possible, 4), "saved_eur": round(saved, 3)})
        lines[-1]["possible_eur"] = round(possible, 3)
    return lines


def cost(community, row, worth: float) -> float:
    """EUR, less the worth of the energy gained."""
    from jaxp2p.model.trajectory import net_cost

    return net_cost(row, community.prosumers.battery, worth)


def summary(lines: list[dict]) -> list[dict]:
    """Per policy: mean capture as a ratio of sums, mean of the cells, the worst cell."""
    out = []
    for name in dict.fromkeys(row["policy"] for row in lines):
        rows = [row for row in lines if row["policy"] == name]
        captures = [row["capture"] for row in rows]
        worst = min(rows, key=lambda row: row["capture"])
        out.append(
            {
                "summary": name,
                "cells": len(rows),
                "capture_of_sums": round(
                    sum(row["saved_eur"] for row in rows) / sum(row["possible_eur"] for row in rows), 4
                ),
                "capture_mean": round(sum(captures) / len(rows), 4),
                "capture_worst": worst["capture"],
                "worst": " ".join(worst[key] for key in ("case", "season", "price")),
            }
        )
    return out


def table(lines: list[dict]) -> str:
    """Captures in %, a row per cell and a column per policy, then the means as ratios of sums."""
    policies = list(dict.fromkeys(row["policy"] for row in lines))
    cells = list(dict.fromkeys((row["case"], row["price"], row["season"]) for row in lines))
    found = {(row["case"], row["price"], row["season"], row["policy"]): row["capture"] for row in lines}
    means = {row["summary"]: row for row in summary(lines)}
    head = ["case", "price", "season", *policies]
    rows = [head, ["---"] * 3 + ["---:"] * len(policies)]
    for cell in cells:
        values = (found.get((*cell, name)) for name in policies)
        rows.append([*cell, *("" if x is None else f"{100 * x:.1f}" for x in values)])
    rows.append(["all", "", "mean", *(f"{100 * means[name]['capture_mean']:.1f}" for name in policies)])
    rows.append(["all", "", "of sums", *(f"{100 * means[name]['capture_of_sums']:.1f}" for name in policies)])
    rows.append(["all", "", "worst", *(f"{100 * means[name]['capture_worst']:.1f}" for name in policies)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main(argv=None) -> None:
    options = arguments(argv)
    if options.table:
        lines = [json.loads(text) for text in Path(options.table).read_text(encoding="utf-8").splitlines()]
        print(table([row for row in lines if "policy" in row]))
        return
    from jaxp2p.data import load_case

    lines = []
    for case in options.case:
        for price in options.price:
            whole = load_case(case, price=price)
            for season in options.season:
                rows = cell(options, whole, case, season, price)
                lines += rows
                tell(options, rows)
    tell(options, summary(lines))


def tell(options, rows: list[dict]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if options.out:
        with open(options.out, "a", encoding="utf-8") as file:
            file.write(text)
    else:
        print(text, end="", flush=True)


if __name__ == "__main__":
    main()
