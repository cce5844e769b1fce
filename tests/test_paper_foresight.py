"""Perfect foresight and the lower bound of one home in two slots, worked out by hand."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from jaxp2p.hindsight.lower_bound import lower_bound
from jaxp2p.hindsight.perfect_foresight import perfect_foresight
from jaxp2p.model.markets import no_market
from jaxp2p.model.network import Matrices
from jaxp2p.model.types import Battery, Community, Horizon, Network, Prosumers

row = lambda *values: jnp.array(values)


def one_home() -> tuple[Community, Horizon]:
    """1 kW of load, half an hour at 0.10 and one at 0.40 EUR/kWh; 1 kWh of cells with 0.2 kWh in them."""
    battery = Battery(
        energy_min=row(0.0),
        energy_max=row(1.0),
        energy_start=row(0.2),
        charge_max=row(3.0),
        discharge_max=row(2.0),
        charge_efficiency=row(0.8),
        discharge_efficiency=row(0.5),
        retention=row(0.9),
        wear_cost=row(0.01),
    )
    home = Prosumers(
        bus=jnp.array([0]),
        pv_peak=row(0.0),
        curtailment_cost=row(0.0),
        load_flex_share=row(0.0),
        load_flex_cost=row(0.0),
        buy_max=row(jnp.inf),
        sell_max=row(jnp.inf),
        battery=battery,
        elastic=False,
        limited=False,
        ids=("A",),
    )
    grid = Network(
        paths=Matrices(
            resistance=jnp.zeros((1, 1)), reactance=jnp.zeros((1, 1)), downstream=jnp.zeros((0, 1))
        ),
        slack_voltage=jnp.array(1.0),
        voltage_min=row(0.9),
        voltage_max=row(1.1),
        rating=jnp.zeros(0),
        bus_ids=("0",),
    )
    horizon = Horizon(
        slot_hours=jnp.array(0.5),
        load=jnp.ones((2, 1)),
        pv=jnp.zeros((2, 1)),
        price_buy=row(0.10, 0.40),
        price_sell=row(0.02, 0.03),
        voltage_base=jnp.ones((2, 1)),
        flow_base=jnp.zeros((2, 0)),
        flow_reactive=jnp.zeros((2, 0)),
        price_ahead=jnp.zeros((2, 3)),
    )
    market = no_market(1, dtype=np.dtype(float))
    return Community(prosumers=home, market=market, network=grid), horizon


# A kWh in the cells costs 0.10 / 0.8 + 0.01 = 0.135 EUR in the first slot and earns 0.5 * 0.40 - 0.01 = 0.19
# in the second, 0.9 of it: 0.171. So the cells are filled, 0.18 kWh being left of 0.2, and emptied:
#   first slot   0.82 kWh: charge 2.05 kW, buy 3.05 kW, 0.1525 EUR and wear of 0.0082: 0.1607 EUR
#   second slot  0.9 kWh: discharge 0.9 kW, buy 0.1 kW, 0.02 EUR and wear of 0.009: 0.029 EUR
# At the end 0.2 kWh are missing, which are worth 0.05 EUR/kWh.
def test_perfect_foresight():
    found = perfect_foresight(*one_home(), terminal_price=0.05, row_penalty=8.0)
    assert found.cost_eur == pytest.approx(0.1897, abs=1e-6)
    assert found.terminal_eur == pytest.approx(0.01, abs=1e-6)
    assert (found.unserved_eur, found.penalty_eur) == (0, 0)
    assert found.objective_eur == pytest.approx(0.1997, abs=1e-6)
    assert found.dual_objective_eur == pytest.approx(0.1997, abs=1e-6)
    np.testing.assert_allclose(found.storage_duals, [[0.135], [0.19]], atol=1e-5)
    expected = {
        "load": [1, 1],
        "pv_used": [0, 0],
        "charge": [2.05, 0],
        "discharge": [0, 0.9],
        "energy": [1, 0],
        "injection": [-3.05, -0.1],
        "trade": [0, 0],
        "buy": [3.05, 0.1],
        "sell": [0, 0],
        "cost": [0.1607, 0.029],
        "payment": [0, 0],
        "market_price": [0.10, 0.40],
        "nodal_price": [0.10, 0.40],
        "unserved": [0, 0],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(getattr(found.trajectory, name)[:, 0], values, atol=2e-6, err_msg=name)


def test_energy_that_is_dear_at_the_end_is_kept():
    """At 0.30 EUR/kWh in the place of 0.19: filled at 0.1607 EUR, 0.9 kWh are left, and 0.20 for the load."""
    found = perfect_foresight(*one_home(), terminal_price=0.30, row_penalty=8.0)
    np.testing.assert_allclose(found.trajectory.energy[:, 0], [1, 0.9], atol=1e-6)
    assert found.cost_eur == pytest.approx(0.3607, abs=1e-6)
    assert found.terminal_eur == pytest.approx(-0.21, abs=1e-6)  # 0.7 kWh gained


# With the multipliers m = (0.135, 0.19) nothing is gained by charging or discharging in either slot, so they
# are worth 0.05 and 0.2; min over E of (0.135 - 0.9 * 0.19) E is -0.036, of (0.19 - 0.05) E it is 0, and
# (0.05 - 0.9 * 0.135) 0.2 = -0.0143: 0.1997, what perfect foresight costs.
# With m = (0.2, 0.2) charging gains 0.8 * 0.2 - 0.108 = 0.052 a kWh in the first slot, at 3 kW 0.078 EUR;
# discharging gains 0.38 - 0.4 < 0 in the second: 0.05 - 0.078 + 0.2, and min of (0.2 - 0.18) E = 0, min of
# 0.15 E = 0 and (0.05 - 0.18) 0.2 = -0.026: 0.146.
@pytest.mark.parametrize(
    ("m", "slots", "storage"),
    [((0.135, 0.19), (0.05, 0.2), -0.0503), ((0.2, 0.2), (-0.028, 0.2), -0.026)],
)
def test_the_lower_bound(m, slots, storage):
    community, horizon = one_home()
    found = lower_bound(community, horizon, storage_value=jnp.array(m)[:, None], terminal_price=0.05)
    np.testing.assert_allclose(found.slot_eur, slots, atol=1e-9)
    assert float(found.storage_eur) == pytest.approx(storage, abs=1e-9)
    assert float(found.value_eur) == pytest.approx(sum(slots) + storage, abs=1e-9)


def test_the_lower_bound_counts_what_a_battery_without_power_loses():
    """0.2 kWh decay to 0.162: at 0.05 EUR/kWh that is 0.0019 EUR, on top of 0.25 EUR for the load."""
    community, horizon = one_home()
    homes = community.prosumers
    dead = dataclasses.replace(homes.battery, charge_max=row(0.0), discharge_max=row(0.0))
    community = dataclasses.replace(community, prosumers=dataclasses.replace(homes, battery=dead))
    found = lower_bound(community, horizon, storage_value=jnp.zeros((2, 1)), terminal_price=0.05)
    assert float(found.value_eur) == pytest.approx(0.2519, abs=1e-9)
