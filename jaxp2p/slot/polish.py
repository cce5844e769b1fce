"""From where a solver stopped to what every home would do there: the last step before execution.

Trades are made reciprocal, and pass on what members between the tariffs have left. Then every home does what
is best for it, given its trades and the prices of the network: with t its net sales to peers, the price mu at
which it deals with the utility is the root of

    max(F - sell_max, min(mu - s, max(F, min(mu - b, F + buy_max)))),       F(mu) = p(mu - surcharge) - t,

closed form on its polyline. Between the tariffs it keeps to its trades exactly, by its own devices, where the
solver would have left a few watts to the utility; at a tariff its devices answer the tariff itself. So no
device ever answers a price that no tariff has, which is what the storage guarantee rests on. Only where the
network prices a home's bus does it keep to what the solver found: there the injections have been balanced
against each other at the limits.
"""

import jax
import jax.numpy as jnp
from jax import Array

from jaxp2p._pytree import present
from jaxp2p.model.markets.pool import share_out
from jaxp2p.slot.answer import Answer
from jaxp2p.slot.gap import price_limits, with_room
from jaxp2p.slot.problem import SlotProblem
from jaxp2p.slot.prox.response import Pieces, Response, corners, power_range, prices_at, row_max, row_min
from jaxp2p.slot.prox.sensitivity import with_derivative_of
from jaxp2p.slot.rows import nodal_surcharge

NEARLY = 0.01  # of the price of unserved energy: so near to its own limit a price counts as there
AT_TARIFF = 1e-3  # of the spread of the tariffs: as near to one as that nothing is lost by dealing at it
NEARBY = 0.01  # of the scale of prices: how far a price may move when devices place what is left
ROUNDS = 3  # of handing on what a connection does not carry


def polish(
    problem: SlotProblem, raw: Answer, devices: Response | None = None, pieces: Pieces | None = None
) -> Answer:
    """The answer made exact; its derivatives are those of `raw`, see `moving_as`.

    devices: the corners of the polylines, in any order, and their pieces, where they are at hand.
    """
    fixed, at, devices, pieces = jax.lax.stop_gradient((problem, raw, devices, pieces))
    pieces = pieces or fixed.pieces()
    return moving_as(problem, raw, _polished(fixed, at, devices or corners(pieces, fixed.base), pieces))


def moving_as(problem: SlotProblem, raw: Answer, found: Answer) -> Answer:
    """`found`, bit by bit, with the derivatives of `raw`, which is the same but for tolerance."""
    moving = ("injection", "trades", "market_price", "nodal_price", "trade_price", "row_price")
    found = jax.lax.stop_gradient(found)
    if _in_proportion(problem):
        raw = raw._replace(trades=_shared(problem, raw.injection))
    return found._replace(
        **{name: with_derivative_of(getattr(found, name), getattr(raw, name)) for name in moving}
    )


def _in_proportion(problem: SlotProblem) -> bool:
    """Whether nothing but their sum limits the trades: a pool without limits on trades or connections."""
    return problem.market.pooled and not problem.market.limited and problem.unserved_price is None


def _shared(problem: SlotProblem, injection: Array) -> Array:
    """(1, N) kW to the pool, or from it; who is indifferent deals with the utility, in proportion."""
    limit = problem.trade_limit
    return share_out(jnp.clip(jnp.broadcast_to(injection, limit.shape), -limit, limit))


def _polished(problem: SlotProblem, raw: Answer, devices: Response, pieces: Pieces) -> Answer:
    raw = _finite(problem, raw)
    row_price = jnp.clip(raw.row_price, -problem.row_penalty, problem.row_penalty)
    surcharge = nodal_surcharge(problem, row_price)
    low, high = price_limits(problem)
    market_price = jnp.clip(raw.market_price, low, high)
    limit = problem.trade_limit
    trades = problem.market.reciprocal(raw.trades, limit)
    if problem.unserved_price is not None:
        trades = _within_connections(problem, trades, raw.injection, market_price)
    trades = _passed_on(problem, pieces, trades, raw, market_price, limit)
    net = jnp.sum(trades, axis=0)
    priced = surcharge != 0
    alone = _own_price(problem, devices, net, market_price, surcharge, low, high)
    own = jnp.where(priced, market_price, alone)
    least, most = _room(problem, own, net, low, high, open_=priced)

    # away from the network's prices: what devices answer at this very price
    lowest, highest = power_range(pieces, problem.base, alone, alone)
    injection = jnp.where(priced, raw.injection, jnp.clip(raw.injection, lowest, highest))
    injection = jnp.clip(injection, least, most)
    injection = jnp.clip(injection, row_min(devices.power), row_max(devices.power))
    if _in_proportion(problem):
        trades = _shared(problem, injection)
    return raw._replace(
        injection=injection,
        trades=trades,
        market_price=market_price,
        nodal_price=_answered(devices, injection, market_price - surcharge),
        trade_price=problem.market.seen_from_both(raw.trade_price),
        row_price=row_price,
    )


def _passed_on(
    problem: SlotProblem, pieces: Pieces, trades: Array, raw: Answer, market_price: Array, limit: Array
) -> Array:
    """Trades (K, N) that pass on what members between the tariffs would leave to the utility.

    At a tariff any amount is welcome there; between the tariffs devices that answer the price can place some.
    """
    if problem.unserved_price is not None:
        return trades
    near = NEARBY * problem.price_scale
    least, most = power_range(pieces, problem.base, raw.nodal_price - near, raw.nodal_price + near)
    close = AT_TARIFF * (problem.price_buy - problem.price_sell)
    at_tariff = (market_price >= problem.price_buy - close) | (market_price <= problem.price_sell + close)
    absorbs = jnp.where(at_tariff, jnp.inf, jnp.where(most > least, 1, 0))
    left = raw.injection - jnp.sum(trades, axis=0)
    return problem.market.passed_on(trades, left, absorbs, free=with_room(trades, limit), limit=limit)


def _finite(problem: SlotProblem, raw: Answer) -> Answer:
    """What a solver that lost itself would have answered before it began: there is always a dispatch."""
    middle = (problem.price_buy + problem.price_sell) / 2
    or_ = lambda x, safe: jnp.where(jnp.isfinite(x), x, safe)
    return raw._replace(
        injection=or_(raw.injection, problem.pv_max - problem.load),
        trades=or_(raw.trades, 0),
        market_price=or_(raw.market_price, middle),
        trade_price=or_(raw.trade_price, middle),
        row_price=or_(raw.row_price, 0),
    )


def _own_price(
    problem: SlotProblem,
    devices: Response,
    net: Array,
    price: Array,
    surcharge: Array,
    low: Array,
    high: Array,
) -> Array:
    """(N,) EUR/kWh: the price at which a home with the trades `net` (N,) deals with the utility.

    Where any price of a range would do it is the one nearest to `price`.
    """
    buy, sell = problem.price_buy, problem.price_sell

    def root(power: Array) -> Array:
        lowest, highest = prices_at(devices, power)
        return jnp.clip(price, lowest + surcharge, highest + surcharge)

    alone = root(net)
    if problem.unserved_price is None:
        return jnp.clip(alone, sell, buy)
    selling, buying = root(net + present(problem.sell_max)), root(net - present(problem.buy_max))
    own = jnp.minimum(selling, jnp.maximum(sell, jnp.minimum(alone, jnp.maximum(buy, buying))))
    return jnp.clip(own, low, high)


def _room(
    problem: SlotProblem, own: Array, net: Array, low: Array, high: Array, *, open_: Array
) -> tuple[Array, Array]:
    """Least and most injection (N,) in kW that connection and trades `net` leave open at price `own` (N,).

    Prices are compared up to rounding: at a tariff the exchange is open, between them only where `open_`
    (N,) bool says so.
    """
    buy, sell = problem.price_buy, problem.price_sell
    near = 8 * jnp.finfo(own.dtype).eps * (jnp.abs(own) + jnp.abs(buy) + jnp.abs(sell))
    if problem.unserved_price is None:
        most = jnp.where((own > sell + near) & ~open_, net, jnp.inf)
        return jnp.where((own < buy - near) & ~open_, net, -jnp.inf), most
    at_sell, at_buy = net + present(problem.sell_max), net - present(problem.buy_max)
    most = jnp.where((own > sell + near) & ~open_, net, at_sell)
    most = jnp.where(own > buy + near, at_buy, most)
    least = jnp.where((own < buy - near) & ~open_, net, at_buy)
    least = jnp.where(own < sell - near, at_sell, least)
    # beyond the limits only at the price of energy that is not served or spilled
    least = jnp.where((own >= high - near) & (high > buy), -jnp.inf, least)
    return least, jnp.where((own <= low + near) & (low < sell), jnp.inf, most)


def _answered(devices: Response, power: Array, price: Array) -> Array:
    """The price nearest to `price` (N,) that devices answer with power (N,), up to its rounding."""
    near = 8 * jnp.finfo(power.dtype).eps * row_max(jnp.abs(devices.power))
    return jnp.clip(price, prices_at(devices, power - near)[0], prices_at(devices, power + near)[1])


def _within_connections(problem: SlotProblem, trades: Array, injection: Array, price: Array) -> Array:
    """Trades (K, N) that hand on to peers with room what a member's own connection does not carry.

    What the solver left over is small, but at a limit nobody but a peer can take it. Energy that is better
    not served (price at its own limit) stays where it is.
    """
    market, limit = problem.market, problem.trade_limit
    if market.fee.shape[0] == 0:
        return trades
    low, high = price_limits(problem)
    buy_max, sell_max = present(problem.buy_max), present(problem.sell_max)
    near = NEARLY * present(problem.unserved_price)
    given_up = ((price >= high - near) & (high > problem.price_buy)) | (
        (price <= low + near) & (low < problem.price_sell)
    )

    def hand_on(_, trades: Array) -> Array:
        rest = injection - jnp.sum(trades, axis=0)
        over = jnp.where(given_up, 0, rest - jnp.clip(rest, -buy_max, sell_max))
        return market.handed_on(trades, injection, over, buy_max=buy_max, sell_max=sell_max, limit=limit)

    return jax.lax.fori_loop(0, ROUNDS, hand_on, trades)
