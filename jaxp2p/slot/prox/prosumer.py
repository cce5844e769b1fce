"""The proximal update of all homes at once: one exact scalar root each.

A home minimises its own cost plus rho/2 sum_k (e_k - target_k)^2 + rho_n/2 (p - anchor)^2 over its balance.
With mu the multiplier of the market balance (the market price of the member),

    e_k(mu) = clip(soft(target_k - mu / rho, fee_k / (2 rho)), -limit_k, limit_k)        non-increasing
    p(mu)   = injection of the devices at nu = mu - rho_n (p - anchor)                    non-decreasing

As a function of mu even the jumps of the devices have a finite slope, 1 / rho_n: the corners (nu, p) of the
response polyline only move to mu = nu + rho_n (p - anchor). F(mu) = p(mu) - sum_k e_k(mu) is left for the
utility, whose tariffs are a falling staircase: buy at b, sell at s <= b, nothing in between. The home's mu is
where F crosses it, the root of

    H = max(F - sell_max, min(mu - s, max(F, min(mu - b, F + buy_max))))        (= median(F, mu - s, mu - b)
                                                                                  without connection limits)

F is piecewise linear, so Newton's method ends exactly, in one step from anywhere on the right piece. Where F
is flat (a fee's dead zone, devices at their limits) the step goes to the next tariff, where most such roots
are, and a bracket, halved where a step leaves it, guards the rest. From the last iteration's mu two or three
steps do. The loop runs until every home is exact to rounding: a few steps too few stall the whole consensus
(docs/concepts/admm.md).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxp2p.slot.prox.response import Response, Rows

UNROLL_LIMIT = 16  # partners; beyond, the sum over them is a loop, to keep the program small
NEWTON_LIMIT = 60  # never reached: the bracket is halved at least every second step


class ProsumerUpdate(NamedTuple):
    """Minimiser of every home's subproblem."""

    injection: Array  # (N,) kW, p
    trades: Array  # (K, N) kW, e
    market_price: Array  # (N,) EUR/kWh, mu
    nodal_price: Array  # (N,) EUR/kWh, nu: the price that the devices answer


class Tariff(NamedTuple):
    """What the utility offers; the limits are None where the connection is unlimited."""

    buy: Array  # () EUR/kWh, b
    sell: Array  # () EUR/kWh, s <= b
    buy_max: Array | None = None  # (N,) kW
    sell_max: Array | None = None  # (N,) kW
    unserved: Array | None = None  # () EUR/kWh on top of b (below s) for power beyond the limits


class Curve(NamedTuple):
    """p(mu) of all homes for one rho_n: M corners at mu + rho_n anchor = `position`."""

    position: Rows  # (M, N) EUR/kWh, rising
    width: Rows  # (M - 1, N) EUR/kWh to the next corner
    slope: Rows  # (M - 1, N) kW per EUR/kWh
    first: Array  # (N,) kW at and below the first corner


def curve(devices: Response, rho_injection: Array) -> Curve:
    """The response as a function of the market price under the injection penalty rho_injection > 0."""
    position = devices.price + rho_injection * devices.power
    width = position[1:] - position[:-1]
    rise = devices.power[1:] - devices.power[:-1]
    slope = jnp.where(width > 0, rise / jnp.where(width > 0, width, 1), 0)
    return Curve(position, width, slope, devices.power[0])


def clamp(x: Array, low: Array | float, high: Array | float) -> Array:
    """min(max(x, low), high) by comparison: half the instructions of `jnp.clip`, which also carries NaNs."""
    x = jnp.where(x < low, low, x)
    return jnp.where(x > high, high, x)


def soft_threshold(x: Array, width: Array) -> Array:
    """argmin_y |y| width + (y - x)^2 / 2 = sign(x) max(|x| - width, 0)."""
    return x - clamp(x, -width, width)


def injection_at(curve: Curve, anchor_price: Array, price: Array) -> tuple[Array, Array]:
    """p (N,) in kW and dp/dmu at market price (N,); anchor_price is rho_n * anchor.

    At a corner the slopes of both sides are added: too steep rather than too flat, whichever way one goes.
    """
    power, slope = curve.first, jnp.zeros_like(price)
    at = price + anchor_price
    for position, width, rate in zip(curve.position, curve.width, curve.slope, strict=False):
        along = at - position
        power = power + rate * clamp(along, 0, width)
        slope = slope + jnp.where((along >= 0) & (along <= width), rate, 0)
    return power, slope


def trade_response(price: Array, target: Array, rho: Array, fee: Array, limit: Array) -> Array:
    """e(mu): argmin_e mu e + fee/2 |e| + rho/2 (e - target)^2 within +-limit; any broadcastable shapes."""
    return clamp(soft_threshold(target - price / rho, fee / (2 * rho)), -limit, limit)


def traded_at(price: Array, target: Rows, rho: Array, fee: Rows, limit: Rows) -> tuple[Array, Array]:
    """sum_k e_k (N,) in kW and minus its slope (N,), one partner at a time."""
    per_rho = 1 / rho

    def add(carry, k):
        total, slope = carry
        want = target[k] - price * per_rho
        half, reach = fee[k] * (per_rho / 2), limit[k]
        wished = soft_threshold(want, half)
        trade = clamp(wished, -reach, reach)
        moves = (jnp.abs(want) >= half) & (trade == wished)
        return total + trade, slope + jnp.where(moves, per_rho, 0)

    carry = jnp.zeros_like(price), jnp.zeros_like(price)
    if len(target) > UNROLL_LIMIT:
        return jax.lax.fori_loop(0, len(target), lambda k, c: add(c, k), carry)
    for k in range(len(target)):
        carry = add(carry, k)
    return carry


def staircase(price: Array, rest: Array, tariff: Tariff) -> Array:
    """How far (N,) kW F = rest is from what the utility takes at mu = price: its sign is that of mu - root.

    0 at the root. It has the sign of H above, but is always in kW: next to EUR/kWh, Newton would go astray.
    """
    sell_max = jnp.inf if tariff.sell_max is None else tariff.sell_max
    buy_max = jnp.inf if tariff.buy_max is None else tariff.buy_max
    off = jnp.where(price > tariff.buy, rest + buy_max, rest)
    off = jnp.where((price == tariff.buy) & (rest <= 0), jnp.minimum(rest + buy_max, 0), off)
    off = jnp.where(price < tariff.sell, rest - sell_max, off)
    off = jnp.where((price == tariff.sell) & (rest >= 0), jnp.maximum(rest - sell_max, 0), off)
    if tariff.unserved is None:
        return off
    # the last treads: unserved above, spilled below
    off = jnp.where((price >= tariff.buy + tariff.unserved) & (off < 0), 0, off)
    return jnp.where((price <= tariff.sell - tariff.unserved) & (off > 0), 0, off)


def prosumer_update(
    devices: Curve,
    tariff: Tariff,
    *,
    target: Array,
    anchor: Array,
    rho: Array,
    rho_injection: Array,
    fee: Array,
    limit: Array,
    start: Array,
) -> ProsumerUpdate:
    """argmin over (p, e) of the home's cost + rho/2 |e - target|^2 + rho_n/2 (p - anchor)^2.

    target, fee, limit (K, N) in kW, EUR/kWh, kW; anchor (N,) kW; rho, rho_injection () in (EUR/kWh)/kW and
    positive; start (N,) EUR/kWh, where to look for mu first. Exact up to rounding for any mix of jumps,
    b = s, zero fees and negative prices.
    """
    anchor_price = rho_injection * anchor
    price, power = market_price_of(
        devices,
        tariff,
        target=target,
        offered=jnp.sum(jnp.abs(target), axis=0),
        anchor_price=anchor_price,
        rho=rho,
        fee=fee,
        limit=limit,
        start=start,
    )
    return ProsumerUpdate(
        injection=power,
        trades=trade_response(price[None, :], target, rho, fee, limit),
        market_price=price,
        nodal_price=price - (rho_injection * power - anchor_price),
    )


def market_price_of(
    devices: Curve,
    tariff: Tariff,
    *,
    target: Rows,
    offered: Array,
    anchor_price: Array,
    rho: Array,
    fee: Rows,
    limit: Rows,
    start: Array,
    some: Callable[[Array], Array] = jnp.any,
) -> tuple[Array, Array]:
    """The root mu (N,) in EUR/kWh and p there (N,) in kW, for `prosumer_update`.

    What has a row per corner or per partner may be arrays or sequences of rows: a kernel has them in
    registers. offered (N,) kW is sum_k |target_k|; some: how a kernel asks whether any home is left.
    """
    treads = [tariff.sell, tariff.buy]
    if tariff.unserved is not None:
        treads = [tariff.sell - tariff.unserved, *treads, tariff.buy + tariff.unserved]
    # just outside of where mu can be, so that the outermost treads are still tried
    level = jnp.maximum(jnp.abs(tariff.sell), jnp.abs(tariff.buy))
    lowest, highest = treads[0] - level, treads[-1] + level
    eps = jnp.finfo(start.dtype).eps
    # what rounding leaves of F: its terms are powers, and prices times the slope that they are answered with
    size = jnp.abs(devices.first) + offered
    prices = level + jnp.abs(anchor_price)

    def at(price: Array) -> tuple[Array, Array]:
        """F (N,) in kW at a price and its slope."""
        power, slope = injection_at(devices, anchor_price, price)
        traded, fall = traded_at(price, target, rho, fee, limit)
        return power - traded, slope + fall

    def judged(price: Array, rest: Array, slope: Array, low: Array, high: Array) -> tuple[Array, Array]:
        """Distance from the staircase, and whether to go on; the bracket is (low, high)."""
        off = staircase(price, rest, tariff)
        wide = high - low > 8 * eps * jnp.maximum(jnp.abs(low), jnp.abs(high))
        return off, (jnp.abs(off) > 8 * eps * (size + jnp.abs(rest) + slope * prices)) & wide

    def up_to_tread(wanted: Array, price: Array) -> Array:
        """A step ends at the first tariff on its way: there the staircase turns."""
        for tread in treads:
            crossed = ((price < tread) & (wanted > tread)) | ((price > tread) & (wanted < tread))
            wanted = jnp.where(crossed, tread, wanted)
        return wanted

    def unfinished(carry):
        return (carry[-1] < NEWTON_LIMIT) & some(judged(*carry[:-1])[1])

    def improve(carry):
        price, rest, slope, low, high, count = carry
        off, open_ = judged(price, rest, slope, low, high)
        low, high = jnp.where(off < 0, price, low), jnp.where(off > 0, price, high)
        beyond = jnp.where(off < 0, jnp.inf, -jnp.inf).astype(price.dtype)
        wanted = jnp.where(slope > 0, price - off / jnp.where(slope > 0, slope, 1), beyond)
        wanted = up_to_tread(wanted, price)
        inside = (wanted > low) & (wanted < high)
        wanted = jnp.where(inside, wanted, up_to_tread(low + (high - low) / 2, price))
        price = jnp.where(open_, wanted, price)
        return price, *at(price), low, high, count + 1

    price = clamp(start, tariff.sell, tariff.buy)
    low, high = jnp.broadcast_to(lowest, price.shape), jnp.broadcast_to(highest, price.shape)
    carry = (price, *at(price), low, high, jnp.zeros((), jnp.int32))
    price = jax.lax.while_loop(unfinished, improve, carry)[0]
    return price, injection_at(devices, anchor_price, price)[0]
