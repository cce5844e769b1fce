"""Derivatives of a cleared slot: unrolled = implicit = finite differences, and finite where there is none."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_slots import random_slot
from test_clearing import pool

from jaxp2p.slot import execute
from jaxp2p.slot.admm import adjoint, solver
from jaxp2p.slot.admm.method import ADMM
from jaxp2p.slot.clearing import clear_pool

pytestmark = pytest.mark.slow

TIGHT = ADMM(
    eps_power=1e-11,
    eps_price=1e-12,
    eps_rel=1e-12,
    eps_gap=1e-11,
    eps_flow=1e-11,
    eps_voltage=1e-13,
    max_iter=20_000,
)
HOMES, STEP = 8, 1e-5
NAMES = (
    "value",
    "value_slope",
    "price_buy",
    "price_sell",
    "fee",
    "charge_max",
    "pv_max",
    "load",
    "row_upper",
)
POSITIVE = ("value_slope", "charge_max", "pv_max", "fee")  # moved in proportion: at zero there is a kink


def slot(market, seed):
    """A slot with a binding network, and a fee for every trade: without one the trades are not unique."""
    problem = random_slot(seed, dtype=jnp.float64, homes=HOMES, market=market, binding=True)
    fee = jnp.where(problem.market.limit > 0, 0.02, 0.0)
    return problem.coupled(market=replace(problem.market, fee=fee))


def nothing(problem):
    """No change of anything."""
    change = {name: jnp.zeros_like(getattr(problem, name)) for name in NAMES if name != "fee"}
    return change | {"fee": jnp.zeros((), problem.load.dtype)}


def changed(problem, change):
    """The slot with everything in NAMES moved a little."""
    moved = {n: getattr(problem, n) + change[n] for n in NAMES if n not in ("fee", "load", *POSITIVE)}
    moved |= {n: getattr(problem, n) * (1 + change[n]) for n in POSITIVE if n != "fee"}
    moved |= {n: getattr(problem, n) + change["load"] for n in ("load", "load_min", "load_max")}
    market = replace(problem.market, fee=problem.market.fee * (1 + change["fee"]))
    return replace(problem.coupled(market=market), **moved)


def objective(problem, answer):
    """What the slot costs, and what moves in it, each home by another weight."""
    d = execute.finish(problem, answer).dispatch
    weight = jnp.asarray(np.random.default_rng(0).normal(size=(4, HOMES)), problem.load.dtype)
    parts = jnp.stack([d.injection, d.charge, d.pv_used, d.discharge])
    cost = execute.slot_cost(problem, d) + execute.storage_drift(problem, d)
    return jnp.sum(cost) + jnp.sum(weight * parts)


def differences(f, at, mask):
    """Central differences of f by every entry in `mask`, and whether f is smooth there; rows by name."""
    middle, out = float(f(at)), {}
    for name, entries in mask.items():
        rows = []
        for i in np.flatnonzero(entries):
            ends = [
                float(f(at | {name: at[name].ravel().at[i].add(h).reshape(at[name].shape)}))
                for h in (STEP, -STEP)
            ]
            slope, bend = (ends[0] - ends[1]) / (2 * STEP), (ends[0] + ends[1] - 2 * middle) / STEP
            rows.append((i, slope, abs(bend) < 1e-3 * max(1e-2, abs(slope))))
        out[name] = rows
    return out


def entries(problem):
    """Which entries of NAMES to look at: all but capacities that are zero, and the rows that may bind."""
    mask = {name: np.ones(np.shape(getattr(problem, name)), bool) for name in NAMES if name != "fee"}
    for name in POSITIVE[:3]:
        mask[name] = np.asarray(getattr(problem, name)) > 1e-3
    mask["row_upper"] = np.isfinite(np.asarray(problem.row_upper))
    return mask | {"fee": np.ones((), bool)}


@pytest.mark.parametrize(("market", "seed"), [("pool", 3), ("bilateral", 4)])
def test_unrolled_is_implicit_is_finite_differences(market, seed):
    problem = slot(market, seed)
    zero = nothing(problem)

    @jax.jit
    def finish(change, state):
        moved = changed(problem, change)
        outcome = solver.solve(moved, TIGHT, state)
        return objective(moved, outcome.answer), outcome.state

    solved = finish(zero, solver.init(problem, TIGHT))[1]

    @jax.jit
    @jax.grad
    def gradient(changes):
        total = jnp.zeros(())
        for how, change in changes.items():
            moved, steps = changed(problem, change), 600 if how == "unroll" else None
            outcome = adjoint.solve(moved, TIGHT, solved, adjoint=how, iterations=steps)
            total = total + objective(moved, outcome.answer)
        return total

    unrolled, implicit = map(gradient(dict.fromkeys(adjoint.ADJOINTS, zero)).get, adjoint.ADJOINTS)
    found = differences(lambda x: finish(x, solved)[0], zero, entries(problem))
    smooth = 0
    for name, rows in found.items():
        size = 1e-3 + max(abs(slope) for _, slope, _ in rows)
        flat = np.ravel(implicit[name])
        np.testing.assert_allclose(np.ravel(unrolled[name]), flat, rtol=0, atol=2e-6 * size, err_msg=name)
        for i, slope, is_smooth in rows:
            if is_smooth:
                assert abs(flat[i] - slope) < 1e-4 * size, (name, i, flat[i], slope)
            smooth += is_smooth and abs(slope) > 1e-3
    assert smooth >= 12


def test_forward_mode_in_a_bilateral_market():
    problem = slot("bilateral", 10)
    zero = nothing(problem)
    along = zero | {"fee": jnp.ones(()), "load": jnp.linspace(-0.5, 1, HOMES)}

    @jax.jit
    def both(step, state):
        def cost(step):
            moved = changed(problem, jax.tree.map(lambda x: step * x, along))
            outcome = adjoint.solve(moved, TIGHT, state)
            return objective(moved, outcome.answer), outcome.state

        value, slope, state = jax.jvp(cost, (step,), (jnp.ones(()),), has_aux=True)
        return value, slope, state

    _, slope, state = both(jnp.zeros(()), solver.init(problem, TIGHT))
    ends = [float(both(jnp.asarray(h), state)[0]) for h in (STEP, -STEP)]
    assert float(slope) == pytest.approx((ends[0] - ends[1]) / (2 * STEP), rel=1e-4)


@pytest.mark.parametrize("how", adjoint.ADJOINTS)
def test_degenerate_slots_have_finite_derivatives(how):
    """Equal tariffs, no fee, no capacity, by turns, in one batch."""
    problem = random_slot(3, dtype=jnp.float64, homes=HOMES, market="bilateral", binding=True)
    same = {"price_sell": problem.price_buy - problem.price_sell}
    empty = {name: -jnp.ones_like(getattr(problem, name)) for name in ("charge_max", "pv_max", "value_slope")}
    rest = {"value": -problem.value}
    admm = ADMM(max_iter=500)

    def value(change):
        moved = changed(problem, change)
        found = adjoint.solve(moved, admm, solver.init(moved, admm), adjoint=how, iterations=40)
        prices = (found.answer.market_price, found.answer.nodal_price, found.answer.row_price)
        return (
            objective(moved, found.answer) + sum(jnp.sum(x) for x in prices) + jnp.sum(found.state.trade_dual)
        )

    cases = [
        nothing(problem) | change for change in (same, {"fee": -jnp.ones(())}, empty, same | empty | rest)
    ]
    batch = jax.tree.map(lambda *x: jnp.stack(x), *cases)
    gradients = jax.jit(jax.vmap(jax.grad(value)))(batch)
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(gradients))
    if how == "implicit":  # unrolled, motion that the fixed point does not feel adds up
        assert all(float(jnp.max(jnp.abs(x), initial=0)) < 1e4 for x in jax.tree.leaves(gradients))


def test_the_answer_itself_is_that_of_solve():
    problem = random_slot(1, dtype=jnp.float32, homes=HOMES, market="pool", binding=True)
    admm = ADMM()
    ours, plain = (
        jax.jit(lambda p, s, f=f: f(p, admm, s))(problem, solver.init(problem, admm))
        for f in (adjoint.solve, solver.solve)
    )
    assert ours.result is None  # executing it has a derivative too, and is left to who asks for it
    plain = plain._replace(result=None)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        np.testing.assert_array_equal(a, b)


def test_wrong_adjoints_are_refused():
    problem = random_slot(1, homes=2, market="pool", binding=False)
    state = solver.init(problem, ADMM())
    with pytest.raises(ValueError, match="unknown adjoint 'explicit'"):
        adjoint.solve(problem, ADMM(), state, adjoint="explicit")
    with pytest.raises(ValueError, match="number of iterations"):
        adjoint.solve(problem, ADMM(), state, adjoint="unroll")


@pytest.mark.parametrize("part", ["value", "price"])
def test_the_exact_clearing_moves_by_finite_differences(part):
    """Along random directions, away from kinks."""

    @jax.jit
    def found(problem, change, step):
        moved = changed(problem, jax.tree.map(lambda x: step * x, change))
        return getattr(clear_pool(moved), part)

    slope = jax.jit(lambda p, c: jax.jvp(lambda h: found(p, c, h), (jnp.zeros(()),), (jnp.ones(()),))[1])
    smooth = 0
    for seed in range(0, 30, 3):
        problem, rng = pool(seed), np.random.default_rng(seed)
        spread, fee = float(problem.price_buy - problem.price_sell), float(problem.market.fee[0, 0])
        unsold = part == "price" and float(clear_pool(problem).price) > float(problem.price_buy) - fee / 2
        if fee >= spread or unsold:  # nobody trades in the pool: its price is not unique
            continue
        for name in NAMES:
            change = nothing(problem)
            change[name] = jnp.asarray(rng.normal(size=change[name].shape))
            ends = [float(found(problem, change, jnp.asarray(h))) for h in (1e-6, -1e-6, 0.0)]
            difference, bend = (ends[0] - ends[1]) / 2e-6, (ends[0] + ends[1] - 2 * ends[2]) / 1e-6
            if abs(bend) < 1e-3 * max(1e-2, abs(difference)) and not (name == "fee" and fee == 0):
                assert float(slope(problem, change)) == pytest.approx(difference, rel=1e-4, abs=1e-6), (
                    seed,
                    name,
                )
                smooth += abs(difference) > 1e-3
    assert smooth > 5
