"""How much PV a case can carry: `hosting`, and what it gives back."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from jaxp2p.data import Tables
from jaxp2p.library.case import Case, build
from jaxp2p.report.folders import results_folder
from jaxp2p.report.hosting import (
    Hosted,
    capacity_table,
    hosting_picture,
    hosting_report,
    hosting_text,
    scale_table,
    write_hosting,
)
from jaxp2p.runs import hosting as runs
from jaxp2p.runs.runner import Progress
from jaxp2p.settings.hosting import Hosting
from jaxp2p.slot.solvers import Solver

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def hosting(
    case: Case | Tables | str | Path,
    *,
    ways: Sequence[str] | None = None,
    curtail: float = Hosting.curtail,
    max_scale: float = Hosting.max_scale,
    precision: float = Hosting.precision,
    solver: str | Solver = "auto",
    progress: Progress | None = None,
) -> "HostingResult":
    """The largest factor on all PV at which no slot violates the network in AC, by ways of operating.

    case: anything else is built first, with the defaults of `build`. ways: names out of
    `jaxp2p.control.ways`, by default all. A factor passes when no voltage is more than 1e-4 p.u. and no
    loading more than 0.1 % beyond its limit, and at most the share `curtail` of the available PV energy is
    curtailed. max_scale: largest factor that is tried; precision: of the factor, as a share of it, below 1 as
    it is. progress(way, done, total) hears of slots. Whether the case has its network in the market makes no
    difference. Raises ValueError as `runs.hosting.hosting` and `build`.
    """
    case = case if isinstance(case, Case) else build(case)
    found = runs.hosting(
        case.community,
        case.horizon,
        inverters=case.inverters,
        ways=ways,
        curtail=curtail,
        max_scale=max_scale,
        precision=precision,
        solver=solver,
        slot_of_week=case.slot_of_week,
        progress=progress,
    )
    hosted = Hosted(
        community=case.community,
        horizon=case.horizon,
        time=case.time,
        capacities=found,
        settings=Hosting(curtail=curtail, max_scale=max_scale, precision=precision),
        case=case.name,
    )
    return HostingResult(case=case, hosted=hosted)


@dataclass(frozen=True, kw_only=True, eq=False)
class HostingResult:
    """Hosting capacities of a case: tables, a picture, files."""

    case: Case
    hosted: Hosted

    @property
    def capacities(self) -> tuple[runs.Capacity, ...]:
        """One per way, in order, with all the factors that were tried."""
        return tuple(self.hosted.capacities)

    def table(self) -> pd.DataFrame:
        """One row per way, indexed by its name: factor, kW, share of the load, what ends it and when.

        verdict "at_least": nothing that was tried fails; "none": the limits do not hold even without PV.
        """
        return capacity_table(self.hosted).set_index("way")

    def scales(self) -> pd.DataFrame:
        """One row per way and factor that was tried: voltages, loading, what was curtailed and violated."""
        return scale_table(self.hosted)

    def report(self) -> dict[str, Any]:
        """The short, stable summary that `jaxp2p hosting --json` writes."""
        return hosting_report(self.hosted)

    def plot(self) -> "Figure":
        """Capacities as bars; voltage, loading and what is curtailed over the factor."""
        return hosting_picture(self.hosted)

    def save(self, path: str | os.PathLike[str], *, replace: bool = False) -> Path:
        """Write tables (CSV), summary and picture into a folder that is complete or not there.

        Other results in the folder raise FileExistsError unless `replace`.
        """
        record = {"input": self.case.name, **vars(self.hosted.settings), "what": "hosting"}
        with results_folder(path, None if replace else record) as folder:
            write_hosting(folder, self.hosted, made_from=record)
        return Path(path)

    def __str__(self) -> str:
        return f"{self.case!r}\n\n{hosting_text(self.hosted)}"
