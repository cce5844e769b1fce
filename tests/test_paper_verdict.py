"""What devices and trades may do, what a gap is made of, and how a slot ends, by hand."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from paper_slot import DISPATCH, close, problem, row

from jaxp2p.runs.verification import Comparison
from jaxp2p.slot import execute, gap
from jaxp2p.slot.answer import Answer
from jaxp2p.slot.gap import Gap
from jaxp2p.slot.polish import polish
from jaxp2p.slot.prox.response import Pieces, piece_slack
from jaxp2p.slot.status import Status

QUICK = {"xla_backend_optimization_level": 0}  # programs are there sooner
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
    for name in ("shares_at", "shares_of"):  # nobody asks for them here
        monkeypatch.setattr(execute, name, lambda *args, **more: None)
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
        posed = replace(posed.coupled(market=market), buy_max=limit, sell_max=limit, unserved_price=price)
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
    found = jax.jit(gap.slot_gap, compiler_options=QUICK)(
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
    polished = jax.jit(polish, compiler_options=QUICK)
    found = polished(idle, raw)
    close(found.nodal_price, [0.14 - 1.0, 0.16 - 1.3, 0.17])
    close(found.market_price, [0.14, 0.16, 0.17])
    found = polished(idle, raw._replace(row_price=row(-7, 0.7)))
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
