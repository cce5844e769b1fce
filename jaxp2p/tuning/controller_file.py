"""A tuned value curve as a file: JSON that one can read, with a version that is checked."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from jaxp2p.lyapunov.tuned import FEATURES, TunedValue

VERSION = 1
ARRAYS = ("level", "drop", "price_low", "price_high", "mean", "deviation", "start", "hours")
AXES = {"level": 3, "drop": 3, "mean": 1, "deviation": 1, "start": 1}  # the others are single numbers


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


def read_controller(path: Path, *, size: int, dtype: str = "float32") -> TunedValue:
    """The controller for a community of `size` members; raises ValueError naming every fault of the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a controller file: {error}") from None
    if not isinstance(content, dict) or content.get("jaxp2p_controller") != VERSION:
        raise ValueError(f"{path} is not a controller file of version {VERSION}")
    wanted = (*ARRAYS, "features", "slots_per_day")
    faults = [f"{name} is missing" for name in wanted if name not in content]
    if not faults and content["features"] != list(FEATURES):
        faults.append(f"features are {content['features']}, this version has {list(FEATURES)}")
    arrays = {}
    for name in [] if faults else ARRAYS:
        try:
            arrays[name] = jnp.asarray(content[name], dtype)
        except (TypeError, ValueError):
            faults.append(f"{name} is not an array of numbers")
            continue
        if arrays[name].ndim != AXES.get(name, 0):
            faults.append(f"{name} has {arrays[name].ndim} axes instead of {AXES.get(name, 0)}")
        elif not bool(jnp.all(jnp.isfinite(arrays[name]))):
            faults.append(f"{name} has values that are not finite")
    if faults:
        raise ValueError(f"{path}: " + "; ".join(faults))
    value = TunedValue(
        **arrays, group=jnp.zeros((size,), jnp.int32), slots_per_day=int(content["slots_per_day"])
    )
    return replace(value, deviation=jnp.maximum(value.deviation, 1e-12))
