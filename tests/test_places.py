"""Where results go, what they replace, what is refused before the work, and the exit codes that say why."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from fake_runs import fake_run
from typer.testing import CliRunner
from villages import village

import jaxp2p.runs.runner
from jaxp2p.cli import app
from jaxp2p.cli.console import EXIT_CODES
from jaxp2p.cli.source import Source
from jaxp2p.data import write_tables
from jaxp2p.report.results import load_results
from jaxp2p.slot.status import Status

LOCKED = Path("/proc")  # a folder into which nobody can write, root included


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "110")


@pytest.fixture
def asked(monkeypatch):
    """Replaces the solver; collects what it was asked for, and may bend what it answers."""
    calls: list[SimpleNamespace] = []

    def run(community, horizon, *, policies, **options):
        calls.append(SimpleNamespace(community=community, horizon=horizon, **options))
        return fake_run(community, horizon, policies=policies)

    monkeypatch.setattr(jaxp2p.runs.runner, "run", run)
    return calls


def call(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def run_village(name, *more):
    return call("run", name, "--policies", "greedy", "--no-pictures", *more)


# ---------------------------------------------------------------- names


def test_two_folders_of_one_case_keep_their_results(asked, tmp_path):
    for name in ("one", "two"):
        write_tables(village(), name)
        done = run_village(name)
        assert done.exit_code == 0, done.output
    assert {entry.name for entry in (tmp_path / "jaxp2p-results").iterdir()} == {
        "one-2016-07-04-bilateral-1d",
        "two-2016-07-04-bilateral-1d",
    }


def test_folders_of_one_name_in_two_places_keep_their_results(asked, tmp_path):
    for place in ("a", "b"):
        write_tables(village(), f"{place}/homes")
        done = run_village(f"{place}/homes")
        assert done.exit_code == 0, done.output
    first, second = (load_results(f"jaxp2p-results/homes-2016-07-04-bilateral-1d{end}") for end in ("", "-2"))
    assert first.summary["made_from"]["input"] == str(tmp_path / "a" / "homes")
    assert second.summary["made_from"]["input"] == str(tmp_path / "b" / "homes")
    assert "these go to" in " ".join(done.stderr.split()) and "homes-2016-07-04-bilateral-1d-2" in done.stderr


def test_the_same_again_takes_its_own_place_and_other_settings_do_not(asked, tmp_path):
    write_tables(village(), "homes")
    for more in ((), (), ("--format", "csv"), ("--tolerance", 0.5), ("--market", "pool"), ("--days", 0.5)):
        assert run_village("homes", *more).exit_code == 0
    assert sorted(entry.name for entry in (tmp_path / "jaxp2p-results").iterdir()) == [
        "homes-2016-07-04-bilateral-0.5d",
        "homes-2016-07-04-bilateral-1d",
        "homes-2016-07-04-bilateral-1d-2",
        "homes-2016-07-04-pool-1d",
    ]
    assert run_village("homes", "--tolerance", 0.5).exit_code == 0  # finds its own number again
    assert len(list((tmp_path / "jaxp2p-results").iterdir())) == 4


def test_a_named_folder_is_kept_for_its_input(asked):
    for name in ("one", "two"):
        write_tables(village(), name)
    assert run_village("one", "--out", "here").exit_code == 0
    other = run_village("two", "--out", "here")
    assert other.exit_code == 2 and len(asked) == 1  # before the work
    words = " ".join(other.stderr.split())
    assert "holds results made from something else" in words and "input: " in words
    changed = run_village("one", "--out", "here", "--fee", 0.03)
    assert changed.exit_code == 2 and "fee: None, now 0.03" in changed.stderr
    assert run_village("one", "--out", "here").exit_code == 0
    assert run_village("two", "--out", "here", "--replace").exit_code == 0
    assert load_results("here").summary["made_from"]["input"].endswith("two")


@pytest.mark.parametrize("name", ["../../escaped", "/tmp/escaped", "..", "", "a/b"])
def test_names_inside_the_files_lead_nowhere(asked, tmp_path, name):
    inner = tmp_path / "deep" / "inner"
    inner.mkdir(parents=True)
    tables = village()
    write_tables(tables.replace(meta={**tables.meta, "name": name}), inner / "homes")
    done = run_village(inner / "homes")
    assert done.exit_code == 0, done.output
    (made,) = (tmp_path / "jaxp2p-results").iterdir()
    assert made.name == "homes-2016-07-04-bilateral-1d"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["deep", "jaxp2p-results"]


@pytest.mark.parametrize("folder", [".", "..", "/", "my homes/", "héros:1", "-x", ".hidden"])
def test_folder_names_are_single_names(folder):
    from jaxp2p.cli.places import target_name

    name = target_name(Source(name=folder), pd.Timestamp("2016-07-04 06:30"), "pool", 1.5)
    assert Path(name).name == name and not name.startswith((".", "-"))
    assert name.endswith("-2016-07-04T0630-pool-1.5d")


# ---------------------------------------------------------------- refused before the work


COMMANDS = {
    "run": ("run", "homes"),
    "study": ("study", "homes", "--scenarios", 2),
    "tune": ("tune", "homes", "--train-days", 1, "--test-days", 1),
    "hosting": ("hosting", "homes"),
}


@pytest.fixture
def no_reading(monkeypatch):
    """Nothing may be read before places are looked at."""
    write_tables(village(), "homes")

    def read(*arguments, **options):
        raise AssertionError("the work has begun")

    for module in ("running", "studying", "tuning", "hosting", "inspecting"):
        for name in ("load", "load_whole"):
            monkeypatch.setattr(f"jaxp2p.cli.{module}.{name}", read, raising=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_json_file_must_have_a_folder(no_reading, command):
    done = call(*COMMANDS[command], "--json", "nowhere/x.json")
    assert done.exit_code == 2 and "--json: there is no folder nowhere" in done.stderr
    done = call(*COMMANDS[command], "--json", "homes")
    assert done.exit_code == 2 and "--json: homes is a folder" in done.stderr


@pytest.mark.skipif(not LOCKED.is_dir(), reason="no folder that nobody can write into")
@pytest.mark.parametrize("command", COMMANDS)
def test_places_that_cannot_be_written_are_refused(no_reading, command):
    for option, place in (("--json", LOCKED / "x.json"), ("--out", LOCKED / "x")):
        done = call(*COMMANDS[command], option, place)
        assert done.exit_code == 4, done.output
        assert f"{option}: " in done.stderr and str(LOCKED) in done.stderr


@pytest.mark.skipif(not LOCKED.is_dir(), reason="no folder that nobody can write into")
def test_export_looks_at_its_folder_first(no_reading, tmp_path):
    assert call("export", "rural1", LOCKED / "x").exit_code == 4
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    done = call("export", "rural1", "full")
    assert done.exit_code == 2 and "not empty" in done.stderr
    done = call("export", "rural1", "full/thesis.tex/x")
    assert done.exit_code == 2 and "not a folder" in done.stderr


def test_looking_leaves_nothing_behind(tmp_path):
    from jaxp2p.cli.places import check_file, check_folder

    check_folder(tmp_path / "a" / "b", option="--out")
    check_file(tmp_path / "c.json", option="--json")
    assert not any(tmp_path.iterdir())


# ---------------------------------------------------------------- exit codes


OTHERS = ("fairness", "check", "verify", "export", "compare", "cases")


@pytest.mark.parametrize("command", [*COMMANDS, *OTHERS])
def test_every_command_lists_its_exit_codes(command):
    text = call(command, "--help").output
    assert "Exit codes:" in text and "  0    done" in text
    shown = text[text.index("Exit codes:") :]
    assert all(line.split()[0].isdigit() for line in shown.splitlines()[1:] if line.strip()[:1].isdigit())
    assert ("5    run, study" in shown) == (command in ("run", "study"))
    assert all(str(code) in call("--help").output for code in EXIT_CODES)


def test_unserved_energy_has_an_exit_code_of_its_own(monkeypatch):
    def run(community, horizon, *, policies, **options):
        result = fake_run(community, horizon, policies=policies)
        for t in result.trajectories.values():
            slot, home = np.argwhere(t.buy > 0.2)[0]
            t.buy[slot, home] -= 0.2
            t.unserved[slot, home] += 0.2
            t.status[slot] = Status.UNSERVED
        return result

    monkeypatch.setattr(jaxp2p.runs.runner, "run", run)
    write_tables(village(), "homes")
    done = run_village("homes", "--json", "x.json")
    assert done.exit_code == 5, done.output
    assert "greedy: exit code 5" in " ".join(done.stderr.split())
    figures = json.loads(Path("x.json").read_text())["policies"]["greedy"]
    assert figures["unserved_kwh"] == pytest.approx(0.05)
    assert figures["total_cost_eur"] == pytest.approx(figures["cost_eur"] + figures["unserved_cost_eur"])
    assert figures["unserved_cost_eur"] > 0.7


def test_unsolved_slots_are_named_with_their_statuses_and_the_limit(monkeypatch):
    def run(community, horizon, *, policies, **options):
        result = fake_run(community, horizon, policies=policies)
        for t in result.trajectories.values():
            t.status[:3] = Status.MAX_ITER
        return result

    monkeypatch.setattr(jaxp2p.runs.runner, "run", run)
    write_tables(village(), "homes")
    done = run_village("homes")
    words = " ".join(done.stderr.split())
    assert done.exit_code == 3
    assert "greedy: 3 of 96 slots were not solved to the tolerance (3 MAX_ITER)" in words
    assert "more than 1 %" in words and "exit code 3" in words


@pytest.mark.slow
def test_a_study_says_why_it_ends_with_another_code(monkeypatch):
    """With an iteration limit that nothing can keep."""
    from dataclasses import replace

    from jaxp2p.studies import work

    write_tables(village(), "homes")
    choose = work.choose_solver
    monkeypatch.setattr(
        work, "choose_solver", lambda *given: replace(choose(*given, "admm"), max_iter=5, eps_gap=0)
    )
    words = (
        "--scenarios",
        2,
        "--days",
        0.25,
        "--scenario-model",
        "noise",
        "--policies",
        "lyapunov",
        "--fee",
        0.0123,
    )
    done = call(
        "study", "homes", *words, "--market", "bilateral", "--no-network", "--no-pictures", "--devices", 1
    )
    text = " ".join(done.stderr.split())
    assert done.exit_code == 3, done.output
    assert "of 48 slots were not solved to the tolerance" in text and "MAX_ITER" in text
    assert "exit code 3" in text and "(2 scenarios)" in text


def fake_verification(table) -> ModuleType:
    module = ModuleType("jaxp2p.runs.verification")
    module.check_size = lambda community: None  # type: ignore[attr-defined]
    module.verify = lambda *given, **options: SimpleNamespace(table=table)  # type: ignore[attr-defined]
    return module


@pytest.mark.parametrize(
    ("passed", "code"), [([True, True], 0), ([True, None], 3), ([False, None], 1), ([None, None], 3)]
)
def test_verify_names_slots_without_a_reference(monkeypatch, passed, code):
    table = pd.DataFrame(
        {
            "slot": [3, 8],
            "gap_rel": [1e-5 if value is not None else np.nan for value in passed],
            "status": "SOLVED",
            "reference": ["Solved" if value is not None else "InsufficientProgress" for value in passed],
            "passed": pd.Series(passed, dtype=object),
        }
    )
    monkeypatch.setitem(sys.modules, "jaxp2p.runs.verification", fake_verification(table))
    write_tables(village(), "homes")
    done = call("verify", "homes", "--slots", 2)
    assert done.exit_code == code, done.output
    judged = sum(value is not None for value in passed)
    assert f"{sum(map(bool, passed))} of {judged} slots passed" in done.stdout
    if None in passed:
        assert "no reference" in done.stdout and "8 (InsufficientProgress)" in done.stderr
    if False in passed:
        assert "3 (SOLVED)" in done.stderr and "exit code 1" in done.stderr


# ---------------------------------------------------------------- options


def test_the_prices_go_to_the_run_and_are_checked_before(asked):
    write_tables(village(), "homes")
    assert run_village("homes", "--end-value", -0.01, "--unserved-price", 3).exit_code == 0
    assert (asked[0].terminal_price, asked[0].unserved_price) == (-0.01, 3)
    for option, value, message in (
        ("--end-value", "nan", "must be a finite number"),
        ("--unserved-price", "0.1", "must be above 0.4"),
    ):
        done = run_village("homes", option, value)
        assert done.exit_code == 2 and message in " ".join(done.stderr.split())
    assert len(asked) == 1


def hours(tables, minutes):
    """The same tables with slots of another length, values held."""
    time = tables.profiles["time"]
    step = pd.Timedelta(minutes=minutes)
    new = pd.date_range(time.iloc[0], time.iloc[-1] + pd.Timedelta(minutes=15) - step, freq=step)
    place = ((new - time.iloc[0]) // pd.Timedelta(minutes=15)).to_numpy()
    taken = lambda frame: frame.iloc[place].reset_index(drop=True).assign(time=new)
    return tables.replace(profiles=taken(tables.profiles), prices=taken(tables.prices))


def without(column):
    def changed(tables):
        homes = tables.prosumers.assign(**{column: 0.0})
        if column == "battery_kwh":
            homes["battery_min_kwh"] = 0.0
        return tables.replace(prosumers=homes)

    return changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tables: hours(tables, 7), "slots of 7 min do not divide a day"),
        (without("battery_kwh"), "nobody has a battery"),
        (
            lambda tables: tables.replace(prosumers=tables.prosumers.assign(buy_max_kw=1.0)),
            "without connection limits",
        ),
    ],
)
def test_what_cannot_be_tuned_is_said_before_the_work(asked, change, message):
    write_tables(change(village(slots=3 * 96)), "homes")
    done = call("tune", "homes", "--train-days", 1, "--test-days", 1)
    assert done.exit_code == 2, done.output
    assert message in " ".join(done.stderr.split()) and not asked


@pytest.mark.slow
@pytest.mark.parametrize("minutes", [60])
def test_other_slot_lengths_are_tuned(minutes):
    write_tables(hours(village(slots=2 * 96), minutes), "homes")
    words = ("--train-days", 1, "--test-days", 1, "--steps", 1, "--scenarios", 1, "--no-pictures")
    done = call("tune", "homes", *words, "--end-value", 0.2, "--json", "-")
    assert done.exit_code in (0, 3), done.output
    report = json.loads(done.stdout)
    assert report["end_value_eur_per_kwh"] == 0.2
    assert set(report["total_cost_eur"]["test"]) >= {"no_storage", "lyapunov", "tuned", "perfect_foresight"}
    assert json.loads(Path("controller.json").read_text())["about"]["end_value_eur_per_kwh"] == 0.2
