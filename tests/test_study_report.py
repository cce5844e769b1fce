"""Table and pictures of a study: what they say is right, and they are drawn from any part of the data."""

import numpy as np
import pandas as pd
import pytest
from fake_study import FakeWork, settings
from matplotlib.image import imread

from jaxp2p.report.study import (
    STUDY_PICTURES,
    StudyPictureData,
    boxes,
    convergence,
    day_fan,
    write_study_pictures,
)
from jaxp2p.report.study_tables import study_notes, study_table
from jaxp2p.studies.folder import open_study
from jaxp2p.studies.schedule import run_chunks
from jaxp2p.studies.statistics import study_statistics

SHIFT = {"no_storage_no_trade": 60.0, "no_storage": 40.0, "lyapunov": 10.0, "perfect_foresight": 0.0}


def make_traces(scenarios=40, days=2):
    """A day of load and PV with a battery that shifts, different in every scenario."""
    rng = np.random.default_rng(0)
    slot = np.arange(96 * days)
    hour = slot % 96 / 4
    frames = []
    for scenario in range(scenarios):
        sun = rng.uniform(0.3, 1.0) * np.maximum(np.sin((hour - 6) / 12 * np.pi), 0) * 180
        load = 60 + 40 * np.exp(-((hour - 19) ** 2) / 6) + rng.normal(0, 5, slot.size)
        price = 0.25 + 0.1 * ((hour >= 17) & (hour < 21)) + rng.normal(0, 0.01)
        for policy, shift in SHIFT.items():
            stored = (
                0 * sun if policy.startswith("no_storage") else 200 * np.sin((hour - 9) / 24 * np.pi) ** 2
            )
            stored = stored * rng.uniform(0.7, 1)
            columns = {"import_kw": load - sun + shift, "stored_kwh": stored, "price_eur_per_kwh": price}
            frames.append(pd.DataFrame({"scenario": scenario, "policy": policy, "slot": slot, **columns}))
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def statistics(tmp_path_factory):
    chosen = settings(scenarios=1200, foresight_sample=100, chunk=400)
    with open_study(tmp_path_factory.mktemp("study"), chosen) as folder:
        run_chunks(folder, FakeWork(settings=chosen, traces=False))
        return study_statistics(folder.read_figure, folder.figures())


def data(statistics, **options):
    plain = {
        "summary": statistics.summary,
        "savings": statistics.savings,
        "convergence": statistics.convergence,
        "title": "rural3, 2 days from 2016-07-04, pool market, 1,200 scenarios",
    }
    return StudyPictureData(**{**plain, **options})


def test_table_and_notes(statistics):
    headline = statistics.headline()
    lines = study_table(headline).splitlines()
    head = "policy cost p5 p95 CVaR95 saving capture out of limits gap scenarios"
    assert lines[0].split() == head.split()
    assert len({len(line) for line in lines}) == 1 and len(lines[0]) <= 130
    figures = headline["lyapunov"]
    row = lines[5]
    assert row.startswith("lyapunov")
    for text in (
        f"{figures['cost_mean_eur']:.2f} ± {figures['cost_se_eur']:.2f}",
        f"{figures['saving_mean_eur']:.2f} ± {figures['saving_se_eur']:.2f}",
        f"{100 * figures['capture']:.1f} ± {100 * figures['capture_se']:.1f}",
        f"({100 * figures['violation_low']:.1f}-{100 * figures['violation_high']:.1f})",
        "1,200",
    ):
        assert text in row
    assert " - " in lines[3]  # the reference saves nothing against itself
    assert study_notes(headline) == [
        "perfect_foresight: cost of 100 scenarios out of 1,200; its saving and every capture compare equal "
        "scenarios",
        "capture: over 100 scenarios, a ratio of sums",
    ]


def test_all_pictures(statistics, tmp_path):
    seen = []
    files = write_study_pictures(
        tmp_path / "pictures", data(statistics, traces=make_traces()), done=seen.append
    )
    assert [file.stem for file in files] == seen == list(STUDY_PICTURES)
    for file in files:
        picture = imread(file)
        assert min(picture.shape[:2]) > 250 and np.ptp(picture[..., :3]) > 0.5


def test_without_traces_savings_or_curves(statistics, tmp_path):
    lonely = data(
        statistics, savings=statistics.savings.iloc[:0], convergence=statistics.convergence.iloc[:0]
    )
    assert [file.stem for file in write_study_pictures(tmp_path, lonely)] == ["study_boxes"]


def test_boxes_stand_where_the_quantiles_are(statistics):
    figure = boxes(data(statistics))
    costs, savings = figure.axes
    row = statistics.summary.set_index(["policy", "figure"]).loc[("lyapunov", "cost_eur")]
    box = costs.patches[2]
    assert (box.get_x(), box.get_width()) == (row["p25"], pytest.approx(row["p75"] - row["p25"]))
    assert len(costs.patches) == 4 and len(savings.patches) == 3
    assert costs.get_xlabel() == savings.get_xlabel() == "EUR"


def test_fan_folds_days_and_places_slots():
    rows = [
        {"scenario": s, "policy": "lyapunov", "slot": t, "import_kw": 10.0 * ((t + 6) % 24) + s}
        for s in range(5)
        for t in range(48)
    ]
    traces = pd.DataFrame(rows).assign(stored_kwh=0.0, price_eur_per_kwh=0.3)
    empty = pd.DataFrame({"policy": []})
    one = StudyPictureData(
        summary=empty, savings=empty, convergence=empty, title="", traces=traces, slot_hours=1.0, first_slot=6
    )
    figure = day_fan(one, column="import_kw", what="Import", unit="kW")
    middle = next(line for line in figure.axes[0].lines if len(line.get_xdata()) == 25)
    np.testing.assert_allclose(middle.get_ydata()[:24], 10.0 * np.arange(24) + 2)
    assert day_fan(one, column="stored_kwh", what="Stored", unit="kWh") is None  # nobody has a battery


def test_convergence_shows_the_last_mean(statistics):
    figure = convergence(data(statistics))
    mean = statistics.summary.set_index(["policy", "figure"]).loc[("lyapunov", "cost_eur"), "mean"]
    assert any(axis.get_title().startswith(f"Lyapunov: {mean:,.2f} ±") for axis in figure.axes)
