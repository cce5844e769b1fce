"""Results folders: nothing lost, nothing half written, nothing foreign overwritten."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from fake_runs import fake_run

from jaxp2p.data import load_case, window
from jaxp2p.model.build import build_community, build_horizon
from jaxp2p.report import results
from jaxp2p.report.files import json_text, write_json
from jaxp2p.report.folders import check_target
from jaxp2p.report.kpis import evaluate
from jaxp2p.report.layout import bus_coordinates
from jaxp2p.report.results import (
    JSON_FIGURES,
    compare_results,
    gathered,
    json_report,
    load_results,
    save_results,
)


@pytest.fixture(scope="module")
def made():
    tables = window(load_case("rural1"), days=0.5)
    community = build_community(tables)
    horizon = build_horizon(community, tables)
    run = fake_run(community, horizon)
    return (community, horizon, run, evaluate(community, horizon, run)), tables.profiles["time"]


def save(made, path, **options):
    arguments, time = made
    return save_results(path, *arguments, time=time, case="rural1", **({"seed": 3} | options))


def made_limits(kind, run, policy):
    """Limits and trades are written where they are known."""
    known = {"limits": "row_price", "trades": "trades"}
    return kind not in known or getattr(run.trajectories[policy], known[kind]) is not None


@pytest.mark.parametrize("format", ["parquet", "csv"])
def test_round_trip(made, tmp_path, format):
    (community, horizon, run, evaluations), time = made
    back = load_results(save(made, tmp_path / "out", format=format, homes=True, settings={"days": 0.5}))
    assert back.summary["seed"] == 3
    assert back.summary["case"] == "rural1"
    assert back.summary["settings"] == {"days": 0.5}
    assert back.summary["start"] == str(time.iloc[0])
    assert set(back.tables) == {"kpis", "members", "buses", "branches"} | {
        f"{k}_{n}"
        for k in ("slots", "homes", "buses", "branches", "limits", "trades")
        for n in evaluations
        if made_limits(k, run, n)
    }
    assert list(back.kpis.index) == list(evaluations)
    for name, evaluation in evaluations.items():
        assert back.kpis.at[name, "cost_eur"] == pytest.approx(evaluation.kpis["cost_eur"], rel=1e-14)
        np.testing.assert_allclose(back.tables["members"][f"bill_{name}_eur"], evaluation.bill, rtol=1e-14)
        slots = back.tables[f"slots_{name}"]
        pd.testing.assert_series_equal(slots["time"], time, check_dtype=False, check_names=False)
        assert slots["cost_eur"].sum() == pytest.approx(evaluation.kpis["energy_cost_eur"], rel=1e-12)
        for side in ("buy", "sell"):
            np.testing.assert_array_equal(
                slots[f"price_{side}_eur_per_kwh"], getattr(horizon, f"price_{side}")
            )
        assert slots["p2p_kw"].sum() * 0.25 == pytest.approx(evaluation.kpis["p2p_kwh"], rel=1e-12)
        homes = back.tables[f"homes_{name}"]
        assert len(homes) == horizon.slots * community.size
        second = homes[homes["member"] == community.prosumers.ids[1]]
        np.testing.assert_allclose(second["energy_kwh"], run.trajectories[name].energy[:, 1], rtol=1e-14)


def test_the_feeder_slot_by_slot(tmp_path):
    tables = window(load_case("rural1"), days=0.25)
    community = build_community(tables)
    horizon = build_horizon(community, tables)
    run = fake_run(community, horizon)
    evaluations, places = evaluate(community, horizon, run), bus_coordinates(tables, community)
    where = {"time": tables.profiles["time"], "case": "rural1"}
    made = gathered(community, horizon, run, evaluations, **where, homes=True, coordinates=places)
    assert not {"buses", "branches"} & set(gathered(community, horizon, run, evaluations, **where).tables)
    buses = made.tables["buses"].set_index("bus")
    given = tables.buses.set_index("bus_id").loc[buses.index]
    columns = {"x": "x", "y": "y", "voltage_min_pu": "v_min_pu", "voltage_max_pu": "v_max_pu"}
    for column, name in columns.items():
        np.testing.assert_allclose(buses[column], given[name], rtol=1e-6, err_msg=column)
    branches, lines = made.tables["branches"], tables.lines
    assert list(branches["branch"]) == list(lines["line_id"])
    assert list(branches["kind"]) == list(lines["kind"])
    np.testing.assert_allclose(branches["rating_kva"], lines["s_max_kva"], rtol=1e-6)
    ends = zip(branches["from_bus"], branches["to_bus"], strict=True)
    assert [set(pair) for pair in ends] == [
        set(pair) for pair in zip(lines["from_bus"], lines["to_bus"], strict=True)
    ]
    slack = set(branches["from_bus"]) - set(branches["to_bus"])
    assert slack == {buses.index[0]}  # from_bus is the end above
    grid = evaluations["lyapunov"].grid
    volts = made.tables["buses_lyapunov"]
    assert volts["ac_voltage_pu"].dtype == np.float32
    at = (volts["time"] == tables.profiles["time"].iloc[3]) & (volts["bus"] == buses.index[5])
    assert volts.loc[at, "ac_voltage_pu"].item() == pytest.approx(grid.ac_voltage[3, 5], rel=1e-6)
    loads = made.tables["branches_lyapunov"]
    at = (loads["time"] == tables.profiles["time"].iloc[2]) & (loads["branch"] == branches["branch"][4])
    assert loads.loc[at, "ac_loading"].item() == pytest.approx(grid.ac_loading[2, 4], rel=1e-6)
    assert len(volts) == len(loads) + horizon.slots == horizon.slots * len(buses)


def test_nothing_but_the_folder_is_left(made, tmp_path):
    save(made, tmp_path / "deep" / "out")
    assert [entry.name for entry in tmp_path.iterdir()] == ["deep"]
    assert [entry.name for entry in (tmp_path / "deep").iterdir()] == ["out"]


def test_older_results_are_replaced(made, tmp_path):
    save(made, tmp_path / "out", format="csv")
    save(made, tmp_path / "out", format="parquet")
    assert not list((tmp_path / "out").glob("*.csv"))
    assert load_results(tmp_path / "out").summary["format"] == "parquet"


def test_foreign_files_are_safe(made, tmp_path):
    save(made, tmp_path / "out")
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"thesis\.tex"):
        save(made, tmp_path / "out")
    other = tmp_path / "other"
    other.mkdir()
    assert check_target(other) == other  # an empty folder may be filled
    (other / "summary.json").write_text('{"kind": "something else"}')
    with pytest.raises(FileExistsError, match="something else than results"):
        save(made, other)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="not a folder"):
        check_target(tmp_path / "file")


def test_a_failure_leaves_the_older_results(made, tmp_path, monkeypatch):
    save(made, tmp_path / "out", seed=1)

    def broken(*args, **options):
        raise OSError("no space left on device")

    monkeypatch.setattr(results, "write_json", broken)
    with pytest.raises(OSError, match="no space"):
        save(made, tmp_path / "out", seed=2)
    with pytest.raises(OSError, match="no space"):
        save(made, tmp_path / "new", seed=2)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
    assert load_results(tmp_path / "out").summary["seed"] == 1


def test_unknown_format(made, tmp_path):
    with pytest.raises(ValueError, match="choose from parquet, csv"):
        save(made, tmp_path / "out", format="xlsx")
    assert not any(tmp_path.iterdir())


def test_loading_something_else(made, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no summary\.json"):
        load_results(tmp_path)
    (tmp_path / "summary.json").write_text("[]")
    with pytest.raises(ValueError, match="not a summary"):
        load_results(tmp_path)
    out = save(made, tmp_path / "out")
    (out / "members.parquet").unlink()
    with pytest.raises(FileNotFoundError, match="members"):
        load_results(out)


def test_json_report_has_the_promised_keys(made, tmp_path):
    arguments, _ = made
    report = json.loads(write_json(tmp_path / "r.json", json_report(*arguments, case="rural1")).read_text())
    assert list(report) == [
        "version",
        "case",
        "slots",
        "prosumers",
        "buses",
        "dtype",
        "policies",
        "perfect_foresight_eur",
        "lower_bound_eur",
        "perfect_foresight_reasons",
        "end_value_eur_per_kwh",
        "unserved_price_eur_per_kwh",
        "row_price_eur_per_kwh",
    ]
    assert (report["slots"], report["prosumers"], report["buses"]) == (48, 28, 15)
    assert report["dtype"] == "float32"
    for figures in report["policies"].values():
        assert tuple(figures) == JSON_FIGURES
    assert report["policies"]["perfect_foresight"]["iterations_median"] is None


def test_json_has_null_and_no_nan():
    text = json_text({"a": math.nan, "b": np.float32(np.inf), "c": [np.int64(2), np.bool_(True)], "d": "ü"})
    assert json.loads(text) == {"a": None, "b": None, "c": [2, True], "d": "ü"}
    assert "ü" in text


def test_json_is_written_as_a_whole(tmp_path, monkeypatch):
    file = write_json(tmp_path / "x.json", {"a": 1})

    def broken(*arguments):
        raise OSError("no space left on device")

    monkeypatch.setattr(results.os, "replace", broken)
    with pytest.raises(OSError, match="no space"):
        write_json(file, {"a": 2})
    assert json.loads(file.read_text()) == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.json"]


def test_compare(made, tmp_path):
    (community, horizon, run, evaluations), time = made
    one = save(made, tmp_path / "one")
    assert compare_results(one, one).empty
    kpis = {**evaluations["greedy"].kpis, "cost_eur": evaluations["greedy"].kpis["cost_eur"] + 2}
    changed = {**evaluations, "greedy": evaluations["greedy"]._replace(kpis=kpis)}
    less = {name: t for name, t in run.trajectories.items() if name != "lyapunov"}
    changed.pop("lyapunov")
    arguments = (community, horizon, run._replace(trajectories=less), changed)
    two = save((arguments, time), tmp_path / "two")
    frame = compare_results(one, two)
    assert list(frame["policy"]) == ["greedy", "lyapunov"]
    assert frame.loc[0, "figure"] == "cost_eur"
    assert frame.loc[0, "difference"] == pytest.approx(2)
    assert (frame.loc[1, "a"], frame.loc[1, "b"]) == ("present", "missing")


ODD_IDS = ("12", "0012", "NA", "nan", "1e5", "10023456.0", "", "true", "a,b", 'a "b"', "tür", "None", " x")


def odd(made):
    """The same run with names of members and buses that look like numbers, nothing or worse."""
    (community, horizon, run, _), time = made
    size, buses = community.size, community.network.voltage_min.shape[0]
    names = [*ODD_IDS, *(f"m{i}" for i in range(size))]
    homes = replace(community.prosumers, ids=tuple(names[:size]))
    network = replace(community.network, bus_ids=tuple(reversed(names[:buses])))
    community = replace(community, prosumers=homes, network=network)
    return (community, horizon, run, evaluate(community, horizon, run)), time


@pytest.mark.parametrize("format", ["parquet", "csv"])
def test_whatever_is_written_is_read(made, tmp_path, monkeypatch, format):
    """Every table, every column: ids stay text, numbers numbers, times times."""
    written = {}

    def keep(frame, file, original=results.write_table):
        written[file.stem] = frame
        return original(frame, file)

    monkeypatch.setattr(results, "write_table", keep)
    back = load_results(save(odd(made), tmp_path / "out", format=format, homes=True))
    assert set(back.tables) == set(written)
    for name, frame in written.items():
        read = back.tables[name]
        assert list(read) == list(frame), name
        for column in frame:
            before, after = frame[column], read[column]
            if column == "time":
                assert list(pd.to_datetime(after)) == list(before), name
            elif pd.api.types.is_numeric_dtype(before):
                np.testing.assert_allclose(
                    after.astype(float), before.astype(float), rtol=2e-7, err_msg=column
                )
            else:
                assert list(after) == list(before), (name, column)
    assert list(back.tables["members"]["member"][:3]) == list(ODD_IDS[:3])


def test_other_contents_do_not_take_the_place_of_results(made, tmp_path):
    save(made, tmp_path / "out")
    (community, horizon, run, evaluations), time = made
    other = replace(horizon, load=horizon.load * 1.01)
    with pytest.raises(FileExistsError, match="made from something else"):
        save(((community, other, run, evaluations), time), tmp_path / "out")
    with pytest.raises(FileExistsError, match="fee: None, now"):
        save(made, tmp_path / "out", settings={"fee": 0.02})
    save(made, tmp_path / "out", settings={"fee": 0.02}, replace=True)
    assert load_results(tmp_path / "out").summary["settings"] == {"fee": 0.02}


def test_results_of_older_versions_are_not_replaced_unasked(made, tmp_path):
    file = save(made, tmp_path / "out") / "summary.json"
    summary = json.loads(file.read_text())
    del summary["made_from"]
    file.write_text(json.dumps(summary))
    with pytest.raises(FileExistsError, match="do not say what they were made from"):
        save(made, tmp_path / "out")
    assert load_results(tmp_path / "out").summary["case"] == "rural1"
