"""The feeder under an executed dispatch: voltages, flows, and what lies beyond the limits. On the host."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxp2p.model.match import require_match
from jaxp2p.model.network import network_state
from jaxp2p.model.types import Community, Horizon
from jaxp2p.slot.execute import POWER_TOLERANCE, VOLTAGE_TOLERANCE


class GridState(NamedTuple):
    """The feeder under the executed injections (LinDistFlow)."""

    voltage: np.ndarray  # (T, B) p.u.
    loading: np.ndarray  # (T, L) apparent power as share of the rating, 0 where unrated
    excess: np.ndarray  # (T, L) kW, active power beyond what the rating leaves beside the reactive power


def grid_state(community: Community, horizon: Horizon, injection: np.ndarray) -> GridState:
    """Voltages and flows under the injections (T, N) in kW, on all buses and branches.

    The base quantities of `horizon` hold the homes that have nothing to decide, so only the others count.
    """
    require_match(community, horizon)
    network = community.network
    moved = np.where(_flexible(community), injection, 0.0)
    as_given = jnp.asarray(moved, np.asarray(horizon.load).dtype)
    voltage, loading = network_state(network, horizon, as_given, community.prosumers.bus)
    downstream = np.asarray(network.downstream, float)
    flow = _f64(horizon.flow_base) + moved @ downstream[:, np.asarray(community.prosumers.bus)].T
    # inf - finite is inf: an unrated branch has no excess
    room = np.sqrt(np.maximum(_f64(network.rating) ** 2 - _f64(horizon.flow_reactive) ** 2, 0))
    return GridState(voltage=_f64(voltage), loading=_f64(loading), excess=np.maximum(np.abs(flow) - room, 0))


def violated_kw(community: Community, grid: GridState) -> np.ndarray:
    """(T,) kW: what the market's network rows are violated by, summed over the rows that count as violated.

    Rows are scaled as in the `Feeder`, so a voltage counts in the kW that would mend it. A row within the
    tolerance of the statuses (0.05 kW, 1e-4 p.u.) counts as kept; without the network in the market nothing
    is priced, and this is 0.
    """
    feeder, network = community.feeder, community.network
    if feeder is None:
        return np.zeros(len(grid.voltage))
    bus, branch, scale = np.asarray(feeder.voltage_bus), np.asarray(feeder.flow_branch), _f64(feeder.scale)
    voltage = grid.voltage[:, bus]
    high, low = _f64(network.voltage_max)[bus], _f64(network.voltage_min)[bus]
    beyond = np.maximum(voltage**2 - high**2, low**2 - voltage**2)
    beyond = np.where(beyond > 2 * VOLTAGE_TOLERANCE, beyond, 0)
    flow = np.where(grid.excess[:, branch] > POWER_TOLERANCE, grid.excess[:, branch], 0)
    return (beyond / scale[: len(bus)]).sum(1) + (flow / scale[len(bus) :]).sum(1)


def _flexible(community: Community) -> np.ndarray:
    # the feeder knows what the base values leave out, also where a scenario took a home's devices away
    if community.feeder is not None:
        return np.asarray(community.feeder.flexible) > 0
    return np.asarray(community.prosumers.flexible)


def _f64(values: Any) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)
