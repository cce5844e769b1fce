"""One law for arrays of either kind."""

from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

Values = Any  # an array of either kind: no type says that


def namespace(*arrays: Any) -> ModuleType:
    """`numpy` where all of the arrays are its own (or numbers), else `jax.numpy`."""
    return np if all(isinstance(x, np.ndarray | np.generic | float | int) for x in arrays) else jnp


def on_device(values: Any, dtype: Any) -> Array:
    """`jnp.asarray` of what is on the host, rounded there: JAX would compile a program per shape for it."""
    return jnp.asarray(np.asarray(values, dtype))
