"""The input of the library as pandas tables, and folders of CSV or Parquet files that hold them."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from jaxp2p.data.faults import Fault, InputError
from jaxp2p.data.frames import complete_frame
from jaxp2p.data.schema import OPTIONAL_TABLES, SCHEMA, TIME_TABLES, describe_columns
from jaxp2p.data.stamp import stamped
from jaxp2p.data.validation import check, complete_and_validate

__all__ = ["Tables", "complete", "describe_columns", "read_tables", "write_tables"]

META_FILE = "case.json"
SUFFIXES = (".csv", ".parquet")
PANDAS = tuple(int(part) for part in pd.__version__.split(".")[:2])


@dataclass(frozen=True, kw_only=True)
class Tables:
    """A community as pandas tables; the columns are those of `describe_columns()`.

    Frames made by `read_tables`, `load_case`, `complete` or `check` have every column, in order, with
    `str`, float64 and datetime64[ns] types; frames made by hand may leave out columns that have a default.

    Attributes:
        prosumers, buses, lines, profiles, prices: see `describe_columns`.
        trades: trading graph, or None when the market settings choose the partners.
        meta: name, description, source, licence, attribution, `synthetic` (list of what is not measured).
        checked: set by `read_tables` and `check`, so that unchanged tables are not checked twice.
    """

    prosumers: pd.DataFrame
    buses: pd.DataFrame
    lines: pd.DataFrame
    profiles: pd.DataFrame
    prices: pd.DataFrame
    trades: pd.DataFrame | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    checked: str | None = field(default=None, repr=False, compare=False)

    def frames(self) -> dict[str, pd.DataFrame]:
        """The frames by table name, without an absent `trades`."""
        return {name: getattr(self, name) for name in SCHEMA if getattr(self, name) is not None}

    def replace(self, **changes: Any) -> Tables:
        """A copy with some tables exchanged."""
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
    return Tables(**frames, meta=tables.meta)


def read_tables(path: str | os.PathLike[str]) -> Tables:
    """Read and check a folder with one CSV or Parquet file per table, and optionally `case.json`.

    CSV files are UTF-8 with commas and decimal points. An empty cell takes the default of its column.
    Times with a UTC offset are converted to UTC, times without are taken as they are.

    Raises:
        InputError: some file cannot be read or the tables cannot be used; the error lists every fault.
    """
    folder = Path(path)
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise InputError([Fault(str(folder), "", None, f"the folder {what}")], source=str(folder))
    raw: dict[str, pd.DataFrame] = {}
    faults: list[Fault] = []
    unread = set()
    for name in SCHEMA:
        files = [folder / f"{name}{suffix}" for suffix in SUFFIXES if (folder / f"{name}{suffix}").exists()]
        if not files and name in OPTIONAL_TABLES:
            continue
        try:
            raw[name] = _read_one(name, files)
        except _FileFault as fault:
            unread.add(name)
            faults.append(Fault(name, "", None, str(fault)))
    try:
        meta = _read_meta(folder / META_FILE)
    except _FileFault as fault:
        faults.append(Fault(META_FILE, "", None, str(fault)))
        meta = {}
    frames, more = complete_and_validate(raw, unread=frozenset(unread))
    if faults or more:
        raise InputError(faults + more, source=str(folder))
    return stamped(Tables(**frames, meta={"name": folder.resolve().name, **meta}))


class _FileFault(Exception):
    """A file as a whole cannot be used."""


def _read_one(name: str, files: list[Path]) -> pd.DataFrame:
    if not files:
        raise _FileFault(f"the file {name}.csv (or {name}.parquet) is missing")
    if len(files) > 1:
        raise _FileFault(f"both {files[0].name} and {files[1].name} are there; keep one")
    file = files[0]
    try:
        if file.stat().st_size == 0:
            raise _FileFault(f"the file {file.name} is empty")
        return _read_csv(name, file) if file.suffix == ".csv" else _read_parquet(name, file)
    except OSError as error:
        raise _FileFault(f"the file {file.name} cannot be read: {error}") from error


def _read_csv(name: str, file: Path) -> pd.DataFrame:
    data = file.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise _FileFault(f"the file {file.name} is UTF-16 encoded; save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")  # spreadsheets put a byte order mark in front
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _FileFault(
            f"the file {file.name} is not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}, "
            f"line {line}"
        ) from None
    if "\0" in text:
        raise _FileFault(f"the file {file.name} contains NUL bytes; it is not a CSV file")
    header = next(csv.reader(io.StringIO(text)), [])
    if not any(cell.strip() for cell in header):
        raise _FileFault(f"the file {file.name} has no header line")
    if len(header) == 1 and ";" in header[0]:
        raise _FileFault(
            f"the file {file.name} separates columns by semicolons; use commas and decimal points"
        )
    # Tables that have few rows come as text, so that an empty cell and "NaN" can be told apart later on.
    options: dict[str, Any] = {} if name in TIME_TABLES else {"dtype": str}
    if PANDAS < (3, 1):
        options["float_precision"] = "round_trip"  # from 3.1 on the only way, and the argument is deprecated
    try:
        frame = pd.read_csv(
            io.StringIO(text),
            header=None,
            skiprows=1,
            keep_default_na=False,
            na_values=[""] if name in TIME_TABLES else [],
            low_memory=False,
            **options,
        )
    except pd.errors.EmptyDataError:
        return pd.DataFrame({cell.strip(): pd.Series(dtype=object) for cell in header})
    except pd.errors.ParserError as error:
        raise _FileFault(f"the file {file.name} is not a table: {str(error).strip()}") from None
    if frame.shape[1] != len(header):
        raise _FileFault(
            f"the file {file.name} has {len(header)} columns in its header, but rows with {frame.shape[1]}"
        )
    frame = frame.copy()  # as one array: the reader leaves one per column, and thousands of them are slow
    frame.columns = [cell.strip() for cell in header]
    return frame


def _read_parquet(name: str, file: Path) -> pd.DataFrame:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise _FileFault(
            f"reading {file.name} needs pyarrow: pip install pyarrow, or use CSV files"
        ) from None
    try:
        table = pq.read_table(file)
    except pa.ArrowException as error:
        raise _FileFault(
            f"the file {file.name} is not a Parquet file: {str(error).splitlines()[0]}"
        ) from None
    if name in TIME_TABLES:
        return table.to_pandas()
    # Python objects keep an absent value (None) apart from NaN.
    columns = {column: table.column(column).to_pylist() for column in dict.fromkeys(table.column_names)}
    return pd.DataFrame(columns, dtype=object)


def _read_meta(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    try:
        meta = json.loads(file.read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError) as error:
        raise _FileFault(f"the file {file.name} cannot be read: {error}") from None
    if not isinstance(meta, dict):
        raise _FileFault(f"the file {file.name} must hold a JSON object")
    return meta


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
    target = Path(path)
    if overwrite and target.exists() and not target.is_dir():
        raise FileExistsError(f"{target} exists and is not a folder")
    if not overwrite:
        require_free(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        # mkdtemp makes a private folder; the result is an ordinary one.
        fresh.chmod(0o777 & ~_umask())
        for name, frame in tables.frames().items():
            _write_one(frame, fresh / f"{name}.{format}")
        (fresh / META_FILE).write_text(
            json.dumps(tables.meta, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        _move_into_place(fresh, target)
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
    except _FileFault:
        held = ""
    what = f'holds the tables of "{held}"' if held else "is not empty"
    raise FileExistsError(f"the folder {target} {what}; name another one, or remove it first")


def _write_one(frame: pd.DataFrame, file: Path) -> None:
    if file.suffix == ".parquet":
        frame.to_parquet(file, index=False)
        return
    if "time" in frame:
        stamps = np.datetime_as_string(frame["time"].to_numpy("datetime64[s]"))
        frame = frame.assign(time=stamps)
    frame.to_csv(file, index=False, encoding="utf-8", lineterminator="\n")


def _move_into_place(fresh: Path, target: Path) -> None:
    """Rename; an old folder steps aside first and comes back if the rename fails."""
    if not target.exists():
        fresh.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    target.rename(old / "content")
    try:
        fresh.rename(target)
    except BaseException:
        (old / "content").rename(target)
        old.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
