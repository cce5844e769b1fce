"""Meter data and shares out of files, `jp.share`, the command, and the market of a real run."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from test_sharing import (
    BY_HAND,
    CONSUMERS,
    CONSUMPTION,
    FIXED,
    GENERATION,
    PRODUCERS,
    Greedy,
    by_hour,
    energy_of,
)
from typer.testing import CliRunner
from villages import village

import jaxp2p as jp
from jaxp2p.cli import app
from jaxp2p.data import InputError
from jaxp2p.report.exchanged import of_tables
from jaxp2p.report.sharing import INTERVAL_TABLE, KEY_TABLE, MEMBER_TABLE
from jaxp2p.sharing.key import allot
from jaxp2p.sharing.meters import read_meters
from jaxp2p.sharing.pot import ProRata
from jaxp2p.sharing.shares_file import shares_of

TIME = pd.date_range("2024-06-01", periods=4, freq="6h")


def wide():
    """The day by hand as two tables."""
    return {
        "consumption": pd.DataFrame({"time": TIME} | dict(zip(CONSUMERS, CONSUMPTION.T, strict=True))),
        "generation": pd.DataFrame({"time": TIME} | dict(zip(PRODUCERS, GENERATION.T, strict=True))),
    }


def long():
    """The same as one: P draws nothing, B and C feed nothing in."""
    parts = []
    for table in ("consumption", "generation"):
        parts.append(wide()[table].melt("time", var_name="member", value_name=f"{table}_kwh"))
    return parts[0].merge(parts[1], on=["time", "member"], how="outer").sort_values(["time", "member"])


def write(folder, tables, *, suffix="csv"):
    folder.mkdir(exist_ok=True)
    for name, frame in tables.items():
        if suffix == "parquet":
            frame.to_parquet(folder / f"{name}.parquet", index=False)
        else:
            frame.to_csv(folder / f"{name}.csv", index=False)
    return folder


def prices(buy=0.3, sell=0.1):
    return pd.DataFrame({"time": TIME, "buy_eur_per_kwh": buy, "sell_eur_per_kwh": sell})


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_long_and_wide_tables_are_the_same_energy(tmp_path, suffix):
    folder = write(tmp_path / "wide", wide(), suffix=suffix)
    other = write(tmp_path / "long", {"meters": long()}, suffix=suffix)
    shuffled = long().sort_values(["member", "time"], ascending=[False, True])
    third = write(tmp_path / "shuffled", {"meters": shuffled}, suffix=suffix)
    for place in (folder, other, other / f"meters.{suffix}", third):
        found = read_meters(place, time_zone="Europe/Vienna")
        energy = found.energy
        assert found.prices is None and list(energy.time) == list(TIME.tz_localize("Europe/Vienna"))
        for names, values, table in (
            (energy.consumers, energy.consumption, "consumption"),
            (energy.producers, energy.generation, "generation"),
        ):
            expected = wide()[table].drop(columns="time")
            assert sorted(names) == sorted(expected.columns)
            assert (pd.DataFrame(values, columns=list(names))[list(expected)] == 1000 * expected).all(
                axis=None
            )


def test_the_hour_that_comes_twice_is_read_in_its_order(tmp_path):
    """Local times of a day of 100 quarter-hours, from 2 to 3 twice, for every member one after the other."""
    time = pd.date_range("2024-10-27", "2024-10-28", freq="15min", tz="Europe/Vienna", inclusive="left")
    local = time.tz_localize(None)
    frames = [
        pd.DataFrame({"time": local, "member": m, "consumption_kwh": 1, "generation_kwh": 1}) for m in "AB"
    ]
    by_time = pd.concat(frames).sort_index(kind="stable")
    for number, table in enumerate((pd.concat(frames), by_time)):
        folder = write(tmp_path / str(number), {"meters": table})
        assert list(read_meters(folder, time_zone="Europe/Vienna").energy.time) == list(time)
    with pytest.raises(InputError, match="daylight saving"):
        read_meters(folder)


def test_prices_beside_the_meters(tmp_path):
    more = pd.concat([prices(), prices().assign(time=TIME + pd.Timedelta("1D"))])
    folder = write(tmp_path / "m", wide() | {"prices": more})
    assert read_meters(folder).prices["buy_eur_per_kwh"].tolist() == [0.3] * 4
    write(folder, {"prices": prices().iloc[:2]})
    with pytest.raises(
        InputError, match=r"prices\.time: there is no row for 2024-06-01T12:00:00, and 1 more"
    ):
        read_meters(folder)


def spoilt_long(change):
    table = long().reset_index(drop=True)
    return {"meters": change(table)}


def spoilt_wide(name, change):
    return wide() | {name: change(wide()[name])}


FAULTS = {
    "meters.time: B: there is no row for 2024-06-01 06:00:00": lambda: spoilt_long(lambda t: t.drop(index=5)),
    "meters.time, row 17 (line 18 of a CSV file): C: 2024-06-01 18:00:00 stands twice": lambda: spoilt_long(
        lambda t: pd.concat([t, t.iloc[[14]]])
    ),
    "meters.time: gap or irregular step: 2024-06-01T12:00:00 follows 2024-06-01T00:00:00": lambda: (
        spoilt_long(lambda t: t[t["time"] != TIME[1]])
    ),
    "meters.consumption_kwh, row 6 (line 7 of a CSV file): B: there is no reading at": lambda: spoilt_long(
        lambda t: t.assign(consumption_kwh=t["consumption_kwh"].where(t.index != 5))
    ),
    "meters.consumption_kwh, row 6 (line 7 of a CSV file): B: -1 kWh must be at least 0": lambda: spoilt_long(
        lambda t: t.assign(consumption_kwh=t["consumption_kwh"].where(t.index != 5, -1))
    ),
    'meters.generation_kw: unknown column (did you mean "generation_kwh"?)': lambda: spoilt_long(
        lambda t: t.rename(columns={"generation_kwh": "generation_kw"})
    ),
    "consumption.B, row 3 (line 4 of a CSV file): -4 kWh must not be negative": lambda: spoilt_wide(
        "consumption", lambda t: t.assign(B=[2, 1, -4, 2])
    ),
    "consumption.C, row 2 (line 3 of a CSV file): the value is NaN": lambda: spoilt_wide(
        "consumption", lambda t: t.assign(C=[1, None, 2, 0])
    ),
    "generation.time: there is no row for 2024-06-01T18:00:00": lambda: spoilt_wide(
        "generation", lambda t: t.iloc[:3]
    ),
    "generation.time, row 2 (line 3 of a CSV file): gap or irregular step": lambda: spoilt_wide(
        "generation", lambda t: t.drop(index=1)
    ),
    "generation: there is no member beside the time column": lambda: spoilt_wide(
        "generation", lambda t: t[["time"]]
    ),
    "generation: the file generation.csv (or generation.parquet) is missing": lambda: {
        "consumption": wide()["consumption"]
    },
}


@pytest.mark.parametrize("said", FAULTS)
def test_faults_of_meter_data_are_named_by_table_column_and_row(tmp_path, said):
    with pytest.raises(InputError) as raised:
        read_meters(write(tmp_path / "m", FAULTS[said]()))
    assert said in str(raised.value)


def test_a_source_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        read_meters(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"unknown time zone.*Europe/Vienna"):
        read_meters(tmp_path, time_zone="Europe/Vienne")


# --- shares ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def day():
    return energy_of(GENERATION, CONSUMPTION)


def members(**columns):
    return pd.DataFrame({"member": list("CBA")} | columns)


def test_tables_of_shares(day):
    """Rows in any order; members in that of the energy."""
    found = shares_of(members(share=[0.25, 0.25, 0.5], level=[1, 1, 2]), day)
    assert found.shares.tolist() == FIXED.tolist() and found.levels.tolist() == [2, 1, 1]
    hourly = pd.DataFrame(by_hour(), columns=list(CONSUMERS)).rename_axis("hour").reset_index()
    found = shares_of(hourly.melt("hour", var_name="member", value_name="share"), day)
    assert (found.hourly == by_hour()).all() and not found.in_order
    rows = [(time, m, s) for time in TIME for m, s in zip(CONSUMERS, FIXED, strict=True)]
    found = shares_of(pd.DataFrame(rows, columns=["time", "member", "share"]), day)
    assert found.in_order and (found.hourly == FIXED).all() and found.hourly.shape == (4, 3)
    pairs = pd.DataFrame({"producer": ["P", "P", "A"], "member": ["A", "B", "C"], "share": [0.5, 0.5, 0.8]})
    assert shares_of(pairs, day).percentages.tolist() == [[0.5, 0.5, 0], [0, 0, 0.8]]
    moving = pd.concat([pairs.assign(time=time) for time in TIME[:2]])
    found = shares_of(moving, day).percentages
    assert (
        found.shape == (4, 2, 3) and found[1].tolist() == [[0.5, 0.5, 0], [0, 0, 0.8]] and not found[2:].any()
    )


WRONG_SHARES = {
    'shares.member, row 1 (line 2 of a CSV file): Cc is not a member (did you mean "C"?)': members(
        share=1 / 3
    ).replace({"member": {"C": "Cc"}}),
    "shares, row 2 (line 3 of a CSV file): C stands twice": members(share=1 / 3).replace(
        {"member": {"B": "C"}}
    ),
    "1 rows are missing, the first is C": members(share=[0, 0.5, 0.5]).iloc[1:],
    "shares.share, row 2 (line 3 of a CSV file): B: 50 must be at least 0, at most 1 (a percentage?": (
        members(share=[0.25, 50, 0.25])
    ),
    "B: no number": members(share=[0.5, None, 0.5]),
    "not by both": members(share=1 / 3, hour=1, time=TIME[0]),
    "member and level, are needed": members(hour=1),
    "shares.hour, row 1": members(share=1 / 3, hour=24),
    "is not an interval of the meters": members(share=1 / 3, time=pd.Timestamp("2024-06-02")),
    "levels are by member alone": pd.concat([members(level=1, hour=h) for h in range(24)]),
}


@pytest.mark.parametrize("said", WRONG_SHARES)
def test_wrong_shares_are_refused(day, said):
    with pytest.raises(InputError) as raised:
        shares_of(WRONG_SHARES[said].reset_index(drop=True), day)
    assert said in str(raised.value)


# --- the library ----------------------------------------------------------------------------------


def test_share_sets_keys_side_by_side(day):
    """Of 12 kWh that can be matched fixed shares leave 1.25, and C 1 of its 8; 0.2 EUR are saved by each."""
    shares = dict(zip(CONSUMERS, FIXED, strict=True))
    chosen = ["pro_rata", "fixed", {"mine": ProRata()}]
    found = jp.share(day, keys=chosen, shares=shares, buy=0.3, sell=0.08, fee=0.02)
    table = found.table()
    assert list(table.index) == ["pro_rata", "fixed", "mine"]
    assert table.loc["mine"].equals(table.loc["pro_rata"].rename("mine"))
    row = table.loc["fixed"]
    assert row["shared_kwh"] == 10.75 and row["market_kwh"] == 12 and row["short_of_market_kwh"] == 1.25
    assert (row["generation_kwh"], row["consumption_kwh"]) == (17, 23)
    assert (row["fed_to_grid_kwh"], row["grid_kwh"]) == (6.25, 12.25)
    assert row["shared_of_generation"] == pytest.approx(10.75 / 17)
    assert row["shared_of_consumption"] == pytest.approx(10.75 / 23)
    assert row["saving_eur"] == pytest.approx(2.15) and row["market_eur"] == pytest.approx(2.4)
    assert row["short_of_market_eur"] == pytest.approx(0.25) and row["interval_minutes"] == 360
    c = found.members("fixed").set_index("member").loc["C"]
    assert (c["consumption_kwh"], c["community_kwh"], c["grid_kwh"]) == (8, 3, 5)
    assert (c["generation_kwh"], c["given_kwh"], c["fed_to_grid_kwh"]) == (0, 0, 0) and np.isnan(c["own_kwh"])
    assert c["saved_eur"] == pytest.approx(0.1 * 3)
    assert found.intervals("fixed")["shared_kwh"].tolist() == [0, 4, 6, 0.75]
    assert found.intervals("fixed")["saving_eur"].sum() == pytest.approx(2.15)
    assert found.intervals()["time"].iloc[0] == pd.Timestamp("2024-05-31 22:00")  # UTC
    assert (found.allotment("fixed").received[1:] == BY_HAND["fixed"][1]).all()
    assert "promise" not in str(found) and "10.8" in str(found)
    with pytest.raises(ValueError, match="unknown key 'best'"):
        found.members("best")


def test_countries_that_settle_by_the_hour_are_set_beside_the_market_of_hours():
    """4 kWh fed in in the first half of an hour, 3 drawn in the second, at 0.2 and 0.4: 3 at 0.3 - 0.1."""
    energy = energy_of([[4, 0], [0, 0]], [[0, 0, 0], [1, 1, 1]], freq="30min")
    price = np.array([0.2, 0.4])
    found = jp.share(energy, keys=["italy", "pro_rata"], buy=price, sell=0.1).table()
    assert found["shared_kwh"].tolist() == found["market_kwh"].tolist() == [3, 0]
    assert found.loc["italy", "saving_eur"] == pytest.approx(0.6)


def test_shares_by_the_hour_of_the_year_hold_for_its_quarter_hours():
    """Spain: A has all of the first hour, B of the second; 1 kWh is fed in and drawn in every half-hour."""
    energy = energy_of([[1, 0]] * 4, [[1, 1, 0]] * 4, freq="30min")
    hours = [time.tz_localize(None) for time in energy.time[::2]]
    rows = [(hours[h], member, float(n == h)) for h in range(2) for n, member in enumerate(CONSUMERS)]
    table = pd.DataFrame(rows, columns=["time", "member", "share"])
    found = jp.share(energy, keys=["spain_hourly", "hourly"], shares=table)
    assert found.allotment("spain_hourly").received.tolist() == [[2000, 0, 0], [0, 2000, 0]]
    assert found.allotment("hourly").received.tolist() == [[1000, 0, 0]] * 2 + [[0, 1000, 0]] * 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"keys": ["pro_rate"]}, 'did you mean "pro_rata"'),
        ({"keys": []}, "at least one"),
        ({"keys": ["equal", "equal"]}, "named twice"),
        ({"keys": ["fixed"]}, "the key fixed needs a share of every member"),
        ({"keys": ["market"]}, "the key market needs the trades of a run"),
        ({"keys": [{"greedy": Greedy()}]}, "Greedy allots"),
        ({"unused": "lost"}, "grid, by_share, pro_rata"),
        ({"buy": 0.3}, "both buy and sell"),
        ({"shares": {"A": 0.5, "B": 0.5, "X": 0}}, "X is not a member"),
        ({"keys": ["fixed"], "shares": {"A": 0.5, "B": 0.4, "C": 0}}, "sum to 0.9"),
    ],
)
def test_share_refuses(day, options, said):
    with pytest.raises(ValueError, match=said):
        jp.share(day, **options)


def test_what_is_saved_is_complete_or_not_there(day, tmp_path):
    found = jp.share(day, buy=0.3, sell=0.08)
    for format, read in (("csv", pd.read_csv), ("parquet", pd.read_parquet)):
        folder = found.save(tmp_path / format, format=format)
        names = {KEY_TABLE, MEMBER_TABLE, INTERVAL_TABLE}
        assert {f.name for f in folder.iterdir()} == {f"{n}.{format}" for n in names} | {
            "summary.json",
            "pictures",
        }
        table = read(folder / f"{KEY_TABLE}.{format}").set_index("key")
        pd.testing.assert_frame_equal(table, found.table(), check_dtype=False)
        assert json.loads((folder / "summary.json").read_text())["keys"]["equal"]["market_kwh"] == 12
    with pytest.raises(FileExistsError):
        jp.share(day, keys=["equal"]).save(tmp_path / "csv")
    jp.share(day, keys=["equal"]).save(tmp_path / "csv", replace=True)
    with pytest.raises(ValueError, match="format"):
        found.save(tmp_path / "x", format="xlsx")


# --- a run ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run():
    case = jp.build(village(), days=None, market="pool", dtype="float64", network=False)
    return jp.run(case, policies=["lyapunov", "no_storage"], lower_bound=False, foresight="off")


def test_the_market_of_a_real_run(run, tmp_path):
    """Its trades as shares found afterwards: what was traded to a Wh per slot, of what the meters counted."""
    found = jp.share(run, fee=0.01)
    assert list(found.table().index) == ["equal", "pro_rata", "pro_rata_to_surplus", "market"]
    t = run.trajectory("lyapunov")
    hours = 0.25
    drawn = np.maximum(-np.asarray(t.injection), 0) * hours
    fed = np.maximum(np.asarray(t.injection), 0) * hours
    energy = found.shared.energy
    assert np.abs(energy.consumption - 1000 * drawn).max() < 1.001
    assert np.abs(energy.generation - 1000 * fed).max() < 1.001
    trade, done = np.asarray(t.trade) * hours * 1000, found.allotment("market")
    assert trade.max() > 100  # there is something to look at
    # rounded meters may cap a trade, and rounding itself moves a part, by a Wh each
    assert np.abs(done.received - np.maximum(-trade, 0)).max() < 2.1
    assert np.abs(done.given - np.maximum(trade, 0)).max() < 2.1
    own = np.maximum(np.asarray(t.load) * hours - drawn, 0).sum(0)
    assert found.members("market")["own_kwh"].to_numpy() == pytest.approx(own, abs=0.05)
    buy, sell = np.asarray(run.case.horizon.price_buy), np.asarray(run.case.horizon.price_sell)
    worth = (np.maximum(trade, 0).sum(1) / 1000 * (buy - sell - 0.01)).sum()
    assert found.table().loc["market", "saving_eur"] == pytest.approx(worth, rel=1e-2)
    other = jp.share(run, policy="no_storage", keys=["market"])
    assert other.table().loc["market", "generation_kwh"] != found.table().loc["market", "generation_kwh"]
    saved = run.save(tmp_path / "run", homes=True, format="csv")
    again = jp.share(jp.load(saved), fee=0.01)
    pd.testing.assert_frame_equal(again.table(), found.table())
    by_path = jp.share(saved, fee=0.01)
    pd.testing.assert_frame_equal(by_path.table(), found.table())
    zoned = replace(run.case, tables=run.case.tables.replace(meta={"time_zone": "Asia/Tokyo"}))
    in_tokyo = replace(run, case=zoned).save(tmp_path / "tokyo", homes=True)
    assert jp.share(in_tokyo).shared.energy.hour_of_day[0] == 9
    with pytest.raises(ValueError, match='did you mean "no_storage"'):
        jp.share(run, policy="no_storag")
    with pytest.raises(ValueError, match=r"jaxp2p run --per-home"):
        jp.share(run.save(tmp_path / "small"))


def test_energy_between_a_member_and_the_grid_by_hand():
    """Of 4 kW for a quarter 1 goes to the utility, 3 to a peer, who buys 1 more and uses 0.5 of its own."""
    homes = pd.DataFrame(
        {
            "member": ["S", "B"] * 2,
            "load_kw": [1, 4.5] * 2,
            "sell_kw": [1.0, 0] * 2,
            "buy_kw": [0, 1.0] * 2,
            "trade_kw": [3.0, -3] * 2,
        }
    )
    time = pd.date_range("2024-06-01 22:00", periods=2, freq="15min")
    slots = pd.DataFrame({"time": time, "price_buy_eur_per_kwh": 0.3, "price_sell_eur_per_kwh": 0.1})
    found = of_tables(homes, slots, time_zone="Europe/Vienna")
    energy = found.energy
    assert energy.generation.tolist() == [[1000, 0]] * 2 and energy.consumption.tolist() == [[0, 1000]] * 2
    assert energy.own.tolist() == [[250, 125]] * 2 and energy.hour_of_day.tolist() == [0, 0]
    done = allot(found.trades, energy)
    assert done.received.tolist() == [[0, 750]] * 2 and done.given.tolist() == [[750, 0]] * 2
    assert found.buy.tolist() == [0.3, 0.3] and found.sell.tolist() == [0.1, 0.1]


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def meters(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "m", wide() | {"prices": prices()})
    members(share=[0.25, 0.25, 0.5], level=[1, 1, 2]).to_csv(tmp_path / "shares.csv", index=False)
    return tmp_path


def call(*arguments):
    return CliRunner().invoke(app, ["share", *map(str, arguments)])


def test_the_command_prints_a_table_and_writes_a_folder(meters):
    asked = [
        "m",
        "--key",
        "fixed",
        "--key",
        "priority",
        "--shares",
        "shares.csv",
        "--time-zone",
        "Europe/Vienna",
    ]
    done = call(*asked, "--json", "summary.json")
    assert done.exit_code == 0, done.output
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line}
    # shared, of feed-in, of draw, fed to grid, from grid, to market; saving, to market
    assert rows["fixed"] == ["10.8", "63.2", "46.7", "6.2", "12.2", "1.2", "2.15", "0.25"]
    assert rows["priority"] == ["12.0", "70.6", "52.2", "5.0", "11.0", "0.0", "2.40", "0.00"]
    assert "fixed: shares that never change" in " ".join(done.stdout.split())
    assert "written to jaxp2p-results/m-share" in done.stdout
    folder = meters / "jaxp2p-results" / "m-share"
    assert (folder / "pictures" / "sharing.png").stat().st_size > 5000
    report = json.loads((meters / "summary.json").read_text())
    assert report["keys"]["fixed"]["shared_kwh"] == 10.75 and report["time_zone"] == "Europe/Vienna"
    assert (report["intervals"], report["members"], report["consumers"], report["producers"]) == (4, 4, 3, 2)
    assert call(*asked, "--quiet").stdout == ""
    again = call("m", "--no-pictures", "--format", "parquet")
    assert "these go to jaxp2p-results/m-share-2" in again.output
    assert list(pd.read_parquet(meters / "jaxp2p-results/m-share-2/sharing.parquet")["key"]) == [
        "equal",
        "pro_rata",
        "pro_rata_to_surplus",
    ]
    out = call("m", "--json", "-", "--out", "here", "--key", "austria-dynamic")
    assert json.loads(out.stdout)["keys"]["austria_dynamic"]["short_of_market_kwh"] == 0
    assert not (meters / "m-share-3").exists() and (meters / "here" / "sharing.csv").exists()


def test_without_prices_there_is_no_money(meters):
    (meters / "m" / "prices.csv").unlink()
    done = call("m")
    assert done.exit_code == 0 and "EUR" not in done.stdout
    assert "saving_eur" not in pd.read_csv(meters / "jaxp2p-results/m-share/sharing_members.csv")
    assert "2.64" in call("m", "--buy", 0.3, "--sell", 0.08, "--key", "pro_rata").stdout


def test_a_country_is_named_without_a_promise(meters):
    said = " ".join(call("m", "--key", "austria_static", "--shares", "shares.csv").stdout.split())
    assert "promise no conformity" in said and "what is unused goes to the grid" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "no such file or folder"),
        (("m", "--key", "prorata"), 'did you mean "pro_rata"'),
        (("m", "--key", "fixed"), "--shares FILE.csv"),
        (("m", "--shares", "no.csv"), "there is no such file"),
        (("m", "--policy", "lyapunov"), "holds no results of a run"),
        (("m", "--unused", "lost"), "grid, by_share, pro_rata"),
        (("m", "--time-zone", "Vienna"), 'did you mean "Europe/Vienna"'),
        (("m", "--buy", 0.3, "--out", "m"), "holds something else than results"),
        (("m", "--json", "no/where.json"), "there is no folder no"),
        (("m", "--key", "italy", "--shares", "shares.csv"), "360 minutes do not make up an hour"),
    ],
)
def test_wrong_usage(meters, arguments, message):
    done = call(*arguments)
    assert done.exit_code == 2, done.output
    assert message in " ".join(done.output.split()) and "Traceback" not in done.output
    assert not (meters / "jaxp2p-results").exists()
