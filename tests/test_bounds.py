"""V_max, theta ranges and values of stored energy against hand-made numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxp2p.control.bounds import (
    can_earn,
    lyapunov_parameters,
    stored_value_range,
    theta_range,
    theta_range_standard,
    v_max,
    v_max_standard,
    value_at,
)
from jaxp2p.control.certificate import certificate
from jaxp2p.model.types import Battery

LOW, HIGH, HOURS = 0.1, 0.4, 0.25


def battery(dtype=np.float64, **changes) -> Battery:
    """Four batteries: ordinary, zero capacity, never earning (wear), leaking with E_min > 0."""
    columns = {
        "energy_min": [1.0, 0.0, 0.0, 2.0],
        "energy_max": [10.0, 0.0, 10.0, 12.0],
        "energy_start": [5.0, 0.0, 5.0, 6.0],
        "charge_max": [5.0, 0.0, 5.0, 4.0],
        "discharge_max": [4.0, 0.0, 5.0, 4.0],
        "charge_efficiency": [0.9, 1.0, 0.95, 0.95],
        "discharge_efficiency": [0.8, 1.0, 0.95, 0.95],
        "retention": [1.0, 1.0, 1.0, 0.99],
        "wear_cost": [0.01, 0.0, 0.2, 0.01],
    } | changes
    return Battery(**{name: jnp.asarray(np.asarray(column, dtype)) for name, column in columns.items()})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_of_the_ordinary_battery(dtype):
    b = battery(dtype)
    cost_least, earn_most = stored_value_range(b, LOW, HIGH)
    assert cost_least.dtype == dtype
    np.testing.assert_allclose(cost_least[0], 0.1 / 0.9 + 0.01, rtol=1e-6)
    np.testing.assert_allclose(earn_most[0], 0.8 * 0.4 - 0.01, rtol=1e-6)
    spread = 0.31 - (0.1 / 0.9 + 0.01)
    np.testing.assert_allclose(v_max(b, LOW, HIGH)[0], 9 / spread, rtol=1e-6)
    margin = 0.25 * (0.9 * 5 + 4 / 0.8)
    np.testing.assert_allclose(
        v_max_standard(b, LOW, HIGH, slot_hours=HOURS)[0], (9 - margin) / spread, rtol=1e-6
    )


def test_batteries_that_rest_have_no_finite_v():
    b = battery()
    assert can_earn(b, LOW, HIGH).tolist() == [True, False, False, True]
    for v in (v_max(b, LOW, HIGH), v_max_standard(b, LOW, HIGH, slot_hours=HOURS)):
        assert np.isinf(v).tolist() == [False, True, True, False]
    for method in ("exact", "standard"):
        parameters = lyapunov_parameters(b, LOW, HIGH, HOURS, method=method)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(parameters))
        assert (np.asarray(parameters.inverse_v) == 0).tolist() == [False, True, True, False]
        cost_least, earn_most = stored_value_range(b, LOW, HIGH)
        np.testing.assert_allclose(parameters.rest_value, 0.5 * (cost_least + earn_most))


def test_leaking_battery_with_a_floor_must_be_willing_to_buy():
    b = battery()
    cost_least, earn_most = stored_value_range(b, LOW, HIGH)
    refill = HIGH / 0.95 + 0.01
    assert refill > earn_most[3]
    np.testing.assert_allclose(v_max(b, LOW, HIGH)[3], 10 / (refill - cost_least[3]))
    # the standard method needs both: the discharge margin with D_h, and the refill without
    trading = (10 - 0.25 * (0.95 * 4 + 4 / 0.95)) / (earn_most[3] - cost_least[3])
    filling = (10 - 0.25 * 0.95 * 4) / (refill - cost_least[3])
    np.testing.assert_allclose(
        v_max_standard(b, LOW, HIGH, slot_hours=HOURS)[3], min(trading, filling), rtol=1e-12
    )


def test_negative_highest_price_keeps_the_stronger_floor():
    """With mu_max < 0 buying back at mu_max / eta_c is the weaker condition, not the stronger."""
    b = battery(wear_cost=[0.0] * 4)
    cost_least, earn_most = stored_value_range(b, -0.9, -0.1)
    assert earn_most[3] > -0.1 / 0.95
    np.testing.assert_allclose(v_max(b, -0.9, -0.1)[3], 10 / (earn_most[3] - cost_least[3]))


@pytest.mark.parametrize("share", [0.5, 1.0, 1.3])
def test_theta_range_is_empty_exactly_above_v_max(share):
    b = battery()
    active = np.array([0, 3])
    low, high = theta_range(
        b, share * jnp.where(jnp.isinf(v_max(b, LOW, HIGH)), 1.0, v_max(b, LOW, HIGH)), LOW, HIGH
    )
    width = np.asarray(high - low)[active]
    np.testing.assert_allclose(width, (1 - share) * np.array([9.0, 10.0]), atol=1e-12)
    v = v_max_standard(b, LOW, HIGH, slot_hours=HOURS)
    low, high = theta_range_standard(b, share * jnp.where(jnp.isinf(v), 1.0, v), LOW, HIGH, slot_hours=HOURS)
    assert (np.sign(np.round(np.asarray(high - low)[active], 9)) == np.sign(1 - share)).all()


def test_a_battery_that_fills_in_a_slot_has_no_standard_v():
    b = battery(charge_max=[50.0, 0.0, 5.0, 4.0])
    assert v_max_standard(b, LOW, HIGH, slot_hours=HOURS)[0] < 0
    assert v_max(b, LOW, HIGH)[0] > 0
    parameters = lyapunov_parameters(b, LOW, HIGH, HOURS, method="standard")
    assert parameters.inverse_v[0] == 0
    proof = certificate(b, parameters, LOW, HIGH, slot_hours=HOURS, slots=10)
    assert not proof.limits_never_bind[0]
    assert not proof.cost_guaranteed[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_value_of_stored_energy_is_the_slope_of_the_lyapunov_function(dtype):
    b = battery(dtype)
    parameters = lyapunov_parameters(b, LOW, HIGH, HOURS)
    energy = b.energy_start + 1
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    drift = jax.grad(lambda e: 0.5 * jnp.sum(parameters.inverse_v * (e - parameters.theta) ** 2))
    np.testing.assert_allclose(-drift(energy)[0], value_at(parameters, energy)[0], rtol=tolerance)


def test_parameters_stay_in_range_and_trace_with_a_moving_share():
    b = battery()
    shares = jnp.linspace(0.1, 1.0, 7)
    tables = jax.jit(jax.vmap(lambda s: lyapunov_parameters(b, LOW, HIGH, HOURS, v_share=s)))(shares)
    for share, theta, inverse_v in zip(shares, tables.theta, tables.inverse_v, strict=True):
        v = 1 / inverse_v[0]
        np.testing.assert_allclose(v, share * v_max(b, LOW, HIGH)[0])
        low, high = (x[0] for x in theta_range(b, v, LOW, HIGH))
        assert low - 1e-9 <= theta[0] <= high + 1e-9
    gradient = jax.grad(lambda s: lyapunov_parameters(b, LOW, HIGH, HOURS, v_share=s).inverse_v.sum())(0.5)
    assert np.isfinite(gradient)
    assert gradient < 0
    with pytest.raises(ValueError, match="exact, standard"):
        lyapunov_parameters(b, LOW, HIGH, HOURS, method="linear")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("method", ["exact", "standard"])
def test_certificate_says_never_up_to_v_max_and_not_beyond(method, dtype):
    b = battery(dtype)
    options = {"slot_hours": HOURS, "slots": 96}
    at_limit = lyapunov_parameters(b, LOW, HIGH, HOURS, method=method)
    proof = certificate(b, at_limit, LOW, HIGH, **options)
    assert proof.limits_never_bind.all()
    assert proof.cost_guaranteed.all()
    assert np.isfinite(proof.bound_eur)
    assert "all batteries" in proof.explain()
    beyond = lyapunov_parameters(b, LOW, HIGH, HOURS, method=method, v_share=1.3)
    proof = certificate(b, beyond, LOW, HIGH, **options)
    assert proof.limits_never_bind.tolist() == [False, True, True, False]
    assert np.isinf(proof.bound_eur)
    assert "no guarantee" in proof.explain()
    wider = certificate(b, at_limit, LOW - 0.05, HIGH + 0.05, **options)
    assert wider.limits_never_bind.tolist() == [False, True, True, False]


def test_certificate_formula_by_hand():
    b = battery()
    parameters = lyapunov_parameters(b, LOW, HIGH, HOURS)
    proof = certificate(
        b, parameters, LOW, HIGH, slot_hours=HOURS, slots=96, terminal_price=0.2, stopping_gap=0.01
    )
    up, down = 0.25 * 0.9 * 5, 0.25 * 4 / 0.8
    np.testing.assert_allclose(proof.gap[0], 0.5 * up * down * parameters.inverse_v[0])
    np.testing.assert_allclose(proof.gap[1:3], 0)
    # the start term is the largest over where the horizon ends
    end = np.linspace(1, 10, 100_001)
    k, theta = float(parameters.inverse_v[0]), float(parameters.theta[0])
    by_search = np.max(0.5 * k * ((5 - theta) ** 2 - (end - theta) ** 2) - 0.2 * (end - 5))
    np.testing.assert_allclose(proof.start[0], by_search, rtol=1e-7)
    total = proof.gap.sum() + proof.start.sum() / 96 + 0.01
    np.testing.assert_allclose(proof.bound_eur_per_slot, total)
    np.testing.assert_allclose(proof.bound_eur, 96 * total)


def test_certificate_is_never_above_the_published_constant():
    """M <= max over both ends of 1/2 (u - (1 - sigma) theta)^2 + pull (Qin et al.), sigma = 1 included."""
    rng = np.random.default_rng(1)
    for sigma in (1.0, 0.999, 0.97):
        b = battery(retention=[sigma] * 4, discharge_max=list(rng.uniform(0.5, 8, 4)), wear_cost=[0.01] * 4)
        parameters = lyapunov_parameters(b, LOW, HIGH, HOURS)
        proof = certificate(b, parameters, LOW, HIGH, slot_hours=HOURS, slots=10)
        leak, theta = 1 - sigma, np.asarray(parameters.theta)
        up = HOURS * b.charge_efficiency * b.charge_max
        down = HOURS * b.discharge_max / b.discharge_efficiency
        worst = np.maximum((up - leak * theta) ** 2, (-down - leak * theta) ** 2)
        ends = np.maximum((b.energy_min - theta) ** 2, (b.energy_max - theta) ** 2)
        published = 0.5 * worst + leak * sigma**2 / (2 * (1 + sigma)) * ends
        assert (proof.gap <= published * parameters.inverse_v + 1e-12).all()


def test_theta_by_time_of_day_keeps_storage_and_loses_the_cost_guarantee():
    b = battery()
    parameters = lyapunov_parameters(b, LOW, HIGH, HOURS, v_share=0.5)
    low, high = theta_range(b, 1 / jnp.where(parameters.inverse_v > 0, parameters.inverse_v, 1.0), LOW, HIGH)
    moving = type(parameters)(
        theta=jnp.stack([low, 0.5 * (low + high), high]),
        inverse_v=parameters.inverse_v,
        rest_value=parameters.rest_value,
    )
    proof = certificate(b, moving, LOW, HIGH, slot_hours=HOURS, slots=96)
    assert proof.limits_never_bind.all()
    assert "no guarantee" in proof.explain()
    assert np.isinf(proof.bound_eur)
    astray = type(moving)(
        theta=moving.theta.at[1, 0].add(20.0), inverse_v=moving.inverse_v, rest_value=moving.rest_value
    )
    assert not certificate(b, astray, LOW, HIGH, slot_hours=HOURS, slots=96).limits_never_bind[0]


def test_explain_weighs_the_bound_against_the_possible_saving():
    b = battery()
    proof = certificate(b, lyapunov_parameters(b, LOW, HIGH, HOURS), LOW, HIGH, slot_hours=HOURS, slots=96)
    assert "vacuous" in proof.explain(possible_saving_eur=0.5 * proof.bound_eur)
    assert "vacuous" not in proof.explain(possible_saving_eur=2 * proof.bound_eur)
    assert "vacuous" in proof.explain(possible_saving_eur=0.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("method", ["exact", "standard"])
@pytest.mark.parametrize(("low", "high"), [(LOW, HIGH), (0.2, 0.2), (-0.1, 0.3)])
def test_numpy_arrays_give_numpy_arrays_of_the_same_bits(dtype, method, low, high):
    there = battery(dtype)
    here = jax.device_get(there)

    def known(b):
        parameters = lyapunov_parameters(b, low, high, np.asarray(HOURS, dtype), method=method)
        prices = {"slot_hours": np.asarray(HOURS, dtype), "slots": 96, "terminal_price": 0.2}
        return parameters, certificate(b, parameters, low, high, **prices)

    for ours, theirs in zip(jax.tree.leaves(known(here)), jax.tree.leaves(known(there)), strict=True):
        assert isinstance(ours, np.ndarray) and ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
