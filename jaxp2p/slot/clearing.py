"""The pool without network, cleared exactly by bisection on its one price: an oracle beside ADMM.

At pool price pi a member sells at max(s, pi - fee/2) and buys at min(b, pi + fee/2); between the two it
keeps to itself. Its answer is closed form, and the net sales of all members rise with pi, so bisection
finds the price at which they cross zero. The dual value there is the optimum (strong duality).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxp2p.prox.response import Pieces, corners, price_on_polyline, ramp, shares_at
from jaxp2p.slot.execute import Dispatch, devices_of, slot_cost, storage_drift
from jaxp2p.slot.problem import SlotProblem


class PoolClearing(NamedTuple):
    """Price and optimal value of a pool slot."""

    price: Array  # () EUR/kWh, pi
    value: Array  # () EUR, optimum of slot cost plus drift
    nodal_price: Array  # (N,) EUR/kWh, nu
    injection: Array  # (N,) kW, an optimal one (members at a jump may share it differently)


def clear_pool(problem: SlotProblem, *, steps: int = 100) -> PoolClearing:
    """Clear a pool slot; raises ValueError where one price is not enough (network, limits, other markets)."""
    if problem.market.kind != "pool" or problem.feeder is not None or problem.unserved_price is not None:
        raise ValueError("clear_pool needs a pool without network and without connection limits")
    pieces = problem.pieces()
    fee = problem.market.fee[0, 0]
    lowest = jnp.minimum(jnp.min(pieces.start), problem.price_sell) - 1
    highest = jnp.maximum(jnp.max(pieces.end), problem.price_buy) + 1
    alone = _balance_price(problem, pieces, lowest, highest, steps)

    def bids(price: Array) -> tuple[Array, Array]:
        return jnp.maximum(problem.price_sell, price - fee / 2), jnp.minimum(
            problem.price_buy, price + fee / 2
        )

    def net_sales(price: Array) -> Array:
        sell, buy = bids(price)
        sold = jnp.maximum(_power(problem, pieces, sell, after=True), 0)
        bought = jnp.minimum(_power(problem, pieces, buy, after=False), 0)
        with_sales = jnp.where(price - fee / 2 > problem.price_sell, jnp.sum(sold), 0)
        return with_sales + jnp.where(price + fee / 2 < problem.price_buy, jnp.sum(bought), 0)

    half = fee / 2
    price = _bisect(net_sales, problem.price_sell - half, problem.price_buy + half, steps)
    sell, buy = bids(price)
    nu = jnp.clip(alone, sell, buy)
    power = jnp.where(nu > alone, _power(problem, pieces, nu, after=True), 0)
    power = jnp.where(nu < alone, _power(problem, pieces, nu, after=False), power)
    slope = problem.price_scale / problem.power_scale
    exact = price_on_polyline(corners(pieces, problem.base), price=nu, power=power, slope=slope)
    shares = shares_at(pieces, problem.base, price=exact, power=power)
    load, pv_used, charge, discharge = devices_of(problem, shares, pieces)
    none = jnp.zeros_like(power)
    alone_dispatch = Dispatch(
        injection=power,
        load=load,
        pv_used=pv_used,
        charge=charge,
        discharge=discharge,
        trades=jnp.zeros_like(problem.market.fee),
        buy=none,
        sell=none,
        unserved=none,
        trade_price=none[None, :],
        market_price=nu,
        nodal_price=nu,
        row_price=problem.row_offset,
    )
    paid = buy * jnp.maximum(-power, 0) - sell * jnp.maximum(power, 0)
    value = slot_cost(problem, alone_dispatch) + storage_drift(problem, alone_dispatch)
    return PoolClearing(price, jnp.sum(value + problem.slot_hours * paid), nu, power)


def _power(problem: SlotProblem, pieces: Pieces, price: Array, *, after: bool) -> Array:
    at = jnp.broadcast_to(price, problem.load.shape)
    return problem.base + jnp.sum(ramp(pieces, at, after=after) * pieces.gain, axis=0)


def _bisect(rising, low: Array, high: Array, steps: int) -> Array:
    """Where a non-decreasing function crosses zero, element by element."""

    def halve(_, ends):
        low, high = ends
        middle = low + (high - low) / 2
        up = rising(middle) > 0
        return jnp.where(up, low, middle), jnp.where(up, middle, high)

    low, high = jax.lax.fori_loop(0, steps, halve, (low, high))
    return low + (high - low) / 2


def _balance_price(problem: SlotProblem, pieces: Pieces, lowest: Array, highest: Array, steps: int) -> Array:
    """(N,) the nodal price at which a home needs nobody."""
    shape = problem.load.shape
    ends = jnp.broadcast_to(lowest, shape), jnp.broadcast_to(highest, shape)
    return _bisect(lambda nu: _power(problem, pieces, nu, after=True), *ends, steps)
