"""The AC power flow of a dispatch, with the reactive power that the inverters give by their rule."""

import jax
from jax import Array

from jaxp2p.model.devices import Inverters, inverter
from jaxp2p.model.devices.arrays import Values, namespace
from jaxp2p.model.network import Base, Droop, Flow, flow_of, least_reactive
from jaxp2p.model.types import Community


def power_flow_of(community: Community, base: Base, injection: Values, pv_used: Values) -> Flow:
    """The AC power flow when the homes inject (..., N) kW beside what `base` holds; NumPy or JAX.

    pv_used: (..., N) kW of it from PV, beside which inverters give reactive power (`devices.inverter`). Where
    the network is not part of the market, no market asks for any.
    """
    homes, network, active = community.prosumers, community.network, _at_buses(community, injection)
    at_bus = lambda values: network.at_buses(values, homes.bus)
    inverters = homes.inverters
    if inverters is None or (inverters.rule == inverter.MARKET and not community.feeder.rows):
        return flow_of(network, base, active)
    if inverters.rule == inverter.MARKET:
        return least_reactive(network, base, active, at_bus(inverters.able(pv_used)))
    if inverters.rule == inverter.VOLT_VAR:
        return flow_of(network, base, active, droop=_droop(community, inverters, pv_used))
    return flow_of(network, base, active, at_bus(inverters.following(pv_used)))


def loss_shares(community: Community, base: Base, injection: Array, pv_used: Array, flow: Flow) -> Array:
    """(N,) kW that a kW more, injected at every home, adds to the losses: their derivative at a power flow.

    What inverters give stays as it is, but for those that answer to the voltage.
    """
    homes, network = community.prosumers, community.network
    droop, support = None, flow.support
    if homes.inverters is not None and homes.inverters.answers:
        droop, support = _droop(community, homes.inverters, pv_used), None

    def losses(active: Array) -> Array:
        return flow_of(network, base, active, support, droop, start=flow).losses

    return jax.grad(losses)(_at_buses(community, injection))[homes.bus]


def _at_buses(community: Community, injection: Values) -> Values:
    moved = namespace(injection).where(community.moving, injection, 0)
    return community.network.at_buses(moved, community.prosumers.bus)


def _droop(community: Community, inverters: Inverters, pv_used: Values) -> Droop:
    able = community.network.at_buses(inverters.able(pv_used), community.prosumers.bus)
    return Droop(able, inverters.curve)


def supported(community: Community, base: Base, flow: Flow) -> Base:
    """The base values with what the inverters give in a power flow."""
    return base if flow.support is None else community.network.supported(base, flow.support)
