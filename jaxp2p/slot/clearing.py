"""The pool without network, cleared exactly by bisection on its one price: an oracle beside ADMM.

At pool price pi a member sells at max(s, pi - fee/2) and buys at min(b, pi + fee/2); between the two it
keeps to itself. Its answer is closed form, and the net sales of all members rise with pi, so bisection
finds the price at which they cross zero. The dual value there is the optimum (strong duality).

Derivatives are those of the solution, not of the bisection: at a tariff pi moves with it, on the jump of a
marginal member with that jump, else dpi = -(sum dp at fixed prices) / (sum dp/dpi); where no amount moves
with pi, or nobody trades, it is not unique and stays. The value moves by the envelope theorem.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxp2p.slot.execute import Dispatch, devices_of, slot_cost, storage_drift
from jaxp2p.slot.problem import SlotProblem
from jaxp2p.slot.prox.response import Pieces, corners, price_on_polyline, ramp, shares_at
from jaxp2p.slot.prox.sensitivity import device_motion, with_derivative_of


class PoolClearing(NamedTuple):
    """Price and optimal value of a pool slot."""

    price: Array  # () EUR/kWh, pi
    value: Array  # () EUR, optimum of slot cost plus drift
    nodal_price: Array  # (N,) EUR/kWh, nu
    injection: Array  # (N,) kW, an optimal one (members at a jump may share it differently)


class _Bids(NamedTuple):
    """What the clearing depends on."""

    pieces: Pieces
    base: Array  # (N,) kW
    buy: Array  # () EUR/kWh, b
    sell: Array  # () EUR/kWh, s
    half_fee: Array  # () EUR/kWh


class _Cleared(NamedTuple):
    """Where the bisections ended."""

    price: Array  # () EUR/kWh, pi
    alone: Array  # (N,) EUR/kWh, where a home needs nobody
    nodal_price: Array  # (N,) EUR/kWh
    injection: Array  # (N,) kW


def clear_pool(problem: SlotProblem, *, steps: int = 100) -> PoolClearing:
    """Clear a pool slot, also a closed one (limit 0 for everybody).

    Raises ValueError where one price is not enough: a network, trade or connection limits, another market.
    """
    _refuse_others(problem)
    pieces = problem.pieces()
    # a closed market (limit 0) is one whose fee nobody pays
    fee, spread = problem.market.fee[0, 0], problem.price_buy - problem.price_sell
    fee = jnp.where(jnp.max(problem.market.limit) > 0, fee, jnp.maximum(fee, spread))
    bids = _Bids(pieces, problem.base, problem.price_buy, problem.price_sell, fee / 2)
    cleared = _moving(_clear(jax.lax.stop_gradient(bids), steps), bids)
    power = cleared.injection
    slope = problem.price_scale / problem.power_scale
    exact = price_on_polyline(
        corners(pieces, problem.base), price=cleared.nodal_price, power=power, slope=slope
    )
    # the shares are optimal: to first order the value does not depend on them
    shares = jax.lax.stop_gradient(shares_at(pieces, problem.base, price=exact, power=power))
    devices = devices_of(problem, shares, pieces)
    none = jnp.zeros_like(power)
    alone_dispatch = Dispatch(
        **devices._asdict(),
        injection=power,
        trades=jnp.zeros_like(problem.market.fee),
        buy=none,
        sell=none,
        unserved=none,
        trade_price=none[None, :],
        market_price=cleared.nodal_price,
        nodal_price=cleared.nodal_price,
        row_price=problem.row_offset,
    )
    sell, buy = _prices(bids, cleared.price)
    paid = buy * jnp.maximum(-power, 0) - sell * jnp.maximum(power, 0)
    at_shares = problem.base + jnp.sum(shares * pieces.gain, axis=0)
    at_shares = with_derivative_of(jax.lax.stop_gradient(power), at_shares)
    paid = with_derivative_of(jax.lax.stop_gradient(paid), -cleared.nodal_price * at_shares)
    value = slot_cost(problem, alone_dispatch) + storage_drift(problem, alone_dispatch)
    value = jnp.sum(value + problem.slot_hours * paid)
    return PoolClearing(cleared.price, value, cleared.nodal_price, power)


def _refuse_others(problem: SlotProblem) -> None:
    """Raises ValueError, on the host, with everything in the slot that one price does not decide."""
    market = problem.market
    there = (
        (f"the market {market.kind!r}", not market.pooled),
        ("a network", problem.feeder.rows > 0),
        ("limits on trades", market.pooled and (market.limited or _has_limits(market.limit))),
        (
            "limits on connections",
            any(x is not None for x in (problem.buy_max, problem.sell_max, problem.unserved_price)),
        ),
    )
    found = [name for name, here in there if here]
    if found:
        raise ValueError(
            f"clear_pool needs a pool without network, without trade limits and without connection limits, "
            f"not {' and '.join(found)}"
        )


def _has_limits(limit: Array) -> bool:
    """Whether trades are limited neither to nothing nor not at all; what is traced is taken at its word."""
    if isinstance(limit, jax.core.Tracer):
        return False
    numbers = np.asarray(limit)
    is_open = numbers > 0
    return bool(np.any(np.isfinite(numbers) & is_open) or (np.any(is_open) and not np.all(is_open)))


def _prices(bids: _Bids, price: Array) -> tuple[Array, Array]:
    """What a seller gets and a buyer pays at pool price `price`."""
    return jnp.maximum(bids.sell, price - bids.half_fee), jnp.minimum(bids.buy, price + bids.half_fee)


def _clear(bids: _Bids, steps: int) -> _Cleared:
    pieces, base, half = bids.pieces, bids.base, bids.half_fee
    lowest = jnp.minimum(jnp.min(pieces.start), bids.sell) - 1
    highest = jnp.maximum(jnp.max(pieces.end), bids.buy) + 1
    ends = jnp.broadcast_to(lowest, base.shape), jnp.broadcast_to(highest, base.shape)
    alone = _bisect(lambda nu: _power(bids, nu, after=True), *ends, steps)

    def net_sales(price: Array) -> Array:
        sell, buy = _prices(bids, price)
        sold = jnp.maximum(_power(bids, sell, after=True), 0)
        bought = jnp.minimum(_power(bids, buy, after=False), 0)
        with_sales = jnp.where(price - half > bids.sell, jnp.sum(sold), 0)
        return with_sales + jnp.where(price + half < bids.buy, jnp.sum(bought), 0)

    price = _bisect(net_sales, bids.sell - half, bids.buy + half, steps)
    nu = jnp.clip(alone, *_prices(bids, price))
    power = jnp.where(nu > alone, _power(bids, nu, after=True), 0)
    power = jnp.where(nu < alone, _power(bids, nu, after=False), power)
    return _Cleared(price, alone, nu, power)


@jax.custom_jvp
def _moving(cleared: _Cleared, bids: _Bids) -> _Cleared:
    """`cleared` as a function of the bids that it clears."""
    return cleared


@_moving.defjvp
def _motion(primals, tangents):
    (cleared, bids), moved = primals, tangents[1]
    price, alone, nu, power = cleared
    pieces, half = bids.pieces, moved.half_fee
    near = 16 * jnp.finfo(price.dtype).eps * (jnp.abs(price) + bids.half_fee + pieces.level)
    sells, buys = nu > alone + near, nu < alone - near
    sell, buy = _prices(bids, price)
    slope = (bids.buy - bids.sell + 0.01) / jnp.maximum(jnp.mean(jnp.sum(pieces.gain, axis=0)), 1e-3)
    exact = price_on_polyline(corners(pieces, bids.base), price=nu, power=power, slope=slope)
    d = device_motion(pieces, bids.base, moved.pieces, moved.base, price=exact, power=power)
    # members whose answer jumps at this price: marginal, on whichever side of the market they are
    weight = (ramp(pieces, nu, after=True) - ramp(pieces, nu, after=False)) * pieces.gain
    span = jnp.sum(weight, axis=0)
    jump = jnp.sum(weight * moved.pieces.start, axis=0) / jnp.where(span > 0, span, 1)

    # a trader's nodal price is pi less (selling) or plus (buying) half the fee
    as_seller, as_buyer = jnp.abs(nu - sell) <= near, jnp.abs(nu - buy) <= near
    shift = jnp.where(as_seller, -half, jnp.where(as_buyer, half, 0))
    by_utility = price + bids.half_fee >= bids.buy - near  # who buys buys there
    follows = sells | (buys & ~by_utility)
    steep = jnp.sum(jnp.where(follows, d.slope, 0))
    push = jnp.sum(jnp.where(follows, d.push + d.slope * shift, 0))
    dprice = jnp.where(steep > 0, -push / jnp.where(steep > 0, steep, 1), 0)
    pins = jnp.where(as_seller | (as_buyer & ~by_utility), span, 0)
    marginal = jnp.sum(pins)
    pinned = jnp.sum(pins * (jump - shift)) / jnp.where(marginal > 0, marginal, 1)
    dprice = jnp.where(marginal > 0, pinned, dprice)
    dprice = jnp.where(jnp.abs(price + bids.half_fee - bids.buy) <= near, moved.buy - half, dprice)
    at_sell = price - bids.half_fee <= bids.sell + near
    dprice = jnp.where(at_sell, moved.sell + half, dprice)

    dsell = jnp.where(at_sell, moved.sell, dprice - half)
    dbuy = jnp.where(by_utility, moved.buy, dprice + half)
    still = jnp.where(d.slope > 0, -d.push / jnp.where(d.slope > 0, d.slope, 1), 0)
    still = jnp.where(span > 0, jump, still)
    dnu = jnp.where(sells, dsell, jnp.where(buys, dbuy, still))
    dpower = jnp.where(power == 0, 0, d.push + d.slope * dnu)
    return cleared, _Cleared(dprice, still, dnu, dpower)


def _power(bids: _Bids, price: Array, *, after: bool) -> Array:
    at = jnp.broadcast_to(price, bids.base.shape)
    return bids.base + jnp.sum(ramp(bids.pieces, at, after=after) * bids.pieces.gain, axis=0)


def _bisect(rising, low: Array, high: Array, steps: int) -> Array:
    """Where a non-decreasing function crosses zero, element by element."""

    def halve(_, ends):
        low, high = ends
        middle = low + (high - low) / 2
        up = rising(middle) > 0
        return jnp.where(up, low, middle), jnp.where(up, middle, high)

    low, high = jax.lax.fori_loop(0, steps, halve, (low, high))
    return low + (high - low) / 2
