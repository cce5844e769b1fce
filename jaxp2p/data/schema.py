"""The columns of every input table: one specification for reading, defaults, validation and documentation."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from typing import Literal

INF = math.inf


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of an input table.

    Attributes:
        name: column name, with its unit as the last part where it has one.
        unit: unit as text, empty for names.
        meaning: one sentence.
        dtype: `str`, `float`, `flag` (0 or 1) or `time` (ISO 8601).
        required: the column must be there and no cell may be empty.
        default: value of an absent column or of an empty cell, when not required.
        default_text: how the documentation states the default, where the value alone does not say it.
        minimum, maximum: closed limits; `above` and `below` are open ones.
        infinite: infinity is allowed (written as `inf`, or as an empty cell where it is the default).
    """

    name: str
    unit: str = ""
    meaning: str
    dtype: Literal["str", "float", "flag", "time"] = "float"
    required: bool = False
    default: float | str | None = None
    default_text: str = ""
    minimum: float = -INF
    maximum: float = INF
    above: float = -INF
    below: float = INF
    infinite: bool = False

    @property
    def range_text(self) -> str:
        """The allowed range in words, empty when there is none."""
        parts = []
        if self.minimum > -INF:
            parts.append(f"at least {self.minimum:g}")
        if self.above > -INF:
            parts.append(f"above {self.above:g}")
        if self.maximum < INF:
            parts.append(f"at most {self.maximum:g}")
        if self.below < INF:
            parts.append(f"below {self.below:g}")
        return ", ".join(parts)


def _name(name: str, meaning: str, *, required: bool = True, default_text: str = "none") -> Column:
    default = None if required else ""
    return Column(
        name=name, meaning=meaning, dtype="str", required=required, default=default, default_text=default_text
    )


def _number(name: str, unit: str, meaning: str, **options) -> Column:
    return Column(name=name, unit=unit, meaning=meaning, **options)


def _reading(name: str, meaning: str) -> Column:
    return _number(name, "kWh", meaning, default=math.nan, default_text="none", minimum=0.0)


def _time(name: str, meaning: str) -> Column:
    return Column(name=name, dtype="time", required=True, meaning=meaning)


SCHEMA: dict[str, tuple[Column, ...]] = {
    "prosumers": (
        _name("prosumer_id", "name of the member, unique"),
        _name("bus_id", "bus where the member is connected"),
        _name("load_profile", "profile of the load, a column of `profiles`, not negative"),
        _number(
            "load_kw",
            "kW",
            "multiplies the load profile: the peak for a normalised profile, 1 for a profile in kW",
            required=True,
            minimum=0.0,
        ),
        _name(
            "reactive_profile",
            "profile of the reactive load",
            required=False,
            default_text="the load profile, where load_kvar is not 0",
        ),
        _number(
            "load_kvar",
            "kvar",
            "multiplies the reactive profile, positive = inductive consumption",
            default=0.0,
        ),
        _name(
            "pv_profile", "profile of the PV plant, not negative; required where pv_kw > 0", required=False
        ),
        _number(
            "pv_kw",
            "kW",
            "multiplies the PV profile: rated power for a normalised profile",
            default=0.0,
            minimum=0.0,
        ),
        _number(
            "inverter_kva",
            "kVA",
            "rating of the PV inverter: what it leaves beside the active power can be reactive",
            default=math.nan,
            minimum=0.0,
            default_text="the PV's rated power over least_cos_phi",
        ),
        _number(
            "least_cos_phi",
            "-",
            "least power factor of the PV inverter, for rules of reactive power",
            default=math.nan,
            above=0.0,
            maximum=1.0,
            default_text="0.95 up to 4.6 kVA, else 0.9 (VDE-AR-N 4105)",
        ),
        _number("battery_kwh", "kWh", "largest stored energy, 0 = no battery", default=0.0, minimum=0.0),
        _number(
            "battery_min_kwh", "kWh", "smallest stored energy, at most battery_kwh", default=0.0, minimum=0.0
        ),
        _number(
            "battery_start_kwh",
            "kWh",
            "stored energy at the start",
            minimum=0.0,
            default_text="half-way between battery_min_kwh and battery_kwh",
        ),
        _number(
            "battery_charge_kw", "kW", "largest charging power, at the meter side", default=0.0, minimum=0.0
        ),
        _number(
            "battery_discharge_kw",
            "kW",
            "largest discharging power, at the meter side",
            default=0.0,
            minimum=0.0,
        ),
        _number(
            "charge_efficiency",
            "-",
            "stored energy per charged energy, one way",
            default=0.95,
            above=0.0,
            maximum=1.0,
        ),
        _number(
            "discharge_efficiency",
            "-",
            "delivered energy per energy taken from the store, one way",
            default=0.95,
            above=0.0,
            maximum=1.0,
        ),
        _number(
            "self_discharge_per_day",
            "1/day",
            "share of the stored energy that is lost in a day",
            default=0.0,
            minimum=0.0,
            below=1.0,
        ),
        _number(
            "wear_cost_eur_per_kwh",
            "EUR/kWh",
            "battery wear, per kWh into and per kWh out of the store",
            default=0.0,
            minimum=0.0,
        ),
        _number(
            "curtailment_cost_eur_per_kwh",
            "EUR/kWh",
            "cost of PV energy that is not used",
            default=0.0,
            minimum=0.0,
        ),
        _number(
            "load_flex_share",
            "-",
            "the load may move within (1 - share) to (1 + share) times its profile",
            default=0.0,
            minimum=0.0,
            maximum=1.0,
        ),
        _number(
            "load_flex_cost_eur_per_kw2h",
            "EUR/(kW2 h)",
            "discomfort per squared kW of moved load and hour; above 0 where load_flex_share > 0",
            default=0.0,
            minimum=0.0,
        ),
        _number(
            "buy_max_kw",
            "kW",
            "largest power bought from the utility",
            default=INF,
            minimum=0.0,
            infinite=True,
            default_text="no limit",
        ),
        _number(
            "sell_max_kw",
            "kW",
            "largest power sold to the utility",
            default=INF,
            minimum=0.0,
            infinite=True,
            default_text="no limit",
        ),
    ),
    "buses": (
        _name("bus_id", "name of the bus, unique"),
        Column(name="vn_kv", unit="kV", required=True, above=0.0, meaning="nominal voltage, line to line"),
        Column(name="v_min_pu", unit="p.u.", default=0.9, minimum=0.0, meaning="lowest allowed voltage"),
        Column(name="v_max_pu", unit="p.u.", default=1.1, above=0.0, meaning="highest allowed voltage"),
        _number(
            "slack",
            "0 or 1",
            "1 at the one bus whose voltage is held by the grid above",
            dtype="flag",
            required=True,
            minimum=0.0,
            maximum=1.0,
        ),
        _number(
            "v_set_pu",
            "p.u.",
            "voltage held at the slack bus, referred to the low-voltage side of a transformer there",
            default=1.0,
            above=0.0,
        ),
        Column(name="x", unit="", default=math.nan, default_text="empty", meaning="coordinate for pictures"),
        Column(name="y", unit="", default=math.nan, default_text="empty", meaning="coordinate for pictures"),
        _name(
            "background_profile",
            "profile of the load at the bus that is not a member's",
            required=False,
            default_text="constant 1",
        ),
        _number(
            "background_kw", "kW", "multiplies the background profile, positive = consumption", default=0.0
        ),
        _number(
            "background_kvar",
            "kvar",
            "multiplies the background profile, positive = consumption",
            default=0.0,
        ),
        _number(
            "background_z_share",
            "-",
            "share of the background load that goes with the square of the voltage (constant impedance)",
            default=0.0,
            minimum=0.0,
            maximum=1.0,
        ),
        _number(
            "background_i_share",
            "-",
            "share of the background load that goes with the voltage (constant current); with "
            "background_z_share at most 1",
            default=0.0,
            minimum=0.0,
            maximum=1.0,
        ),
        _number(
            "shunt_kw", "kW", "what a shunt at the bus consumes at 1 p.u., whatever the time", default=0.0
        ),
        _number(
            "shunt_kvar",
            "kvar",
            "the same, reactive: positive = inductive, negative = a capacitor",
            default=0.0,
        ),
    ),
    "lines": (
        _name("line_id", "name of the branch, unique"),
        _name("from_bus", "bus at one end"),
        _name("to_bus", "bus at the other end"),
        _name("kind", "`line` or `transformer`"),
        _number(
            "r_ohm",
            "ohm",
            "series resistance, referred to the lower vn_kv of the two ends",
            required=True,
            minimum=0.0,
        ),
        _number(
            "x_ohm",
            "ohm",
            "series reactance, referred to the lower vn_kv of the two ends",
            required=True,
            minimum=0.0,
        ),
        _number(
            "s_max_kva",
            "kVA",
            "largest apparent power, three phases together",
            default=INF,
            above=0.0,
            infinite=True,
            default_text="unrated",
        ),
        _number(
            "b_us",
            "uS",
            "shunt susceptance of the whole branch, half of it at either end: the charging of a cable "
            "(positive), the magnetising of a transformer (negative); at the voltage of r_ohm",
            default=0.0,
        ),
        _number(
            "g_us",
            "uS",
            "shunt conductance of the whole branch, half of it at either end: the iron losses of a "
            "transformer; at the voltage of r_ohm",
            default=0.0,
            minimum=0.0,
        ),
        _number(
            "ratio",
            "-",
            "of a transformer: off-nominal turns ratio, voltage at from_bus over voltage at to_bus in p.u. "
            "when nothing flows",
            default=1.0,
            above=0.0,
        ),
    ),
    "profiles": (
        Column(
            name="time",
            dtype="time",
            required=True,
            meaning="start of the slot, ISO 8601, at a regular step; every other column is a profile",
        ),
    ),
    "prices": (
        Column(name="time", dtype="time", required=True, meaning="the same time stamps as in `profiles`"),
        _number("buy_eur_per_kwh", "EUR/kWh", "price paid to the utility, may be negative", required=True),
        _number(
            "sell_eur_per_kwh",
            "EUR/kWh",
            "price paid by the utility, at most the buy price, may be negative",
            required=True,
        ),
    ),
    "trades": (
        _name("from_id", "one of two members who may trade with each other"),
        _name("to_id", "the other member; each pair stands in one row only and trades both ways"),
        _number(
            "fee_eur_per_kwh",
            "EUR/kWh",
            "fee on the traded energy, shared half and half",
            default=0.0,
            minimum=0.0,
        ),
        _number(
            "limit_kw",
            "kW",
            "largest traded power",
            default=INF,
            minimum=0.0,
            infinite=True,
            default_text="no limit",
        ),
    ),
    "ev_sessions": (
        _name("vehicle_id", "name of the vehicle; it may stand in many rows, one per stay"),
        _name("prosumer_id", "the member whose vehicle it is, and at whose home it is plugged in"),
        _time("arrival", "when it is plugged in, ISO 8601; counted from the next start of a slot on"),
        _time("departure", "when it leaves, after arrival; counted to the last start of a slot before"),
        _number("energy_arrival_kwh", "kWh", "stored energy at arrival", required=True, minimum=0.0),
        _number(
            "energy_wanted_kwh",
            "kWh",
            "stored energy that its owner wants at departure; kept by every policy wherever charge_kw from "
            "arrival on suffices",
            required=True,
            minimum=0.0,
        ),
        _number("battery_kwh", "kWh", "largest stored energy, of a vehicle", required=True, above=0.0),
        _number(
            "reserve_kwh",
            "kWh",
            "stored energy that stays in it whatever comes, or what it arrives with where that is less; for "
            "discharge_kw above 0",
            default=0.0,
            minimum=0.0,
        ),
        _number("charge_kw", "kW", "largest charging power, at the meter side", required=True, above=0.0),
        _number(
            "discharge_kw",
            "kW",
            "largest discharging power, at the meter side (vehicle-to-home), 0 = it only charges",
            default=0.0,
            minimum=0.0,
        ),
        _number(
            "charge_efficiency",
            "-",
            "stored energy per charged energy, of a vehicle",
            default=0.95,
            above=0.0,
            maximum=1.0,
        ),
        _number(
            "discharge_efficiency",
            "-",
            "delivered energy per energy taken from the store, of a vehicle",
            default=0.95,
            above=0.0,
            maximum=1.0,
        ),
        _number(
            "wear_cost_eur_per_kwh",
            "EUR/kWh",
            "battery wear, per kWh into and per kWh out of the store, of a vehicle",
            default=0.0,
            minimum=0.0,
        ),
    ),
}
"""Columns by table. `trades` and `ev_sessions` may be absent, so may `buses` and `lines` together; any
further column of `profiles` is a profile."""

METERS: dict[str, tuple[Column, ...]] = {
    "meters": (
        _name("time", "start of the interval, ISO 8601"),
        _name("member", "whose meter"),
        _reading("consumption_kwh", "drawn from the grid"),
        _reading("generation_kwh", "fed into the grid"),
    ),
    "consumption": (_time("time", "start of the interval"),),
    "generation": (_time("time", "start of the interval"),),
    "shares": (
        Column(name="time", dtype="time", meaning="start of the interval", default_text="all"),
        _number("hour", "0..23", "of the day", default=math.nan, default_text="all", minimum=0, maximum=23),
        _name("member", "who receives", required=False),
        _name("producer", "who gives", required=False, default_text="all"),
        _number(
            "share", "-", "of the generation", default=math.nan, default_text="none", minimum=0, maximum=1
        ),
        _number("level", "", "lowest first", default=math.nan, default_text="none"),
    ),
}
"""Columns of what meters counted, and of shares of it, by table; further columns of `consumption` and of
`generation` are members, in kWh."""

COLUMNS = SCHEMA | METERS
OPTIONAL_TABLES = frozenset({"trades", "ev_sessions"})
EMPTY_TABLES = frozenset({"lines", "ev_sessions"})
OPEN_TABLES = frozenset({"profiles", "consumption", "generation"})
# a row per slot; of meters one for every member
TIME_TABLES = frozenset({"profiles", "prices", "consumption", "generation", "meters"})
KEYS = {"prosumers": "prosumer_id", "buses": "bus_id", "lines": "line_id"}
LABELS = KEYS | {"ev_sessions": "vehicle_id", "meters": "member", "shares": "member"}
"""The column that names a row in messages."""

TIMES = {
    table: tuple(column.name for column in columns if column.dtype == "time")
    for table, columns in SCHEMA.items()
}
"""The columns of time stamps, by table."""

PURPOSE = {
    "prosumers": "the members of the community: load, PV plant, battery",
    "buses": "the nodes of the feeder; without buses and lines there is no feeder, and nothing limits "
    "the flows "
    "(bus_id of prosumers may then be left out)",
    "lines": "its branches; the feeder must be radial and connected. Parallel branches between the "
    "same two buses "
    "are merged. No rows, or no table: a single bus, one building with its members",
    "profiles": "time series that prosumers and buses refer to by name, usually normalised. Times with a UTC "
    "offset become UTC; those without are taken as they are, or by --time-zone as local times of a zone",
    "prices": "what the utility asks and pays in every slot",
    "trades": "optional: who may trade with whom; without it the market settings choose the partners",
    "ev_sessions": "optional: electric vehicles, a row for every time that one is plugged in at home. Stays "
    "may begin before the data and end after them; one without a whole slot is left out. What is said of a "
    "vehicle must be the same in all of its rows; times as in `profiles`",
    "meters": "meter data for `jaxp2p share`: a row per interval and member. A member without any number in "
    "one of the two columns does not draw, or does not feed in; with one it needs a number in every interval",
    "consumption": "instead of `meters`: what members draw, a column of kWh for each",
    "generation": "the other half of `consumption`: what members feed in, a column of kWh for each",
    "shares": "for `jaxp2p share --shares`: shares, which sum to 1, in all, in every hour or in every "
    "interval; levels; or percentages of producers, 1 at most for each",
}


def _default_text(column: Column) -> str:
    if column.required:
        return "required"
    return f"default: {column.default_text or f'{column.default:g}'}"


def describe_columns(table: str | None = None, *, width: int = 110) -> str:
    """Documentation of the columns of one table (or of all, meter data too), with unit, range and default.

    Raises:
        KeyError: no such table.
    """
    lines = []
    for name in [table] if table else COLUMNS:
        lines += textwrap.wrap(f"{name}: {PURPOSE[name]}", width=width, subsequent_indent="    ")
        for column in COLUMNS[name]:
            facts = [part for part in (column.unit, column.range_text, _default_text(column)) if part]
            text = f"{column.meaning} ({'; '.join(facts)})"
            indent = " " * 32
            body = textwrap.fill(text, width=width, initial_indent=indent, subsequent_indent=indent)
            lines.append(f"  {column.name:<29} {body.lstrip()}")
        lines.append("")
    return "\n".join(lines).rstrip()
