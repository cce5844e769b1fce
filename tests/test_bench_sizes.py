"""The benchmark of sizes measures a run, tells what it found, and goes on where it was left."""

import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from random_slots import random_slot
from slot_judge import optimum

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import bench_sizes

    return bench_sizes


@pytest.fixture
def sizes(bench):
    from rivals import sizes

    return sizes


def test_a_run_is_measured_and_held_against_the_reference(bench, sizes):
    found = sizes.measure({"name": "rural1", "days": 0.25}, "lyapunov", samples=3, reference_seconds=60)
    assert found["members"] == 28 and found["slots"] == 24
    assert sum(found["statuses"].values()) == 24 and found["exit"] == 0
    best = found["reference"]
    assert best["slots"] == 3 and best["beyond_gap"] == 0
    assert best["above_share_max"] <= best["gap_share_max"] + best["judge_error_share_max"] + 1e-6
    assert found["seconds"] > 0 and found["seconds_free"] > 0 and found["peak_mb"] > 100

    line = {"part": "lv", "case": "rural1", "policy": "lyapunov", "days": 0.25, **found}
    text = bench.tables([json.loads(json.dumps(line))])
    assert "24 of 24 slots SOLVED, 1 of 1 runs end with exit 0" in text and "6 hours" in text
    # a grid that no dispatch keeps is counted apart, and named
    text = bench.tables([line, line | {"case": "hopeless", "impossible": ["bus"], "exit": 5}])
    assert "24 of 24 slots" in text and "not among them: hopeless" in text


def test_linear_programs_find_the_optimum_of_quadratic_slots(sizes):
    curved = 0
    for seed in range(6):
        problem = jax.device_get(random_slot(seed))
        curved += bool(np.any(np.asarray(problem.value_slope) > 0))
        best, found = optimum(problem), optimum(problem, (sizes.by_highs,))
        assert found.lower <= best.value + 1e-9 * best.scale
        assert found.value - best.value <= 2e-4 * best.scale
        assert best.lower - found.lower <= 2e-4 * best.scale
    assert curved


def test_what_is_in_the_file_is_not_measured_again(bench, tmp_path, monkeypatch):
    done = []

    def one_run(case, policy, options):
        done.append((case.name, policy))
        head = {"part": case.part, "case": case.name, "policy": policy}
        return head | {"failed": "no memory"} if len(done) == 2 else head | {"seen": len(done)}

    monkeypatch.setattr(bench, "one_run", one_run)
    monkeypatch.setattr(bench, "short", str)
    out = tmp_path / "results" / "lines.jsonl"
    call = ["--only", "week", "--out", str(out)]
    assert bench.main(call) == 1  # one of the three failed
    assert len(bench.read_lines(out)) == 2
    assert bench.main(call) == 0  # which alone is tried again
    assert [policy for _, policy in done[3:]] == ["lyapunov"]
    bench.main([*call, "--anew", "--policies", "lyapunov"])
    lines = bench.read_lines(out)
    assert len(lines) == 3 and {line["seen"] for line in lines} == {1, 3, 5}
