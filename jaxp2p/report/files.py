"""Files that are whole or as they were: JSON and tables, Parquet or CSV by the ending of the name."""

import csv
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from jaxp2p.data.csv_files import EXACT
from jaxp2p.data.places import umask

# never numbers: 0012 and 12 are two members
TEXT = (
    *("policy", "member", "seller", "buyer", "bus", "branch", "kind", "from_bus", "to_bus"),
    *("status", "binding_row", "vehicle_id", "prosumer_id"),
)
TIMES = ("time", "arrival", "departure")


def json_text(content: Mapping[str, Any]) -> str:
    """JSON with null for NaN and infinities, numpy scalars as plain numbers."""
    return json.dumps(plain_json(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any]) -> Path:
    """Write JSON (null for NaN and infinities), as a whole file."""
    text = json_text(content)
    with whole_file(path) as file:
        file.write(text.encode("utf-8"))
    return Path(path)


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write into that takes the name `path` when the block ends well and is removed when it fails.

    It is written beside its final place, forced to disk and then renamed: whatever happens meanwhile, also a
    loss of power, `path` is the old file or the whole new one. Temporary names begin with `.NAME-`.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~umask())  # mkstemp makes a private file; the result is an ordinary one
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    if os.name == "posix":  # the rename is on disk once the folder is; elsewhere a folder cannot be synced
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_table(frame: pd.DataFrame, file: Path) -> Path:
    """Parquet or CSV, by the ending of the file's name."""
    if file.suffix == ".parquet":
        frame.to_parquet(file, index=False)
    else:
        frame.to_csv(file, index=False, encoding="utf-8", lineterminator="\n")
    return file


def read_table(file: Path) -> pd.DataFrame:
    """What `write_table` wrote: ids as text, times as times, empty cells of numbers as NaN."""
    if file.suffix == ".parquet":
        return pd.read_parquet(file)
    with open(file, encoding="utf-8", newline="") as lines:
        names = next(csv.reader(lines))
    empty = {name: [] if name in TEXT else [""] for name in names}  # an id may read NA or nan
    frame = pd.read_csv(
        file,
        encoding="utf-8",
        dtype=dict.fromkeys(TEXT, str),
        keep_default_na=False,
        na_values=empty,
        **EXACT,
    )
    for name in frame.columns.intersection(TIMES):
        frame[name] = pd.to_datetime(frame[name], format="ISO8601")
    return frame


def plain_json(value: Any) -> Any:
    """Numpy to Python, NaN and infinities to None."""
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain_json(value.tolist())
    if isinstance(value, list | tuple | set):
        return [plain_json(item) for item in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if value is None:
        return None
    # bytes of a file name that are no text are spelt out; no file could be written with them
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")
