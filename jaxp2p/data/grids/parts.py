"""What every reader of a foreign grid gives: buses, branches, loads and plants in one form, before it is a
tree.

Units are those of the tables (kW, kvar, kVA, kV), except for impedances in ohm and admittances in siemens. A
branch is an ideal transformer at `one`, then a symmetric pi at the voltage of `two`:

    one ---(ratio : 1)---+---- impedance ----+--- two
                         |                   |
                  admittance / 2      admittance / 2 + extra
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jaxp2p.data.faults import Fault

Key = Hashable
"""What the source knows a bus by; names may repeat there, keys may not."""

NAMES_SHOWN = 5


class Bus(NamedTuple):
    """A bus in service; limits that the source does not have are NaN."""

    key: Key
    name: str
    vn_kv: float
    v_min_pu: float = math.nan
    v_max_pu: float = math.nan
    x: float = math.nan
    y: float = math.nan


class Branch(NamedTuple):
    """A branch in service, closed at one end at least."""

    name: str
    kind: str  # "line" or "transformer"
    one: Key
    two: Key
    impedance: complex  # ohm
    admittance: complex = 0j  # siemens, of the whole branch
    rating: float = math.inf  # kVA
    ratio: float = 1.0  # voltage of `one` over that of `two` in p.u., when nothing flows
    extra: complex = 0j  # siemens at `two`
    closed: tuple[bool, bool] = (True, True)


class Head(NamedTuple):
    """A connection to a grid above that holds its bus at `vm_pu`."""

    name: str
    bus: Key
    vm_pu: float


class Load(NamedTuple):
    """Consumption; the shares say how much goes with the square of the voltage, and with the voltage."""

    name: str
    bus: Key
    kw: float
    kvar: float
    z_kw: float = 0.0
    i_kw: float = 0.0
    z_kvar: float = 0.0
    i_kvar: float = 0.0


class Plant(NamedTuple):
    """Generation."""

    name: str
    bus: Key
    kw: float
    kvar: float = 0.0
    solar: bool = False


class Store(NamedTuple):
    """A battery; `kw` and `kvar` is what it takes at the moment of the source."""

    name: str
    bus: Key
    kwh: float
    min_kwh: float
    power_kw: float
    kw: float = 0.0
    kvar: float = 0.0


class Shunt(NamedTuple):
    """What an admittance at a bus consumes at 1 p.u."""

    name: str
    bus: Key
    kw: float
    kvar: float


@dataclass
class Grid:
    """A grid as its source has it, and what was said while it was read.

    Attributes:
        joins: pairs of buses that are one, as closed switches make them.
        said: names by what was left out or changed, and why.
        faults: what makes the source unusable.
    """

    name: str
    buses: list[Bus] = field(default_factory=list)
    branches: list[Branch] = field(default_factory=list)
    heads: list[Head] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)
    plants: list[Plant] = field(default_factory=list)
    stores: list[Store] = field(default_factory=list)
    shunts: list[Shunt] = field(default_factory=list)
    joins: list[tuple[Key, Key]] = field(default_factory=list)
    said: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def note(self, what: str, names: Iterable[Any], reason: str) -> None:
        """Say why some elements are not, or not as they were, in the tables; nothing where there are none."""
        names = [str(name) for name in names]
        if names:
            self.said.setdefault((what, reason), []).extend(names)

    @property
    def notes(self) -> list[str]:
        """What was left out or changed, a sentence each: kind, count, names, reason."""
        sentences = []
        for (what, reason), names in self.said.items():
            some = list(dict.fromkeys(names))
            more = f" and {len(some) - NAMES_SHOWN} more" if len(some) > NAMES_SHOWN else ""
            sentences.append(f"{what}, {len(some)} ({', '.join(some[:NAMES_SHOWN])}{more}): {reason}")
        return sentences

    def fault(self, table: str, column: str, text: str) -> None:
        """Say what is wrong with one element of the source."""
        self.faults.append(Fault(table, column, None, text))


def unique_names(names: Iterable[Any], numbers: Iterable[Any]) -> list[str]:
    """The names as text; the number where a name is empty, and behind it where it stands more than once."""
    plain = ["" if name is None or name != name else str(name).strip() for name in names]
    keys = [str(number) for number in numbers]
    plain = [
        name if name.lower() not in ("", "none", "nan", "<na>") else key
        for name, key in zip(plain, keys, strict=True)
    ]
    count: dict[str, int] = {}
    for name in plain:
        count[name] = count.get(name, 0) + 1
    taken: set[str] = set()
    unique = []
    for name, key in zip(plain, keys, strict=True):
        own = name if count[name] == 1 and name not in taken else f"{name} #{key}"
        while own in taken:
            own += "'"
        taken.add(own)
        unique.append(own)
    return unique
