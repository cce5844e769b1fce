"""Embedded cases, added devices, tariffs, windows; the import against the AC power flow of the original."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jaxp2p.data import (
    CASES,
    PRICES,
    absolute_series,
    compact,
    densify,
    embed,
    load_case,
    make_prices,
    validate,
    window,
)
from jaxp2p.data.populate import HOUSEHOLDS
from jaxp2p.data.simbench import import_simbench
from jaxp2p.data.simbench_members import Owners

REFERENCE = json.loads((Path(__file__).parent / "data" / "ac_reference.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", CASES)
def test_cases_are_valid(name):
    assert validate(load_case(name)) == []


@pytest.mark.parametrize(
    ("name", "buses", "members", "pv", "pv_kw", "batteries", "battery_kw", "battery_kwh"),
    [("rural3", 129, 153, 27, 252.3, 16, 93.0, 185.9), ("rural1", 15, 28, 8, 468.2, 5, 206.0, 412.0)],
)
def test_sizes_of_the_simbench_grids(name, buses, members, pv, pv_kw, batteries, battery_kw, battery_kwh):
    case = load_case(name)
    homes = case.prosumers
    assert (len(case.buses), len(case.lines), len(homes)) == (buses, buses - 1, members)
    assert ((homes["pv_kw"] > 0).sum(), (homes["battery_kwh"] > 0).sum()) == (pv, batteries)
    assert homes["pv_kw"].sum() == pytest.approx(pv_kw)
    assert homes["battery_charge_kw"].sum() == pytest.approx(battery_kw)
    assert homes["battery_kwh"].sum() == pytest.approx(battery_kwh)
    assert len(case.profiles) == 366 * 96
    assert (case.lines["kind"] == "transformer").sum() == 1
    assert np.isfinite(case.lines["s_max_kva"]).all()
    # Charging points and heat pumps own nothing where a home stands beside them.
    owners = homes.loc[(homes["pv_kw"] > 0) | (homes["battery_kwh"] > 0), "load_profile"]
    assert not owners.str.startswith(("APLS", "HLS", "Air", "Soil")).any()


def test_ieee33():
    case = load_case("ieee33")
    assert (len(case.buses), len(case.lines), len(case.prosumers)) == (33, 32, 300)
    assert (case.prosumers["pv_kw"] > 0).mean() == pytest.approx(0.4)
    assert (case.prosumers["battery_kwh"] > 0).mean() == pytest.approx(0.3)
    assert set(case.prosumers["load_profile"]) == set(HOUSEHOLDS)
    assert np.isinf(case.lines["s_max_kva"]).all()
    series = absolute_series(case)
    peak = (series.load_kw.sum(axis=1) + series.background_kw.sum(axis=1)).max()
    assert 0.9 * 3715 < peak < 1.05 * 3715
    # Many homes become small ones instead of overloading the feeder.
    crowd = window(load_case("ieee33", homes=20_000))
    series = absolute_series(crowd)
    assert (series.load_kw.sum(axis=1) + series.background_kw.sum(axis=1)).max() < 1.05 * 3715
    assert (crowd.buses["background_kw"] >= 0).all()
    assert crowd.prosumers["prosumer_id"].is_unique
    with pytest.raises(ValueError, match="homes"):
        load_case("ieee33", homes=0)


def test_unknown_names():
    with pytest.raises(ValueError, match='rural3, rural1, ieee33; did you mean "rural3"'):
        load_case("rurale3")
    with pytest.raises(ValueError, match="tou_noise"):
        load_case("rural1", price="free")


def test_embedded_files_are_small_and_licensed():
    files = [file for file in embed.FOLDER.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 4_000_000
    text = (embed.FOLDER / "LICENSE").read_text()
    assert "Open Database License" in text and "Attribution" in text


def test_loading_needs_no_importer():
    code = """
import sys
from jaxp2p.data import load_case
load_case("rural1")
assert not {"simbench", "pandapower", "pyarrow.parquet"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("peak", [1e-3, 0.59, 1.0, 2.07, 7.0, 27_000.0])
def test_packing_error(peak, tmp_path):
    values = peak * np.random.default_rng(0).uniform(-1, 1, 1000)
    values[7] = peak
    compact.pack(tmp_path / "p.npz", {"a b/c": values})
    error = np.abs(compact.unpack(tmp_path / "p.npz", ["a b/c"])["a b/c"] - values).max()
    assert error <= compact.MAX_ERROR * peak


def test_scales_and_shares():
    plain, scaled = load_case("rural3"), load_case("rural3", pv_scale=2.0, battery_scale=0.5, load_scale=3.0)
    for column, factor in {
        "pv_kw": 2.0,
        "battery_kwh": 0.5,
        "battery_start_kwh": 0.5,
        "battery_charge_kw": 0.5,
        "load_kw": 3.0,
        "load_kvar": 3.0,
        "charge_efficiency": 1.0,
    }.items():
        np.testing.assert_allclose(scaled.prosumers[column], factor * plain.prosumers[column])
    assert scaled.meta["synthetic"][-1] == "load of members times 3"  # there is no background
    feeder, heavy = (load_case("ieee33", homes=20, load_scale=scale) for scale in (1.0, 2.0))
    assert feeder.buses["background_kw"].sum() > 1000
    for column in ("background_kw", "background_kvar"):
        np.testing.assert_allclose(heavy.buses[column], 2.0 * feeder.buses[column])
    assert heavy.meta["synthetic"][-1] == "load of members and background times 2"
    dense = load_case("rural3", pv_share=0.5, battery_share=0.4, seed=3)
    homes = dense.prosumers
    assert (homes["pv_kw"] > 0).sum() == round(0.5 * 153)
    assert (homes["battery_kwh"] > 0).sum() == round(0.4 * 153)
    assert validate(dense) == []
    assert dense.meta["synthetic"] != plain.meta["synthetic"]
    had = plain.prosumers["pv_kw"] > 0
    pd.testing.assert_series_equal(homes.loc[had, "pv_kw"], plain.prosumers.loc[had, "pv_kw"])


def test_densify_is_seeded_and_nested():
    plain = load_case("rural3")
    some, same, other = (
        densify(plain, pv_share=0.5, battery_share=0.5, seed=seed).prosumers for seed in (1, 1, 2)
    )
    pd.testing.assert_frame_equal(some, same)
    assert not some.equals(other)
    more = densify(plain, pv_share=0.8, seed=1).prosumers
    added = (some["pv_kw"] > 0).to_numpy()
    np.testing.assert_array_equal(more.loc[added, "pv_kw"], some.loc[added, "pv_kw"])
    assert densify(plain, pv_share=0.01).prosumers.equals(plain.prosumers)
    assert densify(plain) is plain
    everyone = densify(plain, pv_share=1.0, battery_share=1.0).prosumers
    assert (everyone["pv_kw"] > 0).all() and (everyone["battery_kwh"] > 0).all()


def test_densify_of_own_data():
    case = load_case("rural1")
    bare = case.replace(prosumers=case.prosumers[["prosumer_id", "bus_id", "load_profile", "load_kw"]])
    with pytest.raises(ValueError, match="pv_profiles"):
        densify(bare, pv_share=0.5)
    dense = densify(bare, pv_share=0.5, pv_profiles=["PV8"])
    assert (dense.prosumers["pv_profile"] == "PV8").sum() == 14
    assert validate(dense) == []
    with pytest.raises(ValueError, match="pv_share"):
        densify(bare, pv_share=30)
    with pytest.raises(ValueError, match="pv_scale"):
        densify(bare, pv_scale=-1)


@pytest.mark.parametrize("kind", PRICES)
def test_prices(kind):
    year = make_prices(load_case("rural1").profiles["time"], kind, seed=5)
    buy, sell = year["buy_eur_per_kwh"], year["sell_eur_per_kwh"]
    assert (buy >= sell).all() and 0.0 < buy.mean() < 0.5 and buy.max() < 1.0
    # A window sees what the year sees, wherever it starts.
    part = year.iloc[7013:9000].reset_index(drop=True)
    pd.testing.assert_frame_equal(make_prices(part["time"], kind, seed=5), part, check_exact=True)
    differs = not make_prices(year["time"], kind, seed=6).equals(year)
    assert differs == (kind != "tou")
    if kind == "dynamic":
        assert 0.0 < (sell < 0).mean() < 0.08
        assert set(year.loc[sell < 0, "time"].dt.hour) <= set(range(9, 18))
        assert (buy.to_numpy().reshape(-1, 4) == buy.to_numpy()[::4, None]).all()


def test_the_hours_of_the_tariff():
    """Night until 6 and from 22 h, evening from 17 to 21 h; Monday 4 July 2016, and the Saturday after it."""
    night, dear = [0.22] * 6, [0.40] * 4
    for day, by_day, evening in (("2016-07-04", 0.30, dear), ("2016-07-09", 0.27, [0.32] * 4)):
        prices = make_prices(pd.Series(pd.date_range(day, periods=24, freq="h")), "tou")
        expected = [*night, *[by_day] * 11, *evening, by_day, 0.22, 0.22]
        assert prices["buy_eur_per_kwh"].tolist() == expected
        assert prices["sell_eur_per_kwh"].tolist() == [0.08] * 24


def test_hourly_prices():
    time = pd.Series(pd.date_range("1969-12-30", periods=96, freq="h"))
    for kind in PRICES:
        assert make_prices(time, kind).notna().all(axis=None)


def test_window():
    year = load_case("rural1")
    week = window(year)
    assert len(week.profiles) == len(week.prices) == 7 * 96
    assert week.profiles["time"].iloc[0] == pd.Timestamp("2016-07-04")
    assert len(window(year, start="2016-12-31", days=1).profiles) == 96
    assert len(window(week, days=1).profiles) == 96
    assert window(window(year, start="2016-02-01", days=3), days=2).profiles["time"].iloc[0].month == 2
    for start, days in (("2017-01-01", 1), ("2016-12-31", 2), ("2015-12-31", 1)):
        with pytest.raises(ValueError, match=r"2016-01-01 00:00:00 to 2017-01-01 00:00:00"):
            window(year, start=start, days=days)
    assert window(year, start="2016-03-01T02:00+02:00").profiles["time"].iloc[0] == pd.Timestamp("2016-03-01")
    with pytest.raises(ValueError, match="not a date"):
        window(year, start="soon")
    with pytest.raises(ValueError, match="slot"):
        window(year, days=0)


def test_absolute_series():
    case = window(load_case("ieee33", homes=20))
    series = absolute_series(case)
    home = case.prosumers.iloc[3]
    np.testing.assert_allclose(series.load_kw[:, 3], home["load_kw"] * case.profiles[home["load_profile"]])
    assert series.load_kw.shape == (672, 20) and series.background_kw.shape == (672, 33)
    assert series.dt_h == 0.25
    assert (series.pv_kw[:, case.prosumers["pv_kw"] == 0] == 0).all()
    constant = case.replace(buses=case.buses.assign(background_profile="", background_kw=2.0))
    assert (absolute_series(constant).background_kw == 2.0).all()


def test_owners():
    """The k-th unit of a bus to its k-th load, homes first; without load at the bus the nearest one."""
    rows = [
        {"bus_id": "b", "load_profile": "HLS_A_22.0", "load_kw": 22.0},
        {"bus_id": "b", "load_profile": "H0-A", "load_kw": 2.0},
        {"bus_id": "b", "load_profile": "L1-A", "load_kw": 9.0},
        {"bus_id": "e", "load_profile": "H0-B", "load_kw": 3.0},
    ]
    ends = {"from_bus": ["a", "b", "c", "d", "x"], "to_bus": ["b", "c", "d", "e", "a"]}
    lines = pd.DataFrame({**ends, "kind": ["line"] * 4 + ["transformer"]})
    owners = Owners(rows, lines)
    assert [owners.next("plant", "b", "") for _ in range(4)] == [2, 1, 0, 2]
    assert owners.next("storage", "b", "") == 2
    assert owners.next("plant", "d", "") == 3
    assert owners.next("plant", "a", "") == 1
    # behind the transformer there is nobody: the wind park is a member, and its battery goes to it
    assert owners.next("plant", "x", "wind park") == 4 == owners.next("storage", "x", "battery")
    assert rows[4]["prosumer_id"] == "wind park" and rows[4]["load_kw"] == 0.0


def test_import_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "simbench", None)
    with pytest.raises(ImportError, match=r"\.\[grid\]"):
        import_simbench("1-LV-rural3--2-sw")


@pytest.mark.parametrize("name", ["rural3", "rural1"])
def test_import_against_the_original(name):
    """AC voltages of a net made from our tables are those of the net of simbench, tap included."""
    case = REFERENCE["cases"][name]
    ours = {snapshot["label"]: snapshot for snapshot in case["snapshots"]}
    slack = load_case(name).buses.query("slack == 1")["bus_id"].item()
    checked = 0
    for theirs in case["originals"]:
        if not theirs["tap"]:
            continue  # without its tap the transformer is another one; kept in the file for comparison
        snapshot = ours[theirs["label"]]
        low_voltage = [bus for bus in snapshot["v_pu"] if bus != slack]
        difference = max(abs(snapshot["v_pu"][bus] - theirs["v_pu"][bus]) for bus in low_voltage)
        assert difference < 3e-5  # p.u.; magnetising current, iron losses and cable capacitance
        transformer = load_case(name).lines.query("kind == 'transformer'")["line_id"].item()
        assert snapshot["p_line_kw"][transformer] == pytest.approx(theirs["transformer_p_kw"], abs=1.5)
        checked += 1
    assert checked == 2


@pytest.mark.parametrize("name", CASES)
def test_reference_belongs_to_the_tables(name):
    """The injections in the reference are those of the embedded case: it cannot go stale unnoticed."""
    case = load_case(name)
    series = absolute_series(case)
    buses = case.buses["bus_id"].tolist()
    place = pd.Index(buses).get_indexer(case.prosumers["bus_id"])
    for snapshot in REFERENCE["cases"][name]["snapshots"]:
        t = snapshot["slot"]
        assert case.profiles["time"].iloc[t].isoformat() == snapshot["time"]
        p, q = -series.background_kw[t], -series.background_kvar[t]
        np.add.at(p, place, series.pv_kw[t] - series.load_kw[t])
        np.add.at(q, place, -series.load_kvar[t])
        np.testing.assert_allclose([snapshot["p_kw"][bus] for bus in buses], p, atol=1e-5)
        np.testing.assert_allclose([snapshot["q_kvar"][bus] for bus in buses], q, atol=1e-5)
        assert set(snapshot["p_line_kw"]) == set(case.lines["line_id"])
