"""Stays of electric vehicles: as a table, as drawn, and as the plug calendar that a program sees."""

# ruff: noqa: E501

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner
from villages import village

from jaxp2p.cli import app
from jaxp2p.data import (
    InputError,
    check,
    days_before,
    densify,
    describe_columns,
    embed,
    load_case,
    local_time,
    read_tables,
    validate,
    vehicles,
    window,
    write_tables,
)
from jaxp2p.data.schema import SCHEMA
from jaxp2p.data.stays import slots_of
from jaxp2p.model.build import build_community, build_horizon
from jaxp2p.model.devices import vehicle
from jaxp2p.model.devices.vehicle import STAYS, Plugs, Stay, calendar
from jaxp2p.model.match import require_match

DAY = "2016-07-04"


def stays(**columns) -> pd.DataFrame:
    """Three stays of two vehicles, whose homes are H2 and H1."""
    usual = {
        "vehicle_id": ["car", "van", "car"],
        "prosumer_id": ["H2", "H1", "H2"],
        "arrival": pd.to_datetime([f"{DAY} 01:10", f"{DAY} 12:00", f"{DAY} 17:30"]),
        "departure": pd.to_datetime([f"{DAY} 06:50", f"{DAY} 20:00", "2016-07-05 07:10"]),
        "energy_arrival_kwh": [20.0, 30.0, 25.0],
        "energy_wanted_kwh": [40.0, 30.0, 40.0],
        "battery_kwh": [58.0, 77.0, 58.0],
        "reserve_kwh": [0.0, 20.0, 0.0],
        "charge_kw": [11.0, 11.0, 3.7],
        "discharge_kw": [0.0, 10.0, 0.0],
    }
    return pd.DataFrame({**usual, **columns})


def with_stays(frame: pd.DataFrame | None = None, **columns):
    return village().replace(ev_sessions=stays(**columns) if frame is None else frame)


def texts(items) -> str:
    return "\n".join(map(str, items))


# --- the table ---------------------------------------------------------------------------------------------


def test_columns_that_may_be_absent_take_their_defaults():
    least = ["vehicle_id", "prosumer_id", "arrival", "departure", "charge_kw", "battery_kwh"]
    frame = stays()[[*least, "energy_arrival_kwh", "energy_wanted_kwh"]]
    done = check(with_stays(frame)).ev_sessions
    assert list(done.columns) == [column.name for column in SCHEMA["ev_sessions"]]
    assert set(done["reserve_kwh"]) == set(done["discharge_kw"]) == set(done["wear_cost_eur_per_kwh"]) == {0}
    assert set(done["charge_efficiency"]) == set(done["discharge_efficiency"]) == {0.95}
    assert "energy_wanted_kwh" in describe_columns("ev_sessions")


def test_no_rows_are_no_vehicles():
    none = check(with_stays(stays().iloc[:0]))
    community = build_community(none, market="pool")
    assert community.prosumers.vehicles is None and build_horizon(community, none).plugs is None
    assert community.mark == build_community(village(), market="pool").mark


# fmt: off
BAD = {
    "no such member": ({"prosumer_id": ["H2", "H9", "H2"]}, "prosumer_id", 2, 'unknown prosumer "H9"'),
    "no name": ({"vehicle_id": ["car", "", "car"]}, "vehicle_id", 2, "the cell is empty"),
    "leaves before it comes": ({"departure": pd.to_datetime([f"{DAY} 06:50", f"{DAY} 11:00", f"{DAY} 23:00"])}, "departure", 2, "van: 2016-07-04T11:00:00 is not after arrival = 2016-07-04T12:00:00"),
    "leaves as it comes": ({"departure": pd.to_datetime([f"{DAY} 06:50", f"{DAY} 12:00", f"{DAY} 23:00"])}, "departure", 2, "is not after arrival"),
    "no time": ({"arrival": [f"{DAY} 01:10", "noon", f"{DAY} 17:30"]}, "arrival", 2, "'noon' is not an ISO 8601 time"),
    "one offset": ({"arrival": [f"{DAY} 01:10", f"{DAY} 12:00+02:00", f"{DAY} 17:30"]}, "arrival", 2, "has a UTC offset, row 1 has none"),
    "offsets beside profiles without": ({"arrival": [f"{DAY} 01:10Z", f"{DAY} 12:00Z", f"{DAY} 17:30Z"]}, "arrival", 1, "the times of profiles have none"),
    "overlap": ({"arrival": pd.to_datetime([f"{DAY} 01:10", f"{DAY} 12:00", f"{DAY} 06:00"])}, "arrival", 3, "car: plugged in from 2016-07-04T06:00:00 to 2016-07-05T07:10:00, and from 2016-07-04T01:10:00 to 2016-07-04T06:50:00 in row 1"),
    "two homes": ({"prosumer_id": ["H2", "H1", "H3"]}, "prosumer_id", 3, 'car: "H3" here, "H2" in row 1: a vehicle has one home'),
    "two batteries": ({"battery_kwh": [58.0, 77.0, 60.0]}, "battery_kwh", 3, "car: 60 here, 58 in row 1: a vehicle has one battery"),
    "two efficiencies": ({"charge_efficiency": [0.9, 0.9, 0.95]}, "charge_efficiency", 3, "0.95 here, 0.9 in row 1"),
    "two ways out": ({"discharge_efficiency": [0.9, 0.9, 0.95]}, "discharge_efficiency", 3, "0.95 here, 0.9 in row 1"),
    "two wear costs": ({"wear_cost_eur_per_kwh": [0.0, 0.0, 0.02]}, "wear_cost_eur_per_kwh", 3, "0.02 here, 0 in row 1"),
    "fuller than full": ({"energy_arrival_kwh": [20.0, 78.0, 25.0]}, "energy_arrival_kwh", 2, "van: 78 kWh is above battery_kwh = 77 kWh"),
    "wants too much": ({"energy_wanted_kwh": [40.0, 80.0, 40.0]}, "energy_wanted_kwh", 2, "80 kWh is above battery_kwh = 77 kWh"),
    "keeps too much": ({"reserve_kwh": [0.0, 80.0, 0.0]}, "reserve_kwh", 2, "80 kWh is above battery_kwh = 77 kWh"),
    "less than empty": ({"energy_arrival_kwh": [-1.0, 30.0, 25.0]}, "energy_arrival_kwh", 1, "car: -1 kWh must be at least 0"),
    "wants less than nothing": ({"energy_wanted_kwh": [-1.0, 30.0, 25.0]}, "energy_wanted_kwh", 1, "at least 0"),
    "a charger that is none": ({"charge_kw": [11.0, 0.0, 3.7]}, "charge_kw", 2, "0 kW must be above 0"),
    "efficiency in percent": ({"charge_efficiency": 95.0}, "charge_efficiency", 1, "divide by 100"),
    "charger in W": ({"charge_kw": [11_000.0, 11.0, 11.0]}, "charge_kw", 1, "W instead of kW"),
    "all chargers in MW": ({"charge_kw": 0.011}, "charge_kw", None, "MW instead of kW"),
    "discharger in W": ({"discharge_kw": [0.0, 10_000.0, 0.0]}, "discharge_kw", 2, "W instead of kW"),
    "battery in Wh": ({"battery_kwh": [58.0, 77_000.0, 58.0]}, "battery_kwh", 2, "Wh instead of kWh"),
    "wear in ct": ({"wear_cost_eur_per_kwh": 20.0}, "wear_cost_eur_per_kwh", 1, "ct/kWh"),
}
# fmt: on


def write_raw(tables, folder):
    """CSV files without any check."""
    for name, frame in tables.frames().items():
        frame.to_csv(folder / f"{name}.csv", index=False)
    return folder


@pytest.mark.parametrize("name", BAD)
def test_every_fault_is_named_with_its_cell(name, tmp_path):
    columns, column, row, words = BAD[name]
    tables = with_stays(**columns)
    found = [fault for fault in validate(tables) if (fault.table, fault.column) == ("ev_sessions", column)]
    assert any(fault.row == row and words in fault.message for fault in found), texts(validate(tables))
    with pytest.raises(InputError) as caught:
        read_tables(write_raw(tables, tmp_path))
    assert any(f.column == column and f.row == row and words in f.message for f in caught.value.faults)


def test_faults_come_together():
    columns = {"prosumer_id": ["H2", "H9", "H2"], "reserve_kwh": [60.0, 80.0, 0.0], "charge_kw": -1.0}
    assert len(validate(with_stays(**columns))) == 1 + 2 + 3


def test_a_stay_inside_another_is_found_whatever_lies_between():
    """From 0 to 20 o'clock; from 2 to 3 and from 5 to 6, both inside; another vehicle may."""
    clock = lambda hours: pd.to_datetime(DAY) + pd.to_timedelta(hours, unit="h")
    frame = pd.concat([stays().iloc[[0]]] * 5, ignore_index=True).assign(
        vehicle_id=["car", "car", "car", "van", "car"],
        arrival=clock([5, 0, 2, 2, 20]),
        departure=clock([6, 20, 3, 3, 21]),
    )
    found = [(fault.row, fault.message) for fault in validate(with_stays(frame))]
    assert [row for row, _ in found] == [1, 3] and all("in row 2" in message for _, message in found)


def test_a_vehicle_may_have_another_charger_every_time_and_end_one_stay_as_the_next_begins():
    frame = stays(discharge_kw=[0.0, 10.0, 7.0])
    frame.loc[0, "departure"] = frame.loc[2, "arrival"]
    assert validate(with_stays(frame)) == []


def test_energies_above_the_battery_by_rounding_are_put_onto_it():
    done = check(with_stays(energy_wanted_kwh=[58.0 * (1 + 1e-8), 30.0, 40.0]))
    assert done.ev_sessions["energy_wanted_kwh"].iloc[0] == 58.0


def test_what_is_left_out_and_what_cannot_be_reached_is_remarked_upon():
    """The van needs 20.45 kWh in 1 h, of which 11 kW x 0.95 give 10.45; the car is there for a quarter
    of an hour, but of no slot."""
    times = pd.to_datetime([f"{DAY} 01:10", f"{DAY} 12:00", "2016-07-06 01:00"])
    ends = pd.to_datetime([f"{DAY} 01:25", f"{DAY} 13:05", "2016-07-06 07:00"])
    done = check(with_stays(arrival=times, departure=ends, energy_wanted_kwh=[40.0, 50.45, 40.0]))
    said = {remark.column: remark for remark in done.remarks}
    assert set(said) == {"arrival", "departure", "energy_wanted_kwh"}
    assert said["departure"].row == 1 and "a stay without a whole slot" in said["departure"].message
    assert said["arrival"].row == 3 and "outside of the time of profiles" in said["arrival"].message
    assert said["energy_wanted_kwh"].row == 2 and "by 10.0 kWh" in said["energy_wanted_kwh"].message
    assert check(with_stays()).remarks == ()


def test_what_only_looks_wrong_can_be_taken():
    lorry = with_stays(charge_kw=[11.0, 800.0, 11.0], battery_kwh=[58.0, 1200.0, 58.0])
    names = ("vehicle_power_high", "vehicle_energy_high")
    assert {fault.name for fault in validate(lorry)} == set(names)
    assert {remark.name for remark in check(lorry, accept=names).remarks} == set(names)
    bicycle = with_stays(
        battery_kwh=0.15,
        charge_kw=0.04,
        energy_arrival_kwh=0.1,
        energy_wanted_kwh=0.15,
        reserve_kwh=0.0,
        discharge_kw=0.0,
    )
    assert {fault.name for fault in validate(bicycle)} == {"vehicle_energy_low", "vehicle_power_low"}


# --- files and times ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_round_trip(format, zone, tmp_path):
    frame = stays(vehicle_id=["0012", "12", "0012"], energy_arrival_kwh=[1 / 3, 30.0, 25.0])
    frame.loc[1, "arrival"] += pd.Timedelta(microseconds=250)
    done = check(with_stays(frame), time_zone=zone)
    back = read_tables(write_tables(done, tmp_path / "out", format=format))
    pd.testing.assert_frame_equal(back.ev_sessions, done.ev_sessions, check_exact=True)
    assert back.checked == done.checked
    first = done.ev_sessions["arrival"].iloc[0]
    assert first == pd.Timestamp(f"{DAY} 01:10") - pd.Timedelta(hours=0 if zone is None else 2)
    assert local_time(done).iloc[0] == pd.Timestamp(DAY)


def test_empty_cells_take_their_defaults_from_a_parquet_file(tmp_path):
    folder = write_tables(check(village()), tmp_path / "out", format="parquet")
    stays(reserve_kwh=[None, 20.0, None]).to_parquet(folder / "ev_sessions.parquet")
    assert read_tables(folder).ev_sessions["reserve_kwh"].tolist() == [0, 20, 0]


def test_offsets_from_utc_are_taken_where_the_profiles_have_them_too(tmp_path):
    folder = write_raw(with_stays(), tmp_path)
    for name in ("profiles", "prices"):
        frame = pd.read_csv(folder / f"{name}.csv")
        frame.assign(time=frame["time"].str.replace(" ", "T") + "+02:00").to_csv(folder / f"{name}.csv")
    with pytest.raises(InputError, match="has no UTC offset, the times of profiles have one"):
        read_tables(folder)
    frame = stays(arrival=[f"{DAY}T01:10+02:00", f"{DAY}T12:00+02:00", f"{DAY}T15:30Z"])
    frame = frame.assign(departure=frame["departure"].dt.tz_localize("Europe/Berlin"))
    frame.to_csv(folder / "ev_sessions.csv", index=False)
    done = read_tables(folder)
    assert done.profiles["time"].iloc[0] == pd.Timestamp("2016-07-03 22:00")
    assert done.ev_sessions["arrival"].iloc[2] == pd.Timestamp(f"{DAY} 15:30")
    assert done.ev_sessions["departure"].iloc[2] == pd.Timestamp("2016-07-05 05:10")


def test_of_an_hour_that_comes_twice_the_first_is_meant_and_one_that_is_not_there_is_a_fault():
    tables = village(start="2016-10-30").replace(
        ev_sessions=stays(
            arrival=pd.to_datetime(["2016-10-30 02:30", "2016-10-30 02:30", "2016-10-30 17:30"]),
            departure=pd.to_datetime(["2016-10-30 06:00"] * 2 + ["2016-10-31 06:00"]),
        )
    )
    time = pd.date_range("2016-10-30", periods=96, freq="15min", tz="Europe/Berlin")
    tables = tables.replace(
        profiles=tables.profiles.assign(time=time.tz_localize(None)),
        prices=tables.prices.assign(time=time.tz_localize(None)),
    )
    done = check(tables, time_zone="Europe/Berlin").ev_sessions
    assert done["arrival"].tolist()[:2] == [pd.Timestamp("2016-10-30 00:30")] * 2
    spring = village(start="2016-03-26").replace(
        ev_sessions=stays(
            arrival=pd.to_datetime(["2016-03-27 02:30", "2016-03-26 12:00", "2016-03-27 17:30"]),
            departure=pd.to_datetime(["2016-03-27 06:00", "2016-03-26 13:00", "2016-03-28 06:00"]),
        )
    )
    faults = validate(spring, time_zone="Europe/Berlin")
    assert [(fault.column, fault.row) for fault in faults] == [("arrival", 1)]
    assert "does not exist in Europe/Berlin" in faults[0].message


def test_the_compact_form_keeps_them(tmp_path, monkeypatch):
    done = check(with_stays()).replace(meta={"name": "village", "synthetic": []})
    embed.write_compact({"village": done}, tmp_path)
    monkeypatch.setattr(embed, "FOLDER", tmp_path)
    frames, _ = embed.read_small("village")
    again = check(done.replace(**frames, meta={}))
    pd.testing.assert_frame_equal(again.ev_sessions, done.ev_sessions)


# --- days --------------------------------------------------------------------------------------------------


def four_days():
    """The car comes every evening, the van on the last day only, and only then it can discharge."""
    clock = lambda day, hour: pd.Timestamp(DAY) + pd.Timedelta(days=day, hours=hour)
    rows = [("car", "H2", clock(day, 18), clock(day + 1, 7), 0.0) for day in range(4)]
    rows += [("van", "H2", clock(0, 8), clock(0, 9), 0.0), ("van", "H2", clock(3, 8), clock(3, 9), 10.0)]
    columns = ["vehicle_id", "prosumer_id", "arrival", "departure", "discharge_kw"]
    frame = pd.DataFrame(rows, columns=columns).assign(
        energy_arrival_kwh=20.0, energy_wanted_kwh=30.0, battery_kwh=58.0, charge_kw=11.0
    )
    return check(village(slots=4 * 96).replace(ev_sessions=frame))


def test_a_window_has_the_stays_it_sees_something_of_uncut_and_its_fleet_is_the_whole():
    whole = four_days()
    second = window(whole, start="2016-07-05", days=1)
    assert second.checked is not None and validate(second) == []
    kept = second.ev_sessions
    assert kept["vehicle_id"].tolist() == ["car", "car", "van"]
    assert kept["arrival"].tolist() == [pd.Timestamp(f"2016-07-{day}") for day in ("04 18", "05 18", "07 08")]
    assert kept["departure"].iloc[1] == pd.Timestamp("2016-07-06 07")
    again = window(second, start="2016-07-05", days=0.5)
    assert again.ev_sessions["vehicle_id"].tolist() == ["car", "van"]
    whole_community = build_community(whole, market="pool")
    community = build_community(again, market="pool")
    assert community.mark == whole_community.mark
    assert community.prosumers.vehicles.ids == ("car", "van") and community.prosumers.vehicles.returns
    # the days before a window have the same fleet, so its community takes them
    before = days_before(whole, second.profiles["time"].iloc[0], 28)
    plugs = build_horizon(build_community(second, market="pool"), before).plugs
    assert plugs.there.shape == (96, 2, 3)
    assert plugs.there.sum((0, 2)).tolist() == [24, 4]


def test_a_window_of_tables_as_they_were_made_by_hand():
    """Times as text; a stay whose time is no time is kept, to be complained of."""
    frame = stays(arrival=["2016-07-04T01:10", "2016-07-04T12:00", "soon"]).drop(columns="discharge_kw")
    part = window(with_stays(frame), start=DAY, days=0.25)
    assert part.ev_sessions["arrival"].tolist() == ["2016-07-04T01:10", "2016-07-04T12:00", "soon"]
    assert "'soon' is not an ISO 8601 time" in texts(validate(part))


# --- from the table to the calendar ------------------------------------------------------------------------


def test_arrival_is_rounded_up_and_departure_down():
    time = pd.Series(pd.date_range(DAY, periods=96, freq="15min"))
    arrival = pd.to_datetime(
        [f"{DAY} 01:00", f"{DAY} 01:01", f"{DAY} 01:14:59.999999", "2016-07-03 22:59"], format="ISO8601"
    )
    departure = pd.to_datetime(
        [f"{DAY} 02:00", f"{DAY} 01:59", f"{DAY} 01:29:59.999999", "2016-07-05 00:20"], format="ISO8601"
    )
    found = slots_of(pd.DataFrame({"arrival": arrival, "departure": departure}), time)
    assert found.begin.tolist() == [4, 5, 5, -4] and found.end.tolist() == [8, 7, 6, 97]
    assert found.hours == 0.25
    empty = pd.DataFrame({"arrival": arrival[1:2], "departure": [pd.Timestamp(f"{DAY} 01:29")]})
    assert not slots_of(empty, time).some.any()


def test_the_calendar_of_a_table():
    """The car is at H2 from 01:15 to 06:45 and from 17:30 on, the van at H1 from 12:00 to 20:00."""
    tables = check(with_stays())
    community = build_community(tables, market="pool", dtype="float64")
    horizon = build_horizon(community, tables)
    require_match(community, horizon)
    homes, plugs, fleet = community.prosumers, horizon.plugs, community.prosumers.vehicles
    assert plugs.floor.shape == (96, 1, 3) and fleet.capacity.shape == (1, 3)
    at = {name: homes.ids.index(home) for name, home in (("car", "H2"), ("van", "H1"))}
    assert sorted(fleet.ids, key=lambda name: at[name]) == list(fleet.ids)
    for name, capacity in (("car", 58), ("van", 77)):
        assert fleet.capacity[0, at[name]] == capacity
    car, van = (Plugs(*(np.asarray(x)[:, 0, at[name]] for x in plugs)) for name in ("car", "van"))
    there = np.flatnonzero(car.there)
    np.testing.assert_array_equal(there, [*range(5, 27), *range(70, 96)])
    assert car.arrived[5] == 20 and car.arrived[70] == 25 and (car.arrived[6:27] == STAYS).all()
    np.testing.assert_array_equal(car.charge_max[[5, 70]], [11, 3.7])
    # 40 kWh are wanted: with n quarters of an hour left at least 40 - 0.25 x 0.95 x 11 n
    np.testing.assert_allclose(car.floor[26 - np.arange(4)], 40 - 2.6125 * np.arange(4))
    assert car.most[5] == 40 and van.most[50] == 77
    assert van.discharge_max[50] == 10 and van.floor[48] == 20
    assert homes.flexible.all()


def test_a_home_with_two_vehicles_has_two_seats_for_all():
    tables = check(with_stays(prosumer_id=["H2", "H2", "H2"]))
    community = build_community(tables, market="pool")
    fleet = community.prosumers.vehicles
    home = community.prosumers.ids.index("H2")
    assert fleet.capacity.shape == (2, 3) and fleet.ids == ("car", "van")
    np.testing.assert_array_equal(fleet.seats, [[0, home], [1, home]])
    assert (np.asarray(fleet.charge_efficiency) > 0).all()  # of empty seats too: they are divided by
    one = build_community(check(with_stays()), market="pool")
    assert one.mark != community.mark
    with pytest.raises(ValueError, match="other members or buses, or other vehicles"):
        build_horizon(one, tables)
    with pytest.raises(ValueError, match="other members or buses, or other vehicles"):
        build_horizon(build_community(village(), market="pool"), tables)
    with pytest.raises(ValueError, match="made for"):
        require_match(one, build_horizon(community, tables))
    with pytest.raises(ValueError, match=r"has 2 x 3 seats for vehicles, the community .* 1 x 3"):
        require_match(replace(one, mark=""), build_horizon(community, tables))


def slow_calendar(stays, prices, *, seats, homes, hours):
    """Stay by stay, as the law is told."""
    slots = len(prices)
    plugs = Plugs(*(np.zeros((slots, seats, homes)) for _ in Plugs._fields))
    for stay in stays:
        returns, step = stay.discharge_max > 0, hours * stay.efficiency * stay.charge_max
        most = stay.capacity if returns else max(stay.energy, stay.wanted)
        lowest = min(stay.reserve, stay.energy) if returns else stay.energy

        def floor(slot, stay=stay, step=step, lowest=lowest, most=most):
            reachable = stay.energy + step * (slot + 1 - stay.begin)
            return min(max(lowest, stay.wanted - (stay.end - 1 - slot) * step), reachable, most)

        inside = [slot for slot in range(stay.begin, stay.end) if 0 <= slot < slots]
        start = stay.energy if stay.begin >= 0 else floor(-1)  # the least that it can have by then
        for slot in inside:
            left = stay.end - 1 - slot
            cell = slot, stay.seat, stay.home
            plugs.arrived[cell] = start if slot == inside[0] else STAYS
            plugs.floor[cell] = floor(slot)
            plugs.most[cell], plugs.wanted[cell] = most, stay.wanted
            plugs.charge_max[cell], plugs.discharge_max[cell] = stay.charge_max, stay.discharge_max
            plugs.left[cell] = hours * left
        if not inside:
            continue
        needed = max((stay.wanted - start) / (hours * stay.efficiency), 0.0)
        for slot in sorted(inside, key=lambda slot: prices[slot]):
            power = min(stay.charge_max, needed)
            plugs.planned[slot, stay.seat, stay.home], needed = power, needed - power
    return plugs


def random_stays(draw, *, slots, seats, homes):
    """One after the other on every seat, some before the first slot and some after the last."""
    found = []
    for seat, home in np.ndindex(seats, homes):
        begin = int(draw.integers(-40, 10))
        while begin < slots + 10:
            end = begin + int(draw.integers(1, 60))
            capacity = float(draw.choice([40.0, 58.0, 77.0]))
            energy, wanted, reserve = (capacity * draw.random(3)).tolist()
            power = float(draw.choice([3.7, 11.0, 22.0]))
            back = power * float(draw.random() < 0.4)
            found.append(
                Stay(
                    seat,
                    home,
                    begin,
                    end,
                    energy,
                    wanted,
                    reserve,
                    capacity,
                    power,
                    back,
                    draw.uniform(0.8, 1),
                )
            )
            begin = end + int(draw.integers(0, 20))
    return found


@pytest.mark.parametrize("piece", [50, 1_000_000])
def test_the_calendar_of_many_stays_is_that_of_one_after_the_other(piece, monkeypatch):
    monkeypatch.setattr(vehicle, "_CELLS", piece)
    draw = np.random.default_rng(3)
    stays = random_stays(draw, slots=96, seats=2, homes=9)
    prices = draw.integers(0, 5, 96) / 10  # many that cost the same
    found = calendar(stays, prices, seats=2, homes=9, hours=0.25)
    expected = slow_calendar(stays, prices, seats=2, homes=9, hours=0.25)
    for name in set(Plugs._fields) - {"planned"}:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    np.testing.assert_allclose(found.planned, expected.planned, atol=1e-12)
    assert all(
        x.dtype == np.float32 for x in calendar(stays, prices, seats=2, homes=9, hours=0.25, dtype="f4")
    )
    nothing = calendar([], prices, seats=1, homes=2, hours=0.25)
    assert all(x.shape == (96, 1, 2) and not x.any() for x in nothing)


def test_the_least_charge_of_every_slot_reaches_what_could_be_reached():
    """The theorem of `model/devices/vehicle.py` on a thousand stays, a home each, under the laziest control;

    vehicles that may discharge first lose all that their floor lets them.
    """
    draw = np.random.default_rng(8)
    count, slots, hours = 1000, 96, 0.25
    begin = draw.integers(0, 60, count)
    end = begin + draw.integers(1, 36, count)
    capacity = draw.choice([40.0, 58.0, 77.0], count)
    energy, wanted, reserve = capacity * draw.random((3, count))
    power = draw.choice([3.7, 11.0, 22.0], count)
    back, efficiency = power * (draw.random(count) < 0.5), draw.uniform(0.8, 1, count)
    home = np.arange(count)
    many = Stay(0 * home, home, begin, end, energy, wanted, reserve, capacity, power, back, efficiency)
    plugs = calendar(many, np.zeros(slots), seats=1, homes=count, hours=hours)
    arrived, floor, most, there = (x[:, 0] for x in (plugs.arrived, plugs.floor, plugs.most, plugs.there))
    stored, at_departure = np.zeros(count), np.zeros(count)
    for t in range(slots):
        before = np.where(arrived[t] == STAYS, stored, arrived[t])
        charge = np.maximum(floor[t] - before, 0) / (hours * efficiency)
        assert (charge[there[t]] <= power[there[t]] * (1 + 1e-12)).all()  # it exists
        charge = np.minimum(charge, power)
        lost = np.where(back > 0, np.clip(before - floor[t], 0, hours * back), 0)
        stored = np.where(there[t], before + hours * efficiency * charge - lost, 0)
        assert (stored <= most[t] + 1e-9).all()
        at_departure = np.where(t == end - 1, stored, at_departure)
    reachable = energy + (end - begin) * hours * efficiency * power
    due = np.minimum(wanted, np.minimum(reachable, np.where(back > 0, capacity, np.inf)))
    assert (at_departure >= due - 1e-9).all()
    assert 100 < (reachable < wanted).sum() < 900 and (back > 0).sum() > 300


# --- drawn vehicles ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def year():
    return check(load_case("ieee33", homes=300, ev_share=1.0, seed=2))


def test_drawn_vehicles_keep_the_medians_that_are_told(year):
    frame = year.ev_sessions
    fleet = frame.drop_duplicates("vehicle_id")
    assert len(fleet) == 300
    for column, values, shares in (
        ("battery_kwh", (40, 58, 77), (1 / 3, 1 / 3, 1 / 3)),
        ("charge_kw", (11, 3.7, 22), (0.70, 0.15, 0.15)),
    ):
        counts = fleet[column].value_counts(normalize=True)
        assert set(counts.index) == set(values)
        np.testing.assert_allclose([counts[value] for value in values], shares, atol=0.1)
    returning = fleet[fleet["discharge_kw"] > 0]
    assert 0.18 < len(returning) / 300 < 0.32 and returning["discharge_kw"].max() == 11
    np.testing.assert_allclose(returning["reserve_kwh"], 0.3 * returning["battery_kwh"])
    assert (fleet.loc[fleet["discharge_kw"] == 0, "reserve_kwh"] == 0).all()
    np.testing.assert_allclose(frame["energy_wanted_kwh"], 0.8 * frame["battery_kwh"])
    least = 0.1 * frame["battery_kwh"]
    assert (frame["energy_arrival_kwh"] >= least - 1e-9).all()
    km = (frame["energy_wanted_kwh"] - frame["energy_arrival_kwh"]) / 0.18
    assert abs(km.median() - 28) < 3  # 30 on days of work, 20 on others
    hour = lambda name: frame[name].dt.hour + frame[name].dt.minute / 60
    week = frame["departure"].dt.day_of_week < 5
    assert abs(hour("departure")[week].median() - 7.7) < 0.3
    assert abs(hour("arrival")[frame["arrival"].dt.day_of_week < 5].median() - 17.2) < 0.4
    assert abs(hour("departure")[~week].median() - 11.5) < 0.3
    assert abs(hour("arrival")[frame["arrival"].dt.day_of_week >= 5].median() - 14.5) < 0.4
    leaving = frame["departure"].dt.day_of_week.value_counts() / 300 / 52
    assert leaving[[0, 1, 2, 3, 4]].between(0.7, 0.82).all() and leaving[[5, 6]].between(0.55, 0.65).all()


def test_drawn_vehicles_are_at_home_at_night_and_from_the_first_slot_to_the_last(year):
    frame, time = year.ev_sessions, year.profiles["time"]
    ends = frame.groupby("vehicle_id").agg({"arrival": "min", "departure": "max"})
    assert (ends["arrival"] < time.iloc[0]).all() and (ends["departure"] > time.iloc[-1]).all()
    week = window(year, days=7)
    plugs = build_horizon(build_community(week, market="pool"), week).plugs
    there = np.asarray(plugs.there).reshape(7, 24, 4, 300).mean((0, 2, 3))
    assert (there[:5] == 1).all() and 0.25 < there[12] < 0.5 and there[22] > 0.9
    away = frame["arrival"].to_numpy()[1:] - frame["departure"].to_numpy()[:-1]
    same = frame["vehicle_id"].to_numpy()[1:] == frame["vehicle_id"].to_numpy()[:-1]
    assert away[same].min() >= np.timedelta64(29, "m")


def test_the_year_of_a_driver():
    """What the module tells of the kilometres of a year."""
    trips = vehicles.draw_trips(3000, np.arange(365) % 7 >= 5, np.random.default_rng(1))
    assert 8000 < (trips.km * trips.drives).sum(1).mean() < 10_000
    assert (trips.back - trips.leaves >= 0.5 - 1e-9).all() and trips.back.max() <= 23.5
    work = trips.drives[:, 1:5] & (trips.leaves[:, 1:5] < 9.5)
    assert abs(trips.leaves[:, 1:5][work].std() - 1.0) < 0.1


def test_larger_shares_keep_the_choices_of_smaller_ones_and_seeds_differ():
    plain = load_case("rural3")
    some, same, other = (densify(plain, ev_share=0.3, seed=seed).ev_sessions for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(some, same)
    assert not some.equals(other)
    assert some["prosumer_id"].nunique() == round(0.3 * 153) == some["vehicle_id"].nunique()
    more = densify(plain, ev_share=0.7, seed=1)
    kept = more.ev_sessions[more.ev_sessions["vehicle_id"].isin(some["vehicle_id"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, some)
    assert more.meta["synthetic"][-1] == "electric vehicles of 107 members (seed 1)"
    assert more.prosumers.equals(plain.prosumers)
    assert densify(plain, ev_share=0.0).ev_sessions is None
    with pytest.raises(ValueError, match="ev_share"):
        densify(plain, ev_share=1.5)
    # batteries and plants are drawn as they are without vehicles
    both = densify(plain, pv_share=0.5, battery_share=0.5, ev_share=0.5, seed=1)
    assert both.prosumers.equals(densify(plain, pv_share=0.5, battery_share=0.5, seed=1).prosumers)


def test_vehicles_of_the_table_stay_and_count():
    own = check(with_stays(vehicle_id=["ev_H3", "van", "ev_H3"]))
    assert densify(own, ev_share=0.6).ev_sessions.equals(own.ev_sessions)
    more = check(densify(own, ev_share=1.0))
    assert more.ev_sessions.iloc[:3].equals(own.ev_sessions)
    fresh = more.ev_sessions.iloc[3:]
    assert set(fresh["prosumer_id"]) == {"H3"}
    assert not set(fresh["vehicle_id"]) & {"ev_H3", "van"}  # not the name of somebody else's


def test_drawn_vehicles_follow_the_clock_on_the_wall():
    """The same in UTC: of a summer day in Berlin two hours before what the clock shows."""
    tables = check(village(slots=7 * 96), time_zone="Europe/Berlin")
    there = densify(tables, ev_share=1.0).ev_sessions
    here = densify(village(slots=7 * 96), ev_share=1.0).ev_sessions
    for name in ("arrival", "departure"):
        assert (here[name] - there[name] == pd.Timedelta(hours=2)).all()


def test_a_share_that_can_discharge():
    time = load_case("rural1").profiles["time"][:96]
    members = [f"home {i}" for i in range(200)]
    none, all_ = (vehicles.vehicles_of(members, time, share=1.0, v2h_share=share) for share in (0.0, 1.0))
    assert (none["discharge_kw"] == 0).all() and (all_["discharge_kw"] > 0).all()


# --- the command line --------------------------------------------------------------------------------------


def test_export_with_vehicles_and_check_of_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call = lambda *words: CliRunner().invoke(app, [str(word) for word in words])
    done = call("export", "rural1", "village", "--days", 2, "--ev-share", 0.5)
    assert done.exit_code == 0 and "ev_sessions.csv" in done.output, done.output
    done = call("check", "village")
    assert done.exit_code == 0, done.output
    assert "vehicles     14 of 14 members" in done.stdout and "with vehicle-to-home" in done.stdout
    assert "vehicles  " not in call("check", "rural1").stdout
    (tmp_path / "village" / "ev_sessions.csv").write_text(
        "vehicle_id,prosumer_id,arrival,departure,energy_arrival_kwh,energy_wanted_kwh,battery_kwh,charge_kw\n"
        "zoe,nobody,2016-07-04T18:05,2016-07-05T07:10,21.5,36,41,11\n"
    )
    done = call("check", "village")
    assert done.exit_code == 2
    assert 'ev_sessions.prosumer_id, row 1 (line 2 of a CSV file): unknown prosumer "nobody"' in done.stderr
