"""What a run did for every member: its bill, and what it would be with the utility alone."""

from dataclasses import dataclass

import numpy as np

from jaxp2p.fairness.game import PoolGame
from jaxp2p.model.utility import exchange_cost


@dataclass(frozen=True, eq=False)
class Statement:
    """Money of a policy's run by member, and the game of what passed the meters."""

    bill: np.ndarray  # (N,) EUR in all, with what peers paid, and what was not served
    benefit: np.ndarray  # (N,) EUR less than alone with the same dispatch
    game: PoolGame

    @property
    def alone(self) -> np.ndarray:
        """(N,) EUR with the same dispatch and no peers."""
        return self.bill + self.benefit


def statement(
    *,
    bill: np.ndarray,
    buy: np.ndarray,
    sell: np.ndarray,
    trade: np.ndarray,
    volume: np.ndarray,
    payment: np.ndarray,
    price_buy: np.ndarray,
    price_sell: np.ndarray,
    hours: float,
    fee: float,
) -> Statement:
    """Of powers (T, N) in kW and payments (T, N) in EUR; prices (T,) and the fee of a trade in EUR/kWh.

    trade: net sale to peers, volume: traded in all. Alone a member deals with the utility for all that passed
    its meter, sell - buy + trade, whatever its connection to the utility can carry; devices cost the same:

        benefit = dt sum_t c_t(sell - buy + trade) - c_t(sell - buy) - g volume / 2 + payment

    with c_t(p) = b_t p^- - s_t p^+. Losses of the network are in neither.
    """
    power = sell - buy + trade
    prices = price_buy[:, None], price_sell[:, None]
    alone = exchange_cost(*prices, np.maximum(-power, 0), np.maximum(power, 0))
    market = exchange_cost(*prices, buy, sell) + fee / 2 * volume
    benefit = (hours * (alone - market) + payment).sum(0)
    return Statement(bill, benefit, PoolGame.of(power, price_buy, price_sell, hours=hours, fee=fee))
