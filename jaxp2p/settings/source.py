"""Where a community comes from and how it is changed on the way."""

from dataclasses import dataclass
from typing import ClassVar

from jaxp2p.settings.fields import argument, setting
from jaxp2p.settings.span import days_of

DEFAULT_CASE = "rural3"
TARIFFS = ("tou", "tou_noise", "dynamic")  # as jaxp2p.data.PRICES
CASE_NAMES = ("rural3", "rural1", "ieee33")  # as jaxp2p.data.CASES, which takes pandas to look at


@dataclass(frozen=True, kw_only=True)
class Place:
    """A case of the library or a folder of tables."""

    TABLE: ClassVar = "source"

    name: str = argument(
        DEFAULT_CASE,
        "rural3, rural1 or ieee33 (see `jaxp2p cases`), or a folder of tables.",
        "[CASE|DIR]",
        words="case or folder",
        files=True,
    )

    @property
    def embedded(self) -> bool:
        """Whether the name is that of an embedded case (a folder of that name is ./NAME)."""
        return self.name in CASE_NAMES


@dataclass(frozen=True, kw_only=True)
class Window:
    """The days out of the data."""

    TABLE: ClassVar = "source"

    start: str | None = setting(
        None,
        "First day, such as 2016-01-18.",
        unit="DATE",
        otherwise="2016-07-04, else the first",
        words="first day",
    )
    days: float | None = setting(7, "Number of days.", least=0, words="days to draw from")
    until: str | None = setting(
        None,
        "The day, or the moment, at which the days are over, instead of their number or of the first one.",
        unit="DATE",
        otherwise="by the number of days",
        words="end of the days",
    )
    duration: str | None = setting(
        None,
        "A length such as 36h or 1d 12h (w, d, h, min), instead of a number of days.",
        unit="DURATION",
        form=days_of,
        otherwise="by the number of days",
        words="duration",
    )


@dataclass(frozen=True, kw_only=True)
class Chance:
    """What is random about a community."""

    TABLE: ClassVar = "source"

    seed: int = setting(
        0, "For the trading graph, added devices, prices and homes.", least=0, words="seed of the community"
    )


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Another tariff, more or larger devices."""

    TABLE: ClassVar = "changes"

    price: str | None = setting(
        None,
        "Synthetic tariff: tou, tou_noise or dynamic.",
        unit="NAME",
        choices=TARIFFS,
        otherwise="tou; for DIR its own prices",
        words="tariff",
    )
    pv_share: float | None = setting(
        None,
        "Give PV to more members, up to this share.",
        unit="0..1",
        least=0,
        most=1,
        words="share of members with PV",
    )
    battery_share: float | None = setting(
        None,
        "Give batteries to more members, up to this share.",
        unit="0..1",
        least=0,
        most=1,
        words="share of members with a battery",
    )
    ev_share: float | None = setting(
        None,
        "Give electric vehicles to more members, up to this share.",
        unit="0..1",
        least=0,
        most=1,
        words="share of members with an electric vehicle",
    )
    pv_scale: float = setting(1.0, "Factor on all PV plants.", unit="FACTOR", least=0, words="factor on PV")
    battery_scale: float = setting(
        1.0, "Factor on all batteries.", unit="FACTOR", least=0, words="factor on batteries"
    )
    load_scale: float = setting(
        1.0, "Factor on all loads, background included.", unit="FACTOR", least=0, words="factor on loads"
    )
    homes: int | None = setting(
        None, "Number of homes of ieee33.", least=1, otherwise="300", words="number of homes"
    )


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the tables of a folder are to be taken."""

    TABLE: ClassVar = "source"

    accept: str = setting(  # with commas between
        "",
        "Take data of a folder that look implausible as they are; repeat for more. NAME is printed in "
        "brackets behind what is found: price_high, price_low, price_spike, fee_high, voltage_level, "
        "voltage_limits, impedance_high, rating_high, rating_low, and load, pv, battery_power, "
        "battery_energy, vehicle_power or vehicle_energy with _high or _low.",
        unit="NAME",
        repeated=True,
        words="judgements of plausibility overruled",
    )
    time_zone: str | None = setting(
        None,
        "Times of a folder without a UTC offset are local times of this zone, such as Europe/Berlin, or "
        "+01:00 for a clock that never changes; a start as well. Inside and in tables of results "
        "times are UTC.",
        unit="ZONE",
        words="time zone",
    )


@dataclass(frozen=True, kw_only=True)
class Source(Reading, Chance, Changes, Window, Place):
    """Where the community comes from and how it is changed on the way."""
