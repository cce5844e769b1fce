"""How the answer of a home moves with everything that it answers to: the derivative of `prosumer_update`.

The search for mu is a loop, and reverse mode cannot pass a loop of unknown length; nor should it, since the
answer knows its own derivative. Three cases per home, told from the answer:

    mu on a tread of the tariff (s, b, or of unserved energy)     dmu = d tread
    between treads, where F = p - sum_k e_k meets a riser         dmu = (d riser - dF at fixed mu) / (dF/dmu)
    where neither devices nor trades move with mu (dF/dmu = 0)    dmu = 0: mu is not unique there

and then dp and de by the chain rule: on a ramp of the devices p follows nu = mu - rho_n (p - anchor); on a
jump nu is the jump's price and p is what mu - nu asks for; between pieces p only follows the amounts in use.

At a kink (a ramp that just begins or ends, a trade that just pays or just reaches its limit, a jump just used
up) the derivative is that of the flat side, so it is always that of one neighbouring piece and never NaN. A
tread counts as a tread even where the exchange is zero.
"""

from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

from jaxp2p._pytree import present
from jaxp2p.slot.prox.prosumer import ProsumerUpdate, Tariff, soft_threshold
from jaxp2p.slot.prox.response import Pieces, corners, price_on_polyline, ramp, shares_at

Tree = TypeVar("Tree")


class Question(NamedTuple):
    """Everything that `prosumer_update` answers; shapes and units as there."""

    pieces: Pieces
    base: Array  # (N,) kW
    tariff: Tariff
    target: Array  # (K, N) kW
    anchor: Array  # (N,) kW
    rho: Array  # () (EUR/kWh)/kW
    rho_injection: Array  # () (EUR/kWh)/kW
    fee: Array  # (K, N) EUR/kWh
    limit: Array  # (K, N) kW


class DeviceMotion(NamedTuple):
    """First-order motion of the devices: dp = push + slope dnu, or on a jump dnu = jump and p is free."""

    push: Array  # (N,) kW, dp at a fixed price
    slope: Array  # (N,) kW per EUR/kWh
    on_jump: Array  # (N,) bool
    jump: Array  # (N,) EUR/kWh, motion of the jump's price


def with_derivative_of(value: Tree, like: Tree) -> Tree:
    """`value`, bit by bit, with the derivative of `like`, which is the same but for rounding or tolerance."""
    return _taken_from(jax.tree.map(_batched_as, value, like), like)


def _batched_as(value: Array, like: Array) -> Array:
    """`value`, batched by `jax.vmap` where `like` is: no derivative may have an axis that its value lacks.

    The compiler takes the choice between two equals out again.
    """
    return jnp.where(like == like, value, value)


@jax.custom_jvp
def _taken_from(value: Tree, like: Tree) -> Tree:
    return value


@_taken_from.defjvp
def _with_derivative_of(primals, tangents):
    return primals[0], tangents[1]


def derivative_only(x: Array) -> Array:
    """Zero, exactly, with the derivative of x."""
    return with_derivative_of(jnp.zeros_like(x), x)


@jax.custom_jvp
def with_sensitivity(update: ProsumerUpdate, question: Question) -> ProsumerUpdate:
    """`update`, bit by bit, as a function of the question that it answers: forward and reverse mode.

    Take `update` from inputs under `stop_gradient`. When no derivative is taken the question costs nothing.
    """
    return update


@with_sensitivity.defjvp
def _with_sensitivity(primals, tangents):
    update, question = primals
    return update, motion(update, question, tangents[1])


def device_motion(
    pieces: Pieces, base: Array, moved: Pieces, moved_base: Array, *, price: Array, power: Array
) -> DeviceMotion:
    """Motion of the response around (price (N,), power (N,)) when pieces and base move by `moved`.

    `price` must be exact on a jump (`price_on_polyline`).
    """
    low, high = ramp(pieces, price, after=False), ramp(pieces, price, after=True)
    share = shares_at(pieces, base, price=price, power=power)
    weight = (high - low) * pieces.gain
    span = jnp.sum(weight, axis=0)
    below = power - base - jnp.sum(low * pieces.gain, axis=0)
    size = jnp.abs(base) + jnp.sum(pieces.gain, axis=0)
    edge = 64 * jnp.finfo(power.dtype).eps * size
    on_jump = (below > edge) & (span - below > edge)
    jumps = high > low
    interior = (share > 0) & (share < 1) & ~jumps
    rate = jnp.where(interior, pieces.gain / jnp.where(interior, pieces.end - pieces.start, 1), 0)
    where = (1 - share) * moved.start + share * moved.end  # motion of the point of every piece that is in use
    push = moved_base + jnp.sum(share * moved.gain - rate * where, axis=0)
    jump = jnp.sum(weight * where, axis=0) / jnp.where(on_jump, span, 1)
    return DeviceMotion(push, jnp.sum(rate, axis=0), on_jump, jnp.where(on_jump, jump, 0))


def trade_motion(price: Array, question: Question, moved: Question) -> tuple[Array, Array]:
    """de at a fixed mu, and the motion per unit of mu, both (K, N), kW and kW per EUR/kWh (<= 0)."""
    rho, drho = question.rho, moved.rho
    want = question.target - price[None, :] / rho
    half = question.fee / (2 * rho)
    wished = soft_threshold(want, half)
    sign = jnp.sign(wished)
    full = (jnp.abs(wished) >= question.limit) & (sign != 0)
    moves = (sign != 0) & ~full
    shift = moved.target + price[None, :] * (drho / rho**2)
    shift = shift - sign * (moved.fee / (2 * rho) - question.fee * (drho / (2 * rho**2)))
    fixed = jnp.where(moves, shift, jnp.where(full, sign * moved.limit, 0))
    return fixed, jnp.where(moves, -1 / rho, 0)


def _tread_motion(price: Array, rest: Array, tariff: Tariff, moved: Tariff) -> tuple[Array, Array, Array]:
    """Whether mu (N,) is on a tread, the motion of that tread (EUR/kWh), and that of the riser (kW)."""
    on_buy, on_sell = price == tariff.buy, price == tariff.sell
    buying = on_buy & (~on_sell | (rest <= 0))  # b = s: the one that is dealt with
    on, tread, riser = on_buy | on_sell, jnp.where(buying, moved.buy, moved.sell), jnp.zeros_like(price)
    if tariff.unserved is not None:
        top, bottom = price >= tariff.buy + tariff.unserved, price <= tariff.sell - tariff.unserved
        tread = jnp.where(top, moved.buy + present(moved.unserved), tread)
        tread = jnp.where(bottom, moved.sell - present(moved.unserved), tread)
        on = on | top | bottom
    if tariff.buy_max is not None:
        riser = jnp.where(price > tariff.buy, -present(moved.buy_max), riser)
    if tariff.sell_max is not None:
        riser = jnp.where(price < tariff.sell, present(moved.sell_max), riser)
    return on, tread, riser


def motion(update: ProsumerUpdate, question: Question, moved: Question) -> ProsumerUpdate:
    """First-order motion of the answer when the question moves by `moved`: linear in `moved`."""
    rho_n, anchor = question.rho_injection, question.anchor
    price, power = update.market_price, update.injection
    devices = corners(question.pieces, question.base)
    nodal = price_on_polyline(devices, price=update.nodal_price, power=power, slope=rho_n)
    pieces, base = question.pieces, question.base
    d = device_motion(pieces, base, moved.pieces, moved.base, price=nodal, power=power)
    # nu = mu - pull: what the penalty takes off the market price
    pull = moved.rho_injection * (power - anchor) - rho_n * moved.anchor
    fixed = jnp.where(d.on_jump, -(d.jump + pull) / rho_n, (d.push - d.slope * pull) / (1 + d.slope * rho_n))
    rise = jnp.where(d.on_jump, 1 / rho_n, d.slope / (1 + d.slope * rho_n))
    trades, fall = trade_motion(price, question, moved)
    rest = power - jnp.sum(update.trades, axis=0)
    on, tread, riser = _tread_motion(price, rest, question.tariff, moved.tariff)
    slope = rise - jnp.sum(fall, axis=0)
    free = riser - fixed + jnp.sum(trades, axis=0)
    free = jnp.where(slope > 0, free / jnp.where(slope > 0, slope, 1), 0)
    dprice = jnp.where(on, tread, free)
    dpower = fixed + rise * dprice
    dnodal = jnp.where(d.on_jump, d.jump, dprice - pull - rho_n * dpower)
    return ProsumerUpdate(dpower, trades + fall * dprice[None, :], dprice, dnodal)


@jax.custom_jvp
def largest(x: Array) -> Array:
    """The maximum along the last axis; its derivative is the mean of those of the elements that share it.

    `jnp.max` divides by how many elements equal the maximum, and where a compiler works them out twice, with
    different rounding, none does: its derivative is then no number. Here they equal it up to rounding.
    """
    return jnp.max(x, axis=-1)


@largest.defjvp
def _largest_motion(primals, tangents):
    (x,), (moved,) = primals, tangents
    most = largest(x)
    near = 8 * jnp.finfo(most.dtype).eps * jnp.abs(most)
    share = x >= (most - near)[..., None]
    count = jnp.maximum(jnp.sum(share, axis=-1), 1).astype(most.dtype)
    return most, jnp.sum(jnp.where(share, moved, 0), axis=-1) / count
