"""A key out of its entry in the catalogue and of what is known of the members."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxp2p.settings.sharing import Unused
from jaxp2p.sharing.catalogue import Entry
from jaxp2p.sharing.key import Key
from jaxp2p.sharing.pairs import FromMarket, Pairs
from jaxp2p.sharing.pot import Priority, ProRata, ProRataToSurplus
from jaxp2p.sharing.shares import Equal, FixedShares, HourlyShares


@dataclass(frozen=True, kw_only=True, eq=False)
class Given:
    """What keys may need, each None where it is not known; members in the order of the energy."""

    shares: np.ndarray | None = None  # (N,)
    hourly: np.ndarray | None = None  # (24, N) by the hour of the day, or with `in_order` as they follow
    in_order: bool = False
    levels: np.ndarray | None = None  # (N,)
    percentages: np.ndarray | None = None  # (P, N) or (T, P, N)
    trades: FromMarket | None = None


WORDS = {
    "shares": "a share of every member (columns member and share of --shares FILE.csv)",
    "hourly": "shares by the hour or by interval (hour or time, member and share of --shares FILE.csv)",
    "levels": "a level of every member (columns member and level of --shares FILE.csv)",
    "percentages": "percentages of pairs (columns producer, member and share of --shares FILE.csv)",
    "trades": "the trades of a run",
}


def made(entry: Entry, given: Given, *, unused: Unused = Unused.GRID) -> Key:
    """The key; `unused` counts where the entry leaves it free.

    Raises ValueError where what the key needs is not given, and as the key does.
    """
    rest = unused if entry.unused is None else entry.unused
    if not entry.needs:
        plain = {"equal": Equal(rest), "pro_rata": ProRata(), "pro_rata_to_surplus": ProRataToSurplus()}
        return plain[entry.rule]
    needed: Any = getattr(given, entry.needs)
    if needed is None:
        raise ValueError(f"the key {entry.name} needs {WORDS[entry.needs]}")
    match entry.rule:
        case "fixed":
            return FixedShares(needed, rest)
        case "hourly":
            return HourlyShares(needed, given.in_order, rest)
        case "priority":
            return Priority(needed)
        case "pairs":
            return Pairs(needed)
        case _:
            return needed  # what the market traded is a key already
