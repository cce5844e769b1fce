"""Other prices that a slot looks at now and then: in a batch the lanes that ask for them, no others."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_slots import random_slot

from jaxp2p.slot import execute
from jaxp2p.slot.admm import leap as leap_module
from jaxp2p.slot.admm import solver
from jaxp2p.slot.admm.leap import Change, best_leap
from jaxp2p.slot.admm.method import ADMM
from jaxp2p.slot.polish import polish

LANES = 5


@pytest.fixture(scope="module", params=["bilateral", "pool"])
def under_way(request):
    """A slot with more and less load, far from solved, and how its prices moved last."""
    problem = random_slot(28, dtype=jnp.float64, market=request.param, binding=False)
    assert problem.unserved_price is None
    loads = jnp.linspace(0.6, 1.4, LANES)[:, None] * problem.load[None, :]

    def unsolved(load):
        own = replace(problem, load=load)
        search = solver.begin(own, ADMM(), solver.init(own, ADMM()))
        (_, (update, _)) = solver._block(own, ADMM(), search.devices, search.state)
        answer = polish(own, solver._raw(own, ADMM(), search._replace(update=update)))
        # prices too low for everybody, and moving up as one
        change = Change(
            *(jnp.ones_like(x) for x in (answer.market_price, search.state.trade_dual)),
            row=0 * answer.row_price,
        )
        low = answer._replace(market_price=answer.market_price * 0 + problem.price_sell)
        return low, change

    return problem, loads, jax.jit(jax.vmap(unsolved))(loads)


@pytest.mark.parametrize("few", [3, LANES + 1], ids=["gathered", "together"])
@pytest.mark.parametrize("asking", ["some", "all", "nobody"])
def test_lanes_of_a_batch_leap_as_they_would_alone(under_way, asking, few, monkeypatch):
    """With 3 two lanes at a time, so that they take turns."""
    monkeypatch.setattr(leap_module, "FEW", few)
    problem, loads, (answer, change) = under_way
    also = {
        "some": jnp.arange(LANES) % 2 == 0,
        "all": jnp.ones(LANES, bool),
        "nobody": jnp.zeros(LANES, bool),
    }
    also = also[asking]

    def leap(load, answer, change, also):
        own = replace(problem, load=load)
        nothing = execute.finish(own, answer)
        return best_leap(own, answer, nothing, 1e-6, change, also=also)

    result, excess, move = jax.jit(jax.vmap(leap))(loads, answer, change, also)
    take = lambda tree, k: jax.tree.map(lambda x: x[k], tree)
    alone = jax.jit(leap)
    for k in range(LANES):
        own_result, own_excess, own_move = alone(loads[k], take(answer, k), take(change, k), also[k])
        close = partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12)
        jax.tree.map(close, (take(result, k), excess[k], take(move, k)), (own_result, own_excess, own_move))
    moved = np.asarray((move.shift != 0) | (move.stride != 0))
    assert not moved[~np.asarray(also)].any()
    assert moved[np.asarray(also)].all()


def test_one_slot_may_be_looked_at_in_two_ways(under_way, monkeypatch):
    """Nothing differs between the lanes but whether they ask."""
    monkeypatch.setattr(leap_module, "FEW", 1)
    problem, loads, (answer, change) = under_way
    own = replace(problem, load=loads[0])
    answer, change = jax.tree.map(lambda x: x[0], (answer, change))
    leap = lambda also: best_leap(own, answer, execute.finish(own, answer), 1e-6, change, also=also)
    _, excess, move = jax.jit(jax.vmap(leap))(jnp.array([False, True]))
    assert excess[0] == excess[1] > 1
    moved = (move.shift != 0) | (move.stride != 0)
    assert moved.tolist() == [False, True]
