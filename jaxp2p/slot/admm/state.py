"""What configures the ADMM, what moves in it, and where it starts."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxp2p._pytree import record, static
from jaxp2p.slot.problem import SlotProblem

WRECK = 100.0  # times the largest price that a slot can have


@record
class Settings:
    """Solver configuration. Leaves may be traced, batched and differentiated; the rest is structure.

    A slot is solved when the gap of its executed dispatch is at most eps_gap of `slot.gap.gap_scale` and the
    rows are kept within eps_flow and eps_voltage; iterations stop at 0.95 of that gap. It is worked out where
    the residuals are small, of the trades and of the injections each for itself: below eps_power + eps_rel *
    (largest power) in kW and eps_price + eps_rel * max(b - s, 0.01) in EUR/kWh, and, once it was too large,
    not before it can have become small enough; and every gap_every checks in any case.
    """

    rho: float | Array = 0.3  # trade penalty in units of price scale / power scale of the problem
    rho_injection: float | Array = 0.2  # injection penalty, same unit
    alpha: float | Array = 1.6  # over-relaxation
    eps_gap: float | Array = 1e-3
    eps_flow: float | Array = 0.02  # kW
    eps_voltage: float | Array = 4e-5  # p.u.
    eps_power: float | Array = 6e-3  # kW
    eps_price: float | Array = 3e-4  # EUR/kWh
    eps_rel: float | Array = 3e-3
    rho_clamp: float | Array = 1e3  # a penalty stays within this factor of its start
    rho_band: float | Array = 5.0  # square root of the residual ratio beyond which a penalty changes
    max_iter: int = static(default=3000)
    check_every: int = static(default=5)
    gap_every: int = static(default=8)  # checks between gaps that are worked out whatever the residuals
    free_rho_updates: int = static(default=4)  # changes of the penalties before their pause doubles
    adapt_every: int = static(default=4)  # checks between changes of the penalties
    adapt_after: int = static(default=0)  # checks of a slot before the first change, if more than adapt_every
    balance_until: int = static(default=600)  # iterations after which the penalties are those of the start
    rows_at_once: int = static(default=16)  # network rows whose prices move together
    kernels: str = static(default="auto")  # what works the homes out: see `slot.kernels.choice`


class State(NamedTuple):
    """Everything that moves; also the warm start of the next slot."""

    trades: Array  # (K, N) kW, a
    trade_dual: Array  # (K, N) kW, u, symmetric; pool: (1, 1)
    injection: Array  # (N,) kW, z_i
    row_price: Array  # (R,) EUR/kWh, y, > 0 at an upper limit
    price: Array  # (N,) EUR/kWh, mu: where the next update starts to look
    rho: Array  # (2,) (EUR/kWh)/kW: trades, injections
    rho_start: Array  # (2,)
    rho_updates: Array  # () int32
    rho_age: Array  # () int32, checks since the penalties last changed


def _start_penalties(problem: SlotProblem, admm: Settings) -> Array:
    unit = problem.price_scale / problem.power_scale
    return jnp.stack([unit * x for x in (admm.rho, admm.rho_injection)]).astype(unit.dtype)


def at_rest(problem: SlotProblem, admm: Settings) -> State:
    """Nothing traded, no device moved, one price half way between the tariffs for all."""
    homes, dtype = problem.load.shape[0], problem.load.dtype
    slots = problem.market.fee.shape[0]
    rho = _start_penalties(problem, admm)
    price = (problem.price_buy + problem.price_sell) / 2
    return State(
        trades=jnp.zeros((slots, homes), dtype),
        trade_dual=jnp.full(problem.market.dual_shape, -price / rho[0], dtype),
        injection=problem.pv_max - problem.load,
        row_price=jnp.zeros_like(problem.row_offset),
        price=jnp.broadcast_to(price, (homes,)),
        rho=rho,
        rho_start=rho,
        rho_updates=jnp.zeros((), jnp.int32),
        rho_age=jnp.zeros((), jnp.int32),
    )


def carried_over(problem: SlotProblem, admm: Settings, state: State) -> State:
    """The state in another slot: copies and duals stay, in the new slot's penalties.

    Duals are kept as prices (scaled dual times penalty), so a change of the penalty does not move them. What
    balancing made of the penalties in one odd slot would stay for ever: of its logarithm half is forgotten.
    A wreck, prices that are not finite or far from any that the slot can have, is no start: that one is cold.
    """
    ratio = jnp.sqrt(state.rho / state.rho_start)
    start = _start_penalties(problem, admm)
    none = jnp.zeros((), jnp.int32)
    moved = rescale(state, start * ratio)._replace(rho_start=start, rho_updates=none, rho_age=none)
    return safe(problem, admm, moved)


def safe(problem: SlotProblem, admm: Settings, state: State) -> State:
    """The state, or a cold start where it is a wreck."""
    most = jnp.abs(problem.price_buy) + jnp.abs(problem.price_sell) + jnp.max(problem.market.fee, initial=0)
    if problem.unserved_price is not None:
        most = most + problem.unserved_price
    total = jnp.sum(state.trades) + jnp.sum(state.injection) + jnp.sum(state.price) + jnp.sum(state.rho)
    sound = jnp.isfinite(total) & (
        jnp.max(jnp.abs(state.row_price), initial=0) <= WRECK * problem.row_penalty
    )
    sound &= jnp.max(jnp.abs(state.rho[0] * state.trade_dual), initial=0) <= WRECK * (most + 1)
    return jax.tree.map(lambda a, b: jnp.where(sound, a, b), state, at_rest(problem, admm))


def rescale(state: State, rho: Array) -> State:
    """The state under other penalties (2,), with the same prices."""
    return state._replace(trade_dual=state.trade_dual * (state.rho[0] / rho[0]), rho=rho)
