"""A tuned controller by hand: what it sees, and what it says a stored kWh is worth."""

from dataclasses import replace
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import paper_village as paper
import pytest

from jaxp2p.control.tuned import (
    FEATURES,
    Memory,
    TunedValue,
    features,
    observe,
    raw_features,
    time_basis,
    value_line,
)
from jaxp2p.simulation import forward as simulation
from jaxp2p.tuning import objective

row = lambda *values: jnp.array(values, float)
COUNT = len(FEATURES)
MEMORY = Memory(means=row(0.25, 7, 3.5), now=row(0.30, 8, 2), ahead=row(0.01, 0.02, 0.03))
SLOTS = 4  # a day


def close(found, expected):
    np.testing.assert_allclose(np.asarray(found, float), expected, rtol=1e-9, atol=1e-12)


def tuned(**changes) -> TunedValue:
    """Four slots a day, two knots, one piece; b is 1, and a is 0."""
    plain = TunedValue(
        level=jnp.zeros((1, 1, COUNT, 2)),
        drop=jnp.full((1, 1, 1, 2), 0.541324854612918),  # ln(e - 1), of which softplus is 1
        price_low=row(0.10),
        price_high=row(0.40),
        mean=jnp.zeros((1, COUNT)),
        deviation=jnp.ones((1, COUNT)),
        begins=jnp.array([0]),
        group=jnp.array([0, 0, 0]),
        start=row(0.25, 7, 3.5),
        hours=jnp.array(0.36067376022224085),  # 0.25 / ln 2: half is forgotten in a quarter hour
        slots_per_day=SLOTS,
    )
    return replace(plain, **changes)


@pytest.mark.parametrize(
    ("slot", "weekend"), [(0, 0), (5 * SLOTS - 1, 0), (5 * SLOTS, 1), (7 * SLOTS - 1, 1), (7 * SLOTS, 0)]
)
def test_what_it_sees(slot, weekend):
    """Slots count from midnight of a Monday; price, load and PV now, then the means of load, PV and price."""
    found = raw_features(tuned(), MEMORY, jnp.array(slot))
    close(found, [1, weekend, 0.30, 8, 2, 7, 3.5, 0.25, 0.01, 0.02, 0.03])
    scaled = tuned(mean=jnp.full((1, COUNT), 0.5), deviation=jnp.full((1, COUNT), 4.0))
    close(features(scaled, MEMORY, jnp.array(slot))[2:5], [-0.05, 1.875, 0.375])


def test_what_it_remembers():
    """0.30 EUR/kWh, loads of 1, 2 and 5 kW, PV of 2: half of that and half of the means before."""
    before = Memory(row(0.25, 7, 3.5), row(0, 0, 0), row(0, 0, 0))
    seen = jnp.array(0.25), jnp.array(0.30), row(1, 2, 5), row(0, 2, 0), row(0.01, 0.02, 0.03)
    after = observe(tuned(), before, *seen)
    close(after.means, [0.275, 7.5, 2.75])
    close(after.now, [0.30, 8, 2])
    close(after.ahead, [0.01, 0.02, 0.03])


def test_the_time_of_day():
    expected = [[1, 0], [0.5, 0.5], [0, 1], [0.5, 0.5], [1, 0]]
    close([time_basis(tuned(), jnp.array(slot)) for slot in range(5)], expected)


@pytest.mark.parametrize(("weight", "slot", "value"), [(0, 0, 0.152), (0.2, 0, 0.159), (0.2, 1, 0.1555)])
def test_what_a_stored_kwh_is_worth(weight, slot, value):
    """A: a kWh costs 0.10 / 0.8 + 0.02 = 0.145 and earns 0.5 * 0.40 - 0.02 = 0.18 EUR: 0.1625 +- 0.0175.

    At 8.2 kWh it is four fifths full: 0.3 beyond the middle, 0.1625 - 0.035 * 0.3; the slope is 0.035 over
    9 kWh. A weight of 0.2 on the first feature at the first knot adds 0.035 * 0.2, and half a slot later.
    """
    level = jnp.zeros((1, 1, COUNT, 2)).at[0, 0, 0, 0].set(weight)
    worth, slope = value_line(
        tuned(level=level), MEMORY, paper.community().prosumers, row(8.2, 2, 0), jnp.array(slot)
    )
    close(worth[0], value)
    close(slope[0], 0.035 / 9)


@pytest.mark.parametrize(("per_day", "peak", "cycles"), [(4, 9.7, 0.08), (2, 5.0, 0.04)])
def test_what_a_window_came_to(monkeypatch, per_day, peak, cycles):
    """1.22 EUR, and 2.2959 kWh less in the batteries at 0.2. The exchange is 0.3, -3.14, 9.7, 4.265 kW.

    A charges 3.6 kW in all, 0.25 * 0.8 of it in kWh, in 9 kWh of room.
    """
    done = paper.trajectory()
    ended = SimpleNamespace(energy=jnp.asarray(done.energy[-1]))
    monkeypatch.setattr(simulation, "simulate", lambda *given, **wanted: (ended, done))
    given = paper.community(), paper.horizon(), jnp.array(0), 0.2
    found = objective.course(*given, tuned(slots_per_day=per_day), adjoint=None)
    close(found.cost, 1.67918)
    close(found.peak, peak)
    close(found.cycles, [cycles, 0, 0])
