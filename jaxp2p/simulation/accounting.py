"""What counts as cost, the same for every policy, in runs, studies and tuning.

Paid is f_i (utility, fees, wear, curtailment, discomfort) less the worth of the energy gained in the
batteries. What was left undone is counted beside it, at the prices that the slots themselves use:

    unserved    dt ((b + u) short + (u - s) spilled)       beyond the connection limits, u the price on top
    violation   dt kappa sum_r w_r                         network rows that no dispatch, or none found, kept

Total = paid + unserved + violation: what policies are compared by, with each other, with perfect foresight
and with the lower bound, so that serving less never wins.

Losses of the network are not in the slots' costs: they are bought for the community at its connection point
(`losses_cost`), and its members pay them pro rata to what they exchange with the network; where the market
prices losses (`Trajectory.loss_price`), each pays, or is paid, that price of its injection first.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from jaxp2p.control.bounds import stored_value_range
from jaxp2p.control.charging import worth_range
from jaxp2p.model.devices import gained
from jaxp2p.model.match import require_match
from jaxp2p.model.trajectory import Trajectory
from jaxp2p.model.types import Community, Horizon
from jaxp2p.model.utility import beyond_cost, exchange_cost
from jaxp2p.simulation.grid import GridState

ROUNDING_KW = 1e-3  # a member's power beyond a connection limit that is no more than rounding
CHEAP, DEAR = 0.1, 0.9  # quantiles of a day's prices: what storing costs, and what stored energy earns
LEAST_SAVING_EUR, LEAST_SAVING_SHARE = 0.01, 1e-3  # of the cost; less is rounding, and no base of a ratio


class Costs(NamedTuple):
    """What a policy costs: paid by every member, and what was left undone."""

    paid: np.ndarray  # (N,) EUR, payments between members and the worth of the energy gained included
    unserved: np.ndarray  # (N,) EUR
    short_kwh: np.ndarray  # (N,) not served
    spilled_kwh: np.ndarray  # (N,) generated and taken by nobody
    unserved_slots: np.ndarray  # (T,) EUR, the same by slot
    violation_slots: np.ndarray  # (T,) EUR
    losses_slots: np.ndarray  # (T,) EUR of the network's losses, beside all this
    losses: np.ndarray  # (N,) EUR, the same by member

    @property
    def penalty(self) -> np.ndarray:
        """(T,) EUR of everything that was left undone."""
        return self.unserved_slots + self.violation_slots

    @property
    def total_eur(self) -> float:
        """EUR in all: paid and left undone."""
        return float(self.paid.sum() + self.penalty.sum())


def costs(
    community: Community,
    horizon: Horizon,
    trajectory: Trajectory,
    grid: GridState,
    *,
    terminal_price: float,
    unserved_price: float,
    row_price: float,
) -> Costs:
    """The costs of a trajectory; prices in EUR/kWh, the first of stored energy at the end."""
    require_match(community, horizon)
    hours = float(horizon.slot_hours)
    short, spilled = unserved_power(trajectory)
    buy, sell = _f64(horizon.price_buy)[:, None], _f64(horizon.price_sell)[:, None]
    undone = hours * beyond_cost(buy, sell, unserved_price, short, spilled)
    return Costs(
        paid=member_bills(community, horizon, trajectory, terminal_price=terminal_price),
        unserved=undone.sum(0),
        short_kwh=hours * short.sum(0),
        spilled_kwh=hours * spilled.sum(0),
        unserved_slots=undone.sum(1),
        violation_slots=hours * row_price * grid.violated,
        losses_slots=losses_cost(horizon, trajectory, grid.ac_losses),
        losses=losses_by_member(horizon, trajectory, grid.ac_losses).sum(0),
    )


def losses_cost(horizon: Horizon, trajectory: Trajectory, losses: np.ndarray) -> np.ndarray:
    """(T,) EUR that losses (T,) kW cost the community at its connection point; those of all that flows.

    What is lost is bought with what the members import together, at the buy price, or is missing in what
    they export, at the sell price: c(x + losses) - c(x) with c(x) = b max(x, 0) - s max(-x, 0).
    """
    imported = (_f64(trajectory.buy) - _f64(trajectory.sell)).sum(1)
    prices = _f64(horizon.price_buy), _f64(horizon.price_sell)
    rate = lambda x: exchange_cost(*prices, np.maximum(x, 0), np.maximum(-x, 0))
    return float(horizon.slot_hours) * (rate(imported + losses) - rate(imported))


def losses_by_member(horizon: Horizon, trajectory: Trajectory, losses: np.ndarray) -> np.ndarray:
    """(T, N) EUR: every slot's cost of losses shared pro rata to what each exchanges with the network, |p|.

    Where injections have a price w of the losses that they make, every member pays w p first, and what that
    leaves over, or is short of, is shared: about half of it comes back, as losses grow with the square of
    what flows.
    """
    size = np.abs(_f64(trajectory.injection))
    whole = size.sum(1, keepdims=True)
    even = np.full_like(size, 1 / size.shape[1])
    share = np.where(whole > 0, size / np.where(whole > 0, whole, 1), even)
    bought = losses_cost(horizon, trajectory, losses)
    if trajectory.loss_price is None:
        return bought[:, None] * share
    own = float(horizon.slot_hours) * _f64(trajectory.loss_price) * _f64(trajectory.injection)
    return own + (bought - own.sum(1))[:, None] * share


def paid_to_peers(horizon: Horizon, trajectory: Trajectory) -> np.ndarray:
    """(T, N) EUR for what was bought of peers; with it, `payment` is what was received for what was sold.

    Where single trades are not kept, who bought in all has bought only.
    """
    if trajectory.trades is None:
        return np.where(_f64(trajectory.trade) < 0, -_f64(trajectory.payment), 0.0)
    bought = np.maximum(-_f64(trajectory.trades), 0)
    return float(horizon.slot_hours) * (_f64(trajectory.trade_price) * bought).sum(1)


def member_bills(
    community: Community, horizon: Horizon, trajectory: Trajectory, *, terminal_price: float
) -> np.ndarray:
    """(N,) EUR that every member pays in all: f_i, less what peers paid, less the worth of the energy gained.

    Payments cancel, so the bills sum to `cost_eur`.
    """
    gained = energy_gained(community, horizon, trajectory)
    paid = _f64(trajectory.cost).sum(0) - _f64(trajectory.payment).sum(0)
    return paid - terminal_price * gained


def energy_gained(community: Community, horizon: Horizon, trajectory: Trajectory) -> np.ndarray:
    """(N,) kWh that batteries, and vehicles still plugged in at the end, have more than at first."""
    more = _f64(trajectory.energy)[-1] - _f64(community.prosumers.battery.energy_start)
    if horizon.plugs is None:
        return more
    return more + gained(horizon.plugs.float64(), _f64(trajectory.vehicle_energy))


def unserved_power(trajectory: Trajectory) -> tuple[np.ndarray, np.ndarray]:
    """(T, N) kW short (load that was not served) and spilled (generation that nobody took)."""
    beyond = np.abs(_f64(trajectory.unserved))
    # `unserved` may come without its sign; the balance knows it
    balance = _f64(trajectory.injection) - (
        _f64(trajectory.sell) - _f64(trajectory.buy) + _f64(trajectory.trade)
    )
    real = beyond > ROUNDING_KW
    return np.where(real & (balance < 0), beyond, 0.0), np.where(real & (balance >= 0), beyond, 0.0)


def possible_saving(idle: float | None, best: float | None) -> float | None:
    """EUR that control of the storage can save: cost(no storage) - cost(perfect foresight).

    None where that is not known, or too little to be told from rounding: no ratio is made of it.
    """
    if idle is None or best is None or not np.isfinite([idle, best]).all():
        return None
    saving = idle - best
    return saving if saving >= max(LEAST_SAVING_EUR, LEAST_SAVING_SHARE * abs(idle)) else None


def usual_prices(horizon: Horizon) -> tuple[float, float]:
    """EUR/kWh at which energy is usually stored, and at which stored energy usually earns.

    The 10 % quantile of a day's sell prices and the 90 % quantile of its buy prices, each the median over the
    days. Prices further from their median than the median buy price count as that far only: spikes of a few
    hours, also below zero, move this little, in windows of any length.
    """
    buy, sell = _f64(horizon.price_buy), _f64(horizon.price_sell)
    reach = abs(float(np.median(buy)))
    days = max(round(len(buy) * float(horizon.slot_hours) / 24), 1)

    def usual(prices: np.ndarray, quantile: float) -> float:
        middle = float(np.median(prices))
        near = np.clip(prices, middle - reach, middle + reach)
        return float(np.median([np.quantile(day, quantile) for day in np.array_split(near, days)]))

    return usual(sell, CHEAP), usual(buy, DEAR)


def end_value(community: Community, horizon: Horizon) -> float:
    """v_T, EUR per kWh stored at the end: the middle of what storing it usually costs and what it earns.

        v = mean over the batteries of (low / eta_c + kappa + eta_d high - kappa) / 2

    with low and high from `usual_prices`. Where there are vehicles only, the same mean of what a kWh bought
    for them costs, (low + high) / 2 / eta_c + kappa; 0 where nothing is stored at all.
    """
    battery, vehicles = jax.device_get((community.prosumers.battery, community.prosumers.vehicles))
    owners, prices = np.asarray(battery.owned), usual_prices(horizon)
    if owners.any():
        ends = stored_value_range(battery, *prices)
    elif vehicles is not None:
        owners, ends = np.asarray(vehicles.owned), worth_range(vehicles, *prices)
    else:
        return 0.0
    return float(np.mean([_f64(end)[owners] for end in ends]))


def _f64(values: Any) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)
