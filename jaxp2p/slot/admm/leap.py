"""Leaps of the prices: what takes single iterations thousands of turns to agree on.

Where devices do not answer, prices creep. A community as a whole lacks or spares a little energy: every
iteration moves every price by the same small amount, penalty times what is left over per trade, until the
first member reaches a tariff. A row cannot be kept: its price climbs to the penalty just as slowly. So, now
and then, while the gap is not small, other prices are tried: the level of all with the dearest member at the
upper tariff and with the cheapest at the lower one, and the last change of all prices many times over. Each
costs one more evaluation of the certificate, which says which is best; from there the iteration goes on as
from any other start.

Few slots come to that. In a batch some lane nearly always does, so there those that do are gathered: one lane
in a hundred must not cost all of them nine certificates.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_batching import custom_vmap

from jaxp2p._pytree import pick_tree
from jaxp2p.slot.admm.state import State
from jaxp2p.slot.answer import Answer
from jaxp2p.slot.execute import SlotResult, finish
from jaxp2p.slot.gap import price_limits
from jaxp2p.slot.problem import SlotProblem
from jaxp2p.slot.status import Status

CLEARLY = 0.99999  # share of the gap below which other prices are taken: only the dual value moves at first
REACHES = tuple(4.0**-k for k in range(7))  # of the whole range of a price, by its last change repeated
FEW = 64  # lanes of a batch, of which one looks at other prices at a time: on average half as many do


class Leap(NamedTuple):
    """How prices move: all market prices by `shift`, everything by `stride` times its last change."""

    shift: Array  # () EUR/kWh
    stride: Array  # (); several leaps have their axis in both


class Change(NamedTuple):
    """What a few iterations did to the prices."""

    market: Array  # (N,) EUR/kWh
    trade: Array  # as `State.trade_dual`, EUR/kWh
    row: Array  # (R,) EUR/kWh


def last_change(old: State, new: State) -> Change:
    """From one state to another with the same penalties."""
    return Change(
        market=new.price - old.price,
        trade=new.rho[0] * (old.trade_dual - new.trade_dual),
        row=new.row_price - old.row_price,
    )


def best_leap(
    problem: SlotProblem,
    answer: Answer,
    nothing: SlotResult,
    eps_gap: float | Array,
    change: Change,
    *,
    also: Array,
) -> tuple[SlotResult, Array, Leap]:
    """Of executing an answer: the result, its gap over eps_gap of its scale, and how prices should move.

    The second is infinite where the verdict is not a solution. The third is none unless `also` () bool asks
    for other prices, the slot is not solved, and one of them is clearly better. nothing: any result.
    """
    leaps = _leaps(problem, answer, change)
    eps_gap = jnp.asarray(eps_gap, problem.load.dtype)
    result, gaps = _looked_at(problem, answer, nothing, eps_gap, change, leaps, also)
    best = jnp.argmin(gaps)
    better = also & (gaps[0] > 1) & (gaps[best] < CLEARLY * gaps[0])
    return result, gaps[0], jax.tree.map(lambda x: jnp.where(better, x[best], 0), leaps)


def _leaps(problem: SlotProblem, answer: Answer, change: Change) -> Leap:
    """None, and then all that are tried, one after the other."""
    low, high = price_limits(problem)
    at = answer.market_price
    up = jnp.min(jnp.where(at < problem.price_buy, problem.price_buy - at, jnp.inf))
    down = jnp.max(jnp.where(at > problem.price_sell, problem.price_sell - at, -jnp.inf))
    levels = jnp.stack([jnp.zeros_like(up), up, down])
    levels = jnp.where(jnp.isfinite(levels), levels, 0)
    strides = jnp.asarray(REACHES, at.dtype) * _whole_range(problem, change, jnp.max(high) - jnp.min(low))
    return Leap(
        shift=jnp.concatenate([levels, jnp.zeros_like(strides)]),
        stride=jnp.concatenate([jnp.zeros_like(levels), strides]),
    )


def _moved(problem: SlotProblem, answer: Answer, change: Change, leap: Leap) -> Answer:
    """The answer with other prices."""
    low, high = price_limits(problem)
    move = leap.shift + leap.stride * change.trade
    return answer._replace(
        market_price=jnp.clip(answer.market_price + leap.shift + leap.stride * change.market, low, high),
        trade_price=_trade_price(problem, answer.trade_price, move),
        row_price=_row_price(problem, answer.row_price, leap.stride * change.row),
    )


def _excess(result: SlotResult, eps_gap: Array) -> Array:
    """() the gap over eps_gap of its scale; infinite where the verdict is not a solution."""
    failed = (result.status == Status.MAX_ITER) | (result.status == Status.NUMERICAL_ERROR)
    excess = result.gap / (eps_gap * result.gap_scale)
    return jnp.where(failed & (excess <= 1), jnp.inf, excess)


def _looked_at_alone(
    problem: SlotProblem,
    answer: Answer,
    nothing: SlotResult,
    eps_gap: Array,
    change: Change,
    leaps: Leap,
    also: Array,
) -> tuple[SlotResult, Array]:
    """The result of executing the answer, and the excess (C,) with every leap, or the first unless `also`."""

    def look(k: Array, carry: tuple[Array, SlotResult]) -> tuple[Array, SlotResult]:
        gaps, first = carry
        moved = _moved(problem, answer, change, Leap(leaps.shift[k], leaps.stride[k]))
        moved = pick_tree(k == 0, answer, moved)
        found = finish(problem, moved)
        first = pick_tree(k == 0, found, first)
        return gaps.at[k].set(_excess(found, eps_gap)), first

    # one copy of the certificate in the program, as many turns as are asked for
    count = leaps.shift.shape[0]
    gaps = jnp.full((count,), jnp.inf, leaps.shift.dtype)
    gaps, result = jax.lax.fori_loop(0, jnp.where(also, count, 1), look, (gaps, nothing))
    return result, gaps


_looked_at = custom_vmap(_looked_at_alone)


@_looked_at.def_vmap
def _looked_at_in_a_batch(lanes: int, where: list, *given: Any) -> tuple[Any, Any]:
    """The answers of all lanes; then all leaps of those that ask for them, some lanes at a time."""
    axes = jax.tree.map(lambda batched: 0 if batched else None, tuple(where))
    if lanes < FEW:  # nearly always nobody asks: not worth a second certificate in the program
        found = jax.vmap(_looked_at_alone, in_axes=axes)(*given)
        return found, jax.tree.map(lambda _: True, found)
    problem, answer, _, eps_gap, change, leaps, also = given

    def first(problem: SlotProblem, answer: Answer, eps_gap: Array) -> tuple[SlotResult, Array]:
        result = finish(problem, answer)
        return result, _excess(result, eps_gap)

    own_axes = axes[0], axes[1], axes[3]
    result, own = jax.vmap(first, in_axes=own_axes, axis_size=lanes)(problem, answer, eps_gap)
    gaps = jnp.full((lanes, leaps.shift.shape[-1]), jnp.inf, own.dtype).at[:, 0].set(own)
    some = -(-lanes // FEW)

    def with_leap(problem: SlotProblem, answer: Answer, eps_gap: Array, change: Change, leap: Leap) -> Array:
        return _excess(finish(problem, _moved(problem, answer, change, leap)), eps_gap)

    def with_leaps(leaps: Leap, about: tuple[SlotProblem, Answer, Array, Change]) -> Array:
        others = jax.tree.map(lambda x: x[1:], leaps)
        return jax.vmap(lambda leap: with_leap(*about, leap))(others)

    asking = leaps, (problem, answer, eps_gap, change)
    parted = lambda of: (of[5], (of[0], of[1], of[3], of[4]))

    def look(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        left, gaps = carry
        chosen = jnp.nonzero(left, size=some, fill_value=lanes)[0]
        take = lambda x, batched: jnp.take(x, chosen, axis=0, mode="clip") if batched else x
        mine = jax.tree.map(take, asking, parted(where))
        found = jax.vmap(with_leaps, in_axes=parted(axes), axis_size=some)(*mine)
        left = left.at[chosen].set(False, mode="drop")
        return left, gaps.at[chosen, 1:].set(found, mode="drop")

    begun = jnp.broadcast_to(also, (lanes,)), gaps
    gaps = jax.lax.while_loop(lambda carry: jnp.any(carry[0]), look, begun)[1]
    return (result, gaps), jax.tree.map(lambda _: True, (result, gaps))


def _whole_range(problem: SlotProblem, change: Change, span: Array) -> Array:
    """() how often the change must be repeated for the first price to cross its range; 0 if nothing moves."""
    # with one tariff for buying and selling only rows have a range
    crossed = jnp.where(span > 0, jnp.max(jnp.abs(change.market)) / jnp.where(span > 0, span, 1), 0)
    crossed = jnp.maximum(crossed, jnp.max(jnp.abs(change.row), initial=0) / problem.row_penalty)
    moves = crossed > jnp.finfo(span.dtype).eps
    return jnp.where(moves, 1 / jnp.where(moves, crossed, 1), 0)


def leapt(problem: SlotProblem, state: State, change: Change, leap: Leap) -> State:
    """The state with its prices moved."""
    trade_price = -state.rho[0] * state.trade_dual
    moved = _trade_price(problem, trade_price, leap.shift + leap.stride * change.trade)
    return state._replace(
        trade_dual=state.trade_dual - (moved - trade_price) / state.rho[0],
        price=state.price + leap.shift + leap.stride * change.market,
        row_price=_row_price(problem, state.row_price, leap.stride * change.row),
    )


def _trade_price(problem: SlotProblem, price: Array, move: Array) -> Array:
    """Prices of trades moved, no further than to what members pay or get elsewhere."""
    low, high = price_limits(problem)
    least, most = jnp.minimum(jnp.min(low), price), jnp.maximum(jnp.max(high), price)
    return jnp.clip(price + move, least, most)


def _row_price(problem: SlotProblem, price: Array, move: Array) -> Array:
    """Row prices (R,) moved: each keeps its sign and stays within the penalty."""
    most = problem.row_penalty
    low, high = jnp.where(price < 0, -most, 0), jnp.where(price > 0, most, 0)
    return jnp.clip(price + move, low, high)
