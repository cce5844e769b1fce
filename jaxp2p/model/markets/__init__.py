"""Markets, a file each: what a trade is, what its prices are, and what that means for programs and bounds.

All are a `Market`; solvers, gap, programs and hindsight ask its methods and never which one it is. A new one
is a file here with a subclass, its name in `KINDS`, and how it is built in `model.build`.
"""

from jaxp2p.model.markets.base import Market
from jaxp2p.model.markets.bilateral import Bilateral
from jaxp2p.model.markets.graphs import (
    complete_graph,
    market_from_edges,
    nearest_graph,
    no_market,
    pool_market,
    regular_graph,
)
from jaxp2p.model.markets.nobody import NoMarket
from jaxp2p.model.markets.pool import Pool

KINDS: dict[str, type[Market]] = {market.kind: market for market in (Bilateral, Pool, NoMarket)}

__all__ = [
    "KINDS",
    "Bilateral",
    "Market",
    "NoMarket",
    "Pool",
    "complete_graph",
    "market_from_edges",
    "nearest_graph",
    "no_market",
    "pool_market",
    "regular_graph",
]
