"""Folders of results: complete or not there at all, and never in the place of something else.

A folder is ours where its summary says so; it is replaced by results that were made from the same only.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxp2p.data.places import move_into_place, umask
from jaxp2p.report.files import plain_json

SUMMARY_FILE = "summary.json"
CONFIG_FILE = "config.toml"  # the settings that `jaxp2p run` and others make the results again with
PICTURES = "pictures"  # folder beside the tables
PAGE = "report.html"  # made of them later, and gone with them
MARK = "jaxp2p-results"  # value of "kind" in the summary: a folder that may be replaced


def check_target(path: str | os.PathLike[str], made_from: Mapping[str, Any] | None = None) -> Path:
    """The folder, if results may go there: it is absent, empty, or holds older results.

    With `made_from`, what the new results are made from, older ones must have been made from the same.

    Raises:
        FileExistsError: something else is there that must not be lost.
    """
    target = Path(path)
    if made_from is not None and (lines := differences(target, made_from)):
        raise FileExistsError(
            f"the folder {target} holds results made from something else; choose another folder, or have "
            "them replaced (--replace):\n  " + "\n  ".join(lines)
        )
    if target.exists() and not target.is_dir():
        raise FileExistsError(f"{target} exists and is not a folder")
    foreign = _foreign(target) if target.is_dir() else []
    if foreign:
        shown = ", ".join(foreign[:5]) + (", ..." if len(foreign) > 5 else "")
        raise FileExistsError(f"the folder {target} holds something else than results of jaxp2p: {shown}")
    return target


def differences(path: str | os.PathLike[str], made_from: Mapping[str, Any]) -> list[str]:
    """In what the results in the folder were made from something else, a line each; empty without results."""
    summary = summary_in(Path(path))
    if summary is None:
        return []
    old, new = summary.get("made_from"), plain_json(made_from)
    if not isinstance(old, dict):
        return ["they do not say what they were made from"]
    changed = [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]
    return [f"{name}: {old.get(name)}, now {new.get(name)}" for name in changed]


@contextmanager
def results_folder(
    path: str | os.PathLike[str], made_from: Mapping[str, Any] | None = None
) -> Iterator[Path]:
    """A fresh folder to write into, moved to `path` when the block ends well, removed when it fails.

    Older results at `path` stay until then. Raises FileExistsError as `check_target` does.
    """
    target = check_target(path, made_from)
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        fresh.chmod(0o777 & ~umask())
        yield fresh
        check_target(target, made_from)
        move_into_place(fresh, target)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def summary_in(folder: Path) -> dict[str, Any] | None:
    """The summary of a results folder, None for any other folder."""
    try:
        content = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and content.get("kind") == MARK else None


def _foreign(folder: Path) -> list[str]:
    """Names in the folder that no results of ours would have there."""
    present = sorted(entry.name for entry in folder.iterdir())
    summary = summary_in(folder)
    if summary is None:
        return present
    own = {f"{name}.{summary['format']}" for name in summary["tables"]}
    own |= {SUMMARY_FILE, CONFIG_FILE, PICTURES, PAGE, *summary.get("files", ())}
    return [name for name in present if name not in own]
