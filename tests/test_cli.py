"""The command line: options, messages, exit codes. The solver is faked but in one run."""

from __future__ import annotations

import json
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pandas as pd
import pytest
from fake_runs import POLICIES, fake_run
from typer.testing import CliRunner
from villages import village, write_raw

import jaxp2p.runs.runner
from jaxp2p.cli import app
from jaxp2p.cli.source import CASE_NAMES
from jaxp2p.control.catalogue import CATALOGUE, TUNED
from jaxp2p.data import CASES, load_case, window, write_tables
from jaxp2p.report.results import JSON_FIGURES, load_results


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """The commands write into the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "110")


@pytest.fixture
def asked(monkeypatch):
    """Replaces the solver; collects what it was asked for."""
    calls = []

    def run(community, horizon, *, policies, progress, **options):
        calls.append(SimpleNamespace(community=community, horizon=horizon, policies=policies, **options))
        for name in policies:
            progress(name, horizon.slots, horizon.slots)
        return fake_run(community, horizon, policies=policies)

    monkeypatch.setattr(jaxp2p.runs.runner, "run", run)
    return calls


def call(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def small_folder(path, **options):
    return write_tables(window(load_case("rural1", **options), days=1), path)


def test_help_is_quick_and_light():
    code = (
        "import sys; from jaxp2p.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "print(*[m for m in ('jax', 'pandas', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""
    assert "Exit codes" in done.stdout


@pytest.mark.parametrize(
    "command",
    ["run", "cases", "export", "check", "verify", "compare", "share", "fairness", "bill", "explain"],
)
def test_help_of_commands(command):
    done = call(command, "--help")
    assert done.exit_code == 0
    assert "Usage" in done.output


def test_version():
    done = call("--version")
    assert done.exit_code == 0
    assert done.output == f"jaxp2p {jaxp2p.__version__}\n"


def test_cases():
    done = call("cases")
    assert done.exit_code == 0
    assert all(name in done.output for name in CASES)
    assert tuple(CASES) == CASE_NAMES


def test_policies_are_those_of_the_library():
    assert jaxp2p.POLICIES == POLICIES
    text = call("run", "--help").output
    assert all(
        f" {entry.name} " in text and entry.words in text for entry in CATALOGUE if entry.name != TUNED
    )


@pytest.mark.slow
def test_run_writes_everything(asked, tmp_path):
    (tmp_path / "sub").mkdir()
    done = call("run", "rural1", "--days", 1, "--json", "sub/result.json")
    assert done.exit_code == 0, done.output
    assert "community_self_consumption" in done.stdout
    assert "jaxp2p-results/rural1-2016-07-04-bilateral-1d" in done.stdout
    folder = tmp_path / "jaxp2p-results" / "rural1-2016-07-04-bilateral-1d"
    back = load_results(folder)
    assert list(back.kpis.index) == list(POLICIES)
    assert back.summary["settings"]["days"] == 1
    assert len(list((folder / "pictures").glob("*.png"))) == 9
    report = json.loads((tmp_path / "sub" / "result.json").read_text())
    assert report["case"] == "rural1"
    assert tuple(report["policies"]["greedy"]) == JSON_FIGURES
    again = call("run", "rural1", "--days", 1, "--no-pictures")
    assert again.exit_code == 0, again.output
    assert not (folder / "pictures").exists()  # older results are replaced as a whole


def test_run_passes_its_options_on(asked):
    done = call(
        "run", "ieee33", "--homes", 12, "--days", 0.5, "--start", "2016-01-18T06:00", "--market", "pool",
        "--policies", "lyapunov,no-storage", "--no-network", "--tolerance", 0.5, "--price", "dynamic",
        "--fee", 0.02, "--no-pictures", "--format", "csv", "--out", "here", "--per-home",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    (one,) = asked
    assert one.policies == ("no_storage", "lyapunov")
    assert one.community.market.kind == "pool"
    assert not one.community.feeder.rows
    assert one.community.size == 12
    assert float(one.community.market.fee[0, 0]) == pytest.approx(0.02)
    assert one.horizon.slots == 48
    assert one.slot_of_week == 24
    from jaxp2p.slot.solvers import Newton, scale_tolerances

    assert one.solver == scale_tolerances(Newton(), 0.5)
    tables = load_results("here").tables
    assert {"homes_lyapunov", "slots_no_storage"} <= set(tables)


def test_run_a_folder(asked, tmp_path):
    small_folder(tmp_path / "village")
    done = call("run", "village", "--no-pictures", "--pv-share", 1, "--price", "tou_noise")
    assert done.exit_code == 0, done.output
    (one,) = asked
    assert one.horizon.slots == 96  # less than the usual week: all there is
    assert (one.community.prosumers.pv_peak > 0).all()


def test_run_hands_over_the_days_before_for_forecasts(asked, tmp_path):
    options = ("--days", 0.5, "--no-pictures", "--policies", "mpc_mean,lyapunov")
    done = call("run", "rural1", "--start", "2016-01-08T12:00", *options)
    assert done.exit_code == 0, done.output
    assert call("run", "rural1", "--days", 0.5, "--no-pictures", "--policies", "lyapunov").exit_code == 0
    planned, rules = asked
    assert planned.policies == ("lyapunov", "mpc_mean")
    assert planned.history.slots == 7 * 96  # all the whole days that the year has had
    assert rules.history is None
    small_folder(tmp_path / "village")
    done = call("run", "village", *options)
    assert done.exit_code == 2
    assert "needs at least the day before the window" in " ".join(done.stderr.split())


def test_quiet_and_json_to_stdout(asked):
    done = call("run", "rural1", "--days", 0.5, "--no-pictures", "--quiet")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")
    done = call("run", "rural1", "--days", 0.5, "--no-pictures", "--json", "-")
    assert json.loads(done.stdout)["slots"] == 48


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "rurl3"), 'did you mean "rural3"?'),
        (("run", "./nowhere"), "does not exist"),
        (("run", "--dayz", 3), "No such option"),
        (("run", "--days", "many"), "Invalid value for '--days'"),
        (("run", "--market", "pol"), 'did you mean "pool"?'),
        (("run", "--policies", "lyapunof"), 'did you mean "lyapunov"?'),
        (("run", "--policies", ","), "at least one"),
        (("run", "--price", "free"), "tou, tou_noise, dynamic"),
        (("run", "--dtype", "float16"), "float32, float64"),
        (("run", "--format", "xml"), "parquet, csv"),
        (("run", "--graph", "ring"), "regular, nearest, complete, table"),
        (("run", "--graph", "table"), "trades table"),
        (("run", "--tolerance", 1e-4), "out of reach in float32"),
        (("run", "--tolerance", "nan"), "out of reach"),
        (("run", "--start", "2017-01-01"), "not inside the data"),
        (("run", "--start", "monday"), "is not a date"),
        (("run", "--days", 0), "at least one slot"),
        (("run", "--pv-share", 1.5), "Invalid value for '--pv-share'"),
        (("run", "--homes", 50), "only goes with the case ieee33"),
        (("export", "rural7", "x"), 'did you mean "rural'),
        (("export", "rural1", "x", "--start", "2016-02-01"), "--start needs --days"),
        (("check",), "name a folder"),
        (("check", "nowhere/at/all"), "does not exist"),
        (("verify", "--days", 0.1, "--slots", 100), "0.1 days have"),
        (("compare", "a", "b"), "holds no results"),
    ],
)
def test_wrong_usage(arguments, message, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jaxp2p.runs.verification", fake_verify(passed=True))
    done = call(*arguments)
    assert done.exit_code == 2, done.output
    assert message in " ".join(done.output.split())
    assert "Traceback" not in done.output
    assert not any(tmp_path.iterdir())


def test_bad_input_names_every_fault(tmp_path):
    folder = small_folder(tmp_path / "village")
    homes = pd.read_csv(folder / "prosumers.csv")
    homes.loc[0, "load_kw"] = -1
    homes.loc[1, "bus_id"] = "nowhere"
    homes.to_csv(folder / "prosumers.csv", index=False)
    for command in ("check", "run"):
        done = call(command, folder)
        assert done.exit_code == 2
        assert "2 faults" in done.stderr
        assert "prosumers.load_kw, row 1" in done.stderr
        assert "nowhere" in done.stderr
        assert "Traceback" not in done.output
    assert [entry.name for entry in tmp_path.iterdir()] == ["village"]


@pytest.mark.parametrize("command", ["check", "run", "study", "tune", "verify"])
def test_every_command_that_reads_a_folder_takes_judgements_and_a_time_zone(command):
    text = call(command, "--help").output
    assert "--accept" in text and "--time-zone" in text and "price_high" in text


def test_an_implausible_folder_is_taken_by_the_name_that_is_printed(asked, tmp_path):
    tables = village()
    dear = tables.prices.assign(buy_eur_per_kwh=17.5)
    folder = write_raw(tables.replace(prices=dear), tmp_path / "dear")
    done = call("check", folder)
    assert done.exit_code == 2 and "[price_high]" in done.output and "--accept price_high" in done.output
    assert "remark: prices.buy_eur_per_kwh" in call("check", folder, "--accept", "price_high").output
    done = call("run", folder, "--no-pictures", "--accept", "pv_high", "--accept", "price_high")
    assert done.exit_code == 0 and "remark: prices" in done.stderr
    assert call("run", folder, "--accept", "price_hihg").exit_code == 2


def test_a_folder_in_local_time_is_run_in_its_zone(asked, tmp_path):
    tables = village(slots=192)
    time = pd.date_range("2016-03-25T23:00", periods=192, freq="15min", tz="UTC").tz_convert("Europe/Berlin")
    time = time.tz_localize(None)
    tables = tables.replace(
        profiles=tables.profiles.assign(time=time), prices=tables.prices.assign(time=time)
    )
    folder = write_raw(tables, tmp_path / "spring")
    assert "daylight saving" in call("run", folder).output
    done = call(
        "run", folder, "--time-zone", "Europe/Berlin", "--start", "2016-03-27", "--days", 0.5, "--no-pictures"
    )
    assert done.exit_code == 0, done.output
    assert "2016-03-27 00:00 to 2016-03-27 13:00, times of Europe/Berlin" in done.output
    results = load_results("jaxp2p-results/spring-2016-03-27-bilateral-0.5d")
    assert results.summary["start"] == "2016-03-26 23:00:00"
    assert results.summary["settings"]["time_zone"] == "Europe/Berlin"
    assert call("run", "rural1", "--time-zone", "Europe/Berlin").exit_code == 2


def test_limits_that_no_dispatch_keeps_are_named_before_the_run(asked, tmp_path):
    tables = village()
    buses = tables.buses.assign(v_set_pu=[1.15, 1.0, 1.0])
    folder = write_raw(tables.replace(buses=buses), tmp_path / "high")
    text = 'bus "B0": v_max_pu is broken in 96 of 96 slots'
    assert text in call("check", folder).output
    assert text in call("run", folder, "--no-pictures").stderr
    assert text not in call("run", folder, "--no-pictures", "--no-network").stderr


def test_foreign_folder_is_refused_before_the_work(asked, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    done = call("run", "rural1", "--days", 0.5, "--out", "mine")
    assert done.exit_code == 2
    assert "thesis.tex" in done.stderr
    assert not asked


def test_file_trouble(asked, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jaxp2p.report.results.write_results", full)
    done = call("run", "rural1", "--days", 0.5, "--out", "here")
    assert done.exit_code == 4
    assert "No space left" in done.stderr
    assert not any(tmp_path.iterdir())


def test_unsolved_slots_have_an_exit_code(monkeypatch):
    def run(community, horizon, *, policies, **options):
        result = fake_run(community, horizon, policies=policies)
        for t in result.trajectories.values():
            t.status[:2] = 1
        return result

    monkeypatch.setattr(jaxp2p.runs.runner, "run", run)
    done = call("run", "rural1", "--days", 0.5, "--policies", "greedy", "--no-pictures", "--out", "here")
    assert done.exit_code == 3
    assert "greedy: 2 of 48 slots were not solved" in done.stderr
    assert load_results("here").summary["policies"]["greedy"]["status_counts"]["MAX_ITER"] == 2


def test_a_failed_reference_has_an_exit_code(monkeypatch, tmp_path):
    def run(*arguments, **options):
        raise RuntimeError("3 network rows still violated after 20 rounds")

    monkeypatch.setattr(jaxp2p.runs.runner, "run", run)
    done = call("run", "rural1", "--days", 0.5)
    assert done.exit_code == 3
    assert "still violated" in done.stderr
    assert not any(tmp_path.iterdir())


def test_export_check_and_back(tmp_path):
    done = call("export", "rural1", "village", "--days", 1, "--battery-share", 0.5)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "village" / "prosumers.csv").is_file()
    done = call("check", "village")
    assert done.exit_code == 0, done.output
    for text in ("28 on 13 buses", "14, ", "8 plants", "1 transformer", "96 slots of 15 min", "ODbL"):
        assert text in done.stdout
    assert call("export", "rural1", "village", "--days", 1).exit_code == 2  # it is there already


def test_columns_are_documented():
    done = call("check", "--columns")
    assert done.exit_code == 0
    assert "battery_kwh" in done.stdout
    assert "EUR/kWh" in done.stdout


def fake_verify(*, passed: bool) -> ModuleType:
    module = ModuleType("jaxp2p.runs.verification")

    def verify(community, horizon, *, slots, seed, solver):
        rows = {"slot": range(slots), "gap_rel": 1e-5, "status": "SOLVED", "reference": "Solved"}
        rows["passed"] = passed
        return SimpleNamespace(table=pd.DataFrame(rows), passed=passed)

    module.check_size = lambda community: None  # type: ignore[attr-defined]
    module.verify = verify  # type: ignore[attr-defined]
    return module


@pytest.mark.parametrize("passed", [True, False])
def test_verify(passed, monkeypatch):
    monkeypatch.setitem(sys.modules, "jaxp2p.runs.verification", fake_verify(passed=passed))
    done = call("verify", "rural1", "--slots", 4, "--days", 1, "--market", "pool")
    assert done.exit_code == (0 if passed else 1), done.output
    assert f"{4 * passed} of 4 slots passed" in done.stdout


def test_compare(asked):
    for name, days in (("one", 0.5), ("two", 1)):
        call("run", "rural1", "--days", days, "--policies", "greedy", "--no-pictures", "--out", name)
    done = call("compare", "one", "one")
    assert (done.exit_code, done.stdout) == (0, "no differences beyond 0.1 %\n")
    done = call("compare", "one", "two")
    assert done.exit_code == 0
    assert "slots: 48 | 96" in done.stdout
    assert "cost_eur" in done.stdout
    assert not {"ms_per_slot", "realtime_factor"} & set(done.stdout.split())  # times of the machine


@pytest.mark.slow
def test_a_real_run():
    """Without fakes: everything fits together."""
    done = call(
        "run", "rural1", "--days", 0.25, "--start", "2016-07-05T09:00", "--market", "pool",
        "--policies", "no_storage_no_trade,no_storage,lyapunov,perfect_foresight", "--out", "real",
    )  # fmt: skip
    assert done.exit_code in (0, 3), done.output
    kpis = load_results("real").kpis
    assert (kpis["balance_error_kw"] < 1e-3).all()
    assert (kpis["soc_violation_kwh"] < 1e-3).all()
    assert kpis.at["lyapunov", "cost_eur"] >= kpis.at["perfect_foresight", "cost_eur"] - 0.05
    assert kpis.at["no_storage", "saving_eur"] > 0


def test_a_controller_needs_a_folder_before_it_is_tuned(tmp_path):
    done = CliRunner().invoke(app, ["tune", "rural1", "--out", str(tmp_path / "nowhere" / "c.json")])
    assert done.exit_code == 2 and "--out: there is no folder" in done.stderr
