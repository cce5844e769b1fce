"""How the devices of a home answer a price: a monotone polyline from nodal price to injection.

Every device is a piece that adds power as the nodal price nu rises: nothing below `start`, all of `gain`
above `end`, linear between; start = end is a jump (a linear cost). A home's injection is then

    p(nu) = base + sum_j gain_j clip((nu - start_j) / (end_j - start_j), 0, 1),

non-decreasing and piecewise linear, and the two corners of every piece are all the corners it has.
"""

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import stop_gradient

Rows = Array | Sequence[Array]  # (K, N) or K times (N,), as a kernel has it in registers
EDGE, EDGE_SINGLE = 1e-6, 1e-3  # share of a piece up to which it counts as not in use, in derivatives


class Pieces(NamedTuple):
    """Device pieces of N homes."""

    start: Array  # (P, N) EUR/kWh
    end: Array  # (P, N) EUR/kWh, >= start
    gain: Array  # (P, N) kW, >= 0
    level: Array  # () EUR/kWh, size of the prices: those that differ by its rounding only are the same


class Response(NamedTuple):
    """Corners of the polyline, two per piece, both coordinates rising along the first axis."""

    price: Array  # (2P, N) EUR/kWh
    power: Array  # (2P, N) kW


def ramp(pieces: Pieces, price: Array, *, after: bool) -> Array:
    """Share (P, N) of every piece in use at price (N,); at a jump the limit from above if `after`."""
    return _share(pieces.start, pieces.end, price[None, :], pieces.level, after=after)


def _share(start: Array, end: Array, price: Array, level: Array, *, after: bool) -> Array:
    """The ramp, with prices compared up to rounding.

    A compiler may work the same price out twice in different orders. If the last bit decided, one part of the
    program would see a jump used and another would not.
    """
    near = _rounding(price, level)
    width = end - start
    wide = width > near
    smooth = _unit_clip((price - start) / jnp.where(wide, width, 1))
    jump = (price >= start - near) if after else (price > start + near)
    return jnp.where(wide, smooth, jump.astype(price.dtype))


def _rounding(price: Array, level: Array) -> Array:
    """EUR/kWh by which equal prices may differ."""
    return 8 * jnp.finfo(price.dtype).eps * (jnp.abs(price) + level)


def row_sum(rows: Rows) -> Array:
    """(N,) sum of rows (K, N), or of K rows: what is one sum after the other goes into the kernel around it.

    A reduction over an axis of few rows is a kernel by itself, by a library that is slow with so few.
    """
    return reduce(jnp.add, list(rows))


def row_max(rows: Rows) -> Array:
    """(N,) largest of rows (K, N), or of K rows."""
    return reduce(jnp.maximum, list(rows))


def row_min(rows: Rows) -> Array:
    """(N,) least of rows (K, N), or of K rows."""
    return reduce(jnp.minimum, list(rows))


def piece_slack(pieces: Pieces, shares: Rows, price: Array) -> Array:
    """(N,) EUR/h lost by using `shares` (P, N) of the pieces at price (N,), against the best shares.

    The Fenchel-Young gap of every piece: what x costs, plus what t would earn, less what x earns.
    """

    def slack(start: Array, end: Array, gain: Array, share: Array) -> Array:
        width, at = end - start, price - start
        wanted = jnp.where(width > 0, at / jnp.where(width > 0, width, 1), jnp.where(at > 0, 1, 0))
        wanted = jnp.clip(wanted, 0, 1)
        lost = (wanted - share) * (at - (wanted + share) * width / 2)
        return gain * jnp.maximum(lost, 0)

    return row_sum([slack(*row) for row in zip(*pieces[:3], shares, strict=True)])


def jumps(pieces: Pieces, price: Array) -> Array:
    """(P, N) bool: the pieces whose two ends are one price, for homes that see price (N,)."""
    return pieces.end - pieces.start <= _rounding(price[None, :], pieces.level)


@jax.custom_jvp
def _unit_clip(x: Array) -> Array:
    """x within [0, 1]; at 0 and 1 its derivative is already that of the flat side."""
    return jnp.clip(x, 0, 1)


@_unit_clip.defjvp
def _unit_clip_motion(primals, tangents):
    (x,), (moved,) = primals, tangents
    return _unit_clip(x), jnp.where((x > 0) & (x < 1), moved, 0)


def corners(pieces: Pieces, base: Array) -> Response:
    """Corners of the polyline in the order of the pieces, the starts first, then the ends: not yet sorted.

    base (N,) is the injection at a price of minus infinity, kW. One sum over the pieces for all corners, so
    that nothing of shape (corners, pieces, N) is ever made.
    """
    start, end, gain, level = pieces
    own = jax.lax.broadcasted_iota(jnp.int32, start.shape, 0)

    def power(price: Array, total: Array, *, after: bool) -> Array:
        for k in range(len(gain)):
            one = slice(k, k + 1)
            used = _share(start[one], end[one], price, level, after=after)
            total = jnp.where(own == k, total, total + gain[one] * used)
        return total

    # of its own piece nothing at its start, all of it at its end
    at_start = power(start, jnp.broadcast_to(base, start.shape), after=False)
    at_end = power(end, base[None, :] + gain, after=True)
    return Response(price=jnp.concatenate([start, end]), power=jnp.concatenate([at_start, at_end]))


def _rows(parts: list[Array]) -> Array:
    """`jnp.stack`, row after row: XLA's CPU back end works a fused concatenation out element by element."""
    out = jnp.zeros((len(parts), *parts[0].shape), parts[0].dtype)
    for k, part in enumerate(parts):
        out = jax.lax.dynamic_update_index_in_dim(out, part, k, axis=0)
    return out


def response(pieces: Pieces, base: Array) -> Response:
    """The polyline of the homes, its corners in rising order."""
    # the barrier keeps the compiler from working the corners out anew in every branch of the sorting network
    found = jax.lax.optimization_barrier(corners(pieces, base))
    both = sorted_rows(jnp.stack(found, axis=1))
    return Response(price=both[:, 0], power=both[:, 1])


def sorted_rows(x: Array) -> Array:
    """Every column of x (M, ...) in rising order, by a merge exchange network: M small, columns many.

    Along a monotone polyline all coordinates rise together, so each may be sorted on its own. The network is
    Batcher's for any M (Knuth, The Art of Computer Programming 3, 5.2.2, algorithm M).
    """
    rows = list(x)
    largest = 1 << max(len(rows) - 1, 0).bit_length() >> 1
    span = largest
    while span:
        apart, bit, other = span, 0, largest
        while True:
            for k in range(len(rows) - apart):
                if k & span == bit:
                    low, high = rows[k], rows[k + apart]
                    rows[k], rows[k + apart] = jnp.minimum(low, high), jnp.maximum(low, high)
            if other == span:
                break
            apart, bit, other = other - span, span, other >> 1
        span >>= 1
    return _rows(rows)


def between(position: Rows, target: Array, *values: Rows) -> tuple[tuple[Array, Array], ...]:
    """For every coordinate in `values` (M, N) its lower and upper neighbour (N,), (N,) around `target` (N,).

    `position` and `values` (M, N), or M rows each, are coordinates of the corners of a monotone polyline, in
    any order: the nearest corner below has the largest coordinates of all below. Beyond its ends both are the
    end.
    """
    out = []
    sides = [(at <= target, at >= target) for at in position]
    for value in values:
        rows = list(value)
        least = most = rows[0]
        for x in rows[1:]:
            least, most = jnp.where(x < least, x, least), jnp.where(x > most, x, most)
        lower, upper = least, most
        for (below, above), x in zip(sides, rows, strict=True):
            lower = jnp.where(below & (x > lower), x, lower)
            upper = jnp.where(above & (x < upper), x, upper)
        out.append((lower, upper))
    return tuple(out)


def prices_at(devices: Response, power: Array) -> tuple[Array, Array]:
    """Lowest and highest price (N,) at which the homes answer with power (N,) kW.

    On a ramp and on a jump the two are one; on a flat they are its ends, the outermost of which are infinite.
    Beyond what the devices can do both are minus (too little) or plus infinity.
    """
    (left, right), (low, high) = between(devices.power, power, devices.price, devices.power)
    least, most = row_min(devices.power), row_max(devices.power)
    part = jnp.where(high > low, (power - low) / jnp.where(high > low, high - low, 1), 0)
    inside = left + (right - left) * jnp.clip(part, 0, 1)
    flat = low >= high
    lowest, highest = jnp.where(flat, right, inside), jnp.where(flat, left, inside)
    lowest = jnp.where(power <= least, -jnp.inf, jnp.where(power > most, jnp.inf, lowest))
    highest = jnp.where(power >= most, jnp.inf, jnp.where(power < least, -jnp.inf, highest))
    return lowest, highest


def power_range(pieces: Pieces, base: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """Least and most power (N,) with which the homes answer prices from `low` to `high` (N,), kW.

    Piece by piece: what the prices are worked out from would else be worked out again for every piece.
    """
    start, end, gain, level = pieces
    least = most = base
    for k in range(len(gain)):
        least = least + gain[k] * _share(start[k], end[k], low, level, after=False)
        most = most + gain[k] * _share(start[k], end[k], high, level, after=True)
    return least, most


def price_on_polyline(devices: Response, *, price: Array, power: Array, slope: Array) -> Array:
    """(N,) the price of the polyline at power (N,), near `price` (N,): on a jump exactly the jump's.

    Where it is flat any price of a range has that power: `price` itself. Found by price + slope * power,
    which is strictly increasing along the polyline, jumps included (slope > 0, EUR/kWh per kW). A price that
    rounding put beside a jump would use all of it or nothing.
    """
    position, target = devices.price + slope * devices.power, price + slope * power
    (left, right), (low, high) = between(position, target, devices.price, devices.power)
    span = high - low
    # powers of two corners that should be the same may differ by rounding
    rises = span > 8 * jnp.finfo(power.dtype).eps * row_max(jnp.abs(devices.power))
    part = jnp.clip((power - low) / jnp.where(rises, span, 1), 0, 1)
    on_flat = jnp.where(left < right, jnp.clip(price, left, right), price)
    return jnp.where(rises, left + (right - left) * part, on_flat)


def shares_at(pieces: Pieces, base: Array, *, price: Array, power: Array) -> Array:
    """Shares (P, N) of the pieces where the homes answer price (N,) with power (N,) kW.

    Away from jumps the price says it all: the storage guarantee rests on that, so rounding of the power must
    not count. Pieces that jump at this price share the rest evenly.
    """
    start, end, gain, level = pieces
    use = lambda k, *, after: _share(start[k], end[k], price, level, after=after)
    low, high = ([use(k, after=after) for k in range(len(gain))] for after in (False, True))
    least = base + row_sum([x * most for x, most in zip(low, gain, strict=True)])
    span = row_sum([(y - x) * most for x, y, most in zip(low, high, gain, strict=True)])
    part = jnp.clip((power - least) / jnp.where(span > 0, span, 1), 0, 1)
    shares = jnp.stack([x + part * (y - x) for x, y in zip(low, high, strict=True)])
    moves = in_part(shares)
    shares = jnp.where(moves, shares, stop_gradient(shares))
    # in derivatives the pieces in use follow the power
    ramps = moves & ~jumps(pieces, price)
    rate = jnp.where(ramps, 1 / jnp.where(ramps, end - start, 1), 0)
    slope = jnp.sum(rate * gain, axis=0)
    left = power - base - jnp.sum(shares * gain, axis=0)
    return _following(shares, left, rate / jnp.where(slope > 0, slope, 1)[None, :])


@jax.custom_jvp
def _following(shares: Array, left: Array, rise: Array) -> Array:
    """`shares` (P, N), to which the motion of `left` (N,) kW adds `rise` (P, N) per kW."""
    return shares


@_following.defjvp
def _following_motion(primals, tangents):
    (shares, _, rise), (moved, left, _) = primals, tangents
    return shares, moved + rise * left[None, :]


def in_part(shares: Array) -> Array:
    """(P, N) bool: pieces neither in full use nor out of it: those that move.

    An answer that is exact but for the solver's tolerance may use a millionth of what the optimum does not
    use at all. That piece would move with its corner, and nothing else in the home would.
    """
    edge = EDGE if shares.dtype == jnp.float64 else EDGE_SINGLE
    return (shares > edge) & (shares < 1 - edge)
