"""The work behind `jaxp2p study`: many scenarios in chunks, a folder that survives, a table and pictures."""

import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from jaxp2p.cli import places
from jaxp2p.cli.console import LEFT_UNDONE, OK, UNSOLVED, UsageError, counted, echo_json, user_input
from jaxp2p.cli.running import (
    UNSOLVED_SHARE,
    check_tolerance,
    say_impossible,
    undone_text,
    unsolved_text,
    usual_policies,
)
from jaxp2p.cli.source import Source, load, say_remarks
from jaxp2p.control.catalogue import OPTIMUM, TUNED, named
from jaxp2p.settings.commands import STUDY
from jaxp2p.settings.commands import StudyOptions as Options
from jaxp2p.settings.fields import pick

if TYPE_CHECKING:
    from jaxp2p.studies.folder import StudyFolder
    from jaxp2p.studies.run import Study
    from jaxp2p.studies.schedule import ChunkResult
    from jaxp2p.studies.settings import StudySettings
    from jaxp2p.studies.work import Work

FORESIGHT_SAMPLE, FORESIGHT_SECONDS = 8, 600.0  # scenarios, and what "auto" lets them take together
CHUNK = 512  # scenarios: a file of its own, and what a restart may lose


def foresight_sample(text: str) -> int:
    """Scenarios with perfect foresight, as --foresight has it; "auto" may turn out to be fewer."""
    named = {"auto": FORESIGHT_SAMPLE, "on": FORESIGHT_SAMPLE, "off": 0}
    if text in named:
        return named[text]
    if not text.isdecimal():
        raise UsageError(f"--foresight: {text!r} is neither a number of scenarios nor auto, on or off")
    return int(text)


def _affordable(made: "Study", wanted: int) -> int:
    """As many of the wanted scenarios as perfect foresight is done with in FORESIGHT_SECONDS, or so."""
    from jaxp2p.hindsight.perfect_foresight import estimate_seconds

    each = estimate_seconds(made.community, made.slots)
    affordable = min(wanted, int(FORESIGHT_SECONDS / max(each, 1e-9)))
    if affordable < wanted:
        typer.echo(
            f"remark: perfect foresight takes about {each:.0f} s per scenario: {affordable} of them get it, "
            f"not {wanted}; --foresight {wanted} insists",
            err=True,
        )
    return affordable


def study(source: Source, options: Options) -> int:
    """Do it all; returns the exit code."""
    check_tolerance(options.tolerance, options.dtype)
    places.check_json(options.json)  # before the work, not after it
    if options.out is not None:
        places.check_folder(options.out, option="--out")
    begin = time.perf_counter()
    devices = _prepare_devices(options)
    import jax

    from jaxp2p import __version__
    from jaxp2p.data import local_time
    from jaxp2p.model.chosen import use_dtype
    from jaxp2p.report.config_file import write_config
    from jaxp2p.studies.errors import StudyError
    from jaxp2p.studies.folder import open_study
    from jaxp2p.studies.settings import StudySettings, fingerprint
    from jaxp2p.studies.work import Work, built
    from jaxp2p.tuning.controller_file import content_digest, read_content

    use_dtype(options.dtype)
    with user_input():
        controller = None if options.controller is None else read_content(options.controller)
    tables = load(source)
    names = named(options.policies, usual_policies(tables))
    say_remarks(tables, quiet=options.quiet)
    settings: dict[str, Any] = pick(StudySettings, options) | {
        "source": asdict(source),
        "policies": names if controller is None else (*names, TUNED),
        "foresight_sample": min(foresight_sample(options.foresight), options.scenarios),
        "device": jax.devices()[0].device_kind,
        "version": __version__,
        "fingerprint": fingerprint(tables),
        "controller": None if controller is None else content_digest(controller),
    }
    first_chunk = options.chunk or CHUNK
    with user_input():
        # refuses what cannot be before anything is written
        made = built(StudySettings(**settings | {"chunk": first_chunk}), devices, controller)
        if options.foresight == "auto" and OPTIMUM in names:
            settings["foresight_sample"] = _affordable(made, settings["foresight_sample"])
            made = built(StudySettings(**settings | {"chunk": first_chunk}), devices, controller)
    if options.network:
        say_impossible(made.community, made.horizon, quiet=options.quiet)
    case, first = places.case_name(source), local_time(tables).iloc[0]
    usual = Path(places.STUDIES) / places.target_name(source, first, options.market, options.days)
    out = options.out or usual
    places.check_folder(out, option="--out")
    chunk = options.chunk or _stored_chunk(out) or _chunk(made, options, devices)
    chosen = StudySettings(**settings | {"chunk": chunk})
    if not options.quiet and options.json != "-":
        _announce(case, made, chosen, options, devices)
    counters: dict[str, float] = {}
    try:
        with open_study(out, chosen, resume=options.resume) as folder:
            write_config(folder.path, STUDY, source, options)
            work = Work(chosen, devices, controller)
            _run(folder, work, options, counters, members=made.community.size)
            return _report(folder, made, options, case=case, counters=counters, begin=begin)
    except StudyError as error:
        raise UsageError(str(error)) from error


def _prepare_devices(options: Options) -> int:
    """How many devices take part. On a CPU every core is made a device, which must come before JAX starts."""
    if options.scheduler is not None:
        return 1  # of each worker process
    wanted = options.devices
    flag = "--xla_force_host_platform_device_count"
    if "jax" not in sys.modules and flag not in os.environ.get("XLA_FLAGS", ""):
        mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        cores = wanted or mine
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}={cores}".strip()
    import jax

    there = len(jax.devices())
    if wanted is not None and not 1 <= wanted <= there:
        raise UsageError(f"--devices: {wanted} are asked for, there are {there}")
    return wanted or there


def _stored_chunk(out: Path) -> int | None:
    """Scenarios per chunk of the study that is in the folder already: one that grows keeps them."""
    from jaxp2p.studies.errors import StudyError
    from jaxp2p.studies.folder import read_study

    try:
        return read_study(out).settings.chunk
    except (FileNotFoundError, FileExistsError, StudyError):  # `open_study` says what is wrong, if anything
        return None


def _chunk(made: "Study", options: Options, devices: int) -> int:
    """Scenarios per chunk within the memory budget; as many as a device has lanes for, where it has many."""
    from jaxp2p.studies.engine import bytes_per_lane, bytes_per_scenario, choose_engine, scenarios_per_lane

    policy = next((policy for policy in made.policies.values() if policy is not None), None)
    if policy is None:
        return CHUNK
    sizes = bytes_per_scenario(made.task(policy))
    engine, lanes = choose_engine(made.solver, made.community.size)
    each = scenarios_per_lane(engine)
    under_way = min(each * lanes, options.scenarios)
    memory = options.memory * 2**30
    # the series once on the device, and once more, in float64, on the host
    at_work, kept = bytes_per_lane(engine, sizes) / each, 3 * sizes.kept
    fitting = int(memory / (devices * (at_work + kept)))  # under way on a device
    if not fitting:
        raise UsageError(f"--memory: {options.memory:g} GiB are too few for one scenario per device")
    if fitting < under_way:
        return devices * fitting
    return min(max(CHUNK, under_way) * devices, int((memory - at_work * devices * under_way) / kept))


def _announce(case: str, made: "Study", settings: "StudySettings", options: Options, devices: int) -> None:
    from jaxp2p.scenarios.parse import describe
    from jaxp2p.studies.engine import bytes_per_scenario

    typer.echo(
        f"{case}: {counted(made.community.size, 'member')}, {settings.market} market; "
        f"{counted(settings.scenarios, 'scenario')} of {counted(made.slots, 'slot')} "
        f"in {counted(settings.chunks, 'chunk')} "
        f"on {devices} x {settings.device}"
    )
    for line in describe(made.model).splitlines():
        typer.echo(f"- {line}")
    policy = next((policy for policy in made.policies.values() if policy is not None), None)
    if policy is not None:
        sizes = bytes_per_scenario(made.task(policy))
        typer.echo(
            f"- state per scenario: {sizes.lane / 1e3:,.0f} kB in a slot, {sizes.kept / 1e3:,.1f} kB kept"
        )
    typer.echo("")


def _run(
    folder: "StudyFolder", work: "Work", options: Options, counters: dict[str, float], *, members: int
) -> None:
    """The missing chunks, with a progress bar; adds up what they report in `counters`."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from jaxp2p.studies.schedule import run_chunks

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} scenarios"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
        disable=options.quiet or not console.is_terminal,
    )
    settings = folder.settings
    done = sum(settings.span(number)[1] for number in folder.done())
    counters["resumed"] = done
    with bar:
        task = bar.add_task("compiling", total=settings.scenarios, completed=done)

        def finished(number: int, result: "ChunkResult") -> None:
            for name, value in result.counters.items():
                counters[name] = counters.get(name, 0.0) + value
            rate = counters["slots"] * members / max(counters["seconds"], 1e-9)
            bar.update(task, advance=settings.span(number)[1], description=f"{rate:,.0f} prosumer-slots/s")

        run_chunks(folder, work, scheduler=options.scheduler, finished=finished)


def _report(
    folder: "StudyFolder",
    made: "Study",
    options: Options,
    *,
    case: str,
    counters: dict[str, float],
    begin: float,
) -> int:
    import textwrap

    from jaxp2p.report.canvas import plain
    from jaxp2p.report.files import json_text, whole_file, write_json
    from jaxp2p.report.study import StudyPictureData, write_study_pictures
    from jaxp2p.report.study_tables import study_legend, study_notes, study_table
    from jaxp2p.studies.statistics import study_statistics

    statistics = study_statistics(folder.read_figure, folder.figures())
    headline = statistics.headline()
    report = _json(folder, made, statistics, counters=counters, begin=begin)
    for name, frame in (
        ("summary", statistics.summary),
        ("savings", statistics.savings),
        ("violations", statistics.violations),
        ("captures", statistics.captures),
        ("convergence", statistics.convergence),
    ):
        with whole_file(folder.path / f"{name}.csv") as file:
            frame.to_csv(file, index=False)
    write_json(folder.path / "summary.json", report)
    files = []
    if options.pictures:
        span = f"{folder.settings.days:g} days" if folder.settings.days != 1 else "1 day"
        made_of = f"{folder.settings.scenarios:,} scenarios of {span}"
        data = StudyPictureData(
            summary=statistics.summary,
            savings=statistics.savings,
            convergence=statistics.convergence,
            title=f"{plain(case)}, {folder.settings.market} market, {made_of}",
            traces=folder.read_traces(),
            slot_hours=float(made.horizon.slot_hours),
            first_slot=made.first_slot_of_week,
        )
        files = write_study_pictures(folder.path / "pictures", data)
    if options.json == "-":
        echo_json(json_text(report))
    elif options.json is not None:
        write_json(options.json, report)
    if not options.quiet and options.json != "-":
        typer.echo(study_table(headline) + "\n")
        worth = f"{made.terminal_price:.4g} EUR/kWh"
        end_value = f"energy stored at the end is counted at {worth} for every policy, in every scenario"
        for remark in [end_value, *study_notes(headline, unserved_price=float(made.penalties.unserved))]:
            typer.echo(textwrap.fill(remark, width=100, initial_indent="- ", subsequent_indent="  "))
        typer.echo("\n" + textwrap.fill(study_legend(headline), width=100))
        if counters.get("slots"):
            rate, compiled = report["prosumer_slots_per_second"], report["compile_s"]
            wasted = 100 * report["iterations_wasted_share"]
            typer.echo(
                f"\n{rate:,.0f} prosumer-slots/s after {compiled:.0f} s of compilation; "
                f"{wasted:.0f} % of the iterations on finished scenarios"
            )
        typer.echo(f"written to {folder.path}: chunks, tables, summary.json" + (" and" if files else ""))
        if files:
            typer.echo("  " + ", ".join(f"pictures/{file.name}" for file in files))
    return _verdict(headline, statistics, made.slots)


def _verdict(headline: dict[str, dict[str, Any]], statistics: Any, slots: int) -> int:
    """The exit code of a study, its reason on stderr."""
    from jaxp2p.report.kpis import UNSOLVED as KINDS

    mean = statistics.summary.set_index(["policy", "figure"])["mean"]
    code = OK
    for name, figures in headline.items():
        count = figures["scenarios"]
        counts = {kind.name: count * mean.get((name, f"slots_{kind.name.lower()}"), 0.0) for kind in KINDS}
        missing = count * (figures["unsolved_slots"] or 0.0)
        if missing > UNSOLVED_SHARE * slots * count or counts["NUMERICAL_ERROR"]:
            text = unsolved_text(name, missing, slots * count, counts)
            typer.echo(f"warning: {text} ({count:,} scenarios)", err=True)
            code = UNSOLVED
    undone = [name for name, row in headline.items() if row["total_mean_eur"] != row["cost_mean_eur"]]
    if undone and code == OK:
        typer.echo(f"warning: {undone_text(undone)}", err=True)
        code = LEFT_UNDONE
    return code


def _json(
    folder: "StudyFolder", made: "Study", statistics: Any, *, counters: dict[str, float], begin: float
) -> dict[str, Any]:
    settings, headline = folder.settings, statistics.headline()
    table = statistics.summary.set_index(["policy", "figure"])
    chances = statistics.violations.set_index(["policy", "kind"])
    policies = {}
    for name, figures in headline.items():
        value = lambda figure, column="mean", name=name: float(table.loc[(name, figure), column])
        policies[name] = {
            "cost_mean": figures["cost_mean_eur"],
            "cost_se": figures["cost_se_eur"],
            "cost_p5": figures["cost_p5_eur"],
            "cost_p50": figures["cost_p50_eur"],
            "cost_p95": figures["cost_p95_eur"],
            "cvar95": figures["cost_cvar95_eur"],
            "unserved_kwh_mean": figures["unserved_kwh"],
            "spilled_kwh_mean": figures["spilled_kwh"],
            "unserved_cost_mean": figures["unserved_cost_eur"],
            "violation_cost_mean": figures["violation_cost_eur"],
            "total_mean": figures["total_mean_eur"],
            "total_se": figures["total_se_eur"],
            "total_p5": figures["total_p5_eur"],
            "total_p50": figures["total_p50_eur"],
            "total_p95": figures["total_p95_eur"],
            "total_cvar95": figures["total_cvar95_eur"],
            "saving_mean": figures["saving_mean_eur"],
            "saving_se": figures["saving_se_eur"],
            "capture": figures["capture"],
            "capture_se": figures["capture_se"],
            "soc_violations": value("soc_violation_kwh", "max"),
            "balance_error_kw": value("balance_error_kw", "max"),
            "voltage_violation_probability": float(chances.loc[(name, "voltage"), "probability"]),
            "line_violation_probability": float(chances.loc[(name, "line"), "probability"]),
            "violation_probability_low": figures["violation_low"],
            "violation_probability_high": figures["violation_high"],
            "insecure_slots_mean": value("insecure_slots"),
            "ac_losses_kwh_mean": value("ac_losses_kwh"),
            "p2p_kwh_mean": value("p2p_kwh"),
            "unsolved_slots_mean": value("unsolved_slots"),
            "gap_mean": figures["gap_eur"],
            "scenarios": figures["scenarios"],
        }
    iterations = statistics.summary[statistics.summary["figure"] == "iterations_total"]
    made_steps = counters.get("made", 0.0)
    seconds = counters.get("seconds", 0.0)
    return {
        "version": settings.version,
        "scenarios": settings.scenarios,
        "slots": made.slots,
        "prosumers": made.community.size,
        "chunks": settings.chunks,
        "scenarios_resumed": int(counters.get("resumed", 0)),
        "scenario_model": settings.scenario_model,
        "market": settings.market,
        "dtype": settings.dtype,
        "end_value_eur_per_kwh": made.terminal_price,
        "unserved_price_eur_per_kwh": float(made.penalties.unserved),
        "row_price_eur_per_kwh": float(made.penalties.row),
        "policies": policies,
        "prosumer_slots_per_second": counters.get("slots", 0.0) * made.community.size / max(seconds, 1e-9),
        "admm_iterations_total": float((iterations["mean"] * iterations["count"]).sum()),
        "iterations_wasted_share": 1 - counters.get("useful", 0.0) / made_steps if made_steps else 0.0,
        "wall_s": time.perf_counter() - begin,
        "compile_s": counters.get("compile_seconds", 0.0),
        "peak_memory_bytes": peak_memory(),
        "device": settings.device,
    }


def peak_memory() -> int:
    """Bytes: of the device where it tells, else of this process."""
    import jax

    stats = jax.devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    try:
        import resource
    except ImportError:  # not on Windows
        return 0
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else 1024 * size
