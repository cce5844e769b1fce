"""The work behind `jaxp2p modes`: one policy with limits of the grid left out, kept linear, kept in AC."""

from dataclasses import dataclass, replace

import typer

from jaxp2p.cli import places
from jaxp2p.cli.comparing import chosen_names, save, show, verdict
from jaxp2p.cli.console import RunProgress, UsageError, counted, user_input
from jaxp2p.cli.running import check_tolerance, target_folder
from jaxp2p.cli.source import Source, load, say_remarks
from jaxp2p.settings.commands import MODES
from jaxp2p.settings.commands import ModesOptions as Options
from jaxp2p.settings.fields import one_of, pick
from jaxp2p.settings.model import Grid, Numbers, Trading
from jaxp2p.settings.modes import RULES


def modes(source: Source, options: Options) -> int:
    """Do it all; returns the exit code."""
    places.check_json(options.json)
    if options.out is not None:
        places.check_folder(options.out, option="--out")
    check_tolerance(options.tolerance, options.dtype)
    options = replace(options, policy=options.policy.strip().replace("-", "_"))
    rules = chosen_names(options.reactive, RULES, option="--reactive")
    if options.reactive.strip() and not rules:
        raise UsageError("--reactive: name rules, or leave it out")
    with RunProgress((), 0, quiet=options.quiet) as progress:
        progress.say("reading the community")
        tables = load(source)
        from jaxp2p.data import check, local_time

        record = {"what": "modes"} | places.made_from(source, options)
        out, moved = target_folder(source, options, local_time(tables), record, suffix="-modes")
        from jaxp2p.model.build import inverters_of
        from jaxp2p.model.chosen import build_both, first_slot_of_week, use_dtype
        from jaxp2p.model.network import VDE_4105

        use_dtype(options.dtype)
        from jaxp2p.control.ways import modes as ways_of
        from jaxp2p.report.config_file import write_config
        from jaxp2p.report.layout import bus_coordinates
        from jaxp2p.report.modes import (
            PICTURE,
            Compared,
            modes_report,
            modes_text,
            unsolved_share,
            write_modes,
        )
        from jaxp2p.runs.modes import modes as run_modes
        from jaxp2p.runs.runner import make_policies

        with user_input():
            community, horizon = build_both(tables, _built(options), seed=source.seed)
        one_of(options.policy, make_policies(community, horizon), option="--policy")
    say_remarks(tables, quiet=options.quiet)
    time = tables.profiles["time"]
    names = [way.name for way in ways_of(options.policy, rules)]
    with RunProgress(names, horizon.slots, quiet=options.quiet) as progress:
        progress.say("compiling")
        with user_input():
            found = run_modes(
                community,
                horizon,
                inverters=inverters_of(check(tables), "volt_var", VDE_4105, options.dtype),
                policy=options.policy,
                reactive=rules,
                solver=options.solver,
                tolerance=options.tolerance,
                slot_of_week=first_slot_of_week(time),
                progress=progress,
            )
        progress.say("figures, tables and picture")
        compared = Compared(
            community=community,
            horizon=horizon,
            time=time,
            modes=found,
            case=places.case_name(source),
            coordinates=bus_coordinates(tables, community),
        )
        save(
            out,
            options,
            record,
            write=lambda folder: write_modes(folder, compared, made_from=record, pictures=options.pictures),
            report=lambda: modes_report(compared),
            config=lambda folder: write_config(folder, MODES, source, options),
        )
    if not options.quiet and options.json != "-":
        title = f"{compared.title}, {counted(compared.community.size, 'member')}"
        show(out, options, title, modes_text(compared), PICTURE)
    if moved:
        typer.echo(moved, err=True)
    return verdict(unsolved_share(compared))


@dataclass(frozen=True, kw_only=True)
class _Built(Numbers, Grid, Trading):
    """What a community is built from; the modes say what becomes of its limits, and of reactive power."""


def _built(options: Options) -> _Built:
    return _Built(**pick(Numbers, options), **pick(Trading, options), losses=options.losses)
