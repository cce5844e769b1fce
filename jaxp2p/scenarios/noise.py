"""Numbers that stray: noise around the horizon, and a horizon that was only a forecast."""

import math
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxp2p._pytree import record
from jaxp2p.model.types import Community, Horizon
from jaxp2p.scenarios.model import Effect, SlotDraw


class NoiseState(NamedTuple):
    """z of the previous slot."""

    load: Array  # (N,)
    pv: Array  # (N,)
    price: Array  # ()
    level: Array  # () EUR/kWh, mean |price_buy| of the horizon: what the price noise is a share of


@record
class Noise(Effect):
    """Loads and PV times a factor of mean 1, prices plus a shift of mean 0, all of them autoregressive.

        factor = exp(sigma z - sigma^2 / 2),   z_t = a z_{t-1} + sqrt(1 - a^2) w_t,   a = 2^(-dt / half_life)

    z is N(0, 1) in every slot, the first included (Ornstein-Uhlenbeck process in steps of dt). Between
    homes w_i = sqrt(c) w_common + sqrt(1 - c) w_own, so that z has correlation c between any two homes.
    Load, PV and price are independent of each other.

    - PV stays non-negative and is capped at the larger of pv_peak and the horizon's own value: sunny slots
      gain less than they lose, so the mean falls where the cap binds.
    - Buying and selling prices move together by price * level * z, with level the mean of |price_buy| over
      the horizon. b - s is kept, so s <= b holds for prices of any sign, which no factor could promise.

    Source: Uhlenbeck and Ornstein, On the theory of the Brownian motion, Physical Review 36, 1930; a factor
    that is lognormal keeps signs and means.
    """

    name: ClassVar[str] = "noise"
    changes_load: ClassVar[bool] = True

    load: Array  # () sigma of the log of the factor, about the relative standard deviation
    pv: Array  # () likewise
    price: Array  # () standard deviation of the shift over the level of the prices
    correlation_load: Array  # () in [0, 1], c of the loads
    correlation_pv: Array  # () in [0, 1], c of the PV plants
    half_life_hours: Array  # () h, lag at which the autocorrelation of z is 1/2

    def start(self, community: Community, horizon: Horizon, key: Array) -> NoiseState:
        """A draw from the stationary distribution."""
        level = jnp.mean(jnp.abs(horizon.price_buy))
        return NoiseState(*self._normals(key, community.size), level=level)

    def draw(
        self, community: Community, key: Array, carry: NoiseState, t: Array, draw: SlotDraw
    ) -> tuple[NoiseState, SlotDraw]:
        """One step of z, then the factors."""
        slot = draw.slot
        lag = math.log(2) * slot.slot_hours / self.half_life_hours
        keep, renew = jnp.exp(-lag), jnp.sqrt(-jnp.expm1(-2 * lag))  # sqrt(1 - keep^2) without cancellation
        new = self._normals(jax.random.fold_in(key, t), community.size)
        load, pv, price = (
            keep * z + renew * w for z, w in zip((carry.load, carry.pv, carry.price), new, strict=True)
        )
        shift = self.price * carry.level * price
        sun = slot.pv * _factor(self.pv, pv)
        slot = slot._replace(
            load=slot.load * _factor(self.load, load),
            pv=jnp.minimum(sun, jnp.maximum(community.prosumers.pv_peak, slot.pv)),
            price_buy=slot.price_buy + shift,
            price_sell=slot.price_sell + shift,
        )
        return NoiseState(load, pv, price, carry.level), draw._replace(slot=slot)

    def _normals(self, key: Array, size: int) -> tuple[Array, Array, Array]:
        """w for the loads (N,), the PV plants (N,) and the price ()."""
        dtype = self.load.dtype
        key_load, key_pv, key_common = jax.random.split(key, 3)
        common = jax.random.normal(key_common, (3,), dtype)
        mixed = lambda key, c, shared: (
            jnp.sqrt(c) * shared + jnp.sqrt(1 - c) * jax.random.normal(key, (size,), dtype)
        )
        load = mixed(key_load, self.correlation_load, common[0])
        pv = mixed(key_pv, self.correlation_pv, common[1])
        return load, pv, common[2]

    def words(self) -> str:
        """One line."""
        return (
            f"standard deviation of loads {100 * float(self.load):g} %, PV {100 * float(self.pv):g} %, "
            f"prices {100 * float(self.price):g} %; correlation between homes "
            f"{float(self.correlation_load):g} (loads), {float(self.correlation_pv):g} (PV); "
            f"half-life {float(self.half_life_hours):g} h"
        )


def _factor(sigma: Array, z: Array) -> Array:
    return jnp.exp(sigma * z - sigma**2 / 2)


class ForecastState(NamedTuple):
    """Relative errors of the previous slot."""

    load: Array  # (N,)
    pv: Array  # ()


@record
class ForecastError(Effect):
    """The horizon is a forecast, issued every `issue_hours` from slot 0 on; what comes differs from it.

        value = forecast * max(0, 1 + e),   e = 0 at an issue, then e_t = e_{t-1} + sigma sqrt(dt / 24 h) w_t

    with w standard normal: the standard deviation of e grows as the root of the lead time and is sigma
    after 24 h. Each load has an error of its own; all PV plants share one, because they share the sky. The
    cut at 0 lifts the mean slightly where sigma sqrt(lead / 24 h) is not small. PV is capped as by `Noise`.
    A scenario that is started between two issues has no error before its first slot.

    Source: Heath and Jackson, Modeling the evolution of demand forecasts, IIE Transactions 26, 1994
    (additive independent forecast revisions), here with a constant rate of revision.
    """

    name: ClassVar[str] = "forecast_error"
    changes_load: ClassVar[bool] = True

    load: Array  # () standard deviation of the relative error of a home's load after 24 h
    pv: Array  # () the same for PV
    issue_hours: Array  # () h, time between two forecasts: a whole number of slots

    def start(self, community: Community, horizon: Horizon, key: Array) -> ForecastState:
        """No error yet."""
        return ForecastState(load=jnp.zeros((community.size,), self.load.dtype), pv=jnp.zeros_like(self.pv))

    def draw(
        self, community: Community, key: Array, carry: ForecastState, t: Array, draw: SlotDraw
    ) -> tuple[ForecastState, SlotDraw]:
        """One step of the errors, or none at an issue."""
        slot = draw.slot
        interval = jnp.maximum(jnp.round(self.issue_hours / slot.slot_hours), 1).astype(jnp.int32)
        issued = t % interval == 0
        step = jnp.sqrt(slot.slot_hours / 24)
        key_load, key_pv = jax.random.split(jax.random.fold_in(key, t))
        own = jax.random.normal(key_load, carry.load.shape, carry.load.dtype)
        sky = jax.random.normal(key_pv, (), carry.pv.dtype)
        load = jnp.where(issued, 0, carry.load + self.load * step * own)
        pv = jnp.where(issued, 0, carry.pv + self.pv * step * sky)
        sun = slot.pv * jnp.maximum(0, 1 + pv)
        slot = slot._replace(
            load=slot.load * jnp.maximum(0, 1 + load),
            pv=jnp.minimum(sun, jnp.maximum(community.prosumers.pv_peak, slot.pv)),
        )
        return ForecastState(load, pv), draw._replace(slot=slot)

    def words(self) -> str:
        """One line."""
        return (
            f"the horizon is a forecast issued every {float(self.issue_hours):g} h; standard deviation of "
            f"its error after 24 h: loads {100 * float(self.load):g} %, PV {100 * float(self.pv):g} %"
        )


class LevelState(NamedTuple):
    """The factors of a scenario."""

    load: Array  # ()
    pv: Array  # ()


@record
class Level(Effect):
    """A brighter or darker season: one factor of mean 1 for all loads, one for all PV, drawn once.

        factor = exp(sigma z - sigma^2 / 2),   z ~ N(0, 1)

    PV is capped as by `Noise`.
    """

    name: ClassVar[str] = "level"
    changes_load: ClassVar[bool] = True

    load: Array  # () sigma of the log of the factor, about the relative standard deviation
    pv: Array  # () likewise

    def start(self, community: Community, horizon: Horizon, key: Array) -> LevelState:
        """Both factors."""
        load, pv = jax.random.normal(key, (2,), self.load.dtype)
        return LevelState(_factor(self.load, load), _factor(self.pv, pv))

    def draw(
        self, community: Community, key: Array, carry: LevelState, t: Array, draw: SlotDraw
    ) -> tuple[LevelState, SlotDraw]:
        """Times the factors."""
        slot = draw.slot
        most = jnp.maximum(community.prosumers.pv_peak, slot.pv)
        slot = slot._replace(load=carry.load * slot.load, pv=jnp.minimum(carry.pv * slot.pv, most))
        return carry, draw._replace(slot=slot)

    def words(self) -> str:
        """One line."""
        return (
            f"all loads and all PV times a factor of standard deviation {100 * float(self.load):g} % and "
            f"{100 * float(self.pv):g} %, one per scenario"
        )
