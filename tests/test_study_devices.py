"""The batch engine against single scenarios; the same results on one device, on many, in two processes."""

import json
import re
import socket
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from communities import small
from jax.sharding import Mesh
from on_devices import DRAWN, HOMES, SERIES, SLOTS, draws, make_task, numbered, numbers, simulated, start

import jaxp2p as jp
from jaxp2p.runs.runner import make_policies, penalties_of
from jaxp2p.scenarios.parse import parse_model
from jaxp2p.simulation import secure
from jaxp2p.slot.solvers import choose_solver, scale_tolerances
from jaxp2p.slot.status import Status
from jaxp2p.studies import engine, free_running
from jaxp2p.studies.devices import pad_community, prosumer_mesh, scenario_mesh, shard_prosumers
from jaxp2p.studies.engine import Task, run_batch, suited_lanes

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
COUNT = 10
# two programs round differently, so a solver may stop elsewhere: share of the money moved, and kWh
LOSS = {"pool": 1e-5, "bilateral": 2e-4}
STORED = 1e-3


@pytest.fixture(scope="module", autouse=True)
def quick_compiler():
    """The programs here run for a moment and compile for many."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def drawn_task():
    return make_task("pool", DRAWN)


@pytest.fixture(scope="module")
def reference(drawn_task):
    """Ten scenarios in two lanes on one device."""
    return jax.device_get(run_batch(drawn_task, numbers(COUNT), engine="free_running", lanes=2))


@pytest.fixture(scope="module")
def scenarios(drawn_task):
    return jax.device_get(jax.jit(draws)(drawn_task, numbers(COUNT)))


def moved_eur(task: Task, series) -> np.ndarray:
    """(S,) the money that changes hands, at the largest price."""
    power = np.sum(np.asarray(series["import_kw"] + series["export_kw"] + series["trade_kw"]), axis=-1)
    return power * float(task.horizon.slot_hours) * float(jnp.max(jnp.abs(task.horizon.price_buy)))


def assert_alike(task: Task, one, other) -> None:
    """Series (S, T) by name: the same states, the same money, the same stored energy."""
    one, other = ({name: np.asarray(series[name]) for name in SERIES} for series in (one, other))
    np.testing.assert_array_equal(one["status"], other["status"])
    allowed = LOSS[task.community.market.kind] * moved_eur(task, one)
    assert (allowed > 0).all()
    assert (np.abs(one["cost_eur"].sum(-1) - other["cost_eur"].sum(-1)) <= allowed).all()
    np.testing.assert_allclose(one["stored_kwh"], other["stored_kwh"], atol=STORED)


def by_name(series) -> dict[str, np.ndarray]:
    return {name: getattr(series, name) for name in SERIES}


def summed(trajectory) -> dict[str, np.ndarray]:
    """What a Series keeps, of a Trajectory; with the axis S."""
    trajectory = jax.device_get(trajectory)
    return {
        "cost_eur": trajectory.cost.sum(1)[None],
        "import_kw": trajectory.buy.sum(1)[None],
        "export_kw": trajectory.sell.sum(1)[None],
        "trade_kw": trajectory.trade_volume.sum(1)[None] / 2,
        "stored_kwh": trajectory.energy.sum(1)[None],
        "status": trajectory.status[None],
    }


def part(series, rows) -> dict[str, np.ndarray]:
    return {name: np.asarray(series[name])[rows] for name in SERIES}


def wasted(batch) -> float:
    return 1 - float(batch.steps_useful.sum() / batch.steps_made.sum())


# ---------------------------------------------------------------- one device


def test_a_batch_is_its_scenarios_simulated_one_by_one(drawn_task, reference, scenarios):
    series = by_name(reference.series)
    assert series["cost_eur"].shape == (COUNT, SLOTS)
    assert 0 <= wasted(reference) < 1
    assert float(reference.steps_useful[0]) == series["iterations"].sum()
    prosumers, horizons, _ = scenarios
    np.testing.assert_allclose(reference.start_kwh, prosumers.battery.energy_start.sum(1), rtol=1e-12)
    assert len(np.unique(reference.start_kwh)) > 1, "the scenarios must differ"
    for row in (0, 4, COUNT - 1):
        homes, horizon = jax.tree.map(lambda leaf, row=row: leaf[row], (prosumers, horizons))
        community = replace(drawn_task.community, prosumers=homes)
        alone = simulated(drawn_task, community, horizon, drawn_task.policy)
        mine = part(series, [row])
        assert_alike(drawn_task, mine, summed(alone) | {"iterations": alone.iterations[None]})
        for name in ("import_kw", "export_kw", "trade_kw"):
            np.testing.assert_allclose(mine[name], summed(alone)[name], atol=5e-3)


def test_a_scenario_is_the_same_to_the_last_bit_whatever_the_others_are(drawn_task, reference):
    order = np.random.default_rng(0).permutation(COUNT)
    other = jax.device_get(run_batch(drawn_task, numbers(COUNT)[order], engine="free_running", lanes=2))
    assert other.steps_made != reference.steps_made, "another schedule"
    for mine, theirs in zip(other.series, reference.series, strict=True):
        np.testing.assert_array_equal(mine, theirs[order])
    np.testing.assert_array_equal(other.start_kwh, reference.start_kwh[order])


def test_the_steps_made_are_those_of_the_simulated_schedule(drawn_task, reference, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from bench_lanes import Schedule, counts, iterations_of, record, simulate

    turns, proofs = record("pool", COUNT, task=drawn_task)
    np.testing.assert_array_equal(iterations_of(turns, proofs, 1), reference.series.iterations)
    plan = Schedule(lanes=2, under_way=free_running.UNDER_WAY, turnover=free_running.TURNOVER)
    found = simulate(counts(turns, proofs, 1), np.arange(COUNT), plan)
    assert found["made"] == reference.steps_made[0] > found["useful"] == reference.steps_useful[0]


@pytest.mark.parametrize("market", ["pool", "bilateral"])
def test_the_lanes_of_an_accelerator_fill_it_and_leave_four_scenarios_to_each(market, monkeypatch):
    task = make_task(market)
    monkeypatch.setattr(engine.jax, "default_backend", lambda: "gpu")
    most = engine.DEVICE_HOMES // HOMES
    assert suited_lanes(task, 10**6, "free_running") == ("free_running", most)
    assert suited_lanes(task, 1000, "free_running") == ("free_running", 250)
    assert suited_lanes(task, 1000, "lockstep") == ("lockstep", 1000)
    assert suited_lanes(task, 1)[0] == ("lockstep" if market == "pool" else "free_running")
    lane, rest, _ = engine.bytes_per_scenario(task)
    assert 5 * rest < lane, "what rests is small"

    class Small:
        def memory_stats(self):
            return {"bytes_limit": 2 * 50.5 * 4 * (lane + rest)}

    monkeypatch.setattr(engine.jax, "local_devices", lambda: [Small()])
    assert suited_lanes(task, 10**6, "free_running") == ("free_running", 50)


@pytest.mark.parametrize(("market", "count"), [("pool", 1), ("bilateral", 3)])
def test_without_effects_a_scenario_is_a_simulation_of_the_horizon(market, count):
    task = make_task(market)
    batch = jax.device_get(run_batch(task, numbers(count), engine="free_running", lanes=22))
    series = by_name(batch.series)
    run = simulated(task, task.community, task.horizon.slice(0, SLOTS), task.policy)
    expected = summed(run)
    assert (series["status"] == Status.SOLVED).all()
    assert 0 <= wasted(batch) < 1
    for row in range(count):
        assert_alike(task, part(series, [row]), expected | {"iterations": run.iterations[None]})
    price = run.market_price.mean(1)
    np.testing.assert_allclose(batch.series.price_eur_per_kwh, np.tile(price, (count, 1)), atol=1e-3)


def test_an_unsolved_slot_keeps_its_status_and_its_scenario_goes_on(drawn_task):
    solver = replace(scale_tolerances(drawn_task.solver, -1.0), max_iter=20)
    never = replace(drawn_task, solver=solver, slots=2)
    batch = jax.device_get(run_batch(never, numbers(3), engine="free_running", lanes=2))
    assert (batch.series.status == Status.MAX_ITER).all()
    assert (batch.series.iterations >= never.solver.max_iter).all()
    assert np.isfinite(batch.series.cost_eur).all()
    assert batch.series.balance_error_kw.max() < 1e-9


# ---------------------------------------------------------------- free running, the pool


@pytest.fixture(scope="module", params=[False, True], ids=["linear", "secure"])
def narrow_task(request):
    """An evening in January at which batteries would charge with more than the transformer carries."""
    case = jp.build(
        "rural1", start="2016-01-11", days=1, market="pool", dtype="float64", secure=request.param
    )
    horizon, network = case.horizon.slice(86, 92), case.community.network
    community = replace(case.community, network=replace(network, rating=network.rating / 2))
    return Task(
        community=community,
        horizon=horizon,
        model=parse_model("noise", horizon=horizon, community=community),
        penalties=penalties_of(case.horizon),
        policy=make_policies(community, case.horizon)["lyapunov"],
        solver=choose_solver(community),
        key=jax.random.key(0),
        first_slot_of_week=jnp.int32(86),
        slots=horizon.slots,
    )


@pytest.fixture(scope="module")
def slot_by_slot(narrow_task):
    return jax.device_get(run_batch(narrow_task, numbers(7), engine="lockstep", lanes=4))


def assert_the_same(one, other) -> None:
    """Two batches, but for rounding: another program may have another order of its sums."""
    np.testing.assert_array_equal(one.series.iterations, other.series.iterations)
    np.testing.assert_array_equal(one.series.status, other.series.status)
    np.testing.assert_allclose(one.start_kwh, other.start_kwh, rtol=1e-12)
    for name, mine, theirs in zip(one.series._fields, one.series, other.series, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-8, atol=1e-8, err_msg=name)


def test_the_network_is_at_work(narrow_task, slot_by_slot):
    free = replace(narrow_task.community, network=narrow_task.community.network.unlimited())
    wide = run_batch(replace(narrow_task, community=free), numbers(7), engine="lockstep", lanes=4).series
    assert (slot_by_slot.series.import_kw < wide.import_kw - 1).any(), "it lets less pass"
    assert (slot_by_slot.series.rounds > 1).any() == secure.asked(narrow_task.community)


@pytest.mark.parametrize("lanes", [2, *(pytest.param(n, marks=pytest.mark.long) for n in (1, 3))])
def test_lanes_that_run_free_do_what_they_do_slot_by_slot(narrow_task, slot_by_slot, lanes):
    """Seven scenarios: one lane has two groups of four, the second not full; two and three have one."""
    free = jax.device_get(run_batch(narrow_task, numbers(7), engine="free_running", lanes=lanes))
    assert_the_same(free, slot_by_slot)


@pytest.mark.long
def test_lanes_run_free_by_kernels_of_our_own(drawn_task):
    by = lambda kernels: replace(drawn_task, solver=replace(drawn_task.solver, kernels=kernels))
    both = [
        jax.device_get(run_batch(by(kernels), numbers(3), engine="free_running", lanes=2))
        for kernels in ("xla", "interpret")
    ]
    assert_the_same(*both)


def test_what_is_too_hard_for_newton_is_handed_on_in_both(narrow_task):
    """Two evaluations are enough for some slots; the others are left to ADMM, or unsolved."""
    hasty = replace(narrow_task, solver=replace(narrow_task.solver, max_iter=2))
    both = [
        jax.device_get(run_batch(hasty, numbers(3), engine=engine, lanes=2))
        for engine in ("lockstep", "free_running")
    ]
    iterations = both[0].series.iterations
    assert (iterations > 2).any() and (iterations <= 2).any()
    assert_the_same(*both)


def test_a_scenario_is_the_same_whatever_the_chunk(narrow_task, slot_by_slot):
    part = jax.device_get(run_batch(narrow_task, numbers(7)[3:5], engine="free_running", lanes=2))
    same = slot_by_slot._replace(
        series=jax.tree.map(lambda x: x[3:5], slot_by_slot.series), start_kwh=slot_by_slot.start_kwh[3:5]
    )
    assert_the_same(part, same)


# ---------------------------------------------------------------- many devices


def finish(*processes) -> None:
    try:
        texts = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, text in zip(processes, texts, strict=True):
        assert process.returncode == 0, text


def test_eight_devices_in_lockstep(drawn_task, reference, scenarios, tmp_path):
    out = tmp_path / "batch.npz"
    finish(start("batch", out, devices=8))
    found = np.load(out)
    made, useful = found["steps_made"], found["steps_useful"]
    assert made.shape == (8,) and found["cost_eur"].shape == (24, SLOTS)
    assert (useful <= made).all() and useful.sum() == found["iterations"].sum()
    assert_alike(drawn_task, by_name(reference.series), part(found, slice(COUNT)))
    for name, leaf in numbered(jax.tree.leaves(scenarios)).items():
        np.testing.assert_array_equal(
            found[name][:COUNT], leaf, err_msg="draws must not depend on the devices"
        )


def test_two_processes_share_a_mesh_one_scenario_at_a_time(drawn_task, reference, tmp_path):
    if "jax_cpu_collectives_implementation" not in jax.config.values:
        pytest.skip("this JAX has no collectives between CPU processes")
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        coordinator = f"localhost:{probe.getsockname()[1]}"
    outs = [tmp_path / f"{rank}.npz" for rank in (0, 1)]
    finish(*(start("worker", out, coordinator, str(rank), devices=4) for rank, out in enumerate(outs)))
    parts = [np.load(out) for out in outs]
    assert [list(p["rows"]) for p in parts] == [list(range(8)), list(range(8, 16))]
    found = {name: np.concatenate([p[name] for p in parts]) for name in (*SERIES, "start_kwh")}
    assert_alike(drawn_task, by_name(reference.series), part(found, slice(COUNT)))
    np.testing.assert_allclose(found["start_kwh"][:COUNT], reference.start_kwh, rtol=1e-12)


def test_members_over_eight_devices(tmp_path):
    out = tmp_path / "members.npz"
    finish(start("members", out, devices=8))
    found = np.load(out)
    collectives = json.loads(str(found["collectives"]))
    kinds = {market: {kind for _, kind in rows} for market, rows in collectives.items()}
    assert kinds == {"pool": {"all-reduce"}, "bilateral": {"all-reduce", "all-gather"}}
    members = {int(n) for shapes, _ in collectives["pool"] for n in re.findall(r"\w+\[(\d+)\]", shapes)}
    assert 16 not in members, "in the pool only sums leave a device"
    for market in ("pool", "bilateral"):
        task = make_task(market)
        run = simulated(task, task.community, task.horizon.slice(0, SLOTS), task.policy)
        size = task.community.size
        np.testing.assert_array_equal(found[f"{market}_status"], run.status)
        mine, moved = found[f"{market}_cost"], moved_eur(task, summed(run))
        assert abs(mine[:, :size].sum() - np.sum(run.cost)) <= LOSS[market] * moved
        np.testing.assert_allclose(found[f"{market}_energy"][:, :size], run.energy, atol=STORED)
        for name in ("cost", "energy", "buy"):
            assert np.abs(found[f"{market}_{name}"][:, size:]).max() < 1e-9, "nobody lives there"


# ---------------------------------------------------------------- empty members and faults


@pytest.mark.parametrize("market", ["pool", "bilateral", "none"])
def test_padding_adds_members_without_anything(market):
    community, horizon = small("ieee33", market=market, homes=13)
    padded, longer = pad_community(community, horizon, 8)
    size = community.size
    assert (size, padded.size, longer.load.shape[1], len(set(padded.prosumers.ids))) == (13, 16, 16, 16)
    assert pad_community(padded, longer, 8)[0] is padded
    bus, graph, homes = np.asarray(padded.prosumers.bus), padded.market, padded.prosumers
    assert (np.diff(bus) >= 0).all() and bus[-1] == community.network.voltage_min.shape[0] - 1
    empty = [homes.pv_peak, homes.battery.energy_max, graph.limit, graph.fee, longer.load, longer.pv]
    assert all((np.asarray(leaf)[..., size:] == 0).all() for leaf in empty)
    assert not np.asarray(homes.flexible)[size:].any() and not np.asarray(padded.feeder.flexible)[size:].any()
    same = jax.tree.map(
        lambda new, old: np.array_equal(new[..., :size], old), homes.battery, community.prosumers.battery
    )
    assert all(jax.tree.leaves(same))
    reverse, partner = np.asarray(graph.reverse), np.asarray(graph.partner)
    np.testing.assert_array_equal(reverse.ravel()[reverse.ravel()], np.arange(reverse.size))
    np.testing.assert_array_equal(reverse % 16, partner)
    np.testing.assert_array_equal(partner[:, :size], community.market.partner)


def test_faults_are_named():
    community, horizon = small("ieee33", homes=13)
    policy = make_policies(community, horizon)["lyapunov"]
    present = len(jax.devices())
    assert scenario_mesh().shape == {engine.AXIS: present}
    with pytest.raises(ValueError, match=f"{present + 1} devices asked for, but there .* {present}"):
        scenario_mesh(present + 1)
    with pytest.raises(ValueError, match="give 1 or more"):
        prosumer_mesh(0)
    with pytest.raises(ValueError, match="give 1 or more"):
        pad_community(community, horizon, 0)
    with pytest.raises(ValueError, match='needs "prosumer"'):
        shard_prosumers(community, horizon, policy, scenario_mesh(1))
    mesh = jax.sharding.AbstractMesh((8,), ("prosumer",))
    with pytest.raises(ValueError, match=r"13 members cannot be split evenly over 8 .* adds 3 empty ones"):
        shard_prosumers(community, horizon, policy, mesh)
    padded, longer = pad_community(community, horizon, 8)
    with pytest.raises(ValueError, match="the policy is for 13 members, the community has 16"):
        shard_prosumers(padded, longer, policy, Mesh(np.array(jax.devices()[:1]), ("prosumer",)))
