"""The feeder under an executed dispatch: voltages, flows, and what lies beyond the limits. On the host."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxp2p.model.devices.arrays import Values, namespace
from jaxp2p.model.match import require_match
from jaxp2p.model.network import on_host
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
    network, base, bus = community.network, horizon.grid_base, community.prosumers.bus
    moved = np.where(np.asarray(community.moving), injection, 0.0)
    as_given = jnp.asarray(moved, horizon.load.dtype)
    state = network.state(base, network.at_buses(as_given, bus))
    loading = network.loading(state.flow, base.reactive)
    network, base = on_host(network), on_host(base)
    flow = network.state(base, network.at_buses(moved, bus)).flow
    return GridState(_f64(state.voltage), _f64(loading), excess=network.overload(flow, base.reactive))


def violated_kw(community: Community, grid: GridState) -> np.ndarray:
    """(T,) kW: what the market's network rows are violated by, summed over the rows that count as violated.

    Rows are scaled as in the `Feeder`, so a voltage counts in the kW that would mend it. A row within the
    tolerance of the statuses (0.05 kW, 1e-4 p.u.) counts as kept; without the network in the market nothing
    is priced, and this is 0.
    """
    return violated(on_host(community), grid.voltage, grid.excess)


def violated(community: Community, voltage: Values, overload: Values) -> Values:
    """(...,) kW, the same of voltages (..., B) p.u. and overloads (..., L) kW: all NumPy, or all JAX."""
    excess = community.feeder.excess(community.network, voltage, overload)
    kept = community.feeder.tolerance(excess.dtype, flow=POWER_TOLERANCE, voltage=VOLTAGE_TOLERANCE)
    xp = namespace(excess)
    return xp.where(excess > xp.broadcast_to(kept, excess.shape), excess, 0).sum(-1)


def _f64(values: Any) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)
