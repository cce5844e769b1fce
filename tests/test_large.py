"""Networks of many buses: sums up and down the tree in place of matrices give the same, to rounding."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxp2p.model import build
from jaxp2p.model.network import (
    Matrices,
    Network,
    Pi,
    Sweeps,
    controllable_rows,
    on_host,
    paths,
    paths_of,
    tree_of,
)
from jaxp2p.model.network.tree_rows import TreeRows
from jaxp2p.runs.runner import check_foresight, make_policies, penalties_of, run
from jaxp2p.runs.verification import check_size
from jaxp2p.simulation import forward
from jaxp2p.simulation.forward import simulate
from jaxp2p.slot.admm.method import ADMM
from jaxp2p.slot.newton.method import Newton
from jaxp2p.slot.solvers import scale_tolerances

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
BUSES, MEMBERS = 400, 700


def random_network(buses: int, *, largest: int, seed: int = 0) -> Network:
    """A tree with transformers off their ratio and branches written down in any order and direction."""
    rng = np.random.default_rng(seed)
    head = np.arange(1, buses)
    tail = np.array([rng.integers(max(0, h - 9), h) for h in head])
    flip = rng.random(buses - 1) < 0.5
    mixed = rng.permutation(buses - 1)
    ends = (np.where(flip, a, b)[mixed] for a, b in ((head, tail), (tail, head)))
    z = rng.uniform(1e-5, 1e-4, buses - 1) * (1 + 1j * rng.uniform(0.1, 1, buses - 1))
    ratio = np.where(rng.random(buses - 1) < 0.1, rng.uniform(0.97, 1.03, buses - 1), 1.0)
    pi = Pi(*ends, z, np.zeros(buses - 1, complex), ratio)
    tree = tree_of(pi, np.zeros(buses, complex), np.ones(buses - 1), np.dtype(float), largest=16)
    return Network(
        paths=paths_of(pi, tree, np.dtype(float), largest=largest),
        slack_voltage=jnp.asarray(1.01),
        voltage_min=jnp.full(buses, 0.95),
        voltage_max=jnp.full(buses, 1.05),
        rating=jnp.asarray(np.where(rng.random(buses - 1) < 0.7, rng.uniform(50, 500, buses - 1), np.inf)),
        tree=tree,
    )


@pytest.fixture(scope="module")
def pair() -> tuple[Network, Network]:
    """One network, with matrices and without."""
    dense, swept = (random_network(BUSES, largest=largest) for largest in (BUSES, 16))
    assert isinstance(dense.paths, Matrices) and isinstance(swept.paths, Sweeps)
    return dense, swept


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_states_are_those_of_the_matrices(pair, kind, lead):
    rng = np.random.default_rng(1)
    p, q, more = (kind(x) for x in rng.normal(size=(3, *lead, BUSES)))
    dense, swept = ((on_host(grid) if kind is np.asarray else grid) for grid in pair)
    found = [grid.base(p, q, slack_voltage=1.01) for grid in (swept, dense)]
    found = [
        (base, grid.state(base, more), grid.lift(q)) for base, grid in zip(found, (swept, dense), strict=True)
    ]
    for ours, theirs in zip(*map(jax.tree.leaves, found), strict=True):
        assert isinstance(ours, np.ndarray) == (kind is np.asarray)
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def test_matrices_are_made_of_the_tree_where_somebody_asks(pair):
    dense, swept = pair
    made, kept = on_host(swept).paths.matrices(), dense.paths.matrices()
    for name in ("resistance", "reactance", "downstream"):
        np.testing.assert_allclose(getattr(made, name), getattr(kept, name), rtol=1e-9, atol=1e-18)


def feeders(pair):
    """The rows of homes at some of the buses, none of them in the last tenth of the tree."""
    rng = np.random.default_rng(2)
    bus = np.sort(rng.integers(1, 9 * BUSES // 10, MEMBERS))
    flexible = rng.random(MEMBERS) < 0.4
    return [controllable_rows(grid, bus, flexible, np.dtype(float)) for grid in pair]


def test_rows_are_those_of_the_matrix(pair):
    """The same rows are left out, the same scale, and every product with them is the same."""
    dense, swept = feeders(pair)
    assert isinstance(swept.matrix, TreeRows) and dense.rows < 2 * BUSES
    for name in ("group", "flexible", "count", "voltage_bus", "flow_branch"):
        np.testing.assert_array_equal(getattr(swept, name), getattr(dense, name))
    np.testing.assert_allclose(swept.scale, dense.scale, rtol=1e-12)
    rng, rows = np.random.default_rng(3), dense.rows
    at_bus, prices = jnp.asarray(rng.normal(size=len(dense.count))), jnp.asarray(rng.normal(size=(3, rows)))
    offset, chosen = jnp.asarray(rng.normal(size=rows)), jnp.asarray([0, rows - 1, rows // 2, 7])
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
    assert swept.rows == rows
    close(swept.values(at_bus, offset), dense.values(at_bus, offset))
    close(swept.bus_price(prices), dense.bus_price(prices))
    close(swept.bus_price(prices[0]), dense.bus_price(prices[0]))
    close(swept.rows_of(chosen), dense.rows_of(chosen))
    close(swept.response(MEMBERS), dense.response(MEMBERS))
    close(np.asarray(swept.matrix), np.asarray(dense.matrix))


def test_products_have_derivatives_and_batches(pair):
    """Those of the matrix: the transpose of each is the other."""
    dense, swept = feeders(pair)
    rng = np.random.default_rng(4)
    at_bus, price = jnp.asarray(rng.normal(size=len(dense.count))), jnp.asarray(rng.normal(size=dense.rows))
    none = jnp.zeros(dense.rows)
    back = jax.grad(lambda x: jnp.sum(price * swept.values(x, none)))(at_bus)
    np.testing.assert_allclose(back, dense.bus_price(price), rtol=1e-9, atol=1e-9)
    many = jnp.stack([at_bus, -at_bus, 2 * at_bus])
    found = jax.vmap(lambda x: swept.values(x, none))(many)
    np.testing.assert_allclose(found, jax.vmap(lambda x: dense.values(x, none))(many), rtol=1e-9, atol=1e-9)


def test_a_market_of_nobody_behind_its_limits_has_no_rows(pair):
    """Homes at the slack move nothing."""
    bus, flexible = np.zeros(3, int), np.ones(3, bool)
    assert [controllable_rows(grid, bus, flexible, np.dtype(float)).rows for grid in pair] == [0, 0]


@pytest.fixture(scope="module")
def cases():
    """One community of 1,000 buses near its limits, with matrices and without, and its horizon of each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        from rivals.large import large_tables

        tables = large_tables(1000, 1500, start="2016-07-04 12:00", days=2 / 96, pv_scale=2.5)
        found = []
        for largest in (1000, paths.ONE_MATRIX):
            patch.setattr(paths, "ONE_MATRIX", largest)
            community = build.build_community(tables, market="pool", secure=True, dtype="float64")
            found.append((community, build.build_horizon(community, tables)))
    (dense, _), (swept, _) = found
    assert isinstance(dense.network.paths, Matrices) and isinstance(swept.network.paths, Sweeps)
    return found


def test_a_community_has_the_same_horizon_and_rows(cases):
    (dense, horizon), (swept, other) = cases
    for ours, theirs in zip(*map(jax.tree.leaves, (other, horizon)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)
    assert swept.feeder.names(swept.network) == dense.feeder.names(dense.network)
    for ours, theirs in zip(
        swept.feeder.limits(swept.network, other.grid_base),
        dense.feeder.limits(dense.network, horizon.grid_base),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_slots_are_cleared_alike(cases):
    """Secure in AC, with limits that bind: what everybody does and pays, to 1e-9 of what there is."""
    found = []
    for community, horizon in cases:
        policy, penalties = make_policies(community, horizon)["lyapunov"], penalties_of(horizon)
        solver = Newton(eps_gap=1e-9)
        found.append(jax.jit(simulate)(community, horizon, penalties, policy, solver)[1])
    dense, swept = found
    assert np.ptp(np.asarray(dense.nodal_price - dense.market_price), axis=1).min() > 0.01
    assert (np.asarray(dense.status) == 0).all() and (np.asarray(dense.rounds) == 2).all()
    for name in ("injection", "nodal_price", "market_price", "charge", "status", "iterations"):
        ours, theirs = getattr(swept, name), getattr(dense, name)
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.slow
def test_derivatives_are_alike(cases):
    """Of the cost by the power of every plant, through the rows at work.

    Solved so tightly that both are on the same pieces: which corner a member rests on decides derivatives. In
    the second slot: in the first one members rest on a kink, and have a derivative for each side of it.
    """
    found = []
    for community, horizon in cases:
        policy, penalties = make_policies(community, horizon)["no_storage"], penalties_of(horizon)
        given, first = (penalties, policy, Newton(eps_gap=1e-10)), horizon.slice(1, 2)
        linear = community.with_linear_network()

        def cost(pv, linear=linear, first=first, given=given):
            return jnp.sum(simulate(linear, replace(first, pv=pv), *given, adjoint="implicit")[1].cost)

        found.append(jax.jit(jax.grad(cost))(first.pv))
    assert np.abs(found[0]).max() > 0.01
    np.testing.assert_allclose(*found, rtol=1e-8, atol=1e-8)


@pytest.mark.slow
def test_compiling_beforehand_takes_no_iterations_and_leaves_nothing_to_compile(cases):
    """With infinite tolerances ADMM would look in vain for the prices of limits that bind."""
    community, horizon = cases[1]
    policy, penalties = make_policies(community, horizon)["no_storage"], penalties_of(horizon)
    given = penalties, policy, ADMM()
    forward.compile_pieces(community, horizon, *given)
    parts = forward._start.jitted, forward._advance.jitted
    programs = [part._cache_size() for part in parts]
    forward.simulate_in_pieces(community, horizon, *given)
    free = replace(community, network=community.network.unlimited())
    done = forward.simulate_in_pieces(free, horizon, penalties, policy, scale_tolerances(ADMM(), np.inf))
    assert done.iterations.max() <= 2 * ADMM().check_every
    assert [part._cache_size() for part in parts] == programs


@pytest.mark.slow
def test_admm_clears_a_large_network_too(cases):
    """With the rows at work made of the tree: within its tolerance of what Newton's method finds."""
    _, (community, horizon) = cases
    policy, penalties = make_policies(community, horizon)["no_storage"], penalties_of(horizon)
    cost = []
    for solver in (Newton(), ADMM()):
        done = jax.jit(simulate)(community.with_linear_network(), horizon, penalties, policy, solver)[1]
        assert (np.asarray(done.status) == 0).all()
        cost.append(np.asarray(done.cost).sum(1))
    np.testing.assert_allclose(*cost, rtol=2e-3)


def test_what_needs_the_whole_matrix_is_refused_in_words(cases, monkeypatch):
    (dense, _), (swept, _) = cases
    monkeypatch.setattr(paths, "MOST_NUMBERS", 100_000)
    rows = swept.feeder.rows
    with pytest.raises(ValueError, match=f"{rows:,} network rows over 1,500 members would be a matrix of"):
        swept.feeder.response(1500)
    with pytest.raises(ValueError, match="the reference solvers are for smaller networks"):
        np.asarray(swept.feeder.matrix)
    with pytest.raises(ValueError, match="what 1,000 buses do to each other's voltages would be a matrix of"):
        swept.network.paths.matrices()
    with pytest.raises(ValueError, match="no solver of others can be asked"):
        check_size(swept)
    with pytest.raises(ValueError, match=r"perfect foresight cannot be had: .* leave it out"):
        check_foresight(["perfect_foresight"], swept, "on")
    check_foresight(["perfect_foresight"], swept, "auto")
    check_foresight(["perfect_foresight"], dense, "on")
    assert not dense.feeder.no_response(1500)
    none = replace(swept, feeder=swept.without_network().feeder)
    assert not none.feeder.no_response(1500)


@pytest.mark.slow
def test_a_run_leaves_perfect_foresight_out_and_says_why(cases, monkeypatch):
    community, horizon = cases[1]
    monkeypatch.setattr(paths, "MOST_NUMBERS", 100_000)
    done = run(
        community,
        horizon,
        policies=["no_storage", "perfect_foresight"],
        foresight_mode="auto",
        lower_bound=False,
    )
    assert list(done.trajectories) == ["no_storage"]
    assert "would be a matrix of" in done.left_out and "capture is not known" in done.left_out


@pytest.mark.slow
def test_the_benchmark_has_a_line_per_stage(tmp_path):
    out = tmp_path / "lines.jsonl"
    command = [sys.executable, str(BENCHMARKS / "bench_large.py"), "--buses", "300", "--members", "400"]
    command += ["--slots", "2", "--policies", "no_storage", "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    lines = {line["stage"]: line for line in map(json.loads, out.read_text().splitlines())}
    assert list(lines)[-2:] == ["figures", "lower bound"] and lines["build the community"]["rows"] > 300
    clear = lines["clear"]
    assert (clear["unsolved"], clear["violated"], clear["no_power_flow"], clear["slots"]) == (0, 0, 0, 2)
    assert all(line["seconds"] > 0 and line["peak_gib"] > 0 for line in lines.values())
