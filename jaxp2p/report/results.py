"""Results on disk: a folder of tables with one JSON summary, complete or not there at all.

    summary.json          version, case, slots, settings, seed, dtype, the figures of every policy
    kpis                  one row per policy, all figures
    members               one row per member: bus, devices, bill in EUR under every policy
    slots_<policy>        one row per slot: powers and energies of the community, prices, grid, solver
    stays_<policy>        where there are electric vehicles, one row per stay
    homes_<policy>        on request, one row per slot and member
    trades_<policy>       with it: one row per slot and trade
    limits_<policy>       with it: one row per slot and limit of the grid that had a price
    buses, branches       with it: places, limits and ends of the feeder's parts
    buses_<policy>        with it: one row per slot and bus, the voltage in AC
    branches_<policy>     with it: one row per slot and branch, the loading in AC
    config.toml           of a command: all settings, to run it again

Tables are Parquet or CSV files. Columns carry their unit in the name.
"""

import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import pandas as pd

from jaxp2p import __version__
from jaxp2p.model.types import Community, Horizon
from jaxp2p.report.feeder_tables import feeder_tables
from jaxp2p.report.files import read_table, whole_file, write_json, write_table
from jaxp2p.report.folders import CONFIG_FILE, MARK, SUMMARY_FILE, results_folder, summary_in
from jaxp2p.report.frames import (
    home_table,
    kpi_table,
    limit_table,
    member_table,
    slot_table,
    stay_table,
    trade_table,
)
from jaxp2p.report.kpis import Evaluation

FORMATS = ("parquet", "csv")

JSON_FIGURES = (
    "cost_eur",
    "unserved_cost_eur",
    "violation_cost_eur",
    "total_cost_eur",
    "saving_eur",
    "capture",
    "p2p_kwh",
    "self_sufficiency",
    "unserved_kwh",
    "spilled_kwh",
    "soc_violation_kwh",
    "voltage_violation_pu",
    "line_violation_kw",
    "ac_voltage_violation_pu",
    "ac_loading_violation_pct",
    "ac_slots_violated",
    "ac_losses_kwh",
    "losses_eur",
    "balance_error_kw",
    "status_counts",
    "gap_eur",
    "iterations_median",
    "iterations_p95",
    "ms_per_slot",
)
EV_FIGURES = (  # these only where there are electric vehicles
    "ev_stays",
    "ev_charged_kwh",
    "ev_discharged_kwh",
    "ev_shortfall_kwh",
    "ev_unavoidable_kwh",
    "ev_missed_stays",
)


@dataclass(frozen=True, kw_only=True)
class Results:
    """A results folder in memory: its summary, and its tables by name."""

    summary: dict[str, Any]
    tables: dict[str, pd.DataFrame]

    @property
    def kpis(self) -> pd.DataFrame:
        """One row per policy, indexed by its name."""
        return self.tables["kpis"].set_index("policy")


def json_report(
    community: Community, horizon: Horizon, run: Any, evaluations: Mapping[str, Evaluation], *, case: str
) -> dict[str, Any]:
    """What `--json` writes: a short, stable summary of a `jaxp2p.runs.runner.Run`."""
    figures = JSON_FIGURES if community.prosumers.vehicles is None else JSON_FIGURES + EV_FIGURES
    return {
        "version": __version__,
        "case": case,
        "slots": int(horizon.slots),
        "prosumers": int(community.size),
        "buses": int(community.network.voltage_min.shape[0]),
        "dtype": str(np.asarray(horizon.load).dtype),
        "policies": {
            name: {figure: evaluation.kpis.get(figure) for figure in figures}
            for name, evaluation in evaluations.items()
        },
        "perfect_foresight_eur": run.perfect_foresight_eur,
        "lower_bound_eur": run.lower_bound_eur,
        "perfect_foresight_reasons": list(run.perfect_foresight_reasons),
        "end_value_eur_per_kwh": run.terminal_price,
        "unserved_price_eur_per_kwh": run.unserved_price,
        "row_price_eur_per_kwh": run.row_price,
    }


def save_results(
    path: str | os.PathLike[str],
    community: Community,
    horizon: Horizon,
    run: Any,
    evaluations: Mapping[str, Evaluation],
    *,
    replace: bool = False,
    **options: Any,
) -> Path:
    """`write_results` into a folder that is complete or not there; arguments as there.

    Older results are replaced where they were made from the same case, community, slots and settings, and
    with `replace`; others raise FileExistsError.
    """
    record = {"input": options.get("case"), "contents": _digest(community, horizon)}
    record |= dict(options.get("settings") or {})
    with results_folder(path, None if replace else record) as folder:
        write_results(folder, community, horizon, run, evaluations, **({"made_from": record} | options))
    return Path(path)


def _digest(*trees: Any) -> str:
    """Of all arrays in the trees: short, and equal only for equal contents."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(trees):
        values = np.asarray(leaf)
        digest.update(f"{values.dtype}{values.shape}".encode() + np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()[:16]


def write_results(
    folder: Path,
    community: Community,
    horizon: Horizon,
    run: Any,
    evaluations: Mapping[str, Evaluation],
    *,
    time: pd.Series,
    case: str,
    settings: Mapping[str, Any] | None = None,
    made_from: Mapping[str, Any] | None = None,
    seed: int | None = None,
    format: Literal["parquet", "csv"] = "parquet",
    homes: bool = False,
    time_zone: str | None = None,
    coordinates: np.ndarray | None = None,
    config: str | None = None,
) -> list[Path]:
    """Write `gathered`, with its arguments, into an existing folder; returns the files.

    made_from: the input and the settings that decide the numbers (only results with the same take this
    folder's place); config: the text of a file of settings that makes the results again. Raises ValueError
    for an unknown format.
    """
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}: choose from {', '.join(FORMATS)}")
    where = {"time": time, "time_zone": time_zone, "coordinates": coordinates}
    found = gathered(community, horizon, run, evaluations, case=case, homes=homes, **where)
    files = [write_table(frame, folder / f"{name}.{format}") for name, frame in found.tables.items()]
    summary = found.summary | {
        "seed": seed,
        "settings": dict(settings or {}),
        "made_from": None if made_from is None else dict(made_from),
        "format": format,
    }
    if config is not None:
        with whole_file(folder / CONFIG_FILE) as stream:
            stream.write(config.encode())
        files.append(folder / CONFIG_FILE)
    return [*files, write_json(folder / SUMMARY_FILE, summary)]


def gathered(
    community: Community,
    horizon: Horizon,
    run: Any,
    evaluations: Mapping[str, Evaluation],
    *,
    time: pd.Series,
    case: str,
    homes: bool = False,
    time_zone: str | None = None,
    coordinates: np.ndarray | None = None,
) -> Results:
    """All tables and the summary of a run.

    run is a `jaxp2p.runs.runner.Run`, time (T,) the starts of the slots, homes True adds one row per slot and
    member, bus and branch (large), time_zone is that of the tables, whose times are then in UTC, coordinates
    (B, 2) say where the buses are.
    """
    tables = {"kpis": kpi_table(evaluations), "members": member_table(community, evaluations)}
    for name, trajectory in run.trajectories.items():
        tables[f"slots_{name}"] = slot_table(
            community, horizon, trajectory, evaluations[name], time, run.row_names
        )
        if (stays := evaluations[name].stays) is not None:
            tables[f"stays_{name}"] = stay_table(community, stays, time)
        if homes:
            if trajectory.row_price is not None:
                tables[f"limits_{name}"] = limit_table(community, trajectory, time)
            if trajectory.trades is not None:
                tables[f"trades_{name}"] = trade_table(community, trajectory, time)
            tables[f"homes_{name}"] = home_table(community, horizon, trajectory, evaluations[name].grid, time)
    if homes:
        tables |= feeder_tables(community, evaluations, time, coordinates)
    market = community.market
    fees = np.unique(np.asarray(market.fee, float)[np.asarray(market.limit) > 0])
    summary = {
        "kind": MARK,
        **json_report(community, horizon, run, evaluations, case=case),
        "start": str(time.iloc[0]),
        "time_zone": time_zone,
        "slot_minutes": 60 * float(horizon.slot_hours),
        "market": market.kind,
        # None: trades have fees of their own
        "trade_fee_eur_per_kwh": None if len(fees) > 1 else float(fees.sum()),
        "perfect_foresight_is_bound": run.perfect_foresight_is_bound,
        "foresight_left_out": getattr(run, "left_out", ""),
        "limits_in_market": len(run.row_names),
        "certificate": run.certificate,
        "compile_seconds": run.compile_seconds,
        "seconds": dict(run.seconds),
        "kpis": {name: evaluation.kpis for name, evaluation in evaluations.items()},
        "tables": sorted(tables),
    }
    return Results(summary=summary, tables=tables)


def load_results(path: str | os.PathLike[str]) -> Results:
    """Read a folder that `save_results` wrote.

    Raises:
        FileNotFoundError: the folder or its summary is missing.
        ValueError: the folder holds something else.
    """
    folder = Path(path)
    file = folder / SUMMARY_FILE
    if not file.is_file():
        raise FileNotFoundError(f"{folder} holds no results: there is no {SUMMARY_FILE}")
    summary = summary_in(folder)
    if summary is None:
        raise ValueError(f"{file} is not a summary of jaxp2p results")
    if "kpis" not in summary["tables"]:
        raise ValueError(f"{folder} holds {', '.join(summary['tables'])}, and no figures of a run")
    suffix = summary["format"]
    missing = [name for name in summary["tables"] if not (folder / f"{name}.{suffix}").is_file()]
    if missing:
        raise FileNotFoundError(f"{folder} lacks the tables {', '.join(missing)}")
    tables = {name: read_table(folder / f"{name}.{suffix}") for name in summary["tables"]}
    return Results(summary=summary, tables=tables)


def compare_results(a: str | os.PathLike[str] | Results, b: str | os.PathLike[str] | Results) -> pd.DataFrame:
    """Figures that differ between two results: columns policy, figure, a, b, difference (b - a).

    Policies that only one of the two has are listed with an empty figure.
    """
    first, second = (x if isinstance(x, Results) else load_results(x) for x in (a, b))
    one, two = first.kpis, second.kpis
    rows: list[dict[str, Any]] = []
    for policy in dict.fromkeys([*one.index, *two.index]):
        if policy not in one.index or policy not in two.index:
            where = ("missing", "present") if policy not in one.index else ("present", "missing")
            rows.append(
                {"policy": policy, "figure": "", "a": where[0], "b": where[1], "difference": math.nan}
            )
            continue
        for figure in [name for name in one.columns if name in two.columns]:
            left, right = one.at[policy, figure], two.at[policy, figure]
            if left == right or (pd.isna(left) and pd.isna(right)):
                continue
            numbers = not isinstance(left, str) and not isinstance(right, str)
            gap = float(right) - float(left) if numbers else math.nan
            rows.append({"policy": policy, "figure": figure, "a": left, "b": right, "difference": gap})
    return pd.DataFrame(rows, columns=["policy", "figure", "a", "b", "difference"])
