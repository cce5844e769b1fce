"""What members pay; `jaxp2p.library.bills` has its defaults here."""

from dataclasses import dataclass

from jaxp2p.settings.fields import again, setting
from jaxp2p.settings.sharing import Sharing

RULES = ("market", "mid_market", "supply_demand", "uniform_price", "equal_benefit")
CONGESTION = ("none", "returned")
PERIODS = ("day", "month", "all")


@dataclass(frozen=True, kw_only=True)
class Billing:
    """By which rules members are billed."""

    rule: str = setting(
        "market",
        f"What peers pay each other: {', '.join(RULES)}; the others are compared in any case.",
        unit="NAME",
        choices=RULES,
    )
    congestion: str = setting(
        "none",
        "Who pays for limits of the grid: none (nobody), returned (everybody the price of the limits at his "
        "bus, and the rent comes back by exchange).",
        unit="NAME",
        choices=CONGESTION,
    )
    by: str = setting(
        "month", "Period of the bills: day, month, all.", unit="NAME", choices=PERIODS, words="billing period"
    )
    policy: str | None = again(Sharing, "policy")
