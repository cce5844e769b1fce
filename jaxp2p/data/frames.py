"""Turn one raw frame into a typed and complete one: cells parsed, defaults filled, ranges checked."""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pandas as pd

from jaxp2p.data.blocks import as_finite
from jaxp2p.data.faults import Fault, row_faults
from jaxp2p.data.names import as_name, is_blank, unprintable
from jaxp2p.data.rounding import ROUNDING, clipped, largest
from jaxp2p.data.schema import COLUMNS, EMPTY_TABLES, LABELS, OPEN_TABLES, TIME_TABLES, Column
from jaxp2p.data.times import parse_times

_FLAG_WORDS = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0}


def near(name: str, known: list[str]) -> str:
    """A hint such as ` (did you mean "pv_kw"?)`, empty when nothing known is near."""
    alike = {word.lower(): word for word in reversed(known)}  # PV_KW is as near to pv_kw as can be
    matches = [alike[word] for word in difflib.get_close_matches(name.lower(), alike, n=2, cutoff=0.6)]
    if not matches:
        return ""
    quoted = " or ".join(f'"{match}"' for match in matches)
    return f" (did you mean {quoted}?)"


def complete_frame(
    table: str, frame: pd.DataFrame, *, zone: str | None = None
) -> tuple[pd.DataFrame, list[Fault]]:
    """The typed frame with all specified columns in order, and the faults met on the way.

    zone: time zone of the time stamps that have no UTC offset, see `parse_times`.

    Cells that cannot be used hold NaN, NaT or "" in the result, so that later checks can go on.
    Empty cells take the default of their column; an explicit NaN is a fault, because it is most often the
    result of a broken computation and not a wish for the default.
    """
    spec = {column.name: column for column in COLUMNS[table]}
    frame = plain_columns(table, frame)
    faults = _column_faults(table, frame, spec)
    frame = frame.loc[:, ~frame.columns.duplicated()]
    labels = _labels(table, frame)
    done: dict[str, pd.Series | np.ndarray] = {}
    for name, column in spec.items():
        if name in frame.columns:
            done[name], more = _typed(table, column, frame[name], labels, zone)
            faults += more
        else:
            done[name] = _filled(column, len(frame))
    plain = as_finite(frame.drop(columns=list(spec), errors="ignore")) if table in OPEN_TABLES else None
    if table in OPEN_TABLES and plain is None:
        for name in frame.columns:
            if name not in spec:
                column = Column(name=name, meaning="profile", required=True)
                done[name], more = _typed(table, column, frame[name], labels, zone)
                faults += more
    result = pd.DataFrame(done, index=pd.RangeIndex(len(frame)))
    if plain is not None:
        result = pd.concat([result, plain.set_axis(result.index).rename(columns=str)], axis=1)
    if len(frame) == 0 and table not in EMPTY_TABLES:
        faults.append(Fault(table, "", None, "the table has no rows"))
    if table in OPEN_TABLES and len(result.columns) == len(spec):
        what = "profile" if table == "profiles" else "member"
        faults.append(Fault(table, "", None, f"there is no {what} beside the time column"))
    if table == "prosumers":
        _fill_from_other_columns(result)
    return result, faults


def plain_columns(table: str, frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with columns named by text, and with what stands in its index as columns.

    An index is a column when it has the name of one that is missing; times without a name are `time`.
    """
    names = [as_name(name) for name in frame.columns]
    spec = {column.name for column in COLUMNS[table]}
    lifted = {}
    for level, name in enumerate(frame.index.names):
        values = frame.index.get_level_values(level)
        if name is None and table in TIME_TABLES and isinstance(values, pd.DatetimeIndex | pd.PeriodIndex):
            name = "time"
        if name in spec and name not in names:
            lifted[name] = values.to_series(index=pd.RangeIndex(len(frame)))
    if not lifted and names == list(frame.columns):
        return frame
    plain = frame.set_axis(names, axis=1).reset_index(drop=True)
    return pd.concat([pd.DataFrame(lifted), plain], axis=1) if lifted else plain


def _column_faults(table: str, frame: pd.DataFrame, spec: dict[str, Column]) -> list[Fault]:
    present = [str(name) for name in frame.columns]
    faults = []
    unknown = [] if table in OPEN_TABLES else [name for name in present if name not in spec]
    absent = [name for name in spec if name not in present]
    for name, column in spec.items():
        if column.required and name not in present:
            faults.append(Fault(table, name, None, f"required column is missing{near(name, unknown)}"))
    for name in unknown:
        faults.append(Fault(table, name, None, f"unknown column{near(name, absent or list(spec))}"))
    for name, times in sorted(Counter(present).items()):
        if times > 1:
            faults.append(Fault(table, name, None, f"the column stands {times} times in the header"))
    for name in dict.fromkeys(present):
        if not name or unprintable(name):
            what = "holds a line break or another control character" if name else "is empty"
            faults.append(Fault(table, repr(name), None, f"the name of a column {what}"))
    return faults


def _labels(table: str, frame: pd.DataFrame) -> Callable[[int], str]:
    """How a message names a row: by its identifier where there is one."""
    key = LABELS.get(table)
    if key is None or key not in frame.columns:
        return lambda i: ""
    names = frame[key].astype(object).to_numpy()
    return lambda i: f"{as_name(names[i])}: "


def _filled(column: Column, rows: int) -> np.ndarray | pd.Series:
    if column.dtype == "str":
        return pd.Series([""] * rows, dtype="str")
    if column.dtype == "time":
        return pd.Series(np.full(rows, np.datetime64("NaT", "ns")))
    return np.full(rows, math.nan if column.default is None else column.default, dtype=float)


def _typed(table: str, column: Column, cells: pd.Series, labels: Callable[[int], str], zone: str | None):
    if column.dtype == "time":
        return parse_times(table, column.name, cells, zone=zone, series=table in TIME_TABLES)
    if column.dtype == "str":
        return _names(table, column, cells)
    return _numbers(table, column, cells, labels)


def _names(table: str, column: Column, cells: pd.Series) -> tuple[pd.Series, list[Fault]]:
    if isinstance(cells.dtype, pd.StringDtype) or _all_text(cells.to_numpy()):
        # often the same few names in very many rows
        code, found = pd.factorize(cells)
        words = np.array([*map(as_name, np.asarray(found, object)), ""], object)[code].tolist()
    else:
        words = [as_name(cell) for cell in cells.astype(object).to_numpy()]
    faults = []
    if column.required:
        faults = row_faults(table, column.name, [not word for word in words], lambda i: "the cell is empty")
    faults += row_faults(
        table,
        column.name,
        [not word.isprintable() and unprintable(word) for word in words],
        lambda i: f"the name {words[i]!r} holds a line break or another control character",
    )
    return pd.Series(words, dtype="str"), faults


def _numbers(
    table: str, column: Column, cells: pd.Series, labels: Callable[[int], str]
) -> tuple[np.ndarray, list[Fault]]:
    if pd.api.types.is_numeric_dtype(cells.dtype):
        values = cells.to_numpy(dtype=float, na_value=math.nan)
        blank = np.zeros(len(values), bool)
        text: dict[int, str] = {}
    else:
        values, blank, text = _parse(column, cells.astype(object).to_numpy())
    faults = []

    def add(bad, message):
        faults.extend(row_faults(table, column.name, bad, lambda i: labels(i) + message(i)))

    is_text = np.zeros(len(values), bool)
    is_text[list(text)] = True
    add(is_text, lambda i: f"{text[i]!r} is not a number{_comma_hint(text[i])}")
    empty_ok = column.default is not None or column.default_text
    nan_is_default = isinstance(column.default, float) and math.isnan(column.default)
    if not nan_is_default:
        add(np.isnan(values) & ~blank & ~is_text, lambda i: "the value is NaN")
    if column.required or not empty_ok:
        add(blank, lambda i: "the cell is empty")
    elif blank.any():
        values = np.where(blank, math.nan if column.default is None else column.default, values)
    if not column.infinite:
        add(np.isinf(values), lambda i: "the value is infinite")
    values = _within_rounding(column, values)
    unit = f" {column.unit}" if column.unit not in ("", "-", "0 or 1") else ""
    bad = _outside(column, values)
    if column.dtype == "flag":
        bad |= np.isfinite(values) & (values != 0.0) & (values != 1.0)
        add(bad, lambda i: f"{values[i]:g} must be 0 or 1")
    else:
        add(
            bad,
            lambda i: (
                f"{values[i]:g}{unit} must be {column.range_text}{_percent_hint(column, float(values[i]))}"
            ),
        )
    return values, faults


def _within_rounding(column: Column, values: np.ndarray) -> np.ndarray:
    """Values beyond a closed limit by rounding, put onto it; 0.9999999 of a flag is 1."""
    if column.dtype == "flag":
        whole = np.round(values)
        return np.where(np.abs(values - whole) <= ROUNDING, whole, values)
    if column.minimum == -math.inf and column.maximum == math.inf:
        return values
    scale = max(
        largest(values), *(abs(limit) for limit in (column.minimum, column.maximum) if math.isfinite(limit))
    )
    return clipped(values, column.minimum, column.maximum, scale)


def _outside(column: Column, values: np.ndarray) -> np.ndarray:
    """Where a value breaks the limits of its column; NaN and forbidden infinities have their own fault."""
    with np.errstate(invalid="ignore"):
        bad = (values < column.minimum) | (values > column.maximum)
        if column.above > -math.inf:
            bad |= values <= column.above
        if column.below < math.inf:
            bad |= values >= column.below
    return bad if column.infinite else bad & np.isfinite(values)


def _all_text(cells: np.ndarray) -> bool:
    """Whether every cell is a `str`, so that equal cells are alike: 1, 1.0 and True are equal as well."""
    return pd.api.types.infer_dtype(cells, skipna=False) == "string"


def _parse(column: Column, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
    """Values, where cells are blank, and by row those that are no numbers; the same text is read once."""
    if not _all_text(cells):
        return _read(column, cells)
    code, found = pd.factorize(cells)
    values, blank, text = _read(column, found)
    rows = np.flatnonzero(np.isin(code, list(text))).tolist() if text else []
    return values[code], blank[code], {row: text[int(code[row])] for row in rows}


def _read(column: Column, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
    """Cell by cell, by Python's own exact conversion; pandas' fast one may be off in the last digit."""
    values = np.full(len(cells), math.nan)
    blank = np.zeros(len(cells), bool)
    text: dict[int, str] = {}
    for i, cell in enumerate(cells):
        if is_blank(cell):
            blank[i] = True
            continue
        try:
            if isinstance(cell, str) and "_" in cell:
                raise ValueError  # float() reads 1_000 as 1000
            values[i] = float(cell)
        except (TypeError, ValueError):
            word = str(cell).strip()
            if column.dtype == "flag" and word.lower() in _FLAG_WORDS:
                values[i] = _FLAG_WORDS[word.lower()]
            else:
                text[i] = word
    return values, blank, text


def _comma_hint(word: str) -> str:
    digits = word.replace(",", "").replace("-", "", 1).replace(".", "")
    if "," not in word or not digits.isdigit():
        return ""
    thousands = word.count(",") > 1 or "." in word
    return (
        f"; write a decimal point {'and no separators of thousands' if thousands else 'instead of a comma'}"
    )


def _percent_hint(column: Column, value: float) -> str:
    is_share = column.maximum == 1.0 or column.below == 1.0
    return " (a percentage? divide by 100)" if is_share and 1.0 < value <= 100.0 else ""


def _fill_from_other_columns(prosumers: pd.DataFrame) -> None:
    """Defaults that depend on other columns of the same row."""
    start = prosumers["battery_start_kwh"].to_numpy(copy=True)
    middle = 0.5 * (prosumers["battery_min_kwh"].to_numpy() + prosumers["battery_kwh"].to_numpy())
    prosumers["battery_start_kwh"] = np.where(np.isnan(start), middle, start)
    follows = (prosumers["reactive_profile"] == "") & (prosumers["load_kvar"] != 0.0)
    prosumers["reactive_profile"] = prosumers["reactive_profile"].where(~follows, prosumers["load_profile"])
