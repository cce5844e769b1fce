"""Every column of the input tables, where it ends up in community and horizon, and what export writes."""

import json

import numpy as np
import pandas as pd
import pytest

from jaxp2p.cli.inspecting import summary_lines
from jaxp2p.control.tuned import FEATURES, TunedValue
from jaxp2p.data import Tables, check, densify, write_tables
from jaxp2p.model.build import build_community, build_horizon
from jaxp2p.tuning.controller_file import read_controller, write_controller

TIME = pd.date_range("2016-07-05 12:00", periods=2, freq="30min")

PROSUMERS = {
    "prosumer_id": ["A", "B"],
    "bus_id": ["n1", "n2"],
    "load_profile": ["house", "flat"],
    "load_kw": [2.0, 3],
    "reactive_profile": ["coil", "flat"],
    "load_kvar": [0.4, 0.5],
    "pv_profile": ["sun", ""],
    "pv_kw": [6.0, 0],
    "inverter_kva": [6.4, 1],
    "least_cos_phi": [0.8, 0.9],
    "battery_kwh": [10.0, 0],
    "battery_min_kwh": [1.0, 0],
    "battery_start_kwh": [5.0, 0],
    "battery_charge_kw": [3.0, 0],
    "battery_discharge_kw": [3.5, 0],
    "charge_efficiency": [0.8, 0.91],
    "discharge_efficiency": [0.7, 0.92],
    "self_discharge_per_day": [0.5, 0],
    "wear_cost_eur_per_kwh": [0.02, 0],
    "curtailment_cost_eur_per_kwh": [0.03, 0],
    "load_flex_share": [0.25, 0],
    "load_flex_cost_eur_per_kw2h": [0.6, 0],
    "buy_max_kw": [21.0, np.inf],
    "sell_max_kw": [13.0, np.inf],
}
BUSES = {  # the slack is not the first row
    "bus_id": ["n2", "0", "n1"],
    "vn_kv": [0.4, 0.4, 0.4],
    "v_min_pu": [0.94, 0.90, 0.95],
    "v_max_pu": [1.06, 1.10, 1.05],
    "slack": [0.0, 1, 0],
    "v_set_pu": [1.0, 1.02, 1],
    "x": [7.0, 5, 6],
    "y": [1.5, 2.5, 3.5],
    "background_profile": ["park", "", ""],
    "background_kw": [0.6, 0, 0.25],
    "background_kvar": [0.1, 0, 0],
    "background_z_share": [0.25, 0, 0],
    "background_i_share": [0.5, 0, 0],
    "shunt_kw": [0.0, 0, 0.15],
    "shunt_kvar": [0.0, 0, -0.35],
}
LINES = {  # one of them from the far end to the near one
    "line_id": ["L", "T"],
    "from_bus": ["n2", "0"],
    "to_bus": ["n1", "n1"],
    "kind": ["line", "transformer"],
    "r_ohm": [0.48, 0.2],
    "x_ohm": [0.32, 0.08],
    "s_max_kva": [40.0, 63],
    "b_us": [2.0, -1.5],
    "g_us": [0.0, 3.5],
    "ratio": [1.0, 0.975],
}
PROFILES = {"house": [0.4, 0.9], "flat": [0.5, 1], "coil": [0.3, 0.7], "sun": [0.2, 0.8], "park": [1.0, 2]}
PRICES = {"buy_eur_per_kwh": [0.30, 0.36], "sell_eur_per_kwh": [0.07, 0.08]}
TRADES = {"from_id": ["B"], "to_id": ["A"], "fee_eur_per_kwh": [0.012], "limit_kw": [4.5]}
ALL = {"prosumers": PROSUMERS, "buses": BUSES, "lines": LINES, "trades": TRADES}
ALL |= {"profiles": {"time": TIME, **PROFILES}, "prices": {"time": TIME, **PRICES}}


@pytest.fixture(scope="module")
def tables():
    return check(Tables(**{name: pd.DataFrame(columns) for name, columns in ALL.items()}, meta={"name": "p"}))


@pytest.fixture(scope="module")
def community(tables):
    return build_community(tables, dtype="float64")


def close(found, expected):
    np.testing.assert_allclose(np.asarray(found, float), expected, rtol=1e-12, atol=1e-15)


def test_every_column_of_the_members(community):
    """B is at the bus that comes first, so it is the first member."""
    homes, battery = community.prosumers, community.prosumers.battery
    assert homes.ids == ("B", "A")
    assert (homes.elastic, homes.limited) == (True, True)
    close(homes.bus, [1, 2])
    fields = {
        "pv_peak": [0, 6],
        "curtailment_cost": [0, 0.03],
        "load_flex_share": [0, 0.25],
        "load_flex_cost": [0, 0.6],
        "buy_max": [np.inf, 21],
        "sell_max": [np.inf, 13],
    }
    for name, values in fields.items():
        close(getattr(homes, name), values)
    cells = {
        "energy_min": [0, 1],
        "energy_max": [0, 10],
        "energy_start": [0, 5],
        "charge_max": [0, 3],
        "discharge_max": [0, 3.5],
        "charge_efficiency": [0.91, 0.8],
        "discharge_efficiency": [0.92, 0.7],
        "wear_cost": [0, 0.02],
    }
    for name, values in cells.items():
        close(getattr(battery, name), values)
    # half is lost in 24 hours: 0.5^(1/48) is kept in half an hour
    np.testing.assert_allclose(battery.retention, [1, 0.985663199], rtol=1e-8)
    assert set(cells) | {"retention"} == set(battery.__dict__)
    others = {"bus", "battery", "vehicles", "inverters", "elastic", "limited", "ids"}
    assert set(fields) | others == set(homes.__dict__) and homes.inverters is None


def test_every_column_of_the_inverters(tables):
    """B has no PV, so it has none."""
    options = {"reactive": "volt_var", "volt_var": (0.92, 0.98, 1.02, 1.08), "secure": True}
    found = build_community(tables, dtype="float64", **options).prosumers.inverters
    for name, values in {"rating": [0, 6.4], "power": [0, 6], "cos_phi": [1, 0.8]}.items():
        close(getattr(found, name), values)
    assert (found.rule, found.curve) == ("volt_var", (0.92, 0.98, 1.02, 1.08))


def test_every_column_of_buses_and_lines(community):
    """0.4 kV: 0.4^2 * 1000 = 160 ohm per p.u. and kW; 0.2 ohm are 0.00125, 0.48 ohm 0.003."""
    grid = community.network
    assert grid.bus_ids == ("0", "n2", "n1")
    assert (grid.branch_ids, grid.branch_kinds) == (("L", "T"), ("line", "transformer"))
    close(grid.paths.resistance, [[0, 0, 0], [0, 0.00425, 0.00125], [0, 0.00125, 0.00125]])
    close(grid.paths.reactance, [[0, 0, 0], [0, 0.0025, 0.0005], [0, 0.0005, 0.0005]])
    close(grid.paths.downstream, [[0, 1, 0], [0, 1, 1]])
    close(grid.slack_voltage, 1.02)
    close(grid.voltage_min, [0.90, 0.94, 0.95])
    close(grid.voltage_max, [1.10, 1.06, 1.05])
    close(grid.rating, [40, 63])


def test_the_rows_that_the_market_keeps(community):
    """Only A, at n1, has something to decide: it moves both voltages by 2 R and the flow in T, not in L."""
    feeder = community.feeder
    close(feeder.flexible, [0, 1])
    close(feeder.count, [1])
    close(feeder.matrix, [[1], [1], [1]])
    close(feeder.scale, [0.0025, 0.0025, 1])
    close(feeder.voltage_bus, [1, 2])
    close(feeder.flow_branch, [1])


def test_every_column_of_the_trades(community):
    market = community.market
    close(market.partner, [[1, 0]])
    close(market.fee, [[0.012, 0.012]])
    close(market.limit, [[4.5, 4.5]])


def test_every_series_of_the_horizon(community, tables):
    horizon = build_horizon(community, tables)
    # with the network: the background, and B, who decides nothing; reactive power of everybody.
    # kW at n2: -0.6 - 3 * 0.5 = -2.1, then -1.2 - 3 = -4.2; at n1 -0.25
    # kvar at n2: -0.1 - 0.25 = -0.35, then -0.2 - 0.5 = -0.7; at n1 -0.4 * 0.3 = -0.12, then -0.28
    # the linear law has the shunts at 1 p.u. besides, 1 uS at 160 ohm is 0.00016 kVA: half of L's charging is
    # 0.00016 kvar at n2 and n1; T: -0.00012 kvar and 0.00028 kW at n1, where the shunt takes 0.15, -0.35
    # n2: -2.1, -0.34984, then -4.2, -0.69984; n1: -0.40028, 0.23004, then -0.40028, 0.07004
    # behind the ratio 0.975 v^2 starts from 1.0404 / 0.975^2; n1: -2 (0.00125 * 2.50028 + 0.0005 * 0.1198),
    # then of 4.60028 and 0.6298; n2: -2 (0.00125 * 0.40028 + 0.00425 * 2.1 - 0.0005 * 0.23004 +
    # 0.0025 * 0.34984), and so on
    idle = 1.0404 / 0.975**2
    expected = {
        "slot_hours": 0.5,
        "load": [[1.5, 0.8], [3, 1.8]],
        "pv": [[0, 1.2], [0, 4.8]],
        "price_buy": [0.30, 0.36],
        "price_sell": [0.07, 0.08],
        "voltage_base": [
            [1.0404, idle - 0.02036986, idle - 0.0063705],
            [1.0404, idle - 0.04012986, idle - 0.0121305],
        ],
        "flow_base": [[-2.1, -2.50028], [-4.2, -4.60028]],
        "flow_reactive": [[-0.34984, -0.1198], [-0.69984, -0.6298]],
        "active_base": [[0, -2.1, -0.25], [0, -4.2, -0.25]],
        "reactive_base": [[0, -0.35, -0.12], [0, -0.7, -0.28]],
        # lowest and highest of what is known, and the mean, less 0.30; then nothing more is known
        "price_ahead": [[0, 0.06, 0.03], [0, 0, 0]],
    }
    assert set(horizon.__dict__) == {*expected, "dependent_base", "plugs", "mark"} and horizon.plugs is None
    # half of n2's background goes with the voltage, a quarter with its square
    parts = [[-0.3, -0.6], [-0.05, -0.1], [-0.15, -0.3], [-0.025, -0.05]]
    for found, at_n2 in zip(horizon.dependent_base, parts, strict=True):
        close(found, [[0, at_n2[0], 0], [0, at_n2[1], 0]])
    for name, values in expected.items():
        np.testing.assert_allclose(getattr(horizon, name), values, rtol=1e-12, atol=1e-12, err_msg=name)


def test_every_column_of_the_exported_tables(tables, tmp_path):
    path = write_tables(tables, tmp_path / "out")
    assert {file.name for file in path.iterdir()} == {f"{name}.csv" for name in ALL} | {"case.json"}
    for name, columns in ALL.items():
        frame = pd.read_csv(path / f"{name}.csv", keep_default_na=False)
        assert set(frame.columns) == set(columns), name
        for column, values in columns.items():
            found = list(frame[column])
            if column == "time":
                assert found == ["2016-07-05T12:00:00", "2016-07-05T12:30:00"]
            elif all(isinstance(value, str) for value in values):
                assert [str(text) for text in found] == values, column
            else:
                assert [float(number) for number in found] == [float(number) for number in values], column
    assert json.loads((path / "case.json").read_text()) == {"name": "p"}


def test_every_number_of_a_controller_file(tmp_path):
    """Two stages, two groups, two knots, one piece; every array has numbers of its own."""
    count = len(FEATURES)
    array = lambda first, *shape: first + np.arange(np.prod(shape)).reshape(shape) / 8
    numbers = {
        "level": array(100, 2, 2, count, 2),
        "drop": array(200, 2, 2, 1, 2),
        "price_low": np.array([0.05, 0.06]),
        "price_high": np.array([0.31, 0.32]),
        "mean": array(300, 2, count),
        "deviation": array(400, 2, count),
        "start": np.array([0.25, 7, 3.5]),
        "hours": np.array(36.0),
    }
    value = TunedValue(**numbers, begins=np.array([0, 96]), group=np.array([1, 0, 1]), slots_per_day=96)
    begins = [pd.Timestamp("2016-07-04"), pd.Timestamp("2016-07-05")]
    file = tmp_path / "controller.json"
    write_controller(file, value, about={"why": "paper"}, begins=begins)
    content = json.loads(file.read_text())
    stages = content.pop("stages")
    assert content == {
        "jaxp2p_controller": 2,
        "about": {"why": "paper"},
        "features": list(FEATURES),
        "slots_per_day": 96,
        "start": [0.25, 7, 3.5],
        "hours": 36.0,
        "group": [1, 0, 1],
    }
    assert [stage.pop("from") for stage in stages] == ["2016-07-04 00:00:00", "2016-07-05 00:00:00"]
    for number, stage in enumerate(stages):
        assert set(stage) == {"level", "drop", "price_low", "price_high", "mean", "deviation"}
        for name, found in stage.items():
            close(found, numbers[name][number])
    # read for a run that begins on the Wednesday after: slots count from Monday
    back = read_controller(file, size=3, first=pd.Timestamp("2016-07-06 06:00"), dtype="float64")
    for name, expected in numbers.items():
        close(getattr(back, name), expected)
    assert list(back.begins) == [0, 96]
    assert list(back.group) == [1, 0, 1]


def test_every_line_of_the_summary_of_check(tables):
    """Loads of 0.8 + 1.5 and 1.8 + 3 kW for half an hour each, in a 24th of a day; PV of 1.2 and 4.8 kW.

    The background is 0.6 + 0.25 and 1.2 + 0.25 kW.
    """
    assert summary_lines(tables) == [
        "p: no faults found",
        "  members      2 on 2 buses",
        "  load         4 kWh (85 a day), peak 4.8 kW",
        "  PV           1 plants, 6.0 kW, 3 kWh",
        "  batteries    1, 10.0 kWh, 3.5 kW",
        "  elastic      1 members with elastic load",
        "  buses        3 at 0.4 kV",
        "  branches     1 line, 1 transformer, ratings 40 to 63 kVA",
        "  voltage      0.9 to 1.1 p.u. allowed",
        "  background   1 kWh on the buses besides the members",
        "  time         2016-07-05 12:00 to 2016-07-05 13:00, 2 slots of 30 min",
        "  prices       buy 0.300 to 0.360, sell 0.070 to 0.080 EUR/kWh",
        "  trades       1 pairs",
    ]


def test_every_column_of_a_new_device(tables):
    """B has 3 kW of `flat`, 0.75 in the mean: 19.71 MWh a year, so 0.8 to 1.6 times that in kW of PV.

    Its battery holds 1 to 2 h of that and fills and empties in two hours, half full at the start.
    """
    one = densify(tables, pv_share=1.0, battery_share=1.0, seed=4).prosumers.iloc[1]
    assert one["pv_profile"] == "sun" and 15.76 <= one["pv_kw"] <= 30
    assert one["pv_kw"] - 0.05 <= one["battery_kwh"] <= 2 * one["pv_kw"] + 0.05
    for column in ("battery_start_kwh", "battery_charge_kw", "battery_discharge_kw"):
        assert one[column] == one["battery_kwh"] / 2
    names = ("battery_min_kwh", "charge_efficiency", "discharge_efficiency", "self_discharge_per_day")
    assert [one[name] for name in names] == [0, 0.95, 0.95, 0.0013]
    scaled = densify(tables, pv_scale=2.0, battery_scale=3.0, load_scale=5.0)
    first, bus = scaled.prosumers.iloc[0], scaled.buses.iloc[0]
    names = ("pv_kw", "battery_kwh", "battery_min_kwh", "battery_start_kwh", "battery_charge_kw")
    assert [first[name] for name in names] == [12, 30, 3, 15, 9]
    names = ("battery_discharge_kw", "load_kw", "load_kvar")
    assert [first[name] for name in names] == [10.5, 10, 2]
    assert (bus["background_kw"], bus["background_kvar"]) == (3, 0.5)
