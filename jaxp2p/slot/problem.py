"""`SlotProblem`: the one object between a controller, which builds it, and a solver, which sees only it."""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxp2p._pytree import record
from jaxp2p.model.devices import PV, Equipment, Fleet, Load, Storage
from jaxp2p.model.network import Feeder, NoRows
from jaxp2p.model.types import Market
from jaxp2p.slot.prox.prosumer import Tariff
from jaxp2p.slot.prox.response import Pieces, Response, response

STORAGE = (  # fields of a `Storage` that a slot has under the same names
    "charge_min",
    "charge_max",
    "discharge_min",
    "discharge_max",
    "charge_efficiency",
    "discharge_efficiency",
    "wear_cost",
    "value",
    "value_slope",
)


@record
class Coupling:
    """What stands between the homes, the same in all slots of a community: without it each is alone."""

    market: Market
    feeder: Feeder | NoRows = NoRows()


@record
class SlotProblem:
    """One slot of the whole community: what this slot brings, and the `coupling` that all slots share.

    minimise over loads l, PV use g, charge c, discharge d, utility exchange, trades e

        sum_i [ b buy_i - s sell_i + sum_j fee_ij/2 |e_ij| + a_i (l_i - l_ref_i)^2 + curtailment (G_i - g_i)
                + wear_i (eta_c c_i + d_i / eta_d) + storage value given up + w_i p_i ] + penalty * violations

    in EUR/h, under p = g - l + d - c = sell - buy + sum_j e_ij, e_ij = -e_ji and the device limits. A stored
    kWh is worth lambda(E') = value - value_slope (E' - E), E the energy at hand: a line, so that the worth
    of the energy moved is quadratic. Where lambda < 0 discharging counts lambda eta_c in place of
    lambda / eta_d, so that charging and discharging at once, which would burn energy, never pays. w is the
    price of the losses that an injection makes.
    """

    slot_hours: Array  # () h
    price_buy: Array  # () EUR/kWh
    price_sell: Array  # () EUR/kWh, <= price_buy
    load: Array  # (N,) kW, reference
    load_min: Array  # (N,) kW
    load_max: Array  # (N,) kW
    load_cost: Array | None  # (N,) EUR/(kW^2 h), > 0 where load_min < load_max; None: no elastic load at all
    pv_max: Array  # (N,) kW
    curtailment_cost: Array  # (N,) EUR/kWh, >= 0
    charge_min: Array  # (N,) kW
    charge_max: Array  # (N,) kW, what battery and energy at hand allow
    discharge_min: Array  # (N,) kW
    discharge_max: Array  # (N,) kW
    charge_efficiency: Array  # (N,)
    discharge_efficiency: Array  # (N,)
    wear_cost: Array  # (N,) EUR/kWh of energy into or out of the cells
    value: Array  # (N,) EUR/kWh, worth of a stored kWh at the energy at hand
    value_slope: Array  # (N,) EUR/kWh^2, >= 0
    buy_max: Array | None  # (N,) kW; None: unlimited, like sell_max
    sell_max: Array | None  # (N,) kW
    unserved_price: Array | None  # () EUR/kWh beyond the tariffs
    coupling: Coupling
    row_offset: Array  # (R,) kW
    row_lower: Array  # (R,) kW
    row_upper: Array  # (R,) kW
    row_penalty: Array  # () EUR/kWh
    vehicles: Fleet | None = None
    loss_price: Array | None = None  # (N,) EUR/kWh injected, of the losses that it makes; None: not priced

    @property
    def market(self) -> Market:
        """Who trades with whom, at which fees."""
        return self.coupling.market

    @property
    def feeder(self) -> Feeder | NoRows:
        """The rows of the network."""
        return self.coupling.feeder

    def coupled(self, **parts: Any) -> "SlotProblem":
        """The same slot with another market or feeder."""
        return replace(self, coupling=replace(self.coupling, **parts))

    @property
    def tariff(self) -> Tariff:
        """The utility's side of the problem."""
        return Tariff(self.price_buy, self.price_sell, self.buy_max, self.sell_max, self.unserved_price)

    @property
    def devices(self) -> Equipment:
        """What the homes have, in this slot."""
        battery = {name: getattr(self, name) for name in STORAGE}
        return Equipment(
            battery=Storage(hours=self.slot_hours, **battery),
            pv=PV(available=self.pv_max, curtailment_cost=self.curtailment_cost),
            load=Load(
                reference=self.load, least=self.load_min, most=self.load_max, discomfort_cost=self.load_cost
            ),
            vehicles=self.vehicles,
        )

    @property
    def base(self) -> Array:
        """Injection (N,) in kW at a price of minus infinity."""
        return self.devices.base

    def pieces(self) -> Pieces:
        """The ramps of the devices, in the order of `devices.ROWS`."""
        level = jnp.maximum(jnp.maximum(jnp.abs(self.price_buy), jnp.abs(self.price_sell)), self.price_scale)
        start, end, gain = self.devices.ramps()
        if self.loss_price is not None:
            # what costs w per kW injected makes every device wait for w more: w p is linear in all of them
            dearer = jnp.broadcast_to(self.loss_price, start.shape)
            start, end = start + dearer, end + dearer
        return Pieces(start, end, gain, level)

    def response(self) -> Response:
        """Injection of every home against its nodal price."""
        return response(self.pieces(), self.base)

    @property
    def trade_limit(self) -> Array:
        """(K, N) kW: the market's limits, and 0 where a trade cannot pay.

        Without connection limits every mu lies within the tariffs, so no two members' prices differ by more
        than b - s: at a higher fee the optimum has no such trade.
        """
        limit = self.market.limit
        if self.unserved_price is not None:
            return limit
        return jnp.where(self.market.fee < self.price_buy - self.price_sell, limit, 0)

    @property
    def price_scale(self) -> Array:
        """() EUR/kWh: the size of the prices that decide, never zero."""
        level = jnp.maximum(jnp.abs(self.price_buy), jnp.abs(self.price_sell))
        return jnp.maximum(self.price_buy - self.price_sell, jnp.maximum(0.05 * level, 0.01))

    @property
    def storage_power(self) -> Array:
        """(N,) kW that batteries and vehicles can charge and discharge, added up."""
        power = self.charge_max + self.discharge_max
        if self.vehicles is None:
            return power
        plugged = self.vehicles.storage
        return power + jnp.sum(plugged.charge_max + plugged.discharge_max, axis=0)

    @property
    def power_scale(self) -> Array:
        """() kW: typical power of a home that has something to decide or to trade, never zero."""
        power = jnp.maximum(self.load_max, self.pv_max) + self.storage_power
        return jnp.maximum(jnp.mean(power), 1e-3)
