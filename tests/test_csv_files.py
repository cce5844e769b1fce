"""CSV files as spreadsheets and other programs leave them: read, or refused with table and line."""

import re

import pandas as pd
import pytest
from villages import village, write_raw

from jaxp2p.data import InputError, check, read_tables

TABLES = ("prosumers", "lines", "prices")


def lines(text):
    return text.splitlines()


def semicolons(text, decimal=","):
    return re.sub(r"(?<=\d)\.(?=\d)", decimal, text.replace(",", ";"))


READ = {  # how a file may look and mean the same
    "CR": lambda t: t.replace("\n", "\r").encode(),
    "CRLF": lambda t: t.replace("\n", "\r\n").encode(),
    "mixed line ends": lambda t: ("\r\n".join(lines(t)[:3]) + "\r" + "\n".join(lines(t)[3:])).encode(),
    "no end of the last line": lambda t: t.rstrip("\n").encode(),
    "byte order mark": lambda t: t.encode("utf-8-sig"),
    "UTF-16, little end": lambda t: t.encode("utf-16"),
    "UTF-16, big end": lambda t: b"\xfe\xff" + t.encode("utf-16-be"),
    "UTF-32": lambda t: t.encode("utf-32"),
    "tabs": lambda t: t.replace(",", "\t").encode(),
    "bars": lambda t: t.replace(",", "|").encode(),
    "semicolons, decimal points": lambda t: semicolons(t, ".").encode(),
    "semicolons, decimal commas": lambda t: semicolons(t).encode(),
    "tabs, decimal commas, UTF-16": lambda t: semicolons(t).replace(";", "\t").encode("utf-16"),
    "sep line": lambda t: ("sep=;\r\n" + semicolons(t)).encode(),
    "quoted sep line": lambda t: ('"sep=,"\n' + t).encode(),
    "comments and blank lines": lambda t: (
        "# made by hand, in May\n\n" + lines(t)[0] + "\n\n# rows\n,,,\n" + "\n".join(lines(t)[1:]) + "\n\n"
    ).encode(),
    "header marked as a comment": lambda t: ("# " + t).encode(),
    "trailing commas everywhere": lambda t: "\n".join(line + ",," for line in lines(t)).encode(),
    "trailing commas in rows": lambda t: "\n".join(
        line + "," * (i > 0) for i, line in enumerate(lines(t))
    ).encode(),
    "every cell quoted": lambda t: "\n".join(
        ",".join(f'"{cell}"' for cell in line.split(",")) for line in lines(t)
    ).encode(),
    "every line quoted": lambda t: "\n".join(f'"{line}"' for line in lines(t)).encode(),
    "spaces around cells": lambda t: t.replace(",", " , ").encode(),
    "row numbers of pandas": lambda t: "\n".join(
        f"{i - 1 if i else ''},{line}" for i, line in enumerate(lines(t))
    ).encode(),
}


@pytest.mark.parametrize("name", READ)
def test_a_file_that_means_the_same_reads_the_same(name, tmp_path):
    plain = write_raw(village(), tmp_path / "plain")
    other = write_raw(village(), tmp_path / "other")
    for table in TABLES:
        file = other / f"{table}.csv"
        file.write_bytes(READ[name](file.read_text()))
    one, two = read_tables(plain), read_tables(other)
    for table in TABLES:
        pd.testing.assert_frame_equal(one.frames()[table], two.frames()[table])


REFUSED = {  # damage to a file, its line, what is said
    "NUL bytes": (lambda t: t.replace("0", "\0", 1).encode(), None, "NUL"),
    "UTF-16 without mark": (lambda t: t.encode("utf-16-le"), 1, "NUL"),
    "half of UTF-16": (lambda t: t.encode("utf-16")[:-1], None, "UTF-16"),
    "latin letters": (lambda t: (t + "é").encode("latin-1"), None, "not UTF-8"),
    "spreadsheet": (lambda t: b"PK\x03\x04\x14\0", None, "spreadsheet"),
    "compressed": (lambda t: b"\x1f\x8b\x08", None, "compressed"),
    "Parquet": (lambda t: b"PAR1...", None, "Parquet"),
    "random bytes": (lambda t: bytes(range(254, 0, -1)), 1, "not UTF-8"),
    "empty": (lambda t: b"", None, "empty"),
    "only comments": (lambda t: b"# nothing\n# here\n", None, "no header line"),
    "a mark alone": (lambda t: b"\xef\xbb\xbf", None, "no header line"),
    "short row": (lambda t: t.replace(lines(t)[2], "H2").encode(), 3, "1 cells here"),
    "long row": (lambda t: t.replace(lines(t)[2], lines(t)[2] + ",9").encode(), 3, "not a table"),
    "open quote": (lambda t: t.replace(lines(t)[1], '"' + lines(t)[1]).encode(), 2, "double quote opens"),
    "quotes that swallow a row": (
        lambda t: (lines(t)[0] + '\n"A' + lines(t)[1] + '\nB",' + lines(t)[2] + "\n").encode(),
        2,
        "double quote opens",
    ),
    "a row that may be a comment": (
        lambda t: t.replace(lines(t)[2], "#" + lines(t)[2]).encode(),
        3,
        "comment or a row",
    ),
    "decimal commas between commas": (
        lambda t: re.sub(r"(?<=\d)\.(?=\d)", ",", t).encode(),
        None,
        "columns in its header",
    ),
    "columns twice": (
        lambda t: "\n".join(line + "," + line.split(",")[1] for line in lines(t)).encode(),
        None,
        "2 times",
    ),
    "column without a name": (
        lambda t: "\n".join("x" * (i > 0) + "," + line for i, line in enumerate(lines(t))).encode(),
        None,
        "no name",
    ),
}


@pytest.mark.parametrize("table", ["prosumers", "prices"])
@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_cannot_be_read_is_named_with_its_line_and_all_others(name, table, tmp_path):
    damage, line, text = REFUSED[name]
    if name == "column without a name" and table == "prices":
        damage = lambda t: t.replace("buy_eur_per_kwh", "").encode()
    folder = write_raw(village(), tmp_path / "case")
    file = folder / f"{table}.csv"
    file.write_bytes(damage(file.read_text()))
    buses = folder / "buses.csv"
    buses.write_text(buses.read_text().replace("B2,0.4", "B2,-1"))
    with pytest.raises(InputError) as caught:
        read_tables(folder)
    ours = [fault for fault in caught.value.faults if fault.table == table and text in fault.message]
    assert ours, str(caught.value)
    if line is not None:
        assert ours[0].line == line and f"line {line}" in str(ours[0])
    assert any(fault.table == "buses" and fault.column == "vn_kv" for fault in caught.value.faults)


def test_a_fault_names_the_line_of_the_file_also_behind_comments_and_blank_lines(tmp_path):
    folder = write_raw(village(), tmp_path / "case")
    file = folder / "prosumers.csv"
    text = file.read_text().replace("H2,B2,house,1.3", "H2,B2,house,-1.3")
    file.write_text("# one\n\n# two\n" + text)
    with pytest.raises(InputError) as caught:
        read_tables(folder)
    fault = next(fault for fault in caught.value.faults if fault.column == "load_kw")
    assert (fault.row, fault.line) == (2, 6)
    assert "row 2 (line 6 of a CSV file)" in str(fault)


@pytest.mark.parametrize("cell", ["1.500", "1.234,5"])
def test_points_among_decimal_commas_are_never_read_as_either(cell, tmp_path):
    """1.500 in a file with decimal commas is 1500 to who wrote it."""
    folder = write_raw(village(), tmp_path / "case")
    file = folder / "prosumers.csv"
    file.write_text(semicolons(file.read_text()).replace("1,3", cell))
    with pytest.raises(InputError) as caught:
        read_tables(folder)
    assert "prosumers" in {fault.table for fault in caught.value.faults}


def test_names_that_begin_with_a_hash_or_hold_separators_come_back(tmp_path):
    from jaxp2p.data import write_tables

    names = ["#1", 'two "quotes", and a comma', "semi;colon"]
    tables = village()
    homes = tables.prosumers.assign(prosumer_id=names)
    back = read_tables(write_tables(tables.replace(prosumers=homes), tmp_path / "out"))
    assert back.prosumers["prosumer_id"].tolist() == names


@pytest.mark.parametrize("name", ["two\nlines", "a\tb", "bell \a"])
def test_a_name_that_no_text_file_can_keep_is_refused(name):
    tables = village()
    with pytest.raises(InputError, match="control character"):
        check(tables.replace(prosumers=tables.prosumers.assign(prosumer_id=[name, "H2", "H3"])))
