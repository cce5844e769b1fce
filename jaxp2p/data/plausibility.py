"""Values that are possible as numbers but not in their unit: W for kW, EUR/MWh for EUR/kWh, volts for p.u.

The limits are far outside what homes on a feeder have, so they stop factors of a thousand and nothing else.
Each judgement has a name by which the user may overrule it. What is judged is the whole data, never a window
of it: a night has no PV, and a calm day no dear hour.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxp2p.data.blocks import column_blocks
from jaxp2p.data.faults import Fault, row_faults
from jaxp2p.data.names import distinct
from jaxp2p.data.price_sense import PriceFigures, fee_hint, price_figures, price_judgements

FEE_MAX = 10.0  # EUR/kWh of a fee, of wear or of curtailed energy
FEE_USUAL = 1.0  # EUR/kWh, above it a fee is remarked upon
POWER_MAX_LV = 1_000.0  # kW of one member at 1 kV or below: more than any low-voltage busbar carries
POWER_MAX = 50_000.0  # kW of one member at a higher voltage; a busbar with wind parks has 25 MW
POWER_MIN = 0.05  # kW, for the largest device of the whole community
ENERGY_MAX = 100_000.0  # kWh of one battery
ENERGY_MAX_LV = 5_000.0
ENERGY_MIN = 0.1  # kWh, for the largest battery of the whole community
VEHICLE_POWER_MAX = 400.0  # kW of one vehicle: the fastest chargers of cars
VEHICLE_ENERGY_MAX = 1_000.0  # kWh of one vehicle; a lorry has up to 900
VEHICLE_ENERGY_MIN = 0.2  # kWh, for the largest vehicle of the whole community
VOLTAGE_MAX = 150.0  # kV
VOLTAGE_MIN = 0.05  # kV
DROP_MAX = 0.05  # p.u. of voltage lost on one branch per kW
RATING_MAX_LV = 20_000.0  # kVA of a branch at 1 kV or below
RATING_MIN = 0.5  # kVA


JUDGEMENTS = {
    "price_high": "the typical price is above that of any tariff (ct/kWh, EUR/MWh?)",
    "price_low": "the highest price is below that of any tariff",
    "price_spike": "a price beyond 100 EUR/kWh; remarked upon from 1 EUR/kWh on",
    "fee_high": "a fee, a wear or curtailment cost beyond 10 EUR/kWh; remarked upon from 1 EUR/kWh on",
    "voltage_level": "a nominal voltage below 50 V or above 150 kV",
    "voltage_limits": "a voltage or its limit far from 1 p.u.",
    "impedance_high": "a branch that loses 5 % of the voltage for each kW",
    "rating_high": "more than 20 MVA on a branch of low voltage",
    "rating_low": "less than 0.5 kVA on a branch",
    "load_high": "more than 1 MW of a member at low voltage, 10 MW above",
    "load_low": "no member with 50 W",
    "pv_high": "as load_high, for PV",
    "pv_low": "as load_low, for PV",
    "battery_power_high": "as load_high, for batteries",
    "battery_power_low": "as load_low, for batteries",
    "battery_energy_high": "more than 5 MWh of a member at low voltage, 100 MWh above",
    "battery_energy_low": "no battery with 0.1 kWh",
    "vehicle_power_high": "more than 400 kW into or out of a vehicle",
    "vehicle_power_low": "no vehicle with 50 W",
    "vehicle_energy_high": "more than 1 MWh in a vehicle",
    "vehicle_energy_low": "no vehicle with 0.2 kWh",
}
"""What is judged, by the name that overrules it."""


class Whole(NamedTuple):
    """What is judged of the whole data when only a window of them is at hand."""

    peaks: dict[str, float]  # largest absolute value of every profile
    prices: dict[str, PriceFigures]


def whole_of(frames: dict[str, pd.DataFrame]) -> Whole:
    """The figures of all rows."""
    profiles, prices = frames["profiles"], frames["prices"]
    peaks = _largest(profiles, profiles.columns.drop("time").to_numpy(object).tolist())
    columns = [column for column in prices.columns if column != "time"]
    return Whole(peaks, {column: price_figures(prices[column].to_numpy(float)) for column in columns})


def check_accept(names: Iterable[str]) -> tuple[str, ...]:
    """The names without repetition, if they are those of judgements.

    Raises ValueError.
    """
    names = (names,) if isinstance(names, str) else tuple(dict.fromkeys(names))
    for name in names:
        if name not in JUDGEMENTS:
            close = difflib.get_close_matches(str(name), JUDGEMENTS, n=1)
            hint = f'; did you mean "{close[0]}"?' if close else ""
            raise ValueError(
                f"there is no judgement of plausibility named {name!r}{hint} (there are "
                f"{', '.join(JUDGEMENTS)})"
            )
    return names


def judge(
    frames: dict[str, pd.DataFrame], *, accept: Iterable[str] = (), whole: Whole | None = None
) -> tuple[list[Fault], list[Fault]]:
    """Faults for values that look as if they were given in another unit, and remarks on unusual ones.

    accept: judgements that are overruled: what they find wrong becomes a remark, what they remark upon is
    left out. whole: of the data that the frames are a window of, by default of the frames.
    """
    faults, remarks = unit_faults(frames, whole=whole)
    accept = frozenset(accept)
    taken = [fault for fault in faults if fault.name in accept]
    faults = [fault for fault in faults if fault.name not in accept]
    return faults, taken + [remark for remark in remarks if remark.name not in accept]


def unit_faults(
    frames: dict[str, pd.DataFrame], *, whole: Whole | None = None
) -> tuple[list[Fault], list[Fault]]:
    """All faults and remarks, none of them overruled."""
    faults: list[Fault] = []
    remarks: list[Fault] = []
    if "prices" in frames:
        faults, remarks = price_judgements(frames["prices"], whole.prices if whole else None)
    if "buses" in frames:
        faults += _buses(frames["buses"])
        if "lines" in frames:
            faults += _lines(frames["buses"], frames["lines"])
    costs = [("trades", "fee_eur_per_kwh", "from_id")]
    costs += [("prosumers", f"{kind}_cost_eur_per_kwh", "prosumer_id") for kind in ("wear", "curtailment")]
    costs += [("ev_sessions", "wear_cost_eur_per_kwh", "vehicle_id")]
    for table, column, key in costs:
        if table in frames:
            faults += _fees(table, column, frames[table][key], frames[table], above=FEE_MAX)
            if not faults or (faults[-1].table, faults[-1].column) != (table, column):
                remarks += _fees(table, column, frames[table][key], frames[table], above=FEE_USUAL)[:1]
    if "prosumers" in frames:
        peaks = whole.peaks if whole else None
        faults += _prosumers(frames["prosumers"], frames.get("profiles"), frames.get("buses"), peaks)
    if "ev_sessions" in frames:
        faults += _vehicles(frames["ev_sessions"])
    return faults, remarks


def _too_large(
    table: str, column: str, names, values, limit, *, unit: str, hint: str, judgement: str
) -> list[Fault]:
    limit = np.broadcast_to(limit, np.shape(values))
    with np.errstate(invalid="ignore"):
        bad = np.isfinite(values) & (np.abs(values) > limit)
    return row_faults(
        table,
        column,
        bad,
        lambda i: f"{names[i]}: {values[i]:g} {unit} is not plausible (above {limit[i]:g}); {hint}",
        name=judgement,
    )


def _all_too_small(
    table: str, column: str, values, limit: float, *, unit: str, hint: str, judgement: str
) -> list[Fault]:
    """One small member is fine, so only the largest of all is judged."""
    most = float(np.nanmax(np.abs(values), initial=0.0))
    if 0.0 < most < limit:
        message = f"the largest value of all is {most:.3g} {unit}, which is not plausible; {hint}"
        return [Fault(table, column, None, message, judgement)]
    return []


def _fees(table: str, column: str, names: pd.Series, frame: pd.DataFrame, *, above: float) -> list[Fault]:
    values, names = frame[column].to_numpy(), names.to_numpy()
    return row_faults(
        table,
        column,
        np.isfinite(values) & (np.abs(values) > above),
        lambda i: f"{names[i]}: {values[i]:g} EUR/kWh is not plausible; {fee_hint(values[i])}",
        name="fee_high",
    )


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
        judgement="voltage_level",
    )
    low = frame["vn_kv"].to_numpy()
    faults += row_faults(
        "buses",
        "vn_kv",
        (low > 0) & (low < VOLTAGE_MIN),
        lambda i: f"{names[i]}: {low[i]:g} kV is not plausible; it looks like MV: multiply by 1000",
        name="voltage_level",
    )
    limits: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "v_min_pu": lambda v: v > 1.2,
        "v_max_pu": lambda v: (v < 0.8) | (v > 2.0),
        "v_set_pu": lambda v: (v < 0.5) | (v > 2.0),
    }
    for column, implausible in limits.items():
        values = frame[column].to_numpy()

        def text(i: int, values: np.ndarray = values) -> str:
            return (
                f"{names[i]}: {values[i]:g} p.u. is not plausible; "
                "give the voltage over vn_kv (about 1), not volts, kV or percent"
            )

        faults += row_faults("buses", column, implausible(values), text, name="voltage_limits")
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
        values = lines[column].to_numpy()
        faults += _too_large(
            "lines", column, names, values, limit, unit="ohm", hint=hint, judgement="impedance_high"
        )
    rating = lines["s_max_kva"].to_numpy()
    limit = np.where(kv <= 1.0, RATING_MAX_LV, np.inf)
    hint = "it looks like VA: divide by 1000"
    faults += _too_large(
        "lines", "s_max_kva", names, rating, limit, unit="kVA", hint=hint, judgement="rating_high"
    )
    faults += row_faults(
        "lines",
        "s_max_kva",
        (rating > 0) & (rating < RATING_MIN),
        lambda i: f"{names[i]}: {rating[i]:g} kVA is not plausible; it looks like MVA: multiply by 1000",
        name="rating_low",
    )
    return faults


def _prosumers(
    frame: pd.DataFrame,
    profiles: pd.DataFrame | None,
    buses: pd.DataFrame | None,
    peaks: dict[str, float] | None,
) -> list[Fault]:
    names = frame["prosumer_id"].to_numpy()
    level = dict(zip(buses["bus_id"], buses["vn_kv"], strict=True)) if buses is not None else {}
    low_voltage = frame["bus_id"].map(level).to_numpy(float) <= 1.0
    power_limit = np.where(low_voltage, POWER_MAX_LV, POWER_MAX)
    energy_limit = np.where(low_voltage, ENERGY_MAX_LV, ENERGY_MAX)
    faults = []
    for column, profile, kind in (("load_kw", "load_profile", "load"), ("pv_kw", "pv_profile", "pv")):
        faults += _sizes(
            "prosumers",
            column,
            names,
            frame[column].to_numpy() * _peaks(frame[profile], profiles, peaks),
            power_limit,
            POWER_MIN,
            unit="kW at the peak",
            large=f"check the unit of {column} and of the profile: W instead of kW? divide by 1000",
            small=f"check the unit of {column} and of the profiles: MW instead of kW? multiply by 1000",
            kind=kind,
        )
    for column in ("battery_charge_kw", "battery_discharge_kw"):
        faults += _powers("prosumers", column, names, frame, power_limit, kind="battery_power")
    faults += _energies(
        "prosumers", "battery_kwh", names, frame, energy_limit, ENERGY_MIN, kind="battery_energy"
    )
    return faults


def _vehicles(frame: pd.DataFrame) -> list[Fault]:
    names = frame["vehicle_id"].to_numpy()
    faults = []
    for column in ("charge_kw", "discharge_kw"):
        faults += _powers("ev_sessions", column, names, frame, VEHICLE_POWER_MAX, kind="vehicle_power")
    faults += _energies(
        "ev_sessions",
        "battery_kwh",
        names,
        frame,
        VEHICLE_ENERGY_MAX,
        VEHICLE_ENERGY_MIN,
        kind="vehicle_energy",
    )
    return faults


def _powers(table: str, column: str, names, frame: pd.DataFrame, most, *, kind: str) -> list[Fault]:
    large, small = "W instead of kW? divide by 1000", "MW instead of kW? multiply by 1000"
    values = frame[column].to_numpy()
    return _sizes(
        table, column, names, values, most, POWER_MIN, unit="kW", large=large, small=small, kind=kind
    )


def _energies(
    table: str, column: str, names, frame: pd.DataFrame, most, least: float, *, kind: str
) -> list[Fault]:
    large, small = "Wh instead of kWh? divide by 1000", "MWh instead of kWh? multiply by 1000"
    values = frame[column].to_numpy()
    return _sizes(table, column, names, values, most, least, unit="kWh", large=large, small=small, kind=kind)


def _sizes(
    table: str,
    column: str,
    names,
    values,
    most,
    least: float,
    *,
    unit: str,
    large: str,
    small: str,
    kind: str,
) -> list[Fault]:
    return [
        *_too_large(table, column, names, values, most, unit=unit, hint=large, judgement=f"{kind}_high"),
        *_all_too_small(table, column, values, least, unit=unit, hint=small, judgement=f"{kind}_low"),
    ]


def _peaks(names: pd.Series, profiles: pd.DataFrame | None, known: dict[str, float] | None) -> np.ndarray:
    """Largest absolute value of each named profile; 1 where there is none to look at."""
    peak = dict.fromkeys(distinct(names), 1.0)
    if profiles is not None:
        unknown = [name for name in peak if name in profiles.columns and name != "time"]
        peak |= _largest(profiles, [name for name in unknown if known is None or name not in known])
    if known is not None:
        peak |= {name: known[name] for name in peak if name in known}
    return names.map(peak).to_numpy(float)


def _largest(profiles: pd.DataFrame, names: list[str]) -> dict[str, float]:
    """Largest absolute value of each of these profiles among those that are finite, 0 where there is none."""
    peaks: dict[str, float] = {}
    for some, values in column_blocks(profiles, names):
        size = np.abs(values).max(axis=0, initial=0.0, where=np.isfinite(values))
        peaks.update(zip(some, size.tolist(), strict=True))
    return peaks
