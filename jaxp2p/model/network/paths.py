"""The sums of LinDistFlow over the paths of a tree: R p + X q, and what flows through every branch.

With S the sums over all that lies downstream of a branch, and S^T those over the branches on the path from
the slack, R = k^2 S^T diag(r) S (X likewise; k as in `tree.py`). A small network has the three matrices. A
large one has none over all buses: it sums up and down its tree, in the blocks of `impedance.py`. Whoever
needs the whole of a matrix asks `matrices`, single rows of it are products with the transposes.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.lax import Precision

from jaxp2p._pytree import record
from jaxp2p.model.devices.arrays import Values, namespace, on_device
from jaxp2p.model.network.impedance import Blocks
from jaxp2p.model.network.tree import Pi, Tree, rooted, voltage_scale

ONE_MATRIX = 256  # buses
MOST_NUMBERS = 2**25  # of one matrix that somebody asks a large network for: 256 MiB in float64


@record
class Matrices:
    """Of a small network; the formulas as they stand."""

    resistance: Array  # (B, B) p.u. voltage squared per kW: the R of the formula; row and column 0 are 0;
    # rows: whose voltage, columns: where injected; symmetric without off-nominal ratios
    reactance: Array  # (B, B) p.u. voltage squared per kvar
    downstream: Array  # (L, B) 1 where the bus lies downstream of the branch

    def rise(self, active: Values, reactive: Values | None = None) -> Values:
        """R p + X q (..., B) p.u.^2 of injections (..., B) kW and kvar."""
        moved = _times(active, self.resistance.T)
        return moved if reactive is None else moved + self.lift(reactive)

    def lift(self, reactive: Values) -> Values:
        """X q (..., B) p.u.^2 of (..., B) kvar."""
        return _times(reactive, self.reactance.T)

    def through(self, power: Values) -> Values:
        """(..., L): what flows through every branch, of injections (..., B)."""
        return _times(power, self.downstream.T)

    def through_transposed(self, price: Values) -> Values:
        """(..., B): sums of (..., L) over the branches between every bus and the slack."""
        return _times(price, self.downstream)

    def matrices(self) -> "Matrices":
        """Themselves."""
        return self


@record
class Sweeps:
    """Of a large network: no matrix over all buses. What is at a branch stands at the bus that it feeds."""

    blocks: Blocks  # of the tree; the next three are laid out as it has them
    branch_r: Array  # (K, m, 1) p.u. per kW of the branch that feeds the bus, as the slack sees it
    branch_x: Array  # (K, m, 1) p.u. per kvar
    squared: Array  # (K, m, 1) k^2
    fed: Array  # (L,) int32, the bus that every branch feeds

    def rise(self, active: Values, reactive: Values | None = None) -> Values:
        """R p + X q (..., B) p.u.^2 of injections (..., B) kW and kvar."""
        blocks, shape = self.blocks, active.shape[:-1]
        drop = self.branch_r * blocks.sums(blocks.inside(active))
        if reactive is not None:
            drop = drop + self.branch_x * blocks.sums(blocks.inside(reactive))
        return blocks.outside(self.squared * blocks.along(drop), shape)

    def lift(self, reactive: Values) -> Values:
        """X q (..., B) p.u.^2 of (..., B) kvar."""
        blocks, shape = self.blocks, reactive.shape[:-1]
        drop = self.branch_x * blocks.sums(blocks.inside(reactive))
        return blocks.outside(self.squared * blocks.along(drop), shape)

    def through(self, power: Values) -> Values:
        """(..., L): what flows through every branch, of injections (..., B)."""
        return self.blocks.through(self.blocks.inside(power), power.shape[:-1])

    def through_transposed(self, price: Values) -> Values:
        """(..., B): sums of (..., L) over the branches between every bus and the slack."""
        xp, blocks = namespace(price, self.branch_r), self.blocks
        at_bus = xp.zeros((*price.shape[:-1], blocks.found.shape[0]), price.dtype)
        if isinstance(at_bus, np.ndarray):
            at_bus[..., self.fed] = price
        else:
            at_bus = at_bus.at[..., self.fed].set(price)
        return blocks.outside(blocks.along(blocks.inside(at_bus)), price.shape[:-1])

    def state(self, active: Values) -> tuple[Values, Values]:
        """R p (..., B), and at every bus what flows through the branch that feeds it, (..., B)."""
        blocks, shape = self.blocks, active.shape[:-1]
        flow = blocks.sums(blocks.inside(active))
        rise = self.squared * blocks.along(self.branch_r * flow)
        return blocks.outside(rise, shape), blocks.outside(flow, shape)

    def transposed(self, voltage: Values, flow: Values) -> Values:
        """R^T a + S^T b (..., B) of a (..., B) at the voltages and b (..., B) at the branches."""
        blocks, shape = self.blocks, voltage.shape[:-1]
        drop = self.branch_r * blocks.sums(self.squared * blocks.inside(voltage))
        return blocks.outside(blocks.along(drop + blocks.inside(flow)), shape)

    def largest(self, bus: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The largest of R over these buses (B,), and whether a bus has one of them behind it (B,) bool.

        On the host. Impedances are not negative, so of all buses with which a bus shares its path the last
        on it are the largest: a path counts as far as there is one of them behind its branches.
        """
        blocks = self.blocks
        there = np.zeros((1, len(blocks.found)))
        there[0, bus] = 1
        behind = blocks.sums(blocks.inside(there)) > 0
        rise = self.squared * blocks.along(self.branch_r * behind)
        return blocks.outside(rise, ()), blocks.outside(behind, ()) > 0

    def matrices(self) -> Matrices:
        """The three matrices, on the host. Raises ValueError where they are too large for any use."""
        size = self.blocks.found.shape[0]
        if words := too_large(size, size, f"what {size:,} buses do to each other's voltages"):
            raise ValueError(f"{words}: of a large network only single rows are known")
        one = np.eye(size, dtype=self.squared.dtype)
        return Matrices(
            resistance=self.rise(one).T, reactance=self.lift(one).T, downstream=self.through(one).T
        )


def paths_of(branches: Pi, tree: Tree, dtype: np.dtype, *, largest: int | None = None) -> Matrices | Sweeps:
    """Of a feeder: matrices up to `largest` buses, by default 256, and beyond the blocks of its `tree`."""
    scale, behind = voltage_scale(branches, tree.scale.shape[0])
    seen = branches.impedance / behind**2
    array = lambda x: on_device(x, dtype)
    if len(scale) > (ONE_MATRIX if largest is None else largest):
        fed, blocks = np.asarray(tree.far), tree.impedance
        at_bus = np.zeros((3, len(scale)))
        at_bus[:2, fed], at_bus[2] = [seen.real, seen.imag], scale**2
        r, x, squared = (array(blocks.inside(part)) for part in at_bus)
        return Sweeps(blocks=blocks, branch_r=r, branch_x=x, squared=squared, fed=tree.far)
    resistance, reactance, downstream = radial_matrices(
        branches.from_bus, branches.to_bus, seen.real, seen.imag, len(scale)
    )
    return Matrices(
        resistance=array(scale[:, None] ** 2 * resistance),
        reactance=array(scale[:, None] ** 2 * reactance),
        downstream=array(downstream),
    )


def radial_matrices(
    tail: np.ndarray, head: np.ndarray, resistance: np.ndarray, reactance: np.ndarray, buses: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """R, X (B, B) and downstream incidence (L, B) of a tree rooted at bus 0.

    `tail`, `head` (L,) are the two ends of every branch in any order; the branches must form a spanning
    tree (the validation of the tables sees to that). Impedances in any unit per kW; R and X inherit it.
    """
    near, far, order = rooted(tail, head, buses)
    path = np.zeros((buses, len(tail)), bool)  # branches between the slack and every bus
    for branch in order:
        path[far[branch]] = path[near[branch]]
        path[far[branch], branch] = True
    weights = path.astype(float)
    return (weights * resistance) @ weights.T, (weights * reactance) @ weights.T, weights.T


def too_large(rows: int, columns: int, name: str) -> str:
    """What to say of a matrix of more than MOST_NUMBERS numbers, called `name`; empty where it is smaller."""
    if rows * columns <= MOST_NUMBERS:
        return ""
    size, most = (numbers * 8 / 2**30 for numbers in (rows * columns, MOST_NUMBERS))
    return f"{name} would be a matrix of {size:,.1f} GiB ({most:g} GiB are the most)"


def _times(power: Values, matrix: Values) -> Values:
    if namespace(power, matrix) is np:
        return power @ matrix
    return jnp.matmul(power, matrix, precision=Precision.HIGHEST)
