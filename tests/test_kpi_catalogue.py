"""The list of key figures that the documentation shows is that of the figures there are."""

import numpy as np
import pytest
from fake_runs import POLICIES, fake_run

import jaxp2p as jp
from jaxp2p.report.kpi_catalogue import BY_NAME, FIGURES, IN_AC, VEHICLES
from jaxp2p.report.kpis import evaluate

ENDS = {
    "_eur": "EUR",
    "_kwh": "kWh",
    "_kw": "kW",
    "_pu": "p.u.",
    "_pct": "%",
    "_kvarh": "kvarh",
    "_hours": "h",
}


def figures(**options) -> dict[str, dict]:
    """Of a village, by policy; vehicles that are there stay as they came."""
    reactive = options.pop("reactive", "unity")
    case = jp.build(jp.load_case("rural1", **options), days=0.5, market="pool", reactive=reactive)
    run = fake_run(case.community, case.horizon, policies=POLICIES)
    if (plugs := case.horizon.plugs) is not None:
        still = {name: np.zeros(plugs.floor.shape) for name in ("vehicle_charge", "vehicle_discharge")}
        still["vehicle_energy"] = np.asarray(plugs.floor)
        run = run._replace(trajectories={name: t._replace(**still) for name, t in run.trajectories.items()})
    return {name: row.kpis for name, row in evaluate(case.community, case.horizon, run).items()}


def test_every_figure_is_in_the_list_and_nothing_else():
    plain, all_there = figures(), figures(ev_share=0.5, reactive="market")
    optional = {row.name for row in FIGURES if row.group == VEHICLES} | {"inverter_kvarh"}
    for kpis in plain.values():
        assert kpis.keys() == BY_NAME.keys() - optional
    for kpis in all_there.values():
        assert kpis.keys() == BY_NAME.keys()


def test_units_are_those_that_the_names_carry():
    assert BY_NAME["dual_res_max_eur_per_kwh"].unit == "EUR/kWh"
    for row in (row for row in FIGURES if "_per_" not in row.name):
        for end, unit in ENDS.items():
            if row.name.endswith(end) or row.name.endswith((f"{end}_min", f"{end}_max")):
                assert row.unit == unit, row.name
    assert len(BY_NAME) == len(FIGURES)


def test_what_may_be_missing_says_when():
    """A figure that is None in a run without baselines has words for it."""
    case = jp.build(jp.load_case("rural1"), days=0.5, market="pool")
    run = fake_run(case.community, case.horizon, policies=("lyapunov", "perfect_foresight"))
    for row in evaluate(case.community, case.horizon, run).values():
        for name, value in row.kpis.items():
            assert value is not None or BY_NAME[name].empty, name
    lonely = evaluate(case.community, case.horizon, run)["lyapunov"].kpis
    assert [name for name in ("saving_eur", "capture", "benefit_gini") if lonely[name] is not None] == []


@pytest.mark.parametrize("group", sorted({row.group for row in FIGURES}))
def test_every_group_has_figures_with_a_formula(group):
    rows = [row for row in FIGURES if row.group == group]
    assert rows and all(len(row.formula) > 5 for row in rows)
    if group == IN_AC:
        assert len({row.name.removeprefix("ac_") for row in rows}) == len(rows)
