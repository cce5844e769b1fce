"""Strict numerics for every test."""

import jax
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True, scope="module")
def _programs_of_one_module():
    """Compiled programs of a module are let go with it: thousands of them would fill the memory."""
    yield
    jax.clear_caches()
