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
KNOWN = (__name__.partition(".")[0], *PACKAGES, "builtins", "collections", "enum")  # their text is in the key


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


def key(function: Callable[..., Any], arguments: Any) -> str:
    """Of the program of a function for arguments of this structure. Raises Unknown where there is none."""
    described = jax.tree.map(_kind, arguments)
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
    if isinstance(leaf, jax.core.Tracer) or not isinstance(leaf, jax.Array | np.ndarray | np.generic):
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


class Lowered:
    """`jax.jit` of a function of this package, whose lowered programs are kept in the folder LOWERED.

    Without a folder, with arguments that no key can tell apart, and but for one processor it is `jax.jit`.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.jitted = function, jax.jit(function)
        self.made: dict[Any, Callable[..., Any]] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        folder = os.environ.get(LOWERED)
        if not folder or jax.default_backend() != "cpu" or jax.device_count() > 1:
            return self.jitted(*args, **kwargs)
        leaves, tree = jax.tree.flatten((args, kwargs))
        try:
            at = tree, tuple(map(_kind, leaves))
            if at not in self.made:
                self.made[at] = self._made(Path(folder), tree, leaves)
        except Unknown:
            return self.jitted(*args, **kwargs)
        return self.made[at](*leaves)

    def _made(self, folder: Path, tree: Any, leaves: list[Any]) -> Callable[..., Any]:
        """The program, a function of leaves: out of its file, or traced and written there."""
        file = folder / f"{self.function.__name__}-{key(self.function, jax.tree.unflatten(tree, leaves))}"
        found = _read(file)
        if found is None:
            found = self._traced(tree, leaves)
            _write(file, *found)
        program, out = found
        call = jax.jit(export.deserialize(bytearray(program)).call)
        shape = jax.tree.structure(pickle.loads(out))
        return lambda *leaves: jax.tree.unflatten(shape, call(*leaves))

    def _traced(self, tree: Any, leaves: list[Any]) -> tuple[bytes, bytes]:
        found = []

        def flat(*leaves: Any) -> list[Any]:
            args, kwargs = jax.tree.unflatten(tree, leaves)
            out, shape = jax.tree.flatten(self.function(*args, **kwargs))
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
