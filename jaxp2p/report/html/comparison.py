"""Several runs and studies side by side: their main figures, and the settings in which they differ."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxp2p.control.catalogue import label
from jaxp2p.report import tables
from jaxp2p.report.html.studies import StudyPart
from jaxp2p.report.html.views import GRID, View, run_settings
from jaxp2p.report.results import Results
from jaxp2p.report.tables import ReportColumn, number

COLUMNS = (
    ReportColumn(title=("cost", "EUR"), text=number("total_cost_eur", 2)),
    *tables.WORTH,
    *GRID[:3],
    ReportColumn(title=("slots", "out of limits"), text=number("ac_slots_violated", 0)),
)
STUDY_COLUMNS = (
    ReportColumn(title=("cost", "EUR, mean"), text=number("total_mean_eur", 2)),
    ReportColumn(title=("saving", "EUR, mean"), text=number("saving_mean_eur", 2)),
    ReportColumn(title=("capture", "%"), text=number("capture", 1, factor=100)),
    ReportColumn(title=("out of limits", "% of scenarios"), text=number("violation", 1, factor=100)),
)


def comparison(parts: Sequence[tuple[str, Results | StudyPart]]) -> dict[str, Any] | None:
    """Tables of the runs, of the studies, and of the settings that differ; None for a single part."""
    if len(parts) < 2:
        return None
    runs = [(name, part.summary["kpis"]) for name, part in parts if isinstance(part, Results)]
    studies = [(name, part.headline) for name, part in parts if isinstance(part, StudyPart)]
    views = [
        _side_by_side(caption, rows, columns)
        for caption, rows, columns in (
            ("Runs side by side", runs, COLUMNS),
            ("Studies side by side, over their scenarios", studies, STUDY_COLUMNS),
        )
        if rows
    ]
    settings = (
        ("runs", [(name, run_settings(part.summary)) for name, part in parts if isinstance(part, Results)]),
        ("studies", [(name, part.settings) for name, part in parts if isinstance(part, StudyPart)]),
    )
    found = [differences(f"Settings in which the {kind} differ", rows) for kind, rows in settings]
    return {"tables": views, "curves": len(runs) > 1, "differences": [view for view in found if view.rows]}


def _side_by_side(
    caption: str,
    parts: Sequence[tuple[str, Mapping[str, tables.Figures]]],
    columns: Sequence[ReportColumn],
) -> View:
    return View(
        caption=caption,
        first="policy",
        titles=[("of", ""), *(column.title for column in columns)],
        rows=[
            (policy, label(policy), [name, *(column.text(figures[policy]) for column in columns)])
            for policy in dict.fromkeys(policy for _, figures in parts for policy in figures)
            for name, figures in parts
            if policy in figures
        ],
    )


def differences(caption: str, parts: Sequence[tuple[str, Sequence[tuple[str, str]]]]) -> View:
    """A row for every setting in which the parts differ; what a part does not have is a dash."""
    settings = [dict(rows) for _, rows in parts]
    names = dict.fromkeys(name for values in settings for name in values)
    rows = [(name, [values.get(name, tables.MISSING) for values in settings]) for name in names]
    return View(
        caption=caption,
        first="setting",
        titles=[(name, "") for name, _ in parts],
        rows=[("", name, cells) for name, cells in rows if len(set(cells)) > 1],
    )
