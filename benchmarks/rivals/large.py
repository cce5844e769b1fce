"""A distribution grid of any size: copies of the feeder of rural3 on the feeders of a medium-voltage network.

Of the copies some have more PV than others, so that limits bind in some places and not in all. A copy with
several times the members of rural3 has the impedances and ratings of as many feeders side by side.
"""

import numpy as np
import pandas as pd

from jaxp2p.data import Tables, load_case, window
from jaxp2p.model.network.tree import rooted

FEEDERS = 8  # of medium voltage; the copies are spread over them
LARGEST = 20_000.0  # kVA
SECTION = {"r_ohm": 0.05, "x_ohm": 0.05, "s_max_kva": 25_000.0}  # of two cables side by side
ENDS = ["from_bus", "to_bus"]
SPREAD = 0.3  # of the logarithm of PV per copy


def large_tables(
    buses: int,
    members: int,
    *,
    start: str = "2016-07-04",
    days: float = 1,
    seed: int = 0,
    pv_scale: float = 1,
) -> Tables:
    """A community of so many members on so many buses; the last copy of the feeder may be cut short."""
    case = window(load_case("rural3", pv_share=0.6), start=start, days=days)
    nodes = case.buses.sort_values("slack", ascending=False, kind="stable")
    place = pd.Series(range(len(nodes)), nodes["bus_id"])
    _, far, order = rooted(*(case.lines[end].map(place).to_numpy(int) for end in ENDS), len(nodes))
    lines, fed = case.lines.iloc[order], place.index[far[order]]  # the first of them are a tree as well
    copies = -(-(buses - 1) // len(nodes))
    several = -(-members // (len(case.prosumers) * copies))
    lines = lines.assign(
        r_ohm=lines["r_ohm"] / several,
        x_ohm=lines["x_ohm"] / several,
        s_max_kva=np.minimum(lines["s_max_kva"] * several, LARGEST),  # what is plausible of a branch
    )
    rng = np.random.default_rng(seed)
    more = pv_scale * np.exp(SPREAD * rng.standard_normal(copies))
    case, top = case.replace(lines=lines), place.index[0]
    parts = []
    for k in range(copies):
        here = fed[: min(buses - 2 - k * len(nodes), len(fed))]
        parts.append(_copy(case, top, here, several, k, more[k]))
    homes, below, branches = (pd.concat(frames, ignore_index=True) for frames in zip(*parts, strict=True))
    nodes = pd.concat([nodes.iloc[:1], below], ignore_index=True)
    chosen = np.sort(rng.permutation(len(homes))[:members])
    tables = case.replace(prosumers=homes.iloc[chosen].reset_index(drop=True), buses=nodes, lines=branches)
    return tables.replace(meta={"name": f"{buses} buses, {members} members"}, whole=None)


def _copy(
    case: Tables, top: str, fed: pd.Index, several: int, k: int, more: float
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Members, buses and branches of copy k, whose feeder has the buses `fed` below one of medium voltage."""
    named = lambda names: names.map(lambda name: f"{k}: {name}")
    own = case.lines.iloc[: len(fed)]
    own = own.assign(**{name: named(own[name]) for name in ("line_id", *ENDS)})
    above = top if k < FEEDERS else f"{k - FEEDERS}: {top}"
    section = case.lines.iloc[:1].assign(
        line_id=f"{k}: section", from_bus=above, to_bus=f"{k}: {top}", kind="line", **SECTION
    )
    nodes = case.buses[case.buses["bus_id"].isin([top, *fed])]
    nodes = nodes.assign(bus_id=named(nodes["bus_id"]), slack=0.0)
    homes = case.prosumers[case.prosumers["bus_id"].isin(fed)]
    homes = pd.concat([homes.assign(prosumer_id=homes["prosumer_id"] + f" #{n}") for n in range(several)])
    homes = homes.assign(
        prosumer_id=named(homes["prosumer_id"]), bus_id=named(homes["bus_id"]), pv_kw=more * homes["pv_kw"]
    )
    return homes, nodes, pd.concat([section, own])
