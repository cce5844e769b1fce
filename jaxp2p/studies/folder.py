"""A study on disk: its settings, and one finished file per chunk of scenarios.

    study.json                    the settings
    study.lock                    while a process writes
    chunks/000123.parquet         figures of chunk 123: one row per scenario and policy
    chunks/000123.traces.parquet  optional: series of some of its scenarios

Every file is written under a temporary name, forced to disk and renamed, the figures of a chunk last: where
that file is, the chunk is done. So a run may be killed at any moment and continued by running it again.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from jaxp2p.report.files import whole_file, write_json
from jaxp2p.studies.errors import StudyError
from jaxp2p.studies.lock import locked
from jaxp2p.studies.settings import StudySettings, continues

STUDY_FILE = "study.json"
LOCK_FILE = "study.lock"
CHUNKS = "chunks"
MARK = "jaxp2p-study"  # value of "kind" in study.json
KEYS = ("scenario", "policy")  # the columns that every table of a study begins with

_CHUNK_FILE = re.compile(r"(\d{6,})\.parquet")
_TRACES_FILE = re.compile(r"(\d{6,})\.traces\.parquet")
_TEMPORARY = re.compile(r"\.(study\.json|\d{6,}(\.traces)?\.parquet)-.+")
_OWNER, _SERIES = b"jaxp2p-study", b"jaxp2p-traces"  # metadata of a file: whose it is, whether it has traces


class StudyFolder:
    """The files of one study. Made by `open_study` (to write) and `read_study` (to read)."""

    def __init__(self, path: Path, settings: StudySettings):
        self.path = path
        self.settings = settings
        self._columns: list[str] | None = None
        self._checked: set[int] = set()  # chunks whose rows have been looked at

    def file(self, number: int, *, traces: bool = False) -> Path:
        """Where a chunk's figures are, or its traces."""
        return self.path / CHUNKS / f"{number:06d}{'.traces' if traces else ''}.parquet"

    def done(self) -> list[int]:
        """Numbers of the finished chunks, in order; the ends of their files are read.

        Raises:
            StudyError: a file is cut off or not of this study.
        """
        numbers = sorted(
            int(match[1]) for name in _names(self.path / CHUNKS) if (match := _CHUNK_FILE.fullmatch(name))
        )
        for number in numbers:
            self._metadata(number)
        return numbers

    def missing(self) -> list[int]:
        """Numbers of the chunks that are still to be run, in order. Raises as `done`."""
        done = set(self.done())
        return [number for number in range(self.settings.chunks) if number not in done]

    def write_chunk(self, number: int, kpis: pd.DataFrame, traces: pd.DataFrame | None = None) -> None:
        """Store a finished chunk.

        kpis has the columns scenario, policy and figures (numbers), one row per scenario of the chunk and
        policy, in any order; the file has them in the order of the settings. traces has these two columns
        and any others.

        Raises:
            ValueError: rows or columns are not those of the chunk.
            OSError: the file cannot be written (no space left, say); what is finished stays as it is.
        """
        ordered = self._ordered(number, kpis)
        if traces is not None and not set(KEYS) <= set(traces):
            raise ValueError(f"the traces of chunk {number} lack the columns {' and '.join(KEYS)}")
        marks = {_OWNER: self.settings.identity.encode(), _SERIES: str(int(traces is not None)).encode()}
        try:
            if traces is not None:
                _write_table(self.file(number, traces=True), _typed(traces), marks)
            _write_table(self.file(number), _typed(ordered), marks)
        except OSError as error:
            raise OSError(
                error.errno,
                f"chunk {number} cannot be written ({error.strerror or error}); finished chunks are kept: "
                "put that right and run the same command again",
                str(self.file(number)),
            ) from error
        self._columns = list(ordered.columns[len(KEYS) :])

    def figures(self) -> list[str]:
        """Names of the columns of figures; empty as long as no chunk is done. Raises as `done`."""
        if self._columns is None:
            done = self.done()
            if not done:
                return []
            self._columns = pq.read_schema(self.file(done[0])).names[len(KEYS) :]
        return list(self._columns)

    def read_kpis(self, figures: Sequence[str] | None = None) -> pd.DataFrame:
        """Scenario, policy and figures (all, or the named ones) of all finished chunks, in scenario order.

        8 bytes per row and figure; `read_figure` is for studies that do not fit.

        Raises:
            StudyError: a file is cut off, damaged or not of this study; the error names it.
        """
        chosen = self.figures() if figures is None else list(figures)
        frames = []
        for number in self.done():
            frame = self._read(number, chosen)
            for place, values in enumerate(self.settings.rows(number)):
                frame.insert(place, KEYS[place], values)
            frames.append(frame)
        if not frames:
            return pd.DataFrame(columns=[*KEYS, *chosen])
        return pd.concat(frames, ignore_index=True)

    def read_figure(self, figure: str) -> dict[str, np.ndarray]:
        """One figure by policy, (scenarios done,) in scenario order, read chunk by chunk.

        Takes 8 bytes per scenario and policy, and one chunk. Raises as `read_kpis`.
        """
        policies = self.settings.policies
        pieces: dict[str, list[np.ndarray]] = {policy: [] for policy in policies}
        for number in self.done():
            values = self._read(number, [figure])[figure].to_numpy(float)
            names = self.settings.rows(number)[1]
            for policy in policies:
                pieces[policy].append(values[names == policy])
        return {policy: np.concatenate([*pieces[policy], np.empty(0)]) for policy in policies}

    def read_traces(self) -> pd.DataFrame | None:
        """The traces of all finished chunks one below the other, None where there are none.

        Raises:
            StudyError: a file is missing, cut off or not of this study.
        """
        frames = []
        for number in self.done():
            if self._metadata(number).get(_SERIES) == b"1":
                self._metadata(number, traces=True)
                frames.append(_load(self.file(number, traces=True)))
        return pd.concat(frames, ignore_index=True) if frames else None

    def _ordered(self, number: int, kpis: pd.DataFrame) -> pd.DataFrame:
        """The table of a chunk in the order of the settings, every figure as float64."""
        missing = [name for name in KEYS if name not in kpis]
        if missing:
            raise ValueError(f"the figures of chunk {number} lack the column {' and '.join(missing)}")
        figures = [str(name) for name in kpis.columns if name not in KEYS]
        if known := self.figures():
            if set(figures) != set(known):
                raise ValueError(
                    f"chunk {number} has other figures than the finished ones: "
                    + ", ".join(sorted(set(figures) ^ set(known)))
                )
            figures = known
        rows = pd.MultiIndex.from_arrays(self.settings.rows(number), names=KEYS)
        found = pd.MultiIndex.from_arrays([kpis["scenario"].astype(np.int64), kpis["policy"].astype(object)])
        if len(found) != len(rows) or set(found) != set(rows):
            first, count = self.settings.span(number)
            raise ValueError(
                f"chunk {number} must have one row per policy for the scenarios {first} to "
                f"{first + count - 1}: {len(rows)} rows, not these {len(found)}"
            )
        table = kpis[figures].astype(np.float64).set_axis(found).reindex(rows)
        return table.reset_index()

    def _metadata(self, number: int, *, traces: bool = False) -> dict[bytes, bytes]:
        """Metadata of a chunk's file, whose end is whole and which belongs here."""
        file = self.file(number, traces=traces)
        if number >= self.settings.chunks:
            raise _broken(file, f"this study has no chunk {number}")
        if traces and not file.exists():
            raise _broken(self.file(number), f"its traces {file.name} are missing")
        with _reading(file):
            footer = pq.read_metadata(file)
        marks = footer.metadata or {}
        if marks.get(_OWNER) != self.settings.identity.encode():
            raise _broken(file, "it belongs to another study")
        if not traces and footer.num_rows != (rows := len(self.settings.rows(number)[0])):
            raise _broken(file, f"it has {footer.num_rows} rows, not {rows}")
        return marks

    def _read(self, number: int, figures: Sequence[str]) -> pd.DataFrame:
        """The figures of one chunk, whose columns and rows are those that they must be."""
        file = self.file(number)
        if number not in self._checked:
            with _reading(file):
                columns = pq.read_schema(file).names
            if columns != [*KEYS, *self.figures()]:
                raise _broken(file, "it has other columns than the first chunk")
            keys = _load(file, list(KEYS))
            for name, expected in zip(KEYS, self.settings.rows(number), strict=True):
                if not np.array_equal(keys[name].to_numpy(expected.dtype), expected):
                    raise _broken(file, f"its column {name} is not that of the settings")
            self._checked.add(number)
        return _load(file, list(figures))


@contextmanager
def open_study(
    path: str | os.PathLike[str], settings: StudySettings, *, resume: bool = True
) -> Iterator[StudyFolder]:
    """The folder of a study, new or to be continued, for one writing process.

    A study with the same settings is continued; more scenarios than it had are added to it. Rests of a
    killed run are removed. The folder is locked within the block.

    Raises:
        FileExistsError: the folder holds something else, or holds a study and `resume` is False.
        StudyError: it holds a study with other settings (all are named), or another process works on it.
    """
    target = Path(path)
    _check_foreign(target)
    (target / CHUNKS).mkdir(parents=True, exist_ok=True)
    with locked(target / LOCK_FILE):
        old = _stored(target)
        if old is not None:
            if not resume:
                raise FileExistsError(
                    f"the folder {target} holds a study already: leave out --no-resume to continue it, or "
                    "choose another folder"
                )
            if faults := continues(old, settings):
                raise StudyError(
                    f"the study in {target} has other settings; it can be continued with the same ones and "
                    "at least as many scenarios, or choose another folder:\n  " + "\n  ".join(faults)
                )
        folder = StudyFolder(target, settings)
        if old is not None and old.scenarios % old.chunk and old.scenarios < settings.scenarios:
            # the last chunk was smaller than it is now; it goes before the new number is stored
            folder.file(old.chunks - 1).unlink(missing_ok=True)
        _tidy(target)
        if old != settings:
            write_json(target / STUDY_FILE, {"kind": MARK, "settings": settings.to_json()})
        yield folder


def read_study(path: str | os.PathLike[str]) -> StudyFolder:
    """A study to read, also while another process works on it: its finished chunks are there.

    Raises:
        FileNotFoundError: there is no study.
        FileExistsError: the folder holds something else.
    """
    target = Path(path)
    settings = _stored(target)
    if settings is None:
        raise FileNotFoundError(f"{target} holds no study: there is no {STUDY_FILE}")
    return StudyFolder(target, settings)


def _stored(folder: Path) -> StudySettings | None:
    """Settings of the study in the folder, None where there is none."""
    file = folder / STUDY_FILE
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        content = None
    if not isinstance(content, dict) or content.get("kind") != MARK:
        raise FileExistsError(f"{file} is not of a study of jaxp2p; choose another folder")
    try:
        return StudySettings.from_json(content.get("settings", {}))
    except StudyError as error:
        raise StudyError(f"{file}: {error}") from None


def _check_foreign(folder: Path) -> None:
    """Raise FileExistsError where something is that no study of ours would have; nothing is touched."""
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} exists and is not a folder")
    if (folder / STUDY_FILE).exists():
        return
    own = {LOCK_FILE, CHUNKS}
    foreign = [name for name in _names(folder) if name not in own and not _TEMPORARY.fullmatch(name)]
    foreign += [f"{CHUNKS}/{name}" for name in _names(folder / CHUNKS)]
    if foreign:
        shown = ", ".join(foreign[:5]) + (", ..." if len(foreign) > 5 else "")
        raise FileExistsError(
            f"the folder {folder} holds something else than a study of jaxp2p: {shown}; choose another folder"
        )


def _tidy(folder: Path) -> None:
    """Remove temporary files of a killed run, and traces whose chunk was not finished."""
    for place in (folder, folder / CHUNKS):
        for name in _names(place):
            match = _TRACES_FILE.fullmatch(name)
            if _TEMPORARY.fullmatch(name) or (match and not (place / f"{match[1]}.parquet").exists()):
                (place / name).unlink()


def _names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []


def _typed(frame: pd.DataFrame) -> pa.Table:
    """As Arrow, with types that do not depend on the version of pandas."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    place = table.schema.get_field_index("policy")
    return table.set_column(place, "policy", table.column(place).cast(pa.string()))


def _write_table(file: Path, table: pa.Table, marks: dict[bytes, bytes]) -> None:
    with whole_file(file) as opened:
        pq.write_table(table.replace_schema_metadata(marks), opened)


def _load(file: Path, columns: list[str] | None = None) -> pd.DataFrame:
    with _reading(file):
        return pq.read_table(file, columns=columns, partitioning=None).to_pandas()


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Within this block the contents of the file are at fault, unless the system says otherwise."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise _broken(file, "it is cut off, damaged or not a Parquet file") from error


def _broken(file: Path, why: str) -> StudyError:
    return StudyError(
        f"the file {file} cannot be used: {why}. Delete it and run the same command again; all other chunks "
        "are kept"
    )
