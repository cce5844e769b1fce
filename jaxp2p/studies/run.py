"""A study: policies on many scenarios of a community, and what every scenario cost."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax import Array
from jax.sharding import Mesh

from jaxp2p.control.catalogue import REFERENCE
from jaxp2p.control.policy import AnyPolicy, Penalties
from jaxp2p.control.tuned import TunedValue
from jaxp2p.hindsight.perfect_foresight import perfect_foresight
from jaxp2p.model.devices import begun
from jaxp2p.model.match import require_match
from jaxp2p.model.network import ac_violated, on_host
from jaxp2p.model.types import Community, Horizon
from jaxp2p.report.kpis import UNSOLVED
from jaxp2p.runs.in_hindsight import check_foresight
from jaxp2p.runs.runner import (
    check_end_value,
    make_policies,
    penalties_of,
    policy_names,
    sorted_out,
    suggest_terminal_price,
    tuned_policy,
)
from jaxp2p.scenarios.model import ScenarioModel, materialise, scenario_key, slots_of_scenario
from jaxp2p.simulation.accounting import unserved_power
from jaxp2p.simulation.flows import power_flow_of
from jaxp2p.slot.solvers import Solver, choose_solver, scale_tolerances
from jaxp2p.slot.status import Status
from jaxp2p.studies.engine import Batch, Task, run_batch
from jaxp2p.studies.schedule import ChunkResult
from jaxp2p.studies.statistics import StudyStatistics, study_statistics
from jaxp2p.studies.summary import Circumstances, Series, summarise

TRACED = 128  # scenarios whose slots are kept, the first ones: enough for the quantile fans

Told = Callable[[str, int], None]  # policy, scenario-slots done with it


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """Everything that the chunks of a study have in common.

    Made by `make_study`. Perfect foresight is solved for the first `foresight_sample` scenarios.
    """

    community: Community
    horizon: Horizon  # what the scenarios are made from
    model: ScenarioModel
    policies: dict[str, AnyPolicy | None]  # in order; None: perfect foresight
    penalties: Penalties
    solver: Solver
    key: Array
    slots: int
    first_slot_of_week: int
    terminal_price: float  # EUR/kWh of stored energy at the end
    foresight_sample: int
    engine: str | None = None
    lanes: int | None = None
    mesh: Mesh | None = None

    def task(self, policy: AnyPolicy) -> Task:
        """What the batch engine takes."""
        return Task(
            community=self.community,
            horizon=self.horizon,
            model=self.model,
            penalties=self.penalties,
            policy=policy,
            solver=self.solver,
            key=self.key,
            first_slot_of_week=jnp.asarray(self.first_slot_of_week, jnp.int32),
            slots=self.slots,
        )


def make_study(
    community: Community,
    horizon: Horizon,
    *,
    model: ScenarioModel | None = None,
    policies: Sequence[str | Mapping[str, AnyPolicy]] | None = None,
    slots: int | None = None,
    seed: int = 0,
    solver: Solver | None = None,
    first_slot_of_week: int = 0,
    terminal_price: float | None = None,
    unserved_price: float | None = None,
    foresight_sample: int = 8,
    engine: str | None = None,
    lanes: int | None = None,
    mesh: Mesh | None = None,
    controller: TunedValue | None = None,
) -> Study:
    """A study of the policies; scenarios of `slots` slots are drawn by `model` from the horizon.

    Policy parameters, penalties and the terminal price (as in `jaxp2p.run` where they are not given)
    follow from the tariffs of the horizon, the same for every scenario. A tuned `controller` runs last, as
    the policy "tuned"; it counts first_slot_of_week from midnight of a Monday, and the days of every scenario
    from there, whatever days they are drawn from.
    Raises ValueError for unknown policies, where scenarios cannot be that long, for a controller made for
    another slot length, for prices that cannot be, and for a network too large for perfect foresight.
    """
    require_match(community, horizon)
    usual = policy_names(community)
    names, given = sorted_out(usual if policies is None else policies, usual)
    model = model or ScenarioModel(effects=())
    slots = horizon.slots if slots is None else slots
    limit = slots_of_scenario(model, horizon)
    if slots < 1 or (limit is not None and slots > limit):
        raise ValueError(f"a scenario of {slots} slots cannot be made from {horizon.slots}: use bootstrap")
    known, own = make_policies(community, horizon), tuned_policy(controller, horizon)
    check_end_value(terminal_price)
    check_foresight(names if foresight_sample else (), community, "on")
    if terminal_price is None:
        terminal_price = suggest_terminal_price(community, horizon)
    return Study(
        community=community,
        horizon=horizon,
        model=model,
        policies={**{name: (known | given).get(name) for name in names}, **own},
        penalties=penalties_of(horizon, unserved_price),
        solver=solver or choose_solver(community),
        key=jax.random.key(seed),
        slots=slots,
        first_slot_of_week=first_slot_of_week,
        terminal_price=terminal_price,
        foresight_sample=foresight_sample,
        engine=engine,
        lanes=lanes,
        mesh=mesh,
    )


def run_chunk(
    study: Study, first: int, count: int, *, width: int | None = None, told: Told | None = None
) -> ChunkResult:
    """Scenarios first to first + count - 1 under every policy.

    width: batch size on the device, at least `count`; fixed, so that one program serves a last, smaller chunk
    as well. Rows that are only there to fill it are thrown away.
    """
    width = max(width or count, count)
    devices = 1 if study.mesh is None else study.mesh.size
    width = -(-width // devices) * devices
    numbers = np.minimum(np.arange(first, first + width), first + count - 1).astype(np.int32)
    hours = float(study.horizon.slot_hours)
    tables, traces = [], []
    counters = {"made": 0.0, "useful": 0.0, "slots": 0.0, "seconds": 0.0}
    counters["compile_seconds"] = _compile(study, numbers)
    for name, policy in study.policies.items():
        begin = time.perf_counter()
        if policy is None:
            sample = range(first, min(first + count, study.foresight_sample))
            rows = [_foresee(study, number) for number in sample]
            if not rows:
                continue
            series = Series(*(np.stack(x) for x in zip(*(row[0] for row in rows), strict=True)))
            start, chosen = np.array([row[1] for row in rows]), np.array(sample)
        else:
            batch = _batch(study, study.task(policy), numbers)
            series = Series(*(np.asarray(x)[:count] for x in batch.series))
            start, chosen = np.asarray(batch.start_kwh, float)[:count], np.arange(first, first + count)
            counters["made"] += float(batch.steps_made.sum())
            counters["useful"] += float(batch.steps_useful.sum())
            counters["slots"] += count * study.slots
            counters["seconds"] += time.perf_counter() - begin
        frame = _figures(series, start + _begun(study), hours, study.terminal_price)
        frame.insert(0, "policy", name)
        frame.insert(0, "scenario", chosen)
        tables.append(frame)
        kept = chosen < TRACED
        if kept.any():
            traces.append(_traces(Series(*(x[kept] for x in series)), chosen[kept], name))
        if told is not None:
            told(name, len(chosen) * study.slots)
    kpis = _savings(pd.concat(tables, ignore_index=True))
    return ChunkResult(
        kpis=kpis, traces=pd.concat(traces, ignore_index=True) if traces else None, counters=counters
    )


_compiled: WeakKeyDictionary[Study, set[int]] = WeakKeyDictionary()  # batch sizes


def _compile(study: Study, numbers: np.ndarray) -> float:
    """Seconds that it took to compile the programs of this batch size, 0 where they were there already.

    Tolerances and limits are leaves: see `simulation.forward.compile_pieces`.
    """
    sizes = _compiled.setdefault(study, set())
    # one program serves all policies of a structure; a tuned one and anybody's own have theirs
    online = [policy for policy in study.policies.values() if policy is not None]
    programs = {jax.tree.structure(policy): policy for policy in online}
    if not programs or len(numbers) in sizes:
        return 0.0
    begin = time.perf_counter()
    for policy in programs.values():
        task, network = study.task(policy), study.community.network
        free = replace(study.community, network=network.unlimited())
        loose = scale_tolerances(task.solver, jnp.inf)
        _batch(study, replace(task, community=free, solver=loose), numbers)
    sizes.add(len(numbers))
    return time.perf_counter() - begin


def _batch(study: Study, task: Task, numbers: np.ndarray) -> Batch:
    """The batch on the host."""
    options = {"engine": study.engine, "lanes": study.lanes, "mesh": study.mesh}
    return jax.device_get(run_batch(task, jnp.asarray(numbers), **options))


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """A finished study in memory: a row per scenario and policy, the first slots, the statistics."""

    kpis: pd.DataFrame
    traces: pd.DataFrame | None
    statistics: StudyStatistics
    wasted_share: float  # of the solver's iterations, on scenarios that were already done


def run_study(
    study: Study, scenarios: int, *, chunk: int = 512, told: Callable[[int, int], None] | None = None
) -> StudyResult:
    """Run scenarios 0 to scenarios - 1 in this process, in memory; `told` hears of finished scenarios.

    For studies that must survive an interruption, and for many machines, see `jaxp2p study --help`.
    """
    chunk = min(chunk, scenarios)
    results = []
    for first in range(0, scenarios, chunk):
        results.append(run_chunk(study, first, min(chunk, scenarios - first), width=chunk))
        if told is not None:
            told(min(first + chunk, scenarios), scenarios)
    kpis = pd.concat([result.kpis for result in results], ignore_index=True)
    traces = [result.traces for result in results if result.traces is not None]
    figures = [column for column in kpis if column not in ("scenario", "policy")]

    def read(figure: str) -> dict[str, np.ndarray]:
        return {str(name): rows[figure].to_numpy(float) for name, rows in kpis.groupby("policy", sort=False)}

    made, useful = (sum(result.counters[name] for result in results) for name in ("made", "useful"))
    return StudyResult(
        kpis=kpis,
        traces=pd.concat(traces, ignore_index=True) if traces else None,
        statistics=study_statistics(read, figures),
        wasted_share=1 - useful / made if made else 0.0,
    )


def _begun(study: Study) -> float:
    """kWh that the vehicles plugged in at the end came with: what they have more is gained."""
    plugs = study.horizon.plugs
    if plugs is None:
        return 0.0
    return float(np.sum(begun(jax.tree.map(lambda x: np.asarray(x[: study.slots], float), plugs))))


def _figures(series: Series, start_kwh: np.ndarray, hours: float, terminal_price: float) -> pd.DataFrame:
    """A row per scenario, summed in float64; the names are those of `jaxp2p.report.kpis`."""
    x = Series(*(np.asarray(values, float) for values in series))
    paid = x.cost_eur.sum(1) - terminal_price * (x.stored_kwh[:, -1] - start_kwh)
    unserved, violation = x.unserved_cost_eur.sum(1), x.violation_cost_eur.sum(1)
    outside = ac_violated(x.ac_voltage_violation_pu, x.ac_loading_violation) | (x.ac_unsolved > 0)
    return pd.DataFrame(
        {
            "cost_eur": paid,
            "unserved_cost_eur": unserved,
            "violation_cost_eur": violation,
            "total_cost_eur": paid + unserved + violation,
            "import_kwh": hours * x.import_kw.sum(1),
            "export_kwh": hours * x.export_kw.sum(1),
            "p2p_kwh": hours * x.trade_kw.sum(1),
            "peak_import_kw": np.max(x.import_kw - x.export_kw, axis=1),
            "peak_export_kw": np.max(x.export_kw - x.import_kw, axis=1),
            "unserved_kwh": hours * x.unserved_kw.sum(1),
            "spilled_kwh": hours * x.spilled_kw.sum(1),
            "stored_end_kwh": x.stored_kwh[:, -1],
            "voltage_violation_pu": x.voltage_violation_pu.max(1),
            "line_violation_kw": x.line_violation_kw.max(1),
            "ac_voltage_violation_pu": x.ac_voltage_violation_pu.max(1),
            "ac_loading_violation_pct": 100 * x.ac_loading_violation.max(1),
            "ac_slots_violated": outside.sum(1).astype(float),
            "ac_slots_unsolved": x.ac_unsolved.sum(1),
            "ac_losses_kwh": hours * x.ac_losses_kw.sum(1),
            "rounds_max": x.rounds.max(1).astype(float),
            "soc_violation_kwh": np.maximum(x.soc_violation_kwh.max(1), 0),
            "balance_error_kw": x.balance_error_kw.max(1),
            "gap_eur": x.gap_eur.sum(1),
            "unsolved_slots": np.isin(x.status, UNSOLVED).sum(1).astype(float),
            **{
                f"slots_{status.name.lower()}": (x.status == status).sum(1).astype(float)
                for status in UNSOLVED
            },
            "insecure_slots": (x.status == Status.NOT_SECURE).sum(1).astype(float),
            "violated_slots": (x.status == Status.NETWORK_VIOLATED).sum(1).astype(float),
            "iterations_total": x.iterations.sum(1),
        }
    )


def _savings(kpis: pd.DataFrame) -> pd.DataFrame:
    """With the saving against no storage and no trade in the same scenario; NaN where that was not run."""
    reference = kpis[kpis["policy"] == REFERENCE].set_index("scenario")["total_cost_eur"]
    saving = kpis["scenario"].map(reference) - kpis["total_cost_eur"]
    return kpis.assign(saving_eur=saving)


def _traces(series: Series, chosen: np.ndarray, name: str) -> pd.DataFrame:
    count, slots = np.asarray(series.cost_eur).shape
    flat = lambda values: np.asarray(values, np.float32).reshape(-1)
    return pd.DataFrame(
        {
            "scenario": np.repeat(chosen, slots),
            "policy": name,
            "slot": np.tile(np.arange(slots), count),
            "import_kw": flat(series.import_kw) - flat(series.export_kw),
            "stored_kwh": flat(series.stored_kwh),
            "price_eur_per_kwh": flat(series.price_eur_per_kwh),
        }
    )


def _foresee(study: Study, number: int) -> tuple[Series, float]:
    """Series (T,) of perfect foresight in one scenario, and its stored energy at the start, kWh.

    Outages of batteries are not known to it: what it finds is then a bound that nobody need reach.
    """
    community, horizon, _ = materialise(
        study.model, study.community, study.horizon, scenario_key(study.key, number), study.slots
    )
    found = perfect_foresight(
        community,
        horizon,
        terminal_price=study.terminal_price,
        row_penalty=float(study.penalties.row),
        unserved_price=float(study.penalties.unserved),
    )
    whole, past = on_host(community), on_host(horizon)
    vehicles, plugs = whole.prosumers.vehicles, past.plugs
    slots = Circumstances(
        hours=past.slot_hours,
        price_buy=past.price_buy,
        price_sell=past.price_sell,
        base=past.grid_base,
        flow=power_flow_of(
            whole,
            past.grid_base,
            *(np.asarray(x, float) for x in (found.trajectory.injection, found.trajectory.pv_used)),
        ),
        plugged=None if vehicles is None or plugs is None else vehicles.plugged(plugs),
        unserved_price=float(study.penalties.unserved),
        row_price=float(study.penalties.row),
        linear=True,
        reach=whole.reach(np.asarray(past.pv, float)),
    )
    short, spilled = unserved_power(found.trajectory)
    nothing: Any = np.zeros(study.slots)
    solved: Any = np.full(study.slots, int(Status.SOLVED))
    # its unserved with a sign in any case; it has no slots of its own that could be unsolved
    known = {"status": solved, "gap": nothing, "iterations": nothing, "rounds": nothing}
    done = found.trajectory._replace(unserved=short - spilled, **known)
    return summarise(whole, slots, done), float(whole.prosumers.battery.energy_start.sum())
