"""Sharing keys side by side as tables, text, one picture and files; `jaxp2p.sharing` has what keys are."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxp2p import __version__
from jaxp2p.report.canvas import LIMIT, SOFT, canvas, plain, save
from jaxp2p.report.files import write_json, write_table
from jaxp2p.report.folders import MARK, PICTURES, SUMMARY_FILE
from jaxp2p.report.tables import ReportColumn, aligned, number
from jaxp2p.sharing.applied import Applied
from jaxp2p.sharing.catalogue import ENTRIES
from jaxp2p.sharing.energy import Energy
from jaxp2p.sharing.money import money

KEY_TABLE, MEMBER_TABLE, INTERVAL_TABLE = "sharing", "sharing_members", "sharing_intervals"
PICTURE = "sharing"
WIDTH = 100
SAVED, EARNED = "#0072B2", "#E69F00"  # by consumers and producers; Okabe and Ito 2008


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Keys applied to one community."""

    energy: Energy
    keys: Sequence[Applied]
    case: str

    @property
    def title(self) -> str:
        """Case and days."""
        energy = self.energy
        days = len(energy.time) * energy.hours / 24
        span = "1 day" if round(days, 2) == 1 else f"{days:.4g} days"
        return f"{self.case}, {span} from {energy.time[0]:%Y-%m-%d}"


def key_table(shared: Shared) -> pd.DataFrame:
    """One row per key: what is shared, what that saves, what is missing to the market."""
    frame = pd.DataFrame([{"key": applied.name} | applied.figures() for applied in shared.keys])
    return frame.astype({name: float for name in frame.columns if name != "key"})


def member_table(shared: Shared) -> pd.DataFrame:
    """One row per key and member: own, community and grid kWh, what it gives, what that saves it."""
    return pd.concat([_named(one, one.members()) for one in shared.keys], ignore_index=True)


def interval_table(shared: Shared) -> pd.DataFrame:
    """One row per key and interval; times with a zone are in UTC, as in all tables of results."""
    table = pd.concat([_named(one, one.intervals()) for one in shared.keys], ignore_index=True)
    if shared.energy.time.tz is not None:
        table["time"] = table["time"].dt.tz_convert("UTC").dt.tz_localize(None)
    return table


def _named(applied: Applied, table: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([pd.Series(applied.name, index=table.index, name="key"), table], axis=1)


def sharing_report(shared: Shared) -> dict[str, Any]:
    """What `--json` writes: short and stable."""
    energy = shared.energy
    return {
        "version": __version__,
        "case": shared.case,
        "intervals": len(energy.time),
        "members": len(energy.members),
        "consumers": len(energy.consumers),
        "producers": len(energy.producers),
        "time_zone": None if energy.time.tz is None else str(energy.time.tz),
        "keys": {applied.name: applied.figures() for applied in shared.keys},
    }


def write_sharing(
    folder: Path,
    shared: Shared,
    *,
    made_from: Mapping[str, Any] | None,
    pictures: bool = True,
    format: str = "csv",
) -> list[Path]:
    """Tables, summary and picture into an existing folder; returns the files."""
    tables = {
        KEY_TABLE: key_table(shared),
        MEMBER_TABLE: member_table(shared),
        INTERVAL_TABLE: interval_table(shared),
    }
    files = [write_table(frame, folder / f"{name}.{format}") for name, frame in tables.items()]
    if pictures:
        (folder / PICTURES).mkdir()
        files.append(save(sharing_picture(shared), folder / PICTURES, PICTURE))
    summary = {
        "kind": MARK,
        **sharing_report(shared),
        "start": str(shared.energy.time[0]),
        "made_from": None if made_from is None else dict(made_from),
        "tables": sorted(tables),
        "format": format,
    }
    return [*files, write_json(folder / SUMMARY_FILE, summary)]


COLUMNS = (
    ReportColumn(title=("shared", "kWh"), text=number("shared_kwh", 1)),
    ReportColumn(title=("of feed-in", "%"), text=number("shared_of_generation", 1, factor=100)),
    ReportColumn(title=("of draw", "%"), text=number("shared_of_consumption", 1, factor=100)),
    ReportColumn(title=("fed to grid", "kWh"), text=number("fed_to_grid_kwh", 1)),
    ReportColumn(title=("from grid", "kWh"), text=number("grid_kwh", 1)),
    ReportColumn(title=("to market", "kWh"), text=number("short_of_market_kwh", 1)),
)
MONEY = (
    ReportColumn(title=("saving", "EUR"), text=number("saving_eur", 2)),
    ReportColumn(title=("to market", "EUR"), text=number("short_of_market_eur", 2)),
)


def sharing_text(shared: Shared) -> str:
    """The table that the command prints, and what its words mean."""
    rows = {applied.name: applied.figures() for applied in shared.keys}
    priced = any(row["saving_eur"] is not None for row in rows.values())
    lines = aligned(rows, (*COLUMNS, *MONEY) if priced else COLUMNS, first="key")
    known = [ENTRIES[name] for name in rows if name in ENTRIES]
    words = "; ".join(f"{entry.name}: {entry.words}" for entry in known)
    meaning = (
        "shared: fed in by members and allotted to members in the same interval, in whole Wh, never more "
        "than a member draws. to market: what a market without limits of the grid would share or save "
        "beyond that; it matches all that is fed in and drawn at the same time. "
    )
    if priced:
        meaning += "saving: shared energy times the utility's price less what it pays, less the fee. "
    if any(entry.by_the_hour for entry in known):
        meaning += "Keys settled by the hour are set beside the market of whole hours. "
    if any(entry.preset for entry in known):
        meaning += "Names of countries say whose rule is computed, and promise no conformity. "
    return "\n".join([*lines, "", textwrap.fill(meaning + (words + "." if words else ""), width=WIDTH)])


def sharing_picture(shared: Shared) -> Figure:
    """Bars by key of what is shared and what that saves, each with a mark where the market would be."""
    priced = all(applied.prices is not None for applied in shared.keys)
    figures = [applied.figures() for applied in shared.keys]
    figure, axes = canvas(1, 1 + priced, size=(6.5 * (1 + priced), 2.2 + 0.42 * len(figures)))
    energy = axes[0, 0]
    energy.barh(range(len(figures)), [row["shared_kwh"] for row in figures], color=SOFT, height=0.65)
    handles = _marks(energy, [row["market_kwh"] for row in figures])
    energy.set_title("shared energy in kWh", fontsize=11)
    if priced:
        handles += _money(axes[0, 1], shared)
        _marks(axes[0, 1], [row["market_eur"] for row in figures])
    names = [plain(applied.name.replace("_", " ")) for applied in shared.keys]
    for axis in axes.flat:
        axis.set_yticks(range(len(names)), names)
        axis.set_ylim(len(names) - 0.4, -0.6)
        axis.grid(False, axis="y")
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.suptitle(f"Sharing keys: {plain(shared.title)}", fontsize=12)
    return figure


def _money(axis: Axes, shared: Shared) -> list[Any]:
    places = range(len(shared.keys))
    found = [money(one.allotment, one.prices) for one in shared.keys if one.prices is not None]
    saved, earned = [one.consumers.sum() for one in found], [one.producers.sum() for one in found]
    bars = [
        axis.barh(places, saved, color=SAVED, height=0.65, label="saved by who receives"),
        axis.barh(places, earned, left=saved, color=EARNED, height=0.65, label="earned by who gives"),
    ]
    axis.set_title("saving in EUR", fontsize=11)
    return bars


def _marks(axis: Axes, market: Sequence[float]) -> list[Any]:
    """Where the market would be, a line across each bar."""
    places = np.arange(len(market))
    return [axis.vlines(market, places - 0.42, places + 0.42, color=LIMIT, linewidth=1.8, label="the market")]
