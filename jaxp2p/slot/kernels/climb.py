"""Newton's iteration as two kernels: all homes once, and one program per community for everything else.

The homes leave their sums and nothing else, for all that is asked of them later follows from the prices and
the centre. Only the centre is written, and that is put off by one turn: where it moves to what they answered
last, they answer that once more first, from registers. The other kernel is `slot.newton.step.climb` itself,
with the linear algebra of the rows over blocks of buses.
"""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import Array

from jaxp2p.model.network import Feeder
from jaxp2p.model.network.tree_rows import TreeRows
from jaxp2p.slot.kernels.blocked_rows import BlockedRows
from jaxp2p.slot.kernels.blocks import (
    Leaf,
    block_count,
    launch,
    padded_buses,
    sum_by_bus,
    this_block,
)
from jaxp2p.slot.kernels.choice import interpreted
from jaxp2p.slot.newton.dual import (
    Homes,
    Limits,
    Point,
    Prices,
    Setup,
    Totals,
    evaluate,
    home_answers,
    pull_cost,
    trading_prices,
)
from jaxp2p.slot.newton.state import Settings
from jaxp2p.slot.newton.step import Lane, climb, seeking
from jaxp2p.slot.problem import SlotProblem
from jaxp2p.slot.prox.response import Pieces, Response

HOMES = 256  # of a block, two per thread: sums over threads are the dearest part
MOST_BUSES, MOST_ROWS = 512, 1024  # of a network whose rows one program works out
TURNS = 4  # between looks of the host; whoever is through waits for the others


class Around(NamedTuple):
    """What homes read, the same for all turns of a slot."""

    corners: Response  # (M, N), the starts of all pieces first, then their ends
    gain: Array  # (P, N) kW
    level: Array  # () EUR/kWh
    idle: Array  # (N,) EUR/kWh
    group: Array | None  # (N,) int32; None: no network
    flexible: Array | None  # (N,)
    base: Array  # (N,) kW
    eps: Array  # () (EUR/kWh)/kW
    half_fee: Array  # () EUR/kWh
    price_buy: Array  # () EUR/kWh
    price_sell: Array  # ()


class Sums(NamedTuple):
    """What the homes of every block say."""

    total: Leaf  # (blocks, 3): kW, kW per EUR/kWh, EUR/h that the pull costs
    at_bus: Leaf  # (blocks, 2, G)


class Turning(NamedTuple):
    """What moves in a loop of turns."""

    lane: Lane
    bus_price: Array | None  # (G,) EUR/kWh, what the network takes off at the trial prices
    centre: Array  # (N,) kW, before the last turn moved it
    late: Array  # () int32: 1 where it must


def suits(problem: SlotProblem) -> bool:
    """Whether one program can work the rows out."""
    feeder = problem.feeder
    if not feeder.rows:
        return True
    dense = not isinstance(feeder.matrix, TreeRows)
    return dense and feeder.rows <= MOST_ROWS and feeder.count.shape[0] <= MOST_BUSES


def around(problem: SlotProblem, setup: Setup) -> Around:
    """What all turns of a slot have in common."""
    feeder = problem.feeder
    return Around(
        corners=setup.corners,
        gain=setup.pieces.gain,
        level=setup.pieces.level,
        idle=setup.idle,
        group=feeder.group if isinstance(feeder, Feeder) else None,
        flexible=feeder.flexible if isinstance(feeder, Feeder) else None,
        base=setup.base,
        eps=setup.eps,
        half_fee=setup.half_fee,
        price_buy=problem.price_buy,
        price_sell=problem.price_sell,
    )


def start(problem: SlotProblem, lane: Lane, homes: Homes, centre: Array) -> Turning:
    """Before the first of some turns."""
    bus_price = problem.feeder.bus_price(lane.trial.rows) if problem.feeder.rows else None
    return Turning(_flags_as(jnp.int32, lane), bus_price, centre, jnp.zeros((), jnp.int32))


def finish(problem: SlotProblem, setup: Setup, turning: Turning) -> tuple[Lane, Homes, Array]:
    """The lane, what the homes answered to its prices, and the centre then."""
    lane = _flags_as(bool, turning.lane)
    homes, _ = evaluate(problem, setup, lane.base.prices, turning.centre)
    return lane, homes, jnp.where(turning.late > 0, homes.injection, turning.centre)


def turns(problem: SlotProblem, newton: Settings, setup: Setup, now: Turning) -> Turning:
    """Turns until there is something to prove: a device is asked now and then only, and then waits."""
    one = lambda _, now: turn(problem, newton, setup, now)
    some = lambda now: jax.lax.fori_loop(0, TURNS, one, now)
    return jax.lax.while_loop(lambda now: seeking(newton, _flags_as(bool, now.lane)), some, now)


def _flags_as(kind: Any, lane: Lane) -> Lane:
    """A kernel's memory has no bits."""
    return lane._replace(fresh=lane.fresh.astype(kind), due=lane.due.astype(kind))


def turn(problem: SlotProblem, newton: Settings, setup: Setup, now: Turning) -> Turning:
    """Everybody's answer to the trial prices, then the next trial.

    A lane that has come to something to prove stays as it is.
    """
    about, interpret = around(problem, setup), interpreted(newton.kernels)
    homes, dtype = now.centre.shape[0], now.centre.dtype
    like = lambda *shape: jax.ShapeDtypeStruct(shape, dtype)
    feeder, blocks = problem.feeder, block_count(homes, HOMES)
    buses = feeder.count.shape[0] if feeder.rows else 0
    sums = Sums(like(blocks, 3), like(blocks, 2, padded_buses(buses)) if feeder.rows else None)
    centre = like(homes)
    given = (about, now.lane.trial.pool, now.bus_price, now.centre, now.late)
    sums, centre = launch(
        lambda given, out: _homes_kernel(given, out, homes=homes),
        given,
        (sums, centre),
        blocks=blocks,
        name="homes_newton",
        interpret=interpret,
        in_place=((now.centre, centre),),
    )
    total = jnp.sum(sums.total, axis=0)
    at_bus = None if sums.at_bus is None else jnp.sum(sums.at_bus, axis=0)
    matrix, offset = (feeder.matrix, problem.row_offset) if feeder.rows else (None, None)
    lane, bus_price, late = _climbed(newton, setup.limits, now, total, at_bus, matrix, offset, interpret)
    return Turning(lane, bus_price, centre, late)


def _homes_kernel(given: Any, out: tuple[Sums, Any], *, homes: int) -> None:
    about, pool_ref, bus_price, centre_ref, late = given
    sums, centre_out = out
    block = this_block(homes, HOMES)
    corner_price, power = block.rows(about.corners.price), block.rows(about.corners.power)
    idle, centre = block.read(about.idle), block.read(centre_ref)
    eps, half_fee, pool = about.eps[()], about.half_fee[()], pool_ref[()]
    position = [price + eps * kw for price, kw in zip(corner_price, power, strict=True)]
    sell, buy = trading_prices(about.price_sell[()], about.price_buy[()], half_fee, pool)
    taken = jnp.zeros_like(centre)
    if bus_price is not None:
        bus, flexible = block.read(about.group), block.read(about.flexible)
        taken = flexible * block.pick(bus_price, bus)

    def answers(centre: Array) -> tuple[Array, Array, Array]:
        return home_answers(position, power, idle=idle, shift=eps * centre - taken, sell=sell, buy=buy)

    centre = jax.lax.cond(late[()] > 0, lambda: answers(centre)[0], lambda: centre)
    injection, slope, market_price = answers(centre)
    block.write(centre_out, centre)
    gain: Any = block.rows(about.gain)
    start, end = cast(Any, (corner_price[: len(gain)], corner_price[len(gain) :]))
    pieces, base = Pieces(start, end, gain, about.level[()]), block.read(about.base)
    price = market_price - taken
    cost = pull_cost(pieces, base, injection=injection, price=price, centre=centre, eps=eps)
    for k, value in enumerate((injection, slope, cost)):
        sums.total[block.number, k] = block.sum(value)
    if sums.at_bus is not None:
        by_bus = jnp.where(flexible > 0, bus, -1)
        sum_by_bus(block, sums.at_bus, by_bus, [injection * flexible, slope * flexible])


def _climbed(
    newton: Settings,
    limits: Limits,
    now: Turning,
    total: Array,
    at_bus: Array | None,
    matrix: Leaf,
    offset: Array | None,
    interpret: bool,
) -> tuple[Lane, Array | None, Array]:
    """The next lane, what the network takes off at its trial prices, and whether the centre moves."""
    if matrix is None:
        lane = _flags_as(bool, now.lane)
        none = jnp.zeros_like(now.lane.base.slope_at_bus)
        totals = Totals(total[0], total[1], none, none)
        lane, late = _next(NoNetwork(limits.row_upper), limits, newton, lane, totals, total[2])
        return _flags_as(jnp.int32, lane), None, late
    moving = (now.lane, now.bus_price, now.late)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), moving)
    return launch(
        lambda given, out: _climb_kernel(newton, given, out),
        (moving, limits, total, at_bus, matrix, offset),
        shapes,
        blocks=1,
        name="climb",
        interpret=interpret,
        # everything is read before it is written
        in_place=tuple(zip(jax.tree.leaves(moving), jax.tree.leaves(shapes), strict=True)),
    )


def _next(
    network: Any, limits: Limits, newton: Settings, lane: Lane, totals: Totals, pull_cost: Array
) -> tuple[Lane, Array]:
    """The lane after a turn, and whether the centre moves, () int32."""
    new, turned = climb(network, limits, newton, lane, totals, lambda wanted: pull_cost)
    runs = seeking(newton, lane)
    return _chosen(runs, new, lane), jnp.where(runs & turned.recentre, jnp.int32(1), jnp.int32(0))


def _chosen(first: Array, one: Any, other: Any) -> Any:
    """One tree or the other. Flags are chosen by logic: Triton has no choice between them."""

    def choose(a: Array, b: Array) -> Array:
        return (first & a) | (~first & b) if a.dtype == bool else jnp.where(first, a, b)

    return jax.tree.map(choose, one, other)


class NoNetwork(NamedTuple):
    """No rows: what `slot.newton.step.Network` asks for."""

    none: Array  # (0,)

    @property
    def rows(self) -> int:
        """R."""
        return 0

    def values(self, totals: Totals) -> Array:
        """(0,)."""
        return self.none


def _climb_kernel(newton: Settings, given: Any, out: Any) -> None:
    (lane_ref, _, _), limits_ref, total, at_bus, matrix, offset = given
    lane_out, bus_price_out, late_out = out
    network = BlockedRows(matrix, offset, at_bus, lane_ref.base.slope_at_bus)
    vector, scalar = network.read, lambda ref: ref[()]
    prices = lambda ref: Prices(scalar(ref.pool), vector(ref.rows))
    limits = Limits(
        lowest=scalar(limits_ref.lowest),
        highest=scalar(limits_ref.highest),
        penalty=scalar(limits_ref.penalty),
        damping=Prices(scalar(limits_ref.damping.pool), scalar(limits_ref.damping.rows)),
        row_upper=vector(limits_ref.row_upper),
        row_lower=vector(limits_ref.row_lower),
        row_tolerance=vector(limits_ref.row_tolerance, other=1),
        allowed=scalar(limits_ref.allowed),
        price_scale=scalar(limits_ref.price_scale),
    )
    lane = Lane(
        base=Point(
            prices=prices(lane_ref.base.prices),
            gradient=prices(lane_ref.base.gradient),
            rows=vector(lane_ref.base.rows),
            slope=scalar(lane_ref.base.slope),
            slope_at_bus=jnp.zeros((), jnp.int32),
        ),
        trial=prices(lane_ref.trial),
        length=scalar(lane_ref.length),
        caution=scalar(lane_ref.caution),
        inner=scalar(lane_ref.inner),
        iterations=scalar(lane_ref.iterations),
        fresh=scalar(lane_ref.fresh) > 0,
        due=scalar(lane_ref.due) > 0,
    )
    # which slopes by bus are meant stands for the slopes: 1 for those of the trial
    totals = Totals(total[0], total[1], jnp.zeros((), jnp.int32), jnp.ones((), jnp.int32))
    new, late = _next(network, limits, newton, lane, totals, total[2])
    late_out[()] = late
    network.write_slopes(lane_out.base.slope_at_bus, new.base.slope_at_bus)
    network.write_bus_price(bus_price_out, new.trial.rows)
    nothing: Any = None  # written already
    done = new._replace(base=new.base._replace(slope_at_bus=nothing))
    there = lane_out._replace(base=lane_out.base._replace(slope_at_bus=nothing))
    for ref, value in zip(jax.tree.leaves(there), jax.tree.leaves(done), strict=True):
        if ref.shape:
            network.write(ref, value)
        else:
            ref[()] = value.astype(ref.dtype)
