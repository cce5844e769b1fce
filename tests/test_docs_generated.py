"""Pages that the package writes about itself, and its docstrings as reStructuredText; no Sphinx needed."""

import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer

import jaxp2p as jp
from jaxp2p.cli import app
from jaxp2p.control.catalogue import ENTRIES
from jaxp2p.data.schema import COLUMNS
from jaxp2p.report.kpi_catalogue import BY_NAME
from jaxp2p.slot.status import Status

EXTENSIONS = Path(__file__).parents[1] / "docs" / "_ext"


@pytest.fixture(scope="module")
def extension():
    """A module of the documentation by its name."""
    sys.path.insert(0, str(EXTENSIONS))
    yield import_module
    sys.path.remove(str(EXTENSIONS))


@pytest.fixture(scope="module")
def pages(extension):
    return {name: page() for name, page in extension("generated").PAGES.items()}


def test_every_command_is_there_with_its_options(pages):
    text = pages["command_line"]
    for name, command in typer.main.get_command(app).commands.items():
        section = text.split(f"\n## jaxp2p {name}\n")[1].split("\n## ")[0]
        assert f"Usage: jaxp2p {name}" in section
        options = [option for parameter in command.params for option in parameter.opts if option[:2] == "--"]
        assert [option for option in options if option not in section] == []


def test_every_column_figure_name_and_public_name_is_there(pages):
    columns = [column.name for table in COLUMNS.values() for column in table]
    assert [name for name in columns if f"| `{name}` |" not in pages["columns"]] == []
    assert [name for name in BY_NAME if f"| `{name}` |" not in pages["figures"]] == []
    names = [*ENTRIES, *(status.name for status in Status)]
    assert [name for name in names if f"| `{name}` |" not in pages["names"]] == []
    assert [name for name in jp.__all__[1:] if f"jaxp2p.{name}\n" not in pages["python"]] == []


def test_prose_formulas_and_sections_become_restructured_text(extension):
    rest = extension("docstrings").rest
    assert rest(["|x| of `a*b` and c_ * d"]) == [r"\|x\| of ``a*b`` and c\_ \* d"]
    assert rest(["An idea:", "", "    y = |x|", "", "More."]) == [
        "An idea:",
        "",
        "::",
        "",
        "    y = |x|",
        "",
        "More.",
    ]
    assert rest(["Args:", "    a, b: |one| for both."]) == [
        "Args:",
        r"    a: \|one\| for both.",
        r"    b: \|one\| for both.",
    ]


def test_fields_have_the_comments_beside_them(extension):
    found = {name: (kind, said) for name, kind, said in extension("docstrings").fields(jp.Prosumers)}
    assert found["buy_max"] == ("Array", "(N,) kW, inf when unlimited")
    assert found["battery"] == ("Battery", "")


def test_a_formula_that_is_not_known_is_a_warning(extension):
    pytest.importorskip("latex2mathml")
    pytest.importorskip("sphinx")
    from docutils import nodes

    class Page:
        body: list[str]

    mathml, page = extension("mathml"), Page()
    page.body = []
    for formula in (r"\frac{a}{b}", r"\unheard{a}"):
        with pytest.raises(nodes.SkipNode):
            mathml._show(page, nodes.math(formula, formula), "inline")
    known, unknown = page.body
    assert "<mfrac>" in known
    assert unknown == r"<code>\unheard{a}</code>"
