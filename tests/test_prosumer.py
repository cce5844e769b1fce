"""The prosumer update: exact against brute force, its optimality conditions, units and batching."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_slots import random_slot

from jaxp2p.slot.prox.prosumer import UNROLL_LIMIT, curve, prosumer_update, staircase, trade_response
from jaxp2p.slot.prox.sensitivity import largest

RHO, RHO_INJECTION = 0.07, 0.11


def draw(seed, *, partners=6, homes=60, dtype=jnp.float64):
    """A slot's devices with random targets and anchors."""
    problem = random_slot(seed, dtype=dtype, market="none", binding=False, homes=homes)
    rng = np.random.default_rng([seed, 2])
    array = lambda x: jnp.asarray(x, dtype)
    return problem, {
        "target": array(rng.normal(0, 2, (partners, homes))),
        "anchor": array(rng.normal(0, 4, homes)),
        "rho": array(RHO),
        "rho_injection": array(RHO_INJECTION),
        "fee": array(rng.choice([0, 0.01, 0.2], (partners, homes))),
        "limit": array(rng.choice([0.0, 1.0, np.inf], (partners, homes))),
        "start": array(rng.normal(0.2, 0.2, homes)),
    }


def update(problem, arguments):
    devices = curve(problem.response(), arguments["rho_injection"])
    return prosumer_update(devices, problem.tariff, **arguments)


def brute_force(problem, arguments, steps=200):
    """mu by bisection of H, p(mu) from the polyline by np.interp: no shared code with the update."""
    corners = problem.response()
    nu, power = np.asarray(corners.price), np.asarray(corners.power)
    anchor = np.asarray(arguments["anchor"])
    position = nu + RHO_INJECTION * (power - anchor)

    def evaluate(mu):
        p = np.array([np.interp(m, position[:, i], power[:, i]) for i, m in enumerate(mu)])
        want = np.asarray(arguments["target"]) - mu / RHO
        half = np.asarray(arguments["fee"]) / (2 * RHO)
        soft = np.sign(want) * np.maximum(np.abs(want) - half, 0)
        return p, np.clip(soft, -np.asarray(arguments["limit"]), np.asarray(arguments["limit"]))

    buy, sell = float(problem.price_buy), float(problem.price_sell)
    limited = problem.unserved_price is not None
    extra = float(problem.unserved_price) if limited else 0.0
    low, high = np.full(anchor.shape, sell - extra), np.full(anchor.shape, buy + extra)
    for _ in range(steps):
        mu = (low + high) / 2
        p, e = evaluate(mu)
        rest = p - e.sum(0)
        if limited:
            middle = np.maximum(rest, np.minimum(mu - buy, rest + np.asarray(problem.buy_max)))
            off = np.maximum(rest - np.asarray(problem.sell_max), np.minimum(mu - sell, middle))
        else:
            off = np.maximum(np.minimum(rest, mu - sell), mu - buy)
        low, high = np.where(off < 0, mu, low), np.where(off < 0, high, mu)
    mu = (low + high) / 2
    return mu, *evaluate(mu)


@pytest.mark.parametrize("seed", range(40))
def test_equals_brute_force(seed):
    problem, arguments = draw(seed, partners=seed % 8)
    found = update(problem, arguments)
    _, power, trades = brute_force(problem, arguments)
    # where F is flat mu is not unique, the injection is
    np.testing.assert_allclose(found.injection, power, atol=1e-9)
    np.testing.assert_allclose(jnp.sum(found.trades, 0), trades.sum(0), atol=1e-9)


@pytest.mark.parametrize("seed", range(24))
def test_root_is_exact(seed):
    problem, arguments = draw(seed)
    found = update(problem, arguments)
    rest = found.injection - jnp.sum(found.trades, axis=0)
    off = staircase(found.market_price, rest, problem.tariff)
    assert float(jnp.max(jnp.abs(off))) < 1e-9


@pytest.mark.parametrize("start", [-10.0, 0.0, 10.0])
def test_answer_does_not_depend_on_the_start(start):
    problem, arguments = draw(3)
    other = arguments | {"start": jnp.full_like(arguments["start"], start)}
    chex.assert_trees_all_close(
        update(problem, arguments).injection, update(problem, other).injection, atol=1e-9
    )


def test_float32_follows_float64():
    for seed in range(12):
        problem, arguments = draw(seed, dtype=jnp.float32)
        exact, wide = draw(seed)
        found = update(problem, arguments)
        assert found.injection.dtype == jnp.float32
        np.testing.assert_allclose(found.injection, update(exact, wide).injection, atol=2e-4)


def test_vmap_equals_loop():
    slots = [draw(seed) for seed in (0, 24, 48)]
    problems, arguments = (jax.tree.map(lambda *x: jnp.stack(x), *part) for part in zip(*slots, strict=True))
    batch = jax.vmap(update)(problems, arguments)
    for s, (problem, argument) in enumerate(slots):
        one = update(problem, argument)
        chex.assert_trees_all_close(batch.injection[s], one.injection, atol=1e-9)


def test_many_partners_are_summed_in_a_loop_with_the_same_result():
    problem, arguments = draw(5, partners=UNROLL_LIMIT + 4)
    _, power, _ = brute_force(problem, arguments)
    np.testing.assert_allclose(update(problem, arguments).injection, power, atol=1e-9)


def test_powers_and_prices_scale():
    """Twice the powers at five times the prices: the injection doubles, mu is five times as high."""
    problem, arguments = draw(7)
    by_power = (
        "load",
        "load_min",
        "load_max",
        "pv_max",
        "charge_min",
        "charge_max",
        "discharge_min",
        "discharge_max",
    )
    by_price = ("price_buy", "price_sell", "curtailment_cost", "wear_cost", "value")
    scaled = {name: 2 * getattr(problem, name) for name in by_power}
    scaled |= {name: 5 * getattr(problem, name) for name in by_price}
    scaled["value_slope"] = 2.5 * problem.value_slope
    if problem.load_cost is not None:
        scaled["load_cost"] = 2.5 * problem.load_cost
    other = type(problem)(**(problem.__dict__ | scaled))
    moved = {name: 2 * arguments[name] for name in ("target", "anchor", "limit")}
    moved |= {name: 2.5 * arguments[name] for name in ("rho", "rho_injection")}
    moved |= {name: 5 * arguments[name] for name in ("fee", "start")}
    one, two = update(problem, arguments), update(other, arguments | moved)
    np.testing.assert_allclose(two.injection, 2 * one.injection, atol=1e-8)
    np.testing.assert_allclose(two.trades.sum(0), 2 * one.trades.sum(0), atol=1e-8)


def test_trade_response_is_the_minimiser():
    grid = np.linspace(-4, 4, 8001)
    for target, fee, limit, mu in [(1.3, 0.1, 2.0, 0.05), (-0.2, 0.3, 1.0, 0.0), (5.0, 0.0, 1.5, -0.1)]:
        objective = mu * grid + fee / 2 * abs(grid) + RHO / 2 * (grid - target) ** 2
        objective[abs(grid) > limit] = np.inf
        found = float(trade_response(*(jnp.asarray(x) for x in (mu, target, RHO, fee, limit))))
        assert abs(found - grid[objective.argmin()]) < 2e-3


def test_the_derivative_of_a_maximum_is_shared_and_always_a_number():
    rows = jnp.asarray([[1.0, 3.0, 2.0], [2.0, 2.0, 1.0], [0.0, 0.0, 0.0]])
    found = jax.grad(lambda x: jnp.sum(largest(x)))(rows)
    np.testing.assert_allclose(found, [[0, 1, 0], [0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3]])
    rounded = jnp.asarray([1.0, 1.0 - 1e-16])
    np.testing.assert_allclose(jax.jacfwd(largest)(rounded), [0.5, 0.5])
    assert np.isfinite(jax.grad(largest)(jnp.asarray([jnp.inf, 1.0]))).all()
