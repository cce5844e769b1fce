"""The work behind `jaxp2p share`: sharing keys on a run or on meter data, beside the market."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from jaxp2p.cli import places
from jaxp2p.cli.comparing import save, show
from jaxp2p.cli.console import OK, counted, user_input
from jaxp2p.settings.commands import RunOptions
from jaxp2p.settings.fields import REQUIRED, again, argument
from jaxp2p.settings.outputs import Format, Report
from jaxp2p.settings.sharing import Sharing
from jaxp2p.settings.source import Reading


@dataclass(frozen=True, kw_only=True)
class Options(Report, Format, Sharing):
    """Everything `jaxp2p share` can be told."""

    source: str = argument(
        REQUIRED, "Results of a run (`jaxp2p run --per-home`), or a file or folder of meter data.", "SOURCE"
    )
    time_zone: str | None = again(
        Reading,
        "time_zone",
        help="Zone whose clock tells the hour of the day, such as Europe/Vienna; times of meter data "
        "without a UTC offset are local times of it. In tables of results times are UTC.",
    )
    format: str = again(Format, "format", default="csv", help="Format of the tables that are written.")
    out: Path | None = again(
        RunOptions, "out", otherwise="jaxp2p-results/SOURCE-share, with a number where that holds others"
    )
    replace: bool = again(RunOptions, "replace")


def share(options: Options) -> int:
    """Do it all; returns the exit code."""
    places.check_json(options.json)
    if options.out is not None:
        places.check_folder(options.out, option="--out")
    record = _record(options)
    out, moved = _target(options, record)
    from jaxp2p.library.sharing import share as apply_keys
    from jaxp2p.report.sharing import PICTURE, sharing_text, write_sharing

    names = [name for name in options.key.split(",") if name.strip()]
    with user_input():
        result = apply_keys(
            options.source,
            keys=names or None,
            shares=options.shares,
            unused=options.unused,
            policy=options.policy,
            buy=options.buy,
            sell=options.sell,
            fee=options.fee,
            internal=options.internal,
            time_zone=options.time_zone,
        )
    save(
        out,
        options,
        record,
        write=lambda folder: write_sharing(
            folder, result.shared, made_from=record, pictures=options.pictures, format=options.format
        ),
        report=result.report,
    )
    if not options.quiet and options.json != "-":
        title = f"{result.shared.title}, {counted(len(result.shared.energy.members), 'member')}"
        show(out, options, title, sharing_text(result.shared), PICTURE)
    if moved:
        typer.echo(moved, err=True)
    return OK


def _record(options: Options) -> dict[str, Any]:
    """What decides the numbers: files by their place, and the options that matter."""
    record = {"what": "share"} | {k: v for k, v in vars(options).items() if k not in places.SILENT}
    for name in ("source", "shares"):
        if record[name] is not None:
            record[name] = os.path.abspath(record[name])
    return record


def _target(options: Options, record: dict[str, Any]) -> tuple[Path, str | None]:
    """The folder for the results, and a remark where it is not the usual one; refuses what must not be."""
    from jaxp2p.report.folders import check_target

    if options.out is not None:
        check_target(options.out, None if options.replace else record)
        return options.out, None
    out, moved = places.free_folder(places.beside(options.source, "share"), record)
    places.check_folder(out, option="--out")
    return out, moved
