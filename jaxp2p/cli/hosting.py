"""The work behind `jaxp2p hosting`: how much PV the grid carries, by ways of operating."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from jaxp2p.cli import places
from jaxp2p.cli.console import OK, UNSOLVED, RunProgress, UsageError, echo_json, user_input
from jaxp2p.cli.outputs import Report
from jaxp2p.cli.running import UNSOLVED_SHARE, check_tolerance, target_folder
from jaxp2p.cli.running import Options as RunOptions
from jaxp2p.cli.source import Source, load, say_remarks
from jaxp2p.settings.fields import again, one_of, pick, setting
from jaxp2p.settings.hosting import Hosting
from jaxp2p.settings.model import Grid, Numbers, SlotSolver, Trading


@dataclass(frozen=True, kw_only=True)
class Options(Report, Numbers, SlotSolver, Trading, Hosting):
    """Everything `jaxp2p hosting` can be told besides the source."""

    ways: str = setting("all", "Ways of operating; their names are above.", unit="NAME,NAME,...")
    out: Path | None = again(
        RunOptions,
        "out",
        otherwise="jaxp2p-results/INPUT-DATE-MARKET-DAYS-hosting, with a number where that holds others",
    )
    replace: bool = again(RunOptions, "replace")


def hosting(source: Source, options: Options) -> int:
    """Do it all; returns the exit code."""
    places.check_json(options.json)
    if options.out is not None:
        places.check_folder(options.out, option="--out")
    check_tolerance(options.tolerance, options.dtype)
    with RunProgress((), 0, quiet=options.quiet) as progress:
        progress.say("reading the community")
        tables = load(source)
        from jaxp2p.data import check, local_time

        record = {"what": "hosting"} | places.made_from(source, options)
        out, moved = target_folder(source, options, local_time(tables), record, suffix="-hosting")
        from jaxp2p.model.build import inverters_of
        from jaxp2p.model.chosen import build_both, first_slot_of_week, use_dtype
        from jaxp2p.model.network import VDE_4105

        use_dtype(options.dtype)
        from jaxp2p.report.hosting import Hosted
        from jaxp2p.runs import hosting as runs

        names = _ways(options.ways, tuple(runs.BY_NAME))
        with user_input():
            community, horizon = build_both(tables, _Built(**pick(_Built, options)), seed=source.seed)
    say_remarks(tables, quiet=options.quiet)
    time = tables.profiles["time"]
    with RunProgress(names, 100, quiet=options.quiet) as progress, user_input():
        found = runs.hosting(
            community,
            horizon,
            inverters=inverters_of(check(tables), "volt_var", VDE_4105, options.dtype),
            ways=names,
            **pick(Hosting, options),
            solver=options.solver,
            tolerance=options.tolerance,
            slot_of_week=first_slot_of_week(time),
            progress=lambda way, done, total: progress(way, 100 * done // total, 100),
        )
    hosted = Hosted(
        community=community,
        horizon=horizon,
        time=time,
        capacities=found,
        settings=Hosting(**pick(Hosting, options)),
        case=places.case_name(source),
    )
    _save(out, options, hosted, record)
    if not options.quiet and options.json != "-":
        _print(out, options, hosted)
    if moved:
        typer.echo(moved, err=True)
    return _verdict(runs.unsolved_share(found, horizon.slots))


@dataclass(frozen=True, kw_only=True)
class _Built(Numbers, Grid, Trading):
    """What a community is built from; the ways of operating say what becomes of its limits."""


def _ways(text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """Names in the usual order; "all" for every one."""
    asked = [name.strip().replace("-", "_") for name in text.split(",") if name.strip()]
    if not asked:
        raise UsageError("--ways: name at least one way of operating")
    chosen = known if asked == ["all"] else {one_of(name, known, option="--ways") for name in asked}
    return tuple(name for name in known if name in chosen)


def _save(out: Path, options: Options, hosted: Any, record: dict[str, Any]) -> None:
    from jaxp2p.report.hosting import hosting_report, write_hosting
    from jaxp2p.report.results import json_text, results_folder, write_json

    with results_folder(out, None if options.replace else record) as folder:
        write_hosting(folder, hosted, made_from=record, pictures=options.pictures)
    if options.json == "-":
        echo_json(json_text(hosting_report(hosted)))
    elif options.json is not None:
        write_json(options.json, hosting_report(hosted))


def _print(out: Path, options: Options, hosted: Any) -> None:
    from jaxp2p.report.hosting import PICTURE, hosting_text
    from jaxp2p.report.results import PICTURES

    typer.echo(f"{hosted.title}, {hosted.community.size} members\n\n{hosting_text(hosted)}\n")
    picture = f" and {PICTURES}/{PICTURE}.png" if options.pictures else ""
    typer.echo(f"written to {out}: tables, summary.json{picture}")


def _verdict(shares: Any) -> int:
    """The exit code, its reason on stderr."""
    code = OK
    for name, share in shares.items():
        if share > UNSOLVED_SHARE:
            typer.echo(
                f"warning: {name}: with some factor {100 * share:.1f} % of the slots were not solved to the "
                f"tolerance; more than {100 * UNSOLVED_SHARE:g} % gives exit code {UNSOLVED}",
                err=True,
            )
            code = UNSOLVED
    return code
