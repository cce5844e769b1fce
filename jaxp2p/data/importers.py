"""Where communities come from besides tables: one importer per kind of source, found by name.

A new kind is one more entry in `IMPORTERS`: what it is called, what it can read, and how it becomes `Tables`.
A source is named `KIND:WHAT`, or `WHAT` alone for the first kind.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import NamedTuple

from jaxp2p.data.simbench import import_simbench, simbench_codes
from jaxp2p.data.tables import Tables


class Importer(NamedTuple):
    """One kind of source."""

    description: str
    known: Callable[[], list[str]]  # the sources that there are; may raise ImportError
    read: Callable[..., Tables]  # (source, *, price, seed): checked tables with a synthetic tariff


IMPORTERS: dict[str, Importer] = {
    "simbench": Importer("SimBench grids of low and medium voltage", simbench_codes, import_simbench),
}


def import_source(source: str, *, price: str = "tou", seed: int = 0) -> Tables:
    """The checked tables of a source such as `1-LV-rural1--0-sw` or `simbench:1-LV-rural1--0-sw`.

    Raises:
        ImportError: a package is missing; the text says how to install it.
        ValueError: unknown kind, source or price, or a source that cannot be told in tables.
        InputError: the tables have faults.
    """
    kind, found, what = source.partition(":")
    if not found:
        kind, what = next(iter(IMPORTERS)), source
    if kind not in IMPORTERS:
        near = difflib.get_close_matches(kind, IMPORTERS, n=1)
        hint = f'; did you mean "{near[0]}"?' if near else ""
        raise ValueError(f"unknown kind of source {kind!r}; there are {', '.join(IMPORTERS)}{hint}")
    return IMPORTERS[kind].read(what, price=price, seed=seed)
