"""Tuning the value of stored energy by gradient, on weeks that have passed, for weeks to come.

    minimise over the weights   (objective - cost of perfect foresight) / possible saving + penalties

all over the scenarios of the window; for the mean cost that is one minus the capture. The cost of a window is
differentiated through every slot and through the stored energy (`costate`) that one slot hands to the
next. Adam with gradients clipped and a cosine schedule; penalties on weights that jump from one knot of the
day to the next, and on all but the constant feature, and scenarios of the window keep a few weeks from being
learnt by heart. With a validation window the weights that did best on it are kept.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxp2p._pytree import record
from jaxp2p.control.catalogue import ENTRIES, TRADE_ONLY
from jaxp2p.control.policy import made, suggest_penalties
from jaxp2p.control.tuned import FEATURES, STAGED, TunedValue
from jaxp2p.hindsight.perfect_foresight import perfect_foresight
from jaxp2p.model.trajectory import net_cost
from jaxp2p.model.types import Community, Horizon
from jaxp2p.settings.tuning import Aims, Training
from jaxp2p.simulation import forward as simulation
from jaxp2p.simulation.accounting import possible_saving
from jaxp2p.slot.solvers import Solver, choose_solver
from jaxp2p.tuning.checkpoint import Progress, Run, describe, resume, save
from jaxp2p.tuning.objective import Objective, courses, measure
from jaxp2p.tuning.windows import Window, start_value

CHECK_EVERY = 10  # steps between looks at the validation window, and between checkpoints
WEIGHTS = ("level", "drop")
LAST = 0.05  # share of the learning rate that the last step has


class Settings(NamedTuple):
    """How to tune."""

    features: tuple[str, ...] = ("one", *Training.features.split(","))
    knots: int = Training.knots  # of the day
    pieces: int = Training.pieces  # of the state of charge
    memory_hours: float = 24.0
    steps: int = Training.steps
    learning_rate: float = Training.learning_rate
    roughness: float = 1e-3  # weight of squared differences between neighbouring knots
    shrink: float = 0.03  # weight of the squares of all but the constant feature
    patience: int = 5  # looks at the validation window without progress
    batch: int = Training.batch  # scenarios per step, 0: all
    seed: int = 0  # of the choice of scenarios
    objective: Objective = Objective()
    solver: Solver | None = None  # of the slots; None: the one that suits the market


def make_settings(training: Training, aims: Aims, *, seed: int = 0) -> Settings:
    """What a user chose; the constant is always among the features."""
    asked = [name.strip() for name in training.features.split(",") if name.strip()]
    return Settings(
        features=("one", *(name for name in asked if name != "one")),
        knots=training.knots,
        pieces=training.pieces,
        steps=training.steps,
        learning_rate=training.learning_rate,
        batch=training.batch,
        seed=seed,
        objective=Objective(
            cvar_weight=aims.cvar,
            cvar_level=aims.cvar_level,
            peak_price=aims.peak_price,
            fairness_price=aims.fairness_price,
        ),
    )


class Tuned(NamedTuple):
    """The result: the weights to keep, and how it went."""

    value: TunedValue
    history: list[Progress]


def tune(
    window: Window,
    *,
    terminal_price: float,
    settings: Settings | None = None,
    start: TunedValue | None = None,
    validation: Window | None = None,
    checkpoint: Path | None = None,
    told: Callable[[Progress], None] = lambda progress: None,
) -> Tuned:
    """Tune the value curve on a window; terminal_price v_T in EUR/kWh.

    start: weights to begin with, those of the certified controller by default. validation: a later window;
    the weights that are best there are returned. checkpoint: a file that is renewed every CHECK_EVERY steps
    and resumed from, to the same result.

    Raises ValueError for unknown features, weights of the objective out of range, a window in which nothing
    can be saved, and a checkpoint made with other settings or another window.
    """
    settings = settings or Settings()
    settings.objective.check()
    value = start_value(
        window,
        knots=settings.knots,
        pieces=settings.pieces,
        memory_hours=settings.memory_hours,
        features=settings.features,
    )
    if start is not None:
        value = replace(value, **{name: getattr(start, name) for name in WEIGHTS})
    best, possible = _possible_saving(window, terminal_price, settings.solver)
    if possible is None:
        raise ValueError("nothing can be saved in this window: there is nothing to tune")
    size = settings.batch or window.scenarios
    if not 0 < size <= window.scenarios:
        raise ValueError(f"a step cannot take {settings.batch} of {window.scenarios} scenarios")
    # one program for all stages, however many steps of what length they take
    shared = settings._replace(steps=0, learning_rate=0.0, patience=0)
    task = _Task.of(window, value, terminal_price, best, possible)
    held = validation and _Task.of(validation, for_members(value, validation.group), terminal_price, 0, 1)

    weights = {name: getattr(value, name) for name in WEIGHTS}
    run = Run(weights, OPTIMISER.init(weights), weights, np.inf, 0, 0, [])
    inputs = (window.community, window.horizons, value, validation and validation.horizons)
    about = describe(settings, inputs, window.slot, terminal_price)
    if checkpoint is not None and checkpoint.exists():
        run = resume(checkpoint, about, run)
    begin = time.perf_counter() - (run.history[-1].seconds if run.history else 0)
    with jax.numpy_dtype_promotion("standard"):  # optax counts its steps in int32
        while run.step < settings.steps and run.waited <= settings.patience:
            before = run.weights
            rate = jnp.asarray(_learning_rate(settings, run.step), value.level.dtype)
            weights, state, missed, cost = _step(task, run.weights, run.state, run.step, rate, shared)
            seen = None
            if held is not None and (run.step % CHECK_EVERY == 0 or run.step == settings.steps - 1):
                seen = float(_held_out(held, before, shared))
                better = seen < run.best_cost
                run = run._replace(waited=0 if better else run.waited + 1)
                if better:
                    run = run._replace(best=before, best_cost=seen)
            progress = Progress(run.step, float(missed), float(cost), seen, time.perf_counter() - begin)
            run.history.append(progress)
            run = run._replace(weights=weights, state=state, step=run.step + 1)
            told(progress)
            if checkpoint is not None and (run.step % CHECK_EVERY == 0 or run.step == settings.steps):
                save(checkpoint, about, run)
    weights = run.best if held is not None else run.weights
    return Tuned(_with_weights(value, weights, settings), run.history)


@record
class _Task:
    """What a step needs besides the weights; windows of one shape share a compiled program."""

    community: Community
    horizons: Horizon  # (S, ...)
    slot: Array  # () int32
    value: TunedValue
    terminal_price: Array  # () EUR/kWh
    best: Array  # () EUR
    possible: Array  # () EUR

    @classmethod
    def of(cls, window: Window, value: TunedValue, *numbers: float) -> "_Task":
        names = ("terminal_price", "best", "possible")
        scale = dict(zip(names, (jnp.asarray(x, value.level.dtype) for x in numbers), strict=True))
        slot = jnp.asarray(window.slot, jnp.int32)
        return cls(community=window.community, horizons=window.horizons, slot=slot, value=value, **scale)

    def measured(self, horizons: Horizon, value: TunedValue, settings: Settings, adjoint: str | None):
        """() EUR of the objective, and () EUR mean cost."""
        given = self.community, horizons, self.slot, self.terminal_price, value
        found = courses(*given, adjoint=adjoint, solver=settings.solver)
        owner = self.community.prosumers.battery.owned
        return measure(settings.objective, found, owner), jnp.mean(found.cost)


def _with_weights(value: TunedValue, weights: dict[str, Array], settings: Settings) -> TunedValue:
    chosen = jnp.asarray([name in settings.features for name in FEATURES], value.level.dtype)
    return replace(value, level=weights["level"] * chosen[None, None, :, None], drop=weights["drop"])


OPTIMISER = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())


def _learning_rate(settings: Settings, step: int) -> float:
    """Half a cosine, from the learning rate down to LAST of it."""
    return settings.learning_rate * float(optax.cosine_decay_schedule(1.0, settings.steps, LAST)(step))


@partial(jax.jit, static_argnames="settings")
def _step(task: _Task, weights, state, number: Array, rate: Array, settings: Settings):
    every = task.horizons.price_buy.shape[0]

    def loss(weights: dict[str, Array]) -> tuple[Array, Array]:
        rows = task.horizons
        if 0 < settings.batch < every:
            key = jax.random.fold_in(jax.random.key(settings.seed), number)
            picked = jax.random.choice(key, every, (settings.batch,), replace=False)
            rows = jax.tree.map(lambda x: x[picked], rows)
        total, cost = task.measured(rows, _with_weights(task.value, weights, settings), settings, "implicit")
        jumps = sum(jnp.sum((x - jnp.roll(x, 1, axis=-1)) ** 2) for x in weights.values())
        sizes = jnp.sum(weights["level"][:, :, 1:] ** 2)
        missed = (total - task.best) / task.possible
        return missed + settings.roughness * jumps + settings.shrink * sizes, cost

    (missed, cost), gradient = jax.value_and_grad(loss, has_aux=True)(weights)
    change, state = OPTIMISER.update(gradient, state, weights)
    weights = jax.tree.map(lambda x, dx: x - rate * dx, weights, change)
    return weights, state, missed, cost


@partial(jax.jit, static_argnames="settings")
def _held_out(task: _Task, weights, settings: Settings) -> Array:
    value = _with_weights(task.value, weights, settings)
    return task.measured(task.horizons, value, settings, None)[0]


def for_members(value: TunedValue, group: np.ndarray) -> TunedValue:
    """The same weights for a community with this group (N,) of every member."""
    return replace(value, group=jnp.asarray(group, jnp.int32))


def in_turn(values: Sequence[TunedValue], begins: Sequence[int]) -> TunedValue:
    """One controller of several: each from its slot on."""
    parts: dict[str, Any] = {name: jnp.concatenate([getattr(row, name) for row in values]) for name in STAGED}
    return replace(values[0], **parts, begins=jnp.asarray(list(begins), jnp.int32))


def _possible_saving(
    window: Window, terminal_price: float, solver: Solver | None
) -> tuple[float, float | None]:
    """EUR, means over the scenarios: cost of perfect foresight, and what that saves, None for nothing."""
    community, dtype, size = window.community, window.horizons.load.dtype, window.community.size
    rest = made(ENTRIES[TRADE_ONLY], size, dtype, vehicles=community.prosumers.vehicles)
    solver = solver or choose_solver(community)
    best, idle = [], []
    for number in range(window.scenarios):
        horizon = window.horizon(number)
        penalties = suggest_penalties(horizon)
        row, unserved = float(penalties.row), float(penalties.unserved)
        found = perfect_foresight(
            community, horizon, terminal_price=terminal_price, row_penalty=row, unserved_price=unserved
        )
        best.append(found.objective_eur)
        run = simulation.simulate_in_pieces(community, horizon, penalties, rest, solver)
        idle.append(net_cost(run, community.prosumers.battery, terminal_price, horizon.plugs))
    return float(np.mean(best)), possible_saving(float(np.mean(idle)), float(np.mean(best)))
