"""Reader of MATPOWER cases (https://matpower.org/docs/manual.pdf, appendix B)."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from jaxp2p.data.grids.matpower_file import COLUMNS, read_case
from jaxp2p.data.grids.parts import Branch, Bus, Grid, Head, Load, Plant, Shunt, unique_names

REFERENCE, ISOLATED = 3, 4  # types of buses


def read_matpower(path: Path) -> Grid:
    """The grid of a case file; p.u. of baseMVA and baseKV become ohm and siemens.

    Raises:
        ValueError: the file is no case or cannot be read; OSError: it is not there.
    """
    return grid_of_case(read_case(path), path.stem)


def grid_of_case(case: dict[str, Any], name: str) -> Grid:
    """The grid of the matrices of `read_case`."""
    grid = Grid(name)
    base = float(case["baseMVA"])
    if not (math.isfinite(base) and base > 0):
        grid.fault("mpc", "baseMVA", f"{base:g} must be a finite number above 0")
    if "dcline" in case and len(case["dcline"]):
        raise ValueError(f"{name} has DC lines ({len(case['dcline'])}), which cannot be imported")
    level = _read_buses(grid, case)
    _read_branches(grid, case, level, base)
    _read_generators(grid, case, level)
    return grid


def _rows(case: dict[str, Any], table: str) -> list[dict[str, float]]:
    return [dict(zip(COLUMNS[table], row, strict=False)) for row in np.asarray(case[table], float).tolist()]


def _finite(grid: Grid, table: str, name: str, row: dict[str, float], *columns: str) -> bool:
    bad = [column for column in columns if not math.isfinite(row[column])]
    for column in bad:
        grid.fault(f"mpc.{table}", column, f"{name}: {row[column]:g} must be a finite number")
    return not bad


def _read_buses(grid: Grid, case: dict[str, Any]) -> dict[int, float]:
    """Also loads and shunts; the levels in kV of all buses, by number."""
    rows = _rows(case, "bus")
    numbers = [int(row["BUS_I"]) if math.isfinite(row["BUS_I"]) else -1 for row in rows]
    given = case.get("bus_name")
    names = unique_names(given if given and len(given) == len(rows) else numbers, numbers)
    for number, times in Counter(numbers).items():
        if times > 1:
            grid.fault("mpc.bus", "BUS_I", f"the number {number} stands in {times} rows")
    level, alone = {}, []
    for name, number, row in zip(names, numbers, rows, strict=True):
        if not _finite(grid, "bus", name, row, "BUS_I", "BUS_TYPE", "PD", "QD", "GS", "BS", "BASE_KV"):
            continue
        level[number] = row["BASE_KV"]
        if row["BASE_KV"] <= 0:
            grid.fault(
                "mpc.bus", "BASE_KV", f"{name}: {row['BASE_KV']:g} must be above 0, else there are no ohms"
            )
            continue
        if row["BUS_TYPE"] == ISOLATED:
            alone.append(name)
            continue
        grid.buses.append(Bus(number, name, row["BASE_KV"], row["VMIN"], row["VMAX"]))
        if row["PD"] or row["QD"]:
            grid.loads.append(Load(name, number, 1000 * row["PD"], 1000 * row["QD"]))
        if row["GS"] or row["BS"]:
            grid.shunts.append(Shunt(name, number, 1000 * row["GS"], -1000 * row["BS"]))
    grid.note("buses", alone, "left out, they are isolated (type 4)")
    return level


def _read_branches(grid: Grid, case: dict[str, Any], level: dict[int, float], base: float) -> None:
    rows = _rows(case, "branch")
    names = unique_names([f"{row['F_BUS']:g}-{row['T_BUS']:g}" for row in rows], range(1, len(rows) + 1))
    off, unrated, turned = [], [], []
    for name, row in zip(names, rows, strict=True):
        if row["BR_STATUS"] == 0:
            off.append(name)
            continue
        if not _finite(grid, "branch", name, row, "F_BUS", "T_BUS", "BR_R", "BR_X", "BR_B", "TAP"):
            continue
        ends = int(row["F_BUS"]), int(row["T_BUS"])
        lost = [end for end in ends if end not in level]
        for end in lost:
            grid.fault("mpc.branch", "F_BUS" if end == ends[0] else "T_BUS", f"{name}: there is no bus {end}")
        for column in ("BR_R", "BR_X"):
            if row[column] < 0:
                grid.fault("mpc.branch", column, f"{name}: {row[column]:g} must not be negative")
        up, down = (level.get(end, 1.0) for end in ends)
        if lost or up <= 0 or down <= 0:
            continue
        ratio = row["TAP"] or 1.0
        moved = row["TAP"] != 0 or not math.isclose(up, down, rel_tol=1e-6)
        if row["TAP"] < 0:
            grid.fault("mpc.branch", "TAP", f"{name}: {row['TAP']:g} must not be negative")
            continue
        if row["SHIFT"]:
            turned.append(name)
        rated = math.isfinite(row["RATE_A"]) and row["RATE_A"] > 0
        if not rated:
            unrated.append(name)
        ohm = down**2 / base
        grid.branches.append(
            Branch(
                name,
                "transformer" if moved else "line",
                *ends,
                complex(row["BR_R"], row["BR_X"]) * ohm,
                1j * row["BR_B"] / ohm,
                1000 * row["RATE_A"] if rated else math.inf,
                ratio,
            )
        )
    grid.note("branches", off, "left out, they are out of service")
    grid.note("branches", unrated, "without RATE_A, so they are unrated")
    grid.note("transformers", turned, "their phase shift is left out, which moves no power in a tree")


def _read_generators(grid: Grid, case: dict[str, Any], level: dict[int, float]) -> None:
    references = {int(row["BUS_I"]) for row in _rows(case, "bus") if row["BUS_TYPE"] == REFERENCE}
    name = {bus.key: bus.name for bus in grid.buses}
    off, held, at_head = [], [], []
    voltage: dict[int, float] = {}
    for i, row in enumerate(_rows(case, "gen"), 1):
        own = f"gen {i}"
        if not _finite(grid, "gen", own, row, "GEN_BUS", "PG", "QG", "VG"):
            continue
        bus = int(row["GEN_BUS"])
        if bus not in level:
            grid.fault("mpc.gen", "GEN_BUS", f"{own}: there is no bus {bus}")
        elif row["GEN_STATUS"] <= 0:
            off.append(own)
        elif bus in references:
            voltage.setdefault(bus, row["VG"])
            at_head.append(own)
        else:
            held.append(own)
            grid.plants.append(Plant(own, bus, 1000 * row["PG"]))
    for bus in sorted(references):
        set_to = voltage.get(bus, 1.0)
        if set_to <= 0:
            grid.fault("mpc.gen", "VG", f"bus {bus}: {set_to:g} must be above 0")
        grid.heads.append(Head(str(name.get(bus, bus)), bus, set_to))
    alone = [str(name.get(bus, bus)) for bus in sorted(references - set(voltage))]
    grid.note("reference buses", alone, "without a generator in service, held at 1 p.u.")
    grid.note("generators", off, "left out, they are out of service")
    grid.note("generators", at_head[1:], "left out, the voltage at the reference bus is held anyway")
    grid.note("generators", held, "they hold no voltage here; what they feed in is active power")
