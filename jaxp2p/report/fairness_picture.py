"""The picture of fairness: who gains what under every split, and Lorenz curves of splits."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxp2p.fairness.judgement import Judgement
from jaxp2p.fairness.measures import gini, lorenz
from jaxp2p.report.canvas import canvas, plain

LOOKS = {  # colour and marker, apart for the colour-blind as well
    "market": ("#0072B2", "o"),
    "equal": ("#555555", "_"),
    "shapley": ("#D55E00", "D"),
    "least_core": ("#009E73", "^"),
}


def fairness_picture(judgement: Judgement, title: str) -> Figure:
    """Benefits of the members, in the order of what the market gives them; Shapley values with 95 % bars."""
    figure, [[left, right]] = canvas(1, 2, size=(13, 5.2), width_ratios=[2.3, 1])
    _benefits(left, judgement)
    _curves(right, judgement)
    figure.suptitle(f"Benefit against being alone: {plain(title)}", fontsize=12)
    return figure


def name_of(split: str) -> str:
    """A split's name as people write it."""
    return {"shapley": "Shapley", "least_core": "least core"}.get(split, split)


def _benefits(axis: Axes, judgement: Judgement) -> None:
    order = np.argsort(-judgement.splits["market"].benefit, kind="stable")
    place = np.arange(1, len(order) + 1)
    for name, split in judgement.splits.items():
        colour, marker = LOOKS[name]
        width = None
        if name == "shapley" and judgement.shapley is not None:
            width = judgement.shapley.half_width[order]
        axis.errorbar(
            place,
            split.benefit[order],
            yerr=width,
            fmt=marker,
            color=colour,
            markersize=4,
            elinewidth=1,
            capsize=2,
            label=name_of(name),
        )
    axis.axhline(0, color="#555555", linewidth=0.8)
    # a few members own most of the devices: a linear scale would press all others to the axis
    every = np.concatenate([split.benefit for split in judgement.splits.values()])
    linear = max(float(np.median(np.abs(every[every != 0]))) if every.any() else 1.0, 0.01)
    axis.set_yscale("symlog", linthresh=linear)
    axis.set_ylim(min(1.5 * every.min(), -0.15 * linear), max(1.5 * every.max(), 0.15 * linear))
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_xlabel("members, by what the market gives them")
    axis.set_ylabel("EUR")
    axis.legend(frameon=False, loc="upper right")
    axis.set_title("who gains what", fontsize=11)


def _curves(axis: Axes, judgement: Judgement) -> None:
    share = np.linspace(0, 100, judgement.statement.game.members + 1)
    for name, split in judgement.splits.items():
        if (curve := lorenz(split.benefit)) is not None:
            text = f"{name_of(name)}, Gini {gini(split.benefit):.2f}"
            axis.plot(share, 100 * curve, color=LOOKS[name][0], label=text)
    axis.set_xlabel("share of the members in %")
    axis.set_ylabel("share of the benefit in %")
    if axis.lines:
        axis.legend(frameon=False, loc="upper left")
    axis.set_title("Lorenz curves", fontsize=11)
