"""What decides the numbers of a study, besides its source and its policies."""

from dataclasses import dataclass
from typing import ClassVar

from jaxp2p.settings.fields import again, setting
from jaxp2p.settings.model import Grid, Numbers, Trading, Worth
from jaxp2p.settings.source import Chance

DEFAULT_MODEL = "bootstrap * noise"


@dataclass(frozen=True, kw_only=True)
class Scenarios(Worth, Numbers, Grid, Trading):
    """Scenarios and the market that they are run in."""

    TABLE: ClassVar = "study"

    market: str = again(Trading, "market", default="pool")
    scenarios: int = setting(1000, "Number of scenarios.", least=1, words="number of scenarios")
    days: float = setting(7, "Days of a scenario.", least=0, words="days per scenario")
    scenario_model: str = setting(
        DEFAULT_MODEL,
        "Random processes, see above; none: the data themselves.",
        unit="MODEL",
        words="scenario model",
    )
    seed: int = again(Chance, "seed", words="seed of the scenarios")
