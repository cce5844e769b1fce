"""Grids of other tools: what becomes of every element, what is said of it, and which nets are refused."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_pandapower import small_net
from table_flow import two_port, voltages
from typer.testing import CliRunner

from jaxp2p.cli import app
from jaxp2p.data import InputError, Tables, check, read_tables
from jaxp2p.data.grids.matpower import read_matpower
from jaxp2p.data.grids.matpower_file import read_case
from jaxp2p.data.grids.pandapower_net import read_net
from jaxp2p.data.grids.parts import Branch, Bus, Grid, Head, Load, unique_names
from jaxp2p.data.grids.power_grid_model import grid_of_data, read_power_grid_model
from jaxp2p.data.grids.radial import radial_feeder
from jaxp2p.data.importers import import_net, import_source

FILES = Path(__file__).parent / "grids"


def feeder(net):
    return radial_feeder(read_net(net, "small"))


def reduced(y: np.ndarray, keep: list[int]) -> np.ndarray:
    """Kron reduction: the admittances between the nodes kept when nothing is fed in at the others."""
    gone = [i for i in range(len(y)) if i not in keep]
    inner = np.linalg.solve(y[np.ix_(gone, gone)], y[np.ix_(gone, keep)])
    return y[np.ix_(keep, keep)] - y[np.ix_(keep, gone)] @ inner


@pytest.mark.parametrize("share", [0.5, 0.3])
def test_a_transformer_is_the_two_port_of_its_t_circuit(share):
    net = small_net()
    net["trafo"]["leakage_resistance_ratio_hv"], net["trafo"]["leakage_reactance_ratio_hv"] = share, share
    net["trafo"]["parallel"] = 2
    (branch,) = (b for b in read_net(net, "small").branches if b.kind == "transformer")
    rated = 0.41**2 / 0.4 / 2  # ohm at the low-voltage winding, of both units
    z = complex(0.014, np.sqrt(0.06**2 - 0.014**2)) * rated
    y = 2 * complex(0.00135, -np.sqrt(0.0016**2 - 0.00135**2)) / 0.41**2
    one, two = 1 / (z * share), 1 / (z * (1 - share))
    star = np.array([[one, 0, -one], [0, two, -two], [-one, -two, one + two + y]])
    ours = two_port(branch.impedance, branch.admittance, 1.0, branch.extra)
    np.testing.assert_allclose(ours, reduced(star, [0, 1]), rtol=1e-12)
    assert branch.ratio == pytest.approx(0.975 / (0.41 / 0.4))
    assert branch.rating == 800.0


def test_a_pi_model_has_half_of_the_losses_at_either_end():
    grid = read_net(small_net(), "small", model="pi")
    (branch,) = (b for b in grid.branches if b.kind == "transformer")
    assert branch.admittance.real * 0.41**2 * 1000 == pytest.approx(1.35)  # kW of iron
    assert abs(branch.admittance) * 0.41**2 / 0.4 == pytest.approx(0.004) and branch.extra == 0


def test_a_branch_seen_from_its_other_end_is_the_same_two_port():
    z, y, ratio = 0.3 + 0.4j, 0.002 - 0.01j, 0.95
    grid = Grid("turned", buses=[Bus("low", "low", 0.4), Bus("high", "high", 10.0)])
    grid.heads = [Head("grid", "high", 1.0)]
    grid.branches = [Branch("T", "transformer", "low", "high", z, y, ratio=ratio)]
    made = radial_feeder(grid)
    line = made.lines.iloc[0]
    assert (line["from_bus"], line["to_bus"]) == ("high", "low")
    low, base = 0.4**2, 10.0**2
    whole = two_port(
        complex(line.r_ohm, line.x_ohm) / low, 1e-6 * complex(line.g_us, line.b_us) * low, made.head_ratio
    )
    np.testing.assert_allclose(whole[::-1, ::-1], two_port(z / base, y * base, ratio), rtol=1e-6)
    assert made.buses.set_index("bus_id").loc["high", "v_set_pu"] == pytest.approx(
        ratio
    )  # v_set = vm / (1 / ratio)


def test_a_line_that_is_open_at_one_end_leaves_what_it_draws():
    made = feeder(small_net()).buses.set_index("bus_id")
    z, y = complex(0.2, 0.08), complex(1e-6, 2e-9 * np.pi * 50 * 260)  # the ring, 1 km
    seen = reduced(two_port(z, y, 1.0), [0])[0, 0]
    assert complex(made.loc["farm", "shunt_kw"], -made.loc["farm", "shunt_kvar"]) == pytest.approx(
        1000 * seen * 0.4**2, abs=2e-9
    )


def test_every_element_of_a_net_is_in_the_tables_or_in_the_notes():
    grid = read_net(small_net(), "small")
    made = radial_feeder(grid)
    buses, lines = made.buses.set_index("bus_id"), made.lines.set_index("line_id")
    assert list(buses.index) == ["head", "bar #1", "mill", "farm", "far"]  # two names alike, two buses joined
    assert sorted(lines.index) == ["T", "a", "b", "c"]
    assert buses.loc["mill", "background_kw"] == pytest.approx(30.0)  # 20 and half of 20
    assert buses.loc["far", ["background_z_share", "background_i_share"]].tolist() == [0.4, 0.0]
    assert buses.loc["mill", "shunt_kvar"] == -4.0
    assert lines.loc["b", "r_ohm"] == pytest.approx(0.2 * 0.2 / 2)
    assert lines.loc["b", "s_max_kva"] == pytest.approx(2 * np.sqrt(3) * 0.4 * 270)
    assert lines.loc["b", "b_us"] == pytest.approx(2 * 2 * np.pi * 50 * 260e-3 * 0.2)
    assert buses.loc["head", "v_set_pu"] == pytest.approx(1.02 / (0.975 / 1.025))
    assert [(plant.name, plant.kw, plant.solar) for plant in grid.plants] == [("roof", 30.0, True)]
    assert [(store.name, store.kwh, store.power_kw) for store in grid.stores] == [("store", 20.0, 5.0)]
    said = "\n".join(grid.notes)
    for text in (
        "lines, 1 (tie): left out, they are out of service",
        "1 (ring): left out; what they draw idle",
    ):
        assert text in said
    assert "phase shift" in said


def test_shares_that_one_pair_cannot_tell_become_shunts():
    net = small_net()
    net["load"].loc[3, "const_z_q_percent"] = 0.0
    grid = read_net(net, "small")
    far = radial_feeder(grid).buses.set_index("bus_id").loc["far"]
    assert far[["background_kw", "shunt_kw", "background_kvar"]].tolist() == pytest.approx([12.0, 8.0, 5.0])
    assert any("lamps" in note and "shunts" in note for note in grid.notes)


def test_taps_without_a_type_count_only_where_they_are_asked_for():
    net = small_net()
    net["trafo"]["tap_changer_type"] = None
    left = read_net(net, "small")
    assert any("names no type of tap changer" in note for note in left.notes)
    ratio = [
        b.ratio
        for g in (left, read_net(net, "small", untyped_taps=True))
        for b in g.branches
        if b.name == "T"
    ]
    assert ratio == pytest.approx([1 / 1.025, 0.975 / 1.025])


def test_names_that_repeat_or_are_empty_get_their_number():
    assert unique_names(["a", "b", "a", None, "", "nan"], [0, 1, 2, 3, 4, 5]) == [
        "a #0",
        "b",
        "a #2",
        "3",
        "4",
        "5",
    ]
    assert unique_names(["1", "", "x"], [0, 1, 2]) == ["1 #0", "1 #1", "x"]


def test_a_matpower_case_has_the_voltages_of_its_matrices():
    grid = read_matpower(FILES / "village.m")
    grid.loads += [Load(plant.name, plant.bus, -plant.kw, -plant.kvar) for plant in grid.plants]
    made = radial_feeder(grid)
    # by hand, in p.u. of 0.5 MVA, with the units that the statements at the end of the file make
    y = np.zeros((4, 4), complex)
    y[:2, :2] += two_port(0.01 + 0.05j, 0.002j, 0.975)
    y[1:3, 1:3] += two_port(0.03 + 0.012j, 0, 1.0)
    y[2:, 2:] += two_port(0.05 + 0.015j, 0, 1.0)
    y[1, 1] += 0.01j / 0.5
    s, v = -np.array([0, 0, 0.04 + 0.012j, 0.015 + 0.005j]) / 0.5, np.full(4, 1.02, complex)
    for _ in range(200):
        v[1:] = np.linalg.solve(y[1:, 1:], np.conj(s / v)[1:] - y[1:, 0] * 1.02)
    ours = voltages(made.buses, made.lines)
    assert [ours[name] for name in ("busbar", "farm", "mill; and shop")] == pytest.approx(
        abs(v[1:]), abs=1e-9
    )
    assert made.buses.set_index("bus_id").loc["farm", ["v_min_pu", "v_max_pu"]].tolist() == [0.9, 1.1]
    said = "\n".join(grid.notes)
    for text in ("buses, 1 (ruin)", "without RATE_A", "gen 3", "4-2", "phase shift"):
        assert text in said


def test_a_mat_file_is_read_as_a_program_is(tmp_path):
    from scipy.io import savemat

    case = read_case(FILES / "village.m")
    names = np.array(case["bus_name"], dtype=object)
    fields = {key: case[key] for key in ("baseMVA", "bus", "gen", "branch")}
    savemat(tmp_path / "village.mat", {"mpc": fields | {"bus_name": names}})
    ours, theirs = (radial_feeder(read_matpower(f)) for f in (tmp_path / "village.mat", FILES / "village.m"))
    pd.testing.assert_frame_equal(ours.lines, theirs.lines)
    pd.testing.assert_frame_equal(ours.buses, theirs.buses)


def test_power_grid_model_data_have_the_voltages_that_it_finds():
    stored = json.loads((FILES / "tree_voltages.json").read_text())["u_pu"]
    grid = read_power_grid_model(FILES / "tree.json")
    grid.loads += [Load(plant.name, plant.bus, -plant.kw, -plant.kvar) for plant in grid.plants]
    made = radial_feeder(grid)
    ours = voltages(made.buses, made.lines)
    assert {name: ours[name] for name in stored} == pytest.approx(stored, abs=1e-8)
    assert len(made.buses) == len(stored) + 1  # the bus behind the impedance of the source
    assert any("open at one end" in note for note in grid.notes)


# --- what is wrong with a net, and what is said: (what is done to it, a part of the sentence) ---


def put(table, row, **cells):
    def spoil(net):
        for column, value in cells.items():
            net[table][column] = net[table][column].astype(object) if column in net[table] else None
            net[table].loc[row, column] = value

    spoil.__name__ = f"{table} {', '.join(cells)}"
    return spoil


def no_slack(net):
    net["ext_grid"]["in_service"] = False


def two_slacks(net):
    net["ext_grid"] = pd.concat([net["ext_grid"], net["ext_grid"].assign(bus=4)], ignore_index=True)


def island(net):
    net["line"].loc[1, "in_service"] = False


def loop(net):
    net["switch"]["closed"] = True


def tie_closed(net):
    net["line"].loc[4, "in_service"] = True


def second_transformer(net):
    other = net["trafo"].assign(name="T2", tap_pos=2.0)
    net["trafo"] = pd.concat([net["trafo"], other], ignore_index=True)


def three_windings(net):
    net["trafo3w"] = pd.DataFrame({"in_service": [True]})


def dc_line(net):
    net["dcline"] = pd.DataFrame({"in_service": [True]})


def unknown_type(net):
    put("line", 0, std_type="NAYYY", r_ohm_per_km=np.nan)(net)


WRONG = [
    (no_slack, "0 connections to a grid above; a community has one head"),
    (two_slacks, "2 connections to a grid above (head, farm)"),
    (island, 'disconnected network: 1 bus does not reach the slack bus "head": "farm"'),
    (loop, "meshed network: ring closes the loop"),
    (tie_closed, 'meshed network: tie closes the loop "far" - "bar #1" - "mill" - "far"'),
    (second_transformer, "beside another in parallel, T: a current would go around"),
    (three_windings, "transformers with three windings (1), which cannot be imported"),
    (dc_line, "DC lines (1), which cannot be imported"),
    (unknown_type, 'a: unknown line type "NAYYY", and no impedance of its own'),
    (put("line", 0, length_km=-0.2), "line.length_km: a: -0.2 must be a finite number and not negative"),
    (put("line", 2, x_ohm_per_km=np.inf), "line.x_ohm_per_km: c: inf must be a finite number"),
    (put("line", 1, to_bus=99), "line.to_bus: b: there is no bus 99"),
    (put("line", 1, c_nf_per_km=-3.0), "line.c_nf_per_km: b: -3 must be"),
    (put("line", 1, parallel=0), "line.parallel: b: 0 must be"),
    (put("bus", 3, vn_kv=10.0), "a: a line between 10 kV and 0.4 kV"),
    (put("bus", 3, vn_kv=-0.4), "bus.vn_kv: mill: -0.4 must be a finite number above 0"),
    (put("bus", 2, vn_kv=20.0), "are joined as one bus, with 0.4 kV and 20 kV"),
    (put("trafo", 0, vn_hv_kv=110.0), "trafo.vn_hv_kv: T: 107.25 kV at a bus of 20 kV"),
    (put("trafo", 0, vk_percent=0.0), "trafo.vk_percent: T: 0 must be above 0"),
    (put("trafo", 0, vkr_percent=7.0), "6 must be above 0 and at least vkr_percent = 7"),
    (put("trafo", 0, sn_mva=np.nan), "trafo.sn_mva: T: nan must be a finite number"),
    (put("trafo", 0, lv_bus=77), "trafo.lv_bus: T: there is no bus 77"),
    (put("load", 0, p_mw=np.nan), "load.p_mw: one: nan must be a finite number"),
    (put("load", 0, bus=42), "load.bus: one: there is no bus 42"),
    (put("load", 3, const_z_p_percent=140.0), "shares must be at least 0 and at most 100 %"),
    (put("ext_grid", 0, vm_pu=np.nan), "ext_grid.vm_pu: grid: nan must be"),
    (
        put("storage", 0, min_e_mwh=0.1),
        "storage.max_e_mwh: store: 0.02 must be finite and at least",
    ),
    (put("switch", 0, bus=55), "switch.bus: busbar: there is no bus 55"),
]


@pytest.mark.parametrize(("spoil", "text"), WRONG, ids=lambda x: x.__name__ if callable(x) else "")
def test_a_wrong_net_is_refused_with_what_is_wrong(spoil, text):
    net = small_net()
    spoil(net)
    with pytest.raises(ValueError) as refusal:
        import_net(net, members=3)
    assert text in str(refusal.value)


def no_impedance(net):
    net["line"].loc[0, ["r_ohm_per_km", "x_ohm_per_km"]] = 0.0


def no_rating(net):
    net["line"].loc[0, "max_i_ka"] = np.nan


def type_known(net):
    net["line"].loc[0, "r_ohm_per_km"] = np.nan


def empty_island(net):
    net["bus"] = pd.concat([net["bus"], net["bus"].iloc[[3]].assign(name="lost")], ignore_index=True)


def load_without_bus(net):
    net["bus"].loc[5, "in_service"] = False
    net["line"].loc[3, "in_service"] = False


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (no_impedance, "branches without impedance, 1 (a): the buses at their ends are one"),
        (no_rating, "lines, 1 (a): without a usable max_i_ka, so they are unrated"),
        (type_known, "lines, 1 (a): without impedance, which is that of their type"),
        (empty_island, "buses, 1 (lost): left out, without supply and empty"),
        (load_without_bus, "loads, 1 (lamps): left out, their bus is out of service"),
    ],
)
def test_what_can_be_mended_is_mended_and_said(spoil, text):
    net = small_net()
    spoil(net)
    tables = import_net(net, members=3)
    assert text in tables.meta["changes"]


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("mpc.version = '2';", "mpc.bus = loadcase('other');", "line 4: cannot be read"),
        ("0.975\t150", "-0.975\t150", "must not be negative"),
        ("1\t2\t0.01", "1\t3\t0.01", "mpc.branch.T_BUS: 1-3: there is no bus 3"),
        ("1\t3\t0\t0\t0", "1\t1\t0\t0\t0", "0 connections to a grid above"),
        ("2\t1\t0\t0\t0", "2\t3\t0\t0\t0", "2 connections to a grid above"),
        ("20\t1\t1.05", "0\t1\t1.05", "mpc.bus.BASE_KV: head: 0 must be above 0"),
        ("0.03\t0.012", "0.03\tNaN", "mpc.branch.BR_X: 2-7: nan must be a finite number"),
        ("0.03\t0.012", "-0.03\t0.012", "mpc.branch.BR_R: 2-7: -0.03 must not be negative"),
        ("0\t0\t0\t0\t0;\n];\n\nmpc.bus_name", "0\t0\t0\t0\t1;\n];\n\nmpc.bus_name", "closes the loop"),
        ("mpc.gen = [", "mpc.generators = [", "it has no mpc.gen"),
        ("1\t0\t0\t10\t-10\t1.02", "1\t0\t0\t10\t1.02", "the rows of the matrix have different lengths"),
        ("'ruin';\n};", "'ruin';\n", "a bracket is not closed"),
    ],
)
def test_a_wrong_case_is_refused_with_what_is_wrong(tmp_path, old, new, text):
    program = (FILES / "village.m").read_text()
    assert old in program
    (tmp_path / "wrong.m").write_text(program.replace(old, new, 1))
    with pytest.raises(ValueError) as refusal:
        import_source(str(tmp_path / "wrong.m"), members=3)
    assert text in str(refusal.value)


def test_wrong_power_grid_model_data_are_refused_with_what_is_wrong():
    data = json.loads((FILES / "tree.json").read_text())

    def refusal(change) -> str:
        copy = json.loads(json.dumps(data))
        change(copy)
        with pytest.raises(ValueError) as refused:
            radial_feeder(grid_of_data(copy, "tree"))
        return str(refused.value)

    def first(kind, **cells):
        return lambda copy: copy["data"][kind][0].update(cells)

    assert "of one scenario" in refusal(lambda copy: copy.update(is_batch=True))
    assert "is no power-grid-model data" in refusal(lambda copy: copy.pop("data"))
    assert "three windings (1)" in refusal(lambda c: c["data"].update(three_winding_transformer=[{"id": 1}]))
    assert "line.from_node: 100: there is no node 66" in refusal(first("line", from_node=66))
    assert "node.u_rated: 0: -1 must be a finite number above 0" in refusal(first("node", u_rated=-1))
    assert "line.r1: 100: -0.1 must be finite and not negative" in refusal(first("line", r1=-0.1))
    assert "one of the levels is wrong" in refusal(first("transformer", u1=110e3))
    assert "transformer.pk" in refusal(first("transformer", pk=1e9))
    assert "0 connections to a grid above" in refusal(first("source", status=0))


def test_homes_take_the_place_of_loads_and_plants_are_members():
    tables = import_net(small_net(), name="small", members=0.5, seed=2)
    members = tables.prosumers.set_index("prosumer_id")
    homes = members[members["load_kw"] > 0]
    assert len(homes) == round(0.5 * 70 / 2.5)
    assert members.loc["roof", "pv_kw"] == 30.0 and members.loc["roof", "pv_profile"].startswith("PV")
    assert members.loc["store", "battery_kwh"] == 20.0 and members.loc["store", "battery_charge_kw"] == 5.0
    left = tables.buses["background_kw"].sum()
    assert 0.2 * 70 <= left < 70  # at most 80 % of a bus
    assert "14 homes in place of a part of the loads (seed 2)" in tables.meta["synthetic"]
    again = import_net(small_net(), name="small", members=0.5, seed=2)
    pd.testing.assert_frame_equal(again.prosumers, tables.prosumers)
    assert (homes["pv_kw"] > 0).sum() == round(0.4 * 14)
    assert (
        members.loc["store", "pv_kw"] == members.loc["roof", "battery_kwh"] == 0.0
    )  # they stay what they are
    alone = import_net(small_net(), members=0)
    assert list(alone.prosumers["prosumer_id"]) == ["roof", "store"]
    assert alone.buses["background_kw"].sum() == pytest.approx(70)


def test_without_members_there_is_no_community():
    net = small_net()
    net["sgen"]["in_service"] = net["storage"]["in_service"] = False
    with pytest.raises(ValueError, match="small has no members"):
        import_net(net, name="small", members=0)
    with pytest.raises(ValueError, match=r"members = 2\.5 must be a whole number"):
        import_net(net, name="small", members=2.5)


def test_one_of_several_heads_can_be_chosen():
    net = small_net()
    net["bus"] = pd.concat([net["bus"], net["bus"].iloc[[0]].assign(name="other")], ignore_index=True)
    net["ext_grid"] = pd.concat([net["ext_grid"], net["ext_grid"].assign(bus=6, name="b")], ignore_index=True)
    with pytest.raises(ValueError, match="--head NAME takes one of them"):
        import_net(net, members=3)
    tables = import_net(net, members=3, head="head")
    assert len(tables.buses) == 5
    assert "buses, 1 (other): left out, the named head does not supply them" in tables.meta["changes"]
    with pytest.raises(ValueError, match='no head "east"; there are head, other'):
        import_net(net, members=3, head="east")


def test_the_command_writes_a_folder_and_says_what_is_not_in_it(tmp_path):
    arguments = [
        FILES / "village.m",
        tmp_path / "out",
        "--members",
        "8",
        "--days",
        "1",
        "--battery-share",
        "1",
    ]
    done = CliRunner().invoke(app, ["import", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    assert "note: buses, 1 (ruin): left out, they are isolated (type 4)" in done.stderr
    assert "9 members on 4 buses" in done.stdout
    tables = read_tables(tmp_path / "out")
    assert any("ruin" in text for text in tables.meta["changes"])
    assert (tables.prosumers["battery_kwh"] > 0).sum() == 8 and len(tables.profiles) == 96


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("matpower:nowhere.m", "the file nowhere.m does not exist"),
        ("nowhere.json", "the file nowhere.json does not exist"),
        ("matpwer:case.m", 'did you mean "matpower"?'),
    ],
)
def test_a_source_that_is_not_there_is_a_sentence(source, text):
    with pytest.raises(ValueError) as refusal:
        import_source(source)
    assert text in str(refusal.value)


@pytest.fixture(scope="module")
def village() -> Tables:
    tables = import_source(str(FILES / "village.m"), members=3)
    return tables.replace(profiles=tables.profiles[:4], prices=tables.prices[:4])


def cell(table, row, **cells):
    def spoil(frames):
        for column, value in cells.items():
            frames[table].loc[row, column] = value

    spoil.__name__ = f"{table} {', '.join(cells)}"
    return spoil


def one_more_line(**cells):
    def spoil(frames):
        more = frames["lines"].iloc[[1]].assign(line_id="more").assign(**cells)
        frames["lines"] = pd.concat([frames["lines"], more], ignore_index=True)

    return spoil


def fewer_lines(frames):
    frames["lines"] = frames["lines"].iloc[:2]


WRONG_TABLES = [
    (cell("buses", 0, slack=0.0), "exactly one bus must be the slack bus, not 0"),
    (cell("buses", 2, slack=1.0), "exactly one bus must be the slack bus, not 2 (head, farm)"),
    (fewer_lines, 'disconnected network: 1 bus does not reach the slack bus "head": "mill; and shop"'),
    (one_more_line(from_bus="mill; and shop", to_bus="busbar"), "meshed network: more closes the loop"),
    (one_more_line(to_bus="busbar"), 'both ends are bus "busbar"'),
    (
        one_more_line(kind="transformer", ratio=1.05),
        "more: turns ratio 1.05 beside another in parallel",
    ),
    (one_more_line(to_bus="fram"), 'unknown bus "fram" (did you mean "farm"?)'),
    (one_more_line(line_id="1-2"), '"1-2" stands already in row 1'),
    (cell("lines", 1, r_ohm=-0.1), "2-7: -0.1 ohm must be at least 0"),
    (cell("lines", 1, x_ohm=np.nan), "x_ohm, row 2"),
    (cell("lines", 1, x_ohm=np.inf), "x_ohm, row 2"),
    (cell("lines", 1, x_ohm=960.0), "[impedance_high]"),
    (cell("lines", 1, s_max_kva=0.0), "2-7: 0 kVA must be above 0"),
    (cell("lines", 1, kind="cable"), '"cable" must be "line" or "transformer"'),
    (cell("lines", 1, ratio=1.1), "2-7: a line has no turns ratio, 1.1 must be 1"),
    (cell("lines", 0, kind="line"), "a line between 20 kV and 0.4 kV"),
    (cell("lines", 0, ratio=0.0), "1-2: 0 must be above 0"),
    (cell("lines", 0, g_us=-1.0), "1-2: -1 uS must be at least 0"),
    (cell("lines", 0, b_us=np.inf), "b_us, row 1"),
    (cell("buses", 1, vn_kv=0.0), "busbar: 0 kV must be above 0"),
    (cell("buses", 1, vn_kv=400.0), "[voltage_level]"),
    (cell("buses", 1, v_min_pu=1.2), "v_min_pu = 1.2 must be below v_max_pu = 1.1"),
    (cell("buses", 0, v_set_pu=230.0), "[voltage_limits]"),
    (
        cell("buses", 2, background_z_share=0.7, background_i_share=0.4),
        "with background_z_share it is 1.1 of the load, above 1",
    ),
    (cell("buses", 2, background_profile="fedeer"), 'unknown profile "fedeer" (did you mean "feeder"?)'),
    (cell("buses", 2, shunt_kvar=np.nan), "shunt_kvar, row 3"),
]


@pytest.mark.parametrize(("spoil", "text"), WRONG_TABLES, ids=lambda x: x.__name__ if callable(x) else "")
def test_tables_that_are_wrong_in_the_same_way_are_refused(village, spoil, text):
    frames = {name: frame.copy() for name, frame in village.frames().items()}
    spoil(frames)
    with pytest.raises(InputError) as refusal:
        check(village.replace(**frames))
    assert text in str(refusal.value)


def test_parallel_branches_of_tables_keep_their_shunts(village):
    lines = village.lines.assign(b_us=[1.0, 2.0, 3.0], g_us=[0.1, 0.2, 0.3])
    lines = pd.concat([lines, lines.iloc[[1]].assign(line_id="twin")], ignore_index=True)
    both = check(village.replace(lines=lines)).lines.set_index("line_id").loc["2-7 + twin"]
    assert both[["b_us", "g_us"]].tolist() == [4.0, 0.4]
    assert both["r_ohm"] == pytest.approx(lines["r_ohm"][1] / 2)


needs_pandapower = pytest.mark.skipif(
    importlib.util.find_spec("pandapower") is None, reason="the extra grid is not installed"
)


@needs_pandapower
@pytest.mark.filterwarnings("ignore")
def test_a_pandapower_file_has_the_voltages_that_pandapower_finds(tmp_path):
    import pandapower
    import pandapower.networks

    net = pandapower.networks.create_cigre_network_mv()
    pandapower.to_json(net, str(tmp_path / "cigre.json"))
    tables = import_source(str(tmp_path / "cigre.json"), members=20)
    assert tables.meta["name"] == "cigre" and len(tables.buses) == 15
    made = radial_feeder(read_net(net, "cigre"))
    ours = voltages(made.buses, made.lines)
    pandapower.runpp(net, tolerance_mva=1e-10, numba=False)
    theirs = {made.bus_name[i]: v for i, v in net.res_bus["vm_pu"].items() if made.bus_name[i] != "Bus 0"}
    assert {name: ours[name] for name in theirs} == pytest.approx(theirs, abs=1e-9)


@needs_pandapower
@pytest.mark.filterwarnings("ignore")
def test_a_net_that_pandapower_ships_needs_its_name_only():
    assert len(import_source("pandapower:networks.case33bw", members=10).buses) == 33
    with pytest.raises(ValueError, match="meshed network"):
        import_source("pandapower:case9", members=10)
    with pytest.raises(ValueError, match="ships no net"):
        import_source("pandapower:create_bus")
