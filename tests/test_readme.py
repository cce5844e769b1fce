"""The README's Python example runs as it stands."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_python_example_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    assert len(code.strip().splitlines()) <= 12
    exec(compile(code, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    capture = {line.split()[0]: line.split()[2] for line in lines[:4]}
    assert capture["no_storage"] == "0.0"
    assert 0.2 < float(capture["lyapunov"]) < 1.0
    assert float(capture["perfect_foresight"]) == pytest.approx(1)
    assert "exact drift" in lines[4]


def test_no_placeholder_is_left():
    assert "RESULTS_" not in README
    assert "_TABLE" not in README
