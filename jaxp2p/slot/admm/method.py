"""`ADMM`: the solver of every market, differentiable step by step."""

from typing import ClassVar

from jax import Array

from jaxp2p._pytree import record
from jaxp2p.model.types import Market
from jaxp2p.slot.admm import adjoint, solver
from jaxp2p.slot.admm.solver import Outcome, Search, State
from jaxp2p.slot.admm.state import Settings
from jaxp2p.slot.problem import SlotProblem


@record
class ADMM(Settings):
    """See `slot.solvers.Solver` for the methods and `Settings` for the numbers."""

    needs: ClassVar[str] = "nothing"
    cheap: ClassVar[bool] = False
    by_price: ClassVar[bool] = False

    @staticmethod
    def suits(market: Market, *, connection_limits: bool) -> bool:
        return True

    def init(self, problem: SlotProblem) -> State:
        return solver.init(problem, self)

    def warm(self, problem: SlotProblem, state: State) -> State:
        return solver.warm(problem, self, state)

    def solve(self, problem: SlotProblem, state: State) -> Outcome:
        return solver.solve(problem, self, state)

    def differentiable(self, problem: SlotProblem, state: State) -> Outcome:
        return adjoint.solve(problem, self, state)

    def begin(self, problem: SlotProblem, state: State) -> Search:
        return solver.begin(problem, self, state)

    def running(self, search: Search) -> Array:
        return solver.running(self, search)

    def advance(self, problem: SlotProblem, search: Search) -> Search:
        return solver.advance(problem, self, search)

    def end(self, problem: SlotProblem, search: Search) -> Outcome:
        return solver.end(problem, self, search)
