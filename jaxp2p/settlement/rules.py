"""Rules of what peers pay each other for the same energy, to compare with the market's prices.

The market's own accounts have a price for every trade. The other rules see meters alone: in every slot all
that is injected, S, meets all that is drawn, D; M = min(S, D) is shared pro rata on either side, the rest
goes to the utility at its tariffs b and s. Every kWh of M costs the fee, half on each side. They differ in
the price pi of that kWh:

    mid_market      pi = (b + s) / 2                                  (Long et al., 2017)
    supply_demand   pi = b s / ((b - s) S / D + s), and s where S >= D  (Liu et al., 2017)
    uniform_price   pi = s where S > D, b where S < D, else the middle: what one kWh more is worth
    equal_benefit   whatever makes the gain of the slot, M (b - s - fee), the same for every member in it

(Long et al., Peer-to-peer energy trading in a community microgrid, IEEE PES General Meeting 2017; Liu et al.,
Energy-sharing model with price-based demand response, IEEE Transactions on Power Systems 32, 2017.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from jaxp2p.settlement.account import Account

TINY = 1e-12  # kWh


@dataclass(frozen=True)
class Rule:
    """One way to pay peers."""

    name: str
    words: str
    apply: Callable[[Account], Account]  # the account under the rule


def _divided(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    some = whole > TINY
    return np.where(some, part / np.where(some, whole, 1), 0)


def pooled(account: Account, price: np.ndarray) -> Account:
    """The account in which all that can be matched is matched, pro rata, at a price (T,) EUR/kWh."""
    injected, drawn = np.maximum(account.net, 0), np.maximum(-account.net, 0)
    supply, demand = injected.sum(1), drawn.sum(1)
    matched = np.minimum(supply, demand)
    given = injected * _divided(matched, supply)[:, None]
    taken = drawn * _divided(matched, demand)[:, None]
    return replace(
        account,
        given=given,
        taken=taken,
        bought=drawn - taken,
        sold=injected - given,
        received=price[:, None] * given,
        paid=price[:, None] * taken,
        fees=(fee_of(account) / 2)[:, None] * (given + taken),
    )


def fee_of(account: Account) -> np.ndarray:
    """(T,) EUR per kWh traded, both sides together: of the slot, or of all slots where none was traded."""
    volume, fees = account.given.sum(1), account.fees.sum(1)
    mean = fees.sum() / volume.sum() if volume.sum() > TINY else 0.0
    return np.where(volume > TINY, _divided(fees, volume), mean)


def _balance(account: Account) -> tuple[np.ndarray, np.ndarray]:
    return np.maximum(account.net, 0).sum(1), np.maximum(-account.net, 0).sum(1)


def _mid_market(account: Account) -> Account:
    return pooled(account, (account.price_buy + account.price_sell) / 2)


def _supply_demand(account: Account) -> Account:
    supply, demand = _balance(account)
    b, s = account.price_buy, account.price_sell
    ratio = np.minimum(_divided(supply, demand), 1)
    below = (b - s) * ratio + s
    # with tariffs of either sign the hyperbola has a pole: the straight line has the same ends
    steady = (np.minimum(b, s) > 0) & (below > TINY)
    price = np.where(steady, b * s / np.where(steady, below, 1), b + (s - b) * ratio)
    return pooled(account, np.where(supply >= demand, s, price))


def _uniform(account: Account) -> Account:
    supply, demand = _balance(account)
    b, s = account.price_buy, account.price_sell
    return pooled(account, np.select([supply > demand, supply < demand], [s, b], (b + s) / 2))


def _equal(account: Account) -> Account:
    """Who neither gives nor takes has no part in a slot's gain; a transfer beside the middle price."""
    even = _mid_market(account)
    there = np.abs(account.net) > TINY
    saved = account.alone - (even.due - even.losses - even.congestion)
    gain = saved.sum(1, keepdims=True)
    count = there.sum(1, keepdims=True)
    more = np.where(there, gain / np.maximum(count, 1), 0) - saved  # what a member still has to get
    return replace(even, received=even.received + np.maximum(more, 0), paid=even.paid + np.maximum(-more, 0))


MARKET = "market"
RULES = {
    rule.name: rule
    for rule in (
        Rule(MARKET, "every trade at the price of the market, from its duals", lambda account: account),
        Rule("mid_market", "peers meet in the middle of the tariffs", _mid_market),
        Rule("supply_demand", "the price falls as supply comes near to demand", _supply_demand),
        Rule("uniform_price", "what one kWh more is worth to all", _uniform),
        Rule("equal_benefit", "the gain of every slot in equal parts", _equal),
    )
}


def returned(account: Account) -> Account:
    """Limits have a price: every member pays tightness times injection, and the rent comes back by exchange.

    Whoever injects where the grid is full pays, whoever relieves it is paid; what is left, the congestion
    rent, is shared pro rata to what every member exchanges with the network. Sums to 0 in every slot.
    """
    own = account.tightness * account.net
    size = np.abs(account.net)
    share = _divided(size, size.sum(1, keepdims=True))
    # a slot without any exchange has no rent
    return replace(account, congestion=own - own.sum(1, keepdims=True) * share)


CONGESTION = {"none": lambda account: account, "returned": returned}
