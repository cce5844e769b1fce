"""Importer for radial SimBench grids with one head; needs the extra `grid`.

`jaxp2p import CODE DIR` writes what `import_simbench` reads. The rules, also recorded in the `meta`:

- Members are the loads. PV plants and other generators (`sgen`), and storage units, belong to a load at their
  bus. Homes and businesses come before charging points (APLS, HLS) and heat pumps (Air, Soil) there, larger
  nominal power first, then in the order of the data; the k-th unit at a bus goes to the k-th load, starting
  again after the last. A unit at a bus without load goes to the nearest bus with one, counted in lines; where
  no line leads to one, as between a wind park at 20 kV and the homes at 0.4 kV, it is a member without load.
  In a medium-voltage grid a member is a whole low-voltage grid, as SimBench gives its equivalent.
- The storage efficiency is taken as each way; batteries start half full.
- Lines are a series impedance (cable capacitance is left out). Open lines are left out, buses joined by a
  closed bus-bus switch are one bus, parallel branches between the same two buses are one.
- A transformer is a series impedance referred to its low-voltage side (magnetising current, iron losses and
  phase shift left out). At the head its tap position moves the voltage set there, v_set = vm_pu / turns
  ratio; elsewhere it must be nominal. (pandapower 3 leaves the tap of these data out, because they lack the
  newer field `tap_changer_type`; `tap=False` does the same.)
- Time is standard time throughout (UTC+1): row k of the profiles is k steps after the first.
"""

from __future__ import annotations

import difflib
import warnings
from typing import Any

from jaxp2p.data.prices import make_prices
from jaxp2p.data.simbench_grid import read_grid
from jaxp2p.data.simbench_members import read_members, read_profiles
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


def tables_from_net(net: Any, code: str, *, price: str = "tou", seed: int = 0) -> Tables:
    """The tables of a pandapower net with SimBench profiles; see the rules at the top of the module.

    Raises ValueError and InputError as `import_simbench` does.
    """
    grid = read_grid(net, code)
    if not net.load["in_service"].any():
        raise ValueError(f"{code} has no loads, so there are no members")
    prosumers, mixed = read_members(net, grid.bus_name, grid.lines)
    profiles = read_profiles(net, prosumers, mixed)
    meta = {
        "name": code,
        "description": f"SimBench grid {code}, a year of 15-minute profiles",
        **META,
        "synthetic": [f"prices ({price}, seed {seed})"],
    }
    if grid.merged_branches:
        merged = "; ".join(grid.merged_branches)
        meta["rules"] = [*META["rules"], f"parallel branches are one branch: {merged}"]
    prices = make_prices(profiles["time"], price, seed=seed)
    return check(
        Tables(
            prosumers=prosumers,
            buses=grid.buses,
            lines=grid.lines,
            profiles=profiles,
            prices=prices,
            meta=meta,
        )
    )
