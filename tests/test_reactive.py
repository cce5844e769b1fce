"""Reactive power of PV inverters: rules in closed form, a droop within the power flow, what is needed."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from test_hosting import two_buses
from villages import village

import jaxp2p as jp
from jaxp2p.model.build import inverters_of
from jaxp2p.model.devices import Inverters
from jaxp2p.model.network import VDE_4105, Base, Droop, flow_of, least_reactive, on_host, power_flow
from jaxp2p.report.kpis import evaluate
from jaxp2p.runs.runner import make_policies, penalties_of, run
from jaxp2p.scenarios.parse import parse_model
from jaxp2p.simulation.forward import simulate_in_pieces
from jaxp2p.simulation.grid import grid_state
from jaxp2p.slot.solvers import choose_solver
from jaxp2p.slot.status import Status
from jaxp2p.studies.engine import Task, run_batch

CURVE = (0.97, 0.99, 1.01, 1.03)


def inverters(rule, kind=float):
    """Of 10 kVA for 9 kW at a least power factor of 0.8, one that is smaller than its PV, and none."""
    leaf = lambda *values: np.array(values, kind)
    return Inverters(
        rating=leaf(10, 4, 0), power=leaf(9, 5, 0), cos_phi=leaf(0.8, 0.9, 1), rule=rule, curve=CURVE
    )


def test_rules_in_closed_form():
    used = np.array([[0.0, 0, 0], [4.5, 2.5, 0], [6.75, 3.75, 0], [9, 5, 0]])
    fixed = inverters("cos_phi").following(used)
    # tan(acos(0.8)) = 0.75; at 9 kW only sqrt(100 - 81) kvar are left of the rating
    np.testing.assert_allclose(fixed[:, 0], [0, -3.375, -5.0625, -np.sqrt(19)])
    np.testing.assert_allclose(fixed[:, 1], [0, -2.5 * np.tan(np.arccos(0.9)), -np.sqrt(16 - 3.75**2), 0])
    rising = inverters("cos_phi_p").following(used)
    np.testing.assert_allclose(rising[:, 0], [0, 0, -6.75 * np.tan(np.arccos(0.9)), -np.sqrt(19)])
    able = inverters("market").able(used)
    np.testing.assert_allclose(able[:, 0], [6, 6, 6, np.sqrt(19)])
    np.testing.assert_allclose(able[2:, 1], [np.sqrt(16 - 3.75**2), 0])
    assert not fixed[:, 2].any() and not able[:, 2].any()
    for rule in ("cos_phi", "cos_phi_p", "volt_var", "market"):
        given = inverters(rule)
        least, most = given.reach(used)
        ways = [given.able(used), -given.able(used)] if rule in ("volt_var", "market") else []
        for q in ways or [given.following(share * used) for share in np.linspace(0, 1, 21)]:
            assert np.all(q >= least - 1e-12) and np.all(q <= most + 1e-12), rule


def test_ratings_come_from_columns_and_else_from_the_standard():
    tables = village()
    usual = jp.build(tables, days=1, reactive="market", market="pool").community.prosumers.inverters
    np.testing.assert_allclose(usual.power, [5, 5, 0])
    np.testing.assert_allclose(usual.cos_phi, np.float32([0.9, 0.9, 1]))
    np.testing.assert_allclose(usual.rating, np.float32([5 / 0.9, 5 / 0.9, 0]))
    homes = tables.prosumers.assign(inverter_kva=[4.0, np.nan, 6.0], least_cos_phi=[np.nan, np.nan, 0.8])
    own = inverters_of(jp.data.check(tables.replace(prosumers=homes)), "market", VDE_4105, "float32")
    np.testing.assert_allclose(own.rating, np.float32([4, 6, 0]))  # by bus: H1, H3, H2
    np.testing.assert_allclose(own.cos_phi, np.float32([0.95, 0.8, 1]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reactive": "volt_watt"}, "volt_watt.*choose from unity"),
        ({"reactive": "market", "secure": False}, "secure in AC"),
        ({"reactive": "volt_var", "volt_var": (0.9, 1.1)}, "four voltages"),
        ({"reactive": "volt_var", "volt_var": (0.97, 0.93, 1.03, 1.07)}, "rise"),
    ],
)
def test_what_makes_no_sense_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        jp.build(village(), days=1, **options)


def test_columns_out_of_range_are_named():
    homes = village().prosumers.assign(inverter_kva=[-1.0, 5, 5], least_cos_phi=[0.9, 1.2, 0.0])
    with pytest.raises(jp.InputError) as raised:
        jp.build(village().replace(prosumers=homes))
    said = str(raised.value)
    assert said.count("inverter_kva") == 1 and said.count("least_cos_phi") == 2


@pytest.fixture(scope="module")
def grid():
    """The network of rural1 and a base in which nothing happens."""
    case = jp.build("rural1", days=1, market="none", dtype="float64")
    network = case.community.network
    buses, branches = network.buses, network.branches
    zero, none = jnp.zeros(buses), jnp.zeros(branches)
    return network, Base(jnp.full(buses, network.slack_voltage**2), none, none, zero, zero)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_droop_and_its_flow_are_one(grid, kind):
    network, _ = jax.tree.map(lambda x: x.astype(kind) if jnp.issubdtype(x.dtype, jnp.floating) else x, grid)
    draw = np.random.default_rng(1)
    active = draw.uniform(0, 150, (4, network.buses)).astype(kind)
    most = draw.uniform(0, 60, active.shape).astype(kind)
    active[:, 0] = 0
    droop = Droop(jnp.asarray(most), CURVE)
    flow = power_flow(network, jnp.asarray(active), jnp.zeros_like(active), droop=droop)
    tight = 2e-6 if kind == np.float32 else 1e-10
    assert np.all(flow.status == 0) and flow.support.min() < -20
    np.testing.assert_allclose(flow.support, droop.most * droop.share(flow.voltage), atol=tight * 3e3)
    again = power_flow(network, jnp.asarray(active), flow.support)
    np.testing.assert_allclose(again.voltage, flow.voltage, atol=tight)
    np.testing.assert_allclose(again.import_reactive, flow.import_reactive, atol=3e3 * tight)
    if kind == np.float64:
        host = power_flow(on_host(network), active, np.zeros_like(active), droop=Droop(most, CURVE))
        np.testing.assert_allclose(host.voltage, flow.voltage, atol=tight)


def test_derivatives_through_a_droop_are_finite_differences(grid):
    network, _ = grid
    draw = np.random.default_rng(2)
    active, most = (jnp.asarray(draw.uniform(0, most, network.buses)).at[0].set(0) for most in (80.0, 40.0))

    def volts(active, most):
        return power_flow(network, active, jnp.zeros_like(active), droop=Droop(most, CURVE)).voltage.sum()

    slopes, step = jax.grad(volts, (0, 1))(active, most), 1e-4
    for bus in (3, 9):
        for place, slope in enumerate(slopes):
            ends = []
            for sign in (1, -1):
                moved = [active, most]
                moved[place] = moved[place].at[bus].add(sign * step)
                ends.append(volts(*moved))
            assert float(slope[bus]) == pytest.approx(float(ends[0] - ends[1]) / (2 * step), rel=1e-5)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_least_reactive_power_is_the_least(grid, sign):
    """Against sequential quadratic programming on the power flow itself."""
    network, base = grid
    network = replace(on_host(network), voltage_min=np.full(network.buses, 0.98))
    network = replace(network, voltage_max=np.full(network.buses, 1.02))
    base = on_host(base)
    draw = np.random.default_rng(3)
    active = sign * draw.uniform(0, 1, network.buses) * (35 if sign > 0 else 26)
    able = draw.uniform(1, 12, network.buses) * (draw.random(network.buses) < 0.7)
    active[0] = able[0] = 0
    found = least_reactive(network, base, active, able)
    before = flow_of(network, base, active, np.zeros_like(active))
    assert network.beyond(before.voltage).max() > 5e-3
    assert network.beyond(found.voltage).max() < 2e-6
    some = np.flatnonzero(able)

    def volts(share):
        given = np.zeros_like(able)
        given[some] = able[some] * share
        return flow_of(network, base, active, given).voltage[1:]

    best = minimize(
        lambda u: 0.5 * able[some] @ u**2,
        np.zeros(len(some)),
        jac=lambda u: able[some] * u,
        bounds=[(-1, 1)] * len(some),
        constraints=[
            {"type": "ineq", "fun": lambda u: 50 * (network.voltage_max[1:] - volts(u))},
            {"type": "ineq", "fun": lambda u: 50 * (volts(u) - network.voltage_min[1:])},
        ],
        options={"ftol": 1e-9, "maxiter": 200},
    )
    assert best.success
    value = 0.5 * np.sum(found.support[some] ** 2 / able[some])
    # the sensitivities are those of the linear network: what they cost is a share of a per cent
    assert best.fun * (1 - 1e-3) <= value <= best.fun * 1.01


def test_batches_and_hosts_agree_on_the_least(grid):
    network, base = grid
    network = replace(network, voltage_max=jnp.full(network.buses, 1.02))
    draw = np.random.default_rng(4)
    active = draw.uniform(0, 1, (5, network.buses)) * np.array([[5], [15], [25], [60], [2]])
    able = draw.uniform(1, 12, active.shape)
    one = lambda active, able: least_reactive(network, base, active, able)
    batch = jax.jit(jax.vmap(one))(jnp.asarray(active), jnp.asarray(able))
    wide = jax.tree.map(lambda x: np.broadcast_to(np.asarray(x), (5, *x.shape)), base)
    host = least_reactive(on_host(network), wide, active, able)
    beyond = np.asarray(network.beyond(batch.voltage)).max(1)
    assert beyond[[0, 1, 2, 4]].max() < 2e-6 and beyond[3] > 1e-3
    np.testing.assert_allclose(batch.support[3, 1:], -able[3, 1:])  # all there is, but at the slack
    np.testing.assert_allclose(batch.voltage, host.voltage, atol=5e-6)
    assert not np.any(np.asarray(batch.support)[4])


def noon(rule, *, pv_scale=2.5, v_max=1.03, curve=VDE_4105, dtype="float32"):
    """Six hours around noon on a grid whose voltages alone are a limit."""
    tables = jp.load_case("rural1", pv_scale=pv_scale)
    tables = tables.replace(
        lines=tables.lines.assign(s_max_kva=np.inf), buses=tables.buses.assign(v_max_pu=v_max)
    )
    case = jp.build(
        tables, start="2016-05-23", days=1, market="pool", reactive=rule, volt_var=curve, dtype=dtype
    )
    return case, case.horizon.slice(44, 56)


def cleared(case, horizon):
    policies = make_policies(case.community, case.horizon)
    given = case.community, horizon, penalties_of(case.horizon), policies["lyapunov"]
    done = simulate_in_pieces(*given, choose_solver(case.community))
    return done, grid_state(case.community, horizon, done.injection, done.pv_used)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["unity", "cos_phi", "volt_var", "market"])
def test_voltages_are_kept_with_less_curtailment(rule):
    case, horizon = noon(rule, **({"pv_scale": 7.0, "v_max": 1.045} if rule == "volt_var" else {}))
    done, grid = cleared(case, horizon)
    curtailed = np.maximum(np.asarray(horizon.pv) - done.pv_used, 0).sum()
    assert np.all(done.status == Status.SOLVED)
    assert grid.ac_voltage.max() <= float(case.community.network.voltage_max.max()) + 1e-4
    if rule == "unity":
        assert curtailed > 500 and grid.support is None
        return
    assert grid.support.min() < -5
    if rule == "volt_var":  # as much as the curve lets them, to the limit
        assert curtailed > 100 and np.all(grid.ac_voltage.max(1)[done.rounds > 1] > 1.045 - 3e-4)
        assert np.median(done.rounds) <= 4
        own = case.community.prosumers.inverters
        share = Droop(None, VDE_4105).share(grid.ac_voltage)
        able = on_host(own).able(np.asarray(done.pv_used, float))
        able = case.community.network.at_buses(able, np.asarray(case.community.prosumers.bus))
        np.testing.assert_allclose(grid.support, able * share, atol=1e-6)
    else:
        assert curtailed < 1
    if rule == "market":  # none before it is needed
        assert np.all(done.rounds == 1) and grid.ac_voltage.max() > 1.0299
    if rule != "volt_var":  # the linear figures have the reactive power in them, too
        assert np.abs(grid.voltage - grid.ac_voltage).max() < 0.01


@pytest.mark.parametrize(("rating", "violated"), [(4.2, 0.0), (3.9, 0.1)])
def test_a_rating_counts_as_violated_beyond_what_inverters_leave_of_it(rating, violated):
    """4 kW and 2 kvar through a branch, of which the inverter could take all: 4.2 kVA are enough.

    At unity only sqrt(4.2^2 - 2^2) = 3.69 kW are left.
    """
    tables = two_buses(rating=rating)
    homes = tables.prosumers.assign(load_kvar=2.0, reactive_profile="flat")
    options = {"days": None, "market": "none", "dtype": "float64"}
    found = {}
    for rule in ("market", "unity"):
        case = jp.build(tables.replace(prosumers=homes), reactive=rule, **options)
        used = np.asarray(case.horizon.pv, float)
        grid = grid_state(case.community, case.horizon, used - case.horizon.load, used, linear=True)
        found[rule] = np.asarray(grid.violated)
    assert found["market"][2] == pytest.approx(violated, abs=1e-9) and not found["market"][[0, 1, 3]].any()
    assert found["unity"][2] == pytest.approx(4 - np.sqrt(rating**2 - 4), abs=1e-9)


@pytest.mark.slow
@pytest.mark.long  # test_secure holds engines and a run against each other as well
def test_engines_agree_with_a_run_and_the_bounds_hold():
    case, horizon = noon("market")
    _, grid = cleared(case, horizon)
    task = Task(
        community=case.community,
        horizon=horizon,
        model=parse_model("none", horizon=horizon, community=case.community),
        penalties=penalties_of(case.horizon),
        policy=make_policies(case.community, case.horizon)["lyapunov"],
        solver=choose_solver(case.community),
        key=jax.random.key(0),
        first_slot_of_week=jnp.int32(0),
        slots=horizon.slots,
    )
    for engine, lanes in (("lockstep", 1), ("free_running", 2)):
        series = run_batch(task, jnp.arange(2, dtype=jnp.int32), engine=engine, lanes=lanes).series
        assert np.max(series.ac_voltage_violation_pu) <= 1e-4
        np.testing.assert_allclose(series.ac_losses_kw[1], grid.ac_losses, atol=2e-2)
    found = run(case.community, horizon, policies=("no_storage", "lyapunov", "perfect_foresight"))
    cost = {
        name: figures.kpis["total_cost_eur"]
        for name, figures in evaluate(case.community, horizon, found).items()
    }
    assert found.lower_bound_eur <= cost["perfect_foresight"] + 1e-3
    assert cost["perfect_foresight"] < cost["lyapunov"] < cost["no_storage"]
