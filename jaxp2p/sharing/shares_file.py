"""Shares, levels and percentages of members out of one table; what is in it is seen by its columns.

    member, share              a share of every interval's generation; 1 in all
    hour, member, share        the same by the hour of the day, 0 to 23; 1 in every hour
    time, member, share        the same by interval, or by the hour that begins then; 1 in each
    member, level              priority, the lowest number first; may stand beside shares
    producer, member, share    percentages of pairs, 0 where a pair is not there; 1 at most for a producer
    time, producer, member, share

Every member that draws has a row, also one with a share of 0.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from jaxp2p.data.csv_files import FileFault
from jaxp2p.data.faults import Fault, InputError, row_faults
from jaxp2p.data.frames import complete_frame, near
from jaxp2p.data.tables import in_file, read_one
from jaxp2p.sharing.energy import Energy
from jaxp2p.sharing.made import Given
from jaxp2p.sharing.pairs import FromMarket
from jaxp2p.sharing.shares import HOURS

TABLE = "shares"


def read_shares(path: str | Path, energy: Energy, *, trades: FromMarket | None = None) -> Given:
    """What the table says of the members of `energy`, whose time zone its times without an offset are in.

    trades: of a run, which are no matter of the table.

    Raises InputError with all faults: an unknown member, hour or time, one that is missing or stands twice.
    """
    lines: dict[str, np.ndarray] = {}
    file = Path(path)
    if not file.is_file():
        raise InputError([Fault(str(file), "", None, "there is no such file")], source=str(file))
    try:
        raw, places = read_one(TABLE, [file])
    except FileFault as fault:
        raise InputError(fault.faults(TABLE), source=str(file)) from None
    if places is not None:
        lines[TABLE] = places
    try:
        return shares_of(raw, energy, trades=trades)
    except InputError as error:
        raise InputError([in_file(fault, lines) for fault in error.faults], source=str(file)) from None


def shares_of(table: pd.DataFrame, energy: Energy, *, trades: FromMarket | None = None) -> Given:
    """As `read_shares`, of a table in memory."""
    zone = None if energy.time.tz is None else str(energy.time.tz)
    frame, faults = complete_frame(TABLE, table, zone=zone)
    columns = set(map(str, table.columns))
    if "member" not in columns or not {"share", "level"} & columns:
        faults.append(Fault(TABLE, "", None, "columns member and share, or member and level, are needed"))
    if {"hour", "time"} <= columns:
        faults.append(Fault(TABLE, "", None, "shares are by hour or by time, not by both"))
    if faults:
        raise InputError(faults, source=TABLE)
    place = _Places(frame, energy)
    axes = []
    if "hour" in columns:
        axes.append(place.of("hour", range(HOURS)))
    if "time" in columns:
        intervals = _plain(energy.time)
        hours = "producer" not in columns and _by_hours(frame["time"], energy)
        axes.append(place.of("time", intervals[energy.time.minute == 0] if hours else intervals))
    if "producer" in columns:
        axes.append(place.of("producer", energy.producers))
    axes.append(place.of("member", energy.consumers))
    sizes = [size for _, size in axes]
    cell = np.ravel_multi_index([np.maximum(found, 0) for found, _ in axes], sizes)
    place.check_cells(cell, int(np.prod(sizes)), sparse="producer" in columns)
    for name in {"share", "level"} & columns:
        place.check_numbers(name)
    if place.faults:
        raise InputError(place.faults, source=TABLE)
    filled = {}
    for name in {"share", "level"} & columns:
        values = np.zeros(sizes)
        values.flat[cell] = frame[name]
        filled[name] = values
    share, level = filled.get("share"), filled.get("level")
    if level is not None and level.ndim > 1:
        raise InputError([Fault(TABLE, "level", None, "levels are by member alone")], source=TABLE)
    if "producer" in columns:
        return Given(percentages=share, trades=trades)
    if {"hour", "time"} & columns:
        return Given(hourly=share, in_order="time" in columns, trades=trades)
    return Given(shares=share, levels=level, trades=trades)


def _plain(time: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """In UTC where a zone is known, as times in tables are."""
    return time if time.tz is None else time.tz_convert("UTC").tz_localize(None)


def _by_hours(given: pd.Series, energy: Energy) -> bool:
    """Whether no time is given but beginnings of hours."""
    return bool(given.isin(_plain(energy.time)[energy.time.minute == 0]).all())


class _Places:
    """Where rows of the table belong, and what is wrong with them."""

    def __init__(self, frame: pd.DataFrame, energy: Energy):
        self.frame, self.energy = frame, energy
        self.faults: list[Fault] = []

    def of(self, column: str, known: object) -> tuple[np.ndarray, int]:
        """(rows,) places of the cells among what is known, -1 where there is none; and how many there are."""
        index = pd.Index(known)
        cells = self.frame[column]
        found = index.get_indexer(pd.Index(cells))
        kind = {"hour": "an hour", "time": "an interval of the meters"}.get(column, "a member")

        def words(i: int) -> str:
            hint = near(str(cells[i]), list(map(str, index))) if kind == "a member" else ""
            return f"{cells[i]} is not {kind}{hint}"

        self.faults += row_faults(TABLE, column, found < 0, words)
        return found, len(index)

    def check_cells(self, cell: np.ndarray, size: int, *, sparse: bool) -> None:
        """Every place once; `sparse`: at most once."""
        if self.faults:
            return
        twice = pd.Series(cell).duplicated().to_numpy()
        self.faults += row_faults(TABLE, "", twice, lambda i: f"{self.frame['member'][i]} stands twice")
        missing = size - len(np.unique(cell))
        if missing and not sparse:
            absent = [name for name in self.energy.consumers if name not in set(self.frame["member"])]
            who = f", the first is {absent[0]}" if absent else ""
            text = f"{missing} rows are missing{who}: write 0 for who has no share"
            self.faults.append(Fault(TABLE, "", None, text))

    def check_numbers(self, column: str) -> None:
        """A number in every row."""
        gone = ~np.isfinite(self.frame[column].to_numpy(float))
        self.faults += row_faults(TABLE, column, gone, lambda i: f"{self.frame['member'][i]}: no number")
