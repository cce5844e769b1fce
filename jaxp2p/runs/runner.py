"""All policies on one community and horizon, with the bounds that say how good they were."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxp2p.control.bounds import LyapunovParameters, lyapunov_parameters
from jaxp2p.control.catalogue import CATALOGUE, MPC_POLICIES, OPTIMUM, TRADE_ONLY, TUNED, usual
from jaxp2p.control.certificate import Certificate, certificate, tuned_certificate
from jaxp2p.control.charging import Charging, by_worth
from jaxp2p.control.policy import (
    CONTROLLED,
    AnyPolicy,
    OwnPolicy,
    Penalties,
    Policy,
    follow,
    lyapunov,
    made,
    suggest_penalties,
)
from jaxp2p.control.tuned import TunedValue
from jaxp2p.model.match import require_match
from jaxp2p.model.trajectory import Trajectory
from jaxp2p.model.types import Community, Horizon
from jaxp2p.planning.predictive import mpc, require_history
from jaxp2p.runs.in_hindsight import Hindsight, bound_reasons, check_foresight, hindsight, waits
from jaxp2p.runs.side_by_side import Report, cores, side_by_side, together
from jaxp2p.settings.model import FORESIGHT
from jaxp2p.simulation import forward as simulation
from jaxp2p.simulation.accounting import costs, end_value, possible_saving
from jaxp2p.simulation.grid import GridState, grid_of
from jaxp2p.slot.solvers import Solver, choose_solver

VEHICLES_PROVED = (
    "vehicles: leave with the energy wanted wherever that could be reached from their arrival, at any prices "
    "and under every policy; forced charging is a limit in every slot (proof: model/devices/vehicle.py)"
)
NAME = re.compile(r"\w[\w.+-]*")  # of a policy: it becomes part of file names and columns
HISTORY_DAYS = 28  # before the window, all that these forecasts look back on

Progress = Callable[[str, int, int], None]


class Run(NamedTuple):
    """Everything a run leaves behind, on the host."""

    trajectories: dict[str, Trajectory]  # numpy leaves
    seconds: dict[str, float]  # per policy, compilation not counted
    compile_seconds: float
    perfect_foresight_eur: float | None  # in all: worth of the stored energy and penalties included
    perfect_foresight_is_bound: bool  # True: no dispatch of the real market need reach it
    lower_bound_eur: float | None  # in all, likewise
    terminal_price: float  # EUR/kWh of energy stored at the end
    certificate: str
    row_names: tuple[str, ...]
    unserved_price: float  # EUR/kWh on top of the tariffs, beyond the connection limits
    row_price: float  # EUR/kWh of a violated network row
    perfect_foresight_reasons: tuple[str, ...] = ()  # why it is a bound only
    left_out: str = ""  # why perfect foresight, though asked for, was not run
    grids: Mapping[str, GridState] = MappingProxyType({})  # of those that have been looked at


def price_bounds(horizon: Horizon) -> tuple[float, float]:
    """Lowest sell and highest buy price of the tariffs, EUR/kWh: what a member's price can ever be."""
    return float(np.asarray(horizon.price_sell).min()), float(np.asarray(horizon.price_buy).max())


def suggest_terminal_price(community: Community, horizon: Horizon) -> float:
    """v_T in EUR/kWh: the middle of what a stored kWh usually costs and earns, see `accounting.end_value`."""
    return end_value(community, horizon)


def penalties_of(horizon: Horizon, unserved_price: float | None = None) -> Penalties:
    """The suggested penalties, unserved energy at `unserved_price` EUR/kWh on top of the tariffs if given.

    Raises ValueError for a price that does not exceed every tariff: not to serve would pay.
    """
    suggested = jax.device_put(suggest_penalties(jax.device_get(horizon)))
    if unserved_price is None:
        return suggested
    low, high = price_bounds(horizon)
    least = max(abs(low), abs(high))
    if not least < unserved_price < float("inf"):
        raise ValueError(
            f"the price of unserved energy is {unserved_price:g} EUR/kWh: it must be above {least:g}, the "
            "largest price of the tariffs, or it would pay not to serve"
        )
    return suggested._replace(unserved=jnp.asarray(unserved_price, suggested.unserved.dtype))


def check_end_value(price: float | None) -> None:
    """Raises ValueError for an end value that is no number."""
    if price is not None and not np.isfinite(price):
        raise ValueError(f"the end value of stored energy is {price:g} EUR/kWh: it must be a finite number")


def policy_names(community: Community) -> tuple[str, ...]:
    """The policies that there are for a community, in their order: MPC is left out."""
    return usual(vehicles=community.prosumers.vehicles is not None)


def make_policies(community: Community, horizon: Horizon) -> dict[str, Policy]:
    """Every online policy by name, with the certified V_max and theta of the tariffs' price range."""
    controlled = {
        name: jax.device_put(lyapunov(parameters_of(community, horizon, method=method)))
        for name, method in CONTROLLED.items()
    }
    vehicles, worth = community.prosumers.vehicles, worth_in_vehicles(community, horizon)
    size, dtype, there = community.size, horizon.load.dtype, policy_names(community)
    return {
        entry.name: made(entry, size, dtype, controlled=controlled, vehicles=vehicles, worth=worth)
        for entry in CATALOGUE
        if entry.batteries and entry.name in there
    }


def worth_in_vehicles(community: Community, horizon: Horizon) -> Charging | None:
    """Charging by what energy in vehicles is worth at the tariffs; None in a community without vehicles."""
    vehicles = community.prosumers.vehicles
    if vehicles is None:
        return None
    low, high = (jnp.asarray(price, horizon.load.dtype) for price in price_bounds(horizon))
    return by_worth(vehicles, low, high)


def parameters_of(
    community: Community, horizon: Horizon, *, method: str = "exact", v_share: float = 1.0
) -> LyapunovParameters:
    """V = v_share V_max and theta for the price range of the tariffs, see `control.bounds`. On the host."""
    battery, hours = jax.device_get((community.prosumers.battery, horizon.slot_hours))
    return lyapunov_parameters(battery, *price_bounds(horizon), hours, method=method, v_share=v_share)


def sorted_out(
    policies: Sequence[str | Mapping[str, AnyPolicy]], known: Sequence[str]
) -> tuple[list[str], dict[str, AnyPolicy]]:
    """Names in order, and anybody's own policies among them.

    Raises ValueError for a name that is unknown, there twice, or no name for a file or a column.
    """
    own: dict[str, AnyPolicy] = {}
    for entry in policies:
        own |= {} if isinstance(entry, str) else dict(entry)
    names = [name for entry in policies for name in ([entry] if isinstance(entry, str) else entry)]
    unknown = [name for name in names if name not in known and name not in own]
    faults = [f"unknown policies {', '.join(unknown)}: choose from {', '.join(known)}"] if unknown else []
    for name, policy in own.items():
        if not NAME.fullmatch(name) or name in known or name == TUNED:
            faults.append(f"{name!r} cannot name a policy of one's own: it is taken, or no name for a file")
        if not isinstance(policy, Policy | OwnPolicy):
            faults.append(f"{name}: a policy is a Policy or an OwnPolicy, not a {type(policy).__name__}")
    faults += [f"the policy {name} is named twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    if faults:
        raise ValueError("; ".join(faults))
    return names, own


def run(
    community: Community,
    horizon: Horizon,
    *,
    policies: Sequence[str | Mapping[str, AnyPolicy]] | None = None,
    solver: Solver | None = None,
    terminal_price: float | None = None,
    unserved_price: float | None = None,
    slot_of_week: int = 0,
    progress: Progress | None = None,
    lower_bound: bool = True,
    history: Horizon | None = None,
    controller: TunedValue | None = None,
    foresight_mode: str = "on",
    look: bool = False,
) -> Run:
    """Run the named policies slot by slot; perfect foresight and the lower bound see the whole horizon.

    By default all of `policy_names`. Besides those there are those of `MPC_POLICIES`, which plan by forecasts
    made from `history`, the slots right before the horizon, and anybody's own as {name: policy}
    (`control.policy.OwnPolicy`). A tuned `controller` runs as the policy "tuned"; it counts slot_of_week from
    midnight of a Monday. terminal_price in EUR/kWh values the stored energy at the end for every policy
    alike; by default the middle of what a stored kWh usually costs and earns. unserved_price in EUR/kWh on
    top of the tariffs is what energy beyond the connection limits costs, in the slots and in the figures; by
    default that of `suggest_penalties`.
    foresight_mode is one of `FORESIGHT`: "auto" leaves perfect foresight out, with the reason in `left_out`,
    where `estimate_seconds` says that it would take more than FORESIGHT_SECONDS and FORESIGHT_FACTOR times
    what all else took. look: at the grid under every policy, beside those that still run, for whoever wants
    all figures anyway. Raises ValueError for an unknown policy or mode, for a horizon of another community,
    for a history too short for a forecast, for a controller made for another slot length, for prices that
    cannot be, and with "on" for a network too large for perfect foresight.
    """
    require_match(community, horizon)
    known = policy_names(community)
    names, given = sorted_out(known if policies is None else policies, (*known, *MPC_POLICIES))
    if foresight_mode not in FORESIGHT:
        raise ValueError(f"unknown foresight_mode {foresight_mode!r}: choose from {', '.join(FORESIGHT)}")
    check_history(names, horizon, history)
    check_end_value(terminal_price)
    check_foresight(names, community, foresight_mode)
    penalties = penalties_of(horizon, unserved_price)
    begin = time.perf_counter()
    solver = solver or choose_solver(community)
    report = progress or (lambda name, done, total: None)
    if terminal_price is None:
        terminal_price = suggest_terminal_price(community, horizon)
    own = tuned_policy(controller, horizon)
    grids: dict[str, GridState] = {}

    def looked_at(name: str, done: Trajectory) -> None:
        if look:
            grids[name] = grid_of(community, horizon, done, linear=name == OPTIMUM)

    def online(report: Report) -> tuple[dict[str, Trajectory], dict[str, float], float]:
        asked, policies = [*names, *own], given | own
        trajectories, seconds, compile_seconds = _online(
            community, horizon, asked, policies, penalties, solver, slot_of_week, report, looked_at
        )
        for name in [name for name in names if name in MPC_POLICIES]:
            told = lambda done, name=name: report(name, done, horizon.slots)
            told(0)
            found = mpc(
                community,
                horizon,
                history=history,
                forecast=MPC_POLICIES[name],
                terminal_price=terminal_price,
                penalties=penalties,
                solver=solver,
                told=told,
            )
            trajectories[name], seconds[name] = found.trajectory, found.seconds
            looked_at(name, found.trajectory)
            compile_seconds += found.compile_seconds
        return trajectories, seconds, compile_seconds

    def afterwards(report: Report) -> Hindsight:
        seen = hindsight(
            community,
            horizon,
            penalties,
            terminal_price=terminal_price,
            mode=foresight_mode if OPTIMUM in names else None,
            lower_bound=lower_bound,
            begun=begin,
            report=report,
        )
        if seen.foresight is not None:
            looked_at(OPTIMUM, seen.foresight.trajectory)
        return seen

    # what sees the whole horizon waits for no policy: it has a core while their program is compiled
    beside = not (OPTIMUM in names and waits(community, horizon, foresight_mode))
    (trajectories, seconds, compile_seconds), seen = together(
        [online, afterwards], report, cores() if beside else 1
    )
    foresight = seen.foresight
    if foresight is not None:
        trajectories[OPTIMUM], seconds[OPTIMUM] = foresight.trajectory, foresight.seconds
    prices = {
        "terminal_price": terminal_price,
        "unserved_price": float(penalties.unserved),
        "row_price": float(penalties.row),
    }
    possible = _possible_saving(community, horizon, trajectories, grids, prices)
    proved = [make_certificate(community, horizon, terminal_price).explain(possible_saving_eur=possible)]
    if community.prosumers.vehicles is not None:
        proved.append(VEHICLES_PROVED)
    if controller is not None:
        battery, bounds = community.prosumers.battery, price_bounds(horizon)
        proved.append(
            tuned_certificate(controller, battery, *bounds, slot_hours=horizon.slot_hours).explain()
        )
    return Run(
        trajectories=trajectories,
        seconds=seconds,
        compile_seconds=compile_seconds,
        perfect_foresight_eur=None if foresight is None else foresight.objective_eur,
        perfect_foresight_is_bound=foresight is not None and foresight.is_lower_bound,
        lower_bound_eur=seen.lower_bound_eur,
        **prices,
        certificate="\n".join(proved),
        row_names=row_names(community),
        perfect_foresight_reasons=() if foresight is None else bound_reasons(community, foresight),
        left_out=seen.left_out,
        grids=grids,
    )


def check_history(policies: Sequence[str], horizon: Horizon, history: Horizon | None) -> None:
    """Raises ValueError where a policy needs a day before the horizon that `history` does not have."""
    for name in policies:
        if name in MPC_POLICIES:
            require_history(MPC_POLICIES[name], horizon, history)


def tuned_policy(controller: TunedValue | None, horizon: Horizon) -> dict[str, Policy]:
    """The policy of the controller by its name, nothing without one. Raises ValueError as `check_slots`."""
    if controller is None:
        return {}
    check_slots(controller, float(horizon.slot_hours))
    return {TUNED: follow(controller, horizon.load.dtype)}


def check_slots(controller: TunedValue, hours: float) -> None:
    """Raises ValueError for a controller that counts another number of slots per day than there are."""
    slots = controller.slots_per_day
    if abs(slots * hours - 24) > 1e-4:
        raise ValueError(
            f"the controller is made for slots of {1440 / slots:g} min ({slots} per day), "
            f"these are slots of {60 * hours:g} min"
        )


def _online(community, horizon, policies, own, penalties, solver, slot_of_week, report, looked_at):
    """The online policies, side by side; those of one structure share their compiled programs."""
    known = make_policies(community, horizon) | own
    names = [name for name in policies if name in known]
    begin = time.perf_counter()
    if names:
        report("compiling", 0, 1)
        for name in {jax.tree.structure(known[name]): name for name in names}.values():
            simulation.compile_pieces(community, horizon, penalties, known[name], solver)
        report("compiling", 1, 1)
    compile_seconds = time.perf_counter() - begin

    def one(name: str, told: Callable[[int], None]) -> tuple[Trajectory, float]:
        begin = time.perf_counter()
        given = community, horizon, penalties, known[name], solver
        done = simulation.simulate_in_pieces(*given, slot_of_week=slot_of_week, told=told)
        seconds = time.perf_counter() - begin
        looked_at(name, done)
        return done, seconds

    # the simplest are named first and done soonest: begun last they fill the cores up to the end
    found = side_by_side(names[::-1], one, lambda name, done: report(name, done, horizon.slots), cores())
    trajectories = {name: found[name][0] for name in names}
    seconds = {name: found[name][1] for name in names}
    return trajectories, seconds, compile_seconds


def _possible_saving(
    community: Community,
    horizon: Horizon,
    trajectories: dict[str, Trajectory],
    grids: dict[str, GridState],
    prices: dict[str, float],
) -> float | None:
    """EUR that perfect control of the batteries saves on top of no_storage; None where either was not run.

    Grids that it takes are added to `grids`.
    """
    total = {}
    for name in (TRADE_ONLY, OPTIMUM):
        if name not in trajectories:
            return None
        if name not in grids:
            grids[name] = grid_of(community, horizon, trajectories[name], linear=name == OPTIMUM)
        total[name] = costs(community, horizon, trajectories[name], grids[name], **prices).total_eur
    return possible_saving(total[TRADE_ONLY], total[OPTIMUM])


def make_certificate(community: Community, horizon: Horizon, terminal_price: float) -> Certificate:
    """What the modified controller guarantees for prices within the tariffs, network surcharges excluded."""
    battery, hours = jax.device_get((community.prosumers.battery, horizon.slot_hours))
    return certificate(
        battery,
        parameters_of(community, horizon),
        *price_bounds(horizon),
        slot_hours=hours,
        slots=horizon.slots,
        terminal_price=terminal_price,
    )


def row_names(community: Community) -> tuple[str, ...]:
    """Names of the network rows."""
    return community.feeder.names(community.network)
