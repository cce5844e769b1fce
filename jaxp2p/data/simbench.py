"""Importer for radial SimBench grids with one head; needs the extra `grid`.

`jaxp2p import CODE DIR` writes what `import_simbench` reads. The rules, also recorded in the `meta`:

- Members are the loads. PV plants and other generators (`sgen`), and storage units, belong to a load at their
  bus. Homes and businesses come before charging points (APLS, HLS) and heat pumps (Air, Soil) there, larger
  nominal power first, then in the order of the data; the k-th unit at a bus goes to the k-th load, starting
  again after the last. A unit at a bus without load goes to the nearest bus with one, counted in lines; where
  no line leads to one, as between a wind park at 20 kV and the homes at 0.4 kV, it is a member without load.
  In a medium-voltage grid a member is a whole low-voltage grid, as SimBench gives its equivalent.
- The storage efficiency is taken as each way; batteries start half full.
- Lines, transformers and shunts are those of `jaxp2p.data.grids`: charging, iron losses and taps are kept,
  open lines are left out, joined buses are one, parallel branches between the same two buses are one.
  Positions of taps count (pandapower 3 leaves those of these data out, because they lack the newer field
  `tap_changer_type`; `tap=False` does the same). The ratio of the transformers at the head is part of the
  voltage set there.
- Time is standard time throughout (UTC+1): row k of the profiles is k steps after the first.
"""

from __future__ import annotations

import difflib
import warnings
from typing import Any

from jaxp2p.data.grids.pandapower_net import read_net
from jaxp2p.data.grids.radial import check_imported, radial_feeder
from jaxp2p.data.prices import make_prices
from jaxp2p.data.simbench_members import read_members, read_profiles
from jaxp2p.data.tables import Tables

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
        "phase shift is left out",
        "time is standard time (UTC+1) in the whole year",
    ],
}

LEVELS = ("1-LV-", "1-MV-", "1-MVLV-")
"""Beginnings of the codes whose grids have one head; those above are meshed."""


def _package() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside simbench and pandapower
            import simbench
    except ImportError as error:
        raise ImportError(
            'SimBench grids need the extra "grid" (and no internet once it is there): '
            f'pip install ".[grid]" ({error})'
        ) from error
    return simbench


def simbench_codes() -> list[str]:
    """The codes of all grids with one head. Raises ImportError without the extra `grid`."""
    codes = _package().collect_all_simbench_codes()
    return [code for level in LEVELS for code in codes if code.startswith(level)]


def import_simbench(code: str, *, tap: bool = True, price: str = "tou", seed: int = 0) -> Tables:
    """A SimBench grid as tables, with a synthetic tariff (SimBench has no prices).

    `tap=False` leaves the tap positions of the transformers out.

    Raises:
        ImportError: the extra `grid` is not installed.
        ValueError: unknown code or price, or a grid that is meshed, has several heads or unknown elements.
        InputError: the tables have other faults.
    """
    simbench = _package()
    known = simbench.collect_all_simbench_codes()
    if code not in known:
        usual = [name for name in known if name.startswith(LEVELS)]
        near = difflib.get_close_matches(code, usual, n=3) or difflib.get_close_matches(
            f"1-{code}", usual, n=3
        )
        hint = f"did you mean {' or '.join(near)}?" if near else "`jaxp2p import --list` names them"
        raise ValueError(f"unknown SimBench code {code!r}; {hint}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = simbench.get_simbench_net(code)
        if not tap:
            net.trafo["tap_pos"] = net.trafo["tap_neutral"]
        return tables_from_net(net, code, price=price, seed=seed)


def has_profiles(net: Any) -> bool:
    """Whether a pandapower net has time series as those of SimBench, found by the name of a profile."""
    profiles, load = net.get("profiles"), net["load"]
    if not isinstance(profiles, dict) or "load" not in profiles or "profile" not in load or not len(load):
        return False
    known = set(profiles["load"].columns)
    return all(f"{name}_pload" in known and f"{name}_qload" in known for name in load["profile"])


def tables_from_net(
    net: Any, code: str, *, price: str = "tou", seed: int = 0, meta: dict[str, Any] | None = None
) -> Tables:
    """The tables of a pandapower net with SimBench profiles; see the rules at the top of the module.

    meta: what else there is to say of it, where it is no grid of SimBench.

    Raises ValueError and InputError as `import_simbench` does.
    """
    grid = read_net(net, code, untyped_taps=True)
    feeder = radial_feeder(grid, loads=False)
    if not net["load"]["in_service"].any():
        raise ValueError(f"{code} has no loads, so there are no members")
    prosumers, mixed = read_members(net, feeder.bus_name, feeder.lines)
    profiles = read_profiles(net, prosumers, mixed)
    about = (
        {"description": f"SimBench grid {code}, a year of 15-minute profiles", **META}
        if meta is None
        else meta
    )
    tables = check_imported(
        Tables(
            prosumers=prosumers,
            buses=feeder.buses,
            lines=feeder.lines,
            profiles=profiles,
            prices=make_prices(profiles["time"], price, seed=seed),
            meta={"name": code, **about, "synthetic": [f"prices ({price}, seed {seed})"]},
        )
    )
    merged = [remark.message for remark in tables.remarks if remark.name == "parallel_lines"]
    changes = [*grid.notes, *(f"parallel branches: {text}" for text in merged)]
    return tables.replace(meta={**tables.meta, "changes": changes})
