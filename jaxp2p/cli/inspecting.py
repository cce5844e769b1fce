"""The work behind the smaller commands: cases, export, check, verify, compare."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from jaxp2p.cli import places
from jaxp2p.cli.console import OK, UNSOLVED, VERIFICATION_FAILED, UsageError, user_input
from jaxp2p.cli.outputs import NewTables
from jaxp2p.cli.source import CASE_NAMES, Source, load, require_days, say_remarks
from jaxp2p.settings.fields import REQUIRED, again, argument, one_of, setting
from jaxp2p.settings.model import Grid, Numbers, SlotSolver, Trading
from jaxp2p.settings.source import Reading

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from jaxp2p.data import Tables


CHECKED_DAYS = 28  # at a time: what is kept in memory of the data


def cases() -> None:
    """Names and descriptions."""
    from jaxp2p.data import CASES, PRICES

    for name, text in CASES.items():
        typer.echo(f"{name:<8} {text}")
    typer.echo("\nA year (2016) of 15-minute slots each. Tariffs (`jaxp2p run --price`), all synthetic:")
    for name, text in PRICES.items():
        typer.echo(f"  {name:<10} {text}")
    typer.echo("\nProfiles and grids of rural3 and rural1: SimBench (ODbL), see `jaxp2p check rural3`.")


@dataclass(frozen=True, kw_only=True)
class ExportOptions(NewTables):
    """What `jaxp2p export` is told that other commands are not, or not so."""

    name: str = argument(REQUIRED, "rural3, rural1 or ieee33.", "CASE")
    folder: Path = again(NewTables, "folder", default=REQUIRED)


def export(source: Source, options: ExportOptions) -> None:
    """Write a case as a folder of tables."""
    from jaxp2p.data import write_tables

    require_days(source)
    folder, format = options.folder, options.format
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


@dataclass(frozen=True, kw_only=True)
class CheckOptions(Reading):
    """Everything `jaxp2p check` can be told."""

    name: str | None = argument(None, "A folder of tables, or the name of a case.", "[DIR]")
    columns: bool = setting(False, "Explain every table and column, with unit and default.")


def check(options: CheckOptions) -> None:
    """Explain columns, or read, then say what was found; faults come as a UsageError that names them all."""
    if options.columns:
        columns()
    if options.name is None:
        if not options.columns:
            raise UsageError("name a folder to check, or ask for --columns")
        return
    tables = load(Source(name=options.name, days=None, accept=options.accept, time_zone=options.time_zone))
    typer.echo("\n".join(summary_lines(tables)))
    for text in (*map(str, tables.remarks), *limit_remarks(tables)):
        typer.echo(f"remark: {text}")


def limit_remarks(tables: "Tables") -> list[str]:
    """Limits of the grid that no dispatch can keep, over all of the data, four weeks at a time."""
    import pandas as pd

    from jaxp2p.data import window
    from jaxp2p.model.build import build_community, build_horizon
    from jaxp2p.model.limits import impossible_limits, merged, summary

    community = build_community(tables, market="none", network=False)
    time = tables.profiles["time"]
    step = time.iloc[1] - time.iloc[0]
    slots = max(2, round(pd.Timedelta(days=CHECKED_DAYS) / step))
    starts = list(range(0, len(time), slots))
    if len(starts) > 1 and len(time) - starts[-1] < 2:
        starts.pop()  # one slot alone has no length
    parts = []
    for first, last in zip(starts, [*starts[1:], len(time)], strict=True):
        days = (last - first) * step / pd.Timedelta(days=1)
        part = window(tables, start=time.iloc[first].tz_localize("UTC"), days=days)
        parts.append((first, impossible_limits(community, build_horizon(community, part))))
    return summary(merged(parts, len(time)))


def summary_lines(tables: "Tables") -> list[str]:
    """What a community consists of, in a few lines."""
    from jaxp2p.data.blocks import total_of
    from jaxp2p.data.loading import span_text
    from jaxp2p.data.validation import slot_hours

    homes, buses, lines, meta = tables.prosumers, tables.buses, tables.lines, tables.meta
    time, hours = tables.profiles["time"], slot_hours(tables.profiles["time"])
    days = len(time) * hours / 24

    def total(owners: "pd.DataFrame", use: str, column: str, *, absent: float = 0.0) -> "np.ndarray":
        return total_of(tables.profiles, owners[f"{use}_profile"], owners[column], absent=absent)

    load_kw, pv_kw = total(homes, "load", "load_kw"), total(homes, "pv", "pv_kw")
    background_kw = total(buses, "background", "background_kw", absent=1.0)
    load, pv, background = (float(power.sum()) * hours for power in (load_kw, pv_kw, background_kw))
    battery = homes[(homes["battery_kwh"] > 0)]
    stays = tables.ev_sessions
    kinds = lines["kind"].value_counts()
    buy, sell = tables.prices["buy_eur_per_kwh"], tables.prices["sell_eur_per_kwh"]
    rated = lines["s_max_kva"][lines["s_max_kva"] < float("inf")]
    vehicles = [] if stays is None or stays.empty else [("vehicles", _vehicles(stays))]
    facts = [
        ("members", f"{len(homes)} on {homes['bus_id'].nunique()} buses"),
        ("load", f"{load:,.0f} kWh ({load / days:,.0f} a day), peak {load_kw.max():,.1f} kW"),
        ("PV", f"{(homes['pv_kw'] > 0).sum()} plants, {homes['pv_kw'].sum():,.1f} kW, {pv:,.0f} kWh"),
        (
            "batteries",
            f"{len(battery)}, {battery['battery_kwh'].sum():,.1f} kWh, "
            f"{battery['battery_discharge_kw'].sum():,.1f} kW",
        ),
        *vehicles,
        ("elastic", f"{(homes['load_flex_share'] > 0).sum()} members with elastic load"),
        ("buses", f"{len(buses)} at {', '.join(f'{v:g} kV' for v in sorted(buses['vn_kv'].unique()))}"),
        (
            "branches",
            (
                ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in kinds.items())
                or "none"
            )
            + (
                f", ratings {rated.min():,.0f} to {rated.max():,.0f} kVA"
                if len(rated)
                else ", unrated" * bool(len(lines))
            ),
        ),
        ("voltage", f"{buses['v_min_pu'].min():g} to {buses['v_max_pu'].max():g} p.u. allowed"),
        ("background", f"{background:,.0f} kWh on the buses besides the members"),
        ("time", f"{span_text(tables)}, {len(time)} slots of {60 * hours:g} min"),
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


def _vehicles(stays: "pd.DataFrame") -> str:
    fleet = stays.drop_duplicates("vehicle_id")
    returning = stays.loc[stays["discharge_kw"] > 0, "vehicle_id"].nunique()
    return (
        f"{len(fleet)} of {fleet['prosumer_id'].nunique()} members, {fleet['battery_kwh'].sum():,.1f} kWh, "
        f"{returning} with vehicle-to-home, {len(stays):,} stays"
    )


@dataclass(frozen=True, kw_only=True)
class VerifyOptions(Numbers, SlotSolver, Grid, Trading):
    """Everything `jaxp2p verify` can be told besides the source."""

    slots: int = setting(20, "Number of random slots.", least=1)


def verify(source: Source, options: VerifyOptions) -> int:
    """Compare random slots with an independent solver; returns the exit code."""
    from jaxp2p.cli.running import check_tolerance, say_impossible
    from jaxp2p.model.chosen import build_both, use_dtype

    use_dtype(options.dtype)
    from jaxp2p.runs.verification import check_size
    from jaxp2p.runs.verification import verify as compare_slots
    from jaxp2p.slot.solvers import choose_solver, scale_tolerances

    check_tolerance(options.tolerance, options.dtype)
    tables = load(source)
    say_remarks(tables)
    with user_input():
        community, horizon = build_both(tables, options, seed=source.seed)
        check_size(community)
        solver = scale_tolerances(choose_solver(community, options.solver), options.tolerance)
    if options.network:
        say_impossible(community, horizon)
    if options.slots > horizon.slots:
        raise UsageError(f"--slots: {options.slots} are asked for, {source.days:g} days have {horizon.slots}")
    report = compare_slots(community, horizon, slots=options.slots, seed=source.seed, solver=solver)
    typer.echo(
        f"{source.name}: {options.slots} random slots, {options.market} market, {options.dtype}, "
        "against Clarabel\n"
    )
    typer.echo(_verify_text(report.table))
    return _verify_verdict(report.table)


def _verify_text(table: Any) -> str:
    """The table; a slot without a reference says so, and has no figures to be compared."""
    passed = {True: "yes", False: "no"}
    shown = table.assign(passed=[passed.get(value, "no reference") for value in table["passed"]])
    return shown.to_string(index=False, na_rep="-", float_format=lambda value: f"{value:.2e}")


def _verify_verdict(table: Any) -> int:
    """The exit code, its reason on stderr: slots that fail go before slots that nothing can be said of."""
    failed, unknown = table[table["passed"] == False], table[table["passed"].isna()]  # noqa: E712
    judged = len(table) - len(unknown)
    typer.echo(f"\n{judged - len(failed)} of {judged} slots passed")
    if len(failed):
        ended = ", ".join(f"{slot} ({status})" for slot, status in failed[["slot", "status"]].to_numpy())
        typer.echo(
            f"warning: slots that differ from the reference by more than the pass rule allows: {ended}; "
            f"exit code {VERIFICATION_FAILED}",
            err=True,
        )
    if len(unknown):
        ended = ", ".join(f"{slot} ({said})" for slot, said in unknown[["slot", "reference"]].to_numpy())
        code = "" if len(failed) else f"; exit code {UNSOLVED}"
        typer.echo(
            f"warning: slots that the reference solver did not solve, so not judged: {ended}{code}", err=True
        )
    if len(failed):
        return VERIFICATION_FAILED
    return UNSOLVED if len(unknown) else OK


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """Everything `jaxp2p compare` can be told."""

    first: Path = argument(REQUIRED, "Results of one run.", "DIR")
    second: Path = argument(REQUIRED, "Results of another run.", "DIR")
    everything: bool = setting(
        False, "Also figures that differ by less than 0.1 %, and run times.", spelling=("--all",)
    )


def compare(options: CompareOptions) -> None:
    """Print the figures that differ."""
    from jaxp2p.report.results import compare_results, load_results

    with user_input():
        one, two = load_results(options.first), load_results(options.second)
    for key in ("case", "start", "slots", "market", "dtype", "seed", "version"):
        if one.summary.get(key) != two.summary.get(key):
            typer.echo(f"{key}: {one.summary.get(key)} | {two.summary.get(key)}")
    frame = compare_results(one, two)
    if not options.everything and len(frame):
        size = frame["difference"].abs().fillna(float("inf"))
        scale = frame["a"].map(lambda x: abs(x) if isinstance(x, float) else 0.0)
        timed = frame["figure"].isin(("ms_per_slot", "realtime_factor"))
        frame = frame[(size > 1e-3 * scale) & (size > 1e-9) & ~timed]
    if frame.empty:
        typer.echo("no differences" if options.everything else "no differences beyond 0.1 %")
        return
    typer.echo(frame.to_string(index=False, float_format=lambda value: f"{value:,.4g}"))
