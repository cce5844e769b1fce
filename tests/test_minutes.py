"""Meters that are read every minute: by hand, and in bounds that hold whatever the noise."""

from types import SimpleNamespace

import numpy as np
import pytest

import jaxp2p as jp
from jaxp2p.report import minutes
from jaxp2p.report.minutes import factors, minute_table


def test_factors_keep_every_slot_and_spread_as_they_should():
    found = factors(np.random.default_rng(1), 4000, 3, 15, 0.3)
    np.testing.assert_allclose(found.mean(1), 1, rtol=1e-12)
    assert found.min() > 0
    # log w less the mean of its slot: neighbouring minutes are alike, far ones are not
    logs = np.log(found)
    assert 0.15 < logs.std() < 0.3
    near = np.corrcoef(logs[:, 3].ravel(), logs[:, 4].ravel())[0, 1]
    far = np.corrcoef(logs[:, 0].ravel(), logs[:, 14].ravel())[0, 1]
    assert near > 0.5 > 0 > far
    assert (factors(np.random.default_rng(1), 4000, 3, 15, 0.0) == 1).all()


def test_two_homes_in_a_slot_of_two_minutes(monkeypatch):
    """A feeds in 2 kW of sun, B draws 2 kW: nothing is bought. By minutes A has 3 and 1 kW, B draws 1 and 3.

    Minute 1: a kW is traded, 2 are sold at 0.1; minute 2: a kW is traded, 2 are bought at 0.3. At a fee of
    0.02: by the slot 2 x 0.02 EUR/h, by minutes the mean of 0.02 - 0.2 and 0.02 + 0.6.
    """
    drawn = iter([np.array([[[1.0, 0.5], [1.0, 1.5]]]), np.array([[[1.5], [0.5]]])])
    monkeypatch.setattr(minutes, "factors", lambda *_: next(drawn))
    row = lambda a, b: np.array([[a, b]], float)
    done = SimpleNamespace(injection=row(2, -2), pv_used=row(2, 0), load=row(0, 2))
    market = SimpleNamespace(fee=np.full((1, 2), 0.02), limit=np.full((1, 2), np.inf))
    community = SimpleNamespace(size=2, market=market)
    horizon = SimpleNamespace(
        slots=1, slot_hours=1 / 30, price_buy=np.array([0.3]), price_sell=np.array([0.1])
    )
    kpis = SimpleNamespace(kpis={"total_cost_eur": 5.0, "capture": None})
    table = minute_table(community, horizon, {"p": done}, {"p": kpis})
    added = ((0.02 - 0.2) + (0.02 + 0.6)) / 2 - 0.04
    assert table.loc[0, "minutes_add_eur"] == pytest.approx(added / 30)
    assert table.loc[0, "minute_cost_eur"] == pytest.approx(5 + added / 30)


@pytest.mark.slow
def test_minutes_never_make_a_run_cheaper():
    case = jp.build("rural1", start="2016-07-04", days=2, market="pool")
    run = jp.run(
        case,
        lower_bound=False,
        policies=("lyapunov", "no_storage", "no_storage_no_trade", "perfect_foresight"),
    )
    table = run.by_minutes(seed=3).set_index("policy")
    assert (table["minutes_add_eur"] > -1e-6).all()
    # alone, everybody's ups and downs cost; together they cancel in part
    assert table.loc["no_storage_no_trade", "minutes_add_eur"] > table.loc["no_storage", "minutes_add_eur"]
    assert table.loc["perfect_foresight", "minute_capture"] == pytest.approx(1)
    assert 0 < table.loc["lyapunov", "minute_capture"] < 1.2
    calm = run.by_minutes(seed=3, load_spread=0.0, pv_spread=0.0).set_index("policy")
    np.testing.assert_allclose(calm["minutes_add_eur"], 0, atol=1e-9)
    np.testing.assert_allclose(calm["minute_capture"], calm["capture"], atol=1e-9)
    again = run.by_minutes(seed=3).set_index("policy")
    assert again.equals(table)
