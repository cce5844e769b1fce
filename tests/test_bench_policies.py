"""The policy benchmark runs, its lines have their keys, and its tables can be made again from the lines."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "bench_policies.py"
POLICIES = {"no_storage", "perfect_foresight"}


def bench(*options: str) -> str:
    command = [sys.executable, str(SCRIPT), *options]
    return subprocess.run(command, check=True, timeout=600, capture_output=True, text=True).stdout


def test_smoke(tmp_path):
    out, tables = tmp_path / "lines.jsonl", tmp_path / "tables.md"
    # the village twice: small, and both parts in one process compile once
    options = ["--quick", "--case", "rural1", "--days", "1", "--pv-scale", "2.5", "--policies", *POLICIES]
    bench(*options, "--out", str(out), "--markdown", str(tables))
    lines = [json.loads(line) for line in out.read_text().splitlines()]

    seasons = [line for line in lines if line["part"] == "seasons"]
    runs, (summary,) = seasons[:-1], [line for line in seasons if line.get("summary")]
    assert {line["policy"] for line in runs} == POLICIES
    for line in runs:
        assert {
            "case",
            "season",
            "price",
            "market",
            "cost_eur",
            "saving_eur",
            "capture",
            "seconds",
        } <= line.keys()
        assert sum(line["status_counts"].values()) == line["slots"] == 96
    assert summary["lower_bound_in_order"]
    assert summary["cheaper_than_perfect_foresight"] == []
    assert {"perfect_foresight_eur", "lower_bound_eur", "certificate_ratio", "vacuous"} <= summary.keys()
    assert summary["dtype"] == "float32"

    (bound,) = [line for line in lines if line["part"] == "bound"]
    assert bound["lower_bound_eur"] <= bound["perfect_foresight_eur"] * (1 + 1e-5)
    assert 0 <= bound["gap_share"] < 0.05

    village = {
        (line["network"], line["policy"]): line
        for line in lines
        if line["part"] == "grid" and "policy" in line
    }
    assert len(village) == 4
    for policy in POLICIES:
        free, kept = village[False, policy], village[True, policy]
        assert free["transformer_loading_max"] > 1.2
        assert kept["breaches"] == []
        assert kept["line_violation_kw"] < 0.05
        assert abs(kept["limits_cost_eur"] - (kept["cost_eur"] - free["cost_eur"])) < 1e-9

    text = tables.read_text()
    assert "| perfect_foresight |" in text
    assert bench("--read", str(out)).strip() == text.strip()
