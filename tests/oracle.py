"""Clarabel as the judge of a slot."""

from typing import NamedTuple

import clarabel
import numpy as np
import scipy.sparse as sp

from jaxp2p.admm import execute
from jaxp2p.admm.problem import SlotProblem
from jaxp2p.admm.qp import to_qp


class Reference(NamedTuple):
    objective: float  # EUR, slot cost + drift + penalties
    network_penalty: float  # EUR of it
    row_duals: np.ndarray  # EUR/kWh, > 0 at an upper limit
    dual_objective: float  # EUR


class Verdict(NamedTuple):
    gap: float  # executed cost + drift over the optimum, in the scale of the pass rule
    network_excess: float  # kW beyond what the optimum itself violates
    voltage_excess: float  # p.u., the same for voltage rows
    balance: float  # kW
    reciprocity: float  # kW


def reference(problem: SlotProblem) -> Reference:
    qp = to_qp(problem)
    boxed = qp.boxed()
    A = boxed.A.tocsr()
    equal = boxed.lower == boxed.upper
    upper, lower = np.isfinite(boxed.upper) & ~equal, np.isfinite(boxed.lower) & ~equal
    rows = sp.vstack([A[equal], A[upper], -A[lower]], format="csc")
    bound = np.concatenate([boxed.upper[equal], boxed.upper[upper], -boxed.lower[lower]])
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_threads = 1
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-10
    cones = [clarabel.ZeroConeT(int(equal.sum())), clarabel.NonnegativeConeT(int(upper.sum() + lower.sum()))]
    solution = clarabel.DefaultSolver(sp.triu(boxed.P, format="csc"), boxed.q, rows, bound, cones, settings).solve()
    assert str(solution.status) in ("Solved", "AlmostSolved"), solution.status
    x, z = np.array(solution.x), np.array(solution.z)
    hours = float(problem.slot_hours)
    penalty, duals = 0.0, np.zeros(0)
    if "violation" in qp.blocks:
        penalty = hours * float(problem.row_penalty) * float(x[qp.blocks["violation"]].sum())
        full = np.zeros(len(boxed.upper))
        full[upper] += z[equal.sum() : equal.sum() + upper.sum()]
        full[lower] -= z[equal.sum() + upper.sum() :]
        duals = full[qp.rows["network_upper"]] + full[qp.rows["network_lower"]]
    return Reference(
        objective=hours * (solution.obj_val + qp.offset),
        network_penalty=penalty,
        row_duals=duals,
        dual_objective=hours * (solution.obj_val_dual + qp.offset),
    )


def judge(problem: SlotProblem, result: execute.SlotResult, best: Reference) -> Verdict:
    """The pass rule's figures for an executed dispatch, in float64."""
    d = result.dispatch
    hours = float(problem.slot_hours)
    cost = float(np.sum(np.asarray(execute.slot_cost(problem, d), float)))
    cost += float(np.sum(np.asarray(execute.storage_drift(problem, d), float)))
    if problem.unserved_price is not None:
        gap = np.asarray(d.unserved, float)
        short, spilled = np.maximum(gap, 0).sum(), np.maximum(-gap, 0).sum()
        extra = float(problem.unserved_price)
        cost += hours * ((float(problem.price_buy) + extra) * short + (extra - float(problem.price_sell)) * spilled)
    power = float(np.abs(np.asarray(d.injection, float)).sum())
    optimum = best.objective - best.network_penalty
    scale = max(abs(optimum), hours * float(problem.price_buy - problem.price_sell) * power, hours * 0.01 * power)
    excess = np.asarray(execute.row_excess(problem, d.injection), float)
    allowed = best.network_penalty / (hours * float(problem.row_penalty))
    voltage = 0.0
    if problem.feeder is not None:
        count = problem.feeder.voltage_bus.shape[0]
        # half of the change of the squared voltage, at about 1 p.u.
        voltage = float(np.max(excess[:count] * np.asarray(problem.feeder.scale, float)[:count], initial=0)) / 2
    rest = np.asarray(d.sell, float) - np.asarray(d.buy, float) - np.asarray(d.unserved, float)
    balance = np.asarray(d.injection, float) - rest - np.asarray(d.trades, float).sum(0)
    trades = np.asarray(d.trades, float)
    if problem.market.kind == "pool":
        reciprocity = abs(trades.sum())
    else:
        reciprocity = np.abs(trades.reshape(-1) + trades.reshape(-1)[np.asarray(problem.market.reverse).reshape(-1)])
        reciprocity = float(np.max(reciprocity, initial=0))
    return Verdict(
        gap=(cost - optimum) / scale,
        network_excess=max(float(excess.max(initial=0)) - allowed, 0),
        voltage_excess=voltage if allowed < 1e-6 else 0.0,
        balance=float(np.abs(balance).max()),
        reciprocity=float(reciprocity),
    )
