"""A study without numerics: every figure is drawn from (seed, scenario), wherever it is run."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from jaxp2p.studies.folder import open_study
from jaxp2p.studies.schedule import ChunkResult, cached_build, run_chunks
from jaxp2p.studies.settings import StudySettings

SOURCE = {
    "name": "rural1",
    "start": None,
    "days": 7,
    "until": None,
    "duration": None,
    "price": None,
    "accept": "",
    "time_zone": None,
    "pv_share": None,
    "battery_share": None,
    "ev_share": None,
    "pv_scale": 1.0,
    "battery_scale": 1.0,
    "load_scale": 1.0,
    "homes": None,
    "seed": 0,
}
POLICIES = ("no_storage_no_trade", "no_storage", "lyapunov", "perfect_foresight")
MEANS = {"no_storage_no_trade": 1000.0, "no_storage": 600.0, "lyapunov": 430.0, "perfect_foresight": 300.0}


def settings(**changes) -> StudySettings:
    """A small study of 4 chunks, the last one not full."""
    plain = {
        "source": SOURCE,
        "days": 7.0,
        "market": "pool",
        "partners": 6,
        "fee": None,
        "graph": None,
        "network": True,
        "policies": POLICIES,
        "scenario_model": "days drawn with repetition",
        "scenarios": 34,
        "seed": 5,
        "chunk": 10,
        "dtype": "float32",
        "tolerance": 1.0,
        "foresight_sample": 13,
        "device": "cpu",
        "version": "0.1.0",
        "fingerprint": "0" * 64,
        "controller": None,
    }
    return StudySettings(**{**plain, **changes})


def figures(seed: int, scenario: int, policy: str) -> dict[str, float]:
    """Costs that move together over the policies, and a rare violation."""
    weather = np.random.default_rng((seed, scenario)).normal(0, 80)
    draw = np.random.default_rng((seed, scenario, POLICIES.index(policy)))
    return {
        "cost_eur": MEANS[policy] + weather + draw.normal(0, 10),
        "p2p_kwh": draw.gamma(20, 100),
        "ac_voltage_violation_pu": 0.01 * (draw.random() < 0.2),
        "ac_loading_violation_pct": 2.0 * (draw.random() < 0.1),
    }


@dataclass(frozen=True, kw_only=True)
class FakeWork:
    """Draws figures; may be slow, fail in some chunks, or note in a folder which processes worked."""

    settings: StudySettings
    seconds: float = 0.0
    failing: tuple[int, ...] = ()
    notes: str | None = None
    traces: bool = True

    def __call__(self, number: int, first: int, count: int) -> ChunkResult:
        seed = cached_build(self.settings, _seed)
        if self.notes is not None:
            Path(self.notes, f"{number}-{os.getpid()}").touch()
        time.sleep(self.seconds)
        if number in self.failing:
            raise ZeroDivisionError(f"no figures in {first}")
        scenarios, policies = self.settings.rows(number)
        rows = [
            {"scenario": scenario, "policy": policy, **figures(seed, scenario, policy)}
            for scenario, policy in zip(scenarios, policies, strict=True)
        ]
        kpis = pd.DataFrame(rows)
        series = kpis[kpis["scenario"] < 12][["scenario", "policy"]].assign(slot=0, import_kw=1.5)
        return ChunkResult(
            kpis=kpis.iloc[::-1],
            traces=series if self.traces and len(series) else None,
            counters={"slots": count},
        )


def _seed(settings: StudySettings) -> int:
    return settings.seed


def main(path: str, seconds: float) -> None:
    """Run the study in a process that tests may kill."""
    chosen = settings()
    with open_study(path, chosen) as folder:
        run_chunks(folder, FakeWork(settings=chosen, seconds=seconds))


if __name__ == "__main__":
    import sys

    main(sys.argv[1], float(sys.argv[2]))
