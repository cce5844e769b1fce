"""Limits of the grid that no dispatch can keep, found before anything is solved.

A home can inject between -load - c_max (charging, PV curtailed, elastic load at its most) and pv + d_max -
load (elastic load at its least), whatever energy its battery and its vehicles hold. All entries of R and of
the incidence are non-negative, so each voltage and flow lies between what all least and all largest
injections make of it; where that range is outside a limit, no market and no control can keep it. In the
linear network: the losses of an AC power flow take off what is fed in, and add to what is drawn.
"""

from typing import NamedTuple

import jax
import numpy as np

from jaxp2p.model.network import on_host
from jaxp2p.model.types import Community, Horizon

VOLTAGE_TOLERANCE = 1e-4  # p.u.
POWER_TOLERANCE = 0.05  # kW, as in the pass rule of `verify`
BLOCK = 4_000_000  # numbers of one table at a time
SHOWN = 5  # limits named one by one in a summary


class ImpossibleLimit(NamedTuple):
    """One limit that is broken whatever the homes do, in some slots."""

    kind: str  # "bus", "line" or "transformer"
    name: str
    limit: str  # "v_max_pu", "v_min_pu" or "s_max_kva"
    slots: int  # slots in which it is
    first: int  # the first of them
    excess: float  # by how much at least in the worst of them, p.u. or kW
    of: int  # slots of the horizon

    def __str__(self) -> str:
        unit = "p.u." if self.kind == "bus" else "kW"
        return (
            f'{self.kind} "{self.name}": {self.limit} is broken in {self.slots} of {self.of} slots '
            f"whatever the homes do in the linear network, by up to {self.excess:.3g} {unit} (first in slot "
            f"{self.first + 1})"
        )


def impossible_limits(community: Community, horizon: Horizon) -> list[ImpossibleLimit]:
    """Every limit that no dispatch of the flexible homes keeps, those of most slots first; in float64."""
    grid = on_host(community.network)
    size = horizon.slots
    rows = max(1, BLOCK // max(1, community.size, grid.buses))
    worst: dict[str, np.ndarray] = {}
    counts: dict[str, np.ndarray] = {}
    firsts: dict[str, np.ndarray] = {}

    def add(limit: str, start: int, beyond: np.ndarray, tolerance: float) -> None:
        broken = beyond > tolerance
        when = np.where(broken.any(0), start + broken.argmax(0), size)
        count, most = broken.sum(0), beyond.max(0, initial=0.0)
        counts[limit] = counts.get(limit, 0) + count
        worst[limit] = np.maximum(worst.get(limit, 0.0), most)
        firsts[limit] = np.minimum(firsts.get(limit, size), when)

    for start in range(0, size, rows):
        block = slice(start, start + rows)
        base = on_host(jax.tree.map(lambda x, block=block: x[block], horizon.grid_base))
        bottom, top = (grid.state(base, power) for power in _injections(community, horizon, block))
        # a limit is broken from below by the largest voltage there can be, and from above by the least
        add("v_max_pu", start, bottom.voltage - grid.voltage_max, VOLTAGE_TOLERANCE)
        add("v_min_pu", start, grid.voltage_min - top.voltage, VOLTAGE_TOLERANCE)
        # least active power that is left on the branch
        active = np.maximum(np.maximum(bottom.flow, -top.flow), 0)
        full = np.abs(base.reactive) > grid.rating
        with np.errstate(invalid="ignore"):
            whole, part = np.hypot(active, base.reactive) - grid.rating, active - grid.room(base.reactive)
        beyond = np.where(full, whole, part)
        add("s_max_kva", start, beyond, POWER_TOLERANCE)
    names = {
        "v_max_pu": [("bus", name) for name in grid.bus_ids],
        "v_min_pu": [("bus", name) for name in grid.bus_ids],
        "s_max_kva": list(zip(grid.branch_kinds, grid.branch_ids, strict=True)),
    }
    found = [
        ImpossibleLimit(
            *names[limit][i], limit, int(count[i]), int(firsts[limit][i]), float(worst[limit][i]), size
        )
        for limit, count in counts.items()
        for i in np.flatnonzero(count)
    ]
    return sorted(found, key=lambda one: (-one.slots, -one.excess))


def merged(parts: list[tuple[int, list[ImpossibleLimit]]], slots: int) -> list[ImpossibleLimit]:
    """What was found in consecutive parts of `slots` slots, each with its first slot, as of one horizon."""
    total: dict[tuple[str, str, str], ImpossibleLimit] = {}
    for offset, found in parts:
        for one in found:
            key = one[:3]
            before = total.get(key)
            first = before.first if before else offset + one.first
            count = one.slots + (before.slots if before else 0)
            excess = max(one.excess, before.excess if before else 0.0)
            total[key] = ImpossibleLimit(*key, count, first, excess, slots)
    return sorted(total.values(), key=lambda one: (-one.slots, -one.excess))


def summary(found: list[ImpossibleLimit]) -> list[str]:
    """A few lines about them: the worst of every limit by name, the others counted."""
    lines = []
    for limit in dict.fromkeys(one.limit for one in found):
        of_limit = [one for one in found if one.limit == limit]
        lines += [str(one) for one in of_limit[:SHOWN]]
        if len(of_limit) > SHOWN:
            noun = "branches" if limit == "s_max_kva" else "buses"
            lines.append(f"{len(of_limit) - SHOWN} more {noun} whose {limit} no dispatch keeps")
    return lines


def _injections(community: Community, horizon: Horizon, block: slice) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest injection of the flexible homes by bus, each (slots, B) in kW."""
    homes, battery = community.prosumers, community.prosumers.battery
    moves = np.asarray(homes.flexible)
    load, pv = (np.asarray(x[block], float)[:, moves] for x in (horizon.load, horizon.pv))
    share, charge, discharge = (
        np.asarray(x, float)[moves]
        for x in (homes.load_flex_share, battery.charge_max, battery.discharge_max)
    )
    if (plugs := horizon.plugs) is not None:
        of_homes = lambda power: np.asarray(power[block], float).sum(1)[:, moves]
        charge, discharge = charge + of_homes(plugs.charge_max), discharge + of_homes(plugs.discharge_max)
    bus = np.asarray(homes.bus)[moves]
    at_buses = lambda injection: community.network.at_buses(injection, bus)
    return at_buses(-load * (1 + share) - charge), at_buses(pv + discharge - load * (1 - share))
