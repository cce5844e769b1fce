"""What Newton's method leaves unsolved, by ADMM from the prices at hand.

Where many rows of a network bind at once, some against each other, a step on the costliest few may circle.
ADMM has no such trouble, only more iterations; a slot in fifty of the hardest kind needs it.
"""

import jax
import jax.numpy as jnp
from jax import Array

from jaxp2p._once import once_if
from jaxp2p._pytree import present
from jaxp2p.slot.admm.method import ADMM
from jaxp2p.slot.answer import Answer
from jaxp2p.slot.execute import SlotResult
from jaxp2p.slot.newton.state import Settings, State
from jaxp2p.slot.problem import SlotProblem

Found = tuple[Answer, SlotResult]


def rescued(
    problem: SlotProblem, newton: Settings, state: State, found: Found, solved: Array
) -> tuple[State, Found]:
    """State, answer and its result: where the slot is not `solved` () bool those of ADMM, if it solves it."""
    by_admm = lambda now: _by_admm(problem, newton, now[0], now[1], solved)
    return once_if(~solved, by_admm, (state, found))


def _by_admm(
    problem: SlotProblem, newton: Settings, state: State, before: Found, solved: Array
) -> tuple[State, Found]:
    other = ADMM(
        eps_gap=newton.eps_gap,
        eps_flow=newton.eps_flow,
        eps_voltage=newton.eps_voltage,
        kernels=newton.kernels,
    )
    start, (answer, result) = other.init(problem), before
    dual = jnp.full_like(start.trade_dual, -state.price / start.rho[0])
    start = start._replace(
        trade_dual=dual, injection=answer.injection, row_price=answer.row_price, price=answer.market_price
    )
    search = other.begin(problem, start)
    # a batch runs both branches: what is solved takes no iteration
    done = search.residuals._replace(
        gap=jnp.where(solved, 0, search.residuals.gap),
        row_excess=jnp.where(solved, 0, search.residuals.row_excess),
    )
    going = lambda search: other.running(search)
    onwards = lambda search: other.advance(problem, search)
    outcome = other.end(problem, jax.lax.while_loop(going, onwards, search._replace(residuals=done)))
    better, found = outcome.residuals.converged, outcome.answer
    price = jnp.reshape(found.trade_price, (-1,))[0] if found.trade_price.size else state.price
    found = found._replace(trade_price=jnp.reshape(price, answer.trade_price.shape))
    moved = State(price, found.row_price, outcome.state.injection)
    kept = (moved, found, present(outcome.result)), (state, answer, result)
    state, answer, result = jax.tree.map(lambda a, b: jnp.where(better, a, b), *kept)
    iterations = before[0].iterations + outcome.iterations
    return state, (answer._replace(iterations=iterations), result._replace(iterations=iterations))
