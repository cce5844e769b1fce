"""A span of days, given by any two of its start, its length and its end."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from jaxp2p.settings.fields import UsageError

UNITS = {"w": 7 * 1440, "d": 1440, "h": 60, "min": 1}  # minutes
Lengths = tuple[tuple[str, ...], ...]  # settings of which one will do, the number of days first
WINDOW: Lengths = (("days", "until", "duration"),)
SLACK = timedelta(seconds=1)  # lengths may be rounded quotients of a day

_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(weeks?|w|days?|d|hours?|h|minutes?|min)\b\s*")
_SHORT = {"w": "w", "d": "d", "h": "h", "m": "min"}


def days_of(duration: str) -> float:
    """Days in a duration such as 36h, 2d, 1d 12h or 90 min.

    Raises UsageError.
    """
    text, minutes, end = duration.strip().lower(), 0.0, 0
    while part := _PART.match(text, end):
        minutes += float(part[1]) * UNITS[_SHORT[part[2][0]]]
        end = part.end()
    if not text or end < len(text) or minutes <= 0:
        raise UsageError(f"{duration!r} is not a duration such as 36h, 2d, 1d 12h or 90 min")
    return minutes / 1440


def lasting(days: float | None, duration: str | None) -> float | None:
    """Days of a span by its number of days or its duration; None by neither. Raises as `agreed`."""
    return days if duration is None else agreed(days, duration)


def agreed(days: float | None, duration: str) -> float:
    """Days in a duration; raises UsageError where a number of days says something else."""
    found = days_of(duration)
    if days is not None and abs(timedelta(days=days - found)) > SLACK:
        raise UsageError(f"days = {days:g} and duration = {duration!r} contradict each other")
    return found


def between(start: datetime, until: datetime, days: float | None) -> float:
    """Days from start to until; raises UsageError where they are none, or not as many as days says."""
    length = until - start
    if length <= timedelta(0):
        raise UsageError(f"the end, {until}, is not after the start, {start}")
    if days is not None and abs(length - timedelta(days=days)) > SLACK:
        raise UsageError(
            f"from {start} to {until} there are {length / timedelta(days=1):g} days, not {days:g}"
        )
    return length / timedelta(days=1)


def merged(
    defaults: Mapping[str, Any], *given: Mapping[str, Any], lengths: Lengths = WINDOW
) -> dict[str, Any]:
    """Settings by what was given, the later over the earlier.

    Of the ways to give a length those of one place take the place of those of an earlier one, and where only
    other ways are given the number of days is None and no default.
    """
    found: dict[str, Any] = {}
    for values in given:
        for ways in lengths:
            if not set(ways).isdisjoint(values):
                found = {name: value for name, value in found.items() if name not in ways}
        found |= values
    unsaid = {ways[0]: None for ways in lengths if not set(ways[1:]).isdisjoint(found)}
    return {**defaults, **unsaid, **found}
