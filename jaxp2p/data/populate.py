"""Seeded homes and devices: fill a feeder with homes, give more homes a PV plant, a battery or a vehicle."""

from __future__ import annotations

import numpy as np
import pandas as pd

from jaxp2p.data.tables import Tables, complete
from jaxp2p.data.vehicles import vehicles_of

HOUSEHOLDS = ("H0-A", "H0-B", "H0-C", "H0-G", "H0-L")
"""SimBench household profiles that generated homes draw from."""

PV_PROFILES = ("PV1", "PV3", "PV4", "PV5", "PV6", "PV7", "PV8")

FEEDER_PROFILE = "feeder"
"""Name of the profile of what is not a member's."""

FEEDER_MEMBERS = (*HOUSEHOLDS, "G4-A", "G6-A", "L1-A", "L2-A")
"""SimBench profiles of households, businesses and farms whose mean, over its peak, is that profile."""

HOMES_SHARE_MAX = 0.8
"""Of the nominal load of a bus; more homes than that become smaller ones."""

PV_MIN_KW, PV_MAX_KW = 2.0, 30.0
BATTERY_MIN_KWH, BATTERY_MAX_KWH = 3.0, 60.0


def generate_homes(bus_ids: list[str], weights: np.ndarray, count: int, *, seed: int = 0) -> pd.DataFrame:
    """A `prosumers` table of `count` homes without PV and batteries.

    Each home draws its bus with probability proportional to `weights`, its profile uniformly from
    `HOUSEHOLDS`, and its nominal power load_kw log-normally around 2.5 kW (sigma 0.3, within 1 to 6 kW),
    about what the homes of the SimBench grids have (2 to 3 kW). The reactive power is 0.4 of it, as there.
    """
    rng = np.random.default_rng([seed, 1])
    bus = np.sort(rng.choice(len(bus_ids), size=count, p=np.asarray(weights) / np.sum(weights)))
    profile = np.array(HOUSEHOLDS)[rng.integers(len(HOUSEHOLDS), size=count)]
    kw = np.clip(2.5 * np.exp(0.3 * rng.standard_normal(count)), 1.0, 6.0).round(3)
    digits = max(3, len(str(count)))
    return pd.DataFrame(
        {
            "prosumer_id": [f"home_{i + 1:0{digits}d}" for i in range(count)],
            "bus_id": [bus_ids[b] for b in bus],
            "load_profile": profile,
            "load_kw": kw,
            "reactive_profile": [f"{name}_q" for name in profile],
            "load_kvar": (0.4 * kw).round(4),
        }
    )


def feeder_profile(series: pd.DataFrame) -> pd.Series:
    """The profile of the background, with a peak of 1."""
    feeder = series[list(FEEDER_MEMBERS)].mean(axis=1)
    return (feeder / feeder.max()).round(6)


def in_place_of_loads(
    buses: pd.DataFrame, homes: pd.DataFrame, series: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Buses and homes when the homes take the place of a part of the nominal loads, which are background.

    The homes of a bus replace as much of it as they draw at the peak of the community together, so the peak
    of the feeder stays at about its nominal one. `series` holds the profiles in `HOUSEHOLDS`.
    """
    nominal = buses["background_kw"].astype(float).to_numpy()
    peak_slot = sum(
        series[name] * homes.loc[homes["load_profile"] == name, "load_kw"].sum() for name in HOUSEHOLDS
    ).idxmax()
    drawn = homes["load_kw"] * homes["load_profile"].map(series.loc[peak_slot, list(HOUSEHOLDS)].to_dict())
    at_bus = drawn.groupby(homes["bus_id"]).sum().reindex(buses["bus_id"], fill_value=0.0).to_numpy(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        shrink = np.nan_to_num(np.minimum(1.0, HOMES_SHARE_MAX * nominal / at_bus), nan=1.0)
    factor = homes["bus_id"].map(dict(zip(buses["bus_id"], shrink, strict=True)))
    homes = homes.assign(
        load_kw=(homes["load_kw"] * factor).round(4), load_kvar=(homes["load_kvar"] * factor).round(4)
    )
    left = np.divide(nominal - shrink * at_bus, nominal, out=np.zeros_like(nominal), where=nominal > 0)
    buses = buses.assign(
        background_kw=(nominal * left).round(4),
        background_kvar=(buses["background_kvar"].astype(float) * left).round(4),
    )
    return buses, homes


def densify(
    tables: Tables,
    *,
    pv_share: float | None = None,
    battery_share: float | None = None,
    ev_share: float | None = None,
    seed: int = 0,
    pv_profiles: list[str] | None = None,
    pv_scale: float = 1.0,
    battery_scale: float = 1.0,
    load_scale: float = 1.0,
) -> Tables:
    """Give PV plants, batteries and electric vehicles to more members, then scale.

    The shares count members with a device over all members. Devices that are there stay; a share below the
    present one changes nothing. Larger shares with the same seed keep the choices of smaller ones.

    - PV: members without PV in random order. pv_kw = 1 kW per MWh of yearly consumption, times a factor drawn
      from 0.8 to 1.6, within 2 to 30 kW; the profile is drawn from those in use (or from `pv_profiles`).
    - Batteries: members with PV first, then the others, both in random order. battery_kwh = 1 to 2 h of pv_kw
      (or, without PV, 1 to 2 kWh per MWh of yearly consumption), within 3 to 60 kWh; it fills and empties in
      2 h, 0.95 efficiency each way, 0.13 % self-discharge per day, half full at the start (as in SimBench).
    - Electric vehicles: members without one in random order. A vehicle each, at home from the evening to the
      morning and most of the weekend, a quarter of them with vehicle-to-home; see `jaxp2p.data.vehicles`.
    - Scales multiply pv_kw; energies and powers of batteries; and all loads, those of members (load_kw,
      load_kvar) and the background of the buses alike.

    Raises:
        ValueError: a share outside 0 to 1, a negative scale, or PV is asked for and there is no PV profile.
    """
    shares = {"pv_share": pv_share, "battery_share": battery_share, "ev_share": ev_share}
    for name, share in shares.items():
        if share is not None and not 0.0 <= share <= 1.0:
            raise ValueError(f"{name} = {share} must be between 0 and 1")
    for name, scale in {
        "pv_scale": pv_scale,
        "battery_scale": battery_scale,
        "load_scale": load_scale,
    }.items():
        if not (np.isfinite(scale) and scale >= 0.0):
            raise ValueError(f"{name} = {scale} must be a finite number and at least 0")
    if set(shares.values()) == {None} and pv_scale == battery_scale == load_scale == 1.0:
        return tables
    tables = complete(tables)
    frame, buses, notes = tables.prosumers.copy(), tables.buses, []
    if pv_share is not None:
        count = _add_pv(frame, tables, pv_share, seed, pv_profiles)
        notes += [f"PV plants of {count} members (seed {seed})"] if count else []
    if battery_share is not None:
        count = _add_batteries(frame, tables, battery_share, seed)
        notes += [f"batteries of {count} members (seed {seed})"] if count else []
    stays, remarks = tables.ev_sessions, tables.remarks
    if ev_share is not None:
        added = _more_vehicles(tables, ev_share, seed)
        if added is not None:
            count = added["vehicle_id"].nunique()
            notes += [f"electric vehicles of {count} members (seed {seed})"]
            stays = (
                pd.concat([stays, added], ignore_index=True) if stays is not None and len(stays) else added
            )
            remarks = tuple(remark for remark in remarks if remark.table != "ev_sessions")  # made anew
    for scale, columns in (
        (pv_scale, ["pv_kw", "inverter_kva"]),
        (battery_scale, [name for name in frame if str(name).startswith("battery_")]),
        (load_scale, ["load_kw", "load_kvar"]),
    ):
        if scale != 1.0:
            frame[columns] *= scale
            notes.append(f"{columns[0].split('_')[0]} of members times {scale:g}")
    background = ["background_kw", "background_kvar"]
    if load_scale != 1.0 and (buses[background] != 0.0).any(axis=None):
        buses = buses.assign(**{column: buses[column] * load_scale for column in background})
        notes[-1] = f"load of members and background times {load_scale:g}"
    meta = {**tables.meta, "synthetic": [*tables.meta.get("synthetic", []), *notes]}
    return tables.replace(prosumers=frame, buses=buses, ev_sessions=stays, remarks=remarks, meta=meta)


def _wanted(share: float, members: int, present: int) -> int:
    return max(0, round(share * members) - present)


def _yearly_mwh(frame: pd.DataFrame, tables: Tables) -> np.ndarray:
    """Consumption per member, from the mean of its profile over the data there are."""
    mean = {name: tables.profiles[name].mean() for name in dict.fromkeys(frame["load_profile"])}
    return frame["load_kw"].to_numpy() * frame["load_profile"].map(mean).to_numpy(float) * 8.76


def _add_pv(frame: pd.DataFrame, tables: Tables, share: float, seed: int, profiles: list[str] | None) -> int:
    members = len(frame)
    has = frame["pv_kw"].to_numpy() > 0
    wanted = _wanted(share, members, int(has.sum()))
    if wanted == 0:
        return 0
    known = profiles or [name for name in dict.fromkeys(frame["pv_profile"]) if name]
    if not known:
        raise ValueError("no member has a PV profile; name some of the profiles in pv_profiles")
    # All members draw, whether chosen or not, so that a larger share only adds to a smaller one.
    rng = np.random.default_rng([seed, 2])
    order = rng.permutation(members)
    factor = rng.uniform(0.8, 1.6, members)
    profile = rng.integers(len(known), size=members)
    chosen = order[~has[order]][:wanted]
    kw = np.clip(_yearly_mwh(frame, tables) * factor, PV_MIN_KW, PV_MAX_KW).round(2)
    frame.loc[chosen, "pv_kw"] = kw[chosen]
    frame.loc[chosen, "pv_profile"] = [known[i] for i in profile[chosen]]
    return wanted


def _add_batteries(frame: pd.DataFrame, tables: Tables, share: float, seed: int) -> int:
    members = len(frame)
    has = frame["battery_kwh"].to_numpy() > 0
    wanted = _wanted(share, members, int(has.sum()))
    if wanted == 0:
        return 0
    rng = np.random.default_rng([seed, 3])
    order = rng.permutation(members)
    hours = rng.uniform(1.0, 2.0, members)
    pv = frame["pv_kw"].to_numpy()
    order = np.concatenate([order[pv[order] > 0], order[pv[order] <= 0]])
    chosen = order[~has[order]][:wanted]
    basis = np.where(pv > 0, pv, _yearly_mwh(frame, tables))
    kwh = np.clip(basis * hours, BATTERY_MIN_KWH, BATTERY_MAX_KWH).round(1)[chosen]
    for column, values in {
        "battery_kwh": kwh,
        "battery_min_kwh": 0.0,
        "battery_start_kwh": kwh / 2,
        "battery_charge_kw": kwh / 2,
        "battery_discharge_kw": kwh / 2,
        "charge_efficiency": 0.95,
        "discharge_efficiency": 0.95,
        "self_discharge_per_day": 0.0013,
    }.items():
        frame.loc[chosen, column] = values
    return wanted


def _more_vehicles(tables: Tables, share: float, seed: int) -> pd.DataFrame | None:
    members, zone = tables.prosumers["prosumer_id"].tolist(), tables.meta.get("time_zone")
    return vehicles_of(
        members, tables.profiles["time"], share=share, seed=seed, present=tables.ev_sessions, zone=zone
    )
