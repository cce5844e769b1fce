"""The slot solvers behind one set of functions: what a simulation calls, whichever solver it was given.

A solver is its configuration, a frozen record with the methods of `Solver`; its state is the warm start. A
new one is a room of its own (as `slot.newton`) and an entry in `METHODS`.
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, ClassVar, Protocol, TypeVar

from jax import Array

from jaxp2p.model.types import Community, Market
from jaxp2p.settings.model import SOLVERS
from jaxp2p.slot import execute
from jaxp2p.slot.admm.method import ADMM
from jaxp2p.slot.answer import Answer
from jaxp2p.slot.newton.method import Newton
from jaxp2p.slot.problem import SlotProblem

State = Any  # of the solver at hand: the warm start of the next slot
Search = Any  # of the solver at hand: one slot under way; has `iterations`


class Outcome(Protocol):
    """Where a solver stopped: a pytree."""

    @property
    def state(self) -> State: ...

    @property
    def answer(self) -> Answer:
        """What to execute."""

    @property
    def result(self) -> execute.SlotResult | None:
        """Of executing it, where the solver has worked it out for its proof."""


class Solver(Protocol):
    """What every solver can do. Fields named `eps_*` are its tolerances."""

    needs: ClassVar[str]  # what `suits` asks for, in words
    cheap: ClassVar[bool]  # a turn costs so little that lanes of a batch are not worth sorting
    by_price: ClassVar[bool]  # everything follows from the pool's price, state.price, as `costate` needs it

    @staticmethod
    def suits(market: Market, *, connection_limits: bool) -> bool:
        """Whether it can solve the slots of such a community; known from the structure alone."""

    def init(self, problem: SlotProblem) -> State:
        """Cold start."""

    def warm(self, problem: SlotProblem, state: State) -> State:
        """The state of one slot as the start of another."""

    def start(self, problem: SlotProblem, state: State, first: Array) -> State:
        """Cold where `first` () bool, else warm: both for the work of one."""

    def solve(self, problem: SlotProblem, state: State) -> Outcome:
        """Iterate from `state` until the slot is solved; forward only."""

    def differentiable(self, problem: SlotProblem, state: State) -> Outcome:
        """The same with the derivatives of the solution with respect to the problem."""

    def begin(self, problem: SlotProblem, state: State) -> Search:
        """A slot before its first iteration; `advance` while `running`, then `end`."""

    def running(self, search: Search) -> Array:
        """() bool: neither solved nor at the iteration limit."""

    def advance(self, problem: SlotProblem, search: Search) -> Search:
        """The next iterations, up to something to be proved, and its proof."""

    def seeking(self, search: Search) -> Array:
        """() bool: running, and without anything to prove."""

    def turn(self, problem: SlotProblem, search: Search) -> Search:
        """The least that `advance` is made of, the same work for everybody: to take while `seeking`."""

    def prove(self, problem: SlotProblem, search: Search) -> Search:
        """The proof of what `turn` came to; afterwards the search is still `running` or at its end."""

    def end(self, problem: SlotProblem, search: Search) -> Outcome:
        """What to execute, from wherever the search stands."""


METHODS: Mapping[str, type[Solver]] = {"newton": Newton, "admm": ADMM}  # "auto" takes the first that suits

AnySolver = TypeVar("AnySolver", bound=Solver)


def choose_solver(community: Community, name: str = "auto") -> Solver:
    """The solver by name; "auto" takes Newton where one price decides.

    Raises ValueError for an unknown name, and for Newton where trades have prices or limits of their own.
    """
    if name not in SOLVERS:
        raise ValueError(f"unknown solver {name!r}: choose from {', '.join(SOLVERS)}")
    market, connection_limits = community.market, community.prosumers.limited
    if name == "auto":
        return suiting(market, connection_limits=connection_limits)
    method = METHODS[name]
    if not method.suits(market, connection_limits=connection_limits):
        others = (key for key, other in METHODS.items() if other.suits(market, connection_limits=True))
        raise ValueError(f"solver {name!r} needs {method.needs}: use {next(others)!r}")
    return method()


def suiting(market: Market, *, connection_limits: bool) -> Solver:
    """The first of `METHODS` that suits: the fastest."""
    return next(
        method() for method in METHODS.values() if method.suits(market, connection_limits=connection_limits)
    )


def init(problem: SlotProblem, solver: Solver) -> State:
    """Cold start."""
    return solver.init(problem)


def warm(problem: SlotProblem, solver: Solver, state: State) -> State:
    """The state of one slot as the start of another."""
    return solver.warm(problem, state)


def start(problem: SlotProblem, solver: Solver, state: State, first: Array) -> State:
    """Where a slot starts: cold if it is the `first` () bool, else from `state`; known only as it runs."""
    return solver.start(problem, state, first)


def solve(problem: SlotProblem, solver: Solver, state: State, *, adjoint: str | None = None) -> Outcome:
    """Iterate from `state` until the slot is solved: see the solver's own `solve`.

    adjoint None: forward only; "implicit": differentiable with respect to the problem. Raises ValueError for
    another one (`slot.admm.adjoint.solve` also unrolls a fixed number of iterations).
    """
    if adjoint is None:
        return solver.solve(problem, state)
    if adjoint != "implicit":
        raise ValueError(f"unknown adjoint {adjoint!r}: None or 'implicit'")
    return solver.differentiable(problem, state)


def begin(problem: SlotProblem, solver: Solver, state: State) -> Search:
    """A slot before its first iteration, for whoever steps many of them at once (`studies.engine`)."""
    return solver.begin(problem, state)


def running(solver: Solver, search: Search) -> Array:
    """() bool: neither solved nor at the iteration limit."""
    return solver.running(search)


def advance(problem: SlotProblem, solver: Solver, search: Search) -> Search:
    """The next iterations: Newton's up to something to be proved, check_every of ADMM."""
    return solver.advance(problem, search)


def seeking(solver: Solver, search: Search) -> Array:
    """() bool: running, and without anything to prove."""
    return solver.seeking(search)


def turn(problem: SlotProblem, solver: Solver, search: Search) -> Search:
    """The least that `advance` is made of: one evaluation of the homes (Newton), check_every of ADMM."""
    return solver.turn(problem, search)


def prove(problem: SlotProblem, solver: Solver, search: Search) -> Search:
    """The proof of what the turns came to; ADMM has done it on the way."""
    return solver.prove(problem, search)


def end(problem: SlotProblem, solver: Solver, search: Search) -> Outcome:
    """What to execute, from wherever the search stands."""
    return solver.end(problem, search)


def executed(problem: SlotProblem, outcome: Outcome) -> execute.SlotResult:
    """The dispatch of an outcome with its verdict, which a solver may have worked out for its proof."""
    return execute.finish(problem, outcome.answer) if outcome.result is None else outcome.result


def scale_tolerances(solver: AnySolver, factor: float | Array) -> AnySolver:
    """The solver with all its tolerances times a factor."""
    made: Any = solver
    names = [field.name for field in fields(made) if field.name.startswith("eps_")]
    return replace(made, **{name: getattr(solver, name) * factor for name in names})
