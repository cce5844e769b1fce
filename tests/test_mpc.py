"""Model predictive control: its forecasts by hand, its plans against perfect foresight, its limits."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from communities import small
from scipy.optimize import linprog

from jaxp2p.control.catalogue import MPC_POLICIES
from jaxp2p.control.policy import greedy, suggest_penalties
from jaxp2p.data import days_before, load_case, window
from jaxp2p.hindsight.perfect_foresight import horizon_data, perfect_foresight
from jaxp2p.hindsight.quadratic_program import QuadraticProgram, RepeatedProgram
from jaxp2p.model.types import Horizon
from jaxp2p.planning.forecasts import FORECASTS, foresee, make_forecast
from jaxp2p.planning.predictive import mpc
from jaxp2p.planning.rolling_horizon import rolling_schedule
from jaxp2p.report.kpis import evaluate
from jaxp2p.runs.runner import run
from jaxp2p.simulation.forward import Schedule, simulate
from jaxp2p.slot.solvers import choose_solver

pytestmark = pytest.mark.slow

WORTH = 0.2  # EUR/kWh, of stored energy at the end
PRICES = {"terminal_price": WORTH, "row_penalty": 5.0, "unserved_price": 10.0}  # EUR/kWh
HOURS = 24  # slots of a day, once they are an hour long
HOMES = {"pv_share": 0.8, "battery_share": 0.6}  # many batteries, most of them beside a PV plant


def hourly(horizon: Horizon) -> Horizon:
    """The first slot of every hour as the whole hour."""
    every = jax.tree.map(lambda x: x[::4] if x.ndim else x, horizon)
    return replace(every, slot_hours=4 * horizon.slot_hours)


def days(*, dtype="float64", market="pool", count=3, network=False, **options):
    """(community, horizon of the last day, history of the days before it) of rural1."""
    community, horizon = small(
        "rural1", market=market, days=count, network=network, dtype=dtype, **HOMES, **options
    )
    horizon = hourly(horizon)
    past = (count - 1) * HOURS
    return community, horizon.slice(past, count * HOURS), horizon.slice(0, past)


def planned(community, horizon, history, forecast, **options):
    """The horizon in numpy and the schedule for it."""
    data, past = (horizon_data(community, part, **PRICES)[0] for part in (horizon, history))
    options = {"window_slots": HOURS, "slots_per_day": HOURS} | options
    return data, rolling_schedule(data, past, make_forecast(forecast), **options)


def cost_of(data, schedule) -> float:
    """EUR of a schedule in a pool (or with nobody), by the shortest formula there is; no curtailment."""
    net = data.pv - data.load + schedule.discharge - schedule.charge
    export, need = np.maximum(net, 0).sum(1), np.maximum(-net, 0).sum(1)
    gain = np.maximum(data.price_buy - data.price_sell - data.fee, 0) * data.trading
    cost = data.price_buy * need - data.price_sell * export - gain * np.minimum(export, need)
    moved = (
        data.battery.charge_efficiency * schedule.charge
        + schedule.discharge / data.battery.discharge_efficiency
    )
    stored = data.battery.energy_start
    for charge, discharge in zip(schedule.charge, schedule.discharge, strict=True):
        gained = data.battery.charge_efficiency * charge - discharge / data.battery.discharge_efficiency
        stored = data.battery.retention * stored + data.slot_hours * gained
    worth = WORTH * (stored - data.battery.energy_start).sum()
    return float(data.slot_hours * (cost.sum() + (data.battery.wear_cost * moved).sum()) - worth)


# --- forecasts ----------------------------------------------------------------------------------------------

DAY = 4  # slots
RECORD = np.random.default_rng(0).normal(size=(10 * DAY, 3))


@pytest.mark.parametrize("now", [DAY, 3 * DAY + 1, 9 * DAY])
def test_persistence_is_yesterday(now):
    seen = foresee(RECORD, now, DAY, make_forecast("persistence").power_days, slots_per_day=DAY)
    np.testing.assert_array_equal(seen[0], RECORD[now])  # the present is known
    np.testing.assert_array_equal(seen[1:], RECORD[now + 1 - DAY : now])


def test_beyond_a_day_yesterday_is_repeated():
    seen = foresee(RECORD, 5 * DAY, 2 * DAY + 1, 1, slots_per_day=DAY)
    np.testing.assert_array_equal(seen[1:DAY], RECORD[4 * DAY + 1 : 5 * DAY])
    np.testing.assert_array_equal(seen[DAY], RECORD[5 * DAY])  # today's own slot is the last one known
    np.testing.assert_array_equal(seen[DAY + 1 : 2 * DAY + 1], seen[1 : DAY + 1])


def test_mean_takes_the_days_that_there_are():
    table = RECORD.reshape(10, DAY, 3)
    seen = foresee(RECORD, 8 * DAY, DAY, make_forecast("mean", weeks=1).price_days, slots_per_day=DAY)
    np.testing.assert_allclose(seen[1:], table[1:8, 1:].mean(0))
    early = foresee(RECORD, 2 * DAY, DAY, make_forecast("mean").price_days, slots_per_day=DAY)
    np.testing.assert_allclose(early[1:], table[:2, 1:].mean(0))


def test_perfect_is_the_truth():
    assert make_forecast("perfect") == (None, None)
    assert make_forecast("perfect_power") == (None, 1) and make_forecast("perfect_price") == (1, None)
    np.testing.assert_array_equal(foresee(RECORD, 7, 9, None, slots_per_day=DAY), RECORD[7:16])


@pytest.mark.parametrize("count", [1, 28])
def test_the_future_is_not_looked_at(count):
    now = 5 * DAY + 1
    other = RECORD.copy()
    other[now + 1 :] = np.nan
    one, two = (foresee(r, now, 3 * DAY, count, slots_per_day=DAY) for r in (RECORD, other))
    np.testing.assert_array_equal(one, two)


def test_unknown_forecasts_are_refused():
    with pytest.raises(ValueError, match="choose from persistence, mean, perfect, perfect_power"):
        make_forecast("oracle")
    with pytest.raises(ValueError, match="at least 1"):
        make_forecast("mean", weeks=0)


# --- plans --------------------------------------------------------------------------------------------------


def test_a_repeated_program_equals_solving_each():
    draw = np.random.default_rng(1)
    program = QuadraticProgram()
    x = program.variables(np.ones(6, bool), lower=-1.0, upper=2.0)
    equal, below = program.rows(np.zeros(2), equality=True), program.rows(np.zeros(3))
    matrix = draw.normal(size=(5, 6))
    program.put(np.concatenate([below, equal])[:, None], x[None, :], matrix)
    repeated = RepeatedProgram(program)
    for _ in range(4):
        cost, rhs = draw.normal(size=6), draw.uniform(0, 0.5, 5)
        found = repeated.solve(cost, rhs)
        best = linprog(
            cost, A_ub=matrix[:3], b_ub=rhs[below], A_eq=matrix[3:], b_eq=rhs[equal], bounds=(-1, 2)
        )
        assert cost @ found == pytest.approx(best.fun, abs=1e-5)
    with pytest.raises(RuntimeError, match="Infeasible"):
        repeated.solve(np.zeros(6), np.full(5, 1e3))


@pytest.mark.parametrize("market", ["pool", "none"])
def test_a_perfect_forecast_of_all_that_is_left_is_perfect_foresight(market):
    community, horizon, history = days(market=market, price="tou_noise")
    best = perfect_foresight(community, horizon, terminal_price=WORTH, row_penalty=1.0)
    assert not best.is_lower_bound
    for replan_every in (1, HOURS):
        data, found = planned(community, horizon, history, "perfect", replan_every=replan_every)
        assert found.plans == HOURS / replan_every
        assert cost_of(data, found) == pytest.approx(best.objective_eur, rel=1e-5)


@pytest.mark.parametrize("network", [False, True])
def test_the_plan_keeps_the_limit_of_the_transformer(network):
    """Without that limit all batteries charge in the same cheap hours."""
    options = {"price": "dynamic", "battery_scale": 3.0}
    community, horizon, history = days(network=network, **options)
    data, found = planned(community, horizon, history, "perfect")
    reference, _ = horizon_data(days(network=True, **options)[0], horizon, **PRICES)
    alike = np.isclose(reference.response[:, reference.response.any(0)], 1).all(1)
    net = data.pv - data.load + found.discharge - found.charge
    drawn_too_much = (reference.lower - reference.offset - net @ reference.response.T)[:, alike].max()
    assert drawn_too_much < 1e-2 if network else drawn_too_much > 10


@pytest.mark.parametrize(
    "options",
    [{"price": "dynamic"}, {"price": "tou", "pv_scale": 3.0, "network": True}],
    ids=["negative prices", "transformer"],
)
def test_where_pv_must_be_curtailed_the_plan_is_near_the_bound(options):
    """And perfect foresight reaches the bound without charging and discharging at once."""
    community, horizon, _ = days(**options)
    prices = {name: PRICES[name] for name in ("terminal_price", "row_penalty")}
    best = perfect_foresight(community, horizon, **prices)
    bound = best.dual_objective_eur
    assert best.objective_eur == pytest.approx(bound, rel=1e-6)
    assert best.simultaneous_kwh == 0
    run = mpc(community, horizon, forecast="perfect", terminal_price=WORTH).trajectory
    gained = run.energy[-1] - np.asarray(community.prosumers.battery.energy_start)
    cost = float(run.cost.sum() - WORTH * gained.sum())
    assert (np.asarray(horizon.pv) - run.pv_used).sum() > 10
    assert run.violation.max() < 0.05
    assert bound - 1e-3 * abs(bound) <= cost <= bound + 1e-3 * abs(bound)


@pytest.mark.parametrize("forecast", ["persistence", "mean", "perfect_power"])
def test_when_all_days_are_alike_every_forecast_is_perfect(forecast):
    community, _, history = days()
    again = lambda part: jax.tree.map(lambda x: jnp.concatenate([x, x]) if x.ndim else x, part)
    both_days = again(history.slice(0, HOURS))
    guessed, known = (
        cost_of(*planned(community, both_days, both_days, name)) for name in (forecast, "perfect")
    )
    assert guessed == pytest.approx(known, rel=1e-6)  # the same programs, but for rounding in the mean


def test_knowing_more_is_worth_something():
    community, horizon, history = days(price="tou_noise")
    cost = {name: cost_of(*planned(community, horizon, history, name)) for name in FORECASTS}
    assert all(cost["perfect"] < cost[name] - 1e-3 for name in FORECASTS if name != "perfect"), cost


def test_a_community_without_batteries_needs_no_plan():
    community, horizon, history = days()
    battery = community.prosumers.battery
    none = jnp.zeros_like(battery.charge_max)
    homes = replace(community.prosumers, battery=replace(battery, charge_max=none, discharge_max=none))
    _, found = planned(replace(community, prosumers=homes), horizon, history, "mean")
    assert found.plans == 0
    assert not found.charge.any()


# --- execution ----------------------------------------------------------------------------------------------


def test_limits_hold_whatever_was_forecast():
    community, horizon, history = days(market="bilateral", dtype="float32")
    wrong = replace(history, load=history.load[::-1] * 3, pv=history.pv[:, ::-1])
    battery = community.prosumers.battery
    low, high = np.asarray(battery.energy_min), np.asarray(battery.energy_max)
    found = mpc(community, horizon, history=wrong, terminal_price=WORTH, replan_every=5)
    run = found.trajectory
    assert found.plans == -(-HOURS // 5)
    assert run.charge.max() > 1
    assert run.discharge.max() > 1
    assert np.all((run.energy >= low) & (run.energy <= high))
    assert np.all((run.charge >= 0) & (run.charge <= np.asarray(battery.charge_max)))
    assert np.all((run.discharge >= 0) & (run.discharge <= np.asarray(battery.discharge_max)))
    assert not np.minimum(run.charge, run.discharge).any()
    assert np.abs(run.trade.sum(1)).max() < 1e-3


def test_a_schedule_is_followed_as_far_as_the_batteries_can():
    community, horizon, _ = days()
    battery, size = community.prosumers.battery, community.size
    penalties, solver = suggest_penalties(horizon), choose_solver(community)
    policy = greedy(size, horizon.load.dtype)
    advance = jax.jit(simulate)
    wild = np.random.default_rng(2).uniform(-1, 1, (2, HOURS, size)) * 1e3
    _, run = advance(community, horizon, penalties, policy, solver, schedule=Schedule(*jnp.asarray(wild)))
    energy = np.asarray(run.energy)
    assert np.all(energy <= np.asarray(battery.energy_max))
    assert np.all(energy >= np.asarray(battery.energy_min))
    mild = Schedule(run.charge / 2, run.discharge / 2)
    _, again = advance(community, horizon, penalties, policy, solver, schedule=mild)
    np.testing.assert_allclose(again.charge[0], mild.charge[0], atol=1e-12)
    np.testing.assert_allclose(again.discharge[0], mild.discharge[0], atol=1e-12)


def test_the_runner_has_them_by_name():
    community, horizon, history = days()
    heard = {}
    result = run(
        community,
        horizon,
        policies=["no_storage", *MPC_POLICIES, "perfect_foresight"],
        history=history,
        lower_bound=False,
        progress=lambda name, done, total: heard.update({name: (done, total)}),
    )
    assert list(result.trajectories) == ["no_storage", *MPC_POLICIES, "perfect_foresight"]
    capture = {name: one.kpis["capture"] for name, one in evaluate(community, horizon, result).items()}
    assert all(heard[name] == (HOURS, HOURS) and result.seconds[name] > 0 for name in MPC_POLICIES)
    assert capture["mpc_perfect"] == pytest.approx(1, abs=1e-3)
    assert all(0 < capture[name] <= 1.0001 for name in MPC_POLICIES)


def test_a_missing_history_is_named():
    community, horizon, history = days()
    for past in (None, history.slice(0, HOURS - 1)):
        with pytest.raises(ValueError, match="'persistence' needs at least the day before"):
            run(community, horizon, policies=["mpc_persistence"], history=past)
    for options in ({"window_hours": 0.1}, {"replan_every": 0}):
        with pytest.raises(ValueError, match="at least one slot"):
            mpc(community, horizon, history=history, terminal_price=WORTH, **options)
    odd = replace(horizon, slot_hours=jnp.asarray(0.7))
    with pytest.raises(ValueError, match="do not divide the day"):
        mpc(community, odd, history=history, terminal_price=WORTH)


def test_days_before_a_window():
    tables = window(load_case("rural1"), start="2016-03-01", days=3)
    time = tables.profiles["time"]
    at = lambda hours: time.iloc[4 * hours]
    assert days_before(tables, at(0), 28) is None
    assert days_before(tables, at(23), 28) is None
    before = days_before(tables, at(60), 28)
    assert before.profiles["time"].iloc[0] == at(12)
    assert len(before.profiles) == len(before.prices) == 2 * 96
    assert days_before(tables, at(60), 1).profiles["time"].iloc[-1] == time.iloc[4 * 60 - 1]
