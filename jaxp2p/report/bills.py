"""A billing run in files: the lines, bills by member and period, the statement, corrections and credit notes.

The lines are the record: whole cents and watt-hours by member, day and kind of line. Everything else is made
from them. Of final bills a digest of the lines is kept, so that a change of the file is noticed.
"""

from __future__ import annotations

import hashlib
import json
import os
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxp2p.report.files import write_json, write_table
from jaxp2p.report.folders import MARK, SUMMARY_FILE
from jaxp2p.report.tables import ReportColumn, aligned, number
from jaxp2p.settlement.account import Account
from jaxp2p.settlement.billing import COLUMNS, Billing, Step
from jaxp2p.settlement.bills import Bills, euros
from jaxp2p.settlement.lines import BY_NAME, LINES
from jaxp2p.settlement.rules import RULES

LINES_FILE, CORRECTIONS_FILE, CREDIT_FILE = "lines.csv", "corrections.csv", "credit_{:03d}.csv"
EXCEL_FILE = "bills.xlsx"
WIDTH = 100
TEXT = {"member": str, "day": str, "line": str, "eur": str, "kwh": str, "reason": str}


def compare_rules(account: Account) -> pd.DataFrame:
    """A row per rule: what members pay in all, how many are worse off than alone, and by how much at most.

    Alone, everybody deals with the utility only and bears the same losses and limits of the grid.
    """
    rows = []
    for rule in RULES.values():
        found = rule.apply(account)
        worse = (found.due - found.alone - found.losses - found.congestion).sum(0)
        rows.append(
            {
                "rule": rule.name,
                "due_eur": float(found.due.sum()),
                "peers_kwh": float(found.taken.sum()),
                "peers_eur": float(found.paid.sum()),
                "fees_eur": float(found.fees.sum()),
                "saved_eur": float(-worse.sum()),
                "worse_off": int((worse > 0.005).sum()),
                "worst_eur": float(max(worse.max(initial=0), 0)),
                "words": rule.words,
            }
        )
    return pd.DataFrame(rows)


def line_table(bills: Bills) -> pd.DataFrame:
    """The record: a row per line that is not empty, in whole cents and watt-hours."""
    line, day, member = np.nonzero((bills.cents != 0) | (bills.energy != 0))
    return pd.DataFrame(
        {
            "member": np.array(bills.members, object)[member],
            "day": bills.days.strftime("%Y-%m-%d").to_numpy(object)[day],
            "line": np.array([kind.name for kind in LINES], object)[line],
            "wh": bills.energy[line, day, member],
            "cents": bills.cents[line, day, member],
        }
    )


def write_billing(folder: Path, billing: Billing, *, by: str, excel: bool = False) -> list[Path]:
    """All files into an existing folder; returns them. by: "day", "month" or "all"."""
    bills = billing.bills
    tables = {
        "lines": line_table(bills),
        "bills": bills.summary(by),
        "bill_lines": bills.table(by),
        "statement": bills.statement(),
        "corrections": billing.corrections,
    }
    for place, note in enumerate(billing.credits, 1):
        tables[CREDIT_FILE.format(place).removesuffix(".csv")] = note
    files = [write_table(frame, folder / f"{name}.csv") for name, frame in tables.items()]
    if excel:
        files.append(write_excel(folder / EXCEL_FILE, tables))
    summary = {
        "kind": MARK,
        "billing": str(billing.step),
        **billing.facts,
        "made_from": dict(billing.facts),
        "by": by,
        "members": list(bills.members),
        "days": [f"{day:%Y-%m-%d}" for day in bills.days],
        "digest": digest(folder / LINES_FILE),
        "credits": len(billing.credits),
        "received_eur": {name: float(euros(cents)) for name, cents in bills.received().items()},
        "tables": sorted(tables),
        "files": [EXCEL_FILE] if excel else [],
        "format": "csv",
    }
    return [*files, write_json(folder / SUMMARY_FILE, summary)]


def write_excel(file: Path, tables: Mapping[str, pd.DataFrame]) -> Path:
    """A sheet per table, to be looked through before the final run. Raises ValueError without openpyxl."""
    try:
        import openpyxl  # noqa: F401
    except ImportError as error:
        raise ValueError('an Excel file needs openpyxl: pip install "jaxp2p[excel]"') from error
    with pd.ExcelWriter(file, engine="openpyxl") as book:
        for name, frame in tables.items():
            numbers = {c: frame[c].astype(float) for c in frame if c.endswith("eur")}
            frame.assign(**numbers).to_excel(book, sheet_name=name[:31], index=False)
    return file


def digest(file: Path) -> str:
    """Of the contents of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def is_billing(folder: str | os.PathLike[str]) -> bool:
    """Whether the folder holds a billing run."""
    return _summary(Path(folder)) is not None


def read_billing(folder: str | os.PathLike[str]) -> Billing:
    """What `write_billing` wrote. Raises ValueError where final lines are not those that were made final."""
    path = Path(folder)
    summary = _summary(path)
    if summary is None:
        raise ValueError(f"{path} holds no billing run")
    step = Step(summary["billing"])
    if step is Step.FINAL and digest(path / LINES_FILE) != summary["digest"]:
        raise ValueError(f"{path / LINES_FILE} is not what was made final: it has been changed since")
    days = pd.DatetimeIndex(summary["days"])
    members = tuple(summary["members"])
    shape = len(LINES), len(days), len(members)
    cents, energy = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    table = pd.read_csv(path / LINES_FILE, dtype=TEXT, keep_default_na=False)
    kinds = {line: k for k, line in enumerate(BY_NAME)}
    places = (
        table["line"].map(kinds).to_numpy(int),
        table["day"].map({day: d for d, day in enumerate(summary["days"])}).to_numpy(int),
        table["member"].map({name: n for n, name in enumerate(members)}).to_numpy(int),
    )
    cents[places], energy[places] = table["cents"], table["wh"]
    return Billing(
        bills=Bills(members=members, days=days, cents=cents, energy=energy),
        step=step,
        corrections=read_amounts(path / CORRECTIONS_FILE),
        credits=tuple(
            read_amounts(path / CREDIT_FILE.format(n)) for n in range(1, int(summary["credits"]) + 1)
        ),
        facts=summary["made_from"],
    )


def read_amounts(file: str | os.PathLike[str]) -> pd.DataFrame:
    """A table of corrections or of a credit note; amounts stay as they are written, to the digit."""
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    return table.reindex(columns=[*COLUMNS]) if set(COLUMNS) <= set(table) else table


def _summary(folder: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / SUMMARY_FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("kind") == MARK and "billing" in found else None


RULE_COLUMNS = (
    ReportColumn(title=("due", "EUR"), text=number("due_eur", 2)),
    ReportColumn(title=("among peers", "kWh"), text=number("peers_kwh", 1)),
    ReportColumn(title=("among peers", "EUR"), text=number("peers_eur", 2)),
    ReportColumn(title=("fees", "EUR"), text=number("fees_eur", 2)),
    ReportColumn(title=("saved", "EUR"), text=number("saved_eur", 2)),
    ReportColumn(title=("worse off", "members"), text=number("worse_off", 0)),
    ReportColumn(title=("worst", "EUR"), text=number("worst_eur", 2)),
)


def billing_text(billing: Billing, rules: pd.DataFrame | None = None) -> str:
    """What is printed: who receives what, the largest bills, and the rules side by side."""
    bills, fill = billing.settled, lambda text: textwrap.fill(text, width=WIDTH)
    statement = bills.statement()
    lines = [f"{'':<28}{'to':<10}{'kWh':>14}{'EUR':>14}"]
    for row in statement.itertuples():
        lines.append(f"{row.what:<28}{row.to:<10}{row.kwh:>14,.3f}{row.eur:>14,.2f}")
    received = bills.received()
    parts = ", ".join(f"the {name} receives {euros(c):,.2f}" for name, c in received.items() if c)
    lines += [
        "",
        fill(f"{len(bills.members)} members pay {euros(bills.total.sum()):,.2f} EUR in all: {parts} EUR."),
    ]
    if rules is not None:
        rows = {row["rule"]: row for row in rules.to_dict("records")}
        words = "; ".join(f"{name}: {row['words']}" for name, row in rows.items())
        lines += ["", *aligned(rows, RULE_COLUMNS, first="rule"), "", fill(_MEANING + words + ".")]
    step = {
        Step.PREVIEW: "This is a preview: correct it (--corrections FILE.csv), then make it final (--final).",
        Step.FINAL: "These bills are final: what turns out wrong is credited (--corrections FILE.csv).",
    }[billing.step]
    return "\n".join([*lines, "", step])


_MEANING = (
    "saved: against everybody alone with the utility, with the same meters. worse off: members who pay more "
    "than alone, worst: by how much at most. "
)
