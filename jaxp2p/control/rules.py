"""Rule-based use of the batteries: no prices, no model, what many inverters do today."""

import jax.numpy as jnp
from jax import Array

LEAST_POWER = 1e-6  # kW


def own_meter(load: Array, pv: Array, charge_max: Array, discharge_max: Array) -> tuple[Array, Array]:
    """Charge (N,) and discharge (N,) in kW that bring every home's own meter towards zero."""
    surplus = pv - load
    return jnp.clip(surplus, 0, charge_max), jnp.clip(-surplus, 0, discharge_max)


def community_meter(load: Array, pv: Array, charge_max: Array, discharge_max: Array) -> tuple[Array, Array]:
    """Charge and discharge that bring the community's surplus towards zero, shared by available power."""
    surplus = jnp.sum(pv - load)

    def shared(wanted: Array, limit: Array) -> Array:
        total = jnp.sum(limit)
        # next to nothing counts as nothing: its share has no finite derivative
        return limit * jnp.clip(wanted / jnp.where(total > LEAST_POWER, total, 1), 0, 1)

    return shared(surplus, charge_max), shared(-surplus, discharge_max)


RULES = {"own_meter": own_meter, "community_meter": community_meter}  # the first is rule 1 of a `Policy`
