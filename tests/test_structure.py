"""The house rules that a reader relies on."""

import ast
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from fake_study import settings

from jaxp2p.studies import schedule
from jaxp2p.studies.work import Work

PACKAGE = Path(__file__).parent.parent / "jaxp2p"
# data flows one way: a module may import from rooms to its left, and from its own
ORDER = [
    {"_pytree", "_once", "_xla_flags", "_kept_in", "_lowered", "settings"},
    {"data"},
    {"settlement", "sharing"},
    {"model"},
    {"slot.prox"},
    {"slot"},
    {"slot.admm", "slot.newton", "slot.kernels"},
    {"slot.solvers", "slot.diagnosis"},
    {"control"},
    {"simulation"},
    {"hindsight"},
    {"planning", "scenarios"},
    {"tuning", "runs", "fairness"},
    {"report"},
    {"studies"},
    {"library"},
    {"cli", "__main__"},
]
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}


def rank(parts: list[str]) -> int:
    """Of a module, by its dotted path below the package."""
    return RANK.get(".".join(parts[:2]), RANK.get(parts[0], -1))


def imports(path: Path) -> set[str]:
    """Modules of the package that a file names in its imports, without the package's own name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("jaxp2p"):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.startswith("jaxp2p.")}
    return {name.removeprefix("jaxp2p.") for name in found}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
    if parts == ["__init__"]:
        return
    later = {name for name in imports(path) if rank(name.split(".")) > rank(parts)}
    assert not later, f"{'.'.join(parts)} must not import {', '.join(sorted(later))}"


def test_every_room_has_its_place_in_the_order():
    rooms = {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists()}
    assert rooms <= {name.split(".")[0] for name in RANK}


def test_every_public_name_exists_and_is_what_it_says():
    code = (
        "import jaxp2p, jaxp2p.runs.runner, jaxp2p.simulation.forward, jaxp2p.runs.verification\n"
        "bad = [n for n in jaxp2p.__all__ if not hasattr(jaxp2p, n)]\n"
        "assert not bad, bad\n"
        "assert callable(jaxp2p.run) and callable(jaxp2p.simulate) and callable(jaxp2p.verify)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PACKAGE.parent)


def test_import_does_no_work():
    code = "import sys, jaxp2p; assert not {'jax', 'pandas', 'matplotlib', 'clarabel'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PACKAGE.parent)


def test_a_worker_of_a_study_does_without_the_command_line():
    """What it is sent and runs; typer is none of its business either."""
    sent = pickle.dumps((schedule._on_worker, Work(settings())))
    code = (
        "import sys, pickle, jaxp2p.studies.schedule\n"
        "pickle.load(sys.stdin.buffer)\n"
        "assert 'jaxp2p.studies.work' in sys.modules\n"
        "assert not [name for name in sys.modules if name.split('.')[:2] == ['jaxp2p', 'cli']]\n"
        "assert 'typer' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], input=sent, check=True, cwd=PACKAGE.parent)


def test_settings_are_light():
    code = (
        "import sys, jaxp2p.settings.model, jaxp2p.settings.source, jaxp2p.settings.tuning\n"
        "rooms = {name.split('.')[1] for name in sys.modules if name.startswith('jaxp2p.')}\n"
        "assert rooms == {'settings'}, rooms\n"
        "assert not {'jax', 'numpy', 'pandas', 'typer'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PACKAGE.parent)


def test_no_public_name_is_also_a_room():
    """`jaxp2p.study` would be the function until anybody imports a module of that name."""
    import jaxp2p

    rooms = {
        path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert not rooms & set(jaxp2p.__all__)
