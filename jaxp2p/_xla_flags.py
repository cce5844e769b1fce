"""Flags of XLA: which of them this version knows, and those that suit loops of small kernels on a processor.

A slot is loops within loops of some hundred kernels of a microsecond each, and XLA starts every kernel by
itself, which takes as long. A loop that it takes for small, by the bytes that it works on, is one function
instead, as far as its kernels come from XLA's plainer emitters. `QUICK` has all of them from the older ones,
which compile in half of the time, and gives the same numbers to the last bit: the commands set it. `FAST`
leaves long arrays to the newer ones, with the processor's widest vectors, which round sums otherwise: for
whoever calls `set_xla_flags`.

XLA reads its flags once, before the first program.
"""

import mmap
import os
import sys
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

SMALL, BYTES = "xla_cpu_small_while_loop_byte_threshold", 2**20  # of 1 kB by default; all of ours are below
LOOPS = {"xla_backend_extra_options": f"{SMALL}={BYTES}"}
QUICK = {"xla_cpu_use_fusion_emitters": "false", **LOOPS}
FAST = {"xla_cpu_prefer_vector_width": "512", **LOOPS}  # bits; a processor with fewer takes what it has


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


def set_xla_flags() -> bool:
    """Have XLA make programs that run faster on a processor: up to a quarter less time per slot.

        import jaxp2p as jp

        jp.set_xla_flags()  # before JAX is imported

    For the whole process and those that it starts, by the environment variable XLA_FLAGS. Returns whether it
    did: not where one of the flags is set already or this version of XLA lacks one, and not where JAX has
    been imported, which is warned of (RuntimeWarning). On a graphics card the flags say nothing. The
    commands set flags of their own, for programs that are compiled fast as well.
    """
    if "jax" in sys.modules:
        warnings.warn(
            "XLA may have read its flags: call set_xla_flags before JAX is imported",
            RuntimeWarning,
            stacklevel=2,
        )
    return set_flags(FAST)


def set_flags(flags: Mapping[str, str]) -> bool:
    """Set flags for this process and those that it starts; whether it did.

    Nothing is done where JAX is there already, where anybody has set one of them, or one is not known.
    """
    given = os.environ.get("XLA_FLAGS", "")
    if "jax" in sys.modules or any(flag in given for flag in flags) or not known(*flags, SMALL):
        return False
    os.environ["XLA_FLAGS"] = joined(given, flags)
    return True


def joined(given: str, flags: Mapping[str, str]) -> str:
    """What XLA_FLAGS holds, and more of them."""
    return " ".join([given, *(f"--{flag}={value}" for flag, value in flags.items())]).strip()
