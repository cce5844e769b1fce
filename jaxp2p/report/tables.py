"""The table that a run prints: one row per policy, as text for the terminal or as markdown."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxp2p.control.catalogue import OPTIMUM
from jaxp2p.report.stays import MISSED_KWH

Figures = Mapping[str, Any]
MISSING = "-"


@dataclass(frozen=True, kw_only=True)
class ReportColumn:
    """One column: a title of two lines and how a policy's figures fill it."""

    title: tuple[str, str]
    text: Callable[[Figures], str]


def number(name: str, digits: int, *, factor: float = 1.0) -> Callable[[Figures], str]:
    """A figure times a factor, with so many digits and no sign of a zero; MISSING where there is none."""

    def text(figures: Figures) -> str:
        value = figures.get(name)
        return MISSING if value is None else f"{factor * value:z,.{digits}f}"

    return text


def tiny(name: str, digits: int) -> Callable[[Figures], str]:
    """Violations: 0 where there is none, and never a 0 where there is one."""

    def text(figures: Figures) -> str:
        value = figures.get(name)
        if value is None:
            return MISSING
        if value == 0:
            return "0"
        return f"{value:.{digits}f}" if value >= 10**-digits else f"{value:.0e}".replace("e-0", "e-")

    return text


def value_range(low: str, high: str, digits: int) -> Callable[[Figures], str]:
    """Two figures with a dash between; MISSING where there is none."""

    def text(figures: Figures) -> str:
        ends = figures[low], figures[high]
        return MISSING if None in ends else "-".join(f"{end:.{digits}f}" for end in ends)

    return text


def _iterations(figures: Figures) -> str:
    if figures.get("iterations_median") is None:
        return MISSING
    return f"{figures['iterations_median']:.0f}/{figures['iterations_p95']:.0f}"


def _slots(figures: Figures) -> str:
    return f"{figures['ac_slots_violated']}/{figures['slots_not_solved']}"


COST = ReportColumn(title=("cost", "EUR"), text=number("cost_eur", 2))
# what was left undone, and what that makes of the cost: only where there is any
UNDONE = (
    ReportColumn(title=("unserved", "kWh"), text=tiny("unserved_kwh", 2)),
    ReportColumn(title=("spilled", "kWh"), text=tiny("spilled_kwh", 2)),
    ReportColumn(title=("unserved", "EUR"), text=number("unserved_cost_eur", 2)),
    ReportColumn(title=("limits", "EUR"), text=number("violation_cost_eur", 2)),
    ReportColumn(title=("in all", "EUR"), text=number("total_cost_eur", 2)),
)
WORTH = (
    ReportColumn(title=("saving", "EUR"), text=number("saving_eur", 2)),
    ReportColumn(title=("capture", "%"), text=number("capture", 1, factor=100)),
    ReportColumn(title=("traded", "kWh"), text=number("p2p_kwh", 0)),
    ReportColumn(title=("self-suff.", "%"), text=number("self_sufficiency", 1, factor=100)),
    ReportColumn(title=("losses", "kWh"), text=number("ac_losses_kwh", 1)),
)
# only where there are electric vehicles
VEHICLES = (
    ReportColumn(title=("EV in", "kWh"), text=number("ev_charged_kwh", 0)),
    ReportColumn(title=("EV out", "kWh"), text=number("ev_discharged_kwh", 0)),
    ReportColumn(title=("EV short", "kWh"), text=number("ev_shortfall_kwh", 2)),
    ReportColumn(title=("EV missed", "stays"), text=number("ev_missed_stays", 0)),
)
TECHNICAL = (
    ReportColumn(title=("voltage", "p.u."), text=value_range("ac_voltage_min_pu", "ac_voltage_max_pu", 3)),
    ReportColumn(title=("line", "%"), text=number("ac_line_loading_max", 0, factor=100)),
    ReportColumn(title=("transf.", "%"), text=number("ac_transformer_loading_max", 0, factor=100)),
    ReportColumn(title=("SoC out", "kWh"), text=tiny("soc_violation_kwh", 2)),
    ReportColumn(title=("V out", "p.u."), text=tiny("ac_voltage_violation_pu", 4)),
    ReportColumn(title=("S out", "%"), text=tiny("ac_loading_violation_pct", 1)),
    ReportColumn(title=("iter.", "med/p95"), text=_iterations),
    ReportColumn(title=("slots", "out/open"), text=_slots),
    ReportColumn(title=("gap", "EUR"), text=tiny("gap_eur", 3)),
    ReportColumn(title=("time", "ms/slot"), text=number("ms_per_slot", 1)),
)

LEGEND = (
    "cost: utility, fees, wear and curtailment, less the worth of the energy gained in the batteries. "
    "saving: against no_storage_no_trade. capture: share of what perfect control of the batteries could save "
    "on top of no_storage, empty where that is nothing. self-suff.: share of the load served that was not "
    "bought from the utility. SoC, V, S out: largest excess over the limits of batteries, buses and "
    "branches in the AC power flow; losses: of all branches there, beside the cost. slots out/open: with a "
    "limit of the grid violated in AC, and stopped at the iteration limit. gap: what all slots are away from "
    "their own optimum at most, by their certificates."
)
UNDONE_LEGEND = (
    "unserved, spilled: energy beyond the connection limits, not delivered and not taken. limits: violated "
    "limits of the grid, by what the market pays to keep them. in all: cost and both, which is what saving, "
    "capture, perfect foresight and the lower bound count."
)
VEHICLES_LEGEND = (
    "EV in, out: what electric vehicles charged and gave back, at the wallbox. EV short: what was missing of "
    "the energy wanted when they left. EV missed: stays in which that was more than could be helped from "
    "their arrival on; 0 is the promise. Energy gained in vehicles that are still plugged in at the end "
    "counts as that in the batteries does, limits (SoC out) and control (capture) are of both, and without "
    "storage vehicles charge at once. For self-suff. what vehicles charge, less what they give back, is load."
)


def undone(kpis: Mapping[str, Figures]) -> bool:
    """Whether any policy left anything undone that is priced."""
    return any(figures["total_cost_eur"] != figures["cost_eur"] for figures in kpis.values())


def vehicles(kpis: Mapping[str, Figures]) -> bool:
    """Whether anybody has an electric vehicle."""
    return any("ev_stays" in figures for figures in kpis.values())


def money_columns(kpis: Mapping[str, Figures]) -> tuple[ReportColumn, ...]:
    """The columns of money and energy; those of what was left undone, and of vehicles, where there is any."""
    return (COST, *(UNDONE if undone(kpis) else ()), *WORTH, *(VEHICLES if vehicles(kpis) else ()))


def legend(kpis: Mapping[str, Figures]) -> str:
    """What the columns mean."""
    more = {UNDONE_LEGEND: undone(kpis), VEHICLES_LEGEND: vehicles(kpis)}
    return " ".join([LEGEND, *(text for text, shown in more.items() if shown)])


def text_tables(kpis: Mapping[str, Figures], *, width: int = 100) -> str:
    """The figures of every policy as plain text: one table where it fits into `width`, else two."""
    money = money_columns(kpis)
    whole = aligned(kpis, (*money, *TECHNICAL))
    if len(whole[0]) <= width:
        return "\n".join(whole)
    return "\n".join([*aligned(kpis, money), "", *aligned(kpis, TECHNICAL)])


def notes(run: Any, kpis: Mapping[str, Figures]) -> list[str]:
    """Remarks that belong under the table: end value, bounds, what was left undone, what is not comparable.

    run is a `jaxp2p.runs.runner.Run`.
    """
    remarks = [f"energy stored at the end is counted at {run.terminal_price:.4g} EUR/kWh for every policy"]
    included = ", penalties included" if undone(kpis) else ""
    if run.perfect_foresight_eur is not None:
        best = kpis[OPTIMUM]["total_cost_eur"] if OPTIMUM in kpis else run.perfect_foresight_eur
        remarks.append(f"perfect foresight: {best:,.2f} EUR{included}")
        if run.perfect_foresight_is_bound:
            why = "".join(f", {reason}" for reason in run.perfect_foresight_reasons)
            known = any(figures["capture"] is not None for figures in kpis.values())
            remarks[-1] += why + (": capture is a lower bound" if known else ": it need not be reached")
    elif getattr(run, "left_out", ""):
        remarks.append(run.left_out)
    if run.lower_bound_eur is not None:
        remarks.append(f"lower bound on the cost of any policy{included}: {run.lower_bound_eur:,.2f} EUR")
    bounded = run.perfect_foresight_eur is not None or run.lower_bound_eur is not None
    if bounded and len(run.row_names):
        remarks.append(
            "perfect foresight and the lower bound keep the limits of the linear network, without losses"
        )
    remarks += undone_notes(run, kpis)
    remarks += vehicle_notes(kpis)
    broken = [name for name, figures in kpis.items() if name != OPTIMUM and figures["ac_slots_violated"]]
    if broken:
        remarks.append(
            "outside the limits of the grid, so not comparable with perfect foresight: " + ", ".join(broken)
        )
    for name, figures in kpis.items():
        if figures["slots_not_solved"]:
            counts = ", ".join(f"{count} {status}" for status, count in figures["status_counts"].items())
            remarks.append(f"{name}: not every slot was solved ({counts})")
    return remarks


def undone_notes(run: Any, kpis: Mapping[str, Figures]) -> list[str]:
    """Remarks on energy that was not served or spilled, and on violated limits of the grid, with prices."""
    remarks = []
    for figure, what in (("unserved_kwh", "load not served"), ("spilled_kwh", "energy spilled")):
        beyond = {name: figures[figure] for name, figures in kpis.items() if figures[figure]}
        if beyond:
            worst = max(beyond, key=lambda name: beyond[name])
            remarks.append(
                f"{what} at the connection limits, by {len(beyond)} of {len(kpis)} policies, up to "
                f"{beyond[worst]:,.3g} kWh ({worst}); counted at {run.unserved_price:.4g} EUR/kWh on top of "
                'the tariffs in "in all"'
            )
    violated = [name for name, figures in kpis.items() if figures["violation_cost_eur"]]
    if violated:
        remarks.append(
            f'limits of the grid violated, counted at {run.row_price:.4g} EUR/kWh in "in all": '
            + ", ".join(violated)
        )
    return remarks


def vehicle_notes(kpis: Mapping[str, Figures]) -> list[str]:
    """How many stays of vehicles there are, what nobody could have charged in them, and who missed more."""
    if not vehicles(kpis):
        return []
    stays, unavoidable = (
        max(figures[name] for figures in kpis.values()) for name in ("ev_stays", "ev_unavoidable_kwh")
    )
    remarks = [f"electric vehicles: {stays:,} stays"]
    if unavoidable > MISSED_KWH:
        remarks[0] += (
            f"; {unavoidable:,.3g} kWh of what they wanted at departure were out of reach when they arrived"
        )
    missed = {name: figures["ev_missed_stays"] for name, figures in kpis.items()}
    if any(missed.values()):
        counts = ", ".join(f"{name} {count:,}" for name, count in missed.items() if count)
        remarks.append(f"electric vehicles that left short of what could be reached, by policy: {counts}")
    return remarks


def aligned(
    kpis: Mapping[str, Figures], columns: Sequence[ReportColumn], *, first: str = "policy"
) -> list[str]:
    """Lines of a table with right-aligned figures, a rule under the head; first: what has a row."""
    head = [[first, *(column.title[0] for column in columns)], ["", *(c.title[1] for c in columns)]]
    body = [[name, *(column.text(figures) for column in columns)] for name, figures in kpis.items()]
    widths = [max(map(len, cells)) for cells in zip(*head, *body, strict=True)]
    rule = ["-" * width for width in widths]
    lines = []
    for cells in [*head, rule, *body]:
        padded = [cells[0].ljust(widths[0])]
        padded += [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        lines.append("  ".join(padded))
    return lines
