"""Two homes, six slots of half an hour, three vehicles: few enough to be checked with pencil and paper.

    A, seat 0   under way before the first slot and gone after slot 1; back at once, slots 2 to 4, too short
    B, seat 0   from slot 2 on beyond the end; can discharge
    B, seat 1   slot 0, too short, and slots 3 and 4, in which there is nothing to do

Every figure that looks for a fault finds one: A's second stay ends 0.2 kWh short of what could be reached,
B's vehicle holds 0.03 kWh more in the end than came in, B's devices are 0.04 kW off in slot 4. What the
figures must be stands in the tests as literals; nothing here calls a formula of the package.
"""

import numpy as np
import pandas as pd
from fake_runs import FakeRun

from jaxp2p.model.devices import Plugs, Vehicles
from jaxp2p.model.markets import Pool
from jaxp2p.model.network import Matrices, Pi, tree_of
from jaxp2p.model.trajectory import Trajectory
from jaxp2p.model.types import Battery, Community, Horizon, Network, Prosumers

TIME = pd.Series(pd.date_range("2016-07-05 10:00", periods=6, freq="30min"), name="time")
TERMINAL_PRICE = 0.2

_rows = lambda *rows: np.array(rows, float)


def _seats(a0, b0, b1) -> np.ndarray:
    """(6, 2, 2) of the series of the three vehicles; nobody is ever at A's other seat."""
    return np.stack([np.stack([a0, b0], 1), np.stack([np.zeros(6), b1], 1)], 1).astype(float)


def community(*, vehicles: bool = True) -> Community:
    """A has a battery; the network is not part of the market."""
    zeros, ones = np.zeros(2), np.ones(2)
    battery = Battery(
        energy_min=zeros,
        energy_max=_rows(5, 0),
        energy_start=_rows(2, 0),
        charge_max=_rows(2, 0),
        discharge_max=_rows(2, 0),
        charge_efficiency=_rows(0.8, 1),
        discharge_efficiency=_rows(0.5, 1),
        retention=ones,
        wear_cost=zeros,
    )
    cars = Vehicles(
        capacity=_rows([10, 7], [0, 5]),
        charge_efficiency=_rows([0.8, 0.9], [1, 1]),
        discharge_efficiency=_rows([0.5, 0.8], [1, 1]),
        wear_cost=np.zeros((2, 2)),
        returns=True,
        ids=("red", "blue", "0012"),
    )
    homes = Prosumers(
        bus=np.array([1, 1]),
        pv_peak=_rows(5, 0),
        curtailment_cost=zeros,
        load_flex_share=zeros,
        load_flex_cost=zeros,
        buy_max=np.full(2, np.inf),
        sell_max=np.full(2, np.inf),
        battery=battery,
        vehicles=cars if vehicles else None,
        elastic=False,
        limited=False,
        ids=("A", "B"),
    )
    market = Pool(
        partner=np.zeros((0, 2), int),
        reverse=np.zeros((0, 2), int),
        fee=np.zeros((1, 2)),
        limit=np.full((1, 2), np.inf),
        limited=False,
    )
    line = Pi(np.array([0]), np.array([1]), np.zeros(1, complex), np.zeros(1, complex), np.ones(1))
    network = Network(
        tree=tree_of(line, np.zeros(2, complex), np.ones(1), np.dtype(float)),
        paths=Matrices(resistance=np.zeros((2, 2)), reactance=np.zeros((2, 2)), downstream=_rows([0, 1])),
        slack_voltage=np.array(1.0),
        voltage_min=np.full(2, 0.9),
        voltage_max=np.full(2, 1.1),
        rating=_rows(20),
        bus_ids=("0", "n"),
        branch_ids=("L",),
        branch_kinds=("line",),
    )
    return Community(prosumers=homes, market=market, network=network)


def horizon() -> Horizon:
    """Floors are those of the law: at full power 1.6, 0.9 and 0.5 kWh come in per slot."""
    given = {
        "arrived": _seats([-1, -1, 2, -1, -1, 0], [0, 0, 5, -1, -1, -1], [3, 0, 0, 4, -1, 0]),
        "floor": _seats([6, 8, 3.6, 5.2, 6.8, 0], [0, 0, 4, 4, 4, 4.2], [3.5, 0, 0, 4, 4, 0]),
        "most": _seats([10, 10, 10, 10, 10, 0], [0, 0, 7, 7, 7, 7], [4, 0, 0, 4, 4, 0]),
        "wanted": _seats([8, 8, 9, 9, 9, 0], [0, 0, 6, 6, 6, 6], [4, 0, 0, 4, 4, 0]),
        "charge_max": _seats([4, 4, 4, 4, 4, 0], [0, 0, 2, 2, 2, 2], [1, 0, 0, 1, 1, 0]),
        "discharge_max": _seats([3, 3, 3, 3, 3, 0], [0, 0, 2, 2, 2, 2], [0] * 6),
    }
    return Horizon(
        slot_hours=np.array(0.5),
        load=_rows([1, 0.5], [1, 0.5], [2, 0.5], [2, 0.5], [1, 0.5], [1, 0.5]),
        pv=_rows([0, 0], [0, 0], [3, 0], [5, 0], [4, 0], [0, 0]),
        price_buy=_rows(0.2, 0.3, 0.3, 0.4, 0.3, 0.2),
        price_sell=np.full(6, 0.08),
        voltage_base=np.ones((6, 2)),
        flow_base=np.zeros((6, 1)),
        flow_reactive=np.zeros((6, 1)),
        price_ahead=np.zeros((6, 3)),
        plugs=Plugs(**(dict.fromkeys(Plugs._fields, np.zeros((6, 2, 2))) | given)),
    )


def trajectory() -> Trajectory:
    """What was done, see above."""
    zeros, none = np.zeros((6, 2)), np.zeros(6)
    trade = zeros.copy()
    trade[2] = -1.1, 1.1
    buy = _rows([6, 1.5], [2, 0.5], [1.9, 0], [1, 2.5], [0.5, 0.46], [1, 1.5])
    charge = zeros.copy()
    charge[0, 0] = 1
    return Trajectory(
        injection=trade - buy,
        load=horizon().load,
        pv_used=horizon().pv,
        charge=charge,
        discharge=zeros,
        energy=zeros + _rows(2.4, 0),  # 2 + 0.5 * 0.8 * 1
        trade=trade,
        trade_volume=np.abs(trade),
        buy=buy,
        sell=zeros,
        cost=0.1 * buy,
        payment=zeros,
        market_price=_rows([0.2, 0.2], [0.3, 0.3], [0.25, 0.25], [0.4, 0.35], [0.3, 0.3], [0.2, 0.2]),
        nodal_price=zeros,
        unserved=zeros,
        gap=none,
        violation=none,
        violation_row=none.astype(int),
        status=none.astype(int),
        iterations=none.astype(int),
        prim_res=none,
        dual_res=none,
        vehicle_charge=_seats([4, 1, 4, 4, 3.5, 0], [0, 0, 0, 2, 0, 1], [1, 0, 0, 0, 0, 0]),
        vehicle_discharge=_seats([0] * 6, [0, 0, 1.6, 0, 0, 0], [0] * 6),
        # A: 6 + 0.4 c, then 2 + 0.4 c; B: 5 - 0.5 * 1.6 / 0.8, then 0.45 c, and 3 + 0.5 c
        vehicle_energy=_seats([7.6, 8, 3.6, 5.2, 6.6, 0], [0, 0, 4, 4.9, 4.9, 5.38], [3.5, 0, 0, 4, 4, 0]),
    )


def run() -> FakeRun:
    """Two policies that do the same."""
    return FakeRun(
        trajectories=dict.fromkeys(("charge_at_once", "lyapunov"), trajectory()),
        seconds={"charge_at_once": 0.1, "lyapunov": 0.2},
        compile_seconds=1.0,
        perfect_foresight_eur=None,
        perfect_foresight_is_bound=False,
        lower_bound_eur=None,
        terminal_price=TERMINAL_PRICE,
        certificate="nothing is proved on paper",
        row_names=(),
        unserved_price=10.0,
        row_price=5.0,
        perfect_foresight_reasons=(),
    )
