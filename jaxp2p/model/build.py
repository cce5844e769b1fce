"""Tables to arrays: the community and its horizon, validated on the host before any array is made."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxp2p.data.day_ahead import published_prices
from jaxp2p.data.series import Scaled, scaled
from jaxp2p.data.stays import slots_of
from jaxp2p.data.tables import Tables, check
from jaxp2p.data.times import zoned_time
from jaxp2p.data.validation import slot_hours
from jaxp2p.model.devices import Battery, Inverters, Plugs, Vehicles
from jaxp2p.model.devices.arrays import on_device
from jaxp2p.model.devices.vehicle import Stay, calendar
from jaxp2p.model.markets import (
    complete_graph,
    market_from_edges,
    nearest_graph,
    no_market,
    pool_market,
    regular_graph,
)
from jaxp2p.model.match import mark_of
from jaxp2p.model.network import (
    ROUNDS,
    ROUNDS_ANSWERING,
    VDE_4105,
    Curve,
    Network,
    NoRows,
    Pi,
    VoltageDependent,
    controllable_rows,
    faults_of_curve,
    on_host,
    paths_of,
    tree_of,
)
from jaxp2p.model.types import Community, Horizon, Market, Prosumers
from jaxp2p.settings.model import DEFAULT_FEE, GRAPHS, LOSSES, MARKETS, REACTIVE, Grid, Trading

SMALL_KVA, SMALL_COS_PHI, LARGE_COS_PHI = 4.6, 0.95, 0.9  # VDE-AR-N 4105: least power factor by size
_CELLS = 250_000  # float64 numbers at a time while the horizon is built


def build_community(
    tables: Tables,
    *,
    market: str = "bilateral",
    graph: str | None = None,
    partners: int = Trading.partners,
    fee: float = DEFAULT_FEE,
    limit: float = np.inf,
    seed: int = 0,
    network: bool = True,
    secure: bool = False,
    losses: str = Grid.losses,
    reactive: str = Grid.reactive,
    volt_var: Curve = VDE_4105,
    dtype: str = "float32",
) -> Community:
    """The constant part of a community.

    market: "bilateral", "pool" or "none". graph, of the bilateral market: "regular" (seeded random graph
    with `partners` partners each), "nearest" (by electrical distance), "complete", or "table" (the trades
    table with its own fees and limits); by default "table" where there is one, else "regular". fee in
    EUR/kWh, limit in kW per trade. network=False leaves the grid out of the market (it is still reported).
    secure: every slot is cleared until its AC power flow is inside the limits (`simulation.secure`); else
    the limits hold in the linear network.

    losses: "shared", or "marginal": the nodal price has the price of the losses that an injection makes
    (`simulation.secure`), from a second clearing of every slot on. It asks for a secure market.

    reactive: what PV inverters do, one of `REACTIVE` (`devices.inverter`); volt_var: the four voltages of the
    curve in p.u. As the linear network has no voltages that a curve could answer to, any rule but "unity"
    asks for a secure market, or for none.

    Homes are ordered by bus; `Community.prosumers.ids` has their names. Every home has as many seats for
    vehicles as the home with the most. Raises InputError with every fault of the tables, ValueError for
    unknown options, and for float64 where JAX's 64 bits are switched off.
    """
    kind = _checked_dtype(dtype)
    tables = check(tables)
    if market not in MARKETS:
        raise ValueError(f"unknown market {market!r}: choose from {', '.join(MARKETS)}")
    if fee < 0 or limit < 0 or partners < 0:
        raise ValueError("fee, limit and partners must not be negative")
    if losses not in LOSSES:
        raise ValueError(f"unknown rule {losses!r} of losses: choose from {', '.join(LOSSES)}")
    if losses == "marginal" and not (network and secure):
        raise ValueError("losses have a marginal price only in a market that is secure in AC")
    if reactive not in REACTIVE:
        raise ValueError(f"unknown rule {reactive!r} of reactive power: choose from {', '.join(REACTIVE)}")
    if reactive != "unity" and network and not secure:
        raise ValueError(f"reactive power by {reactive} needs a market that is secure in AC")
    if wrong := faults_of_curve(volt_var):
        raise ValueError("; ".join(wrong))
    homes, bus_ids, _, bus = _ordered(tables)
    column = lambda name: on_device(homes[name].to_numpy(float), kind)
    hours = slot_hours(tables.profiles["time"])
    retention = (1 - homes["self_discharge_per_day"].to_numpy(float)) ** (hours / 24)
    usable = homes["battery_kwh"].to_numpy(float) > homes["battery_min_kwh"].to_numpy(float)
    power = lambda name: on_device(np.where(usable, homes[name].to_numpy(float), 0), kind)
    battery = Battery(
        energy_min=column("battery_min_kwh"),
        energy_max=column("battery_kwh"),
        energy_start=column("battery_start_kwh"),
        charge_max=power("battery_charge_kw"),
        discharge_max=power("battery_discharge_kw"),
        charge_efficiency=column("charge_efficiency"),
        discharge_efficiency=column("discharge_efficiency"),
        retention=on_device(retention, kind),
        wear_cost=column("wear_cost_eur_per_kwh"),
    )
    follows = None if reactive == "unity" else _inverters(homes, tables.profiles, reactive, volt_var, kind)
    prosumers = Prosumers(
        bus=on_device(bus, np.int32),
        pv_peak=column("pv_kw"),
        curtailment_cost=column("curtailment_cost_eur_per_kwh"),
        load_flex_share=column("load_flex_share"),
        load_flex_cost=column("load_flex_cost_eur_per_kw2h"),
        buy_max=column("buy_max_kw"),
        sell_max=column("sell_max_kw"),
        battery=battery,
        vehicles=_vehicles(tables.ev_sessions, tuple(homes["prosumer_id"]), kind),
        inverters=follows,
        elastic=bool((homes["load_flex_share"] > 0).any()),
        limited=bool(np.isfinite(homes[["buy_max_kw", "sell_max_kw"]].to_numpy(float)).any()),
        ids=tuple(homes["prosumer_id"]),
    )
    grid, rounds = _network(tables, bus_ids, kind), secure_rounds(follows) if secure else 1
    flexible = jax.device_get(prosumers).flexible
    return Community(
        prosumers=prosumers,
        market=_market(tables, market, graph, partners, fee, limit, seed, prosumers, grid, kind),
        network=grid,
        feeder=controllable_rows(grid, bus, flexible, kind, rounds, losses == "marginal")
        if network
        else NoRows(),
        mark=mark_of(str(tables.meta.get("name", "")), prosumers, bus_ids),
    )


def build_horizon(community: Community, tables: Tables) -> Horizon:
    """The slots of the tables' profiles and prices, in the dtype and home order of the community."""
    kind = _checked_dtype(str(community.prosumers.pv_peak.dtype))
    tables = check(tables)
    _, bus_ids, order, bus = _ordered(tables)
    homes, profiles, prices = tables.prosumers.iloc[order], tables.profiles, tables.prices
    stays, vehicles = tables.ev_sessions, community.prosumers.vehicles
    if (
        tuple(homes["prosumer_id"]) != community.prosumers.ids
        or bus_ids != community.network.bus_ids
        or _fleet(tables.ev_sessions, community.prosumers.ids) != _known(vehicles)
    ):
        raise ValueError(
            f"these tables have other members or buses, or other vehicles, than {community.mark}: "
            "build the community from them too"
        )
    load, load_at_bus = _member_series(
        scaled(profiles, homes["load_profile"], homes["load_kw"]),
        bus,
        kind,
        buses=len(bus_ids),
        at_bus=~jax.device_get(community.prosumers).flexible,
    )
    pv, _ = _member_series(scaled(profiles, homes["pv_profile"], homes["pv_kw"]), bus, kind)
    reactive = scaled(profiles, homes["reactive_profile"], homes["load_kvar"])
    _, reactive_at_bus = _member_series(reactive, bus, None, buses=len(bus_ids))
    buses = tables.buses.set_index("bus_id").loc[list(bus_ids)]
    taken = [
        -scaled(profiles, buses["background_profile"], buses[column], absent=1.0).rows()
        for column in ("background_kw", "background_kvar")
    ]
    active_base, reactive_base = (
        background - members
        for background, members in zip(taken, (load_at_bus, reactive_at_bus), strict=True)
    )
    slack = float(buses["v_set_pu"].iloc[0])
    base = on_host(community.network).base(active_base, reactive_base, slack_voltage=slack)
    buy = prices["buy_eur_per_kwh"].to_numpy(float)
    array = lambda x: on_device(x, kind)
    return Horizon(
        slot_hours=array(slot_hours(profiles["time"])),
        load=on_device(load, kind, given=True),
        pv=on_device(pv, kind, given=True),
        price_buy=array(buy),
        price_sell=array(prices["sell_eur_per_kwh"].to_numpy(float)),
        voltage_base=array(base.voltage),
        flow_base=array(base.flow),
        flow_reactive=array(base.reactive),
        active_base=array(active_base),
        reactive_base=array(reactive_base),
        dependent_base=_dependent(buses, taken[0], taken[1], kind),
        price_ahead=array(published_prices(zoned_time(tables), buy)),
        plugs=_plugs(stays, vehicles, profiles["time"], buy, kind),
        mark=community.mark,
    )


def _checked_dtype(dtype: str) -> np.dtype:
    """The number type. Without 64 bits switched on JAX would quietly make float32 of float64."""
    try:
        kind = np.dtype(dtype)
    except TypeError:
        kind = np.dtype(object)
    if kind not in (np.float32, np.float64):
        raise ValueError(f"unknown dtype {dtype!r}: choose float32 or float64")
    if kind == np.float64 and not jax.config.read("jax_enable_x64"):
        raise ValueError(
            "float64 needs the 64 bits of JAX, which are switched off: "
            'call jax.config.update("jax_enable_x64", True) first, or set the environment variable '
            "JAX_ENABLE_X64=1"
        )
    return kind


def _member_series(
    members: Scaled,
    bus: np.ndarray,
    kind: np.dtype | None,
    *,
    buses: int = 0,
    at_bus: np.ndarray | bool = True,
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The series of members sorted by bus, (T, N) in `kind`, and their sum at every bus, (T, buses) float64.

    In float64 there are never more than a few slots at a time; without `kind` no series is kept, without
    `buses` nothing is summed. Only members where `at_bus` is True are in the sum.
    """
    slots, count = len(members.profiles), len(members.kind)
    series = None if kind is None else np.empty((slots, count), kind)
    total = np.zeros((slots, buses)) if buses else None
    here, first = np.unique(bus, return_index=True)
    for begin in range(0, slots, step := max(1, _CELLS // max(count, 1))):
        some = slice(begin, begin + step)
        rows = members.rows(some)
        if series is not None:
            series[some] = rows
        if total is not None:
            total[some, here] = np.add.reduceat(rows * at_bus, first, axis=1)
    return series, total


def _ordered(tables: Tables):
    """Homes sorted by bus, bus names with the slack first, the order applied, and every home's bus."""
    buses = tables.buses.sort_values("slack", ascending=False, kind="stable")
    bus_ids = tuple(buses["bus_id"])
    number = {name: i for i, name in enumerate(bus_ids)}
    bus = tables.prosumers["bus_id"].map(number).to_numpy(int)
    order = np.argsort(bus, kind="stable")
    return tables.prosumers.iloc[order], bus_ids, order, bus[order]


def _fleet(stays: pd.DataFrame | None, members: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    """Seat and home of every vehicle, by name; in the order of `Vehicles.seats`."""
    if stays is None:
        return {}
    owners = stays[["vehicle_id", "prosumer_id"]].drop_duplicates("vehicle_id")
    owners = owners.sort_values("vehicle_id")  # the rows of a window may come in any order
    home = owners["prosumer_id"].map({name: i for i, name in enumerate(members)}).to_numpy(int)
    seat = owners.groupby("prosumer_id").cumcount().to_numpy()
    order = np.lexsort((home, seat))
    names = owners["vehicle_id"].to_numpy()[order]
    return dict(zip(names, zip(seat[order].tolist(), home[order].tolist(), strict=True), strict=True))


def _known(vehicles: Vehicles | None) -> dict[str, tuple[int, int]]:
    if vehicles is None:
        return {}
    return dict(zip(vehicles.ids, map(tuple, vehicles.seats.tolist()), strict=True))


def _vehicles(stays: pd.DataFrame | None, members: tuple[str, ...], kind: np.dtype) -> Vehicles | None:
    """Those that stand in the table; None without."""
    fleet = _fleet(stays, members)
    if stays is None or not fleet:
        return None
    seat, home = np.array(list(fleet.values())).T
    own = stays.drop_duplicates("vehicle_id").set_index("vehicle_id").loc[list(fleet)]

    def leaf(column: str, empty: float) -> jax.Array:
        values = np.full((seat.max() + 1, len(members)), empty)
        values[seat, home] = own[column].to_numpy(float)
        return on_device(values, kind)

    return Vehicles(
        capacity=leaf("battery_kwh", 0.0),
        charge_efficiency=leaf("charge_efficiency", 1.0),
        discharge_efficiency=leaf("discharge_efficiency", 1.0),
        wear_cost=leaf("wear_cost_eur_per_kwh", 0.0),
        returns=bool((stays["discharge_kw"] > 0).any()),
        ids=tuple(fleet),
    )


def secure_rounds(inverters: Inverters | None) -> int:
    """How often a market that is secure in AC clears a slot at most."""
    return ROUNDS_ANSWERING if inverters is not None and inverters.answers else ROUNDS


def inverters_of(tables: Tables, rule: str, curve: Curve, dtype: str) -> Inverters:
    """The inverters of the tables' homes, in the order of a community of them; tables `check`ed."""
    return _inverters(_ordered(tables)[0], tables.profiles, rule, curve, np.dtype(dtype))


def _inverters(
    homes: pd.DataFrame, profiles: pd.DataFrame, rule: str, curve: Curve, kind: np.dtype
) -> Inverters:
    """Those of the columns, and the usual ones of VDE-AR-N 4105 where they are empty."""
    peak = {name: max(1.0, float(profiles[name].max())) for name in set(homes["pv_profile"]) if name}
    power = homes["pv_kw"].to_numpy(float) * homes["pv_profile"].map(peak).fillna(1.0).to_numpy(float)
    cos_phi, rating = (homes[name].to_numpy(float) for name in ("least_cos_phi", "inverter_kva"))
    size = np.where(np.isnan(rating), power / SMALL_COS_PHI, rating)
    usual = np.where(size <= SMALL_KVA, SMALL_COS_PHI, LARGE_COS_PHI)
    cos_phi = np.where(np.isnan(cos_phi), usual, cos_phi)
    rating = np.where(np.isnan(rating), power / cos_phi, rating)
    none = power == 0
    array = lambda values, empty: on_device(np.where(none, empty, values), kind)
    return Inverters(
        rating=array(rating, 0), power=array(power, 0), cos_phi=array(cos_phi, 1), rule=rule, curve=curve
    )


def _plugs(
    stays: pd.DataFrame | None, vehicles: Vehicles | None, time: pd.Series, buy: np.ndarray, kind: np.dtype
) -> Plugs | None:
    """The plug calendar of the slots that begin at `time`; None without vehicles."""
    if stays is None or vehicles is None:
        return None
    slots = slots_of(stays, time)
    stays = stays[slots.some]
    number = pd.Index(vehicles.ids).get_indexer(stays["vehicle_id"])
    seat, home = vehicles.seats[number].T
    column = lambda name: stays[name].to_numpy(float)
    seats, homes = vehicles.capacity.shape
    plugs = calendar(
        Stay(
            seat=seat,
            home=home,
            begin=slots.begin[slots.some],
            end=slots.end[slots.some],
            energy=column("energy_arrival_kwh"),
            wanted=column("energy_wanted_kwh"),
            reserve=column("reserve_kwh"),
            capacity=column("battery_kwh"),
            charge_max=column("charge_kw"),
            discharge_max=column("discharge_kw"),
            efficiency=column("charge_efficiency"),
        ),
        buy,
        seats=seats,
        homes=homes,
        hours=slot_hours(time),
        dtype=kind,
    )
    return jax.tree.map(jnp.asarray, plugs)


def branches_of(tables: Tables, bus_ids: tuple[str, ...]) -> tuple[Pi, np.ndarray]:
    """The branches of checked tables, and the shunts at these buses, complex, kVA at 1 p.u."""
    number = {name: i for i, name in enumerate(bus_ids)}
    buses, lines = tables.buses.set_index("bus_id").loc[list(bus_ids)], tables.lines
    tail, head = (lines[end].map(number).to_numpy(int) for end in ("from_bus", "to_bus"))
    volts = buses["vn_kv"].to_numpy(float)
    base = np.minimum(volts[tail], volts[head]) ** 2 * 1000  # kV^2 to ohm per p.u. and kW
    column = lambda name: lines[name].to_numpy(float)
    branches = Pi(
        tail,
        head,
        (column("r_ohm") + 1j * column("x_ohm")) / base,
        (column("g_us") + 1j * column("b_us")) * base / 1e6,
        column("ratio"),
    )
    return branches, buses["shunt_kw"].to_numpy(float) - 1j * buses["shunt_kvar"].to_numpy(float)


def _network(tables: Tables, bus_ids: tuple[str, ...], kind: np.dtype) -> Network:
    buses, lines = tables.buses.set_index("bus_id").loc[list(bus_ids)], tables.lines
    pi, shunt = branches_of(tables, bus_ids)
    tree = tree_of(pi, shunt, (lines["kind"] == "line").to_numpy(float), kind)
    array = lambda x: on_device(x, kind)
    return Network(
        paths=paths_of(pi, tree, kind),
        slack_voltage=array(buses["v_set_pu"].iloc[0]),
        voltage_min=array(buses["v_min_pu"].to_numpy(float)),
        voltage_max=array(buses["v_max_pu"].to_numpy(float)),
        rating=array(lines["s_max_kva"].to_numpy(float)),
        tree=tree,
        bus_ids=bus_ids,
        branch_ids=tuple(lines["line_id"]),
        branch_kinds=tuple(lines["kind"]),
    )


def _dependent(
    buses: pd.DataFrame, active: np.ndarray, reactive: np.ndarray, kind: np.dtype
) -> VoltageDependent | None:
    """The parts of the background (T, B) that go with the voltage; None without."""
    shares = [buses[f"background_{part}_share"].to_numpy(float) for part in ("i", "z")]
    if not any(share.any() for share in shares):
        return None
    return VoltageDependent(*(on_device(s * power, kind) for s in shares for power in (active, reactive)))


def _market(tables, market, graph, partners, fee, limit, seed, prosumers, grid, kind) -> Market:
    size = len(prosumers.ids)
    if market == "pool":
        return pool_market(size, fee=fee, limit=limit, dtype=kind)
    if market == "none":
        return no_market(size, dtype=kind)
    graph = graph or ("regular" if tables.trades is None else "table")
    if graph not in GRAPHS:
        raise ValueError(f"unknown graph {graph!r}: choose from {', '.join(GRAPHS)}")
    if graph == "table":
        if tables.trades is None:
            raise ValueError("graph 'table' needs a trades table")
        number = {name: i for i, name in enumerate(prosumers.ids)}
        ends = [tables.trades[end].map(number).to_numpy(int) for end in ("from_id", "to_id")]
        fees, limits = (tables.trades[c].to_numpy(float) for c in ("fee_eur_per_kwh", "limit_kw"))
        return market_from_edges(np.stack(ends, 1), fees, limits, size=size, dtype=kind)
    if graph == "complete":
        edges = complete_graph(size)
    elif graph == "nearest":
        shared = np.asarray(grid.paths.matrices().resistance, float)
        own = np.diag(shared)
        away = own[:, None] + own[None, :] - 2 * shared
        edges = nearest_graph(away, np.asarray(prosumers.bus), partners)
    else:
        edges = regular_graph(size, partners, seed=seed)
    fees, limits = np.full(len(edges), fee), np.full(len(edges), limit)
    return market_from_edges(edges, fees, limits, size=size, dtype=kind)
