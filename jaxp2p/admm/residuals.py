"""When to stop: residuals per family, each in its own unit, and what they cost."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.lax import Precision

from jaxp2p.admm.state import ADMM, State
from jaxp2p.prox.feeder import bus_mean, penalised_box
from jaxp2p.prox.feeder import rows as feeder_rows
from jaxp2p.prox.prosumer import ProsumerUpdate
from jaxp2p.slot.execute import row_tolerance
from jaxp2p.slot.problem import SlotProblem


class Residuals(NamedTuple):
    """Largest residuals per family (trades, injections, rows), and all that count over their tolerance."""

    prim: Array  # (3,) kW
    dual: Array  # (3,) EUR/kWh
    prim_excess: Array  # (3,) residual / tolerance
    dual_excess: Array  # (3,)
    gap_excess: Array  # (3,) cost of the primal residuals over its tolerance; the sum counts

    @property
    def converged(self) -> Array:
        """() bool: every residual below its tolerance."""
        worst = jnp.maximum(jnp.max(self.prim_excess), jnp.max(self.dual_excess))
        return jnp.maximum(worst, jnp.sum(self.gap_excess)) <= 1


def boxed_rows(problem: SlotProblem, state: State) -> Array:
    """Row copies s (R,): the rows moved towards their limits as far as the penalty pays."""
    return penalised_box(
        state.rows + problem.row_offset + state.row_dual,
        problem.row_lower,
        problem.row_upper,
        problem.row_penalty,
        state.rho[2],
    )


def _largest(x: Array) -> Array:
    return jnp.max(jnp.abs(x), initial=0)


def _imbalance_cost(problem: SlotProblem, price: Array, surplus: Array) -> Array:
    """EUR/h (N,) lost when the utility takes a surplus in kW (or covers a shortage) in place of peers.

    To first order: nothing where the home deals with the utility anyway (mu = b or s).
    """
    buy, sell = problem.price_buy, problem.price_sell
    if problem.unserved_price is not None:
        buy = jnp.where(price > buy, buy + problem.unserved_price, buy)
        sell = jnp.where(price < sell, sell - problem.unserved_price, sell)
    return jnp.maximum(surplus, 0) * (price - sell) + jnp.maximum(-surplus, 0) * (buy - price)


def _slackness_cost(problem: SlotProblem, price: Array, value: Array) -> Array:
    """EUR/h (R,) between a row's price (> 0 at an upper limit) and what it does: |price| times the distance
    to the limit that is priced. A row priced at the penalty itself may be beyond its limit at no loss.
    """
    beyond = jnp.where(price > 0, value - problem.row_upper, problem.row_lower - value)
    saturated = (jnp.abs(price) > 0.999 * problem.row_penalty) & (beyond > 0)
    return jnp.where((price == 0) | saturated, 0, jnp.abs(price) * jnp.abs(jnp.where(price == 0, 0, beyond)))


def residuals(problem: SlotProblem, admm: ADMM, old: State, new: State, update: ProsumerUpdate) -> Residuals:
    """Residuals of the step from `old` to `new`."""
    row_gap, row_tol = jnp.zeros_like(new.rows), jnp.ones_like(new.rows)
    if problem.feeder is not None:
        executed = (
            feeder_rows(problem.feeder, bus_mean(problem.feeder, update.injection)) + problem.row_offset
        )
        row_gap = boxed_rows(problem, old) - executed
        tolerance = row_tolerance(problem, flow=admm.eps_flow, voltage=admm.eps_voltage)
        row_tol = jnp.maximum(tolerance, admm.eps_flow)  # less than eps_flow at a bus is not seen in any home
    flexible = jnp.ones_like(new.injection) if problem.feeder is None else problem.feeder.flexible
    imbalance = update.trades - new.trades
    gaps = [_largest(imbalance), _largest((update.injection - new.injection) * flexible), _largest(row_gap)]
    moves = [
        old.rho[0] * _largest(new.trades - old.trades),
        old.rho[1] * _largest((new.injection - old.injection) * flexible),
        jnp.zeros_like(gaps[0]),
    ]
    if problem.feeder is not None:
        # what a step of the rows does to the price of the homes: rho_s A^T (rows+ - rows)
        push = jnp.matmul(new.rows - old.rows, problem.feeder.matrix, precision=Precision.HIGHEST)
        moves[2] = old.rho[2] * _largest(push)
    prim, dual = jnp.stack(gaps), jnp.stack(moves)
    power = jnp.stack([_largest(update.trades), _largest(update.injection)])
    spread = jnp.maximum(problem.price_buy - problem.price_sell, 0.01)
    power_tol = admm.eps_power + admm.eps_rel * power
    dual_tol = admm.eps_price + admm.eps_rel * spread
    cost = jnp.sum(_imbalance_cost(problem, update.market_price, jnp.sum(imbalance, axis=0)))
    slip = [cost, jnp.zeros_like(cost), jnp.zeros_like(cost)]
    if problem.feeder is not None:
        price = old.rho[2] * new.row_dual
        price = jnp.where(jnp.abs(price) > dual_tol, price, 0)  # less would not be seen in any home's price
        slip[2] = jnp.sum(_slackness_cost(problem, price, executed))
    gap = jnp.stack(slip) / (spread * jnp.sum(jnp.abs(update.injection)) + jnp.finfo(cost.dtype).tiny)
    prim_excess = jnp.append(prim[:2] / power_tol, _largest(row_gap / row_tol))
    return Residuals(prim, dual, prim_excess, dual / dual_tol, gap / admm.eps_gap)


def no_residuals(dtype) -> Residuals:
    """Before the first step: nothing has converged."""
    worst = jnp.full((3,), jnp.inf, dtype)
    return Residuals(worst, worst, worst, worst, worst)
