"""What a day-ahead market has told of the prices to come.

Prices of a day are published at `PUBLISHED` o'clock of the day before. Of the prices known in a slot, the
present one included, three numbers are kept, each less the present price:

    lowest and highest of the next 12 h,   mean of the next 3 h.

Only controllers that are tuned to follow them look at them; whether prices are published is for the user to
know. No price beyond the last row counts as known.
"""

import numpy as np
import pandas as pd

PUBLISHED = 13  # o'clock
FAR_HOURS, NEAR_HOURS = 12, 3


def published_prices(time: pd.Series, price: np.ndarray) -> np.ndarray:
    """(T, 3) EUR/kWh from time stamps and buying prices (T,) in equal steps."""
    moment, total = pd.DatetimeIndex(time), len(price)
    step = moment[1] - moment[0] if total > 1 else pd.Timedelta(hours=1)
    days = np.where(moment.hour >= PUBLISHED, 2, 1)
    until = moment.normalize() + pd.to_timedelta(days, unit="D")  # first moment that nobody knows
    known = np.minimum(np.asarray((until - moment) / step).round().astype(int), total - np.arange(total))
    low, high, mean, count = price.copy(), price.copy(), np.zeros(total), np.zeros(total)
    for ahead in range(max(1, round(pd.Timedelta(hours=FAR_HOURS) / step))):
        rows = np.flatnonzero(known > ahead)
        later = price[rows + ahead]
        low[rows], high[rows] = np.minimum(low[rows], later), np.maximum(high[rows], later)
        if ahead * step < pd.Timedelta(hours=NEAR_HOURS):
            mean[rows] += later
            count[rows] += 1
    return np.stack([low, high, mean / count], axis=1) - price[:, None]
