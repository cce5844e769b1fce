"""The game that members of a pool play with what passed their meters.

A member alone buys at b and sells at s. A coalition S sets its members' powers off against each other, pays
the fee g for what it exchanges inside, and deals with the utility for the rest. With net powers p_it (sold
less bought, of a run) its benefit against everybody alone is

    v(S) = sum_t w_t min(sum_S p_it^+, sum_S p_it^-)                    w_t = dt max(b_t - s_t - g, 0)
         = sum_t w_t / 2 (sum_S |p_it| - |sum_S p_it|)

so that many coalitions at once are a product of matrices. The dispatch is that of the run, in which storage
was operated for all: v says what the members' powers are worth to each other, and not what a coalition
would have done with its batteries. What flows in the grid is the same for every coalition, so its limits
hold as in the run.

In every slot v is the smaller of two sums over members, and such games, and sums of them, are totally
balanced (Shapley and Shubik 1969; Kalai and Zemel 1982): the core is not empty. `core_payoff` is in it.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

MOST_ENUMERATED = 16  # members whose coalitions are all looked at
BLOCK = 4_000_000  # numbers in memory at a time: coalitions times slots


@dataclass(frozen=True, eq=False)
class PoolGame:
    """Worth of exchange and powers: `power` (T, N) in kW, positive where sold; `weight` (T,) in EUR/kW."""

    weight: np.ndarray
    power: np.ndarray

    @classmethod
    def of(
        cls,
        power: np.ndarray,
        price_buy: np.ndarray,
        price_sell: np.ndarray,
        *,
        hours: float,
        fee: float = 0.0,
    ) -> "PoolGame":
        """The game of net powers (T, N) in kW; prices (T,) and fee in EUR/kWh, hours of a slot.

        Raises ValueError for shapes that do not fit, and for numbers that are not finite.
        """
        power, buy, sell = (np.asarray(x, float) for x in (power, price_buy, price_sell))
        if power.ndim != 2 or buy.shape != sell.shape or buy.shape != power.shape[:1]:
            raise ValueError(f"powers {power.shape} are (slots, members), prices {buy.shape} are (slots,)")
        if not all(np.isfinite(x).all() for x in (power, buy, sell, hours, fee)):
            raise ValueError("powers, prices, fee and hours of a game must be finite")
        return cls(hours * np.maximum(buy - sell - fee, 0), power)

    @property
    def members(self) -> int:
        """N."""
        return self.power.shape[1]

    @cached_property
    def slots(self) -> "PoolGame":
        """The same game without the slots that are worth nothing to anybody: no spread, or one side only."""
        both = (self.power.max(1, initial=0) > 0) & (self.power.min(1, initial=0) < 0)
        keep = both & (self.weight > 0)
        return PoolGame(self.weight[keep], np.ascontiguousarray(self.power[keep]))

    @cached_property
    def gross(self) -> np.ndarray:
        """(N,) EUR sum_t w_t |p_it| / 2: what v would be if nothing were left over."""
        return self.weight @ np.abs(self.power) / 2

    @cached_property
    def total(self) -> float:
        """EUR v(N), of all members together."""
        return float(self.values(np.ones((1, self.members), bool))[0])

    def values(self, masks: np.ndarray) -> np.ndarray:
        """(M,) EUR v of the coalitions (M, N), bool."""
        game, masks = self.slots, np.asarray(masks, float)
        rows = max(BLOCK // max(len(game.weight), 1), 1)
        left = [np.abs(masks[i : i + rows] @ game.power.T) @ game.weight for i in range(0, len(masks), rows)]
        worth = masks @ game.gross - np.concatenate([*left, np.zeros(0)]) / 2
        return np.maximum(worth, 0)  # of one member alone it is zero, and not what rounding leaves of it

    def core_payoff(self) -> np.ndarray:
        """(N,) EUR that the marginal price gives: in every slot the short side has all of the benefit.

        It is in the core: sum_S of the short side's powers is at least min(sum_S p^+, sum_S p^-). Where both
        sides are equal every price between supports it, and each side has half.
        """
        sold, bought = np.maximum(self.power, 0), np.maximum(-self.power, 0)
        supply, demand = sold.sum(1), bought.sum(1)
        share = np.where(np.isclose(supply, demand, rtol=1e-9, atol=0), 0.5, supply < demand)
        return (self.weight * share) @ sold + (self.weight * (1 - share)) @ bought


def all_coalitions(members: int) -> np.ndarray:
    """(2^N, N) bool: the coalition with the number k has the members of k's binary digits, lowest first."""
    return (np.arange(2**members)[:, None] >> np.arange(members)) % 2 == 1
