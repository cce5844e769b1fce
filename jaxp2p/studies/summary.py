"""What a study keeps of a slot, from what was written down of it: sums over the community, and the worst."""

from typing import NamedTuple

from jaxp2p._pytree import present
from jaxp2p.model.devices import Plugged
from jaxp2p.model.devices.arrays import Values, namespace
from jaxp2p.model.network import Base, Flow, FlowStatus, Network, Reach
from jaxp2p.model.trajectory import Trajectory
from jaxp2p.model.types import Community
from jaxp2p.model.utility import beyond_cost
from jaxp2p.simulation.accounting import ROUNDING_KW
from jaxp2p.simulation.flows import supported
from jaxp2p.simulation.grid import beyond


class Series(NamedTuple):
    """What is kept of a scenario: sums over the community in every slot. Each (S, T)."""

    cost_eur: Values  # utility, fees, wear, curtailment and discomfort
    import_kw: Values  # from the utility
    export_kw: Values  # to the utility
    trade_kw: Values  # between members
    stored_kwh: Values  # at the end of the slot, in batteries and in vehicles that are plugged in
    unserved_kw: Values  # short of the load, beyond the connection limits
    spilled_kw: Values  # generated beyond the connection limits
    unserved_cost_eur: Values  # of both, see `jaxp2p.simulation.accounting`
    violation_cost_eur: Values  # of the network rows that count as violated
    price_eur_per_kwh: Values  # mean of the members' market prices
    voltage_violation_pu: Values  # worst bus
    line_violation_kw: Values  # worst branch
    ac_voltage_violation_pu: Values  # worst bus in the AC power flow
    ac_loading_violation: Values  # worst branch there, share of its rating beyond all of it
    ac_losses_kw: Values  # in all branches
    ac_unsolved: Values  # 1 where the power flow has no solution, or was not found
    soc_violation_kwh: Values  # worst battery, or vehicle: also by how much one is below its floor
    balance_error_kw: Values  # worst member
    gap_eur: Values  # cost, storage value and penalties exceed the slot's optimum by no more
    status: Values
    iterations: Values
    rounds: Values  # times the slot was cleared until it was secure in AC


IN_AC = ("ac_voltage_violation_pu", "ac_loading_violation", "ac_losses_kw", "ac_unsolved")


class Circumstances(NamedTuple):
    """What a slot, or many, (T,), were like."""

    hours: Values  # () h
    price_buy: Values  # () EUR/kWh
    price_sell: Values  # () EUR/kWh
    base: Base
    flow: Flow | None  # AC, of what is done; None: it is worked out later, for many slots (`with_flow`)
    plugged: Plugged | None
    unserved_price: Values  # () EUR/kWh on top of the tariffs
    row_price: Values  # () EUR/kWh
    linear: bool = False  # limits count as violated in the linear network, also where the market is secure
    reach: Reach | None = None  # of inverters; where `linear`


def summarise(community: Community, slot: Circumstances, row: Trajectory) -> Series:
    """Of one slot (N,) in the kernel, or of many (T, N) on the host: all NumPy (`on_host`), or all JAX."""
    xp, homes, network = namespace(row.injection), community.prosumers, community.network
    moved = xp.where(community.moving, row.injection, 0)
    base = slot.base if slot.flow is None else supported(community, slot.base, slot.flow)
    state = network.state(base, network.at_buses(moved, homes.bus))
    overload = network.overload(state.flow, base.reactive)
    real = xp.abs(row.unserved) > ROUNDING_KW
    short, spilled = (xp.where(real, xp.maximum(sign * row.unserved, 0), 0).sum(-1) for sign in (1, -1))
    undone = beyond_cost(slot.price_buy, slot.price_sell, slot.unserved_price, short, spilled)
    stored, outside = row.energy.sum(-1), xp.max(homes.battery.beyond(row.energy), axis=-1, initial=0)
    if slot.plugged is not None:
        in_vehicles = present(row.vehicle_energy)
        stored = stored + in_vehicles.sum((-2, -1))
        outside = xp.maximum(outside, xp.max(slot.plugged.outside(in_vehicles), axis=(-2, -1)))
    idle = xp.zeros_like(row.gap)
    in_ac = dict.fromkeys(IN_AC, idle) if slot.flow is None else _in_ac(network, slot.flow)
    balance = row.injection - (row.sell - row.buy) - row.trade + row.unserved
    return Series(
        cost_eur=row.cost.sum(-1),
        import_kw=row.buy.sum(-1),
        export_kw=row.sell.sum(-1),
        trade_kw=row.trade_volume.sum(-1) / 2,
        stored_kwh=stored,
        unserved_kw=short,
        spilled_kw=spilled,
        unserved_cost_eur=slot.hours * undone,
        violation_cost_eur=slot.hours
        * slot.row_price
        * beyond(community, base, state.voltage, overload, slot.flow, linear=slot.linear, reach=slot.reach),
        price_eur_per_kwh=row.market_price.mean(-1),
        voltage_violation_pu=xp.max(network.beyond(state.voltage), axis=-1),
        line_violation_kw=xp.max(overload, axis=-1, initial=0),
        **in_ac,
        soc_violation_kwh=outside,
        balance_error_kw=xp.max(xp.abs(balance), axis=-1),
        gap_eur=row.gap,
        status=row.status,
        iterations=row.iterations,
        rounds=present(row.rounds),
    )


def with_flow(series: Series, network: Network, flow: Flow) -> Series:
    """The series with what the AC power flow of every slot says."""
    return series._replace(**_in_ac(network, flow))


def _in_ac(network: Network, flow: Flow) -> dict[str, Values]:
    xp = namespace(flow.losses)
    figures = (
        xp.max(network.beyond(flow.voltage), axis=-1),
        xp.maximum(xp.max(flow.loading, axis=-1, initial=0) - 1, 0),
        flow.losses,
        (flow.status != int(FlowStatus.SOLVED)).astype(flow.losses.dtype),
    )
    return dict(zip(IN_AC, figures, strict=True))
