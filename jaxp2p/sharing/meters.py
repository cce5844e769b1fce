"""Meter data from files: who drew and fed in how much in every interval, as a long table or as two wide ones.

    meters        time, member, consumption_kwh, generation_kwh: a row per interval and member. A member
                  without any number in one of the two columns does not draw, or does not feed in
    consumption   time and a column of kWh for every member that draws,
    generation    time and a column of kWh for every member that feeds in
    prices        optional: buy_eur_per_kwh and sell_eur_per_kwh of the utility at the times of the meters

as CSV or Parquet files: one file of the first kind, or a folder of either kind.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxp2p.data.csv_files import FileFault
from jaxp2p.data.faults import MAX_ROWS_PER_CHECK, Fault, InputError, row_faults
from jaxp2p.data.frames import complete_frame
from jaxp2p.data.tables import SUFFIXES, in_file, read_one
from jaxp2p.data.times import check_zone, parse_times, step_faults
from jaxp2p.sharing.energy import Energy, measured

LONG, WIDE, PRICES = "meters", ("consumption", "generation"), "prices"
SIDES = ("consumption_kwh", "generation_kwh")

Side = tuple[list[str], np.ndarray]  # names, (T, members) kWh


class MeterData(NamedTuple):
    """What was measured, and the prices of the utility where they are known."""

    energy: Energy
    prices: pd.DataFrame | None  # buy_eur_per_kwh and sell_eur_per_kwh, a row per interval


def read_meters(path: str | Path, *, time_zone: str | None = None) -> MeterData:
    """Meter data of a file or a folder.

    Times with a UTC offset, and those without as local times of `time_zone`, become UTC; it is also the zone
    by whose clock keys by the hour of the day go. Raises InputError with all faults by table, column and row:
    an interval that is missing or stands twice, for everybody or for one member, is one.
    """
    if time_zone is not None:
        check_zone(time_zone)
    place = Path(path)
    reading = _Reading(place, time_zone)
    if place.is_file():
        long: list[Path] = [place]
    else:
        if not place.is_dir():
            text = "there is no such file or folder"
            raise InputError([Fault(str(place), "", None, text)], source=str(place))
        long = _files(place, LONG)
    time, columns = reading.long(long) if long else reading.wide()
    prices = reading.prices(time) if place.is_dir() and _files(place, PRICES) else None
    reading.stop_at_faults()
    index = pd.DatetimeIndex(time)
    if time_zone is not None:
        index = index.tz_localize("UTC").tz_convert(time_zone)
    (consumers, consumption), (producers, generation) = columns
    energy = measured(
        index, generation, consumption, producers=producers, consumers=consumers, source=str(place)
    )
    return MeterData(energy, prices)


def _files(folder: Path, table: str) -> list[Path]:
    return [file for suffix in SUFFIXES if (file := folder / f"{table}{suffix}").exists()]


class _Reading:
    """Faults of one source, collected until nothing can be read any more."""

    def __init__(self, place: Path, zone: str | None):
        self.place, self.zone = place, zone
        self.lines: dict[str, np.ndarray] = {}
        self.faults: list[Fault] = []

    def stop_at_faults(self) -> None:
        if self.faults:
            found = [in_file(fault, self.lines) for fault in self.faults]
            raise InputError(found, source=str(self.place))

    def table(self, name: str, files: list[Path]) -> pd.DataFrame | None:
        try:
            raw, places = read_one(name, files)
        except FileFault as fault:
            self.faults += fault.faults(name)
            return None
        if places is not None:
            self.lines[name] = places
        if name == LONG and "time" in raw and raw["time"].dtype.kind == "M":
            raw["time"] = _as_text(raw["time"])
        frame, faults = complete_frame(name, raw, zone=self.zone)
        self.faults += faults
        return frame

    def long(self, files: list[Path]) -> tuple[pd.Series, list[Side]]:
        """Times, consumption and generation of a table with a row per interval and member."""
        frame = self.table(LONG, files)
        self.stop_at_faults()
        assert frame is not None
        code, members = pd.factorize(frame["member"])
        rows = np.argsort(code, kind="stable")  # by member, each in the order of the file
        counts = np.bincount(code, minlength=len(members))
        stamps = frame["time"].to_numpy(object)
        self.faults += _uneven(stamps, code, rows, counts, list(members))
        self.stop_at_faults()
        by_member = rows.reshape(len(members), -1)  # (N, T)
        time = self.times(LONG, frame["time"].iloc[by_member[0]])
        sides = []
        for column in SIDES:
            values = frame[column].to_numpy()[by_member].T  # (T, N)
            some = np.isfinite(values).any(0)
            gone = ~np.isfinite(frame[column].to_numpy()) & some[code]
            self.faults += row_faults(
                LONG, column, gone, lambda i: f"{members[code[i]]}: there is no reading at {stamps[i]}"
            )
            if not some.any():
                self.faults.append(Fault(LONG, column, None, "there is not one number"))
            sides.append(([str(members[n]) for n in np.flatnonzero(some)], values[:, some]))
        self.stop_at_faults()
        return time, sides

    def wide(self) -> tuple[pd.Series, list[Side]]:
        """Times, consumption and generation of two tables with a column per member."""
        frames = [self.table(name, _files(self.place, name)) for name in WIDE]
        self.stop_at_faults()
        sides, times = [], []
        for name, frame in zip(WIDE, frames, strict=True):
            assert frame is not None
            times.append(frame["time"])
            self.faults += step_faults(name, frame["time"], zone=self.zone)
            kwh = frame.drop(columns="time")
            for member in kwh.columns:
                values = kwh[member].to_numpy(float)
                text = lambda i, values=values: f"{values[i]:g} kWh must not be negative"
                self.faults += row_faults(name, member, values < 0, text)
            sides.append((list(kwh.columns), kwh.to_numpy(float)))
        drawn, fed = (pd.DatetimeIndex(time) for time in times)
        for name, missing in ((WIDE[1], drawn.difference(fed)), (WIDE[0], fed.difference(drawn))):
            self.faults += _absent(name, "", missing)
        self.stop_at_faults()
        return times[0], sides

    def times(self, table: str, cells: pd.Series) -> pd.Series:
        """The intervals that all members have, in UTC where that is known."""
        time, faults = parse_times(table, "time", cells, zone=self.zone)
        self.faults += faults or step_faults(table, time, zone=self.zone)
        self.faults = [replace(fault, row=None) for fault in self.faults]  # rows of one member
        self.stop_at_faults()
        return time

    def prices(self, time: pd.Series) -> pd.DataFrame | None:
        """Prices at the times of the meters; those of other times are not needed."""
        frame = self.table(PRICES, _files(self.place, PRICES))
        self.stop_at_faults()
        assert frame is not None
        by_time = frame.drop_duplicates("time").set_index("time")
        missing = pd.DatetimeIndex(time).difference(by_time.index)
        self.faults += step_faults(PRICES, frame["time"], zone=self.zone) + _absent(PRICES, "", missing)
        return None if self.faults else by_time.loc[time].reset_index(drop=True)


def _as_text(time: pd.Series) -> pd.Series:
    """Times as they would stand in a CSV file; each of them is written once, however many members have it."""
    code, distinct = pd.factorize(time)
    words = np.array([*map(str, pd.DatetimeIndex(distinct)), ""], object)
    return pd.Series(words[code], dtype="str")


def _absent(table: str, who: str, missing: pd.DatetimeIndex | list[str]) -> list[Fault]:
    """A fault for times that are not there, the first of them by name."""
    if not len(missing):
        return []
    first = f"{missing[0]:%Y-%m-%dT%H:%M:%S}" if isinstance(missing, pd.DatetimeIndex) else missing[0]
    more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
    return [Fault(table, "time", None, f"{who}there is no row for {first}{more}")]


def _uneven(
    stamps: np.ndarray, code: np.ndarray, rows: np.ndarray, counts: np.ndarray, members: list[str]
) -> list[Fault]:
    """Faults where members do not have the same intervals, against the times that most of them have.

    A time may stand twice for everybody, in the hour that comes twice in autumn.
    """
    ends = np.cumsum(counts)
    stretches = [rows[end - count : end] for end, count in zip(ends, counts, strict=True)]
    usual = np.bincount(counts).argmax()
    model = next(stretch for stretch in stretches if len(stretch) == usual)
    expected = stamps[model]
    faults: list[Fault] = []
    known = _numbered(expected)
    for n, stretch in enumerate(stretches):
        found = stamps[stretch]
        if len(found) == len(expected) and (found == expected).all():
            continue
        own = _numbered(found)
        missing = [stamp for stamp, _ in known.difference(own, sort=False)]
        faults += _absent(LONG, f"{members[n]}: ", missing)
        extra = np.flatnonzero(~own.isin(known))
        for i in extra[:MAX_ROWS_PER_CHECK]:
            text = "stands twice" if found[i] in set(found[:i]) else "is a time that the others do not have"
            faults.append(Fault(LONG, "time", int(stretch[i]) + 1, f"{members[n]}: {found[i]} {text}"))
        if not missing and not extra.size:
            i = int((found != expected).argmax())
            text = f"{members[n]}: {found[i]} does not stand in the order in which others have it"
            faults.append(Fault(LONG, "time", int(stretch[i]) + 1, text))
    return faults


def _numbered(stamps: np.ndarray) -> pd.MultiIndex:
    """Times with how often they have been met before."""
    series = pd.Series(stamps, dtype=object)
    return pd.MultiIndex.from_arrays([series, series.groupby(series).cumcount()])
