"""An independent judge of slots: a quadratic program and a price list made from the model, not from jaxp2p.

    best = optimum(problem)                                     Clarabel, PIQP where that is not close enough
    verdict = judge(problem, dispatch, status, gap, best)       wrong? a lie? a broken limit?

It reads the fields of a `SlotProblem` and of a dispatch, and none of the package's formulas. All in float64.
The optimum comes with a lower bound in closed form from the multipliers (every variable has bounds, so the
minimum of the Lagrangian is a sum of one-dimensional ones): the judge knows its own error.
"""

from typing import NamedTuple

import clarabel
import numpy as np
import scipy.sparse as sp

GAP, POWER_KW, VOLTAGE_PU = 1e-3, 0.05, 1e-4  # the pass rule of the model, section 7
FLOOR_EUR = 1e-6
SOLVED, MAX_ITER, NUMERICAL_ERROR, NETWORK_VIOLATED = range(4)
PENALTY_TOO_SMALL, NETWORK_INFEASIBLE, UNSERVED = range(4, 7)
NETWORK = (NETWORK_VIOLATED, PENALTY_TOO_SMALL, NETWORK_INFEASIBLE)
CLOSE = 1e-6  # of the scale: from this error on the second solver is asked as well


class Optimum(NamedTuple):
    """The best that can be done in a slot, penalties included."""

    value: float  # EUR, of the point that was found
    lower: float  # EUR, nothing is cheaper than this
    scale: float  # EUR, what the pass rule measures by: of the cost without row penalties
    beyond: float  # worst network row at that point, as a share of what counts as a violation
    unserved: float  # kW, short and spilled, of all homes

    @property
    def error(self) -> float:
        """EUR between the two."""
        return max(self.value - self.lower, 0.0)


class Verdict(NamedTuple):
    """One slot of one solver."""

    distance: float  # EUR, executed cost with penalties above the lower bound
    scale: float  # EUR
    gap: float  # EUR, what the solver states
    error: float  # EUR, of the judge
    rounding: float  # EUR, of the inputs' dtype
    wrong: bool  # too dear by the pass rule, or a fault
    lie: bool  # says something that is not so
    fault: str  # a broken device limit, balance, ...; "" for none
    why: str  # of the lie

    @property
    def share(self) -> float:
        """Distance over scale."""
        return self.distance / self.scale


class _Slot:
    """The fields of a problem as float64 on the host."""

    def __init__(self, problem):
        take = lambda x: np.asarray(x, float)
        self.dtype = np.asarray(problem.load).dtype
        self.dt, self.buy, self.sell = (
            float(x) for x in (problem.slot_hours, problem.price_buy, problem.price_sell)
        )
        self.load, self.load_min, self.load_max = map(
            take, (problem.load, problem.load_min, problem.load_max)
        )
        self.size = len(self.load)
        elastic = problem.load_cost is not None
        self.load_cost = take(problem.load_cost) if elastic else np.zeros(self.size)
        if not elastic:  # what is used is load_max
            self.load_min = self.load_max
        self.pv, self.curtailment = take(problem.pv_max), take(problem.curtailment_cost)
        self.charge = take(problem.charge_min), take(problem.charge_max)
        self.discharge = take(problem.discharge_min), take(problem.discharge_max)
        self.eta_c, self.eta_d = take(problem.charge_efficiency), take(problem.discharge_efficiency)
        self.wear, self.value, self.slope = map(take, (problem.wear_cost, problem.value, problem.value_slope))
        self.limited = problem.unserved_price is not None
        inf = np.full(self.size, np.inf)
        self.buy_max = take(problem.buy_max) if problem.buy_max is not None else inf
        self.sell_max = take(problem.sell_max) if problem.sell_max is not None else inf
        self.unserved = float(problem.unserved_price) if self.limited else 0.0
        self.kind = problem.market.kind
        self.fee, self.limit = take(problem.market.fee), take(problem.market.limit)
        self.reverse = np.asarray(problem.market.reverse).reshape(-1)
        self.rows = problem.feeder.rows
        if self.rows:
            feeder = problem.feeder
            self.group, self.counts = np.asarray(feeder.group), take(feeder.flexible)
            self.matrix, self.row_scale = take(feeder.matrix), take(feeder.scale)
            self.volts = len(feeder.voltage_bus)
            self.offset, self.lower, self.upper = map(
                take, (problem.row_offset, problem.row_lower, problem.row_upper)
            )
            self.penalty = float(problem.row_penalty)
            physical = np.where(np.arange(self.rows) < self.volts, 2 * VOLTAGE_PU, POWER_KW)
            self.row_tolerance = physical / self.row_scale

    @property
    def least(self):
        """(N,) kW, the lowest injection that the devices can have."""
        return self.discharge[0] - self.charge[1] - self.load_max

    @property
    def most(self):
        """(N,) kW, the highest."""
        return self.discharge[1] + self.pv - self.charge[0] - self.load_min

    def excess(self, injection):
        """(R,) kW beyond the limits."""
        if not self.rows:
            return np.zeros(0)
        at_bus = np.bincount(self.group, self.counts * injection, minlength=self.matrix.shape[1])
        value = self.offset + self.matrix @ at_bus
        return np.maximum(np.maximum(value - self.upper, self.lower - value), 0)

    def scale(self, optimum):
        """EUR, section 7 of the model."""
        have = (self.load + self.pv + self.charge[1] + self.discharge[1]).sum()
        return max(abs(optimum), self.dt * max(self.buy - self.sell, 0.01) * have * 0.1, FLOOR_EUR)

    def turn(self):
        """(N,) kW of discharge at which the value of what is left turns from negative to positive."""
        rise = self.slope * self.dt / self.eta_d
        never = np.where(self.value < 0, np.inf, 0.0)
        return np.where(rise > 0, np.maximum(-self.value, 0) / np.where(rise > 0, rise, 1), never)


class _Program:
    """minimise 1/2 x' diag(p) x + q' x + constant over A x = b, low <= x <= high; kW and EUR/h."""

    def __init__(self, s: _Slot):
        self.slot, self.blocks = s, {}
        self._low, self._high, self._p, self._q = [], [], [], []
        self._entries = []  # row, column, value
        self.constant = float(np.sum(s.curtailment * s.pv + s.load_cost * s.load**2))
        n, homes = s.size, np.arange(s.size)
        # nobody needs to exchange or pass on more than all devices together
        most = 1.05 * np.maximum(np.abs(s.least), np.abs(s.most)).sum() + 1e-6
        rise, turn = s.slope * s.dt / s.eta_d, s.turn()
        low, high = s.discharge
        # value lambda = value + rise d, times eta_c below the turn, over eta_d above it
        self._block("d_below", np.minimum(low, turn), np.minimum(high, turn), s.eta_c * rise,
                    s.wear / s.eta_d + s.eta_c * s.value)  # fmt: skip
        at_turn = np.where(np.isfinite(turn), turn, 0)
        self._block("d_above", np.maximum(low - turn, 0), np.maximum(high - turn, 0), rise / s.eta_d,
                    (s.wear + s.value + rise * at_turn) / s.eta_d)  # fmt: skip
        self._block("pv", 0 * s.pv, s.pv, 0, -s.curtailment)
        curve = s.slope * s.dt * s.eta_c**2
        self._block("charge", *s.charge, curve, s.eta_c * (s.wear - s.value))
        self._block("load", s.load_min, s.load_max, 2 * s.load_cost, -2 * s.load_cost * s.load)
        self._block("buy", np.zeros(n), np.minimum(s.buy_max, most), 0, s.buy)
        self._block("sell", np.zeros(n), np.minimum(s.sell_max, most), 0, -s.sell)
        if s.limited:
            self._block("short", np.zeros(n), np.full(n, most), 0, s.buy + s.unserved)
            self._block("spilled", np.zeros(n), np.full(n, most), 0, s.unserved - s.sell)
        signs = {"d_below": 1, "d_above": 1, "pv": 1, "charge": -1, "load": -1}
        for name, sign in {**signs, "buy": 1, "short": 1, "sell": -1, "spilled": -1}.items():
            if name in self.blocks:
                self._put(homes, name, homes, sign)
        self.height, self.right = n, [np.zeros(n)]
        self._trades(homes, most)
        if s.rows:
            self._network(signs, most)
        self._finish()

    def _block(self, name, low, high, curve, cost):
        start = sum(len(x) for x in self._low)
        self.blocks[name] = slice(start, start + len(low))
        for target, values in ((self._low, low), (self._high, high), (self._p, curve), (self._q, cost)):
            target.append(np.broadcast_to(values, np.shape(low)))

    def _put(self, row, name, column, value):
        column = np.asarray(column) + self.blocks[name].start
        self._entries.append((np.asarray(row), column, np.broadcast_to(value, column.shape)))

    def _trades(self, homes, most):
        s = self.slot
        if s.kind == "pool":
            limit = np.minimum(s.limit[0], most)
            for name, sign in (("sale", 1.0), ("purchase", -1.0)):
                self._block(name, 0 * limit, limit, 0, s.fee[0] / 2)
                self._put(homes, name, homes, -sign)
                self._put(np.full(s.size, self.height), name, homes, sign)
            self.height += 1
            self.right.append(np.zeros(1))
        elif s.kind == "bilateral":
            flat, other = np.arange(s.limit.size), s.reverse
            limit = np.minimum(s.limit.reshape(-1), s.limit.reshape(-1)[other])
            edge = np.flatnonzero((flat < other) & (limit > 0))
            here, there = edge % s.size, other[edge] % s.size
            fee = (s.fee.reshape(-1)[edge] + s.fee.reshape(-1)[other[edge]]) / 2
            limit = np.minimum(limit[edge], most)
            for name, sign in (("forth", 1.0), ("back", -1.0)):
                self._block(name, 0 * limit, limit, 0, fee)
                column = np.arange(len(edge))
                self._put(here, name, column, -sign)
                self._put(there, name, column, sign)

    def _network(self, signs, most):
        s, buses = self.slot, self.slot.matrix.shape[1]
        flexible = np.flatnonzero(s.counts)
        row = self.height + s.group[flexible]
        for name, sign in signs.items():
            self._put(row, name, flexible, sign * s.counts[flexible])
        sums = [np.bincount(s.group, s.counts * x, minlength=buses) for x in (s.least, s.most)]
        self._block("bus", sums[0], sums[1], 0, 0)
        self._put(self.height + np.arange(buses), "bus", np.arange(buses), -1.0)
        self.right.append(np.zeros(buses))
        top, rows = self.height + buses, np.arange(s.rows)
        self.height = top + s.rows
        up, down = np.maximum(s.matrix, 0), np.minimum(s.matrix, 0)
        reach = s.offset + up @ sums[0] + down @ sums[1], s.offset + up @ sums[1] + down @ sums[0]
        wide = 1e-9 + 1e-6 * np.abs(reach).max()
        at, bus = np.nonzero(s.matrix)
        self._put(top + at, "bus", bus, s.matrix[at, bus])
        within = np.clip(s.lower, None, np.maximum(reach[1], s.upper.clip(max=1e300))), s.upper
        # a limit that cannot be reached is no limit
        low = np.maximum(within[0], np.minimum(reach[0], within[1]) - wide)
        high = np.minimum(within[1], np.maximum(reach[1], within[0]) + wide)
        self._block("row", low, high, 0, 0)
        self._put(top + rows, "row", rows, -1.0)
        for name, sign, far in (("over", -1.0, reach[1] - high), ("under", 1.0, low - reach[0])):
            self._block(name, np.zeros(s.rows), np.maximum(far, 0) + wide, 0, s.penalty)
            self._put(top + rows, name, rows, sign)
        self.right.append(-s.offset)

    def _finish(self):
        self.low, self.high, self.p, self.q = (
            np.concatenate(x).astype(float) for x in (self._low, self._high, self._p, self._q)
        )
        self.low = np.minimum(self.low, self.high)
        row, column, value = (np.concatenate(x) for x in zip(*self._entries, strict=True))
        self.A = sp.csc_matrix((value, (row, column)), shape=(self.height, len(self.q)))
        self.b = np.concatenate(self.right)

    def value(self, x):
        """EUR/h."""
        return float(0.5 * (self.p * x) @ x + self.q @ x) + self.constant

    def lower(self, y):
        """EUR/h: the least of the Lagrangian with multipliers y of A x = b, in closed form."""
        cost = self.q - self.A.T @ y
        bend = self.p > 0
        best = np.where(cost > 0, self.low, self.high)
        best = np.where(bend, -cost / np.where(bend, self.p, 1), best).clip(self.low, self.high)
        return float(np.sum((0.5 * self.p * best + cost) * best) + y @ self.b) + self.constant

    def solve(self, solver):
        """x and y by one of the two solvers; None where it fails."""
        free = self.high - self.low > 1e-13 * (1 + np.abs(self.high))
        x = np.where(free, 0.0, self.low)
        matrix = self.A[:, free]
        right = self.b - self.A @ x
        used = np.diff(matrix.tocsr().indptr) > 0
        # powers in units of a typical one, money in units of the dearest price that all meet
        width = (self.high - self.low)[free]
        unit = max(np.median(width), 1e-3 * width.max(initial=0), 1e-6) if free.any() else 1.0
        price = max(np.abs(self.q[free]).mean() if free.any() else 1.0, 1e-3)
        p, q = self.p[free] * unit / price, (self.q[free] + 0 * width) / price
        low, high = self.low[free] / unit, self.high[free] / unit
        found = solver(p, q, matrix[used].tocsc(), right[used] / unit, low, high)
        if found is None:
            return None
        x[free] = np.clip(found[0], low, high) * unit
        y = np.zeros(self.height)
        y[used] = found[1] * price
        return (x, y) if np.isfinite(x).all() and np.isfinite(y).all() else None


def by_clarabel(p, q, matrix, right, low, high):
    """x and the multipliers of matrix x = right."""
    size, height = len(q), len(right)
    settings = clarabel.DefaultSettings()
    settings.verbose, settings.max_threads, settings.max_iter = False, 1, 100
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-10
    eye = sp.identity(size, format="csc")
    rows = sp.vstack([matrix, eye, -eye], format="csc")
    cones = [clarabel.ZeroConeT(height), clarabel.NonnegativeConeT(2 * size)]
    bound = np.concatenate([right, high, -low])
    solution = clarabel.DefaultSolver(sp.diags(p, format="csc"), q, rows, bound, cones, settings).solve()
    if "Infeasible" in str(solution.status):
        return None
    return np.array(solution.x), -np.array(solution.z)[:height]


def by_piqp(p, q, matrix, right, low, high):
    """The same by PIQP, None where it is not installed."""
    try:
        import piqp
    except ImportError:
        return None
    solver = piqp.SparseSolver()
    solver.settings.eps_abs = solver.settings.eps_rel = solver.settings.eps_duality_gap_abs = 1e-10
    solver.settings.eps_duality_gap_rel = 1e-10
    solver.settings.max_iter = 400
    solver.setup(sp.diags(p, format="csc"), q, matrix, right, None, None, None, low, high)
    solver.solve()
    return np.array(solver.result.x), -np.array(solver.result.y)


def optimum(problem, solvers=None) -> Optimum:
    """Least cost of the slot with penalties: slot cost, storage value given up, unserved, violations.

    solvers: in place of Clarabel and PIQP, the next being asked where one is not close enough.
    """
    slot = _Slot(problem)
    program = _Program(slot)
    lower, best = -np.inf, None
    for solver in solvers or (by_clarabel, by_piqp):
        found = program.solve(solver)
        if found is not None:
            x, y = found
            value, point = _repair(program, x)
            lower = max(lower, program.lower(y))
            if best is None or value < best[0]:
                best = value, point
        if best is not None and best[0] - lower <= CLOSE * slot.scale(slot.dt * best[0]) / slot.dt:
            break
    if best is None:
        raise RuntimeError("both reference solvers failed")
    value, point = best
    beyond, penalty = np.zeros(0), 0.0
    if slot.rows:
        excess = slot.excess(point["injection"])
        beyond, penalty = excess / slot.row_tolerance, slot.penalty * excess.sum()
    return Optimum(
        value=slot.dt * value,
        lower=slot.dt * lower,
        scale=slot.scale(slot.dt * (value - penalty)),
        beyond=float(beyond.max(initial=0)),
        unserved=float(np.abs(point["unserved"]).sum()),
    )


def _repair(program, x):
    """EUR/h and what happens when the devices and trades of x are carried out: feasible to rounding."""
    s, take = program.slot, lambda name: x[program.blocks[name]]
    trades = np.zeros(s.size)
    fees = 0.0
    if s.kind == "pool":
        traded = take("sale") - take("purchase")
        surplus = traded.sum()  # of the order of the solver's tolerance: the larger side gives way
        side = traded * surplus > 0
        if side.any():
            traded = traded - np.where(side, traded * surplus / traded[side].sum(), 0)
        trades, fees = traded, float(s.fee[0] / 2 @ np.abs(traded))
    elif "forth" in program.blocks:
        block = slice(program.blocks["forth"].start, program.blocks["back"].stop)
        trades = -(program.A[: s.size, block] @ x[block])
        net = take("forth") - take("back")
        fees = float(program.q[program.blocks["forth"]] @ np.abs(net))
    d = {name: take(name) for name in ("pv", "charge", "load")}
    d["discharge"] = take("d_below") + take("d_above")
    d["injection"] = d["pv"] + d["discharge"] - d["charge"] - d["load"]
    rest = d["injection"] - trades
    exchange = rest.clip(-s.buy_max, s.sell_max)
    d["unserved"] = exchange - rest
    d["buy"], d["sell"] = np.maximum(-exchange, 0), np.maximum(exchange, 0)
    return _rate(s, d, fees), d


def _rate(s, d, fees):
    """EUR/h of a dispatch, penalties included: the model's price list."""
    short, spilled = np.maximum(d["unserved"], 0), np.maximum(-d["unserved"], 0)
    rate = fees + s.buy * d["buy"].sum() - s.sell * d["sell"].sum()
    if s.limited:
        rate += (s.buy + s.unserved) * short.sum() + (s.unserved - s.sell) * spilled.sum()
    rate += np.sum(s.wear * (s.eta_c * d["charge"] + d["discharge"] / s.eta_d))
    rate += np.sum(s.curtailment * (s.pv - d["pv"]) + s.load_cost * (d["load"] - s.load) ** 2)
    # worth of what goes into the cells, then of what leaves them, up to the turn and beyond it
    stored = s.eta_c * d["charge"]
    rate -= np.sum(s.value * stored - s.slope * s.dt * stored**2 / 2)
    rise, turn = s.slope * s.dt / s.eta_d, s.turn()
    below = np.minimum(d["discharge"], turn)
    above = d["discharge"] - below
    rate += np.sum(s.eta_c * (s.value * below + rise * below**2 / 2))
    rate += np.sum((s.value * above + rise * (d["discharge"] ** 2 - below**2) / 2) / s.eta_d)
    if s.rows:
        rate += s.penalty * s.excess(d["injection"]).sum()
    return float(rate)


def judge(problem, dispatch, status, gap=None, best: Optimum | None = None) -> Verdict:
    """Hold a dispatch, its status and its stated gap (EUR; None: none is stated) against the optimum."""
    s = _Slot(problem)
    best = optimum(problem) if best is None else best
    status = int(status)
    powers = {name: x for name, x in dispatch._asdict().items() if "price" not in name and x is not None}
    d = {name: np.asarray(x, float) for name, x in powers.items()}
    finite = all(np.isfinite(x).all() for x in d.values())
    stated = float(gap) if gap is not None else GAP * best.scale
    if not finite:
        kind = "not finite"
        return Verdict(np.inf, best.scale, stated, best.error, 0, True, status != NUMERICAL_ERROR, kind, kind)
    fault = _fault(s, d)
    d["injection"] = d["pv_used"] + d["discharge"] - d["charge"] - d["load"]
    d["pv"] = d["pv_used"]
    fees = float(np.sum(s.fee * np.abs(d["trades"]) / 2))
    distance = s.dt * _rate(s, d, fees) - best.lower
    rounding = _rounding(s, d)
    slack = (
        best.error + rounding + 1e-9 * best.scale
    )  # the scale has a floor: nothing is compared with nought
    if not fault and distance < -slack:
        fault = "beats the optimum"
    wrong = bool(fault) or bool(distance > GAP * best.scale + slack)
    excess = s.excess(d["injection"])
    beyond = float((excess / s.row_tolerance).max(initial=0)) if s.rows else 0.0
    unserved = float(np.abs(d["unserved"]).max(initial=0))
    why = _why(status, beyond, unserved, best)
    says_right = status in (SOLVED, *NETWORK, UNSERVED) or gap is not None
    if not why and says_right and not distance <= stated + slack:
        why = "gap"
    return Verdict(
        distance=float(distance),
        scale=best.scale,
        gap=stated,
        error=best.error,
        rounding=rounding,
        wrong=wrong,
        lie=bool(why),
        fault=fault,
        why=why,
    )


def executed(problem, d: dict, fees: float) -> tuple[float, float]:
    """EUR of a dispatch, penalties included, and by how much its dtype may be off.

    d: (N,) kW by name, as in a Trajectory: load, pv_used, charge, discharge, buy, sell, unserved and
    trade_volume; fees: EUR/h, which the volume alone does not tell.
    """
    s = _Slot(problem)
    d = {name: np.asarray(x, float) for name, x in d.items()}
    d["injection"] = d["pv_used"] + d["discharge"] - d["charge"] - d["load"]
    d |= {"pv": d["pv_used"], "trades": d["trade_volume"][None, :]}
    return s.dt * _rate(s, d, fees), _rounding(s, d)


def _why(status, beyond, unserved, best):
    """What a status says that is not so; near a tolerance both answers are right."""
    if status in NETWORK and (beyond < 0.99 or best.beyond < 0.5):
        return "names a violation that need not be"
    if status == UNSERVED and (unserved < 0.99 * POWER_KW or best.unserved < 0.5 * POWER_KW):
        return "names unserved power that need not be"
    if status in (SOLVED, UNSERVED) and beyond > 1.01:
        return "a violation without a name"
    if status == SOLVED and unserved > 1.01 * POWER_KW:
        return "unserved power without a name"
    return ""


def _rounding(s, d):
    """EUR by which the cost may be off because numbers have the dtype's digits only."""
    eps = float(np.finfo(s.dtype).eps)
    moved = s.load_max + s.pv + s.charge[1] + s.discharge[1] + np.abs(d["trades"]).sum(0)
    steepest = np.abs(s.value) + s.slope * s.dt * np.maximum(s.charge[1], s.discharge[1]) / s.eta_d
    price = max(abs(s.buy), abs(s.sell)) + steepest / s.eta_d + s.wear + s.curtailment
    price = price + 2 * s.load_cost * np.maximum(s.load_max - s.load, s.load - s.load_min)
    if s.limited:
        price = price + s.unserved * (d["unserved"] != 0)
    rate = float(np.sum(price * moved))
    if s.rows:
        at_bus = np.bincount(s.group, s.counts * moved, minlength=s.matrix.shape[1])
        size = np.abs(s.offset) + np.abs(s.matrix) @ at_bus
        # a row that is kept, or broken, by less than its rounding may be priced or not
        close = s.excess(d["injection"]) > 0
        rate += s.penalty * float(np.sum(size[close]))
    return 8 * eps * s.dt * rate


def _fault(s, d):
    """The first thing that must hold exactly, up to rounding, and does not."""
    eps = 4 * float(np.finfo(s.dtype).eps)
    ranges = {
        "load": (s.load_min, s.load_max),
        "pv_used": (0 * s.pv, s.pv),
        "charge": s.charge,
        "discharge": s.discharge,
        "buy": (np.zeros(s.size), s.buy_max),
        "sell": (np.zeros(s.size), s.sell_max),
        "trades": (-s.limit, s.limit),
    }
    power = d["pv_used"] + d["load"] + d["charge"] + d["discharge"]
    traded = np.abs(d["trades"]).sum(0)
    # what is exchanged is what is left of larger powers, and as exact as they are
    left = 2 * eps * (power + traded)
    for name, (low, high) in ranges.items():
        slack = eps * (np.abs(low.clip(-1e300, 1e300)) + np.abs(high.clip(-1e300, 1e300)))
        slack = slack + left * (name in ("buy", "sell"))
        if (d[name] < low - slack).any() or (d[name] > high + slack).any():
            return f"{name} outside its limits"
    right = d["sell"] - d["buy"] + d["trades"].sum(0) - d["unserved"]
    slack = 2 * eps * (power + traded + d["sell"] + d["buy"] + np.abs(d["unserved"]))
    own = d["pv_used"] + d["discharge"] - d["charge"] - d["load"]
    if (np.abs(own - right) > slack).any() or (np.abs(own - d["injection"]) > slack).any():
        return "balance"
    if not s.limited and d["unserved"].any():
        return "unserved without connection limits"
    if s.kind == "pool":
        if abs(d["trades"].sum()) > eps * traded.sum():
            return "the pool does not balance"
    elif s.kind == "bilateral":
        flat = d["trades"].reshape(-1)
        if (np.abs(flat + flat[s.reverse]) > eps * np.abs(flat)).any():
            return "reciprocity"
    return ""
