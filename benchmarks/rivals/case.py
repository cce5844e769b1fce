"""The benchmark community: N homes of real size on the 33-bus feeder, a July morning, voltage binding.

`ieee33` with 3,000 homes has about the nominal power of the feeder. Other sizes get the same homes, and a
feeder that is N / 3,000 times as strong: impedances divided, background loads multiplied by that factor. So
powers per home, voltages and the share of binding slots are alike at every N.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxp2p.control.bounds import lyapunov_parameters
from jaxp2p.control.policy import Slot, lyapunov, slot_problem, suggest_penalties
from jaxp2p.data.cases import load_case, window
from jaxp2p.data.populate import PV_PROFILES, densify, generate_homes
from jaxp2p.data.tables import complete
from jaxp2p.model.build import build_community, build_horizon
from jaxp2p.model.types import Community
from jaxp2p.simulation.forward import RunState, init, slots
from jaxp2p.simulation.step import Stored
from jaxp2p.slot import execute
from jaxp2p.slot.admm import solver
from jaxp2p.slot.admm.method import ADMM
from jaxp2p.slot.problem import SlotProblem

HOMES = 3000  # that the feeder carries as it is
START, SLOTS, PRICE = "2016-07-04 07:00", 32, "tou_noise"
PV_SHARE, BATTERY_SHARE, PV_SCALE, BATTERY_SCALE = 0.6, 0.5, 3.0, 2.0
BATTERY_HOURS = 6.0  # from empty to full: they are busy in the whole window
START_SHARES = (0.0, 0.6)  # stored at the start, uniform: no two batteries value energy alike
VOLTAGE_MAX = 1.01  # p.u.; tight, so that it binds while batteries still charge
PARTNERS = 6
PLAUSIBLE = ADMM(
    eps_power=1e-3, eps_price=1e-5, eps_rel=1e-4, max_iter=1000
)  # fixes the stored energies only
CERTIFYING = ADMM(eps_power=3e-4, eps_price=3e-6, eps_rel=3e-5, max_iter=2000)  # its prices give dual bounds


class Case(NamedTuple):
    """Slots that every solver gets."""

    community: Community
    problems: list[SlotProblem]  # float64; market and feeder are shared
    outcomes: list[tuple]  # (row prices (R,), market prices (N,), trade prices) per slot of the tight run


def make_tables(homes: int, *, seed: int = 0, length: int = SLOTS):
    """The tables of the case."""
    tables = window(
        load_case("ieee33", homes=HOMES, price=PRICE, pv_share=0, battery_share=0, seed=seed),
        start=START,
        days=length / 96,
    )
    nominal = tables.prosumers.groupby("bus_id")["load_kw"].sum()
    weights = nominal.reindex(tables.buses["bus_id"], fill_value=0.0).to_numpy(float)
    strength = homes / HOMES
    frame = generate_homes(tables.buses["bus_id"].tolist(), weights, homes, seed=seed)
    frame[["load_kw", "load_kvar"]] *= nominal.sum() / HOMES / 2.6  # as far as the feeder shrank its homes
    tables = complete(
        tables.replace(
            prosumers=frame,
            buses=tables.buses.assign(
                v_max_pu=VOLTAGE_MAX,
                background_kw=tables.buses["background_kw"] * strength,
                background_kvar=tables.buses["background_kvar"] * strength,
            ),
            lines=tables.lines.assign(
                r_ohm=tables.lines["r_ohm"] / strength, x_ohm=tables.lines["x_ohm"] / strength
            ),
        )
    )
    tables = densify(
        tables,
        pv_share=PV_SHARE,
        battery_share=BATTERY_SHARE,
        pv_scale=PV_SCALE,
        battery_scale=BATTERY_SCALE,
        pv_profiles=list(PV_PROFILES),
        seed=seed,
    )
    frame = tables.prosumers.copy()
    share = np.random.default_rng([seed, 9]).uniform(*START_SHARES, homes)
    frame["battery_start_kwh"] = share * frame["battery_kwh"]
    frame["wear_cost_eur_per_kwh"] = np.random.default_rng([seed, 10]).uniform(0, 0.03, homes)
    for column in ("battery_charge_kw", "battery_discharge_kw"):
        frame[column] = frame["battery_kwh"] / BATTERY_HOURS
    return tables.replace(prosumers=frame)


def make_case(homes: int, market: str, *, seed: int = 0, length: int = SLOTS, admm: ADMM = PLAUSIBLE) -> Case:
    """The slots: our controller runs once in float64, which fixes the stored energies for all solvers.

    Needs `jax_enable_x64`.
    """
    tables = make_tables(homes, seed=seed, length=length)
    community = build_community(tables, market=market, partners=PARTNERS, seed=seed, dtype="float64")
    horizon = build_horizon(community, tables)
    penalties = suggest_penalties(horizon)
    low, high = float(horizon.price_sell.min()), float(horizon.price_buy.max())
    policy = lyapunov(lyapunov_parameters(community.prosumers.battery, low, high, horizon.slot_hours))

    @jax.jit
    def clear(state: RunState, slot: Slot):
        problem = slot_problem(community, penalties, policy, slot, state.energy, state.slot_of_week)
        outcome = solver.solve(problem, admm, solver.warm(problem, admm, state.solver))
        d, battery = execute.dispatch(problem, outcome.answer), community.prosumers.battery
        moved = d.charge * battery.charge_efficiency - d.discharge / battery.discharge_efficiency
        energy = jnp.clip(
            battery.retention * state.energy + slot.slot_hours * moved, battery.energy_min, battery.energy_max
        )
        return RunState(Stored(energy), outcome.state, state.slot_of_week + 1), (
            problem,
            (d.row_price, d.market_price, d.trade_price),
            outcome.iterations,
        )

    rows = slots(horizon)
    take = lambda t: jax.tree.map(lambda x: x[t], rows)
    state = init(community, penalties, policy, admm, take(0), jnp.asarray(0, jnp.int32))
    problems, outcomes = [], []
    for t in range(horizon.slots):
        state, (problem, outcome, _) = clear(state, take(t))
        problems.append(problem.coupled(market=community.market, feeder=community.feeder))
        outcomes.append(jax.tree.map(np.asarray, outcome))
    return Case(community, problems, outcomes)


def cast(problem: SlotProblem, dtype: str) -> SlotProblem:
    """The same slot in another precision."""
    return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, problem)


def dual_bounds(case: Case) -> dict[int, float]:
    """A lower bound of every slot's optimum (EUR) by weak duality, from the prices of the tight run.

    Any prices do; these are first made feasible: mu within the tariffs, no two partners more than the fee
    apart, row prices within the penalty. Then no trade and no exchange pays, and what is left per home is
    its devices' best answer to nu: min over (c, d, g) of cost - nu p, in closed form.
    """
    from rivals.lean import host

    out = {}
    market, feeder = case.problems[0].market, case.problems[0].feeder
    fee = np.asarray(market.fee, float)
    for t, problem in enumerate(case.problems):
        p = host(problem)
        row_price, mu = (np.asarray(x, float) for x in case.outcomes[t][:2])
        row_price = np.clip(row_price, -p["row_penalty"], p["row_penalty"])
        mu = np.clip(mu, p["price_sell"], p["price_buy"])
        if market.kind == "pool":
            middle = (mu.max() + mu.min()) / 2
            mu = np.clip(mu, middle - fee[0] / 2, middle + fee[0] / 2)
        elif market.kind == "bilateral":
            partner, open_ = np.asarray(market.partner), np.asarray(market.limit) > 0
            for _ in range(len(mu)):
                near = np.where(open_, mu[partner] + fee, np.inf).min(0)
                if (near >= mu).all():
                    break
                mu = np.minimum(mu, near)
        push = row_price @ np.asarray(feeder.matrix, float)
        nu = mu - push[np.asarray(feeder.group)] * np.asarray(feeder.flexible, float)
        offset, upper, lower = p["row_offset"], p["row_upper"], p["row_lower"]
        network = (
            row_price * offset - np.maximum(row_price, 0) * upper + np.maximum(-row_price, 0) * lower
        ).sum()
        dt, eta_c, eta_d = p["slot_hours"], p["charge_efficiency"], p["discharge_efficiency"]

        def least(curve, slope, low, high):
            """min of curve/2 x^2 + slope x over [low, high]."""
            free = np.where(curve > 0, -slope / np.where(curve > 0, curve, 1), np.where(slope > 0, low, high))
            x = np.clip(free, low, high)
            return curve / 2 * x**2 + slope * x

        slope, value, wear = p["value_slope"], p["value"], p["wear_cost"]
        best = least(
            slope * dt / eta_d**2, (wear + value) / eta_d - nu, p["discharge_min"], p["discharge_max"]
        )
        best += least(slope * dt * eta_c**2, eta_c * (wear - value) + nu, p["charge_min"], p["charge_max"])
        best += (
            least(0 * nu, -p["curtailment_cost"] - nu, 0, p["pv_max"]) + p["curtailment_cost"] * p["pv_max"]
        )
        # fixed homes see mu: their load is in the network's offset, not in a column
        best += np.where(np.asarray(feeder.flexible) > 0, nu, mu) * p["load"]
        out[t] = float(dt * (best.sum() + network))
    return out
