"""Fairness: the game, its solutions against independent ones, measures by hand, transfers to the cent."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from scipy.optimize import linprog

from jaxp2p.fairness import claims as search
from jaxp2p.fairness import least_core as core_module
from jaxp2p.fairness.claims import claims
from jaxp2p.fairness.game import PoolGame, all_coalitions
from jaxp2p.fairness.judgement import judged
from jaxp2p.fairness.least_core import least_core
from jaxp2p.fairness.measures import gini, lorenz, measures, worse_off
from jaxp2p.fairness.shapley import enumerated, sampled, shapley
from jaxp2p.fairness.statement import statement
from jaxp2p.fairness.transfers import equal_shares, shares_of, transfers
from jaxp2p.settings.fairness import Fairness

B, S, FEE, HOURS = 0.31, 0.08, 0.01, 0.25


def tariffs(slots, seed):
    """(T,) EUR/kWh each, in some slots closer together than the fee, or the wrong way round."""
    rng = np.random.default_rng(seed)
    return B + 0.2 * rng.normal(size=slots), np.full(slots, S)


def powers(members, slots, seed=0):
    """(T, N) kW of unlike members, some of whom only buy, only sell, or are away."""
    rng = np.random.default_rng(seed)
    power = rng.normal(size=(slots, members)) * rng.lognormal(size=members)
    power[:, 0] = -np.abs(power[:, 0])
    power[:, members // 2] = np.abs(power[:, members // 2])
    return power * (rng.random((slots, members)) > 0.1)


def game_of(members, slots=20, seed=0, fee=FEE):
    return PoolGame.of(powers(members, slots, seed), *tariffs(slots, seed), hours=HOURS, fee=fee)


def by_hand(power, buy, sell, fee):
    """v as a function of a set of members: the bills of its members alone less that of the pool, in loops."""

    def v(members):
        worth = 0.0
        for t, row in enumerate(power):
            alone = sum(buy[t] * max(-row[i], 0) - sell[t] * max(row[i], 0) for i in members)
            sold, bought = sum(max(row[i], 0) for i in members), sum(max(-row[i], 0) for i in members)
            inside = min(sold, bought) if buy[t] - sell[t] > fee else 0.0
            pooled = buy[t] * (bought - inside) - sell[t] * (sold - inside) + fee * inside
            worth += HOURS * (alone - pooled)
        return worth

    return v


def shapley_by_orders(v, size):
    """The definition: the mean of what a member adds over all orders."""
    value = np.zeros(size)
    for order in itertools.permutations(range(size)):
        for k, i in enumerate(order):
            value[i] += v(order[: k + 1]) - v(order[:k])
    return value / math.factorial(size)


# ---------------------------------------------------------------- the game


def test_two_members_by_hand():
    """4 kW meet 3 kW for a quarter of an hour: 0.75 kWh at 31 - 8 - 1 cents."""
    game = PoolGame.of([[4.0, -3.0]], np.array([B]), np.array([S]), hours=HOURS, fee=FEE)
    assert game.total == pytest.approx(0.75 * 0.22)
    assert game.values(all_coalitions(2)) == pytest.approx([0, 0, 0, 0.75 * 0.22])
    assert enumerated(game).value == pytest.approx([0.0825, 0.0825])
    assert game.core_payoff() == pytest.approx([0, 0.165])  # more is offered: the price is the utility's


def test_worth_is_what_the_bills_of_a_pool_save():
    game = game_of(6)
    v = by_hand(game.power, *tariffs(20, 0), FEE)
    masks = all_coalitions(6)
    assert game.values(masks) == pytest.approx([v(np.flatnonzero(mask)) for mask in masks], abs=1e-12)
    assert (game.values(masks) >= 0).all() and (game.values(np.eye(6, dtype=bool)) < 1e-12).all()


def test_many_coalitions_are_one_product_whatever_the_block(monkeypatch):
    game = game_of(30, slots=50)
    masks = np.random.default_rng(1).random((500, 30)) < 0.5
    whole = game.values(masks)
    monkeypatch.setattr("jaxp2p.fairness.game.BLOCK", 130)
    assert game.values(masks) == pytest.approx(whole, abs=1e-12)
    assert game.values(masks[:0]).shape == (0,)


def test_games_without_worth():
    """No spread, a fee above it, or everybody on one side: nothing to split, and no division by it."""
    flat = np.full(3, 0.2)
    power = powers(5, 3)
    for game in (
        PoolGame.of(power, flat, flat, hours=1),
        PoolGame.of(power, flat + 0.1, flat, hours=1, fee=0.11),
        PoolGame.of(np.abs(power), flat + 0.1, flat, hours=1),
    ):
        assert game.total == 0
        for found in (enumerated(game), sampled(game)):
            assert found.value == pytest.approx(np.zeros(5)) and found.error == 0
        assert least_core(game).value == pytest.approx(np.zeros(5))


def test_games_that_are_none():
    with pytest.raises(ValueError, match="slots, members"):
        PoolGame.of(np.zeros((3, 2)), np.zeros(4), np.zeros(4), hours=1)
    with pytest.raises(ValueError, match="finite"):
        PoolGame.of(np.full((3, 2), np.nan), np.zeros(3), np.zeros(3), hours=1)


# ---------------------------------------------------------------- Shapley


def test_shapley_of_eight_members_is_the_mean_over_all_orders():
    game = game_of(8, slots=6, seed=3)
    v = by_hand(game.power, *tariffs(6, 3), FEE)
    worth = {s: v(s) for k in range(9) for s in itertools.combinations(range(8), k)}
    expected = shapley_by_orders(lambda order: worth[tuple(sorted(order))], 8)
    assert shapley(game).exact
    assert shapley(game).value == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_sampled_values_are_within_what_is_stated(seed):
    game = game_of(12, seed=seed)
    exact, found = enumerated(game), sampled(game, error=0.01, seed=seed)
    assert found.error <= 0.01 and not found.exact
    assert np.abs(found.value - exact.value).sum() <= found.error * game.total
    assert (np.abs(found.value - exact.value) <= 2.5 * found.half_width + 1e-12).all()


def test_intervals_cover_as_often_as_they_say():
    """95 % of 8 members' intervals in 150 samples; of members that are sampled at all."""
    game = game_of(8, slots=10, seed=5)
    exact = enumerated(game).value
    inside = [
        np.abs(found.value - exact) <= found.half_width
        for found in (sampled(game, error=1, permutations=1, seed=seed) for seed in range(150))
    ]
    assert 0.92 <= np.mean(inside) <= 0.98


def test_a_village_needs_few_orders():
    """2 % of the benefit for 153 members together, judged by another seed at a fifth of it."""
    game = game_of(153, slots=200)
    found, judge = sampled(game, error=0.02), sampled(game, error=0.004, seed=1)
    assert found.permutations <= 2_000 and found.largest_error < found.error <= 0.02
    assert np.abs(found.value - judge.value).sum() <= 0.024 * game.total
    inside = np.abs(found.value - judge.value) <= found.half_width + judge.half_width
    assert inside.mean() > 0.9


def test_half_widths_are_those_of_all_pairs():
    """Student's interval of the gains of all orders of the seed, each with its reverse, drawn once more."""
    game = game_of(9, slots=8)
    v = by_hand(game.power, *tariffs(8, 0), FEE)
    worth = game.values(all_coalitions(9))
    assert worth[0b1010] == pytest.approx(v((1, 3)))
    rng, gains = np.random.default_rng(4), np.zeros((256, 9))
    for row in gains:
        order = rng.permutation(9)
        for way in (order, order[::-1]):
            reached = np.concatenate([[0], np.cumsum(1 << way)])
            row[way] += np.diff(worth[reached]) / 2
    found = sampled(game, error=1e-9, permutations=512, seed=4)
    assert found.value == pytest.approx(gains.mean(0))
    width = scipy.stats.t.ppf(0.975, 255) * gains.std(0, ddof=1) / 16
    assert found.half_width == pytest.approx(width)


def test_axioms():
    """Everything is shared out, nobody gets it for nothing, equals get the same, games may be added up."""
    power = powers(9, 24)
    power[:, 3], power[:, 5] = 0, power[:, 4]
    prices = tariffs(24, 0)
    game = PoolGame.of(power, *prices, hours=HOURS)
    for found in (enumerated(game), sampled(game, error=0.005)):
        assert found.value.sum() == pytest.approx(game.total, rel=1e-13)
        assert found.value[3] == pytest.approx(0, abs=1e-13)
        assert abs(found.value[4] - found.value[5]) <= found.half_width[[4, 5]].sum() + 1e-12
    parts = [PoolGame.of(power[t], *(p[t] for p in prices), hours=HOURS) for t in (slice(0, 9), slice(9, 24))]
    for solve in (enumerated, lambda g: sampled(g, error=1, permutations=256)):
        assert sum(solve(part).value for part in parts) == pytest.approx(solve(game).value, abs=1e-12)


def test_a_pair_of_orders_is_exact_for_two_members():
    """An order and its reverse are all the orders there are."""
    game = game_of(2)
    found = sampled(game, error=1, permutations=1)
    assert found.half_width == pytest.approx(np.zeros(2), abs=1e-15)
    assert found.value == pytest.approx(enumerated(game).value)


def test_the_seed_says_it_all():
    game = game_of(40, slots=30)
    one = sampled(game, error=0.005, seed=7)
    for block in (1, 5, 1000):
        again = sampled(game, error=0.005, seed=7, block=block)
        assert again.permutations == one.permutations
        assert again.value == pytest.approx(one.value, rel=1e-12)
    assert np.abs(sampled(game, error=0.005, seed=8).value - one.value).max() > 1e-9


def test_sampling_stops_where_it_is_told():
    game, heard = game_of(40, slots=30), []
    assert sampled(game, error=1e-9, permutations=500).permutations == 512
    loose, fine = sampled(game, error=0.05), sampled(game, error=0.002, progress=lambda *x: heard.append(x))
    assert fine.permutations > loose.permutations and fine.error <= 0.002
    assert heard[-1] == (fine.permutations, fine.permutations)
    assert all(done <= of for done, of in heard)
    for wrong in ({"error": 0}, {"error": math.nan}, {"permutations": 0}):
        with pytest.raises(ValueError, match="above zero"):
            sampled(game, **wrong)
    with pytest.raises(ValueError, match="too many"):
        enumerated(game)


# ---------------------------------------------------------------- least core


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("members", [2, 3, 8])
def test_least_core_is_that_of_the_whole_program(members, seed):
    game = game_of(members, seed=seed)
    v = by_hand(game.power, *tariffs(20, seed), FEE)
    some = [s for k in range(1, members) for s in itertools.combinations(range(members), k)]
    rows = np.array([[-(i in s) for i in range(members)] + [-1] for s in some], float)
    whole = linprog(
        [0] * members + [1], rows, [-v(s) for s in some],
        [[1] * members + [0]], [v(range(members))], bounds=(None, None),
    )  # fmt: skip
    found = least_core(game)
    assert found.epsilon == pytest.approx(whole.fun, abs=1e-6) and found.epsilon <= 1e-9
    assert found.exact and found.coalitions <= len(some)
    assert found.value.sum() == pytest.approx(game.total)
    assert max(v(s) - found.value[list(s)].sum() for s in some) == pytest.approx(found.epsilon, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_marginal_price_is_in_the_core(seed):
    """Shapley and Shubik 1969: in every slot, and so in their sum, no coalition gains by leaving."""
    game = game_of(10, seed=seed)
    game.power[0] = np.repeat([1.0, -1.0], 5)  # both sides equal
    payoff = game.core_payoff()
    assert payoff.sum() == pytest.approx(game.total)
    assert claims(game, payoff, np.random.default_rng(0))[1].max() <= 1e-12
    equal = np.full(10, game.total / 10)  # and what is not in the core is found out
    assert claims(game, equal, np.random.default_rng(0))[1].max() > 0.01 * game.total


@pytest.mark.parametrize("seed", range(5))
def test_the_search_finds_the_most_discontented_coalition(monkeypatch, seed):
    game = game_of(14, seed=seed)
    split = np.full(14, game.total / 14)
    largest = claims(game, split, np.random.default_rng(0))[1].max()
    monkeypatch.setattr(search, "MOST_ENUMERATED", 0)
    masks, found = claims(game, split, np.random.default_rng(0))
    assert found.max() == pytest.approx(largest) and masks.any(1).all() and not masks.all(1).any()


def test_least_core_by_a_search_is_bracketed(monkeypatch):
    game = game_of(12)
    exact = least_core(game)
    for module in (search, core_module):
        monkeypatch.setattr(module, "MOST_ENUMERATED", 0)
    found = least_core(game, error=1e-9)
    assert found.epsilon <= exact.epsilon + 1e-6 and found.epsilon == pytest.approx(exact.epsilon, abs=1e-6)
    assert found.claim == 0 and not found.exact
    assert found.value == pytest.approx(game.core_payoff())


def test_somebody_who_adds_nothing_makes_the_bound_of_a_large_community_exact():
    power = powers(60, 30)
    power[:, 7] = 0
    found = least_core(PoolGame.of(power, *tariffs(30, 0), hours=HOURS))
    assert found.exact and found.epsilon == pytest.approx(0, abs=1e-9)


# ---------------------------------------------------------------- measures and transfers


def test_gini():
    assert gini(np.ones(5)) == pytest.approx(0)
    assert gini(np.array([0.0, 1.0])) == pytest.approx(0.5)
    assert gini(np.array([1.0, 2.0, 3.0, 4.0])) == pytest.approx(0.25)
    assert gini(np.zeros(4)) is None
    mixed = np.random.default_rng(0).standard_normal(50)
    assert 0 <= gini(mixed) <= 1
    assert gini(10 * mixed) == pytest.approx(gini(mixed))
    pairs = np.abs(mixed[:, None] - mixed).sum() / (2 * 50 * np.abs(mixed).sum())
    assert gini(mixed) == pytest.approx(pairs)


def test_lorenz_by_hand_and_its_area():
    assert lorenz(np.array([5.0, 1.0, 4.0])) == pytest.approx([0, 0.1, 0.5, 1])
    assert lorenz(np.array([-1.0, 3.0])) == pytest.approx([0, -0.5, 1])
    assert lorenz(np.array([-1.0, 1.0])) is None
    gains = np.random.default_rng(0).lognormal(size=40)
    assert 1 - 2 * np.trapezoid(lorenz(gains), dx=1 / 40) == pytest.approx(gini(gains))


def test_measures_by_hand():
    """One of four loses 2 EUR; a loss of half a cent on a bill of 100 EUR is rounding."""
    found = measures(np.array([3.0, -2.0, -0.005, 1.0]), np.array([10.0, 10.0, 100.0, 10.0]))
    assert found.benefit_eur == pytest.approx(1.995) and found.benefit_mean_eur == pytest.approx(0.49875)
    assert found.benefit_median_eur == pytest.approx(0.4975)
    assert (found.benefit_min_eur, found.benefit_max_eur) == (-2, 3)
    assert (found.worse_off_share, found.worse_off_eur) == (0.25, 2)
    assert measures(np.ones(2), np.ones(2)).worse_off_eur == 0
    assert worse_off(np.array([-0.0009, -0.0011]), np.zeros(2)).tolist() == [False, True]


def test_transfers_by_hand_close_to_the_cent():
    """10 EUR of which one of three made all: 3.33 to each of the others."""
    paid = transfers(np.array([10.0, 0.0, 0.0]), equal_shares(3))
    assert paid.sum() == 0 and sorted(paid) == [-666, 333, 333]
    benefit = np.random.default_rng(0).normal(size=153)
    for share in (equal_shares(153), shares_of(np.random.default_rng(1).lognormal(size=153))):
        paid = transfers(benefit, share)
        assert paid.dtype == np.int64 and paid.sum() == 0
        assert np.abs(benefit + paid / 100 - share * benefit.sum()).max() < 0.01 + 1e-9
    assert shares_of(np.zeros(4)) == pytest.approx([0.25] * 4)
    with pytest.raises(ValueError, match="153 members have 152 shares"):
        transfers(benefit, equal_shares(152))
    with pytest.raises(ValueError, match="sum to 1"):
        transfers(benefit, np.full(153, 1.0))


# ---------------------------------------------------------------- a run judged


def pool_statement(power, fee=FEE):
    """A pool at the middle price that clears all it can, in the two slots of (2, N)."""
    sold, bought = np.maximum(power, 0), np.maximum(-power, 0)
    inside = np.minimum(sold.sum(1), bought.sum(1))[:, None]
    part = lambda side: side * inside / np.maximum(side.sum(1, keepdims=True), 1e-9)
    trade = part(sold) - part(bought)
    rest = power - trade
    buy, sell, price = np.full(2, B), np.full(2, S), (B + S) / 2
    cost = HOURS * (B * np.maximum(-rest, 0) - S * np.maximum(rest, 0) + fee / 2 * np.abs(trade))
    return statement(
        bill=(cost - HOURS * price * trade).sum(0),
        buy=np.maximum(-rest, 0),
        sell=np.maximum(rest, 0),
        trade=trade,
        volume=np.abs(trade),
        payment=HOURS * price * trade,
        price_buy=buy,
        price_sell=sell,
        hours=HOURS,
        fee=fee,
    )


POWER = np.array([[4.0, -1.0, -2.0], [1.0, -3.0, 1.0]])


def test_a_statement_by_hand():
    """3 kW and then 2 kW change hands at 19.5 cents: 11 cents a kWh for either side after half the fee."""
    made = pool_statement(POWER)
    assert made.benefit == pytest.approx(0.11 * HOURS * np.array([3 + 1, 1 + 2, 2 + 1]))
    assert made.alone == pytest.approx(HOURS * np.array([-5 * S, 4 * B, 2 * B - S]))
    assert made.benefit.sum() == pytest.approx(made.game.total)


def test_somebody_alone_has_nothing_to_share():
    found = judged({"lyapunov": pool_statement(np.array([[4.0], [-1.0]]))}, Fairness())
    assert all(split.benefit == pytest.approx([0]) for split in found.splits.values())
    assert all(split.claim == 0 for split in found.splits.values())


def test_a_run_is_judged():
    """Splits close, benefits are against what was asked, and only splits that are asked for are made."""
    made, idle = pool_statement(POWER), pool_statement(POWER / 2)
    found = judged({"lyapunov": made, "idle": idle}, Fairness())
    assert list(found.splits) == ["market", "equal", "shapley", "least_core"] and found.claims_exact
    assert all(split.transfer.sum() == 0 for split in found.splits.values())
    assert found.bill("market") == pytest.approx(made.bill)
    assert found.splits["equal"].benefit == pytest.approx(np.full(3, made.benefit.mean()), abs=0.01)
    assert found.splits["shapley"].benefit == pytest.approx(enumerated(made.game).value, abs=0.01)
    assert found.splits["least_core"].claim <= 0.03
    assert found.measures["lyapunov"].benefit_eur == pytest.approx(made.game.total)
    other = judged(
        {"lyapunov": made, "idle": idle}, Fairness(against="idle", shapley=False, least_core=False)
    )
    assert list(other.splits) == ["market", "equal"]
    assert other.benefits["lyapunov"] == pytest.approx(idle.bill - made.bill)
    assert other.benefits["idle"] == pytest.approx(np.zeros(3))
