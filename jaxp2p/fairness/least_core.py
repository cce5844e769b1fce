"""The least core of a pool game: nobody could gain much by leaving, in whatever company.

    min e   such that   sum_i x_i = v(N),   x(S) >= v(S) - e   for every coalition S but none and all

(Maschler, Peleg and Shapley 1979). e <= 0 says that the core is not empty, which is so in every pool game
(`game.PoolGame`). Coalitions become rows of the program as they are found to have a claim (row generation,
as in TheoryOfGames.jl), so that e is a lower bound at every step.

Where members are few, all coalitions are looked at until none is missing: e is exact, the payoffs are those
at which the program's solver ends, which are not the only ones. Where they are many a search may overlook a
coalition, and no payoffs that only a search has passed are handed out: they are those of the marginal
price, which is proved to leave every coalition without a claim, so that e lies between the bound and 0. In
a large community that is little: e >= - (v(N) - v(N without i)) / 2 for every member i, or it would leave, or
all others would leave it.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog

from jaxp2p.fairness.claims import claims
from jaxp2p.fairness.game import MOST_ENUMERATED, PoolGame

TOLERANCE = 1e-7  # of v(N), by which a claim must be exceeded to be one
ADDED = 64  # coalitions that become rows at a time


class LeastCore(NamedTuple):
    """Payoffs, and what coalitions can claim: v(S) - x(S), what S would gain by leaving."""

    value: np.ndarray  # (N,) EUR, sum to v(N)
    epsilon: float  # EUR, below which no payoffs bring the largest claim
    claim: float  # EUR, above which no coalition's claim is at these payoffs
    coalitions: int  # that were rows of the program
    total: float  # EUR, v(N)

    @property
    def exact(self) -> bool:
        """Whether epsilon is that of the least core, and these payoffs are in it."""
        return self.claim - self.epsilon <= 10 * TOLERANCE * self.total


def least_core(
    game: PoolGame,
    *,
    error: float = 1e-3,
    rounds: int = 1000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> LeastCore:
    """Row generation; progress(rounds done, rounds at most) hears of it.

    Beyond 16 members: until epsilon is known to a share `error` of v(N), or a search finds no coalition more;
    seed: of its starts. Raises RuntimeError where the linear program is not solved, or rounds run out among
    few members.
    """
    size, total = game.members, game.total
    if size == 1 or total <= 0:
        return LeastCore(np.full(size, total / size), 0.0, 0.0, 0, total)
    few, random = size <= MOST_ENUMERATED, np.random.default_rng(seed)
    # everybody alone, and all but one: with them the program is bounded
    alone = np.eye(size, dtype=bool)
    masks = np.unique(np.concatenate([alone, ~alone]), axis=0)
    for done in range(1, rounds + 1):
        value, epsilon = _program(masks, game.values(masks), total)
        if not few and epsilon >= -error * total:
            break
        found, claim = claims(game, value, random)
        best = np.argsort(-claim, kind="stable")[:ADDED]
        best = best[claim[best] > epsilon + TOLERANCE * total]
        if progress is not None:
            progress(done, rounds)
        if not len(best):
            break
        masks = np.concatenate([masks, found[best]])
    else:
        if few:
            raise RuntimeError(f"the least core was not found in {rounds} rounds")
    if few:
        return LeastCore(value, epsilon, epsilon, len(masks), total)
    return LeastCore(game.core_payoff(), min(epsilon, 0.0), 0.0, len(masks), total)


def _program(masks: np.ndarray, worth: np.ndarray, total: float) -> tuple[np.ndarray, float]:
    """Payoffs and the smallest e for the coalitions (M, N), worth (M,); money as share of the total."""
    size = masks.shape[1]
    answer = linprog(
        np.append(np.zeros(size), 1.0),
        A_ub=-np.concatenate([masks, np.ones((len(masks), 1))], axis=1),
        b_ub=-worth / total,
        A_eq=np.append(np.ones(size), 0.0)[None],
        b_eq=[1.0],
        bounds=(None, None),
        method="highs",
    )
    if not answer.success:
        raise RuntimeError(f"the program of the least core was not solved: {answer.message}")
    return total * answer.x[:size], total * float(answer.x[size])
