"""A configuration file: read, judged as a whole, and turned into the settings of a command.

    command = "run"

    [source]
    name = "village"        # a folder beside this file
    days = 7

    [market]
    market = "pool"

Keys are the options of the command with _ for -, in the tables that `jaxp2p init` writes them in.
"""

import math
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from pathlib import Path
from types import UnionType
from typing import Any, get_args

from jaxp2p.settings.commands import COMMANDS, Configurable
from jaxp2p.settings.fields import UsageError, limits, nearest
from jaxp2p.settings.options import Option
from jaxp2p.settings.source import CASE_NAMES
from jaxp2p.settings.span import merged

MADE = "made"  # the table that says what the results were made with that a file lies beside
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a text"}


@dataclass(frozen=True, kw_only=True)
class Made:
    """What results were made with, besides the settings."""

    version: str | None = None  # of jaxp2p
    inputs: Mapping[str, str] = field(default_factory=dict)  # sha256 of files by name


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """The settings that a file gives, by name; paths are those that the file means."""

    path: Path
    command: Configurable
    values: Mapping[str, Any]
    made: Made


def read_configuration(path: Path, *, command: str | None = None) -> Configuration:
    """Read a TOML file as the settings of a command, by default of the one that the file names, else of run.

    Raises:
        UsageError: no TOML, or unknown tables and keys, wrong types, values out of range or no choice; all
            are named, with their lines.
        OSError: the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = tomllib.loads(text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} is no TOML file: {error}") from None
    named = content.get("command")
    chosen = command or (named if isinstance(named, str) and named in COMMANDS else "run")
    values: dict[str, Any] = {}
    faults = [*_headed(content, chosen), *_read(content, COMMANDS[chosen].settings(), path.parent, values)]
    if faults:
        lines = lines_of(text)
        found = sorted((lines.get(place, 1), f"{fault}") for place, fault in faults)
        listed = "\n".join(f"  line {number}: {fault}" for number, fault in found)
        raise UsageError(f"{path} cannot be used:\n{listed}")
    made = content.get(MADE, {})
    return Configuration(path=path, command=COMMANDS[chosen], values=values, made=Made(**made))


def settings_by(found: Configuration, changes: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of the command by name: changes over the file, the file over the defaults."""
    defaults = {option.name: option.default for option in found.command.settings()}
    return merged(defaults, found.values, changes, lengths=found.command.lengths)


Place = tuple[str, ...]
Fault = tuple[Place, str]


def _headed(content: Mapping[str, Any], chosen: str) -> Iterator[Fault]:
    """What is wrong about what is no setting."""
    named = content.get("command", chosen)
    if named not in COMMANDS:
        hint = nearest(named, COMMANDS)
        yield ("command",), f"command is {named!r}{hint} (there are {', '.join(COMMANDS)})"
    elif named != chosen:
        yield ("command",), f"these are settings of `jaxp2p {named}`, not of `jaxp2p {chosen}`"
    made = content.get(MADE, {})
    if not isinstance(made, dict):
        yield (MADE,), f"{MADE} is a table: [{MADE}]"
        return
    for key, value in made.items():
        if key == "version":
            right = isinstance(value, str)
        elif key == "inputs":
            right = isinstance(value, dict) and all(isinstance(digest, str) for digest in value.values())
        else:
            yield (MADE, key), f"unknown key {key}{nearest(key, ('version', 'inputs'))}"
            continue
        if not right:
            yield (MADE, key), f"{MADE}.{key} is as jaxp2p writes it, or left out"


def _read(
    content: Mapping[str, Any], options: list[Option], folder: Path, values: dict[str, Any]
) -> Iterator[Fault]:
    """Put the settings of the tables into `values`; what is wrong with them."""
    tables: dict[str, dict[str, Option]] = {}
    for option in options:
        tables.setdefault(option.table, {})[option.key] = option
    home = {key: table for table, keys in tables.items() for key in keys}
    for table, rows in content.items():
        if table in ("command", MADE):
            continue
        if table not in tables:
            hint = f"; it belongs into [{home[table]}]" if table in home else nearest(table, tables)
            yield (table,), f"unknown {'table' if isinstance(rows, dict) else 'key'} {table}{hint}"
            continue
        if not isinstance(rows, dict):
            yield (table,), f"{table} is a table: [{table}], with its keys in the lines below"
            continue
        for key, value in rows.items():
            if key not in tables[table]:
                yield (table, key), f"unknown key {key} in [{table}]{_meant(key, tables[table], home)}"
                continue
            option = tables[table][key]
            values[option.name], faults = value_of(option, value, folder)
            yield from (((table, key), fault) for fault in faults)


def _meant(key: str, here: Iterable[str], home: Mapping[str, str]) -> str:
    """What an unknown key may be: one of this table, else one of another."""
    if key in home:
        return f"; it belongs into [{home[key]}]"
    hint = nearest(key, here)
    if hint:
        return hint
    hint = nearest(key, home)
    return f"{hint} It belongs into [{home[hint.split(chr(34))[1]]}]" if hint else ""


def value_of(option: Option, value: Any, folder: Path) -> tuple[Any, list[str]]:
    """What a setting is by a value of a file in `folder`; and what is wrong with it."""
    about, kind = option.about, plain_kind(option.kind)
    if about.repeated or about.listed:
        texts = value if isinstance(value, list) else [value]
        if not all(isinstance(text, str) for text in texts):
            return None, [f"{option.key} is {_shown(value)}: it must be a list of texts"]
        return ",".join(texts), []
    if about.unit == "DATE" and isinstance(value, date | datetime):
        value = value.isoformat()
    right = isinstance(value, str if kind is Path else (int, float) if kind is float else kind)
    if not right or (isinstance(value, bool) and kind is not bool):
        return None, [f"{option.key} is {_shown(value)}: it must be {KINDS[kind]}"]
    if kind is float:
        value = float(value)
        if not math.isfinite(value):
            return None, [f"{option.key} is {value}: it must be finite"]
    if kind is Path or about.files:
        return _place(option, value, folder)
    return value, limits(option.key, value, about)


def plain_kind(kind: Any) -> type:
    """A type without `| None`."""
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    return next(part for part in kinds if part is not type(None))


def _place(option: Option, value: str, folder: Path) -> tuple[Any, list[str]]:
    """A path as it is meant, from the folder of the file on; the name of a case and - stay what they are."""
    path = folder / value
    if option.about.position:
        if value in CASE_NAMES:
            return value, []
        if not path.exists():
            text = f"there is no folder {path}, and the cases are {', '.join(CASE_NAMES)}"
            return None, [f"{option.key} is {value!r}: {text}{nearest(value, CASE_NAMES)}"]
        return str(path), []
    if plain_kind(option.kind) is Path:
        return path, []
    return value if value == "-" else str(path), []


def _shown(value: Any) -> str:
    """A value as TOML has it, or nearly so."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, date | datetime | time) else repr(value)


def lines_of(text: str) -> dict[Place, int]:
    """The line that every table and key of a TOML file begins in, by its names.

    Lines are taken together until they are TOML by themselves: a header, or a key with its value.
    """
    found: dict[Place, int] = {}
    table: Place = ()
    statement, begin = "", 1
    for number, line in enumerate(text.split("\n"), start=1):
        begin = number if not statement else begin
        statement += line + "\n"
        try:
            content = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue  # goes on in the next line
        header = statement.lstrip().startswith("[")
        statement = ""
        if not content:
            continue  # a comment, or nothing
        path = _names(content, deep=header)
        table = path if header else table
        whole = path if header else (*table, *path)
        for depth in range(len(whole)):
            found.setdefault(whole[: depth + 1], begin)
    return found


def _names(content: Any, *, deep: bool) -> Place:
    """The names of a statement: those of a header to the end, of a key as far as they are dotted."""
    names: Place = ()
    while isinstance(content, dict) and len(content) == 1:
        ((name, content),) = content.items()
        names = (*names, name)
        if deep and isinstance(content, list):  # [[an array of tables]]
            content = content[0]
    return names
