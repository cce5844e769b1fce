"""The studies that `bench_study.py` and `bench_gpu.py` run, and slots recorded on the way.

Needs jax, numpy, scipy and pandas only.
"""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxp2p.control.bounds import lyapunov_parameters
from jaxp2p.control.policy import coupling, lyapunov, suggest_penalties
from jaxp2p.data.cases import load_case, window
from jaxp2p.data.tables import Tables
from jaxp2p.model.build import build_community, build_horizon
from jaxp2p.model.markets import Bilateral
from jaxp2p.model.types import Community, Horizon, Market
from jaxp2p.scenarios.parse import parse_model
from jaxp2p.slot import solvers
from jaxp2p.slot.problem import SlotProblem
from jaxp2p.slot.solvers import choose_solver
from jaxp2p.studies import lane as lanes
from jaxp2p.studies.lane import Task
from rivals.case import PARTNERS, make_tables

START, DAYS, MODEL = "2016-07-04", 14, "bootstrap * noise"
SLOTS_PER_DAY = 96


def make_task(community: Community, horizon: Horizon, *, model: str, slots: int) -> Task:
    """The modified controller on random scenarios, with the default solver of the market."""
    low, high = float(horizon.price_sell.min()), float(horizon.price_buy.max())
    battery = community.prosumers.battery
    parameters = lyapunov_parameters(battery, low, high, horizon.slot_hours, method="exact")
    return Task(
        community=community,
        horizon=horizon,
        model=parse_model(model, horizon=horizon, community=community),
        penalties=suggest_penalties(horizon),
        policy=lyapunov(parameters),
        solver=choose_solver(community),
        key=jax.random.key(0),
        first_slot_of_week=jnp.int32(0),
        slots=slots,
    )


def village(homes: int, market: str, *, slots: int = SLOTS_PER_DAY) -> Task:
    """153 homes: rural3 as it is. Any other number: that many homes with PV and batteries on ieee33."""
    case = load_case("rural3") if homes == 153 else load_case("ieee33", homes=homes)
    tables = window(case, start=START, days=DAYS)
    community = build_community(tables, market=market, partners=PARTNERS)
    return make_task(community, build_horizon(community, tables), model=MODEL, slots=slots)


def scaled(homes: int, market: str, *, slots: int, buses: int = 33) -> Task:
    """Any number of homes on a feeder that grows with them (`case.py`), from 07:00."""
    tables = make_tables(homes, length=slots)
    if buses > 33:
        tables = cut_lines(tables, buses)
    # a trading graph from the tables takes minutes for a million homes
    community = build_community(tables, market="pool")
    if market == "bilateral":
        community = replace(community, market=matchings(homes, PARTNERS))
    return make_task(community, build_horizon(community, tables), model="noise", slots=slots)


def cut_lines(tables: Tables, buses: int, *, seed: int = 0) -> Tables:
    """The feeder with its lines cut in equal parts until there are `buses`; loads spread over the parts.

    Stands for a larger feeder where none can be had under a clear licence: as deep electrically as before.
    """
    lines = tables.lines.reset_index(drop=True)
    more = buses - len(tables.buses)
    parts = 1 + np.full(len(lines), more // len(lines)) + (np.arange(len(lines)) < more % len(lines))
    lines = lines.assign(r_ohm=lines["r_ohm"] / parts, x_ohm=lines["x_ohm"] / parts)
    row, part = np.repeat(np.arange(len(lines)), parts), np.concatenate([np.arange(k) for k in parts])
    at_bus = tables.buses.set_index("bus_id", drop=False)
    cut = lines.loc[row].reset_index(drop=True)
    name = lambda last, k, n: last if k == n - 1 else f"{last}.{k + 1}"
    ends = [name(last, k, parts[r]) for last, k, r in zip(cut["to_bus"], part, row, strict=True)]
    starts = [first if k == 0 else ends[i - 1] for i, (first, k) in enumerate(zip(cut["from_bus"], part))]
    cut = cut.assign(from_bus=starts, to_bus=ends, line_id=[f"{a}-{b}" for a, b in zip(starts, ends)])
    share = parts[row]
    of_line = at_bus.loc[lines["to_bus"].iloc[row]].reset_index(drop=True).assign(bus_id=ends)
    for column in ("background_kw", "background_kvar"):
        of_line[column] = of_line[column] / share
    slack = at_bus.loc[~at_bus["bus_id"].isin(lines["to_bus"])]
    pieces = {last: np.array(ends)[row == r] for r, last in enumerate(lines["to_bus"])}
    draw = np.random.default_rng(seed)
    moved = [draw.choice(pieces[bus]) if bus in pieces else bus for bus in tables.prosumers["bus_id"]]
    return tables.replace(
        prosumers=tables.prosumers.assign(bus_id=moved),
        buses=pd.concat([slack, of_line], ignore_index=True),
        lines=cut,
    )


def matchings(homes: int, partners: int, *, fee: float = 0.01, seed: int = 0) -> Market:
    """A random trading graph as the union of `partners` perfect matchings; an odd home stays out."""
    draw = np.random.default_rng(seed)
    partner = np.tile(np.arange(homes), (partners, 1))
    for row in partner:
        order = draw.permutation(homes)[: homes // 2 * 2]
        row[order[0::2]], row[order[1::2]] = order[1::2], order[0::2]
    # both ends of an edge keep it in the same slot
    reverse = np.arange(partners)[:, None] * homes + partner
    alone = partner == np.arange(homes)
    return Bilateral(
        partner=jnp.asarray(partner, jnp.int32),
        reverse=jnp.asarray(reverse, jnp.int32),
        fee=jnp.full((partners, homes), fee, jnp.float32),
        limit=jnp.asarray(np.where(alone, 0, np.inf), jnp.float32),
    )


def record(task: Task, numbers: np.ndarray) -> tuple[list[SlotProblem], list[dict], np.ndarray]:
    """All slots of a few scenarios: problems, executed dispatches, and the cost (S, T) in EUR.

    Made of the steps of the batch engine, one scenario at a time, so the series of `run_batch` must agree.
    """
    names = ("injection", "pv_used", "charge", "discharge", "trades", "buy", "sell")
    names += ("market_price", "row_price")  # for lower bounds

    @jax.jit
    def run(numbers):
        def slot(rest, _):
            lane = lanes.opened(task, rest)
            problem = lanes.problem_of(task, lane)
            advance = partial(solvers.advance, problem, task.solver)
            search = jax.lax.while_loop(partial(solvers.running, task.solver), advance, lane.search)
            solved = lane._replace(search=search)
            secured, _ = lanes.judged(task, solved)
            d = solvers.executed(problem, secured.outcome).dispatch
            rest, kept, _ = lanes.closed(task, solved, secured)
            return rest, (lane.posed.problem, {n: getattr(d, n) for n in names}, kept.cost_eur)

        one = lambda number: jax.lax.scan(slot, lanes.begun(task, number), length=task.slots)[1]
        return jax.lax.map(one, numbers)

    posed, done, cost = jax.tree.map(np.asarray, run(jnp.asarray(numbers, jnp.int32)))
    problems, points = [], []
    shared = coupling(task.community, task.policy)
    for s in range(len(numbers)):
        for t in range(task.slots):
            problems.append(replace(jax.tree.map(lambda x: x[s, t], posed), coupling=shared))  # noqa: B023
            points.append({n: x[s, t].astype(float) for n, x in done.items()})
    return problems, points, cost
