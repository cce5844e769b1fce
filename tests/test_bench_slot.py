"""The slot benchmark runs, its lines have their keys, and both solvers pass."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "bench_slot.py"


def test_smoke(tmp_path):
    pytest.importorskip("piqp")
    out = tmp_path / "lines.jsonl"
    command = [
        sys.executable,
        str(SCRIPT),
        "--n",
        "20",
        "--market",
        "bilateral",
        "--slots",
        "2",
        "--budget",
        "60",
    ]
    subprocess.run([*command, "--rivals", "piqp", "clarabel", "--out", str(out)], check=True, timeout=600)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    runs = [line for line in lines if "solver" in line]
    assert {line["solver"] for line in runs} == {"jaxp2p", "piqp", "clarabel"}
    for line in runs:
        assert {"market", "n", "mode", "solver", "ms", "passed", "of"} <= line.keys()
        assert "skipped" not in line
        assert line["of"] == 2
        assert line["passed"] == 2, line
    for mode in ("cold", "warm"):
        (line,) = [x for x in lines if x.get("summary") and x["mode"] == mode]
        assert {"market", "n", "ours_ms", "best_rival", "best_rival_ms", "ratio"} <= line.keys()
        assert line["ratio"] > 0


def test_lean_form_has_the_optimum_of_the_standard_form():
    """The rivals' program and `to_qp` agree, slot by slot: nobody solves an easier problem."""
    clarabel = pytest.importorskip("clarabel")
    import numpy as np
    import scipy.sparse as sp

    sys.path.insert(0, str(SCRIPT.parent))
    try:
        from rivals.case import make_case
        from rivals.judge import objective
        from rivals.lean import executed, host, lean
        from rivals.solvers import Clarabel
    finally:
        sys.path.remove(str(SCRIPT.parent))
    from jaxp2p.slot.qp import to_qp

    cases = {market: make_case(25, market, length=2) for market in ("pool", "bilateral")}
    for market, community in (("pool", True), ("pool", False), ("bilateral", True)):
        case = cases[market]
        program, layout = lean(case.problems, community=community)
        rival = Clarabel(program._asdict(), eps=1e-9)
        fee = np.asarray(case.problems[0].market.fee, float)
        for t, problem in enumerate(case.problems):
            x, solved, _ = rival.solve(rival.prepare(program._asdict(), t), cold=True)
            assert solved
            point = executed(problem, layout, x)
            qp = to_qp(problem).boxed()
            equal = qp.lower == qp.upper
            up, down = ~equal & np.isfinite(qp.upper), ~equal & np.isfinite(qp.lower)
            settings = clarabel.DefaultSettings()
            settings.verbose = False
            cones = [
                clarabel.ZeroConeT(int(equal.sum())),
                clarabel.NonnegativeConeT(int(up.sum() + down.sum())),
            ]
            A = sp.vstack([qp.A[equal], qp.A[up], -qp.A[down]], format="csc")
            b = np.concatenate([qp.upper[equal], qp.upper[up], -qp.lower[down]])
            solution = clarabel.DefaultSolver(sp.csc_matrix(qp.P), qp.q, A, b, cones, settings).solve()
            standard = float(problem.slot_hours) * (solution.obj_val + qp.offset)
            volume = float(problem.slot_hours) * np.abs(point["injection"]).sum()
            assert abs(objective(host(problem), fee, point) - standard) < 1e-5 * volume
