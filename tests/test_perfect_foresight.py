"""Perfect foresight against an independent formulation with every variable of every member written out."""

from dataclasses import replace

import clarabel
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import linprog

from jaxp2p.hindsight.horizon_data import NetworkRows
from jaxp2p.hindsight.horizon_qp import solve_horizon
from jaxp2p.hindsight.horizon_settlement import row_excess
from jaxp2p.hindsight.perfect_foresight import horizon_data, perfect_foresight
from jaxp2p.model.markets import KINDS
from jaxp2p.model.network import Matrices, NoRows
from jaxp2p.model.types import Battery, Community, Feeder, Horizon, Network, Prosumers

pytestmark = pytest.mark.slow

ROW_PENALTY, UNSERVED = 3.0, 5.0
BUSES = 4  # slack, then 1 - 2 and 1 - 3
SCALE = 2e-3  # p.u.^2 per kW in the voltage rows


def market_of(kind, size, *, fee=0.0, limit=np.inf, edges=()):
    """Pool, none, or a graph in padded form from edges (i, j, fee, limit)."""
    if kind == "bilateral":
        width = max(sum(i in edge[:2] for edge in edges) for i in range(size))
        fees, limits, filled = np.zeros((width, size)), np.zeros((width, size)), [0] * size
        for i, j, edge_fee, edge_limit in edges:
            for member in (i, j):
                fees[filled[member], member] = edge_fee
                limits[filled[member], member] = edge_limit
                filled[member] += 1
        shape = (width, size)
    else:
        rows = 1 if kind == "pool" else 0
        fees, limits, shape = np.full((rows, size), fee), np.full((rows, size), limit), (0, size)
    return KINDS[kind](partner=np.zeros(shape, int), reverse=np.zeros(shape, int), fee=fees, limit=limits)


def feeder_of(bus, flexible):
    """Three voltage rows and the branch next to the slack, over the three buses."""
    shared = np.array([[1.0, 1.0, 1.0], [1.0, 2.0, 1.0], [1.0, 1.0, 3.0]])
    resistance = np.zeros((BUSES, BUSES))
    resistance[1:, 1:] = SCALE / 6 * shared
    downstream = np.array([[0.0, 1, 1, 1], [0, 0, 1, 0], [0, 0, 0, 1]])
    network = Network(
        paths=Matrices(resistance=resistance, reactance=resistance, downstream=downstream),
        slack_voltage=np.float64(1.0),
        voltage_min=np.full(BUSES, 0.995),
        voltage_max=np.full(BUSES, 1.004),
        rating=np.array([7.0, np.inf, np.inf]),
    )
    rows = np.concatenate([2 * resistance[1:, 1:], downstream[:1, 1:]])
    scale = rows.max(1)
    feeder = Feeder(
        group=np.where(flexible, bus - 1, 0),
        flexible=flexible.astype(float),
        count=np.ones(3),
        matrix=rows / scale[:, None],
        scale=scale,
        voltage_bus=np.array([1, 2, 3]),
        flow_branch=np.array([0]),
    )
    return network, feeder


def case(
    seed,
    *,
    slots=8,
    size=6,
    kind="pool",
    fee=0.0,
    limit=np.inf,
    edges=(),
    network=False,
    shift=0.0,
    sell_low=0.02,
    sell_high=0.15,
    buy_max=np.inf,
    sell_max=np.inf,
    batteries=3,
    lossless=False,
):
    """A small random community: the first homes have batteries, the middle ones PV."""
    draw = np.random.default_rng(seed)
    number = np.arange(size)
    has_battery, has_pv = number < batteries, (number >= 1) & (number < size - 1)
    power, capacity = (
        np.where(has_battery, draw.uniform(1, 3, size), 0.0),
        draw.uniform(2, 6, size) * has_battery,
    )
    pv_peak = np.where(has_pv, draw.uniform(2, 8, size), 0.0)
    bus = np.sort(draw.integers(1, BUSES, size))
    prosumers = Prosumers(
        bus=bus,
        pv_peak=pv_peak,
        curtailment_cost=draw.uniform(0, 0.02, size),
        load_flex_share=np.full(size, shift),
        load_flex_cost=np.full(size, 0.1),
        buy_max=np.full(size, buy_max),
        sell_max=np.full(size, sell_max),
        battery=Battery(
            energy_min=0.1 * capacity,
            energy_max=capacity,
            energy_start=draw.uniform(0.1, 1, size) * capacity,
            charge_max=power,
            discharge_max=0.8 * power,
            charge_efficiency=np.full(size, 1.0 if lossless else 0.95),
            discharge_efficiency=np.full(size, 1.0 if lossless else 0.92),
            retention=np.full(size, 1.0 if lossless else 0.99),
            wear_cost=np.zeros(size) if lossless else draw.uniform(0, 0.02, size),
        ),
    )
    load = draw.gamma(2.0, 0.8, (slots, size))
    sell = draw.uniform(sell_low, sell_high, slots)
    pv = pv_peak * draw.uniform(0, 1, (slots, 1)) * (draw.uniform(size=(slots, 1)) < 0.7)
    flexible = has_battery | has_pv | (shift > 0)
    grid, feeder = feeder_of(bus, flexible)
    fixed = np.zeros((slots, BUSES))
    np.add.at(fixed.T, bus, np.where(flexible, 0.0, -load).T)
    community = Community(
        prosumers=prosumers,
        market=market_of(kind, size, fee=fee, limit=limit, edges=edges),
        network=grid,
        feeder=feeder if network else NoRows(),
    )
    horizon = Horizon(
        slot_hours=np.float64(0.5),
        load=load,
        pv=pv,
        price_buy=sell + draw.uniform(0.0, 0.2, slots),
        price_sell=sell,
        voltage_base=1 + 2 * fixed @ grid.paths.resistance.T,
        flow_base=fixed @ grid.paths.downstream.T,
        flow_reactive=np.full((slots, 3), 0.5),
        price_ahead=np.zeros((slots, 3)),
    )
    return community, horizon


def reference(community, horizon, terminal_price, edges=None):
    """Optimal value with each member's buy, sell and trades as variables; HiGHS, or Clarabel if quadratic."""
    homes, battery, market = community.prosumers, community.prosumers.battery, community.market
    slots, size = horizon.load.shape
    dt, cost, quadratic, bounds = float(horizon.slot_hours), [], [], []
    equal, equal_rhs, below, below_rhs = [], [], [], []

    def variable(low, high, linear, square=0.0):
        bounds.append((low, high))
        cost.append(linear)
        quadratic.append(square)
        return len(cost) - 1

    if community.feeder.rows:
        feeder = community.feeder
        rating = np.asarray(community.network.rating)[feeder.flow_branch]
        room = np.sqrt(rating**2 - horizon.flow_reactive[:, feeder.flow_branch] ** 2)
        offset = np.concatenate(
            [horizon.voltage_base[:, feeder.voltage_bus], horizon.flow_base[:, feeder.flow_branch]], 1
        )
    constant, stored = 0.0, {}
    for t in range(slots):
        pool, injection, base, traded = {}, [], [], []
        links = {i: {} for i in range(size)}
        for i, j, fee, limit in edges or ():
            one, other = (variable(0, limit, dt * fee) for _ in range(2))
            links[i] |= {one: 1.0, other: -1.0}
            links[j] |= {one: -1.0, other: 1.0}
        for i in range(size):
            g = variable(0, horizon.pv[t, i], -dt * homes.curtailment_cost[i])
            constant += dt * homes.curtailment_cost[i] * horizon.pv[t, i]
            flex = homes.load_flex_share[i] * horizon.load[t, i]
            x = variable(-flex, flex, 0.0, dt * homes.load_flex_cost[i])
            c = variable(0, battery.charge_max[i], dt * battery.wear_cost[i] * battery.charge_efficiency[i])
            d = variable(
                0, battery.discharge_max[i], dt * battery.wear_cost[i] / battery.discharge_efficiency[i]
            )
            e = variable(battery.energy_min[i], battery.energy_max[i], -terminal_price * (t == slots - 1))
            dynamics = {
                e: 1.0,
                c: -dt * battery.charge_efficiency[i],
                d: dt / battery.discharge_efficiency[i],
            }
            if t:
                dynamics[stored[i]] = -battery.retention[i]
            equal.append(dynamics)
            equal_rhs.append(0.0 if t else battery.retention[i] * battery.energy_start[i])
            stored[i] = e
            buy = variable(0, homes.buy_max[i], dt * horizon.price_buy[t])
            sell = variable(0, homes.sell_max[i], -dt * horizon.price_sell[t])
            spilled = variable(0, np.inf, dt * (UNSERVED - horizon.price_sell[t]))
            unserved = variable(0, np.inf, dt * (UNSERVED + horizon.price_buy[t]))
            p = {g: 1.0, x: -1.0, d: 1.0, c: -1.0}
            balance = p | {sell: -1.0, buy: 1.0, spilled: -1.0, unserved: 1.0}
            if edges is not None:
                balance |= {k: -v for k, v in links[i].items()}
            elif market.kind == "pool":
                out, into = (variable(0, market.limit[0, i], dt * market.fee[0, i] / 2) for _ in range(2))
                balance |= {out: -1.0, into: 1.0}
                pool |= {out: 1.0, into: -1.0}
            equal.append(balance)
            equal_rhs.append(horizon.load[t, i])
            injection.append(p)
            base.append(-horizon.load[t, i])
            traded.append(i)
        if pool:
            equal.append(pool)
            equal_rhs.append(0.0)
        if not community.feeder.rows:
            continue
        for r in range(len(feeder.scale)):
            voltage = r < len(feeder.voltage_bus)
            if voltage:
                n = feeder.voltage_bus[r]
                low, high = community.network.voltage_min[n] ** 2, community.network.voltage_max[n] ** 2
            else:
                low, high = -room[t, 0], room[t, 0]
            slack = variable(0, np.inf, dt * ROW_PENALTY)
            value, known = {}, offset[t, r] / feeder.scale[r]
            for i in range(size):
                weight = feeder.matrix[r, feeder.group[i]] * feeder.flexible[i]
                value |= {k: weight * v for k, v in injection[i].items()}
                known += weight * base[i]
            below.append(value | {slack: -1.0})
            below_rhs.append(high / feeder.scale[r] - known)
            below.append({k: -v for k, v in value.items()} | {slack: -1.0})
            below_rhs.append(known - low / feeder.scale[r])
    constant += terminal_price * battery.energy_start.sum()

    def matrix(rows):
        dense = np.zeros((len(rows), len(cost)))
        for number, row in enumerate(rows):
            dense[number, list(row)] = list(row.values())
        return dense

    if not any(quadratic):
        extra = {"A_ub": matrix(below), "b_ub": below_rhs} if below else {}
        found = linprog(cost, A_eq=matrix(equal), b_eq=equal_rhs, bounds=bounds, method="highs", **extra)
        assert found.status == 0, found.message
        return found.fun + constant
    low, high = np.array(bounds).T
    eye = np.eye(len(cost))
    bounded = np.isfinite(high)
    stack = [matrix(equal), matrix(below), -eye, eye[bounded]]
    rhs = np.concatenate([equal_rhs, below_rhs, -low, high[bounded]])
    cones = [clarabel.ZeroConeT(len(equal)), clarabel.NonnegativeConeT(len(rhs) - len(equal))]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    solver = clarabel.DefaultSolver(
        sparse.diags_array(2 * np.array(quadratic), format="csc"),
        np.array(cost),
        sparse.csc_array(np.concatenate(stack)),
        rhs,
        cones,
        settings,
    )
    found = solver.solve()
    assert str(found.status) == "Solved"
    return found.obj_val + constant


def solve(community, horizon, terminal_price=0.1, **options):
    options = {"row_penalty": ROW_PENALTY, "unserved_price": UNSERVED, "tolerance": 1e-6} | options
    return perfect_foresight(community, horizon, terminal_price=terminal_price, **options)


def check_invariants(community, horizon, found):
    """Limits, balance, dynamics and money, as everything that reads a trajectory relies on them."""
    run, homes, battery = found.trajectory, community.prosumers, community.prosumers.battery
    dt = float(horizon.slot_hours)
    assert np.all(run.energy >= battery.energy_min - 1e-12)
    assert np.all(run.energy <= battery.energy_max + 1e-12)
    assert np.all((run.charge >= 0) & (run.charge <= battery.charge_max))
    assert np.all((run.discharge >= 0) & (run.discharge <= battery.discharge_max))
    assert np.all((run.pv_used >= 0) & (run.pv_used <= horizon.pv))
    assert np.all(np.abs(run.load - horizon.load) <= homes.load_flex_share * horizon.load + 1e-12)
    assert np.all((run.buy >= 0) & (run.buy <= homes.buy_max))
    assert np.all((run.sell >= 0) & (run.sell <= homes.sell_max))
    before = np.concatenate([np.asarray(battery.energy_start)[None], run.energy[:-1]])
    moved = dt * (battery.charge_efficiency * run.charge - run.discharge / battery.discharge_efficiency)
    np.testing.assert_allclose(run.energy, battery.retention * before + moved, atol=1e-8)
    np.testing.assert_allclose(run.injection, run.pv_used - run.load + run.discharge - run.charge, atol=1e-12)
    gap = run.injection - (run.sell - run.buy + run.trade)
    np.testing.assert_allclose(-gap, run.unserved, atol=1e-12)
    short, spilled = np.maximum(run.unserved, 0), np.maximum(-run.unserved, 0)
    not_served = (UNSERVED + horizon.price_buy) @ short + (UNSERVED - horizon.price_sell) @ spilled
    np.testing.assert_allclose(found.unserved_eur, dt * not_served.sum(), atol=1e-9)
    np.testing.assert_allclose(run.trade.sum(1), 0, atol=1e-11)
    np.testing.assert_allclose(run.payment.sum(1), 0, atol=1e-11)
    np.testing.assert_allclose(run.trade_volume, np.abs(run.trade))
    np.testing.assert_allclose(run.cost.sum(), found.cost_eur)
    np.testing.assert_allclose(found.objective_eur, found.dual_objective_eur, rtol=1e-6, atol=1e-6)
    for name, values in run._asdict().items():
        assert values is None or np.all(np.isfinite(values)), name  # of vehicles: None


SETTINGS = {
    "pool": {},
    "pool_fee": {"fee": 0.05},
    "pool_fee_above_spread": {"fee": 0.4},
    "none": {"kind": "none"},
    "pool_limit_zero": {"limit": 0.0},
    "negative_prices": {"fee": 0.02, "sell_low": -0.3},
    "lossless": {"fee": 0.02, "lossless": True},
    "network": {"fee": 0.02, "network": True},
    "network_none": {"kind": "none", "network": True},
    "network_negative": {"network": True, "sell_low": -0.3},
    "shift": {"fee": 0.02, "shift": 0.4},
    "shift_network": {"fee": 0.02, "shift": 0.4, "network": True},
    "trade_limit": {"fee": 0.02, "limit": 0.8},
    "exchange_limits_none": {"kind": "none", "buy_max": 1.5, "sell_max": 2.0},
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", SETTINGS)
def test_equals_independent_formulation(name, seed):
    community, horizon = case(seed, **SETTINGS[name])
    found = solve(community, horizon)
    expected = reference(community, horizon, 0.1)
    assert found.objective_eur == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert not found.is_lower_bound or found.simultaneous_kwh > 0
    check_invariants(community, horizon, found)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "limits", [{"buy_max": 1.5}, {"sell_max": 1.0}, {"buy_max": 1.2, "sell_max": 1.5, "network": True}]
)
def test_exchange_limits_in_a_pool(seed, limits):
    """Members with room to spare buy for the others: still exact."""
    community, horizon = case(seed, fee=0.02, **limits)
    found = solve(community, horizon)
    assert found.objective_eur == pytest.approx(reference(community, horizon, 0.1), rel=1e-6, abs=1e-6)
    check_invariants(community, horizon, found)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("network", [False, True])
def test_each_member_has_limits_of_its_own(seed, network):
    """Connection and trade limits member by member, some of them none: exact, not only in sum."""
    community, horizon = case(seed, fee=0.02, limit=[np.inf, 1.0, 1.5][seed % 3], network=network)
    draw = np.random.default_rng(seed)
    pick = lambda *values: draw.choice(values, community.size)
    homes = replace(
        community.prosumers, buy_max=pick(0.3, 1.0, 2.5, np.inf), sell_max=pick(0.0, 0.5, 2.0, np.inf)
    )
    community = replace(community, prosumers=homes)
    found = solve(community, horizon)
    assert found.objective_eur == pytest.approx(reference(community, horizon, 0.1), rel=1e-6, abs=1e-6)
    check_invariants(community, horizon, found)


def test_bilateral_is_bounded_by_the_pool():
    edges = [(0, 1, 0.03, 2.0), (1, 2, 0.02, 1.0), (2, 3, 0.05, 2.0), (3, 4, 0.02, 5.0), (4, 0, 0.04, 3.0)]
    community, horizon = case(5, kind="bilateral", edges=edges)  # home 5 has no partner
    found = solve(community, horizon)
    assert found.is_lower_bound
    exact = reference(community, horizon, 0.1, edges=edges)
    nobody = reference(*case(5, kind="none"), 0.1)
    assert found.objective_eur <= exact + 1e-6 <= nobody + 1e-6
    assert np.all(found.trajectory.trade[:, 5] == 0)
    check_invariants(community, horizon, found)


def test_complete_graph_with_one_fee_is_the_pool():
    edges = [(i, j, 0.03, np.inf) for i in range(6) for j in range(i)]
    bilateral = solve(*case(6, kind="bilateral", edges=edges))
    pool = solve(*case(6, fee=0.03))
    assert bilateral.objective_eur == pytest.approx(pool.objective_eur, rel=1e-9)
    assert bilateral.is_lower_bound
    assert not pool.is_lower_bound


@pytest.mark.parametrize("kind", ["pool", "none"])
@pytest.mark.parametrize("fee", [0.0, 0.06])
def test_without_batteries_it_is_the_sum_of_the_slots(kind, fee):
    community, horizon = case(7, slots=40, kind=kind, fee=fee, batteries=0)
    found = solve(community, horizon)
    injection = horizon.pv - horizon.load
    surplus, need = np.maximum(injection, 0).sum(1), np.maximum(-injection, 0).sum(1)
    gain = np.maximum(horizon.price_buy - horizon.price_sell - fee, 0) * (kind == "pool")
    slot_cost = horizon.price_buy * need - horizon.price_sell * surplus - gain * np.minimum(surplus, need)
    assert found.cost_eur == pytest.approx(0.5 * slot_cost.sum(), rel=1e-12)
    assert found.variables <= 2 * 40  # the traded volume is all that is left


@pytest.mark.parametrize("name", ["network", "network_none", "network_negative", "shift_network"])
def test_rows_added_round_by_round_equal_all_rows_at_once(name):
    community, horizon = case(8, slots=24, **SETTINGS[name])
    found = solve(community, horizon)
    data, _ = horizon_data(
        community, horizon, terminal_price=0.1, row_penalty=ROW_PENALTY, unserved_price=UNSERVED
    )
    slot, row, side = (a.ravel() for a in np.meshgrid(np.arange(24), np.arange(4), [-1, 1], indexing="ij"))
    at_once = solve_horizon(data, NetworkRows(slot, row, side))
    assert 0 < found.rows_added < len(slot)
    assert found.objective_eur == pytest.approx(at_once.solver.objective, rel=1e-6, abs=1e-6)


def test_network_binds_and_its_prices_are_complementary():
    community, horizon = case(9, slots=24, network=True, fee=0.02)
    free = solve(*case(9, slots=24, fee=0.02))
    found = solve(community, horizon)
    assert found.objective_eur > free.objective_eur + 1e-3
    assert np.all(np.abs(found.row_duals) <= ROW_PENALTY + 1e-6)
    data, _ = horizon_data(
        community, horizon, terminal_price=0.1, row_penalty=ROW_PENALTY, unserved_price=UNSERVED
    )
    value = data.offset + found.trajectory.injection @ data.response.T
    assert np.abs(found.row_duals).max() > 1e-3
    assert np.all(value[found.row_duals > 1e-4] >= data.upper[found.row_duals > 1e-4] - 1e-4)
    assert np.all(value[found.row_duals < -1e-4] <= data.lower[found.row_duals < -1e-4] + 1e-4)
    np.testing.assert_allclose(
        found.trajectory.violation, np.abs(row_excess(data, found.trajectory.injection)).max(1)
    )


def test_row_limits_agree_with_the_network_module():
    community, horizon = case(10, network=True)
    data, _ = horizon_data(community, horizon, terminal_price=0.0, row_penalty=1.0, unserved_price=1.0)
    base = jax.tree.map(jnp.asarray, horizon.grid_base)  # as the kernel has it
    expected = community.feeder.limits(community.network, base)
    for ours, theirs in zip((data.offset, data.lower, data.upper), expected, strict=True):
        np.testing.assert_allclose(ours, np.asarray(theirs), rtol=1e-6)


@pytest.mark.parametrize(
    "name", ["pool_fee", "none", "network", "negative_prices", "trade_limit", "shift_network"]
)
def test_storage_duals_satisfy_the_optimality_conditions(name):
    """m is the worth of a stored kWh: what discharging earns, what charging pays, and carried over."""
    community, horizon = case(11, slots=24, **SETTINGS[name])
    found = solve(community, horizon, 0.1)
    run, battery = found.trajectory, community.prosumers.battery
    has, tol = np.asarray(battery.charge_max) > 0, 1e-5
    nu, m = run.nodal_price[:, has], found.storage_duals[:, has]
    eta_c, eta_d, kappa, sigma, low, high, c_max, d_max = (
        np.asarray(a)[has]
        for a in (
            battery.charge_efficiency, battery.discharge_efficiency, battery.wear_cost, battery.retention,
            battery.energy_min, battery.energy_max, battery.charge_max, battery.discharge_max,
        )
    )  # fmt: skip
    charge, discharge, energy = run.charge[:, has], run.discharge[:, has], run.energy[:, has]
    earn, pay = eta_d * nu - kappa, nu / eta_c + kappa
    # As products: near a limit an interior point knows the multiplier only to 1e-8 over the distance to it.
    for product in (
        np.maximum(m - earn, 0) * discharge,
        np.maximum(earn - m, 0) * (d_max - discharge),
        np.maximum(pay - m, 0) * charge,
        np.maximum(m - pay, 0) * (c_max - charge),
    ):
        np.testing.assert_allclose(product, 0, atol=tol)
    carried = m - np.concatenate([sigma * m[1:], np.full((1, has.sum()), 0.1)])
    np.testing.assert_allclose(np.maximum(-carried, 0) * (high - energy), 0, atol=tol)
    np.testing.assert_allclose(np.maximum(carried, 0) * (energy - low), 0, atol=tol)


def test_market_prices_lie_between_the_tariffs_and_split_the_fee():
    community, horizon = case(12, slots=24, fee=0.03)
    run = (found := solve(community, horizon)).trajectory
    buy, sell, price = horizon.price_buy[:, None], horizon.price_sell[:, None], found.pool_price[:, None]
    assert np.all(run.market_price >= sell - 1e-6)
    assert np.all(run.market_price <= buy + 1e-6)
    np.testing.assert_allclose(np.where(run.trade > 1e-4, run.market_price - price + 0.015, 0), 0, atol=1e-5)
    np.testing.assert_allclose(np.where(run.trade < -1e-4, run.market_price - price - 0.015, 0), 0, atol=1e-5)
    np.testing.assert_allclose(np.where(run.buy > 1e-4, run.market_price - buy, 0), 0, atol=1e-5)
    np.testing.assert_allclose(np.where(run.sell > 1e-4, run.market_price - sell, 0), 0, atol=1e-5)


def test_both_ways_at_once_only_where_energy_is_worth_less_than_nothing():
    community, horizon = case(13, slots=24, sell_low=-0.5, sell_high=0.1, kind="none")
    run = (found := solve(community, horizon)).trajectory
    both = np.minimum(run.charge, run.discharge) > 1e-6
    assert both.any()
    assert found.is_lower_bound
    assert found.simultaneous_kwh > 0
    assert np.all(run.nodal_price[both] < 0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "options",
    [
        {"network": True},
        {"network": True, "kind": "none"},
        {"network": True, "batteries": 6, "slots": 24},
        {"network": True, "sell_low": -0.3},
        {"kind": "none", "sell_max": 1.0},
        {"fee": 0.02, "sell_max": 0.5},
    ],
    ids=lambda options: ", ".join(options),
)
def test_where_pv_must_be_curtailed_the_dispatch_is_the_optimum(options, seed):
    """Free curtailment, no wear: to burn energy in a battery costs no more than to curtail, in the QP."""
    community, horizon = case(seed, **options)
    homes, free = community.prosumers, np.zeros(community.size)
    homes = replace(homes, curtailment_cost=free, battery=replace(homes.battery, wear_cost=free))
    community = replace(community, prosumers=homes)
    horizon = replace(horizon, pv=1.5 * horizon.pv, load=0.3 * horizon.load)
    found = solve(community, horizon)
    expected = reference(community, horizon, 0.1)
    assert (horizon.pv - found.trajectory.pv_used).sum() > 1
    assert found.objective_eur == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert found.is_lower_bound == (found.simultaneous_kwh > 1e-6)
    if seed == 0:  # a dispatch without both at once is among the optima, and it is the one that is found
        assert found.simultaneous_kwh == 0
    check_invariants(community, horizon, found)


def test_units_scale():
    """Powers and energies times 50, prices times 7: money times 350, worth times 7."""
    community, horizon = case(14, fee=0.02)
    big, _ = case(14, fee=0.02 * 7)
    power = ("energy_min", "energy_max", "energy_start", "charge_max", "discharge_max")
    battery = community.prosumers.battery
    values = {f: np.asarray(getattr(battery, f)) for f in battery.__dataclass_fields__}
    values |= {f: 50 * values[f] for f in power} | {"wear_cost": 7 * values["wear_cost"]}
    homes = {f: getattr(community.prosumers, f) for f in community.prosumers.__dataclass_fields__}
    homes |= {"battery": Battery(**values), "curtailment_cost": 7 * homes["curtailment_cost"]}
    big = Community(prosumers=Prosumers(**homes), market=big.market, network=big.network)
    fields = {f: getattr(horizon, f) for f in horizon.__dataclass_fields__}
    fields |= {f: 50 * fields[f] for f in ("load", "pv")}
    fields |= {f: 7 * fields[f] for f in ("price_buy", "price_sell")}
    one, other = solve(community, horizon), solve(big, Horizon(**fields), 0.7)
    assert other.objective_eur == pytest.approx(350 * one.objective_eur, rel=1e-6)
    np.testing.assert_allclose(other.trajectory.energy.sum(), 50 * one.trajectory.energy.sum(), rtol=1e-3)


def test_too_few_rounds_leave_a_lower_bound():
    community, horizon = case(8, slots=24, network=True, fee=0.02)
    early, found = solve(community, horizon, max_rounds=1), solve(community, horizon)
    assert early.status == "MaxRounds"
    assert early.is_lower_bound
    assert early.objective_eur < found.objective_eur
    assert found.status == "Solved"
    assert found.rounds > 1
