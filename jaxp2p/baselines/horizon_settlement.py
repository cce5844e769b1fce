"""From the interior-point answer of the horizon QP to an executed dispatch that balances to rounding."""

from typing import Any, NamedTuple

import numpy as np

from jaxp2p.baselines.horizon_qp import HorizonData, HorizonSolution, NetworkRows
from jaxp2p.slot.status import Status
from jaxp2p.trajectory import Trajectory

UNLIMITED = 1e6  # kW; stands for an infinite limit where shares are formed
VISIBLE = 1e-3  # kW; beyond it the status of a slot says so
ROUNDING = 1e-5  # kW; what an interior point leaves beyond a row that it keeps, not worth a penalty


class Settlement(NamedTuple):
    """Trajectory and what it costs besides."""

    trajectory: Trajectory
    penalty_eur: float  # network rows of the QP and unserved energy
    simultaneous_kwh: float  # charged while discharging


def settle(data: HorizonData, found: HorizonSolution, rows: NetworkRows) -> Settlement:
    """Devices inside their limits, trades that cancel, the exchange as the rest, prices and costs."""
    dt = data.slot_hours
    price_nodal = found.price_market - found.row_dual @ data.response
    curtail = np.clip(found.curtail, 0, data.pv)
    shift = np.clip(found.shift, -data.shift_max, data.shift_max)
    charge, discharge, energy = _run_storage(data, found, price_nodal)
    load, pv_used = data.load + shift, data.pv - curtail
    injection = pv_used - load + discharge - charge

    trade = _trades(data, found, injection)
    rest = injection - trade
    sell, buy = np.minimum(np.maximum(rest, 0), data.sell_max), np.minimum(np.maximum(-rest, 0), data.buy_max)
    unserved = np.abs(rest - sell + buy)
    moved = data.charge_efficiency * charge + discharge / data.discharge_efficiency
    cost = dt * (
        data.price_buy[:, None] * buy
        - data.price_sell[:, None] * sell
        + data.fee / 2 * np.abs(trade)
        + data.wear_cost * moved
        + data.curtailment_cost * curtail
        + data.shift_cost * shift**2
    )
    excess = row_excess(data, injection)
    slots = np.zeros(len(data.price_buy))
    beyond = rows.side * excess[rows.slot, rows.row]
    in_qp = beyond[beyond > ROUNDING].sum()
    worst = np.abs(excess).max(1, initial=0.0)
    status = np.where(worst > VISIBLE, Status.NETWORK_VIOLATED, Status.SOLVED)
    status = np.where(unserved.max(1, initial=0.0) > VISIBLE, Status.UNSERVED, status)
    columns: dict[str, Any] = {
        "injection": injection,
        "load": load,
        "pv_used": pv_used,
        "charge": charge,
        "discharge": discharge,
        "energy": energy,
        "trade": trade,
        "trade_volume": np.abs(trade),
        "buy": buy,
        "sell": sell,
        "cost": cost,
        "payment": dt * found.price[:, None] * trade,
        "price_market": found.price_market,
        "price_nodal": price_nodal,
        "unserved": unserved,
        "violation": worst,
        "violation_row": np.abs(excess).argmax(1) if excess.size else slots.astype(int),
        "status": status.astype(np.int32),
        "iterations": slots.astype(np.int32),
        "prim_res": slots,
        "dual_res": slots,
    }
    return Settlement(
        trajectory=Trajectory(**columns),
        penalty_eur=float(dt * (data.row_penalty * in_qp + data.unserved_price * unserved.sum())),
        simultaneous_kwh=float(dt * np.minimum(charge, discharge).sum()),
    )


def row_excess(data: HorizonData, injection: np.ndarray) -> np.ndarray:
    """(T, R) kW beyond the limits of every network row: positive above the upper one."""
    value = data.offset + injection @ data.response.T
    return np.maximum(value - data.upper, 0) + np.minimum(value - data.lower, 0)


def _run_storage(data: HorizonData, found: HorizonSolution, price_nodal: np.ndarray):
    """Follow the energies of the QP exactly; charge and discharge at once only where that pays.

    An interior-point method leaves both positive wherever that costs nothing (no losses, no wear). A kWh
    through both ends takes 1/eta_c - eta_d from the grid and costs 2 kappa: it pays at negative prices only.
    """
    dt, eta_c, eta_d = data.slot_hours, data.charge_efficiency, data.discharge_efficiency
    pays = price_nodal * (1 / eta_c - eta_d) + 2 * data.wear_cost < 0
    overlap = np.where(pays, np.minimum(eta_c * found.charge, found.discharge / eta_d), 0.0)
    target = np.clip(found.energy, data.energy_min, data.energy_max)
    charge, discharge, energy = np.zeros(target.shape), np.zeros(target.shape), np.zeros(target.shape)
    stored = data.energy_start
    for t in range(len(target)):
        flow = (target[t] - data.retention * stored) / dt
        charge[t] = np.clip((np.maximum(flow, 0) + overlap[t]) / eta_c, 0, data.charge_max)
        discharge[t] = np.clip((np.maximum(-flow, 0) + overlap[t]) * eta_d, 0, data.discharge_max)
        stored = data.retention * stored + dt * (eta_c * charge[t] - discharge[t] / eta_d)
        # Rounding only; a battery without power is left to its own decay.
        stored = np.where(data.storage, np.clip(stored, data.energy_min, data.energy_max), stored)
        energy[t] = stored
    return charge, discharge, energy


def _trades(data: HorizonData, found: HorizonSolution, injection: np.ndarray) -> np.ndarray:
    """Net sales to peers (T, N): pro rata to exports and imports, summing to zero in every slot."""
    if not data.trading:
        return np.zeros(injection.shape)
    own, special = found.own, found.own.any(1)
    export, import_ = np.where(own, 0, np.maximum(injection, 0)), np.where(own, 0, np.maximum(-injection, 0))
    total_export, total_import = export.sum(1), import_.sum(1)
    pays = data.price_buy - data.price_sell > data.fee
    volume = np.where(pays, np.minimum(total_export, total_import), 0.0)
    sold, bought = np.where(special, found.sold, volume), np.where(special, found.bought, volume)
    trade = _spread(
        export, sold, total_export, np.where(own, 0, np.minimum(data.buy_max, UNLIMITED) - import_)
    )
    trade -= _spread(
        import_, bought, total_import, np.where(own, 0, np.minimum(data.sell_max, UNLIMITED) - export)
    )
    trade += found.own_trade
    out, into = np.maximum(trade, 0).sum(1), np.maximum(-trade, 0).sum(1)
    cleared = np.minimum(out, into)
    factor_out = np.divide(cleared, out, out=np.zeros(len(out)), where=out > 0)
    factor_in = np.divide(cleared, into, out=np.zeros(len(out)), where=into > 0)
    return trade * np.where(trade > 0, factor_out[:, None], factor_in[:, None])


def _spread(amount: np.ndarray, volume: np.ndarray, total: np.ndarray, room: np.ndarray) -> np.ndarray:
    """`volume` (T,) pro rata to `amount` (T, N) as far as it goes, the rest (resale) pro rata to `room`."""
    share = np.divide(np.minimum(volume, total), total, out=np.zeros(len(total)), where=total > 0)
    resale = np.maximum(volume - total, 0)
    room = np.maximum(room, 0)
    rest = np.divide(resale, room.sum(1), out=np.zeros(len(total)), where=room.sum(1) > 0)
    return amount * share[:, None] + room * rest[:, None]
