"""Model predictive control of all storage: plan a day ahead, do the first slot of it, plan again.

At every slot t batteries and vehicles are planned for the next H slots, with the present slot as it is and a
forecast of all others (`forecasts`), in the pool that `storage_plan` describes:

    minimise  sum over tau = t .. t + H - 1 of the slot costs  -  sum_i v_T E_i(t + H),

a horizon that ends with the days that are run at the latest. What is stored at its end is worth v_T, the
price that every policy is accounted with. Charge and discharge of the first slot are carried out whatever
comes; as the market has no say in them, the schedule of all slots can be made before anything is cleared.

Of vehicles a plan knows those that are plugged in in slot t, with what they want and when they leave, and no
later stay. One that comes while a plan is carried out does no more than it must until the next.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxp2p.hindsight.horizon_data import HorizonData
from jaxp2p.model.devices import Plugged
from jaxp2p.model.devices.arrays import Values
from jaxp2p.planning.forecasts import Forecast, foresee
from jaxp2p.planning.storage_plan import Outlook, StoragePlan, stores


class RollingSchedule(NamedTuple):
    """What batteries and vehicles are told to do, and what it took to find out."""

    charge: np.ndarray  # (T, N) kW
    discharge: np.ndarray  # (T, N) kW
    plans: int  # linear programs solved
    seconds: float
    vehicle_charge: np.ndarray | None = None  # (T, K, N) kW; None, like the next: nobody has a vehicle
    vehicle_discharge: np.ndarray | None = None  # (T, K, N) kW


def rolling_schedule(
    data: HorizonData,
    history: HorizonData,
    forecast: Forecast,
    *,
    window_slots: int,
    slots_per_day: int,
    replan_every: int = 1,
    told: Callable[[int], None] = lambda done: None,
) -> RollingSchedule:
    """Charge and discharge of all slots of `data`, each from a plan that knows the past and `forecast` only.

    The first `replan_every` slots of every plan are carried out. Nothing charges and discharges at once,
    which could pay at negative prices only. `told` hears how many slots are planned. `history` are the slots
    right before, at least a day of them where the forecast `needs_history`. Raises RuntimeError when a plan
    cannot be solved.
    """
    begin = time.perf_counter()
    slots, past, hours, there = len(data.price_buy), len(history.price_buy), data.slot_hours, stores(data)
    law, look = there.law, _Look(data, history, forecast, slots_per_day, there.homes)
    charge, discharge = (np.zeros((slots, *there.place.shape)) for _ in range(2))
    stored: Values = law.energy_start[0]
    plan, plans = StoragePlan(data, there, min(window_slots, slots), limited=look.limited), 0
    for first in range(0, slots if there.place.any() else 0, replan_every):
        length = min(window_slots, slots - first)
        if plan.slots != length:
            plan = StoragePlan(data, there, length, limited=look.limited)
        ahead = law.of(slice(first, first + length))
        known = _known(ahead)
        energy = plan.energies(law.of(first).kept(stored), look.ahead(past + first, length), ahead, known)
        plans += 1
        for step in range(min(replan_every, length)):
            now = law.of(first + step)
            target = np.where(known[step], energy[step], now.kept(stored))
            c, d = now.powers(stored, np.clip(target, now.energy_min, now.energy_max), hours=hours)
            charge[first + step, there.place], discharge[first + step, there.place] = c, d
            stored = now.next_energy(stored, c, d, hours=hours)
        told(first + min(replan_every, length))
    decided = RollingSchedule(charge[:, 0], discharge[:, 0], plans, time.perf_counter() - begin)
    if data.vehicles is None:
        return decided
    return decided._replace(vehicle_charge=charge[:, 1:], vehicle_discharge=discharge[:, 1:])


def _known(law: Plugged) -> np.ndarray:
    """(T, S) bool: what is there in the first slot, for as long as it stays; a battery always."""
    same_stay = np.cumprod(law.retention[1:] > 0, axis=0, dtype=bool)
    return law.owned & np.concatenate([np.ones_like(law.owned[:1]), same_stay])


class _Look:
    """History and window in a row, summed up as in an Outlook: forecasts are linear, sums may come first."""

    def __init__(
        self,
        data: HorizonData,
        history: HorizonData,
        forecast: Forecast,
        slots_per_day: int,
        homes: np.ndarray,
    ) -> None:
        """homes (N,) bool: those with storage."""
        load, pv, buy, sell, offset, lower, upper = (
            np.concatenate([getattr(part, name) for part in (history, data)])
            for name in ("load", "pv", "price_buy", "price_sell", "offset", "lower", "upper")
        )
        net = pv - load
        flexible = data.response.any(0)
        # rows that everybody weighs on alike, one kW per kW: limits of the sum
        alike = np.isclose(data.response[:, flexible], 1).all(1)
        self.limited = bool(alike.any())
        total = net.sum(1)
        beside = offset[:, alike] + (net[:, flexible].sum(1) - total)[:, None]  # flow but for the homes
        import_max = (beside - lower[:, alike]).min(1, initial=np.inf)
        export_max = (upper[:, alike] - beside).min(1, initial=np.inf)
        self._power = np.column_stack([total, pv.sum(1), import_max, export_max, net[:, homes]])
        self._price = np.column_stack([buy, sell])
        self._forecast, self._slots_per_day = forecast, slots_per_day

    def ahead(self, now: int, slots: int) -> Outlook:
        """From row `now` on."""
        pairs = ((self._power, self._forecast.power_days), (self._price, self._forecast.price_days))
        power, price = (
            foresee(record, now, slots, days, slots_per_day=self._slots_per_day) for record, days in pairs
        )
        total, pv, import_max, export_max = power[:, :4].T
        return Outlook(
            net=power[:, 4:],
            total=total,
            pv=pv,
            price_buy=price[:, 0],
            price_sell=price[:, 1],
            import_max=import_max,
            export_max=export_max,
        )
