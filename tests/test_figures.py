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
    wrong = [
        (row["policy"], column, row[column])
        for row in rows
        for column, (name, unit) in columns.items()
        if off(
            row[column],
            unit * record["policies"][row["policy"]][name],
            unit * record["margins"]["policies"][row["policy"]][name],
        )
    ]
    assert wrong == []


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
    wrong = [
        (row["policy"], column, row[column])
        for row in rows
        for column, (name, unit) in columns.items()
        if off(
            row[column],
            unit * record["policies"][row["policy"]][name],
            unit * record["margins"]["policies"][row["policy"]][name],
        )
    ]
    assert wrong == []


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
