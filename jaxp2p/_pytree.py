"""One decorator for every constant record of the package, its parts that may be lacking, and one of two."""

import dataclasses
from typing import TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
from jax import Array

T = TypeVar("T")
Tree = TypeVar("Tree")


def static(**kwargs):
    """A field that is part of the tree's structure: hashed and compared, never traced."""
    return dataclasses.field(metadata={"static": True}, **kwargs)


@dataclass_transform(kw_only_default=True, frozen_default=True)
def record(cls: type[T]) -> type[T]:
    """Frozen keyword-only dataclass registered as a pytree; fields made by `static` are structure.

    No `__post_init__`: a pytree is also rebuilt with tracers in its leaves, so validation happens
    where the numbers are still on the host.
    """
    cls = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    return jax.tree_util.register_dataclass(
        cls,
        data_fields=[f.name for f in fields if not f.metadata.get("static")],
        meta_fields=[f.name for f in fields if f.metadata.get("static")],
    )


def present(part: T | None) -> T:
    """A part that some problems do without (limits, a network), where the structure says that it is there."""
    assert part is not None
    return part


def pick_tree(condition: Array, one: Tree, other: Tree) -> Tree:
    """`one` where the condition () holds, else `other`, leaf by leaf."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, other)
