"""Rare events: price spikes, and devices that fail and are repaired."""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxp2p._pytree import record, static
from jaxp2p.model.types import Community, Horizon
from jaxp2p.scenarios.model import Effect, SlotDraw

HOURS_PER_YEAR = 8760


@record
class PriceSpikes(Effect):
    """Spikes of equal length and random height on both prices.

    In every slot a spike begins with probability 1 - exp(-per_day / slots_per_day): a Poisson process whose
    arrivals within one slot count once. Its height is exponential with mean `size` (EUR/kWh), it lasts
    `hours` and is added to the buying and the selling price alike, so s <= b is kept. Spikes that overlap
    add up; those that began before slot 0 count too, so that the process is stationary: the mean addition
    is size times the slots of a spike times the probability above.

    Source: compound Poisson jumps are the usual model of price spikes, see Weron, Electricity price
    forecasting: a review of the state of the art, International Journal of Forecasting 30, 2014.
    """

    name: ClassVar[str] = "price_spikes"

    per_day: Array  # () spikes per 24 h
    size: Array  # () EUR/kWh, mean height
    hours: float = static()  # h, a whole number of slots
    slots_per_day: int = static()  # of the horizon, see `slots_per_day`

    def draw(
        self, community: Community, key: Array, carry: tuple, t: Array, draw: SlotDraw
    ) -> tuple[tuple, SlotDraw]:
        """Heights of the spikes that began in the last `hours`, recomputed from their own numbers."""
        length = max(1, round(self.hours * self.slots_per_day / 24))
        chance = -jnp.expm1(-self.per_day / self.slots_per_day)
        # spike number n covers the slots n - length + 1 to n: no number is negative
        numbers = t + jnp.arange(length, dtype=jnp.int32)
        draws = jax.vmap(lambda n: jax.random.uniform(jax.random.fold_in(key, n), (2,), self.size.dtype))
        u = draws(numbers)
        heights = jnp.where(u[:, 0] < chance, -self.size * jnp.log1p(-u[:, 1]), 0)
        shift = jnp.sum(heights)
        slot = draw.slot
        slot = slot._replace(price_buy=slot.price_buy + shift, price_sell=slot.price_sell + shift)
        return carry, draw._replace(slot=slot)

    def words(self) -> str:
        """One line."""
        return (
            f"{float(self.per_day):g} spikes a day on both prices, {float(self.size):g} EUR/kWh high on "
            f"average, {self.hours:g} h long"
        )


class OutageState(NamedTuple):
    """What is broken in the previous slot."""

    pv: Array  # (N,) bool
    battery: Array  # (N,) bool


@record
class Outages(Effect):
    """PV plants and batteries fail and are repaired: a two-state Markov chain per home and device.

    In continuous time a working device fails at the rate f (per_year / 8760 h) and a broken one is repaired
    at the rate r = 1 / hours. The slots see this process at their start, exactly for any slot length:

        P(broken at t + dt | works at t) = f / (f + r) (1 - exp(-(f + r) dt)),     and r in place of f back.

    The first slot is drawn from the stationary distribution, broken with probability f / (f + r). Homes and
    devices are independent. A broken PV plant has no available power; a broken battery is marked in
    `SlotDraw.battery`.

    Source: Billinton and Allan, Reliability Evaluation of Engineering Systems, 2nd edition 1992, chapter 9.
    """

    name: ClassVar[str] = "outages"

    pv_per_year: Array  # () failures of a PV plant per year in which it works
    battery_per_year: Array  # () the same of a battery
    hours: Array  # () h, mean time to repair

    def start(self, community: Community, horizon: Horizon, key: Array) -> OutageState:
        """A draw from the stationary distribution."""
        broken = []
        for rate, own in zip(self._rates(), jax.random.split(key), strict=True):
            share = rate / (rate + 1 / self.hours)
            broken.append(jax.random.uniform(own, (community.size,), share.dtype) < share)
        return OutageState(*broken)

    def draw(
        self, community: Community, key: Array, carry: OutageState, t: Array, draw: SlotDraw
    ) -> tuple[OutageState, SlotDraw]:
        """One step of both chains."""
        repair = 1 / self.hours
        broken = []
        keys = jax.random.split(jax.random.fold_in(key, t))
        for rate, before, own in zip(self._rates(), carry, keys, strict=True):
            moved = -jnp.expm1(-(rate + repair) * draw.slot.slot_hours) / (rate + repair)
            change = jnp.where(before, repair * moved, rate * moved)
            broken.append(before ^ (jax.random.uniform(own, before.shape, moved.dtype) < change))
        state = OutageState(*broken)
        slot = draw.slot._replace(pv=jnp.where(state.pv, 0, draw.slot.pv))
        return state, SlotDraw(slot=slot, battery=jnp.where(state.battery, 0, draw.battery))

    def _rates(self) -> tuple[Array, Array]:
        """Failures per hour of PV plants and of batteries."""
        return self.pv_per_year / HOURS_PER_YEAR, self.battery_per_year / HOURS_PER_YEAR

    def words(self) -> str:
        """One line."""
        return (
            f"a PV plant fails {float(self.pv_per_year):g} times a year, a battery "
            f"{float(self.battery_per_year):g} times; repaired after {float(self.hours):g} h on average"
        )
