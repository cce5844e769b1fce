"""Statistics of a study against closed forms, other formulas and known samples."""

import numpy as np
import pandas as pd
import pytest
from fake_study import FakeWork, settings

from jaxp2p.report.study_tables import study_notes, study_table
from jaxp2p.studies.folder import open_study
from jaxp2p.studies.schedule import run_chunks
from jaxp2p.studies.statistics import (
    captures,
    cvar,
    describe,
    paired_savings,
    ratio,
    running_mean,
    study_statistics,
    violations,
    wilson,
)


def draw(size, seed=0):
    return np.random.default_rng(seed).normal(400, 50, size)


def test_describe_agrees_with_numpy_and_leaves_out_what_is_not_finite():
    values = draw(1001)
    found = describe(np.concatenate([values, [np.nan, np.inf]]))
    assert found["count"] == 1001
    assert found["mean"] == values.mean() and found["min"] == values.min() and found["max"] == values.max()
    assert found["se"] == pytest.approx(values.std(ddof=1) / np.sqrt(1001), rel=1e-14)
    for name, share in (("p5", 50), ("p25", 250), ("p50", 500), ("p75", 750), ("p95", 950)):
        assert found[name] == np.sort(values)[share]
    assert describe(np.array([3.0]))["cvar95"] == 3 and np.isnan(describe(np.array([3.0]))["se"])
    assert describe(np.array([np.nan]))["count"] == 0 and np.isnan(describe(np.array([]))["mean"])


@pytest.mark.parametrize(
    ("size", "expected"), [(20, 20), (100, 98), (10, 10), (30, (30 + 0.5 * 29) / 1.5), (1, 1), (140, 137)]
)
def test_cvar_of_the_first_numbers(size, expected):
    values = np.random.default_rng(1).permutation(np.arange(1.0, size + 1))
    assert cvar(values) == pytest.approx(expected, rel=1e-12)


def test_cvar_is_the_least_of_its_variational_form():
    values = draw(77)
    value = lambda a: a + np.maximum(values - a, 0).sum() / (0.05 * values.size)
    assert cvar(values) == pytest.approx(
        min(value(a) for a in values), rel=1e-12
    )  # it bends at the values only
    assert np.isnan(cvar(np.array([])))


def test_wilson():
    low, high = wilson(10, 100)
    assert (low, high) == (pytest.approx(0.05523, abs=1e-5), pytest.approx(0.17437, abs=1e-5))
    z2 = 1.959963984540054**2
    assert wilson(0, 50) == (pytest.approx(0, abs=1e-12), pytest.approx(z2 / (50 + z2)))
    assert all(np.isnan(wilson(0, 0)))


def test_violations_beyond_the_tolerance_only():
    figures = {
        "ac_voltage_violation_pu": {"a": np.array([0, 9e-5, 2e-4, 0.1, np.nan]), "b": np.zeros(3)},
        "ac_loading_violation_pct": {"a": np.array([0.11, 0.09, 0, 9, 9]), "b": np.array([0, 0, 1.0])},
        "ac_slots_unsolved": {"a": np.array([0, 1, 0, 0, 0]), "b": np.zeros(3)},
        "voltage_violation_pu": {"a": np.ones(5), "b": np.ones(3)},  # of the linear network: it says nothing
    }
    frame = violations(figures.__getitem__, list(figures)).set_index(["policy", "kind"])
    assert frame.loc["a", "count"].to_dict() == {"voltage": 4, "line": 5, "flow": 5, "grid": 4}
    assert frame.loc["a", "violated"].to_dict() == {"voltage": 2, "line": 3, "flow": 1, "grid": 4}
    assert frame.loc[("b", "grid"), "probability"] == 1 / 3
    assert tuple(frame.loc[("b", "grid"), ["low", "high"]]) == wilson(1, 3)
    assert violations(figures.__getitem__, []).empty


def test_pairing_takes_out_what_policies_share():
    weather, rng = draw(400), np.random.default_rng(3)
    cost = {"a": weather + 100, "b": weather + rng.normal(40, 2, 400), "c": weather[:10]}
    frame = paired_savings(cost).set_index(["policy", "against"])
    assert frame.loc[("b", "a"), "mean"] == pytest.approx((cost["a"] - cost["b"]).mean(), rel=1e-12)
    assert frame.loc[("b", "a"), "se"] < 0.12 < describe(weather)["se"]
    assert frame.loc[("c", "a"), "count"] == 10 and frame.loc[("c", "a"), "mean"] == pytest.approx(100)
    assert frame.loc[("b", "a"), "better"] == 1 and frame.loc[("a", "b"), "better"] == 0
    assert len(frame) == 6


def test_ratio_of_sums():
    rng = np.random.default_rng(4)
    wholes = rng.uniform(1, 3, 400)
    parts = 0.6 * wholes + rng.normal(0, 0.2, 400)
    share, error, count = ratio(np.append(parts, np.nan), np.append(wholes, 1.0))
    assert share == parts.sum() / wholes.sum() and count == 400
    left = [
        np.delete(parts, n).sum() / np.delete(wholes, n).sum() for n in range(400)
    ]  # the jackknife is a way of its own to the same number
    jackknife = np.sqrt(399 / 400 * ((left - np.mean(left)) ** 2).sum())
    assert error == pytest.approx(jackknife, rel=0.01)
    assert np.isnan(ratio(parts, np.zeros(400))[0]) and ratio(np.array([1.0]), np.array([2.0]))[0] == 0.5
    assert np.isnan(ratio(np.array([1.0]), np.array([2.0]))[1])


def test_captures_over_the_sample_of_perfect_foresight():
    cost = {
        "no_storage": np.array([10.0, 12, 99]),
        "lyapunov": np.array([6.0, 10, -99]),
        "perfect_foresight": np.array([2.0, 8]),
    }
    frame = captures(cost).set_index("policy")
    assert frame["capture"].to_dict() == {"no_storage": 0, "lyapunov": 0.5, "perfect_foresight": 1}
    assert frame["count"].eq(2).all() and frame.loc["perfect_foresight", "se"] == 0
    assert captures({"lyapunov": np.zeros(3)}).empty


def test_running_mean():
    values = draw(5000)
    frame = running_mean(values)
    assert 40 <= len(frame) <= 50 and frame["scenarios"].iloc[0] == 2 and frame["scenarios"].iloc[-1] == 5000
    for size, mean, error in frame.itertuples(index=False):
        part = describe(values[:size])
        assert (mean, error) == (pytest.approx(part["mean"], rel=1e-12), pytest.approx(part["se"], rel=1e-9))
    one = running_mean(values[:1])
    assert one["mean_eur"].iloc[0] == values[0] and np.isnan(one["se_eur"].iloc[0])
    assert running_mean(np.array([])).empty


def test_statistics_of_a_folder_do_not_depend_on_order_or_chunks(tmp_path):
    found = []
    for name, chunk, order in (
        ("a", 10, slice(None)),
        ("b", 10, slice(None, None, -1)),
        ("c", 7, slice(None)),
    ):
        chosen = settings(chunk=chunk)
        with open_study(tmp_path / name, chosen) as folder:
            work = FakeWork(settings=chosen)
            for number in folder.missing()[order]:
                folder.write_chunk(number, work(number, *chosen.span(number)).kpis)
            found.append(study_statistics(folder.read_figure, folder.figures()))
    for other in found[1:]:
        for part in ("summary", "savings", "violations", "captures", "convergence"):
            pd.testing.assert_frame_equal(getattr(found[0], part), getattr(other, part), check_exact=True)


def test_headline(tmp_path):
    chosen = settings(scenarios=200, foresight_sample=50, chunk=64)
    with open_study(tmp_path / "study", chosen) as folder:
        run_chunks(folder, FakeWork(settings=chosen))
        statistics = study_statistics(folder.read_figure, folder.figures())
    lines = statistics.headline()
    assert list(lines) == list(chosen.policies)
    lyapunov, first = lines["lyapunov"], lines["no_storage_no_trade"]
    assert lyapunov["scenarios"] == 200 and lines["perfect_foresight"]["scenarios"] == 50
    assert lyapunov["saving_mean_eur"] == pytest.approx(570, abs=5 * lyapunov["saving_se_eur"])
    assert lyapunov["saving_se_eur"] < 0.3 * lyapunov["cost_se_eur"]
    assert lyapunov["capture"] == pytest.approx(170 / 300, abs=5 * lyapunov["capture_se"])
    assert lyapunov["violation_low"] < 0.28 < lyapunov["violation_high"]
    assert first["saving_mean_eur"] is None and first["cost_cvar95_eur"] > first["cost_p95_eur"]
    with pytest.raises(ValueError, match="cost_eur"):
        study_statistics(lambda figure: {}, ["p2p_kwh"])


@pytest.mark.parametrize("noise", [0.0, 1e-4])
def test_no_capture_where_there_is_nothing_to_capture(noise):
    draw = np.random.default_rng(0)
    cost = 12.0 + draw.normal(0, 1, 40)
    costs = {name: cost + noise * draw.normal(0, 1, 40) for name in ("no_storage", "lyapunov")}
    costs["perfect_foresight"] = cost[:8] - noise
    assert captures(costs)["capture"].isna().all() and captures(costs)["se"].isna().all()
    costs["perfect_foresight"] = cost[:8] - 1.0
    assert captures(costs)["capture"].notna().all()


def test_policies_are_compared_by_what_they_cost_in_all():
    """One serves nothing and pays nothing: in all it is the dearest."""
    paid = {"no_storage_no_trade": 10.0, "no_storage": 8.0, "lyapunov": 1.0, "perfect_foresight": 6.0}
    undone = {"lyapunov": 50.0}
    columns = {
        "cost_eur": paid,
        "total_cost_eur": {name: cost + undone.get(name, 0.0) for name, cost in paid.items()},
        "unserved_kwh": {name: undone.get(name, 0.0) / 16 for name in paid},
    }
    spread = np.linspace(0, 1, 10)
    read = lambda figure: {name: value + spread for name, value in columns[figure].items()}
    headline = study_statistics(read, list(columns)).headline()
    assert headline["lyapunov"]["cost_mean_eur"] == pytest.approx(1.5)
    assert headline["lyapunov"]["total_mean_eur"] == pytest.approx(51.5)
    assert headline["lyapunov"]["saving_mean_eur"] == pytest.approx(10 - 51)
    assert headline["lyapunov"]["capture"] == pytest.approx((8 - 51) / (8 - 6))
    text = study_table(headline)
    assert "in all" in text and "paid" in text and "unserved" in text
    assert "up to 3.62 kWh in the mean (lyapunov)" in " ".join(study_notes(headline, unserved_price=16.0))
