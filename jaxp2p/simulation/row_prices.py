"""What the prices of network rows mean: parts of the members' prices, and the worth of reactive power.

With y the prices of the rows (EUR/kWh, above 0 at an upper limit) and A their response to injections, devices
see nu = mu - A^T y: the market price less what the voltage rows and the branch rows take off it, each a sum
over its own rows. A kvar at bus n moves voltage row r by 2 X_rn and the reactive flow Q_l of every branch
on the path to the slack by 1, which leaves sqrt(S^2 - Q^2) of its rating. What it is worth is

    w_n = -sum_r y_r 2 X_rn / scale_r - sum_l |y_l| Q_l / sqrt(S_l^2 - Q_l^2),

the saving per kvar and hour where limits stay in use: the price that an inverter could be paid for its q.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxp2p.model.network import Base
from jaxp2p.model.types import Community

LEAST_ROOM = 0.05  # of a rating: below, all but none of it is left beside Q, and the formula has a pole


class PriceParts(NamedTuple):
    """What rows take off the market price, each (N,) EUR/kWh; 0 for members that decide nothing."""

    voltage: Array
    branch: Array


def price_parts(community: Community, row_price: Array) -> PriceParts:
    """Of row prices (R,) EUR/kWh."""
    volts = community.feeder.voltage_bus.shape[0]
    price, row = jnp.asarray(row_price), np.arange(community.feeder.rows)
    return PriceParts(*(_off(community, jnp.where(rows, price, 0)) for rows in (row < volts, row >= volts)))


def reactive_price(community: Community, base: Base, row_price: Array) -> Array:
    """(N,) EUR/kvarh, w at the bus of every member, of one slot; base: with what inverters give, if any."""
    feeder, network, price = community.feeder, community.network, jnp.asarray(row_price)
    volts = feeder.voltage_bus.shape[0]
    at_bus = jnp.zeros(network.buses, price.dtype)
    per_unit = price[:volts] / feeder.scale[:volts]
    of_voltages = network.lift_transposed(at_bus.at[feeder.voltage_bus].set(per_unit))
    rating = network.rating[feeder.flow_branch]
    flow = jnp.asarray(base.reactive, price.dtype)[feeder.flow_branch]
    room = jnp.sqrt(jnp.maximum(rating**2 - flow**2, (LEAST_ROOM * rating) ** 2))
    narrowed = jnp.abs(price[volts:]) * flow / room / feeder.scale[volts:]
    on_branches = jnp.zeros(network.branches, price.dtype).at[feeder.flow_branch].set(narrowed)
    through = network.through_transposed(on_branches)
    return -(of_voltages + through)[community.prosumers.bus]


def _off(community: Community, row_price: Array) -> Array:
    feeder = community.feeder
    return feeder.at_homes(feeder.bus_price(row_price), community.size)


@jax.jit
def _of_slots(community: Community, base: Base, row_price: Array) -> tuple[PriceParts, Array]:
    one = lambda base, price: (price_parts(community, price), reactive_price(community, base, price))
    return jax.vmap(one)(base, row_price)


@jax.jit
def _parts_of_slots(community: Community, row_price: Array) -> PriceParts:
    return jax.vmap(lambda price: price_parts(community, price))(row_price)


def parts_of_slots(community: Community, row_price: Array) -> dict[str, np.ndarray]:
    """`price_parts` of row prices (T, R): "voltage" and "branch", (T, N) each, on the host."""
    parts = _parts_of_slots(community, jnp.asarray(row_price))
    return {name: np.asarray(values, float) for name, values in parts._asdict().items()}


def columns(
    community: Community, base: Base, row_price: Array | None, support: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Both by the name of a column, (T, N) each, on the host; nothing where the market has no network.

    base: of T slots; support: (T, B) kvar that inverters give beside it.
    """
    if row_price is None or not community.feeder.rows:
        return {}
    given = base
    if support is not None:
        given = community.network.supported(base, jnp.asarray(support, base.voltage.dtype))
    (voltage, branch), reactive = _of_slots(community, given, jnp.asarray(row_price))
    found = {
        "voltage_price_eur_per_kwh": voltage,
        "branch_price_eur_per_kwh": branch,
        "reactive_price_eur_per_kvarh": reactive,
    }
    return {name: np.asarray(values, float) for name, values in found.items()}
