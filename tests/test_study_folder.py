"""Study folders: nothing lost, nothing mixed up, whatever happens on the way."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_study import POLICIES, SOURCE, FakeWork, settings

from jaxp2p.data import load_case, window
from jaxp2p.studies import lock
from jaxp2p.studies.errors import StudyError
from jaxp2p.studies.folder import open_study, read_study
from jaxp2p.studies.schedule import run_chunks
from jaxp2p.studies.settings import WORDS, StudySettings, difference, fingerprint

HERE = Path(__file__).parent
OTHER = {
    "source": SOURCE | {"name": "rural3", "start": "2016-01-18", "days": 2, "price": "tou", "pv_share": 0.5},
    "market": "bilateral",
    "partners": 3,
    "fee": 0.02,
    "graph": "regular",
    "network": False,
    "policies": POLICIES[:3],
    "scenario_model": "errors of a forecast",
    "seed": 6,
    "chunk": 11,
    "dtype": "float64",
    "tolerance": 0.5,
    "foresight_sample": 3,
    "device": "gpu",
    "version": "0.2.0",
    "fingerprint": "1" * 64,
    "controller": "2" * 64,
}


def finish(path, chosen=None, **options):
    chosen = chosen or settings()
    with open_study(path, chosen) as folder:
        run_chunks(folder, FakeWork(settings=chosen, **options))
    return read_study(path)


@pytest.fixture
def study(tmp_path):
    return finish(tmp_path / "study")


def files(path):
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())


def lock_text(path):
    return (path / "study.lock").read_text()


def test_settings_round_trip():
    chosen = settings(fee=0.015)
    back = StudySettings.from_json(json.loads(json.dumps(chosen.to_json())))
    assert back == chosen and hash(back) == hash(chosen) and back.identity == chosen.identity
    assert chosen.chunks == 4 and chosen.span(3) == (30, 4)
    scenarios, policies = chosen.rows(1)
    assert len(scenarios) == 10 * 3 + 3 and list(policies[:5]) == [*POLICIES, POLICIES[0]]
    with pytest.raises(StudyError, match="lacks market and has the unknown colour"):
        StudySettings.from_json({k: v for k, v in chosen.to_json().items() if k != "market"} | {"colour": 1})
    with pytest.raises(StudyError, match="at least one scenario"):
        StudySettings.from_json(chosen.to_json() | {"scenarios": 0})


@pytest.mark.parametrize(
    "wrong",
    [
        {"chunk": 0},
        {"seed": -1},
        {"foresight_sample": 35},
        {"policies": ()},
        {"policies": ("greedy", "greedy")},
    ],
)
def test_settings_out_of_range(wrong):
    with pytest.raises(ValueError):
        settings(**wrong)


def test_every_field_has_words_and_is_named_when_it_differs():
    assert set(WORDS) == {f"source.{name}" for name in SOURCE} | {
        field.name for field in fields(StudySettings) if field.name != "source"
    }
    assert difference(settings(), settings()) == []
    for name, value in (OTHER | {"scenarios": 99}).items():
        if name != "source":
            (line,) = difference(settings(), settings(**{name: value}))
            assert line.startswith(WORDS[name]) and ", now " in line
    lines = difference(settings(), settings(source=OTHER["source"]))
    assert lines[0] == "case or folder: rural1, now rural3"
    assert "first day: not set, now 2016-01-18" in lines and len(lines) == 5


def test_fingerprint_sees_every_cell():
    tables = window(load_case("rural1"), days=0.25)
    first = fingerprint(tables)
    assert first == fingerprint(tables.replace(meta={}))
    for name, frame in tables.frames().items():
        for column in frame.columns:
            edited = frame.copy()
            last = edited[column].iloc[-1]
            if pd.api.types.is_datetime64_any_dtype(edited[column]):
                other = last + pd.Timedelta(seconds=1)
            elif isinstance(last, str):
                other = last + "x"
            else:
                other = 1.0 if pd.isna(last) else np.nextafter(last, 0.5)
            edited.loc[edited.index[-1], column] = other
            assert fingerprint(tables.replace(**{name: edited})) != first, (name, column)


def test_tables_come_back_in_order(study):
    frame = study.read_kpis()
    assert list(frame.columns[:3]) == ["scenario", "policy", "cost_eur"]
    assert len(frame) == 34 * 3 + 13 and frame["scenario"].is_monotonic_increasing
    assert list(frame["policy"][:4]) == list(POLICIES)
    costs = study.read_figure("cost_eur")
    for policy in POLICIES:
        np.testing.assert_array_equal(costs[policy], frame.loc[frame["policy"] == policy, "cost_eur"])
    assert list(study.read_kpis(["p2p_kwh"]).columns) == ["scenario", "policy", "p2p_kwh"]
    traces = study.read_traces()
    assert sorted(traces["scenario"].unique()) == list(range(12))
    assert "study.lock" not in files(study.path)
    assert files(study.path / "chunks") == sorted(
        [f"{n:06d}.parquet" for n in range(4)] + [f"{n:06d}.traces.parquet" for n in range(2)]
    )


def test_empty_study(tmp_path):
    with open_study(tmp_path / "study", settings()) as folder:
        assert folder.missing() == [0, 1, 2, 3] and folder.figures() == []
        assert folder.read_kpis().empty and folder.read_traces() is None
        assert folder.read_figure("cost_eur")["lyapunov"].shape == (0,)
    with pytest.raises(FileNotFoundError, match="no study"):
        read_study(tmp_path)


def test_killed_at_any_moment_and_run_again(tmp_path, study):
    target = tmp_path / "killed"
    command = [sys.executable, str(HERE / "fake_study.py"), str(target), "0.3"]
    environment = os.environ | {"PYTHONPATH": str(HERE.parent), "JAX_PLATFORMS": "cpu"}
    moment = random.Random(os.getpid())
    kills = 0
    for _ in range(2):
        process = subprocess.Popen(command, env=environment)
        while not (target / "study.lock").exists() or str(process.pid) not in lock_text(target):
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(moment.uniform(0.0, 0.5))
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert kills
    (target / "chunks" / ".000003.parquet-abc").write_bytes(b"half a fi")
    with open_study(target, settings()) as folder:
        done = folder.done()
    assert not list(target.rglob(".*"))
    times = {number: read_study(target).file(number).stat().st_mtime_ns for number in done}
    again = finish(target)
    assert {number: again.file(number).stat().st_mtime_ns for number in done} == times  # not run twice
    assert files(target) == files(study.path)
    pd.testing.assert_frame_equal(again.read_kpis(), study.read_kpis(), check_exact=True)
    for name in files(target):
        assert (target / name).read_bytes() == (study.path / name).read_bytes()


def test_other_settings_are_refused_and_named(study):
    before = files(study.path)
    with pytest.raises(StudyError) as caught, open_study(study.path, settings(**OTHER)):
        pass
    for name in OTHER:
        assert WORDS.get(name, "case or folder") in str(caught.value)
    with (
        pytest.raises(StudyError, match="number of scenarios: 34, now 20"),
        open_study(study.path, settings(scenarios=20)),
    ):
        pass
    with (
        pytest.raises(FileExistsError, match="leave out --no-resume"),
        open_study(study.path, settings(), resume=False),
    ):
        pass
    assert files(study.path) == before


@pytest.mark.parametrize("scenarios", [37, 40, 55])
def test_more_scenarios(tmp_path, study, scenarios):
    larger = settings(scenarios=scenarios)
    times = [study.file(number).stat().st_mtime_ns for number in range(3)]
    with open_study(study.path, larger) as folder:
        assert folder.missing() == list(range(3, larger.chunks))
        run_chunks(folder, FakeWork(settings=larger))
    grown, direct = read_study(study.path), finish(tmp_path / "direct", larger)
    assert [grown.file(number).stat().st_mtime_ns for number in range(3)] == times
    pd.testing.assert_frame_equal(grown.read_kpis(), direct.read_kpis(), check_exact=True)
    for name in files(direct.path):
        assert (grown.path / name).read_bytes() == (direct.path / name).read_bytes()


@pytest.mark.parametrize("ending", [".parquet", ".traces.parquet"])
def test_a_truncated_chunk_is_named_and_the_others_are_kept(study, ending):
    file = study.path / "chunks" / f"000001{ending}"
    whole = study.read_kpis(), study.read_traces()
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(StudyError, match=f"000001{ending}.*cut off.*Delete it and run the same"):
        study.read_traces()
    study.file(1).unlink()
    again = finish(study.path)
    pd.testing.assert_frame_equal(again.read_kpis(), whole[0], check_exact=True)
    pd.testing.assert_frame_equal(again.read_traces(), whole[1], check_exact=True)


def test_damage_within_a_chunk(study):
    file = study.file(2)
    content = bytearray(file.read_bytes())
    content[4:400] = bytes(396)
    file.write_bytes(content)
    with pytest.raises(StudyError, match=r"000002\.parquet"):
        study.read_kpis()


def test_missing_traces(study):
    study.file(0, traces=True).unlink()
    with pytest.raises(StudyError, match=r"000000\.parquet.*000000\.traces\.parquet are missing"):
        study.read_traces()


def test_a_chunk_from_elsewhere(tmp_path, study):
    other = finish(tmp_path / "other", settings(seed=6))
    study.file(2).write_bytes(other.file(2).read_bytes())
    with pytest.raises(StudyError, match=r"000002\.parquet.*belongs to another study"):
        study.missing()
    study.file(2).write_bytes(study.file(1).read_bytes())
    with pytest.raises(StudyError, match=r"000002\.parquet.*33 rows, not 30"):
        study.missing()
    study.file(2).unlink()
    study.file(1).rename(study.file(7))
    with pytest.raises(StudyError, match="no chunk 7"):
        study.done()


def test_a_chunk_with_other_rows_or_columns_is_found(study):
    marks = pq.read_schema(study.file(3)).metadata

    def exchange(frame):
        known = pq.read_schema(study.file(3))
        schema = pa.schema([known.field(name) for name in frame.columns], metadata=marks)
        pq.write_table(pa.Table.from_pandas(frame, schema=schema, preserve_index=False), study.file(3))

    frame = pd.read_parquet(study.file(3))
    exchange(frame.assign(scenario=frame["scenario"] + 1))
    with pytest.raises(StudyError, match=r"000003\.parquet.*column scenario"):
        study.read_kpis()
    exchange(frame.assign(policy="greedy"))
    with pytest.raises(StudyError, match=r"000003\.parquet.*column policy"):
        study.read_figure("cost_eur")
    exchange(frame.drop(columns="p2p_kwh"))
    with pytest.raises(StudyError, match=r"000003\.parquet.*other columns"):
        study.read_kpis()


def test_wrong_chunks_are_not_written(tmp_path):
    chosen = settings()
    good = FakeWork(settings=chosen)(0, 0, 10).kpis
    with open_study(tmp_path / "study", chosen) as folder:
        for wrong, text in (
            (good.iloc[1:], "40 rows, not these 39"),
            (good.assign(scenario=3), "one row per policy"),
            (good.drop(columns="policy"), "lack the column policy"),
        ):
            with pytest.raises(ValueError, match=text):
                folder.write_chunk(0, wrong)
        with pytest.raises(ValueError, match="traces of chunk 0 lack"):
            folder.write_chunk(0, good, pd.DataFrame({"slot": [1]}))
        folder.write_chunk(0, good)
        with pytest.raises(ValueError, match=r"other figures.*p2p_kwh"):
            folder.write_chunk(1, FakeWork(settings=chosen)(1, 10, 10).kpis.drop(columns="p2p_kwh"))
        assert folder.done() == [0]


def test_disk_full(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    chosen = settings()
    target = tmp_path / "study"
    work = FakeWork(settings=chosen)
    with open_study(target, chosen) as folder:
        folder.write_chunk(0, work(0, 0, 10).kpis)
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(
            OSError, match=r"chunk 1 cannot be written .No space left.*000001\.parquet"
        ) as caught:
            run_chunks(folder, work)
        assert caught.value.errno == errno.ENOSPC
        monkeypatch.undo()
        assert folder.done() == [0]
        assert files(target / "chunks") == ["000000.parquet"]
    assert finish(target).missing() == []


def test_file_size_limit_of_the_system(tmp_path):
    """The system itself refuses to write on: what is there stays whole."""
    resource = pytest.importorskip("resource")
    target = tmp_path / "study"
    chosen = settings(scenarios=8000, chunk=4000, policies=("lyapunov",), foresight_sample=0)
    with open_study(target, chosen) as folder:
        work = FakeWork(settings=chosen, traces=False)
        folder.write_chunk(0, work(0, 0, 4000).kpis)
        result = work(1, 4000, 4000)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        try:
            with pytest.raises(OSError, match="chunk 1 cannot be written"):
                folder.write_chunk(1, result.kpis)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert folder.missing() == [1] and len(folder.read_kpis()) == 4000
        assert files(target / "chunks") == ["000000.parquet"]


def test_foreign_folders_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("keep")
    with pytest.raises(FileExistsError, match=r"notes\.txt"), open_study(tmp_path, settings()):
        pass
    assert files(tmp_path) == ["notes.txt"]
    with pytest.raises(FileExistsError, match="not a folder"), open_study(tmp_path / "notes.txt", settings()):
        pass
    for text in ("{}", "half", '{"kind": "jaxp2p-results"}'):
        (tmp_path / "study.json").write_text(text)
        with pytest.raises(FileExistsError, match="not of a study"), open_study(tmp_path, settings()):
            pass
    (tmp_path / "study.json").write_text('{"kind": "jaxp2p-study", "settings": {}}')
    with pytest.raises(StudyError, match=r"study\.json.*lacks"), open_study(tmp_path, settings()):
        pass


def test_own_outputs_beside_the_study_do_not_hinder(study):
    (study.path / "summary.json").write_text("{}")
    assert finish(study.path).missing() == []


def test_one_writer_at_a_time(tmp_path, monkeypatch):
    target, chosen = tmp_path / "study", settings()
    file = target / "study.lock"
    with open_study(target, chosen):
        assert json.loads(file.read_text())["pid"] == os.getpid()
        with (
            pytest.raises(StudyError, match=f"process {os.getpid()} on .*delete .*lock"),
            open_study(target, chosen),
        ):
            pass
        assert file.exists()
        assert read_study(target).done() == []  # reading is free
    assert not file.exists()

    def left(**holder):
        file.write_text(json.dumps(holder) if holder else "")

    host = lock.socket.gethostname()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    monkeypatch.setattr(lock, "SETTLE_SECONDS", 0.01)
    for holder in ({"pid": dead.pid, "host": host}, {}, {"pid": os.getpid(), "host": host}):
        left(**holder)
        with open_study(target, chosen):
            assert json.loads(file.read_text())["pid"] == os.getpid()
    for holder in ({"pid": os.getppid(), "host": host}, {"pid": dead.pid, "host": "elsewhere"}):
        left(**holder)
        with (
            pytest.raises(StudyError, match=f"process {holder['pid']} on {holder['host']}"),
            open_study(target, chosen),
        ):
            pass
        assert json.loads(file.read_text()) == holder
        file.unlink()


def test_equal_tables_from_chunks_in_any_order(tmp_path, study):
    chosen = settings()
    work = FakeWork(settings=chosen)
    with open_study(tmp_path / "other", chosen) as folder:
        for number in (2, 0, 3, 1):
            result = work(number, *chosen.span(number))
            folder.write_chunk(number, result.kpis.sample(frac=1, random_state=number), result.traces)
        pd.testing.assert_frame_equal(folder.read_kpis(), study.read_kpis(), check_exact=True)
