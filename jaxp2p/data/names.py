"""Names of members, buses, lines and profiles: text, whatever a spreadsheet or pandas made of them."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Set
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import pandas as pd

_WHOLE = re.compile(r"(0|[1-9]\d*)\.0+|[1-9](\.\d+)?[eE]\+?\d{1,2}")


def is_blank(cell: Any) -> bool:
    """No name and no value: an empty cell, not NaN."""
    return cell is None or cell is pd.NA or cell is pd.NaT or (isinstance(cell, str) and not cell.strip())


def as_name(cell: Any) -> str:
    """The name that a cell means; "" for an empty one.

    Text stays as it is: "0012" and "12" are two names, "NA" and "1e5" are names. A number is the whole number
    that it stands for, without point and exponent: pandas turns the names 7 and 10023456 into 7.0 and
    10023456.0 as soon as one cell of the column is empty.
    """
    if type(cell) is str:  # nearly all cells: at once
        text = cell.strip()
        # half a letter (a lone surrogate) can be neither printed nor written
        return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")
    if is_blank(cell):
        return ""
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "backslashreplace").strip()
    if isinstance(cell, Integral) and not isinstance(cell, bool):
        return str(int(cell))
    if isinstance(cell, Real | Decimal) and not isinstance(cell, bool):
        if math.isnan(cell):
            return ""
        whole = math.isfinite(cell) and cell == math.trunc(cell)
        return str(math.trunc(cell)) if whole else str(cell)
    return as_name(str(cell))


def whole_number(name: str) -> str:
    """A name that looks like 12.0 or 1.2E+01 as the whole number 12; any other name as it is."""
    if not _WHOLE.fullmatch(name):
        return name
    value = Decimal(name)
    return str(int(value)) if value == int(value) else name


def distinct(names: pd.Series) -> list[str]:
    """The names without repetition, in their order; pandas gives its own text cell by cell, and slowly."""
    return names.drop_duplicates().to_numpy(object).tolist()


def resolved(names: pd.Series, present: Set[str]) -> pd.Series:
    """References with those that nobody has, but whose whole number one has, turned into that name.

    12.0 refers to 12 (and 12 to 12.0) unless both are there. Names that somebody has are never touched.
    """
    unknown = [name for name in distinct(names) if name and name not in present]
    if not unknown:
        return names
    meant: dict[str, list[str]] = {}
    for name in present:
        meant.setdefault(whole_number(name), []).append(name)
    found = {name: meant.get(whole_number(name), []) for name in unknown}
    one = {name: targets[0] for name, targets in found.items() if len(targets) == 1}
    return names.map(lambda name: one.get(name, name)) if one else names


def unprintable(name: str) -> bool:
    """Whether a name holds what no text file can keep: line breaks and other control characters."""
    return any(unicodedata.category(letter) == "Cc" for letter in name)
