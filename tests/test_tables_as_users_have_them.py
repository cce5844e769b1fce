"""Names, times, prices and feeders as users bring them. Each test is of a kind of fault that users met."""

import math
import sys

import numpy as np
import pandas as pd
import pytest
from villages import village, write_raw

from jaxp2p.data import (
    JUDGEMENTS,
    InputError,
    check,
    local_time,
    read_tables,
    validate,
    window,
    write_tables,
)
from jaxp2p.data.parallel import together
from jaxp2p.model.build import build_community, build_horizon
from jaxp2p.model.limits import impossible_limits, summary
from jaxp2p.report.files import read_table
from jaxp2p.simulation.grid import grid_state


def with_prices(buy, sell, **options):
    tables = village(**options)
    return tables.replace(prices=tables.prices.assign(buy_eur_per_kwh=buy, sell_eur_per_kwh=sell))


def texts(items):
    return "\n".join(map(str, items))


# --- names -------------------------------------------------------------------------------------------------

AWKWARD = ["0012", "12", "1e5", "NA", "nan", "None", "null", "true", "007", "12.0"]


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_names_are_text_whatever_they_look_like(format, tmp_path):
    tables = village()
    homes = pd.concat([tables.prosumers.iloc[[1]]] * len(AWKWARD), ignore_index=True)
    homes = homes.assign(prosumer_id=AWKWARD, bus_id="NA", load_profile="1e5")
    tables = tables.replace(
        prosumers=homes,
        buses=tables.buses.replace({"bus_id": {"B1": "NA", "B2": "null"}}),
        lines=tables.lines.replace({"B1": "NA", "B2": "null"}),
        profiles=tables.profiles.rename(columns={"house": "1e5"}),
    )
    back = read_tables(write_tables(tables, tmp_path / "out", format=format))
    assert back.prosumers["prosumer_id"].tolist() == AWKWARD
    assert back.lines["to_bus"].tolist() == ["NA", "null"]


def test_results_keep_names_as_text(tmp_path):

    file = tmp_path / "members.csv"
    file.write_text("member,bus,load_kwh\n0012,01,1.5\n12,1,2.5\nNA,1e5,\n")
    frame = read_table(file)
    assert frame["member"].tolist() == ["0012", "12", "NA"]
    assert frame["bus"].tolist() == ["01", "1", "1e5"]
    assert math.isnan(frame["load_kwh"].iloc[2])


@pytest.mark.parametrize("kind", [float, np.float32, int, "Int64", object])
@pytest.mark.parametrize("parquet", [False, True])
def test_names_that_pandas_made_numbers_are_whole_numbers(kind, parquet, tmp_path):
    tables = village()
    ids = pd.Series([10023456, 10023458, 7]).astype(kind)
    tables = tables.replace(
        prosumers=tables.prosumers.assign(
            prosumer_id=ids, load_profile=[17.0, 17.0, 17.0], bus_id=[1.0, 2.0, 1.0]
        ),
        buses=tables.buses.assign(bus_id=[0, 1, 2]),
        lines=tables.lines.assign(from_bus=[0.0, 1.0], to_bus=[1, 2]),
        profiles=tables.profiles.rename(columns={"house": "17" if parquet else 17.0}),
    )
    if parquet:
        for name, frame in tables.frames().items():
            frame.to_parquet(tmp_path / f"{name}.parquet")
        done = read_tables(tmp_path)
    else:
        done = check(tables)
    assert done.prosumers["prosumer_id"].tolist() == ["10023456", "10023458", "7"]
    assert done.prosumers["load_profile"].tolist() == ["17"] * 3
    assert done.lines["to_bus"].tolist() == ["1", "2"]


def test_references_that_a_spreadsheet_made_decimals_find_their_name(tmp_path):
    """A column of whole numbers with an empty cell is written as 17.0 by pandas, or as 1.7E+01."""
    tables = village()
    homes = tables.prosumers.assign(load_profile=["17.0", "1.7E+01", "17"], pv_profile=["18.0", "", "18"])
    profiles = tables.profiles.rename(columns={"house": "17", "sun": "18.0"})
    folder = write_raw(tables.replace(prosumers=homes, profiles=profiles), tmp_path / "case")
    done = read_tables(folder)
    assert done.prosumers["load_profile"].tolist() == ["17"] * 3
    assert done.prosumers["pv_profile"].tolist() == ["18.0", "", "18.0"]


def test_a_reference_with_leading_zeros_is_another_name():
    tables = village()
    homes = tables.prosumers.assign(load_profile="0017")
    faults = validate(
        tables.replace(prosumers=homes, profiles=tables.profiles.rename(columns={"house": "17"}))
    )
    assert 'unknown profile "0017"' in texts(faults)


# --- time as index, rounding -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["time", None])
@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_times_in_the_index_are_the_column(name, zone, tmp_path):
    tables = village()
    frames = {}
    for table in ("profiles", "prices"):
        frame = tables.frames()[table].set_index("time")
        frame.index = frame.index.tz_localize(zone).rename(name)
        frames[table] = frame
        frame.to_parquet(tmp_path / f"{table}.parquet")
    for table in ("prosumers", "buses", "lines"):
        key = tables.frames()[table].columns[0]
        tables.frames()[table].set_index(key).to_parquet(tmp_path / f"{table}.parquet")
    expected = pd.Timestamp("2016-07-04" if zone is None else "2016-07-03T22:00")
    assert check(tables.replace(**frames)).profiles["time"].iloc[0] == expected
    assert read_tables(tmp_path).prices["time"].iloc[0] == expected


def test_computed_numbers_may_be_off_by_rounding_and_are_put_right():
    tables = village()
    homes = tables.prosumers.assign(
        battery_kwh=[8.1, 0.0, 7.3],
        battery_min_kwh=[0.81, 0.0, np.float32(7.3).item() + 1e-7],
        battery_start_kwh=[float(np.float32(8.1)) + 1e-6, 0.0, 7.3],
        battery_charge_kw=[-1e-9, -1e-12, 3.0],
        charge_efficiency=1.0000001,
    )
    sun = tables.profiles["sun"].where(tables.profiles["sun"] > 0, -1e-9)
    buy = tables.prices["buy_eur_per_kwh"]
    done = check(
        tables.replace(
            prosumers=homes,
            profiles=tables.profiles.assign(sun=sun),
            buses=tables.buses.assign(slack=[0.9999999, 0.0, 1e-9]),
            prices=tables.prices.assign(sell_eur_per_kwh=buy.astype("float32").astype(float) + 1e-9),
        )
    )
    assert done.prosumers["battery_start_kwh"].tolist() == [8.1, 0.0, 7.3]
    assert done.prosumers["battery_min_kwh"].iloc[2] == 7.3
    assert done.prosumers["battery_charge_kw"].tolist() == [0.0, 0.0, 3.0]
    assert (done.prosumers["charge_efficiency"] == 1.0).all()
    assert done.profiles["sun"].min() == 0.0
    assert (done.prices["sell_eur_per_kwh"] <= done.prices["buy_eur_per_kwh"]).all()
    assert done.buses["slack"].tolist() == [1.0, 0.0, 0.0]


def test_more_than_rounding_is_a_fault():
    tables = village()
    homes = tables.prosumers.assign(battery_start_kwh=[8.001, 0.0, 1.0], charge_efficiency=1.001)
    sun = tables.profiles["sun"] - 1e-3
    faults = validate(tables.replace(prosumers=homes, profiles=tables.profiles.assign(sun=sun)))
    assert {"battery_start_kwh", "charge_efficiency", "sun"} <= {fault.column for fault in faults}


def test_times_that_a_spreadsheet_computed_are_an_even_step():
    tables = village()
    days = (tables.prices["time"] - pd.Timestamp("2016-07-04")) / pd.Timedelta(days=1)
    time = pd.Timestamp("2016-07-04") + pd.to_timedelta(days.round(8), unit="D")
    done = check(tables.replace(prices=tables.prices.assign(time=time)))
    pd.testing.assert_series_equal(done.prices["time"], done.profiles["time"])


def test_a_slot_that_is_no_whole_second_comes_back(tmp_path):
    tables = village()
    time = pd.date_range("2016-07-04", periods=96, end="2016-07-04T13:17:43")
    tables = tables.replace(
        profiles=tables.profiles.assign(time=time), prices=tables.prices.assign(time=time)
    )
    back = read_tables(write_tables(tables, tmp_path / "out"))
    assert back.profiles["time"].tolist() == list(time)
    assert len(window(back, days=1 / 3).profiles) == pytest.approx(96 * 8 / 13.3, abs=1)


# --- daylight saving ---------------------------------------------------------------------------------------


def local(zone, start, days=2):
    """Naive local times of a zone, as a meter writes them."""
    tables = village(slots=96 * days)
    aware = pd.date_range(pd.Timestamp(start, tz=zone).tz_convert("UTC"), periods=96 * days, freq="15min")
    time = aware.tz_convert(zone)
    return tables.replace(
        profiles=tables.profiles.assign(time=time.tz_localize(None)),
        prices=tables.prices.assign(time=time.tz_localize(None)),
    ), time


CHANGES = [
    ("Europe/Berlin", "2016-03-26"),
    ("Europe/Berlin", "2016-10-29"),
    ("America/New_York", "2016-11-05"),
    ("Australia/Sydney", "2016-10-01"),
]


@pytest.mark.parametrize(("zone", "start"), CHANGES)
def test_local_times_across_a_change_of_the_clock_are_named_and_read_with_a_zone(zone, start, tmp_path):
    tables, time = local(zone, start)
    faults = validate(tables)
    assert faults and all("daylight saving" in f.message and "--time-zone" in f.message for f in faults)
    folder = write_raw(tables, tmp_path / "raw")
    for done in (check(tables, time_zone=zone), read_tables(folder, time_zone=zone)):
        assert done.profiles["time"].tolist() == list(time.tz_convert("UTC").tz_localize(None))
        assert done.meta["time_zone"] == zone
        assert check(done).profiles["time"].equals(done.profiles["time"])
        again = read_tables(write_tables(done, tmp_path / f"again{id(done)}"))
        assert again.profiles["time"].equals(done.profiles["time"]) and again.meta["time_zone"] == zone
        day = window(again, start=pd.Timestamp(start) + pd.Timedelta(hours=6), days=0.25)
        assert local_time(day).iloc[0] == pd.Timestamp(start) + pd.Timedelta(hours=6)


def test_hourly_and_sorted_repetitions_are_named_too():
    tables, _ = local("Europe/Berlin", "2016-10-29")
    hourly = tables.replace(profiles=tables.profiles[::4], prices=tables.prices[::4])
    assert "daylight saving" in texts(validate(hourly))
    assert validate(hourly, time_zone="Europe/Berlin") == []
    ordered = tables.replace(
        profiles=tables.profiles.sort_values("time"), prices=tables.prices.sort_values("time")
    )
    assert "daylight saving" in texts(validate(ordered))
    assert "comes twice in Europe/Berlin" in texts(validate(ordered, time_zone="Europe/Berlin"))


@pytest.mark.parametrize(("start", "text"), [("2016-03-26", "does not exist"), ("2016-10-29", "comes twice")])
def test_a_clock_that_never_changes_is_not_that_of_a_zone_and_a_fixed_offset_reads_it(start, text):
    tables = village(start=start, slots=192)
    faults = validate(tables, time_zone="Europe/Berlin")
    assert text in texts(faults) and "+01:00" in texts(faults)
    done = check(tables, time_zone="+01:00")
    assert done.profiles["time"].iloc[0] == pd.Timestamp(start) - pd.Timedelta(hours=1)


def test_offsets_in_the_file_go_across_the_change_and_a_mixture_is_a_fault(tmp_path):
    tables, time = local("Europe/Berlin", "2016-03-26")
    written = [moment.isoformat() for moment in time]
    tables = tables.replace(
        profiles=tables.profiles.assign(time=written), prices=tables.prices.assign(time=time)
    )
    assert check(tables).profiles["time"].iloc[0] == pd.Timestamp("2016-03-25T23:00")
    written[5] = written[5][:-6]
    faults = validate(tables.replace(profiles=tables.profiles.assign(time=written)))
    assert "has no UTC offset" in texts(faults) and faults[0].row == 6


def test_an_unknown_zone_is_named(tmp_path):
    with pytest.raises(ValueError, match='did you mean "Europe/Berlin"'):
        check(village(), time_zone="Europe/Berln")
    done = check(village(), time_zone="Europe/Berlin")
    with pytest.raises(ValueError, match="in UTC already"):
        check(done, time_zone="Europe/Berlin")


# --- plausibility ------------------------------------------------------------------------------------------

TARIFF = village().prices["buy_eur_per_kwh"].to_numpy()
SPOT = 0.04 + 0.05 * np.sin(np.arange(96) / 8)  # goes below zero


def spikes(level, slots=8):
    prices = TARIFF.copy()
    prices[60 : 60 + slots] = level
    return prices


@pytest.mark.parametrize(
    ("buy", "sell"),
    [
        (spikes(17.5), spikes(17.5) - 0.19),
        (spikes(4.0), np.full(96, 0.08)),
        (spikes(-0.5), np.full(96, -0.6)),
        (spikes(99.0, 1), np.full(96, 0.08)),
        (SPOT + 0.01, SPOT),
        (np.full(96, -0.01), np.full(96, -0.01)),
        (SPOT * 0.2 + 0.01, SPOT * 0.2),
        (np.full(96, 0.95), np.full(96, 0.0)),
    ],
)
def test_real_prices_pass(buy, sell):
    assert validate(with_prices(buy, sell)) == []


@pytest.mark.parametrize(
    ("factor", "words", "never"),
    [(100.0, "ct/kWh: divide by 100", "EUR/MWh"), (1000.0, "EUR/MWh: divide by 1000", "ct/kWh:")],
)
@pytest.mark.parametrize("tariff", [TARIFF, np.full(96, 0.22), np.full(96, 0.40), spikes(4.0)])
def test_prices_in_another_unit_are_refused_with_the_unit_they_have(factor, words, never, tariff):
    faults = validate(with_prices(factor * tariff, factor * np.full(96, 0.08)))
    buy = [fault.message for fault in faults if fault.column == "buy_eur_per_kwh"]
    assert len(buy) == 1 and words in buy[0] and never not in buy[0]
    assert {fault.name for fault in faults} == {"price_high"}


def test_a_wholesale_price_in_mwh_is_named_as_one():
    spot = 1000 * (SPOT + 0.03)
    faults = validate(with_prices(spot, spot))
    assert "it looks like EUR/MWh: divide by 1000" in texts(faults)


def test_cents_divided_by_a_thousand_are_remarked_upon_and_less_is_refused():
    low = check(with_prices(TARIFF / 10, np.full(96, 0.008)))
    assert [remark.name for remark in low.remarks] == ["price_low"]
    assert "divide by 100" in low.remarks[0].message.lower()
    assert "multiply by 100" in texts(validate(with_prices(TARIFF / 100, np.full(96, 0.0008))))


def test_sell_prices_in_cents_beside_buy_prices_in_euro_are_named():
    assert "ct/kWh: divide by 100" in texts(validate(with_prices(TARIFF, np.full(96, 8.0))))


def test_part_of_the_rows_in_another_unit_is_refused():
    mixed = np.where(np.arange(96) < 60, TARIFF, 100 * TARIFF)
    assert "ct/kWh" in texts(validate(with_prices(mixed, np.full(96, 0.08))))


def test_every_judgement_can_be_overruled_by_the_name_that_is_printed(tmp_path):
    tables = with_prices(100 * TARIFF, np.full(96, 8.0))
    tables = tables.replace(prosumers=tables.prosumers.assign(pv_kw=[5000.0, 0.0, 5.0]))
    with pytest.raises(InputError) as caught:
        check(tables)
    names = {fault.name for fault in caught.value.faults}
    assert names == {"price_high", "pv_high"} <= set(JUDGEMENTS)
    assert all(f"--accept {name}" in str(caught.value) for name in names)
    with pytest.raises(InputError):
        check(tables, accept=["price_high"])
    done = check(tables, accept=names)
    assert {remark.name for remark in done.remarks} == names
    build_community(done, market="pool")  # which checks again
    folder = write_tables(done, tmp_path / "out")
    assert read_tables(folder).prices["buy_eur_per_kwh"].max() == pytest.approx(40)
    with pytest.raises(ValueError, match='did you mean "price_high"'):
        check(tables, accept=["price_hihg"])


def test_other_faults_cannot_be_overruled():
    tables = village()
    tables = tables.replace(prosumers=tables.prosumers.assign(load_kw=-1.0))
    assert validate(tables, accept=tuple(JUDGEMENTS))


def test_plausibility_judges_the_data_and_not_the_window():
    tables = village(slots=192)
    weak = tables.profiles["sun"].where(tables.profiles["sun"] > 0, 1e-4)  # dusk
    spike = TARIFF.tolist() * 2
    spike[:12] = [5.0] * 12
    tables = check(
        tables.replace(
            profiles=tables.profiles.assign(sun=weak), prices=tables.prices.assign(buy_eur_per_kwh=spike)
        )
    )
    night = window(tables, start="2016-07-04", days=0.125)
    assert validate(night) == []
    assert validate(night.replace(prices=night.prices)) != []  # prices of somebody else: all of them dear
    build_horizon(build_community(night, market="pool"), night)


# --- feeders -----------------------------------------------------------------------------------------------


def test_one_building_without_lines_is_a_community(tmp_path):
    tables = village()
    one = tables.replace(
        prosumers=tables.prosumers.assign(bus_id="B0"),
        buses=tables.buses.iloc[:1],
        lines=tables.lines.iloc[:0],
    )
    folder = write_raw(one, tmp_path / "one")
    (tmp_path / "none").mkdir()
    for name in ("prosumers", "buses", "profiles", "prices"):
        (tmp_path / "none" / f"{name}.csv").write_bytes((folder / f"{name}.csv").read_bytes())
    for done in (
        check(one),
        check(one.replace(lines=None)),
        read_tables(folder),
        read_tables(tmp_path / "none"),
    ):
        community = build_community(done, market="pool")
        horizon = build_horizon(community, done)
        assert not community.feeder.rows and len(done.lines) == 0
        volts, loading, *_ = grid_state(community, horizon, np.asarray(horizon.pv - horizon.load))
        assert volts.shape == (96, 1) and loading.shape == (96, 0)
        assert impossible_limits(community, horizon) == []
        read_tables(write_tables(done, tmp_path / f"again{id(done)}"))


@pytest.mark.parametrize("buses", ["named", "absent", "empty"])
def test_neither_buses_nor_lines_is_no_feeder_and_said(buses, tmp_path):
    tables = village()
    homes = tables.prosumers
    homes = {"named": homes, "absent": homes.drop(columns="bus_id"), "empty": homes.assign(bus_id="")}[buses]
    free = tables.replace(prosumers=homes, buses=None, lines=None)
    for done in (check(free), read_tables(write_raw(free, tmp_path / "free"))):
        assert done.buses["bus_id"].tolist() == ["grid"] and len(done.prosumers) == 3
        assert [remark.name for remark in done.remarks] == ["no_feeder"]


def test_lines_are_missed_where_there_are_several_buses(tmp_path):
    tables = village()
    assert "the table is missing" in texts(validate(tables.replace(lines=None)))
    assert "only one needs no branch" in texts(validate(tables.replace(lines=tables.lines.iloc[:0])))
    assert "the table is missing" in texts(validate(tables.replace(buses=None)))


def test_parallel_branches_are_merged_and_said():
    tables = village()
    lines = tables.lines.assign(b_us=[0.0, 4.0], g_us=0.5)
    twin = lines.iloc[[1]].assign(line_id="L2", from_bus="B2", to_bus="B1", b_us=3.0)
    done = check(tables.replace(lines=pd.concat([lines, twin])))
    merged = done.lines.iloc[1]
    assert (merged["b_us"], merged["g_us"]) == (7.0, 1.0)
    assert merged["line_id"] == "L1 + L2"
    assert (merged["r_ohm"], merged["x_ohm"], merged["s_max_kva"]) == pytest.approx((0.015, 0.005, 200.0))
    assert "L1 + L2" in texts(done.remarks) and "200 kVA" in texts(done.remarks)
    assert check(done).remarks == done.remarks and len(done.lines) == 2


def test_unlike_parallel_branches_are_full_when_the_first_of_them_is():
    impedance, rating = np.array([0.1 + 0.1j, 0.3 + 0.1j, 0.2 + 0.05j]), np.array([50.0, 40.0, np.inf])
    total, limit = together(impedance, rating)
    share = np.abs((1 / impedance) / (1 / total))
    assert 1 / total == pytest.approx(np.sum(1 / impedance))
    assert (limit * share <= rating * (1 + 1e-12)).all() and np.isclose(limit * share, rating).any()
    assert together(np.array([0j, 0.1 + 0j]), np.array([30.0, 10.0])) == (0j, 30.0)


def test_a_loop_that_is_no_pair_is_named_with_its_buses():
    tables = village()
    tie = tables.lines.iloc[[1]].assign(line_id="tie", from_bus="B2", to_bus="B0")
    text = texts(validate(tables.replace(lines=pd.concat([tables.lines, tie]))))
    assert 'tie closes the loop "B0" - "B1" - "B2" - "B0"' in text


# --- impossible limits -------------------------------------------------------------------------------------


def found(tables, **options):
    community = build_community(tables, market="pool", **options)
    return impossible_limits(community, build_horizon(community, tables))


def test_nothing_is_impossible_in_a_healthy_village():
    assert found(village()) == []


def test_a_slack_voltage_beyond_every_limit_is_found_at_every_bus():
    tables = village()
    limits = found(tables.replace(buses=tables.buses.assign(v_set_pu=[1.15, 1.0, 1.0])), network=False)
    assert {(one.name, one.limit, one.slots) for one in limits} == {
        (bus, "v_max_pu", 96) for bus in ["B0", "B1", "B2"]
    }
    assert limits[0].excess == pytest.approx(0.05, abs=1e-3)
    assert 'bus "B0": v_max_pu' in summary(limits)[0]


def test_a_voltage_that_batteries_could_lower_is_not_impossible():
    tables = village()
    lines = tables.lines.assign(r_ohm=[0.01, 1.5])
    homes = tables.prosumers.assign(bus_id=["B2", "B2", "B2"])
    load = tables.prosumers.assign(bus_id="B2", load_kw=[0.0, 20.0, 0.0], pv_kw=0.0, battery_discharge_kw=0.0)
    assert found(tables.replace(lines=lines, prosumers=homes)) == []
    limits = found(tables.replace(lines=lines, prosumers=load))  # the evening's load alone
    assert [(one.name, one.limit, one.slots) for one in limits] == [("B2", "v_min_pu", 16)]
    # a battery at the same bus could carry it
    able = load.assign(battery_discharge_kw=[20.0, 0.0, 0.0])
    assert found(tables.replace(lines=lines, prosumers=able)) == []


def test_background_beyond_a_rating_is_found_by_branch_with_its_excess():
    tables = village()
    buses = tables.buses.assign(background_kw=[0.0, 0.0, 130.0])
    limits = found(tables.replace(buses=buses))
    line = next(one for one in limits if one.limit == "s_max_kva")
    # 130 kW of background and the load of H2; nobody flexible is behind the line
    assert (line.kind, line.name, line.slots) == ("line", "L1", 96)
    assert line.excess == pytest.approx(130 + 1.3 * 0.8 - 100, abs=1e-3)


def test_reactive_power_alone_can_exceed_a_rating():
    tables = village()
    buses = tables.buses.assign(background_kvar=[0.0, 0.0, 120.0])
    assert any(
        one.name == "L1" and one.excess == pytest.approx(20, abs=0.1)
        for one in found(tables.replace(buses=buses))
    )


def test_impossible_limits_agree_with_every_corner_of_what_homes_can_do():
    """No draw of injections within the homes' ranges keeps what is called impossible."""
    tables = village()
    tables = tables.replace(
        lines=tables.lines.assign(r_ohm=[0.4, 0.8], s_max_kva=[4.0, 2.0]),
        buses=tables.buses.assign(v_min_pu=0.99, v_max_pu=1.005, background_kw=[0.0, 1.0, 1.5]),
    )
    community = build_community(tables, market="pool")
    horizon = build_horizon(community, tables)
    named = {(one.name, one.limit): one.slots for one in impossible_limits(community, horizon)}
    assert named
    kept = {}
    rng = np.random.default_rng(0)
    flexible = np.asarray(community.prosumers.flexible)
    battery = community.prosumers.battery
    least = -np.asarray(horizon.load) - np.asarray(battery.charge_max)
    most = np.asarray(horizon.pv) + np.asarray(battery.discharge_max) - np.asarray(horizon.load)
    for _ in range(300):
        share = rng.integers(0, 2, least.shape) if _ % 2 else rng.random(least.shape)
        injection = np.where(flexible, least + share * (most - least), 0.0)
        volts, loading, *_ = grid_state(community, horizon, injection)
        for b, bus in enumerate(community.network.bus_ids):
            kept.setdefault((bus, "v_max_pu"), np.zeros(96, bool))
            kept.setdefault((bus, "v_min_pu"), np.zeros(96, bool))
            kept[bus, "v_max_pu"] |= np.asarray(volts[:, b]) <= 1.005
            kept[bus, "v_min_pu"] |= np.asarray(volts[:, b]) >= 0.99
        for k, branch in enumerate(community.network.branch_ids):
            kept.setdefault((branch, "s_max_kva"), np.zeros(96, bool))
            kept[branch, "s_max_kva"] |= np.asarray(loading[:, k]) <= 1
    for (name, limit), slots in named.items():
        assert slots <= 96 - kept[name, limit].sum(), (name, limit)


# --- number type -------------------------------------------------------------------------------------------


def test_float64_without_64_bits_is_refused_and_says_what_to_do():
    import subprocess

    code = (
        "from villages import village\n"
        "from jaxp2p import build_community, build_horizon\n"
        "import jax\n"
        "try: build_community(village(), dtype='float64')\n"
        "except ValueError as error: assert 'jax_enable_x64' in str(error)\n"
        "else: raise SystemExit('quietly float32')\n"
        "with jax.enable_x64(True): community = build_community(village(), dtype='float64')\n"
        "try: build_horizon(community, village())\n"
        "except ValueError as error: assert 'jax_enable_x64' in str(error)\n"
        "else: raise SystemExit('quietly float32')\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd="tests", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with pytest.raises(ValueError, match="choose float32 or float64"):
        build_community(village(), dtype="float16")
