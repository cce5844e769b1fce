"""Pictures of a study: spread of cost and saving, the day in quantiles, convergence of the mean."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxp2p.control.catalogue import COLOURS, OPTIMUM, REFERENCE, TRADE_ONLY
from jaxp2p.report.canvas import SOFT, canvas, label, save_all

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
NORMAL_95 = 1.96  # standard errors on either side of a mean
FANS = (TRADE_ONLY, "community_self_consumption", "lyapunov", OPTIMUM)  # shown where there are too many
READABLE = 10  # scenarios from which on a running mean decides how far the axis reaches


@dataclass(frozen=True, kw_only=True)
class StudyPictureData:
    """A study as the pictures need it; the first three tables are those of the study's statistics.

    Attributes:
        summary: columns policy, figure, mean, min, p5, p25, p50, p75, p95, max, count; the figures cost_eur
            and, where there is one, total_cost_eur.
        savings: the same without figure, with against, in EUR.
        convergence: policy, scenarios, mean_eur, se_eur.
        title: case, days, scenarios: for the head of every picture.
        traces: scenario, policy, slot, import_kw (net, of the community; negative is export), stored_kwh (at
            the end of the slot), price_eur_per_kwh of a sample of the scenarios, or None.
        slot_hours: length of a slot.
        first_slot: place of slot 0 within its day.
    """

    summary: pd.DataFrame
    savings: pd.DataFrame
    convergence: pd.DataFrame
    title: str
    traces: pd.DataFrame | None = None
    slot_hours: float = 0.25
    first_slot: int = 0


def write_study_pictures(
    folder: str | Path, data: StudyPictureData, *, done: Callable[[str], None] | None = None
) -> list[Path]:
    """Draw every picture that the study has data for; returns the files. `done` is called with each name."""
    return save_all(folder, STUDY_PICTURES, data, done=done)


def boxes(data: StudyPictureData) -> Figure:
    """Cost and saving of every policy over the scenarios."""
    by_figure = {str(name): rows.set_index("policy") for name, rows in data.summary.groupby("figure")}
    paid = by_figure["cost_eur"]
    costs = by_figure.get("total_cost_eur", paid).loc[paid.index]  # with what was left undone
    title = "Cost" if (costs["mean"] == paid["mean"]).all() else "Cost in all"
    savings = data.savings[data.savings["against"] == REFERENCE].set_index("policy")
    policies = list(costs.index)
    panels = [(title, costs)]
    if len(savings):
        panels.append((f"Saving against {label(REFERENCE)}, scenario by scenario", savings))
    figure, axes = canvas(1, len(panels), size=(6.2 * len(panels), 1.6 + 0.45 * len(policies)), sharey=True)
    for axis, (what, rows) in zip(axes[0], panels, strict=True):
        for place, policy in enumerate(policies):
            if policy in rows.index and rows.at[policy, "count"] > 0:
                _box(axis, place, rows.loc[policy], COLOURS.get(policy, SOFT))
        axis.set_title(what, fontsize=11)
        axis.set_xlabel("EUR")
        axis.grid(False, axis="y")
    most = costs["count"].max()
    names = [
        label(name) + ("" if count == most else f"\n({count:,.0f} scenarios)")
        for name, count in costs["count"].items()
    ]
    axes[0, 0].set_yticks(range(len(policies)), names)
    axes[0, 0].set_ylim(len(policies) - 0.5, -0.5)
    text = "box: 25 to 75 %, line: median, whiskers: 5 to 95 %, dots: smallest and largest, diamond: mean"
    figure.suptitle(f"{data.title}\n{text}", fontsize=11)
    return figure


def day_fan(data: StudyPictureData, *, column: str, what: str, unit: str) -> Figure | None:
    """Quantiles over the scenarios for every slot of the day, one panel per policy, the price below."""
    traces = data.traces
    if traces is None or traces.empty:
        return None
    # a store that no policy has is no picture; a policy without one needs no panel
    used = traces.groupby("policy", sort=False)[column].agg(lambda values: bool((values != 0).any()))
    policies = list(used.index[used])
    if len(policies) > len(FANS):
        policies = [name for name in policies if name in FANS] or policies[: len(FANS)]
    if not policies:
        return None
    rows = len(policies) + 1
    figure, axes = canvas(rows, 1, size=(10, 1.2 + 2.0 * rows), share_x=True)
    for axis, policy in zip(axes[:-1, 0], policies, strict=True):
        _fan(axis, data, traces[traces["policy"] == policy], column, COLOURS.get(policy, SOFT))
        axis.sharey(axes[0, 0])
        axis.axhline(0, color="#555555", linewidth=0.8)
        axis.set_ylabel(unit)
        axis.set_title(label(policy), fontsize=10, loc="left")
    axes[0, 0].legend(frameon=False, fontsize=8, loc="upper right", bbox_to_anchor=(1.0, 1.22), ncols=3)
    last = axes[-1, 0]
    shown = traces[traces["policy"] == policies[-1]]
    _fan(last, data, shown, "price_eur_per_kwh", "#444444")
    last.set_ylabel("EUR/kWh")
    last.set_title("price", fontsize=10, loc="left")
    last.set_xlim(0, 24)
    last.set_xticks(range(0, 25, 3))
    last.set_xlabel("hour of the day")
    count = traces["scenario"].nunique()
    figure.suptitle(f"{what} over the day: {data.title}\na sample of {count:,} scenarios", fontsize=11)
    return figure


def convergence(data: StudyPictureData) -> Figure | None:
    """Mean cost over the first scenarios, with its 95 % band, against their number."""
    curves = [
        (str(name), rows) for name, rows in data.convergence.groupby("policy", sort=False) if len(rows) > 1
    ]
    if not curves:
        return None
    columns = min(3, math.ceil(math.sqrt(len(curves))))
    rows = -(-len(curves) // columns)
    figure, axes = canvas(rows, columns, size=(4.2 * columns, 1.2 + 2.5 * rows))
    for axis, (policy, curve) in zip(axes.flat, curves, strict=False):
        colour = COLOURS.get(policy, SOFT)
        size, mean = curve["scenarios"].to_numpy(), curve["mean_eur"].to_numpy()
        half = NORMAL_95 * curve["se_eur"].to_numpy()
        axis.fill_between(size, mean - half, mean + half, color=colour, alpha=0.25, linewidth=0)
        axis.plot(size, mean, color=colour, linewidth=1.6)
        axis.axhline(mean[-1], color="#555555", linewidth=0.8, linestyle=":")
        axis.set_xscale("log")
        late = size >= min(READABLE, size[-1])
        low, high = np.nanmin((mean - half)[late]), np.nanmax((mean + half)[late])
        pad = 0.05 * (high - low) or 1.0
        axis.set_ylim(low - pad, high + pad)
        axis.set_title(f"{label(policy)}: {mean[-1]:,.2f} ± {half[-1]:,.2f} EUR", fontsize=10)
        axis.set_ylabel("EUR")
    for axis in axes.flat[len(curves) :]:
        axis.set_visible(False)
    for axis in axes.flat[max(len(curves) - columns, 0) : len(curves)]:
        axis.set_xlabel("scenarios")
    text = "line: mean over the first scenarios, band: its 95 % interval, dotted: mean over all"
    figure.suptitle(f"Mean cost: {data.title}\n{text}", fontsize=11)
    return figure


STUDY_PICTURES: dict[str, Callable[[StudyPictureData], Figure | None]] = {
    "study_boxes": boxes,
    "study_import": partial(day_fan, column="import_kw", what="Net import of the community", unit="kW"),
    "study_stored": partial(day_fan, column="stored_kwh", what="Energy in the batteries", unit="kWh"),
    "study_convergence": convergence,
}


def _box(axis: Axes, place: int, row: pd.Series, colour: str) -> None:
    """One horizontal box from stored quantiles."""
    axis.hlines(place, row["p5"], row["p95"], color="#333333", linewidth=1, zorder=2)
    for end in ("p5", "p95"):
        axis.vlines(row[end], place - 0.15, place + 0.15, color="#333333", linewidth=1, zorder=2)
    axis.barh(
        place,
        row["p75"] - row["p25"],
        left=row["p25"],
        height=0.55,
        color=colour,
        edgecolor="#333333",
        linewidth=0.8,
        zorder=3,
    )
    # black boxes need a line that can be seen on them
    line = "white" if colour == COLOURS[OPTIMUM] else "black"
    axis.vlines(row["p50"], place - 0.275, place + 0.275, color=line, linewidth=1.6, zorder=4)
    axis.plot([row["min"], row["max"]], [place] * 2, ".", color="#777777", markersize=4, zorder=2)
    axis.plot(row["mean"], place, "D", color="white", markeredgecolor="#333333", markersize=4, zorder=5)


def _fan(axis: Axes, data: StudyPictureData, rows: pd.DataFrame, column: str, colour: str) -> None:
    """Bands from 5 to 95 % and from 25 to 75 %, and the median; hours of the day without data stay empty."""
    per_day = round(24 / data.slot_hours)
    slot = (rows["slot"] + data.first_slot) % per_day
    table = rows[column].groupby(slot).quantile(list(LEVELS)).unstack().reindex(range(per_day))
    hour = data.slot_hours * np.arange(per_day + 1)
    values = table.to_numpy(float)
    energy = column == "stored_kwh"
    if energy:  # at the end of a slot: nothing is known at the very beginning of the day
        values = np.vstack([np.full_like(values[:1], np.nan), values])
    else:  # over a slot: the last one holds until the end of the day
        values = np.vstack([values, values[-1:]])
    low, lower, middle, upper, high = values.T
    step: Literal["post"] | None = None if energy else "post"
    look: dict[str, Any] = {"step": step, "color": colour, "linewidth": 0}
    axis.fill_between(hour, low, high, alpha=0.2, label="5 to 95 %", **look)
    axis.fill_between(hour, lower, upper, alpha=0.35, label="25 to 75 %", **look)
    lines = "default" if energy else "steps-post"
    axis.plot(hour, middle, drawstyle=lines, color=colour, linewidth=1.4, label="median")
