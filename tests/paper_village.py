"""Three homes, four slots of a quarter hour: a dispatch small enough to be checked with pencil and paper.

    slack 0 --T-- bus n1 (home A) --L-- bus n2 (homes B and C)

A has PV and a battery, B a little PV and a battery, C only a load, which the network's base values hold. The
numbers are unlike each other, and nothing in them is regular, so that two columns, signs, factors or slots
mixed up give another figure. The last slot has deliberate faults: every figure that looks for one finds one.
What the figures must be stands in the tests as literals; nothing here calls a formula of the package.
"""

from types import SimpleNamespace

import numpy as np
import pandas as pd
from fake_runs import FakeRun

from jaxp2p.model.markets import Pool
from jaxp2p.model.network import Matrices
from jaxp2p.model.trajectory import Trajectory
from jaxp2p.model.types import Battery, Community, Feeder, Horizon, Network, Prosumers

TIME = pd.Series(pd.date_range("2016-07-05 10:15", periods=4, freq="15min"), name="time")
ROWS = ("voltage at bus n1", "voltage at bus n2", "transformer T", "line L")
TERMINAL_PRICE, UNSERVED_PRICE, ROW_PRICE = 0.2, 10.0, 5.0

_rows = lambda *rows: np.array(rows, float)


def community() -> Community:
    """The village; limits of buses and branches differ, C cannot move its load."""
    battery = Battery(
        energy_min=_rows(1, 1.6, 0),
        energy_max=_rows(10, 6, 0),
        energy_start=_rows(5, 2, 0),
        charge_max=_rows(3, 0.9, 0),
        discharge_max=_rows(3.5, 1.1, 0),
        charge_efficiency=_rows(0.8, 0.9, 1),
        discharge_efficiency=_rows(0.5, 0.8, 1),
        retention=_rows(0.9, 1, 1),
        wear_cost=_rows(0.02, 0.03, 0),
    )
    homes = Prosumers(
        bus=np.array([1, 2, 2]),
        pv_peak=_rows(8.5, 1.2, 0),
        curtailment_cost=_rows(0.01, 0.015, 0),
        load_flex_share=_rows(0, 0, 0),
        load_flex_cost=_rows(0, 0, 0),
        buy_max=_rows(np.inf, 6, np.inf),
        sell_max=_rows(4, np.inf, np.inf),
        battery=battery,
        elastic=False,
        limited=True,
        ids=("A", "B", "C"),
    )
    market = Pool(
        partner=np.zeros((0, 3), int),
        reverse=np.zeros((0, 3), int),
        fee=np.full((1, 3), 0.01),
        limit=np.full((1, 3), np.inf),
        limited=False,
    )
    # v^2 = base + 2 R p: 0.00125 per kW on T and as much on L
    network = Network(
        paths=Matrices(
            resistance=_rows([0, 0, 0], [0, 0.00125, 0.00125], [0, 0.00125, 0.0025]),
            reactance=np.zeros((3, 3)),
            downstream=_rows([0, 1, 1], [0, 0, 1]),
        ),
        slack_voltage=np.array(1.0),
        voltage_min=_rows(0.9, 0.95, 0.94),
        voltage_max=_rows(1.1, 1.05, 1.06),
        rating=_rows(10, 5),
        bus_ids=("0", "n1", "n2"),
        branch_ids=("T", "L"),
        branch_kinds=("transformer", "line"),
    )
    # rows n1, n2, T, L over the buses n1, n2, divided by 2 R's largest entry or by 1
    feeder = Feeder(
        group=np.array([0, 1, 0]),
        flexible=_rows(1, 1, 0),
        count=_rows(1, 1),
        matrix=_rows([1, 1], [0.5, 1], [1, 1], [0, 1]),
        scale=_rows(0.0025, 0.005, 1, 1),
        voltage_bus=np.array([1, 2]),
        flow_branch=np.array([0, 1]),
    )
    return Community(prosumers=homes, market=market, network=network, feeder=feeder)


def horizon() -> Horizon:
    """Prices, loads, sun; base values such that voltages and flows come out as round numbers.

    The injections of A and B are (2, -1.6), (6.5, -1.76), (-0.7, -8.2), (-1.8, -1.5) kW. They move
    v^2 at n1 by 0.0025 (A + B), at n2 by 0.0025 A + 0.005 B; the flow in T by A + B, in L by B.
    """
    moved = _rows([0, 0.001, -0.003], [0, 0.01185, 0.00745], [0, -0.02225, -0.04275], [0, -0.00825, -0.012])
    volts = _rows([1, 1.01, 1.06005], [1, 1.04, 1.08], [1, 0.92, 0.90], [1, 0.9495, 0.97])
    flow = _rows([3, -0.6], [10.3, -1.2], [-12, -7.2], [-4.5, -5.04])
    caused = _rows([0.4, -1.6], [4.74, -1.76], [-8.9, -8.2], [-3.3, -1.5])
    return Horizon(
        slot_hours=np.array(0.25),
        load=_rows([1, 2, 0.7], [0.5, 3, 1.1], [2.5, 9, 3], [1.2, 1.5, 0.9]),
        pv=_rows([6, 0, 0], [8.4, 1.1, 0], [0.3, 0, 0], [0.1, 0, 0]),
        price_buy=_rows(0.30, 0.28, 0.40, 0.32),
        price_sell=_rows(0.05, 0.06, 0.08, 0.04),
        voltage_base=volts**2 - moved,
        flow_base=flow - caused,
        flow_reactive=_rows([4, 0.8], [0, 1.6], [0, 3], [6, 0]),
        price_ahead=np.zeros((4, 3)),
    )


def flow() -> SimpleNamespace:
    """What an AC power flow might find in the four slots."""
    return SimpleNamespace(
        voltage=_rows([1, 1.03, 1.0605], [1, 1.04, 1.075], [1, 0.89, 0.868], [1, 0.951, 0.947]),
        loading=_rows([0.52, 0.21], [1.06, 0.42], [1.27, 1.61], [0.77, 1.002]),
        losses=_rows(0.16, 0.34, 0.72, 0.2),
        status=np.array([0, 0, 0, 0]),
        support=None,
    )


def trajectory() -> Trajectory:
    """What was done. Slot 1: A may not sell all, 0.5 kW are spilled. Slot 2: B is short of 2.2 kW.

    Slot 3: B's meter is 0.04 kW off, C's devices 0.045 kW; the trades sum to 0.025 kW, the payments to
    0.001 EUR; B's energy is 0.02 kWh more than what came in. From slot 2 on B is below its lower limit.
    """
    return Trajectory(
        injection=_rows([2, -1.6, -0.7], [6.5, -1.76, -1.1], [-0.7, -8.2, -3], [-1.8, -1.5, -0.885]),
        load=_rows([1, 2, 0.7], [0.5, 3, 1.1], [2.5, 9, 3], [1.2, 1.5, 0.93]),
        pv_used=_rows([5, 0, 0], [8, 1, 0], [0.2, 0, 0], [0, 0, 0]),
        charge=_rows([2, 0, 0], [1, 0, 0], [0, 0, 0], [0.6, 0, 0]),
        discharge=_rows([0, 0.4, 0], [0, 0.24, 0], [1.6, 0.8, 0], [0, 0, 0]),
        # A: 0.9 E + 0.25 (0.8 c - d / 0.5), B: E - 0.25 d / 0.8
        energy=_rows([4.9, 1.875, 0], [4.61, 1.8, 0], [3.349, 1.55, 0], [3.1341, 1.57, 0]),
        trade=_rows([1.5, -1, -0.5], [2, -1.3, -0.7], [0.3, 0, -0.3], [0.125, -0.1, 0]),
        trade_volume=_rows([2, 1.5, 0.5], [2.2, 1.5, 0.7], [0.3, 0, 0.3], [0.125, 0.1, 0]),
        buy=_rows([0, 0.6, 0.2], [0, 0.46, 0.4], [1, 6, 2.7], [1.925, 1.44, 0.9]),
        sell=_rows([0.5, 0, 0], [4, 0, 0], [0, 0, 0], [0, 0, 0]),
        cost=_rows([-0.03, 0.05, 0.02], [-0.11, 0.07, 0.03], [0.13, 0.5, 0.21], [0.15, 0.12, 0.08]),
        payment=_rows([0.09, -0.06, -0.03], [0.1, -0.07, -0.03], [0.02, 0, -0.02], [0.011, -0.01, 0]),
        market_price=_rows([0.10, 0.12, 0.14], [0.07, 0.2, 0.18], [0.4, 0.48, 0.35], [0.03, 0.3, 0.27]),
        nodal_price=_rows([0.11, 0.13, 0.15], [0.06, 0.19, 0.17], [0.41, 0.46, 0.39], [0.02, 0.29, 0.26]),
        unserved=_rows([0, 0, 0], [0.5, 0, 0], [0, 2.2, 0], [0, 0, 0]),  # without the sign
        gap=_rows(0.001, 0.002, 0.003, 0.005),
        violation=_rows(0, 0.6, 1.4, 0.07),
        violation_row=np.array([3, 2, 1, 3]),
        status=np.array([0, 3, 1, 2]),
        iterations=np.array([9, 20, 5, 60]),
        prim_res=_rows(0.011, 0.012, 0.013, 0.014),
        dual_res=_rows(0.0021, 0.0022, 0.0023, 0.0024),
        rounds=np.array([1, 3, 2, 6]),
    )


def run() -> FakeRun:
    """Four policies that differ in what the members pay in the first slot, in EUR.

    Against the policy "lyapunov" no storage and no trade costs A 0.6 and C 0.3 more and B 0.2 less; no
    storage costs A 0.5 more, perfect foresight 0.125 less.
    """
    done = trajectory()
    extra = {
        "no_storage_no_trade": (0.6, -0.2, 0.3),
        "no_storage": (0.5, 0, 0),
        "lyapunov": (0, 0, 0),
        "perfect_foresight": (-0.125, 0, 0),
    }
    first = np.array([[1.0], [0], [0], [0]])
    return FakeRun(
        trajectories={name: done._replace(cost=done.cost + first * more) for name, more in extra.items()},
        seconds={"no_storage_no_trade": 0.1, "no_storage": 0.2, "lyapunov": 0.5, "perfect_foresight": 0.7},
        compile_seconds=3.0,
        perfect_foresight_eur=73.0,
        perfect_foresight_is_bound=False,
        lower_bound_eur=71.0,
        terminal_price=TERMINAL_PRICE,
        certificate="nothing is proved on paper",
        row_names=ROWS,
        unserved_price=UNSERVED_PRICE,
        row_price=ROW_PRICE,
        perfect_foresight_reasons=("because the case says so",),
    )
