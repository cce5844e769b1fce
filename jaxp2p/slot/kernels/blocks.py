"""Blocks of homes inside one kernel of a GPU (Pallas, lowered by Triton): read, summed and launched.

A program of the grid has a block of homes of one community; what a home needs is read once into registers. A
batch of communities is one more axis of the grid (`jax.vmap` adds it). What a kernel says about the
community, a sum over all homes or over those of a bus, leaves it as one number per block, in a fixed order:
the same run gives the same bits, which atomic additions would not.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

WARPS = 4  # of 32 threads
BUSES = 16  # that are summed at a time


Leaf = Any  # an array, its shape, or a reference of a kernel to it


class Block(NamedTuple):
    """The homes of one program."""

    number: Array  # () int32
    first: Array  # () int32, home
    inside: Array  # (B,) bool: the last block may have fewer

    def read(self, ref: Any, *row: int) -> Array:
        """(B,) of a reference (..., N); zeros beyond the last home."""
        return triton.load(ref.at[*self._where(row)], mask=self.inside, other=0)

    def rows(self, ref: Any) -> list[Array]:
        """All rows of a reference (K, N), each (B,)."""
        return [self.read(ref, k) for k in range(ref.shape[0])]

    def write(self, ref: Any, value: Array, *row: int) -> None:
        """`value` (B,) into a reference (..., N)."""
        triton.store(ref.at[*self._where(row)], value, mask=self.inside)

    def pick(self, ref: Any, index: Array | tuple[Array, ...]) -> Array:
        """ref[index] (B,) of a reference to a vector."""
        return triton.load(ref.at[index], mask=self.inside, other=0)

    def sum(self, value: Array) -> Array:
        """() of `value` (B,)."""
        return jnp.sum(jnp.where(self.inside, value, 0))

    def _where(self, row: tuple[int, ...]) -> tuple[Any, ...]:
        return (*(jnp.int32(k) for k in row), pl.ds(self.first, self.inside.shape[0]))


def this_block(homes: int, size: int) -> Block:
    """That of the program that is running; a power of two of homes in each."""
    number = pl.program_id(0)
    first = number * size
    return Block(number, first, first + jax.lax.iota(jnp.int32, size) < homes)


def block_count(homes: int, size: int) -> int:
    """Of so many homes each, for all of them."""
    return pl.cdiv(homes, size)


def padded_buses(buses: int) -> int:
    """Room for sums by bus: a multiple of BUSES."""
    return BUSES * pl.cdiv(buses, BUSES)


def sum_by_bus(block: Block, ref: Any, bus: Array, values: list[Array]) -> None:
    """Sums of all `values` (B,) by `bus` (B,) int32 into a reference (blocks, values, buses).

    bus -1: of none. Every home is compared with all buses of its neighbourhood, BUSES of them at a time;
    where homes stand in the order of their buses few are.
    """
    here = block.inside & (bus >= 0)
    lowest = jnp.min(jnp.where(here, bus, ref.shape[-1]))
    highest = jnp.max(jnp.where(here, bus, -1))

    def some_buses(c: Array, _: None) -> None:
        start = c * BUSES

        def totals() -> list[Array]:
            mine = bus[None, :] == (start + jax.lax.iota(jnp.int32, BUSES))[:, None]
            mine = mine & here[None, :]
            spread = [jnp.broadcast_to(value[None, :], mine.shape) for value in values]
            return [jnp.sum(jnp.where(mine, x, 0), axis=1) for x in spread]

        none = lambda: [jnp.zeros((BUSES,), value.dtype) for value in values]
        found = jax.lax.cond((start <= highest) & (start + BUSES > lowest), totals, none)
        for k, total in enumerate(found):
            triton.store(ref.at[block.number, jnp.int32(k), pl.ds(start, BUSES)], total)

    jax.lax.fori_loop(jnp.int32(0), jnp.int32(ref.shape[-1] // BUSES), some_buses, None)


def some(flags: Array) -> Array:
    """() bool: whether any is set."""
    return jnp.max(jnp.where(flags, 1, 0)) > 0


def launch(
    kernel: Callable[..., None],
    given: Any,
    out: Any,
    *,
    blocks: int,
    name: str,
    interpret: bool,
    in_place: Sequence[tuple[Array, Any]] = (),
) -> Any:
    """kernel(references to `given`, references to `out`), once per block.

    given: any tree of arrays; out: a tree of their shapes. in_place: pairs of a leaf of `given` and
    the leaf of `out` that takes its memory. interpret: the same on any device, by XLA.
    """
    leaves, tree = jax.tree.flatten(given)
    shapes, out_tree = jax.tree.flatten(out)
    place = lambda leaf, all_: next(k for k, other in enumerate(all_) if other is leaf)

    def body(*refs):
        given, out = refs[: len(leaves)], refs[len(leaves) :]
        kernel(jax.tree.unflatten(tree, given), jax.tree.unflatten(out_tree, out))

    found = pl.pallas_call(
        body,
        grid=(blocks,),
        out_shape=tuple(shapes),
        input_output_aliases={place(old, leaves): place(new, shapes) for old, new in in_place},
        compiler_params=triton.CompilerParams(num_warps=WARPS),
        interpret=interpret,
        name=name,
    )(*leaves)
    return jax.tree.unflatten(out_tree, found)
