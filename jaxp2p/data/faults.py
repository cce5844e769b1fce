"""Faults in input data: one record per fault, one exception that carries all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

MAX_ROWS_PER_CHECK = 20
"""Rows reported one by one by a single check of a single column; the rest is summed up in one more fault."""

MAX_DISPLAYED = 50
MAX_DISPLAYED_PER_COLUMN = 5
"""Faults printed by `InputError`, in all and per column; `InputError.faults` always holds all of them."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with the input.

    Attributes:
        table: name of the table (`prosumers`, `buses`, ...) or of the file.
        column: name of the column, empty when the fault belongs to the whole table.
        row: 1-based data row, None when the fault belongs to no single row. Row 1 is line 2 of a CSV file,
            because line 1 is the header.
        message: what is wrong, with the identifier and the value, and what would be right.
        name: of a judgement of plausibility, by which the user may overrule it; empty for any other fault.
        line: 1-based line of the file, where it is known and is not that of the row.
    """

    table: str
    column: str
    row: int | None
    message: str
    name: str = ""
    line: int | None = None

    def __str__(self) -> str:
        where = self.table + (f".{self.column}" if self.column else "")
        if self.row is not None:
            where += f", row {self.row} (line {self.line or self.row + 1} of a CSV file)"
        elif self.line is not None:
            where += f", line {self.line}"
        return f"{where}: {self.message}" + (f" [{self.name}]" if self.name else "")


class InputError(ValueError):
    """Input that cannot be used. `faults` lists everything that was found, grouped by table."""

    def __init__(self, faults: Iterable[Fault], *, source: str = "input"):
        self.faults: tuple[Fault, ...] = tuple(_grouped(faults))
        self.source = source
        super().__init__(self._text())

    def _text(self) -> str:
        count = len(self.faults)
        shown = _shown(self.faults)
        lines = [f"{self.source}: {count} fault{'' if count == 1 else 's'}"]
        lines += [f"  {fault}" for fault in shown]
        if count > len(shown):
            lines.append(f"  ... and {count - len(shown)} more (all of them in the attribute `faults`)")
        names = list(dict.fromkeys(fault.name for fault in self.faults if fault.name))
        if names:
            lines.append(
                "what stands in brackets is only not plausible; where it is right, overrule it by its name: "
                + " ".join(f"--accept {name}" for name in names)
                + f" (in Python accept=({', '.join(map(repr, names))},))"
            )
        return "\n".join(lines)

    def __reduce__(self):
        # The default would rebuild the exception from its text instead of from its faults.
        return _rebuild, (self.faults, self.source)


def _rebuild(faults: tuple[Fault, ...], source: str) -> InputError:
    return InputError(faults, source=source)


def _shown(faults: Sequence[Fault]) -> list[Fault]:
    """What to print: a few of every column, so that a bad column does not push the others off the screen."""
    printed: Counter[tuple[str, str]] = Counter()
    shown = []
    for fault in faults:
        printed[fault.table, fault.column] += 1
        if printed[fault.table, fault.column] <= MAX_DISPLAYED_PER_COLUMN:
            shown.append(fault)
    return shown[:MAX_DISPLAYED]


def _grouped(faults: Iterable[Fault]) -> list[Fault]:
    """The faults with those of one table together, tables in order of their first fault."""
    groups: dict[str, list[Fault]] = {}
    for fault in faults:
        groups.setdefault(fault.table, []).append(fault)
    return [fault for group in groups.values() for fault in group]


def row_faults(
    table: str,
    column: str,
    bad: np.ndarray | Sequence[bool],
    message: Callable[[int], str],
    *,
    name: str = "",
) -> list[Fault]:
    """Faults for every True entry of `bad`; `message` gets the 0-based position.

    The first `MAX_ROWS_PER_CHECK` rows are reported one by one. A whole year of NaN becomes these plus one
    fault that counts the others and names the last, so that no check can drown the others.
    """
    positions = np.flatnonzero(np.asarray(bad))
    shown = positions[:MAX_ROWS_PER_CHECK]
    faults = [Fault(table, column, int(i) + 1, message(int(i)), name) for i in shown]
    rest = positions[MAX_ROWS_PER_CHECK:]
    if rest.size:
        faults.append(
            Fault(
                table,
                column,
                None,
                f"{rest.size} more rows with the same fault, the last is row {rest[-1] + 1}",
                name,
            )
        )
    return faults
