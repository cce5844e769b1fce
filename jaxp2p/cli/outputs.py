"""Settings of what `jaxp2p export` and `jaxp2p import` leave behind."""

from dataclasses import dataclass
from pathlib import Path

from jaxp2p.settings.fields import again, argument
from jaxp2p.settings.outputs import FORMATS, Format
from jaxp2p.settings.source import Window


@dataclass(frozen=True, kw_only=True)
class NewTables:
    """A folder of tables to be edited and run."""

    folder: Path | None = argument(None, "Folder to write; must be absent or empty.", "DIR")
    days: float | None = again(Window, "days", default=None, otherwise="the whole year")
    format: str = again(Format, "format", default="csv", help="csv or parquet.", choices=FORMATS[::-1])
