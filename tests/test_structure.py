"""The house rules that a reader relies on."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "jaxp2p"
# data flows one way: a module may import from rooms to its left, and from its own
ORDER = [
    {"_pytree", "data"},
    {"community"},
    {"prox"},
    {"slot"},
    {"admm", "newton"},
    {"solvers"},
    {"diagnose", "grid", "lyapunov", "trajectory"},
    {"accounting"},
    {"baselines"},
    {"policy"},
    {"simulation"},
    {"costate"},
    {"predictive"},
    {"scenarios"},
    {"tuning"},
    {"runner"},
    {"verification", "kpis"},
    {"report"},
    {"results"},
    {"study"},
    {"cli", "__main__"},
]
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("jaxp2p"):
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("jaxp2p.")}
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room == "__init__":
        return
    later = {name for name in imports(path) if RANK.get(name, -1) > RANK[room]}
    assert not later, f"{room} must not import {', '.join(sorted(later))}"


def test_every_public_name_exists_and_is_what_it_says():
    code = (
        "import jaxp2p, jaxp2p.runner, jaxp2p.simulation, jaxp2p.verification\n"
        "bad = [n for n in jaxp2p.__all__ if not hasattr(jaxp2p, n)]\n"
        "assert not bad, bad\n"
        "assert callable(jaxp2p.run) and callable(jaxp2p.simulate) and callable(jaxp2p.verify)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PACKAGE.parent)


def test_import_does_no_work():
    code = "import sys, jaxp2p; assert not {'jax', 'pandas', 'matplotlib', 'clarabel'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PACKAGE.parent)
