"""Rolling-horizon model predictive control of all storage: what a good engineer would otherwise use.

`planning.rolling_horizon` plans; here the plan is carried out in the same slot problems, market and network
as every other policy, with charge and discharge fixed. Of the network the plan knows the transformer's limit
only: the execution keeps the others as far as curtailment can, and counts what is left.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxp2p.control.policy import Penalties, greedy, suggest_penalties
from jaxp2p.hindsight.perfect_foresight import horizon_data
from jaxp2p.model.match import require_match
from jaxp2p.model.trajectory import Trajectory
from jaxp2p.model.types import Community, Horizon
from jaxp2p.planning.forecasts import make_forecast
from jaxp2p.planning.rolling_horizon import rolling_schedule
from jaxp2p.simulation.forward import Schedule, compile_pieces, simulate_in_pieces
from jaxp2p.slot.solvers import Solver, choose_solver


class MPC(NamedTuple):
    """What model predictive control did, and what it took."""

    trajectory: Trajectory  # numpy arrays; the iterations are those of the slot solver
    plans: int  # linear programs solved
    planning_seconds: float
    seconds: float  # planning and execution, compilation not counted
    compile_seconds: float


def mpc(
    community: Community,
    horizon: Horizon,
    *,
    terminal_price: float | np.ndarray,
    history: Horizon | None = None,
    forecast: str = "persistence",
    window_hours: float = 24,
    weeks: int = 4,
    replan_every: int = 1,
    penalties: Penalties | None = None,
    solver: Solver | None = None,
    told: Callable[[int], None] = lambda done: None,
) -> MPC:
    """Plan batteries and vehicles `window_hours` ahead at every slot, carry out the first slots of each plan.

    forecast: one of `forecasts.FORECASTS`, `weeks` being those of "mean"; history: the slots right before the
    horizon, a day of them at least, but for "perfect". terminal_price v_T, () or (N,) EUR/kWh, is what energy
    stored at the end of every plan is worth. `replan_every` slots of a plan are carried out. A bilateral
    market is planned as the pool with its smallest fee; elastic load, voltages, lines and connection limits
    are left to the execution. `penalties` are by default the suggested ones. `told` hears how many slots are
    planned.

    Raises ValueError for an unknown forecast, a history too short for it, a window or interval below one
    slot, and a slot length that does not divide the day; RuntimeError when a plan cannot be solved.
    """
    require_match(community, horizon)
    begin = time.perf_counter()
    foreseen, dt = make_forecast(forecast, weeks=weeks), float(horizon.slot_hours)
    require_history(forecast, horizon, history)
    window_slots = round(window_hours / dt)
    if window_slots < 1 or replan_every < 1:
        raise ValueError("window_hours and replan_every must be at least one slot")
    penalties, solver = penalties or suggest_penalties(horizon), solver or choose_solver(community)
    data, past = (
        horizon_data(
            community,
            part,
            terminal_price=terminal_price,
            row_penalty=float(penalties.row),
            unserved_price=float(penalties.unserved),
        )[0]
        for part in (horizon, history or horizon.slice(0, 0))
    )
    decided = rolling_schedule(
        data,
        past,
        foreseen,
        window_slots=window_slots,
        slots_per_day=_slots_per_day(horizon),
        replan_every=replan_every,
        told=told,
    )
    dtype = horizon.load.dtype
    powers = {name: getattr(decided, name) for name in Schedule._fields}
    schedule = Schedule(**jax.tree.map(lambda power: jnp.asarray(power, dtype), powers))
    parts = community, horizon, penalties, greedy(community.size, dtype), solver
    compiling = time.perf_counter()
    compile_pieces(*parts, schedule=schedule)
    compile_seconds = time.perf_counter() - compiling
    trajectory = simulate_in_pieces(*parts, schedule=schedule)
    return MPC(
        trajectory=trajectory,
        plans=decided.plans,
        planning_seconds=decided.seconds,
        seconds=time.perf_counter() - begin - compile_seconds,
        compile_seconds=compile_seconds,
    )


def require_history(forecast: str, horizon: Horizon, history: Horizon | None) -> None:
    """Raises ValueError where the forecast needs a day before the horizon and `history` is shorter."""
    missing = history is None or history.slots < _slots_per_day(horizon)
    if missing and make_forecast(forecast).needs_history:
        raise ValueError(
            f"the forecast {forecast!r} needs at least the day before the window, which is not in the data: "
            "begin a day later, or use the forecast 'perfect'"
        )


def _slots_per_day(horizon: Horizon) -> int:
    slots = round(24 / float(horizon.slot_hours))
    if abs(slots * float(horizon.slot_hours) - 24) > 1e-3:
        raise ValueError(f"slots of {float(horizon.slot_hours):g} h do not divide the day")
    return slots
