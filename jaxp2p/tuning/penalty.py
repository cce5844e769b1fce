"""Penalties of the ADMM for one community, by gradient through a fixed number of iterations.

    minimise over weights   mean over warm-started slots of log (1 + |excess|_8) ,
    log (rho, rho_injection) = weights @ (1, features of the slot),

excess being all residuals over their tolerances after `iterations` steps with constant penalties: what is
left of them there says how fast they fall, and it has a gradient, which the number of iterations has not. The
eighth norm is a maximum whose gradient sees more than one residual; log (1 + .), so that solved slots count
no more: without it the many easy slots win, and a few hard ones never end. Slots come from a run, each with
the state that the slot before left, so that what is tuned is what a simulation does.

Without features the result is an `ADMM` like any other, one for the community; with them every slot has its
own, known before it is solved.

The loss stands in for the iterations and is not the same: it can fall while they rise, for the slots that are
far from solved after `iterations` steps above all. So let balancing take over there: the rule with
`ADMM(adapt_after=iterations // check_every)`, inherit False, ended every slot and in the median sooner than
balancing from the start (`benchmarks/bench_penalty.py`). Check with `iterations_needed`.
"""

from dataclasses import fields, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxp2p._pytree import record, static
from jaxp2p.slot.admm.method import ADMM
from jaxp2p.slot.admm.residuals import Residuals
from jaxp2p.slot.admm.solver import State, init, solve, solve_fixed, warm
from jaxp2p.slot.problem import SlotProblem

NAMES = ("rho", "rho_injection")
Row = dict[str, Any]  # arrays by field of the SlotProblem
FEATURES = ("surplus", "binding rows", "price level", "price spread", "storage")


@record
class PenaltyRule:
    """`admm` with penalties that depend on the slot."""

    admm: ADMM
    weights: Array  # (2, 1 + F) of the logarithms: constant, then FEATURES
    inherit: bool = static(default=True)  # start from what balancing left in the slot before (`warm`)

    def at(self, problem: SlotProblem, state: State) -> ADMM:
        """The settings for a slot; `state` is what the slot before left."""
        logs = jnp.sum(self.weights * features(problem, state)[None, :], axis=1)
        return replace(self.admm, **dict(zip(NAMES, jnp.exp(logs), strict=True)))


def constant_rule(admm: ADMM, dtype=jnp.float32) -> PenaltyRule:
    """The penalties of `admm` in every slot."""
    weights = jnp.zeros((len(NAMES), 1 + len(FEATURES)), dtype)
    logs = jnp.log(jnp.asarray([getattr(admm, name) for name in NAMES], dtype))
    return PenaltyRule(admm=admm, weights=weights.at[:, 0].set(logs))


def features(problem: SlotProblem, state: State) -> Array:
    """(1 + F,) what is cheap to know of a slot beforehand: 1 and FEATURES, each within about -1 to 1.

    Surplus of PV over load; rows that had a price in the slot before; mean and spread of its market prices
    within the tariffs; storage that is free to move, as a share of all power.
    """
    pv, load = jnp.sum(problem.pv_max), jnp.sum(problem.load)
    spread = problem.price_scale
    priced = jnp.abs(state.row_price) > 1e-3 * spread
    rows = jnp.sum(priced.astype(load.dtype))
    level = jnp.clip((state.price - problem.price_sell) / spread, 0, 1)
    storage = jnp.sum(problem.charge_max + problem.discharge_max)
    tiny = jnp.finfo(load.dtype).tiny
    return jnp.stack(
        [
            jnp.ones_like(load),
            (pv - load) / (pv + load + tiny),
            rows / (1 + rows),
            2 * jnp.mean(level) - 1,
            2 * jnp.std(level),
            storage / (storage + pv + load + tiny),
        ]
    )


class Sample(NamedTuple):
    """T slots of one community, one after the other, and how each may start."""

    problem: SlotProblem  # every leaf but those of market and feeder with a leading axis T
    start: State  # (T, ...), what the slot before left (the first: cold)
    iterations: Array  # (T,) int32, what the solver needed that made the starts


class Tuned(NamedTuple):
    """What tuning found."""

    rule: PenaltyRule
    loss: np.ndarray  # (steps,) of the minibatches

    @property
    def admm(self) -> ADMM:
        """One set of penalties for all slots; what there is to find without features."""
        logs = np.asarray(self.rule.weights[:, 0], float)
        return replace(self.rule.admm, **dict(zip(NAMES, np.exp(logs).tolist(), strict=True)))


def sample(problems: list[SlotProblem], admm: ADMM) -> Sample:
    """Solve consecutive slots of one community, warm-started, and keep their starts.

    Raises ValueError without slots.
    """
    if not problems:
        raise ValueError("no slots to tune on")
    names = [f.name for f in fields(SlotProblem) if _axis(problems[0], f.name) == 0]
    rows: Row = {name: jnp.stack([getattr(p, name) for p in problems]) for name in names}
    return Sample(
        replace(problems[0], **rows), *_chain(problems[0], rows, constant_rule(admm, problems[0].load.dtype))
    )


def iterations_needed(slots: Sample, rule: PenaltyRule) -> np.ndarray:
    """(T,) iterations for the slots in a row, each started from what the one before left."""
    first, rows = _split(slots.problem)
    return np.asarray(_chain(first, rows, rule)[1])


def _axis(problem: SlotProblem, name: str) -> int | None:
    """0 for a field with an axis of slots, None for one that all slots share (or that is absent)."""
    return None if name == "coupling" or getattr(problem, name) is None else 0


def _split(problem: SlotProblem) -> tuple[SlotProblem, Row]:
    """The first of stacked slots, and all that differs from slot to slot."""
    rows: Row = {f.name: getattr(problem, f.name) for f in fields(SlotProblem) if _axis(problem, f.name) == 0}
    return replace(problem, **{name: x[0] for name, x in rows.items()}), rows


@jax.jit
def _chain(first: SlotProblem, rows: Row, rule: PenaltyRule) -> tuple[State, Array]:
    def body(state: State, row: Row):
        problem = replace(first, **row)
        admm = rule.at(problem, state)
        before = state if rule.inherit else _anew(state)
        outcome = solve(problem, admm, warm(problem, admm, before))
        return outcome.state, (state, outcome.iterations)

    return jax.lax.scan(body, init(first, rule.at(first, init(first, rule.admm))), rows)[1]


def residual_loss(problem: SlotProblem, rule: PenaltyRule, start: State, iterations: int) -> Array:
    """() log (1 + eighth norm) of all residuals over their tolerances after `iterations` steps."""
    admm = rule.at(problem, start)
    start = warm(problem, admm, _anew(start))
    return _log_excess(solve_fixed(problem, admm, start, iterations)[0].residuals)


def _anew(state: State) -> State:
    """Without the penalties that balancing found: the next slot starts with its own."""
    return state._replace(rho_start=state.rho)


def _log_excess(last: Residuals) -> Array:
    excess = jnp.concatenate([last.prim_excess, last.dual_excess, last.row_excess[None]])
    positive = excess > 0  # a family that does not exist has no residual
    logs = jnp.log(jnp.where(positive, excess, 1))
    return jax.nn.softplus(jax.nn.logsumexp(8 * logs, where=positive) / 8)


def tune_penalties(
    slots: Sample,
    admm: ADMM,
    *,
    by_feature: bool = False,
    iterations: int = 40,
    steps: int = 200,
    batch: int = 12,
    learning_rate: float = 0.1,
    seed: int = 0,
) -> Tuned:
    """Adam from the penalties of `admm` on minibatches of `batch` slots; the mean of the last half is kept.

    A gradient through many iterations has heavy tails where the active set changes: it is clipped, slots
    whose gradient is not finite are left out, and the average takes the noise of the last steps off.
    """
    first, every = _split(slots.problem)
    begin = constant_rule(admm, first.load.dtype)
    free = jnp.ones_like(begin.weights) if by_feature else jnp.zeros_like(begin.weights).at[:, 0].set(1)

    def loss(weights: Array, row: Row, start: State) -> Array:
        rule = replace(begin, weights=weights)
        return residual_loss(replace(first, **row), rule, start, iterations)

    each = jax.vmap(jax.value_and_grad(loss), in_axes=(None, 0, 0))
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(learning_rate))

    @jax.jit
    def update(weights: Array, memory: optax.OptState, chosen: Array):
        value, gradient = each(weights, *jax.tree.map(lambda x: x[chosen], (every, slots.start)))
        fine = jnp.isfinite(value) & jnp.all(jnp.isfinite(gradient), axis=(1, 2))
        count = jnp.maximum(jnp.sum(fine), 1).astype(value.dtype)
        gradient = free * jnp.sum(jnp.where(fine[:, None, None], gradient, 0), axis=0) / count
        change, memory = optimiser.update(gradient, memory, weights)
        return optax.apply_updates(weights, change), memory, jnp.sum(jnp.where(fine, value, 0)) / count

    weights, memory, draw = begin.weights, optimiser.init(begin.weights), np.random.default_rng(seed)
    total = slots.iterations.shape[0]
    history, path = [], []
    for _ in range(steps):
        chosen = jnp.asarray(draw.choice(total, min(batch, total), replace=False), jnp.int32)
        with jax.numpy_dtype_promotion("standard"):  # optax counts its steps in int32
            weights, memory, value = update(weights, memory, chosen)
        history.append(float(value))
        path.append(weights)
    kept = jnp.mean(jnp.stack(path[len(path) // 2 :]), axis=0)
    return Tuned(replace(begin, weights=kept), np.asarray(history))
