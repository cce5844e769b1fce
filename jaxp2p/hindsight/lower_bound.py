"""A lower bound on the cost of every policy over a horizon, made after the fact, with no probability.

The horizon's dual: with multipliers m_t of E_{t+1} - sigma E_t - u_t = 0 (EUR per kWh in the cells),

    LB = sum_t dt D_t(m_t)
       + sum_i [sum_{1<=t<T} min_E (m_{t-1} - sigma m_t) E + min_E (m_{T-1} - v_T) E + (v_T - sigma m_0) E_0]

each min over E_min <= E <= E_max, and D_t the dual of one slot with the storage replaced by the price m_t:

    D_t = sum_i max over mu_i of [ phi_i(mu_i - sum_r A_ri y_r) - buy_max_i (mu_i - b)^+
                                   - sell_max_i (s - mu_i)^+ - e_max_i (|mu_i - pi_t| - gamma_i / 2)^+ ]
          + sum_r (y_r a0_r - y_r^+ hi_r + y_r^- lo_r)
    phi_i(nu) = min over the devices of kappa (eta_c c + d / eta_d) - m (eta_c c - d / eta_d)
                                        + k_curt (G - g) + a (l - l_ref)^2 - nu (g - l + d - c)

for any pool price pi_t and s - u <= mu_i <= b + u, u the unserved price on top of the tariffs. Where a
limit is infinite its term is a bound on mu: s <= mu_i, mu_i <= b, |mu_i - pi_t| <= gamma_i / 2 (without a
market e_max = 0).
Every number put in for m, pi, mu, y gives a valid bound; only its tightness depends on them. c and d are
independent in phi, D_t is never a primal value, and rounding is the only error. phi is concave and -p(nu) its
slope, so the best mu_i is the place where the home's own balance p(nu), with what the market takes beyond the
limits, changes sign: closed form, and pi_t by bisection.

A vehicle is one more c and d in phi, with an m of its own. Its limits and the share sigma_t of its energy
that is carried into a slot, 1 or 0, are those of the slot, and energy comes with it: E_{t+1} - sigma_t E_t -
arrived_t - u_t = 0 (`model.devices.vehicle`). What is charged in stays that are open at the end is worth v_T.
So its terms of stored energy, nothing where a seat is empty, are

    sum_t min_E (m_t - sigma_{t+1} m_{t+1}) E - sum_t m_t arrived_t - sigma_0 m_0 E_0 + v_T E_begun

each min over floor_t <= E <= most_t, with v_T in place of sigma_T m_T for a vehicle that is plugged in in the
last slot, and 0 for any other; E_begun is what a stay open at the end began with, E_0 what one under way has.

What it bounds, for every policy that keeps the limits of batteries and trades:

    sum_i [f_i - v_T (E_T - E_0)]  +  dt sum [(b + u) short + (u - s) spilled]  +  dt sum_r kappa (violation)

(`cost_eur`, plus the cost of what is unserved, plus, where y is given and |y_r| <= kappa, the penalties of
the network rows; without y the network is left out, and the bound holds without the penalties). With the
duals of perfect foresight it equals perfect foresight, in the pool and without a market. A bilateral market
is relaxed to the pool with its smallest fee, in which a member trades as much as all its edges allow
together. Source: Lagrangian duality (Boyd and Vandenberghe 2004, section 5.1).
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxp2p._lowered import Lowered
from jaxp2p._pytree import present
from jaxp2p.model.devices import PV, Battery, Load, Plugged
from jaxp2p.model.devices.vehicle import begun
from jaxp2p.model.match import require_match
from jaxp2p.model.types import Community, Horizon


class LowerBound(NamedTuple):
    """A certified lower bound and the multipliers that prove it."""

    value_eur: Array  # () EUR, over the horizon
    slot_eur: Array  # (T,) EUR, dt D_t
    storage_eur: Array  # () EUR, the terms of the stored energy
    storage_value: Array  # (T, N) EUR/kWh, m
    pool_price: Array  # (T,) EUR/kWh, pi
    vehicle_value: Array | None = None  # (T, K, N) EUR/kWh, m of the vehicles


class _Worth(NamedTuple):
    """What a stored kWh is worth, m."""

    battery: Array  # (T, n) EUR/kWh
    vehicles: Array | None  # (T, K, n) EUR/kWh

    @property
    def each(self) -> list[Array]:
        """(T, n) for every storage of a home, in the order of `_Devices.storage`."""
        return [self.battery] if self.vehicles is None else [self.battery, *jnp.moveaxis(self.vehicles, 1, 0)]


class _Homes(NamedTuple):
    """What phi needs of n homes over T slots."""

    load: Array  # (T, n) kW
    pv: Array  # (T, n) kW
    shift: Array  # (T, n) EUR/kWh, mu - nu
    share: Array  # (n,)
    flex_cost: Array  # (n,) EUR/(kW^2 h)
    curtailment_cost: Array  # (n,) EUR/kWh
    half_fee: Array  # (n,) EUR/kWh
    trade_limit: Array  # (n,) kW, 0 where there is no market
    buy_max: Array  # (n,) kW
    sell_max: Array  # (n,) kW
    unserved: Array  # () EUR/kWh, u
    battery: Battery  # (n,)
    vehicles: Plugged | None  # (T, K, n)
    begun: Array | None  # (K, n) kWh


class _Devices(NamedTuple):
    """The same by device, everything (T, n) or (1, n)."""

    load: Load
    pv: PV
    storage: list[Battery]  # the battery, then the vehicles


def _devices(homes: _Homes) -> _Devices:
    wide = lambda x: x[None, :]
    width = wide(homes.share) * homes.load
    load = Load(
        reference=homes.load,
        least=homes.load - width,
        most=homes.load + width,
        discomfort_cost=wide(homes.flex_cost),
    )
    plants = PV(available=homes.pv, curtailment_cost=wide(homes.curtailment_cost))
    storage: list[Battery] = [jax.tree.map(wide, homes.battery)]
    if homes.vehicles is not None:
        seats = range(homes.vehicles.charge_max.shape[1])
        storage += [homes.vehicles.of((slice(None), seat)) for seat in seats]
    return _Devices(load, plants, storage)


def _device_value(homes: _Homes, m: _Worth, nu: Array) -> Array:
    """phi, (T, n) EUR/h."""
    load, pv, (battery, *vehicles) = _devices(homes)
    worth, *others = m.each
    value = -load.earned(nu) - battery.earned(worth, nu) - pv.earned(nu)
    for vehicle, worth in zip(vehicles, others, strict=True):
        value -= vehicle.earned(worth, nu)
    return value


class _Market(NamedTuple):
    """Prices of every slot."""

    pool: Array  # (T,) EUR/kWh, pi
    buy: Array  # (T,) EUR/kWh
    sell: Array  # (T,) EUR/kWh


def _finite(limit: Array) -> Array:
    """The limit where there is one; without one the price is bounded instead."""
    return jnp.where(jnp.isfinite(limit), limit, 0)


def _limit_steps(homes: _Homes, market: _Market):
    """(nu, kW): where nu passes it, the market takes that much less (sales end, purchases begin)."""
    trade = _finite(homes.trade_limit)
    at = lambda price: price[:, None] - homes.shift
    return (
        (at(market.sell), _finite(homes.sell_max)),
        (at(market.pool) - homes.half_fee[None, :], trade),
        (at(market.pool) + homes.half_fee[None, :], trade),
        (at(market.buy), _finite(homes.buy_max)),
    )


def _balance_price(homes: _Homes, m: _Worth, market: _Market | None) -> Array:
    """The smallest nu at which p(nu), less what the market takes there, is not negative; (T, n).

    Without a market (None: no limit of trades and connections is finite) that is where the home neither buys
    nor sells. Supply is a step function Q(nu) of devices and limits, less the load. Between two thresholds Q
    is constant and Q = l(nu) has one root x(Q); the answer is the least max(threshold, x(Q after it)). Where
    that is a threshold that depends on m or on the pool's price, it moves with it: the kink moves, and the
    envelope theorem (mu held still) would give the slope of a full charge where only the surplus is charged.
    At its other places the slope of what is maximised is 0 (elastic load), or they stay.
    """
    load, pv, storage = _devices(homes)
    steps, first = [], jnp.zeros((), m.battery.dtype)
    for device, worth in zip(storage, m.each, strict=True):
        steps += [
            (device.charge_price(worth), device.charge_max),
            (device.discharge_price(worth), device.discharge_max),
        ]
        first = first - jnp.broadcast_to(device.charge_max, worth.shape)
    steps.insert(2, (jnp.broadcast_to(pv.use_price, m.battery.shape), pv.available))
    if market is not None:
        steps += [(place, size[None, :]) for place, size in _limit_steps(homes, market)]
        first = first - (_finite(homes.sell_max) + _finite(homes.trade_limit))[None, :]

    def root(power):
        inner = jnp.where(power >= load.most, -jnp.inf, load.price_at(power))
        return jnp.where(power < load.least, jnp.inf, inner)

    best = root(first)
    for place, _ in steps:
        power = first
        for other, size in steps:
            power = power + jnp.where(other <= place, size, 0.0)
        best = jnp.minimum(best, jnp.maximum(place, root(power)))
    best = jax.lax.stop_gradient(best)
    for place, _ in steps:
        best = jnp.where(best == place, place, best)
    return best


def _price_limits(homes: _Homes, buy: Array, sell: Array) -> tuple[Array, Array]:
    """The least and the greatest mu, (T, n) EUR/kWh."""
    below = jnp.where(jnp.isfinite(homes.sell_max), homes.unserved, 0)
    above = jnp.where(jnp.isfinite(homes.buy_max), homes.unserved, 0)
    return sell[:, None] - below[None, :], buy[:, None] + above[None, :]


def _pool_range(homes: _Homes, buy: Array, sell: Array, *, limited: bool) -> tuple[Array, Array]:
    """Where pi may lie, (T,) EUR/kWh: within half a fee of what mu may be of a trader without limit."""
    if not limited:
        return sell, buy
    lowest, highest = _price_limits(homes, buy, sell)
    free, half = jnp.isinf(homes.trade_limit)[None, :], homes.half_fee[None, :]
    least = jnp.max(jnp.where(free, lowest - half, (sell - homes.unserved)[:, None]), axis=1)
    most = jnp.min(jnp.where(free, highest + half, (buy + homes.unserved)[:, None]), axis=1)
    return least, most


def _market_value(homes: _Homes, m: _Worth, own: Array, market: _Market) -> Array:
    """max over mu of what stands in brackets in D_t, (T, n) EUR/h; own is `_balance_price` (T, n)."""
    half = jnp.where(jnp.isfinite(homes.trade_limit), jnp.inf, homes.half_fee)[None, :]
    pool, buy, sell = (price[:, None] for price in market)
    lowest, highest = _price_limits(homes, market.buy, market.sell)
    mu = jnp.clip(own + homes.shift, jnp.maximum(lowest, pool - half), jnp.minimum(highest, pool + half))
    value = _device_value(homes, m, mu - homes.shift)
    value -= _finite(homes.buy_max)[None, :] * jnp.maximum(mu - buy, 0)
    value -= _finite(homes.sell_max)[None, :] * jnp.maximum(sell - mu, 0)
    away = jnp.maximum(mu - pool - homes.half_fee[None, :], 0)
    away += jnp.maximum(pool - mu - homes.half_fee[None, :], 0)
    return value - _finite(homes.trade_limit)[None, :] * away


def _storage_terms(battery: Battery, m: Array, terminal_price: Array) -> Array:
    """(n,) EUR: the terms of the stored energy; a battery without power is left to its own decay."""
    sigma, start = battery.retention, battery.energy_start
    later = jnp.concatenate(
        [sigma[None, :] * m[1:], jnp.broadcast_to(terminal_price, (1, m.shape[1]))], axis=0
    )
    weight = m - later  # what a kWh at the end of slot t is paid for
    held = jnp.minimum(weight * battery.energy_min[None, :], weight * battery.energy_max[None, :])
    moved = jnp.sum(held, axis=0) + (terminal_price - sigma * m[0]) * start
    decayed = terminal_price * (1 - sigma ** m.shape[0]) * start
    return jnp.where(battery.owned, moved, decayed)


def _vehicle_terms(vehicles: Plugged, begun: Array, m: Array, terminal_price: Array) -> Array:
    """(n,) EUR: the terms of the energy in vehicles, with m (T, K, n)."""
    carried, at_end = vehicles.retention, jnp.where(vehicles.owned[-1], terminal_price, 0)
    weight = m - jnp.concatenate([carried[1:] * m[1:], at_end[None]])
    held = jnp.minimum(weight * vehicles.energy_min, weight * vehicles.energy_max)
    ends = terminal_price * begun - carried[0] * m[0] * vehicles.energy_start[0]
    return jnp.sum(held - m * vehicles.arrived, axis=(0, 1)) + jnp.sum(ends, axis=0)


def _stored(homes: _Homes, m: _Worth, terminal_price: Array) -> Array:
    """() EUR: the terms of all stored energy."""
    value = jnp.sum(_storage_terms(homes.battery, m.battery, terminal_price))
    if homes.vehicles is None:
        return value
    terms = _vehicle_terms(homes.vehicles, present(homes.begun), present(m.vehicles), terminal_price)
    return value + jnp.sum(terms)


def _best_price(value, low: Array, high: Array) -> Array:
    """argmax over pi in [low, high] of a sum of concave functions of each slot's own price, (T,)."""
    slope = jax.grad(lambda price: jnp.sum(value(price)))

    def halve(_, bracket):
        low, high = bracket
        middle = 0.5 * (low + high)
        rising = slope(middle) > 0
        return jnp.where(rising, middle, low), jnp.where(rising, high, middle)

    halvings = 24 if low.dtype == jnp.float32 else 52
    low, high = jax.lax.fori_loop(0, halvings, halve, (low, high))
    return 0.5 * (low + high)


def _pool(community: Community) -> tuple[Array, Array]:
    """(N,) EUR/kWh and kW: what separates a home's price from the pool's, and what it can trade."""
    market, size = community.market, community.size
    fee, limit = market.fee, market.limit
    if fee.shape[0] == 0:
        return jnp.zeros((size,), fee.dtype), jnp.zeros((size,), fee.dtype)
    each = market.fee_in_pool()
    return jnp.where(jnp.isfinite(each), 0.5 * each, 0), jnp.sum(limit, axis=0)


def _homes(
    community: Community, horizon: Horizon, row_price: Array | None, unserved_price: Array | None
) -> _Homes:
    prosumers, feeder = community.prosumers, community.feeder
    shift = jnp.zeros_like(horizon.load)
    if row_price is not None:
        if not feeder.rows:
            raise ValueError("row_price needs a community with a feeder")
        shift = feeder.at_homes(feeder.bus_price(row_price), community.size)
    half_fee, trade_limit = _pool(community)
    unlimited = jnp.full_like(prosumers.buy_max, jnp.inf)
    known = unserved_price is not None
    vehicles, plugs = prosumers.vehicles, horizon.plugs
    return _Homes(
        load=horizon.load,
        pv=horizon.pv,
        shift=shift,
        share=prosumers.load_flex_share,
        flex_cost=prosumers.load_flex_cost,
        curtailment_cost=prosumers.curtailment_cost,
        half_fee=half_fee,
        trade_limit=trade_limit,
        buy_max=prosumers.buy_max if known else unlimited,
        sell_max=prosumers.sell_max if known else unlimited,
        unserved=jnp.asarray(unserved_price if known else 0, horizon.load.dtype),
        battery=prosumers.battery,
        vehicles=None if vehicles is None else vehicles.plugged(present(plugs)),
        begun=None if vehicles is None else begun(present(plugs)),
    )


def _has_limits(community: Community, unserved_price) -> bool:
    """Whether a trade or connection has a finite limit that counts; True also while traced."""
    limits = [community.market.limit]
    if unserved_price is not None:
        limits += [community.prosumers.buy_max, community.prosumers.sell_max]
    if any(isinstance(limit, jax.core.Tracer) for limit in limits):
        return True
    edges, *connections = (np.asarray(limit) for limit in limits)
    trades = edges.sum(axis=0)
    return any(bool(np.isfinite(limit).any()) for limit in (trades[trades > 0], *connections))


def lower_bound(
    community: Community,
    horizon: Horizon,
    *,
    storage_value: Array,
    terminal_price,
    vehicle_value: Array | None = None,
    row_price: Array | None = None,
    unserved_price=None,
) -> LowerBound:
    """The bound that these multipliers prove, with the best market prices for them.

    `storage_value`: m, (T, N) EUR/kWh, any numbers; ignored for homes without a battery.
    `terminal_price`: v_T, EUR/kWh: every policy is paid v_T (E_T - E_0), and as much for what it charges in
    stays that are still open at the end.
    `vehicle_value`: m of the vehicles, (T, K, N) EUR/kWh, any numbers; None: v_T.
    `row_price`: y, (T, R) EUR/kWh, y > 0 at an upper limit; None leaves the network out. With
    |y_r| <= kappa_r the bound holds for cost plus penalty, and thus for the cost of every policy
    that keeps the network limits; without y it holds without penalties.
    `unserved_price`: u, EUR/kWh on top of the tariffs, of what the connection limits leave unserved; None
    leaves these limits out. Either way the bound holds for cost plus the cost of what is unserved.
    """
    require_match(community, horizon)
    return _lower_bound(
        community,
        horizon,
        _worth(horizon, storage_value, vehicle_value, terminal_price),
        jnp.asarray(terminal_price, horizon.load.dtype),
        row_price,
        None if unserved_price is None else jnp.asarray(unserved_price, horizon.load.dtype),
        limited=_has_limits(community, unserved_price),
    )


def _worth(horizon: Horizon, storage_value, vehicle_value, terminal_price) -> _Worth:
    """m, v_T where it is not given."""
    constant = lambda like: jnp.full(like.shape, terminal_price, horizon.load.dtype)
    if storage_value is None:
        storage_value = constant(horizon.load)
    if vehicle_value is None and horizon.plugs is not None:
        vehicle_value = constant(horizon.plugs.floor)
    return _Worth(storage_value, vehicle_value)


def _best_priced(
    community, horizon, worth: _Worth, terminal_price, row_price, unserved_price, *, limited: bool
):
    homes = _homes(community, horizon, row_price, unserved_price)
    buy, sell = horizon.price_buy, horizon.price_sell
    alone = None if limited else _balance_price(homes, worth, None)

    def market_value(price):
        market = _Market(price, buy, sell)
        own = _balance_price(homes, worth, market) if alone is None else alone
        return _market_value(homes, worth, own, market)

    price = _best_price(market_value, *_pool_range(homes, buy, sell, limited=limited))
    slot = jnp.sum(market_value(price), axis=1)
    if row_price is not None:
        reach = community.reach(horizon.pv)
        offset, lower, upper = community.feeder.limits(community.network, horizon.grid_base, reach)
        # an unlimited row has y = 0, and 0 inf is no number
        at_upper = jnp.where(row_price > 0, row_price * upper, 0.0)
        at_lower = jnp.where(row_price < 0, -row_price * lower, 0.0)
        slot = slot + jnp.sum(row_price * offset - at_upper + at_lower, axis=1)
    slot = horizon.slot_hours * slot
    storage = _stored(homes, worth, terminal_price)
    return LowerBound(jnp.sum(slot) + storage, slot, storage, worth.battery, price, worth.vehicles)


_lower_bound = Lowered(_best_priced, static=("limited",))


def best_lower_bound(
    community: Community,
    horizon: Horizon,
    *,
    terminal_price,
    storage_value: Array | None = None,
    vehicle_value: Array | None = None,
    row_price: Array | None = None,
    unserved_price=None,
    steps: int = 800,
) -> LowerBound:
    """The best bound that `steps` supergradient steps find; never worse than the one it starts from.

    It starts from `storage_value` and `vehicle_value` (such as the duals of perfect foresight, which are
    optimal) or from v_T everywhere. See `lower_bound` for the arguments.
    """
    require_match(community, horizon)
    fixed = {"terminal_price": terminal_price, "row_price": row_price, "unserved_price": unserved_price}
    start = _worth(horizon, storage_value, vehicle_value, terminal_price)
    bound = lambda m: lower_bound(
        community, horizon, storage_value=m.battery, vehicle_value=m.vehicles, **fixed
    )
    first = bound(start)
    if steps == 0:
        return first
    limited = _has_limits(community, unserved_price)
    index, owners, surplus, deficit = _split(
        _homes(community, horizon, row_price, unserved_price), horizon, limited=limited
    )
    if index.size == 0:
        return first
    x = (first.pool_price, jax.tree.map(lambda m: m[..., index], start))
    improved = _ascend(owners, surplus, deficit, horizon, terminal_price, *x, steps=steps, limited=limited)
    last = bound(jax.tree.map(lambda m, better: m.at[..., index].set(better), start, improved))
    return last if last.value_eur > first.value_eur else first


def _split(
    homes: _Homes, horizon: Horizon, *, limited: bool
) -> tuple[np.ndarray, _Homes, np.ndarray, np.ndarray]:
    """Index and data of the homes that decide something, and the surplus and deficit of the others, (T,) kW.

    On the host. A home without battery and elastic load has a fixed p if its PV is used at every price; with
    limits of its own it still has a price of its own.
    """
    homes = jax.tree.map(np.asarray, homes)
    battery = homes.battery
    decides = battery.owned | limited | (homes.share > 0) & (homes.load != 0).any(axis=0)
    if homes.vehicles is not None:
        decides |= homes.vehicles.owned.any(axis=(0, 1))
    lowest = np.asarray(horizon.price_sell)[:, None] - homes.shift
    decides |= ((homes.pv > 0) & (lowest < -homes.curtailment_cost[None, :])).any(axis=0)
    index = np.flatnonzero(decides)
    net = homes.pv[:, ~decides] - homes.load[:, ~decides]
    owners = jax.tree.map(lambda x: x[..., index] if x.ndim else x, homes)
    return index, owners, np.maximum(net, 0).sum(axis=1), np.maximum(-net, 0).sum(axis=1)


_LEVELS = (1, 8, 64, 512)  # slots that share a correction of m


@partial(jax.jit, static_argnames=("steps", "limited"))
def _ascend(
    owners, surplus, deficit, horizon, terminal_price, price, start: _Worth, *, steps: int, limited: bool
) -> _Worth:
    """Adam (Kingma and Ba 2015) on the bound in m and pi jointly, best iterate kept; m in EUR/kWh.

    The optimal m only moves where a battery is full or empty, so single entries of m would have to
    drag their neighbours along one step at a time. m is therefore a sum of corrections that are constant
    over 1, 8, 64 and 512 slots. Steps shrink from 3 % to 0.03 % of the price range.
    """
    buy, sell = horizon.price_buy, horizon.price_sell
    length, dtype = start.battery.shape[0], start.battery.dtype
    terminal_price = jnp.asarray(terminal_price, dtype)
    # of the summed homes: too small is still a bound
    half_fee = jnp.min(jnp.where(owners.trade_limit > 0, owners.half_fee, jnp.inf))
    scale = jnp.maximum(jnp.max(buy) - jnp.min(sell), jnp.asarray(1e-6, dtype))

    least, most = _pool_range(owners, buy, sell, limited=limited)

    def bound(price, m):
        market = _Market(price, buy, sell)
        own = _balance_price(owners, m, market if limited else None)
        value = jnp.sum(_market_value(owners, m, own, market), axis=1)
        if not limited:
            value += deficit * jnp.minimum(buy, price + half_fee)
            value -= surplus * jnp.maximum(sell, price - half_fee)
        stored = _stored(owners, m, terminal_price)
        return horizon.slot_hours * jnp.sum(value) + stored

    def m_of(levels):
        m = start
        for width, level in zip(_LEVELS, levels, strict=True):
            m = jax.tree.map(lambda m, x, width=width: m + jnp.repeat(x, width, axis=0)[:length], m, level)
        return m

    ascent = jax.value_and_grad(lambda x: bound(x[0], m_of(x[1])))

    def step(carry, count):
        x, mean, square, best, best_value = carry
        value, slope = ascent(x)
        better = value > best_value
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), x, best)
        done = count.astype(dtype)
        rate = 0.03 * scale * 0.01 ** (done / steps)
        mean = jax.tree.map(lambda a, g: 0.9 * a + 0.1 * g, mean, slope)
        square = jax.tree.map(lambda a, g: 0.99 * a + 0.01 * g * g, square, slope)
        fade, fade_square = 1 - 0.9 ** (done + 1), 1 - 0.99 ** (done + 1)

        def move(v, a, q):
            return v + rate * (a / fade) / (jnp.sqrt(q / fade_square) + 1e-12)

        pool, levels = jax.tree.map(move, x, mean, square)
        x = (jnp.clip(pool, least, most), levels)
        return (x, mean, square, best, jnp.maximum(value, best_value)), None

    zeros = lambda width: jax.tree.map(lambda m: jnp.zeros((-(-length // width), *m.shape[1:]), dtype), start)
    levels = [zeros(width) for width in _LEVELS]
    x = (price, levels)
    zero = jax.tree.map(jnp.zeros_like, x)
    carry = (x, zero, zero, x, jnp.asarray(-jnp.inf, dtype))
    (_, _, _, best, _), _ = jax.lax.scan(step, carry, jnp.arange(steps))
    return m_of(best[1])
