"""`Answer`: what any slot solver hands over to be executed."""

from typing import NamedTuple

from jax import Array


class Answer(NamedTuple):
    """The point where a solver stopped, the prices that go with it, and what it would call solved."""

    injection: Array  # (N,) kW, p
    trades: Array  # (K, N) kW, wished; made reciprocal when executed
    market_price: Array  # (N,) EUR/kWh, mu
    nodal_price: (
        Array  # (N,) EUR/kWh, nu: the price that the devices answer with p; on a jump exactly its price
    )
    trade_price: Array  # broadcasts to (K, N), EUR/kWh, the same from both sides of a trade
    row_price: Array  # (R,) EUR/kWh, > 0 at an upper limit
    prim_res: Array  # () kW
    dual_res: Array  # () EUR/kWh
    iterations: Array  # () int32
    tolerance: Array  # () share of `gap.gap_scale` that the gap of a solved slot may have
