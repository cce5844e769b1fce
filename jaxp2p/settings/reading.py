"""A configuration file: read, judged as a whole, and turned into the settings of a command.

    command = "run"

    [source]
    name = "village"        # a folder beside this file
    days = 7

    [market]
    market = "pool"

Keys are the options of the command with _ for -, in the tables that `jaxp2p init` writes them in.
"""

import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from pathlib import Path
from types import UnionType
from typing import Any, get_args

from jaxp2p.settings.commands import COMMANDS, Configurable
from jaxp2p.settings.fields import UsageError, closest, limits, nearest, one_of
from jaxp2p.settings.lines import Place, lines_of
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
        UsageError: no TOML, or settings of another command; else unknown tables and keys, wrong types, values
            out of range or no choice: all are named, with their lines.
        OSError: the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = tomllib.loads(text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} is no TOML file: {error}") from None
    named = content.get("command", command or "run")
    known = isinstance(named, str) and named in COMMANDS
    chosen = one_of(command or (named if known else "run"), COMMANDS, option="command")
    if known and named != chosen:
        raise UsageError(f"{path} has settings of `jaxp2p {named}`, not of `jaxp2p {chosen}`")
    values: dict[str, Any] = {}
    faults = [*_headed(content), *_read(content, COMMANDS[chosen].settings(), path.parent, values)]
    if faults:
        lines = lines_of(text)
        found = sorted((lines.get(place, 1), fault) for place, fault in faults)
        listed = "\n".join(f"  line {number}: {fault}" for number, fault in found)
        raise UsageError(f"{path} cannot be used:\n{listed}")
    made = content.get(MADE, {})
    return Configuration(path=path, command=COMMANDS[chosen], values=values, made=Made(**made))


def settings_by(found: Configuration, changes: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of the command by name: changes over the file, the file over the defaults."""
    defaults = {option.name: option.default for option in found.command.settings()}
    return merged(defaults, found.values, changes, lengths=found.command.lengths)


Fault = tuple[Place, str]


def _headed(content: Mapping[str, Any]) -> Iterator[Fault]:
    """What is wrong about what is no setting."""
    named = content.get("command", "run")
    if not isinstance(named, str) or named not in COMMANDS:
        text = f"command is {_shown(named)}: choose from {', '.join(COMMANDS)}"
        yield ("command",), text + nearest(named, COMMANDS)
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
    if hint := nearest(key, here):
        return hint
    other = closest(key, home)
    return "" if other is None else f'; did you mean "{other}"? It belongs into [{home[other]}]'


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
        if not abs(value) <= sys.float_info.max:
            return None, [f"{option.key} is {value}: it must be finite"]
        value = float(value)
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
