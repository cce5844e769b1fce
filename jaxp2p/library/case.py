"""A case: a community with the days it is to live through, built together, so that they cannot disagree."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pandas as pd

from jaxp2p.control.policy import AnyPolicy, Policy, plugged_in, remember, slot_problem
from jaxp2p.control.policy import lyapunov as lyapunov_policy
from jaxp2p.control.policy import observe as observed
from jaxp2p.data import CASES, Tables, check, days_before, load_case, read_tables, window
from jaxp2p.data.calendar import slot_of_week
from jaxp2p.data.cases import window_until
from jaxp2p.model.build import build_community, build_horizon, inverters_of
from jaxp2p.model.devices import Inverters
from jaxp2p.model.network import VDE_4105, Curve
from jaxp2p.model.types import Community, Horizon
from jaxp2p.runs.runner import (
    HISTORY_DAYS,
    make_policies,
    parameters_of,
    penalties_of,
    worth_in_vehicles,
)
from jaxp2p.settings.model import DEFAULT_FEE, Grid, Trading
from jaxp2p.settings.source import Window
from jaxp2p.settings.span import lasting
from jaxp2p.simulation.forward import slots as rows_of
from jaxp2p.slot.problem import SlotProblem


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A community, what nature and the tariffs bring it slot by slot, when that is, and its name.

    Made by `build`. Everything that a run, a study or a single slot needs is in it.
    """

    name: str
    tables: Tables  # of the chosen days
    whole: Tables  # of all the days there are: what forecasts look back on
    community: Community
    horizon: Horizon

    @property
    def time(self) -> pd.Series:
        """(T,) start of every slot, as in the tables (UTC where they have a time zone)."""
        return self.tables.profiles["time"]

    @property
    def size(self) -> int:
        """Number of members N."""
        return self.community.size

    @property
    def slots(self) -> int:
        """Number of slots T."""
        return self.horizon.slots

    @property
    def slot_of_week(self) -> int:
        """Number of the first slot within its week, which begins on Monday."""
        return slot_of_week(self.time.iloc[0], self.time.iloc[1] - self.time.iloc[0])

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the members in the order of all arrays (N,)."""
        return self.community.prosumers.ids

    @cached_property
    def history(self) -> Horizon | None:
        """The days right before, for forecasts; None where there is not one."""
        before = days_before(self.whole, self.time.iloc[0], HISTORY_DAYS)
        return None if before is None else build_horizon(self.community, before)

    @property
    def inverters(self) -> Inverters:
        """Of the homes: those that it was built with, else the usual ones on the usual Volt-VAR curve."""
        own = self.community.prosumers.inverters
        if own is not None:
            return own
        return inverters_of(self.tables, "volt_var", VDE_4105, str(self.horizon.pv.dtype))

    def policies(self) -> dict[str, Policy]:
        """The package's policies that decide slot by slot, by name."""
        return make_policies(self.community, self.horizon)

    def slot(
        self,
        number: int,
        *,
        policy: str | AnyPolicy = "lyapunov",
        energy: Any = None,
        in_vehicles: Any = None,
    ) -> SlotProblem:
        """What the solver sees of slot `number` under a policy: one problem in, one dispatch out (`clear`).

        energy (N,) kWh at its start, by default what the batteries start with; in_vehicles (K, N) kWh, by
        default the least that a stay under way can have. A policy with a memory has seen this slot only.
        Raises ValueError for an unknown policy, IndexError for a slot that is not there.
        """
        if not 0 <= number < self.slots:
            raise IndexError(f"there is no slot {number} in {self.name}: they are 0 to {self.slots - 1}")
        chosen = self.policy(policy)
        row = jax.tree.map(lambda x: x[number], rows_of(self.horizon))
        start = self.community.prosumers.battery.energy_start
        stored = start if energy is None else jnp.broadcast_to(jnp.asarray(energy, start.dtype), start.shape)
        seen = observed(chosen, remember(self.community, chosen), row)
        penalties, week = penalties_of(self.horizon), jnp.asarray(self.slot_of_week + number, jnp.int32)
        plugged = plugged_in(self.community, row)
        if plugged is not None:
            due = plugged.energy_start
            in_vehicles = due if in_vehicles is None else jnp.asarray(in_vehicles, due.dtype)
        return slot_problem(self.community, penalties, chosen, row, stored, week, seen, in_vehicles)

    def policy(self, policy: str | AnyPolicy) -> AnyPolicy:
        """The policy of a name, ValueError for an unknown one; anybody's own is given back as it is."""
        if not isinstance(policy, str):
            return policy
        known = self.policies()
        if policy not in known:
            raise ValueError(f"unknown policy {policy!r}: choose from {', '.join(known)}")
        return known[policy]

    def __repr__(self) -> str:
        minutes = 60 * float(self.horizon.slot_hours)
        grid = "with its network" if self.community.feeder.rows else "network left out"
        return (
            f"Case {self.name!r}: {self.size:,} members on {len(self.community.network.bus_ids):,} buses, "
            f"{self.community.market.kind} market, {grid}, {self.slots:,} slots of {minutes:g} min "
            f"from {self.time.iloc[0]:%Y-%m-%d %H:%M}"
        )


def build(
    source: Tables | str | Path,
    *,
    start: str | None = None,
    days: float | None = Window.days,
    until: str | None = None,
    duration: str | None = None,
    market: str = "bilateral",
    graph: str | None = None,
    partners: int = Trading.partners,
    fee: float = DEFAULT_FEE,
    limit: float = math.inf,
    seed: int = 0,
    network: bool = True,
    secure: bool = True,
    losses: str = Grid.losses,
    reactive: str = Grid.reactive,
    volt_var: Curve = VDE_4105,
    dtype: str = "float32",
    name: str | None = None,
) -> Case:
    """A case from tables, from the name of an embedded case, or from a folder of tables.

    start, days: the days to run, by default seven of summer or of the beginning (see `window`); days None
    takes all that there are. Instead of a number of days, until says when they are over (a date or a moment),
    or duration how long they are ("36h", "1d 12h"); any two of start, length and end will do. market to
    dtype: as in `build_community`. name: for titles and files, by default that of the tables. Raises
    InputError with every fault of the tables, ValueError for an unknown case, market or graph, and for
    lengths that contradict each other.
    """
    whole = check(_tables(source))
    # beside another length the default is not meant
    said = None if days == Window.days and (until is not None or duration is not None) else days
    length = lasting(said, duration)
    if until is not None:
        chosen = window_until(whole, start=start, days=length, until=until)
    else:
        chosen = whole if length is None else window(whole, start=start, days=length)
    community = build_community(
        chosen,
        market=market,
        graph=graph,
        partners=partners,
        fee=fee,
        limit=limit,
        seed=seed,
        network=network,
        secure=secure,
        losses=losses,
        reactive=reactive,
        volt_var=volt_var,
        dtype=dtype,
    )
    horizon = build_horizon(community, chosen)
    named = str(whole.meta.get("name", "community")) if name is None else name
    return Case(name=named, tables=chosen, whole=whole, community=community, horizon=horizon)


def _tables(source: Tables | str | Path) -> Tables:
    if isinstance(source, Tables):
        return source
    if isinstance(source, str) and source in CASES:
        return load_case(source)
    if isinstance(source, str) and not Path(source).exists():
        raise ValueError(f"{source!r} is neither a folder nor an embedded case ({', '.join(CASES)})")
    return read_tables(source)


def lyapunov(case: Case, *, v_share: float = 1.0, method: str = "exact") -> Policy:
    """The Lyapunov controller of a case with V = v_share V_max: its limits never bind where v_share <= 1.

    method "exact" is the modified drift, "standard" the linear one. Raises ValueError for a share that is
    not positive.
    """
    if not v_share > 0:
        raise ValueError(f"v_share is {v_share:g}: it must be positive")
    parameters = parameters_of(case.community, case.horizon, method=method, v_share=v_share)
    charging = worth_in_vehicles(case.community, case.horizon)
    return replace(jax.device_put(lyapunov_policy(parameters)), charging=charging)
