"""A checksum of tables: those that have not changed since they were checked need no second check.

Checking takes seconds where there are tens of thousands of profiles, and reading, building a community and
building a horizon would each do it; frames can be changed in place, so that they were checked once says
nothing. The checksum reads a gigabyte in less than a second.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from jaxp2p.data.blocks import column_blocks

if TYPE_CHECKING:
    from jaxp2p.data.tables import Tables


def stamp(frames: dict[str, pd.DataFrame]) -> str:
    """Checksum of the names, types and cells of frames."""
    parts = []
    for table, frame in frames.items():
        kinds = frame.dtypes
        kind_of, distinct = pd.factorize(kinds)
        head = (table, len(frame), list(frame.columns), list(map(str, distinct)), kind_of.tolist())
        code = zlib.crc32(repr(head).encode())
        numbers = list(frame.columns[(kinds == np.float64).to_numpy()])
        for _, values in column_blocks(frame, numbers):
            code = zlib.crc32(np.ascontiguousarray(values.T).data, code)
        for name in frame.columns.difference(numbers, sort=False):
            code = zlib.crc32(pd.util.hash_pandas_object(frame[name], index=False).to_numpy(), code)
        parts.append(f"{table}:{code:08x}")
    return " ".join(parts)


def stamped(tables: Tables) -> Tables:
    """The tables, marked as checked as they are now."""
    return tables.replace(checked=stamp(tables.frames()))


def is_checked(tables: Tables) -> bool:
    """Whether the tables have been checked and not been changed since."""
    return tables.checked is not None and tables.checked == stamp(tables.frames())
