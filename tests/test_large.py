"""Networks of many buses: sums up and down the tree in place of matrices give the same, to rounding."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxp2p.model.network import Matrices, Network, Pi, Sweeps, controllable_rows, on_host, paths_of, tree_of
from jaxp2p.model.network.tree_rows import TreeRows

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
    tree = tree_of(pi, np.zeros(buses, complex), np.ones(buses - 1), np.dtype(float), largest=largest)
    return Network(
        paths=paths_of(pi, tree, np.dtype(float)),
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
    found = [(base, grid.state(base, more)) for base, grid in zip(found, (swept, dense), strict=True)]
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
