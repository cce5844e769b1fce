"""Stays of electric vehicles in a finished run: with what they came and went, what was missing, and why.

Stated from the plug calendar and what was done, on the host in float64, and not through the law that the
kernel follows (`model.devices.vehicle`): these are the figures that judge it.
"""

from typing import Any, NamedTuple

import numpy as np

from jaxp2p.model.devices import Plugs
from jaxp2p.model.trajectory import Trajectory
from jaxp2p.model.types import Community, Horizon

MISSED_KWH = 1e-3  # short by more than could be helped; less is rounding


class Stays(NamedTuple):
    """All stays that a window sees, (S,): by home, by seat, one after the other; energies in kWh."""

    home: np.ndarray
    seat: np.ndarray
    first: np.ndarray  # first slot inside the window
    last: np.ndarray  # last slot inside the window
    came: np.ndarray  # bool: it begins inside the window, in slot `first`
    left: np.ndarray  # bool: it ends inside the window, with slot `last`
    start: np.ndarray  # energy at arrival; of a stay under way before the first slot, its floor by then
    wanted: np.ndarray  # at departure
    end: np.ndarray  # energy after slot `last`
    reachable: np.ndarray  # the same, charging at full power from slot `first` on
    charged: np.ndarray  # at the terminals
    discharged: np.ndarray  # at the terminals
    price: np.ndarray  # EUR/kWh, mean market price of what was charged; NaN where that is nothing

    @property
    def shortfall(self) -> np.ndarray:
        """(S,) kWh that were missing at departure; 0 for stays that do not end inside the window."""
        return self.left * np.maximum(self.wanted - self.end, 0)

    @property
    def unavoidable(self) -> np.ndarray:
        """(S,) kWh of it that nobody could have charged in the time there was."""
        return self.left * np.maximum(self.wanted - self.reachable, 0)

    @property
    def missed(self) -> np.ndarray:
        """(S,) bool: more was missing than had to be."""
        return self.shortfall - self.unavoidable > MISSED_KWH

    def of_homes(self, energy: np.ndarray, homes: int) -> np.ndarray:
        """(N,) sum of a column (S,) over the stays of every home."""
        return np.bincount(self.home, energy, homes)


def stays_of(community: Community, horizon: Horizon, trajectory: Trajectory) -> Stays | None:
    """The stays under a policy; None in a community without vehicles."""
    vehicles = community.prosumers.vehicles
    if vehicles is None or horizon.plugs is None:
        return None
    plugs, hours = horizon.plugs.float64(), float(horizon.slot_hours)
    there, arrived = plugs.there.T, plugs.arrived.T  # (N, K, T): the slots of a stay side by side
    opens = there & (arrived >= 0)
    opens[..., 0] = there[..., 0]
    home, seat, first = np.nonzero(opens)
    number = np.cumsum(opens)[there.ravel()] - 1  # which stay a slot belongs to

    def total(values: Any) -> np.ndarray:
        return np.bincount(number, np.asarray(values, float).T[there], len(home))

    last = first + np.bincount(number, minlength=len(home)) - 1
    came = arrived[home, seat, first] >= 0
    start = np.where(came, arrived[home, seat, first], plugs.floor[first, seat, home])
    full = np.asarray(vehicles.charge_efficiency, float)[seat, home] * total(plugs.charge_max)
    charge = np.asarray(trajectory.vehicle_charge, float)
    paid = total(charge * np.asarray(trajectory.market_price, float)[:, None])
    energy = total(charge)
    return Stays(
        home=home,
        seat=seat,
        first=first,
        last=last,
        came=came,
        left=last < len(plugs.arrived) - 1,
        start=start,
        wanted=plugs.wanted[last, seat, home],
        end=np.asarray(trajectory.vehicle_energy, float)[last, seat, home],
        reachable=np.minimum(plugs.most[last, seat, home], start + hours * full),
        charged=hours * energy,
        discharged=hours * total(trajectory.vehicle_discharge),
        price=np.divide(paid, energy, out=np.full_like(paid, np.nan), where=energy > 0),
    )


def energy_before(plugs: Plugs, energy: np.ndarray) -> np.ndarray:
    """(T, K, N) kWh in the vehicles at the start of every slot, of `energy` at the end: what came with them
    where they came, the floor of a stay under way before the first slot, else what was there."""
    earlier = np.concatenate([plugs.floor[:1], energy[:-1]])
    return np.where(plugs.arrived < 0, earlier, plugs.arrived)


def energy_gained(plugs: Plugs, energy: np.ndarray) -> np.ndarray:
    """(T,) kWh that vehicles plugged in at the end of a slot have more than they came with."""
    slot = np.arange(len(energy))[:, None, None]
    latest = np.maximum.accumulate(np.where(plugs.arrived < 0, -1, slot))  # slot in which the stay began
    came = np.take_along_axis(plugs.arrived, np.maximum(latest, 0), axis=0)
    start = np.where(latest < 0, plugs.floor[:1], came)
    return np.where(plugs.there, energy - start, 0).sum((1, 2))
