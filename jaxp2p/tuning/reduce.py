"""The community that decides: batteries one by one, everybody else as one seller and one buyer.

In a pool without network, a home that has no battery and no elastic load injects p = pv - load whatever the
price, as long as no price makes it curtail; the pool and the utility see the sums of all p > 0 and of all
p < 0 only. The slot problems of the smaller community have the same prices and the same total cost, at a
fraction of the work: what tuning runs on.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from jaxp2p.community.types import Community, Horizon, Prosumers


def without_network(community: Community, horizon: Horizon) -> tuple[Community, Horizon]:
    """The same homes and slots where the grid has no limits."""
    nobody = jnp.zeros((horizon.slots, 0), horizon.load.dtype)
    empty = {"voltage_base": nobody, "flow_base": nobody, "flow_reactive": nobody}
    return replace(community, feeder=None), replace(horizon, **empty)


def decisive(community: Community, horizon: Horizon) -> tuple[Community, Horizon, np.ndarray]:
    """Smaller community, its horizon, and which homes (M,) of the original come first in it.

    Raises ValueError for other markets than the pool, and for trade or connection limits.
    """
    homes, market = community.prosumers, community.market
    if market.kind != "pool" or market.limited or homes.limited:
        raise ValueError("only a pool without trade and connection limits can be reduced")
    community, horizon = without_network(community, horizon)
    battery = homes.battery
    moves = (battery.charge_max > 0) | (battery.discharge_max > 0) | (homes.load_flex_share > 0)
    # a price at which it pays to curtail makes the injection of a PV plant a decision
    lowest = jnp.min(horizon.price_sell)
    moves = moves | ((homes.pv_peak > 0) & (lowest <= -homes.curtailment_cost))
    own = np.flatnonzero(np.asarray(moves))
    rest = np.flatnonzero(~np.asarray(moves))
    if len(rest) < 3:
        return community, horizon, np.arange(community.size)
    net = horizon.pv[:, rest] - horizon.load[:, rest]
    sums = jnp.stack([jnp.sum(jnp.maximum(net, 0), axis=1), jnp.sum(jnp.maximum(-net, 0), axis=1)], axis=1)
    none = jnp.zeros_like(sums[:, :1])
    chosen = np.concatenate([own, rest[:2]])  # two members without a battery lend their records
    picked: Prosumers = jax.tree.map(lambda x: x[chosen], homes)
    peak = jnp.concatenate(
        [picked.pv_peak[: len(own)], jnp.stack([jnp.max(sums[:, 0]), jnp.zeros((), sums.dtype)])]
    )
    picked = replace(picked, pv_peak=peak.astype(picked.pv_peak.dtype), ids=())
    small = replace(
        community,
        prosumers=picked,
        market=replace(
            market,
            partner=market.partner[:, chosen],
            reverse=market.reverse[:, chosen],
            fee=market.fee[:, chosen],
            limit=market.limit[:, chosen],
        ),
    )
    load = jnp.concatenate([horizon.load[:, own], none, sums[:, 1:]], axis=1)
    pv = jnp.concatenate([horizon.pv[:, own], sums[:, :1], none], axis=1)
    return small, replace(horizon, load=load, pv=pv), own
