"""The work behind `jaxp2p import`: a community from another tool's data, as a folder of tables."""

from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import typer

from jaxp2p.cli.console import UsageError, one_of, user_input
from jaxp2p.cli.source import Source, changed, choose_days


def import_tables(source: Source, folder: Path, *, format: str) -> None:
    """Read `source`, change it as the options ask and write the tables.

    Raises UsageError for a source that cannot be imported and a missing package, FileExistsError for a
    folder that holds anything.
    """
    from jaxp2p.data import PRICES, check, write_tables
    from jaxp2p.data.importers import import_source
    from jaxp2p.data.tables import require_free

    one_of(format, ("csv", "parquet"), option="--format")
    if source.price is not None:
        one_of(source.price, PRICES, option="--price")
    require_free(folder)  # before the work, not after it
    with user_input():
        try:
            whole = import_source(source.name, price=source.price or "tou", seed=source.seed)
        except ImportError as error:
            _missing(error)
        tables = choose_days(check(changed(whole, replace(source, price=None))), source)
        write_tables(tables, folder, format=format)  # type: ignore[arg-type]
    homes = tables.prosumers
    typer.echo(
        f"{tables.meta['name']}: {len(homes)} members on {len(tables.buses)} buses, "
        f"{(homes['pv_kw'] > 0).sum()} with PV or other plants, "
        f"{(homes['battery_kwh'] > 0).sum()} with batteries\n"
        f"written to {folder}: {', '.join(f'{name}.{format}' for name in tables.frames())}"
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
