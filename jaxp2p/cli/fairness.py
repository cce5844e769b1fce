"""The work behind `jaxp2p fairness`: who gets what of the benefit of a run that is on disk."""

import os
from dataclasses import dataclass
from pathlib import Path

import typer

from jaxp2p.cli import places
from jaxp2p.cli.comparing import give_json, save, show
from jaxp2p.cli.console import OK, RunProgress, counted, user_input
from jaxp2p.settings.commands import RunOptions
from jaxp2p.settings.fairness import Fairness
from jaxp2p.settings.fields import REQUIRED, again, argument, pick
from jaxp2p.settings.outputs import Report


@dataclass(frozen=True, kw_only=True)
class Options(Report, Fairness):
    """Everything `jaxp2p fairness` can be told."""

    folder: Path = argument(REQUIRED, "Results of `jaxp2p run --per-home`.", "RUN_FOLDER")
    out: Path | None = again(
        RunOptions, "out", help="Folder for tables and picture.", otherwise="nothing is written"
    )
    replace: bool = again(RunOptions, "replace")


def fairness(options: Options) -> int:
    """Do it all; returns the exit code."""
    places.check_json(options.json)
    if options.out is not None:
        places.check_folder(options.out, option="--out")
    settings = Fairness(**pick(Fairness, options))
    record = {"what": "fairness", "input": os.path.abspath(options.folder)} | vars(settings)
    with RunProgress(("shapley", "least_core"), 100, quiet=options.quiet) as progress:
        progress.say("reading the run")
        from jaxp2p.report.fairness import (
            PICTURE,
            fairness_report,
            fairness_text,
            judge_results,
            write_fairness,
        )
        from jaxp2p.report.folders import check_target
        from jaxp2p.report.results import load_results

        if options.out is not None:
            check_target(options.out, None if options.replace else record)
        with user_input():
            results = load_results(options.folder)
            found = judge_results(
                results,
                settings,
                progress=lambda what, done, total: progress(what, 100 * done // total, 100),
            )
        if options.out is not None:
            progress.say("tables and picture")
            save(
                options.out,
                options,
                record,
                write=lambda folder: write_fairness(
                    folder, found, made_from=record, pictures=options.pictures
                ),
                report=lambda: fairness_report(found),
            )
    if options.out is None:
        give_json(options, lambda: fairness_report(found))
    if options.quiet or options.json == "-":
        return OK
    title = f"{found.title}, {counted(len(found.members), 'member')}"
    if options.out is not None:
        show(options.out, options, title, fairness_text(found), PICTURE)
    else:
        typer.echo(f"{title}\n\n{fairness_text(found)}")
    return OK
