"""Profiles in blocks of columns: what is done for thousands of profiles without a copy of all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

BLOCK = 512
"""Columns at a time."""


def column_blocks(frame: pd.DataFrame, names: Sequence[str]) -> Iterator[tuple[Sequence[str], np.ndarray]]:
    """The named columns, `BLOCK` at a time, as float64 arrays (rows, columns)."""
    place = frame.columns.get_indexer(list(names))
    for first in range(0, len(names), BLOCK):
        chosen = slice(first, first + BLOCK)
        yield names[chosen], frame.iloc[:, place[chosen]].to_numpy(float)


def as_finite(frame: pd.DataFrame) -> pd.DataFrame | None:
    """The frame in float64 where every cell is a finite number, so that there is nothing to complain of."""
    kinds = frame.dtypes
    if any(not pd.api.types.is_numeric_dtype(kind) for kind in set(kinds)):
        return None
    if not (kinds == np.float64).all():
        frame = pd.DataFrame(frame.to_numpy(float, na_value=np.nan), columns=frame.columns)
    for _, values in column_blocks(frame, frame.columns):
        if not np.isfinite(values).all():
            return None
    return frame


def total_of(profiles: pd.DataFrame, names: pd.Series, factors: pd.Series, *, absent: float) -> np.ndarray:
    """Sum over owners of profile times factor, (rows,).

    Every profile is taken once, times the sum of the factors of those who use it, so that this needs the
    memory of one block and not of all owners. `absent` is the value of a profile without a name.
    """
    weight = factors.groupby(names.to_numpy()).sum()
    total = np.full(len(profiles), absent * float(weight.get("", 0.0)))
    named = weight.drop("", errors="ignore")
    for some, values in column_blocks(profiles, list(named.index)):
        total += values @ named[list(some)].to_numpy(float)
    return total
