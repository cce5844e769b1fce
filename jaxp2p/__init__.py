"""jaxp2p: real-time peer-to-peer energy trading, online, within its grid, vectorised in JAX.

    from jaxp2p import build_community, build_horizon, load_case, run, window

    tables = window(load_case("rural3"), days=1)
    community = build_community(tables, market="pool")
    result = run(community, build_horizon(community, tables))

The names below are imported when they are first used: `import jaxp2p` itself does no work.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "ADMM": "slot.admm.solver",
    "Battery": "model.types",
    "Community": "model.types",
    "Horizon": "model.types",
    "InputError": "data",
    "Market": "model.types",
    "Newton": "slot.newton.solver",
    "Network": "model.types",
    "POLICIES": "runs.runner",
    "Prosumers": "model.types",
    "ScenarioModel": "scenarios.model",
    "SlotProblem": "slot.problem",
    "Status": "slot.status",
    "Tables": "data",
    "Trajectory": "model.trajectory",
    "best_lower_bound": "hindsight.lower_bound",
    "build_community": "model.build",
    "build_horizon": "model.build",
    "certificate": "control.certificate",
    "choose_solver": "slot.solvers",
    "clear_pool": "slot.clearing",
    "diagnose": "slot.diagnosis",
    "evaluate": "report.kpis",
    "load_case": "data",
    "load_results": "report.results",
    "lyapunov_parameters": "control.bounds",
    "make_policies": "runs.runner",
    "materialise": "scenarios.model",
    "mpc": "planning.predictive",
    "parse_model": "scenarios.parse",
    "perfect_foresight": "hindsight.perfect_foresight",
    "read_controller": "tuning.controller_file",
    "read_tables": "data",
    "run": "runs.runner",
    "scenario_key": "scenarios.model",
    "simulate": "simulation.forward",
    "solve": "slot.solvers",
    "solve_fixed": "slot.admm.solver",
    "to_qp": "slot.qp",
    "tune": "tuning.train",
    "verify": "runs.verification",
    "window": "data",
    "write_controller": "tuning.controller_file",
    "write_tables": "data",
}

__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
