"""What the prices of network rows mean: against the optimum with a kvar more, and in every column."""

from dataclasses import replace
from types import SimpleNamespace

import clarabel
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

import jaxp2p as jp
from jaxp2p.data import load_case
from jaxp2p.model.network import Base
from jaxp2p.simulation.row_prices import columns, price_parts, reactive_price
from jaxp2p.slot import execute, solvers
from jaxp2p.slot.newton.method import Newton
from jaxp2p.slot.qp import to_qp
from jaxp2p.slot.status import Status


def optimum(problem, base, community):
    """(EUR, result) of a slot whose rows are those of this base."""
    offset, lower, upper = community.feeder.limits(community.network, base)
    posed = replace(problem, row_offset=offset, row_lower=lower, row_upper=upper)
    solver = Newton(eps_gap=1e-11)
    outcome = jax.jit(lambda p: solvers.executed(p, solvers.solve(p, solver, solvers.init(p, solver))))(posed)
    d = outcome.dispatch
    cost = jnp.sum(execute.slot_cost(posed, d) + execute.storage_drift(posed, d))
    return float(cost), outcome


def slack_and(share, case):
    """p.u.: so much of the way from the slack's voltage to what all PV of the day makes at most."""
    network, slack = case.community.network, float(case.community.network.slack_voltage)
    at_bus = network.at_buses(case.horizon.pv, case.community.prosumers.bus)
    highest = float(network.state(case.horizon.grid_base, at_bus).voltage.max())
    return slack + share * (highest - slack)


@pytest.mark.parametrize("ratings", [1.0, 0.25], ids=["voltages", "branches"])
def test_a_kvar_is_worth_what_it_saves(ratings):
    """rural1 in the sun, PV times 3: its voltages bind, or with smaller ratings its transformer."""
    options = {"days": 1, "start": "2016-07-04", "market": "pool", "secure": False, "dtype": "float64"}
    case = jp.build(load_case("rural1", pv_scale=3.0), **options)
    network = case.community.network
    highest = slack_and(0.4, case) if ratings == 1 else 1.5
    limited = replace(
        network,
        voltage_max=jnp.full_like(network.voltage_max, highest),
        rating=network.rating * (100 if ratings == 1 else ratings),
    )
    community, slot = replace(case.community, network=limited), 60
    base = Base.of(jax.tree.map(lambda x: x[slot] if x.ndim else x, case.horizon))
    problem = case.slot(slot)
    _, found = optimum(problem, base, community)
    assert int(found.status) == Status.SOLVED and float(jnp.abs(found.dispatch.row_price).max()) > 0.01
    worth = reactive_price(community, base, found.dispatch.row_price)
    assert float(jnp.abs(worth).max()) > 1e-5
    buses = np.asarray(community.prosumers.bus)
    for home in (0, len(buses) // 2, len(buses) - 1):
        step = 0.05
        given = jnp.zeros(network.buses).at[buses[home]].set(step)
        more, less = (optimum(problem, limited.supported(base, q), community)[0] for q in (given, -given))
        saved = -(more - less) / (2 * step) / float(problem.slot_hours)
        assert float(worth[home]) == pytest.approx(saved, rel=2e-3, abs=2e-6)


def test_parts_add_up_to_the_difference_of_the_prices():
    case = jp.build(
        load_case("rural1", pv_scale=2.5), days=1, start="2016-07-04", market="pool", reactive="market"
    )
    done = jp.run(case, policies=("lyapunov",), lower_bound=False)
    trajectory = done.trajectory("lyapunov")
    parts = jax.vmap(lambda price: price_parts(case.community, price))(trajectory.row_price)
    off = np.asarray(parts.voltage + parts.branch)
    difference = np.asarray(trajectory.market_price) - np.asarray(trajectory.nodal_price)
    # devices on a jump answer to a price next to their own, batteries to one that keeps power from jumping
    others = ~np.asarray(case.community.prosumers.battery.owned)
    np.testing.assert_allclose(off[:, others], difference[:, others], atol=1e-4)
    assert np.abs(off).max() > 0.01 and np.abs(off - difference).max() < 0.005
    homes = done.homes("lyapunov")
    np.testing.assert_allclose(
        homes["voltage_price_eur_per_kwh"] + homes["branch_price_eur_per_kwh"], off.ravel(), atol=1e-7
    )
    assert homes["reactive_price_eur_per_kvarh"].abs().max() > 0


def test_by_hand():
    """Two buses behind one another: 2 x of 0.002 and 0.004 per kvar; Q of 3 in a rating of 5 leaves 4."""
    feeder = SimpleNamespace(
        rows=2,
        scale=jnp.array([0.004, 1.0]),
        voltage_bus=np.array([2]),
        flow_branch=np.array([0]),
        bus_price=lambda y: y @ jnp.array([[0.5, 1.0], [1.0, 1.0]]),
        at_homes=lambda at_bus, homes: at_bus,
    )
    double_x = jnp.array([[0.0, 0, 0], [0, 0.002, 0.002], [0, 0.002, 0.004]])
    network = SimpleNamespace(
        buses=3,
        branches=2,
        rating=jnp.array([5.0, jnp.inf]),
        lift_transposed=lambda price: price @ double_x,
        through_transposed=lambda price: price @ jnp.array([[0.0, 1, 1], [0, 0, 1]]),
    )
    homes = SimpleNamespace(bus=jnp.array([1, 2]))
    community = SimpleNamespace(feeder=feeder, network=network, prosumers=homes, size=2)
    base = SimpleNamespace(reactive=jnp.array([3.0, 0.0]))
    price = jnp.array([0.1, -0.2])  # at the upper limit of bus 2, and importing as much as goes
    # voltage: 0.1 / 0.004 times 0.002 and 0.004; transformer: 0.2 times 3 / 4
    np.testing.assert_allclose(reactive_price(community, base, price), [-0.05 - 0.15, -0.1 - 0.15], rtol=1e-6)
    parts = price_parts(community, price)
    np.testing.assert_allclose(parts.voltage, [0.05, 0.1], rtol=1e-6)
    np.testing.assert_allclose(parts.branch, [-0.2, -0.2], rtol=1e-6)
    assert columns(community, base, None) == {}


def duals_of(program):
    """x, and (rows,) the price of every two-sided row, above 0 at an upper limit, by Clarabel."""
    given = program.boxed()
    bounded = [np.isfinite(given.upper), np.isfinite(given.lower)]
    rows = sp.vstack([given.A[bounded[0]], -given.A[bounded[1]]], format="csc")
    bound = np.concatenate([given.upper[bounded[0]], -given.lower[bounded[1]]])
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-11
    cone = [clarabel.NonnegativeConeT(len(bound))]
    upper = sp.triu(given.P, format="csc")
    solution = clarabel.DefaultSolver(upper, given.q, rows, bound, cone, settings).solve()
    price, z, split = np.zeros(len(given.upper)), np.array(solution.z), bounded[0].sum()
    price[bounded[0]] += z[:split]
    price[bounded[1]] -= z[split:]
    return np.array(solution.x), price


@pytest.mark.parametrize(("number", "stored", "tight"), [(40, 0.6, False), (53, 1.0, True), (80, 0.6, False)])
def test_prices_are_the_duals_of_an_independent_solver(number, stored, tight):
    """Clarabel on the slot as a QP; in the second the transformer is full, and plants are curtailed in part:

    the price at their buses is 0, and no other dual of the limit fits.
    """
    tables = load_case("rural1", pv_scale=2.0)
    case = jp.build(tables, days=1, start="2016-07-05", market="pool", secure=False, dtype="float64")
    problem = case.slot(number, energy=stored * case.community.prosumers.battery.energy_max)
    solver = Newton(eps_gap=1e-10)
    outcome = solvers.solve(problem, solver, solvers.init(problem, solver))
    d = solvers.executed(problem, outcome).dispatch
    program = to_qp(problem)
    x, price = duals_of(program)
    rows = price[program.rows["network_upper"]] + price[program.rows["network_lower"]]
    np.testing.assert_allclose(rows, d.row_price, atol=1e-4)
    assert (float(jnp.abs(d.row_price).max()) > 0.05) == tight
    # who deals with the utility or trades has one price, whoever is idle any between
    busy = np.abs(x[program.blocks["injection"]]) > 1e-3
    found, ours = price[program.rows["balance"]], np.asarray(d.market_price)
    off = np.minimum(np.abs(found - ours), np.abs(found + ours))
    assert off[busy].max() < 1e-4 and busy.sum() > 10
