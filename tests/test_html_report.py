"""`jaxp2p report`: what is in the file is what is in the tables, and no name in it becomes code."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import fake_study
import numpy as np
import pandas as pd
import pytest
from html_pages import NASTY, content, results, rows
from typer.testing import CliRunner

import jaxp2p
from jaxp2p.cli import app
from jaxp2p.data import load_case
from jaxp2p.report.files import write_json, write_table
from jaxp2p.report.html import LIMIT_MB, packing
from jaxp2p.report.html.fairness import curve
from jaxp2p.report.html.page import Part, html_page
from jaxp2p.report.html.quantities import COMMUNITY, MEMBER, highest, last, lowest, mean, nearest_to_a_limit
from jaxp2p.report.html.views import limits_in_use
from jaxp2p.studies.folder import open_study
from jaxp2p.studies.schedule import run_chunks

VENDORED = Path(jaxp2p.__file__).parent / "report" / "html" / "vendored"
FULL = 50.0  # MB: nothing is merged


def page_of(*sources, **options) -> str:
    parts = [Part(name=f"run {n}", content=one) for n, one in enumerate(sources)]
    return html_page(parts, **options).decode()


def stored(path, made):
    """A folder as `jaxp2p run` leaves it."""
    path.mkdir()
    for name, frame in made.tables.items():
        write_table(frame, path / f"{name}.parquet")
    write_json(path / "summary.json", made.summary | {"format": "parquet"})
    return path


@pytest.fixture(scope="module")
def village():
    made = results("rural1", days=1)
    return made, page_of(made, limit_mb=FULL)


# --- packing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1e-6, 1.0, 30.0, 1e3, 1e7])
def test_numbers_come_back_within_half_a_step(size):
    values = size * np.random.default_rng(0).standard_normal((5, 40))
    store = packing.Store()
    reference = store.add(values, 100)
    page = f'<script type="text/plain" id="block-0">{store.texts()[0]}</script>'
    scale = reference["scale"]
    assert scale <= 100
    assert scale == 100 or 1 / scale < 1e-4 * np.abs(values).max()  # 0.005 % of the largest value, as is said
    np.testing.assert_allclose(rows(page, reference), values, rtol=0, atol=0.5 / scale * (1 + 1e-9))


def test_what_is_missing_stays_missing_also_below_another_row():
    values = np.array([[1.0, np.nan, 3.0, np.inf], [1.5, 2.5, np.nan, 4.5], [2.0, 2.0, 2.0, -2.0]])
    store = packing.Store()
    parents = [-1, 0, 1]
    reference = store.add(values, 10, parents=parents)
    page = f'<script type="text/plain" id="block-0">{store.texts()[0]}</script>'
    expected = np.where(np.isfinite(values), values, np.nan)
    np.testing.assert_array_equal(rows(page, reference, parents), expected)


def test_equal_contents_are_there_once_and_large_numbers_refused():
    store = packing.Store()
    first, second = store.add(np.arange(9.0), 1), store.add(np.arange(9.0), 1)
    assert first["block"] == second["block"]
    assert len(store.texts()) == 1
    with pytest.raises(ValueError, match="too large for 100 steps"):
        store.add(np.array([1e9]), 100, exact=True)


def test_slots_are_merged_as_is_said():
    values = np.array([[1.0, 3.0, 5.0, 2.0, 8.0]])
    assert mean(values, 2).tolist() == [[2.0, 3.5, 8.0]]
    assert last(values, 2).tolist() == [[3.0, 2.0, 8.0]]
    assert highest(values, 2).tolist() == [[3.0, 5.0, 8.0]]
    assert lowest(values, 2).tolist() == [[1.0, 2.0, 8.0]]
    assert nearest_to_a_limit(values, 2, np.array([4.0])).tolist() == [[1.0, 2.0, 8.0]]


# --- what is in the page -------------------------------------------------------------------------


def test_series_of_the_community_are_those_of_the_tables(village):
    made, page = village
    (part,) = content(page)["parts"]
    for policy in part["policies"]:
        frame = made.tables[f"slots_{policy}"]
        found = part["series"][policy]
        for quantity in COMMUNITY:
            if quantity.column not in frame:
                continue
            reference = found[quantity.name]
            values = frame[quantity.column].to_numpy(float)
            np.testing.assert_allclose(
                rows(page, reference)[0], values, rtol=0, atol=0.5 / reference["scale"] + 1e-9
            )
        cost = rows(page, found["cost"])[0]
        total = made.summary["kpis"][policy]["total_cost_eur"]
        step = 1 / found["cost"]["scale"]
        assert cost[-1] == pytest.approx(total, abs=0.5 * step + 1e-6)
        paid, gained = frame["cost_eur"] + frame["penalty_eur"], frame["stored_kwh"].diff()
        rise = (paid - made.summary["end_value_eur_per_kwh"] * gained).to_numpy()
        np.testing.assert_allclose(np.diff(cost), rise[1:], rtol=0, atol=step + 1e-6)


def test_bills_are_there_to_the_cent_and_homes_balance(village):
    made, page = village
    (part,) = content(page)["parts"]
    members, size = part["members"], len(made.tables["members"])
    for policy in part["policies"]:
        bills = rows(page, members["bills"][policy])[0]
        np.testing.assert_allclose(bills, made.tables["members"][f"bill_{policy}_eur"], rtol=0, atol=0.005001)
        homes = made.tables[f"homes_{policy}"]
        series = {name: rows(page, reference) for name, reference in members["series"][policy].items()}
        wide = lambda column, homes=homes: homes[column].to_numpy(float).reshape(-1, size).T
        expected = {
            "load": wide("load_kw"),
            "pv": wide("pv_used_kw"),
            "battery": wide("discharge_kw") - wide("charge_kw"),
            "peers": -wide("trade_kw"),
            "undone": wide("unserved_kw") - wide("spilled_kw"),
            "stored": wide("energy_kwh"),
            "price": wide("market_price_eur_per_kwh"),
        }
        assert series.keys() == expected.keys() <= {quantity.name for quantity in MEMBER}
        for name, values in expected.items():
            scale = members["series"][policy][name]["scale"]
            np.testing.assert_allclose(series[name], values, rtol=0, atol=0.5 / scale + 1e-9, err_msg=name)
        # what the page takes for the utility's part: half a step of each of the five others
        utility = series["load"] - sum(series[name] for name in ("pv", "battery", "peers", "undone"))
        np.testing.assert_allclose(utility, wide("buy_kw") - wide("sell_kw"), rtol=0, atol=5 * 0.005 + 1e-6)


def test_the_feeder_is_that_of_the_tables(village):
    made, page = village
    (part,) = content(page)["parts"]
    feeder, tables = part["feeder"], made.tables
    ends = zip(feeder["upper"], feeder["lower"], strict=True)
    found = {(feeder["buses"][a], feeder["buses"][b]) for a, b in ends}
    assert found == set(zip(tables["branches"]["from_bus"], tables["branches"]["to_bus"], strict=True))
    assert sorted(feeder["buses"]) == sorted(tables["buses"]["bus"])
    assert all(above < bus for bus, above in enumerate(feeder["parents"]))
    assert np.min(feeder["places"]) >= 0
    assert np.max(feeder["places"]) == 1
    for policy in part["policies"]:
        volts = tables[f"buses_{policy}"].pivot(index="bus", columns="time", values="ac_voltage_pu")
        shown = rows(page, feeder["voltage"][policy], feeder["parents"])
        np.testing.assert_allclose(shown, volts.loc[feeder["buses"]], rtol=0, atol=0.5e-4 + 1e-7)
        loads = tables[f"branches_{policy}"].pivot(index="branch", columns="time", values="ac_loading")
        shown = rows(page, feeder["loading"][policy])
        np.testing.assert_allclose(shown, loads.loc[feeder["branches"]], rtol=0, atol=0.0025 + 1e-7)


def test_limits_in_use_are_added_up(village):
    made, _ = village
    limits = pd.DataFrame(
        {
            "limit": ["line 1", "line 1", "bus <2>", "line 1"],
            "side": ["upper", "upper", "upper", "lower"],
            "price_eur_per_kwh": [0.1, 0.3, 2.0, 0.1],
            "relief": ["1 kW", "1 kW", "0.01 p.u.", "1 kW"],
            "relief_eur_per_h": [0.1, 0.3, 20.0, 0.2],
        }
    )
    tables = made.tables | {"limits_lyapunov": limits, "limits_greedy": limits[:0]}
    made = replace(made, tables=tables)
    view = limits_in_use(made, "lyapunov")
    assert [(name, cells) for _, name, cells in view.rows] == [
        ("bus <2>", ["upper", "0.25", "0.01 p.u.", "5.00"]),  # quarter hours
        ("line 1", ["upper", "0.50", "1 kW", "0.10"]),
        ("line 1", ["lower", "0.25", "1 kW", "0.05"]),
    ]
    assert limits_in_use(made, "greedy") is None
    assert limits_in_use(made, "no_trade") is None
    page = page_of(made)
    assert page.count("<caption>Limits of the grid in use") == 1
    assert "bus &lt;2&gt;" in page


def test_curves_of_lorenz_by_hand():
    shares = curve(np.array([3.0, 1.0, 0.0, 4.0]))
    assert [shares[at] for at in (0, 25, 50, 75, 100)] == [0, 0, 0.125, 0.5, 1]
    assert shares[60] == pytest.approx(0.125 + 0.4 * 0.375)
    assert curve(np.zeros(3)) is None
    assert min(curve(np.array([-1.0, 3.0]))) == -0.5


# --- size ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def week():
    return results("rural3", days=7)


def test_a_week_of_153_members_and_all_policies_is_below_a_megabyte(week):
    page = page_of(week)
    assert len(page.encode()) <= LIMIT_MB * 1e6 == 1e6
    (part,) = content(page)["parts"]
    assert len(part["policies"]) == 9
    assert len(part["members"]["ids"]) == 153
    assert part["step"] == 900  # the community is there slot by slot
    merged = part["part"] // part["slot"]
    assert 1 < merged <= 8
    policy = part["favourite"]
    load = week.tables[f"homes_{policy}"]["load_kw"].to_numpy(float).reshape(672, 153).T
    shown = rows(page, part["members"]["series"][policy]["load"])
    np.testing.assert_allclose(shown, mean(load, merged), rtol=0, atol=0.005 + 1e-9)
    loading = week.tables[f"branches_{policy}"]["ac_loading"].to_numpy(float).reshape(672, -1).T
    shown = rows(page, part["feeder"]["loading"][policy])
    np.testing.assert_allclose(shown, highest(loading, merged), rtol=0, atol=0.0025 + 1e-7)


def test_what_does_not_fit_is_left_out_and_said(week):
    page = page_of(week, limit_mb=0.22)
    (part,) = content(page)["parts"]
    assert len(page.encode()) < 0.22e6
    assert part["part"] is None
    assert part["members"]["series"] is None
    assert part["feeder"] is None
    assert len(part["members"]["bills"]) == 9
    assert page.count("--limit 10") == 2
    # and the community is merged over slots
    merged = part["step"] // 900
    assert merged > 1
    volts = week.tables["slots_lyapunov"]["ac_voltage_min_pu"].to_numpy(float)[None]
    shown = rows(page, part["series"]["lyapunov"]["voltage_min"])
    np.testing.assert_allclose(shown, lowest(volts, merged), rtol=0, atol=0.5e-4 + 1e-9)


def test_without_tables_of_homes_there_are_bills_only():
    page = page_of(results("rural1", days=0.5, homes=False))
    (part,) = content(page)["parts"]
    assert part["feeder"] is None
    assert part["members"]["series"] is None
    assert page.count("jaxp2p run ... --per-home") == 2
    assert "data-map>" not in page


# --- names and texts -----------------------------------------------------------------------------


class Elements(HTMLParser):
    """Elements of a page, as a browser would see them, and the text outside scripts and styles."""

    def __init__(self):
        super().__init__()
        self.tags, self.ids, self.text, self.open = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.ids += [value for name, value in attributes if name == "id"]
        self.open.append(tag)

    def handle_endtag(self, tag):
        self.open.append("/" + tag)

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text.append(data)


def test_names_are_text_whatever_they_look_like():
    plain, nasty = (results("rural1", days=0.5, nasty=nasty) for nasty in (False, True))
    seen = []
    for made in (plain, nasty):
        elements = Elements()
        elements.feed(html_page([Part(name=made.summary["case"], content=made)]).decode())
        seen.append(elements)
    assert seen[0].tags == seen[1].tags  # no element more or less
    assert "injected" not in seen[1].ids
    assert "<i>case</i>" in "".join(seen[1].text)
    page = page_of(nasty)
    (data,) = re.findall(r'id="page-data">(.*?)</script>', page, flags=re.S)
    assert "<" not in data  # nothing that could end the element, or hide its end
    (part,) = content(page)["parts"]
    assert part["members"]["ids"][: len(NASTY)] == list(NASTY)
    assert set(NASTY) <= set(part["feeder"]["buses"])


def test_ids_are_unique_and_nothing_is_loaded(village):
    made, _ = village
    page = page_of(made, made)
    elements = Elements()
    elements.feed(page)
    assert len(elements.ids) == len(set(elements.ids))
    assert "default-src 'none'" in page
    outside = re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:|//)""", outside)
    assert not re.search(r"""url\((?!["']?data:)""", outside)


def test_settings_that_differ_are_side_by_side(village):
    made, _ = village
    other = replace(made, summary=made.summary | {"made_from": {"input": "rural1", "fee": 0.02}})
    page = page_of(
        replace(made, summary=made.summary | {"made_from": {"input": "rural1", "fee": None}}), other
    )
    (table,) = re.findall(
        r"<caption>Settings in which the runs differ</caption>(.*?)</table>", page, flags=re.S
    )
    assert re.findall(r'<th scope="row">(.*?)</th>', table) == ["fee"]
    assert re.findall(r"<td>(.*?)</td>", table) == ["not set", "0.02"]
    assert page.count("<article") == 2


def test_settings_are_those_of_the_run_and_name_no_folder(village):
    made, page = village
    assert "Settings of the run" not in page  # nobody gave any
    record = {
        "input": "/home/somebody/my village",
        "fee": None,
        "days": 7.0,
        "network": True,
        "end_value": 0.25,
    }
    summary = made.summary | {"made_from": record, "seed": 3, "settings": {"synthetic": ["prices", "cars"]}}
    page = page_of(replace(made, summary=summary))
    (table,) = re.findall(r"<caption>Settings of the run</caption>(.*?)</table>", page, flags=re.S)
    rows_ = re.findall(r'<th scope="row">(.*?)</th><td>(.*?)</td>', table)
    assert dict(rows_) == {
        "input": "my village",
        "fee": "not set",
        "days": "7",
        "network": "yes",
        "end value": "0.25",
        "synthetic": "prices, cars",
        "seed": "3",
    }
    assert "/home" not in page


def test_policies_of_anybody_have_names_and_colours():
    made = results("rural1", days=0.25, policies=("mine", "lyapunov"))
    looks = content(page_of(made))["policies"]
    assert looks["mine"]["label"] == "mine"
    assert re.fullmatch("#[0-9A-F]{6}", looks["mine"]["colour"])
    assert looks["mine"]["colour"] != looks["lyapunov"]["colour"]


# --- command, library, files ---------------------------------------------------------------------


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def study(path):
    chosen = fake_study.settings()
    with open_study(path, chosen) as folder:
        run_chunks(folder, fake_study.FakeWork(settings=chosen, traces=False))
    return path


def test_the_command_writes_runs_and_studies(village, tmp_path):
    run = stored(tmp_path / "run", village[0])
    done = call("report", run)
    assert done.exit_code == 0, done.output
    assert "open it in a browser" in done.output
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "<title>rural1, 1 day from 2016-07-04, bilateral market" in page
    done = call("report", run, study(tmp_path / "study"), "--out", tmp_path / "both.html")
    assert done.exit_code == 0, done.output
    parts = content((tmp_path / "both.html").read_text(encoding="utf-8"))["parts"]
    assert [(part["name"], part["kind"]) for part in parts] == [("run", "run"), ("study", "study")]


def test_a_study_names_no_folder(tmp_path):
    source = fake_study.SOURCE | {"name": "/home/somebody/my village"}
    chosen = fake_study.settings(source=source)
    with open_study(tmp_path / "study", chosen) as folder:
        run_chunks(folder, fake_study.FakeWork(settings=chosen, traces=False))
    page = jaxp2p.html_report(tmp_path / "study.html", tmp_path / "study").read_text(encoding="utf-8")
    assert "<h1>my village, 34 scenarios of 7 days, pool market</h1>" in page
    assert "/home" not in page


def test_a_study_has_its_quantiles(tmp_path):
    made = study(tmp_path / "study")
    file = jaxp2p.html_report(tmp_path / "study.html", made)
    (part,) = content(file.read_text(encoding="utf-8"))["parts"]
    for policy, shown in part["quantiles"].items():
        count = 13 if policy == "perfect_foresight" else 34
        costs = [fake_study.figures(5, scenario, policy)["cost_eur"] for scenario in range(count)]
        np.testing.assert_allclose(shown, np.quantile(costs, np.linspace(0, 1, 101)), rtol=0, atol=0.00501)
        assert part["convergence"][policy]["scenarios"][-1] == count
        assert part["convergence"][policy]["mean"][-1] == pytest.approx(np.mean(costs), abs=0.00501)


def test_folders_that_are_no_results_are_refused(village, tmp_path):
    assert "there is no folder" in call("report", tmp_path / "nowhere").output
    (tmp_path / "empty").mkdir()
    done = call("report", tmp_path / "empty")
    assert done.exit_code == 2
    assert "neither a run nor a study" in done.output
    other = tmp_path / "other"
    other.mkdir()
    (other / "summary.json").write_text("{}")
    assert "not a summary of jaxp2p results" in call("report", other).output
    hosting = village[0].summary | {"tables": ["ways"], "format": "parquet"}
    (other / "summary.json").write_text(json.dumps(hosting))
    assert "no figures of a run" in call("report", other).output
    with open_study(tmp_path / "study", fake_study.settings()):
        pass
    done = call("report", tmp_path / "study")
    assert done.exit_code == 2
    assert "no finished scenarios" in done.output
    run = stored(tmp_path / "run", village[0])
    assert "there is no folder" in call("report", run, "--out", tmp_path / "no" / "file.html").output
    assert call("report").exit_code == 2
    with pytest.raises(ValueError, match="at least one"):
        jaxp2p.html_report(tmp_path / "none.html")
    assert not list(tmp_path.rglob("*.html"))


def test_a_report_in_the_folder_does_not_keep_results_from_being_replaced(village, tmp_path):
    from jaxp2p.report.folders import check_target

    run = stored(tmp_path / "run", village[0])
    assert call("report", run).exit_code == 0
    assert check_target(run) == run


@pytest.mark.slow
def test_a_result_writes_itself(tmp_path):
    day = jaxp2p.run(
        jaxp2p.build(load_case("rural1"), days=0.25, market="pool"), policies=["no_storage", "lyapunov"]
    )
    page = day.to_html(tmp_path / "day.html").read_text(encoding="utf-8")
    (part,) = content(page)["parts"]
    bills = rows(page, part["members"]["bills"]["lyapunov"])[0]
    np.testing.assert_allclose(bills, day.members()["bill_lyapunov_eur"], rtol=0, atol=0.005001)
    assert part["feeder"] is not None


def test_the_vendored_library_is_the_one_that_is_named():
    script = (VENDORED / "uplot" / "uPlot.iife.min.js").read_text()
    (version,) = re.findall(r"\(v([\d.]+)\) \*/", script[:200])
    assert f"| {version} |" in (VENDORED / "README.md").read_text()
    assert "MIT" in (VENDORED / "uplot" / "LICENSE").read_text()
    assert "</script" not in script
