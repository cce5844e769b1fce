"""`jaxp2p report` in a real Chromium: no error, all drawn, slider and choosers by keyboard, no network.

Skipped where there is no Chromium, or no Playwright to drive it (`pip install ".[browser]"`).
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import replace

import fake_study
import numpy as np
import pytest
from html_pages import results

from jaxp2p.report.html.page import Part, html_page
from jaxp2p.studies.folder import open_study
from jaxp2p.studies.part import study_part
from jaxp2p.studies.schedule import run_chunks

playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright here: pip install '.[browser]'")

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    alone = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=found, args=alone)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def made():
    return results("rural1", days=2)


@pytest.fixture(scope="module")
def files(made, tmp_path_factory):
    """Pages by name."""
    folder = tmp_path_factory.mktemp("pages")
    chosen = fake_study.settings()
    with open_study(folder / "study", chosen) as study:
        run_chunks(study, fake_study.FakeWork(settings=chosen, traces=False))
        part = study_part(study)
    one, short = Part(name="two days", content=made), results("rural1", days=0.5, homes=False)
    pages = {
        "run": [one],
        "study": [Part(name="a study", content=part)],
        "several": [one, Part(name="bills only", content=short), Part(name="a study", content=part)],
        "nasty": [Part(name="x", content=results("rural1", days=0.5, nasty=True))],
    }
    for name, parts in pages.items():
        (folder / f"{name}.html").write_bytes(html_page(parts))
    return folder


@pytest.fixture
def show(browser, files):
    """Opens a page and waits until all is drawn; complaints, and what is asked of a network, are faults."""
    contexts, faults = [], []

    def shown(name, viewport=DESK, **options):
        context = browser.new_context(viewport=viewport, **options)
        contexts.append(context)
        page = context.new_page()
        page.on(
            "console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "request",
            lambda asked: (
                None if asked.url.startswith(("file:", "data:", "blob:")) else faults.append(asked.url)
            ),
        )
        page.goto((files / f"{name}.html").as_uri())
        page.wait_for_selector("html[data-ready]")
        return page

    yield shown
    for context in contexts:
        context.close()
    assert faults == []


def caption(page, chart):
    return page.locator(f'article:not([hidden]) [data-chart="{chart}"] figcaption').inner_text()


def reach(page, selector, key="Tab", most=80):
    """Presses a key until an element has the focus, as somebody without a mouse would."""
    for _ in range(most):
        page.keyboard.press(key)
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{selector} cannot be reached by {key}")


@pytest.mark.parametrize("name", ["run", "study", "several", "nasty"])
@pytest.mark.parametrize(("viewport", "scheme"), [(DESK, "light"), (PHONE, "dark")])
def test_every_page_is_drawn_and_fits(show, tmp_path, name, viewport, scheme):
    page = show(name, viewport, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    assert not page.locator("#trouble").is_visible()
    drawn = page.locator("article:not([hidden]) figure.chart:not([hidden]) canvas").count()
    assert drawn >= (2 if name == "study" else 12)
    assert page.locator("article:not([hidden]) figure.chart:not([hidden])").count() == drawn
    file = tmp_path / f"{name}-{viewport['width']}-{scheme}.png"
    page.screenshot(path=file, full_page=True)
    assert file.stat().st_size > 50_000
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background)[:3])) < 150) == (scheme == "dark")


def test_the_slider_moves_the_map(show, made):
    page = show("run")
    slider, reading = page.locator(".slider"), page.locator(".reading")
    colours = lambda: page.evaluate(
        "[...document.querySelectorAll('.bus-mark')].map((x) => x.getAttribute('fill'))"
    )
    slider.focus()
    page.keyboard.press("Home")
    assert slider.get_attribute("aria-valuetext") == "Mon 4 Jul 00:00 to 00:15"
    before, first = colours(), reading.inner_text()
    for _ in range(50):
        page.keyboard.press("ArrowRight")
    assert slider.input_value() == "50"
    assert colours() != before
    said = reading.inner_text()
    assert said != first
    assert said.startswith("Mon 4 Jul 12:30 to 12:45")
    slots = made.tables["slots_lyapunov"].iloc[50]
    low, high = map(float, re.search(r"voltage ([\d.]+) .* to ([\d.]+) p\.u\.", said).groups())
    assert (low, high) == pytest.approx((slots["ac_voltage_min_pu"], slots["ac_voltage_max_pu"]), abs=1.01e-4)
    page.keyboard.press("End")
    assert slider.input_value() == "191"
    page.locator(".worst").press("Enter")
    assert slider.input_value() != "191"


def test_the_map_plays_and_stops(show):
    page = show("run")
    play, slider = page.locator(".play"), page.locator(".slider")
    before = slider.input_value()
    play.press("Enter")
    assert play.get_attribute("aria-pressed") == "true"
    page.wait_for_function("before => document.querySelector('.slider').value !== before", arg=before)
    play.press("Enter")
    stopped = slider.input_value()
    page.wait_for_timeout(300)
    assert slider.input_value() == stopped


def test_policy_member_bus_and_branch_are_chosen_by_keyboard(show, made):
    page = show("run")
    reach(page, "#policy")
    assert page.locator("#policy").input_value() == "lyapunov"
    page.keyboard.type("perfect")
    page.wait_for_function(
        "document.querySelector('[data-chart=power] .of').textContent === 'perfect foresight'"
    )
    tile = page.locator(".of-policy:not([hidden]) dd").first.inner_text()
    assert tile.startswith(f"{made.summary['kpis']['perfect_foresight']['total_cost_eur']:,.2f}")
    reach(page, "select.bus")
    page.keyboard.press("End")
    last = page.locator("select.bus option").last.inner_text()
    assert last in caption(page, "bus")
    reach(page, "select.branch")
    page.keyboard.press("Home")
    assert page.locator("select.branch option").first.inner_text() in caption(page, "branch")
    reach(page, "select.member")
    page.keyboard.press("End")
    member = made.tables["members"].iloc[-1]
    page.wait_for_function(
        "name => document.querySelector('[data-chart=member] .of').textContent.startsWith(name)",
        arg=member["member"],
    )
    cells = page.locator(".member-bills tr", has_text="perfect foresight").locator("td").all_inner_texts()
    bill, alone = (member[f"bill_{policy}_eur"] for policy in ("perfect_foresight", "no_storage_no_trade"))
    assert cells[0] == f"{bill:z,.2f}"
    assert float(cells[1]) == pytest.approx(alone - bill, abs=0.0101)


def test_the_utility_delivers_what_the_others_leave(show, made):
    page = show("run")
    lines = page.evaluate(
        """Object.fromEntries(charts.get(document.querySelector('[data-chart=member]')).spec.series
        .map((one) => [one.label, one.values]))"""
    )
    homes = made.tables["homes_lyapunov"]
    homes = homes[homes["member"] == made.tables["members"]["member"].iloc[0]]
    utility = lines["bought from the utility"]
    assert utility[-2] == utility[-1]  # the last slot is drawn to its end
    np.testing.assert_allclose(utility[:-1], homes["buy_kw"] - homes["sell_kw"], rtol=0, atol=0.026)
    np.testing.assert_allclose(lines["load"][:-1], homes["load_kw"], rtol=0, atol=0.00501)


def test_days_legends_and_numbers_by_keyboard(show):
    page = show("run")
    reach(page, "#days")
    page.keyboard.press("ArrowDown")
    ends = page.evaluate(
        "(() => { const {min, max} = [...charts.values()][0].plot.scales.x; return [min, max]; })()"
    )
    assert ends == [1467590400, 1467676800]  # Monday, 4 July 2016
    head = page.locator('[data-chart="power"] .u-legend th[role=button]').first
    assert head.get_attribute("aria-pressed") == "true"
    head.press("Enter")
    page.wait_for_function(
        "document.querySelector('[data-chart=power] .u-legend th[role=button]').ariaPressed === 'false'"
    )
    numbers = page.locator('[data-chart="power"] .numbers')
    numbers.locator("summary").press("Enter")
    numbers.locator("table").wait_for()
    assert numbers.locator("tbody tr").count() == 2  # days
    assert "Mean of every day, in kW" in numbers.inner_text()


def test_members_are_sorted_and_found(show, made):
    page = show("run")
    table = page.locator(".member-table")
    table.get_by_role("button", name="PV kW").press("Enter")
    table.get_by_role("button", name="PV kW").press("Enter")
    assert table.locator('th[aria-sort="descending"]').inner_text() == "PV kW"
    most = made.tables["members"]["pv_kw"].max()
    assert table.locator("tbody tr").first.locator("td").nth(1).inner_text() == f"{most:,.1f}"
    name = made.tables["members"]["member"].iloc[7]
    page.locator(".find").fill(name)
    found = table.locator("tbody th").all_inner_texts()
    assert found == [member for member in found if name in member]
    assert name in found


def test_a_bus_and_a_branch_are_chosen_on_the_map(show):
    page = show("run")
    page.locator("circle.bus-mark").nth(3).click()
    name = page.locator("select.bus option").nth(4).inner_text()  # the first bus is the slack's square
    assert name in caption(page, "bus")
    page.locator("line.branch-mark").first.dispatch_event("click")
    assert page.locator("select.branch").input_value() == "0"


def test_a_chosen_member_is_shown_on_the_map(show, made):
    page = show("run")
    member = made.tables["members"].iloc[5]
    page.locator("select.member").select_option("5")
    assert page.locator("select.bus option:checked").inner_text() == member["bus"]
    assert member["member"] in caption(page, "bus")


def test_slots_without_a_power_flow_are_grey(browser, made, tmp_path):
    tables = dict(made.tables)
    for name, column in (("buses_lyapunov", "ac_voltage_pu"), ("branches_lyapunov", "ac_loading")):
        frame = tables[name].copy()
        frame.loc[frame["time"] == frame["time"].iloc[0], column] = np.nan
        tables[name] = frame
    file = tmp_path / "page.html"
    file.write_bytes(html_page([Part(name="x", content=replace(made, tables=tables))]))
    page = browser.new_page()
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-ready]")
    assert page.locator(".slider").input_value() != "0"  # the tightest slot is one that is known
    page.locator(".slider").press("Home")
    assert page.locator(".reading").inner_text().endswith("the power flow has no solution.")
    fills = page.evaluate(
        "[...new Set([...document.querySelectorAll('.bus-mark')].map((x) => x.getAttribute('fill')))]"
    )
    assert len(fills) == 1
    page.close()


def test_what_is_outside_its_limits_has_a_mark(browser, made, tmp_path):
    volts, loads = (made.tables[name].copy() for name in ("buses_lyapunov", "branches_lyapunov"))
    first = made.tables["slots_lyapunov"]["time"].iloc[0]
    high, low = made.tables["buses"]["bus"].iloc[[3, 4]]
    volts.loc[(volts["time"] == first) & (volts["bus"] == high), "ac_voltage_pu"] = 1.1002
    volts.loc[(volts["time"] == first) & (volts["bus"] == low), "ac_voltage_pu"] = 0.8998
    line = made.tables["branches"]["branch"].iloc[2]
    loads.loc[(loads["time"] == first) & (loads["branch"] == line), "ac_loading"] = 1.2
    tables = made.tables | {"buses_lyapunov": volts, "branches_lyapunov": loads}
    file = tmp_path / "page.html"
    file.write_bytes(html_page([Part(name="x", content=replace(made, tables=tables))]))
    page = browser.new_page()
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-ready]")
    assert page.locator(".slider").input_value() == "0"  # the tightest slot
    assert "3 outside their limits" in page.locator(".reading").inner_text()
    assert page.locator('.out[visibility="visible"]').count() == 2
    assert page.locator('line.over:not([stroke-width="0"])').count() == 1
    page.locator(".slider").press("ArrowRight")
    assert "nothing outside" in page.locator(".reading").inner_text()
    assert page.locator('.out[visibility="visible"]').count() == 0
    page.close()


def test_several_results_are_chosen(show):
    page = show("several")
    assert page.locator("#comparison table").count() >= 3
    page.locator("#part").focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_function("!document.querySelectorAll('article')[1].hidden")
    assert page.locator("article:not([hidden])").count() == 1
    assert "--per-home" in page.locator("article:not([hidden]) .hint").first.inner_text()
    page.keyboard.press("ArrowDown")
    page.wait_for_function("!document.querySelectorAll('article')[2].hidden")
    page.wait_for_selector("article:not([hidden]) [data-chart=distribution] canvas")
    assert not page.locator("#days").is_visible()


@pytest.mark.parametrize("name", ["run", "study", "several"])
def test_everything_has_a_name_for_screen_readers(show, name):
    page = show(name)
    unnamed = page.evaluate(
        """[...document.querySelectorAll('select, input, button')].filter((x) => x.offsetParent &&
        !x.labels?.length && !x.ariaLabel && !x.textContent.trim()).map((x) => x.outerHTML)"""
    )
    assert unnamed == []
    tables = "[...document.querySelectorAll('table:not(.u-legend)')].filter((x) => !x.caption?.textContent)"
    assert page.evaluate(f"{tables}.length") == 0
    silent = (
        "[...document.querySelectorAll('[role=img]')].filter((x) => !x.getAttribute('aria-label')).length"
    )
    assert page.evaluate(silent) == 0


def test_on_paper_it_is_light_and_has_no_controls(show, tmp_path):
    page = show("run", color_scheme="dark")
    file = tmp_path / "run.pdf"
    page.pdf(path=file, format="A4")
    assert len(re.findall(rb"/Type\s*/Page\b", file.read_bytes())) >= 5
    page.emulate_media(media="print", color_scheme="dark")
    assert not page.locator("#policy").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
