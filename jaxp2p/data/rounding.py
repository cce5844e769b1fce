"""Comparisons of computed numbers: what differs by rounding is equal, and is put onto the limit.

Whatever was computed or stored in float32 is off by some 6e-8 of its size, and by a few times that after some
operations. An energy that a run ends with may so lie beyond the battery's limit by the last digit.
"""

from __future__ import annotations

import numpy as np

ROUNDING = 1e-6
"""Relative difference that counts as rounding."""


def clipped(
    values: np.ndarray, low: np.ndarray | float, high: np.ndarray | float, scale: np.ndarray | float
) -> np.ndarray:
    """Values that are outside the limits by rounding only, moved onto them; all others as they are.

    All of one shape, or broadcast; scale is what rounding is relative to. NaN stays NaN.
    """
    slack = ROUNDING * np.abs(scale)
    with np.errstate(invalid="ignore"):
        inside = np.where((values < low) & (values >= low - slack), low, values)
        return np.where((inside > high) & (inside <= high + slack), high, inside)


def largest(values: np.ndarray) -> float:
    """Largest absolute value of those that are finite, 0 where there is none."""
    finite = values[np.isfinite(values)]
    return float(np.abs(finite).max()) if finite.size else 0.0
