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


def absolute_series(tables: Tables) -> Series:
    """Profiles times their factors. The tables must be complete (see `Tables`)."""
    homes, buses, profiles = tables.prosumers, tables.buses, tables.profiles

    def scaled(names: pd.Series, factors: pd.Series, *, absent: float) -> np.ndarray:
        # Every profile is looked up once and then spread over those who use it.
        kinds = list(dict.fromkeys(names))
        columns = [
            profiles[kind].to_numpy(float) if kind else np.full(len(profiles), absent) for kind in kinds
        ]
        return np.stack(columns, axis=1)[:, pd.Index(kinds).get_indexer(names)] * factors.to_numpy(float)

    return Series(
        load_kw=scaled(homes["load_profile"], homes["load_kw"], absent=0.0),
        load_kvar=scaled(homes["reactive_profile"], homes["load_kvar"], absent=0.0),
        pv_kw=scaled(homes["pv_profile"], homes["pv_kw"], absent=0.0),
        background_kw=scaled(buses["background_profile"], buses["background_kw"], absent=1.0),
        background_kvar=scaled(buses["background_profile"], buses["background_kvar"], absent=1.0),
        buy_eur_per_kwh=tables.prices["buy_eur_per_kwh"].to_numpy(float),
        sell_eur_per_kwh=tables.prices["sell_eur_per_kwh"].to_numpy(float),
        dt_h=slot_hours(profiles["time"]),
    )
