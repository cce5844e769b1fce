"""The slots to tune on: a window of the past, and what it might have been as well.

A few weeks tell how prices and sun move from hour to hour, and little of how bright the next weeks will be.
Scenarios of the window with more and with less PV are what keeps the weights from being right for one season
only: factors at even quantiles of a lognormal distribution, because a handful of draws may all be dark. A
scenario model (`jaxp2p.scenarios`) may draw them as well. The window as it was is always the first of them.

Everything happens in the pool without network, on the merged batteries (`tuning.reduce`). The limits of the
grid are kept where the result is used.
"""

import math
from dataclasses import replace
from statistics import NormalDist
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxp2p.control.tuned import FEATURES, Memory, TunedValue, observe, raw_features, remember, value_line
from jaxp2p.model.types import Community, Horizon
from jaxp2p.scenarios.model import ScenarioModel, materialise, scenario_key
from jaxp2p.settings.tuning import GROUPS
from jaxp2p.tuning.reduce import merged, without_network

UNSCALED = ("one", "weekend")


class Window(NamedTuple):
    """S scenarios of T slots of the merged community."""

    community: Community
    horizons: Horizon  # every leaf with a leading axis S
    slot: int  # number of the first slot, from midnight of a Monday
    group: np.ndarray  # (N,) of every member

    @property
    def scenarios(self) -> int:
        """S."""
        return self.horizons.price_buy.shape[0]

    def horizon(self, number: int) -> Horizon:
        """One scenario."""
        return jax.tree.map(lambda x: x[number], self.horizons)


def group_members(community: Community, how: str) -> np.ndarray:
    """(N,) group of every member: "one" for all, with or without "pv", every "home" its own."""
    if how not in GROUPS:
        raise ValueError(f"unknown groups {how!r}: choose from {', '.join(GROUPS)}")
    if how == "one":
        return np.zeros(community.size, int)
    owner = np.asarray(community.prosumers.battery.owned)
    if how == "pv":
        return np.where(owner & (np.asarray(community.prosumers.pv_peak) > 0), 1, 0)
    return np.where(owner, np.cumsum(owner) - 1, 0)


def check_tunable(community: Community, horizon: Horizon) -> None:
    """Raises ValueError for what no controller can be tuned on, all of it named.

    Slots that do not divide the day, another market than the pool, connection or trade limits, no batteries.
    """
    faults = []
    try:
        slots_of_day(horizon)
    except ValueError as error:
        faults.append(str(error))
    homes, market = community.prosumers, community.market
    if not market.pooled or market.limited:
        faults.append("a controller is tuned in a pool without limits on trades")
    if homes.limited:
        faults.append("a controller is tuned without connection limits (buy_max_kw, sell_max_kw)")
    if not np.any(homes.battery.owned) and homes.vehicles is None:
        faults.append("nobody has a battery or a vehicle: there is nothing to tune")
    if faults:
        raise ValueError("; ".join(faults))


def slots_of_day(horizon: Horizon) -> int:
    """Slots in a day; ValueError where they do not divide it."""
    hours = float(horizon.slot_hours)
    slots = round(24 / hours)
    if abs(slots * hours - 24) > 1e-4:
        raise ValueError(f"slots of {60 * hours:g} min do not divide a day")
    return slots


def make_window(
    community: Community,
    horizon: Horizon,
    *,
    slot: int,
    group: np.ndarray,
    scenarios: int = 1,
    sun: float = 0.0,
    model: ScenarioModel | None = None,
    key: Array | None = None,
) -> Window:
    """The horizon and `scenarios` - 1 others; group (N,) of every home.

    The others are what `model` draws with `key` from the horizon (without one: the horizon), the PV of number
    k times exp(sun z_k), z_k the normal quantile at (k - 1/2) / (scenarios - 1), and at most what the plants
    can or did give.

    Raises ValueError for markets other than the pool, and for a model that takes devices away.
    """
    bare, past = without_network(community, horizon)
    drawn = [past]
    if model is not None and {effect.name for effect in model.effects} & {"outages", "adoption"}:
        raise ValueError("a controller is tuned for the devices that there are: no outages, no adoption")
    for number in range(1, scenarios):
        series = horizon
        if model is not None and model.effects:
            if key is None:
                raise ValueError("a scenario model needs a key")
            own = scenario_key(key, number)
            series = materialise(model, community, horizon, own, horizon.slots)[1]
        series = without_network(community, series)[1]
        factor = math.exp(sun * NormalDist().inv_cdf((number - 0.5) / (scenarios - 1)))
        most = jnp.maximum(community.prosumers.pv_peak[None, :], series.pv)
        drawn.append(replace(series, pv=jnp.minimum(factor * series.pv, most)))
    # one after the other they are one horizon, so that all are reduced alike
    hours, steady = horizon.slot_hours, [replace(row, slot_hours=row.load[0, :0]) for row in drawn]
    longest = replace(jax.tree.map(lambda *rows: jnp.concatenate(rows), *steady), slot_hours=hours)
    small, reduced, groups = merged(bare, longest, group)
    split = lambda x: x.reshape(scenarios, horizon.slots, *x.shape[1:])
    parts = {
        n: jax.tree.map(split, x) for n, x in reduced.__dict__.items() if n not in ("slot_hours", "mark")
    }
    each = jnp.broadcast_to(hours, (scenarios,))
    horizons = Horizon(slot_hours=each, mark=reduced.mark, **parts)
    return Window(small, horizons, slot, groups)


def check_features(features: tuple[str, ...]) -> None:
    """Raises ValueError for names that are none, and without the constant."""
    unknown = [name for name in features if name not in FEATURES]
    if unknown:
        raise ValueError(f"unknown features {', '.join(unknown)}: choose from {', '.join(FEATURES)}")
    if "one" not in features:
        raise ValueError("the features must contain 'one'")


def start_value(
    window: Window,
    *,
    knots: int = 8,
    pieces: int = 2,
    memory_hours: float = 24.0,
    features: tuple[str, ...] = ("one",),
) -> TunedValue:
    """The certified controller at V_max of the window's tariffs, with features scaled by the window.

    Raises ValueError for an unknown feature, fewer than one knot or piece, and slots that no day is made of.
    """
    check_features(features)
    if knots < 1 or pieces < 1:
        raise ValueError("knots and pieces must be at least 1")
    horizons, past = window.horizons, window.horizon(0)
    dtype, groups, count = past.load.dtype, int(window.group.max()) + 1, len(FEATURES)
    driving = window.community.prosumers.vehicles is not None
    vehicles = groups if driving else None  # the last group
    groups += driving
    value = TunedValue(
        level=jnp.zeros((1, groups, count, knots), dtype),
        drop=jnp.full((1, groups, pieces, knots), math.log(math.expm1(1)), dtype),  # b = 1
        price_low=jnp.min(past.price_sell)[None],
        price_high=jnp.max(past.price_buy)[None],
        mean=jnp.zeros((1, count), dtype),
        deviation=jnp.ones((1, count), dtype),
        begins=jnp.zeros((1,), jnp.int32),
        group=jnp.asarray(window.group, jnp.int32),
        start=jnp.mean(_observed(past), axis=1),
        hours=jnp.asarray(memory_hours, dtype),
        slots_per_day=slots_of_day(past),
        vehicle_group=vehicles,
    )

    @jax.vmap
    def seen(horizon: Horizon) -> Array:
        """(T, F) features of one scenario."""

        def step(memory: Memory, row):
            memory = observe(value, memory, horizon.slot_hours, *row)
            return memory, raw_features(value, memory, jnp.zeros((), jnp.int32))

        rows = horizon.price_buy, horizon.load, horizon.pv, horizon.price_ahead
        first = remember(value, window.community.prosumers.battery)
        return jax.lax.scan(step, first, rows)[1]

    rows = np.asarray(seen(horizons), float).reshape(-1, count)
    mean, deviation = rows.mean(0), np.maximum(rows.std(0), 1e-6 * np.abs(rows).max(0) + 1e-9)
    plain = np.array([name in UNSCALED for name in FEATURES])
    return replace(
        value,
        mean=jnp.asarray(np.where(plain, 0, mean)[None], dtype),
        deviation=jnp.asarray(np.where(plain, 1, deviation)[None], dtype),
    )


@jax.jit
def worth(window: Window, value: TunedValue, charged: Array | float) -> Array:
    """(T, N) EUR/kWh: lambda of every battery, `charged` of its room full, in the window as it was."""
    homes, past = window.community.prosumers, window.horizon(0)
    battery, own = homes.battery, replace(value, group=jnp.asarray(window.group, jnp.int32))
    kept = battery.energy_min + charged * battery.room

    def step(memory: Memory, row: tuple[Array, ...]) -> tuple[Memory, Array]:
        number, *now = row
        memory = observe(own, memory, past.slot_hours, *now)
        return memory, value_line(own, memory, homes, kept, number)[0]

    numbers = window.slot + jnp.arange(past.slots, dtype=jnp.int32)
    rows = numbers, past.price_buy, past.load, past.pv, past.price_ahead
    return jax.lax.scan(step, remember(own, battery), rows)[1]


def _observed(horizon: Horizon) -> Array:
    """(3, T) what the running means follow."""
    return jnp.stack([horizon.price_buy, jnp.sum(horizon.load, axis=1), jnp.sum(horizon.pv, axis=1)])
