"""What the members of a run exchanged with the grid, as meters of a community that shares would count it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxp2p.report.by_member import ByMember
from jaxp2p.report.canvas import favourite
from jaxp2p.report.folders import SUMMARY_FILE
from jaxp2p.report.results import Results, load_results
from jaxp2p.settings.fields import UsageError, one_of
from jaxp2p.sharing.energy import Energy, measured
from jaxp2p.sharing.meters import MeterData, read_meters
from jaxp2p.sharing.pairs import FromMarket


class Exchanged(NamedTuple):
    """Energy that may be shared, prices of the utility and trades of the market where they are known."""

    energy: Energy
    buy: np.ndarray | None  # (T,) EUR/kWh
    sell: np.ndarray | None  # (T,) EUR/kWh
    trades: FromMarket | None


def exchanged_at(path: str | Path, *, policy: str | None, time_zone: str | None) -> Exchanged:
    """Of a folder of results, or of meter data; raises as `exchanged_in`, `load_results`, `read_meters`."""
    if (Path(path) / SUMMARY_FILE).is_file():
        return exchanged_in(load_results(path), policy=policy, time_zone=time_zone)
    if policy is not None:
        raise UsageError(f"--policy: {path} holds no results of a run")
    return of_meters(read_meters(path, time_zone=time_zone))


def of_meters(data: MeterData) -> Exchanged:
    """Of meter data."""
    if data.prices is None:
        return Exchanged(data.energy, None, None, None)
    buy, sell = (data.prices[f"{side}_eur_per_kwh"].to_numpy(float) for side in ("buy", "sell"))
    return Exchanged(data.energy, buy, sell, None)


def exchanged_in(results: Results, *, policy: str | None, time_zone: str | None = None) -> Exchanged:
    """Of a policy of a run that was saved with its homes.

    time_zone: by whose clock hourly keys go, by default that of the run, whose times are then in UTC. Raises
    ValueError for an unknown policy and for results without the table of homes.
    """
    chosen = policy_of(list(results.kpis.index), policy)
    if f"homes_{chosen}" not in results.tables:
        raise ValueError(
            "the results hold no powers of single members: `jaxp2p run --per-home` saves them "
            "(homes=True of Result.save)"
        )
    zone = time_zone or results.summary.get("time_zone")
    return of_tables(results.tables[f"homes_{chosen}"], results.tables[f"slots_{chosen}"], time_zone=zone)


def policy_of(known: list[str], policy: str | None) -> str:
    """The policy if it is known; by default the one that pictures of a single policy show."""
    if policy is not None:
        return one_of(policy.strip().replace("-", "_"), known, option="--policy")
    return favourite(known)


def of_tables(homes: pd.DataFrame, slots: pd.DataFrame, *, time_zone: str | None = None) -> Exchanged:
    """Of the tables of homes and slots of a run (`report.frames`).

    The meter of a member counts e = sell - buy + trade in every slot: what it feeds in where e is above 0,
    what it draws below. Its own use is the load that it does not draw.
    """
    table = ByMember(homes, slots, time_zone)
    members, kwh = table.members, table.kwh
    trade = kwh("trade")
    exchange = kwh("sell") - kwh("buy") + trade
    drawn = np.maximum(-exchange, 0)
    energy = measured(
        table.time,
        np.maximum(exchange, 0),
        drawn,
        producers=members,
        consumers=members,
        own=np.maximum(kwh("load") - drawn, 0),
        source="run",
    )
    buy, sell = table.tariffs
    return Exchanged(energy, buy, sell, FromMarket.of_net_sales(trade))
