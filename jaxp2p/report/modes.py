"""One policy in several modes as tables, text and files; `jaxp2p.runs.modes` says what modes are."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxp2p import __version__
from jaxp2p.model.network import FlowStatus, ac_violated, on_host
from jaxp2p.model.types import Community, Horizon
from jaxp2p.report.canvas import save
from jaxp2p.report.files import write_json, write_table
from jaxp2p.report.folders import MARK, PICTURES, SUMMARY_FILE
from jaxp2p.report.kpis import Evaluation, evaluate
from jaxp2p.report.modes_picture import ShownMode, modes_picture
from jaxp2p.report.tables import COST, ReportColumn, aligned, number, value_range
from jaxp2p.runs.modes import ModeRun
from jaxp2p.runs.operated import margins
from jaxp2p.slot.status import Status

MODE_TABLE, SLOT_TABLE, PICTURE = "modes", "modes_slots", "modes"
WIDTH = 100
TAKEN = (  # figures of `report.kpis` that are in the table as they are
    "cost_eur",
    "total_cost_eur",
    "losses_eur",
    "ac_losses_kwh",
    "curtailed_kwh",
    "inverter_kvarh",
    "ac_voltage_min_pu",
    "ac_voltage_max_pu",
    "ac_line_loading_max",
    "ac_transformer_loading_max",
    "ac_voltage_violation_pu",
    "ac_loading_violation_pct",
    "ac_slots_violated",
    "slots_not_solved",
)


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Modes with what they were run for."""

    community: Community  # as it was built
    horizon: Horizon
    time: pd.Series  # (T,) start of every slot
    modes: Sequence[ModeRun]
    case: str
    coordinates: np.ndarray | None = None  # (B, 2), None or NaN: a tree is drawn instead

    @property
    def policy(self) -> str:
        """The same in every mode."""
        return self.modes[0].way.policy

    @property
    def title(self) -> str:
        """Case, days, market and policy."""
        days = self.horizon.slots * float(self.horizon.slot_hours) / 24
        span = "1 day" if days == 1 else f"{days:g} days"
        return (
            f"{self.case}, {span} from {self.time.iloc[0]:%Y-%m-%d}, "
            f"{self.community.market.kind} market, {self.policy}"
        )

    @cached_property
    def evaluations(self) -> dict[str, Evaluation]:
        """The figures of every mode, by its name."""
        return {
            mode.way.name: evaluate(mode.community, self.horizon, mode.run)[self.policy]
            for mode in self.modes
        }


def mode_table(compared: Compared) -> pd.DataFrame:
    """One row per mode: money, energies, the grid in AC, what is furthest beyond a limit, and rounds.

    limit, time: the bus or branch furthest beyond, and when; empty where all limits hold. slots_hopeless: of
    the violated slots those in which no dispatch that the policy leaves to the market keeps its limits.
    rounds_median: of the slots that were cleared again, 1 where none was.
    """
    rows = []
    for mode in compared.modes:
        kpis, grid = compared.evaluations[mode.way.name].kpis, compared.evaluations[mode.way.name].grid
        network, done = on_host(mode.community.network), mode.run.trajectories[compared.policy]
        beyond, names = margins(network, grid.ac_voltage, grid.ac_loading)
        violated = (beyond.max(1) > 1) | (grid.ac_status != FlowStatus.SOLVED)
        slot, rounds = int(beyond.max(1).argmax()), np.asarray(done.rounds)
        again = rounds[rounds > 1]
        outside, paid = beyond[slot].max() > 1, np.asarray(done.status) == Status.NETWORK_VIOLATED
        rows.append(
            {"mode": mode.way.name, "limits": mode.way.limits, "reactive": mode.way.reactive}
            | {name: kpis.get(name) for name in TAKEN}
            | {
                "slots_hopeless": int((violated & paid).sum()),
                "limit": names[int(beyond[slot].argmax())] if outside else "",
                "time": compared.time.iloc[slot] if outside else pd.NaT,
                "slots_cleared_again": len(again),
                "rounds_median": float(np.median(again)) if len(again) else 1.0,
                "rounds_max": int(rounds.max()),
            }
        )
    frame = pd.DataFrame(rows)
    texts = ("mode", "limits", "reactive", "limit", "time")
    return frame.astype({name: float for name in frame.columns if name not in texts})


def slot_table(compared: Compared) -> pd.DataFrame:
    """One row per mode and slot: the grid in AC, cost, what is curtailed, rounds, status."""
    return pd.concat([_slots(compared, mode) for mode in compared.modes], ignore_index=True)


def _slots(compared: Compared, mode: ModeRun) -> pd.DataFrame:
    network, grid = on_host(mode.community.network), compared.evaluations[mode.way.name].grid
    done = mode.run.trajectories[compared.policy]
    array = lambda values: np.asarray(values, float)
    over = grid.ac_loading.max(1, initial=0)
    beyond = network.beyond(grid.ac_voltage).max(1)
    return pd.DataFrame(
        {
            "mode": mode.way.name,
            "time": compared.time.to_numpy(),
            "cost_eur": array(done.cost).sum(1),
            "curtailed_kw": np.maximum(array(compared.horizon.pv) - array(done.pv_used), 0).sum(1),
            "ac_losses_kw": grid.ac_losses,
            "ac_voltage_min_pu": grid.ac_voltage.min(1),
            "ac_voltage_max_pu": grid.ac_voltage.max(1),
            "ac_voltage_violation_pu": beyond,
            "ac_loading_max": over,
            "violated": ac_violated(beyond, over - 1) | (grid.ac_status != FlowStatus.SOLVED),
            "rounds": np.asarray(done.rounds),
            "status": [Status(code).name for code in np.asarray(done.status)],
        }
    )


def modes_report(compared: Compared) -> dict[str, Any]:
    """What `--json` writes: short and stable."""
    table = mode_table(compared).astype(object)
    table = table.where(table.notna(), None)
    return {
        "version": __version__,
        "case": compared.case,
        "policy": compared.policy,
        "slots": int(compared.horizon.slots),
        "prosumers": int(compared.community.size),
        "buses": int(compared.community.network.buses),
        "market": compared.community.market.kind,
        "losses": "marginal" if compared.community.feeder.marginal else "shared",
        "dtype": str(compared.horizon.load.dtype),
        "modes": {row.pop("mode"): row for row in table.to_dict("records")},
    }


def picture_of(compared: Compared) -> Any:
    """The feeder in every mode at the worst slot of all, and voltages and loading over time."""
    shown = [ShownMode(mode.way, compared.evaluations[mode.way.name].grid) for mode in compared.modes]
    network = on_host(compared.community.network)
    return modes_picture(network, shown, compared.time, compared.coordinates, compared.title)


def write_modes(
    folder: Path, compared: Compared, *, made_from: Mapping[str, Any] | None, pictures: bool = True
) -> list[Path]:
    """Tables as CSV, summary and picture into an existing folder; returns the files."""
    tables = {MODE_TABLE: mode_table(compared), SLOT_TABLE: slot_table(compared)}
    files = [write_table(frame, folder / f"{name}.csv") for name, frame in tables.items()]
    if pictures:
        (folder / PICTURES).mkdir()
        files.append(save(picture_of(compared), folder / PICTURES, PICTURE))
    summary = {
        "kind": MARK,
        **modes_report(compared),
        "start": str(compared.time.iloc[0]),
        "made_from": None if made_from is None else dict(made_from),
        "tables": sorted(tables),
        "format": "csv",
    }
    return [*files, write_json(folder / SUMMARY_FILE, summary)]


def _worst(figures: Mapping[str, Any]) -> str:
    if not figures["ac_slots_violated"]:
        return "-"
    volts, loading = figures["ac_voltage_violation_pu"], figures["ac_loading_violation_pct"]
    parts = [f"{volts:.4f} p.u."] if ac_violated(volts, 0.0) else []
    parts += [f"{loading:.1f} %"] if ac_violated(0.0, loading / 100) else []
    return ", ".join(parts) or "no solution"


def _loading(figures: Mapping[str, Any]) -> str:
    rated = [figures[f"ac_{kind}_loading_max"] for kind in ("line", "transformer")]
    known = [value for value in rated if value is not None]
    return f"{100 * max(known):.0f}" if known else "-"


def _rounds(figures: Mapping[str, Any]) -> str:
    return f"{figures['rounds_median']:g}/{figures['rounds_max']:.0f}"


COLUMNS = (
    COST,
    ReportColumn(title=("losses", "EUR"), text=number("losses_eur", 2)),
    ReportColumn(title=("losses", "kWh"), text=number("ac_losses_kwh", 1)),
    ReportColumn(title=("curtailed", "kWh"), text=number("curtailed_kwh", 1)),
    ReportColumn(title=("voltage", "p.u."), text=value_range("ac_voltage_min_pu", "ac_voltage_max_pu", 4)),
    ReportColumn(title=("loading", "%"), text=_loading),
    ReportColumn(title=("slots", "out"), text=number("ac_slots_violated", 0)),
    ReportColumn(title=("beyond limits", "at most"), text=_worst),
    ReportColumn(title=("cleared", "again"), text=number("slots_cleared_again", 0)),
    ReportColumn(title=("rounds", "med/most"), text=_rounds),
    ReportColumn(title=("slots", "open"), text=number("slots_not_solved", 0)),
)


def modes_text(compared: Compared) -> str:
    """The table that the command prints, what is furthest beyond a limit, and what the words mean."""
    rows = modes_report(compared)["modes"]
    remarks = []
    for name, row in rows.items():
        if row["limit"]:
            text = f"{name}: furthest beyond is {row['limit']}, {row['time']:%Y-%m-%d %H:%M}"
            if row["slots_hopeless"]:
                text += f"; in {row['slots_hopeless']:.0f} slots no dispatch left to the market keeps limits"
            remarks.append(text)
    ways = "; ".join(f"{mode.way.name}: {mode.way.words}" for mode in compared.modes)
    meaning = (
        "Voltages, loading (of the most loaded branch) and losses are those of the AC power flow of what was "
        "done; what losses cost is beside the cost. slots out: more than 1e-4 p.u. or 0.1 % beyond a limit. "
        "cleared again: slots in which the market took more than one round, rounds of those at the median "
        f"and at most. slots open: stopped at the iteration limit. {ways}."
    )
    fill = lambda text, **more: textwrap.fill(text, width=WIDTH, **more)
    notes = [fill(text, initial_indent="- ", subsequent_indent="  ") for text in remarks]
    return "\n".join(
        [*aligned(rows, COLUMNS, first="mode"), *([""] if notes else []), *notes, "", fill(meaning)]
    )


def unsolved_share(compared: Compared) -> dict[str, float]:
    """Share of slots without a certified answer, by mode."""
    table = mode_table(compared).set_index("mode")
    return (table["slots_not_solved"] / compared.horizon.slots).to_dict()
