"""When vehicles charge: rules as chargers have them today, and what the energy in them is worth.

A vehicle is the more in need the smaller a part of the time that it has left is enough for what it still
wants. What a stored kWh is worth rises with that urgency, along a line that is a line in the energy as well:

    u(E') = (wanted - E') / (t_left eta_c c_max),      lambda(E') = D_l + (D_h - D_l) u(E')
    D_h = mu_max / eta_c + kappa,      D_l = mu_min / eta_c + kappa          (EUR per kWh in the cells)

the exact drift of `control.bounds` with theta = wanted + V D_l and V = t_left eta_c c_max / (D_h - D_l), anew
in every slot. With time to spare it waits for cheap hours; at u = 1, where every slot left is needed, it pays
whatever nodal price up to mu_max there is, of its own accord: the explicit limit is for prices beyond. At the
target a kWh more is worth no more than the cheapest costs, and above it less.
"""

import jax.numpy as jnp
from jax import Array

from jaxp2p._pytree import record
from jaxp2p.control.rules import community_meter
from jaxp2p.model.devices import Plugged, Plugs, Vehicles
from jaxp2p.model.devices.battery import charge_value

BY_WORTH, AT_ONCE, ON_OWN_SURPLUS, ON_SURPLUS, IN_CHEAPEST_SLOTS = 0, 1, 2, 3, 4  # what moves the vehicles
RULES = {  # as the catalogue calls them
    "by_worth": BY_WORTH,  # what stored energy is worth at the tariffs
    "worthless": BY_WORTH,  # of no worth: as late as can be
    "at_once": AT_ONCE,
    "on_own_surplus": ON_OWN_SURPLUS,
    "on_surplus": ON_SURPLUS,
    "in_cheapest_slots": IN_CHEAPEST_SLOTS,
}


@record
class Charging:
    """How a policy charges vehicles, K seats of N homes; leaves only, as in `policy.Policy`."""

    rule: Array  # () int32, one of the five above
    low: Array  # (K, N) EUR per kWh in the cells, D_l: worth of a kWh where the target is reached
    high: Array  # (K, N) EUR per kWh in the cells, D_h: worth of a kWh where all the time left is needed


def worth_range(
    plugged: Plugged | Vehicles, price_min: Array | float, price_max: Array | float
) -> tuple[Array, Array]:
    """(D_l, D_h), (K, N) EUR per kWh in the cells, for nodal prices () in [price_min, price_max]."""
    return charge_value(plugged, price_min), charge_value(plugged, price_max)


def by_worth(vehicles: Vehicles, price_min: Array, price_max: Array) -> Charging:
    """By what stored energy is worth, for prices () in EUR/kWh between these."""
    low, high = worth_range(vehicles, price_min, price_max)
    return Charging(rule=jnp.asarray(BY_WORTH, jnp.int32), low=low, high=high)


def by_rule(vehicles: Vehicles, rule: int) -> Charging:
    """By a rule; BY_WORTH: of no worth, so that nothing is charged but what must be."""
    nothing = jnp.zeros_like(vehicles.capacity)
    return Charging(rule=jnp.asarray(rule, jnp.int32), low=nothing, high=nothing)


def span(plugs: Plugs, plugged: Plugged, hours: Array) -> Array:
    """(K, N) kWh that the time left after the slot is enough for, and at least a slot's: V (D_h - D_l)."""
    return jnp.maximum(plugs.left, hours) * plugged.charge_efficiency * plugged.charge_max


def worth_line(charging: Charging, wanted: Array, span: Array, kept: Array) -> tuple[Array, Array]:
    """lambda at `kept` (K, N) kWh, EUR/kWh, and its slope, EUR/kWh^2."""
    slope = jnp.where(span > 0, (charging.high - charging.low) / jnp.where(span > 0, span, 1), 0)
    return charging.low + slope * (wanted - kept), slope


def ruled_charge(
    rule: Array,
    plugs: Plugs,
    plugged: Plugged,
    kept: Array,
    surplus: Array,
    limits: tuple[Array, Array],
    *,
    hours: Array,
) -> Array:
    """(K, N) kW that a rule charges, within the limits (least, most), towards the target and not beyond.

    surplus (N,) kW of PV over load of every home.
    """
    least, most = limits
    missing = jnp.maximum(plugs.wanted - kept, 0) / (hours * plugged.charge_efficiency)
    wanted = jnp.minimum(most, missing)
    at_home = jnp.sum(wanted, axis=0)
    own = wanted * jnp.clip(surplus / jnp.where(at_home > 0, at_home, 1), 0, 1)[None, :]
    shared, _ = community_meter(-surplus, jnp.zeros_like(surplus), wanted, wanted)
    asked = jnp.select(
        [rule == ON_OWN_SURPLUS, rule == ON_SURPLUS, rule == IN_CHEAPEST_SLOTS],
        [own, shared, jnp.minimum(plugs.planned, wanted)],
        wanted,
    )
    return jnp.clip(asked, least, most)
