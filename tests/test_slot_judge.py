"""The judge is judged: against closed forms, against the package's own program, and with made-up lies."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nasty_slots import draw, draw_many, draw_on_host, families
from random_slots import random_slot
from slot_answers import SOLVERS, solve_many
from slot_judge import _Program as Program
from slot_judge import _Slot as Slot
from slot_judge import by_clarabel, by_piqp, judge, optimum

from jaxp2p.runs.verification import optimum as reference
from jaxp2p.slot.clearing import clear_pool
from jaxp2p.slot.status import Status


@pytest.mark.parametrize("family", range(24))
def test_the_judge_agrees_with_the_program_of_the_package(family):
    """Nine slots each, 216 in all, written twice from one model: the optima differ by less than 1e-6."""
    for seed in range(family, 216, 24):
        problem = random_slot(seed, dtype=jnp.float64)
        best = optimum(problem)
        assert abs(best.value - reference(problem).objective) < 1e-6 * best.scale, seed
        assert best.error < 1e-6 * best.scale, seed


def test_it_agrees_on_families_too():
    """Within what the other program is off by: a billionth of its own numbers, not of the scale."""
    for name, family in families().items():
        if family.layout.homes <= 12:
            problem = draw(name, 3, jnp.float64)
            best, other = optimum(problem), reference(problem)
            assert abs(best.value - other.objective) < 1e-5 * best.scale + 1e-9, name
            assert best.error < 1e-6 * best.scale, name


@pytest.mark.parametrize("name", ["day.pool", "equal.pool.8", "negative.pool", "leaking.pool", "few.pool.3"])
def test_the_pool_without_limits_is_cleared_by_bisection_to_the_same_value(name):
    for seed in range(10):
        problem = draw(name, seed, jnp.float64)
        best = optimum(problem)
        assert abs(float(clear_pool(problem).value) - best.value) < 1e-7 * best.scale, seed


def lonely(**values):
    """One home with PV and a battery, and nobody to trade with."""
    problem = draw_on_host("few_homes.none.1", 0, np.float64)
    usual = {
        "slot_hours": 0.5, "price_buy": 0.3, "price_sell": 0.1, "load": [2.0], "load_min": [2.0],
        "load_max": [2.0], "pv_max": [0.0], "curtailment_cost": [0.0], "charge_min": [0.0],
        "charge_max": [0.0], "discharge_min": [0.0], "discharge_max": [0.0], "charge_efficiency": [0.8],
        "discharge_efficiency": [0.9], "wear_cost": [0.01], "value": [0.0], "value_slope": [0.0],
    }  # fmt: skip
    return replace(problem, **{k: np.asarray(v, float) for k, v in {**usual, **values}.items()})


def test_closed_forms_of_one_home():
    cost = lambda **values: optimum(lonely(**values)).value
    assert cost() == pytest.approx(0.5 * 0.3 * 2)
    assert cost(pv_max=[5.0]) == pytest.approx(-0.5 * 0.1 * 3)
    assert cost(pv_max=[5.0], price_sell=-0.1) == pytest.approx(0)  # curtailed to the load
    assert cost(pv_max=[5.0], price_sell=-0.1, curtailment_cost=[0.02]) == pytest.approx(0.5 * 0.02 * 3)
    # a kWh in the cells is worth 0.2: 0.9 kWh of it serve a kWh of load at 0.3 more cheaply
    assert cost(value=[0.2], discharge_max=[1.0]) == pytest.approx(0.5 * (0.3 * 1 + (0.2 + 0.01) / 0.9))
    # worth 0.5, falling by 0.4 per kWh: charged until 0.8 (0.5 - 0.4 E - 0.01) = 0.3
    stored = (0.5 - 0.01 - 0.3 / 0.8) / 0.4
    bought = 0.3 * stored / 0.8 + 0.01 * stored - (0.5 * stored - 0.2 * stored**2)
    assert cost(value=[0.5], value_slope=[0.4], charge_max=[3.0]) == pytest.approx(0.3 + bought)
    # worth less than nothing: emptied while eta_c lambda, then lambda / eta_d, is below b less wear
    value, slope = -0.2, 2.0
    turn = 0.2 / (slope * 0.5 / 0.9)  # kW
    stop = turn + (0.9 * 0.3 - 0.01) / (slope * 0.5 / 0.9)
    given = 0.5 * 0.8 * (value * turn / 2) + 0.5 / 0.9 * (0.9 * 0.3 - 0.01) * (stop - turn) / 2
    total = 0.5 * (0.3 * (2 - stop) + 0.01 * stop / 0.9) + given
    assert cost(value=[value], value_slope=[slope], discharge_max=[2.0]) == pytest.approx(total)


def test_connection_limits_in_closed_form():
    """Three quarters of a kilowatt is short: at b and the price of unserved power beyond it."""
    more = {"buy_max": np.array([1.25]), "sell_max": np.array([0.0]), "unserved_price": np.asarray(4.0)}
    best = optimum(replace(lonely(), **more))
    assert best.value == pytest.approx(0.5 * (0.3 * 2 + 4 * 0.75))
    assert best.unserved == pytest.approx(0.75)


@pytest.mark.parametrize("solver", [by_clarabel, by_piqp])
def test_both_reference_solvers_bound_the_optimum_from_below(solver):
    pytest.importorskip("piqp")
    for name in ("day.bilateral", "medley_of_all.pool", "tight_feeder.none", "heavy_tail.bilateral"):
        problem = draw_on_host(name, 1, np.float64)
        slot, best = Slot(problem), optimum(problem)
        program = Program(slot)
        _, multipliers = program.solve(solver)
        lower = slot.dt * program.lower(multipliers)
        assert lower <= best.value + 1e-12
        assert best.value - lower < 1e-5 * best.scale
        # any multipliers at all give a bound, better or worse
        worse = slot.dt * program.lower(1.1 * multipliers + 0.01)
        assert worse <= best.value


def solved(name, seed):
    problems = draw_many(name, [seed], np.float64)
    result = jax.tree.map(lambda x: np.asarray(x[0]), solve_many(problems, SOLVERS["admm"]))
    return jax.tree.map(lambda x: x[0], problems), result["dispatch"]


def test_made_up_lies_are_found():
    problem, d = solved("connections.bilateral", 0)
    assert not judge(problem, d, Status.SOLVED, gap=np.inf).lie
    assert judge(problem, d, Status.SOLVED, gap=-1.0).why == "gap"
    assert judge(problem, d, Status.UNSERVED, gap=np.inf).why == "names unserved power that need not be"
    assert judge(problem, d, Status.NETWORK_VIOLATED).why == "names a violation that need not be"
    shifted = d._replace(buy=d.buy + 0.01)
    assert judge(problem, shifted, Status.SOLVED).fault == "balance"
    traded = d._replace(trades=d.trades + np.eye(*d.trades.shape) * 1e-3)
    assert judge(problem, traded, Status.SOLVED).fault in ("balance", "reciprocity")
    beyond = d._replace(load=1.001 * d.load, buy=d.buy + 0.001 * d.load, injection=d.injection)
    assert judge(problem, beyond, Status.SOLVED).fault == "load outside its limits"
    broken = d._replace(pv_used=d.pv_used * np.nan)
    assert judge(problem, broken, Status.SOLVED).lie


def test_a_dearer_dispatch_is_wrong_by_what_it_costs():
    """Half a kilowatt bought and given away at the feed-in price: the distance is its price."""
    problem, d = solved("day.none", 1)
    before = judge(problem, d, Status.SOLVED, gap=np.inf)
    dearer = judge(problem, d._replace(buy=d.buy + 0.5, sell=d.sell + 0.5), Status.SOLVED, gap=np.inf)
    price = float(problem.slot_hours) * float(problem.price_buy - problem.price_sell) * 0.5 * len(d.load)
    assert dearer.distance - before.distance == pytest.approx(price)
    assert dearer.wrong


def test_a_violation_without_a_name_is_a_lie():
    for seed in range(20):
        problem, d = solved("infeasible_feeder.none", seed)
        if optimum(problem).beyond > 2:
            assert judge(problem, d, Status.SOLVED, gap=np.inf).why == "a violation without a name"
            assert not judge(problem, d, Status.NETWORK_VIOLATED, gap=np.inf).lie
            return
    raise AssertionError("no infeasible slot among 20")


def test_draws_repeat_and_share_their_shapes():
    for name, family in families().items():
        if family.layout.homes > 40:
            continue
        one, same, other = (draw_on_host(name, seed, np.float32) for seed in (5, 5, 6))
        assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(same)))
        assert jax.tree.structure(one) == jax.tree.structure(other)
        shapes = lambda slot: [x.shape for x in jax.tree.leaves(slot)]
        assert shapes(one) == shapes(other)
        assert {x.dtype.name for x in jax.tree.leaves(one)} <= {"float32", "int32"}
        assert one.market.kind == family.market
