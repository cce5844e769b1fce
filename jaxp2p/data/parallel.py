"""Parallel branches between the same two buses, taken together as the one branch that they are.

With the admittances y_k = 1 / (r_k + j x_k) the branches together have the impedance 1 / sum_k y_k, and
branch k carries the share |y_k| / |sum y| of the current. The pair is full when the first of them is:

    s_max = min_k s_max_k |sum y| / |y_k|,   the sum of the ratings where the branches are alike.

Shunt admittances add up. Transformers of unlike turns ratios drive a current around between them: no one
branch is that, and they are refused.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from jaxp2p.data.faults import Fault, row_faults

SHUNTS = ("g_us", "b_us")
ALIKE = 1e-9  # ratios this close are one


def ratio_faults(lines: pd.DataFrame) -> list[Fault]:
    """A turns ratio where there is no transformer, and parallel transformers of unlike ratios."""
    names, kind = lines["line_id"].to_numpy(), lines["kind"].to_numpy()
    start, end, ratio = (lines[column].to_numpy() for column in ("from_bus", "to_bus", "ratio"))
    faults = row_faults(
        "lines",
        "ratio",
        (ratio != 1) & (kind != "transformer"),
        lambda i: f"{names[i]}: a {kind[i] or 'branch'} has no turns ratio, {ratio[i]:g} must be 1",
    )
    first: dict[tuple[str, str], int] = {}
    unlike = np.zeros(len(lines), bool)
    outward = np.array([a <= b for a, b in zip(start, end, strict=True)], bool)
    with np.errstate(divide="ignore"):
        seen = np.where(outward, ratio, 1 / ratio)  # in one direction
    for i, (a, b) in enumerate(zip(start, end, strict=True)):
        if 0 < seen[i] < np.inf:  # any other is a fault of its column
            unlike[i] = abs(seen[i] / seen[first.setdefault((min(a, b), max(a, b)), i)] - 1) > ALIKE
    return faults + row_faults(
        "lines",
        "ratio",
        unlike,
        lambda i: (
            f"{names[i]}: turns ratio {ratio[i]:g} beside another in parallel, "
            f"{names[first[min(start[i], end[i]), max(start[i], end[i])]]}: a current would go around"
        ),
    )


def repeated_pairs(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(L,) bool: branches between two buses that an earlier row joins already, in either direction."""
    pairs = pd.Series([tuple(sorted(pair)) for pair in zip(start, end, strict=True)], dtype=object)
    return pairs.duplicated().to_numpy(bool) & (start != end)


def merge_parallel(lines: pd.DataFrame) -> tuple[pd.DataFrame, list[Fault]]:
    """The table without parallel branches, in the order of the first of each, and a remark for every merger.

    The lines must be complete and without faults. Branches are named "A + B"; a transformer among them makes
    the whole a transformer.
    """
    start, end = lines["from_bus"].to_numpy(), lines["to_bus"].to_numpy()
    if not repeated_pairs(start, end).any():
        return lines, []
    groups: dict[tuple[str, str], list[int]] = {}
    for i, (a, b) in enumerate(zip(start, end, strict=True)):
        groups.setdefault((min(a, b), max(a, b)), []).append(i)
    rows = [rows for rows in groups.values() if len(rows) > 1]
    merged = lines.copy()
    remarks = []
    for group in rows:
        impedance, rating = together(
            lines["r_ohm"].to_numpy(float)[group] + 1j * lines["x_ohm"].to_numpy(float)[group],
            lines["s_max_kva"].to_numpy(float)[group],
        )
        first, name = group[0], " + ".join(lines["line_id"].iloc[group])
        kinds = set(lines["kind"].iloc[group])
        kind = "transformer" if "transformer" in kinds else "line"
        shunts = [float(lines[column].iloc[group].sum()) for column in SHUNTS]
        columns = ["line_id", "kind", "r_ohm", "x_ohm", "s_max_kva", *SHUNTS]
        merged.loc[first, columns] = [name, kind, impedance.real, impedance.imag, rating, *shunts]
        rated = f"{rating:,.4g} kVA" if np.isfinite(rating) else "unrated"
        text = (
            f'{name} between "{start[first]}" and "{end[first]}" lie in parallel and count as one {kind}: '
            f"{impedance.real:.4g} + j {impedance.imag:.4g} ohm, {rated}"
        )
        remarks.append(Fault("lines", "", None, text, "parallel_lines"))
    keep = np.sort([rows[0] for rows in groups.values()])
    return merged.iloc[keep].reset_index(drop=True), remarks


def together(impedance: np.ndarray, rating: np.ndarray) -> tuple[complex, float]:
    """Impedance in ohm and rating in kVA of parallel branches, from those of each of them (K,).

    Branches without any impedance take the whole current, in equal parts.
    """
    short = impedance == 0
    if short.any():
        return 0j, float(rating[short].min() * short.sum())
    admittance = 1 / impedance
    total = admittance.sum()
    return complex(1 / total), float((rating * np.abs(total) / np.abs(admittance)).min())
