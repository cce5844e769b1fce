"""The network rows of a slot: what a dispatch does to them, and what their prices do to the homes."""

import jax.numpy as jnp
from jax import Array

from jaxp2p.slot.problem import SlotProblem
from jaxp2p.slot.prox.response import row_sum


def row_values(problem: SlotProblem, injection: Array) -> Array:
    """Row values (R,) in kW when the homes inject (N,) kW."""
    return values_at(problem, problem.feeder.bus_sum(injection))


def values_at(problem: SlotProblem, at_bus: Array) -> Array:
    """Row values (R,) in kW when the flexible homes of every controllable bus inject (G,) kW together."""
    return problem.feeder.values(at_bus, problem.row_offset)


def excess_of(problem: SlotProblem, value: Array) -> Array:
    """How far row values (R,) are outside their limits, kW."""
    return jnp.maximum(jnp.maximum(value - problem.row_upper, problem.row_lower - value), 0)


def row_excess(problem: SlotProblem, injection: Array) -> Array:
    """How far every row (R,) of a dispatch is outside its limits, kW."""
    return excess_of(problem, row_values(problem, injection))


def row_tolerance(problem: SlotProblem, *, flow: float | Array, voltage: float | Array) -> Array:
    """(R,) kW: what kW on a branch and p.u. on a voltage are in every row."""
    return problem.feeder.tolerance(problem.row_offset.dtype, flow=flow, voltage=voltage)


def bus_surcharge(problem: SlotProblem, at_bus: Array) -> Array:
    """What stands at their bus (G,), for every home (N,)."""
    return problem.feeder.at_homes(at_bus, problem.load.shape[0])


def nodal_surcharge(problem: SlotProblem, row_price: Array) -> Array:
    """What the network takes off the market price at every home (N,): sum_r A_rn y_r, EUR/kWh."""
    return bus_surcharge(problem, problem.feeder.bus_price(row_price))


def unavoidable(problem: SlotProblem) -> Array:
    """(R,) the penalty, with its sign, of rows that no dispatch of the devices keeps; 0 for all others.

    All entries of the rows are non-negative, so a row is least where every device injects least. A row that
    is beyond its limit even then is linear in everything that can happen: its price is known beforehand.
    """
    least = problem.base
    most = least + row_sum(problem.pieces().gain)
    at_bus = problem.feeder.bus_sum(jnp.stack([least, most]))
    lowest, highest = (values_at(problem, at) for at in at_bus)
    price = jnp.where(lowest > problem.row_upper, problem.row_penalty, 0)
    return jnp.where(highest < problem.row_lower, -problem.row_penalty, price)


def with_unavoidable(problem: SlotProblem, row_price: Array) -> Array:
    """Row prices (R,) to start from: where no dispatch keeps a row, what is known of it."""
    known = unavoidable(problem)
    return jnp.where(known != 0, known, row_price)
