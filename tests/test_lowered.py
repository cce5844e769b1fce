"""Lowered programs that are kept from run to run: keys that tell any two apart, and damaged files."""

import dataclasses
import importlib
import inspect
import math
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from communities import small

import jaxp2p
from jaxp2p import _lowered
from jaxp2p._kept_in import LOWERED
from jaxp2p._lowered import Lowered, Unknown, key
from jaxp2p.control.policy import Limits, OwnPolicy, greedy
from jaxp2p.runs.runner import make_policies, penalties_of
from jaxp2p.simulation import forward
from jaxp2p.slot import solvers
from jaxp2p.slot.admm.method import ADMM

OPTIONAL = ("jaxp2p.__main__",)
APART = (
    True,
    0,
    1,
    0.0,
    -0.0,
    1.0,
    math.nextafter(1, 2),
    "",
    "a",
    None,
    (),
    (1,),
    (1.0,),
    ("a", "b"),
    ("ab",),
)


def records():
    """Every record of the package that has structure besides its leaves."""
    found = set()
    for module in pkgutil.walk_packages(jaxp2p.__path__, "jaxp2p."):
        if module.name not in OPTIONAL:
            names = vars(importlib.import_module(module.name)).values()
            found |= {x for x in names if isinstance(x, type) and dataclasses.is_dataclass(x)}
    static = lambda kind: any(field.metadata.get("static") for field in dataclasses.fields(kind))
    structured = [kind for kind in found if static(kind) and not inspect.isabstract(kind)]
    return sorted(structured, key=lambda kind: (kind.__module__, kind.__qualname__))


def test_any_two_static_parts_have_keys_of_their_own():
    kinds = records()
    assert len(kinds) > 10
    for kind in kinds:
        names = [field.name for field in dataclasses.fields(kind)]
        leaves = {name: np.zeros(2) for name in names}
        static = [field.name for field in dataclasses.fields(kind) if field.metadata.get("static")]
        same = leaves | dict.fromkeys(static, "same")
        values = (*APART, np.float32(1))
        keys = {key(greedy, kind(**same | {name: value})) for name in static for value in values}
        assert len(keys) == len(static) * len(values), kind


def test_keys_know_shapes_dtypes_kinds_of_records_and_the_function():
    one = np.zeros(2, np.float32)
    others = [
        np.zeros(3, np.float32),
        np.zeros((2, 1), np.float32),
        np.zeros(2, np.float64),
        jnp.asarray(1.0),
        1.0,
        1,
        True,
        None,
        (one,),
        [one],
        {"a": one},
        {"b": one},
        Limits(one, one, one, one),
        (one, one, one, one),
    ]
    weak = jnp.asarray(1.0), jnp.ones((), jnp.asarray(1.0).dtype)
    assert weak[0].weak_type and not weak[1].weak_type and key(greedy, weak[0]) != key(greedy, weak[1])
    keys = [key(greedy, one), key(solvers.init, one), *(key(greedy, other) for other in others)]
    assert len(set(keys)) == len(keys)
    assert key(greedy, one) == key(greedy, np.ones(2, np.float32))


def test_keys_know_versions_texts_and_settings(monkeypatch):
    before = key(greedy, np.zeros(2))
    assert jax.config.jax_default_matmul_precision is None
    with jax.default_matmul_precision("highest"):
        assert key(greedy, np.zeros(2)) != before
    monkeypatch.setattr(_lowered, "_versions", lambda: ("other",))
    assert key(greedy, np.zeros(2)) != before


class Mine(OwnPolicy):
    """Somebody's, whose source is not in the key."""


FOREIGN = {"record": Mine(), "function": lambda x: x, "class": Mine, "object": object(), "text": "text"}


@pytest.mark.parametrize("foreign", FOREIGN.values(), ids=FOREIGN)
def test_what_is_not_of_this_package_has_no_key(foreign):
    with pytest.raises(Unknown):
        key(greedy, foreign)


def counted():
    """A function and how often it was traced."""
    traced = []

    def double(numbers, *, by):
        traced.append(1)
        return {"result": numbers * 2 + by, "kept": (by,)}

    return double, traced


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv(LOWERED, str(tmp_path))
    return tmp_path


def test_a_program_is_traced_once_whoever_starts(folder):
    function, traced = counted()
    for size in (2, 2, 3):
        for start in (Lowered(function), Lowered(function)):
            numbers = np.arange(size, dtype=np.float32)
            for _ in range(2):
                found = start(numbers, by=jnp.float32(1))
                np.testing.assert_array_equal(found["result"], numbers * 2 + 1)
                assert found["kept"] == (1,)
    assert len(traced) == 2 == len(list(folder.iterdir()))


def test_a_program_is_made_for_every_value_of_what_is_static(folder):
    traced = []

    def times(numbers, *, by):
        traced.append(by)
        return sum(numbers for _ in range(by))

    numbers = np.arange(3, dtype=np.float32)
    for by in (2, 3, 2, True):
        for start in (Lowered(times, static=("by",)), Lowered(times, static=("by",))):
            np.testing.assert_array_equal(start(numbers, by=by), numbers * by)
    assert traced == [2, 3, True] and len(list(folder.iterdir())) == 3
    assert jax.vmap(lambda x: start(x, by=4))(numbers).tolist() == [0, 4, 8]


@pytest.fixture
def compiled():
    """A list that is one longer for every program that is compiled."""
    names = []
    hear = lambda name, seconds, **_: names.append(name) if "backend_compile" in name else None
    jax.monitoring.register_event_duration_secs_listener(hear)
    yield names
    jax.monitoring.clear_event_listeners()


def test_what_is_compiled_beforehand_is_not_compiled_again(folder, compiled):
    function, traced = counted()
    first, second = Lowered(function), Lowered(lambda found: found["result"] + 1)
    numbers, one = np.arange(3, dtype=np.float32), np.float32(1)
    given, compile_first = first.beforehand(numbers, by=one)
    found, compile_second = second.beforehand(given)
    assert given["result"].shape == found.shape == (3,) and given["kept"][0].dtype == np.float32
    assert len(traced) == 1 and not compiled
    compile_second(), compile_first()
    assert len(compiled) == 2
    for _ in range(2):
        np.testing.assert_array_equal(second(first(numbers, by=one)), numbers * 2 + 2)
    assert len(compiled) == 2 and len(traced) == 1


def test_a_damaged_file_is_made_anew(folder):
    function, traced = counted()
    for damage in (b"", b"damaged", None):
        assert float(Lowered(function)(np.float32(1), by=np.float32(1))["result"]) == 3
        (file,) = folder.iterdir()
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if damage is None else damage)
    assert float(Lowered(function)(np.float32(1), by=np.float32(1))["result"]) == 3
    assert len(traced) == 4


def test_what_is_traced_around_it_is_traced_through_it(folder):
    function, _ = counted()
    whole = lambda x: Lowered(function)(x, by=x)["result"]
    assert float(jax.grad(whole)(jnp.float32(1))) == 3
    np.testing.assert_array_equal(jax.vmap(whole)(jnp.arange(3.0)), 3 * np.arange(3.0))
    assert not list(folder.iterdir())


def test_without_a_folder_that_can_be_written_it_is_jit(monkeypatch, tmp_path):
    function, traced = counted()
    monkeypatch.setenv(LOWERED, str(tmp_path / "not there"))
    assert float(Lowered(function)(np.float32(1), by=np.float32(1))["result"]) == 3
    monkeypatch.delenv(LOWERED)
    assert Lowered(function).beforehand(np.float32(1), by=np.float32(1)) is None
    assert float(Lowered(function)(np.float32(1), by=np.float32(1))["result"]) == 3
    assert len(traced) == 2 and not list(tmp_path.iterdir())


def test_a_disk_that_fills_up_leaves_nothing_behind(folder, monkeypatch):
    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(_lowered.os, "replace", full)
    function, _ = counted()
    assert float(Lowered(function)(np.float32(1), by=np.float32(1))["result"]) == 3
    assert not list(folder.iterdir())


def test_policies_of_anybody_else_are_traced_and_not_kept(folder):
    lowered = Lowered(lambda policy: 1)
    lowered.jitted = lambda policy: "traced"
    assert lowered(Mine()) == "traced" and not list(folder.iterdir())


@pytest.mark.slow
def test_a_day_of_a_policy_has_the_same_bits_however_its_program_came(folder):
    community, horizon = small("rural1", dtype="float32")
    given = community, horizon, penalties_of(horizon, None), make_policies(community, horizon)["lyapunov"]
    given = *given, solvers.choose_solver(community)
    found = []
    for start, advance in (
        (jax.jit(forward.init), jax.jit(forward.simulate)),
        (Lowered(forward.init), Lowered(forward.simulate)),
        (Lowered(forward.init), Lowered(forward.simulate)),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(forward, "_start", start)
            patch.setattr(forward, "_advance", advance)
            found.append(forward.simulate_in_pieces(*given))
    assert len(list(folder.iterdir())) == 2
    for other in found[1:]:
        jax.tree.map(np.testing.assert_array_equal, found[0], other)


def test_solvers_have_programs_of_their_own():
    assert key(forward.simulate, ADMM()) != key(forward.simulate, dataclasses.replace(ADMM(), max_iter=1))
