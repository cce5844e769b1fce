"""Settings as a TOML file, with everything that is known of them."""

import json
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxp2p.settings.commands import Configurable
from jaxp2p.settings.fields import REQUIRED
from jaxp2p.settings.options import Option, keyed
from jaxp2p.settings.reading import MADE, Made, plain_kind

WIDTH = 100


def fresh_file(command: Configurable, *, schema: str | None = None) -> str:
    """A file with every setting of a command, commented out: what is left so is the default.

    schema: where editors find the JSON Schema, relative to the file.
    """
    lines = [] if schema is None else [f"#:schema {schema}", ""]
    lines += _comment(
        f"Settings of `jaxp2p {command.name}`: {command.words}. `jaxp2p {command.name} THIS_FILE` takes "
        "them; options given behind it win over the file, the file over the defaults. Take the # away in "
        "front of a setting to change it. Paths are relative to this file."
    )
    lines += ["", f'command = "{command.name}"']
    for table, options in by_table(command).items():
        lines += ["", f"[{table}]"]
        for option in options:
            lines += ["", *_comment(about(option, command)), f"# {option.key} = {literal(example(option))}"]
    return "\n".join(lines) + "\n"


def resolved_file(command: Configurable, values: Mapping[str, Any], made: Made) -> str:
    """A file with the values of all settings that there are values of, and what the results were made with.

    None is a setting that was left to its default: a comment says what that is.
    """
    lines = _comment(
        f"What these results were made with, by jaxp2p {made.version}. `jaxp2p {command.name} THIS_FILE` "
        "makes them again."
    )
    lines += ["", f'command = "{command.name}"']
    for table, options in by_table(command).items():
        rows = []
        for option in options:
            value = values.get(option.name)
            if option.name not in values or (value is None and option.default is not None):
                continue  # it has no part in this: another setting says the same
            left = f"# {option.key}: {_in_file(option.about.otherwise or 'not set', command)}"
            rows.append(left if value is None else f"{option.key} = {literal(_listed(option, value))}")
        if rows:
            lines += ["", f"[{table}]", *rows]
    lines += ["", f"[{MADE}]", f"version = {literal(made.version)}"]
    if made.inputs:
        lines += ["", f"[{MADE}.inputs]  # sha256 of the files"]
        lines += [f"{literal(name)} = {literal(digest)}" for name, digest in made.inputs.items()]
    return "\n".join(lines) + "\n"


def by_table(command: Configurable) -> dict[str, list[Option]]:
    """The options of a command by their tables, in the order of the help."""
    tables: dict[str, list[Option]] = {}
    for option in command.settings():
        tables.setdefault(option.table, []).append(option)
    for options in tables.values():  # what is an argument comes first
        options.sort(key=lambda option: not option.about.position)
    return tables


def about(option: Option, command: Configurable) -> str:
    """All that is known of a setting: help, choices or unit, limits, default."""
    about, facts = option.about, []
    if about.choices:
        facts.append(f"one of {', '.join(about.choices)}")
    elif about.unit and not about.position:
        facts.append(about.unit)
    if about.least is not None:
        facts.append(f"at least {about.least:g}")
    if about.most is not None:
        facts.append(f"at most {about.most:g}")
    facts.append(f"default: {_in_file(default_words(option), command)}")
    return f"{_in_file(about.help, command)} ({'; '.join(facts)})"


def default_words(option: Option) -> str:
    """What holds where nothing is said."""
    if option.about.otherwise:
        return option.about.otherwise
    return "not set" if option.default in (None, "") else literal(_listed(option, option.default))


def example(option: Option) -> Any:
    """The default, or where there is none a value of the right kind."""
    kind, about = plain_kind(option.kind), option.about
    if option.default not in (None, "", REQUIRED):
        return _listed(option, option.default)
    if about.choices:
        return about.choices[0]
    if about.repeated or about.listed:
        return []
    if kind in (int, float):
        words = re.fullmatch(r"[\d.]+", about.otherwise or "")
        return kind(words[0] if words else about.least or 0)
    return "1d 12h" if about.form else about.unit or ""


def literal(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    text = str(value).encode("utf-8", "backslashreplace").decode("utf-8")
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _listed(option: Option, value: Any) -> Any:
    """Names with commas between as a list."""
    if (option.about.repeated or option.about.listed) and isinstance(value, str):
        return [name.strip() for name in value.split(",") if name.strip()]
    return value.as_posix() if isinstance(value, Path) else value


def _in_file(text: str, command: Configurable) -> str:
    """A text of the help as it reads in a file: options are keys, and the list above is in the help."""
    text = text.replace("; repeat for more", "")
    text = re.sub(r"--[a-z][a-z-]+", lambda option: keyed(option[0]), text)
    return re.sub(r"\babove\b", f"in `jaxp2p {command.name} --help`", text)


def _comment(text: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )
