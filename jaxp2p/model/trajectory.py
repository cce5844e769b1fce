"""What a run leaves behind: one record of arrays over the slots, the same for every policy."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jax import Array

from jaxp2p.model.devices import Battery, Plugs, gained

MOST_TRADES = 20_000  # of one slot that are kept one by one


class Trajectory(NamedTuple):
    """Executed dispatch of T slots; powers in kW, energies in kWh, money in EUR, prices in EUR/kWh."""

    injection: Array  # (T, N) p = pv_used - load + discharge - charge, vehicles included
    load: Array  # (T, N)
    pv_used: Array  # (T, N)
    charge: Array  # (T, N)
    discharge: Array  # (T, N)
    energy: Array  # (T, N) at the end of the slot
    trade: Array  # (T, N) net sale to peers, sum_j e_ij; p = sell - buy + trade (+ spilled - unserved)
    trade_volume: Array  # (T, N) sum_j |e_ij|
    buy: Array  # (T, N) from the utility
    sell: Array  # (T, N) to the utility
    cost: Array  # (T, N) f_i: utility, fees, wear, curtailment and discomfort, without payments between peers
    payment: Array  # (T, N) received from peers (negative: paid); sums to 0 over the members
    market_price: Array  # (T, N) mu_i
    nodal_price: Array  # (T, N) nu_i, what the devices saw
    unserved: Array  # (T, N) kW beyond the exchange limits (0 without such limits)
    gap: Array  # (T,) EUR by which cost, storage value and penalties of the slot exceed its optimum at most
    violation: Array  # (T,) kW, worst network row (0: inside all limits)
    violation_row: Array  # (T,) int32, index of that row in the Feeder
    status: Array  # (T,) int32, jaxp2p.slot.Status
    iterations: Array  # (T,) int32
    prim_res: Array  # (T,) kW
    dual_res: Array  # (T,) EUR/kWh
    vehicle_charge: Array | None = None  # (T, K, N); None, like the next two: a community without vehicles
    vehicle_discharge: Array | None = None  # (T, K, N)
    rounds: Array | None = None  # (T,) int32 times the slot was cleared until its AC power flow was inside
    loss_price: Array | None = (
        None  # (T, N) of losses that an injection makes, part of nu_i; None: not priced
    )
    row_price: Array | None = None  # (T, R) EUR/kWh of the network's rows, > 0 at an upper limit
    fee: Array | None = None  # (T, N) EUR of what is traded, part of f_i; None: a trajectory made by hand
    trades: Array | None = None  # (T, K, N) with every partner, sold > 0; None: more than MOST_TRADES
    trade_price: Array | None = None  # (T, K, N)
    charge_below: Array | None = None  # (T, N) EUR/kWh, nodal price below which the battery was to charge
    discharge_above: Array | None = None  # (T, N) EUR/kWh, the price above which it was to discharge
    vehicle_energy: Array | None = None  # (T, K, N) at the end of the slot, 0 where nothing is plugged in


def only(trajectory: Trajectory, keep: Sequence[str]) -> Trajectory:
    """The named fields; the others are None, which the type does not say."""
    gone: dict[str, Any] = {name: None for name in Trajectory._fields if name not in keep}
    return trajectory._replace(**gone)


def net_cost(
    trajectory: Trajectory, battery: Battery, terminal_price: float, plugs: Plugs | None = None
) -> float:
    """EUR: cost of the community, less the worth of the energy gained; on the host, in float64.

    plugs (T, K, N): where there are vehicles.
    """
    more = np.asarray(trajectory.energy[-1], float) - np.asarray(battery.energy_start, float)
    total = more.sum()
    if plugs is not None:
        total += gained(plugs.float64(), np.asarray(trajectory.vehicle_energy, float)).sum()
    return float(np.sum(np.asarray(trajectory.cost, float)) - terminal_price * total)
