"""The slot solvers behind one set of functions: what a simulation calls, whichever solver it was given.

`ADMM` solves every market and is differentiable step by step. `Newton` solves the markets in which one price
decides (pool, none) in a tenth of the work. A solver is its configuration; its state is the warm start.
"""

from dataclasses import fields, replace
from typing import cast

from jax import Array

from jaxp2p.model.types import Community
from jaxp2p.settings.model import SOLVERS
from jaxp2p.slot import execute
from jaxp2p.slot.admm import adjoint as admm_adjoint
from jaxp2p.slot.admm import solver as admm
from jaxp2p.slot.admm.solver import ADMM
from jaxp2p.slot.newton import adjoint as newton_adjoint
from jaxp2p.slot.newton import solver as newton
from jaxp2p.slot.newton.solver import Newton
from jaxp2p.slot.problem import SlotProblem

Solver = ADMM | Newton
State = admm.State | newton.State
Search = admm.Search | newton.Search
Outcome = admm.Outcome | newton.Outcome  # both have .state and .answer


def choose_solver(community: Community, name: str = "auto") -> Solver:
    """The solver by name; "auto" takes Newton where one price decides.

    Raises ValueError for an unknown name, and for Newton where trades have prices or limits of their own.
    """
    if name not in SOLVERS:
        raise ValueError(f"unknown solver {name!r}: choose from {', '.join(SOLVERS)}")
    suits = newton.suits(community.market, connection_limits=community.prosumers.limited)
    if name == "newton" and not suits:
        raise ValueError(
            "solver 'newton' needs the market pool or none, and no limits on trades or connections: "
            "use 'admm'"
        )
    return Newton() if suits and name != "admm" else ADMM()


def init(problem: SlotProblem, solver: Solver) -> State:
    """Cold start."""
    return newton.init(problem) if isinstance(solver, Newton) else admm.init(problem, solver)


def warm(problem: SlotProblem, solver: Solver, state: State) -> State:
    """The state of one slot as the start of another."""
    return admm.warm(problem, solver, _admm(state)) if isinstance(solver, ADMM) else state


def solve(problem: SlotProblem, solver: Solver, state: State, *, adjoint: str | None = None) -> Outcome:
    """Iterate from `state` until the slot is solved: see the solver's own `solve`.

    adjoint None: forward only; "implicit": differentiable with respect to the problem. Raises ValueError for
    another one (`slot.admm.adjoint.solve` also unrolls a fixed number of iterations).
    """
    if adjoint is None:
        return (newton if isinstance(solver, Newton) else admm).solve(problem, solver, state)
    if adjoint != "implicit":
        raise ValueError(f"unknown adjoint {adjoint!r}: None or 'implicit'")
    if isinstance(solver, Newton):
        return newton_adjoint.solve(problem, solver, _newton(state))
    return admm_adjoint.solve(problem, solver, _admm(state))


def begin(problem: SlotProblem, solver: Solver, state: State) -> Search:
    """A slot before its first iteration, for whoever steps many of them at once (`studies.engine`)."""
    if isinstance(solver, Newton):
        return newton.begin(problem, solver, _newton(state))
    return admm.begin(problem, _admm(state))


def running(solver: Solver, search: Search) -> Array:
    """() bool: neither solved nor at the iteration limit."""
    return (newton if isinstance(solver, Newton) else admm).running(solver, search)


def advance(problem: SlotProblem, solver: Solver, search: Search) -> Search:
    """The next iterations: Newton's up to something to be proved, check_every of ADMM."""
    return (newton if isinstance(solver, Newton) else admm).advance(problem, solver, search)


def end(problem: SlotProblem, solver: Solver, search: Search) -> Outcome:
    """What to execute, from wherever the search stands."""
    return (newton if isinstance(solver, Newton) else admm).end(problem, solver, search)


def executed(problem: SlotProblem, outcome: Outcome) -> execute.SlotResult:
    """The dispatch of an outcome with its verdict, which a solver may have worked out for its proof."""
    known = getattr(outcome, "result", None)
    return execute.finish(problem, outcome.answer) if known is None else known


def scale_tolerances(solver: Solver, factor: float | Array) -> Solver:
    """The solver with all its tolerances times a factor."""
    names = [field.name for field in fields(solver) if field.name.startswith("eps_")]
    return replace(solver, **{name: getattr(solver, name) * factor for name in names})


def _newton(state: State) -> newton.State:
    """A state is that of the solver at hand, which a union does not say."""
    return cast(newton.State, state)


def _admm(state: State) -> admm.State:
    return cast(admm.State, state)
