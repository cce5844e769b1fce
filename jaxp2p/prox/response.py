"""How the devices of a home answer a price: a monotone polyline from nodal price to injection.

Every device is a piece that adds power as the nodal price nu rises: nothing below `start`, all of `gain`
above `end`, linear between; start = end is a jump (a linear cost). A home's injection is then

    p(nu) = base + sum_j gain_j clip((nu - start_j) / (end_j - start_j), 0, 1),

non-decreasing and piecewise linear, and the two corners of every piece are all the corners it has.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Pieces(NamedTuple):
    """Device pieces of N homes."""

    start: Array  # (P, N) EUR/kWh
    end: Array  # (P, N) EUR/kWh, >= start
    gain: Array  # (P, N) kW, >= 0


class Response(NamedTuple):
    """Corners of the polyline, two per piece, both coordinates rising along the first axis."""

    price: Array  # (2P, N) EUR/kWh
    power: Array  # (2P, N) kW


def ramp(pieces: Pieces, price: Array, *, after: bool) -> Array:
    """Share (P, N) of every piece in use at price (N,); at a jump the limit from above if `after`."""
    width = pieces.end - pieces.start
    smooth = jnp.clip((price - pieces.start) / jnp.where(width > 0, width, 1), 0, 1)
    jump = (price >= pieces.start) if after else (price > pieces.start)
    return jnp.where(width > 0, smooth, jump.astype(price.dtype))


def corners(pieces: Pieces, base: Array) -> Response:
    """Corners of the polyline in the order of the pieces, the starts first, then the ends: not yet sorted.

    base (N,) is the injection at a price of minus infinity, kW. One sum per corner, so that nothing of
    shape (corners, pieces, N) is ever made.
    """
    width = pieces.end - pieces.start
    per_width = jnp.where(width > 0, 1 / jnp.where(width > 0, width, 1), 0)
    count = pieces.gain.shape[0]

    def power_at(own: int, price: Array, *, after: bool) -> Array:
        power = base + pieces.gain[own] if after else base
        for k in range(count):
            if k == own:  # none of it at its start, all of it at its end
                continue
            smooth = jnp.clip((price - pieces.start[k]) * per_width[k], 0, 1)
            jump = (price >= pieces.start[k]) if after else (price > pieces.start[k])
            share = jnp.where(width[k] > 0, smooth, jump.astype(price.dtype))
            power = power + pieces.gain[k] * share
        return power

    powers = [power_at(k, pieces.start[k], after=False) for k in range(count)]
    powers += [power_at(k, pieces.end[k], after=True) for k in range(count)]
    return Response(price=jnp.concatenate([pieces.start, pieces.end]), power=jnp.stack(powers))


def response(pieces: Pieces, base: Array) -> Response:
    """The polyline of the homes, its corners in rising order."""
    # the barrier keeps the compiler from working the corners out anew in every branch of the sorting network
    found = jax.lax.optimization_barrier(corners(pieces, base))
    return Response(price=sorted_rows(found.price), power=sorted_rows(found.power))


def sorted_rows(x: Array) -> Array:
    """Every column of x (M, N) in rising order, by an odd-even transposition network: M small, N large.

    Along a monotone polyline all coordinates rise together, so each may be sorted on its own.
    """
    rows = list(x)
    for start in range(len(rows)):
        for k in range(start % 2, len(rows) - 1, 2):
            low, high = rows[k], rows[k + 1]
            rows[k], rows[k + 1] = jnp.minimum(low, high), jnp.maximum(low, high)
    return jnp.stack(rows)


def between(position: Array, target: Array, *values: Array) -> tuple[tuple[Array, Array], ...]:
    """For every coordinate in `values` (M, N) its lower and upper neighbour (N,), (N,) around `target` (N,).

    `position` and `values` (M, N) are coordinates of the corners of a monotone polyline, in any order:
    the nearest corner below has the largest coordinates of all below. Beyond its ends both are the end.
    """
    out = []
    for value in values:
        least = most = value[0]
        for x in value[1:]:
            least, most = jnp.where(x < least, x, least), jnp.where(x > most, x, most)
        lower, upper = least, most
        for at, x in zip(position, value, strict=True):
            lower = jnp.where((at <= target) & (x > lower), x, lower)
            upper = jnp.where((at >= target) & (x < upper), x, upper)
        out.append((lower, upper))
    return tuple(out)


def price_on_polyline(devices: Response, *, price: Array, power: Array, slope: Array) -> Array:
    """(N,) the price of the polyline at power (N,), near `price` (N,): on a jump exactly the jump's.

    Found by price + slope * power, which is strictly increasing along the polyline, jumps included
    (slope > 0, EUR/kWh per kW). A price that rounding put beside a jump would use all of it or nothing.
    """
    position, target = devices.price + slope * devices.power, price + slope * power
    (left, right), (low, high) = between(position, target, devices.price, devices.power)
    span = high - low
    part = jnp.clip((power - low) / jnp.where(span > 0, span, 1), 0, 1)
    return left + (right - left) * part


def shares_at(pieces: Pieces, base: Array, *, price: Array, power: Array) -> Array:
    """Shares (P, N) of the pieces where the homes answer price (N,) with power (N,) kW.

    Away from jumps the price says it all. Pieces that jump at exactly this price share the rest evenly.
    """
    low = ramp(pieces, price[None, :], after=False)
    high = ramp(pieces, price[None, :], after=True)
    least = base + jnp.sum(low * pieces.gain, axis=0)
    span = jnp.sum((high - low) * pieces.gain, axis=0)
    part = jnp.clip((power - least) / jnp.where(span > 0, span, 1), 0, 1)
    return low + part[None, :] * (high - low)
