"""Scenarios slot by slot: every slot of a group lasts as long as that of its slowest scenario.

It is the simulation of one scenario, batched. A group of one is the plain simulation, one scenario after the
other: no waiting, no step wasted, and all that it touches stays in the cache.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from jaxp2p._pytree import present
from jaxp2p.model.network import Base
from jaxp2p.simulation import secure
from jaxp2p.simulation.flows import power_flow_of
from jaxp2p.simulation.secure import Secured
from jaxp2p.slot import solvers
from jaxp2p.studies.lane import Batch, Lane, Rest, Task, begun, closed, judged, opened, problem_of, retried
from jaxp2p.studies.summary import Series, with_flow


def lockstep(task: Task, numbers: Array, lanes: int) -> Batch:
    """Scenarios `numbers` (S,) int32, `lanes` at a time."""
    count, supports = numbers.shape[0], task.community.prosumers.inverters is not None
    known = secure.asked(task.community) or supports  # the flow of a slot, as soon as it is cleared
    groups = -(-count // lanes)
    width = -(-count // groups)
    padded = jnp.take(numbers, jnp.arange(groups * width), mode="clip").reshape(groups, width)

    def cleared(lane: Lane) -> tuple[Lane, Secured, Array]:
        problem = problem_of(task, lane)
        running = partial(solvers.running, task.solver)
        search = jax.lax.while_loop(running, partial(solvers.advance, problem, task.solver), lane.search)
        lane = lane._replace(search=search)
        return lane, *judged(task, lane)

    def again(found: tuple[Lane, Secured, Array]) -> tuple[Lane, Secured, Array]:
        lane, secured, _ = found
        retry = lambda: retried(task, lane, secured)
        return cleared(jax.lax.cond(secured.rounds > 0, retry, lambda: lane))

    def one(rest: Rest) -> tuple[Rest, tuple[Series, tuple[Base, Array, Array] | None]]:
        lane = opened(task, rest)
        if secure.asked(task.community):
            shape = jax.eval_shape(cleared, lane)[1]
            blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shape)
            begin = lane, blank, jnp.ones((), bool)
            unfinished = lambda found: secure.turns(task.community, found[2], found[1].rounds)
            lane, secured, _ = jax.lax.while_loop(unfinished, again, begin)
        else:
            lane, secured, _ = cleared(lane)
        base = present(lane.posed.grid)._replace(voltage=None, flow=None, reactive=None)  # not asked for
        rest, kept, done = closed(task, lane, secured, flows=supports)
        return rest, (kept, None if known else (base, done.injection, done.pv_used))

    # a batch of one is not batched: its branches stay branches
    each = jax.vmap if width > 1 else _alone

    def group(numbers: Array) -> tuple[Series, Array]:
        begin = each(partial(begun, task))(numbers)
        last, (series, done) = jax.lax.scan(lambda rest, _: each(one)(rest), begin, length=task.slots)
        if done is not None:  # products of matrices in place of a matrix and a vector
            series = with_flow(series, task.community.network, power_flow_of(task.community, *done))
        return series, last.start_kwh

    series, start_kwh = jax.lax.map(group, padded)  # (groups, T, width), (groups, width)
    made = jnp.sum(jnp.max(series.iterations, axis=2).astype(jnp.float32)) * width
    flat = jax.tree.map(lambda x: jnp.swapaxes(x, 1, 2).reshape(groups * width, -1)[:count], series)
    useful = jnp.sum(flat.iterations.astype(jnp.float32))
    return Batch(flat, start_kwh.reshape(-1)[:count], made[None], useful[None])


def _alone(function: Callable) -> Callable:
    """What `jax.vmap` does to a function of pytrees, for a batch of one."""

    def batched(*batches):
        result = function(*jax.tree.map(lambda x: x[0], batches))
        return jax.tree.map(lambda x: x[None], result)

    return batched
