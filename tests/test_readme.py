"""The README's example runs, its links lead somewhere, its figures stand in the pages, with a command."""

import re
from pathlib import Path

import pytest
from doc_blocks import blocks

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = "".join(
    (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("figures", "guarantees")
)
# cost in EUR and capture of the example, and by how much another machine or version may differ
EXAMPLE = {
    "no_storage_no_trade": (5.12, -0.403),
    "no_storage": (-16.59, 0.0),
    "lyapunov": (-60.26, 0.810),
    "perfect_foresight": (-70.51, 1.0),
}
EUR, CAPTURE = 0.3, 0.01


@pytest.mark.slow
def test_the_python_example_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    exec(compile(code, "README.md", "exec"), {})
    _, _, *lines = capsys.readouterr().out.splitlines()  # two lines of heads
    found = {name: (float(cost), float(capture)) for name, cost, capture, _ in map(str.split, lines[:4])}
    assert found.keys() == EXAMPLE.keys()
    for name, (cost, capture) in EXAMPLE.items():
        assert found[name] == (pytest.approx(cost, abs=EUR), pytest.approx(capture, abs=CAPTURE)), name
    loading = [float(line.split()[3]) for line in lines[:4]]
    assert loading[:3] == pytest.approx([1.0] * 3, abs=2e-3)  # the transformer is full, and not fuller
    assert loading[3] == pytest.approx(1.024, abs=5e-3)  # foresight keeps to the linear network
    assert "exact drift" in lines[4]


def test_every_figure_stands_in_the_pages_and_has_a_command():
    """Whole numbers of a table are counts or names of cases there as well."""
    rows = [line.split(" | ") for line in README.splitlines() if re.match(r"\| .*\?", line)]
    assert len(rows) >= 8
    for question, answer, command in rows:
        for number in re.findall(r"\d[\d,.]*\d|\d", answer):
            assert re.search(rf"(?<![\d.,]){re.escape(number)}(?![\d])", PAGES), (question, number)
        made = re.search(r"`(?:jaxp2p|python (benchmarks/\w+\.py))\b", command)
        assert made and (made[1] is None or (ROOT / made[1]).exists()), command


def test_the_first_commands_run_the_main_job_and_the_tests():
    first, second = (block.text.strip() for block in blocks(ROOT / "README.md") if block.language == "sh")
    assert first == "pip install . && jaxp2p run"
    assert second == 'pip install ".[test]" && python -m pytest -n 2'


def test_every_link_leads_to_a_file():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert len(links) > 8
    assert [link for link in links if not (ROOT / link).exists()] == []
    assert len(README.splitlines()) <= 120
