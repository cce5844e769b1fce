"""The price of losses: a derivative of AC power flows, in a slot as any solver sees it, and in the bills."""

from dataclasses import replace

import clarabel
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

import jaxp2p as jp
from jaxp2p.model.network import on_host
from jaxp2p.report.kpis import evaluate
from jaxp2p.runs.runner import make_policies, penalties_of, run
from jaxp2p.scenarios.parse import parse_model
from jaxp2p.simulation import accounting
from jaxp2p.simulation.flows import loss_shares, power_flow_of
from jaxp2p.simulation.forward import simulate_in_pieces
from jaxp2p.slot import execute, solvers
from jaxp2p.slot.qp import to_qp
from jaxp2p.slot.solvers import choose_solver
from jaxp2p.slot.status import Status
from jaxp2p.studies.engine import Task, run_batch

EVENING = slice(72, 80)


def feeder(losses="marginal", **options):
    """An evening on the 33 buses, where losses are a tenth of what is bought."""
    options = {"start": "2016-05-23", "days": 1, "market": "pool", "dtype": "float64"} | options
    case = jp.build("ieee33", losses=losses, **options)
    return case, case.horizon.slice(EVENING.start, EVENING.stop)


@pytest.mark.parametrize("reactive", ["unity", "cos_phi", "volt_var"])
def test_the_share_of_losses_is_their_derivative(reactive):
    case, horizon = feeder(reactive=reactive, start="2016-06-20", volt_var=(0.95, 0.99, 1.0, 1.02))
    community, draw = case.community, np.random.default_rng(1)
    homes = community.prosumers
    base = jax.tree.map(lambda x: x[0], horizon.grid_base)
    used = jnp.asarray(np.asarray(homes.pv_peak) * 0.6)
    injection = jnp.asarray(draw.uniform(-20, 20, community.size))
    flow = power_flow_of(community, base, injection, used)
    found = loss_shares(community, base, injection, used, flow)
    for home in np.flatnonzero(np.asarray(community.moving))[[0, 7, -1]]:
        ends = [
            float(power_flow_of(community, base, injection.at[home].add(step), used).losses)
            for step in (1e-2, -1e-2)
        ]
        assert float(found[home]) == pytest.approx((ends[0] - ends[1]) / 2e-2, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("market", ["pool", pytest.param("bilateral", marks=pytest.mark.slow)])
def test_a_slot_with_a_price_of_losses_agrees_with_an_independent_solver(market):
    case, _ = feeder(market=market)
    posed = case.slot(EVENING.start)
    draw = np.random.default_rng(2)
    problem = replace(posed, loss_price=jnp.asarray(draw.uniform(-0.04, 0.02, case.size)))
    solver = choose_solver(case.community)
    outcome = solvers.solve(problem, solver, solvers.init(problem, solver))
    result = solvers.executed(problem, outcome)
    d = result.dispatch
    assert int(result.status) == Status.SOLVED
    cost = execute.slot_cost(problem, d) + execute.storage_drift(problem, d)
    value = float(jnp.sum(cost + problem.slot_hours * problem.loss_price * d.injection))

    qp = to_qp(problem).boxed()
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    fixed, up, low = qp.lower == qp.upper, np.isfinite(qp.upper), np.isfinite(qp.lower)
    up, low = up & ~fixed, low & ~fixed
    rows = sp.vstack([qp.A[fixed], qp.A[up], -qp.A[low]], format="csc")
    limits = np.concatenate([qp.lower[fixed], qp.upper[up], -qp.lower[low]])
    cones = [clarabel.ZeroConeT(int(fixed.sum())), clarabel.NonnegativeConeT(int(up.sum() + low.sum()))]
    answer = clarabel.DefaultSolver(qp.P, qp.q, rows, limits, cones, settings).solve()
    assert str(answer.status) == "Solved"
    best = float(problem.slot_hours) * (answer.obj_val + qp.offset)
    assert abs(value - best) <= 1e-3 * float(result.gap_scale)
    assert value - best <= float(result.gap) + 1e-6
    without = solvers.executed(posed, solvers.solve(posed, solver, solvers.init(posed, solver)))
    assert np.abs(np.asarray(without.dispatch.injection - d.injection)).max() > 0.1


def test_losses_with_a_price_are_fewer_and_the_money_closes():
    found = {}
    for rule in ("shared", "marginal"):
        case, horizon = feeder(rule)
        made = run(case.community, horizon, policies=("no_storage", "lyapunov"))
        found[rule] = case, horizon, made, evaluate(case.community, horizon, made)["lyapunov"]
    case, horizon, made, priced = found["marginal"]
    done = made.trajectories["lyapunov"]
    assert np.all(done.status == Status.SOLVED) and np.all(done.rounds == 2)
    plain = found["shared"][3].kpis
    assert priced.kpis["cost_with_losses_eur"] < plain["cost_with_losses_eur"] - 0.02
    assert priced.kpis["ac_losses_kwh"] < plain["ac_losses_kwh"]
    # c dL/dp at the dispatch before is nearly that at the dispatch itself
    community, slot = case.community, 3
    base = jax.tree.map(lambda x: x[slot], horizon.grid_base)
    given = jnp.asarray(done.injection[slot]), jnp.asarray(done.pv_used[slot])
    flow = power_flow_of(community, base, *given)
    imported = (done.buy[slot] - done.sell[slot]).sum() + float(flow.losses)
    price = horizon.price_buy[slot] if imported > 0 else horizon.price_sell[slot]
    np.testing.assert_allclose(
        done.loss_price[slot], price * loss_shares(community, base, *given, flow), rtol=0.1, atol=1e-4
    )
    idle = made.trajectories["no_storage"]
    np.testing.assert_allclose(idle.nodal_price, idle.market_price - idle.loss_price, atol=1e-9)
    # every member pays its own first, and all together what is bought
    losses = priced.grid.ac_losses
    bill = accounting.losses_by_member(horizon, done, losses).sum(0)
    assert bill.sum() == pytest.approx(accounting.losses_cost(horizon, done, losses).sum(), rel=1e-12)
    hours, size = float(horizon.slot_hours), np.abs(done.injection)
    own = hours * done.loss_price * done.injection
    rest = accounting.losses_cost(horizon, done, losses) - own.sum(1)
    np.testing.assert_allclose(bill, (own + rest[:, None] * size / size.sum(1, keepdims=True)).sum(0))
    assert priced.kpis["losses_eur"] == pytest.approx(bill.sum())


@pytest.mark.parametrize(
    ("options", "words"), [({"secure": False}, "secure"), ({"network": False}, "secure")]
)
def test_a_price_of_losses_needs_a_secure_market(options, words):
    with pytest.raises(ValueError, match=words):
        jp.build("rural1", days=1, losses="marginal", **options)
    with pytest.raises(ValueError, match="choose from shared, marginal"):
        jp.build("rural1", days=1, losses="average")


@pytest.mark.slow
@pytest.mark.long  # test_secure holds engines and a run against each other as well
def test_engines_price_losses_as_a_run_does():
    case, horizon = feeder(dtype="float32")
    solver, policy = choose_solver(case.community), make_policies(case.community, case.horizon)["lyapunov"]
    done = simulate_in_pieces(case.community, horizon, penalties_of(case.horizon), policy, solver)
    task = Task(
        community=case.community,
        horizon=horizon,
        model=parse_model("none", horizon=horizon, community=case.community),
        penalties=penalties_of(case.horizon),
        policy=policy,
        solver=solver,
        key=jax.random.key(0),
        first_slot_of_week=jnp.int32(0),
        slots=horizon.slots,
    )
    whole, base = on_host(case.community), on_host(horizon.grid_base)
    losses = power_flow_of(
        whole, base, *(np.asarray(x, float) for x in (done.injection, done.pv_used))
    ).losses
    for engine, lanes in (("lockstep", 1), ("free_running", 2)):
        series = run_batch(task, jnp.arange(2, dtype=jnp.int32), engine=engine, lanes=lanes).series
        np.testing.assert_array_equal(series.rounds[1], done.rounds)
        np.testing.assert_allclose(series.ac_losses_kw[1], losses, rtol=2e-3)
