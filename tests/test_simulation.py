"""Whole days: limits, balances and bookkeeping of every policy, and one trace for all of them."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from communities import small

from jaxp2p.control.catalogue import POLICIES
from jaxp2p.control.policy import Policy, suggest_penalties
from jaxp2p.control.rules import community_meter, own_meter
from jaxp2p.model.trajectory import Trajectory
from jaxp2p.runs.runner import make_policies, run
from jaxp2p.simulation import forward as simulation
from jaxp2p.slot.admm.method import ADMM

pytestmark = pytest.mark.slow

ONLINE = [name for name in POLICIES if name != "perfect_foresight"]
CASES = [("rural3", "bilateral"), ("rural1", "pool"), ("ieee33", "none")]


@pytest.fixture(scope="module", params=CASES, ids=[f"{case}-{market}" for case, market in CASES])
def day(request):
    case, market = request.param
    kwargs = {"homes": 40} if case == "ieee33" else {}
    community, horizon = small(case, market=market, dtype="float32", **kwargs)
    return community, horizon, run(community, horizon, lower_bound=False)


@pytest.mark.parametrize("name", POLICIES)
def test_a_day_keeps_every_limit_and_balance(day, name):
    community, horizon, result = day
    t, battery = result.trajectories[name], community.prosumers.battery
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(t))
    moves = np.asarray(battery.charge_max) > 0
    lower, upper = np.asarray(battery.energy_min), np.asarray(battery.energy_max)
    assert (t.energy[:, moves] >= lower[moves] - 1e-6).all()
    assert (t.energy[:, moves] <= upper[moves] + 1e-6).all()
    balance = t.injection - (t.sell - t.buy + t.trade - t.unserved)
    assert np.abs(balance).max() < 5e-5
    np.testing.assert_allclose(t.injection, t.pv_used - t.load + t.discharge - t.charge, atol=5e-5)
    assert (t.pv_used <= np.asarray(horizon.pv) + 1e-5).all()
    assert np.abs(t.trade.sum(1)).max() < 1e-3  # what is sold is bought
    assert np.abs(t.payment.sum(1)).max() < 1e-3  # and paid once
    assert (np.minimum(t.charge, t.discharge) < 1e-3).all()
    dt = float(horizon.slot_hours)
    before = np.concatenate([np.asarray(battery.energy_start)[None], t.energy[:-1]])
    moved = t.charge * np.asarray(battery.charge_efficiency) - t.discharge / np.asarray(
        battery.discharge_efficiency
    )
    np.testing.assert_allclose(t.energy, before * np.asarray(battery.retention) + dt * moved, atol=1e-4)


def test_no_online_policy_beats_perfect_foresight(day):
    community, _, result = day
    start = np.asarray(community.prosumers.battery.energy_start, float)
    for name in ONLINE:
        t = result.trajectories[name]
        if t.violation.max() > 0.05:
            continue
        worth = result.terminal_price * (np.asarray(t.energy[-1], float) - start).sum()
        cost = np.asarray(t.cost, float).sum() - worth
        assert cost >= result.perfect_foresight_eur - 1e-3 * abs(result.perfect_foresight_eur), name


def test_market_prices_stay_within_the_tariffs(day):
    _, horizon, result = day
    t = result.trajectories["lyapunov"]
    assert (t.market_price >= np.asarray(horizon.price_sell)[:, None] - 1e-6).all()
    assert (t.market_price <= np.asarray(horizon.price_buy)[:, None] + 1e-6).all()


def test_every_policy_runs_through_one_trace():
    community, horizon = small("rural1", dtype="float32")
    traced = jax.jit(chex.assert_max_traces(simulation.simulate, n=1))
    penalties = suggest_penalties(horizon)
    for name, policy in make_policies(community, horizon).items():
        for scale in (1.0, 2.0):
            _, t = traced(community, horizon, penalties, policy, ADMM(eps_rel=scale * 1e-3))
            assert t.energy.dtype == jnp.float32, name


def test_wild_parameters_never_leave_the_limits():
    """The safety of a tuned controller: theta and V at random, theta changing over the day."""
    community, horizon = small("rural1", pv_scale=2.0, dtype="float32")
    battery, size = community.prosumers.battery, community.size
    draw = np.random.default_rng(0)
    base = make_policies(community, horizon)["lyapunov"]
    wild = {
        "theta": jnp.asarray(draw.normal(0, 200, (24, size)), jnp.float32),
        "inverse_v": jnp.asarray(np.exp(draw.normal(-2, 3, size)), jnp.float32),
        "rest_value": jnp.asarray(draw.normal(0, 1, size), jnp.float32),
    }
    policy = Policy(**(base.__dict__ | wild))
    _, t = jax.jit(simulation.simulate)(community, horizon, suggest_penalties(horizon), policy, ADMM())
    assert bool(jnp.all(jnp.isfinite(t.energy)))
    assert bool(jnp.all(t.energy <= battery.energy_max[None] + 1e-4))
    moves = battery.charge_max > 0
    assert bool(jnp.all(jnp.where(moves[None], t.energy - battery.energy_min[None], 0) >= -1e-4))
    assert float(jnp.max(jnp.minimum(t.charge, t.discharge))) < 1e-3


def test_batched_over_policies_equals_one_by_one():
    community, horizon = small("rural1")
    penalties, known = suggest_penalties(horizon), make_policies(community, horizon)
    chosen = [known[name] for name in ("no_storage", "lyapunov", "self_consumption")]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *chosen)
    short = horizon.slice(40, 52)
    once = lambda policy: simulation.simulate(community, short, penalties, policy, ADMM())[1]
    batch = jax.jit(jax.vmap(once))(stacked)
    for s, policy in enumerate(chosen):
        one = jax.jit(once)(policy)
        np.testing.assert_allclose(batch.injection[s], one.injection, atol=0.05)
        np.testing.assert_allclose(batch.cost[s].sum(), one.cost.sum(), rtol=1e-3, atol=1e-3)


def test_a_run_can_be_continued_and_stores_what_is_asked():
    community, horizon = small("rural1")
    penalties, policy = suggest_penalties(horizon), make_policies(community, horizon)["lyapunov"]
    advance = jax.jit(simulation.simulate, static_argnames="keep")
    _, whole = advance(community, horizon.slice(0, 48), penalties, policy, ADMM())
    state, _ = advance(community, horizon.slice(0, 24), penalties, policy, ADMM())
    _, second = advance(
        community, horizon.slice(24, 48), penalties, policy, ADMM(), state=state, keep=("energy", "status")
    )
    np.testing.assert_allclose(second.energy, whole.energy[24:], atol=1e-6)
    assert [f for f in Trajectory._fields if getattr(second, f) is not None] == ["energy", "status"]


def test_rules_follow_the_meter():
    load, pv = jnp.array([1.0, 2.0, 0.5]), jnp.array([3.0, 0.0, 0.5])
    limit = jnp.array([1.5, 0.5, 1.0])
    charge, discharge = own_meter(load, pv, limit, limit)
    np.testing.assert_allclose(charge, [1.5, 0, 0])
    np.testing.assert_allclose(discharge, [0, 0.5, 0])
    charge, discharge = community_meter(load, pv, limit, limit)
    np.testing.assert_allclose(discharge, np.zeros(3))
    np.testing.assert_allclose(charge, [0, 0, 0])  # surplus and deficit cancel in the community
    charge, _ = community_meter(load, pv + 1, limit, limit)
    np.testing.assert_allclose(charge, np.asarray(limit) * 3.0 / 3.0)
