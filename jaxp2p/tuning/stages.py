"""Tuning again and again: every stage on the days right before it, so that the seasons are followed."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pandas as pd

from jaxp2p.control.tuned import TunedValue
from jaxp2p.data.calendar import slot_of_week
from jaxp2p.model.types import Community, Horizon
from jaxp2p.scenarios.parse import parse_model
from jaxp2p.settings.tuning import Periods, Training
from jaxp2p.tuning.checkpoint import Progress
from jaxp2p.tuning.train import Settings, for_members, in_turn, tune
from jaxp2p.tuning.windows import group_members, make_window

Data = Callable[[pd.Timestamp, float], tuple[Community, Horizon]]  # first moment, days


class Plan(NamedTuple):
    """When to tune, and on what."""

    begin: pd.Timestamp  # of the first stage
    train_days: float
    stages: int = 1
    every_days: int = 7  # from stage to stage
    validation_days: float = Periods.validation_days  # the last days before a stage, kept for early stopping
    groups: str = Training.groups
    scenarios: int = Training.scenarios
    sun: float = Training.sun  # how much brighter and darker the scenarios are, see `make_window`
    model: str = Training.scenario_model  # what else they differ by
    seed: int = 0  # of what the model draws

    @property
    def begins(self) -> list[pd.Timestamp]:
        """First moment of every stage."""
        return [self.begin + pd.Timedelta(days=self.every_days * number) for number in range(self.stages)]


class Stages(NamedTuple):
    """One controller, and how every stage of it was found."""

    value: TunedValue  # slots count from midnight of the Monday before the first stage
    begins: list[pd.Timestamp]
    histories: list[list[Progress]]


class Days(NamedTuple):
    """Some days."""

    horizon: Horizon
    slot: int  # number of the first slot, from midnight of a Monday


class Past(NamedTuple):
    """What a stage is tuned on."""

    community: Community
    train: Days
    validation: Days | None = None


def tune_stages(
    plan: Plan,
    data: Data,
    *,
    terminal_price: float,
    settings: Settings,
    checkpoint: Path | None = None,
    told: Callable[[int, Progress], None] = lambda stage, progress: None,
) -> Stages:
    """Tune every stage on the days before it.

    data gives the community and the horizon of any days. For the rest see `tune_in_turn`. Raises ValueError
    where no day is left to tune on.
    """
    kept = plan.validation_days
    if plan.train_days - kept < 1:
        raise ValueError(f"{plan.train_days} days less {kept} for validation leave none to tune")

    def past(number: int) -> Past:
        first = plan.begins[number] - pd.Timedelta(days=plan.train_days)
        middle = plan.begins[number] - pd.Timedelta(days=kept)
        community, horizon = data(first, plan.train_days - kept)
        slot = pd.Timedelta(hours=float(horizon.slot_hours))
        later = Days(data(middle, kept)[1], slot_of_week(middle, slot)) if kept else None
        return Past(community, Days(horizon, slot_of_week(first, slot)), later)

    return tune_in_turn(
        plan, past, terminal_price=terminal_price, settings=settings, checkpoint=checkpoint, told=told
    )


def tune_in_turn(
    plan: Plan,
    past: Callable[[int], Past],
    *,
    terminal_price: float,
    settings: Settings,
    checkpoint: Path | None = None,
    told: Callable[[int, Progress], None] = lambda stage, progress: None,
) -> Stages:
    """Tune stage after stage on its past; each but the first starts from the weights of the one before.

    Of the plan the days do not matter here. checkpoint: a file per stage, `.1` and so on added to the name.
    Later stages take half the steps: they have less to learn. Raises ValueError as `tune` does, and for an
    unknown scenario model.
    """
    values: list[TunedValue] = []
    histories = []
    group, slot = np.zeros(0, int), pd.Timedelta(0)
    for number in range(plan.stages):
        community, train, later = past(number)
        slot = pd.Timedelta(hours=float(train.horizon.slot_hours))
        group = group_members(community, plan.groups)
        window = make_window(
            community,
            train.horizon,
            slot=train.slot,
            group=group,
            scenarios=plan.scenarios,
            sun=plan.sun,
            model=parse_model(plan.model, horizon=train.horizon, community=community),
            key=jax.random.key(plan.seed),
        )
        validation = later and make_window(community, later.horizon, slot=later.slot, group=group)
        steps = settings.steps if number == 0 else max(settings.steps // 2, 1)
        found = tune(
            window,
            terminal_price=terminal_price,
            settings=settings._replace(steps=steps),
            start=values[-1] if values else None,
            validation=validation,
            checkpoint=checkpoint and checkpoint.with_name(f"{checkpoint.name}.{number + 1}"),
            told=partial(told, number),
        )
        values.append(found.value)
        histories.append(found.history)
    begin_slot = slot_of_week(plan.begin, slot)
    per_day = values[0].slots_per_day
    slots = [begin_slot + number * plan.every_days * per_day for number in range(plan.stages)]
    return Stages(for_members(in_turn(values, slots), group), plan.begins, histories)


def steps_in_all(plan: Plan, settings: Settings) -> int:
    """Steps of all stages, for a progress bar."""
    return settings.steps + (plan.stages - 1) * max(settings.steps // 2, 1)


def flat(histories: Sequence[Sequence[Progress]]) -> dict[str, list]:
    """All steps of all stages as one table."""
    rows = [(number + 1, *row) for number, history in enumerate(histories) for row in history]
    names = ("stage", *Progress._fields)
    return {name: [row[k] for row in rows] for k, name in enumerate(names)}
