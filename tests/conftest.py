"""Strict numerics for every test, and programs that are compiled quickly."""

import gc
import os
from pathlib import Path

import jax
import pytest
import quick_programs

# before the first program; processes that tests start inherit it
os.environ["XLA_FLAGS"] = quick_programs.flags()
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

MAPS = Path("/proc/self/maps")  # a line per mapping; Linux only
MANY = 20_000  # a process may have 65,530 by default, and a compiler that gets no more dies


def pytest_collection_finish():
    """What tracing allocates sets the collector off very often, a quarter of its time: less of it.

    What has been imported is there to the end and need not be looked through.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


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
