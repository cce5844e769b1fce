"""The buses and branches of a pandapower net with one head: a tree, or a sentence that says why it is none.

The rules stand in `jaxp2p.data.simbench`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

UNKNOWN_ELEMENTS = {
    "gen": "power plants that hold a voltage",
    "trafo3w": "transformers with three windings",
    "impedance": "impedance elements",
    "dcline": "DC lines",
    "shunt": "shunts",
    "ward": "ward equivalents",
    "xward": "extended ward equivalents",
}
"""What a net may hold and a tree of lines and transformers cannot."""


class Branch(NamedTuple):
    """A line or transformer in service between two buses."""

    name: str
    from_bus: str
    to_bus: str
    kind: str
    impedance: complex  # ohm, referred to the lower voltage of the two ends
    rating: float  # kVA


class Grid(NamedTuple):
    """The tables `buses` and `lines`, and what joined buses are called."""

    buses: pd.DataFrame
    lines: pd.DataFrame
    bus_name: dict[int, str]  # by pandapower's index, for every bus; joined buses share a name
    merged_branches: list[str]  # names of those that stand for several parallel ones


def read_grid(net: Any, code: str) -> Grid:
    """The radial grid of a pandapower net.

    Raises:
        ValueError: the net has not one head, is meshed, or has elements or taps that tables cannot tell.
    """
    _refuse_unknown(net, code)
    head = _head(net, code)
    leader = _joined_buses(net)
    names = net.bus["name"].astype(str)
    if names.duplicated().any():
        names = names + " #" + names.index.astype(str)
    bus_name = {int(bus): names[leader[bus]] for bus in net.bus.index}
    slack = leader[int(head.bus)]
    ratio = _head_ratio(net, code, leader, slack)
    branches, merged = _merge_parallel(_branches(net, bus_name))
    _refuse_loops(branches, code)
    rows = [(*branch[:4], branch.impedance.real, branch.impedance.imag, branch.rating) for branch in branches]
    frame = pd.DataFrame(
        rows,
        columns=["line_id", "from_bus", "to_bus", "kind", "r_ohm", "x_ohm", "s_max_kva"],
    )
    return Grid(
        buses=_buses(net, leader, bus_name, slack=slack, v_set=float(head.vm_pu) / ratio),
        lines=frame.round({"r_ohm": 9, "x_ohm": 9, "s_max_kva": 6}),
        bus_name=bus_name,
        merged_branches=merged,
    )


def _refuse_unknown(net: Any, code: str) -> None:
    for element, text in UNKNOWN_ELEMENTS.items():
        frame = net.get(element)
        count = 0 if frame is None or not len(frame) else int(frame["in_service"].sum())
        if count:
            raise ValueError(f"{code} has {text} ({count}), which cannot be imported")


def _head(net: Any, code: str) -> Any:
    heads = net.ext_grid.loc[net.ext_grid["in_service"]]
    if len(heads) != 1:
        at = ", ".join(str(net.bus.at[bus, "name"]) for bus in heads["bus"][:5])
        more = f" and {len(heads) - 5} more" if len(heads) > 5 else ""
        raise ValueError(
            f"{code} has {len(heads)} connections to a grid above"
            + (f" ({at}{more})" if len(heads) else "")
            + "; a community has one head"
        )
    return heads.iloc[0]


def _joined_buses(net: Any) -> dict[int, int]:
    """For every bus the one that stands for it after closed bus-bus switches."""
    leader = {int(bus): int(bus) for bus in net.bus.index}

    def root(bus: int) -> int:
        while leader[bus] != bus:
            bus = leader[bus]
        return bus

    for switch in net.switch.itertuples():
        if switch.et == "b" and switch.closed:
            one, two = sorted((root(int(switch.bus)), root(int(switch.element))))
            leader[two] = one
    return {bus: root(bus) for bus in leader}


def _buses(net: Any, leader: dict[int, int], bus_name: dict[int, str], *, slack: int, v_set: float):
    frame = net.bus.loc[
        [bus for bus in net.bus.index if leader[bus] == bus and net.bus.at[bus, "in_service"]]
    ]
    is_slack = frame.index == slack
    point = [_coordinates(net, bus) for bus in frame.index]

    def limit(column: str, default: float) -> np.ndarray:
        values = frame[column].to_numpy(float) if column in frame else np.full(len(frame), np.nan)
        # The limits at the head are those of the grid above; its voltage is fixed and referred to this side.
        return np.where(np.isnan(values) | is_slack, default, values)

    return pd.DataFrame(
        {
            "bus_id": [bus_name[bus] for bus in frame.index],
            "vn_kv": frame["vn_kv"].to_numpy(float),
            "v_min_pu": limit("min_vm_pu", 0.9),
            "v_max_pu": limit("max_vm_pu", 1.1),
            "slack": is_slack.astype(float),
            "v_set_pu": np.where(is_slack, round(v_set, 9), 1.0),
            "x": [xy[0] for xy in point],
            "y": [xy[1] for xy in point],
        }
    )


def _coordinates(net: Any, bus: int) -> tuple[float, float]:
    if "geo" in net.bus and isinstance(net.bus.at[bus, "geo"], str):
        x, y = json.loads(net.bus.at[bus, "geo"])["coordinates"][:2]
        return float(x), float(y)
    if "bus_geodata" in net and bus in net.bus_geodata.index:  # pandapower before 3.0
        return float(net.bus_geodata.at[bus, "x"]), float(net.bus_geodata.at[bus, "y"])
    return float("nan"), float("nan")


def _head_ratio(net: Any, code: str, leader: dict[int, int], slack: int) -> float:
    """The turns ratio between the head and the grid behind it.

    It becomes part of the voltage that the head holds, so all branches at the head must share it, and a
    transformer anywhere else must be at its nominal ratio.
    """
    at_head: dict[float, list[str]] = defaultdict(list)
    for index, trafo in _live(net, "trafo", "t"):
        ratio = round(_turns_ratio(net, index), 9)
        if leader[int(trafo.hv_bus)] == slack:
            at_head[ratio].append(str(trafo["name"]))
        elif ratio != 1.0:
            raise ValueError(
                f"{code}: the transformer {trafo['name']} is {100 * (ratio - 1):+.3g} % off its nominal "
                "ratio; only a transformer at the head may be"
            )
    for _, line in _live(net, "line", "l"):
        ends = {leader[int(line.from_bus)], leader[int(line.to_bus)]}
        if slack in ends and len(ends) == 2:
            at_head[1.0].append(str(line["name"]))
    if len(at_head) > 1:
        which = "; ".join(f"{', '.join(names)}: {ratio:g}" for ratio, names in at_head.items())
        raise ValueError(
            f"{code}: the branches at the head have different turns ratios ({which}), which one head "
            "voltage cannot stand for"
        )
    return next(iter(at_head), 1.0)


def _turns_ratio(net: Any, index: int) -> float:
    """Voltage ratio of a transformer over that of its buses, tap included; 1 for a nominal one."""
    trafo = net.trafo.loc[index]
    position, neutral, step = (number(trafo[f"tap_{part}"]) for part in ("pos", "neutral", "step_percent"))
    tap = 1.0 + (position - neutral) * step / 100.0
    high, low = float(trafo.vn_hv_kv), float(trafo.vn_lv_kv)
    if trafo.tap_side == "hv":
        high *= tap
    elif trafo.tap_side == "lv":
        low *= tap
    return (high / net.bus.at[trafo.hv_bus, "vn_kv"]) / (low / net.bus.at[trafo.lv_bus, "vn_kv"])


def number(value: Any) -> float:
    """A cell of a pandapower table, 0 where it is empty."""
    return 0.0 if value is None or pd.isna(value) else float(value)


def _live(net: Any, table: str, kind: str):
    """The rows of a branch table that are in service and have no open switch."""
    switch = net.switch
    opened = set(switch.loc[(switch.et == kind) & ~switch.closed.astype(bool), "element"])
    return [(i, row) for i, row in net[table].iterrows() if row.in_service and i not in opened]


def _branches(net: Any, bus_name: dict[int, str]) -> list[Branch]:
    found = []
    for _, trafo in _live(net, "trafo", "t"):
        # Percent of the rated impedance on the low-voltage side; the rated voltage is that of the winding.
        rated = float(trafo.vn_lv_kv) ** 2 / float(trafo.sn_mva) / float(trafo.parallel)
        r, z = trafo.vkr_percent / 100 * rated, trafo.vk_percent / 100 * rated
        ends = bus_name[trafo.hv_bus], bus_name[trafo.lv_bus]
        rating = 1000 * trafo.sn_mva * trafo.parallel * trafo.df
        impedance = complex(r, np.sqrt(z**2 - r**2))
        found.append(Branch(str(trafo["name"]), *ends, "transformer", impedance, rating))
    for _, line in _live(net, "line", "l"):
        length = line.length_km / line.parallel
        current = line.max_i_ka * line.parallel * line.df
        rating = 1000 * np.sqrt(3) * net.bus.at[line.from_bus, "vn_kv"] * current
        ends = bus_name[line.from_bus], bus_name[line.to_bus]
        impedance = complex(line.r_ohm_per_km * length, line.x_ohm_per_km * length)
        found.append(Branch(str(line["name"]), *ends, "line", impedance, rating))
    return [branch for branch in found if branch.from_bus != branch.to_bus]


def _merge_parallel(branches: list[Branch]) -> tuple[list[Branch], list[str]]:
    """Branches of one kind between the same two buses as one; the names of those that were merged.

    The impedances are in parallel. The current divides by admittance, so the first of them to be full sets
    the rating: min over k of S_k |Z_k| / |Z|.
    """
    groups: dict[tuple, list[Branch]] = defaultdict(list)
    for branch in branches:
        groups[frozenset((branch.from_bus, branch.to_bus)), branch.kind].append(branch)
    merged, names = [], []
    for group in groups.values():
        if len(group) == 1:
            merged += group
            continue
        firm = [branch for branch in group if branch.impedance == 0] or group  # no impedance carries all
        if firm is group:
            impedance = 1 / sum(1 / branch.impedance for branch in group)
            rating = min(branch.rating * abs(branch.impedance) / abs(impedance) for branch in group)
        else:
            impedance, rating = 0j, sum(branch.rating for branch in firm)
        name = " + ".join(branch.name for branch in group)
        merged.append(group[0]._replace(name=name, impedance=impedance, rating=rating))
        names.append(name)
    return merged, names


def _refuse_loops(branches: list[Branch], code: str) -> None:
    leader: dict[str, str] = {}

    def root(bus: str) -> str:
        while leader.setdefault(bus, bus) != bus:
            leader[bus] = leader[leader[bus]]
            bus = leader[bus]
        return bus

    closing = []
    for branch in branches:
        one, two = root(branch.from_bus), root(branch.to_bus)
        if one == two:
            closing.append(branch.name)
        leader[one] = two
    if closing:
        count = f"{len(closing)} branches close loops" if len(closing) > 1 else "a branch closes a loop"
        some = ", ".join(closing[:3]) + (", ..." if len(closing) > 3 else "")
        raise ValueError(f"{code} is meshed: {count} ({some}); a community lives on a radial grid")
