"""The embedded cases, and the choice of a window of days."""

from __future__ import annotations

import difflib
from datetime import date, datetime

import pandas as pd

from jaxp2p.data.embed import read_profiles, read_small
from jaxp2p.data.frames import complete_frame
from jaxp2p.data.plausibility import whole_of
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
from jaxp2p.data.stamp import is_checked, stamped
from jaxp2p.data.stays import of_window
from jaxp2p.data.tables import Tables, complete
from jaxp2p.data.times import JITTER
from jaxp2p.settings.span import between

CASES = {
    "rural3": "SimBench 1-LV-rural3--2-sw: 153 members on 129 buses, 27 PV plants, 16 batteries",
    "rural1": "SimBench 1-LV-rural1--2-sw: 28 members on 15 buses, 468 kW of PV behind a 160 kVA transformer",
    "ieee33": "IEEE 33-bus feeder (Baran and Wu), 12.66 kV, populated with generated homes",
}

DEFAULT_START = "2016-07-04"  # the Monday of a summer week, used where the data have it

IEEE33_PV_SHARE, IEEE33_BATTERY_SHARE = 0.4, 0.3


def load_case(
    name: str,
    *,
    price: str = "tou",
    seed: int = 0,
    homes: int = 300,
    pv_share: float | None = None,
    battery_share: float | None = None,
    ev_share: float | None = None,
    pv_scale: float = 1.0,
    battery_scale: float = 1.0,
    load_scale: float = 1.0,
) -> Tables:
    """An embedded case: a year (2016) of 15-minute slots.

    Args:
        name: one of `CASES`.
        price: tariff, one of `jaxp2p.data.PRICES` (all synthetic).
        seed: for the tariff, the generated homes and the added devices.
        homes: number of homes of `ieee33`; the SimBench cases have their own.
        pv_share, battery_share, ev_share, pv_scale, battery_scale, load_scale: see `densify`. `ieee33` has
            shares of 0.4 and 0.3 of PV plants and batteries where none are given; the SimBench cases have the
            devices of their data. No case has electric vehicles of its own.

    Raises:
        ValueError: unknown case or price, or a share or scale out of range.
    """
    if name not in CASES:
        close = difflib.get_close_matches(name, CASES, n=1)
        hint = f'; did you mean "{close[0]}"?' if close else ""
        raise ValueError(f"unknown case {name!r}; there are {', '.join(CASES)}{hint}")
    frames, meta = read_small(name)
    if name == "ieee33":
        frames, profiles = _populated_feeder(frames, meta, homes, seed)
        pv_share = IEEE33_PV_SHARE if pv_share is None else pv_share
        battery_share = IEEE33_BATTERY_SHARE if battery_share is None else battery_share
        synthetic = [f"homes ({homes}, seed {seed}) and the background of the buses"]
    else:
        names = pd.concat([frames["prosumers"][f"{use}_profile"] for use in ("load", "reactive", "pv")])
        profiles = read_profiles(meta, [name for name in dict.fromkeys(names) if name])
        synthetic = []
    meta = {key: value for key, value in meta.items() if key != "profiles"}
    meta["synthetic"] = [*synthetic, f"prices ({price}, seed {seed})"]
    prices = make_prices(profiles["time"], price, seed=seed)
    tables = complete(Tables(**frames, profiles=profiles, prices=prices, meta=meta))
    return densify(
        tables,
        pv_share=pv_share,
        battery_share=battery_share,
        ev_share=ev_share,
        seed=seed,
        pv_profiles=list(PV_PROFILES) if name == "ieee33" else None,
        pv_scale=pv_scale,
        battery_scale=battery_scale,
        load_scale=load_scale,
    )


def _populated_feeder(
    frames: dict[str, pd.DataFrame], meta: dict, count: int, seed: int
) -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
    """Homes on the buses of `ieee33`; what they leave of the nominal load stays as background.

    The feeder profile of the background is the mean of the household, business and farm profiles of SimBench,
    divided by its peak. The homes of a bus replace as much of its nominal load as they draw at the peak of
    the community together, so the feeder's peak stays at about its nominal 3,715 kW and 2,300 kvar, for which
    its voltages are known (0.913 p.u. at bus 18).
    """
    if count < 1:
        raise ValueError(f"homes = {count} must be at least 1")
    buses = frames["buses"]
    nominal = buses["background_kw"].astype(float).to_numpy()
    prosumers = generate_homes(buses["bus_id"].tolist(), nominal, count, seed=seed)
    reactive = [f"{name}_q" for name in HOUSEHOLDS]
    series = read_profiles(meta, list(dict.fromkeys([*HOUSEHOLDS, *reactive, *PV_PROFILES, *FEEDER_MEMBERS])))
    buses, prosumers = in_place_of_loads(buses, prosumers, series)
    used = ["time", *HOUSEHOLDS, *reactive, *PV_PROFILES]
    profiles = series[used].assign(**{FEEDER_PROFILE: feeder_profile(series)})
    buses = buses.assign(background_profile=FEEDER_PROFILE)
    return {**frames, "buses": buses, "prosumers": prosumers}, profiles


def window(tables: Tables, *, start: str | date | datetime | None = None, days: float = 7) -> Tables:
    """The slots of `days` days from `start` on, and the stays of vehicles of which some part is in them.

    No stay is cut. Of every vehicle at least one is kept, so that the community is the same in every window.
    `start` None means Monday, 4 July 2016, or the first slot where the data do not contain that week.
    Without a UTC offset it is a time of the tables' time zone, where they have one (`meta["time_zone"]`).

    Raises:
        ValueError: `start` is no date, or the window is not inside the data; the message names their range.
    """
    time = tables.profiles["time"]
    first, step = time.iloc[0], time.iloc[1] - time.iloc[0]
    end = time.iloc[-1] + step
    zone = tables.meta.get("time_zone")
    length, slack = pd.Timedelta(days=days), JITTER * step  # days may be a rounded quotient
    if length < step - slack:
        raise ValueError(f"days = {days} must be at least one slot ({step})")
    if start is None:
        begin = _stored(pd.Timestamp(DEFAULT_START), zone)
        if begin < first or begin + length > end + slack:
            begin = first
    else:
        begin = _moment("start", start, zone)
    if begin is pd.NaT or begin < first - slack or begin + length > end + slack:
        shown = (_shown(moment, zone) for moment in (begin, first, end))
        raise ValueError(
            "{} days from {} are not inside the data, which go from {} to {}".format(f"{days:g}", *shown)
        )
    inside = ((time >= begin - slack) & (time < begin + length - slack)).to_numpy()
    right, stays = is_checked(tables), tables.ev_sessions
    if stays is not None:
        typed = stays if right else complete_frame("ev_sessions", stays)[0]
        stays = stays[of_window(typed, begin, begin + length)].reset_index(drop=True)
    chosen = tables.replace(
        profiles=tables.profiles[inside].reset_index(drop=True),
        prices=tables.prices[inside].reset_index(drop=True),
        ev_sessions=stays,
        whole=tables.whole or whole_of(tables.frames()),
    )
    # Some of the slots of checked tables are right as well, but one alone does not say how long it is.
    return stamped(chosen) if inside.sum() > 1 and right else chosen


def window_until(
    tables: Tables, *, start: str | None = None, days: float | None = None, until: str
) -> Tables:
    """The slots up to a moment: from `start` on, or of so many days before it; of both, if they agree.

    Moments and errors are those of `window`.
    """
    zone = tables.meta.get("time_zone")
    end = _moment("until", until, zone)
    if start is not None:
        days = between(_moment("start", start, zone), end, days)
    elif days is None:
        raise ValueError("until needs a start, a number of days or a duration")
    begin = end - pd.Timedelta(days=days)
    return window(tables, start=begin.tz_localize("UTC"), days=days)


def _moment(name: str, value: str | date | datetime, zone: str | None) -> pd.Timestamp:
    """A moment as the tables have it; ValueError for what is none."""
    try:
        return _stored(pd.Timestamp(value), zone)
    except ValueError:
        raise ValueError(f"{name} = {value!r} is not a date such as {DEFAULT_START}") from None


def _stored(moment: pd.Timestamp, zone: str | None) -> pd.Timestamp:
    """A moment as the tables have it: in UTC where it has an offset or they have a time zone."""
    if zone is not None and moment is not pd.NaT and moment.tzinfo is None:
        # of an hour that comes twice the first is meant, of one that does not exist the next moment
        moment = moment.tz_localize(zone, ambiguous=True, nonexistent="shift_forward")
    return moment if moment is pd.NaT or moment.tzinfo is None else moment.tz_convert(None)


def _shown(moment: pd.Timestamp, zone: str | None) -> str:
    if zone is None or moment is pd.NaT:
        return str(moment)
    return f"{moment.tz_localize('UTC').tz_convert(zone):%Y-%m-%d %H:%M:%S} {zone}"


def days_before(tables: Tables, start: pd.Timestamp, days: int) -> Tables | None:
    """The `days` days before `start`, or as many whole days as there are; None: not one.

    What a forecast may look back on: `start` is the first slot of a window of these tables.
    """
    time = tables.profiles["time"]
    whole = min(days, (start - time.iloc[0]) // pd.Timedelta(days=1))
    begin = start - pd.Timedelta(days=whole)
    return window(tables, start=begin.tz_localize("UTC"), days=whole) if whole > 0 else None
