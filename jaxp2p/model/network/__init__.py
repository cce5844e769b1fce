"""The network, in one room: its laws (what injections do, linear and AC) and the rows of a market.

Nobody else states either. `simulation`, `studies`, `scenarios`, `hindsight` and the reports ask the `Network`
for a state and the `Feeder` for rows; solvers see rows only.
"""

from jaxp2p.model.network.droop import VDE_4105, Curve, Droop, faults_of_curve
from jaxp2p.model.network.law import Base, Network, State, VoltageDependent, on_host
from jaxp2p.model.network.least_reactive import least_reactive
from jaxp2p.model.network.paths import Matrices, Sweeps, paths_of, radial_matrices
from jaxp2p.model.network.power_flow import (
    Flow,
    flow_of,
    overload_of,
    power_flow,
    power_flows,
)
from jaxp2p.model.network.rows import (
    AC_LOADING,
    AC_VOLTAGE,
    ROUNDS,
    ROUNDS_ANSWERING,
    Feeder,
    Limits,
    NoRows,
    Reach,
    ac_violated,
    controllable_rows,
    least_beside,
)
from jaxp2p.model.network.tree import Pi, Tree, tree_of, voltage_scale
from jaxp2p.model.network.z_bus import FlowStatus

__all__ = [
    "AC_LOADING",
    "AC_VOLTAGE",
    "ROUNDS",
    "ROUNDS_ANSWERING",
    "VDE_4105",
    "Base",
    "Curve",
    "Droop",
    "Feeder",
    "Flow",
    "FlowStatus",
    "Limits",
    "Matrices",
    "Network",
    "NoRows",
    "Pi",
    "Reach",
    "State",
    "Sweeps",
    "Tree",
    "VoltageDependent",
    "ac_violated",
    "controllable_rows",
    "faults_of_curve",
    "flow_of",
    "least_beside",
    "least_reactive",
    "on_host",
    "overload_of",
    "paths_of",
    "power_flow",
    "power_flows",
    "radial_matrices",
    "tree_of",
    "voltage_scale",
]
