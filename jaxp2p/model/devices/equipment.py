"""All devices of the homes in one slot, as the one thing that a solver and an execution see."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxp2p.model.devices.load import Load
from jaxp2p.model.devices.offer import ROWS, PerRamp, Ramp
from jaxp2p.model.devices.pv import PV
from jaxp2p.model.devices.storage import Storage


class Equipment(NamedTuple):
    """By kind; a device is known by its name here, its ramps by those that it gives them."""

    battery: Storage
    pv: PV
    load: Load

    @property
    def base(self) -> Array:
        """(N,) kW of injection at a price of minus infinity."""
        return self.battery.base + self.pv.base + self.load.base

    def ramps(self) -> Ramp:
        """All ramps, (P, N) each, in the order of `ROWS`."""
        offers = {name: device.offer() for name, device in self._asdict().items()}
        rows = [offers[name][ramp] for name, ramp in ROWS if ramp in offers[name]]
        return Ramp(*(jnp.stack(values) for values in zip(*rows, strict=True)))

    def do(self, gained: Array) -> dict[str, Array]:
        """The powers (N,) in kW of all devices, where so much (P, N) of the ramps is in use."""
        split = self._by_device(gained)
        done: dict[str, Array] = {}
        for name, device in self._asdict().items():
            done |= device.do(split[name])
        return done

    def used(self, d: Any, gains: Array) -> Array:
        """(P, N) kW, the inverse of `do`; gains (P, N) of the ramps."""
        split = self._by_device(gains)
        used = {name: device.used(d, split[name]) for name, device in self._asdict().items()}
        return jnp.stack([used[name][ramp] for name, ramp in ROWS if ramp in used[name]])

    def cost(self, d: Any) -> list[Array]:
        """(N,) EUR/h of wear, curtailment and discomfort."""
        return [device.cost(d) for device in self]

    def _by_device(self, rows: Array) -> dict[str, PerRamp]:
        """(P, N) by device and ramp; those that are not there have no rows."""
        split: dict[str, PerRamp] = {name: {} for name in self._fields}
        there = [(name, ramp) for name, ramp in ROWS if ramp in getattr(self, name).ramp_names]
        for k, (name, ramp) in enumerate(there):
            split[name][ramp] = rows[k]
        return split
