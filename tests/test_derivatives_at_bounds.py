"""Newton's derivatives with the pool's price at a tariff bound and inside, where network rows are priced."""

from dataclasses import replace

import jax.numpy as jnp
import pytest
from finite_differences import compare, executed, quickly
from nasty_slots import draw

from jaxp2p.slot.newton import adjoint, solver
from jaxp2p.slot.newton.dual import pool_range
from jaxp2p.slot.newton.method import Newton

pytestmark = pytest.mark.slow

START = Newton(eps_gap=1e-10, eps_flow=1e-8, eps_voltage=1e-11, max_iter=1000, rows_at_once=16)
# hardly any damping, and no stop before the limit: exact to rounding
EXACT = replace(
    START, proximal=1e-3, damping=1e-7, row_damping=1e-7, centre_after=5, eps_gap=0.0, max_iter=60
)


@pytest.fixture(autouse=True)
def _newton_alone(monkeypatch):
    """The limit of iterations is meant: ADMM need not go on."""
    monkeypatch.setattr(solver, "rescued", lambda problem, newton, state, answer, solved: (state, answer))


@pytest.mark.parametrize(("seed", "where"), [(5, "low"), (6, "high"), (4, "inside")])
def test_everything_moves_as_finite_differences_do(seed, where):
    problem = draw("tight_feeder.pool", seed, jnp.float64)
    first = quickly(lambda p: solver.solve(p, START, solver.init(p)).state)(problem)

    found = quickly(lambda p: solver.solve(p, EXACT, first))(problem)
    _, lowest, highest = pool_range(problem)
    side = {"low": found.state.price <= lowest + 1e-9, "high": found.state.price >= highest - 1e-9}
    assert bool(side.get(where, ~(side["low"] | side["high"])))
    assert int(jnp.sum(found.answer.row_price != 0)) >= 1
    compared, moving, wrong = compare(
        problem,
        lambda p: executed(p, solver.solve(p, EXACT, first).answer),
        lambda p: executed(p, adjoint.solve(p, EXACT, first).answer),
    )
    assert not wrong
    assert compared >= 25, moving
