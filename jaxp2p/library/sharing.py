"""Sharing keys of the law on a run or on meter data: `share`, and what it gives back."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from jaxp2p.library.run import Result
from jaxp2p.report.exchanged import Exchanged, exchanged_at, exchanged_in, of_meters, of_tables, policy_of
from jaxp2p.report.folders import results_folder
from jaxp2p.report.results import Results
from jaxp2p.report.sharing import (
    Shared,
    interval_table,
    key_table,
    member_table,
    sharing_picture,
    sharing_report,
    sharing_text,
    write_sharing,
)
from jaxp2p.settings.fields import one_of
from jaxp2p.settings.sharing import Sharing, Unused
from jaxp2p.sharing.applied import Applied, apply
from jaxp2p.sharing.catalogue import ENTRIES, NAMES, usual
from jaxp2p.sharing.energy import Energy
from jaxp2p.sharing.key import Allotment, Key
from jaxp2p.sharing.made import Given, made
from jaxp2p.sharing.meters import MeterData
from jaxp2p.sharing.money import prices_of
from jaxp2p.sharing.shares_file import read_shares, shares_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Source = Result | Results | MeterData | Energy | str | Path


def share(
    source: Source,
    *,
    keys: Sequence[str | Mapping[str, Key]] | None = None,
    shares: str | Path | pd.DataFrame | Mapping[str, float] | None = None,
    unused: str = Sharing.unused,
    policy: str | None = None,
    buy: float | np.ndarray | None = None,
    sell: float | np.ndarray | None = None,
    fee: float = Sharing.fee,
    internal: float | np.ndarray | None = None,
    time_zone: str | None = None,
    name: str | None = None,
) -> "ShareResult":
    """Share what members feed in by sharing keys, beside the market.

    source: a run (a `Result`; a folder of results with its homes, or what `load` read of it) under `policy`,
    or meter data (a file or folder as in `jaxp2p.sharing.meters`, or `Energy`). keys: names of
    `jaxp2p.sharing.catalogue`, by default those that need no shares, and anybody's own as {name: key}.
    shares: a table as in `jaxp2p.sharing.shares_file`, or a share by member. unused: where the unused part of
    a share goes, "grid", "by_share" or "pro_rata", under keys that leave it free. buy, sell: EUR/kWh of the
    utility, instead of those of the source, and internal, of a shared kWh among members: a number, or one for
    every interval (T,); fee: of a shared kWh, see `jaxp2p.sharing.money`. time_zone: whose clock tells the
    hour of the day; local times in files are of this zone. name: of the source, in titles and results.

    Raises ValueError for what cannot be used (`InputError`, with every fault, for tables), FileNotFoundError
    for a folder of results that lacks some.
    """
    found = _exchanged(source, policy, time_zone)
    given = _given(shares, found)
    use = Unused(one_of(unused, tuple(Unused), option="unused"))
    chosen = _chosen(usual(trades=found.trades is not None) if keys is None else keys, given, use)
    buying, selling = (
        own if price is None else price for price, own in ((buy, found.buy), (sell, found.sell))
    )
    prices = None
    if buying is not None and selling is not None:
        prices = prices_of(buying, selling, intervals=len(found.energy.time), internal=internal, fee=fee)
    elif buying is not None or selling is not None:
        raise ValueError("prices of the utility: both buy and sell are needed")
    applied = [
        apply(key_name, key, found.energy, prices, hourly=hourly)
        for key_name, (key, hourly) in chosen.items()
    ]
    return ShareResult(shared=Shared(energy=found.energy, keys=applied, case=name or _name(source)))


def _exchanged(source: Source, policy: str | None, time_zone: str | None) -> Exchanged:
    match source:
        case Result():
            chosen = policy_of(list(source.policies), policy)
            zone = time_zone or source.case.tables.meta.get("time_zone")
            return of_tables(source.homes(chosen), source.slots(chosen), time_zone=zone)
        case Results():
            return exchanged_in(source, policy=policy, time_zone=time_zone)
        case MeterData():
            return of_meters(source)
        case Energy():
            return Exchanged(source, None, None, None)
    return exchanged_at(source, policy=policy, time_zone=time_zone)


def _given(shares: Any, found: Exchanged) -> Given:
    if shares is None:
        return Given(trades=found.trades)
    if isinstance(shares, Mapping):
        shares = pd.DataFrame({"member": list(shares), "share": list(shares.values())})
    if isinstance(shares, pd.DataFrame):
        return shares_of(shares, found.energy, trades=found.trades)
    return read_shares(shares, found.energy, trades=found.trades)


def _chosen(
    keys: Sequence[str | Mapping[str, Key]], given: Given, unused: Unused
) -> dict[str, tuple[Key, bool]]:
    """Keys by name, and whether they are settled by the hour."""
    chosen: dict[str, tuple[Key, bool]] = {}
    for part in keys:
        if isinstance(part, str):
            entry = ENTRIES[one_of(part.strip().replace("-", "_"), NAMES, option="key")]
            named = {entry.name: (made(entry, given, unused=unused), entry.by_the_hour)}
        else:
            named = {name: (key, False) for name, key in part.items()}
        if twice := [name for name in named if name in chosen]:
            raise ValueError(f"the key {twice[0]} is named twice")
        chosen |= named
    if not chosen:
        raise ValueError("name at least one key")
    return chosen


def _name(source: Source) -> str:
    match source:
        case Result():
            return source.case.name
        case Results():
            return str(source.summary.get("case", "run"))
        case MeterData() | Energy():
            return "meters"
    place = Path(os.path.abspath(source))
    return place.stem if place.is_file() else place.name


@dataclass(frozen=True, kw_only=True, eq=False)
class ShareResult:
    """Keys side by side: tables, a picture, files."""

    shared: Shared

    def _known(self, key: str) -> Applied:
        found = {applied.name: applied for applied in self.shared.keys}
        if key not in found:
            raise ValueError(f"unknown key {key!r}: there are {', '.join(found)}")
        return found[key]

    def allotment(self, key: str) -> Allotment:
        """What every member received and gave in every interval, in Wh; ValueError for an unknown key."""
        return self._known(key).allotment

    def table(self) -> pd.DataFrame:
        """One row per key, indexed by its name: what is shared and saved, what is missing to the market."""
        return key_table(self.shared).set_index("key")

    def members(self, key: str | None = None) -> pd.DataFrame:
        """One row per member (of every key): own, community and grid kWh, what it gives, what it saves."""
        return member_table(self.shared) if key is None else self._known(key).members()

    def intervals(self, key: str | None = None) -> pd.DataFrame:
        """One row per interval (of every key)."""
        return interval_table(self.shared) if key is None else self._known(key).intervals()

    def report(self) -> dict[str, Any]:
        """The short, stable summary that `jaxp2p share --json` writes."""
        return sharing_report(self.shared)

    def plot(self) -> "Figure":
        """Bars by key of what is shared and what that saves, beside the market."""
        return sharing_picture(self.shared)

    def save(self, path: str | os.PathLike[str], *, format: str = "csv", replace: bool = False) -> Path:
        """Write tables, summary and picture into a folder that is complete or not there.

        format: "csv" or "parquet". Other results in the folder raise FileExistsError unless `replace`.
        """
        one_of(format, ("csv", "parquet"), option="format")
        names = ",".join(applied.name for applied in self.shared.keys)
        record = {"input": self.shared.case, "keys": names, "what": "share"}
        with results_folder(path, None if replace else record) as folder:
            write_sharing(folder, self.shared, made_from=record, format=format)
        return Path(path)

    def __str__(self) -> str:
        return f"{self.shared.title}\n\n{sharing_text(self.shared)}"
