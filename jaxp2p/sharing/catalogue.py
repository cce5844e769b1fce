"""Every key by its name: the plain ones, and presets by the rule of a country that they compute.

Command line, library, tables and tests read this. Presets are arithmetic only, with no promise of conformity;
`source` says in words where the rule was seen, in November 2026.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxp2p.settings.sharing import Unused

# rule of a key -> what it must be given, a field of `made.Given`; "": nothing
RULES = {
    "equal": "",
    "pro_rata": "",
    "pro_rata_to_surplus": "",
    "fixed": "shares",
    "hourly": "hourly",
    "priority": "levels",
    "pairs": "percentages",
    "market": "trades",
}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A key by its name."""

    name: str
    words: str  # a line of help
    rule: str  # a name of `RULES`; `made.made` makes a key of it
    unused: Unused | None = Unused.GRID  # what becomes of unused shares; None: whoever asks may choose
    by_the_hour: bool = False  # settled by the hour, whatever the meters count by
    source: str = ""  # of a preset, where the rule was seen

    @property
    def preset(self) -> bool:
        """Whether this is the rule of a country."""
        return bool(self.source)

    @property
    def needs(self) -> str:
        """A field of `made.Given`; empty: nothing."""
        return RULES[self.rule]


_AUSTRIA = "energiegemeinschaften.gv.at, measurement and allocation; portal of EDA, models of allocation"
_GERMANY = "public documentation of the Rust crate metering, after the industry's guide on s. 42b EnWG"
_FRANCE = "enogrid.com and part-energie.fr, keys of collective self-consumption"
_SPAIN = "royal decree 244/2019, annex I; order TED/1247/2021"
_PORTUGAL = "ERSE, regulation 815/2023 on self-consumption; E-REDES, collective self-consumption"
# Keys count on the side that is short: of members that draw here, who gives is always pro rata.
_LUXEMBOURG = "weshareenergy.lu, sharing keys; creos-net.lu, the sharing key"
_WALLONIA = "macer.clustertweed.be, standard keys of the regulator CWaPE"

CATALOGUE = (
    Entry(name="equal", words="the same share for everybody", rule="equal", unused=None),
    Entry(name="pro_rata", words="in proportion to the consumption of the interval", rule="pro_rata"),
    Entry(
        name="pro_rata_to_surplus",
        words="own generation first, then in proportion to the consumption that is left",
        rule="pro_rata_to_surplus",
    ),
    Entry(
        name="market",
        words="what the market of the run traded, as shares found afterwards",
        rule="market",
    ),
    Entry(name="fixed", words="shares that never change", rule="fixed", unused=None),
    Entry(
        name="fixed_then_pro_rata",
        words="fixed shares, what is unused in proportion to the consumption that is left",
        rule="fixed",
        unused=Unused.PRO_RATA,
    ),
    Entry(name="hourly", words="shares by the hour of the day or by interval", rule="hourly", unused=None),
    Entry(name="priority", words="a level is served before the next", rule="priority"),
    Entry(name="pairs", words="percentages of producers by consumer", rule="pairs"),
    Entry(
        name="austria_static",
        words="agreed shares of every quarter-hour; what is unused goes to the grid",
        rule="fixed",
        source=_AUSTRIA,
    ),
    Entry(
        name="austria_dynamic",
        words="in proportion to the consumption of the quarter-hour, at most that",
        rule="pro_rata",
        source=_AUSTRIA,
    ),
    Entry(
        name="germany_building_constant",
        words="a constant fraction of the plant's energy, the draw from the grid never below 0",
        rule="fixed",
        source=_GERMANY,
    ),
    Entry(
        name="germany_building_proportional",
        words="in proportion to consumption, at most what is generated or consumed in the quarter-hour",
        rule="pro_rata",
        source=_GERMANY,
    ),
    Entry(
        name="france_static",
        words="the same percentages in every interval; what is unused is surplus of the producers",
        rule="fixed",
        source=_FRANCE,
    ),
    Entry(
        name="france_dynamic",
        words="the dynamic key by default, in proportion to the consumption of the interval",
        rule="pro_rata",
        source=_FRANCE,
    ),
    Entry(
        name="france_simple_dynamic",
        words="percentages of the pot that the organiser sends for every interval",
        rule="hourly",
        source=_FRANCE,
    ),
    Entry(
        name="france_full_dynamic",
        words="percentages for every interval and pair of producer and consumer",
        rule="pairs",
        source=_FRANCE,
    ),
    Entry(
        name="spain_fixed",
        words="by the hour, with constant coefficients",
        rule="fixed",
        by_the_hour=True,
        source=_SPAIN,
    ),
    Entry(
        name="spain_hourly",
        words="by the hour, with coefficients for every hour that are set in advance",
        rule="hourly",
        by_the_hour=True,
        source=_SPAIN,
    ),
    Entry(
        name="italy",
        words="shared is the smaller one of feed-in and draw of the hour; here in proportion to draw",
        rule="pro_rata",
        by_the_hour=True,
        source="GSE, operating rules of diffuse self-consumption; regional guides",
    ),
    Entry(
        name="portugal_fixed",
        words="coefficients that do not change",
        rule="fixed",
        source=_PORTUGAL,
    ),
    Entry(
        name="portugal_hierarchical",
        words="groups by rank; within one, here, in proportion to consumption",
        rule="priority",
        source=_PORTUGAL,
    ),
    Entry(
        name="portugal_dynamic",
        words="coefficients for every interval and pair of installations, set by the manager",
        rule="pairs",
        source=_PORTUGAL,
    ),
    Entry(
        name="luxembourg_priority",
        words="members in an order that is set in advance",
        rule="priority",
        source=_LUXEMBOURG,
    ),
    Entry(
        name="luxembourg_percentage",
        words="always the same share, where there is less than is drawn; here the rest pro rata",
        rule="fixed",
        unused=Unused.PRO_RATA,
        source=_LUXEMBOURG,
    ),
    Entry(
        name="luxembourg_pro_rata",
        words="in proportion to present consumption",
        rule="pro_rata",
        source=_LUXEMBOURG,
    ),
    Entry(
        name="wallonia_fixed_equal",
        words="the same share for everybody",
        rule="equal",
        source=_WALLONIA,
    ),
    Entry(
        name="wallonia_fixed_specific",
        words="a share of its own for everybody",
        rule="fixed",
        source=_WALLONIA,
    ),
    Entry(
        name="wallonia_pro_rata",
        words="in proportion to the consumption of the quarter-hour",
        rule="pro_rata",
        source=_WALLONIA,
    ),
)

ENTRIES = {entry.name: entry for entry in CATALOGUE}
NAMES = tuple(ENTRIES)


def usual(*, trades: bool) -> tuple[str, ...]:
    """The plain keys that need nothing, and the market's where there are trades."""
    wanted = {"", "trades"} if trades else {""}
    return tuple(entry.name for entry in CATALOGUE if not entry.preset and entry.needs in wanted)


def lines(*, presets: bool) -> str:
    """Name, what it needs and words of plain keys or of presets, a line each."""
    chosen = [entry for entry in CATALOGUE if entry.preset == presets]
    width = max(len(entry.name) for entry in chosen) + 1
    return "\n".join(f"  {entry.name:{width}} {entry.words}" for entry in chosen)
