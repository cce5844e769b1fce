"""What a run can say in hindsight: perfect foresight, and the lower bound that its duals prove.

Neither waits for a policy, so both may run beside them, except where "auto" has to see how long all else
took before it can say whether perfect foresight is worth its time.
"""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxp2p.control.catalogue import OPTIMUM
from jaxp2p.control.policy import Penalties
from jaxp2p.hindsight.lower_bound import best_lower_bound
from jaxp2p.hindsight.perfect_foresight import PerfectForesight, estimate_seconds, perfect_foresight
from jaxp2p.model.devices.arrays import on_device
from jaxp2p.model.types import Community, Horizon
from jaxp2p.runs.side_by_side import Report

# "auto" leaves perfect foresight out where it would take this many times as long as all else, and a while
FORESIGHT_FACTOR, FORESIGHT_SECONDS = 10.0, 60.0


class Hindsight(NamedTuple):
    """What is known when the horizon is over."""

    foresight: PerfectForesight | None  # None: not asked for, or left out
    left_out: str  # why, though it was asked for; empty: it was not
    lower_bound_eur: float | None  # None: not asked for


def hindsight(
    community: Community,
    horizon: Horizon,
    penalties: Penalties,
    *,
    terminal_price: float,
    mode: str | None,
    lower_bound: bool,
    begun: float,
    report: Report,
) -> Hindsight:
    """Perfect foresight in one of the modes `FORESIGHT`, None: not asked for; then the bound, if wanted.

    begun: when the run began, by `time.perf_counter`; report hears of (stage, slots done, slots).
    """
    foresight, left_out = None, ""
    if mode is not None:
        left_out = _reason_to_leave_out(community, horizon, mode, time.perf_counter() - begun)
    if mode is not None and not left_out:
        report(OPTIMUM, 0, horizon.slots)

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
        report(OPTIMUM, horizon.slots, horizon.slots)
    bound = lower_bound_of(community, horizon, penalties, terminal_price, foresight) if lower_bound else None
    return Hindsight(foresight, left_out, bound)


def waits(community: Community, horizon: Horizon, mode: str) -> bool:
    """Whether it takes the time of all else to say if perfect foresight is run in this mode."""
    return mode == "auto" and estimate_seconds(community, horizon.slots) > FORESIGHT_SECONDS


def _reason_to_leave_out(community: Community, horizon: Horizon, mode: str, elapsed: float) -> str:
    """Why perfect foresight is not run; empty: it is. `elapsed` is what all else took, in seconds."""
    if mode == "off":
        return "perfect foresight: left out, as asked for; capture is not known"
    if words := community.feeder.no_response(community.size):
        return f"perfect foresight: left out, as {words}; capture is not known"
    seconds = estimate_seconds(community, horizon.slots)
    if mode == "on" or seconds <= max(FORESIGHT_SECONDS, FORESIGHT_FACTOR * elapsed):
        return ""
    return (
        f"perfect foresight: left out, as it would take about {seconds / 60:.0f} min, more than "
        f"{FORESIGHT_FACTOR:g} times all else together ({elapsed:.0f} s); jaxp2p run --foresight on insists. "
        "Capture is not known"
    )


def bound_reasons(community: Community, foresight: PerfectForesight) -> tuple[str, ...]:
    """Why real homes need not reach what perfect foresight costs, in words; nothing where they can."""
    if not foresight.is_lower_bound:
        return ()
    words = community.market.relaxation()
    reasons = [words] if words else []
    if foresight.simultaneous_kwh > 1e-6:
        reasons.append(
            f"with {foresight.simultaneous_kwh:,.3g} kWh charged and discharged at once, which pays where "
            "local prices are negative and which no other policy does"
        )
    if foresight.status == "MaxRounds":
        reasons.append("with some limits of the grid left out, as its rounds ended before all were in")
    return tuple(reasons)


def check_foresight(policies: Sequence[str], community: Community, mode: str) -> None:
    """Raises ValueError where perfect foresight is insisted on, and the network is too large for it."""
    words = community.feeder.no_response(community.size)
    if OPTIMUM in policies and mode == "on" and words:
        raise ValueError(f"perfect foresight cannot be had: {words}; leave it out")


def lower_bound_of(
    community: Community,
    horizon: Horizon,
    penalties: Penalties,
    terminal_price: float,
    foresight: PerfectForesight | None,
) -> float:
    """EUR, proved a posteriori; the duals of perfect foresight, where known, are the best start."""
    dtype = horizon.load.dtype
    known: dict[str, Any] = {}
    if foresight is not None:
        known = {"storage_value": on_device(foresight.storage_duals, dtype), "steps": 0}
    if foresight is not None and foresight.vehicle_duals is not None:
        known["vehicle_value"] = on_device(foresight.vehicle_duals, dtype)
    if foresight is not None and community.feeder.rows:
        # an interior point may be beyond the penalty by its rounding
        most = float(penalties.row)
        known["row_price"] = on_device(np.clip(foresight.row_duals, -most, most), dtype)
    best = best_lower_bound(
        community, horizon, terminal_price=terminal_price, unserved_price=penalties.unserved, **known
    )
    return float(best.value_eur)
