"""What currents into the buses of a tree do to its voltages: u = u0 + Z i, also where Z would be large.

Z_nm adds the impedances that the paths of n and m from the slack share. The tree is cut into blocks of few
buses; the buses of a block hang on one bus of another block, its post. With the Z of every block alone, and
the currents of whole blocks entering at their posts, the product is exact:

    u = u0 + P^T diag(Z_k) P i,   (P i)_n = i_n + what all the blocks behind post n inject.

B buses in blocks of m cost some 8 B m in the blocks and 4 (B / m)^2 between them, which is least where
m^3 = B. Blocks of fewer than eight gain nothing, and some dozen buses are faster in one.
"""

import math

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.lax import Precision

from jaxp2p._pytree import record
from jaxp2p.model.devices.arrays import Values, namespace, on_device

ONE_BLOCK, LEAST_BLOCK = 48, 8  # buses


@record
class Blocks:
    """Z by blocks: K of them with m places each. Inside the solver values are (K, m, flows)."""

    place: Array  # (K m,) int32, bus at every place; B where it is empty
    found: Array  # (B,) int32, place of every bus; K m for the slack, which has none
    matrix: Array  # (K, 2 m, 2 m): [R -X; X R] of every block
    below: Array  # (K, m, m) 1 where the second bus lies downstream of the branch to the first, in the block
    post: Array  # (A,) int32, places of the buses that blocks hang on
    behind: Array  # (A, K) 1 where the block lies behind the post
    branch: Array  # (L,) int32, place of the far bus of every branch

    def inside(self, values: Values) -> Values:
        """Values (..., B) as the solver has them: the flows last, where they lie side by side."""
        rows = values.reshape(-1, values.shape[-1]).T
        xp = namespace(values)
        rows = xp.concatenate([rows, xp.zeros_like(rows[:1])])
        return rows[self.place].reshape(*self.below.shape[:2], rows.shape[1])

    def outside(self, values: Values, shape: tuple[int, ...]) -> Values:
        """The same back; 0 at the slack."""
        return self._rows(values, self.found, shape)

    def per_flow(self, values: Values, shape: tuple[int, ...]) -> Values:
        """Values (...,), one for every flow, as they stand beside those of its buses."""
        return values.reshape(1, 1, -1)

    def total(self, values: Values) -> Values:
        """Sums over the buses, as `per_flow`."""
        return values.sum((0, 1), keepdims=True)

    def rise(self, real: Values, imag: Values) -> tuple[Values, Values]:
        """Z i, real and imaginary part."""
        size = self.below.shape[1]
        xp = namespace(real, self.matrix)
        own = _times(self.matrix, xp.concatenate([self._gathered(real), self._gathered(imag)], 1))
        return self._passed_on(own[:, :size]), self._passed_on(own[:, size:])

    def through(self, current: Values, shape: tuple[int, ...]) -> Values:
        """(..., L): what flows through every branch towards the slack, of what is injected at the buses."""
        return self._rows(self.sums(current), self.branch, shape)

    def sums(self, values: Values) -> Values:
        """Of every bus and all that lies behind it."""
        return _times(self.below, self._gathered(values))

    def along(self, values: Values) -> Values:
        """Of every bus and all between it and the slack, the transpose of `sums`."""
        return self._passed_on(_times(self.below.swapaxes(1, 2), values))

    def _rows(self, values: Values, places: Values, shape: tuple[int, ...]) -> Values:
        xp = namespace(values)
        rows = values.reshape(-1, values.shape[-1])
        rows = xp.concatenate([rows, xp.zeros_like(rows[:1])])[places]
        return rows.T.reshape(*shape, rows.shape[0])

    def _gathered(self, current: Values) -> Values:
        """P i."""
        rows = current.reshape(-1, current.shape[-1])
        entering = _times(self.behind, current.sum(1))
        if isinstance(rows, np.ndarray) and isinstance(entering, np.ndarray):
            rows = rows.copy()
            rows[self.post] += entering
        else:
            rows = jnp.asarray(rows).at[self.post].add(entering, unique_indices=True, indices_are_sorted=True)
        return rows.reshape(current.shape)

    def _passed_on(self, own: Values) -> Values:
        """P^T of the rise that the blocks have of their own."""
        at_post = own.reshape(-1, own.shape[-1])[self.post]
        return own + _times(self.behind.T, at_post)[:, None]


def impedance_of(
    near: np.ndarray,
    far: np.ndarray,
    order: np.ndarray,
    impedance: np.ndarray,
    dtype: np.dtype,
    *,
    largest: int | None = None,
) -> Blocks:
    """The Z of a tree of branches (L,) with complex impedances; `order`: from the slack outwards.

    largest: the most buses of a block; by default all up to 48, and else the cube root of their number.
    """
    buses = len(near) + 1
    parent, series = np.zeros(buses, int), np.zeros(buses, complex)
    parent[far], series[far] = near, impedance
    least = buses if buses <= ONE_BLOCK else LEAST_BLOCK
    cut = _cut(parent, far[order], largest or max(least, math.ceil(buses ** (1 / 3))))
    return _blocks(parent, series, far, cut, dtype)


def _cut(parent: np.ndarray, outwards: np.ndarray, size: int) -> list[list[int]]:
    """Blocks of at most `size` buses, from the slack outwards; all buses of a block hang on one bus.

    From the leaves inwards: a bus joins the open groups of its children, and where they are too many the
    largest of them are closed together with the smallest that fit.
    """
    waiting: list[list[list[int]]] = [[] for _ in parent]
    closed: list[list[int]] = []

    def close(groups: list[list[int]], room: int) -> list[list[int]]:
        groups.sort(key=len)
        held = sum(map(len, groups))
        first = 0
        while held > room:
            block = groups.pop()
            while first < len(groups) and len(block) + len(groups[first]) <= size:
                block = groups[first] + block
                first += 1
            held -= len(block)
            closed.append(block)
        return groups[first:]

    for bus in outwards[::-1].tolist():
        rest = close(waiting[bus], size - 1)
        waiting[parent[bus]].append([bus, *(other for group in rest for other in group)])
        waiting[bus] = []
    close(waiting[0], 0)
    return closed[::-1] or [[]]  # a slack alone: one block of nobody


def _blocks(
    parent: np.ndarray, series: np.ndarray, far: np.ndarray, cut: list[list[int]], dtype: np.dtype
) -> Blocks:
    count, size, buses = len(cut), max(1, *map(len, cut)), len(parent)
    place, found = np.full(count * size, buses), np.full(buses, count * size)
    for k, members in enumerate(cut):
        found[members] = k * size + np.arange(len(members))
        place[k * size : k * size + len(members)] = members
    matrix, below = np.zeros((count, 2 * size, 2 * size)), np.zeros((count, size, size))
    hang = np.zeros(count, int)  # the bus that every block hangs on
    for k, members in enumerate(cut):
        path = np.zeros((size, size))
        for at, bus in enumerate(members):  # every bus after its parent
            up = found[parent[bus]] - k * size
            if 0 <= up < size:
                path[at] = path[up]
            else:
                hang[k] = parent[bus]
            path[at, at] = 1
        z = (path[:, : len(members)] * series[members]) @ path[:, : len(members)].T
        matrix[k] = np.block([[z.real, -z.imag], [z.imag, z.real]])
        below[k] = path.T
    posts = np.unique(found[hang[hang > 0]])
    behind = np.zeros((len(posts), count))
    for k in range(count):  # every block after the one that it hangs on
        if hang[k]:
            at = found[hang[k]]
            behind[:, k] = behind[:, at // size]
            behind[np.searchsorted(posts, at), k] = 1
    array, index = (lambda x: on_device(x, dtype)), (lambda x: on_device(x, np.int32))
    return Blocks(
        place=index(place),
        found=index(found),
        matrix=array(matrix),
        below=array(below),
        post=index(posts),
        behind=array(behind),
        branch=index(found[far]),
    )


def _times(one: Values, other: Values) -> Values:
    if namespace(one, other) is np:
        return one @ other
    return jnp.matmul(one, other, precision=Precision.HIGHEST)
