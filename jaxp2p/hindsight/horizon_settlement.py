"""From the interior-point answer of the horizon QP to an executed dispatch that balances to rounding."""

from typing import Any, NamedTuple

import numpy as np

from jaxp2p.hindsight import merit
from jaxp2p.hindsight.horizon_data import HorizonData, NetworkRows
from jaxp2p.hindsight.horizon_qp import HorizonSolution, solve_horizon
from jaxp2p.model.trajectory import Trajectory
from jaxp2p.model.utility import exchange_cost
from jaxp2p.slot.status import Status

VISIBLE = 1e-3  # kW; beyond it the status of a slot says so
ROUNDING = 1e-5  # kW; what an interior point leaves beyond a row that it keeps, not worth a penalty
CLEAR = 1e-6  # of the largest price; smaller gains are the rounding of an interior point's duals
ALIKE = 1e-6  # of what load and PV are worth; within it two ways to clear a slot cost the same
CLEARED = ("curtail", "shift")  # what a slot decides besides storage and what follows from its injections


class Settlement(NamedTuple):
    """Trajectory and what it costs besides."""

    trajectory: Trajectory
    unserved_eur: float  # load that was not served at b + u, generation that was spilled at u - s
    penalty_eur: float  # network rows of the QP
    simultaneous_kwh: float  # charged while discharging


class _Executed(NamedTuple):
    """Devices inside their limits and what they cost."""

    charge: np.ndarray  # (T, B, N) kW
    discharge: np.ndarray  # (T, B, N) kW
    energy: np.ndarray  # (T, B, N) kWh
    curtail: np.ndarray  # (T, N) kW
    shift: np.ndarray  # (T, N) kW
    injection: np.ndarray  # (T, N) kW
    trade: np.ndarray  # (T, N) kW
    sell: np.ndarray  # (T, N) kW
    buy: np.ndarray  # (T, N) kW
    unserved: np.ndarray  # (T, N) kW, > 0: short, < 0: spilled
    excess: np.ndarray  # (T, R) kW
    cost: np.ndarray  # (T, N) EUR
    unserved_cost: np.ndarray  # (T,) EUR
    penalty: np.ndarray  # (T,) EUR


def settle(data: HorizonData, found: HorizonSolution, rows: NetworkRows) -> Settlement:
    """Devices inside their limits, the pool cleared at their injections, and the exchange as the rest.

    Charging and discharging at once (o kWh in the cells, o (1/eta_c - eta_d) from the grid, wear 2 kappa o)
    stays where it pays: at negative nodal prices only. Where it costs nothing, at a nodal price of 0, the QP
    burns energy that PV could as well not have made, and an interior point does some of both. The batteries
    are then netted, which needs the slot to be cleared again, since somebody has to curtail more. A slot
    that would become dearer keeps what the QP does: the energies of the QP leave more than PV to burn.
    """
    nodal_price, storage = found.nodal_price(data), data.storage
    loss = 1 / storage.charge_efficiency - storage.discharge_efficiency
    overlap = storage.both(found.charge, found.discharge)
    pays = nodal_price[:, None] * loss + 2 * storage.wear_cost < -CLEAR * _largest_price(data)
    paying = np.where(pays, overlap, 0.0)
    tied = ((overlap - paying) * loss).sum((1, 2)) > ROUNDING  # slots
    done = _execute(data, found, rows, paying)
    if tied.any():
        netted = _clear_again(data, found, rows, done, np.flatnonzero(tied))
        both = np.where(tied[:, None, None], overlap, paying)
        burnt, done = _execute(data, found, rows, both), _execute(data, netted, rows, paying)
        before, after = (x.cost.sum(1) + x.unserved_cost + x.penalty for x in (burnt, done))
        size = data.slot_hours * _largest_price(data) * (data.load + data.pv).sum(1)
        keep = tied & (after > before + ALIKE * size)
        if keep.any():
            chosen = _choose(keep, found, netted)
            done = _execute(data, chosen, rows, np.where(keep[:, None, None], overlap, paying))
    worst = np.abs(done.excess).max(1, initial=0.0)
    status = np.where(worst > VISIBLE, Status.NETWORK_VIOLATED, Status.SOLVED)
    status = np.where(np.abs(done.unserved).max(1, initial=0.0) > VISIBLE, Status.UNSERVED, status)
    slots = np.zeros(len(data.price_buy))
    columns: dict[str, Any] = {
        "injection": done.injection,
        "load": data.load + done.shift,
        "pv_used": data.pv - done.curtail,
        "charge": done.charge[:, 0],
        "discharge": done.discharge[:, 0],
        "energy": done.energy[:, 0],
        "trade": done.trade,
        "trade_volume": np.abs(done.trade),
        "buy": done.buy,
        "sell": done.sell,
        "cost": done.cost,
        "payment": data.slot_hours * found.price[:, None] * done.trade,
        "market_price": found.market_price,
        "nodal_price": nodal_price,
        "unserved": done.unserved,
        "gap": slots,
        "violation": worst,
        "violation_row": np.abs(done.excess).argmax(1) if done.excess.size else slots.astype(int),
        "status": status.astype(np.int32),
        "iterations": slots.astype(np.int32),
        "prim_res": slots,
        "dual_res": slots,
        "fee": data.slot_hours * data.fee / 2 * np.abs(done.trade),
        "trades": done.trade[:, None, :],
        "trade_price": np.broadcast_to(found.price[:, None, None], (len(slots), 1, done.trade.shape[1])),
    }
    if data.vehicles is not None:
        for name in ("charge", "discharge", "energy"):
            columns[f"vehicle_{name}"] = getattr(done, name)[:, 1:]
    return Settlement(
        trajectory=Trajectory(**columns),
        unserved_eur=float(done.unserved_cost.sum()),
        penalty_eur=float(done.penalty.sum()),
        simultaneous_kwh=float(data.slot_hours * np.minimum(done.charge, done.discharge).sum()),
    )


def _execute(data: HorizonData, found: HorizonSolution, rows: NetworkRows, overlap: np.ndarray) -> _Executed:
    """The answer carried out, with `overlap` (T, B, N) kW in the cells charged while discharging."""
    dt = data.slot_hours
    curtail = np.clip(found.curtail, 0, data.pv)
    shift = np.clip(found.shift, -data.shift_max, data.shift_max)
    charge, discharge, energy = _run_storage(data, found, overlap)
    injection = data.pv - curtail - data.load - shift + discharge.sum(1) - charge.sum(1)
    trade = merit.clear(data, injection)
    buy, sell, unserved = merit.exchange(data, injection - trade)
    cost = dt * (
        exchange_cost(data.price_buy[:, None], data.price_sell[:, None], buy, sell)
        + data.fee / 2 * np.abs(trade)
        + data.storage.wear(charge, discharge).sum(1)
        + data.plants.curtailment(curtail)
        + data.loads.discomfort(shift)
    )
    excess = row_excess(data, injection)
    beyond = rows.side * excess[rows.slot, rows.row]
    penalty = np.zeros(len(injection))
    np.add.at(penalty, rows.slot, data.row_penalty * np.where(beyond > ROUNDING, beyond, 0.0))
    return _Executed(
        charge=charge,
        discharge=discharge,
        energy=energy,
        curtail=curtail,
        shift=shift,
        injection=injection,
        trade=trade,
        sell=sell,
        buy=buy,
        unserved=unserved,
        excess=excess,
        cost=cost,
        unserved_cost=dt * merit.unserved_cost(data, unserved).sum(1),
        penalty=dt * penalty,
    )


def _clear_again(
    data: HorizonData, found: HorizonSolution, rows: NetworkRows, done: _Executed, slots: np.ndarray
) -> HorizonSolution:
    """`found` with these slots at their best for the charge and discharge of `done`; duals as they were."""
    chosen = np.isin(rows.slot, slots)
    part = data._replace(
        load=(data.load + done.charge.sum(1) - done.discharge.sum(1))[slots],
        battery=data.battery.without_power(),
        vehicles=None,
        vehicles_begun=None,
        **{
            name: getattr(data, name)[slots]
            for name in ("pv", "price_buy", "price_sell", "shift_max", "offset", "lower", "upper")
        },
    )
    place = np.searchsorted(slots, rows.slot[chosen])
    again = solve_horizon(part, NetworkRows(place, rows.row[chosen], rows.side[chosen]))
    whole: dict[str, Any] = {}
    for name in CLEARED:
        whole[name] = getattr(found, name).copy()
        whole[name][slots] = getattr(again, name)
    return found._replace(**whole)


def _choose(keep: np.ndarray, one: HorizonSolution, other: HorizonSolution) -> HorizonSolution:
    """`other` with the slots `keep` (T,) of `one`."""
    pick = lambda a, b: np.where(keep.reshape(-1, *(1,) * (a.ndim - 1)), a, b)
    mixed: dict[str, Any] = {name: pick(getattr(one, name), getattr(other, name)) for name in CLEARED}
    return other._replace(**mixed)


def _largest_price(data: HorizonData) -> float:
    return max(np.abs(data.price_buy).max(), np.abs(data.price_sell).max(), 1e-3)


def row_excess(data: HorizonData, injection: np.ndarray) -> np.ndarray:
    """(T, R) kW beyond the limits of every network row: positive above the upper one."""
    value = data.offset + injection @ data.response.T
    return np.maximum(value - data.upper, 0) + np.minimum(value - data.lower, 0)


def _run_storage(data: HorizonData, found: HorizonSolution, overlap: np.ndarray):
    """Follow the energies of the QP exactly, with `overlap` (T, B, N) kW in the cells both ways at once."""
    storage, hours = data.storage, data.slot_hours
    target = np.clip(found.energy, storage.energy_min, storage.energy_max)
    charge, discharge, energy = np.zeros(target.shape), np.zeros(target.shape), np.zeros(target.shape)
    stored = storage.energy_start[0]
    for t in range(len(target)):
        now = storage.of(t)
        charge[t], discharge[t] = now.powers(stored, target[t], hours=hours, overlap=overlap[t])
        stored = now.next_energy(stored, charge[t], discharge[t], hours=hours)
        # Rounding only; a battery without power is left to its own decay.
        stored = np.where(now.owned, np.clip(stored, now.energy_min, now.energy_max), stored)
        energy[t] = stored
    return charge, discharge, energy
