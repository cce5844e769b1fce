"""One slot worked out by hand: what a policy asks, what a dispatch costs, what is written down of it."""

from dataclasses import replace
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import paper_village as paper
import pytest

from jaxp2p import solvers
from jaxp2p.community.network import row_limits
from jaxp2p.community.types import Feeder, Market
from jaxp2p.policy import (
    BY_COMMUNITY,
    BY_OWN_METER,
    BY_VALUE,
    Penalties,
    Policy,
    Slot,
    slot_problem,
    suggest_penalties,
)
from jaxp2p.prox.response import Pieces, piece_slack
from jaxp2p.simulation import Cleared, RunState, carry_out, next_energy, record
from jaxp2p.slot import execute, gap
from jaxp2p.slot.answer import Answer
from jaxp2p.slot.gap import Gap, gap_scale
from jaxp2p.slot.polish import polish
from jaxp2p.slot.problem import SlotProblem
from jaxp2p.slot.rows import row_excess, row_tolerance
from jaxp2p.slot.status import Status
from jaxp2p.study import engine
from jaxp2p.trajectory import Trajectory
from jaxp2p.verification import Comparison

row = lambda *values: jnp.array(values, float)


def problem() -> SlotProblem:
    """A, B and C for a quarter hour at 0.30 and 0.05 EUR/kWh."""
    market = Market(
        partner=jnp.zeros((0, 3), jnp.int32),
        reverse=jnp.zeros((0, 3), jnp.int32),
        fee=jnp.full((1, 3), 0.02),
        limit=jnp.full((1, 3), jnp.inf),
        kind="pool",
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
        market=market,
        feeder=feeder,
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


def close(found, expected):
    np.testing.assert_allclose(np.asarray(found, float), expected, rtol=1e-9, atol=1e-12)


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
        close(getattr(done, name), lone.get(name, getattr(DISPATCH, name)))


def test_the_energy_after_a_slot():
    """A: 0.9 * 5 + 0.25 * 0.8 * 0.5; B: 2 - 0.25 * 0.4 / 0.8."""
    battery = paper.community().prosumers.battery
    close(next_energy(battery, row(5, 2, 0), jnp.array(0.25), DISPATCH), [4.6, 1.875, 0])


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
        "price_market": [0.14, 0.16, 0.17],
        "price_nodal": [0.11, 0.12, 0.13],
        "unserved": [-0.2, 0.3, 0],
        "gap": 0.031,
        "violation": 0.6,
        "violation_row": 1,
        "status": 3,
        "iterations": 17,
        "prim_res": 0.019,
        "dual_res": 0.0023,
    }
    kept = record(problem(), RESULT, row(4.6, 1.875, 0))
    assert set(Trajectory._fields) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(getattr(kept, name), values, rtol=1e-9, atol=1e-12, err_msg=name)


def test_the_next_slot_begins_where_this_one_ends(monkeypatch):
    """Energies as above, the solver's state, the memory, and one slot more of the week."""
    monkeypatch.setattr(execute, "finish", lambda posed, answer: RESULT)
    outcome = SimpleNamespace(answer=None, state="warm")
    before = RunState(row(5, 2, 0), "cold", jnp.array(671), "before")
    after, kept = carry_out(paper.community(), before, Cleared("after", problem(), outcome))
    close(after.energy, [4.6, 1.875, 0])
    close(kept.energy, [4.6, 1.875, 0])
    assert (after.solver, int(after.slot_of_week), after.memory) == ("warm", 672, "after")


def test_every_series_that_a_study_keeps_of_a_slot(monkeypatch):
    """The village of `paper_village` in its slot 1; dispatch and verdict are those above."""
    community = paper.community()
    monkeypatch.setattr(engine, "_unpack", lambda task, packed: packed)
    monkeypatch.setattr(engine, "_first", lambda task, number: (None, row(0, 0, 0)))
    monkeypatch.setattr(engine, "_open", lambda *args: (None, row(1, 1, 0), None, SimpleNamespace(), None))
    monkeypatch.setattr(engine, "_pack", lambda posed: {})
    monkeypatch.setattr(engine, "remember", lambda *args: None)
    monkeypatch.setattr(execute, "finish", lambda posed, answer: RESULT)
    monkeypatch.setattr(solvers, "end", lambda *args: SimpleNamespace(answer=None, state=row(0)))
    for name, found in (("init", row(0)), ("warm", row(0)), ("begin", None)):
        monkeypatch.setattr(solvers, name, lambda *args, found=found: found)
    task = SimpleNamespace(
        community=community,
        model=SimpleNamespace(community=lambda community, carry: community),
        solver=None,
        slots=4,
        policy=None,
    )
    # v^2 at n1: 1.0404 + 0.0025 (2.9 - 1.7); at n2: 1.21 + 0.0025 * 2.9 - 0.005 * 1.7
    # T: 9 + 1.2 = 10.2 of sqrt(100 - 36) kW; L: -1.7 - 4 = -5.7 of 5 kW
    lane = SimpleNamespace(
        problem=problem(),
        search=None,
        carry=None,
        energy=row(5, 2, 0),
        grid=(row(1, 1.0404 - 0.003, 1.21 + 0.00125), row(9, -4), row(6, 0)),
        slot=jnp.array(1),
        row=jnp.array(0),
        memory=None,
    )
    _, kept = engine._close(task, lane, jnp.array(0), jnp.array(0))
    expected = {
        "cost_eur": 0.131,  # -0.0045 + 0.103 + 0.0325
        "import_kw": 1.3,
        "export_kw": 1.2,
        "trade_kw": 1.5,
        "stored_kwh": 6.475,  # 4.6 + 1.875
        "unserved_kw": 0.3,
        "spilled_kw": 0.2,
        "unserved_cost_eur": 1.27,  # 0.4975 + 0.7725
        "violation_cost_eur": 0,  # rows -0.05 and 0.9 of 0.5 and 0.9
        "price_eur_per_kwh": 0.47 / 3,
        "voltage_violation_pu": 0.04,  # n2: 1.10 - 1.06; n1: 1.02
        "line_violation_kw": 2.2,  # T: 10.2 - 8; L: 0.7
        "soc_violation_kwh": 0,
        "balance_error_kw": 0,
        "gap_eur": 0.031,
        "status": 3,
        "iterations": 17,
    }
    assert set(engine.Series._fields) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(kept, name), value, rtol=1e-9, atol=1e-12, err_msg=name)


def test_violated_rows_count_in_a_study_as_elsewhere():
    """B feeds in 0.3 kW in place of -1.7: rows 1.45 and 2 kW beyond, at 5 EUR/kWh for a quarter hour."""
    undone = engine._undone(problem(), DISPATCH._replace(injection=row(2.9, 0.3, -1.4)))
    assert float(undone["violation_cost_eur"]) == pytest.approx(4.3125)
    # 0.03 kW in row 0 and 0.045 kW in row 1 count as kept, being within 0.04 and 0.05 kW; then row 0 is not
    posed = problem()
    within, beyond = row(1.83, -0.585, 0), row(1.8, -0.555, 0)
    close(row_excess(posed, within), [0.03, 0.045])
    assert engine._undone(posed, DISPATCH._replace(injection=within))["violation_cost_eur"] == 0
    close(row_excess(posed, beyond), [0.045, 0.045])
    undone = engine._undone(posed, DISPATCH._replace(injection=beyond))
    assert float(undone["violation_cost_eur"]) == pytest.approx(0.25 * 5 * 0.045)


EXCUSED, MISSED = (5.0, 0), (4.9, 0)  # of the penalty of 5 EUR/kWh at least 99 %: 4.95


@pytest.mark.parametrize(
    ("bound", "excess", "row_price", "status"),
    [
        (0.0009, (0, 0), (0, 0), "SOLVED"),
        (0.0011, (0, 0), (0, 0), "MAX_ITER"),  # of 1 EUR a thousandth is allowed
        (0.0009, (0.039, 0.049), (0, 0), "SOLVED"),  # 0.04 and 0.05 kW are
        (0.0009, (0.041, 0), (0, 0), "MAX_ITER"),
        (0.0009, (0, 0.051), (0, 0), "MAX_ITER"),
        (0.0009, (0.041, 0), EXCUSED, "NETWORK_VIOLATED"),
        (0.0009, (0.041, 0), (4.96, 0), "NETWORK_VIOLATED"),
        (0.0009, (0.041, 0), MISSED, "MAX_ITER"),
        (0.0009, (0, 0.06), (0, -5.0), "NETWORK_VIOLATED"),
        (0.0011, (0.5, 0), EXCUSED, "MAX_ITER"),
        (np.nan, (0, 0), (0, 0), "NUMERICAL_ERROR"),
    ],
)
def test_how_a_slot_ends(monkeypatch, bound, excess, row_price, status):
    open_ = replace(problem(), buy_max=None, sell_max=None, unserved_price=None)
    result = ended(monkeypatch, open_, bound, excess, row_price, DISPATCH.market_price)
    assert Status(int(result.status)).name == status
    assert float(result.violation) == max(excess)


@pytest.mark.parametrize(
    ("market_price", "status"),
    [
        ((-9.9, 10.25, 0.17), "UNSERVED"),  # A at 0.05 - 10 and B at 0.30 + 10 EUR/kWh, but for 0.1
        ((-9.9, 10.15, 0.17), "MAX_ITER"),
        ((-9.8, 10.25, 0.17), "MAX_ITER"),
    ],
)
def test_energy_is_given_up_only_where_it_is_priced_so(monkeypatch, market_price, status):
    """A spills 0.2 kW and B lacks 0.3 kW."""
    result = ended(monkeypatch, problem(), 0.0009, (0, 0), (0, 0), row(*market_price))
    assert Status(int(result.status)).name == status


def ended(monkeypatch, posed, bound, excess, row_price, market_price):
    """`finish` for the devices of DISPATCH, with this gap of a scale of 1 EUR and these violations in kW."""
    devices = execute.Devices(DISPATCH.load, DISPATCH.pv_used, DISPATCH.charge, DISPATCH.discharge)
    nothing = jnp.array(0.0)
    monkeypatch.setattr(execute, "devices_of", lambda *args: devices)
    monkeypatch.setattr(execute, "slot_gap", lambda *args, **more: Gap(jnp.array(bound), *[nothing] * 4))
    monkeypatch.setattr(execute, "gap_scale", lambda *args: jnp.array(1.0))
    monkeypatch.setattr(execute, "row_excess", lambda *args: row(*excess))
    answer = Answer(
        injection=DISPATCH.injection,
        trades=DISPATCH.trades,
        market_price=market_price,
        nodal_price=DISPATCH.nodal_price,
        trade_price=DISPATCH.trade_price,
        row_price=row(*row_price),
        prim_res=nothing,
        dual_res=nothing,
        iterations=jnp.array(7),
        tolerance=jnp.array(1e-3),
    )
    return execute.finish(posed, answer)


def test_what_the_devices_offer():
    """A discharges at 0.02 / 0.5 + 0.2 / 0.5 EUR/kWh, 0.05 / 0.5 more a kW; it charges at 0.8 (0.2 - 0.02),
    and 0.8 * 0.02 less a kW. B discharges at 0.04 / 0.8 + 0.1 / 0.8, 0.05 / 0.8 more a kW; it charges, beyond
    the 0.1 kW that it must, at 0.9 (0.1 - 0.04) less 0.9 * 0.036 a kW. Loads: 2 * 0.4 and 2 * 0.6 EUR/kWh a
    kW.
    """
    posed = problem()
    pieces = posed.pieces()
    close(pieces.gain, [[0, 0, 0], [2, 2.5, 0], [6, 1, 0], [3, 1.4, 0], [1, 2, 0]])
    close(pieces.start[1:, :2], [[0.44, 0.175], [-0.01, -0.03], [0.096, 0.0054], [-0.4, -1.2]])
    close(pieces.end[1:, :2], [[0.64, 0.33125], [-0.01, -0.03], [0.144, 0.05076], [0.4, 1.2]])
    close(posed.base, [-4.5, -4.5, -0.7])
    close([pieces.level, posed.price_scale, posed.power_scale], [0.30, 0.25, 18.7 / 3])


def test_energy_that_is_worth_less_than_nothing_offers_itself_more_dearly():
    """A stored kWh at -0.05 EUR, 0.05 more a kW: the first kW counts eta_c of that, the second 1 / eta_d."""
    pieces = replace(problem(), value=row(-0.05, 0.1, 0)).pieces()
    close(pieces.gain[:2, 0], [1, 1])
    close(pieces.start[:2, 0], [0, 0.04])
    close(pieces.end[:2, 0], [0.04, 0.14])


def test_trades_whose_fee_no_price_difference_pays_are_closed():
    """Between tariffs of 0.05 and 0.30 EUR/kWh a fee must be below 0.25, where connections have no limit."""
    for fee, limit, expected in ((0.24, None, np.inf), (0.26, None, 0), (0.26, row(1, 1, 1), np.inf)):
        posed = problem()
        market = replace(posed.market, fee=jnp.full((1, 3), fee))
        price = None if limit is None else posed.unserved_price
        posed = replace(posed, market=market, buy_max=limit, sell_max=limit, unserved_price=price)
        close(posed.trade_limit, np.full((1, 3), expected))


def test_what_dealing_with_the_utility_leaves_on_the_table():
    """At 0.14 EUR/kWh A sells 1.2 kW at 0.05: 0.09 a kW, and spills 0.2 kW: 10 + 0.09 a kW.

    B buys 0.9 kW at 0.14 too much and lacks 0.3 kW at 10 + 0.14; C buys 0.4 kW at 0.13 too much.
    """
    exchange = DISPATCH.sell - DISPATCH.buy
    lost = gap._exchange_slack(problem(), row(0.14, 0.16, 0.17), exchange, DISPATCH.unserved)
    close(lost, [0.108 + 2.018, 0.126 + 3.042, 0.052])
    # where A is worth -0.2 it should sell 0.2 kW more, and B at 0.5 should buy 0.4 kW more than half a kW
    lost = gap._exchange_slack(problem(), row(-0.2, 0.5, 0.3), row(1.0, -0.5, -0.4), row(0, 0, 0))
    close(lost, [0.25 * 0.2, 0.2 * 0.4, 0])


def test_what_trading_leaves_on_the_table():
    """Half the fee and the distance from the pool's 0.15: A sells 1.5 kW at 0.145, B buys 0.5 kW at 0.155."""
    posed, room = problem(), jnp.ones((1, 3), bool)
    price = row(0.145, 0.155, 0.16)
    lost = gap._trade_slack(posed, price, DISPATCH.trades, DISPATCH.trade_price, room)
    close(lost, [1.5 * (0.01 - 0.005), 0.5 * (0.01 - 0.005), 0])


def test_what_a_device_leaves_on_the_table():
    """2 kW between 0.1 and 0.3 EUR/kWh: at 0.25 three quarters should be in use, not half: 0.25^2 0.2 / 2."""
    pieces = Pieces(start=jnp.array([[0.1]]), end=jnp.array([[0.3]]), gain=jnp.array([[2.0]]), level=0.3)
    close(piece_slack(pieces, jnp.array([[0.5]]), row(0.25)), [2 * 0.00625])
    close(piece_slack(pieces, jnp.array([[0.75]]), row(0.25)), [0])


def test_the_gap_is_the_sum_of_its_parts():
    """Rows: 0.05 kW from 0.5 kW at 0.6 EUR/kWh, and none at 0.7; times a quarter hour: 0.0825 EUR."""
    posed = replace(problem(), load_cost=None)
    pieces = posed.pieces()
    found = gap.slot_gap(
        posed,
        pieces,
        jnp.zeros_like(pieces.gain).at[2].set(1),
        injection=DISPATCH.injection,
        trades=DISPATCH.trades,
        exchange=DISPATCH.sell - DISPATCH.buy,
        unserved=DISPATCH.unserved,
        market_price=row(0.145, 0.155, 0.155),
        trade_price=DISPATCH.trade_price,
        row_price=row(0.6, 0.7),
    )
    # the trades as above, with C: 0.01 - 0.005; the exchange at 0.145, 0.155 and 0.155
    close(found.rows, 0.0825)
    close(found.trades, 0.25 * (0.0075 + 0.0025 + 0.005))
    a, b, c = 0.095 * 1.2 + 10.095 * 0.2, 0.145 * 0.9 + 10.145 * 0.3, 0.145 * 0.4
    close(found.exchange, 0.25 * (a + b + c))
    # the network takes 0.5 * 0.6 + 0.7 and 0.6 + 0.7 EUR/kWh off: PV should rest at -0.855 and -1.145
    close(found.devices, 0.25 * ((0.855 - 0.01) * 6 + (1.145 - 0.03) * 1))
    close(found.total, found.devices + found.exchange + found.trades + found.rows + found.rounding)


def test_the_nodal_price_is_the_market_price_less_what_the_network_takes():
    """Without anything to decide any price is answered alike; row prices beyond the penalty count as that.

    0.5 * 0.6 + 0.7 EUR/kWh at n1, 0.6 + 0.7 at n2; C is in the network's base values.
    """
    none = row(0, 0, 0)
    names = ("pv_max", "charge_min", "charge_max", "discharge_max", "value_slope")
    idle = replace(problem(), load_cost=None, load_min=problem().load, load_max=problem().load)
    idle = replace(idle, buy_max=None, sell_max=None, unserved_price=None, **dict.fromkeys(names, none))
    raw = Answer(
        injection=-idle.load,
        trades=jnp.zeros((1, 3)),
        market_price=row(0.14, 0.16, 0.17),
        nodal_price=none,
        trade_price=jnp.array([[0.15]]),
        row_price=row(0.6, 0.7),
        prim_res=jnp.array(0.0),
        dual_res=jnp.array(0.0),
        iterations=jnp.array(7),
        tolerance=jnp.array(1e-3),
    )
    found = polish(idle, raw)
    close(found.nodal_price, [0.14 - 1.0, 0.16 - 1.3, 0.17])
    close(found.market_price, [0.14, 0.16, 0.17])
    found = polish(idle, raw._replace(row_price=row(-7, 0.7)))
    close(found.row_price, [-5, 0.7])
    close(found.nodal_price, [0.14 + 2.5 - 0.7, 0.16 + 5 - 0.7, 0.17])


@pytest.mark.parametrize(
    ("change", "passed"),
    [
        ({}, True),
        ({"gap_rel": 0.9e-3}, True),
        ({"gap_rel": 1.1e-3}, False),
        ({"gap_rel": -1.1e-3}, False),  # no answer beats the optimum
        ({"power_violation_kw": 0.049}, True),
        ({"power_violation_kw": 0.051}, False),
        ({"voltage_violation_pu": 0.9e-4}, True),
        ({"voltage_violation_pu": 1.1e-4}, False),
        ({"balance_error_kw": 0.6e-3}, False),
        ({"reciprocity_error_kw": 0.6e-3}, False),
    ],
)
def test_the_pass_rule(change, passed):
    exact = dict.fromkeys(Comparison._fields, 0.0) | {"scale_eur": 1.0}
    assert Comparison(**(exact | change)).passed is passed


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


def posed(policy=POLICY, energy=(9, 1.75, 0), slot_of_week=3) -> SlotProblem:
    community = paper.community()
    penalties = Penalties(row=jnp.array(5.0), unserved=jnp.array(10.0))
    return slot_problem(community, penalties, policy, SLOT, row(*energy), jnp.array(slot_of_week))


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
    assert set(expected) | {"load_cost", "market", "feeder"} == set(found.__dict__)
    assert found.load_cost is None
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
    own = posed(change(rule=BY_OWN_METER))
    for name in ("charge_min", "charge_max"):
        close(getattr(own, name), [3, 0, 0])
    for name in ("discharge_min", "discharge_max"):
        close(getattr(own, name), [0, 0.48, 0])
    together = posed(change(rule=BY_COMMUNITY))
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
    offset, lower, upper = row_limits(network, feeder, SLOT.voltage_base, SLOT.flow_base, SLOT.flow_reactive)
    close(offset, [16.16, -7.92, 3, -1])
    close(lower, [-39, -23.28, -8, -4])
    close(upper, [41, 24.72, 8, 4])
