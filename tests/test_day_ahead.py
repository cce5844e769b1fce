"""What is published when, by hand."""

import numpy as np
import pandas as pd
import pytest

from jaxp2p.data.day_ahead import published_prices

pytestmark = pytest.mark.slow


def test_a_day_is_known_from_the_afternoon_before():
    """Hourly prices: the hour of the day, and 100 more on the second day."""
    time = pd.Series(pd.date_range("2016-07-04", periods=48, freq="h"))
    price = np.concatenate([np.arange(24.0), 100 + np.arange(24.0)])
    low, high, near = published_prices(time, price).T
    assert (low[3], high[3], near[3]) == (0, 11, 1)  # 3 to 14 h; the mean of 3, 4 and 5 h
    assert (low[12], high[12], near[12]) == (0, 11, 1)  # at 12 h nothing is known of tomorrow
    assert high[13] == 100 - 13 and high[14] == 101 - 14  # at 13 h tomorrow is, 12 h at a time
    assert near[23] == (23 + 100 + 101) / 3 - 23
    assert (low[47], high[47], near[47]) == (0, 0, 0)  # the data end here
    assert near[46] == 0.5


def test_the_hour_of_publication_holds_for_quarter_hours():
    time = pd.Series(pd.date_range("2016-07-04 12:30", periods=96, freq="15min"))
    price = np.arange(96.0)
    high = published_prices(time, price)[:, 1]
    assert high[0] == 45  # until midnight, 11.5 h from 12:30
    assert high[2] == 47  # 12 h from 13:00 on
    assert published_prices(time[:1], price[:1]).tolist() == [[0, 0, 0]]
