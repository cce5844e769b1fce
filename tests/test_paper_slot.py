"""One slot worked out by hand: what a dispatch costs, and what is written down of it."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import paper_village as paper
import pytest
from paper_slot import DISPATCH, GAP, RESULT, close, problem, row

from jaxp2p.control.policy import (
    suggest_penalties,
)
from jaxp2p.model.network import Base
from jaxp2p.model.trajectory import Trajectory
from jaxp2p.simulation.forward import Cleared, RunState, carry_out
from jaxp2p.simulation.grid import violated
from jaxp2p.simulation.secure import linear
from jaxp2p.simulation.step import Posed, Stored, after, record
from jaxp2p.slot import execute, solvers
from jaxp2p.slot.gap import gap_scale
from jaxp2p.slot.rows import row_excess, row_tolerance
from jaxp2p.studies.summary import Circumstances, Series, summarise


def test_what_a_slot_costs():
    """A: sale -0.06, fee 0.015, wear 0.02 * 0.4, curtailed 0.01 * 1.5, moved load 0.4 * 0.1^2 EUR/h.

    B: purchase 0.27, fee 0.005, wear 0.04 * 0.5, curtailed 0.03 * 0.7, moved load 0.6 * 0.4^2.
    C: purchase 0.12, fee 0.01.
    """
    a = -0.06 + 0.015 + 0.008 + 0.015 + 0.004
    b = 0.27 + 0.005 + 0.02 + 0.021 + 0.096
    close(execute.slot_cost(problem(), DISPATCH), [a / 4, b / 4, 0.13 / 4])


def test_what_stored_energy_is_given_up():
    """A gains 0.25 * 0.8 * 0.5 = 0.1 kWh worth 0.2 falling by 0.1 a kWh: -(0.2 - 0.005) 0.1.

    B loses 0.25 * 0.4 / 0.8 = 0.125 kWh worth 0.1 rising by 0.16 a kWh: (0.1 + 0.01) 0.125.
    """
    close(execute.storage_drift(problem(), DISPATCH), [-0.0195, 0.01375, 0])


def test_what_lies_beyond_the_connections_counts():
    """A spills 0.2 kW at 10 - 0.05, B lacks 0.3 kW at 0.30 + 10 EUR/kWh."""
    close(execute.beyond_connections(problem(), DISPATCH), [0.4975, 0.7725, 0])


def test_what_peers_pay():
    """0.15 EUR/kWh for a quarter hour of 1.5, -0.5 and -1 kW."""
    close(execute.payments(problem(), DISPATCH), [0.05625, -0.01875, -0.0375])


def test_the_utility_takes_the_rest_up_to_the_connection():
    """A has 2.9 - 1.5 = 1.4 kW left and may sell 1.2; B lacks 1.2 kW and may buy 0.9; C lacks 0.4 kW."""
    devices = execute.Devices(DISPATCH.load, DISPATCH.pv_used, DISPATCH.charge, DISPATCH.discharge)
    answer = SimpleNamespace(
        trades=DISPATCH.trades,
        trade_price=jnp.array([[0.15]]),
        market_price=DISPATCH.market_price,
        nodal_price=DISPATCH.nodal_price,
        row_price=DISPATCH.row_price,
    )
    done = execute.settle(problem(), answer, devices)
    lone = {"injection": [2.9, -1.7, -0.7], "buy": [0, 0.9, 0], "sell": [1.2, 0, 0.3]}
    for name in execute.Dispatch._fields:
        if getattr(DISPATCH, name) is None:  # nobody has a vehicle
            assert name.startswith("vehicle_") and getattr(done, name) is None
        else:
            close(getattr(done, name), lone.get(name, getattr(DISPATCH, name)))


def test_the_energy_after_a_slot():
    """A: 0.9 * 5 + 0.25 * 0.8 * 0.5; B: 2 - 0.25 * 0.4 / 0.8."""
    posed = Posed(problem(), Stored(row(5, 2, 0)))
    close(after(paper.community(), posed, DISPATCH).energy, [4.6, 1.875, 0])


def test_rows_and_what_counts_as_violated():
    """Row 0: 0.5 * 2.9 - 1.7 + 0.2 = -0.05 of 0.5 kW, row 1: 2.9 - 1.7 - 0.3 = 0.9 of 0.9 kW."""
    posed = problem()
    close(row_excess(posed, row(2.9, -1.7, -1.4)), [0, 0])
    close(row_excess(posed, row(2.9, 0.3, -1.4)), [1.45, 2.0])
    close(row_excess(posed, row(-5, -4, 9)), [2.3, 6.3])
    # 1e-4 p.u. are 2e-4 p.u.^2, by 0.005 of them a kW: 0.04 kW
    close(row_tolerance(posed, flow=0.05, voltage=1e-4), [0.04, 0.05])
    assert (execute.POWER_TOLERANCE, execute.VOLTAGE_TOLERANCE) == (0.05, 1e-4)


def test_what_a_gap_is_measured_by():
    """Installed: loads 3.7, PV 7, charging 4.5, discharging 4.5 kW: 0.1 * 0.25 h * 0.25 EUR/kWh * 19.7 kW."""
    close(gap_scale(problem(), jnp.array(0.01)), 0.123125)
    close(gap_scale(problem(), jnp.array(-3.0)), 3.0)


def test_penalties():
    """20 times the largest price, 0.40, and twice that; next to nothing counts as 0.05."""
    row_price, unserved = suggest_penalties(paper.horizon())
    close([row_price, unserved], [8, 16])


def test_every_field_that_is_written_down_of_a_slot():
    assert float(GAP.total) == pytest.approx(0.031)
    expected = {
        "injection": [2.9, -1.7, -1.4],
        "load": [1.1, 2.4, 0.7],
        "pv_used": [4.5, 0.3, 0],
        "charge": [0.5, 0, 0],
        "discharge": [0, 0.4, 0],
        "energy": [4.6, 1.875, 0],
        "trade": [1.5, -0.5, -1],
        "trade_volume": [1.5, 0.5, 1],
        "buy": [0, 0.9, 0.4],
        "sell": [1.2, 0, 0],
        "cost": [-0.0045, 0.103, 0.0325],
        "payment": [0.05625, -0.01875, -0.0375],
        "market_price": [0.14, 0.16, 0.17],
        "nodal_price": [0.11, 0.12, 0.13],
        "unserved": [-0.2, 0.3, 0],
        "gap": 0.031,
        "violation": 0.6,
        "violation_row": 1,
        "status": 3,
        "iterations": 17,
        "prim_res": 0.019,
        "dual_res": 0.0023,
        "rounds": 2,
        "row_price": np.asarray(DISPATCH.row_price),
        "fee": [0.00375, 0.00125, 0.0025],  # a quarter hour of 0.01 per kWh traded
        # 0.8 (0.2 - 0.02) and 0.9 (0.1 - 0.04); (0.2 + 0.02) / 0.5 and (0.1 + 0.04) / 0.8
        "charge_below": [0.144, 0.054, 0],
        "discharge_above": [0.44, 0.175, 0],
        "trades": [[1.5, -0.5, -1]],
        "trade_price": [[0.15, 0.15, 0.15]],
    }
    priced = replace(problem(), loss_price=row(0.02, 0, -0.03))
    lost = record(priced, RESULT, Stored(row(4.6, 1.875, 0)))
    np.testing.assert_allclose(lost.nodal_price, [0.09, 0.12, 0.16])  # each less the price of its losses
    np.testing.assert_allclose(lost.loss_price, [0.02, 0, -0.03])
    kept = record(problem(), RESULT, Stored(row(4.6, 1.875, 0)), rounds=jnp.array(2))
    absent = {name for name in Trajectory._fields if getattr(kept, name) is None}
    assert absent == {"vehicle_charge", "vehicle_discharge", "vehicle_energy", "loss_price"}
    assert set(Trajectory._fields) == set(expected) | absent
    for name, values in expected.items():
        np.testing.assert_allclose(getattr(kept, name), values, rtol=1e-9, atol=1e-12, err_msg=name)


def test_the_next_slot_begins_where_this_one_ends(monkeypatch):
    """Energies as above, the solver's state, the memory, and one slot more of the week."""
    monkeypatch.setattr(solvers.execute, "finish", lambda posed, answer: RESULT)
    outcome = SimpleNamespace(answer=SimpleNamespace(iterations=17), result=None, state="warm")
    before = RunState(Stored(row(5, 2, 0)), "cold", jnp.array(671), "before")
    posed = Posed(problem(), before.stored, "after")
    following, kept = carry_out(paper.community(), before, Cleared(posed, linear(problem(), outcome)))
    close(following.energy, [4.6, 1.875, 0])
    close(kept.energy, [4.6, 1.875, 0])
    assert (following.solver, int(following.slot_of_week), following.memory) == ("warm", 672, "after")


def in_jax(community):
    """The same with JAX arrays, as the kernel has it."""
    return jax.tree.map(jnp.asarray, community)


def test_every_series_that_a_study_keeps_of_a_slot():
    """The village of `paper_village`; dispatch and verdict are those above."""
    # v^2 at n1: 1.0404 + 0.0025 (2.9 - 1.7); at n2: 1.21 + 0.0025 * 2.9 - 0.005 * 1.7
    # T: 9 + 1.2 = 10.2 of sqrt(100 - 36) kW; L: -1.7 - 4 = -5.7 of 5 kW
    posed = problem()
    slot = Circumstances(
        hours=posed.slot_hours,
        price_buy=posed.price_buy,
        price_sell=posed.price_sell,
        base=Base(row(1, 1.0404 - 0.003, 1.21 + 0.00125), row(9, -4), row(6, 0)),
        plugged=None,
        flow=SimpleNamespace(
            voltage=row(1, 0.9, 1.065),
            loading=row(1.03, 0.7),
            losses=jnp.array(0.25),
            status=jnp.array(1),
            support=None,
        ),
        unserved_price=posed.unserved_price,
        row_price=posed.row_penalty,
    )
    written = record(posed, RESULT, Stored(row(4.6, 1.875, 0)), rounds=jnp.array(2))
    kept = summarise(in_jax(paper.community()), slot, written)
    expected = {
        "cost_eur": 0.131,  # -0.0045 + 0.103 + 0.0325
        "import_kw": 1.3,
        "export_kw": 1.2,
        "trade_kw": 1.5,
        "stored_kwh": 6.475,  # 4.6 + 1.875
        "unserved_kw": 0.3,
        "spilled_kw": 0.2,
        "unserved_cost_eur": 1.27,  # 0.4975 + 0.7725
        "violation_cost_eur": 25.225,  # n2: (1.21 - 1.1236) / 0.005, T 2.2, L 0.7 kW at 5 EUR/kWh
        "price_eur_per_kwh": 0.47 / 3,
        "voltage_violation_pu": 0.04,  # n2: 1.10 - 1.06; n1: 1.02
        "line_violation_kw": 2.2,  # T: 10.2 - 8; L: 0.7
        "ac_voltage_violation_pu": 0.05,  # n1: 0.95 - 0.9
        "ac_loading_violation": 0.03,
        "ac_losses_kw": 0.25,
        "ac_unsolved": 1,
        "soc_violation_kwh": 0,
        "balance_error_kw": 0,
        "gap_eur": 0.031,
        "status": 3,
        "iterations": 17,
        "rounds": 2,
    }
    assert set(Series._fields) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(kept, name), value, rtol=1e-9, atol=1e-12, err_msg=name)


def test_violated_rows_count_beyond_their_tolerances_only():
    """1e-4 p.u. are 0.08 kW in the row of n1 and 0.04 kW in that of n2; on branches 0.05 kW count as kept."""
    community = in_jax(paper.community())

    def kw(high_n2, low_n1, transformer, line):
        volts = jnp.sqrt(row(1, 0.95**2 - 0.0025 * low_n1, 1.06**2 + 0.005 * high_n2))
        return float(violated(community, volts, row(transformer, line)))

    assert kw(0.03, 0.07, 0.045, 0.045) == 0
    assert kw(0.05, 0.07, 0.045, 0.045) == pytest.approx(0.05)
    assert kw(0.03, 0.09, 0.06, 0) == pytest.approx(0.15)
    assert kw(1, 2, 3, 4) == pytest.approx(10)
