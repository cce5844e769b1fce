"""A lock file, so that two processes do not run one study at the same time.

Why not a library: locks of the operating system (`flock`: portalocker, filelock's `FileLock`) exclude
nobody on another machine where a network folder keeps them local (sshfs, NFS and Lustre by mount option) or
has none, and name no holder; filelock's `SoftFileLock`, a file with process and host as here, never takes
over one that was left empty by a kill, nor that of the same host name in another process namespace: a
restarted container.
"""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxp2p.studies.errors import StudyError

SETTLE_SECONDS = 0.5  # within which whoever makes the file has also written into it
_held: set[Path] = set()


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold the lock file while the block runs.

    The file names process and host. That of a process that has died on this host is taken over. Should two
    processes take it over in the same instant, both would run and write equal chunk files, each as a whole:
    the lock saves work, the tables are safe without it.

    Raises:
        StudyError: another process, or this one, works on the study.
    """
    file = file.resolve()
    _acquire(file)
    _held.add(file)
    try:
        yield
    finally:
        _held.discard(file)
        file.unlink(missing_ok=True)


def _acquire(file: Path) -> None:
    content = json.dumps({"pid": os.getpid(), "host": socket.gethostname()})
    for _ in range(2):
        try:
            handle = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            holder = _holder(file)
            if _alive(file, holder):
                break
            file.unlink(missing_ok=True)
        else:
            with os.fdopen(handle, "w", encoding="utf-8") as opened:
                opened.write(content)
            return
    holder = _holder(file)
    raise StudyError(
        f"process {holder.get('pid', '?')} on {holder.get('host', '?')} works on the study in {file.parent}; "
        f"wait for it, or, if it is certain that it does not run, delete {file} and run again"
    )


def _holder(file: Path) -> dict[str, Any]:
    """Process and host in the lock file; empty where its maker died before it had written them."""
    for wait in (SETTLE_SECONDS, 0):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            content = None
        if isinstance(content, dict):
            return content
        time.sleep(wait)
    return {}


def _alive(file: Path, holder: dict[str, Any]) -> bool:
    pid, host = holder.get("pid"), holder.get("host")
    if not isinstance(pid, int):
        return False
    if host != socket.gethostname():
        return True  # cannot be known from here
    if pid == os.getpid():
        return file in _held  # a restarted container gives the same number to the next process
    if os.name != "posix":
        return True  # os.kill would end the process there instead of asking for it
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
