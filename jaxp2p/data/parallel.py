"""Parallel branches between the same two buses, taken together as the one branch that they are.

With the admittances y_k = 1 / (r_k + j x_k) the branches together have the impedance 1 / sum_k y_k, and
branch k carries the share |y_k| / |sum y| of the current. The pair is full when the first of them is:

    s_max = min_k s_max_k |sum y| / |y_k|,   the sum of the ratings where the branches are alike.

Their shunts add up. Transformers of unlike turns ratios would drive a current around that no single branch
has.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from jaxp2p.data.faults import Fault, row_faults


def repeated_pairs(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(L,) bool: branches between two buses that an earlier row joins already, in either direction."""
    pairs = pd.Series([tuple(sorted(pair)) for pair in zip(start, end, strict=True)], dtype=object)
    return pairs.duplicated().to_numpy(bool) & (start != end)


def unlike_ratios(lines: pd.DataFrame) -> list[Fault]:
    """Faults of branches with another turns ratio than the first between the same two buses."""
    start, end = lines["from_bus"].to_numpy(), lines["to_bus"].to_numpy()
    if "ratio" not in lines or not repeated_pairs(start, end).any():
        return []
    ratio, name = lines["ratio"].to_numpy(float), lines["line_id"].to_numpy()
    first: dict[tuple[str, str], int] = {}
    against = np.zeros(len(lines), int)
    for i, (a, b) in enumerate(zip(start, end, strict=True)):
        against[i] = first.setdefault((min(a, b), max(a, b)), i)
    turned = np.where(start == start[against], ratio, 1 / ratio)
    bad = (np.abs(turned / ratio[against] - 1) > 1e-9) & (start != end)

    def text(i: int) -> str:
        other = against[i]
        return (
            f"{name[i]} and {name[other]} lie in parallel with turns ratios of {turned[i]:g} and "
            f"{ratio[other]:g}: a current would flow around in them, which one branch in their place has not"
        )

    return row_faults("lines", "ratio", bad, text)


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
        columns = ["line_id", "kind", "r_ohm", "x_ohm", "s_max_kva", "b_us", "g_us"]
        shunt = lines[["b_us", "g_us"]].iloc[group].sum()
        merged.loc[first, columns] = [name, kind, impedance.real, impedance.imag, rating, *shunt]
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
