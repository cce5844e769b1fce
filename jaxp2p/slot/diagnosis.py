"""Why a network limit is broken: a penalty that was too small, or a limit that nobody can keep."""

from typing import NamedTuple

import jax
import numpy as np

from jaxp2p.slot import execute, solvers
from jaxp2p.slot.problem import SlotProblem
from jaxp2p.slot.solvers import Solver
from jaxp2p.slot.status import Status

FACTOR = 10


class Diagnosis(NamedTuple):
    """Verdict on one slot."""

    status: Status
    row: int  # index of the worst row, -1 where none is violated
    violation_kw: float
    violation_with_larger_penalty_kw: float

    def explain(self, row_names: tuple[str, ...]) -> str:
        """The verdict in words, with the limit by name."""
        if self.row < 0:
            return self.status.message
        return f"{row_names[self.row]}: violated by {self.violation_kw:.3g} kW; {self.status.message}"


def diagnose(problem: SlotProblem, solver: Solver) -> Diagnosis:
    """Solve the slot, and where a row is violated once more with the penalty times 10.

    Gone: PENALTY_TOO_SMALL. Still there: NETWORK_INFEASIBLE. Where the second solve does not end neither is
    proved, and the status stays NETWORK_VIOLATED. Host function; costs two cold solves.
    """
    first = _solve(problem, solver)
    status = Status(int(first.status))
    if status is not Status.NETWORK_VIOLATED:
        return Diagnosis(status, -1, float(first.violation), float("nan"))
    harder = type(problem)(**{**problem.__dict__, "row_penalty": FACTOR * problem.row_penalty})
    second = _solve(harder, solver)
    verdict = {Status.NETWORK_VIOLATED: Status.NETWORK_INFEASIBLE, Status.MAX_ITER: status}
    return Diagnosis(
        status=verdict.get(Status(int(second.status)), Status.PENALTY_TOO_SMALL),
        row=int(np.asarray(first.violation_row)),
        violation_kw=float(first.violation),
        violation_with_larger_penalty_kw=float(second.violation),
    )


@jax.jit
def _solve(problem: SlotProblem, solver: Solver) -> execute.SlotResult:
    return solvers.executed(problem, solvers.solve(problem, solver, solvers.init(problem, solver)))
