"""From CASE or DIR and the options to checked tables."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    with user_input():
        if source.embedded:
            homes: dict[str, int] = {} if source.homes is None else {"homes": source.homes}
            price = source.price or "tou"
            tables = load_case(source.name, price=price, seed=source.seed, **homes, **_devices(source))
        else:
            tables = changed(read_tables(_folder(source.name)), source)
        return check(tables)


def changed(tables: "Tables", source: Source) -> "Tables":
    """The tables with the devices, scales and prices that the options ask for; raises ValueError."""
    from jaxp2p.data import densify, make_prices

    tables = densify(tables, seed=source.seed, **_devices(source))
    if source.price is None:
        return tables
    note = f"prices ({source.price}, seed {source.seed})"
    kept = [text for text in tables.meta.get("synthetic", []) if not text.startswith("prices (")]
    prices = make_prices(tables.profiles["time"], source.price, seed=source.seed)
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


def _folder(name: str) -> Path:
    path = Path(name)
    if path.exists() or any(sign in name for sign in "/\\."):
        return path  # read_tables explains what is wrong with it
    one_of(name, CASE_NAMES, option="CASE|DIR")
    return path
