"""Flags of XLA: which of them this version knows, and those that suit loops of small kernels on a processor.

A slot is loops within loops of some hundred kernels of a microsecond each, and XLA starts every kernel by
itself, which takes as long. A loop is one function instead where XLA takes it for small, by the bytes that it
works on, and where all within it comes from its older emitters, which are also the quicker ones to compile.
The numbers are the same. XLA reads its flags once, before the first program.
"""

import mmap
import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

SMALL, BYTES = "xla_cpu_small_while_loop_byte_threshold", 2**20  # of 1 kB by default; all of ours are below
LOOPS = {"xla_cpu_use_fusion_emitters": "false", "xla_backend_extra_options": f"{SMALL}={BYTES}"}


def known(*names: str) -> bool:
    """XLA ends a process that sets a flag it does not know; those of a version are named in its library."""
    spec = find_spec("jaxlib")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    libraries = [file for folder in folders for file in folder.glob("*.so")]
    left = set(names)
    for library in sorted(libraries, key=lambda file: -file.stat().st_size):
        with (
            open(library, "rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            # by itself, as a flag: names of flags that are no more live on within other texts
            left = {name for name in left if content.find(f"\0{name}\0".encode()) < 0}
        if not left:
            return True
    return not left


def whole_loops() -> None:
    """Set the flags `LOOPS`, for this process and those that it starts.

    Nothing is done where JAX is there already, where anybody has set one of them, or one is not known.
    """
    given = os.environ.get("XLA_FLAGS", "")
    if "jax" in sys.modules or any(flag in given for flag in LOOPS) or not known(*LOOPS, SMALL):
        return
    os.environ["XLA_FLAGS"] = joined(given, LOOPS)


def joined(given: str, flags: Mapping[str, str]) -> str:
    """What XLA_FLAGS holds, and more of them."""
    return " ".join([given, *(f"--{flag}={value}" for flag, value in flags.items())]).strip()
