"""A tuned value curve as a file: JSON that one can read, with a version that is checked."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxp2p.lyapunov.tuned import FEATURES, TunedValue

VERSION = 1
ARRAYS = ("level", "drop", "price_low", "price_high", "mean", "deviation", "start", "hours")
SHAPES: dict[str, tuple[int | None, ...]] = {  # the others are single numbers
    "level": (1, len(FEATURES), None),
    "drop": (1, None, None),
    "mean": (len(FEATURES),),
    "deviation": (len(FEATURES),),
    "start": (3,),
}
SMALLEST_DEVIATION = 1e-12  # of a feature that never moved


def write_controller(path: Path, value: TunedValue, *, about: dict[str, Any]) -> None:
    """Write a controller of one group; `about` says what it was tuned on. Whole or not at all."""
    content = {
        "jaxp2p_controller": VERSION,
        "about": about,
        "features": list(FEATURES),
        "slots_per_day": value.slots_per_day,
        **{name: jnp.asarray(getattr(value, name)).tolist() for name in ARRAYS},
    }
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(part, path)


def read_content(path: Path) -> str:
    """What decides the numbers of a controller file: JSON in one spelling, without its `about`.

    Raises ValueError naming every fault of the file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a controller file: {error}") from None
    if not isinstance(content, dict) or content.get("jaxp2p_controller") != VERSION:
        raise ValueError(f"{path} is not a controller file of version {VERSION}")
    wanted = (*ARRAYS, "features", "slots_per_day")
    faults = [f"{name} is missing" for name in wanted if name not in content]
    if faults:
        raise ValueError(f"{path}: " + "; ".join(faults))
    if content["features"] != list(FEATURES):
        faults.append(f"features are {content['features']}, this version has {list(FEATURES)}")
    slots = content["slots_per_day"]
    if type(slots) is not int or slots < 1:
        faults.append(f"slots_per_day is {slots!r}, not a number of slots")
    arrays = {}
    for name in ARRAYS:
        try:
            arrays[name] = np.asarray(content[name], np.float64)
        except (TypeError, ValueError):
            faults.append(f"{name} is not an array of numbers")
            continue
        shape, found = SHAPES.get(name, ()), arrays[name].shape
        fits = (size > 0 if want is None else size == want for size, want in zip(found, shape, strict=False))
        if len(shape) != len(found) or not all(fits):
            faults.append(f"{name} has the shape {_shape(found)} instead of {_shape(shape)}")
        elif not np.isfinite(arrays[name]).all():
            faults.append(f"{name} has values that are not finite")
    if not faults and arrays["level"].shape[2] != arrays["drop"].shape[2]:
        faults.append("level and drop have different numbers of knots")
    if not faults and arrays["hours"] <= 0:
        faults.append("hours is not positive")
    if faults:
        raise ValueError(f"{path}: " + "; ".join(faults))
    plain = {name: values.tolist() for name, values in arrays.items()}
    return json.dumps({**plain, "slots_per_day": slots}, sort_keys=True)


def parse_controller(content: str, *, size: int, dtype: str = "float32") -> TunedValue:
    """The controller of `read_content` for a community of `size` members."""
    plain = json.loads(content)
    arrays = {name: jnp.asarray(plain[name], dtype) for name in ARRAYS}
    arrays["deviation"] = jnp.maximum(arrays["deviation"], SMALLEST_DEVIATION)
    return TunedValue(**arrays, group=jnp.zeros((size,), jnp.int32), slots_per_day=plain["slots_per_day"])


def read_controller(path: Path, *, size: int, dtype: str = "float32") -> TunedValue:
    """Both: the controller of a file for a community of `size` members."""
    return parse_controller(read_content(path), size=size, dtype=dtype)


def content_digest(content: str) -> str:
    """sha256 of `read_content`: equal for files that decide alike."""
    return hashlib.sha256(content.encode()).hexdigest()


def _shape(sizes: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in sizes) + ")"
