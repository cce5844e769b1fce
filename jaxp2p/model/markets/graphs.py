"""Trading graphs: who may trade with whom, in the padded form of `Market`."""

import jax.numpy as jnp
import numpy as np

from jaxp2p.model.devices.arrays import on_device
from jaxp2p.model.markets.base import Market
from jaxp2p.model.markets.bilateral import Bilateral
from jaxp2p.model.markets.nobody import NoMarket
from jaxp2p.model.markets.pool import Pool

_MOST_PAIRS = 10_000_000


def market_from_edges(
    edges: np.ndarray, fee: np.ndarray, limit: np.ndarray, *, size: int, dtype: np.dtype
) -> Market:
    """Bilateral market on `edges` (E, 2), every unordered pair once; fee, limit (E,) in EUR/kWh, kW."""
    edges = np.asarray(edges, int).reshape(-1, 2)
    count = len(edges)
    # Every edge stands at both of its members: once with the first as the owner (2 e), once with the second.
    owner, other = edges.ravel(), edges[:, ::-1].ravel()
    number = np.repeat(np.arange(count), 2)
    order = np.argsort(owner, kind="stable")  # a member's edges in the order of their numbers
    degree = np.bincount(owner, minlength=size)
    place = np.empty(2 * count, int)
    place[order] = np.arange(2 * count) - np.repeat(np.cumsum(degree) - degree, degree)
    width = max(1, int(degree.max(initial=0)))
    partner = np.tile(np.arange(size), (width, 1))
    reverse = np.arange(width * size).reshape(width, size)
    fees, limits = np.zeros((width, size)), np.zeros((width, size))
    partner[place, owner] = other
    fees[place, owner], limits[place, owner] = fee[number], limit[number]
    reverse[place, owner] = place.reshape(-1, 2)[:, ::-1].ravel() * size + other
    return Bilateral(
        partner=on_device(partner, np.int32),
        reverse=on_device(reverse, np.int32),
        fee=on_device(fees, dtype),
        limit=on_device(limits, dtype),
    )


def pool_market(size: int, *, fee: float, limit: float = np.inf, dtype: np.dtype) -> Market:
    """One common pool; fee in EUR per kWh traded, half to the seller and half to the buyer."""
    return Pool(
        partner=jnp.zeros((0, size), jnp.int32),
        reverse=jnp.zeros((0, size), jnp.int32),
        fee=jnp.full((1, size), fee, dtype),
        limit=jnp.full((1, size), limit, dtype),
        limited=bool(np.isfinite(limit)),
    )


def no_market(size: int, *, dtype: np.dtype) -> Market:
    """Everybody trades with the utility only."""
    empty = jnp.zeros((0, size), jnp.int32)
    return NoMarket(
        partner=empty,
        reverse=empty,
        fee=jnp.zeros((0, size), dtype),
        limit=jnp.zeros((0, size), dtype),
        limited=False,
    )


def complete_graph(size: int) -> np.ndarray:
    """Everybody with everybody, (size (size - 1) / 2, 2). Raises ValueError where that is beyond all use."""
    pairs = size * (size - 1) // 2
    if pairs > _MOST_PAIRS:
        raise ValueError(
            f"a complete graph of {size:,} members has {pairs:,} pairs, {_MOST_PAIRS:,} are the most; "
            "choose another graph, or the pool, where everybody trades with everybody at one price"
        )
    return np.stack(np.triu_indices(size, 1), 1)


def nearest_graph(distance: np.ndarray, bus: np.ndarray, partners: int) -> np.ndarray:
    """Edges between every member and its `partners` nearest; degrees may be larger.

    distance (B, B) is that of the buses, bus (N,) the place of every member; of equally near ones the first.
    """
    size = len(bus)
    partners = min(partners, size - 1)
    pairs = [np.zeros((0, 2), int)]
    for place in np.unique(bus):
        # one more than asked for, because everybody is nearest to himself
        near = np.argsort(distance[place, bus], kind="stable")
        for member in np.flatnonzero(bus == place):
            chosen = near[: partners + 1]
            chosen = chosen[chosen != member][:partners]
            pairs.append(np.stack([np.full(partners, member), chosen], 1))
    return np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0)


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
    tail, head = edges[:, 0].tolist(), edges[:, 1].tolist()
    # A pair is the number tail * size + head: sets of numbers are a good deal faster than sets of pairs.
    present = set((edges[:, 0] * size + edges[:, 1]).tolist())
    proposed = (
        draw.integers(len(tail), size=10 * len(tail)).tolist(),
        draw.integers(len(tail), size=10 * len(tail)).tolist(),
        (draw.random(10 * len(tail)) < 0.5).tolist(),
    )
    for first, second, flip in zip(*proposed, strict=True):
        a, b = tail[first], head[first]
        c, d = (head[second], tail[second]) if flip else (tail[second], head[second])
        if a == d or c == b:
            continue
        one = a * size + d if a < d else d * size + a
        two = c * size + b if c < b else b * size + c
        if one in present or two in present or one == two:
            continue
        present.remove(tail[first] * size + head[first])
        present.remove(tail[second] * size + head[second])
        present.add(one)
        present.add(two)
        tail[first], head[first] = divmod(one, size)
        tail[second], head[second] = divmod(two, size)
    pairs = np.sort(np.fromiter(present, int, len(present)))
    return np.stack(np.divmod(pairs, size), axis=1)
