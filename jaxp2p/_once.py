"""What is done now and then in a loop: a branch that costs nothing where it is not taken."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import Array

T = TypeVar("T")


def once_if(wanted: Array, change: Callable[[T], T], value: T) -> T:
    """`change(value)` where `wanted` () bool, else `value`: `jax.lax.cond` as a loop of at most one turn.

    A branch copies all that it hands through, and a batch of branches takes both sides of all. A loop that is
    not entered leaves its carry where it is, and a batch enters it only where somebody wants to.
    """
    turn = lambda carry: (jnp.zeros((), bool), change(carry[1]))
    return jax.lax.while_loop(lambda carry: carry[0], turn, (wanted, value))[1]
