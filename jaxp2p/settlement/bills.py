"""Bills in whole cents and watt-hours, by member, day and line; sums close without a cent left over.

Every line of a day is rounded over its members by largest remainders (`data.apportion`), so that the members'
cents add up to the line's rounded total, and what goes among members adds up to nothing. Months and periods
are sums of days. What members pay is then exactly what utility and market receive.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np
import pandas as pd

from jaxp2p.data.apportion import apportioned
from jaxp2p.settlement.account import Account
from jaxp2p.settlement.lines import BILLED, BY_NAME, LINES, OPPOSITE, Payee

CENT, WH = 0.01, 0.001


@dataclass(frozen=True, kw_only=True, eq=False)
class Bills:
    """Of N members over D days; lines as in `LINES`, of which there are L."""

    members: tuple[str, ...]
    days: pd.DatetimeIndex  # (D,) midnights
    cents: np.ndarray  # (L, D, N) int64, paid above 0
    energy: np.ndarray  # (L, D, N) int64 Wh

    @classmethod
    def of(cls, account: Account) -> Bills:
        """The account, summed up by days of its clock and rounded."""
        midnights = account.time.normalize()
        days, first = np.unique(midnights, return_index=True)
        if len(days) and not midnights.is_monotonic_increasing:
            raise ValueError("slots of an account must be in order")
        by_day = lambda values: np.add.reduceat(values, first, axis=0)
        cents: dict[str, np.ndarray] = {}
        for line in LINES:
            eur, total = by_day(line.eur(account)), None
            if line.name in OPPOSITE:
                total = -cents[OPPOSITE[line.name]].sum(1)
            elif line.payee is Payee.MEMBERS and line.name not in OPPOSITE.values():
                total = np.zeros(len(days))
            cents[line.name] = apportioned(eur, CENT, total)
        energy = [apportioned(by_day(line.kwh(account)), WH) for line in LINES]
        return cls(
            members=account.members,
            days=pd.DatetimeIndex(midnights[first]),
            cents=np.stack(list(cents.values())),
            energy=np.stack(energy),
        )

    @property
    def total(self) -> np.ndarray:
        """(N,) cents that every member pays in all."""
        return self.cents[BILLED].sum((0, 1))

    def received(self) -> dict[str, int]:
        """Cents that utility and market receive, and members among each other (0), in all."""
        sums = self.cents.sum((1, 2))
        return {
            str(payee): int(sum(s for s, line in zip(sums, LINES, strict=True) if line.payee is payee))
            for payee in Payee
            if payee is not Payee.NOBODY
        }

    def faults(self) -> list[str]:
        """What does not close, in words; empty for bills that can be sent."""
        found = []
        among = [line.payee is Payee.MEMBERS for line in LINES]
        for d in np.flatnonzero(self.cents[among].sum((0, 2))):
            left = int(self.cents[among, d].sum())
            found.append(f"{self.days[d]:%Y-%m-%d}: {euros(left)} EUR among members do not cancel")
        return found

    def plus(self, cents: np.ndarray, energy: np.ndarray) -> Bills:
        """With so many cents and Wh (L, D, N) more."""
        return replace(self, cents=self.cents + cents, energy=self.energy + energy)

    def table(self, by: str = "month") -> pd.DataFrame:
        """A row per member, period (day, month, all) and line that is used: kWh, EUR, formula."""
        label = {"day": "%Y-%m-%d", "month": "%Y-%m"}
        if by not in (*label, "all"):
            raise ValueError(f"bills by {by!r}: choose from day, month, all")
        names = self.days.strftime(label[by]) if by != "all" else pd.Index(["all"] * len(self.days))
        period = pd.factorize(names)
        summed = lambda values: np.stack(
            [values[:, period[0] == k].sum(1) for k in range(len(period[1]))], axis=1
        )
        cents, energy = summed(self.cents), summed(self.energy)
        line, when, who = np.nonzero((cents != 0) | (energy != 0))
        order = np.lexsort((line, when, who))
        line, when, who = line[order], when[order], who[order]
        kinds = [LINES[k] for k in line]
        return pd.DataFrame(
            {
                "member": np.array(self.members, object)[who],
                "period": np.array(period[1], object)[when],
                "line": [kind.name for kind in kinds],
                "kwh": energy[line, when, who] / 1000,
                "eur": [euros(c) for c in cents[line, when, who]],
                "formula": [kind.formula for kind in kinds],
            }
        )

    def summary(self, by: str = "month") -> pd.DataFrame:
        """A row per member and period: EUR by line, and in all."""
        table = self.table(by)
        cents = table["eur"].map(lambda amount: int(amount * 100))
        wide = table.assign(cents=cents).pivot_table(
            index=["member", "period"], columns="line", values="cents", aggfunc="sum", sort=False
        )
        wide = wide.reindex(columns=[line.name for line in LINES]).fillna(0).astype("int64")
        out = wide.apply(lambda column: column.map(euros)).add_suffix("_eur")
        out["total_eur"] = wide.loc[:, BILLED].sum(axis=1).map(euros)
        return out.reset_index()

    def statement(self) -> pd.DataFrame:
        """What everybody pays is what everybody receives: a row per line, with the payee."""
        sums, energy = self.cents.sum((1, 2)), self.energy.sum((1, 2))
        return pd.DataFrame(
            {
                "line": [line.name for line in LINES],
                "to": [str(line.payee) for line in LINES],
                "kwh": energy / 1000,
                "eur": [euros(c) for c in sums],
                "what": [line.words for line in LINES],
            }
        )


def euros(cents: int | np.integer) -> Decimal:
    """Exactly, with two digits."""
    return Decimal(int(cents)).scaleb(-2)


def place_of(line: str) -> int:
    """Of a line in the arrays of `Bills`."""
    return LINES.index(BY_NAME[line])
