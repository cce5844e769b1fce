"""LinDistFlow: what injections do to the voltages and flows of a radial feeder.

Baran and Wu's branch flow equations without losses: with r, x in p.u. per kW on the path from the slack,

    v_n = v0^2 + 2 sum_m (R_nm p_m + X_nm q_m),      P_l = sum of p downstream of l,

where R_nm adds the resistances that the paths of n and m share. Reactive power is fixed within a slot, so
the rating |P + jQ| <= S is the exact interval |P| <= sqrt(S^2 - Q^2).

Shunts and loads that go with the voltage count as constant power, with what they take at 1 p.u. A transformer
off its nominal ratio scales all that is behind it (`tree.py`): with k_n the voltage of bus n over that of the
slack when nothing flows, v_n = k_n^2 (v0^2 + ...) with impedances as the slack sees them. `power_flow` is the
AC power flow of the same network. `paths.py` has the sums, with and without matrices.
"""

from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax import Array

from jaxp2p._pytree import record, static
from jaxp2p.model.devices.arrays import Values, namespace, on_device
from jaxp2p.model.network.paths import Matrices, Sweeps
from jaxp2p.model.network.tree import Tree

T = TypeVar("T")
WIDEST, STRONGEST = 10, 1e9  # p.u., kVA


class VoltageDependent(NamedTuple):
    """Parts of what is injected, at 1 p.u.; they go with |v| (constant current) and |v|^2 (impedance)."""

    current_active: Values  # (..., B) kW
    current_reactive: Values  # (..., B) kvar
    impedance_active: Values  # (..., B) kW
    impedance_reactive: Values  # (..., B) kvar


class Base(NamedTuple):
    """What the network carries already, in one slot or in many."""

    voltage: Values  # (..., B) p.u.^2
    flow: Values  # (..., L) kW, positive towards the slack (injections downstream)
    reactive: Values  # (..., L) kvar
    active_bus: Values | None = None  # (..., B) kW injected, at 1 p.u.; without the shunts of the network
    reactive_bus: Values | None = None  # (..., B) kvar
    dependent: VoltageDependent | None = None  # parts of both; None: no load goes with the voltage

    @classmethod
    def of(cls, slots: Any) -> "Base":
        """Of a row of a horizon, or of a whole one."""
        return cls(
            slots.voltage_base,
            slots.flow_base,
            slots.flow_reactive,
            slots.active_base,
            slots.reactive_base,
            slots.dependent_base,
        )


class State(NamedTuple):
    """The network under given injections."""

    voltage: Values  # (..., B) p.u.
    flow: Values  # (..., L) kW, positive towards the slack


@record
class Network:
    """Radial feeder with its law; bus 0 is the slack.

    The methods take and give NumPy or JAX arrays, with any leading axes; `on_host` makes NumPy leaves.
    """

    paths: Matrices | Sweeps  # the sums of the formula
    slack_voltage: Array  # () p.u.
    voltage_min: Array  # (B,) p.u.
    voltage_max: Array  # (B,) p.u.
    rating: Array  # (L,) kVA, inf when unrated
    tree: Tree | None = None  # for the AC power flow
    bus_ids: tuple[str, ...] = static(default=())
    branch_ids: tuple[str, ...] = static(default=())
    branch_kinds: tuple[str, ...] = static(default=())  # "line" or "transformer"

    @property
    def buses(self) -> int:
        """B, the slack included."""
        return self.voltage_min.shape[0]

    @property
    def branches(self) -> int:
        """L."""
        return self.rating.shape[0]

    def unlimited(self) -> "Network":
        """The same, limits being leaves, with those that nothing reaches."""
        wide = lambda limit, value: on_device(np.full(limit.shape, value), limit.dtype)
        return replace(
            self,
            voltage_min=wide(self.voltage_min, 0),
            voltage_max=wide(self.voltage_max, WIDEST),
            rating=wide(self.rating, STRONGEST),
        )

    def at_buses(self, values: Values, bus: Values) -> Values:
        """(..., B): the sums of values (..., N) over the homes at every bus; bus (N,) is where they are."""
        sums = namespace(values).zeros((*values.shape[:-1], self.buses), values.dtype)
        if isinstance(sums, np.ndarray):
            np.add.at(sums.T, np.asarray(bus), values.T)
            return sums
        return sums.at[..., bus].add(values)

    def base(self, active: Values, reactive: Values, *, slack_voltage: float) -> Base:
        """What injections (..., B) kW and kvar make of a network in which nothing else happens."""
        p, q, idle = active, reactive, slack_voltage**2
        if self.tree is not None:
            idle = self._spread(idle * self.tree.scale**2, active)
            if self.tree.shunted:
                conductance, susceptance = self.tree.shunt / self.tree.scale**2
                p, q = p - self._spread(conductance, p), q + self._spread(susceptance, q)
        return Base(idle + self._rise(p, q), self._flow(p), self._flow(q), active, reactive)

    def moved(self, base: Base, active: Values) -> Base:
        """The base values when (..., B) kW more are injected; loads count below zero."""
        voltage, flow = base.voltage + self._rise(active), base.flow + self._flow(active)
        at_bus = None if base.active_bus is None else base.active_bus + active
        return base._replace(voltage=voltage, flow=flow, active_bus=at_bus)

    def state(self, base: Base, active: Values) -> State:
        """Voltages and flows when (..., B) kW are injected beside what `base` holds."""
        squared, flow = self.moved(base, active)[:2]
        xp = namespace(squared)
        return State(xp.sqrt(xp.maximum(squared, 0)), flow)

    def lift(self, reactive: Values) -> Values:
        """(..., B) p.u.^2 that (..., B) kvar add to the squared voltages."""
        return 2 * self.paths.lift(reactive)

    def lift_transposed(self, price: Values) -> Values:
        """(..., B): 2 X^T y of y (..., B), what a kvar at every bus does to voltages with these prices."""
        # X is symmetric but for the k^2 of the voltages that it is in
        if self.tree is None:
            return self.lift(price)
        scale = self._spread(self.tree.scale**2, price)
        return self.lift(price * scale) / scale

    def through_transposed(self, price: Values) -> Values:
        """(..., B): the sums of prices (..., L) of the branches between every bus and the slack."""
        return self.paths.through_transposed(price)

    def supported(self, base: Base, reactive: Values) -> Base:
        """The base values when inverters give (..., B) kvar."""
        given = None if base.reactive_bus is None else base.reactive_bus + reactive
        return base._replace(
            voltage=base.voltage + self.lift(reactive),
            reactive=base.reactive + self._flow(reactive),
            reactive_bus=given,
        )

    def room(self, reactive: Values) -> Values:
        """(..., L) kW that reactive flows (..., L) kvar leave in every branch; inf where it is unrated."""
        xp = namespace(reactive, self.rating)
        return xp.sqrt(xp.maximum(self._spread(self.rating, reactive) ** 2 - reactive**2, 0))

    def loading(self, flow: Values, reactive: Values) -> Values:
        """(..., L) apparent power as share of the rating; 0 where a branch is unrated."""
        apparent = namespace(flow, reactive).sqrt(flow**2 + reactive**2)
        return apparent / self._spread(self.rating, apparent)

    def beyond(self, voltage: Values) -> Values:
        """(..., B) p.u. by which voltages (..., B) p.u. are outside their limits."""
        low, high = (self._spread(x, voltage) for x in (self.voltage_min, self.voltage_max))
        xp = namespace(voltage, low)
        return xp.maximum(xp.maximum(voltage - high, low - voltage), 0)

    def overload(self, flow: Values, reactive: Values) -> Values:
        """(..., L) kW of active flow beyond what the rating leaves beside the reactive flow."""
        xp = namespace(flow, reactive)
        return xp.maximum(xp.abs(flow) - self.room(reactive), 0)  # inf - finite is inf: unrated, none

    def _rise(self, active: Values, reactive: Values | None = None) -> Values:
        """(..., B) p.u.^2 that injections add to the squared voltages."""
        return 2 * self.paths.rise(active, reactive)

    def _flow(self, power: Values) -> Values:
        """(..., L): what flows through every branch, of injections (..., B)."""
        return self.paths.through(power)

    def _spread(self, limits: Values, like: Values) -> Values:
        return limits.reshape((1,) * (like.ndim - 1) + limits.shape)


def on_host(part: T) -> T:
    """A record or tuple of arrays as NumPy arrays, its real numbers in float64."""
    whole = lambda x: np.asarray(x, None if np.issubdtype(x.dtype, np.integer) else float)
    return jax.tree.map(whole, part)
