"""Vehicles that have no choice: they charge at full power to the end, or have all they want when they come.

Where a target is just reachable, or not, the limits of a stay leave a single course of the energy, and an
interior-point method has no interior to go through. Such slots are taken out of the program: what is charged
in them is load. Afterwards they are put back with a price m_t of the stored kWh for which that course is the
best there is (`lower_bound`), nu_t being the nodal price and m_T = v_T in the last slot of the horizon,
else 0 after the end of a stay:

    full power     m_t = max(m_{t+1}, nu_t / eta_c + kappa, eta_d nu_t - kappa)       to charge pays
    none at all    m_t = min(m_{t+1}, nu_t / eta_c + kappa)                           it does not
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from jaxp2p.hindsight.horizon_data import HorizonData
from jaxp2p.hindsight.horizon_qp import HorizonSolution
from jaxp2p.model.devices import Plugged

ROUNDING = 1e-6  # of `most`: limits that are closer than that leave no choice


class NoChoice(NamedTuple):
    """(T, K, N) each, 0 where a vehicle has a choice or none is plugged in."""

    full: np.ndarray  # bool: it charges at full power
    idle: np.ndarray  # bool: it does nothing
    energy: np.ndarray  # kWh at the end of the slot

    @property
    def there(self) -> np.ndarray:
        """Bool: it has no choice."""
        return self.full | self.idle

    def charge(self, vehicles: Plugged) -> np.ndarray:
        """kW."""
        return np.where(self.full, vehicles.charge_max, 0.0)


def set_aside(data: HorizonData) -> tuple[HorizonData, NoChoice | None]:
    """The horizon without the vehicles that have no choice, what they charge being load; and those."""
    if data.vehicles is None:
        return data, None
    vehicles, given = _split(data.vehicles, hours=data.slot_hours)
    return data._replace(load=data.load + given.charge(data.vehicles).sum(1), vehicles=vehicles), given


def _split(vehicles: Plugged, *, hours: float) -> tuple[Plugged, NoChoice]:
    """The vehicles that have a choice, their limits within what is within reach, and the others."""
    shape = vehicles.energy_min.shape
    full, idle, energy = np.zeros(shape, bool), np.zeros(shape, bool), np.zeros(shape)
    highest, arrived, retention = np.zeros(shape), vehicles.arrived.copy(), vehicles.retention.copy()
    known = np.ones(shape[1:], bool)  # the energy before the slot is one number
    before = vehicles.energy_start[0]
    for t in range(len(energy)):
        now = vehicles.of(t)
        known |= now.retention == 0
        kept = now.kept(before)
        top, near = now.next_energy(before, now.charge_max, 0.0, hours=hours), ROUNDING * now.energy_max
        full[t] = known & now.owned & (now.energy_min >= top - near)
        idle[t] = known & now.owned & ~full[t] & (now.energy_max <= kept + near) & (now.discharge_max == 0)
        given = full[t] | idle[t]
        # whoever has a choice from here on has what he was given so far
        after = known & ~given & (now.retention > 0)
        arrived[t], retention[t] = np.where(after, kept, arrived[t]), np.where(after, 0.0, retention[t])
        energy[t] = np.where(full[t], top, kept) * given
        known &= given | ~now.owned
        before = highest[t] = np.where(given, energy[t], np.minimum(now.energy_max, top))
    there = full | idle
    without = {
        name: np.where(there, 0.0, values)
        for name, values in (
            ("energy_min", np.minimum(vehicles.energy_min, highest)),
            ("energy_max", vehicles.energy_max),
            ("charge_max", vehicles.charge_max),
            ("discharge_max", vehicles.discharge_max),
            ("arrived", arrived),
            ("retention", retention),
        )
    }
    return replace(vehicles, **without, energy_start=0 * energy), NoChoice(full, idle, energy)


def put_back(data: HorizonData, found: HorizonSolution, given: NoChoice | None) -> HorizonSolution:
    """The answer for `data`, of one for what `set_aside` left of it."""
    if given is None or data.vehicles is None:
        return found
    vehicles, charge = data.vehicles, given.charge(data.vehicles)
    values = {name: getattr(found, name).copy() for name in ("charge", "energy", "storage_dual")}
    values["charge"][:, 1:] += charge
    values["energy"][:, 1:] += given.energy
    values["storage_dual"][:, 1:] = _worth(data, vehicles, found, given)
    gained = np.where(given.there[-1], given.energy[-1] - data.begun[1:], 0.0)
    wear = data.slot_hours * vehicles.wear(charge, 0 * charge)
    constant = float(wear.sum() - (data.terminal_price * gained).sum())
    names = "objective", "dual_objective"
    solver = found.solver._replace(**{name: getattr(found.solver, name) + constant for name in names})
    return found._replace(**values, solver=solver)


def _worth(data: HorizonData, vehicles: Plugged, found: HorizonSolution, given: NoChoice) -> np.ndarray:
    """m (T, K, N) EUR/kWh, see above; as found where there is a choice."""
    worth, price = found.storage_dual[:, 1:].copy(), found.price_nodal(data)
    later = np.where(vehicles.owned[-1], data.terminal_price, 0.0)
    for t in reversed(range(len(worth))):
        now = vehicles.of(t)
        charged, discharged = now.charge_value(price[t]), now.discharge_value(price[t])
        worth[t] = np.where(given.full[t], np.maximum(later, np.maximum(charged, discharged)), worth[t])
        worth[t] = np.where(given.idle[t], np.minimum(later, charged), worth[t])
        later = now.retention * worth[t]
    return worth
