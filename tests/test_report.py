"""Tables that fit the terminal; pictures of full, poor and odd runs, without a warning."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from communities import small
from fake_runs import POLICIES, fake_run

from jaxp2p.control.catalogue import COLOURS, MPC_POLICIES, TUNED, WITH_VEHICLES
from jaxp2p.data import load_case, window
from jaxp2p.model.build import build_community, build_horizon
from jaxp2p.report.canvas import PictureData
from jaxp2p.report.kpis import evaluate
from jaxp2p.report.layout import branch_ends, bus_places, tree_layout
from jaxp2p.report.money import running_cost
from jaxp2p.report.pictures import PICTURES, write_pictures
from jaxp2p.report.tables import notes, text_tables
from jaxp2p.runs.runner import bound_reasons


def picture_data(
    case="rural1", *, days=1.0, policies=POLICIES, market="bilateral", coordinates=True, **options
):
    tables = window(load_case(case, **options), start="2016-07-05", days=days)
    community = build_community(tables, market=market)
    horizon = build_horizon(community, tables)
    run = fake_run(community, horizon, policies=policies)
    places = tables.buses.set_index("bus_id").loc[list(community.network.bus_ids), ["x", "y"]].to_numpy()
    return run, PictureData(
        community=community,
        horizon=horizon,
        trajectories=run.trajectories,
        evaluations=evaluate(community, horizon, run),
        time=tables.profiles["time"],
        terminal_price=run.terminal_price,
        title="test",
        coordinates=places if coordinates else None,
    )


@pytest.fixture(scope="module")
def full():
    return picture_data()


def kpis_of(data):
    return {name: evaluation.kpis for name, evaluation in data.evaluations.items()}


def test_text_table_fits(full):
    kpis = kpis_of(full[1])
    wide, narrow = text_tables(kpis, width=200), text_tables(kpis, width=110)
    assert max(map(len, wide.splitlines())) <= 170
    assert max(map(len, narrow.splitlines())) <= 110
    assert narrow.count("lyapunov_standard") == 2
    assert wide.count("lyapunov_standard") == 1
    assert len({len(line) for line in wide.splitlines()}) == 1
    assert f"{kpis['lyapunov']['cost_eur']:,.2f}" in wide
    assert "nan" not in wide + narrow
    assert "None" not in wide + narrow


def test_missing_figures_are_dashes():
    _, data = picture_data(policies=("greedy",))
    row = text_tables(kpis_of(data), width=200).splitlines()[-1]
    assert row.split()[2:4] == ["-", "-"]


def test_tiny_violations_are_not_called_zero(full):
    kpis = kpis_of(full[1])
    kpis["greedy"] = {**kpis["greedy"], "ac_voltage_violation_pu": 3e-6, "soc_violation_kwh": 0.0}
    row = next(x for x in text_tables(kpis, width=200).splitlines() if x.startswith("greedy"))
    assert "3e-6" in row


def test_notes(full):
    run, data = full
    kpis = kpis_of(data)
    kpis["greedy"] = {**kpis["greedy"], "slots_not_solved": 2, "status_counts": {"SOLVED": 94, "MAX_ITER": 2}}
    text = "\n".join(notes(run, kpis))
    assert "capture is a lower bound" in text
    assert "outside the limits of the grid" in text  # the transformer of rural1
    assert "greedy: not every slot was solved (94 SOLVED, 2 MAX_ITER)" in text
    exact = notes(run._replace(perfect_foresight_is_bound=False, lower_bound_eur=None), {})
    assert "lower bound" not in "\n".join(exact)


def test_all_pictures(full, tmp_path):
    seen = []
    files = write_pictures(tmp_path, full[1], done=seen.append)
    assert seen == list(PICTURES)
    assert [file.stem for file in files] == [name for name in PICTURES if name != "vehicles"]  # none there
    for file in files:
        assert file.read_bytes().startswith(b"\x89PNG")
        assert file.stat().st_size > 10_000


@pytest.mark.parametrize(
    "options",
    [
        {"policies": ("greedy",)},
        {"policies": ("no_storage_no_trade",), "days": 0.25},
        {"policies": ("perfect_foresight", "no_storage")},
        {"pv_scale": 0.0, "battery_scale": 0.0, "days": 0.25},
        {"market": "none", "coordinates": False},
        {"case": "ieee33", "homes": 20, "days": 2.0},
    ],
)
def test_pictures_of_odd_runs(options, tmp_path):
    _, data = picture_data(**options)
    files = {file.stem for file in write_pictures(tmp_path, data)}
    assert {"cumulative_cost", "local_price", "voltages", "feeder", "household"} <= files
    assert ("loading" in files) == (options.get("case") != "ieee33")  # its lines have no rating
    batteries = options.get("battery_scale") != 0.0 and options.get("policies") != ("no_storage_no_trade",)
    assert ("state_of_charge" in files) == batteries


def test_two_slots(tmp_path):
    _, data = picture_data(days=1 / 48)
    assert len(data.time) == 2
    write_pictures(tmp_path, data)


def test_running_cost_ends_at_the_cost(full):
    _, data = full
    for name, evaluation in data.evaluations.items():
        assert running_cost(data, name)[-1] == pytest.approx(evaluation.kpis["cost_eur"], rel=1e-9)


def test_every_policy_has_its_own_colour():
    assert {*WITH_VEHICLES, *MPC_POLICIES, TUNED} == set(COLOURS)
    assert len(set(COLOURS.values())) == len(COLOURS)


@pytest.mark.parametrize("case", ["rural1", "rural3", "ieee33"])
def test_branch_ends_are_those_of_the_tables(case):
    tables = window(load_case(case), days=0.1)
    network = build_community(tables).network
    upper, lower = branch_ends(network)
    found = [{network.bus_ids[a], network.bus_ids[b]} for a, b in zip(upper, lower, strict=True)]
    ends = zip(tables.lines["from_bus"], tables.lines["to_bus"], strict=True)
    assert found == [set(pair) for pair in ends]
    places = tree_layout(upper, lower, len(network.bus_ids))
    assert len(np.unique(places, axis=0)) == len(places)  # no bus hides another
    assert (places[lower, 0] == places[upper, 0] + 1).all()


def test_the_slack_bus_never_hides_another(full):
    """SimBench gives it the coordinates of a bus of the feeder."""
    _, data = full
    upper, lower = branch_ends(data.community.network)
    assert len(np.unique(data.coordinates, axis=0)) < len(data.coordinates)
    places, mapped = bus_places(data.coordinates, upper, lower, data.community.network.buses)
    assert mapped
    assert len(np.unique(places, axis=0)) == len(places)
    np.testing.assert_array_equal(places[1:], data.coordinates[1:])


def foresight_record(**fields):
    plain = {"is_lower_bound": True, "simultaneous_kwh": 0.0, "status": "Solved"}
    return SimpleNamespace(**(plain | fields))


def test_the_bound_says_its_true_reason():
    """Negative prices in a pool are not the fault of the bilateral market."""
    pool, graph = (small("rural1", market=kind)[0] for kind in ("pool", "bilateral"))
    (both,) = bound_reasons(pool, foresight_record(simultaneous_kwh=12.2))
    assert "12.2 kWh charged and discharged at once" in both and "bilateral" not in both
    (fee,) = bound_reasons(graph, foresight_record())
    assert "no bilateral market can beat" in fee
    assert len(bound_reasons(graph, foresight_record(simultaneous_kwh=1.0, status="MaxRounds"))) == 3
    assert bound_reasons(pool, foresight_record(is_lower_bound=False)) == ()


def test_the_note_gives_that_reason(full):
    run, data = full
    run = run._replace(perfect_foresight_reasons=("with 12 kWh charged and discharged at once",))
    text = "\n".join(notes(run, kpis_of(data)))
    assert "with 12 kWh charged and discharged at once: capture is a lower bound" in text
    without = {name: {**row, "capture": None} for name, row in kpis_of(data).items()}
    assert "capture is a lower bound" not in "\n".join(notes(run, without))
