"""The feeder under an executed dispatch: voltages, flows, and what lies beyond the limits. On the host.

In AC (`Flow`) and as the linear network has it (LinDistFlow), side by side.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxp2p.model.devices.arrays import Values, namespace
from jaxp2p.model.match import require_match
from jaxp2p.model.network import Base, Flow, on_host, overload_of
from jaxp2p.model.types import Community, Horizon
from jaxp2p.simulation import secure
from jaxp2p.simulation.secure import power_flow_of
from jaxp2p.slot.execute import POWER_TOLERANCE, VOLTAGE_TOLERANCE


class GridState(NamedTuple):
    """The feeder under the executed injections: as the linear network has it, and in AC (`ac_`)."""

    voltage: np.ndarray  # (T, B) p.u.
    loading: np.ndarray  # (T, L) apparent power as share of the rating, 0 where unrated
    excess: np.ndarray  # (T, L) kW, active power beyond what the rating leaves beside the reactive power
    ac_voltage: np.ndarray  # (T, B) p.u.
    ac_loading: np.ndarray  # (T, L) share of the rating, of the worse end, see `power_flow`; 0 where unrated
    ac_losses: np.ndarray  # (T,) kW in all branches
    ac_status: np.ndarray  # (T,) FlowStatus
    violated: np.ndarray  # (T,) kW, see `violated`: in AC where the market is to be secure there


def grid_state(
    community: Community, horizon: Horizon, injection: np.ndarray, *, linear: bool = False
) -> GridState:
    """Voltages and flows under the injections (T, N) in kW, on all buses and branches.

    linear: what counts as violated is that of the linear network, also where the market is secure in AC.

    The base quantities of `horizon` hold the homes that have nothing to decide, so only the others count.
    """
    require_match(community, horizon)
    network, base, bus = community.network, horizon.grid_base, community.prosumers.bus
    moved = np.where(np.asarray(community.moving), injection, 0.0)
    as_given = jnp.asarray(moved, horizon.load.dtype)
    state = network.state(base, network.at_buses(as_given, bus))
    loading = network.loading(state.flow, base.reactive)
    whole, base = on_host(community), on_host(base)
    network = whole.network
    excess = network.overload(network.state(base, network.at_buses(moved, bus)).flow, base.reactive)
    volts, flow = _f64(state.voltage), power_flow_of(whole, base, np.asarray(injection, float))
    return GridState(
        voltage=volts,
        loading=_f64(loading),
        excess=excess,
        ac_voltage=np.asarray(flow.voltage),
        ac_loading=np.asarray(flow.loading),
        ac_losses=np.asarray(flow.losses),
        ac_status=np.asarray(flow.status),
        violated=beyond(whole, base, volts, excess, flow, linear=linear),
    )


def beyond(
    community: Community,
    base: Base,
    voltage: Values,
    overload: Values,
    flow: Flow | None,
    *,
    linear: bool = False,
) -> Values:
    """(...,) kW: `violated`, in AC where the market is to be secure there, else of the linear network."""
    if flow is not None and secure.asked(community) and not linear:
        voltage, overload = flow.voltage, overload_of(community.network, flow, base.reactive)
    return violated(community, voltage, overload)


def violated(community: Community, voltage: Values, overload: Values) -> Values:
    """(...,) kW: what the market's network rows are violated by, summed over the rows that count as violated.

    Of voltages (..., B) p.u. and overloads (..., L) kW: all NumPy, or all JAX. Rows are scaled as in the
    `Feeder`, so a voltage counts in the kW that would mend it. A row within the tolerance of the statuses
    (0.05 kW, 1e-4 p.u.) counts as kept; without the network in the market nothing is priced, and this is 0.
    """
    excess = community.feeder.excess(community.network, voltage, overload)
    kept = community.feeder.tolerance(excess.dtype, flow=POWER_TOLERANCE, voltage=VOLTAGE_TOLERANCE)
    xp = namespace(excess)
    return xp.where(excess > xp.broadcast_to(kept, excess.shape), excess, 0).sum(-1)


def _f64(values: Any) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)
