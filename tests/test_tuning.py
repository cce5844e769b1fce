"""Tuning: derivatives against finite differences, safety for any weights, resume, the controller file."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from communities import as_window, small
from random_slots import random_slot

from jaxp2p.control.bounds import lyapunov_parameters
from jaxp2p.control.policy import follow, lyapunov, suggest_penalties
from jaxp2p.control.tuned import FEATURES, Memory, features, stage_at
from jaxp2p.runs.runner import price_bounds
from jaxp2p.scenarios.parse import parse_model
from jaxp2p.simulation import costate
from jaxp2p.simulation import forward as simulation
from jaxp2p.slot import execute
from jaxp2p.slot.newton import adjoint, solver
from jaxp2p.slot.newton.method import Newton
from jaxp2p.tuning import train
from jaxp2p.tuning.controller_file import read_controller, write_controller
from jaxp2p.tuning.objective import Course, Objective, course, courses, cvar, measure
from jaxp2p.tuning.reduce import decisive, merged, without_network
from jaxp2p.tuning.stages import Plan, flat, tune_stages
from jaxp2p.tuning.train import Settings, in_turn, tune
from jaxp2p.tuning.windows import group_members, make_window, start_value

pytestmark = pytest.mark.slow

EXACT = Newton(eps_gap=1e-13, eps_flow=1e-9, eps_voltage=1e-12, max_iter=5000)
LEAVES = ("value", "value_slope", "price_buy", "price_sell", "load", "pv_max", "charge_max", "row_upper")
TINY = Settings(steps=6, knots=4, pieces=2, features=("one", "price", "load_mean"))
SHAPE = {"knots": 4, "pieces": 2}


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


def test_the_costate_has_the_derivative_of_slot_after_slot():
    """By weights, tariffs, load, PV and batteries; both modes; finite differences."""
    community, horizon = small("rural3", network=False, price="tou_noise")
    value = start_value(as_window(community, horizon), **SHAPE)
    value = replace(value, level=value.level + 0.3 * jax.random.normal(jax.random.key(0), value.level.shape))
    penalties, keep = suggest_penalties(horizon), ("cost", "buy", "charge", "payment")
    assert costate.suits(community, follow(value, horizon.load.dtype), EXACT)

    def moved(factors):
        homes = community.prosumers
        batteries = replace(
            homes.battery,
            energy_max=homes.battery.energy_max * factors["capacity"],
            energy_start=homes.battery.energy_start * factors["start"],
            charge_max=homes.battery.charge_max * factors["power"],
        )
        today = {name: getattr(horizon, name) * factors[name] for name in ("price_buy", "load", "pv")}
        policy = follow(replace(value, level=value.level * factors["level"]), horizon.load.dtype)
        return (
            replace(community, prosumers=replace(homes, battery=batteries)),
            replace(horizon, **today),
            policy,
        )

    def total(factors, simulate):
        members, today, policy = moved(factors)
        end, run = simulate(members, today, penalties, policy, EXACT, keep=keep)
        weight = jnp.cos(jnp.arange(community.size, dtype=horizon.load.dtype))[None, :]
        seen = jnp.sum(run.cost) + 0.1 * jnp.max(jnp.sum(run.buy, axis=1)) - 0.2 * jnp.sum(end)
        return seen + jnp.sum(weight * (0.1 * run.charge + run.payment))

    def in_turn(*given, **more):
        state, run = simulation.simulate(*given, adjoint="implicit", **more)
        return state.energy, run

    names = ("capacity", "start", "power", "price_buy", "load", "pv", "level")
    factors = {name: jnp.ones(()) for name in names} | {"pv": jnp.asarray(0.999)}
    expected, found = (
        jax.jit(jax.value_and_grad(lambda x, f=f: total(x, f)))(factors) for f in (in_turn, costate.simulate)
    )
    assert float(found[0]) == pytest.approx(float(expected[0]), rel=1e-9)
    for name in names:
        assert float(found[1][name]) == pytest.approx(float(expected[1][name]), rel=1e-8, abs=1e-8), name
    value_at = jax.jit(lambda x: total(x, costate.simulate))
    along = jax.jit(lambda x, dx: jax.jvp(lambda x: total(x, costate.simulate), (x,), (dx,))[1])
    h, compared = 1e-6, 0
    for name in names:
        numeric = [
            float(value_at(factors | {name: factors[name] + step}) - found[0]) / step for step in (h, -h)
        ]
        direction = {key: jnp.asarray(float(key == name)) for key in names}
        assert float(along(factors, direction)) == pytest.approx(float(found[1][name]), rel=1e-8, abs=1e-8)
        if abs(numeric[0] - numeric[1]) < 1e-3 * (1 + abs(numeric[0])):  # no kink within the step
            compared += 1
            assert float(found[1][name]) == pytest.approx(np.mean(numeric), rel=1e-3, abs=1e-3), name
    assert compared >= 5


def test_the_costate_of_elastic_loads_that_curtail():
    """Against slot after slot, where selling costs money at noon and all loads are elastic."""
    community, horizon = small("rural1", network=False, market="none")
    every = jnp.ones(community.size)
    elastic = {"load_flex_share": 0.2 * every, "load_flex_cost": 0.05 * every, "elastic": True}
    community = replace(community, prosumers=replace(community.prosumers, **elastic))
    cheap = jnp.where(jnp.arange(horizon.slots) % 96 // 4 == 12, -0.05, horizon.price_sell)
    horizon = replace(horizon, price_sell=cheap)
    value = start_value(as_window(community, horizon), **SHAPE)
    value = replace(value, level=value.level + 0.2 * jax.random.normal(jax.random.key(3), value.level.shape))
    penalties = suggest_penalties(horizon)

    def total(factors, simulate):
        policy = follow(replace(value, level=value.level * factors[0]), horizon.load.dtype)
        today = replace(horizon, price_buy=horizon.price_buy * factors[1], pv=horizon.pv * factors[2])
        end, run = simulate(community, today, penalties, policy, EXACT, keep=("cost", "pv_used", "load"))
        return jnp.sum(run.cost) - 0.2 * jnp.sum(end) + jnp.sum(0.01 * run.pv_used + 0.02 * run.load**2), run

    def in_turn(*given, **more):
        state, run = simulation.simulate(*given, adjoint="implicit", **more)
        return state.energy, run

    (_, run), expected = jax.jit(jax.value_and_grad(lambda x: total(x, in_turn), has_aux=True))(jnp.ones(3))
    found = jax.jit(jax.grad(lambda x: total(x, costate.simulate)[0]))(jnp.ones(3))
    assert bool(jnp.all(jnp.isfinite(expected)))
    assert float(jnp.max(horizon.pv - run.pv_used)) > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-7)


def test_the_start_is_the_certified_controller():
    community, horizon = small("rural3", network=False, price="tou_noise")
    low, high = price_bounds(horizon)
    certified = lyapunov(lyapunov_parameters(community.prosumers.battery, low, high, horizon.slot_hours))
    tuned = follow(start_value(as_window(community, horizon), **SHAPE), horizon.load.dtype)
    stored = [
        simulation.simulate(community, horizon, suggest_penalties(horizon), policy, EXACT, keep=("energy",))[
            1
        ].energy
        for policy in (certified, tuned)
    ]
    np.testing.assert_allclose(*stored, atol=1e-3)


def cost_of(community, horizon, value):
    slot = jnp.zeros((), jnp.int32)
    return float(course(community, horizon, slot, 0.2, value, adjoint=None).cost)


def test_the_reduced_community_costs_the_same():
    community, horizon = without_network(*small("rural3", price="tou_noise"))
    reduced, summed, own = decisive(community, horizon)
    assert reduced.size == len(own) + 2 < community.size
    value = start_value(as_window(community, horizon), **SHAPE)
    less = train.for_members(value, np.zeros(reduced.size, int))
    assert cost_of(reduced, summed, less) == pytest.approx(cost_of(community, horizon, value), rel=3e-3)


@pytest.mark.parametrize("price", ["tou_noise", "dynamic"])
def test_the_merged_community_costs_about_the_same(price):
    """Up to the fee between homes that are merged, and ratios of power to capacity that differ by 2 %."""
    community, horizon = without_network(*small("rural3", price=price, pv_scale=2.0))
    few, summed, group = merged(community, horizon, np.zeros(community.size, int))
    assert few.size < 8 and group.shape == (few.size,)
    battery = few.prosumers.battery
    for name in ("energy_max", "energy_start", "charge_max", "discharge_max"):
        whole = jnp.sum(getattr(community.prosumers.battery, name))
        assert float(jnp.sum(getattr(battery, name))) == pytest.approx(float(whole))
    net = [np.asarray(jnp.sum(row.pv - row.load, axis=1)) for row in (horizon, summed)]
    np.testing.assert_allclose(*net, atol=1e-6)
    value = start_value(as_window(community, horizon), **SHAPE)
    value = replace(value, level=value.level.at[..., 0, 1].add(0.3))
    less = train.for_members(value, group)
    assert cost_of(few, summed, less) == pytest.approx(cost_of(community, horizon, value), rel=1e-2)


def test_groups_are_not_merged():
    community, horizon = small("rural3", network=False, price="tou_noise", dtype="float32")
    owner = np.asarray(community.prosumers.battery.charge_max) > 0
    for how, groups in (("one", 1), ("home", owner.sum())):
        group = group_members(community, how)
        window = make_window(community, horizon, slot=0, group=group)
        stored = np.asarray(window.community.prosumers.battery.energy_max) > 0
        assert stored.sum() == groups == len(set(window.group[stored]))
    sunny = replace(community.prosumers, pv_peak=np.arange(community.size) % 2)
    by_sun = group_members(replace(community, prosumers=sunny), "pv")
    np.testing.assert_array_equal(by_sun, owner & (np.arange(community.size) % 2 == 1))
    with pytest.raises(ValueError, match="unknown groups 'street'"):
        group_members(community, "street")


def test_scenarios_of_a_window():
    """PV goes with the sun; what a model draws depends on key and number only."""
    community, horizon = small("rural3", price="tou_noise", dtype="float32")
    group = np.zeros(community.size, int)
    made = lambda **more: make_window(community, horizon, slot=0, group=group, **more)
    bright = made(scenarios=5, sun=0.5).horizons
    net = np.asarray(jnp.sum(bright.pv - bright.load, axis=2))
    pv, load = (np.asarray(x, float) for x in (horizon.pv, horizon.load))
    most = np.maximum(pv, np.asarray(community.prosumers.pv_peak)[None, :])
    for number, z in enumerate((None, -1.15035, -0.31864, 0.31864, 1.15035)):
        factor = 1 if z is None else np.exp(0.5 * z)
        expected = np.minimum(factor * pv, most) - load
        np.testing.assert_allclose(net[number], expected.sum(1), rtol=1e-4, atol=1e-2)
    model = parse_model("noise", horizon=horizon, community=community)
    drawn = [made(scenarios=n, model=model, key=jax.random.key(1)).horizons for n in (2, 3)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b[:2], rtol=1e-4, atol=1e-3), *drawn)
    assert float(jnp.max(jnp.abs(drawn[1].load[1] - drawn[1].load[0]))) > 0.01
    with pytest.raises(ValueError, match="no outages"):
        made(scenarios=2, model=parse_model("outages", horizon=horizon, community=community))
    with pytest.raises(ValueError, match="needs a key"):
        made(scenarios=2, model=model)


def test_no_weights_break_a_battery():
    community, horizon = small("rural1")
    value = start_value(as_window(community, horizon), **SHAPE)
    wild = jax.random.normal(jax.random.key(1), value.level.shape) * 50
    value = replace(value, level=wild, drop=wild[:, :, :2] * 3)
    policy = follow(value, horizon.load.dtype)
    _, run = simulation.simulate(community, horizon, suggest_penalties(horizon), policy, Newton())
    battery = community.prosumers.battery
    assert bool(jnp.all(jnp.isfinite(run.cost)))
    energy = np.asarray(run.energy)
    assert (energy - np.asarray(battery.energy_max)).max() <= 1e-9
    assert (energy - np.asarray(battery.energy_min)).min() >= -1e-9


def test_features_are_cut_and_stages_take_turns():
    community, horizon = small("rural1", dtype="float32")
    value = start_value(as_window(community, horizon), **SHAPE)
    far = Memory(value.start * 1e6, value.start * -1e6, jnp.ones((3,), jnp.float32))
    assert float(jnp.max(jnp.abs(features(value, far, jnp.int32(0))))) == 2.5
    other = replace(value, level=value.level + 1)
    both = in_turn([value, other], [100, 200])
    for slot, level in ((0, 0.0), (199, 0.0), (200, 1.0), (5000, 1.0)):
        assert float(stage_at(both, jnp.int32(slot)).level.max()) == level


def test_the_objective_by_hand():
    costs = jnp.array([1.0, 5.0, 2.0, 4.0])
    assert float(cvar(costs, 0.5)) == 4.5 and float(cvar(costs, 0.99)) == 5.0
    assert float(cvar(costs, 0.625)) == pytest.approx((5 + 0.5 * 4) / 1.5)
    courses = Course(cost=costs, peak=jnp.array([1.0, 2, 3, 4]), cycles=jnp.array([[0.0, 2, 9]] * 4))
    owner = jnp.array([True, True, False])
    worth = Objective(cvar_weight=0.25, cvar_level=0.5, peak_price=2.0, fairness_price=10.0)
    assert float(measure(worth, courses, owner)) == pytest.approx(0.75 * 3 + 0.25 * 4.5 + 2 * 2.5 + 10 * 1.0)
    slope = jax.grad(lambda x: measure(worth, courses._replace(cycles=x), owner))(jnp.ones((4, 3)))
    assert bool(jnp.all(slope == 0))
    with pytest.raises(ValueError, match=r"cvar_weight = 2 .*; peak_price = -1 "):
        Objective(cvar_weight=2, peak_price=-1).check()


@pytest.fixture(scope="module")
def summer():
    return small("rural3", network=False, price="tou_noise", dtype="float32")


@pytest.fixture(scope="module")
def whole(summer):
    """Tuned in one go, on two of three scenarios at a time."""
    return tune(three_scenarios(*summer), settings=TWO_OF_THREE, terminal_price=0.2)


TWO_OF_THREE = TINY._replace(batch=2)


def three_scenarios(community, horizon):
    group = np.zeros(community.size, int)
    return make_window(community, horizon, slot=0, group=group, scenarios=3, sun=0.4)


def test_tuning_resumes_to_the_same(summer, whole, tmp_path, monkeypatch):
    window, about = three_scenarios(*summer), {"terminal_price": 0.2}

    class Stop(Exception):
        pass

    def stop(progress):
        if progress.step == 3:
            raise Stop

    part = tmp_path / "part.npz"
    monkeypatch.setattr(train, "CHECK_EVERY", 2)
    with pytest.raises(Stop):
        tune(window, settings=TWO_OF_THREE, checkpoint=part, told=stop, **about)
    again = tune(window, settings=TWO_OF_THREE, checkpoint=part, **about)
    with pytest.raises(ValueError, match="steps 6 instead of 7"):
        tune(window, settings=TWO_OF_THREE._replace(steps=7), checkpoint=part, **about)
    with pytest.raises(ValueError, match="other data"):
        tune(window, settings=TWO_OF_THREE, checkpoint=part, terminal_price=0.3)
    np.testing.assert_array_equal(again.value.level, whole.value.level)
    assert [row.loss for row in again.history] == [row.loss for row in whole.history]


def test_a_step_counts_what_the_run_costs(summer, whole):
    """The program with the derivative in it has the costs of the program without."""
    window = three_scenarios(*summer)
    value = start_value(window, knots=4, pieces=2, features=TINY.features)
    costs = jax.jit(
        lambda horizons: courses(window.community, horizons, jnp.int32(0), 0.2, value, adjoint=None).cost
    )(window.horizons)
    key = jax.random.fold_in(jax.random.key(TWO_OF_THREE.seed), 0)
    picked = jax.random.choice(key, 3, (2,), replace=False)
    assert whole.history[0].cost_eur == pytest.approx(float(jnp.mean(costs[picked])), rel=1e-5)


def test_the_best_on_the_validation_window_is_kept(summer):
    """Tuned for free energy in the end, the first weights are the best where it is dear."""
    window = three_scenarios(*summer)
    about = {"terminal_price": 0.2, "validation": window}
    found = tune(window, settings=TWO_OF_THREE._replace(steps=3, learning_rate=-0.5), **about)
    seen = [row.validation_eur for row in found.history]
    assert seen[1] is None and seen[2] > seen[0]
    assert float(jnp.abs(found.value.level).max()) == 0.0
    with pytest.raises(ValueError, match="cannot take 9 of 3"):
        tune(window, settings=TINY._replace(batch=9), terminal_price=0.2)


def test_stages_follow_the_days(tmp_path):
    """Two stages of a day each; the file brings them back, for a run that begins later."""
    community, horizon = small("rural1", days=3, price="tou_noise", network=False, dtype="float32")
    monday = pd.Timestamp("2016-07-04")
    asked = []

    def data(start, days):
        asked.append((start, days))
        first = round((start - monday) / pd.Timedelta(minutes=15))
        return community, horizon.slice(first, first + round(days * 96))

    plan = Plan(begin=monday + pd.Timedelta(days=1), train_days=1, stages=2, every_days=1, scenarios=1)
    settings = TINY._replace(steps=4)
    found = tune_stages(plan, data, terminal_price=0.2, settings=settings)
    assert asked == [(monday, 1), (monday + pd.Timedelta(days=1), 1)]
    assert [len(history) for history in found.histories] == [4, 2]
    assert found.histories[0][-1].loss < found.histories[0][0].loss
    assert flat(found.histories)["stage"] == [1, 1, 1, 1, 2, 2]
    assert found.value.begins.tolist() == [96, 192]
    assert float(jnp.abs(found.value.level[1] - found.value.level[0]).max()) > 0
    path = tmp_path / "c.json"
    write_controller(path, found.value, about={}, begins=found.begins)
    first = pd.Timestamp("2016-07-12 06:00")  # a week later: Mondays are counted from there
    read = read_controller(path, size=community.size, first=first)
    assert read.begins.tolist() == [96 - 672, 192 - 672]
    np.testing.assert_array_equal(read.level, found.value.level)
    with pytest.raises(ValueError, match="when the run begins"):
        read_controller(path, size=community.size)
    with pytest.raises(ValueError, match="leave none"):
        tune_stages(plan._replace(validation_days=1), data, terminal_price=0.2, settings=settings)


def test_the_controller_file(tmp_path):
    community, horizon = small("rural1", dtype="float32")
    value, path = start_value(as_window(community, horizon), **SHAPE), tmp_path / "c.json"
    write_controller(path, value, about={"case": "rural1"})
    read = read_controller(path, size=community.size)
    jax.tree.map(np.testing.assert_array_equal, read, value)
    content = json.loads(path.read_text())
    assert content["features"] == list(FEATURES)
    stage = content["stages"][0]
    wrong = {"stages": [{**stage, "level": [1, 2]}], "hours": "a day", "group": "all"}
    path.write_text(json.dumps({**content, **wrong}))
    faults = (
        r"hours is not an array.*; group is neither.*; level has the shape \(2\) instead of \(any, 11, any\)"
    )
    with pytest.raises(ValueError, match=faults):
        read_controller(path, size=3)
    path.write_text(json.dumps({**content, "stages": [{**stage, "from": "2016-07-11"}, stage]}))
    with pytest.raises(ValueError, match="stage 2: from = None is not a moment"):
        read_controller(path, size=3)
    late = [{**stage, "from": "2016-07-11"}, {**stage, "from": "2016-07-04"}]
    path.write_text(json.dumps({**content, "stages": late}))
    with pytest.raises(ValueError, match="do not follow each other"):
        read_controller(path, size=3)
    path.write_text(json.dumps({**content, "group": [0] * 7}))
    with pytest.raises(ValueError, match="made for 7 members, and there are 3"):
        read_controller(path, size=3)
    path.write_text("{")
    with pytest.raises(ValueError, match="not a controller file"):
        read_controller(path, size=3)


def test_unknown_features_are_refused():
    community, horizon = small("rural1", dtype="float32")
    with pytest.raises(ValueError, match="unknown features moon: choose from one, weekend"):
        start_value(as_window(community, horizon), features=("one", "moon"))
    with pytest.raises(ValueError, match="must contain 'one'"):
        start_value(as_window(community, horizon), features=("price",))
