"""Italy's premium on shared energy, and what part of it is not for businesses.

Shared energy is, hour by hour, the smaller one of what is fed in and what is drawn under one primary
substation. The premium on what is beyond a threshold of 55 %, 45 % with a grant for plants, goes to members
that are no businesses or to social use (ministerial decree 414 of 7 December 2023, as the guides of the
regions Emilia-Romagna and Friuli-Venezia Giulia put it). The threshold is read as a share of what is fed in
over the year. Arithmetic only, no promise of conformity.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxp2p.sharing.energy import WH, Energy, by_the_hour
from jaxp2p.sharing.money import traded_by_market

THRESHOLD, THRESHOLD_WITH_GRANT = 0.55, 0.45


@dataclass(frozen=True, kw_only=True)
class Premium:
    """Shared energy of the time that was measured, and the premium on it."""

    shared_kwh: float
    injected_kwh: float
    premium_eur: float
    reserved_eur: float  # of it, for members that are no businesses or for social use

    @property
    def share(self) -> float:
        """Shared energy over energy fed in; 0 where there is none."""
        return self.shared_kwh / self.injected_kwh if self.injected_kwh > 0 else 0.0


def premium(energy: Energy, *, eur_per_kwh: float, grant: bool = False) -> Premium:
    """The premium of an energy community; raises ValueError as `by_the_hour`.

    eur_per_kwh: of shared energy. grant: part of the plants was paid for by a grant. The threshold is one of
    a year: energy of another time says what a year like it would make.
    """
    hourly = by_the_hour(energy)
    shared = float(traded_by_market(hourly, None).sum()) / WH
    injected = float(hourly.generated.sum()) / WH
    free = (THRESHOLD_WITH_GRANT if grant else THRESHOLD) * injected
    return Premium(
        shared_kwh=shared,
        injected_kwh=injected,
        premium_eur=eur_per_kwh * shared,
        reserved_eur=eur_per_kwh * max(shared - free, 0.0),
    )
