"""Is it a price per kWh in EUR? Judged by the typical price, so that scarce hours at a market's cap pass.

A tariff asks some 0.05 to 1 EUR/kWh in the median of its slots; wholesale prices have 0.005 and more. Given
in ct/kWh or EUR/MWh the median is far beyond. What a series must be divided by is what brings its median
back.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxp2p.data.faults import Fault

TYPICAL_MAX = 1.0  # EUR/kWh: highest median of a tariff
DEAR_SHARE = 0.25  # of the slots may be above it: days of scarcity, not another unit
SPIKE_MAX = 100.0  # EUR/kWh: no market has a higher cap; balancing energy in Europe has this one
TARIFF_MIN = 0.05  # EUR/kWh: a highest price of all below is more than cheap
LOWEST_MAX = 0.005  # EUR/kWh: and below this one it is no price of energy
WHOLESALE_MIN = 0.03  # EUR/kWh: median of a usual wholesale market

UNITS = ((100.0, "ct/kWh"), (1000.0, "EUR/MWh"), (100_000.0, "ct/MWh"))


class PriceFigures(NamedTuple):
    """What one column of prices is judged by, in the unit that it has. NaN where there are no prices."""

    typical: float  # median of the absolute values
    high: float  # largest value
    dear: float  # share of the slots above TYPICAL_MAX in absolute value


def price_figures(values: np.ndarray) -> PriceFigures:
    """The figures of a column (T,)."""
    values = values[np.isfinite(values)]
    if not values.size:
        return PriceFigures(np.nan, np.nan, np.nan)
    size = np.abs(values)
    return PriceFigures(float(np.median(size)), float(values.max()), float((size > TYPICAL_MAX).mean()))


def price_judgements(
    prices: pd.DataFrame, whole: dict[str, PriceFigures] | None = None
) -> tuple[list[Fault], list[Fault]]:
    """What is not plausible, and what is only unusual.

    whole: figures by column of the whole data that `prices` are a part of; by default those of `prices`.
    """
    columns = ("buy_eur_per_kwh", "sell_eur_per_kwh")
    figures = whole or {column: price_figures(prices[column].to_numpy(float)) for column in columns}
    buy, sell = (figures[column] for column in columns)
    faults, remarks = [], []
    for column in columns:
        values, own = prices[column].to_numpy(float), figures[column]
        size = np.abs(np.where(np.isfinite(values), values, 0.0))
        if own.typical > TYPICAL_MAX or own.dear > DEAR_SHARE:
            if not (size > TYPICAL_MAX).any():
                continue  # of another part of the data
            row = int((size > TYPICAL_MAX).argmax())
            what = (
                f"the typical price is {own.typical:.4g} EUR/kWh"
                if own.typical > TYPICAL_MAX
                else f"{100 * own.dear:.0f} % of the prices are above {TYPICAL_MAX:g} EUR/kWh"
            )
            level = own.typical if own.typical > TYPICAL_MAX else float(np.median(size[size > TYPICAL_MAX]))
            text = f"{values[row]:g} EUR/kWh; {what}, which is not plausible; {_unit_hint(level, buy, sell)}"
            faults.append(Fault("prices", column, row + 1, text, "price_high"))
        elif size.max(initial=0.0) > SPIKE_MAX:
            row = int((size > SPIKE_MAX).argmax())
            text = f"{values[row]:g} EUR/kWh is not plausible: no market goes beyond {SPIKE_MAX:g} EUR/kWh"
            faults.append(Fault("prices", column, row + 1, text, "price_spike"))
        elif (size > TYPICAL_MAX).any():
            count, row = int((size > TYPICAL_MAX).sum()), int(size.argmax())
            slots = "1 slot has" if count == 1 else f"{count} slots have"
            text = (
                f"{slots} a price beyond {TYPICAL_MAX:g} EUR/kWh, the farthest {values[row]:g} EUR/kWh at "
                f"{prices['time'].iloc[row]}; the typical one is {own.typical:.3g}"
            )
            remarks.append(Fault("prices", column, row + 1, text, "price_spike"))
    if 0.0 < buy.high < LOWEST_MAX:
        hint = _low_hint(buy.high)
        text = f"the highest value of all is {buy.high:.3g} EUR/kWh, which is not plausible; {hint}"
        faults.append(Fault("prices", columns[0], None, text, "price_low"))
    elif LOWEST_MAX <= buy.high < TARIFF_MIN:
        text = (
            f"the highest value of all is {buy.high:.3g} EUR/kWh: a wholesale price at most, no tariff "
            "is as low"
            + (
                ". Were prices in ct/kWh divided by 1000? Divide by 100"
                if buy.high >= TARIFF_MIN / 10
                else ""
            )
        )
        remarks.append(Fault("prices", columns[0], None, text, "price_low"))
    return faults, remarks


def fee_hint(value: float) -> str:
    """The units that a fee or cost may have been given in; those that leave a usual one come first."""
    likely = [(by, unit) for by, unit in UNITS[:2] if 0.001 <= abs(value) / by <= TYPICAL_MAX]
    words = [f"{unit} (divide by {by:g}: {value / by:.3g})" for by, unit in reversed(likely)]
    return f"it looks like {' or '.join(words)}" if words else "check the unit"


def _unit_hint(level: float, buy: PriceFigures, sell: PriceFigures) -> str:
    """What to divide by: what makes a tariff of the typical price."""
    strong = [(by, unit) for by, unit in UNITS if TARIFF_MIN <= level / by <= TYPICAL_MAX]
    # 40 may be 40 ct/kWh or, where buying and selling cost about the same, 40 EUR/MWh of a wholesale market
    market = [(by, unit) for by, unit in UNITS if WHOLESALE_MIN <= level / by < TARIFF_MIN]
    alike = buy.typical > 0 and sell.typical >= 0.8 * buy.typical
    likely = sorted(market + strong, reverse=True) if alike else strong
    if not likely:
        likely = [(by, unit) for by, unit in UNITS if LOWEST_MAX <= level / by < WHOLESALE_MIN][:1]
    if not likely:
        return "in no usual unit is it the price of a tariff: check unit and currency"
    words = [f"{unit}: divide by {by:.0f}, typical is {level / by:.3g} then" for by, unit in likely]
    return f"it looks like {', or like '.join(words)}"


def _low_hint(high: float) -> str:
    for by, words in ((1000.0, "it looks like EUR/Wh: multiply by 1000"), (100.0, "multiply by 100?")):
        if TARIFF_MIN <= high * by <= TYPICAL_MAX:
            return words
    return "check the unit"
