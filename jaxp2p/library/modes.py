"""What limits of the grid do to a case: `modes`, and what it gives back."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from jaxp2p.control.policy import AnyPolicy
from jaxp2p.data import Tables
from jaxp2p.library.case import Case, build
from jaxp2p.model.trajectory import Trajectory
from jaxp2p.report.folders import results_folder
from jaxp2p.report.layout import bus_coordinates
from jaxp2p.report.modes import (
    Compared,
    mode_table,
    modes_report,
    modes_text,
    picture_of,
    slot_table,
    write_modes,
)
from jaxp2p.runs import modes as runs
from jaxp2p.runs.runner import Progress
from jaxp2p.settings.modes import Modes
from jaxp2p.slot.solvers import Solver

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def modes(
    case: Case | Tables | str | Path,
    *,
    policy: str | AnyPolicy = Modes.policy,
    reactive: Sequence[str] | None = None,
    solver: str | Solver = "auto",
    progress: Progress | None = None,
) -> "ModesResult":
    """One policy over the days of a case with limits left out of the market, kept linear, and kept in AC.

    case: anything else is built first, with the defaults of `build`; whether its network is in the market
    makes no difference. policy: a name, or anybody's own. reactive: rules of `build` that a secure market is
    run with as well, by default that of the case, if it has one; the three modes themselves have none.
    progress(mode, done, total) hears of slots. Raises ValueError as `runs.modes.modes` and `build`.
    """
    case = case if isinstance(case, Case) else build(case)
    found = runs.modes(
        case.community,
        case.horizon,
        inverters=case.inverters,
        policy=policy,
        reactive=reactive,
        solver=solver,
        slot_of_week=case.slot_of_week,
        progress=progress,
    )
    compared = Compared(
        community=case.community,
        horizon=case.horizon,
        time=case.time,
        modes=found,
        case=case.name,
        coordinates=bus_coordinates(case.tables, case.community),
    )
    return ModesResult(case=case, compared=compared)


@dataclass(frozen=True, kw_only=True, eq=False)
class ModesResult:
    """One policy in several modes: tables, a picture, files."""

    case: Case
    compared: Compared

    def table(self) -> pd.DataFrame:
        """One row per mode, indexed by its name: cost, losses, what was curtailed, the grid in AC, rounds."""
        return mode_table(self.compared).set_index("mode")

    def slots(self) -> pd.DataFrame:
        """One row per mode and slot."""
        return slot_table(self.compared)

    def trajectory(self, mode: str) -> Trajectory:
        """What every member did in every slot; ValueError for an unknown mode."""
        found = {made.way.name: made.run.trajectories[self.compared.policy] for made in self.compared.modes}
        if mode not in found:
            raise ValueError(f"unknown mode {mode!r}: there are {', '.join(found)}")
        return found[mode]

    def report(self) -> dict[str, Any]:
        """The short, stable summary that `jaxp2p modes --json` writes."""
        return modes_report(self.compared)

    def plot(self) -> "Figure":
        """The feeder in every mode at the worst slot of all; voltages and loading over time."""
        return picture_of(self.compared)

    def save(self, path: str | os.PathLike[str], *, replace: bool = False) -> Path:
        """Write tables (CSV), summary and picture into a folder that is complete or not there.

        Other results in the folder raise FileExistsError unless `replace`.
        """
        names = [made.way.name for made in self.compared.modes]
        record = {
            "input": self.case.name,
            "policy": self.compared.policy,
            "modes": ",".join(names),
            "what": "modes",
        }
        with results_folder(path, None if replace else record) as folder:
            write_modes(folder, self.compared, made_from=record)
        return Path(path)

    def __str__(self) -> str:
        return f"{self.case!r}\n\n{modes_text(self.compared)}"
