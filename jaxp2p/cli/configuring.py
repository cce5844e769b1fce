"""Configuration files: the work behind `jaxp2p init`, and what a file in place of a source means."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from jaxp2p.cli import places
from jaxp2p.cli.console import UsageError
from jaxp2p.settings.commands import COMMANDS, Configurable
from jaxp2p.settings.fields import argument, setting
from jaxp2p.settings.reading import read_configuration, settings_by
from jaxp2p.settings.schema_json import TITLE, schema
from jaxp2p.settings.toml import fresh_file

USUAL_FILE, SCHEMA_ENDING = "jaxp2p.toml", ".schema.json"


@dataclass(frozen=True, kw_only=True)
class InitOptions:
    """Everything `jaxp2p init` can be told."""

    file: Path | None = argument(None, "File to write; must be absent.", "[FILE.toml]", otherwise=USUAL_FILE)
    command: str = setting(
        "run",
        f"The command that the settings are for: {', '.join(COMMANDS)}.",
        unit="COMMAND",
        choices=tuple(COMMANDS),
        spelling=("--for",),
    )
    schema: Path | None = setting(
        None,
        "Where the JSON Schema goes, by which editors complete and check the file; without FILE.toml the "
        "schema alone is written.",
        unit="FILE.json",
        otherwise="beside FILE.toml",
    )


def init(options: InitOptions) -> None:
    """Write a file of settings, and the schema beside it."""
    file = options.file or (Path(USUAL_FILE) if options.schema is None else None)
    target = options.schema or Path(file or USUAL_FILE).with_suffix(SCHEMA_ENDING)
    chosen = COMMANDS[options.command]
    if file is not None:
        if file.suffix != ".toml":
            raise UsageError(f"FILE.toml: the name of {file} must end in .toml")
        if file.exists():
            raise FileExistsError(f"{file} is there already, and left as it is")
        places.check_file(file, option="FILE.toml")
    places.check_file(target, option="--schema")
    if target.exists() and not _is_schema(target):
        raise FileExistsError(f"{target} is there already, and no schema of jaxp2p")
    from jaxp2p.report.files import whole_file, write_json

    write_json(target, schema(chosen))
    typer.echo(f"written: {target}, for editors")
    if file is not None:
        where = Path(os.path.relpath(target, file.parent)).as_posix()
        with whole_file(file) as stream:
            stream.write(fresh_file(chosen, schema=f"./{where}").encode())
        typer.echo(f"written: {file}; edit it, then: jaxp2p {chosen.name} {file}")


def _is_schema(file: Path) -> bool:
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["title"]).startswith(TITLE)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def with_file(command: Configurable, path: Path, typed: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a command that was given a file in place of its source; typed win over it."""
    if not path.is_file():
        raise UsageError(f"there is no file {path}; `jaxp2p init {path}` writes one")
    found = read_configuration(path, command=command.name)
    values = settings_by(found, typed)
    if not values["quiet"]:
        from jaxp2p.data.digests import remarks

        for remark in remarks(found, values):
            typer.echo(f"remark: {remark}", err=True)
    return values
