"""What a user does in Python, with public names only."""

import json
import subprocess
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from villages import village

import jaxp2p as jp

EXAMPLE = """
import jaxp2p as jp

@jp.record
class Evening(jp.OwnPolicy):  # a stored kWh is worth this much, whatever the hour
    worth: float = 0.25
    def decide(self, community, slot, kept, slot_of_week, free, memory):
        return jp.Decision(free, value=self.worth, slope=0.0)

case = jp.build("rural1", start="2016-07-04", days=0.25, market="pool")
day = jp.run(case, policies=["no_storage", "lyapunov", {"evening": Evening(worth=0.2)}, "perfect_foresight"])
slot = jp.clear(case.slot(12, policy=Evening()))
futures = jp.study(case, scenarios=4, model="noise", policies=[{"evening": Evening()}])
day.save("out"); again = jp.load("out"); day.plot("feeder").savefig("feeder.png")
print(day.kpis()["cost_eur"], again.kpis["cost_eur"], float(slot.gap), futures.kpis, sep="\\n")
"""


@jp.record
class Worth(jp.OwnPolicy):
    """A stored kWh is worth a number."""

    worth: float = 0.2

    def decide(self, community, slot, kept, slot_of_week, free, memory):
        return jp.Decision(free, value=self.worth, slope=0.0)


@jp.record
class Counting(jp.OwnPolicy):
    """Charges 1 kW in every second slot, as its memory of the slots says, and closes the market."""

    trade: float = 0.0

    def remember(self, community):
        return jnp.zeros((), jnp.int32)

    def observe(self, memory, slot):
        return memory + 1

    def decide(self, community, slot, kept, slot_of_week, free, memory):
        power = jnp.where(memory % 2 == 1, 1.0, 0.0)
        limits = jp.Limits(power, power, 0.0, 0.0)
        return jp.Decision(limits, value=0.0, slope=0.0)


@pytest.fixture(scope="module")
def case():
    return jp.build(village(slots=8), days=None, market="pool")


@pytest.fixture(scope="module")
def result(case):
    policies = ["no_storage_no_trade", "no_storage", {"worth": Worth(), "counting": Counting()}]
    return jp.run(case, policies=policies, lower_bound=False)


@pytest.mark.slow
def test_the_example_of_a_dozen_lines_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", EXAMPLE], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "feeder.png").stat().st_size > 10_000
    assert (tmp_path / "out" / "summary.json").exists()
    assert "evening" in done.stdout


def test_two_communities_mixed_up_are_refused_with_both_names():
    one = jp.build("rural1", days=0.1, market="pool")
    other = jp.build(jp.load_case("rural1", pv_share=1), days=0.1, market="pool")
    assert one.size == other.size and one.members == other.members
    with pytest.raises(ValueError, match=r"made for rural1 .* not for rural1") as mixed:
        jp.simulate(replace(one, horizon=other.horizon))
    names = {one.community.mark, other.community.mark}
    assert len(names) == 2 and all(name in str(mixed.value) for name in names)
    mixed_case = replace(one, horizon=other.horizon)
    with pytest.raises(ValueError, match="made for"):
        jp.run(mixed_case, policies=["no_storage"])
    with pytest.raises(ValueError, match="made for"):
        jp.study(mixed_case, scenarios=2, model="none", policies=["no_storage"])
    with pytest.raises(ValueError, match="made for"):
        jp.perfect_foresight(one.community, other.horizon, terminal_price=0.1, row_penalty=5.0)


def test_shapes_that_do_not_fit_are_refused(case):
    by_hand = replace(case.horizon, mark="", load=case.horizon.load[:, 1:])
    with pytest.raises(ValueError, match=f"{case.size - 1} members, the community .* {case.size}"):
        jp.run(replace(case, horizon=by_hand), policies=["no_storage"])


def test_tables_of_others_are_refused(case):
    with pytest.raises(ValueError, match="other members or buses"):
        jp.build_horizon(case.community, jp.load_case("rural1"))


def test_an_own_policy_with_a_memory_is_carried_out(case, result):
    done = result.run.trajectories["counting"]
    free = np.asarray(case.community.prosumers.battery.charge_max) >= 1
    assert free.any()
    charge = np.asarray(done.charge)[:, free]
    start = np.asarray(case.community.prosumers.battery.energy_start)[free]
    room = np.asarray(case.community.prosumers.battery.energy_max)[free] - start
    assert np.allclose(charge[0], np.minimum(1.0, charge[0].max())) and (charge[0] > 0)[room > 1].all()
    np.testing.assert_array_equal(charge[1::2], 0)
    np.testing.assert_array_equal(np.asarray(done.trade), 0)


@pytest.mark.slow
def test_an_own_policy_can_empty_no_battery_twice(case):
    @jp.record
    class Everything(jp.OwnPolicy):
        """Asks for a thousand kW both ways."""

        def decide(self, community, slot, kept, slot_of_week, free, memory):
            return jp.Decision(jp.Limits(-5.0, 1e3, 1e3, 1e3), value=-1.0, slope=-1.0)

    ran = jp.run(case, policies=[{"everything": Everything()}], lower_bound=False)
    battery, energy = case.community.prosumers.battery, np.asarray(ran.run.trajectories["everything"].energy)
    assert (energy >= np.asarray(battery.energy_min) - 1e-4).all()
    assert (energy <= np.asarray(battery.energy_max) + 1e-4).all()
    assert (np.asarray(ran.run.trajectories["everything"].charge) >= 0).all()


@pytest.mark.slow
def test_an_own_policy_in_a_study_is_the_same_as_in_a_run(case, result):
    study = jp.study(
        case, scenarios=1, model="none", policies=["no_storage", {"counting": Counting()}], foresight=0
    )
    costs = study.kpis.set_index("policy")["total_cost_eur"]
    run = result.kpis()["total_cost_eur"]
    assert costs["counting"] == pytest.approx(run["counting"], abs=1e-3)
    assert costs["no_storage"] == pytest.approx(run["no_storage"], abs=1e-3)


@pytest.mark.parametrize(
    ("policies", "why"),
    [
        (["nobody"], "unknown policies nobody"),
        ([{"lyapunov": Worth()}], "taken"),
        ([{"a/b": Worth()}], "no name for a file"),
        ([{"mine": 3.0}], "a policy is a Policy or an OwnPolicy, not a float"),
        (["no_storage", "no_storage"], "named twice"),
    ],
)
def test_what_is_no_policy_is_refused(case, policies, why):
    with pytest.raises(ValueError, match=why):
        jp.run(case, policies=policies)
    with pytest.raises(ValueError, match=why):
        jp.study(case, scenarios=1, model="none", policies=policies)


@pytest.mark.slow
def test_a_slot_alone_is_cleared_as_in_the_run(case, result):
    first = jp.clear(case.slot(0, policy="no_storage"))
    done = result.run.trajectories["no_storage"]
    np.testing.assert_allclose(first.dispatch.injection, done.injection[0], atol=1e-4)
    assert int(first.status) == jp.Status.SOLVED
    assert float(first.gap) <= 1e-3 * float(first.gap_scale)
    full = case.community.prosumers.battery.energy_max
    assert float(jnp.sum(jp.clear(case.slot(0, energy=full)).dispatch.charge)) == 0
    with pytest.raises(IndexError, match="they are 0 to 7"):
        case.slot(8)
    with pytest.raises(ValueError, match="unknown policy 'x'"):
        case.slot(0, policy="x")


def test_v_share_makes_a_controller(case):
    half, whole = jp.lyapunov(case, v_share=0.5), jp.lyapunov(case)
    np.testing.assert_allclose(half.inverse_v, 2 * whole.inverse_v, rtol=1e-5)
    same = jax.tree.map(np.array_equal, whole, case.policies()["lyapunov"])
    assert all(jax.tree.leaves(same))
    with pytest.raises(ValueError, match="must be positive"):
        jp.lyapunov(case, v_share=0)


def test_tables_of_a_result_are_those_it_saves(case, result, tmp_path):
    result.save(tmp_path / "out", homes=True, format="csv")
    again = jp.load(tmp_path / "out")
    saved = again.tables
    pd.testing.assert_frame_equal(saved["members"], result.members(), check_dtype=False)
    pd.testing.assert_frame_equal(
        saved["kpis"].set_index("policy"), result.kpis(), check_dtype=False, check_exact=False
    )
    assert list(saved["slots_worth"].columns) == list(result.slots("worth").columns)
    assert len(result.homes("worth")) == case.size * case.slots == len(saved["homes_worth"])
    assert json.loads(json.dumps(result.report()))["case"] == case.name
    assert "worth" in str(result) and case.name in repr(case)
    with pytest.raises(ValueError, match="this run has no_storage_no_trade, no_storage, worth, counting"):
        result.slots("lyapunov")


def test_xarray_has_every_series_with_its_unit(case, result):
    pytest.importorskip("xarray")
    data = result.to_xarray()
    assert data["charge"].dims == ("policy", "time", "member") and data["charge"].attrs["units"] == "kW"
    counting = np.asarray(result.run.trajectories["counting"].charge)
    np.testing.assert_array_equal(data["charge"].sel(policy="counting"), counting)
    assert list(data["member"].values) == list(case.members)
    np.testing.assert_array_equal(data["time"], case.time.to_numpy())
    assert data["charge_below"].attrs["units"] == "EUR/kWh" and "loss_price" not in data
    rows = data["row_price"]
    assert rows.dims == ("policy", "time", "limit") and list(rows["limit"].values) == list(
        result.run.row_names
    )


def test_a_netcdf_file_and_other_libraries_take_what_there_is(case, result, tmp_path):
    """A file that any netCDF reader opens, and arrays that are handed on without a copy."""
    xarray = pytest.importorskip("xarray")
    data = result.to_xarray()
    data.to_netcdf(tmp_path / "run.nc")
    with xarray.open_dataset(tmp_path / "run.nc") as back:
        np.testing.assert_array_equal(back["charge"], data["charge"])
        assert list(back["member"].values) == list(case.members) and back["charge"].attrs["units"] == "kW"
    for array in (result.trajectory("counting").charge, case.horizon.load):
        shared = np.from_dlpack(array)
        np.testing.assert_array_equal(shared, np.asarray(array))


def test_pictures_by_name(result):
    assert result.plot("cumulative_cost").axes
    with pytest.raises(ValueError, match="choose from cumulative_cost"):
        result.plot("nothing")


def test_a_case_that_is_not_there_is_told_with_those_that_are():
    with pytest.raises(ValueError, match=r"'rural7' is neither a folder nor an embedded case .*rural3"):
        jp.build("rural7")
    with pytest.raises(TypeError, match="markt"):
        jp.build("rural1", markt="pool")
