"""The tables of `docs/figures.md` are those of golden weeks and of stored lines."""

import json
import re
from pathlib import Path

import pytest
from golden import week

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8")
ROUNDED = 0.51  # of the last digit


def table(heading: str) -> list[dict[str, str]]:
    """Rows of the table whose heading has this text, by column; an empty first cell repeats the one above."""
    lines = PAGE.splitlines()
    (start,) = [number for number, line in enumerate(lines) if line.startswith("|") and heading in line]
    names = cells(lines[start])
    rows: list[dict[str, str]] = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        row = dict(zip(names, cells(line), strict=True))
        row[names[0]] = row[names[0]] or rows[-1][names[0]]
        rows.append(row)
    return rows


def cells(line: str) -> list[str]:
    return [cell.strip().strip("*") for cell in line.strip().strip("|").split("|")]


def number(cell: str) -> float:
    return float(cell.replace(",", ""))


def off(cell: str, value: float, margin: float = 0.0) -> bool:
    """Whether a cell says something else than this value, as far as its digits go."""
    digits = len(cell.partition(".")[2])
    return not abs(number(cell) - value) <= margin + ROUNDED * 10**-digits


def differing(rows, columns, record):
    """Cells that are not the stored figures, (column: name, unit), of a week within its margins."""
    margins = record["margins"]["policies"]
    return [
        (row["policy"], column, row[column])
        for row in rows
        for column, (name, unit) in columns.items()
        if off(
            row[column],
            unit * record["policies"][row["policy"]][name],
            unit * margins[row["policy"]][name],
        )
    ]


def test_the_table_of_jaxp2p_run_is_that_of_the_golden_week():
    record, rows = week("rural3"), table("| capture % | traded kWh |")
    assert [row["policy"] for row in rows] == list(record["policies"])
    columns = {
        "cost EUR": ("cost_eur", 1),
        "saving EUR": ("saving_eur", 1),
        "capture %": ("capture", 100),
        "traded kWh": ("p2p_kwh", 1),
        "self-sufficiency %": ("self_sufficiency", 100),
    }
    assert differing(rows, columns, record) == []


def test_the_lower_bound_and_the_limits_of_that_week_are_as_said():
    record = week("rural3")
    (said,) = re.findall(
        r"No storage or network limit is exceeded by any policy.*lower bound is ([\d.,]+) EUR", PAGE
    )
    assert not off(said, record["lower_bound_eur"], record["margins"]["lower_bound_eur"])
    for figures in record["policies"].values():
        assert figures["soc_violation_kwh"] <= 1e-3
        assert figures["voltage_violation_pu"] <= 1e-4
        assert figures["line_violation_kw"] <= 0.05


def test_the_overloaded_village_is_that_of_the_golden_week():
    record = week("rural1_overloaded")
    rows = [row for row in table("| limits in the market |") if row["limits in the market"] == "yes"]
    assert {row["policy"] for row in rows} >= {"no_storage", "lyapunov", "perfect_foresight"}
    columns = {
        "transformer %": ("transformer_loading_max", 100),
        "highest voltage p.u.": ("voltage_max_pu", 1),
        "curtailed kWh": ("curtailed_kwh", 1),
        "cost EUR": ("cost_eur", 1),
    }
    assert differing(rows, columns, record) == []


def test_the_captures_of_the_seasons_are_those_of_the_stored_lines():
    lines = (ROOT / "benchmarks" / "results" / "policies_all.jsonl").read_text().splitlines()
    stored = {
        (line["price"], line["policy"], line["season"]): 100 * line["capture"]
        for line in map(json.loads, lines)
        if (line["part"], line["case"], line["market"]) == ("seasons", "rural3", "pool") and "policy" in line
    }
    prices = {"time of use with noise": "tou_noise", "time of use": "tou", "dynamic": "dynamic"}
    rows = table("| tariff | policy | winter |")
    assert len(rows) == 9
    seasons = ("winter", "spring", "summer", "autumn")
    wrong = [
        (row["tariff"], row["policy"], season, row[season])
        for row in rows
        for season in seasons
        if off(row[season], stored[prices[row["tariff"]], row["policy"], season])
    ]
    assert wrong == []


def test_the_hosting_capacities_are_those_of_the_stored_results():
    columns = {"rural3, 7 days": "rural3", "rural1, 1 day, with vehicles": "rural1"}
    for column, name in columns.items():
        ways = json.loads((ROOT / "benchmarks" / "results" / f"hosting_{name}.json").read_text())["ways"]
        rows = table("| way of operating |")
        assert [row["way of operating"] for row in rows] == list(ways)
        for row in rows:
            scale = ways[row["way of operating"]]["pv_scale"]
            assert (row[column] == "none") if scale is None else not off(row[column], scale), (column, row)


def test_what_rules_of_reactive_power_do_is_that_of_the_stored_lines():
    lines = (ROOT / "benchmarks" / "results" / "bench_secure_cpu.jsonl").read_text().splitlines()
    stored = {
        (line["community"], line["reactive"]): line
        for line in map(json.loads, lines)
        if line["mode"] == "secure" and line["policy"] == "lyapunov" and "reactive" in line
    }
    columns = {
        "village, PV x 2.5, 1.03 p.u.": (
            "village: curtailed kWh",
            "cost EUR",
            "losses kWh",
            "slots outside",
        ),
        "rural3, 80 % PV x 2, 1.06 p.u.": (
            "rural3: curtailed kWh",
            "its cost EUR",
            "its losses kWh",
            "its slots outside",
        ),
    }
    rows = table("| rule | village: curtailed kWh |")
    assert [row["rule"] for row in rows] == ["unity", "cos_phi", "volt_var", "market"]
    figures = ("curtailed_kwh", "cost_eur", "losses_kwh", "violated")
    wrong = [
        (row["rule"], column, row[column])
        for row in rows
        for community, names in columns.items()
        for column, figure in zip(names, figures, strict=True)
        if off(row[column], stored[community, row["rule"]][figure])
    ]
    assert wrong == []


def stored(name: str) -> list[dict]:
    """The lines of a benchmark."""
    text = (ROOT / "benchmarks" / "results" / name).read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_what_tuning_keeps_is_that_of_the_stored_lines():
    policies = {
        "tuned once": "tuned",
        "tuned every week": "tuned_rolling",
        "the same, with published prices": "tuned_rolling_published",
        "MPC, forecast as yesterday": "mpc_persistence",
        "MPC, load and PV known": "mpc_perfect_power",
        "MPC, prices known": "mpc_persistence_published",
    }
    prices = {"time of use, noisy": "tou_noise", "dynamic": "dynamic"}
    lines = stored("bench_tuning_cpu.jsonl")
    found = {
        (line["price"], line["policy"], line["season"]): 100 * line["capture"]
        for line in lines
        if line["case"] == "rural3"
    }
    rows = table("| price | policy | winter |")
    assert len(rows) == 10
    wrong = [
        (row["price"], row["policy"], season)
        for row in rows
        for season in ("winter", "spring", "summer", "autumn")
        if off(row[season], found[prices[row["price"]], policies[row["policy"]], season])
    ]
    assert wrong == []
    tuned = [line["capture"] for line in lines if line["policy"] == "tuned_rolling"]
    plans = [line["capture"] for line in lines if line["policy"] == "mpc_persistence"]
    published = {
        (line["case"], line["season"]): line["capture"]
        for line in lines
        if "tuned_rolling_p" in line["policy"]
    }
    best = [
        published.get((line["case"], line["season"]), line["capture"])
        if line["price"] == "dynamic"
        else line["capture"]
        for line in lines
        if line["policy"] == "tuned_rolling"
    ]
    said = re.search(
        r"mean is (\d+) %, with published prices where there are any (\d+) %, and\s+the worst (\d+) %", PAGE
    )
    assert said is not None and len(tuned) == 16
    assert [round(100 * x) for x in (sum(tuned) / 16, sum(best) / 16, min(tuned))] == [
        int(x) for x in said.groups()
    ]
    assert all(ours > plan for ours, plan in zip(tuned, plans, strict=True))


def test_the_times_of_a_slot_are_those_of_the_stored_lines():
    found = {
        (line["market"], line["n"]): line
        for line in stored("bench_slot_cpu.jsonl")
        if line.get("summary") and line["mode"] == "warm"
    }
    rows = table("| market, homes | ours, ms (slots passed) |")
    assert len(rows) == 5
    for row in rows:
        market, _, homes = row["market, homes"].partition(", ")
        line = found[market, int(number(homes))]
        ours, passed, of = re.findall(r"[\d.,]+", row["ours, ms (slots passed)"])
        assert (int(passed), int(of)) == (line["ours_passed"], line["of"])
        assert not off(ours, line["ours_cpu_ms"])
        assert not off(row["ratio"], line["ratio"])
        rival, time = row["best rival, ms"].split()
        assert line["best_rival"].startswith(rival.lower())
        assert abs(number(time) / line["best_rival_cpu_ms"] - 1) < 1e-3 + ROUNDED / number(time)


def test_the_rates_of_a_study_are_those_of_the_stored_lines():
    lines = stored("bench_study_cpu.jsonl")
    rows = table("| case | ours | PIQP, updated in place |")
    assert len(rows) == 4
    for row in rows:
        market, homes = re.findall(r"(\w+), (\d+) homes", row["case"])[0]
        of_case = [line for line in lines if (line.get("market"), line.get("n")) == (market, int(homes))]
        rates = {
            line["solver"]: line["per_core_second"]
            for line in of_case
            if "solver" in line and "per_core_second" in line
        }
        (ratio,) = [line["ratio_per_core_second"] for line in of_case if line.get("summary")]
        ours = max(rate for solver, rate in rates.items() if solver.startswith("jaxp2p"))
        assert not off(row["ours"], ours)
        assert not off(row["PIQP, updated in place"], rates["piqp"])
        assert not off(row["ratio"], ratio)


def test_vehicles_keep_what_the_stored_lines_say():
    found = {line["policy"]: 100 * line["capture"] for line in stored("bench_vehicles_cpu.jsonl")}
    text = " ".join(PAGE.split("## Electric vehicles")[1].split("##")[0].split())
    said = re.search(
        r"tuned controller keeps (\d+) %, `lyapunov` (\d+) %, charging on surplus (\d+) %, at once (\d+) %, "
        r"MPC by persistence (\d+) %",
        text,
    )
    assert said is not None
    names = ("tuned", "lyapunov", "charge_on_surplus", "charge_at_once", "mpc_persistence")
    assert [round(found[name]) for name in names] == [int(x) for x in said.groups()]


def test_the_largest_community_takes_the_time_that_is_said():
    lines = [line for line in stored("bench_large_cpu.jsonl") if line["members"] == 100_000]
    lines = [line for line in lines if line["slots"] == 8 and "reactive" not in line]
    times = [line["ms_per_slot"] for line in lines if line["stage"] == "clear"]
    assert times and round(max(times), -2) == 200
    assert "in AC in 0.2 s" in PAGE
