"""One policy over the slots of a case, as a pure function: for derivatives, and many futures at once."""

from functools import partial

import jax
import jax.numpy as jnp
import pandas as pd
from jax import Array

from jaxp2p.control.policy import AnyPolicy, Penalties, Policy, follow
from jaxp2p.control.tuned import TunedValue
from jaxp2p.library.case import Case
from jaxp2p.model.match import require_match
from jaxp2p.model.trajectory import Trajectory
from jaxp2p.model.types import Community, Horizon
from jaxp2p.runs.runner import check_slots, penalties_of
from jaxp2p.simulation import costate, forward
from jaxp2p.slot import solvers
from jaxp2p.slot.solvers import Solver


def simulate(
    case: Case,
    policy: str | AnyPolicy | TunedValue = "lyapunov",
    *,
    adjoint: str | None = None,
    solver: str | Solver = "auto",
    unserved_price: float | None = None,
    keep: tuple[str, ...] = Trajectory._fields,
) -> Trajectory:
    """What everybody does in every slot of a case under one policy, within `jax.jit`, `grad` and `vmap`.

    policy: a name, one of your own, one of `case.policies()`, or a tuned controller. With adjoint "implicit"
    the result has derivatives, in forward and in reverse mode, by whatever of the policy, of `case.horizon`
    and of `case.community` is traced: put it into a copy, `dataclasses.replace(case, horizon=...)`. Under a
    traced horizon a policy has no name: make it before. keep: fields to store, the others are None.
    At a kink of the result there is a derivative of one side.

    The run costs `jnp.sum(t.cost)` EUR, less what the energy gained is worth: an end value in EUR/kWh times
    `jnp.sum(t.energy[-1] - case.community.prosumers.battery.energy_start)`. Raises ValueError for policies,
    adjoints, fields and solvers that are unknown, for a controller of another slot length, and for a horizon
    of another community.
    """
    community, horizon = case.community, case.horizon
    require_match(community, horizon)
    if adjoint not in (None, "implicit"):
        raise ValueError(f"unknown adjoint {adjoint!r}: None or 'implicit'")
    unknown = [name for name in keep if name not in Trajectory._fields]
    if unknown:
        raise ValueError(f"unknown fields {', '.join(unknown)}: choose from {', '.join(Trajectory._fields)}")
    if isinstance(policy, TunedValue):
        check_slots(policy, (case.time.iloc[1] - case.time.iloc[0]) / pd.Timedelta(hours=1))
        policy = follow(policy, horizon.load.dtype)
    chosen = solvers.choose_solver(community, solver) if isinstance(solver, str) else solver
    given = community, horizon, penalties_of(horizon, unserved_price), case.policy(policy), chosen
    number = jnp.asarray(case.slot_of_week, jnp.int32)
    return _simulate(*given, number, adjoint=adjoint, keep=tuple(keep))


@partial(jax.jit, static_argnames=("adjoint", "keep"))
def _simulate(
    community: Community,
    horizon: Horizon,
    penalties: Penalties,
    policy: AnyPolicy,
    solver: Solver,
    number: Array,
    *,
    adjoint: str | None,
    keep: tuple[str, ...],
) -> Trajectory:
    if adjoint and isinstance(policy, Policy) and costate.suits(community, policy, solver):
        return costate.simulate(
            community, horizon, penalties, policy, solver, slot_of_week=number, keep=keep
        )[1]
    return forward.simulate(
        community, horizon, penalties, policy, solver, slot_of_week=number, keep=keep, adjoint=adjoint
    )[1]
