"""MATPOWER case files: the matrices of `mpc` as arrays, from a .m file or a .mat file.

A .m file is a program. Read are assignments of numbers and matrices to fields of `mpc`, and of what cases of
the distribution kind end with: names for numbers, and columns scaled by them, such as

    Sbase = mpc.baseMVA * 1e6;
    mpc.branch(:, [BR_R BR_X]) = mpc.branch(:, [BR_R BR_X]) / (Vbase^2 / Sbase);

Any other statement is refused with its line, because leaving it out would give wrong numbers.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = {
    "bus": [
        "BUS_I",
        "BUS_TYPE",
        "PD",
        "QD",
        "GS",
        "BS",
        "BUS_AREA",
        "VM",
        "VA",
        "BASE_KV",
        "ZONE",
        "VMAX",
        "VMIN",
    ],
    "gen": ["GEN_BUS", "PG", "QG", "QMAX", "QMIN", "VG", "MBASE", "GEN_STATUS", "PMAX", "PMIN"],
    "branch": [
        "F_BUS",
        "T_BUS",
        "BR_R",
        "BR_X",
        "BR_B",
        "RATE_A",
        "RATE_B",
        "RATE_C",
        "TAP",
        "SHIFT",
        "BR_STATUS",
        "ANGMIN",
        "ANGMAX",
    ],
}
"""Names of the columns in MATPOWER's manual, in their order."""

PLACE = {name: i for names in COLUMNS.values() for i, name in enumerate(names)}

_IGNORED = re.compile(
    r"function\b|\[[^\]]*\]\s*=\s*(idx_\w+|define_constants)\b|define_constants$|return$|end$"
)
_FIELD = re.compile(r"mpc\.(\w+)\s*=\s*(.*)", re.DOTALL)
_SCALED = re.compile(
    r"mpc\.(\w+)\(:,\s*(\[[^\]]*\]|\w+)\)\s*=\s*mpc\.(\w+)\(:,\s*(\[[^\]]*\]|\w+)\)\s*(?:(\*|/)\s*(.*))?$",
    re.DOTALL,
)
_NAMED = re.compile(r"([A-Za-z]\w*)\s*=\s*(.*)", re.DOTALL)
_CELL = re.compile(r"mpc\.(\w+)\(\s*(\d+)\s*,\s*(\w+)\s*\)")
_OPERATIONS: dict[type, Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_FUNCTIONS = {name: getattr(math, name) for name in ("sqrt", "sin", "cos", "tan", "acos", "asin")}


def read_case(path: Path) -> dict[str, Any]:
    """The fields of `mpc`: matrices as float arrays (rows, columns), numbers, and lists of names.

    Raises:
        ValueError: the file is no case, or holds a statement that is not understood; OSError: unreadable.
    """
    if path.suffix.lower() == ".mat":
        case = _read_mat(path)
    else:
        case = _read_program(path.read_text(encoding="utf-8", errors="replace"), path.name)
    for name in ("baseMVA", "bus", "gen", "branch"):
        if name not in case:
            raise ValueError(f"{path.name} is no MATPOWER case: it has no mpc.{name}")
    for name, least in (("bus", 13), ("gen", 8), ("branch", 11)):
        matrix = case[name]
        if (
            not isinstance(matrix, np.ndarray)
            or matrix.ndim != 2
            or (len(matrix) and matrix.shape[1] < least)
        ):
            raise ValueError(f"{path.name}: mpc.{name} must be a matrix with at least {least} columns")
    return case


def _read_mat(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat

    try:
        whole = loadmat(path, simplify_cells=True)
    except (ValueError, NotImplementedError, TypeError) as error:
        raise ValueError(f"{path.name} cannot be read: {error}") from error
    case = whole.get("mpc", whole)
    fields = {name: case[name] for name in ("bus", "gen", "branch", "dcline") if name in case}
    fields = {name: np.atleast_2d(np.asarray(values, float)) for name, values in fields.items()}
    if "baseMVA" in case:
        fields["baseMVA"] = float(case["baseMVA"])
    if "bus_name" in case:
        fields["bus_name"] = [str(name) for name in np.atleast_1d(case["bus_name"])]
    return fields


def _read_program(text: str, file: str) -> dict[str, Any]:
    case: dict[str, Any] = {}
    names: dict[str, float] = {}
    for line, statement in _statements(text):
        try:
            _run(statement, case, names)
        except (ValueError, KeyError, IndexError, SyntaxError, TypeError, ZeroDivisionError) as error:
            raise ValueError(f"{file}, line {line}: cannot be read: {statement[:80]!r} ({error})") from error
    return case


def _statements(text: str) -> list[tuple[int, str]]:
    """The statements with the line that each begins in, without comments and line continuations."""
    found: list[tuple[int, str]] = []
    pieces: list[str] = []
    begun, depth, blocked = 0, 0, False
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() in ("%{", "%}"):
            blocked = line.strip() == "%{"
            continue
        code = "" if blocked else _without_comment(line)
        continued = "..." in code
        code = code.partition("...")[0]
        if not pieces:
            if not code.strip():
                continue
            begun = number
        pieces.append(code)
        depth += sum(_bracket(letter) for letter in re.sub(r"'[^'\n]*'", "", code))
        if continued:
            pieces.append(" ")
        elif depth > 0:
            pieces.append("\n")
        else:
            found += [(begun, part.strip()) for part in _parts("".join(pieces)) if part.strip()]
            pieces, depth = [], 0
    if pieces:
        raise ValueError(f"line {begun}: a bracket is not closed: {''.join(pieces).strip()[:60]!r}")
    return found


def _without_comment(line: str) -> str:
    quoted = False
    for i, letter in enumerate(line):
        if letter == "'":
            quoted = not quoted
        elif letter in "%#" and not quoted:
            return line[:i]
    return line


def _bracket(letter: str) -> int:
    return (letter in "[{(") - (letter in "]})")


def _parts(text: str) -> list[str]:
    """Split at semicolons outside of brackets and quotes."""
    cuts, depth, quoted = [-1], 0, False
    for i, letter in enumerate(text):
        quoted ^= letter == "'"
        depth += 0 if quoted else _bracket(letter)
        if letter == ";" and depth == 0 and not quoted:
            cuts.append(i)
    return [text[a + 1 : b] for a, b in zip(cuts, [*cuts[1:], len(text)], strict=True)]


def _run(statement: str, case: dict[str, Any], names: dict[str, float]) -> None:
    if _IGNORED.match(statement):
        return
    if scaled := _SCALED.match(statement):
        table, columns, source, taken, sign, factor = scaled.groups()
        matrix = case[table]
        value = 1.0 if factor is None else _value(factor, case, names)
        moved = case[source][:, _columns(taken)] * (1 / value if sign == "/" else value)
        matrix[:, _columns(columns)] = moved
    elif field := _FIELD.match(statement):
        case[field.group(1)] = _literal(field.group(2).strip(), case, names)
    elif named := _NAMED.match(statement):
        names[named.group(1)] = _value(named.group(2), case, names)
    else:
        raise ValueError("such a statement is not understood")


def _columns(text: str) -> list[int]:
    names = text.strip("[]").replace(",", " ").split()
    return [PLACE[name] if name in PLACE else int(name) - 1 for name in names]


def _literal(text: str, case: dict[str, Any], names: dict[str, float]) -> Any:
    """A matrix in brackets, names in braces, text in quotes, or a number."""
    if text.startswith("{"):
        return re.findall(r"'([^']*)'", text)
    if text.startswith("'"):
        return text.strip("'")
    if not text.startswith("["):
        return _value(text, case, names)
    rows = [row.replace(",", " ").split() for row in re.split(r"[;\n]", text.strip().strip("[]"))]
    numbers = [[_cell(cell, case, names) for cell in row] for row in rows if row]
    if len({len(row) for row in numbers}) > 1:
        raise ValueError("the rows of the matrix have different lengths")
    return np.array(numbers, float) if numbers else np.zeros((0, 0))


def _cell(text: str, case: dict[str, Any], names: dict[str, float]) -> float:
    try:
        return float(text)
    except ValueError:
        return _value(text, case, names)


def _value(text: str, case: dict[str, Any], names: dict[str, float]) -> float:
    """The number that an expression of numbers, names and fields of `mpc` amounts to."""
    text = _CELL.sub(lambda m: repr(float(case[m[1]][int(m[2]) - 1, _columns(m[3])[0]])), text)
    text = re.sub(r"mpc\.(\w+)\b(?!\()", lambda m: repr(float(case[m[1]])), text)
    return float(_evaluated(ast.parse(text.replace("^", "**").strip(), mode="eval").body, names))


def _evaluated(node: ast.expr, names: dict[str, float]) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    if isinstance(node, ast.Name):
        return names[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_evaluated(node.operand, names)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        return _OPERATIONS[type(node.op)](_evaluated(node.left, names), _evaluated(node.right, names))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS:
        return _FUNCTIONS[node.func.id](*(_evaluated(part, names) for part in node.args))
    raise ValueError("only numbers, names, + - * / ^ and sqrt, sin, cos, tan, asin, acos are known")
