"""Seeded random slots, from two homes to hundreds, with everything that breaks solvers."""

import jax.numpy as jnp
import numpy as np

from jaxp2p.model.markets import market_from_edges, no_market, pool_market, regular_graph
from jaxp2p.model.network import Base, Matrices, NoRows, controllable_rows, radial_matrices
from jaxp2p.model.types import Network
from jaxp2p.slot.problem import Coupling, SlotProblem


def random_network(rng: np.random.Generator, buses: int, dtype) -> Network:
    head = np.arange(1, buses)
    tail = np.array([rng.integers(max(0, h - 3), h) for h in head])
    r = rng.uniform(1e-5, 1.5e-4, buses - 1)
    resistance, reactance, downstream = radial_matrices(tail, head, r, r * rng.uniform(0.2, 1), buses)
    return Network(
        paths=Matrices(
            resistance=jnp.asarray(resistance, dtype),
            reactance=jnp.asarray(reactance, dtype),
            downstream=jnp.asarray(downstream, dtype),
        ),
        slack_voltage=jnp.asarray(1.0, dtype),
        voltage_min=jnp.full((buses,), 0.95, dtype),
        voltage_max=jnp.full((buses,), 1.05, dtype),
        rating=jnp.asarray(np.where(rng.random(buses - 1) < 0.5, np.inf, 1e9), dtype),
        bus_ids=tuple(str(b) for b in range(buses)),
        branch_ids=tuple(f"line{b}" for b in range(buses - 1)),
        branch_kinds=("line",) * (buses - 1),
    )


def random_slot(
    seed: int,
    *,
    dtype=jnp.float32,
    market: str | None = None,
    binding: bool | None = None,
    homes: int | None = None,
) -> SlotProblem:
    """A slot of 2 to 200 homes on 2 to 60 buses; the arguments pin what a test needs pinned.

    What gives arrays their shapes depends on seed modulo 24 only, so that 24 programs serve all seeds.
    """
    shape, rng = np.random.default_rng(seed % 24), np.random.default_rng([seed, 1])
    drawn = int(np.exp(shape.uniform(np.log(2), np.log(200))))
    homes = homes or drawn
    buses = int(np.exp(shape.uniform(np.log(2), np.log(60))))
    market = market or ("bilateral", "pool", "none")[seed % 3]
    binding = bool(shape.random() < 0.5) if binding is None else binding
    dt = rng.choice([1 / 12, 0.25, 1.0])
    array = lambda x: jnp.asarray(x, dtype)
    often = lambda share: shape.random(homes) < share

    buy = rng.uniform(0.15, 0.45)
    sell = rng.choice([rng.uniform(0.0, 0.15), -rng.uniform(0.0, 0.1), buy])
    if rng.random() < 0.1:
        buy, sell = -0.02, -0.1
    load = rng.gamma(1.5, 0.6, homes)
    elastic = shape.random() < 0.4
    share = np.where(often(0.3), rng.uniform(0.1, 0.5, homes), 0) if elastic else np.zeros(homes)
    pv = np.where(often(0.5), rng.uniform(0, 10, homes), 0)
    battery = often(0.5)
    capacity = np.where(battery, rng.uniform(2, 15, homes), 0)
    energy = capacity * rng.choice([0, 1, 0.5], homes) * rng.uniform(0.8, 1, homes)
    power = np.where(battery, rng.uniform(0.5, 6, homes), 0)
    eta_c, eta_d = rng.uniform(0.85, 1, homes), rng.uniform(0.85, 1, homes)
    # the line of the storage value: linear methods have slope 0
    slope = np.where(battery & (rng.random(homes) < 0.7), rng.uniform(0.005, 0.2, homes), 0)
    value = np.where(battery, rng.uniform(-0.1, 0.5, homes), 0)
    charge_max = np.minimum(power, np.maximum(capacity - energy, 0) / (dt * eta_c))
    discharge_max = np.minimum(power, energy * eta_d / dt)
    forced = (rng.random(homes) < 0.1) * rng.random(homes)

    if market == "pool":
        trade = pool_market(homes, fee=rng.choice([0.0, 0.01, 0.5]), dtype=dtype)
    elif market == "bilateral":
        partners = int(shape.integers(1, 9))
        edges = regular_graph(homes, partners, seed=seed % 24)
        edges = edges[
            ~np.isin(edges, shape.integers(homes, size=max(1, homes // 10))).any(1)
        ]  # isolated partners
        fee = rng.choice([0.0, 0.01, 0.03], len(edges))
        limit = rng.choice([0.5, 5.0, 1e6], len(edges))
        trade = market_from_edges(edges, fee, limit, size=homes, dtype=dtype)
    else:
        trade = no_market(homes, dtype=dtype)

    bus = np.sort(shape.integers(1, buses, homes)) if buses > 1 else np.zeros(homes, int)
    flexible = (pv > 0) | (power > 0) | (share > 0)
    feeder, rows = NoRows(), (jnp.zeros((0,), dtype),) * 3
    if binding and flexible.any():
        network = random_network(shape, buses, dtype)
        feeder = controllable_rows(network, bus, flexible, dtype)
        fixed = np.zeros(buses)
        np.add.at(fixed, bus[~flexible], -load[~flexible])
        base = np.asarray(network.paths.downstream) @ fixed
        voltage = 1 + 2 * np.asarray(network.paths.resistance) @ fixed
        # limits that bind: shrink the band around what the homes would do at a middling price
        nominal = np.zeros(buses)
        np.add.at(nominal, bus[flexible], (pv - load)[flexible])
        swing = 2 * np.asarray(network.paths.resistance) @ nominal
        width = max(0.5 * np.abs(swing).max(), 1e-4)
        network = type(network)(
            **{
                **network.__dict__,
                "voltage_min": array(np.sqrt(np.maximum(voltage - width, 1e-3))),
                "voltage_max": array(np.sqrt(voltage + width)),
                "rating": array(
                    np.where(np.asarray(network.rating) > 1e8, 0.6 * np.abs(base).max() + 5, np.inf)
                ),
            }
        )
        feeder = controllable_rows(network, bus, flexible, dtype)
        rows = feeder.limits(network, Base(array(voltage), array(base), array(0.1 * base)))
    limited = shape.random() < 0.15
    return SlotProblem(
        slot_hours=array(dt),
        price_buy=array(buy),
        price_sell=array(sell),
        load=array(load),
        load_min=array(load * (1 - share)),
        load_max=array(load * (1 + share)),
        load_cost=array(rng.uniform(0.02, 0.3, homes)) if elastic else None,
        pv_max=array(pv),
        curtailment_cost=array(rng.choice([0.0, 0.01], homes)),
        charge_min=array(0 * charge_max),
        charge_max=array(charge_max),
        discharge_min=array(forced * discharge_max),
        discharge_max=array(discharge_max),
        charge_efficiency=array(eta_c),
        discharge_efficiency=array(eta_d),
        wear_cost=array(rng.choice([0.0, 0.02], homes)),
        value=array(value),
        value_slope=array(slope),
        buy_max=array(load * rng.uniform(0.3, 3)) if limited else None,
        sell_max=array(np.full(homes, 3.0)) if limited else None,
        unserved_price=array(2.0) if limited else None,
        coupling=Coupling(market=trade, feeder=feeder),
        row_offset=rows[0],
        row_lower=rows[1],
        row_upper=rows[2],
        row_penalty=array(10.0),
    )
