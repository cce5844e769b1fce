"""A solver as a record of settings over modules: what `slot.admm` and `slot.newton` have in common."""

from typing import Any, ClassVar, Protocol

from jax import Array

from jaxp2p.slot.problem import SlotProblem


class Steps(Protocol):
    """The module with the iteration; solver: its settings. See `slot.solvers.Solver` for what each does."""

    def solve(self, problem: SlotProblem, solver: Any, state: Any) -> Any: ...
    def begin(self, problem: SlotProblem, solver: Any, state: Any) -> Any: ...
    def running(self, solver: Any, search: Any) -> Array: ...
    def advance(self, problem: SlotProblem, solver: Any, search: Any) -> Any: ...
    def end(self, problem: SlotProblem, solver: Any, search: Any) -> Any: ...


class Adjoint(Protocol):
    """The module with the derivative."""

    def solve(self, problem: SlotProblem, solver: Any, state: Any) -> Any: ...


class Method:
    """Hands the methods of `slot.solvers.Solver` on to the modules `steps` and `adjoint`.

    A solver whose steps all take as long has nothing to prove apart: its turn is `advance`.
    """

    steps: ClassVar[Steps]
    adjoint: ClassVar[Adjoint]

    def solve(self, problem: SlotProblem, state: Any) -> Any:
        return self.steps.solve(problem, self, state)

    def differentiable(self, problem: SlotProblem, state: Any) -> Any:
        return self.adjoint.solve(problem, self, state)

    def begin(self, problem: SlotProblem, state: Any) -> Any:
        return self.steps.begin(problem, self, state)

    def running(self, search: Any) -> Array:
        return self.steps.running(self, search)

    def advance(self, problem: SlotProblem, search: Any) -> Any:
        return self.steps.advance(problem, self, search)

    def seeking(self, search: Any) -> Array:
        return self.running(search)

    def turn(self, problem: SlotProblem, search: Any) -> Any:
        return self.advance(problem, search)

    def prove(self, problem: SlotProblem, search: Any) -> Any:
        return search

    def end(self, problem: SlotProblem, search: Any) -> Any:
        return self.steps.end(problem, self, search)
