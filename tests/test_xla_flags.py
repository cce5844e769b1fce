"""Flags of XLA: only what this version knows, never against anybody's own, and the same numbers with them."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from jaxp2p import _xla_flags
from jaxp2p._xla_flags import FAST, LOOPS, QUICK, known, set_flags, set_xla_flags

FLAG = "xla_force_host_platform_device_count"


@pytest.fixture
def before_jax(monkeypatch):
    """JAX has not been imported yet, and nobody has set a flag."""
    monkeypatch.delitem(sys.modules, "jax")
    monkeypatch.setenv("XLA_FLAGS", "")


def test_a_flag_is_known_by_its_whole_name():
    assert known(FLAG) and known()
    assert not known(FLAG[:-1]) and not known(FLAG, "xla_no_such_flag")


@pytest.mark.parametrize("flags", [QUICK, FAST], ids=["quick", "fast"])
def test_flags_are_added_to_those_that_are_there(flags, before_jax, monkeypatch):
    monkeypatch.setattr(_xla_flags, "known", lambda *names: True)
    monkeypatch.setenv("XLA_FLAGS", f"--{FLAG}=2")
    assert set_flags(flags)
    assert os.environ["XLA_FLAGS"].split() == [f"--{FLAG}=2", *(f"--{k}={v}" for k, v in flags.items())]


def test_whoever_asks_gets_the_fast_ones(before_jax, monkeypatch):
    monkeypatch.setattr(_xla_flags, "known", lambda *names: True)
    assert set_xla_flags()
    (loops,) = (f"--{flag}={value}" for flag, value in LOOPS.items())
    assert os.environ["XLA_FLAGS"] == f"--xla_cpu_prefer_vector_width=512 {loops}"


def test_a_version_that_lacks_one_gets_none(before_jax, monkeypatch):
    monkeypatch.setattr(_xla_flags, "known", lambda *names: False)
    assert not set_xla_flags()
    assert os.environ["XLA_FLAGS"] == ""


@pytest.mark.parametrize("flag", FAST)
def test_who_has_set_one_is_obeyed(flag, before_jax, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", f"--{flag}=x")
    assert not set_xla_flags()
    assert os.environ["XLA_FLAGS"] == f"--{flag}=x"


def test_it_is_too_late_after_jax(monkeypatch):
    assert "jax" in sys.modules
    monkeypatch.setenv("XLA_FLAGS", "")
    with pytest.warns(RuntimeWarning, match="before JAX is imported"):
        assert not set_xla_flags()
    assert os.environ["XLA_FLAGS"] == ""


def test_jax_knows_what_it_is_given():
    """XLA ends a process over a flag that it does not know."""
    code = (
        "import jaxp2p as jp\n"
        "print(jp.set_xla_flags())\n"
        "import jax.numpy as jnp\n"
        "print(int(jnp.arange(4).sum()))\n"
    )
    environment = os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(known(*FAST)), "6"]


@pytest.mark.slow
@pytest.mark.parametrize("market", ["bilateral", pytest.param("pool", marks=pytest.mark.long)])
def test_a_run_has_the_same_numbers(market, tmp_path):
    code = (
        "import os, sys\n"
        "from jaxp2p._xla_flags import QUICK, set_flags\n"
        "if sys.argv.pop(1) == 'whole':\n"
        "    set_flags(QUICK)\n"
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
