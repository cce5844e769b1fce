"""Slots of a family solved in bulk, and judged: what the test and the benchmark of truth share."""

import jax
import numpy as np
from slot_judge import judge, optimum

from jaxp2p.slot import execute, solvers
from jaxp2p.slot.admm.method import ADMM
from jaxp2p.slot.newton.method import Newton

SOLVERS = {"admm": ADMM(), "newton": Newton()}


def suiting(problem, names=tuple(SOLVERS)) -> list[str]:
    """The solvers made for a slot of this structure."""
    fits = Newton.suits(problem.market, connection_limits=problem.unserved_price is not None)
    return [name for name in names if name == "admm" or fits]


@jax.jit
def solve_many(problems, solver) -> dict:
    """Stacked slots (batch first), cold, one after the other: dispatch, status, iterations, and the gap."""

    def one(problem):
        found = solvers.solve(problem, solver, solvers.init(problem, solver))
        result = execute.finish(problem, found.answer)
        kept = {"dispatch": result.dispatch, "status": result.status, "iterations": result.iterations}
        return kept | ({"gap": result.gap} if hasattr(result, "gap") else {})

    return jax.lax.map(one, problems)


def judge_many(problems, results: dict) -> list[dict]:
    """One record per slot and solver; results: {solver: what `solve_many` gave}, numpy leaves."""
    records = []
    for number in range(len(problems.load)):
        at = lambda tree, number=number: jax.tree.map(lambda x: np.asarray(x[number]), tree)
        problem = at(problems)
        best = optimum(problem)
        for solver, result in results.items():
            one = at(result)
            verdict = judge(problem, one["dispatch"], one["status"], one.get("gap"), best)
            record = {"solver": solver, "number": number, "share": verdict.share, **verdict._asdict()}
            records.append(record | {name: int(one[name]) for name in ("status", "iterations")})
    return records
