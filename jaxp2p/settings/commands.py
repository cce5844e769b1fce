"""The commands that have a configuration file, and all their options in the order of the help."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from jaxp2p.settings.fields import again, setting
from jaxp2p.settings.hosting import Hosting
from jaxp2p.settings.model import FORESIGHT, EndValue, Grid, Numbers, SlotSolver, Trading, Worth
from jaxp2p.settings.modes import Modes
from jaxp2p.settings.options import Layout, Option, options_of
from jaxp2p.settings.outputs import Controlled, Folder, Format, Report
from jaxp2p.settings.source import Chance, Changes, Reading, Source, Window
from jaxp2p.settings.span import WINDOW, Lengths
from jaxp2p.settings.study import Scenarios
from jaxp2p.settings.tuning import Aims, Periods, Training


@dataclass(frozen=True, kw_only=True)
class RunOptions(Report, Controlled, Worth, Folder, Format, Numbers, SlotSolver, Grid, Trading):
    """Everything `jaxp2p run` can be told besides the source."""

    TABLE: ClassVar = "policies"

    policies: str = setting(
        "all", "Policies to run; their names are in the table.", unit="NAME,NAME,...", listed=True
    )
    homes_tables: bool = setting(
        False,
        "Also save every home, bus and branch in every slot (large).",
        spelling=("--per-home",),
        table="results",
    )
    foresight: str = setting(
        "auto",
        "Perfect foresight; auto: not where it would take more than a minute and ten times all else.",
        unit="auto|on|off",
        choices=FORESIGHT,
    )


@dataclass(frozen=True, kw_only=True)
class StudyOptions(Report, Controlled, Scenarios):
    """Everything `jaxp2p study` can be told besides the source."""

    TABLE: ClassVar = "study"

    from_days: float = setting(28, "Days from --start on that scenarios are made from.", unit="DAYS", least=0)
    until: str | None = again(
        Window,
        "until",
        help="The day, or the moment, at which these days are over, instead of their number.",
        otherwise="by their number",
    )
    duration: str | None = again(
        Window, "duration", help="Length of a scenario such as 36h or 1d 12h (w, d, h, min)."
    )
    policies: str = setting(
        "all", "As in `jaxp2p run`; all of them.", unit="NAME,NAME,...", listed=True, table="policies"
    )
    chunk: int | None = setting(None, "Scenarios per file.", least=1, otherwise="from --memory")
    devices: int | None = setting(None, "Devices to use.", least=1, otherwise="all; on a CPU its cores")
    memory: float = setting(2.0, "Memory for a chunk.", unit="GIB", least=0)
    foresight: str = setting(
        "auto",
        "How many get perfect foresight, the first ones; on: 8; auto: 8, or as many as take about "
        "10 min; off: none.",
        unit="SCENARIOS|auto|on|off",
        table="policies",
    )
    scheduler: str | None = setting(
        None, "Dask scheduler, such as tcp://host:8786, or local:WORKERS.", unit="ADDRESS"
    )
    out: Path | None = setting(
        None,
        "Folder of the study.",
        unit="DIR",
        otherwise="jaxp2p-studies/INPUT-DATE-MARKET-DAYS",
        table="results",
    )
    resume: bool = setting(True, "Continue a study that is in the folder, or refuse.", table="results")


@dataclass(frozen=True, kw_only=True)
class TuneOptions(Report, EndValue, Grid, Trading, Aims, Training, Periods):
    """Everything `jaxp2p tune` can be told besides the source."""

    TABLE: ClassVar = "results"

    out: Path = setting(Path("controller.json"), "The controller file.", unit="FILE")
    resume: bool = setting(True, "Continue an interrupted tuning (FILE.checkpoint).")
    until: str | None = again(
        Window,
        "until",
        help="The day at which those to test on are over, instead of their number.",
        otherwise="by their number",
        table="periods",
    )
    # no options: controllers are tuned in a pool
    market: str = "pool"
    graph: str | None = None
    partners: int = 0
    dtype: str = "float32"


@dataclass(frozen=True, kw_only=True)
class HostingOptions(Report, Folder, Numbers, SlotSolver, Trading, Hosting):
    """Everything `jaxp2p hosting` can be told besides the source."""

    ways: str = setting(
        "all",
        "Ways of operating; their names are above.",
        unit="NAME,NAME,...",
        listed=True,
        table="hosting",
    )
    out: Path | None = again(
        Folder,
        "out",
        otherwise="jaxp2p-results/INPUT-DATE-MARKET-DAYS-hosting, with a number where that holds others",
    )


@dataclass(frozen=True, kw_only=True)
class ModesOptions(Report, Folder, Numbers, SlotSolver, Trading, Modes):
    """Everything `jaxp2p modes` can be told besides the source."""

    losses: str = again(Grid, "losses", table="grid")
    out: Path | None = again(
        Folder,
        "out",
        otherwise="jaxp2p-results/INPUT-DATE-MARKET-DAYS-modes, with a number where that holds others",
    )


@dataclass(frozen=True)
class Configurable:
    """A command with a source, and its options."""

    name: str
    words: str
    options: type
    layout: Layout  # of the help
    without: tuple[str, ...] = ()  # parts of a source that it has no option for
    lengths: Lengths = WINDOW

    def settings(self) -> list[Option]:
        """Every option, in the order of the help."""
        return options_of((Source, self.options), layout=self.layout, without=self.without)


BUILT: tuple[Any, ...] = (Trading, SlotSolver, Numbers, Chance, Changes, Reading, "out", "replace")

RUN = Configurable(
    "run",
    "some days with every policy",
    RunOptions,
    (
        Window,
        Trading,
        "policies",
        Grid,
        SlotSolver,
        Numbers,
        Chance,
        Changes,
        Reading,
        "out",
        "replace",
        "format",
        Worth,
        ...,
        Controlled,
        Report,
    ),
)

TUNE = Configurable(
    "tune",
    "the value of stored energy, tuned on some weeks and tested on the next",
    TuneOptions,
    (Window, ..., "fee", Grid, EndValue, Chance, Changes, Reading, "out", "resume", Report),
    without=("days", "duration"),
    lengths=(("test_days", "until"),),
)

STUDY = Configurable(
    "study",
    "many scenarios of some days",
    StudyOptions,
    (
        "scenarios",
        "days",
        "duration",
        "start",
        "from_days",
        "until",
        "scenario_model",
        "policies",
        Trading,
        Grid,
        Worth,
        Chance,
        ...,
        Numbers,
        Changes,
        Reading,
        "out",
        "resume",
        Controlled,
        Report,
    ),
    lengths=(("days", "duration"), ("from_days", "until")),
)

HOSTING = Configurable(
    "hosting", "how much PV the grid carries", HostingOptions, (Window, Hosting, "ways", *BUILT)
)

MODES = Configurable("modes", "what limits of the grid do", ModesOptions, (Window, Modes, "losses", *BUILT))

COMMANDS = {command.name: command for command in (RUN, STUDY, TUNE, HOSTING, MODES)}
