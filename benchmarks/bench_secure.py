"""A market that is secure in AC, beside one with linear limits and one without: violations, cost, time.

    python benchmarks/bench_secure.py                     all communities, ten minutes on two idle cores
    python benchmarks/bench_secure.py --community NAME    one of them
    python benchmarks/bench_secure.py --table FILE.jsonl  lines as a table, nothing run

Prints one JSON line per community, policy and mode. Every dispatch of the week is judged by an AC power flow
in float64 on the host. violated: slots with a bus beyond its limits by more than 1e-4 p.u., or a branch by
more than 0.1 % of its rating. hopeless: slots among them in which the market pays its whole penalty for a
limit: no dispatch that the policy leaves to it keeps the limit. rounds: times that a slot is cleared.
seconds: of processor time, the best of three, programs compiled before.
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
POLICIES = ("no_storage", "lyapunov_standard", "lyapunov")
REPEATS = 3


@dataclass(frozen=True)
class Stress:
    """An embedded case and what is made of it."""

    case: str
    start: str
    changes: dict[str, Any] = field(default_factory=dict)
    market: str = "pool"


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
}


def arguments(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--community", nargs="+", choices=COMMUNITIES, default=list(COMMUNITIES))
    parser.add_argument("--policy", nargs="+", choices=POLICIES, default=list(POLICIES))
    parser.add_argument("--days", type=float, default=7)
    parser.add_argument("--table", help="print the lines of this file as a table")
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
    for mode in MODES:
        case = jp.build(
            tables,
            start=stress.start,
            days=days,
            market=stress.market,
            network=mode != "no limits",
            secure=mode == "secure",
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
                "slots": case.slots,
                "violated": int(violated.sum()),
                "hopeless": int((violated & (status == Status.NETWORK_VIOLATED)).sum()),
                "voltage_violation_pu": float(beyond.max()),
                "loading_violation_pct": 100 * float(over.max()),
                "unsolved": int(np.isin(status, (Status.MAX_ITER, Status.NUMERICAL_ERROR)).sum()),
                "cost_eur": round(float(np.asarray(done.cost, float).sum()), 2),
                "losses_kwh": round(float(flow.losses.sum()) * float(case.horizon.slot_hours), 1),
                "cleared_again": int((rounds > 1).sum()),
                "rounds_median_of_these": float(np.median(rounds[rounds > 1])) if (rounds > 1).any() else 1.0,
                "rounds_max": int(rounds.max()),
                "seconds": round(min(taken), 3),
            }


def table(path: str) -> str:
    """Lines as markdown: a row per community and policy."""
    lines = [json.loads(line) for line in Path(path).read_text().splitlines()]
    rows: dict[tuple[str, str], dict[str, dict]] = {}
    for line in lines:
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
        hopeless = f" ({secure['hopeless']} hopeless)" if secure["hopeless"] else ""
        text.append(
            (
                community,
                policy,
                f"{none['violated']}, {linear['violated']}, {secure['violated']}{hopeless}",
                f"{secure['voltage_violation_pu']:.1e}, {secure['loading_violation_pct']:.2f}",
                str(secure["cleared_again"]),
                f"{secure['rounds_median_of_these']:g}, {secure['rounds_max']}",
                f"{linear['cost_eur']}, {secure['cost_eur']}",
                f"{secure['seconds'] / linear['seconds']:.2f}",
            )
        )
    return "\n".join("| " + " | ".join(cells) + " |" for cells in text)


def main(argv=None) -> None:
    options = arguments(argv)
    if options.table:
        print(table(options.table))
        return
    for name in options.community:
        for line in lines_of(name, options.policy, options.days):
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
