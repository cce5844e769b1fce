"""The pool of one slot when the injections are given: a merit order, exact, limits and fee included.

What is left after trading e goes to the utility, r = p - e: sold at s up to sell_max, bought at b up to
buy_max, beyond that spilled at u - s or short at b + u (u is the unserved price, on top of the tariffs). So
the first kWh that a member sells to the pool costs s - u (it would be spilled), then s, then b (it is bought
for a peer), and a kWh bought from the pool saves b + u, then b, then s (it is sold on). These prices are the
same for all: a slot is cleared by matching the cheapest sales with the dearest purchases as long as that
pays for the fee.
"""

from typing import NamedTuple

import numpy as np

from jaxp2p.hindsight.horizon_data import HorizonData
from jaxp2p.model import utility


class Offers(NamedTuple):
    """What every member can sell to and buy from the pool, in the order of `merit_order`."""

    sale: tuple[np.ndarray, np.ndarray, np.ndarray]  # (T, N) kW each
    purchase: tuple[np.ndarray, np.ndarray, np.ndarray]  # (T, N) kW each


def merit_order(data: HorizonData) -> tuple[np.ndarray, np.ndarray]:
    """(3, T) EUR/kWh: what the segments of a sale cost, and what those of a purchase save."""
    buy, sell, unserved = data.price_buy, data.price_sell, data.unserved_price
    return np.stack([sell - unserved, sell, buy]), np.stack([buy + unserved, buy, sell])


def segments(data: HorizonData, injection: np.ndarray, cap: np.ndarray) -> Offers:
    """Lengths of the segments at these injections (T, N); `cap` (T, 1) kW stands for no limit."""
    out, need = np.maximum(injection, 0), np.maximum(-injection, 0)
    sell_max, buy_max = np.minimum(data.sell_max, cap), np.minimum(data.buy_max, cap)
    sold, bought = np.minimum(out, sell_max), np.minimum(need, buy_max)
    limit = np.broadcast_to(np.minimum(data.trade_limit if data.trading else 0.0, cap), injection.shape)
    return Offers(
        sale=_within(limit, out - sold, sold, buy_max - bought),
        purchase=_within(limit, need - bought, bought, sell_max - sold),
    )


def _within(limit, *parts):
    """The parts one after the other until `limit` is used up."""
    kept = []
    for part in parts:
        kept.append(np.minimum(part, limit))
        limit = limit - kept[-1]
    return tuple(kept)


def clear(data: HorizonData, injection: np.ndarray) -> np.ndarray:
    """The cheapest trades (T, N) kW at these injections: net sales to peers, summing to 0 in every slot."""
    if not data.trading:
        return np.zeros(injection.shape)
    cap = 1 + np.abs(injection).sum(1, keepdims=True)
    offers, (costs, savings) = segments(data, injection, cap), merit_order(data)
    sale, purchase = (np.stack([part.sum(1) for part in side]) for side in offers)  # (3, T)
    sale_end, purchase_end = np.cumsum(sale, 0), np.cumsum(purchase, 0)
    volume = np.zeros(len(injection))
    for i in range(3):
        for j in range(3):
            begin = np.maximum(sale_end[i] - sale[i], purchase_end[j] - purchase[j])
            overlap = np.maximum(np.minimum(sale_end[i], purchase_end[j]) - begin, 0)
            volume += np.where(savings[j] - costs[i] > data.fee, overlap, 0.0)
    out, into = (
        sum(part * _share(volume - (end - total), total)[:, None] for part, end, total in zip(*side))
        for side in ((offers.sale, sale_end, sale), (offers.purchase, purchase_end, purchase))
    )
    return out - into


def _share(volume: np.ndarray, total: np.ndarray) -> np.ndarray:
    """(T,) of a segment that this volume takes."""
    return np.divide(np.clip(volume, 0, total), total, out=np.zeros(len(total)), where=total > 0)


def exchange(data: HorizonData, rest: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """buy, sell and unserved (T, N) kW where the utility is to take `rest`; unserved is > 0 where short."""
    sell = np.minimum(np.maximum(rest, 0), data.sell_max)
    buy = np.minimum(np.maximum(-rest, 0), data.buy_max)
    return buy, sell, sell - buy - rest


def exchange_cost(data: HorizonData, buy: np.ndarray, sell: np.ndarray, unserved: np.ndarray) -> np.ndarray:
    """(T, N) EUR/h, what is unserved included."""
    tariffs = data.price_buy[:, None], data.price_sell[:, None]
    return utility.exchange_cost(*tariffs, buy, sell) + unserved_cost(data, unserved)


def unserved_cost(data: HorizonData, unserved: np.ndarray) -> np.ndarray:
    """(T, N) EUR/h: u beyond the tariffs, b + u for a kWh that is short and u - s for one that is spilled."""
    short, spilled = np.maximum(unserved, 0), np.maximum(-unserved, 0)
    tariffs = data.price_buy[:, None], data.price_sell[:, None]
    return utility.beyond_cost(*tariffs, data.unserved_price, short, spilled)


def worth_of_fixed(data: HorizonData, injection: np.ndarray, price: np.ndarray) -> np.ndarray:
    """mu (T, N) EUR/kWh of a member whose injection is given, at the pool's prices (T,).

    The market takes sell_max 1[mu < s] - buy_max 1[mu > b] - e_max sign(mu - pi) 1[|mu - pi| > gamma / 2];
    mu is where that falls below p.
    """
    shape, half = injection.shape, data.fee / 2
    wide = lambda x: np.broadcast_to(x, shape)
    buy, sell, pool = (wide(x[:, None]) for x in (data.price_buy, data.price_sell, price))
    cap = 1 + np.abs(injection).sum(1, keepdims=True)
    limits = (np.minimum(x, 2 * cap) for x in (data.buy_max, data.sell_max, data.trade_limit))
    buy_max, sell_max, trade = (wide(x) for x in limits)
    trade = trade if data.trading else np.zeros(shape)
    steps = ((sell, sell_max), (pool - half, trade), (pool + half, trade), (buy, buy_max))
    worth = buy + data.unserved_price
    for place, _ in steps:
        supply = injection - sell_max - trade
        for other, size in steps:
            supply = supply + np.where(other <= place, size, 0.0)
        worth = np.where(supply >= 0, np.minimum(worth, place), worth)
    return np.where(injection - sell_max - trade >= 0, sell - data.unserved_price, worth)
