"""The level of all prices at once: what single trades take thousands of iterations to agree on.

Where a community as a whole lacks or spares a little energy and nobody's devices answer, every iteration
moves every price by the same small amount, penalty times what is left over per trade, until the first member
reaches a tariff. So where the residuals are small and the gap is not, the level is also tried with the
dearest member at the upper tariff and with the cheapest at the lower one: two more evaluations of a
certificate, which says which of them is best. From there the iteration goes on as from any other start.
"""

import jax
import jax.numpy as jnp
from jax import Array

from jaxp2p.admm.state import State
from jaxp2p.slot.answer import Answer
from jaxp2p.slot.execute import finish
from jaxp2p.slot.gap import price_limits
from jaxp2p.slot.problem import SlotProblem
from jaxp2p.slot.status import Status

CLEARLY = 0.7  # share of the gap below which another level is taken


def best_level(problem: SlotProblem, answer: Answer, eps_gap: Array, *, also: Array) -> tuple[Array, Array]:
    """Gap of an answer over eps_gap of its scale, and by how much all market prices should move, EUR/kWh.

    The first is infinite where the verdict is not a solution. The second is 0 unless `also` () bool asks for
    other levels, the slot is not solved, and one of them is clearly better.
    """
    low, high = price_limits(problem)
    at = answer.market_price
    up = jnp.min(jnp.where(at < problem.price_buy, problem.price_buy - at, jnp.inf))
    down = jnp.max(jnp.where(at > problem.price_sell, problem.price_sell - at, -jnp.inf))
    shifts = jnp.stack([jnp.zeros_like(up), up, down])
    shifts = jnp.where(jnp.isfinite(shifts), shifts, 0)

    def look(k: Array, gaps: Array) -> Array:
        price = jnp.clip(at + shifts[k], low, high)
        result = finish(
            problem, answer._replace(market_price=price, trade_price=answer.trade_price + shifts[k])
        )
        failed = (result.status == Status.MAX_ITER) | (result.status == Status.NUMERICAL_ERROR)
        excess = result.gap / (eps_gap * result.gap_scale)
        return gaps.at[k].set(jnp.where(failed & (excess <= 1), jnp.inf, excess))

    # one copy of the certificate in the program, as many turns as are asked for
    gaps = jnp.full((3,), jnp.inf, at.dtype)
    gaps = jax.lax.fori_loop(0, jnp.where(also, 3, 1), look, gaps)
    best = jnp.argmin(gaps)
    better = also & (gaps[0] > 1) & (gaps[best] < CLEARLY * gaps[0])
    return gaps[0], jnp.where(better, shifts[best], 0)


def shift_level(state: State, shift: Array) -> State:
    """The state with all market prices moved by `shift` () EUR/kWh."""
    return state._replace(trade_dual=state.trade_dual - shift / state.rho[0], price=state.price + shift)
