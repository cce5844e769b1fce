"""Pictures of a tuning: loss per step, what stored energy is worth over the day, capture before and after."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxp2p.community.types import Prosumers
from jaxp2p.lyapunov.tuned import Memory, TunedValue, value_line
from jaxp2p.report.canvas import COLOURS, DPI


def draw_tuning(
    path: Path,
    value: TunedValue,
    homes: Prosumers,
    history: Mapping[str, Sequence],
    capture: Mapping[str, Mapping[str, float | None]],
) -> None:
    """Three panels in one PNG; capture: per window ("train", "test") and policy."""
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    left.plot(history["step"], history["loss"], color=COLOURS["tuned"])
    left.set(xlabel="step", ylabel="loss: 1 - capture, and penalties")

    battery = homes.battery
    owner = int(np.argmax(np.asarray(battery.energy_max)))
    hours = np.arange(value.slots_per_day) * 24 / value.slots_per_day
    usual = Memory(value.start, value.start)
    for share, style in ((0.1, "-"), (0.5, "--"), (0.9, ":")):
        stored = battery.energy_min + share * (battery.energy_max - battery.energy_min)
        line = jax.vmap(lambda slot, stored=stored: value_line(value, usual, homes, stored, slot)[0][owner])
        worth = line(jnp.arange(value.slots_per_day))
        middle.plot(hours, worth, style, color=COLOURS["tuned"], label=f"{share:.0%} charged")
    middle.set(
        xlabel="hour of a weekday", ylabel="worth of a stored kWh, EUR", xlim=(0, 24), xticks=range(0, 25, 6)
    )
    middle.legend(frameon=False)

    names = [name for name in capture["train"] if name not in ("no_storage", "perfect_foresight")]
    place = np.arange(len(names))
    for shift, part, shade in ((-0.2, "train", 0.45), (0.2, "test", 1.0)):
        heights = [100 * (capture[part][name] or 0) for name in names]
        colours = [COLOURS.get(name, "#444444") for name in names]
        bars = right.bar(place + shift, heights, 0.38, color=colours, alpha=shade)
        right.bar_label(bars, fmt="%.0f", fontsize=8)
    right.set_xticks(place, [name.replace("_", "\n") for name in names], fontsize=8)
    right.set(ylabel="capture in % (pale: train, full: test)")
    figure.savefig(path, dpi=DPI)
    plt.close(figure)
