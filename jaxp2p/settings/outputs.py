"""Settings of what a command leaves behind, which several commands share."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from jaxp2p.settings.fields import setting

FORMATS = ("parquet", "csv")


@dataclass(frozen=True, kw_only=True)
class Report:
    """What is said of the result, besides its files."""

    TABLE: ClassVar = "results"

    json: str | None = setting(
        None,
        "Write a short summary as JSON into a folder that is there; - for standard output.",
        unit="FILE",
        files=True,
    )
    pictures: bool = setting(True, "Draw pictures.")
    quiet: bool = setting(False, "No progress and no table.", spelling=("--quiet", "-q"))


@dataclass(frozen=True, kw_only=True)
class Controlled:
    """A policy from a file."""

    TABLE: ClassVar = "policies"

    controller: Path | None = setting(
        None, "A tuned controller (`jaxp2p tune`), run beside the policies.", unit="FILE"
    )


@dataclass(frozen=True, kw_only=True)
class Format:
    """Format of the tables of results."""

    TABLE: ClassVar = "results"

    format: str = setting("parquet", "Format of the tables: parquet or csv.", unit="NAME", choices=FORMATS)


@dataclass(frozen=True, kw_only=True)
class Folder:
    """Where results go."""

    TABLE: ClassVar = "results"

    out: Path | None = setting(
        None,
        "Folder for the results. Older ones made from the same input with the same options are "
        "replaced, anything else is left alone.",
        unit="DIR",
        otherwise="jaxp2p-results/INPUT-DATE-MARKET-DAYS, with a number where that holds other results",
    )
    replace: bool = setting(False, "Replace older results in --out whatever they were made from.")
