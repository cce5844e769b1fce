"""The commands and their options; the work is done in the modules beside this one."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from jaxp2p import __version__
from jaxp2p.cli.console import USAGE, drop_output, exit_codes, fail, guarded, lenient_streams
from jaxp2p.cli.source import DEFAULT_CASE, Source
from jaxp2p.scenarios.catalogue import DEFAULT_MODEL, EFFECTS_HELP

HELP = f"""Real-time peer-to-peer energy trading with batteries on a radial feeder.

A community of homes with PV and batteries is cleared slot by slot, within the limits of its grid, by
Lyapunov control and consensus ADMM, and set beside simple policies and perfect foresight.

\b
  jaxp2p run                                 one summer week of a real village, all policies
  jaxp2p run rural1 --market pool --days 2   an overloaded transformer; one price for all
  jaxp2p run rural3 --pv-share 0.6 --battery-share 0.4 --price dynamic
  jaxp2p export rural3 my-village            the same as CSV files, to be edited
  jaxp2p import 1-LV-urban6--2-sw my-town    a SimBench grid as such files
  jaxp2p check my-village                    is it right? what is in it?
  jaxp2p run my-village --json result.json
  jaxp2p study rural3 --scenarios 1000 --days 1 --policies lyapunov,no_storage,no_storage_no_trade

Powers are in kW, energies in kWh, voltages in p.u., money in EUR, prices in EUR/kWh.

{exit_codes()}
"""

STUDY_HELP = f"""Run many scenarios of some days under every policy: how cost, saving and violations spread.

Scenarios are drawn from the data by a model. Finished chunks are kept in the folder: after an interruption
the same command continues, and with more --scenarios adds to them.

\b
{EFFECTS_HELP}
"""

app = typer.Typer(
    name="jaxp2p",
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

CaseOrFolder = Annotated[
    str,
    typer.Argument(
        metavar="[CASE|DIR]", help="rural3, rural1 or ieee33 (see `jaxp2p cases`), or a folder of tables."
    ),
]
Start = Annotated[
    str | None,
    typer.Option(
        metavar="DATE", help="First day, such as 2016-01-18.  [default: 2016-07-04, else the first]"
    ),
]
Days = Annotated[float, typer.Option(min=0, help="Number of days.")]
Market = Annotated[
    str,
    typer.Option(
        metavar="KIND", help="bilateral (along a trading graph), pool (one price) or none (utility only)."
    ),
]
Partners = Annotated[int, typer.Option(min=0, help="Partners per member in the bilateral market.")]
Fee = Annotated[
    float | None,
    typer.Option(
        min=0,
        metavar="EUR/KWH",
        help="Fee of a trade, half to each side.  [default: 0.01]",
        show_default=False,
    ),
]
Graph = Annotated[
    str | None,
    typer.Option(
        metavar="KIND",
        help="Trading graph: regular (random), nearest (electrically), complete, or table (the trades table)."
        "  [default: table where there is one, else regular]",
    ),
]
Network = Annotated[
    bool,
    typer.Option(
        "--network/--no-network", help="Keep to the limits of the grid, or only report what it carries."
    ),
]
Solver = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="newton (where one price decides: pool, none), admm (every market), or auto: the faster one.",
    ),
]
Tolerance = Annotated[
    float,
    typer.Option(metavar="FACTOR", help="Factor on the solver's tolerances; 0.1 is ten times as exact."),
]
Dtype = Annotated[str, typer.Option(metavar="TYPE", help="float32 or float64.")]
Seed = Annotated[int, typer.Option(min=0, help="For the trading graph, added devices, prices and homes.")]
Price = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Synthetic tariff: tou, tou_noise or dynamic.  [default: tou; for DIR its own prices]",
    ),
]
PvShare = Annotated[
    float | None,
    typer.Option(min=0, max=1, metavar="0..1", help="Give PV to more members, up to this share."),
]
BatteryShare = Annotated[
    float | None,
    typer.Option(min=0, max=1, metavar="0..1", help="Give batteries to more members, up to this share."),
]
Homes = Annotated[
    int | None, typer.Option(min=1, help="Number of homes of ieee33.  [default: 300]", show_default=False)
]

Accept = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="Take data of a folder that look implausible as they are; repeat for more. NAME is printed in "
        "brackets behind what is found: price_high, price_low, price_spike, fee_high, voltage_level, "
        "voltage_limits, impedance_high, rating_high, rating_low, and load, pv, battery_power or "
        "battery_energy "
        "with _high or _low.",
        show_default=False,
    ),
]
TimeZone = Annotated[
    str | None,
    typer.Option(
        metavar="ZONE",
        help="Times of a folder without a UTC offset are local times of this zone, such as Europe/Berlin, or "
        "+01:00 for a clock that never changes; a start as well. Inside and in tables of results "
        "times are UTC.",
        show_default=False,
    ),
]
PvScale = Annotated[float, typer.Option(min=0, metavar="FACTOR", help="Factor on all PV plants.")]
BatteryScale = Annotated[float, typer.Option(min=0, metavar="FACTOR", help="Factor on all batteries.")]
LoadScale = Annotated[
    float, typer.Option(min=0, metavar="FACTOR", help="Factor on all loads, background included.")
]
Controller = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="A tuned controller (`jaxp2p tune`), run beside the policies."),
]
EndValue = Annotated[
    float | None,
    typer.Option(
        metavar="EUR/KWH",
        help="Worth of energy stored at the end, for every policy.  [default: the middle of what storing a "
        "kWh usually costs and what it earns]",
        show_default=False,
    ),
]
UnservedPrice = Annotated[
    float | None,
    typer.Option(
        metavar="EUR/KWH",
        help="Price, on top of the tariffs, of load not served and energy spilled at the connection limits."
        "  [default: 40 times the largest price]",
        show_default=False,
    ),
]
Json = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Write a short summary as JSON into a folder that is there; - for standard output.",
    ),
]
Pictures = Annotated[bool, typer.Option("--pictures/--no-pictures", help="Draw pictures.")]
Foresight = Annotated[
    str,
    typer.Option(
        metavar="auto|on|off",
        help="Perfect foresight; auto: not where it would take more than a minute and ten times all else.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no table.")]


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


@app.command(
    short_help="Clear some days with every policy; table, files, pictures.",
    epilog=exit_codes(0, 2, 3, 4, 5, 130),
)
@guarded
def run(
    source: CaseOrFolder = DEFAULT_CASE,
    *,
    start: Start = None,
    days: Days = 7,
    market: Market = "bilateral",
    partners: Partners = 6,
    fee: Fee = None,
    graph: Graph = None,
    policies: Annotated[
        str, typer.Option(metavar="NAME,NAME,...", help="Policies to run; their names are in the table.")
    ] = "all",
    network: Network = True,
    solver: Solver = "auto",
    tolerance: Tolerance = 1.0,
    dtype: Dtype = "float32",
    seed: Seed = 0,
    price: Price = None,
    pv_share: PvShare = None,
    battery_share: BatteryShare = None,
    pv_scale: PvScale = 1.0,
    battery_scale: BatteryScale = 1.0,
    load_scale: LoadScale = 1.0,
    homes: Homes = None,
    accept: Accept = None,
    time_zone: TimeZone = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for the results. Older ones made from the same input with the same options are "
            "replaced, anything else is left alone.  [default: jaxp2p-results/INPUT-DATE-MARKET-DAYS, with a "
            "number where that holds other results]",
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace older results in --out whatever they were made from.")
    ] = False,
    format: Annotated[
        str, typer.Option(metavar="NAME", help="Format of the tables: parquet or csv.")
    ] = "parquet",
    end_value: EndValue = None,
    unserved_price: UnservedPrice = None,
    per_home: Annotated[
        bool, typer.Option("--per-home", help="Also save every home in every slot (large).")
    ] = False,
    foresight: Foresight = "auto",
    controller: Controller = None,
    json: Json = None,
    pictures: Pictures = True,
    quiet: Quiet = False,
) -> None:
    """Clear the chosen days with every policy; print a table, save tables and pictures.

    \b
    Policies, all under the same market and the same grid:
      no_storage_no_trade         everybody with the utility only, batteries absent
      no_trade                    everybody for himself, batteries by modified Lyapunov control
      no_storage                  trade only
      greedy                      the cheapest slot now, whatever comes
      self_consumption            every battery follows its own meter
      community_self_consumption  all batteries follow the surplus of the community
      lyapunov_standard           Lyapunov control with the usual linear bound
      lyapunov                    modified Lyapunov control with the exact drift
      perfect_foresight           everything known in advance: no policy can do better
    By name only (a plan of the next 24 h per slot: minutes per week):
      mpc_persistence             everything as yesterday; needs a day of data before the window
      mpc_mean                    everything as in the mean of the last four weeks, or what there is of them
      mpc_perfect                 the truth
    """
    from jaxp2p.cli import running

    options = running.Options(
        market=market,
        partners=partners,
        fee=fee,
        graph=graph,
        policies=policies,
        network=network,
        solver=solver,
        tolerance=tolerance,
        dtype=dtype,
        out=out,
        format=format,
        homes_tables=per_home,
        replace=replace,
        end_value=end_value,
        unserved_price=unserved_price,
        json=json,
        pictures=pictures,
        quiet=quiet,
        foresight=foresight,
        controller=controller,
    )
    chosen = Source(
        name=source,
        start=start,
        days=days,
        price=price,
        pv_share=pv_share,
        battery_share=battery_share,
        pv_scale=pv_scale,
        battery_scale=battery_scale,
        load_scale=load_scale,
        homes=homes,
        seed=seed,
        accept=",".join(accept or ()),
        time_zone=time_zone,
    )
    raise typer.Exit(running.run(chosen, options))


@app.command(
    short_help="Tune the value of stored energy on some weeks, test it on the next.",
    epilog=exit_codes(0, 2, 3, 4, 130),
)
@guarded
def tune(
    source: CaseOrFolder = DEFAULT_CASE,
    *,
    start: Start = None,
    train_days: Annotated[int, typer.Option(min=1, help="Days from --start to tune on.")] = 28,
    test_days: Annotated[int, typer.Option(min=1, help="Days after them to test on.")] = 28,
    validation_days: Annotated[
        int, typer.Option(min=0, help="Last days of those to tune on, kept for early stopping.")
    ] = 0,
    rolling: Annotated[
        bool,
        typer.Option("--rolling/--once", help="Tune again every week of the test, on the days before it."),
    ] = False,
    steps: Annotated[int, typer.Option(min=1, help="Gradient steps.")] = 100,
    learning_rate: Annotated[float, typer.Option(min=0, help="Of Adam.")] = 0.05,
    features: Annotated[
        str,
        typer.Option(
            metavar="NAME,NAME,...",
            help="What the value follows besides the time of day: weekend, price, load, pv, and the running "
            "means load_mean, pv_mean, price_mean. Where the prices of a day are published at 13 h of the "
            "day before: ahead_low and ahead_high of the next 12 h, ahead_next, mean of 3 h.",
        ),
    ] = "price,pv,load_mean,pv_mean",
    knots: Annotated[int, typer.Option(min=1, help="Knots of the day.")] = 8,
    pieces: Annotated[int, typer.Option(min=1, help="Pieces of the state of charge.")] = 2,
    groups: Annotated[
        str,
        typer.Option(
            metavar="NAME", help='Who shares a value curve: "one" for all, by "pv", or every "home".'
        ),
    ] = "one",
    scenarios: Annotated[
        int, typer.Option(min=1, help="Of the days to tune on: as they were, and others like them.")
    ] = 5,
    sun: Annotated[
        float,
        typer.Option(min=0, help="By how much PV differs between the scenarios (sigma of its logarithm)."),
    ] = 0.5,
    scenario_model: Annotated[
        str, typer.Option(metavar="MODEL", help="What else differs; see `jaxp2p study --help`.")
    ] = "none",
    batch: Annotated[int, typer.Option(min=0, help="Scenarios per step; 0: all.")] = 0,
    cvar: Annotated[
        float,
        typer.Option(min=0, max=1, help="Weight of the dearest scenarios (CVaR) against the mean cost."),
    ] = 0.0,
    cvar_level: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the scenarios that do not count as dearest.")
    ] = 0.95,
    peak_price: Annotated[
        float, typer.Option(min=0, help="EUR per kW of the mean daily peak that the community buys.")
    ] = 0.0,
    fairness_price: Annotated[
        float, typer.Option(min=0, help="EUR per full cycle a day by which batteries differ; needs groups.")
    ] = 0.0,
    fee: Fee = None,
    network: Network = True,
    end_value: EndValue = None,
    seed: Seed = 0,
    price: Price = None,
    pv_share: PvShare = None,
    battery_share: BatteryShare = None,
    pv_scale: PvScale = 1.0,
    battery_scale: BatteryScale = 1.0,
    load_scale: LoadScale = 1.0,
    homes: Homes = None,
    accept: Accept = None,
    time_zone: TimeZone = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The controller file.")] = Path("controller.json"),
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Continue an interrupted tuning (FILE.checkpoint).")
    ] = True,
    json: Json = None,
    pictures: Pictures = True,
    quiet: Quiet = False,
) -> None:
    """Tune the value of stored energy by gradient on some weeks of a pool, test it on the weeks that follow.

    The controller needs no forecast, and no tuning can break the limits of a battery. `jaxp2p run
    --controller FILE` and `jaxp2p study --controller FILE` run it beside the other policies.
    """
    from jaxp2p.cli import tuning

    options = tuning.Options(
        train_days=train_days,
        test_days=test_days,
        validation_days=validation_days,
        rolling=rolling,
        steps=steps,
        learning_rate=learning_rate,
        features=features,
        knots=knots,
        pieces=pieces,
        groups=groups,
        scenarios=scenarios,
        sun=sun,
        scenario_model=scenario_model,
        batch=batch,
        cvar=cvar,
        cvar_level=cvar_level,
        peak_price=peak_price,
        fairness_price=fairness_price,
        fee=fee,
        network=network,
        end_value=end_value,
        out=out,
        resume=resume,
        json=json,
        pictures=pictures,
        quiet=quiet,
    )
    chosen = Source(
        name=source,
        start=start,
        days=train_days + test_days,
        price=price,
        pv_share=pv_share,
        battery_share=battery_share,
        pv_scale=pv_scale,
        battery_scale=battery_scale,
        load_scale=load_scale,
        homes=homes,
        seed=seed,
        accept=",".join(accept or ()),
        time_zone=time_zone,
    )
    raise typer.Exit(tuning.tune(chosen, options))


@app.command(
    short_help="Thousands of scenarios of some days; distributions, restartable.",
    epilog=exit_codes(0, 2, 3, 4, 5, 130),
)
@guarded
def study(
    source: CaseOrFolder = DEFAULT_CASE,
    *,
    scenarios: Annotated[int, typer.Option(min=1, help="Number of scenarios.")] = 1000,
    days: Annotated[float, typer.Option(min=0, help="Days of a scenario.")] = 7,
    start: Start = None,
    from_days: Annotated[
        float, typer.Option(min=0, metavar="DAYS", help="Days from --start on that scenarios are made from.")
    ] = 28,
    scenario_model: Annotated[
        str, typer.Option(metavar="MODEL", help="Random processes, see above; none: the data themselves.")
    ] = DEFAULT_MODEL,
    policies: Annotated[
        str, typer.Option(metavar="NAME,NAME,...", help="As in `jaxp2p run`; all of them.")
    ] = "all",
    market: Market = "pool",
    partners: Partners = 6,
    fee: Fee = None,
    graph: Graph = None,
    network: Network = True,
    end_value: EndValue = None,
    unserved_price: UnservedPrice = None,
    seed: Seed = 0,
    chunk: Annotated[
        int | None,
        typer.Option(min=1, help="Scenarios per file.  [default: from --memory]", show_default=False),
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option(min=1, help="Devices to use.  [default: all; on a CPU its cores]", show_default=False),
    ] = None,
    memory: Annotated[float, typer.Option(min=0, metavar="GIB", help="Memory for a chunk.")] = 2.0,
    foresight: Annotated[
        str,
        typer.Option(
            metavar="SCENARIOS|auto|on|off",
            help="How many get perfect foresight, the first ones; on: 8; auto: 8, or as many as take about "
            "10 min; off: none.",
        ),
    ] = "auto",
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Dask scheduler, such as tcp://host:8786, or local:WORKERS."),
    ] = None,
    tolerance: Tolerance = 1.0,
    dtype: Dtype = "float32",
    price: Price = None,
    pv_share: PvShare = None,
    battery_share: BatteryShare = None,
    pv_scale: PvScale = 1.0,
    battery_scale: BatteryScale = 1.0,
    load_scale: LoadScale = 1.0,
    homes: Homes = None,
    accept: Accept = None,
    time_zone: TimeZone = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder of the study.  [default: jaxp2p-studies/INPUT-DATE-MARKET-DAYS]"
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Continue a study that is in the folder, or refuse.")
    ] = True,
    controller: Controller = None,
    json: Json = None,
    pictures: Pictures = True,
    quiet: Quiet = False,
) -> None:
    from jaxp2p.cli import studying

    options = studying.Options(
        scenarios=scenarios,
        days=days,
        market=market,
        partners=partners,
        fee=fee,
        graph=graph,
        network=network,
        end_value=end_value,
        unserved_price=unserved_price,
        policies=policies,
        scenario_model=scenario_model,
        seed=seed,
        chunk=chunk,
        devices=devices,
        memory=memory,
        foresight=foresight,
        scheduler=scheduler,
        tolerance=tolerance,
        dtype=dtype,
        out=out,
        resume=resume,
        json=json,
        pictures=pictures,
        quiet=quiet,
        controller=controller,
    )
    chosen = Source(
        name=source,
        start=start,
        days=max(days, from_days),
        price=price,
        pv_share=pv_share,
        battery_share=battery_share,
        pv_scale=pv_scale,
        battery_scale=battery_scale,
        load_scale=load_scale,
        homes=homes,
        seed=seed,
        accept=",".join(accept or ()),
        time_zone=time_zone,
    )
    raise typer.Exit(studying.study(chosen, options))


study.__doc__ = STUDY_HELP


@app.command(epilog=exit_codes(0, 130))
@guarded
def cases() -> None:
    """List the embedded communities."""
    from jaxp2p.cli import inspecting

    inspecting.cases()


@app.command(short_help="Write an embedded community as files to edit.", epilog=exit_codes(0, 2, 4, 130))
@guarded
def export(
    case: Annotated[str, typer.Argument(metavar="CASE", help="rural3, rural1 or ieee33.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write; must be absent or empty.")],
    *,
    start: Start = None,
    days: Annotated[
        float | None,
        typer.Option(min=0, help="Number of days.  [default: the whole year]", show_default=False),
    ] = None,
    price: Price = None,
    pv_share: PvShare = None,
    battery_share: BatteryShare = None,
    pv_scale: PvScale = 1.0,
    battery_scale: BatteryScale = 1.0,
    load_scale: LoadScale = 1.0,
    homes: Homes = None,
    seed: Seed = 0,
    format: Annotated[str, typer.Option(metavar="NAME", help="csv or parquet.")] = "csv",
) -> None:
    """Write an embedded community as files that can be edited and run.

    \b
    jaxp2p export rural1 my-village --days 7
    jaxp2p check my-village
    jaxp2p run my-village
    """
    from jaxp2p.cli import inspecting

    if start is not None and days is None:
        fail("--start needs --days", USAGE)
    chosen = Source(
        name=case,
        start=start,
        days=days,
        price=price,
        pv_share=pv_share,
        battery_share=battery_share,
        pv_scale=pv_scale,
        battery_scale=battery_scale,
        load_scale=load_scale,
        homes=homes,
        seed=seed,
    )
    inspecting.export(chosen, folder, format=format)


@app.command(
    "import",
    short_help="Write a SimBench grid as files to run and to edit.",
    epilog=exit_codes(0, 2, 4, 130),
)
@guarded
def import_(
    source: Annotated[
        str | None, typer.Argument(metavar="SOURCE", help="A SimBench code, such as 1-LV-rural3--2-sw.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Folder to write; must be absent or empty.")
    ] = None,
    *,
    list_sources: Annotated[
        bool, typer.Option("--list", help="List what can be imported, and stop.")
    ] = False,
    start: Start = None,
    days: Annotated[
        float | None,
        typer.Option(min=0, help="Number of days.  [default: the whole year]", show_default=False),
    ] = None,
    price: Annotated[
        str, typer.Option(metavar="NAME", help="Synthetic tariff: tou, tou_noise or dynamic.")
    ] = "tou",
    pv_share: PvShare = None,
    battery_share: BatteryShare = None,
    pv_scale: PvScale = 1.0,
    battery_scale: BatteryScale = 1.0,
    load_scale: LoadScale = 1.0,
    seed: Seed = 0,
    format: Annotated[str, typer.Option(metavar="NAME", help="csv or parquet.")] = "csv",
) -> None:
    """Write a grid of another data set as tables that can be edited and run.

    Sources are the SimBench codes of radial grids with one head: low voltage (1-LV), medium voltage (1-MV)
    and both (1-MVLV). Two packages are needed, and no internet once they are there: pip install ".[grid]"

    \b
    jaxp2p import --list
    jaxp2p import 1-LV-urban6--2-sw my-town --days 28
    jaxp2p run my-town
    """
    from jaxp2p.cli import importing

    if list_sources:
        importing.list_sources()
        raise typer.Exit
    if source is None or folder is None:
        fail("name a source and a folder to write, or ask for --list", USAGE)
    if start is not None and days is None:
        fail("--start needs --days", USAGE)
    chosen = Source(
        name=source,
        start=start,
        days=days,
        price=price,
        pv_share=pv_share,
        battery_share=battery_share,
        pv_scale=pv_scale,
        battery_scale=battery_scale,
        load_scale=load_scale,
        seed=seed,
    )
    importing.import_tables(chosen, folder, format=format)


@app.command(
    short_help="Name every fault of a folder, or say what is in it.", epilog=exit_codes(0, 2, 4, 130)
)
@guarded
def check(
    source: Annotated[
        str | None, typer.Argument(metavar="[DIR]", help="A folder of tables, or the name of a case.")
    ] = None,
    *,
    columns: Annotated[
        bool, typer.Option("--columns", help="Explain every table and column, with unit and default.")
    ] = False,
    accept: Accept = None,
    time_zone: TimeZone = None,
) -> None:
    """Check a folder of tables: name every fault, or say what was found."""
    from jaxp2p.cli import inspecting

    if columns:
        inspecting.columns()
    if source is not None:
        inspecting.check(source, accept=",".join(accept or ()), time_zone=time_zone)
    elif not columns:
        fail("name a folder to check, or ask for --columns", USAGE)


@app.command(
    short_help="Compare random slots with an independent solver.", epilog=exit_codes(0, 1, 2, 3, 4, 130)
)
@guarded
def verify(
    source: CaseOrFolder = DEFAULT_CASE,
    *,
    slots: Annotated[int, typer.Option(min=1, help="Number of random slots.")] = 20,
    market: Market = "bilateral",
    partners: Partners = 6,
    fee: Fee = None,
    graph: Graph = None,
    start: Start = None,
    days: Days = 7,
    network: Network = True,
    price: Price = None,
    pv_share: PvShare = None,
    battery_share: BatteryShare = None,
    pv_scale: PvScale = 1.0,
    battery_scale: BatteryScale = 1.0,
    load_scale: LoadScale = 1.0,
    homes: Homes = None,
    solver: Solver = "auto",
    tolerance: Tolerance = 1.0,
    seed: Seed = 0,
    dtype: Dtype = "float32",
    accept: Accept = None,
    time_zone: TimeZone = None,
) -> None:
    """Solve random slots by an independent solver (Clarabel) as well and compare.

    A slot passes when its cost is within 0.1 % of the optimum and no limit is passed by more than 0.05 kW or
    1e-4 p.u.; storage limits hold exactly.
    """
    from jaxp2p.cli import inspecting

    chosen = Source(
        name=source,
        start=start,
        days=days,
        price=price,
        pv_share=pv_share,
        battery_share=battery_share,
        pv_scale=pv_scale,
        battery_scale=battery_scale,
        load_scale=load_scale,
        homes=homes,
        seed=seed,
        accept=",".join(accept or ()),
        time_zone=time_zone,
    )
    options = inspecting.VerifyOptions(
        slots=slots,
        market=market,
        partners=partners,
        fee=fee,
        graph=graph,
        network=network,
        solver=solver,
        tolerance=tolerance,
        dtype=dtype,
    )
    raise typer.Exit(inspecting.verify(chosen, options))


@app.command(epilog=exit_codes(0, 2, 4, 130))
@guarded
def compare(
    first: Annotated[Path, typer.Argument(metavar="DIR", help="Results of one run.")],
    second: Annotated[Path, typer.Argument(metavar="DIR", help="Results of another run.")],
    *,
    all_figures: Annotated[
        bool, typer.Option("--all", help="Also figures that differ by less than 0.1 %, and run times.")
    ] = False,
) -> None:
    """Show the figures in which two results differ."""
    from jaxp2p.cli import inspecting

    inspecting.compare(first, second, everything=all_figures)


def main() -> None:
    """Entry point of the command `jaxp2p`."""
    lenient_streams()
    try:
        app()
    finally:
        try:
            if sys.stdout is not None:
                sys.stdout.flush()
        except (OSError, ValueError):  # the reader has gone, or the disk is full, which has been said
            drop_output()
