"""Keys with shares that are set in advance, and what becomes of a share that its member does not use.

The unused part of a share is, by the `Unused` of a key,

    GRID       lost to the grid (a static key in Austria, Germany, France, Spain),
    BY_SHARE   handed on to those with consumption left, in proportion to their shares, again and again until
               nothing is left or wanted: c_n is received by whom a common factor on all shares fills, the
               factor times its share by everybody else,
    PRO_RATA   handed on in proportion to the consumption that is left ("fixed, then pro rata").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxp2p.settings.sharing import Unused
from jaxp2p.sharing.energy import Energy, by_the_hour
from jaxp2p.sharing.key import Key, Split, in_proportion, pooled

HOURS = 24
SUM_OF_SHARES = 1e-6  # by which shares may miss 1, from being written with few digits
NOTHING = 1e-6  # Wh


@dataclass(frozen=True)
class Equal(Key):
    """The same share, 1 / N, for everybody, at most what it consumes."""

    unused: Unused = Unused.GRID

    def split(self, energy: Energy) -> Split:
        """See `Key`."""
        size = len(energy.consumers)
        return _by_shares(energy, np.full((1, size), 1 / size), self.unused)


@dataclass(frozen=True, eq=False)
class FixedShares(Key):
    """s_n G, at most c_n: a share of every interval's generation; the shares sum to 1."""

    shares: np.ndarray  # (N,)
    unused: Unused = Unused.GRID

    def __post_init__(self):
        _check(self.shares, dimensions=1)

    def split(self, energy: Energy) -> Split:
        """See `Key`."""
        return _by_shares(energy, _normal(self.shares, energy)[None], self.unused)


@dataclass(frozen=True, eq=False)
class HourlyShares(Key):
    """s_hn G, at most c_n: shares set in advance that change with time, and sum to 1 at any time.

    24 rows are the hours of the day by the clock on the wall: on the day without the hour from 2 to 3 nobody
    needs its shares, on the day that has it twice they hold twice. With `in_order` the rows follow each other
    as the intervals of the energy do, one for each of them or one for each of their hours.
    """

    shares: np.ndarray  # (24, N), or with `in_order` (T, N) or (hours, N)
    in_order: bool = False
    unused: Unused = Unused.GRID

    def __post_init__(self):
        _check(self.shares, dimensions=2)
        if not self.in_order and len(self.shares) != HOURS:
            raise ValueError(f"{len(self.shares)} rows of shares: each of the {HOURS} hours needs one")

    def split(self, energy: Energy) -> Split:
        """See `Key`."""
        shares = _normal(self.shares, energy)
        if self.in_order:
            return _by_shares(energy, _repeated(shares, energy), self.unused)
        return _by_shares(energy, shares[energy.hour_of_day], self.unused)


def _repeated(shares: np.ndarray, energy: Energy) -> np.ndarray:
    """(T, N), of a row for every interval, or for every hour of theirs."""
    rows, intervals = len(shares), len(energy.time)
    if rows == intervals:
        return shares
    if rows * round(1 / energy.hours) != intervals:
        raise ValueError(f"{rows} rows of shares for {intervals} intervals")
    return np.repeat(shares, intervals // len(by_the_hour(energy).time), axis=0)


def _check(shares: np.ndarray, *, dimensions: int) -> None:
    """Refuses shares (..., N) that are negative or do not sum to 1."""
    shares = np.asarray(shares, float)
    if shares.ndim != dimensions:
        raise ValueError(f"shares have {shares.ndim} dimensions, {dimensions} are needed")
    if not (np.isfinite(shares).all() and (shares >= 0).all()):
        raise ValueError("shares must be numbers that are not negative")
    total = np.atleast_1d(shares.sum(-1))
    wrong = np.flatnonzero(np.abs(total - 1) > SUM_OF_SHARES)
    if wrong.size:
        where = "" if dimensions == 1 else f" in row {wrong[0] + 1} ({wrong.size} rows in all)"
        raise ValueError(f"shares must sum to 1, and sum to {total[wrong[0]]:g}{where}")


def _normal(shares: np.ndarray, energy: Energy) -> np.ndarray:
    """The shares with a sum of exactly 1, for as many members as there are."""
    shares = np.asarray(shares, float)
    if shares.shape[-1] != len(energy.consumers):
        raise ValueError(f"shares of {shares.shape[-1]} members for {len(energy.consumers)}")
    return shares / shares.sum(-1, keepdims=True)


def _by_shares(energy: Energy, shares: np.ndarray, unused: Unused) -> Split:
    """shares (T, N) or (1, N)."""
    generated, consumption = energy.generated, energy.consumption
    received = np.minimum(generated[:, None] * shares, consumption)
    if unused == Unused.PRO_RATA:
        left = np.maximum(generated - received.sum(1), 0)
        received = received + in_proportion(left, consumption - received)
    elif unused == Unused.BY_SHARE:
        received = _handed_on(generated, consumption, shares, received)
    return pooled(energy, received)


def _handed_on(
    generated: np.ndarray, consumption: np.ndarray, shares: np.ndarray, received: np.ndarray
) -> np.ndarray:
    """Rounds over the intervals that have something left for somebody: each fills a member or is the last."""
    open_rows = np.arange(len(generated))
    for _ in range(consumption.shape[1] + 1):
        so_far, most = received[open_rows], consumption[open_rows]
        left = generated[open_rows] - so_far.sum(1)
        weight = np.where(most - so_far > NOTHING, shares if len(shares) == 1 else shares[open_rows], 0)
        total = weight.sum(1)
        go_on = (left > NOTHING) & (total > 0)
        if not go_on.any():
            break
        open_rows, so_far, most = open_rows[go_on], so_far[go_on], most[go_on]
        step = weight[go_on] * (left[go_on] / total[go_on])[:, None]
        received[open_rows] = np.minimum(so_far + step, most)
    return received
