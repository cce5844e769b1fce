"""The network rows of a slot: what a dispatch does to them, and what their prices do to the homes."""

import jax.numpy as jnp
from jax import Array
from jax.lax import Precision

from jaxp2p._pytree import present
from jaxp2p.slot.problem import SlotProblem
from jaxp2p.slot.prox.feeder import at_homes, bus_sum


def row_values(problem: SlotProblem, injection: Array) -> Array:
    """Row values (R,) in kW when the homes inject (N,) kW."""
    return values_at(problem, bus_sum(present(problem.feeder), injection))


def values_at(problem: SlotProblem, at_bus: Array) -> Array:
    """Row values (R,) in kW when the flexible homes of every controllable bus inject (G,) kW together."""
    return (
        jnp.matmul(present(problem.feeder).matrix, at_bus, precision=Precision.HIGHEST) + problem.row_offset
    )


def excess_of(problem: SlotProblem, value: Array) -> Array:
    """How far row values (R,) are outside their limits, kW."""
    return jnp.maximum(jnp.maximum(value - problem.row_upper, problem.row_lower - value), 0)


def row_excess(problem: SlotProblem, injection: Array) -> Array:
    """How far every row (R,) of a dispatch is outside its limits, kW."""
    if problem.feeder is None:
        return jnp.zeros_like(problem.row_offset)
    return excess_of(problem, row_values(problem, injection))


def row_tolerance(problem: SlotProblem, *, flow: float | Array, voltage: float | Array) -> Array:
    """(R,) kW: what kW on a branch and p.u. on a voltage (about 1, so 2 of them squared) are in every row."""
    if problem.feeder is None:
        return jnp.ones_like(problem.row_offset)
    volts, flows = problem.feeder.voltage_bus.shape, problem.feeder.flow_branch.shape
    kind = problem.row_offset.dtype
    physical = jnp.concatenate([jnp.full(volts, 2 * voltage, kind), jnp.full(flows, flow, kind)])
    return physical / problem.feeder.scale


def bus_price(problem: SlotProblem, row_price: Array) -> Array:
    """What row prices (R,) take off the market price at every controllable bus (G,), EUR/kWh."""
    return jnp.matmul(row_price, present(problem.feeder).matrix, precision=Precision.HIGHEST)


def nodal_surcharge(problem: SlotProblem, row_price: Array) -> Array:
    """What the network takes off the market price at every home (N,): sum_r A_rn y_r, EUR/kWh."""
    if problem.feeder is None:
        return jnp.zeros_like(problem.load)
    return at_homes(problem.feeder, bus_price(problem, row_price))


def unavoidable(problem: SlotProblem) -> Array:
    """(R,) the penalty, with its sign, of rows that no dispatch of the devices keeps; 0 for all others.

    All entries of the rows are non-negative, so a row is least where every device injects least. A row that
    is beyond its limit even then is linear in everything that can happen: its price is known beforehand.
    """
    least = problem.base
    most = least + jnp.sum(problem.pieces().gain, axis=0)
    lowest, highest = row_values(problem, least), row_values(problem, most)
    price = jnp.where(lowest > problem.row_upper, problem.row_penalty, 0)
    return jnp.where(highest < problem.row_lower, -problem.row_penalty, price)
