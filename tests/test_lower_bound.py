"""The lower bound against the whole horizon as one QP (clarabel), every home and device on its own."""

import dataclasses

import clarabel
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

from jaxp2p.hindsight.lower_bound import _lower_bound, best_lower_bound, lower_bound
from jaxp2p.model.markets import market_from_edges, no_market, pool_market
from jaxp2p.model.network import Matrices, NoRows, controllable_rows, radial_matrices
from jaxp2p.model.types import Battery, Community, Horizon, Network, Prosumers

TERMINAL = 0.2
HOURS = 0.5


def small_case(
    *,
    seed=0,
    slots=24,
    homes=6,
    kind="pool",
    fee=0.03,
    elastic=False,
    retention=1.0,
    floor=0.0,
    sell=0.08,
    network=False,
    dtype=np.float64,
) -> tuple[Community, Horizon]:
    """Homes with PV (every second), batteries (two in three) and evening peaks; a line of buses."""
    rng = np.random.default_rng(seed)
    hour = (HOURS * np.arange(slots) + 0.1) % 24
    member = np.arange(homes)
    pv_peak = np.where(member % 2 == 0, rng.uniform(3, 8, homes), 0)
    capacity = np.where(member % 3 != 2, rng.uniform(4, 10, homes), 0)

    def per_home(value):
        return jnp.asarray(np.broadcast_to(value, (homes,)).astype(dtype))

    battery = Battery(
        energy_min=per_home(floor * capacity),
        energy_max=per_home(capacity),
        energy_start=per_home(0.5 * capacity),
        charge_max=per_home(0.5 * capacity),
        discharge_max=per_home(0.4 * capacity),
        charge_efficiency=per_home(np.where(member % 3 == 0, 0.92, 0.97)),
        discharge_efficiency=per_home(0.95),
        retention=per_home(retention),
        wear_cost=per_home(0.01),
    )
    prosumers = Prosumers(
        bus=jnp.asarray(1 + member * 3 // homes, jnp.int32),
        pv_peak=per_home(pv_peak),
        curtailment_cost=per_home(0.005),
        load_flex_share=per_home(0.3 if elastic else 0.0),
        load_flex_cost=per_home(rng.uniform(0.1, 0.4, homes) if elastic else 0.0),
        buy_max=per_home(np.inf),
        sell_max=per_home(np.inf),
        battery=battery,
    )
    market = pool_market(homes, fee=fee, dtype=dtype) if kind == "pool" else no_market(homes, dtype=dtype)
    load = (0.4 + 1.2 * np.exp(-(((hour - 19) / 2) ** 2)))[:, None] * rng.lognormal(0, 0.4, (slots, homes))
    sun = np.maximum(np.sin((hour - 6) / 12 * np.pi), 0)[:, None]
    pv = pv_peak[None, :] * sun * rng.uniform(0.5, 1, (slots, 1))
    price_buy = np.where((hour > 16) & (hour < 21), 0.42, 0.26) + 0.03 * rng.standard_normal(slots)
    price_sell = np.full(slots, sell) + (0.1 * rng.standard_normal(slots) if sell < 0 else 0)
    line = np.arange(3)
    resistance, reactance, downstream = radial_matrices(
        line, line + 1, np.full(3, 0.006), np.full(3, 0.002), 4
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
        rating=jnp.asarray(np.array([4.0, np.inf, np.inf], dtype)),
    )
    feeder, flexible = NoRows(), (pv_peak > 0) | (capacity > 0) | elastic
    if network:
        feeder = controllable_rows(lines, np.asarray(prosumers.bus), flexible, np.dtype(dtype))
    passive = np.zeros((slots, 4))
    np.add.at(passive.T, np.asarray(prosumers.bus), -np.where(flexible[None, :], 0.0, load).T)
    horizon = Horizon(
        slot_hours=jnp.asarray(HOURS, dtype),
        load=jnp.asarray(load.astype(dtype)),
        pv=jnp.asarray(pv.astype(dtype)),
        price_buy=jnp.asarray(np.maximum(price_buy, price_sell + 0.01).astype(dtype)),
        price_sell=jnp.asarray(price_sell.astype(dtype)),
        voltage_base=jnp.asarray((1.0 + 2 * passive @ resistance).astype(dtype)),
        flow_base=jnp.asarray((passive @ downstream.T).astype(dtype)),
        flow_reactive=jnp.full((slots, 3), 1.0, dtype),
        price_ahead=jnp.zeros((slots, 3), dtype),
    )
    return Community(prosumers=prosumers, market=market, network=lines, feeder=feeder), horizon


def whole_horizon(community: Community, horizon: Horizon, *, penalty=2.0, storage=True):
    """(cost incl. penalty and - v_T (E_T - E_0), m (T, N), y (T, R) or None) of perfect foresight."""
    prosumers, battery = community.prosumers, community.prosumers.battery
    slots, homes = horizon.load.shape
    hours, size = float(horizon.slot_hours), slots * homes

    def wide(x):
        return np.broadcast_to(np.asarray(x, float), (slots, homes)).ravel()

    eta_c, eta_d, wear = (
        wide(getattr(battery, n)) for n in ("charge_efficiency", "discharge_efficiency", "wear_cost")
    )
    trade = np.inf if community.market.kind == "pool" else 0.0
    fee = wide(community.market.fee[0] if community.market.kind == "pool" else 0.0)
    load, pv = wide(horizon.load), wide(horizon.pv)
    flex = wide(prosumers.load_flex_share) * load
    curtail, elastic = wide(prosumers.curtailment_cost), wide(prosumers.load_flex_cost)
    buy, sell = wide(np.asarray(horizon.price_buy)[:, None]), wide(np.asarray(horizon.price_sell)[:, None])
    on = float(storage)
    # per home and slot: charge, discharge, pv used, load - reference, energy after, buy, sell, export, import
    cost = [wear * eta_c, wear / eta_d, -curtail, 0 * load, 0 * load, buy, -sell, fee / 2, fee / 2]
    low = [0 * load, 0 * load, 0 * load, -flex, on * wide(battery.energy_min)] + [0 * load] * 4
    high = [
        on * wide(battery.charge_max),
        on * wide(battery.discharge_max),
        pv,
        flex,
        on * wide(battery.energy_max),
    ]
    high += [np.full(size, np.inf)] * 2 + [np.full(size, trade)] * 2
    quadratic = [0 * load] * 3 + [2 * elastic] + [0 * load] * 5
    cost, low, high, quadratic = (np.concatenate(x) for x in (cost, low, high, quadratic))
    cost, quadratic = hours * cost, hours * quadratic
    energy = np.arange(4 * size, 5 * size).reshape(slots, homes)
    cost[energy[-1]] -= TERMINAL * on
    start = on * np.asarray(battery.energy_start, float)
    constant = TERMINAL * start.sum() + hours * (curtail * pv).sum()

    eye, none = sp.identity(size, format="csr"), sp.csr_matrix((size, size))
    retention = np.asarray(battery.retention, float)
    before = sp.kron(sp.eye(slots, k=-1), sp.diags(retention))
    flows = [
        -sp.diags(hours * eta_c),
        sp.diags(hours / eta_d),
        none,
        none,
        eye - before,
        none,
        none,
        none,
        none,
    ]
    balance = [-eye, eye, eye, -eye, none, -eye, eye, -eye, eye]
    balance[5], balance[6] = eye, -eye
    clearing = sp.kron(sp.eye(slots), np.ones((1, homes)))
    empty = sp.csr_matrix((slots, size))
    first = np.zeros((slots, homes))
    first[0] = retention * start
    blocks = [sp.hstack(flows), sp.hstack(balance), sp.hstack([empty] * 7 + [clearing, -clearing])]
    right = [first.ravel(), load, np.zeros(slots)]
    equal = sum(len(x) for x in right)

    feeder, rows = community.feeder, 0
    if feeder.rows:
        limits = feeder.limits(community.network, horizon.grid_base)
        offset, lower, upper = (np.asarray(x) for x in limits)
        rows = offset.size
        matrix = np.asarray(feeder.matrix)[:, np.asarray(feeder.group)] * np.asarray(feeder.flexible)[None, :]
        effect = sp.kron(sp.eye(slots), matrix)
        power = sp.hstack([-effect, effect, effect, -effect] + [sp.csr_matrix((rows, size))] * 5)
        fixed = effect @ load  # p = g - (l_ref + change) + d - c
        slack = sp.identity(rows)
        blocks = [sp.hstack([b, sp.csr_matrix((b.shape[0], rows))]) for b in blocks]
        blocks += [sp.hstack([power, -slack]), sp.hstack([-power, -slack])]
        right += [(upper - offset).ravel() + fixed, (offset - lower).ravel() - fixed]
        cost = np.r_[cost, np.full(rows, hours * penalty)]
        quadratic, low, high = (
            np.r_[x, np.full(rows, v)] for x, v in ((quadratic, 0.0), (low, 0.0), (high, np.inf))
        )
    bounded = np.flatnonzero(np.isfinite(high))
    everything = sp.identity(len(cost), format="csr")
    a = sp.vstack([*blocks, -everything, everything[bounded]]).tocsc()
    b = np.concatenate([*right, -low, high[bounded]])
    cones = [clarabel.ZeroConeT(equal), clarabel.NonnegativeConeT(len(b) - equal)]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-10
    answer = clarabel.DefaultSolver(sp.diags(quadratic).tocsc(), cost, a, b, cones, settings).solve()
    assert str(answer.status) == "Solved"
    dual = np.asarray(answer.z)
    m = dual[:size].reshape(slots, homes)
    y = None
    if rows:
        y = (dual[equal : equal + rows] - dual[equal + rows : equal + 2 * rows]).reshape(offset.shape) / hours
    return answer.obj_val + constant, jnp.asarray(m), None if y is None else jnp.asarray(y)


CASES = {
    "pool": {},
    "no fee": {"fee": 0.0},
    "fee above the tariff gap": {"fee": 1.0},
    "none": {"kind": "none"},
    "leaking": {"retention": 0.985, "floor": 0.2},
    "negative prices": {"sell": -0.05, "seed": 3},
    "elastic": {"elastic": True, "seed": 4},
    "elastic, negative, none": {"elastic": True, "sell": -0.1, "kind": "none", "seed": 5},
}


@pytest.mark.parametrize("name", CASES)
def test_duals_of_perfect_foresight_prove_perfect_foresight(name):
    community, horizon = small_case(**CASES[name])
    cost, m, _ = whole_horizon(community, horizon)
    bound = lower_bound(community, horizon, storage_value=m, terminal_price=TERMINAL)
    np.testing.assert_allclose(bound.value_eur, cost, atol=2e-6)
    np.testing.assert_allclose(bound.value_eur, bound.slot_eur.sum() + bound.storage_eur, rtol=1e-12)
    assert ((bound.pool_price >= horizon.price_sell) & (bound.pool_price <= horizon.price_buy)).all()


@pytest.mark.parametrize("name", CASES)
def test_any_multipliers_stay_below_perfect_foresight(name):
    community, horizon = small_case(**CASES[name])
    cost, m, _ = whole_horizon(community, horizon)
    rng = np.random.default_rng(0)
    for spread in (0.001, 0.01, 0.1, 1.0):
        wild = m + spread * jnp.asarray(rng.standard_normal(m.shape))
        bound = lower_bound(community, horizon, storage_value=wild, terminal_price=TERMINAL)
        assert bound.value_eur <= cost + 1e-6


@pytest.mark.parametrize("elastic", [False, True])
def test_network_duals_close_the_gap_that_the_market_alone_leaves(elastic):
    community, horizon = small_case(network=True, elastic=elastic, homes=9, seed=6)
    cost, m, y = whole_horizon(community, horizon)
    assert np.abs(y).max() > 0.01  # the network binds
    with_network = lower_bound(community, horizon, storage_value=m, terminal_price=TERMINAL, row_price=y)
    without = lower_bound(community, horizon, storage_value=m, terminal_price=TERMINAL)
    np.testing.assert_allclose(with_network.value_eur, cost, atol=1e-5)
    assert without.value_eur < cost - 1e-3
    rng = np.random.default_rng(0)
    for spread in (0.01, 0.1):
        wild = jnp.clip(y + spread * jnp.asarray(rng.standard_normal(y.shape)), -2.0, 2.0)
        bound = lower_bound(community, horizon, storage_value=m, terminal_price=TERMINAL, row_price=wild)
        assert bound.value_eur <= cost + 1e-6
    best = best_lower_bound(community, horizon, terminal_price=TERMINAL, row_price=y)
    idle, _, _ = whole_horizon(community, horizon, storage=False)
    assert cost - 0.05 * (idle - cost) <= best.value_eur <= cost + 1e-6


@pytest.mark.parametrize("name", CASES)
def test_own_multipliers_come_within_five_percent_of_the_possible_saving(name):
    community, horizon = small_case(**CASES[name], slots=96)
    cost, _, _ = whole_horizon(community, horizon)
    idle, _, _ = whole_horizon(community, horizon, storage=False)
    best = best_lower_bound(community, horizon, terminal_price=TERMINAL)
    assert idle - cost > 0.5
    assert cost - 0.05 * (idle - cost) <= best.value_eur <= cost + 1e-6


def test_a_start_from_perfect_foresight_is_not_lost():
    community, horizon = small_case()
    cost, m, _ = whole_horizon(community, horizon)
    best = best_lower_bound(community, horizon, terminal_price=TERMINAL, storage_value=m, steps=50)
    np.testing.assert_allclose(best.value_eur, cost, atol=2e-6)


def test_float32_agrees_with_float64():
    results = []
    for dtype in (np.float32, np.float64):
        community, horizon = small_case(elastic=True, dtype=dtype)
        m = jnp.full(horizon.load.shape, 0.25, dtype)
        bound = lower_bound(community, horizon, storage_value=m, terminal_price=TERMINAL)
        best = best_lower_bound(community, horizon, terminal_price=TERMINAL, steps=200)
        assert bound.value_eur.dtype == best.value_eur.dtype == best.storage_value.dtype == dtype
        results.append((float(bound.value_eur), float(best.value_eur)))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=2e-6)
    np.testing.assert_allclose(results[0][1], results[1][1], atol=0.05)  # ascents part at kinks


def test_bilateral_is_relaxed_to_the_pool_with_the_smallest_fee():
    community, horizon = small_case()
    edges = np.array([[0, 1], [1, 2], [3, 4]])
    fees, limits = np.array([0.05, 0.02, 0.001]), np.array([3.0, np.inf, 0.0])
    market = market_from_edges(edges, fees, limits, size=6, dtype=np.float64)
    m = jnp.full(horizon.load.shape, 0.25)
    options = {"storage_value": m, "terminal_price": TERMINAL}
    bilateral = lower_bound(dataclasses.replace(community, market=market), horizon, **options)
    # the edge with limit 0 does not count; home 1 trades with 0 and 2, home 0 with 1 only
    pool = pool_market(6, fee=0.02, dtype=np.float64)
    pool = dataclasses.replace(pool, limit=jnp.asarray([[3.0, np.inf, np.inf, 0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(
        bilateral.value_eur,
        lower_bound(dataclasses.replace(community, market=pool), horizon, **options).value_eur,
    )


def test_without_batteries_it_is_the_cost_of_trading_alone():
    community, horizon = small_case()
    idle, _, _ = whole_horizon(community, horizon, storage=False)
    empty = jax.tree.map(jnp.zeros_like, community.prosumers.battery)
    keep = ("charge_efficiency", "discharge_efficiency", "retention")
    empty = dataclasses.replace(empty, **{k: getattr(community.prosumers.battery, k) for k in keep})
    prosumers = dataclasses.replace(community.prosumers, battery=empty)
    bound = best_lower_bound(
        dataclasses.replace(community, prosumers=prosumers), horizon, terminal_price=TERMINAL
    )
    np.testing.assert_allclose(bound.value_eur, idle, atol=2e-6)


def test_scaling_powers_and_prices_scales_the_bound():
    community, horizon = small_case()
    m = jnp.asarray(0.25 + 0.05 * np.random.default_rng(0).standard_normal(horizon.load.shape))
    base = lower_bound(community, horizon, storage_value=m, terminal_price=TERMINAL).value_eur

    prosumers, battery = community.prosumers, community.prosumers.battery
    powers = ("energy_min", "energy_max", "energy_start", "charge_max", "discharge_max")
    larger = dataclasses.replace(battery, **{name: 100 * getattr(battery, name) for name in powers})
    scaled = lower_bound(
        dataclasses.replace(community, prosumers=dataclasses.replace(prosumers, battery=larger)),
        dataclasses.replace(horizon, load=100 * horizon.load, pv=100 * horizon.pv),
        storage_value=m,
        terminal_price=TERMINAL,
    )
    np.testing.assert_allclose(scaled.value_eur, 100 * base, rtol=1e-9)

    dear = dataclasses.replace(
        prosumers,
        curtailment_cost=10 * prosumers.curtailment_cost,
        battery=dataclasses.replace(battery, wear_cost=10 * battery.wear_cost),
    )
    market = pool_market(6, fee=0.3, dtype=np.float64)
    scaled = lower_bound(
        dataclasses.replace(community, prosumers=dear, market=market),
        dataclasses.replace(horizon, price_buy=10 * horizon.price_buy, price_sell=10 * horizon.price_sell),
        storage_value=10 * m,
        terminal_price=10 * TERMINAL,
    )
    np.testing.assert_allclose(scaled.value_eur, 10 * base, rtol=1e-9)


def test_traced_once_for_new_values():
    community, horizon = small_case()
    before = _lower_bound.jitted._cache_size()
    for value in (0.1, 0.2, 0.3):
        m = jnp.full(horizon.load.shape, value)
        lower_bound(community, horizon, storage_value=m, terminal_price=value)
    assert _lower_bound.jitted._cache_size() <= before + 1


def test_row_prices_without_a_feeder_are_refused():
    community, horizon = small_case(slots=4)
    with pytest.raises(ValueError, match="feeder"):
        lower_bound(
            community,
            horizon,
            storage_value=jnp.zeros_like(horizon.load),
            terminal_price=TERMINAL,
            row_price=jnp.zeros((4, 1)),
        )
