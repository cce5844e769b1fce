"""Scenarios: what nature, the tariffs and the devices could have brought instead of the horizon.

A `ScenarioModel` is a product of effects. Each slot starts as a row of the horizon; the effects then choose
another row (whole days), change its numbers, or take devices away, in their order. A scenario is drawn slot
by slot, so it needs memory for one slot only, however long it is.

Every number that is drawn is a function of (key, position of the effect in the product, slot or block) by
`jax.random.fold_in`, so loads, PV, prices and devices of a scenario are the same, bit for bit, in a batch of
any width and on any number of devices of one kind. Rounding is all that may differ: in another program, which
may fuse the arithmetic otherwise, and in the network's base values, which follow the loads by a matrix
product whose order of summation depends on the batch.
"""

from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxp2p._pytree import record
from jaxp2p.control.policy import Slot
from jaxp2p.model.types import Community, Horizon

_START, _SLOTS = 0, 1  # the two streams of an effect: what it draws once, and what it draws slot by slot

OF_THE_DAY = tuple(
    name for name in Slot._fields if name not in ("slot_hours", "plugs")
)  # come with a day drawn


class SlotDraw(NamedTuple):
    """What one slot looks like in one scenario."""

    slot: Slot
    battery: Array  # (N,) 1 where there is a battery that works, else 0


class Carry(NamedTuple):
    """What one slot of a scenario hands to the next; arrays only."""

    key: Array  # (2,) uint32, data of the scenario's key
    effects: tuple[Any, ...]  # one pytree per effect, () where it remembers nothing


class Effect:
    """One factor of the product; the methods here are those of an effect that does nothing.

    `key` is the effect's own: in `start` for what is drawn once, in `row` and `draw` to be folded with the
    slot or block number. All leaves of an effect are cast to the dtype of the horizon before use.
    """

    name: ClassVar[str]
    any_length: ClassVar[bool] = False  # True: a scenario may be longer than the horizon
    changes_load: ClassVar[bool] = False
    changes_devices: ClassVar[bool] = False

    def start(self, community: Community, horizon: Horizon, key: Array) -> Any:
        """What the effect remembers from slot to slot, before the first slot."""
        return ()

    def row(self, horizon: Horizon, key: Array, t: Array) -> Array:
        """Row of the horizon that slot t is made from, () int32."""
        return t

    def draw(
        self, community: Community, key: Array, carry: Any, t: Array, draw: SlotDraw
    ) -> tuple[Any, SlotDraw]:
        """The slot after this effect, from the slot before it."""
        return carry, draw

    def community(self, community: Community, carry: Any) -> Community:
        """The community after this effect."""
        return community

    def words(self) -> str:
        """What the effect does, with its values, in one line."""
        raise NotImplementedError


@record
class ScenarioModel:
    """A product of effects; without any, every scenario is the horizon itself, bit for bit.

    All methods are pure and take the community and the horizon that the model was made for, never those of
    a scenario. They work under jit and vmap, also with another `t` in every scenario; the dtype is that of
    the horizon.

    Where the loads of homes that are not flexible change, the base values of the network follow, with
    LinDistFlow (Baran and Wu 1989) as in `build_horizon`:

        voltage_base += 2 R dp,   flow_base += sum of dp downstream,   dp = -(new load - old load)

    All reactive power stays as it was. A home is not flexible where the feeder says so; without a feeder,
    where it has no device in the scenario's own community.
    """

    effects: tuple[Effect, ...]

    def start(self, community: Community, horizon: Horizon, key: Array) -> Carry:
        """Before the first slot. `key` is the scenario's own (`scenario_key`), of the kind threefry2x32.

        Raises ValueError where an effect cannot work with a horizon of this length.
        """
        data = jax.random.key_data(key)
        effects = tuple(
            effect.start(community, horizon, _stream(data, number, _START))
            for number, effect in enumerate(self._cast(horizon))
        )
        return Carry(key=data, effects=effects)

    def draw(
        self, community: Community, horizon: Horizon, carry: Carry, t: int | Array
    ) -> tuple[Carry, SlotDraw]:
        """Slot t () int32 of the scenario. Slots must be drawn one after the other, from any first slot on.

        Without an effect that draws days, slot t is made from row t of the horizon, and t must lie in it.
        """
        t = jnp.asarray(t, jnp.int32)
        effects = self._cast(horizon)
        keys = [_stream(carry.key, number, _SLOTS) for number in range(len(effects))]
        row = t
        for effect, key in zip(effects, keys, strict=True):
            row = effect.row(horizon, key, row)
        source = Slot(
            slot_hours=horizon.slot_hours,
            **jax.tree.map(lambda x: x[row], {name: getattr(horizon, name) for name in OF_THE_DAY}),
            plugs=jax.tree.map(lambda x: x[t], horizon.plugs),
        )
        present = community.prosumers.battery.owned
        drawn = SlotDraw(slot=source, battery=present.astype(horizon.load.dtype))
        states = []
        for effect, key, state in zip(effects, keys, carry.effects, strict=True):
            state, drawn = effect.draw(community, key, state, t, drawn)
            states.append(state)
        carry = carry._replace(effects=tuple(states))
        unmarked = not community.feeder.rows and any(effect.changes_devices for effect in effects)
        if unmarked or any(effect.changes_load for effect in effects):
            before, now = community.moving, self.community(community, carry).moving
            more = jnp.where(now, 0, drawn.slot.load) - jnp.where(before, 0, source.load)
            drawn = drawn._replace(slot=_with_base_load(community, drawn.slot, more))
        return carry, drawn

    def community(self, community: Community, carry: Carry) -> Community:
        """The community of this scenario, the same in all its slots."""
        for effect, state in zip(self.effects, carry.effects, strict=True):
            community = effect.community(community, state)
        return community

    def _cast(self, horizon: Horizon) -> tuple[Effect, ...]:
        return jax.tree.map(lambda x: jnp.asarray(x, horizon.load.dtype), self.effects)


def scenario_key(key: Array, index: int | Array) -> Array:
    """The key of scenario `index` () int; independent of how many scenarios there are."""
    return jax.random.fold_in(key, index)


def slots_of_scenario(model: ScenarioModel, horizon: Horizon) -> int | None:
    """The most slots that a scenario can have; None: any number, because days are drawn from the horizon.

    Vehicles come and go as in the horizon whatever days are drawn: a stay would be torn at midnight.
    """
    drawn = any(effect.any_length for effect in model.effects)
    return None if drawn and horizon.plugs is None else horizon.slots


def materialise(
    model: ScenarioModel,
    community: Community,
    horizon: Horizon,
    key: Array,
    slots: int,
    first: int | Array = 0,
) -> tuple[Community, Horizon, Array]:
    """Slots `first` to `first + slots` of one scenario as arrays: its community, horizon and batteries.

    For perfect foresight and for checks: what `start` followed by `draw` at first, first + 1, ... give (up
    to rounding, see above). `key` is the scenario's own. The last result (slots, N) is 1 where there is a
    battery that works.

    Raises:
        ValueError: the scenario cannot be that long.
    """
    limit = slots_of_scenario(model, horizon)
    end = slots + first if isinstance(first, int) else slots
    if limit is not None and end > limit:
        raise ValueError(f"slots up to {end} are asked for, but without bootstrap there are {limit}")
    return _materialise(model, community, horizon, key, slots, jnp.asarray(first, jnp.int32))


@partial(jax.jit, static_argnames="slots")
def _materialise(model, community, horizon, key, slots, first):
    carry = model.start(community, horizon, key)
    numbers = first + jnp.arange(slots, dtype=jnp.int32)
    carry, drawn = jax.lax.scan(lambda c, t: model.draw(community, horizon, c, t), carry, numbers)
    series = Horizon(**{**drawn.slot._asdict(), "slot_hours": horizon.slot_hours}, mark=horizon.mark)
    return model.community(community, carry), series, drawn.battery


def _stream(data: Array, number: int, stream: int) -> Array:
    """Key of one stream of the effect at this position."""
    key = jax.random.wrap_key_data(data, impl="threefry2x32")  # other kinds draw differently under vmap
    return jax.random.fold_in(key, 2 * number + stream)


def _with_base_load(community: Community, slot: Slot, more: Array) -> Slot:
    """The slot when homes that the base values hold take `more` (N,) kW."""
    network = community.network
    moved = network.moved(slot.grid_base, -network.at_buses(more, community.prosumers.bus))
    return slot._replace(voltage_base=moved.voltage, flow_base=moved.flow, active_base=moved.active_bus)
