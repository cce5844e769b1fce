"""Policies at the same time: in order, the same as alone, and all ended by the first that fails."""

import threading
import time

import jax
import numpy as np
import pytest
from communities import small

from jaxp2p.report.kpis import evaluate
from jaxp2p.runs import runner
from jaxp2p.runs.side_by_side import cores, side_by_side, together


@pytest.mark.parametrize("at_a_time", [1, 3])
def test_results_are_in_order_and_one_is_told_at_a_time(at_a_time):
    inside, most, heard = [], [], []
    lock = threading.Lock()

    def work(name, told):
        with lock:
            inside.append(name)
            most.append(len(inside))
        time.sleep(0.02 * (4 - int(name)))  # the first is the slowest
        told(5)
        with lock:
            inside.remove(name)
        return f"done {name}"

    busy = threading.Lock()

    def report(name, slots):
        assert busy.acquire(blocking=False), "two at a time"
        heard.append((name, slots))
        time.sleep(0.001)
        busy.release()

    found = side_by_side(["1", "2", "3"], work, report, at_a_time)
    assert list(found.items()) == [(name, f"done {name}") for name in "123"]
    assert max(most) == at_a_time and sorted(heard) == [(n, s) for n in "123" for s in (0, 5)]


@pytest.mark.parametrize("at_a_time", [1, 2])
def test_the_first_failure_ends_all(at_a_time):
    steps = []

    def work(name, told):
        if name == "bad":
            raise ValueError("no slots left")
        for slot in range(1000):
            told(slot)
            steps.append(slot)
            time.sleep(0.005)

    with pytest.raises(ValueError, match="no slots left"):
        side_by_side(["bad", "long", "later"], work, lambda name, slots: None, at_a_time)
    assert len(steps) < 500


def test_who_hears_may_stop_it():
    def report(name, slots):
        if slots == 3:
            raise KeyboardInterrupt

    steps = []

    def work(name, told):
        for slot in range(1000):
            told(slot)
            steps.append(slot)
            time.sleep(0.001)

    with pytest.raises(KeyboardInterrupt):
        side_by_side(["a", "b"], work, report, 2)
    assert len(steps) < 1000


def test_works_within_works_end_with_the_first_that_fails():
    steps, heard = [], []

    def policies(report):
        def work(name, told):
            for slot in range(1000):
                told(slot)
                steps.append(slot)
                time.sleep(0.005)

        return side_by_side(["a", "b"], work, lambda name, slots: report(name, slots), 2)

    def hindsight(report):
        report("one round")
        raise RuntimeError("no solution")

    with pytest.raises(RuntimeError, match="no solution"):
        together([policies, hindsight], lambda *words: heard.append(words), 2)
    assert len(steps) < 1000 and ("one round",) in heard
    assert together([lambda report: 1, lambda report: "b"], print, 2) == [1, "b"]


def test_an_accelerator_has_them_one_by_one(monkeypatch):
    assert cores() >= 1
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert cores() == 1


def test_a_run_is_the_same_whatever_is_at_a_time(monkeypatch):
    community, horizon = small("rural1", days=0.25, market="pool")
    names = ("no_storage", "greedy", "self_consumption", "lyapunov", "perfect_foresight")
    found = []
    for at_a_time in (1, 3):
        monkeypatch.setattr(runner, "cores", lambda at_a_time=at_a_time: at_a_time)
        made = runner.run(community, horizon, policies=names, look=at_a_time > 1)
        assert list(made.trajectories) == list(names) and set(made.seconds) == set(names)
        found.append(made)
    assert found[0].lower_bound_eur == found[1].lower_bound_eur
    for name in names:
        for ours, theirs in zip(*(jax.tree.leaves(one.trajectories[name]) for one in found), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    # the grid beside the run, or afterwards: the same figures, but for how long all took
    assert set(found[0].grids) == {"no_storage", "perfect_foresight"} and set(found[1].grids) == set(names)
    timed = ("ms_per_slot", "realtime_factor")
    figures = [evaluate(community, horizon, one) for one in found]
    for name in names:
        one, other = (row[name].kpis | dict.fromkeys(timed) for row in figures)
        assert one == other
