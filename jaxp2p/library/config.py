"""A file of settings in Python: what `jaxp2p run FILE.toml` does, from the same dataclasses."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jaxp2p.control.catalogue import MPC_POLICIES, named, usual
from jaxp2p.data import loading
from jaxp2p.data.digests import remarks
from jaxp2p.library.case import Case
from jaxp2p.library.run import Result, run
from jaxp2p.library.tuning import load_controller
from jaxp2p.model.chosen import build_both
from jaxp2p.report.config_file import resolved
from jaxp2p.runs.runner import Progress
from jaxp2p.settings.commands import RUN, RunOptions
from jaxp2p.settings.fields import pick
from jaxp2p.settings.model import Grid, Numbers, Trading
from jaxp2p.settings.options import filled
from jaxp2p.settings.reading import read_configuration, settings_by
from jaxp2p.settings.source import Source
from jaxp2p.slot.solvers import choose_solver, scale_tolerances


def read_config(path: str | os.PathLike[str], *, command: str | None = None, **changes: Any) -> "Config":
    """The settings of a TOML file that `jaxp2p init` wrote, or that lies beside results.

    command: whose settings they are, by default as the file says, else "run". changes: settings by the names
    of their fields, which win over the file. Raises ValueError naming every fault of the file with its line,
    and for a change that is no setting; OSError where it cannot be read.
    """
    found = read_configuration(Path(path), command=command)
    known = {option.name for option in found.command.settings()}
    if unknown := [name for name in changes if name not in known]:
        raise ValueError(f"no setting of `jaxp2p {found.command.name}` is called {', '.join(unknown)}")
    values = settings_by(found, changes)
    return Config(
        path=found.path,
        command=found.command.name,
        source=filled(Source, values),
        options=filled(found.command.options, values),
        remarks=tuple(remarks(found, values)),
    )


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of a command: where the community comes from, and everything else it can be told."""

    path: Path
    command: str
    source: Source
    options: Any  # RunOptions, or those of another command: frozen dataclasses, fields named as in the help
    remarks: tuple[str, ...]  # in what version or input differ from those that the file was written with

    def build(self) -> Case:
        """The case that the command works on. Raises ValueError as the command refuses."""
        whole = loading.load_whole(self.source)
        tables = loading.choose_days(whole, self.source)
        community, horizon = build_both(tables, self._model, seed=self.source.seed)
        name = str(whole.meta.get("name", "community"))
        return Case(name=name, tables=tables, whole=whole, community=community, horizon=horizon)

    @property
    def _model(self) -> "_Model":
        """What a community is built from; where a command sets limits of the grid itself, the usual ones."""
        options = self.options
        grid = pick(Grid, options) if isinstance(options, Grid) else {}
        return _Model(**pick(Numbers, options), **pick(Trading, options), **grid)

    def run(self, *, progress: Progress | None = None) -> Result:
        """What `jaxp2p run` does, without its files; a saved result has its settings beside it.

        Raises ValueError for settings of another command, and what `build` and `jaxp2p.run` refuse.
        """
        options = self.options
        if not isinstance(options, RunOptions):
            raise ValueError(f"{self.path} has settings of `jaxp2p {self.command}`, not of `jaxp2p run`")
        case = self.build()
        stays = case.tables.ev_sessions
        known = usual(vehicles=stays is not None and not stays.empty)
        solver = scale_tolerances(choose_solver(case.community, options.solver), options.tolerance)
        result = run(
            case,
            policies=named(options.policies, known, besides=tuple(MPC_POLICIES)),
            solver=solver,
            controller=None if options.controller is None else load_controller(options.controller, case),
            end_value=options.end_value,
            unserved_price=options.unserved_price,
            foresight=options.foresight,
            progress=progress,
        )
        return replace(result, config=resolved(RUN, self.source, options))


@dataclass(frozen=True, kw_only=True)
class _Model(Numbers, Grid, Trading):
    """What a community is built from."""
