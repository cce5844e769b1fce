"""A key applied to a community: what it shares, what that saves, and how far it falls short of the market."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from jaxp2p.sharing.energy import WH, Energy, by_the_hour
from jaxp2p.sharing.key import Allotment, Key, allot
from jaxp2p.sharing.money import (
    Prices,
    money,
    money_of_market,
    money_table,
    prices_by_the_hour,
    traded_by_market,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Applied:
    """A key by its name, and what it makes of the energy of the intervals in which it is settled."""

    name: str
    allotment: Allotment
    prices: Prices | None  # of the same intervals; None: not known

    def figures(self) -> dict[str, Any]:
        """Energy and money of all members, beside the market of the same intervals.

        The market matches all that is fed in and drawn at the same time, in intervals where that saves
        anything; it knows no limits of the grid. Money is None without prices.
        """
        energy, shared = self.allotment.energy, float(self.allotment.shared.sum()) / WH
        generated, consumed = (float(x.sum()) / WH for x in (energy.generated, energy.consumed))
        matched = float(traded_by_market(energy, self.prices).sum()) / WH
        saving = market = None
        if self.prices is not None:
            saving = money(self.allotment, self.prices).total
            market = float(money_of_market(energy, self.prices).sum())
        over = lambda part, whole: part / whole if whole > 0 else None
        return {
            "interval_minutes": 60 * energy.hours,
            "generation_kwh": generated,
            "consumption_kwh": consumed,
            "shared_kwh": shared,
            "fed_to_grid_kwh": generated - shared,
            "grid_kwh": consumed - shared,
            "shared_of_generation": over(shared, generated),
            "shared_of_consumption": over(shared, consumed),
            "market_kwh": matched,
            "short_of_market_kwh": matched - shared,
            "saving_eur": saving,
            "market_eur": market,
            "short_of_market_eur": None if saving is None or market is None else market - saving,
        }

    def members(self) -> pd.DataFrame:
        """A row per member: its kWh as `Allotment.members`, and its EUR where prices are known."""
        table = self.allotment.members()
        if self.prices is None:
            return table
        return table.merge(money_table(self.allotment, self.prices), on="member")

    def intervals(self) -> pd.DataFrame:
        """A row per interval: kWh as `Allotment.intervals`, and what sharing saves where prices are known."""
        table = self.allotment.intervals()
        if self.prices is not None:
            table["saving_eur"] = money(self.allotment, self.prices).intervals
        return table


def apply(name: str, key: Key, energy: Energy, prices: Prices | None, *, hourly: bool = False) -> Applied:
    """Apply a key, `hourly`: to the energy of whole hours, at their mean prices.

    Raises ValueError as the key does, and as `by_the_hour`.
    """
    if not hourly:
        return Applied(name=name, allotment=allot(key, energy), prices=prices)
    hours = by_the_hour(energy)
    count = len(energy.time) // len(hours.time)
    mean = None if prices is None else prices_by_the_hour(prices, count)
    return Applied(name=name, allotment=allot(key, hours), prices=mean)
