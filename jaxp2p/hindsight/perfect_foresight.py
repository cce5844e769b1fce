"""Perfect foresight: the cheapest the community could have been, had it known the whole horizon.

    minimise  sum_t sum_i f_i  -  sum_i v_T (E_T - E_0)  +  penalties        over all slots at once,

vehicles included, which are paid for what they gain in stays that are open at the end. It is one convex QP
(`horizon_qp`), solved on the host in float64. Network rows enter round by round, only where they are violated
or nearly so; connection limits and the trade limits of a pool are kept member by member.
Two relaxations keep the value a lower bound without making it exact: a bilateral market is replaced by the
pool with its smallest fee, in which a member trades as much as all its edges allow together, and a battery
may charge and discharge at once. That pays at negative nodal prices only; at a price of 0 it costs no more
than to curtail PV, which is what is done instead, unless stored energy that has become worthless is what is
burnt. `simultaneous_kwh` tells how much of it is left in the answer: where there is any, real batteries may
not reach this cost.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from jaxp2p._pytree import present
from jaxp2p.hindsight.horizon_data import HorizonData, NetworkRows
from jaxp2p.hindsight.horizon_qp import HorizonSolution, solve_horizon
from jaxp2p.hindsight.horizon_settlement import settle
from jaxp2p.model.devices import Plugged
from jaxp2p.model.devices.vehicle import begun
from jaxp2p.model.match import require_match
from jaxp2p.model.network import on_host
from jaxp2p.model.trajectory import Trajectory
from jaxp2p.model.types import Community, Horizon

ROWS_PER_SLOT = 8  # network rows added to a slot in one round
ROUGH, EXACT = 1e-5, 1e-8  # relative tolerances of the QP while rows are looked for, and of the answer
SECONDS_PER_VARIABLE, ROUNDS_WITH_NETWORK = 6e-5, 4.0  # of `estimate_seconds`
NEAR = 0.1  # share of its range within which a row counts as nearly violated
# slots to either side in which the next round is likely to find a row that is this close to its limit
REACH, NEIGHBOURING = 6, 0.35


class PerfectForesight(NamedTuple):
    """What perfect foresight costs, how it gets there, and the prices behind it."""

    cost_eur: float  # sum of all f_i, without terminal worth and penalties
    terminal_eur: float  # - sum_i v_T (E_T - E_0), and of vehicles likewise
    unserved_eur: float  # what is short at b + u, what is spilled at u - s
    penalty_eur: float  # violated network rows
    objective_eur: float  # the sum of the four, of the executed trajectory
    dual_objective_eur: float  # dual value of the last QP: never above the optimum, but for its tolerance
    trajectory: Trajectory  # numpy arrays; what describes iterations is 0
    storage_duals: np.ndarray  # (T, N) EUR/kWh, m_t: worth of a kWh stored at the end of slot t
    vehicle_duals: np.ndarray | None  # (T, K, N) EUR/kWh, the same in vehicles
    pool_price: np.ndarray  # (T,) EUR/kWh of a kWh traded (seller mu + fee/2, buyer mu - fee/2)
    row_duals: np.ndarray  # (T, R) EUR/kWh, positive at an upper limit, negative at a lower
    is_lower_bound: bool  # True: no dispatch of the real market need reach this cost
    simultaneous_kwh: float  # charged while discharging; 0: the batteries can do all this
    status: str  # of the last QP ("Solved", "AlmostSolved"), or "MaxRounds"
    rounds: int  # QPs solved
    rows_added: int  # network rows in the last QP
    variables: int  # of the last QP
    solver_iterations: int  # over all rounds
    seconds: float  # everything, assembly included


def perfect_foresight(
    community: Community,
    horizon: Horizon,
    *,
    terminal_price: float | np.ndarray,
    row_penalty: float,
    unserved_price: float = 10.0,
    max_rounds: int = 20,
    tolerance: float = 1e-3,
    told: Callable[[int, int, int], None] = lambda round, rows, iteration: None,
) -> PerfectForesight:
    """Solve the horizon with everything known.

    terminal_price v_T is () or (N,) EUR/kWh, row_penalty and unserved_price EUR/kWh, the latter on top of the
    tariffs; a network row is added
    when it is violated by more than `tolerance` kW, for at most `max_rounds` solves. Rows still missing
    then make the answer a lower bound with the status "MaxRounds". `told(round, rows, iteration)` hears of
    every iteration of the solver. Raises RuntimeError, with Clarabel's status, when a QP is not solved.
    """
    require_match(community, horizon)
    begin = time.perf_counter()
    data, exact_market = horizon_data(
        community,
        horizon,
        terminal_price=terminal_price,
        row_penalty=row_penalty,
        unserved_price=unserved_price,
    )
    nothing = NetworkRows(*(np.zeros(0, int) for _ in range(3)))
    # Most of what binds is already violated while the batteries rest: a start that saves rounds.
    rows = _missing_rows(data, data.pv - data.load, nothing, tolerance)
    iterations = rounds = 0
    # While rows are looked for, a rough answer shows them as well, in half of the iterations.
    rough = data.response.size > 0 and max_rounds > 1
    while True:
        heard = partial(told, rounds + 1, len(rows.slot))
        found = solve_horizon(data, rows, tolerance=ROUGH if rough else EXACT, told=heard)
        iterations, rounds = iterations + found.solver.iterations, rounds + 1
        if rough:
            injection = found.injection(data)
        else:
            settled = settle(data, found, rows)
            injection = np.asarray(settled.trajectory.injection)
        missing = _missing_rows(data, injection, rows, tolerance, near=NEAR)
        missing = _with_neighbours(data, injection, rows, missing)
        if rough:
            rough = missing.slot.size > 0 and rounds + 1 < max_rounds
        elif not missing.slot.size or rounds >= max_rounds:
            break
        rows = NetworkRows(*(np.concatenate(pair) for pair in zip(rows, missing, strict=True)))

    cost, trajectory = float(settled.trajectory.cost.sum()), settled.trajectory
    in_vehicles = [] if trajectory.vehicle_energy is None else [trajectory.vehicle_energy[-1]]
    gained = np.concatenate([trajectory.energy[-1:], *in_vehicles]) - data.begun
    terminal = -float(data.terminal_price @ gained.sum(0))
    idle_terminal = -float(data.terminal_price @ np.where(data.battery.owned, 0.0, gained[0]))
    worth = _storage_duals(data, found)
    return PerfectForesight(
        cost_eur=cost,
        terminal_eur=terminal,
        unserved_eur=settled.unserved_eur,
        penalty_eur=settled.penalty_eur,
        objective_eur=cost + terminal + settled.unserved_eur + settled.penalty_eur,
        dual_objective_eur=float(found.solver.dual_objective) + idle_terminal,
        trajectory=settled.trajectory,
        storage_duals=worth[:, 0],
        vehicle_duals=None if data.vehicles is None else worth[:, 1:],
        pool_price=found.price,
        row_duals=found.row_dual,
        is_lower_bound=not exact_market or settled.simultaneous_kwh > 1e-6 or bool(missing.slot.size),
        simultaneous_kwh=settled.simultaneous_kwh,
        status="MaxRounds" if missing.slot.size else found.solver.status,
        rounds=rounds,
        rows_added=len(rows.slot),
        variables=len(found.solver.x),
        solver_iterations=iterations,
        seconds=time.perf_counter() - begin,
    )


def estimate_seconds(community: Community, slots: int) -> float:
    """What perfect foresight will take on one core of 2024, within a factor of 3; nothing is solved.

    A round takes SECONDS_PER_VARIABLE for every variable, of which a battery has 4 per slot, a vehicle 3 in
    half of the slots, an elastic load 1, and that of a member with limits of his own 6 more. Without a
    network there is one round, with one about 4. Fitted to rural3, PV and batteries with 9 of 10 members
    (`benchmarks/README.md`).
    """
    homes = jax.device_get(community.prosumers)
    powered = homes.battery.owned
    variables = 4 * powered.sum() + (homes.load_flex_share > 0).sum()
    if homes.vehicles is not None:
        owned = homes.vehicles.owned
        variables, powered = variables + 3 / 2 * owned.sum(), powered | owned.any(0)
    limit = np.asarray(community.market.limit).sum(0) if community.market.limit.shape[0] else np.inf
    has_limits = np.isfinite(np.minimum(homes.buy_max, homes.sell_max)) | (np.isfinite(limit) & (limit > 0))
    variables += 6 * (np.broadcast_to(has_limits, powered.shape) & powered).sum()
    rounds = ROUNDS_WITH_NETWORK if community.feeder.rows else 1.0
    return float(SECONDS_PER_VARIABLE * rounds * variables * slots)


def horizon_data(
    community: Community,
    horizon: Horizon,
    *,
    terminal_price: float | np.ndarray,
    row_penalty: float,
    unserved_price: float,
) -> tuple[HorizonData, bool]:
    """The horizon in float64 numpy, and whether its pool is the community's market exactly."""
    homes, size = community.prosumers, community.size
    trading, fee, trade_limit, exact = _pool_of(community)
    load = _float(horizon.load)
    vehicles, vehicles_begun = _vehicles(community, horizon)
    whole, base = on_host((community, horizon.grid_base))
    feeder = whole.feeder
    rows = feeder.limits(whole.network, base, whole.reach(_float(horizon.pv)))
    data = HorizonData(
        slot_hours=float(horizon.slot_hours),
        load=load,
        pv=_float(horizon.pv),
        price_buy=_float(horizon.price_buy),
        price_sell=_float(horizon.price_sell),
        trading=trading,
        fee=fee,
        trade_limit=trade_limit,
        buy_max=_float(homes.buy_max),
        sell_max=_float(homes.sell_max),
        unserved_price=unserved_price,
        curtailment_cost=_float(homes.curtailment_cost),
        shift_max=_float(homes.load_flex_share) * np.abs(load),
        shift_cost=_float(homes.load_flex_cost),
        battery=homes.battery.float64(),
        terminal_price=np.broadcast_to(_float(terminal_price), (size,)),
        row_penalty=row_penalty,
        response=feeder.response(size),
        offset=rows.offset,
        lower=rows.lower,
        upper=rows.upper,
        vehicles=vehicles,
        vehicles_begun=vehicles_begun,
    )
    return data, exact


def _vehicles(community: Community, horizon: Horizon) -> tuple[Plugged | None, np.ndarray | None]:
    """What is plugged in, and what the stays that are open at the end began with; None without vehicles."""
    vehicles = community.prosumers.vehicles
    if vehicles is None or not horizon.slots:
        return None, None
    plugs = present(horizon.plugs).float64()
    return vehicles.float64().plugged(plugs).within_reach(hours=float(horizon.slot_hours)), begun(plugs)


def _float(values) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)


def _pool_of(community: Community) -> tuple[bool, float, np.ndarray, bool]:
    """Whether there is trade, fee, limit on every member's net trade (N,), whether that is the market itself.

    A pool with one fee on a graph costs no more than the graph with its own fees: |sum_j e_ij| is at most
    sum_j |e_ij|, and the sum of a member's edge limits bounds its net trade.
    """
    market, size = community.market, community.size
    fee, limit = _float(market.fee), _float(market.limit)
    open_edges = limit > 0
    if not open_edges.any():
        return False, 0.0, np.zeros(size), True
    smallest = float(fee[open_edges].min())
    same_fee = bool(np.all(fee[open_edges] == smallest))
    return True, smallest, limit.sum(0), market.pooled and same_fee


def _missing_rows(
    data: HorizonData, injection: np.ndarray, rows: NetworkRows, tolerance: float, *, near: float = 0.0
) -> NetworkRows:
    """In every slot a few violated rows that are not in the QP yet and not settled by each other.

    Neighbouring rows are nearly parallel and all of them are dense, so not every violated row is added: the
    worst one is projected away, a step of Kaczmarz's method on p, and then the worst of what is left. With
    `near`, rows within that share of their range of a limit come along, as the next round would find them
    violated: several in a slot with violations, one in the others (stored energy moves there).
    """
    response = data.response[:, data.response.any(0)]
    gram = response @ response.T
    value = data.offset + injection @ data.response.T
    present = np.zeros((2, *value.shape), bool)  # lower, upper
    present[(rows.side > 0).astype(int), rows.slot, rows.row] = True
    added = [np.zeros((3, 0), int)]
    slot = np.arange(len(value))
    for _ in range(ROWS_PER_SLOT if value.size else 0):
        over = np.where(present[1, slot], -np.inf, value - data.upper[slot])
        under = np.where(present[0, slot], -np.inf, data.lower[slot] - value)
        excess = np.maximum(over, under)
        worst = excess.argmax(1)
        number = np.arange(len(slot))
        size = excess[number, worst]
        if len(added) == 1 and not np.any(size > tolerance):
            break
        side = np.where(over[number, worst] >= under[number, worst], 1, -1)
        wanted = size > tolerance - near * (data.upper - data.lower)[slot, worst]
        added.append(np.stack([slot, worst, side])[:, wanted])
        present[(side[wanted] > 0).astype(int), slot[wanted], worst[wanted]] = True
        value = value - (side * np.maximum(size, 0) / gram[worst, worst])[:, None] * gram[worst]
        going_on = wanted & (size > tolerance) if len(added) == 2 else wanted
        slot, value = slot[going_on], value[going_on]
    return NetworkRows(*np.concatenate(added, axis=1))


def _with_neighbours(
    data: HorizonData, injection: np.ndarray, rows: NetworkRows, missing: NetworkRows
) -> NetworkRows:
    """`missing` and the same rows in the slots around them, where they are not far from their limits.

    A limit that is kept in one slot moves the batteries to the next ones. This halves the rounds.
    """
    if not missing.slot.size:
        return missing
    value = data.offset + injection @ data.response.T
    room = np.stack([value - data.lower, data.upper - value])  # (2, T, R) kW: lower, upper
    width = data.upper - data.lower
    present, chosen, wanted = (np.zeros(room.shape, bool) for _ in range(3))
    for some in (rows, missing):
        present[(some.side > 0).astype(int), some.slot, some.row] = True
    chosen[(missing.side > 0).astype(int), missing.slot, missing.row] = True
    chosen &= room < NEAR * width
    for away in range(1, REACH + 1):
        wanted[:, away:] |= chosen[:, :-away]
        wanted[:, :-away] |= chosen[:, away:]
    side, slot, row = np.nonzero(wanted & ~present & (room < NEIGHBOURING * width))
    added = NetworkRows(slot, row, 2 * side - 1)
    return NetworkRows(*(np.concatenate(pair) for pair in zip(missing, added, strict=True)))


def _storage_duals(data: HorizonData, found: HorizonSolution) -> np.ndarray:
    """m (T, B, N); a battery without power has v_T sigma^(T-1-t), which makes its share in a bound exact."""
    worth = found.storage_dual.copy()
    ages = np.arange(len(worth) - 1, -1, -1)[:, None]
    decayed = data.terminal_price * data.battery.retention**ages
    worth[:, 0] = np.where(data.battery.owned, worth[:, 0], decayed)
    return worth
