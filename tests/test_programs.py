"""Compiled programs that are kept from run to run: where, for whom, and what when that does not work."""

import os
import subprocess
import sys
import time

import pytest

from jaxp2p._kept_in import LOWERED
from jaxp2p.cli import programs
from jaxp2p.cli.programs import FOLDER, NO_CACHE, keep_programs, prune

SETTINGS = (
    FOLDER,
    NO_CACHE,
    LOWERED,
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES",
)


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """No setting of anybody, and a cache folder of its own."""
    for name in SETTINGS:
        monkeypatch.setenv(name, "")  # so that it is put back afterwards
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "cache" / name)
    return tmp_path / "cache" / "jaxp2p" / "programs"


def test_they_are_kept_by_version_and_machine(fresh):
    folder = keep_programs()
    assert folder is not None and folder.is_dir() and folder.parent == fresh
    assert os.environ[FOLDER] == os.environ[LOWERED] == str(folder)
    from jaxlib.version import __version__

    assert folder.name.startswith(f"{__version__}-")


def test_who_wants_none_or_has_a_place_is_obeyed(fresh, monkeypatch):
    assert keep_programs(keep=False) is None and not {FOLDER, LOWERED} & set(os.environ)
    monkeypatch.setenv(NO_CACHE, "1")
    assert keep_programs() is None and FOLDER not in os.environ
    monkeypatch.delenv(NO_CACHE)
    monkeypatch.setenv(FOLDER, "elsewhere")
    assert keep_programs() is None and os.environ[FOLDER] == "elsewhere" and not fresh.exists()


def test_a_folder_that_cannot_be_made_is_done_without(fresh):
    fresh.parent.parent.mkdir(parents=True)
    fresh.parent.write_text("a file where the folder would be")
    assert keep_programs() is None and FOLDER not in os.environ


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    now = time.time()
    for age in range(5):
        file = tmp_path / "v" / f"{age}"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"x" * 100)
        os.utime(file, (now - age, now - age))
    prune(tmp_path, most=250)
    assert sorted(file.name for file in (tmp_path / "v").iterdir()) == ["0", "1"]
    prune(tmp_path, most=250)
    assert len(list((tmp_path / "v").iterdir())) == 2


def test_programs_of_another_processor_lie_elsewhere(monkeypatch):
    here = programs._machine()
    monkeypatch.setattr("platform.machine", lambda: "another")
    assert programs._machine() != here


@pytest.mark.slow
def test_a_second_process_finds_them_and_a_damaged_file_costs_a_compilation_only(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    environment |= {"XDG_CACHE_HOME": str(tmp_path), "JAX_PLATFORMS": "cpu", "HOME": str(tmp_path)}
    code = (
        "from jaxp2p.cli.programs import keep_programs\n"
        "folder = keep_programs()\n"
        "import jax, jax.numpy as jnp\n"
        "print(float(jax.jit(lambda x: jnp.sin(x).sum())(jnp.arange(7.0))))\n"
        "print(len([f for f in folder.iterdir() if not f.name.endswith('-atime')]))\n"
        "[f.write_bytes(b'damaged') for f in folder.iterdir()]\n"
    )
    found = []
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found.append(done.stdout)
    assert found[0] == found[1] and int(found[0].split()[1]) > 0
