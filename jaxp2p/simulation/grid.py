"""The feeder under an executed dispatch: voltages, flows, and what lies beyond the limits. On the host.

In AC (`Flow`) and as the linear network has it (LinDistFlow), side by side.
"""

from typing import Any, NamedTuple

import numpy as np

from jaxp2p.model.devices.arrays import Values, namespace
from jaxp2p.model.match import require_match
from jaxp2p.model.network import Base, Flow, Reach, least_beside, on_host, overload_of
from jaxp2p.model.trajectory import Trajectory
from jaxp2p.model.types import Community, Horizon
from jaxp2p.simulation import secure
from jaxp2p.simulation.flows import power_flow_of, supported
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
    support: np.ndarray | None  # (T, B) kvar that inverters give; None: without such
    violated: np.ndarray  # (T,) kW, see `violated`: in AC where the market is to be secure there


def grid_state(
    community: Community,
    horizon: Horizon,
    injection: np.ndarray,
    pv_used: Values | None = None,
    *,
    linear: bool = False,
) -> GridState:
    """Voltages and flows under the injections (T, N) in kW, on all buses and branches.

    pv_used: (T, N) kW of PV in them, by default all that is available: beside it inverters give reactive
    power, which is in the linear network too.
    linear: what counts as violated is that of the linear network, also where the market is secure in AC.

    The base quantities of `horizon` hold the homes that have nothing to decide, so only the others count.
    """
    require_match(community, horizon)
    whole, base = on_host(community), on_host(horizon.grid_base)
    used = np.asarray(horizon.pv if pv_used is None else pv_used, float)
    flow = power_flow_of(whole, base, np.asarray(injection, float), used)
    base, network = supported(whole, base, flow), whole.network
    moved = np.where(whole.moving, injection, 0.0)
    volts, power = network.state(base, network.at_buses(moved, community.prosumers.bus))
    excess = network.overload(power, base.reactive)
    return GridState(
        voltage=volts,
        loading=network.loading(power, base.reactive),
        excess=excess,
        ac_voltage=np.asarray(flow.voltage),
        ac_loading=np.asarray(flow.loading),
        ac_losses=np.asarray(flow.losses),
        ac_status=np.asarray(flow.status),
        support=None if flow.support is None else np.asarray(flow.support),
        violated=beyond(whole, base, volts, excess, flow, linear=linear, reach=whole.reach(_f64(horizon.pv))),
    )


def grid_of(
    community: Community, horizon: Horizon, trajectory: Trajectory, *, linear: bool = False
) -> GridState:
    """`grid_state` under what was executed."""
    return grid_state(community, horizon, _f64(trajectory.injection), trajectory.pv_used, linear=linear)


def beyond(
    community: Community,
    base: Base,
    voltage: Values,
    overload: Values,
    flow: Flow | None,
    *,
    linear: bool = False,
    reach: Reach | None = None,
) -> Values:
    """(...,) kW: `violated`, in AC where the market is to be secure there, else of the linear network.

    reach: of inverters, with all of which the linear network keeps its limits before they count as violated,
    as in its rows; `base` has what they give in the power flow.
    """
    if flow is not None and secure.asked(community) and not linear:
        voltage, overload = flow.voltage, overload_of(community.network, flow, base.reactive)
    elif flow is not None and flow.support is not None and reach is not None:
        network, rest = community.network, Reach(*(end - flow.support for end in reach))
        lowered, raised = (network.lift(end) for end in rest)
        square, xp = voltage**2, namespace(voltage)
        low, high = (xp.broadcast_to(x**2, square.shape) for x in (network.voltage_min, network.voltage_max))
        kept = xp.clip(square, low, high)
        voltage = xp.sqrt(xp.maximum(xp.clip(kept, square + lowered, square + raised), 0))
        more, now = (
            xp.where(overload > 0, network.room(flows), 0)  # unrated branches have no end of it
            for flows in (least_beside(network, base, rest), base.reactive)
        )
        overload = xp.maximum(overload - (more - now), 0)
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
