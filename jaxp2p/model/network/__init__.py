"""The network, in one room: its law (what injections do) and the rows that a market must keep.

Nobody else states either. `simulation`, `studies`, `scenarios`, `hindsight` and the reports ask the `Network`
for a state and the `Feeder` for rows; solvers see rows only.
"""

from jaxp2p.model.network.law import Base, Network, State, on_host, radial_matrices
from jaxp2p.model.network.rows import Feeder, Limits, NoRows, controllable_rows

__all__ = [
    "Base",
    "Feeder",
    "Limits",
    "Network",
    "NoRows",
    "State",
    "controllable_rows",
    "on_host",
    "radial_matrices",
]
