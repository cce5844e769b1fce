"""Keys that say who receives from whom: percentages per pair, and what a market traded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxp2p.sharing.energy import WH, Energy
from jaxp2p.sharing.key import Key, Split, in_proportion

ROUNDING = 1e-6  # by which percentages of a producer may be above 100 %, from being written with few digits


@dataclass(frozen=True, eq=False)
class Pairs(Key):
    """k_pn g_p from every producer to every consumer, static or for every interval (France's full dynamic).

    The percentages of a producer sum to at most 1, what is left of its generation goes to the grid. Where a
    member is offered more than it consumes, every producer's part is cut by the same factor, and what is cut
    goes to the grid as well.
    """

    percentages: np.ndarray  # (P, N), or (T, P, N), 0 to 1

    def __post_init__(self):
        percentages = np.asarray(self.percentages, float)
        if percentages.ndim not in (2, 3):
            raise ValueError("percentages need producers and consumers, and intervals where they change")
        if not (np.isfinite(percentages).all() and (percentages >= 0).all()):
            raise ValueError("percentages must be numbers that are not negative")
        most = percentages.sum(-1).max(initial=0)
        if most > 1 + ROUNDING:
            raise ValueError(f"a producer's percentages sum to {most:g}: they can be 1 at most")

    def split(self, energy: Energy) -> Split:
        """See `Key`."""
        percentages = np.asarray(self.percentages, float)
        pairs = (len(energy.producers), len(energy.consumers))
        if percentages.shape not in (pairs, (len(energy.time), *pairs)):
            wanted = f"{pairs} or {(len(energy.time), *pairs)}"
            raise ValueError(f"percentages of shape {percentages.shape} for {wanted}")
        percentages = percentages / np.maximum(percentages.sum(-1, keepdims=True), 1)
        generation = energy.generation.astype(float)
        static = percentages.ndim == 2
        offered = generation @ percentages if static else np.einsum("tp,tpn->tn", generation, percentages)
        taken = np.divide(energy.consumption, offered, out=np.ones(offered.shape), where=offered > 0)
        taken = np.minimum(taken, 1)
        kept = taken @ percentages.T if static else np.einsum("tpn,tn->tp", percentages, taken)
        return Split(offered * taken, generation * kept)


@dataclass(frozen=True, eq=False)
class FromMarket(Key):
    """What a market traded, as shares found afterwards: a full dynamic matrix, summed up per member.

    Where somebody bought more than its meter drew, or sold more than it fed in, the smaller counts; the side
    with the larger sum is then cut by one factor.
    """

    bought: np.ndarray  # (T, N) kWh
    sold: np.ndarray  # (T, P) kWh

    def __post_init__(self):
        for energy in (self.bought, self.sold):
            if not (np.isfinite(energy).all() and (np.asarray(energy) >= 0).all()):
                raise ValueError("traded energy must be numbers that are not negative")

    @classmethod
    def of_trades(cls, trades: np.ndarray) -> FromMarket:
        """Of a matrix of trades (T, P, N) in kWh, from every producer to every consumer."""
        return cls(bought=trades.sum(1), sold=trades.sum(2))

    @classmethod
    def of_net_sales(cls, sales: np.ndarray) -> FromMarket:
        """Of net sales to peers (T, N) in kWh of members that all draw and feed in; below 0: bought."""
        return cls(bought=np.maximum(-sales, 0), sold=np.maximum(sales, 0))

    def split(self, energy: Energy) -> Split:
        """See `Key`."""
        if self.bought.shape != energy.consumption.shape or self.sold.shape != energy.generation.shape:
            raise ValueError(
                f"trades of {self.bought.shape} and {self.sold.shape} for a consumption of "
                f"{energy.consumption.shape} and a generation of {energy.generation.shape}"
            )
        received = np.minimum(self.bought * WH, energy.consumption)
        given = np.minimum(self.sold * WH, energy.generation)
        total = np.minimum(received.sum(1), given.sum(1))
        return Split(in_proportion(total, received), in_proportion(total, given))
