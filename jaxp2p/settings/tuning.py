"""When to tune a controller, on what and how; `jaxp2p.tuning` takes its defaults from here."""

from dataclasses import dataclass
from typing import ClassVar

from jaxp2p.settings.fields import setting

GROUPS = ("one", "pv", "home")  # who shares a value curve


@dataclass(frozen=True, kw_only=True)
class Periods:
    """Days to tune on and days to test on."""

    TABLE: ClassVar = "periods"

    train_days: int = setting(28, "Days from --start to tune on.", least=1)
    test_days: int = setting(28, "Days after them to test on.", least=1)
    validation_days: int = setting(0, "Last days of those to tune on, kept for early stopping.", least=0)
    rolling: bool = setting(
        False,
        "Tune again every week of the test, on the days before it.",
        spelling=("--rolling/--once",),
    )


@dataclass(frozen=True, kw_only=True)
class Training:
    """The value curve and how it is found."""

    TABLE: ClassVar = "training"

    steps: int = setting(100, "Gradient steps.", least=1)
    learning_rate: float = setting(0.05, "Of Adam.", least=0)
    features: str = setting(
        "price,pv,load_mean,pv_mean",
        "What the value follows besides the time of day: weekend, price, load, pv, and the running "
        "means load_mean, pv_mean, price_mean. Where the prices of a day are published at 13 h of the "
        "day before: ahead_low and ahead_high of the next 12 h, ahead_next, mean of 3 h.",
        unit="NAME,NAME,...",
        listed=True,
    )
    knots: int = setting(8, "Knots of the day.", least=1)
    pieces: int = setting(2, "Pieces of the state of charge.", least=1)
    groups: str = setting(
        "one",
        'Who shares a value curve: "one" for all, by "pv", or every "home".',
        unit="NAME",
        choices=GROUPS,
    )
    scenarios: int = setting(5, "Of the days to tune on: as they were, and others like them.", least=1)
    sun: float = setting(
        0.5, "By how much PV differs between the scenarios (sigma of its logarithm).", least=0
    )
    scenario_model: str = setting("none", "What else differs; see `jaxp2p study --help`.", unit="MODEL")
    batch: int = setting(0, "Scenarios per step; 0: all.", least=0)


@dataclass(frozen=True, kw_only=True)
class Aims:
    """Terms of the objective besides the mean cost."""

    TABLE: ClassVar = "aims"

    cvar: float = setting(
        0.0, "Weight of the dearest scenarios (CVaR) against the mean cost.", least=0, most=1
    )
    cvar_level: float = setting(0.95, "Share of the scenarios that do not count as dearest.", least=0, most=1)
    peak_price: float = setting(0.0, "EUR per kW of the mean daily peak that the community buys.", least=0)
    fairness_price: float = setting(
        0.0, "EUR per full cycle a day by which batteries differ; needs groups.", least=0
    )
