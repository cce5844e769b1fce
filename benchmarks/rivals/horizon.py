"""The horizon as a quadratic program with every variable of every member, from the model alone, by Clarabel.

It shares nothing with `jaxp2p.hindsight`: no sums, no rounds of rows, no variable left out. Slow, and right.
"""

import clarabel
import numpy as np
from scipy import sparse

from jaxp2p.model.types import Community, Horizon


class _Program:
    """Variables with bounds and costs, and rows of triplets."""

    def __init__(self) -> None:
        self.low, self.high, self.cost, self.curve = [], [], [], []
        self.rows, self.columns, self.values, self.rhs, self.equal = [], [], [], [], []

    def variable(self, shape, low=0.0, high=np.inf, cost=0.0, curve=0.0) -> np.ndarray:
        number = np.arange(int(np.prod(shape))).reshape(shape) + len(self.low)
        for store, value in ((self.low, low), (self.high, high), (self.cost, cost), (self.curve, curve)):
            store.extend(np.broadcast_to(value, shape).ravel())
        return number

    def row(self, terms, rhs: float, *, equal: bool) -> None:
        for column, value in terms:
            self.rows.append(len(self.rhs))
            self.columns.append(column)
            self.values.append(value)
        self.rhs.append(rhs)
        self.equal.append(equal)

    def solve(self) -> float:
        low, high, size = np.array(self.low), np.array(self.high), len(self.low)
        matrix = sparse.csr_array((self.values, (self.rows, self.columns)), shape=(len(self.rhs), size))
        eye, equal, rhs = sparse.identity(size, format="csr"), np.array(self.equal, bool), np.array(self.rhs)
        fixed = low == high
        has_low, has_high = np.isfinite(low) & ~fixed, np.isfinite(high) & ~fixed
        parts = [matrix[equal], eye[fixed], matrix[~equal], -eye[has_low], eye[has_high]]
        bound = np.concatenate([rhs[equal], low[fixed], rhs[~equal], -low[has_low], high[has_high]])
        equalities = int(equal.sum() + fixed.sum())
        cones = [clarabel.ZeroConeT(equalities), clarabel.NonnegativeConeT(len(bound) - equalities)]
        settings = clarabel.DefaultSettings()
        settings.verbose, settings.max_threads = False, 1
        settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-9
        curve = sparse.csc_array(sparse.diags_array(np.array(self.curve)))
        everything = sparse.csc_array(sparse.vstack(parts))
        found = clarabel.DefaultSolver(curve, np.array(self.cost), everything, bound, cones, settings).solve()
        if str(found.status) not in ("Solved", "AlmostSolved"):
            raise RuntimeError(f"the reference ended with {found.status}")
        return found.obj_val


def horizon_optimum(
    community: Community,
    horizon: Horizon,
    *,
    terminal_price: float,
    row_penalty: float,
    unserved_price: float,
) -> float:
    """EUR: least cost plus unserved energy plus row penalties less the worth of the energy gained.

    Charging and discharging at once is allowed, as in perfect foresight; the market is the real one.
    """
    program, homes, battery = _Program(), community.prosumers, community.prosumers.battery
    dt, shape = float(horizon.slot_hours), horizon.load.shape
    load, pv = np.asarray(horizon.load), np.asarray(horizon.pv)
    buy, sell = np.asarray(horizon.price_buy)[:, None], np.asarray(horizon.price_sell)[:, None]
    eta_c, eta_d = np.asarray(battery.charge_efficiency), np.asarray(battery.discharge_efficiency)
    powered = np.asarray(battery.charge_max + battery.discharge_max) > 0
    flex = homes.load_flex_share * load

    used = program.variable(shape, high=pv, cost=-dt * homes.curtailment_cost)
    moved = program.variable(shape, low=-flex, high=flex, curve=2 * dt * homes.load_flex_cost)
    charge = program.variable(shape, high=battery.charge_max, cost=dt * battery.wear_cost * eta_c)
    discharge = program.variable(shape, high=battery.discharge_max, cost=dt * battery.wear_cost / eta_d)
    last = np.zeros(shape)
    last[-1] = -terminal_price
    energy = program.variable(
        shape,
        low=np.where(powered, battery.energy_min, -np.inf),
        high=np.where(powered, battery.energy_max, np.inf),
        cost=last,
    )
    bought = program.variable(shape, high=homes.buy_max, cost=dt * buy)
    sold = program.variable(shape, high=homes.sell_max, cost=-dt * sell)
    short = program.variable(shape, cost=dt * (buy + unserved_price))
    spilled = program.variable(shape, cost=dt * (unserved_price - sell))
    constant = dt * float((homes.curtailment_cost * pv).sum())
    constant += terminal_price * float(np.sum(battery.energy_start))
    traded = _trade(program, community, shape, dt)

    slots, size = shape
    for t in range(slots):
        for i in range(size):
            before = [(energy[t - 1, i], -battery.retention[i])] if t else []
            program.row(
                [
                    (energy[t, i], 1.0),
                    (charge[t, i], -dt * eta_c[i]),
                    (discharge[t, i], dt / eta_d[i]),
                    *before,
                ],
                0.0 if t else float(battery.retention[i] * battery.energy_start[i]),
                equal=True,
            )
            injection = _injection(used, moved, charge, discharge, t, i)
            exchange = [(sold[t, i], -1.0), (bought[t, i], 1.0), (spilled[t, i], -1.0), (short[t, i], 1.0)]
            program.row([*injection, *exchange, *traded[t][i]], load[t, i], equal=True)
    if community.feeder.rows:
        _network(program, community, horizon, row_penalty, (used, moved, charge, discharge))
    return program.solve() + constant


def _injection(used, moved, charge, discharge, t: int, i: int):
    """The terms of p + l_ref."""
    return [(used[t, i], 1.0), (moved[t, i], -1.0), (charge[t, i], -1.0), (discharge[t, i], 1.0)]


def _trade(program: _Program, community: Community, shape, dt: float):
    """Per slot and member the terms - sum_j e_ij."""
    market, (slots, size) = community.market, shape
    terms = [[[] for _ in range(size)] for _ in range(slots)]
    fee, limit = np.asarray(market.fee), np.asarray(market.limit)
    for t in range(slots):
        if market.kind == "pool":
            out, into = (program.variable(size, high=limit[0], cost=dt * fee[0] / 2) for _ in range(2))
            program.row([*((o, 1.0) for o in out), *((o, -1.0) for o in into)], 0.0, equal=True)
            for i in range(size):
                terms[t][i] = [(out[i], -1.0), (into[i], 1.0)]
        elif market.kind == "bilateral":
            partner, reverse = np.asarray(market.partner), np.asarray(market.reverse)
            for k, i in np.ndindex(partner.shape):
                if reverse[k, i] > k * size + i and limit[k, i] > 0:  # every edge once
                    j = partner[k, i]
                    there, back = program.variable(2, high=limit[k, i], cost=dt * fee[k, i])
                    terms[t][i] += [(there, -1.0), (back, 1.0)]
                    terms[t][j] += [(there, 1.0), (back, -1.0)]
    return terms


def _network(program: _Program, community: Community, horizon: Horizon, penalty: float, devices) -> None:
    """Voltages and flows of the model, each row divided by its largest entry; all members are flexible."""
    grid, bus, dt = community.network, np.asarray(community.prosumers.bus), float(horizon.slot_hours)
    voltage = 2 * np.asarray(grid.paths.matrices().resistance)[:, bus]
    flow = np.asarray(grid.paths.matrices().downstream)[:, bus]
    low, high = np.asarray(grid.voltage_min) ** 2, np.asarray(grid.voltage_max) ** 2
    load = np.asarray(horizon.load)
    for t in range(horizon.slots):
        room = np.sqrt(np.asarray(grid.rating) ** 2 - np.asarray(horizon.flow_reactive)[t] ** 2)
        rows = [(voltage[n], horizon.voltage_base[t, n], low[n], high[n]) for n in range(len(low))]
        rows += [(flow[k], horizon.flow_base[t, k], -room[k], room[k]) for k in range(len(room))]
        for weight, base, lower, upper in rows:
            largest = np.abs(weight).max(initial=0)
            if largest == 0:
                continue
            violation = program.variable((), cost=dt * penalty)[()]
            known = base - weight @ load[t]
            for side, limit in ((1.0, upper), (-1.0, lower)):
                if not np.isfinite(limit):
                    continue
                terms = [
                    (column, side * weight[i] / largest * sign)
                    for i in range(len(bus))
                    for column, sign in _injection(*devices, t, i)
                ]
                rhs = side * (limit - known) / largest
                program.row([*terms, (violation, -1.0)], rhs, equal=False)
