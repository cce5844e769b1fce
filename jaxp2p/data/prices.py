"""Synthetic tariffs: documented shapes, not measurements. Bring your own `prices` table for real ones.

- `tou`: time of use. Buying costs 0.22 EUR/kWh at night (22 to 6 h), 0.30 by day and 0.40 in the evening (17
  to 21 h); 0.27 by day and 0.32 in the evening of a weekend. Feed-in earns 0.08 EUR/kWh.
- `tou_noise`: `tou` times 1 + 3 % first-order autoregressive noise (correlation time 3 h), both prices alike.
- `dynamic`: shaped like a day-ahead market. A seasonal level with a morning and an evening peak, a midday dip
  that grows with the height of the sun and a daily sunshine factor, cheaper weekends and 12 % autoregressive
  noise (correlation time 6 h), held for an hour. Spot prices go below zero on sunny summer weekends.
  Selling earns spot - 0.005; buying costs 1.19 (spot + 0.13), for fees, levies and value added tax.

Random numbers are drawn per calendar day from a generator keyed by seed and date, so a window of the data
sees exactly the prices that the full year has on the same days.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

PRICES = {
    "tou": "time of use: 0.22 to 0.40 EUR/kWh, feed-in 0.08 EUR/kWh (synthetic)",
    "tou_noise": "time of use with 3 % autoregressive noise (synthetic)",
    "dynamic": "day-ahead like, hourly, sometimes negative at midday (synthetic)",
}

_NOISE, _SUNSHINE = 1, 2  # streams of random numbers, so that one does not shift the other
_WARM_UP_DAYS = 2  # the noise of a day depends on this many days before it, and on nothing earlier


def make_prices(time: pd.Series, kind: str = "tou", *, seed: int = 0) -> pd.DataFrame:
    """The `prices` table of a synthetic tariff at the given time stamps (naive datetime64).

    Raises:
        ValueError: unknown kind.
    """
    if kind not in PRICES:
        raise ValueError(f"unknown price {kind!r}; there are {', '.join(PRICES)}")
    time = pd.Series(pd.DatetimeIndex(time))
    buy, sell = _dynamic(time, seed) if kind == "dynamic" else _time_of_use(time)
    if kind == "tou_noise":
        factor = 1.0 + 0.03 * _noise(time, seed, hours=3.0, held=None)
        buy, sell = buy * factor, sell * factor
    return pd.DataFrame({"time": time, "buy_eur_per_kwh": buy, "sell_eur_per_kwh": sell})


def _time_of_use(time: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    hour = time.dt.hour.to_numpy()
    weekend = time.dt.day_of_week.to_numpy() >= 5
    night = (hour < 6) | (hour >= 22)
    evening = (hour >= 17) & (hour < 21)
    buy = np.where(evening, np.where(weekend, 0.32, 0.40), np.where(weekend, 0.27, 0.30))
    buy = np.where(night, 0.22, buy)
    return buy, np.full(len(time), 0.08)


def _dynamic(time: pd.Series, seed: int) -> tuple[np.ndarray, np.ndarray]:
    time = time.dt.floor("h")
    hour = time.dt.hour.to_numpy()
    weekend = time.dt.day_of_week.to_numpy() >= 5
    season = np.cos(2 * np.pi * (time.dt.day_of_year.to_numpy() - 15) / 365.25)  # 1 in mid January
    sun = 0.55 - 0.45 * season  # height of the sun at noon, from 0.1 in winter to 1 in summer
    level = 0.085 + 0.02 * season - 0.012 * weekend
    peaks = 0.035 * np.exp(-(((hour - 8) / 2.0) ** 2)) + 0.055 * np.exp(-(((hour - 19) / 2.2) ** 2))
    night = 0.02 * np.exp(-(((hour - 3) / 2.5) ** 2))
    dip = 0.085 * sun * _sunshine(time, seed) * np.exp(-(((hour - 13) / 2.6) ** 2))
    noise = 1.0 + 0.12 * _noise(time, seed, hours=6.0, held=24)
    spot = (level + peaks - night) * noise - dip
    sell = spot - 0.005
    return np.maximum(1.19 * (spot + 0.13), sell), sell


def _days(time: pd.Series) -> np.ndarray:
    """Days since 1970 of every time stamp."""
    return time.to_numpy("datetime64[D]").astype(int)


def _draws(seed: int, day: int, stream: int, size: int) -> np.ndarray:
    # Days before 1970 are negative, which a seed must not be.
    return np.random.default_rng([seed, stream, day + 1_000_000]).standard_normal(size)


def _sunshine(time: pd.Series, seed: int) -> np.ndarray:
    """A factor per day between 0.3 and 1.4."""
    days, position = np.unique(_days(time), return_inverse=True)
    factor = np.array([1.0 + 0.35 * _draws(seed, int(day), _SUNSHINE, 1)[0] for day in days])
    return np.clip(factor, 0.3, 1.4)[position]


def _noise(time: pd.Series, seed: int, *, hours: float, held: int | None) -> np.ndarray:
    """First-order autoregressive noise of unit variance, cut at three standard deviations.

    The recursion is written as a moving average over the last `_WARM_UP_DAYS` days, which makes the value of
    a slot a function of its date alone. `held` draws that many numbers a day; None draws one per slot.
    """
    seconds = time.to_numpy("datetime64[s]").astype(np.int64)
    step = int(seconds[1] - seconds[0]) if len(seconds) > 1 else 3600
    per_day = held or max(1, -(-86_400 // step))
    days = _days(time)
    first, last = int(days.min()) - _WARM_UP_DAYS, int(days.max())
    drawn = np.concatenate([_draws(seed, day, _NOISE, per_day) for day in range(first, last + 1)])
    keep = np.exp(-24.0 / (per_day * hours))
    weights = np.sqrt(1 - keep**2) * keep ** np.arange(_WARM_UP_DAYS * per_day)
    noise = np.convolve(drawn, weights)[: len(drawn)]
    slot = (seconds % 86_400) * per_day // 86_400
    return np.clip(noise[(days - first) * per_day + slot], -3.0, 3.0)
