"""The work behind `jaxp2p report`: one HTML file of runs and studies."""

from dataclasses import dataclass
from pathlib import Path

import typer

from jaxp2p.cli import places
from jaxp2p.cli.console import UsageError, user_input
from jaxp2p.report.html import LIMIT_MB
from jaxp2p.settings.fields import REQUIRED, argument, setting

PAGE = "report.html"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Everything `jaxp2p report` can be told."""

    folders: tuple[str, ...] = argument(
        REQUIRED, "Folders of `jaxp2p run` and `jaxp2p study`.", "RUN|STUDY ...", repeated=True
    )
    out: Path | None = setting(
        None, "The file to write.", unit="FILE", otherwise=f"{PAGE} in the first folder"
    )
    limit: float = setting(
        LIMIT_MB,
        "Largest file, in 10^6 bytes: series of members, buses and branches are merged over as many slots as "
        "it takes.",
        unit="MB",
        least=0.2,
    )


def report(options: Options) -> None:
    """Read the folders, write the file, say how large it is."""
    out = Path(options.folders[0]) / PAGE if options.out is None else options.out
    if options.out is not None:
        places.check_file(out, option="--out")
    from jaxp2p.studies.errors import StudyError
    from jaxp2p.studies.page import write_page

    try:
        with user_input():
            file = write_page(out, options.folders, limit_mb=options.limit)
    except StudyError as error:
        raise UsageError(str(error)) from error
    size = file.stat().st_size / 1e6
    typer.echo(f"written to {file} ({size:.2f} MB): open it in a browser")
    if size > options.limit:
        typer.echo(f"remark: tables and names alone take more than {options.limit:g} MB", err=True)
