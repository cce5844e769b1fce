"""Batteries: energy in the cells, power at the terminals.

    E' = sigma E + dt (eta_c c - d / eta_d),   E_min <= E' <= E_max,   0 <= c <= c_max,   0 <= d <= d_max
    wear kappa (eta_c c + d / eta_d), EUR/h

c and d in kW. Whatever goes into or out of the cells is counted there: `moved` is what changes the energy,
`throughput` what wears.
"""

from dataclasses import replace
from typing import Any, NamedTuple, Protocol, Self

import jax
import numpy as np
from jax import Array

from jaxp2p._pytree import record
from jaxp2p.model.devices.arrays import Values, namespace


class PowerLimits(NamedTuple):
    """What a battery can do in a slot, given the energy in it."""

    charge_min: Values  # (N,) kW, what must be charged again
    charge_max: Values  # (N,) kW
    discharge_max: Values  # (N,) kW


class Program(Protocol):
    """What a battery needs of a program over many slots, see `hindsight.quadratic_program`."""

    def variables(self, mask, *, lower=0.0, upper=np.inf) -> np.ndarray:
        """Numbers of new variables where `mask` holds, -1 elsewhere."""

    def rows(self, rhs, *, equality: bool = False, mask=None) -> np.ndarray:
        """Numbers of new rows."""

    def put(self, rows, columns, coefficients) -> None:
        """Add coefficients."""


class Columns(NamedTuple):
    """Where batteries stand in such a program, -1 where there is none."""

    charge: np.ndarray
    discharge: np.ndarray
    energy: np.ndarray  # at the end of the slot
    rows: np.ndarray  # of the energy from slot to slot; the right-hand side is what is there without the last


@record
class Battery:
    """N batteries; a home without one has zero capacity and zero power."""

    energy_min: Array  # (N,) kWh
    energy_max: Array  # (N,) kWh
    energy_start: Array  # (N,) kWh
    charge_max: Array  # (N,) kW, at the terminals
    discharge_max: Array  # (N,) kW, at the terminals
    charge_efficiency: Array  # (N,) in (0, 1], eta_c
    discharge_efficiency: Array  # (N,) in (0, 1], eta_d
    retention: Array  # (N,) in (0, 1], sigma: share of the energy kept over one slot
    wear_cost: Array  # (N,) EUR per kWh moved into or out of the cells, kappa

    @property
    def owned(self) -> Values:
        """(N,) bool: a battery that can move energy; all others are left to their own decay."""
        return (self.charge_max > 0) | (self.discharge_max > 0)

    @property
    def room(self) -> Values:
        """(N,) kWh between the limits."""
        return self.energy_max - self.energy_min

    def moved(self, charge: Values, discharge: Values) -> Values:
        """kW by which the energy in the cells rises: eta_c c - d / eta_d."""
        return self.charge_efficiency * charge - discharge / self.discharge_efficiency

    def throughput(self, charge: Values, discharge: Values) -> Values:
        """kW that go into and out of the cells: eta_c c + d / eta_d."""
        return throughput(self, charge, discharge)

    def both(self, charge: Values, discharge: Values) -> Values:
        """kW in the cells that are charged while they are discharged."""
        xp = namespace(charge, discharge)
        return xp.minimum(self.charge_efficiency * charge, discharge / self.discharge_efficiency)

    @property
    def wear_rates(self) -> tuple[Values, Values]:
        """(N,), (N,) EUR/kWh of wear by energy charged and by energy discharged, at the terminals."""
        return self.wear_cost * self.charge_efficiency, self.wear_cost / self.discharge_efficiency

    def kept(self, energy: Values) -> Values:
        """kWh that are left at the end of a slot of `energy` at its start: sigma E."""
        return self.retention * energy

    def wear(self, charge: Values, discharge: Values) -> Values:
        """EUR/h: kappa (eta_c c + d / eta_d)."""
        return self.wear_cost * self.throughput(charge, discharge)

    def next_energy(self, energy: Values, charge: Values, discharge: Values, *, hours: Any) -> Values:
        """kWh after a slot of `hours`, by the law alone: `held` keeps it within the limits."""
        return self.kept(energy) + hours * self.moved(charge, discharge)

    def held(self, after: Values, energy: Values) -> Values:
        """`after` within the limits, given the energy before the slot.

        The powers were chosen to stay inside: this takes off rounding only (and nothing of what is kept by an
        absent battery that leaks below its lower limit).
        """
        xp, kept = namespace(after, energy), self.kept(energy)
        return xp.clip(after, xp.minimum(self.energy_min, kept), xp.maximum(self.energy_max, kept))

    def outside(self, energy: Values) -> Values:
        """kWh beyond the limits, negative inside."""
        xp = namespace(energy, self.energy_max)
        return xp.maximum(energy - self.energy_max, self.energy_min - energy)

    def beyond(self, energy: Values) -> Values:
        """The same, but 0 for an absent battery, which may leak below its lower limit."""
        return namespace(energy, self.energy_max).where(self.owned, self.outside(energy), 0)

    def limits(self, energy: Values, *, hours: Any) -> PowerLimits:
        """What the energy at hand allows in a slot of `hours`.

        What leaked below the lower limit must be charged again, in an absent battery too.
        """
        xp, kept = namespace(energy, self.energy_max), self.kept(energy)
        room = xp.maximum(self.energy_max - kept, 0) / (hours * self.charge_efficiency)
        stock = xp.maximum(kept - self.energy_min, 0) * self.discharge_efficiency / hours
        refill = xp.maximum(self.energy_min - kept, 0) / (hours * self.charge_efficiency)
        return PowerLimits(
            charge_min=xp.minimum(refill, self.charge_max),
            charge_max=xp.minimum(self.charge_max, room),
            discharge_max=xp.minimum(self.discharge_max, stock),
        )

    def powers(
        self, energy: Values, target: Values, *, hours: Any, overlap: Values = 0.0
    ) -> tuple[Values, Values]:
        """Charge and discharge, kW, that lead from `energy` to `target` kWh in a slot, as far as powers go.

        overlap: kW in the cells that are charged while discharged, on top.
        """
        flow = (target - self.kept(energy)) / hours
        xp = namespace(flow, overlap)
        charge = (xp.maximum(flow, 0) + overlap) / self.charge_efficiency
        discharge = (xp.maximum(-flow, 0) + overlap) * self.discharge_efficiency
        return xp.clip(charge, 0, self.charge_max), xp.clip(discharge, 0, self.discharge_max)

    def charge_price(self, value: Values) -> Values:
        """EUR/kWh, the nodal price below which it charges while a stored kWh is worth `value`."""
        return charge_price(self, value)

    def discharge_price(self, value: Values) -> Values:
        """EUR/kWh, the nodal price above which it discharges."""
        return discharge_price(self, value, 1 / self.discharge_efficiency)

    def charge_value(self, price: Values) -> Values:
        """EUR per kWh in the cells, what one bought at a nodal price costs: the inverse of `charge_price`."""
        return charge_value(self, price)

    def discharge_value(self, price: Values) -> Values:
        """EUR per kWh in the cells, what one sold at it earns: the inverse of `discharge_price`."""
        return self.discharge_efficiency * price - self.wear_cost

    def earned(self, value: Values, price: Values) -> Values:
        """EUR/h that it gains at best at a nodal price, a stored kWh being worth `value` at any energy.

        Charge and discharge each by itself: a bound needs no more.
        """
        xp = namespace(value, price)
        charged = self.charge_max * xp.maximum(self.charge_price(value) - price, 0)
        return charged + self.discharge_max * xp.maximum(price - self.discharge_price(value), 0)

    def columns(self, program: Program, there: np.ndarray, *, hours: float) -> Columns:
        """The batteries in a program over the slots of `there` (T, ...) bool, with `energy_start` in them.

        Leaves may differ from slot to slot, as those of a `Plugged` do.
        """
        wide = lambda x: np.broadcast_to(x, there.shape)
        charge = program.variables(there, upper=self.charge_max)
        discharge = program.variables(there & (self.discharge_max > 0), upper=self.discharge_max)
        energy = program.variables(there, lower=self.energy_min, upper=self.energy_max)
        alone = wide(self.kept(np.zeros(there.shape))).copy()  # with nothing left of the slot before
        alone[0] = wide(self.kept(self.energy_start))[0]
        rows = program.rows(alone, equality=True, mask=there)
        program.put(rows, energy, 1.0)
        program.put(rows[1:], energy[:-1], -wide(self.retention)[1:])
        program.put(rows, charge, -hours * self.charge_efficiency)
        program.put(rows, discharge, hours / self.discharge_efficiency)
        return Columns(charge, discharge, energy, rows)

    def of(self, members: Any) -> Self:
        """Those of some members, by index or mask."""
        return jax.tree.map(lambda x: x[members], self)

    def float64(self) -> "Battery":
        """The same on the host, in float64 NumPy."""
        return jax.tree.map(lambda x: np.asarray(x, np.float64), self)

    def without_power(self) -> "Battery":
        """The same, nobody being able to charge or discharge."""
        return replace(self, charge_max=0 * self.charge_max, discharge_max=0 * self.discharge_max)


def throughput(battery: Any, charge: Values, discharge: Values) -> Values:
    """kW through the cells of whatever has the two efficiencies, a battery or a slot of one."""
    return battery.charge_efficiency * charge + discharge / battery.discharge_efficiency


def charge_price(battery: Any, value: Values) -> Values:
    """EUR/kWh, the nodal price below which a battery or a `Storage` charges, a stored kWh worth `value`."""
    return battery.charge_efficiency * (value - battery.wear_cost)


def sell_stored_price(battery: Any, value: Values) -> Values:
    """EUR/kWh above which it pays to discharge while a stored kWh is worth `value`, of either sign."""
    xp = namespace(value, battery.discharge_efficiency)
    weight = xp.where(value < 0, battery.charge_efficiency, 1 / battery.discharge_efficiency)
    return discharge_price(battery, value, weight)


def charge_value(battery: Any, price: Values) -> Values:
    """EUR per kWh in the cells, what one bought at a nodal price costs: the inverse of `charge_price`."""
    return price / battery.charge_efficiency + battery.wear_cost


def discharge_price(battery: Any, value: Values, weight: Values) -> Values:
    """EUR/kWh, the nodal price above which it discharges, a kWh delivered being `weight` stored ones."""
    return battery.wear_cost / battery.discharge_efficiency + weight * value
