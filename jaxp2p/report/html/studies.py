"""A study in the page: distributions over its scenarios, their uncertainty, the day in quantiles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from jaxp2p.control.catalogue import favourite
from jaxp2p.report import study_tables
from jaxp2p.report.html.views import table, words_of
from jaxp2p.report.study import LEVELS, NORMAL_95, StudyPictureData
from jaxp2p.report.tables import Figures

SHARES = np.linspace(0, 1, 101)
TRACES = {"import_kw": 2, "stored_kwh": 2, "price_eur_per_kwh": 4}  # decimal digits


@dataclass(frozen=True, kw_only=True)
class StudyPart:
    """A study as the page needs it.

    Attributes:
        headline: figures by policy, of the study's statistics.
        data: what its pictures are made of.
        costs: by policy, EUR in all of every scenario (S,).
        facts: what it was made from, in words.
        settings: name and value of every setting.
    """

    headline: Mapping[str, Figures]
    data: StudyPictureData
    costs: Mapping[str, np.ndarray]
    facts: Sequence[tuple[str, str]]
    settings: Sequence[tuple[str, str]]


def study_data(part: StudyPart) -> dict[str, Any]:
    """What the scripts of the page know of a study; money to the cent."""
    policies = list(part.headline)
    known = {policy: values[np.isfinite(values)] for policy, values in part.costs.items()}
    return {
        "kind": "study",
        "policies": policies,
        "favourite": favourite(policies),
        "shares": (100 * SHARES).round(6).tolist(),
        "quantiles": {
            policy: np.quantile(values, SHARES).round(2).tolist()
            for policy, values in known.items()
            if values.size
        },
        "convergence": {
            str(policy): {
                "scenarios": rows["scenarios"].tolist(),
                "mean": rows["mean_eur"].round(2).tolist(),
                "half": _numbers(NORMAL_95 * rows["se_eur"], 2),
            }
            for policy, rows in part.data.convergence.groupby("policy", sort=False)
        },
        "hours": part.data.slot_hours,
        "traces": _traces(part.data.traces),
    }


def _traces(traces: pd.DataFrame | None) -> dict[str, Any]:
    """By policy and series, (T,) of every level; nothing where no series were kept."""
    if traces is None or traces.empty:
        return {}
    found: dict[str, Any] = {}
    for policy, rows in traces.groupby("policy", sort=False):
        parts = {name: digits for name, digits in TRACES.items() if name in rows}
        found[str(policy)] = {
            name: [
                _numbers(level, digits)
                for _, level in rows.groupby("slot")[name].quantile(list(LEVELS)).unstack().items()
            ]
            for name, digits in parts.items()
        }
    return found


def _numbers(values: pd.Series, digits: int) -> list[float | None]:
    return [round(x, digits) if np.isfinite(x) else None for x in values.astype(float)]


def study_view(name: str, part: StudyPart) -> dict[str, Any]:
    """What the template fills in for one study."""
    headline = part.headline
    costs = study_tables.UNDONE if study_tables.undone(headline) else study_tables.COST
    return {
        "kind": "study",
        "name": name,
        "case": part.data.title,
        "favourite": favourite(headline),
        "policies": {policy: words_of(policy) for policy in headline},
        "facts": list(part.facts),
        "notes": study_tables.study_notes(headline),
        "legend": study_tables.study_legend(headline),
        "summary": table("Every policy over the scenarios", headline, (*costs, *study_tables.WORTH)),
        "settings": list(part.settings),
        "has_traces": part.data.traces is not None and not part.data.traces.empty,
    }
