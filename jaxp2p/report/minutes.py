"""What a run costs where meters are read every minute: averages over a slot flatter whoever plans with them.

Within a slot loads and sunshine go up and down, batteries keep the power that was decided for the slot, and
the utility's tariffs apply minute by minute to what is left. As the cost is convex, it is never less than
that of the slot's means. Profiles are refined by factors that have the mean 1 in every slot and member, so
that every slot keeps its energy:

    x_m = x w_m / mean(w),   log w_m an AR(1) process with the standard deviation `spread` and the
                             correlation exp(-1 / 5 min) from minute to minute,

0.6 for loads and 0.15 for PV, which all members share as they share the clouds. These are rounded figures of
what one-minute data of single homes look like; the seed and the spreads are arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.signal import lfilter

from jaxp2p.control.catalogue import ENTRIES
from jaxp2p.model.trajectory import Trajectory
from jaxp2p.model.types import Community, Horizon
from jaxp2p.model.utility import exchange_cost
from jaxp2p.report.kpis import Evaluation, compare

LOAD_SPREAD, PV_SPREAD, CORRELATION = 0.6, 0.15, float(np.exp(-1 / 5))
AT_A_TIME = 96  # slots


def factors(rng: np.random.Generator, slots: int, members: int, minutes: int, spread: float) -> np.ndarray:
    """(slots, minutes, members), above 0, with the mean 1 over the minutes of every slot."""
    noise = rng.standard_normal((slots * minutes, members))
    start = noise[:1] * CORRELATION  # in the stationary state from the first minute on
    scaled = noise * np.sqrt(1 - CORRELATION**2)
    walk, _ = lfilter([1.0], [1.0, -CORRELATION], scaled, axis=0, zi=start)
    weight = np.exp(spread * walk).reshape(slots, minutes, members)
    return weight / weight.mean(1, keepdims=True)


def minute_table(
    community: Community,
    horizon: Horizon,
    trajectories: Mapping[str, Trajectory],
    evaluations: Mapping[str, Evaluation],
    *,
    seed: int = 0,
    load_spread: float = LOAD_SPREAD,
    pv_spread: float = PV_SPREAD,
) -> pd.DataFrame:
    """A row per policy: cost and capture by slots, and with meters that are read every minute.

    Where there is trade, all members settle together, at what the community's connection pays. Perfect
    foresight, by which capture is measured, plans by slots and is settled by minutes like the others; where
    it was not run, there is no capture by minutes. Raises ValueError for slots of no whole number of minutes.
    """
    exact = 60 * float(horizon.slot_hours)
    minutes = round(exact)
    if minutes < 1 or abs(exact - minutes) > 1e-6:
        raise ValueError(f"slots of {exact:g} minutes have no whole number of them")
    figures = {name: one.kpis for name, one in evaluations.items()}
    open_ = np.asarray(community.market.limit) > 0
    fee = float(np.min(np.asarray(community.market.fee), initial=np.inf, where=open_))
    more = dict.fromkeys(trajectories, 0.0)
    rng = np.random.default_rng(seed)
    for first in range(0, horizon.slots, AT_A_TIME):
        part = slice(first, min(first + AT_A_TIME, horizon.slots))
        shape = part.stop - part.start, community.size, minutes
        load, sun = (
            factors(rng, shape[0], width, minutes, spread)
            for width, spread in ((community.size, load_spread), (1, pv_spread))
        )
        for name, trajectory in trajectories.items():
            cut = lambda field, t=trajectory, part=part: np.asarray(getattr(t, field), float)[part][:, None]
            mean = cut("injection")
            fine = mean + cut("pv_used") * (sun - 1) - cut("load") * (load - 1)
            prices = tuple(np.asarray(x, float)[part] for x in (horizon.price_buy, horizon.price_sell))
            alone = name in ENTRIES and not ENTRIES[name].trade
            by_minute, by_slot = (_cost(power, prices, fee, alone) for power in (fine, mean))
            more[name] += float(horizon.slot_hours) * float((by_minute - by_slot).sum())
    ours = {name: {"total_cost_eur": figures[name]["total_cost_eur"] + extra} for name, extra in more.items()}
    fine_figures = compare(ours)
    return pd.DataFrame(
        [
            {
                "policy": name,
                "total_cost_eur": figures[name]["total_cost_eur"],
                "minute_cost_eur": ours[name]["total_cost_eur"],
                "minutes_add_eur": extra,
                "capture": figures[name].get("capture"),
                "minute_capture": fine_figures[name]["capture"],
            }
            for name, extra in more.items()
        ]
    )


def _cost(power: np.ndarray, prices: tuple[np.ndarray, ...], fee: float, alone: bool) -> np.ndarray:
    """(T,) EUR/h, the mean over the minutes (T, M, N) of what all members pay together."""
    buy, sell = (price[:, None] for price in prices)
    if alone:
        net: Any = exchange_cost(
            buy[..., None], sell[..., None], np.maximum(-power, 0), np.maximum(power, 0)
        ).sum(2)
        return net.mean(1)
    supply, demand = np.maximum(power, 0).sum(2), np.maximum(-power, 0).sum(2)
    matched = np.minimum(supply, demand)
    paid = exchange_cost(buy, sell, demand - matched, supply - matched)
    # nobody trades for less than the fee
    worth = np.minimum(fee, buy - sell) if np.isfinite(fee) else buy - sell
    return (paid + worth * matched).mean(1)
