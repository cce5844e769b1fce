"""What configures the price Newton method, and what moves in it."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxp2p._pytree import record, static
from jaxp2p.slot.problem import SlotProblem


@record
class Settings:
    """Configuration. Leaves may be traced and batched; the rest is structure.

    A slot is solved when the gap of its executed dispatch is at most eps_gap of `slot.gap.gap_scale` and the
    rows are kept within eps_flow and eps_voltage; iterations stop at half of that. The gap is worked out
    where the cost of the imbalance and of complementary slackness is small enough.
    """

    proximal: float | Array = 0.25  # penalty on leaving the centre, in price scale / power scale
    damping: float | Array = 0.1  # of the Newton system, in power scale / price scale per home
    row_damping: float | Array = 0.015  # the same for the row prices
    eps_gap: float | Array = 1e-3
    eps_flow: float | Array = 0.02  # kW
    eps_voltage: float | Array = 4e-5  # p.u.
    max_iter: int = static(default=200)  # evaluations of all homes; beyond, with a network, ADMM goes on
    centre_after: int = static(default=10)  # evaluations after which the centre moves in any case
    rows_at_once: int = static(default=4)  # network rows in one Newton system
    kernels: str = static(default="auto")  # what works the homes out: see `slot.kernels.choice`


class State(NamedTuple):
    """Prices and centre; also the warm start of the next slot."""

    price: Array  # () EUR/kWh, of the pool
    row_price: Array  # (R,) EUR/kWh, > 0 at an upper limit
    centre: Array  # (N,) kW, injections that the proximal term pulls to


def init(problem: SlotProblem) -> State:
    """Cold start: the middle of the tariffs, no congestion, PV and load as they are."""
    return State(
        price=(problem.price_buy + problem.price_sell) / 2,
        row_price=jnp.zeros_like(problem.row_offset),
        centre=problem.pv_max - problem.load,
    )
