"""The slots as small, equivalent quadratic programs with a fixed structure, for the rivals.

    minimise 1/2 x' diag(P) x + q' x   subject to   A x = b,  h_lower <= G x <= h_upper,  lower <= x <= upper

P, A, G are the same in all slots; q, b, h and the bounds move, so every rival updates vectors only. Much
smaller than `SlotProblem.to_qp`, which keeps every column that any community may need:

- no columns that are zero in every slot (discharge at a negative value of energy, PV of homes without, ...),
  none for fixed loads, none for injections;
- one pair of columns per trading edge, so reciprocity needs no rows;
- no sales by homes that never have a surplus: utility tariffs and fees make passing power on pay never;
- pool: homes that have nothing to decide are one home; and with one fee and no trade limits only the
  exported and the imported power of a home matter: the pool's volume, the utility's purchases and its sales
  are three columns for the whole community (formulation "community"). Formulation "home" keeps what a
  textbook has: purchases, sales and both directions of trade per home, one row for the pool;
- injections per bus as columns: network rows are 32 x 32, not 32 x N, and each has both its limits.

A device that a slot blocks (a full battery) gets a small width and a large cost: an interior point needs an
interior. The executed point is clipped to the true limits.
"""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from jaxp2p.slot.problem import SlotProblem

BLOCKED_COST = 5.0  # EUR/kWh
WIDTH = 1e-3  # share of the usual width below which a device counts as blocked


class LeanQP(NamedTuple):
    """T slots of one structure; arrays float64."""

    P: np.ndarray  # (n,)
    q: np.ndarray  # (T, n)
    A: sp.csc_matrix  # (m, n)
    b: np.ndarray  # (T, m)
    G: sp.csc_matrix  # (r, n)
    h_lower: np.ndarray  # (T, r)
    h_upper: np.ndarray  # (T, r)
    lower: np.ndarray  # (T, n)
    upper: np.ndarray  # (T, n)


class Layout(NamedTuple):
    """Where the columns are, to read a solution."""

    devices: dict[str, tuple[slice, np.ndarray]]  # columns, homes
    edges: (
        tuple[slice, slice, np.ndarray, np.ndarray] | None
    )  # sales, purchases, seller's and buyer's flat slot
    blocks: dict[str, slice]


def host(problem: SlotProblem) -> dict:
    """The leaves of a problem as float64 numpy arrays, the coupling left out."""
    names = [n for n in problem.__dataclass_fields__ if n != "coupling"]
    values = {n: getattr(problem, n) for n in names}
    return {n: None if v is None else np.asarray(v, float) for n, v in values.items()}


def _device_data(p: dict) -> dict[str, tuple]:
    """name: (curvature, cost, lower, upper, sign of its injection), arrays (N,)."""
    if p["load_cost"] is not None or p["unserved_price"] is not None:
        raise NotImplementedError("the benchmark has neither elastic loads nor connection limits")
    dt, eta_c, eta_d = p["slot_hours"], p["charge_efficiency"], p["discharge_efficiency"]
    value, slope, wear = p["value"], p["value_slope"], p["wear_cost"]
    if (np.minimum(value - slope * dt / eta_d * p["discharge_max"], value) < 0).any() or p[
        "discharge_min"
    ].any():
        # a falling discharge value is not convex in two columns only where lambda < 0; the case avoids it
        raise NotImplementedError("the benchmark has no negative value of energy")
    zero = np.zeros_like(value)
    return {
        "discharge": (slope * dt / eta_d**2, (wear + value) / eta_d, zero, p["discharge_max"], 1),
        "pv_used": (zero, -p["curtailment_cost"], zero, p["pv_max"], 1),
        "charge": (slope * dt * eta_c**2, eta_c * (wear - value), p["charge_min"], p["charge_max"], -1),
    }


def lean(problems: list[SlotProblem], *, community: bool = True) -> tuple[LeanQP, Layout]:
    """All slots in the lean form. Market and feeder must be the same objects in all of them.

    community: collect the pool's exchange in three columns; False keeps four per home.
    """
    slots = [host(p) for p in problems]
    market, feeder = problems[0].market, problems[0].feeder
    homes = len(slots[0]["load"])
    data = [_device_data(p) for p in slots]
    flexible = np.asarray(feeder.flexible) > 0
    group = np.asarray(feeder.group)

    blocks: dict[str, slice] = {}
    curve, cost, low, high = [], [], [], []  # (k,), (T, k), ...

    def columns(name: str, curvature, costs, lower, upper) -> slice:
        start = blocks[next(reversed(blocks))].stop if blocks else 0
        costs = np.asarray(costs, float)
        shape = costs.shape
        curve.append(np.broadcast_to(np.asarray(curvature, float), shape[1:]))
        cost.append(costs)
        low.append(np.broadcast_to(np.asarray(lower, float), shape))
        high.append(np.broadcast_to(np.asarray(upper, float), shape))
        blocks[name] = slice(start, start + shape[1])
        return blocks[name]

    span = len(slots)
    devices, balance, buses = {}, [], []  # (row of the home or bus, column, sign)
    for name in ("discharge", "pv_used", "charge"):
        curvature, linear, lower, upper, sign = zip(*[d[name] for d in data], strict=True)
        lower, upper, linear = np.array(lower), np.array(upper), np.array(linear)
        who = np.flatnonzero((upper > 0).any(0))
        usual = upper[:, who].max(0)
        width = upper[:, who] - lower[:, who]
        blocked = width < WIDTH * usual
        where = columns(
            name,
            curvature[0][who],
            linear[:, who] + BLOCKED_COST * blocked,
            lower[:, who],
            np.where(blocked, lower[:, who] + WIDTH * usual, upper[:, who]),
        )
        devices[name] = (where, who)
        index = np.arange(where.start, where.stop)
        balance.append((who, index, np.full(len(who), float(sign[0]))))
        buses.append((group[who], index, np.full(len(who), float(sign[0]))))
    load = np.array([p["load"] for p in slots])
    can_sell = np.zeros(homes, bool)
    for name in ("discharge", "pv_used"):
        can_sell[devices[name][1]] = True
    price_buy = np.array([p["price_buy"] for p in slots])[:, None]
    price_sell = np.array([p["price_sell"] for p in slots])[:, None]
    ones = lambda k: np.ones((span, k))
    edges = None
    fee, limit = np.asarray(market.fee, float), np.asarray(market.limit, float)
    sellers = np.flatnonzero(can_sell)
    if market.kind == "pool" and not community:
        sold = columns("sell", 0, -price_sell * ones(len(sellers)), 0, np.inf)
        bought = columns("buy", 0, price_buy * ones(homes), 0, np.inf)
        given = columns("given", 0, fee[0, sellers] / 2 * ones(len(sellers)), 0, limit[0, sellers])
        taken = columns("taken", 0, fee[0] / 2 * ones(homes), 0, limit[0])
        for where, who, sign in ((sold, sellers, -1), (bought, range(homes), 1), (given, sellers, -1),
                                 (taken, range(homes), 1)):  # fmt: skip
            balance.append(
                (np.array(who), np.arange(where.start, where.stop), np.full(len(who), float(sign)))
            )
        for where, sign in ((given, 1.0), (taken, -1.0)):
            index = np.arange(where.start, where.stop)
            balance.append((np.full(len(index), homes), index, np.full(len(index), sign)))
        rhs, rows = np.concatenate([load, np.zeros((span, 1))], axis=1), homes + 1
    elif market.kind == "pool":
        if np.ptp(fee) > 0 or np.isfinite(limit).any():
            raise NotImplementedError("the lean pool has one fee and no limits")
        # devices - load = exported - imported; fixed homes are only part of the community's import
        row_of = np.full(homes, -1)
        row_of[flexible] = np.arange(flexible.sum())
        member = np.flatnonzero(flexible)
        sold = columns("exported", 0, 0 * ones(len(sellers)), 0, np.inf)
        bought = columns("imported", 0, 0 * ones(len(member)), 0, np.inf)
        volume = columns("volume", 0, fee[0, 0] * ones(1), 0, np.inf)
        out = columns("sell", 0, -price_sell * ones(1), 0, np.inf)
        into = columns("buy", 0, price_buy * ones(1), 0, np.inf)
        balance = [(row_of[who], col, sign) for who, col, sign in balance]
        balance.append((row_of[sellers], np.arange(sold.start, sold.stop), -np.ones(len(sellers))))
        balance.append((np.arange(len(member)), np.arange(bought.start, bought.stop), np.ones(len(member))))
        rows = len(member)
        balance.append((np.full(len(sellers), rows), np.arange(sold.start, sold.stop), np.ones(len(sellers))))
        balance.append((np.array([rows, rows]), np.array([volume.start, out.start]), -np.ones(2)))
        balance.append(
            (np.full(len(member), rows + 1), np.arange(bought.start, bought.stop), np.ones(len(member)))
        )
        balance.append((np.array([rows + 1, rows + 1]), np.array([volume.start, into.start]), -np.ones(2)))
        rhs = np.concatenate(
            [load[:, member], np.zeros((span, 1)), -load[:, ~flexible].sum(1, keepdims=True)], axis=1
        )
        rows += 2
    elif market.kind == "bilateral":
        reverse = np.asarray(market.reverse).reshape(-1)
        flat = np.arange(reverse.size)
        first = flat[(flat < reverse) & (limit.reshape(-1) > 0)]
        other = reverse[first]
        a, b = first % homes, other % homes
        sold = columns("sell", 0, -price_sell * ones(len(sellers)), 0, np.inf)
        bought = columns("buy", 0, price_buy * ones(homes), 0, np.inf)
        each = fee.reshape(-1)[first] * ones(len(first))
        reach = limit.reshape(-1)[first]
        forward = columns("forward", 0, each, 0, reach)  # a sells to b
        backward = columns("backward", 0, each, 0, reach)
        edges = (forward, backward, first, other)
        balance.append((sellers, np.arange(sold.start, sold.stop), -np.ones(len(sellers))))
        balance.append((np.arange(homes), np.arange(bought.start, bought.stop), np.ones(homes)))
        for where, giver, taker in ((forward, a, b), (backward, b, a)):
            index = np.arange(where.start, where.stop)
            balance.append((giver, index, -np.ones(len(index))))
            balance.append((taker, index, np.ones(len(index))))
        rhs, rows = load, homes
    else:
        raise NotImplementedError(market.kind)

    count = feeder.count.shape[0]
    at_bus = columns("bus", 0, 0 * ones(count), -np.inf, np.inf)
    index = np.arange(at_bus.start, at_bus.stop)
    buses.append((np.arange(count), index, -np.ones(count)))
    fixed = np.zeros((span, count))
    member = np.flatnonzero(flexible)
    for t in range(span):
        np.add.at(fixed[t], group[member], load[t, member])
    width = slots[0]["row_offset"].shape[0]
    penalty = np.array([p["row_penalty"] for p in slots])[:, None]
    columns("under", 0, penalty * ones(width), 0, np.inf)
    over = columns("over", 0, penalty * ones(width), 0, np.inf)
    size = over.stop

    def matrix(entries, height):
        row, col, val = (np.concatenate(x) for x in zip(*entries, strict=True))
        return sp.csc_matrix((val, (row, col)), shape=(height, size))

    sensitivity = sp.csc_matrix(np.asarray(feeder.matrix, float))
    network = sp.hstack(
        [sp.csc_matrix((width, at_bus.start)), sensitivity, sp.identity(width), -sp.identity(width)],
        format="csc",
    )
    offset = np.array([p["row_offset"] for p in slots])
    qp = LeanQP(
        P=np.concatenate(curve),
        q=np.concatenate(cost, axis=1),
        A=sp.vstack([matrix(balance, rows), matrix(buses, count)], format="csc"),
        b=np.concatenate([rhs, fixed], axis=1),
        G=network,
        h_lower=np.array([p["row_lower"] for p in slots]) - offset,
        h_upper=np.array([p["row_upper"] for p in slots]) - offset,
        lower=np.concatenate(low, axis=1),
        upper=np.concatenate(high, axis=1),
    )
    return qp, Layout(devices, edges, blocks)


def executed(problem: SlotProblem, layout: Layout, x: np.ndarray) -> dict[str, np.ndarray]:
    """What a rival's x does: devices within their limits, trades reciprocal, the utility takes the rest."""
    p = host(problem)
    homes = len(p["load"])
    point = {name: np.zeros(homes) for name in ("discharge", "pv_used", "charge")}
    for name, (where, who) in layout.devices.items():
        point[name][who] = x[where]
    point["discharge"] = np.clip(point["discharge"], p["discharge_min"], p["discharge_max"])
    point["charge"] = np.clip(point["charge"], p["charge_min"], p["charge_max"])
    point["pv_used"] = np.clip(point["pv_used"], 0, p["pv_max"])
    injection = point["pv_used"] - p["load"] + point["discharge"] - point["charge"]
    if layout.edges is None:
        # any split of the pool's volume costs the same: in proportion to what each exports or imports
        gives, takes = np.maximum(injection, 0), np.maximum(-injection, 0)
        traded = float(x[layout.blocks["volume" if "volume" in layout.blocks else "given"]].sum())
        volume = min(gives.sum(), takes.sum(), max(0.0, traded))
        share = lambda v: v / max(v.sum(), 1e-12) * volume
        trades = (share(gives) - share(takes))[None, :]
    else:
        forward, backward, first, other = layout.edges
        flow = x[forward] - x[backward]
        trades = np.zeros(np.asarray(problem.market.fee).shape)
        trades.reshape(-1)[first] = flow
        trades.reshape(-1)[other] = -flow
        limit = np.asarray(problem.market.limit, float)
        trades = np.clip(trades, -limit, limit)
    rest = injection - trades.sum(0)
    return {
        **point,
        "injection": injection,
        "trades": trades,
        "buy": np.maximum(-rest, 0),
        "sell": np.maximum(rest, 0),
    }
