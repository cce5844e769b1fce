"""A batch of power flows under `vmap` as one call of many flows.

The solver has the flows of a call last, where they lie side by side and are the columns of one matrix product
(`impedance.py`). Under `vmap` they would stand first, and every product of the iteration would turn its
factors about. Where they share the network, they are turned once, before the iteration and after it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from jaxp2p.model.network.tree import Tree


def flows_together(search: Callable) -> Callable:
    """search(tree, slack, values), for which a batch with one network is a call with more flows.

    values and what is found: scalars, or with the flows as their last of three axes. Not differentiable.
    """

    @custom_vmap
    def many(tree: Tree, slack: Any, values: Any) -> Any:
        return search(tree, slack, values)

    @many.def_vmap
    def batched(count: int, where: list, tree: Tree, slack: Any, values: Any) -> tuple[Any, Any]:
        leaves = list(zip(jax.tree.leaves(values), jax.tree.leaves(where[2]), strict=True))
        wide = [jnp.ndim(leaf) - own for leaf, own in leaves]
        if any(jax.tree.leaves(where[:2])) or any(axes == 0 and own for axes, (_, own) in zip(wide, leaves)):
            axes = jax.tree.map(lambda own: 0 if own else None, tuple(where))
            found = jax.vmap(search, in_axes=axes)(tree, slack, values)
        else:
            merged = jax.tree.map(lambda leaf, own: _merged(leaf, own, count), values, where[2])
            found = jax.tree.map(lambda leaf: _parted(leaf, count), many(tree, slack, merged))
        return found, jax.tree.map(lambda _: True, found)

    return many


def _merged(leaf: Any, batched: bool, count: int) -> Any:
    """(K, m, count F) of (count, K, m, F), or of (K, m, F) that all have; scalars as they are."""
    if jnp.ndim(leaf) == 0:
        return leaf
    every = leaf if batched else jnp.broadcast_to(leaf, (count, *leaf.shape))
    last = jnp.moveaxis(every, 0, -2)
    return last.reshape(*last.shape[:-2], -1)


def _parted(leaf: Any, count: int) -> Any:
    """(count, K, m, F) of (K, m, count F)."""
    return jnp.moveaxis(leaf.reshape(*leaf.shape[:-1], count, -1), -2, 0)
