"""Policies: who decides what a battery does. One record for all of ours, so that one program runs them all.

A policy sees the present slot and the energy at hand, never the future, and says within which limits every
battery moves and what a stored kWh is worth (a `Decision`). From that comes a `SlotProblem`; the solver does
the rest, under the same market and the same network for everybody. `OwnPolicy` is for anybody else's.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxp2p._pytree import present, record
from jaxp2p.control import tuned as tuned_value
from jaxp2p.control.bounds import LyapunovParameters
from jaxp2p.control.catalogue import Entry
from jaxp2p.control.charging import BY_WORTH, Charging, by_rule, ruled_charge, span, worth_line
from jaxp2p.control.charging import RULES as CHARGING
from jaxp2p.control.rules import RULES
from jaxp2p.control.tuned import Memory, TunedValue
from jaxp2p.model.devices import Fleet, Plugged, Plugs, Storage, Vehicles
from jaxp2p.model.devices.arrays import namespace, on_device
from jaxp2p.model.network import Base, VoltageDependent
from jaxp2p.model.types import Community, Horizon
from jaxp2p.slot.problem import Coupling, SlotProblem

BY_VALUE = 0  # what moves the batteries; from 1 on the rules of `control.rules`, in their order


class Limits(NamedTuple):
    """Between what and what batteries (N,) or vehicles (K, N) may move in a slot, kW at the terminals."""

    charge_min: Array
    charge_max: Array
    discharge_min: Array
    discharge_max: Array


class Decision(NamedTuple):
    """What a policy says of a slot; value and slope make the worth of a kWh, value - slope (E' - kept)."""

    limits: Limits  # at most those that it was given
    value: Array  # (N,) or (K, N) EUR/kWh at E' = kept, lambda
    slope: Array  # (N,) or (K, N) EUR/kWh^2, >= 0


class OwnPolicy:
    """Somebody's own policy: make its class with `jaxp2p.record`, so that its fields are leaves of a pytree.

    The methods are pure, of arrays, and traced once per run; N is the number of members. A policy without a
    memory writes `decide` only.
    """

    trade: float | Array = 1.0  # 1: the market is open, 0: everybody for himself

    def remember(self, community: Community) -> Any:
        """What it knows before the first slot: any pytree."""
        return None

    def observe(self, memory: Any, slot: "Slot") -> Any:
        """The same once the slot's prices, loads and PV are known."""
        return memory

    def decide(
        self, community: Community, slot: "Slot", kept: Array, slot_of_week: Array, free: Limits, memory: Any
    ) -> Decision:
        """What to do in the slot.

        kept (N,) kWh is left of the energy at its start after self-discharge, slot_of_week () counts from
        midnight of a Monday, free is what the batteries can do without leaving their energy limits.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method decide")

    def charge(
        self,
        community: Community,
        slot: "Slot",
        plugged: Plugged,
        kept: Array,
        slot_of_week: Array,
        free: Limits,
        memory: Any,
    ) -> Decision:
        """The same for the vehicles, (K, N) each, where there are any; by default they charge at once.

        plugged has their limits in this slot, kept (K, N) kWh is in them at its start.
        """
        wanted = jnp.clip(present(slot.plugs).wanted - kept, min=0)
        charge = jnp.clip(
            wanted / (slot.slot_hours * plugged.charge_efficiency), free.charge_min, free.charge_max
        )
        nothing = jnp.zeros_like(kept)
        return Decision(Limits(charge, charge, nothing, nothing), nothing, nothing)


@record
class Policy:
    """Leaves only: policies that share shapes share one compiled program.

    With rule BY_VALUE a stored kWh is worth lambda(E') = inverse_v (theta - E'), or `rest_value` where
    inverse_v is 0; `exact` 0 keeps lambda constant within the slot (standard Lyapunov method).
    """

    storage: Array  # () 1: batteries take part, 0: they rest, but for what must be charged after leaking
    trade: Array  # () 1: the market is open, 0: everybody for himself
    rule: Array  # () int32, BY_VALUE or a rule's number
    theta: Array  # (D, N) kWh, D slots of the day (1: the same all day)
    inverse_v: Array  # (N,) EUR/kWh^2
    rest_value: Array  # (N,) EUR/kWh
    exact: Array  # () 1 or 0
    tuned: TunedValue | None = None  # takes the place of theta, inverse_v and rest_value
    charging: Charging | None = None  # where there are vehicles, but for a tuned policy


class Slot(NamedTuple):
    """One row of a Horizon."""

    slot_hours: Array  # () h
    load: Array  # (N,) kW
    pv: Array  # (N,) kW
    price_buy: Array  # () EUR/kWh
    price_sell: Array  # () EUR/kWh
    voltage_base: Array  # (B,) p.u.^2
    flow_base: Array  # (L,) kW
    flow_reactive: Array  # (L,) kvar
    price_ahead: Array  # (3,) EUR/kWh
    active_base: Array | None = None  # (B,) kW
    reactive_base: Array | None = None  # (B,) kvar
    dependent_base: VoltageDependent | None = None  # (B,)
    plugs: Plugs | None = None  # (K, N)

    @property
    def grid_base(self) -> Base:
        """What the network carries without the flexible homes."""
        return Base.of(self)


class Penalties(NamedTuple):
    """What breaking a limit costs; large enough that it never pays, see `suggest_penalties`."""

    row: Array  # () EUR/kWh
    unserved: Array  # () EUR/kWh


def suggest_penalties(horizon: Horizon) -> Penalties:
    """20 times the largest price for rows (5 % of influence still relieves one), twice that for unserved."""
    xp = namespace(horizon.price_buy, horizon.price_sell)
    largest = xp.maximum(xp.max(xp.abs(horizon.price_buy)), xp.max(xp.abs(horizon.price_sell)))
    row = 20 * xp.maximum(largest, 0.05)
    return Penalties(row=row, unserved=2 * row)


def lyapunov(parameters: LyapunovParameters) -> Policy:
    """Modified (exact drift) or standard (linear) Lyapunov control, by parameters.method."""
    dtype = parameters.inverse_v.dtype
    theta = parameters.theta
    return Policy(
        storage=on_device(1, dtype),
        trade=on_device(1, dtype),
        rule=on_device(BY_VALUE, jnp.int32),
        theta=theta if theta.ndim == 2 else theta[None, :],
        inverse_v=parameters.inverse_v,
        rest_value=parameters.rest_value,
        exact=on_device(parameters.method == "exact", dtype),
    )


def _fixed(size: int, dtype, *, rule: int = BY_VALUE, storage: float = 1, trade: float = 1) -> Policy:
    zeros = on_device(np.zeros(size), dtype)
    return Policy(
        storage=on_device(storage, dtype),
        trade=on_device(trade, dtype),
        rule=on_device(rule, jnp.int32),
        theta=on_device(np.zeros((1, size)), dtype),
        inverse_v=zeros,
        rest_value=zeros,
        exact=on_device(1, dtype),
    )


def greedy(size: int, dtype) -> Policy:
    """Minimises this slot's cost only: stored energy is worth nothing.

    So it never charges at a positive price, sells what it starts with and then equals no_storage. Its slot
    problem leaves the batteries free: what a schedule is carried out in.
    """
    return _fixed(size, dtype)


# what moves the batteries, as the catalogue calls it: rule of a `Policy`, and whether they take part
BATTERIES: dict[str, tuple[int, float]] = {
    "absent": (BY_VALUE, 0.0),
    "worthless": (BY_VALUE, 1.0),
    **{name: (number, 1.0) for number, name in enumerate(RULES, BY_VALUE + 1)},
}
CONTROLLED = {"lyapunov": "exact", "lyapunov_standard": "standard"}  # by a value: methods of `control.bounds`


def made(
    entry: Entry,
    size: int,
    dtype,
    *,
    controlled: Mapping[str, Policy] | None = None,
    vehicles: Vehicles | None = None,
    worth: Charging | None = None,
) -> Policy:
    """The policy of an entry that names what moves the batteries, in a community of `size` homes.

    controlled: the Lyapunov controllers by the names of `CONTROLLED`. worth: charging by it, where there are
    vehicles.
    """
    if entry.batteries in CONTROLLED:
        policy = (controlled or {})[entry.batteries]
    else:
        rule, storage = BATTERIES[entry.batteries]
        policy = _fixed(size, dtype, rule=rule, storage=storage)
    if not entry.trade:
        policy = replace(policy, trade=jnp.zeros((), dtype))
    if vehicles is None:
        return policy
    by_worth = entry.charging == "by_worth"
    charging = worth if by_worth else by_rule(vehicles, CHARGING[entry.charging])
    return replace(policy, charging=charging)


def follow(tuned: TunedValue, dtype) -> Policy:
    """The policy of a tuned value curve."""
    return replace(_fixed(tuned.group.shape[0], dtype), tuned=tuned)


AnyPolicy = Policy | OwnPolicy


def remember(community: Community, policy: AnyPolicy) -> Any:
    """What the policy knows before the first slot; None for those without a memory."""
    if isinstance(policy, OwnPolicy):
        return policy.remember(community)
    return None if policy.tuned is None else tuned_value.remember(policy.tuned, community.prosumers.battery)


def observe(policy: AnyPolicy, memory: Any, slot: Slot) -> Any:
    """The same once the slot's values are known."""
    if isinstance(policy, OwnPolicy):
        return policy.observe(memory, slot)
    if policy.tuned is None or memory is None:
        return None
    seen = slot.slot_hours, slot.price_buy, slot.load, slot.pv, slot.price_ahead
    return tuned_value.observe(policy.tuned, memory, *seen)


def free_limits(community: Community, slot: Slot, energy: Array, storage: Array | float = 1.0) -> Limits:
    """What the batteries can do: charging up to what there is room for, discharging down to the lower limit.

    energy (N,) kWh at the start of the slot, storage () 1 where batteries take part, 0 where they
    rest. What leaked below the lower limit must be charged again, by every policy alike: an absent battery
    too.
    """
    least, most, discharge_max = community.prosumers.battery.limits(energy, hours=slot.slot_hours)
    charge_max = jnp.maximum(storage * most, least)
    discharge_max = storage * discharge_max
    return Limits(least, charge_max, jnp.zeros_like(discharge_max), discharge_max)


def _decide(
    policy: Policy,
    community: Community,
    slot: Slot,
    energy: Array,
    slot_of_week: Array,
    memory: Memory | None,
    charging: Array | float = 0.0,
) -> Decision:
    """What one of our own policies says; charging (N,) kW is what the vehicles of a home take for sure."""
    charge_min, charge_max, discharge_min, discharge_max = free_limits(
        community, slot, energy, policy.storage
    )
    kept = community.prosumers.battery.kept(energy)
    if policy.tuned is not None and memory is not None:  # never a rule
        value, slope = tuned_value.value_line(policy.tuned, memory, community.prosumers, kept, slot_of_week)
    else:
        theta = policy.theta[slot_of_week % policy.theta.shape[0]]
        value = jnp.where(policy.inverse_v > 0, policy.inverse_v * (theta - kept), policy.rest_value)
        slope = policy.inverse_v
        load = slot.load + charging
        *others, (charge, discharge) = (
            rule(load, slot.pv, charge_max, discharge_max) for rule in RULES.values()
        )
        for number, (by_charge, by_discharge) in enumerate(others, BY_VALUE + 1):
            charge = jnp.where(policy.rule == number, by_charge, charge)
            discharge = jnp.where(policy.rule == number, by_discharge, discharge)
        ruled = policy.rule != BY_VALUE
        charge_min, charge_max = (
            jnp.where(ruled, jnp.maximum(charge, charge_min), limit) for limit in (charge_min, charge_max)
        )
        discharge_min, discharge_max = (
            jnp.where(ruled, discharge, limit) for limit in (discharge_min, discharge_max)
        )
    limits = Limits(charge_min, charge_max, discharge_min, discharge_max)
    return Decision(limits, value, policy.exact * slope)


def _decide_own(
    policy: OwnPolicy, community: Community, slot: Slot, energy: Array, slot_of_week: Array, memory: Any
) -> Decision:
    """What somebody's policy says, kept within what the batteries can do."""
    free, kept = free_limits(community, slot, energy), community.prosumers.battery.kept(energy)
    return _within(free, policy.decide(community, slot, kept, slot_of_week, free, memory), kept)


def _within(free: Limits, wanted: Decision, kept: Array) -> Decision:
    """A decision within `free`, its numbers in the shape and dtype of `kept`."""
    full = lambda x: jnp.broadcast_to(jnp.asarray(x, kept.dtype), kept.shape)
    charge_max = jnp.clip(full(wanted.limits.charge_max), free.charge_min, free.charge_max)
    discharge_max = jnp.clip(full(wanted.limits.discharge_max), 0, free.discharge_max)
    limits = Limits(
        jnp.clip(full(wanted.limits.charge_min), free.charge_min, charge_max),
        charge_max,
        jnp.clip(full(wanted.limits.discharge_min), 0, discharge_max),
        discharge_max,
    )
    return Decision(limits, full(wanted.value), jnp.maximum(full(wanted.slope), 0))


def plugged_in(community: Community, slot: Slot) -> Plugged | None:
    """The vehicles in a slot; None in a community without any."""
    vehicles = community.prosumers.vehicles
    return None if vehicles is None else vehicles.plugged(present(slot.plugs))


def _decide_charging(
    policy: AnyPolicy,
    community: Community,
    slot: Slot,
    plugged: Plugged,
    energy: Array,
    slot_of_week: Array,
    memory: Any,
) -> Decision:
    """What a policy says of the vehicles, which hold energy (K, N) kWh at the end of the slot before."""
    least, most, discharge_max = plugged.limits(energy, hours=slot.slot_hours)
    nothing, kept = jnp.zeros_like(most), plugged.kept(energy)
    free, plugs = Limits(least, most, nothing, discharge_max), present(slot.plugs)
    reach = span(plugs, plugged, slot.slot_hours)
    if isinstance(policy, OwnPolicy):
        return _within(free, policy.charge(community, slot, plugged, kept, slot_of_week, free, memory), kept)
    if policy.tuned is not None and memory is not None:
        line = tuned_value.vehicle_line(
            policy.tuned, memory, plugged, plugs.wanted, reach, kept, slot_of_week
        )
        return Decision(free, *line)
    charging = policy.charging or by_rule(present(community.prosumers.vehicles), BY_WORTH)
    value, slope = worth_line(charging, plugs.wanted, reach, kept)
    limits, surplus = (least, most), slot.pv - slot.load
    charge = ruled_charge(charging.rule, plugs, plugged, kept, surplus, limits, hours=slot.slot_hours)
    ruled = charging.rule != BY_WORTH
    chosen = Limits(
        jnp.where(ruled, charge, least),
        jnp.where(ruled, charge, most),
        nothing,
        jnp.where(ruled, 0, discharge_max),
    )
    return Decision(chosen, value, policy.exact * slope)


def coupling(community: Community, policy: AnyPolicy) -> Coupling:
    """What all slots of a community share under a policy; one that does not trade has its trades closed."""
    market = community.market
    limit = jnp.where(jnp.asarray(policy.trade) > 0, market.limit, 0)
    return Coupling(market=replace(market, limit=limit), feeder=community.feeder)


def slot_problem(
    community: Community,
    penalties: Penalties,
    policy: AnyPolicy,
    slot: Slot,
    energy: Array,
    slot_of_week: Array,
    memory: Any = None,
    in_vehicles: Array | None = None,
) -> SlotProblem:
    """The slot that the solver sees.

    energy (N,) kWh at its start, in_vehicles (K, N) kWh likewise; slot_of_week () picks theta, and tells a
    tuned policy the weekday (0 is midnight of a Monday); memory of a tuned policy, this slot observed.
    """
    homes, battery, dt = community.prosumers, community.prosumers.battery, slot.slot_hours
    fleet, charging = None, jnp.zeros_like(slot.load)
    plugged = plugged_in(community, slot)
    if plugged is not None:
        stored = present(in_vehicles)
        orders = _decide_charging(policy, community, slot, plugged, stored, slot_of_week, memory)
        fleet, charging = (
            _fleet(present(homes.vehicles), plugged, orders, dt),
            orders.limits.charge_min.sum(0),
        )
    if isinstance(policy, OwnPolicy):
        decision = _decide_own(policy, community, slot, energy, slot_of_week, memory)
    else:
        decision = _decide(policy, community, slot, energy, slot_of_week, memory, charging)
    rows = community.feeder.limits(community.network, slot.grid_base, community.reach(slot.pv))
    return SlotProblem(
        slot_hours=dt,
        price_buy=slot.price_buy,
        price_sell=slot.price_sell,
        load=slot.load,
        load_min=slot.load * (1 - homes.load_flex_share) if homes.elastic else slot.load,
        load_max=slot.load * (1 + homes.load_flex_share) if homes.elastic else slot.load,
        load_cost=homes.load_flex_cost if homes.elastic else None,
        pv_max=slot.pv,
        curtailment_cost=homes.curtailment_cost,
        **decision.limits._asdict(),
        charge_efficiency=battery.charge_efficiency,
        discharge_efficiency=battery.discharge_efficiency,
        wear_cost=battery.wear_cost,
        value=decision.value,
        value_slope=decision.slope,
        buy_max=homes.buy_max if homes.limited else None,
        sell_max=homes.sell_max if homes.limited else None,
        unserved_price=penalties.unserved if homes.limited else None,
        coupling=coupling(community, policy),
        row_offset=rows[0],
        row_lower=rows[1],
        row_upper=rows[2],
        row_penalty=penalties.row,
        vehicles=fleet,
        loss_price=jnp.zeros_like(slot.load) if community.feeder.marginal else None,
    )


def _fleet(vehicles: Vehicles, plugged: Plugged, decision: Decision, hours: Array) -> Fleet:
    """The vehicles as a solver sees them."""
    storage = Storage(
        hours=hours,
        **decision.limits._asdict(),
        charge_efficiency=plugged.charge_efficiency,
        discharge_efficiency=plugged.discharge_efficiency,
        wear_cost=plugged.wear_cost,
        value=decision.value,
        value_slope=decision.slope,
    )
    return Fleet(storage=storage, returns=vehicles.returns)


def fix_storage(
    problem: SlotProblem,
    charge: Array,
    discharge: Array,
    vehicle_charge: Array | None = None,
    vehicle_discharge: Array | None = None,
) -> SlotProblem:
    """The slot in which the batteries do what they are told, (N,) kW each, as far as they were free to.

    The vehicles likewise, (K, N) kW.
    """
    fixed = replace(problem, **_fixed_powers(problem, charge, discharge))
    if vehicle_charge is None or fixed.vehicles is None:
        return fixed
    storage = fixed.vehicles.storage
    powers = _fixed_powers(storage, vehicle_charge, present(vehicle_discharge))
    return replace(fixed, vehicles=replace(fixed.vehicles, storage=replace(storage, **powers)))


def _fixed_powers(free: Any, charge: Array, discharge: Array) -> dict[str, Any]:
    charge = jnp.clip(charge, free.charge_min, free.charge_max)
    discharge = jnp.clip(discharge, free.discharge_min, free.discharge_max)
    return {
        "charge_min": charge,
        "charge_max": charge,
        "discharge_min": discharge,
        "discharge_max": discharge,
    }
