"""`jaxp2p import`: what becomes of a net, what is refused, what is written. On a fake net and real ones."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pandas as pd
import pytest
from fake_simbench import CODES, fake_simbench, make_net
from typer.testing import CliRunner

from jaxp2p.cli import app
from jaxp2p.data import read_tables, write_tables
from jaxp2p.data.importers import import_source
from jaxp2p.data.simbench import import_simbench, tables_from_net

MEDIUM = "1-MV-rural--0-sw"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "110")


@pytest.fixture
def package(monkeypatch):
    monkeypatch.setitem(sys.modules, "simbench", fake_simbench())


def call(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_medium_voltage_net_with_two_transformers_becomes_a_tree():
    tables = tables_from_net(make_net(), "net")
    assert list(tables.buses["bus_id"]) == ["grid", "busbar 1", "a", "b", "park", "home"]  # busbars joined
    lines = tables.lines.set_index("line_id")
    assert sorted(lines.index) == ["L1", "L2 + L2 again", "L3", "T1 + T2", "T3"]  # tie and across left out
    single = 2.0 * complex(0.2, 0.1)
    double = lines.loc["L2 + L2 again"]
    assert complex(double.r_ohm, double.x_ohm) == pytest.approx(single / 2)
    assert double.s_max_kva == pytest.approx(2 * lines.loc["L1", "s_max_kva"])
    assert any("parallel branches" in text and "T1 + T2" in text for text in tables.meta["changes"])


def test_unequal_parallel_transformers_share_the_current_by_admittance():
    merged = tables_from_net(make_net(), "net").lines.set_index("line_id").loc["T1 + T2"]
    z = []
    for mva, vk in ((25.0, 12.0), (40.0, 16.0)):
        rated = 20.0**2 / mva
        r = 0.005 * rated
        z.append(complex(r, np.sqrt((vk / 100 * rated) ** 2 - r**2)))
    both = z[0] * z[1] / (z[0] + z[1])
    assert complex(merged.r_ohm, merged.x_ohm) == pytest.approx(both, rel=1e-6)
    currents = np.abs(both / np.array(z))  # share of the total that each carries
    assert merged.s_max_kva == pytest.approx(min(25_000 / currents[0], 40_000 / currents[1]))
    assert merged.s_max_kva < 65_000


def test_generation_profiles_are_not_mixed_up_with_loads_of_the_same_name():
    net = make_net()
    net["sgen"] = net["sgen"].iloc[:1]
    tables = tables_from_net(net, "net")
    village = tables.prosumers.set_index("prosumer_id").loc["village"]
    assert village["load_profile"] == "lv_rural1"
    original = make_net().profiles
    load, gen = (tables.profiles[village[f"{use}_profile"]] for use in ("load", "pv"))
    np.testing.assert_array_equal(load, original["load"]["lv_rural1_pload"])
    np.testing.assert_array_equal(gen, original["renewables"]["lv_rural1"].clip(lower=0.0))
    assert village["battery_kwh"] == 400.0 and village["battery_charge_kw"] == 200.0


def test_plants_alone_at_their_voltage_are_a_member_and_not_a_homes():
    net = make_net()
    net["line"] = net["line"].loc[net["line"]["name"] != "L3"]  # the park has its own transformer
    park = dict(net["trafo"].iloc[0], name="T4", lv_bus=5)
    net["trafo"] = pd.concat([net["trafo"], pd.DataFrame([park])], ignore_index=True)
    members = tables_from_net(net, "net").prosumers.set_index("prosumer_id")
    assert members.loc["wind", "pv_kw"] == 3000.0 and members.loc["wind", "load_kw"] == 0.0
    assert members.loc["wind", "bus_id"] == "park"
    assert members.loc["home", "pv_kw"] == members.loc["works", "pv_kw"] == 0.0
    profiles = tables_from_net(net, "net").profiles
    mean = (2 * make_net().profiles["renewables"]["WP4"] + make_net().profiles["renewables"]["PV1"]) / 3
    np.testing.assert_allclose(profiles[members.loc["wind", "pv_profile"]], mean, rtol=1e-12)


def test_taps_at_the_head_are_part_of_the_head_voltage():
    net = make_net()
    net["trafo"].loc[[0, 1], "tap_pos"] = -1.0
    buses = tables_from_net(net, "net").buses
    assert buses.loc[buses["slack"] == 1, "v_set_pu"].item() == pytest.approx(1.025 / 0.985)


def test_a_tap_inside_the_grid_is_the_ratio_of_its_transformer():
    net = make_net()
    net["trafo"].loc[2, "tap_pos"] = 2.0
    lines = tables_from_net(net, "net").lines.set_index("line_id")
    assert lines["ratio"].to_dict() == pytest.approx(dict.fromkeys(lines.index, 1.0) | {"T3": 1.03})


def two_heads(net):
    net["ext_grid"] = pd.concat([net["ext_grid"], net["ext_grid"].assign(bus=5)], ignore_index=True)


def no_head(net):
    net["ext_grid"]["in_service"] = False


def mesh(net):
    net["switch"]["closed"] = True


def different_taps(net):
    net["trafo"].loc[1, "tap_pos"] = 2.0


def three_windings(net):
    net["trafo3w"] = pd.DataFrame({"in_service": [True]})


def no_loads(net):
    net["load"]["in_service"] = False


def cut_off(net):
    net["switch"].loc[2, "closed"] = False


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (two_heads, "2 connections to a grid above (grid, park); a community has one head"),
        (no_head, "0 connections to a grid above; a community has one head"),
        (mesh, 'meshed network: tie closes the loop "park" - "busbar 1" - "a" - "park"'),
        (different_taps, "T2: turns ratio 1.03 beside another in parallel, T1: a current would go around"),
        (three_windings, "transformers with three windings (1), which cannot be imported"),
        (no_loads, "has no loads"),
        (cut_off, "disconnected network"),
    ],
    ids=lambda x: x.__name__ if callable(x) else "",
)
def test_what_no_tree_can_tell_is_refused_in_a_sentence(monkeypatch, tmp_path, spoil, text):
    net = make_net()
    spoil(net)
    monkeypatch.setitem(sys.modules, "simbench", fake_simbench(net))
    done = call("import", MEDIUM, "out")
    assert done.exit_code == 2
    assert text in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("package")
def test_an_imported_folder_passes_check_and_is_what_was_read(tmp_path):
    done = call("import", MEDIUM, "out", "--price", "dynamic", "--seed", 3)
    assert done.exit_code == 0, done.output
    assert "3 members on 6 buses" in done.output
    assert "no faults found" in call("check", "out").output
    ours, theirs = read_tables("out"), import_source(f"simbench:{MEDIUM}", price="dynamic", seed=3)
    for name, frame in theirs.frames().items():
        pd.testing.assert_frame_equal(ours.frames()[name], frame, check_exact=True)
    assert ours.meta["name"] == MEDIUM and "prices (dynamic, seed 3)" in ours.meta["synthetic"]


@pytest.mark.usefixtures("package")
def test_options_choose_days_devices_and_the_format(tmp_path):
    done = call(
        "import", MEDIUM, "out", "--start", "2016-01-02", "--days", 0.5, "--pv-share", 1,
        "--battery-share", 1, "--load-scale", 2, "--format", "parquet",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    tables = read_tables("out")
    assert len(tables.profiles) == 48 and str(tables.profiles["time"].iloc[0]) == "2016-01-02 00:00:00"
    assert (tables.prosumers["pv_kw"] > 0).all() and (tables.prosumers["battery_kwh"] > 0).all()
    assert tables.prosumers.set_index("prosumer_id").loc["works", "load_kw"] == 1000.0
    assert sorted(file.suffix for file in (tmp_path / "out").iterdir()) == [".json", *[".parquet"] * 5]


@pytest.mark.usefixtures("package")
def test_a_second_code_does_not_overwrite_the_first(tmp_path):
    assert call("import", MEDIUM, "out").exit_code == 0
    before = {file: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    done = call("import", CODES[2], "out")
    assert done.exit_code == 2
    assert f'holds the tables of "{MEDIUM}"' in done.stderr
    assert {file: file.read_bytes() for file in (tmp_path / "out").iterdir()} == before


def test_a_folder_with_other_files_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "simbench", None)  # never asked for
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("dear")
    done = call("import", MEDIUM, "out")
    assert done.exit_code == 2 and "is not empty" in done.stderr
    (tmp_path / "file").write_text("")
    assert "is not a folder" in call("import", MEDIUM, "file").stderr


@pytest.mark.usefixtures("package")
def test_nothing_half_written_is_left_when_the_disk_is_full(tmp_path, monkeypatch):
    def full(frame, file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jaxp2p.data.tables._write_one", full)
    assert call("import", MEDIUM, "out").exit_code == 4
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("1-MV-rurl--0-sw", "did you mean 1-MV-rural--0-sw"),
        ("LV-rural1--0-sw", "did you mean 1-LV-rural1--0-sw"),
        ("village", "`jaxp2p import --list` names them"),
        ("simbnch:1-LV-rural1--0-sw", 'did you mean "simbench"?'),
    ],
)
def test_the_nearest_source_is_suggested(source, text):
    done = call("import", source, "out")
    assert done.exit_code == 2
    assert text in done.stderr


@pytest.mark.usefixtures("package")
def test_list_names_what_can_be_imported():
    done = call("import", "--list")
    assert done.exit_code == 0
    listed = [line.strip() for line in done.stdout.splitlines()]
    assert listed[1:4] == CODES[:3] and listed[4].startswith("pandapower: ")  # none above medium voltage
    assert "pandapower:networks.case33bw" in listed
    assert listed[-2].startswith("matpower: ") and listed[-1].startswith("power-grid-model: ")


@pytest.mark.parametrize("arguments", [("import", "--list"), ("import", MEDIUM, "out")])
def test_a_missing_package_is_a_sentence(monkeypatch, arguments):
    monkeypatch.setitem(sys.modules, "simbench", None)
    done = call(*arguments)
    assert done.exit_code == 2
    assert 'pip install ".[grid]"' in done.stderr and "no internet" in done.stderr


def test_a_source_and_a_folder_are_asked_for():
    assert call("import").exit_code == call("import", MEDIUM).exit_code == 2


needs_simbench = pytest.mark.skipif(
    importlib.util.find_spec("simbench") is None, reason="the extra grid is not installed"
)


@needs_simbench
@pytest.mark.parametrize(
    ("code", "members", "buses", "branches"),
    [
        ("1-LV-rural1--0-sw", 13, 15, 14),
        ("1-MV-urban--0-sw", 139, 139, 138),
        ("1-MV-rural--0-sw", 96, 95, 94),
        ("1-MVLV-rural-1.108-0-sw", 108, 109, 108),
    ],
)
def test_real_grids_are_trees_that_can_be_written_and_read(tmp_path, code, members, buses, branches):
    tables = import_simbench(code)
    assert (len(tables.prosumers), len(tables.buses), len(tables.lines)) == (members, buses, branches)
    write_tables(tables.replace(profiles=tables.profiles[:96], prices=tables.prices[:96]), tmp_path / "out")
    pd.testing.assert_frame_equal(read_tables(tmp_path / "out").prosumers, tables.prosumers, check_exact=True)


@needs_simbench
def test_real_meshed_grids_and_grids_with_many_heads_are_refused():
    with pytest.raises(ValueError, match="connections to a grid above"):
        import_simbench("1-HV-mixed--0-sw")
    with pytest.raises(ValueError, match="meshed network"):
        import_simbench("1-HVMV-urban-2.203-0-sw")
