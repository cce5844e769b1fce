"""How the devices of a home answer a price: a monotone polyline from nodal price to injection.

Every device is a piece that adds power as the nodal price nu rises: nothing below `start`, all of `gain`
above `end`, linear between; start = end is a jump (a linear cost). A home's injection is then

    p(nu) = base + sum_j gain_j clip((nu - start_j) / (end_j - start_j), 0, 1),

non-decreasing and piecewise linear, and the two corners of every piece are all the corners it has.
"""

from typing import NamedTuple

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


def ramps_at_corners(pieces: Pieces) -> Array:
    """Shares (2P, P, N) of all pieces at all corners: the starts first, then the ends."""
    starts = [ramp(pieces, price[None, :], after=False) for price in pieces.start]
    ends = [ramp(pieces, price[None, :], after=True) for price in pieces.end]
    return jnp.stack(starts + ends)


def response(pieces: Pieces, base: Array) -> Response:
    """The polyline of the homes; base (N,) is the injection at a price of minus infinity, kW."""
    shares = ramps_at_corners(pieces)
    power = base[None, :] + jnp.sum(shares * pieces.gain[None, :, :], axis=1)
    return Response(price=sorted_rows(jnp.concatenate([pieces.start, pieces.end])), power=sorted_rows(power))


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


def bracket(position: Array, target: Array, values: Array) -> tuple[Array, Array]:
    """For coordinates `values` (M, P, N) that rise with `position` (M, N): those of the two corners around
    target (N,). Below the first corner both are the first, above the last both are the last.

    Needs no ordering: along a monotone polyline the nearest corner below has the largest value of all
    corners below, in every coordinate.
    """
    least, most = values[0], values[0]
    for value in values[1:]:
        least, most = jnp.where(value < least, value, least), jnp.where(value > most, value, most)
    lower, upper = least, most
    for place, value in zip(position, values, strict=True):
        below, above = (place <= target)[None, :], (place >= target)[None, :]
        lower = jnp.where(below & (value > lower), value, lower)
        upper = jnp.where(above & (value < upper), value, upper)
    return lower, upper


def shares_at(pieces: Pieces, base: Array, *, price: Array, power: Array, slope: Array) -> Array:
    """Shares (P, N) of the pieces at the point (price, power) of the polyline.

    Found by price + slope * power, which is strictly increasing along the polyline, jumps included
    (slope > 0, EUR/kWh per kW). Pieces that jump at the same price share the jump evenly.
    """
    shares = ramps_at_corners(pieces)
    powers = base[None, :] + jnp.sum(shares * pieces.gain[None, :, :], axis=1)
    position = jnp.concatenate([pieces.start, pieces.end]) + slope * powers
    target = price + slope * power
    low, high = (end[0] for end in bracket(position, target, powers[:, None, :]))
    share_low, share_high = bracket(position, target, shares)
    span = high - low
    part = jnp.clip((power - low) / jnp.where(span > 0, span, 1), 0, 1)
    return share_low + part[None, :] * (share_high - share_low)
