"""Fairness of a run: from its tables, in Python and on the command line; what is refused."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from fake_runs import fake_run
from typer.testing import CliRunner
from villages import village

import jaxp2p as jp
from jaxp2p.cli import app
from jaxp2p.fairness.game import PoolGame
from jaxp2p.fairness.judgement import Judgement, Split
from jaxp2p.fairness.least_core import LeastCore
from jaxp2p.fairness.measures import Measures
from jaxp2p.fairness.shapley import Shapley, enumerated
from jaxp2p.fairness.statement import Statement
from jaxp2p.report.fairness import Judged, fairness_report, fairness_text, statements_of, write_fairness
from jaxp2p.report.results import Results

FEE = 0.01
POLICIES = ("no_storage_no_trade", "no_trade", "no_storage", "lyapunov")


@pytest.fixture(scope="module")
def result():
    """Three homes for a day; a pool whose price is somewhere between the tariffs."""
    case = jp.build(village(), days=1, market="pool", fee=FEE, dtype="float64")
    return jp.Result(case=case, run=fake_run(case.community, case.horizon, policies=POLICIES))


@pytest.fixture(scope="module")
def street():
    """28 homes for half a day: more than all coalitions are looked at."""
    case = jp.build("rural1", days=0.5, market="pool")
    return jp.Result(case=case, run=fake_run(case.community, case.horizon, policies=POLICIES))


@pytest.fixture(scope="module")
def folder(street, tmp_path_factory):
    return street.save(tmp_path_factory.mktemp("runs") / "street", homes=True)


def on_paper():
    """Three members, two slots at 1 EUR/kW, a market that made 5.4 of 6 EUR; no number is like another."""
    game = PoolGame(np.ones(2), np.array([[4.0, -1, -2], [2, -3, 2]]))
    array = lambda *values: np.array(values, float)
    cents = lambda *values: np.array(values, np.int64)
    return Judged(
        judgement=Judgement(
            policy="lyapunov",
            against="no_trade",
            statements={
                "no_trade": Statement(array(12, 21, -1), array(0, 0, 0), game),
                "lyapunov": Statement(array(10, 20, -3), array(3.5, 1.2, 0.7), game),
            },
            benefits={"no_trade": array(0, 0, 0), "lyapunov": array(2, 1, 2)},
            measures={
                "no_trade": Measures(0, 0, 0, 0, 0, 0, 0, None),
                "lyapunov": Measures(5.01, 1.67, 1.25, -0.4, 3.1, 0.33, 0.45, 0.21),
            },
            splits={
                "market": Split(array(3.5, 1.2, 0.7), cents(0, 0, 0), 0.6),
                "equal": Split(array(1.8, 1.8, 1.8), cents(-170, 60, 110), 0.3),
                "shapley": Split(array(1.95, 1.95, 1.5), cents(-155, 75, 80), 0.2),
                "least_core": Split(array(2.25, 1.8, 1.35), cents(-125, 60, 65), 0.1),
            },
            shapley=Shapley(array(2.2, 2.1, 1.7), array(0.03, 0.06, 0.09), 128, 6.0),
            core=LeastCore(array(2.5, 2, 1.5), -1.5, -1.25, 7, 6.0),
        ),
        members=("A", "B", "C"),
        case="paper",
        span="1 day from 2016-07-04, pool market",
    )


def spread(mean, median, least, most, gini):
    """Of 5.4 EUR without anybody who loses."""
    return {
        "benefit_eur": 5.4,
        "benefit_mean_eur": mean,
        "benefit_median_eur": median,
        "benefit_min_eur": least,
        "benefit_max_eur": most,
        "worse_off_share": 0,
        "worse_off_eur": 0,
        "benefit_gini": gini,
    }


# Gini of b <= c <= d: 2 (d - b) over 9 times the mean
ON_PAPER = {
    "version": jp.__version__,
    "case": "paper",
    "policy": "lyapunov",
    "against": "no_trade",
    "prosumers": 3,
    "benefit_eur": 5.4,
    "pooled_eur": 6,  # 3 and 3 kW
    "shapley": {"permutations": 128, "error": 0.03, "largest_error": 0.015},
    "least_core": {"epsilon_eur": -1.5, "claim_eur": -1.25, "coalitions": 7, "exact": False},
    "policies": {
        "no_trade": dict.fromkeys(spread(0, 0, 0, 0, 0), 0) | {"benefit_gini": None, "pooled_eur": 6},
        "lyapunov": {
            "benefit_eur": 5.01,
            "benefit_mean_eur": 1.67,
            "benefit_median_eur": 1.25,
            "benefit_min_eur": -0.4,
            "benefit_max_eur": 3.1,
            "worse_off_share": 0.33,
            "worse_off_eur": 0.45,
            "benefit_gini": 0.21,
            "pooled_eur": 6,
        },
    },
    "splits": {
        "market": spread(1.8, 1.2, 0.7, 3.5, 5.6 / 16.2) | {"transferred_eur": 0, "claim_eur": 0.6},
        "equal": spread(1.8, 1.8, 1.8, 1.8, 0) | {"transferred_eur": 1.7, "claim_eur": 0.3},
        "shapley": spread(1.8, 1.95, 1.5, 1.95, 0.9 / 16.2) | {"transferred_eur": 1.55, "claim_eur": 0.2},
        "least_core": spread(1.8, 1.8, 1.35, 2.25, 1.8 / 16.2) | {"transferred_eur": 1.25, "claim_eur": 0.1},
    },
}
MEMBERS_ON_PAPER = {
    "bill_alone_eur": [13.5, 21.2, -2.3],
    "bill_market_eur": [10, 20, -3],
    "bill_equal_eur": [11.7, 19.4, -4.1],
    "bill_shapley_eur": [11.55, 19.25, -3.8],
    "bill_least_core_eur": [11.25, 19.4, -3.65],
    "benefit_market_eur": [3.5, 1.2, 0.7],
    "benefit_equal_eur": [1.8, 1.8, 1.8],
    "benefit_shapley_eur": [1.95, 1.95, 1.5],
    "benefit_least_core_eur": [2.25, 1.8, 1.35],
    "shapley_eur": [2.2, 2.1, 1.7],
    "shapley_half_width_eur": [0.03, 0.06, 0.09],
    "transfer_equal_eur": [-1.7, 0.6, 1.1],
    "transfer_shapley_eur": [-1.55, 0.75, 0.8],
    "transfer_least_core_eur": [-1.25, 0.6, 0.65],
}


def near(found, expected):
    """Nested dictionaries with the same keys in the same order."""
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for key, value in expected.items():
            near(found[key], value)
    elif isinstance(expected, str | None):
        assert found == expected
    else:
        assert found == pytest.approx(expected, abs=1e-12)


def test_every_table_and_number_on_paper(tmp_path):
    near(fairness_report(on_paper()), ON_PAPER)
    write_fairness(tmp_path, on_paper(), made_from={"seed": 3}, pictures=False)
    summary = json.loads((tmp_path / "summary.json").read_text())
    rest = {"made_from": {"seed": 3}, "tables": ["fair_members", "policies", "splits"], "format": "csv"}
    near(summary, {"kind": "jaxp2p-results", **ON_PAPER, **rest})
    members = pd.read_csv(tmp_path / "fair_members.csv", index_col="member")
    assert list(members.columns) == list(MEMBERS_ON_PAPER) and list(members.index) == ["A", "B", "C"]
    for name, values in MEMBERS_ON_PAPER.items():
        np.testing.assert_allclose(members[name], values, atol=1e-12, err_msg=name)
    for table in ("policies", "splits"):
        frame = pd.read_csv(tmp_path / f"{table}.csv", index_col=0).astype(object)
        near(frame.where(frame.notna(), None).to_dict("index"), ON_PAPER[table])


def test_what_is_printed_on_paper():
    lines = fairness_text(on_paper()).splitlines()
    assert lines[0] == "Benefit of every policy against no_trade"
    row = lambda name: next(line.split() for line in lines if line.startswith(name))
    assert row("lyapunov") == ["lyapunov", "5.01", "1.67", "1.25", "-0.40", "33.0", "0.45", "0.210"]
    assert row("market") == "market 5.40 1.80 1.20 0.70 0.0 0.00 0.346 0.00 0.60".split()  # noqa: SIM905
    assert row("B ") == "B 21.20 20.00 19.40 19.25 19.40 2.10 0.060".split()  # noqa: SIM905
    text = " ".join(" ".join(lines).split())
    assert "the market made 5.40 EUR of the 6.00 EUR" in text
    assert "128 orders, +- 3 % of the total benefit for all members together, at most 1.5 % for one" in text
    assert "no payoffs bring all claims below -1.5000 EUR (7 coalitions" in text


def call(*arguments):
    return CliRunner().invoke(app, ["fairness", *map(str, arguments)])


def test_benefits_are_the_bills_alone_less_those_of_the_market(result):
    """With the same devices every kW of the meter is dealt with the utility, and nobody pays a peer."""
    case, found = result.case, jp.fairness_of(result)
    buy, sell = (np.asarray(x, float)[:, None] for x in (case.horizon.price_buy, case.horizon.price_sell))
    for name, made in found.judgement.statements.items():
        done = result.trajectory(name)
        power = np.asarray(done.injection, float)
        alone = (0.25 * (buy * np.maximum(-power, 0) - sell * np.maximum(power, 0))).sum(0)
        fees = 0.25 * FEE / 2 * np.asarray(done.trade_volume, float).sum(0)
        utility = (0.25 * (buy * np.asarray(done.buy) - sell * np.asarray(done.sell))).sum(0)
        expected = alone - utility - fees + np.asarray(done.payment, float).sum(0)
        np.testing.assert_allclose(made.benefit, expected, atol=1e-9)
        np.testing.assert_allclose(made.bill, result.evaluations[name].bill, atol=1e-9)
    assert found.policies().loc["no_trade", "benefit_eur"] == pytest.approx(0, abs=1e-9)
    # this pool brings together all that can be set off
    made = found.judgement.statement
    assert made.benefit.sum() == pytest.approx(made.game.total) and made.game.total > 0.1
    np.testing.assert_allclose(found.judgement.shapley.value, enumerated(made.game).value)


def test_what_was_not_served_is_in_the_bills(result):
    """At the tariff and the price on top, as in the figures."""
    case = result.case
    run = fake_run(case.community, case.horizon, policies=POLICIES)
    done = run.trajectories["lyapunov"]
    slot, home = np.argwhere(np.asarray(done.buy) > 0.2)[0]
    done.buy[slot, home] -= 0.2
    done.unserved[slot, home] = 0.2
    cut = jp.Result(case=case, run=run)
    spent = cut.evaluations["lyapunov"].costs
    made = jp.fairness_of(cut, shapley=False, least_core=False).judgement.statement
    assert spent.unserved[home] > 0.5
    np.testing.assert_allclose(made.bill, spent.paid + spent.unserved, atol=1e-9)


def test_tables_of_a_result(result):
    found = jp.fairness_of(result, against="no_storage_no_trade")
    policies, splits, members = found.policies(), found.splits(), found.members()
    assert list(policies.index) == list(POLICIES) and found.judgement.policy == "lyapunov"
    bills = {name: evaluation.bill for name, evaluation in result.evaluations.items()}
    saved = bills["no_storage_no_trade"] - bills["lyapunov"]
    assert policies.loc["lyapunov", "benefit_eur"] == pytest.approx(saved.sum())
    assert policies.loc["lyapunov", "benefit_min_eur"] == pytest.approx(saved.min())
    kpis = result.kpis().loc["lyapunov"]
    assert policies.loc["lyapunov", "benefit_gini"] == pytest.approx(kpis["benefit_gini"])
    assert 1 - policies.loc["lyapunov", "worse_off_share"] == pytest.approx(kpis["no_worse_off_share"])
    assert list(splits.index) == ["market", "equal", "shapley", "least_core"]
    assert splits["benefit_eur"].to_numpy() == pytest.approx(splits["benefit_eur"].iloc[0], abs=1e-9)
    assert splits.loc["market", "transferred_eur"] == 0 and splits.loc["equal", "benefit_gini"] < 0.1
    assert splits.loc["least_core", "claim_eur"] <= 0.03
    assert list(members["member"]) == ["H1", "H3", "H2"]  # by bus
    for name in ("equal", "shapley", "least_core"):
        moved = members[f"transfer_{name}_eur"]
        assert moved.sum() == pytest.approx(0, abs=1e-12)
        np.testing.assert_allclose(
            members[f"bill_{name}_eur"], members["bill_market_eur"] - moved, atol=1e-12
        )
        np.testing.assert_allclose(
            members[f"benefit_{name}_eur"], members["bill_alone_eur"] - members[f"bill_{name}_eur"], atol=1e-9
        )
    np.testing.assert_allclose(members["benefit_shapley_eur"], members["shapley_eur"], atol=0.01)
    assert (members["shapley_half_width_eur"] == 0).all()
    text = str(found)
    assert "against no_storage_no_trade" in text and "all coalitions" in text and "H2" in text
    assert "-0.00 " not in text


def test_a_saved_run_says_the_same(street, folder):
    """Whatever it is read from: the result, its folder, or its tables."""
    here, back = jp.fairness_of(street, seed=3), jp.fairness_of(folder, seed=3)
    for table in ("policies", "splits", "members"):
        pd.testing.assert_frame_equal(getattr(here, table)(), getattr(back, table)(), rtol=1e-6, atol=1e-4)
    pd.testing.assert_frame_equal(jp.fairness_of(jp.load(folder), seed=3).members(), back.members())
    assert not here.judgement.shapley.exact and here.judgement.shapley.error <= 0.02
    assert "search" in fairness_text(here.judged) and "20 members" in fairness_text(here.judged)


def test_a_result_is_saved_and_drawn(result, tmp_path):
    found = jp.fairness_of(result)
    out = found.save(tmp_path / "out")
    names = {"policies.csv", "splits.csv", "fair_members.csv", "summary.json", "pictures"}
    assert {entry.name for entry in out.iterdir()} == names
    summary = json.loads((out / "summary.json").read_text())
    assert summary["made_from"]["what"] == "fairness" and summary["policy"] == "lyapunov"
    found.save(out)
    with pytest.raises(FileExistsError, match="seed: 0, now 1"):
        jp.fairness_of(result, seed=1).save(out)
    left, right = found.plot().axes
    assert len(left.containers) == 4 and len(right.lines) == 4
    bare = jp.fairness_of(result, policy="no_trade", shapley=False, least_core=False)
    assert list(bare.splits().index) == ["market", "equal"] and not bare.plot().axes[1].lines
    assert "shapley" not in bare.report()


def test_what_is_refused(result, tmp_path):
    with pytest.raises(ValueError, match=r"unknown policy 'nobody'.*unknown policy 'none': there are alone"):
        jp.fairness_of(result, policy="nobody", against="none")
    with pytest.raises(ValueError, match="error is 0"):
        jp.fairness_of(result, error=0)
    result.save(tmp_path / "small")
    with pytest.raises(ValueError, match="--per-home"):
        jp.fairness_of(tmp_path / "small")
    result.save(tmp_path / "large", homes=True)
    back = jp.load(tmp_path / "large")
    for fee in (None, "absent"):
        other = {k: v for k, v in back.summary.items() if k != "trade_fee_eur_per_kwh"}
        other |= {} if fee else {"trade_fee_eur_per_kwh": None}
        with pytest.raises(ValueError, match="fees differ"):
            statements_of(Results(summary=other, tables=back.tables))


def test_fees_of_trades_in_a_summary(result, tmp_path):
    """One for all, none where nobody trades, and no number where they differ."""

    def fee(community, name):
        case = replace(result.case, community=community)
        jp.Result(case=case, run=result.run).save(tmp_path / name)
        return jp.load(tmp_path / name).summary["trade_fee_eur_per_kwh"]

    community = result.case.community
    market = community.market
    assert fee(community, "one") == FEE
    closed = replace(market, limit=np.zeros_like(market.limit))
    assert fee(replace(community, market=closed), "none") == 0
    unlike = replace(market, fee=np.array([[0.01, 0.02, 0.03]]))
    assert fee(replace(community, market=unlike), "many") is None


def test_the_command(folder, tmp_path):
    done = call(folder, "--out", tmp_path / "out", "--json", tmp_path / "r.json", "--seed", 3)
    assert done.exit_code == 0, done.output
    assert "28 members" in done.stdout and "pictures/fairness.png" in done.stdout
    orders = re.search(r"Shapley values from ([\d,]+) orders", done.stdout)
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["shapley"]["permutations"] == int(orders[1].replace(",", ""))
    assert 0 < report["shapley"]["largest_error"] <= report["shapley"]["error"] <= 0.02
    assert list(report["policies"]) == list(POLICIES)
    table = pd.read_csv(tmp_path / "out" / "fair_members.csv")
    python = jp.fairness_of(folder, seed=3)
    np.testing.assert_allclose(table["bill_shapley_eur"], python.members()["bill_shapley_eur"], atol=1e-9)
    plain = call(folder, "--no-shapley", "--no-least-core", "--json", "-")
    assert plain.exit_code == 0 and list(json.loads(plain.stdout)["splits"]) == ["market", "equal"]
    quiet = call(folder, "-q", "--no-least-core", "--policy", "no_storage", "--error", 0.5)
    assert quiet.exit_code == 0 and quiet.output == ""


def test_wrong_usage_of_the_command(street, folder, tmp_path):
    os.makedirs(tmp_path / "empty")
    for arguments, message in (
        ((tmp_path / "empty",), "holds no results"),
        ((folder, "--policy", "nobody"), "unknown policy 'nobody'"),
        ((folder, "--error", 7), "error"),
        ((folder, "--out", folder), "made from something else"),
        ((folder, "--json", tmp_path / "nowhere" / "x"), "there is no folder"),
        ((street.save(tmp_path / "small"),), "--per-home"),
    ):
        done = call(*arguments)
        assert done.exit_code == 2 and message in done.stderr, done.output
