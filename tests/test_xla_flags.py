"""Flags of XLA: only what this version knows, never against anybody's own, and the same numbers with them."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from jaxp2p import _xla_flags
from jaxp2p._xla_flags import LOOPS, known, whole_loops

FLAG = "xla_force_host_platform_device_count"


@pytest.fixture
def before_jax(monkeypatch):
    """JAX has not been imported yet, and nobody has set a flag."""
    monkeypatch.delitem(sys.modules, "jax")
    monkeypatch.setenv("XLA_FLAGS", "")


def test_a_flag_is_known_by_its_whole_name():
    assert known(FLAG) and known()
    assert not known(FLAG[:-1]) and not known(FLAG, "xla_no_such_flag")


def test_flags_are_added_to_those_that_are_there(before_jax, monkeypatch):
    monkeypatch.setattr(_xla_flags, "known", lambda *names: True)
    monkeypatch.setenv("XLA_FLAGS", f"--{FLAG}=2")
    whole_loops()
    assert os.environ["XLA_FLAGS"].split() == [f"--{FLAG}=2", *(f"--{k}={v}" for k, v in LOOPS.items())]


def test_a_version_that_lacks_one_gets_none(before_jax, monkeypatch):
    monkeypatch.setattr(_xla_flags, "known", lambda *names: False)
    whole_loops()
    assert os.environ["XLA_FLAGS"] == ""


@pytest.mark.parametrize("flag", LOOPS)
def test_who_has_set_one_is_obeyed(flag, before_jax, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", f"--{flag}=x")
    whole_loops()
    assert os.environ["XLA_FLAGS"] == f"--{flag}=x"


def test_it_is_too_late_after_jax(monkeypatch):
    assert "jax" in sys.modules
    monkeypatch.setenv("XLA_FLAGS", "")
    whole_loops()
    assert os.environ["XLA_FLAGS"] == ""


@pytest.mark.slow
@pytest.mark.parametrize("market", ["bilateral", pytest.param("pool", marks=pytest.mark.long)])
def test_a_run_has_the_same_numbers(market, tmp_path):
    code = (
        "import os, sys\n"
        "from jaxp2p._xla_flags import LOOPS, whole_loops\n"
        "if sys.argv.pop(1) == 'whole':\n"
        "    whole_loops()\n"
        "else:\n"
        "    os.environ['XLA_FLAGS'] = '--xla_cpu_use_fusion_emitters=true'\n"
        "from jaxp2p.cli import main\n"
        "main()\n"
    )
    environment = os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    found = []
    for kind in ("whole", "usual"):
        options = f"run rural1 --days 0.25 --market {market} --policies no_storage,lyapunov".split()
        place = [
            "--no-pictures",
            "--quiet",
            "--out",
            str(tmp_path / kind),
            "--json",
            f"{tmp_path / kind}.json",
        ]
        done = subprocess.run(
            [sys.executable, "-c", code, kind, *options, *place],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        found.append(json.loads((tmp_path / f"{kind}.json").read_text())["policies"])
    for name in ("no_storage", "lyapunov"):
        ours, usual = (policies[name] for policies in found)
        assert ours["status_counts"] == usual["status_counts"]
        np.testing.assert_allclose(ours["total_cost_eur"], usual["total_cost_eur"], rtol=1e-6)
