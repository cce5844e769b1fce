"""PV plants: 0 <= g <= G, and k_curt (G - g) EUR/h for what is curtailed."""

from typing import Any

import jax.numpy as jnp

from jaxp2p._pytree import record
from jaxp2p.model.devices.arrays import Values, namespace
from jaxp2p.model.devices.offer import PerRamp, Ramp, Ramps


@record
class PV:
    """N plants in a slot; (T, N) over a horizon."""

    available: Values  # (N,) kW, G
    curtailment_cost: Values  # (N,) EUR/kWh, k_curt

    @property
    def base(self) -> float:
        """At a price of minus infinity all of it is curtailed."""
        return 0.0

    @property
    def use_price(self) -> Values:
        """(N,) EUR/kWh, the nodal price from which it is used."""
        return -self.curtailment_cost

    @property
    def ramp_names(self) -> tuple[str, ...]:
        """Those of its ramps that there are."""
        return ("use",)

    def offer(self) -> Ramps:
        """Everything at one price."""
        return {"use": Ramp(self.use_price, self.use_price, self.available)}

    def do(self, gained: PerRamp) -> PerRamp:
        """What is used, kW."""
        return {"pv_used": jnp.clip(gained["use"], max=self.available)}

    def used(self, d: Any, gains: PerRamp) -> PerRamp:
        """The inverse of `do`."""
        return {"use": d.pv_used}

    def cost(self, d: Any) -> Values:
        """(N,) EUR/h of powers."""
        return self.curtailment(self.available - d.pv_used)

    def earned(self, price: Values) -> Values:
        """EUR/h that it gains at best at a nodal price."""
        xp = namespace(price, self.available)
        return self.available * (xp.maximum(price - self.use_price, 0) + self.use_price)

    def curtailment(self, curtailed: Values) -> Values:
        """EUR/h of so many kW that are not used."""
        return self.curtailment_cost * curtailed
