"""The work behind `jaxp2p explain`: why a member's devices did what they did at a time."""

from dataclasses import dataclass
from pathlib import Path

import typer

from jaxp2p.cli import places
from jaxp2p.cli.comparing import give_json
from jaxp2p.cli.console import OK, user_input
from jaxp2p.settings.explain import Moment
from jaxp2p.settings.fields import REQUIRED, again, argument, setting
from jaxp2p.settings.outputs import Report


@dataclass(frozen=True, kw_only=True)
class Options(Moment):
    """Everything `jaxp2p explain` can be told."""

    folder: Path = argument(REQUIRED, "A folder that `jaxp2p run --per-home` made.", "RUN_FOLDER")
    picture: Path | None = setting(None, "Draw the member's day into this file.", unit="FILE.png")
    json: str | None = again(Report, "json")


def explain(options: Options) -> int:
    """Do it all; returns the exit code."""
    places.check_json(options.json)
    if options.picture is not None:
        places.check_file(options.picture, option="--picture")
    from jaxp2p.report.exchanged import policy_of
    from jaxp2p.report.explain import explain_picture, explain_report, explain_results, explain_text
    from jaxp2p.report.results import load_results

    with user_input():
        results = load_results(options.folder)
        policy = policy_of(list(results.kpis.index), options.policy)
        found = explain_results(results, member=options.member, at=options.at, policy=policy)
    if options.picture is not None:
        explain_picture(found).savefig(options.picture, dpi=120)
    give_json(options, lambda: explain_report(found))
    if options.json != "-":
        typer.echo(explain_text(found))
        if options.picture is not None:
            typer.echo(f"\nwritten to {options.picture}")
    return OK
