"""Electric vehicles in figures, tables, notes and pictures: by hand (`paper_garage`), and of a real run."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import paper_garage as paper
import paper_village
import pytest

import jaxp2p as jp
from jaxp2p.cli.running import usual_policies
from jaxp2p.control.catalogue import POLICIES, WITH_VEHICLES
from jaxp2p.data.stays import slots_of
from jaxp2p.model.devices import gained
from jaxp2p.report.canvas import PictureData
from jaxp2p.report.frames import home_table, member_table, slot_table, stay_table
from jaxp2p.report.kpis import evaluate
from jaxp2p.report.money import running_cost
from jaxp2p.report.pictures import write_pictures
from jaxp2p.report.results import load_results, save_results
from jaxp2p.report.stays import energy_gained
from jaxp2p.report.tables import legend, notes, text_tables
from jaxp2p.report.vehicles import charging
from jaxp2p.runs.runner import policy_names
from jaxp2p.simulation import grid

COMMUNITY, HORIZON, RUN = paper.community(), paper.horizon(), paper.run()


@pytest.fixture(scope="module", autouse=True)
def idle_network():
    """Nothing here is about the grid, and the village on paper has no impedances."""

    def flow(community, base, injection, pv_used):
        slots, network = len(injection), community.network
        nothing = np.zeros(slots)
        loading, volts = np.zeros((slots, network.branches)), np.ones((slots, network.buses))
        return SimpleNamespace(
            voltage=volts, loading=loading, losses=nothing, status=nothing.astype(int), support=None
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "power_flow_of", flow)
        yield


@pytest.fixture(scope="module")
def evaluations():
    return evaluate(COMMUNITY, HORIZON, RUN)


FIGURES = {
    "ev_stays": 5,
    "ev_charged_kwh": 10.25,  # (16.5 + 3 + 1) / 2
    "ev_discharged_kwh": 0.8,  # 1.6 / 2
    # A: 0.4 kWh below the floor of slot 1, then 1.6 in each, of which 1.4 in slot 4; B: 0.5 in slot 0
    "ev_forced_kwh": 6.75,  # (1 + 4 + 4 + 3.5 + 1) / 2
    "ev_shortfall_kwh": 2.9,  # 9 - 6.6 and 4 - 3.5
    "ev_unavoidable_kwh": 2.7,  # 9 - 6.8 and 4 - 3.5
    "ev_missed_stays": 1,
    "soc_violation_kwh": 0.2,  # 6.8 - 6.6
    "storage_balance_error_kwh": 0.03,
    "balance_error_kw": 0.04,
    "load_kwh": 5.5,  # 11 / 2, without the vehicles
    "self_sufficiency": 0.36923077,  # 1 - 9.43 / (5.5 + 10.25 - 0.8)
    "battery_throughput_kwh": 0.4,  # 0.8 / 2
    # 1.886 EUR; gained are 0.4 kWh in the battery, and 0.38 in the vehicle that is still there
    "cost_eur": 1.73,
    "total_cost_eur": 1.73,
    "stored_worth_eur": 0.156,
}


def test_every_figure_of_vehicles(evaluations):
    kpis = evaluations["lyapunov"].kpis
    assert [name for name in kpis if name.startswith("ev_")] == [n for n in FIGURES if n.startswith("ev_")]
    for name, value in FIGURES.items():
        assert kpis[name] == pytest.approx(value, rel=1e-7), name


STAYS = {
    "vehicle_id": ["red", "red", "blue", "0012", "0012"],
    "prosumer_id": ["A", "A", "B", "B", "B"],
    "arrival": ["", "11:00", "11:00", "10:00", "11:30"],
    "departure": ["11:00", "12:30", "", "10:30", "12:30"],
    "energy_arrival_kwh": [6, 2, 5, 3, 4],
    "energy_wanted_kwh": [8, 9, 6, 4, 4],
    "energy_departure_kwh": [8, 6.6, np.nan, 3.5, 4],
    "shortfall_kwh": [0, 2.4, np.nan, 0.5, 0],
    "unavoidable_kwh": [0, 2.2, np.nan, 0.5, 0],
    "charged_kwh": [2.5, 5.75, 1.5, 0.5, 0],
    "discharged_kwh": [0, 0, 0.8, 0, 0],
    # (4 * 0.2 + 0.3) / 5; (4 * 0.25 + 4 * 0.4 + 3.5 * 0.3) / 11.5; (2 * 0.35 + 0.2) / 3
    "price_mean_eur_per_kwh": [0.22, 3.65 / 11.5, 0.3, 0.2, np.nan],
}


def same_stays(frame: pd.DataFrame) -> None:
    assert list(frame.columns) == list(STAYS)
    for name, values in STAYS.items():
        if name in ("arrival", "departure"):
            assert list(frame[name].dt.strftime("%H:%M").fillna("")) == values, name
        elif name.endswith("_id"):
            assert list(frame[name]) == values, name
        else:
            np.testing.assert_allclose(frame[name], values, rtol=1e-12, atol=1e-12, err_msg=name)


def test_every_column_of_the_stays(evaluations):
    same_stays(stay_table(COMMUNITY, evaluations["lyapunov"].stays, paper.TIME))


SLOTS = {
    "ev_charge_kw": [5, 1, 4, 6, 3.5, 1],
    "ev_discharge_kw": [0, 0, 1.6, 0, 0, 0],
    "ev_stored_kwh": [11.1, 8, 7.6, 14.1, 15.5, 5.38],
    "ev_plugged": [2, 1, 2, 3, 3, 1],
}


def test_every_column_of_vehicles_in_slots_homes_and_members(evaluations):
    done, one = RUN.trajectories["lyapunov"], evaluations["lyapunov"]
    slots = slot_table(COMMUNITY, HORIZON, done, one, paper.TIME)
    assert [name for name in slots if name.startswith("ev_")] == list(SLOTS)
    for name, values in SLOTS.items():
        np.testing.assert_allclose(slots[name], values, rtol=1e-12, err_msg=name)
    homes = home_table(COMMUNITY, HORIZON, done, one.grid, paper.TIME)
    fourth = homes[homes["time"] == paper.TIME[3]]
    found = fourth[["ev_charge_kw", "ev_discharge_kw", "ev_stored_kwh"]].to_numpy()
    np.testing.assert_allclose(found, [[4, 0, 5.2], [2, 0, 8.9]])
    members = member_table(COMMUNITY, evaluations)
    assert list(members["ev_kwh"]) == [10, 12]
    assert list(members["ev_charged_lyapunov_kwh"]) == [8.25, 2]
    assert list(members["ev_discharged_lyapunov_kwh"]) == [0, 0.8]
    np.testing.assert_allclose(members["bill_lyapunov_eur"], [1.24 - 0.08, 0.646 - 0.076])


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_a_results_folder_has_the_stays_of_every_policy(evaluations, tmp_path, format):
    path = save_results(
        tmp_path / "out",
        *(COMMUNITY, HORIZON, RUN, evaluations),
        time=paper.TIME,
        case="garage",
        format=format,
    )
    back = load_results(path)
    names = {f"{kind}_{name}" for kind in ("slots", "stays") for name in RUN.trajectories}
    assert set(back.tables) == {"kpis", "members"} | names
    same_stays(back.tables["stays_lyapunov"])
    assert back.kpis.at["lyapunov", "ev_missed_stays"] == 1
    assert json.loads((path / "summary.json").read_text())["policies"]["lyapunov"]["ev_missed_stays"] == 1


def test_without_vehicles_no_file_speaks_of_them(tmp_path):
    village, days, run = paper_village.community(), paper_village.horizon(), paper_village.run()
    evaluations = evaluate(village, days, run)
    path = save_results(
        tmp_path / "out",
        *(village, days, run, evaluations),
        time=paper_village.TIME,
        case="paper",
        format="csv",
        homes=True,
    )
    for file in path.iterdir():
        assert "ev_" not in file.read_text() and "stays" not in file.name, file.name
    kpis = {name: evaluation.kpis for name, evaluation in evaluations.items()}
    assert "EV" not in text_tables(kpis, width=300) + legend(kpis)
    assert not [remark for remark in notes(run, kpis) if "vehicle" in remark]


def test_a_law_of_vehicles_that_is_wrong_is_seen_in_the_balances(evaluations):
    """Each field of what vehicles did, off by itself: 0.7 kW, or 0.7 kWh."""
    done = RUN.trajectories["lyapunov"]
    right = evaluations["lyapunov"].kpis
    for name in ("vehicle_charge", "vehicle_discharge", "vehicle_energy"):
        wrong = np.array(getattr(done, name))
        wrong[3, 0, 1] += 0.7
        other = RUN._replace(trajectories={"lyapunov": done._replace(**{name: wrong})})
        kpis = evaluate(COMMUNITY, HORIZON, other)["lyapunov"].kpis
        power, energy = kpis["balance_error_kw"], kpis["storage_balance_error_kwh"]
        assert power == pytest.approx(0.04 if name == "vehicle_energy" else 0.7), name
        per = {"vehicle_charge": 0.5 * 0.9, "vehicle_discharge": 0.5 / 0.8, "vehicle_energy": 1.0}[name]
        assert energy == pytest.approx(0.7 * per), name
    assert right["storage_balance_error_kwh"] == pytest.approx(0.03)


def picture_data(evaluations, run=RUN) -> PictureData:
    return PictureData(
        community=COMMUNITY,
        horizon=HORIZON,
        trajectories=run.trajectories,
        evaluations=evaluations,
        time=paper.TIME,
        terminal_price=paper.TERMINAL_PRICE,
        title="garage",
    )


def test_the_cost_so_far_counts_what_is_in_the_vehicles_and_ends_at_the_total(evaluations):
    """0.75, 1, 1.19, 1.54, 1.636, 1.886 EUR; 0.4 kWh in the battery from the first slot on.

    In vehicles 1.6 + 0.5, 2, 1.6 - 1, 3.2 - 0.1, 4.6 - 0.1 and 0.38 kWh since their arrival.
    """
    so_far = running_cost(picture_data(evaluations), "lyapunov")
    np.testing.assert_allclose(so_far, [0.25, 0.52, 0.99, 0.84, 0.656, 1.73], rtol=1e-12)
    assert so_far[-1] == pytest.approx(evaluations["lyapunov"].kpis["total_cost_eur"], rel=1e-12)


def test_what_is_gained_in_the_end_is_what_the_accounts_say():
    """Of a calendar that is cut after every slot: the last point of each is `devices.gained`."""
    plugs, energy = HORIZON.plugs, RUN.trajectories["lyapunov"].vehicle_energy
    for stop in range(1, 7):
        cut = type(plugs)(*(values[:stop] for values in plugs))
        assert energy_gained(plugs, energy)[stop - 1] == pytest.approx(gained(cut, energy[:stop]).sum())


def test_table_and_notes_speak_of_vehicles(evaluations):
    kpis = {name: evaluation.kpis for name, evaluation in evaluations.items()}
    lines = text_tables(kpis, width=300).splitlines()
    head = " ".join(lines[0].split())
    assert "EV in EV out EV short EV missed" in head
    row = lines[-1].split()
    assert row[0] == "lyapunov" and row[7:11] == ["10", "1", "2.90", "1"]
    assert "EV missed" in legend(kpis)
    said = [remark for remark in notes(RUN, kpis) if remark.startswith("electric vehicles")]
    assert said == [
        "electric vehicles: 5 stays; 2.7 kWh of what they wanted at departure were out of reach when they "
        "arrived",
        "electric vehicles that left short of what could be reached, by policy: charge_at_once 1, lyapunov 1",
    ]


def test_the_picture_shows_power_and_the_room_that_there_was(evaluations, tmp_path):
    figure = charging(picture_data(evaluations))
    at_once, ours, _tariffs, there, stored = figure.axes
    assert [axis.get_title(loc="left") for axis in (at_once, ours)] == ["charge at once", "Lyapunov"]
    assert list(there.lines[0].get_ydata()) == SLOTS["ev_plugged"]
    band = stored.collections[0].get_paths()[0].vertices[:, 1]
    # floors less what they came with at least: 0 + 0.5, 2, 1.6 - 1, ...; at most 4 + 1, 4, 8 + 2, ...
    assert (band.min(), band.max()) == pytest.approx((-0.8, 10))
    np.testing.assert_allclose(stored.lines[0].get_ydata(), [2.1, 2, 0.6, 3.1, 4.5, 0.38])
    files = {file.stem for file in write_pictures(tmp_path, picture_data(evaluations))}
    assert {"vehicles", "cumulative_cost", "household"} <= files


def test_no_picture_without_anything_plugged_in(evaluations):
    data = picture_data(evaluations)
    empty = type(HORIZON.plugs)(*(np.zeros_like(values) for values in HORIZON.plugs))
    assert charging(replace(data, horizon=replace(HORIZON, plugs=empty))) is None
    assert charging(replace(data, horizon=replace(HORIZON, plugs=None))) is None


@pytest.fixture(scope="module")
def result():
    tables = jp.load_case("rural1", ev_share=0.4)
    case = jp.build(tables, start="2016-07-04 12:00", days=1, market="pool", network=False)
    names = [name for name in policy_names(case.community) if name != "perfect_foresight"]
    return jp.run(case, policies=names, lower_bound=False)


def test_every_policy_keeps_the_promise(result):
    kpis = result.kpis()
    assert (kpis["ev_stays"] > 10).all() and kpis["ev_stays"].nunique() == 1
    assert (kpis["ev_missed_stays"] == 0).all()
    assert (kpis["balance_error_kw"] < 1e-4).all()
    assert (kpis["storage_balance_error_kwh"] < 1e-3).all()
    # at once nothing is left to the last moment, by the cost of this slot alone everything is
    assert kpis.at["charge_at_once", "ev_forced_kwh"] < 1e-2
    assert kpis.at["greedy", "ev_forced_kwh"] == pytest.approx(kpis.at["greedy", "ev_charged_kwh"], rel=1e-3)


def test_all_policies_are_those_of_a_community_with_vehicles(result):
    tables = result.case.tables
    assert usual_policies(tables) == policy_names(result.case.community) == WITH_VEHICLES
    assert usual_policies(replace(tables, ev_sessions=None)) == POLICIES
    assert usual_policies(replace(tables, ev_sessions=tables.ev_sessions.iloc[:0])) == POLICIES


def test_the_stays_of_a_run_are_those_of_its_table(result):
    """Arrival to departure in whole slots, of all those that the day sees anything of."""
    table, time = result.case.tables.ev_sessions, result.case.time
    slots = slots_of(table, time)
    seen = (slots.end > np.maximum(slots.begin, 0)) & (slots.begin < len(time))
    begins, ends = (pd.Series(time.iloc[0] + pd.Timedelta("15min") * x[seen]) for x in slots[:2])
    expected = pd.DataFrame(
        {
            "vehicle_id": table["vehicle_id"][seen].to_numpy(),
            "arrival": begins.clip(lower=time.iloc[0]),  # of one under way before it as well
            "departure": ends.where(ends <= time.iloc[-1]),
            "energy_wanted_kwh": table["energy_wanted_kwh"][seen].to_numpy(),
        }
    )
    order = ["vehicle_id", "departure"]
    found = result.stays("lyapunov")[list(expected)].sort_values(order, ignore_index=True)
    expected = expected.sort_values(order, ignore_index=True).astype(found.dtypes)
    pd.testing.assert_frame_equal(found, expected, rtol=1e-6)


def test_the_library_gives_series_of_vehicles_and_names_a_community_without(result):
    pytest.importorskip("xarray")
    data = result.to_xarray()
    series = data["vehicle_energy"]
    assert series.dims == ("policy", "time", "seat", "member") and series.attrs["units"] == "kWh"
    stored = series.sel(policy="lyapunov").sum(("seat", "member"))
    np.testing.assert_allclose(stored, result.slots("lyapunov")["ev_stored_kwh"], rtol=1e-6)
    result.plot("vehicles")
    with pytest.raises(ValueError, match="unknown policy"):
        result.stays("nobody")
    case = jp.build(jp.load_case("rural1"), days=1 / 48, market="pool", network=False)
    alone = jp.run(case, policies=["no_storage"], lower_bound=False)
    with pytest.raises(ValueError, match="nobody in rural1 has an electric vehicle"):
        alone.stays("no_storage")
    assert "vehicle_energy" not in alone.to_xarray()
