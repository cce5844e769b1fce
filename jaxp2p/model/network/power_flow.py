"""AC power flow of a radial feeder: voltages, flows, losses and loading of given injections.

With Z the impedance of the tree and u the scaled voltages (`tree.py`), the flow is the fixed point of

    u = v0 + Z i(u),    i(u) = conj(s(|v|) / u) - y u,    s(|v|) = s + s_I (|v| - 1) + s_Z (|v|^2 - 1),

found by iterating it from the currents of the flat start or of an earlier flow (the Z-bus method; Chen et
al., Distribution system power flow analysis, a rigid approach, IEEE Transactions on Power Delivery 6, 1991).
For one load it converges up to the nose of its curve, at the rate |Z s| / |u|^2. Where it does not (feeding
and loading buses of unlike cos phi), currents that move half-way do, as long as the Jacobian is regular.
"""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxp2p._pytree import present
from jaxp2p.model.devices.arrays import Values, namespace
from jaxp2p.model.network.law import Network, VoltageDependent
from jaxp2p.model.network.tree import Tree

MOST = 300  # iterations: what is not done then is called not finished
LEAST_VOLTAGE = 0.1  # of the slack's: below, currents grow no more, so that numbers stay finite
PATIENCE = 8  # iterations without a residual that is `BETTER`, after which the currents move half-way
BETTER = 0.98
LEAST_STEP = 0.4  # of the currents; a flow that even half steps do not improve has no solution


class FlowStatus(enum.IntEnum):
    """What became of a power flow."""

    SOLVED = 0
    NO_SOLUTION = 1  # the residual does not fall any more: beyond the nose of the curve
    NOT_FINISHED = 2  # it still falls, but the iterations are used up


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
    residual: Values  # (...,) kVA, the sum over the buses of what injections and voltages disagree by
    iterations: Values  # (...,) int32
    status: Values  # (...,) int32, a FlowStatus

    @property
    def voltage(self) -> Values:
        """(..., B) p.u., its size."""
        return namespace(self.real).hypot(self.real, self.imag)

    @property
    def angle(self) -> Values:
        """(..., B) rad."""
        return namespace(self.real).arctan2(self.imag, self.real)


class _Loads(NamedTuple):
    """What is injected at 1 p.u., and its parts that go with |v| and with |v|^2; as the solver has them."""

    active: Values
    reactive: Values
    parts: VoltageDependent | None
    shunt: tuple[Values, Values] | None
    scale: Values | None  # k, where the voltage itself is asked


class _Search(NamedTuple):
    """Of the iteration; u = v0 + Z i holds for the two of them at any time."""

    current: tuple[Values, Values]
    voltage: tuple[Values, Values]
    wanted: tuple[Values, Values]  # i(u)
    residual: Values  # per flow
    best: Values  # the least residual that was `BETTER` than the best before
    waited: Values  # iterations since
    step: Values  # share of the way that the currents go, 0 when the flow is done
    count: Values  # iterations that the flow took
    iteration: Values  # of all


def power_flow(
    network: Network,
    active: Values,
    reactive: Values,
    *,
    dependent: VoltageDependent | None = None,
    start: Flow | None = None,
    tolerance: float | None = None,
    max_iter: int = MOST,
) -> Flow:
    """The AC power flow of injections (..., B) kW and kvar; loads count below zero.

    dependent: parts of the injections that go with the voltage. start: an earlier flow of the same shape,
    whose voltages are begun with. tolerance: of the residual in kVA; by default what moves no voltage by more
    than 2e-7 p.u. in float32 and 1e-11 in float64, or what rounding leaves of the injections where that is
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
    loads = _loads(tree, active, reactive, dependent)
    slack = network.slack_voltage
    begin = None if start is None else (start.real / tree.scale, start.imag / tree.scale)
    if namespace(active, slack) is np:
        begun = None if begin is None else tuple(tree.impedance.inside(x) for x in begin)
        voltage, info = _search(tree, loads, slack, begun, tolerance, max_iter, _while)
    else:
        voltage, info = _implicit(tree, loads, slack, begin, tolerance, max_iter)
    at_slack = _at_slack(active, reactive, dependent, slack)
    return _flow(network, loads, at_slack, voltage, info, shape)


def power_flows(
    network: Network, active: Array, reactive: Array, *, at_a_time: int = 512, **options: Any
) -> Flow:
    """The flows of very many injections (S, B), `at_a_time` of them together, so that they stay in a cache.

    options: of `power_flow`, but for `start`, with arrays (S, B) of the parts that go with the voltage.
    """
    count = active.shape[0]
    width = min(at_a_time, max(count, 1))
    dependent = options.pop("dependent", None)
    split = lambda x: jnp.pad(x, ((0, -count % width), (0, 0))).reshape(-1, width, x.shape[-1])
    parts = jax.tree.map(split, (active, reactive, dependent))
    one = lambda part: power_flow(network, part[0], part[1], dependent=part[2], **options)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], jax.lax.map(one, parts))


def sensitivities(
    rows: Callable[[Flow], Array], network: Network, active: Array, reactive: Array, **options: Any
) -> tuple[Array, Array, Array]:
    """Some figures of a flow and their derivatives, by one adjoint solve for each of them.

    rows(flow) gives the figures (R,): voltages, loadings, losses. Of one flow, injections (B,); the results
    are the figures (R,), and (R, B) by kW and by kvar injected at every bus. options: of `power_flow`, such
    as the flow itself as `start`.
    """
    values, pull = jax.vjp(lambda p, q: rows(power_flow(network, p, q, **options)), active, reactive)
    by_active, by_reactive = jax.vmap(pull)(jnp.eye(values.shape[0], dtype=values.dtype))
    return values, by_active, by_reactive


def _loads(tree: Tree, active: Values, reactive: Values, dependent: VoltageDependent | None) -> _Loads:
    inside = tree.impedance.inside
    like = lambda x: inside(_as_wide(x, active))
    return _Loads(
        inside(active),
        inside(reactive),
        None if dependent is None else VoltageDependent(*map(like, dependent)),
        (like(tree.shunt[0]), like(tree.shunt[1])) if tree.shunted else None,
        None if dependent is None else like(tree.scale),
    )


def _as_wide(values: Values, like: Values) -> Values:
    return namespace(values, like).broadcast_to(values, like.shape)


def _power(loads: _Loads, real: Values, imag: Values) -> tuple[Values, Values]:
    """What is injected at these scaled voltages, without the shunts."""
    if loads.parts is None:
        return loads.active, loads.reactive
    xp, part = namespace(real), loads.parts
    volts = present(loads.scale) * xp.sqrt(real**2 + imag**2)
    line, square = volts - 1, volts**2 - 1
    return (
        loads.active + part.current_active * line + part.impedance_active * square,
        loads.reactive + part.current_reactive * line + part.impedance_reactive * square,
    )


def _currents(loads: _Loads, least: Values, real: Values, imag: Values) -> tuple[Values, Values]:
    """i(u); `least`: smallest squared voltage that currents are computed with."""
    p, q = _power(loads, real, imag)
    over = 1 / namespace(real, least).maximum(real**2 + imag**2, least)
    i, j = (p * real + q * imag) * over, (p * imag - q * real) * over
    if loads.shunt is None:
        return i, j
    g, b = loads.shunt
    return i - (g * real - b * imag), j - (g * imag + b * real)


def _voltages(tree: Tree, slack: Values, current: tuple[Values, Values]) -> tuple[Values, Values]:
    real, imag = tree.impedance.rise(*current)
    return slack + real, imag


def _search(
    tree: Tree,
    loads: _Loads,
    slack: Values,
    begin: tuple[Values, ...] | None,
    tolerance: float | None,
    max_iter: int,
    drive: Callable,
) -> tuple[tuple[Values, Values], tuple[Values, Values, Values]]:
    """Scaled voltages, and residual, iterations and status, all as the solver has them."""
    xp, kind = namespace(loads.active, slack), loads.active.dtype
    total, least = tree.impedance.total, (LEAST_VOLTAGE * slack) ** 2
    volts = (xp.full_like(loads.active, 1) * slack, xp.zeros_like(loads.active)) if begin is None else begin

    exact = np.finfo(kind).eps
    accurate = 2e-7 if kind == np.float32 else 1e-11
    # what moves no voltage further, or what rounding leaves
    rounding = 4 * exact * total(_size(loads.active, loads.reactive))
    enough = xp.maximum(rounding, tolerance if tolerance is not None else accurate / _above_0(tree.reach))

    def at(current: tuple[Values, Values]) -> tuple:
        voltage = _voltages(tree, slack, current)
        wanted = _currents(loads, least, *voltage)
        apart = _size(wanted[0] - current[0], wanted[1] - current[1])
        return voltage, wanted, total(_size(*voltage) * apart)

    def going(search: _Search) -> Values:
        return (search.step > 0).any() & (search.iteration < max_iter)

    def body(search: _Search) -> _Search:
        step = search.step
        moved = tuple(i + step * (w - i) for i, w in zip(search.current, search.wanted, strict=True))
        voltage, wanted, residual = at(moved)
        better = residual < BETTER * search.best
        waited = xp.where(better, 0, search.waited + 1)
        stuck = waited >= PATIENCE
        gone = xp.where(stuck, step / 2, step)
        gone = xp.where((residual <= enough) | (gone < LEAST_STEP), xp.zeros_like(step), gone)
        return _Search(
            moved,
            voltage,
            wanted,
            residual,
            xp.where(better, residual, search.best),
            xp.where(stuck, 0, waited),
            gone,
            search.count + (step > 0).astype(np.int32),
            search.iteration + 1,
        )

    current = _currents(loads, least, *volts)
    voltage, wanted, residual = at(current)
    none = xp.zeros(residual.shape, np.int32)
    begun = _Search(
        current,
        voltage,
        wanted,
        residual,
        residual,
        none,
        xp.where(residual <= enough, xp.zeros_like(residual), xp.ones_like(residual)),
        none + 1,
        xp.zeros((), np.int32) + 1,
    )
    done = drive(going, body, begun)
    status = xp.where(
        done.residual <= enough,
        int(FlowStatus.SOLVED),
        xp.where(done.step > 0, int(FlowStatus.NOT_FINISHED), int(FlowStatus.NO_SOLUTION)),
    )
    return done.voltage, (done.residual, done.count, status.astype(np.int32))


def _size(real: Values, imag: Values) -> Values:
    """Of complex numbers, with a derivative (0) where they are 0."""
    square, xp = real**2 + imag**2, namespace(real)
    some = square > 0
    return xp.where(some, xp.sqrt(xp.where(some, square, 1)), 0)


def _while(going: Callable, body: Callable, state: Any) -> Any:
    while going(state):
        state = body(state)
    return state


def _above_0(value: Values) -> Values:
    xp = namespace(value)
    return xp.maximum(value, np.finfo(value.dtype).tiny)


def _implicit(
    tree: Tree,
    loads: _Loads,
    slack: Array,
    begin: tuple[Array, Array] | None,
    tolerance: float | None,
    max_iter: int,
) -> tuple[tuple[Array, Array], tuple[Array, Array, Array]]:
    """`_search`, differentiable: at the solution u = v0 + Z i(u), whatever led to it."""
    begun = None if begin is None else jax.lax.stop_gradient(tuple(map(tree.impedance.inside, begin)))
    least = (LEAST_VOLTAGE * slack) ** 2

    def apart(voltage):
        again = _voltages(tree, slack, _currents(loads, least, *voltage))
        return again[0] - voltage[0], again[1] - voltage[1]

    def solve(_, __):
        found, info = _search(tree, loads, slack, begun, tolerance, max_iter, jax.lax.while_loop)
        return found, tuple(x.astype(slack.dtype) for x in info)  # derivatives of integers are not taken

    def tangent(linear, wanted):
        richardson = lambda product, right: _richardson(product, right, max_iter)
        return jax.lax.custom_linear_solve(linear, wanted, richardson, richardson)

    zeros = (jnp.zeros_like(loads.active), jnp.zeros_like(loads.active))
    voltage, (residual, *counts) = jax.lax.custom_root(apart, zeros, solve, tangent, has_aux=True)
    return voltage, (residual, *(x.astype(jnp.int32) for x in counts))


def _richardson(product: Callable, right: tuple[Array, Array], max_iter: int) -> tuple[Array, Array]:
    """x with product(x) = J x - x = right, J of a spectral radius below 1, by x <- x + product(x) - right."""
    largest = lambda pair: jnp.maximum(jnp.max(jnp.abs(pair[0])), jnp.max(jnp.abs(pair[1])))
    enough = 4 * jnp.finfo(right[0].dtype).eps * largest(right)

    def body(state):
        x, off, count = state
        x = (x[0] + off[0], x[1] + off[1])
        back = product(x)
        return x, (back[0] - right[0], back[1] - right[1]), count + 1

    going = lambda state: (largest(state[1]) > enough) & (state[2] < max_iter)
    zeros = jax.tree.map(jnp.zeros_like, right)
    first = zeros, jax.tree.map(jnp.negative, right), jnp.zeros((), jnp.int32)
    return jax.lax.while_loop(going, body, first)[0]


def _flow(
    network: Network,
    loads: _Loads,
    at_slack: tuple[Values, Values],
    voltage: tuple[Values, Values],
    info: tuple[Values, Values, Values],
    shape: tuple[int, ...],
) -> Flow:
    """What the scaled voltages mean."""
    tree = present(network.tree)
    slack, xp = network.slack_voltage, namespace(*voltage, network.slack_voltage)
    outside = lambda x: tree.impedance.outside(x, shape)
    current = _currents(loads, (LEAST_VOLTAGE * slack) ** 2, *voltage)
    through, across = (tree.impedance.through(x, shape) for x in current)
    # from the currents themselves: the slack, which may have no place in the solver, rises by nothing
    real, imag = (outside(x) for x in (voltage[0] - slack, voltage[1]))
    real = real + slack
    wide = lambda x: x.reshape((1,) * len(shape) + x.shape)
    half = [wide(x / 2) for x in tree.charging]

    def end(bus: Values, sign: int) -> tuple[Values, Values, Values]:
        """kW, kvar and current, of what enters with the shunt (sign 1), of what leaves without it (-1)."""
        a, b = real[..., bus], imag[..., bus]
        i, j = through, across
        if tree.shunted:
            i, j = i + sign * (half[0] * a - half[1] * b), j + sign * (half[0] * b + half[1] * a)
        return a * i + b * j, b * i - a * j, _size(i, j)

    far, near = end(tree.far, 1), end(tree.near, -1)
    power = xp.maximum(*(_size(p, q) for p, q, _ in (far, near)))
    amps = xp.maximum(far[2], near[2]) / wide(tree.scale[tree.far])
    lines = wide(tree.by_current)
    losses = (wide(tree.resistance) * (through**2 + across**2)).sum(-1)
    if tree.shunted:
        squares = real**2 + imag**2
        losses = losses + (half[0] * (squares[..., tree.far] + squares[..., tree.near])).sum(-1)
    return Flow(
        real * wide(tree.scale),
        imag * wide(tree.scale),
        far[0],
        far[1],
        near[0],
        near[1],
        (lines * amps + (1 - lines) * power) / wide(network.rating),
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
