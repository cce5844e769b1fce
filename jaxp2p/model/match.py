"""Whether a community and a horizon belong together: arrays of the same shape say nothing about that.

A horizon leaves out of its base values the homes that its community lets decide. With another community of
the same size it is as good as any to a program, and every figure of the grid is wrong.
"""

import hashlib

import jax

from jaxp2p.model.devices import Vehicles
from jaxp2p.model.types import Community, Horizon, Prosumers


def mark_of(name: str, prosumers: Prosumers, buses: tuple[str, ...]) -> str:
    """What tells communities apart: name, members, vehicles, and who of them has something to decide."""
    parts = [*prosumers.ids, "", *buses, "", jax.device_get(prosumers).flexible.tobytes().hex()]
    if prosumers.vehicles is not None:
        parts += ["", *prosumers.vehicles.ids, "", *map(str, prosumers.vehicles.seats.ravel())]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]
    return f"{name or 'a community'} ({prosumers.bus.shape[0]:,} members, {digest})"


def require_match(community: Community, horizon: Horizon) -> None:
    """Raises ValueError, with both names, where a horizon was made for another community.

    Looks at structure and shapes only, so it may be called under `jax.jit`. What has no mark was put together
    by hand: then only the shapes must fit.
    """
    mine, theirs = community.mark, horizon.mark
    if mine and theirs and mine != theirs:
        raise ValueError(
            f"the horizon was made for {theirs}, not for {mine}: build both from the same tables "
            "(`jaxp2p.build`, or build_horizon(community, tables))"
        )
    gridless = not community.feeder.rows and horizon.voltage_base.shape[-1] == 0  # nobody looks at the grid
    size, network = community.size, community.network
    for what, has, needs in (
        ("members", horizon.load.shape[-1], size),
        ("members with PV series", horizon.pv.shape[-1], size),
        ("buses", horizon.voltage_base.shape[-1], network.buses),
        ("branches", horizon.flow_base.shape[-1], network.branches),
    ):
        if has != needs and not (gridless and what in ("buses", "branches")):
            raise ValueError(
                f"the horizon ({theirs or 'without a name'}) has {has:,} {what}, "
                f"the community ({mine or 'without a name'}) {needs:,}"
            )
    seats = _seats(community.prosumers.vehicles)
    plugged = (0, 0) if horizon.plugs is None else horizon.plugs.arrived.shape[-2:]
    if plugged != seats:
        raise ValueError(
            f"the horizon ({theirs or 'without a name'}) has {plugged[0]:,} x {plugged[1]:,} seats for "
            f"vehicles, the community ({mine or 'without a name'}) {seats[0]:,} x {seats[1]:,}"
        )


def _seats(vehicles: Vehicles | None) -> tuple[int, ...]:
    return (0, 0) if vehicles is None else vehicles.capacity.shape
