"""Newton's iteration as an XLA program: from one proof to the next, turn after turn.

`slot.kernels.climb` has the same functions with kernels of our own; `slot.newton.solver` takes the one or the
other.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxp2p.slot.newton.dense import Dense
from jaxp2p.slot.newton.dual import Homes, Setup, evaluate, total_pull_cost
from jaxp2p.slot.newton.state import Settings
from jaxp2p.slot.newton.step import Lane, climb, seeking
from jaxp2p.slot.problem import SlotProblem


class Turning(NamedTuple):
    """What moves from turn to turn."""

    lane: Lane
    homes: Homes  # their answers at the last accepted prices
    centre: Array  # (N,) kW


def start(problem: SlotProblem, lane: Lane, homes: Homes, centre: Array) -> Turning:
    """Before the first of some turns."""
    return Turning(lane, homes, centre)


def turn(problem: SlotProblem, newton: Settings, setup: Setup, now: Turning) -> Turning:
    """One evaluation of all homes: everybody's answer to the trial prices, then the next trial."""
    trial = now.lane.trial
    homes, totals = evaluate(problem, setup, trial, now.centre)
    cost = lambda: total_pull_cost(problem, setup, homes, trial.rows, now.centre)
    pull_cost = lambda wanted: jax.lax.cond(wanted, cost, lambda: jnp.zeros_like(totals.power))
    lane, turned = climb(Dense(problem), setup.limits, newton, now.lane, totals, pull_cost)
    return Turning(
        lane,
        homes=jax.tree.map(lambda a, b: jnp.where(turned.accept, a, b), homes, now.homes),
        centre=jnp.where(turned.recentre, homes.injection, now.centre),
    )


def turns(problem: SlotProblem, newton: Settings, setup: Setup, now: Turning) -> Turning:
    """Turns until there is something to prove."""
    one = lambda now: turn(problem, newton, setup, now)
    return jax.lax.while_loop(lambda now: seeking(newton, now.lane), one, now)


def finish(problem: SlotProblem, setup: Setup, now: Turning) -> tuple[Lane, Homes, Array]:
    """The lane, what the homes answered to its prices, and the centre then."""
    return now.lane, now.homes, now.centre
