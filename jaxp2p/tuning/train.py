"""Tuning the value of stored energy by gradient, on weeks that have passed, for weeks to come.

    minimise over the weights   (cost of the window - cost of perfect foresight) / possible saving + penalties

that is one minus the capture. The cost of a window is differentiated through every slot (`newton.adjoint`)
and through the stored energy that one slot hands to the next. Adam with gradients clipped and a cosine
schedule; penalties on weights that jump from one knot of the day to the next, and on all but the constant
feature, keep a few weeks from being learnt by heart. With a validation window the weights that did best on
it are kept.

The run happens in the pool without network, on the batteries alone (`tuning.reduce`): a day takes some
milliseconds. The limits of the grid are kept where the result is used.
"""

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxp2p import simulation
from jaxp2p.community.types import Community, Horizon
from jaxp2p.lyapunov.tuned import FEATURES, Memory, TunedValue, observe
from jaxp2p.policy import follow, suggest_penalties
from jaxp2p.solvers import Newton
from jaxp2p.tuning.reduce import decisive

CHECK_EVERY = 10  # steps between looks at the validation window, and between checkpoints


class Settings(NamedTuple):
    """How to tune."""

    features: tuple[str, ...] = ("one", "price")
    knots: int = 8  # of the day
    pieces: int = 2  # of the state of charge
    memory_hours: float = 24.0
    steps: int = 100
    learning_rate: float = 0.05
    roughness: float = 1e-3  # weight of squared differences between neighbouring knots
    shrink: float = 0.03  # weight of the squares of all but the constant feature
    patience: int = 5  # looks at the validation window without progress


class Window(NamedTuple):
    """Slots to tune on; begins `slot` slots after midnight of a Monday."""

    community: Community
    horizon: Horizon
    slot: int


class Progress(NamedTuple):
    """One step."""

    step: int
    loss: float
    cost_eur: float
    validation_eur: float | None
    seconds: float


class Tuned(NamedTuple):
    """The result: the weights to keep, and how it went."""

    value: TunedValue
    history: list[Progress]


def start_value(window: Window, settings: Settings) -> TunedValue:
    """The certified controller at V_max of the window's tariffs, with features scaled by the window.

    Raises ValueError for an unknown feature, or fewer than one knot or piece.
    """
    unknown = [name for name in settings.features if name not in FEATURES]
    if unknown or "one" not in settings.features:
        raise ValueError(f"features {settings.features} must contain 'one' and be of {', '.join(FEATURES)}")
    if settings.knots < 1 or settings.pieces < 1:
        raise ValueError("knots and pieces must be at least 1")
    community, horizon = window.community, window.horizon
    dtype = horizon.load.dtype
    sums = jnp.stack([horizon.price_buy, jnp.sum(horizon.load, axis=1), jnp.sum(horizon.pv, axis=1)])
    count = len(FEATURES)
    value = TunedValue(
        level=jnp.zeros((1, count, settings.knots), dtype),
        drop=jnp.full((1, settings.pieces, settings.knots), math.log(math.expm1(1)), dtype),  # b = 1
        group=jnp.zeros((community.size,), jnp.int32),
        price_low=jnp.min(horizon.price_sell),
        price_high=jnp.max(horizon.price_buy),
        mean=jnp.zeros((count,), dtype),
        deviation=jnp.ones((count,), dtype),
        start=jnp.mean(sums, axis=1),
        hours=jnp.asarray(settings.memory_hours, dtype),
        slots_per_day=round(24 / float(horizon.slot_hours)),
    )

    def follow_means(memory: Memory, row):
        memory = observe(value, memory, horizon.slot_hours, *row)
        return memory, jnp.concatenate([memory.now, memory.means[1:], memory.means[:1]])

    rows = horizon.price_buy, horizon.load, horizon.pv
    seen = np.asarray(jax.lax.scan(follow_means, Memory(value.start, value.start), rows)[1], float)
    mean, deviation = seen.mean(0), np.maximum(seen.std(0), 1e-6 * np.abs(seen).max(0) + 1e-9)
    return replace(
        value,
        mean=jnp.asarray(np.concatenate([[0, 0], mean]), dtype),
        deviation=jnp.asarray(np.concatenate([[1, 1], deviation]), dtype),
    )


def window_cost(window: Window, terminal_price: float, value: TunedValue, *, adjoint: str | None) -> Array:
    """() EUR: cost of the window under the value curve, less the worth of the energy gained."""
    community, horizon = window.community, window.horizon
    penalties, policy = suggest_penalties(horizon), follow(value, horizon.load.dtype)
    state, run = simulation.simulate(
        community,
        horizon,
        penalties,
        policy,
        Newton(),
        keep=("cost",),
        adjoint=adjoint,
        slot_of_day=window.slot,
    )
    gained = jnp.sum(state.energy - community.prosumers.battery.energy_start)
    return jnp.sum(run.cost) - terminal_price * gained


def tune(
    community: Community,
    horizon: Horizon,
    *,
    terminal_price: float,
    best_eur: float,
    possible_saving_eur: float,
    slot: int = 0,
    validation: tuple[Horizon, int] | None = None,
    settings: Settings | None = None,
    checkpoint: Path | None = None,
    told: Callable[[Progress], None] = lambda progress: None,
) -> Tuned:
    """Tune the value curve of a pool on a window that begins `slot` slots after a Monday's midnight.

    terminal_price v_T in EUR/kWh; best_eur and possible_saving_eur: cost of perfect foresight on the window
    and what it saves against batteries at rest, which scale the loss to one minus the capture. validation: a
    later window and its first slot; the weights that are best there are returned. checkpoint: a file that is
    renewed every CHECK_EVERY steps and resumed from, to the same result.

    Raises ValueError for markets other than the pool, unknown features, a possible saving that is not
    positive, and a checkpoint made with other settings.
    """
    settings = settings or Settings()
    if not possible_saving_eur > 0:
        raise ValueError("nothing can be saved in this window: there is nothing to tune")
    small, reduced, _ = decisive(community, horizon)
    train = Window(small, reduced, slot)
    value = start_value(train, settings)
    held = None
    if validation is not None:
        held = Window(*decisive(community, validation[0])[:2], validation[1])
    chosen = jnp.asarray([name in settings.features for name in FEATURES], value.level.dtype)

    def with_weights(weights: dict[str, Array]) -> TunedValue:
        return replace(value, level=weights["level"] * chosen[None, :, None], drop=weights["drop"])

    def loss(weights: dict[str, Array]) -> tuple[Array, Array]:
        cost = window_cost(train, terminal_price, with_weights(weights), adjoint="implicit")
        jumps = sum(jnp.sum((x - jnp.roll(x, 1, axis=-1)) ** 2) for x in weights.values())
        sizes = jnp.sum(weights["level"][:, 1:] ** 2)
        missed = (cost - best_eur) / possible_saving_eur
        return missed + settings.roughness * jumps + settings.shrink * sizes, cost

    schedule = optax.cosine_decay_schedule(settings.learning_rate, settings.steps, 0.05)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))

    @jax.jit
    def step(weights, state):
        (missed, cost), gradient = jax.value_and_grad(loss, has_aux=True)(weights)
        change, state = optimiser.update(gradient, state, weights)
        return optax.apply_updates(weights, change), state, missed, cost

    held_cost = (
        jax.jit(lambda w: window_cost(held, terminal_price, with_weights(w), adjoint=None)) if held else None
    )
    weights = {"level": value.level, "drop": value.drop}
    run = _Run(weights, optimiser.init(weights), weights, np.inf, 0, 0, [])
    if checkpoint is not None and checkpoint.exists():
        run = _resume(checkpoint, settings, run)
    begin = time.perf_counter() - (run.history[-1].seconds if run.history else 0)
    while run.step < settings.steps and run.waited <= settings.patience:
        before = run.weights
        weights, state, missed, cost = step(run.weights, run.state)
        seen = None
        if held_cost is not None and (run.step % CHECK_EVERY == 0 or run.step == settings.steps - 1):
            seen = float(held_cost(before))
            better = seen < run.best_cost
            run = run._replace(waited=0 if better else run.waited + 1)
            if better:
                run = run._replace(best=before, best_cost=seen)
        progress = Progress(run.step, float(missed), float(cost), seen, time.perf_counter() - begin)
        run = run._replace(weights=weights, state=state, step=run.step + 1, history=[*run.history, progress])
        told(progress)
        if checkpoint is not None and (run.step % CHECK_EVERY == 0 or run.step == settings.steps):
            _save(checkpoint, settings, run)
    final = with_weights(run.best if held is not None else run.weights)
    return Tuned(replace(final, group=jnp.zeros((community.size,), jnp.int32)), run.history)


class _Run(NamedTuple):
    """Everything that a checkpoint keeps."""

    weights: dict[str, Array]
    state: optax.OptState
    best: dict[str, Array]
    best_cost: float
    waited: int
    step: int
    history: list[Progress]


def _save(path: Path, settings: Settings, run: _Run) -> None:
    leaves = [np.asarray(x) for x in jax.tree.leaves((run.weights, run.state, run.best))]
    about = {
        "settings": settings._asdict(),
        "best_cost": run.best_cost,
        "waited": run.waited,
        "step": run.step,
    }
    about["history"] = [list(row) for row in run.history]
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        np.savez(file, *leaves, about=np.array(json.dumps(about)))
    os.replace(part, path)


def _resume(path: Path, settings: Settings, start: _Run) -> _Run:
    with np.load(path) as file:
        about = json.loads(str(file["about"]))
        leaves = [jnp.asarray(file[f"arr_{k}"]) for k in range(len(file.files) - 1)]
    wanted = json.loads(json.dumps(settings._asdict()))
    differs = [
        f"{k} {about['settings'].get(k)} instead of {v}"
        for k, v in wanted.items()
        if about["settings"].get(k) != v
    ]
    if differs:
        raise ValueError(f"{path} was made with other settings: {', '.join(differs)}")
    shape = jax.tree.structure((start.weights, start.state, start.best))
    weights, state, best = jax.tree.unflatten(shape, leaves)
    return _Run(
        weights=weights,
        state=state,
        best=best,
        best_cost=about["best_cost"],
        waited=about["waited"],
        step=about["step"],
        history=[Progress(*row) for row in about["history"]],
    )


def columns(history: Sequence[Progress]) -> dict[str, list]:
    """The history as a table."""
    return {name: [getattr(row, name) for row in history] for name in Progress._fields}
