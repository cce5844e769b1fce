"""Slots of a real run solved once more by an independent solver, and the pass rule applied to each.

The pass rule, per slot, on the executed dispatch: cost plus storage value given up within 1e-3 of
`slot.gap.gap_scale` of the optimum; branches within 0.05 kW and voltages within 1e-4 p.u. beyond what the
optimum itself must violate; balance, reciprocity and device limits exact; storage within its limits. It is
what the solvers promise with SOLVED, there by a bound of their own (`slot.gap`).
"""

from collections.abc import Callable
from typing import NamedTuple

import clarabel
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import scipy.sparse as sp
from jax import Array

from jaxp2p._pytree import present
from jaxp2p.control.policy import Slot, plugged_in, slot_problem, suggest_penalties
from jaxp2p.model.devices import Plugged
from jaxp2p.model.types import Community, Horizon
from jaxp2p.model.utility import beyond_cost
from jaxp2p.runs.runner import make_policies
from jaxp2p.simulation.forward import slots as slot_rows
from jaxp2p.simulation.step import Posed, Stored, after
from jaxp2p.slot import execute, solvers
from jaxp2p.slot.gap import gap_scale
from jaxp2p.slot.problem import SlotProblem
from jaxp2p.slot.qp import QP, to_qp
from jaxp2p.slot.rows import row_excess
from jaxp2p.slot.solvers import Solver, choose_solver
from jaxp2p.slot.status import Status

GAP, POWER_KW, VOLTAGE_PU, STORAGE_KWH = 1e-3, 0.05, 1e-4, 1e-5


class NoReference(RuntimeError):
    """The independent solver did not solve a slot; `status` is what it said."""

    def __init__(self, status: str) -> None:
        super().__init__(f"the reference solver ended {status}")
        self.status = status


class Optimum(NamedTuple):
    """Independent solution of a slot."""

    objective: float  # EUR, slot cost plus drift plus penalties
    penalty: float  # EUR of it, for violated network rows
    dual_objective: float  # EUR
    row_price: np.ndarray  # (R,) EUR/kWh, > 0 at an upper limit


class Comparison(NamedTuple):
    """An executed dispatch held against the optimum, in float64."""

    gap_rel: float  # cost plus drift over the optimum, as a share of `scale_eur`
    scale_eur: float  # what gaps are measured by, `slot.gap.gap_scale`
    power_violation_kw: float  # worst branch row, beyond what the optimum itself must violate
    voltage_violation_pu: float
    balance_error_kw: float
    reciprocity_error_kw: float

    @property
    def passed(self) -> bool:
        """Whether the pass rule holds (storage is judged on the run)."""
        exact = max(self.balance_error_kw, self.reciprocity_error_kw)
        within = self.power_violation_kw < POWER_KW and self.voltage_violation_pu < VOLTAGE_PU
        return abs(self.gap_rel) < GAP and within and exact < POWER_KW / 100


class VerifyReport(NamedTuple):
    """One row per slot, and whether all passed that have a reference (at least one).

    In the table `reference` is "Solved" or what the independent solver said instead; `passed` is then None.
    """

    table: pd.DataFrame
    passed: bool


def optimum(problem: SlotProblem, *, tolerance: float = 1e-10) -> Optimum:
    """The slot's QP by Clarabel, with a looser tolerance if need be; raises NoReference if it cannot."""
    qp = to_qp(problem)
    for accepted in (tolerance, max(tolerance, 1e-8), max(tolerance, 1e-6)):
        try:
            return _solved(problem, qp, accepted)
        except NoReference as error:
            failure = error
    raise failure


def _solved(problem: SlotProblem, qp: QP, tolerance: float) -> Optimum:
    boxed = qp.boxed()
    matrix = boxed.A.tocsr()
    equal = boxed.lower == boxed.upper
    upper, lower = np.isfinite(boxed.upper) & ~equal, np.isfinite(boxed.lower) & ~equal
    rows = sp.vstack([matrix[equal], matrix[upper], -matrix[lower]], format="csc")
    bound = np.concatenate([boxed.upper[equal], boxed.upper[upper], -boxed.lower[lower]])
    settings = clarabel.DefaultSettings()
    settings.verbose, settings.max_threads = False, 1
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = tolerance
    cones = [clarabel.ZeroConeT(int(equal.sum())), clarabel.NonnegativeConeT(int(upper.sum() + lower.sum()))]
    quadratic = sp.triu(boxed.P, format="csc")
    solution = clarabel.DefaultSolver(quadratic, boxed.q, rows, bound, cones, settings).solve()
    if str(solution.status) not in ("Solved", "AlmostSolved"):
        raise NoReference(str(solution.status))
    x, z = np.array(solution.x), np.array(solution.z)
    hours = float(problem.slot_hours)
    penalty, row_price = 0.0, np.zeros(problem.row_offset.shape[0])
    if "violation" in qp.blocks:
        penalty = hours * float(problem.row_penalty) * float(x[qp.blocks["violation"]].sum())
        price = np.zeros(len(boxed.upper))
        price[upper] += z[equal.sum() : equal.sum() + upper.sum()]
        price[lower] -= z[equal.sum() + upper.sum() :]
        row_price = price[qp.rows["network_upper"]] + price[qp.rows["network_lower"]]
    return Optimum(
        objective=hours * (solution.obj_val + qp.offset),
        penalty=penalty,
        dual_objective=hours * (solution.obj_val_dual + qp.offset),
        row_price=row_price,
    )


def executed_cost(problem: SlotProblem, d: execute.Dispatch) -> float:
    """EUR: slot cost plus drift of a dispatch, with unserved and spilled energy, without row penalties."""
    total = float(np.sum(np.asarray(execute.slot_cost(problem, d), float)))
    total += float(np.sum(np.asarray(execute.storage_drift(problem, d), float)))
    if problem.unserved_price is not None:
        beyond, extra = np.asarray(d.unserved, float), float(problem.unserved_price)
        short, spilled = np.maximum(beyond, 0).sum(), np.maximum(-beyond, 0).sum()
        rate = beyond_cost(float(problem.price_buy), float(problem.price_sell), extra, short, spilled)
        total += float(problem.slot_hours) * float(rate)
    return total


def compare(problem: SlotProblem, d: execute.Dispatch, best: Optimum) -> Comparison:
    """Hold a dispatch against the optimum of its slot."""
    hours = float(problem.slot_hours)
    target = best.objective - best.penalty
    scale = float(gap_scale(problem, jnp.asarray(target, problem.load.dtype)))
    excess = np.asarray(row_excess(problem, d.injection), float)
    allowed = best.penalty / (hours * float(problem.row_penalty))
    excess = np.maximum(excess - allowed, 0)
    volts = problem.feeder.voltage_bus.shape[0]
    squared = excess[:volts] * np.asarray(problem.feeder.scale, float)[:volts]
    rest = np.asarray(d.sell, float) - np.asarray(d.buy, float) - np.asarray(d.unserved, float)
    trades = np.asarray(d.trades, float)
    reciprocity = problem.market.imbalance(trades)
    return Comparison(
        gap_rel=(executed_cost(problem, d) - target) / scale,
        scale_eur=scale,
        power_violation_kw=float(np.max(excess[volts:], initial=0)),
        voltage_violation_pu=float(np.max(squared, initial=0)) / 2,  # at about 1 p.u.
        balance_error_kw=float(np.abs(np.asarray(d.injection, float) - rest - trades.sum(0)).max()),
        reciprocity_error_kw=float(np.max(reciprocity, initial=0)),
    )


@jax.jit
def _solve(problem: SlotProblem, solver: Solver) -> execute.SlotResult:
    return solvers.executed(problem, solvers.solve(problem, solver, solvers.init(problem, solver)))


def _drawn(plugged: Plugged, draw: np.random.Generator) -> Array:
    """(K, N) kWh, uniform between floor and most of those that were there before."""
    share = jnp.asarray(draw.random(plugged.energy_min.shape), plugged.energy_min.dtype)
    return plugged.retention * (plugged.energy_min + share * (plugged.energy_max - plugged.energy_min))


def check_size(community: Community) -> None:
    """Raises ValueError for a network whose rows an external solver cannot be given."""
    if words := community.feeder.no_response(community.size):
        raise ValueError(f"no solver of others can be asked: {words}")


def verify(
    community: Community,
    horizon: Horizon,
    *,
    slots: int = 20,
    seed: int = 0,
    solver: Solver | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> VerifyReport:
    """Draw slots and states of charge, solve each with our solver (cold) and with Clarabel, and compare.

    The storage value is that of the certified modified Lyapunov controller; the energies are uniform
    between the limits. slots: how many (without replacement, at most all of the horizon). Raises ValueError
    as `check_size`.
    """
    check_size(community)
    solver = solver or choose_solver(community)
    draw = np.random.default_rng(seed)
    chosen = np.sort(draw.choice(horizon.slots, size=min(slots, horizon.slots), replace=False))
    battery = community.prosumers.battery
    policy, penalties = make_policies(community, horizon)["lyapunov"], suggest_penalties(horizon)
    rows = slot_rows(horizon)
    table = []
    for done, slot in enumerate(chosen):
        share = jnp.asarray(draw.random(community.size), battery.energy_min.dtype)
        energy = battery.energy_min + share * (battery.energy_max - battery.energy_min)
        row: Slot = jax.tree.map(lambda x, slot=slot: x[slot], rows)
        plugged = plugged_in(community, row)
        in_vehicles = None if plugged is None else _drawn(plugged, draw)
        number = jnp.asarray(slot, jnp.int32)
        problem = slot_problem(community, penalties, policy, row, energy, number, None, in_vehicles)
        result = _solve(problem, solver)
        d = result.dispatch
        end = battery.next_energy(energy, d.charge, d.discharge, hours=problem.slot_hours)
        beyond = battery.float64().beyond(np.asarray(end, float))
        storage = float(np.max(beyond, initial=0))
        if plugged is not None:
            posed = Posed(problem, Stored(energy, in_vehicles), None, plugged)
            driven = present(after(community, posed, d).in_vehicles)
            storage = max(storage, float(np.max(plugged.outside(driven))))
        ended = Status(int(result.status))
        solved = ended in (Status.SOLVED, Status.NETWORK_VIOLATED, Status.UNSERVED)
        line = {
            "slot": int(slot),
            "storage_violation_kwh": max(storage, 0.0),
            "gap_bound_rel": float(result.gap / result.gap_scale),
            "iterations": int(result.iterations),
            "status": ended.name,
            "reference": "Solved",
            "passed": None,
        }
        try:
            found = compare(problem, d, optimum(problem))
            line |= {name: getattr(found, name) for name in Comparison._fields}
            line["passed"] = bool(found.passed and solved and storage < STORAGE_KWH)
        except NoReference as error:  # the others are judged all the same
            line |= dict.fromkeys(Comparison._fields, np.nan) | {"reference": error.status}
        table.append(line)
        if progress is not None:
            progress(done + 1, len(chosen))
    order = ["slot", *Comparison._fields, *(name for name in table[0] if name not in Comparison._fields)]
    frame = pd.DataFrame(table)[list(dict.fromkeys(order))]
    judged = [line["passed"] for line in table if line["passed"] is not None]
    return VerifyReport(frame, bool(judged) and all(judged))
