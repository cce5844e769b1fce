"""Keys that share out of one pot, by what every member consumes: nothing is lost while anybody wants any.

Under each of them the community shares min(generation, consumption) in every interval.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxp2p.sharing.energy import Energy
from jaxp2p.sharing.key import Key, Split, in_proportion, pooled


@dataclass(frozen=True)
class ProRata(Key):
    """In proportion to consumption: c_n min(1, G / C), G and C being the sums of the interval."""

    def split(self, energy: Energy) -> Split:
        """See `Key`."""
        return pooled(energy, in_proportion(energy.generated, energy.consumption))


@dataclass(frozen=True)
class ProRataToSurplus(Key):
    """In proportion to the consumption that is left after own generation of the same interval.

    A member that feeds in and draws receives its own energy first, min(g_n, c_n); what is left of the
    generation is shared in proportion to what is left of the consumption.
    """

    def split(self, energy: Energy) -> Split:
        """See `Key`."""
        received, given = (np.zeros(part.shape) for part in (energy.consumption, energy.generation))
        producer, consumer = energy.both
        own = np.minimum(energy.generation[:, producer], energy.consumption[:, consumer])
        received[:, consumer] = given[:, producer] = own
        left, wanted = energy.generation - given, energy.consumption - received
        others = in_proportion(left.sum(1), wanted)
        return Split(received + others, given + in_proportion(others.sum(1), left))


@dataclass(frozen=True, eq=False)
class Priority(Key):
    """Levels, the lowest number first: one is served before the next, in proportion within a level."""

    levels: np.ndarray  # (N,) numbers

    def __post_init__(self):
        if not np.isfinite(np.asarray(self.levels, float)).all():
            raise ValueError("levels must be numbers")

    def split(self, energy: Energy) -> Split:
        """See `Key`."""
        levels = np.asarray(self.levels, float)
        if levels.shape != (len(energy.consumers),):
            raise ValueError(f"{levels.size} levels for {len(energy.consumers)} members")
        received = np.zeros(energy.consumption.shape)
        left = energy.generated.astype(float)
        for level in np.unique(levels):
            members = np.flatnonzero(levels == level)
            served = in_proportion(left, energy.consumption[:, members])
            received[:, members] = served
            left = np.maximum(left - served.sum(1), 0)
        return pooled(energy, received)
