"""Pictures of money: cumulative cost, local price against the tariffs, bills of the members."""

import numpy as np
from matplotlib.figure import Figure

from jaxp2p._pytree import present
from jaxp2p.control.catalogue import COLOURS, OPTIMUM, REFERENCE, TRADE_ONLY
from jaxp2p.fairness.measures import lorenz
from jaxp2p.report.canvas import LIMIT, PictureData, canvas, label, line_style, outside_legend, time_axis
from jaxp2p.report.stays import energy_gained


def running_cost(data: PictureData, policy: str) -> np.ndarray:
    """(T,) EUR up to the end of every slot in all, the worth of the energy gained so far taken off.

    In vehicles it counts while they are plugged in, from their arrival on.
    """
    trajectory, penalty = data.trajectories[policy], data.evaluations[policy].costs.penalty
    start = float(np.asarray(data.community.prosumers.battery.energy_start, float).sum())
    gained = np.asarray(trajectory.energy, float).sum(1) - start
    if trajectory.vehicle_energy is not None:
        plugs = present(data.horizon.plugs).float64()
        gained = gained + energy_gained(plugs, np.asarray(trajectory.vehicle_energy, float))
    return np.cumsum(np.asarray(trajectory.cost, float).sum(1) + penalty) - data.terminal_price * gained


def cumulative_cost(data: PictureData) -> Figure:
    """Saving of every policy so far: above against neither storage nor trade, below against trade alone.

    Trade alone is often worth far more than the batteries, so only the second panel tells the policies for
    the batteries apart. Without a reference among the policies the plain cost is drawn.
    """
    storage = "the batteries add" if data.horizon.plugs is None else "batteries and vehicles add"
    cost = {name: running_cost(data, name) for name in data.trajectories}
    panels = []
    for reference, what in (
        (REFERENCE, "Saving against no storage and no trade"),
        (TRADE_ONLY, f"What {storage}: saving against trade without storage"),
    ):
        others = [name for name in cost if name not in ("no_trade", REFERENCE, reference)]
        if reference == REFERENCE and "no_trade" in cost:
            others.append("no_trade")
        if reference in cost and others:
            panels.append((what, {name: cost[reference] - cost[name] for name in others}))
    if not panels:
        panels = [("Cost so far, less the worth of the energy gained", cost)]
    figure, axes = canvas(len(panels), 1, size=(11, 1.2 + 3.6 * len(panels)), share_x=True)
    for axis, (what, lines) in zip(axes[:, 0], panels, strict=True):
        for name in sorted(lines, key=lambda name: -lines[name][-1]):
            text = f"{lines[name][-1]:,.1f} EUR  {label(name)}"
            axis.plot(data.ends, lines[name], label=text, **line_style(name))
        axis.axhline(0, color="#555555", linewidth=0.8)
        outside_legend(axis)
        axis.set_ylabel("EUR")
        axis.set_title(what, fontsize=11)
    worth = f"stored energy counted at {data.terminal_price:.3f} EUR/kWh"
    figure.suptitle(f"Cumulative cost: {data.title}, {worth}", fontsize=12)
    time_axis(axes[-1, 0], data.ends)
    return figure


def local_price(data: PictureData) -> Figure:
    """Mean and range of the members' market price between the tariffs."""
    name = data.favourite()
    figure, [[axis]] = canvas(size=(11, 4.8))
    price = np.asarray(data.trajectories[name].market_price, float)
    time = data.time.to_numpy()
    colour = COLOURS.get(name, "#0072B2")
    axis.fill_between(
        time,
        price.min(1),
        price.max(1),
        step="post",
        color=colour,
        alpha=0.25,
        linewidth=0,
        label="all members",
    )
    axis.step(time, price.mean(1), where="post", color=colour, linewidth=1.4, label="mean of the members")
    buy, sell = (np.asarray(x, float) for x in (data.horizon.price_buy, data.horizon.price_sell))
    axis.step(time, buy, where="post", color=LIMIT, linewidth=1.2, label="utility sells at")
    axis.step(time, sell, where="post", color="#0072B2", linewidth=1.2, label="utility buys at")
    outside_legend(axis)
    axis.set_ylabel("EUR/kWh")
    axis.set_title(f"Local market price against the tariffs: {label(name)}\n{data.title}", fontsize=11)
    time_axis(axis, time)
    return figure


def member_bills(data: PictureData) -> Figure | None:
    """Benefit of every member against neither storage nor trade, or the bills where that was not run."""
    bills = {name: evaluation.bill for name, evaluation in data.evaluations.items()}
    against = bills.pop(REFERENCE, None)
    names = [name for name in ("no_storage", "lyapunov", OPTIMUM) if name in bills] or list(bills)[:3]
    if not names:
        return None
    values = {name: bills[name] if against is None else against - bills[name] for name in names}
    first = data.favourite() if data.favourite() in values else names[-1]
    order = np.argsort(values[first])[::-1]
    figure, [[left, right]] = canvas(1, 2, size=(12, 4.8), width_ratios=[2.6, 1])
    place = np.arange(1, len(order) + 1)
    for name in names:
        style = line_style(name)
        marker = {"no_storage": "o", "lyapunov": "D", OPTIMUM: "_"}.get(name, "s")
        look = {"color": style["color"], "markersize": 7 if marker == "_" else 4, "zorder": 3}
        left.plot(place, values[name][order], marker, label=label(name), **look)
    left.axhline(0, color="#555555", linewidth=0.8)
    left.set_xlabel(f"members, by {'benefit' if against is not None else 'bill'} under {label(first)}")
    left.set_ylabel("EUR")
    # a few members own most of the devices: a linear scale would press all others to the axis
    spread = np.abs(values[first])
    linear = max(float(np.median(spread[spread > 0])) if spread.any() else 1.0, 0.1)
    left.set_yscale("symlog", linthresh=linear)
    left.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    every = np.concatenate(list(values.values()))
    left.set_ylim(min(1.5 * every.min(), -0.15 * linear), max(1.5 * every.max(), 0.15 * linear))
    left.legend(frameon=False, loc="upper right")
    what = "Benefit against no storage and no trade" if against is not None else "Bill"
    left.set_title(f"{what} per member\n{data.title}", fontsize=11)
    right.set_title("Lorenz curve of the benefit" if against is not None else "Lorenz curve", fontsize=11)
    share = np.concatenate([[0], place]) / len(order) * 100
    for name in names:
        if (curve := lorenz(values[name])) is not None:
            right.plot(share, 100 * curve, label=label(name), **line_style(name))
    right.plot([0, 100], [0, 100], color="#888888", linewidth=0.8)
    right.set_xlabel("share of the members in %")
    right.set_ylabel("share of the benefit in %")
    return figure
