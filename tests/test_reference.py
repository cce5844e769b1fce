"""Golden slots and weeks: stored inputs, stored answers of an independent solver, stored figures.

The data are in `tests/reference`; `golden.py` and `golden_weeks.py` read them. `tests/reference/make.py` made
them, and `make.py weeks --check` runs the whole weeks, which take too long here.
"""

from dataclasses import replace
from functools import lru_cache

import jax
import numpy as np
import pytest
from golden import optimum_of, slots, stacked, week, weeks
from golden_weeks import differences, run_as_a_user
from slot_answers import SOLVERS, solve_many, suiting
from slot_judge import judge

from jaxp2p.data.cases import CASES
from jaxp2p.slot.solvers import scale_tolerances
from jaxp2p.slot.status import Status

pytestmark = pytest.mark.slow

FACTOR = {"float64": 0.1, "float32": 1.0}  # on the solver's tolerances
QUICK = ("rural1", "rural1_overloaded_day")  # a week and a day: seconds
DAYS = ("rural1_day", "rural1_overloaded_day")  # with a rival's perfect foresight
# golden cases are about numbers, not speed: without XLA's optimisation programs are there sooner
solve_slots = jax.jit(solve_many.__wrapped__, compiler_options={"xla_backend_optimization_level": 0})


@lru_cache
def layouts() -> dict[str, list[dict]]:
    """Slots by layout: one compiled program serves each."""
    return {name: [r for r in slots() if r["layout"] == name] for name in {r["layout"] for r in slots()}}


def runs() -> list[tuple[str, str, str]]:
    """Slot, dtype, solver: float64 by every solver that suits, float32 by the one that a run would take."""
    found = []
    for _, records in sorted(layouts().items()):
        names = suiting(stacked(records[:1], "float64"))
        chosen = [("float64", name) for name in names] + [("float32", names[-1])]
        found += [(record["name"], *run) for run in chosen for record in records]
    return found


@lru_cache
def answers(layout: str, dtype: str, solver: str, penalty: float = 1.0):
    """(problems, results) of a layout, solved cold; penalty: a factor on the price of violated rows."""
    problems = stacked(layouts()[layout], dtype)
    problems = replace(problems, row_penalty=problems.row_penalty * np.asarray(penalty, dtype))
    results = solve_slots(problems, scale_tolerances(SOLVERS[solver], FACTOR[dtype]))
    return problems, jax.tree.map(np.asarray, results)


def solved(name: str, dtype: str, solver: str, penalty: float = 1.0):
    """(record, problem, result) of one slot."""
    layout = name.split(".")[0]
    number = [record["name"] for record in layouts()[layout]].index(name)
    problem, result = jax.tree.map(lambda x: x[number], answers(layout, dtype, solver, penalty))
    return layouts()[layout][number], problem, result


@pytest.mark.parametrize(("name", "dtype", "solver"), runs())
def test_a_golden_slot_ends_with_the_stored_status(name, dtype, solver):
    record, _, result = solved(name, dtype, solver)
    assert Status(int(result["status"])).name == record["status"]


@pytest.mark.parametrize(("name", "dtype", "solver"), runs())
def test_a_golden_slot_costs_what_the_independent_solver_found(name, dtype, solver):
    record, problem, result = solved(name, dtype, solver)
    best = optimum_of(record)
    verdict = judge(problem, result["dispatch"], result["status"], result["gap"], best)
    assert verdict.fault == ""
    allowed = record["tolerances"][dtype] * best.scale + best.error + verdict.rounding
    assert -best.error - verdict.rounding <= verdict.distance <= allowed


@pytest.mark.parametrize(("name", "dtype", "solver"), runs())
def test_the_certificate_of_a_golden_slot_holds(name, dtype, solver):
    record, problem, result = solved(name, dtype, solver)
    best = optimum_of(record)
    verdict = judge(problem, result["dispatch"], result["status"], result["gap"], best)
    assert verdict.why == ""
    assert 0 <= result["gap"] <= record["tolerances"][dtype] * best.scale


def test_peers_agree_on_a_price_between_theirs():
    """The seller's market price plus half the fee, the buyer's less half the fee, where nothing limits it."""
    counted = 0
    for record in layouts()["bilateral"]:
        _, problem, result = solved(record["name"], "float64", "admm")
        d, market = result["dispatch"], problem.market
        mine, theirs = np.asarray(d.market_price), np.asarray(d.market_price)[np.asarray(market.partner)]
        traded = np.abs(np.asarray(d.trades))
        free = (traded > 1e-2) & (traded < 0.99 * np.asarray(market.limit))
        away = np.where(free, np.asarray(d.trade_price) - (mine + theirs) / 2, 0)
        assert np.abs(away).max() < 1e-3, record["name"]
        counted += free.sum()
    assert counted > 20


@pytest.mark.parametrize(("name", "dtype", "solver"), [run for run in runs() if run[1] == "float64"])
def test_ten_times_the_row_penalty_keeps_the_limits_that_can_be_kept(name, dtype, solver):
    record, _, result = solved(name, dtype, solver, penalty=10.0)
    assert Status(int(result["status"])).name == record["status_with_ten_times_the_row_penalty"]


def test_golden_slots_cover_every_market_device_and_limit():
    assert len(slots()) >= 24
    matter = {(r["problem"]["market"]["kind"], part) for r in slots() for part in r["changes_eur_without"]}
    parts = {"network", "connections", "storage", "forced", "elastic", "curtailment", "wear"}
    trades = {"trade", "trade_limits"}
    assert matter >= {(kind, part) for kind in ("pool", "bilateral") for part in parts | trades}
    assert matter >= {("none", part) for part in parts - {"curtailment"}}
    found = {(r["status"], r["status_with_ten_times_the_row_penalty"]) for r in slots()}
    keepable, hopeless = ("NETWORK_VIOLATED", "SOLVED"), ("NETWORK_VIOLATED", "NETWORK_VIOLATED")
    assert found >= {("SOLVED", "SOLVED"), ("UNSERVED", "UNSERVED"), keepable, hopeless}


@pytest.mark.parametrize("record", slots(), ids=lambda record: record["name"])
def test_two_formulations_agree_on_a_golden_slot(record):
    best = optimum_of(record)
    assert best.error <= record["tolerances"]["reference"] * best.scale
    assert record["qp_eur"] == pytest.approx(best.value, abs=record["tolerances"]["reference"] * best.scale)


@pytest.mark.parametrize("name", QUICK)
def test_a_window_of_an_embedded_case_has_the_stored_figures(name):
    assert differences(week(name), run_as_a_user(week(name)["settings"])) == []


@pytest.mark.parametrize("name", DAYS)
def test_perfect_foresight_is_that_of_a_program_with_every_variable(name):
    record = week(name)
    found, rival = record["perfect_foresight_eur"], record["rival_foresight_eur"]
    margin = record["margins"]["perfect_foresight_eur"]
    assert found <= rival + margin
    if record["settings"]["market"] == "pool":
        assert found == pytest.approx(rival, abs=margin)


def test_every_embedded_case_has_a_week():
    assert {week(n)["settings"]["case"] for n in weeks() if week(n)["settings"]["days"] == 7} == set(CASES)


@pytest.mark.parametrize("name", weeks())
def test_no_policy_of_a_stored_week_beats_the_bounds(name):
    record = week(name)
    slack = record["margins"]["lower_bound_eur"]
    totals = [figures["total_cost_eur"] for figures in record["policies"].values()]
    assert record["lower_bound_eur"] <= record["perfect_foresight_eur"] + slack
    assert record["lower_bound_eur"] <= min(totals) + slack
