"""A tuned value curve as a file: JSON that one can read, with a version that is checked."""

import hashlib
import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxp2p.control.tuned import FEATURES, STAGED, TunedValue

VERSION = 2
SHAPES: dict[str, tuple[int | None, ...]] = {  # the others are single numbers
    "level": (None, len(FEATURES), None),
    "drop": (None, None, None),
    "mean": (len(FEATURES),),
    "deviation": (len(FEATURES),),
    "start": (3,),
}
COMMON = ("start", "hours")  # numbers that all stages share
SMALLEST_DEVIATION = 1e-12  # of a feature that never moved


def write_controller(
    path: Path, value: TunedValue, *, about: dict[str, Any], begins: list[pd.Timestamp] | None = None
) -> None:
    """Write a controller; `about` says what it was tuned on. Whole or not at all.

    begins: first moment of every stage; needed where there is more than one. Members are named by their
    number where there is more than one group.
    """
    stages = value.begins.shape[0]
    if stages != len(begins or [None]):
        raise ValueError(f"{stages} stages begin at {len(begins or [None])} moments")
    numbers = {name: np.asarray(getattr(value, name)) for name in (*STAGED, *COMMON)}
    content = {
        "jaxp2p_controller": VERSION,
        "about": about,
        "features": list(FEATURES),
        "slots_per_day": value.slots_per_day,
        **{name: numbers[name].tolist() for name in COMMON},
        "group": np.asarray(value.group).tolist() if np.any(np.asarray(value.group) > 0) else None,
        **({} if value.vehicle_group is None else {"vehicle_group": value.vehicle_group}),
        "stages": [
            {"from": None if begins is None else str(begins[number])}
            | {name: numbers[name][number].tolist() for name in STAGED}
            for number in range(stages)
        ],
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
    wanted = (*COMMON, "features", "slots_per_day", "group", "stages")
    faults = [f"{name} is missing" for name in wanted if name not in content]
    if faults:
        raise ValueError(f"{path}: " + "; ".join(faults))
    if content["features"] != list(FEATURES):
        faults.append(f"features are {content['features']}, this version has {list(FEATURES)}")
    slots = content["slots_per_day"]
    if type(slots) is not int or slots < 1:
        faults.append(f"slots_per_day is {slots!r}, not a number of slots")
    common, more = _numbers(content, COMMON, "")
    if not more and common["hours"] <= 0:
        more.append("hours is not positive")
    group = content["group"]
    if group is not None and not (isinstance(group, list) and all(type(x) is int and x >= 0 for x in group)):
        more.append("group is neither null nor a list of whole numbers")
        group = None
    vehicles = content.get("vehicle_group")
    if vehicles is not None and (type(vehicles) is not int or vehicles < 0):
        more.append(f"vehicle_group is {vehicles!r}, not the number of a group")
        vehicles = None
    stages, later = _stages(content["stages"], max(*(group or [0]), vehicles or 0, 0))
    faults += more + later
    if faults:
        raise ValueError(f"{path}: " + "; ".join(faults))
    plain = {**common, "slots_per_day": slots, "group": group, "stages": stages}
    if vehicles is not None:
        plain["vehicle_group"] = vehicles
    return json.dumps(plain, sort_keys=True)


def parse_controller(
    content: str, *, size: int, first: pd.Timestamp | None = None, dtype: str = "float32"
) -> TunedValue:
    """The controller of `read_content` for a community of `size` members, in a run that begins at `first`.

    Raises ValueError for groups of another number of members, and for stages without knowing when they begin.
    """
    plain = json.loads(content)
    stages, group = plain["stages"], plain["group"]
    if group is not None and len(group) != size:
        raise ValueError(f"the controller is made for {len(group)} members, and there are {size}")
    if len(stages) > 1 and first is None:
        raise ValueError("a controller with stages needs to know when the run begins")
    begins = [0]
    if first is not None and len(stages) > 1:
        monday = first.normalize() - pd.Timedelta(days=first.day_of_week)
        slot = pd.Timedelta(days=1) / plain["slots_per_day"]
        begins = [round((pd.Timestamp(stage["from"]) - monday) / slot) for stage in stages]
    arrays: dict[str, Any] = {name: jnp.asarray([stage[name] for stage in stages], dtype) for name in STAGED}
    arrays["deviation"] = jnp.maximum(arrays["deviation"], SMALLEST_DEVIATION)
    arrays |= {name: jnp.asarray(plain[name], dtype) for name in COMMON}
    return TunedValue(
        **arrays,
        begins=jnp.asarray(begins, jnp.int32),
        group=jnp.zeros((size,), jnp.int32) if group is None else jnp.asarray(group, jnp.int32),
        slots_per_day=plain["slots_per_day"],
        vehicle_group=plain.get("vehicle_group"),
    )


def read_controller(
    path: Path, *, size: int, first: pd.Timestamp | None = None, dtype: str = "float32"
) -> TunedValue:
    """Both: the controller of a file for a community of `size` members."""
    return parse_controller(read_content(path), size=size, first=first, dtype=dtype)


def content_digest(content: str) -> str:
    """sha256 of `read_content`: equal for files that decide alike."""
    return hashlib.sha256(content.encode()).hexdigest()


def _stages(content: Any, last_group: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Every stage as plain numbers, and their faults."""
    if not isinstance(content, list) or not content or not all(isinstance(row, dict) for row in content):
        return [], ["stages is not a list of at least one stage"]
    stages, faults, shapes, moments = [], [], set(), []
    for number, row in enumerate(content):
        words = f"stage {number + 1}: " if len(content) > 1 else ""
        missing = [f"{words}{name} is missing" for name in STAGED if name not in row]
        values, wrong = ({}, missing) if missing else _numbers(row, STAGED, words)
        if not wrong:
            level, drop = np.shape(values["level"]), np.shape(values["drop"])
            shapes |= {level[:1] + level[2:], (drop[0], drop[2])}
            if last_group >= min(level[0], drop[0]):
                wrong = [f"{words}there are weights of {min(level[0], drop[0])} groups only"]
        try:
            moment = None if len(content) == 1 else pd.Timestamp(row.get("from"))
        except (TypeError, ValueError):
            moment = pd.NaT
        if len(content) > 1 and (moment is None or pd.isna(moment)):
            wrong = [*wrong, f"{words}from = {row.get('from')!r} is not a moment"]
        moments.append(moment)
        faults += wrong
        stages.append({**values, "from": None if moment is None else str(moment)})
    if not faults and len(shapes) > 1:
        faults.append("level and drop have different numbers of groups or knots")
    if not faults and any(b <= a for a, b in pairwise(m for m in moments if m is not None)):
        faults.append("the stages do not follow each other in time")
    return stages, faults


def _numbers(content: dict[str, Any], names: tuple[str, ...], words: str) -> tuple[dict[str, Any], list[str]]:
    """The named arrays as lists, and what is wrong with them."""
    plain, faults = {}, []
    for name in names:
        try:
            values = np.asarray(content[name], np.float64)
        except (TypeError, ValueError):
            faults.append(f"{words}{name} is not an array of numbers")
            continue
        shape, found = SHAPES.get(name, ()), values.shape
        fits = (size > 0 if want is None else size == want for size, want in zip(found, shape, strict=False))
        if len(shape) != len(found) or not all(fits):
            faults.append(f"{words}{name} has the shape {_shape(found)} instead of {_shape(shape)}")
        elif not np.isfinite(values).all():
            faults.append(f"{words}{name} has values that are not finite")
        plain[name] = values.tolist()
    return plain, faults


def _shape(sizes: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in sizes) + ")"
