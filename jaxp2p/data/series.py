"""Tables to arrays: the time series in kW that every member and every bus has."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxp2p.data.tables import Tables
from jaxp2p.data.validation import slot_hours


class Series(NamedTuple):
    """Absolute time series, float64. T slots, N members, B buses, in the order of the tables."""

    load_kw: np.ndarray  # (T, N)
    load_kvar: np.ndarray  # (T, N)
    pv_kw: np.ndarray  # (T, N) available, before curtailment
    background_kw: np.ndarray  # (T, B) consumption positive
    background_kvar: np.ndarray  # (T, B) consumption positive
    buy_eur_per_kwh: np.ndarray  # (T,)
    sell_eur_per_kwh: np.ndarray  # (T,)
    dt_h: float  # slot length


class Scaled(NamedTuple):
    """Profiles times factors of many owners, made for as many slots at a time as one likes."""

    profiles: np.ndarray  # (T, K) float64, those in use
    kind: np.ndarray  # (N,) the profile of every owner
    factor: np.ndarray  # (N,) kW or kvar

    def rows(self, some: slice = slice(None)) -> np.ndarray:
        """The series of these slots, (slots, N) float64."""
        series = self.profiles[some].take(self.kind, axis=1)
        series *= self.factor
        return series


def scaled(profiles: pd.DataFrame, names: pd.Series, factors: pd.Series, *, absent: float = 0.0) -> Scaled:
    """What owners with these profiles and factors have; `absent` is the value of a profile without a name."""
    kind, kinds = pd.factorize(names.to_numpy(object))
    known = [name for name in kinds if name]
    series = np.full((len(profiles), len(kinds)), absent)
    series[:, np.array([bool(name) for name in kinds])] = profiles[known].to_numpy(float)
    return Scaled(series, kind, factors.to_numpy(float))


def absolute_series(tables: Tables) -> Series:
    """Profiles times their factors. The tables must be complete (see `Tables`)."""
    homes, buses, profiles = tables.prosumers, tables.buses, tables.profiles

    def background(column: str) -> np.ndarray:
        return scaled(profiles, buses["background_profile"], buses[column], absent=1.0).rows()

    return Series(
        load_kw=scaled(profiles, homes["load_profile"], homes["load_kw"]).rows(),
        load_kvar=scaled(profiles, homes["reactive_profile"], homes["load_kvar"]).rows(),
        pv_kw=scaled(profiles, homes["pv_profile"], homes["pv_kw"]).rows(),
        background_kw=background("background_kw"),
        background_kvar=background("background_kvar"),
        buy_eur_per_kwh=tables.prices["buy_eur_per_kwh"].to_numpy(float),
        sell_eur_per_kwh=tables.prices["sell_eur_per_kwh"].to_numpy(float),
        dt_h=slot_hours(profiles["time"]),
    )
