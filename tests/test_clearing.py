"""Two oracles for the pool without network agree with each other and with ADMM."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from random_slots import random_slot

from jaxp2p.model.markets import pool_market
from jaxp2p.runs.verification import executed_cost, optimum
from jaxp2p.slot import execute
from jaxp2p.slot.admm import solver
from jaxp2p.slot.admm.method import ADMM
from jaxp2p.slot.clearing import clear_pool


def pool(seed):
    problem = random_slot(seed, dtype=jnp.float64, market="pool", binding=False, homes=12 + 17 * (seed % 3))
    return type(problem)(**(problem.__dict__ | {"buy_max": None, "sell_max": None, "unserved_price": None}))


@pytest.mark.parametrize("seed", range(30))
def test_bisection_equals_clarabel(seed):
    problem = pool(seed)
    best = optimum(problem)
    assert abs(float(clear_pool(problem).value) - best.objective) < 1e-6 * max(1, abs(best.objective))


@pytest.mark.parametrize("seed", range(6))
def test_admm_equals_bisection(seed):
    problem = pool(seed)
    admm = ADMM(eps_power=1e-7, eps_price=1e-8, eps_rel=1e-8, eps_gap=1e-8, max_iter=20_000)
    outcome = solver.solve(problem, admm, solver.init(problem, admm))
    d = execute.finish(problem, outcome.answer).dispatch
    exact = clear_pool(problem)
    assert abs(executed_cost(problem, d) - float(exact.value)) < 1e-5 * max(1, abs(float(exact.value)))
    if float(jnp.sum(jnp.abs(d.trades))) > 1e-3 and 0 < float(problem.market.fee[0, 0]) < 0.1:
        traded = float(d.trade_price[0, 0])
        sell, buy = float(problem.price_sell), float(problem.price_buy)
        assert min(sell, buy) - 1e-6 <= traded <= max(sell, buy) + 1e-6


def test_other_markets_are_refused():
    with pytest.raises(ValueError, match="pool without network"):
        clear_pool(random_slot(0, market="none", binding=False))


def test_limits_that_one_price_does_not_honour_are_refused():
    problem = pool(0)
    size = problem.load.shape[0]
    capped = pool_market(size, fee=0.01, limit=3.0, dtype=jnp.float64)
    marked = replace(pool_market(size, fee=0.01, dtype=jnp.float64), limited=True)
    values = replace(problem.market, limit=jnp.full_like(problem.market.limit, 3.0))
    one_closed = replace(problem.market, limit=problem.market.limit.at[0, 0].set(0))
    for market in (capped, marked, values, one_closed):
        with pytest.raises(ValueError, match="limits on trades"):
            clear_pool(problem.coupled(market=market))
    homes = jnp.full_like(problem.load, 2.0)
    limits = {"buy_max": homes, "sell_max": homes, "unserved_price": jnp.asarray(2.0)}
    for some in ({"buy_max": homes}, {"sell_max": homes}, limits):
        with pytest.raises(ValueError, match="limits on connections"):
            clear_pool(replace(problem, **some))
    with pytest.raises(ValueError, match="limits on trades and limits on connections"):
        clear_pool(replace(problem.coupled(market=capped), **limits))
    with pytest.raises(ValueError, match="not a network"):
        clear_pool(random_slot(0, market="pool", binding=True))


def test_a_closed_pool_is_cleared_without_trades():
    problem = pool(1)
    market = replace(problem.market, limit=jnp.zeros_like(problem.market.limit))
    closed = problem.coupled(market=market)
    best = optimum(closed)
    assert abs(float(clear_pool(closed).value) - best.objective) < 1e-6 * max(1, abs(best.objective))
    assert float(clear_pool(closed).value) > float(clear_pool(problem).value) + 1e-6


def test_price_stays_within_the_tariffs():
    for seed in range(12):
        problem = pool(seed)
        price, fee = float(clear_pool(problem).price), float(problem.market.fee[0, 0])
        assert float(problem.price_sell) - fee - 1e-9 <= price <= float(problem.price_buy) + fee + 1e-9
        assert np.isfinite(price)
