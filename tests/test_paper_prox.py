"""How a home and the market answer in one step of the solvers, by hand."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from paper_slot import problem

from jaxp2p.model.markets import market_from_edges, pool_market
from jaxp2p.model.markets.pool import share_out
from jaxp2p.slot.newton import dual
from jaxp2p.slot.newton.dense import Dense
from jaxp2p.slot.newton.method import Newton
from jaxp2p.slot.prox.prosumer import Tariff, curve, prosumer_update, trade_response
from jaxp2p.slot.prox.response import Pieces, Response, power_range, prices_at, response, shares_at

row = lambda *values: jnp.array(values, float)
QUICK = {"xla_backend_optimization_level": 0}  # programs are there sooner


def close(found, expected):
    np.testing.assert_allclose(np.asarray(found, float), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("target", "limit", "expected"),
    [
        (3.0, np.inf, 0.8),  # 3 - 0.2 / 0.1 = 1, less 0.04 / 0.2 for the half of the fee that is one's own
        (3.0, 0.5, 0.5),
        (2.1, np.inf, 0),  # 0.1 does not pay for the fee
        (0.5, np.inf, -1.3),
        (0.5, 1.0, -1.0),
    ],
)
def test_a_trade(target, limit, expected):
    """argmin of 0.2 e + 0.02 |e| + 0.05 (e - target)^2."""
    close(trade_response(0.2, target, 0.1, 0.04, limit), expected)


@partial(jax.jit, compiler_options=QUICK)
def idle_home(target, anchor, limit):
    """A home that lacks 1 kW and has nothing to decide, at tariffs of 0.30 and 0.05, with one partner."""
    zero = jnp.zeros((1, 1))
    devices = response(Pieces(start=zero, end=zero, gain=zero, level=jnp.array(0.3)), row(-1))
    return prosumer_update(
        curve(devices, jnp.array(0.1)),
        Tariff(jnp.array(0.30), jnp.array(0.05), None, None, None),
        target=target,
        anchor=anchor,
        rho=jnp.array(0.2),
        rho_injection=jnp.array(0.1),
        fee=jnp.array([[0.02]]),
        limit=limit,
        start=row(0.1),
    )


def test_a_home_that_decides_nothing():
    """It buys at 0.30; its anchor is 1.5 kW away: 0.1 * 1.5 EUR/kWh on top."""
    found = idle_home(row(4)[None], row(0.5), row(0)[None])
    close(found.injection, [-1])
    close(found.trades, [[0]])
    close(found.market_price, [0.30])
    close(found.nodal_price, [0.45])


def test_a_home_that_buys_from_peers_to_sell():
    """It is to buy 3 kW. Even at the sell price, 0.05, it would: the rest is sold on."""
    found = idle_home(row(-3)[None], row(-1), row(np.inf)[None])
    close(found.trades, [[-3.2]])  # -3 - 0.05 / 0.2 + 0.01 / 0.2
    close(found.market_price, [0.05])
    close(found.nodal_price, [0.05])


def test_both_sides_of_a_pool_get_what_both_have():
    close(share_out(row(3, 1, -1, -0.5, 0)), [1.125, 0.375, -1, -0.5, 0])
    close(share_out(row(1, -3, -1)), [1, -0.75, -0.25])
    close(share_out(row(1, 2)), [0, 0])


def test_trades_that_add_up():
    """The nearest and, in the pool, those within everybody's wishes; partners 0 and 1, 1 and 2."""
    pool = pool_market(3, fee=0.01, dtype=np.dtype(float))
    close(pool.project(row(3, 0, -1.5)[None]), [[2.5, -0.5, -2]])
    close(pool.reciprocal(row(3, 0, -1.5)[None], jnp.full((1, 3), 1.2)), [[1.2, 0, -1.2]])
    edges = np.array([[0, 1], [1, 2]])
    chain = market_from_edges(edges, np.array([0.1, 0.2]), np.array([5.0, 6]), size=3, dtype=np.dtype(float))
    wished = jnp.array([[3.0, -2, 1], [0, 4, 0]])  # 0 sells 3, 1 buys 2 of him; 1 sells 4 to 2, who sells 1
    close(chain.project(wished), [[2.5, -2.5, -1.5], [0, 1.5, 0]])


# 2 kW more between 0.1 and 0.3 EUR/kWh, 1 kW at 0.2 at once, from -1 kW on
DEVICES = Pieces(
    start=jnp.array([[0.1], [0.2]]),
    end=jnp.array([[0.3], [0.2]]),
    gain=jnp.array([[2.0], [1.0]]),
    level=jnp.array(0.3),
)


def test_the_polyline_of_a_home():
    found = response(DEVICES, row(-1))
    close(found.price[:, 0], [0.1, 0.2, 0.2, 0.3])
    close(found.power[:, 0], [-1, 0, 1, 2])


@pytest.mark.parametrize(
    ("price", "least", "most"),
    [(0.05, -1, -1), (0.15, -0.5, -0.5), (0.2, 0, 1), (0.25, 1.5, 1.5), (0.4, 2, 2)],
)
def test_the_powers_at_a_price(price, least, most):
    low, high = power_range(DEVICES, row(-1), row(price), row(price))
    close([low[0], high[0]], [least, most])


@pytest.mark.parametrize(
    ("power", "lowest", "highest"),
    [(-0.5, 0.15, 0.15), (0.25, 0.2, 0.2), (1.5, 0.25, 0.25), (-1, -np.inf, 0.1), (2, 0.3, np.inf)],
)
def test_the_prices_at_a_power(power, lowest, highest):
    found: Response = response(DEVICES, row(-1))
    close([price[0] for price in prices_at(found, row(power))], [lowest, highest])


@pytest.mark.parametrize(
    ("price", "power", "shares"),
    [(0.15, -0.5, (0.25, 0)), (0.2, 0.25, (0.5, 0.25)), (0.2, 1, (0.5, 1)), (0.25, 1.5, (0.75, 1))],
)
def test_the_shares_of_the_devices(price, power, shares):
    close(shares_at(DEVICES, row(-1), price=row(price), power=row(power))[:, 0], shares)


def open_pool():
    """The homes of `paper_slot` with their PV alone, without limits: A 6 - 1, B 1 - 2, C -0.7 kW."""
    posed = problem()
    none = row(0, 0, 0)
    names = ("charge_min", "charge_max", "discharge_max", "value_slope")
    return replace(
        posed,
        load_cost=None,
        load_min=posed.load,
        load_max=posed.load,
        buy_max=None,
        sell_max=None,
        unserved_price=None,
        **dict.fromkeys(names, none),
    )


@partial(jax.jit, compiler_options=QUICK)
def asked(prices, centre):
    """What the homes answer, and the range of prices."""
    posed = open_pool()
    setup, asking = dual.make_setup(posed, Newton()), dual.Prices(prices[0], prices[1:])
    homes, totals = dual.evaluate(posed, setup, asking, centre)
    at = dual.point(setup.limits, asking, totals, Dense(posed).values(totals))
    return homes, at, setup


@pytest.mark.parametrize(
    ("row_price", "injection", "market_price"),
    [
        (0.0, (5, -1, -0.7), (0.14, 0.16, 0.16)),  # sellers see half the fee of 0.02 less, buyers more
        (0.5, (-1, -2, -0.7), (0.16, 0.16, 0.16)),  # -0.34 at both buses: PV at a cost of 0.01, 0.03 rests
        (-0.5, (5, -1, -0.7), (0.14, 0.16, 0.16)),
    ],
)
def test_what_newton_asks_the_homes_at_a_pool_price(row_price, injection, market_price):
    """0.15 EUR/kWh in the pool, and a price of the row that all of A and B is in."""
    homes, found, setup = asked(row(0.15, 0, row_price), row(*injection))
    close(homes.injection, injection)
    close(homes.market_price, market_price)
    # the gradient of the pool's price is what is lacking in the pool; row 1 adds A and B to -0.3
    close(found.gradient.pool, -sum(injection))
    close(found.rows[1], injection[0] + injection[1] - 0.3)
    close(setup.half_fee, 0.01)
    close([setup.limits.lowest, setup.limits.highest, setup.limits.penalty], [0.06, 0.29, 5])


def test_newton_is_for_one_price_without_limits():
    one = {"fee": 0.01, "dtype": np.dtype(float)}
    pool, tight = pool_market(3, **one), pool_market(3, limit=2.0, **one)
    chain = market_from_edges(np.array([[0, 1]]), np.ones(1), np.ones(1), size=3, dtype=np.dtype(float))
    assert Newton.suits(pool, connection_limits=False)
    assert not Newton.suits(pool, connection_limits=True)
    assert not Newton.suits(tight, connection_limits=False)
    assert not Newton.suits(chain, connection_limits=False)
