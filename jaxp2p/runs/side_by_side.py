"""Policies side by side: on a processor as many at a time as it has cores, on an accelerator one by one.

A policy keeps one core busy, slot after slot; compiled programs run outside Python's lock, so threads do.
What each comes to, and how long it takes by itself, is the same as alone. `together` does the same for any
work: what needs no policy runs while their program is compiled.
"""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import jax

T = TypeVar("T")
Told = Callable[[int], None]  # slots done
Report = Callable[..., None]  # anything, from one thread at a time


class _Stopped(Exception):
    """Another work has failed, or the user has had enough."""


def cores() -> int:
    """Policies at a time: cores that this process may use; 1 where JAX computes elsewhere."""
    if jax.default_backend() != "cpu":
        return 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def side_by_side(
    names: Sequence[str], work: Callable[[str, Told], T], report: Callable[[str, int], None], at_a_time: int
) -> dict[str, T]:
    """What `work` comes to for every name, in their order.

    work(name, told) tells how far it is; report(name, slots) hears of it from one thread at a time. Ends and
    raises as `together`.
    """

    def one(name: str) -> Callable[[Report], T]:
        def begun(heard: Report) -> T:
            told = lambda slots: heard(name, slots)
            told(0)
            return work(name, told)

        return begun

    return dict(zip(names, together([one(name) for name in names], report, at_a_time), strict=True))


def together(works: Sequence[Callable[[Report], Any]], report: Report, at_a_time: int) -> list[Any]:
    """What all works come to, in their order; begun in this order, so many at a time.

    Each is called with a report of its own, which hands on to `report` from one thread at a time. The first
    exception, of a work or of the report, ends all others at their next report and is raised.
    """
    stop, one_at_a_time = threading.Event(), threading.Lock()

    def heard(*words: Any) -> None:
        with one_at_a_time:
            if stop.is_set():
                raise _Stopped
            report(*words)

    def done(work: Callable[[Report], T]) -> T:
        try:
            return work(heard)
        except BaseException:
            stop.set()
            raise

    if at_a_time <= 1 or len(works) <= 1:
        return [done(work) for work in works]
    with ThreadPoolExecutor(min(at_a_time, len(works)), thread_name_prefix="work") as pool:
        futures = [pool.submit(done, work) for work in works]
        try:
            for future in futures:
                if not isinstance(error := future.exception(), _Stopped | None):
                    raise error
            return [future.result() for future in futures]
        except BaseException:
            stop.set()
            raise
