"""The commands and their options; the work is done in the modules beside this one."""

import atexit
import gc
import os
import sys
from contextlib import suppress
from dataclasses import replace
from typing import Annotated

import typer

from jaxp2p import __version__
from jaxp2p.cli import (
    billing,
    configuring,
    explaining,
    importing,
    inspecting,
    reporting,
    running,
    studying,
    tuning,
)
from jaxp2p.cli import fairness as judging
from jaxp2p.cli import hosting as carrying
from jaxp2p.cli import modes as beside
from jaxp2p.cli import sharing as allotting
from jaxp2p.cli.console import drop_output, lenient_streams
from jaxp2p.cli.help_texts import BILL_HELP, HELP, HOSTING_HELP, MODES_HELP, RUN_HELP, SHARE_HELP, STUDY_HELP
from jaxp2p.cli.options import command
from jaxp2p.settings.billing import Billing
from jaxp2p.settings.commands import HOSTING, MODES, RUN, STUDY, TUNE
from jaxp2p.settings.explain import Moment
from jaxp2p.settings.fairness import Fairness
from jaxp2p.settings.model import Grid, SlotSolver, Trading
from jaxp2p.settings.outputs import Report
from jaxp2p.settings.sharing import Sharing
from jaxp2p.settings.source import Chance, Changes, Reading, Source, Window
from jaxp2p.settings.span import agreed

app = typer.Typer(
    name="jaxp2p",
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"jaxp2p {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


common.__doc__ = HELP


@command(
    app,
    exits=(0, 2, 3, 4, 5, 130),
    short="Clear some days with every policy; table, files, pictures.",
    configured=RUN,
)
def run(source: Source, options: running.Options) -> int:
    return running.run(source, options)


run.__doc__ = RUN_HELP


@command(
    app,
    exits=(0, 2, 3, 4, 130),
    short="Tune the value of stored energy on some weeks, test it on the next.",
    configured=TUNE,
)
def tune(source: Source, options: tuning.Options) -> int:
    """Tune the value of stored energy by gradient on some weeks of a pool, test it on the weeks that follow.

    The controller needs no forecast, and no tuning can break the limits of a battery. `jaxp2p run
    --controller FILE` and `jaxp2p study --controller FILE` run it beside the other policies.
    """
    tested = options.test_days
    return tuning.tune(replace(source, days=None if tested is None else options.train_days + tested), options)


@command(
    app,
    exits=(0, 2, 3, 4, 5, 130),
    short="Thousands of scenarios of some days; distributions, restartable.",
    configured=STUDY,
)
def study(source: Source, options: studying.Options) -> int:
    if source.duration is not None:
        options = replace(options, days=agreed(options.days, source.duration), duration=None)
    from_days = options.from_days
    whole = None if from_days is None else max(options.days, from_days)
    return studying.study(replace(source, days=whole, duration=None), options)


study.__doc__ = STUDY_HELP


@command(
    app,
    exits=(0, 2, 3, 4, 130),
    short="The largest PV that the grid carries, by ways of operating.",
    configured=HOSTING,
)
def hosting(source: Source, options: carrying.Options) -> int:
    return carrying.hosting(source, options)


hosting.__doc__ = HOSTING_HELP


@command(
    app,
    exits=(0, 2, 3, 4, 130),
    short="What limits of the grid do: left out, kept linear, kept in AC.",
    configured=MODES,
)
def modes(source: Source, options: beside.Options) -> int:
    return beside.modes(source, options)


modes.__doc__ = MODES_HELP


@command(
    app,
    exits=(0, 2, 4, 130),
    short="Sharing keys of the law on a run or on meter data, beside the market.",
    layout=("source", Sharing, "time_zone", "out", "replace", "format"),
)
def share(options: allotting.Options) -> int:
    return allotting.share(options)


share.__doc__ = SHARE_HELP


@command(
    app,
    exits=(0, 2, 4, 130),
    short="Bills of a run to the cent: preview, corrections, final, credits.",
    layout=("source", Billing, "time_zone", "corrections", "final", "excel", "out", "replace"),
)
def bill(options: billing.Options) -> int:
    return billing.bill(options)


bill.__doc__ = BILL_HELP


@command(
    app,
    exits=(0, 2, 4, 130),
    short="Who gets what of the benefit of a run, and how it could be split.",
    layout=("folder", Fairness, "out", "replace", Report),
)
def fairness(options: judging.Options) -> int:
    """Say how a run spreads its benefit over the members, and how it could be split otherwise.

    Every policy is measured: mean, median and worst-off benefit, members worse off, Gini coefficient. The
    benefit of one is split by its market, equally, by Shapley values and by the least core, as payments
    between members that close to the cent, on top of the market's bills.

    \b
    jaxp2p run rural3 --market pool --per-home --out my-results
    jaxp2p fairness my-results
    jaxp2p fairness my-results --against no_trade --error 0.005 --out my-split
    """
    return judging.fairness(options)


@command(
    app,
    exits=(0, 2, 4, 130),
    short="Write a file of settings to edit and to run.",
)
def init(options: configuring.InitOptions) -> None:
    """Write a file with every setting of a command, its help, choices, limits and default.

    \b
    jaxp2p init my.toml
    jaxp2p run my.toml
    jaxp2p run my.toml --market pool --days 2     options win over the file
    jaxp2p init my-study.toml --for study
    jaxp2p run my-results/config.toml             results again: every folder of them has its file
    """
    configuring.init(options)


@command(
    app,
    exits=(0, 2, 4, 130),
    short="Why a member's battery did what it did at a time.",
    layout=("folder", Moment, "picture", "json"),
)
def explain(options: explaining.Options) -> int:
    """Say what a member's devices did in a slot and why: stored value, local price, limits in use, money.

    \b
    jaxp2p run rural1 --per-home --out my-run
    jaxp2p explain my-run --member "LV1.101 Load 8" --at "2016-07-05 13:15" --picture why.png
    """
    return explaining.explain(options)


@command(
    app,
    exits=(0, 2, 4, 130),
    short="One HTML file to look at, of a run, a study or several.",
)
def report(options: reporting.Options) -> None:
    """Write one HTML file of runs and studies: it opens in any browser, from disk, without a network.

    Summary, money, energy, storage, prices, the feeder over time, members, fairness, solver, settings; the
    policy, the day, a member, a bus and a branch are chosen in the page. What single members, buses and
    branches do is in it where the run was written with `jaxp2p run --per-home`.

    \b
    jaxp2p run --per-home --out week
    jaxp2p report week
    jaxp2p report week other-week --out both.html
    """
    reporting.report(options)


@command(app, exits=(0, 130))
def cases() -> None:
    """List the embedded communities."""
    inspecting.cases()


@command(
    app,
    exits=(0, 2, 4, 130),
    short="Write an embedded community as files to edit.",
    layout=(Window, Changes, Chance),
    without=("accept", "time_zone"),
)
def export(source: Source, options: inspecting.ExportOptions) -> None:
    """Write an embedded community as files that can be edited and run.

    \b
    jaxp2p export rural1 my-village --days 7
    jaxp2p check my-village
    jaxp2p run my-village
    """
    inspecting.export(source, options)


@command(
    app,
    exits=(0, 2, 4, 130),
    name="import",
    short="Write a grid of another tool as files to run and to edit.",
    layout=("list_sources", "members", "head", Window, Changes, Chance),
    without=("homes", "accept", "time_zone"),
)
def import_(source: Source, options: importing.Options) -> None:
    """Write a grid of another data set as tables that can be edited and run.

    Sources are the SimBench codes of radial grids with one head, low voltage (1-LV), medium voltage (1-MV)
    and both (1-MVLV); radial pandapower nets, as files (.json, .xlsx, .p; only open a .p that you trust) or
    those that pandapower ships; MATPOWER cases (.m, .mat); and input of power-grid-model (.json). SimBench
    and pandapower need packages, and no internet once they are there: pip install ".[grid]"

    Ring mains with open switches are taken as operated. What is left out is said, and kept in case.json.

    \b
    jaxp2p import --list
    jaxp2p import 1-LV-urban6--2-sw my-town --days 28
    jaxp2p import pandapower:networks.create_cigre_network_mv cigre --members 200
    jaxp2p import case69.m my-feeder --members 0.3 --pv-share 0.5
    jaxp2p run my-town
    """
    importing.import_tables(source, options)


@command(
    app,
    exits=(0, 2, 4, 130),
    short="Name every fault of a folder, or say what is in it.",
    layout=("columns", Reading),
)
def check(options: inspecting.CheckOptions) -> None:
    """Check a folder of tables: name every fault, or say what was found."""
    inspecting.check(options)


@command(
    app,
    exits=(0, 1, 2, 3, 4, 130),
    short="Compare random slots with an independent solver.",
    layout=(
        "slots",
        Trading,
        Window,
        Grid,
        Changes,
        SlotSolver,
        "tolerance",
        Chance,
        "dtype",
        Reading,
    ),
)
def verify(source: Source, options: inspecting.VerifyOptions) -> int:
    """Solve random slots by an independent solver (Clarabel) as well and compare.

    A slot passes when its cost is within 0.1 % of the optimum and no limit is passed by more than 0.05 kW or
    1e-4 p.u.; storage limits hold exactly.
    """
    return inspecting.verify(source, options)


@command(app, exits=(0, 2, 4, 130))
def compare(options: inspecting.CompareOptions) -> None:
    """Show the figures in which two results differ."""
    inspecting.compare(options)


def _end(codes: list[int]) -> None:
    """End the process here: taking its objects apart one by one would last as long as three pictures."""
    for stream in (sys.stdout, sys.stderr) if codes else ():
        with suppress(OSError, ValueError, AttributeError):  # there is none, or its reader has gone
            stream.flush()
    if codes:
        os._exit(codes[0])


def main() -> None:
    """Entry point of the command `jaxp2p`."""
    lenient_streams()
    # a command makes a million objects that live to its end, and would look them through again and again
    gc.set_threshold(1_000_000, 50, 100)
    # OpenBLAS's threads look for work for 2**26 cycles after every product, on cores that others have use for
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "16")
    codes: list[int] = []
    atexit.register(_end, codes)  # before all others, and so after all of them
    try:
        app()
    except SystemExit as end:
        codes += [end.code] if isinstance(end.code, int) else []
        raise
    finally:
        try:
            if sys.stdout is not None:
                sys.stdout.flush()
        except (OSError, ValueError):  # the reader has gone, or the disk is full, which has been said
            drop_output()
