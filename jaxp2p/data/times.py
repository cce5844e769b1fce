"""Time stamps: parsed, put into UTC where a time zone or an offset says how, and checked for a regular step.

Inside there is one clock without jumps. Stamps with a UTC offset become UTC. Stamps without are taken as they
are, or, where a time zone is named, as the local times of that zone, which jump twice a year, and become UTC.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from jaxp2p.data.faults import Fault, row_faults

if TYPE_CHECKING:
    from jaxp2p.data.tables import Tables

HOUR, MINUTE, SECOND, DAY = (pd.Timedelta(1, unit).value for unit in ("h", "min", "s", "D"))  # ns
JITTER = 1e-3  # of a step, by which time stamps may be off: spreadsheets count days as decimals

_OFFSET = re.compile(r"\d[T ].*(Z|[+-]\d\d:?(\d\d)?)\s*$", re.IGNORECASE)
_ADVICE = (
    "--time-zone Europe/Berlin on the command line, time_zone in Python (or your own zone), reads "
    "local times; "
    "or write every time with its UTC offset, such as 2016-07-04T00:15:00+02:00"
)


def check_zone(name: str) -> str:
    """The time zone if there is one of that name: Europe/Berlin, or a fixed offset such as +01:00.

    Raises ValueError.
    """
    try:
        pd.Timestamp("2000-01-01").tz_localize(name)
        return name
    except Exception:  # every kind of wrong name has an exception of its own
        from zoneinfo import available_timezones

        zones = {zone.split("/")[-1].lower(): zone for zone in sorted(available_timezones())}
        close = difflib.get_close_matches(name.split("/")[-1].lower(), zones, n=1)
        hint = f'; did you mean "{zones[close[0]]}"?' if close else ""
        raise ValueError(
            f"unknown time zone {name!r}: write one such as Europe/Berlin, or an offset such as +01:00{hint}"
        ) from None


def zoned_time(tables: Tables) -> pd.Series:
    """Starts of the slots with the tables' time zone, or without one where they have none."""
    time, zone = tables.profiles["time"], tables.meta.get("time_zone")
    return time if zone is None else time.dt.tz_localize("UTC").dt.tz_convert(zone)


def local_time(tables: Tables) -> pd.Series:
    """Starts of the slots as the clock on the wall shows them: in the tables' time zone, without the zone."""
    return zoned_time(tables).dt.tz_localize(None)


def parse_times(
    table: str, column: str, cells: pd.Series, *, zone: str | None = None, series: bool = True
) -> tuple[pd.Series, list[Fault]]:
    """Stamps without a zone, datetime64[ns], NaT where a cell is no time; and the faults.

    zone: stamps without an offset are local times of this time zone and become UTC. series: they follow each
    other in equal steps, by which they may be put right, and which of two equal hours is meant may be told.
    """
    cells = cells.reset_index(drop=True)
    if isinstance(cells.dtype, pd.PeriodDtype):
        cells = cells.dt.to_timestamp()
    if isinstance(cells.dtype, pd.CategoricalDtype):
        cells = cells.astype(object)
    if pd.api.types.is_numeric_dtype(cells.dtype):
        parsed = pd.Series(np.full(len(cells), np.datetime64("NaT", "ns")))
    else:
        # One call for both forms: stamps with an offset become UTC, stamps without stay as they are.
        parsed = _to_datetime(cells)
    parsed = parsed.rename(None)
    text = "{!r} is not an ISO 8601 time such as 2016-07-04T00:15:00"
    faults = row_faults(table, column, parsed.isna(), lambda i: text.format(cells.iloc[i]))
    offset = _with_offset(cells)
    mixed = offset != offset[0] if len(offset) else offset
    if (mixed & parsed.notna().to_numpy()).any():
        here, there = ("a", "none") if not offset[0] else ("no", "one")
        faults += row_faults(
            table, column, mixed, lambda i: f"{cells.iloc[i]} has {here} UTC offset, row 1 has {there}"
        )
    elif zone is not None and len(offset) and not offset[0]:
        parsed, more = _from_local(table, column, parsed, zone, series)
        faults += more
    return _whole_seconds(parsed) if series else parsed, faults


def _to_datetime(cells: pd.Series) -> pd.Series:
    try:
        stamps = pd.to_datetime(cells, format="ISO8601", errors="coerce", utc=True)
    except (ValueError, TypeError, OverflowError):
        stamps = pd.Series([_one_stamp(cell) for cell in cells], dtype="datetime64[ns, UTC]")
    return stamps.dt.tz_localize(None).astype("datetime64[ns]")


def _one_stamp(cell: Any) -> Any:
    try:
        return pd.to_datetime(cell, format="ISO8601", errors="coerce", utc=True)
    except (ValueError, TypeError, OverflowError):
        return pd.NaT


def offset_faults(table: str, column: str, cells: pd.Series, series: pd.Series) -> list[Fault]:
    """The fault where single stamps have an offset from UTC, or none, and those of a series not so."""
    here, there = (_with_offset(stamps.iloc[:1].reset_index(drop=True)) for stamps in (cells, series))
    if not len(here) or not len(there) or here[0] == there[0]:
        return []
    words = ("no UTC offset", "one") if there[0] else ("a UTC offset", "none")
    text = f"{cells.iloc[0]} has {words[0]}, the times of profiles have {words[1]}: write them alike"
    return [Fault(table, column, 1, text)]


def _with_offset(cells: pd.Series) -> np.ndarray:
    """(rows,) bool: stamps that say how far they are from UTC."""
    if isinstance(cells.dtype, pd.DatetimeTZDtype):
        return np.ones(len(cells), bool)
    if cells.dtype.kind == "M" or pd.api.types.is_numeric_dtype(cells.dtype):
        return np.zeros(len(cells), bool)
    return np.array(
        [
            bool(_OFFSET.search(cell)) if isinstance(cell, str) else getattr(cell, "tzinfo", None) is not None
            for cell in cells
        ],
        bool,
    )


def _from_local(
    table: str, column: str, local: pd.Series, zone: str, series: bool
) -> tuple[pd.Series, list[Fault]]:
    """Local times of a zone as UTC. The hour that comes twice in autumn is told apart by its order.

    Of single stamps, which have no order, the first of the two is meant.
    """
    index = pd.DatetimeIndex(local)
    first = np.ones(len(index), bool)  # of two equal hours
    known = index.tz_localize(zone, ambiguous=first, nonexistent="NaT")
    nowhere = known.isna() & index.notna()
    if series:
        try:
            known = index.tz_localize(zone, ambiguous="infer", nonexistent="NaT")
        except ValueError:
            known = index.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
    advice = (
        "; if the clock of these data never changes, name its fixed offset: "
        'jaxp2p run DIR --time-zone +01:00 (in Python time_zone="+01:00")'
    )
    faults = row_faults(
        table,
        column,
        nowhere,
        lambda i: f"{_text(index[i])} does not exist in {zone}: daylight saving begins there{advice}",
    )
    faults += row_faults(
        table,
        column,
        known.isna() & index.notna() & ~nowhere,
        lambda i: (
            f"{_text(index[i])} comes twice in {zone}, when daylight saving ends, and the rows do not say "
            f"which of the two it is{advice}"
        ),
    )
    return pd.Series(known.tz_convert("UTC").tz_localize(None)).astype("datetime64[ns]"), faults


def _whole_seconds(stamps: pd.Series) -> pd.Series:
    """Stamps that a spreadsheet computed, 00:14:59.999 for 00:15, put right if the step is even then."""
    values = stamps.to_numpy("datetime64[ns]")
    if len(values) < 2 or np.isnat(values).any() or not (values.astype(np.int64) % SECOND).any():
        return stamps
    seconds = stamps.dt.round("s").to_numpy("datetime64[ns]")
    even = len(np.unique(np.diff(seconds))) == 1 and len(np.unique(np.diff(values))) > 1
    return pd.Series(seconds) if even else stamps


def slot_hours(time: pd.Series) -> float:
    """Length of a slot in hours (the median step); NaN with fewer than two usable time stamps."""
    steps = np.diff(time.dropna().to_numpy("datetime64[ns]")).astype(np.int64)
    return float(np.median(steps)) / HOUR if steps.size else float("nan")


def step_faults(table: str, time: pd.Series, *, zone: str | None = None) -> list[Fault]:
    """Faults of the time stamps of a table: gaps, repetitions, disorder; daylight saving is named."""
    stamps = time.to_numpy("datetime64[ns]")
    known = ~np.isnat(stamps)
    if known.sum() < 2:
        return [
            Fault(table, "time", None, "at least two time stamps are needed to know the length of a slot")
        ]
    if not known.all():
        return []  # a step next to an unreadable stamp says nothing; the stamp itself is already a fault
    steps = np.diff(stamps).astype(np.int64)
    forward = steps[steps > 0]
    if not forward.size:
        return [Fault(table, "time", None, "time does not advance")]
    # The most frequent step, so that one gap or one duplicate does not make every other row wrong.
    kinds, counts = np.unique(forward, return_counts=True)
    step = int(kinds[np.argmax(counts)])
    if step > DAY:
        return [Fault(table, "time", None, "a slot is longer than a day")]

    def rows(bad: np.ndarray, message: Callable[[int], str]) -> list[Fault]:
        return row_faults(table, "time", np.concatenate(([False], bad)), message)

    def saving(i: int) -> str:
        """What to say where the jump before row i looks like a change of the clock."""
        if zone is not None or not _clock_change(stamps[i - 1], stamps[i], step):
            return ""
        return f". Is it daylight saving, in local times? {_ADVICE}"

    even = np.abs(steps - step) <= JITTER * step
    minutes = step / MINUTE
    return [
        *rows(steps == 0, lambda i: f"{_text(stamps[i])} stands twice{saving(i)}"),
        *rows(
            steps < 0,
            lambda i: (
                f"{_text(stamps[i])} comes after {_text(stamps[i - 1])}: time must be sorted{saving(i)}"
            ),
        ),
        *rows(
            (steps > 0) & ~even,
            lambda i: (
                f"gap or irregular step: {_text(stamps[i])} follows {_text(stamps[i - 1])}, "
                f"the step is {minutes:g} minutes{saving(i)}"
            ),
        ),
    ]


def _clock_change(before: np.datetime64, after: np.datetime64, step: int) -> bool:
    """Whether a jump looks like the clock set forward or back by an hour, in a night of spring or autumn."""
    jump = int((after - before).astype(np.int64)) - step
    moment = pd.Timestamp(after)
    an_hour = abs(jump) == HOUR or (jump == -step and step <= HOUR)  # or each stamp of the hour twice
    return an_hour and (moment.hour <= 4 or moment.hour == 23) and moment.month in (3, 4, 9, 10, 11)


def alignment_faults(profiles: pd.Series, prices: pd.Series) -> list[Fault]:
    """Faults where the tables profiles and prices do not cover the same slots."""
    if len(profiles) != len(prices):
        text = (
            f"{len(prices)} rows, but the table profiles has {len(profiles)}: both must cover the same slots"
        )
        return [Fault("prices", "time", None, text)]
    ours, theirs = prices.to_numpy("datetime64[ns]"), profiles.to_numpy("datetime64[ns]")
    known = ~np.isnat(ours) & ~np.isnat(theirs)
    hours = slot_hours(profiles)
    slack = JITTER * hours * HOUR if hours > 0 else 0.0
    apart = np.where(known, (ours - theirs).astype(np.int64), 0)
    differ = np.flatnonzero(np.abs(apart) > slack)
    if not differ.size:
        return []
    i = int(differ[0])
    text = f"{_text(ours[i])} here but {_text(theirs[i])} in profiles ({differ.size} rows differ)"
    if len(np.unique(apart)) == 1 and apart[0] % (15 * MINUTE) == 0 and abs(apart[0]) <= 14 * HOUR:
        text += "; are the times of only one of the tables in UTC, or with a UTC offset?"
    return [Fault("prices", "time", i + 1, text)]


def _text(stamp: Any) -> str:
    moment = pd.Timestamp(stamp)
    return moment.isoformat() if moment.nanosecond or moment.microsecond else f"{moment:%Y-%m-%dT%H:%M:%S}"
