"""Accounts of a run, from its tables of homes and slots (`report.frames`), in memory or out of a folder."""

from __future__ import annotations

import numpy as np
import pandas as pd

from jaxp2p.report.by_member import ByMember
from jaxp2p.report.results import Results
from jaxp2p.settlement.account import Account, account_of

NEEDED = ("trade_paid_eur", "fee_eur", "losses_eur", "trade_volume_kw")


def account_in(results: Results, policy: str, *, time_zone: str | None = None) -> Account:
    """Of a policy of a run that was saved with its homes.

    time_zone: whose days are billed, by default that of the run. Raises ValueError where the results do not
    hold what is needed.
    """
    if f"homes_{policy}" not in results.tables:
        raise ValueError(
            "the results hold no accounts of single members: `jaxp2p run --per-home` saves them "
            "(homes=True of Result.save)"
        )
    zone = time_zone or results.summary.get("time_zone")
    return account_of_tables(results.tables[f"homes_{policy}"], results.tables[f"slots_{policy}"], zone)


def account_of_tables(homes: pd.DataFrame, slots: pd.DataFrame, time_zone: str | None = None) -> Account:
    """Of a row per slot and member, and a row per slot. Raises ValueError where columns are missing."""
    if missing := [name for name in NEEDED if name not in homes]:
        raise ValueError(f"the table of homes has no {', '.join(missing)}: run it again")
    table = ByMember(homes, slots, time_zone)
    wide, kwh, (buy, sell) = table.values, table.kwh, table.tariffs
    bought, sold, net, volume = (kwh(name) for name in ("buy", "sell", "trade", "trade_volume"))
    paid, fees = wide("trade_paid_eur"), wide("fee_eur")
    tight = [name for name in ("voltage_price_eur_per_kwh", "branch_price_eur_per_kwh") if name in homes]
    return account_of(
        table.time,
        table.members,
        price_buy=buy,
        price_sell=sell,
        bought=bought,
        sold=sold,
        taken=np.maximum(volume - net, 0) / 2,
        given=np.maximum(volume + net, 0) / 2,
        paid=paid,
        received=wide("payment_eur") + paid,
        fees=fees,
        losses=wide("losses_eur"),
        tightness=sum((wide(name) for name in tight), np.zeros_like(bought)),
        own=wide("cost_eur") - (buy[:, None] * bought - sell[:, None] * sold) - fees,
    )
