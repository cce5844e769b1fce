"""`SlotProblem` as the standard-form quadratic program that any external solver reads.

    minimise 1/2 x' P x + q' x     subject to     lower <= A x <= upper,   lower_x <= x <= upper_x

in EUR/h over x = (discharge while lambda < 0, discharge, pv used, charge, load, buy, sell, unserved, spilled,
injection, the first, second and fourth again for every seat of vehicles, sales e+, purchases e-, row
violations), float64 on the host.
"""

from typing import NamedTuple

import jax
import numpy as np
import scipy.sparse as sp

from jaxp2p._pytree import present
from jaxp2p.model.devices import Storage
from jaxp2p.model.network import Feeder
from jaxp2p.slot.problem import SlotProblem


class QP(NamedTuple):
    """Standard form; `offset` makes the objective equal slot cost plus drift plus penalties, per hour."""

    P: sp.csc_matrix
    q: np.ndarray
    A: sp.csc_matrix
    lower: np.ndarray
    upper: np.ndarray
    lower_x: np.ndarray
    upper_x: np.ndarray
    offset: float
    blocks: dict[str, slice]  # where every group of variables lies in x
    rows: dict[str, slice]  # where every group of constraints lies in A: balance, devices, trade, network

    def boxed(self) -> "QP":
        """The same program with the bounds on x as the last rows of A, for solvers without such bounds."""
        size = len(self.q)
        return self._replace(
            A=sp.vstack([self.A, sp.identity(size)], format="csc"),
            lower=np.concatenate([self.lower, self.lower_x]),
            upper=np.concatenate([self.upper, self.upper_x]),
            lower_x=np.full(size, -np.inf),
            upper_x=np.full(size, np.inf),
        )


def to_qp(problem: SlotProblem) -> QP:
    """The slot as a QP. Row violations are variables priced at the penalty, so it is always feasible.

    Raises ValueError for a network of so many rows over so many homes that nobody could solve it.
    """
    take = lambda x: np.asarray(x, float)
    homes, dt = problem.load.shape[0], float(problem.slot_hours)
    if words := problem.feeder.no_response(homes):
        raise ValueError(words)
    zeros, ones, free = np.zeros(homes), np.ones(homes), np.full(homes, np.inf)
    battery, seats = _storage(problem.devices.battery, dt), []
    if problem.vehicles is not None:
        storage = problem.vehicles.storage
        each = (
            jax.tree.map(lambda x, k=k: x[k] if x.ndim > 1 else x, storage) for k in range(len(storage.value))
        )
        seats = [_storage(seat, dt) for seat in each]
    elastic = problem.load_cost is not None
    load, load_cost = take(problem.load), take(problem.load_cost) if elastic else zeros
    limited = problem.unserved_price is not None
    lost = zeros if problem.loss_price is None else take(problem.loss_price)
    unserved = float(present(problem.unserved_price)) if limited else 0.0
    buy, sell = float(problem.price_buy), float(problem.price_sell)

    # name: (curvature, linear cost, lower, upper)
    groups: dict[str, tuple[np.ndarray, ...]] = {
        "discharge_negative": battery.groups["discharge_negative"],
        "discharge": battery.groups["discharge"],
        "pv_used": (zeros, -take(problem.curtailment_cost), zeros, take(problem.pv_max)),
        "charge": battery.groups["charge"],
        "load": (2 * load_cost, -2 * load_cost * load, take(problem.load_min), take(problem.load_max)),
        "buy": (zeros, buy * ones, zeros, take(problem.buy_max) if limited else free),
        "sell": (zeros, -sell * ones, zeros, take(problem.sell_max) if limited else free),
        "unserved": (zeros, (buy + unserved) * ones, zeros, free if limited else zeros),
        "spilled": (zeros, (unserved - sell) * ones, zeros, free if limited else zeros),
        "injection": (zeros, lost, -free, free),
    }
    for k, seat in enumerate(seats):
        groups |= {f"vehicle{k}_{name}": group for name, group in seat.groups.items()}
    fee, limit = take(problem.market.fee), take(problem.market.limit)
    for k in range(fee.shape[0]):
        groups[f"sale{k}"] = groups[f"purchase{k}"] = (zeros, fee[k] / 2, zeros, limit[k])
    feeder = problem.feeder
    if isinstance(feeder, Feeder):
        empty = np.zeros(feeder.rows)
        groups["violation"] = (empty, empty + float(problem.row_penalty), empty, empty + np.inf)

    blocks, size = {}, 0
    for name, (_, cost, _, _) in groups.items():
        blocks[name] = slice(size, size + len(cost))
        size += len(cost)
    curvature, linear, lower_x, upper_x = (np.concatenate(x) for x in zip(*groups.values(), strict=True))

    eye = sp.identity(homes, format="csc")

    def constraint(**terms) -> sp.csc_matrix:
        height = next(iter(terms.values())).shape[0]
        parts = [
            terms.get(name, sp.csc_matrix((height, blocks[name].stop - blocks[name].start)))
            for name in groups
        ]
        return sp.hstack(parts, format="csc")

    trade = {f"sale{k}": eye for k in range(fee.shape[0])} | {
        f"purchase{k}": -eye for k in range(fee.shape[0])
    }
    minus = {name: -matrix for name, matrix in trade.items()}
    balance = constraint(injection=eye, sell=-eye, spilled=-eye, buy=eye, unserved=eye, **minus)
    devices = constraint(
        injection=eye,
        discharge_negative=-eye,
        discharge=-eye,
        pv_used=-eye,
        charge=eye,
        load=eye,
        **{f"vehicle{k}_{name}": sign * eye for k in range(len(seats)) for name, sign in _SIGNS.items()},
    )
    start_d = np.sum([storage.least_discharge for storage in (battery, *seats)], axis=0)
    matrices, lows, highs = [balance, devices], [zeros, start_d], [zeros, start_d]
    names = ["balance", "devices"]
    if fee.shape[0]:
        reciprocity = problem.market.reciprocity()
        at = {f"sale{k}": part for k, part in enumerate(reciprocity)}
        at |= {f"purchase{k}": -part for k, part in enumerate(reciprocity)}
        matrices.append(constraint(**at))
        lows.append(np.zeros(reciprocity[0].shape[0]))
        highs.append(np.zeros(reciprocity[0].shape[0]))
        names.append("trade")
    if isinstance(feeder, Feeder):
        who = np.asarray(feeder.group), np.arange(homes)
        place = sp.csc_matrix((take(feeder.flexible), who), shape=(len(feeder.count), homes))
        reach = sp.csc_matrix(take(feeder.matrix)) @ place
        offset = take(problem.row_offset)
        slack = sp.identity(len(offset), format="csc")
        matrices += [
            constraint(injection=reach, violation=-slack),
            constraint(injection=reach, violation=slack),
        ]
        lows += [np.full(len(offset), -np.inf), take(problem.row_lower) - offset]
        highs += [take(problem.row_upper) - offset, np.full(len(offset), np.inf)]
        names += ["network_upper", "network_lower"]
    rows, top = {}, 0
    for name, low in zip(names, lows, strict=True):
        rows[name] = slice(top, top + len(low))
        top += len(low)
    constant = float(
        np.sum(take(problem.curtailment_cost) * take(problem.pv_max) + load_cost * load**2)
        + battery.constant
        + sum(seat.constant for seat in seats)
    )
    return QP(
        P=sp.diags_array(curvature, format="csc"),
        q=linear,
        A=sp.vstack(matrices, format="csc"),
        lower=np.concatenate(lows),
        upper=np.concatenate(highs),
        lower_x=lower_x,
        upper_x=upper_x,
        offset=constant,
        blocks=blocks,
        rows=rows,
    )


_SIGNS = {"discharge_negative": -1, "discharge": -1, "charge": 1}  # in injection - powers = least discharge


class _Storage(NamedTuple):
    """What one storage of every home adds to the program."""

    groups: dict[str, tuple[np.ndarray, ...]]  # curvature, linear cost, lower, upper
    least_discharge: np.ndarray  # (N,) kW, on top of which the discharges count
    constant: float  # EUR/h


def _storage(storage: Storage, dt: float) -> _Storage:
    take = lambda x: np.asarray(x, float)
    eta_c, eta_d = take(storage.charge_efficiency), take(storage.discharge_efficiency)
    value, slope, wear = take(storage.value), take(storage.value_slope), take(storage.wear_cost)
    offer, zeros = storage.offer(), np.zeros(value.shape)
    below_zero, above_zero = (take(offer[name].gain) for name in ("discharge_below_zero", "discharge"))
    start = take(storage.discharge_min)
    turn, fall = start + below_zero, slope * dt / eta_d
    curve_a = eta_c * fall  # d/dx of the marginal cost of each discharge piece, measured from its start
    curve_b = fall / eta_d
    slope_a = wear / eta_d + eta_c * (value + fall * start)
    slope_b = wear / eta_d + (value + fall * turn) / eta_d
    charge_limits = take(storage.charge_min), take(storage.charge_max)
    return _Storage(
        groups={
            "discharge_negative": (curve_a, slope_a, zeros, below_zero),
            "discharge": (curve_b, slope_b, zeros, above_zero),
            "charge": (slope * dt * eta_c**2, eta_c * (wear - value), *charge_limits),
        },
        least_discharge=start,
        constant=float(np.sum(start * (wear / eta_d) + _value_given_up(start, value, fall, eta_c, eta_d))),
    )


def _value_given_up(discharge, value, fall, eta_c, eta_d) -> np.ndarray:
    """EUR/h of storage value for a forced discharge (rule-based policies), lambda < 0 part first."""
    turn = np.where(fall > 0, -value / np.where(fall > 0, fall, 1), np.where(value < 0, np.inf, 0))
    first = np.where(value < 0, np.minimum(discharge, turn), 0)
    rest = discharge - first
    return eta_c * (value + fall * first / 2) * first + (value + fall * (first + rest / 2)) * rest / eta_d
