"""A study on real kernels: the same as a run, whatever the chunks, and bounded by perfect foresight."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import pandas as pd
import pytest
from communities import as_window, small
from typer.testing import CliRunner

from jaxp2p.cli.app import app
from jaxp2p.report.kpis import evaluate
from jaxp2p.runs.runner import run
from jaxp2p.scenarios.parse import parse_model
from jaxp2p.studies.folder import read_study
from jaxp2p.studies.run import make_study, run_chunk, run_study
from jaxp2p.tuning.controller_file import write_controller
from jaxp2p.tuning.windows import start_value

pytestmark = pytest.mark.slow

SLOTS = 24
POLICIES = ("no_storage_no_trade", "no_storage", "lyapunov", "perfect_foresight")

IN_AC = {"ac_voltage_violation_pu": 2e-6, "ac_loading_violation_pct": 0.02, "ac_losses_kwh": 1e-3}
IN_AC |= {"ac_slots_violated": 0, "ac_slots_unsolved": 0}


@pytest.fixture(scope="module")
def village():
    return small("rural1", days=2, market="pool")


@pytest.fixture(scope="module")
def study(village):
    community, horizon = village
    model = parse_model("bootstrap * noise", horizon=horizon, community=community)
    return make_study(community, horizon, model=model, policies=POLICIES, slots=SLOTS, foresight_sample=3)


@pytest.fixture(scope="module")
def whole(study):
    return run_chunk(study, 0, 6)


def test_one_scenario_of_the_data_themselves_equals_a_run(village):
    community, horizon = village
    horizon = horizon.slice(0, SLOTS)
    study = make_study(community, horizon, policies=POLICIES, foresight_sample=1)
    ours = run_chunk(study, 0, 1).kpis.set_index("policy")
    theirs = evaluate(community, horizon, run(community, horizon, policies=POLICIES))
    for name in POLICIES:
        kpis = theirs[name].kpis
        size = abs(theirs["no_storage_no_trade"].kpis["cost_eur"])
        assert ours.loc[name, "cost_eur"] == pytest.approx(kpis["cost_eur"], abs=1e-5 * size)
        assert ours.loc[name, "saving_eur"] == pytest.approx(kpis["saving_eur"], abs=2e-5 * size)
        assert ours.loc[name, "p2p_kwh"] == pytest.approx(kpis["p2p_kwh"], rel=1e-3, abs=1e-3)
        assert ours.loc[name, "voltage_violation_pu"] == pytest.approx(kpis["voltage_violation_pu"], abs=1e-6)
        for figure, rounding in IN_AC.items():
            assert ours.loc[name, figure] == pytest.approx(kpis[figure], rel=1e-3, abs=rounding), figure
        assert ours.loc[name, "line_violation_kw"] == pytest.approx(kpis["line_violation_kw"], abs=0.02)


SUNDAY_EVENING = 7 * 96 - 8  # slots since Monday: the weekend ends within SLOTS


def controller_of(community, horizon, *, seed=0):
    """Weights at random, so that every feature and the time of day matter."""
    value = start_value(as_window(community, horizon), knots=4)
    return replace(value, level=0.2 * jax.random.normal(jax.random.key(seed), value.level.shape))


@pytest.mark.parametrize("engine", ["lockstep", "free_running"])
def test_a_tuned_controller_decides_as_in_a_run(village, engine):
    community, horizon = village
    tuned, horizon = controller_of(*village), horizon.slice(36, 36 + SLOTS)
    cost = {}
    for first in (SUNDAY_EVENING, 0):
        study = make_study(
            community,
            horizon,
            policies=(),
            controller=tuned,
            first_slot_of_week=first,
            engine=engine,
            foresight_sample=0,
        )
        cost[first] = run_chunk(study, 0, 1).kpis.set_index("policy").loc["tuned", "cost_eur"]
    one = run(
        community, horizon, policies=(), controller=tuned, slot_of_week=SUNDAY_EVENING, lower_bound=False
    )
    assert cost[SUNDAY_EVENING] == pytest.approx(
        evaluate(community, horizon, one)["tuned"].kpis["cost_eur"], rel=1e-5
    )
    assert abs(cost[0] - cost[SUNDAY_EVENING]) > 0.01  # the weekday matters


def test_chunks_of_one_size_are_the_same_to_the_last_bit(study, whole):
    parts = [run_chunk(study, first, count, width=6) for first, count in ((0, 4), (4, 2))]
    joined = pd.concat([part.kpis for part in parts]).sort_values(["scenario", "policy"])
    pd.testing.assert_frame_equal(
        joined.reset_index(drop=True),
        whole.kpis.sort_values(["scenario", "policy"]).reset_index(drop=True),
        check_exact=True,
    )


def test_perfect_foresight_bounds_every_policy_in_every_scenario(whole):
    cost = whole.kpis.pivot(index="scenario", columns="policy", values="cost_eur")
    known = cost.dropna()
    assert len(known) == 3
    for name in POLICIES[:-1]:
        assert (known["perfect_foresight"] <= known[name] + 1e-2).all(), name
    assert (known["lyapunov"] < known["no_storage"]).any()


def test_scenarios_differ_and_limits_hold(whole):
    lyapunov = whole.kpis[whole.kpis["policy"] == "lyapunov"]
    assert lyapunov["cost_eur"].nunique() == 6
    assert lyapunov["soc_violation_kwh"].max() <= 1e-6
    assert lyapunov["balance_error_kw"].max() < 1e-3
    assert (lyapunov["unsolved_slots"] == 0).all()


def test_a_study_in_memory_has_statistics_of_all_scenarios(study):
    told = []
    result = run_study(study, 8, chunk=6, told=lambda done, total: told.append((done, total)))
    assert told == [(6, 8), (8, 8)]
    summary = result.statistics.summary.set_index(["policy", "figure"])
    rows = result.kpis[result.kpis["policy"] == "lyapunov"]["cost_eur"]
    assert summary.loc[("lyapunov", "cost_eur"), "mean"] == pytest.approx(rows.mean())
    assert summary.loc[("lyapunov", "cost_eur"), "count"] == 8
    assert 0 <= result.wasted_share < 1
    assert set(result.traces["scenario"]) == set(range(8))


def test_what_cannot_be_is_refused(village):
    community, horizon = village
    with pytest.raises(ValueError, match="unknown policies greed"):
        make_study(community, horizon, policies=["greed"])
    with pytest.raises(ValueError, match="use bootstrap"):
        make_study(community, horizon, slots=horizon.slots + 1)
    hourly = replace(controller_of(*village), slots_per_day=24)
    with pytest.raises(ValueError, match=r"slots of 60 min \(24 per day\), these are slots of 15 min"):
        make_study(community, horizon, controller=hourly)


COMMAND = [
    *("study", "rural1", "--policies", ",".join(POLICIES), "--scenarios", "6", "--chunk", "2"),
    *("--days", "0.25", "--from-days", "3", "--foresight", "1", "--devices", "1"),
]


def call(*words):
    return CliRunner().invoke(app, [*COMMAND, *map(str, words)])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    done = call("--out", folder / "a", "--json", folder / "a.json")
    assert done.exit_code == 0, done.output
    return folder / "a", json.loads((folder / "a.json").read_text()), done.output


def test_the_command_writes_table_pictures_and_json(undisturbed):
    folder, report, output = undisturbed
    assert "state per scenario" in output and "prosumer-slots/s" in output
    wanted = {
        "cost_mean",
        "cost_se",
        "cost_p5",
        "cost_p95",
        "cvar95",
        "soc_violations",
        "voltage_violation_probability",
    }
    assert report["scenarios"] == 6 and report["slots"] == SLOTS and report["prosumers"] == 28
    assert wanted <= set(report["policies"]["lyapunov"])
    assert report["admm_iterations_total"] > 0 and 0 <= report["iterations_wasted_share"] < 1
    assert report["peak_memory_bytes"] > 1e7 and report["compile_s"] > 0
    assert {file.name for file in (folder / "pictures").iterdir()} >= {"study_boxes.png", "study_import.png"}
    assert len(read_study(folder).read_kpis()) == 6 * 3 + 1


def test_the_same_command_after_a_lost_chunk_ends_with_the_same_table(undisturbed):
    folder, _, _ = undisturbed
    before = read_study(folder).read_kpis()
    (folder / "chunks" / "000001.parquet").unlink()
    done = call("--out", folder)
    assert done.exit_code == 0, done.output
    pd.testing.assert_frame_equal(read_study(folder).read_kpis(), before, check_exact=True)


def test_other_settings_are_refused_by_name(undisturbed):
    folder, _, _ = undisturbed
    done = call("--out", folder, "--seed", 7)
    assert done.exit_code == 2
    assert "seed of the scenarios: 0, now 7" in done.output
    assert call("--out", folder, "--no-resume").exit_code == 2


def test_mistakes_are_named(tmp_path):
    done = call("--scenario-model", "noise(lod=1) * spikes", "--out", tmp_path / "x")
    assert done.exit_code == 2
    assert "lod" in done.output and "spikes" in done.output
    assert not (tmp_path / "x").exists()


def test_a_controller_file_in_a_study(tmp_path):
    """The same as in `jaxp2p run`; another controller in the same folder is refused, so is a broken one."""
    made = small("rural1", days=2, market="pool", dtype="float32")
    for seed in (0, 1):
        write_controller(tmp_path / f"{seed}.json", controller_of(*made, seed=seed), about={"seed": seed})
    window = ["rural1", "--start", "2016-07-10T09:00", "--days", "0.25", "--market", "pool"]
    window += ["--policies", "no_storage_no_trade,lyapunov", "--json", "-", "--no-pictures"]
    scenario = ["--scenarios", "1", "--scenario-model", "none", "--from-days", "0.25", "--devices", "1"]
    shown = {}
    for command, more in (("run", []), ("study", scenario)):
        words = [command, *window, *more, "--controller", tmp_path / "0.json", "--out", tmp_path / command]
        done = CliRunner().invoke(app, [str(word) for word in words])
        assert done.exit_code == 0, done.output
        shown[command] = json.loads(done.stdout[done.stdout.index("{") :])["policies"]
    assert list(shown["study"]) == list(shown["run"]) == ["no_storage_no_trade", "lyapunov", "tuned"]
    assert shown["study"]["tuned"]["cost_mean"] == pytest.approx(shown["run"]["tuned"]["cost_eur"], rel=1e-4)
    assert shown["study"]["tuned"]["cost_mean"] != pytest.approx(
        shown["study"]["lyapunov"]["cost_mean"], rel=1e-3
    )

    def again(file):
        words = ["study", *window, *scenario, "--controller", file, "--out", tmp_path / "study"]
        return CliRunner().invoke(app, [str(word) for word in words])

    other = again(tmp_path / "1.json")
    assert other.exit_code == 2 and "contents of the controller: " in other.stderr
    content = json.loads((tmp_path / "0.json").read_text())
    (tmp_path / "0.json").write_text(json.dumps({**content, "about": {}}))
    assert again(tmp_path / "0.json").exit_code == 0  # where it comes from decides nothing
    (tmp_path / "0.json").write_text(json.dumps({**content, "slots_per_day": 24}))
    hourly = again(tmp_path / "0.json")
    assert hourly.exit_code == 2 and "these are slots of 15 min" in hourly.stderr
    (tmp_path / "0.json").write_text(json.dumps({**content, "slots_per_day": 0}))
    broken = again(tmp_path / "0.json")
    assert broken.exit_code == 2 and "slots_per_day is 0" in broken.stderr
    assert again(tmp_path / "nowhere.json").exit_code == 2


def test_a_study_without_a_chunk_size_grows_in_its_own(undisturbed, tmp_path):
    folder, _, _ = undisturbed
    free = [word for word in COMMAND if word not in ("--chunk", "2")]
    poor = CliRunner().invoke(app, [*free, "--memory", "0.0000001", "--out", str(tmp_path / "poor")])
    assert poor.exit_code == 2 and "--memory" in poor.output
    copy = tmp_path / "grown"
    shutil.copytree(folder, copy)
    done = CliRunner().invoke(app, [*free, "--scenarios", "7", "--out", str(copy)])
    assert done.exit_code == 0, done.output
    assert read_study(copy).settings.chunk == 2
    kpis = read_study(copy).read_kpis()
    assert sorted(kpis["scenario"].unique()) == list(range(7))


def test_an_accelerator_has_as_many_homes_under_way_whatever_the_community(monkeypatch):
    from jaxp2p.slot.solvers import ADMM, Newton
    from jaxp2p.studies.engine import DEVICE_HOMES, choose_engine

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert choose_engine(Newton(), 153) == ("lockstep", DEVICE_HOMES // 153)
    assert choose_engine(ADMM(), 10_000) == ("free_running", DEVICE_HOMES // 10_000)
    assert choose_engine(ADMM(), 10 * DEVICE_HOMES)[1] == 1


@pytest.mark.parametrize(
    ("kind", "lanes", "memory", "chunk"),
    [
        ("lockstep", 32, 2**30, 2 * 512),  # a processor: files of a size
        ("lockstep", 32, 4200 * 2 * 32 + 3 * 100 * 300, 300),  # what is kept fills the memory
        ("lockstep", 5000, 2**30, 2 * 5000),  # an accelerator: as many as it has lanes
        ("free_running", 5000, 2**30, 2 * 20_000),  # or as take turns at them
        ("lockstep", 5000, 2 * 4500 * 70 + 1, 2 * 70),  # fewer lanes than it could take
        ("free_running", 5000, 2 * (4800 + 1200) * 30 + 1, 2 * 120),
        ("lockstep", 5000, 2 * 4500 - 1, None),
    ],
)
def test_scenarios_of_a_chunk_by_memory_and_lanes(monkeypatch, kind, lanes, memory, chunk):
    """Two devices; a lane of 1,000 bytes, four times with temporaries, 200 at rest and 100 kept, three times.

    Four scenarios take turns at a lane of `free_running`.
    """
    from jaxp2p.cli import studying
    from jaxp2p.cli.console import UsageError
    from jaxp2p.studies import engine

    monkeypatch.setattr(engine, "bytes_per_scenario", lambda task: engine.Sizes(1000, 200, 100))
    monkeypatch.setattr(engine, "choose_engine", lambda *_: (kind, lanes))
    made = SimpleNamespace(
        policies={"p": object()}, task=lambda _: None, solver=None, community=SimpleNamespace(size=1)
    )
    options = SimpleNamespace(memory=memory / 2**30, scenarios=10**6)
    if chunk is None:
        with pytest.raises(UsageError, match="--memory"):
            studying._chunk(made, options, 2)
    else:
        assert studying._chunk(made, options, 2) == chunk


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 here")
def test_kill_minus_nine_and_the_same_command_again(undisturbed, tmp_path):
    folder, _, _ = undisturbed
    target = tmp_path / "killed"
    # x64 as in this process (tests/conftest.py), so that the sums are the same
    start = "import jax; jax.config.update('jax_enable_x64', True); from jaxp2p.cli import main; main()"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    process = subprocess.Popen(
        [sys.executable, "-c", start, *COMMAND, "--out", str(target), "--quiet"], env=environment
    )
    first = target / "chunks" / "000000.parquet"
    limit = time.monotonic() + 300
    while not first.exists() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert first.exists()
    done = call("--out", target)
    assert done.exit_code == 0, done.output
    pd.testing.assert_frame_equal(
        read_study(target).read_kpis(), read_study(folder).read_kpis(), check_exact=True
    )
