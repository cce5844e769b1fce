"""Families of slots that break solvers, and plausible ones beside them: `draw(family, seed, dtype)`.

What `random_slots` does not draw: connection and trade limits, sizes from 1 to 5,000, equal homes and ties,
free trades, b = s, negative prices, weak, saturated and infeasible networks, thousands of members, batteries
that leak below their lower limit, forced rules. All slots of a family share their shapes, and families of the
same `Layout` too, so that few compiled programs serve them all. `families()` names them.
"""

import zlib
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
from slot_recipes import RECIPES

from jaxp2p.model.markets import complete_graph, market_from_edges, no_market, pool_market, regular_graph
from jaxp2p.model.network import Base, Matrices, NoRows, controllable_rows, radial_matrices
from jaxp2p.model.types import Market, Network
from jaxp2p.slot.problem import Coupling, SlotProblem

COMPLETE = 10**6  # partners: everybody with everybody


@dataclass(frozen=True)
class Layout:
    """What gives the arrays their shapes; slots of one layout run through one compiled program."""

    market: str
    homes: int
    partners: int = 0  # bilateral market only
    buses: int = 0  # with the slack; 0: no network
    elastic: bool = False
    limited: bool = False  # connection limits
    capped: bool = False  # a pool with trade limits


@dataclass(frozen=True)
class Family:
    """Slots of one kind: a layout, and the recipes that turn plausible values into nasty ones, in order."""

    name: str
    layout: Layout
    recipes: tuple[str, ...]
    plausible: bool
    share: float = 1.0  # of the slots that a family gets, below 1 for large ones

    @property
    def market(self) -> str:
        """pool, bilateral or none."""
        return self.layout.market


@lru_cache
def families() -> dict[str, Family]:
    """All families by name: `kind.market`, or `kind.market.size`."""
    found = [*_plausible(), *_nasty(), *_large()]
    assert len({f.name for f in found}) == len(found)
    return {f.name: f for f in found}


def _layouts(homes: int, partners: int = 4, markets=("pool", "bilateral", "none"), **more) -> list[Layout]:
    return [Layout(m, homes, partners if m == "bilateral" else 0, **more) for m in markets]


def _family(kind: str, layout: Layout, *recipes: str, plausible: bool, size: bool = False, share=1.0):
    name = f"{kind}.{layout.market}" + (f".{layout.homes}" if size else "")
    return Family(name, layout, recipes or (kind,), plausible, share)


def _plausible():
    real = {"plausible": True}
    for layout in _layouts(12):
        yield _family("day", layout, "day", **real)
        yield _family("rules", layout, **real)
        yield _family("solar_park", layout, **real)
    for layout in _layouts(12, elastic=True):
        yield _family("elastic", layout, **real)
    for layout in _layouts(12, buses=9):
        yield _family("lv_feeder", layout, **real)
    for layout in _layouts(12, limited=True):
        yield _family("connections", layout, **real)
        yield _family("zero_export", layout, **real)
    for layout in _layouts(12, buses=9, limited=True):
        yield _family("lv_connections", layout, "lv_feeder", "connections", **real)
    for layout in (Layout("pool", 12, capped=True), Layout("bilateral", 12, 4)):
        yield _family("trade_limits", layout, **real)
    for layout in (Layout("pool", 2), Layout("bilateral", 2, 1), Layout("none", 1), Layout("pool", 1)):
        yield _family("few_homes", layout, "day", size=True, **real)


def _nasty():
    nasty = {"plausible": False}
    for layout in _layouts(3, 2):
        yield _family("few", layout, "blank", size=True, **nasty)
    for layout in _layouts(2, 1):
        yield _family("few", layout, "blank", size=True, **nasty)
    for layout in [*_layouts(8), *_layouts(40, markets=("pool", "bilateral"))]:
        yield _family("equal", layout, size=True, **nasty)
    for layout in _layouts(200, 6, markets=("pool", "bilateral")):
        yield _family("equal", layout, size=True, share=0.2, **nasty)
    for layout in _layouts(12):
        for kind in ("one_price", "free_trades", "nothing", "negative", "heavy_tail", "giant", "flat_values"):
            yield _family(kind, layout, **nasty)
        for kind in ("steep_values", "closed", "leaking", "tie_at_storage", "medley"):
            yield _family(kind, layout, **nasty)
    for layout in _layouts(40, markets=("pool", "bilateral")):
        yield _family("tie_at_storage", layout, size=True, **nasty)
    for layout in _layouts(2, 1, buses=3):
        yield _family("weak_feeder", layout, **nasty)
    for layout in _layouts(12, buses=9):
        for kind in ("tight_feeder", "infeasible_feeder", "slack_outside", "saturated", "feeder_medley"):
            yield _family(kind, layout, **nasty)
    for layout in _layouts(12, limited=True):
        for kind in ("unserved", "no_connection", "tight_connections", "connection_medley"):
            yield _family(kind, layout, **nasty)
    for layout in _layouts(2, 1, limited=True, markets=("pool", "bilateral")):
        yield _family("no_connection", layout, size=True, **nasty)
    for layout in _layouts(12, buses=9, limited=True):
        yield _family("medley_of_all", layout, **nasty)
    for layout in (Layout("pool", 12, capped=True), Layout("bilateral", 12, 4)):
        yield _family("narrow_trades", layout, **nasty)
    yield _family("disconnected", Layout("bilateral", 12, 4), **nasty)
    yield _family("complete", Layout("bilateral", 12, COMPLETE), "blank", **nasty)


def _large():
    for market in ("pool", "bilateral"):
        k = 4 if market == "bilateral" else 0
        yield _family("thousand", Layout(market, 1000, k), "day", plausible=True, share=0.02)
        yield _family(
            "thousand_lv", Layout(market, 1000, k, buses=40), "lv_feeder", plausible=True, share=0.02
        )
        yield _family("thousand_tail", Layout(market, 3000, k), "heavy_tail", plausible=False, share=0.01)


def draw(family: str | Family, seed: int, dtype=jnp.float32) -> SlotProblem:
    """The slot number `seed` of a family, the same numbers in every dtype up to rounding."""
    return jax.tree.map(jnp.asarray, draw_on_host(family, seed, dtype))


def draw_on_host(family: str | Family, seed: int, dtype=np.float32) -> SlotProblem:
    """The same with numpy leaves, for stacking."""
    family = families()[family] if isinstance(family, str) else family
    rng = np.random.default_rng([zlib.crc32(family.name.encode()), seed])
    slot = plausible_slot(rng, family.layout)
    for recipe in family.recipes:
        RECIPES[recipe](slot, rng)
    return _assemble(slot, family.layout, np.dtype(dtype))


def draw_many(family: str | Family, seeds, dtype=np.float32) -> SlotProblem:
    """Slots stacked on a leading axis, numpy leaves."""
    slots = [draw_on_host(family, int(seed), dtype) for seed in seeds]
    return jax.tree.map(lambda *x: np.stack(x), *slots)


@lru_cache
def _plan(layout: Layout) -> SimpleNamespace:
    """What is the same for all slots of a layout: who has what, where, and who may trade with whom."""
    rng = np.random.default_rng(zlib.crc32(repr(layout).encode()))
    n = layout.homes
    pv, battery = rng.random(n) < 0.55, rng.random(n) < 0.5
    elastic = (rng.random(n) < 0.4) if layout.elastic else np.zeros(n, bool)
    pv[0] = battery[-1] = True  # also the only home has a battery
    plan = SimpleNamespace(pv=pv, battery=battery, elastic=elastic, flexible=pv | battery | elastic)
    if layout.market == "bilateral":
        whole = layout.partners >= n - 1
        plan.edges = complete_graph(n) if whole else regular_graph(n, layout.partners, seed=1)
        number = market_from_edges(
            plan.edges, np.arange(len(plan.edges)), np.ones(len(plan.edges)), size=n, dtype=np.float64
        )
        plan.edge_of = np.asarray(number.fee).astype(int)
        plan.real = np.asarray(number.limit) > 0
        plan.market = number
    if layout.buses:
        head = np.arange(1, layout.buses)
        tail = np.array([rng.integers(max(0, h - 3), h) for h in head])
        unit = np.ones(layout.buses - 1)
        plan.downstream = radial_matrices(tail, head, unit, unit, layout.buses)[2]
        plan.bus = np.sort(rng.integers(1, layout.buses, n))
        plan.rated = rng.random(layout.buses - 1) < 0.4
        plan.rated[0] = True
    return plan


def plausible_slot(rng: np.random.Generator, layout: Layout) -> SimpleNamespace:
    """Values as homes on a low-voltage feeder have them; recipes change what they are about."""
    plan, n = _plan(layout), layout.homes
    s = SimpleNamespace(layout=layout, plan=plan, homes=n)
    s.dt = rng.choice([1 / 12, 0.25, 0.25, 0.5, 1.0])
    s.buy = rng.uniform(0.15, 0.6)
    s.sell = rng.uniform(0.05, min(0.2, 0.9 * s.buy))
    s.fee = 0.01
    s.load = np.clip(rng.gamma(1.5, 0.6, n), 0.1, 10)
    s.share = np.where(plan.elastic, rng.uniform(0.05, 0.4, n), 0)
    s.load_cost = rng.uniform(0.02, 0.3, n)
    sun = rng.choice([0.0, rng.random(), 1.0], p=[0.3, 0.5, 0.2])
    s.pv = np.where(plan.pv, sun * rng.uniform(2, 12, n) * rng.uniform(0.9, 1, n), 0)
    s.curtailment = np.full(n, rng.choice([0.0, 0.01]))
    s.capacity = np.where(plan.battery, rng.uniform(2, 15, n), 0)
    s.power = s.capacity * rng.uniform(0.2, 0.7, n)
    s.floor = rng.choice([0.0, 0.1]) * s.capacity
    fill = rng.choice([0.0, 1.0, rng.random(), rng.random()], n)
    s.energy = s.floor + (s.capacity - s.floor) * np.where(rng.random(n) < 0.5, fill, rng.random(n))
    s.eta_c, s.eta_d = rng.uniform(0.9, 0.99, n), rng.uniform(0.9, 0.99, n)
    s.wear = np.full(n, rng.choice([0.0, 0.01, 0.02]))
    # the value line of the certified controller at V_max, between the extremes of a day
    s.dearest, s.cheapest = s.buy * rng.uniform(1, 1.5), s.sell * rng.uniform(0.5, 1)
    earn = s.eta_d * s.dearest - s.wear
    spread = np.maximum(earn - (s.cheapest / s.eta_c + s.wear), 1e-3)
    room = np.maximum(s.capacity - s.floor, 1e-3)
    s.slope = np.where(plan.battery, spread / room, 0)
    s.value = np.where(plan.battery, earn - s.slope * (s.energy - s.floor), 0)
    s.forced = None  # (charge, discharge) of a rule
    s.buy_max, s.sell_max = np.full(n, np.inf), np.full(n, np.inf)
    edges = len(plan.edges) if layout.market == "bilateral" else 1
    s.fees, s.limits = None, np.full(edges, np.inf)
    if layout.capped:
        s.limits[:] = 5.0
    s.resistance = rng.uniform(6e-5, 3e-4, max(layout.buses - 1, 0))  # p.u. per kW: 30 to 100 m of cable
    s.slack, s.band = 1.0, (0.9, 1.1)
    s.rating = rng.uniform(20, 80) * np.ones(max(layout.buses - 1, 0))
    s.tight = None  # half width of the voltage band as a share of what the homes do to the voltage
    s.row_penalty = s.unserved = None
    return s


def _assemble(s: SimpleNamespace, layout: Layout, dtype: np.dtype) -> SlotProblem:
    n = layout.homes
    array = lambda x: np.asarray(x, dtype)
    charge_max = np.minimum(s.power, np.maximum(s.capacity - s.energy, 0) / (s.dt * s.eta_c))
    discharge_max = np.minimum(s.power, np.maximum(s.energy - s.floor, 0) * s.eta_d / s.dt)
    refill = np.maximum(s.floor - s.energy, 0) / (s.dt * s.eta_c)
    charge_min, discharge_min = np.minimum(refill, charge_max), np.zeros(n)
    if s.forced is not None:
        charge_min = charge_max = np.clip(s.forced[0], charge_min, charge_max)
        discharge_min = discharge_max = np.clip(s.forced[1], 0, discharge_max)
    largest = max(abs(s.buy), abs(s.sell), 0.05)
    row_penalty = 20 * largest if s.row_penalty is None else s.row_penalty
    feeder, rows = (NoRows(), (np.zeros(0, dtype),) * 3) if not layout.buses else _rows(s, dtype)
    return SlotProblem(
        slot_hours=array(s.dt),
        price_buy=array(s.buy),
        price_sell=array(s.sell),
        load=array(s.load),
        load_min=array(s.load * (1 - s.share)),
        load_max=array(s.load * (1 + s.share)),
        load_cost=array(s.load_cost) if layout.elastic else None,
        pv_max=array(s.pv),
        curtailment_cost=array(s.curtailment),
        charge_min=array(charge_min),
        charge_max=array(charge_max),
        discharge_min=array(discharge_min),
        discharge_max=array(discharge_max),
        charge_efficiency=array(s.eta_c),
        discharge_efficiency=array(s.eta_d),
        wear_cost=array(s.wear),
        value=array(s.value),
        value_slope=array(s.slope),
        buy_max=array(s.buy_max) if layout.limited else None,
        sell_max=array(s.sell_max) if layout.limited else None,
        unserved_price=array(2 * row_penalty if s.unserved is None else s.unserved)
        if layout.limited
        else None,
        coupling=Coupling(market=_market(s, layout, dtype), feeder=feeder),
        row_offset=array(rows[0]),
        row_lower=array(rows[1]),
        row_upper=array(rows[2]),
        row_penalty=array(row_penalty),
    )


def _market(s: SimpleNamespace, layout: Layout, dtype: np.dtype) -> Market:
    host = lambda market: jax.tree.map(np.asarray, market)
    if layout.market == "none":
        return host(no_market(layout.homes, dtype=dtype))
    if layout.market == "pool":
        limit = float(s.limits[0])
        market = host(pool_market(layout.homes, fee=s.fee, limit=limit, dtype=dtype))
        # a closed pool is an unlimited one with limit 0, as `policy.slot_problem` makes it
        return type(market)(**{**market.__dict__, "limited": layout.capped})
    plan = s.plan
    fees = np.full(len(s.limits), s.fee) if s.fees is None else s.fees
    spread = lambda x: np.where(plan.real, x[plan.edge_of], 0).astype(dtype)
    # `market_from_edges` of the tables writes 1e6 kW and more for what is unlimited
    values = {"fee": spread(fees), "limit": spread(np.minimum(s.limits, 1e6))}
    return type(plan.market)(**{**host(plan.market).__dict__, **values})


def _rows(s: SimpleNamespace, dtype: np.dtype):
    """Feeder and row limits; `s.tight` puts the limits around what the homes would do."""
    plan, flexible, bus = s.plan, s.plan.flexible, s.plan.bus
    down, buses = plan.downstream, s.layout.buses
    r = down.T @ (s.resistance[:, None] * down)
    fixed, nominal = np.zeros(buses), np.zeros(buses)
    np.add.at(fixed, bus[~flexible], -s.load[~flexible])
    np.add.at(nominal, bus[flexible], (s.pv - s.load)[flexible])
    # what the market cannot change takes no more than the voltage that there is
    r = r * min(1, 0.3 / max(np.abs(2 * r @ fixed).max(), 1e-30))
    voltage, flow = s.slack**2 + 2 * r @ fixed, down @ fixed
    low, high = np.full(buses, s.band[0]), np.full(buses, s.band[1])
    rating = np.where(plan.rated, s.rating, np.inf)
    if s.tight is not None:
        width = max(s.tight * np.abs(2 * r @ nominal).max(), 1e-4)
        low, high = (np.sqrt(np.maximum(voltage + side * width, 1e-3)) for side in (-1, 1))
        rating = np.where(plan.rated, s.tight * np.abs(down @ nominal) + np.abs(flow) + 0.5, np.inf)
    network = Network(
        paths=Matrices(resistance=r, reactance=0.3 * r, downstream=down),
        slack_voltage=np.asarray(s.slack),
        voltage_min=low,
        voltage_max=high,
        rating=rating,
    )
    feeder = jax.tree.map(np.asarray, controllable_rows(network, bus, flexible, dtype))
    network = jax.tree.map(lambda x: np.asarray(x, dtype), network)
    rows = feeder.limits(network, Base(*(np.asarray(x, dtype) for x in (voltage, flow, 0.2 * flow))))
    return feeder, rows
