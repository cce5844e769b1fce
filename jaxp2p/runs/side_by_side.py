"""Policies side by side: on a processor as many at a time as it has cores, on an accelerator one by one.

A policy keeps one core busy, slot after slot; compiled programs run outside Python's lock, so threads do.
What each comes to, and how long it takes by itself, is the same as alone.
"""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import jax

T = TypeVar("T")
Told = Callable[[int], None]  # slots done


class _Stopped(Exception):
    """Another policy has failed, or the user has had enough."""


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

    work(name, told) tells how far it is; report(name, slots) hears of it from one thread at a time. The first
    exception, of the work or of the report, ends all the others and is raised.
    """
    stop, one_at_a_time = threading.Event(), threading.Lock()

    def done(name: str) -> T:
        def told(slots: int) -> None:
            with one_at_a_time:
                if stop.is_set():
                    raise _Stopped
                report(name, slots)

        try:
            told(0)
            return work(name, told)
        except BaseException:
            stop.set()
            raise

    if at_a_time <= 1 or len(names) <= 1:
        return {name: done(name) for name in names}
    with ThreadPoolExecutor(min(at_a_time, len(names)), thread_name_prefix="policy") as pool:
        futures = {name: pool.submit(done, name) for name in names}
        try:
            for future in futures.values():
                if not isinstance(error := future.exception(), _Stopped | None):
                    raise error
            return {name: future.result() for name, future in futures.items()}
        except BaseException:
            stop.set()
            raise
