"""Tuning of the penalties: its gradient is exact, the loss falls, and a rule is an ADMM per slot."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_slots import random_slot

from jaxp2p.slot.admm.method import ADMM
from jaxp2p.slot.admm.solver import init
from jaxp2p.tuning.penalty import (
    NAMES,
    constant_rule,
    features,
    iterations_needed,
    residual_loss,
    sample,
    tune_penalties,
)

pytestmark = pytest.mark.slow

FIXED = ADMM(rho_clamp=1.0, max_iter=500)


@pytest.fixture(scope="module")
def slots():
    """Six slots of six homes: prices, loads and PV drift."""
    base = random_slot(3, dtype=jnp.float64, market="bilateral", binding=True, homes=6)
    drift = lambda t: {
        "price_buy": base.price_buy * (1 + 0.02 * t),
        "pv_max": base.pv_max * (1 - 0.1 * t),
        "value": base.value + 0.01 * t,
    }
    return sample([replace(base, **drift(t)) for t in range(6)], FIXED)


def test_sampling_keeps_the_starts(slots):
    assert slots.start.trades.shape[0] == slots.problem.load.shape[0] == 6
    first = jax.tree.map(lambda x: x[0], slots.start)
    np.testing.assert_array_equal(first.trades, jnp.zeros_like(first.trades))
    np.testing.assert_array_equal(
        slots.iterations, iterations_needed(slots, constant_rule(FIXED, jnp.float64))
    )
    with pytest.raises(ValueError, match="no slots"):
        sample([], FIXED)


def test_the_gradient_is_that_of_finite_differences(slots):
    row = lambda tree: jax.tree.map(lambda x: x[4], tree)
    start, rule = row(slots.start), constant_rule(FIXED, jnp.float64)
    problem = replace(row(replace(slots.problem, coupling=None)), coupling=slots.problem.coupling)
    loss = jax.jit(lambda w: residual_loss(problem, replace(rule, weights=w), start, 10))
    gradient, step = jax.grad(loss)(rule.weights), 1e-6
    for i, j in ((0, 0), (1, 0), (0, 2), (1, 3)):
        ends = [float(loss(rule.weights.at[i, j].add(h))) for h in (step, -step)]
        assert float(gradient[i, j]) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5, abs=1e-7)


def test_late_balancing_only_touches_the_slow_slots(slots):
    """Until the first change the penalties are fixed ones; a slot then starts with its own again."""
    checks = 3
    late = replace(constant_rule(ADMM(adapt_after=checks, max_iter=500), jnp.float64), inherit=False)
    fixed, found = slots.iterations, iterations_needed(slots, late)
    quick = fixed <= checks * FIXED.check_every
    assert 0 < quick.sum() < len(quick)
    np.testing.assert_array_equal(found[quick], np.asarray(fixed)[quick])
    assert np.all(found[~quick] > checks * FIXED.check_every)


@pytest.mark.parametrize("by_feature", [False, True])
def test_the_loss_falls(slots, by_feature):
    poor = replace(FIXED, rho=3.0, rho_injection=3.0)
    tuned = tune_penalties(
        slots, poor, by_feature=by_feature, iterations=10, steps=24, batch=6, learning_rate=0.05
    )
    assert np.all(np.isfinite(tuned.loss)) and tuned.loss[-3:].mean() < 0.9 * tuned.loss[0]
    used = np.abs(np.asarray(tuned.rule.weights[:, 1:])).max()
    assert used > 0 if by_feature else used == 0


def test_a_constant_rule_is_the_admm_it_was_made_from():
    problem = random_slot(2, dtype=jnp.float64, market="none", binding=False, homes=3)
    state = init(problem, FIXED)
    found = constant_rule(FIXED, jnp.float64).at(problem, state)
    for name in NAMES:
        assert float(getattr(found, name)) == pytest.approx(getattr(FIXED, name))
    assert bool(jnp.all(jnp.abs(features(problem, state)) <= 1))
