"""Every key figure of a run, once: its name, its unit, its formula in words.

`report.kpis` computes them; the documentation lists them from here, and `tests/test_kpi_catalogue.py` holds
the two together. Sums are over slots t and members i; dt is the slot length in h; other symbols are those of
`model.trajectory.Trajectory`. No arrays: a help text can read it.
"""

from dataclasses import dataclass

MONEY, ENERGY, STORAGE, VEHICLES = "money", "energy", "storage", "electric vehicles"
GRID, IN_AC, EXACTNESS, PRICES = "grid, linear", "grid, AC power flow", "exactness", "prices"
MEMBERS, SOLVER = "members", "solver"


@dataclass(frozen=True)
class Figure:
    """One figure; without unit: a number or a share between 0 and 1."""

    name: str
    group: str
    unit: str
    formula: str
    empty: str = ""  # when there is none


def _all(group: str, *rows: tuple[str, ...]) -> tuple[Figure, ...]:
    """A figure for every row: name, unit, formula and, where it can be missing, when."""
    return tuple(Figure(name, group, *rest) for name, *rest in rows)


FIGURES = (
    *_all(
        MONEY,
        ("cost_eur", "EUR", "sum of f_i - v_T (energy gained in batteries and vehicles): what is paid"),
        ("unserved_cost_eur", "EUR", "dt sum of (b + u) short + (u - s) spilled, u the unserved price"),
        (
            "violation_cost_eur",
            "EUR",
            "dt sum over network rows of the row price times the kW beyond the limit",
        ),
        ("total_cost_eur", "EUR", "cost_eur + unserved_cost_eur + violation_cost_eur: what is compared"),
        ("energy_cost_eur", "EUR", "sum of f_i: utility, fees, wear, curtailment, discomfort"),
        ("stored_worth_eur", "EUR", "v_T times the energy gained = energy_cost_eur - cost_eur"),
        (
            "saving_eur",
            "EUR",
            "total_cost_eur of no_storage_no_trade - total_cost_eur",
            "without that policy in the run",
        ),
        (
            "welfare_gain_eur",
            "EUR",
            "saving_eur with losses_eur counted on both sides",
            "without no_storage_no_trade in the run",
        ),
        ("regret_eur", "EUR", "total_cost_eur - total of perfect foresight", "without perfect foresight"),
        (
            "capture",
            "",
            "(total of no_storage - total) / (total of no_storage - total of perfect foresight)",
            "where storage can save nothing worth the name, or one of the two was not run",
        ),
    ),
    *_all(
        ENERGY,
        ("load_kwh", "kWh", "dt sum of load"),
        ("pv_kwh", "kWh", "dt sum of pv_used"),
        ("curtailed_kwh", "kWh", "dt sum of available PV - pv_used"),
        ("import_kwh", "kWh", "dt sum of buy, meter by meter"),
        ("export_kwh", "kWh", "dt sum of sell, meter by meter"),
        ("p2p_kwh", "kWh", "dt sum of trade_volume / 2: every trade once"),
        ("p2p_share", "", "p2p_kwh / load_kwh", "without load"),
        (
            "self_sufficiency",
            "",
            "1 - import_kwh / (load served + what vehicles charged less what they gave back)",
            "where nothing is served",
        ),
        ("self_consumption", "", "1 - (export_kwh + spilled_kwh) / pv_kwh", "without PV"),
        ("peak_import_kw", "kW", "max over t of max(sum over members of buy - sell, 0)"),
        ("peak_export_kw", "kW", "max over t of max(sum over members of sell - buy, 0)"),
        ("peak_to_average", "", "peak_import_kw / mean import of the community", "without import"),
        ("ramp_max_kw", "kW", "max over t of |exchange of the community - exchange a slot before|"),
        ("ramp_mean_kw", "kW", "the mean of the same"),
        ("unserved_kwh", "kWh", "dt sum of load beyond a connection limit, not delivered"),
        ("spilled_kwh", "kWh", "dt sum of generation beyond a connection limit, taken by nobody"),
    ),
    *_all(
        STORAGE,
        ("battery_throughput_kwh", "kWh", "dt sum of eta_c charge + discharge / eta_d, in the cells"),
        ("battery_cycles", "", "battery_throughput_kwh / 2 / sum of (E_max - E_min)", "without batteries"),
        ("soc_violation_kwh", "kWh", "max over slots and devices of the energy outside its limits"),
        (
            "storage_balance_error_kwh",
            "kWh",
            "max of |E' - sigma E - dt (eta_c charge - discharge / eta_d)|",
        ),
    ),
    *_all(
        VEHICLES,
        ("ev_stays", "", "number of stays that begin, end or go on in the days"),
        ("ev_charged_kwh", "kWh", "dt sum of vehicle_charge, at the wallbox"),
        ("ev_discharged_kwh", "kWh", "dt sum of vehicle_discharge, at the wallbox"),
        ("ev_forced_kwh", "kWh", "part of ev_charged_kwh that the promise left no choice about"),
        ("ev_shortfall_kwh", "kWh", "sum over stays of max(energy wanted - energy at departure, 0)"),
        ("ev_unavoidable_kwh", "kWh", "part of it that full power from arrival on would not have reached"),
        ("ev_missed_stays", "", "number of stays with more shortfall than unavoidable: 0 is the promise"),
    ),
    *_all(
        GRID,
        ("voltage_min_pu", "p.u.", "lowest voltage of all buses and slots"),
        ("voltage_max_pu", "p.u.", "highest voltage of all buses and slots"),
        ("voltage_violation_pu", "p.u.", "max of the voltage outside its limits"),
        ("voltage_violation_slots", "", "number of slots with more than 1e-4 p.u. outside"),
        ("line_loading_max", "", "max over lines and slots of |S| / rating", "without rated lines"),
        (
            "transformer_loading_max",
            "",
            "the same of transformers",
            "without rated transformers",
        ),
        ("line_violation_kw", "kW", "max active flow beyond what the rating leaves beside the reactive flow"),
        ("overload_hours", "h", "dt times the number of slots with more than 0.05 kW of that"),
    ),
    *_all(
        IN_AC,
        ("ac_voltage_min_pu", "p.u.", "lowest voltage of all buses and slots"),
        ("ac_voltage_max_pu", "p.u.", "highest voltage of all buses and slots"),
        ("ac_voltage_violation_pu", "p.u.", "max of the voltage outside its limits"),
        (
            "ac_voltage_violation_puh",
            "p.u. h",
            "dt sum over buses and slots of the voltage outside its limits",
        ),
        ("ac_line_loading_max", "", "max over lines and slots of |S| / rating", "without rated lines"),
        (
            "ac_transformer_loading_max",
            "",
            "the same of transformers",
            "without rated transformers",
        ),
        ("ac_loading_violation_pct", "%", "max over branches of 100 (loading - 1), at least 0"),
        (
            "ac_overload_hours",
            "h",
            "dt times the number of slots with a loading above 1.001",
        ),
        (
            "ac_slots_violated",
            "",
            "number of slots more than 1e-4 p.u. or 0.1 % of a rating outside, or without a power flow",
        ),
        ("ac_slots_unsolved", "", "number of slots whose power flow has no solution"),
        ("ac_losses_kwh", "kWh", "dt sum over branches of the losses"),
        ("ac_linear_error_pu", "p.u.", "max of |voltage in AC - voltage of the linear network|"),
        ("inverter_kvarh", "kvarh", "dt sum of |reactive power of PV inverters|", "without such inverters"),
        ("losses_eur", "EUR", "what the losses cost at the connection of the community"),
        ("cost_with_losses_eur", "EUR", "cost_eur + losses_eur"),
    ),
    *_all(
        EXACTNESS,
        ("balance_error_kw", "kW", "max of what is left of the balances of meter and devices"),
        ("trade_sum_error_kw", "kW", "max over t of |sum over members of trade|"),
        ("payment_sum_error_eur", "EUR", "max over t of |sum over members of payments among peers|"),
    ),
    *_all(
        PRICES,
        ("price_mean", "EUR/kWh", "mean over slots and members of the market price mu", "without one"),
        ("price_min", "EUR/kWh", "lowest market price", "without one"),
        ("price_max", "EUR/kWh", "highest market price", "without one"),
        ("price_outside_tariffs", "EUR/kWh", "max of mu outside [s, b]", "without one"),
        ("tariff_buy_mean", "EUR/kWh", "mean of b"),
        ("tariff_sell_mean", "EUR/kWh", "mean of s"),
    ),
    *_all(
        MEMBERS,
        (
            "no_worse_off_share",
            "",
            "share of members whose benefit is not below minus 0.1 cents or 0.01 % of their bill",
            "without no_storage_no_trade in the run",
        ),
        ("benefit_gini", "", "Gini coefficient of the benefits against no_storage_no_trade", "without any"),
        ("benefit_min_eur", "EUR", "benefit of who is worst off", "without no_storage_no_trade in the run"),
        ("benefit_max_eur", "EUR", "benefit of who is best off", "without no_storage_no_trade in the run"),
    ),
    *_all(
        SOLVER,
        ("status_counts", "", "number of slots by status; in tables a column slots_<status> for each"),
        ("slots_not_solved", "", "number of slots without a certified answer (MAX_ITER, NUMERICAL_ERROR)"),
        ("gap_eur", "EUR", "sum over slots of executed cost - dual value, each a bound", "perfect foresight"),
        ("iterations_median", "", "median over slots of the solver's iterations", "perfect foresight"),
        ("iterations_p95", "", "the same, 95 % quantile", "perfect foresight"),
        ("iterations_max", "", "the same, most of all", "perfect foresight"),
        ("prim_res_max_kw", "kW", "largest primal residual of a slot", "perfect foresight"),
        ("dual_res_max_eur_per_kwh", "EUR/kWh", "largest dual residual of a slot", "perfect foresight"),
        ("ms_per_slot", "ms", "run time / slots, compilation left out", "where it was not measured"),
        ("realtime_factor", "", "length of the days / run time", "where it was not measured"),
        (
            "messages_per_slot",
            "",
            "mean iterations times messages of one: 2 per member in the pool, one per end of an open trade "
            "and 2 per member with a grid in the bilateral market",
            "perfect foresight",
        ),
        (
            "kib_per_slot",
            "KiB",
            "mean iterations times numbers of one (3 per member in the pool, 2 per message along a trade) "
            "times their bytes / 1024",
            "perfect foresight",
        ),
    ),
)

BY_NAME = {figure.name: figure for figure in FIGURES}
