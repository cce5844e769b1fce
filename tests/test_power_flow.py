"""AC power flow: closed forms, two programs of others (as data), its nose, methods and derivatives."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from jaxp2p.data.tables import Tables
from jaxp2p.model.build import build_community, build_horizon
from jaxp2p.model.network import (
    Flow,
    FlowStatus,
    Matrices,
    Network,
    Pi,
    VoltageDependent,
    on_host,
    power_flow,
    power_flows,
    tree_of,
)

CASES = json.loads((Path(__file__).parent / "reference" / "power_flow" / "cases.json").read_text())
EXACT = {"float32": 1e-6, "float64": 1e-9}
Z = 0.0004 + 0.0003j  # p.u. per kVA


def network_of(pi, shunt, *, slack=1.0, kind="float64", lines=None, rating=100.0, largest=None):
    """A network for AC only: its linear matrices are empty."""
    buses, none = len(shunt), np.zeros((1, 1))
    array = lambda x: jnp.asarray(x, kind)
    return Network(
        paths=Matrices(resistance=array(none), reactance=array(none), downstream=array(none)),
        slack_voltage=array(slack),
        voltage_min=array(np.full(buses, 0.9)),
        voltage_max=array(np.full(buses, 1.1)),
        rating=array(np.full(buses - 1, rating)),
        tree=tree_of(pi, shunt, np.ones(buses - 1) if lines is None else lines, kind, largest=largest),
    )


def two_buses(**options) -> Network:
    pi = Pi(np.array([0]), np.array([1]), np.array([Z]), np.zeros(1, complex), np.ones(1))
    return network_of(pi, np.zeros(2, complex), **options)


def tree_case(case):
    """Pi, shunts, injections and dependent parts of a case in p.u."""
    number = lambda name: np.array(case[name]["re"]) + 1j * np.array(case[name]["im"])
    pi = Pi(
        np.array(case["from_bus"]), np.array(case["to_bus"]), number("z"), number("y"), np.array(case["k"])
    )
    power, current, impedance = (number(name) for name in ("power", "current", "impedance"))
    parts = VoltageDependent(current.real, current.imag, impedance.real, impedance.imag)
    return pi, number("shunt"), power, parts, {n: number(n) for n in ("voltage", "from", "to", "source")}


@pytest.fixture(scope="module")
def random_case():
    return tree_case(CASES["power_grid_model"])


def closed(load: complex, slack: float = 1.0) -> tuple[float, float]:
    """Voltage and losses behind Z: v^4 - 2 h v^2 + |z s|^2 = 0 with h = v0^2 / 2 - (r p + x q)."""
    half = slack**2 / 2 - (Z.real * load.real + Z.imag * load.imag)
    square = half + np.sqrt(half**2 - abs(Z * load) ** 2)
    return np.sqrt(square), Z.real * abs(load) ** 2 / square


@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize("largest", [None, 1], ids=["one block", "blocks"])
def test_one_load_is_the_root_of_its_quadratic(kind, largest):
    grid = two_buses(slack=1.02, kind=kind, largest=largest)
    loads = np.array([100 + 30j, 300 + 100j, -200 + 50j, 0])
    active, reactive = (jnp.asarray(np.stack([0 * x, -x], 1), kind) for x in (loads.real, loads.imag))
    flow = jax.jit(power_flow)(grid, active, reactive)
    volts, losses = np.array([closed(load, 1.02) for load in loads]).T
    assert flow.status.tolist() == [FlowStatus.SOLVED] * 4 and flow.real.dtype == kind
    np.testing.assert_allclose(flow.voltage, np.stack([0 * volts + 1.02, volts], 1), rtol=EXACT[kind])
    np.testing.assert_allclose(flow.losses, losses, rtol=1e-5 if kind == "float32" else 1e-8)
    np.testing.assert_allclose(flow.import_active, loads.real + losses, rtol=1e-6)
    np.testing.assert_allclose(flow.far_active[:, 0], -loads.real, rtol=1e-6)
    np.testing.assert_allclose(flow.near_active[:, 0], -loads.real - losses, rtol=1e-6)
    lost = losses * Z.imag / Z.real
    np.testing.assert_allclose(flow.import_reactive, loads.imag + lost, rtol=1e-6, atol=1e-5)


def test_lines_are_loaded_by_current_and_transformers_by_apparent_power():
    load, rating = 300 + 100j, 400.0
    volts, losses = closed(load)
    power = np.array([0, -load.real]), np.array([0, -load.imag])
    line, transformer = (two_buses(lines=np.array([x]), rating=rating) for x in (1.0, 0.0))
    by_current = power_flow(on_host(line), *power).loading
    np.testing.assert_allclose(by_current, [abs(load) / volts / rating], rtol=1e-9)
    sent = load + losses * (1 + 1j * Z.imag / Z.real)
    np.testing.assert_allclose(
        power_flow(on_host(transformer), *power).loading, [abs(sent) / rating], rtol=1e-9
    )
    assert power_flow(on_host(two_buses(rating=np.inf)), *power).loading == 0


@pytest.mark.parametrize("kind", ["float32", "float64"])
@pytest.mark.parametrize("largest", [None, 4], ids=["one block", "blocks"])
def test_a_tree_with_everything_is_that_of_power_grid_model(random_case, kind, largest):
    """Ratios in both directions, iron, charging, shunts, and loads of all three kinds at every bus."""
    pi, shunt, power, parts, expected = random_case
    grid = network_of(pi, shunt, slack=1.02, kind=kind, largest=largest)
    array = lambda x: jnp.asarray(x, kind)
    flow = power_flow(grid, array(power.real), array(power.imag), dependent=jax.tree.map(array, parts))
    assert (np.asarray(flow.status) == FlowStatus.SOLVED).all()
    found = np.asarray(flow.real) + 1j * np.asarray(flow.imag)
    np.testing.assert_allclose(found, expected["voltage"], rtol=0, atol=EXACT[kind])
    far = np.asarray(flow.far_active) + 1j * np.asarray(flow.far_reactive)
    near = -np.asarray(flow.near_active) - 1j * np.asarray(flow.near_reactive)
    outward = pi.from_bus == np.asarray(grid.tree.near)
    size = np.abs(expected["from"]).max()
    np.testing.assert_allclose(np.where(outward, near, far), expected["from"], atol=size * EXACT[kind])
    np.testing.assert_allclose(np.where(outward, far, near), expected["to"], atol=size * EXACT[kind])
    source = np.asarray(flow.import_active) + 1j * np.asarray(flow.import_reactive)
    np.testing.assert_allclose(source, expected["source"], atol=size * EXACT[kind])
    lost = (expected["from"] + expected["to"]).real.sum(-1)
    np.testing.assert_allclose(flow.losses, lost, rtol=10 * EXACT[kind])
    assert (np.asarray(flow.residual) >= 0).all() and (np.asarray(flow.iterations) < 12).all()


def test_tables_give_the_flow_of_pandapower():
    """A transformer with tap and iron losses, cables with charging, a shunt, ZIP loads: from the columns."""
    case = CASES["pandapower"]
    time = pd.date_range("2026-01-05", periods=2, freq="15min")
    one = pd.DataFrame({"time": time, "one": 1.0})
    tables = Tables(
        prosumers=pd.DataFrame(
            {"prosumer_id": ["A"], "bus_id": ["b1"], "load_profile": "one", "load_kw": 0.0}
        ),
        buses=pd.DataFrame(case["buses"]),
        lines=pd.DataFrame(case["lines"]),
        profiles=one,
        prices=pd.DataFrame({"time": time, "buy_eur_per_kwh": 0.3, "sell_eur_per_kwh": 0.1}),
    )
    community = build_community(tables, market="none", dtype="float64")
    base = on_host(build_horizon(community, tables).grid_base)
    assert base.dependent is not None
    flow = power_flow(
        on_host(community.network), base.active_bus, base.reactive_bus, dependent=base.dependent
    )
    assert (flow.status == FlowStatus.SOLVED).all()
    expected = case["expected"]
    number = community.network.bus_ids.index
    for bus, volts in expected["vm_pu"].items():
        np.testing.assert_allclose(flow.voltage[0, number(bus)], volts, atol=1e-8)
    for row, (branch, loading) in enumerate(expected["loading"].items()):
        assert community.network.branch_ids[row] == branch
        np.testing.assert_allclose(flow.loading[0, row], loading, rtol=1e-6)
    np.testing.assert_allclose(flow.losses[0], expected["losses_kw"], rtol=1e-6)
    np.testing.assert_allclose(flow.import_active[0], expected["import_kw"], rtol=1e-7)
    np.testing.assert_allclose(flow.import_reactive[0], expected["import_kvar"], rtol=1e-6)


def test_a_single_bus_and_a_branch_without_impedance_have_a_flow():
    none = np.zeros(0, int)
    alone = Pi(none, none, np.zeros(0, complex), np.zeros(0, complex), np.ones(0))
    flow = power_flow(
        on_host(network_of(alone, np.array([1 - 2j]), slack=1.1)), np.array([3.0]), np.array([1.0])
    )
    assert flow.status == FlowStatus.SOLVED and flow.losses == 0 and flow.loading.shape == (0,)
    np.testing.assert_allclose([flow.import_active, flow.import_reactive], [1.21 - 3, 2 * 1.21 - 1])
    ends, nothing = (np.array([0, 1]), np.array([1, 2])), np.zeros(2, complex)
    grid = network_of(Pi(*ends, np.array([0, Z]), nothing, np.ones(2)), np.zeros(3, complex))
    flow = power_flow(on_host(grid), np.array([0, -50.0, -300]), np.array([0, 0, -100.0]))
    volts, losses = closed(300 + 100j)
    np.testing.assert_allclose(flow.voltage, [1, 1, volts], rtol=1e-9)
    np.testing.assert_allclose([flow.losses, flow.import_active], [losses, 350 + losses], rtol=1e-8)


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_beyond_the_nose_a_flow_says_so_and_stays_finite(kind):
    """Unity cos phi: half the determinant of the quadratic is 0 at p = v0^2 / (2 (r + |z|)) = 555.6 kW."""
    nose = 1 / (2 * (Z.real + abs(Z)))
    grid = two_buses(kind=kind)
    load = nose * np.array([0.5, 0.98, 1.02, 3, 1e6])
    active = jnp.asarray(np.stack([0 * load, -load], 1), kind)
    flow = jax.jit(power_flow)(grid, active, jnp.zeros_like(active))
    solved, none = FlowStatus.SOLVED, FlowStatus.NO_SOLUTION
    assert flow.status.tolist() == [solved, solved, none, none, none]
    assert all(np.isfinite(part).all() for part in jax.tree.leaves(flow))
    volts = [closed(complex(x))[0] for x in load[:2]]
    np.testing.assert_allclose(flow.voltage[:2, 1], volts, atol=2e-6 if kind == "float32" else 1e-9)
    assert (flow.residual[2:] > 1).all()
    few = power_flow(grid, active[:2], jnp.zeros_like(active[:2]), max_iter=3)
    assert few.status.tolist()[1] == FlowStatus.NOT_FINISHED


def test_a_flow_is_the_same_alone_in_a_batch_and_on_the_host(random_case):
    pi, shunt, power, *_ = random_case
    grid = network_of(pi, shunt, kind="float64")
    p, q = (jnp.asarray(x) for x in (power.real, power.imag))
    together = jax.jit(power_flow)(grid, p, q)
    one = jax.jit(power_flow)(grid, p[1], q[1])
    mapped = jax.jit(jax.vmap(power_flow, (None, 0, 0)))(grid, p, q)
    parts = power_flows(grid, p, q, at_a_time=2)
    host = power_flow(on_host(grid), np.asarray(p), np.asarray(q))
    assert all(isinstance(part, np.ndarray | np.generic) for part in jax.tree.leaves(host))
    for name in Flow._fields:
        if name in ("residual", "support"):
            continue  # rounding; no inverters
        at = {"rtol": 1e-12, "atol": 1e-9}
        np.testing.assert_allclose(getattr(one, name), getattr(together, name)[1], **at, err_msg=name)
        for other in (mapped, parts, host):
            np.testing.assert_allclose(getattr(other, name), getattr(together, name), **at, err_msg=name)


def test_an_accelerator_takes_many_flows_at_a_time(random_case, monkeypatch):
    """1,000 flows: a loop over parts on a processor, none on an accelerator, and the same flows."""
    pi, shunt, power, *_ = random_case
    grid = network_of(pi, shunt, kind="float64")
    p, q = (jnp.asarray(np.resize(x, (1000, x.shape[1]))) for x in (power.real, power.imag))
    parted = power_flows(grid, p, q)
    loops = lambda: str(jax.make_jaxpr(lambda p, q: power_flows(grid, p, q))(p, q)).count("scan[")
    on_processor = loops()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert loops() == on_processor - 1
    whole = power_flows(grid, p, q)
    for name in ("voltage", "loading", "losses"):
        there, here = getattr(whole, name), getattr(parted, name)
        np.testing.assert_allclose(there, here, rtol=1e-12, atol=1e-9, err_msg=name)


def test_a_warm_start_needs_fewer_iterations_in_a_scan(random_case):
    pi, shunt, power, *_ = random_case
    grid = network_of(pi, shunt, kind="float32")
    p, q = (jnp.asarray(x[0], jnp.float32) for x in (power.real, power.imag))

    def slot(before, factor):
        now = power_flow(grid, factor * p, factor * q, start=before)
        return now, (now.iterations, now.status)

    cold = power_flow(grid, p, q)
    _, (taken, status) = jax.lax.scan(slot, cold, jnp.asarray([1.0, 1.001, 1.002], jnp.float32))
    assert (status == FlowStatus.SOLVED).all()
    assert (taken < cold.iterations).all() and taken[0] == 1


@pytest.mark.parametrize("largest", [None, 4], ids=["one block", "blocks"])
def test_derivatives_are_finite_differences(random_case, largest):
    pi, shunt, power, parts, _ = random_case
    grid = network_of(pi, shunt, largest=largest)
    p, q, some = jnp.asarray(power[0].real), jnp.asarray(power[0].imag), jax.tree.map(lambda x: x[0], parts)

    def rows(flow):
        return jnp.stack([flow.voltage[3], flow.loading[2], flow.losses, flow.import_reactive])

    at = lambda p, q: rows(power_flow(grid, p, q, dependent=some))
    figures, pull = jax.vjp(at, p, q)
    by_p, by_q = jax.vmap(pull)(jnp.eye(figures.shape[0]))
    step = 1e-4 * np.abs(power).max()
    for bus in (0, 1, len(p) - 1):
        one = jnp.zeros_like(p).at[bus].set(step)
        np.testing.assert_allclose(
            by_p[:, bus], (at(p + one, q) - at(p - one, q)) / (2 * step), rtol=1e-5, atol=1e-9
        )
        np.testing.assert_allclose(
            by_q[:, bus], (at(p, q + one) - at(p, q - one)) / (2 * step), rtol=1e-5, atol=1e-9
        )
    along = jax.jvp(lambda p: at(p, q), (p,), (jnp.ones_like(p),))[1]
    np.testing.assert_allclose(along, by_p.sum(1), rtol=1e-8, atol=1e-12)


def test_batches_of_batches_and_of_networks_are_the_flows_alone(random_case):
    """Those that share a network are solved as one call of many, others each with its own."""
    pi, shunt, power, parts, _ = random_case
    grid = network_of(pi, shunt, largest=4)
    p, q = (jnp.asarray(np.stack([x, 0.5 * x])) for x in (power.real, power.imag))
    some = jax.tree.map(lambda x: x[0], parts)
    at = lambda grid, p, q: power_flow(grid, p, q, dependent=some)
    twice = jax.vmap(jax.vmap(at, (None, 0, 0)), (None, 0, 0))(grid, p, q)
    slacks = jnp.asarray([1.0, 1.02, 0.98])
    axes = jax.tree.map(lambda _: None, grid)
    grids = replace(grid, slack_voltage=slacks)
    others = jax.vmap(at, (replace(axes, slack_voltage=0), None, None))(grids, p[0, 1], q[0, 1])
    together = {"rtol": 1e-12, "atol": 1e-9}
    for name in ("real", "imag", "losses", "status", "iterations"):
        for i, j in np.ndindex(*p.shape[:2]):
            alone = getattr(at(grid, p[i, j], q[i, j]), name)
            np.testing.assert_allclose(getattr(twice, name)[i, j], alone, **together, err_msg=name)
        for k, slack in enumerate(slacks):
            alone = getattr(at(replace(grid, slack_voltage=slack), p[0, 1], q[0, 1]), name)
            np.testing.assert_allclose(getattr(others, name)[k], alone, **together, err_msg=name)
    lost = jax.grad(lambda p, q: at(grid, p, q).losses)
    each = jax.vmap(lost)(p[0], q[0])
    np.testing.assert_allclose(each[1], lost(p[0, 1], q[0, 1]), rtol=1e-9, atol=1e-12)
