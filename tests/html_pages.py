"""Pages of `jaxp2p report` to be judged: made of runs without a solver, and read back without the package."""

from __future__ import annotations

import base64
import json
import re
import zlib
from dataclasses import replace
from functools import cache

import numpy as np
from fake_runs import fake_run

from jaxp2p.data import load_case, window
from jaxp2p.model.build import build_community, build_horizon
from jaxp2p.report.kpis import evaluate
from jaxp2p.report.layout import bus_coordinates
from jaxp2p.report.results import Results, gathered

MISSING = 2**27 + 1
NASTY = (
    '</script><b id="injected">',
    "<!--",
    "<script>alert(1)</script>",
    "a & b",
    'tür "1"',
    "{{ 7 * 7 }}",
    "<script x",
    "\u2028",
)


@cache
def results(
    case: str, *, days: float, homes: bool = True, nasty: bool = False, policies: tuple = ()
) -> Results:
    """Of a run without a solver; nasty: members and buses have names that would like to be something else."""
    tables = window(load_case(case), days=days)
    community = build_community(tables, dtype="float64")
    horizon = build_horizon(community, tables)
    places = bus_coordinates(tables, community)
    run = fake_run(community, horizon, **({"policies": policies} if policies else {}))
    if nasty:
        named = lambda ids: tuple(NASTY[: len(ids)]) + tuple(ids[len(NASTY) :])
        homes_, network = community.prosumers, community.network
        community = replace(
            community,
            prosumers=replace(homes_, ids=named(homes_.ids)),
            network=replace(network, bus_ids=named(network.bus_ids), branch_ids=named(network.branch_ids)),
        )
    time = tables.profiles["time"]
    evaluations = evaluate(community, horizon, run)
    name = "<i>case</i>" if nasty else case
    return gathered(
        community, horizon, run, evaluations, time=time, case=name, homes=homes, coordinates=places
    )


def content(page: str) -> dict:
    """The JSON in a page."""
    (text,) = re.findall(r'<script type="application/json" id="page-data">(.*?)</script>', page, flags=re.S)
    return json.loads(text)


def rows(page: str, reference: dict, parents: list[int] | None = None) -> np.ndarray:
    """(R, T) that a reference stands for, NaN where missing: stated anew from the words of `packing`."""
    (text,) = re.findall(rf'<script type="text/plain" id="block-{reference["block"]}">(.*?)</script>', page)
    data = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    planes = data.reshape(reference["planes"], -1).astype(np.int64)
    folded = sum(plane << (8 * place) for place, plane in enumerate(planes))
    steps = np.where(folded % 2, -(folded + 1) // 2, folded // 2).reshape(reference["rows"], -1)
    whole = steps.cumsum(1)
    for row, above in enumerate(parents or []):
        if above >= 0:
            whole[row] += whole[above]
    return np.where(whole == MISSING, np.nan, whole / reference["scale"])
