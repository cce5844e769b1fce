"""Digests of the files that results were made from, so that a later run can say what has changed."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxp2p import __version__
from jaxp2p.data.schema import SCHEMA
from jaxp2p.data.tables import META_FILE, SUFFIXES
from jaxp2p.settings.reading import Configuration
from jaxp2p.settings.source import CASE_NAMES


def digests(places: Mapping[str, Path]) -> dict[str, str]:
    """sha256 of files, by their names; of a folder of tables those of its tables, by theirs.

    What is not there has none.
    """
    found: dict[str, str] = {}
    for name, place in places.items():
        if place.is_dir():
            files = [place / f"{table}{suffix}" for table in SCHEMA for suffix in SUFFIXES]
            found |= {file.name: _sha256(file) for file in (*files, place / META_FILE) if file.is_file()}
        elif place.is_file():
            found[name] = _sha256(place)
    return found


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What is another file, gone or new, a line each."""
    lines = [f"{name} has changed" for name in before if name in now and before[name] != now[name]]
    lines += [f"{name} is gone" for name in before if name not in now]
    return lines + [f"{name} is new" for name in now if name not in before]


def input_files(values: Mapping[str, Any]) -> dict[str, Path]:
    """The files and folders that settings by name take numbers from, by what they are called."""
    folder = {} if values["name"] in CASE_NAMES else {"tables": Path(values["name"])}
    controller = values.get("controller")
    return folder if controller is None else folder | {"controller": Path(controller)}


def remarks(found: Configuration, values: Mapping[str, Any]) -> list[str]:
    """In what version and input are not those that a file beside results was written with."""
    made, lines = found.made, []
    if made.version is not None and made.version != __version__:
        lines.append(
            f"{found.path} was made by jaxp2p {made.version}, this is {__version__}: numbers may differ"
        )
    if made.inputs:
        changed = changes(made.inputs, digests(input_files(values)))
        lines += [f"{found.path} was made from another input: {line}" for line in changed]
    return lines


def _sha256(file: Path) -> str:
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
