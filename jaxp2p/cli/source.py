"""Tables of the chosen source, with its faults as the user's."""

from typing import TYPE_CHECKING

import typer

from jaxp2p.cli.console import UsageError, user_input
from jaxp2p.settings.source import CASE_NAMES, Source

if TYPE_CHECKING:
    from jaxp2p.data import Tables

__all__ = ["CASE_NAMES", "Source", "choose_days", "load", "load_whole", "require_days", "say_remarks"]


def load(source: Source) -> "Tables":
    """The checked tables of the chosen days; `days` None keeps all of them.

    Raises:
        UsageError: unknown case, unreadable or faulty folder, options that do not fit.
    """
    return choose_days(load_whole(source), source)


def load_whole(source: Source) -> "Tables":
    """The checked tables with all the days that there are; raises as `load` does."""
    from jaxp2p.data import loading

    with user_input():
        return loading.load_whole(source)


def choose_days(tables: "Tables", source: Source) -> "Tables":
    """The days of the window out of `load_whole`; raises UsageError where they are not inside the data."""
    from jaxp2p.data import loading

    with user_input():
        return loading.choose_days(tables, source)


def require_days(source: Source) -> None:
    """Refuse a first day of no window: without days all of them are meant."""
    if source.start is not None and source.days is None and not (source.until or source.duration):
        raise UsageError("--start needs --days")


def say_remarks(tables: "Tables", *, quiet: bool = False) -> None:
    """What is remarkable about the input, though no fault, on stderr."""
    for remark in () if quiet else tables.remarks:
        typer.echo(f"remark: {remark}", err=True)
