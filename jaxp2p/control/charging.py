"""When vehicles charge: rules as chargers have them today, and what the energy in them is worth.

The value of a stored kWh falls along a line from the floor, where it saves the dearest purchase that may be
forced later, to the most that the stay has room for, where it is worth what the cheapest kWh costs:

    lambda(E') = D_h - (D_h - D_l) (E' - floor) / (most - floor)
    D_h = mu_max / eta_c + kappa,      D_l = mu_min / eta_c + kappa          (EUR per kWh in the cells)

the exact drift of `control.bounds` with V = (most - floor) / (D_h - D_l), anew in every slot. As the floor
rises towards the target the same energy becomes worth more: a vehicle with time waits for cheap hours, one
without pays what there is. With nodal prices up to mu_max it charges to its floor of its own accord:
lambda(floor) = D_h, so charging pays at every such price; the explicit limit is for prices beyond them.
"""

import jax.numpy as jnp
from jax import Array

from jaxp2p._pytree import record
from jaxp2p.control.rules import community_meter
from jaxp2p.model.devices import Plugged, Plugs, Vehicles

BY_WORTH, AT_ONCE, ON_OWN_SURPLUS, ON_SURPLUS, IN_CHEAPEST_SLOTS = 0, 1, 2, 3, 4  # what moves the vehicles


@record
class Charging:
    """How a policy charges vehicles, K seats of N homes; leaves only, as in `policy.Policy`."""

    rule: Array  # () int32, one of the five above
    low: Array  # (K, N) EUR per kWh in the cells, worth of a kWh where `most` is reached
    high: Array  # (K, N) EUR per kWh in the cells, worth of a kWh at the floor


def worth_range(plugged: Plugged | Vehicles, price_min: Array, price_max: Array) -> tuple[Array, Array]:
    """(D_l, D_h), (K, N) EUR per kWh in the cells, for nodal prices () in [price_min, price_max]."""
    low, high = (price / plugged.charge_efficiency + plugged.wear_cost for price in (price_min, price_max))
    return low, high


def by_worth(vehicles: Vehicles, price_min: Array, price_max: Array) -> Charging:
    """By what stored energy is worth, for prices () in EUR/kWh between these."""
    low, high = worth_range(vehicles, price_min, price_max)
    return Charging(rule=jnp.asarray(BY_WORTH, jnp.int32), low=low, high=high)


def by_rule(vehicles: Vehicles, rule: int) -> Charging:
    """By a rule; BY_WORTH: of no worth, so that nothing is charged but what must be."""
    nothing = jnp.zeros_like(vehicles.capacity)
    return Charging(rule=jnp.asarray(rule, jnp.int32), low=nothing, high=nothing)


def worth_line(low: Array, high: Array, plugged: Plugged, kept: Array) -> tuple[Array, Array]:
    """lambda at `kept` (K, N) kWh, EUR/kWh, and its slope, EUR/kWh^2."""
    room = plugged.energy_max - plugged.energy_min
    slope = jnp.where(room > 0, (high - low) / jnp.where(room > 0, room, 1), 0)
    return high - slope * (kept - plugged.energy_min), slope


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
