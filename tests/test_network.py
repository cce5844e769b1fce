"""LinDistFlow against its definition and against an AC power flow of another project."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxp2p.data import load_case, window
from jaxp2p.model.build import build_community
from jaxp2p.model.network import Base, Matrices, Network, NoRows, controllable_rows, on_host, radial_matrices

AC = json.loads((Path(__file__).parent / "data" / "ac_reference.json").read_text())
# LinDistFlow leaves out losses: p.u. and share of the flow seen against AC, rounded up
TOLERANCE = {"rural3": 2e-3, "rural1": 3e-3, "ieee33": 8e-3}


@pytest.fixture(scope="module", params=sorted(TOLERANCE))
def case(request):
    tables = window(load_case(request.param), days=1)
    return request.param, build_community(tables, dtype="float64").network


def test_voltages_are_close_to_ac(case):
    name, network = case
    for snapshot in AC["cases"][name]["snapshots"]:
        p = np.array([snapshot["p_kw"].get(bus, 0.0) for bus in network.bus_ids])
        q = np.array([snapshot["q_kvar"].get(bus, 0.0) for bus in network.bus_ids])
        squared = float(network.slack_voltage) ** 2 + 2 * (
            network.paths.resistance @ p + network.paths.reactance @ q
        )
        ac = np.array([snapshot["v_pu"][bus] for bus in network.bus_ids])
        assert np.abs(np.sqrt(squared) - ac).max() < TOLERANCE[name], snapshot["label"]


def test_flows_are_close_to_ac(case):
    name, network = case
    for snapshot in AC["cases"][name]["snapshots"]:
        p = np.array([snapshot["p_kw"].get(bus, 0.0) for bus in network.bus_ids])
        flow = np.asarray(network.paths.downstream) @ p
        ac = -np.array([snapshot["p_line_kw"][branch] for branch in network.branch_ids])
        losses = np.abs(ac.sum() * 0.05) + 0.05 * np.abs(ac).max()
        assert np.abs(flow - ac).max() < losses, snapshot["label"]


def test_matrices_equal_branch_by_branch_recursion():
    rng = np.random.default_rng(0)
    buses = 40
    head = np.arange(1, buses)
    tail = np.array([rng.integers(0, h) for h in head])
    r, x = rng.random(buses - 1), rng.random(buses - 1)
    p, q = rng.normal(size=buses), rng.normal(size=buses)
    flip = rng.random(buses - 1) < 0.5  # the direction in which a line is written down must not matter
    ends = np.where(flip, head, tail), np.where(flip, tail, head)
    resistance, reactance, downstream = radial_matrices(*ends, r, x, buses)
    flow_p, flow_q = p.copy(), q.copy()
    for h in range(buses - 1, 0, -1):  # children have larger numbers: sum up from the leaves
        flow_p[tail[h - 1]] += flow_p[h]
        flow_q[tail[h - 1]] += flow_q[h]
    squared = np.ones(buses)
    for h in range(1, buses):
        squared[h] = squared[tail[h - 1]] + 2 * (r[h - 1] * flow_p[h] + x[h - 1] * flow_q[h])
    np.testing.assert_allclose(1 + 2 * (resistance @ p + reactance @ q), squared, atol=1e-12)
    np.testing.assert_allclose(downstream @ p, flow_p[1:], atol=1e-12)


def test_disconnected_buses_are_refused():
    with pytest.raises(ValueError, match="1 of 3 buses"):
        radial_matrices(np.array([0]), np.array([1]), np.ones(1), np.ones(1), 3)


def test_rows_are_scaled_to_one(case):
    _, network = case
    rng = np.random.default_rng(1)
    bus = np.sort(rng.integers(1, len(network.bus_ids), 50))
    feeder = controllable_rows(network, bus, rng.random(50) < 0.7, np.dtype("float64"))
    np.testing.assert_allclose(np.abs(feeder.matrix).max(1), 1)


def test_a_state_is_the_definition_on_the_host_and_in_the_kernel(case):
    _, network = case
    rng = np.random.default_rng(2)
    p, q, more = rng.normal(size=(3, 4, network.buses))
    r, x, below = (
        np.asarray(m) for m in (network.paths.resistance, network.paths.reactance, network.paths.downstream)
    )
    squared = 1.02**2 + 2 * ((p + more) @ r.T + q @ x.T)
    for grid, kind in ((on_host(network), np.asarray), (network, jnp.asarray)):
        base = grid.base(kind(p), kind(q), slack_voltage=1.02)
        state = grid.state(base, kind(more))
        assert all(
            isinstance(part, np.ndarray) == (kind is np.asarray) for part in jax.tree.leaves((base, state))
        )
        np.testing.assert_allclose(state.voltage, np.sqrt(squared), rtol=1e-12)
        np.testing.assert_allclose(state.flow, (p + more) @ below.T, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(base.reactive, q @ below.T, rtol=1e-9, atol=1e-9)
        moved = grid.moved(base, kind(more))
        np.testing.assert_allclose(moved.voltage, squared, rtol=1e-12)
        np.testing.assert_allclose(moved.flow, state.flow)
        np.testing.assert_array_equal(moved.reactive, base.reactive)


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
def test_what_branches_and_buses_have_room_for(kind):
    """Ratings of 5 kVA, 5 kVA and none beside 3, 6 and 3 kvar leave 4 kW, nothing and everything."""
    none, limits = np.zeros((3, 3)), kind(np.array([5.0, 5.0, np.inf]))
    grid = Network(
        paths=Matrices(resistance=kind(none), reactance=kind(none), downstream=kind(none)),
        slack_voltage=kind(np.float64(1.0)),
        voltage_min=kind(np.full(3, 0.95)),
        voltage_max=kind(np.full(3, 1.05)),
        rating=limits,
    )
    reactive = kind(np.array([[3.0, 6.0, 3.0], [0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(grid.room(reactive), [[4, 0, np.inf], [5, 5, np.inf]])
    flow = kind(np.array([[-4.5, 1.0, 9.0], [4.0, -7.0, 0.0]]))
    np.testing.assert_allclose(grid.overload(flow, reactive), [[0.5, 1, 0], [0, 2, 0]])
    loading = [[np.hypot(4.5, 3) / 5, np.hypot(1, 6) / 5, 0], [0.8, 1.4, 0]]
    np.testing.assert_allclose(grid.loading(flow, reactive), loading)
    volts = kind(np.array([0.9, 1.0, 1.06]))
    np.testing.assert_allclose(grid.beyond(volts), [0.05, 0, 0.01], atol=1e-12)
    at_bus = grid.at_buses(kind(np.array([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]])), np.array([1, 2, 1]))
    np.testing.assert_array_equal(at_bus, [[0, 5, 2], [0, 40, 16]])


def test_a_market_without_a_network_has_no_rows_and_no_leaves(case):
    """The same methods as a feeder, in the dtype and with the leading axes of what they are given."""
    _, network = case
    none, base = NoRows(), Base(*(jnp.ones((2, n), jnp.float32) for n in (network.buses, 1, 1)))
    assert jax.tree.leaves(none) == [] and none == NoRows() and none.rows == 0
    for rows in none.limits(network, base):
        assert rows.shape == (2, 0) and rows.dtype == jnp.float32
    homes = jnp.arange(5, dtype=jnp.float32)
    assert none.bus_sum(homes).shape == (0,) and none.bus_sum(homes).dtype == jnp.float32
    surcharge = none.at_homes(none.bus_price(jnp.zeros((2, 0), jnp.float32)), 5)
    assert surcharge.dtype == jnp.float32
    np.testing.assert_array_equal(surcharge, np.zeros((2, 5)))
    np.testing.assert_array_equal(none.of_movers(homes), homes)
    assert none.response(5).shape == (0, 5) and none.names(network) == ()
    assert none.excess(network, np.ones((2, network.buses)), np.ones((2, 1))).shape == (2, 0)
    assert none.tolerance(np.dtype("float32"), flow=1.0, voltage=1.0).shape == (0,)


def test_homes_that_cannot_move_have_no_rows(case):
    _, network = case
    assert controllable_rows(network, np.ones(3, int), np.zeros(3, bool), np.dtype("float64")) == NoRows()
    at_slack = controllable_rows(network, np.zeros(3, int), np.ones(3, bool), np.dtype("float64"))
    assert at_slack == NoRows()
