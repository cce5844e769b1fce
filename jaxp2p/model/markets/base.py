"""What every market has, and what it can say of itself."""

from abc import ABC, abstractmethod
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jax import Array

from jaxp2p._pytree import record, static


@record
class Market(ABC):
    """Trading graph in padded form: slot k of member i trades with `partner[k, i]`.

    The numbers are the same for all markets, so that whoever only looks at them need not know which one it
    is; what trades mean is in the methods. They take and give arrays: trades (K, N) in kW, sales positive,
    prices in EUR/kWh.
    """

    partner: Array  # (K, N) int32
    reverse: Array  # (K, N) int32
    fee: Array  # (K, N) EUR/kWh, gamma: charged on |e_ij|, half to each side
    limit: Array  # (K, N) kW, e_max
    limited: bool = static(default=True)  # False: no trade has a limit (it may still be closed by limit 0)

    kind: ClassVar[str]  # its name
    words: ClassVar[str]  # as reports say it
    one_price: ClassVar[bool] = False  # one price decides everything, where nothing is limited
    pooled: ClassVar[bool] = False  # all trades meet in one pot

    # ------------------------------------------------------------------ trades

    @abstractmethod
    def project(self, trades: Array) -> Array:
        """Nearest trades that are reciprocal: argmin_a |a - trades|^2."""

    @abstractmethod
    def reciprocal(self, trades: Array, limit: Array) -> Array:
        """Trades near the given ones that are reciprocal and within +-limit (K, N), to be executed."""

    @property
    def dual_shape(self) -> tuple[int, ...]:
        """Of the dual variable of reciprocity in a consensus of trades."""
        return self.fee.shape

    def rest(self, trades: Array) -> Array:
        """What of the trades is not in their projection, as that dual variable has it: its step."""
        return trades - self.project(trades)

    def seen_from_both(self, trade_price: Array) -> Array:
        """One price per trade, bit for bit the same seen from either side."""
        return trade_price

    @abstractmethod
    def handed_on(
        self, trades: Array, injection: Array, over: Array, *, buy_max: Array, sell_max: Array, limit: Array
    ) -> Array:
        """Trades with what is `over` (N,) kW handed on to peers whose own connection has room for it."""

    def passed_on(self, trades: Array, left: Array, absorbs: Array, *, free: Array, limit: Array) -> Array:
        """Reciprocal trades (K, N) that pass on to others what members have left, (N,) kW, and cannot place.

        absorbs (N,): how willingly a member places more or less itself, infinite where any amount is welcome;
        free (K, N) bool: trades with room, the others stay as they are.
        """
        return trades

    # ------------------------------------------------------------------ prices

    @abstractmethod
    def consistent(
        self, price: Array, low: Array, high: Array, *, free: Array, trade_price: Array, alike: bool
    ) -> tuple[Array, ...]:
        """Prices (N,) near `price`, in [low, high], at which no trade with room to grow would pay: a choice.

        free (K, N) bool: who has room; alike: low and high are the same for everybody.
        """

    @abstractmethod
    def difference(self, price: Array, low: Array, high: Array, *, free: Array, trade_price: Array) -> Array:
        """What a member's price is above that of its trades; broadcasts to (K, N)."""

    def fee_of_all(self, spread: Array) -> Array:
        """() the fee where one price decides; beyond the tariffs' `spread` () nobody trades."""
        return spread

    # ------------------------------------------------------------------ programs and bounds

    def reciprocity(self) -> list[sp.csc_matrix]:
        """Per trade slot k the columns of e_k in: reciprocity, as rows of a program."""
        return []

    def imbalance(self, trades: np.ndarray) -> np.ndarray:
        """By how much trades are not reciprocal, kW."""
        return np.abs(trades.sum(1))

    def smallest_fee(self) -> Array:
        """() the smallest fee of an open trade, infinite where there is none."""
        return jnp.min(jnp.where(self.limit > 0, self.fee, jnp.inf))

    def fee_in_pool(self) -> Array:
        """(N,) fees with which a pool bounds this market from below."""
        return self.fee[0]

    def relaxation(self) -> str:
        """Why a pool with the smallest fee may be cheaper than this market, in words; empty: it is not."""
        fees = np.asarray(self.fee)[np.asarray(self.limit) > 0]
        return "of a pool in which all pay the smallest fee" if fees.size and fees.min() < fees.max() else ""
