"""The code cells of the notebooks run, in order, on small parameters: no Jupyter needed."""

import ast
import json
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
SMALL = {"first_week": {"CASE": "rural1", "DAYS": 0.25, "MARKET": "pool", "START": "2016-07-04 10:00"}}
SMALL["first_week"] |= {"SUNNY": "2016-05-23 11:00", "PV_SCALE": 2.5}


def cells(name: str) -> list[dict]:
    """The code cells of a notebook."""
    notebook = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run_cell(cell: dict, namespace: dict) -> object:
    """Execute a cell without its magics; the value of its last expression, which Jupyter would show."""
    tree = ast.parse("".join(line for line in cell["source"] if not line.startswith("%")))
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), namespace)
    return None if last is None else eval(compile(ast.Expression(last.value), "cell", "eval"), namespace)


@pytest.mark.parametrize("name", SMALL)
def test_runs(name, capsys):
    namespace: dict = {}
    shown = []
    for cell in cells(name):
        shown.append(run_cell(cell, namespace))
        if "parameters" in cell["metadata"].get("tags", ()):
            assert SMALL[name].keys() <= namespace.keys()
            namespace |= SMALL[name]
    assert "lyapunov_standard" in capsys.readouterr().out
    assert sum(type(value).__name__ == "Figure" for value in shown) >= 8
    for value in shown:
        if type(value).__name__ == "Figure":
            value.canvas.draw()  # layout and text as well
    with_limits = namespace["weeks"]["with limits"]
    assert (
        with_limits["line_violation_kw"].max()
        < 0.05
        < namespace["weeks"]["without limits"]["line_violation_kw"].min()
    )


@pytest.mark.parametrize("file", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda file: file.stem)
def test_is_small_and_tested(file):
    assert file.stem in SMALL
    assert file.stat().st_size < 500_000
