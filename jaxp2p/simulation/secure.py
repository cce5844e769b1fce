"""A market that is secure in AC: clear, look at the power flow of the dispatch, mend the rows, clear again.

The rows of the network are linear in the injections, and losses make their values other than they are: by the
offset

    o' = a(p) - A p

they have at the dispatch p the values a(p) of its AC power flow. With o' in place of o the market is cleared
again from where it stood, until a(p) is inside all limits. As A is nearly the derivative of a, every round
leaves some hundredths of the violation before: successive linearisation with the linear model's sensitivities
(as the DC power flow with loss offsets of Litvinov et al., Marginal loss modeling in LMP calculation, IEEE
Transactions on Power Systems 19, 2004). A slot whose first dispatch is inside is left as it is, but for
one more round where a limit has a price and room in AC: losses take off what homes feed in.

`Feeder.rounds` says how many times a slot is cleared at most, 1 leaves the market linear.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import stop_gradient

from jaxp2p.model.devices.arrays import Values, namespace
from jaxp2p.model.network import Base, Flow, flow_of
from jaxp2p.model.types import Community
from jaxp2p.slot import solvers
from jaxp2p.slot.execute import SlotResult
from jaxp2p.slot.problem import SlotProblem
from jaxp2p.slot.rows import excess_of
from jaxp2p.slot.solvers import Outcome, Solver, State
from jaxp2p.slot.status import Status

MARGIN = 0.5  # of the tolerance, by which mended rows are narrower: room for what the solver leaves
PATIENCE = 2  # rounds, of a slot in which more of them help little
ROOM, CHEAP = (
    3.0,
    0.01,
)  # what a limit in use may be away, in tolerances; what counts as its price, in tariffs


class Check(NamedTuple):
    """The network in AC under a dispatch."""

    value: Array  # (R,) kW, of the rows
    offset: Array  # (R,) kW, with which the rows have these values
    beyond: Array  # (R,) kW outside the limits
    excess: Array  # (R,) the same, over what counts as kept
    flow: Flow


class Secured(NamedTuple):
    """A slot that has been cleared."""

    problem: SlotProblem  # with the rows of the last round
    outcome: Outcome
    check: Check | None  # None: a linear market
    rounds: Array  # () int32
    iterations: Array  # () int32, of all rounds


class _Attempt(NamedTuple):
    outcome: Any  # of the last round
    used: Array  # (R,) kW, offsets of the last round
    state: State  # warm start of the next
    check: Check
    rounds: Array
    iterations: Array
    again: Array  # () bool


def asked(community: Community) -> bool:
    """Whether the market is to be secure in AC; known from the structure."""
    return community.feeder.rounds > 1 and community.feeder.rows > 0


def linear(problem: SlotProblem, outcome: Outcome) -> Secured:
    """A slot that is cleared once, whatever its power flow."""
    return Secured(problem, outcome, None, jnp.ones((), jnp.int32), outcome.answer.iterations)


def power_flow_of(community: Community, base: Base, injection: Values) -> Flow:
    """The AC power flow when the homes inject (..., N) kW beside what `base` holds; NumPy or JAX."""
    moved = namespace(injection).where(community.moving, injection, 0)
    return flow_of(community.network, base, community.network.at_buses(moved, community.prosumers.bus))


def check(community: Community, base: Base, problem: SlotProblem, injection: Array) -> Check:
    """What the dispatch (N,) kW does to the network in AC."""
    feeder, network = community.feeder, community.network
    flow = power_flow_of(community, base, injection)
    value = feeder.in_ac(network, flow, base.reactive)
    at_bus = feeder.bus_sum(injection)
    offset = value - feeder.values(at_bus, jnp.zeros_like(value))
    beyond = excess_of(problem, value)
    return Check(value, offset, beyond, beyond / feeder.fine(network), flow)


def mended(community: Community, problem: SlotProblem, offset: Array, before: Array) -> SlotProblem:
    """The slot after so many rounds: with these offsets, its limits narrower by what the solver may leave."""
    first = before == 0
    margin = MARGIN * community.feeder.fine(community.network)
    room = jnp.maximum(problem.row_upper - problem.row_lower, 0)
    margin = jnp.where(first, 0, jnp.minimum(margin, 0.25 * room))
    return replace(
        problem,
        row_offset=jnp.where(first, problem.row_offset, offset),
        row_lower=problem.row_lower + margin,
        row_upper=problem.row_upper - margin,
    )


def go_on(
    community: Community, problem: SlotProblem, result: SlotResult, found: Check, rounds: Array
) -> Array:
    """() bool: whether to clear once more, after so many rounds; problem: as it was posed.

    Outside a limit, as often as there are rounds, but where limits cost the whole penalty no more than
    PATIENCE. Inside, as often as they cost it, and so often where one costs anything that its power flow does
    not come near.
    """
    status = result.status
    outside = jnp.max(found.excess, initial=0) > 1
    paid = status == Status.NETWORK_VIOLATED  # in the linear network, where a violation may be none
    broken = (status == Status.MAX_ITER) | (status == Status.NUMERICAL_ERROR)
    early = rounds < PATIENCE
    idle = early & _idle(community, problem, result, found)
    more = jnp.where(outside, ~paid | early, paid | idle)
    return more & ~broken & (rounds < community.feeder.rounds)


def _idle(community: Community, problem: SlotProblem, result: SlotResult, found: Check) -> Array:
    """() bool: whether a row has a price, and in AC room to its limit."""
    price = result.dispatch.row_price
    room = jnp.where(price > 0, problem.row_upper - found.value, found.value - problem.row_lower)
    dear = jnp.abs(price) > CHEAP * problem.price_scale
    return jnp.any(dear & (room > ROOM * community.feeder.fine(community.network)))


def solve(
    community: Community,
    base: Base,
    problem: SlotProblem,
    solver: Solver,
    state: State,
    *,
    adjoint: str | None = None,
) -> Secured:
    """Clear a slot until it is secure, from the state of the last one.

    adjoint as in `slot.solvers.solve`: the derivative is that of the last round, its offsets held fast.
    """
    if not asked(community):
        warm = solvers.warm(problem, solver, state)
        return linear(problem, solvers.solve(problem, solver, warm, adjoint=adjoint))
    fixed = (community, base, problem, solver, state)
    found = _rounds(*(stop_gradient(fixed) if adjoint else fixed))
    last, outcome = mended(community, problem, found.used, found.rounds - 1), found.outcome
    if adjoint:
        outcome = solvers.solve(last, solver, stop_gradient(found.state), adjoint=adjoint)
    return Secured(last, outcome, found.check, found.rounds, found.iterations)


def _rounds(community: Community, base: Base, problem: SlotProblem, solver: Solver, state: State) -> _Attempt:
    @jax.jit  # traced once, for its shapes and for the loop
    def attempt(offset: Array, state: State, before: Array, iterations: Array) -> _Attempt:
        posed = mended(community, problem, offset, before)
        outcome = solvers.solve(posed, solver, solvers.warm(posed, solver, state))
        result = solvers.executed(posed, outcome)
        found = check(community, base, problem, result.dispatch.injection)
        rounds = before + 1
        again = go_on(community, problem, result, found, rounds)
        used, total = posed.row_offset, iterations + result.iterations
        return _Attempt(outcome, used, outcome.state, found, rounds, total, again)

    none = jnp.zeros((), jnp.int32)
    shape = jax.eval_shape(attempt, problem.row_offset, state, none, none)
    begin = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shape)
    begin = begin._replace(state=state, again=jnp.ones((), bool))
    after = lambda found: attempt(found.check.offset, found.state, found.rounds, found.iterations)
    return jax.lax.while_loop(lambda found: found.again, after, begin)


def verdict(result: SlotResult, secured: Secured) -> SlotResult:
    """What is said of a slot whose power flow is known: its violation is that of the power flow."""
    if secured.check is None:
        return result
    excess = secured.check.excess
    row = jnp.argmax(excess).astype(jnp.int32)
    beyond, outside = secured.check.beyond[row], excess[row] > 1
    status = result.status
    calm = (status == Status.SOLVED) | (status == Status.UNSERVED)
    status = jnp.where(outside & calm, Status.NOT_SECURE, status)
    return result._replace(
        status=status.astype(jnp.int32), violation=beyond, violation_row=row, iterations=secured.iterations
    )
