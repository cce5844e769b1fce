"""The dual function that Newton's method climbs, and how far from its top a point of it is.

For a centre pbar and prices (pool first, then rows) everybody's answer is closed form, and with it the
gradient and the slopes that make the curvature: see `slot.newton.solver`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxp2p.slot.gap import gap_scale
from jaxp2p.slot.newton.state import Settings
from jaxp2p.slot.problem import SlotProblem
from jaxp2p.slot.prox.prosumer import clamp
from jaxp2p.slot.prox.response import Pieces, Response, between, corners, power_range
from jaxp2p.slot.rows import nodal_surcharge, row_tolerance, row_values

AIM = 0.1  # of the tolerance of a row
HOPE = 2  # times the allowed loss: what the pull may seem to cost for a proof to be tried
SATURATED = 0.999  # share of the row penalty from which a violated row counts as paid for


class Setup(NamedTuple):
    """What stays the same during a slot."""

    pieces: Pieces
    corners: Response  # of the devices, in any order
    position: Array  # (M, N) EUR/kWh, where these corners are as p against price + eps pbar
    idle: Array  # (N,) EUR/kWh: the position where p = 0
    eps: Array  # () (EUR/kWh)/kW
    half_fee: Array  # () EUR/kWh
    lowest: Array  # (1 + R,) EUR/kWh, bounds of the prices
    highest: Array  # (1 + R,)
    damping: Array  # (1 + R,) kW per EUR/kWh
    row_upper: Array  # (R,) kW, aimed at: inside the limits by row_tolerance
    row_lower: Array  # (R,)
    row_tolerance: Array  # (R,) kW


class Point(NamedTuple):
    """Everybody's answer to some prices (pool first, then rows)."""

    prices: Array  # (1 + R,)
    injection: Array  # (N,) kW
    slope: Array  # (N,) kW per EUR/kWh
    market_price: Array  # (N,)
    rows: Array  # (R,) kW
    gradient: Array  # (1 + R,) kW


def make_setup(problem: SlotProblem, newton: Settings) -> Setup:
    """What all evaluations of a slot have in common."""
    dtype, size = problem.load.dtype, problem.load.shape[0]
    unit, eps = problem.price_scale / problem.power_scale, _pull(problem, newton)
    pieces = problem.pieces()
    found, position = _positions(pieces, problem.base, eps)
    half_fee, lowest, highest = price_range(problem)
    rows = problem.row_offset.shape
    damping = jnp.concatenate(
        [jnp.full((1,), newton.damping, dtype), jnp.full(rows, newton.row_damping, dtype)]
    )
    # What a row is beyond its limit costs its whole penalty, what it is inside only its price: so the aim is
    # inside, and an answer within the tolerance of the aim keeps the limit itself.
    tolerance = AIM * row_tolerance(problem, flow=newton.eps_flow, voltage=newton.eps_voltage)
    tolerance = jnp.minimum(tolerance, (problem.row_upper - problem.row_lower) / 4)
    inside = jax.lax.stop_gradient(tolerance)
    return Setup(
        pieces=pieces,
        position=position,
        corners=found,
        idle=_idle_position(position, found.power),
        eps=eps,
        half_fee=half_fee,
        lowest=lowest,
        highest=highest,
        damping=damping * (size / unit).astype(dtype),
        row_upper=problem.row_upper - inside,
        row_lower=problem.row_lower + inside,
        row_tolerance=jnp.maximum(tolerance, jnp.finfo(dtype).tiny),
    )


def _pull(problem: SlotProblem, newton: Settings) -> Array:
    """() (EUR/kWh)/kW, eps."""
    return (newton.proximal * (problem.price_scale / problem.power_scale)).astype(problem.load.dtype)


def _positions(pieces: Pieces, base: Array, eps: Array) -> tuple[Response, Array]:
    found = corners(pieces, base)
    return found, found.price + eps * found.power


def price_range(problem: SlotProblem) -> tuple[Array, Array, Array]:
    """Half the fee () of a trade, and the least and greatest prices (1 + R,), EUR/kWh."""
    fee = problem.market.fee_of_all(problem.price_buy - problem.price_sell)
    rows = jnp.full(problem.row_offset.shape, problem.row_penalty)
    lowest = jnp.concatenate([(problem.price_sell + fee / 2)[None], -rows])
    return fee / 2, lowest, jnp.concatenate([(problem.price_buy - fee / 2)[None], rows])


def _idle_position(position: Array, power: Array) -> Array:
    """(N,) the position at which a home's injection crosses zero; infinite where it never does."""
    zero = jnp.zeros_like(power[0])
    (low, high), (left, right) = between(power, zero, power, position)
    span = high - low
    idle = left + (right - left) * jnp.where(span > 0, -low / jnp.where(span > 0, span, 1), 0)
    # below the curve it would always sell, above it always buy
    return jnp.where(low > 0, -jnp.inf, jnp.where(high < 0, jnp.inf, idle))


def _injection_at(setup: Setup, at: Array) -> tuple[Array, Array]:
    """p (N,) in kW and its slope (N,) in kW per EUR/kWh at the position price + eps pbar."""
    (left, right), (low, high) = between(setup.position, at, setup.position, setup.corners.power)
    width = right - left
    slope = jnp.where(width > 0, (high - low) / jnp.where(width > 0, width, 1), 0)
    return low + slope * clamp(at - left, 0, width), slope


def evaluate(problem: SlotProblem, setup: Setup, prices: Array, centre: Array) -> Point:
    """Answers, row values and gradient of the dual at prices (1 + R,), market price first."""
    shift = setup.eps * centre - nodal_surcharge(problem, prices[1:])
    sell = jnp.maximum(problem.price_sell, prices[0] - setup.half_fee)
    buy = jnp.minimum(problem.price_buy, prices[0] + setup.half_fee)
    alone = setup.idle - shift  # the price at which the home needs nobody
    market_price = clamp(alone, sell, buy)
    power, slope = _injection_at(setup, shift + market_price)
    idle = (alone > sell) & (alone < buy)
    power, slope = jnp.where(idle, 0, power), jnp.where(idle, 0, slope)
    rows = row_values(problem, power)
    over, under = rows - setup.row_upper, rows - setup.row_lower
    outside = jnp.maximum(over, 0) + jnp.minimum(under, 0)
    row_gradient = jnp.where(prices[1:] > 0, over, jnp.where(prices[1:] < 0, under, outside))
    gradient = jnp.concatenate([-jnp.sum(power)[None], row_gradient])
    return Point(prices, power, slope, market_price, rows, gradient)


def allowed_loss(problem: SlotProblem, newton: Settings) -> Array:
    """() EUR/h that the answer may cost above the optimum when the iteration stops: half of the tolerance."""
    return 0.5 * newton.eps_gap * gap_scale(problem, jnp.zeros_like(problem.slot_hours)) / problem.slot_hours


def imbalance(problem: SlotProblem, setup: Setup, at: Point) -> tuple[Array, Array]:
    """() the worst row violation over its tolerance, and () EUR/h lost by imbalance and slack."""
    row_price, rows = at.prices[1:], at.rows
    beyond = jnp.where(row_price > 0, rows - setup.row_upper, setup.row_lower - rows)
    paid = (jnp.abs(row_price) > SATURATED * problem.row_penalty) & (beyond > 0)
    outside = jnp.maximum(jnp.maximum(rows - setup.row_upper, setup.row_lower - rows), 0)
    violation = jnp.max(jnp.where(paid, 0, outside / setup.row_tolerance), initial=0)
    slack = jnp.sum(jnp.where(paid | (row_price == 0), 0, jnp.abs(row_price) * jnp.abs(beyond)))
    # a limit that is passed and has no price yet will cost about what prices differ by
    slack = slack + problem.price_scale * jnp.sum(jnp.where(row_price == 0, outside, 0))
    surplus = -at.gradient[0]
    over, under = jnp.maximum(surplus, 0), jnp.maximum(-surplus, 0)
    utility = over * (at.prices[0] - setup.lowest[0]) + under * (setup.highest[0] - at.prices[0])
    return violation, slack + utility


def promising(problem: SlotProblem, newton: Settings, setup: Setup, at: Point, centre: Array) -> Array:
    """() bool: whether what the pull to the centre costs is about small enough for a proof.

    With q an answer to the price without the pull, p costs at most eps |p - pbar| |p - q| more.
    """
    price = at.market_price - nodal_surcharge(problem, at.prices[1:])
    least, most = power_range(setup.pieces, problem.base, price, price)
    away = jnp.abs(at.injection - clamp(at.injection, least, most))
    cost = setup.eps * jnp.sum(jnp.abs(at.injection - centre) * away)
    return cost <= HOPE * allowed_loss(problem, newton)
