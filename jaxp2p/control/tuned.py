"""The value of stored energy as a function of what is known at the slot: what tuning moves.

A stored kWh is worth, at state of charge x = (E' - E_min) / (E_max - E_min),

    lambda_i(x) = mid_i + spread_i (a(t, z) - integral from 1/2 to x of b(t, u) du),      b > 0

with mid_i = (D_l + D_h) / 2 and spread_i = D_h - D_l from the tariffs. a = 0 and b = 1 is the certified
controller at V_max (`control.bounds`). a is linear in the features z with weights that follow the time of
day on a periodic spline; b is the same on pieces of the state of charge, positive by softplus: the value of
the stored energy stays concave, the slot problem convex. Within a slot the curve is followed along the piece
on which it begins, lambda(E') = lambda(E) - k (E' - E), so every update is still a clipped line.

Features, all known when the slot is cleared and scaled by their mean and deviation on the training window:
1, weekend, buy price, present load and PV of the community, running means of load, PV and price, and what a
day-ahead market has published (`data.day_ahead`). No forecast.
Scaled, they are cut at +- `FEATURE_LIMIT`: the weights say nothing of what they were never tried on.

A controller that is tuned again and again has stages: weights that take each other's place as time goes on.

Any weights are safe: the storage limits are explicit in every slot problem. What tuning gives up is the cost
bound for i.i.d. slots, and that those limits never bind: `certificate.tuned_certificate` says so.
"""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxp2p._pytree import record, static
from jaxp2p.control.bounds import slot_energy, stored_value_range
from jaxp2p.control.charging import worth_range
from jaxp2p.model.devices import Battery, Plugged
from jaxp2p.model.types import Prosumers

FEATURES = (
    *("one", "weekend", "price", "load", "pv"),
    *("load_mean", "pv_mean", "price_mean"),
    *("ahead_low", "ahead_high", "ahead_next"),
)
DAYS_OF_WEEK, SATURDAY = 7, 5
FEATURE_LIMIT = 2.5  # deviations
CUT = (-FEATURE_LIMIT, FEATURE_LIMIT)
STAGED = ("level", "drop", "price_low", "price_high", "mean", "deviation")  # have the axis W


@record
class TunedValue:
    """Weights of the value curve: W stages, G groups of batteries, F features, K knots, Q pieces of x."""

    level: Array  # (W, G, F, K) weights of a
    drop: Array  # (W, G, Q, K) b before softplus
    price_low: Array  # (W,) EUR/kWh, what mid and spread are made from
    price_high: Array  # (W,) EUR/kWh
    mean: Array  # (W, F) of the features on the training window; 0 for those that are not scaled
    deviation: Array  # (W, F)
    begins: Array  # (W,) int32, first slot of every stage, increasing; before the first it holds as well
    group: Array  # (N,) int32, group of every member
    start: Array  # (3,) running means before the first slot: EUR/kWh, kW, kW
    hours: Array  # () h, memory of the running means
    slots_per_day: int = static(default=96)
    vehicle_group: int | None = static(default=None)  # of the vehicles; None: a = 0 and b = 1 for them


class Memory(NamedTuple):
    """What a tuned policy remembers of the slots so far, the present one included."""

    means: Array  # (3,) running means of price (EUR/kWh), load and PV of the community (kW)
    now: Array  # (3,) the same in this slot
    ahead: Array  # (3,) published prices less the present one, EUR/kWh


def remember(tuned: TunedValue, battery: Battery) -> Memory:
    """Before the first slot."""
    dtype = battery.energy_max.dtype
    start = tuned.start.astype(dtype)
    return Memory(start, start, jnp.zeros((3,), dtype))


def observe(
    tuned: TunedValue,
    memory: Memory,
    slot_hours: Array,
    price: Array,
    load: Array,
    pv: Array,
    ahead: Array,
) -> Memory:
    """With the present slot: price () EUR/kWh, load and pv (N,) kW, published prices ahead (3,) EUR/kWh."""
    now = jnp.stack([price, jnp.sum(load), jnp.sum(pv)])
    keep = jnp.exp(-slot_hours / tuned.hours)
    return Memory(keep * memory.means + (1 - keep) * now, now, ahead)


def stage(tuned: TunedValue, number: int | Array) -> TunedValue:
    """One stage, on an axis of length 1."""
    return replace(tuned, **{name: getattr(tuned, name)[number][None] for name in (*STAGED, "begins")})


def stage_at(tuned: TunedValue, slot: Array) -> TunedValue:
    """The stage that holds in this slot."""
    if tuned.begins.shape[0] == 1:
        return tuned
    return stage(tuned, jnp.maximum(jnp.sum(tuned.begins <= slot) - 1, 0))


def features(tuned: TunedValue, memory: Memory, slot: Array) -> Array:
    """(F,) scaled and cut, of a value with one stage; slot () int32 counts from midnight of a Monday."""
    return jnp.clip((raw_features(tuned, memory, slot) - tuned.mean[0]) / tuned.deviation[0], *CUT)


def raw_features(tuned: TunedValue, memory: Memory, slot: Array) -> Array:
    """(F,) in their own units."""
    day = (slot // tuned.slots_per_day) % DAYS_OF_WEEK
    one = jnp.ones((), memory.now.dtype)
    weekend = (day >= SATURDAY).astype(one.dtype)
    means = memory.means[1:], memory.means[:1]
    return jnp.concatenate([jnp.stack([one, weekend]), memory.now, *means, memory.ahead])


def time_basis(tuned: TunedValue, slot: Array) -> Array:
    """(K,) periodic linear spline over the day; sums to 1."""
    knots, dtype = tuned.level.shape[-1], tuned.level.dtype
    at = (slot % tuned.slots_per_day).astype(dtype) * (knots / tuned.slots_per_day)
    away = jnp.abs(at - jnp.arange(knots, dtype=dtype))
    return jnp.maximum(1 - jnp.minimum(away, knots - away), 0)


def value_line(
    tuned: TunedValue, memory: Memory, homes: Prosumers, kept: Array, slot: Array
) -> tuple[Array, Array]:
    """lambda at the energy at hand, (N,) EUR/kWh, and its slope k, (N,) EUR/kWh^2; kept (N,) kWh."""
    battery = homes.battery
    ends = stored_value_range(battery, *_prices(tuned, slot))
    curve = _curve(tuned, memory, ends, tuned.group, slot)
    return _line(battery.energy_min, battery.room, kept, *curve)


def vehicle_line(
    tuned: TunedValue,
    memory: Memory,
    plugged: Plugged,
    wanted: Array,
    span: Array,
    kept: Array,
    slot: Array,
) -> tuple[Array, Array]:
    """The same for vehicles, (K, N) each: x = 1 - u with the urgency u of `charging`, and D from there too.

    wanted and span in kWh: x is 1 at the target, and 0 where all the time left is needed.
    """
    ends = worth_range(plugged, *_prices(tuned, slot))
    if tuned.vehicle_group is None:
        low, high = ends
        curve = (
            (low + high) / 2,
            jnp.maximum(high - low, 0),
            jnp.ones((*kept.shape, tuned.drop.shape[2]), kept.dtype),
        )
    else:
        curve = _curve(tuned, memory, ends, jnp.full(kept.shape, tuned.vehicle_group, jnp.int32), slot)
    return _line(wanted - span, span, kept, *curve)


def _line(
    least: Array, room: Array, kept: Array, middle: Array, spread: Array, drop: Array
) -> tuple[Array, Array]:
    safe = jnp.where(room > 0, room, 1)
    charge = jnp.clip((kept - least) / safe, 0, 1)
    fallen, slope = _along(drop, charge)
    return middle - spread * fallen, spread * slope / safe


def _prices(tuned: TunedValue, slot: Array) -> tuple[Array, Array]:
    """Lowest and highest of the stage, () EUR/kWh."""
    stage = stage_at(tuned, slot)
    return stage.price_low[0], stage.price_high[0]


def value_at_ends(tuned: TunedValue, battery: Battery, slot_hours, slot: Array) -> tuple[Array, Array]:
    """(least lambda at E_min, greatest lambda at E_max), (N,) EUR/kWh, with the features at their means.

    Of all the lines that a slot can begin on and reach that end of the battery along.
    """
    mean = stage_at(tuned, slot).mean[0].astype(battery.energy_max.dtype)
    # undoes the order of `features`
    average = Memory(means=mean[jnp.array([7, 5, 6])], now=mean[2:5], ahead=mean[8:])
    ends = stored_value_range(battery, *_prices(tuned, slot))
    middle, spread, drop = _curve(tuned, average, ends, tuned.group, slot)
    pieces, room = drop.shape[1], battery.energy_max - battery.energy_min
    charge, discharge = slot_energy(battery, slot_hours)
    # what leaks below E_min begins with lambda(E_min), so it has less when it is back there
    below = (1 - battery.retention) * battery.energy_min / jnp.where(room > 0, room, 1)
    at_empty = jnp.full_like(room, jnp.inf)
    at_full = jnp.full_like(room, -jnp.inf)
    for piece in range(pieces):
        begin, end = piece / pieces, (piece + 1) / pieces
        fallen, _ = _along(drop, jnp.full_like(room, begin))
        line = lambda x, fallen=fallen, b=drop[:, piece], begin=begin: (
            middle - spread * (fallen + b * (x - begin))
        )
        empties, fills = begin * room < discharge, (1 - end) * room < charge
        at_empty = jnp.where(empties, jnp.minimum(at_empty, line(below)), at_empty)
        at_full = jnp.where(fills, jnp.maximum(at_full, line(1)), at_full)
    return at_empty, at_full


def _curve(
    tuned: TunedValue, memory: Memory, ends: tuple[Array, Array], group: Array, slot: Array
) -> tuple[Array, Array, Array]:
    """lambda at x = 1/2 (N,), spread (N,), both EUR/kWh, and b of the pieces (N, Q).

    ends: D_l and D_h (N,), group (N,); of vehicles (K, N) each.
    """
    tuned = stage_at(tuned, slot)
    basis = time_basis(tuned, slot)
    level = jnp.einsum("gfk,f,k->g", tuned.level[0], features(tuned, memory, slot), basis)
    drop = jax.nn.softplus(jnp.einsum("gqk,k->gq", tuned.drop[0], basis))
    low, high = ends
    spread = jnp.maximum(high - low, 0)  # a battery that cannot earn rests in the middle
    middle = (low + high) / 2 + spread * jnp.take(level, group)
    return middle, spread, jnp.take(drop, group, axis=0)


def _along(drop: Array, charge: Array) -> tuple[Array, Array]:
    """Integral of b from 1/2 to `charge` (N,) and b there, for pieces `drop` (N, Q) of equal width."""
    pieces = drop.shape[-1]
    along = lambda x: jnp.broadcast_to(x, drop.shape)
    begin = along(jnp.arange(pieces, dtype=drop.dtype) / pieces)
    inside = lambda x: jnp.clip(x - begin, 0, 1 / pieces)
    fallen = jnp.sum(drop * (inside(along(charge[..., None])) - inside(0.5)), axis=-1)
    here = jnp.clip(jnp.floor(charge * pieces), 0, pieces - 1)
    # by comparison: a gather from what was gathered itself came out wrong on CPUs (jaxlib 0.10.2), fused
    # with the derivative of a run
    chosen = along(here[..., None]) == along(jnp.arange(pieces, dtype=drop.dtype))
    return fallen, jnp.sum(jnp.where(chosen, drop, 0), axis=-1)
