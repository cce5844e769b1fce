"""Derivatives of a cleared slot: unrolled = implicit = finite differences, and finite where there is none."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_slots import random_slot

from jaxp2p.admm import adjoint, solver
from jaxp2p.admm.solver import ADMM
from jaxp2p.slot import execute

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


def nothing(problem):
    """No change of anything."""
    change = {name: jnp.zeros_like(getattr(problem, name)) for name in NAMES if name != "fee"}
    return change | {"fee": jnp.zeros((), problem.load.dtype)}


def changed(problem, change):
    """The slot with everything in NAMES moved a little."""
    moved = {n: getattr(problem, n) + change[n] for n in NAMES if n not in ("fee", "load", *POSITIVE)}
    moved |= {n: getattr(problem, n) * (1 + change[n]) for n in POSITIVE if n != "fee"}
    moved |= {n: getattr(problem, n) + change["load"] for n in ("load", "load_min", "load_max")}
    return replace(
        problem, **moved, market=replace(problem.market, fee=problem.market.fee * (1 + change["fee"]))
    )


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


@pytest.mark.parametrize(("market", "seed"), [("pool", 9), ("pool", 10), ("bilateral", 3), ("bilateral", 6)])
def test_unrolled_is_implicit_is_finite_differences(market, seed):
    problem = random_slot(seed, dtype=jnp.float64, homes=HOMES, market=market, binding=True)
    clear = jax.jit(lambda x, s: solver.solve(changed(problem, x), TIGHT, s))
    zero = nothing(problem)
    solved = clear(zero, solver.init(problem, TIGHT))

    def value(change, how):
        moved = changed(problem, change)
        outcome = adjoint.solve(
            moved, TIGHT, solved.state, adjoint=how, iterations=600 if how == "unroll" else None
        )
        return objective(moved, outcome.answer)

    finish = jax.jit(lambda x, s: objective(changed(problem, x), clear(x, s).answer))
    implicit = jax.jit(jax.grad(lambda x: value(x, "implicit")))(zero)
    unrolled = jax.jit(jax.grad(lambda x: value(x, "unroll")))(zero)
    found = differences(lambda x: finish(x, solved.state), zero, entries(problem))
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
