"""Reader of power-grid-model's JSON files (input data, one scenario), as written by `json_serialize_to_file`.

The formulas are those of its documentation, "Components". A source has an impedance there, so the bus that is
held is one more, behind it.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxp2p.data.grids.parts import Branch, Bus, Grid, Head, Load, Plant, Shunt, unique_names

READ = frozenset({"node", "line", "transformer", "generic_branch", "link", "source", "sym_load", "asym_load"})
READ |= {"sym_gen", "asym_gen", "shunt"}
REFUSED = {
    "three_winding_transformer": "transformers with three windings",
    "asym_line": "lines of unlike phases",
}
SOURCE_SK, SOURCE_RX = 1e10, 0.1  # VA and r / x, where a source does not say
NO_LIMIT_A = 1e6  # and more, or NaN

Row = dict[str, Any]


def read_power_grid_model(path: Path) -> Grid:
    """The grid of a file.

    Raises:
        ValueError: the file is no such data, or of several scenarios, or has elements of no tree; OSError.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name} is no JSON file: {error}") from error
    return grid_of_data(data, path.stem)


def grid_of_data(data: Any, name: str) -> Grid:
    """The grid of a parsed file."""
    if (
        not isinstance(data, dict)
        or not isinstance(data.get("data"), dict | list)
        or "attributes" not in data
    ):
        raise ValueError(f"{name} is no power-grid-model data")
    if data.get("is_batch") or data.get("type", "input") != "input":
        raise ValueError(f"{name} has to be input data of one scenario, not {data.get('type')} or a batch")
    tables = {
        kind: [_named(row, data["attributes"].get(kind)) for row in rows]
        for kind, rows in data["data"].items()
    }
    for kind, words in REFUSED.items():
        if tables.get(kind):
            raise ValueError(f"{name} has {words} ({len(tables[kind])}), which cannot be imported")
    grid = Grid(name)
    for kind, rows in tables.items():
        if kind not in READ and rows:
            grid.note(kind, [row.get("id") for row in rows], "left out, it moves no power")
    _read_nodes(grid, tables.get("node", []))
    level = {bus.key: bus.vn_kv for bus in grid.buses}
    _read_branches(grid, tables, level)
    _read_sources(grid, tables.get("source", []), level)
    _read_appliances(grid, tables, level)
    return grid


def _named(row: Any, attributes: list[str] | None) -> Row:
    if isinstance(row, dict):
        return row
    if attributes is None or len(row) != len(attributes):
        raise ValueError("rows without names need `attributes` of the same length")
    return dict(zip(attributes, row, strict=True))


def _number(row: Row, column: str, default: float = math.nan) -> float:
    value = row.get(column)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return default
    if isinstance(value, str):
        return {"inf": math.inf, "+inf": math.inf, "-inf": -math.inf}.get(value, math.nan)
    return float(value)


def _numbers(grid: Grid, kind: str, row: Row, needed: dict[str, bool]) -> dict[str, float] | None:
    """The finite numbers of a row; None, with faults, where one is missing or, where so said, not above 0."""
    values = {column: _number(row, column) for column in needed}
    bad = [c for c, value in values.items() if not math.isfinite(value) or (needed[c] and value <= 0)]
    for column in bad:
        words = "must be a finite number" + (" above 0" if needed[column] else "")
        grid.fault(kind, column, f"{row.get('id')}: {values[column]:g} {words}")
    return None if bad else values


def _read_nodes(grid: Grid, rows: list[Row]) -> None:
    ids = [row.get("id") for row in rows]
    times = Counter(ids)
    for name, row in zip(unique_names(ids, range(len(rows))), rows, strict=True):
        values = _numbers(grid, "node", row, {"u_rated": True})
        if times[row.get("id")] > 1:
            grid.fault("node", "id", f"{row.get('id')} stands in {times[row.get('id')]} rows")
        grid.buses.append(Bus(row.get("id"), name, values["u_rated"] / 1000 if values else math.nan))


def _ends(grid: Grid, kind: str, rows: list[Row], level: dict) -> Iterator[tuple[Row, tuple[bool, bool]]]:
    """Rows that are closed at one end at least, and have both nodes."""
    off = []
    for row in rows:
        lost = [end for end in ("from_node", "to_node") if row.get(end) not in level]
        for end in lost:
            grid.fault(kind, end, f"{row.get('id')}: there is no node {row.get(end)}")
        closed = (_number(row, "from_status", 1.0) != 0, _number(row, "to_status", 1.0) != 0)
        if not any(closed):
            off.append(row.get("id"))
        elif not lost:
            yield row, closed
    grid.note(f"{kind}s", off, "left out, they are open at both ends")


def _read_branches(grid: Grid, tables: dict[str, list[Row]], level: dict) -> None:
    for row, closed in _ends(grid, "link", tables.get("link", []), level):
        if all(closed):
            grid.joins.append((row["from_node"], row["to_node"]))
    unrated = []
    for row, closed in _ends(grid, "line", tables.get("line", []), level):
        values = _numbers(grid, "line", row, {"r1": False, "x1": False})
        c, loss, amps = _number(row, "c1", 0.0), _number(row, "tan1", 0.0), _number(row, "i_n")
        if values is None or not _not_negative(grid, "line", row, values | {"c1": c, "tan1": loss}):
            continue
        one, two = row["from_node"], row["to_node"]
        omega_c = 2 * math.pi * 50 * c
        rated = math.isfinite(amps) and 0 < amps < NO_LIMIT_A
        if not rated:
            unrated.append(row["id"])
        rating = math.sqrt(3) * level[one] * amps if rated else math.inf
        z, y = complex(values["r1"], values["x1"]), omega_c * complex(loss, 1)
        grid.branches.append(Branch(str(row["id"]), "line", one, two, z, y, rating, closed=closed))
    grid.note("lines", unrated, "without a usable i_n, so they are unrated")
    if any(_number(row, "c1", 0.0) for row in tables.get("line", [])):
        grid.note(
            "systems",
            ["50 Hz"],
            "the file does not say its frequency, the charging of cables is that of 50 Hz",
        )
    for row, closed in _ends(grid, "generic_branch", tables.get("generic_branch", []), level):
        values = _numbers(grid, "generic_branch", row, {"r1": False, "x1": False, "g1": False, "b1": False})
        if values is None or not _not_negative(
            grid, "generic_branch", row, {c: values[c] for c in ("r1", "x1", "g1")}
        ):
            continue
        sn = _number(row, "sn")
        z, y = complex(values["r1"], values["x1"]), complex(values["g1"], values["b1"])
        one, two = row["from_node"], row["to_node"]
        ratio, rating = _number(row, "k", 1.0), sn / 1000 if sn > 0 else math.inf
        plain = ratio == 1 and level[one] == level[two]
        kind = "line" if plain else "transformer"
        grid.branches.append(Branch(str(row["id"]), kind, one, two, z, y, rating, ratio, closed=closed))
    turned = []
    for row, closed in _ends(grid, "transformer", tables.get("transformer", []), level):
        branch = _transformer(grid, row, level, closed)
        if branch is not None:
            grid.branches.append(branch)
            if _number(row, "clock", 0.0) % 12:
                turned.append(row["id"])
    grid.note("transformers", turned, "their phase shift is left out, which moves no power in a tree")


def _not_negative(grid: Grid, kind: str, row: Row, values: dict[str, float]) -> bool:
    bad = [column for column, value in values.items() if not (math.isfinite(value) and value >= 0)]
    for column in bad:
        grid.fault(kind, column, f"{row.get('id')}: {values[column]:g} must be finite and not negative")
    return not bad


def _transformer(grid: Grid, row: Row, level: dict, closed: tuple[bool, bool]) -> Branch | None:
    """z = uk u2^2 / sn with r = pk u2^2 / sn^2, y = (p0 - j sqrt((i0 sn)^2 - p0^2)) / u2^2; taps move u1 or
    u2."""
    needed = {"u1": True, "u2": True, "sn": True, "uk": True, "pk": False, "i0": False, "p0": False}
    values = _numbers(grid, "transformer", row, needed)
    if values is None:
        return None
    steps = _number(row, "tap_pos", _number(row, "tap_nom", 0.0)) - _number(row, "tap_nom", 0.0)
    down = _number(row, "tap_max", 0.0) < _number(row, "tap_min", 0.0)
    volts = [values["u1"], values["u2"]]
    volts[0 if _number(row, "tap_side", 0.0) == 0 else 1] += (-steps if down else steps) * _number(
        row, "tap_size", 0.0
    )
    uk, pk = (_at_tap(row, part, values[part], steps) for part in ("uk", "pk"))
    sn = values["sn"]
    if not 0 <= pk <= uk * sn:
        grid.fault("transformer", "pk", f"{row['id']}: {pk:g} W must be between 0 and uk sn = {uk * sn:g} W")
        return None
    r, z = pk / sn**2 * volts[1] ** 2, uk / sn * volts[1] ** 2
    idle = max((values["i0"] * sn) ** 2 - values["p0"] ** 2, 0.0)
    y = complex(values["p0"], -math.sqrt(idle)) / volts[1] ** 2
    one, two = row["from_node"], row["to_node"]
    for u, end, column in ((volts[0], one, "u1"), (volts[1], two, "u2")):
        if not 0.5 < u / 1000 / level[end] < 2:
            text = f"{row['id']}: {u:g} V at a node of {1000 * level[end]:g} V; one of the levels is wrong"
            grid.fault("transformer", column, text)
            return None
    ratio = (volts[0] / level[one]) / (volts[1] / level[two])
    impedance = complex(r, math.sqrt(z**2 - r**2))
    return Branch(str(row["id"]), "transformer", one, two, impedance, y, sn / 1000, ratio, closed=closed)


def _at_tap(row: Row, part: str, nominal: float, steps: float) -> float:
    """uk or pk at the tap: between those of the ends, where the file has them."""
    nom = _number(row, "tap_nom", 0.0)
    for end in ("min", "max"):
        far, value = _number(row, f"tap_{end}") - nom, _number(row, f"{part}_{end}")
        if steps and math.isfinite(far) and math.isfinite(value) and far * steps > 0:
            return nominal + (value - nominal) * steps / far
    return nominal


def _read_sources(grid: Grid, rows: list[Row], level: dict) -> None:
    off = []
    for row in rows:
        name = f"source {row.get('id')}"
        if _number(row, "status", 1.0) == 0:
            off.append(row.get("id"))
            continue
        bus = row.get("node")
        if bus not in level:
            grid.fault("source", "node", f"{row.get('id')}: there is no node {bus}")
            continue
        values = _numbers(grid, "source", row, {"u_ref": True})
        sk, rx = _number(row, "sk", SOURCE_SK), _number(row, "rx_ratio", SOURCE_RX)
        if values is None or not sk > 0 or not rx >= 0:
            if values is not None:
                grid.fault(
                    "source", "sk", f"{row.get('id')}: {sk:g} VA must be above 0, rx_ratio {rx:g} at least 0"
                )
            continue
        z = (1000 * level[bus]) ** 2 / sk
        x = z / math.sqrt(1 + rx**2)
        grid.buses.append(Bus(name, name, level[bus]))
        grid.branches.append(Branch(f"{name} impedance", "line", name, bus, complex(rx * x, x)))
        grid.heads.append(Head(name, name, values["u_ref"]))
    grid.note("sources", off, "left out, they are out of service")


def _read_appliances(grid: Grid, tables: dict[str, list[Row]], level: dict) -> None:
    for kind in ("sym_load", "asym_load", "sym_gen", "asym_gen", "shunt"):
        off, spread, fixed = [], [], []
        for row in tables.get(kind, []):
            name, bus = str(row.get("id")), row.get("node")
            if _number(row, "status", 1.0) == 0:
                off.append(name)
                continue
            if bus not in level:
                grid.fault(kind, "node", f"{name}: there is no node {bus}")
                continue
            if kind == "shunt":
                g, b = _number(row, "g1", 0.0), _number(row, "b1", 0.0)
                if not (math.isfinite(g) and math.isfinite(b)):
                    grid.fault(kind, "g1", f"{name}: must be a finite number")
                grid.shunts.append(Shunt(name, bus, 1000 * g * level[bus] ** 2, -1000 * b * level[bus] ** 2))
                continue
            power = [row.get("p_specified"), row.get("q_specified")]
            if kind.startswith("asym"):
                spread.append(name)
            try:
                kw, kvar = (sum(p) / 1000 if isinstance(p, list) else float(p or 0.0) / 1000 for p in power)
            except (TypeError, ValueError):
                kw = kvar = math.nan
            if not (math.isfinite(kw) and math.isfinite(kvar)):
                grid.fault(kind, "p_specified", f"{name}: its power must be a finite number")
                continue
            type_ = _number(row, "type", 0.0)
            if kind.endswith("gen"):
                grid.plants.append(Plant(name, bus, kw, kvar))
                if type_:
                    fixed.append(name)
                continue
            z, i = float(type_ == 1), float(type_ == 2)
            grid.loads.append(Load(name, bus, kw, kvar, z * kw, i * kw, z * kvar, i * kvar))
        grid.note(kind, off, "left out, they are out of service")
        grid.note(kind, spread, "spread over three phases")
        grid.note(kind, fixed, "taken as constant power, which they are not")
