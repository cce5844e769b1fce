"""Plausible runs without a solver: exact balances, rule-made batteries, a pool that pairs what it can."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from jaxp2p.model.trajectory import Trajectory

POLICIES = (
    "no_storage_no_trade",
    "no_trade",
    "no_storage",
    "greedy",
    "self_consumption",
    "community_self_consumption",
    "lyapunov_standard",
    "lyapunov",
    "perfect_foresight",
)


class FakeRun(NamedTuple):
    """The fields of jaxp2p.runs.runner.Run."""

    trajectories: dict
    seconds: dict
    compile_seconds: float
    perfect_foresight_eur: float | None
    perfect_foresight_is_bound: bool
    lower_bound_eur: float | None
    terminal_price: float
    certificate: str
    row_names: tuple
    unserved_price: float
    row_price: float
    perfect_foresight_reasons: tuple
    grids: Mapping = MappingProxyType({})  # nobody has looked at one


def trajectory(community, horizon, *, storage: float = 1.0, trade: bool = True, seed: int = 0) -> Trajectory:
    """Batteries follow their own meter at a share `storage` of what they could; peers share the surplus."""
    draw = np.random.default_rng(seed)
    load, pv = np.asarray(horizon.load, float), np.asarray(horizon.pv, float)
    buy_price, sell_price = np.asarray(horizon.price_buy, float), np.asarray(horizon.price_sell, float)
    dt, shape = float(horizon.slot_hours), load.shape
    b = community.prosumers.battery
    names = ("energy_min", "energy_max", "energy_start", "charge_max", "discharge_max")
    low, high, energy, charge_max, discharge_max = (np.asarray(getattr(b, n), float) for n in names)
    eta_c, eta_d, sigma = (
        np.asarray(getattr(b, n), float) for n in ("charge_efficiency", "discharge_efficiency", "retention")
    )
    charge, discharge, stored = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for t in range(shape[0]):
        kept, surplus = sigma * energy, pv[t] - load[t]
        room, stock = (high - kept) / (dt * eta_c), (kept - low) * eta_d / dt
        charge[t] = np.clip(storage * surplus, 0, np.minimum(charge_max, room))
        discharge[t] = np.clip(-storage * surplus, 0, np.minimum(discharge_max, np.maximum(stock, 0)))
        energy = kept + dt * (eta_c * charge[t] - discharge[t] / eta_d)
        stored[t] = energy
    injection = pv - load + discharge - charge
    offered, wanted = np.maximum(injection, 0), np.maximum(-injection, 0)
    volume = np.minimum(offered.sum(1), wanted.sum(1))[:, None] * float(trade)
    give = offered * np.divide(
        volume, offered.sum(1, keepdims=True), out=np.zeros_like(volume), where=volume > 0
    )
    take = wanted * np.divide(
        volume, wanted.sum(1, keepdims=True), out=np.zeros_like(volume), where=volume > 0
    )
    net = give - take
    sell, buy = np.maximum(injection - net, 0), np.maximum(net - injection, 0)
    share = np.clip(wanted.sum(1) / np.maximum(offered.sum(1) + wanted.sum(1), 1e-9), 0, 1)
    clearing = sell_price + share * (buy_price - sell_price)
    price = clearing[:, None] + 0.005 * draw.standard_normal(shape) * (volume > 0)
    price = np.clip(price, sell_price[:, None], buy_price[:, None])
    fee = 0.01
    cost = dt * (buy_price[:, None] * buy - sell_price[:, None] * sell + fee / 2 * np.abs(net))
    iterations = draw.lognormal(4, 0.5, shape[0]).astype(int)
    zeros = np.zeros(shape[0])
    return Trajectory(
        injection=injection,
        load=load,
        pv_used=pv,
        charge=charge,
        discharge=discharge,
        energy=stored,
        trade=net,
        trade_volume=np.abs(net),
        buy=buy,
        sell=sell,
        cost=cost,
        payment=dt * clearing[:, None] * net,
        market_price=price,
        nodal_price=price,
        unserved=np.zeros(shape),
        gap=zeros,
        violation=zeros,
        violation_row=zeros.astype(np.int32),
        status=zeros.astype(np.int32),
        iterations=iterations.astype(np.int32),
        prim_res=zeros,
        dual_res=zeros,
    )


def fake_run(community, horizon, *, policies=POLICIES, terminal_price: float = 0.15) -> FakeRun:
    """All policies with different shares of the batteries in use."""
    share = {
        "greedy": 0.05,
        "self_consumption": 0.7,
        "community_self_consumption": 0.6,
        "lyapunov_standard": 0.4,
        "lyapunov": 0.85,
        "perfect_foresight": 1.0,
    }
    trajectories = {}
    for number, name in enumerate(policies):
        storage = 0.0 if name.startswith("no_storage") else share.get(name, 0.8)
        trajectories[name] = trajectory(
            community, horizon, storage=storage, trade=not name.endswith("no_trade"), seed=number
        )
    start = np.asarray(community.prosumers.battery.energy_start, float)
    foresight = None
    if "perfect_foresight" in trajectories:
        best = trajectories["perfect_foresight"]
        foresight = float(best.cost.sum() - terminal_price * (best.energy[-1] - start).sum())
    return FakeRun(
        trajectories=trajectories,
        seconds={name: 0.5 + 0.1 * i for i, name in enumerate(policies)},
        compile_seconds=3.0,
        perfect_foresight_eur=foresight,
        perfect_foresight_is_bound=community.market.kind == "bilateral",
        lower_bound_eur=None if foresight is None else foresight - 0.1,
        terminal_price=terminal_price,
        certificate="storage limits never bind; cost bound 0.9 EUR per slot (vacuous)",
        row_names=(),
        unserved_price=16.0,
        row_price=0.0,  # these runs keep no limits
        perfect_foresight_reasons=("of a cheaper market",) if community.market.kind == "bilateral" else (),
    )
