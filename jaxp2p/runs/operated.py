"""A community operated in a given way, and how near the limits of its network it comes in AC."""

from dataclasses import replace

import numpy as np

from jaxp2p.control.ways import IGNORED, SECURE, Way
from jaxp2p.model.build import secure_rounds
from jaxp2p.model.devices import Inverters
from jaxp2p.model.devices.inverter import UNITY
from jaxp2p.model.network import Network, NoRows, controllable_rows
from jaxp2p.model.network.rows import AC_LOADING, AC_VOLTAGE
from jaxp2p.model.types import Community


def operated(community: Community, way: Way, inverters: Inverters | None) -> Community:
    """The community in a market that ignores the network, keeps it as it is in LinDistFlow, or in AC.

    inverters: of the homes, for a way with a rule of its own. Whether a secure market prices losses stays as
    the community has it.
    """
    if way.reactive is not None:
        own = None if way.reactive == UNITY or inverters is None else replace(inverters, rule=way.reactive)
        community = replace(community, prosumers=replace(community.prosumers, inverters=own))
    if way.limits == IGNORED:
        return replace(community, feeder=NoRows())
    homes, network, secure = community.prosumers, community.network, way.limits == SECURE
    return replace(
        community,
        feeder=controllable_rows(
            network,
            np.asarray(homes.bus),
            np.asarray(homes.flexible),
            np.asarray(homes.pv_peak).dtype,
            secure_rounds(homes.inverters) if secure else 1,
            secure and community.feeder.marginal,
        ),
    )


def margins(network: Network, voltage: np.ndarray, loading: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """(T, B + L) tolerances by which every bus and branch is beyond its limit in AC, and their names.

    Of voltages (T, B) in p.u. and loadings (T, L) as shares of the ratings, all on the host. Negative inside;
    more than 1 is a violation.
    """
    volts = np.maximum(voltage - network.voltage_max, network.voltage_min - voltage)
    over = np.where(np.isfinite(network.rating), loading - 1, -1)
    names = [f"voltage at bus {bus}" for bus in network.bus_ids]
    names += [f"{k} {b}" for k, b in zip(network.branch_kinds, network.branch_ids, strict=True)]
    return np.concatenate([volts / AC_VOLTAGE, over / AC_LOADING], 1), tuple(names)
