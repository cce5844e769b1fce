"""The ADMM step of all homes as one kernel: every home is read once, searches in registers, is written once.

What ends a step needs everybody's answer: the mean of the pool, the partner's trade, the prices of the rows.
So a step leaves it open, and the next one starts with it:

    pool          a = t - mean t               u + mean t
    bilateral     a = (t - twin t) / 2         u + (t + twin t) / 2
    injections    z = w + moved at the home's bus

with t, w the relaxed trades and injections, and a, u, z as in `slot.admm.state`. A loop of such steps
moves t, w and the market price of every home (and u of every trade), and nothing else.
"""

from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxp2p.model.network import Feeder
from jaxp2p.slot.admm.state import Settings, State
from jaxp2p.slot.kernels.blocks import (
    Block,
    Leaf,
    block_count,
    launch,
    padded_buses,
    some,
    sum_by_bus,
    this_block,
)
from jaxp2p.slot.problem import SlotProblem
from jaxp2p.slot.prox.prosumer import (
    Curve,
    ProsumerUpdate,
    Tariff,
    market_price_of,
    trade_response,
)
from jaxp2p.slot.prox.response import Response

HOMES = 128  # of a block, one per thread: trades take many registers
MOST_BUSES = 512  # whose sums a block writes; beyond, they are sums of the written injections


class Open(NamedTuple):
    """A state whose last step is open."""

    trades: Leaf  # (K, N) kW, t
    mean: Leaf  # (1, 1) kW, of the pool
    dual: Leaf  # as `State.trade_dual`, before the step
    injection: Array  # (N,) kW, w
    moved: Array | None  # (G,) kW; None: no network
    price: Array  # (N,) EUR/kWh, mu


class Community(NamedTuple):
    """What homes read beside that, the same for a block of steps."""

    devices: Response
    fee: Leaf  # (K, N) EUR/kWh
    limit: Leaf  # (K, N) kW
    reverse: Array | None  # (K, N) int32, of a bilateral market
    group: Array | None  # (N,) int32; None: no network
    flexible: Array | None  # (N,)
    buy_max: Array | None  # (N,) kW
    sell_max: Array | None  # (N,) kW
    numbers: Array  # (7,): rho, rho_n, alpha, buy, sell, unserved, spread


class Written(NamedTuple):
    """What a kernel writes; None: not asked for."""

    trades: Leaf  # (K, N)
    dual: Leaf  # (K, N), of a bilateral market
    injection: Leaf  # (N,)
    price: Leaf  # (N,)
    sums: Leaf  # (blocks,) kW, of the pool's trades over all its homes
    by_bus: Leaf  # (blocks, 1, G) kW, of the injections
    answer: Leaf  # (N,) kW, p
    answer_trades: Leaf  # (K, N) kW, e
    nodal_price: Leaf  # (N,) EUR/kWh


def opened(problem: SlotProblem, state: State) -> Open:
    """The state as if a step had just led to it."""
    pool = problem.market.pooled
    return Open(
        trades=state.trades,
        mean=jnp.zeros_like(state.trade_dual) if pool else None,
        dual=state.trade_dual,
        injection=state.injection,
        moved=jnp.zeros_like(problem.feeder.count) if problem.feeder.rows else None,
        price=state.price,
    )


def closed(problem: SlotProblem, state: State, now: Open, row_price: Array) -> State:
    """The state that the last step led to; `state` has the penalties."""
    market, injection = problem.market, now.injection
    if now.moved is not None:
        injection = injection + problem.feeder.at_homes(now.moved, injection.shape[0])
    return state._replace(
        trades=market.project(now.trades),
        trade_dual=now.dual + market.rest(now.trades),
        injection=injection,
        row_price=row_price,
        price=now.price,
    )


def community(problem: SlotProblem, admm: Settings, devices: Response, rho: Array) -> Community:
    """What all steps of a block have in common."""
    market, feeder = problem.market, problem.feeder
    dtype = problem.load.dtype
    unserved = problem.unserved_price
    # beyond the tariffs' spread no trade can pay, unless a connection's limit makes a price of its own
    spread = problem.price_buy - problem.price_sell if unserved is None else jnp.inf
    numbers = (*rho, admm.alpha, problem.price_buy, problem.price_sell, 0 if unserved is None else unserved)
    return Community(
        devices=devices,
        fee=market.fee,
        limit=market.limit,
        reverse=None if market.pooled or not market.fee.shape[0] else market.reverse,
        group=feeder.group if isinstance(feeder, Feeder) else None,
        flexible=feeder.flexible if isinstance(feeder, Feeder) else None,
        buy_max=problem.buy_max,
        sell_max=problem.sell_max,
        numbers=jnp.stack([jnp.asarray(x, dtype) for x in (*numbers, spread)]),
    )


def homes_step(
    problem: SlotProblem,
    about: Community,
    now: Open,
    bus_price: Array | None,
    *,
    interpret: bool,
    answers: bool = False,
) -> tuple[Open, Array | None, ProsumerUpdate | None]:
    """One step of all homes, sums (G,) of what they wish at the buses, and what they answered if asked.

    bus_price (G,) EUR/kWh: what the network takes off; None: no network.
    """
    shape, homes, dtype = now.trades.shape, now.injection.shape[0], now.injection.dtype
    like = lambda *shape: jax.ShapeDtypeStruct(shape, dtype)
    pool = problem.market.pooled
    buses = 0 if bus_price is None else bus_price.shape[0]
    summed = 0 < buses <= MOST_BUSES
    blocks = block_count(homes, HOMES)
    out = Written(
        trades=like(*shape),
        dual=like(*shape) if about.reverse is not None else None,
        injection=like(homes),
        price=like(homes),
        sums=like(blocks) if pool else None,
        by_bus=like(blocks, 1, padded_buses(buses)) if summed else None,
        answer=like(homes) if answers else None,
        answer_trades=like(*shape) if answers else None,
        nodal_price=like(homes) if answers else None,
    )
    limited = problem.unserved_price is not None
    kernel = lambda given, out: _home_kernel(given, out, homes=homes, limited=limited)
    if bus_price is None:
        about = about._replace(group=None, flexible=None)
    if shape[0] == 0:  # a kernel has no arrays without entries
        now = now._replace(trades=None, dual=None)
        out = out._replace(trades=None, answer_trades=None)
        about = about._replace(fee=None, limit=None)
    # a twin is read by others: only what a home alone reads may be written over
    places = [(now.injection, out.injection), (now.price, out.price)]
    if out.dual is not None:
        places.append((now.dual, out.dual))
    elif out.trades is not None:
        places.append((now.trades, out.trades))
    done = launch(
        kernel,
        (about, now, bus_price),
        out,
        blocks=blocks,
        name="homes_consensus",
        interpret=interpret,
        in_place=places,
    )
    none = jnp.zeros(shape, dtype)
    trades = none if done.trades is None else done.trades
    mean = jnp.reshape(jnp.sum(done.sums), (1, 1)) if pool else None
    dual = now.dual + now.mean if pool else (none if done.dual is None else done.dual)
    at_bus = jnp.sum(done.by_bus[:, 0, :buses], axis=0) if summed else None
    if bus_price is not None and not summed:
        at_bus = problem.feeder.bus_sum(done.injection)
    new = Open(trades, mean, dual, done.injection, now.moved, done.price)
    update = None
    if answers:
        traded = none if done.answer_trades is None else done.answer_trades
        update = ProsumerUpdate(done.answer, traded, done.price, done.nodal_price)
    return new, at_bus, update


def _home_kernel(given: tuple[Community, Open, Any], out: Written, *, homes: int, limited: bool) -> None:
    about, now, bus_price = given
    block = this_block(homes, HOMES)
    rho, rho_injection, alpha, buy, sell, unserved, spread = (about.numbers[k] for k in range(7))
    copies, duals = _last_step(block, about, now)
    wish = block.read(now.injection)
    anchor_price = rho_injection * wish
    if bus_price is not None:
        bus, flexible = block.read(about.group), block.read(about.flexible)
        wish = wish + flexible * block.pick(now.moved, bus)
        anchor_price = rho_injection * wish - flexible * block.pick(bus_price, bus)
    fees = [] if about.fee is None else block.rows(about.fee)
    limits = [] if about.limit is None else block.rows(about.limit)
    if not limited:
        limits = [jnp.where(fee < spread, limit, 0) for fee, limit in zip(fees, limits, strict=True)]
    targets = [copy - dual for copy, dual in zip(copies, duals, strict=True)]
    start = block.read(now.price)
    price, power = market_price_of(
        _curve(block, about.devices, rho_injection),
        Tariff(
            buy,
            sell,
            None if about.buy_max is None else block.read(about.buy_max),
            None if about.sell_max is None else block.read(about.sell_max),
            unserved if limited else None,
        ),
        target=targets,
        offered=sum((jnp.abs(x) for x in targets), jnp.zeros_like(start)),
        anchor_price=anchor_price,
        rho=rho,
        fee=fees,
        limit=limits,
        start=start,
        some=some,
    )
    total = jnp.zeros_like(start)
    for k, (copy, target, fee, limit) in enumerate(zip(copies, targets, fees, limits, strict=True)):
        trade = trade_response(price, target, rho, fee, limit)
        relaxed = alpha * trade + (1 - alpha) * copy
        total = total + relaxed
        block.write(out.trades, relaxed, k)
        if out.dual is not None:
            block.write(out.dual, duals[k], k)
        if out.answer_trades is not None:
            block.write(out.answer_trades, trade, k)
    wished = alpha * power + (1 - alpha) * wish
    block.write(out.injection, wished)
    block.write(out.price, price)
    if out.sums is not None:
        out.sums[block.number] = block.sum(total / homes)
    if out.by_bus is not None:
        sum_by_bus(block, out.by_bus, jnp.where(flexible > 0, bus, -1), [wished * flexible])
    if out.answer is not None:
        block.write(out.answer, power)
        block.write(out.nodal_price, price - (rho_injection * power - anchor_price))


def _last_step(block: Block, about: Community, now: Open) -> tuple[list[Array], list[Array]]:
    """Copies and duals after the step that was left open, a row per partner."""
    if now.trades is None:
        return [], []
    trades = block.rows(now.trades)
    if now.mean is not None:
        mean = now.mean[0, 0]
        return [trade - mean for trade in trades], [now.dual[0, 0] + mean for _ in trades]
    homes = now.trades.shape[1]
    copies, duals = [], []
    for k, trade in enumerate(trades):
        reverse = block.read(about.reverse, k)
        twin = block.pick(now.trades, (reverse // homes, reverse % homes))
        copies.append((trade - twin) / 2)
        duals.append(block.read(now.dual, k) + (trade + twin) / 2)
    return copies, duals


def _curve(block: Block, devices: Response, rho_injection: Array) -> Curve:
    """As `prox.prosumer.curve`, in registers: three numbers of a piece cost less than reading them."""
    power = block.rows(devices.power)
    position = [price + rho_injection * p for price, p in zip(block.rows(devices.price), power, strict=True)]
    width = [b - a for a, b in pairwise(position)]
    rise = [b - a for a, b in pairwise(power)]
    slope = [jnp.where(w > 0, r / jnp.where(w > 0, w, 1), 0) for r, w in zip(rise, width, strict=True)]
    return Curve(position, width, slope, power[0])
