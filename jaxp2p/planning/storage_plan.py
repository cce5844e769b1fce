"""The cheapest use of all storage over some slots of a pool, as one linear program solved again and again.

Given the net injections p of a slot, a pool with fee gamma between tariffs s <= b costs

    cost / dt = sum_i [ g max(p_i, 0) - (s + g) p_i ]  +  (b - s - g) max(- sum_i p_i, 0),

    g = min(gamma, b - s)

(g = b - s: nobody gains by trading; the sum is what everybody pays for himself). So only homes with storage
have variables, all others enter by their sum, and from one slot to the next only vectors change, never the
matrix: a vehicle that is away can do nothing, and nothing is asked of it. Of the network the plan keeps what
limits the exchange of all homes together (the transformer), as an exact penalty; PV is curtailed, by the
community as a whole, where prices or that limit make it pay. Left out: voltages and the lines inside, elastic
load, limits of trades and connections.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from jaxp2p.hindsight.horizon_data import HorizonData
from jaxp2p.hindsight.quadratic_program import QuadraticProgram, RepeatedProgram
from jaxp2p.model.devices import Plugged

SMALLEST = 1e-6  # kW, kWh, EUR/kWh: a limit, room or cost of 0 would leave an interior point nowhere to stay
AWAY = 1.0  # kWh, limits of a vehicle that is away are so far from all that it can have


class Outlook(NamedTuple):
    """The slots ahead as a planner sees them; M homes with storage."""

    net: np.ndarray  # (T, M) kW, PV less load of the homes with storage
    total: np.ndarray  # (T,) kW, the same of all homes together
    pv: np.ndarray  # (T,) kW, of all homes
    price_buy: np.ndarray  # (T,) EUR/kWh
    price_sell: np.ndarray  # (T,) EUR/kWh
    import_max: np.ndarray  # (T,) kW that the homes together may draw; inf without such a limit
    export_max: np.ndarray  # (T,) kW that they may feed in


class Stores(NamedTuple):
    """All S storages of the homes in a row: first the batteries, then the vehicles, seat by seat."""

    place: np.ndarray  # (B, N) bool, where they are in `HorizonData.storage`
    law: Plugged  # (T, S)

    @property
    def homes(self) -> np.ndarray:
        """(N,) bool: the M homes that have any."""
        return np.any(self.place, axis=0)

    @property
    def home(self) -> np.ndarray:
        """(S,) in which of the M homes each is."""
        return (np.cumsum(self.homes) - 1)[np.nonzero(self.place)[1]]

    @property
    def widest(self) -> Plugged:
        """(S,): the widest limits that each has over the horizon, as if it were always there."""
        law = self.law
        limits: dict[str, Any] = {
            name: getattr(law, name).max(0) for name in ("energy_max", "discharge_max", "retention")
        }
        limits |= {
            "energy_min": law.energy_min.min(0),
            "charge_max": np.maximum(law.charge_max.max(0), SMALLEST),
        }
        return replace(law.of(0), **limits)


def stores(data: HorizonData) -> Stores:
    """Of these homes."""
    storage = data.storage
    place = storage.owned.any(0)
    return Stores(place, storage.of((slice(None), place)))


class StoragePlan:
    """Plans `slots` ahead for the storage that there is; the series in `data` are not used."""

    def __init__(self, data: HorizonData, there: Stores, slots: int, *, limited: bool) -> None:
        """limited: whether outlooks have finite limits of the exchange."""
        self.slots, self._data, self._storage = slots, data, there.widest
        self._price = data.terminal_price[np.nonzero(there.place)[1]]
        every = np.ones((slots, len(there.home)), bool)
        each, qp = np.ones(slots, bool), QuadraticProgram()
        columns = self._storage.columns(qp, every, hours=data.slot_hours)
        self._charge, self._discharge, self._energy, self._storage_rows = columns
        self._export = qp.variables(np.ones((slots, there.homes.sum()), bool))  # max(p_i, 0)
        self._import = qp.variables(each)  # max(- sum p_i, 0)
        self._curtail = qp.variables(each)

        self._export_rows = qp.rows(np.zeros(self._export.shape))
        at_home = self._export_rows[:, there.home]
        qp.put(at_home, self._discharge, 1.0)
        qp.put(at_home, self._charge, -1.0)
        qp.put(self._export_rows, self._export, -1.0)
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
        self._limited, self._program, self._limits = limited, RepeatedProgram(qp), qp.limits()

    def energies(self, kept: np.ndarray, outlook: Outlook, law: Plugged, there: np.ndarray) -> np.ndarray:
        """(T, S) kWh at the end of the slots, of `kept` (S,) kWh at the start of the first.

        law (T, S) where `there` (T, S) bool; elsewhere nothing is known of a storage. Energy that is there at
        the end is worth data.terminal_price. Raises RuntimeError when Clarabel finds no solution.
        """
        data, dt = self._data, self._data.slot_hours
        buy, sell = outlook.price_buy, outlook.price_sell
        spread = np.maximum(buy - sell, 0)
        fee = np.minimum(data.fee, spread) if data.trading else spread
        worth = (sell + fee)[:, None]
        cost, rhs = np.zeros(self._program.size), np.zeros(self._program.row_count)
        charge_wear, discharge_wear = self._storage.wear_rates
        _put(cost, self._charge, dt * (worth + charge_wear))
        _put(cost, self._discharge, dt * (discharge_wear - worth))
        cost[self._export] = dt * np.maximum(fee, SMALLEST)[:, None]
        cost[self._import] = dt * np.maximum(spread - fee, SMALLEST)
        cost[self._curtail] = dt * (sell + data.curtailment_cost.min())
        cost[self._energy[-1]] = -self._price * there[-1]
        rhs[self._storage_rows[0]] = kept
        rhs[self._export_rows] = -outlook.net
        rhs[self._import_rows] = outlook.total
        rhs[self._curtail_rows] = np.maximum(outlook.pv, SMALLEST)
        if self._limited:
            cost[self._excess] = dt * data.row_penalty
            rhs[self._import_max_rows] = outlook.import_max
            rhs[self._export_max_rows] = outlook.export_max - outlook.total
        lower, upper = (limit.copy() for limit in self._limits)
        _put(upper, self._charge, np.maximum(law.charge_max * there, SMALLEST))
        _put(upper, self._discharge, np.maximum(law.discharge_max * there, SMALLEST))
        lower[self._energy] = np.where(there, np.minimum(law.energy_min, law.energy_max - SMALLEST), -AWAY)
        upper[self._energy] = np.where(there, law.energy_max, self._storage.energy_max + AWAY)
        scale = dt * max(np.abs(buy).max(), np.abs(sell).max(), 1e-3)
        return self._program.solve(cost / scale, rhs, (lower, upper))[self._energy]


def _put(vector: np.ndarray, index: np.ndarray, values: np.ndarray) -> None:
    """Set entries of a vector; those with an index of -1 fall away."""
    keep = index >= 0
    vector[index[keep]] = np.broadcast_to(values, index.shape)[keep]
