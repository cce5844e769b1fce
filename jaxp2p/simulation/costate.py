"""The derivative of a run in a pool without network: all slots side by side, then the stored energy in turn.

Around the run, with its stored energy E_t and pool prices pi_t, what a home does in slot t is a function
q_t(E_t, pi_t; w) of its own energy, of the price and of the parameters w. All of that, with its derivatives,
is worked out for all slots at once. Only a linear recursion goes from slot to slot,

    dE_{t+1} = (dE'/dE) dE_t + (dE'/dpi) dpi_t + d_w E',
    dpi_t    = - sum_i (dp_i/dE_i dE_it + d_w p_i) / sum_i dp_i/dpi     (the pool stays balanced),

and its transpose, which autodiff makes of it, is the costate equation: what a kWh more in slot t would have
been worth (Pontryagin et al., The mathematical theory of optimal processes, 1962). Of a home with vehicles E
is a vector: its battery, then its seats. The derivative is that of
`simulation.simulate(..., adjoint="implicit")` in less time and memory: of what derivatives need, nothing but
the recursion waits for the slot before. What every home did at which prices is kept, so that working a slot
out anew finds the pieces of the polylines that the run was on.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.lax import stop_gradient

from jaxp2p.control.policy import Penalties, Policy, Slot, observe, remember
from jaxp2p.control.tuned import Memory
from jaxp2p.model.match import require_match
from jaxp2p.model.trajectory import Trajectory, only
from jaxp2p.model.types import Community, Horizon
from jaxp2p.simulation import forward as simulation
from jaxp2p.simulation.step import Posed, Stored, after, pose, record
from jaxp2p.slot import execute
from jaxp2p.slot.newton.adjoint import Solution, pool_answer, pool_replies
from jaxp2p.slot.newton.method import Newton
from jaxp2p.slot.prox.sensitivity import derivative_only, with_derivative_of
from jaxp2p.slot.solvers import Solver

VERDICT = (
    "gap",
    "violation",
    "violation_row",
    "status",
    "iterations",
    "prim_res",
    "dual_res",
)  # have no derivative


class _Rules(NamedTuple):
    """What is the same in every slot."""

    community: Community
    penalties: Penalties
    policy: Policy


class _Known(NamedTuple):
    """What a slot brings; of all slots with a leading axis T, like the records below."""

    slot: Slot
    number: Array  # () int32, slot of the week
    memory: Memory | None


class _Point(NamedTuple):
    """Where the run was."""

    energy: Array  # (B, N) kWh before the slot: in the battery, then in the vehicle of every seat
    price: Array  # () EUR/kWh, of the pool
    trades: Array  # (1, N) kW
    solution: Solution


class _Response(NamedTuple):
    """What the homes do, each by itself; (N,) each, and what vehicles do (K, N)."""

    energy: Array  # (B, N) kWh after the slot
    devices: execute.Devices
    injection: Array  # kW
    market_price: Array  # EUR/kWh
    nodal_price: Array  # EUR/kWh


class _Balance(NamedTuple):
    """The pool."""

    price: Array  # () EUR/kWh
    slope: Array  # () kW per EUR/kWh, of the sum of the injections; 0 where the price does not answer to it


def suits(community: Community, policy: Policy, solver: Solver) -> bool:
    """Whether homes depend on each other through one price only: tuned policies, Newton, no network.

    Known from the structure alone, and that does not tell which rule another policy follows: one of them
    looks at everybody's battery.
    """
    homes, market = community.prosumers, community.market
    alone = Newton.suits(market, connection_limits=homes.limited) and not community.feeder.rows
    return alone and solver.by_price and policy.tuned is not None


def simulate(
    community: Community,
    horizon: Horizon,
    penalties: Penalties,
    policy: Policy,
    solver: Solver,
    *,
    slot_of_week: int | Array = 0,
    keep: tuple[str, ...] = Trajectory._fields,
) -> tuple[Array, Trajectory]:
    """`simulation.simulate`, differentiable in community, horizon and policy; `suits` must hold.

    Returns the stored energy (N,) in kWh at the end in place of the last state. First derivatives only, in
    forward and reverse mode.
    """
    require_match(community, horizon)
    number = jnp.asarray(slot_of_week, jnp.int32)
    rules, battery = _Rules(community, penalties, policy), community.prosumers.battery
    last, verdict, points = _run(stop_gradient(rules), stop_gradient(horizon), solver, number)
    known = _known(rules, horizon, number)

    here, balance = jax.vmap(_respond, (None, 0, 0))(rules, known, points)
    fixed = stop_gradient((rules, known))
    by_energy, by_price = jax.vmap(_slopes, (None, 0, 0))(*fixed, points)
    begin = points.energy[0].at[0].set(battery.energy_start)
    denergy, dprice, dlast = _recursion(here, balance.slope, by_energy, by_price, derivative_only(begin))

    def total(x: Array, by_energy: Array, by_price: Array) -> Array:
        between = [1] * (x.ndim - 2)  # axes of x between slots and homes
        moved = denergy.reshape(*denergy.shape[:2], *between, -1)
        return x + jnp.sum(by_energy * moved, axis=1) + by_price * dprice.reshape(-1, *between, 1)

    response = jax.tree.map(total, here, by_energy, by_price)

    def settle(known: _Known, point: _Point, price: Array, response: _Response, verdict: dict) -> Trajectory:
        # nothing that is settled by depends on the energy, which does not move here
        problem = _posed(rules, known, point.energy).problem
        answer = pool_answer(problem, price, response.injection, response.market_price, response.nodal_price)
        # at a tariff who deals with whom is not unique: as it was done
        answer = answer._replace(trades=with_derivative_of(point.trades, answer.trades))
        done = execute.settle(problem, answer, response.devices)
        unknown: Any = None  # what the gap is made of is not asked for
        result = execute.SlotResult(dispatch=done, gap_parts=unknown, gap_scale=unknown, **verdict)
        return only(record(problem, result, _parts(response.energy)), keep)

    return last + dlast[0], jax.vmap(settle)(known, points, balance.price + dprice, response, verdict)


def _run(rules: _Rules, horizon: Horizon, solver: Solver, number: Array) -> tuple[Array, dict, _Point]:
    """The run itself: the energy at its end, its verdicts, and where it was in every slot."""
    slots = simulation.slots(horizon)
    first = jax.tree.map(lambda x: x[0], slots)
    state = simulation.init(*rules, solver, first, number)

    def body(state: simulation.RunState, slot: Slot):
        cleared = simulation.clear(*rules, solver, state, slot)
        following, row = simulation.carry_out(rules.community, state, cleared)
        found, answer = cleared.secured.outcome, cleared.secured.outcome.answer
        solution = Solution(answer.injection, answer.market_price, answer.nodal_price)
        verdict = {name: getattr(row, name) for name in VERDICT}
        energy = _stacked(state.stored)
        return following, (verdict, _Point(energy, found.state.price, answer.trades, solution))

    state, (verdict, points) = jax.lax.scan(body, state, slots)
    return state.energy, verdict, points


def _stacked(stored: Stored) -> Array:
    """(B, N) of (N,) and (K, N)."""
    energy, in_vehicles = stored
    return energy[None] if in_vehicles is None else jnp.concatenate([energy[None], in_vehicles])


def _parts(energy: Array) -> Stored:
    """The inverse."""
    return Stored(energy[0], energy[1:] if energy.shape[0] > 1 else None)


def _known(rules: _Rules, horizon: Horizon, number: Array) -> _Known:
    """All slots, with what a tuned policy remembers in each."""
    slots = simulation.slots(horizon)

    def watch(memory: Memory | None, slot: Slot):
        memory = observe(rules.policy, memory, slot)
        return memory, memory

    memories = jax.lax.scan(watch, remember(rules.community, rules.policy), slots)[1]
    return _Known(slots, number + jnp.arange(horizon.slots, dtype=jnp.int32), memories)


def _posed(rules: _Rules, known: _Known, energy: Array) -> Posed:
    return pose(*rules, known.slot, _parts(energy), known.number, known.memory)


def _respond(rules: _Rules, known: _Known, point: _Point) -> tuple[_Response, _Balance]:
    """Everybody in one slot, in the state and at the price of the run."""
    posed = _posed(rules, known, point.energy)
    problem = posed.problem
    replies, price, slope = pool_replies(problem, point.price, point.solution)
    devices = execute.devices_of(problem, replies.shares, problem.pieces())
    energy = _stacked(after(rules.community, posed, devices))
    response = _Response(energy, devices, replies.injection, replies.market_price, replies.nodal_price)
    return response, _Balance(price, slope)


def _slopes(rules: _Rules, known: _Known, point: _Point) -> tuple[_Response, _Response]:
    """Derivatives of the response: by each of the home's own energies (B, ...), and by the pool's price."""

    def along(name: str, x: Array, direction: Array) -> _Response:
        respond = lambda x: _respond(rules, known, point._replace(**{name: x}))[0]
        return jax.jvp(respond, (x,), (direction,))[1]

    kinds = point.energy.shape[0]
    # homes do not see each other's energy: moving all of them by one kWh gives every own derivative
    each = jnp.eye(kinds, dtype=point.energy.dtype)[:, :, None] * jnp.ones_like(point.energy)[None]
    by_energy = [along("energy", point.energy, direction) for direction in each]
    stacked = jax.tree.map(lambda *rows: jnp.stack(rows), *by_energy)
    return stacked, along("price", point.price, jnp.ones_like(point.price))


def _recursion(
    here: _Response, slope: Array, by_energy: _Response, by_price: _Response, start: Array
) -> tuple[Array, Array, Array]:
    """Motions, zero in value: of energies (T, B, N) before every slot, of prices (T,), of the last energies.

    `here` moves as the parameters do with energy and price held fast, `start` (B, N) as the energies at the
    start.
    """
    per_kw = jnp.where(slope > 0, 1 / jnp.where(slope > 0, slope, 1), 0)
    alone = -per_kw * jnp.sum(derivative_only(here.injection), axis=1)  # the price, had no energy moved
    weight = per_kw[:, None, None] * by_energy.injection
    push = derivative_only(here.energy) + by_price.energy * alone[:, None, None]

    def body(moved: Array, row: tuple[Array, ...]):
        kept, paid, weight, push = row
        through_price = paid * jnp.sum(weight * moved)
        return jnp.sum(kept * moved[:, None], axis=0) - through_price + push, moved

    last, moved = jax.lax.scan(body, start, (by_energy.energy, by_price.energy, weight, push))
    return moved, alone - jnp.sum(weight * moved, axis=(1, 2)), last
