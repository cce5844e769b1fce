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

Inverters (`devices.inverter`) make the first round a hopeful one: its limits are as wide as all that they
can do. After it the rows have their own limits, and a(p) what the inverters do at p by their rule. As they
work against p, a moves by less than A p: from the third round on limits are as far from a(p) as the last two
rounds make them, (limit - a) / s with s = da / d(A p) of the row. Where the market itself chooses q, limits
stay wide, and a(p) counts without the q that it took to keep the voltages.

Losses can have a price (`Feeder.marginal`): from the second round on an injection pays w = c dL/dp at its
bus, c the price at which the community's connection deals with the utility, and devices, and with them
trades, reckon with it (marginal losses in nodal prices: Schweppe et al., Spot Pricing of Electricity, 1988).
As w is that of one dispatch, and what is curtailed goes where w is highest, it can cost more than it saves:
then it is halved, as often as there are rounds.

`Feeder.rounds` says how many times a slot is cleared at most, 1 leaves the market linear.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import stop_gradient

from jaxp2p.model.devices import inverter
from jaxp2p.model.network import Base, Flow, Limits
from jaxp2p.model.types import Community
from jaxp2p.simulation.flows import loss_shares, power_flow_of
from jaxp2p.slot import execute, solvers
from jaxp2p.slot.execute import Dispatch, SlotResult
from jaxp2p.slot.problem import SlotProblem
from jaxp2p.slot.rows import excess_of
from jaxp2p.slot.solvers import Outcome, Solver, State
from jaxp2p.slot.status import Status

MARGIN = 0.5  # of the tolerance, by which mended rows are narrower: room for what the solver leaves
PATIENCE = 2  # rounds, of a slot in which more of them help little
ROOM, CHEAP = 3.0, 0.01  # what a limit in use may be away, in tolerances; what is a price, in tariffs
LEAST_RESPONSE = 0.1  # of a row, of what it would be without inverters


class Losses(NamedTuple):
    """Losses and their price, in a market that prices them."""

    price: Array  # (N,) EUR/kWh injected, in another round
    cost: Array  # () EUR/h of the first round: of the homes, the storage value given up, and the losses
    worse: Array  # () bool: with a price they cost more


class Seen(NamedTuple):
    """The network under a dispatch."""

    linear: Array  # (R,) kW, A p
    value: Array  # (R,) kW, a(p)
    losses: Losses | None = None


class Mended(NamedTuple):
    """What another round is cleared with."""

    rows: Limits  # (R,) kW; with this offset they have the values that were seen
    loss_price: Array | None  # (N,) EUR/kWh injected; None: losses have no price


class Check(NamedTuple):
    """The network in AC under a dispatch."""

    seen: Seen
    mended: Mended
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
    used: Mended  # in the last round
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


def check(
    community: Community, base: Base, problem: SlotProblem, dispatch: Dispatch, last: Seen, before: Array
) -> Check:
    """What a dispatch does to the network in AC; problem: as it was posed.

    last: of the round before, of `before` rounds in all.
    """
    feeder, network, inverters = community.feeder, community.network, community.prosumers.inverters
    flow = power_flow_of(community, base, dispatch.injection, dispatch.pv_used)
    value = feeder.in_ac(network, flow, base.reactive)
    linear = feeder.values(feeder.bus_sum(dispatch.injection), jnp.zeros_like(value))
    seen, rows = Seen(linear, value), Limits(value - linear, problem.row_lower, problem.row_upper)
    if inverters is None:
        beyond = excess_of(problem, value)
    else:
        own = feeder.limits(network, base)
        beyond = excess_of(_with_rows(problem, own), value)
        if inverters.rule == inverter.MARKET:
            seen, rows = _without_support(community, flow, seen, rows, own)
        else:
            share = _response(seen, last, before)
            stretched = lambda limit: value + (limit - value) / share
            rows = Limits(rows.offset, stretched(own.lower), stretched(own.upper))
    price = None
    if last.losses is not None:
        losses = _losses(community, base, problem, dispatch, flow, last.losses, before)
        seen, price = seen._replace(losses=losses), losses.price
    return Check(seen, Mended(rows, price), beyond, beyond / feeder.fine(network), flow)


def _losses(
    community: Community,
    base: Base,
    problem: SlotProblem,
    dispatch: Dispatch,
    flow: Flow,
    last: Losses,
    before: Array,
) -> Losses:
    """After the first round their price; after a round that it made dearer, half of what it was."""
    imported = jnp.sum(dispatch.buy - dispatch.sell) + flow.losses
    price = jnp.where(imported > 0, problem.price_buy, problem.price_sell)
    own = execute.slot_cost(problem, dispatch) + execute.storage_drift(problem, dispatch)
    cost = jnp.sum(own) / problem.slot_hours + price * flow.losses
    shares = loss_shares(community, base, dispatch.injection, dispatch.pv_used, flow)
    first = before == 0
    worse = ~first & (cost > last.cost)
    return Losses(
        price=jnp.where(first, price * shares, jnp.where(worse, last.price / 2, last.price)),
        cost=jnp.where(first, cost, last.cost),
        worse=worse,
    )


def _response(now: Seen, last: Seen, before: Array) -> Array:
    """(R,) s of the formula, between the last two rounds; 1 where they say nothing."""
    moved = now.linear - last.linear
    told = (before > 0) & (jnp.abs(moved) > 1e3 * jnp.finfo(moved.dtype).eps * jnp.abs(now.linear))
    share = (now.value - last.value) / jnp.where(told, moved, 1)
    return jnp.where(told, jnp.clip(share, LEAST_RESPONSE, 1), 1)


def nothing_seen(problem: SlotProblem) -> Seen:
    """Before the first round."""
    none, losses = jnp.zeros_like(problem.row_offset), None
    if problem.loss_price is not None:
        losses = Losses(problem.loss_price, jnp.zeros_like(problem.price_buy), jnp.zeros((), bool))
    return Seen(none, none, losses)


def _without_support(
    community: Community, flow: Flow, seen: Seen, rows: Limits, own: Limits
) -> tuple[Seen, Limits]:
    """Values and rows in which voltages count as they would be without the q of the inverters."""
    feeder = community.feeder
    volts = feeder.voltage_bus.shape[0]
    given = community.network.lift(jnp.asarray(flow.support))[feeder.voltage_bus] / feeder.scale[:volts]
    of_branches = lambda wide, narrow: jnp.concatenate([wide[:volts], narrow[volts:]])
    return seen._replace(value=seen.value.at[:volts].add(-given)), Limits(
        rows.offset.at[:volts].add(-given),
        of_branches(rows.lower, own.lower),
        of_branches(rows.upper, own.upper),
    )


def _with_rows(problem: SlotProblem, rows: Limits) -> SlotProblem:
    return replace(problem, row_offset=rows.offset, row_lower=rows.lower, row_upper=rows.upper)


def rows_of(problem: SlotProblem) -> Limits:
    """Of a slot, as it was posed."""
    return Limits(problem.row_offset, problem.row_lower, problem.row_upper)


def mend(community: Community, problem: SlotProblem, by: Mended, before: Array) -> SlotProblem:
    """The slot after so many rounds: with its rows mended, narrower by what the solver may leave."""
    first = before == 0
    posed = rows_of(problem)
    offset, lower, upper = (jnp.where(first, old, new) for old, new in zip(posed, by.rows, strict=True))
    margin = MARGIN * community.feeder.fine(community.network)
    margin = jnp.where(first, 0, jnp.minimum(margin, 0.25 * jnp.maximum(upper - lower, 0)))
    again = _with_rows(problem, Limits(offset, lower + margin, upper - margin))
    return again if by.loss_price is None else replace(again, loss_price=by.loss_price)


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
    # what answers to the voltage has a kink at the end of its dead band, and may be asked too much at first
    inverters = community.prosumers.inverters
    patient = inverters is not None and inverters.answers
    idle = (early | patient) & _idle(community, problem, result, found)
    more = jnp.where(outside, ~paid | early, paid | idle)
    if found.seen.losses is not None:
        more |= early | found.seen.losses.worse  # losses are known from a power flow
    return more & ~broken & (rounds < community.feeder.rounds)


def turns(community: Community, again: Array, rounds: Array) -> Array:
    """() bool: condition of a loop over rounds, `again` from `go_on`.

    It is of two values, though the first says it all: where a condition is of a single one, XLA wants to know
    how often the loop turns, and copies its body, a whole solver, some thirty times to find that it cannot.
    """
    return again & (rounds < community.feeder.rounds)


def _idle(community: Community, problem: SlotProblem, result: SlotResult, found: Check) -> Array:
    """() bool: whether a row has a price, and in AC room to its limit."""
    price = result.dispatch.row_price
    value = found.seen.value
    rows = found.mended.rows
    room = jnp.where(price > 0, rows.upper - value, value - rows.lower)
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
    last, outcome = mend(community, problem, found.used, found.rounds - 1), found.outcome
    if adjoint:
        outcome = solvers.solve(last, solver, stop_gradient(found.state), adjoint=adjoint)
    return Secured(last, outcome, found.check, found.rounds, found.iterations)


def _rounds(community: Community, base: Base, problem: SlotProblem, solver: Solver, state: State) -> _Attempt:
    @jax.jit  # traced once, for its shapes and for the loop
    def attempt(by: Mended, last: Seen, state: State, before: Array, iterations: Array) -> _Attempt:
        posed = mend(community, problem, by, before)
        outcome = solvers.solve(posed, solver, solvers.warm(posed, solver, state))
        result = solvers.executed(posed, outcome)
        found = check(community, base, problem, result.dispatch, last, before)
        rounds = before + 1
        again = go_on(community, problem, result, found, rounds)
        total = iterations + result.iterations
        return _Attempt(outcome, by, outcome.state, found, rounds, total, again)

    none = jnp.zeros((), jnp.int32)
    begun = Mended(rows_of(problem), problem.loss_price), nothing_seen(problem), state
    shape = jax.eval_shape(attempt, *begun, none, none)
    begin = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shape)
    begin = begin._replace(state=state, again=jnp.ones((), bool))
    after = lambda found: attempt(
        found.check.mended, found.check.seen, found.state, found.rounds, found.iterations
    )
    unfinished = lambda found: turns(community, found.again, found.rounds)
    return jax.lax.while_loop(unfinished, after, begin)


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
