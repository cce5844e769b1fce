"""A market that is secure in AC: limits held in the power flow of every dispatch, and said where none can."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxp2p as jp
from jaxp2p.control.policy import greedy
from jaxp2p.model.network import AC_LOADING, on_host
from jaxp2p.runs.runner import make_policies, penalties_of
from jaxp2p.scenarios.parse import parse_model
from jaxp2p.simulation import secure
from jaxp2p.simulation.flows import power_flow_of
from jaxp2p.simulation.forward import Schedule, simulate_in_pieces, slots
from jaxp2p.simulation.step import at_start, pose
from jaxp2p.slot import solvers
from jaxp2p.slot.newton.method import Newton
from jaxp2p.slot.solvers import choose_solver
from jaxp2p.slot.status import Status
from jaxp2p.studies.engine import Task, run_batch

EVENING = slice(80, 92)  # of the winter day: three hours in which the transformer is the limit


def village(**options):
    """An evening in January at which batteries charge as far as the transformer lets them."""
    case = jp.build("rural1", start="2016-01-11", days=1, market="pool", **options)
    return case, case.horizon.slice(EVENING.start, EVENING.stop)


def cleared(case, horizon, policy="lyapunov", **options):
    policies = make_policies(case.community, case.horizon)
    given = case.community, horizon, penalties_of(case.horizon), policies[policy]
    return simulate_in_pieces(*given, choose_solver(case.community), **options)


def loading(case, horizon, done):
    """(T,) of the fullest branch in AC, in float64 on the host."""
    community, base = on_host(case.community), on_host(horizon.grid_base)
    return power_flow_of(
        community, base, *(np.asarray(x, float) for x in (done.injection, done.pv_used))
    ).loading.max(1)


def narrowed(network, share):
    """The network with ratings so many times as large."""
    return replace(network, rating=jnp.where(jnp.isfinite(network.rating), share * network.rating, jnp.inf))


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_what_the_linear_limits_let_pass_is_kept_in_ac_and_nothing_is_given_away(dtype):
    found = {}
    for mode in (False, True):
        case, horizon = village(secure=mode, dtype=dtype)
        found[mode] = cleared(case, horizon), horizon
        found[mode] += (loading(case, horizon, found[mode][0]),)
    (linear, _, before), (done, _, after) = found[False], found[True]
    again = done.rounds > 1
    assert before.max() > 1.02 and after.max() <= 1 + AC_LOADING
    np.testing.assert_array_equal(again, before > 1 + AC_LOADING)
    assert np.all(after[again] > 1 - 2 * AC_LOADING)  # the limit is used, not avoided
    assert np.all(done.status == Status.SOLVED) and np.all(linear.rounds == 1)
    # before anything is mended the two are one
    first = int(np.argmax(again))
    np.testing.assert_array_equal(done.injection[:first], linear.injection[:first])
    assert np.median(done.rounds[again]) <= 3


def test_a_limit_that_nobody_can_keep_is_named_and_not_tried_for_long():
    case, horizon = village(secure=True)
    network = case.community.network
    case = replace(case, community=replace(case.community, network=narrowed(network, 0.2)))
    idle = cleared(case, horizon, "no_storage")
    over = loading(case, horizon, idle) - 1 > 2 * AC_LOADING
    assert over.sum() >= 8 and np.all(idle.status[over] == Status.NETWORK_VIOLATED)
    assert np.all(idle.rounds[over] <= secure.PATIENCE) and np.all(idle.violation[over] > 0)


def test_orders_that_break_a_limit_are_followed_and_said_to_be_insecure():
    """Charging is ordered from outside, so no price of the market helps: the status is not SOLVED."""
    case, horizon = village(secure=True)
    battery = case.community.prosumers.battery
    full = jnp.broadcast_to(battery.charge_max, horizon.load.shape)
    given = case.community, horizon, penalties_of(case.horizon), greedy(case.size, jnp.float32)
    orders = Schedule(charge=full, discharge=jnp.zeros_like(full))
    done = simulate_in_pieces(*given, choose_solver(case.community), schedule=orders)
    over = loading(case, horizon, done) > 1 + 1.5 * AC_LOADING
    assert over.any()
    assert np.all(np.isin(done.status[over], (Status.NETWORK_VIOLATED, Status.NOT_SECURE)))


@pytest.mark.slow
def test_engines_and_runs_agree_slot_by_slot():
    case, horizon = village(secure=True)
    solver, policies = choose_solver(case.community), make_policies(case.community, case.horizon)
    task = Task(
        community=case.community,
        horizon=horizon,
        model=parse_model("none", horizon=horizon, community=case.community),
        penalties=penalties_of(case.horizon),
        policy=policies["lyapunov"],
        solver=solver,
        key=jax.random.key(0),
        first_slot_of_week=jnp.int32(0),
        slots=horizon.slots,
    )
    run = cleared(case, horizon)
    for engine, lanes in (("lockstep", 1), ("free_running", 2)):
        series = run_batch(task, jnp.arange(3, dtype=jnp.int32), engine=engine, lanes=lanes).series
        for scenario in range(3):
            np.testing.assert_array_equal(series.rounds[scenario], run.rounds)
            np.testing.assert_allclose(series.import_kw[scenario], run.buy.sum(1), atol=2e-2)
        assert np.max(series.ac_loading_violation) <= AC_LOADING
        losses = power_flow_of(
            on_host(case.community),
            on_host(horizon.grid_base),
            *(np.asarray(x, float) for x in (run.injection, run.pv_used)),
        ).losses
        np.testing.assert_allclose(series.ac_losses_kw[0], losses, atol=1e-3)


@pytest.mark.long
@pytest.mark.slow
def test_a_study_of_a_linear_market_has_the_same_power_flows_in_both_engines():
    case, horizon = village(secure=False)
    policies = make_policies(case.community, case.horizon)
    task = Task(
        community=case.community,
        horizon=horizon,
        model=parse_model("none", horizon=horizon, community=case.community),
        penalties=penalties_of(case.horizon),
        policy=policies["lyapunov"],
        solver=choose_solver(case.community),
        key=jax.random.key(0),
        first_slot_of_week=jnp.int32(0),
        slots=horizon.slots,
    )
    found = [
        run_batch(task, jnp.arange(2, dtype=jnp.int32), engine=engine).series
        for engine in ("lockstep", "free_running")
    ]
    worst = loading(case, horizon, cleared(case, horizon)) - 1
    for series in found:
        np.testing.assert_allclose(series.ac_loading_violation[1], np.maximum(worst, 0), atol=1e-4)
        assert np.all(series.ac_unsolved == 0) and np.max(series.ac_loading_violation) > 0.02


@pytest.mark.long
@pytest.mark.slow
def test_a_secure_slot_has_a_derivative():
    """Of what batteries charge beside a full transformer, by the load of everybody: against differences."""
    case, horizon = village(secure=True, dtype="float64")
    battery = case.community.prosumers.battery
    homes = replace(case.community.prosumers, battery=replace(battery, energy_start=battery.energy_min))
    network = narrowed(case.community.network, 0.5)
    community, solver = replace(case.community, prosumers=homes, network=network), Newton(eps_gap=1e-10)
    policy, penalties = make_policies(community, case.horizon)["lyapunov"], penalties_of(case.horizon)
    slot = jax.tree.map(lambda x: x[4], slots(horizon))
    asked = pose(community, penalties, policy, slot, at_start(community, slot), jnp.asarray(4), None)

    def charged(factor, adjoint="implicit"):
        load = {name: getattr(asked.problem, name) * factor for name in ("load", "load_min", "load_max")}
        problem = replace(asked.problem, **load)
        given = community, asked.grid, problem, solver, solvers.init(problem, solver)
        found = secure.solve(*given, adjoint=adjoint)
        return jnp.sum(solvers.executed(found.problem, found.outcome).dispatch.charge)

    step = 1e-3
    value, slope = jax.jit(jax.value_and_grad(charged))(1.0)
    ends = [float(jax.jit(charged, static_argnums=1)(1 + h, None)) for h in (step, -step)]
    difference = (ends[0] - ends[1]) / (2 * step)
    assert 0 < value < float(jnp.sum(battery.charge_max)) and difference < -1  # more load leaves less
    assert float(slope) == pytest.approx(difference, rel=0.03)  # the offsets are held
