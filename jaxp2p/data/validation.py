"""Everything that can be wrong with a set of tables, found in one pass and reported together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from jaxp2p.data.blocks import column_blocks
from jaxp2p.data.faults import Fault, InputError, row_faults
from jaxp2p.data.frames import complete_frame, near, plain_columns
from jaxp2p.data.names import as_name, distinct, resolved
from jaxp2p.data.parallel import merge_parallel, ratio_faults
from jaxp2p.data.plausibility import Whole, check_accept, judge, whole_of
from jaxp2p.data.rounding import ROUNDING, clipped, largest
from jaxp2p.data.schema import KEYS, OPTIONAL_TABLES, SCHEMA, TIMES
from jaxp2p.data.stamp import is_checked, stamped
from jaxp2p.data.stays import TABLE as STAYS
from jaxp2p.data.stays import stay_faults, stay_remarks
from jaxp2p.data.times import alignment_faults, check_zone, offset_faults, slot_hours, step_faults
from jaxp2p.data.topology import topology_faults

if TYPE_CHECKING:
    from jaxp2p.data.tables import Tables

__all__ = ["Checked", "Fault", "InputError", "check", "complete_and_validate", "slot_hours", "validate"]

Frames = dict[str, pd.DataFrame]
ONE_BUS = "grid"  # where all members are who have no feeder


class Checked(NamedTuple):
    """Typed frames, everything that is wrong with them, and what is remarkable but taken."""

    frames: Frames
    faults: list[Fault]
    remarks: list[Fault]


def validate(tables: Tables, *, accept: Iterable[str] = (), time_zone: str | None = None) -> list[Fault]:
    """All faults of the tables, none when they can be used. Arguments as those of `check`."""
    return _checked(tables, accept, time_zone).faults


def check(tables: Tables, *, accept: Iterable[str] = (), time_zone: str | None = None) -> Tables:
    """The tables with types and defaults filled in, parallel branches merged; `remarks` says what is unusual.

    At once where they are checked already, and nothing new is asked for.

    accept: judgements of plausibility to be overruled, by their names (see `JUDGEMENTS`); they are kept in
    meta["accept"]. time_zone: times without a UTC offset are local times of this zone, such as Europe/Berlin;
    they become UTC, and meta["time_zone"] keeps the zone.

    Raises:
        InputError: the tables cannot be used; the error lists every fault.
        ValueError: there is no such judgement or time zone, or the times are in UTC already.
    """
    accepted = check_accept((*tables.meta.get("accept", ()), *check_accept(accept)))
    if time_zone is None and set(accepted) == set(tables.meta.get("accept", ())) and is_checked(tables):
        return tables
    done = _checked(tables, accept, time_zone)
    if done.faults:
        raise InputError(done.faults, source=str(tables.meta.get("name", "tables")))
    meta = dict(tables.meta)
    if accepted:
        meta["accept"] = list(accepted)
    if time_zone is not None:
        meta["time_zone"] = time_zone
    return stamped(
        tables.replace(
            **done.frames,
            meta=meta,
            remarks=_joined(tables.remarks, done.remarks),
            whole=tables.whole or whole_of(done.frames),
        )
    )


def _joined(known: Iterable[Fault], more: Iterable[Fault]) -> tuple[Fault, ...]:
    """The remarks without repetition; those known already may have the line of a file besides."""
    unique: dict[Fault, Fault] = {}
    for remark in (*known, *more):
        unique.setdefault(replace(remark, line=None), remark)
    return tuple(unique.values())


def _checked(tables: Tables, accept: Iterable[str], time_zone: str | None) -> Checked:
    known = tables.meta.get("time_zone")
    if time_zone is not None and known is not None:
        raise ValueError(f"the times of these tables are in UTC already, those of {known} outside")
    return complete_and_validate(
        tables.frames(),
        accept=(*tables.meta.get("accept", ()), *check_accept(accept)),
        whole=tables.whole,
        zone=time_zone,
        utc=known is not None,
    )


def complete_and_validate(
    raw: Frames,
    *,
    unread: frozenset[str] = frozenset(),
    accept: Iterable[str] = (),
    whole: Whole | None = None,
    zone: str | None = None,
    utc: bool = False,
) -> Checked:
    """Typed frames, all faults and remarks.

    Args:
        raw: frames by table name.
        unread: tables that could not be read, whose fault is already known; checks that
            need them are left out.
        accept: judgements of plausibility that are overruled.
        whole: figures of the data that the frames are a window of.
        zone: time zone of the times without a UTC offset.
        utc: those without are in UTC, as those with one become.
    """
    if zone is not None:
        check_zone(zone)
    frames: Frames = {}
    faults: list[Fault] = []
    raw, remarks = _with_feeder(raw, unread)
    for table in SCHEMA:
        if raw.get(table) is not None:
            frames[table], more = complete_frame(table, raw[table], zone=zone)
            faults += more
        elif table not in OPTIONAL_TABLES and table not in unread:
            faults.append(Fault(table, "", None, "the table is missing"))
    for table, key in KEYS.items():
        if table in frames:
            faults += _duplicate_faults(table, key, frames[table][key])
    for table in ("profiles", "prices"):
        if table in frames:
            faults += step_faults(table, frames[table]["time"], zone=zone)
    if "profiles" in frames and "prices" in frames:
        faults += alignment_faults(frames["profiles"]["time"], frames["prices"]["time"])
        if len(frames["prices"]) == len(frames["profiles"]):
            frames["prices"]["time"] = frames["prices"]["time"].where(
                frames["prices"]["time"].isna() | bool(faults), frames["profiles"]["time"]
            )
    if zone is None and not utc:
        faults += _clock_faults(raw)
    _resolve_references(frames)
    faults += _reference_faults(frames)
    if "prosumers" in frames:
        faults += _prosumer_faults(frames["prosumers"], frames.get("profiles"))
    if "profiles" in frames:
        faults += _profile_sign_faults(frames)
    if "buses" in frames:
        faults += _bus_faults(frames["buses"])
        if "lines" in frames and (len(frames["lines"]) or len(frames["buses"]) < 2):
            faults += topology_faults(frames["buses"], frames["lines"])
            faults += ratio_faults(frames["lines"])
        elif "lines" in frames:
            text = (
                f"the table has no rows, and there are {len(frames['buses'])} buses: only one needs no branch"
            )
            faults.append(Fault("lines", "", None, text))
    if "prices" in frames:
        faults += _price_faults(frames["prices"])
    if "trades" in frames:
        faults += _trade_faults(frames["trades"])
    if STAYS in frames:
        faults += stay_faults(frames[STAYS])
    implausible, unusual = judge(frames, accept=accept, whole=whole)
    faults += implausible
    remarks += unusual
    if not faults and STAYS in frames:
        remarks += stay_remarks(frames[STAYS], frames["profiles"]["time"])
    if not faults and "lines" in frames:
        frames["lines"], merged = merge_parallel(frames["lines"])
        remarks += merged
    return Checked(frames, faults, remarks)


def _with_feeder(raw: Frames, unread: frozenset[str]) -> tuple[Frames, list[Fault]]:
    """The frames with an empty `lines` for a single bus, and with a single bus where there is no feeder."""
    absent = [table for table in ("buses", "lines") if raw.get(table) is None and table not in unread]
    homes = raw.get("prosumers")
    if "lines" in absent and "buses" not in absent:
        if raw.get("buses") is None or len(raw["buses"]) != 1:
            return raw, []
        return raw | {"lines": _no_lines()}, []
    if absent != ["buses", "lines"] or homes is None:
        return raw, []
    names = dict.fromkeys(as_name(cell) for cell in homes["bus_id"]) if "bus_id" in homes.columns else {}
    names.pop("", None)
    bus = next(iter(names)) if len(names) == 1 else ONE_BUS
    text = (
        "no buses and no lines: a community without a feeder, nothing limits what flows between the members"
    )
    if len(names) > 1:
        text += f"; the {len(names)} buses named in prosumers count as one"
    return raw | {
        "prosumers": homes.assign(bus_id=bus),
        "buses": pd.DataFrame({"bus_id": [bus], "vn_kv": [0.4], "slack": [1.0]}),
        "lines": _no_lines(),
    }, [Fault("buses", "", None, text, "no_feeder")]


def _no_lines() -> pd.DataFrame:
    return pd.DataFrame({column.name: [] for column in SCHEMA["lines"]}, dtype=object)


def _clock_faults(raw: Frames) -> list[Fault]:
    """Stays with offsets from UTC beside profiles without, or the other way round."""
    if raw.get(STAYS) is None or raw.get("profiles") is None:
        return []
    stays, profiles = (plain_columns(table, raw[table]) for table in (STAYS, "profiles"))
    once = lambda frame, name: list(frame.columns).count(name) == 1
    times = [name for name in TIMES[STAYS] if once(stays, name)] if once(profiles, "time") else []
    faults = [offset_faults(STAYS, name, stays[name], profiles["time"]) for name in times]
    return [fault for found in faults for fault in found]


def _duplicate_faults(table: str, key: str, names: pd.Series) -> list[Fault]:
    repeated = names.duplicated().to_numpy() & (names != "").to_numpy()
    if not repeated.any():
        return []
    first: dict[str, int] = {}
    for i, name in enumerate(names):
        first.setdefault(name, i)
    return row_faults(
        table, key, repeated, lambda i: f'"{names.iloc[i]}" stands already in row {first[names.iloc[i]] + 1}'
    )


_REFERENCES = (
    ("prosumers", "bus_id", "buses", "bus_id", "bus"),
    ("lines", "from_bus", "buses", "bus_id", "bus"),
    ("lines", "to_bus", "buses", "bus_id", "bus"),
    ("trades", "from_id", "prosumers", "prosumer_id", "prosumer"),
    ("trades", "to_id", "prosumers", "prosumer_id", "prosumer"),
    ("ev_sessions", "prosumer_id", "prosumers", "prosumer_id", "prosumer"),
    ("prosumers", "load_profile", "profiles", "", "profile"),
    ("prosumers", "reactive_profile", "profiles", "", "profile"),
    ("prosumers", "pv_profile", "profiles", "", "profile"),
    ("buses", "background_profile", "profiles", "", "profile"),
)


def _known(frames: Frames) -> dict[tuple[str, str], dict[str, None]]:
    """What names may refer to, in order, by table and column; without a column, the profiles."""
    known = {}
    for target, key in {(target, key) for _, _, target, key, _ in _REFERENCES if target in frames}:
        frame = frames[target]
        names = distinct(frame[key]) if key else frame.columns.drop("time").to_numpy(object).tolist()
        known[target, key] = dict.fromkeys(names)
    return known


def _resolve_references(frames: Frames) -> None:
    """References such as 12.0 to the name 12, in place: pandas writes a column with an empty cell so."""
    known = _known(frames)
    for table, column, target, key, _ in _REFERENCES:
        if table in frames and target in frames:
            frames[table][column] = resolved(frames[table][column], known[target, key].keys())


def _reference_faults(frames: Frames) -> list[Fault]:
    faults, known = [], _known(frames)
    for table, column, target, key, noun in _REFERENCES:
        if table not in frames or target not in frames:
            continue
        names, there = frames[table][column].to_numpy(object), known[target, key]
        unknown = [name != "" and name not in there for name in names]

        def text(i: int, names: np.ndarray = names, there: dict = there, noun: str = noun) -> str:
            return f'unknown {noun} "{names[i]}"{near(names[i], list(there))}'

        faults += row_faults(table, column, unknown, text)
    return faults


def _prosumer_faults(frame: pd.DataFrame, profiles: pd.DataFrame | None) -> list[Fault]:
    faults = []
    names = frame["prosumer_id"].to_numpy()

    def add(column, bad, message):
        faults.extend(row_faults("prosumers", column, bad, lambda i: f"{names[i]}: {message(i)}"))

    top, low, start = (frame[f"battery_{part}kwh"].to_numpy() for part in ("", "min_", "start_"))
    low = clipped(low, -np.inf, top, top)
    start = np.where(low <= top, clipped(start, low, top, top), start)
    frame["battery_min_kwh"], frame["battery_start_kwh"] = low, start
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
            short = leaked > charged * (1 + ROUNDING)
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
        used = distinct(frames["prosumers"][column])
        known = [name for name in used if name in profiles.columns and name != "time"]
        for some, block in column_blocks(profiles, known):
            for k in np.flatnonzero((block < 0).any(axis=0)).tolist():
                profiles[some[k]] = values = clipped(block[:, k], 0.0, np.inf, largest(block[:, k]))

                def text(i: int, values: np.ndarray = values, noun: str = noun) -> str:
                    return f"{values[i]:g} in a {noun} profile must be at least 0"

                faults += row_faults("profiles", some[k], values < 0, text)
    return faults


def _bus_faults(frame: pd.DataFrame) -> list[Fault]:
    low, high, names = frame["v_min_pu"].to_numpy(), frame["v_max_pu"].to_numpy(), frame["bus_id"].to_numpy()
    faults = row_faults(
        "buses",
        "v_min_pu",
        low >= high,
        lambda i: f"{names[i]}: v_min_pu = {low[i]:g} must be below v_max_pu = {high[i]:g}",
    )
    shares = sum(frame[f"background_{part}_share"].to_numpy() for part in ("z", "i"))
    faults += row_faults(
        "buses",
        "background_i_share",
        shares > 1 + ROUNDING,
        lambda i: f"{names[i]}: with background_z_share it is {shares[i]:g} of the load, above 1",
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
    if not (buy < sell).any():
        return []
    sell = clipped(sell, -np.inf, buy, np.maximum(np.abs(buy), largest(buy)))
    frame["sell_eur_per_kwh"] = sell
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
