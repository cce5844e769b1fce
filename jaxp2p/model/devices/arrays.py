"""One law for arrays of either kind."""

from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np

Values = Any  # an array of either kind: no type says that


def namespace(*arrays: Any) -> ModuleType:
    """`numpy` where all of the arrays are its own (or numbers), else `jax.numpy`."""
    return np if all(isinstance(x, np.ndarray | np.generic | float | int) for x in arrays) else jnp
