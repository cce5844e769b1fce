"""Every kind of bad input is refused, and every fault is named."""

# ruff: noqa: E501

from __future__ import annotations

import math
import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from jaxp2p.data import InputError, Tables, check, load_case, read_tables, validate, window, write_tables
from jaxp2p.data.faults import Fault, row_faults

CASE = window(load_case("rural1"), days=1)
BUS, HOME = "LV1.101 Bus 1", "LV1.101 Load 1"


def cell(table, column, value, row=2):
    """An edit of one cell; rows count from 1 as in the messages."""

    def edit(case: Tables) -> Tables:
        frame = case.frames()[table].copy()
        if isinstance(value, str) and frame[column].dtype.kind == "f":
            frame[column] = frame[column].astype(object)
        frame.loc[row - 1, column] = value
        return case.replace(**{table: frame})

    return edit


def table(name, change):
    return lambda case: case.replace(**{name: change(case.frames()[name])})


def column(name, column, change):
    return table(name, lambda frame: frame.assign(**{column: change(frame[column])}))


def rows(name, positions):
    return table(name, lambda frame: frame.iloc[positions].reset_index(drop=True))


def more_rows(name, **values):
    def change(frame):
        fresh = frame.iloc[[-1]].assign(**values)
        return pd.concat([frame, fresh], ignore_index=True)

    return table(name, change)


def trades(**columns):
    return lambda case: case.replace(trades=pd.DataFrame(columns))


def both(*edits):
    def edit(case):
        for one in edits:
            case = one(case)
        return case

    return edit


SLOTS = list(range(96))
GAP = SLOTS[:40] + SLOTS[41:]
TWICE = [*SLOTS[:40], 39, *SLOTS[40:]]
SWAPPED = [*SLOTS[:40], 41, 40, *SLOTS[42:]]
WATT = 1000.0
TIMES = ("profiles", "prices")

# One line per case is easier to read than eight.
# fmt: off
BAD = {
    # name: (edit, table, column, row, part of the message)
    "missing column": (table("prosumers", lambda f: f.drop(columns="load_kw")), "prosumers", "load_kw", None, "missing"),
    "misspelt column": (table("prosumers", lambda f: f.rename(columns={"pv_kw": "pv_kW"})), "prosumers", "pv_kW", None, "did you mean \"pv_kw\""),
    "unknown column": (table("buses", lambda f: f.assign(colour="red")), "buses", "colour", None, "unknown column"),
    "NaN load": (cell("prosumers", "load_kw", math.nan), "prosumers", "load_kw", 2, "NaN"),
    "NaN in optional column": (cell("prosumers", "pv_kw", math.nan), "prosumers", "pv_kw", 2, "NaN"),
    "NaN profile": (cell("profiles", "H0-A", math.nan, row=5), "profiles", "H0-A", 5, "NaN"),
    "NaN price": (cell("prices", "buy_eur_per_kwh", math.nan, row=96), "prices", "buy_eur_per_kwh", 96, "NaN"),
    "infinite load": (cell("prosumers", "load_kw", math.inf), "prosumers", "load_kw", 2, "infinite"),
    "infinite profile": (cell("profiles", "PV8", math.inf), "profiles", "PV8", 2, "infinite"),
    "text for a number": (cell("prosumers", "load_kw", "two"), "prosumers", "load_kw", 2, "'two' is not a number"),
    "decimal comma": (cell("prosumers", "load_kw", "2,5"), "prosumers", "load_kw", 2, "decimal point"),
    "negative capacity": (cell("prosumers", "battery_kwh", -5.0), "prosumers", "battery_kwh", 2, "at least 0"),
    "negative PV": (cell("prosumers", "pv_kw", -5.0), "prosumers", "pv_kw", 2, "-5 kW must be at least 0"),
    "negative load profile": (cell("profiles", "H0-A", -0.1), "profiles", "H0-A", 2, "load profile"),
    "negative PV profile": (cell("profiles", "PV8", -0.1), "profiles", "PV8", 2, "PV profile"),
    "efficiency in percent": (cell("prosumers", "charge_efficiency", 95.0), "prosumers", "charge_efficiency", 2, "percentage"),
    "efficiency of zero": (cell("prosumers", "discharge_efficiency", 0.0), "prosumers", "discharge_efficiency", 2, "above 0"),
    "self-discharge of one": (cell("prosumers", "self_discharge_per_day", 1.0), "prosumers", "self_discharge_per_day", 2, "below 1"),
    "start energy above": (cell("prosumers", "battery_start_kwh", 500.0, row=1), "prosumers", "battery_start_kwh", 1, "outside the limits 0 to"),
    "start energy below": (both(cell("prosumers", "battery_min_kwh", 9.0, row=1), cell("prosumers", "battery_start_kwh", 1.0, row=1)), "prosumers", "battery_start_kwh", 1, "outside the limits 9 to"),
    "min above max energy": (cell("prosumers", "battery_min_kwh", 900.0, row=1), "prosumers", "battery_min_kwh", 1, "above battery_kwh"),
    "leakage above charging": (both(cell("prosumers", "battery_min_kwh", 50.0, row=1), cell("prosumers", "battery_charge_kw", 1e-4, row=1)), "prosumers", "battery_charge_kw", 1, "self-discharge takes"),
    "flexible load without cost": (cell("prosumers", "load_flex_share", 0.2), "prosumers", "load_flex_cost_eur_per_kw2h", 2, "above 0"),
    "PV without profile": (both(cell("prosumers", "pv_kw", 5.0, row=1), cell("prosumers", "pv_profile", "", row=1)), "prosumers", "pv_profile", 1, "no profile"),
    "buy below sell": (cell("prices", "buy_eur_per_kwh", 0.05, row=7), "prices", "buy_eur_per_kwh", 7, "below sell price"),
    "unknown bus of a home": (cell("prosumers", "bus_id", "LV1.101 Bus 99"), "prosumers", "bus_id", 2, "unknown bus \"LV1.101 Bus 99\" (did you mean"),
    "unknown bus of a line": (cell("lines", "to_bus", "nowhere"), "lines", "to_bus", 2, "unknown bus \"nowhere\""),
    "unknown profile": (cell("prosumers", "load_profile", "H0-Z"), "prosumers", "load_profile", 2, "unknown profile \"H0-Z\""),
    "unknown background profile": (cell("buses", "background_profile", "b"), "buses", "background_profile", 2, "unknown profile"),
    "meshed": (more_rows("lines", line_id="tie", from_bus="LV1.101 Bus 1", to_bus="LV1.101 Bus 9"), "lines", "line_id", 15, "meshed network: tie"),
    "disconnected": (rows("lines", [0, *range(2, 14)]), "buses", "bus_id", None, "disconnected network"),
    "self-loop": (more_rows("lines", line_id="loop", from_bus=BUS, to_bus=BUS), "lines", "to_bus", 15, "both ends"),
    "line between voltages": (cell("lines", "kind", "line", row=1), "lines", "kind", 1, "transformer"),
    "unknown kind": (cell("lines", "kind", "cable"), "lines", "kind", 2, "must be"),
    "duplicated home": (cell("prosumers", "prosumer_id", HOME), "prosumers", "prosumer_id", 2, "already in row 1"),
    "duplicated bus": (cell("buses", "bus_id", BUS, row=4), "buses", "bus_id", 4, "already in row 2"),
    "duplicated line": (cell("lines", "line_id", "LV1.101 Line 1", row=4), "lines", "line_id", 4, "already in row 2"),
    "no slack": (column("buses", "slack", lambda s: 0.0 * s), "buses", "slack", None, "exactly one bus"),
    "two slacks": (cell("buses", "slack", 1.0, row=5), "buses", "slack", None, "exactly one bus"),
    "slack neither 0 nor 1": (cell("buses", "slack", 0.5, row=5), "buses", "slack", 5, "0 or 1"),
    "voltage limits swapped": (both(cell("buses", "v_min_pu", 1.1), cell("buses", "v_max_pu", 0.9)), "buses", "v_min_pu", 2, "below v_max_pu"),
    "gap in time": (both(rows("profiles", GAP), rows("prices", GAP)), "profiles", "time", 41, "gap"),
    "duplicate in time": (both(rows("profiles", TWICE), rows("prices", TWICE)), "prices", "time", 41, "stands twice"),
    "disorder in time": (both(rows("profiles", SWAPPED), rows("prices", SWAPPED)), "profiles", "time", 42, "sorted"),
    "no ISO time": (both(*(column(t, "time", lambda s: s.dt.strftime("%d.%m.%Y %H:%M")) for t in TIMES)), "profiles", "time", 1, "ISO 8601"),
    "one slot": (both(rows("profiles", [0]), rows("prices", [0])), "profiles", "time", None, "at least two"),
    "mismatched lengths": (rows("prices", SLOTS[:90]), "prices", "time", None, "90 rows, but the table profiles has 96"),
    "mismatched times": (column("prices", "time", lambda s: s + pd.Timedelta(hours=1)), "prices", "time", 1, "in profiles"),
    "price in EUR/MWh": (column("prices", "buy_eur_per_kwh", lambda s: WATT * s), "prices", "buy_eur_per_kwh", 1, "EUR/MWh"),
    "price in EUR/Wh": (both(column("prices", "buy_eur_per_kwh", lambda s: s / WATT), column("prices", "sell_eur_per_kwh", lambda s: s / WATT)), "prices", "buy_eur_per_kwh", None, "EUR/Wh"),
    "load in W": (column("prosumers", "load_kw", lambda s: WATT * s), "prosumers", "load_kw", 1, "W instead of kW"),
    "load in MW": (column("prosumers", "load_kw", lambda s: s / WATT), "prosumers", "load_kw", None, "MW instead of kW"),
    "load profile in W": (column("profiles", "H0-A", lambda s: 5000 * s), "prosumers", "load_kw", 11, "W instead of kW"),
    "PV in W": (column("prosumers", "pv_kw", lambda s: WATT * s), "prosumers", "pv_kw", 2, "W instead of kW"),
    "battery in Wh": (column("prosumers", "battery_kwh", lambda s: WATT * s), "prosumers", "battery_kwh", 1, "Wh instead of kWh"),
    "battery in MWh": (both(*(column("prosumers", c, lambda s: s / 1e4) for c in ("battery_kwh", "battery_start_kwh"))), "prosumers", "battery_kwh", None, "MWh instead of kWh"),
    "battery power in W": (column("prosumers", "battery_charge_kw", lambda s: WATT * s), "prosumers", "battery_charge_kw", 1, "W instead of kW"),
    "volts for kV": (column("buses", "vn_kv", lambda s: WATT * s), "buses", "vn_kv", 1, "volts"),
    "MV for kV": (column("buses", "vn_kv", lambda s: s / WATT), "buses", "vn_kv", 1, "MV"),
    "limits in volts": (both(cell("buses", "v_min_pu", 207.0), cell("buses", "v_max_pu", 253.0)), "buses", "v_max_pu", 2, "not volts"),
    "milliohm": (column("lines", "r_ohm", lambda s: WATT * s), "lines", "r_ohm", 3, "milliohm"),
    "rating in VA": (column("lines", "s_max_kva", lambda s: WATT * s), "lines", "s_max_kva", 1, "VA"),
    "rating in MVA": (column("lines", "s_max_kva", lambda s: s / WATT), "lines", "s_max_kva", 1, "MVA"),
    "negative resistance": (cell("lines", "r_ohm", -0.1), "lines", "r_ohm", 2, "at least 0"),
    "ratio of a line": (cell("lines", "ratio", 1.02), "lines", "ratio", 2, "a line has no turns ratio, 1.02 must be 1"),
    "parallel transformers of unlike ratios": (more_rows("lines", line_id="T2", from_bus="MV1.101 Bus 4", to_bus="LV1.101 Bus 4", kind="transformer", ratio=1.05), "lines", "ratio", 15, "a current would go around"),
    "shares of more than the load": (both(cell("buses", "background_z_share", 0.7), cell("buses", "background_i_share", 0.4)), "buses", "background_i_share", 2, "1.1 of the load, above 1"),
    "rating of zero": (cell("lines", "s_max_kva", 0.0), "lines", "s_max_kva", 2, "above 0"),
    "empty table": (rows("prosumers", []), "prosumers", "", None, "no rows"),
    "empty name": (cell("prosumers", "bus_id", ""), "prosumers", "bus_id", 2, "empty"),
    "text for a price": (cell("prices", "buy_eur_per_kwh", "cheap"), "prices", "buy_eur_per_kwh", 2, "not a number"),
    "wear in EUR/MWh": (column("prosumers", "wear_cost_eur_per_kwh", lambda s: s + 20.0), "prosumers", "wear_cost_eur_per_kwh", 1, "EUR/MWh"),
    "fee in EUR/MWh": (trades(from_id=[HOME], to_id=["LV1.101 Load 2"], fee_eur_per_kwh=[12.0]), "trades", "fee_eur_per_kwh", 1, "EUR/MWh"),
    "unknown trader": (trades(from_id=[HOME], to_id=["nobody"]), "trades", "to_id", 1, "unknown prosumer"),
    "self-trade": (trades(from_id=[HOME], to_id=[HOME]), "trades", "to_id", 1, "with itself"),
    "pair twice": (trades(from_id=[HOME, "LV1.101 Load 2"], to_id=["LV1.101 Load 2", HOME]), "trades", "to_id", 2, "earlier row"),
    "negative fee": (trades(from_id=[HOME], to_id=["LV1.101 Load 2"], fee_eur_per_kwh=[-0.01]), "trades", "fee_eur_per_kwh", 1, "at least 0"),
    "negative trade limit": (trades(from_id=[HOME], to_id=["LV1.101 Load 2"], limit_kw=[-1.0]), "trades", "limit_kw", 1, "at least 0"),
}
# fmt: on


def found(faults, where, column, row, text):
    return [f for f in faults if (f.table, f.column, f.row) == (where, column, row) and text in f.message]


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    edit, *expected = BAD[name]
    faults = validate(edit(CASE))
    assert found(faults, *expected), "\n".join(map(str, faults))
    with pytest.raises(InputError) as caught:
        check(edit(CASE))
    assert len(caught.value.faults) == len(faults)


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named_in_a_folder(name, tmp_path):
    """The same through CSV files, written without any check."""
    edit, *expected = BAD[name]
    write_raw(edit(CASE), tmp_path)
    with pytest.raises(InputError) as caught:
        read_tables(tmp_path)
    assert found(caught.value.faults, *expected), str(caught.value)


def write_raw(case: Tables, folder) -> None:
    for name, frame in case.frames().items():
        if "time" in frame and frame["time"].dtype.kind == "M":
            frame = frame.assign(time=frame["time"].dt.strftime("%Y-%m-%dT%H:%M:%S"))
        nan = "" if name == "buses" else "NaN"
        frame.to_csv(folder / f"{name}.csv", index=False, na_rep=nan)


def test_good_input_has_no_faults():
    assert validate(CASE) == []
    check(CASE)


def test_all_faults_at_once():
    names = [
        "negative capacity",
        "unknown bus of a line",
        "NaN profile",
        "buy below sell",
        "two slacks",
        "self-trade",
    ]
    case = CASE
    for name in names:
        case = BAD[name][0](case)
    with pytest.raises(InputError) as caught:
        check(case)
    for name in names:
        assert found(caught.value.faults, *BAD[name][1:]), name
        assert BAD[name][4] in str(caught.value)


# fmt: off
FILES = {
    "not UTF-8": (lambda f: f.write_bytes("é".encode("latin-1") + f.read_bytes()), "not UTF-8: byte 0xe9 at offset 0"),
    "half of UTF-16": (lambda f: f.write_bytes(f.read_text().encode("utf-16")[:-1]), "UTF-16"),
    "NUL bytes": (lambda f: f.write_bytes(b"\0\0\0"), "NUL bytes"),
    "empty": (lambda f: f.write_bytes(b""), "empty"),
    "blank": (lambda f: f.write_bytes(b"\n"), "no header line"),
    "header only": (lambda f: f.write_text(f.read_text().splitlines()[0] + "\n"), "no rows"),
    "missing": (lambda f: f.unlink(), "missing"),
    "ragged": (lambda f: f.write_text(f.read_text().rstrip() + ",1,2,3\n"), "not a table"),
    "short header": (lambda f: f.write_text("\n".join(["time", *f.read_text().splitlines()[1:]])), "columns in its header"),
}
# fmt: on


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("table", ["prosumers", "profiles", "prices", "lines"])
def test_bad_files(name, table, tmp_path):
    damage, text = FILES[name]
    folder = write_tables(CASE, tmp_path / "out")
    damage(folder / f"{table}.csv")
    with pytest.raises(InputError) as caught:
        read_tables(folder)
    assert [f for f in caught.value.faults if f.table == table and text in f.message], str(caught.value)


def test_faults_of_all_files_at_once(tmp_path):
    folder = write_tables(CASE, tmp_path / "out")
    (folder / "prices.csv").write_bytes(b"")
    (folder / "buses.csv").write_bytes(b"\xff\x00")
    (folder / "lines.csv").unlink()
    (folder / "case.json").write_text("{")
    homes = (folder / "prosumers.csv").read_text().replace("LV1.101 Load 2,", "LV1.101 Load 1,")
    (folder / "prosumers.csv").write_text(homes)
    with pytest.raises(InputError) as caught:
        read_tables(folder)
    assert {f.table for f in caught.value.faults} == {"prices", "buses", "lines", "case.json", "prosumers"}


def test_header_faults_in_a_file(tmp_path):
    folder = write_tables(CASE, tmp_path / "out")
    file = folder / "prices.csv"
    file.write_text(file.read_text().replace("sell_eur_per_kwh", "buy_eur_per_kwh", 1))
    with pytest.raises(InputError) as caught:
        read_tables(folder)
    assert found(caught.value.faults, "prices", "buy_eur_per_kwh", None, "2 times")
    assert found(caught.value.faults, "prices", "sell_eur_per_kwh", None, "missing")


def test_two_files_for_one_table(tmp_path):
    folder = write_tables(CASE, tmp_path / "out")
    CASE.prices.to_parquet(folder / "prices.parquet")
    with pytest.raises(InputError, match="keep one"):
        read_tables(folder)


def test_broken_parquet(tmp_path):
    folder = write_tables(CASE, tmp_path / "out", format="parquet")
    (folder / "lines.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match="not a Parquet file"):
        read_tables(folder)


def test_no_folder(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_tables(tmp_path / "nowhere")


def test_a_year_of_nan_is_summed_up():
    """Thousands of equal faults neither hide the others nor fill the screen."""
    profiles = CASE.profiles.assign(**{"H0-A": np.nan})
    case = BAD["negative capacity"][0](CASE.replace(profiles=profiles))
    faults = validate(case)
    of_profile = [f for f in faults if f.column == "H0-A"]
    assert len(of_profile) == 21 and "76 more rows" in of_profile[-1].message
    assert found(faults, "prosumers", "battery_kwh", 2, "at least 0")


def test_long_lists_are_cut_in_print_only():
    homes = CASE.prosumers
    bad = homes.assign(**dict.fromkeys(("load_kw", "pv_kw", "battery_charge_kw"), -1.0))
    with pytest.raises(InputError) as caught:
        check(CASE.replace(prosumers=bad))
    assert len(caught.value.faults) > 50
    shown = str(caught.value).splitlines()[1:-1]
    assert f"and {len(caught.value.faults) - len(shown)} more" in str(caught.value)
    assert all(any(name in line for line in shown) for name in ("load_kw", "pv_kw", "battery_charge_kw"))
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.faults == caught.value.faults and str(again) == str(caught.value)


def test_allowed_extremes():
    """Battery without power, equal buy and sell prices, negative prices, unrated line, no reactive profile."""
    case = both(
        column("prosumers", "battery_charge_kw", lambda s: 0.0 * s),
        column("prosumers", "battery_discharge_kw", lambda s: 0.0 * s),
        column("prices", "buy_eur_per_kwh", lambda s: 0.0 * s - 0.01),
        column("prices", "sell_eur_per_kwh", lambda s: 0.0 * s - 0.01),
        column("lines", "s_max_kva", lambda s: 0.0 * s + math.inf),
        cell("buses", "background_kw", -20.0),
    )(CASE)
    assert validate(case) == []


def test_a_fault_says_its_row_and_its_line():
    """Row 1 is the first below the head, so line 2 of a CSV file, unless the line is known to be another."""
    fault = Fault("prosumers", "load_kw", 3, "too much")
    assert str(fault) == "prosumers.load_kw, row 3 (line 4 of a CSV file): too much"
    assert "row 3 (line 9 of a CSV file)" in str(replace(fault, line=9))
    assert str(Fault("prices", "", None, "empty", "name")) == "prices: empty [name]"
    found = row_faults("prices", "time", [False, True, False, True], lambda i: f"cell {i}")
    assert [(fault.row, fault.message) for fault in found] == [(2, "cell 1"), (4, "cell 3")]
