"""The numbers of one run that the page draws: references to blocks, and the small rest as plain JSON."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from jaxp2p.control.catalogue import REFERENCE, favourite
from jaxp2p.report.html.fairness import benefits, curve
from jaxp2p.report.html.packing import Store
from jaxp2p.report.html.quantities import COMMUNITY, LOADING, MEMBER, VOLTAGE, Quantity, nearest_to_a_limit
from jaxp2p.report.layout import bus_places
from jaxp2p.report.results import Results

CENTS = 100  # steps per EUR


@dataclass(frozen=True, kw_only=True)
class Detail:
    """How much of a run goes into the page."""

    slots: int = 1  # that series of the community are merged over
    parts: int | None = 1  # that those of members, buses and branches are merged over; None: left out


def run_data(results: Results, store: Store, detail: Detail) -> dict[str, Any]:
    """What the scripts of the page know of a run."""
    summary, policies = results.summary, policies_of(results)
    step = round(60 * summary["slot_minutes"])
    return {
        "kind": "run",
        "policies": policies,
        "favourite": favourite(policies),
        "reference": REFERENCE if REFERENCE in policies else None,
        "start": int(pd.Timestamp(summary["start"]).timestamp()),
        "slot": step,  # s
        "step": step * detail.slots,
        "part": None if detail.parts is None else step * detail.parts,
        "slots": int(summary["slots"]),
        "series": {policy: _community(results, policy, store, detail.slots) for policy in policies},
        "members": _members(results, policies, store, detail.parts),
        "feeder": _feeder(results, policies, store, detail.parts),
    }


def policies_of(results: Results) -> list[str]:
    """Names of the policies in the order of the run."""
    return [str(name) for name in results.kpis.index]


def running_cost(results: Results, policy: str) -> np.ndarray:
    """(T,) EUR up to the end of every slot with penalties, less the worth of the energy gained so far.

    With vehicles nothing is taken off: what is gained in them is not in the tables slot by slot.
    """
    slots, figures = results.tables[f"slots_{policy}"], results.summary["kpis"][policy]
    cost = slots["cumulative_cost_eur"].to_numpy(float) + slots["penalty_eur"].to_numpy(float).cumsum()
    price = results.summary["end_value_eur_per_kwh"]
    if "ev_stored_kwh" in slots or not price:
        return cost
    stored = slots["stored_kwh"].to_numpy(float)
    return cost - figures["stored_worth_eur"] - price * (stored - stored[-1])


def _community(results: Results, policy: str, store: Store, count: int) -> dict[str, Any]:
    frame = results.tables[f"slots_{policy}"]
    frame = frame.assign(running_cost_eur=running_cost(results, policy))
    return {
        quantity.name: store.add(
            quantity.merge(frame[quantity.column].to_numpy(float)[None], count), quantity.steps
        )
        for quantity in COMMUNITY
        if quantity.column in frame
    }


def _members(results: Results, policies: list[str], store: Store, count: int | None) -> dict[str, Any]:
    frame = results.tables["members"]
    gains = benefits(frame, policies)
    money = lambda prefix: {
        policy: store.add(frame[f"{prefix}_{policy}_eur"].to_numpy(float), CENTS, exact=True)
        for policy in policies
    }
    return {
        "ids": [str(name) for name in frame["member"]],
        "buses": [str(name) for name in frame["bus"]],
        "pv": store.add(frame["pv_kw"].to_numpy(float), 100),
        "battery": store.add(frame["battery_kwh"].to_numpy(float), 100),
        "vehicle": store.add(frame["ev_kwh"].to_numpy(float), 100) if "ev_kwh" in frame else None,
        "bills": money("bill"),
        "losses": money("losses"),
        "lorenz": {policy: shares for policy, gain in gains.items() if (shares := curve(gain)) is not None},
        "series": None
        if count is None or f"homes_{policies[0]}" not in results.tables
        else {policy: _homes(results, policy, store, count) for policy in policies},
    }


def _homes(results: Results, policy: str, store: Store, count: int) -> dict[str, Any]:
    frame = results.tables[f"homes_{policy}"]
    more = {
        "battery_kw": frame["discharge_kw"] - frame["charge_kw"],
        "peers_kw": -frame["trade_kw"],
        "undone_kw": frame["unserved_kw"] - frame["spilled_kw"],
    }
    if "ev_charge_kw" in frame:
        more["vehicle_kw"] = frame["ev_discharge_kw"] - frame["ev_charge_kw"]
    frame = frame.assign(**more)
    size = len(results.tables["members"])
    return {
        quantity.name: _wide(frame, quantity, size, store, count)
        for quantity in MEMBER
        if quantity.column in frame
    }


def _wide(frame: pd.DataFrame, quantity: Quantity, size: int, store: Store, count: int) -> dict[str, Any]:
    """A long table, slot by slot, as one row per member, bus or branch."""
    values = frame[quantity.column].to_numpy(float).reshape(-1, size).T
    return store.add(quantity.merge(values, count), quantity.steps)


def _feeder(results: Results, policies: list[str], store: Store, count: int | None) -> dict[str, Any] | None:
    """The tree with its voltages and loadings; None where the run was written without them."""
    tables = results.tables
    if count is None or not {"buses", "branches", f"buses_{policies[0]}"} <= tables.keys():
        return None
    branches = tables["branches"]
    names = [str(bus) for bus in tables["buses"]["bus"]]
    place = {name: number for number, name in enumerate(names)}
    above, below = (
        np.array([place[str(bus)] for bus in branches[end]], int) for end in ("from_bus", "to_bus")
    )
    order = _downwards(above, below, len(names))
    rank = np.argsort(order)
    upper, lower = rank[above], rank[below]
    parents = np.full(len(names), -1)
    parents[lower] = upper
    buses = tables["buses"].iloc[order]
    places, mapped = bus_places(buses[["x", "y"]].to_numpy(float), upper, lower, len(buses))
    low, high = (buses[f"voltage_{end}_pu"].to_numpy(float) for end in ("min", "max"))

    def voltage(policy: str) -> dict[str, Any]:
        values = tables[f"buses_{policy}"][VOLTAGE.column].to_numpy(float).reshape(-1, len(buses)).T[order]
        shown = nearest_to_a_limit(values, count, (low + high) / 2)
        return store.add(shown, VOLTAGE.steps, parents=parents.tolist())

    return {
        "buses": [names[bus] for bus in order],
        "parents": parents.tolist(),
        "branches": [str(name) for name in branches["branch"]],
        "kinds": [str(kind) for kind in branches["kind"]],
        "upper": upper.tolist(),
        "lower": lower.tolist(),
        "rating": [float(x) if np.isfinite(x) else None for x in branches["rating_kva"]],
        "low": low.tolist(),
        "high": high.tolist(),
        "places": _unit_square(places).round(4).tolist(),
        "mapped": mapped,
        "voltage": {policy: voltage(policy) for policy in policies},
        "loading": {
            policy: _wide(tables[f"branches_{policy}"], LOADING, len(branches), store, count)
            for policy in policies
        },
    }


def _downwards(upper: np.ndarray, lower: np.ndarray, buses: int) -> np.ndarray:
    """(B,) the buses from the slack outwards, every one after the one above it."""
    parents = np.full(buses, -1)
    parents[lower] = upper
    depth, above = np.zeros(buses, int), parents
    while (above >= 0).any():
        depth += above >= 0
        above = np.where(above >= 0, parents[above], -1)
    return np.argsort(depth, kind="stable")


def _unit_square(places: np.ndarray) -> np.ndarray:
    """(B, 2) from 0 to 1 in both directions, y downwards; the page stretches a tree and not a map."""
    corner, extent = places.min(0), np.ptp(places, axis=0)
    scale = extent.max() or 1.0
    inside = (places - corner) / scale
    return np.stack([inside[:, 0], extent[1] / scale - inside[:, 1]], 1)
