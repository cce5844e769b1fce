"""Who gets what of a run's benefit: `fairness_of`, and what it gives back."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from jaxp2p.fairness.judgement import Judgement, Progress
from jaxp2p.library.run import Result, results_of
from jaxp2p.report.fairness import (
    Judged,
    fairness_report,
    fairness_text,
    judge_results,
    member_table,
    policy_table,
    split_table,
    write_fairness,
)
from jaxp2p.report.fairness_picture import fairness_picture
from jaxp2p.report.folders import results_folder
from jaxp2p.report.results import Results
from jaxp2p.settings.fairness import Fairness

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def fairness_of(
    run: Result | Results | str | os.PathLike[str],
    *,
    policy: str | None = None,
    against: str = Fairness.against,
    shapley: bool = Fairness.shapley,
    least_core: bool = Fairness.least_core,
    error: float = Fairness.error,
    permutations: int = Fairness.permutations,
    seed: int = Fairness.seed,
    progress: Progress | None = None,
) -> "FairnessResult":
    """How the policies of a run spread their benefit, and how that of one could be split otherwise.

    run: a `Result`, or the results of one with a row per slot and home (`Result.save(homes=True)`, `jaxp2p
    run --per-home`). policy: whose benefit is split, by default tuned, lyapunov or the first that was run.
    against: "alone", every member doing the same with the utility only, or a policy. Shapley values are exact
    up to 16 members, else sampled from orders drawn by `seed` until 95 % half-widths of all members together
    are the share `error` of the total benefit, or so many permutations were drawn. progress(what, done,
    total) hears of it. Raises ValueError for results that do not have what is needed, and settings that do
    not fit.
    """
    settings = Fairness(
        policy=policy,
        against=against,
        shapley=shapley,
        least_core=least_core,
        error=error,
        permutations=permutations,
        seed=seed,
    )
    results = results_of(run)
    found = judge_results(results, settings, progress=progress)
    return FairnessResult(settings=settings, judged=found)


@dataclass(frozen=True, kw_only=True, eq=False)
class FairnessResult:
    """A run judged: tables, a picture, files."""

    settings: Fairness
    judged: Judged

    @property
    def judgement(self) -> Judgement:
        """Arrays behind the tables: statements, splits, Shapley values, least core."""
        return self.judged.judgement

    def policies(self) -> pd.DataFrame:
        """One row per policy, indexed by its name: measures of the benefit against what was asked for."""
        return policy_table(self.judged).set_index("policy")

    def splits(self) -> pd.DataFrame:
        """One row per split of the policy's benefit, indexed by its name."""
        return split_table(self.judged).set_index("split")

    def members(self) -> pd.DataFrame:
        """One row per member: bills alone and under every split, Shapley value, transfers that sum to 0."""
        return member_table(self.judged)

    def report(self) -> dict[str, Any]:
        """The short, stable summary that `jaxp2p fairness --json` writes."""
        return fairness_report(self.judged)

    def plot(self) -> "Figure":
        """Benefits of the members under every split, and Lorenz curves."""
        return fairness_picture(self.judgement, self.judged.title)

    def save(self, path: str | os.PathLike[str], *, replace: bool = False) -> Path:
        """Write tables (CSV), summary and picture into a folder that is complete or not there.

        Other results in the folder raise FileExistsError unless `replace`.
        """
        record = {"what": "fairness", "input": self.judged.title} | vars(self.settings)
        with results_folder(path, None if replace else record) as folder:
            write_fairness(folder, self.judged, made_from=record)
        return Path(path)

    def __str__(self) -> str:
        return f"{self.judged.title}\n\n{fairness_text(self.judged)}"
