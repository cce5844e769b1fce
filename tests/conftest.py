"""Strict numerics for every test, and programs that are compiled in a third of the time."""

import mmap
import os
from pathlib import Path

import jax
import jaxlib
import pytest

# Nearly all of the suite's time is compilation. XLA's older emitters of fused loops and LLVM without its
# optimisation give the same numbers to rounding, and programs fast enough for what the tests run. Commands
# outside the tests (the smoke runs of .ci/run among them) take the usual ones.
QUICK = {
    "xla_cpu_use_fusion_emitters": "false",
    "xla_cpu_parallel_codegen_split_count": "1",
    "xla_backend_optimization_level": "0",
}


def _known(flag: str) -> bool:
    """XLA ends a process that sets a flag it does not know; those of a version are named in its library."""
    for library in sorted(Path(jaxlib.__file__).parent.glob("*.so"), key=lambda f: -f.stat().st_size):
        with (
            open(library, "rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            if content.find(flag.encode()) >= 0:
                return True
    return False


def _compile_quickly() -> None:
    """Before the first program; processes that tests start inherit it."""
    given = os.environ.get("XLA_FLAGS", "")
    more = [f"--{flag}={value}" for flag, value in QUICK.items() if flag not in given and _known(flag)]
    os.environ["XLA_FLAGS"] = " ".join([given, *more]).strip()


_compile_quickly()

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

MAPS = Path("/proc/self/maps")  # a line per mapping; Linux only
MANY = 20_000  # a process may have 65,530 by default, and a compiler that gets no more dies


@pytest.fixture(autouse=True, scope="module")
def _programs_of_one_module():
    """Compiled programs of a module are let go with it: thousands of them would fill the memory."""
    yield
    jax.clear_caches()


@pytest.fixture(autouse=True)
def _no_more_programs_than_a_process_may_map():
    """Every compiled program maps some memory, and a module may have very many of them."""
    yield
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > MANY:
        jax.clear_caches()
