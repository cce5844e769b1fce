"""The table that a run prints: one row per policy, as text for the terminal or as markdown."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxp2p.kpis import OPTIMUM

Figures = Mapping[str, Any]
MISSING = "-"


@dataclass(frozen=True, kw_only=True)
class ReportColumn:
    """One column: a title of two lines and how a policy's figures fill it."""

    title: tuple[str, str]
    text: Callable[[Figures], str]


def _number(name: str, digits: int, *, factor: float = 1.0) -> Callable[[Figures], str]:
    def text(figures: Figures) -> str:
        value = figures.get(name)
        return MISSING if value is None else f"{factor * value:,.{digits}f}"

    return text


def _tiny(name: str, digits: int) -> Callable[[Figures], str]:
    """Violations: 0 where there is none, and never a 0 where there is one."""

    def text(figures: Figures) -> str:
        value = figures.get(name)
        if value is None:
            return MISSING
        if value == 0:
            return "0"
        return f"{value:.{digits}f}" if value >= 10**-digits else f"{value:.0e}".replace("e-0", "e-")

    return text


def _range(low: str, high: str, digits: int) -> Callable[[Figures], str]:
    return lambda figures: f"{figures[low]:.{digits}f}-{figures[high]:.{digits}f}"


def _iterations(figures: Figures) -> str:
    if figures.get("iterations_median") is None:
        return MISSING
    return f"{figures['iterations_median']:.0f}/{figures['iterations_p95']:.0f}"


def _unsolved(figures: Figures) -> str:
    return f"{figures['slots_not_solved']}"


MONEY = (
    ReportColumn(title=("cost", "EUR"), text=_number("cost_eur", 2)),
    ReportColumn(title=("saving", "EUR"), text=_number("saving_eur", 2)),
    ReportColumn(title=("capture", "%"), text=_number("capture", 1, factor=100)),
    ReportColumn(title=("traded", "kWh"), text=_number("p2p_kwh", 0)),
    ReportColumn(title=("self-suff.", "%"), text=_number("self_sufficiency", 1, factor=100)),
)
TECHNICAL = (
    ReportColumn(title=("voltage", "p.u."), text=_range("voltage_min_pu", "voltage_max_pu", 3)),
    ReportColumn(title=("line", "%"), text=_number("line_loading_max", 0, factor=100)),
    ReportColumn(title=("transf.", "%"), text=_number("transformer_loading_max", 0, factor=100)),
    ReportColumn(title=("SoC out", "kWh"), text=_tiny("soc_violation_kwh", 2)),
    ReportColumn(title=("V out", "p.u."), text=_tiny("voltage_violation_pu", 4)),
    ReportColumn(title=("P out", "kW"), text=_tiny("line_violation_kw", 2)),
    ReportColumn(title=("iter.", "med/p95"), text=_iterations),
    ReportColumn(title=("slots", "unsolved"), text=_unsolved),
    ReportColumn(title=("time", "ms/slot"), text=_number("ms_per_slot", 1)),
)

LEGEND = (
    "cost: utility, fees, wear and curtailment, less the worth of the energy gained in the batteries. "
    "saving: against no_storage_no_trade. capture: share of what perfect control of the batteries could save "
    "on top of no_storage. self-suff.: share of the load not bought from the utility. SoC, V, P out: largest "
    "excess over the limits of batteries, buses and branches. unsolved: slots stopped at the iteration limit."
)


def text_tables(kpis: Mapping[str, Figures], *, width: int = 100) -> str:
    """The figures of every policy as plain text: one table where it fits into `width`, else two."""
    whole = aligned(kpis, (*MONEY, *TECHNICAL))
    if len(whole[0]) <= width:
        return "\n".join(whole)
    return "\n".join([*aligned(kpis, MONEY), "", *aligned(kpis, TECHNICAL)])


def markdown_table(kpis: Mapping[str, Figures]) -> str:
    """The same figures as one markdown table."""
    columns = (*MONEY, *TECHNICAL)
    titles = ["policy", *(" ".join(column.title) for column in columns)]
    lines = [titles, ["---", *("---:" for _ in columns)]]
    lines += [[name, *(column.text(figures) for column in columns)] for name, figures in kpis.items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def notes(run: Any, kpis: Mapping[str, Figures]) -> list[str]:
    """Remarks that belong under the table: bounds, what is not comparable, slots without an answer.

    run is a `jaxp2p.runner.Run`.
    """
    remarks = []
    if run.perfect_foresight_eur is not None:
        remarks.append(f"perfect foresight: {run.perfect_foresight_eur:,.2f} EUR")
        if run.perfect_foresight_is_bound:
            remarks[-1] += (
                ", of a pool with the smallest fee, which no bilateral market can beat: "
                "capture is a lower bound"
            )
    elif getattr(run, "left_out", ""):
        remarks.append(run.left_out)
    if run.lower_bound_eur is not None:
        remarks.append(f"lower bound on the cost of any policy: {run.lower_bound_eur:,.2f} EUR")
    broken = [
        name
        for name, figures in kpis.items()
        if name != OPTIMUM and max(figures["voltage_violation_pu"], figures["line_violation_kw"] / 500) > 1e-4
    ]
    if broken:
        remarks.append(
            "outside the limits of the grid, so not comparable with perfect foresight: " + ", ".join(broken)
        )
    for name, figures in kpis.items():
        if figures["slots_not_solved"]:
            counts = ", ".join(f"{count} {status}" for status, count in figures["status_counts"].items())
            remarks.append(f"{name}: not every slot was solved ({counts})")
    return remarks


def aligned(kpis: Mapping[str, Figures], columns: Sequence[ReportColumn]) -> list[str]:
    """Lines of a table with right-aligned figures, a rule under the head."""
    head = [["policy", *(column.title[0] for column in columns)], ["", *(c.title[1] for c in columns)]]
    body = [[name, *(column.text(figures) for column in columns)] for name, figures in kpis.items()]
    widths = [max(map(len, cells)) for cells in zip(*head, *body, strict=True)]
    rule = ["-" * width for width in widths]
    lines = []
    for cells in [*head, rule, *body]:
        padded = [cells[0].ljust(widths[0])]
        padded += [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        lines.append("  ".join(padded))
    return lines
