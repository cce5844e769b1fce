"""Derivatives of executed answers against finite differences, leaf by leaf, in two compiled programs."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxp2p.slot import execute

STEP = 1e-5
# numbers matter here, not speed: without XLA's optimisation the programs are there sooner
quickly = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
PLAIN = ("slot_hours", "price_buy", "price_sell", "row_penalty", "pv_max", "charge_max", "value")
PLAIN += ("value_slope", "wear_cost", "discharge_efficiency", "row_offset", "row_upper", "row_lower")
NAMES = (*PLAIN, "load", "fee")  # what every slot has
LIMITS = ("buy_max", "sell_max", "unserved_price")


def moved(problem, name, along):
    """The problem with a leaf moved: a load with its limits, the fee in the market it stands in."""
    if name == "fee":
        return problem.coupled(market=replace(problem.market, fee=problem.market.fee + along))
    both = ("load", "load_min", "load_max") if name == "load" else (name,)
    return replace(problem, **{n: getattr(problem, n) + along for n in both})


def entries(problem, name):
    """One direction per entry that can move: (entries, *leaf)."""
    if name == "fee":  # one direction: those that are charged, together
        return jnp.where(problem.market.fee > 1e-3, 1.0, 0.0)[None]
    at = getattr(problem, name)
    if at.ndim == 0:
        return jnp.ones(1)
    use = np.isfinite(at)
    if name not in ("load", "row_offset", "row_upper", "row_lower"):
        use &= np.asarray(at) > 1e-3
    return jnp.eye(at.shape[0])[np.flatnonzero(use)]


def executed(problem, answer):
    """Cost, injections and device powers of an answer in one vector."""
    d = execute.dispatch(problem, answer)
    cost = execute.slot_cost(problem, d) + execute.storage_drift(problem, d)
    return jnp.concatenate([jnp.sum(cost)[None], d.injection, d.charge, d.discharge, d.pv_used])


def compare(problem, value, derivative, names=NAMES, *, tolerance=1e-3):
    """Every leaf's every entry: names that move, and those whose derivative is wrong where both sides agree.

    `value(problem)` and `derivative(problem)` give the same vector, the second with derivatives. An entry
    with different slopes to its two sides is a kink and says nothing.
    """
    labels, lines = [], []
    for name in names:
        lines += [moved(problem, name, line) for line in entries(problem, name)]
        labels += [name] * (len(lines) - len(labels))
    leaves, tree = jax.tree.flatten(problem)
    real = [jnp.issubdtype(x.dtype, jnp.inexact) for x in leaves]
    at = [np.asarray(x) for x, use in zip(leaves, real, strict=True) if use]
    ends = zip(*map(jax.tree.leaves, lines), strict=True)
    ends = [np.stack(x) for x, use in zip(ends, real, strict=True) if use]
    along = [
        np.where(np.isfinite(x), y - np.where(np.isfinite(x), x, 0), 0) for x, y in zip(at, ends, strict=True)
    ]

    def filled(numbers):
        numbers = iter(numbers)
        own = [next(numbers) if use else x for x, use in zip(leaves, real, strict=True)]
        return jax.tree.unflatten(tree, own)

    # the point itself goes through the batched program too: equal rounding on all three sides
    three = [np.concatenate([x + STEP * dx, x - STEP * dx, x[None]]) for x, dx in zip(at, along, strict=True)]
    values = quickly(jax.vmap(lambda x: value(filled(x))))(three)
    up, down, here = values[: len(labels)], values[len(labels) : -1], values[-1:]
    slope = quickly(lambda x, t: jax.vmap(jax.linearize(lambda y: derivative(filled(y)), x)[1])(t))(at, along)
    right, left = (up - here) / STEP, (here - down) / STEP
    size = 1e-2 + jnp.max(jnp.abs(right), axis=1)
    # a degenerate slot has the same slope in powers to both sides, and another one in the cost alone
    smooth = np.asarray(jnp.all(jnp.abs(right - left) < 1e-3 * (1e-2 + jnp.abs(right)), axis=1))
    off = np.asarray(jnp.max(jnp.abs(slope - (right + left) / 2), axis=1) / size)
    moving = {n for n, ok, s in zip(labels, smooth, np.asarray(size), strict=True) if ok and s > 2e-2}
    wrong = [
        (n, i, float(o), float(s))
        for i, (n, ok, o, s) in enumerate(zip(labels, smooth, off, size, strict=True))
        if ok and not o <= tolerance
    ]
    return int(np.sum(smooth & (np.asarray(size) > 2e-2))), moving, wrong
