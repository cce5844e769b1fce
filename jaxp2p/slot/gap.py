"""How far a dispatch may be from the optimum of its slot: executed cost less a dual value, term by term.

For any market prices mu and row prices y the dual value of the slot is a lower bound on its optimum
(`hindsight.lower_bound` has the same for a horizon). Executed cost less dual value, the duality gap, is a sum
of what each decision leaves on the table at these prices, and no term is negative:

    device piece   g (t - x) ((nu - start) - (t + x)(end - start)/2)    x: share in use, t: wanted at nu
    exchange       (b - mu)^+ buy + (mu - b)^+ (buy_max - buy), the same for sales; (b + u - mu) unserved, ...
    trade          gamma/2 |e| + delta e + e_max (|delta| - gamma/2)^+  delta: half the difference of the mus
    network row    y^+ (upper - value)^+ + y^- (value - lower)^+ + (penalty - |y|) violation

so nothing cancels, and the bound is as good in float32 as in float64. It does not matter how the prices were
found. One thing must hold: where a trade could grow without limit, mu may not differ by more than the fee,
nor leave the tariffs where the exchange is unlimited; `consistent_prices` sees to that.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxp2p._pytree import present
from jaxp2p.slot.problem import SlotProblem
from jaxp2p.slot.prox.response import Pieces, piece_slack, row_sum
from jaxp2p.slot.rows import excess_of, nodal_surcharge, row_values

AT_LIMIT = 0.999  # share of its limit from which a trade has no room to grow
FLOOR_EUR = 1e-6  # what a slot may always be off by
FEW = 4  # roundings of the dtype, that a sum of rows is off by
SHARE_OF_INSTALLED = 0.1  # of what the homes have: typical use of devices


class Gap(NamedTuple):
    """What is left on the table, by kind of decision: EUR, none negative."""

    devices: Array  # ()
    exchange: Array  # () with the utility
    trades: Array  # ()
    rows: Array  # () of the network
    rounding: Array  # () what the dtype may have lost of the others

    @property
    def total(self) -> Array:
        """() EUR: the bound."""
        return self.devices + self.exchange + self.trades + self.rows + self.rounding


def gap_scale(problem: SlotProblem, cost: Array) -> Array:
    """() EUR: what a gap is measured by, never zero.

    max(|optimum|, dt max(b - s, 0.01) 0.1 sum_i (load + PV + storage power)_i, 1e-6 EUR): what the homes
    have, not what they exchange, which is nought where everybody covers himself. `cost` () is the optimum or
    less.
    """
    spread = jnp.maximum(problem.price_buy - problem.price_sell, 0.01)
    has = jnp.sum(problem.load + problem.pv_max + problem.storage_power)
    installed = SHARE_OF_INSTALLED * problem.slot_hours * spread * has
    return jnp.maximum(jnp.maximum(jnp.abs(cost), installed), FLOOR_EUR)


def price_limits(problem: SlotProblem) -> tuple[Array, Array]:
    """Lowest and highest market price (N,) of a member, EUR/kWh: the tariffs, or that of unserved energy."""
    low = jnp.broadcast_to(problem.price_sell, problem.load.shape)
    high = jnp.broadcast_to(problem.price_buy, problem.load.shape)
    if problem.unserved_price is not None:
        low = jnp.where(jnp.isfinite(present(problem.sell_max)), low - problem.unserved_price, low)
        high = jnp.where(jnp.isfinite(present(problem.buy_max)), high + problem.unserved_price, high)
    return low, high


def with_room(trades: Array, limit: Array) -> Array:
    """(K, N) bool: the trades that could grow."""
    return jnp.abs(trades) < AT_LIMIT * limit


def consistent_prices(
    problem: SlotProblem, price: Array, trades: Array, trade_price: Array
) -> tuple[tuple[Array, ...], Array]:
    """Market prices (N,) near `price` at which no trade with room would pay, and who has room (K, N) bool.

    Of the prices there may be several to choose from.
    """
    limit = problem.trade_limit
    low, high = price_limits(problem)
    free = with_room(trades, limit)
    alike = problem.unserved_price is None  # else a limit of the connection makes prices a member's own
    found = problem.market.consistent(price, low, high, free=free, trade_price=trade_price, alike=alike)
    return found, free


def slot_gap(
    problem: SlotProblem,
    pieces: Pieces,
    shares: Array,
    *,
    injection: Array,
    trades: Array,
    exchange: Array,
    unserved: Array,
    market_price: Array,
    trade_price: Array,
    row_price: Array,
) -> Gap:
    """By how much cost, storage value and penalties of a dispatch exceed the optimum at most.

    shares (P, N) of the device pieces; injection, exchange (sales positive), unserved (short positive) (N,)
    and trades (K, N) in kW, reciprocal; prices in EUR/kWh, any: the bound is valid for all of them.
    """
    choice, room = consistent_prices(problem, market_price, trades, trade_price)
    row_price = jnp.clip(row_price, -problem.row_penalty, problem.row_penalty)
    surcharge = nodal_surcharge(problem, row_price)

    def lost(price: Array) -> list[Array]:
        return [
            piece_slack(pieces, shares, price - surcharge),
            _exchange_slack(problem, price, exchange, unserved),
            _trade_slack(problem, price, trades, trade_price, room),
        ]

    size = row_sum(pieces.gain) + jnp.abs(problem.base)
    # all sums in one: every reduction of a program costs each call of it, whether it is come to or not
    *losses, installed = jnp.sum(jnp.stack([*(x for price in choice for x in lost(price)), size]), axis=1)
    devices, dealing, trading, nodal = _best(choice, losses)
    nodal = nodal - surcharge
    value = row_values(problem, injection)
    beyond = excess_of(problem, value)
    inside = jnp.where(row_price > 0, problem.row_upper - value, value - problem.row_lower)
    size_of = jnp.abs(row_price)
    priced = jnp.where(row_price == 0, 0, size_of * jnp.maximum(inside, 0))
    paid = jnp.where(inside < 0, size_of, 0)  # beyond the limit that has the price
    by_row = priced + (problem.row_penalty - paid) * beyond
    eps = jnp.finfo(value.dtype).eps
    rounding = eps * pieces.level * installed
    rows = jnp.zeros_like(rounding)
    if problem.feeder.rows:
        # what a row is off by, times what that costs: nothing well beyond a limit that has the whole penalty
        off = FEW * eps * (jnp.abs(problem.row_offset) + jnp.abs(value))
        beyond_costs = problem.row_penalty - paid + jnp.where(paid > 0, 0, size_of)
        clear = jnp.minimum(problem.row_upper - value, value - problem.row_lower) > off
        costs = jnp.where(beyond > off, beyond_costs, jnp.where(clear, size_of, problem.row_penalty))
        # slack is convex in the price: the most within what the price is off by is at an end
        blurred = FEW * eps * nodal_surcharge(problem, size_of)

        def most() -> Array:
            up, down = (piece_slack(pieces, shares, nodal + sign * blurred) for sign in (1, -1))
            return jnp.maximum(jnp.sum(jnp.maximum(up, down)) - devices, 0)

        rows, lost_to_rounding, at_work = jnp.sum(jnp.stack([by_row, off * costs, size_of]), axis=1)
        rounding = rounding + lost_to_rounding
        rounding = rounding + jax.lax.cond(at_work > 0, most, lambda: jnp.zeros_like(devices))
    hours = problem.slot_hours
    return Gap(
        devices=hours * devices,
        exchange=hours * dealing,
        trades=hours * trading,
        rows=hours * rows,
        rounding=hours * rounding,
    )


def _best(choice: tuple[Array, ...], losses: list[Array]) -> tuple[Array, Array, Array, Array]:
    """The three losses () of the prices (N,) with the least in all, and these prices.

    Every one of them bounds the optimum: the best does it best.
    """
    if len(choice) == 1:
        devices, dealing, trading = losses
        return devices, dealing, trading, choice[0]
    of_each = jnp.reshape(jnp.stack(losses), (len(choice), 3))
    best = jnp.argmin(jnp.sum(of_each, axis=1))
    devices, dealing, trading = of_each[best]
    return devices, dealing, trading, jnp.stack(choice)[best]


def _exchange_slack(problem: SlotProblem, price: Array, exchange: Array, unserved: Array) -> Array:
    """(N,) EUR/h left on the table in dealing with the utility."""
    buy, sell = jnp.maximum(-exchange, 0), jnp.maximum(exchange, 0)
    dear, cheap = price - problem.price_buy, problem.price_sell - price
    lost = jnp.maximum(-dear, 0) * buy + jnp.maximum(-cheap, 0) * sell
    if problem.unserved_price is None:
        return lost
    limits = present(problem.buy_max), present(problem.sell_max)
    for over, limit, used in ((dear, limits[0], buy), (cheap, limits[1], sell)):
        left = jnp.where(jnp.isfinite(limit), limit - used, 0)
        lost = lost + jnp.maximum(over, 0) * jnp.maximum(left, 0)
    short, spilled = jnp.maximum(unserved, 0), jnp.maximum(-unserved, 0)
    lost = lost + short * jnp.maximum(problem.unserved_price - dear, 0)
    return lost + spilled * jnp.maximum(problem.unserved_price - cheap, 0)


def _trade_slack(problem: SlotProblem, price: Array, trades: Array, trade_price: Array, room: Array) -> Array:
    """(N,) EUR/h left on the table in trading, half of every edge to each side."""
    market = problem.market
    if not market.fee.shape[0]:
        return jnp.zeros_like(price)
    delta = market.difference(price, *price_limits(problem), free=room, trade_price=trade_price)
    limit = problem.trade_limit
    excess = jnp.maximum(jnp.abs(delta) - market.fee / 2, 0)
    at_limit = jnp.where(room | (limit == 0), 0, jnp.where(jnp.isfinite(limit), limit, 0) * excess)
    lost = market.fee / 2 * jnp.abs(trades) + delta * trades + at_limit
    return jnp.sum(jnp.maximum(lost, 0), axis=0)
