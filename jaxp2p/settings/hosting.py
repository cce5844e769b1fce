"""When PV counts as hosted, and how the most of it is found; `jaxp2p.runs.hosting` has its defaults here."""

from dataclasses import dataclass
from typing import ClassVar

from jaxp2p.settings.fields import setting


@dataclass(frozen=True, kw_only=True)
class Hosting:
    """What a factor on all PV must pass, and how exactly the largest one is found."""

    TABLE: ClassVar = "hosting"

    curtail: float = setting(
        0.05,
        "Share of the available PV energy that may be curtailed, over all days together.",
        unit="0..1",
        least=0,
        most=1,
        words="share of PV that may be curtailed",
    )
    max_scale: float = setting(
        10.0,
        "Largest factor on all PV plants that is tried.",
        unit="FACTOR",
        least=0.1,
        words="largest factor on PV",
    )
    precision: float = setting(
        0.01,
        "How exactly the factor is found: as a share of it, below 1 as it is.",
        unit="SHARE",
        least=1e-4,
        most=1,
        words="precision of the factor",
    )
