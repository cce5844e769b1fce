"""What stands between the rooms, by hand: bounds, names, chunks of a study, diagnosis, end value."""

from importlib import import_module
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pandas as pd
import paper_village as paper
import pytest
from test_paper_study import SERIES

from jaxp2p.control.bounds import LyapunovParameters
from jaxp2p.control.certificate import certificate
from jaxp2p.control.policy import suggest_penalties
from jaxp2p.data.calendar import slot_of_week
from jaxp2p.model.trajectory import net_cost
from jaxp2p.report.kpis import evaluate
from jaxp2p.report.money import running_cost
from jaxp2p.runs import runner
from jaxp2p.simulation import grid
from jaxp2p.simulation.accounting import end_value, usual_prices
from jaxp2p.slot.admm.method import ADMM
from jaxp2p.slot.newton.method import Newton
from jaxp2p.slot.solvers import choose_solver, scale_tolerances
from jaxp2p.slot.status import Status
from jaxp2p.studies import engine
from jaxp2p.studies import run as study_run
from jaxp2p.studies.engine import Batch
from jaxp2p.studies.summary import Series

diagnosis = import_module("jaxp2p.slot.diagnosis")  # the package gives the function of this name
row = lambda *values: jnp.array(values, float)


def test_the_range_of_the_tariffs():
    assert runner.price_bounds(paper.horizon()) == pytest.approx((0.04, 0.40))


def test_the_names_of_the_rows_are_in_the_order_of_the_rows():
    assert runner.row_names(paper.community()) == paper.ROWS


@pytest.mark.parametrize(("low", "price", "taken"), [(0.04, 0.41, True), (0.04, 0.39, False)])
def test_not_to_serve_must_never_pay(low, price, taken):
    """Dearer than every tariff, 0.40 here, and than what must be paid to get rid of energy, 1 EUR below."""
    horizon = paper.horizon()
    if taken:
        found = runner.penalties_of(horizon, price)
        assert (float(found.row), float(found.unserved)) == pytest.approx((8, 0.41))
        horizon = type(horizon)(**{**horizon.__dict__, "price_sell": row(0.05, -1, 0, 0)})
    with pytest.raises(ValueError, match="must be above"):
        runner.penalties_of(horizon, price)


def test_the_usual_prices_and_the_value_at_the_end():
    """Sell prices 0.04, 0.05, 0.06, 0.08: at 10 % 0.04 + 0.3 * 0.01; buy prices 0.28, 0.30, 0.32, 0.40: at
    90 % 0.32 + 0.7 * 0.08. A and B store at 0.043 / 0.8 + 0.02 and 0.043 / 0.9 + 0.03 EUR/kWh, and earn
    0.5 * 0.376 - 0.02 and 0.8 * 0.376 - 0.03.
    """
    assert usual_prices(paper.horizon()) == pytest.approx((0.043, 0.376))
    costs, earns = (0.07375 + 0.0777777778) / 2, (0.168 + 0.2708) / 2
    assert end_value(paper.community(), paper.horizon()) == pytest.approx((costs + earns) / 2)


def test_net_cost():
    """1.22 EUR, and 2.2959 kWh less than at the start."""
    assert net_cost(paper.trajectory(), paper.community().prosumers.battery, 0.2) == pytest.approx(1.67918)


def test_the_cost_so_far(monkeypatch):
    """0.04, 0.03, 0.87, 1.22 EUR, and penalties of 0, 12.3175, 58.67, 0.474875 EUR in the slots.

    There are 0.225, 0.59, 2.101, 2.2959 kWh less in the batteries than at the start.
    """
    monkeypatch.setattr(grid, "power_flow_of", lambda *given: paper.flow())
    evaluations = evaluate(paper.community(), paper.horizon(), paper.run())
    data = SimpleNamespace(
        trajectories=paper.run().trajectories,
        evaluations=evaluations,
        community=paper.community(),
        terminal_price=0.2,
    )
    expected = [0.085, 12.4655, 72.2777, 73.141555]
    np.testing.assert_allclose(running_cost(data, "lyapunov"), expected, rtol=1e-9)


def test_slots_of_the_week_count_from_monday():
    quarter = pd.Timedelta("15min")
    for moment, number in (("2016-07-04", 0), ("2016-07-05 10:15", 137), ("2016-07-10 23:45", 671)):
        assert slot_of_week(pd.Timestamp(moment), quarter) == number


def test_the_solver_and_its_tolerances():
    loose = scale_tolerances(Newton(), 10.0)
    for name in ("eps_gap", "eps_flow", "eps_voltage"):
        assert getattr(loose, name) == pytest.approx(10 * getattr(Newton(), name))
    assert scale_tolerances(ADMM(), 0.1).eps_power == pytest.approx(0.1 * ADMM().eps_power)
    assert isinstance(choose_solver(paper.community()), ADMM)  # connections have limits


@pytest.mark.parametrize(
    ("second", "status"),
    [
        (Status.NETWORK_VIOLATED, Status.NETWORK_INFEASIBLE),
        (Status.SOLVED, Status.PENALTY_TOO_SMALL),
        (Status.MAX_ITER, Status.NETWORK_VIOLATED),
    ],
)
def test_a_violated_limit_is_tried_with_ten_times_the_penalty(monkeypatch, second, status):
    asked = []

    def solve(problem, solver):
        asked.append(float(problem.row_penalty))
        first = len(asked) == 1
        return SimpleNamespace(
            status=Status.NETWORK_VIOLATED if first else second,
            violation=0.7 if first else 0.3,
            violation_row=1,
        )

    monkeypatch.setattr(diagnosis, "_solve", solve)
    found = diagnosis.diagnose(SimpleNamespace(row_penalty=5.0), Newton())
    assert asked == [5.0, 50.0]
    assert found == (status, 1, 0.7, 0.3)
    assert found.explain(paper.ROWS).startswith("voltage at bus n2: violated by 0.7 kW; ")


def chunk(monkeypatch, first, count, *, width=None, sample=5, traced=128):
    """`run_chunk` of two policies with the series of `test_paper_study`, and the numbers it asked for."""
    asked = []

    def batch(study, task, numbers):
        asked.append(list(numbers))
        more = [np.concatenate([x, x[:1].repeat(len(numbers) - 2, axis=0)]) for x in SERIES]
        steps = np.array([40.0, 2.0]), np.array([30.0, 1.0])
        return Batch(Series(*more), np.full(len(numbers), 5.0), *steps)

    monkeypatch.setattr(study_run, "_compile", lambda study, numbers: 17.0)
    monkeypatch.setattr(study_run, "_batch", batch)
    monkeypatch.setattr(study_run, "_foresee", lambda study, number: (Series(*(x[1] for x in SERIES)), 4.0))
    monkeypatch.setattr(study_run, "TRACED", traced)
    study = SimpleNamespace(
        mesh=None,
        horizon=SimpleNamespace(slot_hours=0.25, plugs=None),
        policies={"no_storage_no_trade": "rule", "perfect_foresight": None},
        task=lambda policy: policy,
        slots=3,
        foresight_sample=sample,
        terminal_price=0.2,
    )
    return study_run.run_chunk(study, first, count, width=width), asked


def test_every_column_and_row_of_a_chunk(monkeypatch):
    """Scenarios 4 and 5, perfect foresight of the first 5 only; 4 is repeated to fill a batch of 3."""
    found, asked = chunk(monkeypatch, 4, 2, width=3)
    assert asked == [[4, 5, 5]]
    kpis = found.kpis
    assert list(kpis["scenario"]) == [4, 5, 4]
    assert list(kpis["policy"]) == ["no_storage_no_trade"] * 2 + ["perfect_foresight"]
    # 6.2 + 0.68 and 1.475 + 0.37; perfect foresight begins with 4 kWh: 0.875 - 0.2 (2 - 4) + 0.37
    np.testing.assert_allclose(kpis["total_cost_eur"], [6.88, 1.845, 1.645])
    np.testing.assert_allclose(kpis["saving_eur"], [0, 0, 5.235])
    figures = set(study_run._figures(SERIES, np.zeros(2), 0.25, 0.2))
    assert set(kpis) == {"scenario", "policy", "saving_eur"} | figures
    assert len(found.traces) == 9 and list(found.traces["scenario"].unique()) == [4, 5]
    seconds = found.counters.pop("seconds")
    assert seconds >= 0
    assert found.counters == {"made": 42.0, "useful": 31.0, "slots": 6.0, "compile_seconds": 17.0}


def test_a_chunk_beyond_the_samples(monkeypatch):
    """No perfect foresight, and slots of the first scenarios only."""
    found, _ = chunk(monkeypatch, 4, 2, sample=4, traced=5)
    assert list(found.kpis["policy"]) == ["no_storage_no_trade"] * 2
    assert list(found.traces["scenario"]) == [4] * 3
    assert chunk(monkeypatch, 4, 2, traced=4)[0].traces is None


def test_penalties_are_twenty_times_and_forty_times_the_largest_price():
    found = suggest_penalties(paper.horizon())
    assert (float(found.row), float(found.unserved)) == pytest.approx((8, 16))
    dear = type(paper.horizon())(**{**paper.horizon().__dict__, "price_sell": row(0, -0.5, 0, 0)})
    assert float(suggest_penalties(dear).row) == pytest.approx(10)


def test_what_the_certificate_counts():
    """B alone, without loss: V = 2 kWh^2/EUR, theta 7 kWh, 2 of 6 kWh, a slot moves 0.2025 or 0.34375 kWh.

    M = u_max^2 / 2, for the exact drift up * down / 2 = 0.2025 * 0.34375 / 2, over V. At the end 0.2 EUR/kWh:
    E = 7 - 0.2 * 2 is beyond the 6 kWh; (6 - 2) ((7 - 2) / 2 + (7 - 6) / 2) / 2 - 0.2 * 4 EUR.
    """
    battery = paper.community().prosumers.battery
    alone = type(battery)(**{name: jnp.asarray(x[1:2]) for name, x in battery.__dict__.items()})
    parameters = LyapunovParameters(theta=row(7), inverse_v=row(0.5), rest_value=row(0), method="exact")
    found = certificate(
        alone, parameters, 0.04, 0.40, slot_hours=0.25, slots=8, terminal_price=0.2, stopping_gap=0.001
    )
    np.testing.assert_allclose(found.gap, [0.5 * 0.2025 * 0.34375 * 0.5], rtol=1e-9)
    np.testing.assert_allclose(found.start, [4 * (2.5 + 0.5) / 2 - 0.8], rtol=1e-9)


def test_the_memory_that_a_scenario_takes(monkeypatch):
    """A lane of five numbers is 40 bytes, 8 at rest; of a slot 19 numbers and three counts are kept."""
    monkeypatch.setattr(engine, "begun", lambda task, number: jnp.zeros(1))
    monkeypatch.setattr(engine, "opened", lambda task, rest: jnp.zeros(5))
    task = SimpleNamespace(slots=3, horizon=SimpleNamespace(load=jnp.zeros(1)))
    assert engine.bytes_per_scenario(task) == (40, 8, 3 * 164)
