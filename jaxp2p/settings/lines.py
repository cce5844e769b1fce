"""Where in a TOML file its tables and keys stand, which its reader does not tell."""

import tomllib
from typing import Any

Place = tuple[str, ...]  # names of tables and keys, from the outside in


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
