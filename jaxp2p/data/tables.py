"""The input of the library as pandas tables, and folders of CSV or Parquet files that hold them."""

from __future__ import annotations

import csv
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from jaxp2p.data.csv_files import FileFault, read_csv
from jaxp2p.data.faults import Fault, InputError
from jaxp2p.data.frames import complete_frame
from jaxp2p.data.places import move_into_place, umask
from jaxp2p.data.plausibility import Whole, check_accept, whole_of
from jaxp2p.data.schema import OPTIONAL_TABLES, SCHEMA, TIME_TABLES, TIMES, describe_columns
from jaxp2p.data.stamp import stamped
from jaxp2p.data.times import check_zone
from jaxp2p.data.validation import check, complete_and_validate

__all__ = ["Tables", "complete", "describe_columns", "read_tables", "write_tables"]

META_FILE = "case.json"
SUFFIXES = (".csv", ".parquet")


@dataclass(frozen=True, kw_only=True)
class Tables:
    """A community as pandas tables; the columns are those of `describe_columns()`.

    Frames made by `read_tables`, `load_case`, `complete` or `check` have every column, in order, with
    `str`, float64 and datetime64[ns] types; frames made by hand may leave out columns that have a default.

    Attributes:
        prosumers, profiles, prices: see `describe_columns`.
        buses, lines: both None, before `check`, where there is no feeder; `lines` None for a single bus.
        trades: trading graph, or None when the market settings choose the partners.
        ev_sessions: stays of electric vehicles, or None where there are none.
        meta: name, description, source, licence, attribution, `synthetic` (list of what is not measured),
            `accept` (judgements of plausibility that are overruled), `time_zone` (the times are in UTC, those
            of `window` and of outputs in this zone).
        remarks: what `check` found worth saying, though it is no fault.
        whole: figures of the data that these are a window of, for judgements of plausibility.
        checked: set by `read_tables` and `check`, so that unchanged tables are not checked twice.
    """

    prosumers: pd.DataFrame
    profiles: pd.DataFrame
    prices: pd.DataFrame
    buses: pd.DataFrame = None
    lines: pd.DataFrame = None
    trades: pd.DataFrame | None = None
    ev_sessions: pd.DataFrame | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    remarks: tuple[Fault, ...] = field(default=(), compare=False)
    whole: Whole | None = field(default=None, repr=False, compare=False)
    checked: str | None = field(default=None, repr=False, compare=False)

    def frames(self) -> dict[str, pd.DataFrame]:
        """The frames by table name, without those that are absent."""
        return {name: getattr(self, name) for name in SCHEMA if getattr(self, name) is not None}

    def replace(self, **changes: Any) -> Tables:
        """A copy with some tables exchanged. Other profiles or prices are no window of the former ones."""
        if not {"profiles", "prices"}.isdisjoint(changes):
            changes = {"whole": None, **changes}
        return replace(self, **changes)


def complete(tables: Tables) -> Tables:
    """The tables with types and defaults filled in, without the checks that look across tables.

    Raises:
        InputError: a column is missing or unknown, or a cell is not of its type or outside its range.
    """
    frames, faults = {}, []
    for name, frame in tables.frames().items():
        frames[name], more = complete_frame(name, frame)
        faults += more
    if faults:
        raise InputError(faults, source=str(tables.meta.get("name", "tables")))
    return tables.replace(**frames, whole=tables.whole)


def read_tables(
    path: str | os.PathLike[str], *, accept: Iterable[str] = (), time_zone: str | None = None
) -> Tables:
    """Read and check a folder with one CSV or Parquet file per table, and optionally `case.json`.

    CSV files are read as `jaxp2p.data.csv_files` says; as `write_tables` writes them they are UTF-8 with
    commas and decimal points. An empty cell takes the default of its column. Names are text. Times with a
    UTC offset are converted to UTC, times without are taken as they are, or as local times of `time_zone`.
    `accept` overrules judgements of plausibility. Both as in `check`, and both may stand in `case.json`.

    Raises:
        InputError: some file cannot be read or the tables cannot be used; the error lists every fault.
        ValueError: there is no such judgement or time zone.
    """
    accept = check_accept(accept)
    if time_zone is not None:
        check_zone(time_zone)
    folder = Path(path)
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise InputError([Fault(str(folder), "", None, f"the folder {what}")], source=str(folder))
    raw: dict[str, pd.DataFrame] = {}
    lines: dict[str, np.ndarray] = {}
    faults: list[Fault] = []
    unread = set()
    for name in SCHEMA:
        files = [folder / f"{name}{suffix}" for suffix in SUFFIXES if (folder / f"{name}{suffix}").exists()]
        if not files and (name in OPTIONAL_TABLES or name in _absent(folder)):
            continue
        try:
            raw[name], places = read_one(name, files)
            if places is not None:
                lines[name] = places
        except FileFault as fault:
            unread.add(name)
            faults += fault.faults(name)
    try:
        meta = _read_meta(folder / META_FILE)
    except FileFault as fault:
        faults += fault.faults(META_FILE)
        meta = {}
    accept = check_accept((*meta.get("accept", ()), *accept))
    zone = time_zone or meta.get("time_zone")
    frames, more, remarks = complete_and_validate(raw, unread=frozenset(unread), accept=accept, zone=zone)
    more, remarks = ([in_file(fault, lines) for fault in found] for found in (more, remarks))
    if faults or more:
        raise InputError(faults + more, source=str(folder))
    meta = {"name": _readable(folder.resolve().name), **meta}
    if accept:
        meta["accept"] = list(accept)
    if zone is not None:
        meta["time_zone"] = zone
    return stamped(Tables(**frames, meta=meta, remarks=tuple(remarks), whole=whole_of(frames)))


def _absent(folder: Path) -> set[str]:
    """Tables of the feeder that may be missing: both, or the lines alone, for a single bus."""
    there = {
        name for name in ("buses", "lines") for suffix in SUFFIXES if (folder / f"{name}{suffix}").exists()
    }
    return {"lines"} if there == {"buses"} else {"buses", "lines"} if not there else set()


def in_file(fault: Fault, lines: dict[str, np.ndarray]) -> Fault:
    """The fault with the line of the file that its row stands in."""
    if fault.row is None or fault.table not in lines:
        return fault
    return replace(fault, line=int(lines[fault.table][fault.row - 1]))


def _readable(name: str) -> str:
    """A file name as text that can be printed and written; bytes that are no text are spelt out."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def read_one(name: str, files: list[Path]) -> tuple[pd.DataFrame, np.ndarray | None]:
    """The cells of a table, and the lines of its rows where it is a CSV file."""
    if not files:
        raise FileFault(f"the file {name}.csv (or {name}.parquet) is missing")
    if len(files) > 1:
        raise FileFault(f"both {files[0].name} and {files[1].name} are there; keep one")
    file = files[0]
    try:
        if file.stat().st_size == 0:
            raise FileFault(f"the file {file.name} is empty")
        return read_csv(name, file) if file.suffix == ".csv" else (_read_parquet(name, file), None)
    except OSError as error:
        raise FileFault(f"the file {file.name} cannot be read: {error}") from error


def _read_parquet(name: str, file: Path) -> pd.DataFrame:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise FileFault(f"reading {file.name} needs pyarrow: pip install pyarrow, or use CSV files") from None
    try:
        table = pq.read_table(file)
    except pa.ArrowException as error:
        raise FileFault(f"the file {file.name} is not a Parquet file: {str(error).splitlines()[0]}") from None
    except OSError as error:
        raise FileFault(f"the file {file.name} cannot be read: {str(error).splitlines()[0]}") from None
    if name in TIME_TABLES:
        return table.to_pandas()
    # Python objects keep an absent value (None) apart from NaN.
    columns = {column: table.column(column) for column in dict.fromkeys(table.column_names)}
    cells = {
        name: pd.Series(column.to_pylist(), dtype=object) if column.null_count else column.to_pandas()
        for name, column in columns.items()
    }
    return pd.DataFrame(cells)


def _read_meta(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    try:
        meta = json.loads(file.read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError) as error:
        raise FileFault(f"the file {file.name} cannot be read: {error}") from None
    if not isinstance(meta, dict):
        raise FileFault(f"the file {file.name} must hold a JSON object")
    try:
        meta["accept"] = list(check_accept(meta.get("accept") or ()))
        if meta.get("time_zone") is not None:
            check_zone(str(meta["time_zone"]))
    except (TypeError, ValueError) as error:
        raise FileFault(f"the file {file.name}: {error}") from None
    return {key: value for key, value in meta.items() if value or key != "accept"}


def write_tables(
    tables: Tables,
    path: str | os.PathLike[str],
    *,
    format: Literal["csv", "parquet"] = "csv",
    overwrite: bool = False,
) -> Path:
    """Write a folder that `read_tables` reads back with the same values.

    The folder is made under another name beside its final place and then renamed, so it is either complete
    or not there. Numbers in CSV files are written with as many digits as are needed to read the same float64.

    Raises:
        InputError: the tables have faults.
        FileExistsError: the folder exists and is not empty, and `overwrite` is False.
        ValueError: unknown format.
    """
    if format not in ("csv", "parquet"):
        raise ValueError(f'format must be "csv" or "parquet", not {format!r}')
    tables = check(tables)
    zone = tables.meta.get("time_zone")
    target = Path(path)
    if overwrite and target.exists() and not target.is_dir():
        raise FileExistsError(f"{target} exists and is not a folder")
    if not overwrite:
        require_free(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        # mkdtemp makes a private folder; the result is an ordinary one.
        fresh.chmod(0o777 & ~umask())
        for name, frame in tables.frames().items():
            for time in TIMES[name] if zone is not None else ():
                frame = frame.assign(**{time: frame[time].dt.tz_localize("UTC").dt.tz_convert(zone)})
            _write_one(frame, fresh / f"{name}.{format}")
        (fresh / META_FILE).write_text(
            json.dumps(tables.meta, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        move_into_place(fresh, target)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return target


def require_free(path: str | os.PathLike[str]) -> None:
    """Raises FileExistsError, with what is there, unless the folder is absent or empty."""
    target = Path(path)
    if not target.exists():
        return
    if not target.is_dir():
        raise FileExistsError(f"{target} exists and is not a folder")
    if not any(target.iterdir()):
        return
    try:
        held = str(_read_meta(target / META_FILE).get("name", ""))
    except FileFault:
        held = ""
    what = f'holds the tables of "{held}"' if held else "is not empty"
    raise FileExistsError(f"the folder {target} {what}; name another one, or remove it first")


def _write_one(frame: pd.DataFrame, file: Path) -> None:
    if file.suffix == ".parquet":
        frame.to_parquet(file, index=False)
        return
    for time in TIMES[file.stem]:
        stamps = frame[time]
        if stamps.dt.tz is None:
            whole = (stamps.to_numpy("datetime64[ns]").astype(np.int64) % 1_000_000_000 == 0).all()
            text = np.datetime_as_string(stamps.to_numpy("datetime64[s]" if whole else "datetime64[ns]"))
        else:
            text = [stamp.isoformat() for stamp in stamps]
        frame = frame.assign(**{time: text})
    # a row that began with # would be read as a comment
    marked = len(frame) > 0 and frame.iloc[:, 0].astype(str).str.startswith("#").any()
    quoting = csv.QUOTE_NONNUMERIC if marked else csv.QUOTE_MINIMAL
    frame.to_csv(file, index=False, encoding="utf-8", lineterminator="\n", quoting=quoting)
