"""The law of every device, stated once: by hand, the same in NumPy and JAX, and its own inverse."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import paper_village as paper
import pytest
from paper_slot import DISPATCH, close, problem, row

from jaxp2p.model.devices import ROWS, Battery, Fleet, Load, Storage
from jaxp2p.model.devices.arrays import namespace
from jaxp2p.model.utility import beyond_cost, exchange_cost
from jaxp2p.scenarios.parse import _device_faults
from jaxp2p.slot import execute
from jaxp2p.slot.problem import STORAGE
from jaxp2p.tuning.windows import group_members


def batteries(**changes) -> Battery:
    """One that charges and discharges, one that discharges only, none at all."""
    given = {
        "energy_min": row(1, 0, 0),
        "energy_max": row(5, 2, 0),
        "energy_start": row(2, 1, 0),
        "charge_max": row(2, 0, 0),
        "discharge_max": row(2, 1, 0),
        "charge_efficiency": row(0.8, 0.9, 1),
        "discharge_efficiency": row(0.5, 0.8, 1),
        "retention": row(0.9, 1, 1),
        "wear_cost": row(0.02, 0.04, 0),
    }
    return Battery(**(given | changes))


def test_who_can_only_charge_or_only_discharge_has_a_battery():
    one_way = batteries(charge_max=row(0, 1, 0), discharge_max=row(1, 0, 0))
    assert one_way.owned.tolist() == batteries().owned.tolist() == [True, True, False]


def test_a_slot_of_a_battery_by_hand():
    """0.9 * 2 + 0.5 h (0.8 * 1 - 0.5 / 0.5), 1 - 0.5 h * 0.4 / 0.8; wear of 1.8 and 0.5 kW."""
    mine, powers = batteries(), (row(1, 0, 0), row(0.5, 0.4, 0))
    close(mine.next_energy(mine.energy_start, *powers, hours=0.5), [1.7, 0.75, 0])
    close(mine.wear(*powers), [0.02 * 1.8, 0.04 * 0.5, 0])
    close(mine.both(*powers), [0.8, 0, 0])


def test_what_the_energy_at_hand_allows_by_hand():
    """0.9 kWh are left of 1: 0.1 kWh must be charged again, 0.25 kW; 4.1 kWh of room are 10.25 kW."""
    limits = batteries().limits(row(1, 1, 0), hours=0.5)
    close(limits.charge_min, [0.25, 0, 0])
    close(limits.charge_max, [2, 0, 0])
    close(limits.discharge_max, [0, 1, 0])


def test_powers_lead_to_the_energy_that_they_are_asked_for_as_far_as_they_reach():
    mine, start, aim = batteries(), row(3, 2, 0), row(3.1, 1.9, 0)
    powers = mine.powers(start, aim, hours=0.5)
    close(mine.next_energy(start, *powers, hours=0.5), aim)
    close(jnp.minimum(*powers), [0, 0, 0])
    overlap = row(0.2, 0, 0)
    powers = mine.powers(start, aim, hours=0.5, overlap=overlap)
    close(mine.both(*powers), overlap)
    close(mine.next_energy(start, *powers, hours=0.5), aim)
    close(mine.powers(start, row(9, 0, 0), hours=0.5), [[2, 0, 0], [0, 1, 0]])


def test_rounding_is_taken_off_but_not_what_leaked_before():
    mine = batteries(retention=row(0.9, 1, 0.5))
    after = row(5 + 1e-9, -1e-9, 0.25)
    close(mine.held(after, row(5, 0, 0.5)), [5, 0, 0.25])
    close(mine.held(row(0.9, 0, 0), row(1, 0, 0)), [0.9, 0, 0])


def test_an_absent_battery_breaks_no_limit():
    energy = row(0.5, 2.5, -3)
    close(batteries().outside(energy), [0.5, 0.5, 3])
    close(batteries().beyond(energy), [0.5, 0.5, 0])


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_numpy_and_jax_follow_one_law(kind):
    on_host = jax.tree.map(lambda x: np.asarray(x, kind), batteries())
    on_device = jax.tree.map(jnp.asarray, on_host)

    def course(battery, energy, charge, discharge):
        after = battery.held(battery.next_energy(energy, charge, discharge, hours=0.25), energy)
        limits = battery.limits(energy, hours=0.25)
        return after, battery.wear(charge, discharge), battery.beyond(after), *limits

    given = [np.asarray(x, kind) for x in ([2, 1, 0], [1, 0, 0], [0.5, 0.4, 0])]
    one, other = course(on_host, *given), course(on_device, *(jnp.asarray(x) for x in given))
    for mine, theirs in zip(one, other, strict=True):
        assert isinstance(mine, np.ndarray) and isinstance(theirs, jax.Array)
        assert mine.dtype == theirs.dtype == kind
        np.testing.assert_array_equal(mine, theirs)


def test_arrays_of_both_kinds_are_jax_arrays():
    assert namespace(np.ones(2), 1.0) is np
    assert namespace(np.ones(2), jnp.ones(2)) is jnp


def test_every_row_of_the_ramps_has_one_device():
    posed = problem()
    seats = Storage(
        hours=posed.slot_hours, **{name: jnp.stack([getattr(posed, name)] * 2) for name in STORAGE}
    )
    driving = replace(posed, vehicles=Fleet(storage=seats, returns=True))
    offered = {(n, ramp) for n, d in driving.devices.there.items() for ramp in d.offer()}
    assert offered == set(ROWS) and len(ROWS) == len(set(ROWS))
    for name, device in driving.devices.there.items():
        assert set(device.ramp_names) == set(device.offer()), name
    assert len(posed.pieces().gain) == 5 and len(driving.pieces().gain) == 5 + 3 * 2
    only_charging = replace(driving, vehicles=Fleet(storage=seats, returns=False))
    assert len(only_charging.pieces().gain) == 5 + 2
    fixed = replace(posed, load_cost=None)
    assert fixed.devices.load.ramp_names == () and fixed.devices.load.offer() == {}
    assert len(fixed.pieces().gain) == 4


def test_what_devices_do_and_what_they_use_are_inverse():
    posed = problem()
    pieces = posed.pieces()
    shares = jnp.array([[0, 0, 0], [0, 0.4, 0], [1, 0.3, 0], [1, 1, 0], [0.5, 0.25, 0]])
    done = execute.devices_of(posed, shares, pieces)
    close(done.discharge, [0, 1.0, 0])
    close(done.charge, [0, 0.1, 0])
    close(done.load, [1, 2.5, 0.7])
    used = execute.shares_of(posed, SimpleNamespace(**done._asdict()), pieces)
    close(used[:, :2], shares[:, :2])
    close(done.injection[:2], (posed.base + jnp.sum(shares * pieces.gain, axis=0))[:2])


def test_the_costs_of_the_devices_by_hand():
    """Wear of 0.4 and 0.5 kW, 1.5 and 0.7 kW curtailed, loads moved by 0.1 and 0.4 kW."""
    wear, curtailed, moved = problem().devices.cost(DISPATCH)
    close(wear, [0.008, 0.02, 0])
    close(curtailed, [0.015, 0.021, 0])
    close(moved, [0.004, 0.096, 0])


def test_a_load_moves_at_the_price_that_its_discomfort_asks():
    load = Load(reference=row(1, 2), least=row(0.5, 1), most=row(1.5, 3), discomfort_cost=row(0.4, 0.6))
    close(load.price_at(load.reference), [0, 0])
    close(load.price_at(row(0.75, 2.5)), [0.2, -0.6])


def test_prices_and_values_of_a_battery_are_inverse():
    """A kWh worth 0.2 in the cells: charge below 0.8 * 0.18, discharge above 0.22 / 0.5 EUR/kWh."""
    mine = batteries()
    close(mine.charge_price(0.2)[:2], [0.144, 0.144])
    close(mine.discharge_price(0.2)[:2], [0.44, 0.3])
    close(mine.charge_value(mine.charge_price(row(0.2, 0.1, 0))), [0.2, 0.1, 0])
    close(mine.discharge_value(mine.discharge_price(row(0.2, 0.1, 0))), [0.2, 0.1, 0])


def test_what_devices_earn_at_best_is_what_no_power_beats():
    """At these nodal prices, of a thousand powers each; a stored kWh is worth 0.2 EUR."""
    mine, posed, worth = batteries().float64(), jax.tree.map(np.asarray, problem().devices), 0.2
    for price in (-0.3, 0.05, 0.2, 0.6):
        share = np.linspace(0, 1, 1001)[:, None]
        charge, discharge = share * mine.charge_max, share * mine.discharge_max
        power = lambda c, d, price=price: price * (d - c) - mine.wear(c, d) + worth * mine.moved(c, d)
        close(mine.earned(worth, price), power(charge, 0).max(0) + power(0, discharge).max(0))
        used = share * posed.pv.available
        earned = price * used - posed.pv.curtailment(posed.pv.available - used)
        close(posed.pv.earned(price), earned.max(0))
        load = posed.load.least + share * (posed.load.most - posed.load.least)
        earned = -price * load - posed.load.discomfort(load - posed.load.reference)
        np.testing.assert_allclose(posed.load.earned(price), earned.max(0), atol=1e-5)
        inside = posed.load.at_price(price)
        free = (inside > posed.load.least) & (inside < posed.load.most)
        close(np.where(free, posed.load.price_at(inside), price), [price] * 3)


def test_what_the_utility_counts_by_hand():
    assert exchange_cost(0.3, 0.1, 2.0, 1.0) == pytest.approx(0.5)
    assert beyond_cost(0.3, 0.1, 10.0, 0.2, 0.5) == pytest.approx(2.06 + 4.95)


def test_the_village_has_its_batteries():
    battery = paper.community().prosumers.battery
    host = battery.float64()
    assert isinstance(host.charge_max, np.ndarray) and host.charge_max.dtype == np.float64
    np.testing.assert_array_equal(host.of(host.owned).owned, True)
    assert not host.without_power().owned.any()


def test_a_battery_that_only_discharges_counts_wherever_batteries_are_counted():
    community = paper.community()
    homes = community.prosumers
    battery = replace(homes.battery, charge_max=0 * homes.battery.charge_max)
    assert np.any(battery.discharge_max > 0)
    community = replace(community, prosumers=replace(homes, battery=battery))
    assert not battery_faults(community)
    groups = group_members(community, "home")
    assert len(set(groups[np.asarray(battery.owned)])) == int(battery.owned.sum())
    nobody = replace(community, prosumers=replace(homes, battery=battery.without_power()))
    assert battery_faults(nobody) and not np.any(group_members(nobody, "home") > 0)


def battery_faults(community) -> list[str]:
    return _device_faults({"pv": 1.0, "battery": 0.5}, community)
