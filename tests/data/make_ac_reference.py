"""Make `ac_reference.json`: AC power flows of pandapower for some slots of the embedded cases.

Needs simbench and pandapower (the extra `grid`). From the root of the repository:

    PYTHONPATH=. python tests/data/make_ac_reference.py

For every case and slot: net injections per bus of our tables (export positive, batteries idle) and what
pandapower finds for a net built from our tables, transformers being a series impedance on the low-voltage
side. Branch powers are those at the end nearer to the slack bus, positive away from it.

`originals` are the same slots in the net that simbench delivers, with its own transformer and cables: once
with the tap position of the data, once without (pandapower 3 leaves it out unless `tap_changer_type` is set).
"""

from __future__ import annotations

import json
import warnings
from collections import deque
from pathlib import Path

import numpy as np

from jaxp2p.data import Tables, absolute_series, load_case

warnings.simplefilter("ignore")

import pandapower as pp  # noqa: E402
import simbench  # noqa: E402

CODES = {"rural3": "1-LV-rural3--2-sw", "rural1": "1-LV-rural1--2-sw"}


def injections(tables: Tables) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """Net injection per slot and bus in kW and kvar, and the slots to look at."""
    series = absolute_series(tables)
    member_at = np.zeros((len(tables.prosumers), len(tables.buses)))
    bus = {name: i for i, name in enumerate(tables.buses["bus_id"])}
    member_at[np.arange(len(tables.prosumers)), [bus[name] for name in tables.prosumers["bus_id"]]] = 1.0
    p = (series.pv_kw - series.load_kw) @ member_at - series.background_kw
    q = -series.load_kvar @ member_at - series.background_kvar
    consumption = series.load_kw.sum(axis=1) + series.background_kw.sum(axis=1)
    slots = {
        "most PV": int(series.pv_kw.sum(axis=1).argmax()),
        "highest load": int(consumption.argmax()),
        "highest export": int(p.sum(axis=1).argmax()),
        "summer night": int((tables.profiles["time"] == "2016-07-05T03:00").to_numpy().argmax()),
        "winter evening": int((tables.profiles["time"] == "2016-01-19T18:30").to_numpy().argmax()),
    }
    return p, q, slots


def outward(tables: Tables) -> dict[str, bool]:
    """For every line whether its from_bus is the end nearer to the slack bus."""
    ends = list(tables.lines[["line_id", "from_bus", "to_bus"]].itertuples(index=False))
    queue = deque(tables.buses.loc[tables.buses["slack"] == 1, "bus_id"])
    reached, result = set(queue), {}
    while queue:
        bus = queue.popleft()
        for line, a, b in ends:
            if line not in result and bus in (a, b):
                result[line] = bus == a
                other = b if bus == a else a
                if other not in reached:
                    reached.add(other)
                    queue.append(other)
    return result


def net_of_tables(tables: Tables):
    """A pandapower net of the tables, everything on the voltage level of the lower end of the transformer."""
    kv = float(tables.buses["vn_kv"].min())
    net = pp.create_empty_network()
    bus = {row.bus_id: pp.create_bus(net, kv, name=row.bus_id) for row in tables.buses.itertuples()}
    slack = tables.buses.loc[tables.buses["slack"] == 1].iloc[0]
    pp.create_ext_grid(net, bus[slack["bus_id"]], vm_pu=float(slack["v_set_pu"]))
    for row in tables.lines.itertuples():
        pp.create_line_from_parameters(
            net, bus[row.from_bus], bus[row.to_bus], 1.0, row.r_ohm, row.x_ohm, 0.0, 1e5, name=row.line_id
        )
    for name in bus:
        pp.create_sgen(net, bus[name], 0.0, 0.0, name=name)
    return net


def snapshot(net, tables: Tables, p: np.ndarray, q: np.ndarray, out: dict[str, bool]) -> dict:
    net.sgen["p_mw"], net.sgen["q_mvar"] = p / 1000, q / 1000
    pp.runpp(net, tolerance_mva=1e-10, numba=False)
    names = tables.buses["bus_id"].tolist()
    lines = {"p_line_kw": {}, "q_line_kvar": {}, "s_line_kva": {}}
    for line, result in zip(net.line["name"], net.res_line.itertuples(), strict=True):
        end = "from" if out[line] else "to"
        kw, kvar = (
            1000 * getattr(result, f"{name}_{end}_{unit}") for name, unit in (("p", "mw"), ("q", "mvar"))
        )
        lines["p_line_kw"][line] = round(kw, 6)
        lines["q_line_kvar"][line] = round(kvar, 6)
        lines["s_line_kva"][line] = round(float(np.hypot(kw, kvar)), 6)
    return {
        "p_kw": dict(zip(names, p.round(6).tolist(), strict=True)),
        "q_kvar": dict(zip(names, q.round(6).tolist(), strict=True)),
        "v_pu": dict(zip(names, net.res_bus["vm_pu"].round(9).tolist(), strict=True)),
        **lines,
    }


def original(code: str, slot: int, *, tap: bool) -> dict:
    """The same slot in the net of simbench."""
    net = simbench.get_simbench_net(code)
    load, plant = net.profiles["load"].iloc[slot], net.profiles["renewables"].iloc[slot]
    net.load["p_mw"] *= [load[f"{name}_pload"] for name in net.load["profile"]]
    net.load["q_mvar"] *= [load[f"{name}_qload"] for name in net.load["profile"]]
    net.sgen["p_mw"] *= [plant[name] for name in net.sgen["profile"]]
    net.storage["p_mw"] = 0.0
    net.trafo["tap_changer_type"] = "Ratio" if tap else None
    pp.runpp(net, tolerance_mva=1e-10, numba=False)
    names = net.bus["name"].tolist()
    trafo = net.res_trafo.iloc[0]
    return {
        "tap": tap,
        "v_pu": dict(zip(names, net.res_bus["vm_pu"].round(9).tolist(), strict=True)),
        "transformer_p_kw": round(1000 * trafo["p_hv_mw"], 6),
        "transformer_s_kva": round(1000 * float(np.hypot(trafo["p_hv_mw"], trafo["q_hv_mvar"])), 6),
    }


def main() -> None:
    cases = {}
    for name in ("rural3", "rural1", "ieee33"):
        tables = load_case(name)
        p, q, slots = injections(tables)
        net, out = net_of_tables(tables), outward(tables)
        cases[name] = {
            "snapshots": [
                {
                    "label": label,
                    "slot": slot,
                    "time": tables.profiles["time"].iloc[slot].isoformat(),
                    **snapshot(net, tables, p[slot], q[slot], out),
                }
                for label, slot in slots.items()
            ]
        }
        if name in CODES:
            cases[name]["originals"] = [
                {"label": label, "slot": slots[label], **original(CODES[name], slots[label], tap=tap)}
                for label in ("most PV", "highest load")
                for tap in (True, False)
            ]
    document = {
        "origin": "tests/data/make_ac_reference.py",
        "versions": {"pandapower": pp.__version__, "simbench": simbench.__version__},
        "units": "kW, kvar, kVA, p.u.; injections positive into the grid, "
        "branch powers positive away from the slack",
        "cases": cases,
    }
    file = Path(__file__).with_name("ac_reference.json")
    file.write_text(json.dumps(document, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
