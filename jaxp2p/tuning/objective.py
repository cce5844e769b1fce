"""What a controller is tuned for: the mean cost, its tail, peaks of demand, the wear of each battery.

    (1 - w) mean_s C_s + w CVaR_a(C) + price * mean daily peak + price * spread of the cycles          EUR

C_s is the cost of the window in scenario s, less the worth of the energy gained; CVaR_a the mean of the
dearest share 1 - a of them (Rockafellar and Uryasev, Optimization of conditional value-at-risk, 2000).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxp2p.control.policy import follow, suggest_penalties
from jaxp2p.control.tuned import TunedValue
from jaxp2p.model.devices import gained
from jaxp2p.model.types import Community, Horizon
from jaxp2p.settings.tuning import Aims
from jaxp2p.simulation import costate
from jaxp2p.simulation import forward as simulation
from jaxp2p.slot.prox.sensitivity import largest
from jaxp2p.slot.solvers import Solver, choose_solver

KEPT = ("cost", "buy", "sell", "charge", "vehicle_energy")  # of a trajectory


class Objective(NamedTuple):
    """Weights of the terms; the default is the mean cost."""

    cvar_weight: float = Aims.cvar  # w in [0, 1]
    cvar_level: float = Aims.cvar_level  # a in [0, 1)
    peak_price: float = (
        Aims.peak_price
    )  # EUR per kW that the community buys in the dearest slot of a day, mean over days
    fairness_price: float = (
        Aims.fairness_price
    )  # EUR per equivalent full cycle a day, standard deviation between batteries

    def check(self) -> None:
        """Raises ValueError naming every weight out of range."""
        faults = []
        if not 0 <= self.cvar_weight <= 1:
            faults.append(f"cvar_weight = {self.cvar_weight:g} must be from 0 to 1")
        if not 0 <= self.cvar_level < 1:
            faults.append(f"cvar_level = {self.cvar_level:g} must be from 0 to below 1")
        for name in ("peak_price", "fairness_price"):
            if not 0 <= getattr(self, name) < float("inf"):
                faults.append(f"{name} = {getattr(self, name):g} must not be negative")
        if faults:
            raise ValueError("; ".join(faults))


class Course(NamedTuple):
    """What a window came to under a controller."""

    cost: Array  # () EUR, less the worth of the energy gained
    peak: Array  # () kW, mean over the days of the largest purchase of the community
    cycles: Array  # (N,) equivalent full cycles a day


def course(
    community: Community,
    horizon: Horizon,
    slot: Array,
    terminal_price: Array | float,
    value: TunedValue,
    *,
    adjoint: str | None,
    solver: Solver | None = None,
) -> Course:
    """Run one scenario of a window whose first slot is number `slot`.

    solver: by default the one that suits the market. With derivatives the network is linear, in which every
    slot is cleared once.
    """
    community = community if adjoint is None else community.with_linear_network()
    solver = solver or choose_solver(community)
    penalties, policy = suggest_penalties(horizon), follow(value, horizon.load.dtype)
    given = community, horizon, penalties, policy, solver
    wanted: dict[str, Any] = {"keep": KEPT, "slot_of_week": slot}
    if adjoint is not None and costate.suits(community, policy, solver):
        energy, run = costate.simulate(*given, **wanted)
    else:
        state, run = simulation.simulate(*given, adjoint=adjoint, **wanted)
        energy = state.energy
    battery, per_day = community.prosumers.battery, value.slots_per_day
    more = jnp.sum(energy - battery.energy_start)
    if horizon.plugs is not None:
        more = more + jnp.sum(gained(horizon.plugs, run.vehicle_energy))
    bought = jnp.sum(run.buy - run.sell, axis=1)
    days = max(bought.shape[0] // per_day, 1)
    of_days = bought[: days * per_day].reshape(days, -1)
    room = battery.energy_max - battery.energy_min
    moved = jnp.sum(run.charge, axis=0) * horizon.slot_hours * battery.charge_efficiency
    return Course(
        cost=jnp.sum(run.cost) - terminal_price * more,
        peak=jnp.mean(jnp.maximum(largest(of_days), 0)),
        cycles=jnp.where(room > 0, moved, 0) / jnp.where(room > 0, room, 1) / days,
    )


def measure(objective: Objective, courses: Course, owner: Array) -> Array:
    """() EUR; courses of the scenarios with a leading axis S, owner (N,) bool."""
    mean = jnp.mean(courses.cost)
    tail = cvar(courses.cost, objective.cvar_level)
    total = (1 - objective.cvar_weight) * mean + objective.cvar_weight * tail
    count = jnp.maximum(jnp.sum(owner.astype(mean.dtype)), 1)
    middle = jnp.sum(jnp.where(owner, courses.cycles, 0), axis=1, keepdims=True) / count
    square = jnp.sum(jnp.where(owner, (courses.cycles - middle) ** 2, 0), axis=1) / count
    # the root has no slope at zero: of batteries that all do the same there is nothing to be made more alike
    spread = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
    total = total + objective.peak_price * jnp.mean(courses.peak)
    return total + objective.fairness_price * jnp.mean(spread)


def cvar(costs: Array, level: float) -> Array:
    """() mean of the dearest share 1 - level of `costs` (S,), at least the dearest one."""
    count = costs.shape[0]
    tail = max((1 - level) * count, 1.0)
    weights = jnp.clip(tail - jnp.arange(count, dtype=costs.dtype), 0, 1) / tail
    return jnp.sum(-jnp.sort(-costs) * weights)


def courses(
    community: Community,
    horizons: Horizon,
    slot: Array,
    terminal_price: Array | float,
    value: TunedValue,
    *,
    adjoint: str | None,
    solver: Solver | None = None,
) -> Course:
    """`course` of all scenarios; every leaf of horizons has a leading axis S."""
    one = lambda horizon: course(
        community, horizon, slot, terminal_price, value, adjoint=adjoint, solver=solver
    )
    return jax.vmap(one)(horizons)
