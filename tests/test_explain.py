"""Why a battery did what it did: in words against the numbers of the run."""

import numpy as np
import pandas as pd
import pytest
from test_cli import call

import jaxp2p as jp
from jaxp2p.report.explain import explain_results, sentences
from jaxp2p.report.results import Results


def tables(**row):
    """A slot of one member, A at bus n1, by hand."""
    homes = {
        "time": pd.Timestamp("2024-07-01 12:00"),
        "member": "A",
        "load_kw": 1.0,
        "pv_used_kw": 0.0,
        "pv_available_kw": 0.0,
        "charge_kw": 0.0,
        "discharge_kw": 0.0,
        "energy_kwh": 5.0,
        "trade_kw": 0.0,
        "buy_kw": 0.0,
        "sell_kw": 0.0,
        "cost_eur": 0.25,
        "payment_eur": 0.0,
        "market_price_eur_per_kwh": 0.2,
        "nodal_price_eur_per_kwh": 0.2,
        "charge_below_eur_per_kwh": 0.15,
        "discharge_above_eur_per_kwh": 0.25,
    }
    slots = {
        "time": homes["time"],
        "price_buy_eur_per_kwh": 0.3,
        "price_sell_eur_per_kwh": 0.08,
        "status": "SOLVED",
        "gap_eur": 1e-5,
    }
    members = pd.DataFrame({"member": ["A"], "bus": ["n1"], "battery_kwh": [10.0]})
    limits = pd.DataFrame(
        {
            "time": [homes["time"]],
            "limit": ["line L"],
            "side": ["upper"],
            "price_eur_per_kwh": [0.05],
            "relief": ["1 kW"],
            "relief_eur_per_h": [0.05],
        }
    )
    return Results(
        summary={"slot_minutes": 15.0, "case": "by hand"},
        tables={
            "homes_p": pd.DataFrame([homes | row]),
            "slots_p": pd.DataFrame([slots]),
            "members": members,
            "limits_p": limits,
        },
    )


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"charge_kw": 2.0, "nodal_price_eur_per_kwh": 0.1}, "charged because a stored kWh was worth more"),
        ({"charge_kw": 2.0, "nodal_price_eur_per_kwh": 0.15}, "It went only so far"),
        ({"discharge_kw": 2.0, "nodal_price_eur_per_kwh": 0.3}, "a kWh was worth more now than stored"),
        ({}, "between the two, and cycling would have lost"),
        ({"nodal_price_eur_per_kwh": 0.1}, "it was full"),
        ({"nodal_price_eur_per_kwh": 0.3}, "it was empty"),
        ({"charge_kw": 2.0, "nodal_price_eur_per_kwh": 0.3}, "followed the rule of p, not a price"),
        ({"pv_used_kw": 3.0, "pv_available_kw": 4.0}, "1.00 kW more were not used"),
        ({"branch_price_eur_per_kwh": 0.05}, r"\+0.0500 for ratings of lines"),
        ({"payment_eur": -0.02}, "0.0200 paid to peers"),
        ({"trade_kw": -1.5}, "1.50 kW bought from peers"),
        ({}, r"line L \(upper limit, 0.0500 EUR/kWh\): 1 kW more would have saved 0.0500 EUR/h"),
    ],
)
def test_sentences(row, words):
    found = explain_results(tables(**row), member="A", at="2024-07-01 12:07", policy="p")
    text = " ".join(sentences(found))
    import re

    assert re.search(words, text), text


def test_what_is_not_there_is_said():
    given = tables()
    with pytest.raises(ValueError, match="not in the run: 2024-07-01 12:00 to 2024-07-01 12:15"):
        explain_results(given, member="A", at="2024-07-01 12:15", policy="p")
    with pytest.raises(ValueError, match="is no time"):
        explain_results(given, member="A", at="noon", policy="p")
    with pytest.raises(ValueError, match="unknown value 'B'"):
        explain_results(given, member="B", at="2024-07-01 12:00", policy="p")
    with pytest.raises(ValueError, match="--per-home"):
        explain_results(given, member="A", at="2024-07-01 12:00", policy="q")


@pytest.mark.slow
def test_a_run_is_explained(tmp_path):
    """Every slot of a battery by its prices; a limit that binds with the worth of a kW more of it."""
    case = jp.build(jp.load_case("rural1", pv_scale=2.0), start="2016-07-05", days=1, market="pool")
    run = jp.run(case, policies=("lyapunov", "greedy"), lower_bound=False)
    battery = np.asarray(case.community.prosumers.battery.owned)
    owner = case.members[int(np.flatnonzero(battery)[0])]
    noon = jp.explain(run, member=owner, at="2016-07-05 13:15")
    trajectory = run.trajectory("lyapunov")
    slot, home = 53, case.members.index(owner)
    figures = noon.report()["figures"]
    assert figures["nodal_price_eur_per_kwh"] == float(trajectory.nodal_price[slot, home])
    (limit,) = noon.report()["limits"]
    assert "transformer" in limit["limit"]
    assert limit["relief_eur_per_h"] == pytest.approx(
        float(np.abs(trajectory.row_price[slot]).max()), rel=1e-6
    )
    # a battery with room charges below its price and discharges above, and never the other way round
    homes = run.homes("lyapunov")
    own = homes[homes["member"] == owner]
    price = own["nodal_price_eur_per_kwh"]
    assert not ((own["charge_kw"] > 0.01) & (price > own["charge_below_eur_per_kwh"] + 5e-3)).any()
    assert not ((own["discharge_kw"] > 0.01) & (price < own["discharge_above_eur_per_kwh"] - 5e-3)).any()
    assert (own["charge_kw"] > 0.01).any() and (own["discharge_kw"] > 0.01).any()
    run.save(tmp_path / "r", homes=True)
    again = jp.explain(tmp_path / "r", member=owner, at="2016-07-05 13:15")
    assert str(again) == str(noon)
    done = call("explain", tmp_path / "r", "--member", owner, "--at", "2016-07-05 13:15", "--json", "-")
    assert done.exit_code == 0 and '"sentences"' in done.stdout
    done = call(
        "explain",
        tmp_path / "r",
        "--member",
        owner,
        "--at",
        "2016-07-05 13:15",
        "--picture",
        tmp_path / "w.png",
    )
    assert done.exit_code == 0 and (tmp_path / "w.png").stat().st_size > 10_000
