"""The compact form of a case: small CSV files per case, one file of packed profiles for all of them.

    FOLDER/profiles.npz            packed profiles (see `compact`), shared by the cases
    FOLDER/NAME/prosumers.csv      as in a folder of tables, without columns that hold only defaults
    FOLDER/NAME/buses.csv
    FOLDER/NAME/lines.csv
    FOLDER/NAME/trades.csv, ev_sessions.csv    where there are any
    FOLDER/NAME/case.json          meta, and under `profiles` the start, step and number of the slots

Prices are not stored; they are made when a case is loaded. The SimBench cases were made by

    python -m jaxp2p.data.embed 1-LV-rural3--2-sw 1-LV-rural1--2-sw FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxp2p.data.compact import MAX_ERROR, pack, unpack
from jaxp2p.data.schema import SCHEMA, TIME_TABLES
from jaxp2p.data.tables import Tables

FOLDER = Path(__file__).parent / "embedded"
PROFILES = "profiles.npz"


def write_compact(tables: dict[str, Tables], folder: Path) -> list[Path]:
    """Write cases by name; returns the files.

    Raises:
        ValueError: two cases have different profiles under one name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    series: dict[str, np.ndarray] = {}
    files = [folder / PROFILES]
    for name, case in tables.items():
        for profile in case.profiles.columns.drop("time"):
            values = case.profiles[profile].to_numpy()
            if not np.array_equal(series.setdefault(profile, values), values):
                raise ValueError(f"{name}: another case has a different profile {profile!r}")
        files += _write_case(folder / name, name, case)
    pack(folder / PROFILES, series)
    return files


def _write_case(folder: Path, name: str, case: Tables) -> list[Path]:
    folder.mkdir(exist_ok=True)
    files = []
    for table, frame in case.frames().items():
        if table not in TIME_TABLES:
            files.append(folder / f"{table}.csv")
            write_small(frame, table, files[-1])
    time = case.profiles["time"]
    rounding = f"profiles are rounded to at most {MAX_ERROR:g} of their peak"
    meta = {
        **case.meta,
        "name": name,
        "rules": [*case.meta.get("rules", []), rounding],
        "profiles": {
            "start": time.iloc[0].isoformat(),
            "step_minutes": (time.iloc[1] - time.iloc[0]).total_seconds() / 60,
            "slots": len(time),
        },
    }
    del meta["synthetic"]  # the prices, which are not part of this form
    files.append(folder / "case.json")
    files[-1].write_text(json.dumps(meta, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return files


def write_small(frame: pd.DataFrame, table: str, file: Path) -> None:
    """A CSV file without the columns in which every cell holds the default."""
    drop = [
        column.name
        for column in SCHEMA[table]
        if not column.required and (frame[column.name].isna() | (frame[column.name] == column.default)).all()
    ]
    if table == "prosumers" and np.allclose(
        frame["battery_start_kwh"], 0.5 * (frame["battery_min_kwh"] + frame["battery_kwh"])
    ):
        drop.append("battery_start_kwh")
    frame.drop(columns=drop).to_csv(file, index=False, encoding="utf-8", lineterminator="\n")


def read_small(name: str) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """The raw frames of an embedded case and its meta."""
    folder = FOLDER / name
    frames = {
        table: pd.read_csv(folder / f"{table}.csv", dtype=str, keep_default_na=False)
        for table in SCHEMA
        if (folder / f"{table}.csv").exists()
    }
    return frames, json.loads((folder / "case.json").read_text(encoding="utf-8"))


def read_profiles(meta: dict[str, Any], names: list[str]) -> pd.DataFrame:
    """The `profiles` table of an embedded case with the named profiles only."""
    grid = meta["profiles"]
    start, step = np.datetime64(grid["start"], "ns"), np.timedelta64(round(grid["step_minutes"] * 60), "s")
    time = start + step * np.arange(grid["slots"])
    return pd.DataFrame({"time": time, **unpack(FOLDER / PROFILES, names)})


def main(arguments: list[str]) -> int:
    """Import SimBench codes and write them in the compact form."""
    from jaxp2p.data.simbench import import_simbench

    if len(arguments) < 2:
        print("usage: python -m jaxp2p.data.embed CODE [CODE ...] FOLDER", file=sys.stderr)
        return 2
    *codes, folder = arguments
    tables = {code.removeprefix("1-LV-").split("--")[0]: import_simbench(code) for code in codes}
    for file in write_compact(tables, Path(folder)):
        print(f"{file}  {file.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
