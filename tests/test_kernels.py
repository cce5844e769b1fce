"""Kernels of a GPU, run here by XLA ("interpret"): the same answers as the XLA programs, and derivatives."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_slots import random_slot

from jaxp2p.slot import solvers
from jaxp2p.slot.admm import solver as admm_solver
from jaxp2p.slot.execute import slot_cost
from jaxp2p.slot.kernels import blocked_rows, blocks
from jaxp2p.slot.kernels.choice import available, fused
from jaxp2p.slot.newton import dense
from jaxp2p.slot.newton import solver as newton_solver
from jaxp2p.slot.solvers import ADMM, Newton

pytestmark = pytest.mark.skipif(not available(), reason="this JAX is older than what the kernels need")

PATHS = ("xla", "interpret")
LONG = [pytest.mark.slow, pytest.mark.long]  # others of their kind are in the fast lane


def largest_difference(a, b):
    """Of two trees, over the size of what is compared."""

    def apart(x, y):
        x, y = np.asarray(x, float), np.asarray(y, float)
        same = (x == y) | (np.isnan(x) & np.isnan(y))
        return np.max(np.where(same, 0, np.abs(x - y) / (1 + np.abs(x))), initial=0)

    return max(jax.tree.leaves(jax.tree.map(apart, a, b)))


def scaled(problem, factor):
    """Another slot of the same community."""
    return replace(problem, load=problem.load * factor, pv_max=problem.pv_max * (2 - factor))


@pytest.mark.parametrize(
    ("seed", "market", "homes"),
    [(0, "pool", None), (1, "none", None), (4, "pool", 153), (2, "pool", 300), (3, "pool", 1)],
)
def test_newton_climbs_as_without_kernels(seed, market, homes):
    problem = random_slot(seed, dtype=jnp.float64, market=market, binding=True, homes=homes)
    found = []
    for kernels in PATHS:
        newton = Newton(kernels=kernels, max_iter=400)

        def proofs(factor, newton=newton):
            own = scaled(problem, factor)
            search = newton_solver.begin(own, newton, newton_solver.init(own))
            by = newton_solver._turns(own, newton)
            return by.finish(own, search.setup, by.turns(own, newton, search.setup, search.turning))

        found.append(jax.jit(jax.vmap(proofs))(jnp.asarray([0.7, 1.0, 1.3])))
    assert np.array_equal(found[0][0].iterations, found[1][0].iterations)
    assert largest_difference(*found) < 1e-9


@pytest.mark.parametrize(
    ("seed", "market", "homes", "limited"),
    [
        (0, "bilateral", None, False),
        (1, "pool", None, True),
        (2, "none", None, True),
        pytest.param(3, "bilateral", 153, True, marks=LONG),
        pytest.param(4, "pool", 300, False, marks=LONG),
        pytest.param(5, "pool", 1, False, marks=LONG),
    ],
)
def test_admm_steps_as_without_kernels(seed, market, homes, limited):
    problem = random_slot(seed, dtype=jnp.float64, market=market, binding=True, homes=homes)
    if limited:
        size = problem.load
        problem = replace(
            problem,
            buy_max=2 + 0 * size,
            sell_max=1 + 0 * size,
            unserved_price=jnp.asarray(2.0, size.dtype),
        )
    found = []
    for kernels in PATHS:
        admm = ADMM(kernels=kernels)

        def block(factor, admm=admm):
            own = scaled(problem, factor)
            search = admm_solver.begin(own, admm, admm_solver.init(own, admm))
            state = admm_solver._block(own, admm, search.devices, search.state)[0]
            return admm_solver._block(own, admm, search.devices, state)

        found.append(jax.jit(jax.vmap(block))(jnp.asarray([0.8, 1.2])))
    state, (update, _) = found[0]
    other, (answer, _) = found[1]
    assert largest_difference((state, update), (other, answer)) < 1e-9


@pytest.mark.parametrize(
    ("seed", "solver", "dtype"),
    [
        (1, Newton, jnp.float64),
        (3, ADMM, jnp.float32),
        pytest.param(1, Newton, jnp.float32, marks=LONG),
        pytest.param(3, ADMM, jnp.float64, marks=LONG),
    ],
)
def test_a_slot_is_solved_with_kernels(seed, solver, dtype):
    market = "pool" if solver is Newton else "bilateral"
    problem = random_slot(seed, dtype=dtype, market=market, binding=True)
    solve = jax.jit(
        lambda p, s: solvers.executed(p, solvers.solve(p, s, solvers.init(p, s))), static_argnums=()
    )
    results = [solve(problem, solver(kernels=kernels)) for kernels in PATHS]
    assert all(int(r.status) == 0 for r in results)
    allowed = float(results[0].gap_scale) * 1e-3
    assert all(float(r.gap) <= allowed for r in results)
    cost = [float(jnp.sum(slot_cost(problem, r.dispatch))) for r in results]
    assert abs(cost[0] - cost[1]) <= (allowed if dtype == jnp.float32 else 1e-9 * (1 + abs(cost[0])))


@pytest.mark.parametrize(("seed", "solver"), [(1, Newton), pytest.param(0, ADMM, marks=LONG)])
def test_derivatives_are_the_same(seed, solver):
    market = "pool" if solver is Newton else "bilateral"
    problem = random_slot(seed, dtype=jnp.float64, market=market, binding=True)
    slopes = []
    for kernels in PATHS:
        made = solver(kernels=kernels)

        def cost(factor, made=made):
            own = scaled(problem, factor)
            start = solvers.init(own, made)
            outcome = solvers.solve(own, made, jax.lax.stop_gradient(start), adjoint="implicit")
            return jnp.sum(outcome.answer.injection * outcome.answer.market_price)

        slopes.append(float(jax.jit(jax.grad(cost))(jnp.asarray(1.0))))
    assert slopes[0] != 0
    assert slopes[1] == pytest.approx(slopes[0], rel=1e-7)


def test_the_bounded_step_number_by_number():
    rng = np.random.default_rng(3)
    size, draws = 5, 400
    root = rng.normal(size=(draws, size, size))
    system = root @ root.transpose(0, 2, 1) + 0.01 * np.eye(size)
    free = rng.random((draws, size)) < 0.8
    system = np.where(free[:, :, None] & free[:, None, :], system, 0)
    system[:, range(size), range(size)] += np.where(free, 0.1, 0)
    gradient = rng.normal(size=(draws, size))
    least, most = -rng.exponential(0.3, (draws, size)), rng.exponential(0.3, (draws, size))
    given = [jnp.asarray(x) for x in (system, gradient, free, least, most)]
    expected = jax.jit(jax.vmap(dense.bounded_step))(*given)

    def by_numbers(system, *vectors):
        rows = [list(row) for row in system]
        return jnp.stack(blocked_rows.bounded_step(rows, *(list(x) for x in vectors)))

    found = jax.jit(jax.vmap(by_numbers))(*given)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    moved = np.asarray(found)
    assert np.all(moved[~free] == 0)
    assert np.any(moved == np.asarray(least)) and np.any(moved == np.asarray(most))


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("homes", [1, 127, 128, 300])
def test_sums_by_bus(homes, ordered):
    rng = np.random.default_rng(homes)
    bus, value = rng.integers(-1, 40, homes), rng.normal(size=homes)
    bus = np.sort(bus) if ordered else bus

    def kernel(given, out):
        block = blocks.this_block(homes, 128)
        bus, value = (block.read(ref) for ref in given)
        blocks.sum_by_bus(block, out, bus, [value, 2 * value])

    shape = jax.ShapeDtypeStruct((blocks.block_count(homes, 128), 2, blocks.padded_buses(40)), jnp.float64)
    given = (jnp.asarray(bus, jnp.int32), jnp.asarray(value))
    found = blocks.launch(kernel, given, shape, blocks=shape.shape[0], name="sums", interpret=True)
    expected = np.bincount(bus + 1, value, minlength=49)[1:]
    np.testing.assert_allclose(jnp.sum(found, axis=0), np.stack([expected, 2 * expected]), atol=1e-12)


def test_unknown_kernels_are_refused():
    with pytest.raises(ValueError, match="unknown kernels 'cuda': choose from auto, xla, fused, interpret"):
        fused("cuda")
    assert not fused("auto")  # no CUDA device here


def test_an_older_jax_does_without_them(monkeypatch):
    from jax.experimental.pallas import triton

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert fused("auto") and not fused("xla")
    monkeypatch.delattr(triton, "load")
    assert not fused("auto")
    with pytest.raises(ValueError, match="need a newer JAX"):
        fused("fused")
