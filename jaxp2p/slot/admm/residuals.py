"""Residuals per family, each in its own unit: what penalties follow, and when a gap is worth working out."""

from functools import reduce
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxp2p.slot.admm.state import Settings, State
from jaxp2p.slot.problem import SlotProblem
from jaxp2p.slot.prox.prosumer import UNROLL_LIMIT, ProsumerUpdate
from jaxp2p.slot.prox.sensitivity import largest
from jaxp2p.slot.rows import row_excess, row_tolerance


class Residuals(NamedTuple):
    """Largest residuals per family (trades, injections), and all that count over their tolerance."""

    prim: Array  # (2,) kW
    dual: Array  # (2,) EUR/kWh
    prim_excess: Array  # (2,) residual / tolerance
    dual_excess: Array  # (2,)
    row_excess: Array  # () worst violation of a row that is not priced at the penalty, over its tolerance
    gap: Array  # () gap over what it may be when the iteration stops; inf where it was not worked out

    @property
    def small(self) -> Array:
        """() bool: every residual below its tolerance."""
        return jnp.maximum(jnp.max(self.prim_excess), jnp.max(self.dual_excess)) <= 1

    @property
    def converged(self) -> Array:
        """() bool: the gap and all violations are below their tolerances."""
        return (self.gap <= 1) & (self.row_excess <= 1)


def residuals(
    problem: SlotProblem, admm: Settings, old: State, new: State, update: ProsumerUpdate
) -> Residuals:
    """Residuals of the step from `old` to `new`; the gap is left open."""
    copied = lambda difference: _largest(problem.feeder.of_movers(difference))
    apart = [_largest(update.trades - new.trades), copied(update.injection - new.injection)]
    moves = [_largest(new.trades - old.trades), copied(new.injection - old.injection)]
    prim, dual = jnp.stack(apart), old.rho * jnp.stack(moves)
    power = jnp.stack([_largest(update.trades), _largest(update.injection)])
    spread = jnp.maximum(problem.price_buy - problem.price_sell, 0.01)
    over = row_excess(problem, update.injection)
    tolerance = row_tolerance(problem, flow=admm.eps_flow, voltage=admm.eps_voltage)
    paid = jnp.abs(new.row_price) >= problem.row_penalty
    return Residuals(
        prim=prim,
        dual=dual,
        prim_excess=prim / (admm.eps_power + admm.eps_rel * power),
        dual_excess=dual / (admm.eps_price + admm.eps_rel * spread),
        row_excess=_largest(jnp.where(paid, 0, over / tolerance)),
        gap=jnp.full_like(spread, jnp.inf),
    )


def no_residuals(dtype) -> Residuals:
    """Before the first step: nothing has converged."""
    worst, most = jnp.full((2,), jnp.inf, dtype), jnp.full((), jnp.inf, dtype)
    return Residuals(worst, worst, worst, worst, most, most)


def _largest(x: Array) -> Array:
    """() the largest absolute value; 0 of nothing."""
    if not x.size:
        return jnp.zeros((), x.dtype)
    x = jnp.abs(x)
    if x.ndim > 1 and x.shape[0] <= UNROLL_LIMIT:
        # row by row: XLA's CPU back end works a reduction of all at once out element by element
        x = reduce(jnp.maximum, list(x))
    return largest(x.reshape(-1))
