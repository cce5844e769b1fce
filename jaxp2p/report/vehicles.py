"""Picture of electric vehicles: when they charge, beside sun and price, and how freely they could choose."""

from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxp2p.control.catalogue import COLOURS, OPTIMUM
from jaxp2p.report.canvas import (
    LIMIT,
    SOFT,
    PictureData,
    canvas,
    label,
    line_style,
    outside_legend,
    time_axis,
)
from jaxp2p.report.stays import energy_gained

SUN = "#E69F00"
AT_ONCE = ("charge_at_once", "no_storage", "no_storage_no_trade")  # the first that there is


def charging(data: PictureData) -> Figure | None:
    """Power of all vehicles under a few policies, tariffs, how many are plugged in, and the energy in them.

    All of the last panel is counted from the arrival of those that are plugged in. Its band reaches from the
    floors of their stays to the most there is room for: whatever a policy does stays inside, and the wider
    it is the more freely it can choose.
    """
    plugs = data.horizon.plugs
    if plugs is None or not np.asarray(plugs.there).any():
        return None
    names = _shown(data)
    rows = len(names) + 3
    figure, axes = canvas(
        rows, 1, size=(11, 1.5 * rows + 1), share_x=True, height_ratios=[1.2] * len(names) + [0.8, 0.7, 1.6]
    )
    powers, (prices, there, stored) = axes[: len(names), 0], axes[len(names) :, 0]
    peak = max(total(data.trajectories[name].vehicle_charge).max() for name in names)
    for axis, name in zip(powers, names, strict=True):
        _power(axis, data, name)
        axis.sharey(powers[0])
    if peak > 0:  # the sun of a whole community would press them to the axis
        powers[0].set_ylim(top=min(powers[0].get_ylim()[1], 1.6 * peak))
    _tariffs(prices, data)
    there.step(data.time.to_numpy(), total(plugs.there), where="post", color="#555555", linewidth=1.3)
    there.set_ylim(bottom=0)
    there.set_ylabel("plugged in")
    gained = partial(energy_gained, plugs.float64())
    low, high = gained(np.asarray(plugs.floor, float)), gained(np.asarray(plugs.most, float))
    stored.fill_between(data.ends, low, high, color="#BBBBBB", alpha=0.5, linewidth=0, label="possible")
    for name in names:
        energy = gained(np.asarray(data.trajectories[name].vehicle_energy, float))
        stored.plot(data.ends, energy, label=label(name), **line_style(name))
    stored.set_ylabel("kWh since arrival")
    outside_legend(stored)
    count = int(np.asarray(plugs.there).any(0).sum())
    figure.suptitle(f"{count} electric vehicles: {data.title}", fontsize=12)
    time_axis(stored, data.time.to_numpy())
    return figure


def total(values: Any) -> np.ndarray:
    """(T,) sum over seats and homes (T, K, N)."""
    return np.asarray(values, float).sum((1, 2))


def _shown(data: PictureData) -> list[str]:
    """At once, the favourites and the optimum, as far as they were run; else whatever was run first."""
    at_once = [name for name in AT_ONCE if name in data.trajectories][:1]
    others = [name for name in ("lyapunov", "tuned", OPTIMUM) if name in data.trajectories]
    return at_once + others or list(data.trajectories)[:1]


def _power(axis: Axes, data: PictureData, name: str) -> None:
    """Charging above zero, discharging below, before what the PV of all has over their load."""
    time, trajectory = data.time.to_numpy(), data.trajectories[name]
    pv, load = (np.asarray(x, float).sum(1) for x in (data.horizon.pv, trajectory.load))
    charge, discharge = total(trajectory.vehicle_charge), total(trajectory.vehicle_discharge)
    look: dict[str, Any] = {"step": "post", "linewidth": 0}
    axis.fill_between(time, np.maximum(pv - load, 0), color=SUN, alpha=0.25, label="PV over load", **look)
    colour = COLOURS.get(name, SOFT)
    axis.fill_between(time, charge, color=colour, alpha=0.8, label="charging", **look)
    if discharge.any():
        axis.fill_between(time, -discharge, color=colour, alpha=0.4, label="discharging", **look)
    axis.axhline(0, color="#555555", linewidth=0.8)
    axis.set_ylabel("kW")
    axis.set_title(label(name), fontsize=10, loc="left")
    outside_legend(axis)


def _tariffs(axis: Axes, data: PictureData) -> None:
    """The band between what the utility asks and what it pays."""
    time = data.time.to_numpy()
    buy, sell = (np.asarray(x, float) for x in (data.horizon.price_buy, data.horizon.price_sell))
    axis.fill_between(time, sell, buy, step="post", color=LIMIT, alpha=0.12, linewidth=0)
    axis.step(time, buy, where="post", color=LIMIT, linewidth=1.2, label="utility sells at")
    axis.step(time, sell, where="post", color="#0072B2", linewidth=1.2, label="utility buys at")
    axis.set_ylabel("EUR/kWh")
    outside_legend(axis)
