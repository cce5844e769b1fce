"""Sharing keys: each against a day worked out by hand, the laws of all, days of 23 and 25 hours."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jaxp2p.data import InputError
from jaxp2p.settings.sharing import Unused
from jaxp2p.sharing.catalogue import CATALOGUE, RULES, usual
from jaxp2p.sharing.energy import by_the_hour, measured
from jaxp2p.sharing.italy import premium
from jaxp2p.sharing.key import Key, Split, allot
from jaxp2p.sharing.made import WORDS, Given, made
from jaxp2p.sharing.money import money, money_of_market, money_table, prices_of
from jaxp2p.sharing.pairs import FromMarket, Pairs
from jaxp2p.sharing.pot import Priority, ProRata, ProRataToSurplus
from jaxp2p.sharing.several import Participation, SeveralCommunities
from jaxp2p.sharing.shares import Equal, FixedShares, HourlyShares

# A day of four intervals of six hours: a plant P and the home A feed in, homes A, B and C draw.
PRODUCERS, CONSUMERS = ("P", "A"), ("A", "B", "C")
GENERATION = np.array([[0, 0], [3, 1], [9, 3], [1, 0]])  # kWh: 0, 4, 12, 1 in all
CONSUMPTION = np.array([[1, 2, 1], [2, 1, 5], [1, 4, 2], [2, 2, 0]])  # 4, 8, 7, 4


def energy_of(generation, consumption, *, start="2024-06-01", freq="6h", zone="Europe/Vienna", **more):
    time = pd.date_range(start, periods=len(generation), freq=freq, tz=zone)
    names = {"producers": PRODUCERS, "consumers": CONSUMERS} | more
    return measured(time, np.asarray(generation, float), np.asarray(consumption, float), **names)


@pytest.fixture(scope="module")
def day():
    return energy_of(GENERATION, CONSUMPTION)


def by_hour():
    """A third each, but B alone from 6, A and B from 12, half of it C's from 18."""
    shares = np.full((24, 3), 1 / 3)
    shares[6], shares[12], shares[18] = (0, 1, 0), (0.5, 0.5, 0), (0.25, 0.25, 0.5)
    return shares


FIXED = np.array([0.5, 0.25, 0.25])
TRADES = np.zeros((4, 2, 3))  # kWh from P and A to A, B and C
TRADES[1] = [[1, 1, 1], [0, 0, 1]]
TRADES[2] = [[1, 3, 2], [0, 2, 0]]  # B bought 5, and drew 4: of 9 sold 8 count
TRADES[3] = [[0.5, 0.5, 0], [0, 0, 0]]

# By hand: received by A, B and C, then given by P and A, in Wh, for the intervals from 6, 12 and 18.
BY_HAND = {
    # a third of 4, 12, 1 kWh; B draws 1 from 6. 1333.3 + 1000 + 1333.3 are 3667, A the first to be rounded up
    "equal": (
        Equal(),
        [[1334, 1000, 1333], [1000, 4000, 2000], [334, 333, 0]],
        [[2750, 917], [5250, 1750], [667, 0]],
    ),
    # what B leaves from 6, 333.3 Wh, is halved between A and C; what C leaves from 18 between A and B
    "equal, by share": (
        Equal(Unused.BY_SHARE),
        [[1500, 1000, 1500], [1000, 4000, 2000], [500, 500, 0]],
        [[3000, 1000], [5250, 1750], [1000, 0]],
    ),
    # 2, 1, 1 are all drawn; of 6, 3, 3 A draws 1 and C 2; C draws none of its 0.25
    "fixed": (
        FixedShares(FIXED),
        [[2000, 1000, 1000], [1000, 3000, 2000], [500, 250, 0]],
        [[3000, 1000], [4500, 1500], [750, 0]],
    ),
    # B has 1 kWh to go at noon and gets it; C's 250 Wh in the evening go 2 : 1 to A and B
    "fixed, by share": (
        FixedShares(FIXED, Unused.BY_SHARE),
        [[2000, 1000, 1000], [1000, 4000, 2000], [667, 333, 0]],
        [[3000, 1000], [5250, 1750], [1000, 0]],
    ),
    # C's 250 Wh by what is left to draw, 1.5 and 1.75 kWh: 115.4 and 134.6
    "fixed, then pro rata": (
        FixedShares(FIXED, Unused.PRO_RATA),
        [[2000, 1000, 1000], [1000, 4000, 2000], [615, 385, 0]],
        [[3000, 1000], [5250, 1750], [1000, 0]],
    ),
    # B is offered 4 and draws 1; A and B are offered 6 each and draw 1 and 4; a quarter each of 1
    "hourly": (
        HourlyShares(by_hour()),
        [[0, 1000, 0], [1000, 4000, 0], [250, 250, 0]],
        [[750, 250], [3750, 1250], [500, 0]],
    ),
    # 4 / 8 of the draw, all of it, 1 / 4 of it
    "pro rata": (
        ProRata(),
        [[1000, 500, 2500], [1000, 4000, 2000], [500, 500, 0]],
        [[3000, 1000], [5250, 1750], [1000, 0]],
    ),
    # A's own 1 kWh first, then 3 / 7 of 1, 1, 5: 1428.6, 428.6, 2142.9. At noon A's own 1 kWh, then 6 of the
    # 11 that are left, 9 of P and 2 of A: 4909.1 and 1090.9 beside its own
    "pro rata to surplus": (
        ProRataToSurplus(),
        [[1429, 428, 2143], [1000, 4000, 2000], [500, 500, 0]],
        [[3000, 1000], [4909, 2091], [1000, 0]],
    ),
    # B and C first: 4 of the 6 kWh that they draw; 1 of B's 2
    "priority": (
        Priority(np.array([2, 1, 1])),
        [[0, 667, 3333], [1000, 4000, 2000], [0, 1000, 0]],
        [[3000, 1000], [5250, 1750], [1000, 0]],
    ),
    # P offers A and B half each, A offers C 80 %: B takes 1 of 1.5; A 1, B 4 of 4.5 each, C 2 of 2.4
    "pairs": (
        Pairs(np.array([[0.5, 0.5, 0], [0, 0, 0.8]])),
        [[1500, 1000, 800], [1000, 4000, 2000], [500, 500, 0]],
        [[2500, 800], [5000, 2000], [1000, 0]],
    ),
    # as traded, but for B at noon: 7 of the 8 that were sold, P 6 * 7 / 8 and A 2 * 7 / 8
    "market": (
        FromMarket.of_trades(TRADES),
        [[1000, 1000, 2000], [1000, 4000, 2000], [500, 500, 0]],
        [[3000, 1000], [5250, 1750], [1000, 0]],
    ),
    # P's plant for A and half of B, pro rata: all of 2 + 0.5; of 1 + 2; 1 / 3 of 2 + 1.
    # A's plant for half of B and C, by halves: 0.5 + 0.5; 1.5 + 1.5; nothing
    "several communities": (
        SeveralCommunities(
            (
                Participation(key=ProRata(), consumption=np.array([1, 0.5, 0]), generation=np.array([1, 0])),
                Participation(
                    key=FixedShares(np.array([0, 0.5, 0.5])),
                    consumption=np.array([0, 0.5, 1]),
                    generation=np.array([0, 1]),
                ),
            )
        ),
        [[2000, 1000, 500], [1000, 3500, 1500], [667, 333, 0]],
        [[2500, 1000], [3000, 3000], [1000, 0]],
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_a_day_by_hand(day, name):
    key, received, given = BY_HAND[name]
    done = allot(key, day)
    assert done.received.tolist() == [[0, 0, 0], *received]
    assert done.given.tolist() == [[0, 0], *given]


# --- laws -----------------------------------------------------------------------------------------

SLOTS, P, N = 500, 5, 9


def random_energy(seed):
    """Readings with many zeros, of a few Wh and of many kWh, members that are both."""
    rng = np.random.default_rng(seed)
    size = 10.0 ** rng.integers(-3, 3, (SLOTS, 1))
    draw = lambda n: rng.gamma(0.5, 1, (SLOTS, n)) * size * (rng.random((SLOTS, n)) < 0.7)
    return energy_of(
        draw(P) * 10.0 ** rng.integers(-1, 2, (SLOTS, 1)),
        draw(N),
        freq="15min",
        producers=[f"m{n}" for n in range(P)],
        consumers=[f"m{n}" for n in range(2, N + 2)],
    )


def random_keys(seed):
    rng = np.random.default_rng(seed + 100)
    shares = rng.dirichlet(np.ones(N) / 2)
    hourly, pairs = rng.dirichlet(np.ones(N), 24), 0.9 * rng.dirichlet(np.ones(N), P)
    halves = rng.random(N), rng.random(P)
    keys = [ProRata(), ProRataToSurplus(), Priority(rng.integers(0, 3, N)), Pairs(pairs)]
    keys += [Pairs(rng.dirichlet(np.ones(N), (SLOTS, P)))]
    keys += [FromMarket.of_trades(rng.gamma(0.2, 1, (SLOTS, P, N)))]
    keys += [Equal(unused) for unused in Unused] + [FixedShares(shares, unused) for unused in Unused]
    keys += [HourlyShares(hourly, False, unused) for unused in Unused]
    keys += [HourlyShares(rng.dirichlet(np.ones(N), SLOTS), True)]
    parts = [(Equal(Unused.BY_SHARE), 1.0), (Priority(np.arange(N)), -1.0)]
    keys += [
        SeveralCommunities(
            [
                Participation(
                    key=key,
                    consumption=np.abs((sign < 0) - halves[0]),
                    generation=np.abs((sign < 0) - halves[1]),
                )
                for key, sign in parts
            ]
        )
    ]
    return keys


KEYS = range(len(random_keys(0)))


def kind(key):
    return type(random_keys(0)[key]).__name__


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("key", KEYS, ids=kind)
def test_the_laws_of_all_keys(key, seed):
    """Nobody receives more than it draws or gives more than it feeds in, and no Wh is lost or made."""
    energy, rule = random_energy(seed), random_keys(seed)[key]
    done, exact = allot(rule, energy), rule.split(energy)
    for part in (done.received, done.given):
        assert part.dtype == np.int64 and part.min() >= 0
    assert (done.received <= energy.consumption).all() and (done.given <= energy.generation).all()
    assert (done.received.sum(1) == done.given.sum(1)).all()
    assert np.abs(done.received - exact.received).max() < 1 + 1e-6
    assert np.abs(done.received.sum(1) - exact.received.sum(1)).max() <= 0.5 + 1e-6
    members = done.members().set_index("member")
    assert (members["community_kwh"] + members["grid_kwh"]).to_numpy() == pytest.approx(
        members["consumption_kwh"].to_numpy()
    )
    assert (members["given_kwh"] + members["fed_to_grid_kwh"]).to_numpy() == pytest.approx(
        members["generation_kwh"].to_numpy()
    )
    assert members["community_kwh"].sum() == pytest.approx(members["given_kwh"].sum())
    assert members["community_kwh"].sum() == pytest.approx(done.intervals()["shared_kwh"].sum())


@pytest.mark.parametrize(
    "key",
    [
        ProRata(),
        ProRataToSurplus(),
        Priority(np.arange(N) % 4),
        Equal(Unused.BY_SHARE),
        Equal(Unused.PRO_RATA),
    ],
    ids=lambda key: type(key).__name__,
)
def test_keys_that_hand_on_share_all_that_can_be_matched(key):
    energy = random_energy(7)
    assert (allot(key, energy).shared == np.minimum(energy.generated, energy.consumed)).all()


def test_handing_on_by_share_fills_everybody_to_one_level():
    """min(c_n, factor s_n) with one factor per interval; members that do not reach their own are level."""
    energy, shares = random_energy(3), np.arange(1, N + 1) / (N * (N + 1) / 2)
    received = FixedShares(shares, Unused.BY_SHARE).split(energy).received
    for row, most, generated in zip(received, energy.consumption, energy.generated, strict=True):
        waits = row < most - 1e-3
        if waits.any():
            level = (row / shares)[waits]
            assert np.ptp(level) <= 1e-6 * max(level.max(), 1)
            assert (row <= level.mean() * shares + 1e-3).all()
            assert row.sum() == pytest.approx(generated)


def test_handing_on_ends_where_a_wh_is_less_than_rounding():
    """A hundred terawatt-hours in an interval: the last Wh is beyond what a float of the sum can tell."""
    energy = energy_of([[1e11, 0]] * 2, [[0.7e11, 0.1e11, 0.9e11]] * 2)
    done = allot(Equal(Unused.BY_SHARE), energy)
    assert done.received.sum(1) == pytest.approx([1e14] * 2) and (done.received[:, 1] == 1e13).all()


def test_offers_of_several_producers_are_cut_alike():
    """B is offered 3 by P and 1 by A and draws 2: half of both."""
    energy = energy_of([[3, 1]] * 2, [[0, 2, 0]] * 2)
    done = allot(Pairs(np.array([[0, 1, 0], [0, 1, 0]])), energy)
    assert done.received.tolist() == [[0, 2000, 0]] * 2 and done.given.tolist() == [[1500, 500]] * 2


def test_readings_are_rounded_to_whole_wh_and_their_sum_is_kept():
    energy = energy_of([[0.0004, 0.0004]] * 2, [[0.0015, 0.0013, 0.0012]] * 2)
    assert energy.consumption.tolist() == [[2, 1, 1]] * 2  # 4.0 Wh
    assert energy.generation.tolist() == [[1, 0]] * 2  # 0.8 Wh


def test_communities_of_one_meter_are_settled_one_by_one(day):
    several = BY_HAND["several communities"][0]
    first, second = several.allotments(day)
    assert first.received[1].tolist() == [2000, 500, 0] and second.received[1].tolist() == [0, 500, 500]
    parts = several.parts(energy_of([[0.001, 0.001]] * 2, [[0.003, 0.003, 0.003]] * 2))
    assert [part.consumption[0].tolist() for part in parts] == [[3, 1, 0], [0, 2, 3]]  # halves of 3 Wh


# --- days that are not like others ----------------------------------------------------------------


def quarter_hours(date, zone="Europe/Vienna"):
    """A member's day of 1 kWh a quarter-hour, and feed-in of 2 kWh."""
    first = pd.Timestamp(date, tz=zone)
    count = (pd.Timestamp(date) + pd.Timedelta(days=1)).tz_localize(zone) - first
    slots = int(count / pd.Timedelta("15min"))
    ones = np.ones((slots, 1))
    return energy_of(
        2 * ones, [[1, 1]] * slots, start=first, freq="15min", zone=None, producers="P", consumers="AB"
    )


@pytest.mark.parametrize(
    ("date", "slots"), [("2024-03-31", 92), ("2024-10-27", 100), ("2024-02-29", 96), ("2023-02-28", 96)]
)
def test_hours_of_days_with_a_change_of_the_clock(date, slots):
    """B alone has the hour from 2 to 3: nothing in spring, twice 4 kWh in autumn; else A has all."""
    energy = quarter_hours(date)
    assert len(energy.time) == slots
    shares = np.tile([1.0, 0.0], (24, 1))
    shares[2] = [0, 1]
    done = allot(HourlyShares(shares), energy)
    night = {92: 0, 100: 8}.get(slots, 4)  # quarter-hours
    assert done.received[:, 1].sum() == 1000 * night
    assert done.received[:, 0].sum() == 1000 * (slots - night)
    hours = by_the_hour(energy)
    assert len(hours.time) == slots // 4 and (hours.consumed == 8000).all()
    assert list(hours.time) == list(energy.time[::4])


def test_the_hour_of_a_zone_that_is_half_an_hour_off():
    energy = quarter_hours("2024-06-01", zone="Asia/Kolkata")
    assert by_the_hour(energy).time[0] == pd.Timestamp("2024-06-01", tz="Asia/Kolkata")


def test_hours_must_be_whole():
    energy = quarter_hours("2024-06-01")
    part = replace(
        energy,
        time=energy.time[1:-3],
        generation=energy.generation[1:-3],
        consumption=energy.consumption[1:-3],
    )
    with pytest.raises(
        ValueError, match=r"begin and end with one.*from 2024-06-01 00:15 to 2024-06-01 23:15"
    ):
        by_the_hour(part)
    with pytest.raises(ValueError, match="40 minutes do not make up an hour"):
        by_the_hour(energy_of([[1, 1]] * 3, [[1, 1, 1]] * 3, freq="40min"))


# --- Italy ----------------------------------------------------------------------------------------


def test_shared_energy_of_an_hour_and_the_part_of_the_premium_beyond_the_threshold():
    """Hour 1: 4 kWh fed in within its first half, 3 drawn in its second: 3 are shared, in no half-hour any.

    Hour 2: 2 fed in, 4 drawn: 2. In all 5 of 6 kWh; 55 % are 3.3, 45 % are 2.7.
    """
    energy = energy_of(
        [[4, 0], [0, 0], [1, 1], [0, 0]], [[0, 0, 0], [1, 1, 1], [4, 0, 0], [0, 0, 0]], freq="30min"
    )
    assert allot(ProRata(), by_the_hour(energy)).shared.tolist() == [3000, 2000]
    assert allot(ProRata(), energy).shared.tolist() == [0, 0, 2000, 0]
    found = premium(energy, eur_per_kwh=0.1)
    assert (found.shared_kwh, found.injected_kwh) == (5, 6) and found.share == pytest.approx(5 / 6)
    assert found.premium_eur == pytest.approx(0.5) and found.reserved_eur == pytest.approx(0.17)
    assert premium(energy, eur_per_kwh=0.1, grant=True).reserved_eur == pytest.approx(0.23)
    low = premium(energy_of([[9, 0]] * 2, [[1, 0, 0]] * 2, freq="1h"), eur_per_kwh=0.1)
    assert low.reserved_eur == 0


# --- money ----------------------------------------------------------------------------------------


def test_money_by_hand(day):
    """Pro rata shares 0, 4, 7, 1 kWh at 0.30 - 0.08 - 0.02; from 18 the utility asks 0.40."""
    prices = prices_of(np.array([0.3, 0.3, 0.3, 0.4]), 0.08, intervals=4, fee=0.02, internal=0.15)
    done = allot(ProRata(), day)
    found = money(done, prices)
    assert found.intervals == pytest.approx([0, 0.8, 1.4, 0.3])
    assert found.total == pytest.approx(2.5) == money_of_market(day, prices).sum()
    # A receives 1, 1, 0.5 kWh at 0.13, 0.13, 0.23 less than the utility asks; it gives 1 and 1.75 at 0.07
    # more than it pays
    table = money_table(done, prices).set_index("member")
    assert list(table.index) == ["A", "B", "C", "P"]
    assert table.loc["A", "saved_eur"] == pytest.approx(0.13 + 0.13 + 0.115)
    assert table.loc["A", "earned_eur"] == pytest.approx(0.07 * 2.75)
    assert table.loc["P", "earned_eur"] == pytest.approx(0.07 * 9.25) and table.loc["P", "saved_eur"] == 0
    assert table["saving_eur"].sum() == pytest.approx(2.5)
    # fixed shares: 4, 6, 0.75 kWh
    assert money(allot(FixedShares(FIXED), day), prices).total == pytest.approx(0.8 + 1.2 + 0.225)


def test_both_sides_save_the_same_by_default(day):
    prices = prices_of(0.3, 0.08, intervals=4, fee=0.02)
    found = money(allot(ProRata(), day), prices)
    assert found.consumers.sum() == pytest.approx(found.producers.sum()) == pytest.approx(1.2)


def test_the_market_does_not_trade_at_a_loss(day):
    """With a fee of 0.3 a shared kWh costs 0.08: keys of the law share all the same."""
    prices = prices_of(0.3, 0.08, intervals=4, fee=0.3)
    assert money_of_market(day, prices).sum() == 0
    assert money(allot(ProRata(), day), prices).total == pytest.approx(-0.08 * 12)


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"buy": np.ones(3)}, "3 prices for 4"), ({"sell": np.nan}, "numbers"), ({"fee": np.inf}, "fee")],
)
def test_prices_are_checked(changed, said):
    with pytest.raises(ValueError, match=said):
        prices_of(**({"buy": 0.3, "sell": 0.1, "intervals": 4} | changed))


# --- refusals -------------------------------------------------------------------------------------


class Greedy(Key):
    """Everybody receives all that A draws twice over, and the first gives it."""

    def split(self, energy):
        drawn = np.outer(energy.consumption[:, 0], [2.0, 0, 0])
        return Split(drawn, drawn[:, :2])


class Leaky(Key):
    """Half of what is received is not given."""

    def split(self, energy):
        return Split(1.0 * energy.consumption, 0.5 * energy.consumption[:, :2])


WRONG = {
    "sum to 0.9": lambda day: FixedShares(np.array([0.5, 0.2, 0.2])),
    "not negative": lambda day: FixedShares(np.array([1.5, -0.5, 0])),
    "in row 3": lambda day: HourlyShares(np.where(np.arange(24)[:, None] == 2, 0.5, [[1, 0, 0]])),
    "23 rows": lambda day: HourlyShares(np.tile([1.0, 0, 0], (23, 1))),
    "24 rows of shares for 4 intervals": lambda day: allot(HourlyShares(by_hour(), True), day),
    "shares of 2 members for 3": lambda day: allot(FixedShares(np.array([0.5, 0.5])), day),
    "2 levels for 3": lambda day: allot(Priority(np.array([1, 2])), day),
    "levels must be numbers": lambda day: Priority(np.array([1, np.nan])),
    "sum to 1.1": lambda day: Pairs(np.array([[0.6, 0.5, 0], [0, 0, 1]])),
    "percentages of shape": lambda day: allot(Pairs(np.eye(3)), day),
    "factors of consumption of meter 2 sum to 110 %": lambda day: SeveralCommunities(
        [
            Participation(key=ProRata(), consumption=np.array([0.5, 0.6, 0]), generation=np.ones(2)),
            Participation(key=ProRata(), consumption=np.array([0.5, 0.5, 0]), generation=np.zeros(2)),
        ]
    ),
    "trades of": lambda day: allot(FromMarket(np.ones((4, 2)), np.ones((4, 2))), day),
    "traded energy": lambda day: FromMarket(-np.ones((4, 3)), np.ones((4, 2))),
    "Greedy allots": lambda day: allot(Greedy(), day),
    "Leaky members receive another sum": lambda day: allot(Leaky(), day),
    "2 dimensions": lambda day: FixedShares(by_hour()),
}


@pytest.mark.parametrize("said", WRONG)
def test_wrong_keys_are_refused(day, said):
    with pytest.raises(ValueError, match=said):
        WRONG[said](day)


def test_wrong_energy_is_refused_with_every_fault():
    generation, consumption = GENERATION.astype(float), CONSUMPTION.astype(float)
    generation[1, 0], consumption[2, 2] = -1, np.nan
    with pytest.raises(InputError) as raised:
        energy_of(generation, consumption, consumers=("A", "B", "B"))
    text = str(raised.value)
    assert "3 faults" in text and "generation.P, row 2" in text and "-1 kWh" in text
    assert "consumption.B, row 3" in text and "the member stands 2 times" in text
    with pytest.raises(InputError, match=r"consumption: an array of shape \(4, 3\) for 4 times and 2"):
        energy_of(GENERATION, CONSUMPTION, consumers=("A", "B"))
    time = pd.date_range("2024-06-01", periods=5, freq="6h", tz="UTC")
    for index, said in (([0, 1, 2, 4], "gap or irregular"), ([0, 1, 1, 2], "stands twice")):
        with pytest.raises(InputError, match=said):
            measured(time[index], GENERATION, CONSUMPTION, producers=PRODUCERS, consumers=CONSUMERS)


# --- the catalogue --------------------------------------------------------------------------------

GIVEN = Given(
    shares=FIXED,
    hourly=by_hour(),
    levels=np.array([2, 1, 1]),
    percentages=np.array([[0.5, 0.5, 0], [0, 0, 0.8]]),
    trades=FromMarket.of_trades(TRADES),
)
RULE_OF = {
    "austria_static": "fixed",
    "austria_dynamic": "pro rata",
    "germany_building_constant": "fixed",
    "germany_building_proportional": "pro rata",
    "france_static": "fixed",
    "france_dynamic": "pro rata",
    "france_simple_dynamic": "hourly",
    "france_full_dynamic": "pairs",
    "spain_fixed": "fixed",
    "spain_hourly": "hourly",
    "italy": "pro rata",
    "portugal_fixed": "fixed",
    "portugal_hierarchical": "priority",
    "portugal_dynamic": "pairs",
    "luxembourg_priority": "priority",
    "luxembourg_percentage": "fixed, then pro rata",
    "luxembourg_pro_rata": "pro rata",
    "wallonia_fixed_equal": "equal",
    "wallonia_fixed_specific": "fixed",
    "wallonia_pro_rata": "pro rata",
    "equal": "equal",
    "pro_rata": "pro rata",
    "pro_rata_to_surplus": "pro rata to surplus",
    "market": "market",
    "fixed": "fixed",
    "fixed_then_pro_rata": "fixed, then pro rata",
    "hourly": "hourly",
    "priority": "priority",
    "pairs": "pairs",
}


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)
def test_every_entry_computes_its_rule(day, entry):
    key, received, _ = BY_HAND[RULE_OF[entry.name]]
    found = made(entry, GIVEN)
    assert type(found) is type(key)
    assert allot(found, day).received.tolist() == [[0, 0, 0], *received]
    if entry.needs:
        with pytest.raises(ValueError, match=f"the key {entry.name} needs"):
            made(entry, Given())


def test_the_catalogue_is_complete():
    assert set(RULE_OF) == {entry.name for entry in CATALOGUE}
    assert {entry.rule for entry in CATALOGUE} == set(RULES)
    assert set(WORDS) == set(RULES.values()) - {""}
    assert usual(trades=False) == ("equal", "pro_rata", "pro_rata_to_surplus")
    assert usual(trades=True) == (*usual(trades=False), "market")
    assert {entry.name for entry in CATALOGUE if entry.by_the_hour} == {
        "spain_fixed",
        "spain_hourly",
        "italy",
    }


def test_what_becomes_of_unused_shares_can_be_chosen_where_the_rule_leaves_it_free(day):
    entries = {entry.name: entry for entry in CATALOGUE}
    for name in ("equal", "fixed"):
        chosen = allot(made(entries[name], GIVEN, unused=Unused.BY_SHARE), day)
        assert chosen.received.tolist() == [[0, 0, 0], *BY_HAND[f"{name}, by share"][1]]
    static = allot(made(entries["austria_static"], GIVEN, unused=Unused.BY_SHARE), day)
    assert static.received.tolist() == [[0, 0, 0], *BY_HAND["fixed"][1]]


def test_keys_do_without_jax_and_their_names_without_pandas():
    for modules, absent in (("applied, meters, shares_file, several", "jax"), ("catalogue", "pandas")):
        code = f"import sys; from jaxp2p.sharing import {modules}; assert {absent!r} not in sys.modules"
        subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)
