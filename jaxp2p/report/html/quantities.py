"""What a report shows over time: from which column, with which unit, how exactly, merged over slots how.

`steps` is how many steps per unit the file keeps at best (`packing`): a quantity is wrong by half a step at
most, or by 0.005 % of its largest value where that is more.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Merge = Callable[[np.ndarray, int], np.ndarray]


def mean(values: np.ndarray, count: int) -> np.ndarray:
    """(R, T) to (R, T'): the mean of every `count` slots; the last may be of fewer."""
    starts = np.arange(0, values.shape[1], count)
    lengths = np.diff(starts, append=values.shape[1])
    return np.add.reduceat(values, starts, axis=1) / lengths


def last(values: np.ndarray, count: int) -> np.ndarray:
    """(R, T) to (R, T'): what is known at the end of a slot, at the end of every `count` of them."""
    ends = np.minimum(np.arange(count, values.shape[1] + count, count), values.shape[1]) - 1
    return values[:, ends]


def highest(values: np.ndarray, count: int) -> np.ndarray:
    """(R, T) to (R, T'): the largest of every `count` slots."""
    return np.maximum.reduceat(values, np.arange(0, values.shape[1], count), axis=1)


def lowest(values: np.ndarray, count: int) -> np.ndarray:
    """(R, T) to (R, T'): the smallest of every `count` slots."""
    return np.minimum.reduceat(values, np.arange(0, values.shape[1], count), axis=1)


def nearest_to_a_limit(values: np.ndarray, count: int, middle: np.ndarray) -> np.ndarray:
    """(R, T) to (R, T'): of every `count` slots the value furthest from the middle (R,) of its limits."""
    slots = values.shape[1]
    padded = np.pad(values, ((0, 0), (0, -slots % count)), mode="edge")
    parts = padded.reshape(len(values), -1, count)
    furthest = np.abs(parts - middle[:, None, None]).argmax(2)
    return np.take_along_axis(parts, furthest[..., None], 2)[..., 0]


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A series of a table: what it is called in the page, and what of it is kept."""

    name: str
    column: str
    words: str
    unit: str
    steps: float
    merge: Merge = mean


COMMUNITY = tuple(
    Quantity(name=name, column=column, words=words, unit=unit, steps=steps, merge=merge)
    for name, column, words, unit, steps, merge in (
        ("load", "load_kw", "load", "kW", 100, mean),
        ("pv_available", "pv_available_kw", "PV available", "kW", 100, mean),
        ("pv", "pv_used_kw", "PV used", "kW", 100, mean),
        ("import", "buy_kw", "bought from the utility", "kW", 100, mean),
        ("export", "sell_kw", "sold to the utility", "kW", 100, mean),
        ("peers", "p2p_kw", "traded between members", "kW", 100, mean),
        ("charge", "charge_kw", "charging of the batteries", "kW", 100, mean),
        ("discharge", "discharge_kw", "discharging of the batteries", "kW", 100, mean),
        ("stored", "stored_kwh", "energy in the batteries", "kWh", 100, last),
        ("ev_charge", "ev_charge_kw", "charging of vehicles", "kW", 100, mean),
        ("ev_discharge", "ev_discharge_kw", "discharging of vehicles", "kW", 100, mean),
        ("ev_stored", "ev_stored_kwh", "energy in vehicles plugged in", "kWh", 100, last),
        ("price_buy", "price_buy_eur_per_kwh", "utility sells at", "EUR/kWh", 10000, mean),
        ("price_sell", "price_sell_eur_per_kwh", "utility buys at", "EUR/kWh", 10000, mean),
        ("price_mean", "price_mean_eur_per_kwh", "local price, mean of the members", "EUR/kWh", 10000, mean),
        ("price_min", "price_min_eur_per_kwh", "lowest local price", "EUR/kWh", 10000, lowest),
        ("price_max", "price_max_eur_per_kwh", "highest local price", "EUR/kWh", 10000, highest),
        ("voltage_min", "ac_voltage_min_pu", "lowest voltage", "p.u.", 10000, lowest),
        ("voltage_max", "ac_voltage_max_pu", "highest voltage", "p.u.", 10000, highest),
        ("line", "ac_line_loading", "most loaded line", "of the rating", 1000, highest),
        ("transformer", "ac_transformer_loading", "most loaded transformer", "of the rating", 1000, highest),
        ("gap", "gap_eur", "distance from the slot's optimum at most", "EUR", 1000000, highest),
        ("iterations", "iterations", "iterations of the solver", "1", 1, highest),
        ("cost", "running_cost_eur", "cost so far", "EUR", 100, last),
    )
)

# power is positive into the home; what the utility delivers is the load less all others
MEMBER = tuple(
    Quantity(name=name, column=column, words=words, unit=unit, steps=steps, merge=merge)
    for name, column, words, unit, steps, merge in (
        ("load", "load_kw", "load", "kW", 100, mean),
        ("pv", "pv_used_kw", "PV used", "kW", 100, mean),
        ("battery", "battery_kw", "battery, discharging", "kW", 100, mean),
        ("vehicle", "vehicle_kw", "vehicles, discharging", "kW", 100, mean),
        ("peers", "peers_kw", "bought from peers", "kW", 100, mean),
        ("undone", "undone_kw", "not served, less spilled", "kW", 100, mean),
        ("stored", "energy_kwh", "energy in the battery", "kWh", 100, last),
        ("price", "market_price_eur_per_kwh", "local price", "EUR/kWh", 1000, mean),
        ("of_losses", "loss_price_eur_per_kwh", "taken off for losses", "EUR/kWh", 1000, mean),
        ("of_voltage", "voltage_price_eur_per_kwh", "taken off by voltage limits", "EUR/kWh", 1000, mean),
        ("of_branches", "branch_price_eur_per_kwh", "taken off by full branches", "EUR/kWh", 1000, mean),
    )
)

VOLTAGE = Quantity(name="voltage", column="ac_voltage_pu", words="voltage of a bus", unit="p.u.", steps=1e4)
LOADING = Quantity(
    name="loading",
    column="ac_loading",
    words="loading of a branch",
    unit="of the rating",
    steps=200,
    merge=highest,
)
