"""Small communities from the embedded cases, made once per test session."""

from functools import cache

import jax
import numpy as np

from jaxp2p.data import load_case, window
from jaxp2p.model.build import build_community, build_horizon
from jaxp2p.tuning.windows import Window


@cache
def small(
    case: str,
    *,
    market: str = "pool",
    days: float = 1,
    network: bool = True,
    dtype: str = "float64",
    **kwargs,
):
    """(community, horizon) of an embedded case in summer; kwargs go to load_case."""
    tables = window(load_case(case, **kwargs), days=days)
    community = build_community(tables, market=market, network=network, dtype=dtype)
    return community, build_horizon(community, tables)


def as_window(community, horizon, slot: int = 0) -> Window:
    """The horizon as it is, to tune on: nothing merged, no other scenario."""
    group = np.zeros(community.size, int)
    return Window(community, jax.tree.map(lambda x: x[None], horizon), slot, group)
