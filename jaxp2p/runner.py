"""All policies on one community and horizon, with the bounds that say how good they were."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxp2p import simulation
from jaxp2p.baselines.perfect_foresight import PerfectForesight, estimate_seconds, perfect_foresight
from jaxp2p.community.types import Community, Horizon
from jaxp2p.lyapunov.bounds import can_earn, lyapunov_parameters, stored_value_range
from jaxp2p.lyapunov.certificate import Certificate, certificate, tuned_certificate
from jaxp2p.lyapunov.lower_bound import best_lower_bound
from jaxp2p.lyapunov.tuned import TunedValue
from jaxp2p.policy import Policy, baseline_policies, follow, lyapunov, suggest_penalties
from jaxp2p.predictive import mpc, require_history
from jaxp2p.solvers import Solver, choose_solver
from jaxp2p.trajectory import Trajectory, net_cost

POLICIES = (
    "no_storage_no_trade",
    "no_trade",
    "no_storage",
    "greedy",
    "self_consumption",
    "community_self_consumption",
    "lyapunov_standard",
    "lyapunov",
    "perfect_foresight",
)
# by name only: a plan per slot takes a hundred times as long as a rule
MPC_POLICIES = {"mpc_persistence": "persistence", "mpc_mean": "mean", "mpc_perfect": "perfect"}
TUNED = "tuned"  # the policy of a controller file
HISTORY_DAYS = 28  # before the window, all that these forecasts look back on
FORESIGHT = ("auto", "on", "off")
# "auto" leaves perfect foresight out where it would take this many times as long as all else, and a while
FORESIGHT_FACTOR, FORESIGHT_SECONDS = 10.0, 60.0

Progress = Callable[[str, int, int], None]


class Run(NamedTuple):
    """Everything a run leaves behind, on the host."""

    trajectories: dict[str, Trajectory]  # numpy leaves
    seconds: dict[str, float]  # per policy, compilation not counted
    compile_seconds: float
    perfect_foresight_eur: float | None  # with the worth of the stored energy
    perfect_foresight_is_bound: bool  # True: no dispatch of the real market need reach it
    lower_bound_eur: float | None
    terminal_price: float  # EUR/kWh
    certificate: str
    row_names: tuple[str, ...]
    left_out: str = ""  # why perfect foresight, though asked for, was not run


def price_bounds(horizon: Horizon) -> tuple[float, float]:
    """Lowest sell and highest buy price of the tariffs, EUR/kWh: what a member's price can ever be."""
    return float(jnp.min(horizon.price_sell)), float(jnp.max(horizon.price_buy))


def suggest_terminal_price(community: Community, horizon: Horizon) -> float:
    """v_T: the middle between what a stored kWh can cost and can earn (D_l, D_h), mean over the batteries."""
    battery = community.prosumers.battery
    low, high = price_bounds(horizon)
    owners = np.asarray(can_earn(battery, low, high))
    if not owners.any():
        return 0.0
    ends = stored_value_range(battery, low, high)
    return float(np.mean([np.asarray(end, float)[owners] for end in ends]))


def make_policies(community: Community, horizon: Horizon) -> dict[str, Policy]:
    """Every online policy by name, with the certified V_max and theta of the tariffs' price range."""
    battery = community.prosumers.battery
    low, high = price_bounds(horizon)
    parameters = partial(lyapunov_parameters, battery, low, high, horizon.slot_hours)
    modified = lyapunov(parameters(method="exact"))
    policies = baseline_policies(community.size, horizon.load.dtype, own=modified)
    return policies | {"lyapunov_standard": lyapunov(parameters(method="standard")), "lyapunov": modified}


def run(
    community: Community,
    horizon: Horizon,
    *,
    policies: Sequence[str] = POLICIES,
    solver: Solver | None = None,
    terminal_price: float | None = None,
    slot_of_week: int = 0,
    progress: Progress | None = None,
    lower_bound: bool = True,
    history: Horizon | None = None,
    controller: TunedValue | None = None,
    foresight_mode: str = "on",
) -> Run:
    """Run the named policies slot by slot; perfect foresight and the lower bound see the whole horizon.

    Besides `POLICIES` there are those of `MPC_POLICIES`, which plan by forecasts made from `history`, the
    slots right before the horizon. A tuned `controller` runs as the policy "tuned"; it counts slot_of_week
    from midnight of a Monday. terminal_price in EUR/kWh values the stored energy at the end for every policy
    alike; by default the middle of what a stored kWh can cost and earn. foresight_mode is one of `FORESIGHT`:
    "auto" leaves perfect foresight out, with the reason in `left_out`, where `estimate_seconds` says that it
    would take more than FORESIGHT_SECONDS and FORESIGHT_FACTOR times what all else took. Raises ValueError
    for an unknown policy or mode, for a history too short for a forecast, and for a controller made for
    another slot length.
    """
    known = (*POLICIES, *MPC_POLICIES)
    unknown = [name for name in policies if name not in known]
    if unknown:
        raise ValueError(f"unknown policies {', '.join(unknown)}: choose from {', '.join(known)}")
    if foresight_mode not in FORESIGHT:
        raise ValueError(f"unknown foresight_mode {foresight_mode!r}: choose from {', '.join(FORESIGHT)}")
    check_history(policies, horizon, history)
    begin = time.perf_counter()
    solver = solver or choose_solver(community)
    report = progress or (lambda name, done, total: None)
    if terminal_price is None:
        terminal_price = suggest_terminal_price(community, horizon)
    own = tuned_policy(controller, horizon)
    trajectories, seconds, compile_seconds = _online(
        community, horizon, [*policies, *own], solver, slot_of_week, report, own
    )
    for name in [name for name in policies if name in MPC_POLICIES]:
        told = lambda done, name=name: report(name, done, horizon.slots)
        told(0)
        found = mpc(
            community,
            horizon,
            history=history,
            forecast=MPC_POLICIES[name],
            terminal_price=terminal_price,
            solver=solver,
            told=told,
        )
        trajectories[name], seconds[name] = found.trajectory, found.seconds
        compile_seconds += found.compile_seconds

    foresight, left_out = None, ""
    if "perfect_foresight" in policies:
        elapsed = time.perf_counter() - begin
        left_out = _reason_to_leave_out(community, horizon, foresight_mode, elapsed)
    if "perfect_foresight" in policies and not left_out:
        report("perfect_foresight", 0, horizon.slots)
        penalties = suggest_penalties(horizon)

        def heard(round: int, rows: int, iteration: int) -> None:
            # how many rounds it takes nobody knows beforehand: they are told, the bar waits
            stage = f"perfect foresight, round {round} with {rows} grid limits, iteration {iteration}"
            report(stage, 0, horizon.slots)

        foresight = perfect_foresight(
            community,
            horizon,
            terminal_price=terminal_price,
            row_penalty=float(penalties.row),
            unserved_price=float(penalties.unserved),
            told=heard,
        )
        trajectories["perfect_foresight"] = foresight.trajectory
        seconds["perfect_foresight"] = foresight.seconds
        report("perfect_foresight", horizon.slots, horizon.slots)
    bound = _lower_bound(community, horizon, terminal_price, foresight) if lower_bound else None
    proved = [
        make_certificate(community, horizon, terminal_price).explain(
            possible_saving_eur=_possible_saving(community, trajectories, terminal_price, foresight)
        )
    ]
    if controller is not None:
        battery, prices = community.prosumers.battery, price_bounds(horizon)
        proved.append(
            tuned_certificate(controller, battery, *prices, slot_hours=horizon.slot_hours).explain()
        )
    return Run(
        trajectories=trajectories,
        seconds=seconds,
        compile_seconds=compile_seconds,
        perfect_foresight_eur=None if foresight is None else foresight.objective_eur,
        perfect_foresight_is_bound=foresight is not None and foresight.is_lower_bound,
        lower_bound_eur=bound,
        terminal_price=terminal_price,
        certificate="\n".join(proved),
        row_names=row_names(community),
        left_out=left_out,
    )


def _reason_to_leave_out(community: Community, horizon: Horizon, mode: str, elapsed: float) -> str:
    """Why perfect foresight is not run; empty: it is. `elapsed` is what all else took, in seconds."""
    if mode == "off":
        return "perfect foresight: left out, as asked for; capture is not known"
    seconds = estimate_seconds(community, horizon.slots)
    if mode == "on" or seconds <= max(FORESIGHT_SECONDS, FORESIGHT_FACTOR * elapsed):
        return ""
    return (
        f"perfect foresight: left out, as it would take about {seconds / 60:.0f} min, more than "
        f"{FORESIGHT_FACTOR:g} times all else together ({elapsed:.0f} s); --foresight on runs it. "
        "Capture is not known"
    )


def check_history(policies: Sequence[str], horizon: Horizon, history: Horizon | None) -> None:
    """Raises ValueError where a policy needs a day before the horizon that `history` does not have."""
    for name in policies:
        if name in MPC_POLICIES:
            require_history(MPC_POLICIES[name], horizon, history)


def tuned_policy(controller: TunedValue | None, horizon: Horizon) -> dict[str, Policy]:
    """The policy of the controller by its name, nothing without one.

    Raises ValueError for a controller that counts another number of slots per day than the horizon has.
    """
    if controller is None:
        return {}
    hours, slots = float(horizon.slot_hours), controller.slots_per_day
    if abs(slots * hours - 24) > 1e-4:
        raise ValueError(
            f"the controller is made for slots of {1440 / slots:g} min ({slots} per day), "
            f"these are slots of {60 * hours:g} min"
        )
    return {TUNED: follow(controller, horizon.load.dtype)}


def _online(community, horizon, policies, solver, slot_of_week, report, own):
    """The online policies one after the other; all but `own` go through the same compiled programs."""
    known = make_policies(community, horizon) | own
    names = [name for name in policies if name in known]
    penalties = suggest_penalties(horizon)
    begin = time.perf_counter()
    if names:
        report("compiling", 0, 1)
        for name in {names[0], *own}:
            simulation.compile_pieces(community, horizon, penalties, known[name], solver)
        report("compiling", 1, 1)
    compile_seconds = time.perf_counter() - begin
    trajectories, seconds = {}, {}
    for name in names:
        begin = time.perf_counter()
        report(name, 0, horizon.slots)
        trajectories[name] = simulation.simulate_in_pieces(
            community,
            horizon,
            penalties,
            known[name],
            solver,
            slot_of_week=slot_of_week,
            told=lambda done, name=name: report(name, done, horizon.slots),
        )
        seconds[name] = time.perf_counter() - begin
    return trajectories, seconds, compile_seconds


def _possible_saving(
    community: Community,
    trajectories: dict[str, Trajectory],
    terminal_price: float,
    foresight: PerfectForesight | None,
) -> float | None:
    """EUR that perfect control of the batteries saves on top of no_storage; None where either was not run."""
    idle = trajectories.get("no_storage")
    if foresight is None or idle is None:
        return None
    return net_cost(idle, community.prosumers.battery, terminal_price) - foresight.objective_eur


def _lower_bound(
    community: Community, horizon: Horizon, terminal_price: float, foresight: PerfectForesight | None
) -> float:
    """EUR, proved a posteriori; the duals of perfect foresight, where known, are the best start."""
    penalties, dtype = suggest_penalties(horizon), horizon.load.dtype
    known: dict[str, Any] = {}
    if foresight is not None:
        known = {"storage_value": jnp.asarray(foresight.storage_duals, dtype), "steps": 0}
    if foresight is not None and community.feeder is not None:
        # an interior point may be beyond the penalty by its rounding
        rows = jnp.asarray(foresight.row_duals, dtype)
        known["row_price"] = jnp.clip(rows, -penalties.row, penalties.row)
    best = best_lower_bound(
        community, horizon, terminal_price=terminal_price, unserved_price=penalties.unserved, **known
    )
    return float(best.value_eur)


def make_certificate(community: Community, horizon: Horizon, terminal_price: float) -> Certificate:
    """What the modified controller guarantees for prices within the tariffs, network surcharges excluded."""
    battery = community.prosumers.battery
    low, high = price_bounds(horizon)
    return certificate(
        battery,
        lyapunov_parameters(battery, low, high, horizon.slot_hours),
        low,
        high,
        slot_hours=horizon.slot_hours,
        slots=horizon.slots,
        terminal_price=terminal_price,
    )


def row_names(community: Community) -> tuple[str, ...]:
    """Names of the network rows: "voltage BUS", "line ID", "transformer ID"."""
    feeder, grid = community.feeder, community.network
    if feeder is None:
        return ()
    volts = [f"voltage at bus {grid.bus_ids[b]}" for b in np.asarray(feeder.voltage_bus)]
    flows = [f"{grid.branch_kinds[b]} {grid.branch_ids[b]}" for b in np.asarray(feeder.flow_branch)]
    return tuple(volts + flows)
