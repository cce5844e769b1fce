"""Pages that the package writes about itself at every build: commands, columns, figures, names, Python.

Each is a text of Markdown by its file name below `docs/generated`, which is not kept under version control.
"""

import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner

import jaxp2p
from jaxp2p.cli import app as command_line
from jaxp2p.cli.console import EXIT_CODES
from jaxp2p.control.catalogue import ALWAYS, BY_NAME, CATALOGUE, WITH_A_CONTROLLER, WITH_A_VEHICLE
from jaxp2p.control.ways import WAYS
from jaxp2p.data.schema import METERS, PURPOSE, SCHEMA, Column
from jaxp2p.report.kpi_catalogue import FIGURES
from jaxp2p.scenarios.catalogue import EFFECTS
from jaxp2p.settings.commands import COMMANDS
from jaxp2p.settings.toml import fresh_file
from jaxp2p.settlement.rules import RULES
from jaxp2p.sharing.catalogue import CATALOGUE as KEYS
from jaxp2p.slot.status import Status

WIDTH = 100  # of help texts
THEMES = {
    "Cases: tables to a community": """load_case read_tables write_tables window Tables InputError build Case
        build_community build_horizon""",
    "Settings in a file": "read_config Config",
    "Runs": """run Result explain html_report load simulate clear evaluate load_results certificate
        perfect_foresight best_lower_bound verify""",
    "Policies": "POLICIES OwnPolicy Decision Limits Policy lyapunov lyapunov_parameters make_policies mpc",
    "Tuning": "tune Tuned TunedValue load_controller read_controller write_controller",
    "Studies": "study parse_model ScenarioModel materialise scenario_key set_xla_flags",
    "Grid": "hosting HostingResult modes ModesResult",
    "Money": "bill BillingRun share ShareResult fairness_of FairnessResult",
    "The community as arrays": "Community Prosumers Battery Market Network Horizon Trajectory record static",
    "One slot": "SlotProblem solve solve_fixed choose_solver clear_pool ADMM Newton Status diagnose to_qp",
}
"""Every public name, by what it is for."""


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of Markdown."""
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def command_page() -> str:
    """What `--help` says, of the program and of every command."""
    group = typer.main.get_command(command_line)
    ask = partial(CliRunner().invoke, command_line, prog_name="jaxp2p", terminal_width=WIDTH)
    said = lambda *names: ask([*names, "--help"]).output.strip()
    parts = ["# Command line", "What `--help` prints, written anew with every build of these pages."]
    parts += ["## jaxp2p", f"```text\n{said()}\n```"]
    for name in group.commands:
        parts += [f"## jaxp2p {name}", f"```text\n{said(name)}\n```"]
    codes = [(f"`{code}`", " ".join(words.split())) for code, words in EXIT_CODES.items()]
    return "\n\n".join([*parts, "## Exit codes", table(("code", "when"), codes)])


def configuration_page() -> str:
    """The files that `jaxp2p init` writes."""
    parts = [
        "# Configuration files",
        "What `jaxp2p init FILE.toml` writes, with every setting, its unit, its limits and its default; "
        "`--for COMMAND` says whose settings. How to use one is in the "
        "[cookbook](../cookbook/repeat.md).",
    ]
    for command in COMMANDS.values():
        name = f"{command.name}.schema.json"
        parts += [
            f"## jaxp2p {command.name}",
            f"```toml\n{fresh_file(command, schema=f'./{name}').strip()}\n```",
        ]
    return "\n\n".join(parts)


def _columns(columns: Iterable[Column]) -> str:
    rows = []
    for column in columns:
        default = column.default_text or ("" if column.default is None else f"{column.default:g}")
        rows.append(
            (
                f"`{column.name}`",
                column.unit,
                column.range_text,
                "**required**" if column.required else default,
                column.meaning,
            )
        )
    return table(("column", "unit", "range", "default", "meaning"), rows)


def column_page() -> str:
    """Tables of input, column by column."""
    parts = [
        "# Tables and columns",
        "A case is a folder with one CSV or Parquet file per table. Meter data for sharing keys are tables "
        "of their own. `jaxp2p check --columns` prints the same.",
    ]
    for title, tables in (("Tables of a case", SCHEMA), ("Meter data and shares", METERS)):
        parts.append(f"## {title}")
        for name, columns in tables.items():
            parts += [f"### {name}", f"{_upper(PURPOSE[name])}.", _columns(columns)]
    return "\n\n".join(parts)


def figure_page() -> str:
    """Key figures with unit and formula."""
    parts = [
        "# Key figures",
        "One row per policy in the table `kpis` of results and in `Result.kpis()`. Sums are over slots and "
        "members, dt is the slot length in h, b and s are the buy and sell price, v_T is the worth of energy "
        "stored at the end, f_i is what a member's slot costs without payments among peers "
        "([slot](../concepts/slot.md)). Positive money is cost. Figures of the grid are of all buses and "
        "branches, whether or not the market keeps their limits.",
    ]
    for group in dict.fromkeys(figure.group for figure in FIGURES):
        rows = [
            (f"`{f.name}`", f.unit or "-", f.formula, f.empty or "-") for f in FIGURES if f.group == group
        ]
        parts += [f"## {_upper(group)}", table(("figure", "unit", "formula", "empty"), rows)]
    return "\n\n".join(parts)


def name_page() -> str:
    """Policies, ways, rules, keys, effects and statuses: what can stand where a name is asked for."""
    there = {
        ALWAYS: "always",
        WITH_A_VEHICLE: "where somebody has a vehicle",
        BY_NAME: "by name only",
        WITH_A_CONTROLLER: "with `--controller`",
    }
    effects = [
        (f"`{effect}`", f"`{name}`", f"{p.default}", p.unit, p.range, p.meaning)
        for effect, entry in EFFECTS.items()
        for name, p in entry.parameters.items()
    ]
    return "\n\n".join(
        [
            "# Names",
            "## Policies",
            table(
                ("name", "what it does", "when"),
                ((f"`{e.name}`", e.words, there[e.there]) for e in CATALOGUE),
            ),
            "## Ways of operating, of `jaxp2p hosting`",
            table(("name", "what it is"), ((f"`{way.name}`", way.words) for way in WAYS)),
            "## Prices among peers, of `jaxp2p bill`",
            table(("rule", "what it is"), ((f"`{rule.name}`", rule.words) for rule in RULES.values())),
            "## Sharing keys, of `jaxp2p share`",
            "Presets are arithmetic only: no promise that they conform to a law. Sources: as read in 2026.",
            table(("key", "what it does", "needs", "source"), (_key(entry) for entry in KEYS)),
            "## Effects of scenarios, of `jaxp2p study`",
            table(("effect", "parameter", "default", "unit", "range", "meaning"), effects),
            "## Statuses of a slot",
            table(("status", "meaning"), ((f"`{status.name}`", status.message) for status in Status)),
        ]
    )


def _key(entry: Any) -> tuple[str, ...]:
    return f"`{entry.name}`", entry.words, entry.needs or "-", entry.source or "-"


def python_page() -> str:
    """Every public name; ValueError where the themes name others than there are."""
    named = [name for names in THEMES.values() for name in names.split()]
    odd = set(named) ^ set(jaxp2p.__all__[1:])
    if odd or len(named) != len(set(named)):
        raise ValueError(f"THEMES of docs/_ext/generated.py: missing, unknown or twice: {sorted(odd)}")
    parts = [
        "# Python",
        "All of `import jaxp2p as jp`, from the docstrings. N is members, T slots, B buses, L branches, K "
        "trade slots or seats for vehicles per member. Powers are in kW, energies in kWh, voltages in p.u., "
        "money in EUR, prices in EUR/kWh.",
    ]
    for theme, names in THEMES.items():
        parts.append(f"## {theme}")
        for name in names.split():
            thing = getattr(jaxp2p, name)
            if isinstance(thing, tuple):
                words = ", ".join(f"`{value}`" for value in thing)
                parts.append(f"```{{py:data}} jaxp2p.{name}\n\n{words}\n```")
                continue
            kind = "autoclass" if isinstance(thing, type) else "autofunction"
            members = "\n   :members:" if kind == "autoclass" else ""
            parts.append(f"```{{eval-rst}}\n.. {kind}:: jaxp2p.{name}{members}\n```")
    return "\n\n".join(parts)


PAGES = {
    "command_line": command_page,
    "configuration": configuration_page,
    "columns": column_page,
    "figures": figure_page,
    "names": name_page,
    "python": python_page,
}


def write(app: Any) -> None:
    """Write every page that has changed."""
    folder = Path(app.srcdir) / "generated"
    folder.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        path, text = folder / f"{name}.md", re.sub(r"[ \t]+$", "", page(), flags=re.M) + "\n"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def setup(app: Any) -> dict[str, bool]:
    """Before Sphinx looks for the pages that there are."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
