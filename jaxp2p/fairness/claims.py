"""Coalitions that would gain most by leaving a split: all are looked at, or many are searched for."""

import numpy as np

from jaxp2p.fairness.game import MOST_ENUMERATED, PoolGame, all_coalitions

STARTS = 48  # coalitions that are improved at the same time
SWEEPS = 40  # over the members; a search ends sooner where no member's change helps
LEAST_GAIN = 1e-12  # of v(N), for which a member joins or leaves


def claims(game: PoolGame, value: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Coalitions (M, N), neither none nor all, and their claims v(S) - x(S) (M,) in EUR to the split x (N,).

    All there are among up to 16 members. Among more those that no single member's joining or leaving
    improves, found from random ones: the largest claim is then a lower bound on that of all.
    """
    few = game.members <= MOST_ENUMERATED
    masks = all_coalitions(game.members)[1:-1] if few else _searched(game, value, random)
    return masks, game.values(masks) - masks @ value


def _searched(game: PoolGame, value: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """One member after another joins or leaves where that helps, in an order drawn anew for every sweep."""
    inner, size = game.slots, game.members
    masks = random.random((STARTS, size)) < random.uniform(0, 1, (STARTS, 1))
    masks[~masks.any(1), 0], masks[masks.all(1), 0] = True, False
    rows, count = np.ascontiguousarray(inner.power.T), masks.sum(1)  # (N, T), (M,)
    power = masks @ inner.power.T
    left, own = np.abs(power) @ inner.weight / 2, game.gross - value
    for _ in range(SWEEPS):
        changed = False
        for i in random.permutation(size):
            sign = np.where(masks[:, i], -1, 1)
            moved = power + sign[:, None] * rows[i]
            over = np.abs(moved) @ inner.weight / 2
            gain = sign * own[i] + left - over
            better = (gain > LEAST_GAIN * game.total) & (count + sign > 0) & (count + sign < size)
            masks[better, i] ^= True
            power[better], left[better] = moved[better], over[better]
            count += np.where(better, sign, 0)
            changed |= bool(better.any())
        if not changed:
            break
    return np.unique(masks, axis=0)
