"""One catalogue of policies: what it names exists, and everybody who shows or runs policies follows it."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxp2p as jp
from jaxp2p.control import catalogue
from jaxp2p.control.catalogue import CATALOGUE, ENTRIES, MPC_POLICIES, POLICIES, WITH_VEHICLES
from jaxp2p.control.charging import RULES as CHARGING
from jaxp2p.control.policy import BATTERIES, CONTROLLED, made
from jaxp2p.planning.forecasts import FORECASTS
from jaxp2p.runs.runner import make_policies

RECIPE = (Path(__file__).parents[1] / "docs" / "cookbook" / "control.md").read_text()
ONLINE = [entry for entry in CATALOGUE if entry.batteries]


@pytest.fixture(scope="module", params=[0.0, 0.5], ids=["nobody has a vehicle", "vehicles"])
def case(request):
    return jp.build(jp.load_case("rural1", ev_share=request.param), days=0.1, market="pool")


def test_every_entry_has_a_name_words_and_colour_of_its_own():
    for field in ("name", "words", "colour"):
        assert len({getattr(entry, field) for entry in CATALOGUE}) == len(CATALOGUE)
    assert all(
        re.fullmatch(r"[a-z_]+", e.name) and re.fullmatch(r"#[0-9A-F]{6}", e.colour) for e in CATALOGUE
    )


def test_every_policy_is_decided_in_one_way():
    """By a rule or value in every slot, by plans, in hindsight, or by a controller."""
    for e in CATALOGUE:
        assert bool(e.batteries) + bool(e.forecast) + e.hindsight + (e.name == catalogue.TUNED) == 1, e.name


def test_what_the_entries_name_exists_and_is_all_there_is():
    assert {e.batteries for e in ONLINE} == {*BATTERIES, *CONTROLLED}
    assert {e.charging for e in CATALOGUE} == set(CHARGING)
    assert set(MPC_POLICIES.values()) <= set(FORECASTS)


def test_who_has_no_vehicle_is_asked_for_none():
    assert POLICIES[-1] == WITH_VEHICLES[-1] == catalogue.OPTIMUM
    assert tuple(name for name in WITH_VEHICLES if name in POLICIES) == POLICIES
    assert set(WITH_VEHICLES) - set(POLICIES) == {"charge_at_once", "charge_on_surplus", "cheapest_slots"}


def test_the_policies_of_a_community_are_those_of_the_catalogue_in_its_order(case):
    found = make_policies(case.community, case.horizon)
    usual = catalogue.usual(vehicles=case.community.prosumers.vehicles is not None)
    assert [*found, catalogue.OPTIMUM] == list(usual)
    # what only charging or trade tells apart is the same otherwise
    lyapunov = found["lyapunov"]
    for entry in ONLINE:
        if entry.batteries == "lyapunov" and entry.name in found:
            other = found[entry.name]
            assert float(other.trade) == entry.trade
            same = replace(other, trade=lyapunov.trade, charging=lyapunov.charging)
            assert jax.tree.all(jax.tree.map(np.array_equal, same, lyapunov))


def test_a_new_entry_is_a_policy(case):
    """No other file need know of it."""
    entry = replace(ENTRIES["self_consumption"], name="alone", trade=False)
    policy = made(entry, case.community.size, case.horizon.load.dtype)
    assert (float(policy.trade), int(policy.rule), float(policy.storage)) == (0, 1, 1)


def test_the_cookbook_says_how_vehicles_charge_under_every_policy():
    """Policies that charge alike share a row of its table."""
    text = RECIPE.split("| policy | vehicles |")[1].split("\n\n")[0]
    rows = [line.split("|")[1].strip().split(", ") for line in text.strip().splitlines()[1:]]
    named = [name for row in rows for name in row]
    assert sorted(named) == sorted(ENTRIES)
    assert all(len({ENTRIES[name].charging for name in row}) == 1 for row in rows)


def test_the_catalogue_is_light():
    """The help of a command reads it."""
    code = (
        "import sys, jaxp2p.control.catalogue; assert not {'jax', 'numpy', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
