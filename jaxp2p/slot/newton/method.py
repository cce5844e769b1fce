"""`Newton`: the solver of the markets in which one price decides (pool, none), in a tenth of the work."""

from typing import ClassVar

from jax import Array

from jaxp2p._pytree import pick_tree, record
from jaxp2p.model.types import Market
from jaxp2p.slot.method import Adjoint, Method, Steps
from jaxp2p.slot.newton import adjoint, solver
from jaxp2p.slot.newton.solver import Search, State
from jaxp2p.slot.newton.state import Settings
from jaxp2p.slot.problem import SlotProblem


@record
class Newton(Settings, Method):
    """See `slot.solvers.Solver` for the methods and `Settings` for the numbers."""

    needs: ClassVar[str] = "the market pool or none, and no limits on trades or connections"
    cheap: ClassVar[bool] = True
    by_price: ClassVar[bool] = True
    steps: ClassVar[Steps] = solver
    adjoint: ClassVar[Adjoint] = adjoint

    @staticmethod
    def suits(market: Market, *, connection_limits: bool) -> bool:
        return solver.suits(market, connection_limits=connection_limits)

    def init(self, problem: SlotProblem) -> State:
        return solver.init(problem)

    def warm(self, problem: SlotProblem, state: State) -> State:
        return state

    def start(self, problem: SlotProblem, state: State, first: Array) -> State:
        return pick_tree(first, self.init(problem), state)

    def seeking(self, search: Search) -> Array:
        return solver.seeking(self, search)

    def turn(self, problem: SlotProblem, search: Search) -> Search:
        return solver.turn(problem, self, search)

    def prove(self, problem: SlotProblem, search: Search) -> Search:
        return solver.prove(problem, self, search)
