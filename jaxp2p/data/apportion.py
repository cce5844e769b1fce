"""Rounding that keeps the total: amounts of money in cents, energies in Wh, as whole numbers that add up.

The method of largest remainders (Hamilton; Balinski and Young, Fair Representation, 1982): every amount is
rounded down, and the units that the rounded total still has go to those that lost most by it, in the order of
the amounts where they lost the same.
"""

from __future__ import annotations

import numpy as np

UNIT_OF_A_SUM = 1e-6  # of a unit, by which sums of the same parts differ in another order
LOSSES = 2**36  # steps of a unit in which what is lost by rounding down is told apart
PLACES = 24  # bits for the place of an amount in its row


def apportioned(values: np.ndarray, unit: float, total: np.ndarray | None = None) -> np.ndarray:
    """Whole numbers of units (..., N), int64, each at most one from values / unit, that sum to the total.

    total (...,) in units, whole numbers; by default the rounded sum of the values. Raises ValueError where
    values are not finite or a total is away from their sum by more than there are values.
    """
    scaled = np.asarray(values, float) / unit
    if not np.isfinite(scaled).all():
        raise ValueError("amounts must be finite to be rounded")
    size, wanted = scaled.shape[-1], np.rint(scaled.sum(-1)) if total is None else np.asarray(total, float)
    whole = np.floor(scaled + UNIT_OF_A_SUM)
    missing = wanted - whole.sum(-1)
    if np.any((missing < 0) | (missing > size)):
        raise ValueError("a total that its parts are not near to cannot be shared out by rounding")
    lost = np.clip(np.subtract(scaled, whole, out=scaled), 0, 1, out=scaled)
    # one whole number says how much was lost and, where that is the same, who stands first: none is met twice
    rank = np.rint(np.multiply(lost, LOSSES, out=lost), out=lost).astype(np.int64)
    rank <<= PLACES
    rank += np.arange(size)[::-1]
    last = np.clip(size - missing.astype(np.int64), 0, size - 1)
    lowest = np.take_along_axis(np.sort(rank, axis=-1), last[..., None], -1)
    more = (rank >= lowest) & (missing > 0)[..., None]
    return np.add(whole, more, out=whole).astype(np.int64)
