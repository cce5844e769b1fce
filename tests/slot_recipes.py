"""Recipes of `nasty_slots`: each turns the plausible values of a slot into values of its kind.

A recipe changes the namespace that `nasty_slots.plausible_slot` fills, in kW, kWh, EUR/kWh and p.u. It must
leave alone who has PV, a battery or elastic load (the plan), for that gives the arrays their shapes.
"""

import numpy as np


def day(s, rng):
    """As drawn."""


def rules(s, rng):
    """Self-consumption by each meter, or by the community's: charge and discharge are fixed."""
    rest = s.pv - s.load if rng.random() < 0.5 else np.full(s.homes, (s.pv - s.load).mean())
    s.forced = np.maximum(rest, 0), np.maximum(-rest, 0)
    s.value, s.slope = 0 * s.value, 0 * s.slope


def solar_park(s, rng):
    """One member has a field of modules, 100 to 500 kW."""
    s.pv[0] = rng.uniform(100, 500)


def elastic(s, rng):
    """Loads that move by up to 40 %: as drawn, some of them dear, some cheap."""
    s.load_cost = np.exp(rng.uniform(np.log(0.01), np.log(1), s.homes))


def lv_feeder(s, rng):
    """A feeder whose limits bind now and then: narrow band, much sun or evening load, weak transformer."""
    s.band = rng.choice([0.95, 0.97]), rng.choice([1.03, 1.05])
    s.slack = rng.uniform(0.99, 1.01)
    # impedance and rating as laid for this number of homes
    s.resistance *= 12 / max(s.homes, 12) * rng.uniform(0.5, 3)
    s.rating = s.homes * rng.uniform(1.5, 5) * np.ones_like(s.rating)
    if rng.random() < 0.3:
        s.load *= 2


def connections(s, rng):
    """Fuses of 3 to 30 kW; a few have no limit on one side."""
    s.buy_max, s.sell_max = rng.uniform(3, 30, s.homes), rng.uniform(3, 30, s.homes)
    s.sell_max[rng.random(s.homes) < 0.1] = np.inf


def zero_export(s, rng):
    """Nobody, or some, may feed in, to the utility that is."""
    s.buy_max = np.full(s.homes, rng.uniform(8, 30))
    s.sell_max = np.where(rng.random(s.homes) < rng.choice([0.5, 1.0]), 0, rng.uniform(3, 10, s.homes))


def trade_limits(s, rng):
    """1 to 5 kW per trade."""
    s.limits = rng.uniform(1, 5, len(s.limits))


def blank(s, rng):
    """Values of few homes with one feature missing: no load, no sun, no storage value."""
    for name in ("load", "pv", "value", "wear", "curtailment"):
        if rng.random() < 0.25:
            setattr(s, name, 0 * getattr(s, name))


def _owners(s, rng):
    """Who has modules and who a battery: everybody, where no feeder counts on the plan."""
    if s.layout.buses or rng.random() < 0.4:
        return s.plan.pv, s.plan.battery
    everybody = np.ones(s.homes, bool)
    return everybody, everybody


def equal(s, rng):
    """Everybody the same load, modules and battery, at the very same state of charge."""
    pv, battery = _owners(s, rng)
    s.pv = np.where(pv, s.pv.max(), 0)
    s.load = np.full(s.homes, s.load[0])
    for name in ("capacity", "power", "floor", "energy", "slope", "value"):
        setattr(s, name, np.where(battery, getattr(s, name)[s.plan.battery][0], 0))
    for name in ("eta_c", "eta_d", "wear"):
        setattr(s, name, np.full(s.homes, getattr(s, name)[0]))
    if rng.random() < 0.3:
        s.eta_c, s.eta_d = np.ones(s.homes), np.ones(s.homes)
    if rng.random() < 0.3:
        s.pv = np.where(pv, s.load, 0)  # everybody with modules covers himself exactly
    if rng.random() < 0.4:
        s.slope = 0 * s.slope


def one_price(s, rng):
    """The utility buys and sells at one price."""
    s.sell = s.buy = rng.choice([s.buy, 0.25, 0.0])
    s.fee = rng.choice([0.0, 0.01])


def free_trades(s, rng):
    """No fee at all: who trades with whom is anybody's guess."""
    s.fee = 0.0
    if rng.random() < 0.3:
        s.sell = s.buy


def nothing(s, rng):
    """No load, and perhaps no sun, no room in the batteries, no price."""
    s.load = 0 * s.load
    if rng.random() < 0.6:
        s.pv = 0 * s.pv
    if rng.random() < 0.6:
        s.power = 0 * s.power
    if rng.random() < 0.3:
        s.buy = s.sell = s.fee = 0.0
    if rng.random() < 0.3:
        s.wear, s.value, s.slope, s.curtailment = 0 * s.wear, 0 * s.value, 0 * s.slope, 0 * s.curtailment


def negative(s, rng):
    """Prices below zero: at the feed-in tariff, or both; values of stored energy too."""
    s.sell = -rng.choice([0.0, rng.uniform(0, 0.5)])
    if rng.random() < 0.5:
        s.buy = rng.choice([0.0, s.sell, rng.uniform(s.sell, 0) if s.sell < 0 else 0.05])
    if rng.random() < 0.5:
        s.value = np.where(s.plan.battery, rng.uniform(-0.6, 0.3, s.homes), 0)
    if rng.random() < 0.3:
        s.eta_c, s.eta_d = rng.uniform(0.6, 1, s.homes), rng.uniform(0.6, 1, s.homes)


def _resize(s, factor):
    for name in ("load", "pv", "capacity", "power", "floor", "energy"):
        setattr(s, name, getattr(s, name) * factor)
    s.slope, s.load_cost = s.slope / factor, s.load_cost / factor


def heavy_tail(s, rng):
    """From a watt to a megawatt within one slot."""
    _resize(s, np.exp(rng.uniform(np.log(1e-3), np.log(1e3), s.homes)))


def giant(s, rng):
    """One member 300 to 5,000 times the others, with everything or with sun, load or storage only."""
    big, one = np.exp(rng.uniform(np.log(300), np.log(5000))), rng.integers(s.homes)
    kind = rng.choice(["all", "pv", "load", "battery"])
    factor = np.ones(s.homes)
    factor[one] = big
    if kind == "all":
        _resize(s, factor)
    elif kind == "battery":
        for name in ("capacity", "power", "floor", "energy"):
            setattr(s, name, getattr(s, name) * factor)
        s.slope = s.slope / factor
    else:
        setattr(s, kind, getattr(s, kind) * factor)


def flat_values(s, rng):
    """Linear storage value: charge and discharge jump, all batteries at one price or each at its own."""
    s.slope = 0 * s.slope
    s.value = np.where(s.plan.battery, rng.uniform(0.02, 0.6, rng.choice([1, s.homes])), 0)


def steep_values(s, rng):
    """Tiny batteries beside large ones: value lines of up to 1e4 EUR/kWh^2."""
    tiny = s.plan.battery & (rng.random(s.homes) < 0.6)
    factor = np.where(tiny, np.exp(rng.uniform(np.log(1e-5), np.log(1e-2), s.homes)), 1)
    for name in ("capacity", "floor", "energy"):
        setattr(s, name, getattr(s, name) * factor)
    if rng.random() < 0.5:
        s.power = s.power * factor
    s.slope = np.minimum(s.slope / factor, 1e4)


def closed(s, rng):
    """The market is closed: every limit is nought, as the baselines without trade have it."""
    s.limits = 0 * np.minimum(s.limits, 1)


def leaking(s, rng):
    """Batteries that leaked below their lower limit and must be charged again, at any price."""
    s.floor = s.capacity * rng.uniform(0.1, 0.6, s.homes)
    below = rng.random(s.homes) < 0.6
    lost = s.floor * np.exp(rng.uniform(np.log(1e-6), np.log(0.5), s.homes))
    s.energy = np.where(below, s.floor - lost, np.maximum(s.energy, s.floor))
    if rng.random() < 0.3:
        s.power = np.where(below, np.minimum(s.power, 0.5 * lost / (s.dt * s.eta_c)), s.power)  # not enough
    if rng.random() < 0.3:
        s.value = np.where(s.plan.battery, rng.uniform(-0.2, 0.6, s.homes), 0)


def tie_at_storage(s, rng):
    """b, s and the value of stored energy are one number, with powers of two so that it is exact."""
    level = rng.choice([0.25, 0.125, 0.3])
    s.buy, s.fee = level, rng.choice([0.0, 2**-6])
    s.sell = rng.choice([level, level / 2])
    s.eta_c = s.eta_d = np.full(s.homes, rng.choice([1.0, 0.5]))
    s.wear, s.slope = 0 * s.wear, 0 * s.slope
    at = rng.choice([s.buy, s.sell, s.sell + s.fee / 2, s.buy - s.fee / 2])
    pv, battery = s.plan.pv, s.plan.battery
    if rng.random() < 0.5:  # and equal homes
        pv, battery = _owners(s, rng)
        s.load, s.pv = np.full(s.homes, 1.0), np.where(pv, rng.choice([1.0, 3.0]), 0)
        s.capacity = np.where(battery, 8.0, 0)
        s.power, s.energy, s.floor = s.capacity / 4, s.capacity / 2, 0 * s.floor
    s.value = np.where(battery, rng.choice([at * s.eta_d[0], at / s.eta_c[0]]), 0)
    s.curtailment = 0 * s.curtailment


def disconnected(s, rng):
    """Some, or nearly all, trades are not allowed; fees and limits of their own for the others."""
    cut = rng.random(len(s.limits)) < rng.choice([0.3, 0.8])
    s.fees = rng.choice([0.0, 0.01, 0.05], len(s.limits))
    s.limits = np.where(cut, 0, s.limits)


def narrow_trades(s, rng):
    """0.1 to 5 kW per trade."""
    s.limits = np.exp(rng.uniform(np.log(0.1), np.log(5), len(s.limits)))
    s.fee = rng.choice([0.0, 0.01, 0.1])


def weak_feeder(s, rng):
    """A few homes behind 0.005 to 0.05 p.u./kW: a kilowatt is half the voltage band."""
    s.resistance = np.full_like(s.resistance, rng.choice([0.05, 0.014, 0.005]))
    s.resistance *= rng.choice([1.0, rng.uniform(0.5, 2)])
    s.band = (0.9, 1.1) if rng.random() < 0.5 else (0.95, 1.05)
    s.load *= rng.choice([1.0, 0.2])
    s.pv *= rng.choice([1.0, 0.3])


def tight_feeder(s, rng):
    """Every limit close to what the homes do."""
    s.tight = np.exp(rng.uniform(np.log(0.02), np.log(0.7)))
    s.resistance *= np.exp(rng.uniform(np.log(0.1), np.log(30)))


def infeasible_feeder(s, rng):
    """More load than the lines can carry, at several buses; or sun that no curtailment may touch."""
    s.resistance *= rng.uniform(3, 30)
    s.load *= rng.uniform(2, 8)
    s.band = 0.97, rng.choice([1.03, 1.0])
    s.rating = rng.uniform(1, 20) * np.ones_like(s.rating)
    s.slack = rng.choice([1.0, 1.02, 0.98])
    if rng.random() < 0.3:  # an upper limit against a lower one further out
        s.slack, s.band = 1.03, (1.02, 1.0299)


def slack_outside(s, rng):
    """The voltage at the slack is itself outside the limits."""
    s.slack, s.band = (1.025, (0.9, 1.01)) if rng.random() < 0.5 else (0.93, (0.95, 1.05))
    s.resistance *= rng.uniform(0.3, 5)


def saturated(s, rng):
    """Penalties at which it pays to break every row: no more than what prices differ by."""
    tight_feeder(s, rng)
    s.row_penalty = rng.choice([0.01, 0.1, 1.0]) * max(abs(s.buy), 0.05)


def unserved(s, rng):
    """Connections smaller than the load, with or without a neighbour who could help."""
    s.buy_max = s.load * rng.uniform(0, 1.2, s.homes)
    s.sell_max = np.where(rng.random(s.homes) < 0.5, s.pv * rng.uniform(0, 1, s.homes), np.inf)
    s.unserved = rng.choice([2.0, 24.0, 0.5])
    if rng.random() < 0.3:
        s.fee = 0.0


def no_connection(s, rng):
    """Some members have no connection to the utility at all, or one that only feeds in."""
    s.buy_max = np.where(rng.random(s.homes) < 0.5, 0, rng.uniform(0.5, 20, s.homes))
    s.sell_max = np.where(rng.random(s.homes) < 0.5, 0, rng.uniform(0.5, 20, s.homes))


def tight_connections(s, rng):
    """Limits just at the load and just at the sun: everybody is at one."""
    s.buy_max = s.load * rng.choice([1.0, 1.001, 0.999], s.homes)
    s.sell_max = np.abs(s.pv - s.load) * rng.choice([1.0, 1.001, 0.5], s.homes)
    s.unserved = rng.choice([None, 1.0])


VALUES = (rules, elastic, blank, equal, one_price, free_trades, nothing, negative, heavy_tail, giant)
VALUES += (flat_values, steep_values, leaking, tie_at_storage, narrow_trades)
FEEDERS = (lv_feeder, tight_feeder, infeasible_feeder, slack_outside, saturated)
CONNECTIONS = (connections, zero_export, unserved, no_connection, tight_connections)


def _some(s, rng, recipes, least, most):
    count = int(rng.integers(least, most + 1))
    for number in sorted(rng.choice(len(recipes), count, replace=False)):
        recipes[number](s, rng)


def medley(s, rng):
    """Two to four kinds of values at once."""
    _some(s, rng, VALUES, 2, 4)
    if s.layout.market == "pool" and not s.layout.capped:
        s.limits[:] = np.inf


def feeder_medley(s, rng):
    """Values of one to three kinds on a feeder of one."""
    _some(s, rng, FEEDERS, 1, 1)
    _some(s, rng, VALUES, 1, 3)
    s.limits[:] = np.inf if s.layout.market == "pool" else s.limits


def connection_medley(s, rng):
    """Values of one to three kinds behind connections of one."""
    _some(s, rng, VALUES, 1, 3)
    _some(s, rng, CONNECTIONS, 1, 1)
    s.limits[:] = np.inf if s.layout.market == "pool" else s.limits


def medley_of_all(s, rng):
    """Values, connections and feeder at once."""
    _some(s, rng, VALUES, 0, 3)
    _some(s, rng, CONNECTIONS, 1, 1)
    _some(s, rng, FEEDERS, 1, 1)
    s.limits[:] = np.inf if s.layout.market == "pool" else s.limits


RECIPES = {
    recipe.__name__: recipe
    for recipe in (*VALUES, *FEEDERS, *CONNECTIONS, day, solar_park, trade_limits, closed, weak_feeder)
}
RECIPES |= {
    recipe.__name__: recipe
    for recipe in (disconnected, medley, feeder_medley, connection_medley, medley_of_all)
}
