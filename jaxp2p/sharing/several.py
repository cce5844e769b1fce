"""Meters that take part in several communities, each with a factor of its energy (Austria: up to five)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from jaxp2p.sharing.energy import Energy
from jaxp2p.sharing.key import Allotment, Key, Split, allot

ROUNDING = 1e-6  # of a Wh or a factor, by which sums of the same parts differ


@dataclass(frozen=True, kw_only=True, eq=False)
class Participation:
    """A community: its key, and with what factor of its energy every meter takes part."""

    key: Key
    consumption: np.ndarray  # (N,) 0 to 1
    generation: np.ndarray  # (P,) 0 to 1


@dataclass(frozen=True, eq=False)
class SeveralCommunities(Key):
    """Every meter's energy is split by its factors, and each community's key shares its part.

    The factors of a meter sum to at most 1; what is left takes no part. The parts are whole Wh: those of the
    first k communities are the rounded down sum of the first k factors times the reading.
    """

    communities: Sequence[Participation]

    def __post_init__(self):
        for side in ("consumption", "generation"):
            factors = [np.asarray(getattr(part, side), float) for part in self.communities]
            if len({factor.shape for factor in factors}) != 1:
                raise ValueError(f"factors of {side} for different numbers of members")
            stack = np.array(factors)
            if not (np.isfinite(stack).all() and (stack >= 0).all()):
                raise ValueError(f"factors of {side} must be numbers that are not negative")
            most = stack.sum(0).max(initial=0)
            if most > 1 + ROUNDING:
                meter = int(stack.sum(0).argmax()) + 1
                raise ValueError(
                    f"the factors of {side} of meter {meter} sum to {100 * most:g} %: 100 % is the most"
                )

    def parts(self, energy: Energy) -> list[Energy]:
        """The energy of every community, each with all members."""
        columns = {
            side: _parts(getattr(energy, side), [getattr(part, side) for part in self.communities])
            for side in ("consumption", "generation")
        }
        both = zip(columns["consumption"], columns["generation"], strict=True)
        return [replace(energy, consumption=drawn, generation=fed, own=None) for drawn, fed in both]

    def allotments(self, energy: Energy) -> list[Allotment]:
        """What every community allots by itself."""
        parts = self.parts(energy)
        return [allot(part.key, own) for part, own in zip(self.communities, parts, strict=True)]

    def split(self, energy: Energy) -> Split:
        """See `Key`."""
        received, given = (np.zeros(part.shape) for part in (energy.consumption, energy.generation))
        for one in self.allotments(energy):
            received += one.received
            given += one.given
        return Split(received, given)


def _parts(readings: np.ndarray, factors: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Whole Wh (T, N) by community."""
    if factors[0].shape != readings.shape[1:]:
        raise ValueError(f"factors of {len(factors[0])} meters for {readings.shape[1]}")
    below, parts = np.zeros(readings.shape, np.int64), []
    for total in np.cumsum(factors, axis=0):
        bound = np.floor(readings * np.minimum(total, 1) + ROUNDING).astype(np.int64)
        parts.append(bound - below)
        below = bound
    return parts
