"""A controller tuned on the days of a case: what `jaxp2p tune` finds, in memory and as the same file."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxp2p.control.policy import suggest_penalties
from jaxp2p.control.tuned import TunedValue, stage
from jaxp2p.data import window
from jaxp2p.hindsight.perfect_foresight import PerfectForesight, perfect_foresight
from jaxp2p.library.case import Case
from jaxp2p.model.build import build_horizon
from jaxp2p.model.match import require_match
from jaxp2p.runs.runner import check_end_value, suggest_terminal_price
from jaxp2p.scenarios.parse import parse_model
from jaxp2p.settings.fields import out_of_range
from jaxp2p.settings.tuning import Aims, Training
from jaxp2p.tuning.controller_file import read_controller, write_controller
from jaxp2p.tuning.stages import Days, Past, Plan, flat, steps_in_all, tune_in_turn
from jaxp2p.tuning.train import Settings, make_settings
from jaxp2p.tuning.windows import (
    Window,
    check_features,
    check_tunable,
    group_members,
    make_window,
    start_value,
    worth,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WEEK = pd.Timedelta(days=7)


def tune(
    case: Case,
    *,
    validation: Case | None = None,
    stages: int = 1,
    steps: int = Training.steps,
    learning_rate: float = Training.learning_rate,
    features: str | Sequence[str] = Training.features,
    knots: int = Training.knots,
    pieces: int = Training.pieces,
    groups: str = Training.groups,
    scenarios: int = Training.scenarios,
    sun: float = Training.sun,
    model: str = Training.scenario_model,
    batch: int = Training.batch,
    cvar: float = Aims.cvar,
    cvar_level: float = Aims.cvar_level,
    peak_price: float = Aims.peak_price,
    fairness_price: float = Aims.fairness_price,
    seed: int = 0,
    end_value: float | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> "Tuned":
    """Tune by gradient what a stored kWh is worth, on the days of a case, for the days after them.

    steps to fairness_price, with their defaults, are the options of `jaxp2p tune --help`; features: names, or
    a text with commas between. validation: a case of later days of the same community; the weights that did
    best there are kept, and tuning stops when they get no better. stages above 1 tune again every week
    (`--rolling`): stage k on as many days k weeks later, which the case's tables must have. seed: of
    what the scenario model draws, and of the choice of a batch. end_value: EUR/kWh of energy stored at the
    end, by default from the tariffs. checkpoint: a file (`.1` and so on added, one per stage) that is renewed
    every ten steps and gone on from. progress(done, total, loss) hears of every step.

    Raises ValueError naming every setting out of range, for a community or days on which nothing can be
    tuned, for a validation case of another community or of days that are tuned on, and for a checkpoint made
    with other settings or data.
    """
    names = features if isinstance(features, str) else ",".join(features)
    training = Training(
        steps=steps,
        learning_rate=learning_rate,
        features=names,
        knots=knots,
        pieces=pieces,
        groups=groups,
        scenarios=scenarios,
        sun=sun,
        scenario_model=model,
        batch=batch,
    )
    aims = Aims(cvar=cvar, cvar_level=cvar_level, peak_price=peak_price, fairness_price=fairness_price)
    settings = _checked(training, aims, seed, stages)
    check_tunable(case.community, case.horizon)
    check_end_value(end_value)
    parse_model(model, horizon=case.horizon, community=case.community)
    last = case if validation is None else _following(case, validation)
    plan = Plan(
        begin=_end(last),
        train_days=_days(case),
        stages=stages,
        validation_days=0 if validation is None else _days(validation),
        groups=groups,
        scenarios=scenarios,
        sun=sun,
        model=model,
        seed=seed,
    )
    # every stage's days, before the work: not all of them need be there
    pasts = [_past(case, validation, number * WEEK) for number in range(stages)]
    price = suggest_terminal_price(case.community, case.horizon) if end_value is None else end_value
    total, done = steps_in_all(plan, settings), [0]

    def tell(number: int, row: Any) -> None:
        done[0] += 1
        if progress is not None:
            progress(done[0], total, row.loss)

    found = tune_in_turn(
        plan,
        pasts.__getitem__,
        terminal_price=price,
        settings=settings,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        told=tell,
    )
    value = found.value if stages > 1 else replace(found.value, begins=jnp.zeros((1,), jnp.int32))
    return Tuned(
        case=case,
        controller=value,  # one stage holds whenever it is: as in its file
        history=pd.DataFrame(flat(found.histories)).astype({"validation_eur": float}),
        end_value=price,
        begins=tuple(found.begins),
        plan=plan,
        settings=settings,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Tuned:
    """A tuned controller, how it was found, and what it makes of the energy in a battery."""

    case: Case  # the days that it was tuned on
    # for `run` and `study`; stages count from the week of the first one: for later cases save and load
    controller: TunedValue
    history: pd.DataFrame  # one row per step: stage, step, loss, cost_eur, validation_eur or NaN, seconds
    end_value: float  # EUR/kWh of energy stored at the end
    begins: tuple[pd.Timestamp, ...]  # from when on every stage is meant to run
    plan: Plan
    settings: Settings

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the controller file that `load_controller` and `--controller` read, whole or not at all."""
        about = {
            "case": self.case.name,
            "train": [str(self.case.time.iloc[0]), self.plan.train_days],
            "settings": self.settings._asdict() | {"objective": self.settings.objective._asdict()},
            "plan": self.plan._asdict() | {"begin": str(self.plan.begin)},
            "end_value_eur_per_kwh": self.end_value,
        }
        begins = list(self.begins) if len(self.begins) > 1 else None
        write_controller(Path(path), self.controller, about=about, begins=begins)
        return Path(path)

    def worth(self, charged: float = 0.5) -> pd.DataFrame:
        """What a stored kWh is worth over the mean day of the case, EUR/kWh, by the hour of the slot's begin.

        Of the largest battery of the pool, `charged` of its room full; those that move alike count as one.
        Columns: `lyapunov`, where tuning began, `tuned` (the first stage), `perfect_foresight` (the dual
        price of its storage) and the tariff, `price_buy`. Raises ValueError where nobody has a battery, for a
        share that is not within 0 and 1, and for a case shorter than a day.
        """
        if not 0 <= charged <= 1:
            raise ValueError(f"charged is {charged:g}: it is a share, from 0 to 1")
        past = self._window
        room = np.asarray(past.community.prosumers.battery.room)
        if not room.any():
            raise ValueError(f"nobody in {self.case.name} has a battery")
        largest = int(np.argmax(room))
        first = stage(self.controller, 0)
        columns = {
            "lyapunov": worth(past, start_value(past), charged)[:, largest],
            "tuned": worth(past, first, charged)[:, largest],
            "perfect_foresight": self._foresight.storage_duals[:, largest],
            "price_buy": past.horizon(0).price_buy,
        }
        per_day = first.slots_per_day
        days = self.case.slots // per_day
        if days == 0:
            raise ValueError(f"{self.case.name} is shorter than a day: there is no mean day")
        of_day = {
            name: np.asarray(x, float)[: days * per_day].reshape(days, per_day).mean(axis=0)
            for name, x in columns.items()
        }
        begun = self.case.time.iloc[0]
        minutes = 60 * begun.hour + begun.minute + 1440 / per_day * np.arange(per_day)
        return pd.DataFrame(of_day, index=pd.Index(minutes % 1440 / 60, name="hour")).sort_index()

    def plot(self) -> "Figure":
        """Loss per step, and what stored energy is worth over a weekday with the features at their means."""
        from jaxp2p.report.tuning import tuning_figure

        history = {name: self.history[name].tolist() for name in ("step", "loss")}
        return tuning_figure(self.controller, self.case.community.prosumers, history)

    @cached_property
    def _window(self) -> Window:
        """The days as they were, on merged batteries."""
        case = self.case
        group = group_members(case.community, self.plan.groups)
        return make_window(case.community, case.horizon, slot=case.slot_of_week, group=group)

    @cached_property
    def _foresight(self) -> PerfectForesight:
        community, horizon = self._window.community, self._window.horizon(0)
        penalties = suggest_penalties(horizon)
        return perfect_foresight(
            community,
            horizon,
            terminal_price=self.end_value,
            row_penalty=float(penalties.row),
            unserved_price=float(penalties.unserved),
        )

    def __repr__(self) -> str:
        loss = self.history["loss"]
        return (
            f"Tuned on {_days(self.case):g} days of {self.case.name!r} from "
            f"{self.case.time.iloc[0]:%Y-%m-%d}: "
            f"{len(loss)} steps, loss {loss.iloc[0]:.3f} to {loss.iloc[-1]:.3f}"
        )


def load_controller(path: str | os.PathLike[str], case: Case) -> TunedValue:
    """The controller of a file that `Tuned.save` or `jaxp2p tune` wrote, for the days of a case.

    Raises ValueError naming every fault of the file, and for one with groups of another number of members.
    """
    dtype = str(case.horizon.load.dtype)
    return read_controller(Path(path), size=case.size, first=case.time.iloc[0], dtype=dtype)


def _checked(training: Training, aims: Aims, seed: int, stages: int) -> Settings:
    """How to tune, with nothing out of range."""
    faults = out_of_range(training) + out_of_range(aims)
    if stages < 1:
        faults.append(f"stages is {stages}: it must be at least 1")
    if training.batch > training.scenarios:
        faults.append(f"batch is {training.batch}: there are {training.scenarios} scenarios")
    if faults:
        raise ValueError("; ".join(faults))
    settings = make_settings(training, aims, seed=seed)
    settings.objective.check()
    check_features(settings.features)
    return settings


def _slot(case: Case) -> pd.Timedelta:
    return case.time.iloc[1] - case.time.iloc[0]


def _end(case: Case) -> pd.Timestamp:
    return case.time.iloc[-1] + _slot(case)


def _days(case: Case) -> float:
    return (_end(case) - case.time.iloc[0]) / pd.Timedelta(days=1)


def _following(case: Case, validation: Case) -> Case:
    """The validation case, if it can be one."""
    require_match(case.community, validation.horizon)
    if _slot(validation) != _slot(case):
        raise ValueError("the validation case has slots of another length")
    if validation.time.iloc[0] < _end(case):
        raise ValueError(
            f"the validation case begins at {validation.time.iloc[0]}, before the days to tune on end "
            f"({_end(case)}): what has been learnt by heart would look good"
        )
    return validation


def _past(case: Case, validation: Case | None, later: pd.Timedelta) -> Past:
    """What a stage is tuned on that begins so much later than the first."""
    train = _moved(case, case, later)
    return Past(case.community, train, None if validation is None else _moved(case, validation, later))


def _moved(case: Case, part: Case, later: pd.Timedelta) -> Days:
    """The days of a part so much later; whole weeks have the same number of the first slot."""
    if not later:
        return Days(part.horizon, part.slot_of_week)
    begin = (part.time.iloc[0] + later).tz_localize("UTC")
    tables = window(part.whole, start=begin, days=_days(part))
    return Days(build_horizon(case.community, tables), part.slot_of_week)
