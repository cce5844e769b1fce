"""All policies of a case side by side, and one slot alone: `run` and `clear`, and what they give back."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import pandas as pd

from jaxp2p.control.catalogue import MPC_POLICIES
from jaxp2p.control.policy import AnyPolicy
from jaxp2p.control.tuned import TunedValue
from jaxp2p.library.case import Case
from jaxp2p.model.trajectory import MOST_TRADES, Trajectory
from jaxp2p.report.frames import (
    home_table,
    kpi_table,
    limit_table,
    member_table,
    price_table,
    slot_table,
    stay_table,
    trade_table,
)
from jaxp2p.report.html import LIMIT_MB
from jaxp2p.report.kpis import Evaluation, evaluate
from jaxp2p.report.layout import bus_coordinates
from jaxp2p.report.minutes import LOAD_SPREAD, PV_SPREAD, minute_table
from jaxp2p.report.results import Results, gathered, json_report, load_results, save_results
from jaxp2p.runs import runner
from jaxp2p.slot import solvers
from jaxp2p.slot.execute import SlotResult
from jaxp2p.slot.problem import SlotProblem
from jaxp2p.slot.solvers import Solver

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

POWERS = ("injection", "load", "pv_used", "charge", "discharge", "trade", "trade_volume", "buy", "sell")
# name in a trajectory -> unit, all of shape (T, N)
MEMBER_SERIES = dict.fromkeys((*POWERS, "unserved"), "kW") | {
    "energy": "kWh",
    "cost": "EUR",
    "payment": "EUR",
    "market_price": "EUR/kWh",
    "nodal_price": "EUR/kWh",
}
FURTHER_SERIES = {  # those that every policy of a run has
    "loss_price": "EUR/kWh",
    "charge_below": "EUR/kWh",
    "discharge_above": "EUR/kWh",
    "fee": "EUR",
}
VEHICLE_SERIES = {  # (T, K, N), where there are electric vehicles
    "vehicle_charge": "kW",
    "vehicle_discharge": "kW",
    "vehicle_energy": "kWh",
}
SLOT_SERIES = {"gap": "EUR", "violation": "kW", "iterations": "1", "status": "1"}  # (T,)


def run(
    case: Case,
    *,
    policies: Sequence[str | Mapping[str, AnyPolicy]] | None = None,
    solver: str | Solver = "auto",
    controller: TunedValue | None = None,
    end_value: float | None = None,
    unserved_price: float | None = None,
    foresight: str = "auto",
    lower_bound: bool = True,
    progress: runner.Progress | None = None,
) -> "Result":
    """Run policies over the slots of a case; perfect foresight and the lower bound see the whole horizon.

    policies: names (by default all that there are), and anybody's own as {name: policy}, in the order in
    which they are reported. solver:
    "auto", "newton", "admm" or a configuration. controller: a tuned one runs as "tuned". end_value in EUR/kWh
    of energy stored at the end, unserved_price in EUR/kWh on top of the tariffs; both by default from the
    tariffs. foresight "auto" leaves perfect foresight out where it would take far longer than all else, "on"
    insists. progress(name, done, total) hears how far it is. Raises ValueError as `runs.runner.run`.
    """
    needs_history = any(isinstance(p, str) and p in MPC_POLICIES for p in policies or ())
    made = runner.run(
        case.community,
        case.horizon,
        policies=policies,
        solver=solvers.choose_solver(case.community, solver) if isinstance(solver, str) else solver,
        terminal_price=end_value,
        unserved_price=unserved_price,
        slot_of_week=case.slot_of_week,
        progress=progress,
        lower_bound=lower_bound,
        history=case.history if needs_history else None,
        controller=controller,
        foresight_mode=foresight,
    )
    return Result(case=case, run=made)


def clear(problem: SlotProblem, *, solver: Solver | None = None) -> SlotResult:
    """Clear one slot: its dispatch, prices, status, and by how much it may be off (`gap`).

    Limits of the grid are those of the linear network: a slot knows its rows, and no power flow.
    solver: by default Newton where one price decides, else ADMM.
    """
    if solver is None:
        limits = problem.unserved_price is not None
        solver = solvers.suiting(problem.market, connection_limits=limits)
    return _clear(problem, solver)


@jax.jit
def _clear(problem: SlotProblem, solver: Solver) -> SlotResult:
    return solvers.executed(problem, solvers.solve(problem, solver, solvers.init(problem, solver)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """A finished run of a case: tables, pictures, files."""

    case: Case
    run: runner.Run
    config: str | None = None  # text of the settings that it was made by, where they came from a file

    @cached_property
    def evaluations(self) -> dict[str, Evaluation]:
        """The figures of every policy, what every member pays, and the state of the grid behind them."""
        return evaluate(self.case.community, self.case.horizon, self.run)

    @property
    def policies(self) -> tuple[str, ...]:
        """Names in the order of the run."""
        return tuple(self.run.trajectories)

    @property
    def certificate(self) -> str:
        """What is proved of the controller, in words."""
        return self.run.certificate

    def kpis(self) -> pd.DataFrame:
        """One row per policy, indexed by its name: all figures, units in the names of the columns."""
        return kpi_table(self.evaluations).set_index("policy")

    def slots(self, policy: str) -> pd.DataFrame:
        """One row per slot: powers and energies of the community, prices, grid, solver."""
        case, trajectory = self.case, self.trajectory(policy)
        evaluation = self.evaluations[policy]
        return slot_table(case.community, case.horizon, trajectory, evaluation, case.time, self.run.row_names)

    def members(self) -> pd.DataFrame:
        """One row per member: bus, devices, and by policy the bill and what was left undone."""
        return member_table(self.case.community, self.evaluations)

    def by_minutes(
        self, *, seed: int = 0, load_spread: float = LOAD_SPREAD, pv_spread: float = PV_SPREAD
    ) -> pd.DataFrame:
        """Cost and capture of every policy where meters are read every minute; `report.minutes` says how."""
        case = self.case
        return minute_table(
            case.community,
            case.horizon,
            self.run.trajectories,
            self.evaluations,
            seed=seed,
            load_spread=load_spread,
            pv_spread=pv_spread,
        )

    def trades(self, policy: str) -> pd.DataFrame:
        """One row per slot and trade: seller, buyer, kW, price. ValueError where single ones are not kept."""
        trajectory = self.trajectory(policy)
        if trajectory.trades is None:
            raise ValueError(f"trades one by one are kept up to {MOST_TRADES:,} a slot")
        return trade_table(self.case.community, trajectory, self.case.time)

    def prices(self, policy: str) -> pd.DataFrame:
        """One row per slot and member: its local price by parts; energy, fee, losses, voltage, branch."""
        trajectory = self.trajectory(policy)
        if trajectory.trades is None:
            raise ValueError(f"trades one by one are kept up to {MOST_TRADES:,} a slot")
        return price_table(self.case.community, trajectory, self.case.time)

    def limits(self, policy: str) -> pd.DataFrame:
        """One row per slot and limit of the grid that had a price; none without a network in the market."""
        trajectory = self.trajectory(policy)
        if trajectory.row_price is None:
            raise ValueError(f"{policy} has no prices of limits: the market had no network")
        return limit_table(self.case.community, trajectory, self.case.time)

    def stays(self, policy: str) -> pd.DataFrame:
        """One row per stay of an electric vehicle: times, energies, what was missing at departure, and why.

        Raises ValueError for a community without vehicles.
        """
        stays = self.evaluations[self._known(policy)].stays
        if stays is None:
            raise ValueError(f"nobody in {self.case.name} has an electric vehicle")
        return stay_table(self.case.community, stays, self.case.time)

    def homes(self, policy: str) -> pd.DataFrame:
        """One row per slot and member (large)."""
        case, grid = self.case, self.evaluations[policy].grid
        return home_table(case.community, case.horizon, self.trajectory(policy), grid, case.time)

    def report(self) -> dict[str, Any]:
        """The short, stable summary that `jaxp2p run --json` writes."""
        case = self.case
        return json_report(case.community, case.horizon, self.run, self.evaluations, case=case.name)

    def to_xarray(self) -> "xarray.Dataset":
        """Series of every policy, slot and member with their units; needs `pip install "jaxp2p[xarray]"`.

        `to_netcdf` of what is returned writes it into a file. Those of vehicles have a dimension more, the
        seats of a member.
        """
        try:
            import xarray
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError('to_xarray needs xarray: pip install "jaxp2p[xarray]"') from error
        import numpy as np

        trajectories = self.run.trajectories.values()
        stack = lambda name: np.stack([getattr(t, name) for t in trajectories])
        known = lambda name: all(getattr(t, name) is not None for t in trajectories)
        dims: tuple[str, ...] = ("policy", "time", "member")
        series = {name: (dims, stack(name), {"units": unit}) for name, unit in MEMBER_SERIES.items()}
        series |= {name: (dims[:2], stack(name), {"units": unit}) for name, unit in SLOT_SERIES.items()}
        more = {name: unit for name, unit in FURTHER_SERIES.items() if known(name)}
        series |= {name: (dims, stack(name), {"units": unit}) for name, unit in more.items()}
        if known("row_price"):
            limits = stack("row_price"), {"units": "EUR/kWh"}
            series["row_price"] = (("policy", "time", "limit"), *limits)
        if self.case.community.prosumers.vehicles is not None:
            seats = (*dims[:2], "seat", dims[2])
            series |= {name: (seats, stack(name), {"units": unit}) for name, unit in VEHICLE_SERIES.items()}
        where = {
            "policy": list(self.policies),
            "time": self.case.time.to_numpy(),
            "member": list(self.case.members),
        }
        if "row_price" in series:
            where["limit"] = list(self.run.row_names)
        return xarray.Dataset(series, coords=where, attrs={"case": self.case.name})

    def to_pandapower(self, net: Any, policy: str, at: str | pd.Timestamp) -> list[str]:
        """Fill res_bus, res_line and res_trafo of the net that the case is from, with the AC flow at a time.

        Returns what stays empty, in words: what import joined or left out. Raises ValueError for a time or a
        policy that is not in the run, and for another net.
        """
        from jaxp2p.model.network import on_host
        from jaxp2p.report.pandapower import write_back
        from jaxp2p.simulation.flows import power_flow_of

        case, trajectory = self.case, self.trajectory(policy)
        times = pd.DatetimeIndex(case.time)
        number = int(times.searchsorted(pd.Timestamp(at), side="right")) - 1
        step = pd.Timedelta(hours=float(case.horizon.slot_hours))
        if number < 0 or pd.Timestamp(at) >= times[number] + step:
            raise ValueError(f"{at} is not in the run: {times[0]} to {times[-1] + step}")
        slot = case.horizon.slice(number, number + 1)
        one = on_host((trajectory.injection[number : number + 1], trajectory.pv_used[number : number + 1]))
        flows = power_flow_of(on_host(case.community), on_host(slot.grid_base), *one)
        flow = flows._replace(**{name: x[0] for name, x in flows._asdict().items() if x is not None})
        return write_back(net, case.community.network, flow, case.name)

    def to_html(self, file: str | os.PathLike[str], *, limit_mb: float = LIMIT_MB) -> Path:
        """Write the run as one HTML file to look at: pictures, the feeder over time, members, tables.

        It opens without a network. Arguments as of `jaxp2p.html_report`, which takes several runs.
        """
        from jaxp2p.library.html import html_report

        return html_report(file, self, limit_mb=limit_mb)

    def results(self) -> Results:
        """What `save` writes, in memory: the summary, and the tables with a row per slot and member."""
        case, options = self.case, {"case": self.case.name, "homes": True, **self._where}
        return gathered(case.community, case.horizon, self.run, self.evaluations, **options)

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        homes: bool = False,
        format: str = "parquet",
        replace: bool = False,
    ) -> Path:
        """Write tables and summary into a folder that is complete or not there; `load` reads it.

        homes True adds a row per slot and member, bus and branch. Other results in the folder raise
        FileExistsError unless `replace`.
        """
        case = self.case
        return save_results(
            path,
            case.community,
            case.horizon,
            self.run,
            self.evaluations,
            case=case.name,
            homes=homes,
            format=format,
            replace=replace,
            config=self.config,
            **self._where,
        )

    @property
    def _where(self) -> dict[str, Any]:
        """Times and places of the tables."""
        case = self.case
        zone, places = case.tables.meta.get("time_zone"), bus_coordinates(case.tables, case.community)
        return {"time": case.time, "time_zone": zone, "coordinates": places}

    def plot(self, picture: str = "cumulative_cost") -> "Figure":
        """One of the pictures that `jaxp2p run` draws, as a Matplotlib figure.

        Raises ValueError for a name that is not among them, and for one that this run has no data for.
        """
        from jaxp2p.report.pictures import PICTURES

        if picture not in PICTURES:
            raise ValueError(f"unknown picture {picture!r}: choose from {', '.join(PICTURES)}")
        figure = PICTURES[picture](self._picture_data())
        if figure is None:
            raise ValueError(f"this run has nothing to show in {picture!r}")
        return figure

    def _picture_data(self) -> Any:
        from jaxp2p.report.canvas import picture_data

        case = self.case
        return picture_data(case.tables, case.community, case.horizon, self.run, self.evaluations, case.name)

    def _known(self, policy: str) -> str:
        if policy not in self.run.trajectories:
            raise ValueError(f"unknown policy {policy!r}: this run has {', '.join(self.policies)}")
        return policy

    def trajectory(self, policy: str) -> Trajectory:
        """What every member did in every slot: arrays (T, N) and (T,)."""
        return self.run.trajectories[self._known(policy)]

    def summary(self, *, width: int = 100) -> str:
        """What `jaxp2p run` prints: the tables, what is remarkable, what is proved, what the columns mean."""
        from jaxp2p.report.tables import legend, notes, text_tables

        kpis = {name: evaluation.kpis for name, evaluation in self.evaluations.items()}
        parts = [text_tables(kpis, width=width), "\n".join(notes(self.run, kpis)), self.certificate]
        return "\n\n".join(part for part in [*parts, legend(kpis)] if part)

    def __str__(self) -> str:
        return f"{self.case!r}\n\n{self.summary()}"


def results_of(run: Result | Results | str | os.PathLike[str]) -> Results:
    """Summary and tables, whatever a run is given as: in memory with homes, or as a folder has them."""
    if isinstance(run, Results):
        return run
    return run.results() if isinstance(run, Result) else load_results(run)


def load(path: str | os.PathLike[str]) -> Results:
    """Read what `Result.save` or `jaxp2p run` wrote: the summary, and the tables as they were."""
    return load_results(path)
