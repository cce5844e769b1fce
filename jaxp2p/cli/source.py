"""From CASE or DIR and the options to checked tables."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from jaxp2p.cli.console import UsageError, one_of, user_input

if TYPE_CHECKING:
    from jaxp2p.data import Tables

DEFAULT_CASE = "rural3"
CASE_NAMES = ("rural3", "rural1", "ieee33")  # as jaxp2p.data.CASES, which takes pandas to look at


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the community comes from and how it is changed on the way."""

    name: str = DEFAULT_CASE
    start: str | None = None
    days: float | None = 7
    price: str | None = None
    pv_share: float | None = None
    battery_share: float | None = None
    pv_scale: float = 1.0
    battery_scale: float = 1.0
    load_scale: float = 1.0
    homes: int | None = None
    seed: int = 0
    accept: str = ""  # judgements of plausibility that are overruled, with commas between
    time_zone: str | None = None

    @property
    def embedded(self) -> bool:
        """Whether the name is that of an embedded case (a folder of that name is ./NAME)."""
        return self.name in CASE_NAMES


def load(source: Source) -> "Tables":
    """The checked tables of the chosen days; `days` None keeps all of them.

    Raises:
        UsageError: unknown case, unreadable or faulty folder, options that do not fit.
    """
    return choose_days(load_whole(source), source)


def load_whole(source: Source) -> "Tables":
    """The checked tables with all the days that there are; raises as `load` does."""
    from jaxp2p.data import PRICES, check, load_case, read_tables

    if source.price is not None:
        one_of(source.price, PRICES, option="--price")
    if source.homes is not None and source.name != "ieee33":
        raise UsageError("--homes only goes with the case ieee33; the other communities have their own homes")
    if source.embedded and (source.accept or source.time_zone):
        raise UsageError("--accept and --time-zone go with a folder of tables, not with an embedded case")
    with user_input():
        if source.embedded:
            homes: dict[str, int] = {} if source.homes is None else {"homes": source.homes}
            price = source.price or "tou"
            tables = load_case(source.name, price=price, seed=source.seed, **homes, **_devices(source))
        else:
            accept = tuple(name.strip() for name in source.accept.split(",") if name.strip())
            tables = read_tables(_folder(source.name), accept=accept, time_zone=source.time_zone)
            tables = changed(tables, source)
        return check(tables)


def changed(tables: "Tables", source: Source) -> "Tables":
    """The tables with the devices, scales and prices that the options ask for; raises ValueError."""
    from jaxp2p.data import densify, local_time, make_prices

    tables = densify(tables, seed=source.seed, **_devices(source))
    if source.price is None:
        return tables
    note = f"prices ({source.price}, seed {source.seed})"
    kept = [text for text in tables.meta.get("synthetic", []) if not text.startswith("prices (")]
    # the tariff follows the clock on the wall
    prices = make_prices(local_time(tables), source.price, seed=source.seed)
    prices["time"] = tables.profiles["time"]
    return tables.replace(prices=prices, meta={**tables.meta, "synthetic": [*kept, note]})


def _devices(source: Source) -> dict[str, Any]:
    return {
        "pv_share": source.pv_share,
        "battery_share": source.battery_share,
        "pv_scale": source.pv_scale,
        "battery_scale": source.battery_scale,
        "load_scale": source.load_scale,
    }


def choose_days(tables: "Tables", source: Source) -> "Tables":
    """The days of the window out of `load_whole`; raises UsageError where they are not inside the data."""
    from jaxp2p.data import window
    from jaxp2p.data.validation import slot_hours

    if source.days is None:
        return tables
    time = tables.profiles["time"]
    whole = len(time) * slot_hours(time) / 24
    # a folder with less than the usual week is run as it is
    days = min(source.days, whole) if source.start is None else source.days
    with user_input():
        return window(tables, start=source.start, days=days)


def say_remarks(tables: "Tables", *, quiet: bool = False) -> None:
    """What is remarkable about the input, though no fault, on stderr."""
    for remark in () if quiet else tables.remarks:
        typer.echo(f"remark: {remark}", err=True)


def span_text(tables: "Tables") -> str:
    """From when to when, in the time zone of the tables, which is named where there is one."""
    from jaxp2p.data import local_time

    time, utc, zone = local_time(tables), tables.profiles["time"], tables.meta.get("time_zone")
    end = utc.iloc[-1] + (utc.iloc[1] - utc.iloc[0])
    if zone is not None:
        end = end.tz_localize("UTC").tz_convert(zone)
    words = f", times of {zone} (UTC in tables)" if zone is not None else ""
    return f"{time.iloc[0]:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}{words}"


def _folder(name: str) -> Path:
    path = Path(name)
    if path.exists() or any(sign in name for sign in "/\\."):
        return path  # read_tables explains what is wrong with it
    one_of(name, CASE_NAMES, option="CASE|DIR")
    return path
