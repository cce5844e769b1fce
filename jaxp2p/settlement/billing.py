"""The steps of a billing run: a preview, corrections of it, the final bills; after that, credit notes.

    preview -> corrected (as often as need be) -> final -> credited (as often as need be)

Final bills are never changed. What turns out wrong later is credited: a note of its own, whose lines are
added to what was billed. Corrections and credits are tables of amounts to be added, with the columns member,
day, line, kwh, eur, reason. What goes among members must cancel on every day, so that sums still close.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from enum import StrEnum

import numpy as np
import pandas as pd

from jaxp2p.data.faults import Fault, InputError
from jaxp2p.settlement.bills import Bills, euros, place_of
from jaxp2p.settlement.lines import BY_NAME, LINES, Payee

COLUMNS = ("member", "day", "line", "kwh", "eur", "reason")


class Step(StrEnum):
    """How far a billing run is."""

    PREVIEW = "preview"
    FINAL = "final"


@dataclass(frozen=True, kw_only=True, eq=False)
class Billing:
    """Bills with their history; every step gives a new one."""

    bills: Bills  # with all corrections; of a final run as they were sent
    step: Step = Step.PREVIEW
    corrections: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(COLUMNS)))
    credits: tuple[pd.DataFrame, ...] = ()  # notes 1, 2, ...
    facts: Mapping[str, object] = field(default_factory=dict)  # what it was made from

    def corrected(self, table: pd.DataFrame) -> Billing:
        """With corrections of the preview. Raises InputError with every fault; ValueError for final bills."""
        if self.step is Step.FINAL:
            raise ValueError("these bills are final: they are not changed any more, credit them instead")
        clean, cents, energy = _amounts(table, self.bills)
        together = clean if self.corrections.empty else pd.concat([self.corrections, clean])
        return replace(
            self, bills=self.bills.plus(cents, energy), corrections=together.reset_index(drop=True)
        )

    def final(self) -> Billing:
        """The bills as they are sent. Raises ValueError where their sums do not close, or twice."""
        if self.step is Step.FINAL:
            raise ValueError("these bills are final already")
        if faults := self.bills.faults():
            raise ValueError("sums do not close: " + "; ".join(faults))
        return replace(self, step=Step.FINAL)

    def credited(self, table: pd.DataFrame) -> Billing:
        """With one credit note more. Raises as `corrected`; ValueError for bills that are no final ones."""
        if self.step is not Step.FINAL:
            raise ValueError("only final bills are credited: correct the preview instead")
        clean, *_ = _amounts(table, self.bills)
        return replace(self, credits=(*self.credits, clean))

    @property
    def settled(self) -> Bills:
        """What was billed with all credits added."""
        bills = self.bills
        for note in self.credits:
            bills = bills.plus(*_amounts(note, bills)[1:])
        return bills


def _amounts(table: pd.DataFrame, bills: Bills) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """The table with clean columns, and its cents and Wh (L, D, N)."""
    if missing := [name for name in COLUMNS if name not in table]:
        raise InputError([Fault("corrections", name, None, "the column is missing") for name in missing])
    members = {name: n for n, name in enumerate(bills.members)}
    days = {f"{day:%Y-%m-%d}": d for d, day in enumerate(bills.days)}
    cents, energy = np.zeros_like(bills.cents), np.zeros_like(bills.energy)
    faults, rows = [], []
    for row, (member, day, line, kwh, eur, reason) in enumerate(table[list(COLUMNS)].itertuples(index=False)):
        wrong = lambda column, text, row=row: faults.append(Fault("corrections", column, row + 1, text))
        known = str(member) in members, str(day)[:10] in days, str(line) in BY_NAME
        for column, value, good in zip(COLUMNS[:3], (member, day, line), known, strict=True):
            if not good:
                wrong(column, f"{value!r} is not in these bills")
        money, wh = _whole(eur, 100), _whole(kwh, 1000)
        if money is None:
            wrong("eur", f"{eur!r} is no amount in whole cents")
        if wh is None:
            wrong("kwh", f"{kwh!r} is no energy in whole watt-hours")
        if reason is None or not str(reason).strip() or str(reason) == "nan":
            wrong("reason", "a correction needs a reason")
        if all(known) and money is not None and wh is not None:
            at = place_of(str(line)), days[str(day)[:10]], members[str(member)]
            cents[at] += money
            energy[at] += wh
            rows.append((str(member), str(day)[:10], str(line), wh / 1000, euros(money), str(reason)))
    if not len(table):
        faults.append(Fault("corrections", "", None, "there is nothing in it"))
    among = [line.payee is Payee.MEMBERS for line in LINES]
    for d in np.flatnonzero(cents[among].sum((0, 2))) if not faults else ():
        left = euros(cents[among, d].sum())
        text = f"on {bills.days[d]:%Y-%m-%d} {left} EUR among members (peers, congestion) do not cancel"
        faults.append(Fault("corrections", "eur", None, text))
    if faults:
        raise InputError(faults)
    return pd.DataFrame(rows, columns=list(COLUMNS)), cents, energy


def _whole(value: object, units: int) -> int | None:
    """The amount in units, if it is a whole number of them."""
    try:
        amount = Decimal(str(value)) * units
    except InvalidOperation:
        return None
    return int(amount) if amount.is_finite() and amount == amount.to_integral_value() else None
