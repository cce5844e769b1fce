"""Runs as pandas tables: figures per policy, bills per member, series per slot and per home."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from jaxp2p._pytree import present
from jaxp2p.model.network import FlowStatus, on_host
from jaxp2p.model.trajectory import Trajectory
from jaxp2p.model.types import Community, Horizon
from jaxp2p.report.kpis import Evaluation
from jaxp2p.report.stays import Stays
from jaxp2p.simulation import row_prices
from jaxp2p.simulation.accounting import losses_by_member, paid_to_peers, unserved_power
from jaxp2p.simulation.grid import GridState
from jaxp2p.slot.status import Status

LEAST_PRICE = 1e-6  # EUR/kWh, of a limit in use
RELIEF_PU = 0.01  # p.u.
LEAST_KW = 1e-6  # of a trade


def kpi_table(evaluations: Mapping[str, Evaluation]) -> pd.DataFrame:
    """One row per policy; the counts by status become the columns `slots_<status>`."""
    rows = []
    for name, evaluation in evaluations.items():
        figures = dict(evaluation.kpis)
        counts = figures.pop("status_counts")
        figures |= {f"slots_{kind.name.lower()}": counts.get(kind.name, 0) for kind in Status}
        rows.append({"policy": name, **figures})
    frame = pd.DataFrame(rows)
    numbers = [column for column in frame.columns if column != "policy"]
    return frame.astype(dict.fromkeys(numbers, float))  # None becomes NaN in a column of numbers


def member_table(community: Community, evaluations: Mapping[str, Evaluation]) -> pd.DataFrame:
    """One row per member: where, what devices, and by policy the bill and what was left undone.

    Where there are vehicles, also what those of a member hold, and what they charged and gave back.
    """
    homes, buses = community.prosumers, community.network.bus_ids
    bus = np.asarray(homes.bus)
    columns: dict[str, Any] = {
        "member": list(homes.ids),
        "bus": [buses[n] for n in bus] if buses else bus,
        "pv_kw": np.asarray(homes.pv_peak, float),
        "battery_kwh": np.asarray(homes.battery.energy_max, float),
    }
    if homes.vehicles is not None:
        columns["ev_kwh"] = np.asarray(homes.vehicles.capacity, float).sum(0)
    columns |= {f"bill_{name}_eur": evaluation.bill for name, evaluation in evaluations.items()}
    columns |= {f"losses_{name}_eur": evaluation.costs.losses for name, evaluation in evaluations.items()}
    if homes.limited:
        for name, evaluation in evaluations.items():
            columns[f"unserved_{name}_kwh"] = evaluation.costs.short_kwh
            columns[f"spilled_{name}_kwh"] = evaluation.costs.spilled_kwh
    for name, evaluation in evaluations.items():
        if (stays := evaluation.stays) is not None:
            columns[f"ev_charged_{name}_kwh"] = stays.of_homes(stays.charged, len(bus))
            columns[f"ev_discharged_{name}_kwh"] = stays.of_homes(stays.discharged, len(bus))
    return pd.DataFrame(columns)


def slot_table(
    community: Community,
    horizon: Horizon,
    trajectory: Trajectory,
    evaluation: Evaluation,
    time: pd.Series,
    row_names: tuple[str, ...] = (),
) -> pd.DataFrame:
    """One row per slot: sums over the community, extremes of prices and grid, and how the solver ended."""
    t, grid = trajectory, evaluation.grid
    network = community.network
    total = lambda x: np.asarray(x, float).sum(1)
    transformer = np.array(network.branch_kinds or ("line",) * grid.loading.shape[1]) == "transformer"
    price = np.asarray(t.market_price, float)
    violated = np.asarray(t.violation, float) > 0
    rows = np.asarray(t.violation_row, int)
    short, spilled = unserved_power(trajectory)
    return pd.DataFrame(
        {
            "time": time.to_numpy(),
            "load_kw": total(t.load),
            "pv_available_kw": total(horizon.pv),
            "pv_used_kw": total(t.pv_used),
            "charge_kw": total(t.charge),
            "discharge_kw": total(t.discharge),
            "stored_kwh": total(t.energy),
            **_vehicle_columns(t, lambda x: np.asarray(x, float).sum((1, 2))),
            **({} if horizon.plugs is None else {"ev_plugged": np.asarray(horizon.plugs.there).sum((1, 2))}),
            "buy_kw": total(t.buy),
            "sell_kw": total(t.sell),
            "p2p_kw": total(t.trade_volume) / 2,
            "unserved_kw": total(short),
            "spilled_kw": total(spilled),
            "cost_eur": total(t.cost),
            "penalty_eur": evaluation.costs.penalty,
            "cumulative_cost_eur": np.cumsum(total(t.cost)),
            "price_buy_eur_per_kwh": np.asarray(horizon.price_buy, float),
            "price_sell_eur_per_kwh": np.asarray(horizon.price_sell, float),
            "price_mean_eur_per_kwh": price.mean(1),
            "price_min_eur_per_kwh": price.min(1),
            "price_max_eur_per_kwh": price.max(1),
            "voltage_min_pu": grid.voltage.min(1),
            "voltage_max_pu": grid.voltage.max(1),
            "voltage_violation_pu": on_host(network).beyond(grid.voltage).max(1),
            "line_loading": grid.loading[:, ~transformer].max(1, initial=0),
            "transformer_loading": grid.loading[:, transformer].max(1, initial=0),
            "line_violation_kw": grid.excess.max(1, initial=0),
            "ac_voltage_min_pu": grid.ac_voltage.min(1),
            "ac_voltage_max_pu": grid.ac_voltage.max(1),
            "ac_voltage_violation_pu": on_host(network).beyond(grid.ac_voltage).max(1),
            "ac_line_loading": grid.ac_loading[:, ~transformer].max(1, initial=0),
            "ac_transformer_loading": grid.ac_loading[:, transformer].max(1, initial=0),
            "ac_losses_kw": grid.ac_losses,
            **({} if grid.support is None else {"inverter_kvar": grid.support.sum(1)}),
            "losses_eur": evaluation.costs.losses_slots,
            "ac_status": [FlowStatus(int(s)).name for s in grid.ac_status],
            "market_violation_kw": np.asarray(t.violation, float),
            "binding_row": [
                row_names[r] if v and r < len(row_names) else "" for v, r in zip(violated, rows, strict=True)
            ],
            "status": [Status(int(s)).name for s in np.asarray(t.status)],
            "gap_eur": np.asarray(t.gap, float),
            "rounds": np.ones(len(time), int) if t.rounds is None else np.asarray(t.rounds, int),
            "iterations": np.asarray(t.iterations, int),
            "prim_res_kw": np.asarray(t.prim_res, float),
            "dual_res_eur_per_kwh": np.asarray(t.dual_res, float),
        }
    )


def home_table(
    community: Community, horizon: Horizon, trajectory: Trajectory, grid: GridState, time: pd.Series
) -> pd.DataFrame:
    """One row per slot and member, in this order; powers in kW, energy in kWh at the end of the slot.

    Where the market has a network: what its rows take off the market price, of which with `loss_price` the
    nodal price is left, and what a kvar is worth (`simulation.row_prices`).
    """
    units = {
        "load": "kw",
        "pv_used": "kw",
        "charge": "kw",
        "discharge": "kw",
        "energy": "kwh",
        "trade": "kw",
        "trade_volume": "kw",
        "buy": "kw",
        "sell": "kw",
        "cost": "eur",
        "payment": "eur",
        "market_price": "eur_per_kwh",
        "nodal_price": "eur_per_kwh",
    }
    columns: dict[str, Any] = {
        **_slots_and_members(community, time),
    }
    for name, unit in units.items():
        columns[f"{name}_{unit}"] = np.asarray(getattr(trajectory, name)).ravel()
    columns |= {name: values.ravel() for name, values in _accounts(horizon, trajectory, grid).items()}
    columns["pv_available_kw"] = np.asarray(horizon.pv).ravel()
    for name in ("charge_below", "discharge_above"):
        if (price := getattr(trajectory, name)) is not None:
            columns[f"{name}_eur_per_kwh"] = np.asarray(price).ravel()
    if trajectory.loss_price is not None:
        columns["loss_price_eur_per_kwh"] = np.asarray(trajectory.loss_price).ravel()
    of_rows = row_prices.columns(community, horizon.grid_base, trajectory.row_price, grid.support)
    columns |= {name: values.ravel() for name, values in of_rows.items()}
    for name, power in zip(("unserved_kw", "spilled_kw"), unserved_power(trajectory), strict=True):
        columns[name] = power.ravel()
    columns |= _vehicle_columns(trajectory, lambda x: np.asarray(x).sum(1).ravel())
    return pd.DataFrame(columns)


def _slots_and_members(community: Community, time: pd.Series) -> dict[str, np.ndarray]:
    """The keys of a table with a row per slot and member, in this order."""
    names, slots = np.array(community.prosumers.ids, dtype=object), len(time)
    return {"time": np.repeat(time.to_numpy(), len(names)), "member": np.tile(names, slots)}


def limit_table(community: Community, trajectory: Trajectory, time: pd.Series) -> pd.DataFrame:
    """A row per slot and limit of the grid that had a price: what easing it would have saved.

    relief_eur_per_h: of 1 kW of a branch's rating, or of 0.01 p.u. of a voltage limit, while it binds.
    """
    feeder, network = community.feeder, community.network
    columns = ("time", "limit", "side", "price_eur_per_kwh", "relief", "relief_eur_per_h")
    price = np.asarray(present(trajectory.row_price), float)
    volts, scale = len(np.asarray(feeder.voltage_bus)), np.asarray(feeder.scale, float)
    slot, row = np.nonzero(np.abs(price) > LEAST_PRICE)
    found, names = price[slot, row], np.array(feeder.names(network), object)
    of_voltage = row < volts
    # squared voltages near 1 p.u. move by twice as much as voltages
    amount = np.where(of_voltage, 2 * RELIEF_PU, 1.0) / scale[row]
    values = (
        time.to_numpy()[slot],
        names[row],
        np.where(found > 0, "upper", "lower"),
        np.abs(found),
        np.where(of_voltage, f"{RELIEF_PU} p.u.", "1 kW"),
        np.abs(found) * amount,
    )
    return pd.DataFrame(dict(zip(columns, values, strict=True)))


def trade_table(community: Community, trajectory: Trajectory, time: pd.Series) -> pd.DataFrame:
    """A row per slot and trade: who sold how many kW to whom, at which price. Of single trades only.

    In the pool a seller's partner is the pool, and so is a buyer's.
    """
    trades, price = (np.asarray(present(x), float) for x in (trajectory.trades, trajectory.trade_price))
    names, pooled = np.array(community.prosumers.ids, object), community.market.pooled
    # every bilateral trade stands twice, seen from both sides
    slot, place, home = np.nonzero(np.abs(trades) > LEAST_KW if pooled else trades > LEAST_KW)
    sold = trades[slot, place, home]
    partner = np.full(len(home), "pool", object)
    if not pooled:
        partner = names[np.asarray(community.market.partner)[place, home]]
    order = np.lexsort((place, home, slot))
    columns = {
        "time": time.to_numpy()[slot],
        "seller": np.where(sold > 0, names[home], partner),
        "buyer": np.where(sold > 0, partner, names[home]),
        "kw": np.abs(sold),
        "price_eur_per_kwh": price[slot, place, home],
    }
    return pd.DataFrame({name: values[order] for name, values in columns.items()})


def price_table(community: Community, trajectory: Trajectory, time: pd.Series) -> pd.DataFrame:
    """A row per slot and member: of what its local price is made, in EUR/kWh.

        nodal = energy + fee - losses - voltage - branch + rest

    energy is the mean price of the slot's trades, the same for all; fee what a member's market price is away
    from it, by which side it trades on and along which edges; losses, voltage and branch what prices of
    losses and limits take off (`simulation.row_prices`); rest what a device that rests on a jump, or is kept
    from jumping, is away from them.
    """
    market, nodal = np.asarray(trajectory.market_price, float), np.asarray(trajectory.nodal_price, float)
    volume = np.abs(np.asarray(present(trajectory.trades), float))
    volume = np.where(volume > LEAST_KW, volume, 0)  # the trades that `trade_table` tells
    worth = (volume * np.asarray(present(trajectory.trade_price), float)).sum((1, 2))
    traded = volume.sum((1, 2))
    some = traded > 0
    energy = np.where(some, worth / np.where(some, traded, 1), market.mean(1))[:, None]
    parts = dict.fromkeys(("losses", "voltage", "branch"), np.zeros_like(market))
    if trajectory.loss_price is not None:
        parts["losses"] = np.asarray(trajectory.loss_price, float)
    if trajectory.row_price is not None:
        parts |= row_prices.parts_of_slots(community, trajectory.row_price)
    off = sum(parts.values(), np.zeros_like(market))
    columns = {
        "nodal": nodal,
        "energy": energy + 0 * market,
        "fee": market - energy,
        **parts,
        "rest": nodal - (market - off),
    }
    return pd.DataFrame(
        {
            **_slots_and_members(community, time),
            **{f"{name}_eur_per_kwh": values.ravel() for name, values in columns.items()},
        }
    )


def _accounts(horizon: Horizon, trajectory: Trajectory, grid: GridState) -> dict[str, np.ndarray]:
    """What bills are made of beside cost and payment, (T, N) each; nothing of a trajectory made by hand."""
    if trajectory.fee is None:
        return {}
    return {
        "trade_paid_eur": paid_to_peers(horizon, trajectory),
        "fee_eur": np.asarray(trajectory.fee),
        "losses_eur": losses_by_member(horizon, trajectory, grid.ac_losses),
    }


def _vehicle_columns(trajectory: Trajectory, total: Callable[[Any], Any]) -> dict[str, Any]:
    """What vehicles do, each (T, K, N) as `total` sums it up; nothing in a community without any."""
    if trajectory.vehicle_charge is None:
        return {}
    return {
        "ev_charge_kw": total(trajectory.vehicle_charge),
        "ev_discharge_kw": total(trajectory.vehicle_discharge),
        "ev_stored_kwh": total(trajectory.vehicle_energy),
    }


def stay_table(community: Community, stays: Stays, time: pd.Series) -> pd.DataFrame:
    """One row per stay of a vehicle, times being those of slots (T,); names as in the table `ev_sessions`.

    arrival is empty for a stay that was under way before the first slot, and begins with the energy of its
    floor. departure, the energy then and what was missing are empty for one that lasts beyond the end.
    """
    homes = community.prosumers
    vehicles = present(homes.vehicles)
    names = np.empty(vehicles.capacity.shape, object)
    names[tuple(vehicles.seats.T)] = vehicles.ids or range(len(vehicles.seats))
    starts = time.to_numpy()
    when = lambda slot, known: np.where(known, starts[slot % len(starts)], np.datetime64("NaT"))
    at_end = lambda energy: np.where(stays.left, energy, np.nan)
    return pd.DataFrame(
        {
            "vehicle_id": names[stays.seat, stays.home],
            "prosumer_id": np.array(homes.ids, object)[stays.home],
            "arrival": when(stays.first, stays.came),
            "departure": when(stays.last + 1, stays.left),
            "energy_arrival_kwh": stays.start,
            "energy_wanted_kwh": stays.wanted,
            "energy_departure_kwh": at_end(stays.end),
            "shortfall_kwh": at_end(stays.shortfall),
            "unavoidable_kwh": at_end(stays.unavoidable),
            "charged_kwh": stays.charged,
            "discharged_kwh": stays.discharged,
            "price_mean_eur_per_kwh": stays.price,
        }
    )
