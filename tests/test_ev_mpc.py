"""Model predictive control with vehicles: what a plan knows, what it is worth, and that targets are met."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ev_village import HOURS, ROW_PENALTY, TERMINAL, UNSERVED, alone, idle_flow, village
from scipy.optimize import linprog

from jaxp2p.hindsight.perfect_foresight import horizon_data, perfect_foresight
from jaxp2p.hindsight.quadratic_program import QuadraticProgram, RepeatedProgram
from jaxp2p.planning.forecasts import FORECASTS, make_forecast
from jaxp2p.planning.predictive import mpc
from jaxp2p.planning.rolling_horizon import rolling_schedule
from jaxp2p.runs.runner import MPC_POLICIES, run
from jaxp2p.simulation import grid as simulation_grid
from jaxp2p.simulation.accounting import costs
from jaxp2p.simulation.grid import grid_state

pytestmark = [pytest.mark.slow, pytest.mark.long]

PRICES = {"terminal_price": TERMINAL, "row_penalty": ROW_PENALTY, "unserved_price": UNSERVED}
DAY = 48  # slots


@pytest.fixture(autouse=True)
def idle_network(monkeypatch):
    """Nothing here is about power flows."""
    monkeypatch.setattr(simulation_grid, "power_flow_of", idle_flow)


def at_home(stays):
    """Only the stays that are there in the first slot: nothing that comes later is left to be known."""
    return [stay for stay in stays if stay.begin <= 0 < stay.end]


def planned(community, horizon, forecast="perfect", history=None, **options):
    """The schedule of the village."""
    parts = horizon, history or horizon.slice(0, 0)
    data, past = (horizon_data(community, part, **PRICES)[0] for part in parts)
    options = {"window_slots": horizon.slots, "slots_per_day": DAY} | options
    return rolling_schedule(data, past, make_forecast(forecast), **options)


def total(community, horizon, run) -> float:
    """EUR, as every policy is accounted."""
    prices = {"terminal_price": TERMINAL, "unserved_price": UNSERVED, "row_price": ROW_PENALTY}
    return costs(community, horizon, run, grid_of(community, horizon, run), **prices).total_eur


def grid_of(community, horizon, run):
    """The grid that these injections make."""
    return grid_state(community, horizon, np.asarray(run.injection, float))


def carried_out(community, horizon, **options):
    """Plans over all that is left, and what they come to."""
    window = horizon.slots * HOURS
    options = {"forecast": "perfect", "window_hours": window, "terminal_price": TERMINAL} | options
    return mpc(community, horizon, **options).trajectory


def within_limits(horizon, run, rounding=1e-9):
    """Floors and most, powers and what is given back, of every vehicle in every slot."""
    plugs = jax.tree.map(lambda x: np.asarray(x, float), horizon.plugs)
    energy, charge, discharge = run.vehicle_energy, run.vehicle_charge, run.vehicle_discharge
    return (
        np.all(energy >= plugs.floor - rounding)
        and np.all(energy <= plugs.most + rounding)
        and np.all((charge >= 0) & (charge <= plugs.charge_max + rounding))
        and np.all((discharge >= 0) & (discharge <= plugs.discharge_max + rounding))
    )


def test_a_repeated_program_with_new_limits_equals_solving_each():
    draw = np.random.default_rng(1)
    program = QuadraticProgram()
    x = program.variables(np.ones(6, bool), lower=-1.0, upper=2.0)
    rows = program.rows(np.zeros(3))
    matrix = draw.normal(size=(3, 6))
    program.put(rows[:, None], x[None, :], matrix)
    repeated = RepeatedProgram(program)
    for _ in range(4):
        cost, rhs = draw.normal(size=6), draw.uniform(0, 0.5, 3)
        lower, upper = draw.uniform(-2, -1, 6), draw.uniform(1, 2, 6)
        best = linprog(cost, A_ub=matrix, b_ub=rhs, bounds=np.stack([lower, upper], 1))
        assert cost @ repeated.solve(cost, rhs, (lower, upper)) == pytest.approx(best.fun, abs=1e-5)
        as_made = linprog(cost, A_ub=matrix, b_ub=rhs, bounds=(-1, 2))
        assert cost @ repeated.solve(cost, rhs) == pytest.approx(as_made.fun, abs=1e-5)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["pool", "none"])
def test_where_no_later_stay_is_to_be_known_it_is_perfect_foresight(kind, seed):
    _, _, stays = village(seed, slots=24)
    community, horizon, _ = village(seed, slots=24, kind=kind, stays=at_home(stays))
    best = perfect_foresight(community, horizon, **PRICES)
    assert best.trajectory.vehicle_charge.max() > 1
    for replan_every in (1, 24):
        run = carried_out(community, horizon, replan_every=replan_every)
        assert total(community, horizon, run) == pytest.approx(best.objective_eur, rel=1e-4)
        assert within_limits(horizon, run, 1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_later_stays_cost_little_and_never_less_than_perfect_foresight(seed):
    community, horizon, _ = village(seed, slots=DAY)
    best = perfect_foresight(community, horizon, **PRICES)
    cost = total(community, horizon, carried_out(community, horizon))
    assert best.objective_eur - 1e-4 <= cost <= 1.03 * best.objective_eur
    assert cost > best.objective_eur + 1e-3  # or there was nothing to know


def test_no_later_stay_is_known():
    """Who comes from slot 10 on changes nothing before, and what comes after does."""
    _, _, stays = village(1, slots=24)
    some = [stay for stay in stays if stay.begin < 10]
    others = [stay._replace(energy=stay.energy + 1) for stay in stays if stay.begin >= 10]
    schedules = [
        planned(*village(1, slots=24, stays=chosen)[:2]) for chosen in (stays, some, [*some, *others])
    ]
    for one in schedules[1:]:
        for name in ("charge", "discharge", "vehicle_charge", "vehicle_discharge"):
            np.testing.assert_allclose(getattr(one, name)[:10], getattr(schedules[0], name)[:10], atol=2e-3)
        assert np.abs(one.vehicle_charge[10:] - schedules[0].vehicle_charge[10:]).max() > 0.1


def test_departures_and_targets_are_known():
    """The same vehicle, which leaves early or late: it is charged in time, when that is cheapest."""
    _, _, stays = village(0, slots=12)
    first = next(stay for stay in stays if stay.discharge_max == 0)._replace(
        begin=0, energy=10.0, wanted=14.0
    )
    prices = jnp.asarray([0.4, 0.3, 0.5, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    for end, waits in ((3, 1), (12, 3)):
        stay = first._replace(end=end, charge_max=10.0)
        community, horizon, _ = village(0, slots=12, kind="none", stays=[stay])
        horizon = replace(horizon, price_buy=prices, price_sell=prices - 0.05, pv=0 * horizon.pv)
        charge = planned(community, horizon).vehicle_charge[:, stay.seat, stay.home]
        assert HOURS * stay.efficiency * charge.sum() == pytest.approx(4.0, abs=1e-3)
        assert charge[:waits].sum() == pytest.approx(0, abs=1e-3)


def test_who_comes_between_two_plans_does_no_more_than_it_must():
    _, _, stays = village(0, slots=24)
    stay = stays[0]._replace(begin=2, end=12, energy=10.0, wanted=25.0, charge_max=5.0, discharge_max=4.0)
    community, horizon, _ = village(0, slots=24, stays=[stay])
    found = planned(community, horizon, replan_every=8)
    own = slice(None), stay.seat, stay.home
    step = HOURS * stay.efficiency * stay.charge_max
    needed = (15.0 - 4 * step) / step  # slots of the first six, when four are left after them
    charged = found.vehicle_charge[own]
    assert not charged[:2].any() and not found.vehicle_discharge[own][:8].any()
    assert charged[2:8].sum() == pytest.approx(max(needed, 0) * stay.charge_max)
    np.testing.assert_allclose(charged[8 - int(needed) : 8], stay.charge_max)
    assert charged[8:12].sum() == pytest.approx(4 * stay.charge_max)


@pytest.mark.parametrize("forecast", FORECASTS)
def test_targets_are_met_whatever_was_forecast(forecast):
    community, horizon, _ = village(1, slots=2 * DAY, dtype=np.float32, network=True, sell=-0.05)
    history, horizon = horizon.slice(0, DAY), horizon.slice(DAY, 2 * DAY)
    wrong = replace(history, load=5 * history.load[::-1], price_buy=history.price_buy[::-1] + 0.1)
    found = mpc(
        community,
        horizon,
        history=wrong,
        forecast=forecast,
        window_hours=12,
        replan_every=3,
        terminal_price=TERMINAL,
    )
    assert found.plans == DAY // 3
    assert found.trajectory.vehicle_charge.max() > 1
    assert within_limits(horizon, found.trajectory, 2e-5)
    run = found.trajectory
    assert not np.minimum(run.vehicle_charge, run.vehicle_discharge).any()


@pytest.mark.parametrize("network", [False, True])
def test_in_a_run_no_policy_beats_perfect_foresight_and_plans_come_close(network):
    community, horizon, _ = village(1, slots=2 * DAY, network=network)
    history, horizon = horizon.slice(0, DAY), horizon.slice(DAY, 2 * DAY)
    names = ["no_storage", "greedy", "lyapunov", "charge_at_once", *MPC_POLICIES, "perfect_foresight"]
    found = run(community, horizon, policies=names, history=history)
    prices = {name: getattr(found, name) for name in ("terminal_price", "unserved_price", "row_price")}
    cost = {
        name: costs(community, horizon, one, grid_of(community, horizon, one), **prices).total_eur
        for name, one in found.trajectories.items()
    }
    best = found.perfect_foresight_eur
    assert found.lower_bound_eur == pytest.approx(best, abs=1e-3)
    assert cost["perfect_foresight"] == pytest.approx(best, abs=1e-3)
    assert all(cost[name] >= best - 1e-2 for name in names), cost
    if not network:  # plans do not know of lines
        assert cost["mpc_perfect"] <= best + 0.05 * (cost["charge_at_once"] - best)
        assert cost["mpc_perfect"] < min(cost["mpc_persistence"], cost["mpc_mean"])


def test_without_vehicles_there_is_no_schedule_for_any():
    community, horizon = alone(*village(0, slots=24)[:2])
    found = planned(community, horizon)
    assert found.vehicle_charge is None and found.vehicle_discharge is None
    with_seats = planned(*village(0, slots=24, stays=[])[:2])
    np.testing.assert_array_equal(found.charge, with_seats.charge)
    np.testing.assert_array_equal(found.discharge, with_seats.discharge)
    assert not with_seats.vehicle_charge.any()
