"""The larger half of pandapower's `mv_oberrhein` as tables: a medium-voltage grid that is none of SimBench's.

    python benchmarks/rivals/oberrhein.py FOLDER

The grid has stations and plants with a power, but no profiles: each gets one of the equivalents of a
low-voltage grid, or of the PV plants, of a SimBench grid of medium voltage, in turn. Needs the extra `grid`.
"""

import sys
import warnings
from itertools import cycle, islice
from pathlib import Path

DONOR = "1-MV-rural--0-sw"
DAYS = 28  # from the usual first day
LIMITS_PU = 0.965, 1.055  # those of SimBench at this level


def oberrhein():
    """Its `Tables`: 86 stations and 93 plants on 108 buses behind a transformer of 25 MVA."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pandapower.networks
        import simbench

        from jaxp2p.data.simbench import tables_from_net

        net = max(pandapower.networks.mv_oberrhein(separation_by_sub=True), key=lambda half: len(half.bus))
        donor = simbench.get_simbench_net(DONOR)
        net.profiles = donor.profiles
        loads = dict.fromkeys(name for name in donor.load["profile"] if str(name).startswith("lv_"))
        plants = [name for name in donor.profiles["renewables"].columns if str(name).startswith("PV")]
        for table, names in ((net.load, loads), (net.sgen, plants)):
            table["profile"] = list(islice(cycle(names), len(table)))
        net.sgen["scaling"] = 1.0  # nought in the scenario that comes with it
        net.bus["min_vm_pu"], net.bus["max_vm_pu"] = LIMITS_PU
        tables = tables_from_net(net, "oberrhein")
    source = f"pandapower.networks.mv_oberrhein (larger half), profiles of SimBench {DONOR}"
    return tables.replace(meta={**tables.meta, "source": source, "description": "grid with given profiles"})


def main() -> None:
    from jaxp2p.data import window, write_tables

    write_tables(window(oberrhein(), days=DAYS), Path(sys.argv[1]))


if __name__ == "__main__":
    main()
