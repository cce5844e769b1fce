"""Modes of the limits side by side: two buses in closed form, every column, the command, what is refused."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from test_hosting import LOAD, PV, SLOTS, X, injection_for, two_buses, voltage_for
from typer.testing import CliRunner

import jaxp2p as jp
from jaxp2p.cli import app
from jaxp2p.control.ways import modes as ways_of
from jaxp2p.data import check, write_tables
from jaxp2p.report.modes import MODE_TABLE, SLOT_TABLE, mode_table, modes_text
from jaxp2p.report.modes_picture import mode_name
from jaxp2p.settings.modes import RULES

R = 0.16  # ohm, of the line
V_MAX = 1.0035
SUN = np.array([0, 0.5, 1, 0.8])
PU = 160  # kW per p.u. and ohm at 0.4 kV


def tight():
    """The two buses with a limit of 1.0035 p.u. at the home: LinDistFlow leaves 3.5 of its 4 kW."""
    tables = two_buses()
    return tables.replace(buses=tables.buses.assign(v_max_pu=[1.1, V_MAX]))


@pytest.fixture(scope="module")
def case():
    return jp.build(tight(), days=None, market="none", dtype="float64")


@pytest.fixture(scope="module")
def result(case):
    return jp.modes(case, policy="no_storage", reactive=["cos_phi"])


def fed_in(result, mode):
    """(T,) kW."""
    return np.asarray(result.trajectory(mode).injection)[:, 0]


def test_two_buses_feed_in_what_the_limit_leaves_in_every_mode(result):
    """Without limits all; linearly p of 1 + 2 r p = 1.0035^2; in AC what the voltage itself allows."""
    free = SUN * PV - LOAD
    np.testing.assert_allclose(fed_in(result, "no_limits"), free, atol=1e-4)
    linear = np.minimum(free, (V_MAX**2 - 1) / (2 * R / PU))
    np.testing.assert_allclose(fed_in(result, "linear"), linear, atol=2e-3)
    secure, within = fed_in(result, "secure"), injection_for(V_MAX + 1e-4)
    assert np.all(secure <= within) and np.all(secure >= np.minimum(free, injection_for(V_MAX)) - 0.05)
    table = result.table()
    for mode in ("no_limits", "linear", "secure"):
        injection = fed_in(result, mode)
        row = table.loc[mode]
        assert row["curtailed_kwh"] == pytest.approx((free - injection).sum() / 4, abs=1e-6)
        volts = voltage_for(injection)
        assert row["ac_voltage_max_pu"] == pytest.approx(volts.max(), abs=1e-9)
        assert row["ac_voltage_violation_pu"] == pytest.approx(max(volts.max() - V_MAX, 0), abs=1e-9)
        square = (injection / volts) ** 2  # of the current
        assert row["ac_losses_kwh"] == pytest.approx((square * R / PU).sum() / 4, rel=1e-6)
        assert row["ac_line_loading_max"] == pytest.approx(np.abs(injection / volts).max() / 1000, rel=1e-6)
        bought, sold = np.maximum(-injection, 0), np.maximum(injection, 0)
        assert row["cost_eur"] == pytest.approx((0.3 * bought - 0.08 * sold).sum() / 4, abs=1e-6)
    assert list(table["ac_slots_violated"]) == [1, 0, 0, 0]
    assert table.loc["no_limits", "limit"] == "voltage at bus B1"
    assert table.loc["no_limits", "time"] == pd.Timestamp("2016-07-04 10:30")
    assert table.loc["secure", "limit"] == "" and pd.isna(table.loc["secure", "time"])
    assert (table["slots_not_solved"] == 0).all() and (table["slots_hopeless"] == 0).all()
    assert table.loc["linear", "rounds_max"] == 1 and table.loc["linear", "slots_cleared_again"] == 0


def test_a_rule_of_reactive_power_lets_more_in(case, result):
    """q = -g tan(phi) lowers the square of the voltage by 2 x g tan(phi): nothing is curtailed."""
    row = result.table().loc["secure_cos_phi"]
    assert row["curtailed_kwh"] == pytest.approx(0, abs=1e-3) and row["reactive"] == "cos_phi"
    cos = float(case.inverters.cos_phi[0])
    assert row["inverter_kvarh"] == pytest.approx(PV * SUN.sum() / 4 * np.sqrt(1 - cos**2) / cos, rel=1e-4)
    p, q = PV - LOAD, PV * np.sqrt(1 - cos**2) / cos
    r, x = R / PU, X / PU
    # |v|^4 - (1 + 2 (r p - x q)) |v|^2 + |z|^2 (p^2 + q^2) = 0
    b = 1 + 2 * (r * p - x * q)
    volts = np.sqrt((b + np.sqrt(b**2 - 4 * (r**2 + x**2) * (p**2 + q**2))) / 2)
    assert row["ac_voltage_max_pu"] == pytest.approx(volts, abs=1e-6) and volts < V_MAX
    assert np.isnan(result.table().loc["secure", "inverter_kvarh"])


def test_slots_are_what_the_table_sums_up(result):
    slots, table = result.slots(), result.table()
    assert list(slots.groupby("mode", sort=False).size().items()) == [(mode, SLOTS) for mode in table.index]
    for mode, rows in slots.groupby("mode"):
        assert rows["ac_losses_kw"].sum() / 4 == pytest.approx(table.loc[mode, "ac_losses_kwh"])
        assert rows["curtailed_kw"].sum() / 4 == pytest.approx(table.loc[mode, "curtailed_kwh"], abs=1e-9)
        assert rows["cost_eur"].sum() == pytest.approx(table.loc[mode, "cost_eur"])
        assert rows["violated"].sum() == table.loc[mode, "ac_slots_violated"]
        assert rows["rounds"].max() == table.loc[mode, "rounds_max"]
    assert set(slots["status"]) == {"SOLVED"}


def test_the_printed_table_says_what_is_beyond_and_when(result):
    text = modes_text(result.compared)
    assert "- no_limits: furthest beyond is voltage at bus B1, 2016-07-04 10:30" in text
    beyond = result.table().loc["no_limits", "ac_voltage_violation_pu"]
    (line,) = (line for line in text.splitlines() if line.startswith("no_limits"))
    assert f"{beyond:.4f} p.u." in line and "1/1" in line
    assert "secure_cos_phi: limits kept in AC, reactive power by cos_phi" in " ".join(text.split())
    assert str(result).startswith("Case 'two'")


def test_the_picture_has_a_feeder_per_mode_and_a_line_per_mode(result):
    above, below = result.plot().subfigs
    titles = [axis.get_title() for axis in above.axes if axis.get_title()]
    assert [title.splitlines()[0] for title in titles] == ["no limits", "linear", "secure", "secure, cos phi"]
    volts = result.table().loc["no_limits", "ac_voltage_max_pu"]
    assert titles[0].splitlines()[1].startswith(f"1.000 to {volts:.3f} p.u.")
    (marks,) = (legend for legend in above.legends)
    assert [text.get_text() for text in marks.get_texts()] == ["voltage outside its limits"]
    beyond = below.axes[0].lines[0].get_ydata()  # no limits, over time
    np.testing.assert_allclose(beyond[0], max(0.9 - voltage_for(-LOAD), voltage_for(-LOAD) - V_MAX, 1 - 1.1))
    assert beyond[2] == pytest.approx(volts - V_MAX, abs=1e-9)
    labels = [mode_name(mode.way) for mode in result.compared.modes]
    assert [line.get_label() for line in below.axes[0].lines[: len(labels)]] == labels


def test_every_mode_has_a_colour_of_its_own():
    ways = ways_of("lyapunov", RULES)
    assert len({way.colour for way in ways}) == len({way.name for way in ways}) == 3 + len(RULES)


def test_a_case_with_a_rule_of_its_own_has_a_mode_for_it(case):
    own = jp.build(tight(), days=None, market="none", dtype="float64", reactive="cos_phi")
    table = jp.modes(own, policy="no_storage").table()
    assert list(table.index) == ["no_limits", "linear", "secure", "secure_cos_phi"]
    assert list(table["reactive"]) == ["unity", "unity", "unity", "cos_phi"]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "110")
    return tmp_path


def call(*arguments: object):
    return CliRunner().invoke(app, ["modes", *map(str, arguments)])


def test_the_command_writes_tables_a_picture_and_a_summary(elsewhere, result):
    write_tables(check(tight()), "two")
    given = ("two", "--days", 1 / 24, "--market", "none", "--policy", "no-storage", "--dtype", "float64")
    given = (*given, "--reactive", "cos_phi")
    done = call(*given, "--json", "two.json")
    assert done.exit_code == 0, done.output
    report = json.loads((elsewhere / "two.json").read_text())
    known = mode_table(result.compared).set_index("mode")
    assert list(report["modes"]) == list(known.index)
    for mode, row in report["modes"].items():
        assert row["cost_eur"] == pytest.approx(known.loc[mode, "cost_eur"], abs=1e-9)
    head = {name: report[name] for name in report if name != "modes"}
    assert head == {
        "version": jp.__version__,
        "case": "two",
        "policy": "no_storage",
        "slots": SLOTS,
        "prosumers": 1,
        "buses": 2,
        "market": "none",
        "losses": "shared",
        "dtype": "float64",
    }
    assert report["modes"]["secure"]["limit"] == "" and report["modes"]["secure"]["time"] is None
    assert "furthest beyond is voltage at bus B1" in done.stdout
    (folder,) = (elsewhere / "jaxp2p-results").iterdir()
    assert folder.name.endswith("-none-0.0416667d-modes")
    assert sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()) == [
        "config.toml",
        f"{MODE_TABLE}.csv",
        f"{SLOT_TABLE}.csv",
        "pictures/modes.png",
        "summary.json",
    ]
    assert len(pd.read_csv(folder / f"{SLOT_TABLE}.csv")) == 4 * SLOTS
    again = call(*given, "--quiet", "--no-pictures")
    assert again.exit_code == 0 and not again.stdout
    assert len(list((elsewhere / "jaxp2p-results").iterdir())) == 1  # the same takes the place of the same
    other = call(*given, "--quiet", "--losses", "marginal", "--out", folder)
    assert other.exit_code == 2 and "losses: shared, now marginal" in other.stderr


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--policy", "lyapuno"), 'did you mean "lyapunov"?'),
        (("--policy", "perfect_foresight"), "--policy: unknown value"),
        (("--reactive", "volt_vra"), 'did you mean "volt_var"?'),
        (("--reactive", "unity"), "--reactive: unknown value 'unity'"),
        (("--reactive", ","), "name rules"),
        (("--losses", "none"), "--losses: unknown value"),
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
        jp.modes(case, policy="magic", reactive=["market", "market", "volt_watt"])
    for said in ("unknown policy 'magic'", "named twice", "unknown rule 'volt_watt'"):
        assert said in str(refused.value)
    tables = tight()
    bare = jp.build(tables.replace(prosumers=tables.prosumers.assign(pv_kw=0.0)), days=None, market="none")
    with pytest.raises(ValueError, match="homes with PV"):
        jp.modes(bare, reactive=["market"])


def test_anybodys_own_policy_has_modes(case, result):
    idle = case.policy("no_storage")
    table = jp.modes(case, policy=idle, reactive=[]).table()
    np.testing.assert_allclose(table["cost_eur"], result.table()["cost_eur"].iloc[:3], atol=1e-9)


def test_saved_results_are_not_overwritten_by_others(tmp_path, result):
    folder = result.save(tmp_path / "out")
    assert (folder / "summary.json").exists()
    result.save(folder)
    with pytest.raises(ValueError, match="unknown mode 'best'"):
        result.trajectory("best")
