"""Options of the commands: those that make a case are everywhere, and no text names one that is not there."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import typer.main

from jaxp2p.cli import app
from jaxp2p.cli.source import Source

PACKAGE = Path(__file__).parent.parent / "jaxp2p"
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z](?![\w])")
QUOTED = re.compile(r"jaxp2p ([a-z]+)")

COMMANDS = dict(typer.main.get_command(app).commands)
FUNCTIONS = {name: command.callback.__name__ for name, command in COMMANDS.items()}
OPTIONS = {
    name: {"--help"}.union(*((*parameter.opts, *parameter.secondary_opts) for parameter in command.params))
    for name, command in COMMANDS.items()
}

NOT_ASKED = {
    "tune": {"days", "duration"},  # --train-days and --test-days
    "export": {"accept", "time_zone"},  # embedded cases only
    "import": {"homes", "accept", "time_zone"},  # no case, no folder
}
"""Parts of a source that a command has no option for, and why."""


@pytest.mark.parametrize(
    "command", ["run", "tune", "study", "hosting", "modes", "verify", "export", "import"]
)
def test_every_command_with_a_case_takes_what_makes_a_case(command):
    parts = {field.name for field in fields(Source)} - {"name"} - NOT_ASKED.get(command, set())
    missing = {f"--{part.replace('_', '-')}" for part in parts} - OPTIONS[command]
    assert not missing


def test_verify_takes_what_makes_a_market():
    market = {"--market", "--partners", "--fee", "--graph", "--network", "--solver", "--tolerance", "--dtype"}
    assert market <= OPTIONS["run"] & OPTIONS["verify"]


# --- texts: who can say them, and does the command have the option? -------------------------------


class Node(NamedTuple):
    """A function or class of the package, by module and name."""

    module: str
    name: str


class Module(NamedTuple):
    """What stands at the top of a module."""

    defined: dict[str, ast.stmt]
    imported: dict[str, Node]  # a module has the name ""


def _imports(tree: ast.AST) -> dict[str, Node]:
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxp2p"):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                target = Node(inner, "") if _file(inner) else Node(node.module, alias.name)
                found[alias.asname or alias.name] = target
    return found


def _file(module: str) -> Path | None:
    path = PACKAGE.parent.joinpath(*module.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.exists():
            return file
    return None


@cache
def _module(name: str) -> Module:
    tree = ast.parse(_file(name).read_text())
    defined = {}
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            defined[statement.name] = statement
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            for target in statement.targets if isinstance(statement, ast.Assign) else [statement.target]:
                if isinstance(target, ast.Name):
                    defined[target.id] = statement
    top = ast.Module([s for s in tree.body if not isinstance(s, ast.FunctionDef | ast.ClassDef)], [])
    return Module(defined, _imports(top))


def _found(node: Node) -> Node | None:
    """Where something is defined, through re-exports."""
    while node.name and node.name not in _module(node.module).defined:
        if node.name not in _module(node.module).imported:
            return None
        node = _module(node.module).imported[node.name]
    return node if node.name else None


def _uses(node: Node) -> set[Node]:
    body, module = _module(node.module).defined[node.name], _module(node.module)
    known = {name: Node(node.module, name) for name in module.defined} | module.imported | _imports(body)
    used = set()
    for part in ast.walk(body):
        if isinstance(part, ast.Name) and part.id in known:
            used.add(_found(known[part.id]))
        elif isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id in known:
            owner = known[part.value.id]
            if not owner.name:
                used.add(_found(Node(owner.module, part.attr)))
    return used - {None}


# what reads files of settings knows those of all commands; each command names its own to it
ALL_SETTINGS = Node("jaxp2p.settings.commands", "COMMANDS")


def _reached(start: Node) -> set[Node]:
    seen, queue = {start, ALL_SETTINGS}, [start]
    while queue:
        new = _uses(queue.pop()) - seen
        seen |= new
        queue += new
    return seen


def _texts(body: ast.AST) -> list[str]:
    """The strings in a definition, f-strings as a whole."""
    parts = {id(value) for node in ast.walk(body) if isinstance(node, ast.JoinedStr) for value in node.values}
    texts = []
    for node in ast.walk(body):
        if isinstance(node, ast.JoinedStr):
            values = [v.value if isinstance(v, ast.Constant) else "{}" for v in node.values]
            texts.append("".join(str(value) for value in values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            texts.append(node.value)
    return texts


def _wrong(command: str) -> list[str]:
    """Texts that this command can say, with an option that it does not have."""
    wrong = []
    for node in _reached(Node("jaxp2p.cli.app", FUNCTIONS[command])):
        body = _module(node.module).defined[node.name]
        for text in _texts(body):
            if text.startswith("--"):  # about an option that was given; what is recommended comes after
                text = text.partition(";")[2]
            for option in OPTION.findall(text):
                quoted = [name for name in QUOTED.findall(text) if name in OPTIONS]
                if not any(option in OPTIONS[name] for name in quoted or [command]):
                    wrong.append(f"{node.module}.{node.name}: {option} in {text[:80]!r}")
    return wrong


@pytest.mark.parametrize("command", COMMANDS)
def test_no_text_of_a_command_names_an_option_that_it_lacks(command):
    assert not _wrong(command)


def test_this_search_finds_what_it_is_for():
    reached = _reached(Node("jaxp2p.cli.app", "verify"))
    assert {Node("jaxp2p.cli.running", "check_tolerance"), Node("jaxp2p.data.cases", "window")} <= reached
    texts = _texts(_module("jaxp2p.cli.running").defined["check_tolerance"])
    assert "; try --dtype float64" in texts
    assert not _wrong("verify")
    OPTIONS["verify"].remove("--dtype")
    try:
        assert any("--dtype" in line for line in _wrong("verify"))
    finally:
        OPTIONS["verify"].add("--dtype")
