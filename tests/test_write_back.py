"""Results in the net that a community is from: as pandapower itself would have them."""

import copy

import numpy as np
import pandas as pd
import pytest
from fake_pandapower import small_net

import jaxp2p as jp
from jaxp2p.data.importers import import_net


@pytest.fixture(scope="module")
def made():
    net = small_net()
    case = jp.build(
        import_net(net, name="small", members=0.5, seed=2), days=0.5, market="pool", dtype="float64"
    )
    return net, jp.run(case, policies=("lyapunov",), lower_bound=False)


@pytest.mark.slow
def test_a_net_is_filled(made):
    net, run = made
    when, grid = run.case.time.iloc[20], run.evaluations["lyapunov"].grid
    left = run.to_pandapower(net, "lyapunov", when + pd.Timedelta("7min"))
    # the busbar is one bus in the tables, the tie is out of service, the open ring main has no far end
    assert sorted(left) == ["bus bar #2", "line ring", "line tie"]
    volts = dict(zip(run.case.community.network.bus_ids, grid.ac_voltage[20], strict=True))
    found = net["res_bus"]["vm_pu"]
    for place, name in ((0, "head"), (1, "bar #1"), (3, "mill"), (4, "farm"), (5, "far")):
        assert found[place] == pytest.approx(volts[name], rel=1e-9)
    assert np.isnan(found[2])
    for table in ("res_line", "res_trafo"):
        lost = net[table]["pl_mw"].dropna()
        assert len(lost) and (lost >= -1e-12).all()
    total = 1000 * float(net["res_line"]["pl_mw"].sum() + net["res_trafo"]["pl_mw"].sum())
    assert total == pytest.approx(grid.ac_losses[20], rel=1e-6)
    loading = dict(zip(run.case.community.network.branch_ids, grid.ac_loading[20], strict=True))
    assert net["res_trafo"]["loading_percent"][0] == pytest.approx(100 * loading["T"], rel=1e-9)


@pytest.mark.slow
def test_what_does_not_fit_is_refused(made):
    net, run = made
    with pytest.raises(ValueError, match="is not in the run"):
        run.to_pandapower(net, "lyapunov", "2030-01-01")
    other = {"bus": pd.DataFrame({"name": ["x", "y"], "vn_kv": [0.4, 0.4]})}
    with pytest.raises(ValueError, match="no bus of this net is in small"):
        run.to_pandapower(other, "lyapunov", run.case.time.iloc[0])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of pandapower, with the newest pandas
def test_pandapower_finds_the_same_flow():
    """A net that it ships, each bus with the power that the run put there, solved by pandapower."""
    pytest.importorskip("pandapower")
    if int(pd.__version__.split(".")[0]) > 2:
        pytest.skip("pandapower changes its nets with pandas 2 only")
    import pandapower as pp
    import pandapower.networks as nets

    net = nets.create_kerber_landnetz_freileitung_1()
    case = jp.build(
        import_net(net, name="kerber", members=10, seed=1), days=0.25, market="pool", dtype="float64"
    )
    run = jp.run(case, policies=("lyapunov",), lower_bound=False)
    assert run.to_pandapower(net, "lyapunov", case.time.iloc[12]) == []
    ours, theirs = copy.deepcopy(net), copy.deepcopy(net)
    theirs["load"], theirs["sgen"] = theirs["load"].iloc[:0], theirs["sgen"].iloc[:0]
    into = dict.fromkeys(net["bus"].index, 0j)
    for table, ends in (("line", ("from", "to")), ("trafo", ("hv", "lv"))):
        for row in net[table].index:
            for end in ends:
                at = net[f"res_{table}"].loc[row]
                into[net[table].at[row, f"{end}_bus"]] += at[f"p_{end}_mw"] + 1j * at[f"q_{end}_mvar"]
    slack = int(net["ext_grid"]["bus"].iloc[0])
    for bus, power in into.items():
        if bus != slack:
            pp.create_load(theirs, bus, p_mw=-power.real, q_mvar=-power.imag)
    pp.runpp(theirs, tolerance_mva=1e-10, trafo_model="t")
    np.testing.assert_allclose(ours["res_bus"]["vm_pu"], theirs["res_bus"]["vm_pu"], atol=1e-8)
    np.testing.assert_allclose(
        ours["res_line"]["loading_percent"], theirs["res_line"]["loading_percent"], rtol=1e-4, atol=1e-4
    )
    for name in ("p_hv_mw", "q_hv_mvar", "pl_mw"):
        np.testing.assert_allclose(ours["res_trafo"][name], theirs["res_trafo"][name], atol=1e-7)
