"""Names, parameters, defaults and help of the effects; plain data, so that `--help` need not load JAX.

The defaults are round assumptions of a usual size, not measurements.
"""

from typing import NamedTuple

from jaxp2p.settings.study import DEFAULT_MODEL

NOTHING = "none"


class Parameter(NamedTuple):
    """One parameter; the type of the default is its type (bool, whole number or number)."""

    default: bool | int | float
    low: float
    high: float
    unit: str
    meaning: str
    low_included: bool = True

    @property
    def range(self) -> str:
        """What may be given, in words."""
        if isinstance(self.default, bool):
            return "yes or no"
        kind = "a whole number" if isinstance(self.default, int) else "a number"
        start = f"from {self.low:g}" if self.low_included else f"above {self.low:g}"
        return f"{kind} {start} to {self.high:g}"


class EffectEntry(NamedTuple):
    """One effect: what it does, and its parameters by name."""

    meaning: str
    parameters: dict[str, Parameter]


EFFECTS = {
    "bootstrap": EffectEntry(
        "blocks of whole days drawn from the data with replacement",
        {
            "block_days": Parameter(1, 1, 366, "days", "length of a block"),
            "same_weekday": Parameter(False, 0, 1, "", "only days of the same weekday stand for a day"),
        },
    ),
    "noise": EffectEntry(
        "autoregressive noise on loads, PV and prices",
        {
            "load": Parameter(0.2, 0, 2, "", "relative standard deviation of a home's load"),
            "pv": Parameter(0.1, 0, 2, "", "relative standard deviation of a PV plant"),
            "price": Parameter(0.0, 0, 2, "", "standard deviation over the mean absolute buying price"),
            "correlation_load": Parameter(0.2, 0, 1, "", "correlation between the loads of two homes"),
            "correlation_pv": Parameter(0.9, 0, 1, "", "correlation between two PV plants"),
            "half_life_hours": Parameter(
                3.0, 0, 8760, "h", "lag at which the noise is correlated by 1/2", low_included=False
            ),
        },
    ),
    "level": EffectEntry(
        "brighter or darker, busier or quieter throughout; drawn once per scenario",
        {
            "load": Parameter(0.0, 0, 2, "", "relative standard deviation of the level of all loads"),
            "pv": Parameter(0.35, 0, 2, "", "relative standard deviation of the level of all PV"),
        },
    ),
    "forecast_error": EffectEntry(
        "the data are a forecast whose error grows as the root of the lead time",
        {
            "load": Parameter(0.15, 0, 2, "", "relative standard deviation of a home's load after 24 h"),
            "pv": Parameter(0.3, 0, 2, "", "relative standard deviation of PV after 24 h"),
            "issue_hours": Parameter(
                24.0, 0, 8760, "h", "time between two forecasts, a whole number of slots", low_included=False
            ),
        },
    ),
    "price_spikes": EffectEntry(
        "spikes on the buying and the selling price",
        {
            "per_day": Parameter(0.2, 0, 100, "1/day", "spikes per day"),
            "size": Parameter(0.5, 0, 100, "EUR/kWh", "mean height, exponential"),
            "hours": Parameter(
                1.0, 0, 168, "h", "length of a spike, a whole number of slots", low_included=False
            ),
        },
    ),
    "outages": EffectEntry(
        "PV plants and batteries fail and are repaired",
        {
            "pv_per_year": Parameter(0.5, 0, 1000, "1/year", "failures of a PV plant"),
            "battery_per_year": Parameter(0.5, 0, 1000, "1/year", "failures of a battery"),
            "hours": Parameter(48.0, 0, 8760, "h", "mean time to repair", low_included=False),
        },
    ),
    "adoption": EffectEntry(
        "only some of the homes that have a device keep it; drawn once per scenario",
        {
            "pv": Parameter(1.0, 0, 1, "", "probability that a home keeps its PV plant"),
            "battery": Parameter(1.0, 0, 1, "", "probability that a home keeps its battery"),
        },
    ),
}


def _value(default: bool | int | float) -> str:
    return ("yes" if default else "no") if isinstance(default, bool) else f"{default:g}"


def _help() -> str:
    lines = [
        "A scenario model is a product of effects, such as",
        '  "bootstrap(block_days=2) * noise(load=0.3) * outages"',
        "Days are drawn first, the rest works from left to right. Defaults are assumed, not measured:",
    ]
    for name, entry in EFFECTS.items():
        lines.append(f"  {name}: {entry.meaning}")
        for parameter, spec in entry.parameters.items():
            unit = f" ({spec.unit})" if spec.unit else ""
            lines.append(f"    {parameter + '=' + _value(spec.default):<20} {spec.meaning}{unit}")
    lines.append(f"  {NOTHING}: every scenario is the data themselves")
    lines.append(f'Default: "{DEFAULT_MODEL}".')
    return "\n".join(lines)


EFFECTS_HELP = _help()
