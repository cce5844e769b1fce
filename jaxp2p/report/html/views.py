"""The tables and texts of the page: what is there without any script, too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from types import SimpleNamespace
from typing import Any

import pandas as pd

from jaxp2p.control.catalogue import ENTRIES, favourite, label
from jaxp2p.report import tables
from jaxp2p.report.html import fairness
from jaxp2p.report.html.runs import policies_of
from jaxp2p.report.results import Results
from jaxp2p.report.tables import Figures, ReportColumn, number, tiny, value_range


@dataclass(frozen=True, kw_only=True)
class View:
    """A table with a caption; `rows` are (key, name, cells), key being a policy or empty."""

    caption: str
    first: str
    titles: Sequence[tuple[str, str]]
    rows: Sequence[tuple[str, str, Sequence[str]]]


MONEY = (
    ReportColumn(title=("bills", "EUR"), text=number("energy_cost_eur", 2)),
    ReportColumn(title=("energy gained", "EUR"), text=number("stored_worth_eur", 2)),
)
ENERGY = (
    ReportColumn(title=("load", "kWh"), text=number("load_kwh", 0)),
    ReportColumn(title=("PV", "kWh"), text=number("pv_kwh", 0)),
    ReportColumn(title=("curtailed", "kWh"), text=number("curtailed_kwh", 1)),
    ReportColumn(title=("bought", "kWh"), text=number("import_kwh", 0)),
    ReportColumn(title=("sold", "kWh"), text=number("export_kwh", 0)),
    ReportColumn(title=("traded", "kWh"), text=number("p2p_kwh", 0)),
    ReportColumn(title=("self-suff.", "%"), text=number("self_sufficiency", 1, factor=100)),
    ReportColumn(title=("self-cons.", "%"), text=number("self_consumption", 1, factor=100)),
    ReportColumn(title=("peak in", "kW"), text=number("peak_import_kw", 1)),
    ReportColumn(title=("peak out", "kW"), text=number("peak_export_kw", 1)),
)
STORAGE = (
    ReportColumn(title=("throughput", "kWh"), text=number("battery_throughput_kwh", 0)),
    ReportColumn(title=("cycles", ""), text=number("battery_cycles", 2)),
    ReportColumn(title=("energy gained", "EUR"), text=number("stored_worth_eur", 2)),
    ReportColumn(title=("out of limits", "kWh"), text=tiny("soc_violation_kwh", 2)),
)
PRICES = (
    ReportColumn(title=("mean", "EUR/kWh"), text=number("price_mean", 4)),
    ReportColumn(title=("lowest", "EUR/kWh"), text=number("price_min", 4)),
    ReportColumn(title=("highest", "EUR/kWh"), text=number("price_max", 4)),
    ReportColumn(title=("utility sells", "mean EUR/kWh"), text=number("tariff_buy_mean", 4)),
    ReportColumn(title=("utility buys", "mean EUR/kWh"), text=number("tariff_sell_mean", 4)),
)
GRID = (
    ReportColumn(title=("voltage", "p.u."), text=value_range("ac_voltage_min_pu", "ac_voltage_max_pu", 4)),
    ReportColumn(title=("line", "%"), text=number("ac_line_loading_max", 1, factor=100)),
    ReportColumn(title=("transformer", "%"), text=number("ac_transformer_loading_max", 1, factor=100)),
    ReportColumn(title=("voltage out", "p.u."), text=tiny("ac_voltage_violation_pu", 4)),
    ReportColumn(title=("loading out", "%"), text=tiny("ac_loading_violation_pct", 1)),
    ReportColumn(title=("slots", "out of limits"), text=number("ac_slots_violated", 0)),
    ReportColumn(title=("losses", "kWh"), text=number("ac_losses_kwh", 1)),
    ReportColumn(title=("losses", "EUR"), text=number("losses_eur", 2)),
)


def _status(figures: Figures) -> str:
    counts = figures["status_counts"]
    return ", ".join(f"{count} {name.lower().replace('_', ' ')}" for name, count in counts.items())


SOLVER = (
    ReportColumn(title=("slots", "by status"), text=_status),
    ReportColumn(title=("iterations", "median"), text=number("iterations_median", 0)),
    ReportColumn(title=("iterations", "95 %"), text=number("iterations_p95", 0)),
    ReportColumn(title=("iterations", "most"), text=number("iterations_max", 0)),
    ReportColumn(title=("gap", "EUR"), text=tiny("gap_eur", 3)),
    ReportColumn(title=("balance", "kW off"), text=tiny("balance_error_kw", 4)),
    ReportColumn(title=("time", "ms/slot"), text=number("ms_per_slot", 2)),
)
TILES = (
    ("cost", "EUR", number("total_cost_eur", 2)),
    ("saving", "EUR", number("saving_eur", 2)),
    ("capture", "%", number("capture", 1, factor=100)),
    ("self-sufficiency", "%", number("self_sufficiency", 1, factor=100)),
    ("traded", "kWh", number("p2p_kwh", 0)),
    ("highest import", "kW", number("peak_import_kw", 1)),
    ("voltage", "p.u.", value_range("ac_voltage_min_pu", "ac_voltage_max_pu", 3)),
    ("slots out of limits", "", number("ac_slots_violated", 0)),
)


def table(caption: str, kpis: Mapping[str, Figures], columns: Sequence[ReportColumn]) -> View:
    """One row per policy; columns that are empty for all of them are left out."""
    cells = {column: [column.text(figures) for figures in kpis.values()] for column in columns}
    shown = [column for column in columns if any(text != tables.MISSING for text in cells[column])]
    return View(
        caption=caption,
        first="policy",
        titles=[column.title for column in shown],
        rows=[(name, label(name), [cells[column][row] for column in shown]) for row, name in enumerate(kpis)],
    )


def run_view(name: str, results: Results) -> dict[str, Any]:
    """What the template fills in for one run."""
    summary, kpis = results.summary, results.summary["kpis"]
    vehicles = tables.VEHICLES if tables.vehicles(kpis) else ()
    money = (tables.COST, *(tables.UNDONE if tables.undone(kpis) else ()), *tables.WORTH[:2], *MONEY)
    policies = policies_of(results)
    return {
        "kind": "run",
        "name": name,
        "case": summary["case"],
        "favourite": favourite(policies),
        "policies": {policy: words_of(policy) for policy in policies},
        "facts": _facts(results),
        "tiles": {
            policy: [(what, unit, text(figures)) for what, unit, text in TILES]
            for policy, figures in kpis.items()
        },
        "notes": tables.notes(_run_of(summary), kpis),
        "certificate": str(summary["certificate"]).splitlines(),
        "legend": tables.legend(kpis),
        "summary": table("Main figures of every policy", kpis, tables.money_columns(kpis)),
        "money": table("Money by policy", kpis, money),
        "energy": table("Energy by policy", kpis, ENERGY),
        "storage": table("Batteries by policy", kpis, (*STORAGE, *vehicles)),
        "prices": table("Local prices by policy", kpis, PRICES),
        "grid": table("The grid by policy, in the AC power flow", kpis, GRID),
        "limits": {policy: limits_in_use(results, policy) for policy in policies},
        "fairness": table("Benefit of the members by policy", kpis, fairness.COLUMNS),
        "solver": table("How the slots were solved, by policy", kpis, SOLVER),
        "settings": run_settings(summary),
        "per_home": f"homes_{policies[0]}" in results.tables,
        "has_reference": bool(fairness.benefits(results.tables["members"], policies)),
        "has_vehicles": bool(vehicles),
    }


LIMITS = 12  # rows of a table of limits in use


def limits_in_use(results: Results, policy: str) -> View | None:
    """Limits of the grid that had a price: for how long, and what easing each would have saved.

    The saving is that of the last bit, times the amount: an estimate from above. None where nothing bound, or
    the run was written without limits slot by slot.
    """
    frame = results.tables.get(f"limits_{policy}")
    if frame is None or frame.empty:
        return None
    hours = results.summary["slot_minutes"] / 60
    found = frame.groupby(["limit", "side", "relief"], sort=False)["relief_eur_per_h"].agg(["size", "sum"])
    found = found.sort_values("sum", ascending=False)
    more = f", the {LIMITS} that cost most of {len(found)}" if len(found) > LIMITS else ""
    return View(
        caption=f"Limits of the grid in use, {label(policy)}{more}",
        first="limit",
        titles=[("side", ""), ("in use", "h"), ("eased by", ""), ("would save", "EUR at most")],
        rows=[
            ("", str(limit), [side, f"{hours * row['size']:,.2f}", relief, f"{hours * row['sum']:,.2f}"])
            for (limit, side, relief), row in found.head(LIMITS).iterrows()
        ],
    )


def words_of(policy: str) -> str:
    """A line on what a policy does; empty for anybody's own."""
    return ENTRIES[policy].words if policy in ENTRIES else ""


def _run_of(summary: Mapping[str, Any]) -> Any:
    """What `notes` asks of a run, of one that was written."""
    return SimpleNamespace(
        terminal_price=summary["end_value_eur_per_kwh"],
        perfect_foresight_eur=summary["perfect_foresight_eur"],
        perfect_foresight_is_bound=summary["perfect_foresight_is_bound"],
        perfect_foresight_reasons=summary["perfect_foresight_reasons"],
        left_out=summary.get("foresight_left_out", ""),
        lower_bound_eur=summary["lower_bound_eur"],
        row_names=range(summary.get("limits_in_market", 0)),
        unserved_price=summary["unserved_price_eur_per_kwh"],
        row_price=summary["row_price_eur_per_kwh"],
    )


def _facts(results: Results) -> list[tuple[str, str]]:
    """The input, next to the results."""
    summary, members = results.summary, results.tables["members"]
    first = next(iter(summary["kpis"].values()))
    start, minutes = pd.Timestamp(summary["start"]), summary["slot_minutes"]
    days = summary["slots"] * minutes / 1440
    zone = " UTC" if summary.get("time_zone") else ""
    end = start + pd.Timedelta(minutes=minutes * summary["slots"])
    pv, storage = members["pv_kw"] > 0, members["battery_kwh"] > 0
    facts = [
        ("members", f"{summary['prosumers']:,} on {summary['buses']:,} buses"),
        ("time", f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}{zone}, {days:g} days"),
        ("slots", f"{summary['slots']:,} of {minutes:g} min"),
        ("market", str(summary["market"])),
        ("load", f"{first['load_kwh']:,.0f} kWh"),
        ("PV", f"{pv.sum():,} plants, {members['pv_kw'].sum():,.1f} kW, {first['pv_kwh']:,.0f} kWh used"),
        ("batteries", f"{storage.sum():,}, {members['battery_kwh'].sum():,.1f} kWh"),
    ]
    if "ev_kwh" in members:
        facts.append(
            ("vehicles", f"{(members['ev_kwh'] > 0).sum():,} homes, {members['ev_kwh'].sum():,.1f} kWh")
        )
    facts.append(("version", f"jaxp2p {summary['version']}, {summary['dtype']}"))
    return facts


def run_settings(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The input and every setting that decides the numbers, by name; those that nobody gave say so.

    Of files the names alone: a page goes to people whom folders of this machine do not concern.
    """
    settings = summary.get("settings") or {}
    rows = dict(summary.get("made_from") or settings)
    rows |= {name: settings[name] for name in ("synthetic",) if settings.get(name)}
    if summary.get("seed") is not None:
        rows["seed"] = summary["seed"]
    for name in ("input", "controller"):
        if rows.get(name):
            rows[name] = PurePath(rows[name]).name
    return [(str(name).replace("_", " "), _shown(value)) for name, value in rows.items()]


def _shown(value: Any) -> str:
    if value is None or value == "":
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
