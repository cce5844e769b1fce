"""One slot of three homes, a dispatch of it and a verdict on it, small enough for pencil and paper."""

import jax.numpy as jnp
import numpy as np

from jaxp2p.model.markets import Pool
from jaxp2p.model.types import Feeder
from jaxp2p.slot import execute
from jaxp2p.slot.gap import Gap
from jaxp2p.slot.problem import Coupling, SlotProblem

row = lambda *values: jnp.array(values, float)


def problem() -> SlotProblem:
    """A, B and C for a quarter hour at 0.30 and 0.05 EUR/kWh."""
    market = Pool(
        partner=jnp.zeros((0, 3), jnp.int32),
        reverse=jnp.zeros((0, 3), jnp.int32),
        fee=jnp.full((1, 3), 0.02),
        limit=jnp.full((1, 3), jnp.inf),
        limited=False,
    )
    feeder = Feeder(
        group=jnp.array([0, 1, 0]),
        flexible=row(1, 1, 0),
        count=row(1, 1),
        matrix=jnp.array([[0.5, 1], [1, 1]]),
        scale=row(0.005, 1),
        voltage_bus=jnp.array([2]),
        flow_branch=jnp.array([0]),
    )
    return SlotProblem(
        slot_hours=jnp.array(0.25),
        price_buy=jnp.array(0.30),
        price_sell=jnp.array(0.05),
        load=row(1, 2, 0.7),
        load_min=row(0.5, 1, 0.7),
        load_max=row(1.5, 3, 0.7),
        load_cost=row(0.4, 0.6, 0),
        pv_max=row(6, 1, 0),
        curtailment_cost=row(0.01, 0.03, 0),
        charge_min=row(0, 0.1, 0),
        charge_max=row(3, 1.5, 0),
        discharge_min=row(0, 0, 0),
        discharge_max=row(2, 2.5, 0),
        charge_efficiency=row(0.8, 0.9, 1),
        discharge_efficiency=row(0.5, 0.8, 1),
        wear_cost=row(0.02, 0.04, 0),
        value=row(0.2, 0.1, 0),
        value_slope=row(0.1, 0.16, 0),
        buy_max=row(jnp.inf, 0.9, jnp.inf),
        sell_max=row(1.2, jnp.inf, jnp.inf),
        unserved_price=jnp.array(10.0),
        coupling=Coupling(market=market, feeder=feeder),
        row_offset=row(0.2, -0.3),
        row_lower=row(-4, -3),
        row_upper=row(0.5, 0.9),
        row_penalty=jnp.array(5.0),
    )


# A: 4.5 - 1.1 - 0.5 = 2.9 = 1.2 sold + 1.5 traded + 0.2 spilled
# B: 0.3 - 2.4 + 0.4 = -1.7 = -0.9 bought - 0.5 traded - 0.3 short
# C: -1.4 = -0.4 bought - 1 traded; in the network's base values, so that its load does not matter here
DISPATCH = execute.Dispatch(
    injection=row(2.9, -1.7, -1.4),
    load=row(1.1, 2.4, 0.7),
    pv_used=row(4.5, 0.3, 0),
    charge=row(0.5, 0, 0),
    discharge=row(0, 0.4, 0),
    trades=jnp.array([[1.5, -0.5, -1.0]]),
    buy=row(0, 0.9, 0.4),
    sell=row(1.2, 0, 0),
    unserved=row(-0.2, 0.3, 0),
    trade_price=jnp.array([[0.15, 0.15, 0.15]]),
    market_price=row(0.14, 0.16, 0.17),
    nodal_price=row(0.11, 0.12, 0.13),
    row_price=row(0.6, 0.7),
)

GAP = Gap(*(jnp.array(x) for x in (0.001, 0.002, 0.004, 0.008, 0.016)))
RESULT = execute.SlotResult(
    dispatch=DISPATCH,
    gap=jnp.array(0.031),
    gap_parts=GAP,
    gap_scale=jnp.array(0.5),
    violation=jnp.array(0.6),
    violation_row=jnp.array(1),
    status=jnp.array(3),
    iterations=jnp.array(17),
    prim_res=jnp.array(0.019),
    dual_res=jnp.array(0.0023),
)


def close(found, expected):
    np.testing.assert_allclose(np.asarray(found, float), expected, rtol=1e-9, atol=1e-12)
