"""What is proved about a controller before it runs, in EUR, and whether that says anything.

Storage: if lambda(E_min) >= D_h and lambda(E_max) <= D_l (bounds.py), the explicit storage limits of the
slot problem can never bind, whatever the prices do inside their bounds.

Cost: if moreover the slots' states are i.i.d. and theta, V are fixed, then over T slots

    E[cost] <= T f_opt + T sum_i M_i / V_i + sum_i S_i + T (mean of executed cost - dual value)

with f_opt the least mean cost per slot of any policy. Proof, per battery, with x = E - theta and
w = u - (1 - sigma) theta, so that E' - theta = sigma x + w: the exact drift is minimised together with
the cost, so the slot's total is at most that of the best policy that looks at the slot's state only.
That policy has E u = (1 - sigma) e for some mean energy e in [E_min, E_max] and u in [u_lo, u_hi], thus

    V (f - f_opt + L' - L) <= 1/2 [-(1 - sigma^2) x^2 + 2 sigma (1 - sigma) x (e - theta) + E w^2]
                           <= 1/2 E w^2 + sigma^2 (1 - sigma) / (2 (1 + sigma)) (e - theta)^2   (best x)
    E w^2 = E u^2 - 2 (1 - sigma)^2 theta e + (1 - sigma)^2 theta^2
    E u^2 <= (u_lo + u_hi) (1 - sigma) e - u_lo u_hi   (Bhatia and Davis)

convex in e, so M is the larger of the two ends. For sigma = 1: M = 1/2 |u_lo| u_hi, which is below the
usual 1/2 max(u)^2. The standard method does not weigh its own u^2 and keeps 1/2 max(u)^2 in its place.

S = max over E_T of L(E_0) - L(E_T) - v_T (E_T - E_0): what the start and the valued end can add, once.

Sources: Neely (2010), theorem 4.2; Qin, Chow, Yang, Rajagopal (2016) for leakage.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxp2p._pytree import record, static
from jaxp2p.control.bounds import (
    LyapunovParameters,
    can_earn,
    slot_energy,
    stored_value_range,
    value_at,
    value_at_empty,
)
from jaxp2p.control.tuned import DAYS_OF_WEEK, TunedValue, stage, value_at_ends
from jaxp2p.model.devices import Battery
from jaxp2p.model.devices.arrays import Values, namespace


@record
class Certificate:
    """The guarantees of one parameter set on one horizon; `explain()` says them in words."""

    has_battery: Array  # (N,) bool, room and power
    limits_never_bind: Array  # (N,) bool, for prices inside the bounds
    cost_guaranteed: Array  # (N,) bool, for i.i.d. states: limits never bind, theta and V fixed in time
    gap: Array  # (N,) EUR per slot, M_i / V_i
    start: Array  # (N,) EUR, once: S_i
    stopping: Array  # () EUR per slot, mean of executed cost minus dual value
    slots: int = static(default=1)
    method: str = static(default="exact")

    @property
    def bound_eur_per_slot(self) -> float:
        """Largest expected excess over the optimum, EUR per slot; inf where it is not guaranteed."""
        if not np.all(self.cost_guaranteed):
            return float("inf")
        return float(np.sum(self.gap) + np.sum(self.start) / self.slots + self.stopping)

    @property
    def bound_eur(self) -> float:
        """The same over all slots, EUR."""
        return self.slots * self.bound_eur_per_slot

    def explain(self, *, possible_saving_eur: float | None = None) -> str:
        """The guarantees in words; with the possible saving (EUR over the same slots) also their worth."""
        owners = np.flatnonzero(self.has_battery)
        binding = owners[~np.asarray(self.limits_never_bind)[owners]]
        unsure = np.flatnonzero(~np.asarray(self.cost_guaranteed))
        lines = [f"{self.method} drift, {owners.size} batteries, {self.slots} slots"]
        if binding.size == 0:
            lines.append(
                "storage limits: hold by themselves for every price inside the bounds, all batteries"
            )
        else:
            lines.append(
                f"storage limits: the explicit limits can bind at {binding.size} of {owners.size} batteries"
                f" (home {_listed(binding)}); the others keep them by themselves"
            )
        if unsure.size:
            lines.append(
                "cost: no guarantee, which needs theta and V fixed in time and storage limits that"
                f" never bind (missing at home {_listed(unsure)})"
            )
            return "\n".join(lines)
        lines.append(
            f"cost, if the slots' states are i.i.d.: at most the optimum + {self.bound_eur_per_slot:.4g} EUR"
            f" per slot, {self.bound_eur:.4g} EUR in all (early stopping {float(self.stopping):.3g} per slot)"
        )
        if possible_saving_eur is not None:
            lines.append(_worth(self.bound_eur, possible_saving_eur))
        return "\n".join(lines)


def certificate(
    battery: Battery,
    parameters: LyapunovParameters,
    price_min,
    price_max,
    *,
    slot_hours,
    slots: int,
    terminal_price=0.0,
    stopping_gap=0.0,
) -> Certificate:
    """What `parameters` guarantee for nodal prices in [price_min, price_max].

    `price_min`, `price_max`: EUR/kWh, () or (N,). `terminal_price`: v_T, EUR/kWh, the value of what is
    stored at the end. `stopping_gap`: EUR per slot, mean of executed cost minus dual value. A theta or
    V of shape (H, N) moves with the time of day: the storage guarantee is checked for each of its
    values and stays, the cost guarantee is lost.
    """
    dtype, xp = battery.energy_max.dtype, namespace(battery.energy_max, parameters.theta)
    has_battery = _has_battery(battery)
    never = _limits_never_bind(battery, parameters, price_min, price_max, slot_hours) | ~has_battery
    moving = parameters.theta.ndim == 2 or parameters.inverse_v.ndim == 2
    # a fixed value line is only covered for a battery that it keeps at rest
    resting = (parameters.inverse_v <= 0) & ~can_earn(battery, price_min, price_max)
    guaranteed = ~has_battery | (never & ((parameters.inverse_v > 0) | resting))
    if moving:
        none = xp.zeros_like(battery.energy_max)
        gap, start, guaranteed = none, none, ~has_battery
    else:
        gap = xp.where(has_battery, _gap(battery, parameters, slot_hours), 0.0)
        start = xp.where(has_battery, _start(battery, parameters, xp.asarray(terminal_price, dtype)), 0.0)
    return Certificate(
        has_battery=has_battery,
        limits_never_bind=never,
        cost_guaranteed=guaranteed,
        gap=gap,
        start=start,
        stopping=xp.asarray(stopping_gap, dtype),
        slots=slots,
        method=parameters.method,
    )


class TunedCertificate(NamedTuple):
    """What is known of a tuned value curve with the features at their means; `explain()` says what holds."""

    has_battery: Array  # (N,) bool
    never_empty: Array  # (T, N) bool, in slot t of a week under each stage by turns E_min cannot bind
    never_full: Array  # (T, N) bool, the same of E_max
    price_min: float  # EUR/kWh
    price_max: float

    def share(self) -> tuple[float, float, float]:
        """Of the slots of the week, mean over the batteries: neither limit can bind, not E_min, not E_max."""
        parts = (self.never_empty & self.never_full, self.never_empty, self.never_full)
        own = np.asarray(self.has_battery)
        neither, lower, upper = (float(np.mean(np.asarray(x)[:, own])) if own.any() else 1.0 for x in parts)
        return neither, lower, upper

    def explain(self) -> str:
        """The guarantees in words."""
        neither, lower, upper = (f"{100 * x:.0f} %" for x in self.share())
        return (
            f"tuned controller, {int(np.sum(self.has_battery))} batteries\n"
            "storage limits: hold whatever the weights, as they are explicit in every slot; at mean features "
            f"and prices from {self.price_min:.4g} to {self.price_max:.4g} EUR/kWh they could not bind in "
            f"{neither} of the slots of a week (lower {lower}, upper {upper}); nothing is known beyond that\n"
            "cost: no guarantee for i.i.d. slots, as theta follows time and features; the limits of the grid "
            "and the lower bound hold as for every policy"
        )


def tuned_certificate(
    tuned: TunedValue, battery: Battery, price_min, price_max, *, slot_hours
) -> TunedCertificate:
    """When the storage limits could not bind for nodal prices in [price_min, price_max], EUR/kWh.

    lambda(E_min) >= D_h and lambda(E_max) <= D_l, as for every controller, along all lines on which the slot
    can reach that end. Checked in every slot of the week, at the means of the features on which it was tuned;
    other features move lambda and are not covered.
    """
    cost_least, earn_most = stored_value_range(battery, price_min, price_max)
    floor = value_at_empty(battery, price_min, price_max)
    slack = _rounding(cost_least, earn_most, floor)

    tuned = jax.tree.map(jnp.asarray, tuned)  # weights put in by hand may be NumPy's
    slots = jnp.arange(DAYS_OF_WEEK * tuned.slots_per_day, dtype=jnp.int32)

    def check(number: Array) -> tuple[Array, Array]:
        which, slot = number // slots.shape[0], number % slots.shape[0]
        at_empty, at_full = value_at_ends(stage(tuned, which), battery, slot_hours, slot)
        return at_empty >= floor - slack, at_full <= cost_least + slack

    stages = tuned.begins.shape[0]
    never_empty, never_full = jax.lax.map(check, jnp.arange(stages * slots.shape[0], dtype=jnp.int32))
    return TunedCertificate(
        _has_battery(battery), never_empty, never_full, float(price_min), float(price_max)
    )


def _has_battery(battery: Battery) -> Values:
    return battery.owned & (battery.energy_max > battery.energy_min)


def _rounding(cost_least, earn_most, floor) -> Values:
    """(N,) EUR/kWh: at V_max the conditions hold with equality, which rounding must not exclude."""
    xp = namespace(earn_most, cost_least, floor)
    scale = xp.maximum(xp.abs(earn_most), xp.abs(cost_least))
    return 64 * xp.finfo(scale.dtype).eps * xp.maximum(scale, xp.abs(floor))


def _limits_never_bind(battery, parameters, price_min, price_max, slot_hours) -> Values:
    """lambda high enough where the battery must not discharge, low enough where it must not charge."""
    cost_least, earn_most = stored_value_range(battery, price_min, price_max)
    floor = value_at_empty(battery, price_min, price_max)
    charge, discharge = slot_energy(battery, slot_hours)
    xp = namespace(charge, parameters.theta)
    if parameters.method == "exact":
        charge, discharge = xp.zeros_like(charge), xp.zeros_like(discharge)
    slack = _rounding(cost_least, earn_most, floor)

    def check(theta, inverse_v, rest_value):
        row = LyapunovParameters(theta=theta, inverse_v=inverse_v, rest_value=rest_value)
        holds = value_at(row, battery.energy_min) >= floor - slack
        holds &= value_at(row, battery.energy_min + discharge) >= earn_most - slack
        return holds & (value_at(row, battery.energy_max - charge) <= cost_least + slack)

    fields = (parameters.theta, parameters.inverse_v, parameters.rest_value)
    rows = max(1, *(x.shape[0] for x in fields if x.ndim == 2), 1)
    tables = [xp.broadcast_to(x if x.ndim == 2 else x[None, :], (rows, x.shape[-1])) for x in fields]
    checks = [check(*(table[h] for table in tables)) for h in range(rows)]
    return xp.all(xp.stack(checks), axis=0)


def _gap(battery, parameters, slot_hours) -> Values:
    """(N,) EUR per slot: M_i / V_i; for a battery at rest only what leaks counts, at its rest value."""
    sigma, theta = battery.retention, parameters.theta
    leak = 1.0 - sigma
    charge, discharge = slot_energy(battery, slot_hours)
    xp = namespace(charge, theta)
    up = xp.minimum(charge, battery.energy_max - sigma * battery.energy_min)
    down = xp.maximum(-discharge, battery.energy_min - sigma * battery.energy_max)

    def at(mean_energy):
        if parameters.method == "exact":
            square = (up + down) * leak * mean_energy - up * down
        else:
            square = xp.maximum(up**2, down**2)
        square = square + leak**2 * theta * (theta - 2.0 * mean_energy)
        pull = sigma**2 * leak / (1.0 + sigma) * (mean_energy - theta) ** 2
        return 0.5 * (square + pull)

    moving = parameters.inverse_v * xp.maximum(at(battery.energy_min), at(battery.energy_max))
    lost = -leak * parameters.rest_value
    resting = xp.maximum(lost * battery.energy_min, lost * battery.energy_max)
    return xp.where(parameters.inverse_v > 0, moving, resting)


def _start(battery, parameters, terminal_price) -> Values:
    """(N,) EUR: max over E_T of L(E_0) - L(E_T) - v_T (E_T - E_0), the first two without cancellation."""
    slope = parameters.inverse_v
    xp = namespace(slope, battery.energy_max, terminal_price)
    turn = parameters.theta - terminal_price / xp.where(slope > 0, slope, 1.0)
    moving = xp.clip(turn, battery.energy_min, battery.energy_max)
    value = value_at(parameters, battery.energy_start)
    # at rest the energy stays or leaks away
    leaks_at_a_loss = (battery.retention < 1) & (value < terminal_price)
    resting = xp.where(leaks_at_a_loss, battery.energy_min, battery.energy_start)
    end = xp.where(slope > 0, moving, resting)
    mean_value = 0.5 * (value + value_at(parameters, end))
    return (end - battery.energy_start) * (mean_value - terminal_price)


def _worth(bound_eur: float, possible_saving_eur: float) -> str:
    if possible_saving_eur <= 0:
        return f"nothing to save ({possible_saving_eur:.4g} EUR): the cost guarantee is vacuous"
    ratio = bound_eur / possible_saving_eur
    verdict = "vacuous" if ratio > 1 else "it says something"
    return f"bound / possible saving = {bound_eur:.4g} / {possible_saving_eur:.4g} = {ratio:.3g}: {verdict}"


def _listed(index: np.ndarray) -> str:
    shown = ", ".join(str(i) for i in index[:8])
    return shown + (", ..." if index.size > 8 else "")
