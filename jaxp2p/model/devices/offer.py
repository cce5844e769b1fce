"""What a device is to a solver, and what it is asked in return.

A solver knows ramps only (`slot.prox.response`): power that is added as the nodal price rises. Ramps of all
devices are rows of one array, and `ROWS` says whose row is whose: nobody else knows a row by its number.
"""

from typing import Any, NamedTuple, Protocol

from jax import Array

ROWS = (  # device, ramp: the order of the rows; of a device that is not there they are left out
    ("battery", "discharge_below_zero"),
    ("battery", "discharge"),
    ("pv", "use"),
    ("battery", "charge_less"),
    ("load", "use_less"),
    ("vehicles", "discharge_below_zero"),
    ("vehicles", "discharge"),
    ("vehicles", "charge_less"),
)


class Ramp(NamedTuple):
    """Nothing below `start`, all of `gain` above `end`, linear between; start = end is a jump."""

    start: Array  # (N,) EUR/kWh; of K devices of a home (K, N), a row for each
    end: Array  # (N,) EUR/kWh, >= start
    gain: Array  # (N,) kW, >= 0


Ramps = dict[str, Ramp]
PerRamp = dict[str, Array]  # kW of every ramp of a device: (N,), of several devices of a home (K, N)


class Device(Protocol):
    """A device in one slot. `d` has the powers (N,) in kW of all devices, by the names of `do`."""

    @property
    def base(self) -> Array | float:
        """(N,) kW of injection at a price of minus infinity."""

    @property
    def ramp_names(self) -> tuple[str, ...]:
        """Those of its ramps that there are."""

    def offer(self) -> Ramps:
        """Its ramps, by name."""

    def do(self, gained: PerRamp) -> PerRamp:
        """Its powers (N,) in kW, where so much of its ramps is in use."""

    def used(self, d: Any, gains: PerRamp) -> PerRamp:
        """The inverse: how much of every ramp is in use, of the `gains` that were offered."""

    def cost(self, d: Any) -> Array:
        """(N,) EUR/h."""
