"""Rounding that keeps the total."""

import numpy as np
import pytest

from jaxp2p.data.apportion import apportioned


def test_cents_by_hand():
    # 10 EUR among three: 3.33 each leaves a cent, which the first of equals gets
    assert apportioned(np.full(3, 10 / 3), 0.01).tolist() == [334, 333, 333]
    assert apportioned(np.array([0.006, -0.006]), 0.01).tolist() == [1, -1]
    assert apportioned(np.array([0.29, 0.57]), 0.01).tolist() == [29, 57]  # 0.29 / 0.01 is below 29


def test_a_zero_stays_zero_while_others_lose_more():
    assert apportioned(np.array([0.0, 0.7, 0.3]), 1).tolist() == [0, 1, 0]


@pytest.mark.parametrize("seed", range(5))
def test_totals_are_kept_and_nobody_moves_by_a_unit(seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(200, 37)) * 10.0 ** rng.integers(-3, 5, (200, 1))
    whole = apportioned(values, 0.01)
    assert (whole.sum(1) == np.rint(values.sum(1) / 0.01)).all()
    assert np.abs(whole - values / 0.01).max() < 1 + 1e-6


def test_money_that_closes_stays_closed():
    rng = np.random.default_rng(9)
    paid = rng.normal(size=(100, 12))
    paid -= paid.mean(1, keepdims=True)
    assert (apportioned(paid, 0.01, total=np.zeros(100)).sum(1) == 0).all()


def test_refusals():
    with pytest.raises(ValueError, match="finite"):
        apportioned(np.array([1.0, np.nan]), 1)
    with pytest.raises(ValueError, match="total"):
        apportioned(np.array([1.0, 1.0]), 1, total=np.array(5))
