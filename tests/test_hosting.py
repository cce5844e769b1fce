"""Hosting capacity: against closed forms, against an independent power flow, and the command."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from table_flow import voltages
from typer.testing import CliRunner
from villages import village

import jaxp2p as jp
from jaxp2p.cli import app
from jaxp2p.control.ways import BY_NAME, WAYS
from jaxp2p.data import check, load_case, write_tables
from jaxp2p.model.network import on_host
from jaxp2p.report.hosting import (
    Hosted,
    capacity_table,
    hosting_picture,
    hosting_report,
    hosting_text,
    scale_table,
)
from jaxp2p.runs.hosting import Capacity, Point, bisect, looked_at, scaled
from jaxp2p.settings.hosting import Hosting

R, X, PV, LOAD = 0.16, 0.06, 5.0, 1.0  # ohm, kW
SLOTS = 4


def two_buses(rating: float = 1000.0):
    """One home with PV and without storage at the end of a line; four slots with sun 0, 0.5, 1, 0.8."""
    time = pd.date_range("2016-07-04 10:00", periods=SLOTS, freq="15min")
    return jp.Tables(
        prosumers=pd.DataFrame(
            {
                "prosumer_id": ["H"],
                "bus_id": ["B1"],
                "load_profile": ["flat"],
                "load_kw": [LOAD],
                "pv_profile": ["sun"],
                "pv_kw": [PV],
            }
        ),
        buses=pd.DataFrame({"bus_id": ["B0", "B1"], "vn_kv": 0.4, "slack": [1, 0]}),
        lines=pd.DataFrame(
            {
                "line_id": ["L"],
                "from_bus": ["B0"],
                "to_bus": ["B1"],
                "kind": ["line"],
                "r_ohm": [R],
                "x_ohm": [X],
                "s_max_kva": [rating],
            }
        ),
        profiles=pd.DataFrame({"time": time, "flat": 1.0, "sun": [0, 0.5, 1, 0.8]}),
        prices=pd.DataFrame({"time": time, "buy_eur_per_kwh": 0.3, "sell_eur_per_kwh": 0.08}),
        meta={"name": "two"},
    )


def injection_for(voltage: float) -> float:
    """kW at the end of the line for this voltage: of |v|^4 - (1 + 2 r p) |v|^2 + |z|^2 p^2 = 0."""
    r, size = R / 160, (R**2 + X**2) / 160**2  # p.u. per kW at 0.4 kV
    u = voltage**2
    return (r * u - np.sqrt((r * u) ** 2 - size * (u**2 - u))) / size


def voltage_for(injection: float) -> float:
    r, size = R / 160, (R**2 + X**2) / 160**2
    b = 1 + 2 * r * injection
    return np.sqrt((b + np.sqrt(b**2 - 4 * size * injection**2)) / 2)


@pytest.fixture(scope="module")
def case():
    return jp.build(two_buses(), days=None, market="none", dtype="float64")


def uncontrolled(case, **options):
    (found,) = jp.hosting(case, ways=["uncontrolled"], **options).capacities
    return found


def test_the_capacity_of_two_buses_is_that_of_the_voltage_rise(case):
    found = uncontrolled(case, max_scale=40, precision=1e-3)
    truth = (injection_for(1.1 + 1e-4) + LOAD) / PV
    assert found.most.scale <= truth < found.beyond.scale <= found.most.scale * 1.0011
    assert found.most.pv_kw == pytest.approx(PV * found.most.scale)
    assert found.beyond.limit == "voltage at bus B1" and found.beyond.slot == 2
    assert found.beyond.slots_violated == 1
    assert found.most.voltage_max_pu == pytest.approx(voltage_for(PV * found.most.scale - LOAD), abs=1e-9)
    assert found.most.available_kwh == pytest.approx(PV * found.most.scale * 2.3 / 4)


def test_the_capacity_of_two_buses_is_that_of_the_current_of_the_line():
    case = jp.build(two_buses(rating=20.0), days=None, market="none", dtype="float64")
    found = uncontrolled(case, max_scale=40, precision=1e-3)
    at = lambda point: (PV * point.scale - LOAD) / voltage_for(PV * point.scale - LOAD) / 20
    assert at(found.most) <= 1.001 < at(found.beyond)
    assert found.beyond.scale <= found.most.scale * 1.0011
    assert found.beyond.limit == "line L" and found.beyond.slot == 2
    assert found.beyond.loading_max_pct == pytest.approx(100 * at(found.beyond), abs=1e-6)


def test_limits_that_never_bind_give_at_least(case):
    result = jp.hosting(case, ways=["uncontrolled"], max_scale=3)
    row = result.table().loc["uncontrolled"]
    assert row["verdict"] == "at_least" and row["pv_scale"] == 3 and np.isnan(row["fails_at_scale"])
    assert "at least 3" in str(result) and list(result.scales()["scale"]) == [0, 3]


def test_limits_that_do_not_hold_without_pv_give_none():
    tables = two_buses()
    tables.prosumers["load_kw"] = 200.0
    result = jp.hosting(jp.build(tables, days=None, market="none", dtype="float64"), ways=["uncontrolled"])
    row = result.table().loc["uncontrolled"]
    assert row["verdict"] == "none" and np.isnan(row["pv_scale"]) and row["fails_at_scale"] == 0
    assert "none" in str(result) and "without PV: voltage at bus B1" in str(result)


def test_the_capacity_of_a_linear_market_is_where_too_much_is_curtailed(case):
    """LinDistFlow lets the line carry the p of 1 + 2 r p = 1.21; the rest of the PV is curtailed."""
    (found,) = jp.hosting(case, ways=["linear"], max_scale=40, precision=1e-3, solver="admm").capacities
    most, sun = LOAD + 0.21 / (2 * R / 160), np.array([0, 0.5, 1, 0.8])
    share = lambda scale: np.maximum(scale * PV * sun - most, 0).sum() / (scale * PV * sun.sum())
    assert share(found.most.scale) < 0.0502 and share(found.beyond.scale) > 0.0498
    assert found.most.curtailed_share == pytest.approx(share(found.most.scale), abs=2e-4)
    assert found.beyond.scale <= found.most.scale * 1.0011 and found.beyond.reason == "curtailed"
    assert found.beyond.slot == 2 and all(point.slots_violated == 0 for point in found.points)


def test_what_nobody_curtails_is_fed_in_but_within_the_connection(case):
    """A market that curtailed all: without control 1.5 x 5 x (0, 0.5, 1, 0.8) kW are there, less 1 kW."""
    homes = replace(case.community.prosumers, sell_max=jnp.array([5.5]))
    community = on_host(replace(case.community, prosumers=homes))
    _, horizon = scaled(community, case.horizon, 1.5)
    idle = SimpleNamespace(
        injection=np.full((SLOTS, 1), -LOAD), pv_used=np.zeros((SLOTS, 1)), status=np.zeros(SLOTS, int)
    )
    seen = looked_at(community, horizon, idle, 1.5, curtail=0.05)
    assert seen.reason == "curtailed" and seen.curtailed_share == 1
    assert seen.voltage_max_pu == 1 and seen.voltage_min_pu == pytest.approx(voltage_for(-LOAD))
    fed_in = looked_at(community, horizon, idle, 1.5, curtail=0.07, all_fed_in=True)
    assert fed_in.curtailed_share == pytest.approx(1 / 17.25) and not fed_in.reason
    assert fed_in.voltage_max_pu == pytest.approx(voltage_for(5.5), abs=1e-9)


def test_the_bisection_finds_the_border_and_its_ends():
    asked = []

    def up_to(border):
        return lambda x: asked.append(x) or x <= border

    for border, precision in ((3.21, 0.01), (0.07, 0.01), (9.99, 0.1)):
        low, high = bisect(up_to(border), 10, precision)
        assert low <= border < high and high - low <= precision * max(low, 1)
    asked.clear()
    assert bisect(up_to(11), 10, 0.01) == (10, None) and asked == [0, 10]
    assert bisect(up_to(-1), 10, 0.01) == (None, 0.0)
    asked.clear()
    assert bisect(up_to(3.21), 10, 0.01, near=(3.19, 3.22)) == (3.19, 3.22) and asked == [0, 3.19, 3.22]
    for near in ((2, 2.5), (4, 5), (3, 4), (0, 12)):
        low, high = bisect(up_to(3.21), 10, 0.01, near=near)
        assert low <= 3.21 < high and high - low <= 0.01 * low
    assert bisect(up_to(11), 10, 0.01, near=(2, 3)) == (10, None)


def test_scaled_slots_are_those_of_scaled_plants():
    cases = (load_case("rural1", pv_scale=scale) for scale in (1, 2.5))
    options = {"days": 0.25, "start": "2016-07-04T10:00", "reactive": "cos_phi"}
    one, two = (jp.build(tables, **options) for tables in cases)
    larger, again = scaled(one.community, one.horizon, 2.5)
    for name in ("rating", "power", "cos_phi"):
        found, expected = (getattr(c.prosumers.inverters, name) for c in (larger, two.community))
        np.testing.assert_allclose(found, expected, rtol=0.06 if name != "power" else 1e-6)  # of another size
    np.testing.assert_allclose(again.pv, two.horizon.pv, rtol=1e-6)
    for name in ("load", "voltage_base", "flow_base", "active_base", "reactive_base"):
        np.testing.assert_array_equal(getattr(again, name), getattr(two.horizon, name))


def stressed():
    """The village behind a weak line, a few hours around noon; H2 at its end has no PV."""
    tables = village()
    hours = tables.profiles["time"].dt.hour
    chosen = (hours >= 9) & (hours < 15)
    return tables.replace(
        profiles=tables.profiles[chosen].reset_index(drop=True),
        prices=tables.prices[chosen].reset_index(drop=True),
        lines=tables.lines.assign(r_ohm=[0.10, 0.03], x_ohm=[0.05, 0.01], s_max_kva=[60.0, 40.0]),
        buses=tables.buses.assign(v_max_pu=1.03),
    )


def hungry():
    """The same, and before the sun rises the batteries charge at a low price over a long line."""
    tables = village()
    time = tables.profiles["time"]
    chosen = (time.dt.hour >= 3) & (time.dt.hour < 15)
    return tables.replace(
        prosumers=tables.prosumers.assign(battery_start_kwh=[0.8, 0.0, 0.8]),
        profiles=tables.profiles[chosen].reset_index(drop=True),
        prices=pd.DataFrame(
            {
                "time": time,
                "buy_eur_per_kwh": np.where(time.dt.hour < 6, 0.12, 0.40),
                "sell_eur_per_kwh": 0.08,
            }
        )[chosen].reset_index(drop=True),
        lines=tables.lines.assign(r_ohm=[1.0, 0.03]),
        buses=tables.buses.assign(v_min_pu=0.965, v_max_pu=1.05),
    )


KEPT = ("linear", "secure")


@pytest.fixture(scope="module")
def found():
    case = jp.build(stressed(), days=None, market="pool", dtype="float64")
    options = {"max_scale": 6, "precision": 0.02, "solver": "admm"}
    return jp.hosting(case, ways=["uncontrolled", *KEPT], **options)


@pytest.mark.slow
def test_a_market_that_keeps_the_limits_hosts_more(found):
    table = found.table()
    assert (table["verdict"] == "found").all()
    scale = table["pv_scale"]
    assert scale["secure"] >= scale["linear"] > 1.05 * scale["uncontrolled"]
    assert table.loc["uncontrolled", "fails_by"] == "violated"
    assert list(table.loc[["linear", "secure"], "fails_by"]) == ["curtailed", "curtailed"]
    assert table.loc["secure", "limit"].startswith("voltage at bus B")
    assert table.loc["secure", "curtailed_share"] <= 0.05
    points = found.scales()
    secure = points[points["way"] == "secure"]
    assert (secure["slots_violated"] == 0).all() and (secure["slots_not_solved"] == 0).all()
    assert secure["curtailed_share"].is_monotonic_increasing


@pytest.mark.slow
def test_an_independent_power_flow_says_the_same_of_the_border(found):
    """At noon the uncontrolled village feeds in all its PV, less 0.3 of its loads."""
    tables = check(stressed())
    (uncontrolled,) = (c for c in found.capacities if c.way.name == "uncontrolled")
    for point, holds in ((uncontrolled.most, True), (uncontrolled.beyond, False)):
        fed = 10 * point.scale - 0.3 * 2.6
        buses = tables.buses.assign(background_kw=[0, -fed, 0.3 * 1.3])
        highest = max(voltages(buses, tables.lines).values())
        assert (highest <= 1.03 + 1e-4) == holds
        assert point.voltage_max_pu == pytest.approx(highest, abs=1e-7)


@pytest.mark.slow
def test_a_linear_market_that_imports_too_much_hosts_nothing():
    """Losses make the voltage lower than the linear network says; the secure market charges less."""
    case = jp.build(hungry(), days=None, market="pool", dtype="float64", network=False)
    table = jp.hosting(case, ways=KEPT, max_scale=6, precision=0.1, solver="admm").table()
    assert table.loc["linear", "verdict"] == "none" and table.loc["linear", "time"].hour < 6
    assert table.loc["linear", "limit"].startswith("voltage at bus B")
    assert table.loc["secure", "verdict"] == "found" and table.loc["secure", "pv_scale"] > 0.5
    assert table.loc["secure", "fails_by"] == "curtailed"


def point(**changes) -> Point:
    numbers = {
        "scale": 1.5,
        "pv_kw": 15.0,
        "available_kwh": 60.0,
        "curtailed_share": 0.02,
        "slots_violated": 0,
        "voltage_min_pu": 0.97,
        "voltage_max_pu": 1.04,
        "voltage_violation_pu": 0.0,
        "loading_max_pct": 77.0,
        "loading_violation_pct": 0.0,
        "slots_not_solved": 3,
        "reason": "",
        "limit": "line L1",
        "slot": 1,
    }
    return Point(**(numbers | changes))


def on_paper() -> Hosted:
    """Three members with 10 kW of PV, four slots of a quarter hour with 40 kWh of load in all."""
    most = point()
    over = point(scale=1.75, pv_kw=17.5, reason="violated", slots_violated=2, limit="transformer T", slot=3)
    late = point(scale=2.0, reason="curtailed", limit="", slot=0, curtailed_share=0.06)
    bare = point(scale=0.0, reason="violated", slots_violated=4, limit="voltage at bus n2", slot=2)
    capacities = (
        Capacity(BY_NAME["uncontrolled"], most, over, (most, over)),
        Capacity(BY_NAME["linear"], None, bare, (bare,)),
        Capacity(BY_NAME["secure_no_storage"], most, late, (most, late)),
        Capacity(BY_NAME["secure"], most, None, (most,)),
    )
    network = SimpleNamespace(buses=3)
    community = SimpleNamespace(
        size=3,
        network=network,
        market=SimpleNamespace(kind="pool"),
        prosumers=SimpleNamespace(pv_peak=np.array([8.5, 1.5, 0.0])),
    )
    horizon = SimpleNamespace(slots=4, slot_hours=np.array(0.25), load=np.full((4, 2), 20.0))
    time = pd.Series(pd.date_range("2016-07-05 10:15", periods=4, freq="15min"))
    settings = Hosting(curtail=0.05, max_scale=1.5, precision=0.02)
    return Hosted(
        community=community,
        horizon=horizon,
        time=time,
        capacities=capacities,
        settings=settings,
        case="paper",
    )


def test_every_column_of_the_tables_on_paper():
    hosted = on_paper()
    nan = float("nan")
    expected = pd.DataFrame(
        {
            "way": ["uncontrolled", "linear", "secure_no_storage", "secure"],
            "verdict": ["found", "none", "found", "at_least"],
            "pv_scale": [1.5, nan, 1.5, 1.5],
            "pv_kw": [15, nan, 15, 15],
            "pv_share_of_load": [1.5, nan, 1.5, 1.5],
            "curtailed_share": [0.02, nan, 0.02, 0.02],
            "fails_at_scale": [1.75, 0, 2, nan],
            "fails_by": ["violated", "violated", "curtailed", ""],
            "limit": ["transformer T", "voltage at bus n2", "", ""],
            "time": pd.to_datetime(["2016-07-05 11:00", "2016-07-05 10:45", "2016-07-05 10:15", None]),
            "slots_violated": [2, 4, 0, nan],
        }
    )
    pd.testing.assert_frame_equal(capacity_table(hosted), expected, check_dtype=False)
    scales = scale_table(hosted)
    assert list(scales["way"]) == ["uncontrolled"] * 2 + ["linear"] + ["secure_no_storage"] * 2 + ["secure"]
    assert list(scales.columns) == ["way", *(name for name in Point._fields if name != "slot"), "time"]
    row = scales.iloc[1].to_dict()
    assert row == {
        "way": "uncontrolled",
        **{name: value for name, value in hosted.capacities[0].beyond._asdict().items() if name != "slot"},
        "time": pd.Timestamp("2016-07-05 11:00"),
    }


def test_every_figure_of_the_report_on_paper():
    report = hosting_report(on_paper())
    ways = report.pop("ways")
    assert report == {
        "version": jp.__version__,
        "case": "paper",
        "slots": 4,
        "prosumers": 3,
        "buses": 3,
        "market": "pool",
        "dtype": "float64",
        "curtail": 0.05,
        "max_scale": 1.5,
        "precision": 0.02,
        "pv_kw": 10,
        "load_kwh": 40,
    }
    assert ways["secure"] == {
        "verdict": "at_least",
        "pv_scale": 1.5,
        "pv_kw": 15,
        "pv_share_of_load": 1.5,
        "curtailed_share": 0.02,
        "fails_at_scale": None,
        "fails_by": "",
        "limit": "",
        "time": None,
        "slots_violated": None,
    }
    assert ways["linear"]["pv_scale"] is None and ways["linear"]["slots_violated"] == 4


def test_the_printed_table_on_paper():
    lines = hosting_text(on_paper()).splitlines()
    cells = [[cell for cell in line.split("  ") if cell.strip()] for line in lines[:6]]
    strip = lambda row: [cell.strip() for cell in row]
    assert strip(cells[0]) == ["way", "PV times", "kW", "of load", "curtailed", "what ends it"]
    assert strip(cells[2]) == [
        "uncontrolled",
        "1.50",
        "15",
        "150 %",
        "2.0 %",
        "transformer T, 2016-07-05 11:00",
    ]
    assert strip(cells[3]) == [
        "linear",
        "none",
        "-",
        "-",
        "-",
        "without PV: voltage at bus n2, 2016-07-05 10:45",
    ]
    assert strip(cells[4])[-1] == "curtailing, most at 2016-07-05 10:15"
    assert strip(cells[5])[1] == "at least 1.5" and strip(cells[5])[-1] == "nothing that was tried"
    assert "(10 kW now)" in " ".join(lines) and "at most 5 %" in " ".join(lines)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "110")
    return tmp_path


def call(*arguments: object):
    return CliRunner().invoke(app, ["hosting", *map(str, arguments)])


def test_the_command_writes_tables_a_picture_and_a_summary(elsewhere):
    write_tables(check(two_buses()), "two")
    given = ("two", "--days", 1 / 24, "--market", "none", "--ways", "uncontrolled", "--max-scale", 40)
    given = (*given, "--dtype", "float64", "--precision", 0.05)
    done = call(*given, "--json", "two.json")
    assert done.exit_code == 0, done.output
    truth = (injection_for(1.1 + 1e-4) + LOAD) / PV
    report = json.loads((elsewhere / "two.json").read_text())
    row = report["ways"]["uncontrolled"]
    assert row["pv_scale"] <= truth < row["fails_at_scale"] <= 1.051 * row["pv_scale"]
    assert row["limit"] == "voltage at bus B1" and row["time"] == "2016-07-04 10:30:00"
    assert "voltage at bus B1, 2016-07-04 10:30" in done.stdout
    (folder,) = (elsewhere / "jaxp2p-results").iterdir()
    assert folder.name.endswith("-none-0.0416667d-hosting")
    assert sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()) == [
        "config.toml",
        "hosting.csv",
        "hosting_scales.csv",
        "pictures/hosting.png",
        "summary.json",
    ]
    table = pd.read_csv(folder / "hosting.csv").set_index("way")
    assert table.loc["uncontrolled", "pv_scale"] == row["pv_scale"]
    again = call(*given, "--quiet", "--no-pictures")
    assert again.exit_code == 0 and not again.stdout
    assert len(list((elsewhere / "jaxp2p-results").iterdir())) == 1  # the same takes the place of the same
    other = call(*given, "--quiet", "--curtail", 0.5, "--out", folder)
    assert other.exit_code == 2 and "curtail: 0.05, now 0.5" in other.stderr
    compared = CliRunner().invoke(app, ["compare", str(folder), str(folder)])
    assert compared.exit_code == 2 and "no figures of a run" in compared.stderr


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--curtail", 1.5), "'--curtail'"),
        (("--max-scale", 0), "'--max-scale'"),
        (("--max-scale", "inf"), "max_scale must be a finite number"),
        (("--precision", 0), "'--precision'"),
        (("--ways", "secur"), 'did you mean "secure"?'),
        (("--ways", ","), "name at least one way"),
        (("--start", "2016-01-01"), "nobody's PV gives anything in these slots"),
        (("--json", "nowhere/x.json"), "--json: there is no folder nowhere"),
    ],
)
def test_what_cannot_be_is_refused(elsewhere, given, said):
    done = call("rural1", "--days", 0.05, "--market", "none", *given)
    assert done.exit_code == 2, done.output
    assert said in " ".join(done.stderr.split())
    assert not (elsewhere / "jaxp2p-results").exists()


def test_every_fault_of_a_call_is_named_at_once(case):
    with pytest.raises(ValueError) as refused:
        jp.hosting(case, ways=["secure", "secure", "magic"], curtail=-1, precision=0, max_scale=float("nan"))
    for said in ("named twice", "unknown way 'magic'", "curtail is -1", "precision is 0", "max_scale"):
        assert said in str(refused.value)
    with pytest.raises(ValueError, match="at least one way"):
        jp.hosting(case, ways=[])


def test_the_picture_has_a_bar_per_way_and_a_line_of_the_points_that_were_tried(case):
    hosted = on_paper()
    hosted.community.network = on_host(case.community.network)
    bars, volts, curtailed, loading = hosting_picture(hosted).axes
    names = ["uncontrolled", "linear", "secure no storage", "secure"]
    assert [text.get_text() for text in bars.get_yticklabels()] == names
    assert [bar.get_width() for bar in bars.patches] == [1.5, 0, 1.5, 1.5]
    assert [text.get_text().split(" ")[0] for text in bars.texts] == ["1.50", "none:", "1.50", "at"]
    first = [axis.lines[0] for axis in (volts, curtailed, loading)]
    assert [list(line.get_xdata()) for line in first] == [[1.5, 1.75]] * 3
    assert [list(line.get_ydata()) for line in first] == [[1.04, 1.04], [2, 2], [77, 77]]
    assert [axis.lines[-1].get_ydata()[0] for axis in (volts, curtailed, loading)] == [1.1, 5, 100]


def test_ways_have_policies_that_there_are(case):
    assert {way.policy for way in WAYS} <= set(case.policies())
    assert len({way.colour for way in WAYS}) == len(WAYS)
