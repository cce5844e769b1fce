"""What is asked of a run's fairness; `jaxp2p.fairness` has its defaults here."""

from dataclasses import dataclass

from jaxp2p.settings.fields import setting

ALONE = "alone"


@dataclass(frozen=True, kw_only=True)
class Fairness:
    """Whose benefit, against what, and how it could be split."""

    policy: str | None = setting(
        None,
        "Policy whose benefit is split among the members.",
        unit="NAME",
        otherwise="tuned, lyapunov, or the first of those that were run",
    )
    against: str = setting(
        ALONE,
        "What benefits are measured against: alone (every member does the same with the utility), or a "
        "policy of the run.",
        unit="NAME",
    )
    shapley: bool = setting(True, "Shapley values.")
    least_core: bool = setting(True, "Payoffs of the least core.")
    error: float = setting(
        0.005,
        "Stated error of sampled Shapley values: 95 % half-widths of all members together, as share of the "
        "total benefit.",
        least=1e-4,
        most=1,
    )
    permutations: int = setting(
        1_000_000, "Orders of the members to draw at most, for Shapley values.", least=1
    )
    seed: int = setting(0, "Of the orders drawn, and of the starts of searches.", least=0)
