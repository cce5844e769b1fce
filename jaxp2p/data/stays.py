"""Stays of electric vehicles: the slots they take, what can be wrong with them, and those of a window."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxp2p.data.faults import Fault, row_faults
from jaxp2p.data.rounding import ROUNDING, clipped
from jaxp2p.data.times import HOUR, JITTER

TABLE = "ev_sessions"
ENERGIES = ("energy_arrival_kwh", "energy_wanted_kwh", "reserve_kwh")
OF_A_VEHICLE = {
    "prosumer_id": "a vehicle has one home",
    "battery_kwh": "a vehicle has one battery",
    "charge_efficiency": "a vehicle has one",
    "discharge_efficiency": "a vehicle has one",
    "wear_cost_eur_per_kwh": "a vehicle has one",
}
"""What does not change from stay to stay, and what to say where it does."""


class StaySlots(NamedTuple):
    """The slots of M stays, counted from the first of the data: negative before it."""

    begin: np.ndarray  # (M,) int, first slot
    end: np.ndarray  # (M,) int, slot after the last
    hours: float  # length of a slot

    @property
    def some(self) -> np.ndarray:
        """(M,) bool: there is a whole slot in it."""
        return self.end > self.begin


def slots_of(stays: pd.DataFrame, time: pd.Series) -> StaySlots:
    """From the first start of a slot at or after arrival to the last at or before departure.

    time: starts of the slots, in equal steps. What they may be off by, stays may be as well.
    """
    stamps = time.to_numpy("datetime64[ns]")
    first, step = stamps[0], (stamps[-1] - stamps[0]).astype(np.int64) / (len(stamps) - 1)
    count = lambda name: (stays[name].to_numpy("datetime64[ns]") - first).astype(np.int64) / step
    begin, end = np.ceil(count("arrival") - JITTER), np.floor(count("departure") + JITTER)
    return StaySlots(begin.astype(int), end.astype(int), step / HOUR)


def of_window(stays: pd.DataFrame, begin: pd.Timestamp, end: pd.Timestamp) -> np.ndarray:
    """(M,) bool: the stays that a window sees something of, and one of every vehicle in any case.

    So the fleet of a community, and who of it can discharge, does not depend on the days that are looked at:
    that one is the first stay with the vehicle's largest discharging power. A stay whose times are unreadable
    is kept, to be complained of.
    """
    seen = ~((stays["arrival"] >= end) | (stays["departure"] <= begin))
    order = np.argsort(-stays["discharge_kw"].to_numpy(), kind="stable")
    fleet = ~stays["vehicle_id"].iloc[order].duplicated()
    return (seen | fleet.reindex(stays.index)).to_numpy(bool)


def stay_faults(stays: pd.DataFrame) -> list[Fault]:
    """What no single cell tells. Energies above the capacity by rounding are put onto it, in place."""
    names, top = stays["vehicle_id"].to_numpy(), stays["battery_kwh"].to_numpy()
    arrival, departure = (stays[name].to_numpy("datetime64[ns]") for name in ("arrival", "departure"))
    faults = []

    def add(column, bad, message):
        faults.extend(row_faults(TABLE, column, bad, lambda i: f"{names[i]}: {message(i)}"))

    add(
        "departure",
        departure <= arrival,
        lambda i: f"{_text(departure[i])} is not after arrival = {_text(arrival[i])}",
    )
    for column in ENERGIES:
        stays[column] = values = clipped(stays[column].to_numpy(), -np.inf, top, top)
        with np.errstate(invalid="ignore"):
            above = values > top
        add(
            column,
            above,
            lambda i, values=values: f"{values[i]:g} kWh is above battery_kwh = {top[i]:g} kWh",
        )
    code, _ = pd.factorize(names)
    _, row, place = np.unique(code, return_index=True, return_inverse=True)
    first, named = row[place], names != ""
    for column, rule in OF_A_VEHICLE.items():
        values = stays[column].to_numpy()
        there = values[first]
        if column == "prosumer_id":
            differ = (values != there) & (values != "") & (there != "")
        else:
            differ = np.abs(values - there) > ROUNDING * np.abs(there)
        add(
            column,
            differ & named,
            lambda i, values=values, there=there, rule=rule: (
                f"{_shown(values[i])} here, {_shown(there[i])} in row {first[i] + 1}: {rule}"
            ),
        )
    other = _overlapping(code, arrival, departure, named)
    add(
        "arrival",
        other >= 0,
        lambda i: (
            f"plugged in from {_text(arrival[i])} to {_text(departure[i])}, and from "
            f"{_text(arrival[other[i]])} to {_text(departure[other[i]])} in row {other[i] + 1}: "
            "stays of a vehicle must not overlap"
        ),
    )
    return faults


def _overlapping(
    code: np.ndarray, arrival: np.ndarray, departure: np.ndarray, named: np.ndarray
) -> np.ndarray:
    """(M,) row of a stay of the same vehicle that began no later and is not over at arrival, else -1."""
    other = np.full(len(code), -1)
    usable = np.flatnonzero(named & (departure > arrival))  # not where a time is lacking
    order = usable[np.lexsort((arrival[usable], code[usable]))]
    if not len(order):
        return other
    leaving = np.argsort(departure[order], kind="stable")
    rank = np.empty(len(order), int)
    rank[leaving] = np.arange(len(order))
    # who leaves last of those before: a running maximum within every vehicle, as codes go up
    last = leaving[np.maximum.accumulate(code[order] * len(order) + rank) % len(order)]
    before, after = order[last[:-1]], order[1:]
    bad = (code[before] == code[after]) & (arrival[after] < departure[before])
    other[after[bad]] = before[bad]
    return other


def stay_remarks(stays: pd.DataFrame, time: pd.Series) -> list[Fault]:
    """Stays that are left out, and those that end short of what their owner wants; of faultless tables."""
    slots = slots_of(stays, time)
    outside = (slots.end <= 0) | (slots.begin >= len(time))
    reached = np.minimum(
        stays["energy_arrival_kwh"]
        + (slots.end - slots.begin) * slots.hours * stays["charge_efficiency"] * stays["charge_kw"],
        stays["energy_wanted_kwh"],
    ).to_numpy()
    missing = stays["energy_wanted_kwh"].to_numpy() - reached
    short = slots.some & ~outside & (missing > ROUNDING * stays["battery_kwh"].to_numpy())
    return [
        *_remark("arrival", slots.some & outside, "wholly outside of the time of profiles: left out"),
        *_remark("departure", ~slots.some, "without a whole slot: left out"),
        *_remark(
            "energy_wanted_kwh",
            short,
            "in which charging at full power from arrival on ends short of the energy wanted, by "
            f"{missing[short].sum():,.1f} kWh together",
        ),
    ]


def _remark(column: str, found: np.ndarray, what: str) -> list[Fault]:
    rows = np.flatnonzero(found)
    if not rows.size:
        return []
    words = "a stay" if rows.size == 1 else f"{rows.size:,} stays, this is the first,"
    return [Fault(TABLE, column, int(rows[0]) + 1, f"{words} {what}")]


def _shown(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else f"{value:g}"


def _text(stamp: np.datetime64) -> str:
    return pd.Timestamp(stamp).isoformat()
