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
    "ADMM": "admm.solver",
    "Battery": "community.types",
    "Community": "community.types",
    "Horizon": "community.types",
    "InputError": "data",
    "Market": "community.types",
    "Newton": "newton.solver",
    "Network": "community.types",
    "POLICIES": "runner",
    "Prosumers": "community.types",
    "ScenarioModel": "scenarios.model",
    "SlotProblem": "slot.problem",
    "Status": "slot.status",
    "Tables": "data",
    "Trajectory": "trajectory",
    "best_lower_bound": "lyapunov.lower_bound",
    "build_community": "community.build",
    "build_horizon": "community.build",
    "certificate": "lyapunov.certificate",
    "choose_solver": "solvers",
    "clear_pool": "slot.clearing",
    "diagnose": "diagnose",
    "evaluate": "kpis",
    "load_case": "data",
    "load_results": "results",
    "lyapunov_parameters": "lyapunov.bounds",
    "make_policies": "runner",
    "materialise": "scenarios.model",
    "mpc": "predictive",
    "parse_model": "scenarios.parse",
    "perfect_foresight": "baselines.perfect_foresight",
    "read_controller": "tuning.controller_file",
    "read_tables": "data",
    "run": "runner",
    "scenario_key": "scenarios.model",
    "simulate": "simulation",
    "solve": "solvers",
    "solve_fixed": "admm.solver",
    "to_qp": "slot.qp",
    "tune": "tuning.train",
    "verify": "verification",
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
