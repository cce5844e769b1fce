"""What members pay: a month by hand, rules by hand, sums to the cent, the steps of a billing run."""

from dataclasses import replace
from decimal import Decimal

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from communities import small
from test_cli import call

import jaxp2p as jp
from jaxp2p.report.accounts import account_of_tables
from jaxp2p.report.bills import compare_rules, read_billing
from jaxp2p.settlement.account import account_of
from jaxp2p.settlement.billing import Billing
from jaxp2p.settlement.bills import Bills, place_of
from jaxp2p.settlement.lines import LINES
from jaxp2p.settlement.rules import RULES, fee_of, pooled, returned


def month(**changes):
    """Three members, June and July with two slots each: A has the sun, B and C draw.

    Slot 1: A feeds in 10 kWh, B draws 4, C 2; A sells 6 to them at 0.16 EUR/kWh with a fee of 0.02.
    Slot 2: A feeds in 1, B draws 3, C 1: A sells 0.75 to B and 0.25 to C at 0.24. Slots 3 and 4: likewise.
    """
    twice = lambda *rows: np.array([*rows, *rows], float)
    given = twice([6, 0, 0], [1, 0, 0])
    taken = twice([0, 4, 2], [0, 0.75, 0.25])
    price = twice([0.16], [0.24])
    values = {
        "price_buy": np.array([0.30, 0.30, 0.30, 0.30]),
        "price_sell": np.array([0.08, 0.08, 0.08, 0.08]),
        "bought": twice([0, 0, 0], [0, 2.25, 0.75]),
        "sold": twice([4, 0, 0], [0, 0, 0]),
        "given": given,
        "taken": taken,
        "received": price * given,
        "paid": price * taken,
        "fees": 0.01 * (given + taken),
        "losses": twice([0.03, 0.012, 0.006], [0.001, 0.003, 0.001]),
        "tightness": twice([0.05, 0.05, 0], [0, 0, 0]),
    }
    time = pd.DatetimeIndex(
        ["2024-06-30 12:00", "2024-06-30 18:00", "2024-07-01 12:00", "2024-07-01 18:00"], tz="Europe/Vienna"
    )
    return account_of(time, ("A", "B", "C"), **(values | changes))


def test_a_month_by_hand():
    bills = Bills.of(month())
    table = bills.summary("month").set_index(["member", "period"])
    june = {
        # A: 4 x 0.08 from the utility, 6 x 0.16 + 1 x 0.24 from peers, 7 x 0.01 of fees
        "A": ("0.00", "-0.32", "0.00", "-1.20", "0.07", "0.03", "-1.42"),
        # B: 2.25 x 0.30, 4 x 0.16 + 0.75 x 0.24, 4.75 x 0.01 = 0.0475
        "B": ("0.68", "0.00", "0.82", "0.00", "0.05", "0.01", "1.56"),
        # C: 0.75 x 0.30 = 0.225, 2 x 0.16 + 0.25 x 0.24, 0.0225; rounding gives B the odd cent of 0.90
        "C": ("0.22", "0.00", "0.38", "0.00", "0.02", "0.01", "0.63"),
    }
    names = ("utility_bought", "utility_sold", "peers_bought", "peers_sold", "fees", "losses", "total")
    for member, amounts in june.items():
        row = table.loc[(member, "2024-06")]
        assert [str(row[f"{name}_eur"]) for name in names] == list(amounts), member
    # the utility: 0.90 - 0.32 + 0.05 of losses; the market: 14 kWh of both sides x 0.01
    assert bills.received() == {"utility": 2 * 63, "market": 2 * 14, "members": 0}
    assert bills.total.sum() == 2 * (63 + 14) == sum(bills.received().values())
    july = table.xs("2024-07", level="period")["total_eur"]
    assert list(july) == [Decimal("-1.42"), Decimal("1.56"), Decimal("0.63")]
    lines = bills.table("all")
    fees = lines[(lines["member"] == "A") & (lines["line"] == "fees")].iloc[0]
    assert fees["kwh"] == 14 and fees["eur"] == Decimal("0.14") and "half the fee" in fees["formula"]
    assert bills.statement().set_index("line").loc["peers_bought", "kwh"] == 14
    assert list(bills.table("day")["period"].unique()) == ["2024-06-30", "2024-07-01"]


def test_half_a_cent_that_differs_in_the_last_digit_still_cancels():
    """Paid 0.5 cents, received a breath more: rounded by itself one would be a cent and the other none."""
    zero, taken = np.zeros((1, 2)), np.array([[0.0, 1]])
    account = account_of(
        pd.DatetimeIndex(["2024-06-30"]),
        ("A", "B"),
        price_buy=np.ones(1),
        price_sell=np.ones(1),
        bought=zero,
        sold=zero,
        given=taken[:, ::-1],
        taken=taken,
        paid=0.005 * taken,
        received=0.005 * taken[:, ::-1],
    )
    bills = Bills.of(replace(account, received=1.00002 * account.received))
    assert bills.faults() == [] and bills.received()["members"] == 0


def test_cents_close_where_one_member_sells_for_millions():
    """Prices in float32 are off by 1e-7: 60 cents of six million euros, among three members."""
    year = month()
    huge = {name: 1e6 * getattr(year, name) for name in ("bought", "sold", "given", "taken", "paid")}
    account = month(**huge, received=1e6 * year.received * (1 + 1e-7), fees=None, losses=None)
    np.testing.assert_allclose(account.received.sum(1), account.paid.sum(1), rtol=1e-12)
    bills = Bills.of(account)
    assert bills.faults() == [] and bills.received()["members"] == 0
    assert int(bills.total.sum()) == bills.received()["utility"]


def test_congestion_is_paid_by_who_makes_it_and_comes_back():
    """A pays 0.05 x 10, B gets 0.05 x 4: a rent of 0.30, of which A gets 10/16, B 4/16, C 2/16."""
    tight = returned(month())
    np.testing.assert_allclose(tight.rent, [0.3, 0, 0.3, 0])
    np.testing.assert_allclose(tight.congestion[0], [0.5 - 0.1875, -0.2 - 0.075, -0.0375])
    assert np.abs(tight.congestion.sum(1)).max() < 1e-12
    cents = Bills.of(tight).cents[place_of("congestion")]
    assert cents.sum(1).tolist() == [0, 0] and cents[0].tolist() == [31, -27, -4]


@pytest.mark.parametrize(
    ("rule", "price"),
    [
        # slot 1: S = 10, D = 6; slot 2: S = 1, D = 4, where b s / ((b - s) / 4 + s) = 0.024 / 0.135
        ("mid_market", (0.19, 0.19)),
        ("supply_demand", (0.08, 0.024 / 0.135)),
        ("uniform_price", (0.08, 0.30)),
    ],
)
def test_rules_by_hand(rule, price):
    found = RULES[rule].apply(month())
    np.testing.assert_allclose(found.taken[:2], [[0, 4, 2], [0, 0.75, 0.25]])
    np.testing.assert_allclose(found.paid[0], [0, 4 * price[0], 2 * price[0]])
    np.testing.assert_allclose(found.paid[1], [0, 0.75 * price[1], 0.25 * price[1]])
    np.testing.assert_allclose(found.received[1], [price[1], 0, 0])
    assert found.due.sum() == pytest.approx(month().due.sum())


def test_equal_benefit_is_equal():
    """6 kWh in slot 1, 1 in slot 2, each worth 0.30 - 0.08 - 0.02 = 0.20."""
    found = RULES["equal_benefit"].apply(month())
    gain = found.alone - (found.due - found.losses)
    np.testing.assert_allclose(gain[:2], [[0.4, 0.4, 0.4], [0.2 / 3] * 3])
    # without C, who neither gives nor takes, its part is that of A and B
    pair = np.array([1.0, 1, 0])
    taken = month().taken * pair
    given = taken.sum(1, keepdims=True) * np.array([1.0, 0, 0])
    alone = month(bought=month().bought * pair, taken=taken, given=given, paid=0 * taken, received=0 * taken)
    shared = RULES["equal_benefit"].apply(alone)
    gain = shared.alone - (shared.due - shared.losses)
    np.testing.assert_allclose(gain[:, 2], 0, atol=1e-12)
    np.testing.assert_allclose(gain[:, 0], gain[:, 1])
    assert gain[:, 0].min() > 0.05


def test_the_rules_side_by_side():
    table = compare_rules(month()).set_index("rule")
    assert list(table.index) == list(RULES) and np.ptp(table["due_eur"]) < 1e-9
    # at 0.08 A earns nothing more than alone in slot 1 and pays the fee of 0.06, in slot 2 it gains 0.21
    # at 0.30 B and C gain 0.22 - 0.01 per kWh in slot 1, and lose the fee in slot 2
    assert table.loc["uniform_price", "worse_off"] == 0
    assert table.loc["equal_benefit", "saved_eur"] == pytest.approx(2 * 1.4)


def test_what_devices_cost_is_told_and_not_billed():
    bills = Bills.of(month(own=np.full((4, 3), 0.02)))
    assert list(bills.summary("all")["own_eur"]) == [Decimal("0.08")] * 3
    assert bills.total.tolist() == Bills.of(month()).total.tolist() and "nobody" not in bills.received()


def random_account(seed, slots, members, tight):
    rng = np.random.default_rng(seed)
    net = rng.normal(size=(slots, members)) * 10.0 ** rng.integers(-2, 2, (slots, 1))
    net *= rng.random((slots, members)) < 0.8
    drawn, fed = np.maximum(-net, 0), np.maximum(net, 0)
    buy = rng.uniform(-0.1, 0.5, slots)
    zero = np.zeros_like(net)
    start = account_of(
        pd.date_range("2024-01-01", periods=slots, freq="15min", tz="Europe/Vienna"),
        tuple(f"M{n}" for n in range(members)),
        price_buy=buy,
        price_sell=buy - rng.uniform(0, 0.2, slots),
        bought=drawn,
        sold=fed,
        given=zero,
        taken=zero,
        losses=rng.uniform(0, 0.01, net.shape),
        tightness=rng.normal(size=net.shape) * 0.05 if tight else zero,
    )
    traded = pooled(start, rng.uniform(-0.05, 0.4, slots))
    return replace(traded, fees=0.004 * (traded.given + traded.taken))


@pytest.mark.parametrize("tight", [False, True], ids=["free", "congested"])
@pytest.mark.parametrize("rule", list(RULES))
def test_money_is_conserved_to_the_cent_in_ten_thousand_random_slots(rule, tight):
    account = random_account(3, 10_000, 12, tight)
    billed = returned(RULES[rule].apply(account))
    assert np.abs(billed.congestion.sum(1)).max() < 1e-9 and np.abs(fee_of(account) - 0.008).max() < 1e-9
    np.testing.assert_allclose(billed.paid.sum(1), billed.received.sum(1), atol=1e-9)
    np.testing.assert_allclose(billed.net, account.net, atol=1e-9)
    if rule != "market":  # what peers pay each other is nothing to the utility
        np.testing.assert_allclose(billed.due.sum(1), account.due.sum(1), atol=1e-9)
    bills = Bills.of(billed)
    received = bills.received()
    assert bills.faults() == [] and received["members"] == 0
    assert int(bills.total.sum()) == sum(received.values())
    exact = [line.eur(billed).sum() for line in LINES]
    # half a cent per line and day at most, over 105 days
    assert np.abs(bills.cents.sum((1, 2)) / 100 - exact).max() < 0.005 * len(bills.days)
    months = bills.summary("month")
    whole = Decimal(int(bills.total.sum())) / 100
    assert sum(months["total_eur"]) == sum(bills.summary("day")["total_eur"]) == whole


def test_an_account_that_does_not_close_is_refused():
    with pytest.raises(ValueError, match=r"kWh are given and taken .* slot 2024-06-30 18:00.* 0 more"):
        month(given=np.array([[6, 0, 0], [2, 0, 0], [6, 0, 0], [1, 0, 0]], float), received=None, paid=None)
    with pytest.raises(ValueError, match="EUR are received"):
        month(paid=None)
    with pytest.raises(ValueError, match="bought holds what is no number"):
        month(bought=np.full((4, 3), np.nan))
    with pytest.raises(ValueError, match=r"sold has the shape \(3,\)"):
        month(sold=np.zeros(3))


@pytest.fixture(scope="module")
def runs():
    """Two days of rural1 in both markets, with limits that bind."""
    made = {}
    for market in ("pool", "bilateral"):
        tables = jp.load_case("rural1", pv_scale=2.0)
        case = jp.build(tables, start="2016-07-04", days=2, market=market)
        made[market] = jp.run(case, policies=("lyapunov", "no_storage"), lower_bound=False)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("market", ["pool", "bilateral"])
def test_bills_of_a_run_are_its_costs(runs, market):
    """Paid and received are those of the evaluation, line by line, for every member."""
    run = runs[market]
    account = account_of_tables(run.homes("lyapunov"), run.slots("lyapunov"))
    evaluation = run.evaluations["lyapunov"]
    gained = np.asarray(run.trajectory("lyapunov").energy[-1], float) - np.asarray(
        run.case.community.prosumers.battery.energy_start, float
    )
    bill = evaluation.bill + run.run.terminal_price * gained + evaluation.costs.losses
    np.testing.assert_allclose((account.due + account.own).sum(0), bill, atol=1e-4)
    assert np.abs(account.own).max() < 1e-5  # rural1 has no wear, and nothing for curtailment
    assert account.rent.min() > -1e-6 and account.rent.max() > 0.01
    bills = Bills.of(returned(account))
    assert bills.faults() == [] and bills.received()["members"] == 0
    # trade by trade, seen from the seller
    trades, hours = run.trades("lyapunov"), float(run.case.horizon.slot_hours)
    worth = hours * trades["kw"] * trades["price_eur_per_kwh"]
    received = worth.groupby(trades["seller"]).sum().reindex(account.members).fillna(0)
    np.testing.assert_allclose(received, account.received.sum(0), atol=1e-4)
    paid = worth.groupby(trades["buyer"]).sum().reindex(account.members).fillna(0)
    np.testing.assert_allclose(paid, account.paid.sum(0), atol=1e-4)
    # the local price by parts, of which the first is the price of the trades
    prices = run.prices("lyapunov").set_index("time")
    parts = ["energy", "fee", "losses", "voltage", "branch", "rest"]
    signs = np.array([1, 1, -1, -1, -1, 1])
    whole = (prices[[f"{part}_eur_per_kwh" for part in parts]].to_numpy() * signs).sum(1)
    np.testing.assert_allclose(whole, prices["nodal_eur_per_kwh"], atol=1e-6)
    mean = worth.groupby(trades["time"]).sum() / (hours * trades["kw"].groupby(trades["time"]).sum())
    energy = prices["energy_eur_per_kwh"].groupby(level=0).mean()
    np.testing.assert_allclose(energy.loc[mean.index], mean, atol=1e-6)
    # a member that keeps to its trades at a tariff has a price of its own, for as little as the gap allows
    rest = prices["rest_eur_per_kwh"].abs()
    assert prices["branch_eur_per_kwh"].max() > 0.05 and rest.max() < 0.03 and (rest > 0.01).mean() < 1e-3
    names = set(trades["seller"]) | set(trades["buyer"])
    assert names - set(account.members) == ({"pool"} if market == "pool" else set())


@pytest.mark.slow
def test_rent_is_prices_of_limits_times_what_is_left_of_them(runs):
    """sum_n (A^T y)_n p_n = y . (limit - offset), as in an exact dual: row by row and slot by slot."""
    run = runs["pool"]
    case, trajectory = run.case, run.trajectory("no_storage")
    feeder, price = case.community.feeder, np.asarray(trajectory.row_price, float)
    moved = jnp.asarray(trajectory.injection)
    used = jax.vmap(lambda p: feeder.values(feeder.bus_sum(p), jnp.zeros(feeder.rows, p.dtype)))(moved)
    hours = float(case.horizon.slot_hours)
    account = account_of_tables(run.homes("no_storage"), run.slots("no_storage"))
    np.testing.assert_allclose(account.rent, hours * (price * np.asarray(used)).sum(1), atol=2e-4)


@pytest.mark.slow
def test_nobody_is_worse_off_in_the_pool_than_alone():
    """In every slot, in money and storage value: a member may always do in the pool what it does alone.

    With price lambda a member minimises its own cost at the better of lambda -+ fee / 2 and the tariffs; the
    tariffs alone are one way to do so. Without limits of the grid, whatever is stored.
    """
    pool, horizon = small("rural3", days=1, market="pool", dtype="float64")
    from jaxp2p.control.policy import slot_problem
    from jaxp2p.runs.runner import make_policies, penalties_of
    from jaxp2p.simulation.forward import slots as rows_of
    from jaxp2p.slot import execute, solvers
    from jaxp2p.slot.newton.method import Newton

    policy, penalties, solver = make_policies(pool, horizon)["lyapunov"], penalties_of(horizon), Newton()
    battery = pool.prosumers.battery
    free = pool.without_network()
    nobody = small("rural3", days=1, market="none", dtype="float64")[0].without_network()

    @jax.jit
    def objective(community, slot, energy):
        problem = slot_problem(
            community, penalties, policy, slot, energy, jnp.zeros((), jnp.int32), None, None
        )
        done = solvers.executed(problem, solvers.solve(problem, solver, solvers.init(problem, solver)))
        d = done.dispatch
        own = execute.slot_cost(problem, d) + execute.storage_drift(problem, d) - execute.payments(problem, d)
        return own, jnp.sum(jnp.abs(d.trades)), done.status

    rng, traded = np.random.default_rng(7), 0.0
    for number in range(0, horizon.slots, 8):
        slot = jax.tree.map(lambda x, n=number: x[n], rows_of(horizon))
        energy = jnp.asarray(rng.random(pool.size)) * battery.energy_max
        together, volume, status = objective(free, slot, energy)
        alone, none, _ = objective(nobody, slot, energy)
        traded += float(volume)
        assert int(status) == 0 and float(none) == 0
        assert float(jnp.max(together - alone)) < 1e-6
    assert traded > 10


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("network", [True, False], ids=["network", "free"])
def test_money_is_conserved_in_five_thousand_slots_of_a_market(network):
    """53 days of rural1 with its grid, which is tight at noon, and without: to the cent, for every member."""
    market = {"market": "pool", "network": network}
    case = jp.build(jp.load_case("rural1", pv_scale=2.0), start="2016-06-01", days=53, **market)
    run = jp.run(case, policies=("lyapunov",), lower_bound=False, foresight="off")
    homes, slots = run.homes("lyapunov"), run.slots("lyapunov")
    account = account_of_tables(homes, slots, "Europe/Berlin")
    assert len(account.time) == 53 * 96 and (account.rent.max() > 0.1) == network
    # by slot: what all pay is what utility and market get
    utility = account.price_buy * account.bought.sum(1) - account.price_sell * account.sold.sum(1)
    np.testing.assert_allclose(
        account.due.sum(1), utility + account.fees.sum(1) + account.losses.sum(1), atol=1e-6
    )
    for billed in (account, returned(account)):
        bills = Bills.of(billed)
        assert bills.faults() == [] and int(bills.total.sum()) == sum(bills.received().values())
        assert bills.received()["members"] == 0 and len(bills.days) == 54  # UTC from 02:00 on
    trades = run.trades("lyapunov")
    sold = trades[trades["buyer"] == "pool"]
    assert 0.25 * (sold["kw"] * sold["price_eur_per_kwh"]).sum() == pytest.approx(
        account.received.sum(), rel=1e-5
    )


def preview():
    facts = {"case": "three", "policy": "p", "rule": "market", "congestion": "none"}
    return Billing(bills=Bills.of(month()), facts=facts)


def correction(*rows):
    return pd.DataFrame(rows, columns=["member", "day", "line", "kwh", "eur", "reason"])


def test_the_steps_of_a_billing_run():
    wrong_meter = correction(("B", "2024-06-30", "utility_bought", "-0.5", "-0.15", "meter read twice"))
    among = correction(
        ("A", "2024-07-01", "peers_sold", 0, "-0.10", "agreed"),
        ("C", "2024-07-01", "peers_bought", 0, "0.10", "agreed"),
    )
    start = preview()
    better = start.corrected(wrong_meter).corrected(among)
    assert better.bills.total.tolist() == (start.bills.total + np.array([-10, -15, 10])).tolist()
    assert len(better.corrections) == 3 and start.corrections.empty  # the preview itself stays
    sent = better.final()
    with pytest.raises(ValueError, match="final: they are not changed"):
        sent.corrected(wrong_meter)
    with pytest.raises(ValueError, match="final already"):
        sent.final()
    with pytest.raises(ValueError, match="only final bills are credited"):
        better.credited(wrong_meter)
    credited = sent.credited(wrong_meter).credited(among)
    assert (credited.bills.cents == sent.bills.cents).all() and len(credited.credits) == 2
    assert credited.settled.total.tolist() == (sent.bills.total + np.array([-10, -15, 10])).tolist()
    assert sum(credited.settled.received().values()) == credited.settled.total.sum()


def test_every_fault_of_corrections_is_named():
    table = correction(
        ("X", "2024-06-30", "fees", "0", "0.1", "why"),
        ("A", "2024-06-29", "tax", "0.0001", "0.105", ""),
        ("B", "2024-07-01", "fees", "one", "nan", None),
    )
    with pytest.raises(jp.InputError) as raised:
        preview().corrected(table)
    said = {(fault.column, fault.row) for fault in raised.value.faults}
    second = {(name, 2) for name in ("day", "line", "kwh", "eur", "reason")}
    assert said == {("member", 1), *second, ("kwh", 3), ("eur", 3), ("reason", 3)}
    with pytest.raises(jp.InputError, match=r"2024-07-01 0.10 EUR among members .* do not cancel"):
        preview().corrected(correction(("C", "2024-07-01", "peers_bought", 0, "0.10", "agreed")))
    with pytest.raises(jp.InputError, match="nothing in it"):
        preview().corrected(correction())
    with pytest.raises(jp.InputError, match=r"reason.*missing"):
        preview().corrected(correction().drop(columns="reason"))


def test_a_billing_run_in_files(tmp_path):
    from jaxp2p.library.bills import BillingRun

    run = BillingRun(billing=preview(), account=None, by="month")
    folder = run.save(tmp_path / "bills", excel=True)
    written = {file.name for file in folder.iterdir()}
    assert written >= {"bills.xlsx", "bills.csv", "statement.csv", "lines.csv"}
    sheet = pd.read_excel(folder / "bills.xlsx", sheet_name="bills")
    assert sheet["total_eur"].round(2).tolist() == [float(x) for x in run.bills()["total_eur"]]
    again = jp.bill(folder)
    assert (again.billing.bills.cents == run.billing.bills.cents).all()
    assert (again.billing.bills.energy == run.billing.bills.energy).all()
    note = correction(("B", "2024-06-30", "utility_bought", "-0.5", "-0.15", "meter read twice"))
    note.to_csv(tmp_path / "note.csv", index=False)
    sent = again.corrected(tmp_path / "note.csv").final()
    sent.save(folder)
    with pytest.raises(FileExistsError, match="final bills, which nothing replaces"):
        run.save(folder)
    sent.corrected(tmp_path / "note.csv").save(folder)
    last = jp.bill(folder)
    assert last.final_bills and len(last.billing.credits) == 1 and len(last.billing.corrections) == 1
    assert last.bills().set_index(["member", "period"]).loc[("B", "2024-06"), "total_eur"] == Decimal("1.26")
    with pytest.raises(FileExistsError, match="nothing replaces"):
        sent.save(folder)  # would lose the note
    lines = (folder / "lines.csv").read_text()
    (folder / "lines.csv").write_text(lines.replace("A,2024-06-30,fees", "B,2024-06-30,fees"))
    with pytest.raises(ValueError, match="changed since"):
        read_billing(folder)


def called(*arguments):
    """Exit code, what was printed, and what was said on stderr."""
    done = call(*arguments)
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.slow
def test_the_command(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs["pool"].save("a-run", homes=True)
    code, out, err = called("bill", "a-run")
    assert code == 0 and "28 members pay" in out and "mid_market" in out and "preview" in out, err
    folder = tmp_path / "jaxp2p-results" / "a-run-bills"
    assert (folder / "bills.csv").is_file()
    code, out, _ = called("bill", str(folder), "--final", "--json", "-")
    assert code == 0 and '"step": "final"' in out
    code, _, err = called("bill", str(folder), "--rule", "mid_market")
    assert code == 2 and "--rule: a billing run keeps" in err
    code, _, err = called("bill", "a-run")
    assert code == 2 and "final bills" in err
    runs["pool"].save("bare", homes=False)
    code, _, err = called("bill", "bare")
    assert code == 2 and "--per-home" in err
    code, _, err = called("bill", "a-run", "--rule", "midmarket", "--out", "other")
    assert code == 2 and 'did you mean "mid_market"' in err
