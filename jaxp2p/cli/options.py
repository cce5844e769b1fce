"""From dataclasses of settings to the options of a command, and from what was given back to the dataclasses.

A command is a function of such dataclasses. A setting that two of them share is one option, described by the
later one, and both get its value.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from inspect import Parameter, Signature
from typing import Annotated, Any, get_type_hints

import typer

from jaxp2p.cli.console import exit_codes, guarded
from jaxp2p.settings.fields import REQUIRED, About, one_of, settings_of

Layout = Iterable[Any]  # dataclasses, names of settings and ...


@dataclasses.dataclass(frozen=True)
class Option:
    """A setting as the command line has it."""

    name: str
    kind: Any
    default: Any
    about: About

    @property
    def spelling(self) -> tuple[str, ...]:
        """What is typed: the field's name with dashes; a flag that is on by default can be denied."""
        dashed = self.name.replace("_", "-")
        usual = f"--{dashed}/--no-{dashed}" if self.default is True else f"--{dashed}"
        return self.about.spelling or (usual,)

    def parameter(self) -> Parameter:
        """The parameter that Typer makes an option or an argument of."""
        about = self.about
        how: dict[str, Any] = {
            "help": about.help + (f"  [default: {about.otherwise}]" if about.otherwise else ""),
            "metavar": about.unit,
            "min": about.least,
            "max": about.most,
        }
        info = typer.Argument(**how) if about.position else typer.Option(*self.spelling, **how)
        return Parameter(
            self.name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if self.default is REQUIRED else None if about.repeated else self.default,
            annotation=Annotated[list[str] | None if about.repeated else self.kind, info],
        )

    def value(self, given: Any) -> Any:
        """What the dataclass gets; raises UsageError for a value that is none of the choices."""
        if self.about.repeated:
            return tuple(given or ()) if self.about.position else ",".join(given or ())
        if self.about.choices and given is not None:
            one_of(given, self.about.choices, option=self.spelling[0])
        return given


def options_of(groups: Iterable[type], *, layout: Layout = (), without: Iterable[str] = ()) -> list[Option]:
    """The options of some dataclasses, in the order of `layout`, but those `without`.

    A layout has dataclasses and, where one is torn apart, names of settings; ... stands for all that it does
    not name, which otherwise come last.
    """
    found: dict[str, Option] = {}
    for group in groups:
        kinds = get_type_hints(group)
        found |= {name: Option(name, kinds[name], *row) for name, row in settings_of(group).items()}
    chosen = [name for name in found if name not in without]
    parts = [_names(part) for part in layout]
    unknown = [part for part in (*layout, *without) if isinstance(part, str) and part not in found]
    if unknown:
        raise ValueError(f"no setting of this command is called {', '.join(unknown)}")
    named = [name for part in parts for name in part]
    if ... not in named:
        parts.append([...])
    rest = [name for name in chosen if name not in named]
    order = [name for part in parts for name in (rest if part == [...] else part)]
    return [found[name] for name in dict.fromkeys(order) if name in chosen]


def _names(part: Any) -> list[Any]:
    return list(settings_of(part)) if isinstance(part, type) else [part]


def command(
    app: typer.Typer,
    *,
    exits: Iterable[int],
    name: str | None = None,
    short: str | None = None,
    layout: Layout = (),
    without: Iterable[str] = (),
) -> Callable[[Callable[..., int | None]], Callable[..., None]]:
    """Make a function of dataclasses a command of `app`; it returns an exit code, one of `exits`, or None."""

    def decorate(function: Callable[..., int | None]) -> Callable[..., None]:
        groups = {key: kind for key, kind in get_type_hints(function).items() if key != "return"}
        options = options_of(groups.values(), layout=layout, without=without)

        @wraps(function)
        def run(**given: Any) -> None:
            values = {option.name: option.value(given[option.name]) for option in options}
            code = function(**{key: _filled(group, values) for key, group in groups.items()})
            raise typer.Exit(code or 0)

        shown: Any = guarded(run)
        shown.__signature__ = Signature([option.parameter() for option in options])
        return app.command(name, short_help=short, epilog=exit_codes(*exits))(shown)

    return decorate


def _filled(group: type, values: Mapping[str, Any]) -> Any:
    own = (field.name for field in dataclasses.fields(group))
    return group(**{name: values[name] for name in own if name in values})
