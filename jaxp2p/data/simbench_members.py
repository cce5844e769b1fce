"""The members of a SimBench grid: its loads, with the plants and storage units that belong to them.

The rule of ownership stands in `jaxp2p.data.simbench`.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from jaxp2p.data.grids.pandapower_net import cell

SECONDARY = ("APLS", "HLS", "Air", "Soil")
"""Load profiles of charging points and heat pumps; PV and batteries go to a home beside them first."""


def read_members(
    net: Any, bus_name: Mapping[Any, str], lines: pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, list]]:
    """The members, and for every profile made from others (several plants) the list of (profile, kW)."""
    loads = net.load.loc[net.load["in_service"] & net.load["bus"].isin(list(bus_name))]
    repeated = loads["name"].duplicated(keep=False)
    series = net.profiles["load"]
    rows = []
    for load in loads.itertuples():
        kvar = 1000 * load.q_mvar * load.scaling
        p, q = f"{load.profile}_pload", f"{load.profile}_qload"
        # Heat pumps have the same profile for both powers and charging points have no reactive one.
        same, none = series[q].equals(series[p]), not series[q].any()
        rows.append(
            {
                "prosumer_id": f"{load.name} #{load.Index}" if repeated[load.Index] else str(load.name),
                "bus_id": bus_name[load.bus],
                "load_profile": str(load.profile),
                "load_kw": round(1000 * load.p_mw * load.scaling, 6),
                "reactive_profile": "" if none else str(load.profile) if same else f"{load.profile}_q",
                "load_kvar": 0.0 if none else round(kvar, 6),
            }
        )
    owners = Owners(rows, lines)
    plants: dict[int, list[tuple[str, float]]] = defaultdict(list)
    for unit in net.sgen.loc[net.sgen["in_service"]].itertuples():
        home = owners.next("plant", bus_name[unit.bus], str(unit.name))
        plants[home].append((str(unit.profile), round(1000 * unit.p_mw * unit.scaling, 6)))
    mixed: dict[str, list] = {}
    taken = {row[f"{use}_profile"] for row in rows for use in ("load", "reactive")}
    for row, parts in plants.items():
        parts = [(profile, kw) for profile, kw in parts if kw > 0]
        if not parts:
            continue
        kinds = {profile for profile, _ in parts}
        name = kinds.pop() if len(kinds) == 1 else f"{rows[row]['prosumer_id']} plants"
        # The equivalents of whole low-voltage grids have a load and a generation profile of one name.
        own = f"{name}_gen" if name in taken else name
        if kinds or own != name:
            mixed[own] = parts if kinds else [(name, 1.0)]
        rows[row] |= {"pv_profile": own, "pv_kw": sum(kw for _, kw in parts)}
    for _, unit in net.storage.loc[net.storage["in_service"]].iterrows():
        owner = rows[owners.next("storage", bus_name[unit["bus"]], str(unit["name"]))]
        power = round(1000 * abs(unit["p_mw"]) * unit["scaling"], 6)
        for column, value in {
            "battery_kwh": 1000 * unit["max_e_mwh"],
            "battery_min_kwh": 1000 * cell(unit, "min_e_mwh", 0.0),
            "battery_charge_kw": power,
            "battery_discharge_kw": power,
        }.items():
            owner[column] = round(owner.get(column, 0.0) + value, 6)
        efficiency = float(unit["efficiency_percent"])
        if efficiency > 1:  # the name says percent, SimBench writes 0.95
            efficiency /= 100
        owner |= {
            "charge_efficiency": efficiency,
            "discharge_efficiency": efficiency,
            "self_discharge_per_day": round(cell(unit, "self-discharge_percent_per_day", 0.0) / 100, 9),
        }
    frame = pd.DataFrame(rows)
    for column in frame.columns:
        missing = "" if column.endswith("_profile") else 0.95 if "efficiency" in column else 0.0
        frame[column] = frame[column].fillna(missing)
    return frame, mixed


class Owners:
    """Deals the units at a bus out to its loads, one after the other.

    `rows` are the members so far; a unit at a voltage level without loads adds one that has no load.
    """

    def __init__(self, rows: list[dict], lines: pd.DataFrame):
        self._rows = rows
        self._at: dict[str, list[int]] = defaultdict(list)
        order = sorted(
            range(len(rows)),
            key=lambda i: (rows[i]["load_profile"].startswith(SECONDARY), -rows[i]["load_kw"], i),
        )
        for i in order:
            self._at[rows[i]["bus_id"]].append(i)
        self._neighbours: dict[str, list[str]] = defaultdict(list)
        # Not through a transformer: a wind park at 20 kV is none of a home's.
        within = lines.loc[lines["kind"] == "line"]
        for one, two in zip(within["from_bus"], within["to_bus"], strict=True):
            self._neighbours[one].append(two)
            self._neighbours[two].append(one)
        self._dealt: dict[tuple[str, str], int] = defaultdict(int)

    def next(self, kind: str, bus: str, unit: str) -> int:
        """Row of the member that gets the next unit of this kind at this bus."""
        home = self._nearest_with_load(bus)
        if home is None:
            home = bus
            self._at[bus].append(len(self._rows))
            self._rows.append(
                {
                    "prosumer_id": unit,
                    "bus_id": bus,
                    "load_profile": self._rows[0]["load_profile"],
                    "load_kw": 0.0,
                    "reactive_profile": "",
                    "load_kvar": 0.0,
                }
            )
        loads = self._at[home]
        owner = loads[self._dealt[kind, home] % len(loads)]
        self._dealt[kind, home] += 1
        return owner

    def _nearest_with_load(self, bus: str) -> str | None:
        queue, seen = deque([bus]), {bus}
        while queue:
            here = queue.popleft()
            if here in self._at:
                return here
            for other in self._neighbours[here]:
                if other not in seen:
                    seen.add(other)
                    queue.append(other)
        return None


def read_profiles(net: Any, prosumers: pd.DataFrame, mixed: dict[str, list]) -> pd.DataFrame:
    """Only the profiles in use; tiny negative rounding noise in the data is cut off."""
    load, plant = net.profiles["load"], net.profiles["renewables"]
    start = pd.to_datetime(load["time"].iloc[0], dayfirst=True)
    step = pd.to_datetime(load["time"].iloc[1], dayfirst=True) - start
    # The labels in the data follow summer time, with a gap in March and a repetition in October; rows do not.
    done: dict[str, Any] = {"time": start + step * np.arange(len(load))}
    for name in dict.fromkeys(prosumers["load_profile"]):
        done[name] = load[f"{name}_pload"].to_numpy(float).clip(min=0.0)
    for name in dict.fromkeys(prosumers["reactive_profile"]):
        if name and name not in done:
            done[name] = load[f"{name.removesuffix('_q')}_qload"].to_numpy(float)
    pv_profiles = prosumers.get("pv_profile", [])
    for name in dict.fromkeys(pv_profiles):
        if name:
            parts = mixed.get(name, [(name, 1.0)])
            total = sum(kw for _, kw in parts)
            done[name] = sum(plant[p].to_numpy(float).clip(min=0.0) * kw / total for p, kw in parts)
    return pd.DataFrame(done)
