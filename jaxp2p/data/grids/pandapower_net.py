"""Reader of pandapower nets: their tables by name, so that it needs no pandapower itself."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from jaxp2p.data.grids.parts import Branch, Bus, Grid, Head, Load, Plant, Shunt, Store, unique_names
from jaxp2p.data.grids.transformer import Ends, Model, transformer_branch

UNKNOWN_ELEMENTS = {
    "trafo3w": "transformers with three windings",
    "dcline": "DC lines",
    "xward": "extended ward equivalents",
    "svc": "static var compensators",
    "ssc": "static synchronous compensators",
    "tcsc": "series compensators",
    "vsc": "converters",
    "b2b_vsc": "back-to-back converters",
    "line_dc": "lines of direct current",
}
"""What a net may hold and a tree of lines and transformers cannot."""

_PHASES = ("p_a_mw", "p_b_mw", "p_c_mw", "q_a_mvar", "q_b_mvar", "q_c_mvar")
NO_LIMIT_KA = 999.0  # and more: what nets without ratings have in place of one
SWITCH_R, SWITCH_X = 2 / math.sqrt(5), 1 / math.sqrt(5)  # of z_ohm, as pandapower splits it (r / x = 2)


def cell(row: Any, column: str, default: float = math.nan) -> float:
    """A number of a row, the default where the cell is empty or the column is absent."""
    value = row.get(column)
    if value is None or pd.isna(value):
        return default
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def read_net(net: Any, name: str, *, model: Model = "t", untyped_taps: bool = False) -> Grid:
    """The grid of a pandapower net, as `runpp(trafo_model=model)` has it.

    untyped_taps: positions of taps count also where the net does not say of which type the changer is;
    pandapower 3 leaves them out.

    Raises:
        ValueError: the net has elements that no tree of lines and transformers can tell.
    """
    _refuse_unknown(net, name)
    grid = Grid(name)
    _read_buses(grid, net)
    known = {bus.key: bus for bus in grid.buses}
    everywhere = {int(bus) for bus in net["bus"].index}
    opened = _read_switches(grid, net, everywhere)
    _read_lines(grid, net, known, everywhere, opened)
    _read_transformers(grid, net, known, everywhere, opened, model, untyped_taps)
    _read_impedances(grid, net, known)
    _read_heads(grid, net, everywhere)
    _read_loads(grid, net, everywhere)
    _read_plants(grid, net, everywhere)
    _read_shunts(grid, net, known, everywhere)
    if net.get("controller") is not None and len(net["controller"]):
        grid.note("controllers", net["controller"].index, "left out, what they control stays as it stands")
    return grid


def _refuse_unknown(net: Any, name: str) -> None:
    for element, text in UNKNOWN_ELEMENTS.items():
        frame = net.get(element)
        if frame is None or not len(frame):
            continue
        count = int(frame["in_service"].sum()) if "in_service" in frame else len(frame)
        if count:
            raise ValueError(f"{name} has {text} ({count}), which cannot be imported")


def _rows(grid: Grid, net: Any, table: str, what: str) -> Iterator[tuple[str, Any]]:
    """Name and cells of every element in service; the others are noted."""
    frame = net.get(table)
    if frame is None or not len(frame):
        return
    names = unique_names(frame["name"] if "name" in frame else [""] * len(frame), frame.index)
    off = []
    for name, (index, row) in zip(names, frame.iterrows(), strict=True):
        row["index"] = index
        if "in_service" in frame and not row["in_service"]:
            off.append(name)
        else:
            yield name, row
    grid.note(what, off, "left out, they are out of service")


def _read_buses(grid: Grid, net: Any) -> None:
    frame = net["bus"]
    names = unique_names(frame["name"], frame.index)
    off = []
    for name, (index, row) in zip(names, frame.iterrows(), strict=True):
        if "in_service" in frame and not row["in_service"]:
            off.append(name)
            continue
        level = cell(row, "vn_kv")
        if not (math.isfinite(level) and level > 0):
            grid.fault("bus", "vn_kv", f"{name}: {level:g} must be a finite number above 0")
        limits = cell(row, "min_vm_pu"), cell(row, "max_vm_pu")
        grid.buses.append(Bus(int(index), name, level, *limits, *_coordinates(net, row, index)))
    grid.note("buses", off, "left out, they are out of service")


def _coordinates(net: Any, row: Any, bus: int) -> tuple[float, float]:
    if isinstance(row.get("geo"), str):
        try:
            x, y = json.loads(row["geo"])["coordinates"][:2]
            return float(x), float(y)
        except (ValueError, KeyError, TypeError):
            return math.nan, math.nan
    places = net.get("bus_geodata")  # pandapower before 3.0
    if places is not None and bus in places.index:
        return float(places.at[bus, "x"]), float(places.at[bus, "y"])
    return math.nan, math.nan


def _at(grid: Grid, table: str, column: str, name: str, row: Any, everywhere: set[int]) -> int | None:
    """The bus that a row names; None, with a fault, where there is none."""
    bus = cell(row, column)
    if bus in everywhere:
        return int(bus)
    grid.fault(
        table, column, f"{name}: there is no bus {'' if math.isnan(bus) else format(bus, 'g')}".rstrip()
    )
    return None


def _read_switches(grid: Grid, net: Any, everywhere: set[int]) -> dict[str, set[tuple[int, int]]]:
    """(element, bus) of open switches by kind of element; closed ones between buses become joins."""
    opened: dict[str, set[tuple[int, int]]] = {"l": set(), "t": set()}
    frame = net.get("switch")
    if frame is None or not len(frame):
        return opened
    apart = []
    names = unique_names(frame["name"] if "name" in frame else [""] * len(frame), frame.index)
    for name, (_, row) in zip(names, frame.iterrows(), strict=True):
        kind, closed = str(row["et"]), bool(row["closed"])
        bus = _at(grid, "switch", "bus", name, row, everywhere)
        if kind in opened and not closed and bus is not None:
            opened[kind].add((int(row["element"]), bus))
        if kind != "b":
            continue
        other = _at(grid, "switch", "element", name, row, everywhere)
        if not closed:
            apart.append(name)
        elif bus is not None and other is not None:
            z = cell(row, "z_ohm", 0.0)
            if z > 0:
                own = f"switch {name}"
                grid.branches.append(Branch(own, "line", bus, other, complex(z * SWITCH_R, z * SWITCH_X)))
            else:
                grid.joins.append((bus, other))
    grid.note("open switches between buses", apart, "left out")
    return opened


def _read_lines(grid: Grid, net: Any, known: dict, everywhere: set[int], opened: dict) -> None:
    types = (net.get("std_types") or {}).get("line", {})
    angular = 2 * math.pi * float(net.get("f_hz", 50.0) or 50.0)
    repaired, unrated, dead = [], [], []
    for name, row in _rows(grid, net, "line", "lines"):
        one, two = (_at(grid, "line", end, name, row, everywhere) for end in ("from_bus", "to_bus"))
        kind = row.get("std_type")
        for column in ("r_ohm_per_km", "x_ohm_per_km"):
            if math.isnan(cell(row, column)) and kind in types:
                row[column] = types[kind].get(column)
                repaired.append(name)
        r, x, length = cell(row, "r_ohm_per_km"), cell(row, "x_ohm_per_km"), cell(row, "length_km")
        parallel = cell(row, "parallel", 1.0)
        if (math.isnan(r) or math.isnan(x)) and isinstance(kind, str) and kind not in types:
            grid.fault("line", "std_type", f'{name}: unknown line type "{kind}", and no impedance of its own')
            continue
        charging, leaking = cell(row, "c_nf_per_km", 0.0), cell(row, "g_us_per_km", 0.0)
        numbers = {"length_km": length, "r_ohm_per_km": r, "x_ohm_per_km": x, "parallel": parallel}
        numbers |= {"c_nf_per_km": charging, "g_us_per_km": leaking}
        bad = [c for c, value in numbers.items() if not (math.isfinite(value) and value >= 0)]
        bad += ["parallel"] if parallel == 0 else []
        for column in bad:
            grid.fault(
                "line", column, f"{name}: {numbers[column]:g} must be a finite number and not negative"
            )
        if bad or one is None or two is None:
            continue
        closed = ((int(row["index"]), one) not in opened["l"], (int(row["index"]), two) not in opened["l"])
        if not any(shut and end in known for shut, end in zip(closed, (one, two), strict=True)):
            dead.append(name)
            continue
        amps = cell(row, "max_i_ka") * parallel * cell(row, "df", 1.0)
        rated = math.isfinite(amps) and 0 < amps < NO_LIMIT_KA
        if not rated:
            unrated.append(name)
        level = known[one if one in known else two].vn_kv
        grid.branches.append(
            Branch(
                name,
                "line",
                one,
                two,
                complex(r, x) * length / parallel,
                complex(1e-6 * leaking, 1e-9 * angular * charging) * length * parallel,
                1000 * math.sqrt(3) * level * amps if rated else math.inf,
                closed=closed,
            )
        )
    grid.note("lines", dict.fromkeys(repaired), "without impedance, which is that of their type")
    grid.note("lines", unrated, "without a usable max_i_ka, so they are unrated")
    grid.note("lines", dead, "left out, they are open at both ends")


def _read_transformers(
    grid: Grid, net: Any, known: dict, everywhere: set[int], opened: dict, model: Model, untyped_taps: bool
) -> None:
    dead, turned = [], []
    for name, row in _rows(grid, net, "trafo", "transformers"):
        high, low = (_at(grid, "trafo", end, name, row, everywhere) for end in ("hv_bus", "lv_bus"))
        if high is None or low is None:
            continue
        closed = ((int(row["index"]), high) not in opened["t"], (int(row["index"]), low) not in opened["t"])
        closed = (closed[0] and high in known, closed[1] and low in known)
        if not any(closed):
            dead.append(name)
            continue
        up, down = (float(net["bus"].at[bus, "vn_kv"]) for bus in (high, low))
        if not all(math.isfinite(level) and level > 0 for level in (up, down)):
            continue  # said of the bus
        if cell(row, "shift_degree", 0.0) % 360:
            turned.append(name)
        branch = transformer_branch(
            grid, row, name, Ends(high, low, up, down, closed), cell,
            model=model, untyped_taps=untyped_taps, table=net.get("trafo_characteristic_table"),
        )  # fmt: skip
        if branch is not None:
            grid.branches.append(branch)
    grid.note("transformers", turned, "their phase shift is left out, which moves no power in a tree")
    grid.note("transformers", dead, "left out, they are open at both ends")


def _read_impedances(grid: Grid, net: Any, known: dict) -> None:
    for name, row in _rows(grid, net, "impedance", "impedances"):
        one, two = (_at(grid, "impedance", end, name, row, set(known)) for end in ("from_bus", "to_bus"))
        if one is None or two is None:
            continue
        ends = [
            [cell(row, f"{part}{ends}_pu", 0.0) for part, ends in way]
            for way in (
                (("r", "ft"), ("x", "ft"), ("g", "f"), ("b", "f")),
                (("r", "tf"), ("x", "tf"), ("g", "t"), ("b", "t")),
            )
        ]
        if ends[0] != ends[1]:
            grid.fault(
                "impedance", "rtf_pu", f"{name}: differs between its two directions, which no branch does"
            )
            continue
        r, x, g, b = ends[0]
        base = known[two].vn_kv ** 2 / cell(row, "sn_mva")
        kind = "line" if known[one].vn_kv == known[two].vn_kv else "transformer"
        grid.branches.append(Branch(name, kind, one, two, complex(r, x) * base, 2 * complex(g, b) / base))


def _read_heads(grid: Grid, net: Any, everywhere: set[int]) -> None:
    for name, row in _rows(grid, net, "ext_grid", "connections to a grid above"):
        bus = _at(grid, "ext_grid", "bus", name, row, everywhere)
        vm = cell(row, "vm_pu")
        if not (math.isfinite(vm) and vm > 0):
            grid.fault("ext_grid", "vm_pu", f"{name}: {vm:g} must be a finite number above 0")
        elif bus is not None:
            grid.heads.append(Head(name, bus, vm))


def _power(grid: Grid, table: str, name: str, row: Any, *columns: str) -> list[float]:
    """kW or kvar of MW or Mvar, with the scaling of the row; NaN, with a fault, is 0."""
    scaling, values = cell(row, "scaling", 1.0), []
    for column in columns:
        value = cell(row, column, 0.0 if column.startswith("q") else math.nan) * scaling
        if not math.isfinite(value):
            grid.fault(table, column, f"{name}: {value:g} must be a finite number")
        values.append(1000 * value if math.isfinite(value) else 0.0)
    return values


def _read_loads(grid: Grid, net: Any, everywhere: set[int]) -> None:
    for name, row in _rows(grid, net, "load", "loads"):
        kw, kvar = _power(grid, "load", name, row, "p_mw", "q_mvar")
        # one pair of shares for both powers before pandapower 3
        z, i, zq, iq = (
            cell(row, f"const_{part}_{power}_percent", cell(row, f"const_{part}_percent", 0.0)) / 100
            for power in "pq"
            for part in "zi"
        )
        if not (z >= 0 and i >= 0 and z + i <= 1 + 1e-9 and zq >= 0 and iq >= 0 and zq + iq <= 1 + 1e-9):
            grid.fault(
                "load", "const_z_p_percent", f"{name}: shares must be at least 0 and at most 100 % in all"
            )
        bus = _at(grid, "load", "bus", name, row, everywhere)
        _place(grid.loads, Load(name, bus, kw, kvar, z * kw, i * kw, zq * kvar, iq * kvar))
    for name, row in _rows(grid, net, "motor", "motors"):
        kw = 1000 * cell(row, "pn_mech_mw") / cell(row, "efficiency_percent") * cell(row, "loading_percent")
        kw, cosine = kw * cell(row, "scaling", 1.0), cell(row, "cos_phi")
        if not (math.isfinite(kw) and 0 < cosine <= 1):
            grid.fault("motor", "pn_mech_mw", f"{name}: its power cannot be told")
            continue
        bus = _at(grid, "motor", "bus", name, row, everywhere)
        _place(grid.loads, Load(name, bus, kw, kw * math.tan(math.acos(cosine))))
    for name, row in _rows(grid, net, "ward", "ward equivalents"):
        kw, kvar = _power(grid, "ward", name, row.drop("scaling", errors="ignore"), "ps_mw", "qs_mvar")
        _place(grid.loads, Load(name, _at(grid, "ward", "bus", name, row, everywhere), kw, kvar))
    phases = []
    for name, row in _rows(grid, net, "asymmetric_load", "loads of single phases"):
        power = _power(grid, "asymmetric_load", name, row, *_PHASES)
        bus = _at(grid, "asymmetric_load", "bus", name, row, everywhere)
        _place(grid.loads, Load(name, bus, sum(power[:3]), sum(power[3:])))
        phases.append(name)
    grid.note("loads of single phases", phases, "spread over three phases")


def _place(elements: list, element: Any) -> None:
    if element.bus is not None:
        elements.append(element)


def _read_plants(grid: Grid, net: Any, everywhere: set[int]) -> None:
    for name, row in _rows(grid, net, "sgen", "static generators"):
        kw, kvar = _power(grid, "sgen", name, row, "p_mw", "q_mvar")
        bus = _at(grid, "sgen", "bus", name, row, everywhere)
        kind = str(row.get("type") or "").lower()
        _place(grid.plants, Plant(name, bus, kw, kvar, "pv" in kind or "solar" in kind))
    for name, row in _rows(grid, net, "asymmetric_sgen", "generators of single phases"):
        phases = _power(grid, "asymmetric_sgen", name, row, *_PHASES)
        bus = _at(grid, "asymmetric_sgen", "bus", name, row, everywhere)
        _place(grid.plants, Plant(name, bus, sum(phases[:3]), sum(phases[3:])))
    held = []
    for name, row in _rows(grid, net, "gen", "generators"):
        kw = _power(grid, "gen", name, row, "p_mw")[0]
        bus = _at(grid, "gen", "bus", name, row, everywhere)
        if bus is not None and str(row.get("slack")) == "True":
            grid.heads.append(Head(name, bus, cell(row, "vm_pu", 1.0)))
            continue
        _place(grid.plants, Plant(name, bus, kw))
        held.append(name)
    grid.note("generators", held, "they hold no voltage here; what they feed in is active power")
    for name, row in _rows(grid, net, "storage", "storage units"):
        kw, kvar = _power(grid, "storage", name, row, "p_mw", "q_mvar")
        kwh, least = 1000 * cell(row, "max_e_mwh"), 1000 * cell(row, "min_e_mwh", 0.0)
        most = 1000 * max(abs(cell(row, "max_p_mw", 0.0)), cell(row, "sn_mva", 0.0))
        power = abs(kw) or most
        bus = _at(grid, "storage", "bus", name, row, everywhere)
        if not (math.isfinite(kwh) and 0 <= least <= kwh):
            grid.fault(
                "storage", "max_e_mwh", f"{name}: {kwh / 1000:g} must be finite and at least min_e_mwh"
            )
        else:
            _place(grid.stores, Store(name, bus, kwh, least, power, kw, kvar))


def _read_shunts(grid: Grid, net: Any, known: dict, everywhere: set[int]) -> None:
    for name, row in _rows(grid, net, "shunt", "shunts"):
        bus = _at(grid, "shunt", "bus", name, row, everywhere)
        if bus not in known:
            continue
        if str(row.get("step_dependency_table")) == "True":
            grid.fault("shunt", "step_dependency_table", f"{name}: tables of shunt steps cannot be read")
            continue
        step = cell(row, "step", 1.0)
        scale = 1000 * step * (known[bus].vn_kv / cell(row, "vn_kv", known[bus].vn_kv)) ** 2
        kw, kvar = scale * cell(row, "p_mw", 0.0), scale * cell(row, "q_mvar", 0.0)
        if not (math.isfinite(kw) and math.isfinite(kvar)):
            grid.fault("shunt", "q_mvar", f"{name}: its power must be a finite number")
            continue
        grid.shunts.append(Shunt(name, bus, kw, kvar))
    for name, row in _rows(grid, net, "ward", "ward equivalents"):
        bus = _at(grid, "ward", "bus", name, row, everywhere)
        if bus in known:
            grid.shunts.append(Shunt(name, bus, 1000 * cell(row, "pz_mw"), 1000 * cell(row, "qz_mvar")))
