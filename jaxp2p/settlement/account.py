"""Accounts: what every member exchanged with the utility and with its peers, and for how much.

Energies in kWh per slot, money in EUR; what is paid counts above 0, what is received below. Wear, curtailment
and discomfort are costs that a member has with itself: they are carried along, and on no bill.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

BALANCE = 1e-3  # of the energy of the largest slot, by which an account may be off by rounding


@dataclass(frozen=True, kw_only=True, eq=False)
class Account:
    """Of N members in T slots; made and checked by `account_of`."""

    time: pd.DatetimeIndex  # (T,) starts of the slots, by the clock whose days are billed
    members: tuple[str, ...]
    price_buy: np.ndarray  # (T,) EUR/kWh of the utility
    price_sell: np.ndarray  # (T,) EUR/kWh
    bought: np.ndarray  # (T, N) kWh from the utility
    sold: np.ndarray  # (T, N) kWh to the utility
    taken: np.ndarray  # (T, N) kWh bought from peers
    given: np.ndarray  # (T, N) kWh sold to peers
    paid: np.ndarray  # (T, N) EUR for what was taken
    received: np.ndarray  # (T, N) EUR for what was given
    fees: np.ndarray  # (T, N) EUR, of the market
    losses: np.ndarray  # (T, N) EUR, of the network, bought from the utility
    tightness: np.ndarray  # (T, N) EUR/kWh that limits of the grid take off the price of an injection
    congestion: np.ndarray  # (T, N) EUR, what a rule makes of it; sums to 0 in every slot
    own: np.ndarray  # (T, N) EUR of wear, curtailment and discomfort; on no bill

    @property
    def net(self) -> np.ndarray:
        """(T, N) kWh injected, through the meter."""
        return self.sold - self.bought + self.given - self.taken

    @property
    def alone(self) -> np.ndarray:
        """(T, N) EUR that the same injections would cost with the utility alone."""
        net = self.net
        return self.price_buy[:, None] * np.maximum(-net, 0) - self.price_sell[:, None] * np.maximum(net, 0)

    @property
    def due(self) -> np.ndarray:
        """(T, N) EUR that every member pays in all."""
        with_utility = self.price_buy[:, None] * self.bought - self.price_sell[:, None] * self.sold
        return with_utility + self.paid - self.received + self.fees + self.losses + self.congestion

    @property
    def rent(self) -> np.ndarray:
        """(T,) EUR of congestion: the prices of all limits times how much of them is used."""
        return (self.tightness * self.net).sum(1)


def account_of(time: pd.DatetimeIndex, members: tuple[str, ...], **arrays: np.ndarray) -> Account:
    """The account, with what is missing as 0. Raises ValueError where it does not close.

    Needed are the two prices, bought, sold, taken and given. In every slot peers must have given what they
    took, and received what they paid, but for rounding, which is taken off.
    """
    shape = len(time), len(members)
    zeros = dict.fromkeys(("paid", "received", "fees", "losses", "tightness", "congestion", "own"))
    whole = {
        name: np.zeros(shape) if values is None else np.asarray(values, float)
        for name, values in (zeros | arrays).items()
    }
    faults = [
        f"{name} has the shape {values.shape}, not {shape[: values.ndim]}"
        for name, values in whole.items()
        if values.shape != (shape[:1] if name.startswith("price") else shape)
    ]
    faults += [f"{name} holds what is no number" for name, v in whole.items() if not np.isfinite(v).all()]
    if not faults:
        made = Account(time=time, members=members, **whole)
        for words, ins, outs in (
            ("kWh are given and taken among peers", made.given, made.taken),
            ("EUR are received and paid among peers", made.received, made.paid),
        ):
            off = np.abs(ins.sum(1) - outs.sum(1))
            room = BALANCE * max(1e-3, float(np.abs(outs).sum(1).max(initial=0)))
            if (slots := np.flatnonzero(off > room)).size:
                faults.append(f"different {words} in slot {time[slots[0]]} and {slots.size - 1} more")
    if faults:
        raise ValueError("no account can be made: " + "; ".join(faults))
    return replace(made, received=_closed(made.received, made.paid.sum(1)))


def _closed(received: np.ndarray, paid: np.ndarray) -> np.ndarray:
    """(T, N) EUR that sum to what was paid (T,): float32 leaves cents where a plant sells for millions.

    What is left over goes to those who received, in proportion.
    """
    size = np.abs(received)
    whole = size.sum(1)
    left = np.where(whole > 0, paid - received.sum(1), 0) / np.where(whole > 0, whole, 1)
    return received + left[:, None] * size
