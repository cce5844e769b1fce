"""The whole horizon as one QP, with the members that have nothing to decide summed up exactly.

Given the net injections p of a slot, the cheapest clearing of a pool with fee gamma depends on two sums,
S = sum p^+ and D = sum p^-:

    cost / dt = b (D - v) - s (S - v) + gamma v,      0 <= v <= S,   v <= D          (no market: v = 0)

and raising p^+ and p^- together costs min(b - s, gamma) >= 0, so the split p = p^+ - p^- needs no binary.
Per (slot, home) only what can matter becomes a variable: p^+ where the sign of p is open, and curtailment
where it could pay. Where connection or trade limits could bind, in a slot, the members whose limits that can
reach get the full list (buy, sell, short, spilled, sold and bought in the pool), unless their p is given:
then their offers to the pool are added up by price (`merit`), which is exact as well.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxp2p.hindsight.horizon_data import HorizonData, NetworkRows
from jaxp2p.hindsight.merit import exchange, exchange_cost, merit_order, segments, worth_of_fixed
from jaxp2p.hindsight.quadratic_program import QPSolution, QuadraticProgram


class HorizonSolution(NamedTuple):
    """Interior-point answer, not yet cleaned of rounding; powers in kW, prices in EUR/kWh."""

    curtail: np.ndarray  # (T, N)
    shift: np.ndarray  # (T, N) load above its reference
    charge: np.ndarray  # (T, B, N) of batteries and vehicles
    discharge: np.ndarray  # (T, B, N)
    energy: np.ndarray  # (T, B, N) kWh at the end of the slot
    price: np.ndarray  # (T,) of a traded kWh
    market_price: np.ndarray  # (T, N) mu_i, worth of one more kWh injected, before the network
    storage_dual: np.ndarray  # (T, B, N) worth of a stored kWh
    row_dual: np.ndarray  # (T, R) y, positive at an upper limit
    solver: QPSolution

    def injection(self, data: HorizonData) -> np.ndarray:
        """p (T, N) kW."""
        moved = self.discharge.sum(1) - self.charge.sum(1)
        return data.pv - self.curtail - data.load - self.shift + moved

    def nodal_price(self, data: HorizonData) -> np.ndarray:
        """nu (T, N), what the devices see."""
        return self.market_price - self.row_dual @ data.response


def solve_horizon(
    data: HorizonData,
    network_rows: NetworkRows,
    *,
    tolerance: float = 1e-8,
    told: Callable[[int], None] = lambda iteration: None,
) -> HorizonSolution:
    """Solve the horizon under these network rows; charging and discharging at once is not excluded.

    tolerance, relative, of the interior point; `told` hears of its iterations.
    """
    qp, dt, storage = QuadraticProgram(), data.slot_hours, data.storage
    buy, sell = data.price_buy[:, None], data.price_sell[:, None]
    high = data.pv - data.load + data.shift_max + storage.discharge_max.sum(1)
    spills = high > data.sell_max  # may
    has_rows = np.zeros((len(buy), 1), bool)
    has_rows[network_rows.slot] = True

    # Devices. A kWh is worth at least s to whoever can sell it: PV is curtailed where that may fail.
    closes = spills.any(1, keepdims=True) & np.isfinite(data.sell_max) if data.trading else spills
    may_curtail = (data.pv > 0) & (has_rows | closes | (sell + data.curtailment_cost < 0))
    curtail = qp.variables(may_curtail, upper=data.pv)
    shift = qp.variables(
        data.shift_max > 0, lower=-data.shift_max, upper=data.shift_max, quadratic=2 * dt * data.shift_cost
    )
    owned = storage.owned
    charge, discharge, energy, storage_rows = storage.columns(qp, owned, hours=dt)
    qp.add_cost(curtail, dt * data.curtailment_cost)
    charge_wear, discharge_wear = storage.wear_rates
    qp.add_cost(charge, dt * charge_wear)
    qp.add_cost(discharge, dt * discharge_wear)
    qp.add_cost(energy[-1], -data.terminal_price)
    qp.constant += data.terminal_price @ (data.begun * owned[-1]).sum(0)

    # Injection p = base + the terms; p^+ is a variable only where the sign is open, p^- = p^+ - p.
    base = data.pv - data.load
    terms = [(curtail, -1.0), (shift, -1.0)]
    for place in range(owned.shape[1]):
        terms += [(discharge[:, place], 1.0), (charge[:, place], -1.0)]
    low = base - data.shift_max - storage.charge_max.sum(1) - np.where(may_curtail, data.pv, 0.0)
    members = _sort_members(data, low, high, moves=np.any([index >= 0 for index, _ in terms], axis=0))
    summed, own = members.summed, members.own
    exports, imports = summed & (low >= 0), summed & (low < 0) & (high <= 0)
    open_sign = summed & (low < 0) & (high > 0)
    splitting_cost = np.minimum(buy - sell, data.fee) if data.trading else buy - sell
    # Where splitting is free p^+ would wander off to infinity: give it the bound that it has anyway.
    export = qp.variables(open_sign, upper=np.where(splitting_cost > 1e-6, np.inf, high))
    import_rows = qp.rows(-base, mask=open_sign)
    qp.put(import_rows, export, -1.0)
    for index, sign in terms:
        qp.put(import_rows, index, sign)
    imports_p = imports | open_sign  # where p itself enters D = sum p^-
    total_export = (exports * base).sum(1), [(export, 1.0)] + [(i, c * exports) for i, c in terms]
    total_import = -(imports_p * base).sum(1), [(export, 1.0)] + [(i, -c * imports_p) for i, c in terms]

    for (constant, parts), price in ((total_export, -data.price_sell), (total_import, data.price_buy)):
        qp.constant += dt * price @ constant
        for index, sign in parts:
            qp.add_cost(index, dt * price[:, None] * sign)
    alone = exchange_cost(data, *exchange(data, base))
    qp.constant += float(dt * alone[members.fixed].sum())

    own_rows = qp.rows(-base, equality=True, mask=own)
    big = 1 + 2 * np.maximum(np.abs(low), np.abs(high)).sum(1, keepdims=True)  # no useful exchange is larger
    for index, sign in terms:
        qp.put(own_rows, index, sign)
    for direction, limit, price, mask in (
        (1, data.sell_max, -sell, own),
        (-1, data.buy_max, buy, own),
        (1, np.inf, data.unserved_price - sell, own & np.isfinite(data.sell_max)),  # spilled
        (-1, np.inf, data.unserved_price + buy, own & np.isfinite(data.buy_max)),  # short
    ):
        index = qp.variables(mask, upper=np.minimum(limit, big))
        qp.put(own_rows, index, -direction)
        qp.add_cost(index, dt * price)
    clearing = _add_trade(qp, data, (total_export, total_import), members, own_rows, base, big)

    slack = qp.variables(np.ones(network_rows.slot.shape, bool))
    qp.add_cost(slack, dt * data.row_penalty)
    limit_rows = _add_network(qp, data, network_rows, base, terms, slack)

    scale = dt * max(np.abs(data.price_buy).max(), np.abs(data.price_sell).max(), 1e-3)
    found = qp.solve(scale=scale, tolerance=tolerance, told=told)
    worth_export, worth_import, price = clearing.prices(found, data)
    market_price = np.where(exports, worth_export[:, None], worth_import[:, None])
    market_price -= found.dual(import_rows) / dt
    market_price = np.where(own, -found.dual(own_rows) / dt, market_price)
    market_price = np.where(members.fixed, worth_of_fixed(data, base, price), market_price)
    row_dual = np.zeros(data.offset.shape)
    np.add.at(
        row_dual, (network_rows.slot, network_rows.row), network_rows.side * found.dual(limit_rows) / dt
    )
    return HorizonSolution(
        curtail=found.value(curtail),
        shift=found.value(shift),
        charge=found.value(charge),
        discharge=found.value(discharge),
        energy=found.value(energy),
        price=price,
        market_price=market_price,
        storage_dual=found.dual(storage_rows),
        row_dual=row_dual,
        solver=found,
    )


class _Members(NamedTuple):
    """How members enter, (T, N) bool, one of the three everywhere; where limits can matter, (T,) bool."""

    summed: np.ndarray  # no limit of his can matter: p^+ and p^- in the sums S and D
    own: np.ndarray  # variables of his own
    fixed: np.ndarray  # limits, but a given p: his segments are added up by price
    short: np.ndarray  # somebody may need more than he may buy
    spill: np.ndarray  # somebody may have more than he may sell


def _sort_members(data: HorizonData, low: np.ndarray, high: np.ndarray, *, moves: np.ndarray) -> _Members:
    """low, high (T, N) kW, what p can be; moves (T, N) bool, whether it can change.

    Where somebody may run short, everybody may have to buy for him, within his own limits: whoever has one
    that this can reach is no longer in the sums. Where somebody may have to spill, likewise.
    """
    runs_short: np.ndarray = np.greater(-low, data.buy_max)
    spills: np.ndarray = np.greater(high, data.sell_max)
    limited: np.ndarray = np.logical_or(runs_short, spills)
    short, spill = (np.any(who, axis=1) & data.trading for who in (runs_short, spills))
    if data.trading:
        in_trade = np.isfinite(data.trade_limit)
        limited |= np.maximum(-low, high) > data.trade_limit
        limited |= short[:, None] & (np.isfinite(data.buy_max) | in_trade)
        limited |= spill[:, None] & (np.isfinite(data.sell_max) | in_trade)
    return _Members(~limited, limited & moves, limited & ~moves, short, spill)


class _Trade(NamedTuple):
    sold_rows: np.ndarray  # (T,)
    bought_rows: np.ndarray  # (T,)
    balance_rows: np.ndarray  # (T,)

    def prices(self, found: QPSolution, data: HorizonData):
        """Worth of an exported and of an imported kWh, and the trade price between them, each (T,)."""
        dt = data.slot_hours
        worth_export = data.price_sell + found.dual(self.sold_rows) / dt
        worth_import = data.price_buy - found.dual(self.bought_rows) / dt
        price = -found.dual(self.balance_rows) / dt
        return (
            worth_export,
            worth_import,
            np.where(self.balance_rows >= 0, price, (worth_export + worth_import) / 2),
        )


def _add_trade(
    qp: QuadraticProgram, data: HorizonData, totals, members: _Members, own_rows, base, big
) -> _Trade:
    """The pool: what everybody sells is what everybody buys.

    Offers by what they cost (`merit_order`): energy that would be spilled, that would be sold, that has to be
    bought; and by what they save: that is short, that would be bought, that can be sold on. The first and
    the last of these three only where somebody's limits can bind.
    """
    dt = data.slot_hours
    (export_sum, export_parts), (import_sum, import_parts) = totals
    has_export = (export_sum > 0) | _any_variable(export_parts)
    has_import = (import_sum > 0) | _any_variable(import_parts)
    pays = (data.price_buy - data.price_sell > data.fee) & has_export & has_import
    special = (members.own | members.fixed).any(1)
    active = (pays | special) & data.trading
    resale = members.summed.any(1) & active
    offers = segments(data, base, big)
    sale, purchase = (
        tuple((part * (members.fixed & active[:, None])).sum(1) for part in side)
        for side in (offers.sale, offers.purchase)
    )
    costs, savings = merit_order(data)
    unlimited = np.full(len(active), np.inf)
    trade_out, trade_in = (
        qp.variables(members.own & active[:, None], upper=np.minimum(data.trade_limit, big)) for _ in range(2)
    )
    for index in (trade_out, trade_in):
        qp.add_cost(index, dt * data.fee / 2)
    balance_rows = qp.rows(np.zeros(len(active)), equality=True, mask=active)
    limit_rows: list[np.ndarray] = []
    for sign, fixed, prices, (total, parts), has, helps in (
        (1, sale, costs, totals[0], has_export, members.short),
        (-1, purchase, -savings, totals[1], has_import, members.spill),
    ):
        relief = qp.variables(fixed[0] > 0, upper=fixed[0])
        usual = qp.variables(active & (has | (fixed[1] > 0)), upper=np.where(special, big[:, 0], np.inf))
        extra = qp.variables(
            active & helps & (resale | (fixed[2] > 0)),
            upper=np.minimum(np.where(resale, unlimited, fixed[2]), big[:, 0]),
        )
        for index, rate in zip((relief, usual, extra), prices, strict=True):
            qp.add_cost(index, dt * (rate + data.fee / 2))
            qp.put(balance_rows, index, sign)
        rows = qp.rows(total + fixed[1], mask=usual >= 0)
        qp.put(rows, usual, 1.0)
        for index, coefficient in parts:
            qp.put(rows[:, None], index, -np.asarray(coefficient))
        limit_rows.append(rows)
    for index, sign in ((trade_out, 1), (trade_in, -1)):
        qp.put(balance_rows[:, None], index, sign)
        qp.put(own_rows, index, -sign)
    sold_rows, bought_rows = limit_rows
    return _Trade(sold_rows, bought_rows, balance_rows)


def _any_variable(parts) -> np.ndarray:
    """(T,) whether a variable takes part in the sum of a slot."""
    return np.any([((index >= 0) & (np.asarray(sign) != 0)).any(1) for index, sign in parts], axis=0)


def _add_network(qp: QuadraticProgram, data: HorizonData, network_rows: NetworkRows, base, terms, slack):
    """side (offset + response p) - slack <= side limit; returns the row numbers (M,)."""
    slot, row, side = network_rows
    response = data.response[row] * side[:, None]  # (M, N)
    limit = np.where(side > 0, data.upper[slot, row], data.lower[slot, row])
    rows = qp.rows(side * (limit - data.offset[slot, row]) - (response * base[slot]).sum(1))
    qp.put(rows, slack, -1.0)
    for index, sign in terms:
        qp.put(rows[:, None], index[slot], sign * response)
    return rows
