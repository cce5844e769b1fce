"""The work behind `jaxp2p run`: clear the days with every policy, print, save."""

import threading
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from jaxp2p.cli import places
from jaxp2p.cli.console import (
    LEFT_UNDONE,
    OK,
    UNSOLVED,
    RunProgress,
    UsageError,
    counted,
    echo_json,
    user_input,
)
from jaxp2p.cli.source import Source, choose_days, load_whole, say_remarks
from jaxp2p.control.catalogue import MPC_POLICIES, TUNED, named, usual
from jaxp2p.settings.commands import RUN
from jaxp2p.settings.commands import RunOptions as Options

if TYPE_CHECKING:
    from jaxp2p.data import Tables

SMALLEST_FACTOR = {"float32": 0.1, "float64": 1e-6}  # below it rounding keeps the residuals up
UNSOLVED_SHARE = 0.01  # of a policy's slots that may stop at the iteration limit


def run(source: Source, options: Options) -> int:
    """Do it all; returns the exit code."""
    places.check_json(options.json)
    if options.out is not None:
        places.check_folder(options.out, option="--out")
    with RunProgress((), 0, quiet=options.quiet) as progress:
        progress.say("reading the community")
        whole = load_whole(source)
        tables = choose_days(whole, source)
        from jaxp2p.data import local_time

        case, time = places.case_name(source), tables.profiles["time"]
        record = places.made_from(source, options)
        out, moved = target_folder(source, options, local_time(tables), record)  # before the work
        from jaxp2p.model.chosen import build_both, first_slot_of_week, use_dtype

        use_dtype(options.dtype)
        from jaxp2p.runs.in_hindsight import check_foresight
        from jaxp2p.runs.runner import check_end_value, check_history, penalties_of, tuned_policy
        from jaxp2p.slot.solvers import choose_solver, scale_tolerances

        names = named(options.policies, usual_policies(tables), besides=tuple(MPC_POLICIES))
        check_tolerance(options.tolerance, options.dtype)
        with user_input():
            community, horizon = build_both(tables, options, seed=source.seed)
            history = history_of(community, whole, time.iloc[0]) if set(names) & set(MPC_POLICIES) else None
            check_history(names, horizon, history)
            check_foresight(names, community, options.foresight)
            solver = scale_tolerances(choose_solver(community, options.solver), options.tolerance)
            controller = read_controller_file(options, community, time.iloc[0])
            tuned_policy(controller, horizon)  # refuses one for another slot length
            check_end_value(options.end_value)
            penalties_of(horizon, options.unserved_price)
    say_remarks(tables, quiet=options.quiet)
    if options.network:
        say_impossible(community, horizon, quiet=options.quiet)
    from jaxp2p.report.kpis import evaluate
    from jaxp2p.runs.runner import run as run_policies

    shown = names if controller is None else (*names, TUNED)
    with RunProgress(shown, horizon.slots, quiet=options.quiet) as progress:
        progress.say("compiling")
        if options.pictures:
            # Matplotlib is long to import, and a compiler leaves the time to do so
            threading.Thread(target=import_module, args=["jaxp2p.report.pictures"], daemon=True).start()
        try:
            result = run_policies(
                community,
                horizon,
                policies=names,
                solver=solver,
                terminal_price=options.end_value,
                unserved_price=options.unserved_price,
                progress=progress,
                slot_of_week=first_slot_of_week(time),
                history=history,
                controller=controller,
                foresight_mode=options.foresight,
                look=True,
            )
        except RuntimeError as error:
            # perfect foresight and the plans name what their solver could not do
            typer.echo(f"error: {error}", err=True)
            return UNSOLVED
        progress.say("figures")
        evaluations = evaluate(community, horizon, result)
        progress.say("tables and pictures")
        written = _save(
            out,
            source,
            options,
            tables=tables,
            case=case,
            record=record,
            made=(community, horizon, result, evaluations),
        )
    kpis = {name: evaluation.kpis for name, evaluation in evaluations.items()}
    if not options.quiet and options.json != "-":
        _print(case, tables, community, result, kpis, out, written)
    if moved:
        typer.echo(moved, err=True)
    return verdict(kpis, horizon.slots)


def target_folder(
    source: Source, options: Any, time: Any, record: dict[str, Any], *, suffix: str = ""
) -> tuple[Path, str | None]:
    """The folder for the results, and a remark where it is not the usual one; refuses what must not be.

    `time` has the starts of the slots by the clock on the wall; suffix: of the usual name.
    """
    from jaxp2p.report.folders import check_target

    if options.out is not None:
        check_target(options.out, None if options.replace else record)
        return options.out, None
    days = len(time) * (time.iloc[1] - time.iloc[0]).total_seconds() / 86400
    name = places.target_name(source, time.iloc[0], options.market, days) + suffix
    wanted = Path(places.RESULTS) / name
    out, moved = places.free_folder(wanted, record)
    places.check_folder(out, option="--out")
    return out, moved


def say_impossible(community: Any, horizon: Any, *, quiet: bool = False) -> None:
    """Limits of the grid that no dispatch keeps, on stderr, before any work."""
    from jaxp2p.model.limits import impossible_limits, summary

    for line in () if quiet else summary(impossible_limits(community, horizon)):
        typer.echo(f"remark: {line}", err=True)


def read_controller_file(options: Options, community: Any, first: Any) -> Any:
    """The controller of the file that was named, if any, for a run that begins at `first`."""
    if options.controller is None:
        return None
    from jaxp2p.tuning.controller_file import read_controller

    return read_controller(options.controller, size=community.size, first=first, dtype=options.dtype)


def check_tolerance(tolerance: float, dtype: str) -> None:
    """Raises UsageError for a factor on the solver's tolerances below what the dtype can reach."""
    if not tolerance >= SMALLEST_FACTOR[dtype]:
        hint = "; try --dtype float64" if dtype == "float32" else ""
        raise UsageError(
            f"--tolerance: {tolerance:g} is out of reach in {dtype}, "
            f"the smallest factor is {SMALLEST_FACTOR[dtype]:g}{hint}"
        )


def history_of(community: Any, tables: "Tables", start: Any) -> Any:
    """The days before the window that forecasts may look back on, as a Horizon; None: there are none."""
    from jaxp2p.data import days_before
    from jaxp2p.model.build import build_horizon
    from jaxp2p.runs.runner import HISTORY_DAYS

    before = days_before(tables, start, HISTORY_DAYS)
    return None if before is None else build_horizon(community, before)


def usual_policies(tables: "Tables") -> tuple[str, ...]:
    """The policies that "all" means for these tables."""
    return usual(vehicles=tables.ev_sessions is not None and not tables.ev_sessions.empty)


def _save(
    out: Path,
    source: Source,
    options: Options,
    *,
    tables: "Tables",
    case: str,
    record: dict[str, Any],
    made: tuple[Any, Any, Any, Any],
) -> list[str]:
    """Write the folder and the JSON file; returns the names of the pictures."""
    from jaxp2p.report.config_file import resolved
    from jaxp2p.report.files import write_json
    from jaxp2p.report.folders import PICTURES, results_folder
    from jaxp2p.report.layout import bus_coordinates
    from jaxp2p.report.results import json_report, write_results

    settings = (
        asdict(source)
        | asdict(options)
        | {
            "out": str(out),
            "controller": str(options.controller or ""),
            "synthetic": tables.meta.get("synthetic"),
        }
    )
    pictures: list[str] = []
    with results_folder(out, None if options.replace else record) as folder:
        write_results(
            folder,
            *made,
            time=tables.profiles["time"],
            case=case,
            settings=settings,
            made_from=record,
            seed=source.seed,
            format=options.format,  # type: ignore[arg-type]
            homes=options.homes_tables,
            time_zone=tables.meta.get("time_zone"),
            coordinates=bus_coordinates(tables, made[0]),
            config=resolved(RUN, source, options),
        )
        if options.pictures:
            from jaxp2p.report.canvas import picture_data
            from jaxp2p.report.pictures import write_pictures

            files = write_pictures(folder / PICTURES, picture_data(tables, *made, case))
            pictures = [f"{PICTURES}/{file.name}" for file in files]
    if options.json is not None:
        report = json_report(*made, case=case)
        if options.json == "-":
            from jaxp2p.report.files import json_text

            echo_json(json_text(report))
        else:
            write_json(options.json, report)
    return pictures


def _print(
    case: str, tables: "Tables", community: Any, result: Any, kpis: dict, out: Path, pictures: list[str]
) -> None:
    import shutil
    import textwrap

    from jaxp2p.data.loading import span_text
    from jaxp2p.report.tables import legend, notes, text_tables

    width = max(shutil.get_terminal_size((100, 24)).columns, 80)
    market, buses = community.market.words, len(community.network.bus_ids)
    typer.echo(
        f"{case}: {counted(community.size, 'member')} on {buses:,} buses, {market}, "
        f"{span_text(tables)}, {len(tables.profiles)} slots\n"
    )
    typer.echo(text_tables(kpis, width=width) + "\n")
    for remark in notes(result, kpis):
        typer.echo(textwrap.fill(remark, width=width, initial_indent="- ", subsequent_indent="  "))
    for line in result.certificate.splitlines():
        typer.echo(textwrap.fill(line, width=width, initial_indent="- ", subsequent_indent="  "))
    typer.echo("\n" + textwrap.fill(legend(kpis), width=width))
    typer.echo(f"\ncompiled in {result.compile_seconds:.1f} s, ran in {sum(result.seconds.values()):.1f} s")
    typer.echo(f"written to {out}: tables, summary.json" + (" and" if pictures else ""))
    if pictures:
        body = textwrap.fill(", ".join(pictures), width=width, initial_indent="  ", subsequent_indent="  ")
        typer.echo(body)


def verdict(kpis: dict[str, dict[str, Any]], slots: int) -> int:
    """The exit code of a run, its reason on stderr.

    UNSOLVED where a policy has more slots without a certified answer than can be overlooked, else LEFT_UNDONE
    where anything was left undone.
    """
    code = OK
    for name, figures in kpis.items():
        broken, missing = figures["status_counts"].get("NUMERICAL_ERROR", 0), figures["slots_not_solved"]
        if broken or missing > UNSOLVED_SHARE * slots:
            typer.echo(f"warning: {unsolved_text(name, missing, slots, figures['status_counts'])}", err=True)
            code = UNSOLVED
    undone = [name for name, figures in kpis.items() if figures["total_cost_eur"] != figures["cost_eur"]]
    if undone and code == OK:
        typer.echo(f"warning: {undone_text(undone)}", err=True)
        code = LEFT_UNDONE
    return code


def unsolved_text(name: str, missing: float, slots: float, counts: "dict[str, Any]") -> str:
    """How many slots of a policy were not solved, how they ended, and what is allowed."""
    from jaxp2p.report.kpis import UNSOLVED as KINDS

    how = ", ".join(f"{counts[kind.name]:,.0f} {kind.name}" for kind in KINDS if counts.get(kind.name))
    allowed = f"more than {100 * UNSOLVED_SHARE:g} % or a NUMERICAL_ERROR gives exit code {UNSOLVED}"
    return f"{name}: {missing:,.0f} of {slots:,.0f} slots were not solved to the tolerance ({how}); {allowed}"


def undone_text(names: "list[str]") -> str:
    """Which policies left something undone, and the exit code that this gives."""
    return (
        "load not served, energy spilled or limits of the grid violated under "
        f"{', '.join(names)}: exit code {LEFT_UNDONE}"
    )
