"""Chunks run here or on workers: the same table, whatever fails on the way."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
from fake_study import FakeWork, settings

from jaxp2p.studies import schedule
from jaxp2p.studies.errors import StudyError
from jaxp2p.studies.folder import open_study, read_study
from jaxp2p.studies.schedule import cached_build, run_chunks


@pytest.fixture
def serial(tmp_path):
    return run(tmp_path / "serial")


@pytest.fixture
def dask():
    return pytest.importorskip("distributed")


def run(path, *, scheduler=None, finished=None, chosen=None, **options):
    chosen = chosen or settings()
    with open_study(path, chosen) as folder:
        run_chunks(folder, FakeWork(settings=chosen, **options), scheduler=scheduler, finished=finished)
    return read_study(path)


def assert_same_files(a, b):
    names = sorted(file.name for file in (a.path / "chunks").iterdir())
    assert names == sorted(file.name for file in (b.path / "chunks").iterdir())
    for name in names:
        assert (a.path / "chunks" / name).read_bytes() == (b.path / "chunks" / name).read_bytes()
    pd.testing.assert_frame_equal(a.read_kpis(), b.read_kpis(), check_exact=True)


def test_every_chunk_once_and_reported(tmp_path, serial):
    seen = []
    study = run(
        tmp_path / "study", finished=lambda number, result: seen.append((number, dict(result.counters)))
    )
    assert seen == [(0, {"slots": 10}), (1, {"slots": 10}), (2, {"slots": 10}), (3, {"slots": 4})]
    assert_same_files(study, serial)
    run(tmp_path / "study", failing=(0, 1, 2, 3))  # nothing is left to be run


def test_a_failed_chunk_is_named_and_the_others_are_kept(tmp_path, serial):
    with pytest.raises(StudyError, match="chunk 1: ZeroDivisionError: no figures in 10") as caught:
        run(tmp_path / "study", failing=(1,))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert read_study(tmp_path / "study").missing() == [1]
    assert_same_files(run(tmp_path / "study"), serial)


def test_many_failures_end_the_study(tmp_path):
    with pytest.raises(StudyError, match=r"chunk 0.*\n.*chunk 1.*\n.*chunk 2"):
        run(tmp_path / "study", failing=tuple(range(9)), chosen=settings(chunk=4, scenarios=36))
    assert read_study(tmp_path / "study").done() == []


def test_interrupted(tmp_path, serial):
    def stop(number, result):
        if number == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"2 of 4 chunks are finished.*run the same command again"):
        run(tmp_path / "study", finished=stop)
    assert_same_files(run(tmp_path / "study"), serial)


def test_built_once_per_settings(monkeypatch):
    monkeypatch.setattr(schedule, "_built", {})
    calls = []

    def build(chosen):
        time.sleep(0.02)
        calls.append(chosen.seed)
        return object()

    made = []
    threads = [
        threading.Thread(target=lambda: made.append(cached_build(settings(), build))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [5] and len(set(map(id, made))) == 1
    cached_build(settings(seed=6), build)
    cached_build(settings(), build)
    assert calls == [5, 6, 5]  # one at a time is kept


def test_without_dask(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(StudyError, match=r'pip install "jaxp2p\[cluster\]"'):
        run(tmp_path / "study", scheduler="local:1")


def test_dask_is_not_imported_without_need():
    code = "import sys, jaxp2p.studies.schedule; assert not {'dask', 'distributed'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)


def test_a_worker_killed_in_the_middle(tmp_path, serial, dask):
    notes = tmp_path / "notes"
    notes.mkdir()
    killed = []

    def kill(number, result):
        if not killed:
            # a worker with a chunk that is not done yet
            names = [note.name.split("-") for note in notes.iterdir()]
            killed.extend(int(pid) for n, pid in names if not study.file(int(n)).exists())
            os.kill(killed[0], signal.SIGKILL)

    chosen = settings()
    with open_study(tmp_path / "study", chosen) as study:
        work = FakeWork(settings=chosen, seconds=0.5, notes=str(notes))
        assert pickle.loads(pickle.dumps(work)) == work
        run_chunks(study, work, scheduler="local:2", finished=kill)
    assert killed
    processes = [note.name.split("-") for note in notes.iterdir()]
    assert len({pid for _, pid in processes} - {str(killed[0])}) >= 1
    lost = [number for number, pid in processes if pid == str(killed[0])]
    again = [number for number, pid in processes if number in lost and pid != str(killed[0])]
    assert again  # what the killed worker was at was run by another one
    assert_same_files(study, serial)


def test_workers_of_an_address_their_failures_and_versions(tmp_path, serial, dask, monkeypatch):
    cluster = dask.LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None)
    with cluster:
        address = cluster.scheduler_address
        with pytest.raises(StudyError, match="chunk 2: ZeroDivisionError: no figures in 20"):
            run(tmp_path / "study", scheduler=address, failing=(2,))
        assert read_study(tmp_path / "study").missing() == [2]
        monkeypatch.setattr(schedule, "__version__", "9.9")
        with pytest.raises(StudyError, match=r"chunk 2: StudyError: this worker has jaxp2p .*9\.9"):
            run(tmp_path / "study", scheduler=address)
        monkeypatch.undo()
        monkeypatch.setattr("jaxp2p.__version__", "9.9")
        with pytest.raises(StudyError, match=r"need jaxp2p 9\.9, as here: tcp://.* has jaxp2p"):
            run(tmp_path / "study", scheduler=address)
        monkeypatch.undo()
        assert_same_files(run(tmp_path / "study", scheduler=address), serial)
        cluster.scale(0)
        monkeypatch.setattr(schedule, "CONNECT_SECONDS", 0.5)
        (tmp_path / "study" / "chunks" / "000000.parquet").unlink()
        time.sleep(0.5)
        with pytest.raises(StudyError, match="has no workers"):
            run(tmp_path / "study", scheduler=address)


@pytest.mark.parametrize(
    ("scheduler", "text"),
    [
        ("local:0", "such as local:4"),
        ("local:many", "such as local:4"),
        ("tcp://127.0.0.1:9", "no Dask scheduler answers at tcp://127.0.0.1:9"),
    ],
)
def test_schedulers_that_are_none(tmp_path, dask, monkeypatch, scheduler, text):
    monkeypatch.setattr(schedule, "CONNECT_SECONDS", 1)
    with pytest.raises(StudyError, match=text):
        run(tmp_path / "study", scheduler=scheduler)
