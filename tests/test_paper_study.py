"""Every column and number that a study writes, against small cases worked out by hand."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import paper_village as paper
import pytest
from fake_study import settings

from jaxp2p.cli import studying
from jaxp2p.report.study_tables import study_notes, study_table
from jaxp2p.studies import run as study_run
from jaxp2p.studies.folder import open_study
from jaxp2p.studies.statistics import study_statistics
from jaxp2p.studies.summary import Series

_rows = lambda *rows: np.array(rows, float)

# two scenarios of three slots of a quarter hour
SERIES = Series(
    cost_eur=_rows([1, 2, 4], [0.5, 0.25, 0.125]),
    import_kw=_rows([8, 3, 0.5], [2, 7, 1]),
    export_kw=_rows([1, 0, 6.5], [0, 0.4, 3]),
    trade_kw=_rows([1.2, 1.6, 2], [0.3, 0.1, 0.8]),
    stored_kwh=_rows([5, 6, 9], [4, 3, 2]),
    unserved_kw=_rows([0, 0.4, 1.2], [0, 0, 0.08]),
    spilled_kw=_rows([0.2, 0, 0.5], [0, 0, 0]),
    unserved_cost_eur=_rows([0.01, 0.02, 0.04], [0.3, 0, 0]),
    violation_cost_eur=_rows([0, 0.5, 0.11], [0, 0, 0.07]),
    price_eur_per_kwh=_rows([0.1, 0.2, 0.3], [0.15, 0.25, 0.35]),
    voltage_violation_pu=_rows([0, 0.002, 0.001], [0.004, 0, 0]),
    line_violation_kw=_rows([0.9, 0, 0.3], [0, 0, 0]),
    soc_violation_kwh=_rows([-0.1, 0.03, 0.02], [-0.5, -0.2, -0.3]),
    balance_error_kw=_rows([0.006, 0.008, 0.007], [0, 0.0005, 0]),
    gap_eur=_rows([0.0011, 0.0012, 0.0013], [0.0002, 0.0003, 0.0004]),
    status=_rows([1, 3, 2], [7, 1, 3]),
    iterations=_rows([11, 22, 33], [5, 6, 7]),
    ac_voltage_violation_pu=_rows([0, 0.00005, 0.002], [0, 0, 0.0002]),
    ac_loading_violation=_rows([0.0005, 0.02, 0], [0, 0, 0]),
    ac_losses_kw=_rows([1, 2, 3], [0, 0.4, 0.8]),
    ac_unsolved=_rows([0, 0, 0], [0, 1, 0]),
    rounds=_rows([1, 2, 3], [1, 1, 2]),
)

FIGURES = {  # (first scenario, second)
    "cost_eur": (6.2, 1.475),  # 7 - 0.2 (9 - 5); 0.875 - 0.2 (2 - 5)
    "unserved_cost_eur": (0.07, 0.3),
    "violation_cost_eur": (0.61, 0.07),
    "total_cost_eur": (6.88, 1.845),
    "import_kwh": (2.875, 2.5),  # 11.5 / 4
    "export_kwh": (1.875, 0.85),
    "p2p_kwh": (1.2, 0.3),  # 4.8 / 4: every trade once already
    "peak_import_kw": (7, 6.6),  # of 7, 3, -6; of 2, 6.6, -2
    "peak_export_kw": (6, 2),
    "unserved_kwh": (0.4, 0.02),
    "spilled_kwh": (0.175, 0),
    "stored_end_kwh": (9, 2),
    "voltage_violation_pu": (0.002, 0.004),
    "line_violation_kw": (0.9, 0),
    "soc_violation_kwh": (0.03, 0),
    "balance_error_kw": (0.008, 0.0005),
    "gap_eur": (0.0036, 0.0009),
    "unsolved_slots": (2, 1),
    "slots_max_iter": (1, 1),
    "slots_numerical_error": (1, 0),
    "violated_slots": (1, 1),
    "insecure_slots": (0, 1),
    "ac_voltage_violation_pu": (0.002, 0.0002),
    "ac_loading_violation_pct": (2, 0),
    "ac_slots_violated": (2, 2),  # of 0.02 and 0.002 p.u.; of 0.0002 p.u. and the one without a solution
    "ac_slots_unsolved": (0, 1),
    "ac_losses_kwh": (1.5, 0.3),
    "rounds_max": (3, 2),
    "iterations_total": (66, 18),
}


def test_every_figure_of_a_scenario():
    frame = study_run._figures(SERIES, np.array([5.0, 5.0]), 0.25, 0.2)
    assert set(frame.columns) == set(FIGURES)
    for name, values in FIGURES.items():
        np.testing.assert_allclose(frame[name], values, rtol=1e-12, atol=1e-12, err_msg=name)


def test_every_column_of_the_traces():
    frame = study_run._traces(SERIES, np.array([7, 9]), "greedy")
    expected = {
        "scenario": [7, 7, 7, 9, 9, 9],
        "policy": ["greedy"] * 6,
        "slot": [0, 1, 2, 0, 1, 2],
        "import_kw": [7, 3, -6, 2, 6.6, -2],
        "stored_kwh": [5, 6, 9, 4, 3, 2],
        "price_eur_per_kwh": [0.1, 0.2, 0.3, 0.15, 0.25, 0.35],
    }
    assert set(frame.columns) == set(expected)
    for name, values in expected.items():
        if name == "policy":
            assert list(frame[name]) == values
        else:
            np.testing.assert_allclose(frame[name], values, rtol=1e-6, err_msg=name)


def test_a_saving_is_taken_in_the_same_scenario():
    frame = pd.DataFrame(
        {
            "scenario": [3, 4, 4, 3],
            "policy": ["no_storage_no_trade", "no_storage_no_trade", "lyapunov", "lyapunov"],
            "cost_eur": [1.0, 2, 3, 4],
            "total_cost_eur": [10.0, 20, 5, 7],
        }
    )
    assert list(study_run._savings(frame)["saving_eur"]) == [0, 0, 15, 3]


def test_every_series_of_perfect_foresight(monkeypatch):
    """What is kept of a slot, from the trajectory of the village worked out on paper."""
    community, horizon = paper.community(), paper.horizon()
    asked = {}

    def foresee(community, horizon, **prices):
        asked.update(prices)
        return SimpleNamespace(trajectory=paper.trajectory())

    monkeypatch.setattr(study_run, "materialise", lambda *args: (community, horizon, None))
    monkeypatch.setattr(study_run, "scenario_key", lambda key, number: None)
    monkeypatch.setattr(study_run, "perfect_foresight", foresee)
    flow = SimpleNamespace(
        voltage=_rows([1, 1.02, 1.06], [1, 1, 0.97], [1, 1, 1], [1, 1, 1.063]),
        loading=_rows([0.2, 0.4], [1.5, 0.3], [0, 1.002], [0.1, 0.1]),
        losses=np.array([0.1, 0.2, 0.3, 0.4]),
        status=np.array([0, 0, 2, 1]),
        support=None,
    )
    monkeypatch.setattr(study_run, "power_flow_of", lambda *given: flow)
    penalties = SimpleNamespace(row=np.array(5.0), unserved=np.array(10.0))
    study = SimpleNamespace(
        **dict.fromkeys(("model", "community", "horizon", "key")),
        slots=4,
        terminal_price=0.2,
        penalties=penalties,
    )
    series, start = study_run._foresee(study, 0)
    assert asked == {"terminal_price": 0.2, "row_penalty": 5.0, "unserved_price": 10.0}
    assert start == 7
    expected = {
        "cost_eur": [0.04, -0.01, 0.84, 0.35],
        "import_kw": [0.8, 0.86, 9.7, 4.265],
        "export_kw": [0.5, 4, 0, 0],
        "trade_kw": [2, 2.2, 0.3, 0.1125],
        "stored_kwh": [6.775, 6.41, 4.899, 4.7041],
        "unserved_kw": [0, 0, 2.2, 0],
        "spilled_kw": [0, 0.5, 0, 0],
        "unserved_cost_eur": [0, 1.2425, 5.72, 0],
        "violation_cost_eur": [0, 11.075, 52.95, 0.474875],
        "price_eur_per_kwh": [0.12, 0.15, 0.41, 0.20],
        "voltage_violation_pu": [0.00005, 0.02, 0.04, 0.0005],
        "line_violation_kw": [0, 0.3, 3.2, 0.04],
        "ac_voltage_violation_pu": [0, 0, 0, 0.003],  # n2 may have 1.06
        "ac_loading_violation": [0, 0.5, 0.002, 0],
        "ac_losses_kw": [0.1, 0.2, 0.3, 0.4],
        "ac_unsolved": [0, 0, 1, 1],
        "rounds": [0, 0, 0, 0],
        "soc_violation_kwh": [0, 0, 0.05, 0.03],
        "balance_error_kw": [0, 0, 0, 0.04],
        "status": [0, 0, 0, 0],
        "iterations": [0, 0, 0, 0],
        "gap_eur": [0, 0, 0, 0],
    }
    assert set(Series._fields) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(getattr(series, name), values, rtol=1e-7, atol=1e-12, err_msg=name)


# Four scenarios; perfect foresight of the first two only.
READ = {
    "cost_eur": {
        "no_storage_no_trade": _rows(20, 24, 28, 32),
        "no_storage": _rows(16, 18, 20, 26),
        "lyapunov": _rows(9, 11, 13, 27),
        "perfect_foresight": _rows(8, 8),
    },
    "total_cost_eur": {
        "no_storage_no_trade": _rows(20, 24, 28, 32),
        "no_storage": _rows(16, 18, 20, 26),
        "lyapunov": _rows(10, 12, 14, 29),
        "perfect_foresight": _rows(8, 8),
    },
    "unserved_kwh": {"lyapunov": _rows(0, 0, 0, 0.2)},
    "spilled_kwh": {"lyapunov": _rows(0.4, 0, 0, 0)},
    "unserved_cost_eur": {"lyapunov": _rows(0.5, 0.5, 0.5, 0.7)},
    "violation_cost_eur": {"lyapunov": _rows(0.5, 0.5, 0.5, 1.3)},
    "ac_voltage_violation_pu": {"lyapunov": _rows(0, 0.00009, 0.0002, 0.01)},
    "ac_loading_violation_pct": {"lyapunov": _rows(0.12, 0.08, 0, 3)},
    "insecure_slots": {"lyapunov": _rows(0, 0, 1, 2)},
    "ac_losses_kwh": {"lyapunov": _rows(5, 7, 9, 12)},
    "soc_violation_kwh": {"lyapunov": _rows(0, 0.001, 0.003, 0.002)},
    "balance_error_kw": {"lyapunov": _rows(0, 0.0004, 0.0001, 0.0002)},
    "p2p_kwh": {"lyapunov": _rows(70, 80, 90, 104)},
    "unsolved_slots": {"lyapunov": _rows(0, 1, 0, 4)},
    "gap_eur": {"lyapunov": _rows(0.01, 0.02, 0.03, 0.08), "perfect_foresight": _rows(0, 0)},
    "iterations_total": {"lyapunov": _rows(100, 200, 300, 500)},
}
for _figure in list(READ):
    _some = READ[_figure]
    READ[_figure] = {
        name: _some.get(name, np.zeros_like(READ["cost_eur"][name])) for name in READ["cost_eur"]
    }


@pytest.fixture(scope="module")
def statistics():
    return study_statistics(READ.__getitem__, list(READ))


def row(frame: pd.DataFrame, **keys) -> dict:
    """The one row with these keys."""
    for name, value in keys.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1
    return {name: value for name, value in frame.iloc[0].items() if name not in keys}


def test_every_column_of_the_summary(statistics):
    assert len(statistics.summary) == 4 * len(READ)
    # 9, 11, 13, 27: mean 15, squares 36 + 16 + 4 + 144 = 200, se sqrt(200 / 3 / 4); quantiles at 3 q
    assert row(statistics.summary, policy="lyapunov", figure="cost_eur") == pytest.approx(
        {
            "count": 4,
            "mean": 15,
            "se": 4.0824829,
            "min": 9,
            "p5": 9.3,  # 9 + 0.15 * 2
            "p25": 10.5,  # 9 + 0.75 * 2
            "p50": 12,
            "p75": 16.5,  # 13 + 0.25 * 14
            "p95": 24.9,  # 13 + 0.85 * 14
            "max": 27,
            "cvar95": 27,  # the tail of 0.2 scenarios is in the dearest one
        }
    )


def test_every_column_of_the_savings(statistics):
    assert len(statistics.savings) == 4 * 3
    # in all: 20 - 10, 24 - 12, 28 - 14, 32 - 29: mean 9.75, squares 68.75, se sqrt(68.75 / 3 / 4)
    found = row(statistics.savings, policy="lyapunov", against="no_storage_no_trade")
    expected = {"count": 4, "mean": 9.75, "se": 2.3935678, "min": 3, "p5": 4.05, "p25": 8.25, "p50": 11}
    expected |= {"p75": 12.5, "p95": 13.7, "max": 14, "better": 1}
    assert found == pytest.approx(expected)
    # 6, 6, 6, -3 against no storage
    assert row(statistics.savings, policy="lyapunov", against="no_storage")["better"] == 0.75


def test_every_column_of_the_violations(statistics):
    found = {kind: row(statistics.violations, policy="lyapunov", kind=kind) for kind in ("voltage", "line")}
    # Wilson of 2 in 4, z^2 = 3.841459: the middle is 1/2, half the width z sqrt(1/16 + z^2/64) / (1 + z^2/4)
    half = {"count": 4, "violated": 2, "probability": 0.5, "low": 0.1500390, "high": 0.8499610}
    assert found["voltage"] == pytest.approx(half, rel=1e-6)
    assert found["line"] == pytest.approx(half, rel=1e-6)
    # 3 in 4: (0.75 + z^2/8 +- z sqrt(3/64 + z^2/64)) / (1 + z^2/4)
    whole = {"count": 4, "violated": 3, "probability": 0.75, "low": 0.3006418, "high": 0.9544127}
    assert row(statistics.violations, policy="lyapunov", kind="grid") == pytest.approx(whole, rel=1e-6)
    assert len(statistics.violations) == 4 * 3


def test_every_column_of_the_captures(statistics):
    # first two scenarios: (16 - 10 + 18 - 12) / (16 - 8 + 18 - 8) = 12 / 18; rests 6 - 16/3 and 6 - 20/3:
    # se sqrt(2 (4/9 + 4/9)) / 18
    found = row(statistics.captures, policy="lyapunov")
    assert found == pytest.approx({"capture": 0.6666667, "se": 0.0740741, "count": 2})
    assert row(statistics.captures, policy="no_storage_no_trade")["capture"] == pytest.approx(
        -0.5556, abs=1e-4
    )


def test_every_column_of_the_convergence(statistics):
    frame = statistics.convergence[statistics.convergence["policy"] == "lyapunov"]
    assert list(frame.columns) == ["policy", "scenarios", "mean_eur", "se_eur"]
    assert list(frame["scenarios"]) == [2, 3, 4]
    np.testing.assert_allclose(frame["mean_eur"], [11, 12, 16.25])
    # 10, 12: sqrt(2 / 1 / 2); 10, 12, 14: sqrt(8 / 2 / 3); and 29: squares 224.75
    np.testing.assert_allclose(frame["se_eur"], [1, 1.1547005, 4.3277207])


HEADLINE = {
    "scenarios": 4,
    "cost_mean_eur": 15,
    "cost_se_eur": 4.0824829,
    "cost_p5_eur": 9.3,
    "cost_p50_eur": 12,
    "cost_p95_eur": 24.9,
    "cost_cvar95_eur": 27,
    "total_mean_eur": 16.25,
    "total_se_eur": 4.3277207,
    "total_p5_eur": 10.3,
    "total_p50_eur": 13,
    "total_p95_eur": 26.75,
    "total_cvar95_eur": 29,
    "unserved_kwh": 0.05,
    "spilled_kwh": 0.1,
    "unserved_cost_eur": 0.55,
    "violation_cost_eur": 0.7,
    "unsolved_slots": 1.25,
    "gap_eur": 0.035,
    "saving_mean_eur": 9.75,
    "saving_se_eur": 2.3935678,
    "saving_p5_eur": 4.05,
    "saving_p50_eur": 11,
    "saving_p95_eur": 13.7,
    "capture": 0.6666667,
    "capture_se": 0.0740741,
    "capture_scenarios": 2,
    "violation": 0.75,
    "violation_low": 0.3006418,
    "violation_high": 0.9544127,
}


def test_every_figure_of_the_headline(statistics):
    headline = statistics.headline()
    assert headline["lyapunov"] == pytest.approx(HEADLINE, rel=1e-6)
    for figures in (HEADLINE, POLICY_JSON):
        assert len(set(figures.values())) == len(figures), "two figures are alike: a swap would not be seen"
    assert headline["perfect_foresight"]["scenarios"] == 2
    assert headline["perfect_foresight"]["gap_eur"] is None
    assert headline["no_storage_no_trade"]["saving_mean_eur"] is None


def test_every_column_of_the_printed_table(statistics):
    lines = study_table(statistics.headline()).splitlines()
    line = next(line for line in lines if line.startswith("lyapunov"))
    assert line.split() == [
        *("lyapunov", "15.00", "±", "4.08", "0.05", "0.10", "0.55", "0.70"),  # paid, and what was left undone
        *("16.25", "±", "4.33", "10.30", "26.75", "29.00"),  # in all, p5, p95, CVaR95
        *("9.75", "±", "2.39", "66.7", "±", "7.4", "75.0", "(30.1-95.4)", "0.035", "4"),
    ]
    titles = ["policy", "paid", "unserved", "spilled", "unserved", "limits", "in all", "p5", "p95", "CVaR95"]
    titles += ["saving", "capture", "out of limits", "gap", "scenarios"]
    assert lines[0].split() == " ".join(titles).split()
    units = "EUR ± se kWh kWh EUR EUR EUR ± se EUR EUR EUR EUR ± se % ± se % (95 %) EUR"
    assert lines[1].split() == units.split()
    assert study_notes(statistics.headline(), unserved_price=10.0) == [
        "load not served at the connection limits, by 1 of 4 policies, up to 0.05 kWh in the mean "
        '(lyapunov); counted at 10 EUR/kWh on top of the tariffs in "in all"',
        "energy spilled at the connection limits, by 1 of 4 policies, up to 0.1 kWh in the mean "
        '(lyapunov); counted at 10 EUR/kWh on top of the tariffs in "in all"',
        'limits of the grid violated, counted in "in all": lyapunov',
        "perfect_foresight: cost of 2 scenarios out of 4; its saving and every capture compare equal "
        "scenarios",
        "capture: over 2 scenarios, a ratio of sums",
    ]


POLICY_JSON = {
    "cost_mean": 15,
    "cost_se": 4.0824829,
    "cost_p5": 9.3,
    "cost_p50": 12,
    "cost_p95": 24.9,
    "cvar95": 27,
    "unserved_kwh_mean": 0.05,
    "spilled_kwh_mean": 0.1,
    "unserved_cost_mean": 0.55,
    "violation_cost_mean": 0.7,
    "total_mean": 16.25,
    "total_se": 4.3277207,
    "total_p5": 10.3,
    "total_p50": 13,
    "total_p95": 26.75,
    "total_cvar95": 29,
    "saving_mean": 9.75,
    "saving_se": 2.3935678,
    "capture": 0.6666667,
    "capture_se": 0.0740741,
    "soc_violations": 0.003,  # the worst
    "balance_error_kw": 0.0004,
    "voltage_violation_probability": 0.5,
    "line_violation_probability": 0.25,  # with 0.08 % in place of 0.12, see `written`
    "violation_probability_low": 0.1500390,
    "violation_probability_high": 0.8499610,
    "insecure_slots_mean": 0.75,
    "ac_losses_kwh_mean": 8.25,
    "p2p_kwh_mean": 86,
    "unsolved_slots_mean": 1.25,
    "gap_mean": 0.035,
    "scenarios": 4,
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A study's folder as `jaxp2p study` leaves it, and its exit code, with 0.08 % for the first 0.12."""
    path = tmp_path_factory.mktemp("study") / "out"
    chosen = settings(scenarios=4, chunk=4, foresight_sample=2, scenario_model="noise", dtype="float64")
    figures = READ | {"ac_loading_violation_pct": dict(READ["ac_loading_violation_pct"])}
    figures["ac_loading_violation_pct"]["lyapunov"] = _rows(0.08, 0.08, 0, 3)
    rows = [
        {"scenario": number, "policy": name} | {figure: figures[figure][name][number] for figure in figures}
        for number in range(4)
        for name in chosen.policies
        if number < chosen.count(name)
    ]
    made = SimpleNamespace(
        slots=1000,
        community=SimpleNamespace(size=28),
        horizon=SimpleNamespace(slot_hours=0.25),
        first_slot_of_week=0,
        terminal_price=0.2,
        penalties=SimpleNamespace(row=5.0, unserved=10.0),
    )
    counters = {"made": 1250.0, "useful": 1000.0, "slots": 384.0, "seconds": 2.0, "resumed": 3.0}
    counters["compile_seconds"] = 17.0
    with open_study(path, chosen) as folder:
        folder.write_chunk(0, pd.DataFrame(rows))
        options = SimpleNamespace(pictures=False, json=str(path / "copy.json"), quiet=True)
        code = studying._report(folder, made, options, case="rural1", counters=counters, begin=0.0)
    return path, code


def test_every_number_of_the_studys_json(written):
    path, _ = written
    report = json.loads((path / "summary.json").read_text())
    assert report == json.loads((path / "copy.json").read_text())
    assert report["policies"]["lyapunov"] == pytest.approx(POLICY_JSON, rel=1e-6)
    assert report.pop("wall_s") > 0 and report.pop("peak_memory_bytes") > 1e7
    assert list(report.pop("policies")) == [
        "no_storage_no_trade",
        "no_storage",
        "lyapunov",
        "perfect_foresight",
    ]
    assert report == {
        "version": "0.1.0",
        "scenarios": 4,
        "slots": 1000,
        "prosumers": 28,
        "chunks": 1,
        "scenarios_resumed": 3,
        "scenario_model": "noise",
        "market": "pool",
        "dtype": "float64",
        "end_value_eur_per_kwh": 0.2,
        "unserved_price_eur_per_kwh": 10.0,
        "row_price_eur_per_kwh": 5.0,
        "prosumer_slots_per_second": 5376.0,  # 384 * 28 / 2
        "admm_iterations_total": 1100.0,
        "iterations_wasted_share": pytest.approx(0.2),  # 250 of 1250
        "compile_s": 17.0,
        "device": "cpu",
    }


def test_every_table_of_a_studys_folder(written, statistics):
    path, _ = written
    written_tables = {file.stem for file in path.glob("*.csv")}
    assert written_tables == {"summary", "savings", "violations", "captures", "convergence"}
    for name in written_tables - {"violations", "summary"}:  # these two have the other line violation
        pd.testing.assert_frame_equal(pd.read_csv(path / f"{name}.csv"), getattr(statistics, name))
    for name in ("violations", "summary"):
        assert list(pd.read_csv(path / f"{name}.csv").columns) == list(getattr(statistics, name).columns)


def test_the_exit_code_of_a_study_says_what_was_left_undone(written):
    assert written[1] == 5  # 5 unsolved slots of 4,000 are less than one in a hundred


def test_memory_is_given_in_bytes(monkeypatch):
    """Linux counts in KiB, macOS in bytes; a device that tells is asked first."""
    import resource

    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=3000))
    monkeypatch.setattr("jax.devices", lambda: [SimpleNamespace(memory_stats=lambda: None)])
    for platform, size in (("linux", 3_072_000), ("darwin", 3000)):
        monkeypatch.setattr(studying.sys, "platform", platform)
        assert studying.peak_memory() == size
    told = SimpleNamespace(memory_stats=lambda: {"peak_bytes_in_use": 77})
    monkeypatch.setattr("jax.devices", lambda: [told])
    assert studying.peak_memory() == 77
