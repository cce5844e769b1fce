"""The rivals, each behind one small class: `setup` once, then `solve` per slot with data updated in place.

python -m rivals.solvers NAME IN.npz OUT.npz        (a process of its own: killable, and without JAX)
"""

import pickle
import sys
import time

import numpy as np
import scipy.sparse as sp


class Piqp:
    """PIQP, sparse; only vectors are updated. Settings as found fastest in `README.md`."""

    def __init__(self, qp, *, eps=1e-8, kkt=None, reuse=True):
        import piqp

        self.version = piqp.__version__
        self.solver = piqp.SparseSolver()
        settings = self.solver.settings
        settings.eps_abs = settings.eps_duality_gap_abs = eps
        settings.eps_rel = settings.eps_duality_gap_rel = eps / 10
        settings.preconditioner_reuse_on_update = reuse
        if kkt:
            settings.kkt_solver = getattr(piqp.KKTSolver, kkt)
        self.solver.setup(sp.diags_array(qp["P"], format="csc"), *self._vectors(qp, 0, setup=True))
        self.good = piqp.PIQP_SOLVED

    def _vectors(self, qp, t, *, setup=False):
        if setup:
            return (
                qp["q"][t],
                qp["A"],
                qp["b"][t],
                qp["G"],
                qp["h_lower"][t],
                qp["h_upper"][t],
                qp["lower"][t],
                qp["upper"][t],
            )
        return {
            "c": qp["q"][t],
            "b": qp["b"][t],
            "h_l": qp["h_lower"][t],
            "h_u": qp["h_upper"][t],
            "x_l": qp["lower"][t],
            "x_u": qp["upper"][t],
        }

    def prepare(self, qp, t):
        return self._vectors(qp, t)

    def solve(self, data, *, cold):
        self.solver.update(**data)
        status = self.solver.solve()
        result = self.solver.result
        return result.x, status == self.good, result.info.iter


class Clarabel:
    """Clarabel with `update`; bounds are rows, fixed pattern, no presolve."""

    def __init__(self, qp, *, eps=1e-8, method=None):
        import clarabel

        self.version = clarabel.__version__
        self.pattern = np.isfinite(qp["lower"][0]), np.isfinite(qp["upper"][0])
        eye = sp.identity(len(qp["P"]), format="csc")
        A = sp.vstack([qp["A"], qp["G"], -qp["G"], -eye[self.pattern[0]], eye[self.pattern[1]]], format="csc")
        zero = qp["A"].shape[0]
        cones = [clarabel.ZeroConeT(zero), clarabel.NonnegativeConeT(A.shape[0] - zero)]
        settings = clarabel.DefaultSettings()
        settings.verbose, settings.presolve_enable = False, False
        settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = eps
        settings.max_threads = 1
        if method:
            settings.direct_solve_method = method
        data = self.prepare(qp, 0)
        P = sp.diags_array(qp["P"], format="csc")
        P.eliminate_zeros()
        self.solver = clarabel.DefaultSolver(sp.csc_matrix(P), data["q"], A, data["b"], cones, settings)

    def prepare(self, qp, t):
        low, high = self.pattern
        b = [qp["b"][t], qp["h_upper"][t], -qp["h_lower"][t], -qp["lower"][t][low], qp["upper"][t][high]]
        return {"q": qp["q"][t], "b": np.concatenate(b)}

    def solve(self, data, *, cold):
        self.solver.update(**data)
        solution = self.solver.solve()
        return np.array(solution.x), "Solved" in str(solution.status), solution.iterations


class Osqp:
    """OSQP, warm-started by itself from slot to slot; bounds are rows."""

    def __init__(self, qp, *, eps=1e-5):
        import osqp

        self.version = osqp.__version__
        size = len(qp["P"])
        A = sp.vstack([qp["A"], qp["G"], sp.identity(size)], format="csc")
        self.solver = osqp.OSQP()
        data = self.prepare(qp, 0)
        self.shape = A.shape
        self.solver.setup(
            P=sp.csc_matrix(sp.diags_array(qp["P"], format="csc")),
            A=A,
            **data,
            verbose=False,
            eps_abs=eps,
            eps_rel=eps,
            max_iter=20_000,
            polishing=False,
        )

    def prepare(self, qp, t):
        return {
            "q": qp["q"][t],
            "l": np.concatenate([qp["b"][t], qp["h_lower"][t], qp["lower"][t]]),
            "u": np.concatenate([qp["b"][t], qp["h_upper"][t], qp["upper"][t]]),
        }

    def solve(self, data, *, cold):
        self.solver.update(**data)
        if cold:
            self.solver.warm_start(x=np.zeros(self.shape[1]), y=np.zeros(self.shape[0]))
        result = self.solver.solve(raise_error=False)
        return np.array(result.x), result.info.status == "solved", result.info.iter


class Cvxpy:
    """cvxpy with parameters (DPP) and Clarabel behind it."""

    def __init__(self, qp, *, eps=1e-8):
        import cvxpy as cp

        self.version = cp.__version__
        self.cp = cp
        self.options = {"tol_gap_abs": eps, "tol_gap_rel": eps, "tol_feas": eps, "max_threads": 1}
        data = self.prepare(qp, 0)
        self.parameters = {name: cp.Parameter(len(value)) for name, value in data.items()}
        self.x = x = cp.Variable(len(qp["P"]))
        par, (low, high) = self.parameters, self.pattern
        curved = np.flatnonzero(qp["P"])
        root = sp.diags_array(np.sqrt(qp["P"][curved] / 2), format="csc")
        Gx = qp["G"] @ x
        constraints = [qp["A"] @ x == par["b"], Gx <= par["h_upper"], Gx >= par["h_lower"]]
        constraints += [x[low] >= par["lower"], x[high] <= par["upper"]]
        self.problem = cp.Problem(cp.Minimize(cp.sum_squares(root @ x[curved]) + par["q"] @ x), constraints)
        self.solve(data, cold=True)  # canonicalisation

    def prepare(self, qp, t):
        self.pattern = low, high = np.isfinite(qp["lower"][0]), np.isfinite(qp["upper"][0])
        return {
            "q": qp["q"][t],
            "b": qp["b"][t],
            "h_lower": qp["h_lower"][t],
            "h_upper": qp["h_upper"][t],
            "lower": qp["lower"][t][low],
            "upper": qp["upper"][t][high],
        }

    def solve(self, data, *, cold):
        for name, value in data.items():
            self.parameters[name].value = value
        self.problem.solve(solver=self.cp.CLARABEL, **self.options)
        return self.x.value, self.problem.status == "optimal", self.problem.solver_stats.num_iters


RIVALS = {
    "piqp": lambda qp: Piqp(qp),
    "clarabel": lambda qp: Clarabel(qp),
    "osqp": lambda qp: Osqp(qp),
    "cvxpy_clarabel": lambda qp: Cvxpy(qp),
    "reference": lambda qp: Clarabel(qp, eps=1e-9),
}
WARM = ("osqp",)  # the others start every slot from scratch by design: cold and warm are the same run
VARIANTS = {
    **{
        f"piqp_{k}": (lambda qp, k=k: Piqp(qp, kkt=k))
        for k in ("sparse_ldlt_eq_cond", "sparse_ldlt_ineq_cond", "sparse_ldlt_cond")
    },
    "piqp_1e-5": lambda qp: Piqp(qp, eps=1e-5),
    "piqp_1e-4": lambda qp: Piqp(qp, eps=1e-4),
    "piqp_rescale": lambda qp: Piqp(qp, reuse=False),
    "clarabel_1e-5": lambda qp: Clarabel(qp, eps=1e-5),
    "clarabel_faer": lambda qp: Clarabel(qp, method="faer"),
    "osqp_1e-4": lambda qp: Osqp(qp, eps=1e-4),
}


def save(path, qp, *, slots, cold, repeats, seconds):
    """What the process of a rival reads; `slots` in the order in which they are solved."""
    with open(path, "wb") as file:
        pickle.dump(
            {"qp": qp._asdict(), "slots": list(slots), "cold": cold, "repeats": repeats, "seconds": seconds},
            file,
        )


def main(name: str, source: str, target: str) -> None:
    """Solve slot after slot and pickle a record of each at once, so that a kill loses one only."""
    with open(source, "rb") as file:
        job = pickle.load(file)
    qp = job["qp"]
    begin = time.perf_counter()
    rival = (RIVALS | VARIANTS)[name](qp)
    setup = time.perf_counter() - begin
    with open(target, "wb") as file:

        def put(record):
            pickle.dump(record, file)
            file.flush()

        put({"setup_s": setup, "version": rival.version})
        for repeat in range(job["repeats"]):
            for t in job["slots"]:
                if time.process_time() > job["seconds"]:  # not the wall: a busy machine takes no slots away
                    return
                data = rival.prepare(qp, t)
                begin, busy = time.perf_counter(), time.process_time()
                x, claimed, iterations = rival.solve(data, cold=job["cold"])
                wall, cpu = time.perf_counter() - begin, time.process_time() - busy
                record = {"slot": t, "ms": 1e3 * wall, "cpu_ms": 1e3 * cpu, "claimed": bool(claimed)}
                put({**record, "iterations": int(iterations), "x": None if repeat else np.array(x)})


if __name__ == "__main__":
    main(*sys.argv[1:])
