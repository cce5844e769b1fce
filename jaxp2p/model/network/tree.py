"""The feeder as an AC power flow sees it: one tree from the slack, without its ideal transformers.

A branch is an ideal transformer at `from_bus` (of a line: none) and behind it a pi: the series impedance,
half of its shunt admittance at either end (as in MATPOWER and power-grid-model). In a tree the ideal
transformers go away by scaling. Let k_n be the voltage of bus n over that of the slack when nothing flows and
there are no shunts, and m_l the same behind the ideal transformer of branch l. In the voltages u = v / k and
the currents k i, which leave every power as it is, the branch is its pi alone, with z / m^2 and m^2 y.
"""

from typing import NamedTuple

import numpy as np
from jax import Array

from jaxp2p._pytree import record, static
from jaxp2p.model.devices.arrays import on_device
from jaxp2p.model.network.impedance import Blocks, impedance_of


class Pi(NamedTuple):
    """The branches of a feeder as they are written down; any order and direction, (L,) each."""

    from_bus: np.ndarray  # int, the ideal transformer is here
    to_bus: np.ndarray  # int
    impedance: np.ndarray  # complex, p.u. per kVA
    admittance: np.ndarray  # complex, kVA at 1 p.u., whole branch
    ratio: np.ndarray  # v_from over v_to in p.u. when nothing flows


@record
class Tree:
    """What an AC power flow asks of a feeder; powers in kW and kvar, so admittances in kVA at 1 p.u."""

    near: Array  # (L,) int32, the end of every branch that is nearer to the slack
    far: Array  # (L,) int32, its other end
    scale: Array  # (B,) k
    series: Array  # (2, L) r and x, p.u. per kVA, scaled
    charging: Array  # (2, L) g and b of the whole branch, scaled
    shunt: Array  # (2, B) g and b of all that is at a bus: its shunts and the halves of its branches, scaled
    by_current: Array  # (L,) 1 where the loading counts the current: lines; 0 counts the apparent power
    reach: Array  # () p.u. per kVA, the largest impedance between the slack and a bus
    impedance: Blocks  # of the tree, scaled
    shunted: bool = static(default=True)  # False: there is no shunt anywhere, and the solver skips them


def tree_of(
    branches: Pi, shunt: np.ndarray, by_current: np.ndarray, dtype: np.dtype, *, largest: int | None = None
) -> Tree:
    """The tree of these branches from bus 0, with bus shunts (B,) complex, kVA at 1 p.u.

    largest: the most buses of a block of the impedance (`impedance_of`). Raises ValueError where the
    branches are not one tree.
    """
    near, far, order = rooted(branches.from_bus, branches.to_bus, len(shunt))
    scale, behind = voltage_scale(branches, len(shunt))
    z, y = branches.impedance / behind**2, branches.admittance * behind**2
    total = shunt * scale**2
    for end in (near, far):
        np.add.at(total, end, y / 2)
    reach = np.zeros(len(shunt), complex)
    for branch in order:
        reach[far[branch]] = reach[near[branch]] + z[branch]
    pair = lambda x: np.stack([x.real, x.imag])
    array = lambda x: on_device(x, dtype)
    return Tree(
        near=on_device(near, np.int32),
        far=on_device(far, np.int32),
        scale=array(scale),
        series=array(pair(z)),
        charging=array(pair(y)),
        shunt=array(pair(total)),
        by_current=array(by_current),
        reach=array(np.abs(reach).max()),
        impedance=impedance_of(near, far, order, z, dtype, largest=largest),
        shunted=bool(total.any()),
    )


def voltage_scale(branches: Pi, buses: int) -> tuple[np.ndarray, np.ndarray]:
    """k (B,) and m (L,) of the formula."""
    near, far, order = rooted(branches.from_bus, branches.to_bus, buses)
    scale, behind = np.ones(buses), np.ones(len(near))
    outward = branches.from_bus == near
    for branch in order:
        step = branches.ratio[branch]
        behind[branch] = scale[near[branch]] / (step if outward[branch] else 1)
        scale[far[branch]] = scale[near[branch]] / (step if outward[branch] else 1 / step)
    return scale, behind


def rooted(tail: np.ndarray, head: np.ndarray, buses: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every branch's end nearer to bus 0 and its other end, and the branches in an order from bus 0 outwards.

    Raises ValueError where a bus is not connected, and where the branches close a loop.
    """
    neighbours: list[list[tuple[int, int]]] = [[] for _ in range(buses)]
    for branch, (a, b) in enumerate(zip(tail.tolist(), head.tolist(), strict=True)):
        neighbours[a].append((branch, b))
        neighbours[b].append((branch, a))
    near, far = np.array(tail), np.array(head)
    order: list[int] = []
    queue, seen = [0], {0}
    for bus in queue:
        for branch, other in neighbours[bus]:
            if other not in seen:
                seen.add(other)
                queue.append(other)
                order.append(branch)
                near[branch], far[branch] = bus, other
    if len(seen) != buses:
        raise ValueError(f"{buses - len(seen)} of {buses} buses are not connected to the slack")
    if len(order) != len(tail):
        raise ValueError(f"{len(tail) - len(order)} of {len(tail)} branches close a loop")
    return near, far, np.array(order, int)
