"""Programs as XLA gets them, kept from run to run: a second start does not trace them again.

JAX keeps compiled programs, but looks them up by what they are lowered to, and tracing and lowering the
program of the policies takes a tenth of a short run. Here lowered programs are kept beside them, by a key
that tells any two apart: the arguments, but for the numbers in their leaves, as bytes from which they
could be made again; every file of the package; versions and settings of what traces and lowers. Arguments
that hold anything of anybody else, whose source is not known here, are traced as ever. Files are written
and read by this package only, as JAX's own are: whoever can write into the folder could have any program
run.
"""

import hashlib
import io
import os
import pickle
import platform
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import Any

import jax
import numpy as np
from jax import export

from jaxp2p._kept_in import LOWERED

PACKAGES = ("jax", "jaxlib", "numpy", "chex", "optax")  # besides this one: what tracing calls
ARRAYS = (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct)  # the last: one that is to come
KNOWN = (__name__.partition(".")[0], *PACKAGES, "builtins", "collections", "enum")  # their text is in the key

Fixed = tuple[tuple[str, Any], ...]  # arguments that a program is made for, by name


class Unknown(Exception):
    """An argument holds something that no key can tell apart."""


class _Exactly(pickle.Pickler):
    """Writes what is told apart by its value alone, and refuses what has code that is not in the key."""

    def reducer_override(self, thing: Any) -> Any:
        named = isinstance(thing, type | FunctionType | BuiltinFunctionType)
        module = (thing if named else type(thing)).__module__
        if str(module).partition(".")[0] not in KNOWN:
            raise Unknown(f"{thing!r} of {module}")
        return NotImplemented


def key(function: Callable[..., Any], arguments: Any, fixed: Fixed = ()) -> str:
    """Of the program of a function for arguments of this structure. Raises Unknown where there is none."""
    described = fixed, jax.tree.map(_kind, arguments)
    written = io.BytesIO()
    try:
        _Exactly(written, protocol=5).dump(described)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise Unknown(str(error)) from error
    settings = {name: getattr(jax.config, name, None) for name in jax.config.values}
    about = function.__module__, function.__qualname__, jax.default_backend()
    facts = *about, *_versions(), os.environ.get("XLA_FLAGS", ""), *sorted(map(repr, settings.items()))
    return hashlib.sha256(written.getvalue() + repr(facts).encode()).hexdigest()


def _kind(leaf: Any) -> tuple[Any, ...]:
    """What tracing sees of a leaf."""
    if type(leaf) in (bool, int, float):
        return (type(leaf).__name__,)
    if isinstance(leaf, jax.core.Tracer) or not isinstance(leaf, ARRAYS):
        raise Unknown(repr(type(leaf)))
    return leaf.shape, str(leaf.dtype), bool(getattr(leaf, "weak_type", False))


@cache
def _versions() -> tuple[str, ...]:
    """Of all that traces and lowers, this package by its text."""
    text = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        text.update(f"{file.relative_to(Path(__file__).parent).as_posix()}\0".encode())
        text.update(hashlib.sha256(file.read_bytes()).digest())
    packages = (metadata.version(name) for name in PACKAGES)
    return text.hexdigest(), platform.python_version(), *packages


class _Program:
    """A lowered program as it was kept: a function of leaves."""

    def __init__(self, program: bytes, out: bytes) -> None:
        self.exported = export.deserialize(bytearray(program))
        self.call = jax.jit(self.exported.call)
        self.shape = jax.tree.structure(pickle.loads(out))

    def __call__(self, leaves: list[Any]) -> Any:
        return jax.tree.unflatten(self.shape, self.call(*leaves))

    def result(self) -> Any:
        """What it gives back, without values; a program is compiled for where its arguments lie, too."""
        place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        arrays = [jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place) for x in self.exported.out_avals]
        return jax.tree.unflatten(self.shape, arrays)


class Lowered:
    """`jax.jit` of a function of this package, whose lowered programs are kept in the folder LOWERED.

    Without a folder, with arguments that no key can tell apart, and but for one processor it is `jax.jit`.
    static: names of arguments that a program is made for, passed by name.
    """

    def __init__(self, function: Callable[..., Any], *, static: tuple[str, ...] = ()) -> None:
        self.function, self.static = function, static
        self.jitted = jax.jit(function, static_argnames=static)
        self.made: dict[Any, _Program] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        program, leaves = self._program(args, kwargs)
        return self.jitted(*args, **kwargs) if program is None else program(leaves)

    def beforehand(self, *args: Any, **kwargs: Any) -> tuple[Any, Callable[[], Any]] | None:
        """What the program gives back, without values, and what compiles it; None where it is `jax.jit`.

        Arguments may be without values too, `jax.ShapeDtypeStruct`, so that programs of which one takes what
        another gives can be compiled beside each other.
        """
        program, leaves = self._program(args, kwargs)
        return None if program is None else (program.result(), program.call.lower(*leaves).compile)

    def _program(self, args: Any, kwargs: dict[str, Any]) -> tuple[_Program | None, list[Any]]:
        """Out of its file, or traced and written there, and its leaves; None: what is called is `jax.jit`."""
        folder = os.environ.get(LOWERED)
        if not folder or jax.default_backend() != "cpu" or jax.device_count() > 1:
            return None, []
        fixed = tuple((name, kwargs[name]) for name in self.static if name in kwargs)
        given = args, {name: value for name, value in kwargs.items() if name not in self.static}
        leaves, tree = jax.tree.flatten(given)
        try:
            at = fixed, tree, tuple(map(_kind, leaves))
            if at not in self.made:
                file = Path(folder) / f"{self.function.__name__}-{key(self.function, given, fixed)}"
                self.made[at] = self._made(file, tree, leaves, fixed)
        except Unknown:
            return None, []
        return self.made[at], leaves

    def _made(self, file: Path, tree: Any, leaves: list[Any], fixed: Fixed) -> _Program:
        found = _read(file)
        if found is None:
            found = self._traced(tree, leaves, fixed)
            _write(file, *found)
        return _Program(*found)

    def _traced(self, tree: Any, leaves: list[Any], fixed: Fixed) -> tuple[bytes, bytes]:
        found = []

        def flat(*leaves: Any) -> list[Any]:
            args, kwargs = jax.tree.unflatten(tree, leaves)
            out, shape = jax.tree.flatten(self.function(*args, **kwargs, **dict(fixed)))
            found.append((shape, len(out)))
            return out

        flat.__name__ = self.function.__name__
        program = export.export(jax.jit(flat))(*leaves)
        shape, size = found[-1]
        return bytes(program.serialize()), pickle.dumps(jax.tree.unflatten(shape, range(size)))


def _write(file: Path, program: bytes, out: bytes) -> None:
    """All of it or nothing; a folder that cannot be written to costs the next start its tracing."""
    content = len(out).to_bytes(8, "big") + out + program
    with suppress(OSError):
        number, name = tempfile.mkstemp(dir=file.parent, prefix=file.name[:20])
        try:
            with open(number, "wb") as stream:
                stream.write(hashlib.sha256(content).digest() + content)
            os.replace(name, file)
        except OSError:
            os.unlink(name)


def _read(file: Path) -> tuple[bytes, bytes] | None:
    """What was written, None where there is nothing or it is not the same any more."""
    try:
        digest, content = (all_ := file.read_bytes())[:32], all_[32:]
    except OSError:
        return None
    if hashlib.sha256(content).digest() != digest:
        return None
    end = 8 + int.from_bytes(content[:8], "big")
    return content[end:], content[8:end]
