"""Perfect foresight and the lower bound with vehicles, against a program stated from the stays."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ev_village import (
    CHARGE_EFFICIENCY,
    DISCHARGE_EFFICIENCY,
    HOURS,
    ROW_PENALTY,
    SEATS,
    TERMINAL,
    UNSERVED,
    WEAR,
    alone,
    cheapest,
    idle_flow,
    least_at,
    lowest,
    village,
)

from jaxp2p.control.charging import AT_ONCE, BY_WORTH, by_rule, by_worth
from jaxp2p.control.policy import greedy, suggest_penalties
from jaxp2p.hindsight.lower_bound import best_lower_bound, lower_bound
from jaxp2p.hindsight.perfect_foresight import estimate_seconds, perfect_foresight
from jaxp2p.model.devices.vehicle import Stay, begun
from jaxp2p.runs.in_hindsight import lower_bound_of
from jaxp2p.simulation import grid as simulation_grid
from jaxp2p.simulation.accounting import costs
from jaxp2p.simulation.forward import simulate
from jaxp2p.simulation.grid import grid_state
from jaxp2p.slot.solvers import choose_solver

pytestmark = pytest.mark.slow

CASES = {
    "pool": {},
    "no fee": {"fee": 0.0},
    "none": {"kind": "none"},
    "leaking battery": {"retention": 0.9},
    "negative prices": {"sell": -0.05},
    "connection limits": {"connection": 5.0},
    "connection limits, none": {"connection": 5.0, "kind": "none"},
    "network": {"network": True},
    "network, none": {"network": True, "kind": "none"},
    "network, negative prices": {"network": True, "sell": -0.05},
}
CHARGES_ONLY = {"reserve": 0.0, "discharge_max": 0.0}
DEFAULTS = Stay(
    seat=0,
    home=0,
    begin=0,
    end=4,
    energy=10.0,
    wanted=20.0,
    reserve=6.0,
    capacity=30.0,
    charge_max=4.0,
    discharge_max=4.0,
    efficiency=CHARGE_EFFICIENCY,
)
STEP = HOURS * CHARGE_EFFICIENCY * DEFAULTS.charge_max  # kWh of a slot at full power


@pytest.fixture(autouse=True)
def idle_network(monkeypatch):
    """Nothing here is about power flows."""
    monkeypatch.setattr(simulation_grid, "power_flow_of", idle_flow)


def solve(community, horizon, terminal_price=TERMINAL, **options):
    options = {"row_penalty": ROW_PENALTY, "unserved_price": UNSERVED, "tolerance": 1e-6} | options
    return perfect_foresight(community, horizon, terminal_price=terminal_price, **options)


def bound_of(community, horizon, found, terminal_price=TERMINAL, **change):
    """The lower bound that the duals of perfect foresight prove."""
    rows = None
    if community.feeder.rows:
        rows = jnp.asarray(np.clip(found.row_duals, -ROW_PENALTY, ROW_PENALTY))
    options = {
        "storage_value": jnp.asarray(found.storage_duals),
        "vehicle_value": jnp.asarray(found.vehicle_duals),
        "row_price": rows,
        "unserved_price": UNSERVED,
    }
    return lower_bound(community, horizon, terminal_price=terminal_price, **(options | change)).value_eur


def lone(prices, *stays):
    """Home 0 with these stays and nothing else, who buys at `prices` and sells for nothing."""
    community, horizon, _ = village(0, slots=len(prices), kind="none", stays=list(stays))
    homes = community.prosumers
    battery = replace(homes.battery.without_power(), energy_start=0 * homes.battery.energy_start)
    community = replace(community, prosumers=replace(homes, battery=battery))
    price = jnp.asarray(prices)
    return community, replace(
        horizon, load=0 * horizon.load, pv=0 * horizon.pv, price_buy=price, price_sell=0 * price
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", CASES)
def test_perfect_foresight_equals_the_program_of_the_stays(name, seed):
    community, horizon, stays = village(seed, **CASES[name])
    found = solve(community, horizon)
    assert found.objective_eur == pytest.approx(cheapest(community, horizon, stays), rel=1e-7, abs=1e-6)
    assert found.dual_objective_eur == pytest.approx(found.objective_eur, rel=1e-7, abs=1e-6)
    assert not found.is_lower_bound or found.simultaneous_kwh > 0


def test_the_cases_have_what_they_are_there_for():
    """Else the comparison above would say little."""
    drawn = [stay for seed in range(3) for stay in village(seed)[2]]
    step = HOURS * CHARGE_EFFICIENCY
    out_of_reach = [s for s in drawn if s.wanted > s.energy + (s.end - s.begin) * step * s.charge_max + 0.1]
    assert out_of_reach and any(s.wanted < s.energy for s in drawn)
    assert any(s.begin < 0 < s.end for s in drawn) and any(s.begin < 12 < s.end for s in drawn)
    assert {s.discharge_max > 0 for s in drawn} == {True, False}
    assert {s.seat for s in drawn if s.home == 0} == set(range(SEATS))
    for name, (community, horizon, _) in ((n, village(2, **c)) for n, c in CASES.items()):
        found = solve(community, horizon)
        if "network" in name:
            assert found.rows_added > 0 and np.abs(found.row_duals).max() > 0.01
        if "limits" in name:
            assert np.max(found.trajectory.buy) > 5 - 1e-6
        assert found.trajectory.vehicle_discharge.max() > 0.1
    assert any(
        solve(*village(seed, **CASES["connection limits, none"])[:2]).unserved_eur > 0 for seed in range(3)
    )


@pytest.mark.parametrize("name", ["pool", "network, negative prices", "connection limits"])
def test_what_is_done_keeps_every_limit_and_law(name):
    community, horizon, stays = village(1, **CASES[name])
    run = solve(community, horizon).trajectory
    plugs = jax.tree.map(np.asarray, horizon.plugs)
    charge, discharge, energy = run.vehicle_charge, run.vehicle_discharge, run.vehicle_energy
    assert charge.shape == discharge.shape == energy.shape == plugs.floor.shape
    assert np.all(energy >= plugs.floor - 1e-9) and np.all(energy <= plugs.most + 1e-9)
    assert np.all((charge >= 0) & (charge <= plugs.charge_max))
    assert np.all((discharge >= 0) & (discharge <= plugs.discharge_max))
    assert not energy[plugs.charge_max == 0].any()
    for stay in stays:
        first, end = max(stay.begin, 0), min(stay.end, len(energy))
        if first >= end:
            continue
        own = slice(first, end), stay.seat, stay.home
        start = stay.energy if stay.begin >= 0 else least_at(stay, -1)
        moved = HOURS * (CHARGE_EFFICIENCY * charge[own] - discharge[own] / DISCHARGE_EFFICIENCY)
        np.testing.assert_allclose(energy[own], start + np.cumsum(moved), atol=1e-7)
        assert np.all(energy[own] >= lowest(stay) - 1e-9)
        if stay.end <= len(energy):
            reach = stay.energy + (stay.end - stay.begin) * HOURS * CHARGE_EFFICIENCY * stay.charge_max
            assert energy[own][-1] >= min(stay.wanted, reach) - 1e-9
    fleet = discharge.sum(1) - charge.sum(1)
    np.testing.assert_allclose(run.injection, run.pv_used - run.load + run.discharge - run.charge + fleet)
    np.testing.assert_allclose(run.injection, run.sell - run.buy + run.trade - run.unserved, atol=1e-12)


def test_cost_and_end_value_are_those_of_the_trajectory():
    community, horizon, _ = village(2)
    found = solve(community, horizon)
    run, homes = found.trajectory, community.prosumers
    moved = CHARGE_EFFICIENCY * run.vehicle_charge + run.vehicle_discharge / DISCHARGE_EFFICIENCY
    battery = 0.012 * (0.95 * run.charge + run.discharge / 0.94).sum()
    buy, sell = np.asarray(horizon.price_buy), np.asarray(horizon.price_sell)
    rate = (buy @ run.buy - sell @ run.sell).sum() + battery + WEAR * moved.sum()
    rate += 0.01 * np.abs(run.trade).sum() + 0.005 * (np.asarray(horizon.pv) - run.pv_used).sum()
    assert found.cost_eur == pytest.approx(HOURS * rate, rel=1e-9)
    gained = (run.energy[-1] - np.asarray(homes.battery.energy_start)).sum()
    gained += (run.vehicle_energy[-1] - np.asarray(begun(horizon.plugs))).sum()
    assert found.terminal_eur == pytest.approx(-TERMINAL * gained, rel=1e-9)


# --- by hand ------------------------------------------------------------------------------------------------


def test_the_cheapest_slots_of_a_stay_by_hand():
    """One and a half slots of charging: all of the cheapest, half of the next; m is what the last costs."""
    stay = DEFAULTS._replace(wanted=10 + 1.5 * STEP, **CHARGES_ONLY)
    community, horizon = lone([0.4, 0.1, 0.3, 0.2, 0.05], stay)
    found = solve(community, horizon)
    np.testing.assert_allclose(found.trajectory.vehicle_charge[:, 0, 0], [0, 4, 0, 2, 0], atol=1e-6)
    assert found.objective_eur == pytest.approx(HOURS * (4 * 0.1 + 2 * 0.2) + WEAR * 1.5 * STEP, abs=1e-7)
    np.testing.assert_allclose(found.vehicle_duals[1:3, 0, 0], 0.2 / CHARGE_EFFICIENCY + WEAR, atol=1e-5)


def test_a_target_out_of_reach_is_charged_for_at_full_power_by_hand():
    stay = DEFAULTS._replace(wanted=29.0, **CHARGES_ONLY)
    prices = [0.4, 0.1, 0.3, 0.2, 0.05]
    found = solve(*lone(prices, stay))
    np.testing.assert_allclose(found.trajectory.vehicle_charge[:, 0, 0], [4, 4, 4, 4, 0], atol=1e-9)
    np.testing.assert_allclose(found.trajectory.vehicle_energy[3, 0, 0], 10 + 4 * STEP, atol=1e-9)
    assert found.objective_eur == pytest.approx(HOURS * 4 * 1.0 + WEAR * 4 * STEP, abs=1e-9)
    assert bound_of(*lone(prices, stay), found) == pytest.approx(found.objective_eur, abs=1e-6)


def test_who_has_all_he_wants_does_nothing():
    stay = DEFAULTS._replace(wanted=8.0, **CHARGES_ONLY)
    found = solve(*lone([0.4, -0.1, 0.3, 0.2], stay))  # to be paid for charging does not tempt it
    assert not found.trajectory.vehicle_charge.any()
    np.testing.assert_array_equal(found.trajectory.vehicle_energy[:, 0, 0], 10)
    assert bound_of(*lone([0.4, -0.1, 0.3, 0.2], stay), found) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("begin", [0, -2])
def test_a_stay_that_the_end_cuts_by_hand(begin):
    """Three slots are seen of six, or of eight; what is charged beyond the start is worth v_T."""
    stay = DEFAULTS._replace(begin=begin, end=6, wanted=10 + 2.5 * STEP, **CHARGES_ONLY)
    community, horizon = lone([0.1, 0.3, 0.2], stay)
    dear, cheap = (solve(community, horizon, worth) for worth in (0.25, 0.05))
    np.testing.assert_array_equal(begun(horizon.plugs)[0, 0], 10)  # nothing is urgent, two slots later either
    # at 0.25 the slots below (0.25 - 0.01) 0.93 = 0.223 EUR/kWh pay, at 0.05 none does
    np.testing.assert_allclose(dear.trajectory.vehicle_charge[:, 0, 0], [4, 0, 4], atol=1e-6)
    assert dear.terminal_eur == pytest.approx(-0.25 * 2 * STEP, abs=1e-6)
    assert dear.objective_eur == pytest.approx(HOURS * 4 * 0.3 - (0.25 - WEAR) * 2 * STEP, abs=1e-6)
    assert not np.round(cheap.trajectory.vehicle_charge, 6).any()
    assert cheap.objective_eur == pytest.approx(0, abs=1e-6)
    for found, worth in ((dear, 0.25), (cheap, 0.05)):
        bound = bound_of(community, horizon, found, worth)
        assert bound == pytest.approx(found.objective_eur, abs=1e-6)


def test_a_stay_that_the_start_cuts_begins_with_its_floor():
    """Five slots, two of them over, four needed: one was urgent and counts as done, three are left."""
    stay = DEFAULTS._replace(begin=-2, end=3, wanted=10 + 4 * STEP, **CHARGES_ONLY)
    found = solve(*lone([0.1, 0.3, 0.2], stay))
    np.testing.assert_allclose(found.trajectory.vehicle_charge[:, 0, 0], 4, atol=1e-6)
    np.testing.assert_allclose(
        found.trajectory.vehicle_energy[:, 0, 0] - 10, STEP * np.array([2, 3, 4]), atol=1e-6
    )


def test_a_vehicle_serves_the_home_and_keeps_its_reserve_by_hand():
    """It comes with 4 kWh more than it keeps, in the dear slot; the load there is 2 kW."""
    stay = DEFAULTS._replace(wanted=0.0)
    community, horizon = lone([0.1, 0.5, 0.1, 0.1, 0.1], stay)
    horizon = replace(horizon, load=horizon.load.at[1, 0].set(2.0))
    run = (found := solve(community, horizon)).trajectory
    np.testing.assert_allclose(run.vehicle_discharge[:, 0, 0], [0, 2, 0, 0, 0], atol=1e-6)
    assert found.objective_eur == pytest.approx(HOURS * WEAR * 2 / DISCHARGE_EFFICIENCY, abs=1e-6)
    longer = replace(horizon, load=horizon.load.at[:2, 0].set(6.0))  # 12 kWh in two slots, 4 of them stored
    run = solve(community, replace(longer, price_buy=jnp.asarray([0.5, 0.5, 0.1, 0.1, 0.1]))).trajectory
    np.testing.assert_allclose(run.vehicle_energy[1:4, 0, 0], 6.0, atol=1e-5)
    np.testing.assert_allclose(HOURS * run.vehicle_discharge.sum(), 4 * DISCHARGE_EFFICIENCY, atol=1e-5)


# --- the bound ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", [*CASES, "elastic"])
def test_duals_of_perfect_foresight_prove_perfect_foresight(name, seed):
    community, horizon, _ = village(seed, **CASES.get(name, {"elastic": 0.3}))
    found = solve(community, horizon)
    assert bound_of(community, horizon, found) == pytest.approx(found.objective_eur, rel=1e-7, abs=2e-6)


@pytest.mark.parametrize("seed", range(3))
def test_a_piece_of_a_horizon_begins_with_the_floors_of_its_first_slot(seed):
    """Stays that are under way there have no arrival."""
    community, horizon, _ = village(seed, slots=24)
    piece = horizon.slice(7, 19)
    before = np.where(piece.plugs.arrived[0] < 0, piece.plugs.floor[0], piece.plugs.arrived[0])
    assert np.any(piece.plugs.arrived[0] < 0)
    found = solve(community, piece)
    run = found.trajectory
    moved = CHARGE_EFFICIENCY * run.vehicle_charge[0] - run.vehicle_discharge[0] / DISCHARGE_EFFICIENCY
    np.testing.assert_allclose(run.vehicle_energy[0], before + HOURS * moved, atol=1e-7)
    assert bound_of(community, piece, found) == pytest.approx(found.objective_eur, abs=2e-6)


@pytest.mark.parametrize("name", ["pool", "none", "negative prices", "connection limits", "network"])
def test_any_multipliers_stay_below_perfect_foresight(name):
    community, horizon, _ = village(0, **CASES[name])
    found = solve(community, horizon)
    rng = np.random.default_rng(0)
    for spread in (0.001, 0.01, 0.1, 1.0):
        noise = lambda x, spread=spread: jnp.asarray(x + spread * rng.standard_normal(x.shape))
        wild = {"storage_value": noise(found.storage_duals), "vehicle_value": noise(found.vehicle_duals)}
        value = bound_of(community, horizon, found, **wild)
        assert value <= found.objective_eur + 1e-6
        assert spread < 0.1 or value < found.objective_eur - 0.01
    worth = {"storage_value": jnp.full(horizon.load.shape, TERMINAL), "vehicle_value": None}
    assert bound_of(community, horizon, found, **worth) <= found.objective_eur


@pytest.mark.parametrize("name", ["pool", "none", "negative prices", "connection limits"])
def test_own_multipliers_come_close_and_those_of_foresight_are_not_lost(name):
    community, horizon, _ = village(3, slots=48, **CASES[name])
    found = solve(community, horizon)
    options = {"terminal_price": TERMINAL, "unserved_price": UNSERVED}
    best = best_lower_bound(community, horizon, **options)
    blunt = lower_bound(community, horizon, storage_value=jnp.full(horizon.load.shape, TERMINAL), **options)
    gap = found.objective_eur - best.value_eur
    assert -1e-6 <= gap <= 0.01 * (found.objective_eur - blunt.value_eur)
    assert best.vehicle_value.shape == horizon.plugs.floor.shape
    kept = best_lower_bound(
        community,
        horizon,
        storage_value=jnp.asarray(found.storage_duals),
        vehicle_value=jnp.asarray(found.vehicle_duals),
        steps=20,
        **options,
    )
    assert kept.value_eur == pytest.approx(found.objective_eur, abs=1e-5)


@pytest.mark.parametrize("name", ["pool", "none", "network"])
def test_bound_foresight_and_policies_are_in_order(name):
    community, horizon, _ = village(2, slots=24, sell=0.02, **CASES[name])
    found = solve(community, horizon)
    penalties, solver = suggest_penalties(horizon), choose_solver(community)
    vehicles = community.prosumers.vehicles
    for charging in (
        by_rule(vehicles, AT_ONCE),
        by_rule(vehicles, BY_WORTH),
        by_worth(vehicles, horizon.price_sell.min(), horizon.price_buy.max()),
    ):
        policy = replace(greedy(community.size, horizon.load.dtype), charging=charging)
        _, run = jax.jit(simulate)(community, horizon, penalties, policy, solver)
        grid = grid_state(community, horizon, np.asarray(run.injection))
        prices = {"terminal_price": TERMINAL, "unserved_price": UNSERVED, "row_price": ROW_PENALTY}
        online = costs(community, horizon, run, grid, **prices).total_eur
        assert bound_of(community, horizon, found) <= found.objective_eur + 1e-5
        assert found.objective_eur <= online + 1e-3
        assert np.all(run.vehicle_energy >= horizon.plugs.floor - 1e-6)


def test_the_runner_proves_what_perfect_foresight_says():
    for network in (False, True):
        community, horizon, _ = village(1, network=network)
        penalties = suggest_penalties(horizon)
        found = perfect_foresight(
            community,
            horizon,
            terminal_price=TERMINAL,
            row_penalty=float(penalties.row),
            unserved_price=float(penalties.unserved),
        )
        bound = lower_bound_of(community, horizon, penalties, TERMINAL, found)
        assert bound == pytest.approx(found.objective_eur, abs=2e-3 if network else 1e-5)


def test_both_ways_at_once_where_that_pays_is_told():
    """At 0.5 EUR/kWh for taking energy a vehicle burns what it can, and the bound knows; no policy does."""
    stay = DEFAULTS._replace(wanted=30.0, energy=30.0)
    community, horizon = lone([0.1, 0.1, 0.1, 0.1], stay)
    horizon = replace(horizon, price_buy=0 * horizon.price_buy - 0.5, price_sell=0 * horizon.price_sell - 0.5)
    found = solve(community, horizon)
    assert found.simultaneous_kwh > 1 and found.is_lower_bound
    np.testing.assert_allclose(
        HOURS * found.trajectory.vehicle_discharge.sum(), DISCHARGE_EFFICIENCY * 4 * STEP, rtol=1e-5
    )
    assert bound_of(community, horizon, found) == pytest.approx(found.objective_eur, abs=1e-6)


# --- without, and in single precision -----------------------------------------------------------------------


def test_without_vehicles_there_is_nothing_of_them():
    community, horizon = alone(*village(0)[:2])
    found = solve(community, horizon)
    assert found.vehicle_duals is None
    assert found.trajectory.vehicle_charge is None and found.trajectory.vehicle_energy is None
    bound = lower_bound(
        community, horizon, storage_value=jnp.asarray(found.storage_duals), terminal_price=TERMINAL
    )
    assert bound.vehicle_value is None
    assert bound.value_eur == pytest.approx(found.objective_eur, abs=1e-6)


def test_seats_that_nobody_uses_change_nothing():
    community, horizon, _ = village(0, stays=[])
    found, other = solve(community, horizon), solve(*alone(community, horizon))
    assert found.objective_eur == pytest.approx(other.objective_eur, abs=1e-9)
    assert found.variables == other.variables
    assert not found.trajectory.vehicle_charge.any()
    assert bound_of(community, horizon, found) == pytest.approx(found.objective_eur, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_the_rounding_of_single_precision_leaves_a_course(seed):
    """Where a target is just out of reach the rounded floors alone would leave none."""
    single, double = (village(seed, dtype=dtype) for dtype in (np.float32, np.float64))
    found = solve(*single[:2])
    assert found.objective_eur == pytest.approx(solve(*double[:2]).objective_eur, abs=1e-4)
    run = found.trajectory
    assert np.all(run.vehicle_energy >= np.asarray(single[1].plugs.floor) - 1e-5)


def test_the_time_it_takes_is_told_with_vehicles():
    community, horizon, _ = village(0)
    bare, _ = alone(community, horizon)
    more = estimate_seconds(community, 96) - estimate_seconds(bare, 96)
    assert more == pytest.approx(6e-5 * 4 * 1.5 * 96)  # four vehicles, 3 variables in half of the slots
