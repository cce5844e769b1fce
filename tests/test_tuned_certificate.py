"""What holds for a tuned value curve: by hand, and against the line that a slot really follows."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from communities import as_window, small
from test_bounds import battery

from jaxp2p.control.bounds import slot_energy, stored_value_range, value_at_empty
from jaxp2p.control.certificate import tuned_certificate
from jaxp2p.control.tuned import Memory, value_line
from jaxp2p.runs.runner import price_bounds, run
from jaxp2p.tuning.train import in_turn
from jaxp2p.tuning.windows import start_value

pytestmark = pytest.mark.slow

KNOTS, WEEK = 4, 7 * 96


@pytest.fixture(scope="module", params=["float32", "float64"])
def made(request):
    return small("rural1", price="tou_noise", dtype=request.param)


@pytest.fixture(scope="module")
def start(made):
    return start_value(as_window(*made), knots=KNOTS)


def proof_of(made, value, **prices):
    community, horizon = made
    low, high = price_bounds(horizon)
    bounds = {"price_min": low, "price_max": high} | prices
    return tuned_certificate(value, community.prosumers.battery, slot_hours=horizon.slot_hours, **bounds)


def test_the_start_never_meets_the_limits_within_its_prices(made, start):
    assert proof_of(made, start).share() == (1, 1, 1)
    high = price_bounds(made[1])[1]
    assert proof_of(made, start, price_max=high + 0.05).share() == (0, 0, 1)


def test_shares_by_hand(made, start):
    """More worth around one knot reaches the upper limit there, on weekends everywhere."""
    one_knot = replace(start, level=start.level.at[0, 0, 0, 1].add(0.5))
    touched = 2 * 96 // KNOTS - 1  # slots of the day with a part of the knot
    assert proof_of(made, one_knot).share() == pytest.approx((1 - touched / 96, 1, 1 - touched / 96))
    weekend = replace(start, level=start.level.at[0, 0, 1].add(-0.5))
    proof = proof_of(made, weekend)
    assert proof.share() == pytest.approx((5 / 7, 5 / 7, 1))
    text = proof.explain()
    assert "71 % of the slots of a week (lower 71 %, upper 100 %)" in text
    assert "no guarantee for i.i.d. slots" in text and "whatever the weights" in text


def test_other_features_than_their_means_change_nothing(made, start):
    tilted = replace(start, level=start.level.at[0, 0, 2:].set(30.0))
    assert proof_of(made, tilted).share() == (1, 1, 1)


def test_every_stage_counts_alike(made, start):
    wild = replace(start, level=start.level + 5, begins=start.begins + 96)
    proof = proof_of(made, in_turn([start, wild], [0, 96]))
    assert proof.share() == pytest.approx((1 / 2, 1, 1 / 2))


@pytest.mark.parametrize("seed", range(2))
def test_it_says_what_the_lines_of_the_slots_say(made, start, seed):
    """Wild weights; batteries that leak, cannot earn, or do not exist; 41 energies to start some slots."""
    dtype, (low, high), hours = start.level.dtype, (0.1, 0.4), jnp.asarray(0.25, start.level.dtype)
    own = battery(dtype)
    draw = jax.random.split(jax.random.key(seed))
    value = replace(
        start,
        level=0.3 * jax.random.normal(draw[0], start.level.shape, dtype),
        drop=2 * jax.random.normal(draw[1], (1, 1, 3, KNOTS), dtype),
        group=jnp.zeros((4,), jnp.int32),
        price_low=jnp.asarray([low], dtype),
        price_high=jnp.asarray([high], dtype),
    )
    proof = tuned_certificate(value, own, low, high, slot_hours=hours)
    mean = value.mean[0]
    memory = Memory(means=jnp.stack([mean[7], mean[5], mean[6]]), now=mean[2:5], ahead=mean[8:])
    homes = replace(small("rural1")[0].prosumers, battery=own)
    charge, discharge = (np.asarray(x) for x in slot_energy(own, hours))
    cost_least, floor = stored_value_range(own, low, high)[0], value_at_empty(own, low, high)
    lowest, highest = np.asarray(own.energy_min), np.asarray(own.energy_max)
    line = jax.jit(lambda kept, slot: value_line(value, memory, homes, kept, slot))
    seen = set()
    for slot in range(seed, WEEK, 41):
        empty, full = np.full(4, np.inf), np.full(4, -np.inf)
        for share in np.linspace(0, 1, 41):
            kept = np.asarray(own.retention) * (lowest + share * (highest - lowest))
            here, slope = (
                np.asarray(x) for x in line(jnp.asarray(kept, dtype), jnp.asarray(slot, jnp.int32))
            )
            empty = np.where(
                kept - discharge < lowest, np.minimum(empty, here + slope * (kept - lowest)), empty
            )
            full = np.where(kept + charge > highest, np.maximum(full, here - slope * (highest - kept)), full)
        for says, gap in (
            (np.asarray(proof.never_empty[slot]), empty - np.asarray(floor)),
            (np.asarray(proof.never_full[slot]), np.asarray(cost_least) - full),
        ):
            for i in np.flatnonzero(np.asarray(proof.has_battery)):
                assert not says[i] or gap[i] >= -1e-4
                assert says[i] or gap[i] <= 1e-4
                seen.add(bool(says[i]))
    assert seen == {True, False}


def test_a_run_with_a_controller_says_it(made, start):
    community, horizon = made
    found = run(community, horizon.slice(0, 2), policies=(), controller=start, lower_bound=False)
    first, _, second = found.certificate.partition("tuned controller, ")
    assert "exact drift" in first and second.startswith("5 batteries")
