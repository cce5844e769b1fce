"""Printing never fails: names that the console does not have, readers that have gone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from villages import village, write_raw

from jaxp2p.report.canvas import canvas, plain

HERE = Path(__file__).parent.parent


def command(*arguments, cwd, encoding="utf-8", **options):
    environment = {
        **os.environ,
        "PYTHONPATH": str(HERE),
        "PYTHONIOENCODING": encoding,
        "JAX_PLATFORMS": "cpu",
    }
    return subprocess.run(
        [sys.executable, "-m", "jaxp2p", *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        **options,
    )


@pytest.fixture
def folder(tmp_path):
    tables = village()
    homes = tables.prosumers.assign(prosumer_id=["Żółw", "日本", "$\\frac{a$"])
    return write_raw(tables.replace(prosumers=homes), tmp_path / "Łódź ☀ $x")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_names_that_the_console_does_not_have_are_spelt_out(encoding, folder, tmp_path):
    done = command("check", folder, cwd=tmp_path, encoding=encoding)
    assert done.returncode == 0 and b"Traceback" not in done.stderr
    homes = folder / "prosumers.csv"
    homes.write_text(homes.read_text(encoding="utf-8").replace("1.3", "-1.3"), encoding="utf-8")
    done = command("check", folder, cwd=tmp_path, encoding=encoding)
    assert done.returncode == 2 and b"Traceback" not in done.stderr
    if encoding == "cp1252":
        assert rb"\u65e5\u672c: -1.3 kW" in done.stderr


@pytest.mark.slow
def test_json_on_a_small_console_loses_nothing(folder, tmp_path):
    options = ["--market", "pool", "--policies", "no_storage", "--days", 0.25, "--no-pictures", "--json", "-"]
    done = command("run", folder, *options, cwd=tmp_path, encoding="cp1252")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["case"] == folder.name


def test_a_reader_that_has_gone_is_no_error(tmp_path):
    read, write = os.pipe()
    os.close(read)
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    done = subprocess.run(
        [sys.executable, "-m", "jaxp2p", "check", "--columns"],
        cwd=tmp_path,
        env=environment,
        stdout=write,
        stderr=subprocess.PIPE,
    )
    os.close(write)
    assert done.returncode == 0 and done.stderr == b""


def test_a_dollar_in_a_name_is_no_formula(tmp_path):
    figure, axes = canvas()
    axes[0, 0].set_title(plain("$\\frac{a$"))
    figure.savefig(tmp_path / "title.png")
    assert (tmp_path / "title.png").stat().st_size > 0
    assert axes[0, 0].title.get_text() == "\\$\\frac{a\\$"
