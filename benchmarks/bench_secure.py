"""A market that is secure in AC, beside one with linear limits and one without: violations, cost, time.

    python benchmarks/bench_secure.py                     all communities, a quarter of an hour on two cores
    python benchmarks/bench_secure.py --community NAME    one of them
    python benchmarks/bench_secure.py --table FILE.jsonl  lines as tables, nothing run

Prints one JSON line per community, policy and mode. Every dispatch of the week is judged by an AC power flow
in float64 on the host. violated: slots with a bus beyond its limits by more than 1e-4 p.u., or a branch by
more than 0.1 % of its rating. hopeless: slots among them in which the market pays its whole penalty for a
limit: no dispatch that the policy leaves to it keeps the limit. rounds: times that a slot is cleared.
seconds: of processor time, the best of three, programs compiled before.

Where voltages alone bind (branches without a rating, a low `v_max`), the secure market has a line per rule of
the PV inverters' reactive power, too: reactive, curtailed_kwh.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]

MODES = ("no limits", "linear", "secure")
RULES = ("cos_phi", "volt_var", "market")  # beside unity, which the three modes have
POLICIES = ("no_storage", "lyapunov_standard", "lyapunov")
REPEATS = 3


@dataclass(frozen=True)
class Stress:
    """An embedded case and what is made of it."""

    case: str
    start: str
    changes: dict[str, Any] = field(default_factory=dict)
    market: str = "pool"
    v_max: float | None = None  # p.u., at all buses, and no branch has a rating; None: as the case is


COMMUNITIES = {
    "village, PV x 2.5, sunny week": Stress("rural1", "2016-07-04", {"pv_scale": 2.5}),
    "village, PV x 4, sunny week": Stress("rural1", "2016-07-04", {"pv_scale": 4.0}),
    "village, winter week": Stress("rural1", "2016-01-11"),
    "village, winter week, bilateral": Stress("rural1", "2016-01-11", market="bilateral"),
    "rural3, 80 % PV, sunny week": Stress("rural3", "2016-07-04", {"pv_share": 0.8}),
    "rural3, 80 % PV x 2, sunny week": Stress("rural3", "2016-07-04", {"pv_share": 0.8, "pv_scale": 2.0}),
    "rural3, winter week": Stress("rural3", "2016-01-11"),
    "33 buses, sunny week": Stress("ieee33", "2016-07-04"),
    "33 buses, PV x 3, sunny week": Stress("ieee33", "2016-07-04", {"pv_scale": 3.0}),
    "33 buses, winter week": Stress("ieee33", "2016-01-11"),
    "village, PV x 2.5, 1.03 p.u.": Stress("rural1", "2016-05-23", {"pv_scale": 2.5}, v_max=1.03),
    "rural3, 80 % PV x 2, 1.06 p.u.": Stress(
        "rural3", "2016-05-23", {"pv_share": 0.8, "pv_scale": 2.0}, v_max=1.06
    ),
}


def arguments(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--community", nargs="+", choices=COMMUNITIES, default=list(COMMUNITIES))
    parser.add_argument("--policy", nargs="+", choices=POLICIES, default=list(POLICIES))
    parser.add_argument("--days", type=float, default=7)
    parser.add_argument("--table", help="print the lines of this file as tables")
    return parser.parse_args(argv)


def lines_of(name: str, policies: list[str], days: float):
    """The lines of one community."""
    import numpy as np

    import jaxp2p as jp
    from jaxp2p.model.network import ac_violated, on_host
    from jaxp2p.runs.runner import make_policies, penalties_of
    from jaxp2p.simulation.flows import power_flow_of
    from jaxp2p.simulation.forward import simulate_in_pieces
    from jaxp2p.slot.solvers import choose_solver
    from jaxp2p.slot.status import Status

    stress = COMMUNITIES[name]
    tables = jp.load_case(stress.case, **stress.changes)
    rules = ()
    if stress.v_max is not None:
        tables = tables.replace(
            lines=tables.lines.assign(s_max_kva=np.inf), buses=tables.buses.assign(v_max_pu=stress.v_max)
        )
        rules = RULES
    for mode, rule in [*((mode, "unity") for mode in MODES), *(("secure", rule) for rule in rules)]:
        case = jp.build(
            tables,
            start=stress.start,
            days=days,
            market=stress.market,
            network=mode != "no limits",
            secure=mode == "secure",
            reactive=rule,
        )
        known, penalties = make_policies(case.community, case.horizon), penalties_of(case.horizon)
        solver = choose_solver(case.community)
        community, base = on_host(case.community), on_host(case.horizon.grid_base)
        for policy in policies:
            given = (case.community, case.horizon, penalties, known[policy], solver)
            done = simulate_in_pieces(*given)
            taken = []
            for _ in range(REPEATS):
                begin = time.process_time()
                simulate_in_pieces(*given)
                taken.append(time.process_time() - begin)
            flow = power_flow_of(
                community, base, *(np.asarray(x, float) for x in (done.injection, done.pv_used))
            )
            hours = float(case.horizon.slot_hours)
            left = np.asarray(case.horizon.pv, float) - np.asarray(done.pv_used, float)
            beyond = community.network.beyond(flow.voltage).max(1)
            over = np.maximum(flow.loading.max(1, initial=0) - 1, 0)
            violated, status, rounds = (
                ac_violated(beyond, over),
                np.asarray(done.status),
                np.asarray(done.rounds),
            )
            yield {
                "community": name,
                "members": case.size,
                "market": stress.market,
                "policy": policy,
                "mode": mode,
                "reactive": rule,
                "slots": case.slots,
                "violated": int(violated.sum()),
                "hopeless": int((violated & (status == Status.NETWORK_VIOLATED)).sum()),
                "voltage_violation_pu": float(beyond.max()),
                "loading_violation_pct": 100 * float(over.max()),
                "unsolved": int(np.isin(status, (Status.MAX_ITER, Status.NUMERICAL_ERROR)).sum()),
                "cost_eur": round(float(np.asarray(done.cost, float).sum()), 2),
                "losses_kwh": round(float(flow.losses.sum()) * hours, 1),
                "curtailed_kwh": round(max(float(left.sum()) * hours, 0.0), 1),
                "cleared_again": int((rounds > 1).sum()),
                "rounds_median_of_these": float(np.median(rounds[rounds > 1])) if (rounds > 1).any() else 1.0,
                "rounds_max": int(rounds.max()),
                "seconds": round(min(taken), 3),
            }


def tables(path: str) -> str:
    """Lines as markdown: a row per community and policy, then one per community, policy and rule."""
    lines = [json.loads(line) for line in Path(path).read_text().splitlines()]
    rows: dict[tuple[str, str], dict[str, dict]] = {}
    for line in lines:
        if line.get("reactive", "unity") == "unity":
            rows.setdefault((line["community"], line["policy"]), {})[line["mode"]] = line
    columns = (
        "community",
        "policy",
        "violated: no limits, linear, secure",
        "worst of secure, p.u. and %",
        "cleared again",
        "rounds median, max",
        "EUR linear, secure",
        "time secure / linear",
    )
    text = [columns, ("---",) * len(columns)]
    for (community, policy), modes in rows.items():
        none, linear, secure = (modes[mode] for mode in MODES)
        text.append(
            (
                community,
                policy,
                f"{none['violated']}, {linear['violated']}, {_violated(secure)}",
                *_secure(secure),
                f"{linear['cost_eur']}, {secure['cost_eur']}",
                f"{secure['seconds'] / linear['seconds']:.2f}",
            )
        )
    return _markdown(text) + "\n\n" + _markdown(_of_rules(lines))


def _of_rules(lines: list[dict]) -> list[tuple[str, ...]]:
    ruled = {line["community"] for line in lines if line.get("reactive", "unity") != "unity"}
    columns = (
        "community",
        "policy",
        "reactive",
        "violated",
        "worst, p.u. and %",
        "cleared again",
        "rounds median, max",
        "curtailed kWh",
        "losses kWh",
        "EUR",
        "seconds",
    )
    text = [columns, ("---",) * len(columns)]
    for line in lines:
        if line["community"] in ruled and line["mode"] == "secure":
            names = (line[name] for name in ("community", "policy", "reactive"))
            figures = (str(line[name]) for name in ("curtailed_kwh", "losses_kwh", "cost_eur", "seconds"))
            text.append((*names, _violated(line), *_secure(line), *figures))
    return text


def _violated(line: dict) -> str:
    return f"{line['violated']}" + (f" ({line['hopeless']} hopeless)" if line["hopeless"] else "")


def _secure(line: dict) -> tuple[str, ...]:
    """What is worst, how many slots were cleared again, and how often."""
    return (
        f"{line['voltage_violation_pu']:.1e}, {line['loading_violation_pct']:.2f}",
        str(line["cleared_again"]),
        f"{line['rounds_median_of_these']:g}, {line['rounds_max']}",
    )


def _markdown(rows: list[tuple[str, ...]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def main(argv=None) -> None:
    options = arguments(argv)
    if options.table:
        print(tables(options.table))
        return
    for name in options.community:
        for line in lines_of(name, options.policy, options.days):
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
