"""How a setting is declared: its default and all there is to say of it, in the field of a dataclass."""

import dataclasses
import difflib
from collections.abc import Callable, Iterable
from inspect import get_annotations
from typing import Any

REQUIRED = dataclasses.MISSING


class UsageError(ValueError):
    """Something the user can put right; the text is all that is shown."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class About:
    """What is known of a setting besides its name, type and default."""

    help: str
    unit: str | None = None  # unit, or what else stands for the value in a help text
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    otherwise: str | None = None  # what None amounts to, in words
    spelling: tuple[str, ...] = ()  # of the option, where it is not the field's name
    repeated: bool = False  # may be given again; the field has commas between, of arguments it is a tuple
    words: str | None = None  # what it is called in a message, where the name does not do
    position: bool = False  # an argument without a name
    table: str | None = None  # of a configuration file, where it is not that of the dataclass
    listed: bool = False  # a text of names with commas between
    files: bool = False  # a path, also where the type does not say so
    form: Callable[[str], Any] | None = None  # reads a text, ValueError where it cannot


def setting(default: Any, help: str, **about: Any) -> Any:
    """A field that a user can set; `about` has the fields of `About`. REQUIRED: there is no default."""
    return dataclasses.field(default=default, metadata={"about": About(help=help, **about)})


def argument(default: Any, help: str, unit: str, **about: Any) -> Any:
    """A setting that is given by its place."""
    return setting(default, help, unit=unit, position=True, **about)


def again(group: type, name: str, **changes: Any) -> Any:
    """The setting `name` of another dataclass, with another default or another thing to say."""
    (found,) = (field for field in dataclasses.fields(group) if field.name == name)
    default = changes.pop("default", found.default)
    about = dataclasses.replace(found.metadata["about"], **changes)
    return dataclasses.field(default=default, metadata={"about": about})


def settings_of(group: type) -> dict[str, tuple[Any, About]]:
    """Default and description of every setting of a dataclass, by name; other fields are no settings."""
    found = {field.name: field for field in dataclasses.fields(group) if "about" in field.metadata}
    return {name: (field.default, field.metadata["about"]) for name, field in found.items()}


def table_of(group: type, name: str) -> str:
    """The table of a configuration file that a setting stands in.

    Where the setting does not say it, that of the dataclass that had the setting first (its TABLE).
    """
    about: About = next(f.metadata["about"] for f in dataclasses.fields(group) if f.name == name)
    owners = (kind for kind in reversed(group.__mro__) if name in get_annotations(kind))
    table = about.table or next((kind.__dict__.get("TABLE") for kind in owners), None)
    if table is None:
        raise TypeError(f"{group.__name__}.{name} stands in no table of a configuration file")
    return table


def words_of(group: type) -> dict[str, str]:
    """What every setting of a dataclass is called in a message, by name."""
    return {name: about.words or name for name, (_, about) in settings_of(group).items()}


def out_of_range(chosen: Any) -> list[str]:
    """A sentence for every setting of a dataclass that is below or above what it can be, or no choice."""
    settings = settings_of(type(chosen))
    return [
        text for name, (_, about) in settings.items() for text in limits(name, getattr(chosen, name), about)
    ]


def limits(name: str, value: Any, about: About) -> list[str]:
    """A sentence where a value is below or above what it can be, or no choice."""
    if about.choices and value not in about.choices:
        text = f"{name} is {value!r}: choose from {', '.join(about.choices)}"
        return [text + nearest(value, about.choices)]
    if about.form is not None and value is not None:
        try:
            about.form(value)
        except ValueError as error:
            return [f"{name}: {error}"]
    if about.least is not None and not value >= about.least:
        return [f"{name} is {value:g}: it must be at least {about.least:g}"]
    if about.most is not None and not value <= about.most:
        return [f"{name} is {value:g}: it must be at most {about.most:g}"]
    return []


def pick(group: type, chosen: Any) -> dict[str, Any]:
    """The values that `chosen` has for the fields of `group`."""
    names = (field.name for field in dataclasses.fields(group))
    return {name: getattr(chosen, name) for name in names if hasattr(chosen, name)}


def one_of(value: str, known: Iterable[str], *, option: str) -> str:
    """The value if it is known, else a UsageError that suggests the nearest."""
    names = list(known)
    if value in names:
        return value
    near = nearest(value, names)
    raise UsageError(f"{option}: unknown value {value!r}{near} (there are {', '.join(names)})")


def nearest(value: Any, known: Iterable[str]) -> str:
    """A question after the name that was probably meant, to be put behind a sentence; or nothing."""
    name = closest(value, known)
    return "" if name is None else f'; did you mean "{name}"?'


def closest(value: Any, known: Iterable[str]) -> str | None:
    """The known name that is most like this one, if any is."""
    return next(iter(difflib.get_close_matches(str(value), list(known), n=1)), None)
