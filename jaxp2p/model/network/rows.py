"""The rows that the market must keep: limits of the network, over the buses that have a flexible home.

A market without a network has a `NoRows`: the same methods, no rows. Nothing that it gives depends on
anything, so a program with it is that of a market alone; only what would cost something to leave out asks
whether there are any (`rows`, known from the structure).
"""

from typing import ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.lax import Precision

from jaxp2p._pytree import record, static
from jaxp2p.model.devices.arrays import Values, namespace, on_device
from jaxp2p.model.network.law import Base, Network, on_host
from jaxp2p.model.network.paths import Sweeps, too_large
from jaxp2p.model.network.power_flow import Flow
from jaxp2p.model.network.tree_rows import TreeRows

ALL_OF_IT = Precision.HIGHEST
ROUNDS, ROUNDS_ANSWERING = 6, 12  # of a market that is secure in AC, and where inverters answer to voltages
AC_VOLTAGE, AC_LOADING, AC_POWER = 1e-4, 1e-3, 0.05  # p.u., share of the rating, kW


def ac_violated(voltage: Values, loading: Values) -> Values:
    """bool, of what is beyond the limits in p.u. and in shares of a rating: more than what counts as kept."""
    return (voltage > AC_VOLTAGE) | (loading > AC_LOADING)


class Limits(NamedTuple):
    """Value of every row when the flexible homes do nothing, and what it must lie between; (..., R) kW."""

    offset: Values
    lower: Values
    upper: Values


class Reach(NamedTuple):
    """Between what the reactive power of all inverters at a bus can be; (..., B) kvar."""

    least: Values  # at most 0: what lowers the voltage
    most: Values


def least_beside(network: Network, base: Base, reach: Reach) -> Values:
    """(..., L) kvar, the smallest size of the reactive flow in every branch by itself, within a reach."""
    least, most = (network.supported(base, given).reactive for given in reach)
    xp = namespace(least, most)
    return xp.maximum(xp.maximum(least, -most), 0)


@record
class Feeder:
    """The network as the solver sees it.

    Row r limits `offset_r + sum_n matrix[r, n] * (injection of the flexible homes at bus n)`; rows are
    divided by their largest entry, so that a violation is in kW.
    """

    group: Array  # (N,) int32, index of the home's controllable bus (0 for homes that are not flexible)
    flexible: Array  # (N,) 1 for a home that can change its injection, else 0
    count: Array  # (G,) flexible homes per controllable bus
    matrix: Array | TreeRows  # (R, G) kW per kW; of a large network only what is needed of it
    scale: Array  # (R,) physical unit of the row per kW: p.u.^2 (voltage rows) or kW (branch rows)
    voltage_bus: Array  # (Rv,) int32, bus of every voltage row (these come first)
    flow_branch: Array  # (Rl,) int32, branch of every branch row
    rounds: int = static(default=1)  # a slot is cleared so often at most, until its AC power flow is inside
    marginal: bool = static(default=False)  # the market prices the losses that an injection makes

    @property
    def rows(self) -> int:
        """R."""
        return self.matrix.shape[-2]

    def movers(self, able: Array) -> Array:
        """(N,) bool: homes that base values leave out. The feeder knows, whatever devices homes have now."""
        return self.flexible > 0

    def of_movers(self, values: Array) -> Array:
        """Values (N,) of the homes whose injection has a copy that the rows can move; 0 for others."""
        return values * jnp.broadcast_to(self.flexible, values.shape)

    def bus_sum(self, values: Array) -> Array:
        """Sums (..., G) of values (..., N) over the flexible homes of every controllable bus."""
        none = jnp.zeros((*values.shape[:-1], self.count.shape[0]), values.dtype)
        return none.at[..., self.group].add(self.of_movers(values))

    def at_homes(self, values: Array, homes: int) -> Array:
        """What stands at their bus (..., G), for every home (..., N); 0 for homes that are not flexible."""
        there = jnp.take(values, self.group, axis=-1, mode="clip")
        return there * jnp.broadcast_to(self.flexible, there.shape)

    def values(self, at_bus: Array, offset: Array) -> Array:
        """(R,) kW when the flexible homes of every controllable bus inject (G,) kW together."""
        if isinstance(self.matrix, TreeRows):
            return self.matrix.times(at_bus) + offset
        return jnp.matmul(self.matrix, at_bus, precision=ALL_OF_IT) + offset

    def bus_price(self, row_price: Array) -> Array:
        """What row prices (..., R) take off the market price at every controllable bus (..., G), EUR/kWh."""
        if isinstance(self.matrix, TreeRows):
            return self.matrix.transposed(row_price)
        return jnp.matmul(row_price, self.matrix, precision=ALL_OF_IT)

    def rows_of(self, chosen: Array) -> Array:
        """(K, G) kW per kW: the rows (K,) int32 of the matrix."""
        if isinstance(self.matrix, TreeRows):
            return self.matrix.of(chosen)
        return jnp.take(self.matrix, chosen, axis=0)

    def response(self, homes: int) -> np.ndarray:
        """(R, N) float64, on the host: kW in every row per kW that a home injects.

        Raises ValueError where a large network has too many rows and homes for that, see `no_response`.
        """
        if words := self.no_response(homes):
            raise ValueError(words)
        own = on_host(self)
        return np.asarray(np.asarray(own.matrix)[:, own.group] * own.flexible)

    def no_response(self, homes: int) -> str:
        """Why a large network has no `response`, in words; empty where there is one."""
        if not isinstance(self.matrix, TreeRows):
            return ""
        return too_large(self.rows, homes, f"{self.rows:,} network rows over {homes:,} members")

    def limits(self, network: Network, base: Base, reach: Reach | None = None) -> Limits:
        """Of one slot or of many, from its base values.

        reach: of the reactive power of inverters. Rows are as wide as all of it can make them, each for
        itself: what it does for one of them it may not do for another.

        Voltage rows count from the slack's voltage: as a power, 1 p.u. would be so large that float32 lost
        what the homes do.
        """
        volt, branch = self.voltage_bus, self.flow_branch
        xp = namespace(*base[:3], self.scale)
        spread = lambda x: xp.broadcast_to(x, (*base.voltage.shape[:-1], *x.shape))
        slack = network.slack_voltage**2
        lowest, highest = (
            spread(limit[volt] ** 2 - slack) for limit in (network.voltage_min, network.voltage_max)
        )
        beside = base.reactive
        if reach is not None:
            lowest, highest = (
                limit - network.lift(given)[..., volt]
                for limit, given in ((lowest, reach.most), (highest, reach.least))
            )
            beside = least_beside(network, base, reach)
        room = network.room(beside)[..., branch]
        scale = spread(self.scale)
        offset = xp.concatenate([base.voltage[..., volt] - slack, base.flow[..., branch]], -1) / scale
        return Limits(
            offset, xp.concatenate([lowest, -room], -1) / scale, xp.concatenate([highest, room], -1) / scale
        )

    def tolerance(self, kind: np.dtype, *, flow: float | Array, voltage: float | Array) -> Values:
        """(R,) kW: what kW on a branch and p.u. on a voltage (about 1, so 2 of them squared) are in a row."""
        xp = namespace(self.scale, flow, voltage)
        volts, flows = self.voltage_bus.shape, self.flow_branch.shape
        return xp.concatenate([xp.full(volts, 2 * voltage, kind), xp.full(flows, flow, kind)]) / self.scale

    def in_ac(self, network: Network, flow: Flow, reactive: Values) -> Array:
        """(..., R) kW: the values of the rows as an AC power flow has them, reactive (..., L) kvar of `Base`.

        A branch counts with the active flow that, beside the reactive flow of its row, makes its loading: it
        is at the row's limit exactly where the loading is 1.
        """
        branch = self.flow_branch
        squared = (flow.real**2 + flow.imag**2)[..., self.voltage_bus] - network.slack_voltage**2
        apparent = flow.loading[..., branch] * network.rating[branch]
        active = jnp.sqrt(jnp.maximum(apparent**2 - reactive[..., branch] ** 2, 0))
        signed = jnp.where(flow.far_active[..., branch] < 0, -active, active)
        return jnp.concatenate([squared, signed], -1) / self.scale

    def fine(self, network: Network) -> Array:
        """(R,) kW: what counts as kept in AC, 1e-4 p.u. and 0.1 % of a rating but no more than 0.05 kW."""
        ratings = network.rating[self.flow_branch]
        most = jnp.minimum(AC_LOADING * ratings, AC_POWER)
        return self.tolerance(ratings.dtype, flow=most, voltage=AC_VOLTAGE)

    def excess(self, network: Network, voltage: Values, overload: Values) -> Values:
        """(..., R) kW beyond the limits of the rows, of voltages (..., B) p.u. and overloads (..., L) kW."""
        volts = voltage[..., self.voltage_bus]
        xp = namespace(volts, overload)
        spread = lambda x: xp.broadcast_to(x, (*voltage.shape[:-1], *x.shape))
        low, high = (spread(limit[self.voltage_bus]) for limit in (network.voltage_min, network.voltage_max))
        beyond = xp.maximum(xp.maximum(volts**2 - high**2, low**2 - volts**2), 0)
        return xp.concatenate([beyond, overload[..., self.flow_branch]], -1) / spread(self.scale)

    def names(self, network: Network) -> tuple[str, ...]:
        """Of the rows: "voltage at bus BUS", "line ID", "transformer ID"."""
        volts = [f"voltage at bus {network.bus_ids[b]}" for b in np.asarray(self.voltage_bus)]
        kinds, branches = network.branch_kinds, network.branch_ids
        flows = [f"{kinds[b]} {branches[b]}" for b in np.asarray(self.flow_branch)]
        return tuple(volts + flows)


@record
class NoRows:
    """A market without a network: a `Feeder` with no rows over no buses. It has no leaves."""

    rows: ClassVar[int] = 0
    rounds: ClassVar[int] = 1
    marginal: ClassVar[bool] = False
    count: ClassVar[np.ndarray] = np.zeros(0)
    matrix: ClassVar[np.ndarray] = np.zeros((0, 0))
    scale: ClassVar[np.ndarray] = np.zeros(0)
    voltage_bus: ClassVar[np.ndarray] = np.zeros(0, np.int32)
    flow_branch: ClassVar[np.ndarray] = np.zeros(0, np.int32)

    def movers(self, able: Array) -> Array:
        """(N,) bool: homes that base values leave out, those `able` to do something now."""
        return able

    def of_movers(self, values: Array) -> Array:
        """Values (N,) as they are: every injection has a copy."""
        return values

    def bus_sum(self, values: Array) -> Array:
        """(..., 0)."""
        return jnp.zeros((*values.shape[:-1], 0), values.dtype)

    def at_homes(self, values: Array, homes: int) -> Array:
        """(..., N) zeros."""
        return jnp.zeros((*values.shape[:-1], homes), values.dtype)

    def values(self, at_bus: Array, offset: Array) -> Array:
        """(0,)."""
        return offset

    def bus_price(self, row_price: Array) -> Array:
        """(..., 0)."""
        return row_price

    def response(self, homes: int) -> np.ndarray:
        """(0, N)."""
        return np.zeros((0, homes))

    def no_response(self, homes: int) -> str:
        """There is one."""
        return ""

    def rows_of(self, chosen: Array) -> Array:
        """(K, 0)."""
        return jnp.zeros((chosen.shape[0], 0))

    def limits(self, network: Network, base: Base, reach: Reach | None = None) -> Limits:
        """(..., 0) each."""
        none = base.flow[..., :0]
        return Limits(none, none, none)

    def in_ac(self, network: Network, flow: Flow, reactive: Values) -> Array:
        """(..., 0)."""
        return flow.real[..., :0]

    def fine(self, network: Network) -> Array:
        """(0,)."""
        return network.rating[:0]

    def tolerance(self, kind: np.dtype, *, flow: float | Array, voltage: float | Array) -> Values:
        """(0,)."""
        return np.zeros(0, kind)

    def excess(self, network: Network, voltage: Values, overload: Values) -> Values:
        """(..., 0)."""
        return overload[..., :0]

    def names(self, network: Network) -> tuple[str, ...]:
        """None."""
        return ()


def controllable_rows(
    network: Network,
    bus: np.ndarray,
    flexible: np.ndarray,
    dtype: np.dtype,
    rounds: int = 1,
    marginal: bool = False,
) -> Feeder | NoRows:
    """The rows of these homes, over the buses with a flexible home, scaled.

    rounds, marginal: see `Feeder`. No rows where nothing between the homes and the slack could bind. bus (N,)
    int, flexible (N,) bool. Rows that no flexible home can move are left out: nothing that the market decides
    could help them, and the run reports their violations all the same.
    """
    buses, count = np.unique(bus[flexible], return_counts=True)
    group = np.where(flexible, np.searchsorted(buses, bus), 0)
    find = _tree_rows if isinstance(network.paths, Sweeps) else _matrix_rows
    rows = find(network, buses, dtype)
    if not len(rows.scale):
        return NoRows()
    return Feeder(
        group=on_device(group, np.int32),
        flexible=on_device(flexible, dtype),
        count=on_device(count, dtype),
        matrix=rows.matrix,
        scale=on_device(rows.scale, dtype),
        voltage_bus=on_device(rows.voltage_bus, np.int32),
        flow_branch=on_device(rows.flow_branch, np.int32),
        rounds=rounds,
        marginal=marginal,
    )


class _Found(NamedTuple):
    matrix: Array | TreeRows
    scale: np.ndarray  # (R,)
    voltage_bus: np.ndarray  # (Rv,)
    flow_branch: np.ndarray  # (Rl,)


def _matrix_rows(network: Network, buses: np.ndarray, dtype: np.dtype) -> _Found:
    grid = on_host(network)
    paths = grid.paths.matrices()
    voltage_rows, flow_rows = 2 * paths.resistance[:, buses], paths.downstream[:, buses]
    voltage_bus = np.flatnonzero(voltage_rows.max(1, initial=0) > 0)
    flow_branch = np.flatnonzero(np.isfinite(grid.rating) & (flow_rows.max(1, initial=0) > 0))
    rows = np.concatenate([voltage_rows[voltage_bus], flow_rows[flow_branch]])
    scale = np.abs(rows).max(1, initial=0)
    return _Found(on_device(rows / scale[:, None], dtype), scale, voltage_bus, flow_branch)


def _tree_rows(network: Network, buses: np.ndarray, dtype: np.dtype) -> _Found:
    grid, sweeps = on_host(network), network.paths
    assert isinstance(sweeps, Sweeps)
    largest, behind = on_host(sweeps).largest(buses)
    voltage_bus = np.flatnonzero(largest > 0)
    flow_branch = np.flatnonzero(np.isfinite(grid.rating) & behind[sweeps.fed])
    scale = np.concatenate([2 * largest[voltage_bus], np.ones(len(flow_branch))])
    weight = np.concatenate([1 / largest[voltage_bus], np.ones(len(flow_branch))])
    index = lambda x: on_device(x, np.int32)
    matrix = TreeRows(
        sweeps=sweeps,
        bus=index(buses),
        voltage=index(voltage_bus),
        branch=index(np.asarray(sweeps.fed)[flow_branch]),
        weight=on_device(weight, dtype),
    )
    return _Found(matrix, scale, voltage_bus, flow_branch)
