"""Files and folders that take their place in one step: written elsewhere, then renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path


def move_into_place(fresh: Path, target: Path) -> None:
    """Rename a folder; an older one steps aside first and comes back if that fails."""
    if not target.exists():
        fresh.rename(target)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    target.rename(aside / "content")
    try:
        fresh.rename(target)
    except BaseException:
        (aside / "content").rename(target)
        aside.rmdir()
        raise
    shutil.rmtree(aside, ignore_errors=True)


def umask() -> int:
    """Permissions that new files of this process do not get, of which `tempfile` knows nothing."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
