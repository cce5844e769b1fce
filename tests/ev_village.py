"""A few homes with electric vehicles, and the cheapest that they can be by a program stated from the stays.

`cheapest` shares nothing with the package: every stay has a variable of energy for each of its slots, begins
with what the vehicle comes with and must end with the target or what full power reaches; there are no floors
on the way.
"""

from dataclasses import replace
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
from scipy.optimize import linprog

from jaxp2p.model.devices.vehicle import Stay, Vehicles, calendar
from jaxp2p.model.markets import no_market, pool_market
from jaxp2p.model.network import Matrices, NoRows, controllable_rows, radial_matrices
from jaxp2p.model.types import Battery, Community, Horizon, Network, Prosumers

HOURS, SEATS, HOMES = 0.5, 2, 4
TERMINAL, ROW_PENALTY, UNSERVED = 0.15, 3.0, 5.0  # EUR/kWh
CHARGE_EFFICIENCY, DISCHARGE_EFFICIENCY, WEAR = 0.93, 0.95, 0.01


def stays_of(rng, slots: int) -> list[Stay]:
    """Of the first homes, some vehicles charge only; stays before, across and beyond the window."""
    stays = []
    for home in range(HOMES - 1):
        for seat in range(SEATS if home == 0 else 1):
            begin = int(rng.integers(-4, 3))
            returns = (home + seat) % 2 == 0
            while begin < slots:
                length = int(rng.integers(1, 7))
                capacity, power = 30.0, float(rng.uniform(3, 8))
                energy = rng.uniform(5, 20)
                stays.append(
                    Stay(
                        seat=seat,
                        home=home,
                        begin=begin,
                        end=begin + length,
                        energy=energy,
                        wanted=min(capacity, energy + rng.uniform(-5, 0.7 * power * length)),
                        reserve=6.0 if returns else 0.0,
                        capacity=capacity,
                        charge_max=power,
                        discharge_max=0.8 * power if returns else 0.0,
                        efficiency=CHARGE_EFFICIENCY,
                    )
                )
                begin += length + int(rng.integers(0, 3))
    return stays


def village(
    seed: int,
    *,
    slots=12,
    kind="pool",
    fee=0.02,
    sell=0.08,
    spread=0.2,
    elastic=0.0,
    retention=0.98,
    network=False,
    connection=np.inf,
    stays=None,
    dtype=np.float64,
) -> tuple[Community, Horizon, list[Stay]]:
    """Home 0 has everything and two vehicles, 1 PV and one, 2 one only, 3 nothing but its load.

    stays: in place of drawn ones.
    """
    rng = np.random.default_rng(seed)
    drawn = stays_of(rng, slots)
    stays = drawn if stays is None else stays
    each = lambda x: jnp.asarray(np.broadcast_to(x, (HOMES,)).astype(dtype))
    pv_peak, capacity = np.array([6.0, 4.0, 0.0, 0.0]), np.array([6.0, 0.0, 0.0, 0.0])
    owned = np.zeros((SEATS, HOMES), bool)
    for stay in stays:
        owned[stay.seat, stay.home] = True
    seats = lambda x: jnp.asarray(np.broadcast_to(x, owned.shape).astype(dtype))
    prosumers = Prosumers(
        bus=jnp.asarray([1, 2, 3, 3], jnp.int32),
        pv_peak=each(pv_peak),
        curtailment_cost=each(0.005),
        load_flex_share=each(elastic),
        load_flex_cost=each(0.2 if elastic else 0.0),
        buy_max=each(connection),
        sell_max=each(connection),
        battery=Battery(
            energy_min=each(0.1 * capacity),
            energy_max=each(capacity),
            energy_start=each(0.5 * capacity),
            charge_max=each(0.5 * capacity),
            discharge_max=each(0.4 * capacity),
            charge_efficiency=each(0.95),
            discharge_efficiency=each(0.94),
            retention=each(np.where(capacity > 0, retention, 1.0)),
            wear_cost=each(0.012),
        ),
        vehicles=Vehicles(
            capacity=seats(30.0 * owned),
            charge_efficiency=seats(CHARGE_EFFICIENCY),
            discharge_efficiency=seats(DISCHARGE_EFFICIENCY),
            wear_cost=seats(WEAR),
            returns=any(stay.discharge_max > 0 for stay in stays),
        ),
        elastic=bool(elastic),
        limited=bool(np.isfinite(connection)),
    )
    load = rng.gamma(2.0, 0.6, (slots, HOMES))
    pv = pv_peak * rng.uniform(0, 1, (slots, 1)) * (rng.uniform(size=(slots, 1)) < 0.6)
    price_sell = np.full(slots, sell) + (0.1 * rng.standard_normal(slots) if sell < 0 else 0.0)
    price_buy = price_sell + rng.uniform(0.02, spread, slots)
    plugs = calendar(stays, price_buy, seats=SEATS, homes=HOMES, hours=HOURS, dtype=dtype)
    line = np.arange(3)
    resistance, reactance, downstream = radial_matrices(
        line, line + 1, np.full(3, 0.002), np.full(3, 0.001), 4
    )
    lines = Network(
        paths=Matrices(
            resistance=jnp.asarray(resistance.astype(dtype)),
            reactance=jnp.asarray(reactance.astype(dtype)),
            downstream=jnp.asarray(downstream.astype(dtype)),
        ),
        slack_voltage=jnp.asarray(1.0, dtype),
        voltage_min=jnp.full((4,), 0.97, dtype),
        voltage_max=jnp.full((4,), 1.03, dtype),
        rating=jnp.asarray(np.array([14.0, np.inf, np.inf], dtype)),
        bus_ids=("mains", "near", "middle", "far"),
        branch_ids=("first", "second", "third"),
        branch_kinds=("line",) * 3,
    )
    flexible = np.asarray(prosumers.flexible)
    feeder = controllable_rows(lines, np.asarray(prosumers.bus), flexible, np.dtype(dtype))
    passive = np.zeros((slots, 4))
    np.add.at(passive.T, np.asarray(prosumers.bus), -np.where(flexible, 0.0, load).T)
    horizon = Horizon(
        slot_hours=jnp.asarray(HOURS, dtype),
        load=jnp.asarray(load.astype(dtype)),
        pv=jnp.asarray(pv.astype(dtype)),
        price_buy=jnp.asarray(price_buy.astype(dtype)),
        price_sell=jnp.asarray(price_sell.astype(dtype)),
        voltage_base=jnp.asarray((1.0 + 2 * passive @ resistance).astype(dtype)),
        flow_base=jnp.asarray((passive @ downstream.T).astype(dtype)),
        flow_reactive=jnp.full((slots, 3), 0.5, dtype),
        price_ahead=jnp.zeros((slots, 3), dtype),
        plugs=type(plugs)(*(jnp.asarray(x) for x in plugs)),
    )
    market = pool_market(HOMES, fee=fee, dtype=dtype) if kind == "pool" else no_market(HOMES, dtype=dtype)
    return (
        Community(prosumers=prosumers, market=market, network=lines, feeder=feeder if network else NoRows()),
        horizon,
        stays,
    )


def alone(community: Community, horizon: Horizon) -> tuple[Community, Horizon]:
    """The same without vehicles."""
    homes = replace(community.prosumers, vehicles=None)
    return replace(community, prosumers=homes), replace(horizon, plugs=None)


def least_at(stay: Stay, slot: int) -> float:
    """kWh at the end of a slot without which the target, or what is in reach of it, is missed."""
    step = HOURS * stay.efficiency * stay.charge_max
    reached = stay.energy + (slot + 1 - stay.begin) * step
    needed = min(stay.wanted, stay.energy + (stay.end - stay.begin) * step) - (stay.end - 1 - slot) * step
    return min(max(needed, lowest(stay)), reached)


def lowest(stay: Stay) -> float:
    """kWh that are never taken from it."""
    return min(stay.reserve, stay.energy) if stay.discharge_max else stay.energy


def cheapest(community: Community, horizon: Horizon, stays: list[Stay]) -> float:
    """EUR with everything known: cost, unserved energy and penalties, less v_T times what was gained.

    No elastic load; HiGHS.
    """
    homes, battery = community.prosumers, community.prosumers.battery
    load, pv = (np.asarray(x, float) for x in (horizon.load, horizon.pv))
    slots, cost, bounds, equal, below, constant = len(load), [], [], [], [], 0.0

    def variable(low, high, linear=0.0) -> int:
        bounds.append((low, None if np.isinf(high) else high))
        cost.append(linear)
        return len(cost) - 1

    injection = [[{} for _ in range(HOMES)] for _ in range(slots)]

    def storage(home, slot, charge_max, discharge_max, eta_c, eta_d, wear, before, after):
        """One slot of a battery; before: (variable or None, share, kWh that are known)."""
        c = variable(0, charge_max, HOURS * wear * eta_c)
        d = variable(0, discharge_max, HOURS * wear / eta_d)
        injection[slot][home] |= {c: -1.0, d: 1.0}
        row = {after: 1.0, c: -HOURS * eta_c, d: HOURS / eta_d}
        if before[0] is not None:
            row[before[0]] = -before[1]
        equal.append((row, before[2]))

    for home in np.flatnonzero(np.asarray(battery.energy_max) > 0):
        one = {name: float(getattr(battery, name)[home]) for name in battery.__dataclass_fields__}
        last, known = None, one["retention"] * one["energy_start"]
        for slot in range(slots):
            energy = variable(one["energy_min"], one["energy_max"], -TERMINAL * (slot == slots - 1))
            storage(
                home, slot, one["charge_max"], one["discharge_max"], one["charge_efficiency"],
                one["discharge_efficiency"], one["wear_cost"], (last, one["retention"], known), energy,
            )  # fmt: skip
            last, known = energy, 0.0
        constant += TERMINAL * one["energy_start"]
    for stay in stays:
        first, end = max(stay.begin, 0), min(stay.end, slots)
        if first >= end:
            continue
        most = stay.capacity if stay.discharge_max else max(stay.energy, stay.wanted)
        start = stay.energy if stay.begin >= 0 else min(least_at(stay, -1), most)
        last, known = None, start
        for slot in range(first, end):
            low = lowest(stay) if slot < end - 1 else min(least_at(stay, slot), most)
            energy = variable(low, most, -TERMINAL * (slot == slots - 1))
            storage(
                stay.home, slot, stay.charge_max, stay.discharge_max, stay.efficiency,
                DISCHARGE_EFFICIENCY, WEAR, (last, 1.0, known), energy,
            )  # fmt: skip
            last, known = energy, 0.0
        constant += TERMINAL * start * (stay.end >= slots)
    for slot in range(slots):
        pool = {}
        buy, sell = float(horizon.price_buy[slot]), float(horizon.price_sell[slot])
        for home in range(HOMES):
            p = injection[slot][home]
            curtailed = variable(0, pv[slot, home], HOURS * float(homes.curtailment_cost[home]))
            p[curtailed] = -1.0
            balance = dict(p)
            balance[variable(0, float(homes.buy_max[home]), HOURS * buy)] = 1.0
            balance[variable(0, float(homes.sell_max[home]), -HOURS * sell)] = -1.0
            balance[variable(0, np.inf, HOURS * (UNSERVED + buy))] = 1.0
            balance[variable(0, np.inf, HOURS * (UNSERVED - sell))] = -1.0
            if community.market.kind == "pool":
                half = float(community.market.fee[0, home]) / 2
                out, into = (variable(0, np.inf, HOURS * half) for _ in range(2))
                balance |= {out: -1.0, into: 1.0}
                pool |= {out: 1.0, into: -1.0}
            equal.append((balance, load[slot, home] - pv[slot, home]))
        if pool:
            equal.append((pool, 0.0))
        if community.feeder.rows:
            for row, high in limits(community, horizon, slot):
                over = variable(0, np.inf, HOURS * ROW_PENALTY)
                weights, known = {over: -1.0}, high
                for home in range(HOMES):
                    weights |= {k: row[home] * v for k, v in injection[slot][home].items()}
                    known -= row[home] * (pv[slot, home] - load[slot, home])
                below.append((weights, known))

    def matrix(rows):
        dense = np.zeros((len(rows), len(cost)))
        for number, (row, _) in enumerate(rows):
            dense[number, list(row)] = list(row.values())
        return dense

    extra = {"A_ub": matrix(below), "b_ub": [rhs for _, rhs in below]} if below else {}
    found = linprog(cost, A_eq=matrix(equal), b_eq=[rhs for _, rhs in equal], bounds=bounds, **extra)
    assert found.status == 0, found.message
    return found.fun + constant


def limits(community: Community, horizon: Horizon, slot: int):
    """(kW per kW of every home, kW) of the network's limits, each as row @ p <= limit, a kW a kW."""
    grid, feeder, bus = community.network, community.feeder, np.asarray(community.prosumers.bus)
    for number, scale in enumerate(np.asarray(feeder.scale)):
        if number < len(feeder.voltage_bus):
            n = int(feeder.voltage_bus[number])
            row, base = 2 * np.asarray(grid.paths.resistance)[n, bus], float(horizon.voltage_base[slot, n])
            low, high = float(grid.voltage_min[n]) ** 2, float(grid.voltage_max[n]) ** 2
        else:
            n = int(feeder.flow_branch[number - len(feeder.voltage_bus)])
            row, base = np.asarray(grid.paths.downstream)[n, bus], float(horizon.flow_base[slot, n])
            high = np.sqrt(float(grid.rating[n]) ** 2 - float(horizon.flow_reactive[slot, n]) ** 2)
            low = -high
        row = row * np.asarray(community.prosumers.flexible)  # the others are in the base
        yield row / scale, (high - base) / scale
        yield -row / scale, (base - low) / scale


def idle_flow(community, base, injection, pv_used):
    """A power flow at rest: the network of the village has no impedances of its own."""
    slots, network = len(injection), community.network
    volts, loading = np.ones((slots, network.buses)), np.zeros((slots, network.branches))
    nothing = np.zeros(slots)
    return SimpleNamespace(
        voltage=volts, loading=loading, losses=nothing, status=nothing.astype(int), support=None
    )
