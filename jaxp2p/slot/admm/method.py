"""`ADMM`: the solver of every market, differentiable step by step."""

from typing import ClassVar

from jax import Array

from jaxp2p._pytree import record
from jaxp2p.model.types import Market
from jaxp2p.slot.admm import adjoint, solver
from jaxp2p.slot.admm.solver import State
from jaxp2p.slot.admm.state import Settings
from jaxp2p.slot.method import Adjoint, Method, Steps
from jaxp2p.slot.problem import SlotProblem


@record
class ADMM(Settings, Method):
    """See `slot.solvers.Solver` for the methods and `Settings` for the numbers."""

    needs: ClassVar[str] = "nothing"
    cheap: ClassVar[bool] = False
    by_price: ClassVar[bool] = False
    steps: ClassVar[Steps] = solver
    adjoint: ClassVar[Adjoint] = adjoint

    @staticmethod
    def suits(market: Market, *, connection_limits: bool) -> bool:
        return True

    def init(self, problem: SlotProblem) -> State:
        return solver.init(problem, self)

    def warm(self, problem: SlotProblem, state: State) -> State:
        return solver.warm(problem, self, state)

    def start(self, problem: SlotProblem, state: State, first: Array) -> State:
        return solver.start(problem, self, state, first)
