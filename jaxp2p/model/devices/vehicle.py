"""Electric vehicles: batteries that come and go, and that must have what their owner wants when they leave.

A home has K seats (places to plug in), each with one vehicle or none. While a vehicle is plugged in it is a
battery (`battery.Battery`) whose lower limit rises towards the energy wanted. Between two stays nothing is
known of it, and its energy counts as 0. Written as one law for all slots (`Plugged`):

    E' = carried E + arrived + dt (eta_c c - d / eta_d),   floor <= E' <= most

carried is 1 within a stay and 0 where one begins or ends, arrived the energy at arrival in the first slot of
a stay. The floor at the end of a slot is what still lets the charger reach the target in the n slots left:

    floor = min( max(E_low, wanted - n dt eta_c c_max),  what charging at full power since arrival gives )

**The target is met wherever it was reachable at arrival.** Proof: both terms rise by no more than
dt eta_c c_max from slot to slot, and so does their minimum. So from E >= floor the next floor can be reached
within c_max: the least charge (floor' - E)^+ / (dt eta_c), which every slot problem contains, exists. That
holds in the first slot, where E is the energy at arrival; and at departure, where n = 0, the floor is the
target or, where that could not be reached, all that could be. Nothing was assumed of prices, policies or the
network.

E_low is the energy at arrival for a vehicle that only charges, else no more than the reserve that its owner
keeps. `most` is the target for a vehicle that only charges (more would be worth nothing to it), else its
capacity. A stay under way when a window begins starts with its floor, the least that it can have by then.
"""

from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxp2p._pytree import record, static
from jaxp2p.model.devices.arrays import Values, namespace
from jaxp2p.model.devices.battery import Battery
from jaxp2p.model.devices.offer import PerRamp, Ramps
from jaxp2p.model.devices.storage import Storage

_CELLS = 1_000_000  # slots of stays that are written at a time
STAYS = -1.0  # `arrived` in a slot in which no stay begins and none has just ended


class Plugs(NamedTuple):
    """The plug calendar: all zeros where a seat is empty. (T, K, N) over a horizon, (K, N) in a slot."""

    arrived: Values  # kWh at arrival in the first slot of a stay, 0 in the first slot without, else STAYS
    floor: Values  # kWh, least energy at the end of the slot
    most: Values  # kWh, most energy
    wanted: Values  # kWh at departure
    charge_max: Values  # kW, at the terminals
    discharge_max: Values  # kW, 0: it only charges
    left: Values  # h until departure, from the end of the slot
    planned: Values  # kW that the cheapest slots of the stay by the tariff say, see `calendar`

    @property
    def there(self) -> Values:
        """Bool: something is plugged in."""
        return self.charge_max > 0

    def float64(self) -> "Plugs":
        """The same on the host, in float64 NumPy."""
        return Plugs(*(np.asarray(x, np.float64) for x in self))


@record
class Plugged(Battery):
    """Vehicles as batteries in a slot, leaves (K, N); over a horizon (T, K, N)."""

    arrived: Values  # kWh that come in with a vehicle

    def kept(self, energy: Values) -> Values:
        """kWh at the start of the slot, of `energy` at the end of the one before."""
        return self.retention * energy + self.arrived

    def within_reach(self, *, hours: float) -> "Plugged":
        """Over a horizon, in NumPy: floors no higher than full power reaches.

        In exact numbers they are not. In single precision they may be, by rounding, where the whole stay is
        just enough: there would be no course at all.
        """
        highest: Values = np.zeros_like(self.energy_min)
        before: Values = self.energy_start[0]
        for t in range(len(highest)):
            now = self.of(t)
            most = now.next_energy(before, now.charge_max, 0.0, hours=hours)
            before = highest[t] = np.minimum(most, now.energy_max)
        floor: Values = np.minimum(self.energy_min, highest)
        return replace(self, energy_min=floor)


class _Powers(NamedTuple):
    charge: Values  # (K, N) kW
    discharge: Values  # (K, N) kW


@record
class Fleet:
    """The vehicles in a slot, as a solver sees them: a `Storage` for every seat of a home, leaves (K, N)."""

    storage: Storage
    returns: bool = static(default=False)  # whether any can discharge

    @property
    def base(self) -> Values:
        """(N,) kW: at a price of minus infinity they charge all they can."""
        return self.storage.base.sum(0)

    @property
    def ramp_names(self) -> tuple[str, ...]:
        """Those of its ramps that there are, K rows each."""
        return self.storage.ramp_names if self.returns else ("charge_less",)

    def offer(self) -> Ramps:
        """As batteries."""
        offered = self.storage.offer()
        return {name: offered[name] for name in self.ramp_names}

    def do(self, gained: PerRamp) -> PerRamp:
        """Charge and discharge (K, N), kW."""
        nothing = dict.fromkeys(self.storage.ramp_names, 0 * self.storage.charge_max)
        done = self.storage.do(nothing | gained)
        return {"vehicle_charge": done["charge"], "vehicle_discharge": done["discharge"]}

    def used(self, d: Any, gains: PerRamp) -> PerRamp:
        """The inverse of `do`."""
        nothing = dict.fromkeys(self.storage.ramp_names, 0 * self.storage.charge_max)
        used = self.storage.used(_powers(d), nothing | gains)
        return {name: used[name] for name in self.ramp_names}

    def cost(self, d: Any) -> Values:
        """(N,) EUR/h of wear."""
        return self.storage.cost(_powers(d)).sum(0)

    def value_given_up(self, d: Any) -> Values:
        """(N,) EUR, see `Storage`."""
        return self.storage.value_given_up(_powers(d)).sum(0)


def _powers(d: Any) -> _Powers:
    return _Powers(d.vehicle_charge, d.vehicle_discharge)


@record
class Vehicles:
    """What does not change: K seats of N homes, leaves (K, N)."""

    capacity: Values  # kWh, 0: nobody ever plugs in there
    charge_efficiency: Values  # in (0, 1]
    discharge_efficiency: Values  # in (0, 1]
    wear_cost: Values  # EUR per kWh moved into or out of the cells
    returns: bool = static(default=False)  # whether any of them can discharge (vehicle-to-home)
    ids: tuple[str, ...] = static(default=())  # of the seats that are used, in the order of `seats`

    @property
    def owned(self) -> Values:
        """(K, N) bool."""
        return self.capacity > 0

    @property
    def seats(self) -> np.ndarray:
        """(M, 2) seat and home of every vehicle, on the host."""
        return np.argwhere(np.asarray(self.owned))

    def plugged(self, plugs: Plugs) -> Plugged:
        """The law of a slot, or of all slots at once: plugs (K, N) or (T, K, N), NumPy or JAX.

        `energy_start` is what a stay that is under way has before the slot, where nobody knows: its floor.
        """
        xp = namespace(plugs.arrived, self.capacity)
        stays = (plugs.arrived < 0).astype(plugs.arrived.dtype)
        shape = plugs.arrived.shape
        wide = lambda x: xp.broadcast_to(x, shape)
        return Plugged(
            energy_min=plugs.floor,
            energy_max=plugs.most,
            energy_start=stays * plugs.floor,
            charge_max=plugs.charge_max,
            discharge_max=plugs.discharge_max,
            charge_efficiency=wide(self.charge_efficiency),
            discharge_efficiency=wide(self.discharge_efficiency),
            retention=stays,
            wear_cost=wide(self.wear_cost),
            arrived=xp.maximum(plugs.arrived, 0),
        )

    def float64(self) -> "Vehicles":
        """The same on the host, in float64 NumPy."""
        return jax.tree.map(lambda x: np.asarray(x, np.float64), self)


def beside(battery: Battery, vehicles: Plugged | None, *, slots: int) -> Plugged:
    """All storage of N homes, NumPy leaves (T, 1 + K, N): battery (N,) first, then the vehicles (T, K, N)."""
    shape = slots, 1, len(battery.energy_min)
    own: dict[str, Any] = {
        field.name: np.broadcast_to(getattr(battery, field.name), shape) for field in fields(Battery)
    }
    alone = Plugged(arrived=np.zeros(shape), **own)
    if vehicles is None:
        return alone
    return jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), alone, vehicles)


def begun(plugs: Plugs) -> Values:
    """(K, N) kWh with which the stays began that are still open in the last slot, 0 where a seat is empty.

    plugs (T, K, N), NumPy or JAX. A stay under way in the first slot began with its floor. What a vehicle
    has gained in the end is E_T - begun, E_T being 0 where a seat is empty.
    """
    xp = namespace(plugs.arrived)
    begins = plugs.arrived >= 0
    latest = len(begins) - 1 - xp.argmax(begins[::-1], axis=0)
    energy = xp.take_along_axis(plugs.arrived, latest[None], axis=0)[0]
    return xp.where(plugs.there[-1], xp.where(begins.any(0), energy, plugs.floor[0]), 0)


def gained(plugs: Plugs, energy: Values) -> Values:
    """(N,) kWh that vehicles still plugged in at the end have gained since they came; energy (T, K, N)."""
    return (energy[-1] - begun(plugs)).sum(0)


class Stay(NamedTuple):
    """One stay of one vehicle, or as many as there are, (M,): what a calendar is made from."""

    seat: Values
    home: Values
    begin: Values  # first slot
    end: Values  # slot after the last
    energy: Values  # kWh at arrival
    wanted: Values  # kWh at departure
    reserve: Values  # kWh that its owner keeps whatever comes, at most what it arrives with
    capacity: Values  # kWh
    charge_max: Values  # kW, at the terminals
    discharge_max: Values  # kW, at the terminals
    efficiency: Values  # of charging


def floor_with(stay: Stay, left: Values, *, hours: float) -> Values:
    """kWh, the floor at the end of a slot after which `left` slots of the stay remain."""
    step = hours * stay.efficiency * stay.charge_max
    lowest = np.where(stay.discharge_max > 0, np.minimum(stay.reserve, stay.energy), stay.energy)
    reachable = stay.energy + step * (stay.end - stay.begin - left)
    return np.minimum(np.maximum(lowest, stay.wanted - left * step), np.minimum(reachable, _most(stay)))


def _most(stay: Stay) -> Values:
    return np.where(stay.discharge_max > 0, stay.capacity, np.maximum(stay.energy, stay.wanted))


def calendar(
    stays: Stay | Sequence[Stay],
    prices: np.ndarray,
    *,
    seats: int,
    homes: int,
    hours: float,
    dtype: Any = np.float64,
) -> Plugs:
    """The plug calendar (T, K, N) of stays (M,), or of a list of them; prices (T,) EUR/kWh.

    The stays of a seat are one after the other, and may begin before the first slot and end after the last.
    `floor` then is that of the whole stay. `planned` charges what is missing at the start of the part inside
    in its cheapest slots, the earlier of those that cost the same.
    """
    slots = len(prices)
    plugs = Plugs(*(np.zeros((slots, seats, homes), dtype) for _ in Plugs._fields))
    stays = _joined(stays)
    first, last = np.maximum(stays.begin, 0), np.minimum(stays.end, slots)
    inside = np.flatnonzero(first < last)
    stays, first, count = _chosen(stays, inside), first[inside], (last - first)[inside]
    rank = np.empty(slots, int)
    rank[np.argsort(prices, kind="stable")] = np.arange(slots)
    piece = np.cumsum(count) // _CELLS
    ends = np.searchsorted(piece, np.arange(piece[-1] + 2)) if len(piece) else ()
    for some in (slice(*pair) for pair in pairwise(ends)):
        _plug_in(plugs, _chosen(stays, some), first[some], count[some], rank=rank, hours=hours)
    return plugs


def _joined(stays: Stay | Sequence[Stay]) -> Stay:
    if isinstance(stays, Stay):
        return stays
    columns = [np.array(column) for column in zip(*stays, strict=True)]
    return Stay(*columns or [np.zeros(0, int)] * len(Stay._fields))


def _chosen(stays: Stay, some: Any) -> Stay:
    return Stay(*(values[some] for values in stays))


def _plug_in(
    plugs: Plugs, stays: Stay, first: np.ndarray, count: np.ndarray, *, rank: np.ndarray, hours: float
) -> None:
    """Write into `plugs` what stays are from their slots `first` on, `count` of them."""
    of = np.repeat(np.arange(len(count)), count)  # whose a cell is: every stay has one for every slot
    number = np.arange(len(of)) - (np.cumsum(count) - count)[of]
    slot, here = first[of] + number, _chosen(stays, of)
    cell = np.ravel_multi_index((slot, here.seat, here.home), plugs.floor.shape)
    left = here.end - 1 - slot
    floor = floor_with(here, left, hours=hours)
    fresh = number == 0
    start = np.where(slot == here.begin, here.energy, floor_with(here, left + 1, hours=hours))[fresh]
    needed = np.maximum((stays.wanted - start) / (hours * stays.efficiency), 0)[of]
    cheap = np.argsort(of * len(rank) + rank[slot])  # stay by stay, the cheapest slot first
    charged = lambda slots: np.minimum(slots * here.charge_max, needed)  # kW-slots in so many of them
    for values, new in (
        (plugs.arrived, np.where(fresh, start[of], STAYS)),
        (plugs.floor, floor),
        (plugs.most, _most(here)),
        (plugs.wanted, here.wanted),
        (plugs.charge_max, here.charge_max),
        (plugs.discharge_max, here.discharge_max),
        (plugs.left, hours * left),
    ):
        values.flat[cell] = new
    plugs.planned.flat[cell[cheap]] = charged(number + 1) - charged(number)
