"""The constant part of a community, as struct-of-arrays pytrees.

Signs: all device powers are non-negative; an injection p is positive when it feeds the grid.
Voltages inside the network are squared p.u., powers kW and kvar, energies kWh, money EUR.
"""

from dataclasses import replace

import jax
from jax import Array

from jaxp2p._pytree import record, static
from jaxp2p.model.devices import Battery, Inverters, Plugs, Vehicles
from jaxp2p.model.devices.arrays import Values
from jaxp2p.model.markets import Market
from jaxp2p.model.network import Base, Feeder, Network, NoRows, Reach, VoltageDependent


@record
class Prosumers:
    """N homes, sorted by bus."""

    bus: Array  # (N,) int32, index into Network buses
    pv_peak: Array  # (N,) kW, 0 without PV; only says who can ever generate
    curtailment_cost: Array  # (N,) EUR/kWh
    load_flex_share: Array  # (N,) load may move within (1 +- share) of its reference
    load_flex_cost: Array  # (N,) EUR/(kW^2 h), a_i
    buy_max: Array  # (N,) kW, inf when unlimited
    sell_max: Array  # (N,) kW, inf when unlimited
    battery: Battery
    vehicles: Vehicles | None = None  # None: nobody has an electric vehicle
    inverters: Inverters | None = None  # None: PV gives no reactive power
    elastic: bool = static(default=True)  # False: load_flex_share is 0 everywhere, and the solver skips it
    limited: bool = static(default=True)  # False: nobody has a connection limit, and the solver skips them
    ids: tuple[str, ...] = static(default=())

    @property
    def flexible(self) -> Array:
        """(N,) bool: homes that can change their injection: with PV, a battery, a vehicle or elastic load."""
        alone = self.battery.owned | (self.pv_peak > 0) | (self.load_flex_share > 0)
        return alone if self.vehicles is None else alone | self.vehicles.owned.any(0)


@record
class Community:
    """Everything that does not change from slot to slot."""

    prosumers: Prosumers
    market: Market
    network: Network
    feeder: Feeder | NoRows = NoRows()  # no rows: the network is not part of the market
    mark: str = static(default="")  # whose it is: a Horizon made for it has the same

    @property
    def size(self) -> int:
        """Number of homes N."""
        return self.prosumers.bus.shape[0]

    @property
    def moving(self) -> Array:
        """(N,) bool: homes whose injection the base values of a horizon leave out."""
        return self.feeder.movers(self.prosumers.flexible)

    def reach(self, available: Values) -> Reach | None:
        """What reactive power the inverters can give while (..., N) kW of PV are available; None: nothing."""
        homes, network = self.prosumers, self.network
        if homes.inverters is None:
            return None
        return Reach(*(network.at_buses(x, homes.bus) for x in homes.inverters.reach(available)))

    def without_network(self) -> "Community":
        """The same where the grid has no limits; it is still reported."""
        return replace(self, feeder=NoRows())

    def with_linear_network(self) -> "Community":
        """The same where limits hold in the linear network, whatever the power flow in AC."""
        feeder = self.feeder
        return replace(self, feeder=replace(feeder, rounds=1)) if isinstance(feeder, Feeder) else self


@record
class Horizon:
    """What nature and the tariffs bring in T consecutive slots (known slot by slot, never ahead).

    The `base` arrays are what the network carries without the flexible homes: loads of homes that have
    nothing to decide, background loads, and all reactive power.
    """

    slot_hours: Array  # () h, dt
    load: Array  # (T, N) kW, reference load
    pv: Array  # (T, N) kW, available PV power
    price_buy: Array  # (T,) EUR/kWh, b
    price_sell: Array  # (T,) EUR/kWh, s
    voltage_base: Array  # (T, B) p.u.^2
    flow_base: Array  # (T, L) kW, positive towards the slack (injections downstream)
    flow_reactive: Array  # (T, L) kvar
    price_ahead: Array  # (T, 3) EUR/kWh, what a day-ahead market has published, see `data.day_ahead`
    active_base: Array | None = None  # (T, B) kW injected, for the AC flow; None: made by hand
    reactive_base: Array | None = None  # (T, B) kvar
    dependent_base: VoltageDependent | None = None  # (T, B), parts of both that go with the voltage
    plugs: Plugs | None = None  # (T, K, N) when vehicles are plugged in; where the community has vehicles
    mark: str = static(default="")  # of the Community that it was made for

    @property
    def slots(self) -> int:
        """Number of slots T."""
        return self.load.shape[0]

    @property
    def grid_base(self) -> Base:
        """What the network carries without the flexible homes."""
        return Base.of(self)

    def slice(self, start: int, stop: int) -> "Horizon":
        """Slots start to stop as a horizon of its own."""
        return jax.tree.map(lambda x: x[start:stop] if x.ndim else x, self)
