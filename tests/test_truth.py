"""2,000 nasty and plausible slots, judged by a program that shares nothing with the solvers.

No lie: SOLVED, or a violation that is named, is not off by more than the stated gap, and what is named is so.
No wrong answer but at the iteration limit, and few there. A failing slot is made again by
`nasty_slots.draw(family, seed, dtype)`; `benchmarks/bench_truth.py` tries 100,000 of them.
"""

from functools import lru_cache

import jax
import numpy as np
import pytest
from nasty_slots import draw_many, families
from slot_answers import SOLVERS, judge_many, solve_many, suiting

from jaxp2p.slot.status import Status

pytestmark = pytest.mark.slow

BATCH = 15
# numbers are judged, not speed: without XLA's optimisation the many programs are there sooner
solve_quickly = jax.jit(solve_many.__wrapped__, compiler_options={"xla_backend_optimization_level": 0})
LIMIT = {True: 0.005, False: 0.02}  # share at the iteration limit: plausible families, nasty ones


def cases() -> list[tuple[str, str, str]]:
    """Family, dtype, solver: small layouts that many families share; dtypes alternate along the families."""
    found = []
    for number, family in enumerate(families().values()):
        layout, few = family.layout, family.layout.homes <= 3
        rare = layout.market == "none" and (layout.buses or layout.limited or layout.elastic or few)
        if layout.homes > 12 or rare or family.name in ("few.pool.3", "few_homes.pool.1"):
            continue
        dtype = ("float32", "float64")[number % 2]
        found += [(family.name, dtype, name) for name in suiting(draw_many(family, [0], dtype))]
    return found


@lru_cache
def answers(name: str, dtype: str, solver: str) -> list[dict]:
    """Judged slots of a family."""
    problems = draw_many(name, range(BATCH), dtype)
    result = jax.tree.map(np.asarray, solve_quickly(problems, SOLVERS[solver]))
    return judge_many(problems, {solver: result})


def told(records: list[dict]) -> list[tuple]:
    """What a failing test prints: the seeds are the numbers."""
    keys = ("number", "distance", "gap", "scale", "iterations", "why", "fault")
    return [(Status(r["status"]).name, *(r[key] for key in keys)) for r in records]


@pytest.mark.parametrize(("name", "dtype", "solver"), cases())
def test_no_answer_lies(name, dtype, solver):
    assert told([r for r in answers(name, dtype, solver) if r["lie"]]) == []


@pytest.mark.parametrize(("name", "dtype", "solver"), cases())
def test_no_answer_is_wrong_unless_it_says_so(name, dtype, solver):
    records = [r for r in answers(name, dtype, solver) if r["status"] != Status.MAX_ITER]
    assert told([r for r in records if r["wrong"]]) == []


@pytest.mark.parametrize("plausible", [True, False])
def test_few_answers_end_at_the_iteration_limit(plausible):
    records = [
        {**r, "why": case}
        for case in cases()
        if families()[case[0]].plausible == plausible
        for r in answers(*case)
    ]
    limited = [r for r in records if r["status"] == Status.MAX_ITER]
    assert len(limited) <= LIMIT[plausible] * len(records), told(limited)


def test_two_thousand_slots_are_judged():
    assert BATCH * len(cases()) >= 2000
    assert {dtype for _, dtype, _ in cases()} == {"float32", "float64"}
    assert {families()[name].market for name, _, _ in cases()} == {"pool", "bilateral", "none"}


def test_the_judge_is_nearly_exact():
    errors = [r["error"] / r["scale"] for case in cases() for r in answers(*case)]
    assert max(errors) < 1e-5
