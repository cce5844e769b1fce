"""Pictures of devices and solver: state of charge, one home, iterations."""

import numpy as np
from matplotlib.figure import Figure

from jaxp2p.control.catalogue import COLOURS, OPTIMUM
from jaxp2p.report.canvas import (
    LIMIT,
    PictureData,
    canvas,
    label,
    line_style,
    outside_legend,
    plain,
    time_axis,
)

EXAMPLES = 4  # homes shown one by one


def _owners(data: PictureData) -> np.ndarray:
    """Members with a battery, the largest first."""
    battery = data.community.prosumers.battery
    size = np.asarray(battery.energy_max, float) - np.asarray(battery.energy_min, float)
    order = np.argsort(-size, kind="stable")
    return order[size[order] > 0]


def state_of_charge(data: PictureData) -> Figure | None:
    """Energy of all batteries together under every policy, and of a few homes under the favourite one."""
    owners = _owners(data)
    names = [name for name in data.trajectories if not name.startswith("no_storage")]
    if not owners.size or not names:
        return None
    battery = data.community.prosumers.battery
    low, high = (np.asarray(x, float) for x in (battery.energy_min, battery.energy_max))
    figure, [[top], [bottom]] = canvas(2, 1, size=(11, 7), share_x=True)
    for name in names:
        stored = np.asarray(data.trajectories[name].energy, float)[:, owners].sum(1)
        top.plot(data.ends, stored, label=label(name), **line_style(name))
    for limit in (low[owners].sum(), high[owners].sum()):
        top.axhline(limit, color=LIMIT, linewidth=0.9, linestyle=(0, (6, 3)))
    top.set_ylabel("stored energy in kWh")
    top.set_title(f"{len(owners)} batteries together, limits dashed\n{data.title}", fontsize=11)
    outside_legend(top)
    name = data.favourite() if data.favourite() in names else names[-1]
    ids = data.community.prosumers.ids
    # spread over the sizes: the largest, the smallest and some between
    chosen = owners[np.unique(np.linspace(0, len(owners) - 1, EXAMPLES).round().astype(int))]
    energy = np.asarray(data.trajectories[name].energy, float)
    for home, colour in zip(chosen, ("#0072B2", "#E69F00", "#009E73", "#CC79A7"), strict=False):
        share = 100 * (energy[:, home] - low[home]) / (high[home] - low[home])
        text = f"{plain(ids[home]) if ids else home}: {high[home]:.0f} kWh"
        bottom.plot(data.ends, share, color=colour, linewidth=1.3, label=text)
    bottom.set_ylim(-3, 103)
    bottom.set_ylabel("state of charge in %")
    bottom.set_title(f"Single homes: {label(name)}", fontsize=11)
    outside_legend(bottom)
    time_axis(bottom, data.ends)
    return figure


def household(data: PictureData, *, days: float = 3) -> Figure:
    """Power and state of charge of one home over a few days: the median battery owner."""
    owners, homes = _owners(data), data.community.prosumers
    generated = np.asarray(homes.pv_peak, float)
    both = owners[generated[owners] > 0]
    pool = both if both.size else owners if owners.size else np.argsort(-generated, kind="stable")[:1]
    home = int(pool[len(pool) // 2])
    name = data.favourite()
    t = data.trajectories[name]
    slots = min(round(days * 24 / data.hours), len(data.time))
    time = data.time.to_numpy()[:slots]
    series = {field: np.asarray(getattr(t, field), float)[:slots, home] for field in t._fields[:10]}
    figure, [[top], [middle], [bottom]] = canvas(3, 1, size=(11, 8.5), share_x=True, height_ratios=[3, 3, 2])
    top.step(time, series["load"], where="post", color="#D55E00", label="load")
    if generated[home] > 0:
        top.step(time, series["pv_used"], where="post", color="#E69F00", label="PV")
    battery = series["discharge"] - series["charge"]
    top.fill_between(
        time, battery, step="post", color="#009E73", alpha=0.45, linewidth=0, label="battery (+ out, - in)"
    )
    if t.vehicle_charge is not None and t.vehicle_discharge is not None:
        vehicle = (np.asarray(t.vehicle_discharge) - np.asarray(t.vehicle_charge))[:slots, :, home].sum(1)
        if vehicle.any():
            top.step(time, vehicle, where="post", color="#AA4499", label="vehicles (+ out, - in)")
    top.set_ylabel("devices in kW")
    who = plain(homes.ids[home]) if homes.ids else home
    top.set_title(f"Home {who}: {label(name)}\n{data.title}", fontsize=11)
    # stacked areas above zero for what comes in, below for what goes out
    bought, sold = series["buy"], series["sell"]
    from_peers, to_peers = np.maximum(-series["trade"], 0), np.maximum(series["trade"], 0)
    for first, second, sign in ((bought, from_peers, 1), (sold, to_peers, -1)):
        middle.fill_between(time, sign * first, step="post", color="#0072B2", alpha=0.55, linewidth=0)
        middle.fill_between(
            time, sign * first, sign * (first + second), step="post", color="#CC79A7", alpha=0.7, linewidth=0
        )
    patches = [
        middle.fill_between([], [], color="#0072B2", alpha=0.55, label="utility"),
        middle.fill_between([], [], color="#CC79A7", alpha=0.7, label="peers"),
    ]
    middle.axhline(0, color="#555555", linewidth=0.8)
    middle.set_ylabel("bought +, sold - in kW")
    low, high = (float(np.asarray(x)[home]) for x in (homes.battery.energy_min, homes.battery.energy_max))
    bottom.plot(data.ends[:slots], series["energy"], color="#009E73", label="stored")
    if high > low:
        bottom.axhline(high, color=LIMIT, linewidth=0.9, linestyle=(0, (6, 3)), label="limits")
        bottom.axhline(low, color=LIMIT, linewidth=0.9, linestyle=(0, (6, 3)))
    bottom.set_ylabel("kWh")
    outside_legend(top)
    outside_legend(middle, handles=patches)
    outside_legend(bottom)
    time_axis(bottom, time)
    return figure


def iterations(data: PictureData) -> Figure | None:
    """How many ADMM iterations the slots took, one line per policy: share of slots done after so many."""
    counts = {
        name: np.sort(np.asarray(t.iterations, float))
        for name, t in data.trajectories.items()
        if name != OPTIMUM
    }
    if not counts or max(values[-1] for values in counts.values()) <= 0:
        return None
    figure, [[left, right]] = canvas(1, 2, size=(12, 4.6))
    name = data.favourite()
    values = counts.get(name, next(iter(counts.values())))
    edges = np.linspace(0, values[-1] + 1, 41)
    left.hist(values, bins=edges, color=COLOURS.get(name, "#0072B2"), alpha=0.85)
    for mark, style in ((np.median(values), "-"), (np.percentile(values, 95), "--")):
        kind = "median" if style == "-" else "95 %"
        left.axvline(mark, color="#333333", linestyle=style, linewidth=1.2, label=f"{kind}: {mark:.0f}")
    left.set_xlabel("ADMM iterations of a slot")
    left.set_ylabel("slots")
    left.set_title(f"ADMM iterations per slot: {label(name)}\n{data.title}", fontsize=11)
    left.legend(frameon=False)
    for name, values in counts.items():
        share = 100 * np.arange(1, len(values) + 1) / len(values)
        right.step(np.maximum(values, 1), share, where="post", label=label(name), **line_style(name))
    right.set_xscale("log")
    right.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    right.set_xlabel("ADMM iterations")
    right.set_ylabel("slots done in %")
    right.set_title("All policies", fontsize=11)
    outside_legend(right)
    return figure
