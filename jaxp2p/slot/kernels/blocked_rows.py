"""The rows of a network inside a kernel: what `slot.newton.step.Network` asks for, by blocks of buses.

One program has one community. What has a number per row is in its registers; what has a number per bus stays
in memory and passes by BUSES at a time, for a register cannot be asked for by its number.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from jaxp2p.slot.kernels.blocks import BUSES
from jaxp2p.slot.newton.dense import PASSES
from jaxp2p.slot.newton.dual import Point, Prices, Totals
from jaxp2p.slot.newton.step import Bounded
from jaxp2p.slot.prox.prosumer import clamp


class BlockedRows(NamedTuple):
    """The rows of one community inside a kernel: vectors over rows in registers, buses by blocks."""

    matrix: Any  # reference, (R, G)
    offset: Any  # (R,)
    at_bus: Any  # (2, G padded): kW, kW per EUR/kWh at the trial prices
    slopes: Any  # (G,), at the accepted prices

    @property
    def rows(self) -> int:
        """R."""
        return self.matrix.shape[0]

    @property
    def numbers(self) -> Array:
        """(R padded,) int32, of the rows."""
        return jax.lax.iota(jnp.int32, pl.next_power_of_2(self.rows))

    def read(self, ref: Any, other: float = 0) -> Array:
        """(R padded,) of a reference (R,)."""
        size = self.numbers.shape[0]
        return triton.load(ref.at[pl.ds(jnp.int32(0), size)], mask=self.numbers < self.rows, other=other)

    def write(self, ref: Any, value: Array) -> None:
        """Into a reference (R,)."""
        size = self.numbers.shape[0]
        triton.store(ref.at[pl.ds(jnp.int32(0), size)], value, mask=self.numbers < self.rows)

    def values(self, totals: Totals) -> Array:
        """(R padded,) kW, at the trial prices."""

        def add(c: Array, carry: Array) -> Array:
            some = triton.load(self.at_bus.at[jnp.int32(0), self._buses(c)])
            return carry + jnp.sum(self._tile(c) * some[None, :], axis=1)

        return self._over_buses(add, self.read(self.offset))

    def largest(self, weight: Array, count: int) -> list[tuple[Array, Array]]:
        """Which rows () int32, and whether they count () bool."""
        weight = jnp.where(self.numbers < self.rows, weight, -1)
        chosen = []
        for _ in range(count):
            row = jax.lax.argmax(weight, 0, jnp.int32)
            chosen.append((row, jnp.max(weight) > 0))
            weight = jnp.where(self.numbers == row, -1, weight)
        return chosen

    def step(self, at: Point, chosen: list[tuple[Array, Array]], room: Bounded) -> Prices:
        """The step of the pool's price and of the rows that were chosen."""
        count = len(chosen)
        pairs = [(i, j) for i in range(count) for j in range(i, count)]

        def add(c: Array, carry: list[Array]) -> list[Array]:
            slope = self._slopes(c, at.slope_at_bus)
            rows = [
                triton.load(self.matrix.at[i, self._buses(c)], mask=self._is_bus(c), other=0)
                for i, _ in chosen
            ]
            cross = [old - jnp.sum(row * slope) for old, row in zip(carry[:count], rows, strict=True)]
            inner = [
                old + jnp.sum(rows[i] * slope * rows[j])
                for old, (i, j) in zip(carry[count:], pairs, strict=True)
            ]
            return cross + inner

        none = jnp.zeros_like(at.slope)
        sums = self._over_buses(add, [none] * (count + len(pairs)))
        inner = dict(zip(pairs, sums[count:], strict=True))
        free = [room.free.pool, *(use for _, use in chosen)]
        pick = lambda x: [x.pool, *(jnp.sum(jnp.where(self.numbers == i, x.rows, 0)) for i, _ in chosen)]
        damping = [room.damping.pool] + [room.damping.rows] * count
        entry = {(0, 0): at.slope} | {(0, 1 + i): sums[i] for i in range(count)}
        entry |= {(1 + i, 1 + j): value for (i, j), value in inner.items()}
        system = [[entry[min(i, j), max(i, j)] for j in range(1 + count)] for i in range(1 + count)]
        for i, row in enumerate(system):
            for j in range(1 + count):
                row[j] = jnp.where(free[i] & free[j], row[j], 0)
            row[i] = row[i] + jnp.where(free[i], damping[i], 0)
        found = bounded_step(system, pick(at.gradient), free, pick(room.least), pick(room.most))
        rows = jnp.zeros_like(at.prices.rows)
        for (row_number, use), part in zip(chosen, found[1:], strict=True):
            rows = jnp.where((self.numbers == row_number) & use, part, rows)
        return Prices(found[0], rows)

    def write_slopes(self, ref: Any, which: Array) -> None:
        """Those that count into a reference (G,)."""

        def some(c: Array, _: None) -> None:
            triton.store(ref.at[self._buses(c)], self._slopes(c, which), mask=self._is_bus(c))

        self._over_buses(some, None)

    def write_bus_price(self, ref: Any, row_price: Array) -> None:
        """What rows take off at the buses, into a reference (G,)."""

        def some(c: Array, _: None) -> None:
            price = jnp.sum(self._tile(c) * row_price[:, None], axis=0)
            triton.store(ref.at[self._buses(c)], price, mask=self._is_bus(c))

        self._over_buses(some, None)

    def _over_buses(self, body: Any, carry: Any) -> Any:
        return jax.lax.fori_loop(jnp.int32(0), jnp.int32(self.at_bus.shape[-1] // BUSES), body, carry)

    def _buses(self, c: Array) -> Any:
        return pl.ds(c * BUSES, BUSES)

    def _is_bus(self, c: Array) -> Array:
        return c * BUSES + jax.lax.iota(jnp.int32, BUSES) < self.matrix.shape[1]

    def _tile(self, c: Array) -> Array:
        """(R padded, BUSES) of the matrix."""
        inside = (self.numbers < self.rows)[:, None] & self._is_bus(c)[None, :]
        size = self.numbers.shape[0]
        return triton.load(self.matrix.at[pl.ds(jnp.int32(0), size), self._buses(c)], mask=inside, other=0)

    def _slopes(self, c: Array, which: Array) -> Array:
        """(BUSES,) kW per EUR/kWh: where `which` is 1 those at the trial prices, else the accepted ones."""
        new = triton.load(self.at_bus.at[jnp.int32(1), self._buses(c)])
        old = triton.load(self.slopes.at[self._buses(c)], mask=self._is_bus(c), other=0)
        return jnp.where(which == 1, new, old)


def bounded_step(
    system: list[list[Array]],
    gradient: list[Array],
    free: list[Array],
    least: list[Array],
    most: list[Array],
) -> list[Array]:
    """As `slot.newton.dense.bounded_step`, number by number: a kernel has no small matrices."""
    size = range(len(gradient))

    def solved(low: list[Array], high: list[Array]) -> list[Array]:
        moves = [free[i] & ~low[i] & ~high[i] for i in size]
        fixed = [jnp.where(low[i], least[i], jnp.where(high[i], most[i], 0)) for i in size]
        left = [gradient[i] - _dot(system[i], fixed) for i in size]
        scale = [jax.lax.rsqrt(jnp.where(moves[i], system[i][i], 1)) for i in size]
        scaled = [
            [jnp.where(moves[i] & moves[j], system[i][j], 0) * scale[i] * scale[j] for j in range(i)]
            for i in size
        ]
        right = [jnp.where(moves[i], scale[i] * left[i], 0) for i in size]
        return [fixed[i] + scale[i] * x for i, x in enumerate(_unit_diagonal_solve(scaled, right))]

    def again(carry):
        step, low, high, _, passes = carry
        pull = [gradient[i] - _dot(system[i], step) for i in size]
        now_low = [free[i] & jnp.where(low[i], pull[i] < 0, step[i] < least[i]) for i in size]
        now_high = [free[i] & jnp.where(high[i], pull[i] > 0, step[i] > most[i]) for i in size]
        same = jnp.ones((), bool)
        for i in size:
            same = same & (now_low[i] == low[i]) & (now_high[i] == high[i])
        better = solved(now_low, now_high)
        step = [jnp.where(same, a, b) for a, b in zip(step, better, strict=True)]
        return step, now_low, now_high, same, passes + 1

    none = [flag != flag for flag in free]  # Triton cannot negate a constant
    begun = solved(none, none), none, none, none[0], jnp.zeros((), jnp.int32)
    unfinished = lambda carry: ~carry[3] & (carry[4] < PASSES)
    step = jax.lax.while_loop(unfinished, again, begun)[0]
    step = [clamp(step[i], least[i], most[i]) for i in size]
    plain = [gradient[i] / sum(jnp.abs(x) for x in system[i][1:] + system[i][:1]) for i in size]
    plain = [clamp(jnp.where(free[i], plain[i], 0), least[i], most[i]) for i in size]
    uphill = _dot(step, gradient) > 0
    return [jnp.where(uphill, a, b) for a, b in zip(step, plain, strict=True)]


def _dot(a: list[Array], b: list[Array]) -> Array:
    total = a[0] * b[0]
    for x, y in zip(a[1:], b[1:], strict=True):
        total = total + x * y
    return total


def _unit_diagonal_solve(lower: list[list[Array]], right: list[Array]) -> list[Array]:
    """x of A x = right by Cholesky's factors; A has ones on its diagonal and `lower` below."""
    factor: list[list[Array]] = []
    x: list[Array] = []
    for i, row in enumerate(lower):
        own: list[Array] = []
        for j, value in enumerate(row):
            known = value
            for k in range(j):
                known = known - own[k] * factor[j][k]
            own.append(known * factor[j][j])
        rest, mine = jnp.ones_like(right[i]), right[i]
        for k in range(i):
            rest, mine = rest - own[k] * own[k], mine - own[k] * x[k]
        own.append(jax.lax.rsqrt(rest))  # the inverse of the factor's diagonal
        factor.append(own)
        x.append(mine * own[i])
    for i in reversed(range(len(right))):
        for k in range(i + 1, len(right)):
            x[i] = x[i] - factor[k][i] * x[k]
        x[i] = x[i] * factor[i][i]
    return x
