"""The study and device benchmarks: their lines, their helpers, and what they need to be imported."""

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import jax
import numpy as np
import pytest

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
        monkeypatch.setenv(name, "1")  # the scripts set these: put them back afterwards


def test_study_smoke(tmp_path):
    pytest.importorskip("piqp")
    out = tmp_path / "lines.jsonl"
    command = [sys.executable, str(FOLDER / "bench_study.py"), "--n", "6", "--market", "pool", "--cores", "1"]
    command += ["--engines", "free_running", "--rivals", "piqp", "--scenarios", "2", "--slots", "2"]
    command += ["--sample", "4", "--repeats", "1", "--budget", "60", "--out", str(out)]
    subprocess.run(command, check=True, timeout=600)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    runs = {line["solver"]: line for line in lines if "solver" in line}
    assert set(runs) == {"jaxp2p free_running", "piqp"}
    keys = "market n solver scenarios slots scenario_slots_per_second passed of iterations_wasted_share"
    for line in runs.values():
        assert {*keys.split(), "wall_s", "cpu_s", "device", "version"} <= line.keys()
        assert (line["passed"], line["of"]) == (4, 4)
    assert runs["jaxp2p free_running"]["day_cost_differs_rel"] < 1e-3
    (summary,) = [line for line in lines if line.get("summary")]
    assert summary["best_rival"] == "piqp"
    assert summary["ratio"] > 0


def test_a_rival_that_fails_is_no_best_rival():
    from bench_study import summary

    def make(solver, rate, passed):
        rates = {"scenario_slots_per_second": rate, "per_core_second": rate / 2}
        return {"solver": solver, **rates, "passed": passed, "of": 32}

    lines = [make("jaxp2p free_running", 1000, 32), make("jaxp2p lockstep", 500, 32)]
    lines += [make("fast", 400, 30), make("right", 100, 31), {"solver": "absent", "skipped": "not installed"}]
    found = summary({"market": "pool", "n": 153}, lines)
    assert (found["best_rival"], found["ratio"], found["ratio_per_core_second"]) == ("right", 10, 10)
    assert found["failed"] == ["fast"]
    assert found["lockstep_over_free_running"] == 0.5
    assert summary({}, [*lines[:2], lines[2]])["best_rival"] is None


def test_batched_rivals_solve_the_lean_program():
    """Whichever of them is installed finds the optimum of PIQP."""
    pytest.importorskip("piqp")
    from importlib.util import find_spec

    from rivals.batched import BATCHED
    from rivals.case import make_case
    from rivals.lean import lean
    from rivals.solvers import Piqp

    names = [name for name in ("moreau", "qpax") if find_spec(name)]
    if not names:
        pytest.skip("neither moreau nor qpax is installed")
    qp = lean(make_case(20, "pool", length=2).problems)[0]._asdict()
    piqp = Piqp(qp)
    value = lambda x, t: (qp["P"] * x**2).sum() / 2 + qp["q"][t] @ x
    wanted = [value(piqp.solve(piqp.prepare(qp, t), cold=True)[0], t) for t in (0, 1)]
    for name in names:
        # other libraries were not written for the strict rules of these tests
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            x, _ = BATCHED[name](qp, np.array([0, 1]))()
        np.testing.assert_allclose([value(x[t], t) for t in (0, 1)], wanted, rtol=1e-4)


def test_matchings_are_a_trading_graph():
    from rivals.study_case import matchings

    market = matchings(7, 3)
    partner, reverse = np.asarray(market.partner), np.asarray(market.reverse)
    flat = reverse.reshape(-1)
    np.testing.assert_array_equal(flat[flat], np.arange(flat.size))
    np.testing.assert_array_equal(reverse % 7, partner)
    alone = partner == np.arange(7)
    np.testing.assert_array_equal(alone.sum(axis=1), 1)  # an odd home per round
    np.testing.assert_array_equal(np.asarray(market.limit) == 0, alone)


def test_cut_lines_keeps_the_feeder():
    from rivals.case import make_tables
    from rivals.study_case import cut_lines

    from jaxp2p.model.build import build_community

    tables = make_tables(200, length=2)
    more = cut_lines(tables, 123)
    assert (len(more.buses), len(more.lines)) == (123, 122)
    for column in ("background_kw", "background_kvar"):
        assert more.buses[column].sum() == pytest.approx(tables.buses[column].sum())
    short, long = (build_community(t, market="pool").network for t in (tables, more))
    where = [long.bus_ids.index(name) for name in short.bus_ids]
    resistance = np.asarray(long.paths.resistance)[np.ix_(where, where)]
    np.testing.assert_allclose(resistance, np.asarray(short.paths.resistance), rtol=1e-5)


def test_counted_floats():
    """Eight corners: 23 words of the curve, and what a trade and a home add."""
    from bench_gpu import counted_floats

    assert counted_floats("admm", corners=8, partners=1) == 23 + 4 + 6
    assert counted_floats("admm", corners=8, partners=6) == 23 + 6 * 9 + 6
    assert counted_floats("newton", corners=8, partners=1) == 16 + 4 + 12


def test_failures_become_lines(capsys):
    from bench_gpu import Runner

    run = Runner(Namespace(seconds=100, out=None), "device")

    def too_large():
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: no room for 5 GB")

    run.case({"part": "a"}, too_large)
    run.case({"part": "b"}, lambda: {"figure": 1})
    run.case({"part": "c"}, too_large, needs=1000)
    first, second, third = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first["failed"] == "out of memory"
    assert (second["figure"], second["device"]) == (1, "device")
    assert third["skipped"].endswith("s left")


def test_device_benchmark_needs_few_packages(tmp_path):
    """What a bare machine with a GPU lacks is blocked: the script still measures."""
    code = f"""
import runpy, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in "clarabel typer rich matplotlib pyarrow piqp osqp cvxpy".split():
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Block())
sys.path[:0] = [{str(FOLDER)!r}]
sys.argv = ["bench_gpu.py", "--small", "--parts", "bandwidth", "--out", {str(tmp_path / "lines")!r}]
import rivals.study_case, rivals.judge, jaxp2p.studies.engine
runpy.run_path({str(FOLDER / "bench_gpu.py")!r}, run_name="__main__")
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
    lines = [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]
    assert [line["part"] for line in lines] == ["start", "bandwidth"]
    assert lines[1]["gb_per_second"] > 0


@pytest.mark.parametrize("market", ["pool", "bilateral"])
def test_at_most_a_tenth_of_the_iterations_is_wasted_with_ten_thousand_scenarios(market):
    import bench_lanes

    lines = []
    found = bench_lanes.stored_counts(market)
    bench_lanes.compare(market, found, 10_000, lines.append)
    waste = {line["schedule"]: line["waste"] for line in lines}
    assert waste["four take turns (now)"] <= 0.1
    assert waste["four take turns (now)"] < waste["a lane keeps its scenario, 4,096 lanes (before)"]
    assert len({line["useful"] for line in lines}) == 1, "the same work"
    assert "| four take turns (now) | " in bench_lanes.table(lines)
