"""Shapley values of a pool game: exact by all coalitions, or from random orders with what they may be off by.

    phi_i = mean over all orders of v(those before i and i) - v(those before i)

(Shapley 1953). An order costs as much as one coalition per member, by running sums of powers. Every order
is taken together with its reverse (Castro, Gomez and Tejada 2009; Mitchell, Cooper, Frank and Holmes 2022):
two orders of which one is the other's reverse give every game that is quadratic in the members exactly, so
that a quadratic control variate has nothing to add, and the reverse comes at the price of one subtraction.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

from jaxp2p.fairness.game import BLOCK, MOST_ENUMERATED, PoolGame, all_coalitions
from jaxp2p.settings.fairness import Fairness

ROUND = 64  # pairs of orders from one look at the error to the next
CONFIDENCE = 0.95

Progress = Callable[[int, int], None]  # orders done, and as many as there will be at most, or likely


class Shapley(NamedTuple):
    """Values in EUR that sum to v(N), and how sure they are."""

    value: np.ndarray  # (N,)
    half_width: np.ndarray  # (N,) of the 95 % interval; 0 where exact
    permutations: int  # 0: exact
    total: float  # v(N)

    @property
    def exact(self) -> bool:
        """Whether all coalitions were counted."""
        return self.permutations == 0

    @property
    def error(self) -> float:
        """The stated error: half-widths of all members together as share of the total benefit."""
        return float(self.half_width.sum() / self.total) if self.total > 0 else 0.0

    @property
    def largest_error(self) -> float:
        """The widest half-width as share of the total benefit."""
        return float(self.half_width.max(initial=0) / self.total) if self.total > 0 else 0.0


def shapley(
    game: PoolGame,
    *,
    error: float = Fairness.error,
    permutations: int = Fairness.permutations,
    seed: int = Fairness.seed,
    progress: Progress | None = None,
) -> Shapley:
    """Exact for up to 16 members, else `sampled`."""
    if game.members <= MOST_ENUMERATED:
        return enumerated(game)
    return sampled(game, error=error, permutations=permutations, seed=seed, progress=progress)


def enumerated(game: PoolGame) -> Shapley:
    """phi_i = sum over S without i of |S|! (N - |S| - 1)! / N! (v(S and i) - v(S)), exactly.

    Raises ValueError beyond 20 members, of which there are a million coalitions.
    """
    size = game.members
    if size > 20:
        raise ValueError(f"{size} members have too many coalitions to look at all; sample orders of them")
    masks = all_coalitions(size)
    worth, others = game.values(masks), masks.sum(1)
    chance = np.array([1 / (size * math.comb(size - 1, k)) for k in range(size)])
    value = np.empty(size)
    for i in range(size):
        without = np.flatnonzero(~masks[:, i])
        value[i] = chance[others[without]] @ (worth[without + (1 << i)] - worth[without])
    return Shapley(_closing(value, game.total), np.zeros(size), 0, game.total)


def sampled(
    game: PoolGame,
    *,
    error: float = Fairness.error,
    permutations: int = Fairness.permutations,
    seed: int = Fairness.seed,
    progress: Progress | None = None,
    block: int | None = None,
) -> Shapley:
    """Means over random orders and their reverses, until the stated error is small enough.

    error: half-widths of the 95 % intervals of all members together, as share of v(N). permutations: at most,
    rounded up to whole rounds of 128. The orders depend on the seed only; block: pairs in memory at a time,
    which changes nothing but rounding. Raises ValueError for an error or a number that is not above zero.
    """
    if not error > 0 or permutations < 1:
        raise ValueError(f"error {error:g} and permutations {permutations} must be above zero")
    orders, inner, size = np.random.default_rng(seed), game.slots, game.members
    block = block or max(BLOCK // (8 * max(len(inner.weight), 1)), 1)
    rounds = -(-permutations // (2 * ROUND))
    mean, spread, pairs = np.zeros(size), np.zeros(size), 0
    for done in range(1, rounds + 1):
        order = np.array([orders.permutation(size) for _ in range(ROUND)])
        gains = np.concatenate([_marginals(inner, order[i : i + block]) for i in range(0, ROUND, block)])
        # Chan, Golub and LeVeque 1983: sums of squares about the mean, joined
        fresh = gains.mean(0)
        away = fresh - mean
        spread += ((gains - fresh) ** 2).sum(0) + away**2 * pairs * ROUND / (pairs + ROUND)
        pairs += ROUND
        mean = mean + away * ROUND / pairs
        deviation = np.sqrt(spread / (pairs - 1) / pairs)
        quantile = float(student.ppf((1 + CONFIDENCE) / 2, pairs - 1))
        found = Shapley(_closing(mean, game.total), quantile * deviation, 2 * pairs, game.total)
        if progress is not None:
            likely = math.ceil(done * (found.error / error) ** 2)  # errors fall with the square root
            progress(2 * pairs, 2 * ROUND * min(max(likely, done), rounds))
        if found.error <= error:
            break
    return found


def _marginals(game: PoolGame, order: np.ndarray) -> np.ndarray:
    """(P, N) EUR that each member adds, in the mean over every order of (P, N) and its reverse.

    With X_k the power of the first k members, the order leaves |X_k| over and its reverse |X_N - X_k|.
    """
    pairs, size = order.shape
    rows = np.ascontiguousarray(game.power.T)  # (N, T)
    whole, before = game.power.sum(1), np.zeros((pairs, len(game.weight)))
    left = np.zeros((size + 1, pairs))  # over after k members of the order, less that of those that follow
    for k in range(size + 1):
        left[k] = (np.abs(before) - np.abs(whole - before)) @ game.weight
        if k < size:
            before += rows[order[:, k]]
    gains = np.empty((pairs, size))
    np.put_along_axis(gains, order, np.diff(left, axis=0).T / 4, axis=1)
    return game.gross - gains


def _closing(value: np.ndarray, total: float) -> np.ndarray:
    """Values that sum to the total to the last digit that rounding left: each moves by its share of it."""
    short, size = total - value.sum(), np.abs(value).sum()
    return value if size == 0 else value + short * np.abs(value) / size
