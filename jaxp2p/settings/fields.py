"""How a setting is declared: its default and all there is to say of it, in the field of a dataclass."""

import dataclasses
import difflib
from collections.abc import Iterable
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


def words_of(group: type) -> dict[str, str]:
    """What every setting of a dataclass is called in a message, by name."""
    return {name: about.words or name for name, (_, about) in settings_of(group).items()}


def out_of_range(chosen: Any) -> list[str]:
    """A sentence for every setting of a dataclass that is below or above what it can be, or no choice."""
    faults = []
    for name, (_, about) in settings_of(type(chosen)).items():
        value = getattr(chosen, name)
        if about.choices and value not in about.choices:
            faults.append(f"{name} is {value!r}: choose from {', '.join(about.choices)}")
        if about.least is not None and not value >= about.least:
            faults.append(f"{name} is {value:g}: it must be at least {about.least:g}")
        if about.most is not None and not value <= about.most:
            faults.append(f"{name} is {value:g}: it must be at most {about.most:g}")
    return faults


def pick(group: type, chosen: Any) -> dict[str, Any]:
    """The values that `chosen` has for the fields of `group`."""
    names = (field.name for field in dataclasses.fields(group))
    return {name: getattr(chosen, name) for name in names if hasattr(chosen, name)}


def one_of(value: str, known: Iterable[str], *, option: str) -> str:
    """The value if it is known, else a UsageError that suggests the nearest."""
    names = list(known)
    if value in names:
        return value
    near = difflib.get_close_matches(value, names, n=1)
    hint = f'; did you mean "{near[0]}"?' if near else ""
    raise UsageError(f"{option}: unknown value {value!r}{hint} (there are {', '.join(names)})")
