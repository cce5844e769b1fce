"""LinDistFlow: a radial feeder as matrices, and the rows that the market must respect.

Baran and Wu's branch flow equations without losses: with r, x in p.u. per kW on the path from the slack,

    v_n = v0^2 + 2 sum_m (R_nm p_m + X_nm q_m),      P_l = sum of p downstream of l,

where R_nm adds the resistances that the paths of n and m share. Reactive power is fixed within a slot, so
the rating |P + jQ| <= S is the exact interval |P| <= sqrt(S^2 - Q^2).
"""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.lax import Precision

from jaxp2p.model.types import Feeder, Horizon, Network


def radial_matrices(
    tail: np.ndarray, head: np.ndarray, resistance: np.ndarray, reactance: np.ndarray, buses: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """R, X (B, B) and downstream incidence (L, B) of a tree rooted at bus 0.

    `tail`, `head` (L,) are the two ends of every branch in any order; the branches must form a spanning
    tree (the validation of the tables sees to that). Impedances in any unit per kW; R and X inherit it.
    """
    neighbours: list[list[tuple[int, int]]] = [[] for _ in range(buses)]
    for branch, (a, b) in enumerate(zip(tail, head, strict=True)):
        neighbours[a].append((branch, b))
        neighbours[b].append((branch, a))
    path = np.zeros((buses, len(tail)), bool)  # branches between the slack and every bus
    order, seen = [0], {0}
    for bus in order:
        for branch, other in neighbours[bus]:
            if other not in seen:
                seen.add(other)
                order.append(other)
                path[other] = path[bus]
                path[other, branch] = True
    if len(seen) != buses:
        raise ValueError(f"{buses - len(seen)} of {buses} buses are not connected to the slack")
    weights = path.astype(float)
    return (weights * resistance) @ weights.T, (weights * reactance) @ weights.T, weights.T


def controllable_rows(
    network: Network, bus: np.ndarray, flexible: np.ndarray, dtype: np.dtype
) -> Feeder | None:
    """The Feeder of these homes: rows over the buses with a flexible home, scaled.

    None where there is no row: one bus only, or nothing between it and the homes that could bind.
    bus (N,) int, flexible (N,) bool. Rows that no flexible home can move are left out: nothing that the
    market decides could help them, and the run reports their violations all the same.
    """
    buses, count = np.unique(bus[flexible], return_counts=True)
    group = np.where(flexible, np.searchsorted(buses, bus), 0)
    resistance, downstream = np.asarray(network.resistance, float), np.asarray(network.downstream, float)
    voltage_rows, flow_rows = 2 * resistance[:, buses], downstream[:, buses]
    voltage_bus = np.flatnonzero(voltage_rows.max(1, initial=0) > 0)
    rated = np.isfinite(np.asarray(network.rating))
    flow_branch = np.flatnonzero(rated & (flow_rows.max(1, initial=0) > 0))
    rows = np.concatenate([voltage_rows[voltage_bus], flow_rows[flow_branch]])
    if not len(rows):
        return None
    scale = np.abs(rows).max(1, initial=0)
    matrix = rows / scale[:, None]
    return Feeder(
        group=jnp.asarray(group, jnp.int32),
        flexible=jnp.asarray(flexible, dtype),
        count=jnp.asarray(count, dtype),
        matrix=jnp.asarray(matrix, dtype),
        scale=jnp.asarray(scale, dtype),
        voltage_bus=jnp.asarray(voltage_bus, jnp.int32),
        flow_branch=jnp.asarray(flow_branch, jnp.int32),
    )


def row_limits(
    network: Network, feeder: Feeder, voltage_base: Array, flow_base: Array, flow_reactive: Array
) -> tuple[Array, Array, Array]:
    """Offset, lower and upper limit of every row, each (..., R) in kW, of one slot or of many.

    voltage_base (..., B) p.u.^2, flow_base (..., L) kW, flow_reactive (..., L) kvar. Voltage rows count from
    the slack's voltage: as a power, 1 p.u. would be so large that float32 lost what the homes do.
    """
    volt, branch = feeder.voltage_bus, feeder.flow_branch
    lead = voltage_base.shape[:-1]
    spread = lambda x: jnp.broadcast_to(x, (*lead, *x.shape))
    slack = network.slack_voltage**2
    room = jnp.sqrt(jnp.maximum(spread(network.rating[branch]) ** 2 - flow_reactive[..., branch] ** 2, 0))
    lowest, highest = (
        spread(limit[volt] ** 2 - slack) for limit in (network.voltage_min, network.voltage_max)
    )
    scale = spread(feeder.scale)
    offset = jnp.concatenate([voltage_base[..., volt] - slack, flow_base[..., branch]], -1) / scale
    return (
        offset,
        jnp.concatenate([lowest, -room], -1) / scale,
        jnp.concatenate([highest, room], -1) / scale,
    )


def network_state(network: Network, horizon: Horizon, injection: Array, bus: Array) -> tuple[Array, Array]:
    """Voltages (T, B) in p.u. and branch loadings (T, L) as share of the rating, by LinDistFlow.

    injection (T, N) in kW of the homes whose power the base quantities of `horizon` leave out (0 for the
    others), bus (N,). The loading of an unrated branch is 0.
    """
    at_bus = jnp.zeros((injection.shape[0], network.voltage_min.shape[0]), injection.dtype)
    at_bus = at_bus.at[:, bus].add(injection)
    squared = horizon.voltage_base + 2 * jnp.matmul(at_bus, network.resistance, precision=Precision.HIGHEST)
    flow = horizon.flow_base + jnp.matmul(at_bus, network.downstream.T, precision=Precision.HIGHEST)
    apparent = jnp.sqrt(flow**2 + horizon.flow_reactive**2)
    return jnp.sqrt(jnp.maximum(squared, 0)), apparent / network.rating[None, :]
