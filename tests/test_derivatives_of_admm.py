"""ADMM's derivatives leaf by leaf: tight feeders, connection limits, and no network, in both markets."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest
from finite_differences import LIMITS, NAMES, compare, executed, quickly
from nasty_slots import draw
from random_slots import random_slot

from jaxp2p.model.network import NoRows
from jaxp2p.slot import execute
from jaxp2p.slot.admm import adjoint, solver
from jaxp2p.slot.admm.method import ADMM

pytestmark = pytest.mark.slow

TIGHT = ADMM(
    eps_power=1e-11,
    eps_price=1e-12,
    eps_rel=1e-12,
    eps_gap=1e-12,
    eps_flow=1e-10,
    eps_voltage=1e-12,
    max_iter=20_000,
)


def alone(seed, market):
    problem = random_slot(seed, dtype=jnp.float64, homes=8, market=market, binding=False)
    none = {n: jnp.zeros(0) for n in ("row_offset", "row_upper", "row_lower")}
    return replace(problem.coupled(feeder=NoRows()), **none)


@pytest.mark.parametrize(
    ("where", "market"),
    [
        pytest.param("tight_feeder", "pool", marks=pytest.mark.long),  # test_adjoint has one as well
        ("tight_feeder", "bilateral"),
        ("tight_connections", "bilateral"),
        ("no network", "bilateral"),
    ],
)
def test_everything_moves_as_finite_differences_do(where, market):
    problem = alone(11, market) if where == "no network" else draw(f"{where}.{market}", 3, jnp.float64)
    first = quickly(lambda p: solver.solve(p, TIGHT, solver.init(p, TIGHT)).state)(problem)
    names = NAMES + (LIMITS if problem.buy_max is not None else ())
    names = [n for n in names if n == "fee" or jnp.size(getattr(problem, n))]
    compared, moving, wrong = compare(
        problem,
        lambda p: executed(p, solver.solve(p, TIGHT, first).answer),
        lambda p: executed(p, adjoint.solve(p, TIGHT, first).answer),
        names,
    )
    assert not wrong
    assert compared >= (10 if where == "no network" else 20), moving
    assert {"load", "slot_hours"} <= moving


@pytest.mark.parametrize("family", ["tight_connections.bilateral", "tie_at_storage.pool"])
def test_single_precision_derivatives_are_finite(family):
    problem = draw(family, 1, jnp.float32)
    admm = ADMM()

    def cost(problem):
        d = execute.dispatch(problem, adjoint.solve(problem, admm, solver.init(problem, admm)).answer)
        return jnp.sum(execute.slot_cost(problem, d) + d.injection)

    slopes = quickly(jax.grad(cost, allow_int=True))(problem)
    real = [x for x in jax.tree.leaves(slopes) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in real)
