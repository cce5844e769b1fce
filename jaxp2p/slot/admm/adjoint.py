"""Derivatives of a solved slot: through a fixed number of iterations, or at the fixed point.

"unroll": `solve_fixed`, differentiated step by step. Derivatives of what was computed, converged or not.

"implicit": the solution does not depend on how it was found. With v the consensus variable of one iteration
(relaxed answers plus scaled duals; copies and duals are both functions of it), v = T(v, problem) at the
solution, so

    dv = (I - dT/dv)^+ dT/dproblem dproblem.

T is the Douglas-Rachford operator of the slot (Eckstein and Bertsekas 1992): in the norm of the penalties
it is averaged, so I - dT/dv has the same null space from both sides, and this null space is where the prices
are not unique (nobody trades, equal tariffs). The pseudo-inverse moves nothing in it: no NaN there, and the
least motion of the prices that explains the motion of everything else. It is found by conjugate gradients on
the normal equations (`jax.scipy.sparse.linalg.cg`), which need no more than dT/dv and its transpose.

Kinks: the derivative is that of the pieces on which the solver stopped (see `slot.prox.sensitivity`);
tolerances so loose that a home stops on the wrong piece give the derivative of that piece. Dispatch: an idle
device moves with its limit only; a capacity of zero has one side only, and what is returned lies between its
two slopes; homes at the same jump, or trades that may be shared out differently, are not unique, and only
what they all agree on (costs, prices away from ties) has a derivative that means anything.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.sparse.linalg import cg

from jaxp2p._pytree import record, static
from jaxp2p.slot.admm import solver
from jaxp2p.slot.admm.feeder import RowsAtWork, moving_with, row_prices
from jaxp2p.slot.admm.solver import Outcome, Settings, State, at_work, end_of, step
from jaxp2p.slot.problem import SlotProblem
from jaxp2p.slot.prox.prosumer import ProsumerUpdate, curve
from jaxp2p.slot.prox.sensitivity import with_derivative_of
from jaxp2p.slot.rows import nodal_surcharge

ADJOINTS = ("unroll", "implicit")


@record
class Linear:
    """When the linear solve of the implicit derivative stops.

    A tolerance below what rounding allows (1e-12, float32 1e-6) is never met, and where prices are not unique
    the iteration then drifts away.
    """

    tol: float | Array | None = None  # of the residual of the normal equations; None: 1e-10, float32 1e-5
    max_iter: int = static(default=2000)


class Consensus(NamedTuple):
    """v: what one iteration hands to the next, in the norm of the penalties: (EUR/kWh kW)^(1/2)."""

    trades: Array  # (K, N) sqrt(rho) (a + u)
    injection: Array  # (N,) sqrt(rho_n) (z + surcharge / rho_n)


def solve(
    problem: SlotProblem,
    admm: Settings,
    state: State,
    *,
    adjoint: str = "implicit",
    iterations: int | None = None,
    linear: Linear | None = None,
) -> Outcome:
    """A solved slot with derivatives in both modes, under jit and vmap.

    adjoint "unroll" makes exactly `iterations` steps with constant penalties and has the derivatives of these
    steps, also with respect to `admm` and `state`. "implicit" iterates to the tolerance, or for exactly
    `iterations` steps if they are given, and has the derivatives of the solution with respect to `problem`;
    those with respect to `admm` and `state` are zero, as those of the residuals are. Raises ValueError for
    another adjoint, and for "unroll" without iterations.
    """
    if adjoint not in ADJOINTS:
        raise ValueError(f"unknown adjoint {adjoint!r}: choose from {', '.join(ADJOINTS)}")
    if adjoint == "unroll":
        if iterations is None:
            raise ValueError("adjoint 'unroll' needs a number of iterations")
        return solver.solve_fixed(problem, admm, state, iterations)[0]
    fixed = jax.lax.stop_gradient((problem, admm, state))
    outcome = solver.solve(*fixed) if iterations is None else solver.solve_fixed(*fixed, iterations)[0]
    return at_solution(problem, fixed[1], outcome, linear=linear)


def at_solution(
    problem: SlotProblem, admm: Settings, outcome: Outcome, *, linear: Linear | None = None
) -> Outcome:
    """`outcome`, bit by bit, as a function of the problem that it solves: "implicit" for any ADMM outcome."""
    admm, star = jax.lax.stop_gradient((admm, outcome.state))
    fixed_work = at_work(jax.lax.stop_gradient(problem), admm, star)
    leaves, tree = jax.tree.flatten(problem)
    numbers = [jnp.issubdtype(x.dtype, jnp.inexact) for x in leaves]

    def iterate(moving: list[Array], v: Consensus):
        values = iter(moving)
        own = [next(values) if n else x for n, x in zip(numbers, leaves, strict=True)]
        problem: SlotProblem = jax.tree.unflatten(tree, own)
        work = moving_with(problem, fixed_work)
        old = copies(problem, star, v, work)
        new, update = step(problem, admm, curve(problem.response(), star.rho[1]), old, work)
        return consensus(problem, new), (*old[:4], *update)

    moving = [x for n, x in zip(numbers, leaves, strict=True) if n]
    fixed, at = jax.lax.stop_gradient((moving, consensus(problem, star)))
    _, motion = jax.linearize(iterate, fixed, at)
    # zeros that move like the problem: `motion` is linear, so what it gives are zeros with the derivative
    pushes = [with_derivative_of(jnp.zeros_like(x), x) for x in moving]
    still = jax.tree.map(jnp.zeros_like, at)
    pushed = motion(pushes, still)[0]
    residual = lambda x: jax.tree.map(jnp.subtract, x, motion([jnp.zeros_like(x) for x in moving], x)[0])
    moved = motion(pushes, least_squares(residual, pushed, linear or Linear()))[1]
    update = with_derivative_of(outcome.update, ProsumerUpdate(*moved[4:]))
    state = (*with_derivative_of(tuple(star[:4]), moved[:4]), update.market_price, *star[5:])
    moving_outcome = outcome._replace(state=State(*state), update=update, result=None)
    return moving_outcome._replace(answer=end_of(problem, admm, moving_outcome, outcome.answer))


def consensus(problem: SlotProblem, state: State) -> Consensus:
    """v of a state."""
    injection = state.injection + nodal_surcharge(problem, state.row_price) / state.rho[1]
    rho, rho_n = jnp.sqrt(state.rho)
    return Consensus(rho * (state.trades + state.trade_dual), rho_n * injection)


def copies(problem: SlotProblem, like: State, v: Consensus, work: RowsAtWork | None) -> State:
    """The state with consensus variable v, penalties and the rest from `like`: block 2 of an iteration."""
    rho, rho_n = jnp.sqrt(like.rho)
    wished, injection = v.trades / rho, v.injection / rho_n
    trades = problem.market.project(wished)
    dual = problem.market.rest(wished)
    state = like._replace(trades=trades, trade_dual=dual, injection=injection)
    if work is None:
        return state
    rho_n = like.rho[1]
    none = jnp.zeros(work.chosen.shape, injection.dtype)
    price = row_prices(problem, work, none, problem.feeder.bus_sum(injection), rho_n)
    every = like.row_price.at[work.chosen].set(price)
    surcharge = nodal_surcharge(problem, every)
    return state._replace(injection=injection - surcharge / rho_n, row_price=every)


def least_squares(matrix, right: Consensus, linear: Linear) -> Consensus:
    """The smallest x that minimises |matrix(x) - right|, for a linear function; its transpose alike."""
    tol = linear.tol
    if tol is None:
        tol = 1e-10 if right.injection.dtype == jnp.float64 else 1e-5

    def solve(matrix, right):
        transposed = jax.linear_transpose(matrix, right)
        back = lambda y: transposed(y)[0]
        # no less than rounding: where prices are not unique, `back(right)` may be nothing else
        size = jnp.sqrt(sum(jnp.vdot(x, x) for x in right))
        least = 10 * jnp.finfo(size.dtype).eps * size
        return cg(lambda x: back(matrix(x)), back(right), tol=tol, atol=least, maxiter=linear.max_iter)[0]

    return jax.lax.custom_linear_solve(matrix, right, solve, transpose_solve=solve)
