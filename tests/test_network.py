"""LinDistFlow against its definition and against an AC power flow of another project."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxp2p.data import load_case, window
from jaxp2p.model.build import build_community
from jaxp2p.model.network import controllable_rows, radial_matrices

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
        squared = float(network.slack_voltage) ** 2 + 2 * (network.resistance @ p + network.reactance @ q)
        ac = np.array([snapshot["v_pu"][bus] for bus in network.bus_ids])
        assert np.abs(np.sqrt(squared) - ac).max() < TOLERANCE[name], snapshot["label"]


def test_flows_are_close_to_ac(case):
    name, network = case
    for snapshot in AC["cases"][name]["snapshots"]:
        p = np.array([snapshot["p_kw"].get(bus, 0.0) for bus in network.bus_ids])
        flow = np.asarray(network.downstream) @ p
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
