"""A battery in one slot: what its stored energy is worth makes an offer of it.

A stored kWh is worth lambda(E') = value - value_slope (E' - E), E the energy at hand: a line, so the worth of
what is moved is quadratic, and charging and discharging are ramps. Where lambda < 0 discharging counts
lambda eta_c in place of lambda / eta_d, so that charging and discharging at once, which would burn energy,
never pays.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxp2p._pytree import record
from jaxp2p.model.devices.battery import charge_price, discharge_price, throughput
from jaxp2p.model.devices.offer import PerRamp, Ramp, Ramps


@record
class Storage:
    """N batteries in a slot."""

    hours: Array  # () h
    charge_min: Array  # (N,) kW
    charge_max: Array  # (N,) kW, what battery and energy at hand allow
    discharge_min: Array  # (N,) kW
    discharge_max: Array  # (N,) kW
    charge_efficiency: Array  # (N,)
    discharge_efficiency: Array  # (N,)
    wear_cost: Array  # (N,) EUR/kWh of energy into or out of the cells
    value: Array  # (N,) EUR/kWh, worth of a stored kWh at the energy at hand
    value_slope: Array  # (N,) EUR/kWh^2, >= 0

    @property
    def base(self) -> Array:
        """(N,) kW: at a price of minus infinity it charges all it can."""
        return self.discharge_min - self.charge_max

    @property
    def rise(self) -> Array:
        """(N,) EUR/kWh by which a discharged kW raises lambda."""
        return self.value_slope * self.hours / self.discharge_efficiency

    @property
    def fall(self) -> Array:
        """(N,) EUR/kWh by which a charged kW lowers lambda."""
        return self.value_slope * self.hours * self.charge_efficiency

    @property
    def turn(self) -> Array:
        """(N,) kW of discharge at which lambda is 0; without a slope all of it, or none."""
        rise = self.rise
        never = jnp.where(self.value < 0, self.discharge_max, 0)
        return jnp.where(rise > 0, -self.value / jnp.where(rise > 0, rise, 1), never)

    @property
    def ramp_names(self) -> tuple[str, ...]:
        """Those of its ramps that there are."""
        return ("discharge_below_zero", "discharge", "charge_less")

    def offer(self) -> Ramps:
        """Discharge while lambda < 0, discharge beyond that, and the charge that is given up."""
        turn = jnp.clip(self.turn, self.discharge_min, self.discharge_max)
        at = lambda power: self.value + self.rise * power
        below, above = self.charge_efficiency, 1 / self.discharge_efficiency
        least, most = self.discharge_min, self.discharge_max
        after = lambda power: self.value - self.fall * power
        return {
            "discharge_below_zero": Ramp(
                discharge_price(self, at(least), below), discharge_price(self, at(turn), below), turn - least
            ),
            "discharge": Ramp(
                discharge_price(self, at(turn), above), discharge_price(self, at(most), above), most - turn
            ),
            "charge_less": Ramp(
                charge_price(self, after(self.charge_max)),
                charge_price(self, after(self.charge_min)),
                self.charge_max - self.charge_min,
            ),
        }

    def do(self, gained: PerRamp) -> PerRamp:
        """Charge and discharge, kW."""
        discharge = self.discharge_min + gained["discharge_below_zero"] + gained["discharge"]
        discharge = jnp.clip(discharge, max=self.discharge_max)
        charge = jnp.clip(self.charge_max - gained["charge_less"], min=self.charge_min)
        # Where both jump at the same price the share is even, and energy would be burnt for nothing: net it.
        both = jnp.minimum(charge - self.charge_min, discharge - self.discharge_min)
        return {"charge": charge - both, "discharge": discharge - both}

    def used(self, d: Any, gains: PerRamp) -> PerRamp:
        """The inverse of `do`."""
        first = jnp.clip(d.discharge - self.discharge_min, 0, gains["discharge_below_zero"])
        return {
            "discharge_below_zero": first,
            "discharge": d.discharge - self.discharge_min - first,
            "charge_less": self.charge_max - d.charge,
        }

    def cost(self, d: Any) -> Array:
        """(N,) EUR/h of wear."""
        return self.wear_cost * throughput(self, d.charge, d.discharge)

    def value_given_up(self, d: Any) -> Array:
        """(N,) EUR: minus the integral of lambda over the energy moved.

        For lambda >= 0 this is the exact one-slot drift of the weighted Lyapunov function.
        """
        stored = self.hours * self.charge_efficiency * d.charge
        charged = -(self.value - self.value_slope * stored / 2) * stored
        first = jnp.where(self.value < 0, jnp.minimum(d.discharge, self.turn), 0)
        negative = self.charge_efficiency * (self.value + self.rise * first / 2) * first
        rest = d.discharge - first
        positive = (self.value + self.rise * (first + rest / 2)) * rest / self.discharge_efficiency
        return charged + self.hours * (negative + positive)
