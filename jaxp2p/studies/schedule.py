"""Run the missing chunks of a study: in this process one after the other, or on the workers of Dask.

A chunk depends on the settings and its number only, so it does not matter where or in which order chunks are
run: the table of the study is the same to the last bit on machines of one kind. The results come to this
process, which alone writes the folder.
"""

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import pandas as pd

from jaxp2p import __version__
from jaxp2p.studies.errors import StudyError
from jaxp2p.studies.folder import StudyFolder
from jaxp2p.studies.settings import StudySettings

AHEAD = 2  # chunks under way or waiting per thread of the workers: none idles, and few results pile up
TOO_MANY = 3  # failed chunks, after which it is not the chunk
RETRIES = 1  # of a chunk that raised on a worker, on another one where there is one
CONNECT_SECONDS = 30

Built = TypeVar("Built")


@dataclass(frozen=True, kw_only=True)
class ChunkResult:
    """What a chunk yields: the tables for the folder, and counts for the progress (slots, iterations)."""

    kpis: pd.DataFrame
    traces: pd.DataFrame | None = None
    counters: Mapping[str, float] = field(default_factory=dict)


class Work(Protocol):
    """Runs one chunk. Must pickle, so it holds settings only and builds the rest by `cached_build`."""

    def __call__(self, number: int, first: int, count: int) -> ChunkResult:
        """The scenarios first to first + count - 1."""


Finished = Callable[[int, ChunkResult], None]

_building = threading.Lock()
_built: dict[tuple[Callable[[StudySettings], Any], StudySettings], Any] = {}


def cached_build(settings: StudySettings, build: Callable[[StudySettings], Built]) -> Built:
    """build(settings), once per process and settings: tables, community and compiled programs of a study.

    Only the last one is kept. Threads of a worker wait for the one that builds.
    """
    with _building:
        key = (build, settings)
        if key not in _built:
            _built.clear()
            _built[key] = build(settings)
        return _built[key]


def run_chunks(
    folder: StudyFolder, work: Work, *, scheduler: str | None = None, finished: Finished | None = None
) -> None:
    """Run the missing chunks and write each as soon as it is there.

    Args:
        scheduler: None for this process; the address of a Dask scheduler such as "tcp://host:8786"; "local"
            for as many worker processes on this machine as it has cores, "local:4" for four.
        finished: called with number and result of every chunk after it has been written.

    A chunk that raises does not stop the others, unless several do.

    Raises:
        StudyError: chunks failed (each is named with its error, the first one is the cause); Dask is not
            installed, does not answer, or its workers have another version of jaxp2p.
        OSError: a chunk cannot be written.
        KeyboardInterrupt: with a text that says how to continue.
    """
    missing = folder.missing()
    if not missing:
        return
    if scheduler is None:
        results = _here(folder.settings, work, missing)
    else:
        results = _on_workers(folder.settings, work, missing, scheduler)
    failed: dict[int, BaseException] = {}
    try:
        with closing(results):
            for number, result in results:
                if isinstance(result, BaseException):
                    failed[number] = result
                    if len(failed) == TOO_MANY:
                        break
                    continue
                folder.write_chunk(number, result.kpis, result.traces)
                if finished is not None:
                    finished(number, result)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"{len(folder.done())} of {folder.settings.chunks} chunks are finished and kept in "
            f"{folder.path}; run the same command again to continue"
        ) from None
    if failed:
        lines = [f"chunk {number}: {type(error).__name__}: {error}" for number, error in failed.items()]
        raise StudyError(
            f"chunks failed, all finished ones are kept in {folder.path}:\n  " + "\n  ".join(lines)
        ) from next(iter(failed.values()))


Results = Generator[tuple[int, ChunkResult | BaseException], None, None]


def _here(settings: StudySettings, work: Work, missing: list[int]) -> Results:
    for number in missing:
        try:
            result: ChunkResult | Exception = work(number, *settings.span(number))
        except Exception as error:  # whatever it is, it is reported with the chunk's number
            result = error
        yield number, result


def _on_workers(settings: StudySettings, work: Work, missing: list[int], scheduler: str) -> Results:
    try:
        import distributed
    except ImportError:
        raise StudyError('a scheduler needs Dask: pip install "jaxp2p[cluster]"') from None
    waiting = deque(missing)
    with _client(scheduler) as client:
        _check_workers(client, scheduler)
        running: dict[Any, int] = {}
        stream = distributed.as_completed(with_results=True, raise_errors=False)
        while waiting or running:
            # workers may come and go, so their number is asked for every time
            ahead = AHEAD * sum(client.nthreads().values())
            while waiting and (not running or len(running) < ahead):
                number = waiting.popleft()
                # Dask runs the chunk again elsewhere when its worker is lost
                future = client.submit(
                    _on_worker, work, number, *settings.span(number), __version__, pure=False, retries=RETRIES
                )
                running[future] = number
                stream.add(future)
            future, result = next(stream)
            number = running.pop(future)
            if future.status == "error":
                result = future.exception()
            elif future.status != "finished":
                result = StudyError("the scheduler has lost it")
            yield number, result


def _on_worker(work: Work, number: int, first: int, count: int, version: str) -> ChunkResult:
    """Runs on a worker, which may have joined after the check of the others."""
    if version != __version__:
        raise StudyError(f"this worker has jaxp2p {__version__}, the study is run by {version}")
    return work(number, first, count)


def _ignore_interrupts() -> None:
    """Ctrl-C reaches all processes of a terminal; the client itself ends its local workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _client(scheduler: str) -> Iterator[Any]:
    """A client of the scheduler, which is started and stopped here where it is a local one."""
    import dask
    import distributed

    kind, _, workers = scheduler.partition(":")
    if kind == "local":
        if workers and not (workers.isdecimal() and int(workers) > 0):
            raise StudyError(f"scheduler {scheduler}: local takes a number of workers, such as local:4")
        # a process with threads, as every one with JAX is, must not be forked
        with (
            dask.config.set({"distributed.worker.multiprocessing-method": "spawn"}),
            distributed.LocalCluster(
                n_workers=int(workers or os.cpu_count() or 1),
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            client.run(_ignore_interrupts)
            yield client
        return
    try:
        client = distributed.Client(scheduler, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise StudyError(f"no Dask scheduler answers at {scheduler}: {error}") from error
    with client:
        yield client


def _check_workers(client: Any, scheduler: str) -> None:
    """Raise StudyError unless there are workers and all have this version of jaxp2p."""
    try:
        client.wait_for_workers(1, timeout=CONNECT_SECONDS)
    except TimeoutError:
        raise StudyError(f"the scheduler {scheduler} has no workers; start some with dask worker") from None

    def version() -> str:
        # sent by value, as a worker that is to be checked may have no such module
        try:
            from jaxp2p import __version__
        except ImportError:
            return "no jaxp2p"
        return f"jaxp2p {__version__}"

    ours = version()
    others = [f"{worker} has {found}" for worker, found in client.run(version).items() if found != ours]
    if others:
        raise StudyError(
            f"all workers need {ours}, as here: {', '.join(others[:5])}{', ...' if len(others) > 5 else ''}"
        )
