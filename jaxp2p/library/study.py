"""Policies of a case on many possible futures."""

from collections.abc import Callable, Mapping, Sequence

from jaxp2p.control.policy import AnyPolicy
from jaxp2p.control.tuned import TunedValue
from jaxp2p.library.case import Case
from jaxp2p.scenarios.model import ScenarioModel
from jaxp2p.scenarios.parse import parse_model
from jaxp2p.slot import solvers
from jaxp2p.slot.solvers import Solver
from jaxp2p.studies.run import StudyResult, make_study, run_study


def study(
    case: Case,
    *,
    scenarios: int,
    model: str | ScenarioModel = "bootstrap * noise",
    days: float | None = None,
    policies: Sequence[str | Mapping[str, AnyPolicy]] | None = None,
    seed: int = 0,
    solver: str | Solver = "auto",
    controller: TunedValue | None = None,
    end_value: float | None = None,
    unserved_price: float | None = None,
    foresight: int = 8,
    chunk: int = 512,
    progress: Callable[[int, int], None] | None = None,
) -> StudyResult:
    """Run policies on `scenarios` draws of `model` from the days of a case, in this process and in memory.

    model: a text such as "bootstrap(block_days=2) * noise(load=0.2)" (`jaxp2p study --help` lists the
    effects) or a model. days: how long a scenario is, by default as long as the case. policies, solver,
    controller, end_value, unserved_price: as in `run`. foresight: scenarios that perfect foresight is solved
    for. Scenario s is the same whatever the chunk and the number of scenarios. progress(done, total) hears of
    finished scenarios. Studies that survive an interruption, on many machines: `jaxp2p study`.
    Raises ValueError for policies, models and lengths that cannot be.
    """
    if scenarios < 1:
        raise ValueError(f"a study has at least one scenario, not {scenarios}")
    if isinstance(model, str):
        model = parse_model(model, horizon=case.horizon, community=case.community)
    slots = None if days is None else round(24 * days / float(case.horizon.slot_hours))
    made = make_study(
        case.community,
        case.horizon,
        model=model,
        policies=policies,
        slots=slots,
        seed=seed,
        solver=solvers.choose_solver(case.community, solver) if isinstance(solver, str) else solver,
        first_slot_of_week=case.slot_of_week,
        terminal_price=end_value,
        unserved_price=unserved_price,
        foresight_sample=min(foresight, scenarios),
        controller=controller,
    )
    return run_study(made, scenarios, chunk=chunk, told=progress)
