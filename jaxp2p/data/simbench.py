"""Importer for radial SimBench low-voltage grids; needs the extra `grid`.

    python -m jaxp2p.data.simbench 1-LV-rural3--2-sw 1-LV-rural1--2-sw OUTDIR

writes the compact form that the package embeds. The rules, also recorded in the `meta` of the result:

- Members are the loads. PV plants and other generators (`sgen`), and storage units, belong to a load at their
  bus. Homes and businesses come before charging points (APLS, HLS) and heat pumps (Air, Soil) there, larger
  nominal power first, then in the order of the data; the k-th unit at a bus goes to the k-th load, starting
  again after the last. A unit at a bus without load goes to the nearest bus with one, counted in branches.
- The storage efficiency is taken as each way; batteries start half full.
- Lines are a series impedance (cable capacitance is left out). Open lines are left out, buses joined by a
  closed bus-bus switch are one bus.
- The transformer is a series impedance referred to the low-voltage side (magnetising current, iron losses and
  phase shift left out). Its tap position moves the voltage set at the slack bus: v_set = vm_pu / turns ratio.
  (pandapower 3 leaves the tap of these data out, because they lack the newer field `tap_changer_type`;
  `tap=False` does the same.)
- Time is standard time throughout (UTC+1): row k of the profiles is k steps after the first.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxp2p.data.prices import make_prices
from jaxp2p.data.simbench_members import number, read_members, read_profiles
from jaxp2p.data.tables import Tables
from jaxp2p.data.validation import check

META = {
    "source": "SimBench dataset, https://simbench.de, through the Python package simbench",
    "licence": "Open Database License (ODbL) 1.0; contents: Database Contents License (DbCL) 1.0",
    "attribution": "S. Meinecke et al., SimBench - A Benchmark Dataset of Electric Power Systems to Compare "
    "Innovative Solutions Based on Power Flow Analysis, Energies 13(12), 3290, 2020",
    "rules": [
        "members are the loads; the k-th PV plant or battery at a bus belongs to its k-th load (homes and "
        "businesses before charging points and heat pumps, then larger nominal power first)",
        "the storage efficiency is taken as each way; batteries start half full",
        "the transformer tap and turns ratio are part of v_set_pu at the slack bus, "
        "whose voltage limits are 0.9 and 1.1 p.u.",
        "cable capacitance, magnetising current, iron losses and phase shift are left out",
        "time is standard time (UTC+1) in the whole year",
    ],
}


def import_simbench(code: str, *, tap: bool = True, price: str = "tou", seed: int = 0) -> Tables:
    """A SimBench low-voltage grid as tables, with a synthetic tariff (SimBench has no prices).

    `tap=False` leaves the tap position of the transformer out.

    Raises:
        ImportError: the extra `grid` is not installed.
        ValueError: the grid is not one low-voltage feeder behind one transformer.
        InputError: the grid is meshed or has other faults.
    """
    try:
        import simbench
    except ImportError as error:
        raise ImportError(
            'importing SimBench grids needs the extra "grid": pip install "jaxp2p[grid]"'
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside simbench and pandapower
        net = simbench.get_simbench_net(code)
    if not tap:
        net.trafo["tap_pos"] = net.trafo["tap_neutral"]
    return tables_from_net(net, code, price=price, seed=seed)


def tables_from_net(net: Any, code: str, *, price: str = "tou", seed: int = 0) -> Tables:
    """The tables of a pandapower net with SimBench profiles; see the rules at the top of the module."""
    if len(net.trafo) != 1 or len(net.ext_grid) != 1 or len(net.trafo3w):
        raise ValueError(f"{code}: one transformer and one external grid are expected, as in a 1-LV code")
    merged = _merged_buses(net)
    names = net.bus["name"].astype(str)
    if names.duplicated().any():
        names = names + " #" + names.index.astype(str)
    bus_name = {index: names[merged[index]] for index in net.bus.index}
    buses = _buses(net, merged, bus_name)
    lines = _lines(net, bus_name)
    prosumers, mixed = read_members(net, bus_name, lines)
    profiles = read_profiles(net, prosumers, mixed)
    meta = {
        "name": code,
        "description": f"SimBench grid {code}, a year of 15-minute profiles",
        **META,
        "synthetic": [f"prices ({price})"],
    }
    prices = make_prices(profiles["time"], price, seed=seed)
    return check(
        Tables(prosumers=prosumers, buses=buses, lines=lines, profiles=profiles, prices=prices, meta=meta)
    )


def _merged_buses(net: Any) -> dict[int, int]:
    """For every bus the one that stands for it after closed bus-bus switches."""
    leader = {int(bus): int(bus) for bus in net.bus.index}

    def root(bus: int) -> int:
        while leader[bus] != bus:
            bus = leader[bus]
        return bus

    for switch in net.switch.itertuples():
        if switch.et == "b" and switch.closed:
            one, two = sorted((root(int(switch.bus)), root(int(switch.element))))
            leader[two] = one
    return {bus: root(bus) for bus in leader}


def _buses(net: Any, merged: dict[int, int], bus_name: dict[int, str]) -> pd.DataFrame:
    trafo, grid = net.trafo.iloc[0], net.ext_grid.iloc[0]
    if merged[int(grid.bus)] != merged[int(trafo.hv_bus)]:
        raise ValueError("the external grid is expected at the high-voltage bus of the transformer")
    frame = net.bus.loc[
        [bus for bus in net.bus.index if merged[bus] == bus and net.bus.at[bus, "in_service"]]
    ]
    slack = frame.index == merged[int(grid.bus)]
    point = [_coordinates(net, bus) for bus in frame.index]

    def limit(column: str, default: float) -> np.ndarray:
        values = frame[column].to_numpy(float) if column in frame else np.full(len(frame), np.nan)
        # The limits at the slack bus are those of the grid above; its voltage is fixed and referred to this
        # side.
        return np.where(np.isnan(values) | slack, default, values)

    return pd.DataFrame(
        {
            "bus_id": [bus_name[bus] for bus in frame.index],
            "vn_kv": frame["vn_kv"].to_numpy(float),
            "v_min_pu": limit("min_vm_pu", 0.9),
            "v_max_pu": limit("max_vm_pu", 1.1),
            "slack": slack.astype(float),
            "v_set_pu": np.where(slack, round(float(grid.vm_pu) / _turns_ratio(net), 9), 1.0),
            "x": [xy[0] for xy in point],
            "y": [xy[1] for xy in point],
        }
    )


def _turns_ratio(net: Any) -> float:
    """Voltage ratio of the transformer over that of the bus voltages, tap included; 1 for a nominal one."""
    trafo = net.trafo.iloc[0]
    position, neutral, step = (number(trafo[f"tap_{part}"]) for part in ("pos", "neutral", "step_percent"))
    tap = 1.0 + (position - neutral) * step / 100.0
    high, low = float(trafo.vn_hv_kv), float(trafo.vn_lv_kv)
    if trafo.tap_side == "hv":
        high *= tap
    elif trafo.tap_side == "lv":
        low *= tap
    return (high / net.bus.at[trafo.hv_bus, "vn_kv"]) / (low / net.bus.at[trafo.lv_bus, "vn_kv"])


def _coordinates(net: Any, bus: int) -> tuple[float, float]:
    if "geo" in net.bus and isinstance(net.bus.at[bus, "geo"], str):
        x, y = json.loads(net.bus.at[bus, "geo"])["coordinates"][:2]
        return float(x), float(y)
    if "bus_geodata" in net and bus in net.bus_geodata.index:  # pandapower before 3.0
        return float(net.bus_geodata.at[bus, "x"]), float(net.bus_geodata.at[bus, "y"])
    return float("nan"), float("nan")


def _lines(net: Any, bus_name: dict[int, str]) -> pd.DataFrame:
    trafo = net.trafo.iloc[0]
    opened = {
        kind: set(net.switch.loc[(net.switch.et == kind) & ~net.switch.closed, "element"]) for kind in "lt"
    }
    rows = []
    if bool(trafo.in_service) and net.trafo.index[0] not in opened["t"]:
        # Percent of the rated impedance on the low-voltage side; the rated voltage is that of the winding.
        rated = float(trafo.vn_lv_kv) ** 2 / float(trafo.sn_mva) / float(trafo.parallel)
        r = trafo.vkr_percent / 100 * rated
        z = trafo.vk_percent / 100 * rated
        rating = 1000 * trafo.sn_mva * trafo.parallel * trafo.df
        rows.append(
            (
                trafo["name"],
                bus_name[trafo.hv_bus],
                bus_name[trafo.lv_bus],
                "transformer",
                r,
                np.sqrt(z**2 - r**2),
                rating,
            )
        )
    for index, line in net.line.iterrows():
        if not line.in_service or index in opened["l"]:
            continue
        length = line.length_km / line.parallel
        current = line.max_i_ka * line.parallel * line.df
        rating = 1000 * np.sqrt(3) * net.bus.at[line.from_bus, "vn_kv"] * current
        ends = (bus_name[line.from_bus], bus_name[line.to_bus])
        rows.append(
            (line["name"], *ends, "line", line.r_ohm_per_km * length, line.x_ohm_per_km * length, rating)
        )
    frame = pd.DataFrame(
        rows, columns=["line_id", "from_bus", "to_bus", "kind", "r_ohm", "x_ohm", "s_max_kva"]
    )
    frame["line_id"] = frame["line_id"].astype(str)
    return frame.round({"r_ohm": 9, "x_ohm": 9, "s_max_kva": 6})


def main(arguments: list[str]) -> int:
    """Import codes and write them in the compact form; see `jaxp2p.data.embed`."""
    from jaxp2p.data.embed import write_compact

    if len(arguments) < 2:
        print("usage: python -m jaxp2p.data.simbench CODE [CODE ...] OUTDIR", file=sys.stderr)
        return 2
    *codes, folder = arguments
    tables = {code.removeprefix("1-LV-").split("--")[0]: import_simbench(code) for code in codes}
    for file in write_compact(tables, Path(folder)):
        print(f"{file}  {file.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
