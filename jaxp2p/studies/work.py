"""The chunks of a study from its settings alone: what a worker process imports and runs."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import jax

from jaxp2p.control.catalogue import TUNED
from jaxp2p.data.loading import load
from jaxp2p.model.chosen import build_both, first_slot_of_week, use_dtype
from jaxp2p.scenarios.parse import parse_model
from jaxp2p.settings.source import Source
from jaxp2p.slot.solvers import choose_solver, scale_tolerances
from jaxp2p.studies.devices import scenario_mesh
from jaxp2p.studies.errors import StudyError
from jaxp2p.studies.run import Study, make_study, run_chunk
from jaxp2p.studies.schedule import ChunkResult, cached_build
from jaxp2p.studies.settings import StudySettings
from jaxp2p.tuning.controller_file import parse_controller


@dataclass(frozen=True)
class Work:
    """Runs chunks; pickles, and builds community and programs once per process."""

    settings: StudySettings
    devices: int = 1
    controller: str | None = None  # what its file says: the settings only know the digest

    def __call__(self, number: int, first: int, count: int) -> ChunkResult:
        """The scenarios first to first + count - 1."""
        study = built(self.settings, self.devices, self.controller)
        return run_chunk(study, first, count, width=min(self.settings.chunk, self.settings.scenarios))


def build(settings: StudySettings, mesh: Any = None, controller: str | None = None) -> Study:
    """Community, horizon and scenario model of the settings, and the policy of what a controller file says.

    Raises ValueError.
    """
    source = Source(**settings.source)
    tables = load(source)
    community, horizon = build_both(tables, settings, seed=source.seed)
    slots = round(settings.days * 24 / float(horizon.slot_hours))
    return make_study(
        community,
        horizon,
        model=parse_model(settings.scenario_model, horizon=horizon, community=community),
        policies=[name for name in settings.policies if name != TUNED],
        slots=slots,
        seed=settings.seed,
        solver=scale_tolerances(choose_solver(community), settings.tolerance),
        first_slot_of_week=first_slot_of_week(tables.profiles["time"]),
        terminal_price=settings.end_value,
        unserved_price=settings.unserved_price,
        foresight_sample=settings.foresight_sample,
        mesh=mesh,
        controller=None
        if controller is None
        else parse_controller(
            controller, size=community.size, first=tables.profiles["time"].iloc[0], dtype=settings.dtype
        ),
    )


def built(settings: StudySettings, devices: int, controller: str | None) -> Study:
    """The study of the settings, made once per process: how it is cut into chunks makes no difference."""
    return cached_build(replace(settings, chunk=1), _builder(devices, controller))


@cache
def _builder(devices: int, controller: str | None) -> Callable[[StudySettings], Study]:
    """The same function for the same devices and controller, so that what it built is found again."""

    def in_this_process(settings: StudySettings) -> Study:
        use_dtype(settings.dtype)  # a worker process has set up nothing yet
        found = jax.devices()[0].device_kind
        if found != settings.device:
            raise StudyError(f"this process runs on {found!r}, the study on {settings.device!r}")
        return build(settings, scenario_mesh(devices) if devices > 1 else None, controller)

    return in_this_process
