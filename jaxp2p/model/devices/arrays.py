"""One law for arrays of either kind."""

from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

Values = Any  # an array of either kind: no type says that


def namespace(*arrays: Any) -> ModuleType:
    """`numpy` where all of the arrays are its own (or numbers), else `jax.numpy`."""
    return np if all(isinstance(x, np.ndarray | np.generic | float | int) for x in arrays) else jnp


def on_device(values: Any, dtype: Any, *, given: bool = False) -> Array:
    """What is on the host, rounded there: `jnp.asarray` would be a program for every shape.

    given: nobody else will write into it, so that a processor may take the memory that it is in.
    """
    return jax.device_put(np.asarray(values, dtype) if given else np.array(values, dtype))
