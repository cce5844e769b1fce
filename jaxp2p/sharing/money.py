"""What sharing is worth in money: by key, by member and by interval, and against the market.

A shared kWh is not bought from the utility at b and not sold to it at s. With a fee phi on shared energy and
an internal price i that consumers pay to producers, the consumer saves b - phi - i, the producer earns i - s,
and both together b - s - phi.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from jaxp2p.sharing.energy import WH, Energy
from jaxp2p.sharing.key import Allotment


@dataclass(frozen=True, kw_only=True, eq=False)
class Prices:
    """EUR/kWh; made and checked by `prices_of`."""

    buy: np.ndarray  # (T,) of the utility
    sell: np.ndarray  # (T,) to the utility
    internal: np.ndarray  # (T,) consumers pay to producers, without the fee
    fee: float = 0.0  # of a shared kWh, paid by the consumer

    @property
    def spread(self) -> np.ndarray:
        """(T,) what a shared kWh saves: buy - sell - fee."""
        return self.buy - self.sell - self.fee


def prices_of(
    buy: np.ndarray | float,
    sell: np.ndarray | float,
    *,
    intervals: int,
    internal: np.ndarray | float | None = None,
    fee: float = 0.0,
) -> Prices:
    """Prices of all intervals; the internal one is by default that at which both sides save the same.

    Raises ValueError for prices that are no numbers or of another number of intervals.
    """
    if not np.isfinite(fee):
        raise ValueError("the fee must be a number")
    buy, sell = (np.asarray(price, float) for price in (buy, sell))
    middle = (buy + sell - fee) / 2 if internal is None else np.asarray(internal, float)
    for price in (buy, sell, middle):
        if price.shape not in ((), (intervals,)):
            raise ValueError(f"{price.size} prices for {intervals} intervals")
        if not np.isfinite(price).all():
            raise ValueError("prices must be numbers")
    spread_out = (np.broadcast_to(price, (intervals,)) for price in (buy, sell, middle))
    return Prices(**dict(zip(("buy", "sell", "internal"), spread_out, strict=True)), fee=float(fee))


def prices_by_the_hour(prices: Prices, count: int) -> Prices:
    """The means of `count` intervals each."""
    mean = lambda price: price.reshape(-1, count).mean(1)
    return Prices(
        buy=mean(prices.buy), sell=mean(prices.sell), internal=mean(prices.internal), fee=prices.fee
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Money:
    """EUR that sharing saves against the utility alone."""

    intervals: np.ndarray  # (T,)
    consumers: np.ndarray  # (N,) saved by drawing from the community
    producers: np.ndarray  # (P,) earned by feeding into it

    @property
    def total(self) -> float:
        """Of all members over all intervals."""
        return float(self.intervals.sum())


def money(allotment: Allotment, prices: Prices) -> Money:
    """The saving of an allotment: what is shared times buy - sell - fee, and whose it is."""
    return Money(
        intervals=allotment.shared / WH * prices.spread,
        consumers=(prices.buy - prices.fee - prices.internal) @ allotment.received / WH,
        producers=(prices.internal - prices.sell) @ allotment.given / WH,
    )


def traded_by_market(energy: Energy, prices: Prices | None) -> np.ndarray:
    """(T,) Wh that a market without limits of the grid matches: all, where that saves anything."""
    matched = np.minimum(energy.generated, energy.consumed)
    return matched if prices is None else np.where(prices.spread > 0, matched, 0)


def money_of_market(energy: Energy, prices: Prices) -> np.ndarray:
    """(T,) EUR that the market saves; no key saves more."""
    return traded_by_market(energy, prices) / WH * prices.spread


def money_table(allotment: Allotment, prices: Prices) -> pd.DataFrame:
    """A row per member: what it saves as a consumer and earns as a producer, in EUR."""
    energy, found = allotment.energy, money(allotment, prices)
    everybody = list(energy.members)
    side = lambda values, names: pd.Series(values, index=list(names)).reindex(everybody, fill_value=0.0)
    saved, earned = side(found.consumers, energy.consumers), side(found.producers, energy.producers)
    return pd.DataFrame(
        {
            "member": everybody,
            "saved_eur": saved.to_numpy(),
            "earned_eur": earned.to_numpy(),
            "saving_eur": (saved + earned).to_numpy(),
        }
    )
