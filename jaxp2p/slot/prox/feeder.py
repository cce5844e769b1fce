"""The feeder's side of the consensus: injection copies that respect the network rows."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxp2p.model.types import Feeder


def bus_sum(feeder: Feeder, values: Array) -> Array:
    """Sum (G,) of values (N,) over the flexible homes of every controllable bus."""
    return jax.ops.segment_sum(
        values * feeder.flexible, feeder.group, feeder.count.shape[0], indices_are_sorted=False
    )


def at_homes(feeder: Feeder, values: Array) -> Array:
    """What stands at their bus (G,), for every home (N,); 0 for homes that are not flexible."""
    return jnp.take(values, feeder.group, mode="clip") * feeder.flexible
