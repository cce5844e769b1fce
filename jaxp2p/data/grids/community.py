"""A community on a grid without time series: seeded homes, the plants and batteries of the source, synthetic
profiles.

- Loads are background with the embedded `feeder` profile, whose peak is what the source says.
- Homes take the place of a part of them; PV plants and batteries are given to some, as in the case ieee33.
- Plants and storage units of the source are members without load of their own: PV with a profile of PV, any
  other plant with what it feeds in at all times.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxp2p.data.embed import read_profiles, read_small
from jaxp2p.data.grids.parts import Grid, Load, unique_names
from jaxp2p.data.grids.radial import Feeder, check_imported, radial_feeder
from jaxp2p.data.populate import (
    FEEDER_MEMBERS,
    FEEDER_PROFILE,
    HOUSEHOLDS,
    PV_PROFILES,
    densify,
    feeder_profile,
    generate_homes,
    in_place_of_loads,
)
from jaxp2p.data.prices import make_prices
from jaxp2p.data.tables import Tables
from jaxp2p.data.validation import check

CONSTANT = "constant"
HOME_KW = 2.5  # nominal power of a home, see `generate_homes`
HOMES_USUAL = 300  # and no more than half of the loads amount to
PV_SHARE, BATTERY_SHARE = 0.4, 0.3


class Wishes(NamedTuple):
    """What the user asks of an import.

    Attributes:
        members: number of homes, or below 1 the share of the loads that they amount to; None for the usual
        one.
        head: of several connections to a grid above the one to keep.
        pv_share, battery_share: of the homes that are made (None for the usual ones), or of the members.
    """

    price: str = "tou"
    seed: int = 0
    members: float | None = None
    head: str | None = None
    pv_share: float | None = None
    battery_share: float | None = None


def community(grid: Grid, wishes: Wishes, meta: dict) -> Tables:
    """The checked tables of a community on the grid, a year (2016) of 15-minute slots.

    meta["changes"] lists what was left out or changed.

    Raises:
        InputError: the source, or what becomes of it, has faults; ValueError: no head or several, no members.
    """
    grid.loads += [Load(x.name, x.bus, -x.kw, -x.kvar) for x in grid.plants if x.kw < 0]
    grid.plants = [plant for plant in grid.plants if plant.kw >= 0]
    feeder = radial_feeder(grid, head=wishes.head)
    reactive = [f"{name}_q" for name in HOUSEHOLDS]
    names = dict.fromkeys([*HOUSEHOLDS, *reactive, *PV_PROFILES, *FEEDER_MEMBERS])
    series = read_profiles(read_small("ieee33")[1], list(names))
    buses = feeder.buses.assign(background_profile=FEEDER_PROFILE)
    count = _homes(grid.name, buses, wishes.members)
    members, synthetic = (
        [],
        [f"profiles of the loads ({FEEDER_PROFILE}, SimBench), which the source does not have"],
    )
    if count:
        homes = generate_homes(
            buses["bus_id"].tolist(), np.maximum(buses["background_kw"], 0), count, seed=wishes.seed
        )
        buses, homes = in_place_of_loads(buses, homes, series)
        members.append(homes)
        synthetic.append(f"{count} homes in place of a part of the loads (seed {wishes.seed})")
    units = _units(grid, feeder, wishes.seed)
    if len(units):
        members.append(units)
        synthetic.append("profiles of the plants, which the source does not have")
    if not members:
        raise ValueError(
            f"{grid.name} has no members: no plants, no storage units, and no homes were asked for"
        )
    profiles = series[["time", *HOUSEHOLDS, *reactive, *PV_PROFILES]].assign(
        **{FEEDER_PROFILE: feeder_profile(series), CONSTANT: 1.0}
    )
    prosumers = pd.concat(members, ignore_index=True)
    for column in prosumers.columns:
        prosumers[column] = prosumers[column].fillna("" if column.endswith("_profile") else 0.0)
    prosumers["prosumer_id"] = unique_names(prosumers["prosumer_id"], range(1, len(prosumers) + 1))
    tables = Tables(
        prosumers=prosumers,
        buses=buses,
        lines=feeder.lines,
        profiles=profiles,
        prices=make_prices(profiles["time"], wishes.price, seed=wishes.seed),
        meta={
            "name": grid.name,
            **meta,
            "changes": grid.notes,
            "synthetic": [*synthetic, f"prices ({wishes.price}, seed {wishes.seed})"],
        },
    )
    checked = check_imported(tables)  # what is wrong with the grid is said first
    if not count:
        return checked
    done = densify(
        checked.replace(prosumers=checked.prosumers[:count]),
        pv_share=PV_SHARE if wishes.pv_share is None else wishes.pv_share,
        battery_share=BATTERY_SHARE if wishes.battery_share is None else wishes.battery_share,
        seed=wishes.seed,
        pv_profiles=list(PV_PROFILES),
    )
    prosumers = pd.concat([done.prosumers, checked.prosumers[count:]], ignore_index=True)
    return check(done.replace(prosumers=prosumers))


def _homes(name: str, buses: pd.DataFrame, wanted: float | None) -> int:
    """How many homes are made; raises ValueError for a number that is neither a count nor a share."""
    total = float(np.maximum(buses["background_kw"], 0).sum())
    if wanted is None:
        return min(round(0.5 * total / HOME_KW), HOMES_USUAL) or int(total > 0)
    if not (0 <= wanted < 1 or (wanted >= 1 and float(wanted).is_integer())):
        raise ValueError(f"members = {wanted:g} must be a whole number, or a share between 0 and 1")
    if wanted and total <= 0:
        raise ValueError(f"{name} has no loads in whose place homes could be")
    return int(wanted) if wanted >= 1 else max(round(wanted * total / HOME_KW), int(wanted > 0))


def _units(grid: Grid, feeder: Feeder, seed: int) -> pd.DataFrame:
    """Plants and storage units as members."""
    rng = np.random.default_rng([seed, 4])
    rows = []
    kept = set(feeder.buses["bus_id"])
    for plant in grid.plants:
        profile = PV_PROFILES[rng.integers(len(PV_PROFILES))] if plant.solar else CONSTANT
        if plant.kw > 0 and feeder.bus_name[plant.bus] in kept:
            row = {"prosumer_id": plant.name, "bus_id": feeder.bus_name[plant.bus]}
            rows.append(row | {"pv_profile": profile, "pv_kw": round(plant.kw, 6)})
    for store in grid.stores:
        row = {"prosumer_id": store.name, "bus_id": feeder.bus_name[store.bus]}
        sizes = {"battery_kwh": store.kwh, "battery_min_kwh": store.min_kwh}
        sizes |= {"battery_charge_kw": store.power_kw, "battery_discharge_kw": store.power_kw}
        rows.append(row | {column: round(size, 6) for column, size in sizes.items()})
        rows[-1]["battery_start_kwh"] = round((store.kwh + store.min_kwh) / 2, 6)
    grid.note("plants", [p.name for p in grid.plants if p.kvar], "their reactive power is left out")
    constant = [p.name for p in grid.plants if not p.solar and p.kw > 0]
    grid.note(
        "plants", constant, "of no kind that has a profile here; they feed in at all times what they do there"
    )
    return pd.DataFrame(rows).assign(load_profile=HOUSEHOLDS[0], load_kw=0.0) if rows else pd.DataFrame()
