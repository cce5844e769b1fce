"""Pictures of the feeder: voltages, loading, and the whole tree at its worst slot."""

from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jaxp2p.model.network import ac_violated, on_host
from jaxp2p.model.types import Network
from jaxp2p.report.canvas import LIMIT, PictureData, canvas, label, line_style, outside_legend, time_axis
from jaxp2p.report.layout import branch_ends, bus_places
from jaxp2p.runs.operated import margins

# without the palest yellows, which vanish on white
LOADING_COLOURS = ListedColormap(colormaps["YlOrRd"](np.linspace(0.22, 1, 256)))


def voltages(data: PictureData) -> Figure:
    """Range of the bus voltages over time against the limits, and how long each extreme lasted."""
    network = data.community.network
    low, high = float(np.asarray(network.voltage_min).min()), float(np.asarray(network.voltage_max).max())
    figure, [[left, right]] = canvas(1, 2, size=(13, 4.8), sharey=True, width_ratios=[2.2, 1])
    shown = [name for name in (data.unlimited(), data.favourite()) if name is not None]
    time = data.time.to_numpy()
    for name in shown:
        volts = data.evaluations[name].grid.ac_voltage
        colour, text = line_style(name)["color"], f"{label(name)}: lowest to highest bus"
        if name == data.favourite():
            left.fill_between(
                time,
                volts.min(1),
                volts.max(1),
                step="post",
                color=colour,
                alpha=0.5,
                linewidth=0,
                label=text,
            )
        else:
            left.step(time, volts.min(1), where="post", color="#555555", linewidth=0.8, label=text)
            left.step(time, volts.max(1), where="post", color="#555555", linewidth=0.8)
    hours = np.arange(1, len(time) + 1) * data.hours
    for name, evaluation in data.evaluations.items():
        volts = evaluation.grid.ac_voltage
        right.plot(hours, np.sort(volts.max(1))[::-1], label=label(name), **line_style(name))
        right.plot(hours, np.sort(volts.min(1)), **line_style(name))
    seen = [data.evaluations[name].grid.ac_voltage for name in data.evaluations]
    bottom, top = min(v.min() for v in seen), max(v.max() for v in seen)
    for axis in (left, right):
        for limit in (low, high):
            axis.axhline(limit, color=LIMIT, linewidth=1.2, linestyle=(0, (6, 3)))
    # limits far away from every voltage would flatten the picture: they are named instead of shown
    room = max(0.25 * (top - bottom), 0.003)
    near = [limit for limit in (low, high) if bottom - 3 * room < limit < top + 3 * room]
    lowest = min([bottom - room, *(limit - room / 2 for limit in near)])
    left.set_ylim(lowest, max([top + 1.5 * room, *(limit + room for limit in near)]))
    left.set_ylabel("voltage in p.u.")
    left.set_title(f"Bus voltages (limits {low:g} and {high:g} p.u.)\n{data.title}", fontsize=11)
    left.legend(loc="upper left", frameon=False, ncols=2)
    time_axis(left, time)
    right.set_xlabel("hours at or beyond")
    right.set_title("Duration of the highest and lowest voltage", fontsize=11)
    outside_legend(right, fontsize=8)
    return figure


def loading(data: PictureData) -> Figure | None:
    """Loading of the most loaded branches over time, and the duration for every policy."""
    network = data.community.network
    if not np.isfinite(np.asarray(network.rating)).any():
        return None
    name = data.favourite()
    figure, [[left, right]] = canvas(1, 2, size=(13, 4.8), sharey=True, width_ratios=[2.2, 1])
    share = 100 * data.evaluations[name].grid.ac_loading
    time = data.time.to_numpy()
    kinds = np.array(network.branch_kinds or ("line",) * share.shape[1])
    for kind, colour in (("transformer", "#D55E00"), ("line", "#0072B2")):
        rated = np.flatnonzero((kinds == kind) & np.isfinite(np.asarray(network.rating)))
        if rated.size:
            text = f"{kind}" if rated.size == 1 else f"most loaded of {rated.size} {kind}s"
            left.step(time, share[:, rated].max(1), where="post", color=colour, linewidth=1.2, label=text)
    hours = np.arange(1, len(time) + 1) * data.hours
    for policy, evaluation in data.evaluations.items():
        worst = 100 * np.sort(evaluation.grid.ac_loading.max(1))[::-1]
        right.plot(hours, worst, label=label(policy), **line_style(policy))
    for axis in (left, right):
        axis.axhline(100, color=LIMIT, linewidth=1.2, linestyle=(0, (6, 3)))
    left.set_ylim(0, 1.2 * max(100.0, max(100 * e.grid.ac_loading.max() for e in data.evaluations.values())))
    left.set_ylabel("loading in % of the rating")
    left.set_title(f"Branch loading: {label(name)}\n{data.title}", fontsize=11)
    left.legend(loc="upper left", frameon=False, ncols=2)
    time_axis(left, time)
    right.set_xlabel("hours at or above")
    right.set_title("Duration, highest of all branches", fontsize=11)
    outside_legend(right, fontsize=8)
    return figure


class FeederScales(NamedTuple):
    """What colours mean in pictures of a feeder."""

    voltage: Normalize  # p.u.
    loading: Normalize  # % of the rating


def feeder_scales(voltage: np.ndarray, loading: np.ndarray) -> FeederScales:
    """Scales for all of the voltages in p.u. and loadings as shares of the rating."""
    # at least 0.01 p.u. wide: a stiff feeder should look like one
    mean, reach = (voltage.min() + voltage.max()) / 2, max(float(np.ptp(voltage)) / 2, 0.005)
    most = max(100.0, 100 * float(loading.max(initial=0)))
    return FeederScales(Normalize(mean - reach, mean + reach), Normalize(0, most))


def draw_feeder(
    axis: Axes,
    network: Network,
    coordinates: np.ndarray | None,
    voltage: np.ndarray,
    loading: np.ndarray,
    scales: FeederScales,
) -> tuple[ScalarMappable, ScalarMappable]:
    """One slot: voltages (B,) in p.u. and loadings (L,) as shares of the rating, `network` on the host.

    What is outside its limits has a ring, or a dark edge. Gives back what colour bars are made of.
    """
    upper, lower = branch_ends(network)
    places, mapped = bus_places(coordinates, upper, lower, network.buses)
    order = np.argsort(loading, kind="stable")  # the most loaded branches on top
    segments, share = np.stack([places[upper], places[lower]], 1)[order], 100 * loading[order]
    rated = np.isfinite(network.rating)[order]
    plain = LineCollection(list(segments[~rated]), colors="#BBBBBB", linewidths=2.5, zorder=1)
    lines = LineCollection(
        list(segments[rated]),
        array=share[rated],
        cmap=LOADING_COLOURS,
        norm=scales.loading,
        linewidths=3.5,
        zorder=2,
    )
    over = rated & ac_violated(0.0, share / 100 - 1)
    edge = LineCollection(list(segments[over]), colors="k", linewidths=6.5, zorder=1.5)
    for part in (plain, edge, lines):
        axis.add_collection(part)
    size = 55 if len(voltage) < 60 else 28
    points = axis.scatter(
        places[:, 0],
        places[:, 1],
        c=voltage,
        cmap="viridis",
        norm=scales.voltage,
        s=size,
        edgecolors="#333333",
        linewidths=0.5,
        zorder=3,
    )
    slack: dict[str, Any] = {"facecolors": "none", "edgecolors": "k", "linewidths": 1.6, "zorder": 4}
    axis.scatter(places[0, 0], places[0, 1], marker="s", s=3 * size, **slack)
    axis.annotate("grid above", places[0], xytext=(8, 8), textcoords="offset points", fontsize=9)
    outside = ac_violated(network.beyond(voltage), 0.0)
    if outside.any():
        ring: dict[str, Any] = {"facecolors": "none", "edgecolors": LIMIT, "linewidths": 1.5, "zorder": 4}
        axis.scatter(places[outside, 0], places[outside, 1], s=3 * size, **ring)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(False)
    axis.spines[:].set_visible(False)
    axis.margins(0.08)
    if mapped:
        axis.set_aspect("equal", adjustable="datalim")
    return points, lines


def outside_marks(network: Network, voltage: np.ndarray, loading: np.ndarray) -> list[Line2D]:
    """What a legend says of buses (..., B) and branches (..., L) outside their limits, if any."""
    ring: dict[str, Any] = {"markersize": 10, "markerfacecolor": "none", "markeredgecolor": LIMIT}
    marks = []
    if ac_violated(network.beyond(voltage), 0.0).any():
        text = "voltage outside its limits"
        marks.append(Line2D([], [], linestyle="none", marker="o", label=text, **ring))
    if ac_violated(0.0, loading - 1).any():
        marks.append(Line2D([], [], color="k", linewidth=6.5, label="edge: loading beyond the rating"))
    return marks


def feeder(data: PictureData) -> Figure:
    """The feeder at the slot nearest to (or furthest beyond) a limit: voltage per bus, loading per branch."""
    network, name = on_host(data.community.network), data.favourite()
    grid = data.evaluations[name].grid
    slot = int(margins(network, grid.ac_voltage, grid.ac_loading)[0].max(1).argmax())
    figure, [[axis]] = canvas(size=(11, 7))
    volts, share = grid.ac_voltage[slot], grid.ac_loading[slot]
    scales = feeder_scales(volts, share)
    points, lines = draw_feeder(axis, network, data.coordinates, volts, share, scales)
    if marks := outside_marks(network, volts, share):
        axis.legend(handles=marks, frameon=False, loc="best")
    figure.colorbar(points, ax=axis, label="voltage in p.u. (circles)", shrink=0.85, pad=0.01)
    if np.isfinite(network.rating).any():
        figure.colorbar(lines, ax=axis, label="loading in % of the rating (lines)", shrink=0.85, pad=0.02)
    when = str(data.time.iloc[slot])[:16]
    axis.set_title(f"The feeder at its most stressed slot, {when}: {label(name)}\n{data.title}", fontsize=11)
    return figure
