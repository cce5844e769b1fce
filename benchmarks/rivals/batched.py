"""Rivals that solve many slots at a time: qpax, MPAX and jaxopt under `vmap`, and Moreau.

python -m rivals.batched NAME IN.pkl OUT.pkl        (a process of its own: killable, with its own memory)

All get the lean programs of `lean.py` in float64. The matrices are shared by the batch.
"""

import pickle
import sys
import time
from dataclasses import replace

import numpy as np
import scipy.sparse as sp


def _one_sided(qp):
    """G and a function of the slot for h in G x <= h: rows and bounds that are finite in the first slot."""
    eye = sp.identity(len(qp["P"]), format="csr")
    parts = [(qp["G"], "h_upper", 1), (qp["G"], "h_lower", -1), (eye, "upper", 1), (eye, "lower", -1)]
    finite = [np.isfinite(qp[name][0]) for _, name, _ in parts]
    matrix = sp.vstack([sign * sp.csr_array(m)[f] for (m, _, sign), f in zip(parts, finite, strict=True)])

    def bound(t):
        return np.concatenate([s * qp[n][t][f] for (_, n, s), f in zip(parts, finite, strict=True)])

    return sp.csr_array(matrix), bound


def qpax(qp, slots):
    """qpax, dense, explicit backend with its defaults."""
    import jax
    import qpax as library

    G, bound = _one_sided(qp)
    Q, A, G = np.diag(qp["P"]), qp["A"].toarray(), G.toarray()
    h = np.stack([bound(t) for t in slots])
    run = jax.jit(jax.vmap(lambda q, b, h: library.solve_qp(Q, q, A, b, G, h)))

    def solve():
        x, _, _, _, converged, _ = jax.block_until_ready(run(qp["q"][slots], qp["b"][slots], h))
        return np.asarray(x), np.asarray(converged) > 0

    return solve


def jaxopt(qp, slots):
    """jaxopt BoxOSQP, dense with LU, at the tolerance that OSQP needs here."""
    import jax
    import jax.numpy as jnp
    import jaxopt as library

    A = jnp.asarray(sp.vstack([qp["A"], qp["G"], sp.identity(len(qp["P"]))]).toarray())
    Q = jnp.diag(qp["P"])
    low = np.concatenate([qp[n][slots] for n in ("b", "h_lower", "lower")], axis=1)
    high = np.concatenate([qp[n][slots] for n in ("b", "h_upper", "upper")], axis=1)
    solver = library.BoxOSQP(
        eq_qp_solve="lu", tol=1e-5, maxiter=20_000, check_primal_dual_infeasability=False
    )

    def one(q, low, high):
        found = solver.run(params_obj=(Q, q), params_eq=A, params_ineq=(low, high))
        return found.params.primal[0], found.state.status

    run = jax.jit(jax.vmap(one))

    def solve():
        x, status = jax.block_until_ready(run(qp["q"][slots], low, high))
        return np.asarray(x), np.asarray(status) == library.BoxOSQP.SOLVED

    return solve


def mpax(qp, slots):
    """MPAX raPDHG, dense, 1e-6."""
    import jax
    import jax.numpy as jnp
    from mpax import create_qp, raPDHG
    from mpax.utils import TerminationStatus

    upper, lower = (np.isfinite(qp[name][0]) for name in ("h_upper", "h_lower"))
    rows = qp["G"].toarray()
    G = jnp.asarray(np.concatenate([-rows[upper], rows[lower]]))  # G x >= h
    h = np.concatenate([-qp["h_upper"][slots][:, upper], qp["h_lower"][slots][:, lower]], axis=1)
    right = np.concatenate([qp["b"][slots], h], axis=1)
    moving = [qp[name][slots] for name in ("q", "lower", "upper")]
    first = [x[0] for x in moving]
    Q, A, b = jnp.diag(qp["P"]), jnp.asarray(qp["A"].toarray()), qp["b"][slots[0]]
    # made outside of the traced part, where its flags would not be Python values
    shared = create_qp(Q, first[0], A, b, G, h[0], *first[1:], use_sparse_matrix=False)
    shared = replace(shared, is_lp=False)
    solver = raPDHG(eps_abs=1e-6, eps_rel=1e-6, iteration_limit=200_000)

    def one(right, q, low, high):
        bounds = {"variable_lower_bound": low, "variable_upper_bound": high}
        program = replace(shared, objective_vector=q, right_hand_side=right, **bounds)
        result = solver.optimize(program)
        return result.primal_solution, result.termination_status

    run = jax.jit(jax.vmap(one))

    def solve():
        x, status = jax.block_until_ready(run(right, *moving))
        return np.asarray(x), np.asarray(status) == TerminationStatus.OPTIMAL

    return solve


def moreau(qp, slots):
    """Moreau's compiled batch solver: it picks its device and method in the first call."""
    import moreau as library

    G, bound = _one_sided(qp)
    equal = qp["A"].shape[0]
    A = sp.csr_array(sp.vstack([qp["A"], G]))
    A.sort_indices()
    P = sp.csr_array(sp.diags_array(qp["P"]))
    P.eliminate_zeros()
    solver = library.CompiledSolver(
        n=len(qp["P"]),
        m=A.shape[0],
        P_row_offsets=P.indptr,
        P_col_indices=P.indices,
        A_row_offsets=A.indptr,
        A_col_indices=A.indices,
        cones=library.Cones(num_zero_cones=equal, num_nonneg_cones=A.shape[0] - equal),
        settings=library.Settings(batch_size=len(slots)),
    )
    solver.setup(P.data, A.data)
    right = np.stack([np.concatenate([qp["b"][t], bound(t)]) for t in slots])
    good = (library.SolverStatus.Solved, library.SolverStatus.AlmostSolved)

    def solve():
        solution = solver.solve(qp["q"][slots], right)
        return np.array(solution.x), np.array([status in good for status in solver.info.status])

    return solve


BATCHED = {"qpax": qpax, "mpax": mpax, "jaxopt": jaxopt, "moreau": moreau}


def save(path, qp, *, slots, repeats):
    """What the process of a rival reads."""
    with open(path, "wb") as file:
        pickle.dump({"qp": qp._asdict(), "slots": np.array(slots), "repeats": repeats}, file)


def main(name: str, source: str, target: str) -> None:
    """The first call compiles and is timed apart; every later one is pickled at once."""
    from importlib.metadata import version

    with open(source, "rb") as file:
        job = pickle.load(file)
    if name != "moreau":
        import jax

        jax.config.update("jax_enable_x64", True)
    begin = time.perf_counter()
    solve = BATCHED[name](job["qp"], job["slots"])
    x, claimed = solve()
    first = time.perf_counter() - begin
    with open(target, "wb") as file:
        head = {"version": f"{name} {version(name)}", "first_s": first, "x": x, "claimed": claimed}
        pickle.dump(head, file)
        file.flush()
        for _ in range(job["repeats"]):
            begin, busy = time.perf_counter(), time.process_time()
            solve()
            wall, cpu = time.perf_counter() - begin, time.process_time() - busy
            pickle.dump({"wall_s": wall, "cpu_s": cpu}, file)
            file.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
