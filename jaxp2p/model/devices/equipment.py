"""All devices of the homes in one slot, as the one thing that a solver and an execution see."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxp2p.model.devices.load import Load
from jaxp2p.model.devices.offer import ROWS, PerRamp, Ramp
from jaxp2p.model.devices.pv import PV
from jaxp2p.model.devices.storage import Storage
from jaxp2p.model.devices.vehicle import Fleet


class Equipment(NamedTuple):
    """By kind; a device is known by its name here, its ramps by those that it gives them."""

    battery: Storage
    pv: PV
    load: Load
    vehicles: Fleet | None = None

    @property
    def there(self) -> dict[str, Any]:
        """Those that there are, by name."""
        return {name: device for name, device in self._asdict().items() if device is not None}

    @property
    def base(self) -> Array:
        """(N,) kW of injection at a price of minus infinity."""
        base = self.battery.base + self.pv.base + self.load.base
        return base if self.vehicles is None else base + self.vehicles.base

    def ramps(self) -> Ramp:
        """All ramps, (P, N) each, in the order of `ROWS`."""
        offers = {name: device.offer() for name, device in self.there.items()}
        rows = [offers[name][ramp] for name, ramp in self._rows()]
        return Ramp(*(_stacked(values) for values in zip(*rows, strict=True)))

    def do(self, gained: Array) -> dict[str, Array]:
        """The powers (N,) in kW of all devices, where so much (P, N) of the ramps is in use."""
        split = self._by_device(gained)
        done: dict[str, Array] = {}
        for name, device in self.there.items():
            done |= device.do(split[name])
        return done

    def used(self, d: Any, gains: Array) -> Array:
        """(P, N) kW, the inverse of `do`; gains (P, N) of the ramps."""
        split = self._by_device(gains)
        used = {name: device.used(d, split[name]) for name, device in self.there.items()}
        return _stacked([used[name][ramp] for name, ramp in self._rows()])

    def cost(self, d: Any) -> list[Array]:
        """(N,) EUR/h of wear, curtailment and discomfort."""
        return [device.cost(d) for device in self.there.values()]

    def value_given_up(self, d: Any) -> Array:
        """(N,) EUR: what the energy taken out of all storage was worth, less that of what was put in."""
        given_up = self.battery.value_given_up(d)
        return given_up if self.vehicles is None else given_up + self.vehicles.value_given_up(d)

    def _rows(self) -> list[tuple[str, str]]:
        """Device and ramp, in order."""
        there = self.there
        return [(name, ramp) for name, ramp in ROWS if name in there and ramp in there[name].ramp_names]

    def _by_device(self, rows: Array) -> dict[str, PerRamp]:
        """(P, N) by device and ramp; those that are not there have no rows."""
        split: dict[str, PerRamp] = {name: {} for name in self.there}
        k = 0
        for name, ramp in self._rows():
            if self.vehicles is not None and name == "vehicles":
                seats = self.vehicles.storage.charge_max.shape[0]
                split[name][ramp] = rows[k : k + seats]
                k += seats
            else:
                split[name][ramp] = rows[k]
                k += 1
        return split


def _stacked(values: Any) -> Array:
    """Rows (N,) and blocks of rows (K, N), one below the other."""
    if all(x.ndim == 1 for x in values):
        return jnp.stack(values)
    return jnp.concatenate([jnp.atleast_2d(x) for x in values])
