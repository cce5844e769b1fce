"""What `jaxp2p hosting`, `modes` and `fairness` share: names of a list, files, printed page, exit code."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from jaxp2p.cli.console import OK, UNSOLVED, echo_json
from jaxp2p.cli.running import UNSOLVED_SHARE
from jaxp2p.settings.fields import one_of


def chosen_names(text: str, known: Sequence[str], *, option: str) -> tuple[str, ...]:
    """Those of a text with commas, in the usual order; "all" for every one, none for an empty text."""
    asked = [name.strip().replace("-", "_") for name in text.split(",") if name.strip()]
    chosen = known if asked == ["all"] else {one_of(name, known, option=option) for name in asked}
    return tuple(name for name in known if name in chosen)


def save(
    out: Path,
    options: Any,
    record: dict[str, Any],
    *,
    write: Callable[[Path], Any],
    report: Callable[[], Mapping[str, Any]],
    config: Callable[[Path], Any] | None = None,
) -> None:
    """The folder of results, made as `record` says, and the short summary where it is asked for.

    config writes the settings that they are made with, where there is such a file.
    """
    from jaxp2p.report.folders import results_folder

    with results_folder(out, None if options.replace else record) as folder:
        write(folder)
        if config is not None:
            config(folder)
    give_json(options, report)


def give_json(options: Any, report: Callable[[], Mapping[str, Any]]) -> None:
    """The short summary where it is asked for."""
    from jaxp2p.report.files import json_text, write_json

    if options.json == "-":
        echo_json(json_text(report()))
    elif options.json is not None:
        write_json(options.json, report())


def show(out: Path, options: Any, title: str, text: str, picture: str) -> None:
    """What is printed at the end."""
    from jaxp2p.report.folders import PICTURES

    typer.echo(f"{title}\n\n{text}\n")
    drawn = f" and {PICTURES}/{picture}.png" if options.pictures else ""
    typer.echo(f"written to {out}: tables, summary.json{drawn}")


def verdict(shares: Mapping[str, float], *, when: str = "") -> int:
    """The exit code, its reason on stderr; shares of slots without a certified answer, by name."""
    code = OK
    for name, share in shares.items():
        if share > UNSOLVED_SHARE:
            typer.echo(
                f"warning: {name}: {when}{100 * share:.1f} % of the slots were not solved to the tolerance; "
                f"more than {100 * UNSOLVED_SHARE:g} % gives exit code {UNSOLVED}",
                err=True,
            )
            code = UNSOLVED
    return code
