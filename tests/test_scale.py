"""Thousands of members on the data path: the results of one by one, without tables of all of them."""

from __future__ import annotations

import tracemalloc
import zlib

import jax
import numpy as np
import pandas as pd
import pytest

from jaxp2p.cli.inspecting import summary_lines
from jaxp2p.data import (
    InputError,
    absolute_series,
    check,
    load_case,
    read_tables,
    validation,
    window,
    write_tables,
)
from jaxp2p.data.blocks import BLOCK, total_of
from jaxp2p.data.stamp import is_checked
from jaxp2p.model.build import build_community, build_horizon
from jaxp2p.model.markets import complete_graph, market_from_edges, nearest_graph, regular_graph


def crowd(copies: int, *, days: float = 1, case: str = "rural3"):
    """The members of a case `copies` times on its buses."""
    tables = window(load_case(case), days=days)
    members = tables.prosumers
    several = [members.assign(prosumer_id=members["prosumer_id"] + f" #{k}") for k in range(copies)]
    return tables.replace(prosumers=pd.concat(several, ignore_index=True))


def own_profiles(tables):
    """Every member with a load profile of its own, more than a block of them."""
    homes, profiles = tables.prosumers, tables.profiles
    rng = np.random.default_rng(0)
    names = [f"own {i}" for i in range(len(homes))]
    own = profiles[homes["load_profile"]].to_numpy() * rng.uniform(0.5, 2.0, len(homes))
    reactive = homes["reactive_profile"].where(homes["reactive_profile"] != "", homes["load_profile"])
    return tables.replace(
        prosumers=homes.assign(load_profile=names, reactive_profile=reactive),
        profiles=pd.concat([profiles, pd.DataFrame(own, columns=names)], axis=1),
    )


def test_totals_are_those_of_all_members_one_by_one():
    tables = own_profiles(crowd(4))
    assert len(tables.prosumers) > BLOCK
    series, homes, buses = absolute_series(tables), tables.prosumers, tables.buses
    for use, column, table in (("load", "load_kw", homes), ("pv", "pv_kw", homes)):
        total = total_of(tables.profiles, table[f"{use}_profile"], table[column], absent=0.0)
        np.testing.assert_allclose(total, getattr(series, column).sum(1), rtol=1e-12)
    buses = buses.assign(background_kw=np.arange(len(buses), dtype=float))
    total = total_of(tables.profiles, buses["background_profile"], buses["background_kw"], absent=1.0)
    assert (total == buses["background_kw"].sum()).all()


def test_the_summary_of_check_needs_no_table_of_all_members():
    tables = crowd(20, days=28)  # 2,688 slots of 3,060 members are 66 MB in float64
    tracemalloc.start()
    lines = summary_lines(tables)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "3060 on" in lines[1]
    assert peak < 10e6


def test_the_horizon_needs_few_slots_at_a_time_in_float64():
    tables = check(crowd(20, days=7))
    community = build_community(tables, market="none", network=False)
    horizon = build_horizon(community, tables)
    tracemalloc.start()
    build_horizon(community, tables)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3.5 * horizon.load.nbytes  # load and PV in float32, and the blocks


def test_the_horizon_is_that_of_all_members_one_by_one():
    with jax.enable_x64(True):
        tables = check(own_profiles(window(load_case("rural1", pv_share=0.5), days=1)))
        community = build_community(tables, dtype="float64")
        horizon = build_horizon(community, tables)
        grid, bus = community.network, np.asarray(community.prosumers.bus)
        order = pd.Index(tables.prosumers["prosumer_id"]).get_indexer(list(community.prosumers.ids))
        series = absolute_series(tables)
        np.testing.assert_array_equal(horizon.load, series.load_kw[:, order])
        np.testing.assert_array_equal(horizon.pv, series.pv_kw[:, order])
        member = np.zeros((len(bus), len(grid.bus_ids)))
        member[np.arange(len(bus)), bus] = 1
        fixed = ~np.asarray(community.prosumers.flexible)
        assert 0 < fixed.sum() < len(fixed)
        active = -(series.load_kw[:, order] * fixed) @ member
        reactive = -series.load_kvar[:, order] @ member
        np.testing.assert_allclose(
            horizon.flow_base, active @ np.asarray(grid.paths.downstream).T, atol=1e-12
        )
        np.testing.assert_allclose(
            horizon.flow_reactive, reactive @ np.asarray(grid.paths.downstream).T, atol=1e-12
        )


# --- checked once ---------------------------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch):
    """How often tables were really checked."""
    calls = []
    original = validation.complete_and_validate

    def counting(*arguments, **options):
        calls.append(arguments)
        return original(*arguments, **options)

    monkeypatch.setattr(validation, "complete_and_validate", counting)
    return calls


def test_unchanged_tables_are_checked_once(counted, tmp_path):
    tables = read_tables(write_tables(crowd(1, days=2), tmp_path / "village"))
    counted.clear()
    part = window(tables, days=1)
    community = build_community(part, market="pool")
    build_horizon(community, part)
    assert check(tables) is tables
    assert not counted


def by_cell(tables):
    tables.prosumers.loc[0, "load_kw"] = float("nan")


def by_column(tables):
    tables.prosumers["pv_kw"] = -1.0


def by_profile(tables):
    tables.profiles.loc[3, tables.prosumers.loc[0, "load_profile"]] = -1.0


def by_name(tables):
    tables.lines.loc[0, "to_bus"] = "nowhere"


def by_order(tables):
    tables.profiles.iloc[[2, 3], 0] = tables.profiles["time"].iloc[[3, 2]].to_numpy()


@pytest.mark.parametrize("change", [by_cell, by_column, by_profile, by_name, by_order])
def test_tables_changed_in_place_are_checked_again(change):
    tables = check(crowd(1, days=1))
    assert is_checked(tables)
    change(tables)
    assert not is_checked(tables)
    with pytest.raises(InputError):
        build_community(tables, market="pool")


def test_a_single_slot_of_checked_tables_is_checked_again():
    with pytest.raises(InputError, match="two time stamps"):
        build_community(window(check(crowd(1)), days=1 / 96), market="pool")


def test_exchanged_tables_are_checked_again():
    tables = check(crowd(1, days=1))
    with pytest.raises(InputError, match="unknown bus"):
        check(tables.replace(prosumers=tables.prosumers.assign(bus_id="nowhere")))


# --- graphs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "partners", "seed", "checksum"),
    [
        (2, 6, 0, 538004427),
        (7, 3, 0, 2558811716),
        (28, 6, 0, 2131860076),
        (153, 6, 0, 2767688211),
        (153, 5, 3, 1847573009),
        (1000, 6, 1, 345604203),
    ],
)
def test_the_graph_of_a_seed_stays_the_same(size, partners, seed, checksum):
    """Results of a seed must be found again: checksums of the graphs of the first version."""
    edges = regular_graph(size, partners, seed=seed)
    assert zlib.crc32(np.ascontiguousarray(edges, np.int64).tobytes()) == checksum
    assert np.bincount(edges.ravel(), minlength=size).min() >= min(partners, size - 1) - 1


def test_market_slots_are_those_of_a_loop_over_edges():
    rng = np.random.default_rng(1)
    size, edges = 30, rng.permutation(complete_graph(30))[:150]
    edges = np.where(rng.random((150, 1)) < 0.5, edges, edges[:, ::-1])
    fee, limit = rng.random(150), rng.random(150)
    market = market_from_edges(edges, fee, limit, size=size, dtype=np.dtype("float32"))
    at = [[] for _ in range(size)]
    for number, (i, j) in enumerate(edges):
        at[i].append((j, number))
        at[j].append((i, number))
    partner, reverse = np.asarray(market.partner), np.asarray(market.reverse)
    for i in range(size):
        for k, (j, number) in enumerate(at[i]):
            assert partner[k, i] == j and market.fee[k, i] == np.float32(fee[number])
            assert market.limit[k, i] == np.float32(limit[number])
            back = [n for _, n in at[j]].index(number)
            assert reverse[k, i] == back * size + j
        for k in range(len(at[i]), len(partner)):
            assert partner[k, i] == i and reverse[k, i] == k * size + i and market.fee[k, i] == 0


def test_nearest_partners_are_those_of_the_whole_distance_table():
    rng = np.random.default_rng(2)
    bus = np.sort(rng.integers(0, 9, 40))
    spot = rng.integers(0, 5, 9).astype(float)  # many ties
    distance = np.abs(spot[:, None] - spot[None, :])
    away = distance[np.ix_(bus, bus)] + np.diag(np.full(40, np.inf))
    near = np.argsort(away, axis=1, kind="stable")[:, :4]
    pairs = {tuple(sorted((i, int(j)))) for i in range(40) for j in near[i]}
    assert [tuple(edge) for edge in nearest_graph(distance, bus, 4).tolist()] == sorted(pairs)
    assert len(nearest_graph(distance, bus[:1], 4)) == 0


def test_a_complete_graph_of_tens_of_thousands_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="449,625,078 pairs"):
        complete_graph(29_988)
