"""The least reactive power of inverters that keeps the voltages: Q as a decision, its price that of voltages.

    minimise  1/2 sum_n Q_n u_n^2   such that   v_min <= |v|(p, q) <= v_max,   q_n = Q_n u_n,  |u_n| <= 1

with Q_n kvar that bus n can give. Reactive power costs next to nothing beside the energy of a curtailed PV
plant, so a market uses all of it before it curtails: its rows count with all that the inverters can do
(`Feeder.limits`), and what of that is used is found here once the dispatch is known.

In squared voltages w the sensitivities of the linear network make it a quadratic program: w = w0 + 2 X Q u.
Its dual has a price y per bus, u = clip(2 X^T y), and is climbed by Newton steps on one price at a time, that
of the worst bus (Hildreth, A quadratic programming procedure, Naval Research Logistics 4, 1957). The power
flow of the q found gives w0 anew, until both agree. Voltages that cannot be kept leave q at its bounds.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from jaxp2p.model.devices.arrays import Values, namespace
from jaxp2p.model.network.law import Base, Network
from jaxp2p.model.network.power_flow import Flow, flow_of
from jaxp2p.model.network.z_bus import while_on_host

FLOWS = 6  # power flows at most
STEPS = 40  # on single prices, between two flows
INSIDE = {4: 2e-5, 8: 1e-6}  # p.u. by which the aim is inside the limits, by the bytes of a number
CLOSE = {4: 1e-5, 8: 5e-7}  # p.u. that a bus may be away from the aim
HELPLESS = 1e-9  # of the largest response to all inverters: a bus that the free ones move no more


class _Climb(NamedTuple):
    price: Values  # (..., B) y, below 0 at an upper limit
    pull: Values  # (..., B) 2 X^T y
    rise: Values  # (..., B) p.u.^2, 2 X Q u
    off: Values  # (..., B) p.u.^2 that the voltage of a price is away from its limit; 0 where nothing helps
    given_up: Values  # (..., B) bool
    count: Values


def least_reactive(network: Network, base: Base, active: Values, able: Values) -> Flow:
    """The power flow with the least reactive power (..., B) kvar, at most `able`, as its `support`.

    active: (..., B) kW beside what `base` holds. NumPy on the host or JAX, any leading axes.
    """
    xp = namespace(active, network.voltage_max)
    drive = while_on_host if xp is np else jax.lax.while_loop
    width = np.dtype(active.dtype).itemsize
    close = CLOSE[width]
    low, high = _aims(network, active, INSIDE[width])
    buses = xp.arange(active.shape[-1])

    def climbed(alone: Values, begin: Values) -> tuple[Values, Values]:
        """(y, u) where the squared voltages would be (..., B) without q."""

        def at(price: Values, pull: Values, given_up: Values, count: Values) -> _Climb:
            rise = network.lift(able * xp.clip(pull, -1, 1))
            w = alone + rise
            off = xp.where(price < 0, w - high, xp.where(price > 0, w - low, w - xp.clip(w, low, high)))
            return _Climb(price, pull, rise, xp.where(given_up, 0, off), given_up, count)

        def body(now: _Climb) -> _Climb:
            worst = xp.argmax(xp.abs(now.off), axis=-1)[..., None] == buses
            row = network.lift_transposed(worst.astype(active.dtype))  # 2 X of the worst bus
            all_, free = row**2 * able, xp.abs(now.pull) < 1
            # a price that falls back frees whom it had at a bound
            free |= xp.sum(xp.where(worst, now.price * now.off, 0), axis=-1, keepdims=True) > 0
            stiff = xp.sum(xp.where(free, all_, 0), axis=-1, keepdims=True)
            helpless = stiff <= HELPLESS * xp.sum(all_, axis=-1, keepdims=True)
            step = xp.where(worst & ~helpless, -now.off / xp.where(helpless, 1, stiff), 0)
            price = now.price + step
            price = xp.where(now.price * price < 0, 0, price)  # stops at 0 before it changes its sign
            moved = xp.sum(price - now.price, axis=-1, keepdims=True)
            return at(price, now.pull + moved * row, now.given_up | (worst & helpless), now.count + 1)

        start = at(
            begin, network.lift_transposed(begin), xp.zeros(active.shape, bool), xp.zeros((), np.int32)
        )
        going = lambda now: (xp.abs(now.off).max() > close) & (now.count < STEPS)
        found = drive(going, body, start)
        return found.price, xp.clip(found.pull, -1, 1)

    def again(now: tuple[Any, ...]) -> tuple[Any, ...]:
        flow, price, share, _, count = now
        alone = flow.real**2 + flow.imag**2 - network.lift(able * share)
        price, wanted = climbed(alone, price)
        moved = xp.abs(network.lift(able * (wanted - share))).max()
        return flow_of(network, base, active, able * wanted), price, wanted, moved, count + 1

    idle = xp.zeros_like(active)
    flow = flow_of(network, base, active, idle)
    w = flow.real**2 + flow.imag**2
    outside = xp.abs(w - xp.clip(w, low, high)).max()
    going = lambda now: (now[3] > 2 * close) & (now[4] < FLOWS)
    return drive(going, again, (flow, idle, idle, outside, xp.zeros((), np.int32)))[0]


def _aims(network: Network, like: Values, inside: float) -> tuple[Values, Values]:
    """Squared voltages (..., B) to aim at; limits that are closer to each other leave their middle."""
    xp = namespace(like, network.voltage_max)
    middle = (network.voltage_max + network.voltage_min) / 2
    ends = (
        xp.minimum(network.voltage_min + inside, middle),
        xp.maximum(network.voltage_max - inside, middle),
    )
    low, high = (xp.broadcast_to(x.reshape((1,) * (like.ndim - 1) + x.shape) ** 2, like.shape) for x in ends)
    return low, high
