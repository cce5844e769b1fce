"""Newton's derivatives with the pool's price at a tariff bound and inside, where network rows are priced."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nasty_slots import draw

from jaxp2p.newton import adjoint, solver
from jaxp2p.newton.solver import Newton, price_range
from jaxp2p.slot import execute

START = Newton(eps_gap=1e-10, eps_flow=1e-8, eps_voltage=1e-11, max_iter=1000, rows_at_once=16)
# hardly any damping, and no stop before the limit: exact to rounding
EXACT = replace(
    START, proximal=1e-3, damping=1e-7, row_damping=1e-7, centre_after=5, eps_gap=0.0, max_iter=60
)
NAMES = ("slot_hours", "price_buy", "price_sell", "row_penalty", "load", "pv_max", "charge_max", "value")
NAMES += ("value_slope", "wear_cost", "discharge_efficiency", "row_offset", "row_upper", "row_lower", "fee")
STEP = 1e-5


@pytest.fixture(autouse=True)
def _newton_alone(monkeypatch):
    """The limit of iterations is meant: ADMM need not go on."""
    monkeypatch.setattr(solver, "rescued", lambda problem, newton, state, answer, solved: (state, answer))


def moved(problem, name, along):
    if name == "fee":
        return replace(problem, market=replace(problem.market, fee=problem.market.fee + along))
    both = ("load", "load_min", "load_max") if name == "load" else (name,)
    return replace(problem, **{n: getattr(problem, n) + along for n in both})


def entries(problem, name):
    at = problem.market.fee if name == "fee" else getattr(problem, name)
    if name == "fee" or at.ndim == 0:
        return jnp.ones((1, *at.shape))
    use = np.isfinite(at) if name.startswith("row_") or name == "load" else np.asarray(at) > 1e-3
    return jnp.eye(at.shape[0])[np.flatnonzero(use)]


@pytest.mark.parametrize(("seed", "where"), [(5, "low"), (6, "high"), (4, "inside")])
def test_everything_moves_as_finite_differences_do(seed, where):
    problem = draw("tight_feeder.pool", seed, jnp.float64)
    first = jax.jit(lambda p: solver.solve(p, START, solver.init(p)).state)(problem)

    def executed(problem, solve):
        answer = solve(problem, EXACT, first).answer
        d = execute.dispatch(problem, answer)
        cost = execute.slot_cost(problem, d) + execute.storage_drift(problem, d)
        return jnp.concatenate([jnp.sum(cost)[None], d.injection, d.charge, d.discharge, d.pv_used])

    found = jax.jit(lambda p: solver.solve(p, EXACT, first))(problem)
    _, lowest, highest = price_range(problem)
    side = {"low": found.state.price <= lowest[0] + 1e-9, "high": found.state.price >= highest[0] - 1e-9}
    assert bool(side.get(where, ~(side["low"] | side["high"])))
    assert int(jnp.sum(found.answer.row_price != 0)) >= 1
    labels, lines = [], []
    for name in NAMES:
        lines += [moved(problem, name, line) for line in entries(problem, name)]
        labels += [name] * (len(lines) - len(labels))
    leaves, tree = jax.tree.flatten(problem)
    real = [jnp.issubdtype(x.dtype, jnp.inexact) for x in leaves]
    at = [np.asarray(x) for x, use in zip(leaves, real, strict=True) if use]
    ends = zip(*map(jax.tree.leaves, lines), strict=True)
    ends = [np.stack(x) for x, use in zip(ends, real, strict=True) if use]
    along = [
        np.where(np.isfinite(x), y - np.where(np.isfinite(x), x, 0), 0) for x, y in zip(at, ends, strict=True)
    ]

    def filled(numbers):
        numbers = iter(numbers)
        own = [next(numbers) if use else x for x, use in zip(leaves, real, strict=True)]
        return jax.tree.unflatten(tree, own)

    many = jax.jit(jax.vmap(lambda x: executed(filled(x), solver.solve)))
    up, down = (many([x + h * dx for x, dx in zip(at, along, strict=True)]) for h in (STEP, -STEP))
    here = jax.jit(lambda x: executed(filled(x), solver.solve))(at)[None]
    push = jax.jit(
        lambda x, t: jax.vmap(jax.linearize(lambda y: executed(filled(y), adjoint.solve), x)[1])(t)
    )
    slope = push(at, along)
    right, left = (up - here) / STEP, (here - down) / STEP
    size = 1e-2 + jnp.max(jnp.abs(right), axis=1)
    smooth = np.asarray(jnp.max(jnp.abs(right - left), axis=1) < 1e-3 * size)
    wrong = np.asarray(jnp.max(jnp.abs(slope - (right + left) / 2), axis=1) > 1e-3 * size)
    assert not [name for name, bad in zip(labels, wrong & smooth, strict=True) if bad]
    assert np.sum(smooth & (np.asarray(size) > 2e-2)) >= 25
