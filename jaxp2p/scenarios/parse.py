"""A scenario model from one line of text, and back to words."""

import dataclasses
import math
import re
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxp2p.data.frames import near
from jaxp2p.model.types import Community, Horizon
from jaxp2p.scenarios.adoption import Adoption
from jaxp2p.scenarios.catalogue import EFFECTS, NOTHING, Parameter
from jaxp2p.scenarios.days import Bootstrap, slots_per_day
from jaxp2p.scenarios.events import Outages, PriceSpikes
from jaxp2p.scenarios.model import Effect, ScenarioModel
from jaxp2p.scenarios.noise import ForecastError, Level, Noise

CLASSES: dict[str, type[Effect]] = {
    effect.name: effect for effect in (Bootstrap, Noise, Level, ForecastError, PriceSpikes, Outages, Adoption)
}
_EFFECT = re.compile(r"([^()\s]+)\s*(?:\(([^()]*)\))?")
_FLAGS = {"yes": True, "true": True, "no": False, "false": False}

Values = dict[str, bool | int | float]


def parse_model(text: str, *, horizon: Horizon, community: Community) -> ScenarioModel:
    """The model that a text such as "bootstrap(block_days=2) * noise(load=0.2)" describes.

    Grammar: effects separated by `*`; an effect is a name, or a name with `(parameter=value, ...)`. Names,
    defaults and ranges are those of `EFFECTS_HELP`; "none" stands alone for the horizon itself. The horizon
    and the community that the model is for tell whether it can work with them. Leaves get the horizon's
    dtype.

    Raises:
        ValueError: one, that names every fault.
    """
    wanted, faults = _read(text)
    effects = []
    for name, values in wanted.items():
        effect, more = _build(name, values, horizon, community)
        faults += more
        effects += [effect] if effect is not None else []
    if faults:
        faults = list(dict.fromkeys(faults))  # a bad slot length is the same fault for every effect
        head = f"scenario model {text!r}: {len(faults)} fault{'' if len(faults) == 1 else 's'}"
        raise ValueError("\n  ".join([head, *faults]))
    return ScenarioModel(effects=tuple(effects))


def describe(model: ScenarioModel) -> str:
    """What the model does, one line per effect; on the host."""
    if not model.effects:
        return f"{NOTHING}: every scenario is the horizon itself"
    return "\n".join(f"{effect.name}: {effect.words()}" for effect in model.effects)


def _read(text: str) -> tuple[dict[str, Values], list[str]]:
    """Parameters by effect, without those at fault, and the faults."""
    wanted: dict[str, Values] = {}
    faults = []
    parts = [part.strip() for part in text.split("*")]
    for part in parts:
        match = _EFFECT.fullmatch(part)
        if match is None:
            what = f'"{part}" is not' if part else "an effect is missing; each must be"
            faults.append(f"{what} of the form name or name(parameter=value, ...)")
            continue
        name, inside = match[1], match[2] or ""
        if name == NOTHING:
            if len(parts) > 1:
                faults.append(f'"{NOTHING}" stands alone')
            if inside.strip():
                faults.append(f"{NOTHING} has no parameters")
        elif name not in EFFECTS:
            known = [*EFFECTS, NOTHING]
            faults.append(f'unknown effect "{name}"{near(name, known)}; there are {", ".join(known)}')
        elif name in wanted:
            faults.append(f"{name} stands twice")
        else:
            wanted[name], more = _arguments(name, inside)
            faults += more
    return wanted, faults


def _arguments(name: str, inside: str) -> tuple[Values, list[str]]:
    """All parameters of an effect, defaults included, and the faults of those given."""
    known = EFFECTS[name].parameters
    values: Values = {key: spec.default for key, spec in known.items()}
    given: set[str] = set()
    faults = []
    for item in inside.split(",") if inside.strip() else []:
        key, equals, word = (x.strip() for x in item.partition("="))
        if not (key and equals and word):
            faults.append(f'{name}: "{item.strip()}" is not of the form parameter=value')
        elif key not in known:
            names = list(known)
            faults.append(
                f'{name}: unknown parameter "{key}"{near(key, names)}; there are {", ".join(names)}'
            )
        elif key in given:
            faults.append(f"{name}: {key} stands twice")
        else:
            given.add(key)
            value = _number(word, known[key])
            if value is None:
                faults.append(f"{name}: {key} = {word} must be {known[key].range}")
            else:
                values[key] = value
    return values, faults


def _number(word: str, spec: Parameter) -> bool | int | float | None:
    """The value, None where it is none or out of range."""
    if isinstance(spec.default, bool):
        return _FLAGS.get(word.lower())
    try:
        value = int(word) if isinstance(spec.default, int) else float(word)
    except ValueError:
        return None
    inside = math.isfinite(value) and spec.low <= value <= spec.high
    return value if inside and (spec.low_included or value > spec.low) else None


def _build(
    name: str, values: Values, horizon: Horizon, community: Community
) -> tuple[Effect | None, list[str]]:
    """The effect, and what it cannot do with this horizon and this community."""
    fields = {field.name: field for field in dataclasses.fields(CLASSES[name])}  # type: ignore[arg-type]
    arguments: dict[str, Any] = dict(values)
    if "slots_per_day" in fields:
        try:
            arguments["slots_per_day"] = slots_per_day(horizon)
        except ValueError as error:
            return None, [str(error)]
    dtype = horizon.load.dtype
    effect = CLASSES[name](
        **{
            key: value if fields[key].metadata.get("static") else jnp.asarray(value, dtype)
            for key, value in arguments.items()
        }
    )
    faults = _length_faults(name, values, horizon)
    if isinstance(effect, Bootstrap):
        try:
            effect.check(horizon)
        except ValueError as error:
            faults.append(f"{name}: {error}")
    if isinstance(effect, Adoption):
        faults += _device_faults(values, community)
    return effect, faults


def _length_faults(name: str, values: Values, horizon: Horizon) -> list[str]:
    """Lengths of time that must be a whole number of slots."""
    slot = float(np.asarray(horizon.slot_hours))
    faults = []
    for effect, key in (("forecast_error", "issue_hours"), ("price_spikes", "hours")):
        if name == effect:
            slots = values[key] / slot
            if round(slots) < 1 or abs(slots - round(slots)) > 1e-4:
                faults.append(
                    f"{name}: {key} = {values[key]:g} must be a whole number of slots of {slot:g} h"
                )
    return faults


def _device_faults(values: Values, community: Community) -> list[str]:
    """Adoption that would change nothing."""
    homes = community.prosumers
    present = {"pv": homes.pv_peak, "battery": homes.battery.owned}
    words = {"pv": "a PV plant", "battery": "a battery"}
    if all(values[key] == 1 for key in present):
        return ["adoption: give pv or battery below 1, else every home keeps what it has"]
    return [
        f"adoption: {key} = {values[key]:g}, but no home has {words[key]} to keep"
        for key, power in present.items()
        if values[key] < 1 and not (np.asarray(power) > 0).any()
    ]
