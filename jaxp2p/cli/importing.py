"""The work behind `jaxp2p import`: a community from another tool's data, as a folder of tables."""

from dataclasses import dataclass, replace
from typing import NoReturn

import typer

from jaxp2p.cli.console import UsageError, counted, user_input
from jaxp2p.cli.outputs import NewTables
from jaxp2p.cli.source import Source, choose_days, require_days
from jaxp2p.settings.fields import again, argument, one_of, setting
from jaxp2p.settings.source import Changes


@dataclass(frozen=True, kw_only=True)
class Options(NewTables):
    """What `jaxp2p import` is told that other commands are not, or not so."""

    name: str | None = argument(
        None,
        "A SimBench code such as 1-LV-rural3--2-sw, a file of pandapower, MATPOWER or power-grid-model, or "
        "pandapower:networks.NAME.",
        "SOURCE",
    )
    members: float | None = setting(
        None,
        "Homes to be made where the source has no profiles: their number, or below 1 the share of the loads "
        "that they take the place of.",
        unit="NUMBER|SHARE",
        least=0,
        otherwise="half of the loads, at most 300 homes",
    )
    head: str | None = setting(
        None,
        "Of several connections to a grid above, the one whose part is taken: its name or that of its bus.",
        unit="NAME",
    )
    list_sources: bool = setting(False, "List what can be imported, and stop.", spelling=("--list",))
    price: str = again(Changes, "price", default="tou", otherwise=None)


def import_tables(source: Source, options: Options) -> None:
    """Read `source`, change it as the options ask and write the tables; or list what there is.

    Raises UsageError for a source that cannot be imported and a missing package, FileExistsError for a
    folder that holds anything.
    """
    if options.list_sources:
        list_sources()
        return
    folder, format = options.folder, options.format
    if options.name is None or folder is None:
        raise UsageError("name a source and a folder to write, or ask for --list")
    require_days(source)
    from jaxp2p.data import PRICES, check, write_tables
    from jaxp2p.data.importers import import_source
    from jaxp2p.data.loading import changed
    from jaxp2p.data.tables import require_free

    if source.price is not None:
        one_of(source.price, PRICES, option="--price")
    require_free(folder)  # before the work, not after it
    with user_input():
        try:
            whole = import_source(
                options.name,
                price=source.price or "tou",
                seed=source.seed,
                members=options.members,
                head=options.head,
                pv_share=source.pv_share,
                battery_share=source.battery_share,
            )
        except ImportError as error:
            _missing(error)
        rest = replace(source, price=None, pv_share=None, battery_share=None)
        tables = choose_days(check(changed(whole, rest)), source)
        write_tables(tables, folder, format=format)  # type: ignore[arg-type]
    for text in tables.meta.get("changes", ()):
        typer.echo(f"note: {text}", err=True)
    homes, stays = tables.prosumers, tables.ev_sessions
    typer.echo(
        f"{tables.meta['name']}: {counted(len(homes), 'member')} on {len(tables.buses)} buses, "
        f"{(homes['pv_kw'] > 0).sum()} with PV or other plants, "
        f"{(homes['battery_kwh'] > 0).sum()} with batteries"
        + (f", {stays['prosumer_id'].nunique()} with electric vehicles" if stays is not None else "")
        + f"\nwritten to {folder}: {', '.join(f'{name}.{format}' for name in tables.frames())}"
    )


def list_sources() -> None:
    """Print what can be imported, one source a line."""
    from jaxp2p.data.importers import IMPORTERS

    for kind, importer in IMPORTERS.items():
        try:
            known = importer.known()
        except ImportError as error:
            _missing(error)
        typer.echo(f"{kind}: {importer.description}")
        for name in known:
            typer.echo(f"  {name}")


def _missing(error: ImportError) -> NoReturn:
    raise UsageError(str(error)) from error
