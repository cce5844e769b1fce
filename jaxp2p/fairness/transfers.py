"""Transfers between members that make another split of what a market made, on top of its bills.

A member with the benefit b_i is to have the share a_i of them all: it receives a_i sum_j b_j - b_i, in
cents that sum to zero (`jaxp2p.data.apportion`). The shares are of what the market made, which is v(N)
where it brought together all that could be set off, and less where limits of trades or of the grid kept
some of it apart.
"""

import numpy as np

from jaxp2p.data.apportion import apportioned

CENT = 0.01  # EUR


def equal_shares(members: int) -> np.ndarray:
    """(N,) the same for everybody."""
    return np.full(members, 1 / members)


def shares_of(value: np.ndarray) -> np.ndarray:
    """(N,) of a solution in EUR (Shapley values, payoffs of the least core); equal where it has nothing."""
    value = np.asarray(value, float)
    return value / value.sum() if value.sum() > 0 else equal_shares(len(value))


def transfers(benefit: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """(N,) whole cents that members receive, negative where they pay; they sum to 0.

    benefit (N,) in EUR, shares (N,) that sum to 1; ValueError where they do not, or are not as many.
    """
    benefit, shares = np.asarray(benefit, float), np.asarray(shares, float)
    if shares.shape != benefit.shape:
        raise ValueError(f"{benefit.size} members have {shares.size} shares")
    if abs(shares.sum() - 1) > 1e-9:
        raise ValueError(f"shares of a benefit sum to 1, these to {shares.sum():g}")
    return apportioned(shares * benefit.sum() - benefit, CENT, total=np.zeros(()))
