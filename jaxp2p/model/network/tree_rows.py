"""The rows of a market on a large network: products with their matrix, without the matrix.

Row r is `scale_r^-1` times a voltage's row 2 R_n or a branch's row of S (`paths.py`), over the buses with a
flexible home. All rows together, or their transpose, are one way down the tree and one way up; a few single
rows are the transpose of as many unit prices.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxp2p._pytree import record
from jaxp2p.model.devices.arrays import Values, namespace
from jaxp2p.model.network.paths import Sweeps, too_large


@record
class TreeRows:
    """In place of the matrix (R, G) of a small network; NumPy or JAX. On the host it can become an array."""

    sweeps: Sweeps
    bus: Array  # (G,) int32, the controllable buses
    voltage: Array  # (Rv,) int32, bus of every voltage row (these come first)
    branch: Array  # (Rl,) int32, for every branch row the bus that its branch feeds
    weight: Array  # (R,) kW per unit of the state: 2 / scale of a voltage, 1 / scale of a branch

    @property
    def shape(self) -> tuple[int, int]:
        """Of the matrix, (R, G)."""
        return self.weight.shape[-1], self.bus.shape[-1]

    def times(self, at_bus: Values) -> Values:
        """(R,) kW of (G,) kW."""
        voltage, flow = self.sweeps.state(self._placed(at_bus, self.bus))
        xp = namespace(voltage, flow)
        return self.weight * xp.concatenate([voltage[..., self.voltage], flow[..., self.branch]], -1)

    def transposed(self, row_price: Values) -> Values:
        """(..., G): prices (..., R) times the matrix."""
        weight = self.weight.reshape((1,) * (row_price.ndim - 1) + self.weight.shape)
        weighted, volts = row_price * weight, self.voltage.shape[-1]
        voltage = self._placed(weighted[..., :volts], self.voltage)
        flow = self._placed(weighted[..., volts:], self.branch)
        return self.sweeps.transposed(voltage, flow)[..., self.bus]

    def of(self, chosen: Array) -> Array:
        """(K, G), the rows (K,) int32."""
        count = chosen.shape[0]
        unit = jnp.zeros((count, self.shape[0]), self.weight.dtype)
        return self.transposed(unit.at[jnp.arange(count), chosen].set(1))

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        """The matrix, on the host. Raises ValueError where it is too large for any use."""
        rows, buses = self.shape
        if words := too_large(rows, buses, f"{rows:,} network rows over {buses:,} buses"):
            raise ValueError(f"{words}: the reference solvers are for smaller networks")
        matrix = np.asarray(self.transposed(np.eye(rows, dtype=self.weight.dtype)))
        return matrix if dtype is None else matrix.astype(dtype)

    def _placed(self, values: Values, places: Values) -> Values:
        """(..., B): values (..., M) at different buses (M,), 0 at all others."""
        buses = self.sweeps.blocks.found.shape[-1]
        out = namespace(values, places).zeros((*values.shape[:-1], buses), values.dtype)
        if isinstance(out, np.ndarray):
            out[..., places] = values
            return out
        return out.at[..., places].set(values, unique_indices=True)
