"""Loads: l_min <= l <= l_max, and a (l - l_ref)^2 EUR/h of discomfort away from the reference."""

from typing import Any

import jax.numpy as jnp

from jaxp2p._pytree import record
from jaxp2p.model.devices.arrays import Values, namespace
from jaxp2p.model.devices.offer import PerRamp, Ramp, Ramps


@record
class Load:
    """N loads in a slot; (T, N) over a horizon."""

    reference: Values  # (N,) kW, l_ref
    least: Values  # (N,) kW
    most: Values  # (N,) kW
    discomfort_cost: Values  # (N,) EUR/(kW^2 h), a > 0 where least < most; None: nobody's load can move

    @property
    def elastic(self) -> bool:
        """Whether any can move."""
        return self.discomfort_cost is not None

    @property
    def base(self) -> Values:
        """(N,) kW, negative: at a price of minus infinity the load is at its most."""
        return -self.most

    def price_at(self, load: Values) -> Values:
        """(N,) EUR/kWh, the nodal price at which the load is `load` kW within its limits: 2 a (l_ref - l)."""
        return 2 * self.discomfort_cost * (self.reference - load)

    def at_price(self, price: Values) -> Values:
        """The load, kW, at a nodal price: the inverse of `price_at`, within the limits."""
        xp = namespace(price, self.reference)
        moves = self.discomfort_cost > 0
        moved = xp.where(moves, -price / xp.where(moves, 2 * self.discomfort_cost, 1), 0)
        return xp.clip(self.reference + moved, self.least, self.most)

    def earned(self, price: Values) -> Values:
        """EUR/h that it gains at best at a nodal price: never positive at prices above zero."""
        load = self.at_price(price)
        return -(price * load + self.discomfort(load - self.reference))

    @property
    def ramp_names(self) -> tuple[str, ...]:
        """Those of its ramps that there are."""
        return ("use_less",) if self.elastic else ()

    def offer(self) -> Ramps:
        """From the most to the least."""
        if not self.elastic:
            return {}
        ends = self.price_at(self.most), self.price_at(self.least)
        return {"use_less": Ramp(*ends, self.most - self.least)}

    def do(self, gained: PerRamp) -> PerRamp:
        """The load, kW."""
        if not self.elastic:
            return {"load": self.most}
        return {"load": jnp.clip(self.most - gained["use_less"], min=self.least)}

    def used(self, d: Any, gains: PerRamp) -> PerRamp:
        """The inverse of `do`."""
        return {"use_less": self.most - d.load} if self.elastic else {}

    def cost(self, d: Any) -> Values:
        """(N,) EUR/h of powers; 0 where nobody's load can move."""
        return self.discomfort(d.load - self.reference) if self.elastic else 0.0

    def discomfort(self, moved: Values) -> Values:
        """EUR/h of so many kW more or less than the reference."""
        return self.discomfort_cost * moved**2
