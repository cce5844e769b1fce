"""Results written back into the pandapower net that a community was imported from.

Names of buses and branches in the tables are those of the net (`data.grids.pandapower_net`), so its result
tables can be filled as its own power flow fills them: res_bus, res_line, res_trafo. What import joined or
left out stays empty, and is returned.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from jaxp2p._pytree import present
from jaxp2p.data.grids.parts import unique_names
from jaxp2p.model.network import Flow, Network, on_host
from jaxp2p.model.network.tree import Tree

ENDS = {"line": ("from", "to"), "trafo": ("hv", "lv")}


def write_back(net: Any, network: Network, flow: Flow, case: str = "") -> list[str]:
    """Fill the result tables of `net` with one flow; returns the elements that stay empty, in words.

    Powers at the ends count into the branch, in MW and Mvar, as in pandapower. Raises ValueError where no bus
    of the net is in the network.
    """
    grid, (real, imag) = on_host(network), (np.asarray(flow.real), np.asarray(flow.imag))
    buses = {name: n for n, name in enumerate(grid.bus_ids)}
    frame = net["bus"]
    names = unique_names(frame["name"], frame.index)
    place = [buses.get(name) for name in names]
    if not any(n is not None for n in place):
        raise ValueError(f"no bus of this net is in {case or 'the case'}: write back into the net it is from")
    volts, angles = np.hypot(real, imag), np.degrees(np.arctan2(imag, real))
    known = lambda values: [np.nan if n is None else float(values[n]) for n in place]
    net["res_bus"] = pd.DataFrame({"vm_pu": known(volts), "va_degree": known(angles)}, index=frame.index)
    empty = [f"bus {name}" for name, n in zip(names, place, strict=True) if n is None]
    branches = {name: n for n, name in enumerate(grid.branch_ids)}
    bus_of = dict(zip(frame.index, place, strict=True))
    for table, ends in ENDS.items():
        rows = net.get(table)
        if rows is None or not len(rows):
            continue
        found = [branches.get(name) for name in unique_names(rows["name"], rows.index)]
        empty += [
            f"{table} {name}"
            for name, n in zip(unique_names(rows["name"], rows.index), found, strict=True)
            if n is None
        ]
        columns = _branch_columns(present(grid.tree), flow, found, rows, ends, bus_of)
        net[f"res_{table}"] = pd.DataFrame(columns, index=rows.index)
    return empty


def _branch_columns(
    tree: Tree, flow: Flow, found: list[int | None], rows: pd.DataFrame, ends: tuple[str, str], bus_of: dict
) -> dict[str, list[float]]:
    columns: dict[str, list[float]] = {}
    near = np.asarray(tree.near)
    first = [bus_of.get(bus) for bus in rows[f"{ends[0]}_bus"]]
    # into the branch: what enters at the far end, and the negative of what leaves at the near one
    far = np.asarray(flow.far_active), np.asarray(flow.far_reactive)
    close = -np.asarray(flow.near_active), -np.asarray(flow.near_reactive)
    for end in ends:
        for name, at_far, at_near in zip(("p", "q"), far, close, strict=True):
            unit = "mw" if name == "p" else "mvar"
            columns[f"{name}_{end}_{unit}"] = [
                np.nan
                if n is None
                else float((at_near if (near[n] == begin) == (end == ends[0]) else at_far)[n]) / 1000
                for n, begin in zip(found, first, strict=True)
            ]
    pairs = ends[0], ends[1]
    columns["pl_mw"] = [a + b for a, b in zip(*(columns[f"p_{end}_mw"] for end in pairs), strict=True)]
    loading = np.asarray(flow.loading)
    columns["loading_percent"] = [np.nan if n is None else 100 * float(loading[n]) for n in found]
    return columns
