"""Small random communities with everything that makes a horizon hard, a few shapes of arrays for all of them.

Connection limits of single members (nothing at all among them), trade limits, tight networks, batteries that
leak below a lower limit, elastic load, negative prices, tariffs without a spread, free trade, all markets.
"""

import numpy as np

from jaxp2p.model.markets import market_from_edges, no_market, pool_market, regular_graph
from jaxp2p.model.network import Matrices, NoRows, Pi, controllable_rows, radial_matrices, tree_of
from jaxp2p.model.types import Battery, Community, Horizon, Network, Prosumers

SHAPES = 24  # seeds that are equal modulo this share their shapes, and with them the compiled programs
MARKETS = ("pool", "none", "bilateral")


def random_community(seed: int, *, shapes: int = SHAPES) -> tuple[Community, Horizon, float]:
    """(community, horizon, terminal price in EUR/kWh), float64, in one of the first `shapes` shapes."""
    shape, draw = np.random.default_rng([7, seed % shapes]), np.random.default_rng([seed, 3])
    kind = MARKETS[seed % shapes % 3]
    size, slots = int(shape.integers(1, 13)), int(shape.integers(4, 25))
    elastic, limited = shape.random() < 0.4, shape.random() < 0.6
    on_grid = shape.random() < 0.5
    trade_limited = shape.random() < 0.5
    dt = float(draw.choice([0.25, 0.5, 1.0]))

    some = lambda share, values: np.where(draw.random(size) < share, values, 0.0)
    pv_peak = some(0.6, draw.uniform(1, 10, size))
    capacity = some(0.7, draw.uniform(1, 12, size))
    floor = capacity * draw.choice([0.0, 0.1, 0.4], size)
    owner = capacity > 0
    charge_efficiency, discharge_efficiency = draw.uniform(0.85, 1, (2, size))
    retention = np.where(draw.random(size) < 0.5, draw.uniform(0.9, 1, size), 1.0)
    needed = (1 - retention) * floor / (dt * charge_efficiency)  # keeps the battery at its lower limit
    charge_max = np.where(owner, np.maximum(draw.uniform(0.2, 5, size), 1.05 * needed), 0)
    discharge_max = np.where(owner, draw.uniform(0.2, 5, size), 0)
    wear = float(draw.choice([0.0, 0.02]))
    battery = Battery(
        energy_min=floor,
        energy_max=capacity,
        energy_start=floor + draw.choice([0.0, 0.5, 1.0], size) * (capacity - floor),
        charge_max=charge_max,
        discharge_max=discharge_max,
        charge_efficiency=charge_efficiency,
        discharge_efficiency=discharge_efficiency,
        retention=retention,
        wear_cost=np.full(size, wear),
    )
    elastic_share = some(0.5, draw.uniform(0.1, 0.5, size)) if elastic else np.zeros(size)
    unlimited = np.full(size, np.inf)
    pick = lambda values: draw.choice(values, size) if limited else unlimited
    buses = 5
    bus = np.sort(shape.integers(1, buses, size))
    prosumers = Prosumers(
        bus=bus.astype(np.int32),
        pv_peak=pv_peak,
        curtailment_cost=draw.choice([0.0, 0.01], size),
        load_flex_share=elastic_share,
        load_flex_cost=np.where(elastic_share > 0, draw.uniform(0.05, 0.4, size), 0.0),
        buy_max=pick([0.0, 1.0, 3.0, np.inf, np.inf]),
        sell_max=pick([0.0, 1.0, 3.0, np.inf, np.inf]),
        battery=battery,
        elastic=bool(elastic),
        limited=bool(limited),
    )

    load = draw.gamma(1.5, 0.8, (slots, size))
    pv = pv_peak * draw.uniform(0, 1, (slots, 1)) * (draw.random((slots, 1)) < 0.7)
    level = draw.choice([0.1, -0.2, -0.02])
    sell = level + draw.uniform(0, 0.2, slots)
    spread = draw.choice([0.0, 0.02, 0.25]) * draw.uniform(0.5, 1, slots)

    # a tree of 4 buses, its limits around what the members would do by themselves; every member may move
    tail, head = np.array([0, 1, 1, 2]), np.arange(1, buses)
    path_r = shape.uniform(1e-4, 2e-3, buses - 1)
    resistance, reactance, downstream = radial_matrices(tail, head, path_r, 0.4 * path_r, buses)
    branches = Pi(tail, head, path_r * (1 + 0.4j), np.zeros(buses - 1, complex), np.ones(buses - 1))
    flexible = np.ones(size, bool)
    idle = np.zeros((slots, buses))
    np.add.at(idle.T, bus, (pv - load).T)
    swing = max(2 * np.abs(idle @ resistance).max(), 1e-4)
    tight = float(draw.choice([0.3, 0.6, 1.5]))
    rating = tight * np.abs(idle @ downstream.T).max(0) + 0.5
    network = Network(
        paths=Matrices(resistance=resistance, reactance=reactance, downstream=downstream),
        slack_voltage=np.float64(1.0),
        voltage_min=np.full(buses, np.sqrt(max(1 - tight * swing, 0.01))),
        voltage_max=np.full(buses, np.sqrt(1 + tight * swing)),
        rating=np.where(np.arange(buses - 1) < 2, rating, np.inf),
        tree=tree_of(branches, np.zeros(buses, complex), np.ones(buses - 1), np.dtype(float)),
        bus_ids=tuple(map(str, range(buses))),
        branch_ids=tuple(map(str, range(buses - 1))),
        branch_kinds=("line",) * (buses - 1),
    )
    feeder = controllable_rows(network, bus, flexible, np.dtype(float)) if on_grid else NoRows()

    fee = float(draw.choice([0.0, 0.01, 0.1]))
    if kind == "pool":
        limit = float(draw.choice([0.5, 2.0])) if trade_limited else np.inf
        market = pool_market(size, fee=fee, limit=limit, dtype=np.dtype(float))
    elif kind == "bilateral":
        edges = regular_graph(size, int(shape.integers(1, 4)), seed=seed % shapes)
        fees = fee + draw.choice([0.0, 0.02], len(edges))
        limits = draw.choice([0.3, 1.0, np.inf], len(edges)) if trade_limited else np.full(len(edges), np.inf)
        market = market_from_edges(edges.reshape(-1, 2), fees, limits, size=size, dtype=np.dtype(float))
    else:
        market = no_market(size, dtype=np.dtype(float))
    horizon = Horizon(
        slot_hours=np.float64(dt),
        load=load,
        pv=pv,
        price_buy=sell + spread,
        price_sell=sell,
        voltage_base=np.ones((slots, buses)),
        flow_base=np.zeros((slots, buses - 1)),
        flow_reactive=np.zeros((slots, buses - 1)),
        active_base=np.zeros((slots, buses)),
        reactive_base=np.zeros((slots, buses)),
        price_ahead=np.zeros((slots, 3)),
    )
    community = Community(prosumers=prosumers, market=market, network=network, feeder=feeder)
    return community, horizon, float(draw.choice([0.0, 0.1, 0.3]))


def money_at_stake(community: Community, horizon: Horizon) -> float:
    """EUR: what the homes have, at the largest price; what differences are measured against, never 0."""
    battery = community.prosumers.battery
    power = np.asarray(horizon.load + horizon.pv).sum() + horizon.slots * float(
        np.sum(battery.charge_max) + np.sum(battery.discharge_max)
    )
    price = max(np.abs(horizon.price_buy).max(), np.abs(horizon.price_sell).max(), 0.01)
    return max(float(horizon.slot_hours) * power * float(price), 1e-6)
