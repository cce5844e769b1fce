"""The level of all prices at once: what single trades take thousands of iterations to agree on.

Where a community as a whole lacks or spares a little energy and nobody's devices answer, every iteration moves
every price by the same small amount, penalty times what is left over per trade, until the first member reaches
a tariff. So where the residuals are small and the gap is not, the level is also tried with the dearest member
at the upper tariff and with the cheapest at the lower one: two more evaluations of a certificate, which says
which of them is best. From there the iteration goes on as from any other start.
"""

import jax
import jax.numpy as jnp
from jax import Array

from jaxp2p.admm.state import State
from jaxp2p.slot.answer import Answer
from jaxp2p.slot.execute import finish
from jaxp2p.slot.gap import price_limits
from jaxp2p.slot.problem import SlotProblem

CLEARLY = 0.7  # share of the gap below which another level is taken


def better_level(problem: SlotProblem, answer: Answer, gap: Array) -> Array:
    """() EUR/kWh by which all market prices of an answer with this gap () should move; mostly 0."""
    low, high = price_limits(problem)
    at = answer.market_price
    up = jnp.min(jnp.where(at < problem.price_buy, problem.price_buy - at, jnp.inf))
    down = jnp.max(jnp.where(at > problem.price_sell, problem.price_sell - at, -jnp.inf))
    shifts = jnp.stack([up, down])
    shifts = jnp.where(jnp.isfinite(shifts), shifts, 0)

    def gap_at(shift: Array) -> Array:
        price = jnp.clip(at + shift, low, high)
        moved = answer._replace(market_price=price, trade_price=answer.trade_price + shift)
        return finish(problem, moved).gap

    gaps = jax.lax.map(gap_at, shifts)
    best = jnp.argmin(gaps)
    return jnp.where(gaps[best] < CLEARLY * gap, shifts[best], 0)


def shift_level(state: State, shift: Array) -> State:
    """The state with all market prices moved by `shift` () EUR/kWh."""
    return state._replace(trade_dual=state.trade_dual - shift / state.rho[0], price=state.price + shift)
