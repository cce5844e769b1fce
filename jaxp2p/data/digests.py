"""Digests of the files that a community was read from, so that a later run can say what has changed."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from jaxp2p.data.schema import SCHEMA
from jaxp2p.data.tables import META_FILE, SUFFIXES


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


def _sha256(file: Path) -> str:
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
