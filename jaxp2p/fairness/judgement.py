"""A run judged: how each policy spreads its benefit, and how one of them could be split otherwise."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from jaxp2p.fairness.claims import claims
from jaxp2p.fairness.game import MOST_ENUMERATED
from jaxp2p.fairness.least_core import LeastCore, least_core
from jaxp2p.fairness.measures import Measures, measures
from jaxp2p.fairness.shapley import Shapley, shapley
from jaxp2p.fairness.statement import Statement
from jaxp2p.fairness.transfers import CENT, equal_shares, shares_of, transfers
from jaxp2p.settings.fairness import ALONE, Fairness
from jaxp2p.settings.fields import out_of_range

Progress = Callable[[str, int, int], None]  # what, done, of so many


@dataclass(frozen=True, eq=False)
class Split:
    """One way to split what the market made."""

    benefit: np.ndarray  # (N,) EUR against being alone
    transfer: np.ndarray  # (N,) whole cents that members receive on top of the market's bills
    claim: float  # EUR that the most discontented coalition gains by leaving, at least 0


@dataclass(frozen=True, eq=False)
class Judgement:
    """What `judged` found."""

    policy: str  # whose benefit is split
    against: str
    statements: Mapping[str, Statement]  # by policy
    benefits: Mapping[str, np.ndarray]  # (N,) EUR by policy
    measures: Mapping[str, Measures]  # the same
    splits: Mapping[str, Split]  # of the policy: market, equal, and those asked for
    shapley: Shapley | None
    core: LeastCore | None

    @property
    def statement(self) -> Statement:
        """Of the policy whose benefit is split."""
        return self.statements[self.policy]

    @property
    def claims_exact(self) -> bool:
        """Whether claims are of all coalitions, and not of those that a search came to."""
        return self.statement.game.members <= MOST_ENUMERATED

    def bill(self, split: str) -> np.ndarray:
        """(N,) EUR under the policy and a split of its benefit."""
        return self.statement.bill - CENT * self.splits[split].transfer


def judged(
    statements: Mapping[str, Statement], settings: Fairness, *, progress: Progress | None = None
) -> Judgement:
    """All of it, for the policy of the settings, or the first of the statements where they name none.

    Raises ValueError for policies that are not among the statements, and settings out of their range.
    """
    faults = out_of_range(settings)
    policy = next(iter(statements)) if settings.policy is None else settings.policy
    for name, known in ((policy, [*statements]), (settings.against, [ALONE, *statements])):
        if name not in known:
            faults.append(f"unknown policy {name!r}: there are {', '.join(known)}")
    if faults:
        raise ValueError("; ".join(faults))
    of = lambda name: None if progress is None else lambda done, total: progress(name, done, total)
    base = None if settings.against == ALONE else statements[settings.against].bill
    against = {name: s.alone if base is None else base for name, s in statements.items()}
    benefits = {name: against[name] - s.bill for name, s in statements.items()}
    chosen = statements[policy]
    game, size = chosen.game, chosen.game.members
    value, core = None, None
    if settings.shapley:
        value = shapley(
            game,
            error=settings.error,
            permutations=settings.permutations,
            seed=settings.seed,
            progress=of("shapley"),
        )
    if settings.least_core:
        core = least_core(game, seed=settings.seed, progress=of("least_core"))
    shares = {"equal": equal_shares(size)}
    shares |= {} if value is None else {"shapley": shares_of(value.value)}
    shares |= {} if core is None else {"least_core": shares_of(core.value)}
    splits = {"market": np.zeros(size, np.int64)}
    splits |= {name: transfers(chosen.benefit, share) for name, share in shares.items()}
    return Judgement(
        policy=policy,
        against=settings.against,
        statements=statements,
        benefits=benefits,
        measures={name: measures(benefits[name], against[name]) for name in statements},
        splits={name: _split(chosen, cents, settings.seed) for name, cents in splits.items()},
        shapley=value,
        core=core,
    )


def _split(chosen: Statement, cents: np.ndarray, seed: int) -> Split:
    benefit = chosen.benefit + CENT * cents
    found = claims(chosen.game, benefit, np.random.default_rng(seed))[1]
    return Split(benefit, cents, float(found.max(initial=0)))
