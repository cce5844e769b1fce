"""Why a member's devices did what they did in a slot: `explain`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from jaxp2p.control.catalogue import favourite
from jaxp2p.library.run import Result, results_of
from jaxp2p.report.explain import Explained, explain_picture, explain_report, explain_results, explain_text
from jaxp2p.report.results import Results
from jaxp2p.settings.fields import one_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def explain(
    run: Result | Results | str | Path, *, member: str, at: str | pd.Timestamp, policy: str | None = None
) -> "Explanation":
    """What a member's devices did at a time, and why.

    run: a `Result`, or the results of one with its homes (`Result.save(homes=True)`, `jaxp2p run
    --per-home`). at: a time within a slot, by the clock of the tables. policy: by default tuned, lyapunov or
    the first that was run. Raises ValueError for what is not in the run.
    """
    results = results_of(run)
    known = list(results.kpis.index)
    chosen = favourite(known) if policy is None else one_of(policy, known, option="--policy")
    return Explanation(found=explain_results(results, member=member, at=str(at), policy=chosen))


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """One slot of one member: numbers, sentences and a picture of its day."""

    found: Explained

    def __str__(self) -> str:
        return explain_text(self.found)

    def report(self) -> dict[str, Any]:
        """The numbers of the slot, the limits in use and the sentences."""
        return explain_report(self.found)

    def plot(self) -> "Figure":
        """The day: local price against the prices of the battery, and what the devices did."""
        return explain_picture(self.found)
