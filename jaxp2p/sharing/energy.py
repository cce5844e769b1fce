"""What the meters of a community counted, interval by interval, in whole watt-hours.

Meters count whole Wh, and so does everything here: a key may then round each member's part up or down, and is
never above a limit that is itself a whole number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd

from jaxp2p.data.apportion import apportioned
from jaxp2p.data.faults import Fault, InputError, row_faults
from jaxp2p.data.times import HOUR, slot_hours, step_faults

WH = 1000.0  # in a kWh


@dataclass(frozen=True, kw_only=True, eq=False)
class Energy:
    """Feed-in and draw of a local community; made and checked by `measured`.

    A member that feeds in and draws has a column in both, under the same name.
    """

    time: pd.DatetimeIndex  # (T,) starts of the intervals; in the zone whose clock tells the hour of the day
    generation: np.ndarray  # (T, P) int64 Wh fed into the grid
    consumption: np.ndarray  # (T, N) int64 Wh drawn from the grid
    producers: tuple[str, ...]  # P names
    consumers: tuple[str, ...]  # N names
    own: np.ndarray | None = None  # (T, N) int64 Wh used behind the meter, which no key sees; None: not known

    @property
    def hours(self) -> float:
        """Length of an interval."""
        return slot_hours(pd.Series(self.time))

    @property
    def generated(self) -> np.ndarray:
        """(T,) int64 Wh of all producers."""
        return self.generation.sum(1)

    @property
    def consumed(self) -> np.ndarray:
        """(T,) int64 Wh of all consumers."""
        return self.consumption.sum(1)

    @property
    def hour_of_day(self) -> np.ndarray:
        """(T,) int, 0 to 23 by the clock on the wall: one is missing in spring, one comes twice in autumn."""
        return self.time.hour.to_numpy()

    @property
    def members(self) -> tuple[str, ...]:
        """Everybody once: consumers, then those who only feed in."""
        return tuple(dict.fromkeys((*self.consumers, *self.producers)))

    @property
    def both(self) -> tuple[np.ndarray, np.ndarray]:
        """Columns (of producers, of consumers) of the members that are both."""
        place = {name: n for n, name in enumerate(self.consumers)}
        pairs = [(p, place[name]) for p, name in enumerate(self.producers) if name in place]
        found = np.array(pairs, int).reshape(-1, 2)
        return found[:, 0], found[:, 1]


def measured(
    time: pd.DatetimeIndex | pd.Series,
    generation: np.ndarray,
    consumption: np.ndarray,
    *,
    producers: Sequence[str],
    consumers: Sequence[str],
    own: np.ndarray | None = None,
    source: str = "meters",
) -> Energy:
    """Energy from readings in kWh: generation (T, P), consumption (T, N), own (T, N) behind the meter.

    time: starts of intervals of equal length, with the time zone by whose clock hourly keys go, or without
    one for a clock that does not jump. Readings are rounded to whole Wh so that the sum of an interval is the
    rounded sum. Raises InputError, with all faults, for energy that is negative or no number, for names that
    stand twice, for an interval that is missing or stands twice, and where shapes do not fit.
    """
    index = pd.DatetimeIndex(time)
    tables = {
        "generation": (np.asarray(generation, float), tuple(map(str, producers))),
        "consumption": (np.asarray(consumption, float), tuple(map(str, consumers))),
    }
    if own is not None:
        tables["own"] = (np.asarray(own, float), tables["consumption"][1])
    plain = index if index.tz is None else index.tz_convert("UTC").tz_localize(None)
    faults = step_faults("meters", pd.Series(plain))
    for name, (values, names) in tables.items():
        faults += _faults(name, values, names, len(index))
    if faults:
        raise InputError(faults, source=source)
    whole = {name: apportioned(values, 1 / WH) for name, (values, _) in tables.items()}
    return Energy(
        time=index,
        generation=whole["generation"],
        consumption=whole["consumption"],
        producers=tables["generation"][1],
        consumers=tables["consumption"][1],
        own=whole.get("own"),
    )


def _faults(table: str, values: np.ndarray, names: tuple[str, ...], rows: int) -> list[Fault]:
    if values.shape != (rows, len(names)):
        text = f"an array of shape {values.shape} for {rows} times and {len(names)} members"
        return [Fault(table, "", None, text)]
    if not names:
        return [Fault(table, "", None, "nobody is in this table")]
    faults = [
        Fault(table, name, None, f"the member stands {times} times in this table")
        for name, times in Counter(names).items()
        if times > 1
    ]
    good = np.isfinite(values) & (values >= 0)
    for n in np.flatnonzero(~good.all(0)):
        faults += row_faults(table, names[n], ~good[:, n], partial(_refused, values[:, n]))
    return faults


def _refused(kwh: np.ndarray, row: int) -> str:
    return f"{kwh[row]:g} kWh: energy must be a number that is not negative"


def by_the_hour(energy: Energy) -> Energy:
    """The energy of whole hours by the clock of its zone, for keys that are settled by the hour.

    Hours follow each other without jumps: a day has 23 of them in spring, 25 in autumn. Raises ValueError
    where an interval is no whole fraction of an hour, or an hour is not there as a whole.
    """
    per_hour = 1 / energy.hours
    count = round(per_hour)
    if count < 1 or abs(per_hour - count) > 1e-6:
        raise ValueError(f"intervals of {60 * energy.hours:g} minutes do not make up an hour")
    past = energy.time.minute * 60 + energy.time.second  # of the hour that the interval begins in, s
    if (past[::count] != 0).any() or len(past) % count:
        first, last = energy.time[0], energy.time[-1] + pd.Timedelta(energy.hours * HOUR, "ns")
        raise ValueError(
            "settled by the hour, data must begin and end with one; these are from "
            f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"
        )
    summed = lambda values: values.reshape(-1, count, values.shape[1]).sum(1)
    return replace(
        energy,
        time=energy.time[::count],
        generation=summed(energy.generation),
        consumption=summed(energy.consumption),
        own=None if energy.own is None else summed(energy.own),
    )
