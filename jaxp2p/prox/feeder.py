"""The feeder's side of the consensus: injection copies that respect the network rows.

    minimise over z   rho_n/2 sum_n M_n (m_n - z_n)^2 + rho_s/2 |A M z + offset - s|^2

with m the bus averages that the homes ask for, M_n flexible homes at bus n, and s the row copy. With the
eigenbasis stored in `Feeder` the solution is a diagonal in any pair (rho_n, rho_s).
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import Precision

from jaxp2p.community.types import Feeder


def bus_sum(feeder: Feeder, values: Array) -> Array:
    """Sum (G,) of values (N,) over the flexible homes of every controllable bus."""
    return jax.ops.segment_sum(
        values * feeder.flexible, feeder.group, feeder.count.shape[0], indices_are_sorted=False
    )


def bus_mean(feeder: Feeder, values: Array) -> Array:
    """Mean (G,) of values (N,) over the flexible homes of every controllable bus."""
    return bus_sum(feeder, values) / feeder.count


def rows(feeder: Feeder, injection: Array) -> Array:
    """Row values (R,) in kW, without offset, when every flexible home at bus n injects injection[n]."""
    return jnp.matmul(feeder.matrix, feeder.count * injection, precision=Precision.HIGHEST)


def feeder_solve(
    feeder: Feeder, wish: Array, row_wish: Array, *, rho_injection: Array, rho_rows: Array
) -> tuple[Array, Array]:
    """Minimiser z (G,) of the problem above and its rows A M z (R,); row_wish is s - offset."""
    root = jnp.sqrt(feeder.count)
    stacked = jnp.concatenate([rho_injection * root * wish, rho_rows * row_wish])
    modes = jnp.matmul(stacked, feeder.basis, precision=Precision.HIGHEST)
    modes = modes / (rho_injection + rho_rows * feeder.eigenvalues)
    out = jnp.matmul(feeder.basis, modes, precision=Precision.HIGHEST)
    groups = feeder.count.shape[0]
    return out[:groups] / root, out[groups:]


def penalised_box(x: Array, lower: Array, upper: Array, penalty: Array, rho: Array) -> Array:
    """argmin_s penalty dist(s, [lower, upper]) + rho/2 (s - x)^2: step towards the box by penalty/rho.

    The step stops at the box. Exact penalty: the multiplier never exceeds `penalty`.
    """
    excess = x - jnp.clip(x, lower, upper)
    return x - jnp.clip(excess, -penalty / rho, penalty / rho)
