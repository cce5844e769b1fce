"""How large V may be, and where theta may lie: the storage limits that hold without being enforced.

The controller adds the exact drift of L = 1/2 sum_i (E_i - theta_i)^2 / V_i to the slot cost, so a kWh
in the cells is worth

    lambda(E') = (theta - E') / V          exact drift: a line within the slot
    lambda     = (theta - sigma E) / V     standard method: constant within the slot

and a battery charges while lambda > nu / eta_c + kappa and discharges while lambda < eta_d nu - kappa,
nu being the nodal price. With nu in [mu_min, mu_max] no stored kWh earns more than D_h or costs less
than D_l,

    D_h = eta_d mu_max - kappa,      D_l = mu_min / eta_c + kappa          (EUR per kWh in the cells)

which is all that the guarantees need. They hold slot by slot, so theta and V may change between slots.

The functions take and give NumPy or JAX arrays.

Sources: Neely, Stochastic Network Optimization (2010); Urgaonkar, Urgaonkar, Neely,
Sivasubramaniam (2011) for the linear method; Qin, Chow, Yang, Rajagopal (2016) for theta, leakage and
the network.
"""

from typing import Any

from jax import Array

from jaxp2p._pytree import record, static
from jaxp2p.model.devices import Battery
from jaxp2p.model.devices.arrays import Values, namespace

METHODS = ("exact", "standard")


@record
class LyapunovParameters:
    """What the controller follows: the value of stored energy, lambda(E') = inverse_v (theta - E').

    1/V and not V is kept: a battery that rests has V = inf, and then lambda is `rest_value`.
    """

    theta: Array  # (N,) kWh, or (H, N) by time of day
    inverse_v: Array  # (N,) EUR/kWh^2, k = 1/V; 0: the value does not depend on the energy
    rest_value: Array  # (N,) EUR/kWh, lambda where inverse_v is 0
    method: str = static(default="exact")


def _limits(battery: Battery, price_min, price_max) -> tuple[Values, Values]:
    """The two price bounds as arrays of the battery's dtype and kind (numbers are welcome)."""
    return _like(battery.energy_max, price_min), _like(battery.energy_max, price_max)


def stored_value_range(battery: Battery, price_min, price_max) -> tuple[Values, Values]:
    """(D_l, D_h) in EUR per kWh in the cells: the least it can cost, the most it can earn.

    `price_min`, `price_max`: EUR/kWh, () or (N,), bounds of the nodal price. D_h <= D_l means that the
    battery can never earn.
    """
    low, high = _limits(battery, price_min, price_max)
    return battery.charge_value(low), battery.discharge_value(high)


def value_at_empty(battery: Battery, price_min, price_max) -> Values:
    """(N,) EUR/kWh: what the last kWh must at least be worth for the lower limit to hold by itself.

    D_h, so that nothing is discharged below it. A battery that leaks and has E_min > 0 must also be
    willing to buy back what leaks at any price: max(D_h, mu_max / eta_c + kappa).
    """
    _, earn_most = stored_value_range(battery, price_min, price_max)
    _, high = _limits(battery, price_min, price_max)
    refill = battery.charge_value(high)
    xp = namespace(earn_most, refill)
    return xp.where(_must_refill(battery), xp.maximum(earn_most, refill), earn_most)


def can_earn(battery: Battery, price_min, price_max) -> Values:
    """(N,) bool: the battery has room and power, and some price pair pays for a cycle (D_h > D_l)."""
    cost_least, earn_most = stored_value_range(battery, price_min, price_max)
    return battery.owned & (battery.energy_max > battery.energy_min) & (earn_most > cost_least)


def v_max(battery: Battery, price_min, price_max) -> Values:
    """(N,) kWh^2/EUR: the largest V with which the exact drift keeps the storage limits by itself.

        V_max = (E_max - E_min) / (D_h - D_l)

    with D_h replaced by `value_at_empty` for a leaking battery with E_min > 0, which also needs
    dt eta_c c_max >= (1 - sigma) E_min. inf for a battery that cannot earn: it rests.

    Proof. Let E_min + V D_h <= theta <= E_max + V D_l, that is lambda(E_min) >= D_h and
    lambda(E_max) <= D_l. If E' < E_min, then lambda(E') > D_h >= eta_d nu - kappa, so d = 0 and
    E' >= sigma E >= E_min (sigma = 1 or E_min = 0): contradiction. If E' > E_max, then
    lambda(E') < D_l <= nu / eta_c + kappa, so c = 0 and E' <= sigma E <= E_max: contradiction. Leaking
    with E_min > 0: E' < E_min makes lambda(E') > mu_max / eta_c + kappa as well, so c = c_max and
    E' >= sigma E_min + dt eta_c c_max >= E_min. Such a theta exists iff V <= V_max.
    """
    cost_least, _ = stored_value_range(battery, price_min, price_max)
    spread = value_at_empty(battery, price_min, price_max) - cost_least
    earns = can_earn(battery, price_min, price_max)
    room, xp = battery.energy_max - battery.energy_min, namespace(spread)
    return xp.where(earns, room / xp.where(earns, spread, 1.0), xp.inf)


def v_max_standard(battery: Battery, price_min, price_max, *, slot_hours) -> Values:
    """(N,) kWh^2/EUR: the same for the standard method, whose lambda does not change within the slot.

        V_max = (E_max - E_min - dt (eta_c c_max + d_max / eta_d)) / (D_h - D_l)

    A whole slot's charge and discharge must fit in beyond the turning points. <= 0: there is none, the
    battery fills or empties in a slot. A leaking battery with E_min > 0 needs in addition
    V <= (E_max - E_min - dt eta_c c_max) / (mu_max / eta_c + kappa - D_l). inf: it rests.
    """
    charge, discharge = slot_energy(battery, slot_hours)
    cost_least, earn_most = stored_value_range(battery, price_min, price_max)
    earns = can_earn(battery, price_min, price_max)
    room, xp = battery.energy_max - battery.energy_min - charge, namespace(earns)
    trading = (room - discharge) / xp.where(earns, earn_most - cost_least, 1.0)
    refill = room / xp.where(earns, value_at_empty(battery, price_min, price_max) - cost_least, 1.0)
    limit = xp.where(_must_refill(battery), xp.minimum(trading, refill), trading)
    return xp.where(earns, limit, xp.inf)


def theta_range(battery: Battery, v, price_min, price_max) -> tuple[Values, Values]:
    """(lowest, highest) theta, (N,) kWh, for the exact drift and a finite V; empty above V_max.

    E_min + V D_h <= theta <= E_max + V D_l, with `value_at_empty` in place of D_h.
    """
    v = _like(battery.energy_max, v)
    cost_least, _ = stored_value_range(battery, price_min, price_max)
    floor = value_at_empty(battery, price_min, price_max)
    return battery.energy_min + v * floor, battery.energy_max + v * cost_least


def theta_range_standard(battery: Battery, v, price_min, price_max, *, slot_hours) -> tuple[Values, Values]:
    """(lowest, highest) theta, (N,) kWh, for the standard method and a finite V; empty above its V_max.

        E_min + dt d_max / eta_d + V D_h <= theta <= E_max - dt eta_c c_max + V D_l

    Proof. It discharges only where sigma E >= theta - V D_h, and then ends no lower than that less one
    slot's discharge; it charges only where sigma E <= theta - V D_l. The efficiency and leakage are in
    sigma E, so nothing else changes for sigma < 1, except that a battery with E_min > 0 must charge at
    any price where sigma E < E_min: theta >= E_min + V (mu_max / eta_c + kappa).
    """
    v = _like(battery.energy_max, v)
    charge, discharge = slot_energy(battery, slot_hours)
    cost_least, earn_most = stored_value_range(battery, price_min, price_max)
    lowest = battery.energy_min + discharge + v * earn_most
    refill = battery.energy_min + v * value_at_empty(battery, price_min, price_max)
    xp = namespace(lowest, refill)
    lowest = xp.where(_must_refill(battery), xp.maximum(lowest, refill), lowest)
    return lowest, battery.energy_max - charge + v * cost_least


def slot_energy(battery: Battery, slot_hours) -> tuple[Values, Values]:
    """(dt eta_c c_max, dt d_max / eta_d), (N,) kWh: the most that a slot adds to or takes from the cells."""
    hours = _like(battery.energy_max, slot_hours)
    charge = hours * battery.charge_efficiency * battery.charge_max
    return charge, hours * battery.discharge_max / battery.discharge_efficiency


def lyapunov_parameters(
    battery: Battery, price_min, price_max, slot_hours, *, method: str = "exact", v_share: float = 1.0
) -> LyapunovParameters:
    """V = v_share V_max and theta at the upper end of its range, for every battery.

    The upper end keeps lambda >= D_l up to E_max, so with mu_min >= 0 charging and discharging at once
    is never worth it. At v_share = 1 the range is this one point.

    A battery that cannot earn rests: k = 0, lambda = (D_h + D_l) / 2. So does, by definition only, one
    for which the standard method has no V: with k = 0 it trades against that fixed threshold, inside
    the explicit limits, and the certificate says that they bind.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    cost_least, earn_most = stored_value_range(battery, price_min, price_max)
    if method == "exact":
        limit = v_max(battery, price_min, price_max)
    else:
        limit = v_max_standard(battery, price_min, price_max, slot_hours=slot_hours)
    # inf is set aside before the product: its derivative would not be a number
    xp = namespace(limit, v_share)
    v = xp.asarray(v_share, limit.dtype) * xp.where(xp.isfinite(limit), limit, 0.0)
    active = v > 0
    v = xp.where(active, v, 1.0)
    if method == "exact":
        _, theta = theta_range(battery, v, price_min, price_max)
    else:
        _, theta = theta_range_standard(battery, v, price_min, price_max, slot_hours=slot_hours)
    middle = 0.5 * (earn_most + cost_least)
    return LyapunovParameters(
        theta=xp.where(active, theta, battery.energy_max),
        inverse_v=xp.where(active, 1.0 / v, 0.0),
        rest_value=xp.broadcast_to(middle, theta.shape),
        method=method,
    )


def value_at(parameters: LyapunovParameters, energy: Values) -> Values:
    """lambda at the given energy, EUR/kWh: k (theta - E), or the rest value where k = 0."""
    line = parameters.inverse_v * (parameters.theta - energy)
    return namespace(line).where(parameters.inverse_v > 0, line, parameters.rest_value)


def _like(values: Values, number: Any) -> Values:
    return namespace(values, number).asarray(number, values.dtype)


def _must_refill(battery: Battery) -> Values:
    return (battery.retention < 1) & (battery.energy_min > 0)
