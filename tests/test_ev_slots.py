"""Vehicles in slots and runs: their limits whatever prices and policies, the market against Clarabel."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxp2p as jp
from jaxp2p.control.charging import (
    AT_ONCE,
    BY_WORTH,
    IN_CHEAPEST_SLOTS,
    ON_OWN_SURPLUS,
    Charging,
    by_rule,
    worth_line,
)
from jaxp2p.control.policy import Penalties, Slot, follow, greedy, slot_problem
from jaxp2p.model.devices import Plugs, Vehicles
from jaxp2p.model.devices.vehicle import STAYS
from jaxp2p.model.network import NoRows
from jaxp2p.runs.runner import make_policies, penalties_of, policy_names
from jaxp2p.runs.verification import compare, optimum
from jaxp2p.simulation import costate
from jaxp2p.simulation.accounting import end_value, usual_prices
from jaxp2p.simulation.forward import Schedule, simulate, simulate_in_pieces, slots
from jaxp2p.simulation.step import at_start, pose
from jaxp2p.slot.newton.method import Newton
from jaxp2p.slot.solvers import ADMM, choose_solver
from jaxp2p.slot.status import Status
from jaxp2p.studies.devices import pad_community
from jaxp2p.tuning.windows import Window, group_members, start_value
from tests.fleets import driving, reachable

EXACT_NEWTON = Newton(eps_gap=1e-13, eps_flow=1e-9, eps_voltage=1e-12, max_iter=5000)
EXACT = ADMM(eps_power=1e-8, eps_price=1e-9, eps_rel=1e-9, eps_gap=1e-9, max_iter=20_000)
PROMISE_KWH = {"float32": 1e-3, "float64": 1e-9}


@jp.record
class Wild(jp.OwnPolicy):
    """Anything: worths drawn anew in every slot and for everybody, without any sense."""

    size: float = 2.0  # EUR/kWh

    def decide(self, community, slot, kept, slot_of_week, free, memory):
        return jp.Decision(free, self._worth(kept, slot_of_week, 1), jnp.zeros_like(kept))

    def charge(self, community, slot, plugged, kept, slot_of_week, free, memory):
        return jp.Decision(free, self._worth(kept, slot_of_week, 2), jnp.zeros_like(kept))

    def _worth(self, kept, slot_of_week, stream):
        key = jax.random.fold_in(jax.random.key(stream), slot_of_week)
        return self.size * jax.random.normal(key, kept.shape, kept.dtype)


def adversarial(horizon, seed):
    """Prices without any pattern: below zero, spikes, and tariffs that touch."""
    rng, slots = np.random.default_rng(seed), horizon.slots
    buy = rng.choice([-0.5, -0.01, 0.05, 0.3, 2.0], slots) + rng.normal(0, 0.1, slots)
    sell = buy - rng.choice([0.0, 0.02, 0.5], slots)
    dtype = horizon.load.dtype
    return replace(horizon, price_buy=jnp.asarray(buy, dtype), price_sell=jnp.asarray(sell, dtype))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.long)])
def test_a_thousand_vehicles_leave_with_what_could_be_reached(dtype):
    """A week of 1,000 random vehicles, at prices and under policies without any sense: the limits hold."""
    case = driving("ieee33", homes=700, days=7, dtype=dtype, vehicles=1000, seats=2, market="pool", seed=1)
    community, horizon = case.community, adversarial(case.horizon, 2)
    most = reachable(case)
    assert int(np.sum(community.prosumers.vehicles.owned)) == 1000
    policies = make_policies(community, horizon)
    chosen = {"wild": Wild()} | {name: policies[name] for name in ("lyapunov",)}
    for name, policy in chosen.items():
        t = simulate_in_pieces(community, horizon, penalties_of(horizon), policy, choose_solver(community))
        keeps_every_limit(community, horizon, t, PROMISE_KWH[dtype], name, most)


def keeps_every_limit(community, horizon, t, tolerance, name, most):
    plugs = horizon.plugs.float64()
    charge, discharge, energy = (
        np.asarray(x, float) for x in (t.vehicle_charge, t.vehicle_discharge, t.vehicle_energy)
    )
    rounding = 1e-5
    assert (charge >= -rounding).all() and (charge <= plugs.charge_max + rounding).all(), name
    assert (discharge >= -rounding).all() and (discharge <= plugs.discharge_max + rounding).all(), name
    assert (energy <= plugs.most + tolerance).all() and (energy >= plugs.floor - tolerance).all(), name
    # what is in them is what went in: the law, written out
    vehicles = community.prosumers.vehicles
    eta_c, eta_d = (np.asarray(x, float) for x in (vehicles.charge_efficiency, vehicles.discharge_efficiency))
    before = np.concatenate([plugs.floor[:1], energy[:-1]])
    began = np.where(plugs.arrived == STAYS, before, plugs.arrived)
    moved = float(horizon.slot_hours) * (eta_c * charge - discharge / eta_d)
    np.testing.assert_allclose(energy, began + moved, atol=10 * tolerance, err_msg=name)
    # targets: whoever could reach his, by charging at full power all the time, has it when he leaves
    leaves = plugs.there & np.concatenate(
        [plugs.arrived[1:] != STAYS, np.zeros((1, *plugs.there.shape[1:]), bool)]
    )
    met = energy >= np.minimum(plugs.wanted, most) - tolerance
    assert leaves.sum() > 100 or energy.shape[0] < 400
    assert met[leaves].all(), name


@pytest.mark.slow
@pytest.mark.parametrize("market", ["pool", "bilateral", "none"])
def test_slots_with_vehicles_agree_with_an_independent_solver(market):
    """Cost and storage value within the pass rule of Clarabel's, and the stated gap holds."""
    case = driving("rural1", days=1, dtype="float64", vehicles=20, market=market, seed=3, seats=2)
    rng, seats = np.random.default_rng(4), case.community.prosumers.vehicles.owned.shape
    for number in (10, 40, 50, 72):
        plugs = jax.tree.map(lambda x, number=number: x[number], case.horizon.plugs)
        share = jnp.asarray(rng.random(seats))
        stored = jnp.where(plugs.there, 1.0, 0.0) * (plugs.floor + share * (plugs.most - plugs.floor))
        problem = case.slot(number, policy="lyapunov", in_vehicles=stored)
        assert float(jnp.sum(problem.vehicles.storage.charge_max)) > 10
        result = jp.clear(problem)
        best = optimum(problem)
        found = compare(problem, result.dispatch, best)
        assert found.passed, (number, found)
        assert int(result.status) in (Status.SOLVED, Status.NETWORK_VIOLATED)
        assert found.gap_rel * found.scale_eur <= float(result.gap) + 1e-9


def test_a_ramp_has_a_row_for_every_seat():
    case = driving(
        "rural1", days=1, dtype="float64", vehicles=10, market="pool", seed=5, seats=3, returns=False
    )
    problem = case.slot(70)
    assert problem.vehicles.storage.charge_max.shape == (3, case.size)
    assert len(problem.pieces().gain) == 4 + 3  # a load that cannot move has no row
    alone = replace(problem, vehicles=None)
    np.testing.assert_array_equal(problem.pieces().gain[:4], alone.pieces().gain)


def one_vehicle(rule, *, wanted=20.0, energy=10.0, pv=(3.0, 0.0), load=(1.0, 1.0), planned=2.0, returns=True):
    """Home A has a vehicle with 11 kW, B none; an hour's slot; charging 0.8, discharging 0.5, wear 0.01."""
    case = driving("rural1", days=1, dtype="float64", vehicles=1, market="pool", seed=0)
    column = lambda *x: jnp.asarray([x])
    vehicles = Vehicles(
        capacity=column(40.0, 0.0),
        charge_efficiency=column(0.8, 1.0),
        discharge_efficiency=column(0.5, 1.0),
        wear_cost=column(0.01, 0.0),
        returns=returns,
    )
    plugs = Plugs(
        arrived=column(STAYS, 0.0),
        floor=column(8.0, 0.0),
        most=column(40.0, 0.0),
        wanted=column(wanted, 0.0),
        charge_max=column(11.0, 0.0),
        discharge_max=column(11.0, 0.0),
        left=column(4.0, 0.0),
        planned=column(planned, 0.0),
    )
    homes = jax.tree.map(lambda x: x[..., :2], replace(case.community.prosumers, vehicles=None))
    homes = replace(homes, vehicles=vehicles, battery=homes.battery.without_power())
    market = jax.tree.map(lambda x: x[..., :2], case.community.market)
    community = replace(case.community, prosumers=homes, market=market, feeder=NoRows(), mark="")
    none = jnp.zeros(0)
    slot = Slot(
        slot_hours=jnp.asarray(1.0),
        load=jnp.asarray(load),
        pv=jnp.asarray(pv),
        price_buy=jnp.asarray(0.3),
        price_sell=jnp.asarray(0.1),
        voltage_base=none,
        flow_base=none,
        flow_reactive=none,
        price_ahead=jnp.zeros(3),
        plugs=plugs,
    )
    policy = replace(greedy(2, jnp.float64), charging=by_rule(vehicles, rule))
    penalties = Penalties(jnp.asarray(8.0), jnp.asarray(16.0))
    stored = column(energy, 0.0)
    week = jnp.asarray(0)
    problem = slot_problem(community, penalties, policy, slot, homes.battery.energy_start, week, None, stored)
    return problem.vehicles.storage


def test_rules_by_hand():
    """10 kWh are missing, 12.5 kW at 0.8, of which 11 fit; A's surplus is 2 kW; planned are 2 kW."""
    for rule, kw in ((AT_ONCE, 11.0), (ON_OWN_SURPLUS, 2.0), (IN_CHEAPEST_SLOTS, 2.0)):
        found = one_vehicle(rule)
        np.testing.assert_allclose(found.charge_min[0], [kw, 0])
        np.testing.assert_allclose(found.charge_max[0], [kw, 0])
        np.testing.assert_allclose(found.discharge_max[0], [0, 0])
    nearly = one_vehicle(AT_ONCE, wanted=12.0)  # 2 kWh missing
    np.testing.assert_allclose(nearly.charge_max[0], [2.5, 0])
    np.testing.assert_allclose(one_vehicle(AT_ONCE, wanted=9.0).charge_max[0], [0, 0])
    # 6 kWh, 2 below the floor: 2.5 kW whatever the rule says
    np.testing.assert_allclose(one_vehicle(IN_CHEAPEST_SLOTS, energy=6.0).charge_min[0], [2.5, 0])
    free = one_vehicle(BY_WORTH)
    # 30 kWh of room: 37.5 kW, of which 11; 2 kWh above the floor are 1 kW at 0.5
    np.testing.assert_allclose(free.charge_max[0], [11, 0])
    np.testing.assert_allclose(free.discharge_max[0], [1, 0])


def test_worth_by_hand():
    """Four hours at 11 kW and 0.8 are 35.2 kWh; D_l = 0.1 / 0.8 + 0.01, D_h = 0.3 / 0.8 + 0.01."""
    low, high = jnp.array([[0.135]]), jnp.array([[0.385]])
    charging = Charging(rule=jnp.asarray(BY_WORTH), low=low, high=high)
    value, slope = worth_line(charging, jnp.array([[20.0]]), jnp.array([[35.2]]), jnp.array([[10.0]]))
    np.testing.assert_allclose(slope, 0.25 / 35.2)
    np.testing.assert_allclose(value, 0.135 + 10 * 0.25 / 35.2)
    ends, _ = worth_line(charging, jnp.array([[20.0]]), jnp.array([[35.2]]), jnp.array([[20.0]]))
    np.testing.assert_allclose(ends, 0.135)


def test_the_names_of_policies_tell_whether_there_are_vehicles():
    case = driving("rural1", days=1, dtype="float32", vehicles=3, market="pool", seed=6)
    alone = jp.build("rural1", days=1, market="pool")
    assert set(policy_names(case.community)) - set(policy_names(alone.community)) == {
        "charge_at_once",
        "charge_on_surplus",
        "cheapest_slots",
    }
    with pytest.raises(ValueError, match="unknown policies charge_at_once"):
        jp.run(alone, policies=["charge_at_once"])


@pytest.mark.long
@pytest.mark.slow
def test_a_study_of_the_days_themselves_is_the_run():
    case = driving("rural1", days=1, dtype="float64", vehicles=12, market="pool", seed=7)
    names = ["no_storage", "charge_at_once", "lyapunov"]
    day = jp.run(case, policies=names, lower_bound=False).kpis()
    rows = jp.study(case, scenarios=2, model="none", policies=names, foresight=0).kpis
    for name in names:
        for column in ("cost_eur", "import_kwh", "export_kwh", "p2p_kwh"):
            values = rows[rows["policy"] == name][column].to_numpy(float)
            np.testing.assert_allclose(values, float(day.loc[name, column]), rtol=1e-5, atol=1e-5)
        assert rows[rows["policy"] == name]["soc_violation_kwh"].max() < 1e-9


@pytest.mark.long
@pytest.mark.slow
def test_vehicles_follow_a_schedule_as_far_as_they_may():
    case = driving("rural1", days=1, dtype="float64", vehicles=12, market="pool", seed=8)
    community, horizon = case.community, case.horizon
    seats = (horizon.slots, *community.prosumers.vehicles.owned.shape)
    still = jnp.zeros((horizon.slots, community.size))
    for kw in (0.0, 100.0):
        orders = Schedule(still, still, jnp.full(seats, kw), jnp.zeros(seats))
        policy = greedy(community.size, horizon.load.dtype)
        t = simulate_in_pieces(community, horizon, penalties_of(horizon), policy, Newton(), schedule=orders)
        keeps_every_limit(community, horizon, t, 1e-9, str(kw), reachable(case))
        plugs = horizon.plugs.float64()
        if kw:  # as much as there is room for
            full = np.minimum(plugs.charge_max, 1e3) * (np.asarray(t.vehicle_energy) < plugs.most - 1e-9)
            inside = np.asarray(t.vehicle_energy) < plugs.most - 1e-6
            np.testing.assert_allclose(np.asarray(t.vehicle_charge)[inside], full[inside], atol=1e-9)


@pytest.mark.long
@pytest.mark.slow
def test_derivatives_by_what_energy_is_worth():
    """A run's cost against the worth of energy in vehicles: reverse mode and central differences."""
    case = driving("rural1", days=0.125, dtype="float64", vehicles=12, market="pool", seed=9, network=False)
    community, horizon, penalties = case.community, case.horizon, penalties_of(case.horizon)
    policy = make_policies(community, horizon)["lyapunov"]

    def cost(worth):
        low, high = policy.charging.low + worth[0], policy.charging.high + worth[1]
        chosen = replace(policy, charging=replace(policy.charging, low=low, high=high))
        _, t = simulate(community, horizon, penalties, chosen, EXACT_NEWTON, adjoint="implicit")
        return jnp.sum(t.cost) + jnp.sum(t.vehicle_energy[-1]) * 0.2

    at, step = jnp.array([0.02, -0.03]), 1e-5
    found = jax.jit(jax.grad(cost))(at)
    run = jax.jit(cost)
    for k in range(2):
        move = step * jnp.eye(2)[k]
        expected = (run(at + move) - run(at - move)) / (2 * step)
        np.testing.assert_allclose(found[k], expected, rtol=5e-4, atol=5e-4 * float(jnp.abs(found).max()))


@pytest.mark.long
@pytest.mark.slow
def test_the_fast_derivative_of_a_run_knows_every_vehicle():
    """`costate.simulate` against the derivative slot after slot: cost and energies by weights of a curve."""
    case = driving(
        "rural1", days=0.375, dtype="float64", vehicles=14, seats=2, market="pool", seed=11, network=False
    )
    community, horizon, penalties = case.community, case.horizon, penalties_of(case.horizon)
    group = group_members(community, "one")
    window = Window(community, jax.tree.map(lambda x: x[None], horizon), case.slot_of_week, group)
    value, draw = start_value(window, features=("one", "price", "load")), np.random.default_rng(12)
    assert value.vehicle_group == 1 and value.level.shape[1] == 2
    wiggle = lambda x: x + jnp.asarray(draw.normal(0, 0.1, x.shape))
    value = replace(value, level=wiggle(value.level), drop=wiggle(value.drop))

    def outcome(run, weights):
        policy = follow(replace(value, **weights), jnp.float64)
        assert costate.suits(community, policy, EXACT_NEWTON)
        t = run(community, horizon, penalties, policy)
        return jnp.sum(t.cost) + 0.3 * jnp.sum(t.vehicle_energy[-1]) + 0.2 * jnp.sum(t.energy[-1])

    fast = lambda *given: costate.simulate(*given, EXACT_NEWTON)[1]
    slow = lambda *given: simulate(*given, EXACT_NEWTON, adjoint="implicit")[1]
    weights = {"level": value.level, "drop": value.drop}
    one, other = (jax.jit(jax.value_and_grad(partial(outcome, run)))(weights) for run in (fast, slow))
    np.testing.assert_allclose(one[0], other[0], rtol=1e-9)
    for name in weights:
        size = float(jnp.abs(other[1][name]).max())
        assert float(jnp.abs(other[1][name][:, 1]).max()) > 1e-6  # the vehicles' own
        np.testing.assert_allclose(one[1][name], other[1][name], rtol=1e-5, atol=1e-5 * size)


def test_energy_left_in_vehicles_has_its_worth_without_any_battery():
    """(low + high) / 2 / eta_c + kappa, mean over the vehicles; low and high are the usual prices."""
    case = driving("rural1", days=1, dtype="float64", vehicles=5, market="pool", seed=13)
    homes = case.community.prosumers
    bare = replace(case.community, prosumers=replace(homes, battery=homes.battery.without_power()))
    low, high = usual_prices(case.horizon)
    fleet, owned = homes.vehicles, np.asarray(homes.vehicles.owned)
    each = (low + high) / 2 / np.asarray(fleet.charge_efficiency) + np.asarray(fleet.wear_cost)
    assert end_value(bare, case.horizon) == pytest.approx(each[owned].mean(), rel=1e-9)
    assert end_value(replace(bare, prosumers=replace(bare.prosumers, vehicles=None)), case.horizon) == 0


def test_empty_members_have_no_vehicles_and_change_nothing():
    case = driving("rural1", days=0.25, dtype="float64", vehicles=9, seats=2, market="pool", seed=14)
    padded, longer = pad_community(case.community, case.horizon, 10)
    assert padded.size == 30 and longer.plugs.floor.shape[1:] == (2, 30)
    parts = [(case.community, case.horizon), (padded, longer)]
    policies = [make_policies(*part)["charge_at_once"] for part in parts]

    @jax.jit
    def posed(part, policy, t):
        community, horizon = part
        slot = jax.tree.map(lambda x: x[t], slots(horizon))
        now, penalties = at_start(community, slot), penalties_of(horizon)
        problem = pose(community, penalties, policy, slot, now, t, None).problem
        ramps = problem.devices.ramps()
        return (problem.base, *ramps), jnp.sum(problem.vehicles.storage.charge_min)

    for t in range(0, case.horizon.slots, 4):
        (one, charged), (other, _) = map(posed, parts, policies, [jnp.asarray(t)] * 2)
        for mine, theirs in zip(one, other, strict=True):
            np.testing.assert_array_equal(theirs[..., : case.size], mine)
        base, _, _, gain = other
        assert not np.any(base[case.size :]) and not np.any(gain[:, case.size :])  # whatever the price
        assert charged > 0
