"""The work behind the smaller commands: cases, export, check, verify, compare."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from jaxp2p.cli import places
from jaxp2p.cli.console import OK, VERIFICATION_FAILED, UsageError, one_of, user_input
from jaxp2p.cli.source import CASE_NAMES, Source, load

if TYPE_CHECKING:
    from jaxp2p.data import Tables


def cases() -> None:
    """Names and descriptions."""
    from jaxp2p.data import CASES, PRICES

    for name, text in CASES.items():
        typer.echo(f"{name:<8} {text}")
    typer.echo("\nA year (2016) of 15-minute slots each. Tariffs (--price), all synthetic:")
    for name, text in PRICES.items():
        typer.echo(f"  {name:<10} {text}")
    typer.echo("\nProfiles and grids of rural3 and rural1: SimBench (ODbL), see `jaxp2p check rural3`.")


def export(source: Source, folder: Path, *, format: str) -> None:
    """Write a case as a folder of tables."""
    from jaxp2p.data import write_tables

    one_of(format, ("csv", "parquet"), option="--format")
    one_of(source.name, CASE_NAMES, option="CASE")
    places.check_folder(folder, option="DIR")  # before the work, not after it
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"DIR: the folder {folder} is not empty")
    tables = load(source)
    write_tables(tables, folder, format=format)  # type: ignore[arg-type]
    typer.echo(f"written to {folder}: {', '.join(f'{name}.{format}' for name in tables.frames())}")


def columns() -> None:
    """The documentation of all columns."""
    from jaxp2p.data import describe_columns

    typer.echo(describe_columns())


def check(name: str) -> None:
    """Read, then say what was found; faults come as a UsageError that names all of them."""
    tables = load(Source(name=name, days=None))
    typer.echo("\n".join(summary_lines(tables)))


def summary_lines(tables: "Tables") -> list[str]:
    """What a community consists of, in a few lines."""
    from jaxp2p.data import absolute_series
    from jaxp2p.data.validation import slot_hours

    homes, buses, lines, meta = tables.prosumers, tables.buses, tables.lines, tables.meta
    time, hours = tables.profiles["time"], slot_hours(tables.profiles["time"])
    series = absolute_series(tables)
    days = len(time) * hours / 24
    load, pv = series.load_kw.sum() * hours, series.pv_kw.sum() * hours
    background = series.background_kw.sum() * hours
    battery = homes[(homes["battery_kwh"] > 0)]
    kinds = lines["kind"].value_counts()
    buy, sell = series.buy_eur_per_kwh, series.sell_eur_per_kwh
    rated = lines["s_max_kva"][lines["s_max_kva"] < float("inf")]
    facts = [
        ("members", f"{len(homes)} on {homes['bus_id'].nunique()} buses"),
        ("load", f"{load:,.0f} kWh ({load / days:,.0f} a day), peak {series.load_kw.sum(1).max():,.1f} kW"),
        ("PV", f"{(homes['pv_kw'] > 0).sum()} plants, {homes['pv_kw'].sum():,.1f} kW, {pv:,.0f} kWh"),
        (
            "batteries",
            f"{len(battery)}, {battery['battery_kwh'].sum():,.1f} kWh, "
            f"{battery['battery_discharge_kw'].sum():,.1f} kW",
        ),
        ("elastic", f"{(homes['load_flex_share'] > 0).sum()} members with elastic load"),
        ("buses", f"{len(buses)} at {', '.join(f'{v:g} kV' for v in sorted(buses['vn_kv'].unique()))}"),
        (
            "branches",
            ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in kinds.items())
            + (f", ratings {rated.min():,.0f} to {rated.max():,.0f} kVA" if len(rated) else ", unrated"),
        ),
        ("voltage", f"{buses['v_min_pu'].min():g} to {buses['v_max_pu'].max():g} p.u. allowed"),
        ("background", f"{background:,.0f} kWh on the buses besides the members"),
        ("time", f"{time.iloc[0]} to {time.iloc[-1]}, {len(time)} slots of {60 * hours:g} min"),
        (
            "prices",
            f"buy {buy.min():.3f} to {buy.max():.3f}, sell {sell.min():.3f} to {sell.max():.3f} EUR/kWh",
        ),
        ("trades", "none" if tables.trades is None else f"{len(tables.trades)} pairs"),
    ]
    facts += [(key, str(meta[key])) for key in ("source", "licence", "attribution") if meta.get(key)]
    if meta.get("synthetic"):
        facts.append(("synthetic", "; ".join(meta["synthetic"])))
    head = f"{meta.get('name', 'tables')}: no faults found"
    return [head, *(f"  {name:<12} {text}" for name, text in facts)]


def verify(
    source: Source,
    *,
    slots: int,
    market: str,
    partners: int,
    network: bool,
    solver: str,
    tolerance: float,
    dtype: str,
) -> int:
    """Compare random slots with an independent solver; returns the exit code."""
    from jaxp2p.cli.running import DTYPES, check_tolerance, use_dtype

    one_of(dtype, DTYPES, option="--dtype")
    use_dtype(dtype)
    from jaxp2p.community.build import MARKETS, build_community, build_horizon
    from jaxp2p.solvers import SOLVERS, choose_solver, scale_tolerances
    from jaxp2p.verification import verify as compare_slots

    one_of(market, MARKETS, option="--market")
    tables = load(source)
    check_tolerance(tolerance, dtype)
    one_of(solver, SOLVERS, option="--solver")
    with user_input():
        community = build_community(
            tables, market=market, partners=partners, seed=source.seed, network=network, dtype=dtype
        )
        horizon = build_horizon(community, tables)
        chosen = scale_tolerances(choose_solver(community, solver), tolerance)
    if slots > horizon.slots:
        raise UsageError(f"--slots: {slots} are asked for, {source.days:g} days have {horizon.slots}")
    report = compare_slots(community, horizon, slots=slots, seed=source.seed, solver=chosen)
    typer.echo(f"{source.name}: {slots} random slots, {market} market, {dtype}, against Clarabel\n")
    typer.echo(report.table.to_string(index=False, float_format=lambda value: f"{value:.2e}"))
    passed = int(report.table["passed"].sum())
    typer.echo(f"\n{passed} of {slots} slots passed")
    return OK if report.passed else VERIFICATION_FAILED


def compare(first: Path, second: Path, *, everything: bool) -> None:
    """Print the figures that differ."""
    from jaxp2p.results import compare_results, load_results

    with user_input():
        one, two = load_results(first), load_results(second)
    for key in ("case", "start", "slots", "market", "dtype", "seed", "version"):
        if one.summary.get(key) != two.summary.get(key):
            typer.echo(f"{key}: {one.summary.get(key)} | {two.summary.get(key)}")
    frame = compare_results(one, two)
    if not everything and len(frame):
        size = frame["difference"].abs().fillna(float("inf"))
        scale = frame["a"].map(lambda x: abs(x) if isinstance(x, float) else 0.0)
        frame = frame[(size > 1e-3 * scale) & (size > 1e-9) & (frame["figure"] != "ms_per_slot")]
    if frame.empty:
        typer.echo("no differences" if everything else "no differences beyond 0.1 %")
        return
    typer.echo(frame.to_string(index=False, float_format=lambda value: f"{value:,.4g}"))
