"""Settings of a command as the user names them: on the command line and in a configuration file."""

import dataclasses
from collections.abc import Iterable
from typing import Any, get_type_hints

from jaxp2p.settings.fields import About, UsageError, one_of, settings_of, table_of

Layout = Iterable[Any]  # dataclasses, names of settings and ...


@dataclasses.dataclass(frozen=True)
class Option:
    """A setting as a command has it."""

    name: str
    kind: Any
    default: Any
    about: About
    group: type  # that describes it

    @property
    def spelling(self) -> tuple[str, ...]:
        """What is typed: the field's name with dashes; a flag that is on by default can be denied."""
        dashed = self.name.replace("_", "-")
        usual = f"--{dashed}/--no-{dashed}" if self.default is True else f"--{dashed}"
        return self.about.spelling or (usual,)

    @property
    def key(self) -> str:
        """The name in a configuration file: what is typed, without dashes in front."""
        return self.name if self.about.position else keyed(self.spelling[0].split("/")[0])

    @property
    def table(self) -> str:
        """The table of a configuration file that it stands in."""
        return table_of(self.group, self.name)

    def value(self, given: Any) -> Any:
        """What the dataclass gets; raises UsageError for a value that is none of the choices."""
        if self.about.repeated:
            return tuple(given or ()) if self.about.position else ",".join(given or ())
        if self.about.choices and given is not None:
            one_of(given, self.about.choices, option=self.spelling[0])
        if self.about.form is not None and given is not None:
            try:
                self.about.form(given)
            except ValueError as error:
                raise UsageError(f"{self.spelling[0]}: {error}") from None
        return given


def keyed(spelling: str) -> str:
    """The key of a configuration file for what is typed: no dashes in front, _ for those inside."""
    return spelling.removeprefix("--").replace("-", "_")


def options_of(groups: Iterable[type], *, layout: Layout = (), without: Iterable[str] = ()) -> list[Option]:
    """The options of some dataclasses, in the order of `layout`, but those `without`.

    A layout has dataclasses and, where one is torn apart, names of settings; ... stands for all that it does
    not name, which otherwise come last. A setting that two dataclasses share is described by the later one.
    """
    found: dict[str, Option] = {}
    for group in groups:
        kinds = get_type_hints(group)
        found |= {name: Option(name, kinds[name], *row, group) for name, row in settings_of(group).items()}
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


def filled(group: type, values: dict[str, Any]) -> Any:
    """A dataclass with those of the values that it has."""
    own = (field.name for field in dataclasses.fields(group))
    return group(**{name: values[name] for name in own if name in values})
