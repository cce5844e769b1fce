"""jaxp2p: real-time peer-to-peer energy trading, online, within its grid, vectorised in JAX.

    import jaxp2p as jp

    case = jp.build(jp.load_case("rural3"), days=1, market="pool")
    day = jp.run(case)
    print(day.kpis())

The names below are imported when they are first used: `import jaxp2p` itself does no work.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "ADMM": "slot.admm.method",
    "Battery": "model.types",
    "BillingRun": "library.bills",
    "Case": "library.case",
    "Config": "library.config",
    "Community": "model.types",
    "Decision": "control.policy",
    "FairnessResult": "library.fairness",
    "Horizon": "model.types",
    "HostingResult": "library.hosting",
    "InputError": "data",
    "Limits": "control.policy",
    "Market": "model.types",
    "ModesResult": "library.modes",
    "Network": "model.types",
    "Newton": "slot.newton.method",
    "OwnPolicy": "control.policy",
    "POLICIES": "control.catalogue",
    "Policy": "control.policy",
    "Prosumers": "model.types",
    "Result": "library.run",
    "ScenarioModel": "scenarios.model",
    "ShareResult": "library.sharing",
    "SlotProblem": "slot.problem",
    "Status": "slot.status",
    "Tables": "data",
    "Trajectory": "model.trajectory",
    "Tuned": "library.tuning",
    "TunedValue": "control.tuned",
    "best_lower_bound": "hindsight.lower_bound",
    "bill": "library.bills",
    "build": "library.case",
    "build_community": "model.build",
    "build_horizon": "model.build",
    "certificate": "control.certificate",
    "choose_solver": "slot.solvers",
    "clear": "library.run",
    "clear_pool": "slot.clearing",
    "diagnose": "slot.diagnosis",
    "evaluate": "report.kpis",
    "explain": "library.explain",
    "fairness_of": "library.fairness",
    "hosting": "library.hosting",
    "html_report": "library.html",
    "load": "library.run",
    "load_case": "data",
    "load_controller": "library.tuning",
    "load_results": "report.results",
    "lyapunov": "library.case",
    "lyapunov_parameters": "control.bounds",
    "make_policies": "runs.runner",
    "materialise": "scenarios.model",
    "modes": "library.modes",
    "mpc": "planning.predictive",
    "parse_model": "scenarios.parse",
    "perfect_foresight": "hindsight.perfect_foresight",
    "read_config": "library.config",
    "read_controller": "tuning.controller_file",
    "read_tables": "data",
    "record": "_pytree",
    "run": "library.run",
    "scenario_key": "scenarios.model",
    "set_xla_flags": "_xla_flags",
    "share": "library.sharing",
    "simulate": "library.simulation",
    "solve": "slot.solvers",
    "solve_fixed": "slot.admm.solver",
    "static": "_pytree",
    "study": "library.study",
    "to_qp": "slot.qp",
    "tune": "library.tuning",
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
