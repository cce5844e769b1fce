"""Measures of how a benefit is spread over members, in EUR against what they would pay otherwise."""

from typing import NamedTuple

import numpy as np

WORSE_OFF_EUR, WORSE_OFF_SHARE = 1e-3, 1e-4  # loss over the run that still counts as none (rounding)


class Measures(NamedTuple):
    """Benefit of a community and its spread; EUR, positive where a member pays less."""

    benefit_eur: float  # of all together
    benefit_mean_eur: float
    benefit_median_eur: float
    benefit_min_eur: float  # of who is worst off
    benefit_max_eur: float
    worse_off_share: float  # of the members
    worse_off_eur: float  # what they lose, together
    benefit_gini: float | None


def measures(benefit: np.ndarray, otherwise: np.ndarray) -> Measures:
    """Of benefits (N,) against bills (N,) otherwise, both in EUR; the bills say what is mere rounding."""
    lost = worse_off(benefit, otherwise)
    return Measures(
        benefit_eur=float(benefit.sum()),
        benefit_mean_eur=float(benefit.mean()),
        benefit_median_eur=float(np.median(benefit)),
        benefit_min_eur=float(benefit.min()),
        benefit_max_eur=float(benefit.max()),
        worse_off_share=float(lost.mean()),
        worse_off_eur=float(-benefit[lost].sum()) if lost.any() else 0.0,
        benefit_gini=gini(benefit),
    )


def worse_off(benefit: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """(N,) bool: who loses more than rounding, 0.1 cents and 0.01 % of the bill otherwise."""
    return benefit < -np.maximum(WORSE_OFF_EUR, WORSE_OFF_SHARE * np.abs(otherwise))


def gini(values: np.ndarray) -> float | None:
    """Gini coefficient, 0 = all alike; with gains and losses the mean of |values| keeps it within 0 to 1.

    None where all values are (nearly) zero. Raffinetti, Siletti, Vernizzi 2015 for the negative values.
    """
    ordered = np.sort(np.asarray(values, float))
    size, scale = len(ordered), np.abs(ordered).mean() if len(ordered) else 0.0
    if scale <= 1e-9:
        return None
    rank = 2 * np.arange(1, size + 1) - size - 1
    return float(rank @ ordered / (size**2 * scale))


def lorenz(values: np.ndarray) -> np.ndarray | None:
    """(N + 1,) share of the sum that the k members with least have, k = 0 to N; None where it is not above 0.

    Lorenz 1905. Losses make it begin below zero.
    """
    ordered = np.sort(np.asarray(values, float))
    if not ordered.sum() > 0:
        return None
    return np.concatenate([[0], np.cumsum(ordered)]) / ordered.sum()
