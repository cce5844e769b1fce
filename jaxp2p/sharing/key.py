"""What a sharing key is, and what all of them keep.

A key splits the feed-in of every interval. `allot` makes whole Wh of it, and of every key these hold:

    0 <= received <= consumption, 0 <= given <= generation, sum of received = sum of given, in every interval.

The rest of a member's consumption comes from the utility, the rest of the generation goes there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxp2p.data.apportion import apportioned
from jaxp2p.sharing.energy import WH, Energy

ROUNDED = 0.5  # Wh, by which sums of an interval differ at most


class Split(NamedTuple):
    """What a key makes of the energy, before it is rounded; both have the same sum in every interval."""

    received: np.ndarray  # (T, N) Wh, at most the consumption
    given: np.ndarray  # (T, P) Wh, at most the generation


class Key(ABC):
    """A rule by which members share; frozen dataclasses of their numbers."""

    @abstractmethod
    def split(self, energy: Energy) -> Split:
        """Who receives and gives how much, in Wh; raises ValueError where the key is for other members."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Allotment:
    """Who received and gave how much, in whole Wh."""

    energy: Energy
    received: np.ndarray  # (T, N) int64 Wh out of the community
    given: np.ndarray  # (T, P) int64 Wh into the community

    @property
    def shared(self) -> np.ndarray:
        """(T,) int64 Wh."""
        return self.received.sum(1)

    def members(self) -> pd.DataFrame:
        """A row per member: where its kWh came from and where they went.

        member; own_kwh: used behind the meter, as far as it is known; consumption_kwh, drawn, is
        community_kwh and grid_kwh; generation_kwh, fed in, is given_kwh and fed_to_grid_kwh.
        """
        energy, kwh = self.energy, lambda wh: wh.sum(0) / WH
        drawn = pd.DataFrame(
            {
                "own_kwh": np.nan if energy.own is None else kwh(energy.own),
                "consumption_kwh": kwh(energy.consumption),
                "community_kwh": kwh(self.received),
                "grid_kwh": kwh(energy.consumption - self.received),
            },
            index=list(energy.consumers),
        )
        fed = pd.DataFrame(
            {
                "generation_kwh": kwh(energy.generation),
                "given_kwh": kwh(self.given),
                "fed_to_grid_kwh": kwh(energy.generation - self.given),
            },
            index=list(energy.producers),
        )
        everybody = list(energy.members)
        table = pd.concat([drawn.reindex(everybody), fed.reindex(everybody)], axis=1)
        nothing = [name for name in table.columns if name != "own_kwh"]
        table[nothing] = table[nothing].fillna(0.0)
        return table.rename_axis("member").reset_index()

    def intervals(self) -> pd.DataFrame:
        """A row per interval: kWh generated, consumed, shared, fed to the grid and drawn from it."""
        generated, consumed, shared = self.energy.generated, self.energy.consumed, self.shared
        return pd.DataFrame(
            {
                "time": self.energy.time,
                "generation_kwh": generated / WH,
                "consumption_kwh": consumed / WH,
                "shared_kwh": shared / WH,
                "fed_to_grid_kwh": (generated - shared) / WH,
                "grid_kwh": (consumed - shared) / WH,
            }
        )


def allot(key: Key, energy: Energy) -> Allotment:
    """The key's split in whole Wh, every part rounded up or down so that an interval keeps its rounded sum.

    Limits are whole numbers, so a part that is rounded up is still within its own. Raises ValueError as the
    key does, and for a key that breaks the laws.
    """
    split, name = key.split(energy), type(key).__name__
    if np.abs(split.received.sum(1) - split.given.sum(1)).max() > ROUNDED:
        raise ValueError(f"under the key {name} members receive another sum than they give")
    received = apportioned(split.received, 1)
    given = apportioned(split.given, 1, total=received.sum(1))
    for part, most, who in (
        (received, energy.consumption, "consumption"),
        (given, energy.generation, "generation"),
    ):
        if (part < 0).any() or (part > most).any():
            raise ValueError(f"the key {name} allots less than nothing or more than {who}")
    return Allotment(energy=energy, received=received, given=given)


def pooled(energy: Energy, received: np.ndarray) -> Split:
    """A split in which all feed in to one pot: everybody gives the same share of the generation."""
    return Split(received, in_proportion(received.sum(1), energy.generation))


def in_proportion(amount: np.ndarray, wants: np.ndarray) -> np.ndarray:
    """(T, N): the amount (T,) in proportion to what is wanted (T, N), and no more than that."""
    total = wants.sum(1)
    share = np.divide(amount, total, out=np.zeros(len(total)), where=total > 0)
    return wants * np.minimum(share, 1)[:, None]
