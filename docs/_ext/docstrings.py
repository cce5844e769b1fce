"""Docstrings as they are written here (prose, code between backticks, formulas set in) as reStructuredText.

Fields of records get what the comments beside them say: shape and unit.
"""

import ast
import inspect
import re
import textwrap
from typing import Any

SHARED = re.compile(r"    (\w+(?:, \w+)+): (.*)")
CODE = re.compile(r"`[^`\n]+`")
SPECIAL = re.compile(r"(?<!\\)([*|])|(?<=\w)_(?=\W|$)")
SECTIONS = ("Args:", "Raises:", "Returns:", "Attributes:", "Yields:")


def escaped(text: str) -> str:
    """A line of prose without anything that reStructuredText would take for markup, code left as it is."""
    parts, last = [], 0
    for code in CODE.finditer(text):
        parts += [SPECIAL.sub(r"\\\g<0>", text[last : code.start()]), f"`{code[0]}`"]
        rest = text[code.end() : code.end() + 1]
        parts.append("\\ " if rest.isalnum() else "")
        last = code.end()
    return "".join([*parts, SPECIAL.sub(r"\\\g<0>", text[last:])])


def apart(line: str) -> list[str]:
    """An entry of a section that is one for several names as an entry for each."""
    found = SHARED.fullmatch(line)
    return [f"    {name}: {found[2]}" for name in found[1].split(", ")] if found else [line]


def rest(lines: list[str]) -> list[str]:
    """The lines of a docstring; what is set in after an empty line is a formula or code: kept as it is."""
    done: list[str] = []
    lines = [one for line in lines for one in apart(line)]
    literal = section = False
    for number, line in enumerate(lines):
        indented = line.startswith("    ")
        if line.strip() in SECTIONS:
            section = True
        elif line.strip() and not indented:
            section = False
        before = lines[number - 1] if number else ""
        if indented and not section and not literal and not before.strip():
            done += ["::", ""]
            literal = True
        if literal and line.strip() and not indented:
            literal = False
        done.append(line if literal else escaped(line))
    return done


def fields(made: type) -> list[tuple[str, str, str]]:
    """Name, type and comment of every field of a class, as its source has them."""
    try:
        lines = textwrap.dedent(inspect.getsource(made)).splitlines()
    except (OSError, TypeError):
        return []
    (tree,) = ast.parse("\n".join(lines)).body
    found = []
    for node in getattr(tree, "body", []):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name, own = node.target.id, lines[node.lineno - 1 : node.end_lineno]
            said = " ".join(filter(None, (line.partition("  # ")[2] for line in own)))
            if not name.startswith("_"):
                found.append((name, ast.unparse(node.annotation), said))
    return found


def _write(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    new = rest(lines)
    rows = fields(thing) if what == "class" and "Attributes:" not in lines else []
    if rows:
        new += ["", ".. list-table:: Fields", "   :widths: 20 25 55", ""]
        for field, kind, said in rows:
            new += [f"   * - ``{field}``", f"     - ``{kind}``", f"     - {escaped(said)}".rstrip()]
        new.append("")
    lines[:] = new


def _skip(app: Any, what: str, name: str, thing: Any, skip: bool, options: Any) -> bool | None:
    """Fields of a NamedTuple say nothing of themselves, and stand in the table of fields."""
    return True if (inspect.getdoc(thing) or "").startswith("Alias for field number") else None


def setup(app: Any) -> dict[str, bool]:
    """Run before napoleon, which reads the sections."""
    app.connect("autodoc-process-docstring", _write, priority=100)
    app.connect("autodoc-skip-member", _skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
