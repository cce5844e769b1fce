"""Tuning and derivatives by public names: the same as on the command line, and against finite differences."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner
from villages import village

import jaxp2p as jp
from jaxp2p.cli.app import app
from jaxp2p.control.bounds import stored_value_range
from jaxp2p.tuning.stages import Plan, tune_stages
from jaxp2p.tuning.train import Settings

slow = pytest.mark.slow
TINY = {"steps": 4, "knots": 4, "features": ("price", "load_mean"), "scenarios": 2}
EXACT = jp.Newton(eps_gap=1e-13, eps_flow=1e-9, eps_voltage=1e-12, max_iter=5000)
MONDAY = pd.Timestamp("2016-07-04")


@jp.record
class Worth(jp.OwnPolicy):
    """A stored kWh is worth a number, and less the more there is: no battery is left undecided."""

    worth: float | jax.Array = 0.5

    def decide(self, community, slot, kept, slot_of_week, free, memory):
        return jp.Decision(free, value=self.worth - 0.05 * kept, slope=0.05)


@pytest.fixture(scope="module")
def tables():
    return jp.load_case("rural1", price="tou_noise")


@pytest.fixture(scope="module")
def case(tables):
    return jp.build(tables, start="2016-07-04", days=1, market="pool")


@pytest.fixture(scope="module")
def later(tables):
    return jp.build(tables, start="2016-07-05", days=1, market="pool")


@pytest.fixture(scope="module")
def heard():
    return []


@pytest.fixture(scope="module")
def tuned(case, later, heard):
    told = lambda *row: heard.append(row)
    return jp.tune(case, validation=later, end_value=0.2, progress=told, **TINY)


def equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.long
@slow
def test_what_is_tuned_runs_and_comes_back_from_its_file(tables, later, tuned, heard, tmp_path):
    assert [row[:2] for row in heard] == [(number, 4) for number in (1, 2, 3, 4)]
    assert tuned.history["loss"].tolist() == [row[2] for row in heard]
    assert float(jnp.abs(tuned.controller.level).max()) > 0
    path = tuned.save(tmp_path / "controller.json")
    again = jp.load_controller(path, later)
    equal(again, tuned.controller)
    policies = {"policies": ["no_storage"], "end_value": tuned.end_value, "lower_bound": False}
    first, second = (jp.run(later, controller=value, **policies) for value in (tuned.controller, again))
    equal(first.trajectory("tuned"), second.trajectory("tuned"))
    decided = first.trajectory("tuned")
    assert float(decided.charge.max()) > 1
    np.testing.assert_allclose(jp.simulate(later, again).energy, decided.energy, atol=2e-3)
    # with derivatives it is another program: slots end elsewhere within their tolerance, so that is tiny here
    sharp = jp.build(tables, start="2016-07-05", days=1, market="pool", dtype="float64")
    wide = jp.load_controller(path, sharp)
    exact = jp.run(sharp, controller=wide, solver=EXACT, **policies).trajectory("tuned")
    derived = jp.simulate(sharp, wide, adjoint="implicit", solver=EXACT)
    np.testing.assert_allclose(derived.energy, exact.energy, atol=1e-4)
    study = jp.study(
        later,
        scenarios=1,
        model="none",
        policies=["no_storage"],
        controller=again,
        end_value=0.2,
        foresight=0,
    )
    costs = study.kpis.set_index("policy")["total_cost_eur"]
    assert costs["tuned"] == pytest.approx(first.kpis().loc["tuned", "total_cost_eur"], abs=1e-2)
    content = json.loads(path.read_text())["about"]
    assert content["train"] == ["2016-07-04 00:00:00", 1] and content["settings"]["steps"] == 4
    assert "4 steps" in repr(tuned) and "rural1" in repr(tuned)


@pytest.mark.long
@slow
def test_it_is_what_the_command_line_finds(case, later, tuned, tmp_path):
    out, summary = tmp_path / "c.json", tmp_path / "s.json"
    words = (
        "tune rural1 --price tou_noise --start 2016-07-04 --train-days 2 --validation-days 1 --test-days 1"
    )
    words += " --steps 4 --knots 4 --features price,load_mean --scenarios 2 --end-value 0.2 --no-pictures -q"
    done = CliRunner().invoke(app, [*words.split(), "--out", str(out), "--json", str(summary)])
    assert done.exit_code == 0, done.output
    equal(jp.load_controller(out, case), tuned.controller)
    history = json.loads(summary.read_text())["history"]
    assert history["loss"] == tuned.history["loss"].tolist()
    np.testing.assert_array_equal(np.array(history["validation_eur"], float), tuned.history["validation_eur"])
    assert tuned.history["validation_eur"].notna().tolist() == [True, False, False, True]


@pytest.mark.long
@slow
def test_a_controller_can_be_tuned_again_every_week(tables, case, tmp_path):
    found = jp.tune(case, stages=2, **TINY, groups="home")

    def data(start, days):
        part = jp.build(tables, start=str(start), days=days, market="pool")
        return part.community, part.horizon

    plan = Plan(begin=MONDAY + pd.Timedelta(days=1), train_days=1, stages=2, scenarios=2, groups="home")
    settings = Settings(steps=4, knots=4, features=("one", "price", "load_mean"))
    expected = tune_stages(plan, data, terminal_price=found.end_value, settings=settings)
    equal(found.controller, expected.value)
    assert found.history["stage"].tolist() == [1, 1, 1, 1, 2, 2]
    assert found.end_value == jp.run(case, policies=["no_storage"], lower_bound=False).run.terminal_price
    path = found.save(tmp_path / "c.json")
    soon, late = (jp.build(tables, start=day, days=1, market="pool") for day in ("2016-07-05", "2016-07-14"))
    equal(jp.load_controller(path, soon), found.controller)
    moved = jp.load_controller(path, late)
    assert moved.begins.tolist() == [96 - 7 * 96, 96]


@pytest.mark.long
@slow
def test_tuning_goes_on_from_its_checkpoint(case, tuned, later, tmp_path):
    class Stop(Exception):
        pass

    def stop(done, total, loss):
        if done == 11:
            raise Stop

    settings = {**TINY, "steps": 12, "end_value": 0.2, "checkpoint": tmp_path / "part"}
    with pytest.raises(Stop):
        jp.tune(case, **settings, progress=stop)
    assert (tmp_path / "part.1").exists()
    heard = []
    again = jp.tune(case, **settings, progress=lambda done, total, loss: heard.append(done))
    assert len(again.history) == 12 and len(heard) == 2
    with pytest.raises(ValueError, match="other data"):
        jp.tune(case, **settings, validation=later)
    equal(again.controller, jp.tune(case, **{**settings, "checkpoint": None}).controller)


@pytest.mark.long
@slow
def test_worth_is_that_of_the_largest_battery_over_the_mean_day(tables, case, tuned):
    empty, half, full = (tuned.worth(charged) for charged in (0.0, 0.5, 1.0))
    battery = case.community.prosumers.battery
    largest = int(jnp.argmax(battery.room))
    prices = jnp.min(case.horizon.price_sell), jnp.max(case.horizon.price_buy)
    least, most = (float(x[largest]) for x in stored_value_range(battery, *prices))
    for column, expected in ((empty, most), (half, (least + most) / 2), (full, least)):
        np.testing.assert_allclose(column["lyapunov"], expected, rtol=1e-4)
    assert (empty["tuned"] > half["tuned"]).all() and (half["tuned"] > full["tuned"]).all()
    dual = half["perfect_foresight"]
    assert least - 1e-3 <= dual.min() < dual.max() <= most + 1e-3
    # a case that begins at noon
    noon = replace(tuned, case=jp.build(tables, start="2016-07-04 12:00", days=1.5, market="pool"))
    shown = noon.worth()
    assert shown.index.tolist() == [k / 4 for k in range(96)]
    paid = noon.case.tables.prices["buy_eur_per_kwh"][:96].to_numpy()
    np.testing.assert_allclose(shown["price_buy"], np.roll(paid, 48), rtol=1e-5)
    with pytest.raises(ValueError, match="it is a share, from 0 to 1"):
        tuned.worth(50)
    short = replace(tuned, case=jp.build(tables, start="2016-07-04", days=0.5, market="pool"))
    with pytest.raises(ValueError, match="shorter than a day"):
        short.worth()


@pytest.mark.long
@slow
def test_its_picture_has_the_loss_and_the_worth(tuned):
    loss, worth = tuned.plot().axes
    np.testing.assert_array_equal(loss.lines[0].get_ydata(), tuned.history["loss"])
    assert len(worth.lines) == 3


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (
            {"steps": 0, "sun": -1.0, "groups": "two", "cvar": 2.0},
            "steps is 0: it must be at least 1; .*groups is 'two': choose from one, pv, home; "
            "sun is -1: .*; cvar is 2: it must be at most 1",
        ),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"stages": 0}, "stages is 0: it must be at least 1"),
        ({"batch": 9}, "batch is 9: there are 5 scenarios"),
        ({"features": ("price", "moon")}, "unknown features moon"),
        ({"cvar_level": 1.0}, "must be from 0 to below 1"),
        ({"model": "weather"}, "weather"),
        ({"end_value": float("inf")}, "must be a finite number"),
        ({"stages": 99}, "are not inside the data, which go from"),
    ],
)
def test_settings_out_of_range_are_refused(case, wrong, why):
    with pytest.raises(ValueError, match=why):
        jp.tune(case, **wrong)


def test_what_nothing_can_be_tuned_on_is_refused(tables, case, later):
    with pytest.raises(ValueError, match="tuned in a pool"):
        jp.tune(jp.build(tables, days=1, market="bilateral"))
    with pytest.raises(ValueError, match="before the days to tune on end"):
        jp.tune(later, validation=case)
    with pytest.raises(ValueError, match="made for"):
        jp.tune(case, validation=jp.build("rural3", start="2016-07-05", days=1, market="pool"))


@pytest.fixture(scope="module")
def small():
    return jp.build(village(slots=8), days=None, market="pool", dtype="float64")


def money(trajectory):
    """EUR, a stored kWh at the end being worth a number."""
    return jnp.sum(trajectory.cost) - 0.1 * jnp.sum(trajectory.energy[-1])


@pytest.mark.long
@slow
def test_a_run_has_the_derivative_of_finite_differences(small):
    """By a policy, by the horizon and by the community, with the network."""
    community, horizon = small.community, small.horizon
    homes = community.prosumers

    def cost(factors, adjoint):
        battery = replace(homes.battery, energy_start=factors["start"] * homes.battery.energy_start)
        case = replace(
            small,
            horizon=replace(horizon, load=factors["load"] * horizon.load),
            community=replace(community, prosumers=replace(homes, battery=battery)),
        )
        policy = Worth(worth=0.5 * factors["worth"])
        t = jp.simulate(case, policy, adjoint=adjoint, solver=EXACT, keep=("cost", "energy"))
        assert t.charge is None
        return money(t)

    at = {name: jnp.asarray(x) for name, x in {"worth": 0.99, "load": 1.0, "start": 0.98}.items()}
    found, value = jax.grad(lambda x: cost(x, "implicit"))(at), jax.jit(lambda x: cost(x, None))
    for name, x in at.items():
        above, below = (float(value(at | {name: x + step})) for step in (1e-5, -1e-5))
        numeric = (above - below) / 2e-5
        assert abs(numeric) > 0.05, name
        assert float(found[name]) == pytest.approx(numeric, rel=1e-4), name


@pytest.mark.long
@slow
def test_many_futures_at_once_have_the_derivative_of_each(small):
    def cost(worth, sun):
        bright = replace(small, horizon=replace(small.horizon, pv=sun * small.horizon.pv + 1 - sun))
        return money(jp.simulate(bright, Worth(worth=worth), adjoint="implicit", solver=EXACT))

    suns, at = jnp.array([1.0, 0.8, 0.6]), jnp.asarray(0.49)
    together = jax.grad(lambda x: jnp.sum(jax.vmap(lambda sun: cost(x, sun))(suns)))(at)
    each = [float(jax.grad(cost)(at, sun)) for sun in suns]
    assert min(map(abs, each)) > 0.05
    assert float(together) == pytest.approx(sum(each), rel=1e-8)
    numeric = sum(float(cost(at + 1e-5, sun) - cost(at - 1e-5, sun)) for sun in suns) / 2e-5
    assert float(together) == pytest.approx(numeric, rel=1e-4)


@pytest.mark.long
@slow
def test_a_tuned_controller_has_derivatives_in_every_future(tables, tuned, tmp_path):
    """In a pool without network, by the fast derivative; horizons traced whole, all within `jax.jit`."""
    case = jp.build(
        tables, start="2016-07-04 18:00", days=0.25, market="pool", network=False, dtype="float64"
    )
    value = jp.load_controller(tuned.save(tmp_path / "c.json"), case)

    def cost(x, horizon):
        policy = replace(value, level=value.level + 0.1 * x)
        t = jp.simulate(replace(case, horizon=horizon), policy, adjoint="implicit", solver=EXACT)
        return money(t)

    suns, at = (1.0, 0.7), jnp.asarray(0.3)
    horizons = [replace(case.horizon, pv=sun * case.horizon.pv) for sun in suns]
    together = jax.tree.map(lambda *rows: jnp.stack(rows), *horizons)
    mean = lambda x: jnp.mean(jax.vmap(lambda horizon: cost(x, horizon))(together))
    found, one = jax.jit(jax.grad(mean))(at), jax.jit(jax.grad(cost))
    each = [one(at, horizon) for horizon in horizons]
    assert float(found) == pytest.approx(float(sum(each)) / 2, rel=1e-8)
    numeric = sum(float(cost(at + 1e-5, row) - cost(at - 1e-5, row)) for row in horizons) / 4e-5
    assert abs(numeric) > 0.05
    assert float(found) == pytest.approx(numeric, rel=1e-3)


def test_what_cannot_be_simulated_is_refused(tables, small, case):
    with pytest.raises(ValueError, match="unknown policy 'x'"):
        jp.simulate(small, "x")
    with pytest.raises(ValueError, match="unknown adjoint 'explicit'"):
        jp.simulate(small, adjoint="explicit")
    with pytest.raises(ValueError, match="unknown fields costs"):
        jp.simulate(small, keep=("costs",))
    with pytest.raises(ValueError, match="unknown solver 'simplex'"):
        jp.simulate(small, solver="simplex")
    with pytest.raises(ValueError, match="made for"):
        jp.simulate(replace(small, horizon=case.horizon))
