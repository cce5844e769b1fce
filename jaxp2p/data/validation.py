"""Everything that can be wrong with a set of tables, found in one pass and reported together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from jaxp2p.data.blocks import column_blocks
from jaxp2p.data.faults import Fault, InputError, row_faults
from jaxp2p.data.frames import complete_frame, near
from jaxp2p.data.plausibility import unit_faults
from jaxp2p.data.schema import KEYS, OPTIONAL_TABLES, SCHEMA
from jaxp2p.data.stamp import is_checked, stamped
from jaxp2p.data.topology import topology_faults

if TYPE_CHECKING:
    from jaxp2p.data.tables import Tables

__all__ = ["Fault", "InputError", "check", "complete_and_validate", "validate"]

Frames = dict[str, pd.DataFrame]


def validate(tables: Tables) -> list[Fault]:
    """All faults of the tables, none when they can be used."""
    return complete_and_validate(tables.frames())[1]


def check(tables: Tables) -> Tables:
    """The tables with types and defaults filled in; at once where they are checked already.

    Raises:
        InputError: the tables cannot be used; the error lists every fault.
    """
    from jaxp2p.data.tables import Tables

    if is_checked(tables):
        return tables
    frames, faults = complete_and_validate(tables.frames())
    if faults:
        raise InputError(faults, source=str(tables.meta.get("name", "tables")))
    return stamped(Tables(**frames, meta=tables.meta))


def complete_and_validate(raw: Frames, *, unread: frozenset[str] = frozenset()) -> tuple[Frames, list[Fault]]:
    """Typed frames and all faults.

    Args:
        raw: frames by table name.
        unread: tables that could not be read, whose fault is already known; checks that
            need them are left out.
    """
    frames: Frames = {}
    faults: list[Fault] = []
    for table in SCHEMA:
        if raw.get(table) is not None:
            frames[table], more = complete_frame(table, raw[table])
            faults += more
        elif table not in OPTIONAL_TABLES and table not in unread:
            faults.append(Fault(table, "", None, "the table is missing"))
    for table, key in KEYS.items():
        if table in frames:
            faults += _duplicate_faults(table, key, frames[table][key])
    for table in ("profiles", "prices"):
        if table in frames:
            faults += _time_faults(table, frames[table]["time"])
    if "profiles" in frames and "prices" in frames:
        faults += _alignment_faults(frames["profiles"]["time"], frames["prices"]["time"])
    faults += _reference_faults(frames)
    if "prosumers" in frames:
        faults += _prosumer_faults(frames["prosumers"], frames.get("profiles"))
    if "profiles" in frames:
        faults += _profile_sign_faults(frames)
    if "buses" in frames:
        faults += _bus_faults(frames["buses"])
        if "lines" in frames:
            faults += topology_faults(frames["buses"], frames["lines"])
    if "prices" in frames:
        faults += _price_faults(frames["prices"])
    if "trades" in frames:
        faults += _trade_faults(frames["trades"])
    faults += unit_faults(frames)
    return frames, faults


def slot_hours(time: pd.Series) -> float:
    """Length of a slot in hours (the median step); NaN with fewer than two usable time stamps."""
    steps = np.diff(time.dropna().to_numpy("datetime64[ns]")).astype(np.int64)
    return float(np.median(steps)) / 3.6e12 if steps.size else float("nan")


def _duplicate_faults(table: str, key: str, names: pd.Series) -> list[Fault]:
    first: dict[str, int] = {}
    for i, name in enumerate(names):
        first.setdefault(name, i)
    repeated = names.duplicated().to_numpy() & (names != "").to_numpy()
    return row_faults(
        table, key, repeated, lambda i: f'"{names.iloc[i]}" stands already in row {first[names.iloc[i]] + 1}'
    )


def _time_faults(table: str, time: pd.Series) -> list[Fault]:
    stamps = time.to_numpy("datetime64[ns]")
    known = ~np.isnat(stamps)
    if known.sum() < 2:
        return [
            Fault(table, "time", None, "at least two time stamps are needed to know the length of a slot")
        ]
    if not known.all():
        return []  # a step next to an unreadable stamp says nothing; the stamp itself is already a fault
    steps = np.diff(stamps).astype(np.int64)
    forward = steps[steps > 0]
    if not forward.size:
        return [Fault(table, "time", None, "time does not advance")]
    # The most frequent step, so that one gap or one duplicate does not make every other row wrong.
    kinds, counts = np.unique(forward, return_counts=True)
    step = int(kinds[np.argmax(counts)])
    if step > 86_400_000_000_000:
        return [Fault(table, "time", None, "a slot is longer than a day")]

    def rows(bad, message):
        return row_faults(table, "time", np.concatenate(([False], bad)), message)

    def text(i):
        return str(stamps[i].astype("datetime64[s]"))

    minutes = step / 6e10
    return [
        *rows(steps == 0, lambda i: f"{text(i)} stands twice"),
        *rows(steps < 0, lambda i: f"{text(i)} comes after {text(i - 1)}: time must be sorted"),
        *rows(
            (steps > 0) & (steps != step),
            lambda i: (
                f"gap or irregular step: {text(i)} follows {text(i - 1)}, the step is {minutes:g} minutes"
            ),
        ),
    ]


def _alignment_faults(profiles: pd.Series, prices: pd.Series) -> list[Fault]:
    if len(profiles) != len(prices):
        text = (
            f"{len(prices)} rows, but the table profiles has {len(profiles)}: both must cover the same slots"
        )
        return [Fault("prices", "time", None, text)]
    ours, theirs = prices.to_numpy("datetime64[ns]"), profiles.to_numpy("datetime64[ns]")
    differ = np.flatnonzero((ours != theirs) & ~np.isnat(ours) & ~np.isnat(theirs))
    if not differ.size:
        return []
    i = int(differ[0])
    seconds = [str(stamps[i].astype("datetime64[s]")) for stamps in (ours, theirs)]
    text = f"{seconds[0]} here but {seconds[1]} in profiles ({differ.size} rows differ)"
    return [Fault("prices", "time", i + 1, text)]


_REFERENCES = (
    ("prosumers", "bus_id", "buses", "bus_id", "bus"),
    ("lines", "from_bus", "buses", "bus_id", "bus"),
    ("lines", "to_bus", "buses", "bus_id", "bus"),
    ("trades", "from_id", "prosumers", "prosumer_id", "prosumer"),
    ("trades", "to_id", "prosumers", "prosumer_id", "prosumer"),
    ("prosumers", "load_profile", "profiles", "", "profile"),
    ("prosumers", "reactive_profile", "profiles", "", "profile"),
    ("prosumers", "pv_profile", "profiles", "", "profile"),
    ("buses", "background_profile", "profiles", "", "profile"),
)


def _reference_faults(frames: Frames) -> list[Fault]:
    faults = []
    for table, column, target, key, noun in _REFERENCES:
        if table not in frames or target not in frames:
            continue
        names = frames[table][column]
        known = (
            [name for name in frames[target].columns if name != "time"]
            if not key
            else list(frames[target][key])
        )
        unknown = ~names.isin(known).to_numpy() & (names != "").to_numpy()
        faults += row_faults(
            table,
            column,
            unknown,
            lambda i, names=names, known=known, noun=noun: (
                f'unknown {noun} "{names.iloc[i]}"{near(names.iloc[i], known)}'
            ),
        )
    return faults


def _prosumer_faults(frame: pd.DataFrame, profiles: pd.DataFrame | None) -> list[Fault]:
    faults = []
    names = frame["prosumer_id"].to_numpy()

    def add(column, bad, message):
        faults.extend(row_faults("prosumers", column, bad, lambda i: f"{names[i]}: {message(i)}"))

    top, low, start = (frame[f"battery_{part}kwh"].to_numpy() for part in ("", "min_", "start_"))
    add(
        "battery_min_kwh",
        (low > top) & (top >= 0),
        lambda i: f"{low[i]:g} kWh is above battery_kwh = {top[i]:g} kWh",
    )
    outside = ((start < low) | (start > top)) & (low <= top)
    add(
        "battery_start_kwh",
        outside,
        lambda i: f"start energy {start[i]:g} kWh is outside the limits {low[i]:g} to {top[i]:g} kWh",
    )
    pv = frame["pv_kw"].to_numpy()
    add(
        "pv_profile",
        (pv > 0) & (frame["pv_profile"] == "").to_numpy(),
        lambda i: f"{pv[i]:g} kW of PV, no profile",
    )
    share, cost = frame["load_flex_share"].to_numpy(), frame["load_flex_cost_eur_per_kw2h"].to_numpy()
    add(
        "load_flex_cost_eur_per_kw2h",
        (share > 0) & (cost == 0),
        lambda i: "must be above 0 where load_flex_share is above 0, else the load has no optimum",
    )
    hours = slot_hours(profiles["time"]) if profiles is not None else float("nan")
    if hours > 0:
        loss = frame["self_discharge_per_day"].to_numpy()
        with np.errstate(invalid="ignore"):
            leaked = (1.0 - (1.0 - loss) ** (hours / 24.0)) * low
            charged = hours * frame["charge_efficiency"].to_numpy() * frame["battery_charge_kw"].to_numpy()
            # A relative slack of 1e-9: equality is allowed and must survive rounding.
            short = leaked > charged * (1 + 1e-9)
        add(
            "battery_charge_kw",
            short,
            lambda i: (
                f"self-discharge takes {leaked[i]:.3g} kWh per slot from battery_min_kwh, "
                f"but charging restores {charged[i]:.3g} kWh at most"
            ),
        )
    return faults


def _profile_sign_faults(frames: Frames) -> list[Fault]:
    """Load and PV profiles must not be negative; reactive and background profiles may be."""
    if "prosumers" not in frames:
        return []
    profiles, faults = frames["profiles"], []
    users = {"load_profile": "load", "pv_profile": "PV"}
    for column, noun in users.items():
        used = dict.fromkeys(frames["prosumers"][column])
        known = [name for name in used if name in profiles.columns and name != "time"]
        for some, block in column_blocks(profiles, known):
            for k in np.flatnonzero((block < 0).any(axis=0)).tolist():
                values = block[:, k]
                faults += row_faults(
                    "profiles",
                    some[k],
                    values < 0,
                    lambda i, v=values, noun=noun: f"{v[i]:g} in a {noun} profile must be at least 0",
                )
    return faults


def _bus_faults(frame: pd.DataFrame) -> list[Fault]:
    low, high, names = frame["v_min_pu"].to_numpy(), frame["v_max_pu"].to_numpy(), frame["bus_id"].to_numpy()
    faults = row_faults(
        "buses",
        "v_min_pu",
        low >= high,
        lambda i: f"{names[i]}: v_min_pu = {low[i]:g} must be below v_max_pu = {high[i]:g}",
    )
    slack = frame.loc[frame["slack"] == 1.0, "bus_id"]
    if len(slack) != 1 and frame["slack"].notna().all():
        which = f" ({', '.join(slack[:10])})" if len(slack) else ""
        faults.append(
            Fault("buses", "slack", None, f"exactly one bus must be the slack bus, not {len(slack)}{which}")
        )
    return faults


def _price_faults(frame: pd.DataFrame) -> list[Fault]:
    buy, sell = frame["buy_eur_per_kwh"].to_numpy(), frame["sell_eur_per_kwh"].to_numpy()
    return row_faults(
        "prices",
        "buy_eur_per_kwh",
        buy < sell,
        lambda i: (
            f"buy price {buy[i]:g} is below sell price {sell[i]:g} EUR/kWh: buying to sell would pay forever"
        ),
    )


def _trade_faults(frame: pd.DataFrame) -> list[Fault]:
    one, two = frame["from_id"].to_numpy(), frame["to_id"].to_numpy()
    faults = row_faults(
        "trades", "to_id", (one == two) & (one != ""), lambda i: f'"{one[i]}" trades with itself'
    )
    pairs = pd.Series([tuple(sorted(pair)) for pair in zip(one, two, strict=True)], dtype=object)
    faults += row_faults(
        "trades",
        "to_id",
        pairs.duplicated().to_numpy() & (one != two),
        lambda i: f'the pair "{one[i]}", "{two[i]}" stands in an earlier row',
    )
    return faults
