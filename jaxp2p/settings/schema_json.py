"""The JSON Schema of a configuration file, by which editors complete and check it."""

from pathlib import Path
from typing import Any

from jaxp2p.settings.commands import Configurable
from jaxp2p.settings.fields import REQUIRED
from jaxp2p.settings.options import Option
from jaxp2p.settings.reading import MADE, plain_kind
from jaxp2p.settings.toml import about, by_table, example

DRAFT = "http://json-schema.org/draft-07/schema#"  # what editors of TOML know
TITLE = "Settings of jaxp2p "  # and the name of the command
TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", Path: "string"}


def schema(command: Configurable) -> dict[str, Any]:
    """Types, choices, limits and texts of every setting; nothing else may be in the file."""
    tables = {
        table: _closed({option.key: _schema(option, command) for option in options})
        for table, options in by_table(command).items()
    }
    made = {"version": {"type": "string"}, "inputs": {"type": "object", "additionalProperties": _TEXT}}
    return {
        "$schema": DRAFT,
        "title": TITLE + command.name,
        "description": command.words,
    } | _closed({"command": {"const": command.name}, **tables, MADE: _closed(made)})


_TEXT = {"type": "string"}


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _schema(option: Option, command: Configurable) -> dict[str, Any]:
    described: dict[str, Any] = {"description": about(option, command)}
    if option.default not in (None, "", REQUIRED):
        described["default"] = example(option)
    if option.about.repeated or option.about.listed:
        return described | {"anyOf": [{"type": "array", "items": _TEXT}, _TEXT]}
    limits = {
        "type": TYPES[plain_kind(option.kind)],
        "enum": list(option.about.choices) or None,
        "minimum": option.about.least,
        "maximum": option.about.most,
    }
    return described | {key: value for key, value in limits.items() if value is not None}
