"""Compiled programs are kept from run to run, in the cache folder of the user.

JAX can do so, and reads from the environment where: set before it is imported, it also holds in the worker
processes of a study. Whoever has told JAX another place (JAX_COMPILATION_CACHE_DIR) is obeyed. Programs of
another version of XLA or another processor lie in folders of their own: machine code of one is no good on the
other, and a home directory may be shared by many machines. A folder that cannot be written to, or a file that
is damaged, costs a compilation and nothing else.
"""

import hashlib
import os
import platform
import warnings
from importlib import metadata
from pathlib import Path

from jaxp2p._kept_in import LOWERED

MOST_BYTES = 2**30  # of all programs that are kept
NO_CACHE = "JAXP2P_NO_CACHE"
FOLDER = "JAX_COMPILATION_CACHE_DIR"


def keep_programs(*, keep: bool = True) -> Path | None:
    """Tell JAX where compiled programs are kept, and `_lowered` where lowered ones.

    Returns the folder, None where they are not kept by us.
    """
    if not keep:
        os.environ.pop(LOWERED, None)
    if not keep or os.environ.get(NO_CACHE) or os.environ.get(FOLDER):
        return None
    from platformdirs import user_cache_path

    root = user_cache_path("jaxp2p") / "programs"
    folder = root / _machine()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        prune(root)
    except OSError:
        return None  # read-only or full: as without a cache
    os.environ[FOLDER] = os.environ[LOWERED] = str(folder)
    # however short they took to compile: a day's run has a hundred small ones
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
    warnings.filterwarnings("ignore", message=".*persistent compilation cache.*")
    return folder


def prune(root: Path, most: int = MOST_BYTES) -> None:
    """Remove the files that were not used for longest, until all together have no more than `most` bytes."""
    files = []
    for path in root.rglob("*"):
        try:
            known = path.stat()
        except OSError:  # another process was faster
            continue
        if path.is_file():
            files.append((max(known.st_atime, known.st_mtime), known.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= most:
            return
        path.unlink(missing_ok=True)
        total -= size


def _machine() -> str:
    """Name of a folder, the same for programs that can run here."""
    facts = [platform.machine(), platform.system(), platform.processor()]
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    facts += sorted({line for line in lines if line.startswith(("flags", "model name", "Features"))})
    return f"{metadata.version('jaxlib')}-{hashlib.sha256(repr(facts).encode()).hexdigest()[:12]}"
