"""Results on disk: a folder of tables with one JSON summary, complete or not there at all.

    summary.json          version, case, slots, settings, seed, dtype, the figures of every policy
    kpis                  one row per policy, all figures
    members               one row per member: bus, devices, bill in EUR under every policy
    slots_<policy>        one row per slot: powers and energies of the community, prices, grid, solver
    stays_<policy>        where there are electric vehicles, one row per stay
    homes_<policy>        on request, one row per slot and member
    config.toml           of a command: all settings, to run it again

Tables are Parquet or CSV files. Columns carry their unit in the name.
"""

import csv
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import jax
import numpy as np
import pandas as pd

from jaxp2p import __version__
from jaxp2p.data.csv_files import EXACT
from jaxp2p.model.types import Community, Horizon
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

SUMMARY_FILE = "summary.json"
CONFIG_FILE = "config.toml"  # the settings that `jaxp2p run` and others make the results again with
PICTURES = "pictures"  # folder beside the tables
FORMATS = ("parquet", "csv")
MARK = "jaxp2p-results"  # value of "kind" in the summary: a folder that may be replaced

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


def json_text(content: Mapping[str, Any]) -> str:
    """JSON with null for NaN and infinities, numpy scalars as plain numbers."""
    return json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any]) -> Path:
    """Write JSON (null for NaN and infinities), as a whole file."""
    text = json_text(content)
    with whole_file(path) as file:
        file.write(text.encode("utf-8"))
    return Path(path)


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write into that takes the name `path` when the block ends well and is removed when it fails.

    It is written beside its final place, forced to disk and then renamed: whatever happens meanwhile, also a
    loss of power, `path` is the old file or the whole new one. Temporary names begin with `.NAME-`.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())  # mkstemp makes a private file; the result is an ordinary one
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    if os.name == "posix":  # the rename is on disk once the folder is; elsewhere a folder cannot be synced
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def check_target(path: str | os.PathLike[str], made_from: Mapping[str, Any] | None = None) -> Path:
    """The folder, if results may go there: it is absent, empty, or holds older results.

    With `made_from`, what the new results are made from, older ones must have been made from the same.

    Raises:
        FileExistsError: something else is there that must not be lost.
    """
    target = Path(path)
    if made_from is not None and (lines := differences(target, made_from)):
        raise FileExistsError(
            f"the folder {target} holds results made from something else; choose another folder, or have "
            "them replaced (--replace):\n  " + "\n  ".join(lines)
        )
    if target.exists() and not target.is_dir():
        raise FileExistsError(f"{target} exists and is not a folder")
    foreign = _foreign(target) if target.is_dir() else []
    if foreign:
        shown = ", ".join(foreign[:5]) + (", ..." if len(foreign) > 5 else "")
        raise FileExistsError(f"the folder {target} holds something else than results of jaxp2p: {shown}")
    return target


def differences(path: str | os.PathLike[str], made_from: Mapping[str, Any]) -> list[str]:
    """In what the results in the folder were made from something else, a line each; empty without results."""
    summary = _summary(Path(path))
    if summary is None:
        return []
    old, new = summary.get("made_from"), _plain(made_from)
    if not isinstance(old, dict):
        return ["they do not say what they were made from"]
    changed = [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]
    return [f"{name}: {old.get(name)}, now {new.get(name)}" for name in changed]


@contextmanager
def results_folder(
    path: str | os.PathLike[str], made_from: Mapping[str, Any] | None = None
) -> Iterator[Path]:
    """A fresh folder to write into, moved to `path` when the block ends well, removed when it fails.

    Older results at `path` stay until then. Raises FileExistsError as `check_target` does.
    """
    target = check_target(path, made_from)
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        fresh.chmod(0o777 & ~_umask())
        yield fresh
        check_target(target, made_from)
        _replace(fresh, target)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


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
    config: str | None = None,
) -> list[Path]:
    """Write `gathered`, with its arguments, into an existing folder; returns the files.

    made_from: the input and the settings that decide the numbers (only results with the same take this
    folder's place); config: the text of a file of settings that makes the results again. Raises ValueError
    for an unknown format.
    """
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}: choose from {', '.join(FORMATS)}")
    found = gathered(
        community, horizon, run, evaluations, time=time, case=case, homes=homes, time_zone=time_zone
    )
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
) -> Results:
    """All tables and the summary of a run.

    run is a `jaxp2p.runs.runner.Run`, time (T,) the starts of the slots, homes True adds one row per slot and
    member (large), time_zone is that of the tables, whose times are then in UTC.
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
    summary = _summary(folder)
    if summary is None:
        raise ValueError(f"{file} is not a summary of jaxp2p results")
    if "kpis" not in summary["tables"]:
        raise ValueError(f"{folder} holds {', '.join(summary['tables'])}, and no figures of a run")
    suffix = summary["format"]
    missing = [name for name in summary["tables"] if not (folder / f"{name}.{suffix}").is_file()]
    if missing:
        raise FileNotFoundError(f"{folder} lacks the tables {', '.join(missing)}")
    tables = {name: _read_table(folder / f"{name}.{suffix}") for name in summary["tables"]}
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


def write_table(frame: pd.DataFrame, file: Path) -> Path:
    """Parquet or CSV, by the ending of the file's name."""
    if file.suffix == ".parquet":
        frame.to_parquet(file, index=False)
    else:
        frame.to_csv(file, index=False, encoding="utf-8", lineterminator="\n")
    return file


# never numbers: 0012 and 12 are two members
TEXT = ("policy", "member", "seller", "buyer", "bus", "status", "binding_row", "vehicle_id", "prosumer_id")
TIMES = ("time", "arrival", "departure")


def _read_table(file: Path) -> pd.DataFrame:
    if file.suffix == ".parquet":
        return pd.read_parquet(file)
    with open(file, encoding="utf-8", newline="") as lines:
        names = next(csv.reader(lines))
    empty = {name: [] if name in TEXT else [""] for name in names}  # an id may read NA or nan
    frame = pd.read_csv(
        file,
        encoding="utf-8",
        dtype=dict.fromkeys(TEXT, str),
        keep_default_na=False,
        na_values=empty,
        **EXACT,
    )
    for name in frame.columns.intersection(TIMES):
        frame[name] = pd.to_datetime(frame[name], format="ISO8601")
    return frame


def _summary(folder: Path) -> dict[str, Any] | None:
    """The summary of a results folder, None for any other folder."""
    try:
        content = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and content.get("kind") == MARK else None


def _foreign(folder: Path) -> list[str]:
    """Names in the folder that no results of ours would have there."""
    present = sorted(entry.name for entry in folder.iterdir())
    summary = _summary(folder)
    if summary is None:
        return present
    own = {f"{name}.{summary['format']}" for name in summary["tables"]}
    own |= {SUMMARY_FILE, CONFIG_FILE, PICTURES, *summary.get("files", ())}
    return [name for name in present if name not in own]


def _plain(value: Any) -> Any:
    """Numpy to Python, NaN and infinities to None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if value is None:
        return None
    # bytes of a file name that are no text are spelt out; no file could be written with them
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


def _replace(fresh: Path, target: Path) -> None:
    """Rename; older results step aside first and come back if that fails."""
    if not target.exists():
        fresh.rename(target)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    target.rename(aside / "content")
    try:
        fresh.rename(target)
    except BaseException:
        (aside / "content").rename(target)
        aside.rmdir()
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
