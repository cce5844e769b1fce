"""Every figure and every column that a run writes, against a case worked out by hand (`paper_village`)."""

import json

import numpy as np
import pandas as pd
import paper_village as paper
import pytest

from jaxp2p.cli.running import verdict
from jaxp2p.model.network import ac_violated
from jaxp2p.report.frames import home_table, kpi_table, member_table, slot_table
from jaxp2p.report.kpis import compare, evaluate
from jaxp2p.report.results import json_report, load_results, save_results
from jaxp2p.report.tables import notes, text_tables
from jaxp2p.simulation import grid

COMMUNITY, HORIZON, RUN = paper.community(), paper.horizon(), paper.run()
NAMES = ["no_storage_no_trade", "no_storage", "lyapunov", "perfect_foresight"]


@pytest.fixture(scope="module")
def evaluations():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "power_flow_of", lambda *given: paper.flow())
        return evaluate(COMMUNITY, HORIZON, RUN)


# Sums over homes and slots are in kW; times 0.25 h they are kWh.
FIGURES = {
    # f_i sums to 1.22; the energy gained, 3.1341 - 5 + 1.57 - 2 = -2.2959 kWh, is worth 0.2 of it: -0.45918
    "energy_cost_eur": 1.22,
    "stored_worth_eur": -0.45918,
    "cost_eur": 1.67918,
    # spilled in slot 1: 0.25 (10 - 0.06) 0.5 = 1.2425; short in slot 2: 0.25 (0.40 + 10) 2.2 = 5.72
    "unserved_cost_eur": 6.9625,
    # 0.25 * 5 * (8.86 + 42.36 + 0.3799) kW, see PENALTIES
    "violation_cost_eur": 64.499875,
    "total_cost_eur": 73.141555,  # 1.67918 + 6.9625 + 64.499875
    "load_kwh": 6.6075,  # 26.43 / 4
    "pv_kwh": 3.55,  # 14.2 / 4
    "curtailed_kwh": 0.425,  # (15.9 - 14.2) / 4
    "import_kwh": 3.90625,  # 15.625 / 4
    "export_kwh": 1.125,  # 4.5 / 4
    "p2p_kwh": 1.153125,  # volumes sum to 9.225, both sides of a trade in it: 4.6125 / 4
    "p2p_share": 0.17451759,  # 1.153125 / 6.6075
    "self_sufficiency": 0.35513826,  # 1 - 3.90625 / (6.6075 - 0.55)
    "self_consumption": 0.64788732,  # 1 - (1.125 + 0.125) / 3.55
    "peak_import_kw": 9.7,  # of 0.3, -3.14, 9.7, 4.265
    "peak_export_kw": 3.14,
    "peak_to_average": 2.71994392,  # 9.7 / (14.265 / 4)
    "ramp_max_kw": 12.84,  # of 3.44, 12.84, 5.435
    "ramp_mean_kw": 7.23833333,
    "unserved_kwh": 0.55,  # 2.2 / 4
    "spilled_kwh": 0.125,  # 0.5 / 4
    # in: 0.8 (2 + 1 + 0.6) = 2.88 kW; out: 1.6 / 0.5 + (0.4 + 0.24 + 0.8) / 0.8 = 3.2 + 1.8 kW
    "battery_throughput_kwh": 1.97,
    "battery_cycles": 0.07350746,  # 0.985 / (9 + 4.4)
    "soc_violation_kwh": 0.05,  # B: 1.6 - 1.55
    "storage_balance_error_kwh": 0.02,  # B: 1.57 - 1.55
    "voltage_min_pu": 0.9,
    "voltage_max_pu": 1.08,
    "voltage_violation_pu": 0.04,  # n2: 0.94 - 0.90
    "voltage_violation_slots": 3,  # 0.00005 p.u. in slot 0 do not count, 0.0005 in slot 3 do
    "line_loading_max": 1.56,  # hypot(7.2, 3) / 5
    "transformer_loading_max": 1.2,  # 12 / 10
    "line_violation_kw": 3.2,  # L: 7.2 - sqrt(5^2 - 3^2)
    "overload_hours": 0.5,  # excess 0, 0.3, 3.2 and 0.04 kW: two quarter hours beyond 0.05
    "ac_voltage_min_pu": 0.868,
    "ac_voltage_max_pu": 1.075,
    "ac_voltage_violation_pu": 0.072,  # n2: 0.94 - 0.868
    "ac_voltage_violation_puh": 0.036875,  # (0.0005 + 0.015 + 0.06 + 0.072) / 4
    "ac_line_loading_max": 1.61,
    "ac_transformer_loading_max": 1.27,
    "ac_loading_violation_pct": 61.0,
    "ac_overload_hours": 0.75,  # 1.06, 1.61 and 1.002 of a rating
    "ac_slots_violated": 4,  # 0.0005, 0.015 and 0.072 p.u., 0.2 % of a rating
    "ac_slots_unsolved": 0,
    "ac_losses_kwh": 0.355,  # 1.42 / 4
    "ac_linear_error_pu": 0.032,  # n2: 0.90 - 0.868
    "losses_eur": 0.1051,  # see LOSSES
    "cost_with_losses_eur": 1.78428,
    "balance_error_kw": 0.045,
    "trade_sum_error_kw": 0.025,
    "payment_sum_error_eur": 0.001,
    "price_mean": 0.22,  # 2.64 / 12
    "price_min": 0.03,
    "price_max": 0.48,
    "price_outside_tariffs": 0.08,  # 0.48 - 0.40; below the sell price it is 0.01
    "tariff_buy_mean": 0.325,  # 1.30 / 4
    "tariff_sell_mean": 0.0575,  # 0.23 / 4
    "no_worse_off_share": 0.66666667,  # benefits 0.6, -0.2, 0.3 EUR
    # sorted -0.2, 0.3, 0.6 with the weights -2, 0, 2: 1.6 / (9 * 1.1 / 3)
    "benefit_gini": 0.48484848,
    "benefit_min_eur": -0.2,
    "benefit_max_eur": 0.6,
    "status_counts": {"SOLVED": 1, "NETWORK_VIOLATED": 1, "MAX_ITER": 1, "NUMERICAL_ERROR": 1},
    "slots_not_solved": 2,  # MAX_ITER and NUMERICAL_ERROR
    "gap_eur": 0.011,
    "iterations_median": 14.5,  # 5, 9, 20, 60
    "iterations_p95": 54.0,  # 20 + 0.85 * 40
    "iterations_max": 60,
    "prim_res_max_kw": 0.014,
    "dual_res_max_eur_per_kwh": 0.0024,
    "ms_per_slot": 125.0,  # 0.5 s for 4 slots
    "realtime_factor": 7200.0,  # 900 s / 0.125 s
    "messages_per_slot": 141.0,  # 23.5 iterations, to and from three members
    "kib_per_slot": 1.65234375,  # 23.5 * 9 numbers of 8 bytes
    "saving_eur": 0.7,  # 0.6 - 0.2 + 0.3
    "welfare_gain_eur": 0.7,  # the losses are the same
    "regret_eur": 0.125,
    "capture": 0.8,  # 0.5 / 0.625
}


def test_every_figure_of_a_policy(evaluations):
    kpis = dict(evaluations["lyapunov"].kpis)
    assert set(kpis) == set(FIGURES)
    for name, value in FIGURES.items():
        expected = value if isinstance(value, dict) else pytest.approx(value, rel=1e-7, abs=1e-12)
        assert kpis[name] == expected, name
    told_apart_below = ("welfare_gain_eur", "regret_eur")
    numbers = [v for name, v in FIGURES.items() if not isinstance(v, dict) and name not in told_apart_below]
    assert len(set(numbers)) == len(numbers), "two figures are alike: a swap would not be seen"


def test_what_the_other_policies_save_and_capture(evaluations):
    figures = lambda name: [evaluations[policy].kpis[name] for policy in NAMES]
    assert figures("total_cost_eur") == pytest.approx([73.841555, 73.641555, 73.141555, 73.016555], rel=1e-9)
    assert figures("saving_eur") == pytest.approx([0, 0.2, 0.7, 0.825], abs=1e-9)
    assert figures("capture") == pytest.approx([-0.32, 0, 0.8, 1], abs=1e-9)  # -0.2 / 0.625 for the first
    assert figures("regret_eur") == pytest.approx([0.825, 0.625, 0.125, 0], abs=1e-9)
    dearer = {name: dict(one.kpis) for name, one in evaluations.items()}
    dearer["lyapunov"]["losses_eur"] += 0.3
    assert compare(dearer)["lyapunov"]["welfare_gain_eur"] == pytest.approx(0.4)
    for name in ("gap_eur", "iterations_median", "iterations_p95", "iterations_max", "messages_per_slot"):
        assert evaluations["perfect_foresight"].kpis[name] is None


# By slot: kW of violated rows. Slot 0: n2 is 0.000106 p.u.^2 beyond its limit, which counts as kept.
# Slot 1: n2 (1.1664 - 1.1236) / 0.005 = 8.56, T 0.3. Slot 2: n1 (0.9025 - 0.8464) / 0.0025 = 22.44,
# n2 (0.8836 - 0.81) / 0.005 = 14.72, T 2, L 3.2. Slot 3: n1 (0.9025 - 0.90155025) / 0.0025 = 0.3799; L 0.04
# counts as kept. Times 0.25 h * 5 EUR/kWh, and what was not served and spilled (see FIGURES).
PENALTIES = [0, 12.3175, 58.67, 0.474875]

# 0.25 h times 0.16 kW bought at 0.30, 0.34 not sold at 0.06 (3.14 kW are exported), 0.72 at 0.40, 0.2 at 0.32
LOSSES = [0.012, 0.0051, 0.072, 0.016]

SLOTS = {
    "load_kw": [3.7, 4.6, 14.5, 3.63],
    "pv_available_kw": [6, 9.5, 0.3, 0.1],
    "pv_used_kw": [5, 9, 0.2, 0],
    "charge_kw": [2, 1, 0, 0.6],
    "discharge_kw": [0.4, 0.24, 2.4, 0],
    "stored_kwh": [6.775, 6.41, 4.899, 4.7041],
    "buy_kw": [0.8, 0.86, 9.7, 4.265],
    "sell_kw": [0.5, 4, 0, 0],
    "p2p_kw": [2, 2.2, 0.3, 0.1125],
    "unserved_kw": [0, 0, 2.2, 0],
    "spilled_kw": [0, 0.5, 0, 0],
    "cost_eur": [0.04, -0.01, 0.84, 0.35],
    "penalty_eur": PENALTIES,
    "cumulative_cost_eur": [0.04, 0.03, 0.87, 1.22],
    "price_buy_eur_per_kwh": [0.30, 0.28, 0.40, 0.32],
    "price_sell_eur_per_kwh": [0.05, 0.06, 0.08, 0.04],
    "price_mean_eur_per_kwh": [0.12, 0.15, 0.41, 0.20],
    "price_min_eur_per_kwh": [0.10, 0.07, 0.35, 0.03],
    "price_max_eur_per_kwh": [0.14, 0.20, 0.48, 0.30],
    "voltage_min_pu": [1, 1, 0.90, 0.9495],
    "voltage_max_pu": [1.06005, 1.08, 1, 1],
    "voltage_violation_pu": [0.00005, 0.02, 0.04, 0.0005],
    "line_loading": [0.2, 0.4, 1.56, 1.008],  # of 5 kVA: 1, 2, 7.8, 5.04
    "transformer_loading": [0.5, 1.03, 1.2, 0.75],  # of 10 kVA: 5, 10.3, 12, 7.5
    "line_violation_kw": [0, 0.3, 3.2, 0.04],
    "ac_voltage_min_pu": [1, 1, 0.868, 0.947],
    "ac_voltage_max_pu": [1.0605, 1.075, 1, 1],
    "ac_voltage_violation_pu": [0.0005, 0.015, 0.072, 0],
    "ac_line_loading": [0.21, 0.42, 1.61, 1.002],
    "ac_transformer_loading": [0.52, 1.06, 1.27, 0.77],
    "ac_losses_kw": [0.16, 0.34, 0.72, 0.2],
    "losses_eur": LOSSES,
    "ac_status": ["SOLVED"] * 4,
    "market_violation_kw": [0, 0.6, 1.4, 0.07],
    "binding_row": ["", "transformer T", "voltage at bus n2", "line L"],
    "status": ["SOLVED", "NETWORK_VIOLATED", "MAX_ITER", "NUMERICAL_ERROR"],
    "gap_eur": [0.001, 0.002, 0.003, 0.005],
    "rounds": [1, 3, 2, 6],
    "iterations": [9, 20, 5, 60],
    "prim_res_kw": [0.011, 0.012, 0.013, 0.014],
    "dual_res_eur_per_kwh": [0.0021, 0.0022, 0.0023, 0.0024],
}


def same(frame: pd.DataFrame, expected: dict, *, keys: tuple[str, ...] = ()) -> None:
    """The frame has these columns and no other, with these values; no two of them are alike."""
    assert set(frame.columns) == {*expected, *keys}
    for name, values in expected.items():
        if all(isinstance(value, str) for value in values):
            assert list(frame[name]) == values, name
        else:
            np.testing.assert_allclose(
                frame[name].to_numpy(float), values, rtol=1e-7, atol=1e-12, err_msg=name
            )
    seen = [tuple(values) for values in expected.values()]
    assert len(set(seen)) == len(seen), "two columns are alike: a swap would not be seen"


def test_every_column_of_the_slots(evaluations):
    frame = slot_table(
        COMMUNITY, HORIZON, RUN.trajectories["lyapunov"], evaluations["lyapunov"], paper.TIME, paper.ROWS
    )
    same(frame, SLOTS, keys=("time",))
    assert list(frame["time"].dt.strftime("%H:%M")) == ["10:15", "10:30", "10:45", "11:00"]


HOMES = {  # the second slot, and B in it: every field of the trajectory that is written
    "load_kw": [0.5, 3, 1.1],
    "pv_used_kw": [8, 1, 0],
    "charge_kw": [1, 0, 0],
    "discharge_kw": [0, 0.24, 0],
    "energy_kwh": [4.61, 1.8, 0],
    "trade_kw": [2, -1.3, -0.7],
    "trade_volume_kw": [2.2, 1.5, 0.7],
    "buy_kw": [0, 0.46, 0.4],
    "sell_kw": [4, 0, 0],
    "cost_eur": [-0.11, 0.07, 0.03],
    "payment_eur": [0.1, -0.07, -0.03],
    "market_price_eur_per_kwh": [0.07, 0.2, 0.18],
    "nodal_price_eur_per_kwh": [0.06, 0.19, 0.17],
    "unserved_kw": [0, 0, 0],
    "spilled_kw": [0.5, 0, 0],
    "pv_available_kw": [8.4, 1.1, 0],
    "member": ["A", "B", "C"],
}


def test_every_column_of_the_homes(evaluations):
    frame = home_table(
        COMMUNITY, HORIZON, RUN.trajectories["lyapunov"], evaluations["lyapunov"].grid, paper.TIME
    )
    assert len(frame) == 12
    second = frame[frame["time"] == paper.TIME[1]]
    same(second, HOMES, keys=("time",))
    assert list(frame["unserved_kw"]) == [0, 0, 0, 0, 0, 0, 0, 2.2, 0, 0, 0, 0]


# f_i less payments received less 0.2 per kWh gained:
# A 0.14 - 0.221 + 0.37318, B 0.74 + 0.14 + 0.086, C 0.34 + 0.08
MEMBERS = {
    "member": ["A", "B", "C"],
    "bus": ["n1", "n2", "n2"],
    "pv_kw": [8.5, 1.2, 0],
    "battery_kwh": [10, 6, 0],
    "bill_lyapunov_eur": [0.29218, 0.966, 0.42],
    "bill_no_storage_no_trade_eur": [0.89218, 0.766, 0.72],
    "bill_no_storage_eur": [0.79218, 0.966, 0.42],
    "bill_perfect_foresight_eur": [0.16718, 0.966, 0.42],
    # LOSSES pro rata to |p|: 2, 1.6, 0.7 of 4.3 kW; 6.5, 1.76, 1.1 of 9.36; 0.7, 8.2, 3 of 11.9;
    # 1.8, 1.5, 0.885 of 4.185
    **{f"losses_{name}_eur": [0.020240076, 0.060772302, 0.024087621] for name in NAMES},
    **{f"unserved_{name}_kwh": [0, 0.55, 0] for name in NAMES},
    **{f"spilled_{name}_kwh": [0.125, 0, 0] for name in NAMES},
}


def test_every_column_of_the_members(evaluations):
    frame = member_table(COMMUNITY, evaluations)
    undone = [name for name in MEMBERS if name.startswith(("unserved", "spilled", "losses"))]
    same(frame.drop(columns=undone), {k: v for k, v in MEMBERS.items() if k not in undone})
    assert set(frame.columns) == set(MEMBERS)
    for name in undone:
        np.testing.assert_allclose(frame[name], MEMBERS[name], rtol=1e-7, err_msg=name)


def test_every_column_of_the_figures(evaluations):
    row = kpi_table(evaluations).set_index("policy").loc["lyapunov"]
    counts = {"solved": 1, "max_iter": 1, "numerical_error": 1, "network_violated": 1}
    counts |= {"penalty_too_small": 0, "network_infeasible": 0, "unserved": 0, "not_secure": 0}
    plain = {name: value for name, value in FIGURES.items() if name != "status_counts"}
    expected = plain | {f"slots_{name}": count for name, count in counts.items()}
    assert set(row.index) == set(expected)
    for name, value in expected.items():
        assert row[name] == pytest.approx(value, rel=1e-7), name


def test_the_counts_of_each_status_go_to_their_own_column(evaluations):
    kinds = ("SOLVED", "MAX_ITER", "NUMERICAL_ERROR", "NETWORK_VIOLATED")
    kinds += ("PENALTY_TOO_SMALL", "NETWORK_INFEASIBLE", "UNSERVED", "NOT_SECURE")
    one = evaluations["lyapunov"]
    counts = {kind: 10 + number for number, kind in enumerate(kinds)}
    row = kpi_table({"a": one._replace(kpis=one.kpis | {"status_counts": counts})}).iloc[0]
    assert [row[f"slots_{kind.lower()}"] for kind in kinds] == [10, 11, 12, 13, 14, 15, 16, 17]


REPORT = {
    "case": "paper",
    "slots": 4,
    "prosumers": 3,
    "buses": 3,
    "dtype": "float64",
    "perfect_foresight_eur": 73.0,
    "lower_bound_eur": 71.0,
    "perfect_foresight_reasons": ["because the case says so"],
    "end_value_eur_per_kwh": 0.2,
    "unserved_price_eur_per_kwh": 10.0,
    "row_price_eur_per_kwh": 5.0,
}
SHORT = ["cost_eur", "unserved_cost_eur", "violation_cost_eur", "total_cost_eur", "saving_eur", "capture"]
SHORT += ["p2p_kwh", "self_sufficiency", "unserved_kwh", "spilled_kwh", "soc_violation_kwh"]
SHORT += ["voltage_violation_pu", "line_violation_kw", "ac_voltage_violation_pu"]
SHORT += ["ac_loading_violation_pct", "ac_slots_violated", "ac_losses_kwh", "losses_eur"]
SHORT += ["balance_error_kw", "status_counts", "gap_eur"]
SHORT += ["iterations_median", "iterations_p95", "ms_per_slot"]


def test_every_number_of_the_json_report(evaluations):
    report = json_report(COMMUNITY, HORIZON, RUN, evaluations, case="paper")
    assert {k: v for k, v in report.items() if k not in ("version", "policies")} == REPORT
    assert list(report["policies"]) == NAMES
    figures = report["policies"]["lyapunov"]
    assert list(figures) == SHORT
    for name in SHORT:
        expected = FIGURES[name]
        assert figures[name] == (expected if name == "status_counts" else pytest.approx(expected)), name


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_every_table_and_number_of_a_results_folder(evaluations, tmp_path, format):
    path = save_results(
        tmp_path / "out",
        *(COMMUNITY, HORIZON, RUN, evaluations),
        time=paper.TIME,
        case="paper",
        settings={"market": "pool"},
        seed=11,
        format=format,
        homes=True,
    )
    tables = {"kpis", "members"} | {f"{kind}_{name}" for kind in ("slots", "homes") for name in NAMES}
    assert {file.name for file in path.iterdir()} == {f"{name}.{format}" for name in tables} | {
        "summary.json"
    }
    back = load_results(path)
    assert set(back.tables) == tables
    same(back.tables["slots_lyapunov"], SLOTS, keys=("time",))
    homes = back.tables["homes_lyapunov"]
    same(homes[homes["time"] == paper.TIME[1]], HOMES, keys=("time",))
    assert set(back.tables["members"].columns) == set(MEMBERS)
    np.testing.assert_allclose(back.tables["members"]["bill_lyapunov_eur"], MEMBERS["bill_lyapunov_eur"])
    assert back.kpis.at["lyapunov", "overload_hours"] == 0.5
    # the tables of a policy are its own
    first = {name: back.tables[f"slots_{name}"]["cost_eur"][0] for name in NAMES}
    assert first == pytest.approx(dict(zip(NAMES, [0.74, 0.54, 0.04, -0.085], strict=True)))
    summary = json.loads((path / "summary.json").read_text())
    whole = REPORT | {
        "kind": "jaxp2p-results",
        "start": "2016-07-05 10:15:00",
        "time_zone": None,
        "slot_minutes": 15.0,
        "seed": 11,
        "market": "pool",
        "trade_fee_eur_per_kwh": 0.01,
        "settings": {"market": "pool"},
        "perfect_foresight_is_bound": False,
        "foresight_left_out": "",
        "limits_in_market": 4,
        "certificate": "nothing is proved on paper",
        "compile_seconds": 3.0,
        "seconds": RUN.seconds,
        "tables": sorted(tables),
        "format": format,
    }
    others = ("version", "policies", "kpis", "made_from")
    assert {k: v for k, v in summary.items() if k not in others} == whole
    assert set(summary) == {*whole, *others}
    assert set(summary["made_from"]) == {"input", "contents", "market"}
    assert set(summary["kpis"]["lyapunov"]) == set(FIGURES)
    assert summary["kpis"]["lyapunov"]["total_cost_eur"] == pytest.approx(73.141555)
    assert summary["policies"]["no_storage"]["saving_eur"] == pytest.approx(0.2)


PRINTED = {  # column of the printed table: what stands in the row of the policy "lyapunov"
    ("cost", "EUR"): "1.68",
    ("unserved", "kWh"): "0.55",
    ("spilled", "kWh"): "0.12",  # 0.125, to even
    ("unserved", "EUR"): "6.96",
    ("limits", "EUR"): "64.50",
    ("in all", "EUR"): "73.14",
    ("saving", "EUR"): "0.70",
    ("capture", "%"): "80.0",
    ("traded", "kWh"): "1",
    ("self-suff.", "%"): "35.5",
    ("losses", "kWh"): "0.4",
    ("voltage", "p.u."): "0.868-1.075",
    ("line", "%"): "161",
    ("transf.", "%"): "127",
    ("SoC out", "kWh"): "0.05",
    ("V out", "p.u."): "0.0720",
    ("S out", "%"): "61.0",
    ("iter.", "med/p95"): "14/54",
    ("slots", "out/open"): "4/2",
    ("gap", "EUR"): "0.011",
    ("time", "ms/slot"): "125.0",
}


def cells(lines: list[str]) -> dict[tuple[str, str], list[str]]:
    """Titles of a printed table, and under each the cells; the rule says where the columns are."""
    ends, place = [], 0
    for dashes in lines[2].split("  "):
        ends.append((place, place + len(dashes)))
        place += len(dashes) + 2
    cut = lambda line: [line[a:b].strip() for a, b in ends]
    rows = [cut(line) for line in lines]
    return {(rows[0][n], rows[1][n]): [row[n] for row in rows[3:]] for n in range(len(ends))}


def test_every_column_of_the_printed_table(evaluations):
    kpis = {name: evaluation.kpis for name, evaluation in evaluations.items()}
    for width in (100, 400):  # in two parts, and in one
        text = text_tables(kpis, width=width)
        table: dict = {}
        for part in text.split("\n\n"):
            table |= cells(part.splitlines())
        assert table.pop(("policy", "")) == NAMES
        assert {title: column[2] for title, column in table.items()} == PRINTED
    assert table[("gap", "EUR")][3] == "-"  # perfect foresight has no slots of its own


def test_every_remark_under_the_printed_table(evaluations):
    kpis = {name: evaluation.kpis for name, evaluation in evaluations.items()}
    others = "no_storage_no_trade, no_storage, lyapunov"
    ends = "(1 SOLVED, 1 MAX_ITER, 1 NUMERICAL_ERROR, 1 NETWORK_VIOLATED)"
    assert notes(RUN, kpis) == [
        "energy stored at the end is counted at 0.2 EUR/kWh for every policy",
        "perfect foresight: 73.02 EUR, penalties included",  # of the policy, 73.016555
        "lower bound on the cost of any policy, penalties included: 71.00 EUR",
        "perfect foresight and the lower bound keep the limits of the linear network, without losses",
        "load not served at the connection limits, by 4 of 4 policies, up to 0.55 kWh (no_storage_no_trade); "
        'counted at 10 EUR/kWh on top of the tariffs in "in all"',
        "energy spilled at the connection limits, by 4 of 4 policies, up to 0.125 kWh (no_storage_no_trade); "
        'counted at 10 EUR/kWh on top of the tariffs in "in all"',
        'limits of the grid violated, counted at 5 EUR/kWh in "in all": ' + ", ".join(NAMES),
        f"outside the limits of the grid, so not comparable with perfect foresight: {others}",
        *(f"{name}: not every slot was solved {ends}" for name in NAMES),
    ]


@pytest.mark.parametrize(
    ("voltage", "loading", "outside"),
    [(0.00009, 0.0009, False), (0.00011, 0, True), (0, 0.0011, True)],
)
def test_what_is_outside_the_limits_of_the_grid_is_said(evaluations, voltage, loading, outside):
    """More than 1e-4 p.u. or 0.1 % of a rating, in AC."""
    kpis = {name: evaluation.kpis | {"ac_slots_violated": 0} for name, evaluation in evaluations.items()}
    kpis["no_storage"] |= {"ac_slots_violated": int(ac_violated(voltage, loading))}
    said = [remark for remark in notes(RUN, kpis) if remark.startswith("outside the limits of the grid")]
    assert [remark.rpartition(": ")[2] for remark in said] == (["no_storage"] if outside else [])


@pytest.mark.parametrize(
    ("unsolved", "counts", "undone", "code"),
    [
        (0, {}, 0, 0),
        (9, {"MAX_ITER": 9}, 0, 0),  # of 1000 slots 10 may be
        (11, {"MAX_ITER": 11}, 0, 3),
        (1, {"NUMERICAL_ERROR": 1}, 0, 3),
        (0, {}, 0.01, 5),
        (11, {"MAX_ITER": 11}, 0.01, 3),
    ],
)
def test_the_exit_code_of_a_run(unsolved, counts, undone, code):
    kpis = {"greedy": {"status_counts": counts, "slots_not_solved": unsolved, "cost_eur": 3.0}}
    kpis["greedy"]["total_cost_eur"] = 3.0 + undone
    assert verdict(kpis, 1000) == code
