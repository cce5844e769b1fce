"""Two-winding transformers of pandapower as an ideal transformer and a symmetric pi."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from jaxp2p.data.grids.parts import Branch, Grid, Key

Cell = Callable[..., float]
"""(row, column, default): a number of a table, the default where the cell is empty."""

Model = Literal["t", "pi"]


class Ends(NamedTuple):
    """The buses and nominal voltages at the two ends."""

    high: Key
    low: Key
    high_kv: float
    low_kv: float
    closed: tuple[bool, bool]


def transformer_branch(
    grid: Grid, row: Any, name: str, ends: Ends, cell: Cell, *, model: Model, untyped_taps: bool, table: Any
) -> Branch | None:
    """The branch of one row of `net.trafo`; None where the grid has got a fault instead.

    Percent are of the rated impedance at the voltage of the low-voltage winding, its tap included:
    z = vk / 100 vn_lv^2 / sn, y = (pfe - j sqrt((i0 sn)^2 - pfe^2)) / vn_lv^2, both for `parallel` units.
    `model` says where the magnetising branch is: pandapower's default is the T, with half of z on either side
    (or as `leakage_..._ratio_hv` says), which is turned into a pi.

    Args:
        untyped_taps: positions of taps count also where the net does not say of which type the changer is.
        table: `net.trafo_characteristic_table`, or None.
    """
    vk, vkr = cell(row, "vk_percent"), cell(row, "vkr_percent")
    volts = {"hv": cell(row, "vn_hv_kv"), "lv": cell(row, "vn_lv_kv")}
    sn, parallel = cell(row, "sn_mva"), cell(row, "parallel", 1.0)
    numbers = {
        "vk_percent": vk,
        "vkr_percent": vkr,
        "sn_mva": sn,
        "vn_hv_kv": volts["hv"],
        "vn_lv_kv": volts["lv"],
    }
    numbers["parallel"] = parallel
    bad = [column for column, value in numbers.items() if not math.isfinite(value)]
    bad += [c for c in ("sn_mva", "vn_hv_kv", "vn_lv_kv", "parallel") if c not in bad and numbers[c] <= 0]
    for column in bad:
        grid.fault("trafo", column, f"{name}: {numbers[column]:g} must be a finite number above 0")
    if bad:
        return None
    if str(row.get("tap_dependency_table")) == "True":
        step = _table_step(row, table)
        if step is None:
            grid.fault("trafo", "tap_pos", f"{name}: its characteristic has no row for this tap position")
            return None
        side = str(row.get("tap_side"))
        if side in volts:
            volts[side] *= float(step["voltage_ratio"])
        vk, vkr = float(step["vk_percent"]), float(step["vkr_percent"])
    else:
        for tap in ("tap", "tap2"):
            _move_tap(grid, row, name, tap, volts, cell, untyped_taps=untyped_taps)
    if not 0 <= vkr <= vk or vk == 0:
        text = f"{name}: {vk:g} must be above 0 and at least vkr_percent = {vkr:g}"
        grid.fault("trafo", "vk_percent", text)
        return None
    for side, at in (("hv", ends.high_kv), ("lv", ends.low_kv)):
        if not 0.5 < volts[side] / at < 2:
            text = f"{name}: {volts[side]:g} kV at a bus of {at:g} kV; one of the voltage levels is wrong"
            grid.fault("trafo", f"vn_{side}_kv", text)
            return None
    rated = volts["lv"] ** 2 / sn / parallel
    z = complex(vkr, math.sqrt(vk**2 - vkr**2)) / 100 * rated
    iron, idle = cell(row, "pfe_kw", 0.0) / 1000, cell(row, "i0_percent", 0.0) / 100 * sn
    y = complex(iron, -math.sqrt(max(idle**2 - iron**2, 0.0))) * parallel / volts["lv"] ** 2
    extra = 0j
    if model == "t" and y != 0:
        share = [cell(row, f"leakage_{part}_ratio_hv", 0.5) for part in ("resistance", "reactance")]
        z, y, extra = _pi_of_t(z, y, *share)
    return Branch(
        name,
        "transformer",
        ends.high,
        ends.low,
        z,
        y,
        _rating(grid, name, 1000 * sn * parallel * cell(row, "df", 1.0)),
        (volts["hv"] / ends.high_kv) / (volts["lv"] / ends.low_kv),
        extra,
        ends.closed,
    )


def _pi_of_t(z: complex, y: complex, r_share: float, x_share: float) -> tuple[complex, complex, complex]:
    """Series impedance, twice the admittance at the first end, and what the second end has more.

    Star to delta: with za, zb on the two sides and zc = 1 / y, the sum s = za zb + za zc + zb zc gives the
    impedance s / zc between the ends and the admittances zb / s and za / s at them.
    """
    za = complex(z.real * r_share, z.imag * x_share)
    zb, zc = z - za, 1 / y
    total = za * zb + za * zc + zb * zc
    return total / zc, 2 * zb / total, (za - zb) / total


def _move_tap(
    grid: Grid, row: Any, name: str, tap: str, volts: dict[str, float], cell: Cell, *, untyped_taps: bool
) -> None:
    """Change the voltage of the winding with the tap: |1 + steps e^(j angle)| times its nominal one."""
    steps = cell(row, f"{tap}_pos", 0.0) - cell(row, f"{tap}_neutral", 0.0)
    side, kind = str(row.get(f"{tap}_side")), str(row.get(f"{tap}_changer_type"))
    if steps == 0 or side not in volts:
        return
    if kind not in ("Ratio", "Symmetrical", "Ideal") and not untyped_taps:
        grid.note("taps", [name], "left at their neutral position: the net names no type of tap changer")
        return
    if kind == "Ideal" or row.get(f"{tap}_phase_shifter") is True:
        return  # turns the phase only
    angle = math.radians(cell(row, f"{tap}_step_degree", 0.0))
    volts[side] *= abs(1 + steps * cell(row, f"{tap}_step_percent", 0.0) / 100 * cmath.exp(1j * angle))


def _table_step(row: Any, table: Any) -> Any:
    if table is None or not len(table):
        return None
    found = table.loc[
        (table["id_characteristic"] == row["id_characteristic_table"]) & (table["step"] == row["tap_pos"])
    ]
    return found.iloc[0] if len(found) else None


def _rating(grid: Grid, name: str, kva: float) -> float:
    if math.isfinite(kva) and kva > 0:
        return kva
    grid.note("transformers", [name], "without a usable rating, so they are unrated")
    return math.inf
