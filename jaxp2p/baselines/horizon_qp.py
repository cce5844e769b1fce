"""The whole horizon as one QP, with the members that have nothing to decide summed up exactly.

Given the net injections p of a slot, the cheapest clearing of a pool with fee gamma depends on two sums,
S = sum p^+ and D = sum p^-:

    cost / dt = b (D - v) - s (S - v) + gamma v,      0 <= v <= S,   v <= D          (no market: v = 0)

and raising p^+ and p^- together costs min(b - s, gamma) >= 0, so the split p = p^+ - p^- needs no binary.
Per (slot, home) only what can matter becomes a variable: p^+ where the sign of p is open, curtailment where
it could pay, and the full list (buy, sell, trade, unserved) where an exchange or trade limit could bind.
"""

from typing import NamedTuple

import numpy as np

from jaxp2p.baselines.quadratic_program import QPSolution, QuadraticProgram


class HorizonData(NamedTuple):
    """The horizon in float64 numpy; symbols as in the slot model."""

    slot_hours: float  # h
    load: np.ndarray  # (T, N) kW
    pv: np.ndarray  # (T, N) kW
    price_buy: np.ndarray  # (T,) EUR/kWh
    price_sell: np.ndarray  # (T,) EUR/kWh
    trading: bool  # False: market "none"
    fee: float  # EUR/kWh, gamma
    trade_limit: np.ndarray  # (N,) kW, bound on |sum_j e_ij|
    buy_max: np.ndarray  # (N,) kW
    sell_max: np.ndarray  # (N,) kW
    unserved_price: float  # EUR/kWh
    curtailment_cost: np.ndarray  # (N,) EUR/kWh
    shift_max: np.ndarray  # (T, N) kW by which the load may move either way
    shift_cost: np.ndarray  # (N,) EUR/(kW^2 h)
    storage: np.ndarray  # (N,) bool, a battery that can move energy
    charge_max: np.ndarray  # (N,) kW, 0 without storage
    discharge_max: np.ndarray  # (N,) kW
    energy_min: np.ndarray  # (N,) kWh
    energy_max: np.ndarray  # (N,) kWh
    energy_start: np.ndarray  # (N,) kWh
    charge_efficiency: np.ndarray  # (N,)
    discharge_efficiency: np.ndarray  # (N,)
    retention: np.ndarray  # (N,)
    wear_cost: np.ndarray  # (N,) EUR/kWh
    terminal_price: np.ndarray  # (N,) EUR/kWh, v_T
    row_penalty: float  # EUR/kWh
    response: np.ndarray  # (R, N) kW of the row per kW of injection
    offset: np.ndarray  # (T, R) kW
    lower: np.ndarray  # (T, R) kW
    upper: np.ndarray  # (T, R) kW


class NetworkRows(NamedTuple):
    """The network limits that are in the QP: limit `side` (+1 upper, -1 lower) of row `row` in `slot`."""

    slot: np.ndarray  # (M,)
    row: np.ndarray  # (M,)
    side: np.ndarray  # (M,)


class HorizonSolution(NamedTuple):
    """Interior-point answer, not yet cleaned of rounding; powers in kW, prices in EUR/kWh."""

    curtail: np.ndarray  # (T, N)
    shift: np.ndarray  # (T, N) load above its reference
    charge: np.ndarray  # (T, N)
    discharge: np.ndarray  # (T, N)
    energy: np.ndarray  # (T, N) kWh at the end of the slot
    sold: np.ndarray  # (T,) to peers, by the members without binding limits together
    bought: np.ndarray  # (T,)
    own_trade: np.ndarray  # (T, N) net sale to peers of a member whose limits could bind
    own: np.ndarray  # (T, N) bool, where those are
    price: np.ndarray  # (T,) of a traded kWh
    price_market: np.ndarray  # (T, N) mu_i, worth of one more kWh injected, before the network
    storage_dual: np.ndarray  # (T, N) worth of a stored kWh
    row_dual: np.ndarray  # (T, R) y, positive at an upper limit
    solver: QPSolution


def solve_horizon(data: HorizonData, network_rows: NetworkRows) -> HorizonSolution:
    """Solve the horizon under these network rows; charging and discharging at once is not excluded."""
    qp, dt = QuadraticProgram(), data.slot_hours
    buy, sell = data.price_buy[:, None], data.price_sell[:, None]
    low = -data.load - data.shift_max - data.charge_max
    high = data.pv - data.load + data.shift_max + data.discharge_max
    own = (-low > data.buy_max) | (high > data.sell_max)
    if data.trading:
        own |= np.maximum(-low, high) > data.trade_limit
    special = own.any(1)  # slots in which somebody may have to trade, and others to buy for him
    special_or_rows = special.copy()
    special_or_rows[network_rows.slot] = True

    # Devices. A kWh is worth at least s where no limit binds, so elsewhere PV is curtailed for no reason.
    may_curtail = (data.pv > 0) & (special_or_rows[:, None] | (sell + data.curtailment_cost < 0))
    curtail = qp.variables(may_curtail, upper=data.pv)
    shift = qp.variables(
        data.shift_max > 0, lower=-data.shift_max, upper=data.shift_max, quadratic=2 * dt * data.shift_cost
    )
    storage = np.broadcast_to(data.storage, low.shape)
    charge = qp.variables(storage, upper=data.charge_max)
    discharge = qp.variables(storage, upper=data.discharge_max)
    energy = qp.variables(storage, lower=data.energy_min, upper=data.energy_max)
    qp.add_cost(curtail, dt * data.curtailment_cost)
    qp.add_cost(charge, dt * data.wear_cost * data.charge_efficiency)
    qp.add_cost(discharge, dt * data.wear_cost / data.discharge_efficiency)
    qp.add_cost(energy[-1], -data.terminal_price)
    qp.constant += data.terminal_price @ (data.energy_start * data.storage)
    start = np.zeros(low.shape)
    start[0] = data.retention * data.energy_start
    storage_rows = qp.rows(start, equality=True, mask=storage)
    qp.put(storage_rows, energy, 1.0)
    qp.put(storage_rows[1:], energy[:-1], -data.retention)
    qp.put(storage_rows, charge, -dt * data.charge_efficiency)
    qp.put(storage_rows, discharge, dt / data.discharge_efficiency)

    # Injection p = base + the terms; p^+ is a variable only where the sign is open, p^- = p^+ - p.
    base = data.pv - data.load
    terms = ((curtail, -1.0), (shift, -1.0), (discharge, 1.0), (charge, -1.0))
    low = low + np.where(may_curtail, 0.0, data.pv)
    exports, imports = ~own & (low >= 0), ~own & (low < 0) & (high <= 0)
    open_sign = ~own & (low < 0) & (high > 0)
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

    own_rows = qp.rows(-base, equality=True, mask=own)
    big = 1 + 2 * np.maximum(-low, high).sum(1, keepdims=True)  # no useful exchange is larger
    for index, sign in terms:
        qp.put(own_rows, index, sign)
    unlimited, unserved = np.full(own.shape[1], np.inf), np.full(buy.shape, data.unserved_price)
    for direction, limit, price in (
        (1, data.sell_max, -sell),
        (-1, data.buy_max, buy),
        (1, unlimited, unserved),  # spilled
        (-1, unlimited, unserved),
    ):
        index = qp.variables(own, upper=np.minimum(limit, big))
        qp.put(own_rows, index, -direction)
        qp.add_cost(index, dt * price)
    clearing = _add_trade(qp, data, (total_export, total_import), own, own_rows, special, big)

    slack = qp.variables(np.ones(network_rows.slot.shape, bool))
    qp.add_cost(slack, dt * data.row_penalty)
    limit_rows = _add_network(qp, data, network_rows, base, terms, slack)

    scale = dt * max(np.abs(data.price_buy).max(), np.abs(data.price_sell).max(), 1e-3)
    found = qp.solve(scale=scale)
    worth_export, worth_import, price = clearing.prices(found, data)
    price_market = np.where(exports, worth_export[:, None], worth_import[:, None])
    price_market -= found.dual(import_rows) / dt
    price_market = np.where(own, -found.dual(own_rows) / dt, price_market)
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
        sold=found.value(clearing.sold),
        bought=found.value(clearing.bought),
        own_trade=found.value(clearing.trade_out) - found.value(clearing.trade_in),
        own=own,
        price=price,
        price_market=price_market,
        storage_dual=found.dual(storage_rows),
        row_dual=row_dual,
        solver=found,
    )


class _Trade(NamedTuple):
    sold: np.ndarray  # (T,) variables
    bought: np.ndarray  # (T,)
    trade_out: np.ndarray  # (T, N)
    trade_in: np.ndarray  # (T, N)
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


def _add_trade(qp: QuadraticProgram, data: HorizonData, totals, own, own_rows, special, big) -> _Trade:
    """The pool: sold <= S, bought <= D, and what everybody sells is what everybody buys.

    In `special` slots the members without binding limits may also buy from the utility for a peer, or sell
    a peer's energy on. Their limits are then kept in sum only, which can only lower the cost.
    """
    dt = data.slot_hours
    (export_sum, export_parts), (import_sum, import_parts) = totals
    shared = (~own).any(1)
    has_export = (export_sum > 0) | _any_variable(export_parts)
    has_import = (import_sum > 0) | _any_variable(import_parts)
    pays = (data.price_buy - data.price_sell > data.fee) & has_export & has_import
    active = (pays | special) & data.trading
    resale = active & special & shared
    sold = qp.variables((active & has_export) | resale, upper=np.where(resale, big[:, 0], np.inf))
    bought = qp.variables((active & has_import) | resale, upper=np.where(resale, big[:, 0], np.inf))
    buy_more, sell_on = (qp.variables(resale, upper=big[:, 0]) for _ in range(2))
    trade_out, trade_in = (
        qp.variables(own & active[:, None], upper=np.minimum(data.trade_limit, big)) for _ in range(2)
    )
    margin = data.price_buy - data.price_sell
    qp.add_cost(sold, dt * (data.price_sell + data.fee / 2))
    qp.add_cost(bought, dt * (data.fee / 2 - data.price_buy))
    for index in (buy_more, sell_on):
        qp.add_cost(index, dt * margin)
    for index in (trade_out, trade_in):
        qp.add_cost(index, dt * data.fee / 2)

    def add_total(rows, parts, sign):
        for index, coefficient in parts:
            qp.put(rows[:, None], index, sign * coefficient)

    sold_rows = qp.rows(export_sum, mask=sold >= 0)
    bought_rows = qp.rows(import_sum, mask=bought >= 0)
    for rows, volume, extra, parts in (
        (sold_rows, sold, buy_more, export_parts),
        (bought_rows, bought, sell_on, import_parts),
    ):
        qp.put(rows, volume, 1.0)
        qp.put(rows, extra, -1.0)
        add_total(rows, parts, -1.0)
    balance_rows = qp.rows(np.zeros(len(active)), equality=True, mask=active)
    qp.put(balance_rows, sold, 1.0)
    qp.put(balance_rows, bought, -1.0)
    qp.put(balance_rows[:, None], trade_out, 1.0)
    qp.put(balance_rows[:, None], trade_in, -1.0)
    qp.put(own_rows, trade_out, -1.0)
    qp.put(own_rows, trade_in, 1.0)

    # Resale within the limits of the members who do it, in sum.
    for limit, (constant, parts), traded in (
        (data.buy_max, totals[1], bought),
        (data.sell_max, totals[0], sold),
    ):
        room = np.where(own, 0.0, limit).sum(1)
        rows = qp.rows(np.where(np.isfinite(room), room - constant, 0.0), mask=resale & np.isfinite(room))
        add_total(rows, parts, 1.0)
        for index, sign in ((traded, -1.0), (buy_more, 1.0), (sell_on, 1.0)):
            qp.put(rows, index, sign)
    room = np.where(own, 0.0, data.trade_limit).sum(1)
    rows = qp.rows(np.where(np.isfinite(room), room, 0.0), mask=resale & np.isfinite(room))
    qp.put(rows, sold, 1.0)
    qp.put(rows, bought, 1.0)
    return _Trade(sold, bought, trade_out, trade_in, sold_rows, bought_rows, balance_rows)


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
