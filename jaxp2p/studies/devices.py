"""Where the arrays lie when one device is not enough: many scenarios, or one community that is too large.

- Axis "scenario" (`scenario_mesh`): every device runs scenarios of its own (`studies.engine.run_batch`) and
  talks to nobody.
- Axis "prosumer" (`prosumer_mesh`, `shard_prosumers`): every device holds an equal part of the members of one
  community, and everything else whole. `simulate` runs unchanged under jit. In the pool the devices exchange
  sums only, over the members and by bus, with as many numbers as there are prices: an iteration costs the
  same traffic however many members there are. In the bilateral market every member needs its partners'
  trades, whoever holds them: each iteration gathers the trades (K, N) on all devices, and each step of
  the members' own root search asks all devices whether anybody is still looking.
"""

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxp2p.control.charging import Charging
from jaxp2p.control.policy import Policy
from jaxp2p.model.devices import Battery, Vehicles
from jaxp2p.model.types import Community, Feeder, Horizon, Market, Prosumers
from jaxp2p.studies.engine import AXIS as SCENARIO

PROSUMER = "prosumer"
# every field whose last axis is that of the members, and what an empty member has there
MEMBERS: dict[type, dict[str, float]] = {
    Battery: {field.name: 0.0 for field in fields(Battery)}
    | {"charge_efficiency": 1.0, "discharge_efficiency": 1.0, "retention": 1.0},
    Prosumers: {
        "bus": 0,  # replaced by the last bus: members are sorted by bus
        "pv_peak": 0.0,
        "curtailment_cost": 0.0,
        "load_flex_share": 0.0,
        "load_flex_cost": 0.0,
        "buy_max": np.inf,
        "sell_max": np.inf,
    },
    Market: {"partner": 0, "reverse": 0, "fee": 0.0, "limit": 0.0},  # the first two: see `_padded_graph`
    Feeder: {"group": 0, "flexible": 0.0},
    Vehicles: {"capacity": 0.0, "charge_efficiency": 1.0, "discharge_efficiency": 1.0, "wear_cost": 0.0},
    Horizon: {"load": 0.0, "pv": 0.0, "plugs": 0.0},
    Policy: {"theta": 0.0, "inverse_v": 0.0, "rest_value": 0.0},
    Charging: {"low": 0.0, "high": 0.0},
}

T = TypeVar("T")


def scenario_mesh(devices: int | None = None) -> Mesh:
    """A mesh of the first `devices` devices, of all processes, with the axis "scenario"; None: all of them.

    Raises:
        ValueError: `devices` is below 1, or more than there are.
    """
    return _mesh(devices, SCENARIO)


def prosumer_mesh(devices: int | None = None) -> Mesh:
    """The same with the axis "prosumer"."""
    return _mesh(devices, PROSUMER)


def _mesh(devices: int | None, axis: str) -> Mesh:
    present = jax.devices()
    count = len(present) if devices is None else devices
    if count < 1:
        raise ValueError(f"{count} devices asked for: give 1 or more")
    if count > len(present):
        raise ValueError(
            f"{count} devices asked for, but there {'is' if len(present) == 1 else 'are'} {len(present)} "
            f"({present[0].platform})"
        )
    return Mesh(np.array(present[:count]), (axis,))


def pad_community(community: Community, horizon: Horizon, multiple: int) -> tuple[Community, Horizon]:
    """Community and horizon with empty members at the end, so that N is a multiple of `multiple`.

    An empty member has no load, no PV, no battery and nobody to trade with; it is called "empty n" and is at
    the last bus. Make the policies from what is returned. What the others do stays the same within the
    tolerance of the solver (whose penalties follow the mean power of a member); sums stay, means over the
    members count the empty ones.

    Raises:
        ValueError: `multiple` is below 1.
    """
    if multiple < 1:
        raise ValueError(f"multiple = {multiple}: give 1 or more")
    extra = -community.size % multiple
    if not extra:
        return community, horizon

    def pad(leaf: Array, fill: float) -> Array:
        width = [(0, 0)] * (leaf.ndim - 1) + [(0, extra)]
        return jnp.pad(leaf, width, constant_values=jnp.asarray(fill, leaf.dtype))

    padded, longer = _over_members(community, pad), _over_members(horizon, pad)
    size = community.size
    last = community.network.voltage_min.shape[0] - 1
    prosumers = replace(
        padded.prosumers,
        bus=padded.prosumers.bus.at[size:].set(last),
        ids=(*community.prosumers.ids, *(f"empty {n}" for n in range(1, extra + 1))),
    )
    return replace(padded, prosumers=prosumers, market=_padded_graph(padded.market, size)), longer


def _padded_graph(market: Market, size: int) -> Market:
    """The market with flat indices for its new number of members; those from `size` on face themselves."""
    slots, total = market.partner.shape
    member = jnp.arange(total, dtype=jnp.int32)[None, :]
    itself = member + total * jnp.arange(slots, dtype=jnp.int32)[:, None]
    moved = market.reverse // size * total + market.reverse % size
    empty = jnp.broadcast_to(member >= size, itself.shape)
    return replace(
        market,
        partner=jnp.where(empty, member, market.partner),
        reverse=jnp.where(empty, itself, moved),
    )


def shard_prosumers(
    community: Community, horizon: Horizon, policy: Policy, mesh: Mesh
) -> tuple[Community, Horizon, Policy]:
    """The three on the mesh: whatever is per member in equal parts, the rest on every device.

    On GPUs take a solver with kernels="xla": kernels of our own have all homes on one device.

    Raises:
        ValueError: N is not a multiple of the number of devices (see `pad_community`), or the three are not
            of the same N, or the mesh has no axis "prosumer".
    """
    if PROSUMER not in mesh.shape:
        raise ValueError(f'the mesh has the axes {", ".join(mesh.axis_names)}, but needs "{PROSUMER}"')
    size, devices = community.size, mesh.shape[PROSUMER]
    for name, other in (("horizon", horizon.load.shape[-1]), ("policy", policy.inverse_v.shape[-1])):
        if other != size:
            raise ValueError(f"the {name} is for {other} members, the community has {size}")
    if size % devices:
        raise ValueError(
            f"{size} members cannot be split evenly over {devices} devices: "
            f"pad_community(community, horizon, {devices}) adds {-size % devices} empty ones"
        )
    split = lambda leaf: jax.device_put(leaf, NamedSharding(mesh, P(*[None] * (leaf.ndim - 1), PROSUMER)))
    whole = lambda leaf: jax.device_put(leaf, NamedSharding(mesh, P()))
    put = lambda record: _over_members(record, lambda leaf, _: split(leaf), whole)
    return put(community), put(horizon), put(policy)


def _over_members(
    record: T, change: Callable[[Array, float], Array], other: Callable[[Array], Array] = lambda leaf: leaf
) -> T:
    """The record with `change(leaf, value of an empty member)` for leaves per member, `other(leaf)` else."""
    mine = next((MEMBERS[kind] for kind in type(record).__mro__ if kind in MEMBERS), {})
    new: dict[str, Any] = {}
    for field in fields(record):  # type: ignore[arg-type]
        value = getattr(record, field.name)
        if is_dataclass(value):
            new[field.name] = _over_members(value, change, other)
        elif field.name in mine:
            new[field.name] = jax.tree.map(lambda leaf, fill=mine[field.name]: change(leaf, fill), value)
        elif isinstance(value, Array):
            new[field.name] = other(value)
    return replace(record, **new)  # type: ignore[type-var]
