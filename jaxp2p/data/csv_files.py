"""CSV files as they come: from spreadsheets, editors and other programs, with any line ends and separators.

A file is read, or refused with the line that is at fault. Read are: lines that end in LF, CR or both; UTF-8
with or without a byte order mark, UTF-16 with one; commas, semicolons, tabs or bars between the cells, and a
first line such as `sep=;`; decimal commas where the cells are not separated by commas; blank lines; lines
that begin with #; empty columns at the end; a column of row numbers in front, as pandas writes it.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxp2p.data.faults import MAX_ROWS_PER_CHECK, Fault
from jaxp2p.data.schema import COLUMNS, TIME_TABLES

csv.field_size_limit(2**31 - 1)  # the header of ten thousand profiles, tried as one field

SEPARATORS = (",", ";", "\t", "|")
PANDAS = tuple(int(part) for part in pd.__version__.split(".")[:2])
# options of `pandas.read_csv` for numbers to the last digit: from 3.1 on the only way, and deprecated
EXACT: dict[str, Any] = {"float_precision": "round_trip"} if PANDAS < (3, 1) else {}

_SEPARATOR_LINE = re.compile(r'\s*"?sep=(.)"?[\s;,]*', re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d*,\d+([eE][+-]?\d+)?\s*")
_DECIMAL_POINT = re.compile(r"\s*[+-]?\d*\.\d+([eE][+-]?\d+)?\s*")
_INSIDE = "\x1f"  # separates cells inside this module where any other character may be part of one

_KINDS = {  # first bytes of files that are no text
    b"PK\x03\x04": "a spreadsheet or a zip file; save it as CSV",
    b"\xd0\xcf\x11\xe0": "an old spreadsheet; save it as CSV",
    b"\x1f\x8b": "compressed; unpack it",
    b"PAR1": "a Parquet file; name it .parquet",
    b"%PDF": "a PDF file",
}


class FileFault(Exception):
    """A file that cannot be used as a table; what is wrong, by line where there is one."""

    def __init__(self, message: str, line: int | None = None, *, more: tuple[tuple[int, str], ...] = ()):
        super().__init__(message)
        self.parts: tuple[tuple[int | None, str], ...] = ((line, message), *more)

    def faults(self, table: str) -> list[Fault]:
        """The same as faults of a table."""
        return [Fault(table, "", None, message, line=line) for line, message in self.parts]


class CsvTable(NamedTuple):
    """Cells of a file; those of small tables are text, in the long ones numbers where they are numbers."""

    frame: pd.DataFrame
    lines: np.ndarray  # (rows,) 1-based line of the file that each row stands in


def read_csv(table: str, file: Path) -> CsvTable:
    """A CSV file of one of the tables.

    Raises:
        FileFault: it cannot be read.
    """
    lines = _unwrapped(_text(file).split("\n"))
    start, separator, header = _header(table, file, lines)
    body = enumerate(lines[start + 1 :], start + 2)
    kept = [(number, line) for number, line in body if not _idle(file, number, line, separator, len(header))]
    if any('"' in line for _, line in kept):
        kept, inside = _unquoted(file, kept, separator), _INSIDE
        kept = [(number, line) for number, line in kept if line.strip(_INSIDE + " ")]
    else:
        inside = separator
    places = np.array([number for number, _ in kept], int)
    rows = _even(file, [line for _, line in kept], places, inside, header)
    del lines, kept  # of a large file they are as much again
    if table in TIME_TABLES:
        frame = _long_frame(file, rows, places, inside, len(header), decimal_comma=separator != ",")
    else:
        cells = [row.split(inside) for row in rows]
        frame = pd.DataFrame(cells, columns=range(len(header)), dtype=object)
        if separator != ",":
            _decimal_points(table, file, frame, header, places)
    return CsvTable(_named(table, frame, header, file), places)


def _text(file: Path) -> str:
    """The content with lines that end in LF."""
    data = file.read_bytes()
    for head, kind in _KINDS.items():
        if data.startswith(head):
            raise FileFault(f"the file {file.name} is no CSV file but {kind}")
    encoding = "utf-8-sig"  # spreadsheets put a byte order mark in front
    for mark, name in ((b"\xff\xfe\0\0", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            encoding = name
            break
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = len(re.findall(rb"\r\n?|\n", data[: error.start])) + 1
        words = encoding.upper().removesuffix("-SIG")
        raise FileFault(
            f"the file {file.name} is not {words}: byte 0x{data[error.start]:02x} at offset {error.start}, "
            f"line {line}; save it as UTF-8",
            line,
        ) from None
    text = text.lstrip("\ufeff")  # some programs put a second mark
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise FileFault(f"the file {file.name} contains NUL bytes; it is not a CSV file", line)
    return text


def _unwrapped(lines: list[str]) -> list[str]:
    """The lines without the quotes that some programs put around every whole line."""
    first = next((line.strip() for line in lines if line.strip()), "")
    if not (first.startswith('"') and first.endswith('"') and '"' not in first[1:-1].replace('""', "")):
        return lines
    if not any(mark in first for mark in SEPARATORS):
        return lines
    return [line.strip()[1:-1].replace('""', '"') if line.strip().startswith('"') else line for line in lines]


def _cells(line: str, separator: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line], delimiter=separator), [])]


def _header(table: str, file: Path, lines: list[str]) -> tuple[int, str, list[str]]:
    """Position of the header line, separator, column names without empty ones at the end."""
    separators: tuple[str, ...] = SEPARATORS
    known = {column.name for column in COLUMNS[table]}
    required = {column.name for column in COLUMNS[table] if column.required}

    def fit(line: str, mark: str) -> tuple[int, int]:
        cells = _cells(line, mark)
        return len(known.intersection(cells)), len(cells)

    for position, line in enumerate(lines):
        declared = _SEPARATOR_LINE.fullmatch(line)
        if declared:
            separators = (declared.group(1),)
            continue
        if not line.strip("".join(separators) + '" \t'):
            continue
        bare = line.lstrip().lstrip("#").lstrip() if line.lstrip().startswith("#") else line
        separator = max(separators, key=lambda mark: fit(bare, mark))
        header = _cells(bare, separator)
        if bare != line and not required.issubset(header):
            continue  # a comment; a header may be marked as one, and is known by its columns
        while header and not header[-1]:
            header.pop()
        return position, separator, header
    raise FileFault(f"the file {file.name} has no header line")


def _idle(file: Path, number: int, line: str, separator: str, width: int) -> bool:
    """Whether a line says nothing: it is blank, holds separators only, or is a comment."""
    if not line.strip(separator + " \t"):
        return True
    if not line.lstrip().startswith("#"):
        return False
    if line.count(separator) + 1 >= width > 1:
        # a member whose name begins with # must not be lost, nor one that was taken out come back
        raise FileFault(
            f"the file {file.name}: a line that begins with # and has as many cells as the header may be a "
            "comment or a row; delete it, or put its first name in double quotes",
            number,
        )
    return True


def _unquoted(file: Path, numbered: list[tuple[int, str]], separator: str) -> list[tuple[int, str]]:
    """The records with their quotes resolved and their cells joined by a character that no cell holds."""
    reader = csv.reader((line + "\n" for _, line in numbered), delimiter=separator)
    records: list[tuple[int, str]] = []
    done = 0
    try:
        for cells in reader:
            first, last = numbered[done][0], numbered[reader.line_num - 1][0]
            if any("\n" in cell for cell in cells):
                end = f"only in line {last}" if last > first else "nowhere"
                raise FileFault(f"the file {file.name}: a double quote opens here and closes {end}", first)
            records.append((first, _INSIDE.join(cell.replace(_INSIDE, " ") for cell in cells)))
            done = reader.line_num
    except csv.Error as error:
        raise FileFault(
            f"the file {file.name} is not a table: {error}; does a double quote open here and not close?",
            numbered[done][0],
        ) from None
    return records


def _even(file: Path, rows: list[str], places: np.ndarray, separator: str, header: list[str]) -> list[str]:
    """The rows, each with as many cells as the header; empty cells beyond it are left out."""
    width = len(header)
    counts = np.array([row.count(separator) + 1 for row in rows], int)
    for i in np.flatnonzero(counts > width):
        cells = rows[i].split(separator)
        if not any(cell.strip() for cell in cells[width:]):
            rows[i], counts[i] = separator.join(cells[:width]), width
    ragged = np.flatnonzero(counts != width)
    if not ragged.size:
        return rows
    if ragged.size == len(rows) and (counts == counts[0]).all():
        hint = (
            "; decimal commas? Write decimal points, or separate by semicolons" if counts[0] > width else ""
        )
        raise FileFault(
            f"the file {file.name} has {width} columns in its header, but rows with {counts[0]}{hint}",
            int(places[0]),
        )
    words = [
        (
            int(places[i]),
            f"the file {file.name} is not a table: {counts[i]} cells here, {width} in the header",
        )
        for i in ragged[:MAX_ROWS_PER_CHECK]
    ]
    if ragged.size > len(words):
        rest = f"{ragged.size - len(words)} more such lines, the last is line {places[ragged[-1]]}"
        words.append((int(places[ragged[len(words)]]), rest))
    raise FileFault(words[0][1], words[0][0], more=tuple(words[1:]))


def _long_frame(
    file: Path, rows: list[str], places: np.ndarray, separator: str, width: int, *, decimal_comma: bool
) -> pd.DataFrame:
    """Rows without quotes as a frame of numbers where they are numbers; `rows` is empty afterwards."""
    if not rows:
        return pd.DataFrame({column: pd.Series(dtype=object) for column in range(width)})
    decimal_comma = decimal_comma and any("," in row for row in rows)
    if decimal_comma:
        mark = re.escape(separator)
        point = re.compile(rf"(?:^|{mark})\s*[+-]?\d*\.\d+(?:[eE][+-]?\d+)?\s*(?={mark}|$)")
        mixed = next((int(place) for place, row in zip(places, rows, strict=True) if point.search(row)), None)
        if mixed is not None:
            raise FileFault(_mixed(file), mixed)
    options: dict[str, Any] = EXACT | ({"decimal": ","} if decimal_comma else {})
    content = io.BytesIO("\n".join(rows).encode("utf-8", "surrogatepass"))
    rows.clear()
    try:
        frame = pd.read_csv(
            content,
            sep=separator,
            header=None,
            names=range(width),
            index_col=False,
            quoting=csv.QUOTE_NONE,
            keep_default_na=False,
            na_values=[""],
            low_memory=False,
            **options,
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        raise FileFault(f"the file {file.name} is not a table: {str(error).strip()}") from None
    content.close()
    return frame.copy()  # as one array: the reader leaves one per column, and thousands of them are slow


def _decimal_points(
    table: str, file: Path, frame: pd.DataFrame, header: list[str], places: np.ndarray
) -> None:
    """Decimal commas in the columns of numbers become points, in place."""
    numbers = {column.name for column in COLUMNS[table] if column.dtype in ("float", "flag")}
    columns = [i for i, name in enumerate(header) if name in numbers]
    cells = frame[columns]
    commas = cells.apply(lambda column: column.str.fullmatch(_DECIMAL_COMMA)).to_numpy(bool)
    if not commas.any():
        return
    points = cells.apply(lambda column: column.str.fullmatch(_DECIMAL_POINT)).to_numpy(bool)
    if points.any():
        raise FileFault(_mixed(file), int(places[points.any(axis=1).argmax()]))
    frame[columns] = cells.apply(lambda column: column.str.replace(",", ".")).where(commas, cells)


def _mixed(file: Path) -> str:
    return (
        f"the file {file.name} has numbers with decimal commas, and one with a point here: "
        "write all of them alike, without separators of thousands"
    )


def _named(table: str, frame: pd.DataFrame, header: list[str], file: Path) -> pd.DataFrame:
    """The frame with its column names. A column without a name may be what pandas writes of its index."""
    header = list(header)
    if not header[0] and len(frame):
        cells = frame[0]
        if (cells.astype(str) == pd.Series(range(len(frame))).astype(str)).all():
            frame, header = frame.iloc[:, 1:], header[1:]
        elif table in TIME_TABLES and "time" not in header and not pd.api.types.is_numeric_dtype(cells.dtype):
            header[0] = "time"
    empty = [i for i, name in enumerate(header) if not name]
    blank = [i for i in empty if frame.iloc[:, i].astype(str).str.strip().isin(["", "nan"]).all()]
    unnamed = [i + 1 for i in empty if i not in blank]
    if unnamed:
        raise FileFault(
            f"the file {file.name}: column {unnamed[0]} has no name in the header"
            + (" (the index of a pandas table? index=False leaves it out)" if unnamed[0] == 1 else "")
        )
    frame.columns = header
    return frame.iloc[:, [i for i in range(len(header)) if i not in blank]]
