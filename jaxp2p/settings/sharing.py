"""Which sharing keys, and what they are worth; `jaxp2p.library.sharing` has its defaults here."""

from dataclasses import dataclass
from enum import StrEnum

from jaxp2p.settings.fields import setting


class Unused(StrEnum):
    """What becomes of the part of a share that its member does not consume; `jaxp2p.sharing.shares`."""

    GRID = "grid"
    BY_SHARE = "by_share"
    PRO_RATA = "pro_rata"


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """Keys, and what they are worth."""

    key: str = setting(
        "",
        "A key; repeat for more.",
        unit="NAME",
        repeated=True,
        otherwise="those that need no shares",
        words="sharing keys",
    )
    shares: str | None = setting(
        None,
        "Shares, levels or percentages of the members, as above.",
        unit="FILE.csv",
        words="file of shares",
    )
    unused: str = setting(
        "grid",
        "Where the unused part of a share goes under equal, fixed and hourly: grid, by_share, pro_rata.",
        unit="NAME",
        choices=tuple(Unused),
        words="use of unused shares",
    )
    policy: str | None = setting(
        None, "Policy of a run.", unit="NAME", otherwise="lyapunov, else the first that the run has"
    )
    buy: float | None = setting(
        None,
        "Price that the utility asks, instead of that of SOURCE.",
        unit="EUR/kWh",
        words="buying price",
    )
    sell: float | None = setting(
        None,
        "Price that the utility pays, instead of that of SOURCE.",
        unit="EUR/kWh",
        words="selling price",
    )
    fee: float = setting(
        0.0, "Fee of a shared kWh, paid by who receives it.", unit="EUR/kWh", words="sharing fee"
    )
    internal: float | None = setting(
        None,
        "Price of a shared kWh among members.",
        unit="EUR/kWh",
        otherwise="where both sides save the same",
        words="internal price",
    )
