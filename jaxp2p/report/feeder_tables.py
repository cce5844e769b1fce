"""The feeder as tables: its buses and branches, and voltages and loadings of every slot in AC."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from jaxp2p.model.network import on_host
from jaxp2p.model.types import Community
from jaxp2p.report.kpis import Evaluation
from jaxp2p.report.layout import branch_ends
from jaxp2p.simulation.grid import GridState


def feeder_tables(
    community: Community,
    evaluations: Mapping[str, Evaluation],
    time: pd.Series,
    coordinates: np.ndarray | None = None,
) -> dict[str, pd.DataFrame]:
    """`buses` and `branches`, and by policy `buses_<policy>` and `branches_<policy>`; empty without a tree.

    coordinates: (B, 2) of the buses in the order of the network, NaN where they are not known.
    """
    if community.network.tree is None:
        return {}
    tables = {"buses": bus_table(community, coordinates), "branches": branch_table(community)}
    for name, evaluation in evaluations.items():
        tables[f"buses_{name}"] = voltage_table(community, evaluation.grid, time)
        tables[f"branches_{name}"] = loading_table(community, evaluation.grid, time)
    return tables


def bus_table(community: Community, coordinates: np.ndarray | None = None) -> pd.DataFrame:
    """One row per bus, the slack first: place in the unit of the input (empty where unknown), limits."""
    network = on_host(community.network)
    places = np.full((network.buses, 2), np.nan) if coordinates is None else coordinates
    return pd.DataFrame(
        {
            "bus": bus_names(community),
            "x": places[:, 0],
            "y": places[:, 1],
            "voltage_min_pu": network.voltage_min,
            "voltage_max_pu": network.voltage_max,
        }
    )


def branch_table(community: Community) -> pd.DataFrame:
    """One row per branch: line or transformer, its ends (from_bus is nearer to the slack), its rating."""
    network, names = on_host(community.network), bus_names(community)
    upper, lower = branch_ends(network)
    return pd.DataFrame(
        {
            "branch": branch_names(community),
            "kind": network.branch_kinds or ("line",) * network.branches,
            "from_bus": [names[bus] for bus in upper],
            "to_bus": [names[bus] for bus in lower],
            "rating_kva": network.rating,
        }
    )


def voltage_table(community: Community, grid: GridState, time: pd.Series) -> pd.DataFrame:
    """One row per slot and bus, in this order: the voltage of the AC power flow, in float32."""
    return _long(time, "bus", bus_names(community), "ac_voltage_pu", grid.ac_voltage)


def loading_table(community: Community, grid: GridState, time: pd.Series) -> pd.DataFrame:
    """One row per slot and branch, in this order: loading of the worse end in AC as a share of the rating.

    0 where a branch has no rating; in float32.
    """
    return _long(time, "branch", branch_names(community), "ac_loading", grid.ac_loading)


def bus_names(community: Community) -> list[str]:
    """Ids of the buses, or their numbers."""
    network = community.network
    return list(network.bus_ids or map(str, range(network.buses)))


def branch_names(community: Community) -> list[str]:
    """Ids of the branches, or their numbers."""
    network = community.network
    return list(network.branch_ids or map(str, range(network.branches)))


def _long(time: pd.Series, key: str, names: list[str], column: str, values: np.ndarray) -> pd.DataFrame:
    slots, size = values.shape
    return pd.DataFrame(
        {
            "time": np.repeat(time.to_numpy(), size),
            key: np.tile(np.array(names, dtype=object), slots),
            column: np.asarray(values, np.float32).ravel(),
        }
    )
