"""Pictures of a tuning: loss per step, what stored energy is worth over the day, capture before and after."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from matplotlib.figure import Figure

from jaxp2p.control.catalogue import COLOURS, OPTIMUM, TRADE_ONLY, TUNED
from jaxp2p.control.tuned import TunedValue, remember, value_line
from jaxp2p.model.types import Prosumers
from jaxp2p.report.canvas import DPI, canvas


def draw_tuning(
    path: Path,
    value: TunedValue,
    homes: Prosumers,
    history: Mapping[str, Sequence],
    capture: Mapping[str, Mapping[str, float | None]],
    stored: Mapping[str, ArrayLike],
) -> None:
    """Four panels in one PNG; capture: per window ("train", "test") and policy; stored: (T, N) kWh, test."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
    _loss(axes[0, 0], history)
    _worth(axes[0, 1], value, homes)
    _capture(axes[1, 0], capture)
    _stored(axes[1, 1], stored, homes, value.slots_per_day)
    figure.savefig(path, dpi=DPI)
    plt.close(figure)


def tuning_figure(value: TunedValue, homes: Prosumers, history: Mapping[str, Sequence]) -> Figure:
    """The two panels that need no run: loss per step, and what stored energy is worth over the day."""
    figure, [axes] = canvas(1, 2, size=(10, 3.6))
    _loss(axes[0], history)
    _worth(axes[1], value, homes)
    return figure


def _loss(axis, history: Mapping[str, Sequence]) -> None:
    """Loss of every step, the stages one after the other."""
    axis.plot(history["loss"], color=COLOURS["tuned"])
    starts = [k for k, step in enumerate(history["step"]) if step == 0 and k > 0]
    for start in starts:
        axis.axvline(start, color="#bbbbbb", linewidth=0.8)
    words = " (a line where a stage begins)" if starts else ""
    axis.set(xlabel=f"step{words}", ylabel="loss: 1 - capture, and penalties")


def _worth(axis, value: TunedValue, homes: Prosumers) -> None:
    """What stored energy is worth over the day, at mean features."""
    battery = homes.battery
    owner = int(np.argmax(np.asarray(battery.energy_max)))
    hours = np.arange(value.slots_per_day) * 24 / value.slots_per_day
    usual = remember(value, battery)
    for share, style in ((0.1, "-"), (0.5, "--"), (0.9, ":")):
        kept = battery.energy_min + share * (battery.energy_max - battery.energy_min)
        line = jax.vmap(lambda slot, kept=kept: value_line(value, usual, homes, kept, slot)[0][owner])
        worth = line(jnp.arange(value.slots_per_day))
        axis.plot(hours, worth, style, color=COLOURS["tuned"], label=f"{share:.0%} charged")
    axis.set(
        xlabel="hour of a weekday", ylabel="worth of a stored kWh, EUR", xlim=(0, 24), xticks=range(0, 25, 6)
    )
    axis.legend(frameon=False)


def _capture(axis, capture: Mapping[str, Mapping[str, float | None]]) -> None:
    """Capture of every policy on both windows."""
    names = [name for name in capture["train"] if name not in (TRADE_ONLY, OPTIMUM)]
    place = np.arange(len(names))
    for shift, part, shade in ((-0.2, "train", 0.45), (0.2, "test", 1.0)):
        heights = [100 * (capture[part][name] or 0) for name in names]
        colours = [COLOURS.get(name, "#444444") for name in names]
        bars = axis.bar(place + shift, heights, 0.38, color=colours, alpha=shade)
        axis.bar_label(bars, fmt="%.0f", fontsize=8)
    axis.set_xticks(place, [name.replace("_", "\n") for name in names], fontsize=8)
    axis.set(ylabel="capture in % (pale: train, full: test)")


def _stored(axis, stored: Mapping[str, ArrayLike], homes: Prosumers, per_day: int) -> None:
    """State of charge of all batteries over the day, mean over the days of the test."""
    room = float(np.sum(np.asarray(homes.battery.energy_max)))
    for name in ("lyapunov", TUNED, OPTIMUM):
        share = 100 * np.sum(np.asarray(stored[name], float), axis=1) / room
        days = len(share) // per_day
        if days:
            mean = share[: days * per_day].reshape(days, per_day).mean(0)
            hours = np.arange(per_day) * 24 / per_day
            axis.plot(hours, mean, color=COLOURS[name], label=name.replace("_", " "))
    axis.set(
        xlabel="hour", ylabel="state of charge in %, mean of the test", xlim=(0, 24), xticks=range(0, 25, 6)
    )
    axis.set_ylim(0, 100)
    axis.legend(frameon=False)
