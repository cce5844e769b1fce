"""Is the feeder one tree? Names the line that closes a loop and the buses that nothing reaches."""

from __future__ import annotations

import numpy as np
import pandas as pd

from jaxp2p.data.faults import Fault, row_faults
from jaxp2p.data.parallel import repeated_pairs

KINDS = ("line", "transformer")
_LOOP_SHOWN = 12  # buses of a loop in a message


def topology_faults(buses: pd.DataFrame, lines: pd.DataFrame) -> list[Fault]:
    """Faults of the network as a whole: kinds, self-loops, loops, parts not connected to the slack bus."""
    names = lines["line_id"].to_numpy()
    start, end, kind = (lines[column].to_numpy() for column in ("from_bus", "to_bus", "kind"))
    faults = row_faults(
        "lines",
        "kind",
        [k not in KINDS and k != "" for k in kind],
        lambda i: f'{names[i]}: "{kind[i]}" must be "line" or "transformer"',
    )
    faults += row_faults(
        "lines",
        "to_bus",
        (start == end) & (start != ""),
        lambda i: f'{names[i]}: both ends are bus "{start[i]}"',
    )
    faults += _voltage_level_faults(buses, lines)
    parallel = repeated_pairs(start, end)  # they are merged, see `merge_parallel`
    leader: dict[str, str] = {bus: bus for bus in buses["bus_id"]}

    def root(bus: str) -> str:
        while leader[bus] != bus:
            leader[bus] = leader[leader[bus]]
            bus = leader[bus]
        return bus

    closing = np.zeros(len(lines), bool)
    for i, (a, b) in enumerate(zip(start, end, strict=True)):
        if a not in leader or b not in leader or a == b or parallel[i]:
            continue  # the first two are reported as an unknown bus and as a self-loop
        ra, rb = root(a), root(b)
        closing[i] = ra == rb
        leader[ra] = rb
    faults += row_faults(
        "lines",
        "line_id",
        closing,
        lambda i: (
            f"meshed network: {names[i]} closes the loop {_loop(i, start, end, closing)}; "
            "the feeder must be radial, so leave open tie lines out"
        ),
    )
    slack = buses.loc[buses["slack"] == 1.0, "bus_id"].tolist()
    if len(slack) == 1 and slack[0] in leader:
        source = root(slack[0])
        cut = [bus for bus in leader if bus != "" and root(bus) != source]
        if cut:
            text = ", ".join(f'"{bus}"' for bus in cut[:20]) + (
                f" and {len(cut) - 20} more" if len(cut) > 20 else ""
            )
            count = "1 bus does" if len(cut) == 1 else f"{len(cut)} buses do"
            message = f'disconnected network: {count} not reach the slack bus "{slack[0]}": {text}'
            faults.append(Fault("buses", "bus_id", None, message))
    return faults


def _loop(i: int, start: np.ndarray, end: np.ndarray, closing: np.ndarray) -> str:
    """The buses of the loop that branch i closes with those before it, as text."""
    neighbours: dict[str, list[str]] = {}
    for a, b in zip(start[:i][~closing[:i]], end[:i][~closing[:i]], strict=True):
        neighbours.setdefault(a, []).append(b)
        neighbours.setdefault(b, []).append(a)
    came: dict[str, str] = {start[i]: ""}
    queue = [start[i]]
    for bus in queue:
        for other in neighbours.get(bus, []):
            if other not in came:
                came[other] = bus
                queue.append(other)
    path = [end[i]]
    while came.get(path[-1]):
        path.append(came[path[-1]])
    words = [f'"{bus}"' for bus in (*path, end[i])]
    if len(words) > _LOOP_SHOWN:
        left = len(words) - _LOOP_SHOWN
        words = [*words[: _LOOP_SHOWN // 2], f"({left} more)", *words[-_LOOP_SHOWN // 2 :]]
    return " - ".join(words)


def _voltage_level_faults(buses: pd.DataFrame, lines: pd.DataFrame) -> list[Fault]:
    level = dict(zip(buses["bus_id"], buses["vn_kv"], strict=True))
    one = lines["from_bus"].map(level).to_numpy(float)
    two = lines["to_bus"].map(level).to_numpy(float)
    with np.errstate(invalid="ignore"):
        bad = (np.abs(one - two) > 1e-6 * np.maximum(one, two)) & (lines["kind"] == "line").to_numpy()
    return row_faults(
        "lines",
        "kind",
        bad,
        lambda i: (
            f"{lines['line_id'].iloc[i]}: a line between {one[i]:g} kV and {two[i]:g} kV; "
            'a branch between two voltage levels is a "transformer"'
        ),
    )
