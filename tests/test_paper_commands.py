"""Every column and number that verify, compare and tune give, against values that were put in by hand."""

import ast
import json
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pandas as pd
import paper_village as paper
import pytest
from paper_slot import RESULT, problem

from jaxp2p.cli import console, tuning
from jaxp2p.cli.inspecting import _verify_verdict
from jaxp2p.report.results import Results, compare_results
from jaxp2p.runs import verification
from jaxp2p.runs.verification import Comparison, NoReference


def test_the_exit_codes():
    """Scripts rely on them: 0 done, 1 verification failed, 2 usage, 3 unsolved, 4 files, 5 left undone."""
    names = ("OK", "VERIFICATION_FAILED", "USAGE", "UNSOLVED", "FILE_TROUBLE", "LEFT_UNDONE")
    assert [getattr(console, name) for name in names] == [0, 1, 2, 3, 4, 5]


WRITERS = {  # where tables and JSON are written, how often, and which test looks at every column of it
    "cli/comparing.py": {"json_text": 1, "write_json": 1},  # test_hosting, test_modes, test_fairness_report
    "cli/configuring.py": {"write_json": 1},  # test_config: a schema
    "cli/running.py": {"json_text": 1, "write_json": 1},  # test_paper_figures: the JSON report
    "cli/studying.py": {"json_text": 1, "to_csv": 1, "write_json": 2},  # test_paper_study
    "cli/tuning.py": {"json_text": 1, "write_json": 1},  # here
    "data/embed.py": {"to_csv": 1},  # makes the embedded cases, for developers
    "data/tables.py": {"to_csv": 1, "to_parquet": 1},  # test_paper_tables
    "report/fairness.py": {"write_json": 1, "write_table": 1},  # test_fairness_report
    "report/hosting.py": {"write_json": 1, "write_table": 1},  # test_hosting
    "report/modes.py": {"write_json": 1, "write_table": 1},  # test_modes
    "report/files.py": {"json_text": 1, "to_csv": 1, "to_parquet": 1},  # test_paper_figures
    "report/results.py": {"write_json": 1, "write_table": 1},  # test_paper_figures
    "cli/billing.py": {"json_text": 1, "write_json": 1},  # test_settlement
    "report/bills.py": {"write_json": 1, "write_table": 1},  # test_settlement
    "report/sharing.py": {"write_json": 1, "write_table": 1},  # test_sharing_files
    "studies/folder.py": {"write_json": 1, "write_table": 1},  # test_paper_library, test_study_folder
}


def test_every_place_that_writes_tables_or_json_is_looked_at():
    """A new one must be compared with a hand-made case before it is added to the list."""
    package = Path(tuning.__file__).parents[1]
    found: dict[str, dict[str, int]] = {}
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if name in ("to_csv", "to_parquet", "write_table", "write_json", "json_text"):
                    counts = found.setdefault(str(path.relative_to(package).as_posix()), {})
                    counts[name] = counts.get(name, 0) + 1
    assert found == WRITERS


def full_batteries():
    """The village with batteries that have one energy only: A 5 kWh, B 2 kWh."""
    community = paper.community()
    battery = community.prosumers.battery
    only = jnp.array([5.0, 2, 0])
    battery = type(battery)(**{**battery.__dict__, "energy_min": only, "energy_max": only})
    homes = type(community.prosumers)(**{**community.prosumers.__dict__, "battery": battery})
    return type(community)(**{**community.__dict__, "prosumers": homes})


def test_every_column_of_verify(monkeypatch):
    """A ends with 0.9 * 5 + 0.25 * 0.8 * 0.5 = 4.6 kWh, 0.4 below its limit, B with 0.125 kWh less than 2.

    The second of two slots has no reference.
    """
    numbers = Comparison(0.0001, 0.7, 0.02, 0.00003, 0.0002, 0.0003)
    answers = iter([numbers, NoReference("InsufficientProgress")])

    def held_against(*args):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(verification, "make_policies", lambda *args: {"lyapunov": None})
    monkeypatch.setattr(verification, "slot_problem", lambda *args: problem())
    monkeypatch.setattr(verification, "_solve", lambda posed, solver: RESULT)
    monkeypatch.setattr(verification, "optimum", lambda posed: None)
    monkeypatch.setattr(verification, "compare", held_against)
    horizon = paper.horizon().slice(0, 2)
    horizon = jax.tree.map(jnp.asarray, horizon)
    report = verification.verify(full_batteries(), horizon, slots=2, solver=SimpleNamespace())
    assert report.passed is False  # 0.4 kWh beyond the limits of a battery
    first, second = report.table.to_dict("records")
    assert first == pytest.approx(
        {
            "slot": 0,
            "gap_rel": 0.0001,
            "scale_eur": 0.7,
            "power_violation_kw": 0.02,
            "voltage_violation_pu": 0.00003,
            "balance_error_kw": 0.0002,
            "reciprocity_error_kw": 0.0003,
            "storage_violation_kwh": 0.4,
            "gap_bound_rel": 0.062,  # 0.031 of 0.5 EUR
            "iterations": 17,
            "status": "NETWORK_VIOLATED",
            "reference": "Solved",
            "passed": False,
        }
    )
    assert (second["slot"], second["reference"], second["passed"]) == (1, "InsufficientProgress", None)
    assert pd.isna(second["gap_rel"])


@pytest.mark.parametrize(
    ("passed", "code"), [((True, True), 0), ((True, False), 1), ((False, None), 1), ((True, None), 3)]
)
def test_the_exit_code_of_verify(passed, code):
    table = pd.DataFrame({"slot": [3, 5], "status": "SOLVED", "reference": "Solved"})
    assert _verify_verdict(table.assign(passed=pd.Series(passed, dtype=object))) == code


def test_every_column_of_compare():
    one = pd.DataFrame({"policy": ["a", "b"], "cost_eur": [2.0, 3.0], "p2p_kwh": [5.0, 7.0]})
    two = pd.DataFrame({"policy": ["a", "c"], "cost_eur": [2.5, 9.0], "p2p_kwh": [5.0, 1.0]})
    frame = compare_results(*(Results(summary={}, tables={"kpis": table}) for table in (one, two)))
    assert list(frame.columns) == ["policy", "figure", "a", "b", "difference"]
    rows = [tuple(row) for row in frame.itertuples(index=False)]
    assert rows[0] == ("a", "cost_eur", 2.0, 2.5, 0.5)
    assert [row[:4] for row in rows[1:]] == [("b", "", "present", "missing"), ("c", "", "missing", "present")]


def test_every_number_of_the_report_of_tune(tmp_path):
    costs = {"no_storage": 20.0, "lyapunov": 15.0, "perfect_foresight": 12.0}
    assert tuning._captures(costs) == {"no_storage": 0, "lyapunov": 0.625, "perfect_foresight": 1}
    values = dict.fromkeys(field.name for field in fields(tuning.Options))
    options = tuning.Options(**values | {"json": str(tmp_path / "tune.json"), "quiet": True, "steps": 9})
    history = {"step": [0, 1, 2], "loss": [3.0, 2.0, 1.5]}
    given = {"train": {"lyapunov": 0.625}, "test": {"lyapunov": None}}, {"train": costs, "test": costs}
    tuning._report(options, SimpleNamespace(name="rural1"), *given, 0.2, 12.345, history, ["c.json"])
    report = json.loads((tmp_path / "tune.json").read_text())
    assert set(report.pop("settings")) == set(values)
    assert report == {
        "case": "rural1",
        "capture": given[0],
        "total_cost_eur": given[1],
        "end_value_eur_per_kwh": 0.2,
        "steps": 3,
        "history": history,
        "seconds": 12.35,
    }


@pytest.mark.parametrize(("ends", "code"), [((0, 0), 0), ((1, 0), 3), ((2, 0), 3), ((3, 6), 0), ((0, 1), 3)])
def test_the_exit_code_of_tune(ends, code):
    """Of two slots none may be MAX_ITER (1) or NUMERICAL_ERROR (2)."""
    runs = [SimpleNamespace(trajectories={"lyapunov": SimpleNamespace(status=[0, 0])}) for _ in range(4)]
    runs[2].trajectories["lyapunov"].status = list(ends)
    assert tuning._verdict(runs) == code
