"""Everything that decides the numbers of a study, so that a later run knows whether it may continue it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd

from jaxp2p.control.catalogue import OPTIMUM
from jaxp2p.data import Tables
from jaxp2p.settings.fields import words_of
from jaxp2p.settings.source import Source
from jaxp2p.settings.study import Scenarios
from jaxp2p.studies.errors import StudyError


@dataclass(frozen=True, kw_only=True)
class StudySettings(Scenarios):
    """Settings of a study: two studies with equal settings have equal tables.

    Scenarios are numbered from 0 and run in chunks of `chunk`: chunk k holds the scenarios k * chunk up to
    (k + 1) * chunk, the last one what is left. Perfect foresight, where it is among the policies, is solved
    for the first `foresight_sample` scenarios; they are independent draws, so the first are as good as any.

    Raises ValueError for numbers out of range and repeated policies.
    """

    source: Mapping[str, Any]  # the fields of a `Source`; its days are those that scenarios are made from
    policies: tuple[str, ...]
    chunk: int  # scenarios per chunk
    foresight_sample: int  # scenarios
    device: str  # kind: sums are rounded differently on different devices
    version: str  # of jaxp2p
    fingerprint: str  # of the input tables
    controller: str | None  # sha256 of the tuned controller, None without one

    def __post_init__(self) -> None:
        if self.scenarios < 1 or self.chunk < 1:
            raise ValueError("a study has at least one scenario, and a chunk too")
        if self.seed < 0:
            raise ValueError("the seed of a study is not negative")
        if not 0 <= self.foresight_sample <= self.scenarios:
            raise ValueError(
                f"perfect foresight cannot be had for {self.foresight_sample} of {self.scenarios} scenarios"
            )
        if not self.policies or len(set(self.policies)) < len(self.policies):
            raise ValueError("a study names at least one policy, and each only once")

    def __hash__(self) -> int:
        values = [getattr(self, field.name) for field in fields(self) if field.name != "source"]
        return hash((tuple(sorted(self.source.items())), *values))

    @property
    def chunks(self) -> int:
        """Number of chunks, the last one may be smaller."""
        return -(-self.scenarios // self.chunk)

    def span(self, number: int) -> tuple[int, int]:
        """First scenario of a chunk, and how many it has."""
        first = number * self.chunk
        return first, min(self.chunk, self.scenarios - first)

    def count(self, policy: str) -> int:
        """Scenarios that a policy is run on; they are the first ones."""
        return self.foresight_sample if policy == OPTIMUM else self.scenarios

    def rows(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Scenario and policy of every row that a chunk's table has, in order: by scenario, then policy."""
        first, count = self.span(number)
        scenarios = np.repeat(np.arange(first, first + count), len(self.policies))
        policies = np.tile(np.array(self.policies, dtype=object), count)
        run = scenarios < np.tile([self.count(policy) for policy in self.policies], count)
        return scenarios[run], policies[run]

    @property
    def identity(self) -> str:
        """sha256 over all settings but the number of scenarios: marks the files of one study."""
        content = {name: value for name, value in asdict(self).items() if name != "scenarios"}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Plain values that `from_json` reads back."""
        return asdict(self) | {"source": dict(self.source), "policies": list(self.policies)}

    def in_words(self) -> list[tuple[str, str]]:
        """Every setting as messages and reports have it: what it is called, its value."""
        return [(WORDS.get(name, name), _shown(name, value) or "none") for name, value in _flat(self).items()]

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "StudySettings":
        """Settings from plain values.

        Raises:
            StudyError: a field is missing, unknown or out of range.
        """
        known = {field.name for field in fields(cls)}
        missing, unknown = sorted(known - set(content)), sorted(set(content) - known)
        if missing or unknown:
            parts = [f"lacks {', '.join(missing)}"] if missing else []
            parts += [f"has the unknown {', '.join(unknown)}"] if unknown else []
            raise StudyError(
                f"these settings of a study {' and '.join(parts)}: written by another version of jaxp2p"
            )
        try:
            return cls(**{**content, "policies": tuple(content["policies"])})
        except (TypeError, ValueError) as error:
            raise StudyError(f"these settings of a study cannot be used: {error}") from None


# what a field is called in messages; "source." marks the parts of the source
WORDS = (
    {f"source.{name}": words for name, words in words_of(Source).items()}
    | words_of(StudySettings)
    | {
        "policies": "policies",
        "chunk": "scenarios per chunk",
        "foresight_sample": "scenarios with perfect foresight",
        "device": "device",
        "version": "version of jaxp2p",
        "fingerprint": "contents of the input tables",
        "controller": "contents of the controller",
    }
)


def difference(a: StudySettings, b: StudySettings) -> list[str]:
    """Every field in which the settings differ, in words: what it is, its value in a, its value in b."""
    one, two = _flat(a), _flat(b)
    lines = []
    for name in dict.fromkeys([*one, *two]):
        before, now = one.get(name), two.get(name)
        if before != now:
            lines.append(f"{WORDS.get(name, name)}: {_shown(name, before)}, now {_shown(name, now)}")
    return lines


def continues(old: StudySettings, new: StudySettings) -> list[str]:
    """Why `new` cannot continue a study with the settings `old`: empty if it can.

    More scenarios can: finished chunks keep their numbers. Anything else must be equal.
    """
    if new.scenarios > old.scenarios:
        old = replace(old, scenarios=new.scenarios)
    return difference(old, new)


def fingerprint(tables: Tables) -> str:
    """sha256 over names, columns, types and values of the tables; their description does not count."""
    digest = hashlib.sha256()

    def add(data: bytes) -> None:
        digest.update(len(data).to_bytes(8, "little"))  # so that two neighbours cannot be confused
        digest.update(data)

    for name, frame in tables.frames().items():
        add(name.encode())
        for column, values in frame.items():
            add(str(column).encode())
            add(_content(values))
    return digest.hexdigest()


def _content(values: pd.Series) -> bytes:
    if isinstance(values.dtype, np.dtype) and values.dtype.kind in "biufM":
        kind = "<M8[ns]" if values.dtype.kind == "M" else "<f8"
        return kind.encode() + np.ascontiguousarray(values.to_numpy(kind)).tobytes()
    return json.dumps([None if pd.isna(value) else str(value) for value in values]).encode()


def _flat(settings: StudySettings) -> dict[str, Any]:
    content = settings.to_json()
    source = content.pop("source")
    return {f"source.{name}": value for name, value in source.items()} | content


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "not set"
    if name in ("fingerprint", "controller"):
        return f"{value[:12]}..."
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
