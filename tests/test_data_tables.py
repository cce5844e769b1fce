"""Tables in and out of folders: nothing lost, nothing half written."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

from jaxp2p.data import (
    CASES,
    InputError,
    Tables,
    complete,
    describe_columns,
    load_case,
    read_tables,
    tables,
    window,
    write_tables,
)
from jaxp2p.data.schema import COLUMNS, SCHEMA


def small(days: float = 1) -> Tables:
    return window(load_case("rural1"), days=days)


def assert_same(one: Tables, two: Tables) -> None:
    assert one.frames().keys() == two.frames().keys()
    for name, frame in one.frames().items():
        pd.testing.assert_frame_equal(frame, two.frames()[name], check_exact=True, obj=name)
    assert one.meta == two.meta


@pytest.mark.parametrize("format", ["csv", "parquet"])
@pytest.mark.parametrize("case", CASES)
def test_round_trip(case, format, tmp_path):
    week = window(load_case(case, price="dynamic"))
    assert_same(week, read_tables(write_tables(week, tmp_path / "out", format=format)))


def test_round_trip_of_a_year(tmp_path):
    year = load_case("rural1", price="tou_noise")
    assert_same(year, read_tables(write_tables(year, tmp_path / "out")))


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_round_trip_of_trades_and_awkward_numbers(format, tmp_path):
    case = small()
    ids = case.prosumers["prosumer_id"]
    trades = pd.DataFrame(
        {"from_id": ids[:3].to_list(), "to_id": ids[3:6].to_list(), "limit_kw": [1 / 3, 0.0, math.inf]}
    )
    prosumers = case.prosumers.assign(buy_max_kw=np.nextafter(0.1, 1), wear_cost_eur_per_kwh=1e-17)
    case = complete(case.replace(trades=trades, prosumers=prosumers))
    back = read_tables(write_tables(case, tmp_path / "out", format=format))
    assert_same(case, back)
    assert back.trades["fee_eur_per_kwh"].tolist() == [0.0, 0.0, 0.0]


def test_absent_columns_and_empty_cells_take_defaults(tmp_path):
    folder = write_tables(small(), tmp_path / "out")
    (folder / "prosumers.csv").write_text(
        "prosumer_id,bus_id,load_profile,load_kw,load_kvar,pv_kw,battery_kwh,battery_min_kwh,sell_max_kw\n"
        "7,LV1.101 Bus 1,H0-A,2,0.5,,10,2,\n8,LV1.101 Bus 1,H0-A,2,,,,,5\n"
    )
    homes = read_tables(folder).prosumers
    assert list(homes.columns) == [column.name for column in SCHEMA["prosumers"]]
    assert homes["prosumer_id"].tolist() == ["7", "8"]
    assert homes["battery_start_kwh"].tolist() == [6.0, 0.0]
    assert homes["sell_max_kw"].tolist() == [math.inf, 5.0]
    assert homes["buy_max_kw"].tolist() == [math.inf, math.inf]
    assert homes["charge_efficiency"].tolist() == [0.95, 0.95]
    # Reactive power without a profile of its own follows the load.
    assert homes["reactive_profile"].tolist() == ["H0-A", ""]


def test_byte_order_mark_and_time_offsets(tmp_path):
    folder = write_tables(small(), tmp_path / "out")
    for name in ("profiles", "prices"):
        file = folder / f"{name}.csv"
        lines = file.read_text().splitlines()
        with_offset = [line.replace(":00,", ":00+02:00,", 1) for line in lines[1:]]
        file.write_text("\n".join([lines[0], *with_offset]) + "\n", encoding="utf-8-sig")
    # Offsets are converted to UTC.
    assert read_tables(folder).profiles["time"].iloc[0] == pd.Timestamp("2016-07-03T22:00")


def test_meta_is_optional(tmp_path):
    folder = write_tables(small(), tmp_path / "mine")
    (folder / "case.json").unlink()
    assert read_tables(folder).meta == {"name": "mine"}


def test_refuses_to_overwrite(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    write_tables(small(), folder)  # an empty folder is fine
    before = sorted(file.name for file in folder.iterdir())
    with pytest.raises(FileExistsError, match="name another one"):
        write_tables(small(), folder, format="parquet")
    assert sorted(file.name for file in folder.iterdir()) == before
    write_tables(small(), folder, format="parquet", overwrite=True)
    assert not list(folder.glob("*.csv"))
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("exists", [False, True])
def test_nothing_half_written(exists, tmp_path, monkeypatch):
    folder = tmp_path / "out"
    if exists:
        write_tables(small(), folder)
    before = {file.name: file.read_bytes() for file in folder.iterdir()} if exists else {}
    real, written = tables._write_one, []

    def failing(frame, file):
        if len(written) == 2:
            raise OSError("disk full")
        written.append(file)
        real(frame, file)

    monkeypatch.setattr(tables, "_write_one", failing)
    with pytest.raises(OSError, match="disk full"):
        write_tables(small(days=2), folder, overwrite=True)
    assert len(written) == 2
    assert [file.name for file in tmp_path.iterdir()] == (["out"] if exists else [])
    if exists:
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_faulty_tables_are_not_written(tmp_path):
    case = small()
    with pytest.raises(InputError):
        write_tables(case.replace(prosumers=case.prosumers.assign(load_kw=-1.0)), tmp_path / "out")
    with pytest.raises(ValueError, match="format"):
        write_tables(case, tmp_path / "out", format="xlsx")
    assert not list(tmp_path.iterdir())


def test_every_column_is_documented():
    text = describe_columns()
    for table, columns in COLUMNS.items():
        assert f"{table}:" in text
        for column in columns:
            assert f"  {column.name}" in describe_columns(table)
            assert column.meaning
    assert max(len(line) for line in text.splitlines()) <= 110


def test_meta_is_json(tmp_path):
    folder = write_tables(small(), tmp_path / "out")
    meta = json.loads((folder / "case.json").read_text())
    assert "ODbL" in meta["licence"] and meta["synthetic"]
