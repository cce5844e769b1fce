"""Scenarios at their own pace: lanes of an accelerator that never wait for a slot of another.

`lanes` scenarios are in a slot at a time, `UNDER_WAY` times as many are under way. All lanes take their turns
together (the least that the solver's iteration is made of: `solvers.turn`). As soon as some have something to
prove, those are gathered: where the proof holds, they execute their dispatch and rest, and their lanes go to
the scenarios that have done the fewest slots, which draw their next one; where it does not, they go on. So a
hard slot of one scenario delays nobody else, and a scenario of hard slots does not trail behind in the end,
when its lane would iterate alone: all end within a few slots.

Turning over is dear, by the bytes that it moves and the kernels that it launches. So it is for a part of the
lanes at a time, and what rests is small.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxp2p._pytree import pick_tree
from jaxp2p.simulation import secure
from jaxp2p.slot import solvers
from jaxp2p.studies import lane as lanes_of
from jaxp2p.studies.lane import Batch, Lane, Rest, Task, begun, closed, judged, opened, problem_of
from jaxp2p.studies.summary import Series

TURNOVER = 8  # lanes are turned over as soon as 1 / TURNOVER of them have something to prove
UNDER_WAY = 4  # scenarios per lane that take turns; fewer would wait for the last ones


class _AtWork(NamedTuple):
    """The lanes (L,)."""

    lane: Lane
    row: Array  # (L,) int32, of the scenario in the batch; -1: none yet, S: no more


def free_running(task: Task, numbers: Array, lanes: int) -> Batch:
    """Scenarios `numbers` (S,) int32, every one at its own pace, `lanes` at a time."""
    count = numbers.shape[0]
    groups = -(-count // (UNDER_WAY * lanes))
    size = -(-count // groups)
    lanes = lanes if groups == 1 else -(-size // UNDER_WAY)  # as many take turns in each of even groups
    rows = jnp.arange(groups * size, dtype=jnp.int32).reshape(groups, size)
    # the last group may not be full: what is beyond the batch never begins
    shares = jnp.take(numbers, rows, mode="clip"), rows < count
    each = lambda share: _take_turns(task, share[0], share[1], lanes)
    series, start_kwh, made, useful = jax.lax.map(each, shares)
    flat = lambda x: x.reshape(groups * size, *x.shape[2:])[:count]
    return Batch(jax.tree.map(flat, series), flat(start_kwh), jnp.sum(made)[None], jnp.sum(useful)[None])


def _take_turns(task: Task, numbers: Array, there: Array, lanes: int) -> tuple[Series, Array, Array, Array]:
    """Scenarios `numbers` (S,) that are `there` (S,) bool: series, start_kwh, steps made and useful."""
    count = numbers.shape[0]
    width = min(lanes, count)
    group = -(-width // TURNOVER)
    solver = task.solver

    def taken(now: _AtWork) -> Array:
        """(L,) bool: at a scenario, or about to be."""
        return now.row < count

    def busy(now: _AtWork) -> Array:
        """(L,) bool: without anything to prove."""
        mine = (now.row >= 0) & taken(now)
        return mine & jax.vmap(partial(solvers.seeking, solver))(now.lane.search)

    def waiting(now: _AtWork) -> Array:
        return taken(now) & ~busy(now)

    def go_on(carry) -> Array:
        now = carry[0]
        few = TURNOVER * jnp.sum(waiting(now)) < jnp.sum(taken(now))
        return jnp.any(busy(now)) & few

    def turns(carry):
        now, made, useful = carry
        working = busy(now)
        freeze = lambda new, old: jnp.where(working.reshape(-1, *(1,) * (new.ndim - 1)), new, old)
        turn = lambda lane: solvers.turn(problem_of(task, lane), solver, lane.search)
        old = now.lane.search
        search = jax.tree.map(freeze, jax.vmap(turn)(now.lane), old)
        steps = (search.iterations - old.iterations).astype(made.dtype)
        made, useful = made + width * jnp.max(steps), useful + jnp.sum(steps)
        return now._replace(lane=now.lane._replace(search=search)), made, useful

    def turn_over(now: _AtWork, at_rest: Rest, series: Series) -> tuple[_AtWork, Rest, Series]:
        chosen = jnp.nonzero(waiting(now), size=group, fill_value=width)[0]
        lane = jax.tree.map(lambda x: jnp.take(x, chosen, axis=0, mode="clip"), now.lane)
        row = jnp.take(now.row, chosen, mode="fill", fill_value=count)
        prove = lambda lane: solvers.prove(problem_of(task, lane), solver, lane.search)
        lane = lane._replace(search=jax.vmap(prove)(lane))
        secured, insecure = jax.vmap(partial(judged, task))(lane)
        unproved = jax.vmap(partial(solvers.running, solver))(lane.search)
        stays = (unproved | insecure) & (row >= 0) & (row < count)
        # executed for all that were gathered, and dropped where there is nothing to execute
        done = jnp.where(stays | (row < 0), count, row)
        rest, kept, _ = jax.vmap(partial(closed, task))(lane, secured)
        put = lambda all_, new: all_.at[done, lane.slot].set(new.astype(all_.dtype), mode="drop")
        series = jax.tree.map(put, series, kept)
        into = lambda where: lambda all_, new: all_.at[where].set(new, mode="drop")
        at_rest = jax.tree.map(into(done), at_rest, rest)
        taken_rows = now.row.at[chosen].set(jnp.where(stays, row, count), mode="drop")
        fewest = _fewest_slots(task, at_rest, taken_rows, group)
        free = jnp.cumsum(~stays) - 1  # as many of the fewest as there are lanes for them
        row = jnp.where(stays, row, jnp.take(fewest, free, mode="clip"))
        following = jax.tree.map(lambda x: jnp.take(x, row, axis=0, mode="clip"), at_rest)
        fresh = jax.vmap(partial(opened, task))(following)
        if secure.asked(task.community):
            again = jax.vmap(partial(lanes_of.retried, task))(lane, secured)
            lane = jax.vmap(pick_tree)(unproved, lane, again)
        lane = jax.vmap(pick_tree)(stays, lane, fresh)
        now = _AtWork(jax.tree.map(into(chosen), now.lane, lane), now.row.at[chosen].set(row, mode="drop"))
        return now, at_rest, series

    def round_(carry):
        now, at_rest, series, made, useful = carry
        now, made, useful = jax.lax.while_loop(go_on, turns, (now, made, useful))
        return *turn_over(now, at_rest, series), made, useful

    at_rest = jax.vmap(partial(begun, task))(numbers)
    at_rest = at_rest._replace(slot=jnp.where(there, at_rest.slot, task.slots))
    # Every lane begins at the end of a slot that never was: the loop itself opens the first ones, and the
    # program has one copy of all that instead of two.
    shape = jax.eval_shape(partial(opened, task), jax.tree.map(lambda x: x[0], at_rest))
    blank = jax.tree.map(lambda x: jnp.zeros((width, *x.shape), x.dtype), shape)
    now = _AtWork(blank, jnp.full((width,), -1, jnp.int32))
    # float: a study makes more steps than an int32 holds
    zero = jnp.zeros((), jnp.float32)
    unfinished = lambda carry: jnp.any(taken(carry[0]))
    begin = now, at_rest, lanes_of.nothing_kept(task, count), zero, zero
    _, at_rest, series, made, useful = jax.lax.while_loop(unfinished, round_, begin)
    return series, at_rest.start_kwh, made, useful


def _fewest_slots(task: Task, at_rest: Rest, taken: Array, most: int) -> Array:
    """(most,) scenarios that have done the fewest slots, of those in no lane; S where there are no more."""
    done = at_rest.slot.at[jnp.where(taken < 0, at_rest.slot.shape[0], taken)].set(task.slots, mode="drop")
    nearest, found = jax.lax.top_k(-done, most)
    return jnp.where(nearest > -task.slots, found, done.shape[0])
