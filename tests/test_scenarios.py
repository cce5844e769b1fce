"""Scenarios: the distribution of every effect, whole days, the network behind the loads, and the parser."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from communities import small

from jaxp2p.control.policy import Slot
from jaxp2p.data import load_case, window
from jaxp2p.model.build import build_community, build_horizon
from jaxp2p.scenarios.catalogue import DEFAULT_MODEL, EFFECTS, EFFECTS_HELP
from jaxp2p.scenarios.model import (
    ScenarioModel,
    _stream,
    materialise,
    scenario_key,
    slots_of_scenario,
)
from jaxp2p.scenarios.parse import CLASSES, describe, parse_model
from jaxp2p.simulation.grid import grid_state

DEVICES = {"pv_share": 0.6, "battery_share": 0.4}
ALL = (
    "bootstrap * noise(price=0.1) * level * forecast_error * price_spikes(per_day=4) "
    "* outages(pv_per_year=200, battery_per_year=200) * adoption(pv=0.5, battery=0.5)"
)
SERIES = ("load", "pv", "price_buy", "price_sell", "flow_reactive")
KEY = jax.random.key(7)


def village(days=2, **kwargs):
    return small("rural1", days=days, **DEVICES, **kwargs)


def flat(horizon, community, slots):
    """A horizon without any change of its own: load 1 kW, PV a fifth of the peak, 0.3 and 0.1 EUR/kWh."""
    dtype, size = horizon.load.dtype, community.size
    still = lambda x: jnp.broadcast_to(x[0], (slots, *x.shape[1:]))
    return dataclasses.replace(
        jax.tree.map(lambda x: still(x) if x.ndim else x, horizon),
        load=jnp.ones((slots, size), dtype),
        pv=jnp.broadcast_to(0.2 * community.prosumers.pv_peak, (slots, size)),
        price_buy=jnp.full((slots,), 0.3, dtype),
        price_sell=jnp.full((slots,), 0.1, dtype),
    )


def keys_of(count, first=0):
    return jax.vmap(scenario_key, (None, 0))(KEY, first + jnp.arange(count))


def many(text, community, horizon, count, slots):
    """(Communities, horizons, batteries) of `count` scenarios, as numpy with a leading axis."""
    model = parse_model(text, horizon=horizon, community=community)

    def one(key):
        changed, series, battery = materialise(model, community, horizon, key, slots)
        return changed.prosumers, series, battery

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(keys_of(count)))


def close(value, expected, error, errors=4):
    """Within some standard errors."""
    assert abs(value - expected) < errors * error, (value, expected, error)


# ---------------------------------------------------------------- the product and its numbers


def test_without_effects_the_scenario_is_the_horizon_bit_for_bit():
    community, horizon = village()
    model = parse_model("none", horizon=horizon, community=community)
    assert model == ScenarioModel(effects=()) and slots_of_scenario(model, horizon) == 192
    same, series, battery = materialise(model, community, horizon, KEY, 50, first=30)
    chex.assert_trees_all_equal(series, horizon.slice(30, 80))
    chex.assert_trees_all_equal(same, community)
    has = np.asarray(community.prosumers.battery.charge_max) > 0
    assert 0 < has.sum() < community.size
    np.testing.assert_array_equal(battery, np.tile(has, (50, 1)))
    with pytest.raises(ValueError, match="without bootstrap there are 192"):
        materialise(model, community, horizon, KEY, 100, first=100)


def test_every_effect_draws_numbers_of_its_own():
    """The same effect twice: other levels at the start, and other noise in every slot."""
    community, horizon = village()
    level = parse_model("level(load=0.3, pv=0.3)", horizon=horizon, community=community).effects
    model = ScenarioModel(effects=2 * level)
    one, two = model.start(community, horizon, scenario_key(KEY, 0)).effects
    assert abs(float(one.load - two.load)) > 1e-3 and abs(float(one.pv - two.pv)) > 1e-3
    data = jax.random.key_data(KEY)
    streams = [jax.random.key_data(_stream(data, number, kind)) for number in range(3) for kind in (0, 1)]
    assert len({tuple(np.asarray(stream).tolist()) for stream in streams}) == 6


def test_a_scenario_is_the_same_in_every_chunk():
    community, horizon = village(dtype="float32")
    model = parse_model(ALL, horizon=horizon, community=community)

    @jax.jit
    def chunk(keys):
        return jax.vmap(lambda key: materialise(model, community, horizon, key, 30)[1:])(keys)

    whole = chunk(keys_of(4))
    for first, width in ((0, 1), (2, 1), (1, 3)):
        part = chunk(keys_of(width, first))
        for name in SERIES:
            mine, other = (getattr(x[0], name) for x in (part, whole))
            np.testing.assert_array_equal(mine, other[first : first + width], err_msg=name)
        np.testing.assert_array_equal(part[1], whole[1][first : first + width])
        for name in ("voltage_base", "flow_base"):
            mine, other = (getattr(x[0], name) for x in (part, whole))
            np.testing.assert_allclose(mine, other[first : first + width], rtol=1e-6, atol=1e-5)
    assert len(np.unique(np.asarray(whole[0].load)[:, 5, 0])) == 4


def test_lanes_at_slots_of_their_own_draw_what_a_single_scenario_draws():
    community, horizon = village()
    model = parse_model(ALL, horizon=horizon, community=community)
    starts, keys = np.array([0, 3, 5]), keys_of(3)
    alone = [materialise(model, community, horizon, key, 8) for key in keys]
    start = jax.jit(lambda key: model.start(community, horizon, key))
    draw = jax.jit(jax.vmap(lambda carry, t: model.draw(community, horizon, carry, t)))
    fresh = jax.tree.map(lambda *x: jnp.stack(x), *(start(key) for key in keys))
    carry = fresh
    for step in range(8):
        begins = jnp.asarray(starts == step)
        choose = lambda a, b, begins=begins: jnp.where(begins.reshape(-1, *[1] * (a.ndim - 1)), a, b)
        carry = jax.tree.map(choose, fresh, carry)
        ts = np.maximum(step - starts, 0)
        carry, drawn = draw(carry, jnp.asarray(ts, jnp.int32))
        for lane in np.flatnonzero(starts <= step):
            _, series, battery = alone[lane]
            np.testing.assert_array_equal(drawn.battery[lane], battery[ts[lane]])
            for name in SERIES:
                mine = getattr(drawn.slot, name)[lane]
                # another program may fuse differently, so its last bit may differ
                np.testing.assert_allclose(mine, getattr(series, name)[ts[lane]], rtol=1e-13, err_msg=name)
    community_of = lambda lane: model.community(community, jax.tree.map(lambda x: x[lane], carry))
    for lane in range(3):
        chex.assert_trees_all_equal(community_of(lane), alone[lane][0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_follows_the_horizon_and_new_numbers_do_not_trace_again(dtype):
    community, horizon = village(dtype=dtype)
    chex.clear_trace_counter()
    traced = jax.jit(
        chex.assert_max_traces(lambda model, key: materialise(model, community, horizon, key, 4), n=1)
    )
    for text in (ALL, ALL.replace("price=0.1", "price=0.2, load=0.3").replace("pv=0.5", "pv=0.1")):
        model = parse_model(text, horizon=horizon, community=community)
        changed, series, battery = traced(model, KEY)
        for leaf, before in zip(jax.tree.leaves(changed), jax.tree.leaves(community), strict=True):
            assert leaf.dtype == before.dtype
        assert {leaf.dtype for leaf in jax.tree.leaves((series, battery))} == {jnp.dtype(dtype)}
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((series, battery)))


# ---------------------------------------------------------------- days


def coded(community, horizon, days):
    """96 slots a day; every number says which row it came from."""
    rows = jnp.arange(96.0 * days)
    series = flat(horizon, community, 96 * days)
    homes = 1e6 * jnp.arange(1.0, community.size + 1)[None, :]
    return dataclasses.replace(
        series,
        load=rows[:, None] + homes,
        price_buy=rows + 0.5,
        flow_base=rows[:, None] + 0 * series.flow_base,
    )


@pytest.mark.parametrize(("block", "weekday", "days"), [(1, "no", 5), (2, "no", 5), (2, "yes", 23)])
def test_bootstrap_returns_whole_blocks_of_real_days(block, weekday, days):
    community, horizon = village()
    pool = coded(community, horizon, days)
    text = f"bootstrap(block_days={block}, same_weekday={weekday})"
    count, scenario_days = 300, 6
    _, series, _ = many(text, community, pool, count, 96 * scenario_days)
    row = series.load - 1e6 * np.arange(1, community.size + 1)
    assert (row == row[:, :, :1]).all()  # the homes keep together,
    row = row[:, :, 0]
    np.testing.assert_array_equal(series.price_buy, row + 0.5)  # and with them the prices
    np.testing.assert_array_equal(series.flow_base[:, :, 0], row)  # and the network
    blocks = row.reshape(count, -1, 96 * block)
    np.testing.assert_array_equal(
        blocks - blocks[:, :, :1], np.broadcast_to(np.arange(96 * block), blocks.shape)
    )
    first = (blocks[:, :, 0] / 96).astype(int)
    np.testing.assert_array_equal(first * 96, blocks[:, :, 0])
    if weekday == "no":
        chances = np.bincount(first.ravel()) / first.size
        assert len(chances) == days - block + 1
        close(np.abs(chances - 1 / len(chances)).max(), 0, np.sqrt(1 / len(chances) / first.size))
    else:
        wanted = block * np.arange(first.shape[1])
        assert ((first - wanted) % 7 == 0).all()
        for place in range(first.shape[1]):
            assert set(first[:, place]) == set(range(wanted[place] % 7, days - block + 1, 7))
    # blocks are independent of each other
    assert abs(np.corrcoef(first[:, 0], first[:, 1])[0, 1]) < 4 / np.sqrt(count)


def test_bootstrap_is_refused_where_days_are_missing_or_do_not_fit():
    community, horizon = village()
    parse = lambda text, series: parse_model(text, horizon=series, community=community)
    for text, days in (("bootstrap(block_days=2)", 3), ("bootstrap(same_weekday=yes)", 14)):
        with pytest.raises(ValueError, match=f"need {days} days .* has 2 whole days"):
            parse(text, horizon)
    with pytest.raises(ValueError, match="need 14 days"):
        parse("bootstrap(block_days=7, same_weekday=yes)", horizon)
    model = parse("bootstrap", horizon)
    with pytest.raises(ValueError, match="need 2 days"):
        model.start(community, horizon.slice(0, 100), KEY)
    odd = dataclasses.replace(horizon, slot_hours=jnp.asarray(0.7))
    with pytest.raises(ValueError, match=r"1 fault\n  slots of 0.7 h do not divide a day$"):
        parse("bootstrap * price_spikes(hours=0.7)", odd)
    assert slots_of_scenario(model, horizon) is None
    assert slots_of_scenario(parse("noise", odd), odd) == 192


# ---------------------------------------------------------------- noise and forecasts


def test_noise_has_its_moments_correlations_and_half_life():
    community, horizon = village()
    base = flat(horizon, community, 13)
    text = "noise(load=0.3, pv=0.2, price=0.1, correlation_load=0.4, correlation_pv=0.8, half_life_hours=3)"
    count = 3000
    _, series, _ = many(text, community, base, count, 13)
    error = 1 / np.sqrt(count)
    has_pv = np.asarray(community.prosumers.pv_peak) > 0
    load, pv = series.load, (series.pv / np.where(has_pv, base.pv[0], 1))[:, :, has_pv]
    for factor, sigma, correlation in ((load, 0.3, 0.4), (pv, 0.2, 0.8)):
        z = (np.log(factor) + sigma**2 / 2) / sigma
        # z^2 has variance 2 and correlation c^2 between homes
        spread = error * np.sqrt((correlation**2 + (1 - correlation**2) / z.shape[2]) / 2)
        for slot in (0, 12):  # stationary from the first slot on
            close(factor[:, slot].mean(), 1, sigma * error)
            close(z[:, slot].mean(), 0, error)
            close(z[:, slot].std(), 1, spread)
        close(np.mean(z[:, 0] * z[:, 12]), 0.5, 1.2 * error)  # 12 slots of 15 min are 3 h
        close(np.mean(z[:, 0] * z[:, 1]), 0.5 ** (1 / 12), 1.5 * error)
        between = np.corrcoef(z[:, 5].T)
        close(between[np.triu_indices_from(between, 1)].mean(), correlation, error)
    shift = series.price_buy - 0.3
    close(shift.mean(), 0, 0.03 * error)
    close(shift[:, 7].std(), 0.03, 0.03 * error)
    close(np.corrcoef(shift[:, 0], shift[:, 12])[0, 1], 0.5, error)
    np.testing.assert_allclose(series.price_sell - 0.1, shift, atol=1e-15)


def test_prices_keep_their_order_and_pv_its_peak():
    community, horizon = village(dtype="float32")
    rng = np.random.default_rng(0)
    base = flat(horizon, community, 96)
    sell = jnp.asarray(rng.normal(0, 0.2, 96), jnp.float32)
    gap = jnp.asarray(np.where(rng.random(96) < 0.5, 0, 0.01), jnp.float32)
    base = dataclasses.replace(base, price_sell=sell, price_buy=sell + gap, pv=4 * base.pv)
    text = "noise(pv=1, price=1) * forecast_error(pv=2) * price_spikes(per_day=20)"
    _, series, _ = many(text, community, base, 50, 96)
    assert (series.price_sell <= series.price_buy).all()
    assert (series.price_buy < 0).any() and (series.price_buy > 0.5).any()
    peak = np.asarray(community.prosumers.pv_peak)
    assert (series.pv >= 0).all() and (series.pv <= peak).all()
    assert (series.pv == peak)[:, :, peak > 0].any()


def test_the_level_is_one_factor_per_scenario_of_mean_one():
    community, horizon = village()
    base, draws = flat(horizon, community, 8), 4000
    has_pv = np.asarray(community.prosumers.pv_peak) > 0
    _, series, _ = many("level(load=0.3, pv=0.1)", community, base, draws, 8)
    load, pv = series.load, series.pv[:, :, has_pv] / np.asarray(base.pv)[0, has_pv]
    for factor, sigma in ((load, 0.3), (pv, 0.1)):
        np.testing.assert_allclose(factor, factor[:, :1, :1] * np.ones(factor.shape[1:]), rtol=1e-6)
        logs = np.log(factor[:, 0, 0])
        close(logs.std(), sigma, sigma / np.sqrt(2 * draws))
        close(factor[:, 0, 0].mean(), 1, 1.1 * sigma / np.sqrt(draws))
    assert abs(np.corrcoef(load[:, 0, 0], pv[:, 0, 0])[0, 1]) < 4 / np.sqrt(draws)


def test_forecast_error_grows_as_the_root_of_the_lead_and_is_reset():
    community, horizon = village()
    base = flat(horizon, community, 60)
    _, series, _ = many("forecast_error(load=0.3, pv=0.2, issue_hours=12)", community, base, 2000, 60)
    has_pv = np.asarray(community.prosumers.pv_peak) > 0
    load, pv = series.load - 1, series.pv[:, :, has_pv] / np.asarray(base.pv)[0, has_pv] - 1
    for issue in (0, 48):
        assert (load[:, issue] == 0).all() and (np.abs(pv[:, issue]) < 1e-12).all()
    for lead in (1, 24, 47):
        for error, sigma, draws in ((load, 0.3, load[:, 0].size), (pv, 0.2, len(pv))):
            expected = sigma * np.sqrt(lead / 96)
            close(error[:, lead].std(), expected, expected / np.sqrt(2 * draws))
            close(error[:, lead].mean(), 0, expected / np.sqrt(draws))
    np.testing.assert_allclose(load[:, 49].std(), load[:, 1].std(), rtol=0.03)
    np.testing.assert_allclose(pv, pv[:, :, :1] * np.ones(has_pv.sum()), atol=1e-12)  # one sky
    assert abs(np.corrcoef(load[:, 40, 0], load[:, 40, 1])[0, 1]) < 4 / np.sqrt(2000)


# ---------------------------------------------------------------- events


def test_spikes_have_their_rate_height_and_length():
    community, horizon = village()
    base = flat(horizon, community, 192)
    _, series, _ = many("price_spikes(per_day=2, size=0.4, hours=1.5)", community, base, 1500, 192)
    extra = series.price_buy - 0.3
    np.testing.assert_allclose(series.price_sell - 0.1, extra, atol=1e-12)
    chance, length = 1 - np.exp(-2 / 96), 6

    def compare(values, expected):  # scenarios are independent, slots are not
        close(values.mean(), expected, values.mean(-1).std() / np.sqrt(len(values)))

    compare(extra, 0.4 * length * chance)
    compare(extra[:, :20], 0.4 * length * chance)  # stationary from the first slot on
    calm = np.abs(extra) < 1e-12
    compare(calm.astype(float), (1 - chance) ** length)
    lone = [
        np.diff(np.flatnonzero(np.diff(np.concatenate([[1], row, [1]]))))[::2]
        for row in calm[:, 6:-6].astype(int)
    ]
    lengths = np.concatenate([x[1:-1] for x in lone])  # runs that neither end of the scenario cuts
    assert len(lengths) > 1000 and lengths.min() == length
    close((lengths == length).mean(), (1 - chance) ** length, 0.5 / np.sqrt(len(lengths)), errors=6)
    begins = calm[:, 5:-1] & ~calm[:, 6:]
    heights = extra[:, 6:][begins]  # of the first spike of a run
    close(heights.mean(), 0.4, 0.4 / np.sqrt(len(heights)))
    close(heights.std(), 0.4, 0.4 * np.sqrt(2 / len(heights)))


def test_outages_have_their_share_rate_and_duration():
    community, horizon = village()
    base = flat(horizon, community, 192)
    text = "outages(pv_per_year=400, battery_per_year=200, hours=10)"
    homes, series, battery = many(text, community, base, 500, 192)
    has_pv = np.asarray(community.prosumers.pv_peak) > 0
    has_battery = np.asarray(community.prosumers.battery.charge_max) > 0
    assert (battery[:, :, ~has_battery] == 0).all()
    np.testing.assert_array_equal(homes.pv_peak, np.tile(community.prosumers.pv_peak, (500, 1)))
    works = series.pv[:, :, has_pv] > 0
    np.testing.assert_array_equal(series.pv[:, :, has_pv], works * np.asarray(base.pv)[0, has_pv])
    for on, rate in ((works, 400 / 8760), (battery[:, :, has_battery] > 0, 200 / 8760)):
        repair, devices = 1 / 10, on.shape[0] * on.shape[2]
        share = rate / (rate + repair)
        for slot in (0, 191):
            close(1 - on[:, slot].mean(), share, np.sqrt(share / devices))
        moved = (1 - np.exp(-(rate + repair) / 4)) / (rate + repair)
        before, after = on[:, :-1], on[:, 1:]
        close(1 - after[before].mean(), rate * moved, np.sqrt(rate * moved / before.sum()))
        close(after[~before].mean(), repair * moved, np.sqrt(repair * moved / (~before).sum()))
        # a long slot sees what many short ones see: after 12 h, the transition of the continuous chain
        later = rate / (rate + repair) * (1 - np.exp(-(rate + repair) * 12))
        close(1 - on[:, 48][on[:, 0]].mean(), later, np.sqrt(later / on[:, 0].sum()))
    homes_apart = np.corrcoef(works[:, 100, 0], works[:, 100, 1])[0, 1]
    assert abs(homes_apart) < 4 / np.sqrt(500)


def test_adoption_keeps_its_shares_and_takes_away_whole_devices():
    community, horizon = village()
    text = "adoption(pv=0.3, battery=0.7)"
    homes, series, works = many(text, community, horizon, 600, 60)
    given, battery = community.prosumers, community.prosumers.battery
    has_pv, has_battery = np.asarray(given.pv_peak) > 0, np.asarray(battery.charge_max) > 0
    kept_pv, kept_battery = homes.pv_peak > 0, homes.battery.charge_max > 0
    for kept, has, share in ((kept_pv, has_pv, 0.3), (kept_battery, has_battery, 0.7)):
        assert not kept[:, ~has].any()
        close(kept[:, has].mean(), share, np.sqrt(share * (1 - share) / (600 * has.sum())))
        assert kept[:, has].all(1).mean() < 0.5 and len(np.unique(kept, axis=0)) > 50
    np.testing.assert_array_equal(homes.pv_peak, np.where(kept_pv, given.pv_peak, 0))
    np.testing.assert_array_equal(series.pv, np.where(kept_pv[:, None], horizon.pv[:60], 0))
    np.testing.assert_array_equal(works, np.repeat(kept_battery[:, None], 60, axis=1))
    for name in ("energy_min", "energy_max", "energy_start", "charge_max", "discharge_max"):
        values = np.where(kept_battery | ~has_battery, getattr(battery, name), 0)
        np.testing.assert_array_equal(getattr(homes.battery, name), values, err_msg=name)
    np.testing.assert_array_equal(series.load, np.tile(horizon.load[:60], (600, 1, 1)))
    wider = many("adoption(pv=0.5, battery=0.7)", community, horizon, 600, 1)[0].pv_peak > 0
    assert (wider >= kept_pv).all() and wider.sum() > kept_pv.sum()


# ---------------------------------------------------------------- the network behind the loads


@pytest.mark.parametrize("network", [True, False])
def test_the_network_follows_the_loads_as_if_built_from_them(network):
    tables = window(load_case("rural1", **DEVICES), days=1)
    community = build_community(tables, market="pool", network=network, dtype="float64")
    horizon = build_horizon(community, tables)
    text = "noise(load=0.5) * forecast_error(load=0.5, issue_hours=3) * adoption(pv=0.3, battery=0.3)"
    model = parse_model(text, horizon=horizon, community=community)
    changed, series, _ = materialise(model, community, horizon, KEY, 96)
    lost = np.asarray(community.prosumers.flexible) & ~np.asarray(changed.prosumers.flexible)
    assert lost.any() and np.asarray(changed.prosumers.flexible).any()

    homes, profiles = tables.prosumers.copy(), tables.profiles.copy()
    homes["load_kw"] = 1.0
    homes["load_profile"] = [f"load of {name}" for name in homes["prosumer_id"]]
    for i, name in enumerate(community.prosumers.ids):
        profiles[f"load of {name}"] = np.asarray(series.load)[:, i]
    again = tables.replace(prosumers=homes, profiles=profiles)
    # without a feeder nothing but its devices says that a home is flexible, so those of the scenario count
    rebuilt = build_horizon(community if network else changed, again)
    for name in ("load", "voltage_base", "flow_base", "flow_reactive"):
        np.testing.assert_allclose(getattr(series, name), getattr(rebuilt, name), atol=1e-10, err_msg=name)
    assert np.abs(series.flow_base - horizon.flow_base).max() > 0.1

    # either way the report of the scenario's own community counts every home once
    everything = -np.asarray(series.load)
    at_bus = np.zeros((96, len(community.network.bus_ids)))
    np.add.at(at_bus, (slice(None), np.asarray(community.prosumers.bus)), everything)
    moved = np.where(np.asarray(community.prosumers.flexible), -np.asarray(horizon.load), 0)
    nominal = grid_state(community, horizon, moved)
    state = grid_state(changed, series, everything)
    difference = np.zeros_like(at_bus)
    np.add.at(
        difference,
        (slice(None), np.asarray(community.prosumers.bus)),
        np.asarray(horizon.load) - np.asarray(series.load),
    )
    squared = nominal.voltage**2 + 2 * difference @ np.asarray(community.network.paths.resistance)
    np.testing.assert_allclose(state.voltage**2, squared, atol=1e-10)


def test_without_a_feeder_a_home_that_loses_its_devices_joins_the_base():
    tables = window(load_case("rural1", **DEVICES), days=1)
    community = build_community(tables, market="pool", network=False, dtype="float64")
    horizon = build_horizon(community, tables)
    model = parse_model("adoption(pv=0.3, battery=0.3)", horizon=horizon, community=community)
    changed, series, _ = materialise(model, community, horizon, KEY, 96)
    rebuilt = build_horizon(changed, tables)
    np.testing.assert_allclose(series.flow_base, rebuilt.flow_base, atol=1e-10)
    np.testing.assert_allclose(series.voltage_base, rebuilt.voltage_base, atol=1e-12)
    assert np.abs(series.flow_base - horizon.flow_base).max() > 0.1


# ---------------------------------------------------------------- text


def test_the_default_and_the_catalogue_fit_the_effects():
    community, horizon = village()
    assert list(EFFECTS) == list(CLASSES)
    for name, entry in EFFECTS.items():
        fields = {field.name for field in dataclasses.fields(CLASSES[name])} - {"slots_per_day"}
        assert fields == set(entry.parameters), name
        assert all(word in EFFECTS_HELP for word in (name, *entry.parameters))
        for key, spec in entry.parameters.items():
            assert spec.low <= spec.default <= spec.high, (name, key)
    assert max(len(line) for line in EFFECTS_HELP.splitlines()) < 100
    model = parse_model(DEFAULT_MODEL, horizon=horizon, community=community)
    assert [type(effect).name for effect in model.effects] == ["bootstrap", "noise"]
    assert float(model.effects[1].load) == EFFECTS["noise"].parameters["load"].default


def test_a_text_becomes_a_model_and_words_again():
    community, horizon = village()
    text = " outages( pv_per_year = 2 )*noise(load=0.25,price=5e-2)* bootstrap() "
    model = parse_model(text, horizon=horizon, community=community)
    outages, noise, bootstrap = model.effects
    assert (float(outages.pv_per_year), float(outages.hours)) == (2, 48)
    assert (float(noise.load), float(noise.price), float(noise.pv)) == (0.25, 0.05, 0.1)
    assert (bootstrap.block_days, bootstrap.same_weekday, bootstrap.slots_per_day) == (1, False, 96)
    lines = describe(model).splitlines()
    assert [line.split(":")[0] for line in lines] == ["outages", "noise", "bootstrap"]
    assert "fails 2 times a year" in lines[0] and "loads 25 %, PV 10 %, prices 5 %" in lines[1]
    everything = parse_model(ALL, horizon=horizon, community=community)
    assert len(describe(everything).splitlines()) == len(CLASSES)
    assert describe(ScenarioModel(effects=())) == "none: every scenario is the horizon itself"


def test_every_fault_of_a_text_is_named_in_one_error():
    community, horizon = village()
    text = (
        "nois(load=0.2) * outages(pv_per_yaer=2, hours=0) * outages * none * noise(load=-1, load=2, pv=nan,"
        " price=cheap, correlation_pv) * bootstrap(block_days=1.5, same_weekday=perhaps) * * noise(pv=0.1"
        " * forecast_error(issue_hours=0.4) * adoption * price_spikes(per_day=inf)"
    )
    with pytest.raises(ValueError) as caught:
        parse_model(text, horizon=horizon, community=community)
    wanted = [
        'unknown effect "nois" (did you mean "noise"?); there are bootstrap, noise,',
        'outages: unknown parameter "pv_per_yaer" (did you mean "pv_per_year"?); there are pv_per_year,',
        "outages: hours = 0 must be a number above 0 to 8760",
        "outages stands twice",
        '"none" stands alone',
        "noise: load = -1 must be a number from 0 to 2",
        "noise: load stands twice",
        "noise: pv = nan must be a number from 0 to 2",
        "noise: price = cheap must be a number from 0 to 2",
        'noise: "correlation_pv" is not of the form parameter=value',
        "bootstrap: block_days = 1.5 must be a whole number from 1 to 366",
        "bootstrap: same_weekday = perhaps must be yes or no",
        "an effect is missing; each must be of the form name or name(parameter=value, ...)",
        '"noise(pv=0.1" is not of the form name or name(parameter=value, ...)',
        "forecast_error: issue_hours = 0.4 must be a whole number of slots of 0.25 h",
        "adoption: give pv or battery below 1",
        "price_spikes: per_day = inf must be a number from 0 to 100",
    ]
    lines = str(caught.value).splitlines()
    assert lines[0].endswith(f": {len(wanted)} faults") and len(lines) == 1 + len(wanted)
    for fault in wanted:
        assert sum(line.strip().startswith(fault) for line in lines) == 1, fault


def test_adoption_without_such_devices_is_a_fault():
    community, horizon = small("rural1", battery_scale=0.0)
    with pytest.raises(ValueError, match=r"battery = 0\.5, but no home has a battery to keep"):
        parse_model("adoption(battery=0.5)", horizon=horizon, community=community)
    assert parse_model("adoption(pv=0.5)", horizon=horizon, community=community).effects
    with pytest.raises(ValueError, match="none has no parameters"):
        parse_model("none(x=1)", horizon=horizon, community=community)


def test_a_slot_is_one_for_the_policies_with_both_kinds_of_key():
    community, horizon = village()
    model = parse_model(DEFAULT_MODEL, horizon=horizon, community=community)
    _, drawn = model.draw(community, horizon, model.start(community, horizon, KEY), 0)
    _, again = model.draw(community, horizon, model.start(community, horizon, jax.random.key_data(KEY)), 0)
    chex.assert_trees_all_equal(drawn, again)
    assert isinstance(drawn.slot, Slot)
    assert drawn.slot.plugs is None
    for name in [name for name in Slot._fields if name not in ("plugs", "dependent_base")]:
        row = getattr(horizon, name)
        assert getattr(drawn.slot, name).shape == row.shape[1:], name
