"""The table that a study prints: one row per policy, every figure with its uncertainty."""

from collections.abc import Callable, Mapping

from jaxp2p.control.catalogue import REFERENCE, TRADE_ONLY
from jaxp2p.report.tables import MISSING, Figures, ReportColumn, aligned


def _number(name: str) -> Callable[[Figures], str]:
    return lambda figures: MISSING if figures.get(name) is None else f"{figures[name]:,.2f}"


def _with_error(name: str, error: str, digits: int, factor: float = 1.0) -> Callable[[Figures], str]:
    def text(figures: Figures) -> str:
        value, spread = figures[name], figures[error]
        if value is None:
            return MISSING
        tail = "" if spread is None else f" ± {factor * spread:,.{digits}f}"
        return f"{factor * value:,.{digits}f}{tail}"

    return text


def _gap(figures: Figures) -> str:
    value = figures.get("gap_eur")
    return MISSING if value is None else f"{value:,.2g}"


def _violation(figures: Figures) -> str:
    if figures["violation"] is None:
        return MISSING
    value, low, high = (100 * figures[f"violation{end}"] for end in ("", "_low", "_high"))
    return f"{value:.1f} ({low:.1f}-{high:.1f})"


def _cost_columns(what: str, title: str) -> tuple[ReportColumn, ...]:
    mean = _with_error(f"{what}_mean_eur", f"{what}_se_eur", 2)
    return (
        ReportColumn(title=(title, "EUR ± se"), text=mean),
        ReportColumn(title=("p5", "EUR"), text=_number(f"{what}_p5_eur")),
        ReportColumn(title=("p95", "EUR"), text=_number(f"{what}_p95_eur")),
        ReportColumn(title=("CVaR95", "EUR"), text=_number(f"{what}_cvar95_eur")),
    )


COST = _cost_columns("cost", "cost")
# with what was left undone, where there is any: the distribution is then of the cost in all
UNDONE = (
    ReportColumn(title=("paid", "EUR ± se"), text=_with_error("cost_mean_eur", "cost_se_eur", 2)),
    ReportColumn(title=("unserved", "kWh"), text=_number("unserved_kwh")),
    ReportColumn(title=("spilled", "kWh"), text=_number("spilled_kwh")),
    ReportColumn(title=("unserved", "EUR"), text=_number("unserved_cost_eur")),
    ReportColumn(title=("limits", "EUR"), text=_number("violation_cost_eur")),
    *_cost_columns("total", "in all"),
)
WORTH = (
    ReportColumn(title=("saving", "EUR ± se"), text=_with_error("saving_mean_eur", "saving_se_eur", 2)),
    ReportColumn(title=("capture", "% ± se"), text=_with_error("capture", "capture_se", 1, 100)),
    ReportColumn(title=("out of limits", "% (95 %)"), text=_violation),
    ReportColumn(title=("gap", "EUR"), text=_gap),
    ReportColumn(title=("scenarios", ""), text=lambda figures: f"{figures['scenarios']:,}"),
)
STUDY_LEGEND = (
    "cost: mean over the scenarios with its standard error, 5 and 95 % quantiles, and CVaR95, the mean of "
    f"the worst 5 %. saving: against {REFERENCE} in the same scenarios. capture: share of what perfect "
    f"control of the batteries could save on top of {TRADE_ONLY}, empty where that is nothing. out of "
    "limits: share of scenarios with a voltage or a branch out of its limits in AC at any time, with its "
    "95 % interval (Wilson)."
)
UNDONE_LEGEND = (
    "unserved, spilled: means of the energy beyond the connection limits, and what it counts. limits: "
    "violated limits of the grid, by what the market pays to keep them. in all: paid and both, which is what "
    "saving and capture compare."
)


def undone(headline: Mapping[str, Figures]) -> bool:
    """Whether anything that is priced was left undone in any scenario."""
    return any(figures["total_mean_eur"] != figures["cost_mean_eur"] for figures in headline.values())


def study_legend(headline: Mapping[str, Figures]) -> str:
    """What the columns mean."""
    return f"{STUDY_LEGEND} {UNDONE_LEGEND}" if undone(headline) else STUDY_LEGEND


def study_table(headline: Mapping[str, Figures]) -> str:
    """Plain text; headline is that of the study's statistics, figures by policy."""
    return "\n".join(aligned(headline, (*(UNDONE if undone(headline) else COST), *WORTH)))


def study_notes(headline: Mapping[str, Figures], *, unserved_price: float | None = None) -> list[str]:
    """Remarks that belong under the table: what was left undone, figures of fewer scenarios than others.

    unserved_price in EUR/kWh on top of the tariffs.
    """
    most = max(figures["scenarios"] for figures in headline.values())
    remarks = []
    price = "" if unserved_price is None else f" at {unserved_price:.4g} EUR/kWh on top of the tariffs"
    for figure, what in (("unserved_kwh", "load not served"), ("spilled_kwh", "energy spilled")):
        beyond = {name: figures[figure] for name, figures in headline.items() if figures[figure]}
        if beyond:
            worst = max(beyond, key=lambda name: beyond[name])
            remarks.append(
                f"{what} at the connection limits, by {len(beyond)} of {len(headline)} policies, up to "
                f'{beyond[worst]:,.3g} kWh in the mean ({worst}); counted{price} in "in all"'
            )
    violated = [name for name, figures in headline.items() if figures["violation_cost_eur"]]
    if violated:
        remarks.append(f'limits of the grid violated, counted in "in all": {", ".join(violated)}')
    for name, figures in headline.items():
        if figures["scenarios"] < most:
            remarks.append(
                f"{name}: cost of {figures['scenarios']:,} scenarios out of {most:,}; its saving and every "
                "capture compare equal scenarios"
            )
    samples = {row["capture_scenarios"] for row in headline.values() if row["capture"] is not None}
    for sample in sorted(samples):
        remarks.append(f"capture: over {sample:,.0f} scenarios, a ratio of sums")
    return remarks
