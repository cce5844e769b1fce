"""One run of one community, measured: how its slots ended, time with and without network, memory, reference.

The measurements of `bench_sizes.py`, made in a process of their own so that the peak of memory is the run's.
"""

import contextlib
import io
import resource
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from jaxp2p.cli.running import verdict
from jaxp2p.control.policy import slot_problem, suggest_penalties
from jaxp2p.data.loading import load
from jaxp2p.model.build import build_community, build_horizon
from jaxp2p.model.limits import impossible_limits, summary
from jaxp2p.report.kpis import evaluate
from jaxp2p.runs import runner
from jaxp2p.settings.source import Source
from jaxp2p.simulation import forward as simulation
from jaxp2p.slot.execute import POWER_TOLERANCE, VOLTAGE_TOLERANCE
from jaxp2p.slot.rows import row_tolerance, row_values
from jaxp2p.slot.solvers import choose_solver
from jaxp2p.slot.status import Status

REPEATS, LONG_ENOUGH = 30, 4.0  # runs of each kind at most, and seconds after which there are enough
TOLD = 10  # unsolved slots in a line
FIGURES = ("gap", "prim_res", "dual_res", "violation")
MANY = 5000  # members from which Clarabel takes half a minute per slot and more: then HiGHS
PIECES, ROUNDS = 16, 2  # of a quadratic cost, the second time finer ones around the answer
TOTAL = ("load", "pv_used", "charge", "discharge", "buy", "sell", "unserved", "trade_volume")


def measure(source: dict, policy: str, *, samples: int, reference_seconds: float) -> dict:
    """The line of one run; source: the fields of a `Source`."""
    begin = time.perf_counter()
    tables = load(Source(**source))
    community = build_community(tables)
    horizon = build_horizon(community, tables)
    read_s = time.perf_counter() - begin
    run = runner.run(community, horizon, policies=[policy], lower_bound=False)
    kpis = evaluate(community, horizon, run)[policy].kpis
    peak_mb = peak_memory()
    warning = io.StringIO()
    with contextlib.redirect_stderr(warning):
        code = verdict({policy: kpis}, horizon.slots)
    done = run.trajectories[policy]
    penalties, decided = suggest_penalties(horizon), runner.make_policies(community, horizon)[policy]
    at_limit = near_limits(community, horizon, penalties, decided, done)
    free = community.without_network()
    seconds, seconds_free, done_free = time_both(community, free, horizon, penalties, decided)
    impossible = impossible_limits(community, horizon)
    return {
        "members": community.size,
        "buses": len(community.network.bus_ids),
        "rows": community.feeder.rows,
        "batteries": int(np.sum(community.prosumers.battery.owned)),
        "slots": horizon.slots,
        "dtype": str(horizon.load.dtype),
        "statuses": kpis["status_counts"],
        "unsolved": unsolved(done),
        "exit": code,
        "warning": warning.getvalue().strip(),
        "impossible": summary(impossible)[:3],
        "slots_at_limit": int(at_limit.sum()),
        "iterations": spread(done.iterations),
        "iterations_free": spread(done_free.iterations),
        "solved_free": int(np.sum(done_free.status == Status.SOLVED)),
        "read_s": round(read_s, 2),
        "compile_s": round(run.compile_seconds, 2),
        "seconds": round(seconds, 4),
        "seconds_free": round(seconds_free, 4),
        "ratio": round(seconds / seconds_free, 2),
        "cost_eur": round(kpis["cost_eur"], 4),
        "gap_eur": round(float(np.sum(done.gap.astype(float))), 5),
        "peak_mb": round(peak_mb),
        "reference": reference(
            community, horizon, penalties, decided, done, samples=samples, budget=reference_seconds
        ),
    }


def peak_memory() -> float:
    """MB that this process has ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)  # bytes there, kB elsewhere


def spread(values: np.ndarray) -> dict:
    """Mean, median, 95th percentile and the largest."""
    mean, (median, most) = values.mean(), np.percentile(values, [50, 95])
    mean, most = round(float(mean), 1), round(float(most), 1)
    return {"mean": mean, "median": float(median), "p95": most, "max": int(values.max())}


def unsolved(done) -> list[dict]:
    """Slots without a certified answer, the first ones."""
    found = []
    for slot in np.flatnonzero(np.isin(done.status, (Status.MAX_ITER, Status.NUMERICAL_ERROR)))[:TOLD]:
        line = {"slot": int(slot), "status": Status(int(done.status[slot])).name}
        line["iterations"] = int(done.iterations[slot])
        found.append(line | {name: digits(getattr(done, name)[slot]) for name in FIGURES})
    return found


def digits(x) -> float:
    """Three digits."""
    return float(f"{float(x):.3g}")


def time_both(community, free, horizon, penalties, policy):
    """Fastest seconds of the whole run with the network and without, taken in turns, and the latter's run."""
    solver, fastest, spent, done = choose_solver(community), [np.inf, np.inf], 0.0, None
    simulation.compile_pieces(free, horizon, penalties, policy, solver)
    for _ in range(REPEATS):
        for which, one in enumerate((community, free)):
            begin = time.perf_counter()
            done = simulation.simulate_in_pieces(one, horizon, penalties, policy, solver)
            taken = time.perf_counter() - begin
            fastest[which], spent = min(fastest[which], taken), spent + taken
        if spent > LONG_ENOUGH:
            break
    return *fastest, done


def energies(community, done) -> np.ndarray:
    """(T, N) kWh at the start of every slot."""
    start = np.asarray(community.prosumers.battery.energy_start)[None, :]
    return np.concatenate([start, done.energy[:-1]])


def near_limits(community, horizon, penalties, policy, done) -> np.ndarray:
    """(T,) bool: a network row is at its limit, or beyond, by the tolerance of the pass rule."""
    if not community.feeder.rows:
        return np.zeros(horizon.slots, bool)

    @jax.jit
    def near(row, energy, slot, injection):
        problem = slot_problem(community, penalties, policy, row, energy, slot)
        value = row_values(problem, injection)
        room = jnp.minimum(problem.row_upper - value, value - problem.row_lower)
        return jnp.any(room < row_tolerance(problem, flow=POWER_TOLERANCE, voltage=VOLTAGE_TOLERANCE))

    rows = simulation.slots(horizon)
    before = energies(community, done)
    at = lambda t: (jax.tree.map(lambda x: x[t], rows), before[t], jnp.asarray(t, jnp.int32))
    return np.array([bool(near(*at(t), done.injection[t])) for t in range(horizon.slots)])


def by_highs(p, q, matrix, right, low, high):
    """x and the multipliers of matrix x = right: a solver for `slot_judge.optimum`, by linear programs.

    A random trading graph fills the factors of Clarabel (4 s per slot with 3,060 members, 30 with 9,945);
    HiGHS takes 10 s per round with 29,988. Quadratic costs become pieces of a line, in the next round finer
    ones around the answer. However good they are, the judge's bound from the multipliers counts true costs.
    """
    from scipy import sparse
    from scipy.optimize import linprog

    curved = np.flatnonzero(p > 0)
    bottom, top = low[curved], high[curved]
    middle, reach = (bottom + top) / 2, (top - bottom) / 2
    steps = np.linspace(-1, 1, PIECES + 1)[:, None]
    x, y = None, None
    for _ in range(ROUNDS if len(curved) else 1):
        knots = np.concatenate([bottom[None, :], middle + reach * steps, top[None, :]]).clip(bottom, top)
        width, slope = np.diff(knots, axis=0), q[curved] + p[curved] * (knots[1:] + knots[:-1]) / 2
        pieces = [matrix[:, curved]] * len(width)
        first, last = low.copy(), high.copy()
        last[curved] = bottom
        bounds = np.concatenate([np.stack([first, last], 1), np.stack([0 * width.ravel(), width.ravel()], 1)])
        found = linprog(
            np.concatenate([q, slope.ravel()]),
            A_eq=sparse.hstack([matrix, *pieces], format="csc"),
            b_eq=right,
            bounds=bounds,
            method="highs-ipm",
        )
        if found.x is None:
            return None
        x, y = found.x[: len(q)].copy(), found.eqlin.marginals
        x[curved] = bottom + found.x[len(q) :].reshape(width.shape).sum(0)
        middle, reach = x[curved], reach * 2 / PIECES
    return x, y


def reference(community, horizon, penalties, policy, done, *, samples: int, budget: float) -> dict:
    """Executed costs of a sample of slots held against `slot_judge.optimum` (Clarabel; HiGHS for MANY).

    `beyond_gap`: slots whose cost is above a proved lower bound by more than the stated gap, the judge's own
    error and rounding. The sample ends early after `budget` seconds.
    """
    from slot_judge import executed, optimum

    solvers = (by_highs,) if community.size >= MANY else None
    order = np.random.default_rng(0).permutation(horizon.slots)[:samples]
    rows, before = simulation.slots(horizon), energies(community, done)
    make = jax.jit(lambda *parts: slot_problem(community, penalties, policy, *parts))
    fee = float(np.max(np.asarray(community.market.fee), initial=0))
    begin, lines = time.perf_counter(), []
    for t in order:
        row = jax.tree.map(lambda x, t=t: x[t], rows)
        problem = jax.device_get(make(row, before[t], jnp.asarray(int(t), jnp.int32)))
        best = optimum(problem, solvers)
        dispatch = {name: getattr(done, name)[t] for name in TOTAL}
        cost, rounding = executed(
            problem, dispatch, fee / 2 * float(dispatch["trade_volume"].sum(dtype=float))
        )
        gap = float(done.gap[t])
        lines.append((int(t), cost, best.value, best.error, best.scale, gap, rounding))
        if time.perf_counter() - begin > budget:
            break
    seconds = time.perf_counter() - begin
    if not lines:
        return {"slots": 0}
    slot, cost, value, error, scale, gap, rounding = (np.array(x) for x in zip(*lines, strict=True))
    above = cost - value
    beyond = above > gap + rounding  # value - error is the proved bound: above + error > gap + error
    return {
        "slots": len(lines),
        "by": "HiGHS" if solvers else "Clarabel",
        "asked": int(min(samples, horizon.slots)),
        "seconds_per_slot": round(seconds / len(lines), 3),
        "above_eur_max": digits(above.max()),
        "above_share_max": digits((above / scale).max()),
        "above_share_min": digits((above / scale).min()),
        "gap_share_max": digits((gap / scale).max()),
        "above_less_gap_eur_max": digits((above - gap).max()),
        "judge_error_share_max": digits((error / scale).max()),
        "beyond_gap": int(beyond.sum()),
        "beyond_slots": slot[beyond][:TOLD].tolist(),
    }
