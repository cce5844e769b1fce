"""Trading graphs: who may trade with whom, in the padded form of `Market`."""

import jax.numpy as jnp
import numpy as np

from jaxp2p.community.types import Market


def market_from_edges(
    edges: np.ndarray, fee: np.ndarray, limit: np.ndarray, *, size: int, dtype: np.dtype
) -> Market:
    """Bilateral market on `edges` (E, 2), every unordered pair once; fee, limit (E,) in EUR/kWh, kW."""
    slots: list[list[tuple[int, int]]] = [[] for _ in range(size)]  # per member: (partner, edge)
    for number, (i, j) in enumerate(edges):
        slots[i].append((j, number))
        slots[j].append((i, number))
    width = max(1, *(len(s) for s in slots))
    member = np.arange(size)
    partner = np.tile(member, (width, 1))
    reverse = np.arange(width * size).reshape(width, size)
    fees, limits = np.zeros((width, size)), np.zeros((width, size))
    position: dict[tuple[int, int], int] = {
        (i, number): k for i in range(size) for k, (_, number) in enumerate(slots[i])
    }
    for i in range(size):
        for k, (j, number) in enumerate(slots[i]):
            partner[k, i], fees[k, i], limits[k, i] = j, fee[number], limit[number]
            reverse[k, i] = position[j, number] * size + j
    return Market(
        partner=jnp.asarray(partner, jnp.int32),
        reverse=jnp.asarray(reverse, jnp.int32),
        fee=jnp.asarray(fees, dtype),
        limit=jnp.asarray(limits, dtype),
        kind="bilateral",
    )


def pool_market(size: int, *, fee: float, limit: float = np.inf, dtype: np.dtype) -> Market:
    """One common pool; fee in EUR per kWh traded, half to the seller and half to the buyer."""
    return Market(
        partner=jnp.zeros((0, size), jnp.int32),
        reverse=jnp.zeros((0, size), jnp.int32),
        fee=jnp.full((1, size), fee, dtype),
        limit=jnp.full((1, size), limit, dtype),
        kind="pool",
        limited=bool(np.isfinite(limit)),
    )


def no_market(size: int, *, dtype: np.dtype) -> Market:
    """Everybody trades with the utility only."""
    empty = jnp.zeros((0, size), jnp.int32)
    return Market(
        partner=empty,
        reverse=empty,
        fee=jnp.zeros((0, size), dtype),
        limit=jnp.zeros((0, size), dtype),
        kind="none",
        limited=False,
    )


def complete_graph(size: int) -> np.ndarray:
    """Everybody with everybody, (size (size - 1) / 2, 2)."""
    return np.stack(np.triu_indices(size, 1), 1)


def nearest_graph(distance: np.ndarray, partners: int) -> np.ndarray:
    """Edges between every member and its `partners` nearest by distance (N, N); degrees may be larger."""
    size = len(distance)
    away = distance + np.diag(np.full(size, np.inf))
    near = np.argsort(away, axis=1, kind="stable")[:, : min(partners, size - 1)]
    pairs = np.stack([np.repeat(np.arange(size), near.shape[1]), near.ravel()], 1)
    return np.unique(np.sort(pairs, axis=1), axis=0)


def regular_graph(size: int, partners: int, *, seed: int) -> np.ndarray:
    """A seeded random graph in which everybody has `partners` partners, (size * partners / 2, 2).

    Where that cannot be (few members, or an odd product) one member has one partner less. The edges
    come from a circulant graph by random double-edge swaps, which keep every degree and mix fast
    (Viger and Latapy 2005), so no draw is ever rejected as a whole.
    """
    partners = min(partners, size - 1)
    if partners <= 0:
        return np.zeros((0, 2), int)
    member = np.arange(size)
    rings = [np.stack([member, (member + hop) % size], 1) for hop in range(1, partners // 2 + 1)]
    if partners % 2:
        half = size // 2
        rings.append(np.stack([member[:half], member[:half] + half], 1))
    edges = np.unique(np.sort(np.concatenate(rings), axis=1), axis=0)
    draw = np.random.default_rng(seed)
    present = {(int(a), int(b)) for a, b in edges}
    table = [(int(a), int(b)) for a, b in edges]
    for first, second, flip in zip(
        draw.integers(len(table), size=10 * len(table)),
        draw.integers(len(table), size=10 * len(table)),
        draw.random(10 * len(table)) < 0.5,
        strict=True,
    ):
        (a, b), (c, d) = table[first], table[second]
        if flip:
            c, d = d, c
        new = (min(a, d), max(a, d)), (min(c, b), max(c, b))
        if a == d or c == b or new[0] in present or new[1] in present or new[0] == new[1]:
            continue
        present -= {table[first], table[second]}
        present |= set(new)
        table[first], table[second] = new
    return np.array(sorted(present))
