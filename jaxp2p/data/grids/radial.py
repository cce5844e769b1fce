"""The tables `buses` and `lines` of a grid that is a tree as it is operated.

- Buses that closed switches (or branches without any impedance) join are one bus with the name of the first.
- A branch that is open at one end is no branch, but what it draws from the other end: its charging or iron
  losses stay there as a shunt.
- What nothing supplies and where nothing lives is left out. A part without supply where somebody lives, and a
  loop, are refused by the checks of the tables, by name.
- Transformers go from the higher to the lower voltage. Where all branches at the head share one turns ratio,
  it becomes part of the voltage held there: v_set = vm / ratio, as `v_set_pu` is defined.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxp2p.data.faults import Fault, InputError
from jaxp2p.data.grids.parts import Branch, Bus, Grid, Head, Key, Load, Shunt, unique_names
from jaxp2p.data.tables import Tables
from jaxp2p.data.validation import check

V_MIN, V_MAX = 0.9, 1.1  # p.u., where the source has no limits


class Feeder(NamedTuple):
    """Tables of a radial grid, with the loads of the source as background of the buses."""

    buses: pd.DataFrame
    lines: pd.DataFrame
    bus_name: dict[Key, str]  # joined buses share a name
    head_ratio: float  # that is part of v_set_pu


def radial_feeder(grid: Grid, *, head: str | None = None, loads: bool = True) -> Feeder:
    """The tables of the part of the grid that hangs at its head; `grid.notes` grows by what is left out.

    head: name of the head, or of its bus, where a grid has several. loads: whether loads become background.

    Raises:
        InputError: the source has faults, all of which are listed.
        ValueError: there is no head, or several and none is named.
    """
    _refuse(grid)
    leader = _joined(grid)
    _refuse(grid)
    _leave_off(grid, leader)
    top = _head(grid, leader, head)
    slack = leader[top.bus]
    level = {bus.key: bus.vn_kv for bus in grid.buses}
    branches, shunts = _closed(grid, leader, level)
    shunts += [shunt._replace(bus=leader[shunt.bus]) for shunt in grid.shunts]
    alive = _alive(grid, leader, slack, branches, only=head is not None)
    branches = [
        _downwards(branch, level, slack) for branch in branches if branch.one in alive and branch.two in alive
    ]
    ratio = _head_ratio(branches, slack)
    if ratio != 1.0:
        branches = [b._replace(ratio=1.0) if b.one == slack else b for b in branches]
    kept = [bus for bus in grid.buses if leader[bus.key] == bus.key and bus.key in alive]
    name_of = dict(zip((b.key for b in grid.buses), unique_names(*_names(grid)), strict=True))
    bus_name = {key: name_of[first] for key, first in leader.items()}
    buses = _bus_table(kept, slack, bus_name, v_set=top.vm_pu / ratio)
    at = {bus.key: i for i, bus in enumerate(kept)}
    _add_shunts(buses, at, shunts)
    if loads:
        _add_loads(grid, buses, at, [load._replace(bus=leader[load.bus]) for load in grid.loads])
    return Feeder(buses, _line_table(branches, level, bus_name), bus_name, ratio)


def check_imported(tables: Tables) -> Tables:
    """As `check`; faults do not name rows, which only the tables have, and not the source."""
    try:
        return check(tables)
    except InputError as error:
        faults = [Fault(f.table, f.column, None, f.message, f.name) for f in error.faults]
        raise InputError(faults, source=error.source) from None


def _refuse(grid: Grid) -> None:
    if grid.faults:
        raise InputError(grid.faults, source=grid.name)


def _names(grid: Grid) -> tuple[list[str], list[Key]]:
    return [bus.name for bus in grid.buses], [bus.key for bus in grid.buses]


def _joined(grid: Grid) -> dict[Key, Key]:
    """For every bus the first of those that are one with it."""
    place = {bus.key: i for i, bus in enumerate(grid.buses)}
    leader = list(range(len(grid.buses)))

    def root(i: int) -> int:
        while leader[i] != i:
            leader[i] = leader[leader[i]]
            i = leader[i]
        return i

    short = [b for b in grid.branches if b.impedance == 0 and b.ratio == 1.0 and all(b.closed)]
    grid.note("branches without impedance", [b.name for b in short], "the buses at their ends are one")
    ends = {id(b) for b in short}
    grid.branches = [b for b in grid.branches if id(b) not in ends or b.admittance != 0]
    for one, two in [*grid.joins, *((b.one, b.two) for b in short)]:
        if one not in place or two not in place:
            continue
        a, b = sorted((root(place[one]), root(place[two])))
        high, low = grid.buses[a], grid.buses[b]
        if a != b and not math.isclose(high.vn_kv, low.vn_kv, rel_tol=1e-6):
            levels = f"{high.vn_kv:g} kV and {low.vn_kv:g} kV"
            text = f'"{high.name}" and "{low.name}" are joined as one bus, with {levels}: one level is wrong'
            grid.fault("buses", "vn_kv", text)
        leader[b] = a
    return {bus.key: grid.buses[root(i)].key for i, bus in enumerate(grid.buses)}


def _leave_off(grid: Grid, leader: dict[Key, Key]) -> None:
    """Without what is at buses that are out of service."""
    for kind in ("loads", "plants", "stores", "shunts"):
        elements = getattr(grid, kind)
        grid.note(
            kind, [x.name for x in elements if x.bus not in leader], "left out, their bus is out of service"
        )
        setattr(grid, kind, [x for x in elements if x.bus in leader])


def _head(grid: Grid, leader: dict[Key, Key], wanted: str | None) -> Head:
    name = {bus.key: bus.name for bus in grid.buses}
    heads = [head for head in grid.heads if head.bus in leader]
    if wanted is not None:
        found = [head for head in heads if wanted in (head.name, str(name[head.bus]), str(head.bus))]
        if not found:
            raise ValueError(
                f'{grid.name} has no head "{wanted}"; there are {", ".join(str(name[h.bus]) for h in heads)}'
            )
        heads = found
    alike = {(leader[head.bus], head.vm_pu) for head in heads}
    if len(alike) != 1:
        at = ", ".join(str(name[head.bus]) for head in heads[:5])
        more = f" and {len(heads) - 5} more" if len(heads) > 5 else ""
        raise ValueError(
            f"{grid.name} has {len(heads)} connections to a grid above"
            + (f" ({at}{more})" if heads else "")
            + "; a community has one head"
            + ("" if len(heads) < 2 else "; where they feed separate parts, --head NAME takes one of them")
        )
    return heads[0]


def _closed(grid: Grid, leader: dict[Key, Key], level: dict[Key, float]) -> tuple[list[Branch], list[Shunt]]:
    """The branches between two buses, and what the others draw from the one bus that they hang at."""
    branches, shunts, open_ended, loops = [], [], [], []
    for branch in grid.branches:
        here = [end in leader for end in (branch.one, branch.two)]
        one, two = (shut and there for shut, there in zip(branch.closed, here, strict=True))
        near, far = branch.admittance / 2, branch.admittance / 2 + branch.extra
        base = 1000.0 * level.get(branch.two, math.nan) ** 2
        if one and two:
            moved = branch._replace(one=leader[branch.one], two=leader[branch.two], extra=0j)
            if moved.one == moved.two:
                loops.append(branch.name)
                shunts += _drawn(branch.name, moved.two, (near + far) * base)
                continue
            branches.append(moved)
            shunts += _drawn(branch.name, moved.two, branch.extra * base)
            continue
        if one or two:
            open_ended.append(branch.name)
            if one and branch.two not in leader:
                base = 1000.0 * (level[branch.one] if branch.kind == "line" else math.nan) ** 2
            mine, other = (near, far) if one else (far, near)
            total = mine + (1 / (branch.impedance + 1 / other) if other != 0 else 0j)
            total = total / branch.ratio**2 if one else total
            if total != 0 and math.isfinite(base):
                shunts += _drawn(branch.name, leader[branch.one if one else branch.two], total * base)
    grid.note(
        "branches open at one end",
        open_ended,
        "left out; what they draw idle stays as a shunt at the other end",
    )
    grid.note("branches between joined buses", loops, "left out, they carry nothing")
    return branches, shunts


def _drawn(name: str, bus: Key, volt_ampere: complex) -> list[Shunt]:
    """The shunt of an admittance times the square of its voltage, in kVA."""
    return [Shunt(name, bus, volt_ampere.real, -volt_ampere.imag)] if volt_ampere != 0 else []


def _alive(grid: Grid, leader: dict[Key, Key], slack: Key, branches: list[Branch], *, only: bool) -> set[Key]:
    """The buses that are kept: those with supply, and those without where somebody lives.

    only: those with supply alone, where one part of a grid with several heads is asked for.
    """
    beside: dict[Key, list[Key]] = defaultdict(list)
    for branch in branches:
        beside[branch.one].append(branch.two)
        beside[branch.two].append(branch.one)
    supplied = _reached(slack, beside)
    if only:
        rivals = [h.name for h in grid.heads if leader.get(h.bus) in supplied and leader[h.bus] != slack]
        if rivals:
            raise ValueError(
                f"{grid.name}: the head also meets {', '.join(rivals)}; a community has one head"
            )
    lived = {leader[load.bus] for load in grid.loads}
    lived |= {leader[plant.bus] for plant in grid.plants} | {leader[store.bus] for store in grid.stores}
    name = {bus.key: bus.name for bus in grid.buses}
    kept, dropped = set(supplied), []
    seen = set(supplied)
    for bus in grid.buses:
        first = leader[bus.key]
        if first in seen:
            continue
        part = _reached(first, beside)
        seen |= part
        if only or not part & lived:
            dropped += [name[key] for key in part]
        else:
            kept |= part
    reason = "left out, the named head does not supply them" if only else "left out, without supply and empty"
    grid.note("buses", dropped, reason)
    if only:
        gone = {key for key, first in leader.items() if first not in kept}
        for kind in ("loads", "plants", "stores", "shunts"):
            setattr(grid, kind, [x for x in getattr(grid, kind) if x.bus not in gone])
    return kept


def _reached(start: Key, beside: dict[Key, list[Key]]) -> set[Key]:
    found, queue = {start}, [start]
    while queue:
        for other in beside[queue.pop()]:
            if other not in found:
                found.add(other)
                queue.append(other)
    return found


def _downwards(branch: Branch, level: dict[Key, float], slack: Key) -> Branch:
    """The branch from the higher voltage to the lower, or from the head where both are alike.

    With t : 1 at `one` and the pi behind it, the same two-port seen from the other end has 1/t : 1 there and,
    in p.u., t^2 times the impedance and 1/t^2 times the admittance.
    """
    up, down = level[branch.one], level[branch.two]
    alike = math.isclose(up, down, rel_tol=1e-6)
    if (alike and branch.two != slack) or (not alike and up > down):
        return branch
    scale = (branch.ratio * up / down) ** 2
    return branch._replace(
        one=branch.two,
        two=branch.one,
        impedance=branch.impedance * scale,
        admittance=branch.admittance / scale,
        ratio=1 / branch.ratio,
    )


def _head_ratio(branches: list[Branch], slack: Key) -> float:
    ratios = [b.ratio if b.one == slack else math.nan for b in branches if slack in (b.one, b.two)]
    same = ratios and all(math.isclose(ratio, ratios[0], rel_tol=1e-9) for ratio in ratios)
    return ratios[0] if same else 1.0


def _bus_table(kept: list[Bus], slack: Key, bus_name: dict[Key, str], *, v_set: float) -> pd.DataFrame:
    is_slack = np.array([bus.key == slack for bus in kept])

    def limit(values: list[float], default: float) -> np.ndarray:
        # The limits at the head are those of the grid above; its voltage is fixed and referred to this side.
        return np.where(np.isfinite(values) & ~is_slack, values, default)

    return pd.DataFrame(
        {
            "bus_id": [bus_name[bus.key] for bus in kept],
            "vn_kv": [bus.vn_kv for bus in kept],
            "v_min_pu": limit([bus.v_min_pu for bus in kept], V_MIN),
            "v_max_pu": limit([bus.v_max_pu for bus in kept], V_MAX),
            "slack": is_slack.astype(float),
            "v_set_pu": np.where(is_slack, round(v_set, 12), 1.0),
            "x": [bus.x for bus in kept],
            "y": [bus.y for bus in kept],
            "background_kw": 0.0,
            "background_kvar": 0.0,
            "background_z_share": 0.0,
            "background_i_share": 0.0,
            "shunt_kw": 0.0,
            "shunt_kvar": 0.0,
        }
    )


def _add_shunts(buses: pd.DataFrame, at: dict[Key, int], shunts: list[Shunt]) -> None:
    kw, kvar = np.zeros(len(buses)), np.zeros(len(buses))
    for shunt in shunts:
        if shunt.bus in at:
            kw[at[shunt.bus]] += shunt.kw
            kvar[at[shunt.bus]] += shunt.kvar
    buses["shunt_kw"], buses["shunt_kvar"] = kw.round(9), kvar.round(9)


def _add_loads(grid: Grid, buses: pd.DataFrame, at: dict[Key, int], loads: list[Load]) -> None:
    """Loads as background: the table has one pair of shares per bus, for active and reactive power alike.

    Where no pair will do, the constant impedances are shunts, and constant currents half that and half
    constant power, which is the same up to the square of what the voltage is off 1 p.u.
    """
    found: dict[Key, list[Load]] = defaultdict(list)
    for load in loads:
        if load.bus in at:
            found[load.bus].append(load)
    columns = {
        name: buses[name].to_numpy(float, copy=True) for name in buses if str(name).startswith(("ba", "sh"))
    }
    forced = []
    for key, some in found.items():
        i = at[key]
        sums = np.array([load[2:] for load in some], float).sum(axis=0).tolist()
        kw, kvar, z_kw, i_kw, z_kvar, i_kvar = sums
        shares = _shares(kw, kvar, z_kw, i_kw, z_kvar, i_kvar)
        if shares is None:
            forced += [load.name for load in some if any(load[4:])]
            columns["shunt_kw"][i] += z_kw + i_kw / 2
            columns["shunt_kvar"][i] += z_kvar + i_kvar / 2
            kw, kvar, shares = kw - z_kw - i_kw / 2, kvar - z_kvar - i_kvar / 2, (0.0, 0.0)
        columns["background_kw"][i], columns["background_kvar"][i] = kw, kvar
        columns["background_z_share"][i], columns["background_i_share"][i] = shares
    for name, values in columns.items():
        buses[name] = values.round(9)
    grid.note(
        "loads",
        forced,
        "their shares of constant impedance are shunts, constant currents half that and half power",
    )


def _shares(
    kw: float, kvar: float, z_kw: float, i_kw: float, z_kvar: float, i_kvar: float
) -> tuple[float, float] | None:
    """One pair of shares of impedance and current for both powers, None where there is none."""
    if not any((z_kw, i_kw, z_kvar, i_kvar)):
        return 0.0, 0.0
    pairs = [
        (z / whole, i / whole) if whole else (math.nan, math.nan) if z or i else None
        for whole, z, i in ((kw, z_kw, i_kw), (kvar, z_kvar, i_kvar))
    ]
    known = [pair for pair in pairs if pair is not None]
    (z, i), last = known[0], known[-1]
    fits = z >= 0 and i >= 0 and z + i <= 1 + 1e-9
    if not fits or not np.allclose(known[0], last, atol=1e-9):
        return None
    return min(z, 1.0), min(i, max(1.0 - z, 0.0))


def _line_table(branches: list[Branch], level: dict[Key, float], bus_name: dict[Key, str]) -> pd.DataFrame:
    names = unique_names([branch.name for branch in branches], range(len(branches)))
    rows = [
        (
            name,
            bus_name[b.one],
            bus_name[b.two],
            b.kind,
            b.impedance.real,
            b.impedance.imag,
            b.rating,
            1e6 * b.admittance.imag,
            1e6 * b.admittance.real,
            b.ratio,
        )
        for name, b in zip(names, branches, strict=True)
    ]
    columns = [
        "line_id",
        "from_bus",
        "to_bus",
        "kind",
        "r_ohm",
        "x_ohm",
        "s_max_kva",
        "b_us",
        "g_us",
        "ratio",
    ]
    digits = {"r_ohm": 12, "x_ohm": 12, "s_max_kva": 6, "b_us": 9, "g_us": 9, "ratio": 12}
    return pd.DataFrame(rows, columns=columns).round(digits)
