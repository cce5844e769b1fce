"""Other days: the slots of a scenario come from days of the horizon, drawn with replacement."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxp2p._pytree import record, static
from jaxp2p.model.types import Community, Horizon
from jaxp2p.scenarios.model import Effect

DAYS_OF_WEEK = 7


def slots_per_day(horizon: Horizon) -> int:
    """Slots of 24 h, on the host.

    Raises:
        ValueError: the slot length does not divide a day.
    """
    hours = float(np.asarray(horizon.slot_hours))
    count = round(24 / hours) if hours > 0 else 0
    if count < 1 or abs(count * hours - 24) > 1e-4:
        raise ValueError(f"slots of {hours:g} h do not divide a day")
    return count


@record
class Bootstrap(Effect):
    """Moving block bootstrap of real days: block k of the scenario is a block of days of the horizon.

    The first day d_k of block k is uniform on all days of the horizon that `block_days` days follow, so
    blocks overlap in the pool and are independent in the scenario. Loads, PV, prices and network base of a
    slot stay together, for all homes. A day is 24 h from the time of day of the first slot on; an
    incomplete last day is not used. A block keeps the dependence within itself and cuts it at its ends.

    With `same_weekday`, d_k is uniform on the days a whole number of weeks away from the day of the
    scenario that it stands for (day 0 of the scenario has the weekday of the first slot).

    Source: Kuensch, The jackknife and the bootstrap for general stationary observations, Annals of
    Statistics 17, 1989.
    """

    name: ClassVar[str] = "bootstrap"
    any_length: ClassVar[bool] = True

    block_days: int = static()
    same_weekday: bool = static()
    slots_per_day: int = static()  # of the horizon, see `slots_per_day`

    def check(self, horizon: Horizon) -> None:
        """Raise ValueError where the horizon has too few days for a choice between two blocks at least."""
        days = horizon.slots // self.slots_per_day
        need = self.block_days + 1
        if self.same_weekday:
            whole_weeks = self.block_days % DAYS_OF_WEEK == 0
            need = self.block_days + DAYS_OF_WEEK + (0 if whole_weeks else DAYS_OF_WEEK - 1)
        if days < need:
            what = f"blocks of {self.block_days} d" + (" on the same weekday" if self.same_weekday else "")
            raise ValueError(f"{what} need {need} days to draw from, but the horizon has {days} whole days")

    def start(self, community: Community, horizon: Horizon, key: Array) -> tuple:
        """Nothing to remember; refuses a horizon that is too short."""
        self.check(horizon)
        return ()

    def row(self, horizon: Horizon, key: Array, t: Array) -> Array:
        """Row d_k * slots_per_day + place of t within its block."""
        length = self.block_days * self.slots_per_day
        block, place = t // length, t % length
        last = horizon.slots // self.slots_per_day - self.block_days  # the last day that a block can start at
        key = jax.random.fold_in(key, block)
        if self.same_weekday:
            weekday = block * self.block_days % DAYS_OF_WEEK
            weeks = (last - weekday) // DAYS_OF_WEEK + 1
            day = weekday + DAYS_OF_WEEK * jax.random.randint(key, (), 0, weeks, dtype=jnp.int32)
        else:
            day = jax.random.randint(key, (), 0, last + 1, dtype=jnp.int32)
        return day * self.slots_per_day + place

    def words(self) -> str:
        """One line."""
        days = "1 day" if self.block_days == 1 else f"{self.block_days} days"
        weekday = "same weekday" if self.same_weekday else "any weekday"
        return f"blocks of {days} drawn from the horizon, {weekday}"
