"""One test per way in which a slot can end, and what the user is told."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from communities import small
from nasty_slots import draw
from random_slots import random_slot

from jaxp2p.control.policy import slot_problem, suggest_penalties
from jaxp2p.runs.runner import make_policies, row_names
from jaxp2p.simulation.forward import slots
from jaxp2p.slot import execute
from jaxp2p.slot.admm import solver
from jaxp2p.slot.admm.method import ADMM
from jaxp2p.slot.diagnosis import diagnose
from jaxp2p.slot.status import Status


def replace(record, **changes):
    return type(record)(**(record.__dict__ | changes))


def noon(case="rural1", **kwargs):
    """The sunniest slot of three days in the overloaded village."""
    community, horizon = small(case, days=3, **kwargs)
    sunniest = int(jnp.argmax(jnp.sum(horizon.pv - horizon.load, axis=1)))
    slot = jax.tree.map(lambda x: x[sunniest], slots(horizon))
    policy, energy = make_policies(community, horizon)["no_storage"], community.prosumers.battery.energy_start
    return community, slot_problem(
        community, suggest_penalties(horizon), policy, slot, energy, jnp.asarray(0)
    )


@jax.jit
def solve(problem, admm):
    return execute.finish(problem, solver.solve(problem, admm, solver.init(problem, admm)).answer)


def test_solved_keeps_the_transformer_limit():
    _, problem = noon(pv_scale=2.5)
    result = solve(problem, ADMM())
    assert Status(int(result.status)) is Status.SOLVED
    assert float(result.violation) < execute.POWER_TOLERANCE
    assert float(jnp.sum(problem.pv_max - result.dispatch.pv_used)) > 10  # kW: the limit does bind
    assert float(jnp.max(result.dispatch.row_price)) > 0.01  # and has a price


def test_max_iter_is_reported_and_still_balanced():
    _, problem = noon(pv_scale=2.5)
    result = solve(problem, ADMM(max_iter=5))
    d = result.dispatch
    assert Status(int(result.status)) is Status.MAX_ITER
    np.testing.assert_allclose(d.injection, d.sell - d.buy + d.trades.sum(0), atol=1e-9)


def test_small_penalty_is_told_from_infeasible():
    community, problem = noon(pv_scale=2.5)
    names = row_names(community)
    weak = diagnose(replace(problem, row_penalty=jnp.asarray(0.01)), ADMM())
    assert weak.status is Status.PENALTY_TOO_SMALL
    assert "transformer" in weak.explain(names)
    # a background so large that no home can make up for it
    impossible = diagnose(replace(problem, row_offset=problem.row_offset + 500.0), ADMM())
    assert impossible.status is Status.NETWORK_INFEASIBLE
    assert impossible.violation_kw > 100
    assert names[impossible.row] in impossible.explain(names)
    fine = diagnose(problem, ADMM())
    assert fine.status is Status.SOLVED
    assert fine.explain(names) == Status.SOLVED.message


def test_unserved_energy_is_reported_where_the_connection_is_too_small():
    problem = random_slot(2, market="none", binding=False, dtype=jnp.float64)
    tight = replace(
        problem,
        buy_max=0.1 * problem.load,
        sell_max=problem.load,
        unserved_price=jnp.asarray(2.0),
        pv_max=jnp.zeros_like(problem.pv_max),
        discharge_max=jnp.zeros_like(problem.load),
        discharge_min=jnp.zeros_like(problem.load),
    )
    result = solve(tight, ADMM())
    d = result.dispatch
    assert Status(int(result.status)) is Status.UNSERVED
    assert float(jnp.max(d.buy - tight.buy_max)) < 1e-9
    np.testing.assert_allclose(d.injection, d.sell - d.buy + d.trades.sum(0) - d.unserved, atol=1e-9)


def test_nan_in_the_data_is_a_status_and_not_a_dispatch_of_nan():
    problem = random_slot(2, market="none", binding=False, dtype=jnp.float64)
    result = solve(replace(problem, value=problem.value.at[0].set(jnp.nan)), ADMM(max_iter=20))
    assert Status(int(result.status)) is Status.NUMERICAL_ERROR


@pytest.mark.parametrize("status", list(Status))
def test_every_status_has_a_message(status):
    assert len(status.message) > 10


def test_history_of_solve_fixed_ends_where_solve_does():
    problem = random_slot(1, market="pool", binding=False, dtype=jnp.float64, homes=20)
    admm = ADMM(rho_clamp=1.0)  # constant penalties, as solve_fixed has them
    free = solver.solve(problem, admm, solver.init(problem, admm))
    fixed, history = solver.solve_fixed(problem, admm, solver.init(problem, admm), int(free.iterations))
    assert history.prim.shape == (int(free.iterations), 2)
    np.testing.assert_allclose(fixed.update.injection, free.update.injection, atol=1e-12)
    assert float(history.prim[-1].max()) < float(history.prim[0].max())


def test_fees_below_zero_do_not_hang():
    """Tables refuse them; a gradient may step there. A circle pays for ever and no price is consistent."""
    problem = random_slot(11, homes=8, market="bilateral", binding=False)
    problem = problem.coupled(market=replace(problem.market, fee=problem.market.fee - 0.05))
    result = solve(problem, ADMM(max_iter=100))
    assert result.iterations <= 100
    assert bool(jnp.all(jnp.isfinite(result.dispatch.injection)))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_leaps_that_go_round_in_circles_end(dtype):
    result = solve(draw("trade_limits.pool", 251, dtype), ADMM())
    assert result.status == Status.SOLVED
