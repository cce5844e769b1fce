"""A tuning under way: its history as a table, and a file from which it goes on."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array


class Progress(NamedTuple):
    """One step."""

    step: int
    loss: float
    cost_eur: float  # mean over the scenarios of the step
    validation_eur: float | None
    seconds: float


class Run(NamedTuple):
    """Everything that goes on."""

    weights: dict[str, Array]
    state: optax.OptState
    best: dict[str, Array]  # on the validation window
    best_cost: float
    waited: int  # looks at the validation window without progress
    step: int
    history: list[Progress]


def describe(settings: NamedTuple, inputs: Any, *numbers: float) -> dict[str, Any]:
    """What a checkpoint is good for: the settings, and a digest of all arrays that go in."""
    leaves = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(inputs)]
    sha = hashlib.sha256(b"".join(leaves) + repr(numbers).encode()).hexdigest()
    plain = json.loads(json.dumps(settings._asdict(), default=repr))
    return {"settings": plain, "inputs": sha}


def save(path: Path, about: dict[str, Any], run: Run) -> None:
    """Whole or not at all."""
    leaves = [np.asarray(x) for x in jax.tree.leaves((run.weights, run.state, run.best))]
    more = {"best_cost": run.best_cost, "waited": run.waited, "step": run.step}
    text = json.dumps(about | more | {"history": [list(row) for row in run.history]})
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        np.savez(file, *leaves, about=np.array(text))
    os.replace(part, path)


def resume(path: Path, wanted: dict[str, Any], start: Run) -> Run:
    """Where `save` left off; `start` has the shapes. Raises ValueError naming every difference."""
    with np.load(path) as file:
        about = json.loads(str(file["about"]))
        leaves = [jnp.asarray(file[f"arr_{k}"]) for k in range(len(file.files) - 1)]
    found = about["settings"]
    differs = [
        f"{k} {found.get(k)} instead of {v}" for k, v in wanted["settings"].items() if found.get(k) != v
    ]
    if about["inputs"] != wanted["inputs"]:
        differs.append("other data")
    if differs:
        raise ValueError(f"{path} was made with other settings: {', '.join(differs)}")
    shape = jax.tree.structure((start.weights, start.state, start.best))
    weights, state, best = jax.tree.unflatten(shape, leaves)
    rest = {name: about[name] for name in ("best_cost", "waited", "step")}
    history = [Progress(*row) for row in about["history"]]
    return Run(weights=weights, state=state, best=best, history=history, **rest)
