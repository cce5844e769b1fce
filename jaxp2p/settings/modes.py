"""What is set side by side by modes; `jaxp2p.runs.modes` has its defaults here."""

from dataclasses import dataclass
from typing import ClassVar

from jaxp2p.settings.fields import setting
from jaxp2p.settings.model import REACTIVE

RULES = REACTIVE[1:]  # in the modes themselves inverters give none


@dataclass(frozen=True, kw_only=True)
class Modes:
    """The policy, and what stands beside the three modes."""

    TABLE: ClassVar = "modes"

    policy: str = setting("lyapunov", "Policy, the same in every mode.", unit="NAME")
    reactive: str = setting(
        "",
        f"Further modes, limits kept in AC: rules of reactive power, out of {', '.join(RULES)}; or all.",
        unit="RULE,RULE,...",
        listed=True,
        words="rules of reactive power",
    )
