"""The storage theorem as users run it: real slots, default tolerances, both solvers, both dtypes.

`test_theory` tries the theorem with exact answers to a price. Here a community of mixed batteries, loads and
PV is cleared slot after slot by the solvers as they are, at V_max, with the walls taken away: what a battery
may charge or discharge does not depend on the energy at hand, and nothing has to be refilled. An adversary
sets the tariffs. One battery is a ten-thousandth of the others. None may end a slot outside its limits by
more than 1e-6 of its room.
"""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_theory import HOURS, KINDS, mixed_batteries

from jaxp2p.control.bounds import lyapunov_parameters
from jaxp2p.control.certificate import certificate
from jaxp2p.control.policy import Penalties, Slot, lyapunov, slot_problem
from jaxp2p.model.markets import market_from_edges, no_market, pool_market, regular_graph
from jaxp2p.model.types import Community, Prosumers
from jaxp2p.slot import execute, solvers
from jaxp2p.slot.admm.method import ADMM
from jaxp2p.slot.newton.method import Newton

pytestmark = pytest.mark.slow

LOW, HIGH = 0.05, 0.45  # EUR/kWh, all tariffs lie between
HOMES, SLOTS = 16, 600
OUTSIDE = 1e-6  # of the room
TINY = 1e-4  # size of the first battery beside the others

CASES = [
    (solver, market, dtype)
    for solver, market in (("newton", "pool"), ("newton", "none"), ("admm", "pool"), ("admm", "bilateral"))
    for dtype in ("float32", "float64")
]


def community(kind: str, market: str, dtype) -> Community:
    """Homes with batteries of all kinds on a market of their own, no network."""
    battery = mixed_batteries(kind, HOMES, seed=11)
    sized = ("energy_min", "energy_max", "energy_start", "charge_max", "discharge_max")
    tiny = jnp.where(jnp.arange(HOMES) == 0, TINY, 1.0)
    battery = replace(battery, **{name: getattr(battery, name) * tiny for name in sized})
    battery = jax.tree.map(lambda x: x.astype(dtype), battery)
    zeros, free = jnp.zeros(HOMES, dtype), jnp.full(HOMES, jnp.inf, dtype)
    edges = regular_graph(HOMES, 4, seed=3)
    made = {
        "pool": lambda: pool_market(HOMES, fee=0.01, dtype=dtype),
        "none": lambda: no_market(HOMES, dtype=dtype),
        "bilateral": lambda: market_from_edges(
            edges, np.full(len(edges), 0.01), np.full(len(edges), 1e6), size=HOMES, dtype=dtype
        ),
    }
    return Community(
        prosumers=Prosumers(
            bus=jnp.zeros(HOMES, jnp.int32),
            pv_peak=zeros + 1,
            curtailment_cost=zeros,
            load_flex_share=zeros,
            load_flex_cost=zeros,
            buy_max=free,
            sell_max=free,
            battery=battery,
            elastic=False,
            limited=False,
        ),
        market=made[market](),
        network=None,
    )


def adversary(dtype, seed: int) -> Slot:
    """Slots in which tariffs drive every battery to one limit, then to the other, or spread wide.

    For some twenty slots one extreme prevails (at b = s nobody has a say, at b > s trades set the price);
    between, random tariffs park the batteries anywhere.
    """
    draw = np.random.default_rng(seed)
    up = np.repeat(draw.random(SLOTS // 20 + 1) < 0.5, 20)[:SLOTS]
    extreme = np.where(up, LOW, HIGH)
    other = draw.uniform(LOW, HIGH, (2, SLOTS))
    kind = draw.random(SLOTS)
    buy = np.select([kind < 0.5, kind < 0.7], [extreme, HIGH], other.max(0))
    sell = np.select([kind < 0.5, kind < 0.7], [extreme, LOW], other.min(0))
    array = lambda x: jnp.asarray(x, dtype)
    sun = draw.random(SLOTS) * (draw.random(SLOTS) < 0.5)
    return Slot(
        slot_hours=array(np.full(SLOTS, HOURS)),
        load=array(draw.gamma(1.5, 0.6, (SLOTS, HOMES))),
        pv=array(sun[:, None] * draw.uniform(0, 8, (SLOTS, HOMES)) * (np.arange(HOMES) % 2)),
        price_buy=array(buy).clip(array(LOW), array(HIGH)),
        price_sell=array(sell).clip(array(LOW), array(HIGH)),
        voltage_base=array(np.ones((SLOTS, 1))),
        flow_base=array(np.zeros((SLOTS, 0))),
        flow_reactive=array(np.zeros((SLOTS, 0))),
        price_ahead=array(np.zeros((SLOTS, 3))),
    )


@cache
def farthest_out(kind: str, solver: str, market: str, dtype: str) -> dict[str, np.ndarray]:
    """(N,) shares of the room: the largest excursion below E_min and above E_max, and the room covered."""
    dtype = jnp.dtype(dtype)
    homes = community(kind, market, dtype)
    battery = homes.prosumers.battery
    parameters = lyapunov_parameters(battery, LOW, HIGH, HOURS)
    assert (np.asarray(parameters.inverse_v) > 0).all()
    policy, penalties = lyapunov(parameters), Penalties(jnp.asarray(9.0, dtype), jnp.asarray(18.0, dtype))
    method = Newton() if solver == "newton" else ADMM()
    wide = lambda x: x.astype(jnp.float64)
    low, high = wide(battery.energy_min), wide(battery.energy_max)

    def problem_of(slot, energy):
        walled = slot_problem(homes, penalties, policy, slot, energy, jnp.zeros((), jnp.int32))
        free = {"charge_max": battery.charge_max, "discharge_max": battery.discharge_max}
        return replace(walled, charge_min=jnp.zeros_like(walled.charge_min), **free)

    def step(carry, slot):
        energy, state = carry
        problem = problem_of(slot, energy)
        found = solvers.solve(problem, method, solvers.warm(problem, method, state))
        d = execute.finish(problem, found.answer).dispatch
        # in float64, so that what is measured is the solver
        moved = wide(d.charge) * wide(battery.charge_efficiency)
        moved = moved - wide(d.discharge) / wide(battery.discharge_efficiency)
        # the problem counts from this: sigma E as the dtype has it
        end = wide(battery.retention * energy) + HOURS * moved
        return (jnp.clip(end, low, high).astype(dtype), found.state), end

    slots = adversary(dtype, seed=7)
    first = problem_of(jax.tree.map(lambda x: x[0], slots), battery.energy_start)
    start = battery.energy_start, solvers.init(first, method)
    ends = np.asarray(jax.jit(lambda start, slots: jax.lax.scan(step, start, slots)[1])(start, slots))
    room = np.asarray(high - low)
    return {
        "below": ((np.asarray(low) - ends) / room).max(0),
        "above": ((ends - np.asarray(high)) / room).max(0),
        "covered": (ends.max(0) - ends.min(0)) / room,
        "tiny_room": room[0] / room[1:].mean(),
    }


@pytest.mark.parametrize(("solver", "market", "dtype"), CASES)
@pytest.mark.parametrize("kind", KINDS)
def test_no_battery_ends_outside_its_limits_by_more_than_a_millionth_of_its_room(kind, solver, market, dtype):
    out = farthest_out(kind, solver, market, dtype)
    assert out["below"].max() < OUTSIDE, (int(out["below"].argmax()), out["below"])
    assert out["above"].max() < OUTSIDE, (int(out["above"].argmax()), out["above"])


@pytest.mark.parametrize("solver", ["newton", "admm"])
def test_the_adversary_brings_batteries_to_both_limits(solver):
    """So the theorem is put to the test: nearly all of the room of most batteries is used."""
    out = farthest_out("lossless_retention", solver, "pool", "float64")
    assert np.sum(out["below"] > -0.01) >= 8
    assert np.sum(out["above"] > -0.01) >= 8
    assert np.median(out["covered"]) > 0.97
    assert out["tiny_room"] < 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_the_certificate_says_so(kind):
    battery = community(kind, "none", jnp.float64).prosumers.battery
    parameters = lyapunov_parameters(battery, LOW, HIGH, HOURS)
    proof = certificate(battery, parameters, LOW, HIGH, slot_hours=HOURS, slots=1)
    assert proof.limits_never_bind.all()
