"""Profiles as small integers in a compressed file: how a year of measurements fits into the package.

Every profile is stored as int16 multiples of a step chosen from 1, 2, 5 times a power of ten, the smallest
with which the peak still fits. The peak is then at least 13,000 steps, so rounding changes a value by at most
4e-5 of the peak, and the stored values are short decimals.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

LEVELS = 32_767
MAX_ERROR = 4e-5
"""Largest rounding error, relative to the peak of the profile."""


def levels_per_unit(peak: float) -> float:
    """How many steps make 1: the largest of 1, 2, 5 times a power of ten with peak * levels <= 32,767."""
    if peak <= 0.0:
        return 1.0
    limit = LEVELS / peak
    decade = 10.0 ** math.floor(math.log10(limit))
    # round() removes the noise of powers such as 10.0 ** -1, so that values are exact short decimals.
    return max(round(factor * decade, 12) for factor in (1.0, 2.0, 5.0) if factor * decade <= limit)


def pack(path: str | Path, profiles: dict[str, np.ndarray]) -> None:
    """Write profiles of equal length. Names may hold any character that a file name may."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for name, values in profiles.items():
            levels = levels_per_unit(float(np.abs(values).max()))
            steps = np.round(np.asarray(values) * levels).astype("<i2")
            # Fixed date: the same profiles always make the same file.
            for part, array in ((name, steps), (f"{name}.levels", np.array(levels))):
                entry = zipfile.ZipInfo(f"{part}.npy", date_time=(2016, 1, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_LZMA
                with archive.open(entry, "w") as stream:
                    np.lib.format.write_array(stream, array)


def unpack(path: str | Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Read some profiles, float64; only what is asked for is decompressed.

    Raises:
        KeyError: no profile of that name.
    """
    with np.load(path) as archive:
        # A division by a whole number gives the float64 nearest to the short decimal.
        return {name: archive[name] / archive[f"{name}.levels"] for name in names}
