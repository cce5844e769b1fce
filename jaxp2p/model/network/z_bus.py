"""The fixed point of the currents of a feeder, `u = v0 + Z i(u)`: how it is found, and its derivatives.

`power_flow.py` has the formulas and what the voltages mean. All values here are scaled (`tree.py`) and laid
out as the impedance has them (`impedance.py`): in blocks, with the flows last.
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
from jaxp2p.model.network.batching import flows_together
from jaxp2p.model.network.droop import Droop
from jaxp2p.model.network.law import VoltageDependent
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


class Loads(NamedTuple):
    """What is injected at 1 p.u., and its parts that go with |v| and with |v|^2; as the solver has them."""

    active: Values
    reactive: Values
    parts: VoltageDependent | None
    shunt: tuple[Values, Values] | None
    scale: Values | None  # k, where the voltage itself is asked
    droop: Droop | None = None
    patience: Values | None = None  # share of the way that the q of a droop goes, as `per_flow`


class _Seen(NamedTuple):
    """Currents, and the voltages that they make: u = v0 + Z i."""

    current: tuple[Values, Values]
    support: Values | None  # kvar that a droop adds to what is injected
    voltage: tuple[Values, Values]
    wanted: tuple[Values, Values]  # i(u)
    answer: Values | None  # what the droop would be at these voltages


class _Search(NamedTuple):
    """Of the iteration."""

    seen: _Seen
    residual: Values  # per flow
    best: Values  # the least residual that was `BETTER` than the best before
    waited: Values  # iterations since
    step: Values  # share of the way that the currents go, 0 when the flow is done
    count: Values  # iterations that the flow took
    iteration: Values  # of all


def loads_of(
    tree: Tree,
    active: Values,
    reactive: Values,
    dependent: VoltageDependent | None,
    droop: Droop | None = None,
) -> Loads:
    """Injections (..., B) kW and kvar as the solver has them."""
    inside = tree.impedance.inside
    like = lambda x: inside(_as_wide(x, active))
    return Loads(
        inside(active),
        inside(reactive),
        None if dependent is None else VoltageDependent(*map(like, dependent)),
        (like(tree.shunt[0]), like(tree.shunt[1])) if tree.shunted else None,
        None if dependent is None and droop is None else like(tree.scale),
        None if droop is None else droop._replace(most=like(droop.most)),
        None if droop is None else _patience(tree, droop, active),
    )


def _patience(tree: Tree, droop: Droop, active: Values) -> Values:
    """2 / (2 + rho) of every flow, rho the row sum norm of X dq/dv.

    An iteration that goes that share of the way from q to f(v(q)) leaves at most rho / (2 + rho) of the
    distance: the eigenvalues of X dq/dv lie between -rho and 0.
    """
    impedance, xp = tree.impedance, namespace(droop.most, active)
    slope = _as_wide(droop.steepest, active)
    falls = -impedance.inside(slope * _as_wide(tree.scale, active))
    rises = impedance.rise(xp.zeros_like(falls), falls)[0]
    rho = xp.max(xp.abs(impedance.outside(rises, active.shape[:-1])), axis=-1)
    return impedance.per_flow(2 / (2 + rho), active.shape[:-1])


def support_at(loads: Loads, real: Values, imag: Values) -> Values | None:
    """kvar that the droop gives at these scaled voltages; None without one."""
    if loads.droop is None:
        return None
    volts = present(loads.scale) * namespace(real).sqrt(real**2 + imag**2)
    return loads.droop.most * loads.droop.share(volts)


def _as_wide(values: Values, like: Values) -> Values:
    return namespace(values, like).broadcast_to(values, like.shape)


def _power(loads: Loads, real: Values, imag: Values, support: Values | None) -> tuple[Values, Values]:
    """What is injected at these scaled voltages, without the shunts."""
    reactive = loads.reactive if support is None else loads.reactive + support
    if loads.parts is None:
        return loads.active, reactive
    xp, part = namespace(real), loads.parts
    volts = present(loads.scale) * xp.sqrt(real**2 + imag**2)
    line, square = volts - 1, volts**2 - 1
    return (
        loads.active + part.current_active * line + part.impedance_active * square,
        reactive + part.current_reactive * line + part.impedance_reactive * square,
    )


def currents(
    loads: Loads, least: Values, real: Values, imag: Values, support: Values | None = None
) -> tuple[Values, Values]:
    """i(u); `least`: smallest squared voltage that currents are computed with; support: of a droop."""
    p, q = _power(loads, real, imag, support)
    over = 1 / namespace(real, least).maximum(real**2 + imag**2, least)
    i, j = (p * real + q * imag) * over, (p * imag - q * real) * over
    if loads.shunt is None:
        return i, j
    g, b = loads.shunt
    return i - (g * real - b * imag), j - (g * imag + b * real)


def _voltages(tree: Tree, slack: Values, current: tuple[Values, Values]) -> tuple[Values, Values]:
    real, imag = tree.impedance.rise(*current)
    return slack + real, imag


def search(
    tree: Tree,
    loads: Loads,
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
    accurate = 4e-7 if kind == np.float32 else 1e-11
    # what moves no voltage further, or what rounding leaves
    rounding = 4 * exact * total(size(loads.active, loads.reactive))
    buses = float(tree.scale.shape[0])
    enough = xp.maximum(rounding, tolerance if tolerance is not None else accurate / _above_0(tree.reach))

    def at(current: tuple[Values, Values], support: Values | None) -> tuple[_Seen, Values]:
        voltage = _voltages(tree, slack, current)
        (a, b) = voltage
        wanted = currents(loads, least, a, b, support)
        i, j = wanted[0] - current[0], wanted[1] - current[1]
        squares, answer = total((a**2 + b**2) * (i**2 + j**2)), support_at(loads, *voltage)
        if support is not None:
            squares = squares + total((answer - support) ** 2)
        seen = _Seen(current, support, voltage, wanted, answer)
        return seen, xp.sqrt(xp.minimum(buses * squares, np.finfo(kind).max))

    def going(now: _Search) -> Values:
        return (now.step > 0).any() & (now.iteration < max_iter)

    def body(now: _Search) -> _Search:
        (current, support, (real, imag), wanted, answer), step = now.seen, now.step
        if support is not None:
            support = support + xp.where(step > 0, present(loads.patience), 0) * (answer - support)
            wanted = currents(loads, least, real, imag, support)
        seen, residual = at(
            (current[0] + step * (wanted[0] - current[0]), current[1] + step * (wanted[1] - current[1])),
            support,
        )
        better = residual < BETTER * now.best
        waited = xp.where(better, 0, now.waited + 1)
        stuck = waited >= PATIENCE
        gone = xp.where(stuck, step / 2, step)
        gone = xp.where((residual <= enough) | (gone < LEAST_STEP), xp.zeros_like(step), gone)
        return _Search(
            seen,
            residual,
            xp.where(better, residual, now.best),
            xp.where(stuck, 0, waited),
            gone,
            now.count + (step > 0).astype(np.int32),
            now.iteration + 1,
        )

    support = support_at(loads, *volts)
    seen, residual = at(currents(loads, least, volts[0], volts[1], support), support)
    none = xp.zeros_like(residual, dtype=np.int32)
    begun = _Search(
        seen,
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
    return done.seen.voltage, (done.residual, done.count, status.astype(np.int32))


def size(real: Values, imag: Values) -> Values:
    """Of complex numbers."""
    return root(real**2 + imag**2)


def root(square: Values) -> Values:
    """Of numbers of at least 0, with a derivative (0) where they are 0."""
    xp, some = namespace(square), square > 0
    return xp.where(some, xp.sqrt(xp.where(some, square, 1)), 0)


def while_on_host(going: Callable, body: Callable, state: Any) -> Any:
    """`jax.lax.while_loop` for NumPy."""
    while going(state):
        state = body(state)
    return state


def _above_0(value: Values) -> Values:
    xp = namespace(value)
    return xp.maximum(value, np.finfo(value.dtype).tiny)


def implicit(
    tree: Tree,
    loads: Loads,
    slack: Array,
    begin: tuple[Array, Array] | None,
    tolerance: float | None,
    max_iter: int,
) -> tuple[tuple[Array, Array], tuple[Array, Array, Array]]:
    """`_search`, differentiable: at the solution u = v0 + Z i(u), whatever led to it."""
    begun = None if begin is None else jax.lax.stop_gradient(tuple(map(tree.impedance.inside, begin)))
    least = (LEAST_VOLTAGE * slack) ** 2

    def apart(voltage):
        support = support_at(loads, *voltage)
        again = _voltages(tree, slack, currents(loads, least, voltage[0], voltage[1], support))
        return again[0] - voltage[0], again[1] - voltage[1]

    def alone(tree, slack, values):
        loads, begun = values
        return search(tree, loads, slack, begun, tolerance, max_iter, jax.lax.while_loop)

    def solve(_, __):
        found, info = flows_together(alone)(tree, slack, (loads, begun))
        return found, tuple(x.astype(slack.dtype) for x in info)  # derivatives of integers are not taken

    def tangent(linear, wanted):
        share = None if loads.patience is None else jax.lax.stop_gradient(loads.patience)
        richardson = lambda product, right: _richardson(product, right, max_iter, share)
        return jax.lax.custom_linear_solve(linear, wanted, richardson, richardson)

    zeros = (jnp.zeros_like(loads.active), jnp.zeros_like(loads.active))
    voltage, (residual, *counts) = jax.lax.custom_root(apart, zeros, solve, tangent, has_aux=True)
    return voltage, (residual, *(x.astype(jnp.int32) for x in counts))


def _richardson(
    product: Callable, right: tuple[Array, Array], max_iter: int, share: Array | None
) -> tuple[Array, Array]:
    """x with product(x) = J x - x = right, J of a spectral radius below 1, by x <- x + product(x) - right.

    share: of that step to go, where the eigenvalues of J may be below -1 (`Loads.patience`).
    """
    largest = lambda pair: jnp.maximum(jnp.max(jnp.abs(pair[0])), jnp.max(jnp.abs(pair[1])))
    enough = 4 * jnp.finfo(right[0].dtype).eps * largest(right)

    def body(state):
        x, off, count = state
        x = tuple(a + (b if share is None else share * b) for a, b in zip(x, off, strict=True))
        back = product(x)
        return x, (back[0] - right[0], back[1] - right[1]), count + 1

    going = lambda state: (largest(state[1]) > enough) & (state[2] < max_iter)
    zeros = jax.tree.map(jnp.zeros_like, right)
    first = zeros, jax.tree.map(jnp.negative, right), jnp.zeros((), jnp.int32)
    return jax.lax.while_loop(going, body, first)[0]
