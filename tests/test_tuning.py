"""Tuning: derivatives against finite differences, safety for any weights, resume, the controller file."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from communities import small
from random_slots import random_slot

from jaxp2p import simulation
from jaxp2p.lyapunov.bounds import lyapunov_parameters
from jaxp2p.lyapunov.tuned import FEATURES
from jaxp2p.newton import adjoint, solver
from jaxp2p.newton.solver import Newton
from jaxp2p.policy import follow, lyapunov, suggest_penalties
from jaxp2p.runner import price_bounds
from jaxp2p.slot import execute
from jaxp2p.tuning.controller_file import read_controller, write_controller
from jaxp2p.tuning.reduce import decisive, without_network
from jaxp2p.tuning.train import Settings, Window, start_value, tune, window_cost

EXACT = Newton(eps_gap=1e-13, eps_flow=1e-9, eps_voltage=1e-12, max_iter=5000)
LEAVES = ("value", "value_slope", "price_buy", "price_sell", "load", "pv_max", "charge_max", "row_upper")
TINY = Settings(steps=6, knots=4, pieces=2, features=("one", "price", "load_mean"))


def measured(leaves, problem, solve):
    """A number that depends on everybody's dispatch."""
    problem = replace(problem, **leaves)
    d = execute.dispatch(problem, solve(problem, EXACT, solver.init(problem)).answer)
    weight = jnp.cos(jnp.arange(d.injection.shape[0], dtype=d.injection.dtype))
    return jnp.sum(execute.slot_cost(problem, d)) + 0.1 * jnp.sum(weight * (d.charge - d.discharge))


@pytest.mark.parametrize("seed", [7, 26])
def test_a_slot_has_the_derivative_of_finite_differences(seed):
    problem = random_slot(seed, dtype=jnp.float64)
    owner = problem.charge_max + problem.discharge_max > 0
    steep = jnp.where(owner, jnp.maximum(problem.value_slope, 0.02), 0)
    problem = replace(
        problem, value_slope=steep, price_buy=jnp.maximum(problem.price_buy, problem.price_sell + 0.1)
    )
    leaves = {name: getattr(problem, name) for name in LEAVES if getattr(problem, name).size}
    gradient = jax.jit(jax.grad(lambda x: measured(x, problem, adjoint.solve)))(leaves)
    value = jax.jit(lambda x: measured(x, problem, solver.solve))
    compared = 0
    for name, at in leaves.items():
        direction = jnp.where(at != 0, jax.random.normal(jax.random.key(seed), at.shape), 0)
        moved = lambda h, name=name, at=at, d=direction: float(value({**leaves, name: at + h * d}))
        here, h = float(value(leaves)), 1e-5
        right, left = (moved(h) - here) / h, (here - moved(-h)) / h
        if abs(right - left) > 1e-3 * (1 + abs(right)):
            continue  # a kink within the step
        compared += 1
        found = float(jnp.sum(gradient[name] * direction))
        assert found == pytest.approx((right + left) / 2, rel=2e-3, abs=2e-3), name
    assert compared >= 4


def test_a_day_has_the_derivative_of_finite_differences():
    community, horizon = small("rural3", network=False, price="tou_noise")
    low, high = price_bounds(horizon)
    start = lyapunov(lyapunov_parameters(community.prosumers.battery, low, high, horizon.slot_hours))
    penalties = suggest_penalties(horizon)
    theta = jnp.broadcast_to(start.theta, (96, community.size))
    direction = 0.1 * jax.random.normal(jax.random.key(0), theta.shape)

    def cost(along, adjoint):
        policy = replace(start, theta=theta + along * direction)
        state, run = simulation.simulate(
            community, horizon, penalties, policy, EXACT, keep=("cost",), adjoint=adjoint
        )
        return jnp.sum(run.cost) - 0.2 * jnp.sum(state.energy)

    value, h = jax.jit(lambda x: cost(x, None)), 1e-3
    numeric = (value(jnp.asarray(h)) - value(jnp.asarray(-h))) / (2 * h)
    assert float(jax.jit(jax.grad(lambda x: cost(x, "implicit")))(jnp.zeros(()))) == pytest.approx(
        float(numeric), rel=5e-3
    )


def test_the_start_is_the_certified_controller():
    community, horizon = small("rural3", network=False, price="tou_noise")
    low, high = price_bounds(horizon)
    certified = lyapunov(lyapunov_parameters(community.prosumers.battery, low, high, horizon.slot_hours))
    tuned = follow(start_value(Window(community, horizon, 0), TINY), horizon.load.dtype)
    stored = [
        simulation.simulate(community, horizon, suggest_penalties(horizon), policy, EXACT, keep=("energy",))[
            1
        ].energy
        for policy in (certified, tuned)
    ]
    np.testing.assert_allclose(*stored, atol=1e-3)


def test_the_reduced_community_costs_the_same():
    community, horizon = without_network(*small("rural3", price="tou_noise"))
    reduced, summed, own = decisive(community, horizon)
    assert reduced.size == len(own) + 2 < community.size
    value = start_value(Window(community, horizon, 0), TINY)
    cost = window_cost(Window(community, horizon, 0), 0.2, value, adjoint=None)
    group = jnp.zeros((reduced.size,), jnp.int32)
    less = window_cost(Window(reduced, summed, 0), 0.2, replace(value, group=group), adjoint=None)
    assert float(less) == pytest.approx(float(cost), rel=1e-3)


def test_no_weights_break_a_battery():
    community, horizon = small("rural1")
    value = start_value(Window(community, horizon, 0), TINY)
    wild = jax.random.normal(jax.random.key(1), value.level.shape) * 50
    value = replace(value, level=wild, drop=wild[:, : TINY.pieces] * 3)
    policy = follow(value, horizon.load.dtype)
    _, run = simulation.simulate(community, horizon, suggest_penalties(horizon), policy, Newton())
    battery = community.prosumers.battery
    assert bool(jnp.all(jnp.isfinite(run.cost)))
    energy = np.asarray(run.energy)
    assert (energy - np.asarray(battery.energy_max)).max() <= 1e-9
    assert (energy - np.asarray(battery.energy_min)).min() >= -1e-9


@jax.numpy_dtype_promotion("standard")  # optax counts steps in int32 and divides
def test_tuning_gains_and_resumes_to_the_same(tmp_path):
    community, horizon = small("rural3", network=False, price="tou_noise", dtype="float32")
    about = {"terminal_price": 0.2, "best_eur": 150.0, "possible_saving_eur": 80.0}
    whole = tune(community, horizon, settings=TINY, **about)
    assert whole.history[-1].cost_eur < whole.history[0].cost_eur - 1

    class Stop(Exception):
        pass

    def stop(progress):
        if progress.step == 3:
            raise Stop

    part = tmp_path / "part.npz"
    import jaxp2p.tuning.train as train

    every, train.CHECK_EVERY = train.CHECK_EVERY, 2
    try:
        with pytest.raises(Stop):
            tune(community, horizon, settings=TINY, checkpoint=part, told=stop, **about)
        again = tune(community, horizon, settings=TINY, checkpoint=part, **about)
        with pytest.raises(ValueError, match="steps 6 instead of 7"):
            tune(community, horizon, settings=TINY._replace(steps=7), checkpoint=part, **about)
    finally:
        train.CHECK_EVERY = every
    np.testing.assert_array_equal(again.value.level, whole.value.level)
    assert [row.loss for row in again.history] == [row.loss for row in whole.history]


def test_the_controller_file(tmp_path):
    community, horizon = small("rural1", dtype="float32")
    value, path = start_value(Window(community, horizon, 0), TINY), tmp_path / "c.json"
    write_controller(path, value, about={"case": "rural1"})
    read = read_controller(path, size=community.size)
    jax.tree.map(np.testing.assert_array_equal, read, value)
    content = json.loads(path.read_text())
    assert content["features"] == list(FEATURES)
    path.write_text(json.dumps({**content, "level": [1, 2], "hours": "a day", "slots_per_day": "all"}))
    faults = r"slots_per_day is 'all', .*; level has the shape \(2\) instead of \(1, 8, any\); hours is not"
    with pytest.raises(ValueError, match=faults):
        read_controller(path, size=3)
    path.write_text(json.dumps({**content, "drop": [[[0.5]]]}))
    with pytest.raises(ValueError, match="level and drop have different numbers of knots"):
        read_controller(path, size=3)
    path.write_text("{")
    with pytest.raises(ValueError, match="not a controller file"):
        read_controller(path, size=3)


def test_unknown_features_are_refused():
    community, horizon = small("rural1", dtype="float32")
    with pytest.raises(ValueError, match="must contain 'one'"):
        start_value(Window(community, horizon, 0), Settings(features=("one", "moon")))
