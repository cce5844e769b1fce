"""What configures the ADMM, what moves in it, and where it starts."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxp2p._pytree import record, static
from jaxp2p.slot.problem import SlotProblem


@record
class ADMM:
    """Solver configuration. Leaves may be traced, batched and differentiated; the rest is structure.

    Residuals in kW must fall below eps_power + eps_rel * (largest power), those in EUR/kWh below
    eps_price + eps_rel * max(b - s, 0.01), each family (trades, injections, rows) for itself. What the homes
    inject must meet the row copies within eps_flow and eps_voltage: absolute, as grid limits are. And what
    the residuals cost at the present prices must fall below eps_gap of the homes' power times max(b - s,
    0.01): that is the first-order error of the executed cost.
    """

    rho: float | Array = 0.3  # trade penalty in units of price scale / power scale of the problem
    rho_injection: float | Array = 0.3  # injection penalty, same unit
    rho_rows: float | Array = 0.05  # row penalty, same unit
    alpha: float | Array = 1.6  # over-relaxation
    eps_power: float | Array = 2e-3  # kW
    eps_price: float | Array = 1e-4  # EUR/kWh
    eps_rel: float | Array = 1e-3
    eps_gap: float | Array = 5e-4
    eps_flow: float | Array = 0.02  # kW
    eps_voltage: float | Array = 4e-5  # p.u.
    rho_clamp: float | Array = 1e3  # a penalty stays within this factor of its start
    rho_band: float | Array = 5.0  # square root of the residual ratio beyond which a penalty changes
    max_iter: int = static(default=3000)
    check_every: int = static(default=5)
    free_rho_updates: int = static(default=4)  # changes of the penalties before their pause doubles
    adapt_every: int = static(default=4)  # checks between changes of the penalties
    adapt_after: int = static(default=0)  # checks of a slot before the first change, if more than adapt_every


class State(NamedTuple):
    """Everything that moves; also the warm start of the next slot."""

    trades: Array  # (K, N) kW, a
    trade_dual: Array  # (K, N) kW, u, symmetric; pool: (1, 1)
    injection: Array  # (N,) kW, z_i
    bus_dual: Array  # (G,) kW, w
    rows: Array  # (R,) kW, A M z without offset
    row_dual: Array  # (R,) kW, y
    price: Array  # (N,) EUR/kWh, mu: where the next update starts to look
    rho: Array  # (3,) (EUR/kWh)/kW: trades, injections, rows
    rho_start: Array  # (3,)
    rho_updates: Array  # () int32
    rho_age: Array  # () int32, checks since the penalties last changed


def _start_penalties(problem: SlotProblem, admm: ADMM) -> Array:
    unit = problem.price_scale / problem.power_scale
    return jnp.stack([unit * x for x in (admm.rho, admm.rho_injection, admm.rho_rows)]).astype(unit.dtype)


def init(problem: SlotProblem, admm: ADMM) -> State:
    """Cold start: nothing traded, everything at rest."""
    homes, dtype = problem.load.shape[0], problem.load.dtype
    slots = problem.market.fee.shape[0]
    groups = 0 if problem.feeder is None else problem.feeder.count.shape[0]
    rho = _start_penalties(problem, admm)
    return State(
        trades=jnp.zeros((slots, homes), dtype),
        trade_dual=jnp.zeros((1, 1) if problem.market.kind == "pool" else (slots, homes), dtype),
        injection=problem.pv_max - problem.load,
        bus_dual=jnp.zeros((groups,), dtype),
        rows=jnp.zeros(problem.row_offset.shape, dtype),
        row_dual=jnp.zeros(problem.row_offset.shape, dtype),
        price=jnp.broadcast_to((problem.price_buy + problem.price_sell) / 2, (homes,)),
        rho=rho,
        rho_start=rho,
        rho_updates=jnp.zeros((), jnp.int32),
        rho_age=jnp.zeros((), jnp.int32),
    )


def warm(problem: SlotProblem, admm: ADMM, state: State) -> State:
    """The state as a start for another slot: copies and duals stay, in the new slot's penalties.

    Duals are kept as prices (scaled dual times penalty), so a change of the penalty does not move them.
    """
    ratio = state.rho / state.rho_start
    start = _start_penalties(problem, admm)
    none = jnp.zeros((), jnp.int32)
    return rescale(state, start * ratio)._replace(rho_start=start, rho_updates=none, rho_age=none)


def rescale(state: State, rho: Array) -> State:
    """The state under other penalties (3,), with the same prices."""
    factor = state.rho / rho
    return state._replace(
        trade_dual=state.trade_dual * factor[0],
        bus_dual=state.bus_dual * factor[1],
        row_dual=state.row_dual * factor[2],
        rho=rho,
    )
