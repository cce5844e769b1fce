"""Hosting capacity: the largest factor on all PV of the members that the network carries, in AC.

A factor s passes under a way of operating the community (`control.ways`) when, over all slots of the horizon,

    no voltage is beyond its limit by more than 1e-4 p.u. and no branch beyond its rating by more than 0.1 %
    in the AC power flow of the dispatch, and at most a stated share of the available energy is curtailed.

The second half is what gives a market that keeps the limits a capacity at all: it could carry any amount of
PV by curtailing the rest. The largest s is found by bisection between 0 and a largest factor, all of them by
one compiled program; the search of a way begins where that of the one before ended. It takes for granted that
what fails goes on failing; where more PV mends something (batteries that are full in the evening), it finds
one of the factors at which the verdict changes. A community whose limits do not hold without any PV has no
capacity.

PV of the members is scaled, with its inverters; plants in the background of a bus are not.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxp2p.control.ways import BY_NAME, WAYS, Way
from jaxp2p.model.devices import Inverters
from jaxp2p.model.match import require_match
from jaxp2p.model.network import on_host
from jaxp2p.model.trajectory import Trajectory
from jaxp2p.model.types import Community, Horizon
from jaxp2p.runs.operated import margins, operated
from jaxp2p.runs.runner import Progress, make_policies, penalties_of
from jaxp2p.settings.fields import out_of_range
from jaxp2p.settings.hosting import Hosting
from jaxp2p.simulation import forward
from jaxp2p.simulation.flows import power_flow_of
from jaxp2p.slot.solvers import Solver, choose_solver, scale_tolerances
from jaxp2p.slot.status import Status

VIOLATED, CURTAILED = "violated", "curtailed"  # why a factor fails
NEAR = 30  # tolerances inside a limit within which it counts as the one that PV is curtailed for


class Point(NamedTuple):
    """All slots under one factor."""

    scale: float
    pv_kw: float  # installed
    available_kwh: float
    curtailed_share: float
    slots_violated: int
    voltage_min_pu: float
    voltage_max_pu: float
    voltage_violation_pu: float
    loading_max_pct: float
    loading_violation_pct: float
    slots_not_solved: int  # of the market, within its iterations
    reason: str  # why it fails: VIOLATED, CURTAILED, "": it passes
    limit: str  # furthest beyond; where it fails by curtailing, the nearest when most is curtailed; "": none
    slot: int  # when


class Capacity(NamedTuple):
    """What a way of operating can host."""

    way: Way
    most: Point | None  # the largest factor that passes; None: none does, not even 0
    beyond: Point | None  # the smallest that was found to fail; None: none up to the largest that is tried
    points: tuple[Point, ...]  # all that were tried, in order


def hosting(
    community: Community,
    horizon: Horizon,
    *,
    inverters: Inverters | None = None,
    ways: Sequence[str] | None = None,
    curtail: float = Hosting.curtail,
    max_scale: float = Hosting.max_scale,
    precision: float = Hosting.precision,
    solver: str | Solver = "auto",
    tolerance: float = 1.0,
    slot_of_week: int = 0,
    progress: Progress | None = None,
) -> tuple[Capacity, ...]:
    """The capacity under each of the named ways, by default all of `WAYS`.

    Whether the community was built with its network in the market makes no difference: the ways say that.
    inverters: of the homes (`model.build.inverters_of`), for ways with a rule of their own, which are left
    out without; by default those of the community. curtail: share of the available PV energy; max_scale:
    largest factor; precision: of the factor, as a share of it, below 1 as it is. tolerance: factor on those
    of the solver. progress(way, done, total) hears of slots. Raises ValueError for unknown ways, for numbers
    out of their range, and where there is no PV.
    """
    require_match(community, horizon)
    inverters = community.prosumers.inverters if inverters is None else inverters
    able = tuple(way.name for way in WAYS if way.reactive is None or inverters is not None)
    names = able if ways is None else tuple(ways)
    faults = out_of_range(Hosting(curtail=curtail, max_scale=max_scale, precision=precision))
    if not math.isfinite(max_scale):
        faults.append("max_scale must be a finite number")
    if not names:
        faults.append("name at least one way of operating")
    for name in dict.fromkeys(names):
        if name not in BY_NAME:
            faults.append(f"unknown way {name!r}: choose from {', '.join(BY_NAME)}")
        elif names.count(name) > 1:
            faults.append(f"the way {name} is named twice")
        elif name not in able:
            faults.append(f"the way {name} asks for the inverters of the homes")
    if not float(jnp.sum(horizon.pv)) > 0:
        faults.append("nobody's PV gives anything in these slots (pv_share gives plants to members)")
    if faults:
        raise ValueError("; ".join(faults))
    told = progress or (lambda name, done, total: None)
    found: list[Capacity] = []
    near: tuple[float, ...] = ()
    for way in (BY_NAME[name] for name in names):
        variant = operated(community, way, inverters)
        chosen = choose_solver(variant, solver) if isinstance(solver, str) else solver
        run = _Runs(variant, horizon, way, scale_tolerances(chosen, tolerance), slot_of_week, curtail)
        tries = 4 + math.ceil(math.log2(max(max_scale / precision, 1)))
        total = tries * horizon.slots

        def heard(done: int, name: str = way.name, total: int = total) -> None:
            told(name, min(done, total), total)

        run.told = heard
        below, above = bisect(run, max_scale, precision, near=near)
        near = near if below is None or above is None else (below, above)
        heard(total)
        made = run.points
        most, least = (None if scale is None else made[scale] for scale in (below, above))
        found.append(Capacity(way, most, least, tuple(made[scale] for scale in sorted(made))))
    return tuple(found)


def bisect(
    passes: Callable[[float], bool], most: float, precision: float, *, near: Sequence[float] = ()
) -> tuple[float | None, float | None]:
    """The largest number found to pass and the smallest found to fail, between 0 and `most`.

    None for the first where 0 fails, for the second where `most` passes. near: numbers to try first.
    """
    if not passes(0.0):
        return None, 0.0
    low, high = 0.0, math.inf
    for number in (*sorted(near), most):
        if low < number < high:
            low, high = (number, high) if passes(number) else (low, number)
    if high == math.inf:
        return low, None
    while high - low > precision * max(low, 1.0):
        middle = (low + high) / 2
        low, high = (middle, high) if passes(middle) else (low, middle)
    return low, high


class _Runs:
    """Runs of one way with more or less PV; the points that were looked at, by their factor."""

    def __init__(
        self,
        community: Community,
        horizon: Horizon,
        way: Way,
        solver: Solver,
        slot_of_week: int,
        curtail: float,
    ):
        self.community, self.horizon, self.way, self.solver = community, horizon, way, solver
        self.slot_of_week, self.curtail = slot_of_week, curtail
        self.policy = make_policies(community, horizon)[way.policy]
        self.penalties = penalties_of(horizon)
        self.points: dict[float, Point] = {}
        self.told: Callable[[int], None] = lambda done: None

    def __call__(self, scale: float) -> bool:
        before = len(self.points) * self.horizon.slots
        community, horizon = scaled(self.community, self.horizon, scale)
        trajectory = forward.simulate_in_pieces(
            community,
            horizon,
            self.penalties,
            self.policy,
            self.solver,
            slot_of_week=self.slot_of_week,
            told=lambda done: self.told(before + done),
        )
        fed_in, host = self.way.all_fed_in, on_host(community)
        self.points[scale] = looked_at(
            host, horizon, trajectory, scale, curtail=self.curtail, all_fed_in=fed_in
        )
        return not self.points[scale].reason


def scaled(community: Community, horizon: Horizon, scale: float) -> tuple[Community, Horizon]:
    """Community and slots with all PV times a factor.

    Homes with PV are flexible, so the base values hold none of it, and they stay flexible at 0: the program
    is the same for every factor.
    """
    factor = jnp.asarray(scale, horizon.pv.dtype)
    inverters = community.prosumers.inverters
    if inverters is not None:
        larger = replace(inverters, rating=inverters.rating * factor, power=inverters.power * factor)
        community = replace(community, prosumers=replace(community.prosumers, inverters=larger))
    return community, replace(horizon, pv=horizon.pv * factor)


def looked_at(
    community: Community,
    horizon: Horizon,
    trajectory: Trajectory,
    scale: float,
    *,
    curtail: float,
    all_fed_in: bool = False,
) -> Point:
    """The verdict on what was done with PV times `scale`, which `horizon` has; community `on_host`."""
    injection, used, pv = (
        np.asarray(x, float) for x in (trajectory.injection, trajectory.pv_used, horizon.pv)
    )
    if all_fed_in:
        most = np.maximum(injection, community.prosumers.sell_max)
        more = np.minimum(injection + (pv - used), most) - injection
        injection, used = injection + more, used + more
    network, hours = community.network, float(horizon.slot_hours)
    flow = power_flow_of(community, on_host(horizon.grid_base), injection, used)
    beyond, names = margins(network, flow.voltage, flow.loading)
    outside = (beyond.max(1) > 1) | (flow.status != 0)
    available = float(pv.sum() * hours)
    curtailed = max(float((pv - used).sum() * hours), 0.0) / available if available > 0 else 0.0
    reason = VIOLATED if outside.any() else CURTAILED if curtailed > curtail else ""
    slot = int(beyond.max(1).argmax()) if reason != CURTAILED else int((pv - used).sum(1).argmax())
    row = int(beyond[slot].argmax())
    status, volts = np.asarray(trajectory.status), flow.voltage
    return Point(
        scale=scale,
        pv_kw=scale * float(np.sum(community.prosumers.pv_peak)),
        available_kwh=available,
        curtailed_share=curtailed,
        slots_violated=int(outside.sum()),
        voltage_min_pu=float(volts.min()),
        voltage_max_pu=float(volts.max()),
        voltage_violation_pu=float(network.beyond(volts).max()),
        loading_max_pct=100 * float(flow.loading.max(initial=0)),
        loading_violation_pct=100 * max(float(flow.loading.max(initial=0)) - 1, 0.0),
        slots_not_solved=int(np.isin(status, (Status.MAX_ITER, Status.NUMERICAL_ERROR)).sum()),
        reason=reason,
        limit=names[row] if beyond[slot, row] > -NEAR else "",
        slot=slot,
    )


def unsolved_share(capacities: Sequence[Capacity], slots: int) -> Mapping[str, float]:
    """Largest share of slots without a certified answer, by way, over all factors tried."""
    return {c.way.name: max(p.slots_not_solved for p in c.points) / slots for c in capacities}
