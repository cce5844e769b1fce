"""Importer of the Baran and Wu 33-bus feeder from pandapower; needs the extra `grid`.

    python -m jaxp2p.data.feeder33 OUTDIR

writes the embedded form: branches, and the nominal loads as background of the buses. The five tie lines are
open and left out, branches have no ratings, bus 1 is the slack bus at 1.0 p.u. and 12.66 kV.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from jaxp2p.data.embed import write_small
from jaxp2p.data.frames import complete_frame

META = {
    "name": "ieee33",
    "description": "IEEE 33-bus feeder of Baran and Wu, 12.66 kV, with generated homes",
    "source": "feeder: M. E. Baran and F. F. Wu, Network reconfiguration in distribution systems for loss "
    "reduction and load balancing, IEEE Trans. Power Delivery 4(2), 1989, as case33bw in pandapower; "
    "profiles: SimBench dataset",
    "licence": "feeder: BSD 3-clause (pandapower); profiles: ODbL 1.0, contents DbCL 1.0 (SimBench)",
    "attribution": "M. E. Baran and F. F. Wu; pandapower developers; "
    "S. Meinecke et al., SimBench, Energies 13(12), 3290, 2020",
    "profiles": {"start": "2016-01-01T00:00:00", "step_minutes": 15.0, "slots": 35136},
}


def import_feeder33() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables `buses` (with the nominal loads as background) and `lines`.

    Raises:
        ImportError: the extra `grid` is not installed.
    """
    try:
        import pandapower.networks
    except ImportError as error:
        raise ImportError('this import needs the extra "grid": pip install "jaxp2p[grid]"') from error
    net = pandapower.networks.case33bw()
    # Buses are numbered from 1, as in the paper.
    load = net.load.groupby("bus")[["p_mw", "q_mvar"]].sum().reindex(net.bus.index, fill_value=0.0)
    slack = net.bus.index == net.ext_grid.bus.iloc[0]
    points = [json.loads(geo)["coordinates"] for geo in net.bus["geo"]]
    buses = pd.DataFrame(
        {
            "bus_id": [str(bus + 1) for bus in net.bus.index],
            "vn_kv": net.bus["vn_kv"].to_numpy(float),
            "slack": slack.astype(int),
            "v_set_pu": np.where(slack, net.ext_grid.vm_pu.iloc[0], 1.0),
            "x": [round(point[0], 4) for point in points],
            "y": [round(point[1], 4) for point in points],
            "background_kw": (1000 * load["p_mw"]).round(6).to_numpy(),
            "background_kvar": (1000 * load["q_mvar"]).round(6).to_numpy(),
        }
    )
    line = net.line.loc[net.line["in_service"]]
    lines = pd.DataFrame(
        {
            "line_id": [f"{a + 1}-{b + 1}" for a, b in zip(line["from_bus"], line["to_bus"], strict=True)],
            "from_bus": (line["from_bus"] + 1).astype(str).to_numpy(),
            "to_bus": (line["to_bus"] + 1).astype(str).to_numpy(),
            "kind": "line",
            "r_ohm": (line["r_ohm_per_km"] * line["length_km"]).to_numpy(),
            "x_ohm": (line["x_ohm_per_km"] * line["length_km"]).to_numpy(),
        }
    )
    return buses, lines


def main(arguments: list[str]) -> int:
    """Write the feeder's tables under the folder named in `arguments`; returns the exit code."""
    if len(arguments) != 1:
        print("usage: python -m jaxp2p.data.feeder33 OUTDIR", file=sys.stderr)
        return 2
    folder = Path(arguments[0]) / str(META["name"])
    folder.mkdir(parents=True, exist_ok=True)
    for table, frame in zip(("buses", "lines"), import_feeder33(), strict=True):
        write_small(complete_frame(table, frame)[0], table, folder / f"{table}.csv")
    (folder / "case.json").write_text(json.dumps(META, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
