"""What the horizon QP knows: one pool, its members and the rows of its network, in float64 on the host."""

from typing import NamedTuple

import numpy as np

from jaxp2p.model.devices import PV, Battery, Load, Plugged
from jaxp2p.model.devices.vehicle import beside


class HorizonData(NamedTuple):
    """The horizon in float64 numpy; symbols as in the slot model."""

    slot_hours: float  # h
    load: np.ndarray  # (T, N) kW
    pv: np.ndarray  # (T, N) kW
    price_buy: np.ndarray  # (T,) EUR/kWh
    price_sell: np.ndarray  # (T,) EUR/kWh
    trading: bool  # False: market "none"
    fee: float  # EUR/kWh, gamma
    trade_limit: np.ndarray  # (N,) kW, bound on |sum_j e_ij|
    buy_max: np.ndarray  # (N,) kW
    sell_max: np.ndarray  # (N,) kW
    unserved_price: float  # EUR/kWh beyond the tariffs
    curtailment_cost: np.ndarray  # (N,) EUR/kWh
    shift_max: np.ndarray  # (T, N) kW by which the load may move either way
    shift_cost: np.ndarray  # (N,) EUR/(kW^2 h)
    battery: Battery  # (N,), numpy leaves
    terminal_price: np.ndarray  # (N,) EUR/kWh, v_T
    row_penalty: float  # EUR/kWh
    response: np.ndarray  # (R, N) kW of the row per kW of injection
    offset: np.ndarray  # (T, R) kW
    lower: np.ndarray  # (T, R) kW
    upper: np.ndarray  # (T, R) kW
    vehicles: Plugged | None = None  # (T, K, N), numpy leaves
    vehicles_begun: np.ndarray | None = None  # (K, N) kWh, see `vehicle.begun`

    @property
    def storage(self) -> Plugged:
        """Batteries and vehicles, (T, B, N) of B = 1 + K places of every home."""
        return beside(self.battery, self.vehicles, slots=len(self.price_buy))

    @property
    def begun(self) -> np.ndarray:
        """(B, N) kWh, with which the gain at the end is compared."""
        start = np.asarray(self.battery.energy_start)[None]
        return start if self.vehicles_begun is None else np.concatenate([start, self.vehicles_begun])

    @property
    def plants(self) -> PV:
        """The PV plants, (T, N)."""
        return PV(available=self.pv, curtailment_cost=self.curtailment_cost)

    @property
    def loads(self) -> Load:
        """The loads, (T, N)."""
        return Load(
            reference=self.load,
            least=self.load - self.shift_max,
            most=self.load + self.shift_max,
            discomfort_cost=self.shift_cost,
        )


class NetworkRows(NamedTuple):
    """The network limits that are in the QP: limit `side` (+1 upper, -1 lower) of row `row` in `slot`."""

    slot: np.ndarray  # (M,)
    row: np.ndarray  # (M,)
    side: np.ndarray  # (M,)
