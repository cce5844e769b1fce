"""Where results go: names after what was run, and every place looked at before the work."""

import errno
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxp2p.cli.console import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from jaxp2p.cli.source import Source

RESULTS, STUDIES = "jaxp2p-results", "jaxp2p-studies"
# options that change nothing about the numbers: results that differ in them only may take each other's place
SILENT = ("out", "replace", "format", "homes_tables", "json", "pictures", "quiet", "cache")


def case_name(source: "Source") -> str:
    """What the input is called: the case, or the folder's own name (never a name from its files)."""
    name = source.name if source.embedded else Path(os.path.abspath(source.name)).name or "folder"
    # bytes of a file name that are no text are spelt out
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def target_name(source: "Source", first: "pd.Timestamp", market: str, days: float) -> str:
    """The folder of a run or a study: INPUT-DATE-MARKET-DAYS, safe as the name of a single folder."""
    name = re.sub(r"[^\w.-]+", "_", case_name(source)).strip("._-") or "folder"
    moment = f"{first:%Y-%m-%d}" + (f"T{first:%H%M}" if first != first.normalize() else "")
    return f"{name}-{moment}-{market}-{days:g}d"


def beside(source: str, what: str) -> Path:
    """Where results go that are made from a folder or file."""
    place = Path(os.path.abspath(source))
    name = re.sub(r"[^\w.-]+", "_", place.stem if place.is_file() else place.name).strip("._-") or "folder"
    return Path(RESULTS) / f"{name}-{what}"


def made_from(source: "Source", options: Any) -> dict[str, Any]:
    """What decides the numbers of a run: the input (a folder by its place) and the options that matter."""
    settings = dict(vars(source)) | {k: v for k, v in vars(options).items() if k not in SILENT}
    place = source.name if source.embedded else os.path.abspath(source.name)
    if settings.get("controller") is not None:
        settings["controller"] = os.path.abspath(settings["controller"])
    plain = {k: v if isinstance(v, bool | int | float | str | None) else str(v) for k, v in settings.items()}
    return {"input": place} | {name: value for name, value in plain.items() if name != "name"}


def free_folder(wanted: Path, record: Mapping[str, Any]) -> tuple[Path, str | None]:
    """`wanted`, or the first of `wanted`-2, -3, ... that holds no results made from something else.

    Also a remark where it is not the first. Raises as `folders.check_target` for anything that is no result.
    """
    from jaxp2p.report.folders import check_target, differences

    for number in range(1, 1000):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        if not differences(folder, record):
            check_target(folder)
            remark = f"{wanted} holds results made from something else: these go to {folder}"
            return folder, None if number == 1 else remark
    raise UsageError(f"--out: name a folder, there are a thousand results beside {wanted} already")


def check_json(path: str | None) -> None:
    """Refuse, before the work, a --json FILE that could not be written; "-" is standard output."""
    if path is not None and path != "-":
        check_file(Path(path), option="--json")


def check_file(file: Path, *, option: str) -> None:
    """Refuse a file whose folder is not there, or that could not be written.

    Raises UsageError for a wrong name, OSError where the system does not let us write.
    """
    if file.is_dir():
        raise UsageError(f"{option}: {file} is a folder")
    if not file.parent.is_dir():
        raise UsageError(f"{option}: there is no folder {file.parent}")
    check_writable(file.parent, option=option)


def check_folder(folder: Path, *, option: str) -> None:
    """Refuse a folder that could not be made, or written into where it is there already. Raises OSError."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise UsageError(f"{option}: {place} is not a folder")
    check_writable(place, option=option)
    if folder.is_dir():  # results are moved into place as a whole
        check_writable(folder.absolute().parent, option=option)


def check_writable(folder: Path, *, option: str) -> None:
    """Write an empty file into the folder, and take it away again: what the system allows, it alone knows."""
    try:
        handle, name = tempfile.mkstemp(prefix=".jaxp2p-", dir=folder)
    except OSError as error:
        # the folder is there: some file systems say "not found" and mean "not allowed"
        kind = errno.EACCES if error.errno in (None, errno.ENOENT) else int(error.errno)
        raise OSError(
            kind, f"{option}: nothing can be written here ({os.strerror(kind)})", str(folder)
        ) from None
    os.close(handle)
    os.unlink(name)
