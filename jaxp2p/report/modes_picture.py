"""The picture of modes: the feeder in each of them side by side, and how near the limits it was over time."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure

from jaxp2p.control.ways import Way
from jaxp2p.model.network import Network
from jaxp2p.report.canvas import LIMIT, plain, styled, time_axis
from jaxp2p.report.grid import draw_feeder, feeder_scales, outside_marks
from jaxp2p.runs.operated import margins
from jaxp2p.simulation.grid import GridState

ABREAST = 4  # feeders in a row


class ShownMode(NamedTuple):
    """A mode and the grid under it."""

    way: Way
    grid: GridState


def modes_picture(
    network: Network,
    modes: Sequence[ShownMode],
    time: pd.Series,
    coordinates: np.ndarray | None,
    title: str,
) -> Figure:
    """Feeders at the slot furthest beyond a limit (or nearest to one) of all modes; below, all slots.

    The same colours mean the same in every feeder. `network` is on the host, coordinates (B, 2) or None.
    """
    stress = np.array([margins(network, m.grid.ac_voltage, m.grid.ac_loading)[0].max(1) for m in modes])
    slot = int(stress.max(0).argmax())
    columns = min(len(modes), ABREAST)
    rows = -(-len(modes) // columns)
    rated = np.isfinite(network.rating).any()
    figure = Figure(figsize=(4.6 * columns + 1.2, 4.2 * rows + 2.6 * (1 + rated)), layout="constrained")
    FigureCanvasAgg(figure)
    parts = figure.subfigures(2, 1, squeeze=False, height_ratios=[4.2 * rows, 2.6 * (1 + rated)])
    above, below = parts[:, 0]
    axes = above.subplots(rows, columns, squeeze=False)
    _feeders(above, axes, network, modes, coordinates, slot)
    above.suptitle(
        f"{plain(title)}\n"
        f"the feeder in AC at {time.iloc[slot]:%Y-%m-%d %H:%M}, the most stressed slot of all modes",
        fontsize=12,
    )
    _over_time(below, network, modes, time, slot)
    return figure


def _feeders(
    figure: SubFigure,
    axes: np.ndarray,
    network: Network,
    modes: Sequence[ShownMode],
    coordinates: np.ndarray | None,
    slot: int,
) -> None:
    volts, shares = (
        np.array([getattr(mode.grid, name)[slot] for mode in modes]) for name in ("ac_voltage", "ac_loading")
    )
    scales = feeder_scales(volts, shares)
    rated = np.isfinite(network.rating).any()
    for axis, mode, voltage, share in zip(axes.flat, modes, volts, shares, strict=False):
        points, lines = draw_feeder(axis, network, coordinates, voltage, share, scales)
        text = f"{voltage.min():.3f} to {voltage.max():.3f} p.u."
        text += f", at most {100 * share.max():.0f} %" if rated else ""
        axis.set_title(f"{mode_name(mode.way)}\n{text}", fontsize=11, color="k")
    for axis in axes.flat[len(modes) :]:
        axis.set_visible(False)
    if marks := outside_marks(network, volts, shares):
        figure.legend(handles=marks, loc="outside lower center", ncols=2, frameon=False)
    figure.colorbar(points, ax=axes, label="voltage in p.u. (circles)", shrink=0.9, pad=0.01)
    if rated:
        figure.colorbar(lines, ax=axes, label="loading in % of the rating (lines)", shrink=0.9, pad=0.01)


def mode_name(way: Way) -> str:
    """A mode's name as people write it."""
    rules = {"secure_cos_phi": "secure, cos phi", "secure_cos_phi_p": "secure, cos phi (P)"}
    rules |= {"secure_volt_var": "secure, Volt-VAR", "secure_market": "secure, q of the market"}
    return rules.get(way.name, way.name.replace("_", " "))


def _over_time(
    figure: SubFigure, network: Network, modes: Sequence[ShownMode], time: pd.Series, slot: int
) -> None:
    curves = [("voltage beyond its limits\np.u., below 0 inside", _voltage_beyond, 0.0)]
    if np.isfinite(network.rating).any():
        curves.append(("highest loading\n% of the rating", _highest_loading, 100.0))
    axes = figure.subplots(len(curves), 1, squeeze=False, sharex=True)[:, 0]
    begins = time.to_numpy()
    for axis, (words, series, limit) in zip(axes, curves, strict=True):
        styled(axis)
        for place, mode in enumerate(modes):
            # modes that do the same lie on each other: earlier ones are wider
            width = 1.2 + 3.3 * (len(modes) - 1 - place) / len(modes)
            axis.step(
                begins,
                series(network, mode.grid),
                where="post",
                color=mode.way.colour,
                linewidth=width,
                label=mode_name(mode.way),
            )
        axis.axhline(limit, color=LIMIT, linewidth=1.2, linestyle=(0, (6, 3)), zorder=4)
        axis.axvline(begins[slot], color="#555555", linewidth=1, linestyle=":")
        axis.set_ylabel(words)
    time_axis(axes[-1], np.append(begins, begins[-1] + (begins[1] - begins[0])))  # to the end of all slots
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(modes), frameon=False)


def _voltage_beyond(network: Network, grid: GridState) -> np.ndarray:
    """(T,) p.u. by which the worst bus is beyond its limits."""
    volts = grid.ac_voltage
    return np.maximum(volts - network.voltage_max, network.voltage_min - volts).max(1)


def _highest_loading(network: Network, grid: GridState) -> np.ndarray:
    """(T,) %."""
    return 100 * grid.ac_loading.max(1, initial=0)
