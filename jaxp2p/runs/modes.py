"""One policy over the same days with the limits of the grid left out of the market, kept linear, kept in AC.

What limits cost and what they are worth: the same community, prices and days in every mode (`control.ways`),
each dispatch judged by its AC power flow. Further modes are a secure market with rules of reactive power.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxp2p.control.policy import AnyPolicy
from jaxp2p.control.ways import Way
from jaxp2p.control.ways import modes as ways_of
from jaxp2p.model.devices import Inverters
from jaxp2p.model.match import require_match
from jaxp2p.model.types import Community, Horizon
from jaxp2p.runs.operated import operated
from jaxp2p.runs.runner import Progress, Run, make_policies, run
from jaxp2p.settings.modes import RULES, Modes
from jaxp2p.slot.solvers import Solver, choose_solver, scale_tolerances

OWN = "own"  # what anybody's own policy is called


class ModeRun(NamedTuple):
    """The days in one mode."""

    way: Way
    community: Community  # as it is in this mode
    run: Run  # of one policy


def modes(
    community: Community,
    horizon: Horizon,
    *,
    inverters: Inverters | None = None,
    policy: str | AnyPolicy = Modes.policy,
    reactive: Sequence[str] | None = None,
    solver: str | Solver = "auto",
    tolerance: float = 1.0,
    slot_of_week: int = 0,
    progress: Progress | None = None,
) -> tuple[ModeRun, ...]:
    """The policy in three modes, and in one more per rule of reactive power.

    Whether the community was built with its network in the market makes no difference: the modes say that.
    policy: a name of those that decide slot by slot, or anybody's own. reactive: names out of `RULES`, by
    default the rule that the community has, if any; they ask for the `inverters` of the homes
    (`model.build.inverters_of`), by default those of the community. tolerance: factor on those of the solver.
    progress(mode, done, total) hears of slots. Raises ValueError for unknown names, and where a rule has no
    PV to follow.
    """
    require_match(community, horizon)
    own = community.prosumers.inverters
    inverters = own if inverters is None else inverters
    rules = tuple(reactive) if reactive is not None else () if own is None else (own.rule,)
    known = make_policies(community, horizon)
    faults = []
    if isinstance(policy, str) and policy not in known:
        faults.append(f"unknown policy {policy!r}: choose from {', '.join(known)}")
    for rule in dict.fromkeys(rules):
        if rule not in RULES:
            faults.append(f"unknown rule {rule!r} of reactive power: choose from {', '.join(RULES)}")
        elif rules.count(rule) > 1:
            faults.append(f"the rule {rule} is named twice")
    if rules and (inverters is None or not np.asarray(inverters.rating).any()):
        faults.append("rules of reactive power ask for the inverters of homes with PV")
    if faults:
        raise ValueError("; ".join(faults))
    name = policy if isinstance(policy, str) else OWN
    told = progress or (lambda name, done, total: None)
    found = []
    for way in ways_of(name, rules):
        variant = operated(community, way, inverters)
        chosen = choose_solver(variant, solver) if isinstance(solver, str) else solver

        def heard(stage: str, done: int, total: int, mode: str = way.name) -> None:
            told(mode, *((done, total) if stage == name else (0, horizon.slots)))

        made = run(
            variant,
            horizon,
            policies=[policy if isinstance(policy, str) else {OWN: policy}],
            solver=scale_tolerances(chosen, tolerance),
            slot_of_week=slot_of_week,
            progress=heard,
            lower_bound=False,
        )
        found.append(ModeRun(way, variant, made))
    return tuple(found)
