"""What a policy asks of a slot, by hand."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import paper_village as paper
from paper_slot import close, row

from jaxp2p.control.policy import (
    BATTERIES,
    BY_VALUE,
    Penalties,
    Policy,
    Slot,
    slot_problem,
)
from jaxp2p.slot.problem import SlotProblem

POLICY = Policy(
    storage=jnp.array(1.0),
    trade=jnp.array(1.0),
    rule=jnp.array(BY_VALUE),
    theta=jnp.array([[9.0, 4, 0], [12, 3, 0]]),
    inverse_v=row(0.1, 0, 0),
    rest_value=row(0.5, 0.17, 0),
    exact=jnp.array(1.0),
)
SLOT = Slot(
    slot_hours=jnp.array(0.25),
    load=row(1, 2, 0.7),
    pv=row(6, 0.5, 0),
    price_buy=jnp.array(0.30),
    price_sell=jnp.array(0.05),
    voltage_base=row(1, 1.0404, 0.9604),
    flow_base=row(3, -1),
    flow_reactive=row(6, 3),
    price_ahead=row(0, 0, 0),
)


pose = jax.jit(slot_problem, compiler_options={"xla_backend_optimization_level": 0})


def posed(policy=POLICY, energy=(9, 1.75, 0), slot_of_week=3) -> SlotProblem:
    penalties = Penalties(row=jnp.array(5.0), unserved=jnp.array(10.0))
    return pose(paper.community(), penalties, policy, SLOT, row(*energy), jnp.array(slot_of_week))


def test_every_field_of_the_slot_that_a_policy_asks_for():
    """A: 9 kWh, of which 8.1 are left; 1.9 kWh fit in at 9.5 kW, 7.1 kWh above the floor give 14.2 kW.

    B: 0.15 kWh above the floor give 0.15 * 0.8 / 0.25 = 0.48 kW. A stored kWh is worth 0.1 (12 - 8.1) to A,
    in every second slot; B's does not depend on the energy.
    """
    found = posed()
    expected = {
        "slot_hours": 0.25,
        "price_buy": 0.30,
        "price_sell": 0.05,
        "load": [1, 2, 0.7],
        "load_min": [1, 2, 0.7],
        "load_max": [1, 2, 0.7],
        "pv_max": [6, 0.5, 0],
        "curtailment_cost": [0.01, 0.015, 0],
        "charge_min": [0, 0, 0],
        "charge_max": [3, 0.9, 0],
        "discharge_min": [0, 0, 0],
        "discharge_max": [3.5, 0.48, 0],
        "charge_efficiency": [0.8, 0.9, 1],
        "discharge_efficiency": [0.5, 0.8, 1],
        "wear_cost": [0.02, 0.03, 0],
        "value": [0.39, 0.17, 0],
        "value_slope": [0.1, 0, 0],
        "buy_max": [np.inf, 6, np.inf],
        "sell_max": [4, np.inf, np.inf],
        "unserved_price": 10,
        # less the slack's voltage: n1 (1.0404 - 1) / 0.0025, n2 (0.9604 - 1) / 0.005; T, L in kW
        "row_offset": [16.16, -7.92, 3, -1],
        # (0.95^2 - 1) / 0.0025, (0.94^2 - 1) / 0.005, sqrt(100 - 36), sqrt(25 - 9)
        "row_lower": [-39, -23.28, -8, -4],
        "row_upper": [41, 24.72, 8, 4],
        "row_penalty": 5,
    }
    assert set(expected) | {"load_cost", "vehicles", "coupling", "loss_price"} == set(found.__dict__)
    assert found.load_cost is None and found.vehicles is None and found.loss_price is None
    for name, values in expected.items():
        np.testing.assert_allclose(getattr(found, name), values, rtol=1e-9, atol=1e-9, err_msg=name)
    assert np.isinf(found.market.limit).all()


def test_room_and_stock_and_what_must_be_refilled():
    """A at 10.9 kWh keeps 9.81: 0.19 kWh fit in, at 0.19 / 0.2 kW. At 1.05 kWh it keeps 0.945: 0.055 lack."""
    close(posed(energy=(10.9, 2, 0)).charge_max, [0.95, 0.9, 0])
    found = posed(energy=(1.05, 2, 0))
    close(found.charge_min, [0.275, 0, 0])
    close(found.discharge_max, [0, 1.1, 0])
    resting = posed(replace(POLICY, storage=jnp.array(0.0)), energy=(1.05, 2, 0))
    close(resting.charge_max, [0.275, 0, 0])
    close(resting.discharge_max, [0, 0, 0])


def test_rules_and_closed_markets():
    """A has 5 kW too much and may store 3; B lacks 1.5 kW and has 0.48. Together there are 2.8 kW too much.

    They are shared by power: 2.8 * 3 / 3.9 and 2.8 * 0.9 / 3.9.
    """
    change = lambda **new: POLICY.__class__(
        **{**POLICY.__dict__, **{k: jnp.array(v) for k, v in new.items()}}
    )
    own = posed(change(rule=BATTERIES["own_meter"][0]))
    for name in ("charge_min", "charge_max"):
        close(getattr(own, name), [3, 0, 0])
    for name in ("discharge_min", "discharge_max"):
        close(getattr(own, name), [0, 0.48, 0])
    together = posed(change(rule=BATTERIES["community_meter"][0]))
    for name in ("charge_min", "charge_max"):
        close(getattr(together, name), [2.153846153846154, 0.6461538461538462, 0])
    for name in ("discharge_min", "discharge_max"):
        close(getattr(together, name), [0, 0, 0])
    close(posed(change(trade=0.0)).market.limit, [[0, 0, 0]])
    close(posed(change(exact=0.0)).value_slope, [0, 0, 0])
    close(posed(change(exact=0.0)).value, [0.39, 0.17, 0])
    close(posed(slot_of_week=4).value, [0.09, 0.17, 0])


def test_row_limits():
    network, feeder = paper.community().network, paper.community().feeder
    offset, lower, upper = feeder.limits(network, SLOT.grid_base)
    close(offset, [16.16, -7.92, 3, -1])
    close(lower, [-39, -23.28, -8, -4])
    close(upper, [41, 24.72, 8, 4])
