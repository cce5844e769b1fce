"""Hosting capacity as tables, text, one picture and files; `jaxp2p.runs.hosting` has what the words mean."""

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
from jaxp2p.model.network import Network, on_host
from jaxp2p.model.types import Community, Horizon
from jaxp2p.report.canvas import LIMIT, canvas, plain, save
from jaxp2p.report.files import write_json, write_table
from jaxp2p.report.folders import MARK, PICTURES, SUMMARY_FILE
from jaxp2p.runs.hosting import CURTAILED, VIOLATED, Capacity, Point
from jaxp2p.settings.hosting import Hosting

FOUND, AT_LEAST, NONE = "found", "at_least", "none"
CAPACITY_TABLE, SCALE_TABLE, PICTURE = "hosting", "hosting_scales", "hosting"
WIDTH = 100


@dataclass(frozen=True, kw_only=True)
class Hosted:
    """Capacities with what they were found for."""

    community: Community
    horizon: Horizon
    time: pd.Series  # (T,) start of every slot
    capacities: Sequence[Capacity]
    settings: Hosting
    case: str

    @property
    def title(self) -> str:
        """Case, days and market."""
        days = self.horizon.slots * float(self.horizon.slot_hours) / 24
        span = "1 day" if days == 1 else f"{days:g} days"
        return f"{self.case}, {span} from {self.time.iloc[0]:%Y-%m-%d}, {self.community.market.kind} market"

    @property
    def load_kwh(self) -> float:
        """Of the members."""
        return float(np.asarray(self.horizon.load, float).sum() * float(self.horizon.slot_hours))


def verdict(capacity: Capacity) -> str:
    """FOUND, AT_LEAST (all that was tried passes) or NONE (not even without PV)."""
    return NONE if capacity.most is None else AT_LEAST if capacity.beyond is None else FOUND


def capacity_table(hosted: Hosted) -> pd.DataFrame:
    """One row per way: the capacity, and what is wrong just beyond it; empty where there is none."""
    rows = []
    for capacity in hosted.capacities:
        most, beyond = capacity.most, capacity.beyond
        rows.append(
            {
                "way": capacity.way.name,
                "verdict": verdict(capacity),
                "pv_scale": None if most is None else most.scale,
                "pv_kw": None if most is None else most.pv_kw,
                "pv_share_of_load": None if most is None else _over(most.available_kwh, hosted.load_kwh),
                "curtailed_share": None if most is None else most.curtailed_share,
                "fails_at_scale": None if beyond is None else beyond.scale,
                "fails_by": "" if beyond is None else beyond.reason,
                "limit": "" if beyond is None else beyond.limit,
                "time": pd.NaT if beyond is None else hosted.time.iloc[beyond.slot],
                "slots_violated": None if beyond is None else beyond.slots_violated,
            }
        )
    frame = pd.DataFrame(rows)
    texts = ("way", "verdict", "fails_by", "limit", "time")
    return frame.astype({name: float for name in frame.columns if name not in texts})


def scale_table(hosted: Hosted) -> pd.DataFrame:
    """One row per way and factor that was tried, in order."""
    rows = [
        {"way": capacity.way.name, **point._asdict(), "time": hosted.time.iloc[point.slot]}
        for capacity in hosted.capacities
        for point in capacity.points
    ]
    return pd.DataFrame(rows).drop(columns="slot")


def hosting_report(hosted: Hosted) -> dict[str, Any]:
    """What `--json` writes: short and stable."""
    table = capacity_table(hosted).astype(object)
    table = table.where(table.notna(), None)
    return {
        "version": __version__,
        "case": hosted.case,
        "slots": int(hosted.horizon.slots),
        "prosumers": int(hosted.community.size),
        "buses": int(hosted.community.network.buses),
        "market": hosted.community.market.kind,
        "dtype": str(hosted.horizon.load.dtype),
        "curtail": hosted.settings.curtail,
        "max_scale": hosted.settings.max_scale,
        "precision": hosted.settings.precision,
        "pv_kw": float(np.asarray(hosted.community.prosumers.pv_peak, float).sum()),
        "load_kwh": hosted.load_kwh,
        "ways": {row.pop("way"): row for row in table.to_dict("records")},
    }


def write_hosting(
    folder: Path, hosted: Hosted, *, made_from: Mapping[str, Any] | None, pictures: bool = True
) -> list[Path]:
    """Tables as CSV, summary and picture into an existing folder; returns the files."""
    tables = {CAPACITY_TABLE: capacity_table(hosted), SCALE_TABLE: scale_table(hosted)}
    files = [write_table(frame, folder / f"{name}.csv") for name, frame in tables.items()]
    if pictures:
        (folder / PICTURES).mkdir()
        files.append(save(hosting_picture(hosted), folder / PICTURES, PICTURE))
    summary = {
        "kind": MARK,
        **hosting_report(hosted),
        "start": str(hosted.time.iloc[0]),
        "made_from": None if made_from is None else dict(made_from),
        "tables": sorted(tables),
        "format": "csv",
    }
    return [*files, write_json(folder / SUMMARY_FILE, summary)]


def hosting_text(hosted: Hosted) -> str:
    """The table that the command prints, and what its words mean."""
    head = ("way", "PV times", "kW", "of load", "curtailed", "what ends it")
    rows = [head, *(_row(hosted, capacity) for capacity in hosted.capacities)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(width) if i in (0, 5) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    ways = "; ".join(f"{c.way.name}: {c.way.words}" for c in hosted.capacities)
    meaning = (
        f"PV times: largest factor on all PV of members ({_installed(hosted):,.0f} kW now) at which no slot "
        f"has a voltage more than 1e-4 p.u. or a loading more than 0.1 % beyond its limit in AC, and at most "
        f"{100 * hosted.settings.curtail:g} % of the available energy is curtailed; to "
        f"{100 * hosted.settings.precision:g} %. of load: PV energy available, over the load of members. "
        f"what ends it: at the next larger factor. {ways}."
    )
    return "\n".join([*lines, "", textwrap.fill(meaning, width=WIDTH)])


def _installed(hosted: Hosted) -> float:
    return float(np.asarray(hosted.community.prosumers.pv_peak, float).sum())


def _over(part: float, whole: float) -> float | None:
    return part / whole if whole > 1e-9 else None


def _row(hosted: Hosted, capacity: Capacity) -> tuple[str, ...]:
    most, share = capacity.most, None
    if most is None:
        return capacity.way.name, "none", "-", "-", "-", "without PV: " + _end(hosted, capacity)
    share = _over(most.available_kwh, hosted.load_kwh)
    factor = f"{most.scale:.2f}" if capacity.beyond else f"at least {most.scale:g}"
    return (
        capacity.way.name,
        factor,
        f"{most.pv_kw:,.0f}",
        "-" if share is None else f"{100 * share:.0f} %",
        f"{100 * most.curtailed_share:.1f} %",
        _end(hosted, capacity),
    )


def _end(hosted: Hosted, capacity: Capacity) -> str:
    beyond = capacity.beyond
    if beyond is None:
        return "nothing that was tried"
    when = f"{hosted.time.iloc[beyond.slot]:%Y-%m-%d %H:%M}"
    if beyond.reason == VIOLATED:
        what = beyond.limit or "no solution of the power flow"
        return f"{what}, {when}"
    assert beyond.reason == CURTAILED
    return "curtailing" + (f" for {beyond.limit}, most at {when}" if beyond.limit else f", most at {when}")


def hosting_picture(hosted: Hosted) -> Figure:
    """Capacities as bars; highest voltage, highest loading and curtailed share over the factor."""
    figure, axes = canvas(2, 2, size=(13, 8), width_ratios=[1, 1.1])
    (bars, volts), (curtailed, loading) = axes
    _bars(bars, hosted)
    network, right = on_host(hosted.community.network), _right_end(hosted)
    curves = (
        (volts, "highest voltage in p.u.", lambda p: p.voltage_max_pu),
        (loading, "highest loading in % of the rating", lambda p: p.loading_max_pct),
        (curtailed, "curtailed in % of the available energy", lambda p: 100 * p.curtailed_share),
    )
    for axis, words, figure_of in curves:
        _curves(axis, hosted, figure_of, right)
        axis.set_title(words, fontsize=11)
        axis.set_xlabel("factor on PV")
    for axis, limit in (
        (volts, _only_limit(network)),
        (loading, 100.0 if np.isfinite(network.rating).any() else None),
        (curtailed, 100 * hosted.settings.curtail),
    ):
        if limit is not None:
            axis.axhline(limit, color=LIMIT, linewidth=1.2, linestyle=(0, (6, 3)))
    figure.suptitle(f"How much PV the grid carries: {plain(hosted.title)}", fontsize=12)
    return figure


def _only_limit(network: Network) -> float | None:
    """The upper voltage limit where all buses but the slack have the same."""
    limits = np.unique(network.voltage_max[1:])
    return float(limits[0]) if len(limits) == 1 else None


def _right_end(hosted: Hosted) -> float:
    """Factors far beyond every capacity would press the curves together."""
    ends = [p.scale for c in hosted.capacities for p in (c.most, c.beyond) if p is not None]
    return 1.25 * max([*ends, 0.8])


def _bars(axis: Axes, hosted: Hosted) -> None:
    for place, capacity in enumerate(hosted.capacities):
        most = capacity.most
        width = 0.0 if most is None else most.scale
        axis.barh(place, width, color=capacity.way.colour, height=0.65)
        axis.annotate(
            _amount(capacity),
            (width, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    names = [capacity.way.name.replace("_", " ") for capacity in hosted.capacities]
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.4, -0.6)
    longest = max((c.most.scale for c in hosted.capacities if c.most is not None), default=1.0)
    axis.set_xlim(0, 1.45 * max(longest, 0.1))
    axis.grid(False, axis="y")
    axis.set_xlabel("factor on PV")
    axis.set_title("largest factor without a violation in AC or too much curtailed", fontsize=11)


def _amount(capacity: Capacity) -> str:
    most = capacity.most
    if most is None:
        return "none: limits do not hold without PV"
    return f"{'' if capacity.beyond else 'at least '}{most.scale:.2f} = {most.pv_kw:,.0f} kW"


def _curves(axis: Axes, hosted: Hosted, figure_of: Any, right: float) -> None:
    for capacity in hosted.capacities:
        shown: list[Point] = [p for p in capacity.points if p.scale <= right]
        x, y = [p.scale for p in shown], [figure_of(p) for p in shown]
        # ways that do the same lie on each other: earlier ones are wider
        width = 1.4 + 0.9 * (len(hosted.capacities) - 1 - hosted.capacities.index(capacity))
        axis.plot(x, y, color=capacity.way.colour, linewidth=width, marker="o", markersize=3)
    axis.set_xlim(0, right)
