"""AC power flow of a radial feeder: voltages, flows, losses and loading of given injections.

With Z the impedance of the tree and u the scaled voltages (`tree.py`), the flow is the fixed point of

    u = v0 + Z i(u),    i(u) = conj(s(|v|) / u) - y u,    s(|v|) = s + s_I (|v| - 1) + s_Z (|v|^2 - 1),

found by iterating it from the currents of the flat start or of an earlier flow (the Z-bus method; Chen et
al., Distribution system power flow analysis, a rigid approach, IEEE Transactions on Power Delivery 6, 1991).
For one load it converges up to the nose of its curve, at the rate |Z s| / |u|^2. Where it does not (feeding
and loading buses of unlike cos phi), currents that move half-way do, as long as the Jacobian is regular.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxp2p._pytree import present
from jaxp2p.model.devices.arrays import Values, namespace
from jaxp2p.model.network.droop import Droop
from jaxp2p.model.network.law import Base, Network, VoltageDependent
from jaxp2p.model.network.tree import Tree
from jaxp2p.model.network.z_bus import (
    LEAST_VOLTAGE,
    MOST,
    Loads,
    currents,
    implicit,
    loads_of,
    root,
    search,
    support_at,
    while_on_host,
)

IN_CACHE = 16_384  # numbers of one array of many flows
ON_DEVICE = 2**22  # the same for an accelerator: a kernel of so many takes longer than its launch


class Flow(NamedTuple):
    """The feeder in AC. What is at a branch has the sign of `Base`: positive towards the slack.

    Where the status is not SOLVED, the numbers are those of the last iterate: finite, and no solution.
    """

    real: Values  # (..., B) p.u., real part of the voltage; the slack's has the angle 0
    imag: Values  # (..., B) p.u., imaginary part
    far_active: Values  # (..., L) kW that enter a branch at its end away from the slack
    far_reactive: Values  # (..., L) kvar
    near_active: Values  # (..., L) kW that leave it at its end towards the slack
    near_reactive: Values  # (..., L) kvar
    loading: Values  # (..., L) share of the rating, 0 where unrated, see `power_flow`
    losses: Values  # (...,) kW in all branches: series resistance, iron of transformers, charging
    import_active: Values  # (...,) kW from the grid above into the slack bus
    import_reactive: Values  # (...,) kvar
    residual: Values  # (...,) kVA that injections and voltages disagree by, sqrt(B) |ds|, at least sum |ds_n|
    iterations: Values  # (...,) int32
    status: Values  # (...,) int32, a FlowStatus
    support: Values | None = None  # (..., B) kvar that inverters give; None: without such

    @property
    def voltage(self) -> Values:
        """(..., B) p.u., its size."""
        return namespace(self.real).hypot(self.real, self.imag)

    @property
    def angle(self) -> Values:
        """(..., B) rad."""
        return namespace(self.real).arctan2(self.imag, self.real)


def power_flow(
    network: Network,
    active: Values,
    reactive: Values,
    *,
    dependent: VoltageDependent | None = None,
    droop: Droop | None = None,
    start: Flow | None = None,
    tolerance: float | None = None,
    max_iter: int = MOST,
) -> Flow:
    """The AC power flow of injections (..., B) kW and kvar; loads count below zero.

    dependent: parts of the injections that go with the voltage. droop: what inverters add to them, in answer
    to the voltage. start: an earlier flow of the same shape,
    whose voltages are begun with. tolerance: of the residual in kVA; by default what moves no voltage by more
    than 4e-7 p.u. in float32 and 1e-11 in float64, or what rounding leaves of the injections where that is
    more.

    Loading is that of the worse end: of a line by current, over the current s_max_kva / (sqrt(3) vn_kv); of a
    transformer by apparent power, over s_max_kva.

    JAX arrays under jit, vmap, scan and while_loop, in the dtype of the injections; there the flow is
    differentiable by the implicit function theorem, forwards and backwards, by the leaves of the network too.
    NumPy arrays with a network `on_host` are taken too. All flows of a call are iterated together until the
    last one is done; each stands still when it is done itself.
    """
    tree = present(network.tree)
    shape = active.shape[:-1]
    loads = loads_of(tree, active, reactive, dependent, droop)
    slack = network.slack_voltage
    begin = None if start is None else (start.real / tree.scale, start.imag / tree.scale)
    if namespace(active, slack) is np:
        begun = None if begin is None else tuple(tree.impedance.inside(x) for x in begin)
        voltage, info = search(tree, loads, slack, begun, tolerance, max_iter, while_on_host)
    else:
        voltage, info = implicit(tree, loads, slack, begin, tolerance, max_iter)
    at_slack = _at_slack(active, reactive, dependent, slack)
    flow = _flow(network, loads, at_slack, voltage, info, shape)
    if droop is None:
        return flow
    # at the slack, which may have no place in the solver, from its own voltage
    at_slack_bus = droop.most[..., :1] * droop.share(slack)
    behind = tree.impedance.outside(present(support_at(loads, *voltage)), shape)[..., 1:]
    support = namespace(behind, slack).concatenate([at_slack_bus, behind], -1)
    return flow._replace(support=support, import_reactive=flow.import_reactive - at_slack_bus[..., 0])


def power_flows(
    network: Network,
    active: Values,
    reactive: Values,
    *,
    dependent: VoltageDependent | None = None,
    droop: Droop | None = None,
    at_a_time: int | None = None,
    **options: Any,
) -> Flow:
    """The flows of very many injections (..., B), `at_a_time` of them together, so that they stay in a cache.

    at_a_time: by default 256, and fewer from 64 buses on; on an accelerator as many as keep it busy. options:
    of `power_flow`, but for `start`.
    """
    shape, buses = active.shape[:-1], active.shape[-1]
    most = None if droop is None else droop.most
    flat = jax.tree.map(lambda x: x.reshape(-1, buses), (active, reactive, dependent, most))
    count = flat[0].shape[0]
    on_host = namespace(active, network.slack_voltage) is np
    width = at_a_time or _together(buses, on_host=on_host)

    def one(part: tuple) -> Flow:
        own = None if droop is None else droop._replace(most=part[3])
        return power_flow(network, part[0], part[1], dependent=part[2], droop=own, **options)

    if count <= width:
        flows = one(flat)
    elif on_host:
        blocks = [slice(begin, begin + width) for begin in range(0, count, width)]
        parts = [one(jax.tree.map(lambda x, block=block: x[block], flat)) for block in blocks]
        flows = jax.tree.map(lambda *rows: np.concatenate(rows), *parts)
    else:
        split = lambda x: jnp.pad(x, ((0, -count % width), (0, 0))).reshape(-1, width, buses)
        found = jax.lax.map(one, jax.tree.map(split, flat))
        flows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], found)
    return jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), flows)


def _together(buses: int, *, on_host: bool) -> int:
    """Flows of a call that are worked out at a time."""
    if on_host or jax.default_backend() == "cpu":
        return max(64, min(256, IN_CACHE // buses))
    return max(1, ON_DEVICE // buses)


def flow_of(
    network: Network,
    base: Base,
    active: Values,
    support: Values | None = None,
    droop: Droop | None = None,
    *,
    start: Flow | None = None,
) -> Flow:
    """The AC power flow with (..., B) kW injected beside what `base` holds.

    support: (..., B) kvar that inverters give, whatever the voltage; droop: those that answer to it. start:
    an earlier flow, of one slot.
    """
    at_bus, reactive = present(base.active_bus) + active, present(base.reactive_bus)
    if support is not None:
        reactive = reactive + support
    options: dict[str, Any] = {"dependent": base.dependent, "droop": droop}
    if at_bus.ndim == 1:
        flow = power_flow(network, at_bus, reactive, start=start, **options)
    else:
        flow = power_flows(network, at_bus, reactive, **options)
    return flow if support is None else flow._replace(support=support)


def overload_of(network: Network, flow: Flow, reactive: Values) -> Values:
    """(..., L) kW of active flow beyond what the rating leaves beside reactive flows (..., L) kvar, in AC.

    As `Network.overload`, with the active flow that beside the reactive one makes the loading of `flow`.
    """
    xp = namespace(flow.loading)
    rated = xp.isfinite(network.rating)
    apparent = flow.loading * xp.where(rated, network.rating, 0)
    active = xp.sqrt(xp.maximum(apparent**2 - reactive**2, 0))
    return xp.where(rated, xp.maximum(active - network.room(reactive), 0), 0)


def _flow(
    network: Network,
    loads: Loads,
    at_slack: tuple[Values, Values],
    voltage: tuple[Values, Values],
    info: tuple[Values, Values, Values],
    shape: tuple[int, ...],
) -> Flow:
    """What the scaled voltages mean."""
    tree = present(network.tree)
    slack, xp = network.slack_voltage, namespace(*voltage, network.slack_voltage)
    outside = lambda x: tree.impedance.outside(x, shape)
    current = currents(loads, (LEAST_VOLTAGE * slack) ** 2, *voltage, support_at(loads, *voltage))
    through, across = (tree.impedance.through(x, shape) for x in current)
    # from the currents themselves: the slack, which may have no place in the solver, rises by nothing
    real, imag = (outside(x) for x in (voltage[0] - slack, voltage[1]))
    real = real + slack
    wide = lambda x: x.reshape((1,) * len(shape) + x.shape)
    half = [wide(x / 2) for x in tree.charging]

    volts = real[..., tree.far], imag[..., tree.far]
    dropped = [wide(x) for x in tree.series]
    behind = (
        volts[0] - dropped[0] * through + dropped[1] * across,
        volts[1] - dropped[0] * across - dropped[1] * through,
    )

    def end(volts: tuple[Values, Values], sign: int) -> tuple[Values, Values, Values]:
        """kW, kvar and squared current, of what enters with the shunt (1) or leaves without it (-1)."""
        (a, b), i, j = volts, through, across
        if tree.shunted:
            i, j = i + sign * (half[0] * a - half[1] * b), j + sign * (half[0] * b + half[1] * a)
        return a * i + b * j, b * i - a * j, i**2 + j**2

    far, near = end(volts, 1), end(behind, -1)
    power = xp.maximum(*(p**2 + q**2 for p, q, _ in (far, near)))
    amps = xp.maximum(far[2], near[2]) / wide(tree.scale[tree.far] ** 2)
    lines = wide(tree.by_current)
    loading = root(xp.where(lines > 0, amps, power)) / wide(network.rating)
    losses = (dropped[0] * (through**2 + across**2)).sum(-1)
    if tree.shunted:
        squares = [a**2 + b**2 for a, b in (volts, behind)]
        losses = losses + (half[0] * (squares[0] + squares[1])).sum(-1)
    return Flow(
        real * wide(tree.scale),
        imag * wide(tree.scale),
        far[0],
        far[1],
        near[0],
        near[1],
        loading,
        losses,
        *_import(tree, slack, at_slack, (through, across)),
        *(x.reshape(shape) for x in info),
    )


def _at_slack(
    active: Values, reactive: Values, dependent: VoltageDependent | None, slack: Values
) -> tuple[Values, Values]:
    """(...,) kW and kvar injected at the slack bus itself."""
    p, q = active[..., 0], reactive[..., 0]
    if dependent is None:
        return p, q
    i, j, a, b = (part[..., 0] for part in dependent)
    line, square = slack - 1, slack**2 - 1
    return p + i * line + a * square, q + j * line + b * square


def _import(
    tree: Tree, slack: Values, at_slack: tuple[Values, Values], through: tuple[Values, Values]
) -> tuple[Values, Values]:
    """(...,) kW and kvar from the grid above: what the head branches and all at the slack bus leave open."""
    xp = namespace(slack, *through)
    head = (tree.near == 0).astype(through[0].dtype)
    i, j = (xp.matmul(x, head) if xp is np else _headed(x, head) for x in through)
    g, b = tree.shunt[..., 0]
    return slack**2 * g - slack * i - at_slack[0], slack * j - slack**2 * b - at_slack[1]


def _headed(values: Array, head: Array) -> Array:
    return jnp.matmul(values, head, precision=jax.lax.Precision.HIGHEST)
