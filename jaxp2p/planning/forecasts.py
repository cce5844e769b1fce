"""What a planner believes about the slots ahead: yesterday again, the mean of the last weeks, or the truth.

The value of slot tau, seen from slot t < tau, is the mean over the same slot of earlier days:

    x^(tau) = mean over j = 0 .. days - 1 of x(tau - (m + j) day),

m the smallest with tau - m day <= t, so nothing after t is used. At tau = t the value itself is known, as it
is to every policy. Working days and weekends are not kept apart: with the same weekday only, four weeks are
four values instead of 28, which on rural3 loses more in summer than it gains in autumn.
"""

from typing import NamedTuple

import numpy as np


class Forecast(NamedTuple):
    """How many earlier days stand for a slot to come, or as many as there are; None: the truth."""

    power_days: int | None  # load and PV
    price_days: int | None

    @property
    def needs_history(self) -> bool:
        """Whether the first slot has no forecast without a day before the window."""
        return self.power_days is not None or self.price_days is not None


FORECASTS = ("persistence", "mean", "perfect", "perfect_power", "perfect_price")


def make_forecast(name: str, *, weeks: int = 4) -> Forecast:
    """The forecast by name.

    "persistence": everything as yesterday. "mean": as the mean of the last `weeks` weeks. "perfect": the
    truth. "perfect_power": load and PV are the truth, prices as yesterday. "perfect_price": the other way
    round, as where prices are published a day ahead. Raises ValueError for another name, or for less than a
    week.
    """
    if name not in FORECASTS:
        raise ValueError(f"unknown forecast {name!r}: choose from {', '.join(FORECASTS)}")
    if weeks < 1:
        raise ValueError(f"weeks = {weeks} must be at least 1")
    return {
        "persistence": Forecast(1, 1),
        "mean": Forecast(7 * weeks, 7 * weeks),
        "perfect": Forecast(None, None),
        "perfect_power": Forecast(None, 1),
        "perfect_price": Forecast(1, None),
    }[name]


def foresee(record: np.ndarray, now: int, slots: int, days: int | None, *, slots_per_day: int) -> np.ndarray:
    """(slots, C) what `record` (R, C) is believed to be from row `now` on; the first row is the truth.

    days: as in Forecast; needs a day of rows before `now`, or all rows asked for where it is None.
    """
    if days is None:
        return record[now : now + slots]
    ahead = np.arange(1, slots)
    latest = now + ahead - slots_per_day * -(-ahead // slots_per_day)
    rows = latest - slots_per_day * np.arange(days)[:, None]  # (days, slots - 1)
    known = rows >= 0
    total = np.where(known[..., None], record[np.maximum(rows, 0)], 0).sum(0)
    return np.concatenate([record[now : now + 1], total / known.sum(0)[:, None]])
