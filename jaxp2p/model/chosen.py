"""From tables and settings to the arrays of a run."""

from typing import Any

import jax

from jaxp2p.data.calendar import slot_of_week
from jaxp2p.data.tables import Tables
from jaxp2p.model.build import build_community, build_horizon
from jaxp2p.model.types import Community, Horizon


def use_dtype(dtype: str) -> None:
    """Switch JAX to 64 bits where they are asked for; must come before the first array."""
    if dtype == "float64":
        jax.config.update("jax_enable_x64", True)


def build_both(tables: Tables, options: Any, *, seed: int = 0) -> tuple[Community, Horizon]:
    """Community and horizon; options has what `Grid`, `Trading` and `Numbers` have.

    The seed is that of a random trading graph. Raises ValueError.
    """
    chosen = {"fee": options.fee} if options.fee is not None else {}
    community = build_community(
        tables,
        market=options.market,
        graph=options.graph,
        partners=options.partners,
        seed=seed,
        network=options.network,
        secure=options.secure,
        reactive=options.reactive,
        dtype=options.dtype,
        **chosen,
    )
    return community, build_horizon(community, tables)


def first_slot_of_week(time: Any) -> int:
    """Number of the first slot within its week, which begins on Monday: what `slot_of_week` counts from."""
    return slot_of_week(time.iloc[0], time.iloc[1] - time.iloc[0])
