"""Key figures of a run, on the host in float64: money, energy, batteries, grid, members, solver.

Money in EUR (positive = cost), energy in kWh, power in kW, voltages in p.u., shares between 0 and 1. A figure
that does not exist (no battery, no baseline, nothing to divide by) is None and becomes `null` in JSON.
Figures of the grid come from all buses and branches, also when the market ignores the network. Figures that
begin with `ev_` are there where somebody has an electric vehicle, `inverter_kvarh` where PV inverters give
reactive power.

Balances are written out here once more, and not taken from the laws that the kernel follows: a law that is
wrong gives an error.

`cost_eur` is what is paid; `total_cost_eur` counts with it what was left undone
(`jaxp2p.simulation.accounting`), and savings, capture and benefits compare totals.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxp2p.control.catalogue import OPTIMUM, REFERENCE, TRADE_ONLY
from jaxp2p.fairness.measures import measures
from jaxp2p.model.match import require_match
from jaxp2p.model.network import AC_LOADING, FlowStatus, Network, ac_violated, on_host
from jaxp2p.model.trajectory import Trajectory
from jaxp2p.model.types import Community, Horizon
from jaxp2p.report.stays import Stays, energy_before, stays_of
from jaxp2p.simulation.accounting import Costs, costs, possible_saving
from jaxp2p.simulation.grid import GridState, grid_of, grid_state
from jaxp2p.slot.status import Status

UNSOLVED = (Status.MAX_ITER, Status.NUMERICAL_ERROR)  # a slot without a certified answer


class Evaluation(NamedTuple):
    """One policy: its figures, what every member pays, and the state of the grid behind them."""

    kpis: dict[str, Any]
    bill: np.ndarray  # (N,) EUR: cost - payments received - worth of the energy gained
    grid: GridState
    costs: Costs
    stays: Stays | None = None  # of electric vehicles, where there are any


def policy_kpis(
    community: Community,
    horizon: Horizon,
    trajectory: Trajectory,
    *,
    terminal_price: float,
    unserved_price: float = 0.0,
    row_price: float = 0.0,
    reference_bill: np.ndarray | None = None,
    seconds: float | None = None,
    iterative: bool = True,
    grid: GridState | None = None,
    spent: Costs | None = None,
    stays: Stays | None = None,
) -> dict[str, Any]:
    """All figures of one policy.

    terminal_price v_T, unserved_price and row_price in EUR/kWh, the same for every policy (see
    `accounting.costs`); reference_bill (N,) EUR without storage and trade, what was not served included;
    seconds of run time for `ms_per_slot`; iterative False (perfect foresight) leaves the solver figures
    empty; `grid`, `spent` and `stays` where `grid_state`, `costs` and `stays_of` were called already.
    """
    run = _Run(community, horizon, trajectory)
    grid = grid_state(community, horizon, run.injection, run.pv_used) if grid is None else grid
    if spent is None:
        prices = {"terminal_price": terminal_price, "unserved_price": unserved_price, "row_price": row_price}
        spent = costs(community, horizon, trajectory, grid, **prices)
    stays = stays_of(community, horizon, trajectory) if stays is None else stays
    return {
        **_money(run, spent),
        **_energy(run, spent, stays),
        **_storage(run),
        **_vehicles(run, stays),
        **_grid(run, grid),
        **_in_ac(run, grid, spent),
        **_exactness(run),
        **_prices(run),
        **_members(spent.paid + spent.unserved, reference_bill),
        **_solver(run, seconds, iterative),
    }


def evaluate(community: Community, horizon: Horizon, run: Any) -> dict[str, Evaluation]:
    """Figures of every policy of a `jaxp2p.runs.runner.Run`, with saving and capture."""
    require_match(community, horizon)
    prices = {
        "terminal_price": run.terminal_price,
        "unserved_price": run.unserved_price,
        "row_price": run.row_price,
    }
    grids = {
        name: run.grids.get(name) or grid_of(community, horizon, trajectory, linear=name == OPTIMUM)
        for name, trajectory in run.trajectories.items()
    }
    spent = {
        name: costs(community, horizon, trajectory, grids[name], **prices)
        for name, trajectory in run.trajectories.items()
    }
    stays = {name: stays_of(community, horizon, row) for name, row in run.trajectories.items()}
    reference = spent[REFERENCE].paid + spent[REFERENCE].unserved if REFERENCE in spent else None
    kpis = {
        name: policy_kpis(
            community,
            horizon,
            trajectory,
            **prices,
            reference_bill=reference,
            seconds=run.seconds.get(name),
            iterative=name != OPTIMUM,
            grid=grids[name],
            spent=spent[name],
            stays=stays[name],
        )
        for name, trajectory in run.trajectories.items()
    }
    kpis = compare(kpis, run.perfect_foresight_eur)
    return {
        name: Evaluation(kpis[name], spent[name].paid, grids[name], spent[name], stays[name]) for name in kpis
    }


def compare(
    kpis: Mapping[str, Mapping[str, Any]], perfect_foresight_eur: float | None = None
) -> dict[str, dict[str, Any]]:
    """The figures of every policy with `saving_eur`, `welfare_gain_eur`, `regret_eur` and `capture` added.

    capture = (cost(no storage) - cost) / (cost(no storage) - cost(perfect foresight)): what the control of
    the batteries is worth, trade being in both, and of the vehicles, which charge at once where there is no
    storage. None where storage cannot save anything worth the name. regret_eur: cost above perfect foresight.
    welfare_gain_eur: the saving with what losses of the network cost. Costs are totals;
    perfect_foresight_eur stands for a perfect foresight that is not among the policies.
    """
    total = {name: values["total_cost_eur"] for name, values in kpis.items()}
    idle = total.get(TRADE_ONLY)
    best = total.get(OPTIMUM, perfect_foresight_eur)
    possible = possible_saving(idle, best)
    known = REFERENCE in kpis and all("losses_eur" in values for values in kpis.values())
    with_losses = (lambda name: total[name] + kpis[name]["losses_eur"]) if known else None
    return {
        name: {
            **values,
            "saving_eur": total[REFERENCE] - total[name] if REFERENCE in total else None,
            "welfare_gain_eur": None if with_losses is None else with_losses(REFERENCE) - with_losses(name),
            "regret_eur": None if best is None else total[name] - best,
            "capture": None if possible is None or idle is None else (idle - total[name]) / possible,
        }
        for name, values in kpis.items()
    }


class _Run:
    """The trajectory in float64 with what most figures need."""

    def __init__(self, community: Community, horizon: Horizon, trajectory: Trajectory):
        self.community, self.horizon, self.trajectory = community, horizon, trajectory
        self.hours = float(horizon.slot_hours)
        self.slots = len(np.asarray(trajectory.injection))
        vehicles, plugs = community.prosumers.vehicles, horizon.plugs
        self.fleet = None if vehicles is None or plugs is None else (vehicles.float64(), plugs.float64())

    def __getattr__(self, name: str) -> np.ndarray:
        return _f64(getattr(self.trajectory, name))

    def kwh(self, power: np.ndarray) -> float:
        """Energy of all entries of a power (T, ...) in kW."""
        return float(power.sum() * self.hours)


def _f64(values: Any) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if abs(whole) > 1e-9 else None


def _money(run: _Run, spent: Costs) -> dict[str, Any]:
    energy_cost = float(run.cost.sum())
    paid = float(spent.paid.sum() + run.payment.sum())  # payments cancel only to rounding
    return {
        "cost_eur": paid,
        "unserved_cost_eur": float(spent.unserved.sum()),
        "violation_cost_eur": float(spent.violation_slots.sum()),
        "total_cost_eur": paid + float(spent.penalty.sum()),
        "energy_cost_eur": energy_cost,
        "stored_worth_eur": energy_cost - paid,
    }


def _energy(run: _Run, spent: Costs, stays: Stays | None) -> dict[str, Any]:
    """Energies; what vehicles charge less what they give back counts as load where shares are made of it."""
    short, spilled = float(spent.short_kwh.sum()), float(spent.spilled_kwh.sum())
    load, generated, bought, sold = (run.kwh(x) for x in (run.load, run.pv_used, run.buy, run.sell))
    exchange = (run.buy - run.sell).sum(1)  # (T,) kW at the connection of the community
    imported = np.maximum(exchange, 0)
    traded = run.kwh(run.trade_volume) / 2  # both sides count it
    ramps = np.abs(np.diff(exchange))
    served = load - short
    if stays is not None:
        served += float(stays.charged.sum() - stays.discharged.sum())
    return {
        "load_kwh": load,
        "pv_kwh": generated,
        "curtailed_kwh": max(run.kwh(_f64(run.horizon.pv) - run.pv_used), 0.0),
        "import_kwh": bought,
        "export_kwh": sold,
        "p2p_kwh": traded,
        "p2p_share": _ratio(traded, load),
        "self_sufficiency": None if served <= 1e-9 else 1 - bought / served,
        "self_consumption": None if generated <= 1e-9 else 1 - (sold + spilled) / generated,
        "peak_import_kw": float(imported.max()),
        "peak_export_kw": float(np.maximum(-exchange, 0).max()),
        "peak_to_average": _ratio(float(imported.max()), float(imported.mean())),
        "ramp_max_kw": float(ramps.max(initial=0)),  # between two slots
        "ramp_mean_kw": float(ramps.mean()) if ramps.size else 0.0,
        "unserved_kwh": short,
        "spilled_kwh": spilled,
    }


def _storage(run: _Run) -> dict[str, Any]:
    """Throughput and cycles are those of the batteries; limits and balance those of the vehicles as well."""
    battery = run.community.prosumers.battery.float64()
    throughput = run.kwh(battery.throughput(run.charge, run.discharge))
    before = np.concatenate([battery.energy_start[None], run.energy[:-1]])
    used = ((run.charge > 0) | (run.discharge > 0)).any(0)  # one that the policy leaves alone may leak
    moved = battery.charge_efficiency * run.charge - run.discharge / battery.discharge_efficiency
    step = run.energy - (battery.retention * before + run.hours * moved)
    outside, error = battery.outside(run.energy) * used, np.abs(step)
    if run.fleet is not None:
        (vehicles, plugs), energy = run.fleet, run.vehicle_energy
        stored = vehicles.charge_efficiency * run.vehicle_charge
        taken = run.vehicle_discharge / vehicles.discharge_efficiency
        step = energy - (energy_before(plugs, energy) + run.hours * (stored - taken))
        beyond = np.maximum(plugs.floor - energy, energy - plugs.most)
        outside, error = (
            np.append(a.ravel(), b.ravel()) for a, b in ((outside, beyond), (error, np.abs(step)))
        )
    return {
        "battery_throughput_kwh": throughput,
        "battery_cycles": _ratio(throughput / 2, float(battery.room.sum())),
        "soc_violation_kwh": float(outside.max(initial=0)),
        "storage_balance_error_kwh": float(error.max(initial=0)),
    }


def _vehicles(run: _Run, stays: Stays | None) -> dict[str, Any]:
    """Energy at the terminals, and the promise: nobody leaves with less than what could be reached."""
    if stays is None or run.fleet is None:
        return {}
    vehicles, plugs = run.fleet
    due = np.maximum(plugs.floor - energy_before(plugs, run.vehicle_energy), 0)
    forced = np.minimum(run.vehicle_charge, due / (run.hours * vehicles.charge_efficiency))
    return {
        "ev_stays": len(stays.home),
        "ev_charged_kwh": float(stays.charged.sum()),
        "ev_discharged_kwh": float(stays.discharged.sum()),
        "ev_forced_kwh": run.kwh(forced),  # of what was charged: that the floor left no choice about
        "ev_shortfall_kwh": float(stays.shortfall.sum()),
        "ev_unavoidable_kwh": float(stays.unavoidable.sum()),
        "ev_missed_stays": int(stays.missed.sum()),
    }


def _grid(run: _Run, grid: GridState) -> dict[str, Any]:
    network = on_host(run.community.network)
    beyond = network.beyond(grid.voltage)
    line, transformer = _worst_loading(network, grid.loading)
    return {
        "voltage_min_pu": float(grid.voltage.min()),
        "voltage_max_pu": float(grid.voltage.max()),
        "voltage_violation_pu": float(beyond.max()),
        "voltage_violation_slots": int((beyond.max(1) > 1e-4).sum()),
        "line_loading_max": line,
        "transformer_loading_max": transformer,
        "line_violation_kw": float(grid.excess.max(initial=0)),
        "overload_hours": float((grid.excess > 0.05).any(1).sum() * run.hours),
    }


def _worst_loading(network: Network, loading: np.ndarray) -> tuple[float | None, float | None]:
    """Largest of the lines and of the transformers, of loadings (T, L); None where none is rated."""
    kinds = np.array(network.branch_kinds or ("line",) * loading.shape[1])
    rated = np.isfinite(network.rating)

    def worst(chosen: np.ndarray) -> float | None:
        return float(loading[:, chosen].max()) if (chosen & rated).any() else None

    return worst(kinds != "transformer"), worst(kinds == "transformer")


def _in_ac(run: _Run, grid: GridState, spent: Costs) -> dict[str, Any]:
    """The AC power flow of what was done, and what its losses cost (`accounting.losses_cost`)."""
    network = on_host(run.community.network)
    volts, loading, solved = grid.ac_voltage, grid.ac_loading, grid.ac_status == FlowStatus.SOLVED
    beyond, over = network.beyond(volts).max(1), np.maximum(loading.max(1, initial=0) - 1, 0)
    line, transformer = _worst_loading(network, loading)
    lost = float(spent.losses_slots.sum())
    return {
        "ac_voltage_min_pu": float(volts.min()),
        "ac_voltage_max_pu": float(volts.max()),
        "ac_voltage_violation_pu": float(beyond.max()),
        "ac_voltage_violation_puh": float(network.beyond(volts).sum() * run.hours),  # over all buses
        "ac_line_loading_max": line,
        "ac_transformer_loading_max": transformer,
        "ac_loading_violation_pct": 100 * float(over.max()),
        "ac_overload_hours": float((over > AC_LOADING).sum() * run.hours),
        "ac_slots_violated": int((ac_violated(beyond, over) | ~solved).sum()),
        "ac_slots_unsolved": int((~solved).sum()),
        "ac_losses_kwh": float(grid.ac_losses.sum() * run.hours),
        "ac_linear_error_pu": float(np.abs(volts - grid.voltage).max()),
        **({} if grid.support is None else {"inverter_kvarh": run.kwh(np.abs(grid.support))}),
        "losses_eur": lost,
        "cost_with_losses_eur": float(spent.paid.sum() + run.payment.sum()) + lost,
    }


def _exactness(run: _Run) -> dict[str, Any]:
    # `unserved` may come with or without the sign that tells short (> 0) from spilled (< 0)
    rest = run.injection - (run.sell - run.buy + run.trade)
    meter = np.abs(np.abs(rest) - np.abs(run.unserved))
    own = run.pv_used - run.load + run.discharge - run.charge
    if run.fleet is not None:
        own = own + (run.vehicle_discharge - run.vehicle_charge).sum(1)
    devices = np.abs(run.injection - own)
    return {
        "balance_error_kw": float(max(meter.max(initial=0), devices.max(initial=0))),
        "trade_sum_error_kw": float(np.abs(run.trade.sum(1)).max(initial=0)),
        "payment_sum_error_eur": float(np.abs(run.payment.sum(1)).max(initial=0)),
    }


def _prices(run: _Run) -> dict[str, Any]:
    buy, sell = _f64(run.horizon.price_buy), _f64(run.horizon.price_sell)
    price = run.market_price
    known = np.isfinite(price)
    if not known.any():
        return dict.fromkeys(("price_mean", "price_min", "price_max", "price_outside_tariffs")) | {
            "tariff_buy_mean": float(buy.mean()),
            "tariff_sell_mean": float(sell.mean()),
        }
    outside = np.maximum(np.maximum(sell[:, None] - price, price - buy[:, None]), 0)
    return {
        "price_mean": float(price[known].mean()),
        "price_min": float(price[known].min()),
        "price_max": float(price[known].max()),
        "price_outside_tariffs": float(outside[known].max()),
        "tariff_buy_mean": float(buy.mean()),
        "tariff_sell_mean": float(sell.mean()),
    }


def _members(bill: np.ndarray, reference: np.ndarray | None) -> dict[str, Any]:
    if reference is None:
        return dict.fromkeys(("no_worse_off_share", "benefit_gini", "benefit_min_eur", "benefit_max_eur"))
    spread = measures(reference - bill, reference)
    return {
        "no_worse_off_share": 1 - spread.worse_off_share,
        "benefit_gini": spread.benefit_gini,
        "benefit_min_eur": spread.benefit_min_eur,
        "benefit_max_eur": spread.benefit_max_eur,
    }


def _solver(run: _Run, seconds: float | None, iterative: bool) -> dict[str, Any]:
    status = np.asarray(run.trajectory.status)
    counts = {kind.name: int((status == kind).sum()) for kind in Status}
    iterations = run.iterations
    return {
        "status_counts": {name: count for name, count in counts.items() if count},
        "slots_not_solved": int(np.isin(status, UNSOLVED).sum()),
        "gap_eur": float(run.gap.sum()) if iterative else None,
        "iterations_median": float(np.median(iterations)) if iterative else None,
        "iterations_p95": float(np.percentile(iterations, 95)) if iterative else None,
        "iterations_max": int(iterations.max()) if iterative else None,
        "prim_res_max_kw": float(run.prim_res.max()) if iterative else None,
        "dual_res_max_eur_per_kwh": float(run.dual_res.max()) if iterative else None,
        "ms_per_slot": None if seconds is None else 1000 * seconds / run.slots,
        # how many times faster than the clock
        "realtime_factor": None if not seconds else 3600 * run.hours * run.slots / seconds,
        **_messages(run, float(iterations.mean()) if iterative else None),
    }


def _messages(run: _Run, iterations: float | None) -> dict[str, Any]:
    """What the members would send and receive if each solved its own part of every slot at home.

    In an iteration of the pool a member sends power and slope and receives a price. In the bilateral market
    it sends trade and price along each of its open trades; where the grid has limits, also power to the
    grid's operator, who returns a price.
    """
    if iterations is None:
        return dict.fromkeys(("messages_per_slot", "kib_per_slot"))
    market, size = run.community.market, run.community.size
    if market.pooled:
        messages, numbers = 2 * size, 3 * size
    else:
        trades = int((np.asarray(market.limit) > 0).sum())
        to_grid = 2 * size if run.community.feeder.rows else 0
        messages, numbers = trades + to_grid, 2 * trades + to_grid
    width = np.asarray(run.horizon.load).dtype.itemsize
    return {
        "messages_per_slot": iterations * messages,
        "kib_per_slot": iterations * numbers * width / 1024,
    }
