"""Markets by what they promise: reciprocal trades, consistent prices, and one statement of it everywhere."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxp2p.model.build import MARKETS
from jaxp2p.model.markets import KINDS, Market, market_from_edges, no_market, pool_market, regular_graph

HOMES = 7
FEE = 0.02


def markets() -> dict[str, Market]:
    edges = regular_graph(HOMES, 3, seed=1)
    fees, limits = np.full(len(edges), FEE), np.full(len(edges), 2.0)
    return {
        "pool": pool_market(HOMES, fee=FEE, limit=2.0, dtype=np.float64),
        "bilateral": market_from_edges(edges, fees, limits, size=HOMES, dtype=np.float64),
        "none": no_market(HOMES, dtype=np.float64),
    }


@pytest.fixture(params=sorted(MARKETS))
def market(request) -> Market:
    return markets()[request.param]


def wished(market: Market, seed: int) -> jnp.ndarray:
    """Trades that do not add up."""
    return jnp.asarray(np.random.default_rng(seed).normal(0, 3, market.fee.shape))


def rows(market: Market, trades) -> np.ndarray:
    """What reciprocity as rows of a program makes of trades."""
    parts = zip(market.reciprocity(), np.asarray(trades), strict=True)
    return np.sum([part @ row for part, row in parts], axis=0)


def test_every_market_that_can_be_asked_for_is_a_type_by_that_name():
    assert set(KINDS) == set(MARKETS) == {one.kind for one in markets().values()}
    assert all(type(one) is KINDS[name] for name, one in markets().items())
    assert [KINDS[name].words for name in MARKETS] == ["bilateral market", "pool market", "no market"]


@pytest.mark.parametrize("seed", range(5))
def test_projected_trades_are_the_nearest_that_keep_the_rows_of_the_program(market, seed):
    """Least squares by a matrix that knows no formula of the market."""
    trades = wished(market, seed)
    found = market.project(trades)
    if not market.fee.size:
        assert found.size == 0 and market.reciprocity() == []
        return
    matrix = np.hstack([part.toarray() for part in market.reciprocity()])
    flat = np.asarray(trades).reshape(-1)
    nearest = flat - np.linalg.pinv(matrix) @ (matrix @ flat)
    np.testing.assert_allclose(np.asarray(found).reshape(-1), nearest, atol=1e-12)
    # and what is left over is what the dual variable of reciprocity is moved by
    rest = market.rest(trades)
    assert rest.shape == market.dual_shape
    np.testing.assert_allclose(np.broadcast_to(rest, found.shape), trades - found, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_a_trade_has_one_dual_bit_for_bit(market, seed):
    """A difference between its sides would never be taken off again: a price that only one of them sees."""
    dual = jnp.zeros(market.dual_shape, jnp.float32)
    for step in range(100):
        trades = wished(market, seed + step).astype(jnp.float32) / 3
        dual = dual + market.rest(trades)
    if dual.size > 1:
        twins = np.asarray(dual).reshape(-1)[np.asarray(market.reverse)]
        open_ = np.asarray(market.limit) > 0
        np.testing.assert_array_equal(np.asarray(dual)[open_], twins[open_])


@pytest.mark.parametrize("seed", range(5))
def test_executed_trades_are_reciprocal_within_their_limits_and_in_the_wished_direction(market, seed):
    trades = wished(market, seed)
    found = np.asarray(market.reciprocal(trades, market.limit))
    assert (np.abs(found) <= np.asarray(market.limit)).all()
    assert np.max(market.imbalance(found), initial=0) < 1e-12
    assert np.max(np.abs(rows(market, found)), initial=0) < 1e-12
    if market.fee.size:
        assert np.max(market.imbalance(np.asarray(trades))) > 0.1
    if market.pooled:
        assert (found * np.asarray(trades) >= 0).all() and (np.abs(found) <= np.abs(trades) + 1e-12).all()


@pytest.mark.parametrize("seed", range(5))
def test_what_members_have_left_reaches_those_who_can_place_it(market, seed):
    """Some take any amount, the others nothing: what these have left is gone, and nothing is made up."""
    draw = np.random.default_rng(seed)
    trades = market.reciprocal(wished(market, seed) / 10, market.limit)
    left = jnp.asarray(draw.uniform(-0.1, 0.1, HOMES))
    absorbs = jnp.where(jnp.arange(HOMES) < 2, jnp.inf, 0.0)
    free = jnp.abs(trades) < market.limit
    found = np.asarray(market.passed_on(trades, left, absorbs, free=free, limit=market.limit))
    # whoever is at the limit of a trade passes on by the others
    kept = jnp.zeros_like(free).at[:, 2].set(True)
    if not market.pooled and market.fee.size:
        kept |= jnp.take(kept.reshape(-1), market.reverse, mode="clip")
    around = np.asarray(market.passed_on(trades, left, absorbs, free=free & ~kept, limit=market.limit))
    np.testing.assert_array_equal(around[np.asarray(kept)], np.asarray(trades)[np.asarray(kept)])
    assert np.max(market.imbalance(found), initial=0) < 1e-12
    assert (np.abs(found) <= np.asarray(market.limit)).all()
    moved = (found - np.asarray(trades)).sum(axis=0)
    if market.kind != "bilateral":
        np.testing.assert_array_equal(moved, 0)
        return
    # they may keep KEPT of a potential that is nowhere large
    np.testing.assert_allclose(moved[2:], left[2:], atol=2e-3)
    assert np.abs(moved[:2]).max() > 0.01


@pytest.mark.parametrize("seed", range(5))
def test_at_consistent_prices_no_trade_with_room_would_pay(market, seed):
    """It would where a member's price is above that of its trade by more than half the fee."""
    draw = np.random.default_rng(seed)
    low, high = jnp.full(HOMES, 0.05), jnp.full(HOMES, 0.3)
    price = jnp.asarray(draw.uniform(-0.1, 0.5, HOMES))
    free = jnp.asarray(draw.random(market.fee.shape) < 0.7) & (market.limit > 0)
    if not market.pooled:  # an edge has room from both sides or from none
        free = free & jnp.take(free.reshape(-1), market.reverse, mode="clip") if free.size else free
    given = {"free": free, "trade_price": jnp.full((1, 1), 0.2)}
    for found in market.consistent(price, low, high, alike=True, **given):
        assert bool(jnp.all((found >= low - 1e-12) & (found <= high + 1e-12)))
        apart = jnp.broadcast_to(jnp.abs(market.difference(found, low, high, **given)), market.fee.shape)
        assert bool(jnp.all(jnp.where(free, apart, 0) <= FEE / 2 + 1e-12))
        # prices that are consistent already stay
        for again in market.consistent(found, low, high, alike=True, **given):
            np.testing.assert_allclose(again, found, atol=1e-12)


def test_a_pool_bounds_a_graph_and_is_a_pool_itself():
    found = markets()
    assert found["pool"].relaxation() == "" and found["none"].relaxation() == ""
    assert "no bilateral market can beat" in found["bilateral"].relaxation()
    np.testing.assert_array_equal(found["bilateral"].fee_in_pool(), np.full(HOMES, FEE))
    assert [name for name, one in found.items() if one.pooled] == ["pool"]
    assert {name for name, one in found.items() if one.one_price} == {"pool", "none"}
