"""The lines of a bill: each with its formula, its kWh and its EUR, and to whom it goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from jaxp2p.settlement.account import Account


class Payee(StrEnum):
    """To whom a line goes."""

    UTILITY = "utility"
    MARKET = "market"
    MEMBERS = "members"  # among each other: sums to 0
    NOBODY = "nobody"  # a cost that a member has with itself: told, and not billed


@dataclass(frozen=True, kw_only=True)
class Line:
    """One kind of line; arrays are (T, N), EUR above 0 is paid."""

    name: str
    words: str
    formula: str
    payee: Payee
    kwh: Callable[[Account], np.ndarray]
    eur: Callable[[Account], np.ndarray]


def _exchanged(account: Account) -> np.ndarray:
    return account.bought + account.sold + account.taken + account.given


LINES = (
    Line(
        name="utility_bought",
        words="bought from the utility",
        formula="sum of kWh x buy price of the slot",
        payee=Payee.UTILITY,
        kwh=lambda a: a.bought,
        eur=lambda a: a.price_buy[:, None] * a.bought,
    ),
    Line(
        name="utility_sold",
        words="sold to the utility",
        formula="- sum of kWh x sell price of the slot",
        payee=Payee.UTILITY,
        kwh=lambda a: a.sold,
        eur=lambda a: -a.price_sell[:, None] * a.sold,
    ),
    Line(
        name="peers_bought",
        words="bought from peers",
        formula="sum of kWh x price of the trade",
        payee=Payee.MEMBERS,
        kwh=lambda a: a.taken,
        eur=lambda a: a.paid,
    ),
    Line(
        name="peers_sold",
        words="sold to peers",
        formula="- sum of kWh x price of the trade",
        payee=Payee.MEMBERS,
        kwh=lambda a: a.given,
        eur=lambda a: -a.received,
    ),
    Line(
        name="fees",
        words="fees of the market",
        formula="sum of kWh traded x half the fee",
        payee=Payee.MARKET,
        kwh=lambda a: a.taken + a.given,
        eur=lambda a: a.fees,
    ),
    Line(
        name="losses",
        words="losses of the network",
        formula="cost of the slot's losses, shared by kWh exchanged, or by what the exchange adds to them",
        payee=Payee.UTILITY,
        kwh=_exchanged,
        eur=lambda a: a.losses,
    ),
    Line(
        name="congestion",
        words="limits of the network",
        formula="sum of kWh injected x price of the limits there, less a share of all such payments",
        payee=Payee.MEMBERS,
        kwh=_exchanged,
        eur=lambda a: a.congestion,
    ),
    Line(
        name="own",
        words="own devices, not billed",
        formula="wear of storage + curtailed PV + moved load, at their prices; paid to nobody",
        payee=Payee.NOBODY,
        kwh=lambda a: np.zeros_like(a.own),
        eur=lambda a: a.own,
    ),
)
BILLED = np.array([line.payee is not Payee.NOBODY for line in LINES])
BY_NAME = {line.name: line for line in LINES}
# pairs of lines among members whose sums cancel
OPPOSITE = {"peers_sold": "peers_bought"}
