"""Where all prices go from one slot to the next, before the iteration begins.

From slot to slot the prices of a community move together, by ten times as much as they move against each
other: the sun, the load and the tariffs are the same for all. Consensus ADMM is slow in just that: where
devices hardly answer, every iteration moves every price by the same small amount. But along this one
direction the dual value is a function of a single number, and its slope is what the members between the
tariffs buy less what they sell,

    dD/dshift = -sum_{i: s < mu_i + shift < b} p_i(mu_i + shift - surcharge_i),

since who is at a tariff deals with the utility. So the shift at which it vanishes is found by bisection.
"""

import jax
import jax.numpy as jnp
from jax import Array

from jaxp2p.slot.admm.feeder import any_at_work
from jaxp2p.slot.admm.state import State
from jaxp2p.slot.problem import SlotProblem
from jaxp2p.slot.prox.response import power_range
from jaxp2p.slot.rows import nodal_surcharge

STEPS = 12  # of the bisection: to a two-thousandth of the tariffs' spread, if prices were within it


def levelled(problem: SlotProblem, state: State) -> State:
    """The state with all prices shifted to where members between the tariffs are in balance.

    Injections are what devices answer there, if the network has room for that: from injections far beyond
    its limits the prices of rows find back in thousands of iterations. Nothing is done where a connection has
    a limit: members have prices of their own then, also beyond the tariffs.
    """
    if not problem.market.fee.shape[0] or problem.unserved_price is not None:
        return state
    pieces, buy, sell = problem.pieces(), problem.price_buy, problem.price_sell
    surcharge = nodal_surcharge(problem, state.row_price)

    def power(price: Array) -> Array:
        """The most (N,) kW that devices answer with."""
        return power_range(pieces, problem.base, price - surcharge, price - surcharge)[1]

    def halve(_, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = low + (high - low) / 2
        price = state.price + middle
        between = (price > sell) & (price < buy)
        short = jnp.sum(jnp.where(between, power(price), 0)) < 0
        return jnp.where(short, middle, low), jnp.where(short, high, middle)

    ends = sell - jnp.max(state.price), buy - jnp.min(state.price)
    low, high = jax.lax.fori_loop(0, STEPS, halve, ends)
    shift = jax.lax.stop_gradient(low + (high - low) / 2)  # a start has no part in any derivative
    price = jnp.clip(state.price + shift, sell, buy)
    dual = state.trade_dual - shift / state.rho[0]
    answered = power(price)
    crowded = any_at_work(problem, state.row_price, problem.feeder.bus_sum(answered))
    injection = jnp.where(crowded, state.injection, answered)
    return state._replace(price=price, trade_dual=dual, injection=injection)
