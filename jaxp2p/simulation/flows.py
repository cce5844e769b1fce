"""The AC power flow of a dispatch, with the reactive power that the inverters give by their rule."""

from jaxp2p.model.devices import inverter
from jaxp2p.model.devices.arrays import Values, namespace
from jaxp2p.model.network import Base, Droop, Flow, flow_of, least_reactive
from jaxp2p.model.types import Community


def power_flow_of(community: Community, base: Base, injection: Values, pv_used: Values) -> Flow:
    """The AC power flow when the homes inject (..., N) kW beside what `base` holds; NumPy or JAX.

    pv_used: (..., N) kW of it from PV, beside which inverters give reactive power (`devices.inverter`). Where
    the network is not part of the market, no market asks for any.
    """
    homes, network = community.prosumers, community.network
    at_bus = lambda values: network.at_buses(values, homes.bus)
    active = at_bus(namespace(injection).where(community.moving, injection, 0))
    inverters = homes.inverters
    if inverters is None or (inverters.rule == inverter.MARKET and not community.feeder.rows):
        return flow_of(network, base, active)
    if inverters.rule == inverter.MARKET:
        return least_reactive(network, base, active, at_bus(inverters.able(pv_used)))
    if inverters.rule == inverter.VOLT_VAR:
        droop = Droop(at_bus(inverters.able(pv_used)), inverters.curve)
        return flow_of(network, base, active, droop=droop)
    return flow_of(network, base, active, at_bus(inverters.following(pv_used)))


def supported(community: Community, base: Base, flow: Flow) -> Base:
    """The base values with what the inverters give in a power flow."""
    return base if flow.support is None else community.network.supported(base, flow.support)
