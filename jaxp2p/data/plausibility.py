"""Values that are possible as numbers but not in their unit: W for kW, EUR/MWh for EUR/kWh, volts for p.u.

The limits are far outside what homes on a feeder have, so they stop factors of a thousand and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from jaxp2p.data.blocks import column_blocks
from jaxp2p.data.faults import Fault, row_faults

PRICE_MAX = 10.0  # EUR/kWh; the dearest scarcity hours in Europe stay below 5
PRICE_MIN = 1e-3  # EUR/kWh, for the highest buy price of the whole table
POWER_MAX_LV = 1_000.0  # kW of one member at 1 kV or below: more than any low-voltage busbar carries
POWER_MAX = 50_000.0  # kW of one member at a higher voltage; a busbar with wind parks has 25 MW
POWER_MIN = 0.05  # kW, for the largest device of the whole community
ENERGY_MAX = 100_000.0  # kWh of one battery
ENERGY_MAX_LV = 5_000.0
ENERGY_MIN = 0.1  # kWh, for the largest battery of the whole community
VOLTAGE_MAX = 150.0  # kV
VOLTAGE_MIN = 0.05  # kV
DROP_MAX = 0.05  # p.u. of voltage lost on one branch per kW
RATING_MAX_LV = 20_000.0  # kVA of a branch at 1 kV or below
RATING_MIN = 0.5  # kVA


def unit_faults(frames: dict[str, pd.DataFrame]) -> list[Fault]:
    """Faults for values that look as if they were given in another unit."""
    faults: list[Fault] = []
    if "prices" in frames:
        faults += _prices(frames["prices"])
    if "buses" in frames:
        faults += _buses(frames["buses"])
        if "lines" in frames:
            faults += _lines(frames["buses"], frames["lines"])
    if "trades" in frames:
        faults += _fees("trades", "fee_eur_per_kwh", frames["trades"]["from_id"], frames["trades"])
    if "prosumers" in frames:
        for column in ("wear_cost_eur_per_kwh", "curtailment_cost_eur_per_kwh"):
            faults += _fees("prosumers", column, frames["prosumers"]["prosumer_id"], frames["prosumers"])
        faults += _prosumers(frames["prosumers"], frames.get("profiles"), frames.get("buses"))
    return faults


def _too_large(table: str, column: str, names, values, limit, *, unit: str, hint: str) -> list[Fault]:
    limit = np.broadcast_to(limit, np.shape(values))
    with np.errstate(invalid="ignore"):
        bad = np.isfinite(values) & (np.abs(values) > limit)
    return row_faults(
        table,
        column,
        bad,
        lambda i: f"{names[i]}: {values[i]:g} {unit} is not plausible (above {limit[i]:g}); {hint}",
    )


def _all_too_small(table: str, column: str, values, limit: float, *, unit: str, hint: str) -> list[Fault]:
    """One small member is fine, so only the largest of all is judged."""
    largest = float(np.nanmax(np.abs(values), initial=0.0))
    if 0.0 < largest < limit:
        message = f"the largest value of all is {largest:.3g} {unit}, which is not plausible; {hint}"
        return [Fault(table, column, None, message)]
    return []


def _fees(table: str, column: str, names: pd.Series, frame: pd.DataFrame) -> list[Fault]:
    hint = "it looks like EUR/MWh: divide by 1000"
    values = frame[column].to_numpy()
    return _too_large(table, column, names.to_numpy(), values, PRICE_MAX, unit="EUR/kWh", hint=hint)


def _prices(frame: pd.DataFrame) -> list[Fault]:
    faults = []
    when = frame["time"].astype(str).to_numpy()
    for column in ("buy_eur_per_kwh", "sell_eur_per_kwh"):
        hint = "it looks like EUR/MWh: divide by 1000"
        faults += _too_large(
            "prices", column, when, frame[column].to_numpy(), PRICE_MAX, unit="EUR/kWh", hint=hint
        )
    hint = "it looks like EUR/Wh: multiply by 1000"
    faults += _all_too_small(
        "prices", "buy_eur_per_kwh", frame["buy_eur_per_kwh"].to_numpy(), PRICE_MIN, unit="EUR/kWh", hint=hint
    )
    return faults


def _buses(frame: pd.DataFrame) -> list[Fault]:
    names = frame["bus_id"].to_numpy()
    faults = _too_large(
        "buses",
        "vn_kv",
        names,
        frame["vn_kv"].to_numpy(),
        VOLTAGE_MAX,
        unit="kV",
        hint="it looks like volts: divide by 1000",
    )
    low = frame["vn_kv"].to_numpy()
    faults += row_faults(
        "buses",
        "vn_kv",
        (low > 0) & (low < VOLTAGE_MIN),
        lambda i: f"{names[i]}: {low[i]:g} kV is not plausible; it looks like MV: multiply by 1000",
    )
    limits: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "v_min_pu": lambda v: v > 1.2,
        "v_max_pu": lambda v: (v < 0.8) | (v > 2.0),
        "v_set_pu": lambda v: (v < 0.5) | (v > 2.0),
    }
    for column, implausible in limits.items():
        values = frame[column].to_numpy()
        faults += row_faults(
            "buses",
            column,
            implausible(values),
            lambda i, values=values: (
                f"{names[i]}: {values[i]:g} p.u. is not plausible; "
                "give the voltage over vn_kv (about 1), not volts, kV or percent"
            ),
        )
    return faults


def _lines(buses: pd.DataFrame, lines: pd.DataFrame) -> list[Fault]:
    level = dict(zip(buses["bus_id"], buses["vn_kv"], strict=True))
    ends = [lines[column].map(level).to_numpy(float) for column in ("from_bus", "to_bus")]
    kv = np.fmin(*ends)
    names = lines["line_id"].to_numpy()
    faults = []
    for column in ("r_ohm", "x_ohm"):
        # A drop of DROP_MAX p.u. for one kW; dividing by kV^2 makes one limit right for every voltage level.
        limit = DROP_MAX * 1000.0 * kv**2
        hint = "it looks like milliohm (divide by 1000), or like the higher voltage side of a transformer"
        faults += _too_large("lines", column, names, lines[column].to_numpy(), limit, unit="ohm", hint=hint)
    rating = lines["s_max_kva"].to_numpy()
    limit = np.where(kv <= 1.0, RATING_MAX_LV, np.inf)
    faults += _too_large(
        "lines", "s_max_kva", names, rating, limit, unit="kVA", hint="it looks like VA: divide by 1000"
    )
    faults += row_faults(
        "lines",
        "s_max_kva",
        (rating > 0) & (rating < RATING_MIN),
        lambda i: f"{names[i]}: {rating[i]:g} kVA is not plausible; it looks like MVA: multiply by 1000",
    )
    return faults


def _prosumers(frame: pd.DataFrame, profiles: pd.DataFrame | None, buses: pd.DataFrame | None) -> list[Fault]:
    names = frame["prosumer_id"].to_numpy()
    level = dict(zip(buses["bus_id"], buses["vn_kv"], strict=True)) if buses is not None else {}
    low_voltage = frame["bus_id"].map(level).to_numpy(float) <= 1.0
    power_limit = np.where(low_voltage, POWER_MAX_LV, POWER_MAX)
    energy_limit = np.where(low_voltage, ENERGY_MAX_LV, ENERGY_MAX)
    faults = []
    for column, profile in {"load_kw": "load_profile", "pv_kw": "pv_profile"}.items():
        values = frame[column].to_numpy() * _peaks(frame[profile], profiles)
        hint = f"check the unit of {column} and of the profile: W instead of kW? divide by 1000"
        faults += _too_large(
            "prosumers", column, names, values, power_limit, unit="kW at the peak", hint=hint
        )
        hint = f"check the unit of {column} and of the profiles: MW instead of kW? multiply by 1000"
        faults += _all_too_small("prosumers", column, values, POWER_MIN, unit="kW at the peak", hint=hint)
    for column in ("battery_charge_kw", "battery_discharge_kw"):
        hint = "W instead of kW? divide by 1000"
        faults += _too_large(
            "prosumers", column, names, frame[column].to_numpy(), power_limit, unit="kW", hint=hint
        )
        hint = "MW instead of kW? multiply by 1000"
        faults += _all_too_small(
            "prosumers", column, frame[column].to_numpy(), POWER_MIN, unit="kW", hint=hint
        )
    energy = frame["battery_kwh"].to_numpy()
    hint = "Wh instead of kWh? divide by 1000"
    faults += _too_large("prosumers", "battery_kwh", names, energy, energy_limit, unit="kWh", hint=hint)
    hint = "MWh instead of kWh? multiply by 1000"
    faults += _all_too_small("prosumers", "battery_kwh", energy, ENERGY_MIN, unit="kWh", hint=hint)
    return faults


def _peaks(names: pd.Series, profiles: pd.DataFrame | None) -> np.ndarray:
    """Largest absolute value of each named profile; 1 where there is none to look at."""
    peak = dict.fromkeys(names, 1.0)
    if profiles is not None:
        known = [name for name in peak if name in profiles.columns and name != "time"]
        for some, values in column_blocks(profiles, known):
            finite = np.isfinite(values)
            size = np.abs(values).max(axis=0, initial=0.0, where=finite)
            peak.update(zip(some, np.where(finite.any(axis=0), size, 1.0).tolist(), strict=True))
    return names.map(peak).to_numpy(float)
