"""Where the buses of a feeder are drawn: their coordinates where these can be used, else a tree."""

import numpy as np

from jaxp2p._pytree import present
from jaxp2p.data.tables import Tables
from jaxp2p.model.types import Community, Network


def bus_coordinates(tables: Tables, community: Community) -> np.ndarray:
    """(B, 2) x and y of the buses in the order of the network, NaN where they are not known."""
    places = tables.buses.set_index("bus_id").loc[list(community.network.bus_ids), ["x", "y"]]
    return places.to_numpy(float)


def branch_ends(network: Network) -> tuple[np.ndarray, np.ndarray]:
    """Upper and lower bus (L,) of every branch of a feeder rooted at bus 0."""
    tree = present(network.tree)
    return np.asarray(tree.near), np.asarray(tree.far)


def tree_layout(upper: np.ndarray, lower: np.ndarray, buses: int) -> np.ndarray:
    """(B, 2) places of a tree that grows to the right; siblings stand below each other, leaves 1 apart."""
    children: list[list[int]] = [[] for _ in range(buses)]
    for a, b in zip(upper, lower, strict=True):
        children[a].append(int(b))
    order, depth = [0], np.zeros(buses)
    for bus in order:
        depth[children[bus]] = depth[bus] + 1
        order += children[bus]
    leaves = np.zeros(buses, int)
    for bus in reversed(order):
        leaves[bus] = sum(leaves[child] for child in children[bus]) or 1
    height, first = np.zeros(buses), np.zeros(buses)
    for bus in order:
        offset = first[bus]
        for child in sorted(children[bus], key=lambda c: leaves[c]):
            first[child] = offset
            offset += leaves[child]
        height[bus] = first[bus] + (leaves[bus] - 1) / 2
    return np.stack([depth, -height], 1)


def bus_places(
    coordinates: np.ndarray | None, upper: np.ndarray, lower: np.ndarray, buses: int
) -> tuple[np.ndarray, bool]:
    """(B, 2) where the buses are drawn, and whether that is a map: coordinates if they can be used."""
    places = coordinates
    # many buses in one place would hide each other
    if places is None or not np.isfinite(places).all() or len(np.unique(places, axis=0)) <= 0.5 * buses:
        return tree_layout(upper, lower, buses), False
    places = np.array(places, float)
    if (places[1:] == places[0]).all(1).any():
        # SimBench puts the slack bus onto a bus of the feeder: move it out above the bus that it feeds
        fed = places[lower[upper == 0][0]]
        away = fed - places[1:].mean(0)
        step = 0.12 * np.ptp(places, axis=0).max()
        places[0] = fed + step * away / max(float(np.hypot(*away)), 1e-12)
    return places, True
