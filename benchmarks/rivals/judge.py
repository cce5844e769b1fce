"""The pass rule of every comparison (docs/concepts/certificate.md), on the point that a solver returns.

Written in numpy and float64, apart from the package, so that the solver does not grade itself.
"""

from typing import NamedTuple

import numpy as np

from jaxp2p.slot.problem import SlotProblem
from rivals.lean import host

GAP, POWER_KW, VOLTAGE_PU, STORAGE_KWH = 1e-3, 0.05, 1e-4, 1e-4


class Verdict(NamedTuple):
    """One slot of one solver."""

    passed: bool
    objective: float  # EUR, slot cost + drift
    gap: float  # relative, signed
    scale: float  # EUR that the gap refers to
    power_violation: float  # kW
    voltage_violation: float  # p.u.
    storage_violation: float  # kWh


def objective(p: dict, fee: np.ndarray, point: dict) -> float:
    """Slot cost + exact drift in EUR (for a value of energy that stays >= 0)."""
    dt, eta_c, eta_d = p["slot_hours"], p["charge_efficiency"], p["discharge_efficiency"]
    moved = eta_c * point["charge"] + point["discharge"] / eta_d
    cost = p["price_buy"] * point["buy"].sum() - p["price_sell"] * point["sell"].sum()
    cost += (fee * np.abs(point["trades"])).sum() / 2 + (p["wear_cost"] * moved).sum()
    cost += (p["curtailment_cost"] * (p["pv_max"] - point["pv_used"])).sum()
    stored = dt * (eta_c * point["charge"] - point["discharge"] / eta_d)
    # charging and discharging are priced apart, as in the slot problem
    up, down = dt * eta_c * point["charge"], dt * point["discharge"] / eta_d
    drift = -(p["value"] * stored).sum() + (p["value_slope"] * (up**2 + down**2)).sum() / 2
    return float(dt * cost + drift)


def judge(problem: SlotProblem, point: dict, optimum: float, *, bound_only: bool = False) -> Verdict:
    """`optimum` EUR; with bound_only it is a lower bound of it, which makes the rule stricter."""
    p, market, feeder = host(problem), problem.market, problem.feeder
    trades, injection = point["trades"], point["injection"]
    value = objective(p, np.asarray(market.fee, float), point)
    spread = max(float(p["price_buy"] - p["price_sell"]), 0.01)
    has = sum(float(p[name].sum()) for name in ("load", "pv_max", "charge_max", "discharge_max"))
    scale = max(abs(optimum), 0.1 * float(p["slot_hours"]) * spread * has, 1e-6)
    gap = (value - optimum) / scale

    devices = point["pv_used"] - p["load"] + point["discharge"] - point["charge"]
    faults = [devices - injection, injection - (point["sell"] - point["buy"] + trades.sum(0))]
    if market.kind == "pool":
        faults.append(trades.sum(keepdims=True))
    elif market.kind == "bilateral":
        faults.append(
            (trades + trades.reshape(-1)[np.asarray(market.reverse)]) * (np.asarray(market.limit) > 0)
        )
    faults += [point["pv_used"] - p["pv_max"], -point["pv_used"], -point["buy"], -point["sell"]]
    power = max(float(np.abs(f).max()) for f in faults[:-4])
    power = max(power, *(float(f.max()) for f in faults[-4:]))

    at_bus = np.zeros(feeder.count.shape[0])
    np.add.at(at_bus, np.asarray(feeder.group), injection * np.asarray(feeder.flexible, float))
    row = (np.asarray(feeder.matrix, float) @ at_bus + p["row_offset"]) * np.asarray(feeder.scale, float)
    low, high = (p[k] * np.asarray(feeder.scale, float) for k in ("row_lower", "row_upper"))
    volts = feeder.voltage_bus.shape[0]
    # rows may be counted from any reference, so the square is linearised: v near 1 p.u.
    voltage = float(np.maximum(row - high, low - row)[:volts].max(initial=0)) / 2
    flow = np.maximum(row - high, low - row)[volts:]
    power, voltage = max(power, float(flow.max(initial=0))), max(voltage, 0.0)

    over = [point[k] - p[f"{k}_max"] for k in ("charge", "discharge")]
    over += [p[f"{k}_min"] - point[k] for k in ("charge", "discharge")]
    storage = float(p["slot_hours"]) * max(0.0, *(float(x.max()) for x in over))
    close = gap <= GAP if bound_only else abs(gap) <= GAP
    passed = bool(close and power < POWER_KW and voltage < VOLTAGE_PU and storage < STORAGE_KWH)
    return Verdict(passed, value, gap, scale, power, voltage, storage)


def binding(problem: SlotProblem, injection: np.ndarray) -> bool:
    """Whether a row lies within 1e-6 p.u. (voltage) of its limit."""
    p, feeder = host(problem), problem.feeder
    at_bus = np.zeros(feeder.count.shape[0])
    np.add.at(at_bus, np.asarray(feeder.group), injection * np.asarray(feeder.flexible, float))
    row = np.asarray(feeder.matrix, float) @ at_bus + p["row_offset"]
    room = np.minimum(p["row_upper"] - row, row - p["row_lower"]) * np.asarray(feeder.scale, float)
    return bool(room.min() < 2e-6)
