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

from jaxp2p.model.types import Community, Horizon, Prosumers

ALIKE = 0.05  # ratios of power to capacity this close are one
EXTENSIVE = ("energy_min", "energy_max", "energy_start", "charge_max", "discharge_max")  # what adds up


def without_network(community: Community, horizon: Horizon) -> tuple[Community, Horizon]:
    """The same homes and slots where the grid has no limits."""
    nobody = jnp.zeros((horizon.slots, 0), horizon.load.dtype)
    bare = replace(
        horizon,
        voltage_base=nobody,
        flow_base=nobody,
        flow_reactive=nobody,
        active_base=None,
        reactive_base=None,
        dependent_base=None,
    )
    return community.without_network(), bare


def decisive(community: Community, horizon: Horizon) -> tuple[Community, Horizon, np.ndarray]:
    """Smaller community, its horizon, and which homes (M,) of the original come first in it.

    Raises ValueError for other markets than the pool, and for trade or connection limits.
    """
    homes, market = community.prosumers, community.market
    if not market.pooled or market.limited or homes.limited:
        raise ValueError("only a pool without trade and connection limits can be reduced")
    community, horizon = without_network(community, horizon)
    battery = homes.battery
    moves = battery.owned | (homes.load_flex_share > 0) | _owners(homes)
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
    small = _members(community, np.concatenate([own, rest[:2]]))  # the last two lend their records
    picked = small.prosumers
    peak = jnp.concatenate(
        [picked.pv_peak[: len(own)], jnp.stack([jnp.max(sums[:, 0]), jnp.zeros((), sums.dtype)])]
    )
    small = replace(small, prosumers=replace(picked, pv_peak=peak.astype(picked.pv_peak.dtype)))
    load = jnp.concatenate([horizon.load[:, own], none, sums[:, 1:]], axis=1)
    pv = jnp.concatenate([horizon.pv[:, own], sums[:, :1], none], axis=1)
    plugs = jax.tree.map(lambda x: x[..., np.concatenate([own, rest[:2]])], horizon.plugs)
    return small, replace(horizon, load=load, pv=pv, plugs=plugs), own


def merged(
    community: Community, horizon: Horizon, group: np.ndarray
) -> tuple[Community, Horizon, np.ndarray]:
    """Homes of one group that move in proportion as one home; then `decisive`.

    Batteries with one value curve, one ratio of power to capacity and one state of charge at the start stay
    equally charged as long as all see one price, so that their sum is a battery. Ratios count as one within
    `ALIKE`. What is lost is the fee between homes that are merged. Returns the smaller community, its
    horizon and the group of each of its members.
    """
    homes, battery = community.prosumers, community.prosumers.battery
    f = lambda x: np.asarray(x, float)
    room = np.maximum(f(battery.energy_max), 1e-12)
    owner = np.asarray(battery.owned)
    alike = lambda x: np.round(np.log(np.maximum(x, 1e-12)) / np.log1p(ALIKE))
    kinds = [
        group,
        owner,
        *(np.where(owner, alike(f(x) / room), 0) for x in (battery.charge_max, battery.discharge_max)),
        *(np.where(owner, np.round(f(x) / room, 2), 0) for x in (battery.energy_start, battery.energy_min)),
        *(
            np.where(owner, f(x), 0)
            for x in (
                battery.charge_efficiency,
                battery.discharge_efficiency,
                battery.retention,
                battery.wear_cost,
            )
        ),
        f(homes.curtailment_cost),
        # elastic loads each follow their own price
        np.where(f(homes.load_flex_share) > 0, np.arange(community.size), -1),
        # and vehicles have calendars of their own
        np.where(_owners(homes), np.arange(community.size), -1),
    ]
    small, reduced, own = decisive(community, horizon)
    movers = own if small.size > len(own) else np.arange(community.size)
    _, first, kind = np.unique(
        np.stack(kinds, axis=1)[movers], axis=0, return_index=True, return_inverse=True
    )
    rest = np.arange(len(movers), small.size)
    chosen = np.concatenate([first, rest])

    def total(x):
        """(..., M) to (..., kinds + rest)."""
        sums = jax.ops.segment_sum(x[..., : len(movers)].T, kind.ravel(), len(first)).T
        return jnp.concatenate([sums, x[..., len(movers) :]], axis=-1)

    picked = _members(small, chosen)
    stored = replace(
        picked.prosumers.battery,
        **{name: total(getattr(small.prosumers.battery, name)) for name in EXTENSIVE},
    )
    members = replace(picked.prosumers, battery=stored, pv_peak=total(small.prosumers.pv_peak))
    groups = np.concatenate([group[movers][first], np.zeros(len(rest), int)])
    plugs = jax.tree.map(lambda x: x[..., chosen], reduced.plugs)
    reduced = replace(reduced, load=total(reduced.load), pv=total(reduced.pv), plugs=plugs)
    return replace(picked, prosumers=members), reduced, groups


def _owners(homes: Prosumers) -> np.ndarray:
    """(N,) bool: has a vehicle."""
    none = np.zeros(homes.pv_peak.shape, bool)
    return none if homes.vehicles is None else np.asarray(homes.vehicles.owned.any(0))


def _members(community: Community, chosen: np.ndarray) -> Community:
    """Some of the members of a pool."""
    market = community.market
    columns = {name: getattr(market, name)[:, chosen] for name in ("partner", "reverse", "fee", "limit")}
    homes: Prosumers = jax.tree.map(lambda x: x[..., chosen], community.prosumers)
    return replace(community, prosumers=replace(homes, ids=()), market=replace(market, **columns))
