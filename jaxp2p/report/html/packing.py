"""Arrays inside an HTML file: whole multiples of a step, differences, zlib, base64.

A block holds values (R, T) as q = round(x * scale), scale being steps per unit, so it is wrong by half a step
at most. Where rows hang in a tree (`parents`, voltages along a feeder), the row above is taken off; then the
number before is taken off every q (off the first: 0). Signs are folded into the lowest bit (0, -1, 1, -2, ...
become 0, 1, 2, 3, ...), and the bytes of these numbers stored plane by plane, the lowest first: what is
smooth is small, and small numbers leave planes of zeros. `assets/store.js` is the other end.
"""

import base64
import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

FINENESS = (
    1e-5  # step as a share of the largest |value|, to the next larger power of ten: what a picture shows
)
LARGEST = 2**27  # |q| that is stored; what is missing is one more


def scale_of(values: np.ndarray, finest: float) -> float:
    """Steps per unit: `finest`, or by powers of ten fewer where the largest |value| has more than 10^5."""
    largest = float(np.abs(values[np.isfinite(values)]).max(initial=0))
    beyond = largest * finest * FINENESS
    return finest if beyond <= 1 else finest / 10 ** math.ceil(math.log10(beyond) - 1e-9)


def pack(values: np.ndarray, scale: float, parents: Sequence[int] | None = None) -> tuple[bytes, int]:
    """Compressed bytes of (R, T), and the number of byte planes; NaN and infinities become missing.

    parents: (R,) rows above, each before its own row, -1 for none. Raises ValueError for a value that is too
    large for this scale.
    """
    known = np.isfinite(values)
    whole = np.where(known, np.rint(np.where(known, values, 0) * scale), LARGEST + 1)
    if np.abs(whole).max(initial=0) > LARGEST + 1:
        raise ValueError(f"a value is too large for {scale:g} steps per unit")
    steps = whole = whole.astype(np.int64)
    if parents is not None:
        above = np.asarray(parents)
        steps = whole - np.where((above >= 0)[:, None], whole[above], 0)
    steps = np.diff(steps, axis=1, prepend=0)
    folded = np.where(steps >= 0, 2 * steps, -2 * steps - 1).astype("<u4").ravel()
    planes = max(1, -(-int(folded.max(initial=0)).bit_length() // 8))
    content = folded.view(np.uint8).reshape(-1, 4)[:, :planes].T.tobytes()
    return zlib.compress(content, 9), planes


class Store:
    """The blocks of a page, numbered; equal contents are there once."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}

    def add(
        self,
        values: np.ndarray,
        finest: float,
        *,
        exact: bool = False,
        parents: Sequence[int] | None = None,
    ) -> dict[str, Any]:
        """A reference to values (R, T), or (T,) as one row: `finest` steps per unit, fewer unless exact."""
        table = np.atleast_2d(np.asarray(values, np.float64))
        scale = finest if exact else scale_of(table, finest)
        content, planes = pack(table, scale, parents)
        number = self._numbers.setdefault(content, len(self._numbers))
        return {"block": number, "rows": table.shape[0], "planes": planes, "scale": scale}

    def texts(self) -> list[str]:
        """The blocks in base64, in the order of their numbers."""
        return [base64.b64encode(content).decode() for content in self._numbers]
