"""The cheapest use of the batteries over some slots of a pool, as one linear program solved again and again.

Given the net injections p of a slot, a pool with fee gamma between tariffs s <= b costs

    cost / dt = sum_i [ g max(p_i, 0) - (s + g) p_i ]  +  (b - s - g) max(- sum_i p_i, 0),

    g = min(gamma, b - s)

(g = b - s: nobody gains by trading; the sum is what everybody pays for himself). So only homes with a battery
have variables, all others enter by their sum, and from one slot to the next only vectors change, never the
matrix. Of the network the plan keeps what limits the exchange of all homes together (the transformer), as an
exact penalty; PV is curtailed, by the community as a whole, where prices or that limit make it pay. Left out:
voltages and the lines inside, elastic load, limits of trades and connections.
"""

from typing import NamedTuple

import numpy as np

from jaxp2p.hindsight.horizon_data import HorizonData
from jaxp2p.hindsight.quadratic_program import QuadraticProgram, RepeatedProgram

SMALLEST = 1e-6  # kW, EUR/kWh: a limit or cost of 0 would leave an interior-point method nowhere to stay


class Outlook(NamedTuple):
    """The slots ahead as a planner sees them; M homes with a battery."""

    net: np.ndarray  # (T, M) kW, PV less load of the homes with a battery
    total: np.ndarray  # (T,) kW, the same of all homes together
    pv: np.ndarray  # (T,) kW, of all homes
    price_buy: np.ndarray  # (T,) EUR/kWh
    price_sell: np.ndarray  # (T,) EUR/kWh
    import_max: np.ndarray  # (T,) kW that the homes together may draw; inf without such a limit
    export_max: np.ndarray  # (T,) kW that they may feed in


class StoragePlan:
    """Plans `slots` ahead for the batteries that there are; the series in `data` are not used."""

    def __init__(self, data: HorizonData, slots: int, *, limited: bool) -> None:
        """limited: whether outlooks have finite limits of the exchange."""
        self.slots, self._data, self._battery = slots, data, data.battery.of(data.battery.owned)
        every = np.ones((slots, len(self._battery.owned)), bool)
        each, qp = np.ones(slots, bool), QuadraticProgram()
        storage = self._battery.with_power(SMALLEST).columns(qp, every, hours=data.slot_hours)
        self._charge, self._discharge, self._energy, self._storage_rows = storage
        self._export = qp.variables(every)  # max(p_i, 0)
        self._import = qp.variables(each)  # max(- sum p_i, 0)
        self._curtail = qp.variables(each)

        self._export_rows = qp.rows(np.zeros(every.shape))
        for index, sign in ((self._discharge, 1.0), (self._charge, -1.0), (self._export, -1.0)):
            qp.put(self._export_rows, index, sign)
        self._import_rows = qp.rows(np.zeros(slots))
        self._curtail_rows = qp.rows(np.zeros(slots))
        qp.put(self._curtail_rows, self._curtail, 1.0)
        self._excess = qp.variables(each & limited)
        self._import_max_rows = qp.rows(np.zeros(slots), mask=each & limited)
        self._export_max_rows = qp.rows(np.zeros(slots), mask=each & limited)
        for rows, sign, excess in (
            (self._import_rows, 1.0, self._import),
            (self._export_max_rows, -1.0, self._excess),
        ):
            qp.put(rows[:, None], self._charge, sign)
            qp.put(rows[:, None], self._discharge, -sign)
            qp.put(rows, self._curtail, sign)
            qp.put(rows, excess, -1.0)
        qp.put(self._import_max_rows, self._import, 1.0)
        qp.put(self._import_max_rows, self._excess, -1.0)
        self._limited, self._program = limited, RepeatedProgram(qp)

    def energies(self, stored: np.ndarray, outlook: Outlook) -> np.ndarray:
        """(T, M) kWh at the end of the slots, from `stored` (M,) kWh at the start of the first.

        Energy at the end is worth data.terminal_price. Raises RuntimeError when Clarabel finds no solution.
        """
        data, dt = self._data, self._data.slot_hours
        buy, sell = outlook.price_buy, outlook.price_sell
        spread = np.maximum(buy - sell, 0)
        fee = np.minimum(data.fee, spread) if data.trading else spread
        worth = (sell + fee)[:, None]
        cost, rhs = np.zeros(self._program.size), np.zeros(self._program.row_count)
        charge_wear, discharge_wear = self._battery.wear_rates
        cost[self._charge] = dt * (worth + charge_wear)
        cost[self._discharge] = dt * (discharge_wear - worth)
        cost[self._export] = dt * np.maximum(fee, SMALLEST)[:, None]
        cost[self._import] = dt * np.maximum(spread - fee, SMALLEST)
        cost[self._curtail] = dt * (sell + data.curtailment_cost.min())
        cost[self._energy[-1]] = -data.terminal_price[data.battery.owned]
        rhs[self._storage_rows[0]] = self._battery.kept(stored)
        rhs[self._export_rows] = -outlook.net
        rhs[self._import_rows] = outlook.total
        rhs[self._curtail_rows] = np.maximum(outlook.pv, SMALLEST)
        if self._limited:
            cost[self._excess] = dt * data.row_penalty
            rhs[self._import_max_rows] = outlook.import_max
            rhs[self._export_max_rows] = outlook.export_max - outlook.total
        scale = dt * max(np.abs(buy).max(), np.abs(sell).max(), 1e-3)
        return self._program.solve(cost / scale, rhs)[self._energy]
