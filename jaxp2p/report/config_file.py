"""The file of settings beside results, by which the same command makes them again."""

import os
from pathlib import Path
from typing import Any

from jaxp2p import __version__
from jaxp2p.data.digests import digests, input_files
from jaxp2p.report.files import whole_file
from jaxp2p.report.folders import CONFIG_FILE
from jaxp2p.settings.commands import Configurable
from jaxp2p.settings.reading import Made
from jaxp2p.settings.source import CASE_NAMES
from jaxp2p.settings.toml import resolved_file

# where results go, what becomes of older ones, what is said meanwhile: no part of what they are
PASSING = ("out", "replace", "resume", "json", "quiet", "scheduler")


def write_config(place: Path, command: Configurable, *chosen: Any) -> None:
    """Write `resolved`, with its arguments, into a folder of results, or as the file that is named."""
    with whole_file(place / CONFIG_FILE if place.is_dir() else place) as stream:
        stream.write(resolved(command, *chosen).encode())


def resolved(command: Configurable, *chosen: Any) -> str:
    """The text of the file: every setting that decides results, the version, the digests of input files.

    chosen are the dataclasses that have the settings; what they share the last one says.
    """
    values: dict[str, Any] = {}
    for group in chosen:
        values |= vars(group)
    made = Made(version=__version__, inputs=digests(input_files(values)))
    kept = {name: _absolute(name, value) for name, value in values.items() if name not in PASSING}
    return resolved_file(command, kept, made)


def _absolute(name: str, value: Any) -> Any:
    """A file by its whole path: results may be moved."""
    if name == "name":
        return value if value in CASE_NAMES else os.path.abspath(value)
    return Path(os.path.abspath(value)) if isinstance(value, Path) else value
