"""From dataclasses of settings to the options of a command, and from what was given back to the dataclasses.

A command is a function of such dataclasses. A setting that two of them share is one option, described by the
later one, and both get its value. Of what was given the command line wins over a configuration file.
"""

from collections.abc import Callable, Iterable
from functools import wraps
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from jaxp2p._xla_flags import QUICK, set_flags
from jaxp2p.cli.configuring import with_file
from jaxp2p.cli.console import exit_codes, guarded
from jaxp2p.cli.programs import keep_programs
from jaxp2p.settings.commands import Configurable
from jaxp2p.settings.fields import REQUIRED
from jaxp2p.settings.options import Layout, Option, filled, options_of
from jaxp2p.settings.span import WINDOW, merged

__all__ = ["command", "options_of"]

CONTEXT = "context"  # a parameter that is no option: Typer's, to tell what was given from defaults


def parameter(option: Option, *, configured: bool = False) -> Parameter:
    """The parameter that Typer makes an option or an argument of."""
    about = option.about
    text = about.help + (f"  [default: {about.otherwise}]" if about.otherwise else "")
    metavar = about.unit
    if about.position and configured:
        text += " Or a file of settings (`jaxp2p init`), which options win over."
        metavar = f"{str(metavar).removesuffix(']')}|FILE.toml]"
    how: dict[str, Any] = {"help": text, "metavar": metavar, "min": about.least, "max": about.most}
    info = typer.Argument(**how) if about.position else typer.Option(*option.spelling, **how)
    default = option.default
    return Parameter(
        option.name,
        Parameter.KEYWORD_ONLY,
        default=Parameter.empty if default is REQUIRED else None if about.repeated else default,
        annotation=Annotated[list[str] | None if about.repeated else option.kind, info],
    )


def command(
    app: typer.Typer,
    *,
    exits: Iterable[int],
    name: str | None = None,
    short: str | None = None,
    layout: Layout = (),
    without: Iterable[str] = (),
    configured: Configurable | None = None,
) -> Callable[[Callable[..., int | None]], Callable[..., None]]:
    """Make a function of dataclasses a command of `app`; it returns an exit code, one of `exits`, or None.

    configured: it may have a configuration file in place of its source; layout and rest are told there.
    """

    def decorate(function: Callable[..., int | None]) -> Callable[..., None]:
        groups = {key: kind for key, kind in get_type_hints(function).items() if key != "return"}
        if configured is None:
            options = options_of(groups.values(), layout=layout, without=without)
        else:
            options = configured.settings()

        @wraps(function)
        def run(**given: Any) -> None:
            asked = _asked(given.pop(CONTEXT), options)
            read = {option.name: option.value(given[option.name]) for option in options}
            typed = {name: read[name] for name in asked}
            if configured is not None and str(read["name"]).endswith(".toml"):
                typed.pop("name")
                values = with_file(configured, Path(read["name"]), typed)
            else:
                lengths = WINDOW if configured is None else configured.lengths
                values = merged(read, typed, lengths=lengths)
            if "cache" in values:  # before anything imports JAX
                keep_programs(keep=values["cache"])
                set_flags(QUICK)
            code = function(**{key: filled(group, values) for key, group in groups.items()})
            raise typer.Exit(code or 0)

        shown: Any = guarded(run)
        context = Parameter(CONTEXT, Parameter.KEYWORD_ONLY, annotation=typer.Context)
        parameters = [parameter(option, configured=configured is not None) for option in options]
        shown.__signature__ = Signature([context, *parameters])
        return app.command(name, short_help=short, epilog=exit_codes(*exits))(shown)

    return decorate


def _asked(context: typer.Context, options: list[Option]) -> set[str]:
    """Names of the settings that were given on the command line."""
    sources = {option.name: context.get_parameter_source(option.name) for option in options}
    return {name for name, source in sources.items() if source is not None and source.name != "DEFAULT"}
