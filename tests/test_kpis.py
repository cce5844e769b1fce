"""Figures against hand counts, identities, and deliberate faults."""

from __future__ import annotations

import numpy as np
import pytest
from fake_runs import fake_run, trajectory

from jaxp2p.data import load_case, window
from jaxp2p.model.build import build_community, build_horizon
from jaxp2p.report.kpis import compare, evaluate, policy_kpis
from jaxp2p.simulation.accounting import member_bills
from jaxp2p.simulation.grid import grid_state
from jaxp2p.slot.status import Status


@pytest.fixture(scope="module")
def village():
    tables = window(load_case("rural1"), start="2016-07-05", days=1)
    community = build_community(tables, dtype="float64")
    return community, build_horizon(community, tables)


def figures(village, run, **options):
    community, horizon = village
    return policy_kpis(community, horizon, run, **({"terminal_price": 0.2} | options))


def test_money_is_consistent(village):
    community, horizon = village
    run = trajectory(community, horizon)
    kpis, bills = figures(village, run), member_bills(community, horizon, run, terminal_price=0.2)
    gained = run.energy[-1].sum() - np.asarray(community.prosumers.battery.energy_start).sum()
    assert kpis["cost_eur"] == pytest.approx(run.cost.sum() - 0.2 * gained, rel=1e-12)
    assert kpis["energy_cost_eur"] == pytest.approx(run.cost.sum(), rel=1e-12)
    assert kpis["stored_worth_eur"] == pytest.approx(0.2 * gained, rel=1e-9)
    assert bills.sum() == pytest.approx(kpis["cost_eur"], rel=1e-9)


def test_energy_is_counted_once(village):
    community, horizon = village
    run = trajectory(community, horizon)
    kpis = figures(village, run)
    dt = float(horizon.slot_hours)
    assert kpis["p2p_kwh"] == pytest.approx(np.maximum(run.trade, 0).sum() * dt, rel=1e-12)
    assert kpis["self_sufficiency"] == pytest.approx(1 - run.buy.sum() / run.load.sum(), rel=1e-12)
    assert kpis["self_consumption"] == pytest.approx(1 - run.sell.sum() / run.pv_used.sum(), rel=1e-12)
    assert kpis["peak_import_kw"] == pytest.approx((run.buy - run.sell).sum(1).max(), rel=1e-12)
    assert kpis["curtailed_kwh"] == 0
    less = run._replace(pv_used=run.pv_used * 0.5)
    assert figures(village, less)["curtailed_kwh"] == pytest.approx(run.pv_used.sum() * dt / 2, rel=1e-9)


def test_batteries(village):
    community, horizon = village
    run = trajectory(community, horizon)
    kpis = figures(village, run)
    assert kpis["soc_violation_kwh"] == 0
    assert kpis["storage_balance_error_kwh"] < 1e-12
    assert kpis["battery_cycles"] == pytest.approx(kpis["battery_throughput_kwh"] / 2 / 412.0, rel=1e-9)
    owner = int(np.argmax(np.asarray(community.prosumers.battery.energy_max)))
    over = run.energy.copy()
    over[10, owner] = float(community.prosumers.battery.energy_max[owner]) + 0.25
    kpis = figures(village, run._replace(energy=over))
    assert kpis["soc_violation_kwh"] == pytest.approx(0.25, rel=1e-9)
    assert kpis["storage_balance_error_kwh"] > 0.1


def test_absent_batteries_may_leak(village):
    run = trajectory(*village, storage=0.0)
    assert figures(village, run._replace(energy=run.energy - 1e6))["soc_violation_kwh"] == 0


@pytest.mark.parametrize("field", ["injection", "buy", "sell", "trade", "load", "charge"])
def test_a_broken_balance_is_seen(village, field):
    run = trajectory(*village)
    assert figures(village, run)["balance_error_kw"] < 1e-12
    wrong = getattr(run, field).copy()
    wrong[5, 3] += 0.75
    assert figures(village, run._replace(**{field: wrong}))["balance_error_kw"] == pytest.approx(0.75)


def test_unserved_power_is_part_of_the_balance(village):
    community, horizon = village
    run = trajectory(community, horizon)
    buy, missing = run.buy.copy(), np.zeros_like(run.buy)
    slot, home = np.argwhere(buy > 0)[0]
    missing[slot, home] = buy[slot, home] / 2
    buy[slot, home] /= 2
    kpis = figures(village, run._replace(buy=buy, unserved=missing))
    assert kpis["balance_error_kw"] < 1e-12
    assert kpis["unserved_kwh"] == pytest.approx(missing.sum() * float(horizon.slot_hours), rel=1e-9)


def test_grid_counts_fixed_homes_once(village):
    """Against flows summed up by hand from loads and PV of all homes."""
    community, horizon = village
    tables = window(load_case("rural1"), start="2016-07-05", days=1)
    run = trajectory(community, horizon, storage=0.0, trade=False)
    state = grid_state(community, horizon, run.injection)
    transformer = tables.lines.index[tables.lines["kind"] == "transformer"][0]
    reactive = np.asarray(horizon.flow_reactive)[:, transformer]
    rating = tables.lines["s_max_kva"][transformer]
    by_hand = np.hypot(run.injection.sum(1), reactive) / rating
    np.testing.assert_allclose(state.loading[:, transformer], by_hand, rtol=1e-9)
    room = np.sqrt(rating**2 - reactive**2)
    excess = np.maximum(np.abs(run.injection.sum(1)) - room, 0)
    np.testing.assert_allclose(state.excess[:, transformer], excess, atol=1e-9)
    assert excess.max() > 1  # this village is known for it
    kpis = figures(village, run)
    assert kpis["transformer_loading_max"] == pytest.approx(by_hand.max(), rel=1e-9)
    assert kpis["line_violation_kw"] == pytest.approx(excess.max(), rel=1e-9)
    assert kpis["overload_hours"] == pytest.approx((excess > 0.05).sum() * 0.25)


def test_grid_agrees_with_the_model(village):
    community, horizon = village
    run = trajectory(community, horizon)
    homes = community.prosumers
    able = (np.asarray(homes.pv_peak) > 0) | (np.asarray(homes.battery.charge_max) > 0)
    state = grid_state(community, horizon, run.injection)
    at_bus = np.zeros((horizon.slots, community.network.buses))
    np.add.at(at_bus.T, np.asarray(homes.bus), (run.injection * able).T)
    squared = horizon.voltage_base + 2 * at_bus @ np.asarray(community.network.paths.resistance)
    flow = horizon.flow_base + at_bus @ np.asarray(community.network.paths.downstream).T
    share = np.hypot(flow, horizon.flow_reactive) / np.asarray(community.network.rating)
    np.testing.assert_allclose(state.voltage, np.sqrt(squared), rtol=1e-12)
    np.testing.assert_allclose(state.loading, share, rtol=1e-12)


def test_voltage_violations(village):
    community, horizon = village
    run = trajectory(community, horizon)
    state = grid_state(community, horizon, run.injection)
    volts = state.voltage.copy()
    volts[3, 2], volts[4, 2] = 1.13, 0.88
    kpis = figures(village, run, grid=state._replace(voltage=volts))
    assert kpis["voltage_violation_pu"] == pytest.approx(0.03, rel=1e-6)
    assert kpis["voltage_violation_slots"] == 2
    assert (kpis["voltage_min_pu"], kpis["voltage_max_pu"]) == (0.88, 1.13)


def test_solver_figures(village):
    run = trajectory(*village)
    status = np.zeros(len(run.status), np.int32)
    status[:3], status[3] = Status.MAX_ITER, Status.NETWORK_VIOLATED
    iterations = np.arange(1, len(status) + 1)
    kpis = figures(village, run._replace(status=status, iterations=iterations), seconds=0.5)
    assert kpis["status_counts"] == {"SOLVED": len(status) - 4, "MAX_ITER": 3, "NETWORK_VIOLATED": 1}
    assert kpis["slots_not_solved"] == 3
    assert kpis["iterations_median"] == np.median(iterations)
    assert kpis["iterations_max"] == len(status)
    assert kpis["ms_per_slot"] == pytest.approx(500 / len(status))
    offline = figures(village, run, iterative=False)
    assert offline["iterations_median"] is None
    assert offline["ms_per_slot"] is None


def test_prices_against_tariffs(village):
    _, horizon = village
    run = trajectory(*village)
    kpis = figures(village, run)
    assert kpis["price_outside_tariffs"] < 1e-12
    assert kpis["price_min"] <= kpis["price_mean"] <= kpis["price_max"]
    wild = run.market_price.copy()
    wild[0, 0] = float(horizon.price_buy[0]) + 0.5
    kpis = figures(village, run._replace(market_price=wild))
    assert kpis["price_outside_tariffs"] == pytest.approx(0.5)
    unknown = figures(village, run._replace(market_price=np.full_like(wild, np.nan)))
    assert unknown["price_mean"] is None


def test_members(village):
    community, horizon = village
    run = trajectory(community, horizon)
    bill = member_bills(community, horizon, run, terminal_price=0.2)
    reference = bill.copy()
    reference[:7] += 1.0
    reference[7:10] -= 2.0
    kpis = figures(village, run, reference_bill=reference)
    assert kpis["no_worse_off_share"] == pytest.approx(1 - 3 / len(bill))
    assert kpis["benefit_min_eur"] == pytest.approx(-2)
    assert kpis["benefit_max_eur"] == pytest.approx(1)
    assert figures(village, run)["benefit_gini"] is None


def test_capture_and_saving():
    costs = {"no_storage_no_trade": 100.0, "no_storage": 80.0, "lyapunov": 70.0, "perfect_foresight": 60.0}
    kpis = compare({name: {"total_cost_eur": cost} for name, cost in costs.items()}, 60.0)
    assert [values["capture"] for values in kpis.values()] == [-1.0, 0.0, 0.5, 1.0]
    assert kpis["lyapunov"]["saving_eur"] == 30


@pytest.mark.parametrize(
    ("trade_only", "foresight"), [(80.0, 79.95), (0.0, -0.005), (80.0, 81.0), (80.0, None), (None, 60.0)]
)
def test_capture_of_nothing_is_null(trade_only, foresight):
    costs = {"lyapunov": 70.0} | ({} if trade_only is None else {"no_storage": trade_only})
    kpis = compare({name: {"total_cost_eur": cost} for name, cost in costs.items()}, foresight)
    assert kpis["lyapunov"]["capture"] is None
    assert kpis["lyapunov"]["saving_eur"] is None


def test_evaluate_puts_it_together(village):
    run = fake_run(*village)
    found = evaluate(*village, run)
    assert list(found) == list(run.trajectories)
    assert found["no_storage_no_trade"].kpis["saving_eur"] == 0
    assert found["no_storage"].kpis["capture"] == 0
    assert found["perfect_foresight"].kpis["capture"] == pytest.approx(1)
    assert found["perfect_foresight"].kpis["iterations_p95"] is None
    for name, evaluation in found.items():
        assert evaluation.bill.sum() == pytest.approx(evaluation.kpis["cost_eur"], rel=1e-9)
        numbers = [x for x in evaluation.kpis.values() if isinstance(x, float)]
        assert np.isfinite(numbers).all(), name


def test_no_devices_at_all():
    tables = window(load_case("rural1", pv_scale=0, battery_scale=0), days=0.5)
    community = build_community(tables, dtype="float64")
    horizon = build_horizon(community, tables)
    found = evaluate(community, horizon, fake_run(community, horizon, policies=("no_storage_no_trade",)))
    kpis = found["no_storage_no_trade"].kpis
    assert kpis["battery_cycles"] is None
    assert kpis["self_consumption"] is None
    assert kpis["self_sufficiency"] == pytest.approx(0, abs=1e-12)
