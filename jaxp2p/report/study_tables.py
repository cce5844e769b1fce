"""The table that a study prints: one row per policy, every figure with its uncertainty."""

from collections.abc import Callable, Mapping

from jaxp2p.kpis import REFERENCE, TRADE_ONLY
from jaxp2p.report.tables import MISSING, Figures, ReportColumn, aligned


def _number(name: str) -> Callable[[Figures], str]:
    return lambda figures: MISSING if figures[name] is None else f"{figures[name]:,.2f}"


def _with_error(name: str, error: str, digits: int, factor: float = 1.0) -> Callable[[Figures], str]:
    def text(figures: Figures) -> str:
        value, spread = figures[name], figures[error]
        if value is None:
            return MISSING
        tail = "" if spread is None else f" ± {factor * spread:,.{digits}f}"
        return f"{factor * value:,.{digits}f}{tail}"

    return text


def _violation(figures: Figures) -> str:
    if figures["violation"] is None:
        return MISSING
    value, low, high = (100 * figures[f"violation{end}"] for end in ("", "_low", "_high"))
    return f"{value:.1f} ({low:.1f}-{high:.1f})"


COLUMNS = (
    ReportColumn(title=("cost", "EUR ± se"), text=_with_error("cost_mean_eur", "cost_se_eur", 2)),
    ReportColumn(title=("p5", "EUR"), text=_number("cost_p5_eur")),
    ReportColumn(title=("p95", "EUR"), text=_number("cost_p95_eur")),
    ReportColumn(title=("CVaR95", "EUR"), text=_number("cost_cvar95_eur")),
    ReportColumn(title=("saving", "EUR ± se"), text=_with_error("saving_mean_eur", "saving_se_eur", 2)),
    ReportColumn(title=("capture", "% ± se"), text=_with_error("capture", "capture_se", 1, 100)),
    ReportColumn(title=("out of limits", "% (95 %)"), text=_violation),
    ReportColumn(title=("scenarios", ""), text=lambda figures: f"{figures['scenarios']:,}"),
)
STUDY_LEGEND = (
    "cost: mean over the scenarios with its standard error, 5 and 95 % quantiles, and CVaR95, the mean of "
    f"the worst 5 %. saving: against {REFERENCE} in the same scenarios. capture: share of what perfect "
    f"control of the batteries could save on top of {TRADE_ONLY}. out of limits: share of scenarios with a "
    "voltage or a branch out of its limits at any time, with its 95 % interval (Wilson)."
)


def study_table(headline: Mapping[str, Figures]) -> str:
    """Plain text; headline is that of the study's statistics, figures by policy."""
    return "\n".join(aligned(headline, COLUMNS))


def study_notes(headline: Mapping[str, Figures]) -> list[str]:
    """Remarks that belong under the table: which figures are of fewer scenarios than the others."""
    most = max(figures["scenarios"] for figures in headline.values())
    remarks = []
    for name, figures in headline.items():
        if figures["scenarios"] < most:
            remarks.append(
                f"{name}: cost of {figures['scenarios']:,} scenarios out of {most:,}; its saving and every "
                "capture compare equal scenarios"
            )
    samples = {figures["capture_scenarios"] for figures in headline.values()} - {None}
    for sample in sorted(samples):
        remarks.append(f"capture: over {sample:,.0f} scenarios, a ratio of sums")
    return remarks
