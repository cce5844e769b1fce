"""The code cells of the notebooks run, in order, on small parameters: no Jupyter needed."""

import ast
import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
SMALL = {"first_week": {"CASE": "rural1", "DAYS": 0.25, "MARKET": "pool", "START": "2016-07-04 10:00"}}
SMALL["first_week"] |= {"SUNNY": "2016-05-23 11:00", "PV_SCALE": 2.5}
SMALL["tuning"] = {"CASE": "rural1", "TRAIN_DAYS": 2, "TEST_DAYS": 1, "SCENARIOS": 2, "STEPS": 3}


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


def run_small(name: str) -> tuple[dict, int]:
    """Run a notebook; what its names stand for at the end, and the number of figures it showed."""
    namespace: dict = {}
    figures = 0
    for cell in cells(name):
        shown = run_cell(cell, namespace)
        if type(shown).__name__ == "Figure":
            shown.canvas.draw()  # layout and text as well
            figures += 1
        if "parameters" in cell["metadata"].get("tags", ()):
            assert SMALL[name].keys() <= namespace.keys()
            namespace |= SMALL[name]
    return namespace, figures


def test_the_first_week_runs(capsys):
    names, figures = run_small("first_week")
    assert "lyapunov_standard" in capsys.readouterr().out
    assert figures >= 8
    limited, free = (names["kpis"][which] for which in ("with limits", "without limits"))
    beyond = "ac_loading_violation_pct"
    assert limited.drop("perfect_foresight")[beyond].max() <= 0.1 < free[beyond].min()
    assert limited.loc["perfect_foresight", "line_violation_kw"] < 0.05 < free["line_violation_kw"].min()


def test_tuning_runs():
    names, figures = run_small("tuning")
    assert figures == 6
    assert names["history"]["loss"].iloc[-1] < names["history"]["loss"].iloc[0]
    assert names["shares"].loc["tuned", "train"] > names["shares"].loc["Lyapunov", "train"]
    assert names["beyond"] <= 1e-4  # kWh


@pytest.mark.parametrize("file", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda file: file.stem)
def test_is_small_and_tested(file):
    assert file.stem in SMALL
    assert file.stat().st_size < 500_000
