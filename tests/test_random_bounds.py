"""Random communities: lower bound <= perfect foresight <= every policy; perfect foresight is the optimum."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from jaxp2p import Tables, build_community, build_horizon
from jaxp2p.cli.console import UsageError
from jaxp2p.cli.studying import foresight_sample
from jaxp2p.control.policy import suggest_penalties
from jaxp2p.hindsight.perfect_foresight import perfect_foresight
from jaxp2p.runs.runner import make_policies, run
from jaxp2p.simulation.forward import simulate_in_pieces
from jaxp2p.slot.solvers import choose_solver

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import bench_bounds
from rivals.random_communities import random_community

pytestmark = pytest.mark.slow

AGREE = bench_bounds.AGREE


@pytest.mark.parametrize("first", range(0, 96, 12))
def test_perfect_foresight_is_the_optimum_and_its_duals_prove_it(first):
    for seed in range(first, first + 12):
        found = bench_bounds.check(seed, policies=False, shapes=12)
        assert found["reference"] <= AGREE, found
        if found["market"] != "bilateral":
            assert found["reference"] >= -AGREE, found
        assert abs(found["bound"]) <= AGREE, found


@pytest.mark.parametrize("first", range(6))
def test_no_policy_beats_perfect_foresight(first):
    for seed in range(first, 24, 6):
        found = bench_bounds.check(seed, shapes=6)
        assert found["policy"] >= -AGREE, found


def test_the_communities_are_not_easy():
    """Where nothing binds there is nothing to test."""
    drawn = [random_community(seed) for seed in range(48)]
    homes = [community.prosumers for community, _, _ in drawn]
    assert sum(bool(np.isfinite(h.buy_max).any()) for h in homes) > 12
    assert sum(community.feeder.rows > 0 for community, _, _ in drawn) > 12
    assert sum(bool(np.any((h.battery.retention < 1) & (h.battery.energy_min > 0))) for h in homes) > 12
    assert sum(bool((horizon.price_sell < 0).any()) for _, horizon, _ in drawn) > 12
    assert sum(bool((horizon.price_buy == horizon.price_sell).all()) for _, horizon, _ in drawn) > 6
    assert sum(bool(np.isfinite(c.market.limit).any()) and c.market.kind != "none" for c, _, _ in drawn) > 6


def test_an_absent_battery_is_refilled_like_any_other():
    """What leaks below the lower limit is charged again, by every policy: none saves by leaving it out."""
    checked = 0
    for seed in range(0, 48, 6):  # one shape
        community, horizon, _ = random_community(seed, shapes=6)
        battery = community.prosumers.battery
        leaks = np.asarray((battery.retention < 1) & (battery.energy_min > 0))
        parts = jax.tree.map(jnp.asarray, (community, horizon))
        penalties, solver = suggest_penalties(horizon), choose_solver(community)
        policies = make_policies(*parts)
        for name in ("no_storage", "no_storage_no_trade", "self_consumption", "lyapunov"):
            run = simulate_in_pieces(*parts, penalties, policies[name], solver)
            assert (np.asarray(run.energy) >= np.asarray(battery.energy_min) - 1e-9)[:, leaks].all(), name
            if name.startswith("no_storage"):
                kept = np.asarray(battery.retention * battery.energy_start)
                assert np.all(np.asarray(run.discharge) == 0)
                never = leaks & (kept * battery.retention**horizon.slots > battery.energy_min)
                assert np.all(np.asarray(run.charge)[:, never | ~leaks] == 0)
                checked += int((np.asarray(run.charge)[:, leaks] > 0).any())
    assert checked > 4


def test_members_who_cannot_help_each_other_are_not_helped():
    """Issue 10: three members, one at his limit, whose limits perfect foresight passed on for free."""
    time = pd.date_range("2024-03-04", periods=2, freq="15min")
    tables = Tables(
        prosumers=pd.DataFrame(
            {
                "prosumer_id": ["a", "b", "c"],
                "bus_id": "b0",
                "load_profile": "flat",
                "load_kw": [3.3, 1.1, 1.7],
                "buy_max_kw": [4.0, 3.0, 0.9],
            }
        ),
        buses=pd.DataFrame({"bus_id": ["b0", "b1"], "vn_kv": 0.4, "slack": [1, 0]}),
        lines=pd.DataFrame(
            {
                "line_id": ["l1"],
                "from_bus": ["b0"],
                "to_bus": ["b1"],
                "kind": "line",
                "r_ohm": [0.1],
                "x_ohm": [0.1],
            }
        ),
        profiles=pd.DataFrame({"time": time, "flat": 1.0}),
        prices=pd.DataFrame({"time": time, "buy_eur_per_kwh": 0.3, "sell_eur_per_kwh": 0.1}),
    )
    community = build_community(tables, market="pool", fee=0.0, network=False, dtype="float64")
    found = run(community, build_horizon(community, tables), policies=("no_storage", "perfect_foresight"))
    # all 6.1 kW are bought for half an hour: 0.8 kW of the third member by the others
    assert found.perfect_foresight_eur == pytest.approx(0.3 * 6.1 / 2, rel=1e-9)
    assert found.lower_bound_eur == pytest.approx(found.perfect_foresight_eur, rel=1e-8)
    plan = found.trajectories["perfect_foresight"]
    assert np.all(plan.buy <= [4.0, 3.0, 0.9]) and np.abs(plan.unserved).max() == 0
    assert plan.cost.sum() == pytest.approx(found.trajectories["no_storage"].cost.sum(), rel=1e-6)


def test_perfect_foresight_is_left_out_where_it_would_take_too_long(monkeypatch):
    community, horizon, _ = random_community(6)
    parts = jax.tree.map(jnp.asarray, (community, horizon))
    names, told = ("no_storage", "perfect_foresight"), []
    found = run(*parts, policies=names, foresight_mode="auto", progress=lambda *at: told.append(at[0]))
    assert found.perfect_foresight_eur is not None and not found.left_out
    assert any("round 1 with" in stage for stage in told)
    assert run(*parts, policies=names, foresight_mode="off").perfect_foresight_eur is None
    monkeypatch.setattr("jaxp2p.runs.in_hindsight.estimate_seconds", lambda *_: 1e6)
    left = run(*parts, policies=names, foresight_mode="auto")
    assert "perfect_foresight" not in left.trajectories and "--foresight on" in left.left_out
    assert left.lower_bound_eur <= found.perfect_foresight_eur + 1e-9
    assert run(*parts, policies=names, foresight_mode="on").perfect_foresight_eur is not None
    with pytest.raises(ValueError, match="foresight_mode"):
        run(*parts, policies=names, foresight_mode="perhaps")


def test_an_interrupt_ends_perfect_foresight_at_once():
    community, horizon, _ = random_community(6)
    heard = []

    def stop(round: int, rows: int, iteration: int) -> None:
        heard.append(iteration)
        if iteration == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        perfect_foresight(
            community, horizon, terminal_price=0.1, row_penalty=1.0, unserved_price=2.0, told=stop
        )
    assert heard[-1] == 3


def test_the_number_of_scenarios_with_perfect_foresight_in_words():
    assert [foresight_sample(text) for text in ("auto", "on", "off", "0", "12")] == [8, 8, 0, 0, 12]
    for text in ("some", "-1", "1.5"):
        with pytest.raises(UsageError, match="--foresight"):
            foresight_sample(text)
