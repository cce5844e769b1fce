"""The work behind `jaxp2p hosting`: how much PV the grid carries, by ways of operating."""

from dataclasses import dataclass

import typer

from jaxp2p.cli import places
from jaxp2p.cli.comparing import chosen_names, save, show, verdict
from jaxp2p.cli.console import RunProgress, UsageError, counted, user_input
from jaxp2p.cli.running import check_tolerance, target_folder
from jaxp2p.cli.source import Source, load, say_remarks
from jaxp2p.settings.commands import HOSTING
from jaxp2p.settings.commands import HostingOptions as Options
from jaxp2p.settings.fields import pick
from jaxp2p.settings.hosting import Hosting
from jaxp2p.settings.model import Grid, Numbers, Trading


def hosting(source: Source, options: Options) -> int:
    """Do it all; returns the exit code."""
    places.check_json(options.json)
    if options.out is not None:
        places.check_folder(options.out, option="--out")
    check_tolerance(options.tolerance, options.dtype)
    with RunProgress((), 0, quiet=options.quiet) as progress:
        progress.say("reading the community")
        tables = load(source)
        from jaxp2p.data import check, local_time

        record = {"what": "hosting"} | places.made_from(source, options)
        out, moved = target_folder(source, options, local_time(tables), record, suffix="-hosting")
        from jaxp2p.model.build import inverters_of
        from jaxp2p.model.chosen import build_both, first_slot_of_week, use_dtype
        from jaxp2p.model.network import VDE_4105

        use_dtype(options.dtype)
        from jaxp2p.report.config_file import write_config
        from jaxp2p.report.hosting import PICTURE, Hosted, hosting_report, hosting_text, write_hosting
        from jaxp2p.runs import hosting as runs

        names = chosen_names(options.ways, tuple(runs.BY_NAME), option="--ways")
        if not names:
            raise UsageError("--ways: name at least one way of operating")
        with user_input():
            community, horizon = build_both(tables, _Built(**pick(_Built, options)), seed=source.seed)
    say_remarks(tables, quiet=options.quiet)
    time = tables.profiles["time"]
    with RunProgress(names, 100, quiet=options.quiet) as progress, user_input():
        found = runs.hosting(
            community,
            horizon,
            inverters=inverters_of(check(tables), "volt_var", VDE_4105, options.dtype),
            ways=names,
            **pick(Hosting, options),
            solver=options.solver,
            tolerance=options.tolerance,
            slot_of_week=first_slot_of_week(time),
            progress=lambda way, done, total: progress(way, 100 * done // total, 100),
        )
    hosted = Hosted(
        community=community,
        horizon=horizon,
        time=time,
        capacities=found,
        settings=Hosting(**pick(Hosting, options)),
        case=places.case_name(source),
    )
    save(
        out,
        options,
        record,
        write=lambda folder: write_hosting(folder, hosted, made_from=record, pictures=options.pictures),
        report=lambda: hosting_report(hosted),
        config=lambda folder: write_config(folder, HOSTING, source, options),
    )
    if not options.quiet and options.json != "-":
        title = f"{hosted.title}, {counted(hosted.community.size, 'member')}"
        show(out, options, title, hosting_text(hosted), PICTURE)
    if moved:
        typer.echo(moved, err=True)
    return verdict(runs.unsolved_share(found, horizon.slots), when="with some factor ")


@dataclass(frozen=True, kw_only=True)
class _Built(Numbers, Grid, Trading):
    """What a community is built from; the ways of operating say what becomes of its limits."""
