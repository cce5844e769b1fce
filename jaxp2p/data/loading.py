"""From the settings of a source to checked tables."""

from pathlib import Path
from typing import Any

from jaxp2p.data.cases import load_case, window, window_until
from jaxp2p.data.populate import densify
from jaxp2p.data.prices import PRICES, make_prices
from jaxp2p.data.tables import Tables, read_tables
from jaxp2p.data.times import local_time
from jaxp2p.data.validation import check, slot_hours
from jaxp2p.settings.fields import UsageError, one_of
from jaxp2p.settings.source import CASE_NAMES, Source
from jaxp2p.settings.span import lasting


def load(source: Source) -> Tables:
    """The checked tables of the chosen days; `days` None keeps all of them.

    Raises:
        ValueError: unknown case, faulty folder, settings that do not fit; OSError: unreadable.
    """
    return choose_days(load_whole(source), source)


def load_whole(source: Source) -> Tables:
    """The checked tables with all the days that there are; raises as `load` does."""
    if source.price is not None:
        one_of(source.price, PRICES, option="--price")
    if source.homes is not None and source.name != "ieee33":
        raise UsageError("--homes only goes with the case ieee33; the other communities have their own homes")
    if source.embedded and (source.accept or source.time_zone):
        raise UsageError("--accept and --time-zone go with a folder of tables, not with an embedded case")
    if source.embedded:
        homes: dict[str, int] = {} if source.homes is None else {"homes": source.homes}
        price = source.price or "tou"
        tables = load_case(source.name, price=price, seed=source.seed, **homes, **_devices(source))
    else:
        accept = tuple(name.strip() for name in source.accept.split(",") if name.strip())
        tables = read_tables(_folder(source.name), accept=accept, time_zone=source.time_zone)
        tables = changed(tables, source)
    return check(tables)


def changed(tables: Tables, source: Source) -> Tables:
    """The tables with the devices, scales and prices that the settings ask for; raises ValueError."""
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
        "ev_share": source.ev_share,
        "pv_scale": source.pv_scale,
        "battery_scale": source.battery_scale,
        "load_scale": source.load_scale,
    }


def choose_days(tables: Tables, source: Source) -> Tables:
    """The days of the window out of `load_whole`; raises ValueError where they are not inside the data."""
    days = lasting(source.days, source.duration)
    if source.until is not None:
        return window_until(tables, start=source.start, days=days, until=source.until)
    if days is None:
        return tables
    time = tables.profiles["time"]
    whole = len(time) * slot_hours(time) / 24
    # a folder with less than the usual week is run as it is
    return window(tables, start=source.start, days=min(days, whole) if source.start is None else days)


def span_text(tables: Tables) -> str:
    """From when to when, in the time zone of the tables, which is named where there is one."""
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
