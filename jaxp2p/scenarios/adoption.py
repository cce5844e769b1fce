"""Who owns what: homes that have a device in the given community may not have it in a scenario."""

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxp2p._pytree import record
from jaxp2p.model.types import Community, Horizon
from jaxp2p.scenarios.model import Effect, SlotDraw


class Adopted(NamedTuple):
    """Who keeps what, drawn once."""

    pv: Array  # (N,) bool
    battery: Array  # (N,) bool


@record
class Adoption(Effect):
    """Each home keeps its PV plant with probability `pv` and its battery with probability `battery`.

    Independent Bernoulli draws, once per scenario: the share of plants kept is binomial. Give the community
    all devices that could ever be there first (`densify`). A home whose uniform number lies below a share
    also keeps its device at every larger share with the same key. Without its PV plant a home has peak and
    available power 0; without its battery, energies (also at the start) and powers 0.
    """

    name: ClassVar[str] = "adoption"
    changes_devices: ClassVar[bool] = True

    pv: Array  # () in [0, 1]
    battery: Array  # () in [0, 1]

    def start(self, community: Community, horizon: Horizon, key: Array) -> Adopted:
        """The draw."""
        chances = (self.pv, self.battery)
        kept = [
            jax.random.uniform(own, (community.size,), chance.dtype) < chance
            for chance, own in zip(chances, jax.random.split(key), strict=True)
        ]
        return Adopted(*kept)

    def draw(
        self, community: Community, key: Array, carry: Adopted, t: Array, draw: SlotDraw
    ) -> tuple[Adopted, SlotDraw]:
        """The slot without the devices that are not there."""
        slot = draw.slot._replace(pv=jnp.where(carry.pv, draw.slot.pv, 0))
        return carry, SlotDraw(slot=slot, battery=jnp.where(carry.battery, draw.battery, 0))

    def community(self, community: Community, carry: Adopted) -> Community:
        """The community without them; its market, network and feeder are kept."""
        homes, battery = community.prosumers, community.prosumers.battery
        sizes = ("energy_min", "energy_max", "energy_start", "charge_max", "discharge_max")
        kept = {name: jnp.where(carry.battery, getattr(battery, name), 0) for name in sizes}
        homes = dataclasses.replace(
            homes,
            pv_peak=jnp.where(carry.pv, homes.pv_peak, 0),
            battery=dataclasses.replace(battery, **kept),
        )
        return dataclasses.replace(community, prosumers=homes)

    def words(self) -> str:
        """One line."""
        return (
            f"a home keeps its PV plant with probability {float(self.pv):g}, its battery with "
            f"probability {float(self.battery):g}"
        )
