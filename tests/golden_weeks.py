"""Windows of the embedded cases: run one as its record says, and hold the figures against the stored ones.

    python golden_weeks.py SETTINGS

prints the figures of a window as JSON; `run_as_a_user` runs this with the programs that a user's run has.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax

from jaxp2p import build_community, build_horizon, choose_solver, evaluate, load_case, window
from jaxp2p.runs.runner import run
from jaxp2p.slot.solvers import scale_tolerances

BOUNDS = ("perfect_foresight_eur", "lower_bound_eur", "end_value_eur_per_kwh")
PRICES = ("unserved_price_eur_per_kwh", "row_price_eur_per_kwh")
MONEY = (
    "cost_eur",
    "unserved_cost_eur",
    "violation_cost_eur",
    "total_cost_eur",
    "saving_eur",
    "stored_worth_eur",
)
ENERGY = (
    "load_kwh",
    "pv_kwh",
    "curtailed_kwh",
    "import_kwh",
    "export_kwh",
    "p2p_kwh",
    "battery_throughput_kwh",
    "unserved_kwh",
    "spilled_kwh",
)
SHARES = (
    "capture",
    "self_sufficiency",
    "self_consumption",
    "transformer_loading_max",
)
VOLTS = ("voltage_min_pu", "voltage_max_pu")
LIMITS = {  # what may be broken, and the largest amount that is not worth a word
    "soc_violation_kwh": 1e-3,
    "voltage_violation_pu": 1e-4,
    "line_violation_kw": 0.05,
    "balance_error_kw": 1e-3,
    "slots_not_solved": 0,
}
KEPT = (*MONEY, *ENERGY, *SHARES, *VOLTS, *LIMITS)


def run_window(settings: dict[str, Any], *, dtype: str = "float32", tolerance: float = 1.0) -> dict[str, Any]:
    """The figures of every policy, and the bounds, of a window.

    settings: case, market, start, days, and what else `load_case` takes under "options".
    """
    whole = load_case(settings["case"], **settings["options"])
    tables = window(whole, start=settings["start"], days=settings["days"])
    community = build_community(tables, market=settings["market"], dtype=dtype)
    horizon = build_horizon(community, tables)
    solver = scale_tolerances(choose_solver(community), tolerance)
    result = run(community, horizon, solver=solver)
    policies = {
        name: {figure: of.kpis[figure] for figure in (*KEPT, "status_counts")}
        for name, of in evaluate(community, horizon, result).items()
    }
    bounds = (result.perfect_foresight_eur, result.lower_bound_eur, result.terminal_price)
    prices = (result.unserved_price, result.row_price)
    return {**dict(zip(BOUNDS, bounds)), **dict(zip(PRICES, prices)), "policies": policies}


def run_as_a_user(settings: dict[str, Any]) -> dict[str, Any]:
    """`run_window` with XLA's usual optimisation, whatever flags this process has (tests/conftest.py).

    A week decides 672 times in turn, and a method whose cost is linear decides ties by the last bit.
    """
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"XLA_FLAGS": "", "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, __file__, json.dumps(settings)], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def differences(record: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """What is off by more than the record's margins, in words."""
    said = []

    def hold(name: str, stored: Any, now: Any, margin: float) -> None:
        if stored is None or now is None:
            if stored is not now:
                said.append(f"{name}: {now}, stored {stored}")
        elif not abs(now - stored) <= margin:
            said.append(f"{name}: {now:.6g}, stored {stored:.6g} +- {margin:.2g}")

    for name in (*BOUNDS, *PRICES):
        hold(name, record[name], found[name], record["margins"][name])
    if list(found["policies"]) != list(record["policies"]):
        return [*said, f"policies: {', '.join(found['policies'])}"]
    for policy, stored in record["policies"].items():
        now, margins = found["policies"][policy], record["margins"]["policies"][policy]
        for figure in KEPT:
            hold(f"{policy}: {figure}", stored[figure], now[figure], margins[figure])
        for status in {*stored["status_counts"], *now["status_counts"]}:
            slots = [counts.get(status, 0) for counts in (stored["status_counts"], now["status_counts"])]
            hold(f"{policy}: slots {status}", *slots, margins["slots_of_a_status"])
    return said


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    print(json.dumps(run_window(json.loads(sys.argv[1])), default=float))
