"""The dual function that Newton's method climbs, and how far from its top a point of it is.

For a centre pbar and prices (of the pool and of the rows) everybody's answer is closed form, and with it the
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
from jaxp2p.slot.prox.response import Pieces, Response, Rows, between, corners, power_range
from jaxp2p.slot.rows import nodal_surcharge, row_tolerance

AIM = 0.1  # of the tolerance of a row
HOPE = 2  # times the allowed loss: what the pull may seem to cost for a proof to be due
SATURATED = 0.999  # share of the row penalty from which a violated row counts as paid for


class Prices(NamedTuple):
    """What the dual function is a function of; also its gradient, in kW, and a step."""

    pool: Array  # () EUR/kWh
    rows: Array  # (R,) EUR/kWh, > 0 at an upper limit


class Limits(NamedTuple):
    """What the climb of a slot keeps to: all that is asked for of the slot besides its homes."""

    lowest: Array  # () EUR/kWh, of the pool's price
    highest: Array  # () EUR/kWh
    penalty: Array  # () EUR/kWh, the largest price of a row
    damping: Prices  # () kW per EUR/kWh each
    row_upper: Array  # (R,) kW, aimed at: inside the limits by row_tolerance
    row_lower: Array  # (R,)
    row_tolerance: Array  # (R,) kW
    allowed: Array  # () EUR/h that imbalance and slack may cost where a proof is tried
    price_scale: Array  # () EUR/kWh


class Setup(NamedTuple):
    """What stays the same during a slot."""

    pieces: Pieces
    base: Array  # (N,) kW
    corners: Response  # of the devices, in any order
    position: Array  # (M, N) EUR/kWh, where these corners are as p against price + eps pbar
    idle: Array  # (N,) EUR/kWh: the position where p = 0
    eps: Array  # () (EUR/kWh)/kW
    half_fee: Array  # () EUR/kWh
    limits: Limits


class Homes(NamedTuple):
    """Everybody's answer to some prices."""

    injection: Array  # (N,) kW
    market_price: Array  # (N,) EUR/kWh


class Totals(NamedTuple):
    """What the dual function needs of these answers: sums over all homes, and by controllable bus."""

    power: Array  # () kW
    slope: Array  # () kW per EUR/kWh
    power_at_bus: Array  # (G,)
    slope_at_bus: Array  # (G,)


class Point(NamedTuple):
    """The dual function at some prices."""

    prices: Prices
    gradient: Prices  # kW
    rows: Array  # (R,) kW
    slope: Array  # () kW per EUR/kWh
    slope_at_bus: Array  # (G,)


def make_setup(problem: SlotProblem, newton: Settings) -> Setup:
    """What all evaluations of a slot have in common."""
    eps = _pull(problem, newton)
    pieces = problem.pieces()
    found, position = _positions(pieces, problem.base, eps)
    half_fee, lowest, highest = pool_range(problem)
    return Setup(
        pieces=pieces,
        base=problem.base,
        position=position,
        corners=found,
        idle=_idle_position(position, found.power),
        eps=eps,
        half_fee=half_fee,
        limits=_limits(problem, newton, lowest, highest),
    )


def _limits(problem: SlotProblem, newton: Settings, lowest: Array, highest: Array) -> Limits:
    dtype, size = problem.load.dtype, problem.load.shape[0]
    unit = problem.price_scale / problem.power_scale
    # What a row is beyond its limit costs its whole penalty, what it is inside only its price: so the aim is
    # inside, and an answer within the tolerance of the aim keeps the limit itself.
    tolerance = AIM * row_tolerance(problem, flow=newton.eps_flow, voltage=newton.eps_voltage)
    tolerance = jnp.minimum(tolerance, (problem.row_upper - problem.row_lower) / 4)
    inside = jax.lax.stop_gradient(tolerance)
    damping = (
        jnp.asarray(x, dtype) * (size / unit).astype(dtype) for x in (newton.damping, newton.row_damping)
    )
    return Limits(
        lowest=lowest,
        highest=highest,
        penalty=problem.row_penalty,
        damping=Prices(*damping),
        row_upper=problem.row_upper - inside,
        row_lower=problem.row_lower + inside,
        row_tolerance=jnp.maximum(tolerance, jnp.finfo(dtype).tiny),
        allowed=allowed_loss(problem, newton).astype(dtype),
        price_scale=problem.price_scale,
    )


def _pull(problem: SlotProblem, newton: Settings) -> Array:
    """() (EUR/kWh)/kW, eps."""
    return (newton.proximal * (problem.price_scale / problem.power_scale)).astype(problem.load.dtype)


def _positions(pieces: Pieces, base: Array, eps: Array) -> tuple[Response, Array]:
    found = corners(pieces, base)
    return found, found.price + eps * found.power


def pool_range(problem: SlotProblem) -> tuple[Array, Array, Array]:
    """() each: half the fee of a trade, the least and the greatest price of the pool, EUR/kWh."""
    fee = problem.market.fee_of_all(problem.price_buy - problem.price_sell)
    return fee / 2, problem.price_sell + fee / 2, problem.price_buy - fee / 2


def _idle_position(position: Array, power: Array) -> Array:
    """(N,) the position at which a home's injection crosses zero; infinite where it never does."""
    zero = jnp.zeros_like(power[0])
    (low, high), (left, right) = between(power, zero, power, position)
    span = high - low
    idle = left + (right - left) * jnp.where(span > 0, -low / jnp.where(span > 0, span, 1), 0)
    # below the curve it would always sell, above it always buy
    return jnp.where(low > 0, -jnp.inf, jnp.where(high < 0, jnp.inf, idle))


def home_answers(
    position: Rows, power: Rows, *, idle: Array, shift: Array, sell: Array, buy: Array
) -> tuple[Array, Array, Array]:
    """p (N,) in kW, its slope (N,) in kW per EUR/kWh and the market price (N,) that it answers.

    position, power: of the corners, (M, N) or M rows, as a kernel has them; shift (N,) EUR/kWh: eps pbar less
    what the network takes off; sell, buy () EUR/kWh: what a seller gets and a buyer pays.
    """
    alone = idle - shift  # the price at which the home needs nobody
    market_price = clamp(alone, sell, buy)
    at = shift + market_price
    (left, right), (low, high) = between(position, at, position, power)
    width = right - left
    slope = jnp.where(width > 0, (high - low) / jnp.where(width > 0, width, 1), 0)
    answer = low + slope * clamp(at - left, 0, width)
    keeps = (alone > sell) & (alone < buy)
    return jnp.where(keeps, 0, answer), jnp.where(keeps, 0, slope), market_price


def trading_prices(sell: Array, buy: Array, half_fee: Array, pool: Array) -> tuple[Array, Array]:
    """() what a seller gets and a buyer pays; sell, buy: what the utility pays and takes; pool: the price."""
    return jnp.maximum(sell, pool - half_fee), jnp.minimum(buy, pool + half_fee)


def evaluate(problem: SlotProblem, setup: Setup, prices: Prices, centre: Array) -> tuple[Homes, Totals]:
    """Everybody's answer to some prices, around a centre (N,) kW."""
    sell, buy = trading_prices(problem.price_sell, problem.price_buy, setup.half_fee, prices.pool)
    shift = setup.eps * centre - nodal_surcharge(problem, prices.rows)
    power, slope, market_price = home_answers(
        setup.position, setup.corners.power, idle=setup.idle, shift=shift, sell=sell, buy=buy
    )
    both = jnp.stack([power, slope])
    return Homes(power, market_price), Totals(*jnp.sum(both, axis=1), *problem.feeder.bus_sum(both))


def point(limits: Limits, prices: Prices, totals: Totals, rows: Array) -> Point:
    """The dual function where the homes answer so; rows (R,) kW are the values of the rows then."""
    over, under = rows - limits.row_upper, rows - limits.row_lower
    outside = jnp.maximum(over, 0) + jnp.minimum(under, 0)
    priced = jnp.where(prices.rows > 0, over, jnp.where(prices.rows < 0, under, outside))
    return Point(prices, Prices(-totals.power, priced), rows, totals.slope, totals.slope_at_bus)


def allowed_loss(problem: SlotProblem, newton: Settings) -> Array:
    """() EUR/h that the answer may cost above the optimum when the iteration stops: half of the tolerance."""
    return 0.5 * newton.eps_gap * gap_scale(problem, jnp.zeros_like(problem.slot_hours)) / problem.slot_hours


def imbalance(limits: Limits, at: Point) -> tuple[Array, Array]:
    """() the worst row violation over its tolerance, and () EUR/h lost by imbalance and slack."""
    row_price, rows = at.prices.rows, at.rows
    beyond = jnp.where(row_price > 0, rows - limits.row_upper, limits.row_lower - rows)
    paid = (jnp.abs(row_price) > SATURATED * limits.penalty) & (beyond > 0)
    outside = jnp.maximum(jnp.maximum(rows - limits.row_upper, limits.row_lower - rows), 0)
    violation = jnp.max(jnp.where(paid, 0, outside / limits.row_tolerance), initial=0)
    slack = jnp.sum(jnp.where(paid | (row_price == 0), 0, jnp.abs(row_price) * jnp.abs(beyond)))
    # a limit that is passed and has no price yet will cost about what prices differ by
    slack = slack + limits.price_scale * jnp.sum(jnp.where(row_price == 0, outside, 0))
    surplus = -at.gradient.pool
    over, under = jnp.maximum(surplus, 0), jnp.maximum(-surplus, 0)
    utility = over * (at.prices.pool - limits.lowest) + under * (limits.highest - at.prices.pool)
    return violation, slack + utility


def pull_cost(
    pieces: Pieces, base: Array, *, injection: Array, price: Array, centre: Array, eps: Array
) -> Array:
    """(N,) EUR/h that the pull to the centre costs at most, of homes that answer a nodal price so.

    With q an answer to the price without the pull, p costs at most eps |p - pbar| |p - q| more.
    """
    least, most = power_range(pieces, base, price, price)
    away = jnp.abs(injection - clamp(injection, least, most))
    return eps * jnp.abs(injection - centre) * away


def total_pull_cost(
    problem: SlotProblem, setup: Setup, homes: Homes, row_price: Array, centre: Array
) -> Array:
    """() EUR/h, of all homes."""
    price = homes.market_price - nodal_surcharge(problem, row_price)
    cost = pull_cost(
        setup.pieces, setup.base, injection=homes.injection, price=price, centre=centre, eps=setup.eps
    )
    return jnp.sum(cost)
