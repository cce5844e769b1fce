"""Tables of homes and slots of a run (`report.frames`) as arrays: a row per slot, a column per member."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True, eq=False)
class ByMember:
    """Homes and slots of one policy; times by the clock of time_zone, by which those of tables are in UTC."""

    homes: pd.DataFrame
    slots: pd.DataFrame
    time_zone: str | None = None

    @property
    def time(self) -> pd.DatetimeIndex:
        """(T,) starts of the slots."""
        time = pd.DatetimeIndex(self.slots["time"])
        return time if self.time_zone is None else time.tz_localize("UTC").tz_convert(self.time_zone)

    @property
    def members(self) -> tuple[str, ...]:
        """N names, in the order of the columns."""
        return tuple(str(name) for name in self.homes["member"].iloc[: len(self.homes) // len(self.slots)])

    @property
    def hours(self) -> float:
        """Length of a slot; no run has less than two."""
        first, second = self.slots["time"].iloc[:2]
        return (second - first) / pd.Timedelta("1h")

    def values(self, column: str) -> np.ndarray:
        """(T, N) of the table of homes."""
        return self.homes[column].to_numpy(float).reshape(len(self.slots), -1)

    def kwh(self, power: str) -> np.ndarray:
        """(T, N) of a power by its name without the unit."""
        return self.hours * self.values(f"{power}_kw")

    @property
    def tariffs(self) -> tuple[np.ndarray, np.ndarray]:
        """(T,) EUR/kWh each, at which the utility sells and buys."""
        buy, sell = (self.slots[f"price_{side}_eur_per_kwh"].to_numpy(float) for side in ("buy", "sell"))
        return buy, sell
