"""What counts as cost: nothing that was left undone is left out, and ends of runs are valued alike."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from communities import small
from fake_runs import trajectory

from jaxp2p.report.kpis import compare, evaluate
from jaxp2p.report.tables import legend, notes, text_tables
from jaxp2p.runs.runner import make_policies, penalties_of, run
from jaxp2p.simulation.accounting import (
    costs,
    end_value,
    losses_by_member,
    losses_cost,
    possible_saving,
    unserved_power,
    usual_prices,
)
from jaxp2p.simulation.grid import grid_state
from jaxp2p.slot.status import Status
from jaxp2p.studies.run import make_study, run_chunk

POLICIES = ("no_storage_no_trade", "no_storage", "self_consumption", "lyapunov", "perfect_foresight")


def with_prices(horizon, *, buy=None, sell=None):
    kind = horizon.load.dtype
    row = lambda new, old: old if new is None else jnp.asarray(new, kind)
    return replace(horizon, price_buy=row(buy, horizon.price_buy), price_sell=row(sell, horizon.price_sell))


@pytest.fixture(scope="module")
def day():
    return small("rural1", days=1)


@pytest.fixture(scope="module")
def fused():
    """A village whose members may buy 1 kW and sell half of it."""
    community, horizon = small("rural1", days=1, dtype="float32", pv_share=0.6, battery_share=0.6)
    homes = community.prosumers
    full = lambda value: jnp.full_like(homes.buy_max, value)
    homes = replace(homes, buy_max=full(1.0), sell_max=full(0.5), limited=True)
    return replace(community, prosumers=homes), horizon.slice(56, 80)


@pytest.fixture(scope="module")
def fused_run(fused):
    return run(*fused, policies=POLICIES)


def test_unserved_and_spilled_cost_what_the_slots_paid(day):
    community, horizon = day
    plain = trajectory(community, horizon)
    buy, sell = plain.buy.copy(), plain.sell.copy()
    missing = np.zeros_like(buy)
    short, spill = np.argwhere(buy > 0.2)[0], np.argwhere(sell > 0.2)[0]
    missing[tuple(short)], missing[tuple(spill)] = 0.2, -0.1
    buy[tuple(short)] -= 0.2
    sell[tuple(spill)] -= 0.1
    prices = {"terminal_price": 0.2, "unserved_price": 16.0, "row_price": 0.0}
    state = grid_state(community, horizon, plain.injection)
    found = costs(community, horizon, plain._replace(buy=buy, sell=sell, unserved=missing), state, **prices)
    dt = float(horizon.slot_hours)
    buy_price = float(horizon.price_buy[short[0]])
    sell_price = float(horizon.price_sell[spill[0]])
    by_hand = dt * (0.2 * (buy_price + 16) + 0.1 * (16 - sell_price))
    assert found.unserved.sum() == pytest.approx(by_hand, rel=1e-9)
    assert found.short_kwh[short[1]] == pytest.approx(0.2 * dt)
    assert found.spilled_kwh[spill[1]] == pytest.approx(0.1 * dt)
    assert found.penalty.sum() == pytest.approx(by_hand, rel=1e-9)
    assert found.total_eur == pytest.approx(found.paid.sum() + by_hand, rel=1e-12)


def test_the_sign_of_unserved_energy_is_known_without_it(day):
    plain = trajectory(*day)
    missing = np.zeros_like(plain.buy)
    slot, home = np.argwhere(plain.buy > 0.2)[0]
    missing[slot, home] = 0.2
    buy = plain.buy - missing
    for given in (missing, np.abs(missing)):
        short, spilled = unserved_power(plain._replace(buy=buy, unserved=given))
        assert (short.sum(), spilled.sum()) == (pytest.approx(0.2), 0)
    sell = plain.sell + plain.buy * 0
    slot, home = np.argwhere(sell > 0.2)[0]
    spill = np.zeros_like(sell)
    spill[slot, home] = 0.2
    for given in (spill, -spill):
        short, spilled = unserved_power(plain._replace(sell=sell - spill, unserved=given))
        assert (short.sum(), spilled.sum()) == (0, pytest.approx(0.2))


def test_rounding_is_not_unserved(day):
    plain = trajectory(*day)
    noise = np.full_like(plain.buy, 5e-4)
    assert unserved_power(plain._replace(buy=plain.buy - noise, unserved=noise))[0].sum() == 0


def test_a_violated_row_costs_what_the_slot_pays_for_it(day):
    """Against the rows of the slot problem itself."""
    from jaxp2p.control.policy import slot_problem, suggest_penalties
    from jaxp2p.simulation.forward import slots
    from jaxp2p.slot.execute import POWER_TOLERANCE, VOLTAGE_TOLERANCE, row_excess, row_tolerance

    community, horizon = small("rural1", days=1, pv_scale=4.0)
    injection = np.asarray(horizon.pv - horizon.load, float)
    kw = grid_state(community, horizon, injection, linear=True).violated
    assert kw.max() > 1 and (kw == 0).any()
    rows, policy = slots(horizon), make_policies(community, horizon)["no_storage"]
    battery = community.prosumers.battery
    for number in (0, int(kw.argmax())):
        slot = jax.tree.map(lambda leaf, number=number: leaf[number], rows)
        problem = slot_problem(
            community,
            suggest_penalties(horizon),
            policy,
            slot,
            battery.energy_start,
            jnp.zeros((), jnp.int32),
        )
        excess = np.asarray(row_excess(problem, jnp.asarray(injection[number])), float)
        kept = np.asarray(row_tolerance(problem, flow=POWER_TOLERANCE, voltage=VOLTAGE_TOLERANCE), float)
        assert kw[number] == pytest.approx(excess[excess > kept].sum(), rel=1e-6, abs=1e-9)
    assert grid_state(community.without_network(), horizon, injection).violated.sum() == 0


def test_serving_less_never_wins(fused, fused_run):
    kpis = {name: row.kpis for name, row in evaluate(*fused, fused_run).items()}
    dark, best = kpis["no_storage_no_trade"], kpis["perfect_foresight"]
    assert dark["unserved_kwh"] > 1
    for name, row in kpis.items():
        total = row["cost_eur"] + row["unserved_cost_eur"] + row["violation_cost_eur"]
        assert row["total_cost_eur"] == pytest.approx(total, rel=1e-12), name
        assert row["saving_eur"] == pytest.approx(dark["total_cost_eur"] - total, rel=1e-9, abs=1e-9), name
        assert row["total_cost_eur"] >= best["total_cost_eur"] - 1e-3 * abs(best["total_cost_eur"]), name
        assert row["total_cost_eur"] >= fused_run.lower_bound_eur - 1e-3 * abs(best["total_cost_eur"]), name
        served = row["load_kwh"] - row["unserved_kwh"]
        assert row["self_sufficiency"] == pytest.approx(1 - row["import_kwh"] / served, rel=1e-9)
    # the order by what is served is the order in all, whatever is paid
    order = sorted(kpis, key=lambda name: kpis[name]["total_cost_eur"])
    assert order[0] == "perfect_foresight" and order[-1] == "no_storage_no_trade"
    assert Status.UNSERVED in np.asarray(fused_run.trajectories["no_storage_no_trade"].status)


def test_the_table_shows_what_was_left_undone_and_only_then(fused, fused_run, day):
    kpis = {name: row.kpis for name, row in evaluate(*fused, fused_run).items()}
    text = text_tables(kpis, width=300)
    head = text.splitlines()[0].split()
    assert head.count("unserved") == 2 and "spilled" in head and "in all" in text.splitlines()[0]
    remarks = "\n".join(notes(fused_run, kpis))
    assert "load not served at the connection limits, by" in remarks
    assert f"{fused_run.unserved_price:.4g} EUR/kWh on top of the tariffs" in remarks
    assert "penalties included" in remarks
    assert f"counted at {fused_run.terminal_price:.4g} EUR/kWh for every policy" in remarks
    assert "in all: cost and both" in legend(kpis)
    plain = {"greedy": {**kpis["lyapunov"], "total_cost_eur": kpis["lyapunov"]["cost_eur"]}}
    assert "in all" not in text_tables(plain) and "in all" not in legend(plain)


def test_a_study_counts_as_a_run_does(fused, fused_run):
    kpis = {name: row.kpis for name, row in evaluate(*fused, fused_run).items()}
    study = make_study(*fused, policies=POLICIES, foresight_sample=1)
    ours = run_chunk(study, 0, 1).kpis.set_index("policy")
    assert study.terminal_price == fused_run.terminal_price
    for name in POLICIES:
        for figure in ("cost_eur", "unserved_cost_eur", "total_cost_eur", "unserved_kwh", "spilled_kwh"):
            size = abs(kpis[name]["total_cost_eur"])
            assert ours.loc[name, figure] == pytest.approx(kpis[name][figure], abs=1e-4 * size), (
                name,
                figure,
            )
        assert ours.loc[name, "violation_cost_eur"] == pytest.approx(
            kpis[name]["violation_cost_eur"], abs=0.05
        )
        if name != "perfect_foresight":
            assert ours.loc[name, "gap_eur"] == pytest.approx(kpis[name]["gap_eur"], abs=1e-3)
        dark = ours.loc["no_storage_no_trade", "total_cost_eur"]
        assert ours.loc[name, "saving_eur"] == pytest.approx(
            dark - ours.loc[name, "total_cost_eur"], abs=1e-9
        )


def test_the_price_of_unserved_energy_can_be_chosen(fused):
    dear = run(*fused, policies=("no_storage",), unserved_price=50.0, lower_bound=False)
    cheap = run(*fused, policies=("no_storage",), unserved_price=5.0, lower_bound=False)
    cost = [evaluate(*fused, x)["no_storage"].kpis["unserved_cost_eur"] for x in (cheap, dear)]
    kwh = [evaluate(*fused, x)["no_storage"].kpis["unserved_kwh"] for x in (cheap, dear)]
    assert kwh[1] == pytest.approx(kwh[0], rel=1e-2) and cost[1] > 8 * cost[0]
    for price in (0.2, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="must be above"):
            penalties_of(fused[1], price)


# ---------------------------------------------------------------- what a kWh left at the end is worth


@pytest.mark.parametrize("days", [1, 2, 7])
@pytest.mark.parametrize(
    ("hours", "buy", "sell"), [(1, 5.0, 4.8), (2, 5.0, None), (1, None, -5.0), (2, 1.0, -1.0)]
)
def test_a_few_spikes_do_not_move_the_end_value(days, hours, buy, sell):
    community, horizon = small("rural1", days=days)
    before = end_value(community, horizon)
    dear, cheap = np.array(horizon.price_buy, float), np.array(horizon.price_sell, float)
    spike = slice(50, 50 + round(hours / float(horizon.slot_hours)))
    if buy is not None:
        dear[spike] = buy
    if sell is not None:
        cheap[spike] = sell
    after = end_value(community, with_prices(horizon, buy=dear, sell=cheap))
    assert after == pytest.approx(before, rel=0.05)


def test_long_spikes_move_it_no_further_than_twice_the_usual_price():
    community, horizon = small("rural1", days=1)
    dear = np.array(horizon.price_buy, float)
    dear[40:60] = 5.0
    assert end_value(community, with_prices(horizon, buy=dear)) < 2 * float(np.median(dear))
    assert usual_prices(with_prices(horizon, buy=dear))[1] <= 2 * float(np.median(dear)) + 1e-9


def test_flat_prices_have_an_end_value_too():
    """Where a cycle never pays a stored kWh is still worth its price, or to empty the batteries would win."""
    community, horizon = small("rural1", days=1)
    flat = np.full(horizon.slots, 0.25)
    assert end_value(community, with_prices(horizon, buy=flat, sell=flat)) == pytest.approx(0.25, rel=0.02)
    none = np.zeros(horizon.slots)
    assert end_value(community, with_prices(horizon, buy=none, sell=none)) == 0


def test_the_end_value_is_between_cost_and_earnings_and_nothing_without_batteries():
    community, horizon = small("rural1", days=7)
    low, high = usual_prices(horizon)
    assert (low, high) == (pytest.approx(0.08), pytest.approx(0.40))
    battery = community.prosumers.battery
    owner = int(np.argmax(np.asarray(battery.charge_max)))
    eta_c, eta_d = float(battery.charge_efficiency[owner]), float(battery.discharge_efficiency[owner])
    assert end_value(community, horizon) == pytest.approx((0.08 / eta_c + 0.40 * eta_d) / 2, rel=1e-6)
    idle = replace(battery, charge_max=0 * battery.charge_max, discharge_max=0 * battery.discharge_max)
    bare = replace(community, prosumers=replace(community.prosumers, battery=idle))
    assert end_value(bare, horizon) == 0


@pytest.mark.slow
def test_the_end_value_can_be_chosen_and_is_the_same_everywhere(day):
    community, horizon = day[0], day[1].slice(0, 8)
    found = run(community, horizon, policies=("greedy",), terminal_price=0.31, lower_bound=False)
    assert found.terminal_price == 0.31
    assert make_study(community, horizon, policies=("greedy",), terminal_price=0.31).terminal_price == 0.31
    for price in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="must be a finite number"):
            run(community, horizon, policies=("greedy",), terminal_price=price)


# ---------------------------------------------------------------- no ratio of noise


@pytest.mark.parametrize(("idle", "best"), [(36.56, 36.56), (36.56, 36.5601), (0.0, -0.009), (1e5, 99_950.0)])
def test_too_little_to_save_is_nothing(idle, best):
    assert possible_saving(idle, best) is None
    figures = {
        "no_storage": {"total_cost_eur": idle},
        "lyapunov": {"total_cost_eur": (idle + best) / 2},
        "perfect_foresight": {"total_cost_eur": best},
    }
    assert all(row["capture"] is None for row in compare(figures).values())


def test_enough_to_save_is_a_number():
    assert possible_saving(100.0, 90.0) == pytest.approx(10)
    assert possible_saving(None, 90.0) is None and possible_saving(100.0, float("nan")) is None


def test_losses_beyond_what_is_exported_are_bought():
    """0.5 kW are exported, 2 kW lost: 0.5 not sold at 0.08, 1.5 bought at 0.30, for a quarter of an hour."""
    horizon = SimpleNamespace(slot_hours=0.25, price_buy=np.array([0.30]), price_sell=np.array([0.08]))
    run = SimpleNamespace(
        buy=np.array([[0.2, 0]]),
        sell=np.array([[0, 0.7]]),
        injection=np.array([[-1.0, 3]]),
        loss_price=None,
    )
    np.testing.assert_allclose(losses_cost(horizon, run, np.array([2.0])), [0.1225])
    np.testing.assert_allclose(losses_by_member(horizon, run, np.array([2.0])), [[0.030625, 0.091875]])
