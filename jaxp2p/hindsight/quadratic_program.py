"""A sparse convex QP, put together block by block and solved by Clarabel (float64, on the host).

    minimise  1/2 x'Px + q'x    subject to  A_eq x = b_eq,  A_in x <= b_in,  lower <= x <= upper

Variables and rows are handed out as index arrays in the caller's own shape, with -1 where a mask leaves
one out: a sum over "every home that has the variable" is then one call of `put`, without a loop.
"""

from collections.abc import Callable
from typing import NamedTuple

import clarabel
import numpy as np
from scipy import sparse

SOLVED = ("Solved", "AlmostSolved")


class QPSolution(NamedTuple):
    """Primal and dual point; multipliers are those of f + z'(Ax - b), so z >= 0 for A x <= b."""

    x: np.ndarray  # (n,)
    row_dual: np.ndarray  # (m,) in the order in which the rows were made
    objective: float
    dual_objective: float
    status: str
    iterations: int
    seconds: float

    def value(self, index: np.ndarray) -> np.ndarray:
        """x at an index array, 0 where there is no variable."""
        return np.where(index >= 0, self.x[index], 0.0) if self.x.size else np.zeros(index.shape)

    def dual(self, rows: np.ndarray) -> np.ndarray:
        """Multipliers at an array of row numbers, 0 where there is no row."""
        return np.where(rows >= 0, self.row_dual[rows], 0.0) if self.row_dual.size else np.zeros(rows.shape)


class QuadraticProgram:
    """Collects triplets; see the module docstring."""

    def __init__(self) -> None:
        self.size, self.row_count, self.constant = 0, 0, 0.0
        self._lower: list[np.ndarray] = []
        self._upper: list[np.ndarray] = []
        self._quadratic: list[np.ndarray] = []
        self._rhs: list[np.ndarray] = []
        self._is_equality: list[np.ndarray] = []
        self._triplets: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._costs: list[tuple[np.ndarray, np.ndarray]] = []

    def variables(self, mask, *, lower=0.0, upper=np.inf, quadratic=0.0) -> np.ndarray:
        """One variable per True of the mask; returns their numbers in its shape, -1 elsewhere."""
        mask = np.asarray(mask, bool)
        index = np.full(mask.shape, -1, dtype=np.int64)
        count = int(mask.sum())
        index[mask] = self.size + np.arange(count)
        for store, value in ((self._lower, lower), (self._upper, upper), (self._quadratic, quadratic)):
            store.append(np.broadcast_to(np.asarray(value, float), mask.shape)[mask])
        self.size += count
        return index

    def rows(self, rhs, *, equality: bool = False, mask=None) -> np.ndarray:
        """One row per entry of `rhs` (where `mask` holds): `= rhs` or `<= rhs`; returns row numbers."""
        rhs = np.asarray(rhs, float)
        mask = np.ones(rhs.shape, bool) if mask is None else np.broadcast_to(mask, rhs.shape)
        index = np.full(rhs.shape, -1, dtype=np.int64)
        count = int(mask.sum())
        index[mask] = self.row_count + np.arange(count)
        self._rhs.append(rhs[mask])
        self._is_equality.append(np.full(count, equality))
        self.row_count += count
        return index

    def put(self, rows, columns, coefficients) -> None:
        """Add coefficients to A; the three broadcast, and entries without a row or a column fall away."""
        rows, columns, coefficients = np.broadcast_arrays(rows, columns, np.asarray(coefficients, float))
        keep = (rows >= 0) & (columns >= 0) & (coefficients != 0)
        self._triplets.append((rows[keep], columns[keep], coefficients[keep]))

    def add_cost(self, columns, coefficients) -> None:
        """Add linear costs; entries without a variable fall away."""
        columns, coefficients = np.broadcast_arrays(columns, np.asarray(coefficients, float))
        keep = columns >= 0
        self._costs.append((columns[keep], coefficients[keep]))

    def solve(
        self,
        *,
        scale: float = 1.0,
        tolerance: float = 1e-8,
        told: Callable[[int], None] = lambda iteration: None,
    ) -> QPSolution:
        """Solve with the objective divided by `scale`; all values returned are in the caller's units.

        tolerance, relative, of gap and feasibility; `told` hears every iteration, and whatever it raises (a
        KeyboardInterrupt among it) ends the solve. Raises RuntimeError, naming the status, when Clarabel
        reaches no solution in three attempts.
        """
        if self.size == 0:
            return QPSolution(
                np.zeros(0), np.zeros(self.row_count), self.constant, self.constant, "Solved", 0, 0.0
            )
        matrix, bound, equalities, order = self._standard_form()
        cost = np.zeros(self.size)
        for columns, coefficients in self._costs:
            np.add.at(cost, columns, coefficients)
        quadratic = sparse.diags_array(np.concatenate(self._quadratic) / scale, format="csc")
        cones = [clarabel.ZeroConeT(equalities), clarabel.NonnegativeConeT(len(bound) - equalities)]
        cones = [c for c, n in zip(cones, (equalities, len(bound) - equalities), strict=True) if n]
        seconds, iterations = 0.0, 0
        # without refining its linear systems, a third of the time; a stiffer factorisation at last
        for refine, regularization in ((False, 1e-8), (True, 1e-8), (True, 1e-6)):
            settings = clarabel.DefaultSettings()
            settings.verbose = False
            settings.max_threads = 1  # runs share their cores with other policies
            settings.direct_solve_method = "qdldl"  # fill is small: supernodes only pad (4 x slower at 260k)
            settings.static_regularization_constant = regularization
            settings.iterative_refinement_enable = refine
            settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = tolerance
            solver = clarabel.DefaultSolver(quadratic, cost / scale, matrix, bound, cones, settings)
            listener = _Listener(told)
            solver.set_termination_callback(listener)
            result = solver.solve()
            if listener.raised is not None:
                raise listener.raised
            seconds += result.solve_time
            iterations += result.iterations
            if str(result.status) in (SOLVED if refine else SOLVED[:1]):
                break
        else:
            raise RuntimeError(
                f"Clarabel ended with status {result.status} on a QP with {self.size} variables"
            )
        dual = np.zeros(self.row_count)
        rows = order < self.row_count
        dual[order[rows]] = np.asarray(result.z)[rows] * scale
        return QPSolution(
            x=np.clip(result.x, *self.limits()),
            row_dual=dual,
            objective=result.obj_val * scale + self.constant,
            dual_objective=result.obj_val_dual * scale + self.constant,
            status=str(result.status),
            iterations=iterations,
            seconds=seconds,
        )

    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """(n,), (n,): the lower and the upper limits of the variables."""
        return np.concatenate(self._lower), np.concatenate(self._upper)

    def _bounds(self) -> tuple[np.ndarray, np.ndarray, int]:
        """Variable and sign (-1: lower, 1: upper) of every limit; the first so many fix theirs."""
        lower, upper = self.limits()
        fixed = lower >= upper  # an inequality pair without interior would stall the interior point method
        has_lower, has_upper = np.isfinite(lower) & ~fixed, np.isfinite(upper) & ~fixed
        columns = np.concatenate([np.flatnonzero(has) for has in (fixed, has_lower, has_upper)])
        signs = np.repeat([1.0, -1.0, 1.0], [fixed.sum(), has_lower.sum(), has_upper.sum()])
        return columns, signs, int(fixed.sum())

    def _standard_form(self):
        """A, b with equalities first, their number, and the row behind each; bounds come after the rows."""
        columns, signs, fixed = self._bounds()
        rhs = np.concatenate([*self._rhs, _at_limits(self.limits(), columns, signs)])
        is_equality = np.concatenate([*self._is_equality, np.arange(len(columns)) < fixed]).astype(bool)
        bound_rows = self.row_count + np.arange(len(columns))
        triplets = [*self._triplets, (bound_rows, columns, signs)]
        rows, cols, values = (np.concatenate(parts) for parts in zip(*triplets, strict=True))
        order = np.argsort(~is_equality, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        matrix = sparse.csc_array((values, (place[rows], cols)), shape=(len(rhs), self.size))
        matrix.sum_duplicates()
        return matrix, rhs[order], int(is_equality.sum()), order


def _at_limits(limits: tuple[np.ndarray, np.ndarray], columns: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Right-hand sides of signs x <= signs limit."""
    lower, upper = limits
    return np.where(signs < 0, -lower[columns], upper[columns])


class _Listener:
    """Passes on Clarabel's iterations; what the hearer raises ends the solve and is kept."""

    def __init__(self, told: Callable[[int], None]) -> None:
        self._told = told
        self.raised: BaseException | None = None

    def __call__(self, info) -> bool:
        try:
            self._told(info.iterations)
        except BaseException as error:
            self.raised = error
        return self.raised is not None


class RepeatedProgram:
    """A linear program whose matrix stays while its costs, right-hand sides and limits change.

    Clarabel keeps its factorisation pattern from one solve to the next. The refinement of its linear systems,
    half of the time, is left out, and taken up again for a program that is not solved without it.
    """

    def __init__(self, program: QuadraticProgram, *, tolerance: float = 1e-6) -> None:
        """`program` without quadratic costs; its own costs and right-hand sides are not used."""
        self.size, self.row_count = program.size, program.row_count
        self._matrix, self._bound, self._equalities, order = program._standard_form()
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        self._place, self._bound_place = place[: self.row_count], place[self.row_count :]
        self._columns, self._signs, _ = program._bounds()
        self._tolerance = tolerance
        self._solver: clarabel.DefaultSolver | None = None

    def solve(
        self, cost: np.ndarray, rhs: np.ndarray, limits: tuple[np.ndarray, np.ndarray] | None = None
    ) -> np.ndarray:
        """x (n,) for costs (n,) of size about 1 and right-hand sides (m,) in the order of the rows.

        limits: lower and upper (n,) in place of the program's own, finite where those are. Raises
        RuntimeError, naming the status, when Clarabel reaches no solution in two attempts.
        """
        bound = self._bound.copy()
        bound[self._place] = rhs
        if limits is not None:
            bound[self._bound_place] = _at_limits(limits, self._columns, self._signs)
        if self._solver is None:
            self._solver = self._make(cost, bound, refine=False)
        else:
            self._solver.update(q=cost, b=bound)
        result = self._solver.solve()
        if str(result.status) not in SOLVED:
            result = self._make(cost, bound, refine=True).solve()
        if str(result.status) not in SOLVED:
            raise RuntimeError(
                f"Clarabel ended with status {result.status} on a plan of {self.size} variables"
            )
        return np.asarray(result.x)

    def _make(self, cost: np.ndarray, bound: np.ndarray, *, refine: bool) -> clarabel.DefaultSolver:
        settings = clarabel.DefaultSettings()
        settings.verbose = False
        settings.max_threads = 1
        settings.direct_solve_method = "qdldl"
        settings.presolve_enable = False  # it would forbid updates
        settings.iterative_refinement_enable = refine
        settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = self._tolerance
        cones = [
            clarabel.ZeroConeT(self._equalities),
            clarabel.NonnegativeConeT(len(bound) - self._equalities),
        ]
        quadratic = sparse.csc_array((self.size, self.size))
        return clarabel.DefaultSolver(quadratic, cost, self._matrix, bound, cones, settings)
