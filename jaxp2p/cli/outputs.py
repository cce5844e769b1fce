"""Settings of what a command leaves behind, which several commands share."""

from dataclasses import dataclass
from pathlib import Path

from jaxp2p.settings.fields import again, argument, setting
from jaxp2p.settings.source import Window

FORMATS = ("parquet", "csv")


@dataclass(frozen=True, kw_only=True)
class Report:
    """What is said of the result, besides its files."""

    json: str | None = setting(
        None, "Write a short summary as JSON into a folder that is there; - for standard output.", unit="FILE"
    )
    pictures: bool = setting(True, "Draw pictures.")
    quiet: bool = setting(False, "No progress and no table.", spelling=("--quiet", "-q"))


@dataclass(frozen=True, kw_only=True)
class Controlled:
    """A policy from a file."""

    controller: Path | None = setting(
        None, "A tuned controller (`jaxp2p tune`), run beside the policies.", unit="FILE"
    )


@dataclass(frozen=True, kw_only=True)
class Format:
    """Format of the tables of results."""

    format: str = setting("parquet", "Format of the tables: parquet or csv.", unit="NAME", choices=FORMATS)


@dataclass(frozen=True, kw_only=True)
class NewTables:
    """A folder of tables to be edited and run."""

    folder: Path | None = argument(None, "Folder to write; must be absent or empty.", "DIR")
    days: float | None = again(Window, "days", default=None, otherwise="the whole year")
    format: str = again(Format, "format", default="csv", help="csv or parquet.", choices=FORMATS[::-1])
